# SPDX-License-Identifier: Apache-2.0
"""A router is killed at every named step of what it does; three nodes and a second router go on. docs/architecture.md names the steps."""
import http.client
import json
import os
import re
import subprocess

import gitstead_test
from cluster_test import NODES, Cluster, Router
from gitstead_test import Git, eventually
from test_move import STEPS as MOVE
from test_repair import Writer

PATH = "team/project"
UNDECIDED = ["write.staging", "write.staged.1", "write.staged.2", "write.staged.3", "write.deciding"]
DECIDED = ["write.decided", "write.applied.1", "write.applied.2", "write.applied.3", "write.acknowledged", "write.told"]
PUSH = ["push.begun", "push.relayed", "push.sent"]
CREATE = ["create.reserved", "create.made.1", "create.made.2", "create.made.3", "create.recorded"]
FILL = ["create.staged", "create.applied.1", "create.applied.2", "create.applied.3"]
DELETE = ["delete.recorded", "delete.removed.1", "delete.removed.2", "delete.removed.3"]
COPY = ["repair.copying", "repair.copied", "repair.recorded"]
REMOVE = ["remove.dropped"]
HELD = ["repair.held", "repair.converged", "repair.released"]


class Routers(Cluster):
    """One router that stays, and others that are to die."""

    def setUp(self):
        super().setUp()
        self.second = self.add_router()
        self.url = self.second.create(PATH)
        self.token = self.second.new_token("admin")
        self.git = Git(self.token)
        self.headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        self.tip = self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        self.served = 0

    def add_router(self, crash_at="", workers=0, copies=3):
        router = Router(self.metadata, self.cluster_token, self.nodes, copies=copies)
        router.server_options.update({"care_interval": "1s", "job_lease": "1s", "repair_workers": workers})
        if crash_at:
            router.server_options["crash_at"] = crash_at
        self.routers.append(router)
        self.addCleanup(router.clean)
        # One that is to die at a step of its own work may do so before anybody saw it ready.
        if crash_at and workers:
            router.launch()
        else:
            router.start()
        return router

    def call(self, router, method, request, call_id=None):
        """(status, reply), or None: there was no answer."""
        headers = dict(self.headers, **({"X-Gitstead-Call-Id": call_id} if call_id else {}))
        try:
            answer = router.http("POST", "/api/v1/" + method, json.dumps(request), headers)
        except (OSError, http.client.HTTPException):
            return None
        return answer.status, json.loads(answer.body)

    def died(self, router, point):
        try:
            status = router.process.wait(60 * gitstead_test.SLOW)
        except subprocess.TimeoutExpired:
            self.fail("the router passed %s without dying:\n%s" % (point, router.log_tail()))
        self.assertEqual(status, -9, point)
        router.process = None

    def serves(self):
        """The second router, at once: what was there can be read, and another ref written."""
        self.served += 1
        found = self.call(self.second, "Ref/Find", {"repository": {"path": PATH}, "name": "refs/heads/main"})
        self.assertEqual(found[1].get("ref", {}).get("oid"), self.tip, found)
        written = self.call(self.second, "Ref/Update", self.update("served/%d" % self.served))
        self.assertEqual(written[0], 200, written)

    def update(self, *names):
        return {"repository": {"path": PATH},
                "updates": [{"name": "refs/heads/" + name, "old_oid": gitstead_test.ZERO, "new_oid": self.tip}
                            for name in names]}

    def changes(self):
        """Call id -> the change that it made; a call that made two fails the test."""
        listed = self.call(self.second, "Repository/Changes", {"repository": {"path": PATH}, "limit": 1000})[1]["changes"]
        ids = [change["call_id"] for change in listed]
        self.assertEqual(len(set(ids)), len(ids))
        return dict(zip(ids, listed))

    def repaired(self, path=PATH):
        """All replicas current and equal, nothing left of what was under way."""
        healer = self.add_router(workers=2)
        self.settled()

        def current():
            generations, now = self.generations(self.second, path)
            return sorted(generations) == sorted(NODES) and set(generations.values()) == {now}
        eventually(current, 60, "all replicas current")
        refs = self.assert_equal_replicas(self.second, path)
        healer.stop()
        return refs


