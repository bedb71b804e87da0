# SPDX-License-Identifier: Apache-2.0
"""Revisions, paths and pages are one thing over all calls that read: what names an object does so wherever it stands and as
stock git has it, and what is wrong has the same code wherever it is wrong. The calls come from the .proto files, so that one
that is added fails here until it is in the table."""
import hashlib
import json
import os
import random
import re
import sys
import tempfile
import zlib

import gitstead_test
from git_histories import Builder, git
from test_api_read import ApiCase, field

sys.path.insert(0, os.path.join(gitstead_test.SOURCE, "docs/api"))
import generate  # noqa: E402

ACCEPTED = "a revision is an object id"

# What a call's bytes fields are: a revision that leads to a commit, a tree, a blob or anything; a path of a directory, a file
# or anything that has to be there; a path that only selects; "" for what is neither.
COMMIT, TREE, BLOB, ANY = "commit", "tree", "blob", "any"
FOLDER, FILE, ENTRY, SELECTS = "folder", "file", "entry", "selects"
FIELDS = {
    "Blob/Get": {"revision": BLOB},
    "Blob/GetMany": {"revisions": BLOB},
    "Blob/List": {"revisions": ANY, "excluded": ANY},
    "Blob/LfsPointers": {"revisions": ANY, "excluded": ANY},
    "Blob/FindLfsPointers": {"revisions": BLOB},
    "Commit/Get": {"revisions": COMMIT, "details.ref_prefixes": ""},
    "Commit/Stats": {"revision": COMMIT},
    "Commit/Signatures": {"revisions": COMMIT},
    "Commit/TreeEntries": {"revision": TREE, "path": FOLDER},
    "Commit/FileList": {"revision": TREE, "path": FOLDER},
    "Diff/Parsed": {"left": TREE, "right": TREE, "options.paths": SELECTS, "limits.extensions.extension": ""},
    "Diff/Raw": {"left": TREE, "right": TREE, "options.paths": SELECTS},
    "Diff/Patch": {"left": COMMIT, "right": COMMIT},
    "Diff/Stats": {"left": TREE, "right": TREE, "options.paths": SELECTS},
    "Diff/ChangedPaths": {"pairs.left": TREE, "pairs.right": TREE},
    "Diff/PatchId": {"left": TREE, "right": TREE},
    "Diff/Range": {"old_tip": COMMIT, "old_base": COMMIT, "new_tip": COMMIT, "new_base": COMMIT},
    "History/List": {"range.include": COMMIT, "range.exclude": COMMIT, "range.paths": SELECTS, "range.author": "",
                     "range.committer": "", "range.message": "", "range.include_refs": "", "range.exclude_refs": "",
                     "details.ref_prefixes": ""},
    "History/Count": {"range.include": COMMIT, "range.exclude": COMMIT, "range.paths": SELECTS, "range.author": "",
                      "range.committer": "", "range.message": "", "range.include_refs": "", "range.exclude_refs": ""},
    "History/AheadBehind": {"pairs.left": COMMIT, "pairs.right": COMMIT},
    "History/IsAncestor": {"pairs.left": COMMIT, "pairs.right": COMMIT},
    "History/MergeBase": {"revisions": COMMIT},
    "History/LastForPath": {"revision": COMMIT, "paths": SELECTS},
    "History/LastForTree": {"revision": COMMIT, "path": FOLDER},
    "History/Blame": {"revision": COMMIT, "path": FILE},
    "History/RefsContaining": {"revision": COMMIT, "prefixes": ""},
    "Object/Resolve": {"revision": ANY},
    "Object/Read": {"revision": ANY},
    "Object/Stream": {"revision": ANY},
    "Object/ListTree": {"revision": TREE},
    "Object/Exist": {"revisions": ANY},
    "Object/Size": {"revisions": ANY, "excluded": ANY},
    "Ref/List": {"prefixes": ""},
    "Ref/Find": {"name": ""},
    "Ref/Query": {"patterns": ""},
    "Ref/FindMany": {"names": ""},
    "Repository/Attributes": {"revision": COMMIT, "paths": SELECTS},
    "Repository/SearchNames": {"revision": TREE, "text": "", "path": FOLDER},
    "Repository/SearchContent": {"revision": TREE, "text": "", "paths": SELECTS},
    "Repository/Archive": {"revision": COMMIT, "prefix": "", "paths": ENTRY, "excluded": SELECTS},
    "Repository/BundleCreate": {"refs": "", "excluded": COMMIT},
    "Repository/RemoteRefs": {"refs": ""},
    "Repository/Mirror": {"refs": ""},
}
# A request of each that is fine.
TWO = [{"left": "main~1", "right": "main"}]
BASE = {
    "Blob/Get": {"revision": "main:README"}, "Blob/GetMany": {"revisions": ["main:README"]},
    "Blob/List": {"revisions": ["main"]}, "Blob/LfsPointers": {"revisions": ["main"]},
    "Blob/FindLfsPointers": {"revisions": ["main:README"]}, "Commit/Get": {"revisions": ["main"]},
    "Commit/Stats": {"revision": "main"}, "Commit/Signatures": {"revisions": ["main"]},
    "Commit/TreeEntries": {"revision": "main"}, "Commit/FileList": {"revision": "main"},
    "Diff/Parsed": {"left": "main~1", "right": "main"}, "Diff/Raw": {"left": "main~1", "right": "main"},
    "Diff/Patch": {"left": "main", "right": "other"}, "Diff/Stats": {"left": "main~1", "right": "main"},
    "Diff/ChangedPaths": {"pairs": TWO}, "Diff/PatchId": {"left": "main~1", "right": "main"},
    "Diff/Range": {"old_tip": "main~1", "new_tip": "main"}, "History/List": {"range": {}}, "History/Count": {"range": {}},
    "History/AheadBehind": {"pairs": TWO}, "History/IsAncestor": {"pairs": TWO},
    "History/MergeBase": {"revisions": ["main", "main~1"]}, "History/LastForPath": {"revision": "main", "paths": ["README"]},
    "History/LastForTree": {"revision": "main"}, "History/Blame": {"revision": "main", "path": "README"},
    "History/RefsContaining": {"revision": "main"}, "Object/Resolve": {"revision": "main"}, "Object/Read": {"revision": "main"},
    "Object/Stream": {"revision": "main"}, "Object/ListTree": {"revision": "main"}, "Object/Exist": {"revisions": ["main"]},
    "Object/Size": {"revisions": ["main"]},
    "Repository/Attributes": {"revision": "main", "paths": ["README"], "attributes": ["text"]},
    "Repository/SearchNames": {"revision": "main", "text": "a"}, "Repository/SearchContent": {"revision": "main", "text": "e"},
    "Repository/Archive": {"revision": "main", "format": "ARCHIVE_TAR"}, "Repository/BundleCreate": {"refs": ["refs/heads/main"]},
    "Ref/List": {}, "Ref/Query": {}, "Object/List": {},
}
# With these, what is not there is an answer.
LENIENT = ("Object/Exist", "Blob/FindLfsPointers")
# An empty one means something: the first parent, the merge base, the whole tree.
MAY_BE_EMPTY = (("Diff/Parsed", "left"), ("Diff/Raw", "left"), ("Diff/Patch", "left"), ("Diff/Stats", "left"),
                ("Diff/PatchId", "left"), ("Diff/ChangedPaths", "pairs.left"), ("Diff/Range", "old_base"), ("Diff/Range", "new_base"))

