# SPDX-License-Identifier: Apache-2.0
"""Ref/Delete: many refs as one write."""
import json
import os
import threading

import gitstead_test
from cluster_test import Cluster
from git_histories import git, history
from gitstead_test import Git
from test_api_read import ApiCase, raw


class Deletions(ApiCase):
    histories = ()

    def setUp(self):
        super().setUp()
        self.name = self.id().rsplit(".", 1)[-1].replace("_", "-")
        self.folder = history("odd")
        self.fill_with(self.folder, self.server.create(self.name))

    def fill_with(self, folder, url):
        Git(self.server.new_token())("push", "-q", "--mirror", url, cwd=folder)

    def refs(self):
        """What git sees in the replica."""
        text = git(self.server.replica(self.name), "for-each-ref", "--format=%(refname) %(objectname)")
        return {name: oid.decode() for name, oid in (line.rsplit(b" ", 1) for line in text.splitlines())
                if not name.startswith(b"refs/gitstead/")}

    def delete(self, **fields):
        return self.api(self.name, "Ref/Delete", **fields)

    def told(self, reply):
        self.assertEqual(reply["deleted"], len(reply["refs"]))
        return {raw(ref["name"]): ref["oid"] for ref in reply["refs"]}

    def test_named(self):
        before = self.refs()
        gone = [b"refs/heads/side1", b"refs/tags/nested", b"refs/merge-requests/1/head", b"refs/tags/a-blob"]
        names = [name.decode() for name in gone]
        dry = self.delete(names=names, dry_run=True)
        self.assertEqual((self.told(dry), dry.get("receipt")), ({name: before[name] for name in gone}, None))
        self.assertEqual(self.refs(), before)
        reply = self.delete(names=names)
        self.assertEqual(self.told(reply), {name: before[name] for name in gone})
        self.assertEqual([raw(ref["name"]) for ref in reply["refs"]], sorted(gone))
        nested = next(ref for ref in reply["refs"] if raw(ref["name"]) == b"refs/tags/nested")
        self.assertEqual(nested["peeled"], git(self.folder, "rev-parse", "nested^{}").decode().strip())
        self.assertTrue(reply["receipt"]["transaction_id"])
        self.assertEqual(self.refs(), {name: oid for name, oid in before.items() if name not in gone})
        self.server.assert_settled()
        Git()("fsck", "--full", "--strict", "--no-dangling", cwd=self.server.replica(self.name))

    def test_missing_ones(self):
        before = self.refs()
        names = ["refs/heads/nope", "refs/heads/side2", "refs/tags/nope"]
        self.refused(self.name, "Ref/Delete", "NOT_FOUND", "refs/heads/nope", names=names)
        self.assertEqual(self.refs(), before)
        reply = self.delete(names=names, allow_missing=True)
        self.assertEqual((list(self.told(reply)), reply["missing"]), ([b"refs/heads/side2"], ["refs/heads/nope", "refs/tags/nope"]))
        again = self.delete(names=names, allow_missing=True)
        self.assertEqual((again["deleted"], again["missing"], again.get("receipt")), (0, names, None))

    def test_all_but_some(self):
        before = self.refs()
        kept = ("refs/heads/", "refs/tags/v1")
        expected = {name: oid for name, oid in before.items() if name.startswith(tuple(k.encode() for k in kept))}
        self.assertEqual(self.told(self.delete(except_prefixes=kept, dry_run=True)),
                         {name: oid for name, oid in before.items() if name not in expected})
        self.assertEqual(self.told(self.delete(except_prefixes=kept)),
                         {name: oid for name, oid in before.items() if name not in expected})
        self.assertEqual(self.refs(), expected)
        self.assertEqual(self.delete(except_prefixes=kept)["deleted"], 0)
        self.assertEqual(self.delete(except_prefixes=["refs/heads/main"])["deleted"], len(expected) - 1)
        self.assertEqual(list(self.refs()), [b"refs/heads/main"])

    def test_thousands(self):
        oid = self.refs()[b"refs/heads/main"]
        folder = os.path.join(os.path.dirname(self.server.replica(self.name)), "many")
        git(None, "clone", "-q", "--bare", self.folder, folder)
        with open(os.path.join(folder, "packed-refs"), "a", encoding="ascii") as out:
            out.writelines("%s refs/zz/%05d\n" % (oid, i) for i in range(3000))
        git(folder, "pack-refs", "--all")
        Git(self.server.new_token())("push", "-q", "%s/%s.git" % (self.server.url, self.name), "refs/zz/*:refs/zz/*", cwd=folder)
        before = self.refs()
        self.assertEqual(len(before), 3000 + len([n for n in before if not n.startswith(b"refs/zz/")]))
        names = ["refs/zz/%05d" % i for i in range(0, 3000, 2)]
        reply = self.delete(names=names[::-1])
        self.assertEqual((reply["deleted"], [ref["name"] for ref in reply["refs"]]), (1500, names[:1000]))
        reply = self.delete(except_prefixes=["refs/heads/", "refs/tags/", "refs/m"])
        self.assertEqual((reply["deleted"], len(reply["refs"])), (1500, 1000))
        self.assertEqual(self.refs(), {name: oid for name, oid in before.items() if not name.startswith(b"refs/zz/")})

    def test_bad_input(self):
        before = self.refs()
        for fields, code, mention in (
                ({}, "INVALID_ARGUMENT", "names"),
                ({"names": ["refs/heads/main"], "except_prefixes": ["refs/"]}, "INVALID_ARGUMENT", "except_prefixes"),
                ({"except_prefixes": ["refs/heads/"], "allow_missing": True}, "INVALID_ARGUMENT", "allow_missing"),
                ({"except_prefixes": [""]}, "INVALID_ARGUMENT", "except_prefixes"),
                ({"except_prefixes": ["heads"]}, "INVALID_ARGUMENT", "except_prefixes"),
                ({"except_prefixes": ["refs/%d" % i for i in range(65)]}, "INVALID_ARGUMENT", "except_prefixes"),
                ({"names": ["refs/heads/%d" % i for i in range(10001)]}, "INVALID_ARGUMENT", "names"),
                ({"names": ["refs/heads/main", "refs/heads/main"]}, "INVALID_ARGUMENT", "twice"),
                ({"names": ["HEAD"]}, "INVALID_ARGUMENT", "names"),
                ({"names": ["main"]}, "INVALID_ARGUMENT", "names"),
                ({"names": ["refs/heads/../x"]}, "INVALID_ARGUMENT", "names"),
                ({"names": [""]}, "INVALID_ARGUMENT", "names"),
                ({"names": ["refs/gitstead/files/config"]}, "PERMISSION_DENIED", "server's own")):
            with self.subTest(fields=str(fields)[:80]):
                self.refused(self.name, "Ref/Delete", code, mention, **fields)
        self.assertEqual(self.refs(), before)

    def test_eight_at_once(self):
        """Of eight who want the same refs gone, one did it."""
        names = ["refs/heads/side1", "refs/heads/side2", "refs/heads/side3"]
        body = json.dumps({"repository": {"path": self.name}, "names": names})
        headers = dict(self.server.bearer(), **{"Content-Type": "application/json"})
        found, ready = [None] * 8, threading.Barrier(8)

        def one(index):
            ready.wait(60)
            reply = self.server.http("POST", "/api/v1/Ref/Delete", body, headers)
            found[index] = reply.status, json.loads(reply.body)

        threads = [threading.Thread(target=one, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [answer for status, answer in found if status == 200]
        self.assertEqual(len(won), 1, found)
        self.assertEqual(len(self.told(won[0])), 3)
        for status, answer in found:
            if status != 200:
                self.assertIn(answer.get("error", answer)["code"], ("NOT_FOUND", "FAILED_PRECONDITION", "ABORTED"))
        self.assertFalse([name for name in self.refs() if name.startswith(b"refs/heads/side")])
        self.server.assert_settled()


class Clustered(Cluster):
    def test_every_replica(self):
        self.first, self.second = self.add_router(), self.add_router()
        self.url = self.first.create("team/project")
        self.git = Git(self.first.new_token("write"))
        self.commit()
        self.git("push", "-q", self.url, *["main:refs/heads/b%d" % i for i in range(20)], "main", cwd=self.work)
        reply = self.first.call("Ref/Delete", {"repository": {"path": "team/project"}, "except_prefixes": ["refs/heads/m"]})
        self.assertEqual((reply["deleted"], len(reply["refs"])), (20, 20))
        self.assertEqual(len(reply["receipt"]["replicas"]), 3)
        self.assertEqual(list(self.assert_equal_replicas(self.second, "team/project")), ["refs/heads/main"])
        self.settled()


if __name__ == "__main__":
    gitstead_test.main()
