# SPDX-License-Identifier: Apache-2.0
"""Searching names and lines: as stock git finds them, and what a pattern may cost."""
import os
import re
import shutil
import sys
import tempfile

import gitstead_test
from git_histories import git, history
from gitstead_test import Git
from test_api_read import ApiCase, raw

# Each would take the C library gigabytes of memory or minutes.
TOO_LARGE = ["((a{1,200}){1,200}){1,200}", "(a{1,255}){1,255}", "(" * 300 + "a" + "+)" * 300, "a{1,255}{1,255}", "(x|y{0,99}){0,99}",
             "([[:alpha:]]{1,50}){1,50}", "(a{,2000})", "(a{2000,})"]
BACK = ["(a*)*\\1*c", "(.*)(.*)\\2\\1c", "x(a)\\1"]
# These are fine: what looks like a repetition or a reference is none.
FINE = ["[0-9a-f]{40}", "line {1,3}1", "[{1,255}]{1,9}", "\\{1,9999\\}", "[[:digit:]{9999}]+", "[]{9999}x]", "[^]{9999}]y", "(lin|oth)+e",
        "\\\\\\{7", "x" * 1000, "(((l+)+)+)+"]


def glob(pattern):
    """The same as a regular expression."""
    return re.compile("".join({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
                              for part in re.split(r"(\*\*|\*|\?)", pattern)).encode(), re.S)


class Search(ApiCase):
    histories = ("odd", "wide", "mixed")

    def names(self, name):
        return git(history(name), "ls-tree", "-r", "-z", "--name-only", "main").split(b"\0")[:-1]

    def test_names_by_patterns(self):
        found_any = 0
        for name in self.histories:
            for patterns, fields in (
                    (["**.c"], {}), (["src/*"], {}), (["src/**"], {"path": "src"}), (["d?9/**/f1.txt", "d00/*/f2*"], {}), (["*"], {}),
                    (["**"], {}), (["README", "z", "-x"], {}), (["**/*.C"], {"ignore_case": True}), (["**r**"], {"text": "e"}),
                    (["caf?.txt", "caf?/**"], {}), (["doc/?.txt", "nothing"], {}), (["*/"], {}), (["**.TXT"], {"text": "F1", "ignore_case": True})):
                with self.subTest(name=name, patterns=patterns):
                    flags = re.I if fields.get("ignore_case") else 0
                    text = fields.get("text", "").encode()
                    expected = [n for n in self.names(name) if any(re.compile(glob(p).pattern, re.S | flags).fullmatch(n) for p in patterns)
                                and (text.lower() in n.lower() if flags else text in n) and n.startswith(fields.get("path", "").encode())]
                    path = fields.get("path")
                    if path and not any(n.startswith(path.encode() + b"/") for n in self.names(name)):
                        continue
                    found, _ = self.pages(name, "Repository/SearchNames", "paths", 100, revision="main", patterns=patterns, **fields)
                    self.assertEqual([raw(p) for p in found], expected)
                    found_any += bool(expected)
        self.assertGreater(found_any, 15)

    def grep(self, name, arguments, text, paths):
        run = Git().run("-c", "grep.patternType=basic", "grep", "-n", "-z", "-I", "--column", *arguments, "-e", text, "main", "--", *paths,
                        cwd=history(name))
        return [(path, int(line), int(column), text[:4096])
                for path, line, column, text in re.findall(rb"main:([^\0]*)\0(\d+)\0(\d+)\0([^\n]*)\n", run.stdout)]

    def test_lines_with_those_around(self):
        for name, text, fields, arguments in (
                ("odd", "line 1", {"context": 2}, ["-F"]), ("odd", "of the file$", {"regular_expression": True, "context": 1, "paths": ["src", "lib"]}, ["-E"]),
                ("odd", "large|changed|^q", {"regular_expression": True, "context": 20}, ["-E"]), ("odd", "no newline", {"context": 3}, ["-F"]),
                ("odd", "line 29999", {"context": 5}, ["-F"]), ("odd", "xxxx", {"context": 1}, ["-F"]),
                ("mixed", "line 3", {"context": 4, "max_per_file": 1}, ["-F", "--max-count=1"]), ("wide", "more", {"context": 1}, ["-F"]),
                ("wide", "FILE 1", {"context": 1, "ignore_case": True, "whole_words": True}, ["-F", "-i", "-w"]),
                ("mixed", "lin[a-f]", {"regular_expression": True, "whole_words": True}, ["-E", "-w"]),
                ("mixed", "line", {"whole_words": True}, ["-F", "-w"])):
            with self.subTest(name=name, text=text):
                expected = self.grep(name, arguments, text, fields.get("paths", []))
                found, _ = self.pages(name, "Repository/SearchContent", "matches", revision="main", text=text, **fields)
                self.assertEqual([(raw(m["path"]), m["line"], m["column"], raw(m["text"])) for m in found], expected)
                self.assertTrue(expected)
                files = {path: git(history(name), "cat-file", "blob", b"main:" + path).split(b"\n") for path in {e[0] for e in expected}}
                context = fields.get("context", 0)
                for match in found:
                    lines = files[raw(match["path"])]
                    lines = lines[:-1] if lines[-1] == b"" else lines
                    at = match["line"] - 1
                    self.assertEqual([raw(line) for line in match["before"]], [line[:1024] for line in lines[max(0, at - context):at]])
                    self.assertEqual([raw(line) for line in match["after"]], [line[:1024] for line in lines[at + 1:at + 1 + context]])

    def test_long_paths(self):
        """A path that is longer than a line may be is not cut."""
        folders = b"/".join(b"%0200d" % n for n in range(21)) + b"/"
        paths = [folders + name for name in (b"a", b"b")]
        self.assertGreater(len(paths[0]), 4100)
        self.server.create("long")
        replica = self.server.replica("long")
        stream = b"".join(b"commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 1\nx\n" if n == 0 else b"" +
                          b"M 100644 inline %s\ndata 12\none\ntwo\nmore\n" % path for n, path in [(0, b"")] + [(1, path) for path in paths])
        git(replica, "fast-import", "--quiet", input=stream)
        found, _ = self.pages("long", "Repository/SearchContent", "matches", revision="main", text="two", context=1)
        self.assertEqual([(raw(m["path"]), m["line"], m["before"], m["after"]) for m in found], [(path, 2, ["one"], ["more"]) for path in paths])

    def test_pages_of_lines(self):
        whole, _ = self.pages("odd", "Repository/SearchContent", "matches", revision="main", text="line 2", context=20)
        self.assertGreater(len(whole), 5000)
        some, count = self.pages("odd", "Repository/SearchContent", "matches", 90, revision="main", text="line 2999", context=20)
        self.assertEqual([m for m in whole if "line 2999" in m["text"]], some)
        self.assertLess(count, 5)

    def test_what_a_pattern_may_cost(self):
        for pattern, mention in [(p, "too large") for p in TOO_LARGE] + [(p, "refer back") for p in BACK]:
            self.refused("odd", "Repository/SearchContent", "INVALID_ARGUMENT", "text", mention, revision="main", text=pattern,
                         regular_expression=True)
            for field in ("author", "committer", "message"):
                self.refused("odd", "History/List", "INVALID_ARGUMENT", "range." + field, mention,
                             range={"regex": True, field: [pattern]})
            # As a text it is one like any other.
            self.api("odd", "Repository/SearchContent", revision="main", text=pattern)
            self.api("odd", "History/List", range={"message": [pattern]})
        for pattern in ("a(", "v1.0^{}"):
            for field in ("author", "committer", "message"):
                self.refused("odd", "History/List", "INVALID_ARGUMENT", "not understood", pattern, range={"regex": True, field: [pattern]})
        for pattern in FINE:
            found, _ = self.pages("mixed", "Repository/SearchContent", "matches", revision="main", text=pattern, regular_expression=True)
            self.assertEqual([(raw(m["path"]), m["line"], m["column"], raw(m["text"])) for m in found],
                             self.grep("mixed", ["-E"], pattern, []), pattern)

    def test_bad_input(self):
        for method, fields, mention in (
                ("Repository/SearchNames", {}, "text"), ("Repository/SearchNames", {"patterns": [""]}, "patterns"),
                ("Repository/SearchNames", {"patterns": ["a***"]}, "patterns"), ("Repository/SearchNames", {"patterns": ["[a]"]}, "patterns"),
                ("Repository/SearchNames", {"patterns": ["a\\b"]}, "patterns"), ("Repository/SearchNames", {"patterns": ["x" * 201]}, "patterns"),
                ("Repository/SearchNames", {"patterns": ["x"] * 21}, "patterns"),
                ("Repository/SearchContent", {"text": "x", "context": 21}, "context"),
                ("Repository/SearchContent", {"text": "x", "context": -1}, "context"),
                ("Repository/SearchContent", {"text": "[[:foo:]]", "regular_expression": True}, "text")):
            self.refused("odd", method, "INVALID_ARGUMENT", mention, revision="main", **fields)


class Skips(ApiCase):
    """A token says how much came before its page; a client may have changed that. Nothing before the page is kept."""
    histories = ("wide",)
    LINES = 400000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        work = tempfile.mkdtemp(prefix="gitstead-skips-")
        cls.addClassCleanup(shutil.rmtree, work, ignore_errors=True)
        git(None, "init", "-q", "-b", "main", work)
        with open(os.path.join(work, "lines"), "w") as out:
            out.write("e\n" * cls.LINES)
        git(work, "add", ".")
        git(work, "commit", "-q", "-m", "Lines")
        Git(cls.server.new_token())("push", "-q", cls.server.create("lines"), "main", cwd=work)

    def token(self, name, method, skip, **fields):
        """The first page's token, with another number of entries before its page."""
        token = self.api(name, method, page={"limit": 1}, **fields)["next_page_token"]
        return token[:-16] + skip.to_bytes(8, sys.byteorder).hex()

    def check(self, name, method, entries, last, **fields):
        before = self.server.peak_memory()
        for skip in ((1 << 64) - 1, 1 << 40, last + 1):
            reply = self.api(name, method, page={"token": self.token(name, method, skip, **fields)}, **fields)
            self.assertEqual((reply[entries], reply["next_page_token"]), ([], ""))
        found = self.api(name, method, page={"token": self.token(name, method, last, **fields)}, **fields)[entries]
        self.assertEqual(len(found), 1)
        # Each entry that was kept would be 150 bytes and more. A sanitizer keeps what is freed.
        if gitstead_test.SLOW == 1:
            self.assertLess(self.server.peak_memory() - before, 24 << 20)
        return found[0]

    def test_lines(self):
        last = self.check("lines", "Repository/SearchContent", "matches", self.LINES - 1, revision="main", text="e")
        self.assertEqual((last["path"], last["line"], last["text"]), ("lines", self.LINES, "e"))

    def test_changed_paths(self):
        files = git(history("wide"), "ls-tree", "-r", "--name-only", "main~").decode().split("\n")[:-1]
        last = self.check("wide", "Diff/ChangedPaths", "paths", 250 * len(files) - 1, pairs=[{"right": "main~"}] * 250)
        self.assertEqual((last["pair"], last["path"]["new_path"]), (249, files[-1]))

    def test_stats(self):
        files = git(history("wide"), "diff", "--name-only", "main~", "main").decode().split("\n")[:-1]
        last = self.check("wide", "Diff/Stats", "files", len(files) - 1, right="main")
        self.assertEqual((last["new_path"], last["additions"]), (files[-1], 1))


if __name__ == "__main__":
    gitstead_test.main()
