/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions on writes, abort marks, and how far each replica is. */
#include "lite.h"

/* ------------------------------------------------------------------------------------------ reading */

/* A change with all that it points to. */
typedef struct
{
  GsChange change;
  GArray *updates;
  char *text;
  char **voters;
  char *caller;
} Held;

static void
held_free (gpointer data)
{
  Held *held = data;
  g_clear_pointer (&held->updates, g_array_unref);
  g_free (held->text);
  g_strfreev (held->voters);
  g_free (held->caller);
  g_free (held);
}

/* Columns as in the fragment CHANGE_COLUMNS. */
static Held *
held_new (LiteQuery *query, GError **error)
{
  Held *held = g_new0 (Held, 1);
  GsChange *change = &held->change;
  gconstpointer updates = sqlite3_column_blob (query->stmt, 6);
  change->size = sizeof *change;
  change->repository_id = (guint64) sqlite3_column_int64 (query->stmt, 0);
  change->generation = (guint64) sqlite3_column_int64 (query->stmt, 1);
  if (!lite_blob (query, 2, change->txid.bytes, GS_TXID_SIZE, error)
      || (sqlite3_column_type (query->stmt, 3) != SQLITE_NULL
          && !lite_blob (query, 3, change->call_id.bytes, GS_TXID_SIZE, error))
      || !lite_blob (query, 4, change->refs_digest.bytes, GS_DIGEST_SIZE, error)
      || !lite_blob (query, 5, change->vote, sizeof change->vote, error)
      || (held->updates
          = sql_updates_decode (updates, (gsize) sqlite3_column_bytes (query->stmt, 6), &held->text, error))
             == NULL)
    {
      held_free (held);
      return NULL;
    }
  held->voters = sql_voters_decode (lite_text (query, 7));
  held->caller = g_strdup (lite_text (query, 8));
  change->updates = (const GsRefUpdate *) held->updates->data;
  change->n_updates = held->updates->len;
  change->voters = (const char *const *) held->voters;
  change->caller = held->caller;
  change->decided_wall_us = sqlite3_column_int64 (query->stmt, 9);
  return held;
}

static GPtrArray *
gather (LiteQuery *query, GError **error)
{
  g_autoptr (GPtrArray) changes = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      Held *held;
      if (!lite_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&changes);
      held = held_new (query, error);
      if (held == NULL)
        {
          lite_done (query);
          return NULL;
        }
      g_ptr_array_add (changes, held);
    }
}

static void
show (GPtrArray *changes, GsChangeVisit visit, gpointer user)
{
  for (guint i = 0; visit != NULL && i < changes->len; i++)
    if (!visit (&((Held *) g_ptr_array_index (changes, i))->change, user))
      return;
}

static gboolean
check_owner (guint64 asked, guint64 owner, GError **error)
{
  if (asked != owner)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the transaction belongs to repository %" G_GUINT64_FORMAT ", not to %" G_GUINT64_FORMAT, owner,
                    asked);
  return TRUE;
}

/* Does the transaction have an abort mark? */
static gboolean
find_abort (LiteConn *conn, guint64 repository_id, const GsTxId *txid, gboolean *ret_aborted, GError **error)
{
  LiteQuery query = lite_query (conn, SQL_ABORT_FIND);
  gint64 owner = 0;
  lite_bind_id (&query, ":txid", txid);
  return lite_run_int (&query, ret_aborted, &owner, error)
         && (!*ret_aborted || check_owner (repository_id, (guint64) owner, error));
}

