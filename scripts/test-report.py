#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sums up meson test logs: test-report.py [--broken N] LABEL=testlog.json...

Counts what the tests themselves count: TAP points where a program speaks TAP, programs elsewhere. A program
that crashed, timed out or said less than it planned adds a failure of its own. The last line printed is
"N passed, N failed" (how many were skipped stands on the line above); the exit code is 0 when nothing failed and something ran.
Why something failed stands right above: who keeps only the end of a long output still has it.
"""
import collections
import json
import re
import sys

POINT = re.compile(r"^(not )?ok\b[ \t]*\d*[ \t]*(?:-[ \t]*)?([^#]*)(?:#[ \t]*(SKIP|TODO)\b[ \t:-]*(.*))?", re.I)
PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*SKIP\b[ \t:-]*(.*))?", re.I)


# Of what failing programs said, this much is repeated: the end of each, in characters, and together.
SAID_EACH, SAID_ALL = 1500, 3000


# Where the report of a sanitizer begins; what it explains about itself comes after.
SANITIZER = re.compile(r"^(==\d+==ERROR|WARNING: ThreadSanitizer|.*: runtime error:)", re.M)


# Meson adds a line to what a program said on stderr.
ADDED = re.compile(r"^\(test program exited with status code -?\d+\)$", re.M)


def words(run):
    """What a program said about its failures: on stderr, or else in its points that are not fine."""
    said = ADDED.sub("", run.get("stderr") or "").strip()
    if not said:
        lines = (run.get("stdout") or "").splitlines()
        said = "\n".join(line for line in lines if not line.startswith("ok ")).strip()
    return said


def telling(said, limit):
    """The part of that length that tells most: the beginning of a sanitizer's report, or else the end."""
    found = SANITIZER.search(said)
    return said[found.start():][:limit] if found else said[-limit:]


class Tally:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = collections.Counter()  # (program, reason) -> points
        self.said = []  # (program, what it said) of those that failed

    def add(self, label, run):
        """Adds one program's result, a line of the log."""
        name = "%s: %s" % (label, run["name"])
        result = run.get("result", "ERROR")
        passed, failed, skipped, planned, odd_skips = 0, [], [], None, False
        for line in run.get("stdout", "").splitlines():
            plan = PLAN.match(line)
            point = POINT.match(line)
            if plan:
                planned = int(plan.group(1))
                if planned == 0:
                    skipped.append(plan.group(2) or "nothing to test here")
            elif point:
                title = "%s: %s" % (name, (point.group(2) or "").strip() or point.group(4) or "?")
                if (point.group(3) or "").upper() == "SKIP":
                    skipped.append((point.group(4) or "").strip())
                    odd_skips = odd_skips or bool(point.group(1))
                elif point.group(1):
                    failed.append(title)
                else:
                    passed += 1
        if planned is None and not passed and not failed and not skipped:
            # Does not speak TAP: the program is the test.
            if result == "OK":
                passed = 1
            elif result == "SKIP":
                skipped.append("")
        bad = result not in ("OK", "EXPECTEDFAIL", "SKIP")
        # cmocka 1.1.5 says "not ok # SKIP", which meson takes for a failure.
        if result == "FAIL" and run.get("returncode") == 0 and odd_skips:
            bad = False
        if bad and not failed:
            failed.append("%s (%s)" % (name, result.lower()))
        self.passed += passed
        self.failures += failed
        self.skips.update((name, reason) for reason in skipped)
        if failed:
            self.said.append((name, words(run)))

    def print(self):
        for (name, reason), points in self.skips.items():
            print("skipped: %s: %d%s" % (name, points, " (%s)" % reason if reason else ""))
        left = SAID_ALL
        for name, said in self.said:
            part = telling(said, min(SAID_EACH, left)) if left > 0 else ""
            left -= len(part)
            if part:
                print("== %s said\n%s" % (name, part))
        for title in self.failures:
            print("FAILED: %s" % title)


def main():
    arguments = sys.argv[1:]
    tally = Tally()
    if arguments[:1] == ["--broken"]:
        if arguments[1] != "0":
            tally.failures.append("a build failed")
        arguments = arguments[2:]
    for argument in arguments:
        label, path = argument.split("=", 1)
        try:
            with open(path, encoding="utf-8", errors="replace") as log:
                for line in log:
                    if line.strip():
                        tally.add(label, json.loads(line))
        except FileNotFoundError:
            # Meson writes no log when the chosen suites hold no test in this build.
            print("%s: no tests" % label)
    print()
    tally.print()
    if not tally.passed and not tally.failures:
        print("nothing was run")
        tally.failures.append("nothing was run")
    if tally.skips:
        print("%d skipped" % sum(tally.skips.values()))
    print("%d passed, %d failed" % (tally.passed, len(tally.failures)))
    sys.stdout.flush()
    return 1 if tally.failures else 0


sys.exit(main())
