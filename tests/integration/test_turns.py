# SPDX-License-Identifier: Apache-2.0
"""A real server on a storage that ends the process when it gets two calls at once: of all, or of one repository."""
import os
import threading

import gitstead_test
from gitstead_test import Git, Server, TestCase

CLIENTS = 4
ROUNDS = 5


class Turns(TestCase):
    def work(self, git, url, branch, rounds, failures):
        """Pushes to a branch of its own and reads it back, again and again."""
        try:
            work = self.scratch()
            git("init", "-q", "-b", branch, cwd=work)
            for number in range(rounds):
                git("commit", "-q", "--allow-empty", "-m", "%s %d" % (branch, number), cwd=work)
                git("push", "-q", url, branch, cwd=work)
                value = git("rev-parse", branch, cwd=work).strip()
                self.assertTrue(git("ls-remote", url, branch).startswith(value))
                git("clone", "-q", "-b", branch, url, os.path.join(self.scratch(), "clone"))
        except BaseException as failure:  # raised again by who waits for the thread
            failures.append(failure)

    def crowd(self, plugin):
        server = Server(storage={"plugin": os.path.join(os.environ["GITSTEAD_TEST_TURNS"], plugin)})
        self.addCleanup(server.clean)
        server.start()
        git = Git(server.new_token("write"))
        urls = [server.create("one"), server.create("two")]
        failures = []
        threads = [threading.Thread(target=self.work, args=(git, urls[i % 2], "branch-%d" % i, ROUNDS, failures))
                   for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        self.assertIsNone(server.process.poll(), server.log_tail())
        for name in ("one", "two"):
            self.assertEqual(server.info(name)["generation"], CLIENTS // 2 * ROUNDS)
            git.fsck(server.replica(name))

    def test_one_call_at_a_time(self):
        self.crowd("storage-turns-git-serial.so")

    def test_one_call_a_repository(self):
        self.crowd("storage-turns-git-per-repo.so")


if __name__ == "__main__":
    gitstead_test.main()
