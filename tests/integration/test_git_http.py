# SPDX-License-Identifier: Apache-2.0
"""Stock git over smart HTTP: every way to clone, fetch and push, in protocol v0, v1 and v2."""
import os
import subprocess
import threading
import time

import gitstead_test
from gitstead_test import FLUSH, ServerTestCase, ZERO, make_history, packet, packets, refs_digest


class GitHttp(ServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.source = make_history(cls.server.folder + "/source.git", commits=400, tags=40, branches=12)
        cls.names = 0

    # ------------------------------------------------------------------------------------------- helpers

    def new_repository(self, pushed=False):
        """A fresh repository of this server; with @pushed it holds the whole source."""
        type(self).names += 1
        path = "http/r%d" % self.names
        url = self.server.create(path)
        if pushed:
            self.git("push", "-q", "--mirror", url, cwd=self.source)
        return path, url

    def work_tree(self, url):
        """A small clone to work in, with one commit on main pushed."""
        work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=work)
        self.git("remote", "add", "origin", url, cwd=work)
        self.commit(work, "one")
        self.git("push", "-q", "origin", "main", cwd=work)
        return work

    def commit(self, work, text, name="file.txt", size=0):
        with open(os.path.join(work, name), "wb") as out:
            out.write(text.encode() + b"\n" + os.urandom(size))
        self.git("add", ".", cwd=work)
        self.git("commit", "-q", "-m", text, cwd=work)
        return self.git("rev-parse", "HEAD", cwd=work)

    def remote_refs(self, url, *arguments):
        lines = self.git("ls-remote", *arguments, url).splitlines()
        return {line.split("\t")[1]: line.split("\t")[0] for line in lines}

    def assert_same(self, folder, other=None):
        self.assertEqual(self.git.refs(folder), self.git.refs(other or self.source))
        self.git.fsck(folder)

    def assert_agrees(self, path):
        """What the metadata store says is what lies on the disk, and git finds the disk's repository whole."""
        replica = self.server.replica(path)
        self.assertEqual(self.server.info(path)["refs_digest"], refs_digest(self.git, replica))
        self.git.fsck(replica)
        self.server.assert_settled()

    # ---------------------------------------------------------------------------------------- whole clones

    def test_push_and_clone_in_every_protocol(self):
        for version in ("0", "1", "2"):
            with self.subTest(protocol=version):
                path, url = self.new_repository()
                self.git("-c", "protocol.version=" + version, "push", "-q", "--mirror", url, cwd=self.source)
                for other in ("0", "1", "2"):
                    clone = self.scratch() + "/clone.git"
                    self.git("-c", "protocol.version=" + other, "clone", "-q", "--mirror", url, clone)
                    self.assert_same(clone)
                self.assert_agrees(path)

    def test_clone_of_an_empty_repository(self):
        for version in ("0", "1", "2"):
            path, url = self.new_repository()
            work = self.scratch() + "/work"
            self.git("-c", "protocol.version=" + version, "clone", "-q", url, work)
            self.assertEqual(self.remote_refs(url), {})
            # Only v2 tells the name of the branch that is not there yet.
            if version == "2":
                self.assertEqual(self.git("symbolic-ref", "HEAD", cwd=work), "refs/heads/main")

    def test_ls_remote_is_the_same_in_every_protocol(self):
        path, url = self.new_repository(pushed=True)
        expected = {}
        for line in self.git("show-ref", "--dereference", "--head", cwd=self.source).splitlines():
            expected[line.split(" ", 1)[1]] = line.split(" ", 1)[0]
        for version in ("0", "1", "2"):
            listed = self.git("-c", "protocol.version=" + version, "ls-remote", url).splitlines()
            self.assertEqual({line.split("\t")[1]: line.split("\t")[0] for line in listed}, expected)
        # The server gives prefixes only, and the client asks for no more.
        self.assertEqual(set(self.remote_refs(url, "--tags", "--refs")),
                         {name for name in expected if name.startswith("refs/tags/") and not name.endswith("^{}")})

    def test_incremental_fetch_with_many_haves(self):
        path, url = self.new_repository(pushed=True)
        for version in ("0", "2"):
            clone = self.scratch() + "/clone"
            self.git("clone", "-q", url, clone)
            work = self.scratch() + "/work"
            self.git("clone", "-q", url, work)
            # Local commits that the server has not: they are the newest, and so offered as haves first.
            for number in range(40):
                self.git("commit", "-q", "--allow-empty", "-m", "local %d" % number, cwd=clone,
                         env={"GIT_COMMITTER_DATE": "%d +0000" % (time.time() + 1000 + number)})
            for number in range(3):
                self.commit(work, "more %s %d" % (version, number))
            self.git("push", "-q", "origin", "main", cwd=work)
            trace = os.path.join(self.scratch(), "trace")
            self.git("-c", "protocol.version=" + version, "fetch", "-q", "origin", cwd=clone,
                     env={"GIT_TRACE_CURL": trace, "GIT_TRACE_CURL_NO_DATA": "1"})
            self.assertEqual(self.git("rev-parse", "origin/main", cwd=clone), self.git("rev-parse", "main", cwd=work))
            self.git.fsck(clone)
            with open(trace, errors="replace") as file:
                self.assertIn("content-encoding: gzip", file.read().lower())

    # ------------------------------------------------------------------------------- shallow, partial, single

    def test_shallow_clones(self):
        path, url = self.new_repository(pushed=True)
        for version in ("0", "1", "2"):
            with self.subTest(protocol=version):
                protocol = ("-c", "protocol.version=" + version)
                clone = self.scratch() + "/clone"
                self.git(*protocol, "clone", "-q", "--depth", "1", url, clone)
                self.assertEqual(self.git("rev-list", "--count", "HEAD", cwd=clone), "1")
                self.assertEqual(self.git("rev-parse", "HEAD", cwd=clone), self.git("rev-parse", "main", cwd=self.source))
                self.git.fsck(clone)
                self.git(*protocol, "fetch", "-q", "--deepen", "5", cwd=clone)
                deeper = int(self.git("rev-list", "--count", "HEAD", cwd=clone))
                self.assertGreaterEqual(deeper, 6)
                self.git.fsck(clone)
                self.git(*protocol, "fetch", "-q", "--depth", "3", cwd=clone)
                self.assertLess(int(self.git("rev-list", "--count", "HEAD", cwd=clone)), deeper)
                self.git(*protocol, "fetch", "-q", "--unshallow", cwd=clone)
                self.assertEqual(self.git("rev-list", "--count", "HEAD", cwd=clone),
                                 self.git("rev-list", "--count", "main", cwd=self.source))
                self.assertFalse(os.path.exists(clone + "/.git/shallow"))
                self.git.fsck(clone)

    def test_shallow_by_date_and_by_exclusion(self):
        path, url = self.new_repository(pushed=True)
        date = self.git("log", "-1", "--format=%ct", "main~20", cwd=self.source)
        clone = self.scratch() + "/clone"
        self.git("clone", "-q", "--shallow-since", date, url, clone)
        self.assertGreater(int(self.git("rev-list", "--count", "HEAD", cwd=clone)), 10)
        self.git.fsck(clone)
        clone = self.scratch() + "/clone"
        self.git("clone", "-q", "--shallow-exclude", "v2.0", url, clone)
        self.assertEqual(self.git("rev-list", "--count", "HEAD", cwd=clone),
                         self.git("rev-list", "--count", "main", "^v2.0", cwd=self.source))
        self.git.fsck(clone)

    def test_push_from_a_shallow_clone(self):
        path, url = self.new_repository(pushed=True)
        clone = self.scratch() + "/clone"
        self.git("clone", "-q", "--depth", "1", url, clone)
        head = self.commit(clone, "from a shallow clone")
        self.git("push", "-q", "origin", "main", cwd=clone)
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], head)
        self.assert_agrees(path)

    def test_partial_clones(self):
        path, url = self.new_repository(pushed=True)
        for version in ("0", "2"):
            for spec, kinds in (("blob:none", {"blob"}), ("tree:0", {"blob", "tree"}), ("blob:limit=1k", {"blob"})):
                with self.subTest(protocol=version, filter=spec):
                    clone = self.scratch() + "/clone"
                    self.git("-c", "protocol.version=" + version, "clone", "-q", "--no-checkout", "--filter=" + spec,
                             url, clone)
                    missing = [line[1:] for line in self.git("rev-list", "--objects", "--all", "--missing=print",
                                                             cwd=clone).splitlines() if line.startswith("?")]
                    self.assertGreater(len(missing), 10)
                    types = self.git("cat-file", "--batch-check=%(objecttype)", cwd=self.source,
                                     input=("\n".join(missing[:200]) + "\n").encode()).split()
                    self.assertLessEqual(set(types), kinds)
                    # The rest comes when it is needed.
                    self.git("checkout", "-q", "main", cwd=clone)
                    self.assertEqual(self.git("status", "--porcelain", cwd=clone), "")
                    self.assertEqual(self.git("rev-parse", "HEAD^{tree}", cwd=clone),
                                     self.git("rev-parse", "main^{tree}", cwd=self.source))
                    self.git("fsck", "--full", "--strict", "--no-dangling", cwd=clone)

    def test_single_branch_and_no_tags(self):
        path, url = self.new_repository(pushed=True)
        branch = next(name for name in self.remote_refs(url, "--heads") if "topic/" in name)[len("refs/heads/"):]
        for version in ("0", "2"):
            clone = self.scratch() + "/clone"
            self.git("-c", "protocol.version=" + version, "clone", "-q", "--single-branch", "--no-tags", "-b", branch, url,
                     clone)
            self.assertEqual(self.git("for-each-ref", "--format=%(refname)", cwd=clone).splitlines(),
                             ["refs/heads/" + branch, "refs/remotes/origin/" + branch])
            self.assertEqual(self.git("rev-parse", "HEAD", cwd=clone), self.git("rev-parse", branch, cwd=self.source))
            self.git.fsck(clone)

    def test_fetch_by_object_id(self):
        path, url = self.new_repository(pushed=True)
        wanted = self.git("rev-parse", "refs/tags/v1.0^{commit}", cwd=self.source)
        clone = self.scratch()
        self.git("init", "-q", cwd=clone)
        self.git("fetch", "-q", "--depth", "1", url, self.git("rev-parse", "main", cwd=self.source), cwd=clone)
        self.git("fetch", "-q", url, "refs/tags/v1.0", cwd=clone)
        self.assertEqual(self.git("rev-parse", "FETCH_HEAD^{commit}", cwd=clone), wanted)

    # ---------------------------------------------------------------------------------------------- pushes

    def test_life_of_a_branch(self):
        for version in ("0", "1", "2"):
            with self.subTest(protocol=version):
                path, url = self.new_repository()
                work = self.work_tree(url)
                self.git("config", "protocol.version", version, cwd=work)
                first = self.git("rev-parse", "HEAD", cwd=work)
                generation = self.server.info(path)["generation"]
                second = self.commit(work, "two")
                self.git("push", "-q", "origin", "main", "main:refs/heads/topic/a", cwd=work)
                self.assertEqual(self.server.info(path)["generation"], generation + 1)
                self.assertEqual(self.remote_refs(url), {"HEAD": second, "refs/heads/main": second,
                                                         "refs/heads/topic/a": second})
                # Back to the first commit and on from there: refused without force.
                self.git("reset", "-q", "--hard", first, cwd=work)
                other = self.commit(work, "another two")
                self.assertMentions(self.git.fails("push", "origin", "main", cwd=work), "rejected")
                self.git("push", "-q", "--force", "origin", "main", cwd=work)
                self.assertEqual(self.remote_refs(url)["refs/heads/main"], other)
                # A directory in place of a branch, and back, needs the old one deleted first.
                self.assertMentions(self.git.fails("push", "origin", "main:refs/heads/topic", cwd=work), "rejected")
                self.git("push", "-q", "origin", ":refs/heads/topic/a", cwd=work)
                self.git("push", "-q", "origin", "main:refs/heads/topic", cwd=work)
                self.assertEqual(set(self.remote_refs(url)), {"HEAD", "refs/heads/main", "refs/heads/topic"})
                self.assert_agrees(path)

    def test_push_of_nothing_new_changes_nothing(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        generation = self.server.info(path)["generation"]
        self.assertMentions(self.git("push", "origin", "main", cwd=work) + "up-to-date", "up-to-date")
        self.assertEqual(self.server.info(path)["generation"], generation)

    def test_force_with_lease(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        expected = self.git("rev-parse", "HEAD", cwd=work)
        other = self.scratch() + "/other"
        self.git("clone", "-q", url, other)
        theirs = self.commit(other, "theirs")
        self.git("push", "-q", "origin", "main", cwd=other)
        self.git("commit", "-q", "--amend", "-m", "Mine", cwd=work)
        text = self.git.fails("push", "--force-with-lease=main:" + expected, "origin", "main", cwd=work)
        self.assertMentions(text, "rejected", "stale")
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], theirs)
        self.git("push", "-q", "--force-with-lease=main:" + theirs, "origin", "main", cwd=work)
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], self.git("rev-parse", "HEAD", cwd=work))
        self.assert_agrees(path)

    def test_atomic_push(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        self.git("push", "-q", "origin", "main:refs/heads/dir/leaf", cwd=work)
        before, files = self.remote_refs(url), self.server.files()
        self.commit(work, "two")
        # "dir" cannot be beside "dir/leaf"; with --atomic the good ref is refused with it.
        text = self.git.fails("push", "--atomic", "origin", "main", "main:refs/heads/dir", cwd=work)
        self.assertMentions(text, "rejected")
        self.assertEqual(self.remote_refs(url), before)
        self.server.assert_settled(files)
        # Without it the good one goes through.
        self.assertMentions(self.git.fails("push", "origin", "main", "main:refs/heads/dir", cwd=work), "rejected")
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], self.git("rev-parse", "HEAD", cwd=work))
        self.assertNotIn("refs/heads/dir", self.remote_refs(url))
        self.git("push", "-q", "--atomic", "origin", "main:refs/heads/x", "main:refs/heads/y", ":refs/heads/dir/leaf", cwd=work)
        self.assertEqual(set(self.remote_refs(url)), {"HEAD", "refs/heads/main", "refs/heads/x", "refs/heads/y"})
        self.assert_agrees(path)

    def test_tags(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        self.git("tag", "light", cwd=work)
        self.git("tag", "-a", "-m", "Annotated", "heavy", cwd=work)
        self.git("tag", "-a", "-m", "Tag of a tag", "heavier", "heavy", cwd=work)
        self.git("tag", "tree", "HEAD^{tree}", cwd=work)
        self.git("push", "-q", "origin", "--tags", cwd=work)
        listed = self.remote_refs(url)
        commit = self.git("rev-parse", "HEAD", cwd=work)
        self.assertEqual(listed["refs/tags/light"], commit)
        self.assertEqual(listed["refs/tags/heavy^{}"], commit)
        self.assertEqual(listed["refs/tags/heavier^{}"], commit)
        self.assertNotIn("refs/tags/light^{}", listed)
        clone = self.scratch() + "/clone.git"
        self.git("clone", "-q", "--mirror", url, clone)
        self.git.fsck(clone)
        # A tag is followed when its commit is pushed.
        self.commit(work, "two")
        self.git("tag", "-a", "-m", "Followed", "followed", cwd=work)
        self.git("push", "-q", "--follow-tags", "origin", "main", cwd=work)
        self.assertIn("refs/tags/followed", self.remote_refs(url))
        self.git("push", "-q", "origin", "--delete", "light", "heavy", cwd=work)
        self.assertNotIn("refs/tags/heavy", self.remote_refs(url))
        self.assert_agrees(path)

    def test_push_options(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        self.commit(work, "two")
        self.git("push", "-q", "-o", "ci.skip", "-o", "reviewer=ada", "origin", "main", cwd=work)
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], self.git("rev-parse", "HEAD", cwd=work))

    def test_chunked_push_and_expect_100(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        trace = os.path.join(self.scratch(), "trace")
        self.commit(work, "big", name="big.bin", size=3_000_000)
        self.git("-c", "http.postBuffer=65536", "push", "-q", "origin", "main", cwd=work,
                 env={"GIT_TRACE_CURL": trace, "GIT_TRACE_CURL_NO_DATA": "1"})
        with open(trace, errors="replace") as file:
            self.assertIn("transfer-encoding: chunked", file.read().lower())
        self.assert_agrees(path)
        # "Expect: 100-continue" before a large body, from a client that insists on the answer.
        body = os.path.join(self.scratch(), "body")
        with open(body, "wb") as out:
            out.write(packet("command=ls-refs\n") + packet("agent=test\n") + b"0001" + packet("peel\n") + FLUSH)
        done = subprocess.run(["curl", "-sS", "-v", "--fail", "--expect100-timeout", "30", "-H", "Expect: 100-continue",
                               "-H", "Git-Protocol: version=2", "-H", "Content-Type: application/x-git-upload-pack-request",
                               "-H", "Authorization: " + self.server.bearer()["Authorization"],
                               "--data-binary", "@" + body, url + "/git-upload-pack"], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"100 Continue", done.stderr)
        self.assertIn(b"refs/heads/main", done.stdout)

    def test_many_refs_in_one_push(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        head = self.git("rev-parse", "HEAD", cwd=work)
        self.git("update-ref", "--stdin", cwd=work,
                 input="".join("create refs/heads/many/%04d %s\n" % (n, head) for n in range(2000)).encode())
        self.git("push", "-q", "origin", "refs/heads/*:refs/heads/*", cwd=work)
        self.assertEqual(len(self.remote_refs(url)), 2002)
        # Gone again with one more push: packed refs are deleted too.
        self.git("push", "-q", "--prune", "origin", "refs/heads/main:refs/heads/main", cwd=work)
        self.git("push", "-q", "--mirror", url, cwd=self.source)
        clone = self.scratch() + "/clone.git"
        self.git("clone", "-q", "--mirror", url, clone)
        self.assert_same(clone)
        self.assert_agrees(path)

    def test_everything_after_another(self):
        """Pushed whole, cloned, pushed to again, refs deleted, forced: each clone is the source's equal."""
        path, url = self.new_repository(pushed=True)
        copy = self.scratch() + "/copy.git"
        self.git("clone", "-q", "--mirror", self.source, copy)
        branches = [name for name in self.git("for-each-ref", "--format=%(refname)", "refs/heads/topic", cwd=copy).split()]
        self.git("update-ref", "-d", branches[0], cwd=copy)
        self.git("update-ref", "-d", "refs/tags/v0.0", cwd=copy)
        self.git("update-ref", "refs/heads/main", "refs/heads/main~7", cwd=copy)
        self.git("update-ref", branches[1], "refs/heads/main", cwd=copy)
        tree = self.git("rev-parse", "main^{tree}", cwd=copy)
        forced = self.git("commit-tree", "-m", "Elsewhere", tree, cwd=copy)
        self.git("update-ref", "refs/heads/elsewhere", forced, cwd=copy)
        self.git("push", "-q", "--mirror", "--force", url, cwd=copy)
        for version in ("0", "2"):
            clone = self.scratch() + "/clone.git"
            self.git("-c", "protocol.version=" + version, "clone", "-q", "--mirror", url, clone)
            self.assert_same(clone, copy)
        self.assert_agrees(path)

    def test_pushes_to_different_branches_at_once(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        clones, problems = [], []
        for number in range(4):
            clone = self.scratch() + "/clone"
            self.git("clone", "-q", url, clone)
            self.commit(clone, "by %d" % number, name="f%d" % number)
            clones.append(clone)

        def push(number):
            try:
                for turn in range(3):
                    self.git("push", "-q", "origin", "main:refs/heads/by-%d-%d" % (number, turn), cwd=clones[number])
            except AssertionError as error:
                problems.append(str(error))

        threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        listed = self.remote_refs(url, "--heads")
        self.assertEqual(len(listed), 13)
        for number, clone in enumerate(clones):
            self.assertEqual(listed["refs/heads/by-%d-2" % number], self.git("rev-parse", "main", cwd=clone))
        self.assertEqual(self.server.info(path)["generation"], 13)
        self.assert_agrees(path)

    def test_pushes_to_one_branch_at_once(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        before = self.server.info(path)["generation"]
        clones, won = [], []
        for number in range(4):
            clone = self.scratch() + "/clone"
            self.git("clone", "-q", url, clone)
            self.commit(clone, "by %d" % number, name="f%d" % number)
            clones.append(clone)

        def push(number):
            if self.git.run("push", "-q", "origin", "main", cwd=clones[number]).returncode == 0:
                won.append(number)

        threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(won), 1)
        self.assertEqual(self.remote_refs(url)["refs/heads/main"], self.git("rev-parse", "main", cwd=clones[won[0]]))
        self.assertEqual(self.server.info(path)["generation"], before + 1)
        self.assert_agrees(path)

    # ------------------------------------------------------------------------------------------- the edges

    def test_paths_with_and_without_suffix(self):
        path, url = self.new_repository()
        self.work_tree(url)
        self.assertEqual(self.remote_refs(url), self.remote_refs(url[:-len(".git")]))

    def test_dumb_clients_are_told_why(self):
        path, url = self.new_repository()
        response = self.server.http("GET", "/%s.git/info/refs" % path, headers=self.server.bearer())
        self.assertIn(response.status, (400, 403))
        self.assertMentions(response.body.decode(), "smart")
        response = self.server.http("GET", "/%s.git/HEAD" % path, headers=self.server.bearer())
        self.assertEqual(response.status, 404)

    def test_repository_that_is_not_there(self):
        text = self.git.fails("clone", self.server.url + "/not/there.git", self.scratch() + "/x")
        self.assertMentions(text, "not/there", "not found")

    def test_rename_under_a_clone(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        self.server.cli("repo", "rename", path, path + "-new")
        self.assertMentions(self.git.fails("fetch", "origin", cwd=work), "not found")
        self.git("remote", "set-url", "origin", url.replace(path, path + "-new"), cwd=work)
        self.commit(work, "two")
        self.git("push", "-q", "origin", "main", cwd=work)
        self.assert_agrees(path + "-new")

    def test_advertisements_have_the_headers_that_git_needs(self):
        path, url = self.new_repository(pushed=True)
        response = self.server.http("GET", "/%s.git/info/refs?service=git-upload-pack" % path, headers=self.server.bearer())
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["Content-Type"], "application/x-git-upload-pack-advertisement")
        self.assertIn("no-cache", response.headers["Cache-Control"])
        lines = packets(response.body)
        self.assertEqual(lines[0], b"# service=git-upload-pack\n")
        self.assertIsNone(lines[1])
        self.assertIn(b"HEAD\0", lines[2])
        self.assertIn(b"symref=HEAD:refs/heads/main", lines[2])

    def test_hidden_refs_stay_hidden(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        text = self.git.fails("push", "origin", "main:refs/gitstead/x", cwd=work)
        self.assertMentions(text, "rejected", "refs/gitstead/x")
        replica = self.server.replica(path)
        self.git("update-ref", "refs/gitstead/own", self.git("rev-parse", "main", cwd=work), cwd=replica)
        self.assertNotIn("refs/gitstead/own", self.remote_refs(url))
        self.git.fails("fetch", "origin", "refs/gitstead/own", cwd=work)

    def test_a_foreign_git_beside_us_is_seen(self):
        path, url = self.new_repository()
        work = self.work_tree(url)
        replica = self.server.replica(path)
        head = self.git("rev-parse", "main", cwd=work)
        self.git("update-ref", "refs/heads/foreign", head, cwd=replica)
        self.assertEqual(self.remote_refs(url)["refs/heads/foreign"], head)
        self.git("pack-refs", "--all", cwd=replica)
        self.assertEqual(self.remote_refs(url)["refs/heads/foreign"], head)
        self.git("update-ref", "-d", "refs/heads/foreign", cwd=replica)
        self.assertNotIn("refs/heads/foreign", self.remote_refs(url))

    def test_receive_pack_refuses_the_zero_update(self):
        path, url = self.new_repository()
        self.work_tree(url)
        body = gitstead_test.push_request([(ZERO, ZERO, "refs/heads/none")], b"")
        response = self.server.http("POST", "/%s.git/git-receive-pack" % path, body=body, headers=dict(
            self.server.bearer(), **{"Content-Type": "application/x-git-receive-pack-request"}))
        self.assertEqual(response.status, 200)
        self.assertNotIn("refs/heads/none", self.remote_refs(url))
        self.assert_agrees(path)


gitstead_test.main()
