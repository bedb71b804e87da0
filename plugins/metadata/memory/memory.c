/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/memory: a metadata store for tests and throw-away servers. What it knows ends with the instance. */
#include "memory.h"

gboolean
mem_begin (const GsCall *call, const char *doing, GError **error)
{
  return call == NULL || gs_call_check (call, doing, error);
}

guint
mem_txid_hash (gconstpointer id)
{
  guint hash;
  memcpy (&hash, ((const GsTxId *) id)->bytes, sizeof hash); /* they are random */
  return hash;
}

gboolean
mem_txid_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, sizeof (GsTxId)) == 0;
}

gboolean
mem_txid_is_none (const GsTxId *id)
{
  static const GsTxId none;
  return id == NULL || mem_txid_equal (id, &none);
}

static void
id_free (gpointer data)
{
  MemId *id = data;
  g_clear_pointer (&id->changes, g_ptr_array_unref);
  g_clear_pointer (&id->by_call, g_hash_table_unref);
  g_free (id);
}

static gpointer
mem_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Mem *self = g_new0 (Mem, 1);
  self->host = host;
  gs_mutex_init (&self->lock);
  gs_cond_init (&self->hinted);
  /* Later than any id of an instance before this one, which cannot have given out four a microsecond for all its life:
   * the replicas that it left behind are not taken for ours. */
  self->last_id = 4 * (guint64) MAX (host->wall_us (host), 0);
  self->ids = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, id_free);
  self->by_path = g_tree_new_full (mem_repo_order, NULL, NULL, mem_repo_free);
  self->by_key = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  self->by_replica = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  self->created = g_hash_table_new_full (mem_txid_hash, mem_txid_equal, g_free, NULL);
  self->decided = g_hash_table_new (mem_txid_hash, mem_txid_equal);
  self->aborted = g_hash_table_new_full (mem_txid_hash, mem_txid_equal, g_free, g_free);
  self->tokens = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, mem_token_free);
  self->nodes = g_tree_new_full (mem_name_order, NULL, NULL, mem_node_free);
  self->jobs = g_tree_new_full (mem_job_order, NULL, NULL, mem_job_free);
  self->leases = g_tree_new_full (mem_name_order, NULL, NULL, mem_lease_free);
  self->n_hints = 1;
  return self;
}

static gboolean
mem_start (gpointer data, GError **error)
{
  const GsHost *host = ((Mem *) data)->host;
  host->log (host, GS_LOG_WARNING, "metadata.memory.volatile",
             (GsField[]){ GS_TEXT ("for", host->instance),
                          GS_TEXT ("hint", "repositories and tokens are forgotten when the server stops") },
             2);
  return TRUE;
}

static void
mem_destroy (gpointer data)
{
  Mem *self = data;
  g_tree_unref (self->leases);
  g_tree_unref (self->jobs);
  g_tree_unref (self->nodes);
  g_hash_table_unref (self->tokens);
  g_hash_table_unref (self->aborted);
  g_hash_table_unref (self->decided);
  g_hash_table_unref (self->created);
  g_hash_table_unref (self->by_replica);
  g_hash_table_unref (self->by_key);
  g_tree_unref (self->by_path);
  g_hash_table_unref (self->ids);
  gs_cond_clear (&self->hinted);
  gs_mutex_clear (&self->lock);
  g_free (self);
}

static gboolean
mem_migrate (gpointer self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error)
{
  *ret_pending = 0;
  return TRUE;
}

static const GsMetadataOps mem_ops = {
  .migrate = mem_migrate,
  .repo_reserve = mem_repo_reserve,
  .repo_record = mem_repo_record,
  .repo_find = mem_repo_find,
  .repo_get = mem_repo_get,
  .repo_list = mem_repo_list,
  .repo_rename = mem_repo_rename,
  .repo_delete = mem_repo_delete,
  .repo_created_by = mem_repo_created_by,
  .decide = mem_decide,
  .tx_find = mem_tx_find,
  .tx_abort = mem_tx_abort,
  .change_by_call = mem_change_by_call,
  .change_list = mem_change_list,
  .replica_set = mem_replica_set,
  .token_put = mem_token_put,
  .token_get = mem_token_get,
  .token_list = mem_token_list,
  .token_delete = mem_token_delete,
  .repo_set_policy = mem_repo_set_policy,
  .repo_list_all = mem_repo_list_all,
  .repo_list_on = mem_repo_list_on,
  .replica_drop = mem_replica_drop,
  .replica_verified = mem_replica_verified,
  .node_report = mem_node_report,
  .node_list = mem_node_list,
  .node_set_state = mem_node_set_state,
  .node_forget = mem_node_forget,
  .job_add = mem_job_add,
  .job_take = mem_job_take,
  .job_renew = mem_job_renew,
  .job_end = mem_job_end,
  .job_list = mem_job_list,
  .job_prune = mem_job_prune,
  .lease_take = mem_lease_take,
  .lease_renew = mem_lease_renew,
  .lease_release = mem_lease_release,
  .lease_list = mem_lease_list,
  .wait_hint = mem_wait_hint,
  .repo_restore = mem_repo_restore,
  .node_found = mem_node_found,
};

GS_PLUGIN_DEFINE (GsMetadataOps, .kind = GS_KIND_METADATA, .threads = GS_THREADS_PARALLEL, .name = "memory",
                  .version = "0.1.0", .summary = "Metadata in memory, for tests and throw-away servers",
                  .license = "Apache-2.0", .ops = &mem_ops, .create = mem_create, .start = mem_start,
                  .destroy = mem_destroy)
