/* SPDX-License-Identifier: Apache-2.0 */
/* The decision: one compare-and-swap in the metadata store. See write.h. */
#include "router/write.h"

/* How long a caller whose write may have been decided waits for the metadata store to say so. */
#define UNDECIDED_PATIENCE_US (60 * G_USEC_PER_SEC)
/* How often the store is asked afterwards, and how soon the end of the router is seen. */
#define ASK_EVERY_US (1 * G_USEC_PER_SEC)
#define LOOK_US (100 * 1000)
/* How often one write follows a repository that changes its place. */
#define MOVED_MAX 3

static const Part *
write_first_voter (Write *write)
{
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->voter)
      return write->parts[i];
  return NULL;
}

static gboolean
decided_visit (const GsChange *change, gpointer user)
{
  Write *write = user;
  write->decision.generation = change->generation;
  write->decision.refs_digest = change->refs_digest;
  if (write->event == NULL)
    write->event = gsi_event_of_write (change->updates, change->n_updates, write->vs->name, write->path, write->id,
                                       change->caller, change->generation, change->decided_wall_us);
  return FALSE;
}

/* One attempt at the present generation. */
static gboolean
write_decide_once (Write *write, const Part *voter, const char *const *voters, GError **error)
{
  GsDecideRequest request = { sizeof request };
  guint64 generation;

  request.repository_id = write->row->id;
  request.txid = write->txid;
  request.call_id = write->call->base.id;
  request.expected_generation = write->row->generation;
  request.refs_digest = write->row->refs_digest;
  gs_digest_add (&request.refs_digest, &voter->vote->refs_plus);
  gs_digest_sub (&request.refs_digest, &voter->vote->refs_minus);
  memcpy (request.vote, voter->vote->digest, sizeof request.vote);
  request.updates = voter->vote->updates;
  request.n_updates = voter->vote->n_updates;
  request.voters = voters;
  request.caller = write->call->base.identity->name;
  if (!write->config->metadata->decide (write->config->metadata_self, &write->call->base, &request, &generation,
                                        error))
    return FALSE;
  write->decision.generation = generation;
  write->decision.refs_digest = request.refs_digest;
  write->event = gsi_event_of_write (request.updates, request.n_updates, write->vs->name, write->path, write->id,
                                     request.caller, generation, write->config->host->wall_us (write->config->host));
  return TRUE;
}

static void
pause_until (gint64 until_us)
{
  GsMutex lock;
  GsCond never;
  gs_mutex_init (&lock);
  gs_cond_init (&never);
  gs_mutex_lock (&lock);
  while (gs_cond_wait_until (&never, &lock, until_us))
    ;
  gs_mutex_unlock (&lock);
  gs_cond_clear (&never);
  gs_mutex_clear (&lock);
}

/*
 * The store did not say whether it took the decision. Writes an abort mark, which tells: either it is decided
 * already, or now it never will be. FALSE when the store does not say.
 */
static gboolean
write_ask_store (Write *write, GsTxState *ret_state)
{
  const GsMetadataOps *ops = write->config->metadata;
  gpointer self = write->config->metadata_self;
  g_autoptr (GError) why = NULL;
  GsTxState state = GS_TX_UNKNOWN;
  GsIdentity identity;
  GsCall own;

  gsi_own_call_init (&own, &identity, "settle");
  if (ops->tx_abort (self, &own, write->id, &write->txid, &state, &why)
      && (state == GS_TX_ABORTED
          || ops->tx_find (self, &own, write->id, &write->txid, &state, decided_visit, write, &why)))
    {
      *ret_state = state;
      return TRUE;
    }
  if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
    return FALSE;
  *ret_state = GS_TX_ABORTED; /* the repository is gone: nothing can be decided for it */
  return TRUE;
}

/* The same, as long as a caller can be kept waiting. */
static gboolean
write_find_out (Write *write, GsTxState *ret_state)
{
  gint64 start = write->config->host->now_us (write->config->host);
  for (gint64 delay_us = 10000;; delay_us = MIN (delay_us * 2, ASK_EVERY_US))
    {
      if (write_ask_store (write, ret_state))
        return TRUE;
      if (write->config->host->now_us (write->config->host) - start > UNDECIDED_PATIENCE_US)
        return FALSE;
      pause_until (g_get_monotonic_time () + delay_us);
    }
}

