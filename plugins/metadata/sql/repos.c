/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories and their replicas: the slots that name, list and remove them. */
#include "store.h"

/* ---------------------------------------------------------------------- rows, gathered before they are shown */

/* One repository with all that its row points to. */
typedef struct
{
  GsRepoRow row;
  GPtrArray *replicas; /* of GsReplicaRow, each with its own storage name */
} Held;

static void
replica_free (gpointer data)
{
  GsReplicaRow *replica = data;
  g_free ((char *) replica->storage);
  g_free (replica);
}

static void
held_free (gpointer data)
{
  Held *held = data;
  g_free ((char *) held->row.virtual_storage);
  g_free ((char *) held->row.path);
  g_free ((char *) held->row.replica_path);
  g_free ((char *) held->row.consistency);
  g_ptr_array_unref (held->replicas);
  g_free (held);
}

/* Columns as in the fragment REPO_COLUMNS. */
static Held *
held_new (SqlStatement *query, GError **error)
{
  Held *held = g_new0 (Held, 1);
  held->replicas = g_ptr_array_new_with_free_func (replica_free);
  held->row.size = sizeof held->row;
  held->row.id = (guint64) sql_int (query, 0);
  held->row.virtual_storage = g_strdup (sql_text (query, 1));
  held->row.path = g_strdup (sql_text (query, 2));
  held->row.replica_path = g_strdup (sql_text (query, 3));
  held->row.format = (GsObjectFormat) sql_int (query, 4);
  held->row.generation = (guint64) sql_int (query, 5);
  held->row.created_wall_us = sql_int (query, 7);
  held->row.changed_wall_us = sql_int (query, 8);
  held->row.copies = (guint32) sql_int (query, 13);
  held->row.consistency = g_strdup (sql_text (query, 14));
  if (!sql_blob (query, 6, held->row.refs_digest.bytes, GS_DIGEST_SIZE, error))
    {
      held_free (held);
      return NULL;
    }
  return held;
}

static void
held_add_replica (Held *held, SqlStatement *query)
{
  GsReplicaRow *replica;
  if (sql_is_null (query, 9))
    return; /* the outer join's row of a repository without replicas */
  replica = g_new0 (GsReplicaRow, 1);
  replica->size = sizeof *replica;
  replica->storage = g_strdup (sql_text (query, 9));
  replica->generation = (guint64) sql_int (query, 10);
  replica->verified_wall_us = sql_int (query, 11);
  replica->scrubbed_wall_us = sql_int (query, 12);
  g_ptr_array_add (held->replicas, replica);
  held->row.replicas = (const GsReplicaRow *const *) held->replicas->pdata;
  held->row.n_replicas = held->replicas->len;
}

/* Runs a query that yields one line per replica, in order of repository. *full*, NULL with @error. */
static GPtrArray *
gather (SqlStatement *query, GError **error)
{
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      guint64 id;
      Held *held = rows->len > 0 ? g_ptr_array_index (rows, rows->len - 1) : NULL;
      if (!sql_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&rows);
      id = (guint64) sql_int (query, 0);
      if (held == NULL || held->row.id != id)
        {
          held = held_new (query, error);
          if (held == NULL)
            {
              sql_done (query);
              return NULL;
            }
          g_ptr_array_add (rows, held);
        }
      held_add_replica (held, query);
    }
}

static void
show (GPtrArray *rows, GsRepoRowVisit visit, gpointer user)
{
  for (guint i = 0; i < rows->len; i++)
    if (!visit (&((Held *) g_ptr_array_index (rows, i))->row, user))
      return;
}

static gboolean
not_found (const char *virtual_storage, const char *path, GError **error)
{
  return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository “%s” in virtual storage “%s”", path,
                  virtual_storage);
}

/* ------------------------------------------------------------------------------------------ reading */

static GPtrArray *
find (SqlConn *conn, const char *virtual_storage, const char *path, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_REPO_FIND);
  g_autoptr (GPtrArray) rows = NULL;
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":path", path);
  rows = gather (&query, error);
  if (rows != NULL && rows->len == 0)
    {
      not_found (virtual_storage, path, error);
      return NULL;
    }
  return g_steal_pointer (&rows);
}

gboolean
sql_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
               gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  SqlConn *conn = sql_take_reader (self, call, "looking up a repository", error);
  if (conn == NULL)
    return FALSE;
  rows = find (conn, virtual_storage, path, error);
  sql_give (conn);
  if (rows == NULL)
    return FALSE;
  show (rows, visit, user);
  return TRUE;
}