class Steps(Routers):
    def test_write(self):
        ids = {}
        for point in UNDECIDED + DECIDED:
            router, ids[point] = self.add_router(point), os.urandom(16).hex()
            request = self.update(point + "/one", point + "/two")
            answer = self.call(router, "Ref/Update", request, ids[point])
            self.assertTrue(answer is None or (point == "write.applied.3" and answer[0] == 200), (point, answer))
            self.died(router, point)
            self.serves()
            if point in DECIDED:
                again = self.call(self.second, "Ref/Update", request, ids[point])
                self.assertEqual(again[0], 200, (point, again))
                change = self.changes()[ids[point]]
                self.assertEqual(again[1]["receipt"], change["receipt"])
        refs = self.repaired()
        for point in UNDECIDED + DECIDED:
            held = [refs.get("refs/heads/%s/%s" % (point, name)) for name in ("one", "two")]
            self.assertEqual(held, [self.tip if point in DECIDED else None] * 2, point)
        for point in UNDECIDED:
            again = self.call(self.second, "Ref/Update", self.update(point + "/one", point + "/two"), ids[point])
            self.assertEqual(again[0], 200, (point, again))
        self.assertEqual(set(self.changes()) & set(ids.values()), set(ids.values()))
        refs = self.assert_equal_replicas(self.second, PATH)
        self.assertEqual(len(refs), 1 + 3 * len(ids))

    def test_push(self):
        """Of several refs at once; one that is sent piece by piece, too."""
        pushed = {}
        with open(os.path.join(self.work, "big"), "wb") as out:
            out.write(os.urandom(3 << 20))
        for point in PUSH + ["write.staged.2", "write.decided", "write.applied.1", "write.acknowledged", "write.told"]:
            if point != "push.relayed":
                self.git("commit", "-q", "--allow-empty", "-m", point, cwd=self.work)
            else:
                self.commit()
            pushed[point] = self.git("rev-parse", "HEAD", cwd=self.work)
            router = self.add_router(point)
            names = ["HEAD:refs/heads/%s/%s" % (point, name) for name in ("one", "two")]
            result = self.git.run("push", "--atomic", "%s/%s.git" % (router.url, PATH), *names, cwd=self.work)
            self.died(router, point)
            # git may have heard all before the last step.
            self.assertTrue(result.returncode != 0 or point == "write.told", point)
            self.serves()
        refs = self.repaired()
        for point, oid in pushed.items():
            held = [refs.get("refs/heads/%s/%s" % (point, name)) for name in ("one", "two")]
            decided = point in DECIDED
            self.assertEqual(held, [oid if decided else None] * 2, point)
            self.git("push", "-q", "--atomic", self.url,
                     *["%s:refs/heads/%s/%s" % (oid, point, name) for name in ("one", "two")], cwd=self.work)
        refs = self.assert_equal_replicas(self.second, PATH)
        self.assertEqual(len(refs), 1 + 3 * len(pushed))

    def test_create(self):
        made = {}
        for point in CREATE:
            path, call_id = "new/" + point.replace(".", "-"), os.urandom(16).hex()
            router = self.add_router(point)
            self.assertIsNone(self.call(router, "Repository/Create", {"repository": {"path": path}}, call_id))
            self.died(router, point)
            self.serves()
            exists = self.call(self.second, "Repository/Exists", {"repository": {"path": path}})[1].get("exists", False)
            self.assertEqual(exists, point == "create.recorded")
            again = self.call(self.second, "Repository/Create", {"repository": {"path": path}}, call_id)
            self.assertEqual(again[0], 200, again)
            made[path] = again[1]["info"]["id"]
        for point in FILL:
            path, call_id = "new/" + point.replace(".", "-"), os.urandom(16).hex()
            request = {"repository": {"path": path}, "source": {"path": PATH}}
            router = self.add_router(point)
            self.assertIsNone(self.call(router, "Repository/Fork", request, call_id))
            self.died(router, point)
            self.serves()
            again = self.call(self.second, "Repository/Fork", request, call_id)
            self.assertEqual(again[0], 200, again)
            made[path] = again[1]["info"]["id"]
            self.assertEqual(self.assert_equal_replicas(self.second, path)["refs/heads/main"], self.tip)
        self.assertEqual(len(set(made.values())), len(made))
        for path in made:
            self.git("push", "-q", "%s/%s.git" % (self.second.url, path), "main:refs/heads/pushed", cwd=self.work)
        self.only_recorded([PATH] + list(made))

    def test_delete(self):
        paths = {point: "old/" + point.replace(".", "-") for point in DELETE}
        for path in paths.values():
            url = self.second.create(path)
            self.git("push", "-q", url, "main", cwd=self.work)
        for point, path in paths.items():
            call_id = os.urandom(16).hex()
            router = self.add_router(point)
            self.assertIsNone(self.call(router, "Repository/Delete", {"repository": {"path": path}}, call_id))
            self.died(router, point)
            self.serves()
            again = self.call(self.second, "Repository/Delete", {"repository": {"path": path}}, call_id)
            self.assertEqual((again[0], again[1]["code"]), (404, "NOT_FOUND"))
            # The name is free, and the new one is another repository.
            self.git("push", "-q", self.second.create(path), "main", cwd=self.work)
        self.only_recorded([PATH] + list(paths.values()))

    def only_recorded(self, paths):
        """Housekeeping takes away what a creation or deletion left; the rest is there, whole."""
        self.settled()
        recorded = {self.second.info(path)["replica_path"] for path in paths}
        for node in self.nodes:
            node.stop()
            node.server_options.update({"maintenance_interval": "1s", "leftover_grace": "0s"})
            node.start()
        for node in self.nodes:
            eventually(lambda: self.on_disk(node) == recorded, 60, "a disk with what is recorded alone")
        for path in paths:
            self.repaired_soon(path)

    def repaired_soon(self, path):
        eventually(lambda: len(set(self.generations(self.second, path)[0].values())) == 1, 60, "equal generations")
        self.assert_equal_replicas(self.second, path)

    @staticmethod
    def on_disk(node):
        found = set()
        for folder, folders, names in os.walk(os.path.join(node.root, "@r")):
            if folder.endswith(".git"):
                found.add(os.path.relpath(folder, node.root))
                folders.clear()
        return found

    def test_repair(self):
        """Where nobody else writes."""
        for point in COPY:
            self.leave_behind()
            router = self.add_router(point, workers=1)
            self.died(router, point)
            self.serves()
        self.repaired()

    def test_remove(self):
        """One copy too many: the record is gone, its files are not; whoever takes the job then removes them."""
        folder = self.second.info(PATH)["replica_path"]
        for point in REMOVE:
            router = self.add_router(point, workers=1, copies=2)
            self.died(router, point)
            self.serves()
        self.assertEqual(sum(os.path.isdir(node.path(folder)) for node in self.nodes), 3)
        self.add_router(workers=1, copies=2)
        eventually(lambda: sum(os.path.isdir(node.path(folder)) for node in self.nodes) == 2, 60,
                   "the files of the surplus copy gone")
        left = [one["storage"] for one in self.second.info(PATH)["replicas"]]
        self.assertEqual(sorted(left), sorted(node.name for node in self.nodes if os.path.isdir(node.path(folder))))
        self.serves()
        self.assert_equal_replicas(self.second, PATH, [node for node in self.nodes if node.name in left])

    def leave_behind(self):
        """Node two lacks a write when it is back."""
        self.nodes[1].kill()
        self.serves()
        self.nodes[1].start()

    def test_repair_under_writes(self):
        """Writes never end, and wait for a moment: for no longer than the lease of who asked for it when that is dead."""
        values = [self.tip, self.commit()]
        self.git("push", "-q", self.url, "main:refs/heads/other", cwd=self.work)
        for point in HELD:
            self.nodes[1].kill()
            writers = [Writer(self.second, self.headers, "w%d" % i, values) for i in range(4)]
            for one in writers:
                one.start()
            try:
                eventually(lambda: all(len(one.times) > 2 for one in writers), 60, "writes")
                self.nodes[1].start()
                self.died(self.add_router(point, workers=1), point)
                counts = [len(one.times) for one in writers]
                eventually(lambda: all(len(one.times) > before + 2 for one, before in zip(writers, counts)), 60,
                           "writes after %s" % point)
            finally:
                for one in writers:
                    one.stop()
            self.assertEqual([one.failed for one in writers], [[]] * 4)
        self.repaired()


