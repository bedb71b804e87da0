# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a PostgreSQL server of its own: with-postgres.py COMMAND… where {postgres}, and in the environment
GITSTEAD_TEST_POSTGRES, is how to connect, {postgres-socket} is where, and {pgbouncer} is how to do so through a pooler.

Without PostgreSQL on the machine it prints TAP for a skipped test.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import postgres_server  # noqa: E402


def main():
    why = postgres_server.missing()
    if why is not None:
        print("1..0 # SKIP " + why)
        return 0
    server = postgres_server.Postgres()
    try:
        socket = os.path.join(server.socket, ".s.PGSQL.%d" % server.port)
        command = [part.replace("{postgres}", server.conninfo).replace("{postgres-socket}", socket) for part in sys.argv[1:]]
        if any("{pgbouncer}" in part for part in command):
            pooler = server.bouncer()
            if pooler is None:
                print("1..0 # SKIP there is no PgBouncer on this machine (Debian package pgbouncer)")
                return 0
            command = [part.replace("{pgbouncer}", pooler) for part in command]
        return subprocess.run(command,
                              env=dict(os.environ, GITSTEAD_TEST_POSTGRES=server.conninfo)).returncode
    finally:
        server.close()


sys.exit(main())
