# SPDX-License-Identifier: Apache-2.0
"""Random histories, the same for the same seed, made of objects that are written as they are: whatever git allows can be in them.

`rich(seed)` gives the folder of a bare repository with a hundred commits and all that makes reading hard: files that move, are
copied, change their type and mode, links, submodules, line ends of both kinds and none, binary files, names and messages of
any encoding, attributes in many places, LFS pointers, octopus merges, an empty tree, signed commits and tags, merged tags.

`apart(seed)` gives one for merging: pairs of branches `PAIR/ours` and `PAIR/theirs` that edit the same files at random, with
folders that move, files in the way of folders, and the same done on both sides; some of them with several merge bases.
"""
import atexit
import hashlib
import os
import random
import shutil
import struct
import tempfile
import zlib

from git_histories import PGP, SSH, git, lfs

FILE, PROGRAM, LINK, MODULE, FOLDER = 0o100644, 0o100755, 0o120000, 0o160000, 0o040000
X509 = b"-----BEGIN SIGNED MESSAGE-----\nMIIBmade\n-----END SIGNED MESSAGE-----\n"
PEOPLE = (b"Ada Lovelace <ada@example.org>", b"J\xfcrgen M. <j@example.org>", "Zo\u00eb \u00d6l <z@example.org>".encode(),
          b"Grace <grace@example.org>")
ZONES = (b"+0000", b"+0200", b"-0330", b"+1345")
# Message and headers of commits.
ODD_MESSAGES = [
    (b"", b""), (b"\n\n  \n late subject\n\n\nbody\n\n\n", b""), (b"  \n", b""), (b"one\ntwo\nthree", b""), (b"trailing  \t\n\n\x0cform\x0c\n", b""),
    ("\u00fcber\n".encode(), b"encoding UTF-8\n"), ("\u00fcber\n".encode(), b"encoding utf8\n"), (b"Gr\xfc\xdfe \x80\n", b"encoding CP1252\n"),
    (b"caf\xe9\n", b"encoding ISO-8859-1\n"), (b"caf\xe9\n", b"encoding no-such-thing\n"), (b"broken \xff\n", b"encoding UTF-8\n"),
    (b"# no comment\nScissors\n-- >8 --\nrest\n", b""), (b"[PATCH 1/2] kept: as it is\n\nFrom: x\n", b""), (b"\tindented\n", b"x-other header\n"),
]
_made = {}


class Store:
    """Objects and refs of a repository to be."""

    KINDS = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}

    def __init__(self):
        self.objects, self.refs, self.trees = {}, {}, {}

    def add(self, kind, data):
        oid = hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data).hexdigest()
        self.objects[oid] = (kind, data)
        return oid

    def tree(self, files):
        """@files: path -> (mode, id)."""
        below, rows = {}, []
        for path, (mode, oid) in files.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = (mode, oid)
            else:
                rows.append((name, mode, oid))
        rows += [(name, FOLDER, self.tree(inside)) for name, inside in below.items()]
        rows.sort(key=lambda row: row[0] + (b"/" if row[1] == FOLDER else b""))
        return self.add(b"tree", b"".join(b"%o %s\0" % (mode, name) + bytes.fromhex(oid) for name, mode, oid in rows))

    def commit(self, files, parents, message, author, committer, headers=b""):
        tree = self.tree(files)
        oid = self.add(b"commit", b"tree %s\n" % tree.encode() + b"".join(b"parent %s\n" % p.encode() for p in parents)
                       + b"author %s\ncommitter %s\n" % (author, committer) + headers + b"\n" + message)
        self.trees[oid] = dict(files)
        return oid

    def write(self, folder):
        data = struct.pack(">4sII", b"PACK", 2, len(self.objects))
        for kind, content in self.objects.values():
            size, head = len(content), bytearray()
            byte, size = self.KINDS[kind] << 4 | size & 15, size >> 4
            while size:
                head.append(byte | 0x80)
                byte, size = size & 127, size >> 7
            head.append(byte)
            data += bytes(head) + zlib.compress(content, 1)
        git(None, "init", "-q", "--bare", "-b", "main", folder)
        git(folder, "index-pack", "--stdin", input=data + hashlib.sha1(data).digest())
        git(folder, "update-ref", "--stdin", input=b"".join(b"create %s %s\n" % (name, oid.encode())
                                                            for name, oid in self.refs.items()))
        git(folder, "pack-refs", "--all")


