# SPDX-License-Identifier: Apache-2.0
"""Who may come in, and how far: tokens over bearer and basic, scopes, prefixes, expiry, revocation, anonymous callers."""
import base64
import glob
import os
import time

import gitstead_test
from gitstead_test import Git, Server, ServerTestCase, TestCase, eventually


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()}


def seed(test, git, url):
    """Pushes one commit and gives the work tree."""
    work = test.scratch()
    git("init", "-q", "-b", "main", cwd=work)
    git("commit", "-q", "--allow-empty", "-m", "One", cwd=work)
    git("push", "-q", url, "main", cwd=work)
    return work


class Tokens(ServerTestCase):
    def refs(self, path, headers):
        return self.server.http("GET", "/%s.git/info/refs?service=git-upload-pack" % path, headers=headers).status

    def test_without_a_token(self):
        url = self.server.create("closed")
        response = self.server.http("GET", "/closed.git/info/refs?service=git-upload-pack")
        self.assertEqual(response.status, 401)
        self.assertIn("Basic", response.headers["WWW-Authenticate"])
        # Nobody learns from the answer whether a repository exists.
        other = self.server.http("GET", "/not-there.git/info/refs?service=git-upload-pack")
        self.assertEqual((other.status, other.body.replace(b"not-there", b"closed")), (401, response.body))
        self.assertMentions(Git().fails("ls-remote", url), "terminal prompts disabled")

    def test_wrong_tokens(self):
        self.server.create("wrong")
        good = self.server.new_token("read")
        identity, secret = good.split("_")[1], good.split("_", 2)[2]
        changed = secret[:-1] + ("a" if secret[-1] != "a" else "b")
        answers = set()
        for token in ("gs_%s_%s" % (identity, changed), "gs_nobody00_" + secret, "gs_%s_" % identity, "nonsense", "x" * 4000):
            for headers in ({"Authorization": "Bearer " + token}, basic("git", token)):
                response = self.server.http("GET", "/wrong.git/info/refs?service=git-upload-pack", headers=headers)
                self.assertEqual(response.status, 401, headers)
                self.assertNotIn(token.encode(), response.body)
                answers.add(response.body)
        # It never says which part was wrong.
        self.assertEqual(len(answers), 1)
        self.assertEqual(self.refs("wrong", {"Authorization": "Bearer " + good}), 200)

    def test_basic_takes_any_user_name(self):
        self.server.create("basic")
        token = self.server.new_token("read")
        for user in ("git", "x-access-token", "somebody", ""):
            self.assertEqual(self.refs("basic", basic(user, token)), 200)

    def test_scopes(self):
        url = self.server.create("scopes")
        seed(self, self.git, url)
        reader = Git(self.server.new_token("read"))
        work = self.scratch() + "/work"
        reader("clone", "-q", url, work)
        reader("commit", "-q", "--allow-empty", "-m", "Two", cwd=work)
        before = self.server.files()
        text = reader.fails("push", "origin", "main", cwd=work)
        self.assertMentions(text, "403")
        self.server.assert_settled(before)
        self.git("push", "-q", url, "main", cwd=work)
        # Writing is not administration.
        writer = {"GITSTEAD_TOKEN": self.server.new_token("write"),
                  "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port}
        for words in (("repo", "create", "scopes-2"), ("repo", "delete", "scopes", "--yes"), ("token", "list")):
            result = self.server.cli(*words, check=False, env=writer)
            self.assertEqual(result.returncode, 1)
            self.assertMentions(result.stderr, "admin")
        self.server.cli("repo", "show", "scopes", env=writer)
        admin = dict(writer, GITSTEAD_TOKEN=self.server.new_token("admin"))
        self.server.cli("repo", "create", "scopes-2", env=admin)

    def test_prefixes(self):
        inside, outside = self.server.create("team/one"), self.server.create("teams/two")
        seed(self, self.git, inside)
        seed(self, self.git, outside)
        token = self.server.new_token("write", prefix="team")
        git = Git(token)
        git("ls-remote", inside)
        # "team" is a folder here, not the beginning of a word.
        self.assertMentions(git.fails("ls-remote", outside), "403")
        listed = self.server.cli("repo", "list", "--quiet", env={
            "GITSTEAD_TOKEN": token, "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port}).stdout.split()
        self.assertIn("team/one.git", listed)
        self.assertNotIn("teams/two.git", listed)
        # What is out of reach looks the same whether it is there or not.
        there = self.server.http("GET", "/teams/two.git/info/refs?service=git-upload-pack",
                                 headers={"Authorization": "Bearer " + token})
        absent = self.server.http("GET", "/teams/nil.git/info/refs?service=git-upload-pack",
                                  headers={"Authorization": "Bearer " + token})
        self.assertEqual((there.status, there.body.replace(b"teams/two", b"")),
                         (absent.status, absent.body.replace(b"teams/nil", b"")))

    def test_revoked(self):
        self.server.create("revoked")
        token = self.server.new_token("read")
        headers = {"Authorization": "Bearer " + token}
        self.assertEqual(self.refs("revoked", headers), 200)
        self.server.cli("token", "revoke", token.split("_")[1])
        eventually(lambda: self.refs("revoked", headers) == 401, 60, "the refusal of a revoked token")

    def test_expires(self):
        self.server.create("expires")
        for seconds in (2, 10, 60):  # the longer ones on a machine that is too slow to use the shorter ones
            begun = time.monotonic()
            headers = {"Authorization": "Bearer " + self.server.new_token("read", expires="%ds" % seconds)}
            if self.refs("expires", headers) == 200:
                break
            self.assertGreaterEqual(time.monotonic() - begun, seconds)
        else:
            self.fail("no token was good before it expired")
        eventually(lambda: self.refs("expires", headers) == 401, 90, "the refusal of an expired token")

    def test_secrets_are_kept_nowhere(self):
        url = self.server.create("secret")
        token = self.server.new_token("write")
        secret = token.split("_", 2)[2].encode()
        seed(self, Git(token), url)
        self.server.cli("repo", "list", env={"GITSTEAD_TOKEN": token,
                                             "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port})
        self.assertNotIn(secret, self.server.log_text().encode())
        for path in glob.glob(os.path.join(self.server.folder, "metadata.db*")):
            with open(path, "rb") as file:
                self.assertNotIn(secret, file.read(), path)

    def test_a_signed_call_over_tcp(self):
        token = self.server.new_token("admin")
        url = "tcp://127.0.0.1:%d" % self.server.nng_port
        self.server.cli("token", "list", env={"GITSTEAD_TOKEN": token, "GITSTEAD_SERVER": url})
        # Without a token nobody is anybody over tcp.
        result = self.server.cli("token", "list", check=False, env={"GITSTEAD_SERVER": url})
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "hint:", "GITSTEAD_TOKEN")
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        result = self.server.cli("token", "list", check=False, env={"GITSTEAD_TOKEN": wrong, "GITSTEAD_SERVER": url})
        self.assertEqual(result.returncode, 1)


class Anonymous(TestCase):
    def test_reads_only_where_configured(self):
        server = Server(access={"anonymous": "read"})
        self.addCleanup(server.clean)
        server.start()
        url = server.create("open")
        work = seed(self, Git(server.new_token("write")), url)
        nobody = Git()
        clone = self.scratch() + "/clone"
        nobody("clone", "-q", url, clone)
        nobody("commit", "-q", "--allow-empty", "-m", "Two", cwd=work)
        before = server.files()
        # Asked for credentials, rather than refused for good: a client that has some can show them.
        response = server.http("GET", "/open.git/info/refs?service=git-receive-pack")
        self.assertEqual(response.status, 401)
        nobody.fails("push", url, "main", cwd=work)
        server.assert_settled(before)
        self.assertEqual(server.stop(), 0)

    def test_nothing_by_default(self):
        server = Server()
        self.addCleanup(server.clean)
        server.start()
        server.create("shut")
        for path in ("/shut.git/info/refs?service=git-upload-pack", "/shut.git/info/refs?service=git-receive-pack"):
            self.assertEqual(server.http("GET", path).status, 401)
        # Health is nobody's secret.
        self.assertEqual(server.http("GET", "/healthz").status, 200)
        self.assertEqual(server.http("GET", "/readyz").status, 200)
        self.assertEqual(server.stop(), 0)


gitstead_test.main()