gboolean
sql_repo_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  SqlConn *conn = sql_take_reader (self, call, "looking up a repository", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_REPO_GET);
  sql_bind_int (&query, ":id", (gint64) MIN (id, (guint64) G_MAXINT64));
  rows = gather (&query, error);
  sql_give (conn);
  if (rows == NULL)
    return FALSE;
  if (rows->len == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository with the id %" G_GUINT64_FORMAT, id);
  show (rows, visit, user);
  return TRUE;
}

gboolean
sql_repo_list (gpointer self, GsCall *call, const char *virtual_storage, const char *prefix, const char *after,
               gsize limit, GsRepoRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autofree char *first = NULL, *beyond = NULL;
  SqlConn *conn = sql_take_reader (self, call, "listing repositories", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  sql_path_range (prefix != NULL ? prefix : "", after != NULL ? after : "", &first, &beyond);
  query = sql_query (conn, SQL_REPO_LIST);
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":first", first);
  sql_bind_text (&query, ":beyond", beyond);
  sql_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  rows = gather (&query, error);
  sql_give (conn);
  if (rows == NULL)
    return FALSE;
  show (rows, visit, user);
  return TRUE;
}

/* Lists by id. @storage NULL: whatever their replicas. */
static gboolean
list_by_id (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit, GsRepoRowVisit visit,
            gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  SqlConn *conn = sql_take_reader (self, call, "listing repositories", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, storage != NULL ? SQL_REPO_LIST_ON : SQL_REPO_LIST_ALL);
  if (storage != NULL)
    sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":after", (gint64) MIN (after, (guint64) G_MAXINT64));
  sql_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  rows = gather (&query, error);
  sql_give (conn);
  if (rows == NULL)
    return FALSE;
  show (rows, visit, user);
  return TRUE;
}

gboolean
sql_repo_list_all (gpointer self, GsCall *call, guint64 after, gsize limit, GsRepoRowVisit visit, gpointer user,
                   GError **error)
{
  return list_by_id (self, call, NULL, after, limit, visit, user, error);
}

gboolean
sql_repo_list_on (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit, GsRepoRowVisit visit,
                  gpointer user, GError **error)
{
  return list_by_id (self, call, storage, after, limit, visit, user, error);
}

gboolean
sql_repo_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error)
{
  SqlConn *conn = sql_take_reader (self, call, "looking up what a call created", error);
  SqlStatement query;
  gboolean found, ok;
  gint64 id = 0;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_ID_BY_CALL);
  sql_bind_id (&query, ":call_id", call_id);
  ok = sql_run_int (&query, &found, &id, error);
  sql_give (conn);
  if (ok)
    *ret_id = found ? (guint64) id : 0;
  return ok;
}

/* ------------------------------------------------------------------------------------------ writing */

/* Is the name, or one that differs from it in case or normal form only, that of another repository than @but? */
static gboolean
check_free (SqlConn *conn, const char *virtual_storage, const char *path, gint64 but, GError **error)
{
  g_autofree char *key = sql_path_key (path), *other = NULL;
  SqlStatement query = sql_query (conn, SQL_REPO_TAKEN);
  gboolean row;
  gint64 id;
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":path_key", key);
  if (!sql_step (&query, &row, error))
    return FALSE;
  if (!row)
    return TRUE;
  id = sql_int (&query, 0);
  other = g_strdup (sql_text (&query, 1));
  sql_done (&query);
  if (id == but)
    return TRUE;
  if (strcmp (other, path) == 0)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "a repository “%s” exists already in virtual storage “%s”", path,
                    virtual_storage);
  return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                  "“%s” differs from the existing repository “%s” of virtual storage “%s” only in upper and lower case "
                  "or in how its letters are composed",
                  path, other, virtual_storage);
}

/* Until the transaction ends nobody else records or renames to a name that collides with @path. */
static gboolean
lock_name (SqlConn *conn, const char *virtual_storage, const char *path, GError **error)
{
  g_autofree char *key = sql_path_key (path), *name = g_strconcat (virtual_storage, "\n", key, NULL);
  return sql_lock (conn, "name", name, strlen (name), error);
}