/* The router stops: the locks stay as they are, and the next start asks again. */
static void
write_leave (Write *write)
{
  gs_mutex_lock (&write->lock);
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->state == PART_STAGED)
      {
        write->parts[i]->txn = NULL;
        write->parts[i]->state = PART_OVER;
      }
  gs_mutex_unlock (&write->lock);
  for (gsize i = 0; i < write->n_parts && write->tee != NULL; i++)
    tee_part_left (write->tee, i);
  write->left = TRUE;
  write->end = WRITE_FAILED;
}

gboolean
write_await_store (Write *write)
{
  GsTxState state = GS_TX_UNKNOWN;
  /* The caller's time may be over, and is nothing to what was decided. */
  for (gsize i = 0; i < write->n_parts; i++)
    write->parts[i]->call.base.deadline_us = G_MAXINT64;
  while (!write_ask_store (write, &state))
    for (gint64 until_us = g_get_monotonic_time () + ASK_EVERY_US; g_get_monotonic_time () < until_us;)
      {
        if (gsi_router_stopping (write->router))
          {
            write_leave (write);
            return FALSE;
          }
        pause_until (g_get_monotonic_time () + LOOK_US);
      }
  write->open = FALSE;
  write_event (write, state == GS_TX_DECIDED ? GS_EVENT_DECIDED : GS_EVENT_REFUSED, 0, NULL);
  return TRUE;
}

/*
 * The caller is told that nobody knows. What is staged keeps its locks, as it may be decided; somebody goes on asking
 * behind the answer.
 */
static void
write_leave_open (Write *write)
{
  char hex[2 * GS_TXID_SIZE + 1];
  GError *why = NULL;
  gs_hex (write->txid.bytes, sizeof write->txid.bytes, hex);
  write->config->host->log (write->config->host, GS_LOG_ERROR, "write.undecided",
                            (GsField[]) { GS_TEXT ("repository", write->row->path), GS_TEXT ("transaction", hex) }, 2);
  gs_fail (&why, GS_ERROR_UNKNOWN,
           "the metadata store does not say whether the write to '%s' was decided; it is settled as soon as the store "
           "does, so look again before you repeat it (transaction %s)",
           write->row->path, hex);
  gs_mutex_lock (&write->lock);
  g_clear_error (&write->why);
  write->why = why;
  gs_mutex_unlock (&write->lock);
  write->open = TRUE;
}

/* The generation moved on because another write was decided: disjoint writes commute, so try at the new one. */
static gboolean
write_refresh (Write *write, GError **error)
{
  GsiRow *row = NULL;
  if (!gs_call_check (&write->call->base, "deciding the write", error))
    return FALSE;
  if (!write->config->metadata->repo_get (write->config->metadata_self, &write->call->base, write->row->id,
                                          gsi_row_visit, &row, error))
    return FALSE;
  gsi_row_free (write->row);
  write->row = row;
  return TRUE;
}

static const GsiRowReplica *
recorded (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return &row->replicas[i];
  return NULL;
}

static gboolean
is_in_use (const GsiRow *row, const char *storage)
{
  const GsiRowReplica *replica = recorded (row, storage);
  return replica != NULL && replica->generation >= row->generation;
}

/*
 * What was decided meanwhile may follow another policy, that the repository has now, and so leave out replicas that the old one
 * wants: what is staged goes on by the new one. FALSE: the policy is the same.
 */
static gboolean
write_change_policy (Write *write)
{
  const GsiStorageGroup *before = write->vs;
  const GsiStorageGroup *group = gsi_router_virtual_storage (write->router, write->call->virtual_storage, NULL);
  const GsiStorageGroup *own = group != NULL ? gsi_router_policy (write->router, group, write->row->consistency) : NULL;
  gpointer txn;
  if (own == NULL || own == before)
    return FALSE;
  for (gsize i = 0; i < write->n_parts; i++)
    write->parts[i]->view.current = is_in_use (write->row, write->parts[i]->view.node);
  write->vs = own;
  txn = write_txn_new (write, NULL);
  write->vs = before;
  if (txn == NULL)
    return FALSE;
  for (gsize i = 0; i < write->n_parts; i++)
    write->parts[i]->voter = FALSE;
  write_hand_over (write, own, txn);
  return TRUE;
}

/*
 * Another write was decided, or a replica was taken out of use or moved away: voters that are no longer current would get a gap
 * in their history, or promise a copy that is bad. The plugin names the rest anew. FALSE: all are current.
 */
