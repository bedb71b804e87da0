# SPDX-License-Identifier: Apache-2.0
"""Replicas that change their place while their repositories are read and written: one by one, to balance, to drain a node."""
import base64
import http.client
import json
import os
import random
import threading
import time

import gitstead_test
from cluster_test import NODES, Api, Client, Cluster, Node, Router, Traffic
from gitstead_test import Git, eventually

STEPS = ["move.added", "move.caught", "move.current", "move.exchanged"]
WHO = {"name": "Ann Author", "email": "ann@example.org", "seconds": 1600000000, "zone": "+0200"}


class NamedRouter(Router):
    """Any number of nodes, by their own names."""

    def configuration(self):
        config = super().configuration()
        usual = config["storages"][0]
        config["storages"] = [dict(usual, name=node.name, url="tcp://%s:%d" % (node.host, node.nng_port)) for node in self.nodes]
        config["virtual_storages"][0]["storages"] = [node.name for node in self.nodes]
        return config


class MoveCluster(Cluster):
    SERVER = {"care_interval": "1s", "job_lease": "2s", "move_grace": "3s"}

    def add_router(self, server=None, **options):
        router = NamedRouter(self.metadata, self.cluster_token, list(self.nodes), **options)
        router.server_options.update(dict(self.SERVER, **(server or {})))
        self.routers.append(router)
        self.addCleanup(router.clean)
        # One that is to die at a step of its own work may do so before anybody saw it ready.
        if router.server_options.get("crash_at"):
            router.launch()
        else:
            router.start()
        return router

    def one_copy(self, **rest):
        return self.add_router(**dict({"consistency": "direct", "copies": 1, "min_copies": 1}, **rest))

    def api(self, router):
        return Api(router, router.new_token("admin"))

    def fill(self, router, count, prefix="team/r"):
        """Repositories with two commits each; their names, and the commits."""
        api, tips, paths = self.api(router), {}, ["%s%03d" % (prefix, n) for n in range(count)]
        for path in paths:
            repository = {"path": path}
            api("Repository/Create", {"repository": repository})
            tips[path] = [self.commit_file(api, path, "one"), self.commit_file(api, path, "two")]
        return paths, tips

    def commit_file(self, api, path, text):
        return api("Change/CommitFiles", {
            "repository": {"path": path}, "write": {"branch": "main", "committer": WHO}, "message": text,
            "actions": [{"kind": "FILE_PUT", "path": "file", "content": text}]})["new_oid"]

    def cluster(self, router, *arguments, check=True):
        result = router.cli(*arguments, "--json", check=False, timeout=900)
        if check and result.returncode != 0:
            raise AssertionError("%s: %s" % (arguments, result.stdout + result.stderr))
        return json.loads(result.stdout) if check else result

    def places(self, router, paths):
        """Path -> the storages of its replicas."""
        found, page = {}, {"limit": 500}
        while True:
            reply = router.call("Repository/List", {"page": page})
            for one in reply["repositories"]:
                found[one["repository"]["path"].removesuffix(".git")] = sorted(replica["storage"] for replica in one["replicas"])
            if not reply["next_page_token"]:
                break
            page["token"] = reply["next_page_token"]
        return {path: found[path] for path in paths}

    def spread(self, router, paths):
        counts = {node.name: 0 for node in self.nodes}
        for storages in self.places(router, paths).values():
            for name in storages:
                counts[name] += 1
        return counts

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def folders(self, node):
        """Repositories that a node's disk has, without its trash."""
        return sum("HEAD" in files for _, _, files in os.walk(os.path.join(node.root, "@r")))

    def logged(self, event, *parts):
        text = "".join(router.log_text() for router in self.routers)
        return [line for line in text.splitlines() if " %s " % event in line and all(part in line for part in parts)]

    def held(self):
        """The longest time, in seconds, that one move kept writes waiting."""
        return max((int(line.split("held_us=")[1].split()[0]) for line in self.logged("move.done")), default=0) / 1e6


