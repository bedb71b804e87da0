# SPDX-License-Identifier: Apache-2.0
"""ChangeService: what the server commits, merges and tags is what stock git makes of the same, id by id; bad input gets
a clear error; nothing is left behind by what fails or only looks."""
import http.client
import json
import os
import random
import re
import subprocess
import threading

import gitstead_test
from change_case import ChangeTestCase, OTHER, WHO, action, raw
from gitstead_test import ZERO, clean_environment


class Large(ChangeTestCase):
    options = {"nng": {"max_message": "64MiB"}, "server": {"max_message": "64MiB"}}

    def test_a_large_file_goes_through_a_temporary_file(self):
        data = random.Random(5).randbytes(36 << 20)
        reply = self.commit(action("CREATE", "big", content=data), action("CREATE", "small", content=b"x"))
        found = self.git.run("cat-file", "blob", reply["new_oid"] + ":big", cwd=self.folder).stdout
        self.assertEqual(found, data)
        self.settled()


class Streams(ChangeTestCase):
    """Content that comes as bulk bytes beside the request."""

    def stream(self, data, *actions, check=True, **rest):
        request = dict({"repository": self.repository, "write": self.write(), "message": "m", "actions": list(actions)}, **rest)
        return self.server.cli("call", "Change/CommitStream", json.dumps(request), check=check, input=data, text=False)

    def test_files_of_any_size(self):
        big = random.Random(6).randbytes(20 << 20)
        reply = json.loads(self.stream(b"first" + big + b"last", action("CREATE", "a", stream_bytes=5),
                                       action("CREATE", "empty"), action("CREATE", "big", stream_bytes=len(big)),
                                       action("CREATE", "inline", content=b"x"), action("CREATE", "z", stream_bytes=4)).stdout)
        self.assertEqual(reply["outcome"], "CHANGE_DONE")
        for name, data in (("a", b"first"), ("empty", b""), ("big", big), ("inline", b"x"), ("z", b"last")):
            self.assertEqual(self.git.run("cat-file", "blob", "main:" + name, cwd=self.folder).stdout, data)
        self.settled()

    def test_bytes_that_do_not_fit(self):
        self.commit(action("CREATE", "there"))
        before = self.server.files()
        for data, word, actions in (
                (b"12", "are asked for", [action("CREATE", "a", stream_bytes=3)]),
                (b"1234", "more bulk bytes", [action("CREATE", "a", stream_bytes=3)]),
                (b"", "are asked for", [action("CREATE", "a", stream_bytes=1)]),
                (b"123", "only one", [action("CREATE", "a", stream_bytes=3, content=b"x")]),
                (b"1", "at most", [action("CREATE", "a", stream_bytes=(256 << 20) + 1)]),
                (b"x" * 1000000, "already", [action("CREATE", "there", stream_bytes=1000000)])):
            result = self.stream(data, *actions, check=False)
            self.assertEqual(result.returncode, 1, (data[:10], result.stdout))
            self.assertIn(word, result.stderr.decode())
            self.server.assert_settled(before)
        self.refused("CommitFiles", "INVALID_ARGUMENT", "CommitStream", write=self.write(), message="m",
                     actions=[action("CREATE", "a", stream_bytes=3)])
        self.settled()


class Bound(ChangeTestCase):
    options = {"storage": {"max_change_bytes": "10KiB"}}

    def test_content_over_the_limit(self):
        self.refused("CommitFiles", "OUT_OF_RANGE", "10240 bytes", write=self.write(), message="m",
                     actions=[action("CREATE", "a", content=b"x" * 6000), action("CREATE", "b", content=b"y" * 6000)])
        self.commit(action("CREATE", "a", content=b"x" * 6000))
        self.settled()


