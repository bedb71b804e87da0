# SPDX-License-Identifier: Apache-2.0
"""Replicas that fell behind, were lost or were damaged come back by themselves; copies are made and taken away."""
import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time

import gitstead_test
from gitstead_test import Git, eventually
from cluster_test import NODES, Cluster, Router

PATH = "team/project"


class RepairCluster(Cluster):
    SERVER = {"care_interval": "1s", "job_lease": "2s"}

    def add_router(self, server=None, **options):
        router = Router(self.metadata, self.cluster_token, self.nodes, **options)
        router.server_options.update(dict(self.SERVER, **(server or {})))
        self.routers.append(router)
        self.addCleanup(router.clean)
        return router.start()

    def begin(self, **options):
        self.router = self.add_router(**options)
        self.url = self.router.create(PATH)
        self.token = self.router.new_token("write")
        self.git = Git(self.token)

    def push(self, *refs):
        oid = self.commit()
        self.git("push", "-q", self.url, *(refs or ("main",)), cwd=self.work)
        return oid

    def folder(self, index):
        return self.nodes[index].path(self.router.info(PATH)["replica_path"])

    def all_current(self, router=None, names=NODES):
        generations, now = self.generations(router or self.router, PATH)
        return sorted(generations) == sorted(names) and all(one == now for one in generations.values())

    def whole(self, nodes=None, seconds=60, names=NODES):
        """All current, equal, and without a fault that git finds."""
        eventually(lambda: self.all_current(names=names), seconds, "all replicas current")
        refs = self.assert_equal_replicas(self.router, PATH, nodes)
        for node in nodes or self.nodes:
            node.assert_settled()
        return refs

    def logged(self, event, *parts):
        text = "".join(router.log_text() for router in self.routers)
        return [line for line in text.splitlines() if " %s " % event in line and all(part in line for part in parts)]


