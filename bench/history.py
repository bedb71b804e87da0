#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Questions about the history beside a git process for each: bench/history.py SOURCE [--rounds N] [--graph KIND]

SOURCE is a repository of some size; git's own is a good one. A replica is made of it, with a commit-graph ("full", with
changed-path filters) or without ("none"). Both sides are warm, and the quickest of all rounds counts. The storage is called
as a server calls it, without a wire; git's time has its start in it, since a server would start it for each call.

Needs `ninja -C build tests/unit/storage-git/storage-query`; GITSTEAD_BUILD names another build folder.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("GITSTEAD_BUILD", os.path.join(SOURCE, "build"))
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


class Bench:
    def __init__(self, source, rounds, graph):
        self.rounds = rounds
        self.dir = tempfile.mkdtemp(prefix="gitstead-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        root = os.path.join(self.dir, "root")
        self.path = os.path.join(root, "@r", "42.git")
        env = dict(os.environ, GITSTEAD_TEST_HOOK_DIR=os.path.join(BUILD, "plugins/storage/git/hook"))
        query = os.path.join(BUILD, "tests/unit/storage-git/storage-query")
        self.process = subprocess.Popen([query, root, "@r/42.git"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.ask("@memory")
        source = subprocess.run(["git", "-C", source, "rev-parse", "--absolute-git-dir"], capture_output=True, text=True, check=True)
        self.fill(source.stdout.strip())
        if graph == "full":
            self.git("commit-graph", "write", "--reachable", "--changed-paths")

    def fill(self, source):
        pack = os.path.join(self.path, "objects/pack")
        for name in os.listdir(os.path.join(source, "objects/pack")):
            try:
                os.link(os.path.join(source, "objects/pack", name), os.path.join(pack, name))
            except OSError:
                shutil.copy(os.path.join(source, "objects/pack", name), pack)
        refs = subprocess.run(["git", "-C", source, "for-each-ref", "--format=create %(refname) %(objectname)"], capture_output=True)
        self.git("update-ref", "--stdin", stdin=refs.stdout)
        self.git("pack-refs", "--all")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self.dir)

    def git(self, *args, stdin=None, check=True):
        done = subprocess.run(["git", "-C", self.path, *args], env=ENV, input=stdin, capture_output=True, check=False)
        if check and done.returncode != 0:
            raise SystemExit("git %s: %s" % (" ".join(args), done.stderr.decode()))
        return done.stdout.decode(errors="replace")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def ours(self, method, request):
        answer = self.ask("@time %d History/%s %s" % (self.rounds, method, json.dumps(request)))
        if answer.startswith("!"):
            raise SystemExit("%s %s: %s" % (method, request, answer))
        return int(answer) / 1000

    def theirs(self, commands):
        best = float("inf")
        for _ in range(self.rounds):
            began = time.monotonic()
            for command in commands:
                subprocess.run(["git", "-C", self.path, *command], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            best = min(best, (time.monotonic() - began) * 1000)
        return best

    def compare(self, name, method, request, *commands):
        git, own = self.theirs(commands), self.ours(method, request)
        print("| %-46s | %9.2f | %9.2f | %7.1f |" % (name, git, own, git / own), flush=True)


def run(bench):
    tags = [t for t in bench.git("tag", "--sort=version:refname").split() if "-rc" not in t]
    old, middle = tags[len(tags) // 20], tags[len(tags) // 2]
    tip = bench.git("rev-parse", "HEAD" if bench.git("rev-parse", "-q", "--verify", "HEAD", check=False) else tags[-1]).strip()
    files = bench.git("ls-tree", "-r", "--name-only", tip).split("\n")[:-1]
    folders = bench.git("ls-tree", "-d", "-r", "--name-only", tip).split("\n")[:-1]
    big = max(folders, key=lambda f: sum(1 for each in files if each.startswith(f + "/") and "/" not in each[len(f) + 1:]))
    deep = max(files, key=lambda f: f.count("/"))
    print("tip %s, tags %s and %s, folders %s (most files) and the root, file %s" % (tip[:10], old, middle, big, deep))
    print("| %-46s | %9s | %9s | %7s |\n|---|---|---|---|" % ("", "git, ms", "ours, ms", "ratio"))
    listed = "--format=raw"
    bench.compare("list, 20 commits", "List", {"range": {"include": [tip]}, "page": {"limit": 20}}, ("log", listed, "-20", tip))
    bench.compare("list, 1000 commits", "List", {"range": {"include": [tip]}, "page": {"limit": 1000}}, ("log", listed, "-1000", tip))
    bench.compare("list, 20 commits, topological", "List", {"range": {"include": [tip], "order": 1}, "page": {"limit": 20}},
                  ("log", listed, "-20", "--topo-order", tip))
    bench.compare("list, 100 of a range", "List", {"range": {"include": [tip], "exclude": [middle]}, "page": {"limit": 100}},
                  ("log", listed, "-100", tip, "^" + middle))
    for path in (files[len(files) // 3], big, deep, os.path.dirname(deep)):
        bench.compare("list, 20 commits of " + path[-26:], "List", {"range": {"include": [tip], "paths": [path]}, "page": {"limit": 20}},
                      ("log", listed, "-20", tip, "--", path))
    bench.compare("list, 20 commits by one author", "List", {"range": {"include": [tip], "author": ["Junio"]}, "page": {"limit": 20}},
                  ("log", listed, "-20", "--author=Junio", "-F", tip))
    bench.compare("count all", "Count", {"range": {"include": [tip]}}, ("rev-list", "--count", tip))
    bench.compare("count a range", "Count", {"range": {"include": [tip], "exclude": [middle]}}, ("rev-list", "--count", tip, "^" + middle))
    bench.compare("count first parents", "Count", {"range": {"include": [tip], "first_parent": True}},
                  ("rev-list", "--count", "--first-parent", tip))
    bench.compare("count commits of " + big[-20:], "Count", {"range": {"include": [tip], "paths": [big]}},
                  ("rev-list", "--count", tip, "--", big))
    bench.compare("ahead/behind, near", "AheadBehind", {"pairs": [{"left": tip, "right": tip + "~20"}]},
                  ("rev-list", "--count", "--left-right", "%s...%s~20" % (tip, tip)))
    bench.compare("ahead/behind, far", "AheadBehind", {"pairs": [{"left": middle, "right": tip}]},
                  ("rev-list", "--count", "--left-right", "%s...%s" % (middle, tip)))
    some = tags[-20:]
    bench.compare("ahead/behind, 20 pairs", "AheadBehind", {"pairs": [{"left": t, "right": tip} for t in some]},
                  *[("rev-list", "--count", "--left-right", "%s...%s" % (t, tip)) for t in some])
    bench.compare("merge base, near", "MergeBase", {"revisions": [tip, tip + "~20^2"]}, ("merge-base", "--all", tip, tip + "~20^2"))
    bench.compare("merge base, far", "MergeBase", {"revisions": [middle, tip]}, ("merge-base", "--all", middle, tip))
    bench.compare("is ancestor", "IsAncestor", {"pairs": [{"left": middle, "right": tip}]}, ("merge-base", "--is-ancestor", middle, tip))
    bench.compare("tags containing an old commit", "RefsContaining", {"revision": old, "prefixes": ["refs/tags/"]},
                  ("tag", "--contains", old))
    bench.compare("tags containing a newer commit", "RefsContaining", {"revision": tags[-3], "prefixes": ["refs/tags/"]},
                  ("tag", "--contains", tags[-3]))
    bench.compare("last commit of " + deep[-28:], "LastForPath", {"revision": tip, "paths": [deep]},
                  ("log", listed, "-1", tip, "--", deep))
    for folder in ("", big):
        names = bench.git("ls-tree", "--name-only", tip + ":" + folder).split("\n")[:-1]
        prefix = folder + "/" if folder else ""
        # git has no such command: what is usual is one process for each entry. Ten of them stand for all.
        ten = names[:: max(1, len(names) // 10)][:10]
        git = bench.theirs([("log", listed, "-1", tip, "--", prefix + name) for name in ten]) * len(names) / len(ten)
        own = bench.ours("LastForTree", {"revision": tip, "path": folder})
        print("| %-46s | %9.2f | %9.2f | %7.1f |" % ("last commit of %d entries of %s" % (len(names), folder or "the root"), git, own,
                                                    git / own), flush=True)
    bench.compare("blame " + files[len(files) // 3][-30:], "Blame", {"revision": tip, "path": files[len(files) // 3]},
                  ("blame", "--porcelain", tip, "--", files[len(files) // 3]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graph", choices=("full", "none"), default="full")
    options = parser.parse_args()
    bench = Bench(options.source, options.rounds, options.graph)
    try:
        run(bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
