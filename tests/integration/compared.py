# SPDX-License-Identifier: Apache-2.0
"""Which calls were compared with stock git, and on which histories: kept while the comparisons run, and held against
docs/api/compared.md, the page that says so.

A test says `self.same(history, method, ours, theirs)`. The pair of history and method counts when that call was really made on
that history, both sides are equal, and git had something to say. At the end of each file its part of the page must be what was
counted; every method of the self-description must be in the page with three histories at least, or be one of APART.
GITSTEAD_TEST_WRITE_COMPARED=1 in the environment writes the file's part of the page anew.
"""
import functools
import http.client
import json
import os
import re
import subprocess
import sys
import unittest

import git_histories
import gitstead_test
import rich_histories
from git_histories import git
from gitstead_test import Git
from test_api_read import ApiCase, raw  # noqa: F401

PAGE = os.path.join(gitstead_test.SOURCE, "docs/api/compared.md")
LEAST = 3
# Methods that stock git has no answer of its own for: how they are named, and why.
APART = [
    (r"Server/.*", "about the server itself"),
    (r"Token/.*", "who may come in; git leaves that to the server"),
    (r"Cluster/.*", "about nodes and copies"),
    (r"Node/.*", "between the servers of one cluster; what clients see of it is compared by the other calls"),
    (r"Repository/(Create|Get|Exists|List|Delete|Rename)", "about names of repositories, with nothing of a history in it"),
    (r"Repository/Changes", "the server's own audit log"),
    (r"Repository/Adopt", "takes a repository of stock git's as it lies: what is in it afterwards the other calls tell"),
    (r"Repository/(Config|Hooks)(Get|Set)", "settings of the server's own, kept with the repository and not in git's files"),
    (r"Pool/Info", "which repositories are linked is the server's own knowledge"),
]
counted = {}  # method -> {history: how often}


def folder_of(name):
    """The bare repository of a history by its name; "rich3" and "apart3" are those of seed 3."""
    match = re.fullmatch(r"(rich|apart)(\d+)", name)
    if match:
        return getattr(rich_histories, match[1])(int(match[2]))
    return git_histories.history(name)


def says_something(answer):
    """Is there anything in what git said?"""
    if isinstance(answer, dict):
        return any(says_something(value) for value in answer.values())
    if isinstance(answer, (list, tuple, set)):
        return any(says_something(value) for value in answer)
    return bool(answer)


def each(test):
    """A test that is made of each history of its class."""
    @functools.wraps(test)
    def run(self):
        for name in self.histories:
            with self.subTest(history=name):
                test(self, name)
    return run


