# SPDX-License-Identifier: Apache-2.0
"""The nng transport with the whole server behind it: a foreign client, and clients killed in mid-traffic."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import gitstead_test
from gitstead_test import SOURCE, Git, ServerTestCase, clean_environment

RUNNER = os.path.join(SOURCE, "tests/integration/python_client.py")
TORTURE = os.environ.get("GITSTEAD_TEST_NNG_TORTURE")
TOUR = os.environ.get("GITSTEAD_TEST_CLIENT_TOUR")
HELPERS = os.environ.get("GITSTEAD_TEST_CLIENT_HELPERS")


class Nng(ServerTestCase):
    @property
    def tcp(self):
        return "tcp://127.0.0.1:%d" % self.server.nng_port

    def python_client(self, url, *arguments, token=None):
        env = {"HOME": os.environ.get("HOME", "/nonexistent")}
        if token:
            env["GITSTEAD_TOKEN"] = token
        result = subprocess.run([sys.executable, RUNNER, url] + list(arguments), env=clean_environment(env),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        if result.returncode == 77:
            raise unittest.SkipTest(result.stderr.decode().strip())
        return result

    def test_python_client_lists_refs_and_reads_a_blob(self):
        url = self.server.create("python")
        work = self.scratch()
        token = self.server.new_token("write")
        git = Git(token)
        git("init", "-q", "-b", "main", cwd=work)
        content = bytes(range(256)) * 1000
        with open(os.path.join(work, "blob.bin"), "wb") as file:
            file.write(content)
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", "One", cwd=work)
        git("branch", "side", cwd=work)
        git("push", "-q", url, "main", "side", cwd=work)
        head = git("rev-parse", "main", cwd=work).strip()
        for address, shown in ((self.tcp, token), ("ipc://" + self.server.socket, None)):
            refs = self.python_client(address, "refs", "python", token=shown)
            self.assertEqual(refs.stderr, b"")
            self.assertEqual(refs.stdout.decode().splitlines(),
                             ["%s %s" % (head, name) for name in ("HEAD", "refs/heads/main", "refs/heads/side")])
            blob = self.python_client(address, "read", "python", "main:blob.bin", token=shown)
            self.assertEqual((blob.stdout, blob.stderr), (content, b""))
        # wrong credentials and a repository that is not there
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        self.assertIn(b"UNAUTHENTICATED", self.python_client(self.tcp, "refs", "python", token=wrong).stderr)
        self.assertIn(b"UNAUTHENTICATED", self.python_client(self.tcp, "refs", "python").stderr)
        self.assertIn(b"NOT_FOUND", self.python_client(self.tcp, "refs", "not-there", token=token).stderr)

    def go_client(self, url, *arguments, token=None):
        go = shutil.which("go")
        if go is None:
            raise unittest.SkipTest("there is no go toolchain on this machine")
        version = subprocess.run([go, "env", "GOVERSION"], stdout=subprocess.PIPE, text=True, cwd="/").stdout
        if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < (1, 19):
            raise unittest.SkipTest("go 1.19 or newer is wanted, here is %s" % version.strip())
        cls = type(self)
        if cls.go_program is None:
            folder = self.scratch_of_class()
            # Only the standard library: nothing is fetched.
            built = subprocess.run([go, "build", "-o", os.path.join(folder, "client"), "."], cwd=os.path.join(SOURCE, "api/examples/go"),
                                   env=dict({"GOCACHE": os.path.join(folder, "cache")} if "HOME" not in os.environ else {},
                                            **dict(os.environ, GOTOOLCHAIN="local", GOPROXY="off", CGO_ENABLED="0")),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.assertEqual(built.returncode, 0, built.stdout)
            cls.go_program = os.path.join(folder, "client")
        env = {"GITSTEAD_PROTO": os.path.join(SOURCE, "api/proto")}
        if token:
            env["GITSTEAD_TOKEN"] = token
        return subprocess.run([cls.go_program, url] + list(arguments), env=clean_environment(env), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    go_program = None

    def scratch_of_class(self):
        folder = tempfile.mkdtemp(prefix="gitstead-go-")
        self.addClassCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def check_tour(self, client, name):
        """The ten most used calls, over a unix socket and over tcp with signatures; told as stock git tells it."""
        token = self.server.new_token("admin")
        git = Git()
        for number, (address, shown) in enumerate((("ipc://" + self.server.socket, None), (self.tcp, token))):
            path = "tour-%s-%d" % (name, number)
            done = client(address, "tour", path, token=shown)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            folder = self.server.replica(path)

            def ask(*arguments):
                return git(*arguments, cwd=folder)

            topic, base = ask("rev-parse", "topic"), ask("rev-parse", "topic~")
            tar = hashlib.sha256(git.run("archive", "--format=tar", "--prefix=tour/", "main", cwd=folder).stdout).hexdigest()
            self.assertEqual(done.stdout.decode().splitlines(), [
                "created, objects sha1", "committed " + base, "committed " + topic,
                "ref %s HEAD" % base, "ref %s refs/heads/main" % base, "ref %s refs/heads/topic" % topic,
                'commit %s by Ann Author: "Say more\\n"' % topic, "history " + topic, "history " + base,
                "entry 100644 BLOB README.md", "entry 040000 TREE src", "entry 100644 BLOB src/main.c",
                'blob 19 bytes: "# Tour\\n\\nTen calls.\\n"', "diff README.md +2 -0",
                "merged CHANGE_DONE " + ask("rev-parse", "main"), "archive " + tar, "refused NOT_FOUND revisions[0]"])
            self.assertEqual(ask("log", "-1", "--format=%s|%P", "main"), "Merge topic|%s %s" % (base, topic))
            git.fsck(folder)
            # There is one now: the answer is an error, and says which.
            again = client(address, "tour", path, token=shown)
            self.assertNotEqual(again.returncode, 0)
            self.assertIn(b"ALREADY_EXISTS", again.stderr)
        self.assertIn(b"UNAUTHENTICATED", client(self.tcp, "tour", "nobody", token=token[:-1] + ("a" if token[-1] != "a" else "b")).stderr)

    def test_python_tour_of_the_most_used_calls(self):
        self.check_tour(self.python_client, "python")

    def test_go_tour_of_the_most_used_calls(self):
        self.check_tour(self.go_client, "go")

    def c_client(self, url, *arguments, token=None):
        if not TOUR:
            raise unittest.SkipTest("GITSTEAD_TEST_CLIENT_TOUR does not name the example in C")
        return subprocess.run([TOUR, url] + list(arguments), env=clean_environment({"GITSTEAD_TOKEN": token} if token else {}),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    def test_c_tour_of_the_most_used_calls(self):
        self.check_tour(self.c_client, "c")

    def test_c_helpers(self):
        if not HELPERS:
            raise unittest.SkipTest("GITSTEAD_TEST_CLIENT_HELPERS does not name the program")
        done = subprocess.run([HELPERS, "ipc://" + self.server.socket, "helpers"], env=clean_environment(), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertNotIn("not ok", done.stdout)

    def test_the_documents_own_client(self):
        """The few lines of Python in docs/wire-protocol.md do what they say."""
        with open(os.path.join(SOURCE, "docs/wire-protocol.md")) as file:
            snippet = re.search(r"```python\n(.*?)```", file.read(), re.S).group(1)
        self.assertEqual(snippet.count("7418"), 1)
        result = subprocess.run([sys.executable, "-c", snippet.replace("7418", str(self.server.nng_port))],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual((result.stdout, result.stderr), (b"b'\\n\\x02hi'\n", b""))

    def test_clients_killed_in_mid_traffic(self):
        if not TORTURE:
            raise unittest.SkipTest("GITSTEAD_TEST_NNG_TORTURE does not name the program that kills clients")
        clients = os.environ.get("GITSTEAD_TEST_KILLED_CLIENTS", "60" if gitstead_test.SLOW == 1 else "24")
        result = subprocess.run([TORTURE, clients, str(self.server.process.pid), self.tcp, "ipc://" + self.server.socket],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                timeout=1500)
        print("# " + result.stdout.replace("\n", "\n# "), flush=True)
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    gitstead_test.main()
