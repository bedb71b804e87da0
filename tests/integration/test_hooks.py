# SPDX-License-Identifier: Apache-2.0
"""Hooks of repositories: kept with them, asked about pushes and calls, heard by who pushes, and run nowhere unless it is said."""
import json
import os

import gitstead_test
from cluster_test import Node
from gitstead_test import Git, ServerTestCase, eventually
from test_files import NONE, Calls
from test_repair import RepairCluster

HOOKS_REF = "refs/gitstead/files/hooks"
DENY = "#!/bin/sh\necho 'Not in this house'\nexit 1\n"


class HookCalls(Calls):
    def hooks(self, name, files, **rest):
        files = [{"path": path, "content": text} for path, text in files.items()]
        return self.done("Repository/HooksSet", repository={"path": name}, files=files, **rest)


class WithHooks(HookCalls, ServerTestCase):
    COUNT = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin, cls.token = cls.server.new_token("admin"), cls.server.new_token("write")

    def setUp(self):
        super().setUp()
        WithHooks.COUNT += 1
        self.name = "hooks/r%d" % WithHooks.COUNT
        self.url = self.server.create(self.name)
        self.work, self.out = self.scratch(), self.scratch()
        Git()("init", "-q", "-b", "main", cwd=self.work)
        Git()("remote", "add", "origin", self.url, cwd=self.work)
        self.commit(self.work)

    def push(self, *arguments):
        result = self.git.run("push", "origin", *arguments, cwd=self.work)
        return result.returncode, result.stderr.decode()

    def pushed(self, *arguments):
        code, text = self.push(*arguments)
        self.assertEqual(code, 0, text)
        return text

    def declined(self, *arguments, words=("hook declined",)):
        code, text = self.push(*arguments)
        self.assertEqual(code, 1, text)
        self.assertIn("remote rejected", text)
        for word in words:
            self.assertIn(word, text)

    def refs(self):
        return self.git("ls-remote", self.url).split()[1::2]

    def lines(self, name):
        with open(os.path.join(self.out, name)) as file:
            return file.read().splitlines()


