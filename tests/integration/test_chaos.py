# SPDX-License-Identifier: Apache-2.0
"""A cluster under traffic while its processes are killed, stopped and resumed at random, one at a time.

Three nodes, two routers, a PostgreSQL server, and clients that push and read with stock git over HTTP. What has to hold: an
acknowledged push is never lost, no read that was sent to a living router fails, and the replicas are equal in the end.
GITSTEAD_TEST_CHAOS_SECONDS=300 runs it as long; GITSTEAD_TEST_CHAOS_SEED=N repeats an order of events, and
GITSTEAD_TEST_CHAOS_EVENTS=node:kill,node:stop has only such.
"""
import datetime
import os
import random
import signal
import threading
import time
import unittest

import gitstead_test
import postgres_server
from cluster_test import NODES, Cluster
from gitstead_test import Git, eventually

SECONDS = float(os.environ.get("GITSTEAD_TEST_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("GITSTEAD_TEST_CHAOS_SEED", str(random.randrange(1 << 32))))
CLIENTS = int(os.environ.get("GITSTEAD_TEST_CHAOS_CLIENTS", "10" if SECONDS > 60 else "4"))
PAUSE = float(os.environ.get("GITSTEAD_TEST_CHAOS_PAUSE", "0.5"))  # mean seconds between a client's rounds
EVENTS = [tuple(event.split(":")) for event in os.environ.get(
    "GITSTEAD_TEST_CHAOS_EVENTS", "node:kill,node:stop,router:kill,router:stop").split(",")]
REPOSITORIES = 3


class Life:
    """When a router was there: a request that was under way while it was not has to be made again at another one."""

    def __init__(self, router):
        self.router, self.deaths, self.alive = router, 0, True

    def mark(self):
        return self.deaths if self.alive else None

    def same(self, mark):
        return mark is not None and self.alive and self.deaths == mark


class Client(threading.Thread):
    """Pushes to a branch of its own and reads it back, from whichever router is there."""

    def __init__(self, test, number):
        super().__init__(name="client-%d" % number)
        self.test, self.number, self.branch = test, number, "refs/heads/client-%d" % number
        self.path = "chaos/repository-%d" % (number % REPOSITORIES)
        self.git, self.work = Git(test.token), test.scratch()
        self.tip, self.acknowledged = None, None
        self.begins, self.times = [], []  # of acknowledged pushes; a begin is that of the first try
        self.faults, self.refused, self.retried, self.reads = [], [], 0, 0
        test.addCleanup(self.end)

    def end(self):
        self.test.done.set()
        if self.is_alive():
            self.join(120 * gitstead_test.SLOW)

    def run(self):
        try:
            self.git("init", "-q", "-b", "main", self.work)
            n = 0
            while not self.test.done.is_set():
                n += 1
                self.one_round(n)
        except Exception as error:  # told by the test: a thread has nobody to tell
            self.faults.append(repr(error))

    def one_round(self, n):
        with open(os.path.join(self.work, "file"), "w") as out:
            out.write("%d %d\n" % (self.number, n))
        self.git("add", "file", cwd=self.work)
        self.git("commit", "-q", "-m", "round %d" % n, cwd=self.work)
        self.tip = self.git("rev-parse", "HEAD", cwd=self.work)
        if not self.push():
            return
        listed = self.read("ls-remote", self.branch)
        if listed is not None and listed.split("\t")[0] != self.tip:
            self.faults.append("%s after the acknowledged push of %s: a read says %r" % (self.branch, self.tip, listed))
        if n % 5 == 0:
            self.read("fetch", "+refs/heads/*:refs/remotes/all/*")
        self.test.done.wait(random.uniform(0, 2 * PAUSE))

    def push(self):
        begin = time.monotonic()
        while not self.test.abandon.is_set():
            life, result = self.ask("push", "-q", "%(url)s", "HEAD:" + self.branch)
            if result.returncode == 0:
                self.acknowledged = self.tip
                self.times.append(time.monotonic())
                self.begins.append(begin)
                return True
            if life:
                self.refused.append((time.monotonic(), result.stderr.decode(errors="replace")))
        return False

    def read(self, command, *arguments):
        """Not one fails that was sent to a router which is there from its begin to its end."""
        while not self.test.abandon.is_set():
            life, result = self.ask(command, *(["-q"] if command == "fetch" else []), "%(url)s", *arguments)
            self.reads += 1
            if result.returncode == 0:
                return result.stdout.decode().strip()
            if life:
                self.faults.append("%s failed: %s" % (command, result.stderr.decode(errors="replace")))
                return None
        return None

    def ask(self, *arguments):
        """What came of a command, and whether its router was there all the time."""
        life = self.test.some_router()
        mark = life.mark()
        url = "%s/%s.git" % (life.router.url, self.path)
        result = self.git.run(*(a.replace("%(url)s", url) for a in arguments), cwd=self.work)
        if result.returncode != 0 and not life.same(mark):
            self.retried += 1
            return False, result
        return True, result


class Chaos(Cluster):
    def metadata_store(self):
        why = postgres_server.missing()
        if why is not None:
            raise unittest.SkipTest(why)
        postgres = postgres_server.Postgres()
        self.addCleanup(postgres.close)
        return {"plugin": "postgres", "conninfo": postgres.conninfo, "auto_migrate": "true"}

    def setUp(self):
        super().setUp()
        self.random = random.Random(SEED)
        self.done, self.abandon = threading.Event(), threading.Event()
        # A long run is told by its gaps, so its routers ask the nodes as they do when nobody configures it.
        probes = {"probe_interval": "500ms", "probe_timeout": "1500ms"} if SECONDS > 60 else None
        self.lives = [Life(self.add_router(probes)) for _ in range(2)]
        self.first = self.lives[0].router
        for n in range(REPOSITORIES):
            self.first.create("chaos/repository-%d" % n)
        self.token = self.first.new_token("write")
        self.events = []

    def some_router(self):
        alive = [life for life in self.lives if life.alive]
        return random.choice(alive or self.lives)

    def all_current(self):
        """One thing at a time: the next one waits until no replica is behind."""
        router = next(life.router for life in self.lives if life.alive)
        for n in range(REPOSITORIES):
            generations, now = self.generations(router, "chaos/repository-%d" % n)
            if [generations.get(name) for name in NODES] != [now] * len(NODES):
                return False
        return True

    def disturb(self):
        victims = [("node", node) for node in self.nodes] + [("router", life) for life in self.lives]
        kind, victim, act = self.random.choice([(kind, victim, act) for kind, victim in victims for act in ("kill", "stop")
                                                if (kind, act) in EVENTS])
        begin = time.monotonic()
        if kind == "router":
            victim.alive, victim.deaths = False, victim.deaths + 1
            server = victim.router
        else:
            server = victim
        if act == "kill":
            server.kill()
        else:
            server.process.send_signal(signal.SIGSTOP)
        self.done.wait(self.random.uniform(1, 4))
        if act == "kill":
            server.start()
        else:
            server.process.send_signal(signal.SIGCONT)
        if kind == "router":
            eventually(server.is_ready, 60, "the router's return")
            victim.alive = True
        self.events.append((begin, time.monotonic(), kind, act))

    def times(self, clients, n):
        return sorted(t for client in clients if client.number % REPOSITORIES == n for t in client.times)

    def wait_for_writes(self, clients):
        """What is measured around an event is of that event: writes to all repositories go on before the next one."""
        since = time.monotonic()
        eventually(lambda: all(len([t for t in self.times(clients, n) if t > since]) >= 2 for n in range(REPOSITORIES))
                   or any(client.faults for client in clients), 60, "two writes to each repository")

    def calm(self, clients):
        """Writes that were on their way when a replica was repaired may leave it behind once more."""
        current = False
        while not current and not any(client.faults for client in clients):
            eventually(self.all_current, 60, "the repair of what missed writes")
            self.wait_for_writes(clients)
            current = self.all_current()

    def gaps(self, clients, kind, act):
        """The longest time around such events in which somebody pushed to a repository and nobody's push was acknowledged."""
        longest = (0, 0, 0)
        for n in range(REPOSITORIES):
            pushes = sorted(push for client in clients if client.number % REPOSITORIES == n
                            for push in zip(client.times, client.begins))
            for at, ((a, _), (b, _)) in enumerate(zip(pushes, pushes[1:])):
                a = max(a, min(begin for _, begin in pushes[at + 1:at + 1 + CLIENTS]))
                if any(a < end and b > begin for begin, end, *what in self.events if what == [kind, act]):
                    longest = max(longest, (b - a, a, n))
        return longest

    def test_everything_at_random(self):
        print("# seed %d" % SEED)
        clients = [Client(self, n) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        eventually(lambda: all(client.times or client.faults for client in clients), 60, "a push of each client")
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            self.disturb()
            self.calm(clients)
        self.done.set()
        for client in clients:
            client.join(60 * gitstead_test.SLOW)
        self.abandon.set()
        self.tell(clients)
        self.assertEqual([fault for client in clients for fault in client.faults], [])
        for n in range(REPOSITORIES):
            self.same_everywhere("chaos/repository-%d" % n, clients)

    @staticmethod
    def clock(moment):
        """As the logs have it."""
        when = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=time.monotonic() - moment)
        return when.strftime("%H:%M:%S.%f")[:-3]

    def tell(self, clients):
        pushes, reads = sum(len(c.times) for c in clients), sum(c.reads for c in clients)
        print("# %d pushes acknowledged, %d refused and made again; %d reads; %d requests to a router that went away" % (
            pushes, sum(len(c.refused) for c in clients), reads, sum(c.retried for c in clients)))
        for kind in ("node", "router"):
            for act in ("kill", "stop"):
                count = len([event for event in self.events if list(event[2:]) == [kind, act]])
                gap, since, n = self.gaps(clients, kind, act)
                print("# %s %s: %d times, longest gap %.2f s (repository-%d after %s)" % (
                    kind, act, count, gap, n, self.clock(since)))
        for begin, end, kind, act in self.events if SECONDS > 60 else []:
            print("# %s to %s: %s %s" % (self.clock(begin), self.clock(end), kind, act))
        for client in clients:
            for _, said in client.refused[:2]:
                print("# refused: %s" % " / ".join(said.splitlines()))

    def same_everywhere(self, path, clients):
        def equal():
            generations, now = self.generations(self.first, path)
            return [generations.get(name) for name in NODES] == [now] * len(NODES)
        eventually(equal, 60, "the repair of %s" % path)
        refs = self.assert_equal_replicas(self.first, path)
        info, git = self.first.info(path), Git()
        digests = {gitstead_test.refs_digest(git, node.path(info["replica_path"])) for node in self.nodes}
        self.assertEqual(len(digests), 1)
        for client in clients:
            if client.path == path:
                # The last push may have been made without its answer having come through.
                self.assertIn(refs[client.branch], (client.acknowledged, client.tip))


gitstead_test.main()
