#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The reference of the calls, one page per service, from the comments in the .proto files.

  generate.py FOLDER_OF_PROTO_FILES EXAMPLES.json OUTPUT_FOLDER

The comments are the reference; this only sets them as tables. EXAMPLES.json holds one request or a list of them per service, which the
page shows as `gitstead call`. It fails when a service that clients call has none, or when one names a call or a field that
is not there.
"""
import glob
import json
import os
import re
import sys

BLOCK = re.compile(r"(service|message|enum)\s+(\w+)\s*\{(\})?")
CALL = re.compile(r"rpc\s+(\w+)\s*\(\s*([\w.]+)\s*\)\s*returns\s*\(\s*([\w.]+)\s*\)")
RULE = re.compile(r"option \(rule\) = \{(.*)\}")
FIELD = re.compile(r"(repeated\s+)?([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(\[.*\])?;")
VALUE = re.compile(r"(\w+)\s*=\s*(\d+);")
SCALARS = {"bytes", "string", "bool", "uint32", "uint64", "int32", "int64", "sint32", "sint64", "fixed32", "fixed64", "double"}
INTERNAL = {"NodeService"}  # between the servers of one cluster, no client's business


def read(folder):
    """{kind: {name: {"text", "rows", "file"}}}; a row is a dict with its own text."""
    found = {"service": {}, "message": {}, "enum": {}}
    for path in sorted(glob.glob(os.path.join(folder, "gitstead/v1/*.proto"))):
        comment, block, kind = [], None, None
        for line in open(path, encoding="utf-8"):
            line = line.strip()
            if line.startswith("//"):
                comment.append(line[2:].strip())
                continue
            text, match = " ".join(comment), BLOCK.match(line)
            call, rule = CALL.match(line), RULE.match(line)
            field, value = FIELD.match(line), VALUE.match(line)
            comment = []
            if match:
                kind = match[1]
                block = {"text": text, "rows": []}
                found[kind][match[2]] = block
            elif block is None:
                continue
            elif call:
                block["rows"].append({"name": call[1], "request": call[2], "reply": call[3], "text": text, "rule": {}})
            elif rule:
                block["rows"][-1]["rule"] = dict(re.findall(r"(\w+): (\w+)", rule[1]))
            elif kind == "message" and field:
                block["rows"].append({"name": field[3], "type": field[2], "repeated": bool(field[1]), "text": text,
                                      "hex": "(hex)" in (field[5] or "")})
            elif kind == "enum" and value:
                block["rows"].append({"name": value[1], "number": value[2], "text": text})
    return found


def cell(text):
    return text.replace("|", "\\|")


def link(name, schema):
    if name in SCALARS:
        return "`%s`" % name
    return "[%s](#%s)" % (name, name.lower()) if name in schema["message"] or name in schema["enum"] else name


def fields(name, schema):
    rows = schema["message"][name]["rows"]
    if not rows:
        return ["Empty.", ""]
    lines = ["| field | type | |", "|---|---|---|"]
    for row in rows:
        kind = ("repeated " if row["repeated"] else "") + link(row["type"], schema) + (", hex" if row["hex"] else "")
        lines.append("| `%s` | %s | %s |" % (row["name"], kind, cell(row["text"])))
    return lines + [""]


def rule_text(rule):
    """What a caller needs to know of a call's rule."""
    parts = ["number %s" % rule["number"], {"ACCESSOR": "reads", "MUTATOR": "writes", "MAINTENANCE": "maintenance"}[rule["operation"]]]
    needs = rule.get("permission")
    if needs:
        parts.append("for everybody" if needs == "NONE" else "permission %s" % needs.lower())
    if rule.get("bytes_in") == "true":
        parts.append("takes bulk bytes")
    if rule.get("bytes_out") == "true":
        parts.append("gives bulk bytes")
    if "timeout_ms" in rule:
        parts.append("%g s unless the caller says otherwise" % (int(rule["timeout_ms"]) / 1000))
    return ", ".join(parts)


