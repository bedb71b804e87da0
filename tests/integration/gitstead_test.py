# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: a real server on free ports in a temporary folder, stock git, and TAP.

A test file defines unittest.TestCase classes and ends with `gitstead_test.main()`. The program under test is named by
GITSTEAD_PROGRAM, its plugins by GITSTEAD_TEST_PLUGIN_PATH, its helper for pushes by GITSTEAD_TEST_HOOK_DIR. Nothing waits
for a fixed time: `eventually` looks at a condition until it holds or its deadline is over.
"""
import atexit
import fcntl
import functools
import hashlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import postgres_server  # noqa: E402

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("GITSTEAD_PROGRAM", os.path.join(SOURCE, "build/core/main/gitstead"))
PLUGINS = os.environ.get("GITSTEAD_TEST_PLUGIN_PATH", os.path.join(SOURCE, "build/plugins"))
MAKE_HISTORY = os.path.join(SOURCE, "scripts/make-history")
ZERO = "0" * 40
# Sanitizers make everything slower by a small factor.
SLOW = 4 if os.environ.get("GITSTEAD_TEST_SANITIZED") else 1


def eventually(condition, seconds=30, what="the condition"):
    """Returns condition()'s first true value; fails when there is none in time. @what may be a function that says it then."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError("%s did not come true within %s s" % (what() if callable(what) else what, seconds * SLOW))
        select.select([], [], [], min(left, 0.02))


