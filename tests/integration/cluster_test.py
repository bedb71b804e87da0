# SPDX-License-Identifier: Apache-2.0
"""What the tests of the cluster share: nodes and routers as processes of their own, and pushes that go on meanwhile."""
import base64
import json
import os
import random
import threading
import time

import gitstead_test
from gitstead_test import Git, Server, TestCase, eventually, yaml

NODES = ["one", "two", "three"]
# Longer than a machine that is busy with something else lets its processes stand still. Seconds: after so many a node that
# does not answer is away, and a router that says nothing more of its write is gone.
ANSWER, LEASE = (4, 5) if gitstead_test.SLOW == 1 else (8, 8)


def new_token():
    return "gs_%s_%s" % (os.urandom(6).hex(), base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("="))


class Node(Server):
    """A process that lends its storage."""

    def __init__(self, metadata, token, name="none", **options):
        super().__init__(**options)
        self.metadata, self.cluster_token, self.name = metadata, token, name

    def configuration(self):
        storage = dict({"name": self.name, "plugin": "git", "path": self.root}, **self.storage_options)
        return {
            "server": dict({"shutdown_grace": "10s", "stage_lease": "%ds" % LEASE, "cluster_token": self.cluster_token,
                            "exports": [self.name]}, **self.server_options),
            "plugin_path": [gitstead_test.PLUGINS],
            "metadata": self.metadata,
            "access": {"plugin": "token", "anonymous": "none"},
            "storages": [storage],
            "transports": self.transports(),
        }

    def transports(self):
        return [{"plugin": "http", "listen": [self.url]},
                {"plugin": "nng", "listen": ["ipc://" + self.socket, "tcp://%s:%d" % (self.host, self.nng_port)]}]

    def write_config(self):
        with open(self.config, "w") as out:
            out.write(yaml(self.configuration()) + "\n")
        os.chmod(self.config, 0o600)

    def is_there(self):
        """It answers, ready or not."""
        try:
            return self.http("GET", "/readyz").status in (200, 503)
        except OSError:
            return False

    def path(self, replica_path):
        return os.path.join(self.root, replica_path)


class Router(Node):
    """A process without a disk."""

    def __init__(self, metadata, token, nodes, consistency="quorum", copies=3, min_copies=2):
        super().__init__(metadata, token)
        self.nodes = nodes
        self.consistency, self.copies, self.min_copies = consistency, copies, min_copies
        self.remote_options = {}

    def configuration(self):
        config = super().configuration()
        del config["server"]["exports"], config["server"]["cluster_token"]
        config["storages"] = [
            dict({"name": name, "plugin": "remote", "url": "tcp://%s:%d" % (node.host, node.nng_port),
                  "token": self.cluster_token, "probe_interval": "200ms",
                  "probe_timeout": "%ds" % ANSWER}, **self.remote_options)
            for name, node in zip(NODES, self.nodes)]
        consistency = {"plugin": self.consistency}
        if self.consistency == "quorum":
            consistency["laggard_wait"] = "30s"  # no node is slow here but by this machine: a hung one is found by probes
        config["virtual_storages"] = [
            {"name": "default", "storages": NODES[:len(self.nodes)], "routing": {"plugin": "rendezvous"},
             "consistency": consistency, "copies": self.copies, "min_copies": self.min_copies}]
        return config


class Cluster(TestCase):
    def setUp(self):
        self.metadata = self.metadata_store()
        self.cluster_token = new_token()
        self.routers = []
        self.nodes = [self.placed(Node(self.metadata, self.cluster_token, name)) for name in NODES]
        for node in self.nodes:
            self.addCleanup(node.clean)
            node.start()
        self.work = self.scratch()
        Git()("init", "-q", "-b", "main", cwd=self.work)
        self.commits = 0

    def metadata_store(self):
        """The options of the store that all processes share."""
        return {"plugin": "sqlite", "path": os.path.join(self.scratch(), "metadata.db")}

    def placed(self, server):
        """Where a server runs: here."""
        return server

    def add_router(self, remote_options=None, **options):
        router = self.placed(Router(self.metadata, self.cluster_token, self.nodes, **options))
        router.remote_options = remote_options or {}
        self.routers.append(router)
        self.addCleanup(router.clean)
        return router.start()

    def commit(self, work=None, name=None):
        self.commits += 1
        name = name or "file-%d" % self.commits
        work = work or self.work
        with open(os.path.join(work, name), "w") as out:
            out.write(os.urandom(3000).hex())
        Git()("add", ".", cwd=work)
        Git()("commit", "-q", "-m", name, cwd=work)
        return Git()("rev-parse", "HEAD", cwd=work)

    def replica_refs(self, node, info):
        folder = node.path(info["replica_path"])
        lines = Git()("for-each-ref", "--format=%(refname) %(objectname)", cwd=folder).splitlines()
        return dict(line.split() for line in lines if not line.startswith("refs/gitstead/"))

    def generations(self, router, path):
        info = router.info(path)
        return {one["storage"]: int(one.get("generation", 0)) for one in info["replicas"]}, int(info["generation"])

    def assert_equal_replicas(self, router, path, nodes=None, seconds=10):
        info = router.info(path)
        nodes = nodes or self.nodes
        eventually(lambda: len({json.dumps(self.replica_refs(node, info), sort_keys=True) for node in nodes}) == 1,
                   seconds, "equal refs on all nodes")
        for node in nodes:
            Git().fsck(node.path(info["replica_path"]))
        return self.replica_refs(nodes[0], info)

    def settled(self, nodes=None):
        for node in nodes or self.nodes:
            node.assert_settled()


