/* SPDX-License-Identifier: Apache-2.0 */
/* Connections, statements, and SQLite's result codes as errors. See driver.h. */
#include "store.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define POLL_CANCEL_US (50 * 1000) /* how often a waiting call looks whether it was cancelled */
#define PROGRESS_OPS 20000         /* virtual machine steps between looks at the deadline */

/* ----------------------------------------------------------------------------------------- errors */

/* What each class of failure means to people. The rest is our own bug. */
static GsErrorCode
explain (int rc, const char **ret_advice)
{
  switch (rc & 0xff)
    {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      *ret_advice = "another process holds its write lock; try again";
      return GS_ERROR_UNAVAILABLE;
    case SQLITE_FULL:
      *ret_advice = "its disk is full; make room, nothing was changed";
      return GS_ERROR_UNAVAILABLE;
    case SQLITE_NOMEM:
      *ret_advice = "the server is out of memory; nothing was changed";
      return GS_ERROR_UNAVAILABLE;
    case SQLITE_CORRUPT:
      *ret_advice = "the file is damaged; stop the server, keep a copy of the file and restore a backup";
      return GS_ERROR_DATA_LOSS;
    case SQLITE_NOTADB:
      *ret_advice = "the file is not an SQLite database; check the option “path”, or restore a backup";
      return GS_ERROR_DATA_LOSS;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      *ret_advice = "the server may not write to it; check the owner and mode of the file and its folder";
      return GS_ERROR_FAILED_PRECONDITION;
    case SQLITE_CANTOPEN:
      *ret_advice = "the file cannot be opened; check the option “path” and the mode of the folder";
      return GS_ERROR_FAILED_PRECONDITION;
    case SQLITE_IOERR:
      *ret_advice = "its disk reported an error; check the disk and the system log";
      return GS_ERROR_UNAVAILABLE;
    case SQLITE_TOOBIG:
      *ret_advice = "the request is larger than the store can keep in one row";
      return GS_ERROR_OUT_OF_RANGE;
    default:
      *ret_advice = "this is a fault in the server";
      return GS_ERROR_INTERNAL;
    }
}

gboolean
lite_fail (SqlConn *conn, int rc, GError **error)
{
  const char *advice;
  GsErrorCode code;
  /* The progress and busy handlers stop statements of calls that should end; the call knows why. */
  if (((rc & 0xff) == SQLITE_INTERRUPT || (rc & 0xff) == SQLITE_BUSY) && conn->call != NULL
      && !gs_call_check (conn->call, conn->doing, error))
    return FALSE;
  code = explain (rc, &advice);
  return gs_fail (error, code, "%s: the metadata store %s failed (%s): %s", conn->doing, conn->self->path,
                  conn->db != NULL ? sqlite3_errmsg (conn->db) : sqlite3_errstr (rc), advice);
}

/* ----------------------------------------------------------------------------------- opening, closing */

static int
on_busy (void *user, int n_before)
{
  SqlConn *conn = user;
  gint64 left_us = conn->busy_until_us - g_get_monotonic_time ();
  struct timespec wait = { 0, 0 };
  if (left_us <= 0 || (conn->call != NULL && gs_call_cancelled (conn->call)))
    return 0;
  wait.tv_nsec = (long) MIN (left_us, MIN (200 << MIN (n_before, 6), 10000)) * 1000;
  ppoll (NULL, 0, &wait, NULL);
  return 1;
}

static int
on_progress (void *user)
{
  SqlConn *conn = user;
  return conn->call != NULL && !gs_call_check (conn->call, conn->doing, NULL);
}

static void
conn_free (SqlConn *conn)
{
  if (conn == NULL)
    return;
  for (guint i = 0; i < SQL_N_QUERIES; i++)
    sqlite3_finalize (conn->statements[i]);
  sqlite3_close (conn->db);
  g_free (conn);
}

gboolean
lite_exec (SqlConn *conn, const char *sql, GError **error)
{
  int rc = sqlite3_exec (conn->db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK || lite_fail (conn, rc, error);
}

/* Switching to WAL needs the file alone for a moment and does not ask the busy handler. */
static gboolean
conn_set_wal (SqlConn *conn, GError **error)
{
  sqlite3_stmt *stmt = NULL;
  gboolean is_wal = FALSE;
  int rc = sqlite3_prepare_v2 (conn->db, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);
  if (rc == SQLITE_OK)
    do
      {
        rc = sqlite3_step (stmt);
        if (rc == SQLITE_ROW)
          is_wal = g_strcmp0 ((const char *) sqlite3_column_text (stmt, 0), "wal") == 0;
        sqlite3_reset (stmt);
      }
    while ((rc & 0xff) == SQLITE_BUSY && on_busy (conn, 6));
  sqlite3_finalize (stmt);
  if (rc != SQLITE_ROW && rc != SQLITE_DONE)
    return lite_fail (conn, rc, error);
  if (!is_wal)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s: the file system of %s cannot share memory between processes, which the write-ahead log needs; "
                    "put the file on a local disk",
                    conn->doing, conn->self->path);
  return TRUE;
}

