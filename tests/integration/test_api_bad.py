# SPDX-License-Identifier: Apache-2.0
"""What the Git API's reading calls refuse, with which code and which field's name; and what they say of damage."""
import hashlib
import io
import json
import os
import shutil
import tarfile

import gitstead_test
from git_histories import git, history
from gitstead_test import Git
from test_api_read import ApiCase, field, raw

# Methods that take one revision, and the field's name; what else they need.
ONE = [("Commit/Stats", "revision", {}), ("Commit/TreeEntries", "revision", {}), ("Commit/FileList", "revision", {}),
       ("Blob/Get", "revision", {}), ("Repository/SearchNames", "revision", {"text": "x"}),
       ("Repository/SearchContent", "revision", {"text": "x"}), ("Diff/Parsed", "right", {}), ("Diff/Parsed", "left", {"right": "main"}),
       ("Diff/Stats", "right", {}), ("Diff/PatchId", "right", {}),
       ("Diff/Range", "old_tip", {"new_tip": "main"}), ("Diff/Range", "new_tip", {"old_tip": "main"}),
       ("Repository/Attributes", "revision", {"paths": ["a"], "attributes": ["text"]})]
MANY = [("Commit/Get", "revisions", {}), ("Commit/Signatures", "revisions", {}), ("Object/Exist", "revisions", {}),
        ("Object/Size", "revisions", {}), ("Object/Size", "excluded", {"revisions": ["main"]}),
        ("Blob/GetMany", "revisions", {}), ("Blob/List", "revisions", {}), ("Blob/List", "excluded", {"revisions": ["main"]}),
        ("Blob/LfsPointers", "revisions", {}), ("Blob/FindLfsPointers", "revisions", {})]
PATHS = ["/", "/etc", "../x", "a/../b", "a//b", "./a", "a/./b", "a\0b", "..", "."]
BIG = 4294967295

