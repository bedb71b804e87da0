# SPDX-License-Identifier: Apache-2.0
"""The server is killed at every named step of a push. After the restart the push is wholly there or wholly absent."""
import os
import re
import signal
import subprocess
import unittest

import gitstead_test
from gitstead_test import Git, Server, TestCase, eventually, refs_digest

# In the order in which a push passes them. From the decision on, the push has happened, whether the client heard it or not.
BEFORE_DECISION = ["push.quarantined", "refs.locked", "refs.staged", "refs.intent", "refs.voted", "push.prepared", "push.voted"]
AFTER_DECISION = ["commit.decided", "commit.objects", "refs.committed", "refs.packed", "refs.loose", "refs.removed", "refs.published",
                  "refs.settled", "refs.finished", "commit.stamped", "commit.finished"]


class Crash(TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.clean)
        self.server.start()
        self.url = self.server.create("crash/one")
        self.token = self.server.new_token("write")
        self.git = Git(self.token)
        self.work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=self.work)
        self.git("config", "core.compression", "0", cwd=self.work)  # what is big is noise
        self.commit("one")
        self.git("branch", "gone", cwd=self.work)
        self.git("branch", "packed", cwd=self.work)
        self.git("push", "-q", self.url, "main", "gone", "packed", cwd=self.work)
        self.replica = self.server.replica("crash/one")
        # One loose, one packed: deletion goes through packed-refs.
        self.git("pack-refs", "--all", cwd=self.replica)
        self.assertEqual(self.server.stop(), 0)

    def commit(self, text, size=2000):
        with open(os.path.join(self.work, text), "w") as out:
            out.write(text * 1000 + os.urandom(size).hex())
        self.git("add", ".", cwd=self.work)
        self.git("commit", "-q", "-m", text, cwd=self.work)

    def refs(self):
        lines = self.git("ls-remote", self.url, "refs/*").splitlines()
        return {line.split("\t")[1]: line.split("\t")[0] for line in lines}

    def crash_at(self, point):
        """Pushes creations, an update and deletions in one push into a server that dies at @point."""
        self.commit("two")
        self.git("tag", "-a", "-m", "Two", "v2", cwd=self.work)
        self.before = self.expected_before()
        self.after = self.expected_after()
        self.server.start(crash_at=point)
        result = self.git.run("push", "--atomic", self.url, "main", "v2", "main:refs/heads/new", ":refs/heads/gone",
                              "packed~0:refs/heads/packed2", ":refs/heads/packed", cwd=self.work)
        status = self.server.process.wait(60 * gitstead_test.SLOW)
        self.server.process = None
        self.assertEqual(status, -9, "the server passed %s without dying: %s" % (point, result.stderr))
        return result.returncode == 0

    def expected_before(self):
        one = self.git("rev-parse", "main~1", cwd=self.work)
        return {"refs/heads/main": one, "refs/heads/gone": one, "refs/heads/packed": one}

    def expected_after(self):
        one, two = self.git("rev-parse", "main~1", "main", cwd=self.work).split()
        tag = self.git("rev-parse", "v2", cwd=self.work)
        return {"refs/heads/main": two, "refs/heads/new": two, "refs/heads/packed2": one, "refs/tags/v2": tag,
                "refs/tags/v2^{}": two}

    def assert_whole(self, generation, acknowledged):
        """Recovered: all or nothing, nothing left over, metadata and disk of one mind, and fit for the next push."""
        refs = self.refs()
        self.assertIn(refs, (self.before, self.after))
        happened = refs == self.after
        if acknowledged:
            self.assertTrue(happened, "an acknowledged push was lost")
        self.server.assert_settled()
        info = self.server.info("crash/one")
        self.assertEqual(int(info["generation"]), generation + (1 if happened else 0))
        self.assertTrue(all(replica["current"] for replica in info["replicas"]))
        self.assertEqual(info["refs_digest"], refs_digest(self.git, self.replica))
        self.git.fsck(self.replica)
        changes = self.server.call("Repository/Changes", {"repository": {"path": "crash/one"}}).get("changes", [])
        self.assertEqual(int(changes[-1]["receipt"]["generation"]), int(info["generation"]))
        # Nothing is locked: the same refs can be pushed again, and what comes back is whole.
        self.git("push", "-q", "--force", "--prune", self.url, "main", "refs/tags/*:refs/tags/*",
                 "refs/heads/*:refs/heads/*", cwd=self.work)
        clone = self.scratch() + "/clone.git"
        self.git("clone", "-q", "--mirror", self.url, clone)
        self.git.fsck(clone)
        self.assertEqual(self.git("rev-parse", "main", cwd=clone), self.git("rev-parse", "main", cwd=self.work))
        return happened

    def run_point(self, point, decided):
        self.server.start()
        generation = int(self.server.info("crash/one")["generation"])
        self.assertEqual(self.server.stop(), 0)
        acknowledged = self.crash_at(point)
        self.server.start()
        happened = self.assert_whole(generation, acknowledged)
        self.assertEqual(happened, decided, "crash at %s" % point)
        # And it is no matter of luck: a second restart changes nothing.
        refs = self.refs()
        self.assertEqual(self.server.stop(), 0)
        self.server.start()
        self.assertEqual(self.refs(), refs)
        self.server.assert_settled()

    def test_twice_in_a_row(self):
        """Dies in the push, dies again in the recovery, then recovers."""
        self.server.start()
        generation = int(self.server.info("crash/one")["generation"])
        self.assertEqual(self.server.stop(), 0)
        self.crash_at("commit.objects")
        with open(self.server.log, "ab") as log:
            options = dict(self.server.storage_options, crash_at="refs.redo-committed")
            self.server.storage_options = options
            self.server.write_config()
            self.server.storage_options = {}
            process = subprocess.Popen([gitstead_test.PROGRAM, "serve", "--config", self.server.config],
                                                     stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self.assertEqual(process.wait(60 * gitstead_test.SLOW), -9, "recovery did not pass its crash point")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.server.start()
        self.assertTrue(self.assert_whole(generation, False))

    def test_killed_at_any_time(self):
        """Not at a named step but in the middle of traffic: what was acknowledged is there."""
        self.server.start()
        pushed = []
        for turn in range(6):
            self.commit("turn-%d" % turn, size=(2000, 4_000_000)[turn % 4 // 2])
            process = subprocess.Popen(["git", "push", "-q", self.url, "main"], cwd=self.work, env=self.git.env,
                                                     stdin=subprocess.DEVNULL,
                                                     stderr=subprocess.DEVNULL)
            if turn % 2:
                eventually(lambda: self.server.children() or process.poll() is not None, 60, "the push at work")
                self.server.kill()
            if process.wait(60 * gitstead_test.SLOW) == 0:
                pushed.append(self.git("rev-parse", "main", cwd=self.work))
            if self.server.process is None:
                self.server.start()
            refs = self.refs()
            if pushed:
                self.git("merge-base", "--is-ancestor", pushed[-1], refs["refs/heads/main"], cwd=self.work)
            self.server.assert_settled()
            self.assertEqual(self.server.info("crash/one")["refs_digest"], refs_digest(self.git, self.replica))
        self.git.fsck(self.replica)

    def stop_children(self):
        """Those that could be stopped: one that has just begun or ended has no process group to stop."""
        stopped = []
        for child in self.server.children():
            try:
                os.killpg(child, signal.SIGSTOP)
                stopped.append(child)
            except ProcessLookupError:
                pass
        return stopped

    def test_orphans_of_a_killed_server(self):
        """git processes that outlive the server by some seconds: what they still write is gone once they are."""
        self.server.start()
        before = self.server.files()
        refs = self.refs()
        self.commit("orphan", size=10_000_000)
        process = subprocess.Popen(["git", "push", "-q", self.url, "main"], cwd=self.work, env=self.git.env,
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = eventually(self.stop_children, 60, "the push at work")
        try:
            self.server.kill()
            process.wait(60 * gitstead_test.SLOW)
            self.server.start()
        finally:
            for child in children:
                try:
                    os.killpg(child, signal.SIGCONT)
                except ProcessLookupError:
                    pass
        eventually(lambda: not any(os.path.exists("/proc/%d" % child) for child in children), 60, "the end of the orphans")
        self.assertEqual(self.refs(), refs)
        self.server.assert_settled(before)


def _add(point, decided):
    def test(self):
        self.run_point(point, decided)
    setattr(Crash, "test_%s" % point.replace(".", "_"), test)


for _point in BEFORE_DECISION:
    _add(_point, False)
for _point in AFTER_DECISION:
    _add(_point, True)


class Report(TestCase):
    @unittest.skipUnless(os.environ.get("GITSTEAD_TEST_BROKEN"), "there are no broken plugins to load")
    def test_names_the_plugin(self):
        # A plugin that aborts takes the server along; what is said last says whose doing it was, and in what.
        plugin = os.path.join(os.environ["GITSTEAD_TEST_BROKEN"], "routing-aborts.so")
        server = Server()
        self.addCleanup(server.clean)
        write = server.write_config

        def with_it():
            write()
            with open(server.config) as source:
                text = source.read()
            self.assertIn('"rendezvous"', text)
            with open(server.config, "w") as out:
                out.write(text.replace('"rendezvous"', '"%s"' % plugin))
        server.write_config = with_it
        server.start()
        self.assertNotEqual(server.cli("repo", "create", "never", check=False).returncode, 0)
        self.assertEqual(server.process.wait(60 * gitstead_test.SLOW), -signal.SIGABRT)
        server.process = None
        report = server.log_text().split("\n*** ", 1)[1]
        self.assertIn("gitstead", report.splitlines()[0])
        self.assertIn("died of SIGABRT in thread worker", report.splitlines()[0])
        self.assertRegex(report, r"\n\*\*\* In plugin routing-aborts 9\.8\.7 \(ABI \d+\.\d+\) %s\n" % re.escape(plugin))
        call = re.search(r"\n\*\*\* Working on call ([0-9a-f]{32})\n", report)
        self.assertIsNotNone(call, report)
        # Every plugin with its version, and what was logged last, the end of the start included.
        self.assertRegex(report, r"\nstorage-git \d+(\.\d+)+ \(ABI ")
        self.assertIn("server.ready", report.split("*** Last log records:")[1])
        self.assertTrue(report.rstrip().endswith("*** End of report"), report[-500:])


gitstead_test.main()
