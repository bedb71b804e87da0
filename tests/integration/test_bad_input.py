# SPDX-License-Identifier: Apache-2.0
"""Bad input gets a clear error, and nothing is lost or left behind: no file, lock, quarantine or process."""
import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import unittest
import zlib

import gitstead_test
from gitstead_test import (FLUSH, ServerTestCase, TestCase, ZERO, eventually, pack_of, packet, push_report, push_request,
                           run_program)

RECEIVE = {"Content-Type": "application/x-git-receive-pack-request"}
# A push that brings no objects brings a pack all the same; without it git refuses the push, whatever its refs are.
EMPTY_PACK = b"PACK" + struct.pack(">II", 2, 0)
EMPTY_PACK += hashlib.sha1(EMPTY_PACK).digest()
UPLOAD = {"Content-Type": "application/x-git-upload-pack-request"}


class Paths(ServerTestCase):
    """What a repository must not be called."""

    BAD = [
        ("", "it is empty"), ("/", "begins with '/'"), ("/absolute", "begins with '/'"), ("..", "begins with '.'"),
        ("a/../b", 'at byte 2, in "..": it begins with \'.\''), ("../up", "begins with '.'"), (".", "begins with '.'"),
        ("a/./b", "begins with '.'"), ("a//b", "an empty segment"), ("a/", "ends with '/'"), ("a\tb", "a control character"),
        ("a\nb", "a control character"), ("a\x7fb", "a control character"), ("a\x1b[31mb", "a control character"),
        (".git", "begins with '.'"), ("a/.git", "begins with '.'"), ("a.git/b", 'only the last segment may end with ".git"'),
        ("a.git/b.git", 'only the last segment may end with ".git"'), ("-a", "begins with '-'"), ("a\\b", ": ? * [ ~ ^"),
        ("a.GIT", 'the suffix is ".git", in small letters'), ("a.git.git", '".git" twice'),
        ("A.Git/x", 'the suffix is ".git", in small letters'), ("x" * 101, "longer than 100 bytes"),
        ("a/" * 260 + "b", "521 bytes, the limit is 512"),
    ]

    def test_refused_with_a_reason(self):
        before = self.server.files()
        listed = self.server.cli("repo", "list", "-q").stdout
        for path, word in self.BAD:
            with self.subTest(path=path[:40]):
                result = self.server.cli("repo", "create", "--", path, check=False)
                self.assertEqual(result.returncode, 1, "%r: %s%s" % (path, result.stdout, result.stderr))
                self.assertMentions(result.stderr, "cannot create repository", word)
                # One line and its hint; no control character reaches the terminal.
                self.assertLessEqual(len(result.stderr.splitlines()), 2)
                self.assertTrue(all(letter == "\n" or letter.isprintable() for letter in result.stderr), result.stderr)
        self.assertEqual(self.server.cli("repo", "list", "-q").stdout, listed)
        self.server.assert_settled(before)

    def test_nul_cannot_be_smuggled_in(self):
        result = self.server.cli("call", "Repository/Create", "-", input='{"repository": {"path": "a\\u0000b"}}', check=False)
        self.assertIn(result.returncode, (1, 2))
        self.assertEqual(self.server.call("Repository/Exists", {"repository": {"path": "a"}}).get("exists", False), False)

    def test_our_own_folders_cannot_be_named(self):
        # Paths are names, not places: such a repository may exist, but never in the place that it seems to name.
        for path in ("gitstead-trash/x", "@r/00/11/1.git"):
            self.server.cli("repo", "create", path, check=False)
            self.assertFalse(os.path.exists(os.path.join(self.server.root, path)))
            self.assertFalse(os.path.exists(os.path.join(self.server.root, path + ".git")))

    def test_names_that_exist(self):
        self.server.create("Taken/Name")
        before = self.server.files()
        for path in ("Taken/Name", "Taken/Name.git", "taken/name", "TAKEN/NAME.git"):
            result = self.server.cli("repo", "create", path, check=False)
            self.assertEqual(result.returncode, 1, path)
            self.assertRegex(result.stderr, "exist")
        self.server.create("Taken/Other")
        result = self.server.cli("repo", "rename", "Taken/Other", "taken/NAME", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "exist")
        self.server.cli("repo", "delete", "Taken/Other", "--yes")
        self.assertEqual({path: value for path, value in self.server.files().items() if "trash" not in path}, before)

    def test_over_http(self):
        before = self.server.files()
        refs = ".git/info/refs?service=git-upload-pack"
        for path, words in (("/../etc/passwd", "a '..' segment"), ("/a/../../b" + refs, "a '..' segment"),
                            ("/%2e%2e/x.git/info/refs", "a '..' segment"), ("/a%2fb" + refs, "an encoded slash"),
                            ("/a%00b" + refs, "control character (0x00)"), ("/a%0ab" + refs, "control character (0x0a)"),
                            ("/" + "x" * 600 + refs, "604 bytes, the limit is 512"), ("/%ff" + refs, "not valid UTF-8"),
                            ("//x" + refs, "begins with '/'")):
            with self.subTest(path=path[:40]):
                response = self.server.http("GET", path, headers=self.server.bearer())
                self.assertEqual(response.status, 400, response.body)
                self.assertMentions(response.body.decode(), words)
                self.assertNotIn(b"\0", response.body)
        self.server.assert_settled(before)
        self.assertEqual(self.server.http("GET", "/healthz").status, 200)


