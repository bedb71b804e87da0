# SPDX-License-Identifier: Apache-2.0
"""What lies at the edges of the Git API: histories that come without a branch, odd encodings, names and times that git's own
commands would not take, and what a dry run promises."""
import base64
import os

import gitstead_test
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
        for data in (alone[:300], alone[:40], alone[:17], whole[:head], whole[:head - 1], whole[:head - 30], whole[:head + 300],
                     b"# v2 git bundle\n\n", b"# v2 git bundle\n", b"# v3 git bundle\n@object-format=sha1\n\n"):
            for specs in ([], ["HEAD:refs/heads/x"]):
                request = dict(self.repository(), rules={"refspecs": specs})
                self.assertMentions(self.stream("Repository/CreateFromBundle", request, data, check=False), "bundle")
                self.absent(self.name)
            request = dict(self.repository(self.name + "s"), rules={"refspecs": ["HEAD:refs/heads/x"]})
            self.stream("Repository/BundleApply", request, data, check=False)
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


if __name__ == "__main__":
    gitstead_test.main()
