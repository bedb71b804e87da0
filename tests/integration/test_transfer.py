# SPDX-License-Identifier: Apache-2.0
"""Whole histories in and out: bundles, forks, other servers. What comes of each is compared with stock git's own clone,
fetch or push of the same; whatever fails leaves nothing; no credential is found anywhere."""
import base64
import http.server
import json
import os
import re
import signal
import subprocess
import tempfile
import shutil
import threading

import gitstead_test
from cluster_test import NODES, Cluster
from git_histories import git, history
from gitstead_test import Git, ServerTestCase, ZERO, eventually, refs_digest


def text(value):
    """A bytes field as text."""
    return base64.b64decode(value["base64"]).decode("utf-8", "surrogateescape") if isinstance(value, dict) else value


def table(reply):
    """{name: outcome} of a transfer's reply."""
    return {text(ref["name"]): ref["outcome"].replace("TRANSFER_", "") for ref in reply["refs"]}


class TransferCase(ServerTestCase):
    COUNT = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = cls.server.new_token("admin")

    def setUp(self):
        super().setUp()
        self.work = self.scratch()
        TransferCase.COUNT += 1
        self.name = "t%d" % TransferCase.COUNT

    def repository(self, name=None):
        return {"repository": {"path": name or self.name}}

    def stream(self, method, request, data, check=True):
        result = self.server.cli("call", method, json.dumps(request), input=data, text=False, check=False)
        if check:
            self.assertEqual(result.returncode, 0, result.stderr.decode())
            return json.loads(result.stdout)
        self.assertEqual(result.returncode, 1, result.stdout)
        return result.stderr.decode()

    def attempt(self, method, request):
        """The code of the outcome, and the reply or the message."""
        reply = self.server.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + self.admin, "Content-Type": "application/json"}, timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def refused(self, code, method, request, *mentions):
        found, message = self.attempt(method, request)
        self.assertEqual(found, code, "%s %s: %s" % (method, request, message))
        self.assertMentions(message, *mentions)
        return message

    def push(self, name, folder, *specs):
        """A repository of the server with what is in @folder."""
        url = self.server.create(name)
        self.git("push", "-q", url, *(specs or ("+refs/*:refs/*",)), cwd=folder)
        return url

    def refs(self, folder):
        return dict(reversed(line.split(" ", 1)) for line in
                    Git()("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder).splitlines())

    def same(self, name, folder, head=None):
        """The repository has @folder's refs and objects, and its record says so."""
        replica = self.server.replica(name)
        self.assertEqual(self.refs(replica), self.refs(folder))
        if head:
            self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), head)
        Git()("fsck", "--full", "--connectivity-only", cwd=replica)
        self.assertEqual(git(replica, "rev-list", "--all", "--objects", "--no-object-names"),
                         git(folder, "rev-list", "--all", "--objects", "--no-object-names"))
        info = self.server.info(name)
        self.assertEqual(info["refs_digest"], refs_digest(Git(), replica))
        return info

    def grow(self, folder, branch="main", name="file"):
        """One more commit on a branch of a bare repository."""
        blob = git(folder, "hash-object", "-w", "--stdin", input=os.urandom(40).hex().encode()).decode().strip()
        tree = git(folder, "mktree", input=("100644 blob %s\t%s\n" % (blob, name)).encode()).decode().strip()
        parent = git(folder, "rev-parse", "--verify", "-q", branch).decode().strip()
        oid = git(folder, "commit-tree", "-p", parent, "-m", "More", tree).decode().strip()
        git(folder, "update-ref", "refs/heads/" + branch, oid)
        return oid

    def copy(self, name):
        folder = os.path.join(self.work, "%s%d" % (name, len(os.listdir(self.work))))
        Git()("clone", "-q", "--mirror", history(name), folder)
        return folder