MALFORMED = ["-x", "--upload-pack=/bin/true", "@", "main@{1}", "@{-1}", "main@{upstream}", "HEAD^{/x}", ":/text", "main..side",
             "main...side", "^main", "main^@", "main^!", "main^-1", "a b", "main\n", "main\0", "\x01", "main~x", "main^{thing}",
             "main^{", "main~99999999999999999999", "refs/heads/..", "refs/heads/a.lock", "~1", "^{commit}", ":README",
             ":0:README", "main~1^x:README"]
BAD_PATHS = ["/", "/README", "../x", "a//b", "dir//", "./a", "a/./b", "dir/..", ".", "..", "a\0b"]
# These name the main commit, and so a tree and a history.
SAME = ["HEAD", "main", "heads/main", "refs/heads/main", "main~0", "main^0", "main^{}", "main^{commit}", "for-main",
        "tags/for-main", "nested", "nested^{}", "nested^{tag}~0", "other^1", "other~", b"br\xe4nch"]
ABSENT = ["nope", "refs/heads/nope", "main~1000000000", "main~1~1000000000", "main^9", "main:nope", "main:README/x",
          "main:README/", "main:dir/nope", "f" * 40, "ffffff", "refs/gitstead/own", "gitstead/own", "main^{blob}", "main^{tag}",
          "blob-tag^{commit}", "blob-tag~1", "tree-tag^{commit}", "main:README:x"]


def described():
    """Every accessor of one repository: its bytes fields, and whether it has pages and a stream."""
    api = generate.read(os.path.join(gitstead_test.SOURCE, "api/proto"))

    def fields(message, prefix, seen):
        for row in api["message"][message]["rows"]:
            name, kind = prefix + row["name"], row["type"]
            if kind in api["message"] and kind not in seen and name != "repository":
                yield from fields(kind, name + ".", seen | {kind})
            elif kind == "bytes":
                yield name, row["hex"]

    for service, block in api["service"].items():
        for call in block["rows"]:
            if call["rule"].get("operation") == "ACCESSOR":
                found = list(fields(call["request"], "", set()))
                yield service[:-len("Service")] + "/" + call["name"], {
                    "fields": {name for name, is_hex in found if not is_hex}, "pages": ("page.token", True) in found,
                    "stream": "bytes_out" in call["rule"], "scope": call["rule"].get("scope")}


CALLS = dict(described())


class ListsAreWhole(gitstead_test.TestCase):
    def test_every_field_is_known(self):
        for method, call in CALLS.items():
            if call["scope"] == "REPOSITORY" and not method.startswith(("Git/", "Cluster/", "Node/")):
                self.assertEqual(call["fields"], set(FIELDS.get(method, {})), "%s: say in FIELDS what its fields are" % method)
            if call["pages"] and method != "Repository/List":
                self.assertIn(method, BASE)

    def test_none_is_left(self):
        self.assertEqual(set(FIELDS) - set(CALLS), set())
        self.assertGreater(len(revision_fields()), 40)


def revision_fields(kinds=(COMMIT, TREE, BLOB, ANY)):
    return [(method, name, kind) for method, fields in FIELDS.items() for name, kind in fields.items() if kind in kinds]


