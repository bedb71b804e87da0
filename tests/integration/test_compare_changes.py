# SPDX-License-Identifier: Apache-2.0
"""Each call that writes, on random histories, beside what stock git makes of the same: ids of commits, trees, refs, and of
conflicts every path with its sides and git's words.

GITSTEAD_TEST_SEEDS ("20-39") merges, picks, rebases and mails on histories of other seeds, and leaves the rest out.
"""
import json
import os
import random
import re
import shutil
import tempfile
import unittest

import compared
import gitstead_test
from change_case import OTHER, WHO
from compared import ComparedCase, each, folder_of, git
from gitstead_test import Git, ZERO
from rich_histories import FILE, LINK, MODULE, PAIRS, PROGRAM
from test_api_read import field, raw

SEEDS = os.environ.get("GITSTEAD_TEST_SEEDS")
APART = ["apart%d" % seed for seed in range(*[int(s) + n for n, s in enumerate((SEEDS or "1-3").split("-"))])]
AUTO = ("Auto-merging", "Auto packing")


def load_tests(loader, tests, pattern):
    return tests if SEEDS else compared.last(loader, tests, pattern)


def person(who, role):
    return {"GIT_%s_NAME" % role: who["name"], "GIT_%s_EMAIL" % role: who["email"], "GIT_%s_DATE" % role: "%d %s" % (who["seconds"], who["zone"])}


COMMITTER = person(WHO, "COMMITTER")
BOTH = dict(COMMITTER, **person(WHO, "AUTHOR"))


