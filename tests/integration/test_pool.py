# SPDX-License-Identifier: Apache-2.0
"""Pools: repositories that share objects on their storage. After every step each of them is cloned, and stock git looks
through it; no order of links, refreshes, deletions, repacks and crashes may lose an object."""
import itertools
import json
import os
import shutil
import signal
import threading
import time

import gitstead_test
from git_histories import git, history
from gitstead_test import Git, Server, ServerTestCase, TestCase, eventually


def raw_refs(folder):
    return dict(reversed(line.split(" ", 1)) for line in
                Git()("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder).splitlines())


class Pools:
    """What both kinds of tests do; `server` and `git` are theirs."""

    def make(self, name, folder=None, *specs):
        url = self.server.create(name)
        if folder:
            self.git("push", "-q", url, *(specs or ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")), cwd=folder)
        return url

    def attempt(self, method, **request):
        reply = self.server.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + self.admin, "Content-Type": "application/json"}, timeout=120)
        found = json.loads(reply.body)
        return ("OK", found) if reply.status == 200 else (found["code"], found["message"])

    def done(self, method, **request):
        code, reply = self.attempt(method, **request)
        self.assertEqual(code, "OK", reply)
        return reply

    def refused(self, code, method, *mentions, **request):
        found, message = self.attempt(method, **request)
        self.assertEqual(found, code, message)
        for mention in mentions:
            self.assertIn(mention, message)

    def join(self, member, pool, reduce=False):
        return self.done("Pool/Link", repository={"path": member}, pool={"path": pool}, reduce=reduce)

    def refresh(self, pool):
        return self.done("Pool/Refresh", repository={"path": pool})

    def leave(self, member):
        return self.done("Pool/Unlink", repository={"path": member})

    def pool_info(self, name):
        reply = self.done("Pool/Info", repository={"path": name})
        pool = reply.get("pool")
        return (pool["repository"]["path"] if pool else None, [one["repository"]["path"] for one in reply["members"]])

    def packed(self, name):
        """Bytes of a replica's own packs."""
        folder = os.path.join(self.server.replica(name), "objects/pack")
        return sum(os.stat(os.path.join(folder, one)).st_size for one in os.listdir(folder) if one.endswith(".pack"))

    def borrows(self, name):
        return os.path.exists(os.path.join(self.server.replica(name), "objects/info/alternates"))

    def whole(self, name, folder):
        """A clone through the server has everything; and so says stock git of what is on the disk."""
        target = os.path.join(self.scratch(), "clone")
        self.git("clone", "-q", "--mirror", "%s/%s.git" % (self.server.url, name), target)
        self.assertEqual(raw_refs(target), {ref: oid for ref, oid in raw_refs(folder).items()
                                            if ref.startswith(("refs/heads/", "refs/tags/"))})
        Git()("fsck", "--full", "--strict", "--no-dangling", cwd=target)
        Git()("fsck", "--full", "--connectivity-only", "--no-dangling", cwd=self.server.replica(name))
        # And the server reads it by itself.
        tip = Git()("rev-parse", "main", cwd=folder)
        self.assertEqual(self.done("Commit/Get", repository={"path": name}, revisions=["main"])["entries"][0]["commit"]["oid"], tip)
        self.done("History/List", repository={"path": name}, range={"include": ["main"]})

    def grow(self, work, name, count=1):
        """New commits on main, pushed to @name."""
        for _ in range(count):
            blob = git(work, "hash-object", "-w", "--stdin", input=os.urandom(3000).hex().encode()).decode().strip()
            tree = git(work, "mktree", input=("100644 blob %s\tf\n" % blob).encode()).decode().strip()
            oid = git(work, "commit-tree", "-p", "main", "-m", "More", tree).decode().strip()
            git(work, "update-ref", "refs/heads/main", oid)
        self.git("push", "-q", "%s/%s.git" % (self.server.url, name), "main", cwd=work)

    def copy(self, name="plain"):
        folder = os.path.join(self.scratch(), name)
        Git()("clone", "-q", "--mirror", history(name), folder)
        return folder


class Shared(Pools, ServerTestCase):
    COUNT = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.admin = cls.server.new_token("admin")

    def setUp(self):
        super().setUp()
        Shared.COUNT += 1
        self.name = "p%d" % Shared.COUNT
        self.a, self.b, self.pool = self.name + "a", self.name + "b", self.name + "pool"

    def test_members_keep_only_what_their_pool_has_not(self):
        work = self.copy()
        self.make(self.pool)
        self.make(self.a, work)
        self.done("Repository/Fork", repository={"path": self.b}, source={"path": self.a})
        alone = self.packed(self.a)
        self.assertEqual(self.join(self.a, self.pool)["storages"], ["default"])
        self.assertEqual(self.packed(self.a), alone)
        reply = self.refresh(self.pool)
        self.assertEqual({ref["outcome"] for ref in reply["refs"]}, {"TRANSFER_CREATED"})
        member = int(self.server.info(self.a)["id"])
        self.assertEqual(raw_refs(self.server.replica(self.pool)), {
            "refs/members/%d/%s" % (member, ref[5:]): oid for ref, oid in raw_refs(self.server.replica(self.a)).items()})
        self.join(self.a, self.pool, reduce=True)
        self.join(self.b, self.pool, reduce=True)
        for name in (self.a, self.b):
            self.assertLess(self.packed(name), alone // 10, name)
            self.whole(name, work)
            self.assertEqual(self.pool_info(name), (self.pool + ".git", []))
        self.assertEqual(self.pool_info(self.pool), (None, [self.a + ".git", self.b + ".git"]))
        # Each goes on by itself; pushes build on what only the pool has.
        other = self.copy()
        self.grow(other, self.b, 3)
        self.whole(self.b, other)
        self.whole(self.a, work)
        # API writes as well.
        who = {"name": "A", "email": "a@example.org", "seconds": 1600000000, "zone": "+0000"}
        self.done("Change/CommitFiles", repository={"path": self.a}, write={"branch": "main", "committer": who}, message="m",
                  actions=[{"kind": "FILE_CREATE", "path": "fresh", "content": "x"}])
        self.git("fetch", "-q", "%s/%s.git" % (self.server.url, self.a), "+main:main", cwd=work)
        self.whole(self.a, work)
        self.refresh(self.pool)
        self.join(self.a, self.pool, reduce=True)
        self.join(self.b, self.pool, reduce=True)
        self.whole(self.a, work)
        self.whole(self.b, other)
        again = self.refresh(self.pool)
        self.assertEqual(again["refs"], [])
        self.server.assert_settled()

    def test_forks_that_are_linked_when_they_are_made(self):
        work = self.copy()
        self.make(self.pool)
        self.make(self.a, work)
        self.join(self.a, self.pool)
        self.refresh(self.pool)
        alone, found = self.packed(self.a), []

        def fork(index):
            found.append(self.attempt("Repository/Fork", repository={"path": "%s%d" % (self.b, index)},
                                      source={"path": self.a}, pool={"path": self.pool}))

        threads = [threading.Thread(target=fork, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([code for code, _ in found], ["OK"] * 8, found)
        names = ["%s%d" % (self.b, index) for index in range(8)]
        self.assertEqual(self.pool_info(self.pool), (None, [self.a + ".git"] + sorted(
            (name + ".git" for name in names), key=lambda name: int(self.server.info(name)["id"]))))
        for name in names:
            self.assertLess(self.packed(name), alone // 10, name)
        self.whole(names[0], work)
        for source, pool, code in ((self.a, "absent", "NOT_FOUND"), (self.a, names[0], "FAILED_PRECONDITION"),
                                   (self.a, "../x", "INVALID_ARGUMENT")):
            self.refused(code, "Repository/Fork", "pool", repository={"path": self.name + "z"}, source={"path": source},
                         pool={"path": pool})
            self.refused("NOT_FOUND", "Repository/Get", repository={"path": self.name + "z"})
        self.assertEqual(self.pool_info(names[0]), (self.pool + ".git", []))
        self.server.assert_settled()

    def test_the_pool_loses_nothing_when_its_refs_go(self):
        work = self.copy()
        self.make(self.pool)
        self.make(self.a, work)
        self.join(self.a, self.pool)
        self.refresh(self.pool)
        self.join(self.a, self.pool, reduce=True)
        pool = self.server.replica(self.pool)
        updates = [{"name": ref, "new_oid": gitstead_test.ZERO} for ref in raw_refs(pool)]
        self.done("Ref/Update", repository={"path": self.pool}, updates=updates)
        self.assertEqual(raw_refs(pool), {})
        # The pool is packed anew as a whole, as housekeeping does it: what no ref reaches stays.
        self.git("repack", "-q", "-a", "-d", "--cruft", "--cruft-expiration=never", cwd=pool)
        self.whole(self.a, work)
        self.leave(self.a)
        self.done("Repository/Delete", repository={"path": self.pool})
        self.whole(self.a, work)

    def test_a_pool_with_members_is_not_deleted(self):
        work = self.copy()
        self.make(self.pool)
        self.make(self.a, work)
        self.make(self.b, work)
        for name in (self.a, self.b):
            self.join(name, self.pool)
        self.refresh(self.pool)
        for name in (self.a, self.b):
            self.join(name, self.pool, reduce=True)
        self.refused("FAILED_PRECONDITION", "Repository/Delete", "2 repositories", repository={"path": self.pool})
        # Whoever may look at the pool alone is told how many they are, and not who.
        token = self.server.new_token("admin", prefix=self.pool)
        reply = self.server.http("POST", "/api/v1/Pool/Info", json.dumps({"repository": {"path": self.pool}}),
                                 {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
        self.assertEqual([(one.get("repository"), one["id"]) for one in json.loads(reply.body)["members"]],
                         [(None, self.server.info(name)["id"]) for name in (self.a, self.b)])
        self.assertEqual(self.leave(self.a)["storages"], ["default"])
        self.assertFalse(self.borrows(self.a))
        self.refused("FAILED_PRECONDITION", "Repository/Delete", "1 repositories", repository={"path": self.pool})
        # A member that is deleted is none any more.
        self.done("Repository/Delete", repository={"path": self.b})
        self.assertEqual(self.pool_info(self.pool), (None, []))
        self.done("Repository/Delete", repository={"path": self.pool})
        self.whole(self.a, work)
        self.assertEqual(self.leave(self.a)["storages"], [])
        self.server.assert_settled()

    def test_an_independent_one_needs_nothing(self):
        work = self.copy("odd")
        self.make(self.pool)
        self.make(self.a, work)
        self.join(self.a, self.pool)
        self.refresh(self.pool)
        self.join(self.a, self.pool, reduce=True)
        self.leave(self.a)
        replica, pool = self.server.replica(self.a), self.server.replica(self.pool)
        hidden = pool + ".hidden"
        os.rename(pool, hidden)
        try:
            Git()("fsck", "--full", "--strict", "--no-dangling", cwd=replica)
            self.whole(self.a, work)
        finally:
            os.rename(hidden, pool)
        self.assertFalse(os.path.exists(os.path.join(replica, "gitstead/pool")))
        self.assertEqual(os.listdir(os.path.join(pool, "gitstead/members")), [])
        # It may be linked again.
        self.join(self.a, self.pool, reduce=True)
        self.whole(self.a, work)

    def test_links_that_cannot_be(self):
        for name in (self.a, self.b, self.pool):
            self.make(name, history("plain"))
        self.refused("INVALID_ARGUMENT", "Pool/Link", "its own pool", repository={"path": self.a}, pool={"path": self.a})
        self.refused("NOT_FOUND", "Pool/Link", "absent", repository={"path": self.a}, pool={"path": "absent"})
        self.refused("NOT_FOUND", "Pool/Link", "absent", repository={"path": "absent"}, pool={"path": self.a})
        self.refused("INVALID_ARGUMENT", "Pool/Link", "pool", repository={"path": self.a})
        for path in ("../../etc", "/etc", "a//b", "-x", "a/../b"):
            self.refused("INVALID_ARGUMENT", "Pool/Link", "pool", repository={"path": self.a}, pool={"path": path})
        self.join(self.a, self.pool)
        # Two pools, a pool in a pool, a member as a pool.
        self.refused("FAILED_PRECONDITION", "Pool/Link", "unlink it first", repository={"path": self.a}, pool={"path": self.b})
        self.refused("FAILED_PRECONDITION", "Pool/Link", "is a pool", repository={"path": self.pool}, pool={"path": self.b})
        self.refused("FAILED_PRECONDITION", "Pool/Link", "linked to a pool itself", repository={"path": self.b}, pool={"path": self.a})
        self.assertEqual(self.pool_info(self.b), (None, []))
        # A pool with loose objects, which somebody made beside the server.
        loose = self.name + "loose"
        self.make(loose)
        git(self.server.replica(loose), "hash-object", "-w", "--stdin", input=b"loose")
        self.refused("FAILED_PRECONDITION", "Pool/Link", "loose", repository={"path": self.b}, pool={"path": loose})
        reply = self.server.http("POST", "/api/v1/Pool/Link", json.dumps({"repository": {"path": self.b}, "pool": {"path": self.pool}}),
                                 dict(self.server.bearer(), **{"Content-Type": "application/json"}))
        self.assertEqual(json.loads(reply.body)["code"], "PERMISSION_DENIED")

    def test_borrowing_from_elsewhere_is_refused(self):
        """Whatever somebody writes into the file beside the server."""
        work = self.copy()
        self.make(self.pool, work)
        self.make(self.a, work)
        self.join(self.a, self.pool)
        replica = self.server.replica(self.a)
        path = os.path.join(replica, "objects/info/alternates")
        with open(path) as file:
            right = file.read()
        other = os.path.join(self.server.replica(self.pool), "objects")
        for wrong in (os.path.join(work, "objects") + "\n", other + "\n", right + right, "../../../../../../etc\n", "",
                      right.rstrip("\n"), "../objects\n"):
            self.server.stop()
            with open(path, "w") as file:
                file.write(wrong)
            self.server.start()
            self.refused("FAILED_PRECONDITION", "Ref/List", "borrows objects from elsewhere", repository={"path": self.a})
        self.server.stop()
        with open(path, "w") as file:
            file.write(right)
        self.server.start()
        self.whole(self.a, work)
        # A pool that knows nothing of it.
        member = os.path.join(self.server.replica(self.pool), "gitstead/members", str(self.server.info(self.a)["id"]))
        self.server.stop()
        os.rename(member, member + ".x")
        self.server.start()
        self.refused("FAILED_PRECONDITION", "Ref/List", "knows nothing of it", repository={"path": self.a})
        self.server.stop()
        os.rename(member + ".x", member)
        self.server.start()
        self.whole(self.a, work)

    def test_eight_at_once(self):
        """Links, unlinks, refreshes, reductions and pushes of the same repositories: a loser is told, nothing is lost."""
        work, other = self.copy(), self.copy()
        self.make(self.pool)
        self.make(self.a, work)
        self.make(self.b, other)
        wrong, seen = [], set()
        methods = ("Pool/Link", "Pool/Refresh", "Pool/Unlink")

        def calls(member):
            # Who loses always is no fault: it may meet a write, or a reduction, each time.
            until = time.monotonic() + 60
            for turn in itertools.count():
                if turn >= 2 and (time.monotonic() > until or all((method, "OK") in seen for method in methods)):
                    break
                for method, request in (("Pool/Link", {"repository": {"path": member}, "pool": {"path": self.pool}, "reduce": turn % 2 == 1}),
                                        ("Pool/Refresh", {"repository": {"path": self.pool}}),
                                        ("Pool/Unlink", {"repository": {"path": member}})):
                    code, reply = self.attempt(method, **request)
                    seen.add((method, code))
                    if code not in ("OK", "BUSY", "ABORTED", "FAILED_PRECONDITION", "ALREADY_EXISTS"):
                        wrong.append((method, code, reply))

        def pushes(folder, name):
            try:
                for _ in range(6):
                    self.grow(folder, name)
            except AssertionError as error:
                wrong.append(str(error))

        threads = [threading.Thread(target=calls, args=(name,)) for name in (self.a, self.b) for _ in range(3)]
        threads += [threading.Thread(target=pushes, args=pair) for pair in ((work, self.a), (other, self.b))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])
        for method in methods:
            self.assertIn((method, "OK"), seen)
        self.whole(self.a, work)
        self.whole(self.b, other)
        for name in (self.a, self.b):
            code, reply = self.attempt("Pool/Unlink", repository={"path": name})
            self.assertEqual(code, "OK", reply)
        self.done("Repository/Delete", repository={"path": self.pool})
        self.whole(self.a, work)
        self.whole(self.b, other)
        self.server.assert_settled()


class Crashes(Pools, TestCase):
    """The server kills itself at each step of a link and of an unlink."""

    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.clean)
        self.server.start()
        self.admin = self.server.new_token("admin")
        self.git = Git(self.server.new_token("write"))

    def crash(self, point, method, **request):
        self.server.stop()
        self.server.start(crash_at=point)
        with self.assertRaises(OSError, msg=point):
            self.attempt(method, **request)
        self.assertEqual(self.server.process.wait(60 * gitstead_test.SLOW), -signal.SIGKILL)
        self.server.start()

    def test_every_step(self):
        work = self.copy()
        self.make("pool")
        self.make("a", work)
        link = {"repository": {"path": "a"}, "pool": {"path": "pool"}}
        for point in ("pool.member", "pool.noted", "pool.linked"):
            self.crash(point, "Pool/Link", **link)
            self.whole("a", work)
            self.assertEqual(self.pool_info("a"), ("pool.git" if point == "pool.linked" else None, []))
            # What was begun holds nothing up: it can be given up, or ended.
            if point != "pool.linked":
                self.leave("a")
        self.refused("FAILED_PRECONDITION", "Repository/Delete", "a pool", repository={"path": "pool"})
        self.join("a", "pool")
        self.refresh("pool")
        self.join("a", "pool", reduce=True)
        for point in ("maintain.linked", "maintain.repacked"):
            self.crash(point, "Pool/Link", reduce=True, **link)
            self.whole("a", work)
        for point in ("pool.copied", "pool.unlinked"):
            self.crash(point, "Pool/Unlink", repository={"path": "a"})
            self.whole("a", work)
        self.assertEqual(self.pool_info("pool"), (None, []))
        self.leave("a")
        self.done("Repository/Delete", repository={"path": "pool"})
        self.whole("a", work)
        self.server.assert_settled()


if __name__ == "__main__":
    gitstead_test.main()