def alike(kind, prefix, text="%d", begin=0):
    """Content of an object whose id begins with @prefix."""
    number = begin
    while True:
        content = (text % number).encode()
        if hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest().startswith(prefix):
            return content
        number += 1


def twelve_alike():
    """Twelve blobs whose ids begin with the same four digits: the first such twelve."""
    found, number = {}, 0
    while True:
        content = b"twelve %d" % number
        some = found.setdefault(hashlib.sha1(b"blob %d\0" % len(content) + content).digest()[:2], [])
        some.append(content)
        number += 1
        if len(some) == 12:
            return some


def shapes(folder):
    """Merges, an octopus, nested tags, tags of trees and blobs, refs that look like something else, ids that begin alike."""
    b = Builder(folder)
    plain = b"100644"
    root = b.commit(b"main", b"root", [(b"README", plain, b"one\n"), (b"dir/file", plain, b"two\n"), (b"dir/deep/x", plain, b"three\n"),
                                       (b"caf\xe9/\xff.txt", plain, b"four\n"), (b"-dash", plain, b"five\n"),
                                       (b"a~1", plain, b"six\n"), (b"b^{tree}", plain, b"seven\n"), (b"c:d", plain, b"eight\n"),
                                       (b"sub", b"160000", b"1234567890123456789012345678901234567890")])
    left = b.commit(b"left", b"left", [(b"left", plain, b"l\n")], [root], fresh=True)
    right = b.commit(b"right", b"right", [(b"right", plain, b"r\n")], [root], fresh=True)
    side = b.commit(b"side", b"side", [(b"side", plain, b"s\n")], [right], fresh=True)
    merge = b.commit(b"main", b"merge", [(b"left", plain, b"l\n"), (b"right", plain, b"r\n")], [left, right])
    octopus = b.commit(b"main", b"octopus", [(b"side", plain, b"s\n"), (b"README", plain, b"more e\n")], [merge, left, side, right])
    other = b.commit(b"other", b"other", [(b"other", plain, b"o\n")], [octopus], fresh=True)
    b.tag(b"for-main", octopus, b"first\n")
    b.done()
    at = b.id("main")

    def tag(name, target, kind, text="tag"):
        body = "object %s\ntype %s\ntag %s\ntagger T <t@example.org> 1500000000 +0000\n\n%s\n" % (target, kind, name, text)
        oid = b.object("tag", body.encode())
        git(folder, "update-ref", "refs/tags/" + name, oid)
        return oid

    tag("nested", tag("inner", b.id("for-main"), "tag"), "tag")
    tag("tree-tag", b.id("main^{tree}"), "tree")
    tag("blob-tag", b.id("main:README"), "blob")
    for name, to in (("refs/heads/both", "left"), ("refs/tags/both", "right"), ("refs/heads/HEAD", "left"), ("refs/tags/main", "main"),
                     ("refs/heads/tags/main", "left"), ("refs/heads/heads/main", "right"), ("refs/merge-requests/1/head", "side"),
                     ("refs/heads/" + b.id("left")[:7], "right"), ("refs/heads/" + b.id("right"), "left"),
                     ("refs/heads/" + b.id("main^{tree}")[:4], "side"), ("refs/tags/cafe", "main~1"), ("refs/heads/deadbeef", "main~1")):
        git(folder, "update-ref", name, b.id(to))
    git(folder, "update-ref", b"refs/heads/br\xe4nch", at)
    # Beginnings of ids that several objects have, of the same type and of others.
    contents = {"%d" % index: content for index, content in enumerate(twelve_alike())}
    contents["commit"] = alike("blob", at[:4], "as commit %d")
    contents["tree"] = alike("blob", b.id("left^{tree}")[:4], "as tree %d")
    other_id = b.id("side")
    body = "object %s\ntype commit\ntag like-%%d\ntagger T <t@example.org> 1500000000 +0000\n\nlike\n" % other_id
    git(folder, "update-ref", "refs/tags/like-side", b.object("tag", alike("tag", other_id[:4], body)))
    rows = b"".join(b"100644 blob %s\t%s\n" % (b.object("blob", content).encode(), name.encode()) for name, content in contents.items())
    tree = git(folder, "mktree", input=rows).decode().strip()
    git(folder, "update-ref", "refs/tags/alike", tree)
    git(folder, "symbolic-ref", "HEAD", "refs/heads/main")
    return other


class AskCase(ApiCase):
    histories = ()
    options = {"server": {"log_level": "debug"}}  # which code a call with bulk bytes ended with is in the log

    def ask(self, method, request, path="shapes"):
        """OK or the error's code, and its message or the reply. Bulk bytes come with the program, all others by HTTP."""
        if not CALLS[method]["stream"]:
            status, answer = self.post(path, method, request)
            if status == 200:
                return "OK", answer
            error = answer.get("error", answer)
            return error["code"], error["message"]
        text = json.dumps(dict({"repository": {"path": path}}, **request))
        begin = os.path.getsize(self.server.log)
        result = self.server.cli("call", method, text, check=False, text=False)
        if result.returncode == 0:
            return "OK", hashlib.sha256(result.stdout).hexdigest()
        said = result.stderr.decode(errors="replace")
        return gitstead_test.eventually(lambda: self.logged(begin, method), 60, "the call in the log"), said

    def logged(self, begin, method):
        """The code of the call of @method that was logged last, behind @begin."""
        with open(self.server.log, errors="replace") as log:
            log.seek(begin)
            found = re.findall(r" method=%s .*\bcode=(\w+)" % method, log.read())
        return found[-1] if found else None


