/* SPDX-License-Identifier: Apache-2.0 */
/* The node's service: replicas, and all that only reads. */
#include "node/serve_private.h"

#define SMALL_OBJECT (512 * 1024)
#define PREFIXES_MAX 1000

/* ---------------------------------------------------------------------------------------- replicas */

gboolean
gsi_serve_create (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeCreateRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autofree char *branch = NULL;
  GsRepoSpec spec = { .size = sizeof spec };
  if (!gsi_serve_enter (serve, call, request->target, &in, error))
    return FALSE;
  if (request->format != GS_FORMAT_SHA1 && request->format != GS_FORMAT_SHA256)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "format: %u is no length of an object id", request->format);
  branch = gsi_serve_text (&request->default_branch, "default_branch", error);
  if (branch == NULL)
    return FALSE;
  spec.format = (GsObjectFormat) request->format;
  spec.default_branch = branch;
  return in.storage->ops->create (in.storage->self, &call->base, &in.repo, &spec, error);
}

gboolean
gsi_serve_remove (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && in.storage->ops->remove (in.storage->self, &call->base, &in.repo, error);
}

gboolean
gsi_serve_exists (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  Gitstead__V1__NodeExistsReply reply = GITSTEAD__V1__NODE_EXISTS_REPLY__INIT;
  g_auto (Inside) in = { 0 };
  gboolean exists = FALSE;
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !in.storage->ops->exists (in.storage->self, &call->base, &in.repo, &exists, error))
    return FALSE;
  reply.exists = exists;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
replica_visit (const GsRepo *repo, gpointer user)
{
  Gitstead__V1__NodeReplica message = GITSTEAD__V1__NODE_REPLICA__INIT;
  message.repository_id = repo->id;
  message.replica_path = gsi_serve_bytes (repo->replica_path, strlen (repo->replica_path));
  return gsi_serve_out_message (user, &message.base);
}

/* How a listing ended: the storage's word, then the stream's. */
static gboolean
close_listing (Outflow *out, gboolean listed, GError **error)
{
  return gsi_serve_out_close (out, listed ? error : NULL) && listed;
}

gboolean
gsi_serve_list (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  Outflow out;
  if (!gsi_serve_enter (serve, call, request->target, &in, error))
    return FALSE;
  gsi_serve_out_open (&out, call);
  return close_listing (&out, in.storage->ops->list (in.storage->self, &call->base, replica_visit, &out, error), error);
}

gboolean
gsi_serve_measure (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  Gitstead__V1__NodeMeasureReply reply = GITSTEAD__V1__NODE_MEASURE_REPLY__INIT;
  GsRepoSize size = { .size = sizeof size };
  g_auto (Inside) in = { 0 };
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !in.storage->ops->measure (in.storage->self, &call->base, &in.repo, &size, error))
    return FALSE;
  reply.total_bytes = size.total_bytes;
  reply.objects_bytes = size.objects_bytes;
  reply.refs_bytes = size.refs_bytes;
  reply.n_refs = size.n_refs;
  reply.n_packs = size.n_packs;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_serve_state (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  Gitstead__V1__NodeStateReply reply = GITSTEAD__V1__NODE_STATE_REPLY__INIT;
  GsReplicaState state = { .size = sizeof state };
  g_auto (Inside) in = { 0 };
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !in.storage->ops->state (in.storage->self, &call->base, &in.repo, &state, error))
    return FALSE;
  reply.repository_id = state.repository_id;
  reply.generation = state.generation;
  reply.refs_digest = gsi_serve_bytes (state.refs_digest.bytes, sizeof state.refs_digest.bytes);
  reply.format = (guint32) state.format;
  reply.writers = state.writers;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- refs */

static ProtobufCBinaryData
oid_bytes (const GsOid *oid)
{
  return gsi_serve_bytes (oid->raw, oid->len);
}

static void
ref_message (const GsRef *ref, Gitstead__V1__NodeRef *ret_message)
{
  gitstead__v1__node_ref__init (ret_message);
  ret_message->name = gsi_serve_bytes (ref->name, strlen (ref->name));
  ret_message->oid = oid_bytes (&ref->oid);
  ret_message->peeled = oid_bytes (&ref->peeled);
  if (ref->symref_target != NULL)
    ret_message->symref_target = gsi_serve_bytes (ref->symref_target, strlen (ref->symref_target));
}

