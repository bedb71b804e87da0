#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the typed wrappers of all calls: generate-calls.py OUT.h FILE.proto...

One inline function for each method of each service, with the method's comment: libgitstead itself knows methods by name,
so a wrapper is nothing but types, and none of it is part of the library's ABI. Methods that only the processes of a cluster
may call have none.
"""
import os
import re
import sys

SERVICE = re.compile(r"^service (\w+?)(?:Service)? \{$")
RPC = re.compile(r"^rpc (\w+)\((\w+)\) returns \((\w+)\) \{$")
MESSAGE = re.compile(r"^message (\w+) \{")
PAGE = re.compile(r"^Page page = \d+")

HEAD = '''/* SPDX-License-Identifier: Apache-2.0 */
/**
 * gitstead-calls.h - every call of the API as a typed function. Made from the .proto files; docs/clients.md explains it.
 *
 * All of them:
 *   @call, @ret_reply and @error may be NULL. TRUE: *@ret_reply is *borrowed until @arena is freed*, which may be used for
 *   many calls. FALSE: @error says why, @ret_reply is untouched. Any number of threads may call at once, each with its
 *   own @call and @arena. What @request points to stays the caller's.
 * Those with a GsClientBulk: see gs_client_transfer.
 * Those called …_pages: see gs_client_pages; @visit gets replies of the type that the function of the same name without
 * _pages gives.
 */
#ifndef GITSTEAD_CALLS_H
#define GITSTEAD_CALLS_H

#include <gitstead-client.h>

%s

G_BEGIN_DECLS
'''

CALL = '''
/** %(comment)s */
static inline gboolean
%(function)s (GsClient *client, const %(request)s *request, GsClientCall *call, GsArena *arena, const %(reply)s **ret_reply,
    GError **error)
{
  ProtobufCMessage *reply = NULL;
  if (!gs_client_call (client, "%(method)s", &request->base, call, arena, ret_reply != NULL ? &reply : NULL, error))
    return FALSE;
  if (ret_reply != NULL)
    *ret_reply = (const %(reply)s *) reply;
  return TRUE;
}
'''

STREAM = '''
/** %(comment)s */
static inline gboolean
%(function)s (GsClient *client, const %(request)s *request, const GsClientBulk *bulk, GsClientCall *call, GsArena *arena,
    const %(reply)s **ret_reply, GError **error)
{
  ProtobufCMessage *reply = NULL;
  if (!gs_client_transfer (client, "%(method)s", &request->base, bulk, call, arena, ret_reply != NULL ? &reply : NULL, error))
    return FALSE;
  if (ret_reply != NULL)
    *ret_reply = (const %(reply)s *) reply;
  return TRUE;
}
'''

PAGES = '''
static inline gboolean
%(function)s_pages (GsClient *client, const %(request)s *request, GsClientCall *call, GsClientPage visit, gpointer user,
    GBytes **ret_token, GError **error)
{
  return gs_client_pages (client, "%(method)s", &request->base, call, visit, user, ret_token, error);
}
'''


def words(name):
    """As protobuf-c splits names: GetMany -> get_many."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def read(path):
    """The methods: (service, name, request, reply, comment, options), and the messages that have a page."""
    methods, paged = [], set()
    service = message = method = None
    comment = []
    with open(path, encoding="utf-8") as file:
        for raw in file:
            line = raw.strip()
            if line.startswith("//"):
                comment.append(line[2:].strip())
                continue
            if SERVICE.match(line):
                service = SERVICE.match(line).group(1)
            elif RPC.match(line):
                method = [service, *RPC.match(line).groups(), " ".join(comment), ""]
                methods.append(method)
            elif MESSAGE.match(line):
                message = MESSAGE.match(line).group(1)
            elif PAGE.match(line):
                paged.add(message)
            elif line.startswith("option (rule)"):
                method[5] = line
            comment = []
    return methods, paged


def main():
    out, *protos = sys.argv[1:]
    methods, paged, used = [], set(), []
    for proto in sorted(protos):
        found, pages = read(proto)
        found = [method for method in found if "permission: CLUSTER" not in method[5]]
        if found:
            used.append(os.path.basename(proto).replace(".proto", ""))
        methods += found
        paged |= pages
    text = HEAD % "\n".join("#include <gitstead/v1/%s.pb-c.h>" % name for name in used)
    for service, name, request, reply, comment, rule in methods:
        if not rule:
            sys.exit("%s/%s has no rule" % (service, name))
        values = {"method": "%s/%s" % (service, name), "function": "gs_%s_%s" % (words(service).lower(), words(name).lower()),
                  "request": "Gitstead__V1__" + request, "reply": "Gitstead__V1__" + reply,
                  "comment": comment.replace("*/", "* /")}
        streams = "bytes_in: true" in rule or "bytes_out: true" in rule
        text += (STREAM if streams else CALL) % values
        if request in paged and not streams:
            text += PAGES % values
    text += "\nG_END_DECLS\n\n#endif\n"
    with open(out, "w", encoding="utf-8") as file:
        file.write(text)


main()
