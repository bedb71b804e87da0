# SPDX-License-Identifier: Apache-2.0
"""Calls that move whole histories, or put their files in order, on histories that hold what real ones hold: afterwards a
repository has what stock git's clone, fetch, push, repack or prune of the same leaves."""
import json
import os
import shutil
import tempfile

import compared
import gitstead_test
from compared import ComparedCase, each, folder_of, git
from gitstead_test import Git

BRANCHES_AND_TAGS = ("refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")


def load_tests(loader, tests, pattern):
    return compared.last(loader, tests, pattern)


class Transfers(ComparedCase):
    histories = ("odd", "plain", "rich1", "rich2")

    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="gitstead-remote-")
        cls.addClassCleanup(shutil.rmtree, cls.files, ignore_errors=True)
        cls.options = {"storage": {"remote_allow": ["http://127.0.0.1:*", "file://" + cls.files]}}
        super().setUpClass()

    def refs(self, folder):
        return Git()("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder).splitlines()

    def everything(self, folder):
        """All refs, and every object that they reach."""
        Git()("fsck", "--connectivity-only", "--no-dangling", cwd=folder)
        return [self.refs(folder), sorted(git(folder, "rev-list", "--all", "--objects", "--no-object-names").split())]

    def mirror(self, name, folder=None):
        """A copy to be changed."""
        path = os.path.join(tempfile.mkdtemp(dir=self.files), name + ".git")
        git(None, "clone", "-q", "--mirror", folder or folder_of(name), path)
        return path

    def older(self, path, name):
        """A repository of the server, and one of stock git's, with a part of the history: some branches as they were, some of their own."""
        mine = os.path.join(self.scratch(), "mine.git")
        git(None, "init", "-q", "--bare", "-b", "main", mine)
        tips = self.lines(name, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/")
        specs = ["main~3:refs/heads/main"]
        for number, line in enumerate(tips):
            ref, oid = line.split()
            if ref != "refs/heads/main" and number % 3 == 1:
                specs.append("%s:%s" % (oid, ref))
            elif ref != "refs/heads/main" and number % 3 == 2:
                specs.append("main~2:%s" % ref)  # goes its own way, mostly
        git(folder_of(name), "push", "-q", mine, *specs)
        self.server.create(path)
        Git(self.server.token)("push", "-q", "%s/%s.git" % (self.server.url, path), "+refs/*:refs/*", cwd=mine)
        return mine

    def send(self, path, method, data, **fields):
        """A call with bulk bytes."""
        result = self.server.cli("call", method, json.dumps(dict({"repository": {"path": path}}, **fields)), input=data, text=False)
        return json.loads(result.stdout)

    def counted(self, name, method, ours, theirs):
        self.called.add((name, method))
        self.same(name, method, ours, theirs)

    @each
    def test_bundles(self, name):
        data = git(folder_of(name), "bundle", "create", "-q", "-", "--all")
        self.send("made-" + name, "Repository/CreateFromBundle", data)
        self.counted(name, "Repository/CreateFromBundle", self.everything(self.server.replica("made-" + name)),
                     self.everything(self.mirror(name)))
        mine = self.older("older-" + name, name)
        bundle = os.path.join(self.scratch(), "b")
        git(folder_of(name), "bundle", "create", "-q", bundle, "--branches", "--tags", "^main~3")
        with open(bundle, "rb") as file:
            reply = self.send("older-" + name, "Repository/BundleApply", file.read())
        result = Git().run("fetch", "-q", bundle, *BRANCHES_AND_TAGS, cwd=mine)
        self.assertEqual(result.returncode != 0, any(ref["outcome"] == "TRANSFER_DIVERGENT" for ref in reply["refs"]), result.stderr)
        self.counted(name, "Repository/BundleApply", self.everything(self.server.replica("older-" + name)), self.everything(mine))

    @each
    def test_from_others(self, name):
        self.api("fork-" + name, "Repository/Fork", source={"path": name})
        self.counted(name, "Repository/Fork", self.everything(self.server.replica("fork-" + name)), self.everything(self.mirror(name)))
        source = self.mirror(name)
        remote = {"url": "file://" + source}
        self.api("from-" + name, "Repository/CreateFromUrl", remote=remote)
        fresh = os.path.join(self.scratch(), "fresh.git")
        git(None, "init", "-q", "--bare", "-b", "main", fresh)
        Git()("fetch", "-q", source, *BRANCHES_AND_TAGS, cwd=fresh)
        self.counted(name, "Repository/CreateFromUrl", self.everything(self.server.replica("from-" + name)), self.everything(fresh))
        refs = self.api(name, "Repository/RemoteRefs", remote=remote)
        listed = [line.split("\t") for line in Git()("ls-remote", source, cwd=source).splitlines() if not line.endswith("^{}")]
        self.same(name, "Repository/RemoteRefs", sorted((ref["oid"], compared.raw(ref["name"]).decode()) for ref in refs["refs"]
                                                        if ref["name"] != "HEAD"),
                  sorted((oid, ref) for oid, ref in listed if ref != "HEAD"))
        for rules, arguments in (({}, []), ({"force": True, "prune": True}, ["--force", "--prune"])):
            path = "fetch%d-%s" % (len(rules), name)
            mine = self.older(path, name)
            reply = self.api(path, "Repository/Fetch", remote=remote, rules=rules)
            result = Git().run("fetch", "-q", *arguments, source, *BRANCHES_AND_TAGS, cwd=mine)
            self.assertEqual(result.returncode != 0, any(ref["outcome"] == "TRANSFER_DIVERGENT" for ref in reply["refs"]), result.stderr)
            self.counted(name, "Repository/Fetch", self.everything(self.server.replica(path)), self.everything(mine))
            again = self.api(path, "Repository/FetchFrom", source={"path": name}, rules={
                "refspecs": ["refs/heads/main:refs/merge-requests/9/head", "+refs/heads/*:refs/from/*"]})
            self.assertTrue(again["refs"])
            Git()("fetch", "-q", source, "refs/heads/main:refs/merge-requests/9/head", "+refs/heads/*:refs/from/*", cwd=mine)
            self.counted(name, "Repository/FetchFrom", self.everything(self.server.replica(path)), self.everything(mine))

    @each
    def test_to_others(self, name):
        for prune in (False, True):
            path = "there%d-%s" % (prune, name)
            mine = self.older(path, name)
            url = "%s/%s.git" % (self.server.url, path)
            Git(self.server.token)("push", "-q", url, "main~1:refs/heads/only-there", cwd=folder_of(name))
            git(folder_of(name), "push", "-q", mine, "main~1:refs/heads/only-there")
            self.api(name, "Repository/Mirror", remote={"url": url, "authorization": "Bearer " + self.server.token}, prune=prune)
            git(folder_of(name), "push", "-q", "--force", *(["--prune"] if prune else []), mine, *BRANCHES_AND_TAGS)
            self.same(name, "Repository/Mirror", self.everything(self.server.replica(path)), self.everything(mine))

    def packed(self, folder):
        """Ids of all that is in its packs."""
        packs = os.path.join(folder, "objects/pack")
        found = set()
        for one in os.listdir(packs):
            if one.endswith(".idx"):
                with open(os.path.join(packs, one), "rb") as index:
                    found |= {line.split()[1] for line in git(folder, "show-index", input=index.read()).splitlines()}
        return sorted(found)

    @each
    def test_in_order(self, name):
        path = "order-" + name
        url = "%s/%s.git" % (self.server.url, self.server.create(path) and path)
        stock = Git(self.server.token)
        stock("push", "-q", url, "+refs/heads/*:refs/heads/*", cwd=folder_of(name))
        stock("push", "-q", url, "+refs/*:refs/*", cwd=folder_of(name))
        mine = self.mirror(name)
        self.api(path, "Repository/Optimize", strategy="OPTIMIZE_FULL")
        Git()("repack", "-adq", cwd=mine)
        replica = self.server.replica(path)
        self.counted(name, "Repository/Optimize", self.packed(replica), self.packed(mine))
        # All but an old part of one branch goes; then what nothing reaches.
        gone = [":" + line.split(" ")[1] for line in self.refs(mine) if not line.endswith(" refs/heads/main")]
        stock("push", "-q", "--force", url, "main~4:refs/heads/main", *gone, cwd=mine)
        git(mine, "update-ref", "--stdin", input="".join("delete %s\n" % ref[1:] for ref in gone).encode())
        git(mine, "update-ref", "refs/heads/main", "main~4")
        self.api(path, "Repository/Prune", no_grace=True)
        Git()("repack", "-adq", cwd=mine)
        Git()("prune", "--expire=now", cwd=mine)
        everything = ("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
        self.counted(name, "Repository/Prune", git(replica, *everything).splitlines(), git(mine, *everything).splitlines())

    @each
    def test_pools(self, name):
        pool, member = "pool-" + name, "member-" + name
        self.server.create(pool)
        self.api(member, "Repository/Fork", source={"path": name})
        self.api(member, "Pool/Link", pool={"path": pool})
        self.api(pool, "Pool/Refresh")
        mine = os.path.join(self.scratch(), "pool.git")
        git(None, "init", "-q", "--bare", "-b", "main", mine)
        number = int(self.server.info(member)["id"])
        Git()("fetch", "-q", "--no-tags", self.server.replica(member), "+refs/*:refs/members/%d/*" % number, cwd=mine)
        self.counted(name, "Pool/Refresh", self.everything(self.server.replica(pool)), self.everything(mine))
        self.api(member, "Pool/Link", pool={"path": pool}, reduce=True)
        # Stock git's copy borrows from the same objects.
        copy = self.mirror(name)
        with open(os.path.join(copy, "objects/info/alternates"), "w") as out:
            out.write(os.path.join(mine, "objects") + "\n")
        Git()("repack", "-adlq", cwd=copy)
        self.counted(name, "Pool/Link", [self.packed(self.server.replica(member)), self.everything(self.server.replica(member))],
                     [self.packed(copy), self.everything(copy)])
        self.api(member, "Pool/Unlink")
        self.assertFalse(os.path.exists(os.path.join(self.server.replica(member), "objects/info/alternates")))
        self.counted(name, "Pool/Unlink", self.everything(self.server.replica(member)), self.everything(folder_of(name)))


if __name__ == "__main__":
    gitstead_test.main()
