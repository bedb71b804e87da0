/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the server: connecting, waiting for answers, and what its errors mean. See driver.h. */
#include "store.h"

#include <poll.h>

#define SLACK_US (100 * 1000) /* for the server to say by itself that a statement took too long */
#define PATIENT_US (24 * 3600 * (gint64) G_USEC_PER_SEC)
#define POLL_CANCEL_US (50 * 1000) /* how often a waiting call looks whether it was cancelled, without a descriptor */

/* ----------------------------------------------------------------------------------------- waiting */

/* Until the socket is ready for @events: 1; 0 when the time is up; -1 when @call ended before. */
static int
wait_socket (PGconn *pg, short events, GsCall *call, gint64 until_us)
{
  int cancel_fd = call != NULL && call->cancel_fd != NULL ? call->cancel_fd (call) : -1;
  for (;;)
    {
      struct pollfd fds[2] = { { PQsocket (pg), events, 0 }, { cancel_fd, POLLIN, 0 } };
      gint64 left_us = until_us - g_get_monotonic_time (), turn_us;
      struct timespec wait;
      int n;
      if (call != NULL && gs_call_cancelled (call))
        return -1;
      if (left_us <= 0)
        return 0;
      turn_us = MIN (left_us, call != NULL && cancel_fd < 0 ? POLL_CANCEL_US : 3600 * (gint64) G_USEC_PER_SEC);
      wait.tv_sec = turn_us / G_USEC_PER_SEC;
      wait.tv_nsec = turn_us % G_USEC_PER_SEC * 1000;
      n = ppoll (fds, cancel_fd >= 0 ? 2 : 1, &wait, NULL);
      if (n > 0 && fds[0].revents != 0)
        return 1;
      if (n < 0 && errno != EINTR)
        return 0;
    }
}

/* -------------------------------------------------------------------------------------- connecting */

/* libpq ends its messages with a line end, and can give several lines. *full*. */
static char *
one_line (const char *text)
{
  g_autofree char *copy = g_strdup (text != NULL ? text : "");
  g_strstrip (copy);
  g_strdelimit (copy, "\r\n\t", ' ');
  return g_utf8_make_valid (copy, -1);
}

void
pg_close (PGconn *pg)
{
  if (pg != NULL)
    PQfinish (pg);
}

static gboolean
check_server (Pg *self, PGconn *pg, GError **error)
{
  const char *encoding = PQparameterStatus (pg, "server_encoding");
  if (PQserverVersion (pg) < 140000)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "the %s runs PostgreSQL %d; 14 or later is needed",
                    self->place, PQserverVersion (pg) / 10000);
  if (encoding != NULL && g_ascii_strcasecmp (encoding, "UTF8") != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the %s has the encoding %s; create one with UTF8, since repository names are", self->place,
                    encoding);
  return TRUE;
}

/* libpq would print them. */
static void
ignore_notice (void *user, const char *text)
{
}

/* To one host, or to several addresses of its name. */
static PGconn *
connect_host (Pg *self, char **keywords, char **values, GsCall *call, gint64 until_us, GError **error)
{
  PGconn *pg = PQconnectStartParams ((const char *const *) keywords, (const char *const *) values, 0);
  g_autofree char *why = NULL;
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  int ready = 1;
  while (pg != NULL && PQstatus (pg) != CONNECTION_BAD && state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED)
    {
      ready = wait_socket (pg, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, call, until_us);
      if (ready != 1)
        break;
      state = PQconnectPoll (pg);
    }
  if (pg != NULL && state == PGRES_POLLING_OK)
    {
      PQsetNoticeProcessor (pg, ignore_notice, NULL);
      if (check_server (self, pg, error))
        return pg;
      pg_close (pg);
      return NULL;
    }
  why = ready == 1 ? one_line (pg != NULL ? PQerrorMessage (pg) : "no memory") : g_strdup ("it does not answer");
  pg_close (pg);
  if (ready < 0 && call != NULL && !gs_call_check (call, "connecting to the metadata store", error))
    return NULL;
  gs_fail (error, GS_ERROR_UNAVAILABLE, "the metadata store (%s) cannot be reached: %s", self->place, why);
  return NULL;
}

/* Is it a list, one entry for each host? */
static gboolean
is_listed (const char *keyword)
{
  return strcmp (keyword, "host") == 0 || strcmp (keyword, "hostaddr") == 0 || strcmp (keyword, "port") == 0;
}