typedef struct
{
  GsRefQuery query;
  GPtrArray *prefixes;
  char *after;
} Query;

static void
query_clear (Query *query)
{
  if (query->prefixes != NULL)
    g_ptr_array_unref (query->prefixes);
  g_free (query->after);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Query, query_clear)

static gboolean
read_query (const Gitstead__V1__NodeListRefsRequest *request, Query *ret_query, GError **error)
{
  if (request->n_prefixes > PREFIXES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "prefixes: at most %d are taken", PREFIXES_MAX);
  ret_query->prefixes = g_ptr_array_new_with_free_func (g_free);
  for (gsize i = 0; i < request->n_prefixes; i++)
    {
      char *prefix = gsi_serve_text (&request->prefixes[i], "prefixes", error);
      if (prefix == NULL)
        return FALSE;
      g_ptr_array_add (ret_query->prefixes, prefix);
    }
  g_ptr_array_add (ret_query->prefixes, NULL);
  ret_query->after = gsi_serve_text (&request->after, "after", error);
  if (ret_query->after == NULL)
    return FALSE;
  ret_query->query = (GsRefQuery) { .size = sizeof (GsRefQuery),
                                    .prefixes = (const char *const *) ret_query->prefixes->pdata,
                                    .after = ret_query->after[0] != '\0' ? ret_query->after : NULL,
                                    .limit = (gsize) request->limit,
                                    .include_head = request->include_head,
                                    .include_hidden = request->include_hidden };
  return TRUE;
}

typedef struct
{
  GPtrArray *refs; /* of a block: message, then its bytes */
  gsize bytes;
  gboolean too_many;
} Refs;

static gboolean
collect_ref (const GsRef *ref, gpointer user)
{
  Refs *refs = user;
  gsize name = strlen (ref->name), target = ref->symref_target != NULL ? strlen (ref->symref_target) : 0;
  gsize oids = sizeof (GsOid) * 2;
  Gitstead__V1__NodeRef *message;
  guint8 *at;
  refs->bytes += name + target + 90;
  refs->too_many = refs->bytes > GSI_SERVE_REPLY_BYTES;
  if (refs->too_many)
    return FALSE;
  message = g_malloc (sizeof *message + oids + name + target);
  ref_message (ref, message);
  at = (guint8 *) (message + 1);
  memcpy (at, &ref->oid, sizeof ref->oid);
  memcpy (at + sizeof (GsOid), &ref->peeled, sizeof ref->peeled);
  memcpy (at + oids, ref->name, name);
  memcpy (at + oids + name, ref->symref_target != NULL ? ref->symref_target : "", target);
  message->oid = oid_bytes ((const GsOid *) at);
  message->peeled = oid_bytes ((const GsOid *) (at + sizeof (GsOid)));
  message->name.data = at + oids;
  message->symref_target.data = at + oids + name;
  g_ptr_array_add (refs->refs, message);
  return TRUE;
}

