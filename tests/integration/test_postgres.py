# SPDX-License-Identifier: Apache-2.0
"""A server whose metadata is in PostgreSQL: schemas that do not fit, and a database that is killed under load."""
import json
import os
import signal
import subprocess
import threading

import gitstead_test
from gitstead_test import Git, Server, TestCase, eventually, run_program
import postgres_server

os.environ["GITSTEAD_TEST_METADATA"] = "postgres"
PUSHERS = 2


class Schema(TestCase):
    def metadata(self, server, verb, *arguments):
        return run_program("metadata", verb, "--config", server.config, *arguments)

    def test_a_server_waits_for_the_operator_to_migrate(self):
        server = Server(metadata={"auto_migrate": "false"})
        try:
            server.start_postgres()
            server.write_config()
            refused = run_program("serve", "--config", server.config)
            self.assertEqual(refused.returncode, 1)
            self.assertMentions(refused.stderr, "steps behind", "gitstead metadata migrate")
            status = self.metadata(server, "status")
            self.assertEqual(status.returncode, 1)
            self.assertMentions(status.stdout, "steps behind", "metadata migrate")
            plan = json.loads(self.metadata(server, "migrate", "--plan", "--json").stdout)
            self.assertEqual(plan["plugin"], "postgres")
            self.assertGreater(plan["steps_missing"], 1)
            self.assertEqual(server.postgres.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'gitstead'"), "0")
            done = self.metadata(server, "migrate")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertMentions(done.stdout, "%d steps" % plan["steps_missing"])
            self.assertTrue(json.loads(self.metadata(server, "status", "--json").stdout)["up_to_date"])
            self.assertMentions(self.metadata(server, "migrate").stdout, "is up to date")
            server.start()
            server.create("group/project")
            self.assertEqual(server.stop(), 0)
            server.postgres.psql("INSERT INTO gitstead.schema_migrations VALUES (99, 'later', 'x', 0)")
            newer = run_program("serve", "--config", server.config)
            self.assertEqual(newer.returncode, 1)
            self.assertMentions(newer.stderr, "by a newer Gitstead")
            self.assertEqual(self.metadata(server, "status").returncode, 1)
            server.postgres.stop()
            away = self.metadata(server, "status")
            self.assertEqual(away.returncode, 1)
            self.assertMentions(away.stderr, "cannot be reached")
        finally:
            server.clean()

    def test_wrong_use(self):
        for verb in ("status", "migrate"):
            wrong = run_program("metadata", verb)
            self.assertEqual(wrong.returncode, 2)
            self.assertMentions(wrong.stderr, "--config FILE is missing")
        self.assertEqual(run_program("metadata", "status", "--config", "/nonexistent/gitstead.yaml").returncode, 1)


class Pusher(threading.Thread):
    """Pushes one commit after the other to a repository of its own, and remembers what was acknowledged."""

    def __init__(self, number, server, folder, token):
        super().__init__()
        self.git = Git(token)
        self.url = server.create("load/%d" % number)
        self.folder = os.path.join(folder, str(number))
        self.acknowledged, self.refused, self.tried = 0, 0, []
        self.last = None
        self.end = threading.Event()
        self.git("init", "-q", "-b", "main", self.folder)

    def run(self):
        while not self.end.is_set():
            self.git("commit", "-q", "--allow-empty", "-m", "one more", cwd=self.folder)
            head = self.git("rev-parse", "HEAD", cwd=self.folder).strip()
            self.tried.append(head)
            pushed = self.git.run("push", "-q", self.url, "main", cwd=self.folder)
            if pushed.returncode == 0:
                self.last = head
                self.acknowledged += 1
            else:
                self.refused += 1


class Away(TestCase):
    def test_killed_and_restarted_under_load(self):
        server = Server()
        pushers = []
        try:
            server.start()
            token = server.new_token("write")
            pushers = [Pusher(number, server, self.scratch(), token) for number in range(PUSHERS)]
            for pusher in pushers:
                pusher.start()
            for _ in range(2):
                self.all_push(pushers)
                server.postgres.kill()
                refused = [pusher.refused for pusher in pushers]
                eventually(lambda: any(pusher.refused > before for pusher, before in zip(pushers, refused)), 60,
                           "a push that is refused while the database is away")
                failed = server.cli("repo", "create", "other/one", check=False)
                self.assertEqual(failed.returncode, 1)
                self.assertMentions(failed.stderr, "cannot be reached", "nothing was done")
                self.assertEqual(server.http("GET", "/healthz").status, 200)
                server.postgres.start()
                self.all_push(pushers)
            for pusher in pushers:
                pusher.end.set()
            for pusher in pushers:
                pusher.join()
            for pusher in pushers:
                now = pusher.git("ls-remote", pusher.url, "refs/heads/main").split()[0]
                # What is there was pushed, and is what was acknowledged last, or a later one whose answer was lost.
                self.assertIn(now, pusher.tried[pusher.tried.index(pusher.last):])
                pusher.git.fsck(server.replica(pusher.url.split("/", 3)[3]))
            print("# %d pushes acknowledged, %d refused" % (sum(pusher.acknowledged for pusher in pushers),
                                                           sum(pusher.refused for pusher in pushers)))
            self.assertEqual(server.stop(), 0)
        finally:
            for pusher in pushers:
                pusher.end.set()
            if server.postgres is not None and server.postgres.process.poll() is not None:
                server.postgres.start()
            for pusher in pushers:
                pusher.join()
            server.clean()

    def all_push(self, pushers):
        before = [pusher.acknowledged for pusher in pushers]
        eventually(lambda: all(pusher.acknowledged > n for pusher, n in zip(pushers, before)), 90,
                   "a push of everybody that is acknowledged")


class Hung(TestCase):
    """The database neither answers nor goes away."""

    def test_stopped(self):
        # Two wait for it until it is known to hang, the others for a connection.
        server = Server(metadata={"statement_timeout": "%ds" % (3 * gitstead_test.SLOW), "connections": 2, "pool_wait": "1s",
                                  "connect_timeout": "%ds" % (5 * gitstead_test.SLOW)})
        self.addCleanup(server.clean)
        server.start()
        git = Git(server.new_token("write"))
        url = server.create("a/b")
        work = self.scratch()
        git("init", "-q", "-b", "main", work, cwd=work)
        git("commit", "-q", "--allow-empty", "-m", "One", cwd=work)
        git("push", "-q", url, "main", cwd=work)
        git("ls-remote", "--exit-code", url, "main", cwd=work)
        stopped = [server.postgres.process.pid] + server.postgres.children()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            # The first one finds out; more of them than there are connections then wait for nothing.
            for _ in range(2):
                results = []
                readers = [threading.Thread(target=lambda: results.append(
                    git.run("ls-remote", "-q", "--exit-code", url, "main", cwd=work).stderr)) for _ in range(12)]
                for one in readers:
                    one.start()
                for one in readers:
                    one.join()
                self.assertEqual(results, [b""] * 12)
            # While the last readers still wait for the database, there is no connection left to ask it on.
            eventually(lambda: self.push_is_refused(git, url, work), 90, "a push that is told why")
            # Whoever happens to look whether the database is back has no time left; the others are told at once.
            eventually(lambda: self.is_refused(server), 90, "an answer at once")
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        eventually(lambda: git.run("push", "-q", url, "main:refs/heads/other", cwd=work).returncode == 0, 60,
                   "a push that is taken again")
        self.assertEqual(server.cli("repo", "list", "-q").stdout.split(), ["a/b.git"])

    def push_is_refused(self, git, url, work):
        refused = git.fails("push", url, "main:refs/heads/other", cwd=work)
        self.assertMentions(refused, "Nothing was done")
        return "does not answer" in refused

    def is_refused(self, server):
        failed = server.cli("repo", "create", "other/one", "--timeout", "2s", check=False)
        self.assertEqual(failed.returncode, 1)
        return "does not answer" in failed.stderr and "nothing was done" in failed.stderr.lower()


class Pooled(TestCase):
    """Through PgBouncer in transaction mode, which gives each statement whatever connection is free."""

    def test_pooler_that_goes_away(self):
        server = Server()
        self.addCleanup(server.clean)
        server.start_postgres()
        pooled = server.postgres.bouncer()
        if pooled is None:
            self.skipTest("there is no PgBouncer on this machine (Debian package pgbouncer)")
        server.metadata_options.update({"conninfo": pooled, "listen_conninfo": server.postgres.conninfo})
        server.start()
        git = Git(server.new_token("write"))
        work = self.scratch()
        url = server.create("group/project")
        git("init", "-q", "-b", "main", work, cwd=work)

        def push(branch):
            git("commit", "-q", "--allow-empty", "-m", branch, cwd=work)
            return git.run("push", "-q", url, "HEAD:refs/heads/" + branch, cwd=work)
        pushers = [threading.Thread(target=server.create, args=("many/%d" % n,)) for n in range(8)]
        for one in pushers:
            one.start()
        for one in pushers:
            one.join()
        self.assertEqual(push("before").returncode, 0)
        server.postgres.pooler.terminate()
        server.postgres.pooler.wait()
        # What is known can be read; a write fails and did nothing.
        git("ls-remote", "--exit-code", url, "refs/heads/before", cwd=work)
        failed = server.cli("repo", "create", "other/one", check=False)
        self.assertEqual(failed.returncode, 1)
        self.assertMentions(failed.stderr, "nothing was done")
        server.postgres.bouncer()
        eventually(lambda: push("after").returncode == 0, 60, "a push through the new pooler")
        self.assertEqual(len(server.cli("repo", "list", "-q").stdout.split()), 9)
        self.assertEqual(server.stop(), 0)


if postgres_server.missing() is not None:
    print("1..0 # SKIP " + postgres_server.missing())
else:
    gitstead_test.main()
