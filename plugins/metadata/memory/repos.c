/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories and their replicas: the slots that name, list and remove them. */
#include "memory.h"

/* --------------------------------------------------------------------------------------------- rows */

static void
replica_free (gpointer data)
{
  MemReplica *replica = data;
  g_free ((char *) replica->row.storage);
  g_free (replica);
}

/* With its own texts, without replicas. */
static MemRepo *
repo_new (const GsRepoRow *row)
{
  MemRepo *repo = g_new0 (MemRepo, 1);
  repo->row = *row;
  repo->row.size = sizeof repo->row;
  repo->row.virtual_storage = g_strdup (row->virtual_storage);
  repo->row.path = g_strdup (row->path);
  repo->row.replica_path = g_strdup (row->replica_path);
  repo->row.consistency = g_strdup (row->consistency != NULL ? row->consistency : "");
  repo->row.replicas = NULL;
  repo->row.n_replicas = 0;
  repo->replicas = g_ptr_array_new_with_free_func (replica_free);
  return repo;
}

void
mem_repo_free (gpointer data)
{
  MemRepo *repo = data;
  g_free ((char *) repo->row.virtual_storage);
  g_free ((char *) repo->row.path);
  g_free ((char *) repo->row.replica_path);
  g_free ((char *) repo->row.consistency);
  g_free (repo->path_key);
  g_ptr_array_unref (repo->replicas);
  g_free (repo);
}