class Objects:
    """One `git cat-file --batch` for many questions."""

    def __init__(self, folder):
        self.process = subprocess.Popen(["git", "cat-file", "--batch"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=gitstead_test.clean_environment())

    def read(self, revision):
        """(id, type, content) of a revision, which must have no line break in it."""
        self.process.stdin.write((revision if isinstance(revision, bytes) else revision.encode()) + b"\n")
        self.process.stdin.flush()
        head = self.process.stdout.readline().split()
        assert len(head) == 3, (revision, head)
        data = self.process.stdout.read(int(head[2]) + 1)[:-1]
        return head[0].decode(), head[1].decode(), data

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class ComparedCase(ApiCase):
    """A server with the histories in it, and an administrator's token."""
    histories = ("odd", "plain", "rich1", "rich2")

    @classmethod
    def setUpClass(cls):
        cls.called, cls.readers, cls.connection = set(), {}, None
        super().setUpClass()
        cls.server.token = cls.server.new_token("admin")
        for name in cls.histories:
            if name != "odd":
                cls.server.call("Ref/SetDefaultBranch", {"repository": {"path": name}, "branch": "main"})

    @classmethod
    def tearDownClass(cls):
        for reader in cls.readers.values():
            reader.close()
        super().tearDownClass()

    @classmethod
    def fill(cls, name, url, token):
        Git(token)("push", "-q", url, "+refs/*:refs/*", cwd=folder_of(name))

    def objects(self, name):
        if name not in self.readers:
            self.readers[name] = Objects(folder_of(name))
        return self.readers[name]

    def post(self, repository, method, fields):
        self.called.add((repository, method))
        try:
            return super().post(repository, method, fields)
        except (http.client.RemoteDisconnected, ConnectionResetError):
            type(self).connection = None  # it was idle too long
            return super().post(repository, method, fields)

    def stream(self, repository, method, /, **fields):
        self.called.add((repository, method))
        return super().stream(repository, method, **fields)

    def stock(self, name, *arguments, input=None):
        return git(folder_of(name), *arguments, input=input)

    def lines(self, name, *arguments, input=None):
        return self.stock(name, *arguments, input=input).decode(errors="surrogateescape").splitlines()

    def commits(self, name):
        return self.lines(name, "rev-list", "--all")

    def same(self, name, method, ours, theirs, about=""):
        """@name's call @method said @ours, and git said @theirs."""
        self.assertIn((name, method), self.called, "the call was never made")
        self.assertEqual(ours, theirs, "%s on %s %s" % (method, name, about))
        if says_something(theirs):
            row = counted.setdefault(method, {})
            row[name] = row.get(name, 0) + 1


# ------------------------------------------------------------------------------------------- the page

HEAD = """# What is compared with stock git

Each call that has an answer of git's own, and the histories on which a test holds the two against each other. The tests write this
page as they run (`GITSTEAD_TEST_WRITE_COMPARED=1`) and fail when it says anything else than what they did; no call may be missing.

| history | has |
|---|---|
| `odd` | merges, an octopus, criss-cross merges, renames, submodules, links, modes, names that are not UTF-8, an empty tree, large files, nested and signed tags |
| `plain` | a few hundred ordinary commits with merges, moves and tags |
| `rich1`, `rich2`, … | a hundred random commits each with all of that, line ends of both kinds, encodings, attributes, LFS pointers, signatures of three kinds |
| `apart1`, `apart2`, … | pairs of branches that edit, move, delete and replace the same files and folders |
| `wide` | thousands of refs and folders |
| `mixed` | 1,500 random commits on many lines, 500 refs |

The suite `slow` asks `History`, `Commit`, `Diff`, `Ref` and `Change` on 50,000 commits and 10,000 refs, too, and merges with more seeds.

"""


def read_page():
    """File -> {method: histories}, as the page has it."""
    found, part = {}, None
    if not os.path.exists(PAGE):
        return found
    with open(PAGE, encoding="utf-8") as page:
        for line in page:
            if line.startswith("## "):
                part = found.setdefault(line.split("`")[1], {}) if "`" in line else None
            match = re.match(r"\| `(\w+/\w+)` \| (.*) \|$", line)
            if match and part is not None:
                part[match[1]] = match[2].split(", ")
    return found


def write_page(parts):
    text = HEAD
    for file in sorted(parts):
        text += "## `%s`\n\n| call | histories |\n|---|---|\n" % file
        text += "".join("| `%s` | %s |\n" % (method, ", ".join(parts[file][method])) for method in sorted(parts[file])) + "\n"
    text += "## Not compared\n\n| calls | why |\n|---|---|\n"
    for pattern, why in APART:
        text += "| %s | %s |\n" % (", ".join("`%s`" % one for one in spelled(pattern)), why)
    with open(PAGE, "w", encoding="utf-8") as page:
        page.write(text)


def spelled(pattern):
    """A pattern of APART as people write it."""
    names = [pattern.replace(".*", "…")]
    while any("(" in name for name in names):
        split = [re.match(r"(.*?)\((.*?)\)(.*)", name).groups() for name in names]
        names = [head + one + tail for head, choice, tail in split for one in choice.split("|")]
    return names


class TheMap(gitstead_test.TestCase):
    """Comes last. What was counted is what the page says of this file, and the page has every call."""

    def test_the_page_says_what_was_compared(self):
        file = os.path.basename(sys.argv[0])
        mine = {method: sorted(row) for method, row in counted.items()}
        for method in sorted(counted):
            print("# %s: %s" % (method, ", ".join("%s %d times" % pair for pair in sorted(counted[method].items()))), flush=True)
        parts = read_page()
        if os.environ.get("GITSTEAD_TEST_WRITE_COMPARED"):
            parts[file] = mine
            write_page(parts)
        self.assertEqual(parts.get(file), mine, "write docs/api/compared.md anew: GITSTEAD_TEST_WRITE_COMPARED=1 %s" % sys.argv[0])
        few = {method: row for method, row in mine.items() if len(row) < LEAST}
        self.assertEqual(few, {}, "compared on less than %d histories" % LEAST)

    def test_no_call_is_missing(self):
        server = gitstead_test.Server()
        self.addCleanup(server.clean)
        server.start()
        known = {method["name"] for method in server.call("Server/Methods")["methods"]}
        listed = {method for part in read_page().values() for method in part}
        apart = {name for name in known if any(re.fullmatch(pattern, name) for pattern, _ in APART)}
        self.assertEqual(sorted(known - listed - apart), [], "no comparison with stock git, and no reason why not")
        self.assertEqual(sorted(listed - known), [], "no such call")
        self.assertEqual(sorted(listed & apart), [], "compared, and said not to be")
        for pattern, _ in APART:
            self.assertTrue(any(re.fullmatch(pattern, name) for name in known), pattern)


def last(loader, tests, pattern):
    """For load_tests of a module: all of its own tests, then the map when no single ones are asked for."""
    del pattern
    suite = unittest.TestSuite(tests)
    suite.addTests(loader.loadTestsFromTestCase(TheMap))
    return suite
