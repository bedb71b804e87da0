# SPDX-License-Identifier: Apache-2.0
"""Reading calls of the Git API: each against stock git's own answer, on histories that hold what real ones hold."""
import base64
import hashlib
import http.client
import io
import json
import os
import re
import subprocess
import tarfile
import unittest
import zipfile

import git_histories
import gitstead_test
from git_histories import git, history
from gitstead_test import Git, ServerTestCase, ZERO

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
HISTORIES = ("odd", "plain")


def raw(value):
    """A bytes field as bytes."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def field(value):
    """Bytes as a bytes field."""
    return {"base64": base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()}


class ApiCase(ServerTestCase):
    """A server with the histories in it."""
    histories = HISTORIES
    connection = None

    @classmethod
    def tearDownClass(cls):
        if cls.connection is not None:
            cls.connection.close()
        super().tearDownClass()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        token = cls.server.new_token()
        for name in cls.histories:
            cls.fill(name, cls.server.create(name), token)
            if name == "odd":
                cls.server.call("Ref/SetDefaultBranch", {"repository": {"path": name}, "branch": "main"})

    @classmethod
    def fill(cls, name, url, token):
        Git(token)("push", "-q", "--mirror", url, cwd=history(name))

    def post(self, repository, method, fields):
        """Status and answer. One connection for all: a test makes hundreds of calls."""
        body = json.dumps(dict({"repository": {"path": repository}}, **fields))
        headers = dict(self.server.bearer(), **{"Content-Type": "application/json"})
        cls = type(self)
        if cls.connection is None:
            cls.connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=60 * gitstead_test.SLOW)
        cls.connection.request("POST", "/api/v1/" + method, body=body, headers=headers)
        response = cls.connection.getresponse()
        return response.status, json.loads(response.read())

    def api(self, repository, method, /, **fields):
        status, answer = self.post(repository, method, fields)
        self.assertEqual(status, 200, "%s %s: %s" % (method, str(fields)[:300], answer))
        return answer

    def stream(self, repository, method, /, **fields):
        """The bulk bytes of a call."""
        request = json.dumps(dict({"repository": {"path": repository}}, **fields))
        result = self.server.cli("call", method, request, text=False)
        return result.stdout

    def pages(self, name, method, entries, limit=None, **fields):
        """All entries of all pages, and how many pages there were."""
        found, token, count = [], "", 0
        while True:
            page = {"token": token}
            if limit:
                page["limit"] = limit
            reply = self.api(name, method, page=page, **fields)
            if limit:
                self.assertLessEqual(len(reply[entries]), limit)
            found += reply[entries]
            count += 1
            token = reply["next_page_token"]
            if not token:
                return found, count
            self.assertTrue(reply[entries], "a page without entries that is not the last one")

    def refused(self, name, method, code, *mentions, **fields):
        """The call fails with @code and says @mentions."""
        status, answer = self.post(name, method, fields)
        error = answer.get("error", answer)
        self.assertNotEqual(status, 200, "%s %s went well" % (method, str(fields)[:300]))
        self.assertEqual(error["code"], code, "%s %s: %s" % (method, str(fields)[:300], error))
        self.assertMentions(error["message"], *mentions)
        return error["message"]

    def revisions(self, name, *arguments):
        return git(history(name), "rev-list", *arguments).decode().split()


# -------------------------------------------------------------------------------------------- commits

def parse_commit(folder, oid):
    """What Commit/Get has to say of a commit, read from git's own bytes."""
    data = git(folder, "cat-file", "commit", oid)
    head, _, message = data.partition(b"\n\n")
    found = {"parents": [], "signed": False, "encoding": b""}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == b"tree":
            found["tree"] = value.decode()
        elif key == b"parent":
            found["parents"].append(value.decode())
        elif key in (b"author", b"committer"):
            match = re.match(rb"(.*?) ?<(.*)> (\d+) ([+-]\d+)$", value)
            found[key.decode()] = (match[1].strip(), match[2], int(match[3]), match[4])
        elif key == b"encoding":
            found["encoding"] = value
        elif key == b"gpgsig":
            found["signed"] = True
    found["message"] = message
    return found


