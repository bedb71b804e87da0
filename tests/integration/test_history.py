# SPDX-License-Identifier: Apache-2.0
"""HistoryService through a whole server, beside stock git on a history with renames, merges, odd names and submodules. Every
combination of conditions is tried on the storage alone (tests/unit/storage-git)."""
import os
import shutil
import tempfile

import gitstead_test
from gitstead_test import ServerTestCase, make_history


class History(ServerTestCase):
    def setUp(self):
        super().setUp()
        self.path = "history%d" % len(self.id())
        self.url = self.server.create(self.path)
        self.work = tempfile.mkdtemp(prefix="gitstead-history-")
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.git = gitstead_test.Git(self.server.bearer()["Authorization"].split()[1])
        self.source = make_history(os.path.join(self.work, "source"))
        self.git("push", "-q", "--mirror", self.url, cwd=self.source)
        self.folder = self.server.replica(self.path)

    def ask(self, method, **request):
        return self.server.call("History/" + method, dict(request, repository={"path": self.path}))

    def lines(self, *args):
        return self.git(*args, cwd=self.folder).split()

    def ids(self, **conditions):
        ids, token = [], ""
        while True:
            reply = self.ask("List", range=conditions, ids_only=True, page={"limit": 100, "token": token})
            ids += [commit["oid"] for commit in reply["commits"]]
            token = reply["next_page_token"]
            if not token:
                return ids

    def compare(self):
        main = self.lines("rev-list", "HEAD")
        self.assertEqual(self.ids(), main)
        self.assertEqual(self.ids(all_refs=True, order="HISTORY_ORDER_TOPO"), self.lines("rev-list", "--all", "--topo-order"))
        self.assertEqual(self.ask("Count", range={"all_refs": True})["count"], len(self.lines("rev-list", "--all")))
        entries = self.ask("LastForTree", revision="HEAD")["entries"]
        self.assertTrue(entries)
        for entry in entries:
            name = entry["name"]
            if not isinstance(name, str):
                continue
            self.assertEqual([entry["commit"]], self.lines("log", "-1", "--format=%H", "HEAD", "--", name))
            self.assertEqual(self.ids(paths=[name]), self.lines("rev-list", "HEAD", "--", name))
        old = main[len(main) // 2]
        found = [ref["name"] for ref in self.ask("RefsContaining", revision=old)["refs"]]
        self.assertEqual(found, sorted(self.lines("for-each-ref", "--format=%(refname)", "--contains", old)))
        for other in self.lines("for-each-ref", "--format=%(objectname)", "refs/heads/")[:10]:
            distance = self.ask("AheadBehind", pairs=[{"left": "HEAD", "right": other}])["distances"][0]
            self.assertEqual([str(distance["ahead"]), str(distance["behind"])],
                             self.lines("rev-list", "--count", "--left-right", "HEAD..." + other))
            bases = self.ask("MergeBase", revisions=["HEAD", other])["oids"]
            found = self.git.run("merge-base", "--all", "HEAD", other, cwd=self.folder)
            self.assertEqual(sorted(bases), sorted(found.stdout.decode().split()))

    def test_as_git_says(self):
        self.compare()
        self.git("commit-graph", "write", "--reachable", "--changed-paths", cwd=self.folder)
        self.compare()

    def test_what_was_pushed_is_there_at_once(self):
        self.git("commit-graph", "write", "--reachable", "--changed-paths", cwd=self.folder)
        clone = os.path.join(self.work, "clone")
        self.git("clone", "-q", self.url, clone)
        for i in range(3):
            with open(os.path.join(clone, "new-file"), "a", encoding="utf-8") as file:
                file.write("%d\n" % i)
            self.git("add", "new-file", cwd=clone)
            self.git("commit", "-q", "-m", "Change %d" % i, cwd=clone)
            self.git("push", "-q", "origin", "HEAD", cwd=clone)
            commits = self.ask("List", range={"paths": ["new-file"]})["commits"]
            self.assertEqual([c["message"] for c in commits], ["Change %d\n" % n for n in range(i, -1, -1)])
            hunks = self.ask("Blame", revision="HEAD", path="new-file")["hunks"]
            self.assertEqual([h["commit"] for h in hunks], [c["oid"] for c in reversed(commits)])


if __name__ == "__main__":
    gitstead_test.main()
