/* SPDX-License-Identifier: Apache-2.0 */
/**
 * lite.h - the inside of metadata/sqlite: connections and statements.
 *
 * One connection writes (SQLite has one writer anyway, and transactions that read before they write and
 * have to upgrade fail at once under contention), a few others read. A connection is used by one thread
 * at a time, between take and give. No callback of a caller runs while one is taken: results are
 * gathered first.
 */
#ifndef METADATA_LITE_H
#define METADATA_LITE_H

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
} LiteConn;

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
  LiteConn *writer;   /* NULL while taken */
  GPtrArray *readers; /* those that are not taken */
  guint n_behind;     /* migrations that are missing: nothing but migrate works then */
  LiteConn **all;     /* 1 + n_readers, for stop */
};

/** A statement being bound and run. Bindings fail late: the first step tells. */
typedef struct
{
  LiteConn *conn;
  sqlite3_stmt *stmt;
  int rc;
} LiteQuery;

/* -------------------------------------------------------------------------------- conn.c: connections */

/** Opens all connections. The file is made (mode 0600) when it is not there. */
gboolean lite_open_all (Lite *self, GError **error);
void lite_close_all (Lite *self);

/**
 * Take a connection, waiting as long as the call's deadline allows. The writer comes inside a BEGIN
 * IMMEDIATE. @doing is constant text. NULL with @error; FAILED_PRECONDITION while migrations are missing,
 * except for the migrator. Given back with lite_give.
 */
LiteConn *lite_take_reader (Lite *self, GsCall *call, const char *doing, GError **error);
LiteConn *lite_take_writer (Lite *self, GsCall *call, const char *doing, GError **error);
LiteConn *lite_take_migrator (Lite *self, GsCall *call, gboolean writer, const char *doing, GError **error);
/** Gives a connection back. An open transaction is rolled back. */
void lite_give (LiteConn *conn);
/** Ends the writer's transaction durably. FALSE: UNKNOWN when it may have happened all the same. */
gboolean lite_commit (LiteConn *conn, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (LiteConn, lite_give)

/** The one place where SQLite's result codes become errors. Always FALSE. */
gboolean lite_fail (LiteConn *conn, int rc, GError **error);
/** Runs statements without results. */
gboolean lite_exec (LiteConn *conn, const char *sql, GError **error);

/* ---------------------------------------------------------------------------------- conn.c: statements */

LiteQuery lite_query (LiteConn *conn, SqlQuery query);
void lite_bind_int (LiteQuery *query, const char *name, gint64 value);
void lite_bind_text (LiteQuery *query, const char *name, const char *value); /* NULL = SQL NULL */
void lite_bind_blob (LiteQuery *query, const char *name, gconstpointer bytes, gsize n_bytes);
/** All zero is "none": SQL NULL. */
void lite_bind_id (LiteQuery *query, const char *name, const GsTxId *id);
/** *@ret_row says whether a row is there to be read; without one the statement is reset. */
gboolean lite_step (LiteQuery *query, gboolean *ret_row, GError **error);
/** Ends a statement before its last row. */
void lite_done (LiteQuery *query);
/** Runs a statement whose rows, if any, do not matter. */
gboolean lite_run (LiteQuery *query, GError **error);
/** Runs a statement that yields at most one row of one integer. */
gboolean lite_run_int (LiteQuery *query, gboolean *ret_found, gint64 *ret_value, GError **error);
/** The text of a column, "" for NULL. *borrowed until the next step*. */
const char *lite_text (LiteQuery *query, int column);
/** Copies a blob of exactly @n_bytes. DATA_LOSS when it is not so long. */
gboolean lite_blob (LiteQuery *query, int column, gpointer ret_bytes, gsize n_bytes, GError **error);

/* ------------------------------------------------------------------------------------- schema.c */

/** Checks the recorded version, and counts (or, unless @plan_only, runs) the missing migrations. */
gboolean lite_migrate (Lite *self, GsCall *call, gboolean plan_only, guint *ret_pending, GError **error);
/** FAILED_PRECONDITION when the file is a database of another program. Changes nothing. */
gboolean lite_check_ours (LiteConn *conn, gboolean *ret_empty, GError **error);

/* ------------------------------------------------------------------------ repos.c, changes.c, tokens.c */

gboolean lite_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                            GError **error);
gboolean lite_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error);
gboolean lite_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                         GsRepoRowVisit visit, gpointer user, GError **error);
gboolean lite_repo_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean lite_repo_list (gpointer self, GsCall *call, const char *virtual_storage, const char *prefix,
                         const char *after, gsize limit, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean lite_repo_rename (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                           const char *new_path, GError **error);
gboolean lite_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                           GsRepoRowVisit visit, gpointer user, GError **error);
gboolean lite_repo_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error);

gboolean lite_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation,
                      GError **error);
gboolean lite_tx_find (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                       GsChangeVisit visit, gpointer user, GError **error);
gboolean lite_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                        GError **error);
gboolean lite_change_by_call (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *call_id,
                              GsChangeVisit visit, gpointer user, GError **error);
gboolean lite_change_list (gpointer self, GsCall *call, guint64 repository_id, guint64 after, gsize limit,
                           GsChangeVisit visit, gpointer user, GError **error);
gboolean lite_replica_set (gpointer self, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                           gboolean force, GError **error);

gboolean lite_token_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error);
gboolean lite_token_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user,
                         GError **error);
gboolean lite_token_list (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error);
gboolean lite_token_delete (gpointer self, GsCall *call, const char *id, GError **error);

#endif
