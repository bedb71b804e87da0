# SPDX-License-Identifier: Apache-2.0
"""`gitstead cluster …`: what an operator sees and does, on three nodes and a router."""
import json
import os
import shutil
import sqlite3

import cluster_test
import gitstead_test
from cluster_test import NODES
from gitstead_test import Git, eventually


class RepairingRouter(cluster_test.Router):
    """With a policy that repositories can have instead of their virtual storage's."""

    def configuration(self):
        return dict(super().configuration(), consistencies=[{"name": "eventual", "plugin": "primary"}])


class Router(RepairingRouter):
    """What is behind stays so: it is looked at."""

    def configuration(self):
        config = super().configuration()
        config["server"]["repair_workers"] = 0
        return config


class Commands(cluster_test.Cluster):
    def setUp(self):
        super().setUp()
        self.router = Router(self.metadata, self.cluster_token, self.nodes)
        self.addCleanup(self.router.clean)
        self.router.start()

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
        eventually(lambda: self.status()["nodes_up"] == up, 60, "%d nodes to be up" % up)


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

        self.assertEqual(self.json("explain", "a/c")["last_read_us"], 0)
        Git(self.router.new_token("read"))("ls-remote", "%s/a/b.git" % self.router.url)
        whole = self.json("explain", "a/b")
        self.assertIn(whole["last_read_storage"], NODES)
        self.assertEqual(whole["last_read_why"], "the routing plugin's choice among 3 current replicas")

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
        eventually(lambda: self.status()["down"] == ["three"], 60, "node two's return")
        self.nodes[0].kill()
        eventually(lambda: sorted(self.status()["down"]) == ["one", "three"], 60, "the loss of node one")
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
        store = sqlite3.connect(self.metadata["path"], timeout=20)
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


