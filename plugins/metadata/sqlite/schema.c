/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations: which are in the file, which are missing, and running those. One transaction for all: a file is never
 * left between two versions that nobody tested. */
#include "store.h"

#define APPLICATION_ID 0x47735331 /* "GsS1" in the file's header: this is ours */

static const SqlToken lite_tokens[] = {
  { "{ID}", "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT" },
  { "{INT}", "INTEGER" },
  { "{BLOB}", "BLOB" },
  { "{STRICT}", "STRICT" },
  { "{BYTEWISE}", "COLLATE BINARY" },
  { NULL, NULL },
};

static gboolean
pragma_int (SqlConn *conn, const char *sql, gint64 *ret_value, GError **error)
{
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2 (conn->db, sql, -1, &stmt, NULL);
  if (rc == SQLITE_OK)
    rc = sqlite3_step (stmt);
  if (rc == SQLITE_ROW)
    *ret_value = sqlite3_column_int64 (stmt, 0);
  if (rc != SQLITE_ROW)
    lite_fail (conn, rc, error);
  sqlite3_finalize (stmt);
  return rc == SQLITE_ROW;
}

/* A path typed wrong can lead to another program's database: leave it alone. */
gboolean
lite_check_ours (SqlConn *conn, gboolean *ret_empty, GError **error)
{
  gint64 id = 0, n_tables = 0;
  if (!pragma_int (conn, "SELECT count(*) FROM sqlite_schema", &n_tables, error)
      || !pragma_int (conn, "PRAGMA application_id", &id, error))
    return FALSE;
  *ret_empty = n_tables == 0;
  if (!*ret_empty && id != APPLICATION_ID)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "opening the metadata store: %s is a database of another program; check the option “path”",
                    conn->self->path);
  return TRUE;
}

static gboolean
check_one (SqlConn *conn, SqlStatement *query, GError **error)
{
  gint64 number = sql_int (query, 0);
  const char *name = sql_text (query, 1);
  if (number > (gint64) SQL_N_MIGRATIONS)
    return gs_fail (
        error, GS_ERROR_FAILED_PRECONDITION,
        "opening the metadata store: %s was brought to schema version %" G_GINT64_FORMAT
        " (%s) by a newer Gitstead; this one knows up to %u. Start the newer version, or restore the backup "
        "that was made before the upgrade",
        conn->self->path, number, name, SQL_N_MIGRATIONS);
  if (number < 1 || g_strcmp0 (sql_text (query, 2), sql_migrations[number - 1].checksum) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "opening the metadata store: schema version %" G_GINT64_FORMAT
                    " (%s) in %s was made by other statements than this Gitstead has for it (checksum %.12s); it comes "
                    "from an unreleased or changed build. Start that build, or restore a backup",
                    number, name, conn->self->path, sql_text (query, 2));
  return TRUE;
}

/* Counts the recorded migrations; they are those from 1 up without a gap. */
static gboolean
check_recorded (SqlConn *conn, guint *ret_n, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_MIGRATION_LIST);
  guint n = 0;
  gboolean row;
  for (;;)
    {
      if (!sql_step (&query, &row, error))
        return FALSE;
      if (!row)
        break;
      n++;
      if (!check_one (conn, &query, error))
        {
          sql_done (&query);
          return FALSE;
        }
    }
  *ret_n = n;
  return TRUE;
}

static gboolean
run_one (SqlConn *conn, const SqlMigration *migration, GError **error)
{
  g_autofree char *sql = sql_expand (migration->text, lite_tokens);
  SqlStatement query;
  if (!lite_exec (conn, sql, error))
    {
      g_prefix_error (error, "migration %04u-%s: ", migration->number, migration->name);
      return FALSE;
    }
  query = sql_query (conn, SQL_MIGRATION_INSERT);
  sql_bind_int (&query, ":number", migration->number);
  sql_bind_text (&query, ":name", migration->name);
  sql_bind_text (&query, ":checksum", migration->checksum);
  return sql_run (&query, error);
}

static gboolean
begin_empty (SqlConn *conn, GError **error)
{
  g_autofree char *mark = g_strdup_printf ("PRAGMA application_id = %d", APPLICATION_ID);
  return lite_exec (conn, mark, error)
         && lite_exec (conn,
                       "CREATE TABLE schema_migrations (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,"
                       " checksum TEXT NOT NULL, applied_us INTEGER NOT NULL) STRICT",
                       error);
}

gboolean
lite_migrate (Lite *self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error)
{
  /* Looking takes no write lock, or nobody could open the file while another process writes. The writer's transaction
   * keeps a second process that migrates at the same time out until this one is through, and looks again. */
  g_autoptr (SqlConn) conn
      = lite_take_migrator (self, call, !plan_only, "checking the schema of the metadata store", error);
  gboolean empty;
  guint n = 0, pending;
  if (conn == NULL || !lite_check_ours (conn, &empty, error) || (!empty && !check_recorded (conn, &n, error)))
    return FALSE;
  pending = SQL_N_MIGRATIONS - n;
  if (!plan_only && pending > 0)
    {
      if (empty && !begin_empty (conn, error))
        return FALSE;
      for (; n < SQL_N_MIGRATIONS; n++)
        if (!run_one (conn, &sql_migrations[n], error))
          return FALSE;
      if (!sql_commit (conn, error))
        return FALSE;
    }
  gs_mutex_lock (&self->lock);
  self->n_behind = plan_only ? pending : 0;
  gs_mutex_unlock (&self->lock);
  *ret_pending = pending;
  return TRUE;
}
