# SPDX-License-Identifier: Apache-2.0
"""The program as people and scripts meet it: help, usage errors, exit codes, tables, JSON."""
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import unittest

import gitstead_test
from gitstead_test import ServerTestCase, TestCase, run_program


class WithoutServer(TestCase):
    """Nothing here may need a server."""

    def usage_error(self, *arguments):
        result = run_program(*arguments)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertMentions(result.stderr, "gitstead: ")
        return result.stderr

    def test_overview(self):
        result = run_program("--help")
        self.assertEqual(result.returncode, 0)
        for command in ("serve", "check", "repo", "cluster", "token", "call", "methods", "plugin", "version", "completion"):
            self.assertIn("\n  %s " % command, result.stdout)
        self.assertEqual(run_program("help").stdout, result.stdout)

    def test_nothing_is_a_usage_error(self):
        self.assertEqual(run_program().returncode, 2)

    def test_every_verb_teaches(self):
        verbs = {"repo": ("create", "list", "show", "delete", "rename", "size", "config", "hooks", "adopt"), "token": ("create", "list", "revoke"),
                 "cluster": ("status", "nodes", "explain", "dataloss", "accept-dataloss", "set-replication-factor", "set-consistency",
                             "receipt", "verify", "untracked", "adopt", "drain", "undrain", "add-node", "remove-node", "rebalance",
                             "rebuild-metadata"),
                 "plugin": ("list", "show", "check", "new", "reference"), "call": ("",), "methods": ("",), "version": ("",), "completion": ("",)}
        for command, names in verbs.items():
            for name in names:
                words = [command] + ([name] if name else [])
                with self.subTest(" ".join(words)):
                    result = run_program(*words, "--help")
                    self.assertEqual(result.returncode, 0)
                    self.assertTrue(result.stdout.startswith("Usage:\n  gitstead " + " ".join(words)), result.stdout)
                    self.assertIn("Examples:\n  ", result.stdout)
                    self.assertEqual(run_program("help", *words).stdout, result.stdout)

    def test_near_misses(self):
        self.assertMentions(self.usage_error("rpeo", "list"), "'rpeo'", "did you mean 'repo'")
        self.assertMentions(self.usage_error("repo", "creat", "x"), "did you mean 'repo create'")
        self.assertMentions(self.usage_error("call", "Repositry/Create"), "did you mean 'Repository/Create'")
        self.assertMentions(self.usage_error("methods", "--describe", "Ref/Lst"), "did you mean 'Ref/List'")

    def test_wrong_arguments(self):
        self.assertMentions(self.usage_error("repo"), "needs a verb")
        self.assertMentions(self.usage_error("repo", "create"), "repo create PATH")
        self.assertMentions(self.usage_error("repo", "create", "a", "b"), "too many")
        self.assertMentions(self.usage_error("repo", "list", "--nonsense"), "--nonsense")
        self.assertMentions(self.usage_error("repo", "list", "--timeout", "soon"), "--timeout", "soon")
        self.assertMentions(self.usage_error("repo", "list", "--limit", "-1"), "--limit")
        self.assertMentions(self.usage_error("token", "create", "x", "--scope", "root"), "read, write or admin", "root")
        self.assertMentions(self.usage_error("token", "create", "x", "--expires", "tomorrow"), "--expires")
        self.assertMentions(self.usage_error("completion", "fish"), "bash")
        self.assertMentions(self.usage_error("version", "x"), "no arguments")
        # No token on the command line, where every user of the machine can read it.
        self.assertMentions(self.usage_error("repo", "list", "--token", "gs_a_b"), "--token")

    def test_wrong_requests(self):
        self.assertMentions(self.usage_error("call", "Ref/List", "{"), "Ref/List")
        self.assertMentions(self.usage_error("call", "Ref/List", '{"repositroy": {}}'), "repositroy",
                            "repository")
        self.assertMentions(self.usage_error("call", "Ref/List", '{"page": {"limit": "many"}}'), "page.limit")

    def test_request_file_that_is_not_there(self):
        result = run_program("call", "Server/Ping", "@/nonexistent/request.json")
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "/nonexistent/request.json", "No such file")

    def test_no_server(self):
        folder = self.scratch()
        server = "ipc://%s/none.sock" % folder
        for arguments in (("repo", "list"), ("call", "Server/Ping"), ("token", "list")):
            result = run_program(*arguments, "--server", server, "--timeout", "2s")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(result.stdout, "")
            self.assertMentions(result.stderr, "hint:", "gitstead serve", server)

    def test_waits_for_a_server(self):
        """Who waits is told for what, once. Programs are not: they read stderr."""
        # The pauses between the first tries take 0.8 to 1.6 seconds together, and the next one as long: five seconds are enough.
        waits = ("token", "list", "--server", "ipc://%s/none.sock" % self.scratch(), "--timeout", "5s")
        result = run_program(*waits)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("still trying"), 1, result.stderr)
        self.assertMentions(result.stderr.splitlines()[0], "gitstead: still trying: ", "no such socket")
        for quiet in ("--json", "--quiet"):
            result = run_program(*waits, quiet)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertNotIn("still trying", result.stderr)

    def first_line(self, *arguments, **rest):
        """Of what a failing command says."""
        result = run_program(*arguments, **rest)
        self.assertEqual(result.returncode, 1, result.stderr)
        return result.stderr.splitlines()[0]

    def test_sockets_that_are_none(self):
        folder = self.scratch()
        path = os.path.join(folder, "none.sock")
        brief = ("--timeout", "200ms", "--server")
        self.assertEqual(self.first_line("repo", "list", *brief, "ipc://" + path),
                         "gitstead: cannot list repositories: no such socket: is the server running? (%s)" % path)
        self.assertEqual(self.first_line("repo", "list", *brief, "ipc://%s/x/y" % path),
                         "gitstead: cannot list repositories: no such socket: is the server running? (%s/x/y)" % path)
        with open(path, "w"):
            pass
        self.assertEqual(self.first_line("call", "Server/Ping", *brief, "ipc://" + path),
                         "gitstead: cannot call Server/Ping: %s is no socket" % path)
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        self.assertMentions(self.first_line("call", "Server/Ping", *brief, "ipc://" + path), "connect to the socket " + path,
                            "is the server running?")
        failure = json.loads(run_program("repo", "list", "--json", *brief, "ipc://%s.not" % path).stderr)
        self.assertEqual((failure["code"], failure["retry"], failure["method"], failure["server"]),
                         ("UNAVAILABLE", "same", "Repository/List", "ipc://%s.not" % path))

    def answer_once(self, listener, status, header):
        """One client gets one reply, as docs/wire-protocol.md has it."""
        def exactly(n):
            data = b""
            while len(data) < n:
                data += peer.recv(n - len(data)) or self.fail("the program hung up")
            return data

        peer, _ = listener.accept()
        with peer:
            peer.settimeout(60)
            exactly(8)
            peer.sendall(bytes.fromhex("0053500000310000"))
            request = exactly(struct.unpack(">Q", exactly(9)[1:])[0])
            body = request[:4] + struct.pack(">2sBBIII", b"GS", 1, 3, status, len(header), 0) + header
            peer.sendall(b"\1" + struct.pack(">Q", len(body)) + body)
            while peer.recv(4096):
                pass

    def test_details_without_names(self):
        """Whatever a server leaves out of them, they are shown."""
        def field(number, data):
            return bytes([number << 3 | 2, len(data)]) + data

        path = os.path.join(self.scratch(), "odd.sock")
        entries = field(1, field(2, b"one")) + field(1, field(2, b"two") + field(4, b"ref") + field(6, b"x"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(60)
            server = threading.Thread(target=self.answer_once, args=(listener, 3, field(3, b"both are wrong") + field(7, entries)))
            server.start()
            result = run_program("call", "Server/Ping", "--server", "ipc://" + path)
            server.join()
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertMentions(result.stderr, "both are wrong", "\n  one\n", "\n  two; expected x\n")

    def test_configurations_that_are_wrong(self):
        folder = self.scratch()
        for command in (("check",), ("serve",), ("metadata", "status")):
            line = self.first_line(*command, "--config", "/nonexistent")
            self.assertTrue(line.startswith("gitstead: cannot "), line)
            self.assertTrue(line.endswith(": /nonexistent: No such file or directory"), line)
            self.assertMentions(self.usage_error(*command), "--config FILE is missing", "See 'gitstead %s --help'" % " ".join(command))
            self.assertMentions(self.usage_error(*command, "--frob"), "--frob", "See 'gitstead %s --help'" % " ".join(command))
        path = os.path.join(folder, "gitstead.yaml")
        with open(path, "w") as out:
            out.write("frob: 1\nfrib: 2\n")
        lines = run_program("check", "--config", path).stderr.splitlines()
        self.assertEqual(lines[0], "gitstead: cannot use the configuration:")
        for place in (path + ":1:1: ", path + ":2:1: "):  # as editors and scripts find it
            self.assertTrue([line for line in lines if line.startswith(place)], lines)

    def test_requests_that_are_wrong_say_where(self):
        request = '{"repository": {"path": "a"}, "updates": [{"name": "a"}, {"old_oid": 7}]}'
        result = run_program("call", "Ref/Update", request)
        self.assertEqual((result.returncode, result.stderr),
                         (2, "gitstead: cannot call Ref/Update: updates[1].old_oid: wants a string, not a number\n"
                             "See 'gitstead methods --describe Ref/Update'.\n"))
        result = run_program("call", "Ref/Update", request, "--json")
        failure = json.loads(result.stderr)
        self.assertEqual((result.returncode, failure["code"]), (2, "INVALID_ARGUMENT"))
        self.assertNotIn("method", failure)  # nothing was called
        self.assertEqual(json.loads(self.usage_error_json("repo", "list", "--json", "--limit", "-1"))["code"], "INVALID_ARGUMENT")
        self.assertMentions(self.usage_error("events", "--kind", "x"), "'x'", "replica-behind")

    def usage_error_json(self, *arguments):
        result = run_program(*arguments)
        self.assertEqual(result.returncode, 2, result.stderr)
        return result.stderr

    def test_own_failures_blame_no_server(self):
        result = run_program("call", "Server/Ping", "@" + self.scratch())
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "cannot read", "Is a directory")
        self.assertNotIn("hint:", result.stderr)
        result = run_program("repo", "hooks", "set", "a", "/nonexistent")
        self.assertEqual((result.returncode, result.stderr),
                         (1, "gitstead: cannot read the hooks: /nonexistent: No such file or directory\n"))

    def test_output_that_cannot_be_written(self):
        for arguments in (("version",), ("methods", "--json"), ("plugin", "list", "--plugin-path", gitstead_test.PLUGINS)):
            with open("/dev/full", "w") as full:
                result = subprocess.run([gitstead_test.PROGRAM] + list(arguments), stdout=full, stderr=subprocess.PIPE,
                                        text=True, env=gitstead_test.clean_environment(), check=False)
            self.assertEqual((result.returncode, result.stderr),
                             (1, "gitstead: cannot write the output: No space left on device\n"))
        closed = subprocess.run(["sh", "-c", 'exec "$0" version >&-', gitstead_test.PROGRAM], capture_output=True, text=True,
                                env=gitstead_test.clean_environment(), check=False)
        self.assertEqual(closed.returncode, 1)
        self.assertMentions(closed.stderr, "cannot write the output")
        # A reader that has enough is no failure of ours: the signal ends us, and nothing is said.
        head = subprocess.run(["sh", "-c", '"$0" methods | head -n 1', gitstead_test.PROGRAM], capture_output=True, text=True,
                              env=gitstead_test.clean_environment(), check=False)
        self.assertEqual((head.returncode, head.stderr, len(head.stdout.splitlines())), (0, "", 1))

    def test_server_url_that_is_none(self):
        result = run_program("repo", "list", "--server", "gopher://x")
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "gopher://x")

    def test_token_file_is_guarded(self):
        path = os.path.join(self.scratch(), "token")
        with open(path, "w") as out:
            out.write("gs_abcd_secretsecret\n")
        os.chmod(path, 0o644)
        result = run_program("repo", "list", "--token-file", path)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, path, "read by others", "chmod 600")
        self.assertNotIn("secretsecret", result.stderr)
        result = run_program("repo", "list", "--token-file", path + ".none")
        self.assertMentions(result.stderr, "No such file")
        os.chmod(path, 0o600)
        with open(path, "w") as out:
            out.write("\n")
        self.assertMentions(run_program("repo", "list", "--token-file", path).stderr, "holds no token")

    def test_version(self):
        result = run_program("version")
        self.assertRegex(result.stdout, r"^gitstead \d+\.\d+\.\d+ \(plugin ABI \d+\.\d+\)\n$")
        self.assertEqual(run_program("--version").stdout, result.stdout)
        self.assertEqual(json.loads(run_program("version", "--json").stdout)["version"], result.stdout.split()[1])
        self.assertEqual(run_program("version", "--quiet").stdout, result.stdout.split()[1] + "\n")

    def test_methods(self):
        result = run_program("methods")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"(?m)^Repository/Create +100 +mutator +repository +admin$")
        self.assertRegex(result.stdout, r"(?m)^Git/ReceivePack +402 +mutator +repository +write +in, out$")
        for line in result.stdout.splitlines():
            self.assertEqual(line, line.rstrip())
        names = run_program("methods", "--quiet").stdout.split()
        as_json = json.loads(run_program("methods", "--json").stdout)["methods"]
        self.assertEqual([method["name"] for method in as_json], names)
        for name in names:
            described = run_program("methods", "--describe", name)
            self.assertEqual(described.returncode, 0)
            self.assertTrue(described.stdout.startswith(name + " (number "))

    def test_describe_has_the_comments(self):
        text = run_program("methods", "--describe", "Ref/Update").stdout
        self.assertMentions(text, "All or none", "all zeros = delete", "list of RefUpdate", "RefUpdateReply", "Receipt")

    def test_plugins(self):
        plugins = ("--plugin-path", gitstead_test.PLUGINS)
        result = run_program("plugin", "list", *plugins)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"(?m)^KIND +NAME +VERSION +ABI +PATH$")
        listed = json.loads(run_program("plugin", "list", "--json", *plugins).stdout)["plugins"]
        found = {"%s-%s" % (plugin["kind"], plugin["name"]) for plugin in listed}
        for name in ("storage-git", "metadata-sqlite", "transport-http", "transport-nng", "access-token", "cache-memory",
                     "consistency-direct", "routing-rendezvous"):
            self.assertIn(name, found)
        for plugin in listed:
            self.assertTrue(plugin["version"] and plugin["abi"] and plugin["summary"] and plugin["license"])
            name = "%s-%s" % (plugin["kind"], plugin["name"])
            shown = json.loads(run_program("plugin", "show", name, "--json", *plugins).stdout)
            self.assertEqual(shown["path"], plugin["path"])
            self.assertTrue(all(slot["filled"] for slot in shown["slots"] if slot["required"]))
            text = run_program("plugin", "show", name, *plugins)
            self.assertMentions(text.stdout, plugin["name"], plugin["version"], plugin["path"])

    def test_the_configuration_reference_is_up_to_date(self):
        printed = run_program("plugin", "reference", "--plugin-path", gitstead_test.PLUGINS).stdout
        with open(os.path.join(gitstead_test.SOURCE, "docs/reference/config.md")) as file:
            self.assertEqual(printed, file.read(), "write it anew: gitstead plugin reference > docs/reference/config.md")

    @unittest.skipUnless(shutil.which("cc") and shutil.which("pkg-config"), "no C compiler")
    def test_the_plugin_guides_example_loads(self):
        with open(os.path.join(gitstead_test.SOURCE, "docs/plugins.md")) as file:
            source = file.read().split("```c\n")[1].split("```")[0]
        folder = self.scratch()
        with open(os.path.join(folder, "blank.c"), "w") as out:
            out.write(source)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "glib-2.0"], check=True, capture_output=True,
                               text=True).stdout.split()
        subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden",
                        "-I" + os.path.join(gitstead_test.SOURCE, "api"), "-Wl,-z,defs", "-o", "cache-blank.so", "blank.c"]
                       + flags, check=True, cwd=folder)
        shown = run_program("plugin", "show", "./cache-blank.so", cwd=folder)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertMentions(shown.stdout, "blank", "Keeps nothing", "cache")

    def test_the_example_configurations_are_good(self):
        folder = os.path.join(gitstead_test.SOURCE, "docs/examples")
        env = {"GITSTEAD_PLUGIN_PATH": gitstead_test.PLUGINS}
        here = self.scratch()
        # The secret that they name is this machine's administrator's to make.
        token = os.path.join(here, "cluster-token")
        with open(token, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
            out.write("a-token-of-this-test-and-of-nothing-else\n")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".yaml"):
                copy = os.path.join(here, name)
                with open(os.path.join(folder, name)) as given, open(copy, "w") as out:
                    out.write(given.read().replace("/etc/gitstead/cluster-token", token))
                result = run_program("check", "--config", copy, env=env)
                self.assertEqual(result.returncode, 0, name + ": " + result.stderr)
        path = os.path.join(folder, "single-node.yaml")
        printed = run_program("check", "--config", path, "--print", env=env).stdout
        self.assertMentions(printed, 'metrics_access: "loopback"', "trash_grace")

    def test_plugin_names_that_do_not_fit(self):
        plugins = ("--plugin-path", gitstead_test.PLUGINS)
        listed = json.loads(run_program("plugin", "list", "--json", *plugins).stdout)["plugins"]
        names = [plugin["name"] for plugin in listed]
        for name in set(names):
            result = run_program("plugin", "show", name, *plugins)
            if names.count(name) == 1:
                self.assertEqual(result.returncode, 0)
            else:
                self.assertEqual(result.returncode, 2)
                self.assertMentions(result.stderr, "more than one", "-" + name)
        result = run_program("plugin", "show", "sqlit", *plugins)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "did you mean 'sqlite'")

    def test_completion_is_good_bash(self):
        script = run_program("completion", "bash").stdout
        folder = self.scratch()
        path = os.path.join(folder, "completion")
        with open(path, "w") as out:
            out.write(script)

        def complete(*words):
            probe = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _gitstead; printf "%s\\n" "${COMPREPLY[@]}"'
            env = gitstead_test.clean_environment({"PATH": os.path.dirname(gitstead_test.PROGRAM) + ":" + os.environ["PATH"],
                                                   "GITSTEAD_SERVER": "ipc://%s/none" % folder})
            done = subprocess.run(["bash", "-c", probe, "bash", path] + list(words), env=env, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout.split()

        self.assertEqual(complete("gitstead", "rep"), ["repo"])
        self.assertEqual(complete("gitstead", "repo", "cr"), ["create"])
        self.assertEqual(complete("gitstead", "repo", "create", "--def"), ["--default-branch"])
        self.assertEqual(complete("gitstead", "--server", "x", "token", "rev"), ["revoke"])
        self.assertEqual(complete("gitstead", "call", "Repository/Ren"), ["Repository/Rename"])
        self.assertEqual(complete("gitstead", "token", "create", "x", "--scope", "a"), ["admin"])


class WithServer(ServerTestCase):
    def test_life_of_a_repository(self):
        server = self.server
        result = server.cli("repo", "create", "life/one")
        self.assertMentions(result.stdout, "Created repository 'life/one.git'", "git clone %s/life/one.git" % server.url)
        result = server.cli("repo", "create", "life/one", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "gitstead: cannot create repository 'life/one': ", "exists")
        self.assertEqual(server.cli("repo", "create", "life/two", "--quiet").stdout, "")

        table = server.cli("repo", "list", "life/").stdout.splitlines()
        self.assertRegex(table[0], r"^PATH +ID +GENERATION +REPLICAS +LAST WRITE$")
        self.assertEqual([line.split()[0] for line in table[1:]], ["life/one.git", "life/two.git"])
        self.assertEqual(server.cli("repo", "list", "life/", "-q").stdout, "life/one.git\nlife/two.git\n")
        self.assertEqual(server.cli("repo", "list", "life/", "-q", "--limit", "1").stdout, "life/one.git\n")
        listed = json.loads(server.cli("repo", "list", "life/", "--json").stdout)["repositories"]
        self.assertEqual([row["repository"]["path"] for row in listed], ["life/one.git", "life/two.git"])

        shown = server.cli("repo", "show", "life/one").stdout
        self.assertRegex(shown, r"(?m)^path: +life/one\.git$")
        self.assertRegex(shown, r"(?m)^generation: +\d+$")
        self.assertRegex(shown, r"(?m)^refs digest: +[0-9a-f]{64}$")
        identity = server.info("life/one")["id"]

        result = server.cli("repo", "rename", "life/one", "life/new")
        self.assertMentions(result.stdout, "life/new.git")
        self.assertEqual(server.info("life/new")["id"], identity)
        result = server.cli("repo", "show", "life/one", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "cannot show repository 'life/one'", "not")

        self.assertMentions(server.cli("repo", "size", "life/new").stdout, "total", "number of refs")
        self.assertGreater(int(server.cli("repo", "size", "life/new", "--quiet").stdout), 0)

        result = server.cli("repo", "delete", "life/new", check=False)
        self.assertEqual(result.returncode, 2)
        self.assertMentions(result.stderr, "--yes")
        server.cli("repo", "delete", "life/new", "--yes")
        self.assertEqual(server.cli("repo", "show", "life/new", check=False).returncode, 1)
        result = server.cli("repo", "delete", "life/new", "--yes", check=False)
        self.assertEqual(result.returncode, 1)
        # A deleted name is free again, for another repository.
        server.cli("repo", "create", "life/new")
        self.assertNotEqual(server.info("life/new")["id"], identity)

    def test_default_branch(self):
        self.server.cli("repo", "create", "branch", "--default-branch", "trunk")
        refs = self.server.call("Ref/List", {"repository": {"path": "branch"}, "head": True})["refs"]
        self.assertEqual(refs[0]["symref_target"], "refs/heads/trunk")

    def test_options_stand_anywhere(self):
        for words in (("--json", "repo", "list"), ("repo", "--json", "list"), ("repo", "list", "--json")):
            json.loads(self.server.cli(*words).stdout)

    def test_tokens(self):
        server = self.server
        result = server.cli("token", "create", "alice", "--scope", "read", "--prefix", "team/", "--expires", "2h")
        secret = result.stdout.strip()
        self.assertRegex(secret, r"^gs_[^_]+_\S+$")
        self.assertMentions(result.stderr, "'alice'", "scope read", "team/", "only time")
        identity = secret.split("_")[1]
        listing = server.cli("token", "list").stdout
        self.assertRegex(listing, r"(?m)^%s +alice +read +team/" % identity)
        self.assertNotIn(secret.split("_", 2)[2], listing)
        self.assertIn(identity, server.cli("token", "list", "--quiet").stdout.split())
        server.cli("token", "revoke", identity)
        self.assertNotIn(identity, server.cli("token", "list", "--quiet").stdout.split())
        result = server.cli("token", "revoke", identity, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "cannot revoke token '%s'" % identity)

    def test_call_and_streams(self):
        server = self.server
        url = server.create("stream")
        work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=work)
        content = os.urandom(3_000_000)
        with open(os.path.join(work, "big.bin"), "wb") as out:
            out.write(content)
        self.git("add", ".", cwd=work)
        self.git("commit", "-q", "-m", "One", cwd=work)
        self.git("push", "-q", url, "main", cwd=work)

        info = server.call("Server/Info")
        self.assertTrue(info["ready"])
        request = json.dumps({"repository": {"path": "stream"}, "revision": "main:big.bin"})
        result = server.cli("call", "Object/Stream", request, text=False)
        self.assertEqual(result.stdout, content)
        path = os.path.join(self.scratch(), "out")
        result = server.cli("call", "Object/Stream", request, "--output", path)
        self.assertEqual(int(json.loads(result.stdout)["object"]["size"]), len(content))
        with open(path, "rb") as out:
            self.assertEqual(out.read(), content)
        # Too large for one reply.
        result = server.cli("call", "Object/Read", request, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "cannot call Object/Read", "limit")
        # Both ways: git's own client speaks through the program.
        request = json.dumps({"repository": {"path": "stream"}, "service": "GIT_UPLOAD_PACK", "protocol": "version=2"})
        self.assertIn(b"version 2", server.cli("call", "Git/Advertise", request, text=False).stdout)
        request = json.dumps({"repository": {"path": "stream"}, "protocol": "version=2", "stateless": True})
        body = (gitstead_test.packet("command=ls-refs\n") + b"0001" + gitstead_test.packet("ref-prefix refs/heads/\n")
                + gitstead_test.FLUSH)
        result = server.cli("call", "Git/UploadPack", request, text=False, input=body)
        self.assertIn(b"refs/heads/main", result.stdout)

    def test_call_fails_with_the_servers_words(self):
        result = self.server.cli("call", "Ref/List", '{"repository": {"path": "not/there"}}', check=False)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout, "")
        self.assertEqual(result.stderr, "gitstead: cannot call Ref/List: there is no repository 'not/there.git' in virtual "
                                        "storage 'default'\n")
        # The method's name stands there once, and what the server quoted is not quoted again.
        result = self.server.cli("call", "Ref/List", '{"repository": {"path": "a\\\\b"}}', check=False)
        self.assertMentions(result.stderr, "gitstead: cannot call Ref/List: repository path: ", '"a\\\\b"')
        self.assertNotIn("\\" * 4, result.stderr)
        # What drives a terminal never reaches it.
        result = self.server.cli("call", "Ref/Find", '{"repository": {"path": "not/there"}, "name": {"base64": "cmVmcy8bWzJK"}}',
                                 check=False)
        self.assertNotIn("\x1b", result.stderr)

    def test_failures_in_json(self):
        result = self.server.cli("repo", "show", "not/there", "--json", check=False)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        failure = json.loads(result.stderr)
        self.assertEqual((failure["code"], failure["retry"]), ("NOT_FOUND", "never"))
        self.assertMentions(failure["message"], "cannot show repository 'not/there'")
        self.assertEqual((failure["method"], failure["server"]), ("Repository/Get", "ipc://" + self.server.socket))

    def details(self, method, request, code):
        """What programs are told of a call that fails: the program's JSON and HTTP's are the same."""
        result = self.server.cli("call", method, "--json", "-", check=False, input=json.dumps(request))
        failure = json.loads(result.stderr)
        self.assertEqual(failure["code"], code, failure)
        answer = self.server.http("POST", "/api/v1/" + method, json.dumps(request), {
            "Authorization": "Bearer " + self.server.new_token("admin"), "Content-Type": "application/json"})
        self.assertEqual(json.loads(answer.body)["details"], failure["details"])
        return failure["details"]

    def test_details_of_failures(self):
        server = self.server
        self.server.create("details")
        repository = {"path": "details"}
        write = {"branch": "main", "committer": {"name": "A", "email": "a@example.org", "seconds": 1700000000, "zone": "+0000"}}
        first = server.call("Change/CommitFiles", {"repository": repository, "write": write, "message": "One", "actions": [
            {"kind": "FILE_PUT", "path": "a", "content": "a"}]})["new_oid"]
        none, other = "0" * 40, "1" * 40
        self.assertEqual(self.details("Ref/List", {"repository": {"path": "not/there"}}, "NOT_FOUND"),
                         [{"status": 5, "type": "repository", "name": "not/there.git"}])
        self.assertEqual(self.details("Ref/List", {"repository": {"path": "a//b"}}, "INVALID_ARGUMENT"),
                         [{"status": 3, "field": "repository.path"}])
        self.assertEqual(self.details("Ref/List", {}, "INVALID_ARGUMENT"), [{"status": 3, "field": "repository"}])
        # all or none: whoever asked hears of each that was refused, and of what stands there
        updates = [{"name": "refs/heads/new", "old_oid": none, "new_oid": first},
                   {"name": "refs/heads/main", "old_oid": other, "new_oid": first},
                   {"name": "refs/heads/gone", "old_oid": other, "new_oid": first}]
        details = self.details("Ref/Update", {"repository": repository, "updates": updates}, "FAILED_PRECONDITION")
        self.assertEqual([{key: entry.get(key) for key in ("status", "field", "entry", "type", "name", "expected", "actual")}
                          for entry in details],
                         [{"status": 9, "field": "updates[1]", "entry": 2, "type": "ref", "name": "refs/heads/main",
                           "expected": other, "actual": first},
                          {"status": 9, "field": "updates[2]", "entry": 3, "type": "ref", "name": "refs/heads/gone",
                           "expected": other, "actual": none}])
        result = server.cli("call", "Ref/Update", "-", check=False, input=json.dumps({"repository": repository, "updates": updates}))
        self.assertMentions(result.stderr, "  updates[1], ref refs/heads/main: ", "; expected %s, is %s\n" % (other, first),
                            "  updates[2], ref refs/heads/gone: ")
        updates[1] = {"name": "refs/heads/x", "new_oid": "abc"}
        self.assertEqual(self.details("Ref/Update", {"repository": repository, "updates": updates}, "INVALID_ARGUMENT"),
                         [{"status": 3, "field": "updates[1].new_oid", "entry": 2}])
        self.assertEqual(self.details("Ref/SetDefaultBranch", {"repository": repository, "branch": "x", "expected_old": "y"},
                                      "FAILED_PRECONDITION"),
                         [{"status": 9, "field": "expected_old", "type": "ref", "name": "HEAD", "expected": "refs/heads/y",
                           "actual": "refs/heads/main"}])
        actions = [{"kind": "FILE_PUT", "path": "b", "content": "b"}, {"kind": "FILE_CREATE", "path": "a", "content": "x"}]
        commit = {"repository": repository, "write": write, "message": "Two", "actions": actions}
        self.assertEqual(self.details("Change/CommitFiles", commit, "ALREADY_EXISTS"),
                         [{"status": 6, "field": "actions[1].path", "entry": 2, "type": "path", "name": "a"}])
        actions[1] = {"kind": "FILE_UPDATE", "path": "a", "content": "x", "expected_oid": other}
        (entry,) = self.details("Change/CommitFiles", commit, "FAILED_PRECONDITION")
        self.assertEqual((entry["field"], entry["entry"], entry["name"], entry["expected"], entry["actual"]),
                         ("actions[1].expected_oid", 2, "a", other, "2e65efe2a145dda7ee51d1741299f848e5bf752e"))
        actions[1] = {"kind": "FILE_PUT", "path": "../a", "content": "x"}
        self.assertEqual(self.details("Change/CommitFiles", commit, "INVALID_ARGUMENT"),
                         [{"status": 3, "field": "actions[1].path", "entry": 2}])
        actions[1] = {"kind": "FILE_PUT", "path": "c", "content": "x"}
        write["expected_old_oid"] = other
        self.assertEqual(self.details("Change/CommitFiles", commit, "FAILED_PRECONDITION"),
                         [{"status": 9, "field": "write.expected_old_oid", "type": "ref", "name": "refs/heads/main",
                           "expected": other, "actual": first}])
        for method, request, code, wanted in (
                ("Commit/Get", {"revisions": ["main", "nowhere"]}, "NOT_FOUND",
                 {"status": 5, "field": "revisions[1]", "entry": 2, "type": "revision", "name": "nowhere"}),
                ("Commit/Get", {"revisions": ["main", "-x"]}, "INVALID_ARGUMENT",
                 {"status": 3, "field": "revisions[1]", "entry": 2, "type": "revision", "name": "-x"}),
                ("History/List", {"range": {"include": ["main", "main", "gone"]}}, "NOT_FOUND",
                 {"status": 5, "field": "range.include[2]", "entry": 3, "type": "revision", "name": "gone"}),
                ("Blob/Get", {"revision": "main:none"}, "NOT_FOUND",
                 {"status": 5, "field": "revision", "type": "revision", "name": "main:none"}),
                ("Ref/List", {"page": {"token": "00"}}, "INVALID_ARGUMENT", {"status": 3, "field": "page.token"})):
            with self.subTest(method, **request):
                self.assertEqual(self.details(method, dict(request, repository=repository), code), [wanted])
        # Before a server is asked, too.
        wrong = run_program("call", "Ref/Update", '{"updates": [{}, {"old_oid": 7}]}', "--json")
        self.assertEqual(json.loads(wrong.stderr)["details"], [{"status": 3, "field": "updates[1].old_oid", "entry": 2}])
        wrong = run_program("call", "Ref/Update", '{"updates": [{"nme": 7}]}', "--json")
        self.assertEqual(json.loads(wrong.stderr)["details"], [{"status": 3, "field": "updates[0].nme", "entry": 1}])

    def test_changes_are_an_audit_log(self):
        url = self.server.create("audit")
        work = self.scratch()
        self.git("init", "-q", "-b", "main", cwd=work)
        self.git("commit", "-q", "--allow-empty", "-m", "One", cwd=work)
        self.git("push", "-q", url, "main", cwd=work)
        changes = self.server.call("Repository/Changes", {"repository": {"path": "audit"}})["changes"]
        self.assertEqual(len(changes), 1)
        self.assertEqual(changes[0]["refs"][0]["name"], "refs/heads/main")
        self.assertEqual(changes[0]["refs"][0]["new_oid"], self.git("rev-parse", "main", cwd=work))
        self.assertEqual(changes[0]["caller"], "test-write")


gitstead_test.main()