class Editor:
    """Edits a set of files at random."""

    def __init__(self, store, dice):
        self.store, self.dice = store, dice

    def lines(self, word, count, end=b"\n", last=True):
        made = [b"%s %d: %s" % (word, n, b"some words that make the line longer") for n in range(count)]
        return end.join(made) + (end if last else b"")

    def blob(self, content):
        return self.store.add(b"blob", content)

    def content(self, entry):
        return self.store.objects[entry[1]][1]

    def file(self, content, mode=FILE):
        return (mode, self.blob(content))

    def start(self, count=40):
        dice, files = self.dice, {}
        for n in range(count):
            name = (b"file%d", b"caf\xe9%d", "Zo\u00eb %d".encode(), b"a b%d", b"tab\t%d", b'qu"ote%d', b"-%d")[n % 7 if n % 3 == 0 else 0] % n
            folder = (b"", b"src/", b"src/deep/", b"lib/", b"doc/en/", b"src/deep/er/")[n % 6]
            if n % 11 == 4:
                data = dice.randbytes(500)
            else:
                data = self.lines(b"of %d" % n, 12 + n, b"\r\n" if n % 5 == 2 else b"\n", n % 4 != 1)
            files[folder + name] = self.file(data, PROGRAM if n % 13 == 5 else FILE)
        files[b"link"] = self.file(b"src/target", LINK)
        files[b"src/link"] = self.file(b"../lib", LINK)
        files[b"vendor/sub"] = (MODULE, "%040x" % (0xabc + dice.randrange(1 << 100)))
        return files

    @staticmethod
    def free(files, path):
        """Neither is it there, nor a file where a folder would have to be, nor a folder in its place."""
        parts = path.split(b"/")
        return path not in files and not any(b"/".join(parts[:n]) in files for n in range(1, len(parts))) and not any(
            other.startswith(path + b"/") for other in files)

    def change_lines(self, entry, word):
        """Some lines of a file are changed, put in or taken away; a binary one becomes another."""
        data, dice = self.content(entry), self.dice
        if b"\0" in data or not data:
            return (entry[0], self.blob(dice.randbytes(400)))
        end = b"\r\n" if b"\r\n" in data else b"\n"
        lines = data.split(end)
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(len(lines) + 1)
            lines[at:at + dice.choice((0, 1, 1, 2))] = [b"%s here %d" % (word, dice.randrange(4)) for _ in range(dice.choice((0, 1, 1, 3)))]
        if dice.random() < 0.05:
            end = b"\n" if end == b"\r\n" else b"\r\n"
        return (entry[0], self.blob(end.join(lines)))

    def edit(self, files, word, which=None):
        """One edit, in place. @word says whose it is."""
        dice = self.dice
        regular = sorted(path for path, (mode, _) in files.items() if mode in (FILE, PROGRAM))
        if not regular:
            files[b"again/" + word] = self.file(self.lines(word, 9))
            return
        path, what = dice.choice(regular), which or dice.choices(list(self.EDITS), list(self.EDITS.values()))[0]
        getattr(self, "do_" + what)(files, path, word)

    EDITS = {"lines": 40, "move": 9, "move_edited": 5, "move_folder": 4, "copy": 4, "delete": 6, "add": 8, "mode": 4, "link": 2, "type": 2,
             "module": 3, "folder_for_file": 2, "file_for_folder": 1, "ends": 2, "binary": 2, "empty": 1}

    def do_lines(self, files, path, word):
        files[path] = self.change_lines(files[path], word)

    def target(self, path, word):
        name = path.rsplit(b"/", 1)[-1]
        return self.dice.choice((b"moved/", b"lib/", b"src/deep/", b"")) + self.dice.choice((name, b"%s-%d" % (word, self.dice.randrange(5))))

    def do_move(self, files, path, word):
        target = self.target(path, word)
        if self.free({p: e for p, e in files.items() if p != path}, target):
            files[target] = files.pop(path)

    def do_move_edited(self, files, path, word):
        files[path] = self.change_lines(files[path], word)
        self.do_move(files, path, word)

    def do_move_folder(self, files, path, word):
        folder = path.rpartition(b"/")[0]
        target = self.dice.choice((b"new-%s" % word, b"other", b"lib/inner", b"x/y"))
        if not folder or target == folder or target.startswith(folder + b"/"):
            return
        for one in [p for p in files if p.startswith(folder + b"/")]:
            to = target + one[len(folder):]
            if self.free({p: e for p, e in files.items() if p != one}, to):
                files[to] = files.pop(one)

    def do_copy(self, files, path, word):
        target = self.target(path, word)
        if self.free(files, target):
            files[target] = files[path]

    def do_delete(self, files, path, word):
        del files[path]

    def do_add(self, files, path, word):
        folder = path.rpartition(b"/")[0]
        target = (folder + b"/" if folder else b"") + b"new%d" % self.dice.randrange(6)
        if self.free(files, target):
            files[target] = self.file(self.lines(word, 5 + self.dice.randrange(3)))

    def do_mode(self, files, path, word):
        files[path] = (FILE if files[path][0] == PROGRAM else PROGRAM, files[path][1])

    def do_link(self, files, path, word):
        files[b"link"] = self.file(b"to/%s/%d" % (word, self.dice.randrange(3)), LINK) if self.free(files, b"link") or \
            files.get(b"link", (0,))[0] == LINK else files[b"link"]

    def do_type(self, files, path, word):
        files[path] = self.file(b"a link of %s" % word, LINK)

    def do_module(self, files, path, word):
        if files.get(b"vendor/sub", (MODULE,))[0] == MODULE and not any(p.startswith(b"vendor/sub/") for p in files):
            files[b"vendor/sub"] = (MODULE, "%040x" % (0xdef + self.dice.randrange(1 << 100)))

    def do_folder_for_file(self, files, path, word):
        entry = files.pop(path)
        files[path + b"/inside-" + word] = entry

    def do_file_for_folder(self, files, path, word):
        folder = path.rpartition(b"/")[0]
        if folder:
            for one in [p for p in files if p.startswith(folder + b"/")]:
                del files[one]
            files[folder] = self.file(self.lines(word, 7))

    def do_ends(self, files, path, word):
        data = self.content(files[path])
        if b"\0" not in data:
            files[path] = (files[path][0], self.blob(data.replace(b"\r\n", b"\n") if b"\r\n" in data else data.replace(b"\n", b"\r\n")))

    def do_binary(self, files, path, word):
        files[path] = (files[path][0], self.blob(b"\0" + self.dice.randbytes(300)))

    def do_empty(self, files, path, word):
        files[path] = (files[path][0], self.blob(b""))


