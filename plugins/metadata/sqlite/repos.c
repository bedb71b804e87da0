/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories and their replicas: the slots that name, list and remove them. */
#include "lite.h"

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
  g_ptr_array_unref (held->replicas);
  g_free (held);
}

/* Columns as in the fragment REPO_COLUMNS. */
static Held *
held_new (LiteQuery *query, GError **error)
{
  Held *held = g_new0 (Held, 1);
  held->replicas = g_ptr_array_new_with_free_func (replica_free);
  held->row.size = sizeof held->row;
  held->row.id = (guint64) sqlite3_column_int64 (query->stmt, 0);
  held->row.virtual_storage = g_strdup (lite_text (query, 1));
  held->row.path = g_strdup (lite_text (query, 2));
  held->row.replica_path = g_strdup (lite_text (query, 3));
  held->row.format = (GsObjectFormat) sqlite3_column_int64 (query->stmt, 4);
  held->row.generation = (guint64) sqlite3_column_int64 (query->stmt, 5);
  held->row.created_wall_us = sqlite3_column_int64 (query->stmt, 7);
  held->row.changed_wall_us = sqlite3_column_int64 (query->stmt, 8);
  if (!lite_blob (query, 6, held->row.refs_digest.bytes, GS_DIGEST_SIZE, error))
    {
      held_free (held);
      return NULL;
    }
  return held;
}

static void
held_add_replica (Held *held, LiteQuery *query)
{
  GsReplicaRow *replica;
  if (sqlite3_column_type (query->stmt, 9) == SQLITE_NULL)
    return; /* the outer join's row of a repository without replicas */
  replica = g_new0 (GsReplicaRow, 1);
  replica->size = sizeof *replica;
  replica->storage = g_strdup (lite_text (query, 9));
  replica->generation = (guint64) sqlite3_column_int64 (query->stmt, 10);
  replica->verified_wall_us = sqlite3_column_int64 (query->stmt, 11);
  g_ptr_array_add (held->replicas, replica);
  held->row.replicas = (const GsReplicaRow *const *) held->replicas->pdata;
  held->row.n_replicas = held->replicas->len;
}

/* Runs a query that yields one line per replica, in order of repository. *full*, NULL with @error. */
static GPtrArray *
gather (LiteQuery *query, GError **error)
{
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      guint64 id;
      Held *held = rows->len > 0 ? g_ptr_array_index (rows, rows->len - 1) : NULL;
      if (!lite_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&rows);
      id = (guint64) sqlite3_column_int64 (query->stmt, 0);
      if (held == NULL || held->row.id != id)
        {
          held = held_new (query, error);
          if (held == NULL)
            {
              lite_done (query);
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
find (LiteConn *conn, const char *virtual_storage, const char *path, GError **error)
{
  LiteQuery query = lite_query (conn, SQL_REPO_FIND);
  g_autoptr (GPtrArray) rows = NULL;
  lite_bind_text (&query, ":virtual_storage", virtual_storage);
  lite_bind_text (&query, ":path", path);
  rows = gather (&query, error);
  if (rows != NULL && rows->len == 0)
    {
      not_found (virtual_storage, path, error);
      return NULL;
    }
  return g_steal_pointer (&rows);
}

gboolean
lite_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
                gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  LiteConn *conn = lite_take_reader (self, call, "looking up a repository", error);
  if (conn == NULL)
    return FALSE;
  rows = find (conn, virtual_storage, path, error);
  lite_give (conn);
  if (rows == NULL)
    return FALSE;
  show (rows, visit, user);
  return TRUE;
}

gboolean
lite_repo_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  LiteConn *conn = lite_take_reader (self, call, "looking up a repository", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_REPO_GET);
  lite_bind_int (&query, ":id", (gint64) MIN (id, (guint64) G_MAXINT64));
  rows = gather (&query, error);
  lite_give (conn);
  if (rows == NULL)
    return FALSE;
  if (rows->len == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository with the id %" G_GUINT64_FORMAT, id);
  show (rows, visit, user);
  return TRUE;
}

gboolean
lite_repo_list (gpointer self, GsCall *call, const char *virtual_storage, const char *prefix, const char *after,
                gsize limit, GsRepoRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) rows = NULL;
  g_autofree char *first = NULL, *beyond = NULL;
  LiteConn *conn = lite_take_reader (self, call, "listing repositories", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  sql_path_range (prefix != NULL ? prefix : "", after != NULL ? after : "", &first, &beyond);
  query = lite_query (conn, SQL_REPO_LIST);
  lite_bind_text (&query, ":virtual_storage", virtual_storage);
  lite_bind_text (&query, ":first", first);
  lite_bind_text (&query, ":beyond", beyond);
  lite_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  rows = gather (&query, error);
  lite_give (conn);
  if (rows == NULL)
    return FALSE;
  show (rows, visit, user);
  return TRUE;
}

gboolean
lite_repo_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error)
{
  LiteConn *conn = lite_take_reader (self, call, "looking up what a call created", error);
  LiteQuery query;
  gboolean found, ok;
  gint64 id = 0;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_ID_BY_CALL);
  lite_bind_id (&query, ":call_id", call_id);
  ok = lite_run_int (&query, &found, &id, error);
  lite_give (conn);
  if (ok)
    *ret_id = found ? (guint64) id : 0;
  return ok;
}

