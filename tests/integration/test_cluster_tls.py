# SPDX-License-Identifier: Apache-2.0
"""A cluster that speaks TLS between its machines, with certificates of an authority of its own on both sides."""
import json
import os
import shutil
import socket
import ssl
import subprocess
import unittest

import gitstead_test
from cluster_test import NODES, Cluster, Node, Router, new_token
from gitstead_test import Git, eventually

PATH = "team/project"
DOMAIN = ".nodes.example"


class Authority:
    """Makes certificates that are good for a day."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.ca, self.key = self.file("ca.pem"), self.file("ca.key")
        self.openssl("req", "-x509", *self.new_key(self.key), "-days", "2", "-subj", "/CN=" + name, "-out", self.ca,
                     "-addext", "keyUsage=critical,keyCertSign")

    def file(self, name):
        return os.path.join(self.folder, "%s-%s" % (self.name, name))

    @staticmethod
    def new_key(path):
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path

    @staticmethod
    def openssl(*arguments):
        made = subprocess.run(["openssl"] + list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if made.returncode != 0:
            raise AssertionError(made.stdout)

    def issue(self, name, purpose):
        """(certificate, key); @purpose is serverAuth or clientAuth."""
        certificate, key, request = (self.file("%s-%s" % (name, end)) for end in ("pem", "key", "csr"))
        extensions = self.file(name + "-ext")
        with open(extensions, "w") as out:
            out.write("subjectAltName=DNS:%s\nextendedKeyUsage=%s\nkeyUsage=digitalSignature\n" % (name, purpose))
        self.openssl("req", "-new", *self.new_key(key), "-subj", "/CN=" + name, "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial", "-days", "1",
                     "-extfile", extensions, "-out", certificate)
        os.chmod(key, 0o600)
        return certificate, key


class TlsNode(Node):
    """Listens for routers over TLS alone."""

    identity = authority = None

    def transports(self):
        return [{"plugin": "http", "listen": [self.url]},
                {"plugin": "nng", "listen": ["ipc://" + self.socket, "tls+tcp://%s:%d" % (self.host, self.nng_port)],
                 "tls_certificate": self.identity[0], "tls_key": self.identity[1], "tls_client_ca": self.authority}]


class TlsRouter(Router):
    identity = authority = None

    def configuration(self):
        config = super().configuration()
        for storage in config["storages"]:
            storage["url"] = storage["url"].replace("tcp://", "tls+tcp://")
            storage.update({"tls_ca": self.authority, "tls_server_name": storage["name"] + DOMAIN})
            if self.identity is not None:
                storage.update({"tls_certificate": self.identity[0], "tls_key": self.identity[1]})
        return config


class ClusterTls(Cluster):
    @classmethod
    def setUpClass(cls):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("there is no openssl on this machine")

    def setUp(self):
        folder = self.scratch()
        self.authority, self.stranger = Authority(folder, "cluster"), Authority(folder, "stranger")
        self.metadata, self.cluster_token, self.routers = self.metadata_store(), new_token(), []
        self.nodes = [TlsNode(self.metadata, self.cluster_token, name) for name in NODES]
        self.identities = [self.authority.issue(name + DOMAIN, "serverAuth") for name in NODES]
        for node, identity in zip(self.nodes, self.identities):
            node.identity, node.authority = identity, self.authority.ca
            self.addCleanup(node.clean)
            node.start()
        self.client = self.authority.issue("router", "clientAuth")
        self.work, self.commits = self.scratch(), 0
        Git()("init", "-q", "-b", "main", cwd=self.work)

    def add_router(self, identity, token=None, ready=True):
        router = TlsRouter(self.metadata, token or self.cluster_token, self.nodes)
        router.identity, router.authority = identity, self.authority.ca
        self.addCleanup(router.clean)
        if ready:
            return router.start()
        router.is_ready = lambda: "server.ready" in router.log_text()  # it serves, and none of its nodes is there
        return router.start()

    def push(self, router, *arguments):
        tip = self.commit()
        self.git("push", "-q", "%s/%s.git" % (router.url, PATH), *(arguments or ("main",)), cwd=self.work)
        return tip

    def down(self, router, index):
        """What the router last said of why the node is not there."""
        lines = [line for line in router.log_text().splitlines()
                 if ":%d " % self.nodes[index].nng_port in line and " node." in line]
        return lines[-1] if lines and " node.down " in lines[-1] else ""

    def test_push_and_clone(self):
        router = self.add_router(self.client)
        url = router.create(PATH)
        self.git = Git(router.new_token("write"))
        with open(os.path.join(self.work, "big"), "wb") as out:
            out.write(os.urandom(3 << 20))
        tip = self.push(router)
        clone = self.scratch()
        self.git("clone", "-q", url, clone)
        self.git.fsck(clone)
        self.assertEqual(self.git("rev-parse", "HEAD", cwd=clone), tip)
        self.assertEqual(self.assert_equal_replicas(router, PATH)["refs/heads/main"], tip)
        self.assertEqual(router.call("Ref/Find", {"repository": {"path": PATH}, "name": "refs/heads/main"})["ref"]["oid"], tip)
        # A copy of a replica goes from node to node, too, through the router.
        self.nodes[2].stop()
        eventually(lambda: self.down(router, 2), 60, "the router's missing a node")
        tip = self.push(router)
        self.nodes[2].start()
        eventually(lambda: len(set(self.generations(router, PATH)[0].values())) == 1, 60, "the repair of a replica")
        self.assertEqual(self.assert_equal_replicas(router, PATH)["refs/heads/main"], tip)
        self.settled()
        for node in self.nodes:
            listening = [line for line in node.log_text().splitlines() if "nng.listening" in line and ":%d " % node.nng_port in line]
            self.assertTrue(listening)
            for line in listening:
                self.assertIn(" url=tls+tcp://", line)
                self.assertIn(" streams=tls+tcp://", line)

    def test_node_that_is_not_it(self):
        """Its certificate is of another authority, or is that of another node: it is not spoken to, and the log says why."""
        router = self.add_router(self.client)
        router.create(PATH)
        self.git = Git(router.new_token("write"))
        self.push(router)
        for identity, why in ((self.stranger.issue("two" + DOMAIN, "serverAuth"), "issuer is unknown"),
                              (self.identities[0], "name in the certificate does not match"),
                              (self.authority.issue("two.client", "clientAuth"), "")):
            self.nodes[1].stop()
            self.nodes[1].identity = identity
            self.nodes[1].start()
            eventually(lambda: "TLS to" in self.down(router, 1) and why in self.down(router, 1), 20, why)
            self.assertIn("TLS to tls+tcp://", self.down(router, 1))
            tip = self.push(router)
            shown = json.loads(router.cli("cluster", "nodes", "--json", check=False).stdout)["nodes"]
            self.assertEqual({one["storage"]: one["up"] for one in shown}, {"one": True, "two": False, "three": True})
            self.assertIn(why, [one["problem"] for one in shown if one["storage"] == "two"][0])
        self.nodes[1].stop()
        self.nodes[1].identity = self.identities[1]
        self.nodes[1].start()
        eventually(lambda: not self.down(router, 1), 60, "the right node being back")
        eventually(lambda: len(set(self.generations(router, PATH)[0].values())) == 1, 60, "its repair")
        self.assertEqual(self.assert_equal_replicas(router, PATH)["refs/heads/main"], tip)

    def test_router_that_is_no_router(self):
        """Without a certificate, with a stranger's, with a node's; with the right one and not the cluster's secret."""
        good = self.add_router(self.client)
        good.create(PATH)
        self.git = Git(good.new_token("admin"))
        self.push(good)
        for identity, token, why in ((None, None, "TLS"), (self.stranger.issue("router", "clientAuth"), None, "TLS"),
                                     (self.identities[0], None, "TLS"),
                                     (self.client, new_token(), "cluster"),
                                     (self.client, good.new_token("admin"), "cluster")):
            router = self.add_router(identity, token, ready=False)
            eventually(lambda: all(self.down(router, index) for index in range(3)), 60, "no node for " + why)
            for index in range(3):
                self.assertIn(why, self.down(router, index))
            self.git.fails("ls-remote", "%s/%s.git" % (router.url, PATH))
            self.assertEqual(router.stop(), 0)
        self.push(good)

    def greeting(self, identity, secure=True):
        """What a node says to a client that greets it as nng does: 8 bytes, or nothing."""
        context = ssl.create_default_context(cafile=self.authority.ca)
        if identity is not None:
            context.load_cert_chain(*identity)
        said = b""
        with socket.create_connection(("127.0.0.1", self.nodes[0].nng_port), timeout=60 * gitstead_test.SLOW) as plain:
            try:
                connection = context.wrap_socket(plain, server_hostname="one" + DOMAIN) if secure else plain
                connection.sendall(b"\0SP\0\0\x30\0\0")
                while len(said) < 8:
                    piece = connection.recv(8 - len(said))
                    if not piece:
                        break
                    said += piece
            except OSError:  # of TLS, too
                pass
        return said

    def test_connections(self):
        """Not even greeted: who speaks plainly, who shows no certificate, and who shows one of somebody else or for something else."""
        self.assertEqual(self.greeting(self.client)[:4], b"\0SP\0")
        self.assertNotIn(b"SP", self.greeting(None, secure=False))

        def refused():
            return [line for line in self.nodes[0].log_text().splitlines() if " transport.nng.tls.refused " in line]
        cases = ((None, "it shows no certificate"), (self.stranger.issue("router", "clientAuth"), "issuer is unknown"),
                 (self.identities[1], ""))
        for number, (identity, why) in enumerate(cases, 1):
            self.assertEqual(self.greeting(identity), b"")
            eventually(lambda: len(refused()) == number, 60, "the node's saying why")
            self.assertIn(why, refused()[-1])
        self.assertEqual(self.greeting(self.client)[:4], b"\0SP\0")


if __name__ == "__main__":
    gitstead_test.main()
