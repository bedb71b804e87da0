# SPDX-License-Identifier: Apache-2.0
"""Histories that hold what real ones hold, for tests that compare calls with stock git.

`history(name)` gives the folder of a bare repository, made once per process and removed at its end. Names:

  odd    what is rare but legal: merges, an octopus, criss-cross merges, renames, copies, submodules, links, changes of
         mode and of type, names and messages that are not UTF-8, an empty tree, empty commits, odd people, binary and large
         files, no newline at an end, annotated, nested and signed tags, signed commits, LFS pointers, attributes
  plain  scripts/make-history: a few hundred ordinary commits with merges, moves and tags
  wide   many small directories and files, and a few thousand refs
  mixed  1,500 random commits with all that is odd in between, and 500 refs
  long   the same with 50,000 commits and 10,000 refs

All are the same every time: dates and people are fixed. Signatures are made up; nobody here has keys.
"""
import atexit
import os
import random
import shutil
import subprocess
import tempfile

import gitstead_test

_made = {}

PGP = b"-----BEGIN PGP SIGNATURE-----\n\niQEzBAABCAAdFiEE\n=made\n-----END PGP SIGNATURE-----\n"
SSH = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"


def git(folder, *arguments, input=None):
    """Runs stock git in @folder, bytes in and out."""
    result = subprocess.run(["git"] + [a if isinstance(a, bytes) else str(a) for a in arguments],
                            cwd=folder or gitstead_test.Git.nowhere(), input=input,
                            stdin=subprocess.DEVNULL if input is None else None, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=gitstead_test.clean_environment())
    if result.returncode != 0:
        raise AssertionError("git %s: %s" % (arguments, result.stderr.decode(errors="replace")))
    return result.stdout


class Builder:
    """Commits through fast-import, so that any bytes can be anywhere."""

    def __init__(self, folder):
        self.folder = folder
        git(None, "init", "-q", "--bare", "-b", "main", folder)
        self.stream = []
        self.marks = 0
        self.time = 1_500_000_000

    def blob(self, content):
        self.marks += 1
        self.stream.append(b"blob\nmark :%d\ndata %d\n%s\n" % (self.marks, len(content), content))
        return self.marks

    def commit(self, branch, message, changes=(), parents=(), person=b"Ada Lovelace <ada@example.org>", zone=b"+0200",
               encoding=None, fresh=False):
        """@changes: (path, mode, content), (path, None, None) deletes; mode 160000 takes an id. Gives the mark."""
        self.time += 1234
        files = [(path, mode, content if mode in (None, b"160000") else self.blob(content))
                 for path, mode, content in changes]
        self.marks += 1
        out = [b"commit refs/heads/%s\nmark :%d\n" % (branch, self.marks)]
        if fresh:
            out.insert(0, b"reset refs/heads/%s\n" % branch)
        out.append(b"author %s %d %s\ncommitter Grace Hopper <grace@example.org> %d -0730\n" % (
            person, self.time, zone, self.time + 60))
        if encoding:
            out.append(b"encoding %s\n" % encoding)
        out.append(b"data %d\n%s\n" % (len(message), message))
        for index, parent in enumerate(parents):
            out.append(b"%s :%d\n" % (b"from" if index == 0 else b"merge", parent))
        for path, mode, content in files:
            quoted = b'"' + b"".join(b"\\%03o" % c if c < 32 or c > 126 or c in b'"\\' else bytes([c]) for c in path) + b'"'
            if mode is None:
                out.append(b"D %s\n" % quoted)
            elif mode == b"160000":
                out.append(b"M 160000 %s %s\n" % (content, quoted))
            else:
                out.append(b"M %s :%d %s\n" % (mode, content, quoted))
        self.stream.append(b"".join(out) + b"\n")
        return self.marks

    def tag(self, name, mark, message):
        self.stream.append(b"tag %s\nfrom :%d\ntagger Barbara <barbara@example.org> %d +0000\ndata %d\n%s\n" % (
            name, mark, self.time + 90, len(message), message))

    def done(self):
        git(self.folder, "fast-import", "--quiet", "--date-format=raw", "--force", input=b"".join(self.stream))

    def object(self, kind, content):
        """Writes an object as it is. Gives its id."""
        return git(self.folder, "hash-object", "-t", kind, "-w", "--literally", "--stdin", input=content).decode().strip()

    def id(self, revision):
        return git(self.folder, "rev-parse", "--verify", revision).decode().strip()


def lines(start, count, word="line"):
    return b"".join(b"%s %d of the file\n" % (word.encode(), n) for n in range(start, start + count))


def lfs(sha, size):
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (sha, size)


