# SPDX-License-Identifier: Apache-2.0
"""Layers before the plugins of a real server: what trace tells, what a fault at the worst moment leaves, what delay holds up."""
import re
import socket

import gitstead_test
from gitstead_test import Git, Server, TestCase, eventually


class Layers(TestCase):
    def start(self, **options):
        server = Server(**options)
        self.addCleanup(server.clean)
        server.start()
        return server, Git(server.new_token("write"))

    def commit(self, git, message="One"):
        work = self.scratch()
        git("init", "-q", "-b", "main", cwd=work)
        git("commit", "-q", "--allow-empty", "-m", message, cwd=work)
        return work

    def test_trace(self):
        server, git = self.start(storage={"layers": [{"plugin": "trace"}]}, metadata={"layers": [{"plugin": "trace"}]},
                                 access={"layers": [{"plugin": "trace", "slots": ["authenticate"]}]},
                                 http={"layers": [{"plugin": "trace"}]})
        url = server.create("traced")
        work = self.commit(git)
        git("push", "-q", url, "main", cwd=work)
        self.assertEqual(git("ls-remote", url, "main").split()[0], git("rev-parse", "main", cwd=work))
        git("clone", "-q", url, self.scratch() + "/clone")
        seen = set(re.findall(r'layer\.trace .*?instance="layer trace of (\w+) [\w-]+".* slot=(\w+) us=\d+ outcome=OK', server.log_text()))
        for one in (("storage", "create"), ("storage", "stage_push"), ("storage", "commit"), ("metadata", "repo_record"),
                    ("metadata", "decide"), ("access", "authenticate"), ("transport", "endpoints")):
            self.assertIn(one, seen)
        self.assertNotIn(("access", "authorize"), seen)

    def test_no_decision(self):
        # The metadata store is gone at the moment of the decision: the push is refused and leaves nothing.
        server, git = self.start(metadata={"layers": [{"plugin": "fault", "slots": ["decide"], "nth": 1, "times": 1}]})
        url = server.create("undecided")
        work = self.commit(git)
        before = server.files()
        git.fails("push", url, "main", cwd=work)
        self.assertEqual(git("ls-remote", url), "")
        server.assert_settled(before)
        git("push", "-q", url, "main", cwd=work)
        self.assertEqual(git("ls-remote", url, "main").split()[0], git("rev-parse", "main", cwd=work))
        git.fsck(server.replica("undecided"))

    def test_decision_whose_answer_is_lost(self):
        # It was decided, and the answer did not come: whatever the client is told, the write is there in the end, once.
        server, git = self.start(metadata={"layers": [{"plugin": "fault", "slots": ["decide"], "nth": 1, "when": "after",
                                                       "code": "UNKNOWN"}]})
        url = server.create("decided")
        work = self.commit(git)
        git.run("push", url, "main", cwd=work)
        value = git("rev-parse", "main", cwd=work)
        eventually(lambda: git("ls-remote", url, "main").startswith(value), 60, "the write that was decided")
        self.assertEqual(server.info("decided")["generation"], 1)
        server.assert_settled()
        git.fsck(server.replica("decided"))

    def test_applied_and_told_that_it_is_not(self):
        server, git = self.start(storage={"layers": [{"plugin": "fault", "slots": ["commit"], "nth": 1, "when": "after"}]})
        url = server.create("applied")
        work = self.commit(git)
        git.run("push", url, "main", cwd=work)
        value = git("rev-parse", "main", cwd=work)
        eventually(lambda: git("ls-remote", url, "main").startswith(value), 60, "the write that was decided")
        git("commit", "-q", "--allow-empty", "-m", "Two", cwd=work)
        git("push", "-q", url, "main", cwd=work)
        server.assert_settled()
        git.fsck(server.replica("applied"))

    def test_staged_and_told_that_it_is_not(self):
        server, git = self.start(storage={"layers": [{"plugin": "fault", "slots": ["stage_push"], "nth": 1, "when": "after"}]})
        url = server.create("staged")
        work = self.commit(git)
        before = server.files()
        git.fails("push", url, "main", cwd=work)
        server.assert_settled(before)
        git("push", "-q", url, "main", cwd=work)

    def test_a_share_of_all_reads_fails(self):
        # One read in five fails, the same ones every time: clients hear so, and everything else goes on.
        server, git = self.start(storage={"layers": [{"plugin": "fault", "share": 200000, "seed": 3,
                                                      "slots": ["list_refs", "advertise", "upload_pack", "state"]}]})
        url = server.create("shaky")
        work = self.commit(git)
        eventually(lambda: git.run("push", "-q", url, "main", cwd=work).returncode == 0, 60, "a push")
        value = git("rev-parse", "main", cwd=work)
        outcomes = [git.run("ls-remote", url, "main") for _ in range(20)]
        for one in outcomes:
            if one.returncode == 0:
                self.assertEqual(one.stdout.split()[0].decode(), value)
        self.assertIn(0, [one.returncode for one in outcomes])
        self.assertIn("layer.fault", server.log_text())

    def test_delay_ends_when_the_client_goes(self):
        server, git = self.start(storage={"layers": [{"plugin": "delay", "time": "1h", "slots": ["advertise", "list_refs"]}]})
        server.create("slow")
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.http_port)) as peer:
                peer.sendall(("GET /slow.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\n"
                              "Authorization: Bearer %s\r\n\r\n" % server.new_token("read")).encode())
                eventually(lambda: self.in_flight(server) > 0, 60, "the call")
            eventually(lambda: self.in_flight(server) == 0, 60, "the end of the call")
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("server.grace.over", server.log_text())

    def in_flight(self, server):
        page = server.http("GET", "/metrics", headers=server.bearer()).body.decode()
        found = re.search(r"^gitstead_streams_in_flight (\d+)", page, re.MULTILINE)
        self.assertIsNotNone(found)
        return int(found.group(1))

    def test_mistakes(self):
        server = Server(storage={"layers": [{"plugin": "fault", "nth": 1, "slots": ["commit"]}]})
        self.addCleanup(server.clean)
        with self.assertRaises(AssertionError) as caught:
            server.start()
        self.assertMentions(str(caught.exception), "layer fault of storage default", "when: after")
        server.process = None


if __name__ == "__main__":
    gitstead_test.main()