class WriteCase(ComparedCase):
    """With a work tree of each history for stock git."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.trees, cls.reached = {}, {}
        cls.work = tempfile.mkdtemp(prefix="gitstead-compare-")
        cls.addClassCleanup(shutil.rmtree, cls.work, ignore_errors=True)

    def setUp(self):
        super().setUp()
        self.dice = random.Random(self.id())

    def tearDown(self):
        self.server.assert_settled()
        super().tearDown()

    def tree(self, name):
        """A work tree with all of a history's branches, in which nothing is done to line ends."""
        if name not in self.trees:
            folder = self.trees[name] = os.path.join(self.work, name)
            git(None, "clone", "-q", "--no-checkout", "--shared", folder_of(name), folder)
            git(folder, "fetch", "-q", "origin", "+refs/*:refs/all/*")
            with open(os.path.join(folder, ".git/info/attributes"), "w") as out:
                out.write("* -text\n")
        return self.trees[name]

    def run_git(self, name, *arguments, env=None, input=None):
        return Git().run(*arguments, cwd=self.tree(name), env=env, input=input)

    def at(self, name, commit):
        """The work tree stands on that commit, and nothing else is in it."""
        folder = self.tree(name)
        for state in ("rebase-merge", "rebase-apply", "sequencer"):
            shutil.rmtree(os.path.join(folder, ".git", state), ignore_errors=True)
        for state in ("CHERRY_PICK_HEAD", "REVERT_HEAD", "MERGE_HEAD", "MERGE_MSG", "SQUASH_MSG", "AUTO_MERGE", "MERGE_RR", "REBASE_HEAD"):
            if os.path.lexists(os.path.join(folder, ".git", state)):
                os.unlink(os.path.join(folder, ".git", state))
        with open(os.path.join(folder, ".git/HEAD"), "w") as head:
            head.write(commit + "\n")
        Git()("reset", "-q", "--hard", cwd=folder)
        Git()("clean", "-qffdx", cwd=folder)

    def head(self, name, revision="HEAD"):
        return git(self.tree(name), "rev-parse", revision).decode().strip()

    def write(self, branch="trial", **rest):
        return dict({"branch": branch, "committer": WHO, "force": True, "dry_run": True}, **rest)

    @staticmethod
    def sided(path, ours):
        """git puts what is in the way beside the path, with the name of the side: here "~ours" or "~theirs"."""
        head, tilde, side = path.rpartition(b"~")
        return head + tilde + (b"ours" if side in (b"HEAD", ours.encode()) else b"theirs") if tilde else path

    def told(self, reply, ours):
        found = {}
        for conflict in reply["conflicts"]:
            for number, side in enumerate(("ancestor", "ours", "theirs"), 1):
                if conflict[side].get("mode"):
                    found[self.sided(raw(conflict["path"]), ours), number] = (conflict[side]["mode"], conflict[side]["oid"])
        return found

    def stages(self, data, ours):
        found = {}
        for row in data.split(b"\0"):
            if row:
                meta, _, path = row.partition(b"\t")
                mode, oid, stage = meta.split()
                found[self.sided(path, ours), int(stage)] = (int(mode, 8), oid.decode())
        return found

    def known(self, name, told):
        """Without the ids of what was merged for a side that has moved: that has the names of both sides in its marks of conflicts."""
        if name not in self.reached:
            self.reached[name] = set(self.lines(name, "rev-list", "--all", "--objects", "--no-object-names"))
        return {key: (mode, oid if mode == MODULE or oid in self.reached[name] else "merged") for key, (mode, oid) in told.items()}

    def unmerged(self, name, ours="HEAD"):
        return self.stages(git(self.tree(name), "ls-files", "-u", "-z"), ours)

    def ended(self, name, method, reply, result, ours, about):
        """The call's answer is what stock git's command came to: a commit, or conflicts."""
        if reply["outcome"] == "CHANGE_CONFLICT":
            self.assertNotEqual(result.returncode, 0, "%s %s: git makes %s of it, and we: %s" % (
                name, about, self.head(name), reply["messages"]))
            self.same(name, method, self.known(name, self.told(reply, ours)), self.known(name, self.unmerged(name)), about)
            return "conflict"
        self.assertEqual(result.returncode, 0, "%s %s: we make %s of it; git: %s" % (name, about, reply, (result.stdout + result.stderr).decode(
            errors="replace")))
        self.same(name, method, reply["new_oid"], self.head(name), about)
        return "clean"

    def is_text(self, name, commit):
        """Are its bytes what it says they are? Others the server keeps, and git takes them for Latin-1."""
        head, _, message = self.objects(name).read(commit)[2].partition(b"\n\n")
        encoding = re.search(rb"^encoding (.*)$", head, re.M)
        author = re.search(rb"^author (.*)$", head, re.M)[1]
        try:
            return bool((author + message).decode(encoding[1].decode() if encoding else "utf-8") + "x")
        except (UnicodeDecodeError, LookupError):
            return False

    def picked(self, name, method, commit, onto, about):
        revert = method == "Change/Revert"
        reply = self.api(name, method, commits=[commit], write=self.write(start=onto))
        self.at(name, onto)
        result = self.run_git(name, *(["revert", "--no-edit"] if revert else ["cherry-pick", "--keep-redundant-commits", "--allow-empty-message"]),
                              commit, env=BOTH if revert else COMMITTER)
        if reply["outcome"] != "CHANGE_CONFLICT" and reply["new_oid"] == onto:
            # It adds nothing: we leave it out, and git repeats it as an empty one, or says that there is nothing to commit.
            self.same(name, method, reply["tree"], self.head(name, "HEAD^{tree}"), about)
            return "nothing"
        if reply["outcome"] != "CHANGE_CONFLICT" and not self.is_text(name, commit):
            self.same(name, method, reply["tree"], self.head(name, "HEAD^{tree}"), about)
            return "clean"
        if reply["outcome"] == "CHANGE_CONFLICT":
            self.same(name, method, reply["conflict_oid"], commit)
            for message in reply["messages"]:
                for word in re.findall(rb"[0-9a-f]{40}", raw(message)):
                    self.assertEqual(self.objects(name).read(word)[1], "commit", message)
        return self.ended(name, method, reply, result, onto, about)

    def sides(self, name):
        for pair in PAIRS:
            yield (pair,) + tuple(self.lines(name, "rev-parse", "%s/ours" % pair, "%s/theirs" % pair))