static SqlConn *
conn_open (Lite *self, gboolean writer, GError **error)
{
  SqlConn *conn = g_new0 (SqlConn, 1);
  gboolean empty;
  int rc;
  conn->self = self;
  conn->writer = writer;
  conn->doing = "opening the metadata store";
  conn->busy_until_us = g_get_monotonic_time () + self->busy_timeout_us;
  rc = sqlite3_open_v2 (self->path, &conn->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                        NULL);
  if (rc == SQLITE_OK)
    {
      sqlite3_busy_handler (conn->db, on_busy, conn);
      sqlite3_progress_handler (conn->db, PROGRESS_OPS, on_progress, conn);
      sqlite3_limit (conn->db, SQLITE_LIMIT_ATTACHED, 0);
      /* The file could have been made by someone else: nothing in its schema may run code. */
      sqlite3_db_config (conn->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
      sqlite3_db_config (conn->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    }
  if ((rc != SQLITE_OK && !lite_fail (conn, rc, error))
      || (writer && (!lite_check_ours (conn, &empty, error) || !conn_set_wal (conn, error)))
      || !lite_exec (conn, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON", error)
      || (!writer && !lite_exec (conn, "PRAGMA query_only = ON", error)))
    {
      conn_free (conn);
      return NULL;
    }
  return conn;
}

/* What stands in the way of a configured path is for the operator to change. */
static GsErrorCode
path_error (int err)
{
  GsErrorCode code = gs_error_from_errno (err);
  return code == GS_ERROR_UNAVAILABLE || code == GS_ERROR_DATA_LOSS ? code : GS_ERROR_FAILED_PRECONDITION;
}

/* Token verifiers are in the file: it is the server's alone. SQLite gives its side files the same mode. */
static gboolean
make_file (Lite *self, GError **error)
{
  g_autofree char *folder = g_path_get_dirname (self->path);
  int fd;
  if (g_mkdir_with_parents (folder, 0700) != 0)
    return gs_fail (error, path_error (errno), "opening the metadata store: the folder %s cannot be made: %s", folder,
                    g_strerror (errno));
  fd = open (self->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
  if (fd < 0)
    return gs_fail (
        error, path_error (errno),
        "opening the metadata store %s: %s; check the option “path” and the mode of the file and its folder",
        self->path, g_strerror (errno));
  close (fd);
  fd = open (folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0)
    {
      (void) fsync (fd); /* the name; SQLite makes the contents durable */
      close (fd);
    }
  return TRUE;
}

gboolean
lite_open_all (Lite *self, GError **error)
{
  if (!make_file (self, error))
    return FALSE;
  self->all = g_new0 (SqlConn *, 1 + self->n_readers);
  for (guint i = 0; i < 1 + self->n_readers; i++)
    {
      self->all[i] = conn_open (self, i == 0, error);
      if (self->all[i] == NULL)
        {
          lite_close_all (self);
          return FALSE;
        }
    }
  self->writer = self->all[0];
  for (guint i = 0; i < self->n_readers; i++)
    g_ptr_array_add (self->readers, self->all[1 + i]);
  return TRUE;
}

void
lite_close_all (Lite *self)
{
  if (self->all == NULL)
    return;
  g_ptr_array_set_size (self->readers, 0);
  self->writer = NULL;
  for (guint i = 1 + self->n_readers; i-- > 0;) /* the writer last: it checkpoints the log */
    conn_free (self->all[i]);
  g_clear_pointer (&self->all, g_free);
}

/* --------------------------------------------------------------------------------------- take, give */

static SqlConn *
take_one (Lite *self, GsCall *call, gboolean writer, gboolean migrating, const char *doing, GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (self->n_behind > 0 && !migrating)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "%s: the schema of the metadata store %s is %u steps behind; run “gitstead metadata migrate”", doing,
               self->path, self->n_behind);
      return NULL;
    }
  while (writer ? self->writer == NULL : self->readers->len == 0)
    {
      gint64 until = G_MAXINT64;
      if (call != NULL)
        {
          if (!gs_call_check (call, doing, error))
            return NULL;
          until = MIN (call->deadline_us, g_get_monotonic_time () + POLL_CANCEL_US);
        }
      gs_cond_wait_until (&self->given, &self->lock, until);
    }
  if (writer)
    return g_steal_pointer (&self->writer);
  return g_ptr_array_steal_index_fast (self->readers, self->readers->len - 1);
}

static SqlConn *
take (Lite *self, GsCall *call, gboolean writer, gboolean migrating, const char *doing, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  if (call != NULL && !gs_call_check (call, doing, error))
    return NULL;
  conn = take_one (self, call, writer, migrating, doing, error);
  if (conn == NULL)
    return NULL;
  conn->call = call;
  conn->doing = doing;
  conn->busy_until_us = g_get_monotonic_time () + self->busy_timeout_us;
  if (call != NULL)
    conn->busy_until_us = MIN (conn->busy_until_us, call->deadline_us);
  if (writer && !lite_exec (conn, "BEGIN IMMEDIATE", error))
    return NULL;
  return g_steal_pointer (&conn);
}

SqlConn *
sql_take_reader (gpointer self, GsCall *call, const char *doing, GError **error)
{
  return take (self, call, FALSE, FALSE, doing, error);
}

SqlConn *
sql_take_writer (gpointer self, GsCall *call, const char *doing, GError **error)
{
  return take (self, call, TRUE, FALSE, doing, error);
}

SqlConn *
lite_take_migrator (Lite *self, GsCall *call, gboolean writer, const char *doing, GError **error)
{
  return take (self, call, writer, TRUE, doing, error);
}

void
sql_give (SqlConn *conn)
{
  Lite *self;
  if (conn == NULL)
    return;
  self = conn->self;
  conn->call = NULL;
  conn->hinted = FALSE;
  if (!sqlite3_get_autocommit (conn->db))
    sqlite3_exec (conn->db, "ROLLBACK", NULL, NULL, NULL);
  gs_mutex_lock (&self->lock);
  if (conn->writer)
    self->writer = conn;
  else
    g_ptr_array_add (self->readers, conn);
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
}

gboolean
sql_commit (SqlConn *conn, GError **error)
{
  int rc;
  conn->call = NULL; /* past the last point at which a deadline could undo it cleanly */
  rc = sqlite3_exec (conn->db, "COMMIT", NULL, NULL, NULL);
  if (rc == SQLITE_OK)
    {
      if (conn->hinted)
        {
          gs_mutex_lock (&conn->self->lock);
          conn->self->n_hints++;
          gs_cond_broadcast (&conn->self->given);
          gs_mutex_unlock (&conn->self->lock);
        }
      return TRUE;
    }
  /* A failed fsync leaves whole frames in the log, which a restart could find valid. */
  if ((rc & 0xff) == SQLITE_IOERR)
    return gs_fail (error, GS_ERROR_UNKNOWN,
                    "%s: the disk of the metadata store %s failed at the commit (%s); look again whether it happened",
                    conn->doing, conn->self->path, sqlite3_errmsg (conn->db));
  return lite_fail (conn, rc, error);
}

/* ------------------------------------------------------------------------------------ locks and hints */

/* A writer has the file alone, of whatever process. */
gboolean
sql_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, GError **error)
{
  return TRUE;
}

gboolean
sql_try_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, gboolean *ret_locked, GError **error)
{
  *ret_locked = TRUE;
  return TRUE;
}

