#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operation costs the server, beside nginx + git http-backend: bench/http-cost.py [--refs N] [--rounds N]

Both servers hold the same repositories on loopback; what counts is the CPU time (user + system) of all processes
of a server per operation, because a stock git client takes longer than a good server and hides it in wall time.
Fetch-side operations use a lean client that keeps its connection; pushes use stock git. Rounds alternate between the
two servers, and the medians and their ratio are printed.

Needs nginx and fcgiwrap (apt-get install nginx-light fcgiwrap) for the comparison; without them only Gitstead is
measured. GITSTEAD_PROGRAM and GITSTEAD_TEST_PLUGIN_PATH name the build (default: build/).
"""
import argparse
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(SOURCE, "tests/integration"))
from gitstead_test import Server, free_ports  # noqa: E402

class Account:
    """CPU time of a process and all its descendants, living or dead, from a control group of its own."""

    def __init__(self, pids):
        for base, usage, scale in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage", 1e-9), ("/sys/fs/cgroup", "cpu.stat", 1e-6)):
            self.folder = os.path.join(base, "gitstead-bench-%d" % pids[0])
            self.usage, self.scale = os.path.join(self.folder, usage), scale
            try:
                os.mkdir(self.folder)
                if os.path.exists(self.usage):
                    break
                os.rmdir(self.folder)
            except OSError:
                pass
        else:
            sys.exit("needs control groups (v1 cpuacct or v2) and the right to make one")
        for pid in pids:
            with open(os.path.join(self.folder, "cgroup.procs"), "w") as procs:
                procs.write(str(pid))

    def seconds(self):
        with open(self.usage) as usage:
            return int(usage.read().split()[1 if self.usage.endswith("cpu.stat") else 0]) * self.scale

    def close(self):
        """After the processes ended."""
        os.rmdir(self.folder)


def git(*args, **options):
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0",
               GIT_AUTHOR_NAME="b", GIT_AUTHOR_EMAIL="b@example.com", GIT_COMMITTER_NAME="b",
               GIT_COMMITTER_EMAIL="b@example.com")
    return subprocess.run(("git",) + args, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          **options).stdout.decode().strip()


class Peer:
    """nginx + fcgiwrap + git http-backend over plain bare repositories."""

    name = "nginx + http-backend"

    def __init__(self, folder):
        self.folder = folder
        self.root = os.path.join(folder, "peer")
        os.mkdir(self.root)
        self.port = free_ports(1)[0]
        socket = os.path.join(folder, "fcgi")
        config = os.path.join(folder, "nginx.conf")
        with open(config, "w") as out:
            out.write("""daemon off; master_process on; worker_processes 2; pid %(f)s/nginx.pid; error_log %(f)s/nginx.log;
user root;
events { worker_connections 512; }
http { access_log off; client_max_body_size 0; keepalive_requests 1000000;
  client_body_temp_path %(f)s/b; proxy_temp_path %(f)s/p; fastcgi_temp_path %(f)s/t; uwsgi_temp_path %(f)s/u;
  scgi_temp_path %(f)s/s;
  server { listen 127.0.0.1:%(port)d;
    location / { fastcgi_pass unix:%(socket)s; fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT %(root)s; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param PATH_INFO $uri; fastcgi_param QUERY_STRING $query_string; fastcgi_param REMOTE_USER bench;
      fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding; } } }
""" % {"f": folder, "port": self.port, "socket": socket, "root": self.root})
        self.wrap = subprocess.Popen(["fcgiwrap", "-c", "2", "-s", "unix:" + socket], stdin=subprocess.DEVNULL,
                                     start_new_session=True, env=dict(os.environ, GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="safe.directory",
                                              GIT_CONFIG_VALUE_0="*"))
        self.nginx = subprocess.Popen(["nginx", "-c", config, "-p", folder], stdin=subprocess.DEVNULL,
                                      start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/")
                connection.getresponse().read()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                self.nginx_wait()
        self.account = Account(family(self.wrap.pid) + family(self.nginx.pid))

    def nginx_wait(self):
        try:
            self.nginx.wait(0.05)
        except subprocess.TimeoutExpired:
            pass

    def add(self, name, source):
        target = os.path.join(self.root, name)
        git("clone", "-q", "--bare", source, target)
        git("-C", target, "config", "http.receivepack", "true")
        git("-C", target, "pack-refs", "--all")

    def stop(self):
        for process in (self.nginx, self.wrap):
            os.killpg(process.pid, signal.SIGTERM)  # their workers too
            process.wait()
        self.account.close()


class Ours:
    name = "gitstead"

    def __init__(self):
        self.server = Server(access={"anonymous": "write"})
        self.server.start()
        self.port = self.server.http_port
        self.account = Account([self.server.process.pid])

    def add(self, name, source):
        self.server.create(name)
        git("-C", source, "push", "-q", "--mirror", "%s/%s" % (self.server.url, name))

    def stop(self):
        self.server.clean()
        self.account.close()


def family(pid):
    """The process and those whose parent it is."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(entry))
            except FileNotFoundError:
                pass
    return found


