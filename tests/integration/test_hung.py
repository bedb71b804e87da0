# SPDX-License-Identifier: Apache-2.0
"""What hangs keeps nobody else waiting: a node that is stopped, a disk that does not answer, with calls to it all the time."""
import json
import signal
import threading
import time

import gitstead_test
from cluster_test import NODES, Cluster, Node, Router, Traffic, new_token
from gitstead_test import Git, eventually


class Sharded(Cluster):
    """One copy of each repository."""

    DISK = {}

    def setUp(self):
        self.metadata = self.metadata_store()
        self.cluster_token = new_token()
        self.routers = []
        self.nodes = [Node(self.metadata, self.cluster_token, name) for name in NODES]
        self.nodes[0].storage_options.update(self.DISK)
        for node in self.nodes:
            self.addCleanup(node.clean)
            node.start()
        self.router = self.add_router(consistency="direct", copies=1, min_copies=1)
        self.headers = {"Authorization": "Bearer " + self.router.new_token("admin"), "Content-Type": "application/json",
                        "X-Gitstead-Timeout-Ms": "600000"}
        self.there = self.on("one", False)
        self.elsewhere = self.on("one", True)
        self.work = self.scratch()
        Git()("init", "-q", "-b", "main", cwd=self.work)
        self.commits = 0

    def on(self, storage, elsewhere):
        """A new repository that is on that storage, or on another one."""
        for n in range(50):
            path = "team/%s-%d" % ("elsewhere" if elsewhere else "there", n)
            self.router.create(path)
            if (self.router.info(path)["replicas"][0]["storage"] != storage) == elsewhere:
                return path
        raise AssertionError("50 repositories, and none was placed so")

    def list_refs(self, path, timeout=120):
        return self.router.http("POST", "/api/v1/Ref/List", json.dumps({"repository": {"path": path}}), self.headers,
                                timeout=timeout)

    def ask_in_vain(self, count):
        """Calls that hang; what has ended of them."""
        ended = []

        def ask():
            try:
                ended.append(self.list_refs(self.there, 600).status)
            except OSError as error:
                ended.append(error)
        threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
        for one in threads:
            one.start()
        return ended, threads

    def in_flight(self):
        page = self.router.http("GET", "/metrics").body.decode()
        return max(float(line.split()[-1]) for line in page.splitlines() if line.startswith("gitstead_calls_in_flight"))


class HungDisk(Sharded):
    """The node answers everything but what needs its refs."""

    DISK = {"layers": [{"plugin": "delay", "slots": ["list_refs"], "time": "1h"}]}

    def test_others_keep_their_threads(self):
        """Far more calls than there are workers hang, and others are answered all the same."""
        ended, threads = self.ask_in_vain(40)
        eventually(lambda: self.in_flight() >= 40 or ended, 60, "40 calls under way")
        longest = 0
        for _ in range(5):
            began = time.monotonic()
            self.assertEqual(self.list_refs(self.elsewhere).status, 200)
            longest = max(longest, time.monotonic() - began)
        git = Git(self.router.new_token("write"))
        self.commit()
        git("push", "-q", "%s/%s.git" % (self.router.url, self.elsewhere), "main", cwd=self.work)
        self.assertEqual(ended, [])
        print("# 40 calls hang, others took %.2f s at most" % longest)
        # They end with their node.
        self.nodes[0].kill()
        for one in threads:
            one.join(60 * gitstead_test.SLOW)
        self.assertEqual(set(ended), {503})


class HungNode(Sharded):
    def test_others_keep_their_speed(self):
        token = self.router.new_token("write")
        self.commit()
        Git(token)("push", "-q", "%s/%s.git" % (self.router.url, self.elsewhere), "main", cwd=self.work)
        traffic = Traffic(self, self.router, self.elsewhere, token, "a")
        traffic.start()
        traffic.until(lambda: len(traffic.times) >= 2, 60, "two pushes")
        self.nodes[0].process.send_signal(signal.SIGSTOP)
        try:
            ended, threads = self.ask_in_vain(40)
            longest, stopped = 0, len(traffic.times)
            # Until the node is known to hang, and after that.
            for _ in range(2):
                for _ in range(5):
                    began = time.monotonic()
                    self.assertEqual(self.list_refs(self.elsewhere).status, 200)
                    longest = max(longest, time.monotonic() - began)
                for one in threads:
                    one.join(60 * gitstead_test.SLOW)
                self.assertEqual(set(ended), {503})
                self.assertEqual(self.list_refs(self.there).status, 503)
            traffic.until(lambda: len(traffic.times) >= stopped + 3, 60, "pushes while a node hangs")
        finally:
            self.nodes[0].process.send_signal(signal.SIGCONT)
        traffic.stop()
        self.assertEqual(traffic.failed, [])
        eventually(lambda: self.list_refs(self.there).status == 200, 60, "the node's being back")
        print("# a node hangs: reads elsewhere took %.2f s at most, the longest gap of pushes %.2f s" % (
            longest, traffic.longest_gap()))


if __name__ == "__main__":
    gitstead_test.main()
