/* SPDX-License-Identifier: Apache-2.0 */
/**
 * label.h - what replicas keep of their repository's record, so that a metadata store that was lost can be made anew:
 * virtual storage, path, policies. The record is the truth; labels follow it.
 */
#ifndef GSI_ROUTER_LABEL_H
#define GSI_ROUTER_LABEL_H

#include "router/router.h"

#include "gitstead/v1/node.pb-c.h"

/** Has the label on @storage say what the repository's record says. A storage that keeps none, and a repository that is
 *  gone, are well. */
gboolean gsi_label_write (GsiRouter *router, GsCall *call, const GsiStorage *storage, guint64 id, GError **error);
/** On all its replicas, within moments; those that cannot be reached are looked at later. */
void gsi_label_spread (GsiRouter *router, guint64 id);
/** Asks the replica @repo a question that stays inside of the server (node.proto). NULL with @error; the reply is in @arena. */
const ProtobufCMessage *gsi_replica_ask (const GsiStorage *storage, GsCall *call, const GsRepo *repo, guint32 method,
                                         const ProtobufCMessage *request, const ProtobufCMessageDescriptor *reply,
                                         GsArena *arena, GError **error);

#endif