def flip(path, at=None):
    """One bit, in the middle."""
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(at if at is not None else os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


class Writer(threading.Thread):
    """Moves a ref of its own to and fro, as fast as answers come."""

    def __init__(self, router, headers, name, values):
        super().__init__(name=name)
        self.router, self.headers, self.ref, self.values = router, headers, "refs/heads/" + name, values
        self.done, self.times, self.failed = threading.Event(), [], []

    def run(self):
        n = 0
        while not self.done.is_set():
            value = self.values[n % len(self.values)]
            n += 1
            update = {"repository": {"path": PATH}, "updates": [{"name": self.ref, "new_oid": value}]}
            answer = self.router.http("POST", "/api/v1/Ref/Update", json.dumps(update), self.headers)
            if answer.status == 200:
                self.times.append(time.monotonic())
            else:
                self.failed.append(answer.body)

    def stop(self):
        self.done.set()
        self.join(60 * gitstead_test.SLOW)


class Repair(RepairCluster):
    def test_killed_node_under_writes_that_never_end(self):
        self.begin()
        values = [self.push() for _ in range(2)]
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        writers = [Writer(self.router, headers, "w%d" % i, values) for i in range(4)]
        for one in writers:
            one.start()
        try:
            eventually(lambda: all(len(one.times) > 5 for one in writers), 60, "writes")
            self.nodes[1].kill()
            killed = time.monotonic()
            eventually(lambda: all(one.times[-1] > killed + 0.5 for one in writers), 60, "writes after the kill")
            self.nodes[1].start()
            back = time.monotonic()
            eventually(lambda: self.logged("repair.done", "storage=two"), 120, "the repair of node two")
            took = time.monotonic() - back
            count = sum(len(one.times) for one in writers)
            # It takes part in writes again: what is decided from now on has its vote.
            def votes():
                after = int(self.router.info(PATH)["generation"]) - 1
                changes = self.router.call("Repository/Changes", {"repository": {"path": PATH}, "limit": 10,
                                                                  "after_generation": str(after)})["changes"]
                return any("two" in change["receipt"]["replicas"] for change in changes)
            eventually(votes, 60, "a vote of node two")
            eventually(lambda: sum(len(one.times) for one in writers) > count + 20, 60, "writes after the repair")
        finally:
            for one in writers:
                one.stop()
        self.assertEqual([one.failed for one in writers], [[]] * 4)
        times = sorted(t for one in writers for t in one.times if t > back)
        gap = max((b - a for a, b in zip(times, times[1:])), default=0)
        print("# repaired %.2f s after its start, under %.0f writes/s, longest gap in writes %.2f s: %s" % (
            took, len(times) / (times[-1] - times[0]), gap, self.logged("repair.done", "storage=two")[-1]))
        self.whole()

    def test_wiped_disk(self):
        self.begin()
        self.push("main", "main:side")
        self.nodes[2].stop()
        for name in os.listdir(self.nodes[2].root):
            if name != "gitstead-storage":  # another disk would be refused
                shutil.rmtree(os.path.join(self.nodes[2].root, name), ignore_errors=True)
        self.push()
        self.nodes[2].start()
        self.whole()

    def test_wiped_disk_that_missed_nothing(self):
        """Only a look at the disk tells."""
        self.begin()
        self.push()
        self.nodes[2].stop()
        shutil.rmtree(os.path.join(self.nodes[2].root, "@r"))
        eventually(lambda: self.down("three"), 60, "node three being missed")
        self.nodes[2].start()
        eventually(lambda: self.logged("replica.damaged", "storage=three"), 60, "the loss being noticed")
        self.whole()

    def down(self, name):
        lines = self.router.http("GET", "/metrics").body.decode().splitlines()
        return any(line.startswith("gitstead_node_up") and name in line and line.endswith(" 0") for line in lines)

    def test_old_disk(self):
        """A snapshot of last week in the place of the disk: generation and digest differ from what is recorded."""
        self.begin()
        self.push()
        self.nodes[0].stop()
        old = self.scratch()
        shutil.copytree(self.nodes[0].root, os.path.join(old, "root"), symlinks=True)
        self.nodes[0].start()
        self.whole()
        self.push("main", "main:other")
        self.whole()
        self.nodes[0].stop()
        eventually(lambda: self.down("one"), 60, "node one being missed")
        shutil.rmtree(self.nodes[0].root)
        shutil.copytree(os.path.join(old, "root"), self.nodes[0].root, symlinks=True)
        self.nodes[0].start()
        eventually(lambda: self.logged("replica.damaged", "storage=one", "an old one"), 60, "the old disk being noticed")
        self.whole()

    def test_bits_flipped_on_two_of_three(self):
        self.begin(server={"scrub_interval": "1s"})
        oid = self.push()
        for _ in range(3):
            self.push("main", "main:refs/heads/b%d" % self.commits)
        self.whole()
        pack = os.path.join(self.folder(0), "objects", "pack")
        flip(os.path.join(pack, sorted(name for name in os.listdir(pack) if name.endswith(".pack"))[0]))
        with open(os.path.join(self.folder(1), "refs/heads/main"), "w") as out:
            out.write(oid + "\n")
        for name in ("one", "two"):
            eventually(lambda: self.logged("replica.damaged", "storage=" + name, "taken out of use"), 60,
                       "damage on node " + name)
            eventually(lambda: self.logged("repair.done", "storage=" + name), 60, "the repair of node " + name)
        self.assertEqual(self.logged("replica.damaged", "storage=three"), [])
        refs = self.whole()
        self.assertEqual(refs["refs/heads/main"], Git()("rev-parse", "main", cwd=self.work))

    def test_primary_is_followed_at_once(self):
        """Not only when somebody looks, which here nobody does."""
        self.begin(consistency="primary", min_copies=1, server={"care_interval": "1h"})
        for _ in range(3):
            self.push()
            pushed = time.monotonic()
            eventually(self.all_current, 60, "equal replicas")
            print("# followed after %.2f s" % (time.monotonic() - pushed))
        self.whole()

    def test_copies_are_added_and_taken_away(self):
        self.begin(copies=1, min_copies=1)
        self.push()
        first = [one["storage"] for one in self.router.info(PATH)["replicas"]]
        self.assertEqual(len(first), 1)
        self.router.stop()
        self.router = self.add_router(copies=3)
        self.url = "%s/%s.git" % (self.router.url, PATH)
        self.whole()
        self.push()
        self.whole()
        self.router.stop()
        self.router = self.add_router(copies=2)
        eventually(lambda: len(self.router.info(PATH)["replicas"]) == 2, 60, "one copy less")
        left = [one["storage"] for one in self.router.info(PATH)["replicas"]]
        nodes = [node for node in self.nodes if node.name in left]
        self.url = "%s/%s.git" % (self.router.url, PATH)
        self.push()
        self.whole(nodes, names=left)
        gone = [node for node in self.nodes if node.name not in left][0]
        eventually(lambda: not os.path.exists(gone.path(self.router.info(PATH)["replica_path"])), 60,
                   "the surplus copy in the trash")
        self.assertEqual(len(os.listdir(os.path.join(gone.root, "gitstead-trash"))), 1)

    def test_copies_of_what_was_never_written(self):
        """There is no write that a new replica could lack, and it has to exist all the same."""
        self.begin(copies=1, min_copies=1)
        first = self.router.info(PATH)["replicas"][0]["storage"]
        self.router.stop()
        self.router = self.add_router(copies=3)
        self.url = "%s/%s.git" % (self.router.url, PATH)
        eventually(lambda: len(self.router.info(PATH)["replicas"]) == 3, 60, "three replicas")
        for index in range(3):
            self.assertTrue(os.path.isfile(os.path.join(self.folder(index), "HEAD")), NODES[index])
        original = self.nodes[NODES.index(first)]
        original.stop()
        eventually(lambda: self.down(first), 60, "the first node being missed")
        self.push()
        original.start()
        self.whole()

    def test_wiped_disk_before_the_first_write(self):
        self.begin()
        self.nodes[2].stop()
        shutil.rmtree(os.path.join(self.nodes[2].root, "@r"))
        eventually(lambda: self.down("three"), 60, "node three being missed")
        self.nodes[2].start()
        eventually(lambda: os.path.isfile(os.path.join(self.folder(2), "HEAD")), 60, "the replica being made again")
        self.push()
        self.whole()

    def test_surplus_stays_while_the_rest_is_not_there(self):
        """The record says that the copy that is to stay is current; its disk has lost it, and nobody has looked yet."""
        self.begin(copies=1, min_copies=1)
        oid = self.push()
        first = NODES.index(self.router.info(PATH)["replicas"][0]["storage"])
        self.router.stop()
        self.router = self.add_router(copies=3)
        self.whole()
        self.router.stop()
        shutil.rmtree(self.folder_before(first))
        self.router = self.add_router(copies=1, min_copies=1)
        eventually(lambda: self.logged("job.failed", "kind=remove"), 60, "the last surplus copy being kept")
        left = [node for index, node in enumerate(self.nodes) if index != first
                and os.path.isdir(node.path(self.router.info(PATH)["replica_path"]))]
        self.assertEqual(len(left), 1)
        self.assertEqual(self.replica_refs(left[0], self.router.info(PATH))["refs/heads/main"], oid)

    def folder_before(self, index):
        """Of the one repository there is, while no router runs."""
        found = [os.path.dirname(os.path.join(at, "HEAD")) for at, _, files in
                 os.walk(os.path.join(self.nodes[index].root, "@r")) if "HEAD" in files]
        self.assertEqual(len(found), 1)
        return found[0]

    def test_nobody_is_current(self):
        """Out of use, all of them, by two who found damage at once or as a write was decided; their disks are as decided."""
        self.begin()
        self.push()
        self.whole()
        self.router.stop()
        with contextlib.closing(sqlite3.connect(self.metadata["path"])) as store, store:
            self.assertEqual(store.execute("UPDATE replicas SET generation = 0").rowcount, 3)
        self.router = self.add_router()
        self.url = "%s/%s.git" % (self.router.url, PATH)
        self.whole()
        self.push()
        self.whole()

    def test_killed_in_the_middle(self):
        """The node at each step of taking a copy in; then the router that carries the copy."""
        self.begin()
        self.push()
        for step in ("import.checked", "import.exchanged"):
            self.nodes[1].stop()
            self.push()
            self.nodes[1].start(crash_at=step)
            self.assertEqual(self.nodes[1].process.wait(60 * gitstead_test.SLOW), -9, step)
            self.nodes[1].process = None
            self.nodes[1].start()
            self.whole()
        self.nodes[1].stop()
        with open(os.path.join(self.work, "big"), "wb") as out:
            out.write(os.urandom(600000))
        self.push()
        self.router.stop()
        slow = self.add_router(server={"repair_rate": "50KiB", "repair_workers": 1})
        self.nodes[1].start()
        importing = os.path.join(self.nodes[1].root, "gitstead-tmp")
        eventually(lambda: any(name.startswith("import-") for name in os.listdir(importing)), 60, "a copy under way")
        slow.kill()
        slow.start = lambda: None
        self.router = self.add_router()
        self.whole()


if __name__ == "__main__":
    gitstead_test.main()
