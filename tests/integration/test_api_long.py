# SPDX-License-Identifier: Apache-2.0
"""Calls on a history of many lines with everything odd in between, each against stock git's own answer.

GITSTEAD_TEST_HISTORY names it: "mixed" (the usual one) or "long", with 50,000 commits and 10,000 refs. What is asked is drawn at
random, the same each time. Then: paging through 100,000 commits and 100,000 refs costs the server no memory.
"""
import os
import random
import shutil
import unittest

import gitstead_test
from git_histories import git, history
from gitstead_test import ZERO, ServerTestCase
from test_api_read import EMPTY_TREE, ApiCase, parse_commit, raw

NAME = os.environ.get("GITSTEAD_TEST_HISTORY", "mixed")
WHO = {"name": "Ann Author", "email": "ann@example.org", "seconds": 1600000000, "zone": "+0200"}


class LongCase(ApiCase):
    histories = (NAME,)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = history(NAME)
        git(cls.folder, "commit-graph", "write", "--reachable", "--changed-paths")  # only to have git's answers sooner
        cls.commits = git(cls.folder, "rev-list", "--all").decode().split()
        cls.lines = git(cls.folder, "for-each-ref", "--format=%(refname)", "refs/heads/line/").decode().split()

    @classmethod
    def fill(cls, name, url, token):
        """git push takes minutes of its own for 10,000 refs; the server sees what a git beside it writes."""
        if name != "long":
            return super().fill(name, url, token)
        replica = cls.server.replica(name)
        shutil.copytree(os.path.join(history(name), "objects/pack"), os.path.join(replica, "objects/pack"), dirs_exist_ok=True)
        shutil.copy(os.path.join(history(name), "packed-refs"), replica)
        return git(replica, "commit-graph", "write", "--reachable", "--changed-paths")

    def setUp(self):
        self.dice = random.Random(self.id())

    def git_lines(self, *arguments, input=None):
        return git(self.folder, *arguments, input=input).decode(errors="surrogateescape").splitlines()

    def call(self, method, **fields):
        return self.api(NAME, method, **fields)

    def some(self, count):
        return self.dice.sample(self.commits, count)

    def paths_of(self, commit):
        return [path for path in git(self.folder, "ls-tree", "-r", "-z", "--name-only", commit).split(b"\0") if path]

    @staticmethod
    def text(path):
        """Is it one that goes through JSON and a command line as it is?"""
        return all(32 <= c < 127 for c in path)


