#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Questions about the history, answered by the storage and by stock git on the same repository: always the same."""
import glob
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

QUERY = os.environ["GITSTEAD_TEST_QUERY"]
SEED = int(os.environ.get("GITSTEAD_TEST_SEED", "7"))
ENV = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@d", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
GRAPHS = ("none", "full", "levels", "no-filters", "chain", "newer")


class History:
    """A random history, written by fast-import: branches, merges of all kinds, renames, wrong clocks, several roots."""

    PATHS = ["a", "b", "dir/a", "dir/b", "dir/sub/deep/c", "dir/sub/d", "dir.x", "dir0", "e/f/g", "e/f/h", "\u00e4/\u00f6", "z"]

    def __init__(self, seed, n, skew=False):
        self.random = random.Random(seed)
        self.out = []
        self.trees = []
        self.heads = {}
        self.time = 1700000000
        self.skew = skew
        for i in range(n):
            self.commit(i)

    def line(self, text):
        self.out.append(text.encode() + b"\n")

    def data(self, text):
        raw = text.encode()
        self.out.append(b"data %d\n" % len(raw) + raw + b"\n")

    def pick_parents(self):
        r = self.random
        if not self.heads or r.random() < 0.01:
            return [], "b%d" % len(self.heads)
        names = sorted(self.heads)
        name = r.choice(names)
        parents = [self.heads[name]]
        if r.random() < 0.25 and len(names) > 1:
            count = 1 if r.random() < 0.8 else r.randint(2, 4)
            for other in r.sample(names, min(count, len(names))):
                if self.heads[other] not in parents:
                    parents.append(self.heads[other])
        elif r.random() < 0.12:
            name = "b%d" % len(self.heads)
        return parents, name

    def change(self, files):
        r = self.random
        for _ in range(r.choice((0, 1, 1, 1, 2, 5))):
            path = r.choice(self.PATHS)
            what = r.random()
            if what < 0.12:
                files.pop(path, None)
            elif what < 0.2 and files:
                old = r.choice(sorted(files))
                files[path] = files.pop(old)
            elif what < 0.27 and path in files:
                files[path] = ("100755" if files[path][0] == "100644" else "100644", files[path][1])
            else:
                files[path] = ("100644", "".join("%d\n" % r.randint(0, 9) for _ in range(8)))
        return files

    def commit(self, number):
        r = self.random
        parents, name = self.pick_parents()
        files = dict(self.trees[parents[0]]) if parents else {}
        if len(parents) > 1:
            # One side wins for each path, or a merge of its own.
            for path in self.PATHS:
                side = self.trees[r.choice(parents)]
                if r.random() < 0.7:
                    files.pop(path, None)
                    if path in side:
                        files[path] = side[path]
        if len(parents) < 2 or r.random() < 0.2:
            files = self.change(files)
        self.time += r.choice((0, 0, 1, 60, 3600))
        when = self.time - (r.randint(0, 500000) if self.skew and r.random() < 0.1 else 0)
        author = self.time + r.randint(-100000, 100000)
        self.trees.append(files)
        self.heads[name] = number
        self.line("reset refs/tmp/x")
        self.line("commit refs/heads/%s" % name)
        self.line("mark :%d" % (number + 1))
        self.line("author %s <%s@example.com> %d +0200" % (r.choice(("Ann", "Bob", "M\u00fcller")), r.choice("xyz"), author))
        self.line("committer %s <k@example.com> %d -0700" % (r.choice(("Kim", "Lee")), when))
        self.data("%s number %d\n\nA body: %s\n" % (r.choice(("Fix", "Add", "fix")), number, r.choice(("alpha", "Beta", "gamma"))))
        if parents:
            self.line("from :%d" % (parents[0] + 1))
        for parent in parents[1:]:
            self.line("merge :%d" % (parent + 1))
        self.line("deleteall")
        for path, (mode, content) in files.items():
            self.line('M %s inline %s' % (mode, path))
            self.data(content)
        self.line("")

    def stream(self):
        out = b"".join(line for line in self.out if line != b"reset refs/tmp/x\n")
        # A branch begins where its commit says, whatever it was before.
        return out


