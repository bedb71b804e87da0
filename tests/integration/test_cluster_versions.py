# SPDX-License-Identifier: Apache-2.0
"""Routers and nodes of different versions: what they say of themselves, who is refused and why, and who is not."""
import json
import os
import socket
import struct
import subprocess
import threading

import gitstead_test
from cluster_test import NODES, Cluster
from gitstead_test import Git, eventually, free_ports

PATH = "team/project"


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """Of a protobuf message: an integer or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


class OtherNode:
    """Listens like a node and answers every call with one reply to Node/Session, of whatever version."""

    def __init__(self, test, reply):
        self.host, (self.nng_port,) = "127.0.0.1", free_ports(1)
        self.reply = reply
        self.listener = socket.create_server((self.host, self.nng_port))
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()
        test.addCleanup(self.close)

    def close(self):
        # Closing alone leaves a socket that accepts for as long as a thread waits in there, at a port that is given out again.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()

    def listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            stream = connection.makefile("rb")
            connection.sendall(bytes.fromhex("0053500000310000"))
            if len(stream.read(8)) < 8:
                return
            try:
                while True:
                    length = stream.read(8)
                    if len(length) < 8:
                        return
                    body = stream.read(struct.unpack(">Q", length)[0])
                    header_len = struct.unpack(">I", body[12:16])[0]
                    header = body[20:20 + header_len]
                    call_id = header[2:18] if header[:2] == b"\x0a\x10" else b""
                    answer = field(1, call_id) if call_id else b""
                    message = body[:4] + b"GS\1\1" + struct.pack(">III", 0, len(answer), len(self.reply)) + answer + self.reply
                    connection.sendall(struct.pack(">Q", len(message)) + message)
            except OSError:
                return


class Versions(Cluster):
    def version(self):
        return json.loads(subprocess.run([gitstead_test.PROGRAM, "version", "--json"], check=True, stdout=subprocess.PIPE,
                                         env=gitstead_test.clean_environment()).stdout)["version"]

    def shown(self, router):
        nodes = json.loads(router.cli("cluster", "nodes", "--json", check=False).stdout)["nodes"]
        return {one["storage"]: one for one in nodes}

    def test_shown(self):
        router = self.add_router()
        program = "gitstead/" + self.version()
        self.assertEqual({name: one["program"] for name, one in self.shown(router).items()},
                         {name: program for name in NODES})
        lines = router.cli("cluster", "nodes").stdout.splitlines()
        self.assertIn("PROGRAM", lines[0])
        self.assertTrue(all(line.rstrip().endswith(program) for line in lines[1:4]), lines)
        # What was heard last is still known of one that is away; a router that never reached it knows nothing.
        self.nodes[2].stop()
        eventually(lambda: not self.shown(router)["three"]["up"], 60, "a node being missed")
        self.assertEqual(self.shown(router)["three"]["program"], program)
        other = self.add_router()
        self.assertEqual(self.shown(other)["three"]["program"], "")

    def session(self, **versions):
        request = dict({"session": "s" * 16, "storage": "one"}, **versions)
        return self.nodes[0].cli("call", "Node/Session", "-", input=json.dumps(request), check=False,
                                 env={"GITSTEAD_TOKEN": self.cluster_token})

    def test_routers_of_other_versions(self):
        for versions in ({}, {"protocol": 1, "oldest_protocol": 1}, {"protocol": 9, "oldest_protocol": 1}):
            result = self.session(**versions)
            self.assertEqual(result.returncode, 0, result.stderr)
            reply = json.loads(result.stdout)
            self.assertEqual((reply["protocol"], reply["oldest_protocol"], reply["program"]),
                             (1, 1, "gitstead/" + self.version()))
        result = self.session(protocol=9, oldest_protocol=7)
        self.assertNotEqual(result.returncode, 0)
        self.assertMentions(result.stderr, "router speaks versions 7 to 9", "(gitstead/%s) 1 to 1" % self.version(),
                            "upgrade the node")

    def router_with(self, reply):
        """A router whose node two is one of another version."""
        real = self.nodes[1]
        self.nodes[1] = OtherNode(self, field(1, b"two") + field(2, 10000) + reply)
        router = self.add_router()
        self.nodes[1] = real
        return router

    def test_nodes_of_other_versions(self):
        router = self.router_with(field(4, 9) + field(5, 7) + field(6, b"gitstead/9.9.9"))
        two = self.shown(router)["two"]
        self.assertEqual((two["up"], two["program"]), (False, "gitstead/9.9.9"))
        self.assertMentions(two["problem"], "(gitstead/9.9.9) speaks versions 7 to 9", "this router 1 to 1",
                            "upgrade the router")
        self.assertIn("upgrade the router", router.log_text())
        # It counts as away: the others serve.
        router.create(PATH)
        self.commit()
        Git(router.new_token("write"))("push", "-q", "%s/%s.git" % (router.url, PATH), "main", cwd=self.work)
        info = router.info(PATH)
        for node in (self.nodes[0], self.nodes[2]):
            self.assertTrue(os.path.isdir(node.path(info["replica_path"])))

    def test_nodes_that_are_not_refused(self):
        """One that is newer and still speaks ours; one from before versions were told."""
        for reply, program in ((field(4, 9) + field(5, 1) + field(6, b"gitstead/9.9.9"), "gitstead/9.9.9"), (b"", "")):
            router = self.router_with(reply)
            two = self.shown(router)["two"]
            self.assertEqual((two["up"], two["program"], two["problem"]), (True, program, ""))
            router.stop()


if __name__ == "__main__":
    gitstead_test.main()