class Commits(ApiCase):
    def check(self, folder, commit):
        expected = parse_commit(folder, commit["oid"])
        self.assertEqual(commit["tree"], expected["tree"])
        self.assertEqual(commit["parents"], expected["parents"])
        for role in ("author", "committer"):
            person = commit[role]
            self.assertEqual((raw(person["name"]), raw(person["email"]), person["seconds"], raw(person["zone"])),
                             expected[role])
        self.assertEqual(raw(commit["message"]), expected["message"])
        self.assertEqual(commit["message_size"], len(expected["message"]))
        self.assertEqual(raw(commit["encoding"]), expected["encoding"])
        self.assertEqual(commit["signed"], expected["signed"])

    def test_get_every_commit(self):
        for name in self.histories:
            oids = self.revisions(name, "--all")
            entries = self.api(name, "Commit/Get", revisions=oids)["entries"]
            self.assertEqual([entry["commit"]["oid"] for entry in entries], oids)
            for entry in entries[:60]:
                self.check(history(name), entry["commit"])

    def test_revision_syntax(self):
        folder = history("odd")
        for revision in ("HEAD", "main", "refs/heads/main", "v1.0", "refs/tags/v1.0", "light", "nested", "main~", "main~2",
                         "main^", "main^2", "main^2~1", "main~0", "main^0", "v1.0^{commit}", "nested^{}", "v1.10^3",
                         "main~3^4", "main^{commit}", "feature/with/slashes", "signed", "nested~1",
                         "refs/merge-requests/1/head", git(folder, "rev-parse", "main~3").decode()[:9]):
            with self.subTest(revision):
                entry, = self.api("odd", "Commit/Get", revisions=[revision])["entries"]
                self.assertEqual(entry["commit"]["oid"],
                                 git(folder, "rev-parse", "--verify", revision + "^{commit}").decode().strip())

    def test_message_limit(self):
        entry, = self.api("odd", "Commit/Get", revisions=["v1.0"], message_limit=3)["entries"]
        self.assertEqual((entry["commit"]["message"], entry["commit"]["message_size"]), ("Beg", 20))

    def test_missing(self):
        entries = self.api("odd", "Commit/Get", revisions=["main", "nowhere", "main~999", "main^{tree}"[:4]],
                           allow_missing=True)["entries"]
        self.assertEqual([("commit" in entry) for entry in entries], [True, False, False, True])

    def test_stats(self):
        for name in self.histories:
            folder = history(name)
            for oid in self.revisions(name, "--all", "--max-count=25"):
                parent = git(folder, "rev-list", "--parents", "-1", oid).decode().split()[1:2] or [EMPTY_TREE]
                rows = git(folder, "diff", "--numstat", "--no-renames", "-z", parent[0], oid).split(b"\0")[:-1]
                counts = [row.split(b"\t") for row in rows]
                reply = self.api(name, "Commit/Stats", revision=oid)
                self.assertEqual((reply["oid"], reply["files"], reply["additions"], reply["deletions"]), (
                    oid, len(rows), sum(int(c[0]) for c in counts if c[0] != b"-"),
                    sum(int(c[1]) for c in counts if c[1] != b"-")))

    def test_signatures(self):
        replies = self.api("odd", "Commit/Signatures", revisions=["signed", "signed-ssh", "main"])["signatures"]
        self.assertEqual([r["kind"] for r in replies], ["SIGNATURE_PGP", "SIGNATURE_SSH", "SIGNATURE_NONE"])
        self.assertEqual(raw(replies[0]["signature"]), git_histories.PGP)
        self.assertEqual(raw(replies[1]["signature"]), git_histories.SSH)
        self.assertEqual(raw(replies[2]["signature"]), b"")
        data = git(history("odd"), "cat-file", "commit", "signed")
        begin = data.index(b"gpgsig ")
        end = data.index(b" -----END PGP SIGNATURE-----\n") + len(b" -----END PGP SIGNATURE-----\n")
        self.assertEqual(raw(replies[0]["payload"]), data[:begin] + data[end:])

    def test_exist(self):
        revisions = ["main", "nope", "main:README", "main:nope", ZERO, "v1.0", "main:sub", "main:src"]
        objects = self.api("odd", "Object/Exist", revisions=revisions)["objects"]
        self.assertEqual([o["type"] for o in objects],
                         ["COMMIT", "OBJECT_TYPE_UNSPECIFIED", "BLOB", "OBJECT_TYPE_UNSPECIFIED", "OBJECT_TYPE_UNSPECIFIED",
                          "TAG", "COMMIT", "TREE"])
        self.assertEqual(objects[2]["oid"], git(history("odd"), "rev-parse", "main:README").decode().strip())
        self.assertEqual(objects[1]["oid"], "")


# ---------------------------------------------------------------------------------------------- trees

class Trees(ApiCase):
    histories = ("odd", "plain", "wide")

    def expected(self, name, revision, *arguments):
        out = git(history(name), "ls-tree", "-z", "--full-tree", "-l", *arguments, revision).split(b"\0")[:-1]
        found = []
        for row in out:
            meta, _, path = row.partition(b"\t")
            mode, kind, oid, size = meta.split()
            found.append((path, int(mode, 8), kind.decode().upper(), oid.decode(), 0 if size == b"-" else int(size)))
        return found

    def entries(self, name, limit=None, **fields):
        found, _ = self.pages(name, "Commit/TreeEntries", "entries", limit, sizes=True, **fields)
        return [(raw(e["path"]), e["mode"], e["type"], e["oid"], e["size"]) for e in found]

    def test_against_ls_tree(self):
        for name in self.histories:
            for revision in ("main", "main~1"):
                with self.subTest(name=name, revision=revision):
                    self.assertEqual(self.entries(name, revision=revision), self.expected(name, revision))
                    self.assertEqual(self.entries(name, revision=revision, recursive=True),
                                     self.expected(name, revision, "-r", "-t"))

    def test_below_a_directory(self):
        for path in ("src", "src/deep", "src/deep/"):
            expected = [(path.strip("/").encode() + b"/" + e[0],) + e[1:] for e in self.expected("odd", "main:" + path)]
            self.assertEqual(self.entries("odd", revision="main", path=path), expected)

    def test_small_pages(self):
        whole = self.expected("odd", "main", "-r", "-t")
        for limit in (1, 2, 7):
            self.assertEqual(self.entries("odd", limit=limit, revision="main", recursive=True), whole)
        wide = self.expected("wide", "main", "-r", "-t")
        self.assertGreater(len(wide), 1000)
        self.assertEqual(self.entries("wide", limit=333, revision="main", recursive=True), wide)

    def test_pages_show_one_tree(self):
        """The branch moves between two pages: the second one is of the same tree."""
        self.server.create("moving")
        url = "%s/moving.git" % self.server.url
        client = Git(self.server.new_token())
        client("push", "-q", url, "main~1:refs/heads/main", cwd=history("plain"))
        expected = self.expected("plain", "main~1")
        first = self.api("moving", "Commit/TreeEntries", revision="refs/heads/main", page={"limit": 2}, sizes=True)
        client("push", "-q", url, "main:refs/heads/main", cwd=history("plain"))
        rest = self.api("moving", "Commit/TreeEntries", revision="refs/heads/main", sizes=True,
                        page={"token": first["next_page_token"]})
        self.assertEqual([e["oid"] for e in first["entries"] + rest["entries"]], [e[3] for e in expected])

    def test_trees_first(self):
        whole = self.expected("odd", "main")
        expected = [e for e in whole if e[2] == "TREE"] + [e for e in whole if e[2] != "TREE"]
        self.assertNotEqual(whole, expected)
        for limit in (None, 1, 2, 3, 4, 5):
            self.assertEqual(self.entries("odd", limit=limit, revision="main", trees_first=True), expected)

    def test_flat_paths(self):
        found, _ = self.pages("odd", "Commit/TreeEntries", "entries", revision="v1.0", flat_paths=True)
        flat = {raw(e["path"]): raw(e["flat_path"]) for e in found}
        self.assertEqual(flat[b"only"], b"only/one/way/down")
        self.assertEqual(flat[b"src"], b"src")
        self.assertEqual(flat[b"README"], b"README")

    def test_empty_tree(self):
        self.assertEqual(self.entries("odd", revision="void"), [])
        self.assertEqual(self.entries("odd", revision="void", recursive=True), [])

    def test_file_list(self):
        for name in self.histories:
            paths, _ = self.pages(name, "Commit/FileList", "paths", 500, revision="main")
            self.assertEqual([raw(p) for p in paths],
                             git(history(name), "ls-tree", "-r", "-z", "--name-only", "main").split(b"\0")[:-1])

    def test_search_names(self):
        for text, flags in (("txt", {}), ("SRC", {"ignore_case": True}), ("a", {"path": "src"})):
            found, _ = self.pages("odd", "Repository/SearchNames", "paths", 3, revision="main", text=text, **flags)
            names = git(history("odd"), "ls-tree", "-r", "-z", "--name-only", "main").split(b"\0")[:-1]
            wanted = text.encode()
            expected = [n for n in names if (wanted.lower() in n.lower() if flags.get("ignore_case") else wanted in n)
                        and n.startswith(b"src/" if "path" in flags else b"")]
            self.assertTrue(expected)
            self.assertEqual([raw(p) for p in found], expected)


