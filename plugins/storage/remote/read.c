/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas, and all that only reads. See remote.h. */
#include "remote.h"

#define SMALL_ARENA (1024 * 1024)
#define REPLY_ARENA (32 * 1024 * 1024)
#define SMALL_OBJECT (512 * 1024)

#define CALL(self_, call_, method_, request_, flags_, type_, arena_, reply_, error_)                                   \
  remote_call ((self_), (call_), (method_), &(request_).base, (flags_), &gitstead__v1__##type_##__descriptor,          \
               (arena_), &(reply_), (error_))

/* ---------------------------------------------------------------------------------------- replicas */

gboolean
remote_create (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error)
{
  Gitstead__V1__NodeCreateRequest request = GITSTEAD__V1__NODE_CREATE_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.format = (guint32) spec->format;
  request.default_branch = remote_text (spec->default_branch);
  return remote_call (self, call, 1002, &request.base, 0, NULL, NULL, NULL, error);
}

/* A request that says no more than which replica. */
static gboolean
plain_call (Remote *self, GsCall *call, const GsRepo *repo, guint32 method, guint flags,
            const ProtobufCMessageDescriptor *type, GsArena *arena, gpointer ret_reply, GError **error)
{
  Gitstead__V1__NodeRequest request = GITSTEAD__V1__NODE_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  remote_target (self, call, repo, &target);
  request.target = &target;
  return remote_call (self, call, method, &request.base, flags, type, arena, ret_reply, error);
}

gboolean
remote_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error)
{
  return plain_call (self, call, repo, 1003, 0, NULL, NULL, NULL, error);
}

gboolean
remote_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  const Gitstead__V1__NodeExistsReply *reply;
  if (!plain_call (self, call, repo, 1004, CALL_AGAIN, &gitstead__v1__node_exists_reply__descriptor, arena, &reply,
                   error))
    return FALSE;
  *ret_exists = reply->exists;
  return TRUE;
}

gboolean
remote_list (gpointer data, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeRequest request = GITSTEAD__V1__NODE_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  remote_target (self, call, NULL, &target);
  request.target = &target;
  flow = flow_open (self, call, 1005, &request.base, error);
  if (flow == NULL)
    return FALSE;
  for (;;)
    {
      g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
      g_autofree char *path = NULL;
      const Gitstead__V1__NodeReplica *message;
      GsRepo repo = { .size = sizeof repo };
      if (!flow_message (flow, &gitstead__v1__node_replica__descriptor, arena, &message, error))
        return FALSE;
      if (message == NULL)
        return flow_finish (flow, error);
      path = remote_read_text (self, &message->replica_path, error);
      if (path == NULL)
        return FALSE;
      repo.id = message->repository_id;
      repo.replica_path = path;
      if (!visit (&repo, user))
        return TRUE;
    }
}

gboolean
remote_measure (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  const Gitstead__V1__NodeMeasureReply *reply;
  if (!plain_call (self, call, repo, 1006, CALL_AGAIN, &gitstead__v1__node_measure_reply__descriptor, arena, &reply,
                   error))
    return FALSE;
  *ret_size = (GsRepoSize) { .size = sizeof *ret_size,
                             .total_bytes = reply->total_bytes,
                             .objects_bytes = reply->objects_bytes,
                             .refs_bytes = reply->refs_bytes,
                             .n_refs = reply->n_refs,
                             .n_packs = reply->n_packs };
  return TRUE;
}

gboolean
remote_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  const Gitstead__V1__NodeStateReply *reply;
  GsReplicaState state = { .size = sizeof state };
  if (!plain_call (self, call, repo, 1007, CALL_AGAIN, &gitstead__v1__node_state_reply__descriptor, arena, &reply,
                   error)
      || !remote_read_exactly (self, &reply->refs_digest, state.refs_digest.bytes, GS_DIGEST_SIZE, error))
    return FALSE;
  state.repository_id = reply->repository_id;
  state.generation = reply->generation;
  state.format = (GsObjectFormat) reply->format;
  state.writers = reply->writers;
  *ret_state = state;
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- refs */

typedef struct
{
  GsRef ref;
  char *name, *target;
} ReadRef;

static void
read_ref_clear (ReadRef *ref)
{
  g_free (ref->name);
  g_free (ref->target);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ReadRef, read_ref_clear)

