/* SPDX-License-Identifier: Apache-2.0 */
/**
 * store.h - the slots of kind METADATA written once for every SQL store, over what a driver gives.
 *
 * A store's folder has a driver.h, which defines SqlConn and SqlStatement, and defines the functions of the
 * first part. The second part is the same for all, and is compiled into each store's plugin.
 *
 * A connection is used by one thread at a time, between take and give. No callback of a caller runs while
 * one is taken: results are gathered first. A writer's transaction sees, in each statement, what others had
 * committed before that statement began; what must not change between two of its statements is locked.
 */
#ifndef METADATA_STORE_H
#define METADATA_STORE_H

#include <gitstead/metadata.h>
#include <gitstead/thread.h>

#include "sql.h"

#include "driver.h"

/* -------------------------------------------------------------------------------------- the driver's */

/**
 * Take a connection, waiting as long as the call's deadline allows; @call may be NULL. A writer comes inside a
 * transaction. @doing is constant text, for messages. NULL with @error; FAILED_PRECONDITION while migrations
 * are missing. Given back with sql_give, which rolls an open transaction back and ends open statements.
 */
SqlConn *sql_take_reader (gpointer self, GsCall *call, const char *doing, GError **error);
SqlConn *sql_take_writer (gpointer self, GsCall *call, const char *doing, GError **error);
void sql_give (SqlConn *conn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (SqlConn, sql_give)
/** Ends the writer's transaction durably. FALSE: UNKNOWN when it may have happened all the same. */
gboolean sql_commit (SqlConn *conn, GError **error);

/**
 * Until the writer's transaction ends no other writer, of whatever process, holds the same. @space is constant
 * text. Where writers exclude each other anyway this does nothing.
 */
gboolean sql_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, GError **error);
/** The same without waiting: *@ret_locked says whether. */
gboolean sql_try_lock (SqlConn *conn, const char *space, gconstpointer key, gsize n_key, gboolean *ret_locked,
                       GError **error);
/** Wakes whoever waits for jobs or nodes, when the writer's transaction ends well. */
gboolean sql_hint (SqlConn *conn, GError **error);

/** {NOW} is bound by the driver. */
SqlStatement sql_query (SqlConn *conn, SqlQuery query);
/** Bindings fail late: the first step tells. What is bound is borrowed until then. */
void sql_bind_int (SqlStatement *query, const char *name, gint64 value);
void sql_bind_text (SqlStatement *query, const char *name, const char *value); /* NULL = SQL NULL */
void sql_bind_blob (SqlStatement *query, const char *name, gconstpointer bytes, gsize n_bytes);
/** All zero is "none": SQL NULL. */
void sql_bind_id (SqlStatement *query, const char *name, const GsTxId *id);
/** *@ret_row says whether a row is there to be read; without one the statement is reset. */
gboolean sql_step (SqlStatement *query, gboolean *ret_row, GError **error);
/** Ends a statement before its last row. */
void sql_done (SqlStatement *query);
/** Runs a statement whose rows, if any, do not matter. */
gboolean sql_run (SqlStatement *query, GError **error);
/** Runs a statement that yields at most one row of one integer. */
gboolean sql_run_int (SqlStatement *query, gboolean *ret_found, gint64 *ret_value, GError **error);
gint64 sql_int (SqlStatement *query, int column);
gboolean sql_is_null (SqlStatement *query, int column);
/** The text of a column, "" for NULL. *borrowed until the next step*. */
const char *sql_text (SqlStatement *query, int column);
/** The bytes of a column. *borrowed until the next step*. */
gconstpointer sql_bytes (SqlStatement *query, int column, gsize *ret_n_bytes);
/** Copies a blob of exactly @n_bytes. DATA_LOSS when it is not so long. */
gboolean sql_blob (SqlStatement *query, int column, gpointer ret_bytes, gsize n_bytes, GError **error);

/* ------------------------------------------------------------------------------------ the same for all */

gboolean sql_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                           GError **error);
gboolean sql_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error);
gboolean sql_repo_restore (gpointer self, GsCall *call, const GsRepoRow *row, GError **error);
/** Gives no id up to @id out from now on. */
gboolean sql_ids_keep (SqlConn *conn, guint64 id, const char *virtual_storage, const char *path, GError **error);
gboolean sql_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                        GsRepoRowVisit visit, gpointer user, GError **error);
gboolean sql_repo_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean sql_repo_list (gpointer self, GsCall *call, const char *virtual_storage, const char *prefix, const char *after,
                        gsize limit, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean sql_repo_list_all (gpointer self, GsCall *call, guint64 after, gsize limit, GsRepoRowVisit visit,
                            gpointer user, GError **error);
gboolean sql_repo_list_on (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit,
                           GsRepoRowVisit visit, gpointer user, GError **error);
gboolean sql_repo_rename (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                          const char *new_path, GError **error);
gboolean sql_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                          GsRepoRowVisit visit, gpointer user, GError **error);
gboolean sql_repo_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error);
gboolean sql_repo_set_policy (gpointer self, GsCall *call, guint64 id, guint32 copies, const char *consistency,
                              GError **error);