class Hooks(WithHooks):
    options = {"storage": {"run_hooks": "true", "hook_timeout": "5m"}}

    def test_they_are_kept_and_replaced(self):
        empty = self.done("Repository/HooksGet", repository={"path": self.name})
        self.assertEqual((empty["files"], empty["version"], empty["run"]), ([], NONE, True))
        first = self.hooks(self.name, {"update.d/10-b": DENY, "pre-receive.d/a.sh": "#!/bin/sh\n"})
        found = self.done("Repository/HooksGet", repository={"path": self.name})
        self.assertEqual([one["path"] for one in found["files"]], ["pre-receive.d/a.sh", "update.d/10-b"])
        self.assertEqual(found["version"], first["version"])
        tree = Git()("ls-tree", "-r", HOOKS_REF, cwd=self.server.replica(self.name)).split()
        self.assertEqual(tree[0::4] + tree[3::4], ["100755", "100755", "pre-receive.d/a.sh", "update.d/10-b"])
        self.refused("FAILED_PRECONDITION", "Repository/HooksSet", first["version"], repository={"path": self.name},
                     expected_version=NONE)
        gone = self.hooks(self.name, {}, expected_version=first["version"])
        self.assertEqual(gone["version"], NONE)
        self.pushed("main")

    def test_the_program(self):
        def hooks(*arguments, **rest):
            return self.server.cli("repo", "hooks", *arguments, **rest)
        source, copy = self.scratch(), self.scratch()
        os.mkdir(os.path.join(source, "update.d"))
        self.assertEqual(hooks("set", self.name, source, check=False).returncode, 1)
        with open(os.path.join(source, "update.d/no"), "w") as out:
            out.write(DENY)
        self.assertIn("1 hook now", hooks("set", self.name, source).stdout)
        self.assertIn("already", hooks("set", self.name, source).stdout)
        self.declined("main")
        self.assertEqual(hooks("get", self.name, copy).stdout, "update.d/no\n")
        with open(os.path.join(copy, "update.d/no")) as file:
            self.assertEqual(file.read(), DENY)
        hooks("clear", self.name)
        self.pushed("main")
        for words in (("set", self.name), ("clear", self.name, source), ("put", self.name)):
            self.assertEqual(hooks(*words, check=False).returncode, 2, words)

    def test_bad_requests(self):
        def bad(*mentions, **request):
            self.refused("INVALID_ARGUMENT", "Repository/HooksSet", *mentions, repository={"path": self.name}, **request)
        for path in ("", "pre-receive", "pre-receive.d/", "pre-receive.d/../../x", "/etc/passwd", "pre-receive.d/.x", "update.d/a/b",
                     "update.d/-x", "update.d/a b", "reference-transaction.d/x", "update.d/" + "x" * 101, "pre-receive.d/..", "update.d/a\n"):
            bad("files.path", files=[{"path": path, "content": "x"}])
        bad("files.content", files=[{"path": "update.d/a", "content": ""}])
        bad("files.content", files=[{"path": "update.d/a", "content": "x" * (600 << 10)}])
        bad("files.content", files=[{"path": "update.d/" + name, "content": "x" * (400 << 10)} for name in "ab"])
        bad("twice", files=[{"path": "update.d/a", "content": "x"}] * 2)
        bad("files", files=[{"path": "update.d/%d" % n, "content": "x"} for n in range(101)])
        for method in ("Repository/HooksGet", "Repository/HooksSet"):
            self.refused("PERMISSION_DENIED", method, token=self.token, repository={"path": self.name})
        self.assertEqual(self.done("Repository/HooksGet", repository={"path": self.name})["version"], NONE)
        self.pushed("main")

    def test_pre_receive(self):
        self.pushed("main")
        self.hooks(self.name, {"pre-receive.d/10-log": "#!/bin/sh\ncat > %s/in\nenv > %s/env\ngit cat-file commit main >/dev/null || exit 1\n"
                               "while read -r old new name; do git cat-file -e $new || exit 1; done < %s/in\necho heard\necho also >&2\n"
                               % (self.out, self.out, self.out)})
        old, new = self.tip(self.work), self.commit(self.work)
        text = self.pushed("main", "main:topic")
        self.assertIn("remote: heard", text)
        self.assertIn("remote: also", text)
        self.assertEqual(self.lines("in"), ["%s %s refs/heads/main" % (old, new), "%s %s refs/heads/topic" % (NONE, new)])
        variables = dict(line.split("=", 1) for line in self.lines("env") if "=" in line)
        self.assertEqual(variables["GITSTEAD_REPOSITORY_ID"], str(self.server.info(self.name)["id"]))
        self.assertEqual((variables["GITSTEAD_USER"], variables["HOME"]), ("test-write", "/nonexistent"))
        self.assertTrue(variables["GIT_QUARANTINE_PATH"].startswith(self.server.root))
        self.assertFalse([name for name in variables if name.startswith(("GITSTEAD_TEST", "GITSTEAD_TOKEN", "PYTHON"))])
        self.hooks(self.name, {"pre-receive.d/10-yes": "#!/bin/sh\n", "pre-receive.d/20-no": DENY,
                               "pre-receive.d/30-late": "#!/bin/sh\ntouch %s/late\n" % self.out})
        self.commit(self.work)
        self.declined("main", "main:third", words=("pre-receive hook declined", "remote: Not in this house"))
        self.assertFalse(os.path.exists(os.path.join(self.out, "late")))
        self.assertEqual(self.refs(), ["HEAD", "refs/heads/main", "refs/heads/topic"])
        self.assertEqual(Git()("rev-parse", "main", cwd=self.server.replica(self.name)), new)
        self.server.assert_settled()

    def test_push_options(self):
        """As git hands them to hooks; none is set where the client sent none."""
        keep = "#!/bin/sh\nenv > %s/%%s\n" % self.out
        self.hooks(self.name, {"pre-receive.d/env": keep % "before", "post-receive.d/env": keep % "behind"})

        def options(name):
            return {line for line in self.lines(name) if line.startswith("GIT_PUSH_OPTION")}
        given = ("ci.skip", "reviewer=ada lovelace", "", "caf\u00e9 $(id)")
        self.pushed(*(word for one in given for word in ("-o", one)), "main")
        expected = {"GIT_PUSH_OPTION_COUNT=4"} | {"GIT_PUSH_OPTION_%d=%s" % pair for pair in enumerate(given)}
        self.assertEqual((options("before"), options("behind")), (expected, expected))
        self.pushed(":main")
        self.assertEqual((options("before"), options("behind")), (set(), set()))
        self.pushed("-o", "alone", "main")
        self.assertEqual(options("before"), {"GIT_PUSH_OPTION_COUNT=1", "GIT_PUSH_OPTION_0=alone"})
        # More than an environment should hold is refused as a whole.
        self.commit(self.work)
        for many in (["x"] * 1001, ["y" * 40000] * 2):
            self.declined(*(word for one in many for word in ("-o", one)), "main:many", words=("at most 1000 push options",))
        self.pushed(*["-o", "x"] * 1000, "main:many")
        self.assertIn("GIT_PUSH_OPTION_COUNT=1000", options("behind"))
        self.server.assert_settled()

    def test_update(self):
        self.hooks(self.name, {"update.d/check": "#!/bin/sh\necho \"$#:$1:$2:$3\" >> %s/args\n[ \"$1\" != refs/heads/no ]\n" % self.out})
        tip = self.tip(self.work)
        self.pushed("main")
        self.declined("main:yes", "main:no", words=("update hook declined refs/heads/no",))
        self.assertEqual(self.refs(), ["HEAD", "refs/heads/main"])
        self.pushed("main:yes")
        self.pushed(":yes")
        self.assertEqual(self.lines("args")[0], "3:refs/heads/main:%s:%s" % (NONE, tip))
        self.assertEqual(self.lines("args")[-1], "3:refs/heads/yes:%s:%s" % (tip, NONE))

    def test_post_receive(self):
        self.hooks(self.name, {"post-receive.d/tell": "#!/bin/sh\nread -r old new name\ngit rev-parse $name > %s/is\n"
                               "echo $new > %s/new\necho 'Built'\nexit 3\n" % (self.out, self.out)})
        text = self.pushed("main")
        self.assertIn("remote: Built", text)
        self.assertEqual(self.lines("is"), self.lines("new"))
        self.assertIn("storage.hook.failed", self.server.log_text())

    def test_calls_are_asked_too(self):
        self.pushed("main")
        self.hooks(self.name, {"update.d/no": "#!/bin/sh\n[ $1 = refs/heads/main ] || { echo $1 is not main; exit 1; }\n",
                               "post-receive.d/log": "#!/bin/sh\ncat >> %s/posts\n" % self.out})
        for method, request in (("Change/CreateBranch", {"branch": "topic", "revision": "main"}),
                                ("Ref/Update", {"updates": [{"name": "refs/heads/topic", "new_oid": self.tip(self.work)}]})):
            self.refused("PERMISSION_DENIED", method, "update hook declined", "refs/heads/topic is not main",
                         repository={"path": self.name}, **request)
        person = {"name": "A", "email": "a@b.c", "seconds": 1, "zone": "+0000"}
        self.done("Change/CommitFiles", repository={"path": self.name}, write={"branch": "main", "committer": person}, message="M",
                  actions=[{"kind": "FILE_PUT", "path": "x", "content": "y"}])
        self.assertEqual(len(self.lines("posts")), 1)
        # Neither are the settings in their way, nor they in that of the settings.
        self.hooks(self.name, {"pre-receive.d/no": DENY})
        self.configure(self.name, {"gitstead.description": "x"})
        self.hooks(self.name, {})