/* The same as find, and until the transaction ends nobody else changes the repository. */
static GPtrArray *
find_locked (SqlConn *conn, const char *virtual_storage, const char *path, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_REPO_LOCK);
  gboolean found;
  gint64 id = 0;
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":path", path);
  if (!sql_run_int (&query, &found, &id, error))
    return NULL;
  return find (conn, virtual_storage, path, error);
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
sql_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                  GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  SqlStatement query;
  gboolean found;
  gint64 id = 0;
  if (!check_name ("virtual storage", virtual_storage, error) || !sql_path_check (path, error))
    return FALSE;
  conn = sql_take_writer (self, call, "reserving a repository id", error);
  if (conn == NULL || !check_free (conn, virtual_storage, path, 0, error))
    return FALSE;
  query = sql_query (conn, SQL_ID_RESERVE);
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":path", path);
  if (!sql_run_int (&query, &found, &id, error) || !sql_commit (conn, error))
    return FALSE;
  *ret_id = (guint64) id;
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

/* An id can be recorded once, after it was reserved, and never again. */
static gboolean
check_id (SqlConn *conn, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  static const GsTxId none;
  SqlStatement query = sql_query (conn, SQL_ID_STATE);
  gboolean found;
  gint64 state = 0, other = 0;
  sql_bind_int (&query, ":id", (gint64) row->id);
  if (!sql_run_int (&query, &found, &state, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "recording repository “%s”: the id %" G_GUINT64_FORMAT " was never reserved", row->path, row->id);
  if (state != 0)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: the id %" G_GUINT64_FORMAT " %s; ids are never used again", row->path,
                    row->id, state == 1 ? "is another repository's" : "was that of a deleted repository");
  if (call_id != NULL && memcmp (call_id, &none, sizeof none) != 0
      && !sql_lock (conn, "call", call_id->bytes, GS_TXID_SIZE, error))
    return FALSE;
  query = sql_query (conn, SQL_ID_BY_CALL);
  sql_bind_id (&query, ":call_id", call_id);
  if (!sql_run_int (&query, &found, &other, error))
    return FALSE;
  if (found)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: this call created repository %" G_GINT64_FORMAT " before", row->path,
                    other);
  query = sql_query (conn, SQL_REPO_REPLICA_PATH);
  sql_bind_text (&query, ":virtual_storage", row->virtual_storage);
  sql_bind_text (&query, ":replica_path", row->replica_path);
  if (!sql_run_int (&query, &found, &other, error))
    return FALSE;
  if (found)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: the folder %s belongs to repository %" G_GINT64_FORMAT, row->path,
                    row->replica_path, other);
  return TRUE;
}

static gboolean
insert_row (SqlConn *conn, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  g_autofree char *key = sql_path_key (row->path);
  SqlStatement query = sql_query (conn, SQL_ID_RECORDED);
  sql_bind_int (&query, ":id", (gint64) row->id);
  sql_bind_text (&query, ":path", row->path);
  sql_bind_id (&query, ":call_id", call_id);
  if (!sql_run (&query, error))
    return FALSE;
  query = sql_query (conn, SQL_REPO_INSERT);
  sql_bind_int (&query, ":id", (gint64) row->id);
  sql_bind_text (&query, ":virtual_storage", row->virtual_storage);
  sql_bind_text (&query, ":path", row->path);
  sql_bind_text (&query, ":path_key", key);
  sql_bind_text (&query, ":replica_path", row->replica_path);
  sql_bind_int (&query, ":object_format", (gint64) row->format);
  sql_bind_int (&query, ":generation", (gint64) row->generation);
  sql_bind_blob (&query, ":refs_digest", row->refs_digest.bytes, GS_DIGEST_SIZE);
  sql_bind_int (&query, ":created_us", row->created_wall_us);
  sql_bind_int (&query, ":changed_us", row->changed_wall_us);
  sql_bind_int (&query, ":copies", (gint64) row->copies);
  sql_bind_text (&query, ":consistency", row->consistency != NULL ? row->consistency : "");
  return sql_run (&query, error);
}

gboolean
sql_ids_keep (SqlConn *conn, guint64 id, const char *virtual_storage, const char *path, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_ID_RAISE);
  sql_bind_int (&query, ":id", (gint64) id);
  if (!sql_run (&query, error))
    return FALSE;
  query = sql_query (conn, SQL_ID_KEEP);
  sql_bind_int (&query, ":id", (gint64) id);
  sql_bind_text (&query, ":virtual_storage", virtual_storage);
  sql_bind_text (&query, ":path", path);
  return sql_run (&query, error);
}

