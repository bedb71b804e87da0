/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metadata/@NAME@: hands every call on to another metadata instance, its need "inner".
 *
 * It is whole as it stands. Replace one slot after the other by your own, until there is nothing left to hand on; what each
 * slot promises stands in gitstead/metadata.h. In the configuration "inner: NAME" names the instance behind it.
 */
#include <gitstead/metadata.h>

typedef struct
{
  const GsHost *host;
  GsInstance inner; /* from start to stop */
} Self;

static const GsMetadataOps *
inner_ops (const Self *self)
{
  return self->inner.ops;
}

static gboolean
my_migrate (gpointer data, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->migrate == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->migrate (self->inner.self, call, plan_only, ret_pending, error);
}

static gboolean
my_repo_reserve (gpointer data, GsCall *call, const char *virtual_storage, const char *path,
                 guint64 *ret_id, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_reserve == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_reserve (self->inner.self, call, virtual_storage, path, ret_id, error);
}

static gboolean
my_repo_record (gpointer data, GsCall *call, const GsRepoRow *row, const GsTxId *call_id,
                GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_record == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_record (self->inner.self, call, row, call_id, error);
}

static gboolean
my_repo_find (gpointer data, GsCall *call, const char *virtual_storage, const char *path,
              GsRepoRowVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_find == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_find (self->inner.self, call, virtual_storage, path, visit, user, error);
}

static gboolean
my_repo_get (gpointer data, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user,
             GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_get == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_get (self->inner.self, call, id, visit, user, error);
}

static gboolean
my_repo_list (gpointer data, GsCall *call, const char *virtual_storage, const char *prefix,
              const char *after, gsize limit, GsRepoRowVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_list == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_list (self->inner.self, call, virtual_storage, prefix, after, limit, visit, user, error);
}

static gboolean
my_repo_rename (gpointer data, GsCall *call, const char *virtual_storage, const char *path,
                const char *new_path, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_rename == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_rename (self->inner.self, call, virtual_storage, path, new_path, error);
}

static gboolean
my_repo_delete (gpointer data, GsCall *call, const char *virtual_storage, const char *path,
                GsRepoRowVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_delete == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_delete (self->inner.self, call, virtual_storage, path, visit, user, error);
}

static gboolean
my_repo_created_by (gpointer data, GsCall *call, const GsTxId *call_id, guint64 *ret_id,
                    GError **error)
{
  Self *self = data;
  if (inner_ops (self)->repo_created_by == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->repo_created_by (self->inner.self, call, call_id, ret_id, error);
}

static gboolean
my_decide (gpointer data, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation,
           GError **error)
{
  Self *self = data;
  if (inner_ops (self)->decide == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->decide (self->inner.self, call, request, ret_generation, error);
}

static gboolean
my_tx_find (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *txid,
            GsTxState *ret_state, GsChangeVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->tx_find == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->tx_find (self->inner.self, call, repository_id, txid, ret_state, visit, user, error);
}

static gboolean
my_tx_abort (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *txid,
             GsTxState *ret_state, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->tx_abort == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->tx_abort (self->inner.self, call, repository_id, txid, ret_state, error);
}

static gboolean
my_change_by_call (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *call_id,
                   GsChangeVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->change_by_call == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->change_by_call (self->inner.self, call, repository_id, call_id, visit, user, error);
}

static gboolean
my_change_list (gpointer data, GsCall *call, guint64 repository_id, guint64 after, gsize limit,
                GsChangeVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->change_list == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->change_list (self->inner.self, call, repository_id, after, limit, visit, user, error);
}

static gboolean
my_replica_set (gpointer data, GsCall *call, guint64 repository_id, const char *storage,
                guint64 generation, gboolean force, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->replica_set == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->replica_set (self->inner.self, call, repository_id, storage, generation, force, error);
}

static gboolean
my_token_put (gpointer data, GsCall *call, const GsTokenRow *row, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->token_put == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->token_put (self->inner.self, call, row, error);
}

static gboolean
my_token_get (gpointer data, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user,
              GError **error)
{
  Self *self = data;
  if (inner_ops (self)->token_get == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->token_get (self->inner.self, call, id, visit, user, error);
}

static gboolean
my_token_list (gpointer data, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->token_list == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->token_list (self->inner.self, call, visit, user, error);
}

static gboolean
my_token_delete (gpointer data, GsCall *call, const char *id, GError **error)
{
  Self *self = data;
  if (inner_ops (self)->token_delete == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata behind @NAME@ cannot do that");
  return inner_ops (self)->token_delete (self->inner.self, call, id, error);
}

static const GsMetadataOps ops = {
  .migrate = my_migrate,
  .repo_reserve = my_repo_reserve,
  .repo_record = my_repo_record,
  .repo_find = my_repo_find,
  .repo_get = my_repo_get,
  .repo_list = my_repo_list,
  .repo_rename = my_repo_rename,
  .repo_delete = my_repo_delete,
  .repo_created_by = my_repo_created_by,
  .decide = my_decide,
  .tx_find = my_tx_find,
  .tx_abort = my_tx_abort,
  .change_by_call = my_change_by_call,
  .change_list = my_change_list,
  .replica_set = my_replica_set,
  .token_put = my_token_put,
  .token_get = my_token_get,
  .token_list = my_token_list,
  .token_delete = my_token_delete,
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

static const GsNeed needs[] = { { "inner", GS_KIND_METADATA, 0 }, { NULL, 0, 0 } };

GS_PLUGIN_DEFINE (GsMetadataOps, .kind = GS_KIND_METADATA, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Hands on to another metadata", .license = "Apache-2.0", .ops = &ops, .create = new_instance,
                  .needs = needs, .start = start, .destroy = g_free)
