# SPDX-License-Identifier: Apache-2.0
"""Reading calls of the Git API: each against stock git's own answer, on histories that hold what real ones hold."""
import base64
import hashlib
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

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        token = cls.server.new_token()
        for name in cls.histories:
            url = cls.server.create(name)
            Git(token)("push", "-q", "--mirror", url, cwd=history(name))
            if name == "odd":
                cls.server.call("Ref/SetDefaultBranch", {"repository": {"path": name}, "branch": "main"})

    def api(self, name, method, **fields):
        return self.server.call(method, dict({"repository": {"path": name}}, **fields))

    def stream(self, name, method, **fields):
        """The bulk bytes of a call."""
        request = json.dumps(dict({"repository": {"path": name}}, **fields))
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
        request = json.dumps(dict({"repository": {"path": name}}, **fields))
        response = self.server.http("POST", "/api/v1/" + method, body=request, headers=dict(
            self.server.bearer(), **{"Content-Type": "application/json"}))
        error = json.loads(response.body)
        error = error.get("error", error)
        self.assertEqual(error["code"], code, "%s %s: %s" % (method, request[:300], error))
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


if __name__ == "__main__":
    gitstead_test.main()
