#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What listings tell of each commit when they are asked, and how they begin and end: as stock git says on the same repository."""
import base64
import random
import unittest

from history_fixture import SEED, History, Replica

LINES = [b"Signed-off-by: A <a@example.org>", b"Fix: b", b"Acked-by : someone", b"Some words in a line", b"word", b"", b"", b"", b"  ",
         b" continued", b"\tcontinued: too", b"# a comment", b"#: x", b"(cherry picked from commit 1234)", b"-x: y", b"Key:", b": v",
         b"Key-With-1 \t: v  v ", b"Conflicts:", b"\tfile/a", b"\tfile b", b"caf\xe9: no", b"Caf-\xe9: no", b"See: caf\xe9 \xff", b"a b: c",
         b"---", b"# ------------------------ >8 ------------------------", b"x:y:z", b"Url: http://example.org/#1", b"end\r", b"Cr: x\r",
         b"\x0b: v", b"Tab\there: no"]
WHOLE = [b"", b"\n", b"Key: in the title", b"Key: in the title\n\n", b"t\n\nK: v", b"t\n\nK: v\n\n\n", b"\n\n  \nt\n\nK: v\n", b"t\n\nK: v\n  \n",
         b"t\n\nK: v\n# c\n\n# d\n", b"t\n\nConflicts:\n\ta\n\tb\n", b"t\n\nK: v\nConflicts:\n\ta\n", b"Conflicts:\n\ta\n\nK: v\n",
         b"# ------------------------ >8 ------------------------\n\nK: v\n",
         b"t\n\nK: v\n# ------------------------ >8 ------------------------\nL: w\n",
         b"t\n\nK: one\n two\n\tthree\n  \n four\nL: x\n", b"t\n\nwords\nwords\nwords\nSigned-off-by: x\n",
         b"t\n\nwords\nwords\nwords\nwords\nSigned-off-by: x\n", b"t\n\n leading\nK: v\n", b"t\n\nK: v\nwords\n cont\n",
         b"t\nK: v\n", b"t\n\nK: v\n\nbody again\n", b"t\r\n\r\nK: v\r\nL: w\r\n", b"# only\n# comments\n", b"t\n# c\n\nK: v\n",
         b"t\n\n" + b"K: v\n" * 150, b"t\n\nK: " + b"v" * 9000 + b"\n " + b"w" * 9000 + b"\n"]


def field(value):
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])


class Trailers(unittest.TestCase):
    def compare(self, messages):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(b"".join(b"commit refs/heads/main\ncommitter C <c@d> %d +0000\ndata %d\n%s\n" % (
            1700000000 + i, len(message), message) for i, message in enumerate(messages)))
        # The bytes as they are: git would show others for a message that is not UTF-8.
        replica.git("config", "i18n.logOutputEncoding", "UTF-8")
        text = replica.git("log", "--format=%H%x03%(trailers:only,unfold,separator=%x01,key_value_separator=%x02)%x03",
                           "main").encode(errors="surrogateescape")
        expected, parts = {}, text.split(b"\x03")
        for oid, trailers in zip(parts[0::2], parts[1::2]):
            expected[oid.strip().decode()] = [tuple(each.split(b"\x02", 1)) for each in trailers.split(b"\x01")] if trailers else []
        self.assertEqual(len(expected), len(messages))
        found, token = {}, ""
        while True:
            reply = replica.call("List", range={"include": ["main"]}, details={"trailers": True}, message_limit=1,
                                 page={"token": token})
            for commit in reply["commits"]:
                self.assertFalse(commit["trailers_cut"])
                found[commit["oid"]] = [(field(t["key"]), field(t["value"])) for t in commit["trailers"]]
            token = reply["next_page_token"]
            if not token:
                break
        for (oid, trailers), message in zip(reversed(expected.items()), messages):
            self.assertEqual(found[oid], trailers, message)

    def test_whole_messages(self):
        self.compare(WHOLE)

    def test_random_messages(self):
        r = random.Random(SEED)
        messages = []
        for _ in range(1500):
            lines = [r.choice(LINES) for _ in range(r.randint(0, 12))]
            messages.append((b"title\n\n" if r.random() < 0.7 else b"") + b"\n".join(lines) + r.choice((b"\n", b"\n", b"", b"\n\n")))
        self.compare(messages)

    def test_bounds(self):
        replica = Replica()
        self.addCleanup(replica.close)
        many = b"t\n\n" + b"".join(b"Key-%d: v\n" % i for i in range(100000))
        large = b"t\n\nA: b\nKey: " + b"v" * (2 << 20) + b"\n"
        # A NUL ends it, as for git: fast-import takes none, hash-object does.
        replica.fast_import(b"".join(b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata %d\n%s\n" % (len(m), m)
                                     for m in (many, large)))
        after, before = replica.call("List", range={"include": ["main"]}, details={"trailers": True})["commits"]
        self.assertEqual((len(before["trailers"]), before["trailers_cut"]), (200, True))
        self.assertEqual(before["trailers"][199], {"key": "Key-199", "value": "v"})
        self.assertEqual((after["trailers"], after["trailers_cut"]), ([{"key": "A", "value": "b"}], True))


