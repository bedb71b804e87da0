# SPDX-License-Identifier: Apache-2.0
"""A cluster whose network falls apart: each process in a network namespace of its own, PostgreSQL in the test's.

The test runs itself again in a new network namespace, so that nothing of the machine's network is touched and everything
is gone with it. A cut drops packets without a word, as a broken switch does: nobody gets a reset.
"""
import os
import shutil
import subprocess
import sys
import time
import unittest

import gitstead_test
import postgres_server
from cluster_test import NODES, Cluster, Traffic
from gitstead_test import Git, eventually

NET = "10.99.0."
CLIENTS, DATABASE = NET + "1", NET + "2"


def ip(*arguments, inside=None, check=True):
    command = (["nsenter", "-t", str(inside), "-n"] if inside else []) + ["ip"] + list(arguments)
    return subprocess.run(command, check=check, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def enter():
    """Runs this program again in a network of its own; why that cannot be, if it cannot."""
    if os.environ.get("GITSTEAD_TEST_NETWORK") == "own":
        return None
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return "there is no program '%s' (Debian packages iproute2, util-linux)" % program
    if subprocess.run(["unshare", "--net", "ip", "link", "add", "gs-test", "type", "bridge"], stdin=subprocess.DEVNULL,
                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        return "network namespaces and bridges need privileges that are missing here"
    os.environ["GITSTEAD_TEST_NETWORK"] = "own"
    os.execvp("unshare", ["unshare", "--net", sys.executable] + sys.argv)


class Host:
    """A network namespace with one address on the bridge, kept by a process that does nothing."""

    def __init__(self, number):
        self.address = NET + str(number)
        # Ends with the test, however that ends: its input is closed then.
        self.keeper = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        mine = os.readlink("/proc/self/ns/net")
        eventually(lambda: os.readlink("/proc/%d/ns/net" % self.keeper.pid) != mine, 60, "the namespace")
        self.link = "port%d" % number
        ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.keeper.pid))
        ip("link", "set", self.link, "master", "hub", "up")
        for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                        ["addr", "add", self.address + "/24", "dev", "eth0"]):
            ip(*command, inside=self.keeper.pid)

    def adopt(self, server):
        server.host, server.prefix = self.address, ["nsenter", "-t", str(self.keeper.pid), "-n"]
        return server

    def cut(self, *addresses):
        """Nothing goes to these any more."""
        for address in addresses:
            ip("route", "add", "blackhole", address + "/32", inside=self.keeper.pid)

    def heal(self, *addresses):
        for address in addresses:
            ip("route", "del", "blackhole", address + "/32", inside=self.keeper.pid)

    def close(self):
        ip("link", "del", self.link)
        self.keeper.stdin.close()
        self.keeper.wait()


