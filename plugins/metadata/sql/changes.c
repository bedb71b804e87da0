/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions on writes, abort marks, and how far each replica is. */
#include "store.h"

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
held_new (SqlStatement *query, GError **error)
{
  Held *held = g_new0 (Held, 1);
  GsChange *change = &held->change;
  gsize n_updates;
  gconstpointer updates = sql_bytes (query, 6, &n_updates);
  change->size = sizeof *change;
  change->repository_id = (guint64) sql_int (query, 0);
  change->generation = (guint64) sql_int (query, 1);
  if (!sql_blob (query, 2, change->txid.bytes, GS_TXID_SIZE, error)
      || (!sql_is_null (query, 3) && !sql_blob (query, 3, change->call_id.bytes, GS_TXID_SIZE, error))
      || !sql_blob (query, 4, change->refs_digest.bytes, GS_DIGEST_SIZE, error)
      || !sql_blob (query, 5, change->vote, sizeof change->vote, error)
      || (held->updates = sql_updates_decode (updates, n_updates, &held->text, error)) == NULL)
    {
      held_free (held);
      return NULL;
    }
  held->voters = sql_voters_decode (sql_text (query, 7));
  held->caller = g_strdup (sql_text (query, 8));
  change->updates = (const GsRefUpdate *) held->updates->data;
  change->n_updates = held->updates->len;
  change->voters = (const char *const *) held->voters;
  change->caller = held->caller;
  change->decided_wall_us = sql_int (query, 9);
  return held;
}