class Files(ChangeTestCase):
    def test_first_commit_and_every_action_as_git_makes_them(self):
        first = self.commit(action("CREATE", "README", content=b"hello\n"),
                            action("CREATE", "dir/run.sh", content=b"#!/bin/sh\n", mode=0o100755),
                            action("CREATE", "dir/link", content=b"run.sh", mode=0o120000),
                            action("CREATE", b"caf\xe9/na\xefve", content=b"\0\xff"), message="First")
        self.assertEqual(first["outcome"], "CHANGE_DONE")
        self.assertEqual(first["old_oid"], ZERO)
        work = os.path.join(self.work, "mine")
        self.git("init", "-q", "-b", "main", work)

        def put(path, data, mode=0o644):
            full = os.path.join(os.fsencode(work), path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as out:
                out.write(data)
            os.chmod(full, mode)

        def commit(message, author=WHO, committer=None):
            self.git("add", "-A", cwd=work)
            self.git("commit", "-q", "-m", message, cwd=work, env=self.env(author, committer))
            return self.git("rev-parse", "HEAD", cwd=work)

        put(b"README", b"hello\n")
        put(b"dir/run.sh", b"#!/bin/sh\n", 0o755)
        os.symlink("run.sh", os.path.join(work, "dir/link"))
        put(b"caf\xe9/na\xefve", b"\0\xff")
        self.assertEqual(first["new_oid"], commit("First"))
        self.assertEqual(first["tree"], self.git("rev-parse", "HEAD^{tree}", cwd=work))

        blob = self.git("rev-parse", "HEAD:README", cwd=work)
        second = self.commit(action("UPDATE", "README", content=b"more\n", expected_oid=blob),
                             action("MOVE", "tools", from_path="dir"),
                             action("CHMOD", "tools/run.sh", mode=0o100644),
                             action("PUT", "tools/run.sh", content=b"new\n"),
                             action("PUT", "a/b/c/d", content=b"deep"),
                             action("PUT", "copy", oid=blob),
                             action("SUBMODULE", "lib", oid="1" * 40),
                             action("DELETE", b"caf\xe9/na\xefve"),
                             message="Second\n\nwith a body", author=OTHER, expected_old_oid=first["new_oid"])
        put(b"README", b"more\n")
        os.rename(os.path.join(work, "dir"), os.path.join(work, "tools"))
        put(b"tools/run.sh", b"new\n", 0o644)
        put(b"a/b/c/d", b"deep")
        put(b"copy", b"hello\n")
        os.remove(os.path.join(os.fsencode(work), b"caf\xe9/na\xefve"))
        self.git("add", "-A", cwd=work)
        self.git("update-index", "--add", "--cacheinfo", "160000," + "1" * 40 + ",lib", cwd=work)
        self.git("commit", "-q", "-m", "Second\n\nwith a body", cwd=work, env=self.env(OTHER, WHO))
        self.assertEqual(second["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        self.assertEqual(self.tip(), second["new_oid"])
        # A submodule is moved by the same action.
        third = self.commit(action("SUBMODULE", "lib", oid="2" * 40), action("DELETE_FOLDER", "a"), message="Bump")
        self.git("update-index", "--cacheinfo", "160000," + "2" * 40 + ",lib", cwd=work)
        self.git("rm", "-rq", "--cached", "a", cwd=work)
        self.git("commit", "-q", "-m", "Bump", cwd=work, env=self.env())
        self.assertEqual(third["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        self.settled()

    def test_random_edits_give_the_trees_that_git_gives(self):
        chance = random.Random(20)
        names = [b"a", b"a.b", b"a-b", b"a0", b"B", b"b", b"\xff", "ä".encode(), b"-x", b"lib"]
        files = {}
        tip = ""
        index = os.path.join(self.work, "index")
        self.git("init", "-q", "--bare", os.path.join(self.work, "plain.git"))
        plain = {"GIT_DIR": os.path.join(self.work, "plain.git"), "GIT_INDEX_FILE": index}
        for step in range(25):
            actions = []
            for _ in range(chance.randrange(1, 12)):
                if files and chance.random() < 0.3:
                    path = chance.choice(sorted(files))
                    actions.append(action("DELETE", path))
                    del files[path]
                    continue
                path = b"/".join(chance.choice(names) for _ in range(chance.randrange(1, 4)))
                if any(path.startswith(other + b"/") or other.startswith(path + b"/") for other in files):
                    continue
                data = b"%d\n" % chance.randrange(5)
                mode = chance.choice([0o100644, 0o100755])
                actions.append(action("PUT", path, content=data, mode=mode))
                files[path] = (mode, data)
            if not actions:
                continue
            reply = self.commit(*actions, allow_empty=True)
            if os.path.exists(index):
                os.remove(index)
            rows = b""
            for path, (mode, data) in files.items():
                oid = self.git("hash-object", "-w", "--stdin", env=plain, input=data)
                rows += b"%o %s\t%s\0" % (mode, oid.encode(), path)
            self.git("update-index", "-z", "--add", "--index-info", env=plain, input=rows)
            self.assertEqual(reply["tree"], self.git("write-tree", env=plain), "step %d" % step)
            tip = reply["new_oid"]
        self.assertEqual(self.tip(), tip)
        self.settled()

    def test_a_dry_run_shows_and_writes_nothing_then_the_same_is_done(self):
        self.commit(action("CREATE", "a", content=b"1"))
        before = self.server.files()
        dry = self.commit(action("UPDATE", "a", content=b"2"), dry_run=True)
        self.assertEqual(dry["outcome"], "CHANGE_DRY_RUN")
        self.assertNotIn("receipt", dry)
        self.server.assert_settled(before)
        done = self.commit(action("UPDATE", "a", content=b"2"), expected_old_oid=dry["old_oid"],
                           expected_new_oid=dry["new_oid"])
        self.assertEqual(done["outcome"], "CHANGE_DONE")
        self.assertEqual(done["new_oid"], dry["new_oid"])
        self.assertEqual(len(done["receipt"]["transaction_id"]), 32)
        again = self.commit(action("UPDATE", "a", content=b"2"))
        self.assertEqual(again["outcome"], "CHANGE_UNCHANGED")
        self.assertEqual(self.commit(allow_empty=True)["outcome"], "CHANGE_DONE")
        self.refused("CommitFiles", "FAILED_PRECONDITION", "as expected", message="m",
                     write=self.write(expected_new_oid="1" * 40), actions=[action("CREATE", "x")])
        self.settled()

    def test_a_branch_that_starts_elsewhere(self):
        first = self.commit(action("CREATE", "a", content=b"1"))["new_oid"]
        second = self.commit(action("UPDATE", "a", content=b"2"))["new_oid"]
        topic = self.commit(action("CREATE", "b", content=b"x"), branch="topic", start=first)
        self.assertEqual(self.git("rev-parse", topic["new_oid"] + "^", cwd=self.folder), first)
        self.refused("CommitFiles", "FAILED_PRECONDITION", "write.force", message="m",
                     write=self.write("topic", start="main"), actions=[action("CREATE", "c")])
        moved = self.commit(action("CREATE", "c"), branch="topic", start="main", force=True)
        self.assertEqual(self.git("rev-parse", moved["new_oid"] + "^", cwd=self.folder), second)
        trial = self.commit(action("CREATE", "c"), branch="refs/trial/1", start="main")
        self.assertEqual(self.tip("refs/trial/1"), trial["new_oid"])
        orphan = self.commit(action("CREATE", "page"), branch="pages", orphan=True)
        self.assertEqual(self.git("rev-list", "--count", orphan["new_oid"], cwd=self.folder), "1")
        self.settled()


class BadFiles(ChangeTestCase):
    def setUp(self):
        super().setUp()
        self.first = self.commit(action("CREATE", "file", content=b"1"), action("CREATE", "dir/x", content=b"2"),
                                 action("SUBMODULE", "sub", oid="3" * 40))["new_oid"]

    ACTIONS = [
        ("ALREADY_EXISTS", "actions[0] 'file'", [action("CREATE", "file")]),
        ("ALREADY_EXISTS", "actions[1] 'new'", [action("CREATE", "new"), action("CREATE", "new")]),
        ("NOT_FOUND", "actions[0] 'absent'", [action("UPDATE", "absent")]),
        ("NOT_FOUND", "actions[0] 'absent'", [action("DELETE", "absent")]),
        ("NOT_FOUND", "actions[1] 'file'", [action("DELETE", "file"), action("UPDATE", "file")]),
        ("NOT_FOUND", "actions[0] 'absent'", [action("CHMOD", "absent", mode=0o100755)]),
        ("NOT_FOUND", "actions[0] 'to'", [action("MOVE", "to", from_path="absent")]),
        ("ALREADY_EXISTS", "actions[0] 'dir'", [action("MOVE", "dir", from_path="file")]),
        ("INVALID_ARGUMENT", "actions[0] 'dir/in'", [action("MOVE", "dir/in", from_path="dir")]),
        ("ALREADY_EXISTS", "is no folder", [action("CREATE", "file/below")]),
        ("INVALID_ARGUMENT", "folder", [action("PUT", "dir")]),
        ("ALREADY_EXISTS", "is a folder", [action("SUBMODULE", "dir", oid="1" * 40)]),
        ("ALREADY_EXISTS", "is a file", [action("SUBMODULE", "file", oid="1" * 40)]),
        ("INVALID_ARGUMENT", "FILE_DELETE_FOLDER", [action("DELETE", "dir")]),
        ("INVALID_ARGUMENT", "is no folder", [action("DELETE_FOLDER", "file")]),
        ("INVALID_ARGUMENT", "submodule", [action("UPDATE", "sub")]),
        ("INVALID_ARGUMENT", "mode 100600", [action("CREATE", "m", mode=0o100600)]),
        ("INVALID_ARGUMENT", "mode 0", [action("CHMOD", "file")]),
        ("INVALID_ARGUMENT", "oid", [action("CREATE", "m", oid="zz")]),
        ("NOT_FOUND", "actions[0]", [action("CREATE", "m", oid="1" * 40)]),
        ("INVALID_ARGUMENT", "only one", [action("CREATE", "m", oid="1" * 40, content=b"x")]),
        ("INVALID_ARGUMENT", "zeros", [action("SUBMODULE", "m", oid=ZERO)]),
        ("FAILED_PRECONDITION", "as expected", [action("UPDATE", "file", expected_oid="1" * 40)]),
        ("INVALID_ARGUMENT", "kind", [{"path": "x"}]),
        ("INVALID_ARGUMENT", "symbolic link", [action("CREATE", "x/.GitModules", mode=0o120000)]),
    ]

    PATHS = [b"", b"/abs", b"a//b", b"a/", b".", b"..", b"a/../b", b"../up", b"./x", b".git", b".git/config", b"a/.GIT/x",
             b"git~1", b"GIT~1/x", b".git ", b".git.", b".git. .", b".git:stream", b"a\\.git", b"a\\.git\\x", b"nul\0x",
             b".g\xe2\x80\x8cit", b"\xef\xbb\xbf.git", b".g\xe2\x80\xaeIT/x", b"x" * 4097, b"/".join([b"d"] * 257)]

    def test_actions_that_collide(self):
        for code, word, actions in self.ACTIONS:
            with self.subTest(word=word, actions=actions):
                self.refused("CommitFiles", code, word, write=self.write(), message="m", actions=actions)
        self.assertEqual(self.tip(), self.first)
        self.settled()

    def test_paths_that_escape(self):
        for path in self.PATHS:
            with self.subTest(path=path[:40]):
                self.refused("CommitFiles", "INVALID_ARGUMENT", "actions[0]", write=self.write(), message="m",
                             actions=[action("CREATE", path)])
        self.refused("CommitFiles", "INVALID_ARGUMENT", "from_path", write=self.write(), message="m",
                     actions=[action("MOVE", "x", from_path="../file")])
        # Not every name with git in it is meant.
        fine = [b".gitignore", b".github/x", b"git", b"git~2", b".gitx", b"..git", b"a.git", b"...", b"git~1x"]
        self.commit(*[action("CREATE", path) for path in fine])
        self.settled()

    def test_who_and_when(self):
        def who(**change):
            return dict(WHO, **change)
        cases = [
            ("write.committer:", None), ("write.committer.name", who(name="")), ("write.committer.email", who(email="")),
            ("write.committer.name", who(name="a<b")), ("write.committer.email", who(email="a>b")),
            ("write.committer.name", who(name="a\nb")), ("write.committer.name", who(name=" a")),
            ("write.committer.email", who(email=raw(b"a\0b"))),
            ("write.committer.seconds", who(seconds=-1)), ("write.committer.zone", who(zone="")),
            ("write.committer.zone", who(zone="UTC")), ("write.committer.zone", who(zone="+2500")),
            ("write.committer.zone", who(zone="+0160")), ("write.committer.zone", who(zone="0100")),
            ("write.committer.zone", who(zone="+01000")),
        ]
        for field, user in cases:
            with self.subTest(field=field, user=user):
                write = {"branch": "main"}
                if user is not None:
                    write["committer"] = user
                self.refused("CommitFiles", "INVALID_ARGUMENT", field, write=write, message="m",
                             actions=[action("CREATE", "x")])
        self.refused("CommitFiles", "INVALID_ARGUMENT", "write.author.zone", message="m",
                     write=self.write(author=who(zone="x")), actions=[])
        self.settled()

    def test_where_to(self):
        create = [action("CREATE", "x")]
        cases = [
            ("INVALID_ARGUMENT", "write:", None, {}),
            ("INVALID_ARGUMENT", "message", self.write(), {"message": ""}),
            ("INVALID_ARGUMENT", "message", self.write(), {"message": raw(b"a\0b")}),
            ("INVALID_ARGUMENT", "message", self.write(), {"message": "x" * ((512 << 10) + 1)}),
            ("INVALID_ARGUMENT", "write.branch", self.write(""), {}),
            ("INVALID_ARGUMENT", "write.branch", self.write("a..b"), {}),
            ("INVALID_ARGUMENT", "write.branch", self.write("a\nb"), {}),
            ("INVALID_ARGUMENT", "write.branch", self.write(raw(b"a\0b")), {}),
            ("INVALID_ARGUMENT", "write.branch", self.write("refs/heads/x.lock"), {}),
            ("PERMISSION_DENIED", "write.branch", self.write("refs/gitstead/x"), {}),
            ("NOT_FOUND", "write.start", self.write("absent"), {}),
            ("NOT_FOUND", "write.start", self.write("new", start="absent"), {}),
            ("INVALID_ARGUMENT", "write.start", self.write("new", start="--upload-pack=x"), {}),
            ("INVALID_ARGUMENT", "write.start", self.write("new", start="a..b"), {}),
            ("INVALID_ARGUMENT", "write.expected_old_oid", self.write(expected_old_oid="xyz"), {}),
            ("FAILED_PRECONDITION", "is at", self.write(expected_old_oid="1" * 40), {}),
            ("FAILED_PRECONDITION", "is at", self.write(expected_old_oid=ZERO), {}),
            ("FAILED_PRECONDITION", "does not exist", self.write("none", expected_old_oid="1" * 40, start="main"), {}),
            ("FAILED_PRECONDITION", "orphan", self.write(), {"orphan": True}),
            ("FAILED_PRECONDITION", "refs/heads/main", self.write("main/below", start="main"), {}),
        ]
        for code, word, write, more in cases:
            with self.subTest(word=word, write=write):
                request = dict({"message": "m", "actions": create}, **more)
                if write is not None:
                    request["write"] = write
                self.refused("CommitFiles", code, word, **request)
        self.assertEqual(self.tip(), self.first)
        self.settled()


class Damage(ChangeTestCase):
    def test_what_is_lost_is_named(self):
        self.commit(action("CREATE", "dir/x", content=b"1"))
        tree = self.git("rev-parse", "main:dir", cwd=self.folder)
        self.commit(action("CREATE", "other", content=b"1"))
        self.commit(action("CREATE", "more", content=b"1"), branch="side", start="main~1")
        packs = os.path.join(self.folder, "objects/pack")
        lost = next(name for name in os.listdir(packs) if name.endswith(".idx") and tree in self.git(
            "show-index", cwd=self.folder, input=open(os.path.join(packs, name), "rb").read()))
        self.server.stop()
        os.rename(os.path.join(packs, lost), os.path.join(self.work, lost))
        self.server.start()
        code, message = self.attempt("CommitFiles", {"write": self.write(), "message": "m",
                                                     "actions": [action("UPDATE", "dir/x", content=b"2")]})
        self.assertEqual(code, "DATA_LOSS", message)
        self.assertIn(tree, message)
        # A new commit must have all that it reaches: so says the write, and so does a dry run. Elsewhere it goes on.
        said = [self.attempt("CommitFiles", {"write": self.write(dry_run=dry_run), "message": "m", "actions": [action("DELETE", "other")]})
                for dry_run in (True, False)]
        for code, message in said:
            self.assertEqual(code, "INVALID_ARGUMENT", message)
            self.assertIn(tree, message)
        self.server.create("elsewhere")
        self.server.call("Change/CommitFiles", {"repository": {"path": "elsewhere"}, "write": self.write(), "message": "m",
                                                "actions": [action("CREATE", "x")]})
        self.server.stop()
        os.rename(os.path.join(self.work, lost), os.path.join(packs, lost))
        self.server.start()
        self.commit(action("UPDATE", "dir/x", content=b"2"))
        self.settled()


class Processes(ChangeTestCase):
    def started(self):
        text = self.server.http("GET", "/metrics", headers=self.server.bearer()).body.decode()
        return [line for line in text.splitlines() if line.startswith("gitstead_storage_children_total")]

    def test_common_changes_start_none(self):
        first = self.commit(action("CREATE", "a/x", content=b"1"), action("CREATE", "b/y", content=b"1"),
                            action("CREATE", ".gitignore", content=b"*.o\n"), action("CREATE", ".github/x"),
                            action("CREATE", ".gitattributes", content=b"* text\n"))["new_oid"]
        before = self.started()
        self.assertTrue(before)
        self.commit(action("UPDATE", "a/x", content=b"2"))
        side = self.commit(action("UPDATE", "b/y", content=b"2"), action("CREATE", "b/z"), branch="side", start=first)["new_oid"]
        self.call("CreateTag", tag="t", revision="main", message="m", tagger=WHO)
        self.call("UpdateBranch", branch="side", revision="main", force=True)
        self.call("UpdateBranch", branch="side", revision=side, force=True)
        self.call("Merge", write=self.write("forward", start=first), source="main", style="MERGE_FAST_FORWARD_ONLY")
        merged = self.call("Merge", write=self.write(), source="side", message="Merge")
        picked = self.call("CherryPick", write=self.write("picked", start="main~1"), commits=["side"])
        self.assertEqual(picked["tree"], merged["tree"])
        self.call("Revert", write=self.write(), commits=["main"], mainline=1)
        self.assertEqual(self.started(), before)
        work = self.clone()
        self.git("checkout", "-q", merged["new_oid"] + "^1", cwd=work)
        self.git("merge", "-q", "--no-ff", "-m", "Merge", "origin/side", cwd=work, env=self.env())
        self.assertEqual(merged["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        self.settled()


class Races(ChangeTestCase):
    """Eight clients want the same at once: one gets it, the others are told so, and nothing is left."""

    CLIENTS = 8
    STEPS = 3
    LOST = {"FAILED_PRECONDITION", "ABORTED", "ALREADY_EXISTS", "NOT_FOUND"}

    def race(self, method, make):
        """make(client) is each one's request. Returns what the winner got."""
        outcomes = [None] * self.CLIENTS
        barrier = threading.Barrier(self.CLIENTS)
        requests = [make(client) for client in range(self.CLIENTS)]
        self.server.bearer()

        attempt = self.attempt_stream if method == "CommitStream" else self.attempt

        def run(client):
            barrier.wait()
            outcomes[client] = attempt(method, requests[client])

        threads = [threading.Thread(target=run, args=(client,)) for client in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [reply for code, reply in outcomes if code == "OK"]
        self.assertEqual(len(won), 1, "%s: %s" % (method, outcomes))
        self.assertEqual(won[0]["outcome"], "CHANGE_DONE")
        self.assertLessEqual({code for code, _ in outcomes} - {"OK"}, self.LOST, outcomes)
        self.server.assert_settled()
        return won[0]

    def attempt_stream(self, method, request):
        """The same for a call with bulk bytes, which here are its first file's."""
        data = b"x" * request["actions"][0]["stream_bytes"]
        done = self.server.cli("call", "Change/" + method, json.dumps(dict(request, repository=self.repository)), "--json", check=False,
                               input=data, text=False)
        found = json.loads(done.stdout if done.returncode == 0 else done.stderr)
        return ("OK", found) if done.returncode == 0 else (found["code"], found["message"])

    def who(self, client):
        return dict(WHO, name="Client %d" % client)

    def test_every_call_has_one_winner(self):
        self.commit(*[action("CREATE", "f%d" % n, content=b"1\n2\n3\n4\n5\n6\n7\n8\n9\n") for n in range(4)])
        base = self.tip()
        for client in range(self.CLIENTS):
            self.commit(action("UPDATE", "f1", content=b"c%d\n2\n3\n4\n5\n6\n7\n8\n9\n" % client),
                        branch="side%d" % client, start=base)
        self.commit(action("UPDATE", "f1", content=b"1\n2\n3\n4\n5\n6\n7\n8\nX\n"))
        main = self.tip()
        patches = {}
        for client in range(self.CLIENTS):
            patches[client] = self.git("format-patch", "--stdout", "-1", "side%d" % client, cwd=self.folder)

        def write(client, tip, **rest):
            return dict({"branch": "raced", "committer": self.who(client), "expected_old_oid": tip}, **rest)

        def side(client):
            return "side%d" % client

        calls = {
            "CommitFiles": lambda tip: lambda client: {
                "write": write(client, tip), "message": "m", "actions": [action("PUT", "g", content=b"%d" % client)]},
            "CommitStream": lambda tip: lambda client: {
                "write": write(client, tip), "message": "m", "actions": [action("PUT", "g", stream_bytes=100000 + client)]},
            "Merge": lambda tip: lambda client: {"write": write(client, tip), "source": side(client), "message": "m"},
            "CherryPick": lambda tip: lambda client: {"write": write(client, tip), "commits": [side(client)]},
            "Revert": lambda tip: lambda client: {"write": write(client, tip), "commits": [tip]},
            "ApplyPatch": lambda tip: lambda client: {"write": write(client, tip), "patch": patches[client]},
            "Rebase": lambda tip: lambda client: {"write": write(client, tip), "onto": side(client)},
            "UpdateBranch": lambda tip: lambda client: {"branch": "raced", "revision": side(client), "force": True,
                                                        "expected_old_oid": tip},
        }
        for method, make in calls.items():
            for step in range(self.STEPS):
                # The branch stands again where each of the calls can be made.
                self.call("CreateBranch", branch="raced", revision=main)
                won = self.race(method, make(main))
                self.assertEqual(self.tip("refs/heads/raced"), won["new_oid"], method)
                self.call("DeleteBranch", branch="raced", expected_old_oid=won["new_oid"])
        for step in range(self.STEPS):
            won = self.race("CreateBranch", lambda client: {"branch": "new", "revision": side(client)})
            self.assertEqual(self.tip("refs/heads/new"), won["new_oid"])
            self.race("DeleteBranch", lambda client: {"branch": "new", "expected_old_oid": won["new_oid"]})
            won = self.race("CreateTag", lambda client: {"tag": "t", "revision": side(client), "message": "m",
                                                         "tagger": self.who(client)})
            self.assertEqual(self.tip("refs/tags/t"), won["new_oid"])
            self.race("DeleteTag", lambda client: {"tag": "t", "expected_old_oid": won["new_oid"]})
        self.settled()
        # A new call has to come here, too.
        known = {method["name"] for method in self.server.call("Server/Methods")["methods"]
                 if method["name"].startswith("Change/") and method["operation"] == "MUTATOR"}
        self.assertEqual(known, {"Change/" + name for name in (*calls, "CreateBranch", "DeleteBranch", "CreateTag", "DeleteTag")})

    def test_clients_that_try_again_all_get_through(self):
        """Without an expected value each writes on what is there; who loses tries again; no commit is lost."""
        self.commit(action("CREATE", "first"))

        def run(client):
            for step in range(5):
                while True:
                    code, _ = self.attempt("CommitFiles", {
                        "write": {"branch": "main", "committer": self.who(client)}, "message": "m",
                        "actions": [action("CREATE", "c%d-%d" % (client, step))]})
                    if code == "OK":
                        break
                    if code not in ("FAILED_PRECONDITION", "ABORTED"):
                        odd.append(code)
                        return

        odd = []
        threads = [threading.Thread(target=run, args=(client,)) for client in range(self.CLIENTS)]
        self.server.bearer()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(odd, [])
        self.assertEqual(len(self.git("ls-tree", "--name-only", "main", cwd=self.folder).split()), 1 + 5 * self.CLIENTS)
        self.assertEqual(self.git("rev-list", "--count", "main", cwd=self.folder), str(1 + 5 * self.CLIENTS))
        self.settled()


class Crashes(ChangeTestCase):
    def dies_of(self, method, **request):
        """The call ends the server. By HTTP: the program would try again for as long as a server takes to come back."""
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.attempt(method, dict(request, write=self.write()))
        self.assertEqual(self.server.process.wait(60 * gitstead_test.SLOW), -9)
        self.server.process = None

    def test_killed_before_and_after_the_decision(self):
        self.commit(action("CREATE", "a", content=b"1"))
        for point, lands in (("push.voted", False), ("commit.objects", True)):
            before = self.tip()
            self.server.stop()
            self.server.start(crash_at=point)
            self.dies_of("CommitFiles", message=point, actions=[action("PUT", point, content=b"x")])
            self.server.start()
            gitstead_test.eventually(lambda: (self.tip() != before) == lands, 60, "the outcome of the write")
            self.settled()
            # What the call is repeated with is the caller's own: it can go on.
            self.assertEqual(self.commit(action("PUT", "after-" + point, content=b"y"))["outcome"], "CHANGE_DONE")
        self.settled()

    def test_killed_while_git_merges(self):
        lines = [b"%d\n" % n for n in range(20)]
        self.commit(action("CREATE", "a", content=b"".join(lines)))
        self.commit(action("UPDATE", "a", content=b"".join(lines[:-1])), branch="side", start="main")
        self.commit(action("UPDATE", "a", content=b"".join(lines[1:])))
        before = self.tip()
        self.server.stop()
        self.server.start(crash_at="change.merged")
        self.dies_of("Merge", message="m", source="side")
        self.assertTrue(self.server.leftovers())
        self.server.start()
        self.assertEqual(self.tip(), before)
        self.settled()
        self.assertEqual(self.call("Merge", write=self.write(), message="m", source="side")["outcome"], "CHANGE_DONE")


class Documentation(ChangeTestCase):
    def test_the_examples_of_the_page_are_true(self):
        with open(os.path.join(gitstead_test.SOURCE, "docs/api/change.md"), encoding="utf-8") as page:
            blocks = re.findall(r"```console\n(.*?)```", page.read(), re.S)
        examples = [example for block in blocks for example in re.findall(r"^\$ (.*?)(?=^\$ |\Z)", block, re.S | re.M)]
        self.assertGreater(len(examples), 9)
        self.server.create("demo")
        folder = os.path.dirname(gitstead_test.PROGRAM)
        for example in examples:
            end = example.index("'\n", example.index("{")) + 1
            command, wanted = example[:end], example[end:].strip()
            result = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    stdin=subprocess.DEVNULL,
                                    env=clean_environment({"GITSTEAD_SERVER": "ipc://" + self.server.socket,
                                                           "PATH": folder + ":" + os.environ["PATH"]}))
            if not wanted.startswith("{"):
                self.assertIn(wanted, result.stderr, command)
                continue
            self.assertEqual(result.returncode, 0, command + result.stderr)
            got = json.loads(result.stdout)
            for field, value in json.loads(wanted).items():
                self.assertEqual(got[field], value, "%s of %s" % (field, command))
        self.settled()


class BranchesAndTags(ChangeTestCase):
    def setUp(self):
        super().setUp()
        self.first = self.commit(action("CREATE", "a", content=b"1"))["new_oid"]
        self.second = self.commit(action("UPDATE", "a", content=b"2"))["new_oid"]

    def test_branches(self):
        made = self.call("CreateBranch", branch="topic/x", revision=self.first)
        self.assertEqual((made["outcome"], made["old_oid"], made["new_oid"]), ("CHANGE_DONE", ZERO, self.first))
        self.refused("CreateBranch", "ALREADY_EXISTS", "topic/x", branch="topic/x", revision="main")
        self.refused("CreateBranch", "FAILED_PRECONDITION", "topic", branch="topic", revision="main")
        self.refused("CreateBranch", "NOT_FOUND", "revision", branch="y", revision="absent")
        self.refused("CreateBranch", "INVALID_ARGUMENT", "branch", branch="refs/tags/y", revision="main")
        self.refused("UpdateBranch", "FAILED_PRECONDITION", branch="topic/x", revision="main", expected_old_oid="1" * 40)
        moved = self.call("UpdateBranch", branch="topic/x", revision="main", expected_old_oid=self.first)
        self.assertEqual(moved["new_oid"], self.second)
        self.refused("UpdateBranch", "FAILED_PRECONDITION", "lose commits", branch="topic/x", revision=self.first)
        self.call("UpdateBranch", branch="topic/x", revision=self.first, force=True)
        self.assertEqual(self.tip("refs/heads/topic/x"), self.first)
        self.refused("UpdateBranch", "NOT_FOUND", "absent", branch="absent", revision="main")
        before = self.server.files()
        self.assertEqual(self.call("DeleteBranch", branch="topic/x", dry_run=True)["outcome"], "CHANGE_DRY_RUN")
        self.server.assert_settled(before)
        self.refused("DeleteBranch", "FAILED_PRECONDITION", branch="topic/x", expected_old_oid="1" * 40)
        gone = self.call("DeleteBranch", branch="topic/x", expected_old_oid=self.first)
        self.assertEqual(gone["new_oid"], ZERO)
        self.refused("DeleteBranch", "NOT_FOUND", "topic/x", branch="topic/x")
        self.settled()

    def test_tags_as_git_makes_them(self):
        light = self.call("CreateTag", tag="light", revision="main")
        self.assertEqual(light["new_oid"], self.second)
        full = self.call("CreateTag", tag="v1.0", revision=self.first, message="Version 1\n\nwith more", tagger=OTHER)
        clone = self.clone()
        self.git("tag", "-f", "-a", "-m", "Version 1\n\nwith more", "v1.0", self.first, cwd=clone, env=self.env(WHO, OTHER))
        self.assertEqual(full["new_oid"], self.git("rev-parse", "v1.0", cwd=clone))
        # A tag of a tag, and of a tree.
        nested = self.call("CreateTag", tag="nested", revision="refs/tags/v1.0", message="Outer", tagger=WHO)
        self.git("tag", "-f", "-a", "-m", "Outer", "nested", "v1.0", cwd=clone, env=self.env())
        self.assertEqual(nested["new_oid"], self.git("rev-parse", "nested", cwd=clone))
        tree = self.git("rev-parse", "main^{tree}", cwd=self.folder)
        self.assertEqual(self.call("CreateTag", tag="tree", revision=tree)["new_oid"], tree)
        self.refused("CreateTag", "ALREADY_EXISTS", "v1.0", tag="v1.0", revision="main")
        self.refused("CreateTag", "INVALID_ARGUMENT", "tagger", tag="v2", revision="main", message="m")
        self.refused("CreateTag", "INVALID_ARGUMENT", "message", tag="v2", revision="main", tagger=WHO)
        self.refused("CreateTag", "INVALID_ARGUMENT", "tag", tag="v 2", revision="main")
        self.call("CreateTag", tag="light", revision=self.first, force=True, expected_old_oid=self.second)
        self.assertEqual(self.tip("refs/tags/light"), self.first)
        self.call("DeleteTag", tag="light")
        self.refused("DeleteTag", "NOT_FOUND", "light", tag="light")
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