# method, request, code, what the message must mention
TABLE = [
    ("Commit/Get", {}, "INVALID_ARGUMENT", "revisions: 0 given"),
    ("Commit/Get", {"revisions": ["main"] * 1001}, "INVALID_ARGUMENT", "revisions: 1001 given"),
    ("Commit/Get", {"revisions": ["main"], "message_limit": BIG}, "INVALID_ARGUMENT", "message_limit"),
    ("Commit/Get", {"revisions": ["main"], "message_limit": -1}, "INVALID_ARGUMENT", "message_limit"),
    ("Commit/Get", {"revisions": ["a-blob"]}, "NOT_FOUND", "revisions: it leads to a blob"),
    ("Commit/Get", {"revisions": ["main:sub"]}, "NOT_FOUND", "submodule"),
    ("Commit/Signatures", {"revisions": ["main"] * 101}, "INVALID_ARGUMENT", "revisions"),
    ("Object/Exist", {"revisions": ["main"] * 5001}, "INVALID_ARGUMENT", "revisions"),
    ("Commit/TreeEntries", {"revision": "main", "recursive": True, "trees_first": True}, "INVALID_ARGUMENT", "trees_first"),
    ("Commit/TreeEntries", {"revision": "main", "recursive": True, "flat_paths": True}, "INVALID_ARGUMENT", "flat_paths"),
    ("Commit/TreeEntries", {"revision": "main", "path": "nope"}, "NOT_FOUND", "path: there is no directory nope"),
    ("Commit/TreeEntries", {"revision": "main", "path": "lib/a.c"}, "NOT_FOUND", "path: there is no directory"),
    ("Commit/TreeEntries", {"revision": "a-blob"}, "NOT_FOUND", "revision"),
    ("Commit/TreeEntries", {"revision": "main", "page": {"limit": -1}}, "INVALID_ARGUMENT", "page.limit"),
    ("Blob/Get", {"revision": "main:src"}, "NOT_FOUND", "revision: it leads to a tree"),
    ("Blob/Get", {"revision": "main:README", "limit": 524289}, "INVALID_ARGUMENT", "limit"),
    ("Blob/Get", {"revision": "main:README", "offset": 9007199254740991}, "OUT_OF_RANGE", "offset"),
    ("Blob/GetMany", {"revisions": ["main:README"], "limit": BIG}, "INVALID_ARGUMENT", "limit"),
    ("Blob/List", {"revisions": []}, "INVALID_ARGUMENT", "revisions: 0 given"),
    ("Blob/List", {"revisions": ["main"], "size_limit": "18446744073709551615"}, "INVALID_ARGUMENT", "size_limit"),
    ("Blob/List", {"revisions": ["main"], "excluded": ["main"] * 1001}, "INVALID_ARGUMENT", "excluded"),
    ("Diff/Parsed", {"right": "main", "options": {"whitespace": 7}}, "INVALID_ARGUMENT", "options.whitespace: 7"),
    ("Diff/Parsed", {"right": "main", "options": {"rename_similarity": 101}}, "INVALID_ARGUMENT", "options.rename_similarity"),
    ("Diff/Parsed", {"right": "main", "options": {"context": 1001}}, "INVALID_ARGUMENT", "options.context"),
    ("Diff/Parsed", {"right": "main", "options": {"context": 1, "no_context": True}}, "INVALID_ARGUMENT", "options.no_context"),
    ("Diff/Parsed", {"right": "main", "options": {"copies": True, "no_renames": True}}, "INVALID_ARGUMENT", "options.copies"),
    ("Diff/Parsed", {"right": "main", "options": {"algorithm": 4}}, "INVALID_ARGUMENT", "options.algorithm"),
    ("Diff/Parsed", {"right": "main", "limits": {"extensions": [{"extension": ".c", "max_patch_bytes": 1}]}}, "INVALID_ARGUMENT",
     "limits.extensions.extension"),
    ("Diff/Parsed", {"right": "main", "limits": {"extensions": [{"extension": "c"}]}}, "INVALID_ARGUMENT",
     "limits.extensions.max_patch_bytes"),
    ("Diff/Parsed", {"right": "main", "limits": {"extensions": [{"extension": "c", "max_patch_bytes": 409601}]}}, "INVALID_ARGUMENT",
     "limits.extensions.max_patch_bytes"),
    ("Diff/Parsed", {"right": "main", "limits": {"extensions": [{"extension": "c", "max_patch_bytes": 1}] * 2}}, "INVALID_ARGUMENT",
     "twice"),
    ("Diff/Parsed", {"right": "main", "limits": {"extensions": [{"extension": str(n), "max_patch_bytes": 1} for n in range(101)]}},
     "INVALID_ARGUMENT", "limits.extensions"),
    ("Diff/ChangedPaths", {"pairs": [{"right": "main"}], "statuses": ["DIFF_STATUS_UNSPECIFIED"]}, "INVALID_ARGUMENT", "statuses"),
    ("Diff/ChangedPaths", {"pairs": [{"right": "main"}], "statuses": [9]}, "INVALID_ARGUMENT", "statuses"),
    ("Diff/Parsed", {"right": "main", "options": {"paths": ["a"] * 501}}, "INVALID_ARGUMENT", "options.paths"),
    ("Diff/Parsed", {"right": "main", "limits": {"max_files": 100001}}, "INVALID_ARGUMENT", "limits.max_files"),
    ("Diff/Parsed", {"right": "main", "limits": {"max_lines": BIG}}, "INVALID_ARGUMENT", "limits.max_lines"),
    ("Diff/Parsed", {"right": "main", "limits": {"max_bytes": BIG}}, "INVALID_ARGUMENT", "limits.max_bytes"),
    ("Diff/Parsed", {"right": "main", "limits": {"max_patch_bytes": BIG}}, "INVALID_ARGUMENT", "limits.max_patch_bytes"),
    ("Diff/Parsed", {"right": "main^{tree}"}, "NOT_FOUND", "right"),
    ("Diff/ChangedPaths", {"pairs": []}, "INVALID_ARGUMENT", "pairs: 0 given"),
    ("Diff/ChangedPaths", {"pairs": [{}]}, "INVALID_ARGUMENT", "pairs.right"),
    ("Diff/ChangedPaths", {"pairs": [{"right": "main"}], "merges": 9}, "INVALID_ARGUMENT", "merges: 9"),
    ("Diff/ChangedPaths", {"pairs": [{"left": "-x", "right": "main"}]}, "INVALID_ARGUMENT", "pairs.left"),
    ("Ref/Query", {"sort": 5}, "INVALID_ARGUMENT", "sort: 5"),
    ("Ref/Query", {"patterns": ["heads"]}, "INVALID_ARGUMENT", "patterns"),
    ("Ref/Query", {"patterns": ["refs/[a-z]*"]}, "INVALID_ARGUMENT", "patterns"),
    ("Ref/Query", {"patterns": ["refs/***"]}, "INVALID_ARGUMENT", "patterns"),
    ("Ref/Query", {"patterns": ["refs/a"] * 101}, "INVALID_ARGUMENT", "patterns"),
    ("Ref/Query", {"points_at": ["abc"]}, "INVALID_ARGUMENT", "points_at"),
    ("Ref/Query", {"points_at": ["a" * 64]}, "INVALID_ARGUMENT", "points_at"),
    ("Ref/Query", {"message_limit": 65537}, "INVALID_ARGUMENT", "message_limit"),
    ("Ref/FindMany", {"names": []}, "INVALID_ARGUMENT", "names: 0 given"),
    ("Ref/FindMany", {"names": ["main"]}, "INVALID_ARGUMENT", "names: 'main'"),
    ("Ref/FindMany", {"names": ["refs/heads/main"] * 201, "commits": True}, "INVALID_ARGUMENT", "names: 201 given"),
    ("Repository/Attributes", {"revision": "main", "paths": [], "attributes": ["a"]}, "INVALID_ARGUMENT", "paths: 0 given"),
    ("Repository/Attributes", {"revision": "main", "paths": ["a"], "attributes": ["-a"]}, "INVALID_ARGUMENT", "attributes"),
    ("Repository/SearchNames", {"revision": "main", "text": ""}, "INVALID_ARGUMENT", "text"),
    ("Repository/SearchNames", {"revision": "main", "text": "x" * 1001}, "INVALID_ARGUMENT", "text"),
    ("Repository/SearchContent", {"revision": "main", "text": "a\nb"}, "INVALID_ARGUMENT", "text"),
    ("Repository/SearchContent", {"revision": "main", "text": "(", "regular_expression": True}, "INVALID_ARGUMENT", "text"),
]
# Methods with bulk bytes are called through the program.
STREAMS = [
    ("Diff/Raw", {"right": "nope"}, "right"), ("Diff/Patch", {"left": "--root", "right": "main"}, "left"),
    ("Diff/Patch", {"right": "main^{tree}"}, "right"), ("Diff/Raw", {"right": "main", "options": {"paths": ["../x"]}}, "options.paths"),
    ("Repository/Archive", {"revision": "main"}, "format"), ("Repository/Archive", {"revision": "main", "format": 9}, "format: 9"),
    ("Repository/Archive", {"revision": "main", "format": "ARCHIVE_TAR", "prefix": "../up"}, "prefix"),
    ("Repository/Archive", {"revision": "main", "format": "ARCHIVE_TAR", "paths": ["nope"]}, "paths: there is no path nope"),
    ("Repository/Archive", {"revision": "main^{tree}", "format": "ARCHIVE_TAR"}, "revision"),
    ("Repository/BundleCreate", {"refs": ["main"]}, "refs: 'main'"), ("Repository/BundleCreate", {"refs": ["refs/heads/nope"]}, "refs"),
    ("Repository/BundleCreate", {"refs": ["refs/heads/main"], "excluded": ["main"]}, "nothing that the excluded"),
]