# ---------------------------------------------------------------------------------------------- blobs

class Blobs(ApiCase):
    def test_every_file(self):
        folder = history("odd")
        rows = git(folder, "ls-tree", "-r", "-z", "main").split(b"\0")[:-1]
        paths = [row.partition(b"\t")[2] for row in rows if b" blob " in row.partition(b"\t")[0]]
        revisions = [field(b"main:" + path) for path in paths]
        entries = []
        while len(entries) < len(revisions):
            entries += self.api("odd", "Blob/GetMany", revisions=revisions[len(entries):], limit=524288)["entries"]
        self.assertGreater(len(entries), 15)
        for path, entry in zip(paths, entries):
            with self.subTest(path):
                content = git(folder, "cat-file", "blob", b"main:" + path)
                self.assertEqual(raw(entry["blob"]["data"]), content[:524288])
                self.assertEqual(entry["blob"]["size"], len(content))
                self.assertEqual(entry["blob"]["oid"], hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())

    def test_range(self):
        content = git(history("odd"), "cat-file", "blob", "main:large.txt")
        self.assertGreater(len(content), 600000)
        for offset, limit in ((0, 10), (5, 7), (len(content) - 3, 100), (len(content), 1), (600000, 0)):
            blob = self.api("odd", "Blob/Get", revision="main:large.txt", offset=offset, limit=limit)["blob"]
            self.assertEqual(raw(blob["data"]), content[offset:offset + (limit or 524288)])
            self.assertEqual(blob["size"], len(content))
        self.refused("odd", "Blob/Get", "OUT_OF_RANGE", "offset", revision="main:large.txt", offset=len(content) + 1)
        blob = self.api("odd", "Blob/Get", revision="main:large.txt", without_data=True)["blob"]
        self.assertEqual((blob["data"], blob["size"], blob["mode"]), ("", len(content), 0o100644))

    def test_range_of_a_blob_too_large_for_memory(self):
        self.server.create("large")
        work = self.scratch()
        content = hashlib.sha256(b"x").digest() * (17 * 32768 + 3)
        git(None, "init", "-q", "-b", "main", work)
        with open(os.path.join(work, "large"), "wb") as out:
            out.write(content)
        git(work, "add", "large")
        git(work, "commit", "-q", "-m", "large")
        Git(self.server.new_token())("push", "-q", self.server.url + "/large.git", "main", cwd=work)
        for offset, limit in ((0, 5), (17 * 1000 * 1000, 3000), (len(content) - 1, 5)):
            blob = self.api("large", "Blob/Get", revision="main:large", offset=offset, limit=limit)["blob"]
            self.assertEqual(raw(blob["data"]), content[offset:offset + limit])

    def test_submodule_and_link(self):
        blob = self.api("odd", "Blob/Get", revision="main:sub")["blob"]
        self.assertEqual((blob["type"], blob["mode"], blob["data"]), ("COMMIT", 0o160000, ""))
        blob = self.api("odd", "Blob/Get", revision="main:README")["blob"]
        self.assertEqual((blob["mode"], blob["data"]), (0o120000, "lib/a.c"))

    def test_many_with_misses(self):
        entries = self.api("odd", "Blob/GetMany", revisions=["main:README", "main:src", "main:nope", "a-blob"],
                           allow_missing=True, limit=2)["entries"]
        self.assertEqual([entry.get("blob", {}).get("data") for entry in entries], ["li", None, None, "li"])
        self.refused("odd", "Blob/GetMany", "NOT_FOUND", "revisions", revisions=["main:README", "main:nope"])

    def reachable(self, name, *arguments):
        out = git(history(name), "rev-list", "--objects", "--no-object-names", *arguments).decode().split()
        kinds = git(history(name), "cat-file", "--batch-check=%(objecttype) %(objectname) %(objectsize)",
                    input="\n".join(out).encode()).decode().splitlines()
        return {row.split()[1]: int(row.split()[2]) for row in kinds if row.startswith("blob ")}

    def test_list(self):
        for name in self.histories:
            for revisions, excluded in ((["main"], []), (["main", "HEAD~3"], ["main~5"])):
                found, pages = self.pages(name, "Blob/List", "blobs", 40, revisions=revisions, excluded=excluded)
                expected = self.reachable(name, *revisions, *["^" + e for e in excluded])
                self.assertEqual({b["oid"]: b["size"] for b in found}, expected)
                self.assertEqual(len(found), len(expected))
        found, _ = self.pages("odd", "Blob/List", "blobs", revisions=["main"], size_limit=100)
        self.assertEqual({b["oid"] for b in found}, {o for o, s in self.reachable("odd", "main").items() if s <= 100})

    def test_lfs_pointers(self):
        for limit in (None, 1):
            found, _ = self.pages("odd", "Blob/LfsPointers", "pointers", limit, revisions=["main"])
            self.assertEqual(sorted((raw(p["path"]), p["file_sha256"], p["file_size"]) for p in found), [
                (b"media/a.png", "a1" * 32, 12345), (b"media/b.png", "b2" * 32, 99), (b"media/b.png", "b3" * 32, 100)])
        found = self.api("odd", "Blob/FindLfsPointers", revisions=["main:media/a.png", "main:media/not.png", "main:README",
                                                                  "main:nope", "main:large.txt"])["pointers"]
        self.assertEqual([(p["file_size"], raw(p["data"])) for p in found], [(12345, git_histories.lfs(b"a1" * 32, 12345))])


