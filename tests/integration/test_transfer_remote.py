# SPDX-License-Identifier: Apache-2.0
"""Histories from other servers and to them. What comes of each is compared with stock git's own clone, fetch or push of the
same; whatever fails leaves nothing; no credential is found anywhere."""
import base64
import http.server
import json
import os
import tempfile
import shutil
import subprocess
import threading

import gitstead_test
from git_histories import git, history
from gitstead_test import Git
from transfer_case import TransferCase, table, text


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

    def test_a_file_that_leads_out_of_the_allowed_folder(self):
        """git follows a repository's own word on where its objects are; nothing but the folder itself is read."""
        outside = self.copy("plain")
        self.server.create(self.name)

        def inside(name):
            folder = os.path.join(self.files, self.name + name)
            git(None, "init", "-q", "--bare", folder)
            tip = git(outside, "rev-parse", "main").decode()
            os.makedirs(os.path.join(folder, "refs/heads"), exist_ok=True)
            with open(os.path.join(folder, "refs/heads/main"), "w") as out:
                out.write(tip)
            return folder

        alternates = inside("-alternates")
        with open(os.path.join(alternates, "objects/info/alternates"), "w") as out:
            out.write(os.path.join(outside, "objects") + "\n")
        common = inside("-common")
        with open(os.path.join(common, "commondir"), "w") as out:
            out.write(outside + "\n")
        linked = inside("-linked")
        shutil.rmtree(os.path.join(linked, "objects"))
        os.symlink(os.path.join(outside, "objects"), os.path.join(linked, "objects"))
        gitfile = os.path.join(self.files, self.name + "-gitfile")
        os.mkdir(gitfile)
        with open(os.path.join(gitfile, ".git"), "w") as out:
            out.write("gitdir: %s\n" % outside)
        suffix = os.path.join(self.files, self.name + "-suffix")
        os.mkdir(suffix)
        os.symlink(outside, suffix + ".git")
        for folder in (alternates, common, linked, gitfile, suffix):
            # Stock git would follow.
            self.assertIn(b"refs/heads/main", git(None, "ls-remote", "file://" + folder))
            for method in ("Repository/Fetch", "Repository/RemoteRefs"):
                self.refused("FAILED_PRECONDITION", method, dict(self.repository(), remote={"url": "file://" + folder}), folder)
        self.assertEqual(self.refs(self.server.replica(self.name)), {})
        # One with a work tree is fine.
        tree = os.path.join(self.files, self.name + "-tree")
        Git()("clone", "-q", outside, tree)
        self.fetch({"url": "file://" + tree})

    def test_a_git_that_cannot_be_held_to_an_address(self):
        old = os.path.join(self.work, "git")
        with open(old, "w") as out:
            out.write('#!/bin/sh\n[ "$1" = version ] && { echo "git version 2.36.6"; exit 0; }\nexec %s "$@"\n' % shutil.which("git"))
        os.chmod(old, 0o755)
        server = gitstead_test.Server(storage={"git": old, "remote_allow": ["https://*", "http://127.0.0.1:*"]})
        self.addCleanup(server.clean)
        server.start()
        server.create("x")
        for url, words in (("https://localhost/x.git", ("git 2.37", "by its own name")),
                           ("http://127.0.0.1:1/x.git", ("unable to access",))):
            result = server.cli("call", "Repository/Fetch", json.dumps({"repository": {"path": "x"}, "remote": {"url": url}}),
                                check=False)
            self.assertEqual(result.returncode, 1)
            self.assertMentions(result.stderr, *words)
        server.stop()

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


if __name__ == "__main__":
    gitstead_test.main()