class Moving(MoveCluster):
    """One repository."""

    def begin(self, **options):
        self.router = self.one_copy(**options)
        self.paths, self.tips = self.fill(self.router, 1)
        self.path = self.paths[0]
        return self.places(self.router, self.paths)[self.path]

    def refused(self, code, *words, **request):
        answer = self.router.http("POST", "/api/v1/Cluster/Move", json.dumps(dict({"repository": {"path": self.path}}, **request)),
                                  self.api(self.router).headers)
        found = json.loads(answer.body)
        self.assertEqual(found.get("code"), code, found)
        self.assertMentions(found["message"], *words)

    def under_load(self, act, **options):
        """Writes and reads go on while @act does; none fails."""
        clients = [Client(self.api(self.router), "w%d" % n, self.paths, self.tips) for n in range(3)]
        for one in clients:
            self.addCleanup(one.stop)
            one.start()
        eventually(lambda: all(one.n_reads > 3 for one in clients), 60, "writes")
        act()
        count = sum(one.n_writes for one in clients)
        eventually(lambda: sum(one.n_writes for one in clients) > count + 10 or any(one.failed for one in clients), 60,
                   "writes afterwards")
        for one in clients:
            one.stop()
        self.assertEqual([one.failed for one in clients], [[]] * len(clients))
        refs = {}
        for one in clients:
            refs.update({one.ref: one.last[self.path]})
        return refs

    def whole(self, names, refs):
        info = self.router.info(self.path)
        self.assertEqual(sorted(one["storage"] for one in info["replicas"]), sorted(names))
        for name in names:
            folder = self.node(name).path(info["replica_path"])
            eventually(lambda: {key: value for key, value in self.replica_refs(self.node(name), info).items() if key in refs}
                       == refs, 20, "the acknowledged refs on " + name)
            Git().fsck(folder)

    def test_move_under_writes(self):
        """To and fro, with one copy; what was moved away goes to the trash."""
        home = self.begin()[0]
        away = [name for name in NODES if name != home]

        def act():
            for source, target in ((home, away[0]), (away[0], away[1]), (away[1], home)):
                result = self.router.cli("repo", "move", self.path, "--to", target, timeout=300)
                self.assertMentions(result.stdout, "1 moved, 0 given up")
                self.assertEqual(self.places(self.router, self.paths)[self.path], [target])
        refs = self.under_load(act)
        self.whole([home], refs)
        print("# writes waited %.2f s at most for a move: %s" % (self.held(), self.logged("move.done")[-1]))
        path = self.router.info(self.path)["replica_path"]
        for name in away:
            eventually(lambda: not os.path.exists(self.node(name).path(path)), 60, "nothing being left on " + name)
            self.assertGreaterEqual(len(os.listdir(os.path.join(self.node(name).root, "gitstead-trash"))), 1)
        self.assertTrue(os.path.exists(self.node(home).path(path)))

    def test_move_of_one_of_two(self):
        """With a majority of two: both have to be there for a write, and the third on its way in is not counted."""
        homes = self.begin(consistency="quorum", copies=2, min_copies=2)
        target = next(name for name in NODES if name not in homes)
        refs = self.under_load(lambda: self.cluster(self.router, "repo", "move", self.path, "--from", homes[0], "--to", target))
        self.whole([homes[1], target], refs)

    def test_long_push_is_waited_for(self):
        """One that began before its repository is to be moved ends as if nothing had happened."""
        home = self.begin()[0]
        target = next(name for name in NODES if name != home)
        Git()("fetch", "-q", self.node(home).path(self.router.info(self.path)["replica_path"]), "main", cwd=self.work)
        Git()("reset", "-q", "--hard", "FETCH_HEAD", cwd=self.work)
        with open(os.path.join(self.work, "big"), "wb") as out:
            out.write(os.urandom(1 << 20))  # what is small is read as a whole before anybody sees it
        tip = self.commit()
        pack = gitstead_test.pack_of(self.work, [tip, "^" + self.tips[self.path][1]], Git(), "--revs")
        body = gitstead_test.push_request([(gitstead_test.ZERO, tip, "refs/heads/long")], pack)
        user = base64.b64encode(("x:" + self.router.new_token("write")).encode()).decode()
        connection = http.client.HTTPConnection(self.router.host, self.router.http_port, timeout=300)
        self.addCleanup(connection.close)
        connection.putrequest("POST", "/%s.git/git-receive-pack" % self.path)
        connection.putheader("Content-Type", "application/x-git-receive-pack-request")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Authorization", "Basic " + user)
        connection.endheaders()
        connection.send(body[:-40])
        eventually(lambda: self.node(home).children(), 60, "the push's process")
        move = self.cluster(self.router, "repo", "move", self.path, "--to", target, "--no-wait")["move"]
        eventually(lambda: self.logged("job.failed", "kind=move", "began before"), 60, "the move waiting for the push")
        self.assertEqual(self.places(self.router, self.paths)[self.path], sorted([home, target]))
        # Others go on meanwhile.
        self.api(self.router)("Ref/Update", {"repository": {"path": self.path}, "updates": [
            {"name": "refs/heads/short", "new_oid": self.tips[self.path][0]}]})
        connection.send(body[-40:])
        self.assertIn("ok refs/heads/long", gitstead_test.push_report(connection.getresponse().read()))
        eventually(lambda: self.places(self.router, self.paths)[self.path] == [target], 60, "the move's end")
        self.assertEqual(move["to"], target)
        self.whole([target], {"refs/heads/long": tip, "refs/heads/short": self.tips[self.path][0]})

    def test_what_makes_no_sense(self):
        home = self.begin()[0]
        target = next(name for name in NODES if name != home)
        other = next(name for name in NODES if name not in (home, target))
        self.refused("INVALID_ARGUMENT", "onto itself", to=home)
        self.refused("NOT_FOUND", "no storage of that name", "one, two, three", to="nine")
        self.refused("NOT_FOUND", "no replica on 'nine'", **{"from": "nine", "to": target})
        self.refused("NOT_FOUND", "no replica on '%s'" % other, **{"from": other, "to": target})
        result = self.router.cli("repo", "move", "no/such", "--to", target, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "cannot move 'no/such' to '%s'" % target, "no/such")
        self.assertEqual(self.router.cli("repo", "move", self.path, check=False).returncode, 2)
        eventually(lambda: self.router.cli("cluster", "drain", target, check=False).returncode == 0, 60, "the node's report")
        self.refused("FAILED_PRECONDITION", "is being drained", to=target)
        self.router.cli("cluster", "undrain", target)
        self.node(target).kill()
        eventually(lambda: json.loads(self.router.cli("cluster", "status", "--json", check=False).stdout)["nodes_down"] == 1, 60,
                   "the node's absence")
        self.refused("UNAVAILABLE", "cannot be reached", to=target)
        self.node(target).start()
        eventually(lambda: json.loads(self.router.cli("cluster", "status", "--json", check=False).stdout)["nodes_down"] == 0, 60,
                   "the node's return")
        self.cluster(self.router, "repo", "move", self.path, "--to", target)
        self.assertEqual(self.places(self.router, self.paths)[self.path], [target])
        self.router.cli("cluster", "set-replication-factor", "2", self.path)
        eventually(lambda: len(self.places(self.router, self.paths)[self.path]) == 2, 60, "a second copy")
        both = self.places(self.router, self.paths)[self.path]
        left = next(name for name in NODES if name not in both)
        self.refused("INVALID_ARGUMENT", "has 2 replicas", to=left)
        self.refused("ALREADY_EXISTS", "a replica there already", **{"from": both[0], "to": both[1]})

    def test_two_movers_and_a_deletion(self):
        """No worker is there yet: the first move waits, another one is refused, and the deletion ends it."""
        home = self.begin(server={"repair_workers": 0})[0]
        first, second = [name for name in NODES if name != home]
        move = self.cluster(self.router, "repo", "move", self.path, "--to", first, "--no-wait")["move"]
        self.assertEqual((move["state"], move["from"], move["to"]), ("queued", home, first))
        again = self.cluster(self.router, "repo", "move", self.path, "--to", first, "--no-wait")["move"]
        self.assertEqual(again["id"], move["id"])
        self.refused("FAILED_PRECONDITION", "is being moved already", to=second)
        nodes = {one["storage"]: one for one in self.cluster(self.router, "cluster", "nodes")["nodes"]}
        self.assertEqual([int(nodes[name]["moves_in"]) for name in (home, first, second)], [0, 1, 0])
        self.assertEqual([int(nodes[name]["moves_out"]) for name in (home, first, second)], [1, 0, 0])
        self.assertMentions(self.router.cli("cluster", "explain", self.path).stdout, "move %s to %s" % (home, first), "queued")
        self.assertMentions(self.router.cli("cluster", "moves").stdout, self.path, home, first, "1 moves wait")
        self.router.cli("repo", "delete", self.path, "--yes")
        worker = self.one_copy()
        eventually(lambda: int(self.cluster(worker, "cluster", "moves", "--all")["done"]) == 1, 60, "the move's end")
        self.assertEqual([self.folders(node) for node in self.nodes], [0, 0, 0])

    def test_killed_at_each_step(self):
        """One router after another goes on with the move, and dies a step further; writes go on through another one."""
        home = self.begin(server={"repair_workers": 0})[0]
        target = next(name for name in NODES if name != home)

        def act():
            self.cluster(self.router, "repo", "move", self.path, "--to", target, "--no-wait")
            for step in STEPS:
                mover = self.one_copy(server={"repair_workers": 1, "crash_at": step})
                self.assertEqual(mover.process.wait(60 * gitstead_test.SLOW), -9, step)
                mover.process = None
            self.assertEqual(self.places(self.router, self.paths)[self.path], [target])
            worker = self.one_copy()
            eventually(lambda: int(self.cluster(worker, "cluster", "moves", "--all")["done"]) == 1, 60, "the move's end")
        refs = self.under_load(act)
        self.whole([target], refs)
        path = self.router.info(self.path)["replica_path"]
        eventually(lambda: not os.path.exists(self.node(home).path(path)), 60, "nothing being left on " + home)

    def test_renamed_meanwhile(self):
        home = self.begin(server={"repair_workers": 0})[0]
        target = next(name for name in NODES if name != home)
        self.cluster(self.router, "repo", "move", self.path, "--to", target, "--no-wait")
        self.router.cli("repo", "rename", self.path, "team/renamed")
        worker = self.one_copy()
        eventually(lambda: self.places(worker, ["team/renamed"])["team/renamed"] == [target], 60, "the move's end")

    def test_never_written(self):
        home = self.begin()[0]
        api = self.api(self.router)
        api("Repository/Create", {"repository": {"path": "team/empty"}})
        home = self.places(self.router, ["team/empty"])["team/empty"][0]
        target = next(name for name in NODES if name != home)
        self.cluster(self.router, "repo", "move", "team/empty", "--to", target)
        self.assertEqual(self.places(self.router, ["team/empty"])["team/empty"], [target])
        self.commit_file(api, "team/empty", "one")