static guint
count_hosts (char **keywords, char **values)
{
  guint n = 1;
  for (guint i = 0; keywords[i] != NULL; i++)
    if (is_listed (keywords[i]) && strcmp (keywords[i], "port") != 0)
      {
        guint entries = 1;
        for (const char *at = values[i]; *at != '\0'; at++)
          entries += *at == ',';
        n = MAX (n, entries);
      }
  return n;
}

/* The values with the entry of one host in the place of lists. *full*. */
static char **
values_for (char **keywords, char **values, guint host)
{
  char **chosen = g_strdupv (values);
  for (guint i = 0; keywords[i] != NULL; i++)
    if (is_listed (keywords[i]))
      {
        g_auto (GStrv) entries = g_strsplit (values[i], ",", -1);
        guint n = g_strv_length (entries);
        g_free (chosen[i]);
        chosen[i] = g_strdup (n == 0 ? "" : entries[n == 1 ? 0 : MIN (host, n - 1)]);
      }
  return chosen;
}

/*
 * libpq goes on to the next host of a list when one refuses. One that vanished without a word is only given up when the
 * time is over, so each gets a share of it. The one that answered last comes first.
 */
PGconn *
pg_connect (Pg *self, char **keywords, char **values, GsCall *call, gint64 until_us, GError **error)
{
  guint n = count_hosts (keywords, values), first = __atomic_load_n (&self->host_first, __ATOMIC_RELAXED);
  g_autoptr (GError) why = NULL;
  for (guint i = 0; i < n; i++)
    {
      guint host = (first + i) % n;
      g_auto (GStrv) own = values_for (keywords, values, host);
      gint64 now_us = g_get_monotonic_time ();
      PGconn *pg;
      g_clear_error (&why);
      pg = connect_host (self, keywords, own, call, now_us + MAX (until_us - now_us, 0) / (n - i), &why);
      if (pg != NULL)
        {
          __atomic_store_n (&self->host_first, host, __ATOMIC_RELAXED);
          return pg;
        }
      if (gs_error_code (why) != GS_ERROR_UNAVAILABLE)
        break;
    }
  g_propagate_error (error, g_steal_pointer (&why));
  return NULL;
}

gboolean
pg_alive (PGconn *pg)
{
  struct pollfd fd = { PQsocket (pg), POLLIN, 0 };
  if (PQstatus (pg) != CONNECTION_OK)
    return FALSE;
  if (poll (&fd, 1, 0) <= 0)
    return TRUE;
  return PQconsumeInput (pg) == 1 && PQstatus (pg) == CONNECTION_OK;
}

/* --------------------------------------------------------------------------------------- answers */

/* FALSE when the connection is lost, or the time was up. */
static gboolean
flush (SqlConn *conn, gint64 until_us)
{
  int left;
  while ((left = PQflush (conn->pg)) == 1)
    {
      if (wait_socket (conn->pg, POLLIN | POLLOUT, NULL, until_us) != 1 || PQconsumeInput (conn->pg) != 1)
        return FALSE;
    }
  return left == 0;
}

/* The next result, NULL after the last. FALSE when the connection is lost or silent, or the call ended. */
static gboolean
next_result (SqlConn *conn, PGresult **ret_result)
{
  while (PQisBusy (conn->pg))
    if (wait_socket (conn->pg, POLLIN, conn->call, conn->until_us) != 1 || PQconsumeInput (conn->pg) != 1)
      return FALSE;
  *ret_result = PQgetResult (conn->pg);
  return TRUE;
}

static gboolean
failed (const PGresult *result)
{
  ExecStatusType status = PQresultStatus (result);
  return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE;
}

PGresult *
pg_await (SqlConn *conn)
{
  PGresult *kept = NULL, *result;
  if (!flush (conn, conn->until_us))
    {
      conn->broken = TRUE;
      return NULL;
    }
  for (;;)
    {
      if (!next_result (conn, &result))
        {
          conn->broken = TRUE;
          PQclear (kept);
          return NULL;
        }
      if (result == NULL)
        break;
      if (kept != NULL && failed (kept))
        PQclear (result); /* the first failure is the cause */
      else
        {
          PQclear (kept);
          kept = result;
        }
    }
  if (PQstatus (conn->pg) != CONNECTION_OK)
    conn->broken = TRUE;
  if (kept == NULL)
    conn->broken = TRUE;
  return kept;
}

void
pg_limit (SqlConn *conn)
{
  gint64 now_us = g_get_monotonic_time ();
  conn->until_us = now_us + pg_left (conn) + SLACK_US;
}

