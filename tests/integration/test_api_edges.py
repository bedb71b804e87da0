# SPDX-License-Identifier: Apache-2.0
"""What lies at the edges of the Git API: histories that come without a branch, odd encodings, names and times that git's own
commands would not take, and what a dry run promises."""
import base64
import json
import os
import subprocess
import threading

import gitstead_test
from cluster_test import Cluster
from git_histories import git, history
from gitstead_test import Git
from transfer_case import TransferCase, table


class Incoming(TransferCase):
    """Whole or not at all, and with a first branch."""

    def bundle(self, folder, *arguments):
        path = os.path.join(self.work, "b%d.bundle" % len(os.listdir(self.work)))
        git(folder, "bundle", "create", "-q", path, *arguments)
        with open(path, "rb") as file:
            return file.read()

    def detached(self, folder):
        """HEAD on a commit that no branch is at."""
        oid = self.grow(folder)
        git(folder, "update-ref", "refs/heads/main", oid + "~1")
        git(folder, "update-ref", "--no-deref", "HEAD", oid)
        return oid

    def absent(self, name):
        self.assertFalse(self.server.call("Repository/Exists", self.repository(name))["exists"])

    def test_a_bundle_of_a_head_on_no_branch(self):
        folder = self.copy("plain")
        oid = self.detached(folder)
        data = self.bundle(folder, "HEAD")
        message = self.stream("Repository/CreateFromBundle", self.repository(), data, check=False)
        self.assertMentions(message, "rules.refspecs", "1 ref", "HEAD:refs/heads/main")
        self.absent(self.name)
        taken = dict(self.repository(), rules={"refspecs": ["HEAD:refs/heads/x"]})
        self.stream("Repository/CreateFromBundle", taken, data)
        replica = self.server.replica(self.name)
        self.assertEqual(self.refs(replica), {"refs/heads/x": oid})
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), "refs/heads/x")
        Git()("fsck", "--full", "--strict", cwd=replica)
        # Into one that is there, too; and HEAD is no place to write to.
        other = self.name + "apply"
        self.push(other, history("plain"))
        reply = self.stream("Repository/BundleApply", dict(taken, repository={"path": other}), data)
        self.assertEqual(table(reply), {"refs/heads/x": "CREATED"})
        self.assertEqual(self.refs(self.server.replica(other))["refs/heads/x"], oid)
        message = self.stream("Repository/BundleApply", dict(self.repository(other), rules={"refspecs": ["refs/heads/x:HEAD"]}),
                              data, check=False)
        self.assertMentions(message, "rules.refspecs", "'HEAD' is not below refs/")
        message = self.stream("Repository/BundleApply", self.repository(other), data, check=False)
        self.assertMentions(message, "rules.refspecs")

    def test_bundles_that_are_cut(self):
        folder = self.copy("plain")
        self.detached(folder)
        alone, whole = self.bundle(folder, "HEAD"), self.bundle(folder, "--all", "HEAD")
        head = whole.index(b"\n\n") + 2
        self.push(self.name + "s", history("plain"))
        before = self.refs(self.server.replica(self.name + "s"))
        for data in (alone[:300], alone[:17], whole[:head], whole[:head - 1], whole[:head + 300], b"# v2 git bundle\n\n",
                     b"# v3 git bundle\n@object-format=sha1\n\n"):
            for specs in ([], ["HEAD:refs/heads/x"]):
                request = dict(self.repository(), rules={"refspecs": specs})
                self.assertMentions(self.stream("Repository/CreateFromBundle", request, data, check=False), "bundle")
                self.absent(self.name)
        request = dict(self.repository(self.name + "s"), rules={"refspecs": ["HEAD:refs/heads/x"]})
        self.assertMentions(self.stream("Repository/BundleApply", request, alone[:300], check=False), "bundle")
        self.assertEqual(self.refs(self.server.replica(self.name + "s")), before)

    def test_a_bundle_with_other_ids(self):
        folder = os.path.join(self.work, "sha256")
        Git()("init", "-q", "--object-format=sha256", folder)
        git(folder, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "One")
        message = self.stream("Repository/CreateFromBundle", self.repository(), self.bundle(folder, "--all"), check=False)
        self.assertMentions(message, "bundle", "SHA-1")
        self.absent(self.name)

    def test_there_is_a_first_branch(self):
        source = self.copy("plain")
        main = Git()("rev-parse", "main", cwd=source)
        for name in [one for one in self.refs(source) if one.startswith("refs/heads/")]:
            git(source, "update-ref", "-d", name)
        git(source, "update-ref", "refs/heads/master", main + "~2")
        git(source, "update-ref", "refs/heads/other", main + "~1")
        git(source, "update-ref", "--no-deref", "HEAD", main)
        self.stream("Repository/CreateFromBundle", self.repository(), self.bundle(source, "--all", "HEAD"))
        replica = self.server.replica(self.name)
        self.assertEqual(self.refs(replica), self.refs(source))
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), "refs/heads/master")
        self.push(self.name + "s", history("plain"))
        branches = sorted(ref for ref in self.refs(history("plain")) if ref.startswith("refs/heads/") and ref != "refs/heads/main")
        fork = dict(source={"path": self.name + "s"})
        self.server.call("Repository/Fork", dict(self.repository(self.name + "f"), refs=branches[-1:], **fork))
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=self.server.replica(self.name + "f")), branches[-1])
        self.refused("INVALID_ARGUMENT", "Repository/Fork", dict(self.repository(self.name + "g"), default_branch="nope", **fork),
                     "default_branch", "refs/heads/nope")
        self.absent(self.name + "g")
        message = self.stream("Repository/CreateFromBundle", dict(self.repository(self.name + "h"), default_branch="nope"),
                              self.bundle(source, "--all"), check=False)
        self.assertMentions(message, "default_branch", "refs/heads/nope")
        # Only tags: there is no branch to name.
        self.stream("Repository/CreateFromBundle", dict(self.repository(self.name + "i"),
                                                        rules={"refspecs": ["refs/heads/*:refs/tags/*"]}),
                    self.bundle(source, "--all"))
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=self.server.replica(self.name + "i")), "refs/heads/main")


