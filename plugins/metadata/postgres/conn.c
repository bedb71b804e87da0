/* SPDX-License-Identifier: Apache-2.0 */
/* Statements, commits, locks: what sql/store.h wants of a connection. */
#include "store.h"

#define OID_INT8 20
#define OID_TEXT 25
#define OID_BYTEA 17

/* --------------------------------------------------------------------------------------- statements */

SqlStatement
sql_query (SqlConn *conn, SqlQuery number)
{
  const PgQuery *query = &conn->self->queries[number];
  SqlStatement statement = { .conn = conn, .query = query };
  return statement;
}

/* -1 when the statement has no such parameter. */
static int
place_of (SqlStatement *query, const char *name)
{
  for (guint i = 0; i < query->query->n; i++)
    if (strcmp (query->query->names[i], name) == 0)
      return (int) i;
  query->fault = name;
  return -1;
}

static void
bind (SqlStatement *query, const char *name, Oid type, gconstpointer bytes, gsize n_bytes)
{
  int place = place_of (query, name);
  if (place < 0)
    return;
  query->types[place] = type;
  query->values[place] = bytes;
  query->lengths[place] = (int) MIN (n_bytes, (gsize) G_MAXINT);
}

void
sql_bind_int (SqlStatement *query, const char *name, gint64 value)
{
  int place = place_of (query, name);
  if (place < 0)
    return;
  /* The statement can be copied before it is run: where the number lies is found out then. */
  query->numbers[place] = GUINT64_TO_BE ((guint64) value);
  query->types[place] = OID_INT8;
}

void
sql_bind_text (SqlStatement *query, const char *name, const char *value)
{
  bind (query, name, OID_TEXT, value, value != NULL ? strlen (value) : 0);
}

void
sql_bind_blob (SqlStatement *query, const char *name, gconstpointer bytes, gsize n_bytes)
{
  bind (query, name, OID_BYTEA, n_bytes > 0 ? bytes : "", n_bytes);
}

void
sql_bind_id (SqlStatement *query, const char *name, const GsTxId *id)
{
  static const GsTxId none;
  gboolean some = id != NULL && memcmp (id, &none, sizeof none) != 0;
  bind (query, name, OID_BYTEA, some ? id->bytes : NULL, some ? sizeof id->bytes : 0);
}

static gboolean
send (SqlStatement *query)
{
  static const int binary[PG_PARAMETERS_MAX] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
  for (guint i = 0; i < query->query->n; i++)
    if (query->types[i] == OID_INT8)
      {
        query->values[i] = (const char *) &query->numbers[i];
        query->lengths[i] = sizeof query->numbers[i];
      }
  return PQsendQueryParams (query->conn->pg, query->query->text, (int) query->query->n, query->types, query->values,
                            query->lengths, binary, 1)
         == 1;
}

static PGresult *
run_once (SqlStatement *query)
{
  pg_limit (query->conn);
  if (send (query))
    return pg_await (query->conn);
  query->conn->broken = TRUE;
  return NULL;
}

/* What is only looked at can be asked again of another connection, when nothing was asked of this one before. */
static gboolean
reconnect (SqlConn *conn)
{
  gint64 until_us = g_get_monotonic_time () + conn->self->connect_timeout_us;
  PGconn *pg;
  if (conn->writer || !conn->fresh || (conn->call != NULL && !gs_call_check (conn->call, conn->doing, NULL)))
    return FALSE;
  if (conn->call != NULL)
    until_us = MIN (until_us, conn->call->deadline_us);
  pg = pg_connect (conn->self, conn->self->keywords, conn->self->values, conn->call, until_us, NULL);
  if (pg == NULL)
    return FALSE;
  pg_close (conn->pg);
  conn->pg = pg;
  PQsetnonblocking (pg, 1);
  conn->broken = conn->fresh = FALSE;
  conn->made_us = g_get_monotonic_time ();
  return TRUE;
}

static gboolean
run (SqlStatement *query, GError **error)
{
  SqlConn *conn = query->conn;
  PGresult *result;
  ExecStatusType status;
  if (query->fault != NULL)
    return gs_fail (error, GS_ERROR_INTERNAL, "%s: a statement has no parameter %s; this is a fault in the server",
                    conn->doing, query->fault);
  if (conn->broken)
    return pg_fail (conn, NULL, error);
  result = run_once (query);
  if (result == NULL && PQstatus (conn->pg) == CONNECTION_BAD && reconnect (conn))
    result = run_once (query);
  conn->fresh = FALSE;
  status = PQresultStatus (result);
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
    {
      pg_fail (conn, result, error);
      PQclear (result);
      return FALSE;
    }
  query->result = result;
  g_ptr_array_add (conn->results, result);
  return TRUE;
}

void
sql_done (SqlStatement *query)
{
  if (query->result != NULL)
    g_ptr_array_remove_fast (query->conn->results, query->result);
  query->result = NULL;
}

gboolean
sql_step (SqlStatement *query, gboolean *ret_row, GError **error)
{
  if (query->result != NULL)
    query->row++;
  else if (!run (query, error))
    return FALSE;
  *ret_row = query->row < PQntuples (query->result);
  if (!*ret_row)
    sql_done (query);
  return TRUE;
}

gboolean
sql_run (SqlStatement *query, GError **error)
{
  gboolean row;
  if (!sql_step (query, &row, error))
    return FALSE;
  sql_done (query);
  return TRUE;
}

gboolean
sql_run_int (SqlStatement *query, gboolean *ret_found, gint64 *ret_value, GError **error)
{
  gboolean row;
  if (!sql_step (query, &row, error))
    return FALSE;
  *ret_found = row;
  if (row)
    *ret_value = sql_int (query, 0);
  sql_done (query);
  return TRUE;
}

