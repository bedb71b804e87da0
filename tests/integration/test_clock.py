# SPDX-License-Identifier: Apache-2.0
"""Processes whose clock is an hour off: they are told apart from those that are dead, and nothing is lost or taken for it."""
import json
import os
import unittest

import gitstead_test
import postgres_server
from cluster_test import NODES, Cluster, Router
from gitstead_test import Git, eventually

WRONG_CLOCK = os.environ.get("GITSTEAD_TEST_CLOCK_OFF", "")


@unittest.skipIf(not os.path.exists(WRONG_CLOCK), "the library that sets a clock wrong was not built")
@unittest.skipIf(os.environ.get("GITSTEAD_TEST_SANITIZED"), "a sanitizer has to be loaded first")
class Clock(Cluster):
    def metadata_store(self):
        """One whose clock is its own, as where processes are on several machines."""
        why = postgres_server.missing()
        if why is not None:
            raise unittest.SkipTest(why)
        postgres = postgres_server.Postgres()
        self.addCleanup(postgres.close)
        return {"plugin": "postgres", "conninfo": postgres.conninfo, "auto_migrate": "true"}

    def set_clock(self, server, wrong):
        server.prefix = ["env", "LD_PRELOAD=" + WRONG_CLOCK] if wrong else []
        return server

    def status(self, router):
        return json.loads(router.cli("cluster", "status", "--json", check=False).stdout)

    def test_an_hour_ahead(self):
        router = self.add_router()
        router.server_options.update({"care_interval": "1s", "job_lease": "2s"})
        router.stop()
        router.start()
        url = router.create("a/b")
        git = Git(router.new_token("write"))
        self.commit()
        git("push", "-q", url, "main", cwd=self.work)
        # A node: it is away for routers, which say why; the others take the writes.
        self.nodes[2].stop()
        self.set_clock(self.nodes[2], True).start()
        eventually(lambda: self.status(router)["down"] == ["three"] and "off this server's clock" in router.log_text(), 30,
                   "the router's seeing what is wrong")
        self.assertMentions(router.cli("cluster", "nodes").stdout, "three", "3600 s off this server's clock", "set the clocks")
        tip = self.commit()
        git("push", "-q", url, "main", cwd=self.work)

        # A router: no node listens to it, it serves nothing, and takes no job, lease or node away from the other one.
        wrong = self.set_clock(Router(self.metadata, self.cluster_token, self.nodes), True)
        self.addCleanup(wrong.clean)
        wrong.is_ready = wrong.is_there
        wrong.start()
        eventually(lambda: "off this server's clock" in wrong.log_text(), 30, "the other router's being told")
        refused = git.run("push", url.replace(router.url, wrong.url), "main:refs/heads/wrong", cwd=self.work)
        self.assertNotEqual(refused.returncode, 0)
        for _ in range(3):
            tip = self.commit()
            git("push", "-q", url, "main", cwd=self.work)
        self.assertEqual(self.status(router)["down"], ["three"])
        wrong.stop()

        # Set right it is one of them again.
        self.nodes[2].stop()
        self.set_clock(self.nodes[2], False).start()

        def current():
            generations, now = self.generations(router, "a/b")
            return generations == {name: now for name in NODES}
        eventually(current, 60, "the repair of what node three missed")
        refs = self.assert_equal_replicas(router, "a/b")
        self.assertEqual(refs, {"refs/heads/main": tip})


gitstead_test.main()