gboolean
lite_tx_find (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
              GsChangeVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  gboolean aborted = FALSE, ok;
  LiteConn *conn = lite_take_reader (self, call, "looking up a transaction", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  /* Two statements without a common snapshot: each of the two states is final, so at worst one is missed that came
   * between them, as if this call had been earlier. */
  query = lite_query (conn, SQL_CHANGE_BY_TX);
  lite_bind_id (&query, ":txid", txid);
  changes = gather (&query, error);
  ok = changes != NULL && (changes->len > 0 || find_abort (conn, repository_id, txid, &aborted, error));
  lite_give (conn);
  if (!ok
      || (changes->len > 0
          && !check_owner (repository_id, ((Held *) g_ptr_array_index (changes, 0))->change.repository_id, error)))
    return FALSE;
  *ret_state = changes->len > 0 ? GS_TX_DECIDED : aborted ? GS_TX_ABORTED : GS_TX_UNKNOWN;
  show (changes, visit, user);
  return TRUE;
}

gboolean
lite_change_by_call (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *call_id, GsChangeVisit visit,
                     gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  LiteConn *conn = lite_take_reader (self, call, "looking up what a call changed", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_CHANGE_BY_CALL);
  lite_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  lite_bind_id (&query, ":call_id", call_id);
  changes = gather (&query, error);
  lite_give (conn);
  if (changes == NULL)
    return FALSE;
  show (changes, visit, user);
  return TRUE;
}

gboolean
lite_change_list (gpointer self, GsCall *call, guint64 repository_id, guint64 after, gsize limit, GsChangeVisit visit,
                  gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  LiteConn *conn = lite_take_reader (self, call, "listing changes", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_CHANGE_LIST);
  lite_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  lite_bind_int (&query, ":after", (gint64) MIN (after, (guint64) G_MAXINT64));
  lite_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  changes = gather (&query, error);
  lite_give (conn);
  if (changes == NULL)
    return FALSE;
  show (changes, visit, user);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- deciding */

/* The generation that the transaction was decided with before; 0 when it was not. */
static gboolean
find_decided (LiteConn *conn, guint64 repository_id, const GsTxId *txid, gint64 *ret_generation, GError **error)
{
  LiteQuery query = lite_query (conn, SQL_CHANGE_OF_TX);
  gboolean row;
  gint64 owner;
  lite_bind_id (&query, ":txid", txid);
  if (!lite_step (&query, &row, error))
    return FALSE;
  if (!row)
    {
      *ret_generation = 0;
      return TRUE;
    }
  owner = sqlite3_column_int64 (query.stmt, 0);
  *ret_generation = sqlite3_column_int64 (query.stmt, 1);
  lite_done (&query);
  return check_owner (repository_id, (guint64) owner, error);
}

static gboolean
check_request (const GsDecideRequest *request, GError **error)
{
  static const GsTxId none;
  if (request->repository_id == 0 || request->repository_id > (guint64) G_MAXINT64
      || request->expected_generation >= (guint64) G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "deciding a write: the repository id or generation is out of range");
  if (memcmp (&request->txid, &none, sizeof none) == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "deciding a write on repository %" G_GUINT64_FORMAT ": it has no transaction id",
                    request->repository_id);
  return TRUE;
}

/* What else can stand against the decision: an abort mark, a gone repository, a moved generation, the same call. */
static gboolean
check_decidable (LiteConn *conn, const GsDecideRequest *request, GError **error)
{
  LiteQuery query;
  gboolean found, aborted;
  gint64 generation = 0;
  if (!find_abort (conn, request->repository_id, &request->txid, &aborted, error))
    return FALSE;
  if (aborted)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "deciding a write on repository %" G_GUINT64_FORMAT
                    ": the transaction was aborted meanwhile; begin it again",
                    request->repository_id);
  query = lite_query (conn, SQL_REPO_GENERATION);
  lite_bind_int (&query, ":id", (gint64) request->repository_id);
  if (!lite_run_int (&query, &found, &generation, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "deciding a write: there is no repository with the id %" G_GUINT64_FORMAT " any more",
                    request->repository_id);
  query = lite_query (conn, SQL_CHANGE_OF_CALL);
  lite_bind_int (&query, ":id", (gint64) request->repository_id);
  lite_bind_id (&query, ":call_id", &request->call_id);
  if (!lite_run_int (&query, &found, &generation, error))
    return FALSE;
  if (found)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS,
                    "deciding a write on repository %" G_GUINT64_FORMAT
                    ": the same call was decided before, as generation %" G_GINT64_FORMAT,
                    request->repository_id, generation);
  if ((guint64) generation != request->expected_generation)
    return gs_fail (error, GS_ERROR_ABORTED,
                    "deciding a write on repository %" G_GUINT64_FORMAT ": it is at generation %" G_GINT64_FORMAT
                    ", no longer at %" G_GUINT64_FORMAT,
                    request->repository_id, generation, request->expected_generation);
  return TRUE;
}

static gboolean
insert_change (LiteConn *conn, const GsDecideRequest *request, GBytes *updates, const char *voters, gint64 now_us,
               GError **error)
{
  gint64 generation = (gint64) request->expected_generation + 1;
  LiteQuery query = lite_query (conn, SQL_REPO_ADVANCE);
  lite_bind_int (&query, ":id", (gint64) request->repository_id);
  lite_bind_int (&query, ":generation", generation);
  lite_bind_blob (&query, ":refs_digest", request->refs_digest.bytes, GS_DIGEST_SIZE);
  lite_bind_int (&query, ":now", now_us);
  if (!lite_run (&query, error))
    return FALSE;
  query = lite_query (conn, SQL_CHANGE_INSERT);
  lite_bind_int (&query, ":id", (gint64) request->repository_id);
  lite_bind_int (&query, ":generation", generation);
  lite_bind_id (&query, ":txid", &request->txid);
  lite_bind_id (&query, ":call_id", &request->call_id);
  lite_bind_blob (&query, ":refs_digest", request->refs_digest.bytes, GS_DIGEST_SIZE);
  lite_bind_blob (&query, ":vote", request->vote, sizeof request->vote);
  lite_bind_blob (&query, ":updates", g_bytes_get_data (updates, NULL), g_bytes_get_size (updates));
  lite_bind_text (&query, ":voters", voters);
  lite_bind_text (&query, ":caller", request->caller != NULL ? request->caller : "");
  lite_bind_int (&query, ":now", now_us);
  return lite_run (&query, error);
}

static gboolean
advance_voters (LiteConn *conn, const GsDecideRequest *request, GError **error)
{
  for (gsize i = 0; request->voters[i] != NULL; i++)
    {
      LiteQuery query = lite_query (conn, SQL_REPLICA_ADVANCE);
      lite_bind_int (&query, ":id", (gint64) request->repository_id);
      lite_bind_text (&query, ":storage", request->voters[i]);
      lite_bind_int (&query, ":generation", (gint64) request->expected_generation + 1);
      if (!lite_run (&query, error))
        return FALSE;
      if (sqlite3_changes (conn->db) == 0)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "deciding a write on repository %" G_GUINT64_FORMAT ": “%s” holds no replica of it",
                        request->repository_id, request->voters[i]);
    }
  return TRUE;
}