class Balance(MoveCluster):
    """Many repositories, one copy each: a node is added, and one is drained."""
    COUNT, CLIENTS, KILL, PAUSE, SECONDS = 30, 3, True, 0.01, 120

    def add_node(self, name):
        node = Node(self.metadata, self.cluster_token, name)
        self.nodes.append(node)
        self.addCleanup(node.clean)
        node.start()
        for router in self.routers:
            router.nodes = list(self.nodes)
            router.write_config()
            router.cli("reload")
        eventually(lambda: self.routers[0].cli("cluster", "add-node", name, check=False).returncode == 0, 60, "a node that is fit")

    def moved(self, router, seconds):
        """Until no move is open, what became of them."""
        def over():
            moves = self.cluster(router, "cluster", "moves")
            return int(moves["queued"]) + int(moves["running"]) == 0 and moves
        return eventually(over, seconds, "the end of all moves")

    def test_add_one_and_drain_one(self):
        # Writes come through a router that lives; the one that moves is killed, and another one goes on.
        front = self.one_copy(server={"repair_workers": 0 if self.KILL else 4})
        mover = self.one_copy(server={"repair_workers": 1}) if self.KILL else front
        paths, tips = self.fill(front, self.COUNT)
        clients = [Client(self.api(front), "w%d" % n, paths, tips, self.PAUSE) for n in range(self.CLIENTS)]
        for one in clients:
            self.addCleanup(one.stop)
            one.start()
        token = front.new_token("write")
        pushes = Traffic(self, front, paths[0], token, "pushed")
        pushes.start()
        before = self.spread(front, paths)
        self.add_node("four")
        began = time.monotonic()
        planned = [move for move in self.cluster(front, "cluster", "rebalance", "--plan")["moves"]]
        self.assertGreater(len(planned), 2)
        queued = self.cluster(mover, "cluster", "rebalance", "--apply", "--no-wait")
        self.assertEqual(int(queued["queued"]), len(planned))
        if self.KILL:
            eventually(lambda: self.logged("move.done"), 60, "the first move")
            mover.kill()
            mover.start = lambda: None
            self.one_copy(server={"repair_workers": 4})
        moves = self.moved(front, self.SECONDS)
        balanced = time.monotonic() - began
        self.assertEqual(int(moves["failed"]), 0)
        self.assertEqual(int(self.cluster(front, "cluster", "rebalance", "--plan")["count_moves"]), 0)
        after = self.spread(front, paths)
        self.assertEqual(sum(after.values()), self.COUNT)
        self.assertEqual(after["four"], len(planned))

        began = time.monotonic()
        front.cli("cluster", "drain", "one")
        eventually(lambda: self.spread(front, paths)["one"] == 0, self.SECONDS, "node one being empty")
        drained = time.monotonic() - began
        self.moved(front, self.SECONDS)
        last = self.spread(front, paths)
        count = sum(one.n_writes for one in clients)
        eventually(lambda: sum(one.n_writes for one in clients) > count + 5 or any(one.failed for one in clients), 60,
                   "writes afterwards")
        for one in clients + [pushes]:
            one.stop()
        longest = max(one.longest for one in clients)
        print("# %d repositories: %s, with a fourth node %s in %.1f s, without the first one %s in %.1f s" % (
            self.COUNT, before, after, balanced, last, drained))
        print("# %d writes, %d reads, %d pushes; longest write %.2f s; a move held writes for %.2f s at most" % (
            sum(one.n_writes for one in clients), sum(one.n_reads for one in clients), len(pushes.times), longest[0],
            self.held()))
        self.assertEqual([one.failed for one in clients], [[]] * len(clients))
        self.assertEqual(pushes.failed, [])
        self.whole(front, paths, clients, pushes)
        eventually(lambda: self.folders(self.nodes[0]) == 0, 60, "nothing being left on node one")
        self.assertGreater(len(os.listdir(os.path.join(self.nodes[0].root, "gitstead-trash"))), 0)
        front.cli("cluster", "remove-node", "one")

    def whole(self, router, paths, clients, pushes):
        """Each repository in one place, with every acknowledged write."""
        for path, storages in self.places(router, paths).items():
            self.assertEqual(len(storages), 1, path)
            info = router.info(path)
            refs = self.replica_refs(self.node(storages[0]), info)
            for one in clients:
                if path in one.last:
                    self.assertEqual(refs.get(one.ref), one.last[path], path)
            if path == paths[0]:
                for ref, oid in pushes.acknowledged.items():
                    self.assertEqual(refs.get(ref), oid)
            Git().fsck(self.node(storages[0]).path(info["replica_path"]))


class Thousand(Balance):
    """The same of a thousand, by three clients that write all the time."""
    COUNT, CLIENTS, KILL, PAUSE, SECONDS = int(os.environ.get("GITSTEAD_TEST_REPOSITORIES", 1000)), 3, False, 0.0, 3000


if __name__ == "__main__":
    gitstead_test.main()