# ---------------------------------------------------------------------------------------------- diffs

def pairs(name):
    """Left and right sides worth comparing: each commit and its parents, branches, roots, trees."""
    found = [("", oid) for oid in git(history(name), "rev-list", "--all", "--max-count=40").decode().split()]
    return found + [("main~5", "main"), ("main", "main~5"), ("main^{tree}", "main~2^{tree}"), ("main", "main")]


class Diffs(ApiCase):
    def sides(self, name, left, right):
        if not left:
            parents = git(history(name), "rev-list", "--parents", "-1", right).decode().split()[1:]
            left = parents[0] if parents else EMPTY_TREE
        return left, right

    def git_diff(self, name, left, right, *arguments):
        return git(history(name), "diff", "--full-index", "--no-abbrev", "-M50%", *arguments, *self.sides(name, left, right))

    def test_raw(self):
        for name in self.histories:
            for left, right in pairs(name)[::3] + [("main~5", "main")]:
                with self.subTest(name=name, left=left, right=right):
                    self.assertEqual(self.stream(name, "Diff/Raw", left=left, right=right),
                                     self.git_diff(name, left, right, "-p"))

    def test_options(self):
        cases = [({"whitespace": "WHITESPACE_IGNORE_ALL"}, ["-w"]), ({"whitespace": "WHITESPACE_IGNORE_AMOUNT"}, ["-b"]),
                 ({"no_renames": True}, ["--no-renames"]), ({"rename_similarity": 99}, ["-M99%"]), ({"context": 7}, ["-U7"]),
                 ({"no_context": True}, ["-U0"]), ({"whitespace": "WHITESPACE_IGNORE_AT_END"}, ["--ignore-space-at-eol"]),
                 ({"whitespace": "WHITESPACE_IGNORE_CR_AT_END"}, ["--ignore-cr-at-eol"]),
                 ({"ignore_blank_lines": True}, ["--ignore-blank-lines"]), ({"copies": True}, ["-C50%"]),
                 ({"words": True}, ["--word-diff=porcelain"]), ({"words": True, "no_context": True}, ["--word-diff=porcelain", "-U0"]),
                 ({"algorithm": "DIFF_PATIENCE"}, ["--patience"]), ({"algorithm": "DIFF_HISTOGRAM"}, ["--histogram"]),
                 ({"algorithm": "DIFF_MINIMAL"}, ["--minimal"])]
        for options, arguments in cases:
            with self.subTest(options):
                expected = self.git_diff("odd", "v1.0", "main~4", "-p", *arguments)
                self.assertEqual(self.stream("odd", "Diff/Raw", left="v1.0", right="main~4", options=options), expected)
                files = self.parsed("odd", left="v1.0", right="main~4", options=options)
                self.assertEqual(b"".join(raw(f["patch"]) for f in files), self.hunks(expected))
        paths = self.stream("odd", "Diff/Raw", left="v1.0", right="main", options={"paths": ["src", "bin/tool", "[glob]*?"]})
        self.assertEqual(paths, git(history("odd"), "--literal-pathspecs", "diff", "--full-index", "v1.0", "main", "--", "src",
                                    "bin/tool", "[glob]*?"))

    def parsed(self, name, limit=None, limits=None, **fields):
        if limits is None:
            limits = {"max_files": 100000, "max_lines": 5000000, "max_bytes": 536870912, "max_patch_bytes": 409600}
        files, _ = self.pages(name, "Diff/Parsed", "files", limit, limits=limits, **fields)
        return files

    @staticmethod
    def hunks(patch):
        """The hunks of a patch without the headers of its files; lines of content never look like a header here."""
        kept, inside = [], False
        for line in patch.splitlines(keepends=True) if b"\r" not in patch else re.findall(rb"[^\n]*\n", patch):
            if line.startswith(b"diff --git "):
                inside = False
            elif line.startswith(b"@@ "):
                inside = True
            if inside:
                kept.append(line)
        return b"".join(kept)

    def expected_files(self, name, left, right):
        rows = self.git_diff(name, left, right, "--raw", "-z").split(b"\0")[:-1]
        found = []
        while rows:
            old_mode, new_mode, old, new, status = rows.pop(0)[1:].split()
            old_path = new_path = rows.pop(0)
            if status[:1] in b"RC":
                new_path = rows.pop(0)
            names = {b"A": "ADDED", b"D": "DELETED", b"M": "MODIFIED", b"R": "RENAMED", b"C": "COPIED", b"T": "TYPE_CHANGED"}
            found.append(("DIFF_" + names[status[:1]], old_path, new_path, int(old_mode, 8), int(new_mode, 8), old.decode(),
                          new.decode(), int(status[1:] or 0)))
        return found

    @staticmethod
    def path_row(path):
        return (path["status"], raw(path["old_path"]), raw(path["new_path"]), path["old_mode"], path["new_mode"],
                path["old_oid"], path["new_oid"], path["similarity"])

    def expected_counts(self, name, left, right):
        rows = self.git_diff(name, left, right, "--numstat", "-z").split(b"\0")[:-1]
        found = []
        while rows:
            added, deleted, path = rows.pop(0).split(b"\t", 2)
            old_path = new_path = path
            if not path:
                old_path, new_path = rows.pop(0), rows.pop(0)
            found.append((old_path, new_path, int(added if added != b"-" else 0), int(deleted if deleted != b"-" else 0),
                          added == b"-"))
        return found

    def test_parsed(self):
        for name in self.histories:
            for left, right in pairs(name)[::2] + pairs(name)[-4:]:
                with self.subTest(name=name, left=left, right=right):
                    files = self.parsed(name, left=left, right=right)
                    self.assertEqual([self.path_row(f["path"]) for f in files], self.expected_files(name, left, right))
                    self.assertEqual([(raw(f["path"]["old_path"]), raw(f["path"]["new_path"]), f["additions"],
                                       f["deletions"], f["binary"]) for f in files], self.expected_counts(name, left, right))
                    small = [f for f in files if not f["too_large"]]
                    if len(small) == len(files):
                        self.assertEqual(b"".join(raw(f["patch"]) for f in files),
                                         self.hunks(self.git_diff(name, left, right, "-p")))
                    for file in small:
                        self.assertEqual(file["patch_size"], len(raw(file["patch"])))

    def test_parsed_in_small_pages(self):
        whole = self.parsed("odd", left="v1.0", right="main")
        self.assertGreater(len(whole), 15)
        for limit in (1, 4):
            self.assertEqual(self.parsed("odd", limit=limit, left="v1.0", right="main"), whole)

    def test_limits(self):
        whole = self.parsed("odd", left="v1.0", right="main")
        reply = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits={"max_files": 3})
        self.assertEqual((len(reply["files"]), reply["overflow"], reply["next_page_token"]), (3, True, ""))
        exact = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits={"max_files": len(whole), "max_patch_bytes": 1})
        self.assertEqual((len(exact["files"]), exact["overflow"]), (len(whole), False))
        for file, full in zip(exact["files"], whole):
            self.assertEqual((file["too_large"], file["patch"]), (full["patch_size"] > 1, ""))
            self.assertEqual((file["additions"], file["patch_size"]), (full["additions"], full["patch_size"]))
        few = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits={"max_lines": 20})
        self.assertTrue(few["overflow"])
        self.assertLess(len(few["files"]), len(whole))
        self.assertLessEqual(sum(f["additions"] + f["deletions"] for f in few["files"]), 20)
        few = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits={"max_bytes": 300})
        self.assertTrue(few["overflow"])
        self.assertLessEqual(sum(f["patch_size"] for f in few["files"]), 300)
        safe = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits={"safe_files": 2})
        self.assertEqual([f["collapsed"] for f in safe["files"]],
                         [i >= 2 and f["patch_size"] > 0 and not f["too_large"] for i, f in enumerate(safe["files"])])
        self.assertTrue(any(f["collapsed"] for f in safe["files"]))
        self.assertTrue(any(f["patch"] for f in safe["files"][:2]))

    def test_limits_by_extension(self):
        whole = self.parsed("odd", left="v1.0", right="main")
        size = {raw(f["path"]["new_path"]): f["patch_size"] for f in whole}
        self.assertGreater(size[b"minified.js"], 300000)
        limits = {"max_files": 100000, "max_bytes": 536870912, "max_lines": 5000000, "max_patch_bytes": 1,
                  "extensions": [{"extension": "js", "max_patch_bytes": 409600}, {"extension": "c", "max_patch_bytes": size[b"lib/a.c"]},
                                 {"extension": "gitattributes", "max_patch_bytes": 7}]}
        for limit in (None, 3):
            files = self.parsed("odd", limit, limits, left="v1.0", right="main")
            self.assertEqual([f["path"] for f in files], [f["path"] for f in whole])
            for file, full in zip(files, whole):
                name = raw(file["path"]["new_path"])
                wanted = {b"js": 409600, b"c": size[b"lib/a.c"]}.get(name.rpartition(b".")[2] if b"." in name else b"", 1)
                self.assertEqual((file["too_large"], raw(file["patch"])),
                                 (full["patch_size"] > wanted, raw(full["patch"]) if full["patch_size"] <= wanted else b""), name)
        self.assertTrue([f for f in files if f["patch"] and raw(f["path"]["new_path"]) == b"lib/a.c"])

    def test_all_paths_past_a_limit(self):
        whole = self.parsed("odd", left="v1.0", right="main")
        for one in ({"max_files": 3}, {"max_lines": 20}, {"max_bytes": 300}, {"max_files": len(whole)}, {"max_files": len(whole) - 1}):
            limits = dict({"max_files": 100000, "max_lines": 5000000, "max_bytes": 536870912, "max_patch_bytes": 409600}, **one)
            some = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits=limits)
            reply = self.api("odd", "Diff/Parsed", left="v1.0", right="main", limits=dict(limits, all_paths=True))
            self.assertEqual([f["path"] for f in reply["files"]], [f["path"] for f in whole], one)
            self.assertEqual(reply["overflow"], some["overflow"], one)
            kept = len(some["files"])
            self.assertEqual(reply["files"][:kept], some["files"], one)
            self.assertEqual([f["omitted"] for f in reply["files"]], [i >= kept for i in range(len(whole))], one)
            for file in reply["files"][kept:]:
                self.assertEqual((file["patch"], file["patch_size"], file["additions"], file["binary"]), ("", 0, 0, False))
            self.assertEqual(self.parsed("odd", 4, dict(limits, all_paths=True), left="v1.0", right="main"), reply["files"], one)

    def test_stats(self):
        for name in self.histories:
            for left, right in pairs(name)[::4] + [("main~5", "main")]:
                files, _ = self.pages(name, "Diff/Stats", "files", 5, left=left, right=right)
                self.assertEqual([(raw(f["old_path"]), raw(f["new_path"]), f["additions"], f["deletions"], f["binary"])
                                  for f in files], self.expected_counts(name, left, right))

    def test_changed_paths(self):
        for name in self.histories:
            commits = self.revisions(name, "--all", "--max-count=40")
            for merges in ("MERGES_FIRST_PARENT", "MERGES_ALL_PARENTS", "MERGES_NONE"):
                expected = []
                for index, oid in enumerate(commits):
                    parents = git(history(name), "rev-list", "--parents", "-1", oid).decode().split()[1:] or [EMPTY_TREE]
                    if len(parents) > 1 and merges == "MERGES_NONE":
                        continue
                    for number, parent in enumerate(parents if merges == "MERGES_ALL_PARENTS" else parents[:1]):
                        expected += [(index, number) + row for row in self.expected_files(name, parent, oid)]
                found, _ = self.pages(name, "Diff/ChangedPaths", "paths", 17, pairs=[{"right": c} for c in commits],
                                      merges=merges, renames=True)
                self.assertEqual([(p["pair"], p["parent"]) + self.path_row(p["path"]) for p in found], expected)
        everything, _ = self.pages("odd", "Diff/ChangedPaths", "paths", pairs=[{"left": "v1.0", "right": "main"}], renames=True)
        for statuses in (["DIFF_ADDED"], ["DIFF_RENAMED", "DIFF_TYPE_CHANGED"], ["DIFF_DELETED", "DIFF_MODIFIED", "DIFF_DELETED"]):
            some, _ = self.pages("odd", "Diff/ChangedPaths", "paths", 2, pairs=[{"left": "v1.0", "right": "main"}], renames=True,
                                 statuses=statuses)
            self.assertTrue(some)
            self.assertEqual(some, [p for p in everything if p["path"]["status"] in statuses])
        reply = self.api("odd", "Diff/ChangedPaths", pairs=[{"left": "main", "right": "main"},
                                                           {"left": "v1.0", "right": "main~4"}])
        self.assertEqual({p["pair"] for p in reply["paths"]}, {1})
        self.assertNotIn("DIFF_RENAMED", {p["path"]["status"] for p in reply["paths"]})

    def test_changed_paths_of_pairs_without_a_difference(self):
        pairs = [{"left": right, "right": "main"} for right in ("main", "main~2", "main", "main")]
        paths = self.api("plain", "Diff/ChangedPaths", pairs=pairs)["paths"]
        self.assertEqual({entry["pair"] for entry in paths}, {1})
        self.assertEqual(self.api("plain", "Diff/ChangedPaths", pairs=pairs[:1])["paths"], [])

    def test_patch(self):
        for left, right in (("main~5", "main"), ("", "main~1"), ("", "v1.0"), ("main", "main")):
            whole = git(history("odd"), "format-patch", "--stdout", "--no-signature", "--full-index",
                        *([left + ".." + right] if left else ["-1", "--root", right]))
            self.assertEqual(self.stream("odd", "Diff/Patch", left=left, right=right), whole)

    def test_patch_id(self):
        for left, right in (("main~5", "main"), ("", "main~1"), ("v1.0", "main~6")):
            diff = git(history("odd"), "diff", "-M", "--full-index", *self.sides("odd", left, right))
            expected = git(history("odd"), "patch-id", "--stable", input=diff).decode().split()[0]
            self.assertEqual(self.api("odd", "Diff/PatchId", left=left, right=right)["patch_id"], expected)
        self.assertEqual(self.api("odd", "Diff/PatchId", left="main", right="main")["patch_id"], "")