class Ports:
    """Ports of this process's own, below those that the kernel hands out to whoever connects or listens: what was free a
    moment ago is another server's by the time it is used, with several tests running. Blocks are taken by file locks."""

    FIRST, BLOCK, BLOCKS = 12000, 40, 500
    held, left = [], []

    @classmethod
    def take(cls):
        while True:
            if not cls.left:
                cls.left = cls.block()
            port = cls.left.pop()
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    pass  # somebody else's

    @classmethod
    def block(cls):
        # Not in TMPDIR: the machine's ports are one, however many runs with a TMPDIR each are on it.
        folder = os.path.join("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir(), "gitstead-test-ports-%d" % os.getuid())
        os.makedirs(folder, mode=0o700, exist_ok=True)
        begin = os.getpid() % cls.BLOCKS
        for n in range(cls.BLOCKS):
            number = (begin + n) % cls.BLOCKS
            lock = open(os.path.join(folder, str(number)), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            cls.held.append(lock)  # until this process ends
            first = cls.FIRST + number * cls.BLOCK
            return list(range(first + cls.BLOCK - 1, first - 1, -1))
        raise RuntimeError("all blocks of ports are taken")


def free_ports(count):
    """All different, and of this process until it ends."""
    return [Ports.take() for _ in range(count)]


def yaml(value, indent=0):
    """Enough YAML for a configuration: mappings, sequences, texts."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                lines.append("%s%s:\n%s" % (pad, key, yaml(item, indent + 1)))
            else:
                lines.append("%s%s: %s" % (pad, key, json.dumps(str(item)) if not isinstance(item, list) else "[]"))
        return "\n".join(lines)
    lines = []
    for item in value:
        if isinstance(item, dict):
            body = yaml(item, indent + 1)
            lines.append(pad + "- " + body[len(pad) + 2:])
        else:
            lines.append(pad + "- " + json.dumps(str(item)))
    return "\n".join(lines)


class Server:
    """One `gitstead serve`, with its configuration, data and log in a folder of its own."""

    running = []  # those whose logs are there to be shown when a test fails

    def __init__(self, **options):
        self.folder = tempfile.mkdtemp(prefix="gitstead-test-")
        self.root = os.path.join(self.folder, "repositories")
        self.socket = os.path.join(self.folder, "s")
        self.log = os.path.join(self.folder, "server.log")
        self.config = os.path.join(self.folder, "gitstead.yaml")
        os.mkdir(self.root)
        self.http_port, self.nng_port = free_ports(2)
        self.host = "127.0.0.1"
        self.prefix = []  # a program that runs the server, and becomes it
        self.process = None
        self.token = None
        self.storage_options = {}
        self.metadata_options = {}
        self.cache_options = {}
        self.access_options = {"anonymous": "none"}
        self.http_options = {}
        self.nng_options = {}
        self.server_options = {}
        self.metadata_options = {}
        self.redis = None
        self.postgres = None
        for name, value in options.items():
            getattr(self, name + "_options").update(value)

    # ------------------------------------------------------------------------------------- life

    @property
    def url(self):
        return "http://%s:%d" % (self.host, self.http_port)

    def chosen(self, kind):
        """The plugin of that kind: GITSTEAD_TEST_KIND in the environment, or the usual one."""
        usual = {"metadata": "sqlite", "cache": "memory", "routing": "rendezvous"}[kind]
        plugin = os.environ.get("GITSTEAD_TEST_" + kind.upper()) or usual
        options = {
            ("metadata", "sqlite"): {"path": os.path.join(self.folder, "metadata.db")},
            ("metadata", "postgres"): {"conninfo": self.postgres.conninfo if self.postgres else "",
                                       "auto_migrate": "true"},
            ("cache", "disk"): {"path": os.path.join(self.folder, "cache"), "size": "16MiB"},
            ("cache", "redis"): {"url": os.path.join(self.folder, "redis")},
            ("routing", "zone"): {"zone": "here/r1"},
            ("routing", "weighted"): {"by": "both"},
        }.get((kind, plugin), {})
        return dict({"plugin": plugin}, **options)

    def start_redis(self):
        """A redis server of its own, when the cache is one."""
        if self.chosen("cache")["plugin"] != "redis" or self.redis is not None:
            return
        if shutil.which("redis-server") is None:
            raise unittest.SkipTest("there is no redis-server on this machine")
        path = self.chosen("cache")["url"]
        self.redis = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir",
                                       self.folder, "--maxmemory", "64mb"], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: os.path.exists(path), 60, "the redis server's socket")

    def start_postgres(self):
        """A PostgreSQL server of its own, when the metadata store is one."""
        if self.chosen("metadata")["plugin"] != "postgres" or self.postgres is not None:
            return
        why = postgres_server.missing()
        if why is not None:
            raise unittest.SkipTest(why)
        self.postgres = postgres_server.Postgres()

    def write_config(self):
        storage = {"name": "default", "plugin": "git", "path": self.root}
        hook_dir = os.environ.get("GITSTEAD_TEST_HOOK_DIR")
        if hook_dir:
            storage["hook_dir"] = hook_dir
        storage.update(self.storage_options)
        config = {
            "server": dict({"name": "test", "shutdown_grace": "10s"}, **self.server_options),
            "plugin_path": [PLUGINS],
            "metadata": dict(self.chosen("metadata"), **self.metadata_options),
            "access": dict({"plugin": "token"}, **self.access_options),
            "cache": dict(self.chosen("cache"), **self.cache_options),
            "storages": [storage],
            "virtual_storages": [{"name": "default", "storages": ["default"], "routing": self.chosen("routing"),
                                  "consistency": {"plugin": "direct"}}],
            "transports": [
                dict({"plugin": "http", "listen": [self.url]}, **self.http_options),
                dict({"plugin": "nng", "listen": ["ipc://" + self.socket, "tcp://127.0.0.1:%d" % self.nng_port]},
                     **self.nng_options),
            ],
        }
        with open(self.config, "w") as out:
            out.write(yaml(config) + "\n")

    def launch(self, change=None, **storage_options):
        """Starts, and waits for nothing. Options given here hold for this start only, and so does what @change makes of the
        configuration's text."""
        kept = dict(self.storage_options)
        self.storage_options.update(storage_options)
        self.start_postgres()
        self.write_config()
        self.storage_options = kept
        if change is not None:
            with open(self.config) as file:
                text = change(file.read())
            with open(self.config, "w") as out:
                out.write(text)
        self.start_redis()
        if self not in Server.running:
            Server.running.append(self)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.prefix + [PROGRAM, "serve", "--config", self.config], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.folder)

    def start(self, **storage_options):
        """Launches it and waits until it is ready."""
        self.launch(**storage_options)
        deadline = time.monotonic() + 60 * SLOW
        while not self.is_ready():
            try:
                # Ends early when the server does.
                status = self.process.wait(0.03)
                raise AssertionError("the server ended with %s:\n%s" % (status, self.log_tail()))
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise AssertionError("the server did not become ready: %s\n%s" % (
                        self.why_not_ready(), self.log_tail(calls=False)))
        return self

    def is_ready(self):
        try:
            return self.http("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def why_not_ready(self):
        try:
            return self.http("GET", "/readyz").body.decode(errors="replace")
        except OSError as error:
            return str(error)

    def stop(self):
        """Asks it to end, as an operator would, and says how it ended."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            where = self.where()
            self.kill()
            raise AssertionError("the server does not end:\n%s\n%s" % (self.log_tail(), where))
        self.process = None
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def where(self):
        """What each of its threads is at: their stacks, or at least what the kernel knows."""
        if shutil.which("eu-stack") is not None:
            stacks = subprocess.run(["eu-stack", "-p", str(self.process.pid)], stdin=subprocess.DEVNULL, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if stacks.returncode in (0, 1):
                return stacks.stdout
        found = []
        for task in sorted(os.listdir("/proc/%d/task" % self.process.pid), key=int):
            for name in ("comm", "wchan", "syscall", "stack"):
                try:
                    with open("/proc/%d/task/%s/%s" % (self.process.pid, task, name)) as file:
                        found.append("%s %s: %s" % (task, name, file.read().strip()))
                except OSError:
                    pass
        return "\n".join(found)

    def clean(self):
        status = self.stop()
        if self.redis is not None:
            self.redis.terminate()
            self.redis.wait()
        if self.postgres is not None:
            self.postgres.close()
        if os.environ.get("GITSTEAD_TEST_KEEP"):
            print("# kept: %s" % self.folder)
        else:
            if self in Server.running:
                Server.running.remove(self)
            shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def log_tail(self, lines=30, calls=True):
        """The end of the log; without @calls only what is not of a call that went well."""
        with open(self.log, errors="replace") as log:
            return "".join([line for line in log if calls or not (
                " code=OK " in line or " http.request " in line and " status=2" in line or "path=/readyz" in line)][-lines:])

    def log_text(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    # --------------------------------------------------------------------------------- speaking to it

    def cli(self, *arguments, check=True, env=None, **rest):
        """Runs the program against this server; the peer's user id makes us an administrator."""
        result = run_program(*arguments, env=dict({"GITSTEAD_SERVER": "ipc://" + self.socket}, **(env or {})), **rest)
        if check and result.returncode != 0:
            raise AssertionError("gitstead %s: exit %d\n%s%s" % (" ".join(arguments), result.returncode, result.stdout,
                                                                result.stderr))
        return result

    def call(self, method, request=None):
        """One call, its reply as Python objects."""
        text = json.dumps(request if request is not None else {})
        return json.loads(self.cli("call", method, "-", input=text).stdout)

    def create(self, path):
        self.cli("repo", "create", path)
        return "%s/%s.git" % (self.url, path)

    def info(self, path):
        return json.loads(self.cli("repo", "show", path, "--json").stdout)["info"]

    def replica(self, path):
        """The folder of the repository's one replica."""
        return os.path.join(self.root, self.info(path)["replica_path"])

    def new_token(self, scope="write", prefix="", **options):
        arguments = ["token", "create", "test-%s" % scope, "--scope", scope, "--quiet"]
        if prefix:
            arguments += ["--prefix", prefix]
        for name, value in options.items():
            arguments += ["--" + name, value]
        return self.cli(*arguments).stdout.strip()

    def http(self, method, path, body=None, headers=None, timeout=30):
        """One plain HTTP request; `.body` holds the whole answer."""
        connection = http.client.HTTPConnection(self.host, self.http_port, timeout=timeout * SLOW)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            response.body = response.read()
            return response
        finally:
            connection.close()

    def bearer(self):
        if self.token is None:
            self.token = self.new_token("write")
        return {"Authorization": "Bearer " + self.token}

    # ------------------------------------------------------------------------------- looking inside

    def children(self):
        """Process ids of the children of the server, in whatever thread they were started."""
        found = set()
        tasks = "/proc/%d/task" % self.process.pid
        for task in os.listdir(tasks):
            try:
                with open("%s/%s/children" % (tasks, task)) as listing:
                    found.update(int(pid) for pid in listing.read().split())
            except FileNotFoundError:
                pass
        return found

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    def peak_memory(self):
        """Bytes: the highest resident size so far."""
        with open("/proc/%d/status" % self.process.pid) as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def files(self):
        """Everything below the storage's root: path -> what is in it. Equal before and after means nothing was left."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            for name in folders:
                found[os.path.relpath(os.path.join(folder, name), self.root) + "/"] = None
            for name in names:
                path = os.path.join(folder, name)
                try:
                    with open(path, "rb") as file:
                        found[os.path.relpath(path, self.root)] = hashlib.sha256(file.read()).hexdigest()
                except FileNotFoundError:
                    pass
        # Empty fan-out folders of loose objects and of refs may come and go.
        return {path: value for path, value in found.items() if value is not None or "quarantine/" in path}

    def leftovers(self):
        """Files that only a write under way has: locks, quarantines, journal records, temporary files."""
        found = []
        for folder, folders, names in os.walk(self.root):
            if "gitstead-trash" in folders:
                folders.remove("gitstead-trash")
            kind = os.path.basename(folder)
            found += [os.path.join(folder, name) for name in names if kind in ("journal", "quarantine", "gitstead-tmp")
                      or name.endswith(".lock") or name.startswith(("tmp_", "incoming", "tmp-"))]
            if kind == "quarantine":
                found += [os.path.join(folder, name, "") for name in folders]
        return [path[len(self.root) + 1:] for path in found]

    def assert_settled(self, before=None, seconds=30):
        """Soon: no process, lock, quarantine or journal record; and, given @before, not a byte changed."""
        eventually(lambda: not self.children(), seconds, "the end of all children")
        eventually(lambda: not self.leftovers(), seconds, lambda: "the removal of %s" % self.leftovers())
        if before is not None:
            eventually(lambda: self.files() == before, seconds, lambda: "the storage as it was: %s" % sorted(
                set(before.items()) ^ set(self.files().items()))[:10])


# ------------------------------------------------------------------------------------------- programs

def clean_environment(extra=None):
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(("GIT_", "GITSTEAD_SERVER", "GITSTEAD_TOKEN", "XDG_"))}
    env.update({"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": tempfile.gettempdir(), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                "GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.org",
                "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.org"})
    env.update(extra or {})
    return env


def run_program(*arguments, env=None, input=None, timeout=120, **rest):
    return subprocess.run([PROGRAM] + list(arguments), env=clean_environment(env), input=input, text=rest.pop("text", True),
                          stdin=subprocess.DEVNULL if input is None else None, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout * SLOW, **rest)


class Git:
    """Stock git with a token, and with nothing of the settings of whoever runs the tests."""

    def __init__(self, token=None):
        self.env = clean_environment()
        if token is not None:
            self.env.update({"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
                             "GIT_CONFIG_VALUE_0": "Authorization: Bearer " + token})

    @staticmethod
    @functools.lru_cache(maxsize=None)
    def nowhere():
        """An empty folder that is no repository: where git runs when no folder is named. Never the current one, which may be
        the source tree with the repository that it is."""
        folder = tempfile.mkdtemp(prefix="gitstead-nowhere-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def run(self, *arguments, cwd=None, env=None, input=None, timeout=300):
        return subprocess.run(["git"] + [str(argument) for argument in arguments], cwd=cwd or self.nowhere(),
                              env=dict(self.env, **(env or {})), input=input,
                              stdin=subprocess.DEVNULL if input is None else None, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout * SLOW)

    def __call__(self, *arguments, **rest):
        """Runs it, fails when it fails, gives its output as text without the last newline."""
        result = self.run(*arguments, **rest)
        if result.returncode != 0:
            raise AssertionError("git %s: exit %d\n%s" % (" ".join(str(a) for a in arguments), result.returncode,
                                                         result.stderr.decode(errors="replace")))
        return result.stdout.decode(errors="surrogateescape").rstrip("\n")

    def fails(self, *arguments, **rest):
        """Runs it, fails when it does not fail, gives all that it printed."""
        result = self.run(*arguments, **rest)
        if result.returncode == 0:
            raise AssertionError("git %s succeeded:\n%s" % (" ".join(str(a) for a in arguments),
                                                            result.stderr.decode(errors="replace")))
        return (result.stdout + result.stderr).decode(errors="replace")

    def refs(self, folder):
        """HEAD's target and every ref with its value, as one text."""
        head = self.run("symbolic-ref", "HEAD", cwd=folder).stdout.decode()
        return head + self("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder)

    def fsck(self, folder, *arguments):
        self("fsck", "--full", "--strict", "--no-dangling", *arguments, cwd=folder)


def make_history(folder, **options):
    arguments = [MAKE_HISTORY, folder]
    for name, value in options.items():
        arguments += ["--" + name.replace("_", "-"), str(value)]
    subprocess.run(arguments, check=True, env=clean_environment())
    return folder


# ---------------------------------------------------------------------------------- git's wire, by hand

def packet(data):
    data = data if isinstance(data, bytes) else data.encode()
    return b"%04x" % (len(data) + 4) + data


FLUSH = b"0000"


def packets(data):
    """The packet lines in @data, None for a flush; side-band 1 is what receive-pack reports on."""
    found, at = [], 0
    while at + 4 <= len(data):
        size = int(data[at:at + 4], 16)
        if size < 4:
            found.append(None)
            at += 4
        else:
            found.append(data[at + 4:at + size])
            at += size
    return found


def push_request(commands, pack, capabilities="report-status side-band-64k agent=test"):
    """The body of a push: [(old, new, ref)…] and a pack."""
    body = b""
    for index, (old, new, name) in enumerate(commands):
        line = ("%s %s " % (old, new)).encode() + (name if isinstance(name, bytes) else name.encode())
        body += packet(line + (b"\0 " + capabilities.encode() if index == 0 else b"") + b"\n")
    return body + FLUSH + pack


def push_report(body):
    """What the server reported: a list of lines like "unpack ok", "ok refs/heads/x", "ng refs/heads/x reason"."""
    inner = b"".join(line[1:] for line in packets(body) if line and line[:1] == b"\1")
    return [line.decode(errors="replace").rstrip("\n") for line in packets(inner) if line]


def pack_of(folder, objects, git, *arguments):
    """A pack that holds exactly these objects."""
    return git.run("pack-objects", "--stdout", "-q", *arguments, cwd=folder,
                   input=("\n".join(objects) + "\n").encode()).stdout


def refs_digest(git, folder):
    """The refs digest of a repository on disk, from docs/on-disk.md's definition."""
    total = 0
    head = git("symbolic-ref", "HEAD", cwd=folder)
    terms = [b"HEAD\0ref: " + head.encode() + b"\n"]
    for line in git("for-each-ref", "--format=%(objectname) %(refname)", cwd=folder).splitlines():
        value, name = line.split(" ", 1)
        terms.append(name.encode(errors="surrogateescape") + b"\0" + value.encode() + b"\n")
    for term in terms:
        total += int.from_bytes(hashlib.sha256(term).digest(), "little")
    return (total % (1 << 256)).to_bytes(32, "little").hex()


# --------------------------------------------------------------------------------------------- test cases

class TestCase(unittest.TestCase):
    """Has a scratch folder for each test."""

    maxDiff = 4000

    def scratch(self):
        folder = tempfile.mkdtemp(prefix="gitstead-scratch-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def assertMentions(self, text, *parts):
        for part in parts:
            self.assertIn(part.lower(), text.lower())


class ServerTestCase(TestCase):
    """Has one server for all tests of the class; `options` goes to it."""

    options = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(**cls.options)
        cls.addClassCleanup(cls.server.clean)
        cls.server.start()
        cls.git = Git(cls.server.new_token("write"))

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status not in (0, None):
            raise AssertionError("the server ended with %s:\n%s" % (status, cls.server.log_tail()))
        # Every client is gone by now: a call that is still under way was forgotten by its transport.
        if "server.grace.over" in cls.server.log_text():
            raise AssertionError("calls held up the server's end:\n" + cls.server.log_tail())


class _TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.count, self.begun = 0, 0

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def _point(self, ok, test, note=""):
        self.count += 1
        name = test.id().replace("__main__.", "") if hasattr(test, "id") else str(test)
        print("%s %d - %s%s" % ("ok" if ok else "not ok", self.count, name, note), flush=True)
        took = time.monotonic() - self.begun
        if took >= 1:
            print("# took %.1f s" % took, flush=True)

    def _trace(self, error):
        """On both streams: whoever runs the tests shows one of them, and seldom which one is known."""
        text = ""
        for server in Server.running:
            text += "---- the end of %s\n%s" % (server.log, server.log_tail(15, calls=False))
        text += "".join(traceback.format_exception(*error))  # last: of a long output the end is shown
        for line in text.splitlines():
            print("# " + line, flush=True)
            print(line, file=sys.stderr, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._point(True, test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._point(False, test)
        self._trace(error)

    def addError(self, test, error):
        super().addError(test, error)
        self._point(False, test)
        self._trace(error)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._point(True, test, " # SKIP " + reason)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self._point(False, subtest)
            self._trace(error)


def main():
    """Runs the tests of the calling module, or those named on the command line, and speaks TAP."""
    module = sys.modules["__main__"]
    loader = unittest.TestLoader()
    suite = loader.loadTestsFromNames(sys.argv[1:], module) if sys.argv[1:] else loader.loadTestsFromModule(module)
    result = _TapResult()
    suite.run(result)
    print("1..%d" % result.count, flush=True)
    sys.exit(0 if result.wasSuccessful() else 1)