gint64
sql_int (SqlStatement *query, int column)
{
  const char *bytes = PQgetvalue (query->result, query->row, column);
  gint16 two;
  gint32 four;
  gint64 eight;
  switch (PQgetisnull (query->result, query->row, column) ? 0 : PQgetlength (query->result, query->row, column))
    {
    case 2:
      memcpy (&two, bytes, sizeof two);
      return (gint16) GINT16_FROM_BE (two);
    case 4:
      memcpy (&four, bytes, sizeof four);
      return (gint32) GINT32_FROM_BE (four);
    case 8:
      memcpy (&eight, bytes, sizeof eight);
      return (gint64) GINT64_FROM_BE (eight);
    default:
      return 0;
    }
}

gboolean
sql_is_null (SqlStatement *query, int column)
{
  return PQgetisnull (query->result, query->row, column) == 1;
}

const char *
sql_text (SqlStatement *query, int column)
{
  return PQgetvalue (query->result, query->row, column); /* "" for NULL */
}

gconstpointer
sql_bytes (SqlStatement *query, int column, gsize *ret_n_bytes)
{
  *ret_n_bytes = (gsize) PQgetlength (query->result, query->row, column);
  return PQgetvalue (query->result, query->row, column);
}

gboolean
sql_blob (SqlStatement *query, int column, gpointer ret_bytes, gsize n_bytes, GError **error)
{
  gsize n;
  gconstpointer bytes = sql_bytes (query, column, &n);
  if (n != n_bytes)
    return gs_fail (error, GS_ERROR_DATA_LOSS,
                    "%s: a row of the metadata store (%s) holds a value of the wrong length; restore a backup",
                    query->conn->doing, query->conn->self->place);
  memcpy (ret_bytes, bytes, n_bytes);
  return TRUE;
}

/* ------------------------------------------------------------------------------------ locks and hints */

static gint64
lock_number (const Pg *self, const char *space, gconstpointer key, gsize n_key)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize n = sizeof digest;
  gint64 number;
  g_checksum_update (sum, (const guchar *) self->schema, (gssize) strlen (self->schema) + 1);
  g_checksum_update (sum, (const guchar *) space, (gssize) strlen (space) + 1);
  g_checksum_update (sum, key, (gssize) n_key);
  g_checksum_get_digest (sum, digest, &n);
  memcpy (&number, digest, sizeof number);
  return number;
}

/* The locks end with the transaction, so they work through a pooler. */
gboolean
sql_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, GError **error)
{
  g_autofree char *text = g_strdup_printf ("SELECT pg_advisory_xact_lock (%" G_GINT64_FORMAT ")",
                                           lock_number (conn->self, space, key, n_key));
  return pg_exec (conn, text, error);
}

gboolean
sql_try_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, gboolean *ret_locked, GError **error)
{
  g_autofree char *text = g_strdup_printf ("SELECT pg_try_advisory_xact_lock (%" G_GINT64_FORMAT ")",
                                           lock_number (conn->self, space, key, n_key));
  PGresult *result = NULL;
  gboolean ok;
  pg_limit (conn);
  if (PQsendQuery (conn->pg, text) == 1)
    result = pg_await (conn);
  ok = PQresultStatus (result) == PGRES_TUPLES_OK && PQntuples (result) == 1;
  if (ok)
    *ret_locked = strcmp (PQgetvalue (result, 0, 0), "t") == 0;
  else
    pg_fail (conn, result, error);
  PQclear (result);
  return ok;
}

gboolean
sql_hint (SqlConn *conn, GError **error)
{
  conn->hinted = TRUE;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- commit */

/* Nobody knows whether it happened, except where the server itself says that it did not. */
static gboolean
commit_failed (SqlConn *conn, const PGresult *result, GError **error)
{
  const char *severity = result != NULL ? PQresultErrorField (result, PG_DIAG_SEVERITY_NONLOCALIZED) : NULL;
  if (g_strcmp0 (severity, "ERROR") == 0 && !conn->broken)
    return pg_fail (conn, result, error);
  conn->broken = conn->lost = TRUE;
  return gs_fail (
      error, GS_ERROR_UNKNOWN,
      "%s: the connection to the metadata store (%s) was lost in the commit; look again whether it happened",
      conn->doing, conn->self->place);
}

gboolean
sql_commit (SqlConn *conn, GError **error)
{
  g_autofree char *text = NULL;
  PGresult *result = NULL;
  gboolean ok;
  g_ptr_array_set_size (conn->results, 0);
  conn->call = NULL; /* past the last point at which a deadline could undo it cleanly */
  /* In one piece: what is notified is sent when the transaction has ended well. */
  text = conn->hinted ? g_strdup_printf ("NOTIFY %s; COMMIT", conn->self->channel) : g_strdup ("COMMIT");
  pg_limit (conn);
  if (PQsendQuery (conn->pg, text) == 1)
    result = pg_await (conn);
  else
    conn->broken = TRUE;
  ok = PQresultStatus (result) == PGRES_COMMAND_OK && strcmp (PQcmdStatus (result), "COMMIT") == 0;
  if (!ok && PQresultStatus (result) == PGRES_COMMAND_OK)
    gs_fail (error, GS_ERROR_INTERNAL, "%s: the metadata store (%s) had undone it; this is a fault in the server",
             conn->doing, conn->self->place);
  else if (!ok)
    commit_failed (conn, result, error);
  PQclear (result);
  if (ok && conn->hinted)
    pg_hint (conn->self);
  return ok;
}
