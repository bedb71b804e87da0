# SPDX-License-Identifier: Apache-2.0
"""Routers and nodes as processes of their own: three nodes, two routers, a metadata store that they share, stock git."""
import json
import os
import shutil
import signal
import threading
import time

import gitstead_test
from cluster_test import NODES, Cluster, Node, Router, Traffic, new_token
from gitstead_test import Git, eventually


class Quorum(Cluster):
    def setUp(self):
        super().setUp()
        self.first, self.second = self.add_router(), self.add_router()
        self.url = self.first.create("team/project")
        self.token = self.first.new_token("write")
        self.git = Git(self.token)

    def other(self, url):
        return url.replace(self.first.url, self.second.url)

    def test_push_and_clone(self):
        self.commit()
        for protocol in (0, 2):
            self.commit()
            self.git("-c", "protocol.version=%d" % protocol, "push", "-q", self.url, "main", "main:refs/heads/p%d" % protocol,
                     cwd=self.work)
        refs = self.assert_equal_replicas(self.first, "team/project")
        self.assertEqual(sorted(refs), ["refs/heads/main", "refs/heads/p0", "refs/heads/p2"])
        for url in (self.url, self.other(self.url)):
            clone = self.scratch()
            self.git("clone", "-q", url, clone)
            self.git.fsck(clone)
            self.assertEqual(self.git("rev-parse", "HEAD", cwd=clone), self.git("rev-parse", "HEAD", cwd=self.work))
        generations, now = self.generations(self.second, "team/project")
        self.assertEqual(generations, {name: now for name in NODES})
        self.settled()

    def test_many_refs_and_a_big_pack(self):
        """More than fits into a message, and into the buffers on the way."""
        work = self.scratch()
        self.git("init", "-q", "-b", "main", work)
        self.git("config", "core.compression", "0", cwd=work)  # it is all noise
        for i in range(6):
            with open(os.path.join(work, "big%d" % i), "wb") as out:
                out.write(os.urandom(4 << 20))
        self.git("add", ".", cwd=work)
        self.git("commit", "-q", "-m", "big", cwd=work)
        tip = self.git("rev-parse", "HEAD", cwd=work)
        with open(os.path.join(work, ".git/packed-refs"), "a") as out:
            out.writelines("%s refs/heads/many/%05d\n" % (tip, i) for i in range(6000))
        self.git("push", "-q", self.url, "refs/heads/*:refs/heads/*", cwd=work)
        self.assertEqual(len(self.assert_equal_replicas(self.first, "team/project")), 6001)
        listed = self.git("ls-remote", self.other(self.url), "refs/heads/many/*").splitlines()
        self.assertEqual(len(listed), 6000)
        clone = self.scratch()
        self.git("clone", "-q", "--mirror", self.other(self.url), clone)
        self.git.fsck(clone)

    def test_conversation(self):
        """Git's other way to speak, as over SSH: both sides say something in turn, through the router."""
        program = os.path.join(self.scratch(), "serve")
        with open(program, "w") as out:
            out.write("#!/bin/sh\ncase $1 in *upload*) method=Git/UploadPack ;; *) method=Git/ReceivePack ;; esac\n"
                      "exec '%s' call $method '{\"repository\": {\"path\": \"team/project\"}}'\n" % gitstead_test.PROGRAM)
        os.chmod(program, 0o755)
        git = Git()
        git.env["GITSTEAD_SERVER"] = "ipc://" + self.first.socket
        options = ["-c", "protocol.ext.allow=always", "-c", "protocol.version=0"]
        url = "ext::%s %%S" % program
        tip = self.commit()
        git(*options, "push", "-q", url, "main", cwd=self.work)
        clone = os.path.join(self.scratch(), "clone")
        git(*options, "clone", "-q", url, clone)
        self.assertEqual(git("rev-parse", "main", cwd=clone), tip)
        git.fsck(clone)

    def test_refused_pushes_leave_nothing(self):
        self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        before = [node.files() for node in self.nodes]
        self.commit()
        stale = self.git("commit-tree", "HEAD^{tree}", "-m", "unrelated", cwd=self.work)
        said = self.git.fails("push", "--force-with-lease=refs/heads/main:" + stale, self.url, "main", cwd=self.work)
        self.assertIn("stale info", said)
        said = self.git.fails("push", self.url, stale + ":refs/heads/main", cwd=self.work)
        self.assertIn("non-fast-forward", said)
        said = self.git.fails("push", self.url, "main:refs/heads/main/below", cwd=self.work)
        self.assertIn("main", said)
        for node, files in zip(self.nodes, before):
            node.assert_settled(files)

    def test_calls_that_write(self):
        tip = self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        reply = self.first.call("Ref/Update", {
            "repository": {"path": "team/project"},
            "updates": [{"name": "refs/heads/by-call", "old_oid": gitstead_test.ZERO, "new_oid": tip}]})
        self.assertEqual(sorted(reply["receipt"]["replicas"]), sorted(NODES))
        self.second.call("Ref/SetDefaultBranch", {"repository": {"path": "team/project"}, "branch": "by-call"})
        refs = self.assert_equal_replicas(self.first, "team/project")
        self.assertEqual(refs["refs/heads/by-call"], tip)
        info = self.first.info("team/project")
        for node in self.nodes:
            self.assertEqual(self.git("symbolic-ref", "HEAD", cwd=node.path(info["replica_path"])), "refs/heads/by-call")
        result = self.first.cli("call", "Ref/Update", "-", check=False, input=json.dumps({
            "repository": {"path": "team/project"},
            "updates": [{"name": "refs/heads/by-call", "old_oid": gitstead_test.ZERO, "new_oid": tip}]}))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("exist", result.stderr)
        # What a node says for programs comes through the router.
        for method, request, wanted in (
                ("Ref/Update", {"updates": [{"name": "refs/heads/by-call", "old_oid": gitstead_test.ZERO, "new_oid": tip}]},
                 {"field": "updates[0]", "name": "refs/heads/by-call", "expected": gitstead_test.ZERO, "actual": tip}),
                ("Change/UpdateBranch", {"branch": "by-call", "revision": "by-call", "expected_old_oid": "1" * 40},
                 {"field": "expected_old_oid", "name": "refs/heads/by-call", "expected": "1" * 40, "actual": tip}),
                ("Diff/Parsed", {"left": "main", "right": "main", "options": {"context": 1000000}}, {"field": "options.context"})):
            result = self.first.cli("call", method, "--json", "-", check=False, input=json.dumps(
                dict(request, repository={"path": "team/project"})))
            (entry,) = json.loads(result.stderr)["details"]
            self.assertEqual({key: entry.get(key) for key in wanted}, wanted)
        self.settled()

    def test_read_your_writes(self):
        """A write through one router, by its number, is there for whoever asks the other one."""
        tip = self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}
        for number in range(5):
            name = "refs/heads/n%d" % number
            reply = self.first.http("POST", "/api/v1/Ref/Update", json.dumps({
                "repository": {"path": "team/project"},
                "updates": [{"name": name, "old_oid": gitstead_test.ZERO, "new_oid": tip}]}), headers)
            self.assertEqual(reply.status, 200, reply.body)
            generation = reply.headers["X-Gitstead-Generation"]
            self.assertEqual(int(generation), json.loads(reply.body)["receipt"]["generation"])
            find = json.dumps({"repository": {"path": "team/project"}, "name": name})
            found = self.second.http("POST", "/api/v1/Ref/Find", find, dict(headers, **{"X-Gitstead-Generation": generation}))
            self.assertEqual(json.loads(found.body)["ref"]["oid"], tip)
            found = json.loads(self.second.cli("call", "Ref/Find", find, "--generation", generation).stdout)
            self.assertEqual(found["ref"]["oid"], tip)
        ahead = self.second.http("POST", "/api/v1/Ref/Find", find, dict(headers, **{"X-Gitstead-Generation": "1000"}))
        self.assertEqual(ahead.status, 503)
        self.assertIn("at generation 1000 or later", ahead.body.decode())
        result = self.second.cli("call", "Ref/Find", find, "--generation", "1000", "--timeout", "3s", check=False)
        self.assertNotEqual(result.returncode, 0)
        wrong = self.second.http("POST", "/api/v1/Ref/Find", find, dict(headers, **{"X-Gitstead-Generation": "new"}))
        self.assertEqual(wrong.status, 400)

    def test_writers_of_one_ref(self):
        """Through two routers at once, again and again: each time exactly one gets it."""
        tips = [self.commit() for _ in range(2)]
        self.git("push", "-q", self.url, "main", cwd=self.work)
        headers = {"Authorization": "Bearer " + self.token, "Content-Type": "application/json"}

        def write(router, name, tip, answers):
            answers.append((router.http("POST", "/api/v1/Ref/Update", json.dumps({
                "repository": {"path": "team/project"},
                "updates": [{"name": name, "old_oid": gitstead_test.ZERO, "new_oid": tip}]}), headers).status, tip))

        for number in range(12):
            name, answers = "refs/heads/race%d" % number, []
            threads = [threading.Thread(target=write, args=(router, name, tip, answers))
                       for router, tip in zip((self.first, self.second), tips)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            won = [tip for status, tip in answers if status == 200]
            self.assertEqual(len(won), 1, answers)
            self.assertEqual(self.git("ls-remote", self.url, name).split()[0], won[0])
        self.settled()
        # A majority is enough for the winner: where the other one was first it may be left behind, and that is known.
        generations, now = self.generations(self.first, "team/project")
        current = [node for name, node in zip(NODES, self.nodes) if generations[name] == now]
        self.assertGreaterEqual(len(current), 2)
        self.assert_equal_replicas(self.first, "team/project", current)

    def test_delete_and_rename(self):
        info = self.first.info("team/project")
        self.first.call("Repository/Rename", {"repository": {"path": "team/project"}, "new_path": "team/other"})
        self.assertEqual(self.second.info("team/other")["id"], info["id"])
        self.second.call("Repository/Delete", {"repository": {"path": "team/other"}})
        for node in self.nodes:
            self.assertFalse(os.path.exists(node.path(info["replica_path"])))

    def test_killed_node(self):
        self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        traffic = [Traffic(self, router, "team/project", self.token, name)
                   for router, name in ((self.first, "a"), (self.second, "b"))]
        for one in traffic:
            one.start()
        eventually(lambda: all(len(one.times) >= 3 for one in traffic), 60, "three pushes each")
        self.nodes[1].kill()
        killed = time.monotonic()
        eventually(lambda: all(one.times[-1] > killed and len([t for t in one.times if t > killed]) >= 5
                               for one in traffic), 60, "pushes after the kill")
        # Reads go on as well.
        for url in (self.url, self.other(self.url)):
            self.git("ls-remote", url)
        self.nodes[1].start()
        back = time.monotonic()
        eventually(lambda: all(len([t for t in one.times if t > back]) >= 3 for one in traffic), 60, "pushes after the return")
        for one in traffic:
            one.stop()
        print("# killed node: %d pushes acknowledged, %d failed, longest gap %.2f s" % (
            sum(len(one.times) for one in traffic), sum(len(one.failed) for one in traffic),
            max(one.longest_gap() for one in traffic)))
        self.assertEqual([one.failed for one in traffic], [[], []])
        self.settled()
        # The one that came back was made current by itself.
        refs = self.assert_equal_replicas(self.first, "team/project", seconds=20)
        for one in traffic:
            for name, oid in one.acknowledged.items():
                self.assertEqual(refs[name], oid)
        eventually(lambda: len(set(self.generations(self.first, "team/project")[0].values())) == 1, 60,
                   "equal generations")

    def test_hung_node(self):
        self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        traffic = Traffic(self, self.first, "team/project", self.token, "a")
        traffic.start()
        traffic.until(lambda: len(traffic.times) >= 3, 60, "three pushes")
        self.nodes[2].process.send_signal(signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            traffic.until(lambda: len([t for t in traffic.times if t > stopped]) >= 5, 60, "pushes while a node hangs")
            self.git("ls-remote", self.url)
        finally:
            self.nodes[2].process.send_signal(signal.SIGCONT)
        traffic.stop()
        print("# hung node: %d pushes acknowledged, %d failed, longest gap %.2f s" % (
            len(traffic.times), len(traffic.failed), traffic.longest_gap()))
        self.assertEqual(traffic.failed, [])
        self.settled()
        refs = self.assert_equal_replicas(self.first, "team/project", self.nodes[:2])
        for name, oid in traffic.acknowledged.items():
            self.assertEqual(refs[name], oid)

    def test_killed_router(self):
        """What it had staged goes when its lease is over; what it had decided is applied everywhere."""
        self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)
        traffic = Traffic(self, self.first, "team/project", self.token, "a")
        traffic.start()
        traffic.until(lambda: len(traffic.times) >= 2, 60, "two pushes")
        self.first.kill()
        traffic.stop()
        self.settled()
        refs = self.assert_equal_replicas(self.second, "team/project")
        self.assertIn(refs["refs/heads/a"], self.git("rev-list", "HEAD", cwd=traffic.work).split())
        self.git("merge-base", "--is-ancestor", traffic.acknowledged["refs/heads/a"], refs["refs/heads/a"],
                 cwd=traffic.work)
        self.commit()
        self.git("push", "-q", self.other(self.url), "main", cwd=self.work)
        self.assert_equal_replicas(self.second, "team/project")
        generations, now = self.generations(self.second, "team/project")
        self.assertEqual(generations, {name: now for name in NODES})

    def test_node_killed_at_every_step(self):
        for point in ("push.quarantined", "push.prepared", "push.voted", "commit.objects", "refs.committed",
                      "refs.published", "commit.stamped", "commit.finished"):
            with self.subTest(point=point):
                path = "steps/" + point.replace(".", "-")
                url = self.first.create(path)
                self.commit()
                self.git("push", "-q", url, "main:refs/heads/base", cwd=self.work)
                self.nodes[1].stop()
                eventually(lambda: self.last_change(self.first, 1) == "node.down", 60, "the router's missing the node")
                self.nodes[1].start(crash_at=point)
                eventually(lambda: self.last_change(self.first, 1) == "node.up", 60, "the router's seeing the node")
                tip = self.commit()
                self.git("push", "-q", url, "main", cwd=self.work)
                self.assertEqual(self.nodes[1].process.wait(60 * gitstead_test.SLOW), -9, "the node passed %s" % point)
                self.nodes[1].process = None
                self.nodes[1].start()
                eventually(lambda: self.last_change(self.first, 1) == "node.up", 60, "the router's seeing it again")
                self.settled()
                info = self.first.info(path)
                held = [self.replica_refs(node, info).get("refs/heads/main") for node in self.nodes]
                self.assertEqual([held[0], held[2]], [tip, tip])
                # It has the write wholly, or nothing of it; and soon it has it and is known to.
                self.assertIn(held[1], (tip, None))
                eventually(lambda: self.knows(path, "two"), 60, "the record of what the node has")
                self.assertEqual(self.replica_refs(self.nodes[1], info)["refs/heads/main"], tip)
                Git().fsck(self.nodes[1].path(info["replica_path"]))

    def knows(self, path, name):
        generations, now = self.generations(self.first, path)
        return generations[name] == now

    def last_change(self, router, index):
        """What the router's log said last of the node."""
        port = "127.0.0.1:%d" % self.nodes[index].nng_port
        changes = [line for line in router.log_text().splitlines() if port in line and " node." in line]
        return changes[-1].split()[2] if changes else None


class Outside(Cluster):
    def test_wrong_token(self):
        stranger = Router(self.metadata, new_token(), self.nodes)
        self.addCleanup(stranger.clean)
        stranger.is_ready = stranger.is_there
        stranger.start()
        self.assertIn("every node of virtual storage 'default'", stranger.http("GET", "/readyz").body.decode())
        result = stranger.cli("repo", "create", "a/b", check=False)
        self.assertNotEqual(result.returncode, 0)
        eventually(lambda: "the cluster token is missing or not that of this cluster" in stranger.log_text(), 60,
                   "the reason in the log")
        for node in self.nodes:
            self.assertEqual(sorted(node.files()), ["gitstead-storage"])

    def test_two_nodes_of_one_name(self):
        """The second one has another disk: it is not served, whoever asks is told why, and the first one goes on."""
        router = self.add_router()
        url = router.create("a/b")
        second = self.placed(Node(self.metadata, self.cluster_token, "one"))
        self.addCleanup(second.clean)
        second.launch()  # it is not ready, and stays so
        eventually(lambda: "node.report.refused" in second.log_text(), 60, "the refusal in the second node's log")
        lost = Router(self.metadata, self.cluster_token, [second] + self.nodes[1:])
        self.addCleanup(lost.clean)
        lost.is_ready = lost.is_there
        lost.start()
        eventually(lambda: "storage 'one' is not served" in lost.log_text(), 60, "the reason in the router's log")
        self.commit()
        git = Git(router.new_token("write"))
        git("push", "-q", url, "main", cwd=self.work)
        generations, now = self.generations(router, "a/b")
        self.assertEqual(generations, {name: now for name in NODES})
        self.assertEqual(sorted(second.files()), ["gitstead-storage"])

    def test_unknown_storage(self):
        self.nodes[1].stop()
        self.nodes[1].name = "otw"
        self.nodes[1].launch()  # with the disk of another name it is not ready
        router = Router(self.metadata, self.cluster_token, self.nodes)
        self.addCleanup(router.clean)
        router.start()
        eventually(lambda: "exports no storage 'two' (it exports: 'otw')" in router.log_text(), 60, "the reason in the log")
        router.create("a/b")
        self.assertEqual([one["storage"] for one in router.info("a/b")["replicas"] if one["storage"] == "two"], [])

    def test_clients_may_not(self):
        """Not even an administrator, whose token is good for everything else."""
        admin = self.nodes[0].new_token("admin")
        for env in ({}, {"GITSTEAD_TOKEN": admin}):
            result = self.nodes[0].cli("call", "Node/Exists", '{"target": {"storage": "one", "replica_path": "YQ=="}}',
                                       env=env, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("cluster token", result.stderr)

    def test_no_majority(self):
        router = self.add_router()
        url = router.create("a/b")
        git = Git(router.new_token("write"))
        self.commit()
        git("push", "-q", url, "main", cwd=self.work)
        for node in self.nodes[:2]:
            node.kill()
        self.commit()
        eventually(lambda: git.run("push", url, "main", cwd=self.work).returncode != 0, 30)
        git.fails("push", url, "main", cwd=self.work)
        eventually(lambda: "code=UNAVAILABLE" in router.log_text(), 60, "the reason in the log")
        git("ls-remote", url)
        for node in self.nodes[:2]:
            node.start()
        eventually(lambda: git.run("push", url, "main", cwd=self.work).returncode == 0, 60, "a push after their return")
        self.settled()

    def test_creation_that_fails_leaves_nothing(self):
        router = self.add_router()
        folder = os.path.join(self.nodes[2].root, "@r")
        with open(folder, "w") as out:
            out.write("in the way")
        result = router.cli("repo", "create", "a/b", check=False)
        self.assertNotEqual(result.returncode, 0)
        for node in self.nodes[:2]:
            self.assertEqual([path for path in node.files() if "trash" not in path], ["gitstead-storage"])
        os.unlink(folder)
        router.create("a/b")


class HungDisk(Cluster):
    """Nodes that answer everything but do not come to an end with their disk."""

    def setUp(self):
        super().setUp()
        for node in self.nodes:
            node.stop()
            node.storage_options["layers"] = [{"plugin": "delay", "slots": ["commit"], "time": "1h"}]
            node.server_options["stage_lease"] = "5s"  # longer than the call, which has to be over
            node.start()

    def test_push_ends(self):
        router = self.add_router(consistency="direct", copies=1, min_copies=1,
                                 remote_options={"call_timeout": "2s", "probe_timeout": "1s"})
        url = router.create("a/b")
        git = Git(router.new_token("write"))
        tip = self.commit()
        git.run("push", "-q", url, "main", cwd=self.work)
        eventually(lambda: "did not bring a write to its end" in router.log_text(), 60, "the reason in the log")
        # It was decided: the node applies it as soon as its disk lets it.
        eventually(lambda: git.run("ls-remote", url, "main", cwd=self.work).stdout.decode().startswith(tip), 60,
                   "the push's coming to its end")
        self.settled()


DYING_GIT = """#!/bin/sh
# The first one that serves a fetch kills its server in the middle of the answer.
case " $* " in *" upload-pack "*)
  if mkdir %(flag)s 2>/dev/null; then
    cat >/dev/null
    head -c 120000 /dev/zero  # more than the pipe takes in, so that a part of it is on its way
    kill -9 $PPID
    exit 1
  fi ;;
esac
exec %(git)s "$@"
"""


class DyingNode(Cluster):
    """A node dies in the middle of an answer. What is not longer than a router keeps in hand comes from another one."""

    def setUp(self):
        super().setUp()
        self.flag, program = os.path.join(self.scratch(), "died"), os.path.join(self.scratch(), "git")
        with open(program, "w") as out:
            out.write(DYING_GIT % {"flag": self.flag, "git": shutil.which("git")})
        os.chmod(program, 0o755)
        os.mkdir(self.flag)  # nobody dies yet
        for node in self.nodes:
            node.stop()
            node.storage_options["git"] = program
            node.start()

    def test_another_one_answers(self):
        router = self.add_router()
        url = router.create("a/b")
        git = Git(router.new_token("write"))
        tip = self.commit()
        git("push", "-q", url, "main", cwd=self.work)
        for n in range(2):
            os.rmdir(self.flag)
            clone = os.path.join(self.scratch(), "clone")
            git("clone", "-q", url, clone)
            self.assertEqual(git("rev-parse", "main", cwd=clone), tip)
            git.fsck(clone)
            dead = [node for node in self.nodes if not node.is_there()]
            self.assertEqual(len(dead), 1, "who served first died of it")
            dead[0].kill()
            dead[0].start()


class Changes(Cluster):
    """What a call writes is computed on one node and stands on all."""

    WHO = {"name": "Ann", "email": "ann@example.org", "seconds": 1700000000, "zone": "+0100"}

    def test_calls_that_write(self):
        router = self.add_router()
        router.create("a/b")

        def call(method, data=None, branch="main", **rest):
            request = dict({"repository": {"path": "a/b"}, "message": method,
                            "write": {"branch": branch, "committer": self.WHO, **rest.pop("write", {})}}, **rest)
            return json.loads(router.cli("call", "Change/" + method, json.dumps(request), input=data, text=False).stdout)

        lines = ["%d\n" % n for n in range(30)]
        first = call("CommitFiles", actions=[{"kind": "FILE_CREATE", "path": "f", "content": "".join(lines)}])
        self.assertEqual(sorted(first["receipt"]["replicas"]), sorted(NODES))
        call("CommitFiles", branch="side", write={"start": "main"},
             actions=[{"kind": "FILE_UPDATE", "path": "f", "content": "".join(lines[:-1])}])
        call("CommitFiles", actions=[{"kind": "FILE_UPDATE", "path": "f", "content": "".join(lines[1:])}])
        dry = call("Merge", source="side", write={"dry_run": True})
        self.assertEqual(dry["outcome"], "CHANGE_DRY_RUN")
        self.settled()
        done = call("Merge", source="side", write={"expected_old_oid": dry["old_oid"], "expected_new_oid": dry["new_oid"]})
        self.assertEqual((done["outcome"], done["new_oid"]), ("CHANGE_DONE", dry["new_oid"]))
        big = os.urandom(3000000)
        call("CommitStream", data=big, actions=[{"kind": "FILE_CREATE", "path": "big", "stream_bytes": len(big)}])
        refs = self.assert_equal_replicas(router, "a/b")
        folder = self.nodes[2].path(router.info("a/b")["replica_path"])
        self.assertEqual(Git().run("cat-file", "blob", refs["refs/heads/main"] + ":big", cwd=folder).stdout, big)
        self.settled()


gitstead_test.main()
