# SPDX-License-Identifier: Apache-2.0
"""Each reading call on histories that hold what real ones hold, beside stock git's own answer: see compared.py."""
import hashlib
import io
import os
import random
import re
import tarfile
import zipfile

import compared
import gitstead_test
from compared import ComparedCase, each, folder_of, git
from gitstead_test import Git
from test_api_objects import HEADER, STATUS
from test_api_read import EMPTY_TREE, field, parse_commit, raw

KINDS = {b"A": "ADDED", b"D": "DELETED", b"M": "MODIFIED", b"R": "RENAMED", b"C": "COPIED", b"T": "TYPE_CHANGED"}


def load_tests(loader, tests, pattern):
    return compared.last(loader, tests, pattern)


class ReadCase(ComparedCase):
    def setUp(self):
        super().setUp()
        self.dice = random.Random(self.id())

    def some(self, name, count):
        commits = self.commits(name)
        return self.dice.sample(commits, min(count, len(commits)))

    def rows(self, name, revision, *arguments):
        """ls-tree's: (mode, type, id, path)."""
        found = []
        for row in self.stock(name, "ls-tree", "-z", "--full-tree", *arguments, revision).split(b"\0")[:-1]:
            meta, _, path = row.partition(b"\t")
            mode, kind, oid = meta.split()
            found.append((int(mode, 8), kind.decode().upper(), oid.decode(), path))
        return found

    def parents(self, name, oid):
        return self.lines(name, "rev-list", "--parents", "-1", oid)[0].split()[1:]


class Commits(ReadCase):
    @each
    def test_get(self, name):
        oids = self.some(name, 25)
        ours, theirs = [], []
        for oid, entry in zip(oids, self.api(name, "Commit/Get", revisions=oids)["entries"]):
            one, expected = entry["commit"], parse_commit(folder_of(name), oid)
            people = [tuple(raw(one[role][part]) if part != "seconds" else one[role][part]
                            for part in ("name", "email", "seconds", "zone")) for role in ("author", "committer")]
            ours.append([one["oid"], one["tree"], one["parents"], *people, raw(one["message"]), raw(one["encoding"]), one["signed"]])
            theirs.append([oid, *(expected[part] for part in ("tree", "parents", "author", "committer", "message", "encoding",
                                                              "signed"))])
        self.same(name, "Commit/Get", ours, theirs)

    @each
    def test_stats(self, name):
        for oid in self.some(name, 8):
            left = (self.parents(name, oid) or [EMPTY_TREE])[0]
            counts = [row.split(b"\t") for row in self.stock(
                name, "diff-tree", "-r", "-z", "--numstat", "--no-renames", left, oid).split(b"\0")[:-1]]
            reply = self.api(name, "Commit/Stats", revision=oid)
            self.same(name, "Commit/Stats", [reply["oid"], reply["files"], reply["additions"], reply["deletions"]], [
                oid, len(counts), sum(int(c[0]) for c in counts if c[0] != b"-"), sum(int(c[1]) for c in counts if c[1] != b"-")])

    def shown(self, name, what, oid):
        """(signature, payload) that stock git shows to whoever checks signatures; None when there is none to be shown."""
        scratch = self.scratch()
        program = os.path.join(scratch, "program")
        with open(program, "w") as out:
            out.write("#!/bin/sh\nfor one; do [ -f \"$one\" ] && cp \"$one\" %s/signature; done\n"
                      "case \" $* \" in *' find-principals '*) exit 1;; esac\ncat > %s/payload\nexit 1\n" % (scratch, scratch))
        os.chmod(program, 0o755)
        with open(os.path.join(scratch, "allowed"), "w"):
            pass
        settings = ["-c", "gpg.program=" + program, "-c", "gpg.x509.program=" + program, "-c", "gpg.ssh.program=" + program,
                    "-c", "gpg.ssh.allowedSignersFile=" + os.path.join(scratch, "none")]
        Git().run(*settings, "verify-" + what, oid, cwd=folder_of(name))
        found = []
        for part in ("signature", "payload"):
            path = os.path.join(scratch, part)
            if not os.path.exists(path):
                return None
            with open(path, "rb") as file:
                found.append(file.read())
        return found

    @each
    def test_signatures(self, name):
        commits = [oid for oid in self.commits(name) if b"\ngpgsig " in self.objects(name).read(oid)[2]]
        commits += [oid for oid in self.some(name, 3) if oid not in commits]
        replies = self.api(name, "Commit/Signatures", revisions=commits)["signatures"]
        for oid, reply in zip(commits, replies):
            if reply["kind"] == "SIGNATURE_NONE":
                self.same(name, "Commit/Signatures", None, self.shown(name, "commit", oid))
            else:
                self.same(name, "Commit/Signatures", [raw(reply["signature"]), raw(reply["payload"])],
                          self.shown(name, "commit", oid), oid)