/* What is shown: the row points to the copies of its replicas. */
static MemRepo *
repo_copy (const MemRepo *repo)
{
  MemRepo *copy = repo_new (&repo->row);
  for (guint i = 0; i < repo->replicas->len; i++)
    {
      MemReplica *replica = g_memdup2 (repo->replicas->pdata[i], sizeof *replica);
      replica->row.storage = g_strdup (replica->row.storage);
      g_ptr_array_add (copy->replicas, replica);
    }
  /* A replica begins with its row. */
  copy->row.replicas = (const GsReplicaRow *const *) copy->replicas->pdata;
  copy->row.n_replicas = copy->replicas->len;
  return copy;
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (MemRepo, mem_repo_free)

int
mem_repo_order (gconstpointer left, gconstpointer right, gpointer user)
{
  const MemRepo *a = left, *b = right;
  int order = strcmp (a->row.virtual_storage, b->row.virtual_storage);
  return order != 0 ? order : strcmp (a->row.path, b->row.path);
}

MemReplica *
mem_replica_of (MemRepo *repo, const char *storage)
{
  for (guint i = 0; i < repo->replicas->len; i++)
    if (strcmp (((MemReplica *) repo->replicas->pdata[i])->row.storage, storage) == 0)
      return repo->replicas->pdata[i];
  return NULL;
}

MemReplica *
mem_replica_add (MemRepo *repo, const char *storage)
{
  MemReplica *replica = g_new0 (MemReplica, 1);
  guint at = 0;
  replica->row.size = sizeof replica->row;
  replica->row.storage = g_strdup (storage);
  while (at < repo->replicas->len && strcmp (((MemReplica *) repo->replicas->pdata[at])->row.storage, storage) < 0)
    at++;
  g_ptr_array_insert (repo->replicas, (gint) at, replica);
  return replica;
}

/* ------------------------------------------------------------------------------------------ reading */

static char *
joined (const char *virtual_storage, const char *name)
{
  return g_strconcat (virtual_storage, "\n", name, NULL);
}

/* The lock is held. */
static MemRepo *
find (Mem *self, const char *virtual_storage, const char *path, GError **error)
{
  MemRepo probe = { .row = { .virtual_storage = virtual_storage, .path = path } };
  MemRepo *repo = g_tree_lookup (self->by_path, &probe);
  if (repo == NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository “%s” in virtual storage “%s”", path, virtual_storage);
  return repo;
}

MemRepo *
mem_repo_of (Mem *self, guint64 id)
{
  MemId *known = g_hash_table_lookup (self->ids, &id);
  return known != NULL ? known->repo : NULL;
}

gboolean
mem_repo_find (gpointer data, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
               gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (MemRepo) copy = NULL;
  MemRepo *repo;
  if (!mem_begin (call, "looking up a repository", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  repo = find (self, virtual_storage, path, error);
  if (repo != NULL)
    copy = repo_copy (repo);
  gs_mutex_unlock (&self->lock);
  if (copy == NULL)
    return FALSE;
  visit (&copy->row, user);
  return TRUE;
}

gboolean
mem_repo_get (gpointer data, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (MemRepo) copy = NULL;
  MemRepo *repo;
  if (!mem_begin (call, "looking up a repository", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  repo = mem_repo_of (self, id);
  if (repo != NULL)
    copy = repo_copy (repo);
  gs_mutex_unlock (&self->lock);
  if (copy == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository with the id %" G_GUINT64_FORMAT, id);
  visit (&copy->row, user);
  return TRUE;
}

gboolean
mem_repo_list (gpointer data, GsCall *call, const char *virtual_storage, const char *prefix, const char *after,
               gsize limit, GsRepoRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func (mem_repo_free);
  g_autofree char *first = NULL, *beyond = NULL;
  MemRepo probe = { .row = { .virtual_storage = virtual_storage } };

  if (!mem_begin (call, "listing repositories", error))
    return FALSE;
  sql_path_range (prefix != NULL ? prefix : "", after != NULL ? after : "", &first, &beyond);
  probe.row.path = first;
  gs_mutex_lock (&self->lock);
  for (GTreeNode *node = g_tree_lower_bound (self->by_path, &probe); node != NULL && rows->len < limit;
       node = g_tree_node_next (node))
    {
      const MemRepo *repo = g_tree_node_value (node);
      if (strcmp (repo->row.virtual_storage, virtual_storage) != 0 || strcmp (repo->row.path, beyond) >= 0)
        break;
      g_ptr_array_add (rows, repo_copy (repo));
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < rows->len; i++)
    if (!visit (&((MemRepo *) rows->pdata[i])->row, user))
      break;
  return TRUE;
}

static int
order_of_id (gconstpointer a, gconstpointer b)
{
  guint64 x = (*(MemRepo *const *) a)->row.id, y = (*(MemRepo *const *) b)->row.id;
  return (x > y) - (x < y);
}

/* @storage NULL: whatever their replicas. */
static gboolean
list_by_id (Mem *self, const char *storage, guint64 after, gsize limit, GsRepoRowVisit visit, gpointer user)
{
  g_autoptr (GPtrArray) found = g_ptr_array_new (), rows = g_ptr_array_new_with_free_func (mem_repo_free);
  gs_mutex_lock (&self->lock);
  for (GTreeNode *node = g_tree_node_first (self->by_path); node != NULL; node = g_tree_node_next (node))
    {
      MemRepo *repo = g_tree_node_value (node);
      if (repo->row.id > after && (storage == NULL || mem_replica_of (repo, storage) != NULL))
        g_ptr_array_add (found, repo);
    }
  g_ptr_array_sort (found, order_of_id);
  for (guint i = 0; i < found->len && i < limit; i++)
    g_ptr_array_add (rows, repo_copy (found->pdata[i]));
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < rows->len; i++)
    if (!visit (&((MemRepo *) rows->pdata[i])->row, user))
      break;
  return TRUE;
}

gboolean
mem_repo_list_all (gpointer self, GsCall *call, guint64 after, gsize limit, GsRepoRowVisit visit, gpointer user,
                   GError **error)
{
  return mem_begin (call, "listing repositories", error) && list_by_id (self, NULL, after, limit, visit, user);
}

gboolean
mem_repo_list_on (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit, GsRepoRowVisit visit,
                  gpointer user, GError **error)
{
  return mem_begin (call, "listing repositories", error) && list_by_id (self, storage, after, limit, visit, user);
}

gboolean
mem_repo_created_by (gpointer data, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  MemId *id = mem_txid_is_none (call_id) ? NULL : g_hash_table_lookup (self->created, call_id);
  if (!mem_begin (call, "looking up what a call created", error))
    return FALSE;
  *ret_id = id != NULL ? id->id : 0;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ writing */

/* Is the name, or one that differs from it in case or normal form only, that of another repository than @but? */
static gboolean
check_free (Mem *self, const char *virtual_storage, const char *path, const char *path_key, const MemRepo *but,
            GError **error)
{
  g_autofree char *key = joined (virtual_storage, path_key);
  const MemRepo *other = g_hash_table_lookup (self->by_key, key);
  if (other == NULL || other == but)
    return TRUE;
  if (strcmp (other->row.path, path) == 0)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "a repository “%s” exists already in virtual storage “%s”", path,
                    virtual_storage);
  return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                  "“%s” differs from the existing repository “%s” of virtual storage “%s” only in upper and lower case "
                  "or in how its letters are composed",
                  path, other->row.path, virtual_storage);
}

static gboolean
check_name (const char *what, const char *name, GError **error)
{
  if (name == NULL || *name == '\0' || !g_utf8_validate (name, -1, NULL) || strpbrk (name, "\r\n") != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a repository: the %s is empty or not plain text",
                    what);
  return TRUE;
}

gboolean
mem_repo_reserve (gpointer data, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                  GError **error)
{
  Mem *self = data;
  g_autofree char *key = NULL;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemId *id;
  if (!mem_begin (call, "reserving a repository id", error))
    return FALSE;
  if (!check_name ("virtual storage", virtual_storage, error) || !sql_path_check (path, error))
    return FALSE;
  key = sql_path_key (path);
  hold = gs_mutex_hold (&self->lock);
  if (!check_free (self, virtual_storage, path, key, NULL, error))
    return FALSE;
  id = g_new0 (MemId, 1);
  id->id = ++self->last_id;
  g_hash_table_insert (self->ids, &id->id, id);
  *ret_id = id->id;
  return TRUE;
}

static gboolean
check_row (const GsRepoRow *row, GError **error)
{
  if (!check_name ("virtual storage", row->virtual_storage, error) || !sql_path_check (row->path, error)
      || !check_name ("replica path", row->replica_path, error))
    return FALSE;
  if (!sql_policy_check (row->copies, row->consistency, error))
    return FALSE;
  if (row->id == 0 || row->id > (guint64) G_MAXINT64 || row->generation > (guint64) G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording repository “%s”: its id or generation is out of range",
                    row->path);
  if (row->format != GS_FORMAT_SHA1 && row->format != GS_FORMAT_SHA256)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording repository “%s”: %d is not an object format",
                    row->path, (int) row->format);
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      if (!check_name ("name of a replica's storage", row->replicas[i]->storage, error))
        return FALSE;
      if (row->replicas[i]->generation > row->generation)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                        "recording repository “%s”: the replica on “%s” is said to be further than the repository",
                        row->path, row->replicas[i]->storage);
      for (gsize k = 0; k < i; k++)
        if (strcmp (row->replicas[i]->storage, row->replicas[k]->storage) == 0)
          return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording repository “%s”: two replicas on storage “%s”",
                          row->path, row->replicas[i]->storage);
    }
  return TRUE;
}

/* An id can be recorded once, after it was reserved, and never again. NULL with @error. The lock is held. */
static MemId *
check_id (Mem *self, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  MemId *id = g_hash_table_lookup (self->ids, &row->id), *made;
  g_autofree char *replica = joined (row->virtual_storage, row->replica_path);
  const MemRepo *owner = g_hash_table_lookup (self->by_replica, replica);
  made = mem_txid_is_none (call_id) ? NULL : g_hash_table_lookup (self->created, call_id);
  if (id == NULL)
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
             "recording repository “%s”: the id %" G_GUINT64_FORMAT " was never reserved", row->path, row->id);
  else if (id->recorded)
    gs_fail (error, GS_ERROR_ALREADY_EXISTS,
             "recording repository “%s”: the id %" G_GUINT64_FORMAT " %s; ids are never used again", row->path, row->id,
             id->repo != NULL ? "is another repository's" : "was that of a deleted repository");
  else if (made != NULL)
    gs_fail (error, GS_ERROR_ALREADY_EXISTS,
             "recording repository “%s”: this call created repository %" G_GUINT64_FORMAT " before", row->path,
             made->id);
  else if (owner != NULL)
    gs_fail (error, GS_ERROR_ALREADY_EXISTS,
             "recording repository “%s”: the folder %s belongs to repository %" G_GUINT64_FORMAT, row->path,
             row->replica_path, owner->row.id);
  else
    return id;
  return NULL;
}