class BadInput(ApiCase):
    histories = ("odd",)

    def request(self, method_field, value, rest):
        return dict(rest, **{method_field: [field(value)] if method_field in ("revisions", "excluded") else field(value)})

    def test_paths(self):
        for method, rest in (("Commit/TreeEntries", {}), ("Commit/FileList", {}), ("Repository/SearchNames", {"text": "x"})):
            for path in PATHS:
                with self.subTest(method=method, path=path):
                    self.refused("odd", method, "INVALID_ARGUMENT", "path:", revision="main", path=field(path), **rest)
        for path in PATHS + [""]:
            self.refused("odd", "Diff/Parsed", "INVALID_ARGUMENT", "options.paths:", right="main", options={"paths": [field(path)]})
            self.refused("odd", "Repository/Attributes", "INVALID_ARGUMENT", "paths:", revision="main", paths=[field(path)],
                         attributes=["a"])

    def test_table(self):
        for method, request, code, mention in TABLE:
            with self.subTest(method=method, request=str(request)[:80]):
                self.refused("odd", method, code, mention, **request)

    def test_streams(self):
        for method, request, mention in STREAMS:
            with self.subTest(method=method, request=str(request)[:80]):
                result = self.server.cli("call", method, json.dumps(dict({"repository": {"path": "odd"}}, **request)),
                                         check=False)
                self.assertNotEqual(result.returncode, 0)
                self.assertMentions(result.stderr, mention)

    def test_ambiguous_id(self):
        """Two objects whose ids begin alike."""
        folder = history("odd")
        found = {}
        oids = git(folder, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").decode().split()
        for oid in oids:
            found.setdefault(oid[:4], []).append(oid)
        unique = next(prefix for prefix, all_of_it in found.items() if len(all_of_it) == 1)
        self.assertEqual(self.api("odd", "Object/Exist", revisions=[unique])["objects"][0]["oid"], found[unique][0])
        self.assertEqual(self.api("odd", "Object/Exist", revisions=[unique.upper()])["objects"][0]["oid"], found[unique][0])
        self.server.create("twins")
        replica = self.server.replica("twins")
        made, number = {}, 0
        while True:
            content = b"%d" % number
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if oid[:4] in made:
                break
            made[oid[:4]] = content
            number += 1
        for one in (made[oid[:4]], content):
            git(replica, "hash-object", "-w", "--stdin", input=one)
        self.refused("twins", "Object/Exist", "INVALID_ARGUMENT", "revisions:", "several", revisions=[oid[:4]])
        self.assertEqual(self.api("twins", "Object/Exist", revisions=[oid[:20]])["objects"][0]["oid"], oid)

    def test_page_tokens_from_elsewhere(self):
        calls = [("Commit/TreeEntries", {"revision": "main"}), ("Commit/FileList", {"revision": "main"}),
                 ("Blob/List", {"revisions": ["main"]}), ("Blob/LfsPointers", {"revisions": ["main"]}),
                 ("Diff/Parsed", {"left": "v1.0", "right": "main"}), ("Diff/Stats", {"left": "v1.0", "right": "main"}),
                 ("Diff/ChangedPaths", {"pairs": [{"left": "v1.0", "right": "main"}]}), ("Ref/Query", {}),
                 ("Repository/SearchNames", {"revision": "main", "text": "a"}),
                 ("Repository/SearchContent", {"revision": "main", "text": "line"})]
        tokens = {method: self.api("odd", method, page={"limit": 1}, **request)["next_page_token"] for method, request in calls}
        for method, request in calls:
            own = tokens[method]
            self.assertTrue(own, method)
            bad = [other for other in tokens.values() if other != own]
            bad += ["00", "02", "0200", own[:-2], own + "00", own[:2] + "00" * 8 + own[18:], "ff" * 40, own[:18], "02" * 9000]
            for token in bad:
                with self.subTest(method=method, token=token[:60]):
                    if token in (own[:-2], own + "00") and method in ("Ref/Query", "Commit/TreeEntries", "Commit/FileList",
                                                                    "Repository/SearchNames"):
                        # A name cut short or with a NUL: never more than a refusal or a page.
                        self.assertIn(self.post("odd", method, dict(request, page={"token": token}))[0], (200, 400))
                        continue
                    self.refused("odd", method, "INVALID_ARGUMENT", "page.token", page={"token": token}, **request)
        changed = {"Commit/TreeEntries": {"revision": "v1.0"}, "Blob/List": {"revisions": ["main", "v1.0"]},
                   "Diff/Parsed": {"left": "v1.0", "right": "main~1"}, "Ref/Query": {"descending": True}}
        for method, request in changed.items():
            self.refused("odd", method, "INVALID_ARGUMENT", "page.token", page={"token": tokens[method]}, **request)

    def test_page_tokens_of_trees_that_are_gone(self):
        """The history was rewritten and pruned after the first page, or the client changed the id: no damage."""
        self.server.create("gone")
        replica = self.server.replica("gone")
        files = b"".join(b"M 100644 inline %s\ndata 6\nword %d\n" % (b"f%d" % n, n) for n in range(4))
        commit = b"commit refs/heads/main\ncommitter A <a@b> %d +0000\ndata 1\nx\n"
        git(replica, "fast-import", "--quiet", input=commit % 1 + files + commit % 2 + files.replace(b"word", b"more"))
        calls = [("Commit/TreeEntries", {"revision": "main"}, 1), ("Commit/FileList", {"revision": "main"}, 1),
                 ("Repository/SearchNames", {"revision": "main", "text": "f"}, 0),
                 ("Repository/SearchContent", {"revision": "main", "text": "more"}, 0),
                 ("Diff/Parsed", {"right": "main"}, 0), ("Diff/Stats", {"right": "main"}, 20),
                 ("Diff/Parsed", {"left": "main", "right": "main~"}, 0)]
        root = {"right": "main~"}
        blob = git(replica, "rev-parse", "main:f0").decode().strip()
        tokens = [self.api("gone", method, page={"limit": 1}, **request)["next_page_token"] for method, request, _ in calls]
        first = self.api("gone", "Diff/Stats", page={"limit": 1}, **root)["next_page_token"]
        for (method, request, at), token in zip(calls, tokens):
            self.assertTrue(token, method)
            self.api("gone", method, page={"token": token}, **request)
            at = 18 + 2 * at
            for oid in ("12" * 20, blob):
                self.refused("gone", method, "INVALID_ARGUMENT", "page.token", page={"token": token[:at] + oid + token[at + 40:]},
                             **request)
        # The empty tree on the left is not there and never was.
        self.assertEqual(len(self.api("gone", "Diff/Stats", page={"token": first}, **root)["files"]), 3)
        git(replica, "update-ref", "refs/heads/main", git(replica, "rev-parse", "main~").decode().strip())
        git(replica, "repack", "-adq")
        git(replica, "prune", "--expire=now")
        for (method, request, _), token in zip(calls, tokens):
            self.refused("gone", method, "INVALID_ARGUMENT", "page.token", page={"token": token}, **request)

    def test_unknown_repository(self):
        for method, name, rest in ONE + MANY:
            self.refused("no/such", method, "NOT_FOUND", "no/such", **self.request(name, "main", rest))

    def test_empty_repository(self):
        self.server.create("void")
        self.refused("void", "Commit/Get", "NOT_FOUND", "revisions", revisions=["HEAD"])
        self.assertEqual(self.api("void", "Ref/Query")["refs"], [])
        result = self.server.cli("call", "Repository/BundleCreate", '{"repository": {"path": "void"}}', check=False)
        self.assertMentions(result.stderr, "no refs")


class Damage(ApiCase):
    """An object that is lost or damaged is named, with DATA_LOSS; the other repositories go on."""
    histories = ("odd",)

    def loosen(self, name):
        """A repository whose objects are loose files. Gives its folder."""
        self.server.create(name)
        replica = self.server.replica(name)
        work = self.scratch()
        git(None, "init", "-q", "-b", "main", work)
        os.mkdir(os.path.join(work, "dir"))
        for path in ("a", "dir/b"):
            with open(os.path.join(work, path), "w") as out:
                out.write("content of %s\n" % path)
        git(work, "add", ".")
        git(work, "commit", "-q", "-m", "one")
        with open(os.path.join(work, "a"), "a") as out:
            out.write("more\n")
        git(work, "commit", "-q", "-a", "-m", "two")
        shutil.copytree(os.path.join(work, ".git/objects"), os.path.join(replica, "objects"), dirs_exist_ok=True)
        git(replica, "update-ref", "refs/heads/main", git(work, "rev-parse", "main").decode().strip())
        return replica

    def object_file(self, replica, revision):
        oid = git(replica, "rev-parse", revision).decode().strip()
        return oid, os.path.join(replica, "objects", oid[:2], oid[2:])

    def damages(self):
        def lost(path):
            os.unlink(path)

        def cut(path):
            with open(path, "rb") as file:
                data = file.read()
            os.chmod(path, 0o644)
            with open(path, "wb") as file:
                file.write(data[:len(data) // 2])

        def flipped(path):
            with open(path, "rb") as file:
                data = bytearray(file.read())
            os.chmod(path, 0o644)
            data[len(data) // 2] ^= 0xff
            with open(path, "wb") as file:
                file.write(data)
        return (lost, cut, flipped)

    def test_objects(self):
        calls = {
            "main": [("Commit/Get", {"revisions": ["main"]}), ("Commit/TreeEntries", {"revision": "main"}),
                     ("Diff/Parsed", {"right": "main"}), ("Ref/Query", {"commits": True})],
            "main^{tree}": [("Commit/TreeEntries", {"revision": "main"}), ("Blob/Get", {"revision": "main:a"}),
                            ("Diff/Parsed", {"right": "main"}), ("Blob/List", {"revisions": ["main"]}),
                            ("Diff/ChangedPaths", {"pairs": [{"left": "main~", "right": "main"}, {"right": "main~"}]}),
                            ("Diff/ChangedPaths", {"pairs": [{"right": "main~"}, {"left": "main", "right": "main~"}]})],
            "main:dir": [("Commit/FileList", {"revision": "main"}), ("Blob/Get", {"revision": "main:dir/b"})],
            "main:a": [("Blob/Get", {"revision": "main:a"}), ("Blob/GetMany", {"revisions": ["main:a"], "allow_missing": True}),
                       ("Commit/TreeEntries", {"revision": "main", "sizes": True}), ("Diff/Parsed", {"right": "main"}),
                       ("Commit/Stats", {"revision": "main"}), ("Repository/SearchContent", {"revision": "main", "text": "x"})],
        }
        number = 0
        for revision, wanted in calls.items():
            for damage in self.damages():
                number += 1
                name = "broken%d" % number
                replica = self.loosen(name)
                oid, path = self.object_file(replica, revision)
                damage(path)
                for method, request in wanted:
                    if request.get("sizes") and damage.__name__ != "lost":
                        continue  # the size stands at the beginning
                    with self.subTest(revision=revision, damage=damage.__name__, method=method):
                        self.refused(name, method, "DATA_LOSS", oid, **request)
        self.assertEqual(len(self.api("odd", "Commit/Get", revisions=["main"])["entries"]), 1)
        self.server.assert_settled()

    def test_what_was_answered_is_kept_until_a_ref_moves(self):
        replica = self.loosen("kept")
        asked = {"Diff/Stats": {"right": "main"}, "Diff/Parsed": {"right": "main"}, "Commit/Stats": {"revision": "main"},
                 "History/Blame": {"revision": "main", "path": "a"}}
        before = {method: self.api("kept", method, **request) for method, request in asked.items()}
        oid, path = self.object_file(replica, "main:a")
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        for method, request in asked.items():
            self.assertEqual(self.api("kept", method, **request), before[method], method)
        # Another request is another reply; and so is the same one once a ref has moved.
        self.refused("kept", "Diff/Stats", "DATA_LOSS", oid, right="main", options={"no_renames": True})
        tip = git(replica, "rev-parse", "main").decode().strip()
        self.api("kept", "Ref/Update", updates=[{"name": "refs/heads/other", "new_oid": tip}])
        for method, request in asked.items():
            self.refused("kept", method, "DATA_LOSS", **request)
        # A failure is not kept.
        with open(path, "wb") as file:
            file.write(data)
        for method, request in asked.items():
            self.assertEqual(self.api("kept", method, **request), before[method], method)

    def test_a_ref_that_was_left_out_comes_back(self):
        """A ref whose object is away is left out, and no such reply outlives that."""
        replica = self.loosen("away")
        tip, path = self.object_file(replica, "main")
        old = git(replica, "rev-parse", "main~1").decode().strip()
        git(replica, "update-ref", "refs/heads/old", old)
        os.rename(path, path + ".away")

        def names(method, **request):
            return {raw((ref.get("ref") or ref)["name"]) for ref in self.api("away", method, **request)["refs"]}

        asked = {"Ref/Query": {"patterns": ["refs/heads/"]}, "History/RefsContaining": {"revision": old}}
        for method, request in asked.items():
            self.assertEqual(names(method, **request), {b"refs/heads/old"}, method)
        os.rename(path + ".away", path)
        for method, request in asked.items():
            gitstead_test.eventually(lambda: names(method, **request) == {b"refs/heads/old", b"refs/heads/main"}, 60, "main in " + method)

    def test_words_that_were_pushed_are_no_damage(self):
        """git repeats what it does not understand: names of attributes, paths and encodings, which may say anything."""
        files = {".gitattributes": "* corrupt!\n", "corrupt/.gitattributes": "* error:\n* is-empty!\n", "missing it/b": "b\n",
                 "unable to read/.gitattributes": "x working-tree-encoding=corrupt\ncorrupt\\ it working-tree-encoding=x-nope\n",
                 "unable to read/x": "x\n", "unable to read/it's corrupt 'so": "y\n"}
        self.server.create("words")
        work = self.scratch()
        git(None, "init", "-q", "-b", "main", work)
        for path, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(work, path)), exist_ok=True)
            with open(os.path.join(work, path), "w") as out:
                out.write(text)
            git(work, "update-index", "--add", "--cacheinfo", "100644,%s,%s" % (
                git(work, "hash-object", "-w", "--no-filters", path).decode().strip(), path))
        git(work, "commit", "-q", "-m", "Words")
        replica = self.server.replica("words")
        shutil.copytree(os.path.join(work, ".git/objects"), os.path.join(replica, "objects"), dirs_exist_ok=True)
        git(replica, "update-ref", "refs/heads/main", git(work, "rev-parse", "main").decode().strip())
        said = Git().run("archive", "--format=tar", "main", cwd=replica).stderr
        self.assertMentions(said.decode(), "corrupt! is not a valid", "error: is not a valid attribute name: corrupt/", "to corrupt")
        data = self.stream("words", "Repository/Archive", revision="main", format="ARCHIVE_TAR")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {entry.name: archive.extractfile(entry).read().decode() for entry in archive if entry.isfile()}
        self.assertEqual(found, files)
        # What is damaged is told as ever.
        oid, path = self.object_file(replica, "main:missing it/b")
        os.unlink(path)
        result = self.server.cli("call", "Repository/Archive", '{"repository": {"path": "words"}, "revision": "main", "format": "ARCHIVE_TAR"}',
                                 check=False)
        self.assertMentions(result.stderr, "damaged or lost object", oid)

    def test_what_is_whole_is_read(self):
        replica = self.loosen("half")
        _, path = self.object_file(replica, "main:dir/b")
        os.unlink(path)
        self.assertEqual(self.api("half", "Blob/Get", revision="main:a")["blob"]["data"], "content of a\nmore\n")
        self.assertEqual(len(self.api("half", "Commit/FileList", revision="main")["paths"]), 2)


if __name__ == "__main__":
    gitstead_test.main()