class Bundles(TransferCase):
    def bundle(self, folder, *arguments):
        path = os.path.join(self.work, "b%d.bundle" % len(os.listdir(self.work)))
        git(folder, "bundle", "create", "-q", path, *arguments)
        with open(path, "rb") as file:
            return file.read()

    def test_create_from_a_bundle_is_a_clone_of_it(self):
        for name in ("odd", "plain"):
            with self.subTest(history=name):
                folder = history(name)
                data = self.bundle(folder, "--all", "HEAD")
                here = self.name + name
                reply = self.stream("Repository/CreateFromBundle", self.repository(here), data)
                self.assertEqual(reply["info"]["repository"]["path"], here + ".git")
                info = self.same(here, folder, Git()("symbolic-ref", "HEAD", cwd=folder))
                self.assertEqual(int(info["generation"]), 1)
                checksum = self.server.call("Repository/Checksum", self.repository(here))
                self.assertEqual(checksum["refs_digest"], info["refs_digest"])
        # It is an ordinary repository from then on.
        url = "%s/%splain.git" % (self.server.url, self.name)
        clone = os.path.join(self.work, "clone")
        self.git("clone", "-q", url, clone)
        self.git("push", "-q", "origin", "HEAD:refs/heads/pushed", cwd=clone)
        self.assertEqual(int(self.server.info(self.name + "plain")["generation"]), 2)

    def test_the_first_branch(self):
        folder = self.copy("plain")
        git(folder, "branch", "zz", "main~3")
        git(folder, "symbolic-ref", "HEAD", "refs/heads/zz")
        data = self.bundle(folder, "--all", "HEAD")
        self.stream("Repository/CreateFromBundle", self.repository(), data)
        self.same(self.name, folder, "refs/heads/zz")
        self.stream("Repository/CreateFromBundle", dict(self.repository(self.name + "b"), default_branch="topic"), data)
        self.same(self.name + "b", folder, "refs/heads/topic")
        only = dict(self.repository(self.name + "c"), rules={"refspecs": ["refs/heads/main:refs/heads/trunk"]})
        self.stream("Repository/CreateFromBundle", only, data)
        self.assertEqual(self.refs(self.server.replica(self.name + "c")),
                         {"refs/heads/trunk": Git()("rev-parse", "main", cwd=folder)})

    def test_a_failed_creation_leaves_nothing(self):
        folder = self.copy("plain")
        whole = self.bundle(folder, "--all")
        part = self.bundle(folder, "main", "^main~2")
        before = self.server.files()
        for data, words in ((b"", "the bundle"), (b"junk" * 1000, "the bundle"), (whole[:-30], "index-pack"),
                            (whole[:len(whole) // 2], "index-pack"), (part, "lacks these prerequisite")):
            message = self.stream("Repository/CreateFromBundle", self.repository(), data, check=False)
            self.assertMentions(message, words)
            self.assertNotIn(self.server.root, message)
            self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
            eventually(lambda: not self.server.leftovers(), 5, "the end of %s" % self.server.leftovers())
        kept = {path for path in self.server.files() if not path.startswith("gitstead-trash/")}
        self.assertEqual(kept, {path for path in before if not path.startswith("gitstead-trash/")})
        # The name is free, and a creation takes it.
        self.stream("Repository/CreateFromBundle", self.repository(), whole)
        self.same(self.name, folder)
        message = self.stream("Repository/CreateFromBundle", self.repository(), whole, check=False)
        self.assertMentions(message, "exists already")
        self.same(self.name, folder)

    def test_a_bundle_that_is_a_way_into_another_repository(self):
        """A file "gitdir: …" is a repository for git, and git finds it by the path from the file as well."""
        self.push(self.name + "other", history("plain"))
        other = self.server.replica(self.name + "other")
        self.server.create(self.name)
        before = self.server.files()
        for data in (b"gitdir: %s\n", b"gitdir: %s", b"# v2 git bundle\ngitdir: %s\n", b"\n# v2 git bundle\ngitdir: %s\n"):
            data = data % other.encode()
            for rules in ({}, {"refspecs": ["refs/*:refs/*"]}):
                request = dict(self.repository(), rules=rules)
                message = self.stream("Repository/BundleApply", request, data, check=False)
                self.assertMentions(message, "bundle")
                self.assertNotIn(self.server.root, message)
            self.stream("Repository/CreateFromBundle", self.repository(self.name + "new"), data, check=False)
            self.assertFalse(self.server.call("Repository/Exists", self.repository(self.name + "new"))["exists"])
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        kept = [{path for path in files if not path.startswith("gitstead-trash/")} for files in (before, self.server.files())]
        self.assertEqual(*kept)

    def test_apply_what_is_new(self):
        folder = self.copy("plain")
        self.push(self.name, folder)
        old = Git()("rev-parse", "main", cwd=folder)
        for _ in range(3):
            self.grow(folder)
        git(folder, "tag", "-a", "-m", "fresh", "fresh", "main")
        data = self.bundle(folder, "main", "fresh", "^" + old)
        dry = self.stream("Repository/BundleApply", dict(self.repository(), rules={"dry_run": True}), data)
        self.assertEqual(table(dry), {"refs/heads/main": "FORWARDED", "refs/tags/fresh": "CREATED"})
        self.assertIsNone(dry.get("receipt"))
        reply = self.stream("Repository/BundleApply", self.repository(), data)
        self.assertEqual(table(reply), table(dry))
        self.same(self.name, folder)
        again = self.stream("Repository/BundleApply", self.repository(), data)
        self.assertEqual((again["refs"], int(again["unchanged"])), ([], 2))
        self.server.assert_settled()

    def test_apply_without_what_it_builds_on(self):
        folder = self.copy("plain")
        self.push(self.name, folder, "main~5:refs/heads/main")
        data = self.bundle(folder, "main", "^main~2")
        before = self.server.files()
        message = self.stream("Repository/BundleApply", self.repository(), data, check=False)
        self.assertMentions(message, "lacks these prerequisite commits")
        self.server.assert_settled(before)

    def test_what_would_lose_commits_is_left_alone(self):
        folder, other = self.copy("plain"), self.copy("odd")
        self.push(self.name, folder)
        was = self.refs(folder)
        git(folder, "update-ref", "refs/heads/main", "main~4")
        mine = self.grow(folder)
        data = self.bundle(folder, "main")
        reply = self.stream("Repository/BundleApply", self.repository(), data)
        self.assertEqual(table(reply), {"refs/heads/main": "DIVERGENT"})
        self.assertEqual(self.refs(self.server.replica(self.name)), was)
        plus = self.stream("Repository/BundleApply", dict(self.repository(), rules={"refspecs": ["+refs/heads/*:refs/heads/*"]}), data)
        self.assertEqual(table(plus), {"refs/heads/main": "REPLACED"})
        self.assertEqual(self.refs(self.server.replica(self.name)), dict(was, **{"refs/heads/main": mine}))
        # Another history, as a mirror: what it does not have goes.
        data = self.bundle(other, "--all")
        self.stream("Repository/BundleApply", dict(self.repository(), rules={"refspecs": ["+refs/*:refs/*"], "prune": True}), data)
        self.same(self.name, other)

    def test_refspecs_that_are_none(self):
        self.push(self.name, history("plain"))
        data = self.bundle(history("plain"), "main")
        for spec, words in (("main:main", "not below refs/"), ("--upload-pack=x:refs/heads/x", "not below refs/"),
                            ("refs/heads/*:refs/heads/x", "one side"), ("refs/heads/main", "no ':'"),
                            ("refs/heads/**:refs/heads/**", "refs/heads/**"), ("refs/heads/a b:refs/heads/c", "a b"),
                            ("refs/../x:refs/heads/c", "refs/../x"), ("refs/heads/a\nb:refs/heads/c", "refs/heads/a"),
                            ("ext::sh -c id:refs/heads/x", "not below refs/")):
            request = dict(self.repository(), rules={"refspecs": [spec]})
            message = self.stream("Repository/BundleApply", request, data, check=False)
            self.assertMentions(message, "rules.refspecs", words)
        request = dict(self.repository(), rules={"refspecs": ["refs/heads/main:refs/gitstead/x"]})
        self.assertMentions(self.stream("Repository/BundleApply", request, data, check=False), "the server's own")
        request = dict(self.repository(), rules={"refspecs": ["refs/heads/absent:refs/heads/x"]})
        self.assertMentions(self.stream("Repository/BundleApply", request, data, check=False), "couldn't find remote ref refs/heads/absent")
        self.server.assert_settled()

    def test_eight_at_once_create_one_repository(self):
        data = self.bundle(history("plain"), "--all", "HEAD")
        codes = []

        def one():
            result = self.server.cli("call", "Repository/CreateFromBundle", json.dumps(self.repository()), input=data,
                                     text=False, check=False)
            codes.append((result.returncode, result.stderr.decode()))

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(code == 0 for code, _ in codes), 1, codes)
        for code, message in codes:
            if code != 0:
                self.assertMentions(message, "exists already")
        self.same(self.name, history("plain"))
        eventually(lambda: not self.server.leftovers(), 5, "the end of %s" % self.server.leftovers())

    def test_eight_at_once_apply_to_one_branch(self):
        folder = self.copy("plain")
        self.push(self.name, folder)
        base = Git()("rev-parse", "main", cwd=folder)
        bundles = []
        for _ in range(8):
            git(folder, "update-ref", "refs/heads/main", base)
            bundles.append((self.grow(folder), self.bundle(folder, "main", "^" + base)))
        found = []

        def one(data):
            result = self.server.cli("call", "Repository/BundleApply", json.dumps(self.repository()), input=data, text=False,
                                     check=False)
            found.append((result.returncode, result.stdout.decode(), result.stderr.decode()))

        threads = [threading.Thread(target=one, args=(data,)) for _, data in bundles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [out for code, out, _ in found if code == 0 and table(json.loads(out)) == {"refs/heads/main": "FORWARDED"}]
        self.assertEqual(len(done), 1, found)
        for code, out, err in found:
            if code == 0:
                self.assertIn(table(json.loads(out)), ({"refs/heads/main": "FORWARDED"}, {"refs/heads/main": "DIVERGENT"}))
            else:
                self.assertRegex(err, "the reference has moved|is locked|failed to lock|has moved")
        self.assertIn(self.refs(self.server.replica(self.name))["refs/heads/main"], [oid for oid, _ in bundles])
        self.server.assert_settled()
        Git()("fsck", "--full", "--strict", "--no-dangling", cwd=self.server.replica(self.name))


class Forks(TransferCase):
    def fork(self, source, name=None, **rest):
        return self.server.call("Repository/Fork", dict(self.repository(name), source={"path": source}, **rest))

    def test_a_fork_is_a_copy_that_needs_nothing_of_its_source(self):
        for name in ("odd", "plain"):
            source, fork = self.name + name, self.name + name + "-fork"
            self.push(source, history(name))
            self.server.call("Ref/SetDefaultBranch", dict(self.repository(source), branch="main"))
            self.fork(source, fork)
            self.server.call("Repository/Delete", self.repository(source))
            self.same(fork, history(name), "refs/heads/main")

    def test_some_refs_and_another_first_branch(self):
        self.push(self.name + "s", history("plain"))
        self.fork(self.name + "s", refs=["refs/heads/main"], default_branch="main")
        self.assertEqual(self.refs(self.server.replica(self.name)),
                         {"refs/heads/main": Git()("rev-parse", "main", cwd=history("plain"))})

    def test_a_fork_of_an_empty_repository(self):
        self.server.create(self.name + "s")
        self.server.call("Ref/SetDefaultBranch", dict(self.repository(self.name + "s"), branch="trunk"))
        self.fork(self.name + "s")
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=self.server.replica(self.name)), "refs/heads/trunk")

    def test_what_cannot_be_forked(self):
        self.push(self.name + "s", history("plain"))
        for source, code in (("absent", "NOT_FOUND"), ("../x", "INVALID_ARGUMENT"), ("", "INVALID_ARGUMENT"),
                             ("/etc/passwd", "INVALID_ARGUMENT"), ("-x", "INVALID_ARGUMENT")):
            self.refused(code, "Repository/Fork", dict(self.repository(), source={"path": source}), "source")
        self.refused("INVALID_ARGUMENT", "Repository/Fork", self.repository(), "source")
        self.refused("NOT_FOUND", "Repository/Fork",
                     dict(self.repository(), source={"path": self.name + "s"}, refs=["refs/heads/absent"]), "absent")
        self.refused("ALREADY_EXISTS", "Repository/Fork",
                     dict(self.repository(self.name + "s"), source={"path": self.name + "s"}))
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        self.server.assert_settled()

    def test_a_source_that_is_damaged(self):
        self.push(self.name + "s", history("plain"))
        packs = os.path.join(self.server.replica(self.name + "s"), "objects/pack")
        pack, = [os.path.join(packs, one) for one in os.listdir(packs) if one.endswith(".pack")]
        os.chmod(pack, 0o600)
        with open(pack, "r+b") as file:
            size = file.seek(0, 2)
            for at in range(2000, size - 100, 997):
                file.seek(at)
                file.write(b"\0\0\0\0")
        code, message = self.attempt("Repository/Fork", dict(self.repository(), source={"path": self.name + "s"}))
        self.assertIn(code, ("DATA_LOSS", "INTERNAL"), message)
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        eventually(lambda: not self.server.leftovers(), 5, "the end of %s" % self.server.leftovers())


SECRET = "s3cr3t-%s" % os.urandom(8).hex()


class Upstream(http.server.BaseHTTPRequestHandler):
    """A server that only looks at what it is sent."""
    protocol_version = "HTTP/1.0"
    seen = []
    status, location = 401, None

    def do_GET(self):
        type(self).seen.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        if self.location:
            self.send_header("Location", self.location)
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Remotes(TransferCase):
    """The other server is this one, by its own HTTP door: stock git speaks on both sides."""

    @classmethod
    def setUpClass(cls):
        cls.files = tempfile.mkdtemp(prefix="gitstead-remote-")
        cls.addClassCleanup(shutil.rmtree, cls.files, ignore_errors=True)
        cls.upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        cls.addClassCleanup(cls.upstream.server_close)
        thread = threading.Thread(target=cls.upstream.serve_forever, daemon=True)
        thread.start()
        cls.addClassCleanup(thread.join)
        cls.addClassCleanup(cls.upstream.shutdown)
        cls.options = {"storage": {"remote_allow": [
            "http://127.0.0.1:*", "https://*.example.org", "http://*:81", "file://" + cls.files]}}
        super().setUpClass()

    def remote(self, name, **rest):
        return dict({"url": "%s/%s.git" % (self.server.url, name), "authorization": "Bearer " + self.admin}, **rest)

    def fetch(self, remote, name=None, **rules):
        request = dict(self.repository(name), remote=remote)
        if rules:
            request["rules"] = rules
        code, reply = self.attempt("Repository/Fetch", request)
        self.assertEqual(code, "OK", reply)
        return reply

    # ------------------------------------------------------------------------------------------ in

    def test_create_from_a_url_is_a_mirror_clone(self):
        for name in ("odd", "plain"):
            source, here = self.name + name, self.name + name + "-copy"
            self.push(source, history(name), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            branch = sorted(ref for ref in self.refs(self.server.replica(source)) if ref.startswith("refs/heads/"))[-1]
            self.server.call("Ref/SetDefaultBranch", dict(self.repository(source), branch=branch))
            code, reply = self.attempt("Repository/CreateFromUrl", dict(self.repository(here), remote=self.remote(source)))
            self.assertEqual(code, "OK", reply)
            self.same(here, self.server.replica(source), branch)
        self.server.assert_settled()

    def test_create_with_rules(self):
        self.push(self.name + "s", history("plain"))
        code, reply = self.attempt("Repository/CreateFromUrl", dict(
            self.repository(), remote=self.remote(self.name + "s"), default_branch="trunk",
            rules={"refspecs": ["refs/heads/main:refs/heads/trunk"]}))
        self.assertEqual(code, "OK", reply)
        replica = self.server.replica(self.name)
        self.assertEqual(self.refs(replica), {"refs/heads/trunk": Git()("rev-parse", "main", cwd=history("plain"))})
        self.assertEqual(Git()("symbolic-ref", "HEAD", cwd=replica), "refs/heads/trunk")

    def test_create_from_an_empty_one(self):
        self.server.create(self.name + "s")
        code, reply = self.attempt("Repository/CreateFromUrl", dict(self.repository(), remote=self.remote(self.name + "s")))
        self.assertEqual(code, "OK", reply)
        self.assertEqual(self.refs(self.server.replica(self.name)), {})

    def test_create_that_fails_leaves_nothing(self):
        self.push(self.name + "s", history("plain"))
        for code, remote in (("NOT_FOUND", self.remote("absent")),
                             ("PERMISSION_DENIED", self.remote(self.name + "s", authorization="")),
                             ("UNAVAILABLE", {"url": "http://127.0.0.1:1/x.git"})):
            self.refused(code, "Repository/CreateFromUrl", dict(self.repository(), remote=remote))
        self.refused("NOT_FOUND", "Repository/CreateFromUrl", dict(
            self.repository(), remote=self.remote(self.name + "s"), rules={"refspecs": ["refs/heads/no:refs/heads/no"]}))
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        self.server.assert_settled()

    def test_fetch_is_what_git_fetch_does(self):
        source = self.copy("plain")
        url = self.push(self.name + "s", source)
        self.push(self.name, source, "main~5:refs/heads/main", "main:refs/heads/mine")
        mine = Git()("rev-parse", "main", cwd=source)
        reply = self.fetch(self.remote(self.name + "s"))
        self.assertEqual(table(reply)["refs/heads/main"], "FORWARDED")
        self.assertEqual({name: outcome for name, outcome in table(reply).items() if outcome != "CREATED"},
                         {"refs/heads/main": "FORWARDED"})
        replica = self.server.replica(self.name)
        self.assertEqual(self.refs(replica), dict(self.refs(source), **{"refs/heads/mine": mine}))
        self.assertEqual(self.fetch(self.remote(self.name + "s"))["refs"], [])
        # A branch that was rewritten over there, one that is gone, a tag that moved.
        git(source, "update-ref", "refs/heads/main", "main~2")
        rewritten = self.grow(source)
        tag = sorted(name for name in self.refs(source) if name.startswith("refs/tags/"))[0]
        git(source, "update-ref", tag, "main~1")
        self.git("push", "-q", "--prune", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", cwd=source)
        reply = self.fetch(self.remote(self.name + "s"))
        self.assertEqual(table(reply), {"refs/heads/main": "DIVERGENT", tag: "DIVERGENT"})
        dry = self.fetch(self.remote(self.name + "s"), force=True, prune=True, dry_run=True)
        reply = self.fetch(self.remote(self.name + "s"), force=True, prune=True)
        self.assertEqual(dry["refs"], reply["refs"])
        self.assertEqual(table(reply), {"refs/heads/main": "REPLACED", tag: "REPLACED", "refs/heads/mine": "DELETED"})
        self.assertEqual(self.refs(replica), self.refs(source))
        self.assertEqual(self.refs(replica)["refs/heads/main"], rewritten)
        changes = self.server.call("Repository/Changes", self.repository())["changes"]
        self.assertEqual(bytes.fromhex(changes[-1]["receipt"]["transaction_id"]),
                         bytes.fromhex(reply["receipt"]["transaction_id"]))
        self.server.assert_settled()
        Git()("fsck", "--full", "--strict", "--no-dangling", cwd=replica)

    def test_a_file_below_the_allowed_folder(self):
        inside, outside = os.path.join(self.files, self.name + ".git"), self.copy("plain")
        Git()("clone", "-q", "--mirror", history("plain"), inside)
        os.symlink(outside, os.path.join(self.files, self.name + "-link"))
        code, reply = self.attempt("Repository/CreateFromUrl", dict(self.repository(), remote={"url": "file://" + inside}))
        self.assertEqual(code, "OK", reply)
        self.same(self.name, inside)
        for url in ("file://" + outside, "file://%s/%s-link" % (self.files, self.name), "file:///etc/passwd",
                    "file://" + self.server.replica(self.name)):
            self.refused("PERMISSION_DENIED", "Repository/Fetch", dict(self.repository(), remote={"url": url}), "remote_allow")
        self.refused("PERMISSION_DENIED", "Repository/Mirror", dict(self.repository(), remote={"url": "file://" + inside}))

    def test_urls_that_are_none(self):
        self.server.create(self.name)
        touched = os.path.join(self.work, "touched")
        for url in ("", "-x", "--upload-pack=touch %s" % touched, "ext::touch %s" % touched, "ext::sh -c id", "fd::7", "ssh://h/x", "git://127.0.0.1/x",
                    "ftp://h/x", "HTTP://127.0.0.1/x", "http://127.0.0.1", "http://127.0.0.1/", "http:///x",
                    "http://user@127.0.0.1/x", "http://a:b@127.0.0.1/x", "http://127.0.0.1/x\ny", "http://127.0.0.1/a b",
                    "http://127.0.0.1/../x", "http://127.0.0.1/x/..", "http://-x/y", "http://127.0.0.1:0/x",
                    "http://127.0.0.1:99999/x", "http://127.0.0.1./x", "http://localhost.:81/x", "http://127.0.0.1:8a/x", "http://[::1/x", "http://127.0.0.1/x?y",
                    "http://127.0.0.1/x#y", "http://127.0.0.1\\@h/x", "/etc", "file://host/x", "file:/x",
                    "file://%s/%%2e%%2e/x" % self.files, "file://%s/../x" % self.files, "transport::http://127.0.0.1/x",
                    "http://h%00/x", "http://" + "h" * 3000 + "/x", "http://127.0.0.1/\u0007"):
            for method in ("Fetch", "Mirror"):
                self.refused("INVALID_ARGUMENT", "Repository/" + method, dict(self.repository(), remote={"url": url}), "remote.url")
        self.refused("INVALID_ARGUMENT", "Repository/Fetch", self.repository(), "remote.url")
        self.assertFalse(os.path.exists(touched))

    def test_hosts_that_are_not_allowed(self):
        self.server.create(self.name)
        for url in ("https://127.0.0.1/x", "http://169.254.169.254/latest", "http://10.0.0.1/x", "http://0x7f.1/x",
                    "http://2130706433/x", "http://[::1]/x", "http://[::ffff:127.0.0.1]/x", "https://example.org/x",
                    "https://example.org.evil.test/x", "https://evilexample.org/x", "https://a.example.org:444/x"):
            self.refused("PERMISSION_DENIED", "Repository/Fetch", dict(self.repository(), remote={"url": url}), "remote_allow")

    def test_a_server_that_only_gives_files(self):
        """No git on the other side: packs and loose objects one by one, and its word on where to find more is not heeded."""
        folder = os.path.join(self.work, "www", "r.git")
        Git()("clone", "-q", "--mirror", history("plain"), folder)
        Git()("repack", "-q", "-a", "-d", cwd=folder)
        self.grow(folder)
        Git()("update-server-info", cwd=folder)
        asked = []

        class Files(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=os.path.join(self_work, "www"))

            def log_message(self, *arguments):
                asked.append(self.path)

        self_work = self.work
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        url = "http://127.0.0.1:%d/r.git" % server.server_port
        code, reply = self.attempt("Repository/CreateFromUrl", dict(self.repository(), remote={"url": url}, rules={
            "refspecs": ["refs/*:refs/*"]}))
        self.assertEqual(code, "OK", reply)
        self.same(self.name, folder)
        # The newest commit's objects are elsewhere now, and the server says where.
        elsewhere = os.path.join(self.work, "www", "other")
        tip = self.grow(folder)
        Git()("update-server-info", cwd=folder)
        os.makedirs(elsewhere)
        shutil.move(os.path.join(folder, "objects", tip[:2]), os.path.join(elsewhere, tip[:2]))
        with open(os.path.join(folder, "objects/info/http-alternates"), "w") as out:
            out.write("http://127.0.0.1:%d/other\n" % server.server_port)
        before = self.refs(self.server.replica(self.name))
        code, reply = self.attempt("Repository/Fetch", dict(self.repository(), remote={"url": url}))
        self.assertNotEqual(code, "OK", reply)
        self.assertEqual([path for path in asked if path.startswith("/other")], [])
        self.assertEqual(self.refs(self.server.replica(self.name)), before)
        self.server.assert_settled()

    def test_names_that_lead_into_the_own_network(self):
        self.server.create(self.name)
        for host in ("localhost", "0x7f.1", "2130706433", "0", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
                     "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:10.0.0.1]", "[fe80::1]", "[fc00::1]", "[ff02::1]",
                     "[2002:7f00:1::]", "[64:ff9b::7f00:1]"):
            for method in ("Fetch", "Mirror"):
                self.refused("PERMISSION_DENIED", "Repository/" + method, dict(
                    self.repository(), remote={"url": "http://%s:81/x" % host}), "not public")

    def test_credentials_that_are_none(self):
        self.server.create(self.name)
        url = self.server.url + "/x.git"
        for field, remote in (("user", {"user": "a:b", "password": "c"}), ("password", {"user": "a", "password": "c\r\nX: y"}),
                              ("authorization", {"authorization": "Bearer a\nHost: b"}), ("user", {"user": "\u0001"}),
                              ("authorization", {"authorization": "x" * 10001}),
                              ("authorization", {"user": "a", "password": "b", "authorization": "c"})):
            self.refused("INVALID_ARGUMENT", "Repository/Fetch", dict(self.repository(), remote=dict(remote, url=url)),
                         "remote." + field)

    def test_redirects_are_not_followed(self):
        self.server.create(self.name)
        Upstream.seen.clear()
        Upstream.status, Upstream.location = 302, "http://127.0.0.1:%d/elsewhere/info/refs" % self.upstream.server_port
        self.addCleanup(setattr, Upstream, "status", 401)
        self.addCleanup(setattr, Upstream, "location", None)
        code, message = self.attempt("Repository/Fetch", dict(
            self.repository(), remote={"url": "http://127.0.0.1:%d/x.git" % self.upstream.server_port}))
        self.assertEqual(code, "FAILED_PRECONDITION", message)
        self.assertEqual([path for path, _ in Upstream.seen if "elsewhere" in path], [])

    def test_credentials_go_to_the_other_side_and_nowhere_else(self):
        self.server.create(self.name)
        Upstream.seen.clear()
        url = "http://127.0.0.1:%d/x.git" % self.upstream.server_port
        for method in ("Fetch", "Mirror", "CreateFromUrl"):
            name = self.name if method != "CreateFromUrl" else self.name + "x"
            message = self.refused("PERMISSION_DENIED", "Repository/" + method, dict(
                self.repository(name), remote={"url": url, "user": "ann", "password": SECRET}))
            self.assertNotIn(SECRET, message)
        basic = "Basic " + base64.b64encode(("ann:" + SECRET).encode()).decode()
        self.assertTrue(Upstream.seen)
        self.assertEqual({given for _, given in Upstream.seen}, {basic})
        self.server.assert_settled()
        for secret in (SECRET, basic[6:]):
            self.assertNotIn(secret, self.server.log_text())
            found = subprocess.run(["grep", "-rlF", secret, self.server.folder], stdout=subprocess.PIPE).stdout
            self.assertEqual(found, b"")

    def test_no_secret_stands_in_a_command_line(self):
        """While the other side keeps git waiting, its processes are looked at."""
        self.server.create(self.name)
        asked, go_on = threading.Event(), threading.Event()

        class Slow(Upstream):
            def do_GET(self):
                asked.set()
                go_on.wait(30)
                super().do_GET()

        slow = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        thread = threading.Thread(target=slow.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(slow.server_close)
        self.addCleanup(thread.join)
        self.addCleanup(slow.shutdown)
        caller = threading.Thread(target=self.attempt, args=("Repository/Fetch", dict(
            self.repository(), remote={"url": "http://127.0.0.1:%d/x.git" % slow.server_port, "authorization": SECRET})))
        caller.start()
        try:
            self.assertTrue(asked.wait(30))
            seen = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open("/proc/%s/cmdline" % pid, "rb") as file:
                        seen.append(file.read())
                except OSError:
                    pass
            self.assertTrue([line for line in seen if b"git" in line and str(slow.server_port).encode() in line])
            self.assertEqual([line for line in seen if SECRET.encode() in line], [])
            found = subprocess.run(["grep", "-rlF", SECRET, self.server.folder], stdout=subprocess.PIPE).stdout
            self.assertEqual(found, b"")
        finally:
            go_on.set()
            caller.join()
        self.server.assert_settled()

    def test_eight_fetches_at_once(self):
        self.push(self.name + "s", history("plain"))
        self.push(self.name, history("plain"), "main~9:refs/heads/main")
        found = []
        request = dict(self.repository(), remote=self.remote(self.name + "s"))
        threads = [threading.Thread(target=lambda: found.append(self.attempt("Repository/Fetch", request))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [reply for code, reply in found if code == "OK" and reply["refs"]]
        self.assertEqual(len(done), 1, found)
        for code, reply in found:
            self.assertIn(code, ("OK", "ABORTED", "FAILED_PRECONDITION", "ALREADY_EXISTS"), reply)
        self.assertEqual(self.refs(self.server.replica(self.name)), self.refs(self.server.replica(self.name + "s")))
        self.server.assert_settled()

    # ------------------------------------------------------------------------------------------ out

    def mirror(self, name, remote, **rest):
        code, reply = self.attempt("Repository/Mirror", dict(self.repository(name), remote=remote, **rest))
        self.assertEqual(code, "OK", reply)
        return reply

    def test_mirror_out_is_a_mirror_push(self):
        folder = self.copy("odd")
        self.push(self.name, folder)
        self.server.create(self.name + "m")
        reply = self.mirror(self.name, self.remote(self.name + "m"), refs=["refs/*"])
        self.assertEqual({ref["outcome"] for ref in reply["refs"]}, {"TRANSFER_CREATED"})
        self.assertEqual(self.refs(self.server.replica(self.name + "m")), self.refs(self.server.replica(self.name)))
        again = self.mirror(self.name, self.remote(self.name + "m"), refs=["refs/*"])
        self.assertEqual((again["refs"], int(again["unchanged"])), ([], len(self.refs(folder))))
        self.server.assert_settled()

    def test_mirror_and_what_went_its_own_way(self):
        here, there = self.copy("plain"), self.copy("plain")
        self.push(self.name, here)
        other = self.push(self.name + "m", here)
        ahead = self.grow(here)
        self.git("push", "-q", "%s/%s.git" % (self.server.url, self.name), "main", "main~1:refs/heads/side", cwd=here)
        own = self.grow(there, name="theirs")
        self.git("push", "-q", other, "main", "main:refs/heads/alone", "main~3:refs/heads/known", cwd=there)
        replica = self.server.replica(self.name + "m")
        before = self.refs(replica)
        # Theirs is kept where it is not in ours.
        dry = self.mirror(self.name, self.remote(self.name + "m"), keep_divergent=True, prune=True, dry_run=True)
        self.assertEqual(self.refs(replica), before)
        reply = self.mirror(self.name, self.remote(self.name + "m"), keep_divergent=True, prune=True)
        self.assertEqual(dry["refs"], reply["refs"])
        self.assertEqual(table(reply), {"refs/heads/main": "DIVERGENT", "refs/heads/side": "CREATED",
                                        "refs/heads/alone": "DIVERGENT", "refs/heads/known": "DELETED"})
        after = self.refs(replica)
        self.assertEqual((after["refs/heads/main"], after["refs/heads/alone"]), (own, own))
        self.assertNotIn("refs/heads/known", after)
        # And lost where that is asked for.
        reply = self.mirror(self.name, self.remote(self.name + "m"), prune=True)
        self.assertEqual(table(reply), {"refs/heads/main": "REPLACED", "refs/heads/alone": "DELETED"})
        self.assertEqual(self.refs(replica), self.refs(self.server.replica(self.name)))
        self.assertEqual(self.refs(replica)["refs/heads/main"], ahead)

    def test_asking_another_server(self):
        folder = self.copy("odd")
        self.push(self.name + "s", folder)
        self.server.call("Ref/SetDefaultBranch", dict(self.repository(self.name + "s"), branch="other"))
        self.server.create(self.name)
        there = self.refs(self.server.replica(self.name + "s"))
        code, reply = self.attempt("Repository/RemoteRefs", dict(self.repository(), remote=self.remote(self.name + "s")))
        self.assertEqual(code, "OK", reply)
        self.assertEqual([(text(ref["name"]), ref["oid"]) for ref in reply["refs"]],
                         sorted(there.items(), key=lambda pair: pair[0].encode("utf-8", "surrogateescape")))
        # A branch that is not born has no name on the wire of every version of git.
        self.assertIn(reply["head"], ("refs/heads/other", ""))
        self.server.call("Ref/SetDefaultBranch", dict(self.repository(self.name + "s"), branch="main"))
        code, reply = self.attempt("Repository/RemoteRefs", dict(
            self.repository(), remote=self.remote(self.name + "s"), refs=["refs/heads/main", "refs/tags/*"]))
        self.assertEqual({text(ref["name"]) for ref in reply["refs"]},
                         {name for name in there if name == "refs/heads/main" or name.startswith("refs/tags/")})
        self.assertEqual((reply["head"], reply["more_refs"]), ("refs/heads/main", 0))
        self.refused("NOT_FOUND", "Repository/RemoteRefs", dict(self.repository(), remote=self.remote("absent")))
        self.refused("PERMISSION_DENIED", "Repository/RemoteRefs", dict(
            self.repository(), remote=self.remote(self.name + "s", authorization="")))
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        self.server.assert_settled()

    def test_mirror_to_one_that_refuses(self):
        self.push(self.name, history("plain"))
        self.server.create(self.name + "m")
        reader = self.server.new_token("read")
        code, message = self.attempt("Repository/Mirror", dict(self.repository(), remote=self.remote(
            self.name + "m", authorization="Bearer " + reader)))
        self.assertIn(code, ("PERMISSION_DENIED", "NOT_FOUND"), message)
        self.refused("INVALID_ARGUMENT", "Repository/Mirror", dict(
            self.repository(), remote=self.remote(self.name + "m"), refs=["main"]), "refs")
        self.assertEqual(self.refs(self.server.replica(self.name + "m")), {})

    def test_who_may(self):
        """Going elsewhere is the administrator's."""
        self.server.create(self.name)
        for method in ("Fetch", "Mirror", "CreateFromUrl"):
            reply = self.server.http("POST", "/api/v1/Repository/" + method, json.dumps(dict(
                self.repository(), remote=self.remote(self.name))), dict(self.server.bearer(), **{"Content-Type": "application/json"}))
            self.assertEqual(json.loads(reply.body)["code"], "PERMISSION_DENIED")


class Bounded(TransferCase):
    options = {"storage": {"max_push_bytes": "64KiB", "remote_allow": ["http://127.0.0.1:*"]}}

    def test_more_than_one_push_may_bring(self):
        source = gitstead_test.Server()
        self.addCleanup(source.clean)
        source.start()
        url, token = source.create("s"), source.new_token("write")
        Git(token)("push", "-q", url, "main", cwd=history("plain"))
        self.assertGreater(len(git(history("plain"), "bundle", "create", "-q", "-", "main")), 65536)
        before = self.server.files()
        remote = {"url": url, "authorization": "Bearer " + token}
        self.refused("OUT_OF_RANGE", "Repository/CreateFromUrl", dict(self.repository(), remote=remote))
        message = self.stream("Repository/CreateFromBundle", self.repository(),
                              git(history("plain"), "bundle", "create", "-q", "-", "main"), check=False)
        self.assertMentions(message, "max_push_bytes")
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        self.server.create(self.name)
        self.refused("OUT_OF_RANGE", "Repository/Fetch", dict(self.repository(), remote=remote))
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        small = self.stream("Repository/BundleApply", dict(self.repository(), rules={"refspecs": ["refs/tags/small:refs/tags/small"]}),
                            self.small_bundle())
        self.assertEqual(table(small), {"refs/tags/small": "CREATED"})
        self.server.assert_settled()

    def small_bundle(self):
        folder = os.path.join(self.work, "small")
        git(None, "init", "-q", "--bare", folder)
        oid = git(folder, "hash-object", "-w", "--stdin", input=b"small").decode().strip()
        git(folder, "update-ref", "refs/tags/small", oid)
        return git(folder, "bundle", "create", "-q", "-", "refs/tags/small")


class Closed(TransferCase):
    """As it comes: no other server is allowed."""

    def test_nothing_is_allowed_by_default(self):
        self.server.create(self.name)
        for url in (self.server.url + "/x.git", "https://example.org/x.git", "file:///etc"):
            self.refused("PERMISSION_DENIED", "Repository/Fetch", dict(self.repository(), remote={"url": url}), "remote_allow")
            self.refused("PERMISSION_DENIED", "Repository/CreateFromUrl", dict(self.repository("other"), remote={"url": url}),
                         "remote_allow")

    def test_a_list_that_is_wrong_is_told_at_the_start(self):
        server = gitstead_test.Server(storage={"remote_allow": ["https://ok.example", "example.org"]})
        self.addCleanup(server.clean)
        with self.assertRaises(AssertionError) as caught:
            server.start()
        self.assertMentions(str(caught.exception), "remote_allow", "example.org")
        server.process = None


class Clustered(Cluster):
    """The same over three nodes: what comes in stands on all of them."""

    def setUp(self):
        super().setUp()
        for node in self.nodes:
            node.stop()
            node.start(remote_allow=["http://127.0.0.1:*"])
        self.router = self.add_router()
        self.admin = self.router.new_token("admin")
        self.folder = os.path.join(self.scratch(), "plain")
        Git()("clone", "-q", "--mirror", history("plain"), self.folder)

    def attempt(self, method, **request):
        reply = self.router.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + self.admin, "Content-Type": "application/json"}, timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def done(self, method, **request):
        code, reply = self.attempt(method, **request)
        self.assertEqual(code, "OK", reply)
        return reply

    def same(self, path, folder=None):
        refs = self.assert_equal_replicas(self.router, path)
        self.assertEqual(refs, dict(reversed(line.split(" ", 1)) for line in Git()(
            "for-each-ref", "--format=%(objectname) %(refname)", cwd=folder or self.folder).splitlines()))
        generations, now = self.generations(self.router, path)
        self.assertEqual(generations, {name: now for name in NODES})
        return now

    def test_bundles_forks_and_pools(self):
        data = git(self.folder, "bundle", "create", "-q", "-", "--all", "HEAD")
        self.router.cli("call", "Repository/CreateFromBundle", json.dumps({"repository": {"path": "a"}}), input=data, text=False)
        self.assertEqual(self.same("a"), 1)
        old = Git()("rev-parse", "main", cwd=self.folder)
        tree = git(self.folder, "rev-parse", "main^{tree}").decode().strip()
        new = git(self.folder, "commit-tree", "-p", old, "-m", "new", tree).decode().strip()
        git(self.folder, "update-ref", "refs/heads/main", new)
        data = git(self.folder, "bundle", "create", "-q", "-", "main", "^" + old)
        self.router.cli("call", "Repository/BundleApply", json.dumps({"repository": {"path": "a"}}), input=data, text=False)
        self.assertEqual(self.same("a"), 2)
        self.done("Repository/Fork", repository={"path": "b"}, source={"path": "a"})
        self.same("b")
        # A pool for both, on every node.
        self.done("Repository/Create", repository={"path": "pool"})
        for name in ("a", "b"):
            reply = self.done("Pool/Link", repository={"path": name}, pool={"path": "pool"})
            self.assertEqual((sorted(reply["storages"]), reply["unlinked"]), (sorted(NODES), []))
        self.done("Pool/Refresh", repository={"path": "pool"})
        self.assert_equal_replicas(self.router, "pool")
        for name in ("a", "b"):
            self.done("Pool/Link", repository={"path": name}, pool={"path": "pool"}, reduce=True)
            self.same(name)
        found = self.done("Pool/Info", repository={"path": "pool"})["members"]
        self.assertEqual([(one["repository"]["path"], sorted(one["storages"])) for one in found],
                         [("a.git", sorted(NODES)), ("b.git", sorted(NODES))])
        code, message = self.attempt("Repository/Delete", repository={"path": "pool"})
        self.assertEqual(code, "FAILED_PRECONDITION", message)
        self.done("Repository/Delete", repository={"path": "b"})
        self.assertEqual(sorted(self.done("Pool/Unlink", repository={"path": "a"})["storages"]), sorted(NODES))
        self.done("Repository/Delete", repository={"path": "pool"})
        self.same("a")
        self.settled()

    def test_other_servers(self):
        source = gitstead_test.Server()
        self.addCleanup(source.clean)
        source.start()
        url = source.create("s")
        token = source.new_token("admin")
        Git(token)("push", "-q", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", cwd=self.folder)
        remote = {"url": url, "authorization": "Bearer " + token}
        self.done("Repository/CreateFromUrl", repository={"path": "c"}, remote=remote)
        self.same("c", source.replica("s"))
        Git(token)("push", "-q", url, "main~1:refs/heads/more", ":refs/heads/main", cwd=self.folder)
        reply = self.done("Repository/Fetch", repository={"path": "c"}, remote=remote, rules={"prune": True, "force": True})
        self.assertEqual(table(reply), {"refs/heads/main": "DELETED", "refs/heads/more": "CREATED"})
        self.same("c", source.replica("s"))
        source.create("m")
        self.done("Repository/Mirror", repository={"path": "c"}, remote=dict(remote, url=url.replace("/s.git", "/m.git")))
        self.assertEqual(Git().refs(source.replica("m")).split("\n", 1)[1], Git().refs(source.replica("s")).split("\n", 1)[1])
        self.settled()

    def test_a_creation_that_fails_leaves_nothing(self):
        data = git(self.folder, "bundle", "create", "-q", "-", "--all", "HEAD")
        for broken in (data[:-40], b"x"):
            result = self.router.cli("call", "Repository/CreateFromBundle", json.dumps({"repository": {"path": "a"}}), input=broken,
                                     text=False, check=False)
            self.assertEqual(result.returncode, 1)
        # One of the three nodes cannot take it.
        packs = os.path.join(self.nodes[2].root, "@r")
        os.makedirs(self.nodes[2].root, exist_ok=True)
        shutil.rmtree(packs, ignore_errors=True)
        with open(packs, "w") as out:
            out.write("in the way")
        result = self.router.cli("call", "Repository/CreateFromBundle", json.dumps({"repository": {"path": "a"}}), input=data,
                                 text=False, check=False)
        self.assertEqual(result.returncode, 1)
        self.settled(self.nodes[:2])
        for node in self.nodes[:2]:
            self.assertEqual([path for path in node.files() if "trash" not in path], ["gitstead-storage"])
        os.unlink(packs)
        self.router.cli("call", "Repository/CreateFromBundle", json.dumps({"repository": {"path": "a"}}), input=data, text=False)
        self.same("a")


class Documentation(TransferCase):
    def fits(self, wanted, got, where):
        """What the page shows is a part of what was said."""
        if isinstance(wanted, dict):
            for field, value in wanted.items():
                self.fits(value, got[field], where + "." + field)
        elif isinstance(wanted, list):
            self.assertEqual(len(wanted), len(got), where)
            for one, other in zip(wanted, got):
                self.fits(one, other, where)
        else:
            self.assertEqual(wanted, got, where)

    def test_the_examples_of_the_page_are_true(self):
        with open(os.path.join(gitstead_test.SOURCE, "docs/api/transfer.md"), encoding="utf-8") as page:
            blocks = re.findall(r"```console\n(.*?)```", page.read(), re.S)
        examples = [example for block in blocks for example in re.findall(r"^\$ (.*?)(?=^\$ |\Z)", block, re.S | re.M)]
        self.assertGreater(len(examples), 10)
        self.push("demo", history("plain"), "main")
        folder = os.path.dirname(gitstead_test.PROGRAM)
        for example in examples:
            command, _, wanted = example.partition("\n")
            result = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                    stdin=subprocess.DEVNULL, cwd=self.work,
                                    env=gitstead_test.clean_environment({"GITSTEAD_SERVER": "ipc://" + self.server.socket,
                                                                         "PATH": folder + ":" + os.environ["PATH"]}))
            wanted = wanted.strip()
            if wanted and not wanted.startswith("{"):
                self.assertIn(wanted, result.stderr, command)
                continue
            self.assertEqual(result.returncode, 0, command + result.stderr)
            if wanted:
                self.fits(json.loads(wanted), json.loads(result.stdout), command)
        self.server.assert_settled()


class Crashes(gitstead_test.TestCase):
    """A server that dies while it creates: the repository is there as a whole, or there is nothing."""

    def test_every_step(self):
        server = gitstead_test.Server()
        self.addCleanup(server.clean)
        server.start()
        folder = history("plain")
        data = git(folder, "bundle", "create", "-q", "-", "--all", "HEAD")
        request = json.dumps({"repository": {"path": "a"}})
        for point in ("push.quarantined", "push.prepared", "push.voted", "commit.decided", "commit.objects", "commit.stamped",
                      "commit.finished"):
            server.stop()
            server.start(crash_at=point)
            result = server.cli("call", "Repository/CreateFromBundle", request, input=data, text=False, check=False)
            self.assertNotEqual(result.returncode, 0, point)
            self.assertEqual(server.process.wait(20), -signal.SIGKILL)
            server.start()
            self.assertFalse(server.call("Repository/Exists", {"repository": {"path": "a"}})["exists"], point)
            server.assert_settled()
        server.cli("call", "Repository/CreateFromBundle", request, input=data, text=False)
        replica = server.replica("a")
        self.assertEqual(Git()("for-each-ref", cwd=replica), Git()("for-each-ref", cwd=folder))
        Git()("fsck", "--full", cwd=replica)


if __name__ == "__main__":
    gitstead_test.main()