gint64
pg_left (const SqlConn *conn)
{
  gint64 left_us = conn->patient ? PATIENT_US : conn->self->statement_timeout_us;
  if (conn->call != NULL && conn->call->deadline_us != G_MAXINT64)
    left_us = MIN (left_us, conn->call->deadline_us - g_get_monotonic_time ());
  return MAX (left_us, 1000);
}

/* -------------------------------------------------------------------------------------- its errors */

typedef struct
{
  const char *state; /* SQLSTATE, or how it begins */
  GsErrorCode code;
  const char *advice;
} Meaning;

static const Meaning meanings[] = {
  { "08", GS_ERROR_UNAVAILABLE, "the connection was lost; nothing was changed" },
  { "57P", GS_ERROR_UNAVAILABLE, "it is stopping or starting; nothing was changed" },
  { "25P03", GS_ERROR_UNAVAILABLE, "the transaction stood still for too long; nothing was changed" },
  { "25006", GS_ERROR_UNAVAILABLE, "it is a standby and takes no writes; is a failover under way?" },
  { "57014", GS_ERROR_DEADLINE_EXCEEDED, "the statement took too long and was stopped" },
  { "40", GS_ERROR_ABORTED, "another transaction was in the way; look again" },
  { "23505", GS_ERROR_ABORTED, "another process did the same at this moment; look again" },
  { "23503", GS_ERROR_ABORTED, "what it refers to went away at this moment; look again" },
  { "53", GS_ERROR_UNAVAILABLE, "it is out of connections, memory or disk; nothing was changed" },
  { "58", GS_ERROR_UNAVAILABLE, "its disk reported an error; look at its log" },
  { "XX00", GS_ERROR_DATA_LOSS, "it says that its data is damaged; stop, keep a copy and restore a backup" },
  { "42501", GS_ERROR_FAILED_PRECONDITION, "its user may not do that; check what it was granted" },
  { "42P01", GS_ERROR_FAILED_PRECONDITION, "its tables are missing; run “gitstead metadata migrate”" },
  { "3F000", GS_ERROR_FAILED_PRECONDITION, "its schema is missing; run “gitstead metadata migrate”" },
  { "22", GS_ERROR_INVALID_ARGUMENT, "it cannot keep such a value" },
  { NULL, GS_ERROR_INTERNAL, "this is a fault in the server" },
};

static const Meaning *
meaning_of (const char *state)
{
  const Meaning *meaning = meanings;
  if (state == NULL) /* what libpq finds by itself has no code: it is about the connection */
    return meanings;
  if (strcmp (state, "XX000") == 0)
    return &meanings[G_N_ELEMENTS (meanings) - 1];
  while (meaning->state != NULL && !g_str_has_prefix (state, meaning->state))
    meaning++;
  return meaning;
}

gboolean
pg_fail (SqlConn *conn, const PGresult *result, GError **error)
{
  const char *state = result != NULL ? PQresultErrorField (result, PG_DIAG_SQLSTATE) : NULL;
  const Meaning *meaning = meaning_of (state);
  g_autofree char *said = NULL;
  if (result == NULL || meaning->code == GS_ERROR_UNAVAILABLE)
    conn->broken = TRUE;
  /* Statements of calls that should end are stopped; the call knows why. */
  if ((result == NULL || meaning->code == GS_ERROR_DEADLINE_EXCEEDED) && conn->call != NULL
      && !gs_call_check (conn->call, conn->doing, error))
    return FALSE;
  conn->lost = conn->lost || conn->broken;
  said = one_line (result != NULL && PQresultErrorField (result, PG_DIAG_MESSAGE_PRIMARY) != NULL
                       ? PQresultErrorField (result, PG_DIAG_MESSAGE_PRIMARY)
                       : PQerrorMessage (conn->pg));
  return gs_fail (error, meaning->code, "%s: the metadata store (%s) failed (%s): %s", conn->doing, conn->self->place,
                  *said != '\0' ? said : "it does not answer", meaning->advice);
}

gboolean
pg_exec (SqlConn *conn, const char *text, GError **error)
{
  gboolean ok;
  PGresult *result;
  pg_limit (conn);
  if (PQsendQuery (conn->pg, text) != 1)
    return pg_fail (conn, NULL, error);
  result = pg_await (conn);
  ok = result != NULL && !failed (result);
  if (!ok)
    pg_fail (conn, result, error);
  PQclear (result);
  return ok;
}