static MemId *
id_keep (Mem *self, guint64 number)
{
  MemId *id = g_hash_table_lookup (self->ids, &number);
  if (id != NULL)
    return id;
  id = g_new0 (MemId, 1);
  id->id = number;
  g_hash_table_insert (self->ids, &id->id, id);
  return id;
}

/* @restore: the id need not have been reserved here. */
static gboolean
record (Mem *self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, gboolean restore, GError **error)
{
  g_autofree char *key = NULL;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemRepo *repo;
  MemId *id;
  if (!mem_begin (call, "recording a repository", error))
    return FALSE;
  if (!check_row (row, error))
    return FALSE;
  key = sql_path_key (row->path);
  hold = gs_mutex_hold (&self->lock);
  if (!check_free (self, row->virtual_storage, row->path, key, NULL, error))
    return FALSE;
  if (restore)
    {
      id_keep (self, row->id);
      self->last_id = MAX (self->last_id, row->id);
    }
  if ((id = check_id (self, row, call_id, error)) == NULL)
    return FALSE;
  repo = repo_new (row);
  repo->path_key = g_steal_pointer (&key);
  if (repo->row.created_wall_us == 0)
    repo->row.created_wall_us = now_us;
  if (repo->row.changed_wall_us == 0)
    repo->row.changed_wall_us = repo->row.created_wall_us;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      MemReplica *replica = mem_replica_add (repo, row->replicas[i]->storage);
      replica->row.generation = row->replicas[i]->generation;
      replica->row.verified_wall_us = row->replicas[i]->verified_wall_us;
      replica->row.scrubbed_wall_us = row->replicas[i]->scrubbed_wall_us;
    }
  id->repo = repo;
  id->recorded = TRUE;
  g_tree_insert (self->by_path, repo, repo);
  g_hash_table_insert (self->by_key, joined (repo->row.virtual_storage, repo->path_key), repo);
  g_hash_table_insert (self->by_replica, joined (repo->row.virtual_storage, repo->row.replica_path), repo);
  if (!mem_txid_is_none (call_id))
    g_hash_table_insert (self->created, g_memdup2 (call_id, sizeof *call_id), id);
  return TRUE;
}