gboolean
gsi_serve_list_refs (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeListRefsRequest *request = (const void *) call->request;
  Gitstead__V1__NodeListRefsReply reply = GITSTEAD__V1__NODE_LIST_REFS_REPLY__INIT;
  g_autoptr (GPtrArray) list = g_ptr_array_new_with_free_func (g_free);
  Refs refs = { list, 0, FALSE };
  g_auto (Inside) in = { 0 };
  g_auto (Query) query = { 0 };
  if (!gsi_serve_enter (serve, call, request->target, &in, error) || !read_query (request, &query, error)
      || !in.storage->ops->list_refs (in.storage->self, &call->base, &in.repo, &query.query, collect_ref, &refs, error))
    return FALSE;
  reply.too_many = refs.too_many;
  reply.refs = (Gitstead__V1__NodeRef **) list->pdata;
  reply.n_refs = refs.too_many ? 0 : list->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
stream_ref (const GsRef *ref, gpointer user)
{
  Gitstead__V1__NodeRef message;
  ref_message (ref, &message);
  return gsi_serve_out_message (user, &message.base);
}

gboolean
gsi_serve_stream_refs (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeListRefsRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_auto (Query) query = { 0 };
  Outflow out;
  if (!gsi_serve_enter (serve, call, request->target, &in, error) || !read_query (request, &query, error))
    return FALSE;
  gsi_serve_out_open (&out, call);
  return close_listing (&out,
                        in.storage->ops->list_refs (in.storage->self, &call->base, &in.repo, &query.query, stream_ref,
                                                    &out, error),
                        error);
}

static gboolean
reply_ref (const GsRef *ref, gpointer user)
{
  Gitstead__V1__NodeFindRefReply reply = GITSTEAD__V1__NODE_FIND_REF_REPLY__INIT;
  Gitstead__V1__NodeRef message;
  ref_message (ref, &message);
  reply.ref = &message;
  gsi_call_reply (user, &reply.base);
  return FALSE;
}

gboolean
gsi_serve_find_ref (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeFindRefRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autofree char *name = NULL;
  if (!gsi_serve_enter (serve, call, request->target, &in, error))
    return FALSE;
  name = gsi_serve_text (&request->name, "name", error);
  return name != NULL
         && in.storage->ops->find_ref (in.storage->self, &call->base, &in.repo, name, reply_ref, call, error);
}

/* -------------------------------------------------------------------------------------------- git */

gboolean
gsi_serve_advertise (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeGitRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autoptr (GBytes) bytes = NULL;
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && gsi_serve_has (&in, in.storage->ops->advertise != NULL, "serve git clients", error)
         && in.storage->ops->advertise (in.storage->self, &call->base, &in.repo, request->service, request->protocol,
                                        &bytes, error)
         && call->stream->send_all (call->stream, bytes, error);
}

gboolean
gsi_serve_upload_pack (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeGitRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && gsi_serve_has (&in, in.storage->ops->upload_pack != NULL, "serve git clients", error)
         && in.storage->ops->upload_pack (in.storage->self, &call->base, &in.repo, request->protocol,
                                          request->stateless, call->stream, error);
}

/* ----------------------------------------------------------------------------------------- objects */

static void
reply_object (GsiCall *call, const GsObject *object, GBytes *data)
{
  Gitstead__V1__NodeObjectReply reply = GITSTEAD__V1__NODE_OBJECT_REPLY__INIT;
  gsize len = 0;
  reply.oid = oid_bytes (&object->oid);
  reply.type = (Gitstead__V1__ObjectType) object->type;
  reply.object_bytes = object->object_bytes;
  reply.mode = object->mode;
  if (data != NULL)
    {
      const guint8 *bytes = g_bytes_get_data (data, &len);
      reply.data = gsi_serve_bytes (bytes, len);
    }
  gsi_call_reply (call, &reply.base);
}

gboolean
gsi_serve_resolve_revision (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRevisionRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autofree char *revision = NULL;
  GsObject object = { .size = sizeof object };
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->resolve_revision != NULL, "look up objects", error))
    return FALSE;
  revision = gsi_serve_text (&request->revision, "revision", error);
  if (revision == NULL
      || !in.storage->ops->resolve_revision (in.storage->self, &call->base, &in.repo, revision, request->revision.len,
                                             &object, error))
    return FALSE;
  reply_object (call, &object, NULL);
  return TRUE;
}

/* As bulk bytes, or in the reply where the method has none. */
gboolean
gsi_serve_read_object (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeObjectRequest *request = (const void *) call->request;
  guint64 limit = call->stream != NULL ? request->max_bytes : MIN (request->max_bytes, SMALL_OBJECT);
  g_auto (Inside) in = { 0 };
  g_autoptr (GBytes) bytes = NULL;
  GsObject object = { .size = sizeof object };
  GsOid oid;
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->read_object != NULL, "read objects", error)
      || !gsi_serve_oid (&request->oid, "oid", &oid, error)
      || !in.storage->ops->read_object (in.storage->self, &call->base, &in.repo, &oid, limit, &object, &bytes, error)
      || (call->stream != NULL && !call->stream->send_all (call->stream, bytes, error)))
    return FALSE;
  reply_object (call, &object, call->stream != NULL ? NULL : bytes);
  return TRUE;
}

gboolean
gsi_serve_stream_object (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeObjectRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  GsOid oid;
  return gsi_serve_enter (serve, call, request->target, &in, error)
         && gsi_serve_has (&in, in.storage->ops->stream_object != NULL, "stream objects", error)
         && gsi_serve_oid (&request->oid, "oid", &oid, error)
         && in.storage->ops->stream_object (in.storage->self, &call->base, &in.repo, &oid, call->stream, error);
}