class Listings(unittest.TestCase):
    def replica(self, n=200, skew=False):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(History(SEED + 3, n, skew).stream())
        commits = replica.lines("rev-list", "--all")
        r = random.Random(SEED)
        for i in range(40):
            replica.git("update-ref", "refs/tags/t%02d" % i, r.choice(commits))
        for i in range(10):
            replica.git("tag", "-a", "-m", "x", "annotated%d" % i, r.choice(commits))
        replica.git("update-ref", "refs/tags/tree", commits[0] + "^{tree}")
        return replica, commits, r

    def ids(self, replica, limit=1000, **request):
        ids, token = [], ""
        while True:
            reply = replica.call("List", ids_only=True, page={"limit": limit, "token": token}, **request)
            self.assertLessEqual(len(reply["commits"]), limit)
            ids += [commit["oid"] for commit in reply["commits"]]
            token = reply["next_page_token"]
            if not token:
                return ids
            self.assertTrue(reply["commits"])

    def random_request(self, r, commits):
        of, request, args, tail = {}, {}, [], []
        roll = r.random()
        if roll < 0.4:
            of["include_refs"] = r.choice((["refs/heads/"], ["refs/tags/"], ["refs/heads/", "refs/tags/"], ["refs/"]))
            args += {"refs/heads/": ["--branches"], "refs/tags/": ["--tags"], "refs/": ["--glob=refs/*"]}[of["include_refs"][0]]
            args += ["--tags"] if len(of["include_refs"]) == 2 else []
        if roll > 0.3:
            of["include"] = r.sample(commits, r.choice((1, 2)))
            args = of["include"] + args
        if r.random() < 0.3:
            of["exclude_refs"] = r.choice((["refs/tags/t0"], ["refs/tags/annotated"], ["refs/heads/b1"]))
            args += ["--not", "--glob=" + of["exclude_refs"][0] + "*", "--not"]
        if r.random() < 0.5:
            request["max_count"] = r.choice((1, 2, 7, 30, 100000))
            args.append("--max-count=%d" % request["max_count"])
        if r.random() < 0.4:
            request["skip"] = r.choice((1, 5, 50))
            args.append("--skip=%d" % request["skip"])
        if r.random() < 0.5:
            request["reverse"] = True
            args.append("--reverse")
        if r.random() < 0.4:
            of["order"] = "HISTORY_ORDER_TOPO"
            args.append("--topo-order")
        if r.random() < 0.2:
            of["merges"] = "HISTORY_MERGES_NONE"
            args.append("--no-merges")
        if r.random() < 0.2:
            of["regex"], of["committer"] = True, ["^K.m"]
            args += ["-E", "--committer=^K.m"]
        if r.random() < 0.3:
            of["paths"] = [r.choice(History.PATHS)]
            tail = ["--"] + of["paths"]
        return dict(request, range=of), args + tail

    def test_where_they_begin_and_end(self):
        for skew in (False, True):
            replica, commits, r = self.replica(skew=skew)
            for kind in ("none", "full"):
                replica.make_graph(kind)
                for _ in range(80):
                    request, args = self.random_request(r, commits)
                    said = "%s: git rev-list %s" % (kind, " ".join(args))
                    expected = replica.lines("rev-list", *args)
                    self.assertEqual(self.ids(replica, r.choice((1000, 1000, 3, 20)), **request), expected, said)
                    if "skip" not in request and "max_count" not in request and not request["range"].get("exclude_refs"):
                        self.assertEqual(replica.call("Count", range=request["range"])["count"], len(expected), said)

    def test_along_renames(self):
        replica, commits, r = self.replica()
        for path in History.PATHS[:6]:
            expected = replica.lines("log", "--format=%H", "--follow", commits[0], "--", path)
            request = {"range": {"include": [commits[0]], "paths": [path], "follow": True}}
            self.assertEqual(self.ids(replica, 3, reverse=True, **request), expected[::-1])
            self.assertEqual(self.ids(replica, 3, max_count=5, skip=1, **request), expected[1:6])
            self.assertEqual(self.ids(replica, 3, max_count=5, skip=1, reverse=True, **request), expected[1:6][::-1])

    def test_refs_that_match_nothing(self):
        replica, _, _ = self.replica(n=20)
        self.assertEqual(self.ids(replica, range={"include_refs": ["refs/nothing/"]}), [])
        self.assertEqual(replica.call("Count", range={"include_refs": ["refs/nothing/"]})["count"], 0)

    def test_pages_of_a_reversed_listing_are_one_history(self):
        replica, commits, _ = self.replica(n=60)
        replica.git("update-ref", "refs/heads/moving", commits[10])
        expected = replica.lines("rev-list", "--reverse", "moving")
        first = replica.call("List", range={"include": ["moving"]}, reverse=True, ids_only=True, page={"limit": 2})
        replica.git("update-ref", "refs/heads/moving", commits[0])
        rest = replica.call("List", range={"include": ["moving"]}, reverse=True, ids_only=True,
                            page={"token": first["next_page_token"]})
        self.assertEqual([c["oid"] for c in first["commits"] + rest["commits"]], expected)

    def test_lines_and_refs(self):
        replica, _, _ = self.replica()
        pointing = {}
        for line in replica.git("for-each-ref", "--format=%(objectname) %(*objectname) %(refname)").splitlines():
            oid, peeled, name = line.split(" ")
            pointing.setdefault(peeled or oid, []).append(name)
        found, token = [], ""
        while True:
            reply = replica.call("List", range={"all_refs": True}, details={"stats": True, "refs": True},
                                 page={"token": token, "limit": 70})
            found += reply["commits"]
            token = reply["next_page_token"]
            if not token:
                break
        self.assertEqual([c["oid"] for c in found], replica.lines("rev-list", "--all"))
        expected = {}
        for part in replica.git("log", "--all", "--format=%x01%H", "--shortstat", "--no-renames", "--diff-merges=first-parent"
                                ).split("\x01")[1:]:
            oid, _, rest = part.partition("\n")
            expected[oid] = rest.strip()
        for commit in found:
            said = expected[commit["oid"]]
            stats = commit["stats"]
            got = "%d file%s changed" % (stats["files"], "" if stats["files"] == 1 else "s")
            if stats["additions"] or not stats["deletions"]:
                got += ", %d insertion%s(+)" % (stats["additions"], "" if stats["additions"] == 1 else "s")
            if stats["deletions"] or not stats["additions"]:
                got += ", %d deletion%s(-)" % (stats["deletions"], "" if stats["deletions"] == 1 else "s")
            self.assertEqual(got if stats["files"] else "", said)
            self.assertEqual((commit["refs"], commit["ref_count"]), (sorted(pointing.get(commit["oid"], [])),
                                                                   len(pointing.get(commit["oid"], []))))

    def test_many_refs_at_one_commit(self):
        replica, commits, _ = self.replica(n=10)
        replica.git("update-ref", "--stdin", stdin=b"".join(b"create refs/many/%04d %s\n" % (i, commits[0].encode())
                                                          for i in range(3000)))
        commit = replica.call("List", range={"include": [commits[0]]}, max_count=1,
                              details={"refs": True, "ref_prefixes": ["refs/many/"]})["commits"][0]
        self.assertEqual((commit["refs"], commit["ref_count"]), (["refs/many/%04d" % i for i in range(100)], 3000))
        commit = replica.call("List", range={"include": [commits[0]]}, max_count=1,
                              details={"refs": True, "ref_prefixes": ["refs/many/000", "refs/many/12"]})["commits"][0]
        self.assertEqual(commit["ref_count"], 110)

    def test_bad_input(self):
        replica, commits, _ = self.replica(n=20)
        base = {"range": {"include": [commits[0]]}}
        for request, mention in (
                (dict(base, ids_only=True, details={"trailers": True}), "details"),
                (dict(base, details={"ref_prefixes": ["refs/heads/"]}), "details.ref_prefixes"),
                (dict(base, details={"refs": True, "ref_prefixes": ["refs/heads/"] * 65}), "details.ref_prefixes"),
                (dict(base, details={"refs": True, "ref_prefixes": ["main"]}), "details.ref_prefixes"),
                ({"range": {"include_refs": ["--branches"]}}, "range.include_refs"),
                ({"range": {"include_refs": [""]}}, "range.include_refs"),
                ({"range": {"exclude_refs": ["refs/" + "x" * 5000]}}, "range.exclude_refs"),
                ({"range": {"exclude_refs": [{"base64": "cmVmcy8A"}]}}, "range.exclude_refs"),
                (dict(base, max_count="99999999999999999999999"), "max_count"),
                (dict(base, max_count=-1), "max_count")):
            answer = replica.ask("List", **request)
            self.assertIsInstance(answer, str, request)
            self.assertIn("INVALID_ARGUMENT", answer, request)
            self.assertIn(mention, answer, request)


if __name__ == "__main__":
    unittest.main()