class Merging(WriteCase):
    histories = tuple(APART)

    def test_merges(self):
        seen = {"clean": 0, "conflict": 0}
        for name in self.histories:
            for pair, ours, theirs in self.sides(name):
                reply = self.api(name, "Change/Merge", source=theirs, message="Merge", write=self.write(start=ours))
                plain = Git().run("merge-tree", "--write-tree", "--messages", "-z", ours, theirs, cwd=folder_of(name))
                tree, _, rest = plain.stdout.partition(b"\0")
                # A conflict of folders only, as over where a new file belongs, has no rows.
                rows, _, words = rest.partition(b"\0\0") if not rest.startswith(b"\0") else (b"", b"", rest[1:])
                if reply["outcome"] == "CHANGE_CONFLICT":
                    words = words.split(b"\0")
                    messages = []
                    while len(words) > 2:
                        del words[:int(words[0]) + 2]
                        messages.append(words.pop(0).strip())
                    self.same(name, "Change/Merge", [self.told(reply, ours), [raw(m) for m in reply["messages"]]],
                              [self.stages(rows, ours), [m for m in messages if not m.startswith(b"Auto-merging")]], pair)
                else:
                    self.same(name, "Change/Merge", [reply["outcome"], reply["tree"]], ["CHANGE_DRY_RUN", tree.decode()], pair)
                self.at(name, ours)
                result = self.run_git(name, "merge", "-q", "--no-ff", "-m", "Merge", theirs, env=BOTH)
                seen[self.ended(name, "Change/Merge", reply, result, ours, pair)] += 1
                squashed = self.api(name, "Change/Merge", source=theirs, message="All", style="MERGE_SQUASH", write=self.write(start=ours, author=OTHER))
                if reply["outcome"] != "CHANGE_CONFLICT":
                    one = Git()("commit-tree", "-p", ours, "-m", "All", tree.decode(), cwd=folder_of(name),
                                env=dict(COMMITTER, **person(OTHER, "AUTHOR")))
                    self.same(name, "Change/Merge", squashed["new_oid"], one, pair)
                else:
                    self.same(name, "Change/Merge", self.known(name, self.told(squashed, ours)), self.known(name, self.unmerged(name)), pair)
        self.assertGreater(min(seen.values()), len(self.histories), seen)

    def test_picks_and_reverts(self):
        seen = {"clean": 0, "conflict": 0, "nothing": 0}
        for name in self.histories:
            for pair, ours, theirs in self.sides(name):
                for method, tip, other, onto in (("Change/CherryPick", theirs, ours, ours), ("Change/Revert", ours, theirs, ours)):
                    commits = self.lines(name, "rev-list", "--no-merges", tip, "^" + other)
                    for commit in self.dice.sample(commits, min(2 if SEEDS else 1, len(commits))):
                        seen[self.picked(name, method, commit, onto, pair)] += 1
        self.assertGreater(min(seen["clean"], seen["conflict"]), len(self.histories) // 2, seen)

    def test_rebases(self):
        seen = {"clean": 0, "conflict": 0}
        for name in self.histories:
            for pair, ours, theirs in self.sides(name):
                reply = self.api(name, "Change/Rebase", onto=ours, write=self.write(start=theirs))
                self.at(name, theirs)
                result = self.run_git(name, "rebase", "-q", ours, env=COMMITTER)
                if reply["outcome"] == "CHANGE_CONFLICT":
                    self.same(name, "Change/Rebase", reply["conflict_oid"], self.head(name, "REBASE_HEAD"), pair)
                seen[self.ended(name, "Change/Rebase", reply, result, ours, pair)] += 1
        self.assertGreater(min(seen.values()), len(self.histories) // 2, seen)

    def test_mails(self):
        seen = {"clean": 0, "conflict": 0}
        for name in self.histories:
            for pair, ours, theirs in self.sides(name):
                base = self.lines(name, "merge-base", ours, theirs)[0]
                for commit in [theirs] + (self.lines(name, "rev-list", "--no-merges", theirs, "^" + ours)[1:2] if SEEDS else []):
                    mails = self.stock(name, "format-patch", "--stdout", "--binary", "--full-index", *(
                        [base + ".." + commit] if commit == theirs else ["-1", commit]))
                    for three_way in (False, True) if mails else ():
                        status, reply = self.post(name, "Change/ApplyPatch", {"patch": field(mails), "three_way": three_way, "write": self.write(start=ours)})
                        self.at(name, ours)
                        result = self.run_git(name, "am", "-q", *(["-3"] if three_way else []), env=COMMITTER, input=mails)
                        about = "%s %s, 3-way: %s" % (pair, commit, three_way)
                        self.assertEqual(status, 200, "%s: %s %s" % (about, reply, result.stderr))
                        if reply["outcome"] == "CHANGE_CONFLICT":
                            self.assertNotEqual(result.returncode, 0, "%s: %s" % (about, reply))
                            if not three_way:
                                self.same(name, "Change/ApplyPatch", self.told(reply, ours), self.unmerged(name), about)
                            # Else git 2.39's am has merged by its older merge, whose conflicts have other sides. They stop at the same.
                            with open(os.path.join(self.tree(name), ".git/rebase-apply/next")) as stopped:
                                self.same(name, "Change/ApplyPatch", raw(reply["messages"][0]).split(b":")[0],
                                          b"mail %s does not apply" % stopped.read().strip().encode(), about)
                            seen["conflict"] += 1
                        else:
                            seen[self.ended(name, "Change/ApplyPatch", reply, result, ours, about)] += 1
        self.assertGreater(min(seen.values()), len(self.histories), seen)


@unittest.skipIf(SEEDS, "the same whatever the seeds")
class Repeating(WriteCase):
    """The odd and the rich: messages and names in any encoding, of any shape."""
    histories = ("odd", "rich1", "rich2")

    def test_picks_and_reverts(self):
        seen = {"clean": 0, "conflict": 0, "nothing": 0}
        for name in self.histories:
            commits = self.lines(name, "rev-list", "--no-merges", "--min-parents=1", "--all")
            odd = self.lines(name, "rev-list", "odd-messages", "^main") if name == "rich1" else []
            for commit in odd + self.dice.sample(commits, min(5, len(commits))):
                parent = self.lines(name, "rev-parse", commit + "^")[0]
                seen[self.picked(name, "Change/CherryPick", commit, parent, "onto where it was " + commit)] += 1
                if commit in odd:
                    continue
                seen[self.picked(name, "Change/CherryPick", commit, self.dice.choice(commits), "elsewhere " + commit)] += 1
                seen[self.picked(name, "Change/Revert", commit, commit, "taken back " + commit)] += 1
        self.assertGreater(min(seen.values()), 0, seen)

    def test_merges_of_any_two(self):
        seen = {"clean": 0, "conflict": 0}
        for name in self.histories:
            commits = self.commits(name)
            for left, right in [self.dice.sample(commits, 2) for _ in range(12)]:
                bases = Git().run("merge-base", "--all", left, right, cwd=folder_of(name)).stdout.decode().split()
                if not bases or left in bases or right in bases:
                    continue
                reply = self.api(name, "Change/Merge", source=right, message="Merge", write=self.write(start=left))
                self.at(name, left)
                result = self.run_git(name, "merge", "-q", "--no-ff", "-m", "Merge", right, env=BOTH)
                seen[self.ended(name, "Change/Merge", reply, result, left, left + " " + right)] += 1
        self.assertGreater(min(seen.values()), 0, seen)


@unittest.skipIf(SEEDS, "the same whatever the seeds")
class Files(WriteCase):
    """What fast-import makes of the same."""
    histories = ("odd", "rich1", "rich2")

    @staticmethod
    def quoted(path):
        return b'"' + b"".join(b"\\%03o" % c if c < 33 or c > 126 or c in b'"\\' else bytes([c]) for c in path) + b'"'

    def steps(self, name, start):
        """Actions, and the same for fast-import; every kind that has a place to be."""
        rows = [row.split(b"\t", 1) for row in self.stock(name, "ls-tree", "-r", "-z", start).split(b"\0")[:-1]]
        files = {path: int(meta.split()[0], 8) for meta, path in rows}
        oids = {path: meta.split()[2].decode() for meta, path in rows}
        self.dice.shuffle(paths := sorted(path for path, mode in files.items() if mode != MODULE))
        folders = sorted({path.rpartition(b"/")[0] for path in files if b"/" in path and not path.startswith(b"vendor")})
        content = self.dice.randbytes(40) + b"\r\nno end"

        def put(kind, path, mode, data, mode_told=True):
            return (dict({"kind": "FILE_" + kind, "path": field(path), "content": field(data)}, **({"mode": mode} if mode_told else {})),
                    b"M %o inline %s\ndata %d\n%s\n" % (mode, self.quoted(path), len(data), data))

        yield put("CREATE", b"new/d\xe9p/x y", FILE, content)
        yield put("CREATE", b"new/run", PROGRAM, b"#!/bin/sh\n")
        yield put("CREATE", b"new/link", LINK, b"../to")
        if len(paths) > 6:
            yield put("UPDATE", paths[0], files[paths[0]], b"other\n", False)
            yield put("PUT", paths[1], PROGRAM, b"put\n")
            yield ({"kind": "FILE_MOVE", "from_path": field(paths[2]), "path": field(b"moved-" + paths[2].replace(b"/", b"-"))},
                   b"R %s %s\n" % (self.quoted(paths[2]), self.quoted(b"moved-" + paths[2].replace(b"/", b"-"))))
            yield {"kind": "FILE_DELETE", "path": field(paths[3])}, b"D %s\n" % self.quoted(paths[3])
            if files[paths[4]] != LINK:
                yield ({"kind": "FILE_CHMOD", "path": field(paths[4]), "mode": PROGRAM},
                       b"M 100755 %s %s\n" % (oids[paths[4]].encode(), self.quoted(paths[4])))
            yield ({"kind": "FILE_PUT", "path": field(b"copy"), "oid": oids[paths[5]]},
                   b"M 100644 %s copy\n" % oids[paths[5]].encode())
        yield {"kind": "FILE_SUBMODULE", "path": "sub/new", "oid": "ab" * 20}, b"M 160000 %s sub/new\n" % (b"ab" * 20)
        untouched = [folder for folder in folders if not any(path.startswith(folder + b"/") for path in paths[:5])]
        if untouched:
            yield {"kind": "FILE_DELETE_FOLDER", "path": field(untouched[0])}, b"D %s\n" % self.quoted(untouched[0])

    def imported(self, name, start, message, who, lines):
        """The commit that fast-import makes."""
        ident = "%(name)s <%(email)s> %(seconds)d %(zone)s" % who
        folder = self.tree(name)
        git(folder, "fast-import", "--quiet", "--date-format=raw", "--force", input=b"commit refs/import\nauthor %s\ncommitter %s\ndata %d\n%s\n"
            b"from %s\n%s\n" % (ident.encode(), ("%(name)s <%(email)s> %(seconds)d %(zone)s" % WHO).encode(), len(message), message,
                                start.encode(), b"".join(lines)))
        return git(folder, "rev-parse", "refs/import").decode().strip()

    @each
    def test_commits(self, name):
        for number, start in enumerate(self.dice.sample(self.lines(name, "rev-list", "main"), 5 if name == "odd" else 3)):
            steps = list(self.steps(name, start))
            message = (b"Gr\xfc\xdfe\n\n\nbody \n", b"one\n", "\u00dcber\n".encode(), b"  indented\n\n", b"x\n")[number]
            expected = self.imported(name, start, message, OTHER, [line for _, line in steps])
            actions = [action for action, _ in steps]
            dry = self.api(name, "Change/CommitFiles", message=field(message), actions=actions,
                           write=self.write(start=start, author=OTHER))
            self.same(name, "Change/CommitFiles", [dry["outcome"], dry["new_oid"]], ["CHANGE_DRY_RUN", expected])
            done = self.api(name, "Change/CommitFiles", message=field(message), actions=actions, write=self.write(
                "made%d" % number, start=start, author=OTHER, dry_run=False, expected_new_oid=expected))
            replica = self.server.replica(name)
            self.same(name, "Change/CommitFiles", [done["outcome"], git(replica, "cat-file", "commit", "made%d" % number)],
                      ["CHANGE_DONE", git(self.tree(name), "cat-file", "commit", expected)])
            data = b""
            for action in actions:
                if "content" in action:
                    content = raw(action.pop("content"))
                    action["stream_bytes"], data = len(content), data + content
            request = {"repository": {"path": name}, "message": field(message), "actions": actions,
                       "write": self.write("streamed%d" % number, start=start, author=OTHER, dry_run=False)}
            self.called.add((name, "Change/CommitStream"))
            reply = json.loads(self.server.cli("call", "Change/CommitStream", json.dumps(request), input=data, text=False).stdout)
            self.same(name, "Change/CommitStream", reply["new_oid"], expected)
        Git()("fsck", "--connectivity-only", "--no-dangling", cwd=self.server.replica(name))


@unittest.skipIf(SEEDS, "the same whatever the seeds")
class RefsAndTags(WriteCase):
    """The same commands by stock git in a mirror beside it: afterwards all refs are the same."""
    histories = ("odd", "rich1", "rich2", "plain")

    def refs(self, folder):
        return Git().refs(folder)

    @each
    def test_branches_and_tags(self, name):
        mirror, replica = os.path.join(self.scratch(), "mirror.git"), self.server.replica(name)
        git(None, "clone", "-q", "--mirror", replica, mirror)
        commits = self.dice.sample(self.lines(name, "rev-list", "main"), 3)
        tree = self.lines(name, "rev-parse", "main^{tree}")[0]

        def step(method, command, env=None, **fields):
            reply = self.api(name, method, **fields)
            Git()(*command, cwd=mirror, env=env)
            self.same(name, method, self.refs(replica), self.refs(mirror))
            return reply

        step("Change/CreateBranch", ["branch", "new/one", commits[0]], branch="new/one", revision=commits[0])
        step("Change/CreateBranch", ["branch", "n\u00e4me", commits[1] + "~0"], branch="n\u00e4me", revision=commits[1] + "~0")
        step("Change/UpdateBranch", ["branch", "-f", "new/one", "main"], branch="new/one", revision="main", force=True)
        step("Change/UpdateBranch", ["branch", "-f", "n\u00e4me", commits[2]], branch="n\u00e4me", revision=commits[2], force=True)
        step("Change/DeleteBranch", ["branch", "-q", "-D", "new/one"], branch="new/one")
        step("Change/CreateTag", ["tag", "new-light", commits[0]], tag="new-light", revision=commits[0])
        for tag, revision, message in (("new-1.0", commits[0], "One\n\nWith more.\n"), ("new-\u00fc", commits[1], "Gr\u00fc\u00dfe\n"),
                                       ("of-it", "refs/tags/new-1.0", "Of a tag\n"), ("of-tree", tree, "Of a tree\n"),
                                       ("of-blob", self.lines(name, "rev-parse", "main:" + self.file(name))[0], "Of a blob\n")):
            step("Change/CreateTag", ["tag", "-a", "-m", message, tag, revision], env=person(OTHER, "COMMITTER"),
                 tag=tag, revision=revision, message=message, tagger=OTHER)
        step("Change/CreateTag", ["tag", "-f", "-a", "-m", "Again\n", "new-1.0", commits[2]], env=person(OTHER, "COMMITTER"),
             tag="new-1.0", revision=commits[2], message="Again\n", tagger=OTHER, force=True)
        step("Change/DeleteTag", ["tag", "-d", "of-tree"], tag="of-tree")
        step("Ref/SetDefaultBranch", ["symbolic-ref", "HEAD", "refs/heads/n\u00e4me"], branch="n\u00e4me")
        step("Ref/SetDefaultBranch", ["symbolic-ref", "HEAD", "refs/heads/main"], branch="main")
        updates = [{"name": "refs/tags/new-light", "old_oid": commits[0], "new_oid": ZERO},
                   {"name": "refs/heads/n\u00e4me", "old_oid": commits[2], "new_oid": commits[1]},
                   {"name": "refs/keep/1", "old_oid": ZERO, "new_oid": commits[0]}, {"name": "refs/tags/of-it", "new_oid": tree}]
        self.api(name, "Ref/Update", updates=updates)
        Git()("update-ref", "--stdin", cwd=mirror, input="".join("update %s\n" % " ".join(
            one[key] for key in ("name", "new_oid", "old_oid") if key in one) for one in updates).encode())
        self.same(name, "Ref/Update", self.refs(replica), self.refs(mirror))
        gone = ["refs/heads/n\u00e4me", "refs/tags/new-1.0"]
        self.api(name, "Ref/Delete", names=gone)
        Git()("update-ref", "--stdin", cwd=mirror, input="".join("delete %s\n" % one for one in gone).encode())
        self.same(name, "Ref/Delete", self.refs(replica), self.refs(mirror))
        # One of them does not hold: none is made, here as there.
        updates = [{"name": "refs/heads/other", "new_oid": commits[0]}, {"name": "refs/keep/1", "old_oid": commits[1], "new_oid": commits[2]}]
        self.assertNotEqual(self.post(name, "Ref/Update", {"updates": updates})[0], 200)
        Git().fails("update-ref", "--stdin", cwd=mirror, input="".join("update %s\n" % " ".join(
            one[key] for key in ("name", "new_oid", "old_oid") if key in one) for one in updates).encode())
        self.same(name, "Ref/Update", self.refs(replica), self.refs(mirror))

    def file(self, name):
        return next(path for path in self.lines(name, "ls-tree", "-r", "--name-only", "main") if '"' not in path and path != "vendor/sub")


if __name__ == "__main__":
    gitstead_test.main()