class History(LongCase):
    def ids(self, limit=None, **conditions):
        found, _ = self.pages(NAME, "History/List", "commits", limit, range=conditions, ids_only=True)
        return [commit["oid"] for commit in found]

    def test_whole_in_every_order(self):
        for order, argument in (("DATE", None), ("TOPO", "--topo-order"), ("DATE_TOPO", "--date-order"),
                                ("AUTHOR_DATE", "--author-date-order")):
            expected = self.git_lines("rev-list", "--all", *([argument] if argument else []))
            with self.subTest(order):
                self.assertEqual(self.ids(all_refs=True, order="HISTORY_ORDER_" + order), expected)
        self.assertEqual(self.call("History/Count", range={"all_refs": True})["count"], len(self.commits))

    def test_ranges(self):
        for number in range(12):
            include, exclude = self.some(2), self.some(number % 3)
            of, arguments = {"include": include, "exclude": exclude}, []
            if number % 2:
                of["merges"], arguments = "HISTORY_MERGES_NONE", ["--no-merges"]
            if number % 5 == 1:
                of["first_parent"] = True
                arguments.append("--first-parent")
            if number % 3 == 1:
                path = self.dice.choice([p for p in self.paths_of(include[0]) if self.text(p)] or [b"README"]).decode()
                of["paths"] = [path]
                arguments += ["--", path]
            split = arguments.index("--") if "--" in arguments else len(arguments)
            expected = self.git_lines("rev-list", *arguments[:split], *include, *["^" + e for e in exclude], *arguments[split:])
            with self.subTest(of):
                self.assertEqual(self.ids(**of), expected)
                self.assertEqual(self.call("History/Count", range=of)["count"], len(expected))

    def test_messages_and_people(self):
        for of, arguments in (({"message": ["Mend 1"]}, ["--grep=Mend 1"]), ({"author": ["Ada"]}, ["--author=Ada"]),
                              ({"author": ["ada"], "ignore_case": True, "message": ["^Change .*7$"], "regex": True},
                               ["-i", "--author=ada", "--grep=^Change .*7$"])):
            expected = self.git_lines("rev-list", "--all", "-300", *arguments)
            with self.subTest(of):
                found = self.call("History/List", range=dict(of, all_refs=True), ids_only=True, page={"limit": 300})["commits"]
                self.assertEqual([commit["oid"] for commit in found], expected)

    def test_relations(self):
        pairs = [self.some(2) for _ in range(20)]
        asked = [{"left": left, "right": right} for left, right in pairs]
        distances = self.call("History/AheadBehind", pairs=asked)["distances"]
        ancestors = self.call("History/IsAncestor", pairs=asked)["ancestor"]
        for (left, right), distance, ancestor in zip(pairs, distances, ancestors):
            expected = self.git_lines("rev-list", "--count", "--left-right", left + "..." + right)[0].split()
            self.assertEqual([str(distance["ahead"]), str(distance["behind"])], expected)
            bases = self.git_bases(left, right)
            self.assertEqual(sorted(self.call("History/MergeBase", revisions=[left, right])["oids"]), bases)
            self.assertEqual(ancestor, bases == [left])

    def git_bases(self, left, right):
        found = gitstead_test.Git().run("merge-base", "--all", left, right, cwd=self.folder)
        return sorted(found.stdout.decode().split())

    def test_refs_containing(self):
        for commit in self.some(4):
            found, _ = self.pages(NAME, "History/RefsContaining", "refs", revision=commit)
            self.assertEqual([raw(ref["name"]).decode() for ref in found],
                             sorted(self.git_lines("for-each-ref", "--format=%(refname)", "--contains", commit)))

    def test_last_commits(self):
        for commit in self.some(4):
            found, _ = self.pages(NAME, "History/LastForTree", "entries", revision=commit, ids_only=True)
            names = [name for name in git(self.folder, "ls-tree", "-z", "--name-only", commit).split(b"\0") if name]
            self.assertEqual([raw(entry["name"]) for entry in found], names)
            for entry in found:
                expected = git(self.folder, "rev-list", "-1", commit, "--", b":(literal)" + raw(entry["name"])).decode().strip()
                self.assertEqual(entry["commit"], expected, entry["name"])

    def test_blame(self):
        checked = 0
        for commit in self.some(30):
            rows = git(self.folder, "ls-tree", "-r", "-z", commit).split(b"\0")
            files = [row.partition(b"\t")[2] for row in rows if row.startswith(b"100")]
            files = [path for path in files if self.text(path)]
            if not files or checked == 6:
                continue
            checked += 1
            path = self.dice.choice(files).decode()
            expected = [line.split()[0] for line in self.git_lines("blame", "--porcelain", commit, "--", path)
                        if len(line.split(" ")[0]) == 40]
            found = []
            for hunk in self.call("History/Blame", revision=commit, path=path)["hunks"]:
                self.assertEqual(hunk["line"], len(found) + 1)
                found += [hunk["commit"]] * hunk["count"]
            self.assertEqual(found, expected)
        self.assertEqual(checked, 6)