class CallIds(Routers):
    """What one router did under a call id is nobody else's outcome on another one."""

    def test_of_others(self):
        router = self.add_router()
        call_id = "%032x" % 0xabcdef
        made = self.call(router, "Repository/Create", {"repository": {"path": "team/one"}}, call_id)
        self.assertEqual(made[0], 200)
        self.assertEqual(self.call(self.second, "Repository/Create", {"repository": {"path": "team/one"}}, call_id), made)
        status, reply = self.call(self.add_router(), "Repository/Create", {"repository": {"path": "team/two"}}, call_id)
        self.assertEqual(status, 400, reply)
        self.assertMentions(json.dumps(reply), "team/two", "use a new id")
        exists = self.call(self.second, "Repository/Exists", {"repository": {"path": "team/two"}})[1]
        self.assertFalse(exists.get("exists", False))
        call_id = "%032x" % 0xfedcba
        done = self.call(router, "Ref/Update", self.update("mine"), call_id)
        self.assertEqual(done[0], 200)
        self.assertEqual(self.call(self.second, "Ref/Update", self.update("mine"), call_id)[1]["receipt"]["generation"],
                         done[1]["receipt"]["generation"])
        self.headers["Authorization"] = "Bearer " + self.second.new_token("write")
        status, reply = self.call(self.second, "Ref/Update", self.update("theirs"), call_id)
        self.assertEqual(status, 409, reply)
        found = self.call(self.second, "Ref/Find", {"repository": {"path": PATH}, "name": "refs/heads/theirs"})
        self.assertEqual(found[0], 404)


