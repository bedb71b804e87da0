# SPDX-License-Identifier: Apache-2.0
"""Settings of repositories: kept with them, the same on every replica, and kept to by every write."""
import http.client
import json
import os
import threading

import gitstead_test
from gitstead_test import Git, Server, ServerTestCase, TestCase, eventually
from test_repair import RepairCluster

NONE = "0" * 40
CONFIG_REF = "refs/gitstead/files/config"


class Calls:
    """What both kinds of tests do; `server` is theirs, and `admin` a token."""

    def attempt(self, method, token=None, **request):
        reply = self.server.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + (token or self.admin), "Content-Type": "application/json"}, timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def done(self, method, **request):
        code, reply = self.attempt(method, **request)
        self.assertEqual(code, "OK", reply)
        return reply

    def refused(self, code, method, *mentions, **request):
        found, message = self.attempt(method, **request)
        self.assertEqual(found, code, message)
        for mention in mentions:
            self.assertIn(mention, message)

    def config(self, name, **rest):
        reply = self.done("Repository/ConfigGet", repository={"path": name}, **rest)
        return {one["key"]: one["values"] for one in reply["entries"]}, reply["version"]

    def configure(self, name, settings, **rest):
        entries = [{"key": key, "values": values if isinstance(values, list) else [values]} for key, values in settings.items()]
        return self.done("Repository/ConfigSet", repository={"path": name}, entries=entries, **rest)

    def tip(self, work, revision="HEAD"):
        return Git()("rev-parse", revision, cwd=work)

    def commit(self, work, text=None, name="file"):
        with open(os.path.join(work, name), "w") as out:
            out.write(text if text is not None else os.urandom(20).hex())
        Git()("add", ".", cwd=work)
        Git()("commit", "-q", "-m", "Change", cwd=work)
        return self.tip(work)