class Shapes(AskCase):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.mkdtemp(prefix="gitstead-shapes-", dir=cls.server.folder)
        shapes(folder)
        url = cls.server.create("shapes")
        gitstead_test.Git(cls.server.new_token())("push", "-q", "--mirror", url, cwd=folder)
        cls.server.call("Ref/SetDefaultBranch", {"repository": {"path": "shapes"}, "branch": "main"})
        cls.replica = cls.server.replica("shapes")
        git(cls.replica, "update-ref", "refs/gitstead/own", git(folder, "rev-parse", "main").decode().strip())

    def rev(self, revision):
        return git(self.replica, "rev-parse", "--verify", revision).decode().strip()

    # ------------------------------------------------------------------------------- asking

    def request(self, method, name, value):
        """The call's request with @value in that field."""
        request = json.loads(json.dumps(BASE[method]))
        path, at = name.split("."), request
        for part in path[:-1]:
            at = at.setdefault(part, [{}] if part == "pairs" else {})
            at = at[0] if isinstance(at, list) else at
        many = path[-1] in ("revisions", "excluded", "include", "exclude", "paths")
        at[path[-1]] = [field(value)] if many else field(value)
        if method == "History/MergeBase":
            at[path[-1]].append("main")
        return request

    def check(self, method, name, value, code, *mentions):
        found, said = self.ask(method, self.request(method, name, value))
        self.assertEqual(found, code, "%s %s=%r: %s" % (method, name, value, said))
        if code != "OK":
            self.assertMentions(said, name + ":", *mentions)
        return said

    def few(self, method, values):
        """Calls with streams take a process each: other ones of @values for each of them."""
        return values[zlib.crc32(method.encode()) % 4::9] if CALLS[method]["stream"] else values

    # ----------------------------------------------------------------------------- the tests

    def test_malformed(self):
        for method, name, _ in revision_fields():
            for value in self.few(method, MALFORMED):
                with self.subTest(method=method, field=name, revision=value):
                    self.check(method, name, value, "INVALID_ARGUMENT", ACCEPTED)
            self.check(method, name, "x" * 5000, "INVALID_ARGUMENT", "5000 bytes")
            if (method, name) not in MAY_BE_EMPTY:
                self.check(method, name, "", "INVALID_ARGUMENT", ACCEPTED)

    def test_malformed_paths_of_revisions(self):
        for method, name, _ in revision_fields():
            for path in self.few(method, BAD_PATHS):
                with self.subTest(method=method, field=name, path=path):
                    self.check(method, name, "main:" + path, "INVALID_ARGUMENT")

    def test_absent(self):
        for method, name, kind in revision_fields():
            for value in self.few(method, ABSENT):
                with self.subTest(method=method, field=name, revision=value):
                    self.check(method, name, value, "OK" if method in LENIENT else "NOT_FOUND")

    def test_of_another_type(self):
        leads = {"main": (COMMIT, TREE, ANY), "main^{tree}": (TREE, ANY), "tree-tag": (TREE, ANY), "main:dir": (TREE, ANY),
                 "main:README": (BLOB, ANY), "blob-tag^{}": (BLOB, ANY), "nested": (COMMIT, TREE, ANY)}
        for method, name, kind in revision_fields():
            if method.startswith("Diff/") and method != "Diff/Range" and name.endswith("right"):
                continue  # what is to the left counts, too
            for value, fits in self.few(method, list(leads.items())):
                with self.subTest(method=method, field=name, revision=value):
                    fine = kind in fits or method in LENIENT
                    if fine and method in ("Diff/Patch", "Repository/BundleCreate"):
                        continue  # nothing may be left of the range
                    self.check(method, name, value, "OK" if fine else "NOT_FOUND", *([] if fine else ["it leads to a", "not to a " + kind]))

    def test_submodules(self):
        """Its commit is in another repository: it has an id and a mode, and no content."""
        for method, name, kind in revision_fields():
            fine = method in ("Object/Resolve", "Object/Exist") or kind == BLOB
            with self.subTest(method=method, field=name):
                self.check(method, name, "main:sub", "OK" if fine else "NOT_FOUND", *([] if fine else ["submodule"]))
                self.check(method, name, "main:sub/x", "OK" if method in LENIENT else "NOT_FOUND")
        self.assertEqual(self.ask("Object/Resolve", {"revision": "main:sub"})[1]["object"], {
            "oid": "1234567890123456789012345678901234567890", "type": "COMMIT", "size": 0, "mode": 0o160000})

    def test_the_same_in_every_call(self):
        main = self.rev("main")
        for method, name, kind in revision_fields((COMMIT, TREE)):
            expected = self.ask(method, self.request(method, name, main))
            if (method, name) not in (("Repository/BundleCreate", "excluded"),):
                self.assertEqual(expected[0], "OK", (method, name, expected))
            for value in self.few(method, SAME + [main[:12], main.upper(), main[:20].upper()]):
                with self.subTest(method=method, field=name, revision=value):
                    found = self.ask(method, self.request(method, name, value))
                    if expected[0] == "OK":
                        self.assertEqual(found, expected)
                    else:
                        self.assertEqual(found[0], expected[0], found[1])

    def test_beginnings_of_several_ids(self):
        main, tree, side, left = (self.rev(name) for name in ("main", "left^{tree}", "side", "left"))
        for method, name, kind in revision_fields():
            # One is a commit, the other one a blob.
            with self.subTest(method=method, field=name):
                if kind in (COMMIT, TREE):
                    self.assertEqual(self.ask(method, self.request(method, name, main[:4])),
                                     self.ask(method, self.request(method, name, main)))
                else:
                    self.check(method, name, main[:4], "INVALID_ARGUMENT", main + " (commit)", "(blob)", "more digits")
                # A commit and a tag of it are both a commit.
                said = self.check(method, name, side[:4], "INVALID_ARGUMENT", side + " (commit)", "(tag)")
                self.assertNotIn("(blob)", said)
        resolve = lambda text: self.ask("Object/Resolve", {"revision": text})
        for text in (main[:4] + "^{commit}", main[:4] + "~0", main[:4] + "^0"):
            self.assertEqual(resolve(text)[1]["object"]["oid"], main, text)
        self.assertEqual(resolve(tree[:4] + "^{tree}")[1]["object"]["oid"], tree)
        self.assertEqual(resolve(tree[:4] + ":left")[1]["object"]["oid"], self.rev("left:left"))
        for text in (tree[:4], tree[:4] + "^{}", tree[:4] + "^{blob}", side[:4] + "^{commit}", tree[:4] + "~1"):
            code, said = resolve(text)
            self.assertEqual((code, "beginning of several" in said), ("INVALID_ARGUMENT", True), (text, said))
        self.assertEqual(resolve(main[:3])[0], "NOT_FOUND")
        # Ten of many are told, in their order.
        many = sorted(self.rev("alike:%d" % index) for index in range(12))
        code, said = resolve(many[0][:4])
        self.assertEqual(code, "INVALID_ARGUMENT")
        told = [word for word in said.replace(",", " ").split() if word in many]
        self.assertEqual(told, many[:10])
        self.assertIn("and more", said)
        self.assertEqual(resolve(many[11][:16])[1]["object"]["oid"], many[11])

    def test_as_git_does(self):
        """Some hundred revisions, made of all there is, against git in the same folder."""
        of = random.Random(20261123)
        oids = {name: self.rev(name) for name in ("main", "left", "right", "side", "nested", "main^{tree}", "main:README", "tree-tag")}
        bases = ["HEAD", "main", "left", "right", "side", "other", "both", "heads/both", "tags/both", "refs/heads/both", "refs/tags/both",
                 "tags/main", "heads/main", "heads/heads/main", "heads/tags/main", "refs/heads/heads/main", "heads/HEAD",
                 "merge-requests/1/head", "refs/merge-requests/1/head", "for-main", "inner", "nested", "tree-tag", "blob-tag", "alike",
                 "cafe", "deadbeef", "nope", oids["left"][:7], oids["right"], oids["main^{tree}"][:4], "0" * 40, "ffff", b"br\xe4nch"]
        bases += [oid[:n] for oid in oids.values() for n in (4, 5, 7, 12, 39, 40)] + [oid.upper() for oid in oids.values()]
        steps = ["", "", "", "^", "~", "^0", "~0", "^1", "^2", "^3", "^4", "^5", "~1", "~2", "~3", "~40", "^{}", "^{commit}", "^{tree}",
                 "^{blob}", "^{tag}", "^^", "~1^2", "^2~1", "^{tree}^{}", "^{}^2^{tree}", "^{commit}~1^{tree}"]
        paths = ["", "", "", "", ":", ":README", ":README/", ":dir", ":dir/", ":dir/file", ":dir/deep/x", ":dir/nope", ":README/x",
                 b":caf\xe9/\xff.txt", b":caf\xe9", ":-dash", ":a~1", ":b^{tree}", ":c:d", ":main"]
        asked = set()
        raw = lambda text: text if isinstance(text, bytes) else text.encode()
        while len(asked) < 1500:
            asked.add(raw(of.choice(bases)) + b"".join(raw(of.choice(steps)) for _ in range(of.randrange(3))) + raw(of.choice(paths)))
        base = lambda text: re.split(rb"[~^:]", text)[0]
        asked = sorted(asked | {base(text) for text in asked})
        said = git(self.replica, "cat-file", "--batch-check", input=b"\n".join(asked) + b"\n").split(b"\n")[:-1]
        self.assertEqual(len(said), len(asked))
        several = {text for text, line in zip(asked, said) if line.endswith(b" ambiguous")}
        fine = {}
        for text, line in zip(asked, said):
            if text in several or (base(text) in several and line.endswith(b" missing")):
                # Behind a suffix, git does not say why it finds nothing.
                code, why = self.ask("Object/Resolve", {"revision": field(text)})
                self.assertIn((code, "beginning of several" in why), [("INVALID_ARGUMENT", True)] + [("NOT_FOUND", False)] * (text not in several),
                              (text, why))
            else:
                fine[text] = None if line.endswith(b" missing") else tuple(line.decode().split())
        code, found = self.ask("Object/Exist", {"revisions": [field(text) for text in fine]})
        self.assertEqual(code, "OK", found)
        found = found["objects"]
        self.assertEqual(len(found), len(fine))
        for (text, expected), one in zip(fine.items(), found):
            got = (one["oid"], one["type"].lower(), str(one["size"])) if one["oid"] else None
            self.assertEqual(got, expected, text)
        self.assertGreater(sum(1 for expected in fine.values() if expected), 300)
        self.assertGreater(sum(1 for expected in fine.values() if not expected), 100)

    def test_paths(self):
        for method, fields in FIELDS.items():
            for name, kind in fields.items():
                if kind not in (FOLDER, FILE, ENTRY, SELECTS):
                    continue
                for path in self.few(method, BAD_PATHS):
                    with self.subTest(method=method, field=name, path=path):
                        self.check(method, name, path, "INVALID_ARGUMENT")
                if kind != FOLDER:
                    self.check(method, name, "", "INVALID_ARGUMENT", "empty")
                there = {"dir": (FOLDER, ENTRY), "dir/": (FOLDER, ENTRY), "README": (FILE, ENTRY), "README/": (), "README/x": (), "nope": (),
                         "sub": (ENTRY,), "sub/x": (), b"caf\xe9": (FOLDER, ENTRY), b"caf\xe9/\xff.txt": (FILE, ENTRY), "-dash": (FILE, ENTRY),
                         b"\xff\xfe": ()}
                for path, fits in there.items():
                    with self.subTest(method=method, field=name, path=path):
                        fine = kind in fits or kind == SELECTS
                        self.check(method, name, path, "OK" if fine else "NOT_FOUND", *([] if fine else ["there is no"]))

    def test_limits_of_pages(self):
        for method, call in CALLS.items():
            if not call["pages"]:
                continue
            request = BASE.get(method, {})
            most = 1000
            with self.subTest(method=method):
                ask = lambda page, **more: self.as_admin(method, dict(request, page=page, **more))
                for limit in (most + 1, 1 << 20, (1 << 32) - 1):
                    code, said = ask({"limit": limit})
                    self.assertEqual((code, said[:11]), ("INVALID_ARGUMENT", "page.limit:"), said)
                for limit in (-1, 1 << 32, "x", 1.5):
                    code, said = ask({"limit": limit})
                    self.assertEqual(code, "INVALID_ARGUMENT", said)
                    self.assertMentions(said, "page.limit")
                self.assertEqual(ask({"limit": most})[0], "OK")
                self.assertEqual(ask({"limit": 0}), ask({"limit": most}))
        for more in ({"commits": True}, {"tags": True}):
            self.assertEqual(self.as_admin("Ref/Query", dict(more, page={"limit": 201}))[0], "INVALID_ARGUMENT")
            self.assertEqual(self.as_admin("Ref/Query", dict(more, page={"limit": 200}))[0], "OK")
        code, said = self.ask("Object/Read", {"revision": "main", "limit": 524289})
        self.assertEqual((code, said[:6]), ("INVALID_ARGUMENT", "limit:"), said)
        code, said = self.as_admin("Repository/Changes", {"limit": 1001})
        self.assertEqual((code, said[:6]), ("INVALID_ARGUMENT", "limit:"), said)

    def as_admin(self, method, request):
        """As ask, of a method that may be for administrators or of no repository."""
        body = dict(request)
        if method != "Repository/List":
            body["repository"] = {"path": body.pop("of", "shapes")}
        cls = type(self)
        if not hasattr(cls, "admin"):
            cls.admin = cls.server.new_token("admin")
        reply = self.server.http("POST", "/api/v1/" + method, json.dumps(body), {
            "Authorization": "Bearer " + cls.admin, "Content-Type": "application/json"})
        answer = json.loads(reply.body)
        if reply.status == 200:
            return "OK", answer
        error = answer.get("error", answer)
        return error["code"], error["message"]

    def test_tokens_of_pages(self):
        """One is good for the call, the repository and the request that it was given out for."""
        twin = "shapes-twin"
        gitstead_test.Git(self.server.new_token())("push", "-q", self.server.create(twin), "refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*",
                                                    cwd=self.replica)
        requests = {method: BASE.get(method, {}) for method, call in CALLS.items() if call["pages"]}
        requests["Diff/Parsed"] = requests["Diff/Stats"] = {"left": "main~1", "right": "other"}
        requests["Diff/ChangedPaths"] = {"pairs": [{"left": "main~1", "right": "other"}]}
        requests["Blob/LfsPointers"] = {"revisions": ["lfs"]}
        self.add_pointers(twin)
        changed = {"Blob/List": {"revisions": ["other"]}, "Blob/LfsPointers": {"revisions": ["lfs", "main"]},
                   "Commit/TreeEntries": {"revision": "left"}, "Commit/FileList": {"revision": "left"},
                   "Diff/Parsed": {"left": "left", "right": "other"}, "Diff/Stats": {"left": "left", "right": "other"},
                   "Diff/ChangedPaths": {"pairs": [{"left": "left", "right": "other"}]}, "History/List": {"range": {"include": ["left"]}},
                   "History/LastForTree": {"revision": "left"}, "History/RefsContaining": {"revision": "main~1"},
                   "Object/ListTree": {"revision": "left"}, "Object/List": {"types": ["BLOB"]}, "Ref/List": {"prefixes": ["refs/heads/"]},
                   "Ref/Query": {"descending": True}, "Repository/List": {"prefix": "s"},
                   "Repository/SearchNames": {"revision": "main", "text": "e"}, "Repository/SearchContent": {"revision": "main", "text": "o"}}
        self.assertEqual(set(changed), set(requests))
        tokens = {}
        for method, request in requests.items():
            code, reply = self.as_admin(method, dict(request, page={"limit": 1}))
            self.assertEqual(code, "OK", (method, reply))
            tokens[method] = reply["next_page_token"]
            self.assertTrue(tokens[method], "%s has one page only" % method)
        for method, request in requests.items():
            own = tokens[method]
            self.assertEqual(self.as_admin(method, dict(request, page={"limit": 1, "token": own}))[0], "OK", method)
            self.assertEqual(self.as_admin(method, dict(request, page={"token": own}))[0], "OK", method)
            wrong = [(dict(request, page={"token": token}), token) for other, token in tokens.items() if other != method]
            wrong += [(dict(request, page={"token": token}), token)
                      for token in ("00", "02", own[:18], "01" + own[2:], own[:2] + "00" * 8 + own[18:], "ff" * 40, "02" * 9000)]
            wrong.append((dict(changed[method], page={"token": own}), "of another request"))
            if method != "Repository/List":
                wrong.append((dict(request, page={"token": own}, of=twin), "of another repository"))
            for body, what in wrong:
                with self.subTest(method=method, token=what[:40]):
                    code, said = self.as_admin(method, body)
                    self.assertEqual((code, said[:11]), ("INVALID_ARGUMENT", "page.token:"), said)

    def add_pointers(self, twin):
        """Two LFS pointers on a branch of both repositories."""
        lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"
        actions = [{"kind": "FILE_PUT", "path": "p%d" % n, "content": field(lfs % (b"%064d" % n, n))} for n in (1, 2)]
        for path in ("shapes", twin):
            self.server.call("Change/CommitFiles", {
                "repository": {"path": path}, "message": "pointers", "actions": actions,
                "write": {"branch": "lfs", "start": "left", "committer": {"name": "A", "email": "a@example.org", "seconds": 1500000000,
                                                                         "zone": "+0000"}}})

    def test_a_listing_shows_one_tree(self):
        """The pages of a directory are of what it was when the first one was read."""
        path = "moves"
        gitstead_test.Git(self.server.new_token())("push", "-q", self.server.create(path), "refs/heads/main", cwd=self.replica)
        for method, entries in (("Object/ListTree", "entries"), ("Commit/TreeEntries", "entries"), ("Commit/FileList", "paths")):
            before, _ = self.pages(path, method, entries, revision="main")
            first = self.api(path, method, revision="main", page={"limit": 2})
            tip = self.api(path, "Object/Resolve", revision="main")["object"]["oid"]
            self.api(path, "Ref/Update", updates=[{"name": "refs/heads/main", "new_oid": self.rev("main~1")}])
            rest = self.api(path, method, revision="main", page={"token": first["next_page_token"]})
            self.assertEqual(first[entries] + rest[entries], before)
            self.api(path, "Ref/Update", updates=[{"name": "refs/heads/main", "new_oid": tip}])

    def test_far_back(self):
        """A number takes no more than the way to the root, and means the same with a commit-graph and without."""
        path = "long"
        url = self.server.create(path)
        folder = self.scratch()
        git(None, "init", "-q", "--bare", "-b", "main", folder)
        commits = "".join("commit refs/heads/main\nmark :%d\ncommitter A <a@b> %d +0000\ndata 1\nx\n%s\n" % (
            n, 1500000000 + n, "from :%d\n" % (n - 1) if n > 1 else "") for n in range(1, 3001))
        git(folder, "fast-import", "--quiet", "--force", input=commits.encode())
        gitstead_test.Git(self.server.new_token())("push", "-q", url, "main", cwd=folder)
        steps = (1, 31, 32, 33, 64, 1000, 2998, 2999)
        expected = git(folder, "rev-parse", *["main~%d" % n for n in steps]).decode().split()

        def check():
            found = self.api(path, "Commit/Get", revisions=["main~%d" % n for n in steps], message_limit=1)["entries"]
            self.assertEqual([entry["commit"]["oid"] for entry in found], expected)
            for n in (3000, 1000000, 1000000000, 2147483647):
                self.refused(path, "Commit/Get", "NOT_FOUND", "revisions:", "0 parents", revisions=["main~%d" % n])
            self.refused(path, "Commit/Get", "INVALID_ARGUMENT", "revisions:", "too large", revisions=["main~2147483648"])

        check()
        replica = self.server.replica(path)
        git(replica, "commit-graph", "write", "--reachable")
        git(folder, "fast-import", "--quiet", "--force", input=(
            "commit refs/heads/main\ncommitter A <a@b> 1600000000 +0000\ndata 1\ny\nfrom refs/heads/main^0\n\n").encode())
        gitstead_test.Git(self.server.new_token())("push", "-q", url, "main", cwd=folder)
        steps = tuple(n + 1 for n in steps)
        found = self.api(path, "Commit/Get", revisions=["main~%d" % n for n in steps], message_limit=1)["entries"]
        self.assertEqual([entry["commit"]["oid"] for entry in found], expected)
        self.refused(path, "Commit/Get", "NOT_FOUND", "revisions:", "0 parents", revisions=["main~3001"])


