# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of a test's own: on a unix socket in a temporary folder, without any of the machine's settings."""
import getpass
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time


def binaries():
    """The folder of the newest PostgreSQL's programs; None without one."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: int(path.split("/")[4]))
    if found:
        return os.path.dirname(found[-1])
    path = shutil.which("postgres")
    return os.path.dirname(os.path.realpath(path)) if path and shutil.which("initdb") else None


def missing():
    """Why no server can be had here; None when one can."""
    if binaries() is None:
        return "there is no PostgreSQL server on this machine (Debian package postgresql)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user postgres"
    return None


class Postgres:
    """Started by the constructor. It forgets about power cuts, which no test makes; killed processes it survives. Its
    default order of texts is a dictionary's: what has to be in order of bytes has to say so."""

    def __init__(self, port=None, address="127.0.0.1"):
        self.port = port or 5432
        self.listen = port is not None
        self.address = address
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        self.as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = tempfile.mkdtemp(prefix="gitstead-pg-")
        self.data = os.path.join(self.folder, "data")
        self.socket = os.path.join(self.folder, "run")
        self.process = self.pooler = None
        for folder in (self.data, self.socket):
            os.mkdir(folder, 0o700)
            if os.geteuid() == 0:
                shutil.chown(folder, "postgres", "postgres")
        os.chmod(self.folder, 0o711)
        os.chmod(self.socket, 0o711)
        made = subprocess.run(
            [os.path.join(binaries(), "initdb"), "-D", self.data, "--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C",
             "--locale-provider=icu", "--icu-locale=en", "-U", "postgres"], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            **self.as_user)
        if made.returncode != 0:
            raise RuntimeError("initdb failed: %s" % made.stdout.decode(errors="replace"))
        if address != "127.0.0.1":
            with open(os.path.join(self.data, "pg_hba.conf"), "a") as out:
                out.write("host all all samenet trust\n")
        self.start()

    @property
    def conninfo(self):
        host = self.address if self.listen else self.socket
        return "host=%s port=%d dbname=postgres user=postgres" % (host, self.port)

    def start(self, *settings):
        options = ["fsync=off", "full_page_writes=off", "unix_socket_directories=" + self.socket, "port=%d" % self.port,
                   "listen_addresses=" + (self.address if self.listen else ""), "max_connections=60",
                   "shared_buffers=16MB", "autovacuum=off", "dynamic_shared_memory_type=mmap"] + list(settings)
        arguments = [os.path.join(binaries(), "postgres"), "-D", self.data]
        for option in options:
            arguments += ["-c", option]
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(arguments, cwd="/", stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True, **self.as_user)
        deadline = time.monotonic() + 60
        while self.psql("SELECT 1", check=False) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log.name, "rb") as log:
                    raise RuntimeError("the PostgreSQL server did not start: %s" % log.read().decode(errors="replace"))

    def bouncer(self):
        """Starts a PgBouncer in transaction mode before it; how to connect to that, or None without the program."""
        program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            return None
        config = os.path.join(self.socket, "pgbouncer.ini")
        users = os.path.join(self.socket, "users.txt")
        with open(users, "w") as out:
            out.write('"postgres" ""\n')
        with open(config, "w") as out:
            out.write("[databases]\npostgres = host=%s port=%d user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
                      "unix_socket_dir = %s\nauth_type = trust\nauth_file = %s\npool_mode = transaction\n"
                      "default_pool_size = 4\n" % (self.socket, self.port, self.socket, users))
        self.pooler = subprocess.Popen([program, "-q", config], cwd="/", stdin=subprocess.DEVNULL, stdout=self.log,
                                       stderr=subprocess.STDOUT, **self.as_user)
        path = os.path.join(self.socket, ".s.PGSQL.6432")
        deadline = time.monotonic() + 20
        while not os.path.exists(path):
            try:
                self.pooler.wait(0.02)
                with open(self.log.name, "rb") as log:
                    raise RuntimeError("PgBouncer did not start: %s" % log.read().decode(errors="replace"))
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise
        return "host=%s port=6432 dbname=postgres user=postgres" % self.socket

    def psql(self, sql, check=True):
        """Runs SQL as the superuser; the rows as text, None when it failed."""
        done = subprocess.run([os.path.join(binaries(), "psql"), "-h", self.socket, "-p", str(self.port), "-U", "postgres",
                               "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"],
                              cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              **self.as_user)
        if done.returncode == 0:
            return done.stdout.decode().strip()
        if check:
            raise RuntimeError("%s: %s" % (sql, done.stderr.decode()))
        return None

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as children:
            return [int(pid) for pid in children.read().split()]

    def kill(self):
        """As when the machine is reset: the server and all that it started, at once."""
        for pid in [self.process.pid] + self.children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.log.close()

    def stop(self):
        """Without waiting for clients."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process is not None:
            self.log.close()

    def close(self):
        if self.pooler is not None:
            self.pooler.terminate()
            self.pooler.wait()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