gboolean
lite_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (GBytes) updates = NULL;
  g_autofree char *voters = NULL;
  g_autoptr (LiteConn) conn = NULL;
  gint64 decided = 0;
  if (!check_request (request, error)
      || (updates = sql_updates_encode (request->updates, request->n_updates, error)) == NULL
      || (voters = sql_voters_encode (request->voters, error)) == NULL)
    return FALSE;
  conn = lite_take_writer (self, call, "deciding a write", error);
  if (conn == NULL || !find_decided (conn, request->repository_id, &request->txid, &decided, error))
    return FALSE;
  if (decided != 0)
    {
      *ret_generation = (guint64) decided;
      return TRUE;
    }
  if (!check_decidable (conn, request, error)
      || !insert_change (conn, request, updates, voters, host->wall_us (host), error)
      || !advance_voters (conn, request, error) || !lite_commit (conn, error))
    return FALSE;
  *ret_generation = request->expected_generation + 1;
  return TRUE;
}

gboolean
lite_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
               GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (LiteConn) conn = lite_take_writer (self, call, "aborting a transaction", error);
  LiteQuery query;
  gboolean aborted;
  gint64 decided = 0;
  if (conn == NULL || !find_decided (conn, repository_id, txid, &decided, error))
    return FALSE;
  if (decided != 0)
    {
      *ret_state = GS_TX_DECIDED;
      return TRUE;
    }
  if (!find_abort (conn, repository_id, txid, &aborted, error))
    return FALSE;
  if (!aborted)
    {
      query = lite_query (conn, SQL_ABORT_INSERT);
      lite_bind_id (&query, ":txid", txid);
      lite_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
      lite_bind_int (&query, ":now", host->wall_us (host));
      if (!lite_run (&query, error) || !lite_commit (conn, error))
        return FALSE;
    }
  *ret_state = GS_TX_ABORTED;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- replicas */

gboolean
lite_replica_set (gpointer self, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                  gboolean force, GError **error)
{
  const GsHost *host = ((Lite *) self)->host;
  g_autoptr (LiteConn) conn = NULL;
  LiteQuery query;
  gboolean found;
  gint64 now = 0, repository = 0;
  if (storage == NULL || *storage == '\0' || strpbrk (storage, "\r\n") != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "recording a replica: the name of its storage is empty or not plain");
  conn = lite_take_writer (self, call, "recording a replica", error);
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_REPO_GENERATION);
  lite_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  if (!lite_run_int (&query, &found, &repository, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "recording a replica: there is no repository with the id %" G_GUINT64_FORMAT, repository_id);
  if (generation > (guint64) repository)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "recording a replica: “%s” says it is at generation %" G_GUINT64_FORMAT
                    " of repository %" G_GUINT64_FORMAT ", which is at %" G_GINT64_FORMAT
                    "; the metadata store may have been restored from an old backup",
                    storage, generation, repository_id, repository);
  query = lite_query (conn, SQL_REPLICA_GENERATION);
  lite_bind_int (&query, ":id", (gint64) repository_id);
  lite_bind_text (&query, ":storage", storage);
  if (!lite_run_int (&query, &found, &now, error))
    return FALSE;
  query = lite_query (conn, SQL_REPLICA_SET);
  lite_bind_int (&query, ":id", (gint64) repository_id);
  lite_bind_text (&query, ":storage", storage);
  lite_bind_int (&query, ":generation", found && !force ? MAX (now, (gint64) generation) : (gint64) generation);
  lite_bind_int (&query, ":now", host->wall_us (host));
  return lite_run (&query, error) && lite_commit (conn, error);
}