/* @restore: the id need not have been reserved here. */
static gboolean
record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, gboolean restore, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  if (!check_row (row, error))
    return FALSE;
  conn = sql_take_writer (self, call, "recording a repository", error);
  if (conn == NULL || !lock_name (conn, row->virtual_storage, row->path, error)
      || !check_free (conn, row->virtual_storage, row->path, 0, error)
      || (restore && !sql_ids_keep (conn, row->id, row->virtual_storage, row->path, error))
      || !check_id (conn, row, call_id, error) || !insert_row (conn, row, call_id, error))
    return FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      SqlStatement query = sql_query (conn, SQL_REPLICA_INSERT);
      sql_bind_int (&query, ":id", (gint64) row->id);
      sql_bind_text (&query, ":storage", row->replicas[i]->storage);
      sql_bind_int (&query, ":generation", (gint64) row->replicas[i]->generation);
      sql_bind_int (&query, ":verified_us", row->replicas[i]->verified_wall_us);
      sql_bind_int (&query, ":scrubbed_us", row->replicas[i]->scrubbed_wall_us);
      if (!sql_run (&query, error))
        return FALSE;
    }
  return sql_commit (conn, error);
}

gboolean
sql_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  return record (self, call, row, call_id, FALSE, error);
}

gboolean
sql_repo_restore (gpointer self, GsCall *call, const GsRepoRow *row, GError **error)
{
  return record (self, call, row, NULL, TRUE, error);
}

gboolean
sql_repo_rename (gpointer self, GsCall *call, const char *virtual_storage, const char *path, const char *new_path,
                 GError **error)
{
  g_autofree char *key = NULL;
  g_autoptr (SqlConn) conn = NULL;
  g_autoptr (GPtrArray) rows = NULL;
  SqlStatement query;
  guint64 id;
  if (!sql_path_check (new_path, error))
    return FALSE;
  key = sql_path_key (new_path);
  conn = sql_take_writer (self, call, "renaming a repository", error);
  if (conn == NULL || !lock_name (conn, virtual_storage, new_path, error))
    return FALSE;
  rows = find_locked (conn, virtual_storage, path, error);
  if (rows == NULL)
    return FALSE;
  id = ((Held *) g_ptr_array_index (rows, 0))->row.id;
  /* A change of case only is a rename; to the very same name is none. */
  if (!check_free (conn, virtual_storage, new_path, strcmp (path, new_path) != 0 ? (gint64) id : 0, error))
    return FALSE;
  query = sql_query (conn, SQL_REPO_RENAME);
  sql_bind_int (&query, ":id", (gint64) id);
  sql_bind_text (&query, ":path", new_path);
  sql_bind_text (&query, ":path_key", key);
  return sql_run (&query, error) && sql_commit (conn, error);
}

static gboolean
delete_row (SqlConn *conn, const GsRepoRow *row, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_REPO_DELETE); /* the replicas go with it, the changes stay */
  sql_bind_int (&query, ":id", (gint64) row->id);
  if (!sql_run (&query, error))
    return FALSE;
  query = sql_query (conn, SQL_ID_DELETED);
  sql_bind_int (&query, ":id", (gint64) row->id);
  sql_bind_text (&query, ":path", row->path);
  return sql_run (&query, error) && sql_commit (conn, error);
}

gboolean
sql_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
                 gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  SqlConn *conn = sql_take_writer (self, call, "deleting a repository", error);
  gboolean ok;
  if (conn == NULL)
    return FALSE;
  rows = find_locked (conn, virtual_storage, path, error);
  ok = rows != NULL && delete_row (conn, &((Held *) g_ptr_array_index (rows, 0))->row, error);
  sql_give (conn);
  if (ok && visit != NULL)
    show (rows, visit, user);
  return ok;
}

gboolean
sql_repo_set_policy (gpointer self, GsCall *call, guint64 id, guint32 copies, const char *consistency, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  SqlStatement query;
  gboolean found;
  gint64 same;
  if (!sql_policy_check (copies, consistency, error))
    return FALSE;
  conn = sql_take_writer (self, call, "setting the policy of a repository", error);
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_REPO_SET_POLICY);
  sql_bind_int (&query, ":id", (gint64) MIN (id, (guint64) G_MAXINT64));
  sql_bind_int (&query, ":copies", copies);
  sql_bind_text (&query, ":consistency", consistency != NULL ? consistency : "");
  if (!sql_run_int (&query, &found, &same, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository with the id %" G_GUINT64_FORMAT, id);
  return sql_commit (conn, error);
}
