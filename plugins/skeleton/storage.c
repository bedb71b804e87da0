/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storage/@NAME@: hands every call on to another storage instance, its need "inner".
 *
 * It is whole as it stands. Replace one slot after the other by your own, until there is nothing left to hand on; what each
 * slot promises stands in gitstead/storage.h. In the configuration "inner: NAME" names the instance behind it.
 */
#include <gitstead/storage.h>

typedef struct
{
  const GsHost *host;
  GsInstance inner; /* from start to stop */
} Self;

static const GsStorageOps *
inner_ops (const Self *self)
{
  return self->inner.ops;
}

static gboolean
my_create (gpointer data, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->create == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->create (self->inner.self, call, repo, spec, error);
}

static gboolean
my_remove (gpointer data, GsCall *call, const GsRepo *repo, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->remove == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->remove (self->inner.self, call, repo, error);
}

static gboolean
my_exists (gpointer data, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->exists == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->exists (self->inner.self, call, repo, ret_exists, error);
}

static gboolean
my_list (gpointer data, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->list == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->list (self->inner.self, call, visit, user, error);
}

static gboolean
my_measure (gpointer data, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->measure == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->measure (self->inner.self, call, repo, ret_size, error);
}

static gboolean
my_state (gpointer data, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->state == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->state (self->inner.self, call, repo, ret_state, error);
}

static gboolean
my_list_refs (gpointer data, GsCall *call, const GsRepo *repo, const GsRefQuery *query,
              GsRefVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->list_refs == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->list_refs (self->inner.self, call, repo, query, visit, user, error);
}

static gboolean
my_find_ref (gpointer data, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit,
             gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->find_ref == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->find_ref (self->inner.self, call, repo, name, visit, user, error);
}

static gboolean
my_stage (gpointer data, GsCall *call, const GsRepo *repo, const GsChangeSet *change,
          gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->stage == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->stage (self->inner.self, call, repo, change, ret_txn, ret_vote, error);
}

static gboolean
my_stage_push (gpointer data, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
               gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->stage_push == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->stage_push (self->inner.self, call, repo, push, stream, ret_txn, ret_vote, error);
}

static gboolean
my_commit (gpointer data, GsCall *call, gpointer txn, const GsDecision *decision, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->commit == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->commit (self->inner.self, call, txn, decision, error);
}

static void
my_abort (gpointer data, GsCall *call, gpointer txn, const GError *why)
{
  Self *self = data;
  inner_ops (self)->abort (self->inner.self, call, txn, why);
}

static gboolean
my_pending (gpointer data, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->pending == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->pending (self->inner.self, call, visit, user, error);
}

static gboolean
my_resolve (gpointer data, GsCall *call, const GsRepo *repo, const GsTxId *txid,
            const GsDecision *decision, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->resolve == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->resolve (self->inner.self, call, repo, txid, decision, error);
}

static gboolean
my_maintain (gpointer data, GsCall *call, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->maintain == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->maintain (self->inner.self, call, error);
}

static gboolean
my_advertise (gpointer data, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
              GBytes **ret_bytes, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->advertise == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->advertise (self->inner.self, call, repo, service, protocol, ret_bytes, error);
}

static gboolean
my_upload_pack (gpointer data, GsCall *call, const GsRepo *repo, const char *protocol,
                gboolean stateless, GsStream *stream, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->upload_pack == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->upload_pack (self->inner.self, call, repo, protocol, stateless, stream, error);
}

static gboolean
my_resolve_revision (gpointer data, GsCall *call, const GsRepo *repo, const char *revision,
                     gsize revision_len, GsObject *ret_object, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->resolve_revision == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->resolve_revision (self->inner.self, call, repo, revision, revision_len, ret_object, error);
}

static gboolean
my_read_object (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes,
                GsObject *ret_object, GBytes **ret_bytes, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->read_object == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->read_object (self->inner.self, call, repo, oid, max_bytes, ret_object, ret_bytes, error);
}

static gboolean
my_stream_object (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream,
                  GError **error)
{
  Self *self = data;
  if (inner_ops (self)->stream_object == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->stream_object (self->inner.self, call, repo, oid, stream, error);
}

static gboolean
my_list_tree (gpointer data, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit,
              gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->list_tree == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->list_tree (self->inner.self, call, repo, tree, visit, user, error);
}

static gboolean
my_query (gpointer data, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->query == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->query (self->inner.self, call, repo, query, ret_reply, error);
}

static gboolean
my_compute (gpointer data, GsCall *call, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
            GError **error)
{
  Self *self = data;
  if (inner_ops (self)->compute == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the storage behind @NAME@ cannot do that");
  return inner_ops (self)->compute (self->inner.self, call, repo, query, ret_computed, error);
}

/* Only what compute gave comes here, so there is one behind it. */
static void
my_computed_free (gpointer data, GsComputed *computed)
{
  Self *self = data;
  inner_ops (self)->computed_free (self->inner.self, computed);
}

static const GsStorageOps ops = {
  .create = my_create,
  .remove = my_remove,
  .exists = my_exists,
  .list = my_list,
  .measure = my_measure,
  .state = my_state,
  .list_refs = my_list_refs,
  .find_ref = my_find_ref,
  .stage = my_stage,
  .stage_push = my_stage_push,
  .commit = my_commit,
  .abort = my_abort,
  .pending = my_pending,
  .resolve = my_resolve,
  .maintain = my_maintain,
  .advertise = my_advertise,
  .upload_pack = my_upload_pack,
  .resolve_revision = my_resolve_revision,
  .read_object = my_read_object,
  .stream_object = my_stream_object,
  .list_tree = my_list_tree,
  .query = my_query,
  .compute = my_compute,
  .computed_free = my_computed_free,
};

static gpointer
new_instance (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  self->host = host;
  return self;
}

static gboolean
start (gpointer data, GError **error)
{
  Self *self = data;
  if (self->host->need (self->host, "inner", &self->inner))
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: there is no instance behind it", self->host->instance);
}

static const GsNeed needs[] = { { "inner", GS_KIND_STORAGE, 0 }, { NULL, 0, 0 } };

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Hands on to another storage", .license = "Apache-2.0", .ops = &ops, .create = new_instance,
                  .needs = needs, .start = start, .destroy = g_free)
