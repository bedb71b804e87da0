#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Following what a server does: everything once, in order, from any position, by whoever may; what was missed is told."""
import json
import os
import socket
import subprocess

import gitstead_test
from gitstead_test import PROGRAM, Git, ServerTestCase, ZERO, clean_environment, eventually


def commits(folder, n, branch="main"):
    """A repository of stock git with n commits; their ids, oldest first."""
    git = Git()
    git("init", "-q", "-b", branch, folder)
    ids = []
    for i in range(n):
        git("commit", "-q", "--allow-empty", "-m", "number %d" % i, cwd=folder)
        ids.append(git("rev-parse", "HEAD", cwd=folder).strip())
    return ids


class Follower:
    """`gitstead events --follow`, its lines read one by one."""

    def __init__(self, server, *arguments, env=None):
        environment = clean_environment(dict({"GITSTEAD_SERVER": "ipc://" + server.socket}, **(env or {})))
        self.process = subprocess.Popen([PROGRAM, "events", "--follow", *arguments], env=environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def next(self):
        """The next line that says more than that all is well."""
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError("the events ended: %s" % self.process.stderr.read().decode())
            item = json.loads(line)
            if "event" in item or item.get("missed"):
                return item

    def close(self):
        self.process.kill()
        self.process.communicate()


class EventsCase(ServerTestCase):
    def last_position(self):
        """Behind all that was done so far; None when that is nothing."""
        items = self.items("--from-oldest")
        return items[-1]["position"] if items else None

    def items(self, *arguments, **rest):
        out = self.server.cli("events", *arguments, **rest).stdout
        return [json.loads(line) for line in out.splitlines()]

    def since(self, position, *arguments, **rest):
        found = self.items(*(["--position", position] if position else ["--from-oldest"]), *arguments, **rest)
        self.assertFalse([i for i in found if i.get("missed")])
        return found

    def follow(self, *arguments, **rest):
        follower = Follower(self.server, *arguments, **rest)
        self.addCleanup(follower.close)
        return follower


class Events(EventsCase):
    def test_everything_that_is_done(self):
        begin = self.last_position()
        url = self.server.create("ev/one")
        git, folder = Git(self.server.new_token()), os.path.join(self.scratch(), "w")
        ids = commits(folder, 3)
        git("push", "-q", url, ids[0] + ":refs/heads/main", cwd=folder)
        git("push", "-q", url, "main", ids[1] + ":refs/heads/side", cwd=folder)
        git.fails("push", "-q", url, ids[0] + ":refs/heads/no/../good", cwd=folder)
        git("push", "-q", url, ":refs/heads/side", cwd=folder)
        self.server.call("Ref/SetDefaultBranch", {"repository": {"path": "ev/one"}, "branch": "main"})
        self.server.call("Change/CreateBranch", {"repository": {"path": "ev/one"}, "branch": "api", "revision": ids[1]})
        self.server.call("Repository/Rename", {"repository": {"path": "ev/one"}, "new_path": "ev/two"})
        changes = self.server.call("Repository/Changes", {"repository": {"path": "ev/two"}})["changes"]
        identity = self.server.info("ev/two")["id"]
        self.server.call("Repository/Delete", {"repository": {"path": "ev/two"}})
        found = [item["event"] for item in self.since(begin)]
        kinds = [e["kind"] for e in found]
        self.assertEqual([kinds[0]] + kinds[-2:], ["EVENT_CREATED", "EVENT_RENAMED", "EVENT_DELETED"])
        self.assertEqual({e["repository_id"] for e in found}, {identity})
        self.assertEqual([e["time_us"] for e in found], sorted(e["time_us"] for e in found))
        writes = [e for e in found if e["kind"] == "EVENT_WRITE"]
        self.assertEqual(len(writes), len(found) - 3)
        # The audit log has the same.
        self.assertEqual([(w["generation"], w["caller"], [(r["name"], r.get("old_oid", ""), r.get("new_oid", "")) for r in w["refs"]])
                          for w in writes],
                         [(c["receipt"]["generation"], c["caller"], [(r["name"], r.get("old_oid", ""), r.get("new_oid", ""))
                                                                     for r in c["refs"]]) for c in changes])
        self.assertEqual([(r["name"], r["old_oid"], r["new_oid"]) for r in sorted(writes[1]["refs"], key=lambda r: r["name"])],
                         [("refs/heads/main", ids[0], ids[2]), ("refs/heads/side", ZERO, ids[1])])
        self.assertEqual(found[-2]["old_path"], "ev/one.git")
        self.assertEqual([e["repository"]["path"] for e in (found[0], found[-2], found[-1])], ["ev/one.git", "ev/two.git", "ev/two.git"])

    def test_from_any_position(self):
        begin = self.last_position()
        for i in range(7):
            self.server.create("pos/r%d" % i)
        found = self.since(begin)
        self.assertEqual([i["event"]["repository"]["path"] for i in found], ["pos/r%d.git" % i for i in range(7)])
        for i, item in enumerate(found):
            self.assertEqual(self.since(item["position"]), found[i + 1:])
        self.assertEqual([i["event"]["repository"]["path"] for i in self.since(begin, "--prefix", "pos/r3")], ["pos/r3.git"])
        self.assertEqual(self.since(begin, "--kind", "deleted"), [])
        self.assertEqual(len(self.since(begin, "--kind", "deleted", "--kind", "created")), 7)
        # Without a position it begins now.
        self.assertEqual(self.items(), [])

    def test_following_through_a_reload(self):
        begin = self.last_position()
        follower = self.follow(*(["--position", begin] if begin else ["--from-oldest"]))
        paths = []
        for i in range(6):
            path = "follow/r%d" % i
            self.server.create(path)
            item = follower.next()
            self.assertFalse(item.get("missed"))
            paths.append(item["event"]["repository"]["path"])
            if i % 2:
                self.server.cli("reload")
        self.assertEqual(paths, ["follow/r%d.git" % i for i in range(6)])

    def test_only_what_one_may_read(self):
        begin = self.last_position()
        for path in ("mine/a", "theirs/a", "mine/b"):
            self.server.create(path)
        token = self.server.new_token(scope="read", prefix="mine")
        result = self.server.cli("events", *(["--position", begin] if begin else ["--from-oldest"]), check=False,
                                 env={"GITSTEAD_TOKEN": token, "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([json.loads(l)["event"]["repository"]["path"] for l in result.stdout.splitlines()], ["mine/a.git", "mine/b.git"])
        # What comes from elsewhere is seen, but not where that was.
        begin = self.last_position()
        for old, new in (("theirs/a", "mine/c"), ("mine/b", "mine/d")):
            self.server.call("Repository/Rename", {"repository": {"path": old}, "new_path": new})
        result = self.server.cli("events", "--position", begin, env={
            "GITSTEAD_TOKEN": token, "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port})
        told = [json.loads(line)["event"] for line in result.stdout.splitlines()]
        self.assertEqual([(e["repository"]["path"], e.get("old_path", "")) for e in told], [("mine/c.git", ""), ("mine/d.git", "mine/b.git")])

    def test_bad_requests(self):
        for request, field in (({"position": "00"}, "position"), ({"kinds": [99]}, "kinds"), ({"kinds": ["EVENT_KIND_UNSPECIFIED"]}, "kinds"),
                               ({"follow_s": 86401}, "follow_s")):
            result = self.server.cli("call", "Server/Events", json.dumps(request), check=False)
            self.assertNotEqual(result.returncode, 0, request)
            self.assertMentions(result.stderr, field)
        last = self.last_position() or "0" * 32
        ahead = last[:16] + "f" * 16
        if last != "0" * 32:
            self.assertMentions(self.server.cli("events", "--position", ahead, check=False).stderr, "position")
        self.assertEqual(self.server.cli("events", "--kind", "nonsense", check=False).returncode, 2)
        self.assertEqual(self.server.cli("events", "--position", "xyz", check=False).returncode, 2)


class Missed(EventsCase):
    def test_a_restart(self):
        self.server.create("before")
        position = self.last_position()
        self.server.stop()
        self.server.start()
        self.server.create("after")
        found = self.items("--position", position)
        self.assertTrue(found[0]["missed"])
        self.assertNotIn("event", found[0])
        self.assertEqual([i["event"]["repository"]["path"] for i in found[1:]], ["after.git"])
        self.assertEqual([i["event"]["repository"]["path"] for i in self.since(found[0]["position"])], ["after.git"])


class Revoked(EventsCase):
    """What lasts ends with the token that it was begun with."""
    PATIENCE = 60 * gitstead_test.SLOW

    def token(self, scope):
        secret = self.server.new_token(scope)
        return secret, secret.split("_")[1]

    def follower(self, token):
        return self.follow("--from-oldest", "--prefix", "rev/", env={"GITSTEAD_TOKEN": token,
                                                 "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.server.nng_port})

    def test_events(self):
        self.server.create("rev/1")
        (gone, gone_id), (stays, _) = self.token("read"), self.token("read")
        ends, goes_on = self.follower(gone), self.follower(stays)
        for follower in (ends, goes_on):
            self.assertEqual(follower.next()["event"]["repository"]["path"], "rev/1.git")
        self.server.cli("token", "revoke", gone_id)
        self.assertNotEqual(ends.process.wait(self.PATIENCE), 0)
        self.assertMentions(ends.process.stderr.read().decode(), "revoked")
        self.server.create("rev/2")
        self.assertEqual(goes_on.next()["event"]["repository"]["path"], "rev/2.git")

    def test_a_push_under_way(self):
        self.server.create("slow")
        token, token_id = self.token("write")
        with socket.create_connection(("127.0.0.1", self.server.http_port), timeout=self.PATIENCE) as client:
            client.sendall(("POST /slow.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                            "Content-Type: application/x-git-receive-pack-request\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "4\r\n00ff\r\n" % token).encode())
            eventually(self.server.children, 60, "the push being received")
            self.server.cli("token", "revoke", token_id)
            eventually(lambda: not self.server.children() and "call.revoked" in self.server.log_text(), self.PATIENCE,
                       "the end of the push")
        self.server.assert_settled()


class Stopping(EventsCase):
    def test_a_follower_does_not_hold_a_stop_up(self):
        self.server.create("s")
        follower = self.follow("--from-oldest")
        follower.next()
        self.server.stop()
        follower.process.wait(timeout=60)
        log = self.server.log_text()
        self.assertNotIn("call.in-flight", log)
        self.server.start()


if __name__ == "__main__":
    gitstead_test.main()
