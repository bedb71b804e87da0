/* SPDX-License-Identifier: Apache-2.0 */
/* storage/memory: replicas, and the plugin itself. See memory.h. */
#include "memory.h"

/* ------------------------------------------------------------------------------------------ replicas */

void
memory_term (const char *name, const GsOid *oid, const char *symref, GsDigest *ret_term)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  char hex[GS_OID_HEX_MAX + 1] = "";
  gsize len = sizeof ret_term->bytes;
  if (symref == NULL)
    gs_oid_hex (oid, hex);
  g_checksum_update (sum, (const guchar *) name, (gssize) strlen (name) + 1);
  g_checksum_update (sum, (const guchar *) (symref != NULL ? "ref: " : ""), -1);
  g_checksum_update (sum, (const guchar *) (symref != NULL ? symref : hex), -1);
  g_checksum_update (sum, (const guchar *) "\n", 1);
  g_checksum_get_digest (sum, ret_term->bytes, &len);
}

int
memory_by_name (gconstpointer a, gconstpointer b, gpointer user)
{
  return strcmp (a, b);
}

static int
by_number (gconstpointer a, gconstpointer b, gpointer user)
{
  guint64 left = *(const guint64 *) a, right = *(const guint64 *) b;
  return left < right ? -1 : left > right;
}

static guint
txid_hash (gconstpointer key)
{
  guint hash;
  memcpy (&hash, key, sizeof hash);
  return hash;
}

static gboolean
txid_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, GS_TXID_SIZE) == 0;
}

static Replica *
replica_new (const GsRepo *repo, const GsRepoSpec *spec)
{
  Replica *replica = g_new0 (Replica, 1);
  replica->n_refs = 1;
  replica->id = repo->id;
  replica->path = g_strdup (repo->replica_path);
  replica->format = spec->format;
  replica->head = g_strdup (spec->default_branch);
  replica->refs = g_tree_new_full (memory_by_name, NULL, g_free, g_free);
  replica->claims = g_tree_new_full (memory_by_name, NULL, NULL, NULL);
  replica->open = g_hash_table_new (txid_hash, txid_equal);
  replica->ahead = g_tree_new_full (by_number, NULL, g_free, NULL);
  memory_term ("HEAD", NULL, replica->head, &replica->digest);
  return replica;
}

void
replica_unref (Replica *replica)
{
  if (--replica->n_refs > 0)
    return;
  g_free (replica->path);
  g_free (replica->head);
  g_tree_unref (replica->refs);
  g_tree_unref (replica->claims);
  g_hash_table_unref (replica->open);
  g_tree_unref (replica->ahead);
  g_free (replica);
}

Replica *
memory_find (Memory *self, const GsRepo *repo, GError **error)
{
  Replica *replica = g_hash_table_lookup (self->replicas, repo->replica_path);
  if (replica == NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no replica at %s", self->host->instance, repo->replica_path);
  else if (replica->id != repo->id)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "%s: the replica at %s belongs to repository %" G_GUINT64_FORMAT ", not to %" G_GUINT64_FORMAT,
               self->host->instance, repo->replica_path, replica->id, repo->id);
      replica = NULL;
    }
  return replica;
}

static gboolean
path_ok (const char *path)
{
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  for (gsize i = 0; parts[i] != NULL; i++)
    if (parts[i][0] == '\0' || strcmp (parts[i], ".") == 0 || strcmp (parts[i], "..") == 0)
      return FALSE;
  return parts[0] != NULL;
}

static gboolean
memory_create (gpointer data, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error)
{
  Memory *self = data;
  if (!gs_call_check (call, "creating a replica", error))
    return FALSE;
  if (repo->id == 0 || !path_ok (repo->replica_path))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "creating a replica: “%s” is no replica path, or the id is 0",
                    repo->replica_path);
  if (spec->format != GS_FORMAT_SHA1 && spec->format != GS_FORMAT_SHA256)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "creating a replica: %d is not an object format",
                    (int) spec->format);
  if (spec->default_branch == NULL || !g_str_has_prefix (spec->default_branch, "refs/heads/")
      || memory_name_fault (spec->default_branch) != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "creating a replica: the default branch must be a full ref name below refs/heads/");
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (g_hash_table_contains (self->replicas, repo->replica_path))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "%s: there is a replica at %s already", self->host->instance,
                    repo->replica_path);
  g_hash_table_insert (self->replicas, g_strdup (repo->replica_path), replica_new (repo, spec));
  return TRUE;
}

