/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Git service on one replica: git's own wire. */
#include "gitstead/v1/git.pb-c.h"
#include "node/names.h"
#include "rpc/rpc.h"

/* Longest Git-Protocol value that is passed on; git's own are a few dozen bytes. */
#define PROTOCOL_MAX 256

/* The protocol value ends up in a child's environment: plain visible ASCII, and short. */
static gboolean
check_protocol (const char *protocol, GError **error)
{
  gsize len = strlen (protocol);
  for (gsize i = 0; i < len; i++)
    if (!g_ascii_isgraph (protocol[i]))
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "protocol: only visible ASCII characters are taken");
  if (len > PROTOCOL_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "protocol: %" G_GSIZE_FORMAT " bytes, at most %d are taken",
                    len, PROTOCOL_MAX);
  return TRUE;
}

/* The cache key of an advertisement: it names the refs by their digest, so it is never stale. */
static GBytes *
advertisement_key (const GsiReplica *replica, const GsReplicaState *state, guint32 service, const char *protocol)
{
  GByteArray *key = g_byte_array_new ();
  guint64 id = GUINT64_TO_BE (replica->repo.id);
  g_byte_array_append (key, (const guint8 *) "adv1", 4);
  g_byte_array_append (key, (const guint8 *) &id, sizeof id);
  g_byte_array_append (key, state->refs_digest.bytes, sizeof state->refs_digest.bytes);
  g_byte_array_append (key, (const guint8 *) (service == GS_SERVICE_UPLOAD_PACK ? "u" : "r"), 1);
  g_byte_array_append (key, (const guint8 *) protocol, (guint) strlen (protocol));
  return g_byte_array_free_to_bytes (key);
}

/* The advertisement, from the cache where it is there. Only kept when the refs stood still while it was made. */
static GBytes *
advertisement (const GsiReplica *replica, GsiCall *call, guint32 service, const char *protocol, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  gpointer storage = replica->storage->self;
  GsReplicaState before = { sizeof before }, after = { sizeof after };
  g_autoptr (GBytes) key = NULL;
  g_autoptr (GBytes) bytes = NULL;

  if (!ops->state (storage, &call->base, &replica->repo, &before, error))
    return NULL;
  key = advertisement_key (replica, &before, service, protocol);
  if (replica->cache->lookup (replica->cache_self, &call->base, key, &bytes, NULL) && bytes != NULL)
    return g_steal_pointer (&bytes);
  if (!ops->advertise (storage, &call->base, &replica->repo, service, protocol, &bytes, error))
    return NULL;
  if (ops->state (storage, &call->base, &replica->repo, &after, NULL)
      && memcmp (&before.refs_digest, &after.refs_digest, sizeof before.refs_digest) == 0)
    replica->cache->store (replica->cache_self, &call->base, key, bytes, 0, NULL);
  return g_steal_pointer (&bytes);
}

gboolean
gsi_node_git_advertise (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__GitAdvertiseRequest *request = (const void *) call->request;
  Gitstead__V1__GitAdvertiseReply reply = GITSTEAD__V1__GIT_ADVERTISE_REPLY__INIT;
  g_autoptr (GBytes) bytes = NULL;
  guint32 service;

  if (request->service == GITSTEAD__V1__GIT_SERVICE_KIND__GIT_UPLOAD_PACK)
    service = GS_SERVICE_UPLOAD_PACK;
  else if (request->service == GITSTEAD__V1__GIT_SERVICE_KIND__GIT_RECEIVE_PACK)
    service = GS_SERVICE_RECEIVE_PACK;
  else
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "service: must be GIT_UPLOAD_PACK or GIT_RECEIVE_PACK");
  /* Whoever asks what to push to is about to push: refused here, a client can still ask its user for a token. */
  if (service == GS_SERVICE_RECEIVE_PACK && !gsi_call_authorize (call, GS_SCOPE_WRITE, call->path, error))
    return FALSE;
  if (!check_protocol (request->protocol, error))
    return FALSE;
  if (replica->storage->ops->advertise == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' does not serve git clients", replica->storage->name);
  bytes = advertisement (replica, call, service, request->protocol, error);
  if (bytes == NULL || !call->stream->send_all (call->stream, bytes, error))
    return FALSE;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_node_git_upload_pack (const GsiReplica *replica, GsiCall *call, GError **error)
{
  const Gitstead__V1__GitUploadPackRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  Gitstead__V1__GitUploadPackReply reply = GITSTEAD__V1__GIT_UPLOAD_PACK_REPLY__INIT;

  if (!check_protocol (request->protocol, error))
    return FALSE;
  if (ops->upload_pack == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' does not serve git clients", replica->storage->name);
  if (!ops->upload_pack (replica->storage->self, &call->base, &replica->repo, request->protocol, request->stateless,
                         call->stream, error))
    return FALSE;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_node_git_stage_push (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                         const GsVote **ret_vote, GError **error)
{
  const Gitstead__V1__GitReceivePackRequest *request = (const void *) call->request;
  const GsStorageOps *ops = replica->storage->ops;
  GsPush push = { sizeof push, *txid, request->protocol, request->stateless, 0, replica->asks_hooks };

  if (!check_protocol (request->protocol, error))
    return FALSE;
  if (ops->stage_push == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' does not take pushes", replica->storage->name);
  return ops->stage_push (replica->storage->self, &call->base, &replica->repo, &push, call->stream, ret_txn, ret_vote,
                          error);
}

gboolean
gsi_node_push_is_session (const GsiCall *call)
{
  const Gitstead__V1__GitReceivePackRequest *request = (const void *) call->request;
  return !request->stateless;
}

void
gsi_node_git_push_reply (GsiCall *call, const GsiReceipt *receipt)
{
  Gitstead__V1__GitReceivePackReply reply = GITSTEAD__V1__GIT_RECEIVE_PACK_REPLY__INIT;
  Gitstead__V1__Receipt message;
  if (receipt != NULL)
    {
      gsi_receipt_message (receipt, &message);
      reply.receipt = &message;
    }
  gsi_call_reply (call, &reply.base);
}