class DeadRouter(Routers):
    """Its pushes do not keep their refs for as long as a router that is only silent is waited for."""

    def setUp(self):
        super().setUp()
        for node in self.nodes:
            node.stop()
            node.server_options["stage_lease"] = "1h"
            node.start()

    def test_refs_are_free_soon(self):
        for number, point in enumerate(("write.staged.2", "write.deciding", "write.decided")):
            router = self.add_router(point)
            branch, tip = "refs/heads/dead-%d" % number, self.commit()
            self.git.run("push", "-q", "%s/%s.git" % (router.url, PATH), "main:" + branch, cwd=self.work)
            self.died(router, point)
            following = self.commit()
            eventually(lambda: self.git.run("push", "-q", self.url, "main:" + branch, cwd=self.work).returncode == 0, 60,
                       "a push to the ref after %s" % point)
            self.assertEqual(self.git("ls-remote", self.url, branch, cwd=self.work).split()[0], following)
            self.assertNotEqual(tip, following)


class Names(gitstead_test.TestCase):
    def test_every_step_is_tried_and_told(self):
        """What the sources name is what is tried above, and what the documentation tells."""
        tried = UNDECIDED + DECIDED + PUSH + CREATE + FILL + DELETE + COPY + REMOVE + HELD + MOVE
        found = set()
        folder = os.path.join(gitstead_test.SOURCE, "core/router")
        for name in os.listdir(folder):
            with open(os.path.join(folder, name)) as source:
                found.update(re.findall(r'gsi_router_crash_point(?:_at)? \([^;"]*"([a-z.]+)"', source.read()))
        self.assertEqual({re.sub(r"\.[0-9]$", "", point) for point in tried}, found)
        with open(os.path.join(gitstead_test.SOURCE, "docs/architecture.md")) as text:
            told = text.read()
        self.assertEqual([point for point in sorted(found) if not re.search("`%s(.N)?`" % re.escape(point), told)], [])


if __name__ == "__main__":
    gitstead_test.main()
