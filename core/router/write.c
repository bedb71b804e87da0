/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one write path: stage, decide, apply, acknowledge (docs/architecture.md).
 *
 * The consistency plugin is a step function that says what to do next; this file carries its actions out
 * and feeds the results back as events. The decision is one compare-and-swap in the metadata store: before
 * it nothing is visible and everything can be dropped, after it the write will be applied whatever dies.
 */
#include "router/settle.h"

#include <gitstead/thread.h>

/* How long a write whose decision is not known keeps asking the metadata store before it is left to recovery. */
#define UNDECIDED_PATIENCE_US (60 * G_USEC_PER_SEC)

typedef struct
{
  GsParticipant view;
  const GsiStorage *storage;
  gpointer txn; /* staged and neither applied nor dropped */
  const GsVote *vote;
  gboolean voter;
} Part;

typedef enum
{
  WRITE_RUNNING,
  WRITE_ACKNOWLEDGED,
  WRITE_FAILED
} WriteEnd;

typedef struct
{
  GsiRouter *router;
  const GsiRouterConfig *config;
  GsiCall *call;
  const GsiStorageGroup *vs;
  const GsiWriteBinding *binding;
  GsiRow *row;
  GsTxId txid;
  GArray *parts;  /* of Part */
  GArray *events; /* of GsEvent, first to be fed first */
  GArray *actions; /* of GsAction, of one step */
  gpointer txn;   /* the consistency plugin's */
  GsDecision decision;
  guint8 vote[32];  /* what the voters agreed on */
  gboolean nothing; /* a participant staged no update: there is nothing to decide */
  gboolean open;    /* left to a restart: its locks and its process are still there */
  WriteEnd end;
  GError *why;
} Write;

static Part *
write_part (Write *write, gsize index)
{
  return &g_array_index (write->parts, Part, index);
}

static void
write_event (Write *write, guint32 type, gsize participant, const guint8 *digest)
{
  GsEvent event = { sizeof event, type, participant, digest };
  g_array_append_val (write->events, event);
}

/* Keeps the first reason: it is nearer to the cause than what follows from it. */
static void
write_blame (Write *write, GError *why)
{
  if (write->why == NULL)
    write->why = why;
  else
    g_error_free (why);
}

/* ----------------------------------------------------------------------------------------- staging */

static void
write_stage (Write *write, gsize index)
{
  Part *part = write_part (write, index);
  GsiReplica replica = gsi_router_replica (write->router, part->storage, write->row);
  GError *why = NULL;

  if (!write->binding->stage (&replica, write->call, &write->txid, &part->txn, &part->vote, &why))
    {
      part->txn = NULL;
      write_blame (write, why);
      write_event (write, GS_EVENT_LOST, index, NULL);
    }
  else if (part->vote->n_updates == 0)
    {
      write->nothing = TRUE;
      part->storage->ops->abort (part->storage->self, &write->call->base, part->txn, NULL);
      part->txn = NULL;
      write_event (write, GS_EVENT_LOST, index, NULL);
    }
  else
    write_event (write, GS_EVENT_STAGED, index, part->vote->digest);
}

static void
write_abort (Write *write, gsize index)
{
  Part *part = write_part (write, index);
  if (part->txn == NULL)
    return;
  part->storage->ops->abort (part->storage->self, &write->call->base, part->txn, write->why);
  part->txn = NULL;
}

/* ---------------------------------------------------------------------------------------- deciding */

static const Part *
write_first_voter (Write *write)
{
  for (gsize i = 0; i < write->parts->len; i++)
    if (write_part (write, i)->voter)
      return write_part (write, i);
  return NULL;
}

