# SPDX-License-Identifier: Apache-2.0
"""What History/List and Commit/Get tell of commits beyond what stands in them, where listings begin and end: through a whole
server, beside stock git. Every combination of options is tried on the storage alone (tests/unit/storage-git)."""
import re

import gitstead_test
from git_histories import git, history
from test_api_read import ApiCase, raw

DETAILS = {"trailers": True, "stats": True, "refs": True}


class Options(ApiCase):
    histories = ("odd", "wide", "mixed")

    def listed(self, name, limit=None, **fields):
        found, _ = self.pages(name, "History/List", "commits", limit, **fields)
        return found

    def ids(self, name, limit=None, **fields):
        return [commit["oid"] for commit in self.listed(name, limit, ids_only=True, **fields)]

    def git_details(self, name, *arguments):
        """{id: (files, additions, deletions, trailers)}"""
        found = {}
        text = git(history(name), "-c", "i18n.logOutputEncoding=UTF-8", "log", "--shortstat", "--no-renames", "--diff-merges=first-parent",
                   "--format=%x03%H%x04%(trailers:only,unfold,separator=%x01,key_value_separator=%x02)%x04", *arguments)
        for part in text.split(b"\x03")[1:]:
            oid, trailers, stats = part.split(b"\x04")
            numbers = [int((re.search(rb"(\d+) " + word, stats) or [0, 0])[1]) for word in (b"file", b"insertion", b"deletion")]
            found[oid.decode()] = (*numbers, [tuple(each.split(b"\x02")) for each in trailers.split(b"\x01") if each])
        return found

    def git_refs(self, name):
        found = {}
        for line in git(history(name), "for-each-ref", "--format=%(objectname) %(*objectname) %(refname)").splitlines():
            oid, peeled, ref = line.split(b" ", 2)
            if peeled:
                oid = git(history(name), "rev-parse", ref + b"^{}").strip()  # a tag of a tag, too
            found.setdefault(oid.decode(), []).append(ref)
        return found

    def compare(self, name, commits, expected, refs):
        for commit in commits:
            oid, stats = commit["oid"], commit["stats"]
            got = (stats["files"], stats["additions"], stats["deletions"],
                   [(raw(t["key"]), raw(t["value"])) for t in commit["trailers"]])
            self.assertEqual(got, expected[oid], (name, oid))
            self.assertEqual([raw(ref) for ref in commit["refs"]], refs.get(oid, [])[:100], (name, oid))
            self.assertEqual(commit["ref_count"], len(refs.get(oid, [])), (name, oid))

    def test_details(self):
        for name in self.histories:
            expected, refs = self.git_details(name, "--all", "--max-count=300"), self.git_refs(name)
            commits = self.listed(name, range={"all_refs": True}, max_count=300, details=DETAILS)
            self.assertEqual([c["oid"] for c in commits], list(expected))
            self.compare(name, commits, expected, refs)
            some = [c["oid"] for c in commits][:150:3]
            entries = self.api(name, "Commit/Get", revisions=some + some[:1], details=DETAILS)["entries"]
            self.assertEqual([e["commit"]["oid"] for e in entries], some + some[:1])
            self.compare(name, [e["commit"] for e in entries], expected, refs)

    def test_a_message_with_trailers(self):
        person = {"name": "A", "email": "a@example.org", "seconds": 1700000000, "zone": "+0000"}
        message = "Title\n\nBody.\n\nSigned-off-by: A <a@example.org>\nChangelog: added\n as a whole\n(cherry picked from commit 1)\n"
        done = self.api("wide", "Change/CommitFiles", write={"branch": "trailers", "start": "main", "committer": person}, message=message,
                        actions=[{"kind": "FILE_CREATE", "path": "brand-new", "content": "x\n"}])
        commit = self.api("wide", "Commit/Get", revisions=[done["new_oid"]], details=DETAILS)["entries"][0]["commit"]
        self.assertEqual([(t["key"], t["value"]) for t in commit["trailers"]],
                         [("Signed-off-by", "A <a@example.org>"), ("Changelog", "added as a whole")])
        self.assertEqual((commit["stats"], commit["refs"]), ({"additions": 1, "deletions": 0, "files": 1}, ["refs/heads/trailers"]))
        plain = self.api("wide", "Commit/Get", revisions=[done["new_oid"]])["entries"][0]["commit"]
        self.assertEqual((plain["trailers"], plain["refs"], plain.get("stats")), ([], [], None))
        self.api("wide", "Change/DeleteBranch", branch="trailers")

    def test_where_listings_begin_and_end(self):
        cases = [
            ({"range": {"include_refs": ["refs/heads/"]}}, ["--branches"]),
            ({"range": {"include_refs": ["refs/tags/"]}, "reverse": True}, ["--tags", "--reverse"]),
            ({"range": {"include_refs": ["refs/heads/", "refs/tags/"]}, "max_count": 20, "skip": 3},
             ["--branches", "--tags", "--max-count=20", "--skip=3"]),
            ({"range": {"all_refs": True}, "reverse": True, "max_count": 31}, ["--all", "--reverse", "--max-count=31"]),
            ({"range": {"all_refs": True, "exclude_refs": ["refs/tags/"]}}, ["--all", "--not", "--tags"]),
            ({"range": {"include": ["main"], "exclude_refs": ["refs/tags/v1"], "merges": "HISTORY_MERGES_NONE"}},
             ["main", "--not", "--glob=refs/tags/v1*", "--not", "--no-merges"]),
            ({"range": {"all_refs": True, "merges": "HISTORY_MERGES_ONLY", "order": "HISTORY_ORDER_TOPO"}, "max_count": 5},
             ["--all", "--merges", "--topo-order", "--max-count=5"]),
            ({"range": {"include": ["main"], "committer": ["race", "C <"]}, "reverse": True},
             ["main", "--committer=race", "--committer=C <", "-F", "--reverse"]),
        ]
        for name in self.histories:
            for fields, arguments in cases:
                with self.subTest(name=name, arguments=arguments):
                    expected = self.revisions(name, *arguments)
                    self.assertEqual(self.ids(name, **fields), expected)
                    self.assertEqual(self.ids(name, 7 if len(expected) < 200 else 150, **fields), expected)

    def test_bad_input(self):
        for method, fields, mention in (
                ("History/List", {"ids_only": True, "details": {"stats": True}}, "details"),
                ("History/List", {"details": {"refs": True, "ref_prefixes": ["HEAD"]}}, "details.ref_prefixes"),
                ("History/List", {"range": {"include_refs": ["heads/"]}}, "range.include_refs"),
                ("History/Count", {"range": {"exclude_refs": ["-x"]}}, "range.exclude_refs"),
                ("Commit/Get", {"revisions": ["main"], "details": {"ref_prefixes": ["refs/"]}}, "details.ref_prefixes"),
                ("Commit/Get", {"revisions": ["main"] * 201, "details": {"stats": True}}, "revisions")):
            self.refused("wide", method, "INVALID_ARGUMENT", mention, **fields)
        token = self.api("wide", "History/List", reverse=True, page={"limit": 1})["next_page_token"]
        self.refused("wide", "History/List", "INVALID_ARGUMENT", "page.token", page={"token": token, "limit": 1})
        # More commits than one page may be compared for.
        self.assertEqual(len(self.api("mixed", "History/List", details={"stats": True})["commits"]), 200)


if __name__ == "__main__":
    gitstead_test.main()
