# SPDX-License-Identifier: Apache-2.0
"""Reloading: what changed is taken while calls go on; a bad file is refused; nothing under way is harmed.

GITSTEAD_TEST_RELOAD_SECONDS says for how long the test of reloads under load goes on (5 by default).
"""
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest

import gitstead_test
from gitstead_test import (FLUSH, Git, ServerTestCase, ZERO, clean_environment, eventually, free_ports, make_history,
                           pack_of, push_report, push_request, run_program, yaml)

SECONDS = float(os.environ.get("GITSTEAD_TEST_RELOAD_SECONDS", "5"))


class ReloadTestCase(ServerTestCase):
    """Has the configuration as Python objects: change them, then `reload`."""

    def setUp(self):
        self.config = self.read()
        self.addCleanup(self.restore, json.loads(json.dumps(self.config)))

    def read(self):
        """What the server was started with, as write_config made it."""
        written = {}

        def keep(value, indent=0):
            if indent == 0:
                written["config"] = value
            return yaml(value, indent)
        before, gitstead_test.yaml = gitstead_test.yaml, keep
        try:
            self.server.write_config()
        finally:
            gitstead_test.yaml = before
        return written["config"]

    def restore(self, config):
        self.config = config
        self.write()
        if self.server.process is not None:
            self.server.cli("reload")

    def write(self, text=None):
        temporary = self.server.config + ".new"
        with open(temporary, "w") as out:
            out.write(text if text is not None else yaml(self.config) + "\n")
        os.rename(temporary, self.server.config)

    def reload(self, check=True):
        """Writes the configuration, reloads, and gives {what: (kind, detail)}."""
        self.write()
        result = self.server.cli("reload", "--json", check=check)
        if result.returncode != 0:
            return result
        reply = json.loads(result.stdout)
        return {change["what"]: (change["kind"].replace("CONFIG_", ""), change["detail"]) for change in reply["changes"]}

    def ping(self):
        self.assertEqual(self.server.http("GET", "/healthz").status, 200)
        self.server.call("Server/Info")