class Failing(WithHooks):
    """Hooks that do not end, or do not begin."""

    options = {"storage": {"run_hooks": "true", "hook_timeout": "6s"}}

    def test_one_that_takes_too_long_or_cannot_run(self):
        self.hooks(self.name, {"pre-receive.d/slow": "#!/bin/sh\necho $$ > %s/pid\necho waiting\nsleep 600 &\nwait\n" % self.out})
        self.declined("main", words=("pre-receive hook declined: it took longer than 6 seconds", "remote: waiting"))
        pid = int(self.lines("pid")[0])
        eventually(lambda: not os.path.exists("/proc/%d" % pid), 60, "the end of the hook")
        for text in ("not a program", "#!/nonexistent/interpreter\n"):
            self.hooks(self.name, {"pre-receive.d/bad": text})
            code, said = self.push("main")
            self.assertEqual(code, 1, said)
            self.assertIn("remote rejected", said)
        self.hooks(self.name, {"pre-receive.d/dies": "#!/bin/sh\nkill -9 $$\n"})
        self.declined("main")
        self.hooks(self.name, {})
        self.pushed("main")
        self.server.assert_settled()


class Off(HookCalls, ServerTestCase):
    def test_by_default_none_runs(self):
        self.admin = self.server.new_token("admin")
        url, work = self.server.create("off"), self.scratch()
        Git()("init", "-q", "-b", "main", cwd=work)
        self.commit(work)
        self.hooks("off", {"pre-receive.d/no": DENY, "post-receive.d/no": DENY})
        self.assertFalse(self.done("Repository/HooksGet", repository={"path": "off"})["run"])
        self.git("push", "-q", url, "main", cwd=work)
        self.assertNotIn("storage.hook", self.server.log_text())