def odd(folder):
    b = Builder(folder)
    plain, run, link = b"100644", b"100755", b"120000"
    root = b.commit(b"main", b"Begin\n\nWith a body.\n", [
        (b"README", plain, b"Hello\n"), (b"src/a.c", plain, lines(1, 40)), (b"src/b.c", plain, lines(100, 40, "other")),
        (b"src/deep/er/and/deeper/x", plain, b"x\n"), (b"only/one/way/down/y", plain, b"y\n"),
        (b"bin/tool", run, b"#!/bin/sh\n"), (b"link", link, b"src/a.c"), (b".gitattributes", plain,
         b"*.c diff=c text\n*.bin binary\ndocs/** -text\nskip.txt export-ignore\n"),
        (b"src/.gitattributes", plain, b"b.c linguist-language=C\n"), (b"skip.txt", plain, b"not exported\n"),
        (b"data.bin", plain, bytes(range(256)) * 8), (b"no-newline", plain, b"no newline at the end"),
        (b"empty", plain, b"")])
    names = b.commit(b"main", b"Names that are not text", [
        (b"caf\xe9.txt", plain, b"latin\n"), ("Zo\u00eb.txt".encode(), plain, b"utf-8\n"), (b'qu"ote\\.txt', plain, b"q\n"),
        (b"tab\there", plain, b"t\n"), (b"new\nline", plain, b"n\n"), (b" spaces ", plain, b"s\n"),
        (b"-dash", plain, b"d\n"), (b"a b/c d", plain, b"e\n"), (b":colon", plain, b"c\n"), (b"[glob]*?", plain, b"g\n")],
        [root])
    latin = b.commit(b"main", b"Gr\xfc\xdfe\n", [(b"README", plain, b"Hello\nworld\n")], [names], encoding=b"ISO-8859-1",
                     person=b"J\xfcrgen <j@example.org>", zone=b"-0000")
    moved = b.commit(b"main", b"Move and edit\n", [
        (b"src/a.c", None, None), (b"lib/a.c", plain, lines(1, 38) + b"changed\n" + lines(40, 1)),
        (b"src/b2.c", plain, lines(100, 40, "other"))], [latin])
    modes = b.commit(b"main", b"Modes and types\n", [
        (b"bin/tool", plain, b"#!/bin/sh\n"), (b"README", link, b"lib/a.c"), (b"link", plain, b"now a file\n"),
        (b"sub", b"160000", b"1234567890123456789012345678901234567890"), (b"data.bin", plain, bytes(range(255)) * 9)],
        [moved])
    space = b.commit(b"main", b"White space only\n", [(b"src/b.c", plain, lines(100, 40, "other").replace(b" of", b"   of"))],
                     [modes])
    side1 = b.commit(b"side1", b"One side\n", [(b"one", plain, b"1\n"), (b"lib/a.c", plain, b"top\n" + lines(1, 38))],
                     [moved], fresh=True)
    side2 = b.commit(b"side2", b"Other side\n", [(b"two", plain, b"2\n")], [latin], fresh=True)
    side3 = b.commit(b"side3", b"Third side\n", [(b"three", plain, b"3\n"), (b"sub", b"160000", b"ab" * 20)], [names],
                     fresh=True)
    octopus = b.commit(b"main", b"Octopus\n", [(b"one", plain, b"1\n"), (b"two", plain, b"2\n"), (b"three", plain, b"3\n")],
                       [space, side1, side2, side3])
    cross1 = b.commit(b"cross1", b"Cross 1\n", [(b"x1", plain, b"1\n")], [octopus], fresh=True)
    cross2 = b.commit(b"cross2", b"Cross 2\n", [(b"x2", plain, b"2\n")], [octopus], fresh=True)
    merge1 = b.commit(b"cross1", b"Merge 2 into 1\n", [(b"x2", plain, b"2\n")], [cross1, cross2])
    b.commit(b"cross2", b"Merge 1 into 2\n", [(b"x1", plain, b"1\n")], [cross2, cross1])
    no_change = b.commit(b"main", b"Nothing changed\n", [], [octopus])
    big = b.commit(b"main", b"Large\n", [
        (b"large.txt", plain, lines(0, 30000)), (b"minified.js", plain, b"x" * 300000 + b"\n"),
        (b"media/a.png", plain, lfs(b"a1" * 32, 12345)), (b"media/b.png", plain, lfs(b"b2" * 32, 99)),
        (b"media/not.png", plain, b"version https://git-lfs.github.com/spec/v1\nno pointer\n" + b"." * 100)], [no_change])
    b.commit(b"main", b"subject only", [(b"media/b.png", plain, lfs(b"b3" * 32, 100)), (b"only/one/way/down/y", None, None),
                                        (b"only/one/way/up", plain, b"u\n"), (b"x1", plain, b"1\n"), (b"x2", plain, b"2\n")],
             [big, merge1])
    b.commit(b"orphan", b"Another root\n", [(b"o", plain, b"o\n")], fresh=True)
    empty = b.commit(b"void", b"Nothing at all\n", [(b"gone", plain, b"gone\n")], fresh=True)
    b.commit(b"void", b"Empty tree\n", [(b"gone", None, None)], [empty])
    b.commit(b"feature/with/slashes", b"", [(b"s", plain, b"s\n")], [root], person=b" <>", fresh=True)
    b.tag(b"v1.0", root, b"First release\n\nWith notes.\n")
    b.tag(b"v1.2", moved, b"Second release\n")
    b.tag(b"v1.10", octopus, b"")
    b.done()
    head = b.id("main")
    tree = b.id("main^{tree}")
    person = b"Ada <ada@example.org> 1500100000 +0100"

    def signed(signature, message):
        body = b"gpgsig " + signature.rstrip(b"\n").replace(b"\n", b"\n ") + b"\n"
        return b.object("commit", b"tree %s\nparent %s\nauthor %s\ncommitter %s\n%s\n%s" % (
            tree.encode(), head.encode(), person, person, body, message))

    signed_commit = signed(PGP, b"Signed\n")
    git(folder, "update-ref", "refs/heads/signed", signed_commit)
    git(folder, "update-ref", "refs/heads/signed-ssh", signed(SSH, b"Signed with SSH\n"))
    signed_tag = b.object("tag", b"object %s\ntype commit\ntag v2.0\ntagger %s\n\nSigned tag\n%s" % (
        signed_commit.encode(), person, PGP))
    git(folder, "update-ref", "refs/tags/v2.0", signed_tag)
    nested = b.object("tag", b"object %s\ntype tag\ntag nested\ntagger %s\n\nA tag of a tag\n" % (signed_tag.encode(), person))
    git(folder, "update-ref", "refs/tags/nested", nested)
    git(folder, "update-ref", "refs/tags/a-tree", b.object("tag", b"object %s\ntype tree\ntag a-tree\n\nno tagger\n" % tree.encode()))
    git(folder, "tag", "light", "main~2")
    git(folder, "tag", "a-blob", "main:README")
    git(folder, "update-ref", "refs/merge-requests/1/head", "side1")
    git(folder, "repack", "-adq")
    git(folder, "pack-refs", "--all")


