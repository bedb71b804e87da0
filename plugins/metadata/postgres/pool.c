/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections: at most so many, made when they are needed. While the server is away nobody waits for it: one
 * at a time tries again, ever more seldom, and all others are told at once what the last attempt said.
 */
#include "store.h"

#define POLL_CANCEL_US (50 * 1000)
#define BACKOFF_FIRST_US (50 * 1000)
#define BACKOFF_MAX_US (2 * G_USEC_PER_SEC)
#define LIFETIME_US (1800 * (gint64) G_USEC_PER_SEC) /* for poolers and failovers that want connections to move */

static void
conn_free (SqlConn *conn)
{
  g_ptr_array_unref (conn->results);
  pg_close (conn->pg);
  g_free (conn);
}

static void
result_free (gpointer result)
{
  PQclear (result);
}

/* --------------------------------------------------------------------------------- away and back again */

/* The lock is held. */
static gboolean
tell_away (Pg *self, const char *doing, GError **error)
{
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", doing,
                  self->why_away != NULL ? self->why_away : "the metadata store cannot be reached");
}

static void
note_away (Pg *self, const char *why)
{
  const GsHost *host = self->host;
  gboolean first;
  gs_mutex_lock (&self->lock);
  first = !self->away;
  self->away = TRUE;
  self->probing = FALSE;
  self->backoff_us = CLAMP (self->backoff_us * 2, BACKOFF_FIRST_US, BACKOFF_MAX_US);
  self->retry_us = g_get_monotonic_time () + self->backoff_us;
  g_free (self->why_away);
  self->why_away = g_strdup (why);
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
  host->metric_update (self->failures, 1);
  if (first)
    host->log (host, GS_LOG_ERROR, "metadata.postgres.away",
               (GsField[]){ GS_TEXT ("place", self->place), GS_TEXT ("error", why) }, 2);
}

static void
note_back (Pg *self)
{
  const GsHost *host = self->host;
  gboolean was_away;
  gs_mutex_lock (&self->lock);
  was_away = self->away;
  self->away = self->probing = FALSE;
  self->backoff_us = 0;
  g_clear_pointer (&self->why_away, g_free);
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
  if (was_away)
    host->log (host, GS_LOG_INFO, "metadata.postgres.back", (GsField[]){ GS_TEXT ("place", self->place) }, 1);
}

/* ------------------------------------------------------------------------------------------ opening */

/* A place for it is counted in n_open already. */
static SqlConn *
conn_open (Pg *self, GsCall *call, const char *doing, GError **error)
{
  gint64 now_us = g_get_monotonic_time (), until_us = now_us + self->connect_timeout_us;
  g_autoptr (GError) why = NULL;
  SqlConn *conn;
  PGconn *pg;
  if (call != NULL)
    until_us = MIN (until_us, call->deadline_us);
  pg = pg_connect (self, self->keywords, self->values, call, until_us, &why);
  if (pg == NULL)
    {
      /* A call that had no time left says nothing about the server. */
      if (gs_error_code (why) == GS_ERROR_UNAVAILABLE && (call == NULL || gs_call_check (call, doing, NULL)))
        note_away (self, why->message);
      gs_mutex_lock (&self->lock);
      self->probing = FALSE;
      self->n_open--;
      gs_cond_broadcast (&self->given);
      gs_mutex_unlock (&self->lock);
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s: ", doing);
      return NULL;
    }
  note_back (self);
  PQsetnonblocking (pg, 1);
  conn = g_new0 (SqlConn, 1);
  conn->self = self;
  conn->pg = pg;
  conn->made_us = g_get_monotonic_time ();
  conn->results = g_ptr_array_new_with_free_func (result_free);
  return conn;
}

static void
conn_close (SqlConn *conn)
{
  Pg *self = conn->self;
  g_autoptr (GPtrArray) suspects = g_ptr_array_new ();
  g_ptr_array_add (suspects, conn);
  gs_mutex_lock (&self->lock);
  /* Where packets vanish, each of the idle ones would cost somebody the same wait. */
  while (conn->lost && self->idle->len > 0)
    g_ptr_array_add (suspects, g_ptr_array_steal_index_fast (self->idle, self->idle->len - 1));
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < suspects->len; i++)
    conn_free (suspects->pdata[i]);
  gs_mutex_lock (&self->lock);
  self->n_open -= suspects->len;
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
}

