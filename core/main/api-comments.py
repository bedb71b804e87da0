#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the comments of the .proto files into a C table: api-comments.py OUT.c FILE.proto...

protobuf-c drops comments, and a descriptor set with them is four times as large. What `gitstead methods --describe`
tells is the text above each service, method, message, field and enum value, found by its full name.
"""
import re
import sys

OPEN = re.compile(r"^(service|message|enum)\s+(\w+)\s*\{(\s*\})?")
MEMBER = re.compile(r"^(?:rpc\s+(\w+)\s*\(|(?:repeated\s+)?[\w.]+\s+(\w+)\s*=\s*\d+|(\w+)\s*=\s*\d+)")


def read(path):
    package, scopes, comment, found = "", [], [], {}
    for raw in open(path, encoding="utf-8"):
        line = raw.strip()
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        if line.startswith("package "):
            package = line.split()[1].rstrip(";")
        opened = OPEN.match(line)
        member = MEMBER.match(line) if scopes else None
        name = opened.group(2) if opened else next((g for g in member.groups() if g), None) if member else None
        if name and comment:
            found[".".join([package] + [s for s in scopes if s] + [name])] = "\n".join(comment)
        if opened and not opened.group(3):
            scopes.append(opened.group(2))
        elif line.endswith("{"):
            scopes.append("")  # the options of a method
        elif line.startswith("}"):
            scopes.pop()
        comment = []
    return found


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def main():
    found = {}
    for path in sys.argv[2:]:
        found.update(read(path))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write('#include "api-comments.h"\n\nconst GsiApiComment gsi_api_comments[] = {\n')
        for name in sorted(found):
            out.write("  { %s,\n    %s },\n" % (quote(name), quote(found[name])))
        out.write("};\nconst gsize gsi_n_api_comments = G_N_ELEMENTS (gsi_api_comments);\n")


main()