def plain(folder):
    work = folder + ".work"
    gitstead_test.make_history(work, commits=300, tags=20, branches=10)
    git(None, "clone", "-q", "--mirror", work, folder)
    shutil.rmtree(work)


def wide(folder):
    b = Builder(folder)
    files = [(b"d%02d/s%02d/f%d.txt" % (d, s, f), b"100644", b"file %d\n" % ((d * 7 + s * 3 + f) % 50))
             for d in range(20) for s in range(12) for f in range(6)]
    first = b.commit(b"main", b"Many files\n", files)
    b.commit(b"main", b"Touch many\n", [(path, mode, content + b"more\n") for path, mode, content in files[::5]], [first])
    b.done()
    ids = [b.id("main").encode(), b.id("main~").encode()]
    git(folder, "update-ref", "--stdin", input=b"".join(
        b"create refs/heads/topic/%04d %s\n" % (n, ids[n % 2]) for n in range(2500)))
    git(folder, "pack-refs", "--all")
    git(folder, "repack", "-adq")


class Mixed:
    """Random commits on several lines of history at once, straight into fast-import."""

    NAMES = [b"README", b"src/main.c", b"src/util.c", b"src/deep/er/x.c", b"src/deep/y.c", b"doc/a.txt", b"doc/b.txt", b"caf\xe9/na\xefve",
             b"tab\there", "Zo\u00eb/\u00f6".encode(), b"a b", b"-x", b"lib/one", b"lib/two", b"lib/three/four", b"z"]

    def __init__(self, folder, commits, refs, seed=11):
        self.folder, self.commits, self.refs = folder, commits, refs
        self.dice = random.Random(seed)
        self.tips = {}
        self.files = {}  # line of history -> its paths
        self.time = 1_400_000_000

    @staticmethod
    def quote(path):
        return b'"' + b"".join(b"\\%03o" % c if c < 33 or c > 126 or c in b'"\\' else bytes([c]) for c in path) + b'"'

    def change(self, files, number):
        """One change to @files, as a line for fast-import."""
        roll = self.dice.random()
        path = self.dice.choice(self.NAMES) if roll < 0.9 or not files else self.dice.choice(sorted(files))
        if files and roll < 0.05:
            path = self.dice.choice(sorted(files))
            target = b"moved/%d" % (number % 40)
            target += b"x" if target == path else b""
            files.discard(path)
            files.add(target)
            return b"R %s %s\n" % (self.quote(path), self.quote(target))
        if files and roll < 0.09:
            path = self.dice.choice(sorted(files))
            files.discard(path)
            return b"D %s\n" % self.quote(path)
        files.add(path)
        if roll < 0.11:
            return b"M 160000 %040x %s\n" % (number + 1, self.quote(path))
        mode = b"120000" if roll < 0.13 else b"100755" if roll < 0.17 else b"100644"
        lines = [b"line %d of %d" % (n, number if n == number % 9 else 0) for n in range(9)]
        content = path if mode == b"120000" else b"\n".join(lines) + b"\n"
        return b"M %s inline %s\ndata %d\n%s\n" % (mode, self.quote(path), len(content), content)

    def commit(self, out, number):
        lines = sorted(self.tips)
        line = self.dice.choice(lines) if lines and self.dice.random() > 0.004 else len(lines)
        parents = [self.tips[line]] if line in self.tips else []
        files = self.files.setdefault(line, set())
        roll = self.dice.random()
        if parents and roll < 0.12 and len(lines) > 1:
            others = self.dice.sample(lines, min(len(lines), self.dice.choice((1, 1, 1, 1, 2, 3, 4))))
            parents += [self.tips[other] for other in others if other != line and self.tips[other] not in parents]
        self.time += self.dice.randrange(-600, 1800)
        person = self.dice.choice((b"Ada <ada@example.org>", b"J\xfcrgen <j@example.org>", "Zo\u00eb <z@example.org>".encode(), b" <>"))
        message = self.dice.choice((b"Change %d\n", b"Mend %d\n\nWith a body.\n", b"Gr\xfc\xdfe %d\n", b"no end %d")) % number
        out.append(b"commit refs/heads/line/%d\nmark :%d\nauthor %s %d +0200\ncommitter C <c@example.org> %d -0330\ndata %d\n%s\n" % (
            line, number, person, self.time - 5, self.time, len(message), message))
        for index, parent in enumerate(parents):
            out.append(b"%s :%d\n" % (b"from" if index == 0 else b"merge", parent))
        if parents and roll > 0.995:
            out.append(b"deleteall\n")  # an empty tree
            files.clear()
        elif roll < 0.985:  # otherwise nothing changes
            done = set()
            for _ in range(self.dice.choice((1, 1, 2, 3))):
                before = set(files)
                line_of_import = self.change(files, number)
                touched = before ^ files or {line_of_import}
                if touched & done:
                    files.clear()
                    files.update(before)
                    continue
                out.append(line_of_import)
                done |= touched
        out.append(b"\n")
        self.tips[line] = number

    def make(self):
        git(None, "init", "-q", "--bare", "-b", "main", self.folder)
        out = []
        for number in range(1, self.commits + 1):
            self.commit(out, number)
        out.append(b"reset refs/heads/main\nfrom :%d\n\n" % self.tips[0])
        for index in range(self.refs):
            mark = self.dice.randrange(1, self.commits + 1)
            if index % 10 == 0:
                message = b"Release %d\n%s" % (index, PGP if index % 30 == 0 else b"")
                out.append(b"tag v%d.%d\nfrom :%d\ntagger T <t@example.org> %d +0000\ndata %d\n%s\n" % (
                    index // 100, index % 100, mark, self.time + index, len(message), message))
            else:
                name = (b"heads/topic/%05d", b"tags/light/%05d", b"merge-requests/%05d/head")[index % 3] % index
                out.append(b"reset refs/%s\nfrom :%d\n\n" % (name, mark))
        git(self.folder, "fast-import", "--quiet", "--date-format=raw", "--force", input=b"".join(out))
        git(self.folder, "pack-refs", "--all")


def mixed(folder):
    Mixed(folder, 1500, 500).make()


def long(folder):
    Mixed(folder, 50_000, 10_000).make()


def history(name):
    """The folder of that bare repository. Only to be read."""
    if name not in _made:
        scratch = tempfile.mkdtemp(prefix="gitstead-history-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        folder = os.path.join(scratch, name + ".git")
        {"odd": odd, "plain": plain, "wide": wide, "mixed": mixed, "long": long}[name](folder)
        _made[name] = folder
    return _made[name]