static gboolean
decided_visit (const GsChange *change, gpointer user)
{
  Write *write = user;
  write->decision.generation = change->generation;
  write->decision.refs_digest = change->refs_digest;
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
 * already, or now it never will be. FALSE when the store stays silent.
 */
static gboolean
write_find_out (Write *write, GsTxState *ret_state)
{
  const GsMetadataOps *ops = write->config->metadata;
  gpointer self = write->config->metadata_self;
  gint64 start = write->config->host->now_us (write->config->host);
  GsIdentity identity;
  GsCall own;

  gsi_own_call_init (&own, &identity, "settle");
  for (gint64 delay_us = 10000;; delay_us = MIN (delay_us * 2, G_USEC_PER_SEC))
    {
      g_autoptr (GError) why = NULL;
      GsTxState state = GS_TX_UNKNOWN;
      if (ops->tx_abort (self, &own, write->row->id, &write->txid, &state, &why)
          && (state == GS_TX_ABORTED
              || ops->tx_find (self, &own, write->row->id, &write->txid, &state, decided_visit, write, &why)))
        {
          *ret_state = state;
          return TRUE;
        }
      if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        {
          *ret_state = GS_TX_ABORTED; /* the repository is gone: nothing can be decided for it */
          return TRUE;
        }
      if (write->config->host->now_us (write->config->host) - start > UNDECIDED_PATIENCE_US)
        return FALSE;
      pause_until (g_get_monotonic_time () + delay_us);
    }
}

/* The locks stay as they are: this write is neither applied nor dropped until a restart asks again. */
static void
write_leave_open (Write *write)
{
  char hex[2 * GS_TXID_SIZE + 1];
  GError *why = NULL;
  gs_hex (write->txid.bytes, sizeof write->txid.bytes, hex);
  write->config->host->log (write->config->host, GS_LOG_ERROR, "write.undecided",
                            (GsField[]) { GS_TEXT ("repository", write->row->path), GS_TEXT ("transaction", hex) }, 2);
  for (gsize i = 0; i < write->parts->len; i++)
    write_part (write, i)->txn = NULL;
  gs_fail (&why, GS_ERROR_UNKNOWN,
           "the metadata store does not say whether the write to '%s' was decided; the server settles it when it "
           "restarts (transaction %s)",
           write->row->path, hex);
  g_clear_error (&write->why);
  write->why = why;
  write->open = TRUE;
  write->end = WRITE_FAILED;
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

static void
write_decide (Write *write)
{
  g_autoptr (GPtrArray) voters = g_ptr_array_new ();
  const Part *voter = write_first_voter (write);
  GsTxState state = GS_TX_UNKNOWN;
  g_autoptr (GError) why = NULL;

  for (gsize i = 0; i < write->parts->len; i++)
    if (write_part (write, i)->voter)
      g_ptr_array_add (voters, (gpointer) write_part (write, i)->storage->name);
  g_ptr_array_add (voters, NULL);
  memcpy (write->vote, voter->vote->digest, sizeof write->vote);

  while (!write_decide_once (write, voter, (const char *const *) voters->pdata, &why))
    {
      int code = gs_error_code (why);
      if (code == GS_ERROR_ABORTED)
        {
          g_clear_error (&why);
          if (write_refresh (write, &why))
            continue;
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
  write_event (write, GS_EVENT_DECIDED, 0, NULL);
}

/* ---------------------------------------------------------------------------------------- applying */

static void
write_apply (Write *write, gsize index)
{
  Part *part = write_part (write, index);
  const GsHost *host = write->config->host;
  gpointer txn = g_steal_pointer (&part->txn);
  g_autoptr (GError) why = NULL;

  if (part->storage->ops->commit (part->storage->self, &write->call->base, txn, &write->decision, &why))
    {
      write_event (write, GS_EVENT_APPLIED, index, NULL);
      return;
    }
  host->log (host, GS_LOG_ERROR, "write.apply.failed",
             (GsField[]) { GS_TEXT ("repository", write->row->path), GS_TEXT ("storage", part->storage->name),
                           GS_NUMBER ("generation", write->decision.generation), GS_TEXT ("error", why->message) },
             4);
  write->config->metadata->replica_set (write->config->metadata_self, &write->call->base, write->row->id,
                                        part->storage->name, write->decision.generation - 1, TRUE, NULL);
  write_event (write, GS_EVENT_LOST, index, NULL);
}

static void
write_fail (Write *write, const GsAction *action)
{
  GError *why = NULL;
  gs_fail (&why, (GsErrorCode) action->code, "the write to '%s' was not made: %s", write->row->path, action->reason);
  write_blame (write, why);
  write->end = WRITE_FAILED;
}

static void
write_act (Write *write, const GsAction *action)
{
  switch (action->type)
    {
    case GS_ACTION_STAGE:
      write_stage (write, action->participant);
      break;
    case GS_ACTION_VOTER:
      write_part (write, action->participant)->voter = TRUE;
      break;
    case GS_ACTION_DECIDE:
      write_decide (write);
      break;
    case GS_ACTION_APPLY:
      write_apply (write, action->participant);
      break;
    case GS_ACTION_ABORT:
      write_abort (write, action->participant);
      break;
    case GS_ACTION_ACKNOWLEDGE:
      write->end = WRITE_ACKNOWLEDGED;
      break;
    case GS_ACTION_FAIL:
      write_fail (write, action);
      break;
    case GS_ACTION_REPAIR:
      gsi_router_settle_later (write->router, write_part (write, action->participant)->storage);
      break;
    default:
      break; /* a timer: every participant of this process answers before its slot returns */
    }
}

/* ------------------------------------------------------------------------------------ the machine */

static void
collect_action (GsActions *actions, const GsAction *action)
{
  GArray *list = actions->priv;
  g_array_append_val (list, *action);
}

static void
write_run (Write *write)
{
  GsActions out = { sizeof out, write->actions, collect_action };
  write_event (write, GS_EVENT_BEGIN, 0, NULL);
  while (write->events->len > 0 && write->end == WRITE_RUNNING)
    {
      GsEvent event = g_array_index (write->events, GsEvent, 0);
      g_array_remove_index (write->events, 0);
      g_array_set_size (write->actions, 0);
      write->vs->consistency->txn_step (write->vs->consistency_self, write->txn, &event, &out);
      for (guint i = 0; i < write->actions->len; i++)
        write_act (write, &g_array_index (write->actions, GsAction, i));
    }
  if (write->end == WRITE_RUNNING)
    {
      GError *why = NULL;
      gs_fail (&why, GS_ERROR_INTERNAL, "consistency plugin of virtual storage '%s' stopped without an end (promise K3)",
               write->vs->name);
      write_blame (write, why);
      write->end = WRITE_FAILED;
    }
  for (gsize i = 0; i < write->parts->len; i++)
    write_abort (write, i); /* promise K4 holds even where the plugin forgot it */
}

static gboolean
write_setup (Write *write, GError **error)
{
  g_autoptr (GPtrArray) views = g_ptr_array_new ();
  GsTxnSetup setup = { sizeof setup };

  gsi_router_recheck (write->router, write->call, write->row);
  for (gsize i = 0; i < write->row->n_replicas; i++)
    {
      const GsiRowReplica *replica = &write->row->replicas[i];
      Part part = { .storage = gsi_router_storage (write->router, replica->storage) };
      part.view.size = sizeof part.view;
      part.view.node = part.storage != NULL ? part.storage->name : "(not of this process)";
      part.view.current = replica->generation >= write->row->generation;
      part.view.healthy = part.storage != NULL;
      g_array_append_val (write->parts, part);
    }
  for (gsize i = 0; i < write->parts->len; i++)
    g_ptr_array_add (views, &write_part (write, i)->view);
  setup.participants = (const GsParticipant *const *) views->pdata;
  setup.n_participants = views->len;
  setup.min_copies = write->vs->min_copies;
  write->txn = write->vs->consistency->txn_new (write->vs->consistency_self, &setup, error);
  return write->txn != NULL;
}

static void
write_answer (Write *write)
{
  g_autoptr (GPtrArray) replicas = g_ptr_array_new ();
  GsiReceipt receipt = { write->txid, write->decision.generation, write->decision.refs_digest, NULL, 0 };
  for (gsize i = 0; i < write->parts->len; i++)
    if (write_part (write, i)->voter)
      g_ptr_array_add (replicas, (gpointer) write_part (write, i)->storage->name);
  receipt.replicas = (const char *const *) replicas->pdata;
  receipt.n_replicas = replicas->len;
  write->binding->reply (write->call, &receipt);
}

/* A resent call whose first run was decided gets the first answer, also from another process. */
typedef struct
{
  const GsiWriteBinding *binding;
  GsiCall *call;
  gboolean found;
} Repeat;

static gboolean
repeat_visit (const GsChange *change, gpointer user)
{
  Repeat *repeat = user;
  GsiReceipt receipt = { change->txid, change->generation, change->refs_digest, change->voters,
                         g_strv_length ((char **) change->voters) };
  repeat->binding->reply (repeat->call, &receipt);
  repeat->found = TRUE;
  return FALSE;
}

static gboolean
answer_repeat (GsiRouter *router, const GsiRow *row, const GsiWriteBinding *binding, GsiCall *call,
               gboolean *ret_found, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Repeat repeat = { binding, call, FALSE };
  if (!config->metadata->change_by_call (config->metadata_self, &call->base, row->id, &call->base.id, repeat_visit,
                                         &repeat, error))
    return FALSE;
  *ret_found = repeat.found;
  return TRUE;
}

gboolean
gsi_router_write (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  gboolean repeated = FALSE, ok;
  Write write = { .router = router, .config = gsi_router_config (router), .call = call };

  for (write.binding = gsi_node_writes (); write.binding->number != call->method->number;)
    write.binding++;
  write.row = gsi_router_locate (router, call, &write.vs, error);
  if (write.row == NULL)
    return FALSE;
  if (!call->method->bytes_in && !answer_repeat (router, write.row, write.binding, call, &repeated, error))
    {
      gsi_row_free (write.row);
      return FALSE;
    }
  if (repeated)
    {
      gsi_row_free (write.row);
      return TRUE;
    }

  write.config->host->random (write.config->host, write.txid.bytes, sizeof write.txid.bytes);
  write.decision.size = sizeof write.decision;
  write.decision.txid = write.txid;
  write.parts = g_array_new (FALSE, TRUE, sizeof (Part));
  write.events = g_array_new (FALSE, TRUE, sizeof (GsEvent));
  write.actions = g_array_new (FALSE, TRUE, sizeof (GsAction));
  gsi_settler_claim (gsi_router_settler (router), &write.txid);
  ok = write_setup (&write, error);
  if (ok)
    {
      write_run (&write);
      if (write.end == WRITE_ACKNOWLEDGED)
        write_answer (&write);
      else if (write.nothing)
        write.binding->reply (call, NULL);
      /* The same call was decided meanwhile, by another router that it was sent to again: its answer is ours. */
      else if (gs_error_code (write.why) == GS_ERROR_ALREADY_EXISTS && !call->method->bytes_in
               && answer_repeat (router, write.row, write.binding, call, &repeated, NULL) && repeated)
        ok = TRUE;
      else
        {
          g_propagate_error (error, g_steal_pointer (&write.why));
          ok = FALSE;
        }
      write.vs->consistency->txn_free (write.vs->consistency_self, write.txn);
    }
  /* One that is left open stays claimed: the storage could not resolve it while it is in hand. */
  if (!write.open)
    gsi_settler_release (gsi_router_settler (router), &write.txid);
  g_clear_error (&write.why);
  g_array_free (write.parts, TRUE);
  g_array_free (write.events, TRUE);
  g_array_free (write.actions, TRUE);
  gsi_row_free (write.row);
  return ok;
}