# ----------------------------------------------------------------------------------------------- refs

class Refs(ApiCase):
    histories = ("odd", "wide")

    def for_each_ref(self, name, *arguments):
        return git(history(name), "for-each-ref", "--format=%(refname)", *arguments).decode().split()

    def names(self, name, limit=None, **fields):
        found, _ = self.pages(name, "Ref/Query", "refs", limit, **fields)
        return [raw(r["ref"]["name"]).decode() for r in found]

    def test_patterns(self):
        for patterns in ([], ["refs/heads"], ["refs/heads/"], ["refs/tags/v*"], ["refs/heads/feature"], ["refs/*/main"],
                         ["refs/heads/*"], ["refs/heads/**"], ["refs/tags/v1.?", "refs/heads/side?"], ["refs/heads/m"],
                         ["refs/nothing"]):
            with self.subTest(patterns):
                self.assertEqual(self.names("odd", patterns=patterns), self.for_each_ref("odd", *patterns))

    def test_sort_and_pages(self):
        for sort, key in (("REF_SORT_NAME", "refname"), ("REF_SORT_DATE", "creatordate"), ("REF_SORT_VERSION", "version:refname")):
            for descending in (False, True):
                for limit in (None, 3):
                    with self.subTest(sort=sort, descending=descending, limit=limit):
                        self.assertEqual(self.names("odd", limit=limit, sort=sort, descending=descending, patterns=["refs/tags"]),
                                         self.for_each_ref("odd", "--sort=refname", "--sort=%s%s" % ("-" if descending else "", key),
                                                           "refs/tags"))
        self.assertEqual(self.names("wide", limit=700), self.for_each_ref("wide"))

    def test_points_at(self):
        for revision in ("main", "v1.0^{}", "v2.0", "signed"):
            oid = git(history("odd"), "rev-parse", revision).decode().strip()
            expected = self.for_each_ref("odd", "--points-at", oid)
            # Git looks behind one tag, we look behind all.
            if revision == "signed":
                expected = sorted(expected + ["refs/tags/nested"])
            self.assertEqual(self.names("odd", points_at=[oid]), expected)

    def test_commits_and_tags(self):
        found, _ = self.pages("odd", "Ref/Query", "refs", 5, commits=True, tags=True, signatures=True, message_limit=60000)
        by_name = {raw(r["ref"]["name"]).decode(): r for r in found}
        folder = history("odd")
        for name, entry in by_name.items():
            kind = git(folder, "cat-file", "-t", name).decode().strip()
            self.assertEqual("tag" in entry, kind == "tag", name)
            leads_to = git(folder, "rev-parse", name + "^{}").decode().strip()
            commit = git(folder, "cat-file", "-t", leads_to) == b"commit\n"
            self.assertEqual("commit" in entry, commit, name)
            if commit:
                self.assertEqual(entry["commit"]["oid"], leads_to)
            if kind == "tag":
                tag = entry["tag"]
                out = git(folder, "for-each-ref", "--format=%(objectname)%00%(object)%00%(type)%00%(tag)%00%(taggername)%00"
                          "%(contents:subject)%00%(contents:signature)", name).split(b"\0")
                self.assertEqual([tag["oid"], tag["target"], tag["target_type"].lower(), tag["name"]],
                                 [part.decode() for part in out[:4]])
                self.assertEqual(raw(tag["tagger"]["name"]) if "tagger" in tag else b"", out[4])
                self.assertEqual(raw(tag["message"]).split(b"\n")[0], out[5])
                self.assertEqual(raw(tag["signature"]["signature"]) if "signature" in tag else b"",
                                 out[6].rstrip(b"\n") + (b"\n" if out[6].strip() else b""))
        self.assertEqual(raw(by_name["refs/tags/v1.0"]["tag"]["message"]), b"First release\n\nWith notes.\n")
        signed = by_name["refs/tags/v2.0"]["tag"]
        self.assertEqual(signed["signature_kind"], "SIGNATURE_PGP")
        self.assertEqual(raw(signed["signature"]["payload"]) + raw(signed["signature"]["signature"]),
                         git(folder, "cat-file", "tag", "v2.0"))

    def test_find_many(self):
        refs = self.api("odd", "Ref/FindMany", names=["refs/heads/main", "refs/heads/nope", "HEAD", "refs/tags/v1.0"],
                        commits=True)["refs"]
        main = git(history("odd"), "rev-parse", "main").decode().strip()
        self.assertEqual([r.get("ref", {}).get("oid") for r in refs],
                         [main, None, main, git(history("odd"), "rev-parse", "v1.0").decode().strip()])
        self.assertEqual(raw(refs[2]["ref"]["symref_target"]), b"refs/heads/main")
        self.assertEqual(refs[3]["commit"]["oid"], git(history("odd"), "rev-parse", "v1.0^{}").decode().strip())


