# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a redis server of its own: with-redis.py COMMAND… where {redis} is the path of its socket.

Without redis-server on the machine it prints TAP for a skipped test.
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time


def start(folder):
    path = os.path.join(folder, "s")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--save", "",
         "--appendonly", "no", "--dir", folder, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # It prints this line when it listens; the end of its output means that it ended.
    for line in server.stdout:
        if b"ready to accept connections" in line.lower() or b"now ready to accept" in line.lower():
            break
    deadline = time.monotonic() + 20
    while True:
        probe = socket.socket(socket.AF_UNIX)
        try:
            probe.connect(path)
            return server, path
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the redis server did not start")
        finally:
            probe.close()


def main():
    if shutil.which("redis-server") is None:
        print("1..0 # SKIP there is no redis-server on this machine")
        return 0
    folder = tempfile.mkdtemp(prefix="gitstead-redis-")
    server = None
    try:
        server, path = start(folder)
        return subprocess.run([part.replace("{redis}", path) for part in sys.argv[1:]]).returncode
    finally:
        if server is not None:
            server.terminate()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


sys.exit(main())