class Trees(ReadCase):
    histories = ComparedCase.histories

    def entries(self, name, **fields):
        found, _ = self.pages(name, "Commit/TreeEntries", "entries", **fields)
        return [(e["mode"], e["type"], e["oid"], raw(e["path"])) for e in found]

    @each
    def test_directories(self, name):
        for revision in ["main"] + self.some(name, 2):
            for limit in (None, 7):
                top = self.rows(name, revision)
                self.same(name, "Commit/TreeEntries", self.entries(name, revision=revision, limit=limit), top)
                found, _ = self.pages(name, "Object/ListTree", "entries", limit, revision=revision + "^{tree}")
                self.same(name, "Object/ListTree", [(e["mode"], e["type"], e["oid"], raw(e["name"])) for e in found], top)
            whole = self.rows(name, revision, "-r", "-t")
            self.same(name, "Commit/TreeEntries", self.entries(name, revision=revision, recursive=True), whole)
            files = [row[3] for row in whole if row[1] != "TREE"]
            found, _ = self.pages(name, "Commit/FileList", "paths", revision=revision)
            self.same(name, "Commit/FileList", [raw(path) for path in found], files)
            for path in [row[3] for row in whole if row[1] == "TREE"][:3]:
                below = [row[:3] + (path + b"/" + row[3],) for row in self.rows(name, revision.encode() + b":" + path)]
                self.same(name, "Commit/TreeEntries", self.entries(name, revision=revision, path=field(path)), below)
                found = self.api(name, "Commit/FileList", revision=revision, path=field(path), page={"limit": 1000})["paths"]
                self.same(name, "Commit/FileList", [raw(one) for one in found],
                          [one for one in files if one.startswith(path + b"/")][:1000])

    @each
    def test_names(self, name):
        for text in ("a", "1", "file", "READ"):
            expected = self.lines(name, "-c", "core.quotePath=false", "ls-tree", "-r", "-z", "--name-only", "main")
            expected = [one for one in "\n".join(expected).split("\0") if text in one]
            found, _ = self.pages(name, "Repository/SearchNames", "paths", 300, revision="main", text=text)
            self.same(name, "Repository/SearchNames", [raw(one).decode(errors="surrogateescape") for one in found], expected)


class Files(ReadCase):
    def files(self, name, revision):
        return [row for row in self.rows(name, revision, "-r") if b"\n" not in row[3]]

    @each
    def test_each_way_to_read_one(self, name):
        for revision in ["main"] + self.some(name, 2):
            files = self.files(name, revision)
            for mode, kind, oid, path in self.dice.sample(files, min(12, len(files))):
                asked = field(revision.encode() + b":" + path)
                resolved = self.api(name, "Object/Resolve", revision=asked)["object"]
                if kind == "COMMIT":  # a submodule's, in another repository
                    blob = self.api(name, "Blob/Get", revision=asked)["blob"]
                    self.same(name, "Blob/Get", [blob["type"], blob["oid"], blob["mode"]], [kind, oid, mode])
                    continue
                found, git_kind, data = self.objects(name).read(revision.encode() + b":" + path)
                self.same(name, "Object/Resolve", [resolved["oid"], resolved["type"].lower(), resolved["size"], resolved["mode"]],
                          [found, git_kind, len(data), mode])
                blob = self.api(name, "Blob/Get", revision=asked)["blob"]
                self.same(name, "Blob/Get", [blob["oid"], blob["size"], blob["mode"], raw(blob["data"])],
                          [found, len(data), mode, data[:524288]])
                middle = len(data) // 3
                part = self.api(name, "Blob/Get", revision=asked, offset=middle, limit=50)["blob"]
                self.same(name, "Blob/Get", raw(part["data"]), data[middle:middle + 50])
                if len(data) <= 524288:
                    read = self.api(name, "Object/Read", revision=asked)
                    self.same(name, "Object/Read", [read["object"]["oid"], raw(read["data"])], [found, data])

    @each
    def test_other_objects(self, name):
        """Commits, trees and tags as they are, by every way to name them."""
        tags = self.lines(name, "for-each-ref", "--format=%(refname)", "refs/tags")
        asked = ["HEAD", "main", "main~1", "main~2^{tree}", "main^{}"] + self.some(name, 3) + self.dice.sample(tags, min(4, len(tags)))
        asked += [oid[:12] for oid in self.some(name, 3)] + [tag + "^{}" for tag in tags[:3]]
        for revision in asked:
            found, kind, data = self.objects(name).read(revision.replace("HEAD", "main"))
            exist, = self.api(name, "Object/Exist", revisions=[revision])["objects"]
            self.same(name, "Object/Exist", [exist["oid"], exist["type"].lower(), exist["size"]], [found, kind, len(data)])
            self.same(name, "Object/Read", raw(self.api(name, "Object/Read", revision=found)["data"]), data, revision)
        for revision in (asked[0], "main:" + self.lines(name, "ls-tree", "--name-only", "main")[-1]):
            self.same(name, "Object/Stream", self.stream(name, "Object/Stream", revision=revision),
                      self.objects(name).read(revision.replace("HEAD", "main"))[2])

    @each
    def test_many_at_once(self, name):
        asked, expected = [], []
        for revision in self.some(name, 5):
            for mode, kind, oid, path in self.files(name, revision)[:15]:
                asked.append(field(revision.encode() + b":" + path))
                data = b"" if kind == "COMMIT" else self.objects(name).read(oid)[2]
                expected.append((oid, mode, len(data), data[:300]))
        found = []
        while len(found) < len(asked):
            found += self.api(name, "Blob/GetMany", revisions=asked[len(found):], limit=300)["entries"]
        self.same(name, "Blob/GetMany", [(e["blob"]["oid"], e["blob"]["mode"], e["blob"]["size"], raw(e["blob"]["data"]))
                                         for e in found], expected)

    def reached(self, name, *revisions):
        """Blobs in git's order: (id, size)."""
        out = self.stock(name, "rev-list", "--objects", "--no-object-names", *revisions)
        kinds = self.stock(name, "cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize)", input=out).decode().split("\n")
        return [(row.split()[1], int(row.split()[2])) for row in kinds if row.startswith("blob ")]

    @each
    def test_what_is_reached(self, name):
        for include, exclude in ((["main"], []), (["main"], ["main~3"]), (self.some(name, 3), self.some(name, 1))):
            expected = self.reached(name, *include, *["^" + one for one in exclude])
            for limit in (None, 50):
                found, _ = self.pages(name, "Blob/List", "blobs", limit, revisions=include, excluded=exclude)
                self.same(name, "Blob/List", [(b["oid"], b["size"]) for b in found], expected)
            pointers = {}
            for oid, size in expected:
                data = self.objects(name).read(oid)[2] if size < 1024 else b""
                # As git-lfs reads it: one key after the other, and no other lines.
                lines = [line.strip() for line in data.split(b"\n") if line.strip()]
                match = re.fullmatch(rb"version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)", b"\n".join(lines))
                if match:
                    pointers[oid] = (match[1].decode(), int(match[2]))
            found, _ = self.pages(name, "Blob/LfsPointers", "pointers", 3, revisions=include, excluded=exclude)
            self.same(name, "Blob/LfsPointers", {p["oid"]: (p["file_sha256"], p["file_size"]) for p in found}, pointers)
            if expected:
                found = self.api(name, "Blob/FindLfsPointers", revisions=[oid for oid, _ in expected][-1000:])["pointers"]
                self.same(name, "Blob/FindLfsPointers", {p["oid"]: raw(p["data"]) for p in found},
                          {oid: self.objects(name).read(oid)[2] for oid, _ in expected[-1000:] if oid in pointers})

    @each
    def test_sizes(self, name):
        replica = self.server.replica(name)
        for include, exclude in ((["main"], []), (self.some(name, 2), self.some(name, 1))):
            oids = git(replica, "rev-list", "--objects", "--no-object-names", *include, *["^" + one for one in exclude])
            rows = [row.split() for row in git(replica, "cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectsize:disk)",
                                               input=oids).decode().splitlines()]
            reply = self.api(name, "Object/Size", revisions=include, excluded=exclude)
            kinds = ["commit", "tree", "blob", "tag"]
            self.same(name, "Object/Size", [reply["disk_bytes"], reply["bytes"]] + [reply[kind + "s"] for kind in kinds],
                      [sum(int(row[2]) for row in rows), sum(int(row[1]) for row in rows)]
                      + [sum(row[0] == kind for row in rows) for kind in kinds])
        text = git(replica, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)")
        found, _ = self.pages(name, "Object/List", "objects", 400)
        self.same(name, "Object/List", ["%s %s %d" % (o["oid"], o["type"].lower(), o["size"]) for o in found],
                  text.decode().splitlines())