static GPtrArray *
gather (SqlStatement *query, GError **error)
{
  g_autoptr (GPtrArray) changes = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      Held *held;
      if (!sql_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&changes);
      held = held_new (query, error);
      if (held == NULL)
        {
          sql_done (query);
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
find_abort (SqlConn *conn, guint64 repository_id, const GsTxId *txid, gboolean *ret_aborted, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_ABORT_FIND);
  gint64 owner = 0;
  sql_bind_id (&query, ":txid", txid);
  return sql_run_int (&query, ret_aborted, &owner, error)
         && (!*ret_aborted || check_owner (repository_id, (guint64) owner, error));
}

gboolean
sql_tx_find (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
             GsChangeVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  gboolean aborted = FALSE, ok;
  SqlConn *conn = sql_take_reader (self, call, "looking up a transaction", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  /* Two statements without a common snapshot: each of the two states is final, so at worst one is missed that came
   * between them, as if this call had been earlier. */
  query = sql_query (conn, SQL_CHANGE_BY_TX);
  sql_bind_id (&query, ":txid", txid);
  changes = gather (&query, error);
  ok = changes != NULL && (changes->len > 0 || find_abort (conn, repository_id, txid, &aborted, error));
  sql_give (conn);
  if (!ok
      || (changes->len > 0
          && !check_owner (repository_id, ((Held *) g_ptr_array_index (changes, 0))->change.repository_id, error)))
    return FALSE;
  *ret_state = changes->len > 0 ? GS_TX_DECIDED : aborted ? GS_TX_ABORTED : GS_TX_UNKNOWN;
  show (changes, visit, user);
  return TRUE;
}

gboolean
sql_change_by_call (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *call_id, GsChangeVisit visit,
                    gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  SqlConn *conn = sql_take_reader (self, call, "looking up what a call changed", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_CHANGE_BY_CALL);
  sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  sql_bind_id (&query, ":call_id", call_id);
  changes = gather (&query, error);
  sql_give (conn);
  if (changes == NULL)
    return FALSE;
  show (changes, visit, user);
  return TRUE;
}

gboolean
sql_change_list (gpointer self, GsCall *call, guint64 repository_id, guint64 after, gsize limit, GsChangeVisit visit,
                 gpointer user, GError **error)
{
  g_autoptr (GPtrArray) changes = NULL;
  SqlConn *conn = sql_take_reader (self, call, "listing changes", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_CHANGE_LIST);
  sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  sql_bind_int (&query, ":after", (gint64) MIN (after, (guint64) G_MAXINT64));
  sql_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  changes = gather (&query, error);
  sql_give (conn);
  if (changes == NULL)
    return FALSE;
  show (changes, visit, user);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- deciding */

/* The generation that the transaction was decided with before; 0 when it was not. */
static gboolean
find_decided (SqlConn *conn, guint64 repository_id, const GsTxId *txid, gint64 *ret_generation, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_CHANGE_OF_TX);
  gboolean row;
  gint64 owner;
  sql_bind_id (&query, ":txid", txid);
  if (!sql_step (&query, &row, error))
    return FALSE;
  if (!row)
    {
      *ret_generation = 0;
      return TRUE;
    }
  owner = sql_int (&query, 0);
  *ret_generation = sql_int (&query, 1);
  sql_done (&query);
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
check_decidable (SqlConn *conn, const GsDecideRequest *request, GError **error)
{
  SqlStatement query;
  gboolean found, aborted;
  gint64 generation = 0;
  if (!find_abort (conn, request->repository_id, &request->txid, &aborted, error))
    return FALSE;
  if (aborted)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "deciding a write on repository %" G_GUINT64_FORMAT
                    ": the transaction was aborted meanwhile; begin it again",
                    request->repository_id);
  query = sql_query (conn, SQL_REPO_GENERATION);
  sql_bind_int (&query, ":id", (gint64) request->repository_id);
  if (!sql_run_int (&query, &found, &generation, error))
    return FALSE;
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "deciding a write: there is no repository with the id %" G_GUINT64_FORMAT " any more",
                    request->repository_id);
  query = sql_query (conn, SQL_CHANGE_OF_CALL);
  sql_bind_int (&query, ":id", (gint64) request->repository_id);
  sql_bind_id (&query, ":call_id", &request->call_id);
  if (!sql_run_int (&query, &found, &generation, error))
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
insert_change (SqlConn *conn, const GsDecideRequest *request, GBytes *updates, const char *voters, GError **error)
{
  gint64 generation = (gint64) request->expected_generation + 1;
  SqlStatement query = sql_query (conn, SQL_REPO_ADVANCE);
  sql_bind_int (&query, ":id", (gint64) request->repository_id);
  sql_bind_int (&query, ":generation", generation);
  sql_bind_blob (&query, ":refs_digest", request->refs_digest.bytes, GS_DIGEST_SIZE);
  if (!sql_run (&query, error))
    return FALSE;
  query = sql_query (conn, SQL_CHANGE_INSERT);
  sql_bind_int (&query, ":id", (gint64) request->repository_id);
  sql_bind_int (&query, ":generation", generation);
  sql_bind_id (&query, ":txid", &request->txid);
  sql_bind_id (&query, ":call_id", &request->call_id);
  sql_bind_blob (&query, ":refs_digest", request->refs_digest.bytes, GS_DIGEST_SIZE);
  sql_bind_blob (&query, ":vote", request->vote, sizeof request->vote);
  sql_bind_blob (&query, ":updates", g_bytes_get_data (updates, NULL), g_bytes_get_size (updates));
  sql_bind_text (&query, ":voters", voters);
  sql_bind_text (&query, ":caller", request->caller != NULL ? request->caller : "");
  return sql_run (&query, error);
}

/* In one statement for all of them, each a round trip to the store. @voters: one a line. */
static gboolean
advance_voters (SqlConn *conn, const GsDecideRequest *request, const char *voters, GError **error)
{
  g_autofree char *lines = g_strdup_printf ("\n%s\n", voters);
  g_autoptr (GHashTable) held = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  SqlStatement query = sql_query (conn, SQL_REPLICAS_ADVANCE);
  gboolean row = FALSE, ok;
  sql_bind_int (&query, ":id", (gint64) request->repository_id);
  sql_bind_text (&query, ":voters", lines);
  sql_bind_int (&query, ":generation", (gint64) request->expected_generation + 1);
  while ((ok = sql_step (&query, &row, error)) && row)
    g_hash_table_insert (held, g_strdup (sql_text (&query, 0)),
                         GINT_TO_POINTER (sql_int (&query, 1) == (gint64) request->expected_generation + 1));
  for (gsize i = 0; ok && request->voters[i] != NULL; i++)
    {
      gpointer current = NULL;
      gboolean known = g_hash_table_lookup_extended (held, request->voters[i], NULL, &current);
      if (!known || (current == NULL && (request->flags & GS_DECIDE_BEHIND) == 0))
        return gs_fail (error, GS_ERROR_ABORTED,
                        "deciding a write on repository %" G_GUINT64_FORMAT
                        ": the replica of “%s”, which voted for it, %s",
                        request->repository_id, request->voters[i],
                        known ? "is no longer in use" : "is not recorded");
    }
  return ok;
}

gboolean
sql_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  g_autoptr (GBytes) updates = NULL;
  g_autofree char *voters = NULL;
  g_autoptr (SqlConn) conn = NULL;
  gint64 decided = 0;
  if (!check_request (request, error)
      || (updates = sql_updates_encode (request->updates, request->n_updates, error)) == NULL
      || (voters = sql_voters_encode (request->voters, error)) == NULL)
    return FALSE;
  conn = sql_take_writer (self, call, "deciding a write", error);
  if (conn == NULL || !sql_lock (conn, "tx", request->txid.bytes, GS_TXID_SIZE, error)
      || !find_decided (conn, request->repository_id, &request->txid, &decided, error))
    return FALSE;
  if (decided != 0)
    {
      *ret_generation = (guint64) decided;
      return TRUE;
    }
  if (!check_decidable (conn, request, error) || !insert_change (conn, request, updates, voters, error)
      || !advance_voters (conn, request, voters, error) || !sql_commit (conn, error))
    return FALSE;
  *ret_generation = request->expected_generation + 1;
  return TRUE;
}

gboolean
sql_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
              GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "aborting a transaction", error);
  SqlStatement query;
  gboolean aborted;
  gint64 decided = 0;
  if (conn == NULL || !sql_lock (conn, "tx", txid->bytes, GS_TXID_SIZE, error)
      || !find_decided (conn, repository_id, txid, &decided, error))
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
      query = sql_query (conn, SQL_ABORT_INSERT);
      sql_bind_id (&query, ":txid", txid);
      sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
      if (!sql_run (&query, error) || !sql_commit (conn, error))
        return FALSE;
    }
  *ret_state = GS_TX_ABORTED;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- replicas */

