# SPDX-License-Identifier: Apache-2.0
"""A server whose path has another disk than the metadata store knows: an empty folder, or another storage's disk. And one
whose disk lost a replica."""
import os
import shutil
import unittest

import gitstead_test
from gitstead_test import Git, Server, TestCase, eventually


@unittest.skipIf(os.environ.get("GITSTEAD_TEST_METADATA"), "the metadata store has nothing to do with it")
class Disk(TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.clean)
        self.server.start()
        self.url = self.server.create("kept")
        self.git = Git(self.server.new_token("write"))
        self.work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=self.work)
        self.git("commit", "-q", "--allow-empty", "-m", "One", cwd=self.work)
        self.git("push", "-q", self.url, "main", cwd=self.work)
        eventually(lambda: self.reported() == 1, 60, "the report of the disk")
        self.assertEqual(self.server.stop(), 0)

    def reported(self):
        """How many storages the metadata store knows with their disks."""
        nodes = self.server.call("Cluster/Nodes").get("nodes", [])
        return len([node for node in nodes if int(node.get("total_bytes", 0)) > 0])

    def unmount(self):
        """What a mount point is when nothing is mounted on it."""
        os.rename(self.server.root, self.server.root + ".away")
        os.mkdir(self.server.root)

    def readiness(self):
        """The readiness page once there is one, and its status."""
        def ask():
            try:
                response = self.server.http("GET", "/readyz")
            except OSError:
                self.assertIsNone(self.server.process.poll(), self.server.log_tail())
                return None
            return None if "starting" in response.body.decode() else response
        response = eventually(ask, 60, "an answer of the server")
        return response.status, response.body.decode()

    def assert_refused(self, *words):
        status, page = self.readiness()
        self.assertEqual(status, 503, page)
        self.assertMentions(page, "storage 'default' is not served", *words)
        self.assertMentions(self.server.log_text(), "storage.disk.refused")
        files = self.files()
        # Clients try such a call again for as long as it may take: here it may take little.
        result = self.server.cli("repo", "create", "another", "--timeout", "2s", check=False)
        self.assertNotEqual(result.returncode, 0, result.stdout)
        self.assertMentions(result.stderr, "storage 'default' is not served", *words)
        for arguments in (("repo", "size", "kept", "--timeout", "1s"), ("call", "--timeout", "1s", "Ref/List", '{"repository": {"path": "kept"}}'),
                          ("call", "--timeout", "1s", "Ref/Update", '{"repository": {"path": "kept"}, "updates": [{"name": '
                           '"refs/heads/x", "new_oid": "%s"}]}' % self.git("rev-parse", "main", cwd=self.work))):
            result = self.server.cli(*arguments, check=False)
            self.assertNotEqual(result.returncode, 0, result.stdout)
            self.assertMentions(result.stderr, "not served")
        response = self.server.http("GET", "/kept.git/info/refs?service=git-upload-pack", headers=self.server.bearer())
        self.assertEqual(response.status, 503, response.body)
        # What it knows it still knows, and what lies there was not touched.
        self.assertEqual(self.server.cli("repo", "list", "-q").stdout.split(), ["kept.git"])
        self.assertEqual(self.files(), files)

    def files(self):
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.server.root) for name in names)

    def test_a_disk_that_is_not_mounted(self):
        self.unmount()
        self.server.launch()
        self.assert_refused("mount it")
        self.assertEqual(self.server.stop(), 0)
        shutil.rmtree(self.server.root)
        os.rename(self.server.root + ".away", self.server.root)
        self.server.start()
        self.assertEqual(self.git("ls-remote", self.url, "refs/*").split("\t")[0],
                         self.git("rev-parse", "main", cwd=self.work))
        self.server.create("another")

    def test_the_disk_of_another_storage(self):
        second = os.path.join(self.server.folder, "second")
        two = ('storages:\n  - name: "second"\n    plugin: "git"\n    path: "%s"\n    hook_dir: "%s"\n'
               % (second, os.environ.get("GITSTEAD_TEST_HOOK_DIR", "")))
        if "GITSTEAD_TEST_HOOK_DIR" not in os.environ:
            two = two[:two.index("    hook_dir")]
        os.mkdir(second)
        self.server.launch(change=lambda text: text.replace("storages:\n", two, 1))
        eventually(self.server.is_ready, 60, "a server with two storages")
        eventually(lambda: self.reported() == 2, 60, "the second one's report")
        self.assertEqual(self.server.stop(), 0)
        self.server.launch(path=second)
        self.assert_refused("storage 'second'")
        self.assertEqual(self.server.stop(), 0)
        self.server.start()
        self.git("ls-remote", "--exit-code", self.url, "refs/*")

    def test_beginning_with_a_new_disk(self):
        """As docs/operations.md says it: nothing restarts."""
        self.unmount()
        self.server.launch()
        self.assert_refused("operations.md")
        result = self.server.cli("cluster", "remove-node", "default", check=False)
        self.assertMentions(result.stderr, "replicas are recorded on it")
        self.server.cli("repo", "delete", "kept", "--yes")
        self.server.cli("cluster", "remove-node", "default")
        self.server.cli("cluster", "remove-node", "default", "--forget")
        eventually(self.server.is_ready, 60, "a server that takes the new disk")
        self.assertMentions(self.server.log_text(), "storage.disk.accepted")
        self.git("push", "-q", self.server.create("kept"), "main", cwd=self.work)
        eventually(lambda: self.reported() == 1, 60, "the report of the new disk")


class LostReplica(gitstead_test.ServerTestCase):
    """A replica that is gone from a disk is no repository that does not exist: who asks must not believe that it was deleted."""

    def test_it_is_told_as_data_loss(self):
        url = self.server.create("lost/one")
        work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=work)
        self.git("commit", "-q", "--allow-empty", "-m", "One", cwd=work)
        self.git("push", "-q", url, "main", cwd=work)
        replica = self.server.replica("lost/one")
        # What the process remembers of it is no answer of the disk.
        self.assertEqual(self.server.stop(), 0)
        os.rename(replica, replica + ".away")
        self.server.start()
        reads = ("Ref/List", '{"repository": {"path": "lost/one"}}'), ("Ref/Find", '{"repository": {"path": "lost/one"}, '
                 '"name": "refs/heads/main"}')
        for method, request in reads:
            result = self.server.cli("call", method, request, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertMentions(result.stderr, "data is damaged", "lost/one", "storage 'default'", "missing")
            self.assertNotIn(self.server.root, result.stderr)
        for service in ("upload", "receive"):
            response = self.server.http("GET", "/lost/one.git/info/refs?service=git-%s-pack" % service,
                                        headers=self.server.bearer())
            self.assertEqual(response.status, 500, response.body)
            self.assertNotIn(self.server.root.encode(), response.body)
        self.assertNotEqual(self.git.run("ls-remote", url).returncode, 0)
        self.assertMentions(self.server.log_text(), "replica.missing")
        os.rename(replica + ".away", replica)
        self.git("ls-remote", "--exit-code", url)
        # What is really not there is still not found.
        result = self.server.cli("call", "Ref/Find", '{"repository": {"path": "lost/one"}, "name": "refs/heads/no"}', check=False)
        self.assertMentions(result.stderr, "refs/heads/no")
        self.assertNotIn("damaged", result.stderr)
        self.server.cli("repo", "delete", "lost/one", "--yes")
        self.assertEqual(self.server.http("GET", "/lost/one.git/info/refs?service=git-upload-pack",
                                          headers=self.server.bearer()).status, 404)


gitstead_test.main()
