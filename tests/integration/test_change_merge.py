# SPDX-License-Identifier: Apache-2.0
"""ChangeService: merges, picks, rebases and mailed patches are what stock git makes of the same, id by id; bad input gets a clear
error; nothing is left behind by what fails or only looks."""
import base64
import os
import random

import gitstead_test
from change_case import ChangeTestCase, OTHER, WHO, action, raw


class Merges(ChangeTestCase):
    """On histories that stock git made: renames, mode changes, binary files, odd names, folders that move."""

    def grow(self, seed, steps=12, files=40):
        """A repository with branches main, one, two, three that have one root and edit at random."""
        chance = random.Random(seed)
        work = os.path.join(self.work, "grow%d" % seed)
        self.git("init", "-q", "-b", "main", work)
        root = os.fsencode(work)
        clock = [1500000000]

        def save(message):
            clock[0] += 60
            self.git("add", "-A", cwd=work)
            who = dict(WHO, seconds=clock[0])
            self.git("commit", "-q", "--allow-empty", "-m", message, cwd=work, env=self.env(who))

        def path(name):
            full = os.path.join(root, name)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            return full

        def text(lines):
            return b"".join(b"line %d of %d\n" % (n, lines) for n in range(lines))

        names = [b"dir%d/%s%d" % (n % 5, b"f\xe9" if n % 7 == 0 else b"file", n) for n in range(files)]
        for n, name in enumerate(names):
            with open(path(name), "wb") as out:
                out.write(text(20 + n) if n % 9 else chance.randbytes(300))
        save("Root")
        root_commit = self.git("rev-parse", "HEAD", cwd=work)
        for branch in ("one", "two", "three", "main"):
            self.git("checkout", "-q", *(["-b", branch, root_commit] if branch != "main" else ["main"]), cwd=work)
            for step in range(steps):
                present = [os.path.join(where, name) for where, _, found in os.walk(root)
                           for name in found if b"/.git" not in where]
                present.sort()
                one = chance.choice(present)
                what = chance.random()
                if what < 0.55:
                    with open(one, "rb") as file:
                        lines = file.read().split(b"\n")
                    at = chance.randrange(len(lines))
                    lines[at:at + 1] = [b"changed on %s at %d" % (branch.encode(), step)]
                    with open(one, "wb") as out:
                        out.write(b"\n".join(lines))
                elif what < 0.7:
                    target = path(b"moved%d/%s%d" % (chance.randrange(3), branch.encode(), step))
                    os.rename(one, target)
                elif what < 0.8:
                    os.remove(one)
                elif what < 0.9:
                    os.chmod(one, 0o755)
                else:
                    with open(path(b"new/%s-%d" % (branch.encode(), step)), "wb") as out:
                        out.write(text(5 + step))
                save("%s: step %d\n\nSome words on it." % (branch, step))
        self.git("checkout", "-q", "--detach", cwd=work)
        return work

    def stages(self, work):
        """What the index holds unmerged: (path, stage) -> (mode, id)."""
        found = {}
        for row in self.git.run("ls-files", "-u", "-z", cwd=work).stdout.split(b"\0"):
            if row:
                (mode, oid, stage), path = row[:row.index(b"\t")].split(), row[row.index(b"\t") + 1:]
                found[(path, int(stage))] = (int(mode, 8), oid.decode())
        return found

    def told(self, reply):
        found = {}
        for conflict in reply["conflicts"]:
            path = conflict["path"]
            path = path.encode() if isinstance(path, str) else base64.b64decode(path["base64"])
            for number, side in enumerate(("ancestor", "ours", "theirs"), 1):
                if conflict[side].get("mode"):
                    found[(path, number)] = (conflict[side]["mode"], conflict[side]["oid"])
        return found

    def start(self, work, commit):
        self.git("reset", "-q", "--hard", cwd=work)
        self.git("clean", "-qfdx", cwd=work)
        self.git("checkout", "-q", "--detach", commit, cwd=work)

    def compare(self, reply, result, work):
        """The call's answer is what stock git's command came to."""
        if reply["outcome"] == "CHANGE_CONFLICT":
            self.assertNotEqual(result.returncode, 0, result.stdout)
            self.assertEqual(self.told(reply), self.stages(work))
            self.assertTrue(reply["messages"])
            return "conflict"
        self.assertEqual(result.returncode, 0, "%s\n%s%s" % (reply, result.stdout, result.stderr))
        self.assertEqual(reply["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        return "clean"

    def test_merges_as_git_makes_them(self):
        seen = {"clean": 0, "conflict": 0}
        for seed in range(4):
            work = self.grow(seed, steps=4 + 3 * (seed % 3))
            self.push(work, "+refs/heads/*:refs/heads/*")
            main = self.git("rev-parse", "main", cwd=work)
            for source in ("one", "two", "three"):
                before = self.server.files()
                dry = self.call("Merge", write=self.write(dry_run=True), source=source, message="Merge " + source)
                self.server.assert_settled(before)
                self.start(work, main)
                result = self.git.run("merge", "-q", "--no-ff", "-m", "Merge " + source, source, cwd=work, env=self.env())
                kind = self.compare(dry, result, work)
                seen[kind] += 1
                if kind == "conflict":
                    # The same without dry_run: an answer, and nothing is written.
                    reply = self.call("Merge", write=self.write(), source=source, message="m")
                    self.assertEqual(reply["outcome"], "CHANGE_CONFLICT")
                    self.server.assert_settled(before)
                    continue
                done = self.call("Merge", source=source, message="Merge " + source,
                                 write=self.write(expected_old_oid=dry["old_oid"], expected_new_oid=dry["new_oid"]))
                self.assertEqual((done["outcome"], done["new_oid"]), ("CHANGE_DONE", dry["new_oid"]))
                main = done["new_oid"]
                again = self.call("Merge", write=self.write(), source=source, message="m")
                self.assertEqual(again["outcome"], "CHANGE_UNCHANGED")
                # Both ways: criss-cross histories have several bases.
                back = self.call("Merge", write=self.write(source), source="refs/heads/main", message="Back")
                self.assertEqual(back["outcome"], "CHANGE_DONE")
                self.start(work, source)
                self.git("merge", "-q", "--no-ff", "-m", "Back", main, cwd=work, env=self.env())
                self.assertEqual(back["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
                self.git("branch", "-f", source, "HEAD", cwd=work)
        self.assertGreater(seen["clean"], 3, seen)
        self.assertGreater(seen["conflict"], 2, seen)
        self.settled()

    def test_styles(self):
        first = self.commit(action("CREATE", "a", content=b"1\n"), action("CREATE", "b", content=b"1\n"))["new_oid"]
        side = self.commit(action("UPDATE", "b", content=b"2\n"), branch="side", start="main")["new_oid"]
        forward = self.call("Merge", write={"branch": "main", "dry_run": True}, source="side",
                            style="MERGE_FAST_FORWARD_ONLY")
        self.assertEqual(forward["new_oid"], side)
        work = self.clone()
        merged = self.call("Merge", write=self.write(dry_run=True), source="side", message="Merge")
        self.git("merge", "-q", "--no-ff", "-m", "Merge", "origin/side", cwd=work, env=self.env())
        self.assertEqual(merged["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        self.commit(action("UPDATE", "a", content=b"3\n"))
        self.refused("Merge", "FAILED_PRECONDITION", "moved forward", write={"branch": "main"}, source="side",
                     style="MERGE_FAST_FORWARD_ONLY")
        squash = self.call("Merge", write=self.write(author=OTHER), source="side", message="All of side", style="MERGE_SQUASH")
        self.git("fetch", "-q", cwd=work)
        self.git("reset", "-q", "--hard", squash["old_oid"], cwd=work)
        self.git("merge", "-q", "--squash", "origin/side", cwd=work)
        self.git("commit", "-q", "-m", "All of side", cwd=work, env=self.env(OTHER, WHO))
        self.assertEqual(squash["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        # The result of a merge that may come, for a test run: written to another ref, the branch stays.
        main = self.tip()
        trial = self.call("Merge", write=self.write("refs/trial/7", start="side", force=True), source="main", message="Trial")
        self.assertEqual(self.tip("refs/trial/7"), trial["new_oid"])
        self.assertEqual(self.tip(), main)
        # Histories with nothing in common.
        self.commit(action("CREATE", "other"), branch="other", orphan=True)
        self.refused("Merge", "FAILED_PRECONDITION", "nothing in common", write=self.write(), source="other", message="m")
        both = self.call("Merge", write=self.write(), source="other", message="Both", allow_unrelated=True)
        self.assertEqual(both["outcome"], "CHANGE_DONE")
        self.assertEqual(first, self.git("rev-list", "--max-parents=0", "side", cwd=self.folder))
        self.settled()

    def test_moves_do_not_add_up(self):
        """Each move may put a folder below hundreds of others: together they must not make a tree that nothing can walk."""
        actions, name = [action("CREATE", "x0/f", content=b"1")], "x0"
        for n in range(1, 200):
            top = "x%d" % n
            below = "/".join([top] + ["d"] * 250 + ["m"])
            actions.append(action("MOVE", below, from_path=name))
            name = top
        self.refused("CommitFiles", "OUT_OF_RANGE", "too deep", write=self.write(), message="m", actions=actions)
        self.assertEqual(self.server.call("Server/Ping", {"echo": "still"})["echo"], "still")

    def test_bad_merges(self):
        self.commit(action("CREATE", "a"))
        cases = [
            ("NOT_FOUND", "source", {"write": self.write(), "source": "absent", "message": "m"}),
            ("INVALID_ARGUMENT", "source", {"write": self.write(), "source": "", "message": "m"}),
            ("INVALID_ARGUMENT", "source", {"write": self.write(), "source": "main@{1}", "message": "m"}),
            ("INVALID_ARGUMENT", "write.committer", {"write": {"branch": "main"}, "source": "main", "message": "m"}),
            ("INVALID_ARGUMENT", "style", {"write": self.write(), "source": "main", "message": "m", "style": 9}),
            ("NOT_FOUND", "refs/heads/none", {"write": self.write("none"), "source": "main", "message": "m"}),
            ("INVALID_ARGUMENT", "commits", {"write": self.write()}),
        ]
        for code, word, request in cases:
            with self.subTest(word=word, request=request):
                self.refused("CherryPick" if word == "commits" else "Merge", code, word, **request)
        self.settled()

    def test_picks_and_reverts_as_git_makes_them(self):
        seen = {"clean": 0, "conflict": 0}
        for seed in (11, 12):
            work = self.grow(seed, steps=6)
            self.push(work, "+refs/heads/*:refs/heads/*")
            for branch in ("one", "two"):
                for commit in self.git("rev-list", "--reverse", branch, "^main", cwd=work).split()[:5]:
                    self.start(work, "main")
                    reply = self.call("CherryPick", write=self.write(dry_run=True), commits=[commit])
                    result = self.git.run("cherry-pick", "--keep-redundant-commits", commit, cwd=work, env=self.committer())
                    if reply["outcome"] == "CHANGE_UNCHANGED":
                        self.assertEqual(self.git("rev-parse", "HEAD^{tree}", cwd=work),
                                         self.git("rev-parse", "main^{tree}", cwd=work))
                        continue
                    seen[self.compare(reply, result, work)] += 1
                for commit in self.git("rev-list", branch, "^main", cwd=work).split()[:5]:
                    self.start(work, branch)
                    reply = self.call("Revert", write=self.write(branch, dry_run=True), commits=[commit])
                    result = self.git.run("revert", "--no-edit", commit, cwd=work, env=self.env())
                    if reply["outcome"] == "CHANGE_CONFLICT":
                        self.assertEqual(reply["conflict_oid"], commit)
                    seen[self.compare(reply, result, work)] += 1
            # Several at once are what git makes of them one after another.
            commits = self.git("rev-list", "--reverse", "three", "^main", cwd=work).split()
            reply = self.call("CherryPick", write=self.write("picked%d" % seed, start="one"), commits=commits)
            self.start(work, "one")
            result = self.git.run("cherry-pick", *commits, cwd=work, env=self.committer())
            if reply["outcome"] == "CHANGE_DONE" and result.returncode == 0:
                self.assertEqual(reply["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
                self.assertEqual(len(reply["commits"]), len(commits))
        self.assertGreater(seen["clean"], 10, seen)
        self.settled()

    def committer(self, who=WHO):
        return {name: value for name, value in self.env(who).items() if "COMMITTER" in name}

    def test_merges_are_picked_from_a_side(self):
        work = self.grow(3, steps=3)
        self.start(work, "one")
        self.git("merge", "-q", "--no-ff", "-X", "ours", "-m", "M", "two", cwd=work, env=self.env())
        merge = self.git("rev-parse", "HEAD", cwd=work)
        self.git("branch", "-f", "merged", cwd=work)
        self.push(work, "+refs/heads/*:refs/heads/*")
        self.refused("Revert", "INVALID_ARGUMENT", "mainline", write=self.write("merged"), commits=[merge])
        self.refused("Revert", "INVALID_ARGUMENT", "mainline", write=self.write("merged"), commits=[merge], mainline=3)
        self.refused("Revert", "INVALID_ARGUMENT", "mainline", write=self.write("merged"), commits=["one"], mainline=1)
        reply = self.call("Revert", write=self.write("merged"), commits=[merge], mainline=1)
        self.git("revert", "--no-edit", "-m", "1", merge, cwd=work, env=self.env())
        self.assertEqual(reply["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
        self.start(work, "one")
        reply = self.call("CherryPick", write=self.write("one", dry_run=True), commits=[merge], mainline=1, message="Else")
        self.git("cherry-pick", "-m", "1", merge, cwd=work, env=self.committer())
        self.assertEqual(reply["tree"], self.git("rev-parse", "HEAD^{tree}", cwd=work))
        self.settled()

    def test_mailed_patches_as_git_am_takes_them(self):
        work = self.grow(31, steps=6)
        self.push(work, "+refs/heads/*:refs/heads/*")
        root = self.git("merge-base", "one", "main", cwd=work)
        seen = {"clean": 0, "conflict": 0}
        for source, onto, three_way in (("one", root, False), ("two", root, True), ("one", "main", True),
                                        ("three", "main", True), ("two", "three", True)):
            patch = self.git.run("format-patch", "--stdout", "--binary", "--full-index", root + ".." + source, cwd=work).stdout
            reply = self.call("ApplyPatch", write=self.write("am", start=onto, dry_run=True), patch=raw(patch),
                              three_way=three_way)
            self.start(work, onto)
            result = self.git.run("am", "-q", *(["-3"] if three_way else []), cwd=work, env=self.committer(), input=patch)
            if result.returncode != 0:
                self.assertEqual(reply["outcome"], "CHANGE_CONFLICT", result.stderr)
                self.assertIn("does not apply", reply["messages"][0])
                self.git("am", "--abort", cwd=work)
                seen["conflict"] += 1
            else:
                self.assertEqual(reply["outcome"], "CHANGE_DRY_RUN", reply)
                self.assertEqual(reply["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
                seen["clean"] += 1
        self.assertGreater(seen["clean"], 1, seen)
        done = self.call("ApplyPatch", write=self.write("am", start=root), patch=raw(
            self.git.run("format-patch", "--stdout", "--binary", root + "..one", cwd=work).stdout))
        self.assertEqual(done["tree"], self.git("rev-parse", "one^{tree}", cwd=work))
        self.settled()

    def test_patches_that_are_none(self):
        self.commit(action("CREATE", "a", content=b"1\n"))
        mail = ("From 1111111111111111111111111111111111111111 Mon Sep 17 00:00:00 2001\nFrom: %s\nDate: %s\n"
                "Subject: [PATCH] %s\n\nWords\n---\n%s-- \n2.39\n")
        date = "Thu, 7 Apr 2005 15:14:13 -0700"
        diff = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n"
        good = mail % ("Al <al@example.org>", date, "Two", diff)
        cases = [
            ("patch", ""), ("mail", "nothing at all"), ("who it is from", good.replace("From: Al <al@example.org>\n", "")),
            ("date", good.replace(date, "yesterday")), ("date", good.replace("Apr", "Foo")),
            ("date", good.replace("-0700", "-9900")), ("date", good.replace("7 Apr 2005", "31 Feb 2005")),
            ("subject", good.replace("Subject: [PATCH] Two\n", "")), ("patch", mail % ("A <a@b>", date, "x", "")),
            ("patch", good.replace("@@ -1 +1 @@", "@@ -1,5 +1,7 @@")),
        ]
        for word, patch in cases:
            with self.subTest(word=word, patch=patch):
                self.refused("ApplyPatch", "INVALID_ARGUMENT", word, write=self.write(), patch=patch)
        for path in (".git/config", "../up", "/abs"):
            code, reply = self.attempt("ApplyPatch", {"write": self.write(), "patch": good.replace("a/a", "a/" + path).replace(
                "b/a", "b/" + path).replace("--- a/" + path, "--- /dev/null").replace("@@ -1 +1 @@\n-1\n", "@@ -0,0 +1 @@\n")
                .replace("--- /dev", "new file mode 100644\n--- /dev")})
            self.assertTrue(code != "OK" or reply["outcome"] == "CHANGE_CONFLICT", (path, reply))
        misfit = self.call("ApplyPatch", write=self.write(), patch=good.replace("-1\n", "-other\n"))
        self.assertEqual(misfit["outcome"], "CHANGE_CONFLICT")
        done = self.call("ApplyPatch", write=self.write(), patch=good)
        self.assertEqual(self.git("log", "-1", "--format=%an %ae %ad %cn %B", "--date=raw", cwd=self.folder).strip(),
                         "Al al@example.org 1112912053 -0700 Ann Author Two\n\nWords")
        self.assertEqual(done["outcome"], "CHANGE_DONE")
        self.settled()

    def test_rebase_as_git_does_it(self):
        done = 0
        for seed in (21, 22):
            work = self.grow(seed, steps=4, files=60)
            # A merge in the branch, and a commit that upstream has too.
            self.start(work, "three")
            copied = self.git("rev-list", "--reverse", "three", "^main", cwd=work).split()[0]
            self.git("checkout", "-q", "main", cwd=work)
            self.git.run("cherry-pick", copied, cwd=work, env=self.committer(OTHER))
            self.git.run("cherry-pick", "--abort", cwd=work)
            self.git("checkout", "-q", "three", cwd=work)
            self.git("commit", "-q", "--allow-empty", "-m", "Empty from the start", cwd=work, env=self.env(OTHER))
            self.git("checkout", "-q", "--detach", cwd=work)
            self.push(work, "+refs/heads/*:refs/heads/*")
            for branch, onto in (("three", "main"), ("two", "one"), ("one", "main")):
                reply = self.call("Rebase", write=self.write(branch, dry_run=True), onto=onto)
                self.start(work, branch)
                result = self.git.run("rebase", "-q", onto, cwd=work, env=self.committer())
                if reply["outcome"] == "CHANGE_CONFLICT":
                    self.assertNotEqual(result.returncode, 0)
                    self.assertEqual(reply["conflict_oid"], self.git("rev-parse", "REBASE_HEAD", cwd=work))
                    self.assertEqual(self.told(reply), self.stages(work))
                    self.git("rebase", "--abort", cwd=work)
                    continue
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(reply["new_oid"], self.git("rev-parse", "HEAD", cwd=work))
                self.assertEqual(self.call("Rebase", write=self.write(branch, expected_new_oid=reply["new_oid"]),
                                           onto=onto)["outcome"], "CHANGE_DONE")
                again = self.call("Rebase", write=self.write(branch), onto=onto)
                self.assertEqual(again["outcome"], "CHANGE_UNCHANGED")
                done += 1
        self.assertGreater(done, 2)
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
