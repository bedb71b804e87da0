# SPDX-License-Identifier: Apache-2.0
"""Those who connect to a TLS listener and do not behave: garbage, silence, half handshakes, half messages."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import unittest

import gitstead_test
from gitstead_test import Server, TestCase, eventually, free_ports

TIMES = 20
# The beginning of a TLS record that announces more than comes.
HALF_HELLO = bytes.fromhex("160301020001000001fc0303") + bytes(40)


class Rude(TestCase):
    def setUp(self):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("openssl is not installed")
        folder = self.scratch()
        pem, key = os.path.join(folder, "server.pem"), os.path.join(folder, "server.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                        "-days", "2", "-subj", "/CN=localhost", "-out", pem], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.chmod(key, 0o600)
        https, nngs = free_ports(2)
        tls = {"tls_certificate": pem, "tls_key": key}
        self.server = Server()
        self.server.http_options = dict(tls, listen=[self.server.url, "https://127.0.0.1:%d" % https])
        self.server.nng_options = dict(tls, listen=["ipc://" + self.server.socket, "tls+tcp://127.0.0.1:%d" % nngs],
                                       handshake_timeout="1s")
        self.addCleanup(self.server.clean)
        self.server.start()
        data = eventually(lambda: re.search(r"url=tls\+tcp://\S+ streams=tls\+tcp://127\.0\.0\.1:(\d+)", self.server.log_text()),
                          20, "the nng listener")
        eventually(lambda: "server.ready" in self.server.log_text(), 60, "the server being ready")
        # What a well-meant client would begin with, cut off.
        self.listeners = {https: b"GET /healthz HT", nngs: b"\0SP\0", int(data.group(1)): b"GSD1\1\2\3"}

    @staticmethod
    def connect(port):
        return socket.create_connection(("127.0.0.1", port), timeout=30 * gitstead_test.SLOW)

    def shake_hands(self, port):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(self.connect(port))

    def send(self, port, data):
        """Without minding that it may have been hung up upon."""
        with self.connect(port) as peer:
            try:
                peer.sendall(data)
            except OSError:
                pass

    def well(self):
        self.assertEqual(self.server.http("GET", "/healthz").status, 200)
        self.server.cli("repo", "list")

    def test_on_every_listener(self):
        self.well()
        before = self.server.descriptors()
        silent = []
        for port, beginning in self.listeners.items():
            for _ in range(TIMES):
                self.connect(port).close()
                self.send(port, os.urandom(3000))
                self.send(port, b"\x16\x03\x01\x40\x00" + os.urandom(3000))
                self.send(port, HALF_HELLO)
                silent.append(self.connect(port))
                with self.shake_hands(port) as peer:
                    peer.sendall(beginning)
            self.well()
        for peer in silent:
            peer.close()
        eventually(lambda: self.server.descriptors() <= before, 60, "the descriptors of before")
        for port in self.listeners:
            self.shake_hands(port).close()
        self.well()
        self.assertEqual(self.server.stop(), 0)


if __name__ == "__main__":
    gitstead_test.main()