class Diffs(ReadCase):
    def pairs(self, name, count):
        """Left and right: commits beside their parents, and any two; the left one is empty for the first parent."""
        found = [("", oid, (self.parents(name, oid) or [EMPTY_TREE])[0]) for oid in self.some(name, count)]
        for _ in range(count // 3):
            left, right = self.some(name, 2)
            found.append((left, right, left))
        return found

    def files(self, name, left, right, *arguments, tail=()):
        """git diff --raw and --numstat in one: as Parsed has it."""
        parts, numbers = (self.stock(name, "diff", "--full-index", "--no-abbrev", "-M50%", "-z", what, *arguments, left, right,
                                     *tail).split(b"\0")[:-1] for what in ("--raw", "--numstat"))
        counts, found = {}, []
        while numbers:
            added, deleted, path = numbers.pop(0).split(b"\t", 2)
            if not path:
                path = (numbers.pop(0), numbers.pop(0))[1]
            counts[path] = (int(added) if added != b"-" else 0, int(deleted) if deleted != b"-" else 0, added == b"-")
        while parts:
            old_mode, new_mode, old, new, status = parts.pop(0)[1:].split()
            old_path = new_path = parts.pop(0)
            if status[:1] in b"RC":
                new_path = parts.pop(0)
            # Those of which nothing counts have no numbers.
            found.append(("DIFF_" + KINDS[status[:1]], old_path, new_path, int(old_mode, 8), int(new_mode, 8), old.decode(), new.decode(),
                          int(status[1:] or 0)) + counts.get(new_path, (None, None, None)))
        return found

    @staticmethod
    def hunks(patch):
        """The hunks alone. A line of content begins with ' ', '+', '-' or '\\'."""
        kept, inside = [], False
        for line in re.findall(rb"[^\n]*\n", patch):
            if line.startswith(b"diff --git "):
                inside = False
            elif line.startswith(b"@@ "):
                inside = True
            if inside:
                kept.append(line)
        return b"".join(kept)

    OPTIONS = [({}, []), ({"whitespace": "WHITESPACE_IGNORE_ALL"}, ["-w"]), ({"whitespace": "WHITESPACE_IGNORE_AMOUNT"}, ["-b"]),
               ({"no_renames": True}, ["--no-renames"]), ({"rename_similarity": 80}, ["-M80%"]), ({"context": 9}, ["-U9"]),
               ({"no_context": True}, ["-U0"]), ({"paths": ["src", "lib", "file0"]}, ["--literal-pathspecs"])]

    @each
    def test_parsed_raw_and_stats(self, name):
        limits = {"max_files": 100000, "max_lines": 5000000, "max_bytes": 536870912, "max_patch_bytes": 409600}
        for number, (left, right, git_left) in enumerate(self.pairs(name, 10)):
            options, arguments = self.OPTIONS[number % len(self.OPTIONS)]
            tail = ["--"] + options["paths"] if "paths" in options else []
            arguments = [one for one in arguments if one != "--literal-pathspecs"]
            about = "%s %s %s" % (git_left, right, options)
            whole = self.stock(name, "diff", "--full-index", "-M50%", *arguments, git_left, right, *tail)
            self.same(name, "Diff/Raw", self.stream(name, "Diff/Raw", left=left, right=right, options=options), whole, about)
            expected = self.files(name, git_left, right, *[one for one in arguments if not one.startswith("-U")], tail=tail)
            found, _ = self.pages(name, "Diff/Parsed", "files", None, left=left, right=right, options=options, limits=limits)
            self.same(name, "Diff/Parsed", [self.row(f["path"]) + (f["additions"], f["deletions"], f["binary"]) for f in found],
                      [row[:8] + (row[8] or 0, row[9] or 0, bool(row[10]) and row[5] != row[6]) for row in expected], about)
            if not any(f["too_large"] for f in found):
                self.same(name, "Diff/Parsed", b"".join(raw(f["patch"]) for f in found), self.hunks(whole), about)
            found, _ = self.pages(name, "Diff/Stats", "files", 6, left=left, right=right, options=options)
            self.same(name, "Diff/Stats", [(raw(f["old_path"]), raw(f["new_path"]), f["additions"], f["deletions"], f["binary"])
                                           for f in found], [(e[1], e[2]) + e[8:] for e in expected if e[8] is not None], about)

    @staticmethod
    def row(path):
        return (path["status"], raw(path["old_path"]), raw(path["new_path"]), path["old_mode"], path["new_mode"], path["old_oid"],
                path["new_oid"], path["similarity"])

    @each
    def test_changed_paths(self, name):
        commits = self.some(name, 8)
        for merges in ("MERGES_FIRST_PARENT", "MERGES_ALL_PARENTS"):
            expected = []
            for index, oid in enumerate(commits):
                parents = self.parents(name, oid) or [EMPTY_TREE]
                for number, parent in enumerate(parents if merges == "MERGES_ALL_PARENTS" else parents[:1]):
                    expected += [(index, number) + row[:8] for row in self.files(name, parent, oid)]
            found, _ = self.pages(name, "Diff/ChangedPaths", "paths", 23, pairs=[{"right": oid} for oid in commits],
                                  merges=merges, renames=True)
            self.same(name, "Diff/ChangedPaths", [(p["pair"], p["parent"]) + self.row(p["path"]) for p in found], expected)

    @each
    def test_patches(self, name):
        """The same bytes, and git am makes the same trees of them again."""
        for right in self.lines(name, "rev-list", "--max-count=60", "--no-merges", "main")[::16]:
            parents = self.parents(name, right)
            whole = self.stock(name, "format-patch", "--stdout", "--no-signature", "--full-index", "-1", "--root", right)
            ours = self.stream(name, "Diff/Patch", left="", right=right)
            self.same(name, "Diff/Patch", ours, whole, right)
            if parents and ours:
                # Those of binary files do not say what was there.
                if b"\nBinary files " in ours or b" differ\n" in ours:
                    continue
                work = os.path.join(self.scratch(), "w")
                git(None, "clone", "-q", "--no-checkout", "--shared", folder_of(name), work)
                git(work, "checkout", "-q", "--detach", parents[0])
                Git()("am", "-q", "--keep-cr", "--keep-non-patch", cwd=work, input=ours)
                self.same(name, "Diff/Patch", Git()("rev-parse", "HEAD^{tree}", cwd=work),
                          self.lines(name, "rev-parse", right + "^{tree}")[0], "applied again")
        left = self.lines(name, "rev-list", "--first-parent", "--max-count=7", "main")[-1]
        self.same(name, "Diff/Patch", self.stream(name, "Diff/Patch", left=left, right="main"), self.stock(
            name, "format-patch", "--stdout", "--no-signature", "--full-index", left + "..main"))

    @each
    def test_patch_ids(self, name):
        for left, right, git_left in self.pairs(name, 9):
            diff = self.stock(name, "diff", "-M", "--full-index", git_left, right)
            expected = (self.stock(name, "patch-id", "--stable", input=diff).decode().split() or [""])[0]
            self.same(name, "Diff/PatchId", self.api(name, "Diff/PatchId", left=left, right=right)["patch_id"], expected,
                      git_left + " " + right)

    @each
    def test_ranges(self, name):
        tips = self.lines(name, "for-each-ref", "--format=%(objectname)", "refs/heads/")
        for old, new in [self.dice.sample(tips, 2) for _ in range(3)] + [("main~1", "main"), ("main~4", "main~2")]:
            if any(int(self.lines(name, "rev-list", "--count", "--no-merges", side)[0]) > 60 for side in (
                    "%s..%s" % (old, new), "%s..%s" % (new, old))):
                continue
            text = self.stock(name, "-c", "core.abbrev=40", "range-diff", "--no-color", "%s...%s" % (old, new))
            expected = []
            for line in text.split(b"\n"):
                match = HEADER.match(line)
                if match:
                    expected.append(("" if match[1] == b"-" else match[2].decode(), STATUS[match[3].decode()],
                                     "" if match[4] == b"-" else match[5].decode()))
            found = self.api(name, "Diff/Range", old_tip=old, new_tip=new)["pairs"]
            self.same(name, "Diff/Range", [(p["old_oid"], p["status"], p["new_oid"]) for p in found], expected, old + " " + new)


class Histories(ReadCase):
    histories = ComparedCase.histories + ("mixed",)

    def ids(self, name, limit=None, **conditions):
        found, _ = self.pages(name, "History/List", "commits", limit, range=conditions, ids_only=True)
        return [commit["oid"] for commit in found]

    def conditions(self, name):
        """What to ask of List, and the same for git rev-list."""
        yield {"all_refs": True}, ["--all"]
        for order, argument in (("TOPO", "--topo-order"), ("DATE_TOPO", "--date-order"), ("AUTHOR_DATE", "--author-date-order")):
            yield {"all_refs": True, "order": "HISTORY_ORDER_" + order}, [argument, "--all"]
        files = [row[3] for row in self.rows(name, "main", "-r") if b"\n" not in row[3]]
        for path in self.dice.sample(files, min(3, len(files))):
            yield {"paths": [field(path)]}, ["main", "--", path]
            yield {"paths": [field(path)], "all_refs": True, "order": "HISTORY_ORDER_TOPO"}, ["--topo-order", "--all", "--", path]
        for folder in [row[3] for row in self.rows(name, "main") if row[1] == "TREE"][:2]:
            yield {"paths": [field(folder)], "merges": "HISTORY_MERGES_NONE"}, ["--no-merges", "main", "--", folder]
            yield {"paths": [field(folder)], "first_parent": True}, ["--first-parent", "main", "--", folder]
        times = sorted(int(line) for line in self.lines(name, "log", "--all", "--format=%ct"))
        since, until = times[len(times) // 3], times[len(times) * 2 // 3]
        yield {"all_refs": True, "since": since}, ["--max-age=%d" % since, "--all"]
        yield {"all_refs": True, "until": until}, ["--min-age=%d" % until, "--all"]
        yield {"merges": "HISTORY_MERGES_ONLY"}, ["--merges", "main"]
        yield {"all_refs": True, "message": ["Mend", "1"], "all_messages": True}, ["-F", "--grep=Mend", "--grep=1", "--all-match", "--all"]
        yield {"all_refs": True, "message": ["mend 1", "NO END"], "ignore_case": True}, ["-F", "-i", "--grep=mend 1", "--grep=NO END", "--all"]
        yield {"all_refs": True, "author": ["Ada", "<z@"]}, ["-F", "--author=Ada", "--author=<z@", "--all"]
        yield {"all_refs": True, "committer": ["Grace"]}, ["-F", "--committer=Grace", "--all"]
        yield {"all_refs": True, "regex": True, "message": ["^(Mend|Change) [0-9]*3$"]}, ["-E", "--grep=^(Mend|Change) [0-9]*3$", "--all"]
        for number in range(5):
            include, exclude = self.some(name, 2), self.some(name, number % 3)
            yield {"include": include, "exclude": exclude}, include + ["^" + one for one in exclude]

    @each
    def test_lists_and_counts(self, name):
        for of, arguments in self.conditions(name):
            split = arguments.index("--") + 1 if "--" in arguments else len(arguments)
            head = ["--literal-pathspecs"] if split < len(arguments) else []
            expected = self.lines(name, *head, "rev-list", *arguments)
            self.same(name, "History/List", self.ids(name, **of), expected, of)
            self.same(name, "History/Count", self.api(name, "History/Count", range=of)["count"], len(expected), of)
        self.same(name, "History/List", self.ids(name, limit=9, include=["main~2"]), self.lines(name, "rev-list", "main~2"))

    @each
    def test_renamed_files(self, name):
        files = [row[3] for row in self.rows(name, "main", "-r") if row[0] in (0o100644, 0o100755) and b"\n" not in row[3]]
        moved = [path for path in files if path.startswith((b"moved/", b"lib/", b"new-"))] or files
        for path in self.dice.sample(moved, min(3, len(moved))):
            expected = self.lines(name, "log", "--format=%H", "--follow", "main", "--", b":(literal)" + path)
            self.same(name, "History/List", self.ids(name, paths=[field(path)], follow=True, include=["main"]), expected, path)

    @each
    def test_relations(self, name):
        pairs = [self.some(name, 2) for _ in range(12)]
        asked = [{"left": left, "right": right} for left, right in pairs]
        distances = self.api(name, "History/AheadBehind", pairs=asked)["distances"]
        ancestors = self.api(name, "History/IsAncestor", pairs=asked)["ancestor"]
        theirs_far, theirs_over = [], []
        for left, right in pairs:
            theirs_far.append(self.lines(name, "rev-list", "--count", "--left-right", left + "..." + right)[0].split())
            theirs_over.append(Git().run("merge-base", "--is-ancestor", left, right, cwd=folder_of(name)).returncode == 0)
            bases = Git().run("merge-base", "--all", left, right, cwd=folder_of(name)).stdout.decode().split()
            self.same(name, "History/MergeBase", sorted(self.api(name, "History/MergeBase", revisions=[left, right])["oids"]),
                      sorted(bases))
        self.same(name, "History/AheadBehind", [[str(d["ahead"]), str(d["behind"])] for d in distances], theirs_far)
        self.same(name, "History/IsAncestor", ancestors, theirs_over)
        for count in (3, 4):
            several = self.some(name, count)
            for octopus in (False, True):
                bases = Git().run("merge-base", "--all", *(["--octopus"] if octopus else []), *several, cwd=folder_of(name))
                found = self.api(name, "History/MergeBase", revisions=several, octopus=octopus)["oids"]
                self.same(name, "History/MergeBase", sorted(found), sorted(bases.stdout.decode().split()), several)

    @each
    def test_refs_containing(self, name):
        for oid in self.some(name, 4):
            for prefixes in ([], ["refs/tags/"]):
                expected = self.lines(name, "for-each-ref", "--format=%(refname)", "--contains", oid, *prefixes)
                found, _ = self.pages(name, "History/RefsContaining", "refs", 30, revision=oid, prefixes=prefixes)
                self.same(name, "History/RefsContaining", [raw(ref["name"]).decode() for ref in found], sorted(expected))

    def last(self, name, revision, path):
        return (self.lines(name, "--literal-pathspecs", "rev-list", "-1", revision, "--", path) or [""])[0]

    @each
    def test_last_commits(self, name):
        for revision in ["main"] + self.some(name, 1):
            entries, _ = self.pages(name, "History/LastForTree", "entries", None, revision=revision, ids_only=True)
            rows = self.rows(name, revision)
            self.same(name, "History/LastForTree", [(e["mode"], e["type"], e["oid"], raw(e["name"]), e["commit"]) for e in entries],
                      [row + (self.last(name, revision, row[3]),) for row in rows], revision)
            files = [row[3] for row in self.rows(name, revision, "-r")]
            paths = self.dice.sample(files, min(8, len(files))) + [b"was/never/there"]
            found = self.api(name, "History/LastForPath", revision=revision, paths=[field(p) for p in paths], ids_only=True)["entries"]
            self.same(name, "History/LastForPath", [(e["commit"] or {}).get("oid", "") if "commit" in e else "" for e in found],
                      [self.last(name, revision, path) for path in paths], revision)

    @staticmethod
    def lines_of(hunks):
        return [(hunk["commit"], hunk["line"] + n, hunk["original_line"] + n, raw(hunk["original_path"]))
                for hunk in hunks for n in range(hunk["count"])]

    def blamed(self, name, revision, path, *arguments):
        """(commit, line, line there, path there) of each line."""
        found, filename = [], None
        head = re.compile(rb"([0-9a-f]{40}) (\d+) (\d+)")
        current = None
        for line in self.stock(name, "-c", "core.quotePath=false", "blame", "--line-porcelain", *arguments, revision, "--", path).split(b"\n"):
            if line.startswith(b"\t"):
                found.append(current + (filename,))
            elif head.match(line):
                match = head.match(line)
                current = (match[1].decode(), int(match[3]), int(match[2]))
            elif line.startswith(b"filename "):
                filename = line[9:]
                if filename.startswith(b'"'):
                    filename = filename[1:-1].replace(b'\\"', b'"').replace(b"\\t", b"\t").replace(b"\\\\", b"\\")
        return found

    @each
    def test_blame(self, name):
        files = [row[3] for row in self.rows(name, "main", "-r") if row[0] in (0o100644, 0o100755) and b"\n" not in row[3]]
        files = [path for path in files if 3 < self.objects(name).read(b"main:" + path)[2].count(b"\n") < 4000]
        for path in self.dice.sample(files, min(3, len(files))):
            for fields, arguments in (({}, []), ({"ignore_whitespace": True}, ["-w"]), ({"detect_moves": True}, ["-M", "-C"]),
                                      ({"ranges": [{"first": 2, "count": 2}, {"first": 4}]}, ["-L2,+2", "-L4,"])):
                found = self.api(name, "History/Blame", revision="main", path=field(path), **fields)["hunks"]
                self.same(name, "History/Blame", self.lines_of(found), self.blamed(name, "main", path, *arguments), path)


class Refs(ReadCase):
    histories = ComparedCase.histories + ("wide", "mixed")

    @each
    def test_lists(self, name):
        shape = "--format=%(objectname) %(*objectname) %(refname)"
        for prefixes in ([], ["refs/tags/"], ["refs/heads/", "refs/merge-requests/"]):
            expected = sorted((line.split(" ", 2) for line in self.lines(name, "for-each-ref", shape, *prefixes)), key=lambda row: row[2])
            found, _ = self.pages(name, "Ref/List", "refs", 700, prefixes=prefixes)
            # git peels one tag, the server all.
            ours = [[ref["oid"], "peeled" if ref["peeled"] else "", raw(ref["name"]).decode()] for ref in found]
            theirs = [[oid, "peeled" if peeled else "", ref] for oid, peeled, ref in expected]
            self.same(name, "Ref/List", ours, theirs)
            peeled = [(ref["oid"], ref["peeled"]) for ref in found if ref["peeled"]][:10]
            self.same(name, "Ref/List", [one for _, one in peeled],
                      [self.lines(name, "rev-parse", oid + "^{}")[0] for oid, _ in peeled])

    @each
    def test_sorted(self, name):
        for sort, key in (("NAME", "refname"), ("DATE", "creatordate"), ("VERSION", "version:refname")):
            for descending in (False, True):
                for patterns in (["refs/tags"], ["refs/heads/**"], ["refs/*/v1.*", "refs/heads/line*"]):
                    expected = self.lines(name, "for-each-ref", "--format=%(refname)", "--sort=refname",
                                          "--sort=%s%s" % ("-" if descending else "", key), *patterns)
                    found, _ = self.pages(name, "Ref/Query", "refs", None, sort="REF_SORT_" + sort, descending=descending,
                                          patterns=patterns)
                    self.same(name, "Ref/Query", [raw(entry["ref"]["name"]).decode() for entry in found], expected, (sort, patterns))

    @each
    def test_with_what_they_lead_to(self, name):
        shape = "--format=%(refname)%00%(objecttype)%00%(*objecttype)%00%(taggername)%00%(contents:subject)%00%(tag)%00%(object)"
        found, _ = self.pages(name, "Ref/Query", "refs", 100, patterns=["refs/tags"], tags=True, commits=True)
        ours, theirs = [], []
        for entry in found:
            tag = entry.get("tag")
            ours.append([raw(entry["ref"]["name"])] + ([raw(tag["name"]) if isinstance(tag["name"], dict) else tag["name"].encode(),
                        tag["target"].encode(), raw(tag["tagger"]["name"]) if "tagger" in tag else b"",
                        raw(tag["message"]).split(b"\n")[0]] if tag else []))
        for line in self.stock(name, "for-each-ref", shape, "refs/tags").split(b"\n")[:-1]:
            ref, kind, _, tagger, subject, tag, target = line.split(b"\0")
            theirs.append([ref] + ([tag, target, tagger, subject] if kind == b"tag" else []))
        self.same(name, "Ref/Query", ours, theirs)

    @each
    def test_found_by_name(self, name):
        refs = dict(reversed(line.split(" ", 1)) for line in self.lines(name, "for-each-ref", "--format=%(objectname) %(refname)"))
        names = self.dice.sample(sorted(refs), min(30, len(refs)))
        found = self.api(name, "Ref/FindMany", names=names + ["refs/heads/none"])["refs"]
        self.same(name, "Ref/FindMany", [entry.get("ref", {}).get("oid", "") if entry.get("ref") else "" for entry in found],
                  [refs[one] for one in names] + [""])
        for one in names[:6] + ["HEAD"]:
            ref = self.api(name, "Ref/Find", name=one)["ref"]
            self.same(name, "Ref/Find", ref["oid"], refs.get(one) or self.lines(name, "rev-parse", "main")[0])

    @each
    def test_the_whole(self, name):
        replica = self.server.replica(name)
        digest = gitstead_test.refs_digest(Git(), replica)
        self.same(name, "Repository/Checksum", self.api(name, "Repository/Checksum")["refs_digest"], digest)
        counts = dict(line.split(": ") for line in git(replica, "count-objects", "-v").decode().splitlines())
        refs = self.lines(name, "for-each-ref", "--format=%(refname)")
        found = self.api(name, "Repository/Statistics")
        theirs = [int(counts["packs"]), int(counts["count"]), len(refs), sum(ref.startswith("refs/heads/") for ref in refs),
                  sum(ref.startswith("refs/tags/") for ref in refs)]
        self.same(name, "Repository/Statistics", [found[one] for one in ("packs", "loose_objects", "refs", "branches", "tags")], theirs)
        size = self.api(name, "Repository/Size")
        self.same(name, "Repository/Size", [size["packs"], size["refs"]], [theirs[0], theirs[2]])
        fsck = Git().run("fsck", "--full", "--strict", "--no-dangling", cwd=replica)
        said = [line for line in (fsck.stdout + fsck.stderr).decode().splitlines() if line.startswith(("error", "warning", "missing"))]
        found = self.api(name, "Repository/Fsck")
        self.same(name, "Repository/Fsck", [found["ok"], sorted(f["oid"] for f in found["findings"])],
                  [fsck.returncode == 0, sorted(re.search(r"[0-9a-f]{40}", line)[0] for line in said)])


class Contents(ReadCase):
    @each
    def test_search(self, name):
        for text, fields, arguments in (("line 1", {}, ["-F"]), ("words that", {}, ["-F"]), ("^[a-z]+ [0-9]: ", {"regular_expression": True}, ["-E"]),
                                        ("WORDS", {"ignore_case": True}, ["-F", "-i"]), ("here", {"max_per_file": 1}, ["-F", "--max-count=1"]),
                                        ("e", {"paths": ["src"], "max_per_file": 3}, ["-F", "--max-count=3"])):
            run = Git().run("--literal-pathspecs", "grep", "-n", "-z", "-I", *arguments, "-e", text, "main", "--", *fields.get("paths", []),
                            cwd=folder_of(name))
            expected = [tuple(row) for row in re.findall(rb"main:([^\0]*)\0(\d+)\0([^\n]*)\n", run.stdout)]
            found, _ = self.pages(name, "Repository/SearchContent", "matches", 500, revision="main", text=text, **fields)
            self.same(name, "Repository/SearchContent", [(raw(m["path"]), b"%d" % m["line"], raw(m["text"])) for m in found],
                      [row[:2] + (row[2][:4096],) for row in expected], text)

    @each
    def test_attributes(self, name):
        """Stock git reads them from a work tree."""
        names = ["diff", "text", "binary", "export-ignore", "linguist-documentation", "linguist-language", "whitespace", "merge"]
        work = os.path.join(self.scratch(), "w")
        git(None, "clone", "-q", "--shared", "-b", "main", folder_of(name), work)
        paths = [row[3] for row in self.rows(name, "main", "-r")][:80] + [b"src/none.c", b"doc/en/none.md", b"x.bin"]
        rows = git(work, "check-attr", "-z", "--stdin", *names, input=b"\0".join(paths) + b"\0").split(b"\0")[:-1]
        expected = [(path, key, value) for path, key, value in zip(rows[::3], rows[1::3], rows[2::3]) if value != b"unspecified"]
        found = self.api(name, "Repository/Attributes", revision="main", paths=[field(p) for p in paths], attributes=names)["attributes"]
        self.same(name, "Repository/Attributes", [(raw(a["path"]), a["attribute"].encode(), raw(a["value"])) for a in found], expected)

    @each
    def test_archives(self, name):
        for revision in ["main"] + self.some(name, 2):
            oid = self.lines(name, "rev-parse", revision)[0]
            tar = self.stock(name, "-c", "tar.umask=0002", "archive", "--format=tar", "--prefix=x-1/", oid)
            self.same(name, "Repository/Archive", self.stream(name, "Repository/Archive", revision=revision, format="ARCHIVE_TAR",
                                                              prefix="x-1"), tar)
            if not tarfile.open(fileobj=io.BytesIO(tar)).getnames():
                continue
            ours = zipfile.ZipFile(io.BytesIO(self.stream(name, "Repository/Archive", revision=revision, format="ARCHIVE_ZIP")))
            theirs = zipfile.ZipFile(io.BytesIO(self.stock(name, "archive", "--format=zip", oid)))
            self.same(name, "Repository/Archive", *([(one.filename, one.CRC, one.external_attr) for one in which.infolist()]
                                                    for which in (ours, theirs)))
            below = [row[3] for row in self.rows(name, revision) if row[1] == "TREE" and row[3] != b"vendor"][:1]
            for path in below:
                tar = self.stock(name, "--literal-pathspecs", "-c", "tar.umask=0002", "archive", "--format=tar", oid, path)
                self.same(name, "Repository/Archive", self.stream(name, "Repository/Archive", revision=revision,
                                                                  format="ARCHIVE_TAR", paths=[field(path)]), tar)

    def everything(self, folder):
        """All refs, and every object that they reach."""
        return [Git().refs(folder), sorted(git(folder, "rev-list", "--all", "--objects", "--no-object-names").split())]

    @each
    def test_bundles_and_snapshots(self, name):
        replica, scratch = self.server.replica(name), self.scratch()
        bundle, copy = os.path.join(scratch, "b"), os.path.join(scratch, "copy.git")
        with open(bundle, "wb") as out:
            out.write(self.stream(name, "Repository/BundleCreate"))
        self.same(name, "Repository/BundleCreate", sorted(git(replica, "bundle", "list-heads", bundle).split(b"\n")), sorted(
            line.replace(b"\t", b" ") for line in git(replica, "ls-remote", replica).split(b"\n") if not line.endswith(b"^{}")))
        git(None, "clone", "-q", "--mirror", bundle, copy)
        self.same(name, "Repository/BundleCreate", self.everything(copy), self.everything(replica))
        with tarfile.open(fileobj=io.BytesIO(self.stream(name, "Repository/Snapshot"))) as tar:
            tar.extractall(os.path.join(scratch, "snapshot.git"), filter="data")
        git(os.path.join(scratch, "snapshot.git"), "fsck", "--full", "--connectivity-only")
        self.same(name, "Repository/Snapshot", self.everything(os.path.join(scratch, "snapshot.git")), self.everything(replica))


class Wire(ReadCase):
    """What stock git itself asks, over HTTP; that the calls served it is seen by their counts."""

    def served(self):
        text = self.server.http("GET", "/metrics", headers=self.server.bearer()).body.decode()
        return {match[1]: int(float(match[2])) for match in re.finditer(r'gitstead_calls_total\{[^}]*method="([^"]*)",code="OK"\} ([0-9.e+]+)', text)}

    @each
    def test_clone_and_push(self, name):
        url, folder, before = "%s/%s.git" % (self.server.url, name), folder_of(name), self.served()
        stock = Git(self.server.token)
        heads = sorted(line for line in stock("ls-remote", url, cwd=folder).splitlines() if "\tHEAD" not in line)
        copy = os.path.join(self.scratch(), "copy.git")
        stock("clone", "-q", "--mirror", url, copy)
        self.server.create("pushed-" + name)
        stock("push", "-q", "--mirror", "%s/pushed-%s.git" % (self.server.url, name), cwd=copy)
        after = self.served()
        for method in ("Git/Advertise", "Git/UploadPack", "Git/ReceivePack"):
            self.assertGreater(after.get(method, 0), before.get(method, 0), method)
            self.called.add((name, method))
        self.same(name, "Git/Advertise", heads, sorted(line for line in Git()("ls-remote", folder, cwd=folder).splitlines() if "\tHEAD" not in line))
        for method, where in (("Git/UploadPack", copy), ("Git/ReceivePack", self.server.replica("pushed-" + name))):
            self.same(name, method, [git(where, "for-each-ref"), git(where, "rev-list", "--all", "--objects", "--no-object-names")],
                      [git(folder, "for-each-ref"), git(folder, "rev-list", "--all", "--objects", "--no-object-names")])


if __name__ == "__main__":
    gitstead_test.main()
