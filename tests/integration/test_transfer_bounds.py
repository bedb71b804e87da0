# SPDX-License-Identifier: Apache-2.0
"""How much may come in: each way is cut off at the storage's limits, in words that name them, and nothing is left."""
import base64
import http.server
import os
import threading

import gitstead_test
from git_histories import git, history
from gitstead_test import Git
from transfer_case import TransferCase, table


class FilesOnly(http.server.SimpleHTTPRequestHandler):
    """No git on the other side: packs and loose objects one by one."""
    folder = None

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=self.folder)

    def log_message(self, *arguments):
        pass


def noise(n):
    """Bytes that no compression makes smaller."""
    return os.urandom(n)


class Bounded(TransferCase):
    options = {"storage": {"max_push_bytes": "64KiB", "max_remote_refs": 40, "remote_allow": ["http://127.0.0.1:*"]}}

    def setUp(self):
        super().setUp()
        self.folder = os.path.join(self.work, "big")
        git(None, "init", "-q", "--bare", self.folder)

    def blobs(self, *sizes):
        """A bare repository with a commit that has files of these sizes."""
        rows = []
        for i, size in enumerate(sizes):
            oid = git(self.folder, "hash-object", "-w", "--stdin", input=noise(size)).decode().strip()
            rows.append("100644 blob %s\tf%d\n" % (oid, i))
        tree = git(self.folder, "mktree", input="".join(rows).encode()).decode().strip()
        oid = git(self.folder, "commit-tree", "-m", "files", tree).decode().strip()
        git(self.folder, "update-ref", "refs/heads/main", oid)
        return oid

    def source(self):
        """Another server."""
        server = gitstead_test.Server()
        self.addCleanup(server.clean)
        server.start()
        return server, server.new_token("admin")

    def nothing_came(self):
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        packs = os.path.join(self.server.replica(self.name), "objects/pack")
        self.assertEqual(os.listdir(packs) if os.path.isdir(packs) else [], [])
        self.server.assert_settled()

    def test_a_push_is_refused_in_gits_words(self):
        url = self.server.create(self.name)
        self.blobs(*[9000] * 10)
        said = self.git.fails("push", url, "main", cwd=self.folder)
        self.assertMentions(said, "pack exceeds maximum allowed size (64.00 KiB)", "main -> main")
        self.nothing_came()
        # A smaller one goes.
        self.blobs(*[9000] * 2)
        self.git("push", "-q", url, "main", cwd=self.folder)
        self.assertEqual(list(self.refs(self.server.replica(self.name))), ["refs/heads/main"])

    def grows(self, size):
        """The refusal of a push whose pack is small, and which builds on four files of this size."""
        self.name += "s%d" % size
        url = self.server.create(self.name)
        parts = [noise(size) for _ in range(4)]
        for i, part in enumerate(parts):
            oid = git(self.folder, "hash-object", "-w", "--stdin", input=part).decode().strip()
            tree = git(self.folder, "mktree", input=("100644 blob %s\tf%d\n" % (oid, i)).encode()).decode().strip()
            commit = git(self.folder, "commit-tree", "-m", "one", tree).decode().strip()
            git(self.folder, "update-ref", "refs/heads/b%d" % i, commit)
            self.git("push", "-q", url, "b%d" % i, cwd=self.folder)
        before, files = self.refs(self.server.replica(self.name)), self.server.files()
        rows, parents = [], []
        for i, part in enumerate(parts):
            oid = git(self.folder, "hash-object", "-w", "--stdin", input=part + b"more").decode().strip()
            rows.append("100644 blob %s\tf%d\n" % (oid, i))
            parents += ["-p", "b%d" % i]
        tree = git(self.folder, "mktree", input="".join(rows).encode()).decode().strip()
        commit = git(self.folder, "commit-tree", *parents, "-m", "all", tree).decode().strip()
        git(self.folder, "update-ref", "refs/heads/all", commit)
        thin = git(self.folder, "pack-objects", "--thin", "--revs", "--stdout", "-q",
                   input=("all\n--not\n" + "".join("b%d\n" % i for i in range(len(parts)))).encode())
        self.assertLess(len(thin), 5000)
        said = self.git.fails("push", "--thin", url, "all", cwd=self.folder)
        self.assertEqual(self.refs(self.server.replica(self.name)), before)
        self.server.assert_settled(files)
        return said

    def test_a_push_that_grows_on_arrival(self):
        """What a thin pack's deltas build on is appended to it: small on the way, large on the disk."""
        self.assertMentions(self.grows(20000), "unpack failed", "remote rejected")
        # The pack alone would do, with its indexes it does not.
        self.assertMentions(self.grows(15000), "remote rejected", "more than the 65536 bytes", "max_push_bytes")

    def test_histories_of_more_than_that(self):
        server, token = self.source()
        url = server.create("s")
        Git(token)("push", "-q", url, "main", cwd=history("plain"))
        bundle = git(history("plain"), "bundle", "create", "-q", "-", "main")
        self.assertGreater(len(bundle), 65536)
        remote = {"url": url, "authorization": "Bearer " + token}
        self.refused("OUT_OF_RANGE", "Repository/CreateFromUrl", dict(self.repository(), remote=remote), "max_push_bytes")
        message = self.stream("Repository/CreateFromBundle", self.repository(), bundle, check=False)
        self.assertMentions(message, "max_push_bytes")
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        self.server.create(self.name)
        self.refused("OUT_OF_RANGE", "Repository/Fetch", dict(self.repository(), remote=remote), "max_push_bytes")
        message = self.stream("Repository/BundleApply", self.repository(), bundle, check=False)
        self.assertMentions(message, "max_push_bytes")
        self.nothing_came()
        small = self.stream("Repository/BundleApply", dict(self.repository(), rules={"refspecs": ["refs/tags/small:refs/tags/small"]}),
                            self.small_bundle())
        self.assertEqual(table(small), {"refs/tags/small": "CREATED"})
        self.server.assert_settled()

    def test_many_small_files_are_one_large_sum(self):
        """A server that gives loose objects one by one, each far below the limit."""
        self.blobs(*[2000] * 60)
        git(self.folder, "update-server-info")
        handler = type("Handler", (FilesOnly,), {"folder": self.work})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.server.create(self.name)
        remote = {"url": "http://127.0.0.1:%d/big" % server.server_port}
        self.refused("OUT_OF_RANGE", "Repository/Fetch", dict(self.repository(), remote=remote), "max_push_bytes")
        self.nothing_came()

    def test_refs_without_number(self):
        server, token = self.source()
        url = server.create("s")
        commit = self.blobs(10)
        git(self.folder, "update-ref", "--stdin", input="".join(
            "create refs/heads/many/%d %s\n" % (i, commit) for i in range(50)).encode())
        Git(token)("push", "-q", url, "refs/*:refs/*", cwd=self.folder)
        remote = {"url": url, "authorization": "Bearer " + token}
        self.server.create(self.name)
        for method, more in (("Fetch", {}), ("Mirror", {}), ("RemoteRefs", {})):
            self.refused("OUT_OF_RANGE", "Repository/" + method, dict(self.repository(), remote=remote, **more),
                         "more than 40 refs", "max_remote_refs")
        self.refused("OUT_OF_RANGE", "Repository/CreateFromUrl", dict(self.repository("other"), remote=remote), "max_remote_refs")
        self.assertFalse(self.server.call("Repository/Exists", self.repository("other"))["exists"])
        message = self.stream("Repository/BundleApply", self.repository(),
                              git(self.folder, "bundle", "create", "-q", "-", "--all"), check=False)
        self.assertMentions(message, "max_remote_refs")
        self.nothing_came()
        code, reply = self.attempt("Repository/Fetch", dict(self.repository(), remote=remote, rules={
            "refspecs": ["refs/heads/main:refs/heads/main"]}))
        self.assertEqual(code, "OK", reply)

    def test_a_fork_is_as_large_as_its_source(self):
        url = self.server.create(self.name)
        for i in range(2):
            self.blobs(*[9000] * 5)
            self.git("push", "-q", url, "main:refs/heads/b%d" % i, cwd=self.folder)
        git(self.folder, "update-ref", "--stdin", input="".join(
            "create refs/tags/%d main\n" % i for i in range(50)).encode())
        self.git("push", "-q", url, "refs/tags/*:refs/tags/*", cwd=self.folder)
        code, reply = self.attempt("Repository/Fork", dict(self.repository("fork"), source={"path": self.name}))
        self.assertEqual(code, "OK", reply)
        self.assertEqual(self.refs(self.server.replica("fork")), self.refs(self.server.replica(self.name)))

    def test_a_change_of_more_than_that(self):
        """The Git API's own writes; what compresses well counts as it lies on the disk."""
        self.server.create(self.name)
        request = dict(self.repository(), message="m", write={
            "branch": "main", "committer": {"name": "a", "email": "a@b", "seconds": 1, "zone": "+0000"}})
        request["actions"] = [{"kind": "FILE_CREATE", "path": "f", "content": {"base64": base64.b64encode(noise(100000)).decode()}}]
        self.refused("OUT_OF_RANGE", "Change/CommitFiles", request, "max_push_bytes")
        self.nothing_came()

    def small_bundle(self):
        folder = os.path.join(self.work, "small")
        git(None, "init", "-q", "--bare", folder)
        oid = git(folder, "hash-object", "-w", "--stdin", input=b"small").decode().strip()
        git(folder, "update-ref", "refs/tags/small", oid)
        return git(folder, "bundle", "create", "-q", "-", "refs/tags/small")


if __name__ == "__main__":
    gitstead_test.main()
