/* SPDX-License-Identifier: Apache-2.0 */
/**
 * driver.h - the inside of metadata/sqlite: connections and statements, as sql/store.h wants them.
 *
 * One connection writes (SQLite has one writer anyway, and transactions that read before they write and
 * have to upgrade fail at once under contention), a few others read. A connection is used by one thread
 * at a time, between take and give.
 */
#ifndef METADATA_SQLITE_DRIVER_H
#define METADATA_SQLITE_DRIVER_H

#include <gitstead/metadata.h>
#include <gitstead/thread.h>

#include <sqlite3.h>

#include "sql.h"

typedef struct Lite Lite;

typedef struct
{
  Lite *self;
  sqlite3 *db;
  sqlite3_stmt *statements[SQL_N_QUERIES]; /* prepared on first use */
  GsCall *call;                            /* whose work it does now; may be NULL */
  const char *doing;                       /* what that is, for messages; constant */
  gint64 busy_until_us;
  gboolean writer;
  gboolean hinted;                         /* whoever waits is to be woken at the commit */
} SqlConn;

struct Lite
{
  const GsHost *host;
  char *path;
  gint64 busy_timeout_us;
  guint n_readers;
  gboolean auto_migrate;
  char *queries[SQL_N_QUERIES];

  GsMutex lock; /* of what follows */
  GsCond given;
  SqlConn *writer;   /* NULL while taken */
  GPtrArray *readers; /* those that are not taken */
  guint n_behind;     /* migrations that are missing: nothing but migrate works then */
  SqlConn **all;     /* 1 + n_readers, for stop */
  guint64 n_hints;    /* changes of jobs and nodes, from 1 */
};

/** A statement being bound and run. Bindings fail late: the first step tells. */
typedef struct
{
  SqlConn *conn;
  sqlite3_stmt *stmt;
  int rc;
} SqlStatement;

/* -------------------------------------------------------------------------------- conn.c: connections */

/** Opens all connections. The file is made (mode 0600) when it is not there. */
gboolean lite_open_all (Lite *self, GError **error);
void lite_close_all (Lite *self);

/** As sql_take_writer or sql_take_reader, also while migrations are missing. */
SqlConn *lite_take_migrator (Lite *self, GsCall *call, gboolean writer, const char *doing, GError **error);

/** The one place where SQLite's result codes become errors. Always FALSE. */
gboolean lite_fail (SqlConn *conn, int rc, GError **error);
/** Runs statements without results. */
gboolean lite_exec (SqlConn *conn, const char *sql, GError **error);

gboolean lite_wait_hint (gpointer self, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen,
                         GError **error);

/* ------------------------------------------------------------------------------------- schema.c */

/** Checks the recorded version, and counts (or, unless @plan_only, runs) the missing migrations. */
gboolean lite_migrate (Lite *self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error);
/** FAILED_PRECONDITION when the file is a database of another program. Changes nothing. */
gboolean lite_check_ours (SqlConn *conn, gboolean *ret_empty, GError **error);

#endif