class Partition(Cluster):
    def setUp(self):
        self.hosts = {name: Host(10 + n) for n, name in enumerate(NODES + ["first", "second"])}
        for host in self.hosts.values():
            self.addCleanup(host.close)
        super().setUp()
        self.first, self.second = self.add_router(), self.add_router()
        self.url = self.first.create("team/project")
        self.token = self.first.new_token("write")
        self.git = Git(self.token)
        self.commit()
        self.git("push", "-q", self.url, "main", cwd=self.work)

    def metadata_store(self):
        postgres = postgres_server.Postgres(port=5432, address=DATABASE)
        self.addCleanup(postgres.close)
        patience = "%ds" % (3 * gitstead_test.SLOW)
        return {"plugin": "postgres", "conninfo": postgres.conninfo, "auto_migrate": "true", "connect_timeout": patience,
                "statement_timeout": patience}

    def placed(self, server):
        name = server.name if server.name != "none" else ["first", "second"][len(self.routers)]
        return self.hosts[name].adopt(server)

    def at(self, router):
        return "%s/team/project.git" % router.url

    def pushes(self, router, name):
        traffic = Traffic(self, router, "team/project", self.token, name)
        traffic.start()
        return traffic

    def both(self, verb, one, *others):
        """Cuts or heals the way between a host and others, in both directions."""
        getattr(self.hosts[one], verb)(*(self.hosts[other].address for other in others))
        for other in others:
            getattr(self.hosts[other], verb)(self.hosts[one].address)

    def healed(self):
        """All replicas current again, by themselves."""
        def current():
            generations, now = self.generations(self.second, "team/project")
            return [generations.get(name) for name in NODES] == [now] * len(NODES)
        eventually(current, 60, "equal replicas")
        self.assert_equal_replicas(self.second, "team/project")

    def works(self, router):
        self.commit()
        self.git("push", "-q", self.at(router), "HEAD:refs/heads/main", cwd=self.work)
        self.assertIn(self.git("rev-parse", "HEAD", cwd=self.work), self.git("ls-remote", self.at(router)))

    def test_router_from_database(self):
        self.hosts["first"].cut(DATABASE)
        # Reads go on by what the router knows; writes are refused, and soon.
        before = self.git("ls-remote", self.at(self.first))
        self.commit()
        begin = time.monotonic()
        said = self.git.fails("push", self.at(self.first), "main", cwd=self.work)
        self.assertLess(time.monotonic() - begin, 30 * gitstead_test.SLOW)
        self.assertMentions(said, "the metadata store (database postgres on", "nothing was")
        self.assertEqual(self.git("ls-remote", self.at(self.first)), before)
        clone = self.scratch()
        self.git("clone", "-q", self.at(self.first), clone)
        self.works(self.second)
        self.hosts["first"].heal(DATABASE)
        eventually(lambda: self.git.run("push", self.at(self.first), "HEAD:refs/heads/healed", cwd=self.work).returncode == 0,
                   60, "a push through the router that is back")
        self.healed()

    def test_router_from_one_node(self):
        traffic = [self.pushes(self.first, "a"), self.pushes(self.second, "b")]
        for one in traffic:
            one.until(lambda: len(one.times) >= 2, 60, "two pushes")
        self.both("cut", "first", "three")
        cut = time.monotonic()
        for one in traffic:
            one.until(lambda: len([t for t in one.times if t > cut]) >= 4, 90, "pushes while one node is cut off")
        self.git("ls-remote", self.at(self.first))
        self.both("heal", "first", "three")
        for one in traffic:
            one.stop()
        print("# router from one node: longest gap %.2f s" % max(one.longest_gap() for one in traffic))
        self.assertEqual([one.failed for one in traffic], [[], []])
        self.healed()

    def test_node_from_all(self):
        everyone = ["one", "two", "first", "second"]
        traffic = self.pushes(self.first, "a")
        traffic.until(lambda: len(traffic.times) >= 2, 60, "two pushes")
        self.both("cut", "three", *everyone)
        self.hosts["three"].cut(DATABASE)
        cut = time.monotonic()
        traffic.until(lambda: len([t for t in traffic.times if t > cut]) >= 4, 90, "pushes while one node is cut off")
        traffic.stop()
        print("# node from all: longest gap %.2f s" % traffic.longest_gap())
        self.assertEqual(traffic.failed, [])
        # With a second one away there is no majority: reads go on, writes are refused, nothing is half done.
        before = self.git("ls-remote", self.at(self.first))
        self.both("cut", "two", "first", "second")
        self.commit()
        self.git.fails("push", self.at(self.first), "main", cwd=self.work)
        self.assertEqual(self.git("ls-remote", self.at(self.first)), before)
        self.both("heal", "two", "first", "second")
        self.both("heal", "three", *everyone)
        self.hosts["three"].heal(DATABASE)
        eventually(lambda: self.git.run("push", self.at(self.first), "main", cwd=self.work).returncode == 0, 60,
                   "a push after the network is whole")
        self.healed()


def setUpModule():
    why = postgres_server.missing() or enter()
    if why is not None:
        raise unittest.SkipTest(why)
    ip("link", "set", "lo", "up")
    ip("link", "add", "hub", "type", "bridge")
    ip("link", "set", "hub", "up")
    for address in (CLIENTS, DATABASE):
        ip("addr", "add", address + "/24", "dev", "hub")


gitstead_test.main()