class Maker:
    def __init__(self, seed):
        self.store, self.dice = Store(), random.Random(seed)
        self.editor, self.time, self.number = Editor(self.store, self.dice), 1_450_000_000 + seed * 1000, 0

    def person(self):
        return self.dice.choice(PEOPLE)

    def save(self, files, parents, message=None, author=None, headers=b""):
        self.time += self.dice.randrange(30, 4000)
        self.number += 1
        author = author or self.person()
        if message is None:
            message = self.dice.choice((b"Change %d\n", b"Mend %d\n\nWith a body,\nof some lines.\n", b"Subject of\ntwo lines %d\n\nBody\n",
                                        b"no end %d", b"Step %d\n\nSigned-off-by: A <a@example.org>\n")) % self.number
        if b"J\xfcrgen" in author and not headers:
            headers = b"encoding ISO-8859-1\n"
            message = b"Gr\xfc\xdfe: " + message
        return self.store.commit(files, parents, message, b"%s %d %s" % (author, self.time - 40, self.dice.choice(ZONES)),
                                 b"%s %d %s" % (PEOPLE[self.number % 2 * 3], self.time, self.dice.choice(ZONES)), headers)

    def sign(self, files, parents, kind, signature):
        """A signed commit; the signature is made up."""
        return self.save(files, parents, b"Signed %s\n" % kind, PEOPLE[0],
                         b"gpgsig " + signature.rstrip(b"\n").replace(b"\n", b"\n ") + b"\n")

    def tag(self, name, target, kind, message, tagger=PEOPLE[3]):
        self.time += 60
        head = b"object %s\ntype %s\ntag %s\n" % (target.encode(), kind, name)
        if tagger:
            head += b"tagger %s %d +0100\n" % (tagger, self.time)
        self.store.refs[b"refs/tags/" + name] = oid = self.store.add(b"tag", head + b"\n" + message)
        return oid


