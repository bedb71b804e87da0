#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The wire contract explains itself: check_schema.py FOLDER_OF_PROTO_FILES

A client author reads the .proto files and nothing else. So every service, call, enum and message has a comment
(requests and replies have their call's), and every name of a scalar field is explained at least once.
What the compiler would take and the server must not is refused here as well: `optional`, `map`, recursive imports of
google's open types.
"""
import glob
import os
import re
import sys

BLOCK = re.compile(r"(service|message|enum|extend)\s+([\w.]+)")
CALL = re.compile(r"rpc\s+(\w+)\s*\(\s*([\w.]+)\s*\)\s*returns\s*\(\s*([\w.]+)\s*\)")
FIELD = re.compile(r"(repeated\s+)?([\w.]+)\s+(\w+)\s*=\s*\d+")
SCALARS = {"bytes", "string", "bool", "uint32", "uint64", "int32", "int64", "fixed32", "fixed64", "float", "double"}
REFUSED = {
    r"\boptional\s": "`optional` stops the C generator",
    r"\bmap\s*<": "map<> cannot be told from a message by reflection",
    r"google/protobuf/(struct|any|wrappers)\.proto": "open types recurse or hide what they hold",
}


def check(files):
    """files: {name: text}. Returns complaints."""
    bad, calls, blocks = [], set(), []
    explained, scalars = set(), {}
    for name, text in sorted(files.items()):
        commented = False
        for number, line in enumerate(text.splitlines(), 1):
            where, line = "%s:%d" % (name, number), line.strip()
            if line.startswith("//"):
                commented = True
                continue
            for pattern, why in REFUSED.items():
                if re.search(pattern, line):
                    bad.append("%s: %s" % (where, why))
            block, call, field = BLOCK.match(line), CALL.match(line), FIELD.match(line)
            if block:
                blocks.append((where, block.group(1), block.group(2), commented))
            elif call:
                calls.update((call.group(2), call.group(3)))
                if not commented:
                    bad.append("%s: the call %s has no comment" % (where, call.group(1)))
            elif field and field.group(2) in SCALARS:
                scalars.setdefault(field.group(3), where)
                if commented:
                    explained.add(field.group(3))
            commented = False
    bad += ["%s: %s %s has no comment" % (where, kind, name) for where, kind, name, commented in blocks
            if not commented and kind != "extend" and name not in calls]
    bad += ["%s: the field name %s is explained nowhere" % (where, name) for name, where in sorted(scalars.items())
            if name not in explained]
    return bad


SAMPLE = """
import "google/protobuf/any.proto";
service S {
  rpc Get(GetRequest) returns (GetReply) {}
}
message GetRequest {
  string plain = 1;
  optional bytes strange = 2;
}
message GetReply {
  // Explained.
  string fine = 1;
}
message Other {
  string fine = 1;
  map<string, string> table = 2;
}
enum E {
  A = 0;
}
"""


def check_itself():
    want = ["service S", "the call Get", "field name plain", "`optional`", "message Other", "map<>", "enum E",
            "open types"]
    got = check({"sample": SAMPLE})
    missed = [w for w in want if sum(w in g for g in got) != 1]
    if missed or len(got) != len(want):
        sys.exit("the check itself is broken: %s in %s" % (missed, got))


def main():
    check_itself()
    paths = glob.glob(os.path.join(sys.argv[1], "**", "*.proto"), recursive=True)
    if len(paths) < 5:
        sys.exit("no .proto files in " + sys.argv[1])
    bad = check({os.path.basename(p): open(p, encoding="utf-8").read() for p in paths})
    sys.exit("\n".join(bad) if bad else 0)


main()
