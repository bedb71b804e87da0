# SPDX-License-Identifier: Apache-2.0
"""Packs that fetches share: made once, whole or not at all, never for the wrong one, and never more than the disk may hold."""
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading

import gitstead_test
from cluster_test import Cluster
from gitstead_test import FLUSH, Git, Server, TestCase, eventually, packet, packets

PATIENCE = 60
NAMES = ("hits", "misses", "bypassed", "made_bytes", "served_bytes")
# Runs git; as long as there is a file "gate" beside it (a named pipe), packs wait until somebody writes into that. With a file
# "broken" a pack ends in its middle.
SLOW_GIT = """#!/bin/sh
here=%s
case " $* " in
*" pack-objects "*" --stdout "*)
  if [ -p $here/gate ]; then
    read line <$here/gate
  fi
  if [ -e $here/broken ]; then
    %s "$@" | head -c 100000
    kill -9 $$
  fi;;
esac
exec %s "$@"
"""


def figures(server):
    """The pack cache's metrics by their short names."""
    found = {}
    for line in server.http("GET", "/metrics").body.decode().splitlines():
        if line.startswith("gitstead_storage_pack_cache_"):
            name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
            found[name[len("gitstead_storage_pack_cache_"):].replace("_total", "")] = value
    return found


def pack_in(folder):
    """The one pack that a clone got, as it came."""
    packs = os.path.join(folder, ".git/objects/pack")
    names = [name for name in os.listdir(packs) if name.endswith(".pack")]
    assert len(names) == 1, names
    with open(os.path.join(packs, names[0]), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class PackCacheCase(TestCase):
    """One server for a class, a repository for each test."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.bin = tempfile.mkdtemp(prefix="gitstead-bin-")
        cls.addClassCleanup(shutil.rmtree, cls.bin, ignore_errors=True)
        real, program = shutil.which("git"), os.path.join(cls.bin, "git")
        with open(program, "w") as out:
            out.write(SLOW_GIT % (cls.bin, real, real))
        os.chmod(program, 0o755)
        cls.server = Server(storage=dict({"git": program, "maintenance": "false"}, **cls.options))
        cls.addClassCleanup(cls.server.clean)
        cls.server.start()
        cls.git = Git(cls.server.new_token("write"))

    def setUp(self):
        self.name = "cache/" + self.id().rsplit(".", 1)[1]
        self.url = self.fill(self.name, 300000)
        self.addCleanup(self.open_gate)
        self.before = figures(self.server)

    # ------------------------------------------------------------------------------------ the slow git

    @property
    def gate(self):
        return os.path.join(self.bin, "gate")

    def close_gate(self):
        os.mkfifo(self.gate)

    def open_gate(self):
        """Lets everybody through, those that wait and those that come."""
        if not os.path.exists(self.gate):
            return
        pipe = os.open(self.gate, os.O_RDWR)
        os.rename(self.gate, self.gate + ".open")  # nobody comes any more
        os.write(pipe, b"\n" * 64)
        self.addCleanup(os.close, pipe)  # its lines are there as long as somebody has it open

    # ------------------------------------------------------------------------------------------ clients

    def fill(self, name, n_bytes):
        """A repository with two commits, a tag and a file that cannot be compressed."""
        url = self.server.create(name)
        self.work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=self.work)
        for n in (1, 2):
            with open(os.path.join(self.work, "file"), "wb") as out:
                out.write(os.urandom(n_bytes // 2))
            self.git("add", ".", cwd=self.work)
            self.git("commit", "-q", "-m", "%s %d" % (name, n), cwd=self.work)
        self.git("tag", "-a", "-m", "one", "v1", cwd=self.work)
        self.git("push", "-q", url, "main", "v1", cwd=self.work)
        return url

    def clone(self, *arguments, url=None):
        """A client at work, and where to."""
        folder = os.path.join(self.scratch(), "c")
        process = subprocess.Popen(["git", "clone", *(arguments or ["-q"]), url or self.url, folder], env=self.git.env,
                                   cwd=os.path.dirname(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        self.addCleanup(self.end, process)
        return process, folder

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def done(self, clone, fsck=True):
        process, folder = clone
        text = process.communicate(timeout=PATIENCE * gitstead_test.SLOW)[0].decode(errors="replace")
        self.assertEqual(process.returncode, 0, text)
        if fsck:
            self.git.fsck(folder)
        return folder, text

    def figures(self):
        """What they have become by this test."""
        return {name: value - self.before[name] for name, value in figures(self.server).items()}

    def reached(self, **wanted):
        found = {}

        def holds():
            found.update(self.figures())
            return wanted.items() <= found.items()
        try:
            eventually(holds, PATIENCE)
        except AssertionError:
            self.fail("%s did not become %s" % (found, wanted))

    def request(self, url=None):
        """What a client asks for that wants all of main and has nothing."""
        want = self.git("ls-remote", url or self.url, "refs/heads/main", cwd=self.work).split()[0]
        return packet("command=fetch") + b"0001" + packet("ofs-delta\n") + packet("want %s\n" % want) + packet(
            "done\n") + FLUSH

    def connect(self, body, url=None, receive_buffer=None):
        """A client that has asked, and has read nothing yet."""
        connection = socket.socket()
        self.addCleanup(connection.close)
        connection.settimeout(PATIENCE * gitstead_test.SLOW)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((self.server.host, self.server.http_port))
        token = self.git.env["GIT_CONFIG_VALUE_0"]
        path = (url or self.url)[len(self.server.url):]
        connection.sendall(("POST %s/git-upload-pack HTTP/1.0\r\nHost: x\r\n%s\r\nGit-Protocol: version=2\r\nContent-Type: "
                            "application/x-git-upload-pack-request\r\nContent-Length: %d\r\n\r\n" % (
                                path, token, len(body))).encode() + body)
        return connection

    def read_pack(self, connection):
        """The pack that came over @connection."""
        with connection.makefile("rb") as file:
            head, body = file.read().split(b"\r\n\r\n", 1)
        self.assertIn(b" 200 ", head.split(b"\r\n")[0])
        return b"".join(line[1:] for line in packets(body) if line and line[:1] == b"\1")

    def assert_whole(self, pack):
        self.assertEqual(pack[:4], b"PACK")
        self.assertEqual(hashlib.sha1(pack[:-20]).digest(), pack[-20:])


class Kept(PackCacheCase):
    """Each pack stays."""

    options = {"pack_cache_uses": "1", "pack_cache_age": "1h"}

    def test_equal_clones_at_once_make_one_pack(self):
        self.close_gate()
        clones = [self.clone("--progress") for _ in range(8)]
        self.reached(misses=1, hits=7)
        self.open_gate()
        folders = [self.done(one, fsck=one is clones[0]) for one in clones]
        self.assertEqual(len({pack_in(folder) for folder, _ in folders}), 1)
        for folder, text in folders:
            self.assertMentions(text, "remote: Counting objects", "remote: Total")
            self.assertEqual(self.git.refs(folder), self.git.refs(folders[0][0]))
        # Later ones, whatever they want to be told.
        quiet, text = self.done(self.clone("-q"), fsck=False)
        self.assertEqual((text, pack_in(quiet)), ("", pack_in(folders[0][0])))
        text = self.done(self.clone("--progress"), fsck=False)[1]
        self.assertMentions(text, "remote: Total")
        found = self.figures()
        self.assertEqual((found["misses"], found["hits"], found["bypassed"], found["packs"]), (1, 9, 0, 1))
        self.assertEqual(found["served_bytes"], 10 * found["made_bytes"])
        self.assertEqual(found["bytes"], found["made_bytes"])
        self.assertEqual(self.server.leftovers(), [])

    def test_different_requests_are_not_mixed(self):
        ways = [["--no-tags"], ["--depth", "1"], ["--filter=blob:none", "--no-checkout"], ["--filter=tree:0", "--bare"],
                ["--single-branch", "--branch", "v1", "--depth=1"]]
        for turn in (1, 2):
            for way in ways:
                folder = os.path.join(self.scratch(), "c")
                self.git("clone", "-q", *way, self.url, folder, cwd=self.work)
                count = self.git("rev-list", "--count", "--all", cwd=folder)
                self.assertEqual(count, "1" if any("depth" in part for part in way) else "2", way)
                missing = self.git("rev-list", "--objects", "--all", "--missing=print", cwd=folder).count("?")
                self.assertEqual(missing, {"--filter=blob:none": 2, "--filter=tree:0": 2}.get(way[0], 0), way)
        found = self.figures()
        self.assertEqual(found["hits"], found["misses"], found)

    def fill_more(self):
        with open(os.path.join(self.work, "other"), "w") as out:
            out.write("more\n")
        self.git("add", ".", cwd=self.work)
        self.git("commit", "-q", "-m", "more", cwd=self.work)
        self.git("push", "-q", self.url, "main", cwd=self.work)

    def test_updates_are_shared_too(self):
        folders = [self.done(self.clone(), fsck=False)[0] for _ in range(2)]
        self.fill_more()
        before = self.figures()["misses"]
        for folder in folders:
            self.git("pull", "-q", "--ff-only", cwd=folder)
            self.assertEqual(self.git("rev-parse", "HEAD", cwd=folder), self.git("rev-parse", "main", cwd=self.work))
            self.git.fsck(folder)
        self.assertEqual(self.figures()["misses"], before + 1)

    def test_new_tag_comes_along(self):
        bare = ["init", "-q", "-b", "x"]
        for tag in ("first", "second"):
            self.git("tag", "-a", "-m", tag, tag, cwd=self.work)
            self.git("push", "-q", self.url, tag, cwd=self.work)
            folder = self.scratch()
            self.git(*bare, cwd=folder)
            self.git("remote", "add", "origin", self.url, cwd=folder)
            before = self.figures()
            self.git("fetch", "-q", "origin", "main:refs/remotes/origin/main", cwd=folder)
            # In the same pack as what it points to: nothing was fetched a second time.
            self.assertIn(tag, self.git("tag", cwd=folder).split())
            after = self.figures()
            self.assertEqual((after["misses"], after["hits"]), (before["misses"] + 1, before["hits"]))

    def test_hidden_refs_stay_hidden(self):
        replica = self.server.replica(self.name)
        secret = self.git("commit-tree", "-m", "secret", "main^{tree}", cwd=self.work)
        pack = self.git.run("pack-objects", "-q", os.path.join(replica, "objects/pack/pack"), cwd=self.work,
                            input=secret.encode() + b"\n")
        self.assertEqual(pack.returncode, 0, pack.stderr)
        Git()("update-ref", "refs/gitstead/secret", secret, cwd=replica)
        for _ in range(2):
            folder = self.done(self.clone("-q", "--mirror"), fsck=False)[0]
            self.assertNotIn("gitstead", self.git.refs(folder))
            self.assertNotEqual(self.git.run("cat-file", "-e", secret, cwd=folder).returncode, 0)
        self.assertEqual(self.figures()["misses"], 1)

    def test_pack_goes_with_what_is_in_it(self):
        self.done(self.clone(), fsck=False)
        self.reached(packs=1)
        self.server.call("Repository/Prune", {"repository": {"path": self.name}, "no_grace": True})
        self.reached(packs=0, bytes=0)
        self.done(self.clone(), fsck=False)
        self.reached(packs=1, misses=2)
        self.server.cli("repo", "delete", self.name, "--yes")
        self.reached(packs=0, bytes=0)

    def test_slow_reader_holds_nobody_back(self):
        url = self.fill(self.name + "-large", 6 << 20)
        request = self.request(url)
        slow = self.connect(request, url, receive_buffer=4096)
        self.reached(misses=1)
        packs = [self.read_pack(self.connect(request, url)) for _ in range(2)]
        self.assert_whole(packs[0])
        self.assertEqual(packs[0], packs[1])
        self.assertEqual(self.read_pack(slow), packs[0])
        self.reached(misses=1, hits=2)

    def test_client_that_goes_away(self):
        self.close_gate()
        clones = [self.clone() for _ in range(3)]
        self.reached(misses=1, hits=2)
        clones[0][0].kill()
        clones[1][0].kill()
        self.open_gate()
        self.done(clones[2])
        self.assertEqual(self.figures()["misses"], 1)

    def test_pack_that_nobody_waits_for_is_stopped(self):
        self.close_gate()
        clones = [self.clone() for _ in range(2)]
        self.reached(misses=1, hits=1, packs=1)
        for process, _ in clones:
            process.kill()
        self.reached(packs=0, bytes=0)
        eventually(lambda: not self.server.children(), PATIENCE, "the end of all children")
        self.open_gate()
        self.done(self.clone())
        self.reached(misses=2, hits=1)

    def test_pack_that_breaks_off_is_not_kept(self):
        with open(os.path.join(self.bin, "broken"), "w"):
            pass
        process, folder = self.clone()
        text = process.communicate(timeout=PATIENCE * gitstead_test.SLOW)[0].decode()
        self.assertNotEqual(process.returncode, 0, text)
        self.reached(packs=0, bytes=0)
        os.unlink(os.path.join(self.bin, "broken"))
        self.done(self.clone())
        self.reached(misses=2, hits=0, packs=1)


class Killed(PackCacheCase):
    options = {"pack_cache_uses": "1", "pack_cache_age": "1h"}

    def test_killed_server(self):
        self.done(self.clone())
        self.close_gate()
        clone = self.clone("-q", "--depth", "1")
        self.reached(misses=2)
        self.server.kill()
        self.assertNotEqual(clone[0].wait(PATIENCE * gitstead_test.SLOW), 0)
        self.open_gate()
        self.server.start()
        self.before = figures(self.server)
        self.assertEqual((self.before["packs"], self.before["bytes"]), (0, 0))
        self.assertEqual(self.server.leftovers(), [])
        self.done(self.clone())
        self.reached(misses=1, hits=0, packs=1)


class SecondUse(PackCacheCase):
    """As it is by default, but for the time."""

    options = {"pack_cache_age": "1h"}

    def test_pack_is_kept_from_its_second_use_on(self):
        for misses, hits, packs in ((1, 0, 0), (2, 0, 1), (2, 1, 1)):
            self.done(self.clone(), fsck=False)
            self.reached(misses=misses, hits=hits, packs=packs)


class Bounds(PackCacheCase):
    options = {"pack_cache": "1MiB", "pack_cache_uses": "1", "pack_cache_age": "1h"}

    def test_disk_bound(self):
        urls = [self.url] + [self.fill("%s-%d" % (self.name, n), 300000) for n in range(4)]
        for url in urls:
            self.done(self.clone(url=url), fsck=False)
            self.assertLessEqual(figures(self.server)["bytes"], 1 << 20)
        self.reached(misses=len(urls), bypassed=0, hits=0)
        self.assertGreaterEqual(figures(self.server)["packs"], 1)
        # The last ones are there, the first is not.
        self.done(self.clone(url=urls[-1]))
        self.reached(misses=len(urls), hits=1)
        self.done(self.clone())
        self.reached(misses=len(urls) + 1, hits=1)

    def test_pack_larger_than_half_of_it(self):
        url = self.fill(self.name + "-large", 5 << 20)
        request = self.request(url)
        self.close_gate()
        connections = [self.connect(request, url) for _ in range(3)]
        self.reached(misses=1, hits=2)
        self.open_gate()
        packs = [None] * len(connections)

        def read(n):
            packs[n] = self.read_pack(connections[n])
        threads = [threading.Thread(target=read, args=(n,)) for n in range(len(connections))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assert_whole(packs[0])
        self.assertEqual(packs, packs[:1] * len(packs))
        eventually(lambda: self.figures()["packs"] <= 0 and figures(self.server)["bytes"] <= 1 << 20, PATIENCE)
        self.reached(misses=1, hits=2, bypassed=0)
        # From now on it is not even tried.
        self.assert_whole(self.read_pack(self.connect(request, url)))
        self.reached(bypassed=1)


class Age(PackCacheCase):
    options = {"pack_cache_age": "1s", "pack_cache_uses": "1"}

    def test_old_packs_go(self):
        self.done(self.clone())
        self.reached(packs=0, bytes=0, misses=1)


class FullDisk(PackCacheCase):
    def test_write_that_fails(self):
        """The pack goes on past the file, for all who read it already."""
        url = self.fill(self.name + "-large", 5 << 20)
        request = self.request(url)
        self.server.stop()
        self.server.prefix = ["prlimit", "--fsize=2000000"]
        self.server.start()
        self.before = figures(self.server)
        self.close_gate()
        connections = [self.connect(request, url) for _ in range(2)]
        self.reached(misses=1, hits=1)
        self.open_gate()
        packs = [None, None]

        def read(n):
            packs[n] = self.read_pack(connections[n])
        thread = threading.Thread(target=read, args=(0,))
        thread.start()
        read(1)
        thread.join()
        self.assert_whole(packs[0])
        self.assertEqual(packs[0], packs[1])
        eventually(lambda: figures(self.server)["bytes"] == 0, PATIENCE)
        self.assertIn("storage.pack-cache.full", self.server.log_text())


class Off(PackCacheCase):
    options = {"pack_cache": "0"}

    def test_off(self):
        self.done(self.clone(), fsck=False)
        self.assertEqual([self.figures()[name] for name in NAMES], [0] * len(NAMES))


class ThroughARouter(Cluster):
    def placed(self, server):
        server.storage_options["pack_cache_uses"] = "1"
        return server

    def test_nodes_share_packs(self):
        router = self.add_router()
        git = Git(router.new_token("write"))
        url = router.create("cache/r")
        self.commit()
        git("push", "-q", url, "main", cwd=self.work)
        for n in range(4):
            folder = os.path.join(self.scratch(), "c")
            git("clone", "-q", url, folder, cwd=self.work)
            git.fsck(folder)
        found = [figures(node) for node in self.nodes]
        self.assertEqual(sum(one["misses"] + one["hits"] for one in found), 4)
        self.assertLessEqual(max(one["misses"] for one in found), 1)
        self.assertGreaterEqual(sum(one["hits"] for one in found), 1)


if __name__ == "__main__":
    gitstead_test.main()
