# SPDX-License-Identifier: Apache-2.0
"""At its limits the server says so, in a way that is safe to repeat, and goes on serving everybody else."""
import json
import os
import socket
import threading

import gitstead_test
from gitstead_test import FLUSH, Git, Server, TestCase, eventually, packet


class Limits(TestCase):
    def server(self, **options):
        server = Server(**options)
        self.addCleanup(server.clean)
        server.start()
        return server

    def filled(self, server, path="limits", size=1000):
        url = server.create(path)
        git = Git(server.new_token("write"))
        work = self.scratch()
        git("init", "-q", "-b", "main", cwd=work)
        git("config", "core.compression", "0", cwd=work)  # it is all noise
        with open(os.path.join(work, "file"), "wb") as out:
            out.write(os.urandom(size))
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", "One", cwd=work)
        git("push", "-q", url, "main", cwd=work)
        return git, url, work

    def stalled_fetch(self, server, git, work, path="limits"):
        """A clone whose client does not read on: it holds its stream until it is closed."""
        want = git("rev-parse", "main", cwd=work)
        body = packet("command=fetch\n") + b"0001" + packet("want %s\n" % want) + packet("done\n") + FLUSH
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(30)
        one.connect(("127.0.0.1", server.http_port))
        one.sendall(("POST /%s.git/git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nGit-Protocol: version=2\r\n"
                     "Content-Type: application/x-git-upload-pack-request\r\nContent-Length: %d\r\n\r\n"
                     % (path, server.bearer()["Authorization"], len(body))).encode() + body)
        self.addCleanup(one.close)
        return one

    def test_streams_are_bounded(self):
        server = self.server(server={"streams": 2})
        git, url, work = self.filled(server, size=30_000_000)
        held = [self.stalled_fetch(server, git, work) for _ in range(2)]
        for one in held:
            self.assertTrue(one.recv(1))
        # The third is told to come again: retry-safe, nothing done.
        third = self.stalled_fetch(server, git, work)
        answer = third.recv(4096).decode(errors="replace")
        self.assertRegex(answer, r"^HTTP/1\.1 (429|503) ")
        self.assertIn("retry-after", answer.lower())
        # Calls without bytes go on meanwhile, and the place is free again when a client leaves.
        self.assertEqual(server.call("Server/Ping", {"echo": "still"})["echo"], "still")
        for one in held:
            one.close()
        eventually(lambda: git.run("clone", "-q", url, self.scratch() + "/c").returncode == 0, 60, "a free place")
        server.assert_settled()
        self.assertEqual(server.stop(), 0)

    def test_git_has_too_little_memory(self):
        """What a git process may not use is a limit: of the objects nothing is lost, and nobody is told so."""
        server = self.server()
        git, url, work = self.filled(server)
        for number in range(2):
            with open(os.path.join(work, "file"), "w") as out:
                out.writelines("%d of %d\n" % (line, number) for line in range(3_000_000))
            git("commit", "-q", "-a", "-m", "Long", cwd=work)
        git("push", "-q", url, "main", cwd=work)
        self.assertEqual(server.stop(), 0)
        server.start(child_memory="24MiB")
        reply = server.http("POST", "/api/v1/History/Blame",
                            json.dumps({"repository": {"path": "limits"}, "revision": "main", "path": "file"}),
                            dict(server.bearer(), **{"Content-Type": "application/json"}))
        self.assertIn(b'"OUT_OF_RANGE"', reply.body)
        self.assertRegex(reply.body, b"[Oo]ut of memory")
        self.assertEqual(server.stop(), 0)

    def test_many_clients_at_once(self):
        server = self.server()
        git, url, work = self.filled(server, size=200_000)
        failed = []

        def clone(number):
            target = self.scratch() + "/c"
            result = git.run("clone", "-q", url, target)
            if result.returncode != 0:
                failed.append(result.stderr)

        threads = [threading.Thread(target=clone, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])
        server.assert_settled()
        self.assertEqual(server.stop(), 0)

    def test_stalled_readers_cost_little(self):
        server = self.server()
        git, url, work = self.filled(server, size=20_000_000)
        before = server.peak_memory()
        held = [self.stalled_fetch(server, git, work) for _ in range(12)]
        for one in held:
            self.assertTrue(one.recv(1))
        self.assertEqual(server.call("Server/Ping", {"echo": "still"})["echo"], "still")
        if not os.environ.get("GITSTEAD_TEST_SANITIZED"):
            self.assertLess(server.peak_memory() - before, 12 * (4 << 20))
        for one in held:
            one.close()
        server.assert_settled()

    def test_slow_headers_do_not_block(self):
        server = self.server(http={"idle_timeout": "4s"})
        slow = []
        for _ in range(50):
            one = socket.create_connection(("127.0.0.1", server.http_port), timeout=60 * gitstead_test.SLOW)
            one.sendall(b"GET /healthz HT")
            slow.append(one)
        self.assertEqual(server.http("GET", "/healthz").status, 200)
        # They are dropped for their silence, one and all.
        for one in slow:
            try:
                while one.recv(1000):
                    pass
            except ConnectionResetError:
                pass
            one.close()

    def test_a_header_that_never_ends(self):
        server = self.server()
        with socket.create_connection(("127.0.0.1", server.http_port), timeout=20) as one:
            sent = 0
            try:
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
                while sent < 10_000_000:
                    one.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")
                    sent += 1000
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.assertLess(sent, 10_000_000)
        self.assertEqual(server.http("GET", "/healthz").status, 200)

    def test_replies_come_in_pages(self):
        server = self.server()
        git, url, work = self.filled(server)
        head = git("rev-parse", "main", cwd=work)
        git("update-ref", "--stdin", cwd=work,
            input="".join("create refs/tags/%05d %s\n" % (n, head) for n in range(2500)).encode())
        git("push", "-q", "--tags", url, cwd=work)
        names, token = [], ""
        for _ in range(10):
            reply = server.call("Ref/List", {"repository": {"path": "limits"}, "prefixes": ["refs/tags/"],
                                             "page": {"limit": 1000, "token": token}})
            names += [ref["name"] for ref in reply["refs"]]
            token = reply.get("next_page_token", "")
            if not token:
                break
        self.assertEqual(names, ["refs/tags/%05d" % n for n in range(2500)])
        result = server.cli("call", "Ref/List", json.dumps({"repository": {"path": "limits"}, "page": {"token": "00ff"}}),
                            check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "token")

    def test_stop_lets_calls_finish(self):
        server = self.server()
        server.server_options["shutdown_grace"] = "1h"  # however slow this machine is
        server.stop()
        server.start()
        git, url, work = self.filled(server, size=20_000_000)
        one = self.stalled_fetch(server, git, work)
        got = bytearray(one.recv(1))
        done = []
        stopper = threading.Thread(target=lambda: done.append(server.stop()))
        stopper.start()
        # No new connection is served, yet the clone under way comes to its end.
        while True:
            data = one.recv(1 << 20)
            if not data:
                break
            got += data
            if got.endswith(b"\r\n0\r\n\r\n"):
                break
        self.assertTrue(got.endswith(b"0\r\n\r\n"), bytes(got[-20:]))
        one.close()
        stopper.join()
        self.assertEqual(done, [0])


gitstead_test.main()
