/* SPDX-License-Identifier: Apache-2.0 */
/**
 * driver.h - the inside of metadata/postgres: connections and statements, as sql/store.h wants them.
 *
 * Nothing outlives a transaction on the server's side: no named statements, no session settings, no session
 * locks. So a pooler that gives every transaction another connection can stand between. Every wait is on the
 * socket, with the call's deadline and cancellation; a connection that did not answer in time is closed, and the
 * server stops what it was doing when it notices. (PQcancel would wait for a server that hangs, without an end.)
 */
#ifndef METADATA_POSTGRES_DRIVER_H
#define METADATA_POSTGRES_DRIVER_H

#include <gitstead/metadata.h>
#include <gitstead/thread.h>

#include <libpq-fe.h>

#include "sql.h"

#define PG_PARAMETERS_MAX 20

typedef struct Pg Pg;

/** A statement as the server wants it: $1 instead of names. */
typedef struct
{
  char *text;
  char *names[PG_PARAMETERS_MAX]; /* ":id"; the place is the number less one */
  guint n;
} PgQuery;

typedef struct
{
  Pg *self;
  PGconn *pg;
  GsCall *call;        /* whose work it does now; may be NULL */
  const char *doing;   /* what that is, for messages; constant */
  gint64 made_us;      /* when it was connected; monotonic */
  gint64 until_us;     /* of the statement under way */
  GPtrArray *results;  /* of PGresult: those that are being read */
  gboolean writer;     /* inside a transaction */
  gboolean fresh;      /* nothing was asked of the server since it was taken */
  gboolean hinted;     /* whoever waits is to be woken at the commit */
  gboolean patient;    /* a migration: a statement may take as long as it takes */
  gboolean broken;     /* to be closed when it is given back */
  gboolean lost;       /* … and not for the call's sake: the idle ones may be as dead */
} SqlConn;

struct Pg
{
  const GsHost *host;
  char **keywords, **values;               /* of the connection, NULL-terminated */
  char **listen_keywords, **listen_values; /* NULL: there is no listening */
  char *schema, *quoted_schema, *channel;
  guint host_first;                        /* atomic: the one of several hosts that answered last */
  char *place;                             /* "database gitstead on db.example:5432": for messages, no secrets */
  guint n_max;
  gint64 connect_timeout_us, statement_timeout_us, pool_wait_us;
  gboolean auto_migrate;
  PgQuery queries[SQL_N_QUERIES];
  GsMetric *failures;

  GsMutex lock; /* of what follows */
  GsCond given;
  GPtrArray *idle;     /* of SqlConn */
  guint n_open;        /* idle, taken, or being connected */
  gboolean checked;    /* the schema is the one that we know */
  gboolean away;       /* the last attempt to connect failed */
  gboolean probing;    /* somebody is trying */
  gint64 retry_us;     /* not before; monotonic */
  gint64 backoff_us;
  char *why_away;
  guint64 n_hints;     /* changes of jobs and nodes, from 1 */

  GsThread listener;
  gboolean listening;
  int wake_fd;         /* ends the listener; -1 without one */
};

/** A statement being bound and run. What goes wrong early is told by the first step. */
typedef struct
{
  SqlConn *conn;
  const PgQuery *query;
  const char *values[PG_PARAMETERS_MAX];
  guint64 numbers[PG_PARAMETERS_MAX]; /* big endian */
  int lengths[PG_PARAMETERS_MAX];
  Oid types[PG_PARAMETERS_MAX];
  PGresult *result; /* in conn->results */
  int row;
  const char *fault; /* a parameter that the statement does not have; a value that is not text */
} SqlStatement;

/* ------------------------------------------------------------------------ wire.c: talking to the server */

/** Connects, until @until_us at most. NULL with UNAVAILABLE. *full* (PQfinish). */
PGconn *pg_connect (Pg *self, char **keywords, char **values, GsCall *call, gint64 until_us, GError **error);
/** Closes without a word to the server. */
void pg_close (PGconn *pg);
/**
 * Waits for the answer to what was sent: the last of the results, or the first that failed. NULL when the
 * connection is lost, did not answer in time or the call was cancelled; then conn->broken. *full* (PQclear).
 */
PGresult *pg_await (SqlConn *conn);
/** How long a statement that begins now may take. */
gint64 pg_left (const SqlConn *conn);
/** Gives what is sent next that time. */
void pg_limit (SqlConn *conn);
/** Runs statements without parameters in one round trip. FALSE with @error. */
gboolean pg_exec (SqlConn *conn, const char *text, GError **error);
/** The one place where the server's error codes become errors. @result NULL: the connection was lost. Always FALSE. */
gboolean pg_fail (SqlConn *conn, const PGresult *result, GError **error);
/** FALSE when the server has gone away while nobody was looking. */
gboolean pg_alive (PGconn *pg);

/* -------------------------------------------------------------------------------- pool.c: connections */

/** As sql_take_writer or sql_take_reader, whatever the schema is. */
SqlConn *pg_take (Pg *self, GsCall *call, gboolean writer, const char *doing, GError **error);
void pg_close_all (Pg *self);
/** Begins a transaction: its timeouts, and read committed whatever the database's default. */
gboolean pg_begin (SqlConn *conn, GError **error);

/* -------------------------------------------------------------------------------------- schema.c */

/** Makes the store's statements of sql_queries. */
void pg_queries_make (Pg *self);
void pg_queries_free (Pg *self);
gboolean pg_migrate (Pg *self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error);
/** FAILED_PRECONDITION unless the schema is the one that we know. */
gboolean pg_check_schema (SqlConn *conn, GError **error);

/* --------------------------------------------------------------------------------------- listen.c */

/** Without a listener, changes of other processes are not noticed; nothing else. */
void pg_listen_start (Pg *self);
void pg_listen_stop (Pg *self);
void pg_hint (Pg *self);
gboolean pg_wait_hint (gpointer self, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen,
                       GError **error);

#endif