class Replica:
    """A replica of the storage, and storage-query on it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="gitstead-history-")
        self.root = os.path.join(self.dir, "root")
        self.path = os.path.join(self.root, "@r", "42.git")
        self.process = subprocess.Popen([QUERY, self.root, "@r/42.git"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line("@memory")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        shutil.rmtree(self.dir)

    def git(self, *args, stdin=None, check=True):
        done = subprocess.run(["git", "--literal-pathspecs", "-C", self.path, *args], env=ENV, input=stdin, capture_output=True)
        if check and done.returncode != 0:
            raise AssertionError("git %s: %s" % (args, done.stderr.decode()))
        return done.stdout.decode(errors="surrogateescape")

    def lines(self, *args):
        return self.git(*args).split()

    def fast_import(self, stream):
        self.git("-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", "--force", stdin=stream)

    def line(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, method, **request):
        answer = self.line("History/%s %s" % (method, json.dumps(request)))
        return json.loads(answer) if not answer.startswith("!") else answer

    def call(self, method, **request):
        answer = self.ask(method, **request)
        assert not isinstance(answer, str), answer
        return answer

    def ids(self, limit=1000, **of):
        """All pages of a listing."""
        ids, token = [], ""
        while True:
            answer = self.call("List", range=of, ids_only=True, page={"limit": limit, "token": token})
            ids += [commit["oid"] for commit in answer["commits"]]
            token = answer["next_page_token"]
            if not token:
                return ids

    def drop_graph(self):
        info = os.path.join(self.path, "objects", "info")
        shutil.rmtree(os.path.join(info, "commit-graphs"), ignore_errors=True)
        if os.path.exists(os.path.join(info, "commit-graph")):
            os.unlink(os.path.join(info, "commit-graph"))

    def make_graph(self, kind):
        self.drop_graph()
        commits = self.lines("rev-list", "--all", "--topo-order", "--reverse")
        if kind in ("full", "levels", "no-filters"):
            version = "1" if kind == "levels" else "2"
            self.git("-c", "commitGraph.generationVersion=" + version, "commit-graph", "write", "--reachable",
                     "--no-changed-paths" if kind == "no-filters" else "--changed-paths")
        elif kind in ("chain", "newer"):
            # Layers of old commits first; of the newest there is none when they are to be outside of the graph.
            steps = (0.5, 0.8, 1.0) if kind == "chain" else (0.5, 0.9)
            for step in steps:
                some = commits[: int(len(commits) * step)]
                self.git("commit-graph", "write", "--split=no-merge", "--stdin-commits", "--changed-paths",
                         stdin=("\n".join(some) + "\n").encode())


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
                    reached = replica.lines("rev-list", *(["--all"] if "all_refs" in of else of["include"]))
                    expected = set(reached) - set(replica.lines("rev-list", *of["exclude"]) if of["exclude"] else [])
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
                ahead = len(set(replica.lines("rev-list", "--topo-order", a)) - set(replica.lines("rev-list", "--topo-order", b)))
                behind = len(set(replica.lines("rev-list", b)) - set(replica.lines("rev-list", a)))
                self.assertEqual((distance["ahead"], distance["behind"]), (ahead, behind), (kind, a, b))
                self.assertEqual(ancestor, ahead == 0, (kind, a, b))
                expected = sorted(replica.git("merge-base", "--all", a, b, check=False).split())
                self.assertEqual(sorted(replica.call("MergeBase", revisions=[a, b])["oids"]), expected, (kind, a, b))
            for _ in range(25):
                several = r.sample(commits, r.choice((3, 4)))
                expected = sorted(replica.git("merge-base", "--all", *several, check=False).split())
                self.assertEqual(sorted(replica.call("MergeBase", revisions=several)["oids"]), expected, (kind, several))
                expected = sorted(replica.git("merge-base", "--all", "--octopus", *several, check=False).split())
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
                    names = replica.git("ls-tree", "-z", "--name-only", tip + ":" + folder, check=False).split("\0")[:-1]
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
                    expected = {name: replica.git("log", "-1", "--format=%H", tip, "--", prefix + name).strip() for name in names}
                    self.assertEqual(got, expected, (kind, tip, folder))
                paths = r.sample(History.PATHS + ["dir", "nothing"], 5)
                entries = replica.call("LastForPath", revision=tip, paths=paths, ids_only=True)["entries"]
                for path, entry in zip(paths, entries):
                    expected = replica.git("log", "-1", "--format=%H", tip, "--", path).strip()
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


if __name__ == "__main__":
    unittest.main()