static gboolean
read_ref (Remote *self, const Gitstead__V1__NodeRef *message, ReadRef *ret_ref, GError **error)
{
  ret_ref->ref.size = sizeof ret_ref->ref;
  ret_ref->name = remote_read_text (self, &message->name, error);
  if (ret_ref->name == NULL
      || (message->symref_target.len > 0
          && (ret_ref->target = remote_read_text (self, &message->symref_target, error)) == NULL)
      || !remote_read_oid (self, &message->oid, &ret_ref->ref.oid, error)
      || !remote_read_oid (self, &message->peeled, &ret_ref->ref.peeled, error))
    return FALSE;
  ret_ref->ref.name = ret_ref->name;
  ret_ref->ref.symref_target = ret_ref->target;
  return TRUE;
}

/* *@ret_more FALSE: the visitor wants no more, or @message made no sense. */
static gboolean
visit_ref (Remote *self, const Gitstead__V1__NodeRef *message, GsRefVisit visit, gpointer user, gboolean *ret_more,
           GError **error)
{
  g_auto (ReadRef) ref = { 0 };
  *ret_more = FALSE;
  if (!read_ref (self, message, &ref, error))
    return FALSE;
  *ret_more = visit (&ref.ref, user);
  return TRUE;
}

static gboolean
stream_refs (Remote *self, GsCall *call, const ProtobufCMessage *request, GsRefVisit visit, gpointer user,
             GError **error)
{
  g_autoptr (Flow) flow = flow_open (self, call, 1009, request, error);
  gboolean more = TRUE;
  while (flow != NULL && more)
    {
      g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
      const Gitstead__V1__NodeRef *message;
      if (!flow_message (flow, &gitstead__v1__node_ref__descriptor, arena, &message, error))
        return FALSE;
      if (message == NULL)
        return flow_finish (flow, error);
      if (!visit_ref (self, message, visit, user, &more, error))
        return FALSE;
    }
  return flow != NULL;
}

gboolean
remote_list_refs (gpointer data, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                  gpointer user, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeListRefsRequest request = GITSTEAD__V1__NODE_LIST_REFS_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  g_autoptr (GArray) prefixes = g_array_new (FALSE, FALSE, sizeof (ProtobufCBinaryData));
  const Gitstead__V1__NodeListRefsReply *reply;
  Gitstead__V1__NodeTarget target;
  gboolean more = TRUE;
  remote_target (self, call, repo, &target);
  for (gsize i = 0; query->prefixes != NULL && query->prefixes[i] != NULL; i++)
    {
      ProtobufCBinaryData prefix = remote_text (query->prefixes[i]);
      g_array_append_val (prefixes, prefix);
    }
  request.target = &target;
  request.prefixes = (ProtobufCBinaryData *) prefixes->data;
  request.n_prefixes = prefixes->len;
  request.after = remote_text (query->after);
  request.limit = query->limit;
  request.include_head = query->include_head;
  request.include_hidden = query->include_hidden;
  if (!CALL (self, call, 1008, request, CALL_AGAIN, node_list_refs_reply, arena, reply, error))
    return FALSE;
  if (reply->too_many)
    return stream_refs (self, call, &request.base, visit, user, error);
  for (gsize i = 0; i < reply->n_refs && more; i++)
    if (!visit_ref (self, reply->refs[i], visit, user, &more, error))
      return FALSE;
  return TRUE;
}

gboolean
remote_find_ref (gpointer data, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit, gpointer user,
                 GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeFindRefRequest request = GITSTEAD__V1__NODE_FIND_REF_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  const Gitstead__V1__NodeFindRefReply *reply;
  Gitstead__V1__NodeRef none = GITSTEAD__V1__NODE_REF__INIT;
  Gitstead__V1__NodeTarget target;
  gboolean more;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.name = remote_text (name);
  return CALL (self, call, 1010, request, CALL_AGAIN, node_find_ref_reply, arena, reply, error)
         && visit_ref (self, reply->ref != NULL ? reply->ref : &none, visit, user, &more, error);
}

/* --------------------------------------------------------------------------------------------- git */

/* Does the storage behind have an optional slot? What is not known yet is tried. */
gboolean
remote_has_slot (Remote *self, guint32 slot, const char *what, GError **error)
{
  gboolean lacks;
  gs_mutex_lock (&self->lock);
  lacks = self->known && (self->slots & slot) == 0;
  gs_mutex_unlock (&self->lock);
  return !lacks
         || gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' at %s cannot %s", self->storage, self->url, what);
}

