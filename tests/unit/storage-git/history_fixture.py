# SPDX-License-Identifier: Apache-2.0
"""What the suites on the history share: random histories, and a replica with storage-query on it."""
import json
import os
import random
import shutil
import subprocess
import tempfile

QUERY = os.environ["GITSTEAD_TEST_QUERY"]
SEED = int(os.environ.get("GITSTEAD_TEST_SEED", "7"))
ENV = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@d", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
GRAPHS = ("none", "full", "levels", "no-filters", "chain", "newer")


class History:
    """A random history, written by fast-import: branches, merges of all kinds, renames, wrong clocks, several roots."""

    PATHS = ["a", "b", "dir/a", "dir/b", "dir/sub/deep/c", "dir/sub/d", "dir.x", "dir0", "e/f/g", "e/f/h", "\u00e4/\u00f6", "z"]

    def __init__(self, seed, n, skew=False):
        self.random = random.Random(seed)
        self.out = []
        self.trees = []
        self.heads = {}
        self.time = 1700000000
        self.skew = skew
        for i in range(n):
            self.commit(i)

    def line(self, text):
        self.out.append(text.encode() + b"\n")

    def data(self, text):
        raw = text.encode()
        self.out.append(b"data %d\n" % len(raw) + raw + b"\n")

    def pick_parents(self):
        r = self.random
        if not self.heads or r.random() < 0.01:
            return [], "b%d" % len(self.heads)
        names = sorted(self.heads)
        name = r.choice(names)
        parents = [self.heads[name]]
        if r.random() < 0.25 and len(names) > 1:
            count = 1 if r.random() < 0.8 else r.randint(2, 4)
            for other in r.sample(names, min(count, len(names))):
                if self.heads[other] not in parents:
                    parents.append(self.heads[other])
        elif r.random() < 0.12:
            name = "b%d" % len(self.heads)
        return parents, name

    def change(self, files):
        r = self.random
        for _ in range(r.choice((0, 1, 1, 1, 2, 5))):
            path = r.choice(self.PATHS)
            what = r.random()
            if what < 0.12:
                files.pop(path, None)
            elif what < 0.2 and files:
                old = r.choice(sorted(files))
                files[path] = files.pop(old)
            elif what < 0.27 and path in files:
                files[path] = ("100755" if files[path][0] == "100644" else "100644", files[path][1])
            else:
                files[path] = ("100644", "".join("%d\n" % r.randint(0, 9) for _ in range(8)))
        return files

    def commit(self, number):
        r = self.random
        parents, name = self.pick_parents()
        files = dict(self.trees[parents[0]]) if parents else {}
        if len(parents) > 1:
            # One side wins for each path, or a merge of its own.
            for path in self.PATHS:
                side = self.trees[r.choice(parents)]
                if r.random() < 0.7:
                    files.pop(path, None)
                    if path in side:
                        files[path] = side[path]
        if len(parents) < 2 or r.random() < 0.2:
            files = self.change(files)
        self.time += r.choice((0, 0, 1, 60, 3600))
        when = self.time - (r.randint(0, 500000) if self.skew and r.random() < 0.1 else 0)
        author = self.time + r.randint(-100000, 100000)
        self.trees.append(files)
        self.heads[name] = number
        self.line("commit refs/heads/%s" % name)
        self.line("mark :%d" % (number + 1))
        self.line("author %s <%s@example.com> %d +0200" % (r.choice(("Ann", "Bob", "M\u00fcller")), r.choice("xyz"), author))
        self.line("committer %s <k@example.com> %d -0700" % (r.choice(("Kim", "Lee")), when))
        self.data("%s number %d\n\nA body: %s\n" % (r.choice(("Fix", "Add", "fix")), number, r.choice(("alpha", "Beta", "gamma"))))
        if parents:
            self.line("from :%d" % (parents[0] + 1))
        for parent in parents[1:]:
            self.line("merge :%d" % (parent + 1))
        self.line("deleteall")
        for path, (mode, content) in files.items():
            self.line('M %s inline %s' % (mode, path))
            self.data(content)
        self.line("")

    def stream(self):
        return b"".join(self.out)


class Replica:
    """A replica of the storage, and storage-query on it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="gitstead-history-")
        self.root = os.path.join(self.dir, "root")
        self.path = os.path.join(self.root, "@r", "42.git")
        self.known = {}
        self.process = subprocess.Popen([QUERY, self.root, "@r/42.git"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.line("@memory")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait()
        shutil.rmtree(self.dir)
        assert status == 0, "storage-query ended with status %d" % status

    def git(self, *args, stdin=None, check=True):
        done = subprocess.run(["git", "--literal-pathspecs", "-C", self.path, *args], env=ENV, input=stdin, capture_output=True)
        if check and done.returncode != 0:
            raise AssertionError("git %s: %s" % (args, done.stderr.decode()))
        return done.stdout.decode(errors="surrogateescape")

    def lines(self, *args):
        return self.git(*args).split()

    def fact(self, *args):
        """What git says that no commit-graph changes and no ref that moves: asked once, for all graphs."""
        if args not in self.known:
            self.known[args] = self.git(*args, check=False)
        return self.known[args]

    def fast_import(self, stream):
        self.git("-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", "--force", stdin=stream)

    def line(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def ask(self, method, **request):
        answer = self.line("History/%s %s" % (method, json.dumps(request)))
        return json.loads(answer) if not answer.startswith("!") else answer

    def call(self, method, **request):
        answer = self.ask(method, **request)
        assert not isinstance(answer, str), answer
        return answer

    def ids(self, limit=1000, **of):
        """All pages of a listing."""
        ids, token = [], ""
        while True:
            answer = self.call("List", range=of, ids_only=True, page={"limit": limit, "token": token})
            ids += [commit["oid"] for commit in answer["commits"]]
            token = answer["next_page_token"]
            if not token:
                return ids

    def drop_graph(self):
        info = os.path.join(self.path, "objects", "info")
        shutil.rmtree(os.path.join(info, "commit-graphs"), ignore_errors=True)
        if os.path.exists(os.path.join(info, "commit-graph")):
            os.unlink(os.path.join(info, "commit-graph"))

    def make_graph(self, kind):
        self.drop_graph()
        commits = self.lines("rev-list", "--all", "--topo-order", "--reverse")
        if kind in ("full", "levels", "no-filters"):
            version = "1" if kind == "levels" else "2"
            self.git("-c", "commitGraph.generationVersion=" + version, "commit-graph", "write", "--reachable",
                     "--no-changed-paths" if kind == "no-filters" else "--changed-paths")
        elif kind in ("chain", "newer"):
            # Layers of old commits first; of the newest there is none when they are to be outside of the graph.
            steps = (0.5, 0.8, 1.0) if kind == "chain" else (0.5, 0.9)
            for step in steps:
                some = commits[: int(len(commits) * step)]
                self.git("commit-graph", "write", "--split=no-merge", "--stdin-commits", "--changed-paths",
                         stdin=("\n".join(some) + "\n").encode())
