# SPDX-License-Identifier: Apache-2.0
"""A third party's way: an installed tree, `gitstead plugin new`, a build against that tree alone, and a server with the result."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import gitstead_test

BUILD = os.environ["GITSTEAD_TEST_BUILD"]
KINDS = ("transport", "storage", "metadata", "routing", "consistency", "cache", "access", "layer")


def setUpModule():
    if os.environ.get("GITSTEAD_TEST_SANITIZED"):
        # Built by a stranger's compiler flags, its tests would link an archive that wants the sanitizer's runtime.
        raise unittest.SkipTest("an installed tree with a sanitizer is nothing to build plugins against")
    global PLACE, ENV, PREFIX, PLUGINS
    PLACE = tempfile.mkdtemp(prefix="gitstead-sdk-")
    tree = os.path.join(PLACE, "tree")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], check=True, stdout=subprocess.DEVNULL,
                   env=dict(os.environ, DESTDIR=tree))
    PREFIX = next(place for place, _, names in os.walk(tree) if "bin" in place.split("/")[-1:] and "gitstead" in names)
    PREFIX = os.path.dirname(PREFIX)
    pc = next(place for place, _, names in os.walk(tree) if "gitstead-plugin.pc" in names)
    lib = os.path.dirname(pc)
    # The tree stands below DESTDIR, where its prefix is another.
    for name in os.listdir(pc):
        with open(os.path.join(pc, name), encoding="utf-8") as source:
            lines = source.read().splitlines()
        with open(os.path.join(pc, name), "w", encoding="utf-8") as out:
            out.write("\n".join("prefix=" + PREFIX if line.startswith("prefix=") else line for line in lines) + "\n")
    PLUGINS = os.path.join(lib, "gitstead", "plugins")
    ENV = {"PATH": os.path.join(PREFIX, "bin") + ":" + os.environ["PATH"], "HOME": PLACE, "PKG_CONFIG_PATH": pc,
           "LD_LIBRARY_PATH": lib, "GITSTEAD_PLUGIN_PATH": PLUGINS, "LC_ALL": "C.UTF-8",
           "CC": os.environ.get("CC", "cc")}
    # What an interpreter needs that lives elsewhere.
    for name in ("PYENV_ROOT", "PYENV_VERSION", "CCACHE_DIR"):
        if name in os.environ:
            ENV[name] = os.environ[name]


def tearDownModule():
    shutil.rmtree(PLACE, ignore_errors=True)


class Sdk(gitstead_test.TestCase):
    def run_there(self, *command, folder=None):
        result = subprocess.run(command, cwd=folder or PLACE, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
        self.assertEqual(result.returncode, 0, "%s\n%s" % (" ".join(command), result.stdout))
        return result.stdout

    def begin(self, kind):
        folder = os.path.join(PLACE, "my-" + kind)
        if not os.path.isdir(folder):
            self.run_there("gitstead", "plugin", "new", kind, "mine", folder)
            self.run_there("meson", "setup", "b", folder=folder)
        self.run_there("meson", "compile", "-C", "b", folder=folder)
        return folder, os.path.join(folder, "b", kind + "-mine.so")

    def test_tree(self):
        for name in ("include/gitstead/plugin.h", "include/gitstead/test/fakehost.h", "include/gitstead/test/conformance.h",
                     "share/gitstead/proto/gitstead/v1/envelope.proto"):
            self.assertTrue(os.path.isfile(os.path.join(PREFIX, name)), name)
        # Nothing of the source tree is named by what is installed.
        flags = self.run_there("pkg-config", "--cflags", "--libs", "gitstead-test")
        self.assertNotIn(gitstead_test.SOURCE, flags)
        self.assertEqual(os.path.realpath(self.run_there("pkg-config", "--variable=plugindir", "gitstead-plugin").strip()),
                         os.path.realpath(PLUGINS))

    def test_client(self):
        """The example of a client, by the command that it and its page name."""
        with open(os.path.join(gitstead_test.SOURCE, "docs", "clients.md"), encoding="utf-8") as source:
            command = re.search(r"^cc -o tour api/examples/c/tour\.c (.*)$", source.read(), re.MULTILINE).group(1)
        folder = tempfile.mkdtemp(dir=PLACE)
        shutil.copy(os.path.join(gitstead_test.SOURCE, "api/examples/c/tour.c"), folder)
        self.run_there("sh", "-e", "-c", "$CC -Wall -Wextra -Werror -o tour tour.c " + command, folder=folder)
        done = subprocess.run([os.path.join(folder, "tour")], env=ENV, capture_output=True, text=True)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("URL tour GROUP/PROJECT", done.stderr)

    def test_usage(self):
        for arguments in (("routng", "mine"), ("routing", "My_Plugin"), ("routing",)):
            result = subprocess.run(["gitstead", "plugin", "new", *arguments], cwd=PLACE, env=ENV, capture_output=True, text=True)
            self.assertEqual(result.returncode, 2, result.stderr)
        os.mkdir(os.path.join(PLACE, "taken"))
        result = subprocess.run(["gitstead", "plugin", "new", "routing", "taken"], cwd=PLACE, env=ENV, capture_output=True,
                                text=True)
        self.assertEqual(result.returncode, 1)
        self.assertMentions(result.stderr, "taken")

    def test_name_of_the_test(self):
        # The test beside it never takes the source's place, whatever the plugin is called.
        folder = os.path.join(PLACE, "called-test")
        self.run_there("gitstead", "plugin", "new", "routing", "test", folder)
        with open(os.path.join(folder, "test.c"), encoding="utf-8") as source:
            self.assertIn("GS_PLUGIN_DEFINE", source.read())

    def test_all_is_handed_on(self):
        for kind, left_out in (("storage", ["probe", "program"]), ("metadata", [])):
            _, plugin = self.begin(kind)
            slots = json.loads(self.run_there("gitstead", "plugin", "show", "--json", plugin))["slots"]
            self.assertEqual(left_out, [slot["name"] for slot in slots if not slot["filled"]])

    def test_guide(self):
        # Word by word, as somebody new would.
        with open(os.path.join(gitstead_test.SOURCE, "docs", "plugins.md"), encoding="utf-8") as source:
            guide = source.read()
        commands = "".join(re.findall(r"^```sh\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE))
        folder = tempfile.mkdtemp(dir=PLACE)
        said = self.run_there("sh", "-e", "-c", commands, folder=folder)
        self.assertIn("found\n", said)
        self.assertIn("promise:  R1\n", said)

    def test_serve_with_it(self):
        _, plugin = self.begin("routing")
        server = gitstead_test.Server()
        try:
            real = server.write_config

            def with_mine():
                real()
                with open(server.config, encoding="utf-8") as source:
                    text = source.read()
                self.assertIn('"rendezvous"', text)
                with open(server.config, "w", encoding="utf-8") as out:
                    out.write(text.replace('"rendezvous"', '"%s"' % plugin))
            server.write_config = with_mine
            server.start()
            environment = dict(os.environ, GITSTEAD_SERVER="ipc://" + server.socket)
            made = subprocess.run([gitstead_test.PROGRAM, "repo", "create", "placed/by-mine"], env=environment,
                                  capture_output=True, text=True)
            self.assertEqual(made.returncode, 0, made.stderr)
            shown = subprocess.run([gitstead_test.PROGRAM, "repo", "show", "placed/by-mine"], env=environment,
                                   capture_output=True, text=True)
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertMentions(shown.stdout, "default")
        finally:
            server.clean()


def kind_test(kind):
    def test(self):
        folder, _ = self.begin(kind)
        self.run_there("meson", "test", "-C", "b", "--print-errorlogs", folder=folder)
    return test


for one in KINDS:
    setattr(Sdk, "test_new_" + one, kind_test(one))

if __name__ == "__main__":
    gitstead_test.main()
