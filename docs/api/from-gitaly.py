#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page for those who come from Gitaly, from docs/api/from-gitaly.txt.

    from-gitaly.py            writes docs/api/from-gitaly.md
    from-gitaly.py --check    fails unless the page is up to date, every call is in api/proto (or is a path of transport/http), every
                              test is there, and no RPC is missing

What is missing here is said and counted: the last line of the check.
"""
import hashlib
import os
import re
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.path.join(SOURCE, "docs/api/from-gitaly.txt")
PAGE = os.path.join(SOURCE, "docs/api/from-gitaly.md")
# All RPCs of Gitaly 16.7 and its health check, with their tiers: how many of each, and a digest of "SERVICE/RPC TIER" lines.
COUNTS = {1: 56, 2: 70, 3: 28}
DIGEST = "3daf22692a5ea58d"
TIERS = {1: "a forge cannot live without it", 2: "a serious user expects it", 3: "particular to GitLab, old, or derivable"}


class Row:
    def __init__(self, service, fields):
        self.service = service
        self.rpc, tier, calls, tests, self.remark = fields
        self.tier = int(tier)
        self.missing = calls[len("not yet: "):] if calls.startswith("not yet: ") else ""
        self.left_out = calls == "-"
        self.calls = [] if self.missing or self.left_out else [call.strip() for call in calls.split(",")]
        self.tests = [test.strip() for test in tests.split(",") if test.strip()]


def read():
    rows, service = [], None
    with open(DATA, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if line.startswith("= "):
                service = line[2:]
            elif line and not line.startswith("#"):
                fields = [field.strip() for field in line.split("|")]
                if len(fields) != 5 or fields[1] not in "123" or service is None:
                    raise SystemExit("%s:%d: wants RPC | tier | calls | tests | remark" % (DATA, number))
                rows.append(Row(service, fields))
    return rows


def methods():
    """Name -> the file of its service."""
    found, service = {}, None
    folder = os.path.join(SOURCE, "api/proto/gitstead/v1")
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for line in file:
                if line.startswith("service "):
                    service = line.split()[1].removesuffix("Service")
                match = re.match(r"\s*rpc\s+(\w+)\s*\(", line)
                if match:
                    found["%s/%s" % (service, match[1])] = name
    return found


def link(call, files=methods()):
    """To where it is described: the pages of the calls are made of these files, and are not in the source."""
    if call not in files or call.startswith("Node/"):
        return "`%s`" % call
    return "[%s](../../api/proto/gitstead/v1/%s)" % (call, files[call])


def page(rows):
    missing = [row for row in rows if row.missing]
    lines = [
        "# If you come from Gitaly", "",
        "Made from `docs/api/from-gitaly.txt` by `docs/api/from-gitaly.py`; a test checks it. Every RPC of Gitaly 16.7 and what does its "
        "work here, with a test that shows it. The pages of the calls are made by the build (`BUILD/docs/calls`).", "",
        "Tier: " + "; ".join("%d %s" % pair for pair in sorted(TIERS.items())) + ".", "",
        "Some rules differ in all calls: one page with a token and not a stream of messages, for lists; bulk bytes on a stream of their "
        "own; a conflict is an answer and not an error; who and when stand in every request that makes objects; a repeat with the same call "
        "id is carried out once.", "",
        "| | tier 1 | tier 2 | tier 3 |", "|---|--:|--:|--:|"]
    for name, test in (("here", lambda r: r.calls), ("not yet", lambda r: r.missing), ("left out", lambda r: r.left_out)):
        lines.append("| %s | %s |" % (name, " | ".join(str(sum(1 for r in rows if r.tier == t and test(r))) for t in TIERS)))
    for service in dict.fromkeys(row.service for row in rows):
        lines += ["", "## " + service, "", "| RPC | tier | here | shown by | |", "|---|--:|---|---|---|"]
        for row in rows:
            if row.service == service:
                here = ", ".join(map(link, row.calls)) or ("**not yet**: " + row.missing if row.missing else "left out")
                tests = "<br>".join("[%s](../../tests/%s)" % (t.partition("#")[2], t.partition("#")[0]) for t in row.tests)
                lines.append("| %s | %d | %s | %s | %s |" % (row.rpc, row.tier, here, tests, row.remark))
    if missing:
        lines += ["", "## What is missing", ""] + ["- %s/%s: %s" % (row.service, row.rpc, row.missing) for row in missing]
    return "\n".join(lines) + "\n"


def find_test(test):
    """What is wrong with it; None when it is there."""
    path, _, name = test.partition("#")
    full = os.path.join(SOURCE, "tests", path)
    if not os.path.isfile(full):
        return "there is no tests/" + path
    with open(full, encoding="utf-8") as file:
        text = file.read()
    if path.endswith(".c"):
        return None if re.search(r"^%s \(" % re.escape(name), text, re.M) else "no function %s in tests/%s" % (name, path)
    owner, _, method = name.partition(".")
    body = re.search(r"^class %s\b.*?(?=^\S|\Z)" % re.escape(owner), text, re.M | re.S)
    if body is None or not re.search(r"^    def %s\(" % re.escape(method), body[0], re.M):
        return "no test %s in tests/%s" % (name, path)
    return None


def problems(rows, known, routes):
    for row in rows:
        name = "%s/%s" % (row.service, row.rpc)
        for call in row.calls:
            if call.startswith("GET "):
                if '"%s"' % call[4:] not in routes:
                    yield "%s: transport/http knows no path %s" % (name, call[4:])
            elif call not in known:
                yield "%s: api/proto has no call %s" % (name, call)
        if row.calls and not row.tests:
            yield "%s: no test is named" % name
        if row.left_out and (row.tier != 3 or not row.remark):
            yield "%s: only tier 3 may be left out, and with a reason" % name
        for test in row.tests:
            why = find_test(test)
            if why:
                yield "%s: %s" % (name, why)
    counts = {tier: sum(1 for row in rows if row.tier == tier) for tier in TIERS}
    listed = sorted("%s/%s %d" % (row.service, row.rpc, row.tier) for row in rows)
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]
    if counts != COUNTS or digest != DIGEST:
        yield "RPCs are missing, doubled or of another tier: %s, digest %s" % (counts, digest)


def main():
    rows = read()
    text = page(rows)
    if sys.argv[1:] == []:
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(text)
        return
    if sys.argv[1:] != ["--check"]:
        raise SystemExit(__doc__)
    with open(os.path.join(SOURCE, "plugins/transport/http/route.c"), encoding="utf-8") as file:
        routes = file.read()
    found = list(problems(rows, methods(), routes))
    with open(PAGE, encoding="utf-8") as file:
        if file.read() != text:
            found.append("docs/api/from-gitaly.md is not up to date: run docs/api/from-gitaly.py")
    for problem in found:
        print(problem)
    missing = [row for row in rows if row.missing]
    print("%d RPCs; not yet: %d of tier 1, %d of tier 2" % (len(rows), sum(r.tier == 1 for r in missing), sum(r.tier == 2 for r in missing)))
    sys.exit(1 if found else 0)


main()