class Reading(LongCase):
    def test_commits(self):
        oids = self.some(60)
        for oid, entry in zip(oids, self.call("Commit/Get", revisions=oids)["entries"]):
            expected, commit = parse_commit(self.folder, oid), entry["commit"]
            self.assertEqual((commit["oid"], commit["tree"], commit["parents"]), (oid, expected["tree"], expected["parents"]))
            self.assertEqual(raw(commit["message"]), expected["message"])
            for role in ("author", "committer"):
                person = commit[role]
                self.assertEqual((raw(person["name"]), raw(person["email"]), person["seconds"], raw(person["zone"])), expected[role])

    def test_trees(self):
        kinds = set()
        for oid in self.some(12):
            found, _ = self.pages(NAME, "Commit/TreeEntries", "entries", revision=oid, recursive=True)
            rows = [b"%06o %s %s\t%s" % (e["mode"], e["type"].lower().encode(), e["oid"].encode(), raw(e["path"])) for e in found]
            kinds |= {e["mode"] for e in found}
            self.assertEqual(rows, git(self.folder, "ls-tree", "-r", "-t", "-z", oid).split(b"\0")[:-1])
            found, _ = self.pages(NAME, "Commit/FileList", "paths", revision=oid)
            self.assertEqual([raw(path) for path in found], self.paths_of(oid))
        self.assertLessEqual({0o100644, 0o100755, 0o120000, 0o160000, 0o040000}, kinds)

    def test_files(self):
        asked, expected = [], []
        for oid in self.some(30):
            for path in [p for p in self.paths_of(oid) if self.text(p)][:4]:
                kind = git(self.folder, "ls-tree", "-z", oid, "--", b":(literal)" + path).split()
                if kind[1] == b"blob":
                    asked.append("%s:%s" % (oid, path.decode()))
                    expected.append(git(self.folder, "cat-file", "blob", kind[2].decode()))
        self.assertGreater(len(asked), 20)
        found = self.call("Blob/GetMany", revisions=asked)["entries"]
        self.assertEqual([raw(entry["blob"]["data"]) for entry in found], expected)

    def test_changed_paths(self):
        commits = self.some(40)
        found, _ = self.pages(NAME, "Diff/ChangedPaths", "paths", pairs=[{"right": c} for c in commits], renames=False)
        expected = []
        for index, oid in enumerate(commits):
            parents = self.git_lines("rev-list", "--parents", "-1", oid)[0].split()[1:] or [EMPTY_TREE]
            fields = git(self.folder, "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", parents[0], oid).split(b"\0")
            for head, path in zip(fields[::2], fields[1::2]):
                old_mode, new_mode, old, new, _ = head.lstrip(b":").decode().split()
                expected.append((index, int(old_mode, 8), int(new_mode, 8), old, new, path))
        self.assertEqual([(p["pair"], p["path"]["old_mode"], p["path"]["new_mode"], p["path"]["old_oid"], p["path"]["new_oid"],
                           raw(p["path"]["new_path"])) for p in found], expected)

    def test_stats(self):
        for oid in self.some(12):
            parent = (self.git_lines("rev-list", "--parents", "-1", oid)[0].split()[1:] or [EMPTY_TREE])[0]
            found, _ = self.pages(NAME, "Diff/Stats", "files", left=parent, right=oid, options={"no_renames": True})
            rows = git(self.folder, "diff-tree", "-r", "-z", "--numstat", "--no-renames", parent, oid).split(b"\0")[:-1]
            self.assertEqual([b"%s\t%s\t%s" % ((b"-", b"-") if f["binary"] else (b"%d" % f["additions"], b"%d" % f["deletions"])
                                               + (raw(f["new_path"]),)) if not f["binary"] else b"-\t-\t" + raw(f["new_path"])
                              for f in found], rows)

    def test_refs(self):
        names = self.git_lines("for-each-ref", "--format=%(refname) %(objectname)")
        found, _ = self.pages(NAME, "Ref/List", "refs", 700)
        self.assertEqual(["%s %s" % (raw(ref["name"]).decode(), ref["oid"]) for ref in found], names)
        for patterns in ([], ["refs/tags/"], ["refs/merge-requests/*/head"]):
            expected = self.git_lines("for-each-ref", "--format=%(refname)", "--sort=refname", "--sort=-creatordate", *patterns)
            found, _ = self.pages(NAME, "Ref/Query", "refs", patterns=patterns, sort="REF_SORT_DATE", descending=True)
            self.assertEqual([raw(entry["ref"]["name"]).decode() for entry in found], expected)

    def test_signed_tags(self):
        found, _ = self.pages(NAME, "Ref/Query", "refs", patterns=["refs/tags/v*"], tags=True, signatures=True)
        signed = 0
        for entry in found[:60]:
            text = git(self.folder, "cat-file", "tag", entry["tag"]["oid"])
            if b"BEGIN PGP" in text:
                signed += 1
                signature = entry["tag"]["signature"]
                self.assertEqual(raw(signature["payload"]) + raw(signature["signature"]), text)
            self.assertEqual(entry["tag"]["signature_kind"] == "SIGNATURE_PGP", b"BEGIN PGP" in text)
        self.assertGreater(signed, 3)