/* ------------------------------------------------------------------------------------------ writing */

/* Is the name, or one that differs from it in case or normal form only, that of another repository than @but? */
static gboolean
check_free (LiteConn *conn, const char *virtual_storage, const char *path, gint64 but, GError **error)
{
  g_autofree char *key = sql_path_key (path), *other = NULL;
  LiteQuery query = lite_query (conn, SQL_REPO_TAKEN);
  gboolean row;
  gint64 id;
  lite_bind_text (&query, ":virtual_storage", virtual_storage);
  lite_bind_text (&query, ":path_key", key);
  if (!lite_step (&query, &row, error))
    return FALSE;
  if (!row)
    return TRUE;
  id = sqlite3_column_int64 (query.stmt, 0);
  other = g_strdup (lite_text (&query, 1));
  lite_done (&query);
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

static gboolean
check_name (const char *what, const char *name, GError **error)
{
  if (name == NULL || *name == '\0' || !g_utf8_validate (name, -1, NULL) || strpbrk (name, "\r\n") != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a repository: the %s is empty or not plain text",
                    what);
  return TRUE;
}

gboolean
lite_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                   GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (LiteConn) conn = NULL;
  LiteQuery query;
  gboolean found;
  gint64 id = 0;
  if (!check_name ("virtual storage", virtual_storage, error) || !sql_path_check (path, error))
    return FALSE;
  conn = lite_take_writer (self, call, "reserving a repository id", error);
  if (conn == NULL || !check_free (conn, virtual_storage, path, 0, error))
    return FALSE;
  query = lite_query (conn, SQL_ID_RESERVE);
  lite_bind_text (&query, ":virtual_storage", virtual_storage);
  lite_bind_text (&query, ":path", path);
  lite_bind_int (&query, ":now", host->wall_us (host));
  if (!lite_run_int (&query, &found, &id, error) || !lite_commit (conn, error))
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
check_id (LiteConn *conn, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  LiteQuery query = lite_query (conn, SQL_ID_STATE);
  gboolean found;
  gint64 state = 0, other = 0;
  lite_bind_int (&query, ":id", (gint64) row->id);
  if (!lite_run_int (&query, &found, &state, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "recording repository “%s”: the id %" G_GUINT64_FORMAT " was never reserved", row->path, row->id);
  if (state != 0)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: the id %" G_GUINT64_FORMAT " %s; ids are never used again", row->path,
                    row->id, state == 1 ? "is another repository's" : "was that of a deleted repository");
  query = lite_query (conn, SQL_ID_BY_CALL);
  lite_bind_id (&query, ":call_id", call_id);
  if (!lite_run_int (&query, &found, &other, error))
    return FALSE;
  if (found)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: this call created repository %" G_GINT64_FORMAT " before", row->path,
                    other);
  query = lite_query (conn, SQL_REPO_REPLICA_PATH);
  lite_bind_text (&query, ":virtual_storage", row->virtual_storage);
  lite_bind_text (&query, ":replica_path", row->replica_path);
  if (!lite_run_int (&query, &found, &other, error))
    return FALSE;
  if (found)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "recording repository “%s”: the folder %s belongs to repository %" G_GINT64_FORMAT, row->path,
                    row->replica_path, other);
  return TRUE;
}