class Pushes(ServerTestCase):
    """Pushes written by hand, each wrong in one way."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.url = cls.server.create("bad/push")
        cls.work = os.path.join(cls.server.folder, "work")
        cls.git("init", "-q", "-b", "main", cls.work)
        for number in range(3):
            with open(os.path.join(cls.work, "file"), "w") as out:
                out.write("content %d\n" % number * 50)
            cls.git("add", ".", cwd=cls.work)
            cls.git("commit", "-q", "-m", "Commit %d" % number, cwd=cls.work)
        cls.git("push", "-q", cls.url, "main", cwd=cls.work)
        cls.head = cls.git("rev-parse", "main", cwd=cls.work)

    def setUp(self):
        self.before = self.server.files()
        self.generation = self.server.info("bad/push")["generation"]

    def push(self, commands, pack, **rest):
        response = self.server.http("POST", "/bad/push.git/git-receive-pack", body=push_request(commands, pack, **rest),
                                    headers=dict(self.server.bearer(), **RECEIVE))
        return response

    def assert_refused(self, response, *words):
        """A 200 with git's own report, or a 4xx; then everything as it was."""
        text = response.body.decode(errors="replace")
        if response.status == 200:
            report = push_report(response.body)
            self.assertFalse([line for line in report if line.startswith("ok ")], report)
            self.assertTrue([line for line in report if line.startswith("ng ") or line.startswith("unpack ")
                             and line != "unpack ok"] or "ERR" in text or "\3" in text, text)
        else:
            self.assertIn(response.status, range(400, 500), text)
        self.assertMentions(text, *words)
        self.assert_unchanged()

    def assert_unchanged(self):
        self.server.assert_settled(self.before)
        self.assertEqual(self.server.info("bad/push")["generation"], self.generation)
        self.assertEqual(self.git("ls-remote", self.url, "refs/*"), "%s\trefs/heads/main" % self.head)

    def raw_object(self, kind, content):
        """Writes an object that no git would make."""
        return self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", cwd=self.work, input=content)

    def commit_of(self, tree, extra=b""):
        return self.raw_object("commit", b"tree %s\nparent %s\nauthor A <a@example.org> 1700000000 +0000\n"
                               b"committer A <a@example.org> 1700000000 +0000\n%s\nMessage\n"
                               % (tree.encode(), self.head.encode(), extra))

    def small_commit(self):
        """A good commit on top of main with a new blob, and the objects that it adds."""
        blob = self.raw_object("blob", b"new content\n" + os.urandom(16).hex().encode())
        tree = self.git("mktree", cwd=self.work, input=("100644 blob %s\tnew\n" % blob).encode())
        return self.commit_of(tree), [tree, blob]

    # ------------------------------------------------------------------------------------------- packs

    def test_the_hand_made_push_itself_is_good(self):
        """Otherwise the refusals below would prove nothing."""
        commit, objects = self.small_commit()
        response = self.push([(ZERO, commit, "refs/heads/good")], pack_of(self.work, [commit] + objects, self.git))
        self.assertEqual(push_report(response.body), ["unpack ok", "ok refs/heads/good"])
        response = self.push([(commit, ZERO, "refs/heads/good")], b"")
        self.assertEqual(push_report(response.body), ["unpack ok", "ok refs/heads/good"])

    def test_corrupt_packs(self):
        commit, objects = self.small_commit()
        pack = pack_of(self.work, [commit] + objects, self.git)
        flipped = bytearray(pack)
        flipped[len(pack) // 2] ^= 0x55
        damaged = {
            "a flipped byte": (bytes(flipped), "index-pack"),
            "a wrong checksum": (pack[:-20] + bytes(20), "pack is corrupted (SHA1 mismatch)"),
            "cut in the middle": (pack[:len(pack) // 2], "early EOF"),
            "cut in the checksum": (pack[:-7], "early EOF"),
            "no pack at all": (b"", "unpack eof before pack header was fully read"),
            "another signature": (b"KCAP" + pack[4:], "pack signature mismatch"),
            "a wrong version": (pack[:4] + struct.pack(">I", 9) + pack[8:], "pack version unsupported"),
            # The checksum is taken for an object: what git calls that depends on its bytes.
            "more objects than there are": (pack[:8] + struct.pack(">I", 900) + pack[12:], "unpack index-pack abnormal exit"),
            "fewer objects than there are": (pack[:8] + struct.pack(">I", 1) + pack[12:], "pack is corrupted"),
            "four billion objects": (pack[:8] + struct.pack(">I", 0xffffffff) + pack[12:], "index-pack"),
            "noise": (b"N" + os.urandom(5000), "pack signature mismatch"),
        }
        for name, (data, words) in damaged.items():
            with self.subTest(name):
                self.assert_refused(self.push([(ZERO, commit, "refs/heads/x")], data), words, "ng refs/heads/x unpacker error")

    def test_a_missing_object(self):
        commit, objects = self.small_commit()
        for left_out in objects:
            pack = pack_of(self.work, [commit] + [one for one in objects if one != left_out], self.git)
            self.assert_refused(self.push([(ZERO, commit, "refs/heads/x")], pack), left_out)

    def test_a_missing_commit(self):
        commit, objects = self.small_commit()
        self.assert_refused(self.push([(ZERO, commit, "refs/heads/x")], pack_of(self.work, objects, self.git)),
                            "ng refs/heads/x missing necessary objects", commit)
        self.assert_refused(self.push([(ZERO, "12" * 20, "refs/heads/x")], pack_of(self.work, objects, self.git)),
                            "ng refs/heads/x missing necessary objects", "12" * 20)

    def test_objects_that_fail_fsck(self):
        blob = self.raw_object("blob", b"content\n")
        raw = bytes.fromhex(blob)
        trees = {
            "hasDotgit": b"100644 .git\0" + raw,
            "hasDotdot": b"100644 ..\0" + raw,
            "fullPathname": b"100644 a/b\0" + raw,
            "duplicateEntries": b"100644 a\0" + raw + b"100644 a\0" + raw,
            "treeNotSorted": b"100644 b\0" + raw + b"100644 a\0" + raw,
        }
        for name, content in trees.items():
            with self.subTest(name):
                tree = self.raw_object("tree", content)
                commit = self.commit_of(tree)
                pack = pack_of(self.work, [commit, tree, blob], self.git)
                self.assert_refused(self.push([(ZERO, commit, "refs/heads/x")], pack), name)
        tree = self.git("mktree", cwd=self.work, input=("100644 blob %s\ta\n" % blob).encode())
        bad = self.raw_object("commit", b"tree %s\nauthor nobody\n\nMessage\n" % tree.encode())
        self.assert_refused(self.push([(ZERO, bad, "refs/heads/x")], pack_of(self.work, [bad, tree, blob], self.git)),
                            "missingEmail")

    def test_gitmodules_that_attack_clients(self):
        blob = self.raw_object("blob", b'[submodule "x"]\n\tpath = x\n\turl = -u./payload\n')
        tree = self.git("mktree", cwd=self.work, input=("100644 blob %s\t.gitmodules\n" % blob).encode())
        commit = self.commit_of(tree)
        self.assert_refused(self.push([(ZERO, commit, "refs/heads/x")], pack_of(self.work, [commit, tree, blob], self.git)),
                            "gitmodules")

    def test_a_branch_that_is_no_commit(self):
        blob = self.raw_object("blob", b"just a blob %s\n" % os.urandom(8).hex().encode())
        self.assert_refused(self.push([(ZERO, blob, "refs/heads/blob")], pack_of(self.work, [blob], self.git)), "commit")

    # ------------------------------------------------------------------------------------------- names

    def test_bad_ref_names(self):
        for name in ("refs/heads/a..b", "refs/heads/a.lock", "refs/heads/.a", "refs/heads/a b", "refs/heads/a~1",
                     "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?", "refs/heads/a*", "refs/heads/a[", "refs/heads/a\\b",
                     "refs/heads/", "refs/heads/a/", "refs/heads//a", "refs/heads/a.", "refs/heads/@{u}", "refs/heads/a\x01",
                     "refs/heads/../x", "refs/" + "x" * 5000):
            with self.subTest(name=name[:30]):
                self.assert_refused(self.push([(ZERO, self.head, name)], EMPTY_PACK), "unpack ok", "ng refs/")

    def test_a_good_name_brings_no_refusal(self):
        """The same push as those that are refused for the name of their ref."""
        response = self.push([(ZERO, self.head, "refs/heads/good")], EMPTY_PACK)
        self.assertEqual(push_report(response.body), ["unpack ok", "ok refs/heads/good"])
        response = self.push([(self.head, ZERO, "refs/heads/good")], b"")
        self.assertEqual(push_report(response.body), ["unpack ok", "ok refs/heads/good"])

    def test_names_that_begin_alike(self):
        """git's word on `sp b` would be heard as one on `sp`."""
        for names in (("refs/heads/sp", "refs/heads/sp b"), ("refs/heads/sp b", "refs/heads/sp"),
                      ("refs/heads/sp", "refs/heads/sp\x01")):
            with self.subTest(names=names):
                self.assert_refused(self.push([(ZERO, self.head, name) for name in names], EMPTY_PACK),
                                    "unpack ok", "ng refs/heads/sp a ref name of this push has a space or a control byte")

    def test_refs_outside_of_refs(self):
        for name in ("foo", "HEAD", "FETCH_HEAD", "config", "objects/info/alternates", "../refs/heads/x", "/refs/heads/x",
                     "refs", "gitstead/replica", "packed-refs"):
            with self.subTest(name=name):
                self.assert_refused(self.push([(ZERO, self.head, name)], EMPTY_PACK), "unpack ok", "ng " + name)

    def test_one_ref_twice(self):
        # To git both commands have one name: it hears our word on the first alone, and says so of the second.
        self.assert_refused(self.push([(ZERO, self.head, "refs/heads/x"), (ZERO, self.head, "refs/heads/x")], EMPTY_PACK),
                            "unpack ok", "ng refs/heads/x")

    def test_stale_old_values(self):
        commit, objects = self.small_commit()
        pack = pack_of(self.work, [commit] + objects, self.git)
        parent = self.git("rev-parse", "main~1", cwd=self.work)
        self.assert_refused(self.push([(parent, commit, "refs/heads/main")], pack),
                            "ng refs/heads/main stale info: the reference has moved")
        self.assert_refused(self.push([(ZERO, commit, "refs/heads/main")], pack),
                            "ng refs/heads/main reference already exists")
        self.assert_refused(self.push([(parent, ZERO, "refs/heads/none")], b""),
                            "ng refs/heads/none stale info: the reference does not exist")

    # ---------------------------------------------------------------------------------------- the wire

    def test_garbage_instead_of_a_push(self):
        bodies = {
            "nothing": (b"", None),
            "noise": (b"N" + os.urandom(1000), "bad line length character"),
            "a length that is none": (b"zzzz", "bad line length character: zzzz"),
            "a length without its line": (b"00ff" + b"short", "hung up unexpectedly"),
            "a line of three bytes": (b"0003abc", "bad line length 3"),
            "half a command": (packet("%s %s" % (ZERO, self.head)), None),
            "ids that are none": (packet(b"x" * 40 + b" " + b"y" * 40 + b" refs/heads/x\0 report-status\n") + FLUSH,
                                  "expected old/new/ref"),
            "no flush": (packet(("%s %s refs/heads/x\0 report-status\n" % (ZERO, self.head)).encode()), "hung up unexpectedly"),
            "sha256 ids": (packet(("%s %s refs/heads/x\0 report-status object-format=sha256\n"
                                   % ("0" * 64, "a" * 64)).encode()) + FLUSH, "unsupported object format 'sha256'"),
        }
        for name, (body, words) in bodies.items():
            with self.subTest(name):
                response = self.server.http("POST", "/bad/push.git/git-receive-pack", body=body,
                                            headers=dict(self.server.bearer(), **RECEIVE))
                if words is None:  # a client that went before it said what it wants
                    self.assertEqual((response.status, response.body), (200, b""))
                else:
                    self.assertEqual(response.status, 400, response.body)
                    self.assertMentions(response.body.decode(errors="replace"), words)
                self.assert_unchanged()

    def test_bad_gzip(self):
        good = zlib.compressobj(wbits=31)
        data = good.compress(packet("command=ls-refs\n") + FLUSH) + good.flush()
        for body in (b"not gzip", data[:-5], data[:10] + b"\xff" * 8 + data[18:], data + b"trailing" * 100):
            response = self.server.http("POST", "/bad/push.git/git-upload-pack", body=body, headers=dict(
                self.server.bearer(), **UPLOAD, **{"Content-Encoding": "gzip", "Git-Protocol": "version=2"}))
            self.assertIn(response.status, range(400, 500), response.body[:200])
        # 256 MiB in 256 KiB: it is git's to refuse or ours, but never taken into memory.
        before = self.server.peak_memory()
        for filler in (bytes(1 << 20), b"0032have %040d\n" % 1 * 20000):
            bomb = zlib.compressobj(9, wbits=31)
            data = b"".join(bomb.compress(filler) for _ in range(256)) + bomb.flush()
            response = self.server.http("POST", "/bad/push.git/git-upload-pack", body=data, headers=dict(
                self.server.bearer(), **UPLOAD, **{"Content-Encoding": "gzip"}))
            self.assertNotIn(response.status, range(500, 600))
        self.assertLess(self.server.peak_memory() - before, 32 << 20)
        self.assert_unchanged()

    def test_wrong_media_types_and_methods(self):
        response = self.server.http("POST", "/bad/push.git/git-receive-pack", body=b"0000", headers=dict(
            self.server.bearer(), **{"Content-Type": "text/plain"}))
        self.assertEqual(response.status, 415)
        response = self.server.http("PUT", "/bad/push.git/git-receive-pack", body=b"0000", headers=self.server.bearer())
        self.assertEqual(response.status, 405)
        response = self.server.http("GET", "/bad/push.git/info/refs?service=git-evil", headers=self.server.bearer())
        self.assertIn(response.status, (400, 403))
        self.assert_unchanged()

    def test_framing_that_two_parsers_read_in_two_ways(self):
        heads = {
            "two lengths": b"Content-Length: 4\r\nContent-Length: 40\r\n",
            "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "unknown coding": b"Transfer-Encoding: xchunked\r\n",
            "negative length": b"Content-Length: -4\r\n",
            "no host": None,
        }
        for name, extra in heads.items():
            with self.subTest(name):
                host = b"" if extra is None else b"Host: x\r\n"
                with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=20) as one:
                    one.sendall(b"POST /bad/push.git/git-receive-pack HTTP/1.1\r\n" + host + (extra or b"Content-Length: 0\r\n")
                                + b"Content-Type: application/x-git-receive-pack-request\r\n\r\n0000")
                    answer = one.recv(65536)
                self.assertTrue(answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501", b"HTTP/1.0 400")), answer[:80])
        self.assert_unchanged()

    # ------------------------------------------------------------------------------------ vanishing clients

    def vanish(self, sent, rest_length):
        """Sends the beginning of a push and goes away."""
        head = ("POST /bad/push.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n"
                "Content-Type: %s\r\nContent-Length: %d\r\n\r\n"
                % (self.server.bearer()["Authorization"], RECEIVE["Content-Type"], len(sent) + rest_length)).encode()
        one = socket.create_connection(("127.0.0.1", self.server.http_port), timeout=20)
        one.sendall(head + sent)
        return one

    def big_push(self):
        blob = self.raw_object("blob", os.urandom(2_000_000))
        tree = self.git("mktree", cwd=self.work, input=("100644 blob %s\tbig\n" % blob).encode())
        commit = self.commit_of(tree)
        return push_request([(ZERO, commit, "refs/heads/x")], pack_of(self.work, [commit, tree, blob], self.git))

    def test_a_client_that_vanishes(self):
        body = self.big_push()
        for share in (0, 50, 200, 1000, len(body) // 2, len(body) - 1):
            for how in ("close", "reset"):
                with self.subTest(sent=share, how=how):
                    one = self.vanish(body[:share], len(body) - share)
                    if share > 100000:
                        # So far that the server has begun to work on it.
                        eventually(self.server.children, 60, "a child that receives the pack")
                    if how == "reset":
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.close()
                    self.server.assert_settled(self.before)
        self.assert_unchanged()

    def test_a_git_push_that_is_killed(self):
        with open(os.path.join(self.work, "huge"), "wb") as out:
            out.write(os.urandom(30_000_000))
        self.git("checkout", "-q", "-b", "huge", cwd=self.work)
        self.git("add", ".", cwd=self.work)
        self.git("commit", "-q", "-m", "Huge", cwd=self.work)
        process = subprocess.Popen(["git", "push", "-q", self.url, "huge"], cwd=self.work, env=self.git.env,
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        eventually(self.server.children, 60, "a child that receives the pack")
        os.killpg(process.pid, 9)
        process.wait()
        self.git("checkout", "-q", "main", cwd=self.work)
        self.server.assert_settled(self.before)
        self.assert_unchanged()

    def test_a_git_clone_that_is_killed(self):
        url = self.server.create("bad/clone")
        source = self.scratch() + "/s"
        self.git("init", "-q", "-b", "main", source)
        with open(source + "/huge", "wb") as out:
            out.write(os.urandom(30_000_000))
        self.git("add", ".", cwd=source)
        self.git("commit", "-q", "-m", "Huge", cwd=source)
        self.git("push", "-q", url, "main", cwd=source)
        before = self.server.files()
        with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=20) as one:
            want = self.git("rev-parse", "main", cwd=source)
            body = packet("command=fetch\n") + b"0001" + packet("want %s\n" % want) + packet("done\n") + FLUSH
            one.sendall(("POST /bad/clone.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nGit-Protocol: "
                         "version=2\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
                         % (self.server.bearer()["Authorization"], UPLOAD["Content-Type"], len(body))).encode() + body)
            self.assertTrue(one.recv(100))
        self.server.assert_settled(before)


class Connections(ServerTestCase):
    """Clients that come and go in every half-way manner cost nothing that lasts."""

    options = {"http": {"idle_timeout": "4s"}}

    def test_descriptors_come_back(self):
        url = self.server.create("connections")
        self.git("ls-remote", url)
        head = ("POST /connections.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: %s\r\n"
                "Content-Length: 5000\r\n\r\n0095" % (self.server.bearer()["Authorization"], RECEIVE["Content-Type"])).encode()
        before = self.server.descriptors()
        for said in (b"", b"G", head[:50], head, os.urandom(200), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(30):
                with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=20) as one:
                    one.sendall(said)
        # All of these are accepted by now, as this one is; each ends by itself within its time.
        self.assertEqual(self.server.http("GET", "/healthz").status, 200)
        eventually(lambda: self.server.descriptors() <= before, 60, "descriptors back at %d" % before)
        self.assertEqual(self.server.http("GET", "/healthz").status, 200)


class DeniedByConfiguration(TestCase):
    def test_non_fast_forwards_and_deletes(self):
        server = gitstead_test.Server(storage={"deny_non_fast_forwards": "true", "deny_deletes": "true"})
        self.addCleanup(server.clean)
        server.start()
        git = gitstead_test.Git(server.new_token("write"))
        url = server.create("denied")
        work = self.scratch()
        git("init", "-q", "-b", "main", cwd=work)
        git("commit", "-q", "--allow-empty", "-m", "One", cwd=work)
        git("push", "-q", url, "main", "main:refs/heads/other", cwd=work)
        before = server.files()
        git("commit", "-q", "--amend", "--allow-empty", "-m", "Another", cwd=work, env={"GIT_COMMITTER_DATE": "1700000000 +0000"})
        self.assertMentions(git.fails("push", "--force", url, "main", cwd=work), "rejected", "non-fast-forward")
        server.assert_settled(before)
        self.assertMentions(git.fails("push", url, ":refs/heads/other", cwd=work), "rejected", "delet")
        server.assert_settled(before)
        self.assertEqual(server.stop(), 0)


class Messages(ServerTestCase):
    """Unknown, malformed and oversized messages, over JSON and over nng's wire."""

    def post(self, method, body, **headers):
        return self.server.http("POST", "/api/v1/" + method, body=body, headers=dict(
            self.server.bearer(), **dict({"Content-Type": "application/json"}, **headers)))

    def test_json(self):
        cases = [
            ("Repository/Nonsense", b"{}", (404, 501), "no such method"),
            ("Nonsense", b"{}", (404, 501), "no such method"),
            ("Ref/List", b"{", (400,), ""),
            ("Ref/List", b"[]", (400,), ""),
            ("Ref/List", b'{"repository": {"path": 7}}', (400,), "path"),
            ("Ref/List", b'{"repositroy": {}}', (400,), "repository"),
            ("Ref/List", b'{"repository": {"path": "a", "path": "b"}}', (400,), "path"),
            ("Ref/List", b'{"repository": {"path": "\xff"}}', (400,), ""),
            ("Ref/List", b"{}", (400,), "repository"),
            ("Ref/List", b'{"repository":' * 5000, (400,), ""),
            ("Ref/List", b"[" * 200000, (400,), ""),
        ]
        for method, body, statuses, word in cases:
            with self.subTest(body=body[:40]):
                response = self.post(method, body)
                self.assertIn(response.status, statuses, response.body[:300])
                self.assertMentions(response.body.decode(errors="replace"), word)
        response = self.post("Ref/List", b'{"repository": {"path": "' + b"x" * 3_000_000 + b'"}}')
        self.assertEqual(response.status, 413)
        self.assertEqual(self.post("Server/Ping", b"{}").status, 200)

    def sp_connect(self, family):
        """A connection that has spoken SP's greeting as a REQ peer. Lengths: 8 bytes, on ipc with a 1 before."""
        if family == "ipc":
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(20)
            one.connect(self.server.socket)
        else:
            one = socket.create_connection(("127.0.0.1", self.server.nng_port), timeout=20)
        one.sendall(b"\0SP\0" + struct.pack(">HH", 0x30, 0))
        return one

    def frame(self, family, body):
        return (b"\1" if family == "ipc" else b"") + struct.pack(">Q", len(body)) + body

    def assert_alive(self):
        self.assertEqual(self.server.call("Server/Ping", {"echo": "here"})["echo"], "here")

    def test_nng_garbage(self):
        before = self.server.descriptors()
        for family in ("ipc", "tcp"):
            for body in (b"", b"\x80", b"\x80\0\0\1", b"\x80\0\0\1" + os.urandom(12), b"\x80\0\0\1" + bytes(300),
                         b"\x80\0\0\1" + os.urandom(4000), b"\0\0\0\1" * 100):
                with self.subTest(family=family, body=body[:8]):
                    with self.sp_connect(family) as one:
                        one.sendall(self.frame(family, body))
                        # Our end of the line: what it answers, or that it answers nothing, must cost nobody anything.
                        one.shutdown(socket.SHUT_WR)
                        while one.recv(4096):
                            pass
            for raw in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(64), b"\0SP\0\xff\xff\0\0"):
                with socket.socket(socket.AF_UNIX) if family == "ipc" else socket.socket() as one:
                    one.settimeout(20)
                    one.connect(self.server.socket if family == "ipc" else ("127.0.0.1", self.server.nng_port))
                    one.sendall(raw)
                    while one.recv(4096):
                        pass
            self.assert_alive()
        eventually(lambda: self.server.descriptors() <= before + 2, 60, "descriptors back at %d" % before)

    def test_nng_lengths_that_are_too_large(self):
        for family in ("ipc", "tcp"):
            for length in (1 << 62, 0xffffffffffffffff, 1 << 40, 64 << 20):
                with self.sp_connect(family) as one:
                    one.sendall((b"\1" if family == "ipc" else b"") + struct.pack(">Q", length) + b"x" * 100)
                    while one.recv(4096):
                        pass
            self.assert_alive()
        self.assertLess(self.server.peak_memory(), 300 << 20)

    def test_requests_over_the_limit(self):
        request = json.dumps({"repository": {"path": "x"}, "updates": [
            {"name": "refs/heads/" + "x" * 1000, "new_oid": "1" * 40} for number in range(2000)]})
        result = self.server.cli("call", "Ref/Update", "-", input=request, check=False)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertMentions(result.stderr, "Ref/Update", "bytes")
        self.assert_alive()


class Answers(TestCase):
    def test_what_is_no_answer_of_git_is_no_verdict(self):
        """Whether a push is a fast-forward cannot be said when git fails to tell: 1 means no, everything else is trouble."""
        server = gitstead_test.Server()
        self.addCleanup(server.clean)
        wrapper = os.path.join(self.scratch(), "git")
        with open(wrapper, "w") as out:
            out.write('#!/bin/sh\ncase " $* " in *" merge-base "*)\n  test -f "$0.fails" && { echo "cannot look" >&2; exit 128; };;\n'
                      'esac\nexec %s "$@"\n' % shutil.which("git"))
        os.chmod(wrapper, 0o755)
        server.storage_options = {"git": wrapper}
        server.start()
        url = server.create("told")
        server.call("Repository/ConfigSet", {"repository": {"path": "told"}, "entries": [
            {"key": "receive.denyNonFastForwards", "values": ["true"]}]})
        git = gitstead_test.Git(server.new_token("write"))
        work = self.scratch()
        git("init", "-q", "-b", "main", cwd=work)
        for text in ("One", "Two"):
            git("commit", "-q", "--allow-empty", "-m", text, cwd=work)
        git("push", "-q", url, "main", cwd=work)
        refused = git.run("push", "--force", url, "main~1:main", cwd=work)
        self.assertMentions(refused.stderr.decode(), "(non-fast-forward)")
        with open(wrapper + ".fails", "w"):
            pass
        git("commit", "-q", "--allow-empty", "-m", "Three", cwd=work)
        refused = git.run("push", url, "main", cwd=work)
        self.assertNotEqual(refused.returncode, 0)
        self.assertMentions(refused.stderr.decode(), "cannot tell whether this is a fast-forward", "cannot look")
        self.assertNotIn("(non-fast-forward)", refused.stderr.decode())
        os.unlink(wrapper + ".fails")
        git("push", "-q", url, "main", cwd=work)
        server.assert_settled()


class Plugins(TestCase):
    """Plugin files that do not fit are refused before anything of them runs."""

    GOOD = r"""
#include <gitstead/cache.h>
static gboolean lookup (gpointer s, GsCall *c, GBytes *k, GBytes **v, GError **e) { *v = NULL; return TRUE; }
static gboolean store (gpointer s, GsCall *c, GBytes *k, GBytes *v, gint64 t, GError **e) { return TRUE; }
static gboolean forget (gpointer s, GsCall *c, GBytes *p, GError **e) { return TRUE; }
static void stats (gpointer s, GsCacheStats *r) { r->hits = 0; }
static gpointer create (const GsHost *h, const GsConfig *c, GError **e) { return g_malloc (1); }
static void destroy (gpointer s) { g_free (s); }
static const GsCacheOps ops = { .lookup = lookup, .store = store, .forget_prefix = forget, .stats = stats };
GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "mine", .version = "1.0",
                  .summary = "A cache of ours", .license = "MIT", .ops = &ops, .create = create, .destroy = destroy)
"""

    def build(self, source, name="cache-mine.so"):
        folder = self.scratch()
        path = os.path.join(folder, "plugin.c")
        with open(path, "w") as out:
            out.write(source)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "glib-2.0"], check=True, capture_output=True,
                               text=True).stdout.split()
        target = os.path.join(folder, name)
        subprocess.run(["cc", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-I", os.path.join(gitstead_test.SOURCE, "api"),
                        "-o", target, path] + flags, check=True)
        return target

    @unittest.skipUnless(shutil.which("cc") and shutil.which("pkg-config"), "no C compiler")
    def test_refusals(self):
        self.assertEqual(run_program("plugin", "show", self.build(self.GOOD)).returncode, 0)
        query = "GS_PLUGIN_DEFINE"
        wrong = [
            ("another magic", self.GOOD.replace("#include <gitstead/cache.h>", "#include <gitstead/cache.h>\n"
             "#undef GS_ABI_MAGIC\n#define GS_ABI_MAGIC 0x12345678u"), ("not a Gitstead plugin", "magic")),
            ("another major", self.GOOD.replace("#include <gitstead/cache.h>", "#include <gitstead/cache.h>\n"
             "#undef GS_ABI_MAJOR\n#define GS_ABI_MAJOR 7"), ("7.",)),
            ("another minor", self.GOOD.replace("#include <gitstead/cache.h>", "#include <gitstead/cache.h>\n"
             "#undef GS_ABI_MINOR\n#define GS_ABI_MINOR 999"), (".999",)),
            ("a missing slot", self.GOOD.replace(".store = store,", ""), ("store",)),
            ("no create", self.GOOD.replace(".create = create,", ""), ("create",)),
            ("no such kind", self.GOOD.replace("GS_KIND_CACHE", "4711"), ("kind",)),
            ("no query function", self.GOOD[:self.GOOD.index(query)], ("gs_plugin_query",)),
        ]
        for name, source, words in wrong:
            with self.subTest(name):
                path = self.build(source)
                result = run_program("plugin", "show", path)
                self.assertEqual(result.returncode, 1, result.stdout)
                text = result.stderr
                self.assertMentions(text, path)
                self.assertTrue(any(word.lower() in text.lower() for word in words), text)
                listed = run_program("plugin", "list", "--plugin-path", os.path.dirname(path))
                self.assertEqual(listed.returncode, 1)
                self.assertMentions(listed.stdout, "refused")
                # A server that is told to use it does not start.
                config = os.path.join(self.scratch(), "gitstead.yaml")
                with open(config, "w") as out:
                    out.write("cache: {plugin: %s}\n" % path)
                self.assertMentions(run_program("check", "--config", config).stderr, path)

    def test_files_that_are_no_plugins(self):
        path = os.path.join(self.scratch(), "cache-mine.so")
        for content in (b"", b"not an ELF file", b"\x7fELF" + bytes(100)):
            with open(path, "wb") as out:
                out.write(content)
            result = run_program("plugin", "show", path)
            self.assertEqual(result.returncode, 1)
            self.assertMentions(result.stderr, path)
        result = run_program("plugin", "show", "/nonexistent/cache-x.so")
        self.assertEqual(result.returncode, 1)


class Configurations(TestCase):
    def check(self, change):
        server = gitstead_test.Server()
        self.addCleanup(server.clean)
        server.write_config()
        self.assertEqual(run_program("check", "--config", server.config).returncode, 0)
        with open(server.config) as file:
            text = file.read()
        changed = change(text)
        self.assertNotEqual(changed, text)
        with open(server.config, "w") as out:
            out.write(changed)
        results = [run_program(command, "--config", server.config) for command in ("check", "serve")]
        for result in results:
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertMentions(result.stderr, server.config + ":")
        self.assertEqual(os.listdir(server.root), [])
        self.assertFalse(os.path.exists(os.path.join(server.folder, "metadata.db")))
        lines = changed.splitlines()
        return results[0].stderr, lambda part: next(n for n, line in enumerate(lines, 1) if part in line)

    def test_typos_are_told_with_their_line_and_the_nearest_key(self):
        for right, wrong in (("transports:", "transprots:"), ("listen:", "lisen:"), ("anonymous:", "anonymus:"),
                             ("virtual_storages:", "virtual_storage:")):
            with self.subTest(wrong):
                text, line = self.check(lambda old: old.replace(right, wrong, 1))
                self.assertMentions(text, wrong[:-1], right[:-1])
                self.assertRegex(text, r":%d:\d+: " % line(wrong))

    def test_values_that_do_not_fit(self):
        for right, wrong, words in (('"none"', '"sometimes"', ("sometimes", "read")),
                                    ('"rendezvous"', '"rendevouz"', ("rendevouz", "rendezvous"))):
            with self.subTest(wrong):
                text, line = self.check(lambda old: old.replace(right, wrong, 1))
                self.assertMentions(text, *words)
                self.assertRegex(text, r":%d:\d+: " % line(wrong))

    def test_all_mistakes_in_one_run(self):
        text, _ = self.check(lambda old: old.replace("transports:", "transprots:").replace("anonymous:", "anonymus:"))
        self.assertMentions(text, "transprots", "anonymus")

    def test_yaml_that_is_none(self):
        for broken in ("a: [1, 2", "a: b: c", "\tx: 1", "- just\n- a list\n", "a: &x 1\nb: *x\n", "a: !!python/object 1\n", "\xff"):
            path = os.path.join(self.scratch(), "gitstead.yaml")
            with open(path, "w", encoding="latin-1") as out:
                out.write(broken)
            result = run_program("check", "--config", path)
            self.assertEqual(result.returncode, 1, broken)
            self.assertMentions(result.stderr, path)

    def test_a_file_that_is_not_there(self):
        result = run_program("serve", "--config", "/nonexistent/gitstead.yaml")
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "/nonexistent/gitstead.yaml")
        self.assertEqual(run_program("serve").returncode, 2)
        self.assertEqual(run_program("check", "--confg", "x").returncode, 2)


gitstead_test.main()