# What a call on a repository without this object has to say that it is lost; of all others, each either does so or needs it not.
LOST = {
    "main~1": {method for method in BASE if method.startswith("Diff/") and method != "Diff/Patch"} | {
        "History/List", "History/Count", "History/AheadBehind", "History/IsAncestor", "History/MergeBase", "Blob/List",
        "Blob/LfsPointers", "Object/Size", "Repository/BundleCreate"},
    "main^{tree}": {"Blob/Get", "Blob/GetMany", "Blob/FindLfsPointers", "Commit/Stats", "Commit/TreeEntries", "Commit/FileList", "Diff/Parsed",
                    "Diff/Raw", "Diff/Patch", "Diff/Stats", "Diff/ChangedPaths", "Diff/PatchId", "History/LastForPath",
                    "History/LastForTree", "History/Blame", "Object/ListTree", "Object/Size", "Repository/Attributes",
                    "Repository/SearchNames", "Repository/SearchContent", "Repository/Archive", "Repository/BundleCreate", "Blob/List"},
    "main:dir": {"Commit/FileList", "Repository/SearchNames", "Repository/SearchContent", "Repository/Archive", "Object/Size",
                 "Repository/BundleCreate", "Blob/List"},
    "main:README": {"Blob/Get", "Blob/GetMany", "Blob/FindLfsPointers", "Commit/Stats", "Diff/Parsed", "Diff/Raw", "Diff/PatchId",
                    "History/Blame", "Repository/SearchContent", "Repository/Archive", "Repository/BundleCreate"},
}