def used(names, schema):
    """The messages and enums that these messages need, in the order in which they come up, without themselves."""
    order, waiting = [], list(names)
    while waiting:
        for row in schema["message"].get(waiting.pop(0), {"rows": []})["rows"]:
            if row["type"] not in SCALARS and row["type"] not in order:
                order.append(row["type"])
                waiting.append(row["type"])
    return order


def check_request(value, message, schema, where):
    rows = {row["name"]: row for row in schema["message"][message]["rows"]}
    for name, inner in value.items():
        if name not in rows:
            raise SystemExit("%s: %s has no field %s" % (where, message, name))
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict) and rows[name]["type"] in schema["message"]:
                check_request(one, rows[name]["type"], schema, where + "." + name)


def page(service, schema, examples):
    block = schema["service"][service]
    name = service[:-len("Service")] if service.endswith("Service") else service
    lines = ["# %s" % name, "", block["text"], ""]
    calls = {row["name"]: row for row in block["rows"]}
    for example in examples:
        call = example["call"].partition("/")[2]
        if call not in calls:
            raise SystemExit("the example of %s calls %s, which is not there" % (name, example["call"]))
        check_request(example["request"], calls[call]["request"], schema, example["call"])
        lines += [example["text"], "", "```console", "$ gitstead call %s '%s'%s" % (
            example["call"], json.dumps(example["request"]), example.get("rest", "")), "```", ""]
    lines += ["| call | |", "|---|---|"]
    for row in block["rows"]:
        first = re.split(r"(?<=[.])\s", row["text"])[0]
        lines.append("| [%s/%s](#%s) | %s |" % (name, row["name"], row["name"].lower(), cell(first)))
    lines.append("")
    for row in block["rows"]:
        lines += ["## %s" % row["name"], "", row["text"], "", "*%s.*" % rule_text(row["rule"]).capitalize(), "",
                  "**Request**", ""] + fields(row["request"], schema) + ["**Reply**", ""] + fields(row["reply"], schema)
    own = [row[side] for row in block["rows"] for side in ("request", "reply")]
    rest = [other for other in used(own, schema) if other not in own]
    if rest:
        lines += ["# What they are made of", ""]
    for other in rest:
        kind = "message" if other in schema["message"] else "enum"
        lines += ["## %s" % other, "", schema[kind][other]["text"], ""]
        if kind == "message":
            lines += fields(other, schema)
        else:
            lines += ["| value | number | |", "|---|--:|---|"]
            lines += ["| `%s` | %s | %s |" % (v["name"], v["number"], cell(v["text"])) for v in schema[kind][other]["rows"]] + [""]
    return name, "\n".join(lines).rstrip() + "\n"


def main():
    folder, examples, out = sys.argv[1:4]
    schema = read(folder)
    with open(examples, encoding="utf-8") as file:
        examples = json.load(file)
    os.makedirs(out, exist_ok=True)
    index = ["# The calls", "", "Made from the comments in `api/proto`. How requests look in JSON: docs/api-json.md; "
             "codes: docs/errors.md.", "", "| service | calls | |", "|---|--:|---|"]
    for service in sorted(set(schema["service"]) - INTERNAL):
        name = service[:-len("Service")] if service.endswith("Service") else service
        if name not in examples:
            raise SystemExit("docs/api/examples.json has no example for the service %s" % name)
        shown = examples.pop(name)
        name, text = page(service, schema, shown if isinstance(shown, list) else [shown])
        with open(os.path.join(out, name.lower() + ".md"), "w", encoding="utf-8") as file:
            file.write(text)
        first = re.split(r"(?<=[.])\s", schema["service"][service]["text"])[0]
        index.append("| [%s](%s.md) | %d | %s |" % (name, name.lower(), len(schema["service"][service]["rows"]), cell(first)))
    if examples:
        raise SystemExit("docs/api/examples.json has examples for services that are not there: %s" % ", ".join(examples))
    with open(os.path.join(out, "index.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(index) + "\n")
    os.utime(out)  # the build goes by the folder's time


if __name__ == "__main__":
    main()