/* The rest of a stream, at most @max bytes. *full*. */
static GBytes *
flow_rest (Flow *flow, guint64 max, GError **error)
{
  g_autoptr (GByteArray) all = g_byte_array_new ();
  g_autofree guint8 *chunk = g_malloc (65536);
  gssize n;
  while ((n = flow_read (flow, chunk, 65536, error)) > 0)
    {
      if (all->len + (guint64) n > MIN (max, G_MAXINT32))
        {
          gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: an answer of more than %" G_GUINT64_FORMAT " bytes",
                   flow->self->host->instance, max);
          return NULL;
        }
      g_byte_array_append (all, chunk, (guint) n);
    }
  return n == 0 && flow_finish (flow, error) ? g_byte_array_free_to_bytes (g_steal_pointer (&all)) : NULL;
}

gboolean
remote_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
                  GBytes **ret_bytes, GError **error)
{
  Gitstead__V1__NodeGitRequest request = GITSTEAD__V1__NODE_GIT_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  GBytes *bytes;
  if (!remote_has_slot (self, SLOT_ADVERTISE, "serve git clients", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.service = service;
  request.protocol = (char *) protocol;
  flow = flow_open (self, call, 1017, &request.base, error);
  bytes = flow != NULL ? flow_rest (flow, G_MAXINT32, error) : NULL;
  if (bytes == NULL)
    return FALSE;
  *ret_bytes = bytes;
  return TRUE;
}

/* Both ways, until the node has said its last. */
static gboolean
carry (Flow *flow, GsStream *stream, GError **error)
{
  Carrier carrier;
  gboolean done;
  if (!carrier_begin (&carrier, flow, stream, error))
    return FALSE;
  done = flow_to_stream (flow, stream, error);
  if (!done)
    gs_client_stream_cancel (flow->stream);
  carrier_end (&carrier);
  return done;
}

gboolean
remote_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless,
                    GsStream *stream, GError **error)
{
  Gitstead__V1__NodeGitRequest request = GITSTEAD__V1__NODE_GIT_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  if (!remote_has_slot (self, SLOT_UPLOAD_PACK, "serve git clients", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.service = GS_SERVICE_UPLOAD_PACK;
  request.protocol = (char *) protocol;
  request.stateless = stateless;
  flow = flow_open (self, call, 1018, &request.base, error);
  return flow != NULL && carry (flow, stream, error);
}

/* ----------------------------------------------------------------------------------------- objects */

static gboolean
read_object_reply (Remote *self, const Gitstead__V1__NodeObjectReply *reply, GsObject *ret_object, GError **error)
{
  GsObject object = { .size = sizeof object };
  if (!remote_read_oid (self, &reply->oid, &object.oid, error))
    return FALSE;
  object.type = (GsObjectType) reply->type;
  object.object_bytes = reply->object_bytes;
  object.mode = reply->mode;
  *ret_object = object;
  return TRUE;
}

gboolean
remote_resolve_revision (gpointer data, GsCall *call, const GsRepo *repo, const char *revision, gsize revision_len,
                         GsObject *ret_object, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeRevisionRequest request = GITSTEAD__V1__NODE_REVISION_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  const Gitstead__V1__NodeObjectReply *reply;
  Gitstead__V1__NodeTarget target;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.revision = remote_bytes (revision, revision_len);
  return remote_has_slot (self, SLOT_RESOLVE, "look up objects", error)
         && CALL (self, call, 1019, request, CALL_AGAIN, node_object_reply, arena, reply, error)
         && read_object_reply (self, reply, ret_object, error);
}

static gboolean
read_streamed (Remote *self, GsCall *call, const ProtobufCMessage *request, guint64 max_bytes, GsObject *ret_object,
               GBytes **ret_bytes, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
  g_autoptr (Flow) flow = flow_open (self, call, 1020, request, error);
  g_autoptr (GBytes) bytes = flow != NULL ? flow_rest (flow, max_bytes, error) : NULL;
  const Gitstead__V1__NodeObjectReply *reply;
  const guint8 *data;
  gsize len;
  if (bytes == NULL)
    return FALSE;
  data = g_bytes_get_data (flow->reply, &len);
  reply = (gpointer) gs_wire_decode (arena, &gitstead__v1__node_object_reply__descriptor, data, len, error);
  if (reply == NULL || !read_object_reply (self, reply, ret_object, error))
    return FALSE;
  *ret_bytes = g_steal_pointer (&bytes);
  return TRUE;
}

gboolean
remote_read_object (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes,
                    GsObject *ret_object, GBytes **ret_bytes, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeObjectRequest request = GITSTEAD__V1__NODE_OBJECT_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  const Gitstead__V1__NodeObjectReply *reply;
  Gitstead__V1__NodeTarget target;
  if (!remote_has_slot (self, SLOT_READ, "read objects", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.oid = remote_oid (oid);
  request.max_bytes = max_bytes;
  if (max_bytes > SMALL_OBJECT)
    return read_streamed (self, call, &request.base, max_bytes, ret_object, ret_bytes, error);
  if (!CALL (self, call, 1021, request, CALL_AGAIN, node_object_reply, arena, reply, error)
      || !read_object_reply (self, reply, ret_object, error))
    return FALSE;
  *ret_bytes = g_bytes_new (reply->data.data, reply->data.len);
  return TRUE;
}

gboolean
remote_stream_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream,
                      GError **error)
{
  Gitstead__V1__NodeObjectRequest request = GITSTEAD__V1__NODE_OBJECT_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  if (!remote_has_slot (self, SLOT_STREAM, "stream objects", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.oid = remote_oid (oid);
  flow = flow_open (self, call, 1022, &request.base, error);
  return flow != NULL && flow_to_stream (flow, stream, error);
}

gboolean
remote_list_tree (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit, gpointer user,
                  GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeObjectRequest request = GITSTEAD__V1__NODE_OBJECT_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  if (!remote_has_slot (self, SLOT_TREE, "list trees", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.oid = remote_oid (tree);
  flow = flow_open (self, call, 1023, &request.base, error);
  while (flow != NULL)
    {
      g_autoptr (GsArena) arena = gs_arena_new (SMALL_ARENA);
      g_autofree char *name = NULL;
      const Gitstead__V1__NodeTreeEntry *message;
      GsTreeEntry entry = { .size = sizeof entry };
      if (!flow_message (flow, &gitstead__v1__node_tree_entry__descriptor, arena, &message, error))
        return FALSE;
      if (message == NULL)
        return flow_finish (flow, error);
      name = remote_read_text (self, &message->name, error);
      if (name == NULL || !remote_read_oid (self, &message->oid, &entry.oid, error))
        return FALSE;
      entry.name = name;
      entry.mode = message->mode;
      entry.type = (GsObjectType) message->type;
      if (!visit (&entry, user))
        return TRUE;
    }
  return FALSE;
}

/* ------------------------------------------------------------------------------------- the Git API */

static gboolean
take_reply (const Gitstead__V1__NodeQueryReply *reply, GBytes **ret_reply)
{
  *ret_reply = g_bytes_new (reply->reply.data, reply->reply.len);
  return TRUE;
}

static gboolean
stream_query (Remote *self, GsCall *call, const ProtobufCMessage *request, GsStream *stream, GBytes **ret_reply,
              GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  g_autoptr (Flow) flow = flow_open (self, call, 1025, request, error);
  const Gitstead__V1__NodeQueryReply *reply;
  const guint8 *data;
  gsize len;
  if (flow == NULL || !carry (flow, stream, error))
    return FALSE;
  data = g_bytes_get_data (flow->reply, &len);
  reply = (gpointer) gs_wire_decode (arena, &gitstead__v1__node_query_reply__descriptor, data, len, error);
  return reply != NULL && take_reply (reply, ret_reply);
}

gboolean
remote_query (gpointer data, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
              GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeQueryRequest request = GITSTEAD__V1__NODE_QUERY_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  const Gitstead__V1__NodeQueryReply *reply;
  Gitstead__V1__NodeTarget target;
  gsize len;
  const guint8 *bytes = g_bytes_get_data (query->request, &len);
  if (!remote_has_slot (self, SLOT_QUERY, "answer calls of the Git API", error))
    return FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.method = query->method;
  request.request = remote_bytes (bytes, len);
  if (query->stream != NULL)
    return stream_query (self, call, &request.base, query->stream, ret_reply, error);
  return CALL (self, call, 1024, request, CALL_AGAIN, node_query_reply, arena, reply, error)
         && take_reply (reply, ret_reply);
}
