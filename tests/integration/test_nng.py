# SPDX-License-Identifier: Apache-2.0
"""The nng transport with the whole server behind it: a foreign client, and clients killed in mid-traffic."""
import os
import re
import subprocess
import sys
import unittest

import gitstead_test
from gitstead_test import SOURCE, Git, ServerTestCase, clean_environment

RUNNER = os.path.join(SOURCE, "tests/integration/python_client.py")
TORTURE = os.environ.get("GITSTEAD_TEST_NNG_TORTURE")


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
        result = subprocess.run([TORTURE, "60", str(self.server.process.pid), self.tcp, "ipc://" + self.server.socket],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                timeout=300)
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    gitstead_test.main()