static gboolean
write_leave_out (Write *write)
{
  g_autoptr (GArray) behind = g_array_new (FALSE, FALSE, sizeof (gsize));
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->voter && !is_in_use (write->row, write->parts[i]->storage->name))
      {
        write->moved = write->moved || recorded (write->row, write->parts[i]->storage->name) == NULL;
        g_array_append_val (behind, i);
      }
  if (behind->len == 0)
    return FALSE;
  write->overtaken = TRUE;
  if (write_change_policy (write))
    return TRUE;
  for (guint i = 0; i < behind->len; i++)
    write_event (write, GS_EVENT_BEHIND, g_array_index (behind, gsize, i), NULL);
  for (gsize i = 0; i < write->n_parts; i++)
    write->parts[i]->voter = FALSE;
  write_event (write, GS_EVENT_UNDECIDED, 0, NULL);
  return TRUE;
}

/* All voters were moved away: one of them, which is to count again. NULL otherwise. */
static const Part *
moved_voter (const Write *write)
{
  const Part *found = NULL;
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->voter)
      {
        if (recorded (write->row, write->parts[i]->storage->name) != NULL)
          return NULL;
        found = write->parts[i];
      }
  return found;
}

/*
 * A write that came too late for its only replica, which was moved away, is no reason to refuse it: that replica counts again, as
 * long as nothing was decided since. FALSE: that cannot be.
 */
static gboolean
write_take_back (Write *write)
{
  const GsiRouterConfig *config = write->config;
  const GsRepo repo = { sizeof repo, write->id, write->replica_path };
  GsReplicaState state = { .size = sizeof state };
  const Part *part = write->n_moved++ < MOVED_MAX ? moved_voter (write) : NULL;
  if (part == NULL || !part->storage->ops->state (part->storage->self, &write->call->base, &repo, &state, NULL)
      || state.repository_id != write->id || state.generation != write->row->generation
      || memcmp (&state.refs_digest, &write->row->refs_digest, sizeof state.refs_digest) != 0
      || !config->metadata->replica_set (config->metadata_self, &write->call->base, write->id, part->storage->name,
                                         state.generation, FALSE, NULL)
      || !write_refresh (write, NULL))
    return FALSE;
  config->host->log (config->host, GS_LOG_INFO, "write.replica.back",
                     (GsField[]) { GS_TEXT ("repository", write->path), GS_TEXT ("storage", part->storage->name) }, 2);
  /* Those that have its place are left behind by this write. */
  for (gsize i = 0; i < write->row->n_replicas; i++)
    if (strcmp (write->row->replicas[i].storage, part->storage->name) != 0)
      gsi_router_ask_repair (write->router, &write->call->base, write->id, write->row->replicas[i].storage,
                             "a write came late to the replica that it had taken the place of");
  return TRUE;
}

void
write_decide (Write *write)
{
  g_autoptr (GPtrArray) voters = g_ptr_array_new ();
  const Part *voter = write_first_voter (write);
  GsTxState state = GS_TX_UNKNOWN;
  g_autoptr (GError) why = NULL;

  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->voter)
      g_ptr_array_add (voters, (gpointer) write->parts[i]->storage->name);
  g_ptr_array_add (voters, NULL);
  memcpy (write->vote, voter->vote->digest, sizeof write->vote);
  gsi_router_crash_point (write->router, "write.deciding");

  while (!write_decide_once (write, voter, (const char *const *) voters->pdata, &why))
    {
      int code = gs_error_code (why);
      if (code == GS_ERROR_ABORTED)
        {
          g_clear_error (&why);
          if (write_refresh (write, &why))
            {
              if (!write_take_back (write) && write_leave_out (write))
                return;
              continue;
            }
        }
      if (code == GS_ERROR_FAILED_PRECONDITION || code == GS_ERROR_NOT_FOUND)
        state = GS_TX_ABORTED;
      else if (!write_find_out (write, &state))
        {
          write_leave_open (write);
          return;
        }
      if (state == GS_TX_DECIDED)
        break;
      write_blame (write, g_steal_pointer (&why));
      write_event (write, GS_EVENT_REFUSED, 0, NULL);
      return;
    }
  gsi_router_crash_point (write->router, "write.decided");
  write_event (write, GS_EVENT_DECIDED, 0, NULL);
}