gboolean
mem_repo_record (gpointer data, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  return record (data, call, row, call_id, FALSE, error);
}

gboolean
mem_repo_restore (gpointer data, GsCall *call, const GsRepoRow *row, GError **error)
{
  static const GsTxId none;
  return record (data, call, row, &none, TRUE, error);
}

/* Takes the repository out of what finds it by name, and leaves its memory to the caller. */
static void
unname (Mem *self, MemRepo *repo)
{
  g_autofree char *key = joined (repo->row.virtual_storage, repo->path_key);
  g_hash_table_remove (self->by_key, key);
  g_tree_steal (self->by_path, repo);
}

gboolean
mem_repo_rename (gpointer data, GsCall *call, const char *virtual_storage, const char *path, const char *new_path,
                 GError **error)
{
  Mem *self = data;
  g_autofree char *key = NULL;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemRepo *repo;
  if (!mem_begin (call, "renaming a repository", error))
    return FALSE;
  if (!sql_path_check (new_path, error))
    return FALSE;
  key = sql_path_key (new_path);
  hold = gs_mutex_hold (&self->lock);
  repo = find (self, virtual_storage, path, error);
  /* A change of case only is a rename; to the very same name is none. */
  if (repo == NULL
      || !check_free (self, virtual_storage, new_path, key, strcmp (path, new_path) != 0 ? repo : NULL, error))
    return FALSE;
  unname (self, repo);
  g_free ((char *) repo->row.path);
  g_free (repo->path_key);
  repo->row.path = g_strdup (new_path);
  repo->path_key = g_steal_pointer (&key);
  g_tree_insert (self->by_path, repo, repo);
  g_hash_table_insert (self->by_key, joined (virtual_storage, repo->path_key), repo);
  return TRUE;
}

gboolean
mem_repo_delete (gpointer data, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
                 gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (MemRepo) gone = NULL, copy = NULL;
  if (!mem_begin (call, "deleting a repository", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  gone = find (self, virtual_storage, path, error);
  if (gone != NULL)
    {
      g_autofree char *replica = joined (gone->row.virtual_storage, gone->row.replica_path);
      MemId *id = g_hash_table_lookup (self->ids, &gone->row.id);
      unname (self, gone);
      g_hash_table_remove (self->by_replica, replica);
      id->repo = NULL;
      copy = repo_copy (gone);
    }
  gs_mutex_unlock (&self->lock);
  if (gone == NULL)
    return FALSE;
  if (visit != NULL)
    visit (&copy->row, user);
  return TRUE;
}

gboolean
mem_repo_set_policy (gpointer data, GsCall *call, guint64 id, guint32 copies, const char *consistency, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemRepo *repo;
  if (!mem_begin (call, "setting the policy of a repository", error) || !sql_policy_check (copies, consistency, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  repo = mem_repo_of (self, id);
  if (repo == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository with the id %" G_GUINT64_FORMAT, id);
  g_free ((char *) repo->row.consistency);
  repo->row.consistency = g_strdup (consistency != NULL ? consistency : "");
  repo->row.copies = copies;
  return TRUE;
}