def pkt(text):
    return b"%04x" % (len(text) + 4) + text


class Lean:
    """A client that keeps its connection and does no more than it must."""

    def __init__(self, port, repository):
        self.path = "/" + repository
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {"Git-Protocol": "version=2"}

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, self.path + path, body, dict(self.headers, **(headers or {})))
        reply = self.connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise RuntimeError("%s: %d %s" % (path, reply.status, data[:200]))
        return data

    def post(self, body):
        return self.ask("POST", "/git-upload-pack", body, {"Content-Type": "application/x-git-upload-pack-request"})

    def ls_remote(self):
        self.ask("GET", "/info/refs?service=git-upload-pack")
        return self.post(pkt(b"command=ls-refs\n") + b"0001" + pkt(b"peel\n") + pkt(b"symrefs\n") + b"0000")

    def advertise_v0(self):
        return self.ask("GET", "/info/refs?service=git-upload-pack", headers={"Git-Protocol": "version=0"})

    def fetch_all(self, tip):
        self.ask("GET", "/info/refs?service=git-upload-pack")
        return self.post(pkt(b"command=fetch\n") + b"0001" + pkt(b"ofs-delta\n") + pkt(b"want %s\n" % tip.encode())
                         + pkt(b"done\n") + b"0000")


def make_source(folder, n_refs):
    source = os.path.join(folder, "source-%d" % n_refs)
    subprocess.run([os.path.join(SOURCE, "scripts/make-history"), source, "--commits", "200"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    commits = git("-C", source, "rev-list", "--all").split()
    lines = "".join("create refs/tags/many/%06d %s\n" % (i, commits[i % len(commits)]) for i in range(n_refs))
    git("-C", source, "update-ref", "--stdin", input=lines.encode())
    git("-C", source, "pack-refs", "--all")
    return source


def push_once(port, work, repository):
    git("-C", work, "commit", "-q", "--allow-empty", "-m", "more")
    git("-C", work, "push", "-q", "http://127.0.0.1:%d/%s" % (port, repository), "HEAD:refs/heads/bench")


def measure(servers, what, count, make):
    """Alternates the servers; returns milliseconds of CPU per operation for each, by server name."""
    results = {server.name: [] for server in servers}
    operations = [(server, make(server)) for server in servers]
    for server, operation in operations:
        operation()
    for _ in range(ROUNDS):
        for server, operation in operations:
            before = server.account.seconds()
            for _ in range(count):
                operation()
            results[server.name].append((server.account.seconds() - before) / count * 1000)
    medians = {name: statistics.median(values) for name, values in results.items()}
    line = "%-34s" % what + "".join("%22.3f" % medians[server.name] for server in servers)
    if len(servers) == 2:
        line += "%12.1f" % (medians[servers[1].name] / max(medians[servers[0].name], 0.001))
    print(line, flush=True)


def main():
    global ROUNDS
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--refs", type=int, default=10000, help="refs of the large repository (default 10000)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ROUNDS = options.rounds
    folder = tempfile.mkdtemp(prefix="gitstead-bench-")
    servers = [Ours()]
    try:
        if shutil.which("nginx") and shutil.which("fcgiwrap"):
            servers.append(Peer(folder))
        small, large = make_source(folder, 0), make_source(folder, options.refs)
        for server in servers:
            server.add("small.git", small)
            server.add("large.git", large)
        tip = git("-C", small, "rev-parse", "HEAD")
        print("server CPU per operation, ms (median of %d rounds)" % ROUNDS)
        print("%-34s" % "" + "".join("%22s" % server.name for server in servers) + "       ratio" * (len(servers) == 2))
        for repository, label in (("small.git", "small"), ("large.git", "%d refs" % options.refs)):
            measure(servers, "ls-remote v2, " + label, 100, lambda s: Lean(s.port, repository).ls_remote)
            measure(servers, "advertisement v0, " + label, 100, lambda s: Lean(s.port, repository).advertise_v0)
        measure(servers, "clone, small", 20,
                lambda s: (lambda lean: lambda: lean.fetch_all(tip))(Lean(s.port, "small.git")))
        for repository, source, label in (("small.git", small, "small"), ("large.git", large, "%d refs" % options.refs)):
            def pusher(server, repository=repository, source=source):
                work = tempfile.mkdtemp(dir=folder)
                git("clone", "-q", "--no-tags", "--single-branch", source, work)
                return lambda: push_once(server.port, work, repository)
            measure(servers, "push one commit, " + label, 10, pusher)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder)


main()