gboolean
sql_hint (SqlConn *conn, GError **error)
{
  conn->hinted = TRUE;
  return TRUE;
}

gboolean
lite_wait_hint (gpointer data, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen, GError **error)
{
  Lite *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  gint64 end_us = g_get_monotonic_time () + CLAMP (timeout_us, 0, 3600 * (gint64) G_USEC_PER_SEC);
  while (self->n_hints == seen && g_get_monotonic_time () < end_us)
    {
      if (call != NULL && !gs_call_check (call, "waiting for jobs", error))
        return FALSE;
      gs_cond_wait_until (&self->given, &self->lock, MIN (end_us, g_get_monotonic_time () + POLL_CANCEL_US));
    }
  *ret_seen = self->n_hints;
  return TRUE;
}

/* --------------------------------------------------------------------------------------- statements */

SqlStatement
sql_query (SqlConn *conn, SqlQuery number)
{
  SqlStatement query = { conn, NULL, SQLITE_OK };
  if (conn->statements[number] == NULL)
    query.rc = sqlite3_prepare_v3 (conn->db, conn->self->queries[number], -1, SQLITE_PREPARE_PERSISTENT,
                                   &conn->statements[number], NULL);
  query.stmt = conn->statements[number];
  if (query.stmt != NULL)
    {
      int now = sqlite3_bind_parameter_index (query.stmt, ":now");
      sqlite3_clear_bindings (query.stmt);
      if (now > 0)
        sqlite3_bind_int64 (query.stmt, now, conn->self->host->wall_us (conn->self->host));
    }
  return query;
}

