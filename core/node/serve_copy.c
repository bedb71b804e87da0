/* SPDX-License-Identifier: Apache-2.0 */
/* The node's service: replicas copied out and in, and read through. */
#include "node/serve_private.h"

gboolean
gsi_serve_export (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeExportRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autofree GsOid *haves = NULL;
  if (request->n_haves > GSI_SERVE_HAVES_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: more than %d haves", call->method->name, GSI_SERVE_HAVES_MAX);
  haves = g_new0 (GsOid, request->n_haves + 1);
  for (gsize i = 0; i < request->n_haves; i++)
    if (!gsi_serve_oid (&request->haves[i], "haves", &haves[i], error))
      return FALSE;
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && gsi_serve_has (&in, in.storage->ops->export_replica != NULL, "copy replicas", error)
         && in.storage->ops->export_replica (in.storage->self, &call->base, &in.repo, haves, request->n_haves,
                                             call->stream, error);
}

gboolean
gsi_serve_import (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeImportRequest *request = (const void *) call->request;
  Gitstead__V1__NodeStateReply reply = GITSTEAD__V1__NODE_STATE_REPLY__INIT;
  GsReplicaState state = { .size = sizeof state };
  g_auto (Inside) in = { 0 };
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->import_replica != NULL, "take copies of replicas in", error)
      || !in.storage->ops->import_replica (in.storage->self, &call->base, &in.repo,
                                           (request->replace ? GS_IMPORT_REPLACE : 0) | (request->keep ? GS_IMPORT_KEEP : 0),
                                           call->stream, &state, error))
    return FALSE;
  reply.repository_id = state.repository_id;
  reply.generation = state.generation;
  reply.refs_digest = gsi_serve_bytes (state.refs_digest.bytes, GS_DIGEST_SIZE);
  reply.format = (guint32) state.format;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_serve_scrub (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeScrubRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && gsi_serve_has (&in, in.storage->ops->scrub != NULL, "read replicas through", error)
         && in.storage->ops->scrub (in.storage->self, &call->base, &in.repo, request->bytes_per_second, error);
}
