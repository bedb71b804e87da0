/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas copied from and to the node, and read through there. See remote.h. */
#include "remote.h"

#define HAVES_MAX 20000
#define REPLY_ARENA 65536

gboolean
remote_export (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves, GsStream *stream,
               GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeExportRequest request = GITSTEAD__V1__NODE_EXPORT_REQUEST__INIT;
  g_autofree ProtobufCBinaryData *ids = g_new (ProtobufCBinaryData, MIN (n_haves, HAVES_MAX) + 1);
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  if (!remote_has_slot (self, SLOT_EXPORT, "copy replicas", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  for (; request.n_haves < MIN (n_haves, HAVES_MAX); request.n_haves++)
    ids[request.n_haves] = remote_oid (&haves[request.n_haves]);
  request.haves = ids;
  flow = flow_open (self, call, 1027, &request.base, error);
  return flow != NULL && flow_to_stream (flow, stream, error);
}

/* The node says nothing until it has taken all in. */
static gboolean
send_copy (Flow *flow, GsStream *stream, GError **error)
{
  Carrier carrier;
  guint8 byte;
  gssize n;
  if (!carrier_begin (&carrier, flow, stream, error))
    return FALSE;
  n = flow_read (flow, &byte, sizeof byte, error);
  if (n != 0)
    gs_client_stream_cancel (flow->stream);
  carrier_end (&carrier);
  if (n > 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "%s: the node's answer makes no sense", flow->self->host->instance);
  return n == 0 && flow_finish (flow, error);
}

gboolean
remote_import (gpointer data, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream,
               GsReplicaState *ret_state, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeImportRequest request = GITSTEAD__V1__NODE_IMPORT_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  GsReplicaState state = { .size = sizeof state };
  const Gitstead__V1__NodeStateReply *reply;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  const guint8 *bytes;
  gsize len;
  if (!remote_has_slot (self, SLOT_IMPORT, "take copies of replicas in", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.replace = (flags & GS_IMPORT_REPLACE) != 0;
  request.keep = (flags & GS_IMPORT_KEEP) != 0;
  flow = flow_open (self, call, 1028, &request.base, error);
  if (flow == NULL || !send_copy (flow, stream, error))
    return FALSE;
  bytes = g_bytes_get_data (flow->reply, &len);
  reply = (gpointer) gs_wire_decode (arena, &gitstead__v1__node_state_reply__descriptor, bytes, len, error);
  if (reply == NULL
      || !remote_read_exactly (self, &reply->refs_digest, state.refs_digest.bytes, GS_DIGEST_SIZE, error))
    return FALSE;
  state.repository_id = reply->repository_id;
  state.generation = reply->generation;
  state.format = (GsObjectFormat) reply->format;
  *ret_state = state;
  return TRUE;
}

gboolean
remote_scrub (gpointer data, GsCall *call, const GsRepo *repo, guint64 bytes_per_second, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeScrubRequest request = GITSTEAD__V1__NODE_SCRUB_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  if (!remote_has_slot (self, SLOT_SCRUB, "read replicas through", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.bytes_per_second = bytes_per_second;
  flow = flow_open (self, call, 1029, &request.base, error);
  return flow != NULL && flow_finish (flow, error);
}
