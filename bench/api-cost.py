#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads of each kind over nng ipc beside git, `git cat-file --batch` and libgit2: bench/api-cost.py [SOURCE] [--rounds N]

SOURCE is a bare or other repository with a branch main; without it a history of 50,000 commits and 10,000 refs is made. A server is
started on a copy of it, with a commit-graph. Needs `ninja -C build bench/api-cost core/main/gitstead` and the plugins;
GITSTEAD_BUILD names another build folder.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    source = options.source or git_histories.history("long")
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
        subprocess.run([os.path.join(BUILD, "bench/api-cost"), "ipc://" + server.socket, "bench", replica, str(options.rounds)], check=True)
    finally:
        server.clean()


main()
