/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions on writes, abort marks, and how far each replica is. */
#include "memory.h"

void
mem_change_free (gpointer data)
{
  MemChange *change = data;
  g_bytes_unref (change->updates);
  g_free (change->voters);
  g_free (change->caller);
  g_free (change);
}

/* ------------------------------------------------------------------------------------------ reading */

/* What a visitor gets, without the lock: changes are never altered, but the copy must outlive the table's growing. */
static MemChange *
change_copy (const MemChange *change)
{
  MemChange *copy = g_memdup2 (change, sizeof *change);
  g_bytes_ref (copy->updates);
  copy->voters = g_strdup (change->voters);
  copy->caller = g_strdup (change->caller);
  return copy;
}

/* FALSE in *@ret_more when the visitor wants no more. */
static gboolean
show (const MemChange *kept, GsChangeVisit visit, gpointer user, gboolean *ret_more, GError **error)
{
  g_autofree char *text = NULL;
  g_auto (GStrv) voters = sql_voters_decode (kept->voters);
  gsize n_bytes;
  gconstpointer bytes = g_bytes_get_data (kept->updates, &n_bytes);
  g_autoptr (GArray) updates = sql_updates_decode (bytes, n_bytes, &text, error);
  GsChange change = { .size = sizeof change,
                      .repository_id = kept->repository_id,
                      .generation = kept->generation,
                      .txid = kept->txid,
                      .call_id = kept->call_id,
                      .refs_digest = kept->refs_digest,
                      .voters = (const char *const *) voters,
                      .caller = kept->caller,
                      .decided_wall_us = kept->decided_wall_us };
  if (updates == NULL)
    return FALSE;
  memcpy (change.vote, kept->vote, sizeof change.vote);
  change.updates = (const GsRefUpdate *) updates->data;
  change.n_updates = updates->len;
  *ret_more = visit == NULL || visit (&change, user);
  return TRUE;
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

/* What holds of a transaction, and its change. The lock is held. */
static gboolean
state_of (Mem *self, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state, MemChange **ret_change,
          GError **error)
{
  MemChange *change = g_hash_table_lookup (self->decided, txid);
  const guint64 *aborted = g_hash_table_lookup (self->aborted, txid);
  if (change != NULL ? !check_owner (repository_id, change->repository_id, error)
                     : aborted != NULL && !check_owner (repository_id, *aborted, error))
    return FALSE;
  *ret_state = change != NULL ? GS_TX_DECIDED : aborted != NULL ? GS_TX_ABORTED : GS_TX_UNKNOWN;
  *ret_change = change;
  return TRUE;
}

gboolean
mem_tx_find (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
             GsChangeVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  GsTxState state = GS_TX_UNKNOWN;
  MemChange *change = NULL;
  gboolean ok, more;
  if (!mem_begin (call, "looking up a transaction", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  ok = state_of (self, repository_id, txid, &state, &change, error);
  if (ok && change != NULL)
    change = change_copy (change);
  gs_mutex_unlock (&self->lock);
  if (ok && change != NULL)
    {
      ok = show (change, visit, user, &more, error);
      mem_change_free (change);
    }
  if (ok)
    *ret_state = state;
  return ok;
}

gboolean
mem_change_by_call (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *call_id, GsChangeVisit visit,
                    gpointer user, GError **error)
{
  Mem *self = data;
  MemChange *change = NULL;
  MemId *id;
  gboolean ok, more;
  if (!mem_begin (call, "looking up what a call changed", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  id = g_hash_table_lookup (self->ids, &repository_id);
  if (id != NULL && id->by_call != NULL && !mem_txid_is_none (call_id))
    change = g_hash_table_lookup (id->by_call, call_id);
  if (change != NULL)
    change = change_copy (change);
  gs_mutex_unlock (&self->lock);
  if (change == NULL)
    return TRUE;
  ok = show (change, visit, user, &more, error);
  mem_change_free (change);
  return ok;
}

gboolean
mem_change_list (gpointer data, GsCall *call, guint64 repository_id, guint64 after, gsize limit, GsChangeVisit visit,
                 gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (GPtrArray) changes = g_ptr_array_new_with_free_func (mem_change_free);
  gboolean more = TRUE;
  MemId *id;
  if (!mem_begin (call, "listing changes", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  id = g_hash_table_lookup (self->ids, &repository_id);
  if (id != NULL && id->changes != NULL)
    {
      guint64 first = ((const MemChange *) id->changes->pdata[0])->generation;
      guint64 at = after < first ? 0 : after - first + 1;
      for (; at < id->changes->len && changes->len < limit; at++)
        g_ptr_array_add (changes, change_copy (id->changes->pdata[at]));
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < changes->len && more; i++)
    if (!show (changes->pdata[i], visit, user, &more, error))
      return FALSE;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- deciding */

static gboolean
check_request (const GsDecideRequest *request, GError **error)
{
  if (request->repository_id == 0 || request->repository_id > (guint64) G_MAXINT64
      || request->expected_generation >= (guint64) G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "deciding a write: the repository id or generation is out of range");
  if (mem_txid_is_none (&request->txid))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "deciding a write on repository %" G_GUINT64_FORMAT ": it has no transaction id",
                    request->repository_id);
  return TRUE;
}

/* All that can stand against the decision; NULL with @error. The lock is held. */
static MemId *
check_decidable (Mem *self, const GsDecideRequest *request, GsTxState state, GError **error)
{
  MemId *id = g_hash_table_lookup (self->ids, &request->repository_id);
  MemRepo *repo = id != NULL ? id->repo : NULL;
  const MemChange *same = id != NULL && id->by_call != NULL && !mem_txid_is_none (&request->call_id)
                              ? g_hash_table_lookup (id->by_call, &request->call_id)
                              : NULL;
  if (state == GS_TX_ABORTED)
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
             "deciding a write on repository %" G_GUINT64_FORMAT
             ": the transaction was aborted meanwhile; begin it again",
             request->repository_id);
  else if (repo == NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND,
             "deciding a write: there is no repository with the id %" G_GUINT64_FORMAT " any more",
             request->repository_id);
  else if (same != NULL)
    gs_fail (error, GS_ERROR_ALREADY_EXISTS,
             "deciding a write on repository %" G_GUINT64_FORMAT
             ": the same call was decided before, as generation %" G_GUINT64_FORMAT,
             request->repository_id, same->generation);
  else if (repo->row.generation != request->expected_generation)
    gs_fail (error, GS_ERROR_ABORTED,
             "deciding a write on repository %" G_GUINT64_FORMAT ": it is at generation %" G_GUINT64_FORMAT
             ", no longer at %" G_GUINT64_FORMAT,
             request->repository_id, repo->row.generation, request->expected_generation);
  else
    {
      for (gsize i = 0; request->voters[i] != NULL; i++)
        {
          const MemReplica *replica = mem_replica_of (repo, request->voters[i]);
          if (replica != NULL
              && ((request->flags & GS_DECIDE_BEHIND) != 0 || replica->row.generation == request->expected_generation))
            continue;
          gs_fail (error, GS_ERROR_ABORTED,
                   "deciding a write on repository %" G_GUINT64_FORMAT ": the replica of “%s”, which voted for it, %s",
                   request->repository_id, request->voters[i],
                   replica != NULL ? "is no longer in use" : "is not recorded");
          return NULL;
        }
      return id;
    }
  return NULL;
}

/* Takes over @updates and @voters. The lock is held, and everything was checked. */
static void
apply (Mem *self, MemId *id, const GsDecideRequest *request, GBytes *updates, char *voters, gint64 now_us)
{
  MemChange *change = g_new0 (MemChange, 1);
  MemRepo *repo = id->repo;
  change->repository_id = request->repository_id;
  change->generation = request->expected_generation + 1;
  change->txid = request->txid;
  change->call_id = request->call_id;
  change->refs_digest = request->refs_digest;
  memcpy (change->vote, request->vote, sizeof change->vote);
  change->updates = updates;
  change->voters = voters;
  change->caller = g_strdup (request->caller != NULL ? request->caller : "");
  change->decided_wall_us = now_us;
  if (id->changes == NULL)
    id->changes = g_ptr_array_new_with_free_func (mem_change_free);
  g_ptr_array_add (id->changes, change);
  g_hash_table_insert (self->decided, &change->txid, change);
  if (!mem_txid_is_none (&change->call_id))
    {
      if (id->by_call == NULL)
        id->by_call = g_hash_table_new (mem_txid_hash, mem_txid_equal);
      g_hash_table_insert (id->by_call, &change->call_id, change);
    }
  repo->row.generation = change->generation;
  repo->row.refs_digest = change->refs_digest;
  repo->row.changed_wall_us = now_us;
  for (gsize i = 0; request->voters[i] != NULL; i++)
    {
      MemReplica *replica = mem_replica_of (repo, request->voters[i]);
      if (replica->row.generation == request->expected_generation) /* who lacks a write does not catch up by a vote */
        replica->row.generation = change->generation;
    }
}

gboolean
mem_decide (gpointer data, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  Mem *self = data;
  g_autoptr (GBytes) updates = NULL;
  g_autofree char *voters = NULL;
  g_autoptr (GsMutexLocker) hold = NULL;
  gint64 now_us = self->host->wall_us (self->host);
  GsTxState state = GS_TX_UNKNOWN;
  MemChange *before = NULL;
  MemId *id;
  if (!mem_begin (call, "deciding a write", error))
    return FALSE;
  if (!check_request (request, error)
      || (updates = sql_updates_encode (request->updates, request->n_updates, error)) == NULL
      || (voters = sql_voters_encode (request->voters, error)) == NULL)
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  if (!state_of (self, request->repository_id, &request->txid, &state, &before, error))
    return FALSE;
  if (before != NULL)
    {
      *ret_generation = before->generation;
      return TRUE;
    }
  id = check_decidable (self, request, state, error);
  if (id == NULL)
    return FALSE;
  apply (self, id, request, g_steal_pointer (&updates), g_steal_pointer (&voters), now_us);
  *ret_generation = request->expected_generation + 1;
  return TRUE;
}

gboolean
mem_tx_abort (gpointer data, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
              GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  GsTxState state = GS_TX_UNKNOWN;
  MemChange *change = NULL;
  if (!mem_begin (call, "aborting a transaction", error))
    return FALSE;
  if (!state_of (self, repository_id, txid, &state, &change, error))
    return FALSE;
  if (state == GS_TX_UNKNOWN)
    {
      g_hash_table_insert (self->aborted, g_memdup2 (txid, sizeof *txid),
                           g_memdup2 (&repository_id, sizeof repository_id));
      state = GS_TX_ABORTED;
    }
  *ret_state = state;
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- replicas */

gboolean
mem_replica_set (gpointer data, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                 gboolean force, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemReplica *replica;
  MemRepo *repo;
  if (!mem_begin (call, "recording a replica", error))
    return FALSE;
  if (storage == NULL || *storage == '\0' || strpbrk (storage, "\r\n") != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "recording a replica: the name of its storage is empty or not plain");
  hold = gs_mutex_hold (&self->lock);
  repo = mem_repo_of (self, repository_id);
  if (repo == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "recording a replica: there is no repository with the id %" G_GUINT64_FORMAT, repository_id);
  if (generation > repo->row.generation)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "recording a replica: “%s” says it is at generation %" G_GUINT64_FORMAT
                    " of repository %" G_GUINT64_FORMAT ", which is at %" G_GUINT64_FORMAT
                    "; the metadata store may have been restored from an old backup",
                    storage, generation, repository_id, repo->row.generation);
  replica = mem_replica_of (repo, storage);
  if (replica == NULL)
    {
      replica = mem_replica_add (repo, storage);
      replica->row.generation = generation;
    }
  replica->row.generation
      = force ? MIN (replica->row.generation, generation) : MAX (replica->row.generation, generation);
  replica->row.verified_wall_us = now_us;
  return TRUE;
}

gboolean
mem_replica_drop (gpointer data, GsCall *call, guint64 repository_id, const char *storage, gboolean force,
                  GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  MemRepo *repo = mem_repo_of (self, repository_id);
  MemReplica *replica = repo != NULL ? mem_replica_of (repo, storage) : NULL;
  guint n_current_others = 0;
  if (!mem_begin (call, "forgetting a replica", error))
    return FALSE;
  if (replica == NULL)
    return sql_no_replica (repository_id, storage, error);
  for (guint i = 0; i < repo->replicas->len; i++)
    {
      const MemReplica *other = repo->replicas->pdata[i];
      n_current_others += other != replica && other->row.generation >= repo->row.generation;
    }
  if (!force
      && (repo->replicas->len == 1 || (replica->row.generation >= repo->row.generation && n_current_others == 0)))
    return sql_replica_last (repository_id, storage, repo->replicas->len == 1, error);
  g_ptr_array_remove (repo->replicas, replica);
  return TRUE;
}

gboolean
mem_replica_verified (gpointer data, GsCall *call, guint64 repository_id, const char *storage, gboolean objects,
                      GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  MemRepo *repo = mem_repo_of (self, repository_id);
  MemReplica *replica = repo != NULL ? mem_replica_of (repo, storage) : NULL;
  if (!mem_begin (call, "noting that a replica was verified", error))
    return FALSE;
  if (replica == NULL)
    return sql_no_replica (repository_id, storage, error);
  replica->row.verified_wall_us = now_us;
  if (objects)
    replica->row.scrubbed_wall_us = now_us;
  return TRUE;
}