# ------------------------------------------------------------------------------------------- repositories

class Repositories(ApiCase):
    def test_statistics(self):
        reply = self.api("odd", "Repository/Statistics")
        replica = self.server.replica("odd")
        total = sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(replica) for name in names)
        self.assertEqual(reply["total_bytes"], total)
        packs = [n for n in os.listdir(os.path.join(replica, "objects/pack")) if n.endswith(".pack")]
        self.assertEqual(reply["packs"], len(packs))
        self.assertEqual(reply["pack_bytes"], sum(os.path.getsize(os.path.join(replica, "objects/pack", n)) for n in packs))
        refs = git(replica, "for-each-ref", "--format=%(refname)").decode().split()
        self.assertEqual((reply["refs"], reply["branches"], reply["tags"]), (
            len(refs), len([r for r in refs if r.startswith("refs/heads/")]), len([r for r in refs if r.startswith("refs/tags/")])))
        self.assertEqual((reply["object_format"], reply["generation"]), ("sha1", self.server.info("odd")["generation"]))

    def test_checksum(self):
        for name in self.histories:
            reply = self.api(name, "Repository/Checksum")
            self.assertEqual(reply["refs_digest"], self.server.info(name)["refs_digest"])
            self.assertEqual(reply["refs_digest"], gitstead_test.refs_digest(Git(), self.server.replica(name)))

    def test_attributes(self):
        """Stock git reads them from a work tree."""
        work = os.path.join(self.scratch(), "work")
        git(None, "clone", "-q", "-b", "main", history("odd"), work)
        paths = ["src/b.c", "lib/a.c", "docs/deep/x.txt", "skip.txt", "x.bin", "src/new.c"]
        names = ["diff", "text", "linguist-language", "export-ignore", "binary", "merge"]
        expected = []
        rows = git(work, "check-attr", "-z", *names, "--", *paths).decode().split("\0")[:-1]
        for path, name, value in zip(rows[::3], rows[1::3], rows[2::3]):
            if value != "unspecified":
                expected.append((path, name, value))
        found = self.api("odd", "Repository/Attributes", revision="main", paths=paths, attributes=names)["attributes"]
        self.assertGreater(len(expected), 8)
        self.assertEqual([(raw(a["path"]).decode(), a["attribute"], raw(a["value"]).decode()) for a in found], expected)

    def test_attributes_under_an_odd_commit(self):
        """Whose commit it is does not matter to them, nor that its people cannot be read."""
        self.server.create("people")
        replica = self.server.replica("people")
        blob = git(replica, "hash-object", "-w", "--stdin", input=b"*.txt text\n").decode().strip()
        tree = git(replica, "mktree", input=b"100644 blob %s\t.gitattributes\n" % blob.encode()).decode().strip()
        commit = git(replica, "hash-object", "-t", "commit", "-w", "--stdin", "--literally",
                     input=b"tree %s\ncommitter nobody\nauthor \n\nx\n" % tree.encode()).decode().strip()
        found = self.api("people", "Repository/Attributes", revision=commit, paths=["a.txt"], attributes=["text"])["attributes"]
        self.assertEqual([(a["attribute"], raw(a["value"])) for a in found], [("text", b"set")])

    def test_search_content(self):
        for text, fields, arguments in (("line 1", {}, ["-F"]), ("^line 1[0-9]+ ", {"regular_expression": True}, ["-E"]),
                                        ("NOW A", {"ignore_case": True}, ["-F", "-i"]), ("-text", {}, ["-F"]),
                                        ("other", {"paths": ["src/b.c"]}, ["-F"]), ("nothing such", {}, ["-F"]),
                                        ("line 1", {"max_per_file": 2}, ["-F", "--max-count=2"])):
            with self.subTest(text):
                spec = ["--"] + fields.get("paths", [])
                run = Git().run("grep", "-n", "-z", "-I", *arguments, "-e", text, "main", *spec, cwd=history("odd"))
                expected = [tuple(row) for row in re.findall(rb"main:([^\0]*)\0(\d+)\0([^\n]*)\n", run.stdout)]
                found, _ = self.pages("odd", "Repository/SearchContent", "matches", 400, revision="main", text=text, **fields)
                self.assertEqual([(raw(m["path"]), b"%d" % m["line"], raw(m["text"])) for m in found], expected)
                self.assertEqual(bool(expected), text != "nothing such")

    def test_archive(self):
        folder = history("odd")
        expected = git(folder, "-c", "tar.umask=0002", "archive", "--format=tar", "--prefix=p-1/", git(folder, "rev-parse", "main").decode().strip())
        one = self.stream("odd", "Repository/Archive", revision="main", format="ARCHIVE_TAR", prefix="p-1")
        self.assertEqual(one, expected)
        names = tarfile.open(fileobj=io.BytesIO(one)).getnames()
        self.assertIn("p-1/lib/a.c", names)
        self.assertNotIn("p-1/skip.txt", names)
        zipped = self.stream("odd", "Repository/Archive", revision="main", format="ARCHIVE_ZIP", paths=["lib", "bin"])
        self.assertEqual(set(zipfile.ZipFile(io.BytesIO(zipped)).namelist()), {"lib/", "lib/a.c", "bin/", "bin/tool"})
        packed = [self.stream("odd", "Repository/Archive", revision="main", format="ARCHIVE_TAR_GZ", excluded=["lib"])
                  for _ in range(2)]
        self.assertEqual(packed[0], packed[1])
        names = tarfile.open(fileobj=io.BytesIO(packed[0]), mode="r:gz").getnames()
        self.assertIn("bin/tool", names)
        self.assertNotIn("lib/a.c", names)

    def test_snapshot(self):
        """Unpacked it is a repository that stock git serves, with the same refs and every object of them."""
        folder = history("odd")
        copy = os.path.join(self.scratch(), "copy.git")
        data = self.stream("odd", "Repository/Snapshot")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
            tar.extractall(copy, filter="data")
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue({"HEAD", "config", "packed-refs", "refs", "objects"} <= set(names))
        self.assertEqual(Git().refs(copy), Git().refs(self.server.replica("odd")))
        self.assertEqual(git(copy, "symbolic-ref", "HEAD"), b"refs/heads/main\n")
        git(copy, "fsck", "--full", "--strict")
        everything = ("rev-list", "--all", "--objects", "--no-object-names")
        self.assertEqual(sorted(git(copy, *everything).split()), sorted(git(folder, *everything).split()))
        work = os.path.join(self.scratch(), "work")
        git(None, "clone", "-q", copy, work)
        self.assertEqual(git(work, "rev-parse", "HEAD"), git(folder, "rev-parse", "main"))
        # A pool's member has objects elsewhere.
        info = os.path.join(self.server.replica("odd"), "objects", "info")
        with open(os.path.join(info, "alternates"), "w") as alternates:
            alternates.write(os.path.join(copy, "objects") + "\n")
        self.addCleanup(os.unlink, os.path.join(info, "alternates"))
        result = self.server.cli("call", "Repository/Snapshot", '{"repository": {"path": "odd"}}', check=False)
        self.assertMentions(result.stderr, "borrows objects")

    def test_snapshots_while_others_push(self):
        """Each of them is whole."""
        work, path = os.path.join(self.scratch(), "w"), "busy"
        url, push = self.server.create(path), Git(self.server.new_token())
        push("init", "-q", "-b", "main", work)
        for i in range(6):
            push("commit", "-q", "--allow-empty", "-m", "number %d" % i, cwd=work)
            pusher = subprocess.Popen(["git", "push", "-q", url, "main", "main:refs/heads/b%d" % i], cwd=work, env=push.env)
            data = self.stream(path, "Repository/Snapshot")
            self.assertEqual(pusher.wait(), 0)
            copy = os.path.join(self.scratch(), "copy.git")
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                tar.extractall(copy, filter="data")
            git(copy, "fsck", "--full", "--connectivity-only")

    def test_fsck_and_optimize(self):
        for name in HISTORIES:
            repository = {"repository": {"path": name}}
            self.assertEqual(self.server.call("Repository/Fsck", repository).get("ok"), True)
            before = Git().refs(self.server.replica(name))
            done, = self.server.call("Repository/Optimize", dict(repository, strategy="OPTIMIZE_FULL"))["replicas"]
            self.assertEqual((done["repacked"], done["packs_after"]), ("OPTIMIZE_FULL", 1))
            Git().fsck(self.server.replica(name))
            self.assertEqual(Git().refs(self.server.replica(name)), before)
            for method, field in (("Optimize", {"strategy": 77}), ("Fsck", {"limit": 10001})):
                result = self.server.cli("call", "Repository/" + method, json.dumps(dict(repository, **field)), check=False)
                self.assertMentions(result.stderr, list(field)[0])
            for method in ("Fsck", "Optimize"):
                self.refused(name, "Repository/" + method, "PERMISSION_DENIED", "admin")

    def test_bundle(self):
        scratch = self.scratch()
        path = os.path.join(scratch, "all.bundle")
        with open(path, "wb") as out:
            out.write(self.stream("odd", "Repository/BundleCreate"))
        copy = os.path.join(scratch, "copy.git")
        git(None, "clone", "-q", "--mirror", path, copy)
        self.assertEqual(Git().refs(copy), Git().refs(self.server.replica("odd")))
        with open(path, "wb") as out:
            out.write(self.stream("odd", "Repository/BundleCreate", refs=["refs/heads/main"], excluded=["main~2"]))
        self.assertEqual(git(copy, "bundle", "list-heads", path).decode().split(),
                         [git(copy, "rev-parse", "main").decode().strip(), "refs/heads/main"])
        git(copy, "bundle", "verify", path)
        fresh = os.path.join(scratch, "fresh.git")
        git(None, "init", "-q", "--bare", fresh)
        self.assertMentions(Git().fails("bundle", "verify", path, cwd=fresh), "prerequisite")


if __name__ == "__main__":
    gitstead_test.main()