LATIN = "Änderung über José"
ADA = {"name": "Ada", "email": "ada@example.org", "seconds": 1700000000, "zone": "+0100"}


class Changing(TransferCase):
    def setUp(self):
        super().setUp()
        self.folder = self.copy("plain")
        self.push(self.name, self.folder)

    def write(self, branch="main", **more):
        return dict({"branch": branch, "committer": ADA}, **more)

    def here(self, *arguments):
        return git(self.server.replica(self.name), *arguments).decode("utf-8", "surrogateescape").strip()

    def latin(self, encoding="ISO-8859-1", raw="latin-1"):
        """A commit on main of @folder whose author and message are in another encoding."""
        blob = git(self.folder, "hash-object", "-w", "--stdin", input=b"latin").decode().strip()
        rows = git(self.folder, "ls-tree", "main") + ("100644 blob %s\tlatin\n" % blob).encode()
        tree = git(self.folder, "mktree", input=rows).decode().strip()
        parent = git(self.folder, "rev-parse", "main").decode().strip()
        data = ("tree %s\nparent %s\nauthor José <j@x> 1600000000 +0100\ncommitter José <j@x> 1600000000 +0100\nencoding %s\n\n"
                "%s\n\nMore.\n" % (tree, parent, encoding, LATIN)).encode(raw)
        oid = git(self.folder, "hash-object", "-w", "-t", "commit", "--stdin", input=data).decode().strip()
        self.git("push", "-q", "%s/%s.git" % (self.server.url, self.name), "%s:refs/heads/latin" % oid, cwd=self.folder)
        return oid

    def test_encodings_as_git_repeats_them(self):
        oid = self.latin()
        work = os.path.join(self.work, "w")
        self.git("clone", "-q", self.server.url + "/%s.git" % self.name, work)
        who = dict(os.environ, GIT_COMMITTER_NAME="Ada", GIT_COMMITTER_EMAIL="ada@example.org",
                   GIT_COMMITTER_DATE="1700000000 +0100", GIT_AUTHOR_NAME="Ada", GIT_AUTHOR_EMAIL="ada@example.org",
                   GIT_AUTHOR_DATE="1700000000 +0100", GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")

        def expected(start, *command):
            plain = {key: value for key, value in who.items() if command[0] == "revert" or not key.startswith("GIT_AUTHOR")}
            subprocess.run(("git", "checkout", "-q", "--detach", start), cwd=work, check=True, env=who)
            subprocess.run(("git",) + command, cwd=work, check=True, env=plain, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return subprocess.run(("git", "rev-parse", "HEAD"), cwd=work, check=True, stdout=subprocess.PIPE).stdout.decode().strip()

        for index, (method, request, command) in enumerate((
                ("Change/CherryPick", {"commits": [oid]}, ("cherry-pick", oid)),
                ("Change/Revert", {"commits": [oid]}, ("revert", "--no-edit", oid)))):
            start = "origin/latin" if command[0] == "revert" else "origin/main~1"
            at = subprocess.run(("git", "rev-parse", start), cwd=work, stdout=subprocess.PIPE).stdout.decode().strip()
            code, reply = self.attempt(method, dict(self.repository(), write=self.write("c%d" % index, start=at), **request))
            self.assertEqual(code, "OK", reply)
            self.assertEqual(reply["new_oid"], expected(start, *command), self.here("cat-file", "commit", reply["new_oid"]))
            self.assertIn(LATIN, self.here("cat-file", "commit", reply["new_oid"]))
        code, reply = self.attempt("Change/CherryPick", dict(self.repository(), commits=[oid], message="ours ü\n", write=self.write(
            "message", start=self.here("rev-parse", "main~1"))))
        self.assertEqual(code, "OK", reply)
        made = self.here("cat-file", "commit", reply["new_oid"])
        self.assertIn("author José <", made)
        self.assertNotIn("\nencoding", made)
        # A rebase, onto a branch that went on.
        code, reply = self.attempt("Change/CommitFiles", dict(self.repository(), message="on", write=self.write(), actions=[
            {"kind": "FILE_CREATE", "path": "elsewhere", "content": "x"}]))
        self.assertEqual(code, "OK", reply)
        code, reply = self.attempt("Change/Rebase", dict(self.repository(), onto="main", write=self.write("latin")))
        self.assertEqual(code, "OK", reply)
        made = self.here("cat-file", "commit", reply["new_oid"])
        self.assertIn(LATIN, made)
        self.assertIn("author José <", made)
        self.assertNotIn("\nencoding", made)

    def test_an_encoding_that_nobody_knows(self):
        oid = self.latin("x-unheard-of")
        code, reply = self.attempt("Change/CherryPick", dict(self.repository(), commits=[oid], write=self.write(
            "x", start=self.here("rev-parse", "main~1"))))
        self.assertEqual(code, "OK", reply)
        made = git(self.server.replica(self.name), "cat-file", "commit", reply["new_oid"])
        self.assertIn(b"\nencoding x-unheard-of\n", made)
        self.assertIn(LATIN.encode("latin-1"), made)

    def test_a_search_over_encodings(self):
        oid = self.latin()
        for condition in ({"message": ["über"]}, {"author": ["José"]}, {"committer": ["José"]},
                          {"message": ["ÜBER JOSÉ".lower()], "ignore_case": True}):
            for regex in (False, True):
                scope = dict({"include": ["latin"]}, regex=regex, **condition)
                code, reply = self.attempt("History/List", dict(self.repository(), range=scope))
                self.assertEqual((code, [one["oid"] for one in reply["commits"]]), ("OK", [oid]), scope)
                code, reply = self.attempt("History/Count", dict(self.repository(), range=scope))
                self.assertEqual((code, int(reply["count"])), ("OK", 1), scope)
        code, reply = self.attempt("History/List", dict(self.repository(), range={
            "include": ["latin"], "message": [{"base64": base64.b64encode("über".encode("latin-1")).decode()}]}))
        self.assertEqual((code, reply["commits"]), ("OK", []))

    def test_a_dry_run_says_what_the_write_would(self):
        modules = '[submodule "x"]\n\tpath = -x\n\turl = https://example.org/x\n'
        for path, content in ((".gitmodules", modules), ("a/.gitattributes", "a" * 3000 + " text\n")):
            said = []
            for dry_run in (True, False):
                said.append(self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
                    self.repository(), message="m", write=self.write(dry_run=dry_run), actions=[
                        {"kind": "FILE_CREATE", "path": "fine", "content": "x"},
                        {"kind": "FILE_PUT", "path": path, "content": content}]), "actions[1] '%s'" % path))
            if path == ".gitmodules":
                self.assertEqual(*said)
                code, reply = self.attempt("Change/CommitFiles", dict(
                    self.repository(), message="m", write=self.write(dry_run=True), actions=[
                        {"kind": "FILE_PUT", "path": path, "content": modules.replace("-x", "x")}]))
                self.assertEqual((code, reply["outcome"]), ("OK", "CHANGE_DRY_RUN"))
        file = [{"kind": "FILE_PUT", "path": "f", "content": "x"}]
        for dry_run in (True, False):
            self.refused("FAILED_PRECONDITION", "Change/CreateBranch", dict(
                self.repository(), branch="main/sub", revision="main", dry_run=dry_run), "branch: 'refs/heads/main' exists")
            self.refused("FAILED_PRECONDITION", "Change/CommitFiles", dict(
                self.repository(), message="m", actions=file, write=self.write("main/a/b", start="main", dry_run=dry_run)),
                "write.branch: 'refs/heads/main' exists")
        self.attempt("Change/CreateBranch", dict(self.repository(), branch="deep/er", revision="main"))
        for dry_run in (True, False):
            self.refused("FAILED_PRECONDITION", "Change/CreateBranch", dict(
                self.repository(), branch="deep", revision="main", dry_run=dry_run), "branch: 'refs/heads/deep/er' exists")
        self.server.assert_settled()

    def test_values_that_say_nothing(self):
        file = [{"kind": "FILE_PUT", "path": "f", "content": "x"}]
        for message in ("\n", " \n\n", "\t"):
            self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
                self.repository(), message=message, write=self.write(), actions=file), "message")
        for name in (".", ",.;", "'"):
            self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
                self.repository(), message="m", write={"branch": "main", "committer": dict(ADA, name=name)}, actions=file),
                "write.committer.name")
        link = [{"kind": "FILE_CREATE", "path": "link", "content": "f", "mode": 0o120000}]
        code, reply = self.attempt("Change/CommitFiles", dict(self.repository(), message="m", write=self.write(), actions=link))
        self.assertEqual(code, "OK", reply)
        self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
            self.repository(), message="m", write=self.write(), actions=[{"kind": "FILE_CHMOD", "path": "link", "mode": 0o100755}]),
            "actions[0] 'link'", "symbolic link")

    def test_times(self):
        for seconds in (2 ** 63 - 1, 2 ** 34):
            self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
                self.repository(), message="m", write={"branch": "main", "committer": dict(ADA, seconds=str(seconds))},
                actions=[{"kind": "FILE_PUT", "path": "f", "content": "x"}]), "write.committer.seconds", "2514")
        code, reply = self.attempt("Change/CommitFiles", dict(
            self.repository(), message="m", write={"branch": "late", "start": "main", "force": True,
                                                   "committer": dict(ADA, seconds=str(2 ** 34 - 1))},
            actions=[{"kind": "FILE_PUT", "path": "f", "content": "x"}]))
        self.assertEqual(code, "OK", reply)
        replica = self.server.replica(self.name)
        git(replica, "commit-graph", "write", "--reachable")
        Git()("fsck", "--full", "--strict", cwd=replica)
        # What a push brought is shown as it stands.
        data = git(self.folder, "cat-file", "commit", "main").replace(b"committer ", b"committer X <x@y> 9223372036854775807 +0000\nx-was ", 1)
        oid = git(replica, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", input=data).decode().strip()
        code, reply = self.attempt("Commit/Get", dict(self.repository(), revisions=[oid]))
        self.assertEqual(code, "OK", reply)
        self.assertIn("9223372036854775807", json.dumps(reply))

    def test_names_that_git_takes_for_something_else(self):
        for name in ("-x2", "HEAD", "refs/heads/-x2"):
            self.refused("INVALID_ARGUMENT", "Change/CreateBranch", dict(self.repository(), branch=name, revision="main"), "branch: ")
            self.refused("INVALID_ARGUMENT", "Change/CommitFiles", dict(
                self.repository(), message="m", write=self.write(name, start="main"),
                actions=[{"kind": "FILE_PUT", "path": "f", "content": "x"}]), "write.branch: ")
        self.refused("INVALID_ARGUMENT", "Change/CreateTag", dict(self.repository(), tag="-t", revision="main"), "tag: ")
        for name in ("-x", "HEAD", "refs/tags/v1.0", "refs/heads/-x", "a..b"):
            self.refused("INVALID_ARGUMENT", "Repository/Create", dict(self.repository(self.name + "n"), default_branch=name),
                         "default_branch: ")
            self.refused("INVALID_ARGUMENT", "Ref/SetDefaultBranch", dict(self.repository(), branch=name), "branch: ")
        self.assertEqual(self.here("symbolic-ref", "HEAD"), "refs/heads/main")
        # One that a push made can be taken away.
        self.git("push", "-q", "%s/%s.git" % (self.server.url, self.name), "main:refs/heads/-x3", cwd=self.folder)
        code, reply = self.attempt("Change/DeleteBranch", dict(self.repository(), branch="-x3"))
        self.assertEqual(code, "OK", reply)

    def test_a_name_that_no_ref_can_have(self):
        self.refused("INVALID_ARGUMENT", "Ref/Find", dict(self.repository(), name="refs/heads/a..b"), "name", "two dots")
        self.refused("NOT_FOUND", "Ref/Find", dict(self.repository(), name="refs/heads/a.b"))

    def test_lists_of_prefixes(self):
        code, reply = self.attempt("Ref/List", dict(self.repository(), prefixes=["refs/heads/m"] * 1000))
        self.assertEqual(code, "OK", reply)
        self.refused("INVALID_ARGUMENT", "Ref/List", dict(self.repository(), prefixes=["refs/heads/m"] * 1001), "prefixes", "1000")


class Between(TransferCase):
    """What one repository of the server gets from another."""

    def take(self, source, *specs, **rules):
        return dict(self.repository(), source={"path": source}, rules=dict(rules, refspecs=list(specs)))

    def test_a_branch_of_a_fork(self):
        folder = self.copy("plain")
        self.push(self.name, folder)
        fork = self.name + "-fork"
        self.server.call("Repository/Fork", dict(self.repository(fork), source={"path": self.name}))
        oid = self.grow(folder)
        self.git("push", "-q", "%s/%s.git" % (self.server.url, fork), "main:refs/heads/proposal", cwd=folder)
        before = self.refs(self.server.replica(self.name))
        request = self.take(fork, "refs/heads/proposal:refs/merge-requests/1/head")
        code, reply = self.attempt("Repository/FetchFrom", dict(request, rules=dict(request["rules"], dry_run=True)))
        self.assertEqual((code, table(reply), reply.get("receipt")), ("OK", {"refs/merge-requests/1/head": "CREATED"}, None), reply)
        self.assertEqual(self.refs(self.server.replica(self.name)), before)
        code, reply = self.attempt("Repository/FetchFrom", request)
        self.assertEqual((code, table(reply)), ("OK", {"refs/merge-requests/1/head": "CREATED"}), reply)
        self.assertEqual(self.refs(self.server.replica(self.name)), dict(before, **{"refs/merge-requests/1/head": oid}))
        code, reply = self.attempt("Repository/FetchFrom", request)
        self.assertEqual((code, reply["refs"], int(reply["unchanged"])), ("OK", [], 1), reply)
        # It needs its source no more, and files can be committed from it.
        self.server.call("Repository/Delete", self.repository(fork))
        Git()("fsck", "--full", "--strict", cwd=self.server.replica(self.name))
        code, reply = self.attempt("Change/CommitFiles", dict(
            self.repository(), message="m", write={"branch": "from", "start": "refs/merge-requests/1/head", "committer": ADA},
            actions=[{"kind": "FILE_CREATE", "path": "new", "content": "x"}]))
        self.assertEqual(code, "OK", reply)
        self.assertEqual(Git()("rev-parse", "from~1", cwd=self.server.replica(self.name)), oid)
        self.server.assert_settled()

    def test_patterns_and_what_went_its_own_way(self):
        folder, source = self.copy("plain"), self.name + "s"
        self.push(self.name, folder)
        self.push(source, folder)
        git(folder, "update-ref", "refs/heads/main", "main~3")
        mine = self.grow(folder)
        self.git("push", "-q", "-f", "%s/%s.git" % (self.server.url, source), "main", cwd=folder)
        code, reply = self.attempt("Repository/FetchFrom", self.take(source))
        self.assertEqual((code, table(reply)), ("OK", {"refs/heads/main": "DIVERGENT"}), reply)
        code, reply = self.attempt("Repository/FetchFrom", self.take(source, "+refs/*:refs/*", prune=True))
        self.assertEqual((code, table(reply)), ("OK", {"refs/heads/main": "REPLACED"}), reply)
        self.assertEqual(Git()("rev-parse", "main", cwd=self.server.replica(self.name)), mine)
        self.same(self.name, self.server.replica(source))
        code, reply = self.attempt("Repository/FetchFrom", self.take(source, "HEAD:refs/heads/head"))
        self.assertEqual((code, table(reply)), ("OK", {"refs/heads/head": "CREATED"}), reply)

    def test_what_cannot_be(self):
        self.push(self.name, history("plain"))
        self.push(self.name + "s", history("plain"))
        before = self.refs(self.server.replica(self.name))
        for source, code in (("absent", "NOT_FOUND"), ("../x", "INVALID_ARGUMENT"), ("", "INVALID_ARGUMENT")):
            self.refused(code, "Repository/FetchFrom", self.take(source), "source")
        self.refused("NOT_FOUND", "Repository/FetchFrom", self.take(self.name + "s", "refs/heads/absent:refs/heads/x"), "refs/heads/absent")
        self.refused("INVALID_ARGUMENT", "Repository/FetchFrom", self.take(self.name + "s", "main:refs/heads/x"), "rules.refspecs")
        self.refused("PERMISSION_DENIED", "Repository/FetchFrom", self.take(self.name + "s", "refs/heads/main:refs/gitstead/x"))
        self.assertEqual(self.refs(self.server.replica(self.name)), before)
        self.server.assert_settled()

    def test_eight_at_once_into_one_branch(self):
        folder = self.copy("plain")
        self.push(self.name, folder)
        base = git(folder, "rev-parse", "main").decode().strip()
        oids = []
        for index in range(8):
            git(folder, "update-ref", "refs/heads/main", base)
            oids.append(self.grow(folder))
            self.push("%s-%d" % (self.name, index), folder, "main")
        found = self.at_once([("Repository/FetchFrom", self.take("%s-%d" % (self.name, index), "refs/heads/main:refs/heads/main"))
                              for index in range(8)])
        won = [reply for code, reply in found if code == "OK" and table(reply) == {"refs/heads/main": "FORWARDED"}]
        self.assertEqual(len(won), 1, found)
        for code, reply in found:
            if code == "OK":
                self.assertIn(table(reply), ({"refs/heads/main": "FORWARDED"}, {"refs/heads/main": "DIVERGENT"}))
            else:
                self.assertIn(code, ("ABORTED", "FAILED_PRECONDITION"), reply)
        self.assertIn(self.refs(self.server.replica(self.name))["refs/heads/main"], oids)
        self.server.assert_settled()

    def test_eight_at_once_set_the_default_branch(self):
        self.push(self.name, history("plain"))
        self.server.call("Ref/SetDefaultBranch", dict(self.repository(), branch="main"))
        names = ["b%d" % index for index in range(8)]
        found = self.at_once([("Ref/SetDefaultBranch", dict(self.repository(), branch=name, expected_old="main")) for name in names])
        self.assertEqual(sorted(code for code, _ in found).count("OK"), 1, found)
        for code, reply in found:
            self.assertIn(code, ("OK", "FAILED_PRECONDITION", "ABORTED"), reply)
        winner = names[[code for code, _ in found].index("OK")]
        replica = self.server.replica(self.name)
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), "refs/heads/" + winner)
        self.refused("FAILED_PRECONDITION", "Ref/SetDefaultBranch", dict(self.repository(), branch="main", expected_old="main"),
                     "expected_old", "refs/heads/" + winner)
        self.refused("INVALID_ARGUMENT", "Ref/SetDefaultBranch", dict(self.repository(), branch="main", expected_old="-x"), "expected_old")
        code, reply = self.attempt("Ref/SetDefaultBranch", dict(self.repository(), branch="main", expected_old="refs/heads/" + winner))
        self.assertEqual(code, "OK", reply)
        self.assertFalse([name for _, _, files in os.walk(replica) for name in files if name.endswith(".lock")])
        self.server.assert_settled()

    def test_eight_at_once_update_rename_and_delete(self):
        folder = self.copy("plain")
        self.push(self.name, folder)
        base = git(folder, "rev-parse", "main").decode().strip()
        oids = []
        for _ in range(8):
            git(folder, "update-ref", "refs/heads/main", base)
            oids.append(self.grow(folder))
        git(folder, "update-ref", "refs/heads/main", base)
        self.git("push", "-q", "%s/%s.git" % (self.server.url, self.name),
                 *["%s:refs/keep/%d" % (oid, index) for index, oid in enumerate(oids)], cwd=folder)
        found = self.at_once([("Ref/Update", dict(self.repository(), updates=[
            {"name": "refs/heads/main", "old_oid": base, "new_oid": oid}])) for oid in oids])
        self.one_winner(found, ("FAILED_PRECONDITION", "ABORTED"))
        self.assertEqual(Git()("rev-parse", "main", cwd=self.server.replica(self.name)), oids[[code for code, _ in found].index("OK")])
        found = self.at_once([("Repository/Rename", dict(self.repository(), new_path="%s-to-%d" % (self.name, index)))
                              for index in range(8)])
        self.one_winner(found, ("NOT_FOUND", "ABORTED", "FAILED_PRECONDITION"))
        now = "%s-to-%d" % (self.name, [code for code, _ in found].index("OK"))
        Git()("fsck", "--full", "--strict", "--no-dangling", cwd=self.server.replica(now))
        found = self.at_once([("Repository/Delete", self.repository(now))] * 8)
        self.one_winner(found, ("NOT_FOUND", "ABORTED", "FAILED_PRECONDITION"))
        self.assertFalse(self.server.call("Repository/Exists", self.repository(now))["exists"])

    def test_every_call_that_writes_is_raced(self):
        """By the test named here, or there is a reason why not."""
        every = "test_change.py:test_every_call_has_one_winner"
        raced = {"Git/ReceivePack": "test_git_http.py:test_pushes_to_one_branch_at_once",
                 "Pool/Refresh": "test_pool.py:test_eight_at_once",
                 "Ref/Update": "test_api_edges.py:test_eight_at_once_update_rename_and_delete",
                 "Ref/Delete": "test_ref_delete.py:test_eight_at_once",
                 "Ref/SetDefaultBranch": "test_api_edges.py:test_eight_at_once_set_the_default_branch",
                 "Repository/Rename": "test_api_edges.py:test_eight_at_once_update_rename_and_delete",
                 "Repository/Delete": "test_api_edges.py:test_eight_at_once_update_rename_and_delete",
                 "Repository/CreateFromBundle": "test_transfer.py:test_eight_at_once_create_one_repository",
                 "Repository/BundleApply": "test_transfer.py:test_eight_at_once_apply_to_one_branch",
                 "Repository/Fetch": "test_transfer_remote.py:test_eight_fetches_at_once",
                 "Repository/Adopt": "test_adopt.py:test_eight_at_once_adopt_one",
                 "Repository/FetchFrom": "test_api_edges.py:test_eight_at_once_into_one_branch"}
        reasons = {"Repository/Create": "reserves its name as CreateFromBundle does",
                   "Repository/Fork": "fills what it reserved as CreateFromBundle does",
                   "Repository/CreateFromUrl": "fills what it reserved as CreateFromBundle does",
                   "Repository/ConfigSet": "changes no ref", "Repository/HooksSet": "changes no ref"}
        here = os.path.dirname(os.path.abspath(__file__))
        found = [one["name"] for one in self.server.call("Server/Methods")["methods"] if one["operation"] == "MUTATOR"]
        self.assertIn("Ref/Update", found)
        for name in found:
            service = name.partition("/")[0]
            if name in reasons or service in ("Token", "Cluster", "Node"): # none of these writes to a repository's refs
                continue
            file, _, test = raced.get(name, every if service == "Change" else "").partition(":")
            self.assertTrue(test, "%s is raced by no test: write one, or a reason" % name)
            with open(os.path.join(here, file), encoding="utf-8") as text:
                self.assertIn("def %s(" % test, text.read(), name)

    def one_winner(self, found, others):
        self.assertEqual([code for code, _ in found].count("OK"), 1, found)
        for code, reply in found:
            self.assertIn(code, ("OK",) + others, reply)

    def at_once(self, calls):
        """The outcomes of the calls, in their order."""
        found = [None] * len(calls)
        ready = threading.Barrier(len(calls))

        def one(index):
            ready.wait(60)
            found[index] = self.attempt(*calls[index])

        threads = [threading.Thread(target=one, args=(index,)) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


class Clustered(Cluster):
    """Two repositories whose replicas lie on other nodes than the one that is asked."""

    def test_from_node_to_node(self):
        self.router = self.add_router()
        admin = self.router.new_token("admin")

        def call(method, **request):
            reply = self.router.http("POST", "/api/v1/" + method, json.dumps(request), {
                "Authorization": "Bearer " + admin, "Content-Type": "application/json"}, timeout=120)
            self.assertEqual(reply.status, 200, reply.body)
            return json.loads(reply.body)

        data = git(history("plain"), "bundle", "create", "-q", "-", "--all", "HEAD")
        self.router.cli("call", "Repository/CreateFromBundle", json.dumps({"repository": {"path": "a"}}), input=data, text=False)
        call("Repository/Create", repository={"path": "b"})
        reply = call("Repository/FetchFrom", repository={"path": "b"}, source={"path": "a"},
                     rules={"refspecs": ["refs/heads/main:refs/merge-requests/7/head"]})
        self.assertEqual(table(reply), {"refs/merge-requests/7/head": "CREATED"})
        main = git(history("plain"), "rev-parse", "main").decode().strip()
        self.assertEqual(self.assert_equal_replicas(self.router, "b"), {"refs/merge-requests/7/head": main})
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
