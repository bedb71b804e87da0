#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calls of each kind over nng ipc beside git, `git cat-file --batch` and libgit2: bench/api-cost.py [SOURCE] [--seconds N] [--only WORD]

SOURCE is a bare or other repository with a branch main; without it a history of 50,000 commits and 10,000 refs is made. A server is
started on a copy of it, with a commit-graph. Git gets a copy of its own for what it writes, and makes its writes as durable as
the server does. --quick makes a small history and only looks whether everything still runs. Needs `ninja -C build
bench/api-cost core/main/gitstead` and the plugins; GITSTEAD_BUILD names another build folder.
"""
import argparse
import os
import shutil
import subprocess
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("GITSTEAD_BUILD", os.path.join(SOURCE, "build"))
os.environ.setdefault("GITSTEAD_PROGRAM", os.path.join(BUILD, "core/main/gitstead"))
os.environ.setdefault("GITSTEAD_TEST_PLUGIN_PATH", os.path.join(BUILD, "plugins"))
os.environ.setdefault("GITSTEAD_TEST_HOOK_DIR", os.path.join(BUILD, "plugins/storage/git/hook"))
sys.path.insert(0, os.path.join(SOURCE, "tests/integration"))
import git_histories  # noqa: E402
import gitstead_test  # noqa: E402

# Commits as git makes them here, and flushed to the disk as ours are: git's default leaves that out for refs and single objects.
PERSON = {"GIT_%s_%s" % (who, what): value for who in ("AUTHOR", "COMMITTER")
          for what, value in (("NAME", "B"), ("EMAIL", "b@example.org"), ("DATE", "1600000000 +0000"))}
ENV = dict(os.environ, **PERSON, GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="core.fsync",
           GIT_CONFIG_VALUE_0="committed,reference", LC_ALL="C")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--seconds", type=float, default=2, help="for a row, at most (default 2)")
    parser.add_argument("--only", default="", metavar="WORD", help="rows with it in their title")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    source = options.source or git_histories.history("plain" if options.quick else "long")
    source = git_histories.git(source, "rev-parse", "--absolute-git-dir").decode().strip()
    server = gitstead_test.Server()
    try:
        server.start()
        server.create("bench")
        replica = server.replica("bench")
        shutil.copytree(os.path.join(source, "objects"), os.path.join(replica, "objects"), dirs_exist_ok=True)
        git_histories.git(replica, "fetch", "-q", source, "+refs/heads/main:refs/heads/main")
        refs = git_histories.git(source, "for-each-ref", "--format=update %(refname) %(objectname)")
        git_histories.git(replica, "update-ref", "--stdin", input=refs)
        git_histories.git(replica, "pack-refs", "--all")
        git_histories.git(replica, "commit-graph", "write", "--reachable", "--changed-paths")
        subprocess.run([os.path.join(BUILD, "bench/api-cost"), "ipc://" + server.socket, "bench", replica,
                        os.path.join(server.folder, "peer"), "0" if options.quick else str(options.seconds), options.only], check=True, env=ENV)
    finally:
        server.clean()


main()
