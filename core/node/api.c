/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of the Git API that a storage carries out by itself: the methods whose rule in api/proto says `storage`. The
 * core knows their messages only by their descriptors, so that a new call needs no line here.
 */
#include "node/names.h"
#include "node/node.h"

/* What a reply may take once decoded, over its size on the wire. */
#define REPLY_BUDGET (64 * 1024 * 1024)

/* *full* with @query->request, which the caller gives back. */
static void
query_from_call (GsiCall *call, GsQuery *ret_query)
{
  *ret_query = (GsQuery) { sizeof *ret_query, call->method->number, gs_wire_encode (call->request), call->stream };
}

/* The storage's reply as a message of the method's reply type, in @arena. */
static ProtobufCMessage *
decode_reply (const GsiReplica *replica, GsiCall *call, GBytes *bytes, GsArena *arena, GError **error)
{
  g_autoptr (GError) why = NULL;
  gsize len;
  const guint8 *data = g_bytes_get_data (bytes, &len);
  ProtobufCMessage *reply = gs_wire_decode (arena, call->method->reply, data, len, &why);
  if (reply == NULL)
    gs_fail (error, GS_ERROR_INTERNAL, "storage '%s' answered %s with something else than its reply: %s",
             replica->storage->name, call->method->name, why->message);
  return reply;
}

/*
 * What a reply that is kept goes by: the repository, all its refs, the request. What it says of objects never changes, and
 * failures are not kept, so it is never stale.
 */
static GBytes *
reply_key (const GsiReplica *replica, const GsReplicaState *state, const GsQuery *query)
{
  const guint64 head[] = { GUINT64_TO_BE (replica->repo.id), GUINT64_TO_BE (query->method) };
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  GByteArray *key = g_byte_array_new ();
  guint8 digest[32];
  gsize len = sizeof digest, size;
  const guint8 *data = g_bytes_get_data (query->request, &size);
  g_checksum_update (sum, data, (gssize) size);
  g_checksum_get_digest (sum, digest, &len);
  g_byte_array_append (key, (const guint8 *) "qry1", 4);
  g_byte_array_append (key, (const guint8 *) head, sizeof head);
  g_byte_array_append (key, state->refs_digest.bytes, sizeof state->refs_digest.bytes);
  g_byte_array_append (key, digest, sizeof digest);
  return g_byte_array_free_to_bytes (key);
}

static gboolean
ask_storage (const GsiReplica *replica, GsiCall *call, const GsQuery *query, GBytes **ret_bytes, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  return ops->query (replica->storage->self, &call->base, &replica->repo, query, ret_bytes, error);
}

/* The reply, from the cache where it is there. Only kept when the refs stood still while it was made. */
static gboolean
ask_cached (const GsiReplica *replica, GsiCall *call, const GsQuery *query, GBytes **ret_bytes, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  gpointer storage = replica->storage->self;
  GsReplicaState before = { sizeof before }, after = { sizeof after };
  g_autoptr (GBytes) key = NULL;
  if (!ops->state (storage, &call->base, &replica->repo, &before, error))
    return FALSE;
  key = reply_key (replica, &before, query);
  if (replica->cache->lookup (replica->cache_self, &call->base, key, ret_bytes, NULL) && *ret_bytes != NULL)
    return TRUE;
  if (!ask_storage (replica, call, query, ret_bytes, error))
    return FALSE;
  if (ops->state (storage, &call->base, &replica->repo, &after, NULL)
      && memcmp (&before.refs_digest, &after.refs_digest, sizeof before.refs_digest) == 0)
    replica->cache->store (replica->cache_self, &call->base, key, *ret_bytes, 0, NULL);
  return TRUE;
}

static gboolean
query_bytes (const GsiReplica *replica, GsiCall *call, GBytes **ret_bytes, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  GsQuery query;
  gboolean ok;

  if (ops->query == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' does not know %s", replica->storage->name,
                    call->method->name);
  query_from_call (call, &query);
  ok = (call->method->cached ? ask_cached : ask_storage) (replica, call, &query, ret_bytes, error);
  g_bytes_unref (query.request);
  return ok;
}

gboolean
gsi_node_maintain (const GsiReplica *replica, GsiCall *call, GByteArray *replies, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  gsize len;
  if (!query_bytes (replica, call, &bytes, error))
    return FALSE;
  const guint8 *data = g_bytes_get_data (bytes, &len);
  if (len > 0)
    g_byte_array_append (replies, data, (guint) len);
  return TRUE;
}

gboolean
gsi_node_joined_reply (const GsiReplica *replica, GsiCall *call, GByteArray *replies, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GBytes) bytes = g_bytes_new (replies->data, replies->len);
  ProtobufCMessage *reply = decode_reply (replica, call, bytes, arena, error);
  if (reply == NULL)
    return FALSE;
  gsi_call_reply (call, reply);
  return TRUE;
}

gboolean
gsi_node_query (const GsiReplica *replica, GsiCall *call, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GBytes) bytes = NULL;
  ProtobufCMessage *reply;

  if (!query_bytes (replica, call, &bytes, error))
    return FALSE;
  reply = decode_reply (replica, call, bytes, arena, error);
  if (reply == NULL)
    return FALSE;
  gsi_call_reply (call, reply);
  return TRUE;
}

gboolean
gsi_node_compute (const GsiReplica *replica, GsiCall *call, GsComputed **ret_computed, GError **error)
{
  const GsStorageOps *ops = replica->storage->ops;
  GsQuery query;
  gboolean ok;
  if (ops->compute == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' does not know %s", replica->storage->name,
                    call->method->name);
  query_from_call (call, &query);
  ok = ops->compute (replica->storage->self, &call->base, &replica->repo, &query, ret_computed, error);
  g_bytes_unref (query.request);
  return ok;
}

/* @message is the memory that the receipt lives in. */
static void
set_receipt (ProtobufCMessage *reply, const GsiReceipt *receipt, Gitstead__V1__Receipt *message)
{
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (reply->descriptor, "receipt");
  if (field == NULL || field->descriptor != &gitstead__v1__receipt__descriptor)
    return;
  gsi_receipt_message (receipt, message);
  *(ProtobufCMessage **) ((guint8 *) reply + field->offset) = &message->base;
}

void
gsi_node_receipt_reply (GsiCall *call, const GsiReceipt *receipt)
{
  ProtobufCMessage *reply = g_malloc0 (call->method->reply->sizeof_message);
  Gitstead__V1__Receipt message;
  protobuf_c_message_init (call->method->reply, reply);
  set_receipt (reply, receipt, &message);
  gsi_call_reply (call, reply);
  g_free (reply);
}

gboolean
gsi_node_computed_reply (const GsiReplica *replica, GsiCall *call, const GsComputed *computed,
                         const GsiReceipt *receipt, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  ProtobufCMessage *reply = decode_reply (replica, call, computed->reply, arena, error);
  Gitstead__V1__Receipt message;
  if (reply == NULL)
    return FALSE;
  if (receipt != NULL)
    set_receipt (reply, receipt, &message);
  gsi_call_reply (call, reply);
  return TRUE;
}