static gboolean
tree_visit (const GsTreeEntry *entry, gpointer user)
{
  Gitstead__V1__NodeTreeEntry message = GITSTEAD__V1__NODE_TREE_ENTRY__INIT;
  message.name = gsi_serve_bytes (entry->name, strlen (entry->name));
  message.mode = entry->mode;
  message.oid = oid_bytes (&entry->oid);
  message.type = (Gitstead__V1__ObjectType) entry->type;
  return gsi_serve_out_message (user, &message.base);
}

gboolean
gsi_serve_list_tree (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeObjectRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  Outflow out;
  GsOid oid;
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->list_tree != NULL, "list trees", error)
      || !gsi_serve_oid (&request->oid, "oid", &oid, error))
    return FALSE;
  gsi_serve_out_open (&out, call);
  return close_listing (
      &out, in.storage->ops->list_tree (in.storage->self, &call->base, &in.repo, &oid, tree_visit, &out, error), error);
}

/* ----------------------------------------------------------------------------------- the Git API */

gboolean
gsi_serve_query (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeQueryRequest *request = (const void *) call->request;
  Gitstead__V1__NodeQueryReply reply = GITSTEAD__V1__NODE_QUERY_REPLY__INIT;
  g_auto (Inside) in = { 0 };
  g_autoptr (GBytes) asked = g_bytes_new (request->request.data, request->request.len);
  g_autoptr (GBytes) bytes = NULL;
  GsQuery query = { sizeof query, request->method, asked, call->stream };
  gsize len;
  const guint8 *data;
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->query != NULL, "answer calls of the Git API", error)
      || !in.storage->ops->query (in.storage->self, &call->base, &in.repo, &query, &bytes, error))
    return FALSE;
  data = g_bytes_get_data (bytes, &len);
  reply.reply = gsi_serve_bytes (data, len);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static void
send_computed (Outflow *out, const GsComputed *computed)
{
  Gitstead__V1__NodeComputed message = GITSTEAD__V1__NODE_COMPUTED__INIT;
  gsize len;
  const guint8 *data = g_bytes_get_data (computed->reply, &len);
  message.atomic = computed->change.atomic;
  message.own_refs = computed->change.own_refs;
  message.reply = gsi_serve_bytes (data, len);
  message.count_updates = (guint32) computed->change.n_updates;
  message.has_pack = computed->change.pack != NULL;
  gsi_serve_out_message (out, &message.base);
  for (gsize i = 0; i < computed->change.n_updates; i++)
    {
      const GsRefUpdate *update = &computed->change.updates[i];
      Gitstead__V1__NodeUpdate one = GITSTEAD__V1__NODE_UPDATE__INIT;
      one.name = gsi_serve_bytes (update->name, strlen (update->name));
      one.old_oid = oid_bytes (&update->old_oid);
      one.new_oid = oid_bytes (&update->new_oid);
      if (update->new_symref != NULL)
        one.new_symref = gsi_serve_bytes (update->new_symref, strlen (update->new_symref));
      gsi_serve_out_message (out, &one.base);
    }
  if (computed->change.pack != NULL)
    {
      data = g_bytes_get_data (computed->change.pack, &len);
      gsi_serve_out_bytes (out, data, len);
    }
}

gboolean
gsi_serve_compute (gpointer serve, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeQueryRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autoptr (GBytes) asked = g_bytes_new (request->request.data, request->request.len);
  GsQuery query = { sizeof query, request->method, asked, request->has_stream ? call->stream : NULL };
  GsComputed *computed = NULL;
  Outflow out;
  gboolean sent;
  if (!gsi_serve_enter (serve, call, request->target, &in, error)
      || !gsi_serve_has (&in, in.storage->ops->compute != NULL, "compute writes of the Git API", error)
      || !in.storage->ops->compute (in.storage->self, &call->base, &in.repo, &query, &computed, error))
    return FALSE;
  gsi_serve_out_open (&out, call);
  send_computed (&out, computed);
  sent = gsi_serve_out_close (&out, error);
  in.storage->ops->computed_free (in.storage->self, computed);
  return sent;
}