class Changing(LongCase):
    def write(self, branch, **rest):
        return dict({"branch": branch, "committer": WHO}, **rest)

    def merged(self, left, right):
        """The tree, and whether it is without conflict, as git merge-tree says."""
        found = gitstead_test.Git().run("merge-tree", "--write-tree", "--no-messages", "-z", left, right, cwd=self.folder)
        tree, *rest = found.stdout.split(b"\0")
        return found.returncode == 0, tree.decode(), sorted({row.partition(b"\t")[2] for row in rest if row})

    def test_merges_of_any_two(self):
        outcomes, most = set(), 3 if NAME == "mixed" else 1
        for number in range(60):
            left, right = self.some(2)
            bases = gitstead_test.Git().run("merge-base", "--all", left, right, cwd=self.folder).stdout.decode().split()
            # git merges the bases first, and theirs before: hours on a history like this.
            if not 1 <= len(bases) <= most or left in bases or right in bases or number > 25 and outcomes:
                continue
            clean, tree, paths = self.merged(left, right)
            reply = self.call("Change/Merge", source=right, message="Merge",
                              write=self.write("trial%d" % number, start=left, force=True, dry_run=True))
            outcomes.add(reply["outcome"])
            self.assertEqual(reply["outcome"], "CHANGE_DRY_RUN" if clean else "CHANGE_CONFLICT", (left, right))
            if clean:
                self.assertEqual(reply["tree"], tree)
            else:
                self.assertEqual(sorted({raw(conflict["path"]) for conflict in reply["conflicts"]}), paths)
        self.assertIn("CHANGE_CONFLICT", outcomes)

    def test_merges_of_lines_that_touch_different_files(self):
        """Clean by construction, written, and the ids that git gives to the same."""
        replica = self.server.replica(NAME)
        for number, base in enumerate(self.some(6)):
            sides = []
            for side in ("a", "b"):
                reply = self.call("Change/CommitFiles", message=side, write=self.write("merge%d%s" % (number, side), start=base),
                                  actions=[{"kind": "FILE_PUT", "path": "only/in/" + side, "content": side}])
                self.assertEqual(reply["outcome"], "CHANGE_DONE")
                sides.append(reply["new_oid"])
            reply = self.call("Change/Merge", source=sides[1], message="Merge\n", write=self.write("merge%da" % number))
            self.assertEqual(reply["outcome"], "CHANGE_DONE")
            tree = git(replica, "merge-tree", "--write-tree", *sides).decode().strip()
            self.assertEqual(reply["tree"], tree)
            person = "%(name)s <%(email)s> %(seconds)d %(zone)s" % WHO
            text = "tree %s\nparent %s\nparent %s\nauthor %s\ncommitter %s\n\nMerge\n" % (tree, *sides, person, person)
            self.assertEqual(git(replica, "cat-file", "commit", reply["new_oid"]).decode(), text)

    def test_picks_and_reverts(self):
        """Commits picked onto where they come from give the same tree again; reverted, their parent's."""
        done = 0
        for oid in self.some(60):
            parents = self.git_lines("rev-list", "--parents", "-1", oid)[0].split()[1:]
            trees = [git(self.folder, "rev-parse", c + "^{tree}").decode().strip() for c in [oid] + parents]
            if len(parents) != 1 or trees[0] == trees[1] or done == 8:
                continue
            done += 1
            picked = self.call("Change/CherryPick", commits=[oid], write=self.write("pick%d" % done, start=parents[0], dry_run=True))
            self.assertEqual((picked["outcome"], picked["tree"]), ("CHANGE_DRY_RUN", trees[0]))
            taken_back = self.call("Change/Revert", commits=[oid], write=self.write("back%d" % done, start=oid, dry_run=True))
            self.assertEqual((taken_back["outcome"], taken_back["tree"]), ("CHANGE_DRY_RUN", trees[1]))
        self.assertEqual(done, 8)

    def test_files_on_any_commit(self):
        for number, base in enumerate(self.some(10)):
            reply = self.call("Change/CommitFiles", message="m", write=self.write("file%d" % number, start=base),
                              actions=[{"kind": "FILE_PUT", "path": "new/%d" % number, "content": "content\n"}])
            replica = self.server.replica(NAME)
            rows = git(replica, "diff-tree", "-r", "--no-commit-id", "--name-status", reply["new_oid"]).decode()
            self.assertEqual(rows, "A\tnew/%d\n" % number)
            self.assertEqual(git(replica, "rev-parse", reply["new_oid"] + "^").decode().strip(), base)
        self.server.assert_settled()
        gitstead_test.Git().fsck(self.server.replica(NAME), "--connectivity-only")