def rich_files(editor):
    files = editor.start()
    files.update({
        b".gitattributes": editor.file(b"* text=auto\n*.c diff=c\n*.bin binary\nsecret export-ignore\nid.txt export-subst\n"),
        b"src/.gitattributes": editor.file(b"file* -text whitespace=tab\nlink !text\n"),
        b"doc/en/.gitattributes": editor.file(b"* linguist-documentation\n*.md linguist-language=Markdown\n"),
        b"secret": editor.file(b"not for the archive\n"), b"id.txt": editor.file(b"$Format:%H %s$\n"),
        b"empty": editor.file(b""), b"a.bin": editor.file(bytes(range(200)) * 3), b"doc/en/x.md": editor.file(b"# x\n"),
        b"only/one/way/down/y": editor.file(b"y\n"),
        b"media/one": editor.file(lfs(b"%02x" % editor.dice.randrange(256) * 32, 77 + editor.dice.randrange(10**6))),
        b"media/two": editor.file(lfs(b"%02x" % editor.dice.randrange(256) * 32, 5)),
        b"media/not": editor.file(b"version https://git-lfs.github.com/spec/v1\nbut no pointer\n")})
    return files


def rich_step(maker, tips):
    """One more commit on one of the lines; sometimes a merge of some, sometimes a new line."""
    dice, store = maker.dice, maker.store
    roll, names = dice.random(), sorted(tips)
    line = dice.choice(names)
    if roll < 0.10 and len(names) < 6:
        tips[b"line%d" % len(names)] = tips[line]
        return
    files, parents = dict(store.trees[tips[line]]), [tips[line]]
    if roll > 0.86 and len(names) > 1:
        for other in dice.sample(names, min(len(names), dice.choice((1, 1, 2, 3)))):
            if tips[other] not in parents:
                parents.append(tips[other])
                for path, entry in store.trees[tips[other]].items():
                    if maker.editor.free(files, path) and dice.random() < 0.5:
                        files[path] = entry
    if dice.random() < 0.9:
        for _ in range(dice.choice((1, 1, 2, 4))):
            maker.editor.edit(files, line)
    if dice.random() < 0.15:
        files[b"media/%d" % dice.randrange(4)] = maker.editor.file(lfs(b"%02x" % dice.randrange(256) * 32, dice.randrange(10**6)))
    tips[line] = maker.save(files, parents)


