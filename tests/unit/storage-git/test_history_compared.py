#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Questions about the history, answered by the storage and by stock git on the same repository: always the same."""
import os
import random
import unittest

from history_fixture import GRAPHS, SEED, History, Replica


def pairs(random_, commits, n):
    return [(random_.choice(commits), random_.choice(commits)) for _ in range(n)]


class Compared(unittest.TestCase):
    def replica(self, seed=SEED, n=300, skew=False):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(History(seed, n, skew).stream())
        return replica

    def each_graph(self, n=300, skews=(False, True)):
        for skew in skews:
            replica = self.replica(SEED + skew, n, skew)
            for kind in GRAPHS:
                replica.make_graph(kind)
                yield replica, random.Random(SEED * 31 + skew), "%s, skew %s" % (kind, skew)
                log = replica.line("@log")
                self.assertNotIn("graph-ignored", log)

    def random_range(self, r, commits):
        """A range, and the same for git rev-list."""
        of, args, tail = {}, [], []
        include = r.sample(commits, r.choice((1, 1, 2, 4)))
        exclude = r.sample(commits, r.choice((0, 0, 0, 1, 1, 3)))
        if r.random() < 0.2:
            of["all_refs"] = True
            include = []
            args.append("--all")
        of["include"] = include
        of["exclude"] = exclude
        order = r.choice(("", "", "TOPO", "DATE_TOPO", "AUTHOR_DATE"))
        if order:
            of["order"] = "HISTORY_ORDER_" + order
            args.append({"TOPO": "--topo-order", "DATE_TOPO": "--date-order", "AUTHOR_DATE": "--author-date-order"}[order])
        if r.random() < 0.2:
            of["first_parent"] = True
            args.append("--first-parent")
        if r.random() < 0.2:
            merges = r.choice(("NONE", "ONLY"))
            of["merges"] = "HISTORY_MERGES_" + merges
            args.append("--no-merges" if merges == "NONE" else "--merges")
        if r.random() < 0.2:
            of["since"] = 1700000000 + r.randint(0, 200000)
            args.append("--max-age=%d" % of["since"])
        if r.random() < 0.2:
            of["until"] = 1700000000 + r.randint(0, 300000)
            args.append("--min-age=%d" % of["until"])
        if r.random() < 0.5:
            of["paths"] = r.sample(History.PATHS + ["dir", "dir/sub", "e", "nothing", "\u00e4"], r.choice((1, 1, 1, 2, 3)))
            tail = ["--"] + of["paths"]
        if r.random() < 0.2:
            self.random_texts(r, of, args)
        return of, args + include + ["^" + each for each in exclude] + tail

    def random_texts(self, r, of, args):
        if r.random() < 0.5:
            of["author"] = r.sample(("Ann", "bob", "<x@", "M\u00fcller", "example.com>"), r.choice((1, 2)))
            args += ["--author=" + each for each in of["author"]]
        if r.random() < 0.3:
            of["committer"] = ["kim"]
            args.append("--committer=kim")
        if r.random() < 0.7:
            of["message"] = r.sample(("Fix", "beta", "body", "7", "Add"), r.choice((1, 2)))
            args += ["--grep=" + each for each in of["message"]]
            if r.random() < 0.5:
                of["all_messages"] = True
                args.append("--all-match")
        if r.random() < 0.4:
            of["ignore_case"] = True
            args.append("-i")
        args.append("-F")

    def test_list_and_count(self):
        for replica, r, kind in self.each_graph():
            commits = replica.lines("rev-list", "--all")
            for _ in range(120):
                of, args = self.random_range(r, commits)
                expected = replica.lines("rev-list", *args)
                got = replica.ids(limit=r.choice((1000, 1000, 7, 50)), **of)
                if "--author-date-order" in args and "--first-parent" in args:
                    # With both and a graph git 2.39 does not know all authors' dates in time: the order is no guide.
                    expected, got = sorted(expected), sorted(got)
                self.assertEqual(got, expected, "%s: git rev-list %s" % (kind, " ".join(args)))
                count = replica.call("Count", range=of)["count"]
                if not set(of) - {"include", "exclude", "all_refs", "order"}:
                    # Where clocks are wrong git may list a few excluded ones. Our count is exact.
                    reached = replica.fact("rev-list", *(["--all"] if "all_refs" in of else of["include"])).split()
                    expected = set(reached) - set(replica.fact("rev-list", *of["exclude"]).split() if of["exclude"] else [])
                self.assertEqual(count, len(expected), "%s: git rev-list --count %s" % (kind, " ".join(args)))

    def test_renames_and_expressions(self):
        for replica, r, kind in self.each_graph(skews=(False,)):
            commits = replica.lines("rev-list", "--all")
            for _ in range(15):
                tip, path = r.choice(commits), r.choice(History.PATHS)
                expected = replica.lines("log", "--format=%H", "--follow", tip, "--", path)
                self.assertEqual(replica.ids(limit=r.choice((3, 1000)), include=[tip], paths=[path], follow=True), expected)
                expected = replica.lines("log", "--format=%H", "-E", "--grep=^(Fix|A body: al).*[0-9a]$", "--author=^M", tip)
                got = replica.ids(include=[tip], message=["^(Fix|A body: al).*[0-9a]$"], author=["^M"], regex=True)
                self.assertEqual(got, expected)
            self.assertIn("INVALID_ARGUMENT", replica.ask("List", range={"message": ["(["], "regex": True, "all_refs": True}))

    def test_relations(self):
        for replica, r, kind in self.each_graph():
            commits = replica.lines("rev-list", "--all")
            some = pairs(r, commits, 60)
            asked = [{"left": a, "right": b} for a, b in some]
            distances = replica.call("AheadBehind", pairs=asked)["distances"]
            ancestors = replica.call("IsAncestor", pairs=asked)["ancestor"]
            for (a, b), distance, ancestor in zip(some, distances, ancestors):
                of_a, of_b = (set(replica.fact("rev-list", each).split()) for each in (a, b))
                ahead, behind = len(of_a - of_b), len(of_b - of_a)
                self.assertEqual((distance["ahead"], distance["behind"]), (ahead, behind), (kind, a, b))
                self.assertEqual(ancestor, ahead == 0, (kind, a, b))
                expected = sorted(replica.fact("merge-base", "--all", a, b).split())
                self.assertEqual(sorted(replica.call("MergeBase", revisions=[a, b])["oids"]), expected, (kind, a, b))
            for _ in range(25):
                several = r.sample(commits, r.choice((3, 4)))
                expected = sorted(replica.fact("merge-base", "--all", *several).split())
                self.assertEqual(sorted(replica.call("MergeBase", revisions=several)["oids"]), expected, (kind, several))
                expected = sorted(replica.fact("merge-base", "--all", "--octopus", *several).split())
                got = sorted(replica.call("MergeBase", revisions=several, octopus=True)["oids"])
                self.assertEqual(got, expected, (kind, several))

    def test_refs_containing(self):
        for replica, r, kind in self.each_graph():
            commits = replica.lines("rev-list", "--all")
            tips = r.sample(commits, 20)
            for i, tip in enumerate(tips):
                replica.git("update-ref", "refs/tags/t%d" % i, tip)
            replica.git("tag", "-f", "-a", "-m", "x", "annotated", tips[0])
            replica.git("update-ref", "refs/tags/tree", replica.git("rev-parse", tips[0] + "^{tree}").strip())
            for _ in range(25):
                wanted = r.choice(commits)
                expected = sorted(replica.lines("for-each-ref", "--format=%(refname)", "--contains", wanted))
                got, token = [], ""
                while True:
                    answer = replica.call("RefsContaining", revision=wanted, page={"limit": 3, "token": token})
                    got += [ref["name"] for ref in answer["refs"]]
                    token = answer["next_page_token"]
                    if not token:
                        break
                self.assertEqual(got, expected, kind)
                got = replica.call("RefsContaining", revision=wanted, prefixes=["refs/heads/"])["refs"]
                self.assertEqual([ref["name"] for ref in got], [name for name in expected if name.startswith("refs/heads/")])

    def test_last(self):
        for replica, r, kind in self.each_graph():
            commits = replica.lines("rev-list", "--all")
            for tip in r.sample(commits, 12):
                for folder in ("", "dir", "dir/sub"):
                    names = replica.fact("ls-tree", "-z", "--name-only", tip + ":" + folder).split("\0")[:-1]
                    if not names:
                        answer = replica.ask("LastForTree", revision=tip, path=folder)
                        self.assertTrue(folder == "" or "NOT_FOUND" in answer, answer)
                        continue
                    got, token = {}, ""
                    while True:
                        answer = replica.call("LastForTree", revision=tip, path=folder, page={"limit": 4, "token": token})
                        self.assertEqual({e["commit"] for e in answer["entries"]}, {c["oid"] for c in answer["commits"]})
                        got.update({entry["name"]: entry["commit"] for entry in answer["entries"]})
                        token = answer["next_page_token"]
                        if not token:
                            break
                    prefix = folder + "/" if folder else ""
                    expected = {name: replica.fact("log", "-1", "--format=%H", tip, "--", prefix + name).strip() for name in names}
                    self.assertEqual(got, expected, (kind, tip, folder))
                paths = r.sample(History.PATHS + ["dir", "nothing"], 5)
                entries = replica.call("LastForPath", revision=tip, paths=paths, ids_only=True)["entries"]
                for path, entry in zip(paths, entries):
                    expected = replica.fact("log", "-1", "--format=%H", tip, "--", path).strip()
                    self.assertEqual(entry.get("commit", {}).get("oid", ""), expected, (kind, tip, path))

    def test_blame(self):
        replica = self.replica()
        r = random.Random(SEED)
        commits = replica.lines("rev-list", "--all")
        for tip in r.sample(commits, 15):
            for path in replica.git("ls-tree", "-r", "-z", "--name-only", tip).split("\0")[:-1][:4]:
                for ranges, options in (([], []), ([{"first": 2, "count": 3}], ["-L2,+3"]), ([{"first": 4}], ["-L4,"])):
                    expected = [(line.split()[0], int(line.split()[1]), int(line.split()[2]))
                                for line in replica.git("blame", "--porcelain", *options, tip, "--", path).splitlines()
                                if len(line.split()) in (3, 4) and len(line.split()[0]) == 40 and not line.startswith("\t")]
                    answer = replica.call("Blame", revision=tip, path=path, ranges=ranges)
                    got = [(hunk["commit"], hunk["original_line"] + i, hunk["line"] + i)
                           for hunk in answer["hunks"] for i in range(hunk["count"])]
                    self.assertEqual(got, expected)
                    self.assertEqual({hunk["commit"] for hunk in answer["hunks"]}, {c["oid"] for c in answer["commits"]})
        self.assertIn("NOT_FOUND", replica.ask("Blame", revision=commits[0], path="nothing"))
        self.assertIn("INVALID_ARGUMENT", replica.ask("Blame", revision=commits[0], path="../x"))

    def test_bad_input(self):
        """A typed error that names the field."""
        replica = self.replica(n=40)
        tip = replica.lines("rev-list", "-1", "--all")[0]
        tree = replica.git("rev-parse", tip + "^{tree}").strip()
        file = next(name for name in replica.lines("ls-tree", "-r", "--name-only", tip) if not name.startswith('"'))
        many = [tip] * 1001

        def of(**conditions):
            return {"range": dict({"include": [tip]}, **conditions)}

        for method, request, code, part in (
                ("List", of(include=["--upload-pack=x"]), "INVALID_ARGUMENT", "range.include"),
                ("List", of(include=["-x"]), "INVALID_ARGUMENT", "range.include"),
                ("List", of(exclude=["main@{1}"]), "INVALID_ARGUMENT", "range.exclude"),
                ("List", of(include=["b0..b1"]), "INVALID_ARGUMENT", "range.include"),
                ("List", of(include=["b0\nb1"]), "INVALID_ARGUMENT", "range.include"),
                ("List", of(include=["no-such-branch"]), "NOT_FOUND", "no-such-branch"),
                ("List", of(include=[tree]), "NOT_FOUND", ""),
                ("List", of(include=many), "INVALID_ARGUMENT", "range.include"),
                ("List", of(paths=["../etc"]), "INVALID_ARGUMENT", "range.paths"),
                ("List", of(paths=["/a"]), "INVALID_ARGUMENT", "range.paths"),
                ("List", of(paths=[""]), "INVALID_ARGUMENT", "range.paths"),
                ("List", of(paths=["a"] * 65), "INVALID_ARGUMENT", "range.paths"),
                ("List", of(paths=["a", "b"], follow=True), "INVALID_ARGUMENT", "range.follow"),
                ("List", of(order=99), "INVALID_ARGUMENT", "range.order"),
                ("List", of(merges=-1), "INVALID_ARGUMENT", "range.merges"),
                ("List", of(since=-5), "INVALID_ARGUMENT", "range.since"),
                ("List", of(until=-5), "INVALID_ARGUMENT", "range.until"),
                ("List", of(author=["x"] * 17), "INVALID_ARGUMENT", "range.author"),
                ("List", of(message=["a\nb"]), "INVALID_ARGUMENT", "range.message"),
                ("List", of(committer=["x" * 1025]), "INVALID_ARGUMENT", "range.committer"),
                ("List", dict(of(), message_limit=1 << 20), "INVALID_ARGUMENT", "message_limit"),
                ("List", dict(of(), skip="18446744073709551615"), "INVALID_ARGUMENT", "skip"),
                ("List", dict(of(), page={"token": "00"}), "INVALID_ARGUMENT", "page.token"),
                ("List", dict(of(), page={"token": "02" + "00" * 40}), "INVALID_ARGUMENT", "page.token"),
                ("AheadBehind", {"pairs": []}, "INVALID_ARGUMENT", "pairs"),
                ("AheadBehind", {"pairs": [{"left": tip}]}, "INVALID_ARGUMENT", "pairs.right"),
                ("IsAncestor", {"pairs": [{"left": tip, "right": tip}] * 1001}, "INVALID_ARGUMENT", "pairs"),
                ("MergeBase", {"revisions": [tip]}, "INVALID_ARGUMENT", "revisions"),
                ("MergeBase", {"revisions": [tip, "nothing"]}, "NOT_FOUND", "nothing"),
                ("LastForPath", {"revision": tip, "paths": []}, "INVALID_ARGUMENT", "paths"),
                ("LastForTree", {"revision": tip, "path": "a/../b"}, "INVALID_ARGUMENT", "path"),
                ("LastForTree", {"revision": tip, "path": "no-such-folder"}, "NOT_FOUND", ""),
                ("Blame", {"revision": tip, "path": file, "ranges": [{"first": 0}]}, "INVALID_ARGUMENT", "ranges.first"),
                ("Blame", {"revision": tip, "path": "--output=x"}, "NOT_FOUND", "path"),
                ("RefsContaining", {"revision": tip, "prefixes": ["x"] * 65}, "INVALID_ARGUMENT", "prefixes"),
                ("RefsContaining", {"revision": tip, "page": {"token": "ff"}}, "INVALID_ARGUMENT", "page.token")):
            answer = replica.ask(method, **request)
            self.assertIsInstance(answer, str, (method, request))
            self.assertTrue(answer.startswith("!" + code) and part in answer, (method, request, answer))

    def test_tokens_belong_to_their_request(self):
        replica = self.replica(n=60)
        tips = replica.lines("rev-list", "--all")
        answer = replica.call("List", range={"include": [tips[0]]}, page={"limit": 2})
        token = answer["next_page_token"]
        self.assertTrue(token)
        self.assertIn("page.token", replica.ask("List", range={"include": [tips[1]]}, page={"limit": 2, "token": token}))
        # A token of our making that names what is no commit.
        tree = replica.git("rev-parse", tips[0] + "^{tree}").strip()
        self.assertIn(tips[0], token)
        self.assertIn("page.token", replica.ask("List", range={"include": [tips[0]]}, page={"token": token.replace(tips[0], tree)}))
        self.assertIn("page.token", replica.ask("List", range={"include": [tips[0]]}, page={"token": token[:-2]}))

    def test_pages_stay_in_one_history(self):
        """Refs that move between two pages change nothing."""
        replica = self.replica(n=120)
        for name in ("main", "HEAD"):
            replica.git("update-ref", "refs/heads/main", replica.lines("rev-list", "--max-count=1", "--skip=30", "--all")[0])
            expected = replica.lines("rev-list", "main")
            first = replica.call("List", range={"include": [name]}, ids_only=True, page={"limit": 3})
            replica.git("update-ref", "refs/heads/main", replica.lines("rev-list", "--max-count=1", "--all")[0])
            rest = replica.call("List", range={"include": [name]}, ids_only=True, page={"token": first["next_page_token"]})
            self.assertEqual([c["oid"] for c in first["commits"] + rest["commits"]], expected)

    def test_an_empty_repository(self):
        replica = Replica()
        self.addCleanup(replica.close)
        self.assertEqual(replica.ids(all_refs=True), [])
        self.assertEqual(replica.call("Count", range={"all_refs": True})["count"], 0)
        self.assertIn("NOT_FOUND", replica.ask("List"))

    def test_more_refs_than_a_command_line_takes(self):
        replica = self.replica(n=60)
        tips = replica.lines("rev-list", "--all")
        with open(os.path.join(replica.path, "packed-refs"), "a") as packed:
            packed.writelines("%s refs/many/%06d\n" % (tips[i % len(tips)], i) for i in range(60000))
        replica.git("pack-refs", "--all")
        expected = replica.lines("rev-list", "--all", "-E", "--grep=^(Fix|Add)")
        self.assertEqual(replica.ids(all_refs=True, regex=True, message=["^(Fix|Add)"]), expected)
        self.assertEqual(replica.call("Count", range={"all_refs": True, "regex": True, "message": ["^(Fix|Add)"]})["count"],
                         len(expected))
        self.assertEqual(replica.ids(include=[tips[0]], exclude=[tips[-1], tips[30]], regex=True, author=["A.n"]),
                         replica.lines("rev-list", "-E", "--author=A.n", tips[0], "^" + tips[-1], "^" + tips[30]))

    def test_messages_of_megabytes(self):
        """Without regard to case, in text that almost matches everywhere."""
        replica = Replica()
        self.addCleanup(replica.close)
        text = b"aA" * (2 << 20)
        for end in (b"aB\n", b"AC\n", b"ab\n"):
            message = text + end
            replica.fast_import(b"commit refs/heads/main\ncommitter C <c@d> 1700000000 +0000\ndata %d\n%s\n" % (len(message), message)
                                + b"from refs/heads/main^0\n\n" * (end != b"aB\n"))
        for wanted in ("A" * 500 + "b", "a" * 1000 + "C", "Ad"):
            self.assertEqual(replica.ids(include=["main"], ignore_case=True, message=[wanted]),
                             replica.lines("rev-list", "-i", "-F", "--grep=" + wanted, "main"), wanted[-3:])

    def test_names_that_are_no_text(self):
        replica = Replica()
        self.addCleanup(replica.close)
        stream = (b"commit refs/heads/main\ncommitter \xff\xfe <c@d> 1700000000 +0000\ndata 3\n\xe9\xff\n\n"
                  b"M 100644 inline \"d\\377/\\303\\050\"\ndata 2\na\n\n")
        replica.fast_import(stream)
        tip = replica.lines("rev-parse", "main")[0]
        folder = {"base64": "ZP8="}
        entries = replica.call("LastForTree", revision=tip, path=folder)["entries"]
        self.assertEqual([(e["name"], e["commit"]) for e in entries], [({"base64": "wyg="}, tip)])
        self.assertEqual(replica.ids(include=[tip], paths=[folder]), [tip])
        self.assertEqual(replica.ids(include=[tip], paths=[{"base64": "ZP8vwyg="}], follow=True), [tip])
        hunks = replica.call("Blame", revision=tip, path={"base64": "ZP8vwyg="})["hunks"]
        self.assertEqual(hunks[0]["original_path"], {"base64": "ZP8vwyg="})
        commit = replica.call("List", range={"include": [tip]})["commits"][0]
        self.assertEqual(commit["committer"]["name"], {"base64": "//4="})


if __name__ == "__main__":
    unittest.main()