class Traffic(threading.Thread):
    """Pushes to branches of its own, one after another, through one router; keeps what was acknowledged, and when."""

    def __init__(self, test, router, path, token, name):
        super().__init__(name=name)
        self.git, self.url, self.branch = Git(token), "%s/%s.git" % (router.url, path), name
        self.work = test.scratch()
        self.git("clone", "-q", self.url, self.work)
        self.done, self.acknowledged, self.failed, self.times = threading.Event(), {}, [], []
        test.addCleanup(self.stop)  # before the folder goes

    def run(self):
        n = 0
        while not self.done.is_set():
            n += 1
            self.git("commit", "-q", "--allow-empty", "-m", "%s %d" % (self.branch, n), cwd=self.work)
            oid = self.git("rev-parse", "HEAD", cwd=self.work)
            result = self.git.run("push", "-q", self.url, "HEAD:refs/heads/%s" % self.branch, cwd=self.work)
            if result.returncode == 0:
                self.acknowledged["refs/heads/" + self.branch] = oid
                self.times.append(time.monotonic())
            else:
                self.failed.append(result.stderr.decode(errors="replace"))

    def stop(self):
        self.done.set()
        if self.is_alive():
            self.join(120 * gitstead_test.SLOW)

    def until(self, condition, seconds, what):
        """Waits for @condition; refused pushes end the wait, and are told."""
        eventually(lambda: condition() or len(self.failed) >= 3, seconds, what)
        if not condition():
            raise AssertionError("%s: %d pushes were refused before:\n%s" % (what, len(self.failed), self.failed[-1]))

    def longest_gap(self):
        return max((b - a for a, b in zip(self.times, self.times[1:])), default=0)


class Api:
    """JSON calls over HTTP; those that fail are kept."""

    def __init__(self, router, token):
        self.router = router
        self.headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}

    def __call__(self, method, request):
        answer = self.router.http("POST", "/api/v1/" + method, json.dumps(request), self.headers, timeout=60)
        if answer.status != 200:
            raise AssertionError("%s %s: %d %s" % (method, request, answer.status, answer.body))
        return json.loads(answer.body)


class Client(threading.Thread):
    """Moves a branch of its own to and fro in one repository after another, commits now and then, and reads what it wrote."""

    def __init__(self, api, name, paths, tips, pause=0.0):
        super().__init__(name=name)
        self.api, self.ref, self.paths, self.tips, self.pause = api, "refs/heads/" + name, paths, tips, pause
        self.done, self.failed, self.last = threading.Event(), [], {}
        self.n_writes = self.n_reads = 0
        self.longest = (0, None, None)
        self.random = random.Random(name)

    def run(self):
        n = 0
        while not self.done.is_set():
            n += 1
            path = self.random.choice(self.paths)
            try:
                self.write(path, n)
                self.read(path)
            except (AssertionError, OSError) as error:
                self.failed.append(repr(error))
            self.done.wait(self.pause)

    def write(self, path, n):
        began = time.monotonic()
        value = self.tips[path][n % 2]
        self.api("Ref/Update", {"repository": {"path": path}, "updates": [{"name": self.ref, "new_oid": value}]})
        took = time.monotonic() - began
        self.longest = max(self.longest, (took, path, began))
        self.last[path] = value
        self.n_writes += 1

    def read(self, path):
        found = self.api("Ref/List", {"repository": {"path": path}, "prefixes": [self.ref]})
        seen = [one for one in found["refs"] if one["name"] == self.ref]
        if [one["oid"] for one in seen] != [self.last[path]]:
            raise AssertionError("%s of %s: %s was acknowledged, and read is %s" % (self.ref, path, self.last[path], seen))
        self.n_reads += 1

    def stop(self):
        self.done.set()
        if self.is_alive():
            self.join(120 * gitstead_test.SLOW)