@unittest.skipIf(os.environ.get("GITSTEAD_TEST_SANITIZED"), "sanitizers keep what is freed")
@unittest.skipIf(NAME != "mixed", "once is enough")
class Memory(ServerTestCase):
    """Pages of a long list: the server grows no more once its caches are full."""
    COUNT = 100_000
    CACHES = 160 << 20
    MOST = 8 << 20

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.create("pages")
        cls.replica = cls.server.replica("pages")
        out = []
        for i in range(1, cls.COUNT + 1):
            out.append("commit refs/heads/main\nmark :%d\ncommitter C <c@d> %d +0000\ndata 2\nm\n\n" % (i, 1600000000 + i))
            if i > 50 and i % 10 == 0:
                out.append("merge :%d\n" % (i - 37))
            if i % 100 == 1:
                out.append("M 100644 inline d%d/f%d\ndata 6\n%06d\n" % (i % 7, i % 31, i))
            out.append("\n")
        git(cls.replica, "fast-import", "--quiet", input="".join(out).encode())
        tip = git(cls.replica, "rev-parse", "main").decode().strip()
        refs = "".join("%s refs/tags/t%06d\n" % (tip, i) for i in range(cls.COUNT))
        # As git pack-refs would write it, which would take its time.
        with open(os.path.join(cls.replica, "packed-refs"), "w") as file:
            file.write("# pack-refs with: peeled fully-peeled sorted \n%s refs/heads/main\n%s" % (tip, refs))
        git(cls.replica, "commit-graph", "write", "--reachable")

    def resident(self):
        """Bytes of the server's own memory; mapped files do not count."""
        with open("/proc/%d/status" % self.server.process.pid) as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))

    def through(self, method, entries, **fields):
        """How many entries there are, and the server's size after each page."""
        token, count, sizes = "", 0, []
        while True:
            reply = ApiCase.api(self, "pages", method, **dict(fields, page={"limit": 1000, "token": token}))
            count += len(reply[entries])
            sizes.append(self.resident())
            token = reply["next_page_token"]
            if not token:
                return count, sizes

    def flat(self, method, entries, expected, **fields):
        """The second time nothing is added: what grew in the first are caches with a bound, and memory of each thread."""
        (count, first), (again, second) = [self.through(method, entries, **fields) for _ in range(2)]
        self.assertEqual((count, again), (expected, expected))
        print("# %s: %d pages; KiB after the fifth %d, at most %d, the second time %d" % (
            method, len(first), first[4] >> 10, max(first) >> 10, max(second) >> 10), flush=True)
        self.assertLess(max(first), first[0] + self.CACHES)
        self.assertLess(max(second), max(first) + self.MOST)

    connection = None
    post = ApiCase.post

    def test_refs(self):
        self.flat("Ref/List", "refs", self.COUNT + 1)
        self.flat("Ref/Query", "refs", self.COUNT, patterns=["refs/tags/"])

    def test_commits(self):
        self.flat("History/List", "commits", self.COUNT, range={"include": ["main"]}, ids_only=True)
        self.flat("History/List", "commits", self.COUNT, range={"include": ["main"]})


if __name__ == "__main__":
    gitstead_test.main()