/* By name: SQLite numbers parameters by first appearance, whatever the digits in them say. */
static int
place_of (SqlStatement *query, const char *name)
{
  int place = query->rc == SQLITE_OK ? sqlite3_bind_parameter_index (query->stmt, name) : 0;
  if (place == 0 && query->rc == SQLITE_OK)
    query->rc = SQLITE_RANGE;
  return place;
}

static void
keep_rc (SqlStatement *query, int rc)
{
  if (query->rc == SQLITE_OK)
    query->rc = rc;
}

void
sql_bind_int (SqlStatement *query, const char *name, gint64 value)
{
  int place = place_of (query, name);
  if (place > 0)
    keep_rc (query, sqlite3_bind_int64 (query->stmt, place, value));
}

void
sql_bind_text (SqlStatement *query, const char *name, const char *value)
{
  int place = place_of (query, name);
  if (place > 0)
    keep_rc (query, value == NULL ? sqlite3_bind_null (query->stmt, place)
                                  : sqlite3_bind_text64 (query->stmt, place, value, strlen (value), SQLITE_TRANSIENT,
                                                         SQLITE_UTF8));
}

void
sql_bind_blob (SqlStatement *query, const char *name, gconstpointer bytes, gsize n_bytes)
{
  int place = place_of (query, name);
  if (place > 0)
    keep_rc (query, n_bytes == 0 ? sqlite3_bind_zeroblob (query->stmt, place, 0)
                                 : sqlite3_bind_blob64 (query->stmt, place, bytes, n_bytes, SQLITE_TRANSIENT));
}

void
sql_bind_id (SqlStatement *query, const char *name, const GsTxId *id)
{
  static const GsTxId none;
  if (id == NULL || memcmp (id, &none, sizeof none) == 0)
    sql_bind_text (query, name, NULL);
  else
    sql_bind_blob (query, name, id->bytes, sizeof id->bytes);
}

void
sql_done (SqlStatement *query)
{
  if (query->stmt != NULL)
    sqlite3_reset (query->stmt);
}

gboolean
sql_step (SqlStatement *query, gboolean *ret_row, GError **error)
{
  if (query->rc == SQLITE_OK)
    query->rc = sqlite3_step (query->stmt);
  if (query->rc == SQLITE_ROW || query->rc == SQLITE_DONE)
    {
      *ret_row = query->rc == SQLITE_ROW;
      if (query->rc == SQLITE_DONE)
        sql_done (query);
      query->rc = SQLITE_OK;
      return TRUE;
    }
  lite_fail (query->conn, query->rc, error);
  sql_done (query);
  return FALSE;
}

gboolean
sql_run (SqlStatement *query, GError **error)
{
  gboolean row;
  do
    if (!sql_step (query, &row, error))
      return FALSE;
  while (row);
  return TRUE;
}

gboolean
sql_run_int (SqlStatement *query, gboolean *ret_found, gint64 *ret_value, GError **error)
{
  gboolean row;
  if (!sql_step (query, &row, error))
    return FALSE;
  *ret_found = row;
  if (!row)
    return TRUE;
  *ret_value = sqlite3_column_int64 (query->stmt, 0);
  return sql_run (query, error);
}

gint64
sql_int (SqlStatement *query, int column)
{
  return sqlite3_column_int64 (query->stmt, column);
}

gboolean
sql_is_null (SqlStatement *query, int column)
{
  return sqlite3_column_type (query->stmt, column) == SQLITE_NULL;
}

gconstpointer
sql_bytes (SqlStatement *query, int column, gsize *ret_n_bytes)
{
  gconstpointer bytes = sqlite3_column_blob (query->stmt, column);
  *ret_n_bytes = (gsize) sqlite3_column_bytes (query->stmt, column);
  return bytes;
}

const char *
sql_text (SqlStatement *query, int column)
{
  const char *text = (const char *) sqlite3_column_text (query->stmt, column);
  return text != NULL ? text : "";
}

gboolean
sql_blob (SqlStatement *query, int column, gpointer ret_bytes, gsize n_bytes, GError **error)
{
  gconstpointer bytes = sqlite3_column_blob (query->stmt, column);
  if (bytes == NULL || (gsize) sqlite3_column_bytes (query->stmt, column) != n_bytes)
    return gs_fail (error, GS_ERROR_DATA_LOSS,
                    "%s: a row of the metadata store %s holds a value of the wrong length; restore a backup",
                    query->conn->doing, query->conn->self->path);
  memcpy (ret_bytes, bytes, n_bytes);
  return TRUE;
}