/* Waits for a turn. *@ret_conn NULL: a new connection may be made. */
static gboolean
wait_turn (Pg *self, GsCall *call, const char *doing, SqlConn **ret_conn, GError **error)
{
  gint64 busy_us = g_get_monotonic_time () + self->pool_wait_us;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  for (;;)
    {
      gint64 now_us = g_get_monotonic_time (), until_us;
      if (call != NULL && !gs_call_check (call, doing, error))
        return FALSE;
      if (self->idle->len > 0)
        {
          *ret_conn = g_ptr_array_steal_index (self->idle, self->idle->len - 1);
          return TRUE;
        }
      if (self->away && (self->probing || now_us < self->retry_us))
        return tell_away (self, doing, error);
      if (self->n_open < self->n_max)
        {
          self->n_open++;
          self->probing = self->away;
          *ret_conn = NULL;
          return TRUE;
        }
      if (now_us >= busy_us)
        return gs_fail (error, GS_ERROR_BUSY,
                        "%s: all %u connections to the metadata store (%s) are in use; try again, or raise the option "
                        "“connections”",
                        doing, self->n_max, self->place);
      until_us = MIN (busy_us, now_us + POLL_CANCEL_US);
      gs_cond_wait_until (&self->given, &self->lock, call != NULL ? MIN (until_us, call->deadline_us) : until_us);
    }
}

static SqlConn *
take_any (Pg *self, GsCall *call, const char *doing, GError **error)
{
  for (;;)
    {
      SqlConn *conn = NULL;
      if (!wait_turn (self, call, doing, &conn, error))
        return NULL;
      if (conn == NULL)
        return conn_open (self, call, doing, error);
      if (pg_alive (conn->pg) && g_get_monotonic_time () - conn->made_us < LIFETIME_US)
        return conn;
      conn_close (conn);
    }
}

/* ------------------------------------------------------------------------------------- take and give */

gboolean
pg_begin (SqlConn *conn, GError **error)
{
  gint64 ms = MAX (pg_left (conn) / 1000, 1);
  /* A process that stopped in the middle must not hold its locks for ever, nor a statement go on for nobody; and a
   * commit that was acknowledged is on disk, whatever the database's default. */
  g_autofree char *text = g_strdup_printf (
      "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = %" G_GINT64_FORMAT
      "; SET LOCAL idle_in_transaction_session_timeout = 5000; SET LOCAL client_connection_check_interval = 1000; "
      "SELECT set_config ('synchronous_commit', 'on', true) WHERE current_setting ('synchronous_commit') = 'off'",
      ms);
  return pg_exec (conn, text, error);
}

SqlConn *
pg_take (Pg *self, GsCall *call, gboolean writer, const char *doing, GError **error)
{
  for (guint attempt = 0;; attempt++)
    {
      g_autoptr (GError) why = NULL;
      SqlConn *conn;
      if (call != NULL && !gs_call_check (call, doing, error))
        return NULL;
      conn = take_any (self, call, doing, error);
      if (conn == NULL)
        return NULL;
      conn->call = call;
      conn->doing = doing;
      conn->writer = writer;
      conn->hinted = conn->patient = FALSE;
      conn->fresh = TRUE;
      if (!writer || pg_begin (conn, &why))
        return conn;
      /* Nothing happened yet: where the connection turns out to be lost, another one may do. */
      if (!conn->broken || attempt >= self->n_max || gs_error_code (why) != GS_ERROR_UNAVAILABLE)
        {
          sql_give (conn);
          g_propagate_error (error, g_steal_pointer (&why));
          return NULL;
        }
      sql_give (conn);
    }
}

static SqlConn *
take_checked (Pg *self, GsCall *call, gboolean writer, const char *doing, GError **error)
{
  gboolean checked;
  gs_mutex_lock (&self->lock);
  checked = self->checked;
  gs_mutex_unlock (&self->lock);
  if (!checked)
    {
      g_autoptr (SqlConn) conn = pg_take (self, call, FALSE, doing, error);
      if (conn == NULL || !pg_check_schema (conn, error))
        return NULL;
    }
  return pg_take (self, call, writer, doing, error);
}

SqlConn *
sql_take_reader (gpointer self, GsCall *call, const char *doing, GError **error)
{
  return take_checked (self, call, FALSE, doing, error);
}

SqlConn *
sql_take_writer (gpointer self, GsCall *call, const char *doing, GError **error)
{
  return take_checked (self, call, TRUE, doing, error);
}

void
sql_give (SqlConn *conn)
{
  Pg *self;
  if (conn == NULL)
    return;
  self = conn->self;
  g_ptr_array_set_size (conn->results, 0);
  conn->call = NULL;
  if (!conn->broken && PQtransactionStatus (conn->pg) != PQTRANS_IDLE)
    (void) pg_exec (conn, "ROLLBACK", NULL);
  if (conn->broken || PQtransactionStatus (conn->pg) != PQTRANS_IDLE)
    {
      conn_close (conn);
      return;
    }
  gs_mutex_lock (&self->lock);
  g_ptr_array_add (self->idle, conn);
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
}

void
pg_close_all (Pg *self)
{
  for (guint i = 0; i < self->idle->len; i++)
    conn_free (self->idle->pdata[i]);
  self->n_open -= self->idle->len;
  g_ptr_array_set_size (self->idle, 0);
}