class Reload(ReloadTestCase):
    def test_nothing_changed(self):
        self.assertEqual(self.reload(), {})
        self.assertIn("nothing changed", self.server.cli("reload").stdout)

    def test_bad_file_is_refused_with_all_its_mistakes(self):
        text = yaml(self.config) + "\n"
        bad = text.replace('min_copies', 'mincopies').replace('"workers"', '"wrkers"') + "acess: {plugin: token}\nserver2: 1\n"
        self.write(bad)
        checked = run_program("check", "--config", self.server.config)
        self.assertEqual(checked.returncode, 1)
        problems = [line for line in checked.stderr.splitlines() if re.match(r".*gitstead\.yaml:\d+:\d+: ", line)]
        self.assertGreaterEqual(len(problems), 2, checked.stderr)
        result = self.server.cli("reload", check=False)
        self.assertEqual(result.returncode, 1)
        for problem in problems:
            self.assertIn(problem, result.stderr)
        self.assertMentions(result.stderr, "goes on as it was")
        self.ping()
        # by SIGHUP, the log says it
        before = self.server.log_text().count("server.reload.refused")
        self.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.server.log_text().count("server.reload.refused") > before, 60, "the refusal in the log")
        self.ping()
        self.write()
        self.assertEqual(self.reload(), {})

    def test_what_cannot_be_started_is_refused(self):
        """An address that somebody else has: nothing else of the file is taken either."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.config["transports"].append({"name": "more", "plugin": "http",
                                              "listen": ["http://127.0.0.1:%d" % taken.getsockname()[1]]})
            self.config["access"]["anonymous"] = "read"
            result = self.reload(check=False)
            self.assertEqual(result.returncode, 1)
            self.assertMentions(result.stderr, "transport more", "address already in use")
        self.assertEqual(self.server.http("GET", "/api/v1/Server/Info").status // 100, 4)
        self.ping()
        info = self.server.call("Server/Info")
        self.assertNotIn("more", [one["name"] for one in info["instances"]])

    def test_access(self):
        url = self.server.create("access")
        nobody = Git(None)
        self.assertNotEqual(nobody.run("ls-remote", url).returncode, 0)
        self.config["access"]["anonymous"] = "read"
        self.assertEqual(self.reload(), {"access default": ("REPLACED", 'anonymous: "none" -> "read"')})
        nobody("ls-remote", url)
        self.config["access"]["anonymous"] = "none"
        self.reload()
        self.assertNotEqual(nobody.run("ls-remote", url).returncode, 0)
        self.git("ls-remote", url)

    def test_cache_and_routing(self):
        url = self.server.create("caches")
        folder = os.path.join(self.server.folder, "another-cache")
        for cache in ({"plugin": "memory", "size": "1MiB"}, {"plugin": "disk", "path": folder, "size": "1MiB"},
                      {"plugin": "none"}):
            self.config["cache"] = cache
            changes = self.reload()
            self.assertEqual(changes["cache default"][0], "REPLACED", changes)
            self.git("ls-remote", url)
        # its folder is locked: the same one takes what can be taken
        self.config["cache"] = {"plugin": "disk", "path": folder, "size": "2MiB"}
        self.assertEqual(self.reload()["cache default"], ("REPLACED", "plugin: none -> disk"))
        self.config["cache"]["size"] = "1MiB"
        self.assertEqual(self.reload(), {"cache default": ("ADJUSTED", "size: 2MiB -> 1MiB")})
        self.git("ls-remote", url)
        before = self.config["virtual_storages"][0]["routing"]["plugin"]
        after = "weighted" if before != "weighted" else "rendezvous"
        self.config["virtual_storages"][0]["routing"] = {"plugin": after}
        self.assertEqual(self.reload(), {"routing default": ("REPLACED", "plugin: %s -> %s" % (before, after))})
        self.git("ls-remote", url)
        self.assertIn(after, [one["plugin"] for one in self.server.call("Server/Info")["instances"]])

    def test_server_options(self):
        self.config["server"].update({"max_message": "64KiB", "workers": 7})
        self.write()
        said = self.server.cli("reload")
        self.assertMentions(said.stdout, "max_message: 1MiB -> 64KiB", "workers: 16 -> 7", "needs a restart")
        self.assertMentions(said.stderr, "restart")
        big = json.dumps({"echo": "A" * 100000})
        answer = self.server.http("POST", "/api/v1/Server/Ping", body=big, headers={"Content-Type": "application/json"})
        self.assertEqual(answer.status, 400 if answer.status == 400 else 413, answer.body)
        self.assertIn(b"65536", answer.body)
        # What waits for a restart is told again, and is gone when it is taken back.
        self.assertEqual(self.reload(), {"server": ("NEEDS_RESTART", "workers: 16 -> 7")})
        del self.config["server"]["workers"]
        self.assertEqual(self.reload(), {})

    def test_log_level(self):
        self.config["server"]["log_level"] = "debug"
        self.assertEqual(self.reload(), {"server": ("ADJUSTED", 'log_level: "info" -> "debug"')})
        marker = "no-such-repository-%d" % time.monotonic_ns()
        self.server.cli("repo", "show", marker, check=False)
        eventually(lambda: marker in self.server.log_text(), 60, "a record of level debug")

    def test_storages_come_and_go(self):
        url = self.server.create("stays")
        folder = os.path.join(self.server.folder, "second")
        os.mkdir(folder)
        second = dict(self.config["storages"][0], name="second", path=folder)
        self.config["storages"].append(second)
        self.config["virtual_storages"].append({"name": "other", "storages": ["second"], "routing": {"plugin": "rendezvous"},
                                                "consistency": {"plugin": "direct"}})
        changes = self.reload()
        self.assertEqual({what: kind for what, (kind, _) in changes.items()},
                         {"storage second": "ADDED", "routing other": "ADDED", "consistency other": "ADDED",
                          "virtual storage other": "ADDED"})
        self.server.call("Repository/Create", {"repository": {"virtual_storage": "other", "path": "there"}})
        self.assertTrue(any(name.endswith(".git") for _, names, _ in os.walk(folder) for name in names))
        self.assertIn(b"storage 'second': ok", self.server.http("GET", "/readyz").body)
        self.config["storages"][1]["weight"] = 5
        self.assertEqual(self.reload(), {"storage second": ("ADJUSTED", "weight: 1 -> 5")})
        # A folder is another storage: a restart.
        self.config["storages"][1]["path"] = folder + "-moved"
        changes = self.reload()
        self.assertEqual(changes["storage second"][0], "NEEDS_RESTART")
        self.assertIn("second-moved", changes["storage second"][1])
        self.assertEqual(self.server.call("Repository/Get", {"repository": {"virtual_storage": "other", "path": "there"}})
                         ["info"]["repository"]["path"], "there.git")
        self.config["storages"].pop()
        self.config["virtual_storages"].pop()
        changes = self.reload()
        self.assertEqual(changes["storage second"][0], "REMOVED")
        gone = self.server.cli("call", "Repository/Get", json.dumps({"repository": {"virtual_storage": "other",
                                                                                  "path": "there"}}), check=False)
        self.assertNotEqual(gone.returncode, 0)
        # It is let go of, so it can come back.
        self.config["storages"].append(second)
        self.config["virtual_storages"].append({"name": "other", "storages": ["second"], "routing": {"plugin": "rendezvous"},
                                                "consistency": {"plugin": "direct"}})
        self.reload()
        self.server.call("Repository/Get", {"repository": {"virtual_storage": "other", "path": "there"}})
        self.git("ls-remote", url)

    def test_addresses_come_and_go(self):
        url = self.server.create("addresses")
        one, two = free_ports(2)
        more = {"name": "more", "plugin": "http", "listen": ["http://127.0.0.1:%d" % one]}
        self.config["transports"].append(more)
        self.assertEqual(self.reload(), {"transport more": ("ADDED", "plugin: http")})
        self.git("ls-remote", url.replace(str(self.server.http_port), str(one)))
        # another address: the new one beside the old one, then the old one is gone
        more["listen"] = ["http://127.0.0.1:%d" % two]
        self.assertEqual(self.reload()["transport more"][0], "REPLACED")
        self.git("ls-remote", url.replace(str(self.server.http_port), str(two)))

        def refused(port):
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) != 0
        eventually(lambda: refused(one), 60, "the end of the old address")
        # the same address with options that its listener cannot take
        more["realm"] = "Elsewhere"
        self.assertEqual(self.reload()["transport more"], ("NEEDS_RESTART", 'realm: "Gitstead" -> "Elsewhere"'))
        self.git("ls-remote", url.replace(str(self.server.http_port), str(two)))
        # options that it can
        del more["realm"]
        more.update({"threads": 3, "json_body_max": "1KiB"})
        self.assertEqual(self.reload()["transport more"], ("ADJUSTED", "threads: 2 -> 3, json_body_max: 1MiB -> 1KiB"))
        with socket.create_connection(("127.0.0.1", two)) as client:
            client.sendall(b"POST /api/v1/Server/Ping HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           b"Content-Length: 2000\r\n\r\n" + b" " * 2000)
            self.assertIn(b" 413 ", client.recv(65536))
        self.config["transports"].pop()
        self.assertEqual(self.reload()["transport more"][0], "REMOVED")
        eventually(lambda: refused(two), 60, "the end of the second address")

    def test_only_administrators_may(self):
        answer = self.server.http("POST", "/api/v1/Server/Reload", body="{}",
                                  headers=dict(self.server.bearer(), **{"Content-Type": "application/json"}))
        self.assertEqual(answer.status, 403, answer.body)

    def test_calls_under_way_go_on(self):
        """A push that has sent half its pack and a clone that has read half of it, across reloads that replace what they
        began with; then they go on to their ends."""
        work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=work)
        with open(os.path.join(work, "noise"), "wb") as out:
            out.write(os.urandom(1 << 20))
        self.git("add", "noise", cwd=work)
        self.git("commit", "-q", "-m", "Noise", cwd=work)
        url = self.server.create("under-way")
        self.git("push", "-q", url, "HEAD:refs/heads/main", cwd=work)
        head = self.git("rev-parse", "HEAD", cwd=work).strip()
        objects = self.git("rev-list", "--objects", "--no-object-names", "HEAD", cwd=work).split()
        pack = pack_of(work, objects, self.git)
        body = push_request([(ZERO, head, "refs/heads/slow")], pack)
        half = len(body) // 2

        push = socket.create_connection(("127.0.0.1", self.server.http_port))
        self.addCleanup(push.close)
        token = self.server.bearer()["Authorization"]
        push.sendall(("POST /under-way.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\n"
                      "Content-Type: application/x-git-receive-pack-request\r\nContent-Length: %d\r\n\r\n"
                      % (token, len(body))).encode() + body[:half])
        eventually(self.server.children, 60, "the child that receives the push")

        self.config["access"]["anonymous"] = "read"
        self.config["cache"] = {"plugin": "none"} if self.config["cache"]["plugin"] != "none" else {"plugin": "memory"}
        self.config["virtual_storages"][0]["routing"] = {"plugin": "weighted", "by": "weight"}
        self.reload()
        clone = os.path.join(self.scratch(), "clone")
        self.git("clone", "-q", url, clone)
        self.config["access"]["anonymous"] = "none"
        self.reload()
        push.sendall(body[half:])
        push.settimeout(60 * gitstead_test.SLOW)
        answer = b""
        while True:
            piece = push.recv(65536)
            if not piece:
                break
            answer += piece
        self.assertIn(b"200 OK", answer)
        self.assertIn(b"ok refs/heads/slow", answer)
        self.assertEqual(self.git("ls-remote", url, "refs/heads/slow").split()[0], head)
        self.server.assert_settled()


class Tls(ReloadTestCase):
    """A renewed certificate is taken by connections from then on; those that are open go on."""

    @classmethod
    def setUpClass(cls):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("there is no openssl on this machine")
        super().setUpClass()

    def certificate(self, name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=%s" % name, "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", self.key, "-out", self.pem], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        os.chmod(self.key, 0o600)

    def shown(self, port):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with context.wrap_socket(plain) as client:
                der = client.getpeercert(binary_form=True)
        text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, check=True,
                              stdout=subprocess.PIPE).stdout.decode()
        return text.strip().rpartition("=")[2].strip()

    def healthy(self, connection):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            piece = connection.recv(4096)
            self.assertNotEqual(piece, b"", answer)
            answer += piece
        self.assertIn(b"200 OK", answer)

    def test_renewal(self):
        folder = self.scratch()
        self.key, self.pem = os.path.join(folder, "key"), os.path.join(folder, "pem")
        https, nng = free_ports(2)
        self.certificate("first")
        self.config["transports"] += [
            {"name": "https", "plugin": "http", "listen": ["https://127.0.0.1:%d" % https], "tls_certificate": self.pem,
             "tls_key": self.key},
            {"name": "nngs", "plugin": "nng", "listen": ["tls+tcp://127.0.0.1:%d" % nng], "tls_certificate": self.pem,
             "tls_key": self.key}]
        self.reload()
        self.assertEqual((self.shown(https), self.shown(nng)), ("first", "first"))

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(("127.0.0.1", https))) as kept:
            self.healthy(kept)
            self.certificate("second")
            self.assertEqual(self.reload(), {})
            self.assertEqual((self.shown(https), self.shown(nng)), ("second", "second"))
            self.healthy(kept)

            # a key that does not belong to it: refused, and the one before goes on
            with open(self.pem, "w") as out:
                out.write("no certificate\n")
            refused = self.reload(check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertMentions(refused.stderr, self.pem)
            self.assertEqual((self.shown(https), self.shown(nng)), ("second", "second"))

            # the paths themselves may change
            self.key, self.pem = os.path.join(folder, "key3"), os.path.join(folder, "pem3")
            self.certificate("third")
            for transport in self.config["transports"][-2:]:
                transport.update({"tls_certificate": self.pem, "tls_key": self.key})
            changes = self.reload()
            self.assertEqual((changes["transport https"][0], changes["transport nngs"][0]), ("ADJUSTED", "ADJUSTED"))
            self.assertEqual((self.shown(https), self.shown(nng)), ("third", "third"))
            self.healthy(kept)


class Load(ReloadTestCase):
    """Clones, pushes and calls while the configuration is reloaded every second: no request fails."""

    def worker(self, name, work):
        def run():
            n = 0
            try:
                while not self.over.is_set():
                    work(n)
                    n += 1
            except Exception as why:  # told in the main thread
                self.failures.append("%s %d: %s" % (name, n, why))
            self.counts[name] = n
        thread = threading.Thread(target=run)
        self.threads.append(thread)
        thread.start()

    def variants(self):
        """Each differs from the one before in every kind that can be changed."""
        usual = json.dumps(self.config)
        for n in range(1 << 30):
            config = json.loads(usual)
            config["access"]["certificate_scope"] = ("none", "read")[n % 2]
            config["cache"] = ({"plugin": "memory", "size": "8MiB"}, {"plugin": "none"}, self.config["cache"])[n % 3]
            config["virtual_storages"][0]["routing"] = ({"plugin": "rendezvous"}, {"plugin": "weighted", "by": "weight"},
                                                        {"plugin": "zone"})[n % 3]
            config["server"]["max_in_flight"] = 900 + n % 7
            config["storages"][0]["weight"] = 1 + n % 5
            config["metadata"].update({"busy_timeout": "%ds" % (10 + n % 2)}
                                      if config["metadata"]["plugin"] == "sqlite" else {})
            config["transports"][0]["threads"] = 1 + n % 3
            if n % 2:
                folder = os.path.join(self.server.folder, "extra")
                os.makedirs(folder, exist_ok=True)
                config["storages"].append(dict(config["storages"][0], name="extra", path=folder))
                config["virtual_storages"].append({"name": "extra", "storages": ["extra"],
                                                   "routing": {"plugin": "rendezvous"},
                                                   "consistency": {"plugin": "direct"}})
                config["transports"].append({"name": "extra", "plugin": "http", "listen": ["http://127.0.0.1:0"]})
            yield config

    def test_reload_under_load(self):
        self.over, self.failures, self.counts, self.threads = threading.Event(), [], {}, []
        work = make_history(os.path.join(self.scratch(), "history"), commits=30)
        url = self.server.create("load")
        self.git("push", "-q", url, "HEAD:refs/heads/main", cwd=work)
        socket_url = "ipc://" + self.server.socket
        scratch = self.scratch()

        def clone(n):
            folder = os.path.join(scratch, "clone-%d" % n)
            self.git("clone", "-q", url, folder)
            shutil.rmtree(folder)

        def pusher(name):
            mine = os.path.join(scratch, name)
            self.git("clone", "-q", url, mine)

            def push(n):
                self.git("commit", "-q", "--allow-empty", "-m", "%s %d" % (name, n), cwd=mine)
                self.git("push", "-q", url, "HEAD:refs/heads/%s" % name, cwd=mine)
                head = self.git("rev-parse", "HEAD", cwd=mine).strip()
                shown = self.git("ls-remote", url, "refs/heads/%s" % name).split()[0]
                if shown != head:
                    raise AssertionError("pushed %s, shown %s" % (head, shown))
            return push

        def call(n):
            result = run_program("call", "Ref/List", json.dumps({"repository": {"path": "load"}}),
                                 env={"GITSTEAD_SERVER": socket_url})
            if result.returncode != 0:
                raise AssertionError(result.stderr)

        def page(n):
            answer = self.server.http("GET", ("/readyz", "/", "/metrics")[n % 3])
            if answer.status != 200:
                raise AssertionError("%d: %s" % (answer.status, answer.body))

        self.worker("clones", clone)
        self.worker("pushes", pusher("one"))
        self.worker("pushes too", pusher("two"))
        self.worker("calls", call)
        self.worker("pages", page)
        n_reloads, until = 0, time.monotonic() + SECONDS * gitstead_test.SLOW
        next_one = time.monotonic()
        for config in self.variants():
            left = until - time.monotonic()
            if left <= 0 or self.failures:
                break
            self.config = config
            self.reload()
            n_reloads += 1
            next_one += 1
            self.over.wait(max(0, min(next_one - time.monotonic(), left)))
        self.over.set()
        for thread in self.threads:
            thread.join(120)
        print("# %d reloads in %.0f s; %s" % (n_reloads, SECONDS * gitstead_test.SLOW,
                                              ", ".join("%d %s" % (n, name) for name, n in sorted(self.counts.items()))))
        self.assertEqual(self.failures, [])
        self.assertGreaterEqual(n_reloads, 2)
        for name in ("clones", "pushes", "pushes too", "calls", "pages"):
            self.assertGreater(self.counts[name], 0, name)
        # All of it was let go of: one generation is left.
        self.server.assert_settled()
        n_fds = self.server.descriptors()
        self.reload()
        eventually(lambda: self.server.descriptors() <= n_fds + 5, 60, "descriptors given back")


if __name__ == "__main__":
    gitstead_test.main()