class Losses(AskCase):
    """An object that is missing is named with DATA_LOSS by every call that needs it, and by no other one."""

    def setUp(self):
        self.folder = self.scratch()
        shapes(self.folder)

    def without(self, path, oid, damaged=False):
        """A repository that has all but this object, or only what is left of it."""
        self.server.create(path)
        replica = self.server.replica(path)
        objects = git(self.folder, "rev-list", "--objects", "--no-object-names", "--all").decode().split()
        self.assertIn(oid, objects)
        pack = os.path.join(replica, "objects/pack/pack")
        git(self.folder, "pack-objects", "-q", pack, input="".join(one + "\n" for one in objects if one != oid).encode())
        if damaged:
            file = os.path.join(replica, "objects", oid[:2], oid[2:])
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as out:
                out.write(zlib.compress(b"blob 1000000\0")[:-6] + b"\xff" * 20)
        refs = git(self.folder, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
        git(replica, "update-ref", "--stdin", input=b"".join(
            b"create %s %s\n" % tuple(reversed(ref.split(b" "))) for ref in refs if not ref.startswith(oid.encode())))

    def check_all(self, path, oid, needed):
        for method, request in BASE.items():
            if method == "Object/List":
                continue  # for administrators
            with self.subTest(path=path, method=method):
                code, said = self.ask(method, request, path)
                self.assertIn(code, ("OK", "DATA_LOSS"), said)
                if code == "DATA_LOSS":
                    self.assertMentions(said, oid)
                if method in needed:
                    self.assertEqual(code, "DATA_LOSS", said)

    def test_all_calls(self):
        for index, (revision, needed) in enumerate(LOST.items()):
            oid = git(self.folder, "rev-parse", revision).decode().strip()
            self.without("lost%d" % index, oid)
            self.check_all("lost%d" % index, oid, needed)
        self.check_whole()

    def test_what_cannot_be_read(self):
        for index, revision in enumerate(("main^{tree}", "main:README")):
            oid = git(self.folder, "rev-parse", revision).decode().strip()
            self.without("damaged%d" % index, oid, damaged=True)
            self.check_all("damaged%d" % index, oid, LOST[revision])
        self.check_whole()

    def check_whole(self):
        """Another repository goes on."""
        self.without("whole" + self.id().rpartition("_")[2], git(self.folder, "rev-parse", "alike:0").decode().strip())
        for method, request in BASE.items():
            if not CALLS[method]["stream"] and method not in ("Object/List", "Blob/List", "Blob/LfsPointers", "Object/Size"):
                self.assertEqual(self.ask(method, request, "whole" + self.id().rpartition("_")[2])[0], "OK", method)

    def test_a_tag_that_leads_nowhere(self):
        oid = git(self.folder, "rev-parse", "inner").decode().strip()
        self.without("lost-tag", oid)
        for method, name, kind in revision_fields():
            if not CALLS[method]["stream"]:
                request = json.loads(json.dumps(BASE[method]).replace('"main"', '"nested^{commit}"').replace('"main:', '"nested:'))
                if request != BASE[method]:
                    with self.subTest(method=method):
                        code, said = self.ask(method, request, "lost-tag")
                        self.assertEqual(code, "DATA_LOSS", said)
                        self.assertMentions(said, oid)
        # The tag itself is whole; and a bare id that is not there is no loss.
        self.assertEqual(self.ask("Object/Resolve", {"revision": "nested"}, "lost-tag")[1]["object"]["type"], "TAG")
        self.assertEqual(self.ask("Object/Resolve", {"revision": oid}, "lost-tag")[0], "NOT_FOUND")
        self.assertEqual(self.ask("Commit/Get", {"revisions": ["main"]}, "lost-tag")[0], "OK")


if __name__ == "__main__":
    gitstead_test.main()