static gboolean
memory_remove (gpointer data, GsCall *call, const GsRepo *repo, GError **error)
{
  Memory *self = data;
  Replica *replica;
  if (!gs_call_check (call, "removing a replica", error))
    return FALSE;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica == NULL)
    return FALSE;
  replica->removed = TRUE;
  g_hash_table_remove (self->replicas, repo->replica_path);
  return TRUE;
}

static gboolean
memory_exists (gpointer data, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  Memory *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  *ret_exists = g_hash_table_contains (self->replicas, repo->replica_path);
  return TRUE;
}

static gboolean
memory_list (gpointer data, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  Memory *self = data;
  g_autoptr (GPtrArray) paths = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GArray) ids = g_array_new (FALSE, FALSE, sizeof (guint64));
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&self->lock);
  g_hash_table_iter_init (&iter, self->replicas);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      g_ptr_array_add (paths, g_strdup (((Replica *) value)->path));
      g_array_append_val (ids, ((Replica *) value)->id);
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < paths->len; i++)
    {
      GsRepo repo = { sizeof repo, g_array_index (ids, guint64, i), g_ptr_array_index (paths, i) };
      if (!gs_call_check (call, "listing replicas", error))
        return FALSE;
      if (!visit (&repo, user))
        break;
    }
  return TRUE;
}

static gboolean
measure_ref (gpointer name, gpointer oid, gpointer user)
{
  *(guint64 *) user += strlen (name) + 2 * ((GsOid *) oid)->len + 2;
  return FALSE;
}

static gboolean
memory_measure (gpointer data, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error)
{
  Memory *self = data;
  GsRepoSize size = { .size = sizeof size };
  Replica *replica;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica == NULL)
    return FALSE;
  g_tree_foreach (replica->refs, measure_ref, &size.refs_bytes);
  size.objects_bytes = replica->pack_bytes;
  size.total_bytes = size.objects_bytes + size.refs_bytes;
  size.n_refs = (guint64) g_tree_nnodes (replica->refs);
  size.n_packs = replica->n_packs;
  *ret_size = size;
  return TRUE;
}

static gboolean
memory_state (gpointer data, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  Memory *self = data;
  Replica *replica;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica == NULL)
    return FALSE;
  *ret_state = (GsReplicaState){ .size = sizeof *ret_state,
                                 .repository_id = replica->id,
                                 .generation = replica->generation,
                                 .refs_digest = replica->digest,
                                 .format = replica->format,
                                 .writers = g_hash_table_size (replica->open) };
  return TRUE;
}

static gboolean
memory_maintain (gpointer self, GsCall *call, GError **error)
{
  return gs_call_check (call, "maintaining replicas", error); /* there is no trash and nothing to pack */
}

/* ----------------------------------------------------------------------------------------- lifecycle */

static gpointer
memory_new (const GsHost *host, const GsConfig *config, GError **error)
{
  Memory *self = g_new0 (Memory, 1);
  self->host = host;
  self->replicas = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) replica_unref);
  gs_mutex_init (&self->lock);
  return self;
}

/* Writes that were staged and never finished go with the process, as they would in a crash. */
static void
drop_open (Memory *self)
{
  GHashTableIter iter, txns;
  gpointer replica, txn;
  g_hash_table_iter_init (&iter, self->replicas);
  while (g_hash_table_iter_next (&iter, NULL, &replica))
    {
      g_autoptr (GPtrArray) open = g_ptr_array_new ();
      g_hash_table_iter_init (&txns, ((Replica *) replica)->open);
      while (g_hash_table_iter_next (&txns, NULL, &txn))
        g_ptr_array_add (open, txn);
      for (guint i = 0; i < open->len; i++)
        txn_drop (g_ptr_array_index (open, i));
    }
}

static void
memory_destroy (gpointer data)
{
  Memory *self = data;
  drop_open (self);
  g_hash_table_unref (self->replicas);
  gs_mutex_clear (&self->lock);
  g_free (self);
}

static const GsStorageOps memory_ops = {
  .create = memory_create,
  .remove = memory_remove,
  .exists = memory_exists,
  .list = memory_list,
  .measure = memory_measure,
  .state = memory_state,
  .list_refs = memory_list_refs,
  .find_ref = memory_find_ref,
  .stage = memory_stage,
  .commit = memory_commit,
  .abort = memory_abort,
  .pending = memory_pending,
  .resolve = memory_resolve,
  .maintain = memory_maintain,
};

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "memory",
                  .version = "0.1.0", .summary = "Refs without objects, gone with the process: for tests",
                  .license = "Apache-2.0", .ops = &memory_ops, .create = memory_new, .destroy = memory_destroy)