class Settings(Calls, ServerTestCase):
    COUNT = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = cls.server.new_token("admin")

    def setUp(self):
        super().setUp()
        Settings.COUNT += 1
        self.name = "settings/r%d" % Settings.COUNT
        self.url = self.server.create(self.name)
        self.work = self.scratch()
        Git()("init", "-q", "-b", "main", cwd=self.work)
        Git()("remote", "add", "origin", self.url, cwd=self.work)
        self.commit(self.work)
        self.commit(self.work)
        self.git("push", "-q", "origin", "main", cwd=self.work)

    def push(self, *arguments):
        return self.git("push", "-q", "origin", *arguments, cwd=self.work)

    def push_refused(self, *arguments, words):
        text = self.git.fails("push", "origin", *arguments, cwd=self.work)
        self.assertIn("remote rejected", text)
        for word in words:
            self.assertIn(word, text)

    def test_set_get_and_take_away(self):
        self.assertEqual(self.config(self.name), ({}, NONE))
        first = self.configure(self.name, {"GITSTEAD.Description": "Ünser \"Projekt\"", "receive.denydeletes": "yes",
                                           "receive.maxInputSize": "10m", "gitstead.protectedRef": ["refs/heads/main", "refs/tags/*"]})
        self.assertTrue(int(first["receipt"]["generation"]) > 0)
        wanted = {"gitstead.description": ["Ünser \"Projekt\""], "receive.denyDeletes": ["true"],
                  "receive.maxInputSize": ["10485760"], "gitstead.protectedRef": ["refs/heads/main", "refs/tags/*"]}
        self.assertEqual(self.config(self.name), (wanted, first["version"]))
        self.assertEqual(self.config(self.name, keys=["receive.DENYdeletes"])[0], {"receive.denyDeletes": ["true"]})
        # The same again is no write.
        again = self.configure(self.name, {"receive.denyDeletes": "true"})
        self.assertIsNone(again.get("receipt"))
        self.assertEqual(again["version"], first["version"])
        added = self.configure(self.name, {"gitstead.protectedRef": "refs/heads/stable"}, add=True)
        self.assertEqual(self.config(self.name)[0]["gitstead.protectedRef"], ["refs/heads/main", "refs/tags/*", "refs/heads/stable"])
        self.done("Repository/ConfigSet", repository={"path": self.name}, entries=[{"key": "gitstead.protectedRef"}],
                  expected_version=added["version"])
        self.assertNotIn("gitstead.protectedRef", self.config(self.name)[0])
        self.configure(self.name, {"gitstead.description": "short"}, replace=True)
        self.assertEqual(self.config(self.name)[0], {"gitstead.description": ["short"]})
        last = self.configure(self.name, {}, replace=True)
        self.assertEqual(last["version"], NONE)
        self.assertEqual(self.config(self.name), ({}, NONE))

    def test_they_outlive_a_restart_and_are_in_the_log(self):
        version = self.configure(self.name, {"gitstead.description": "kept"})["version"]
        self.server.stop()
        self.server.start()
        self.assertEqual(self.config(self.name), ({"gitstead.description": ["kept"]}, version))
        changes = self.done("Repository/Changes", repository={"path": self.name})["changes"]
        self.assertEqual([(one["name"], one["old_oid"], one["new_oid"]) for one in changes[-1]["refs"]], [(CONFIG_REF, NONE, version)])
        Git().fsck(self.server.replica(self.name))

    def test_of_two_who_have_seen_the_same_one_wins(self):
        version = self.configure(self.name, {"gitstead.description": "seen"})["version"]
        results = []
        def attempt(n):
            results.append(self.attempt("Repository/ConfigSet", repository={"path": self.name}, expected_version=version,
                                        entries=[{"key": "gitstead.description", "values": ["by %d" % n]}])[0])
        threads = [threading.Thread(target=attempt, args=(n,)) for n in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(results.count("OK"), 1, results)
        self.assertTrue(set(results) <= {"OK", "FAILED_PRECONDITION", "ABORTED"}, results)
        self.refused("FAILED_PRECONDITION", "Repository/ConfigSet", version, repository={"path": self.name}, replace=True,
                     expected_version=version)
        self.refused("FAILED_PRECONDITION", "Repository/ConfigSet", repository={"path": self.name}, replace=True,
                     expected_version=NONE)

    def test_bad_requests(self):
        def bad(*mentions, **request):
            self.refused("INVALID_ARGUMENT", "Repository/ConfigSet", *mentions, repository={"path": self.name}, **request)
        def value(key, *values):
            return [{"key": key, "values": list(values)}]
        bad("entries")
        for key in ("core.hooksPath", "core.sshCommand", "alias.x", "", "receive", "gitstead.description\n[core]"):
            bad("entries.key", "gitstead.protectedRef", "receive.denyDeletes", entries=value(key, "x"))
        bad("twice", entries=value("receive.denyDeletes", "true") + value("Receive.DenyDeletes", "false"))
        bad("entries.values", "true or false", entries=value("receive.denyDeletes", "maybe"))
        bad("at most 1 value", entries=value("receive.denyDeletes", "true", "false"))
        for size in ("-1", "1t", "x", "99999999999999999999", "9223372036854775807k", "k"):
            bad("entries.values", "receive.maxInputSize", entries=value("receive.maxInputSize", size))
        for pattern in ("main", "refs/heads/../x", "refs/heads/a*b*", "../../etc", "refs/gitstead/files/config", "refs/heads/a b"):
            bad("entries.values", "gitstead.frozenRef", entries=value("gitstead.frozenRef", pattern))
        for text in ("", "two\nlines", "x" * 1001, "a\u0000b", "\u007f"):
            bad(entries=value("gitstead.description", text))
        bad("at most 100 values", entries=value("gitstead.frozenRef", *("refs/heads/%d" % n for n in range(101))))
        bad("entries", entries=[{"key": "receive.denyDeletes"}] * 101)
        bad("expected_version", entries=value("receive.denyDeletes", "true"), expected_version="xyz")
        self.refused("INVALID_ARGUMENT", "Repository/ConfigGet", "there is no setting", repository={"path": self.name}, keys=["core.bare"])
        self.refused("NOT_FOUND", "Repository/ConfigGet", repository={"path": "settings/none"})
        self.refused("NOT_FOUND", "Repository/ConfigSet", repository={"path": "settings/none"}, replace=True)
        self.assertEqual(self.config(self.name), ({}, NONE))

    def test_only_an_admin_sets_them(self):
        self.configure(self.name, {"receive.denyDeletes": "true"})
        for scope in ("read", "write"):
            token = self.server.new_token(scope)
            self.assertEqual(self.attempt("Repository/ConfigGet", token, repository={"path": self.name})[0], "OK")
            self.refused("PERMISSION_DENIED", "Repository/ConfigSet", token=token, repository={"path": self.name}, replace=True)
        self.assertEqual(self.config(self.name)[0], {"receive.denyDeletes": ["true"]})

    def test_nobody_else_sees_or_writes_their_ref(self):
        version = self.configure(self.name, {"receive.denyDeletes": "true"})["version"]
        self.assertNotIn("gitstead", self.git("ls-remote", self.url))
        self.git.fails("fetch", "-q", "origin", CONFIG_REF, cwd=self.work)
        self.push_refused("main:" + CONFIG_REF, words=[CONFIG_REF])
        for ref in (CONFIG_REF, "refs/gitstead/files/hooks"):
            self.refused("PERMISSION_DENIED", "Ref/Update", repository={"path": self.name},
                         updates=[{"name": ref, "new_oid": self.tip(self.work)}])
        self.refused("NOT_FOUND", "Ref/Find", repository={"path": self.name}, name=CONFIG_REF)
        self.assertEqual(self.config(self.name)[1], version)
        fork = self.name + "-fork"
        self.done("Repository/Fork", repository={"path": fork}, source={"path": self.name})
        self.assertEqual(self.config(fork), ({}, NONE))

    def test_described(self):
        keys = self.done("Repository/ConfigGet", repository={"path": self.name}, describe=True)["keys"]
        self.assertIn({"key": "receive.denyDeletes", "type": "boolean", "many": False, "help": "Refuse pushes that delete refs."}, keys)
        self.assertTrue(all(one["help"].endswith(".") for one in keys))

    def test_pushes_that_delete_or_rewind(self):
        self.push("main:topic", "main:other")
        self.configure(self.name, {"receive.denyDeletes": "true", "receive.denyNonFastForwards": "true"})
        self.push_refused(":topic", words=["deletion prohibited"])
        self.push_refused("+main~1:topic", words=["non-fast-forward"])
        self.commit(self.work)
        self.push("main:topic")
        # What an API call asks for is another matter: these are rules for pushes.
        self.done("Ref/Update", repository={"path": self.name}, updates=[{"name": "refs/heads/other", "new_oid": NONE}])
        self.configure(self.name, {}, replace=True)
        self.push("+main~1:topic")
        self.push(":topic")

    def test_protected_refs(self):
        self.push("main:release/1", "main:topic")
        self.configure(self.name, {"gitstead.protectedRef": ["refs/heads/main", "refs/heads/release/*"]})
        forward = self.commit(self.work)
        old = self.tip(self.work, "main~1")
        self.push_refused("+main~2:main", words=["non-fast-forward", "protected"])
        self.push_refused(":release/1", words=["deletion prohibited", "protected"])
        for name in ("refs/heads/main", "refs/heads/release/1"):
            self.refused("PERMISSION_DENIED", "Ref/Update", "protected", repository={"path": self.name}, updates=[{"name": name, "new_oid": NONE}])
            self.push("main~1:" + name)
            self.refused("PERMISSION_DENIED", "Ref/Update", "non-fast-forward", repository={"path": self.name},
                         updates=[{"name": name, "new_oid": self.tip(self.work, "main~2")}])
        self.refused("PERMISSION_DENIED", "Change/UpdateBranch", "protected", repository={"path": self.name}, branch="main",
                     revision=self.tip(self.work, "main~2"), force=True)
        self.refused("PERMISSION_DENIED", "Change/DeleteBranch", "protected", repository={"path": self.name}, branch="main")
        self.push("main", "main:release/2", ":topic")
        refs = self.git("ls-remote", self.url, "refs/heads/*").split()
        self.assertEqual(refs, [forward, "refs/heads/main", old, "refs/heads/release/1", forward, "refs/heads/release/2"])

    def test_frozen_refs(self):
        self.push("main:old/1")
        self.configure(self.name, {"gitstead.frozenRef": ["refs/heads/old/*"]})
        self.commit(self.work)
        for spec in ("main:old/1", "main:old/2", ":old/1"):
            self.push_refused(spec, words=["frozen"])
        self.refused("PERMISSION_DENIED", "Change/CreateBranch", "frozen", repository={"path": self.name}, branch="old/3", revision="main")
        # Others of the same push go on, but for an atomic one.
        text = self.git.fails("push", "origin", "main:old/1", "main:new", cwd=self.work)
        self.assertIn("frozen", text)
        self.git.fails("push", "--atomic", "origin", "main:old/1", "main:newer", cwd=self.work)
        names = self.git("ls-remote", self.url, "refs/heads/*").split()[1::2]
        self.assertEqual(names, ["refs/heads/main", "refs/heads/new", "refs/heads/old/1"])
        self.configure(self.name, {"gitstead.frozenRef": "refs/*"})
        self.configure(self.name, {}, replace=True)  # the rule is no lock
        self.push("main:old/1")

    def test_large_objects_and_pushes(self):
        self.configure(self.name, {"gitstead.maxObjectSize": "10k"})
        self.commit(self.work, "x" * 10240)
        self.push("main")
        self.commit(self.work, "y" * 10241)
        large = Git()("rev-parse", "HEAD:file", cwd=self.work)
        self.push_refused("main", words=[large, "10240", "gitstead.maxObjectSize"])
        person = {"name": "A", "email": "a@b.c", "seconds": 1, "zone": "+0000"}
        request = {"repository": {"path": self.name}, "write": {"branch": "main", "committer": person}, "message": "TGFyZ2U=",
                   "actions": [{"kind": "FILE_PUT", "path": "large", "content": "A" * 20000}]}
        code, message = self.attempt("Change/CommitFiles", **request)
        self.assertEqual(code, "PERMISSION_DENIED", message)
        self.assertIn("gitstead.maxObjectSize", message)
        self.configure(self.name, {"receive.maxInputSize": "1k"}, replace=True)
        self.commit(self.work, os.urandom(4000).hex())
        text = self.git.fails("push", "origin", "main", cwd=self.work)
        self.assertIn("exceeds", text)
        self.configure(self.name, {}, replace=True)
        self.push("main")
        self.server.assert_settled()


    def test_the_program(self):
        def config(*arguments, **rest):
            return self.server.cli("repo", "config", *arguments, **rest)
        self.assertRegex(config("keys", self.name).stdout, r"gitstead.protectedRef +pattern +several")
        self.assertIn("receive.denyDeletes\n", config("keys", self.name, "--quiet").stdout)
        self.assertIn("Changed", config("set", self.name, "gitstead.protectedRef", "refs/heads/main", "refs/tags/*").stdout)
        self.assertIn("already", config("set", self.name, "gitstead.protectedRef", "refs/tags/*", "--add").stdout)
        config("set", self.name, "receive.denyDeletes", "on")
        self.assertEqual(config("get", self.name).stdout, "gitstead.protectedRef = refs/heads/main\n"
                         "gitstead.protectedRef = refs/tags/*\nreceive.denyDeletes = true\n")
        self.assertEqual(config("get", self.name, "gitstead.protectedRef").stdout, "refs/heads/main\nrefs/tags/*\n")
        version = json.loads(config("get", self.name, "--json").stdout)["version"]
        config("unset", self.name, "gitstead.protectedRef", "--expect", version)
        result = config("unset", self.name, "receive.denyDeletes", "--expect", version, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn(version, result.stderr)
        self.assertEqual(config("get", self.name, "gitstead.protectedRef", check=False).returncode, 1)
        result = config("set", self.name, "core.hooksPath", "/tmp", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("receive.maxInputSize", result.stderr)
        for words in (("set", self.name), ("set", self.name, "receive.denyDeletes"), ("unset", self.name), ("clear", self.name)):
            self.assertEqual(config(*words, check=False).returncode, 2, words)


class Crashes(Calls, TestCase):
    def test_settings_are_the_old_or_the_new(self):
        self.server = server = Server()
        self.addCleanup(server.clean)
        server.start()
        self.admin = server.new_token("admin")
        server.create("crash")
        self.configure("crash", {"gitstead.description": "0"})
        seen = 0
        for number, (point, there) in enumerate((("push.prepared", False), ("push.voted", False), ("commit.decided", True),
                                                 ("refs.committed", True), ("refs.published", True), ("commit.stamped", True)), 1):
            self.assertEqual(server.stop(), 0)
            server.start(crash_at=point)
            with self.assertRaises((OSError, http.client.HTTPException)):
                self.attempt("Repository/ConfigSet", repository={"path": "crash"}, entries=[
                    {"key": "gitstead.description", "values": [str(number)]}, {"key": "receive.denyDeletes", "values": ["true"]}])
            self.assertEqual(server.process.wait(60 * gitstead_test.SLOW), -9, point)
            server.process = None
            server.start()
            seen = number if there else seen
            wanted = {"gitstead.description": [str(seen)]}
            if seen > 0:
                wanted["receive.denyDeletes"] = ["true"]
            self.assertEqual(self.config("crash")[0], wanted, point)
            server.assert_settled()
            Git().fsck(server.replica("crash"))
        self.configure("crash", {"gitstead.description": "last"}, replace=True)
        self.assertEqual(self.config("crash")[0], {"gitstead.description": ["last"]})


class Replicated(Calls, RepairCluster):
    def set_ref(self, node, info):
        return Git()("for-each-ref", "--format=%(objectname)", CONFIG_REF, cwd=node.path(info["replica_path"]))

    def test_every_replica_has_them_and_repair_brings_them(self):
        self.server = router = self.add_router()
        self.admin = router.new_token("admin")
        url = router.create("team/project")
        git = Git(router.new_token("write"))
        self.commit(self.work)
        git("push", "-q", url, "main", cwd=self.work)
        version = self.configure("team/project", {"gitstead.protectedRef": "refs/heads/main"})["version"]
        info = router.info("team/project")
        eventually(lambda: [self.set_ref(node, info) for node in self.nodes] == [version] * 3, 60, "the settings on all nodes")
        # One that was not there when they changed gets them with the repair.
        self.nodes[2].kill()
        eventually(lambda: self.attempt("Repository/ConfigSet", repository={"path": "team/project"}, add=True, entries=[
            {"key": "gitstead.frozenRef", "values": ["refs/tags/*"]}])[0] == "OK", 30, "settings with a node less")
        later = self.config("team/project")[1]
        self.assertNotEqual(later, version)
        self.nodes[2].start()
        eventually(lambda: [self.set_ref(node, info) for node in self.nodes] == [later] * 3, 60, "the new settings on all nodes")
        eventually(lambda: len(set(self.generations(router, "team/project")[0].values())) == 1, 60, "all replicas current")
        # And every one of them keeps to them.
        self.commit(self.work)
        git.fails("push", url, "+main~1:main", "main:refs/tags/v1", cwd=self.work)
        git.fails("push", url, "main:refs/tags/v1", cwd=self.work)
        git("push", "-q", url, "main", cwd=self.work)
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
