# SPDX-License-Identifier: Apache-2.0
"""`gitstead cluster …`: what an operator sees and does, on three nodes and a router."""
import json

import cluster_test
import gitstead_test
from cluster_test import NODES
from gitstead_test import Git, eventually


class Commands(cluster_test.Cluster):
    def setUp(self):
        super().setUp()
        self.router = self.add_router()

    def cluster(self, *arguments, status=0):
        result = self.router.cli("cluster", *arguments, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stdout if status == 0 else result.stdout + result.stderr

    def json(self, *arguments, status=0):
        result = self.router.cli("cluster", *arguments, "--json", check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return json.loads(result.stdout)

    def status(self):
        """Whatever the exit code, which says whether all is well."""
        return json.loads(self.router.cli("cluster", "status", "--json", check=False).stdout)

    def group(self):
        return self.status()["virtual_storages"][0]

    def push(self, path):
        tip = self.commit()
        Git(self.router.new_token("write"))("push", "-q", "%s/%s.git" % (self.router.url, path), "main", cwd=self.work)
        return tip

    def wait_for(self, up):
        eventually(lambda: self.status()["nodes_up"] == up, 20, "%d nodes to be up" % up)


class Looking(Commands):
    def test_well_and_degraded(self):
        self.router.create("a/b")
        self.router.create("a/c")
        self.push("a/b")
        text = self.cluster("status")
        self.assertMentions(text, "VIRTUAL STORAGE", "default", "Nodes: 3 up, 0 down", "0 queued")
        group = self.group()
        self.assertEqual((group["repositories"], group["healthy"], group["replicas"]), (2, 2, 6))
        self.assertEqual((group["copies"], group["min_copies"], group["storages"]), (3, 2, NODES))

        text = self.cluster("explain", "a/b")
        self.assertMentions(text, "healthy", "a write would be accepted", "as the routing plugin would place it")
        whole = self.json("explain", "default:a/b")
        self.assertEqual([one["storage"] for one in whole["replicas"]], sorted(NODES))
        self.assertTrue(all(one["agrees"] and one["disk_generation"] == whole["generation"] for one in whole["replicas"]))
        self.assertGreaterEqual(sum(one["reads_percent"] for one in whole["replicas"]), 95)
        self.assertEqual(whole["advice"], [])

        # Reports of the nodes are on their way by themselves.
        nodes = eventually(lambda: [one for one in self.json("nodes")["nodes"] if one["disk_id"]][2:]
                           and self.json("nodes")["nodes"], 20, "every node's report")
        self.assertEqual([one["storage"] for one in nodes], sorted(NODES))
        for one in nodes:
            self.assertTrue(one["up"] and one["configured"] and int(one["latency_us"]) > 0)
            self.assertEqual((one["replicas"], one["virtual_storages"]), (2, ["default"]))
            self.assertGreater(int(one["total_bytes"]), int(one["free_bytes"]))
        self.assertEqual(len({one["disk_id"] for one in nodes}), 3)
        self.assertMentions(self.cluster("nodes"), "NODE", "one", "up", "active", "ms")
        self.assertMentions(self.cluster("dataloss"), "Every acknowledged write of 2 repositories")

        # One node less: written by the others, and what it misses is told.
        self.nodes[1].kill()
        self.wait_for(2)
        text = self.cluster("status", status=1)
        self.assertMentions(text, "2 up, 1 down (two)")
        self.push("a/b")
        group = self.group()
        self.assertEqual((group["healthy"], group["degraded"], group["replicas_behind"]), (0, 2, 1))
        text = self.cluster("explain", "a/b")
        self.assertMentions(text, "degraded", "DOWN", "misses 1 of 2 writes", "bring two back", "a write would be accepted")
        self.assertMentions(self.cluster("nodes"), "DOWN", "two:")
        down = [one for one in self.json("nodes")["nodes"] if not one["up"]]
        self.assertEqual([(one["storage"], one["replicas_behind"]) for one in down], [("two", 1)])
        self.assertNotEqual(down[0]["since_us"], 0)

        # Two less: the policy's own words say what blocks a write.
        self.nodes[2].kill()
        self.wait_for(1)
        whole = self.json("explain", "a/b")
        self.assertEqual((whole["health"], whole["readable"], whole["writable"]), ("CLUSTER_READ_ONLY", True, False))
        self.assertMentions(whole["writes"], "three cannot be reached", "two is behind and cannot be reached", "read-only")
        self.assertEqual(self.group()["read_only"], 2)
        self.assertEqual(self.cluster("explain", "a/b", "--quiet"), "read-only\n")

        # The last one that has the newest write goes: nothing is lost, and it is said where it is.
        self.nodes[1].start()
        eventually(lambda: self.status()["down"] == ["three"], 20, "node two's return")
        self.nodes[0].kill()
        eventually(lambda: sorted(self.status()["down"]) == ["one", "three"], 20, "the loss of node one")
        self.assertMentions(self.cluster("dataloss"), "Every acknowledged write of 2 repositories")
        found = self.json("dataloss", "--unavailable", status=1)["losses"]
        self.assertEqual([one["repository"]["path"] for one in found], ["a/b.git"])
        self.assertEqual((found[0]["generation"], found[0]["reachable_generation"], found[0]["reachable"]), (2, 1, ["two"]))
        self.assertEqual((found[0]["recorded_generation"], found[0]["recorded"], found[0]["lost"]),
                         (2, ["one", "three"], False))
        whole = self.json("explain", "a/b")
        self.assertEqual((whole["health"], whole["readable"]), ("CLUSTER_UNAVAILABLE", False))
        self.assertMentions(" ".join(whole["advice"]), "the newest write is on one, three alone")

    def test_lost_writes(self):
        """The record says that a write was acknowledged, and no disk has it."""
        self.router.create("a/b")
        self.push("a/b")
        self.forget_writes("a/b")
        text = self.cluster("dataloss", status=1)
        self.assertMentions(text, "default:a/b.git", "LOST")
        loss = self.json("dataloss", status=1)["losses"][0]
        self.assertEqual((loss["generation"], loss["recorded_generation"], loss["lost"]), (3, 1, True))
        self.assertEqual(self.cluster("dataloss", "--quiet", status=1), "a/b.git\n")
        whole = self.json("explain", "a/b")
        self.assertEqual(whole["health"], "CLUSTER_LOST")
        self.assertMentions(" ".join(whole["advice"]), "generations 2 to 3 were acknowledged")
        self.assertEqual(self.group()["lost"], 1)

    def forget_writes(self, path):
        """As a disaster does: two more writes were decided, and the disks that had them are gone."""
        import sqlite3
        store = sqlite3.connect(self.metadata, timeout=20)
        with store:
            store.execute("UPDATE repositories SET generation = generation + 2 WHERE path = ?", (path + ".git",))
        store.close()

    def test_wrong_inputs(self):
        self.assertMentions(self.cluster("explain", "no/such", status=1), "there is no repository 'no/such.git'")
        self.assertMentions(self.cluster("explain", "nowhere:a/b", status=1), "no virtual storage 'nowhere'", "'default'")
        self.assertMentions(self.cluster("status", "nowhere", status=1), "no virtual storage 'nowhere'")
        self.assertMentions(self.cluster("dataloss", "nowhere", status=1), "no virtual storage 'nowhere'")
        self.assertMentions(self.cluster("status", "--times", "3", status=2), "--watch")
        self.assertMentions(self.cluster("nodes", "--watch", "--every", "1ms", status=2), "100ms to 1h")
        self.assertMentions(self.cluster("explain", status=2), "explain")
        self.assertMentions(self.cluster("destroy", status=2), "destroy")
        # A node knows of no virtual storage, and says where to go.
        result = self.nodes[0].cli("cluster", "status", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "this process is a node", "router")
        # Neither writers nor administrators of a part may.
        for scope, prefix in (("write", ""), ("admin", "team/")):
            token = self.router.new_token(scope, prefix=prefix)
            result = gitstead_test.run_program("cluster", "status", env={
                "GITSTEAD_SERVER": "tcp://127.0.0.1:%d" % self.router.nng_port, "GITSTEAD_TOKEN": token})
            self.assertEqual(result.returncode, 1)
            self.assertIn("hint", result.stderr)
        self.assertEqual(len(self.cluster("nodes", "--quiet", "--watch", "--every", "100ms", "--times", "2").split()), 6)


gitstead_test.main()