static gboolean
insert_row (LiteConn *conn, const GsRepoRow *row, const GsTxId *call_id, gint64 now_us, GError **error)
{
  g_autofree char *key = sql_path_key (row->path);
  gint64 created_us = row->created_wall_us != 0 ? row->created_wall_us : now_us;
  LiteQuery query = lite_query (conn, SQL_ID_RECORDED);
  lite_bind_int (&query, ":id", (gint64) row->id);
  lite_bind_text (&query, ":path", row->path);
  lite_bind_id (&query, ":call_id", call_id);
  lite_bind_int (&query, ":now", now_us);
  if (!lite_run (&query, error))
    return FALSE;
  query = lite_query (conn, SQL_REPO_INSERT);
  lite_bind_int (&query, ":id", (gint64) row->id);
  lite_bind_text (&query, ":virtual_storage", row->virtual_storage);
  lite_bind_text (&query, ":path", row->path);
  lite_bind_text (&query, ":path_key", key);
  lite_bind_text (&query, ":replica_path", row->replica_path);
  lite_bind_int (&query, ":object_format", (gint64) row->format);
  lite_bind_int (&query, ":generation", (gint64) row->generation);
  lite_bind_blob (&query, ":refs_digest", row->refs_digest.bytes, GS_DIGEST_SIZE);
  lite_bind_int (&query, ":created_us", created_us);
  lite_bind_int (&query, ":changed_us", row->changed_wall_us != 0 ? row->changed_wall_us : created_us);
  return lite_run (&query, error);
}

gboolean
lite_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (LiteConn) conn = NULL;
  if (!check_row (row, error))
    return FALSE;
  conn = lite_take_writer (self, call, "recording a repository", error);
  if (conn == NULL || !check_free (conn, row->virtual_storage, row->path, 0, error)
      || !check_id (conn, row, call_id, error) || !insert_row (conn, row, call_id, host->wall_us (host), error))
    return FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      LiteQuery query = lite_query (conn, SQL_REPLICA_INSERT);
      lite_bind_int (&query, ":id", (gint64) row->id);
      lite_bind_text (&query, ":storage", row->replicas[i]->storage);
      lite_bind_int (&query, ":generation", (gint64) row->replicas[i]->generation);
      lite_bind_int (&query, ":verified_us", row->replicas[i]->verified_wall_us);
      if (!lite_run (&query, error))
        return FALSE;
    }
  return lite_commit (conn, error);
}

gboolean
lite_repo_rename (gpointer self, GsCall *call, const char *virtual_storage, const char *path, const char *new_path,
                  GError **error)
{
  g_autofree char *key = NULL;
  g_autoptr (LiteConn) conn = NULL;
  g_autoptr (GPtrArray) rows = NULL;
  LiteQuery query;
  guint64 id;
  if (!sql_path_check (new_path, error))
    return FALSE;
  key = sql_path_key (new_path);
  conn = lite_take_writer (self, call, "renaming a repository", error);
  if (conn == NULL)
    return FALSE;
  rows = find (conn, virtual_storage, path, error);
  if (rows == NULL)
    return FALSE;
  id = ((Held *) g_ptr_array_index (rows, 0))->row.id;
  /* A change of case only is a rename; to the very same name is none. */
  if (!check_free (conn, virtual_storage, new_path, strcmp (path, new_path) != 0 ? (gint64) id : 0, error))
    return FALSE;
  query = lite_query (conn, SQL_REPO_RENAME);
  lite_bind_int (&query, ":id", (gint64) id);
  lite_bind_text (&query, ":path", new_path);
  lite_bind_text (&query, ":path_key", key);
  return lite_run (&query, error) && lite_commit (conn, error);
}

static gboolean
delete_row (LiteConn *conn, const GsRepoRow *row, gint64 now_us, GError **error)
{
  LiteQuery query = lite_query (conn, SQL_REPO_DELETE); /* the replicas go with it, the changes stay */
  lite_bind_int (&query, ":id", (gint64) row->id);
  if (!lite_run (&query, error))
    return FALSE;
  query = lite_query (conn, SQL_ID_DELETED);
  lite_bind_int (&query, ":id", (gint64) row->id);
  lite_bind_text (&query, ":path", row->path);
  lite_bind_int (&query, ":now", now_us);
  return lite_run (&query, error) && lite_commit (conn, error);
}

gboolean
lite_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
                  gpointer user, GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (GPtrArray) rows = NULL;
  LiteConn *conn = lite_take_writer (self, call, "deleting a repository", error);
  gboolean ok;
  if (conn == NULL)
    return FALSE;
  rows = find (conn, virtual_storage, path, error);
  ok = rows != NULL && delete_row (conn, &((Held *) g_ptr_array_index (rows, 0))->row, host->wall_us (host), error);
  lite_give (conn);
  if (ok && visit != NULL)
    show (rows, visit, user);
  return ok;
}
