# SPDX-License-Identifier: Apache-2.0
"""Whole histories in and out: bundles and forks. What comes of each is compared with stock git's own clone, fetch or push of
the same; whatever fails leaves nothing."""
import json
import os
import re
import signal
import subprocess
import shutil
import threading

import gitstead_test
from cluster_test import NODES, Cluster
from git_histories import git, history
from gitstead_test import Git, eventually
from transfer_case import TransferCase, table


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
        self.stream("Repository/CreateFromBundle", dict(self.repository(self.name + "b"), default_branch="main"), data)
        self.same(self.name + "b", folder, "refs/heads/main")
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
            eventually(lambda: not self.server.leftovers(), 60, "the end of %s" % self.server.leftovers())
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
        eventually(lambda: not self.server.leftovers(), 60, "the end of %s" % self.server.leftovers())

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

    def test_a_ref_whose_object_is_lost(self):
        """What promises all refs never leaves one out without a word."""
        self.push(self.name + "s", history("plain"), "main")
        lost = os.path.join(self.server.replica(self.name + "s"), "refs/heads/lost")
        with open(lost, "w") as out:
            out.write("1" * 40 + "\n")
        source = self.repository(self.name + "s")
        self.refused("DATA_LOSS", "Repository/Fork", dict(self.repository(), source=source["repository"]), "refs/heads/lost")
        for method, more in (("BundleCreate", {}), ("BundleCreate", {"refs": ["refs/heads/lost"]}), ("Snapshot", {})):
            result = self.server.cli("call", "Repository/" + method, json.dumps(dict(source, **more)), "--output",
                                     os.path.join(self.work, "out"), check=False)
            self.assertEqual(result.returncode, 1, method)
            self.assertMentions(result.stderr, "stored data is damaged", "refs/heads/lost", "1" * 40)
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        # Those that are asked for by name are whole.
        self.fork(self.name + "s", refs=["refs/heads/main"])
        os.unlink(lost)
        self.fork(self.name + "s", self.name + "-again")
        eventually(lambda: not self.server.leftovers(), 60, "the end of %s" % self.server.leftovers())

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
        # Whichever side sees the end of it first.
        for _ in range(20):
            code, message = self.attempt("Repository/Fork", dict(self.repository(), source={"path": self.name + "s"}))
            self.assertIn(code, ("DATA_LOSS", "INTERNAL"), message)
        self.assertFalse(self.server.call("Repository/Exists", self.repository())["exists"])
        eventually(lambda: not self.server.leftovers(), 60, "the end of %s" % self.server.leftovers())


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
            self.assertEqual(server.process.wait(60 * gitstead_test.SLOW), -signal.SIGKILL)
            server.start()
            self.assertFalse(server.call("Repository/Exists", {"repository": {"path": "a"}})["exists"], point)
            server.assert_settled()
        server.cli("call", "Repository/CreateFromBundle", request, input=data, text=False)
        replica = server.replica("a")
        self.assertEqual(Git()("for-each-ref", cwd=replica), Git()("for-each-ref", cwd=folder))
        Git()("fsck", "--full", cwd=replica)


if __name__ == "__main__":
    gitstead_test.main()
