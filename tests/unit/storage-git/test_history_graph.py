#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commit-graph files: damaged ones are told from good ones, new ones are seen, odd repositories are walked as git walks them."""
import glob
import hashlib
import os
import random
import struct
import unittest

from history_fixture import SEED, History, Replica


def read(path):
    with open(path, "rb") as file:
        return file.read()


def sealed(data):
    """With a right checksum: what somebody writes who means it."""
    return data[:-20] + hashlib.sha1(data[:-20]).digest()


def chunks(data):
    rows = [struct.unpack(">4sQ", data[8 + 12 * i: 20 + 12 * i]) for i in range(data[6] + 1)]
    return [(rows[i][0], rows[i][1], rows[i + 1][1]) for i in range(data[6])]


def murmur(data, seed):
    """Murmur3 on bytes as they are: what filters of version 2 are made with."""
    def mix(block):
        block = block * 0xCC9E2D51 & 0xFFFFFFFF
        return (block << 15 | block >> 17) * 0x1B873593 & 0xFFFFFFFF

    value, whole = seed, len(data) // 4 * 4
    for i in range(0, whole, 4):
        value ^= mix(int.from_bytes(data[i: i + 4], "little"))
        value = ((value << 13 | value >> 19) * 5 + 0xE6546B64) & 0xFFFFFFFF
    if data[whole:]:
        value ^= mix(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def bloom(paths, hashes=7, bits_per_entry=10):
    """A filter with these paths in it, as git writes them."""
    size = max(1, (len(paths) * bits_per_entry + 7) // 8)
    bits = bytearray(size)
    for path in paths:
        first, second = murmur(path, 0x293AE76F), murmur(path, 0x7E646E2C)
        for i in range(hashes):
            bit = ((first + i * second) & 0xFFFFFFFF) % (size * 8)
            bits[bit // 8] |= 1 << bit % 8
    return bytes(bits)


class Graphs(unittest.TestCase):
    def replica(self, n=200, skew=False):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(History(SEED, n, skew).stream())
        self.commits = replica.lines("rev-list", "--all")
        return replica

    def answers(self, replica):
        tips = self.commits[::40]
        return (replica.ids(all_refs=True, order="HISTORY_ORDER_TOPO"), replica.ids(all_refs=True, paths=["dir/a"]),
                replica.call("AheadBehind", pairs=[{"left": tips[0], "right": tips[-1]}, {"left": tips[1], "right": tips[2]}]),
                sorted(replica.call("MergeBase", revisions=tips[:2])["oids"]),
                replica.call("RefsContaining", revision=tips[-1])["refs"],
                replica.call("LastForTree", revision=tips[0], ids_only=True)["entries"])

    def put(self, path, data):
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.rename(path + ".new", path)

    def test_damage_is_seen(self):
        """A flipped bit anywhere: the file is left out and the log says so."""
        replica = self.replica()
        replica.make_graph("full")
        path = os.path.join(replica.path, "objects/info/commit-graph")
        os.chmod(path, 0o644)
        good = read(path)
        expected = self.answers(replica)
        r = random.Random(SEED)
        places = [0, 4, 5, 6, 7, 9, len(good) - 1] + [r.randrange(8, 8 + 12 * (good[6] + 1)) for _ in range(8)]
        for _, start, end in chunks(good):
            places += [start, end - 1] + [r.randrange(start, end) for _ in range(4)]
        for number, place in enumerate(places):
            bad = bytearray(good)
            bad[place] ^= 1 << r.randrange(8)
            self.put(path, bytes(bad))
            self.assertEqual(self.answers(replica), expected, "byte %d" % place)
            self.assertEqual(replica.line("@log").count("storage.history.graph-ignored"), number + 1)
        for length in (0, 7, 30, len(good) // 2, len(good) - 1):
            self.put(path, good[:length])
            self.assertEqual(self.answers(replica), expected, "cut to %d" % length)

    def test_nonsense_under_a_right_checksum(self):
        """No crash, no endless walk, nothing read outside of the file, whatever the file says."""
        replica = self.replica()
        r = random.Random(SEED)
        for kind in ("full", "levels"):
            replica.make_graph(kind)
            path = os.path.join(replica.path, "objects/info/commit-graph")
            good = read(path)
            places = [4, 5, 6, 7] + [r.randrange(8, 8 + 12 * (good[6] + 1)) for _ in range(30)]
            for _, start, end in chunks(good):
                places += [r.randrange(start, end) for _ in range(25)]
            for place in places:
                bad = bytearray(good)
                for _ in range(r.choice((1, 1, 4))):
                    bad[min(place + r.randrange(4), len(bad) - 21)] = r.choice((0, 255, 0x70, 0x80, r.randrange(256)))
                self.put(path, sealed(bytes(bad)))
                for method, request in (("List", {"range": {"all_refs": True, "order": "HISTORY_ORDER_TOPO", "paths": ["dir/a"]}}),
                                        ("AheadBehind", {"pairs": [{"left": self.commits[0], "right": self.commits[99]}]}),
                                        ("RefsContaining", {"revision": self.commits[99]}),
                                        ("LastForTree", {"revision": self.commits[0]})):
                    answer = replica.ask(method, **request)
                    self.assertTrue(not isinstance(answer, str) or "DATA_LOSS" in answer or "NOT_FOUND" in answer, answer)

    def test_circles_are_refused(self):
        """A parent of no lower generation, checksum and all the rest right."""
        replica = self.replica()
        replica.make_graph("levels")
        path = os.path.join(replica.path, "objects/info/commit-graph")
        good = read(path)
        expected = self.answers(replica)
        where = {name: start for name, start, _ in chunks(good)}[b"CDAT"]
        for index in (0, 50, 150):
            bad = bytearray(good)
            struct.pack_into(">I", bad, where + 36 * index + 20, index)
            self.put(path, sealed(bytes(bad)))
            self.assertEqual(self.answers(replica), expected)
            self.assertIn("generation is not above", replica.line("@log"))

    def test_broken_chain(self):
        """Layers up to the first bad one are used."""
        replica = self.replica()
        expected = self.answers(replica)
        for broken in range(3):
            replica.make_graph("chain")
            self.assertEqual(self.answers(replica), expected)
            chain = os.path.join(replica.path, "objects/info/commit-graphs/commit-graph-chain")
            names = read(chain).decode().split()
            self.assertEqual(len(names), 3)
            path = os.path.join(replica.path, "objects/info/commit-graphs/graph-%s.graph" % names[broken])
            data = bytearray(read(path))
            data[len(data) // 2] ^= 4
            self.put(path, bytes(data))
            # The chain is written anew, so that it is looked at again; layers already known are not read twice.
            os.utime(chain, ns=(1, 1))
            self.assertEqual(self.answers(replica), expected)
            self.put(chain, ("\n".join(names[::-1]) + "\n").encode())
            self.assertEqual(self.answers(replica), expected)
            self.put(chain, b"no names at all\n" * 9)
            self.assertEqual(self.answers(replica), expected)
        self.assertIn("graph-ignored", replica.line("@log"))

    def test_maintenance_replaces_a_damaged_graph(self):
        replica = self.replica()
        expected = self.answers(replica)
        for kind, place in (("chain", "objects/info/commit-graphs/graph-*.graph"), ("full", "objects/info/commit-graph")):
            replica.make_graph(kind)
            for path in glob.glob(os.path.join(replica.path, place)):
                data = bytearray(read(path))
                # A parent: git itself does not notice until it is asked to verify, and would copy it.
                where = {name: start for name, start, _ in chunks(data)}[b"CDAT"]
                data[where + 23] ^= 1
                self.put(path, sealed(bytes(data)) if kind == "full" else bytes(data))
            self.assertEqual(self.answers(replica), expected)
            before = replica.line("@log").count("graph-ignored")
            self.assertGreater(before, 0)
            self.assertEqual(replica.line("@maintain"), "done")
            self.assertEqual(self.answers(replica), expected)
            self.assertEqual(replica.line("@log").count("graph-ignored"), before)
            replica.git("commit-graph", "verify")
            self.assertTrue(glob.glob(os.path.join(replica.path, "objects/info/commit-graphs/graph-*.graph")))

    def with_filters(self, good, version, filters):
        """The graph with other filters, one for each commit in order of ids."""
        index, data, ends = b"", struct.pack(">III", version, 7, 10), 0
        for each in filters:
            ends += len(each)
            index += struct.pack(">I", ends)
            data += each
        parts = [(name, good[start:end]) for name, start, end in chunks(good) if name not in (b"BIDX", b"BDAT")]
        parts += [(b"BIDX", index), (b"BDAT", data)]
        table, at = b"", 8 + 12 * (len(parts) + 1)
        for name, content in parts:
            table += struct.pack(">4sQ", name, at)
            at += len(content)
        table += struct.pack(">4sQ", b"\0\0\0\0", at)
        head = good[:6] + bytes([len(parts), good[7]])
        return sealed(head + table + b"".join(content for _, content in parts) + bytes(20))

    def changed(self, replica, oid):
        """All paths that a commit changed against its first parent, with their folders."""
        first = replica.lines("rev-list", "--parents", "-1", oid)[1:2]
        out = replica.git("diff-tree", "-r", "-z", "--no-commit-id", "--name-only", *(first or ["--root"]), oid)
        paths = set()
        for path in out.encode(errors="surrogateescape").split(b"\0")[:-1]:
            while path:
                paths.add(path)
                path = path.rpartition(b"/")[0]
        return sorted(paths)

    def test_filters_of_the_second_version(self):
        """This git does not write them. They are believed, and names beyond ASCII are found with them."""
        replica = self.replica()
        replica.make_graph("full")
        path = os.path.join(replica.path, "objects/info/commit-graph")
        good = read(path)
        start, end = {name: (start, end) for name, start, end in chunks(good)}[b"OIDL"]
        oids = [good[at: at + 20].hex() for at in range(start, end, 20)]
        filters = [bloom(self.changed(replica, oid)) for oid in oids]
        self.put(path, self.with_filters(good, 2, filters))
        for name in History.PATHS + ["dir", "dir/sub", "\u00e4", "nothing"]:
            self.assertEqual(replica.ids(all_refs=True, paths=[name]), replica.lines("rev-list", "--all", "--", name))
        # Filters that say that nothing ever changed: whoever believes them finds no commit but roots and merges.
        nothing = self.with_filters(good, 2, [b"\0"] * len(oids))
        self.put(path, nothing)
        self.assertLess(len(replica.ids(all_refs=True, paths=["a"])), len(replica.lines("rev-list", "--all", "--", "a")) // 2)
        # Of a version that nobody knows they are not.
        self.put(path, self.with_filters(good, 3, [b"\0"] * len(oids)))
        self.assertEqual(replica.ids(all_refs=True, paths=["a"]), replica.lines("-c", "core.commitGraph=false", "rev-list", "--all", "--", "a"))
        self.assertNotIn("graph-ignored", replica.line("@log"))

    def test_new_graphs_are_seen(self):
        """Pushes and maintenance while questions are asked."""
        replica = self.replica(60)
        for round_ in range(4):
            n = 60 + 20 * round_
            replica.fast_import(History(SEED, n).stream())
            expected = replica.lines("rev-list", "--all")
            self.assertEqual(replica.ids(all_refs=True), expected)
            self.assertEqual(replica.line("@maintain"), "done")
            self.assertEqual(replica.ids(all_refs=True), expected)
            self.assertEqual(replica.ids(all_refs=True, paths=["dir"]), replica.lines("rev-list", "--all", "--", "dir"))

    def test_shallow_and_grafts(self):
        for name in ("shallow", "info/grafts"):
            replica = self.replica()
            replica.make_graph("full")
            r = random.Random(SEED)
            cut = r.sample(self.commits[20:], 6)
            lines = cut if name == "shallow" else [c + " " + self.commits[-1] for c in cut]
            os.makedirs(os.path.join(replica.path, "info"), exist_ok=True)
            with open(os.path.join(replica.path, name), "w") as file:
                file.write("".join(line + "\n" for line in sorted(lines)))
            self.assertEqual(replica.ids(all_refs=True), replica.lines("rev-list", "--all"))
            for _ in range(20):
                one, other = r.choice(self.commits), r.choice(self.commits)
                expected = replica.lines("rev-list", "--count", "--left-right", one + "..." + other)
                distance = replica.call("AheadBehind", pairs=[{"left": one, "right": other}])["distances"][0]
                self.assertEqual([str(distance["ahead"]), str(distance["behind"])], expected)
                self.assertEqual(sorted(replica.call("MergeBase", revisions=[one, other])["oids"]),
                                 sorted(replica.git("merge-base", "--all", one, other, check=False).split()))
            with open(os.path.join(replica.path, name), "a") as file:
                file.write("what is this\n")
            self.assertIn("DATA_LOSS", replica.ask("List", range={"all_refs": True}))

    def test_a_lost_commit_is_named(self):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(History(SEED, 60).stream())
        old = glob.glob(os.path.join(replica.path, "objects/pack/*"))
        lost = set(replica.lines("rev-list", "--all"))
        replica.fast_import(History(SEED, 120).stream())
        tip = replica.lines("rev-list", "-1", "--all")[0]
        for path in old:
            os.unlink(path)
        answer = replica.ask("Count", range={"include": [tip]})
        self.assertTrue(answer.startswith("!DATA_LOSS"), answer)
        self.assertTrue(any(oid in answer for oid in lost), answer)
        self.assertEqual(len(replica.ids(limit=1, include=[tip], since=1 << 40)), 0)


class Big(unittest.TestCase):
    """A long history: paging holds memory flat, and it ends where git says."""

    # What a sanitizer is told about memory says nothing, so that there it need not be as long.
    N = 20000 if os.environ.get("GITSTEAD_TEST_SANITIZED") else 100000

    def stream(self):
        out = []
        for i in range(1, self.N + 1):
            out.append("commit refs/heads/main\nmark :%d\ncommitter C <c@d> %d +0000\ndata 2\nm\n\n" % (i, 1600000000 + i))
            if i > 1:
                out.append("from :%d\n" % (i - 1))
            if i > 50 and i % 10 == 0:
                out.append("merge :%d\n" % (i - 37))
            out.append("M 100644 inline d%d/f%d\ndata 6\n%06d" % (i % 7, i % 31, i))
            out.append("\n")
        return "".join(out).encode()

    def page_through(self, replica, ids_only):
        ids, token, sizes = [], "", []
        while True:
            answer = replica.call("List", range={"include": ["main"]}, ids_only=ids_only, page={"limit": 1000, "token": token})
            ids += [commit["oid"] for commit in answer["commits"]]
            sizes.append([int(word) for word in replica.line("@memory").split()])
            token = answer["next_page_token"]
            if not token:
                return ids, sizes

    def test_paging(self):
        replica = Replica()
        self.addCleanup(replica.close)
        replica.fast_import(self.stream())
        replica.make_graph("full")
        expected = replica.lines("rev-list", "main")
        self.assertEqual(len(expected), self.N)
        for ids_only, most in ((True, 4 << 10), (False, 64 << 10)):
            ids, sizes = self.page_through(replica, ids_only)
            self.assertEqual(ids, expected)
            print("ids only: %s" % ids_only, flush=True)
            for i in (2, len(sizes) // 2, len(sizes) - 1):
                print("page %d: VmHWM %d KiB, RssAnon %d KiB" % (i, *sizes[i]), flush=True)
            # What is listed stays nowhere. Texts come from objects, of which libgit2 keeps some, up to 64 MiB.
            if not os.environ.get("GITSTEAD_TEST_SANITIZED"):  # whose allocator keeps what was freed
                self.assertLess(sizes[-1][1] - sizes[2][1], most)
        for path in ("d3", "d3/f10", "nothing"):
            self.assertEqual(replica.ids(include=["main"], paths=[path]), replica.lines("rev-list", "main", "--", path))
        self.assertEqual(replica.call("Count", range={"include": ["main"]})["count"], self.N)
        old, older = expected[self.N // 2], expected[self.N - 100]
        for one, other in ((old, "main"), (older, old), ("main^2", "main")):
            distance = replica.call("AheadBehind", pairs=[{"left": one, "right": other}])["distances"][0]
            self.assertEqual([str(distance["ahead"]), str(distance["behind"])],
                             replica.lines("rev-list", "--count", "--left-right", one + "..." + other))
            self.assertEqual(replica.call("MergeBase", revisions=[one, other])["oids"], replica.lines("merge-base", "--all", one, other))
        topological = replica.ids(include=["main"], exclude=[old], order="HISTORY_ORDER_TOPO")
        self.assertEqual(topological, replica.lines("rev-list", "--topo-order", "main", "^" + old))
        for entry in replica.call("LastForTree", revision="main")["entries"]:
            self.assertEqual([entry["commit"]], replica.lines("log", "-1", "--format=%H", "main", "--", entry["name"]))


if __name__ == "__main__":
    unittest.main()
