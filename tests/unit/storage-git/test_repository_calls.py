#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calls on a repository as a whole: what git fsck finds, attributes wherever objects lie, refs page by page, packs in order."""
import base64
import fcntl
import json
import os
import random
import re
import shutil
import subprocess
import unittest

from history_fixture import ENV, SEED, History, Replica


def raw(value):
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


class Case(unittest.TestCase):
    def replica(self, n=0):
        replica = Replica()
        self.addCleanup(replica.close)
        if n:
            replica.fast_import(History(SEED, n).stream())
        return replica

    def ask(self, replica, method, **request):
        answer = replica.line("%s %s" % (method, json.dumps(request)))
        return json.loads(answer) if not answer.startswith("!") else answer

    def call(self, replica, method, **request):
        answer = self.ask(replica, method, **request)
        self.assertNotIsInstance(answer, str, answer)
        return answer


def one(replica, *args, stdin=b""):
    return replica.git(*args, stdin=stdin).strip()


class Fsck(Case):
    def object_path(self, replica, oid):
        return os.path.join(replica.path, "objects", oid[:2], oid[2:])

    def damaged(self):
        """A blob is lost, one is garbage, a commit breaks a rule, a ref leads nowhere; all of it loose."""
        replica = self.replica()
        ids = {}
        for name in ("kept", "lost", "garbage"):
            ids[name] = one(replica, "hash-object", "-w", "--stdin", stdin=b"content of %s\n" % name.encode())
        tree = "".join("100644 blob %s\t%s\n" % (oid, name) for name, oid in sorted(ids.items()))
        ids["tree"] = one(replica, "mktree", stdin=tree.encode())
        ids["commit"] = one(replica, "commit-tree", ids["tree"], "-m", "x")
        nobody = b"tree %s\nauthor A 1700000000 +0000\ncommitter C <c@d> 1700000000 +0000\n\nx\n" % ids["tree"].encode()
        ids["bad"] = one(replica, "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=nobody)
        replica.git("update-ref", "refs/heads/main", ids["commit"])
        replica.git("update-ref", "refs/heads/bad", ids["bad"])
        os.unlink(self.object_path(replica, ids["lost"]))
        os.chmod(self.object_path(replica, ids["garbage"]), 0o644)
        with open(self.object_path(replica, ids["garbage"]), "wb") as file:
            file.write(b"not deflated")
        with open(os.path.join(replica.path, "refs/heads/nowhere"), "w") as file:
            file.write("1" * 40 + "\n")
        return replica, ids

    def stock(self, replica, *args):
        done = subprocess.run(["git", "-C", replica.path, "fsck", "--full", "--no-dangling", "--no-reflogs", *args], env=ENV,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return {line for line in done.stdout.decode().split("\n")
                if line and not line.startswith((" ", "notice:", "Checking"))}

    def test_a_whole_one(self):
        replica = self.replica(200)
        self.assertEqual(self.call(replica, "Repository/Fsck"), {"ok": True, "findings": [], "errors": 0, "warnings": 0})
        self.assertTrue(self.call(replica, "Repository/Fsck", connectivity_only=True)["ok"])

    def test_every_kind_as_git_finds_it(self):
        replica, ids = self.damaged()
        answer = self.call(replica, "Repository/Fsck")
        self.assertFalse(answer["ok"])
        # What git says of a path is said without the part that is the server's.
        expected = {line.replace(replica.path, "") for line in self.stock(replica)}
        said = {raw(f["text"]).decode() for f in answer["findings"]}
        self.assertEqual({re.sub(r"/*objects/", "objects/", s) for s in said}, {re.sub(r"(\./)?/*objects/", "objects/", e)
                                                                                 for e in expected})
        kinds = {}
        for finding in answer["findings"]:
            kinds.setdefault(finding["kind"], []).append(finding)
        self.assertEqual([(f["oid"], f["object_type"]) for f in kinds["FSCK_MISSING"] if f["oid"] == ids["lost"]],
                         [(ids["lost"], "blob")])
        self.assertIn((ids["tree"], "tree", ids["lost"]),
                      [(f["oid"], f["object_type"], f["to_oid"]) for f in kinds["FSCK_BROKEN_LINK"]])
        self.assertEqual([(f["oid"], f["object_type"], f["check"], f["weight"]) for f in kinds["FSCK_BAD_OBJECT"]],
                         [(ids["bad"], "commit", "missingEmail", "FSCK_ERROR")])
        self.assertIn(ids["garbage"], [f["oid"] for f in kinds["FSCK_CORRUPT"]])
        self.assertEqual(["nowhere" in raw(f["text"]).decode() for f in kinds["FSCK_BAD_REF"]], [True])
        self.assertEqual(answer["errors"], len(answer["findings"]))
        self.assertNotIn(replica.dir, json.dumps(answer))

    def test_more_than_there_is_room_for(self):
        replica, _ = self.damaged()
        every = self.call(replica, "Repository/Fsck")
        few = self.call(replica, "Repository/Fsck", limit=2)
        self.assertEqual(len(few["findings"]), 2)
        self.assertEqual((few["ok"], few["errors"] + few["warnings"]), (False, every["errors"] + every["warnings"]))
        self.assertIn("limit", self.ask(replica, "Repository/Fsck", limit=10001))


class Attributes(Case):
    FILES = {
        ".gitattributes": b"[attr]heavy diff -merge\n*.c text diff=cpp\n*.bin heavy\nvendored/** linguist-vendored\n",
        "src/.gitattributes": b"*.c -text eol=lf\ngen-* export-ignore\n",
        "src/deep/er/.gitattributes": b"special.c !text diff=java\n",
        "a.c": b"a", "src/b.c": b"b", "src/gen-1": b"c", "src/deep/er/special.c": b"d", "vendored/x/y.c": b"e", "z.bin": b"f",
    }
    NAMES = ["text", "diff", "merge", "eol", "heavy", "export-ignore", "linguist-vendored"]

    def stock(self, replica, paths):
        work = os.path.join(replica.dir, "work")
        subprocess.run(["git", "clone", "-q", "-b", "main", replica.path, work], env=ENV, check=True)
        rows = subprocess.run(["git", "-C", work, "check-attr", "-z", *self.NAMES, "--", *paths], env=ENV, check=True,
                              capture_output=True).stdout.decode().split("\0")[:-1]
        shutil.rmtree(work)
        return [row for row in zip(rows[::3], rows[1::3], rows[2::3]) if row[2] != "unspecified"]

    def test_packed_loose_and_both(self):
        paths = [p for p in self.FILES if not p.endswith("attributes")] + ["src/nothing/here.c", "a.c/b"]
        for unpack_limit in ("1", "1000"):
            replica = self.replica()
            stream = b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n"
            for path, content in self.FILES.items():
                stream += b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content)
            replica.git("-c", "fastimport.unpackLimit=" + unpack_limit, "fast-import", "--quiet", "--force", stdin=stream)
            packs = [n for n in os.listdir(os.path.join(replica.path, "objects", "pack")) if n.endswith(".pack")]
            self.assertEqual(bool(packs), unpack_limit == "1")
            self.check(replica, paths)
            # One more commit, of which everything is loose, on what is packed.
            more = b"*.c diff=perl\n"
            replica.git("-c", "fastimport.unpackLimit=1000", "fast-import", "--quiet", stdin=(
                b"commit refs/heads/main\ncommitter C <c@d> 1700000001 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"
                b"M 100644 inline src/.gitattributes\ndata %d\n%s\n" % (len(more), more)))
            self.check(replica, paths)

    def check(self, replica, paths):
        found = self.call(replica, "Repository/Attributes", revision="main", paths=paths, attributes=self.NAMES)["attributes"]
        expected = self.stock(replica, paths)
        self.assertGreater(len(expected), 12)
        self.assertEqual([(raw(a["path"]).decode(), a["attribute"], raw(a["value"]).decode()) for a in found], expected)

    def test_too_large(self):
        replica = self.replica()
        content = b"#" * (1 << 20) + b"\n"
        replica.fast_import(b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata 1\nx\n"
                            b"M 100644 inline d/.gitattributes\ndata %d\n%s\n" % (len(content), content))
        answer = self.ask(replica, "Repository/Attributes", revision="main", paths=["d/x"], attributes=["text"])
        self.assertIn("d/.gitattributes has 1048577 bytes", answer)


class Refs(Case):
    N = 100000

    def pages(self, replica, limit, **fields):
        names, token = [], ""
        while True:
            answer = self.call(replica, "Ref/Query", page={"limit": limit, "token": token}, **fields)
            self.assertLessEqual(len(answer["refs"]), limit)
            names += [raw(r["ref"]["name"]).decode() for r in answer["refs"]]
            token = answer["next_page_token"]
            if not token:
                return names

    def test_paging_through_many_holds_memory_flat(self):
        replica = self.replica(40)
        tips = replica.lines("rev-list", "--all")
        r = random.Random(SEED)
        names = {"refs/%s/%s%d.%d" % (r.choice(("heads", "tags", "heads/x")), r.choice("abc"), i // 7, i) for i in range(self.N)}
        with open(os.path.join(replica.path, "packed-refs"), "w") as packed:
            packed.write("# pack-refs with: peeled fully-peeled sorted \n")
            packed.writelines("%s %s\n" % (r.choice(tips), name) for name in sorted(names))
        every = replica.lines("for-each-ref", "--format=%(refname)")
        self.assertGreaterEqual(len(every), self.N)
        self.pages(replica, 1000, patterns=["refs/heads/x"])
        before = int(replica.line("@memory").split()[1])
        self.assertEqual(self.pages(replica, 1000), every)
        self.assertEqual(self.pages(replica, 1000, descending=True), every[::-1])
        after = int(replica.line("@memory").split()[1])
        # All the names alone take more.
        if "GITSTEAD_TEST_SANITIZED" not in os.environ:
            self.assertLess(after - before, 2048, "kB more after two times %d refs" % len(every))

    def test_orders_and_patterns_in_small_pages(self):
        replica = self.replica(60)
        tips = replica.lines("rev-list", "--all")
        for i, tip in enumerate(tips):
            replica.git("update-ref", "refs/tags/v1.%d" % (i * 7 % 60), tip)
            replica.git("update-ref", "refs/heads/%s/%d" % ("lm"[i % 2], i), tip)
            if i == 30:
                replica.git("pack-refs", "--all")
        for patterns in ([], ["refs/tags/v1.1*"], ["refs/heads/l", "refs/heads/m/1?"], ["refs/heads/m/", "refs/tags/"], ["**"],
                         ["refs/h*/l/*5"]):
            for sort, key in (("NAME", "refname"), ("VERSION", "version:refname"), ("DATE", "creatordate")):
                for descending in (False, True):
                    for limit in (1000, 7):
                        with self.subTest(patterns=patterns, sort=sort, descending=descending, limit=limit):
                            key_ = "--sort=%s%s" % ("-" if descending else "", key)
                            expected = replica.lines("for-each-ref", "--format=%(refname)", "--sort=refname", key_,
                                                     *[p for p in patterns if p != "**"])
                            self.assertEqual(self.pages(replica, limit, patterns=patterns, sort="REF_SORT_" + sort,
                                                        descending=descending), expected)

    def test_refs_that_go_between_two_pages(self):
        replica = self.replica(40)
        tip = replica.lines("rev-list", "--all")[0]
        for i in range(20):
            replica.git("update-ref", "refs/heads/r/%02d" % i, tip)
        first = self.call(replica, "Ref/Query", patterns=["refs/heads/r"], page={"limit": 5})
        for i in (3, 4, 5, 6):
            replica.git("update-ref", "-d", "refs/heads/r/%02d" % i)
        rest = self.call(replica, "Ref/Query", patterns=["refs/heads/r"], page={"token": first["next_page_token"]})
        self.assertEqual([raw(e["ref"]["name"]).decode()[-2:] for e in rest["refs"]], ["%02d" % i for i in range(7, 20)])


class Optimize(Case):
    def many_packs(self):
        replica = self.replica(60)
        for i in range(9):
            replica.fast_import(b"commit refs/heads/more%d\ncommitter C <c@d> 17000000%02d +0000\ndata 1\nx\n"
                                b"M 100644 inline f%d\ndata 2\n%d\n\n" % (i, i, i, i))
        return replica

    def counted(self, replica):
        return dict(line.split(": ") for line in replica.git("count-objects", "-v").strip().split("\n"))

    def test_each_strategy(self):
        for strategy, packs in (("DUE", None), ("GEOMETRIC", None), ("FULL", 1), ("COMMIT_GRAPH", 10)):
            with self.subTest(strategy):
                replica = self.many_packs()
                commits, objects = replica.lines("rev-list", "--all"), sorted(replica.lines("rev-list", "--all", "--objects"))
                done, = self.call(replica, "Repository/Optimize", strategy="OPTIMIZE_" + strategy)["replicas"]
                self.assertEqual(done["packs_before"], 10)
                self.assertEqual(done["packs_after"], int(self.counted(replica)["packs"]))
                if packs is None:
                    self.assertLess(done["packs_after"], 10)
                else:
                    self.assertEqual(done["packs_after"], packs)
                self.assertEqual(done["repacked"] == "OPTIMIZE_DUE", strategy == "COMMIT_GRAPH")
                self.assertTrue(done["commit_graph_written"])
                self.assertGreater(done["pack_bytes_before"], 0)
                replica.git("commit-graph", "verify")
                self.assertEqual(replica.lines("rev-list", "--all"), commits)
                self.assertEqual(sorted(replica.lines("rev-list", "--all", "--objects")), objects)
                replica.git("fsck", "--full")

    def test_nothing_is_due_twice(self):
        replica = self.many_packs()
        self.call(replica, "Repository/Optimize", strategy="OPTIMIZE_FULL")
        done, = self.call(replica, "Repository/Optimize")["replicas"]
        self.assertEqual((done["repacked"], done["packs_before"], done["packs_after"], done["commit_graph_written"]),
                         ("OPTIMIZE_DUE", 1, 1, False))

    def test_while_somebody_else_is_at_work(self):
        replica = self.many_packs()
        self.call(replica, "Repository/Optimize", strategy="OPTIMIZE_COMMIT_GRAPH")
        lock = os.open(os.path.join(replica.path, "objects", "pack"), os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        self.assertIn("BUSY", self.ask(replica, "Repository/Optimize", strategy="OPTIMIZE_FULL"))
        os.close(lock)
        self.assertEqual(self.call(replica, "Repository/Optimize", strategy="OPTIMIZE_FULL")["replicas"][0]["packs_after"], 1)


if __name__ == "__main__":
    unittest.main()