gboolean
sql_replica_set (gpointer self, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                 gboolean force, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  SqlStatement query;
  gboolean found;
  gint64 now = 0, repository = 0;
  if (storage == NULL || *storage == '\0' || strpbrk (storage, "\r\n") != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "recording a replica: the name of its storage is empty or not plain");
  conn = sql_take_writer (self, call, "recording a replica", error);
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_REPO_GENERATION);
  sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  if (!sql_run_int (&query, &found, &repository, error))
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
  query = sql_query (conn, SQL_REPLICA_GENERATION);
  sql_bind_int (&query, ":id", (gint64) repository_id);
  sql_bind_text (&query, ":storage", storage);
  if (!sql_run_int (&query, &found, &now, error))
    return FALSE;
  query = sql_query (conn, SQL_REPLICA_SET);
  sql_bind_int (&query, ":id", (gint64) repository_id);
  sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":generation", !found  ? (gint64) generation
                                        : force ? MIN (now, (gint64) generation)
                                                : MAX (now, (gint64) generation));
  return sql_run (&query, error) && sql_commit (conn, error);
}

gboolean
sql_replica_drop (gpointer self, GsCall *call, guint64 repository_id, const char *storage, gboolean force,
                  GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "forgetting a replica", error);
  SqlStatement query;
  gboolean found;
  gint64 generation = 0, mine = 0, others, current_others;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_REPO_GENERATION);
  sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  if (!sql_run_int (&query, &found, &generation, error))
    return FALSE;
  if (found)
    {
      query = sql_query (conn, SQL_REPLICA_GENERATION);
      sql_bind_int (&query, ":id", (gint64) repository_id);
      sql_bind_text (&query, ":storage", storage);
      if (!sql_run_int (&query, &found, &mine, error))
        return FALSE;
    }
  if (!found)
    return sql_no_replica (repository_id, storage, error);
  query = sql_query (conn, SQL_REPLICA_OTHERS);
  sql_bind_int (&query, ":id", (gint64) repository_id);
  sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":generation", generation);
  if (!sql_step (&query, &found, error))
    return FALSE;
  others = sql_int (&query, 0);
  current_others = sql_int (&query, 1);
  sql_done (&query);
  if (!force && (others == 0 || (mine >= generation && current_others == 0)))
    return sql_replica_last (repository_id, storage, others == 0, error);
  query = sql_query (conn, SQL_REPLICA_DROP);
  sql_bind_int (&query, ":id", (gint64) repository_id);
  sql_bind_text (&query, ":storage", storage);
  return sql_run (&query, error) && sql_commit (conn, error);
}

gboolean
sql_replica_verified (gpointer self, GsCall *call, guint64 repository_id, const char *storage, gboolean objects,
                      GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "noting that a replica was verified", error);
  SqlStatement query;
  gboolean found;
  gint64 id;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_REPLICA_VERIFIED);
  sql_bind_int (&query, ":id", (gint64) MIN (repository_id, (guint64) G_MAXINT64));
  sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":objects", objects ? 1 : 0);
  if (!sql_run_int (&query, &found, &id, error))
    return FALSE;
  if (!found)
    return sql_no_replica (repository_id, storage, error);
  return sql_commit (conn, error);
}
