# SPDX-License-Identifier: Apache-2.0
"""The metadata store is lost, and made anew from the nodes' disks; what does not fit together is told, nothing is cleared."""
import glob
import hashlib
import json
import os
import shutil
import unittest

import cluster_test
import gitstead_test
import postgres_server
from cluster_test import NODES
from gitstead_test import Git, eventually


class Router(cluster_test.Router):
    def configuration(self):
        config = dict(super().configuration(), consistencies=[{"name": "eventual", "plugin": "primary"}])
        config["server"].update({"care_interval": "1s", "job_lease": "2s"})
        return config


class Node(cluster_test.Node):
    """Clears what is left over as soon as it may."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.server_options.update({"maintenance_interval": "1s", "leftover_grace": "1s"})


class Rebuild(cluster_test.Cluster):
    def setUp(self):
        self.metadata = self.metadata_store()
        self.cluster_token = cluster_test.new_token()
        self.routers = []
        self.nodes = [Node(self.metadata, self.cluster_token, name) for name in NODES]
        self.router = Router(self.metadata, self.cluster_token, self.nodes)
        self.all = self.nodes + [self.router]
        for process in self.all:
            self.addCleanup(process.clean)
            process.start()
        self.work = self.scratch()
        Git()("init", "-q", "-b", "main", cwd=self.work)
        self.commits = 0

    # ---- what there is

    def cluster(self, *arguments, status=0):
        result = self.router.cli("cluster", *arguments, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stdout if status == 0 else result.stdout + result.stderr

    def json(self, *arguments, status=0):
        return json.loads(self.cluster(*arguments, "--json", status=status))

    def only_up(self, name):
        return [one["storage"] for one in self.json("nodes")["nodes"] if one["up"]] == [name]

    def counts(self):
        """`cluster status`, but for what is documented to differ: times, and work that comes and goes."""
        status = json.loads(self.router.cli("cluster", "status", "--json", check=False).stdout)
        status = {key: value for key, value in status.items() if not key.startswith("jobs_")}
        for group in status["virtual_storages"]:
            for key in ("replicas_unverified", "oldest_verified_us", "oldest_scrubbed_us"):
                group.pop(key, None)
        return status

    def push(self, path, *refs):
        oid = self.commit()
        Git(self.router.new_token("write"))("push", "-q", "%s/%s.git" % (self.router.url, path), *(refs or ("main",)),
                                            cwd=self.work)
        return oid

    def refs(self, path):
        lines = Git(self.router.new_token("read"))("ls-remote", "%s/%s.git" % (self.router.url, path), cwd=self.work)
        return sorted(lines.splitlines())

    def paths(self):
        return sorted(one["repository"]["path"] for one in self.router.call("Repository/List", {})["repositories"])

    def folder(self, name, path):
        return self.nodes[NODES.index(name)].path(self.router.info(path)["replica_path"])

    def label(self, name, path):
        with open(os.path.join(self.folder(name, path), "gitstead", "label")) as file:
            return dict(line.split(" ", 1) for line in file.read().splitlines())

    def replicas_on_disks(self):
        return sorted(path for node in self.nodes for path in glob.glob(os.path.join(node.root, "@r/*/*/*.git")))

    def whole(self, *paths):
        for path in paths:
            def current():
                generations, now = self.generations(self.router, path)
                return all(one == now for one in generations.values())
            eventually(current, 60, "all replicas of %s current" % path)

    # ---- the loss

    def stop_all(self):
        for process in reversed(self.all):
            process.stop()

    def lose_store(self):
        for path in glob.glob(self.metadata["path"] + "*"):
            os.unlink(path)

    def start_all(self):
        for process in self.all:
            process.start()
        eventually(lambda: self.counts()["nodes_up"] == len(NODES), 60, "all nodes")

    def unknown(self, name):
        node = self.nodes[NODES.index(name)]
        return [line for line in node.log_text().splitlines() if " maintain.disk.unknown " in line]


def edit_record(folder, **changes):
    """The identity record with other values, and a checksum that fits."""
    path = os.path.join(folder, "gitstead", "replica")
    with open(path) as file:
        lines = file.read().splitlines()[:-1]
    lines = [line.split(" ", 1)[0] + " " + changes.get(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]
    text = "\n".join(lines) + "\n"
    with open(path, "w") as file:
        file.write(text + "checksum %s\n" % hashlib.sha256(text.encode()).hexdigest())


class Lost(Rebuild):
    def test_the_store_is_lost_and_made_anew(self):
        for path in ("team/one", "team/two", "team/old-name", "pools/p", "empty"):
            self.router.create(path)
        for path in ("team/one", "team/two", "team/old-name", "pools/p"):
            self.push(path, "main", "main:refs/heads/b%d" % self.commits)
        self.router.call("Repository/Rename", {"repository": {"path": "team/old-name"}, "new_path": "team/new-name"})
        self.cluster("set-replication-factor", "2", "team/two")
        self.cluster("set-consistency", "eventual", "team/one")
        self.router.call("Pool/Link", {"repository": {"path": "team/one"}, "pool": {"path": "pools/p"}})
        eventually(lambda: len(self.router.info("team/two")["replicas"]) == 2, 60, "one replica less")
        paths = ["team/one", "team/two", "team/new-name", "pools/p", "empty"]
        self.whole(*paths)
        self.assertEqual(self.label("two", "team/new-name")["path"], "team/new-name.git")
        self.assertEqual(self.label("two", "team/one")["consistency"], "eventual")

        # One node misses a write, a rename and a policy, and then the store goes.
        self.nodes[2].stop()
        eventually(lambda: self.counts()["nodes_down"] == 1, 60, "node three being missed")
        self.push("team/new-name")
        self.router.call("Repository/Rename", {"repository": {"path": "empty"}, "new_path": "not-so-empty"})
        paths[-1] = "not-so-empty"
        before = {path: (self.router.info(path), self.refs(path)) for path in paths}
        self.nodes[2].start()
        eventually(lambda: self.counts()["nodes_up"] == 3, 60, "node three being back")
        self.whole(*paths)
        counts = self.counts()
        pool = self.router.call("Pool/Info", {"repository": {"path": "pools/p"}})
        eventually(lambda: self.label("three", "not-so-empty")["path"] == "not-so-empty.git", 60,
                   "the name reaching the node that was away")
        self.nodes[2].stop()
        eventually(lambda: self.counts()["nodes_down"] == 1, 60, "node three being missed")
        self.push("team/new-name")
        before["team/new-name"] = (self.router.info("team/new-name"), self.refs("team/new-name"))
        self.stop_all()
        self.lose_store()
        self.start_all()

        # Nothing is known, and nothing is cleared away: several rounds of housekeeping see replicas that no record names.
        on_disks = self.replicas_on_disks()
        self.assertGreaterEqual(len(on_disks), 14)
        for name in NODES:
            seen = len(self.unknown(name))
            eventually(lambda: len(self.unknown(name)) >= seen + 3, 60, "rounds of housekeeping on %s" % name)
        self.assertEqual(self.paths(), [])
        self.assertEqual(self.replicas_on_disks(), on_disks)
        self.assertFalse(any(one["joined"] for one in self.json("nodes")["nodes"]))
        # What is new gets an id that nobody has files of.
        self.router.create("begun/meanwhile")
        self.assertGreater(int(self.router.info("begun/meanwhile")["id"]), max(int(one[0]["id"]) for one in before.values()))

        plan = self.json("rebuild-metadata")
        self.assertFalse(plan["applied"])
        self.assertEqual((int(plan["written"]), int(plan["recorded"])), (5, 1))
        self.assertEqual(sorted({one["kind"] for one in plan["conflicts"]}), ["CLUSTER_REBUILD_BEHIND"])
        self.assertEqual(self.paths(), ["begun/meanwhile.git"])
        text = self.cluster("rebuild-metadata")
        self.assertMentions(text, "team/new-name.git", "behind", "access tokens", "Nothing was changed", "three@")

        # A node that is away may have what no other has.
        self.nodes[0].stop()
        eventually(lambda: self.counts()["nodes_down"] == 1, 60, "node one being missed")
        self.assertMentions(self.cluster("rebuild-metadata", "--apply", status=1), "'one' cannot be asked", "--without one")
        self.assertEqual(self.paths(), ["begun/meanwhile.git"])
        self.nodes[0].start()
        eventually(lambda: self.counts()["nodes_up"] == 3, 60, "node one being back")

        done = self.json("rebuild-metadata", "--apply")
        self.assertEqual((done["applied"], int(done["written"])), (True, 5))
        self.assertEqual([(one["storage"], one["joined"]) for one in done["nodes"]], [(name, True) for name in sorted(NODES)])
        for path, (info, refs) in before.items():
            now = self.router.info(path)
            for key in ("id", "replica_path", "created_us", "repository"):
                self.assertEqual(now[key], info[key], path)
            self.assertGreaterEqual(int(now["generation"]), int(info["generation"]))
            self.assertEqual(self.refs(path), refs)
        self.whole(*paths)
        deleted = self.router.info("begun/meanwhile")["id"]
        self.router.call("Repository/Delete", {"repository": {"path": "begun/meanwhile"}})
        eventually(lambda: self.counts() == counts, 60, "the status of before: %s" % counts)
        self.assertEqual(self.router.call("Pool/Info", {"repository": {"path": "pools/p"}}), pool)
        self.assertEqual(self.json("explain", "team/one")["consistency"], "eventual")
        for path in paths:
            self.push(path, "main", "main:refs/heads/after")
            self.whole(path)
        self.assertEqual(int(self.json("rebuild-metadata", "--apply")["written"]), 0)

        # What is left over from now on is cleared as ever; not so what the store cannot know yet, as one of before would not.
        stray, newer = (os.path.join(self.nodes[1].root, "@r/ff/ff", name) for name in ("stray.git", "newer.git"))
        for folder, number in ((stray, deleted), (newer, "999999")):
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            shutil.copytree(self.folder("two", "team/new-name"), folder + ".made", symlinks=True)
            edit_record(folder + ".made", repository=str(number))
            os.rename(folder + ".made", folder)
        eventually(lambda: not os.path.exists(stray), 60, "the leftover being cleared")
        eventually(lambda: " maintain.leftover.newer " in self.nodes[1].log_text(), 60, "the newer one being told")
        self.assertTrue(os.path.exists(newer))

    def test_what_does_not_fit_together(self):
        for path in ("damaged", "diverged", "first", "second", "nameless", "moved", "good"):
            self.router.create(path)
            self.push(path)
        names = ("damaged", "diverged", "first", "second", "nameless", "moved", "good")
        self.whole(*names)
        before = {path: self.refs(path) for path in names}
        ids = {path: self.router.info(path)["id"] for path in names}
        folders = {path: [self.folder(name, path) for name in NODES] for path in names}
        self.stop_all()
        with open(os.path.join(folders["damaged"][0], "gitstead", "replica"), "r+b") as file:
            file.truncate(40)
        with open(os.path.join(folders["good"][1], "gitstead", "label"), "r+b") as file:
            file.truncate(40)
        # One of three has another ref at the same generation.
        tip = Git()("rev-parse", "refs/heads/main", cwd=folders["diverged"][1])
        Git()("update-ref", "refs/heads/only-here", tip, cwd=folders["diverged"][1])
        # "second" was deleted and "first" renamed to it while a node was away: two ids, one name.
        for folder in folders["first"]:
            with open(os.path.join(folder, "gitstead", "label")) as file:
                lines = file.read().splitlines()[:-1]
            lines = [{"path": "path second.git", "version": "version 99999999999999999"}.get(line.split(" ")[0], line)
                     for line in lines]
            text = "\n".join(lines) + "\n"
            with open(os.path.join(folder, "gitstead", "label"), "w") as file:
                file.write(text + "checksum %s\n" % hashlib.sha256(text.encode()).hexdigest())
        for folder in folders["nameless"]:
            os.unlink(os.path.join(folder, "gitstead", "label"))
        elsewhere = os.path.join(self.nodes[2].root, "@r/00/00/elsewhere.git")
        os.makedirs(os.path.dirname(elsewhere), exist_ok=True)
        shutil.copytree(folders["moved"][2], elsewhere, symlinks=True)
        self.lose_store()
        self.start_all()

        done = self.json("rebuild-metadata", "--apply")
        kinds = sorted({one["kind"][len("CLUSTER_REBUILD_"):] for one in done["conflicts"]})
        self.assertEqual(kinds, ["DAMAGED", "DIVERGED", "MISPLACED", "NAMELESS", "PATH_TAKEN"])
        self.assertEqual(int(done["written"]), len(names))
        by_id = {one["id"]: one["repository"]["path"] for one in done["repositories"]}
        self.assertEqual({name: by_id[ids[name]] for name in names}, {
            "damaged": "damaged.git", "diverged": "diverged.git", "first": "second.git",
            "second": "lost-and-found/%s/second.git" % ids["second"], "nameless": "lost-and-found/%s.git" % ids["nameless"],
            "moved": "moved.git", "good": "good.git"})
        nodes = {one["storage"]: one for one in done["nodes"]}
        self.assertEqual([nodes[name]["joined"] for name in NODES], [False, True, False])
        self.assertMentions(nodes["three"]["problem"], "not recorded", "nothing is cleared")
        for name in names:
            if name != "diverged":
                self.assertEqual(self.refs(by_id[ids[name]][:-len(".git")]), before[name])

        # Nobody trusts either version; an operator says which one counts, and the other one is kept.
        losses = self.json("dataloss", status=1)["losses"]
        self.assertEqual([(one["repository"]["path"], one["lost"]) for one in losses], [("diverged.git", True)])
        self.cluster("accept-dataloss", "diverged", "one", "--yes")
        self.whole("diverged")
        self.assertEqual(self.refs("diverged"), before["diverged"])
        kept = eventually(lambda: self.json("dataloss", "--kept")["kept"], 60, "the version that was given up")
        self.assertEqual([(one["repository"]["path"], one["storage"]) for one in kept], [("diverged.git", "two")])
        self.assertEqual(Git()("rev-parse", "refs/heads/only-here", cwd=kept[0]["folder"]), tip)
        self.assertTrue(os.path.exists(elsewhere))
        self.assertTrue(os.path.exists(folders["damaged"][0]))


class LostDatabase(Rebuild):
    """The same in PostgreSQL, whose database is dropped while all processes run: none of them is started anew."""

    def metadata_store(self):
        why = postgres_server.missing()
        if why is not None:
            raise unittest.SkipTest(why)
        self.postgres = postgres_server.Postgres()
        self.addCleanup(self.postgres.close)
        self.postgres.psql("CREATE DATABASE lost")
        return {"plugin": "postgres", "conninfo": self.postgres.conninfo.replace("dbname=postgres", "dbname=lost"),
                "auto_migrate": "true"}

    def test_dropped_under_running_servers(self):
        for path in ("team/one", "team/two", "empty"):
            self.router.create(path)
        for path in ("team/one", "team/two"):
            self.push(path, "main", "main:refs/heads/b%d" % self.commits)
        self.cluster("set-replication-factor", "2", "team/two")
        self.cluster("set-consistency", "eventual", "team/one")
        eventually(lambda: len(self.router.info("team/two")["replicas"]) == 2, 60, "one replica less")
        paths = ["team/one", "team/two", "empty"]
        self.whole(*paths)
        eventually(lambda: all(self.label(name, "team/one").get("consistency") == "eventual" for name in NODES), 60,
                   "the labels of all replicas")
        before = {path: (self.router.info(path), self.refs(path)) for path in paths}
        counts = self.counts()
        git = Git(self.router.new_token("write"))
        url = self.router.url + "/team/one.git"
        git("ls-remote", url, cwd=self.work)

        self.postgres.psql("DROP DATABASE lost WITH (FORCE)")
        # What this router knows can still be read; a write fails and says why.
        git("ls-remote", url, cwd=self.work)
        refused = self.router.cli("repo", "create", "new/one", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertMentions(refused.stderr, "lost", "nothing was done")
        self.postgres.psql("CREATE DATABASE lost")
        done = gitstead_test.run_program("metadata", "migrate", "--config", self.router.config)
        self.assertEqual(done.returncode, 0, done.stderr)
        eventually(lambda: [one["disk_id"] != "" for one in self.json("nodes")["nodes"]] == [True] * 3, 60,
                   "the reports of all nodes to the new database")
        self.assertEqual(self.paths(), [])
        done = self.json("rebuild-metadata", "--apply")
        self.assertEqual((done["applied"], int(done["written"]), done["conflicts"]), (True, 3, []))
        for path, (info, refs) in before.items():
            now = self.router.info(path)
            for key in ("id", "replica_path", "generation", "refs_digest", "created_us", "repository"):
                self.assertEqual(now[key], info[key], path)
            self.assertEqual(self.refs(path), refs)
        eventually(lambda: self.counts() == counts, 60, "the status of before: %s" % counts)
        for path in paths:
            self.push(path, "main", "main:refs/heads/after")
            self.whole(path)


class GivenUp(Rebuild):
    def test_what_was_given_up_is_kept(self):
        self.router.create("team/p")
        self.push("team/p")
        self.whole("team/p")
        # Two nodes take a write that the third misses, and go away for good, as it seems.
        self.nodes[2].stop()
        eventually(lambda: self.counts()["nodes_down"] == 1, 60, "node three being missed")
        given_up = self.push("team/p", "main", "main:refs/heads/only-there")
        for node in self.nodes[:2]:
            node.stop()
        self.nodes[2].start()
        eventually(lambda: self.only_up("three"), 60, "node three alone")
        text = self.cluster("accept-dataloss", "team/p", "three", "--yes")
        self.assertMentions(text, given_up, "goes on from generation")
        self.assertMentions(self.cluster("dataloss", "--kept"), "No version that was given up is put aside")

        # They come back: their version is put aside before they follow.
        for node in self.nodes[:2]:
            node.start()
        eventually(lambda: self.counts()["nodes_up"] == 3, 60, "all nodes")
        self.whole("team/p")
        self.assertNotIn("refs/heads/only-there", "\n".join(self.refs("team/p")))
        kept = eventually(lambda: len(self.json("dataloss", "--kept")["kept"]) == 2 and self.json("dataloss", "--kept")["kept"],
                          20, "both versions")
        self.assertEqual(sorted(one["storage"] for one in kept), ["one", "two"])
        self.assertMentions(self.cluster("dataloss", "--kept"), "team/p.git", kept[0]["folder"])
        for one in kept:
            Git().fsck(one["folder"])
            self.assertEqual(Git()("rev-parse", "refs/heads/only-there", cwd=one["folder"]), given_up)
        # As the manual says: what is wanted of it comes back by a push.
        Git(self.router.new_token("write"))("push", "-q", "%s/team/p.git" % self.router.url, "only-there:refs/heads/rescued",
                                            cwd=kept[0]["folder"])
        self.whole("team/p")
        self.assertIn("%s\trefs/heads/rescued" % given_up, self.refs("team/p"))


if __name__ == "__main__":
    gitstead_test.main()
