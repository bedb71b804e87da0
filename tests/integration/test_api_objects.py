# SPDX-License-Identifier: Apache-2.0
"""Objects by the many: what revisions take up, every object that is there, series of commits compared; as stock git has it."""
import os
import re

import gitstead_test
from git_histories import git, history
from gitstead_test import Git
from test_api_read import ApiCase, raw

TYPES = ("COMMIT", "TREE", "BLOB", "TAG")


def sizes(folder, *arguments, input=b""):
    """Type, size and size on disk of each object that rev-list gives."""
    oids = git(folder, "rev-list", "--objects", "--no-object-names", *arguments, input=input)
    text = git(folder, "cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize) %(objectsize:disk)", input=oids)
    return [(oid, kind.upper(), int(size), int(disk)) for oid, kind, size, disk in (line.split() for line in text.decode().splitlines())]


class ObjectCase(ApiCase):
    histories = ("odd", "plain")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.token = cls.server.new_token("admin")

    def replica(self, name):
        return self.server.replica(name)


class Sizes(ObjectCase):
    def expected(self, found):
        answer = {"disk_bytes": sum(disk for *_, disk in found), "bytes": sum(size for _, _, size, _ in found)}
        for kind in TYPES:
            answer[kind.lower() + "s"] = sum(1 for _, k, _, _ in found if k == kind)
        return answer

    def ranges(self, name):
        revisions = self.revisions(name, "--all")
        tags = git(history(name), "for-each-ref", "--format=%(refname)", "refs/tags").decode().split()
        yield {"revisions": [revisions[0]]}
        yield {"revisions": revisions[:3], "excluded": [revisions[len(revisions) // 2]]}
        yield {"revisions": ["HEAD"] + tags[:50]}
        yield {"revisions": ["HEAD^{tree}"]}
        yield {"revisions": [revisions[-1]], "excluded": [revisions[-1]]}

    def test_as_git_counts_them(self):
        for name in self.histories:
            for request in self.ranges(name):
                with self.subTest(name=name, request=str(request)[:200]):
                    tips = "".join("%s\n" % git(self.replica(name), "rev-parse", r).decode().strip() for r in request["revisions"])
                    tips += "".join("^%s\n" % r for r in request.get("excluded", ()))
                    expected = self.expected(sizes(self.replica(name), "--stdin", input=tips.encode()))
                    self.assertEqual({k: int(v) for k, v in self.api(name, "Object/Size", **request).items()}, expected)
                    on_disk = self.api(name, "Object/Size", disk_only=True, **request)
                    self.assertEqual({k: int(v) for k, v in on_disk.items()},
                                     dict.fromkeys(expected, 0) | {"disk_bytes": expected["disk_bytes"]})

    def test_what_is_reached_by_nothing_else(self):
        self.assertEqual(int(self.api("odd", "Object/Size", revisions=["main"], exclude_refs=True)["commits"]), 0)
        name, url, token = "alone", self.server.create("alone"), self.server.new_token()
        self.fill_from(url, token, "plain")
        gone = self.revisions("plain", "main", "--max-count=1")[0]
        kept = self.revisions("plain", "--max-count=1", "--no-merges", "--skip=20", "main")[0]
        work = Git(token)
        refs = git(history("plain"), "for-each-ref", "--format=%(refname)").decode().split()
        work("push", "-q", "--force", url, kept + ":refs/heads/main", *[":" + r for r in refs if r != "refs/heads/main"],
             cwd=history("plain"))
        expected = self.expected(sizes(self.replica(name), gone, "^" + kept))
        found = {k: int(v) for k, v in self.api(name, "Object/Size", revisions=[gone], exclude_refs=True).items()}
        self.assertEqual(found, expected)
        self.assertGreater(found["commits"], 10)

    def fill_from(self, url, token, name):
        Git(token)("push", "-q", "--mirror", url, cwd=history(name))

    def test_bad_input(self):
        self.refused("odd", "Object/Size", "INVALID_ARGUMENT", "revisions: 0 given", revisions=[])
        self.refused("odd", "Object/Size", "INVALID_ARGUMENT", "revisions: 10001 given", revisions=["main"] * 10001)
        self.refused("odd", "Object/Size", "INVALID_ARGUMENT", "excluded: 10001 given", revisions=["main"], excluded=["main"] * 10001)
        self.refused("odd", "Object/Size", "NOT_FOUND", "submodule", revisions=["main:sub"])
        self.refused("odd", "Object/Size", "NOT_FOUND", "excluded", revisions=["main"], excluded=["nope"])
        self.refused("odd", "Object/Size", "INVALID_ARGUMENT", "revisions", revisions=["--all"])
        self.refused("nowhere", "Object/Size", "NOT_FOUND", "nowhere", revisions=["main"])


class Listing(ObjectCase):
    def every(self, name):
        text = git(self.replica(name), "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)")
        return [(oid, kind.upper(), int(size)) for oid, kind, size in (line.split() for line in text.decode().splitlines())]

    def listed(self, name, limit=None, **fields):
        found, pages = self.pages(name, "Object/List", "objects", limit, **fields)
        self.assertEqual({o["mode"] for o in found}, {0})
        return [(o["oid"], o["type"], int(o["size"])) for o in found], pages

    def test_every_object(self):
        for name in self.histories:
            expected = self.every(name)
            self.assertEqual(expected, sorted(expected))
            self.assertEqual(self.listed(name)[0], expected)
        self.assertEqual(self.listed("odd", limit=40), (self.every("odd"), -(-len(self.every("odd")) // 40)))

    def test_some_of_them(self):
        for types in (["COMMIT"], ["BLOB"], ["TAG", "TREE"], list(TYPES)):
            for size_limit in (0, 200):
                with self.subTest(types=types, size_limit=size_limit):
                    expected = [o for o in self.every("odd") if o[1] in types and (not size_limit or o[2] <= size_limit)]
                    self.assertTrue(expected)
                    self.assertEqual(self.listed("odd", limit=50, types=types, size_limit=size_limit)[0], expected)

    def test_what_no_ref_reaches_packed_and_loose(self):
        url, token = self.server.create("lost"), self.server.new_token()
        Git(token)("push", "-q", url, "main", cwd=history("plain"))
        tip = self.revisions("plain", "main", "--max-count=1")[0]
        below = self.revisions("plain", "main", "--max-count=1", "--skip=30")[0]
        Git(token)("push", "-q", "--force", url, below + ":refs/heads/main", cwd=history("plain"))
        loose = [git(self.replica("lost"), "hash-object", "-w", "--stdin", input=b"loose %d\n" % n).decode().strip()
                 for n in range(40)]
        expected = self.every("lost")
        self.assertEqual(self.listed("lost", limit=9)[0], expected)
        oids = [oid for oid, *_ in expected]
        self.assertIn(tip, oids)
        self.assertEqual(len(set(loose) & set(oids)), 40)
        # Also when they are joined meanwhile: the page goes on by id.
        first = self.api("lost", "Object/List", page={"limit": 100})
        self.server.call("Repository/Optimize", {"repository": {"path": "lost"}, "strategy": "OPTIMIZE_FULL"})
        rest, token = [], first["next_page_token"]
        while token:
            reply = self.api("lost", "Object/List", page={"token": token})
            rest, token = rest + reply["objects"], reply["next_page_token"]
        self.assertEqual([o["oid"] for o in first["objects"] + rest], oids)

    def test_nothing_at_all(self):
        self.server.create("void")
        self.assertEqual(self.api("void", "Object/List"), {"objects": [], "next_page_token": ""})

    def test_only_for_administrators(self):
        token = self.server.new_token("write")
        reply = self.server.http("POST", "/api/v1/Object/List", body=b'{"repository": {"path": "odd"}}',
                                 headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
        self.assertEqual(reply.status, 403)

    def test_bad_input(self):
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "types", types=["OBJECT_TYPE_UNSPECIFIED"])
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "types", types=[77])
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "types", types=["BLOB"] * 5)
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "page.token", page={"token": "00ff"})
        token = self.api("odd", "Object/List", page={"limit": 3})["next_page_token"]
        self.refused("plain", "Object/List", "INVALID_ARGUMENT", "page.token", page={"token": token})
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "page.token", page={"token": token}, size_limit=3)
        self.refused("odd", "Object/List", "INVALID_ARGUMENT", "page.token", page={"token": token + "00"})
        self.refused("nowhere", "Object/List", "NOT_FOUND", "nowhere")


class Pruning(ObjectCase):
    def prune(self, name, **fields):
        answer = self.api(name, "Repository/Prune", **fields)
        replica, = answer["replicas"]
        return {k: int(v) for k, v in replica.items()}

    def oids(self, name):
        return git(self.replica(name), "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").decode().split()

    def test_what_was_force_pushed_away(self):
        url, token = self.server.create("pruned"), self.server.new_token()
        stock = Git(token)
        stock("push", "-q", url, "main", cwd=history("plain"))
        tip = self.revisions("plain", "main", "--max-count=1")[0]
        below = self.revisions("plain", "main", "--max-count=1", "--skip=40")[0]
        stock("push", "-q", "--force", url, below + ":refs/heads/main", cwd=history("plain"))
        reached = set(git(history("plain"), "rev-list", "--objects", "--no-object-names", below).decode().split())
        unreached = len(self.oids("pruned")) - len(reached)
        self.assertGreater(unreached, 40)
        answer = self.prune("pruned")
        self.assertEqual((answer["objects"], answer["bytes"], answer["kept_objects"]), (0, 0, unreached))
        answer = self.prune("pruned", no_grace=True, dry_run=True)
        self.assertEqual((answer["objects"], answer["kept_objects"]), (unreached, 0))
        self.assertGreater(answer["bytes"], 0)
        self.assertEqual(len(self.oids("pruned")), len(reached) + unreached)
        self.assertEqual(self.prune("pruned", no_grace=True)["objects"], unreached)
        self.assertEqual(set(self.oids("pruned")), reached)
        # Nobody takes it for being there.
        self.refused("pruned", "Commit/Get", "NOT_FOUND", "revisions", revisions=[tip])
        self.refused("pruned", "History/Count", "NOT_FOUND", "", range={"include": [tip]})
        for method, fields in (("Change/CreateBranch", {"branch": "again", "revision": tip}),):
            self.refused("pruned", method, "NOT_FOUND", "", **fields)
        self.assertEqual(self.api("pruned", "Repository/Fsck")["findings"], [])
        clone = os.path.join(self.scratch(), "clone")
        stock("clone", "-q", url, clone)
        stock.fsck(clone)
        # It may come back.
        stock("push", "-q", url, "main", cwd=history("plain"))
        self.assertEqual(self.api("pruned", "Commit/Get", revisions=["main"])["entries"][0]["commit"]["oid"], tip)
        self.assertEqual(self.prune("pruned", no_grace=True)["objects"], 0)
        self.assertEqual(len(self.oids("pruned")), len(reached) + unreached)

    def test_a_pool_with_members_is_refused(self):
        token = self.server.new_token()
        for name in ("fork", "pool"):
            Git(token)("push", "-q", self.server.create(name), "main", cwd=history("plain"))
        self.server.call("Pool/Link", {"repository": {"path": "fork"}, "pool": {"path": "pool"}, "reduce": True})
        below = self.revisions("plain", "main", "--max-count=1", "--skip=40")[0]
        Git(token)("push", "-q", "--force", self.server.url + "/pool.git", below + ":refs/heads/main", cwd=history("plain"))
        self.refused("pool", "Repository/Prune", "FAILED_PRECONDITION", "is a pool", no_grace=True)
        self.assertEqual(self.prune("fork", no_grace=True)["objects"], 0)
        self.assertEqual(self.api("fork", "Repository/Fsck")["findings"], [])
        self.server.call("Pool/Unlink", {"repository": {"path": "fork"}})
        self.assertGreater(self.prune("pool", no_grace=True)["objects"], 40)
        for name in ("fork", "pool"):
            self.assertEqual(self.api(name, "Repository/Fsck")["findings"], [])

    def test_bad_input(self):
        self.refused("odd", "Repository/Prune", "INVALID_ARGUMENT", "no_grace", no_grace=True, grace_seconds=1)
        self.refused("odd", "Repository/Prune", "INVALID_ARGUMENT", "grace_seconds", grace_seconds=10 ** 12)
        self.refused("nowhere", "Repository/Prune", "NOT_FOUND", "nowhere")
        token = self.server.new_token("write")
        reply = self.server.http("POST", "/api/v1/Repository/Prune", body=b'{"repository": {"path": "odd"}}',
                                 headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"})
        self.assertEqual(reply.status, 403)


STATUS = {"=": "DIFF_RANGE_SAME", "!": "DIFF_RANGE_CHANGED", "<": "DIFF_RANGE_GONE", ">": "DIFF_RANGE_NEW"}
HEADER = re.compile(rb" *(-|\d+):  (-+|[0-9a-f]+) ([=!<>]) +(-|\d+):  (-+|[0-9a-f]+)")


class Ranges(ObjectCase):
    """A series that was rebased: one commit as it was, one edited, one with another message, one gone, one new, some moved."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.work = os.path.join(cls.server.folder, "series")
        git(None, "init", "-q", "-b", "main", cls.work)
        cls.commit("base", {"a": "1\n" * 20, "b": "2\n" * 20})
        cls.stock_git("checkout", "-q", "-b", "old")
        for n in range(12):
            cls.commit("step %d" % n, {"f%d" % n: "".join("%d of %d\n" % (i, n) for i in range(30))})
        cls.stock_git("checkout", "-q", "main")
        cls.commit("meanwhile", {"c": "3\n"})
        cls.stock_git("checkout", "-q", "-b", "new")
        for n in (1, 0, 2, 3, 5, 6, 7, 8, 9, 10, 11):
            content = "".join("%d of %d\n" % (i, n) for i in range(30)) + ("edited\n" if n == 2 else "")
            cls.commit("another step 3" if n == 3 else "step %d" % n, {"f%d" % n: content})
            if n == 5:
                cls.commit("nowhere before, Z\u00fcrich", {"new": "quite another thing\n" * 50, "zz": "%s\n" % n})
        cls.stock_git("checkout", "-q", "-b", "none", "main")
        url = cls.server.create("series")
        Git(cls.server.new_token())("push", "-q", url, "--all", cwd=cls.work)

    @classmethod
    def stock_git(cls, *arguments):
        person = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        return git(cls.work, *person, *arguments)

    @classmethod
    def commit(cls, message, files):
        for name, content in files.items():
            with open(os.path.join(cls.work, name), "w", encoding="utf-8") as file:
                file.write(content)
        cls.stock_git("add", "-A")
        cls.stock_git("commit", "-q", "-m", message)

    def stock(self, *arguments):
        """As Diff/Range has it."""
        pairs = []
        for line in git(self.work, "-c", "core.abbrev=40", "range-diff", "--no-color", *arguments).split(b"\n")[:-1]:
            if line.startswith(b"    "):
                pairs[-1]["patch"] += line[4:] + b"\n"
                continue
            match = HEADER.match(line)
            side = lambda n, oid: (0, "") if n == b"-" else (int(n), oid.decode())
            (old_n, old), (new_n, new) = side(match[1], match[2]), side(match[4], match[5])
            pairs.append({"status": STATUS[match[3].decode()], "old_oid": old, "old_number": old_n, "new_oid": new,
                          "new_number": new_n, "patch": b""})
        return pairs

    def ours(self, **fields):
        pairs = self.api("series", "Diff/Range", **fields)["pairs"]
        for pair in pairs:
            pair["patch"] = raw(pair["patch"])
        return pairs

    def check(self, stock, **fields):
        expected, found = self.stock(*stock), self.ours(patches=True, **fields)
        self.assertEqual([dict(p, patch_cut=False) for p in expected], found)
        bare = self.ours(**fields)
        self.assertEqual([dict(p, patch=b"", patch_cut=False) for p in expected], bare)
        return found

    def test_as_git_finds_them(self):
        found = self.check(["old...new"], old_tip="old", new_tip="new")
        self.assertEqual({p["status"] for p in found}, set(STATUS.values()))
        self.assertTrue(any(b"edited" in p["patch"] for p in found))
        self.check(["main~1..old", "main..new"], old_tip="old", old_base="main~1", new_tip="new", new_base="main")
        self.check(["old~3..old", "main..new~2"], old_tip="old", old_base="old~3", new_tip="new~2", new_base="main")
        self.check(["--creation-factor=100", "old...new"], old_tip="old", new_tip="new", creation_factor=100)
        self.check(["--creation-factor=1", "old...new"], old_tip="old", new_tip="new", creation_factor=1)

    def test_of_nothing(self):
        self.assertEqual(self.ours(old_tip="none", new_tip="main"), [])
        self.assertEqual({p["status"] for p in self.ours(old_tip="main", new_tip="new")}, {"DIFF_RANGE_NEW"})
        self.assertEqual({p["status"] for p in self.ours(old_tip="new", new_tip="main")}, {"DIFF_RANGE_GONE"})
        # git takes main..main for no range; a range that is empty for another reason gives what it ought to say.
        self.assertEqual(self.ours(old_base="main", old_tip="main", new_base="main", new_tip="new"),
                         [dict(p, patch_cut=False) for p in self.stock("new..main", "main..new")])
        self.assertEqual(self.ours(old_base="main", old_tip="new", new_base="old", new_tip="old"),
                         [dict(p, patch_cut=False) for p in self.stock("main..new", "new..main")])

    def test_odd_histories(self):
        for name, old, new in (("odd", "side1", "side2"), ("odd", "cross1", "side3"), ("plain", "main~20", "main~5")):
            found = self.api(name, "Diff/Range", old_tip=old, new_tip=new, patches=True)["pairs"]
            text = git(history(name), "-c", "core.abbrev=40", "range-diff", "--no-color", "%s...%s" % (old, new))
            heads = [m for m in map(HEADER.match, text.split(b"\n")) if m]
            self.assertEqual([(p["old_oid"] or None, STATUS and p["status"], p["new_oid"] or None) for p in found],
                             [(None if m[1] == b"-" else m[2].decode(), STATUS[m[3].decode()],
                               None if m[4] == b"-" else m[5].decode()) for m in heads])

    def test_limits(self):
        found = self.ours(old_tip="old", new_tip="new", patches=True, max_patch_bytes=60)
        cut = [p for p in found if p["patch_cut"]]
        self.assertTrue(cut)
        for pair in found:
            self.assertLessEqual(len(pair["patch"]), 60)
        self.refused("series", "Diff/Range", "INVALID_ARGUMENT", "max_patch_bytes", old_tip="old", new_tip="new",
                     max_patch_bytes=262145)
        self.refused("series", "Diff/Range", "INVALID_ARGUMENT", "creation_factor", old_tip="old", new_tip="new",
                     creation_factor=1001)
        for field in ("old_tip", "new_tip", "old_base", "new_base"):
            whole = {"old_tip": "old", "new_tip": "new"}
            for bad in ("--output=x", "a..b", "main\n", "x" * 5000):
                self.refused("series", "Diff/Range", "INVALID_ARGUMENT", field + ":", **dict(whole, **{field: bad}))
            self.refused("series", "Diff/Range", "NOT_FOUND", field, **dict(whole, **{field: "nope"}))
        self.refused("series", "Diff/Range", "INVALID_ARGUMENT", "new_tip", old_tip="old")

    def test_too_long_a_series(self):
        stream = b"".join(b"commit refs/heads/long\ncommitter c <c@d> %d +0000\ndata 1\nx\nM 100644 inline f\ndata %d\n%s\n" % (
            1700000000 + i, len(str(i)), str(i).encode()) for i in range(501))
        git(self.work, "fast-import", "--quiet", input=stream)
        Git(self.server.new_token())("push", "-q", self.server.url + "/series.git", "long", cwd=self.work)
        self.refused("series", "Diff/Range", "OUT_OF_RANGE", "old_tip: the series has more than 500", old_tip="long", new_tip="new")
        self.refused("series", "Diff/Range", "OUT_OF_RANGE", "new_tip: the series has more than 500", old_tip="old", new_tip="long")


if __name__ == "__main__":
    gitstead_test.main()