class Doing(Commands):
    def test_policies(self):
        self.router.create("a/b")
        self.assertMentions(self.cluster("set-replication-factor", "2", "a/b"), "should have 2 replicas (its own factor)")
        self.assertEqual((self.json("explain", "a/b")["copies"], self.json("explain", "a/b")["copies_from"]),
                         (2, "the repository"))
        for factor, why in (("4", "has 3 nodes"), ("1", "min_copies")):
            text = self.cluster("set-replication-factor", factor, "a/b", status=1)
            self.assertMentions(text, "a/b.git", why)
        for factor in ("0", "65", "-1", "many"):
            self.cluster("set-replication-factor", "--", factor, "a/b", status=2)
        self.assertMentions(self.cluster("set-replication-factor", "2", "no/such", status=1), "there is no repository")
        self.cluster("set-replication-factor", "default", "a/b")
        self.assertEqual(self.json("explain", "a/b")["copies"], 3)

        # With one of three nodes quorum refuses what the eventual policy takes; the switch holds from the next write on.
        self.push("a/b")
        for node in self.nodes[:2]:
            node.kill()
        self.wait_for(1)
        whole = self.json("explain", "a/b")
        self.assertFalse(whole["writable"])
        self.assertMentions(self.cluster("set-consistency", "nonsense", "a/b", status=1), "'nonsense'", "'eventual'")
        self.assertMentions(self.cluster("set-consistency", "eventual", "a/b"), "by 'eventual' (its own policy)")
        whole = self.json("explain", "a/b")
        self.assertEqual((whole["consistency"], whole["consistency_from"]), ("eventual", "the repository"))
        # min_copies stands above every policy.
        self.assertFalse(whole["writable"])
        self.nodes[0].start()
        self.wait_for(2)
        self.assertTrue(self.json("explain", "a/b")["writable"])
        self.push("a/b")
        self.cluster("set-consistency", "default", "a/b")
        self.assertEqual(self.json("explain", "a/b")["consistency_from"], "the virtual storage")

    def test_policy_that_a_router_has_not(self):
        """It serves reads, and refuses writes rather than making them by another policy."""
        self.router.create("a/b")
        self.push("a/b")
        self.cluster("set-consistency", "eventual", "a/b")
        other = cluster_test.Router(self.metadata, self.cluster_token, self.nodes)
        self.addCleanup(other.clean)
        other.start()
        git = Git(other.new_token("write"))
        git("ls-remote", "%s/a/b.git" % other.url)
        self.commit()
        git.fails("push", "%s/a/b.git" % other.url, "main", cwd=self.work)
        result = other.cli("call", "Ref/SetDefaultBranch", json.dumps({"repository": {"path": "a/b"}, "branch": "x"}),
                           check=False)
        self.assertMentions(result.stderr, "eventual", "this router's configuration has not")
        explained = json.loads(other.cli("cluster", "explain", "a/b", "--json").stdout)
        self.assertFalse(explained["writable"])
        self.assertMentions(explained["writes"], "eventual")

    def test_receipts(self):
        self.router.create("a/b")
        tip = self.push("a/b")
        receipt = self.router.call("Ref/Update", {"repository": {"path": "a/b"}, "updates": [
            {"name": "refs/heads/by-call", "old_oid": gitstead_test.ZERO, "new_oid": tip}]})["receipt"]
        text = self.cluster("receipt", "verify", "a/b", json.dumps({"receipt": receipt}))
        self.assertMentions(text, "genuine; 3 of 3 replicas hold it now", "Generation 2 (now 2)")
        whole = self.json("receipt", "verify", "a/b", receipt["transaction_id"])
        self.assertEqual((whole["held_by"], whole["recorded"]), (3, receipt))
        self.assertTrue(all(one["proven"] and one["holds"] and one["named"] for one in whole["holders"]))
        kept = self.scratch() + "/receipt.json"
        with open(kept, "w") as out:
            json.dump(receipt, out)
        self.cluster("receipt", "verify", "a/b", "@" + kept)
        for field, value, why in (("generation", 7, "as generation 2, not 7"), ("refs_digest", "00" * 32, "another refs digest"),
                                  ("replicas", ["one", "four"], "does not name four"),
                                  ("transaction_id", "00" * 16, "no write of this repository")):
            text = self.cluster("receipt", "verify", "a/b", json.dumps(dict(receipt, **{field: value})), status=1)
            self.assertMentions(text, why)
        for wrong in ("xyz", "{", "{}", '{"transaction_id": "00"}', "@/no/such/file"):
            self.assertIn(self.router.cli("cluster", "receipt", "verify", "a/b", wrong, check=False).returncode, (1, 2))
        self.cluster("receipt", "prove", "a/b", "00", status=2)

    def test_verify_untracked_adopt(self):
        self.router.create("a/b")
        self.router.create("a/c")
        self.push("a/b")
        self.assertMentions(self.cluster("verify"), "6 replicas are as recorded, 0 are not")
        self.assertEqual(self.group()["replicas_unverified"], 0)
        self.assertMentions(self.cluster("verify", "--node", "two"), "2 replicas are as recorded")
        self.assertMentions(self.cluster("verify", "--node", "four", status=1), "no storage 'four'")
        self.assertMentions(self.cluster("verify", "no/such", status=1), "no/such")
        self.assertMentions(self.cluster("untracked"), "0 of 6 replicas")

        # A record that forgot a replica: it is found, and comes back.
        info = self.router.info("a/b")
        self.sql("DELETE FROM replicas WHERE storage = 'two' AND repository_id = ?", info["id"])
        self.assertMentions(self.cluster("untracked"), "two", info["replica_path"], "no replica recorded here", "default:a/b.git",
                            "1 of 6 replicas")
        self.assertMentions(self.cluster("adopt", "a/b", "one", status=1), "has a replica recorded on one already")
        self.assertMentions(self.cluster("adopt", "a/b", "four", status=1), "has no storage 'four'")
        self.assertMentions(self.cluster("adopt", "a/b", "two"), "one of 'a/b' again, at generation 1 (current)")
        self.assertMentions(self.cluster("untracked", "two"), "0 of 2 replicas")

        # A disk that lost one replica, and one whose refs changed behind the server's back.
        self.nodes[2].stop()
        shutil.rmtree(self.nodes[2].path(info["replica_path"]))
        self.nodes[2].start()
        self.wait_for(3)
        text = self.cluster("verify", status=1)
        self.assertMentions(text, "default:a/b.git on three: its disk has no such replica", "5 replicas are as recorded, 1 are not")
        self.assertEqual(self.group()["replicas_behind"], 1)

    def test_upkeep_that_is_asked_for(self):
        """On every replica, and never beside a round of housekeeping elsewhere in the cluster."""
        self.router.create("a/b")
        first, last = self.push("a/b"), self.push("a/b")
        Git(self.router.new_token("write"))("push", "-q", "--force", self.router.url + "/a/b.git", first + ":refs/heads/main",
                                            cwd=self.work)
        repository = {"repository": {"path": "a/b"}}
        until = 4102444800 * 1000000
        self.sql("INSERT INTO leases VALUES ('maintenance', 'upkeep of somewhere', 1, ?)"
                 " ON CONFLICT (name) DO UPDATE SET owner = 'upkeep of somewhere', token = token + 1, until_us = ?", until, until)
        for method in ("Optimize", "Prune"):
            result = self.router.cli("call", "Repository/" + method, json.dumps(repository), check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertMentions(result.stderr, "housekeeping is at work", "upkeep of somewhere")
        self.sql("UPDATE leases SET until_us = 0 WHERE name = 'maintenance'")
        # A replica may still be applying what was acknowledged, and a node's own round may be at it.
        found = []

        def pruned():
            result = self.router.cli("call", "Repository/Prune", json.dumps(dict(repository, no_grace=True)), check=False)
            if result.returncode == 0:
                found[:] = json.loads(result.stdout)["replicas"]
            return result.returncode == 0
        eventually(pruned, 60, "the replicas to be pruned")
        self.assertEqual(len(found), 3)
        for node in self.nodes:
            folder = node.path(self.router.info("a/b")["replica_path"])
            objects = Git()("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=folder).split()
            self.assertIn(first, objects)
            self.assertNotIn(last, objects)
        eventually(lambda: self.json("explain", "a/b")["advice"] == [], 60, "all replicas to be current")

    def sql(self, statement, *arguments):
        store = sqlite3.connect(self.metadata["path"], timeout=20)
        with store:
            changed = store.execute(statement, arguments).rowcount
        store.close()
        self.assertGreater(changed, 0, statement)

    def test_accept_data_loss(self):
        self.router.create("a/b")
        tip = self.push("a/b")
        text = self.cluster("accept-dataloss", "a/b", "one", "--yes", status=1)
        self.assertMentions(text, "nothing of 'a/b.git' is lost", "one, three, two", "nothing was changed")
        self.cluster("accept-dataloss", "a/b", "one", status=2)

        # Node one misses two writes; then the others are gone for good.
        self.nodes[0].kill()
        self.wait_for(2)
        self.push("a/b")
        lost = self.push("a/b")
        for node in self.nodes[1:]:
            node.kill()
        self.nodes[0].start()
        eventually(lambda: self.status()["down"] == ["two", "three"], 60, "node one alone")
        self.assertEqual([one["reachable_generation"] for one in self.json("dataloss", "-u", status=1)["losses"]], [1])
        self.assertMentions(self.cluster("accept-dataloss", "a/b", "two", "--yes", status=1), "on two cannot be reached")
        self.assertMentions(self.cluster("accept-dataloss", "a/b", "four", "--yes", status=1), "no replica on 'four'")
        text = self.cluster("accept-dataloss", "a/b", "one", "--dry-run")
        self.assertMentions(text, "up to generation 3; one holds 1", "generation 2,", "refs/heads/main -> " + lost,
                            "Nothing was changed")
        self.assertEqual(self.json("explain", "a/b")["generation"], 3)
        text = self.cluster("accept-dataloss", "a/b", "one", "--yes")
        self.assertMentions(text, "goes on from generation 4 with the replica on one")
        self.assertMentions(self.cluster("dataloss", "-u"), "Every acknowledged write of 1 repositories")
        whole = self.json("explain", "a/b")
        one = [replica for replica in whole["replicas"] if replica["storage"] == "one"][0]
        self.assertEqual((whole["generation"], one["disk_generation"], one["agrees"], whole["readable"]), (4, 4, True, True))
        url = "%s/a/b.git" % self.router.url
        git = Git(self.router.new_token("write"))
        self.assertEqual(git("ls-remote", url, "refs/heads/main").split()[0], tip)
        self.assertMentions(self.cluster("accept-dataloss", "a/b", "one", "--yes", status=1), "nothing of 'a/b.git' is lost")
        self.assertMentions(self.cluster("verify", "--node", "one"), "1 replicas are as recorded")
        # Those that come back are behind, whatever they hold, and the commits are there still.
        self.nodes[1].start()
        self.wait_for(2)
        self.assertEqual(git("ls-remote", url, "refs/heads/main").split()[0], tip)
        git("cat-file", "-e", lost, cwd=self.nodes[1].path(self.router.info("a/b")["replica_path"]))

    def test_nodes(self):
        self.router.create("a/b")
        eventually(lambda: len([one for one in self.json("nodes")["nodes"] if one["disk_id"]]) == 3, 60, "reports")
        text = self.cluster("add-node", "three")
        self.assertMentions(text, "of default", "answers with our cluster token", "its own;", "active", "all of known repositories")
        self.assertMentions(self.cluster("add-node", "four", status=1), "no storage 'four'", "reload")
        self.assertMentions(self.cluster("drain", "four", status=1), "no node has ever reported")
        self.assertMentions(self.cluster("drain", "three"), "'three' gets no new replicas", "1 replicas")
        self.assertEqual(self.status()["nodes_draining"], 1)
        self.assertMentions(self.cluster("add-node", "three", status=1), "being drained")
        self.assertMentions(self.cluster("drain", "two", status=1), "fewer than 2")
        # What is created now goes to the others, and what is there is to move.
        self.router.create("a/new")
        self.assertEqual(sorted(one["storage"] for one in self.router.info("a/new")["replicas"]), ["one", "two"])
        self.router.call("Repository/Delete", {"repository": {"path": "a/new"}})
        self.router.cli("cluster", "set-replication-factor", "2", "a/b")
        self.assertMentions(self.cluster("set-replication-factor", "3", "a/b", status=1), "has 2 nodes that take replicas")
        plan = self.json("rebalance", "--plan")
        self.assertEqual([(one["from"], one["to"]) for one in plan["moves"]], [("three", "")])
        self.assertMentions(self.cluster("rebalance", "--plan"), "default:a/b.git", "(one less)", "1 moves for 1 repositories")
        self.cluster("rebalance", status=2)
        self.cluster("rebalance", "--plan", "--rate", "fast", status=2)
        self.assertMentions(self.cluster("remove-node", "three", status=1), "1 replicas are recorded on it")
        self.assertMentions(self.cluster("remove-node", "three", "--forget", status=1), "three")
        self.assertMentions(self.cluster("undrain", "three"), "active again")
        self.assertEqual(self.json("rebalance", "--plan")["count_moves"], 1)
        self.router.cli("cluster", "set-replication-factor", "default", "a/b")
        self.assertEqual(self.json("rebalance", "--plan")["moves"], [])

    def test_removed_and_still_named(self):
        """The routers' configuration names a node that was removed: it gets nothing, and whoever asks for it is told."""
        eventually(lambda: len([one for one in self.json("nodes")["nodes"] if one["disk_id"]]) == 3, 20, "reports")
        self.cluster("drain", "three")
        self.assertMentions(self.cluster("remove-node", "three"), "three")
        self.assertMentions(self.cluster("nodes"), "three", "removed")
        for path in ("a/b", "a/c"):
            self.router.create(path)
            self.push(path)
            self.assertEqual(sorted(one["storage"] for one in self.router.info(path)["replicas"]), ["one", "two"])
        self.assertEqual(self.json("rebalance", "--plan")["moves"], [])
        self.assertMentions(self.cluster("drain", "three", status=1), "'three' was removed")
        self.assertMentions(self.cluster("set-replication-factor", "3", "a/b", status=1), "has 2 nodes that take replicas")
        self.assertMentions(self.cluster("add-node", "three", status=1), "was removed", "undrain three")
        for words in (("repo", "move", "a/b", "--from", "one", "--to", "three"), ("repo", "adopt", "three", "some/folder")):
            result = self.router.cli(*words, check=False)
            self.assertEqual(result.returncode, 1)
            self.assertMentions(result.stderr, "'three'", "was removed")
        self.assertEqual([path for path in self.nodes[2].files() if path.startswith("@r")], [])
        self.cluster("undrain", "three")
        self.assertMentions(self.cluster("add-node", "three"), "active")
        self.router.create("a/d")
        self.assertEqual(len(self.router.info("a/d")["replicas"]), 3)

    def test_wrong_token_and_shared_disk(self):
        """What add-node says of nodes that must not take part."""
        eventually(lambda: len([one for one in self.json("nodes")["nodes"] if one["disk_id"]]) == 3, 60, "reports")
        self.nodes[2].stop()
        self.nodes[2].cluster_token = cluster_test.new_token()
        self.nodes[2].start()
        # First it is away, and then it is a stranger.
        eventually(lambda: "cluster token is missing or not that" in self.router.cli("cluster", "add-node", "three", check=False).stdout,
                   20, "the refusal of its token")
        self.assertMentions(self.cluster("add-node", "three", status=1), "FAILED", "'three' is not fit")
        # A copy of another node's disk under its own name.
        self.nodes[2].stop()
        self.nodes[2].cluster_token = self.cluster_token
        shutil.copyfile(self.nodes[0].root + "/gitstead-storage", self.nodes[2].root + "/gitstead-storage")
        self.nodes[2].launch()  # it is not ready, and stays so
        eventually(lambda: "node.report.refused" in self.nodes[2].log_text(), 60, "the refusal of its report")


class Switching(Commands):
    """The policy of a repository that is in use."""

    def test_under_traffic(self):
        """
        To and fro while two routers are written and read through. No call fails, and what is acknowledged is not missing. A push that
        is under way may be refused when a write by the other policy leaves one of its replicas behind.
        """
        routers = []
        for _ in range(2):
            router = RepairingRouter(self.metadata, self.cluster_token, self.nodes, min_copies=1)
            self.addCleanup(router.clean)
            routers.append(router.start())
        self.router.stop()
        self.router = routers[0]
        self.router.create("a/b")
        tips = {"a/b": [self.push("a/b"), self.push("a/b")]}
        pushers = [cluster_test.Traffic(self, router, "a/b", router.new_token("write"), "push-%d" % n)
                   for n, router in enumerate(routers)]
        callers = [cluster_test.Client(cluster_test.Api(router, router.new_token("write")), "call-%d" % n, ["a/b"], tips)
                   for n, router in enumerate(routers)]
        for one in callers + pushers:
            self.addCleanup(one.stop)
            one.start()
        for n in range(12):
            before = [len(one.times) for one in pushers] + [one.n_reads for one in callers]
            self.cluster("set-consistency", "eventual" if n % 2 == 0 else "default", "a/b")
            # On each router there is a write that began, and one that ended, under the policy.
            eventually(lambda: all(now > then + 1 for now, then in zip(
                [len(one.times) for one in pushers] + [one.n_reads for one in callers], before))
                or any(one.failed for one in callers), 60, "writes by the policy")
            self.router = routers[n % 2]
        for one in callers + pushers:
            one.stop()
        self.assertEqual([one.failed for one in callers], [[], []])
        for refused in pushers[0].failed + pushers[1].failed:
            # It hears that it was not made. Of one that a single replica was to take the connection ends behind that.
            self.assertTrue(any(words in refused for words in ("was not made", "given up before it was made", "RPC failed")), refused)
        print("# of %d pushes %d were refused" % (sum(len(one.times) + len(one.failed) for one in pushers),
                                                  sum(len(one.failed) for one in pushers)))
        self.assertEqual(self.json("explain", "a/b")["consistency_from"], "the virtual storage")
        self.cluster("dataloss")
        refs = self.assert_equal_replicas(self.router, "a/b", seconds=60)
        for one in pushers:
            self.assertEqual(dict(refs, **one.acknowledged), refs)
        for one in callers:
            self.assertEqual(refs[one.ref], one.last["a/b"])
        self.settled()


class Eventual(Commands):
    """Writes that are acknowledged with one copy: what is lost is told when it is lost, and not before."""

    def setUp(self):
        super().setUp()
        self.router.stop()
        self.router.consistency, self.router.min_copies = "primary", 1
        self.router.start()

    def test_loss_is_told_when_it_happens(self):
        self.router.create("a/b")
        tip = self.push("a/b")
        generations, now = self.generations(self.router, "a/b")
        home = [name for name in NODES if generations[name] == now]
        self.assertEqual((len(home), now), (1, 1))
        others = sorted(set(NODES) - set(home))
        node = self.nodes[NODES.index(home[0])]
        self.cluster("dataloss", "-u")
        # Its only copy is away: nothing is lost yet.
        node.stop()
        self.wait_for(2)
        self.cluster("dataloss")
        away = self.json("dataloss", "-u", status=1)["losses"]
        self.assertEqual([(one["recorded"], one["recorded_generation"], one["reachable_generation"], one["lost"]) for one in away],
                         [(home, 1, 0, False)])
        self.assertEqual(self.json("explain", "a/b")["health"], "CLUSTER_UNAVAILABLE")
        # It is back without its disk: now it is.
        folder = node.path(self.router.info("a/b")["replica_path"])
        os.rename(folder, folder + ".away")
        node.start()
        self.wait_for(3)
        self.assertMentions(self.cluster("verify", status=1), "a/b.git on %s: its disk has no such replica" % home[0])
        lost = self.json("dataloss", status=1)["losses"]
        self.assertEqual([(one["generation"], one["recorded_generation"], one["lost"]) for one in lost], [(1, 0, True)])
        self.assertEqual(self.json("explain", "a/b")["health"], "CLUSTER_LOST")
        self.assertFalse(self.json("explain", "a/b")["writable"])
        # The disk is found: it was not lost after all.
        node.stop()
        self.wait_for(2)
        os.rename(folder + ".away", folder)
        node.start()
        self.wait_for(3)
        eventually(lambda: Git(self.router.new_token("read")).run("ls-remote", "%s/a/b.git" % self.router.url, cwd=self.work)
                   .stdout.decode().startswith(tip), 30, "what was acknowledged being read")
        self.cluster("dataloss", "-u")
        # And lost for good: it is told until somebody says with what to go on.
        shutil.rmtree(folder)
        self.cluster("verify", status=1)
        self.assertTrue(self.json("dataloss", status=1)["losses"][0]["lost"])
        self.assertMentions(self.cluster("accept-dataloss", "a/b", others[0], "--yes"), tip, "goes on from generation 2")
        self.cluster("dataloss", "-u")


gitstead_test.main()