def make_rich(folder, seed, commits=110):
    maker = Maker(seed)
    store, dice, files = maker.store, maker.dice, rich_files(maker.editor)
    tips = {b"main": maker.save(files, [], b"Begin\n")}
    for _ in range(commits):
        rich_step(maker, tips)
    main = tips[b"main"]
    files = dict(store.trees[main])
    # An octopus, a merge that names the tag it merged, and signed ones of each kind.
    heads = list(dict.fromkeys(tips.values()))[:5]
    octopus = maker.save(files, heads, b"Octopus\n") if len(heads) > 2 else maker.save(files, heads)
    maker.editor.edit(files, b"last")
    tag = maker.tag(b"v1.9", octopus, b"commit", b"Nine\n\nWith notes.\n" + PGP)
    for kind, signature in ((b"PGP", PGP), (b"SSH", SSH), (b"X509", X509)):
        octopus = maker.sign(files, [octopus], kind, signature)
        store.refs[b"refs/heads/signed/" + kind] = octopus
        maker.editor.edit(files, kind)
    merged = b"mergetag " + store.objects[tag][1].rstrip(b"\n").replace(b"\n", b"\n ") + b"\n"
    octopus = maker.save(files, [octopus, heads[-1]], b"Merge tag 'v1.9'\n", PEOPLE[0], merged)
    for _ in range(5):
        maker.editor.edit(files, b"end")
        octopus = maker.save(files, [octopus])
    tips[b"main"] = octopus
    # Messages of every shape, and what is said of their encoding.
    for message, headers in ODD_MESSAGES:
        files[b"message"] = maker.editor.file(b"of commit %d\n" % maker.number)
        octopus = maker.save(files, [octopus], message, PEOPLE[1 if headers else 0], headers)
    tips[b"odd-messages"] = octopus
    for name, oid in tips.items():
        store.refs[b"refs/heads/" + name] = oid
    store.refs[b"refs/heads/void"] = maker.save({}, [maker.save({b"gone": maker.editor.file(b"gone\n")}, [])], b"Nothing left\n")
    store.refs[b"refs/heads/deep/er/branch"] = dice.choice(heads)
    store.refs["refs/heads/\u00fcber".encode()] = heads[0]
    store.refs[b"refs/merge-requests/7/head"] = heads[-1]
    commits = [oid for oid, (kind, _) in store.objects.items() if kind == b"commit"]
    for n in range(14):
        maker.tag(b"v%d.%d" % (n // 7 + 1, n * 3), dice.choice(commits), b"commit", b"Release %d\n%s" % (n, (b"", PGP, SSH)[n % 3]),
                  None if n == 5 else maker.person())
    for n in range(6):
        store.refs[b"refs/tags/light-%d" % n] = dice.choice(commits)
    maker.tag(b"of-a-tag", tag, b"tag", b"A tag of a tag\n")
    maker.tag(b"of-a-tree", store.tree(files), b"tree", b"A tag of a tree\n")
    store.refs[b"refs/tags/a-blob"] = next(oid for mode, oid in files.values() if mode == FILE)
    store.write(folder)


# What one pair of branches is about; each is tried with every seed.
PAIRS = {
    "lines": ["lines"] * 3, "moves": ["move", "move_edited", "lines"], "folders": ["move_folder", "add", "lines"],
    "added": ["add", "add", "copy"], "gone": ["delete", "lines", "lines"], "modes": ["mode", "lines", "type"],
    "in-the-way": ["folder_for_file", "file_for_folder", "lines", "add"], "modules": ["module", "link", "lines"],
    "ends": ["ends", "lines", "empty"], "binary": ["binary", "lines", "move"], "any": None, "more": None, "crossed": None,
}


def make_apart(folder, seed):
    maker = Maker(seed)
    store, dice, editor = maker.store, maker.dice, maker.editor
    for pair, edits in PAIRS.items():
        base = editor.start(dice.choice((12, 24, 40)))
        root = maker.save(base, [], b"Root of %s\n" % pair.encode())
        sides = {b"ours": root, b"theirs": root}

        def step(side, count):
            files = dict(store.trees[sides[side]])
            for _ in range(count):
                # Often in the same places, or nothing would meet.
                editor.edit(files, side, dice.choice(edits) if edits else None)
            sides[side] = maker.save(files, [sides[side]])

        for n in range(dice.choice((1, 2, 3))):
            step(b"ours", dice.choice((1, 2, 3)))
            step(b"theirs", dice.choice((1, 2, 3)))
            if dice.random() < 0.3:  # the same on both sides
                for side in sides:
                    files = dict(store.trees[sides[side]])
                    files[b"both/%d" % n] = editor.file(b"the same on both sides\n")
                    sides[side] = maker.save(files, [sides[side]])
            if pair == "crossed" and n == 0:
                ours, theirs = sides[b"ours"], sides[b"theirs"]
                files = dict(store.trees[theirs])
                sides[b"ours"] = maker.save(dict(store.trees[ours]), [ours, theirs])
                sides[b"theirs"] = maker.save(files, [theirs, ours])
        for side, oid in sides.items():
            store.refs[b"refs/heads/%s/%s" % (pair.encode(), side)] = oid
    store.refs[b"refs/heads/main"] = store.refs[b"refs/heads/any/ours"]
    store.write(folder)


def _kept(kind, make, seed):
    if (kind, seed) not in _made:
        scratch = tempfile.mkdtemp(prefix="gitstead-history-")
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        _made[kind, seed] = os.path.join(scratch, "%s%d.git" % (kind, seed))
        make(_made[kind, seed], seed)
    return _made[kind, seed]


def rich(seed):
    return _kept("rich", make_rich, seed)


def apart(seed):
    return _kept("apart", make_apart, seed)
