# SPDX-License-Identifier: Apache-2.0
"""Big pushes: thousands of commits at once, and a 200 MB pack at constant memory."""
import os

import gitstead_test
from gitstead_test import ServerTestCase, make_history, refs_digest


# Under a sanitizer, where memory says nothing, as much as has to go in several pieces.
COMMITS, MEGABYTES = (1500, 40) if os.environ.get("GITSTEAD_TEST_SANITIZED") else (6000, 200)


class Big(ServerTestCase):
    def test_a_project_of_thousands_of_commits(self):
        source = make_history(self.server.folder + "/project.git", commits=COMMITS, tags=300, branches=40, seed=7)
        url = self.server.create("big/project")
        self.git("push", "-q", "--mirror", url, cwd=source)
        for version in ("0", "2"):
            clone = self.scratch() + "/clone.git"
            self.git("-c", "protocol.version=" + version, "clone", "-q", "--mirror", url, clone)
            self.assertEqual(self.git.refs(clone), self.git.refs(source))
            self.git.fsck(clone)
        shallow = self.scratch() + "/shallow"
        self.git("clone", "-q", "--depth", "1", "--no-single-branch", url, shallow)
        self.assertEqual(self.fetched(shallow), self.fetched(source, "refs/heads/"))
        self.assertEqual(self.git("rev-list", "--count", "HEAD", cwd=shallow), "1")
        self.git.fsck(shallow)
        self.git("fetch", "-q", "--deepen", "50", cwd=shallow)
        self.assertEqual(self.fetched(shallow), self.fetched(source, "refs/heads/"))
        depth = int(self.git("rev-list", "--count", "--first-parent", "HEAD", cwd=shallow))
        whole = int(self.git("rev-list", "--count", "--first-parent", "main", cwd=source))
        # Depths are counted from every branch: what one of them reaches may lie deeper below another.
        self.assertTrue(51 <= depth < whole, "%d of %d" % (depth, whole))
        self.git.fsck(shallow)
        for filtered in ("tree:0", "blob:none"):
            partial = self.scratch() + "/partial.git"
            self.git("clone", "-q", "--mirror", "--filter=" + filtered, url, partial)
            self.assertEqual(self.git.refs(partial), self.git.refs(source))
            self.assertIn("?", self.git("rev-list", "--objects", "--missing=print", "--max-count=1", "HEAD", cwd=partial))
            self.git.fsck(partial)
        single = self.scratch() + "/single.git"
        self.git("clone", "-q", "--bare", "--single-branch", "--no-tags", "--branch", "main", url, single)
        self.assertEqual(self.git("for-each-ref", "--format=%(refname) %(objectname)", cwd=single),
                         "refs/heads/main " + self.git("rev-parse", "refs/heads/main", cwd=source))
        self.assertEqual(self.git("rev-list", "--count", "main", cwd=single), self.git("rev-list", "--count", "main", cwd=source))
        self.git.fsck(single)
        # On top of it: a little push, a forced one, deletions.
        self.git("update-ref", "refs/heads/main", "refs/heads/main~100", cwd=source)
        for name in self.git("for-each-ref", "--format=%(refname)", "refs/tags/v1*", cwd=source).split():
            self.git("update-ref", "-d", name, cwd=source)
        self.git("push", "-q", "--mirror", "--force", url, cwd=source)
        clone = self.scratch() + "/clone.git"
        self.git("clone", "-q", "--mirror", url, clone)
        self.assertEqual(self.git.refs(clone), self.git.refs(source))
        self.git.fsck(clone)
        replica = self.server.replica("big/project")
        self.assertEqual(self.server.info("big/project")["refs_digest"], refs_digest(self.git, replica))
        self.server.assert_settled()

    def fetched(self, folder, below="refs/remotes/origin/"):
        """The branches that a clone has of its source, or the source itself: name -> commit."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", below, cwd=folder).splitlines()
        return {name[len(below):]: oid for name, oid in (line.split() for line in lines) if name != below + "HEAD"}

    def test_200_megabytes_at_constant_memory(self):
        megabytes = MEGABYTES
        source = make_history(self.server.folder + "/heavy.git", commits=3, tags=0, branches=0,
                              blob_bytes=megabytes << 20)
        self.git("config", "core.bigFileThreshold", "1m", cwd=source)
        url = self.server.create("big/heavy")
        self.git("push", "-q", url, "main", cwd=source)
        after_push = self.server.peak_memory()
        clone = self.scratch() + "/clone.git"
        self.git("clone", "-q", "--mirror", url, clone)
        after_clone = self.server.peak_memory()
        self.assertEqual(self.git.refs(clone), self.git.refs(source))
        self.git.fsck(clone)
        print("# server's peak memory: %d MiB after the push, %d MiB after the clone" % (after_push >> 20, after_clone >> 20))
        self.assertGreater(os.path.getsize(self.pack(clone)), megabytes << 20)
        # Sanitizers keep freed memory aside, so that the figure says nothing there.
        if not os.environ.get("GITSTEAD_TEST_SANITIZED"):
            self.assertLess(after_clone, 200 << 20)
        self.server.assert_settled()

    def pack(self, folder):
        packs = [os.path.join(folder, "objects/pack", name) for name in os.listdir(os.path.join(folder, "objects/pack"))
                 if name.endswith(".pack")]
        self.assertEqual(len(packs), 1)
        return packs[0]


gitstead_test.main()