class Replicated(HookCalls, RepairCluster):
    def placed(self, server):
        if type(server) is Node:
            server.storage_options = {"run_hooks": "true"}
        return server

    def test_of_three_one_asks(self):
        self.server = router = self.add_router()
        self.admin = router.new_token("admin")
        url, git, out = router.create("team/project"), Git(router.new_token("write")), self.scratch()
        self.commit(self.work)
        git("push", "-q", url, "main", cwd=self.work)
        version = self.hooks("team/project", {
            "pre-receive.d/count": "#!/bin/sh\necho pre >> %s/ran\ncat >/dev/null\necho asked\n" % out,
            "update.d/no": "#!/bin/sh\n[ $1 != refs/heads/no ] || { echo 'It says no'; exit 1; }\n",
            "post-receive.d/count": "#!/bin/sh\necho post >> %s/ran\ncat >/dev/null\necho told\n" % out})["version"]
        info = router.info("team/project")
        eventually(lambda: {Git()("for-each-ref", "--format=%(objectname)", HOOKS_REF, cwd=node.path(info["replica_path"]))
                            for node in self.nodes} == {version}, 30, "the hooks on all nodes")
        eventually(lambda: len(set(self.generations(router, "team/project")[0].values())) == 1, 60, "all replicas current")

        def ran():
            with open(os.path.join(out, "ran")) as file:
                return file.read().split()
        self.commit(self.work)
        result = git.run("push", url, "main", cwd=self.work)
        text = result.stderr.decode()
        self.assertEqual(result.returncode, 0, text)
        self.assertIn("remote: asked", text)
        eventually(lambda: ran() == ["pre", "post"], 60, "the hooks of one node")
        text = git.fails("push", url, "main:no", cwd=self.work)
        self.assertMentions(text, "remote rejected", "update hook declined refs/heads/no", "remote: It says no")
        self.refused("PERMISSION_DENIED", "Change/CreateBranch", "It says no", repository={"path": "team/project"}, branch="no", revision="main")
        self.assertEqual(ran(), ["pre", "post", "pre", "pre"])
        self.assertEqual(git("ls-remote", url).split()[1::2], ["HEAD", "refs/heads/main"])
        self.assert_equal_replicas(router, "team/project")
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