gboolean sql_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation,
                     GError **error);
gboolean sql_tx_find (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                      GsChangeVisit visit, gpointer user, GError **error);
gboolean sql_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                       GError **error);
gboolean sql_change_by_call (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *call_id,
                             GsChangeVisit visit, gpointer user, GError **error);
gboolean sql_change_list (gpointer self, GsCall *call, guint64 repository_id, guint64 after, gsize limit,
                          GsChangeVisit visit, gpointer user, GError **error);

gboolean sql_replica_set (gpointer self, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                          gboolean force, GError **error);
gboolean sql_replica_drop (gpointer self, GsCall *call, guint64 repository_id, const char *storage, gboolean force,
                           GError **error);
gboolean sql_replica_verified (gpointer self, GsCall *call, guint64 repository_id, const char *storage,
                               gboolean objects, GError **error);

gboolean sql_token_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error);
gboolean sql_token_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user,
                        GError **error);
gboolean sql_token_list (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error);
gboolean sql_token_delete (gpointer self, GsCall *call, const char *id, GError **error);

gboolean sql_node_report (gpointer self, GsCall *call, const GsNodeRow *row, GsNodeState *ret_state, GError **error);
gboolean sql_node_list (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error);
gboolean sql_node_set_state (gpointer self, GsCall *call, const char *storage, GsNodeState state, GError **error);
gboolean sql_node_forget (gpointer self, GsCall *call, const char *storage, GError **error);
gboolean sql_node_found (gpointer self, GsCall *call, const char *storage, guint64 highest_id, gboolean joined,
                         GError **error);

gboolean sql_job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error);
gboolean sql_job_take (gpointer self, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit, gpointer user,
                       GError **error);
gboolean sql_job_renew (gpointer self, GsCall *call, guint64 id, guint64 token, gint64 lease_us, GError **error);
gboolean sql_job_end (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us,
                      GError **error);
gboolean sql_job_list (gpointer self, GsCall *call, const GsJobFilter *filter, guint64 after, gsize limit,
                       GsJobRowVisit visit, gpointer user, GError **error);
gboolean sql_job_prune (gpointer self, GsCall *call, gint64 age_us, gsize limit, guint *ret_n, GError **error);

gboolean sql_lease_take (gpointer self, GsCall *call, const char *name, const char *owner, gint64 lease_us,
                         guint64 *ret_token, GError **error);
gboolean sql_lease_renew (gpointer self, GsCall *call, const char *name, guint64 token, gint64 lease_us,
                          GError **error);
gboolean sql_lease_release (gpointer self, GsCall *call, const char *name, guint64 token, GError **error);
gboolean sql_lease_list (gpointer self, GsCall *call, GsLeaseRowVisit visit, gpointer user, GError **error);

/** All slots above; a store adds migrate and wait_hint. */
#define SQL_SLOTS                                                                                                      \
  .repo_reserve = sql_repo_reserve, .repo_record = sql_repo_record, .repo_find = sql_repo_find,                        \
  .repo_get = sql_repo_get, .repo_list = sql_repo_list, .repo_list_all = sql_repo_list_all,                            \
  .repo_list_on = sql_repo_list_on, .repo_rename = sql_repo_rename, .repo_delete = sql_repo_delete,                    \
  .repo_created_by = sql_repo_created_by, .repo_set_policy = sql_repo_set_policy, .decide = sql_decide,                \
  .tx_find = sql_tx_find, .tx_abort = sql_tx_abort, .change_by_call = sql_change_by_call,                              \
  .change_list = sql_change_list, .replica_set = sql_replica_set, .replica_drop = sql_replica_drop,                    \
  .replica_verified = sql_replica_verified, .token_put = sql_token_put, .token_get = sql_token_get,                    \
  .token_list = sql_token_list, .token_delete = sql_token_delete, .node_report = sql_node_report,                      \
  .node_list = sql_node_list, .node_set_state = sql_node_set_state, .node_forget = sql_node_forget,                    \
  .job_add = sql_job_add, .job_take = sql_job_take, .job_renew = sql_job_renew, .job_end = sql_job_end,                \
  .job_list = sql_job_list, .job_prune = sql_job_prune, .lease_take = sql_lease_take,                                  \
  .lease_renew = sql_lease_renew, .lease_release = sql_lease_release, .lease_list = sql_lease_list,                     \
  .repo_restore = sql_repo_restore, .node_found = sql_node_found

#endif
