/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one write path: stage, decide, apply, acknowledge (docs/architecture.md).
 *
 * The consistency plugin is a step function that says what to do next; this file carries its actions out
 * and feeds the results back as events. The decision is one compare-and-swap in the metadata store: before
 * it nothing is visible and everything can be dropped, after it the write will be applied whatever dies.
 */
#include "router/cluster.h"
#include "router/hold.h"
#include "router/write.h"

#include "base/pool.h"

/* How soon it is seen that the caller went away while participants stage. */
#define LOOK_US (50 * 1000)
/* How often a call is begun again because its repository changed its place. */
#define TRIES 3

typedef struct
{
  GsEvent event;
  guint8 digest[32];
  gboolean has_digest;
} Event;

void
write_event (Write *write, guint32 type, gsize participant, const guint8 *digest)
{
  Event event = { .event = { sizeof event.event, type, participant, NULL }, .has_digest = digest != NULL };
  if (digest != NULL)
    memcpy (event.digest, digest, sizeof event.digest);
  gs_mutex_lock (&write->lock);
  g_array_append_val (write->events, event);
  gs_cond_broadcast (&write->changed);
  gs_mutex_unlock (&write->lock);
}

void
write_blame (Write *write, GError *why)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  if (write->why == NULL)
    write->why = why;
  else
    g_error_free (why);
}

/* ----------------------------------------------------------------------------------------- actions */

/* Before the participants drop it: that is what they tell their clients. */
static void
write_fail_why (Write *write, const GsAction *action)
{
  GError *why = NULL;
  gs_fail (&why, (GsErrorCode) action->code, "the write to '%s' was not made: %s", write->path, action->reason);
  write_blame (write, why);
}

/* What is recorded of replicas is not the caller's: its deadline may be over, and the participant's call cancelled. */
#define RECORD_US (10 * G_USEC_PER_SEC)

/* It did not apply what it voted for: it is at most where it was before. */
static void
record_lost (Write *write, const Part *part)
{
  GsIdentity identity;
  GsCall own;
  gsi_own_call_init (&own, &identity, "write");
  own.deadline_us = g_get_monotonic_time () + RECORD_US;
  write->config->metadata->replica_set (write->config->metadata_self, &own, write->id, part->storage->name,
                                        write->decision.generation - 1, TRUE, NULL);
}

/* It applied it later. It may miss an earlier one, so that it says itself how far it is. */
static void
record_applied (Write *write, const Part *part)
{
  const GsRepo repo = { sizeof repo, write->id, write->replica_path };
  GsReplicaState state = { .size = sizeof state };
  GsIdentity identity;
  GsCall own;
  gsi_own_call_init (&own, &identity, "write");
  own.deadline_us = g_get_monotonic_time () + RECORD_US;
  if (part->storage->ops->state (part->storage->self, &own, &repo, &state, NULL) && state.repository_id == write->id)
    write->config->metadata->replica_set (write->config->metadata_self, &own, write->id, part->storage->name,
                                          state.generation, FALSE, NULL);
}

static void
ask_repair (Write *write, const Part *part, const char *why)
{
  GsIdentity identity;
  GsCall own;
  gsi_own_call_init (&own, &identity, "write");
  own.deadline_us = g_get_monotonic_time () + RECORD_US;
  gsi_router_ask_repair (write->router, &own, write->id, part->storage->name, why);
}

/* Nobody reads from it until it has the write: from before the caller hears of it. */
static void
write_repair (Write *write, gsize index)
{
  Part *part = write->parts[index];
  if (part->applied || part->storage == NULL)
    return;
  if (part->voter && !part->behind)
    {
      part->behind = TRUE;
      record_lost (write, part);
      gsi_events_tell (write->config->events, GITSTEAD__V1__EVENT_KIND__EVENT_REPLICA_BEHIND, write->vs->name,
                       write->path, write->id, NULL, NULL, part->storage->name,
                       write->config->host->wall_us (write->config->host));
    }
  ask_repair (write, part, part->voter ? "it was lost while it applied a write" : "it took no part in a write");
  if (part->voter && write_part_state (part) != PART_COMMITTING)
    gsi_settler_later_replica (gsi_router_settler (write->router), part->storage, write->id, write->replica_path,
                               write->decision.generation);
}

/* It came after the write was acknowledged without it. */
static void
late_result (Write *write, const GsEvent *event)
{
  Part *part = write->parts[event->participant];
  if (event->type == GS_EVENT_APPLIED)
    {
      part->applied = TRUE;
      if (part->behind)
        record_applied (write, part);
      part->behind = FALSE;
    }
  else if (event->type == GS_EVENT_LOST && part->voter && !part->applied && write->decision.generation > 0)
    {
      record_lost (write, part);
      part->behind = TRUE;
      if (write->end != WRITE_RUNNING)
        gsi_settler_later_replica (gsi_router_settler (write->router), part->storage, write->id, write->replica_path,
                                   write->decision.generation);
    }
}

static void
write_act (Write *write, const GsAction *action)
{
  switch (action->type)
    {
    case GS_ACTION_VOTER:
      write->parts[action->participant]->voter = TRUE;
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
      gsi_events_publish (write->config->events, g_steal_pointer (&write->event));
      break;
    case GS_ACTION_FAIL:
      write->end = WRITE_FAILED;
      break;
    case GS_ACTION_REPAIR:
      write_repair (write, action->participant);
      break;
    case GS_ACTION_TIMER:
      write->timer_us = g_get_monotonic_time () + MAX (action->delay_us, 1);
      break;
    default:
      break;
    }
}

/* Those that are to stage are told together: a push is dealt out to all of them. */
static void
write_act_all (Write *write)
{
  g_autofree gsize *staging = g_new (gsize, write->actions->len + 1);
  gsize n = 0;
  for (guint i = 0; i < write->actions->len; i++)
    {
      const GsAction *action = &g_array_index (write->actions, GsAction, i);
      if (action->participant >= write->n_parts)
        continue; /* a broken plugin */
      if (action->type == GS_ACTION_STAGE && !write->handed_over && write->parts[action->participant]->storage != NULL
          && write_part_state (write->parts[action->participant]) == PART_IDLE)
        staging[n++] = action->participant;
      if (action->type == GS_ACTION_FAIL)
        write_fail_why (write, action);
    }
  if (n > 0)
    write_stage (write, staging, n);
  for (guint i = 0; i < write->actions->len; i++)
    if (g_array_index (write->actions, GsAction, i).participant < write->n_parts)
      write_act (write, &g_array_index (write->actions, GsAction, i));
}

/* ------------------------------------------------------------------------------------ the machine */

static void
collect_action (GsActions *actions, const GsAction *action)
{
  GArray *list = actions->priv;
  g_array_append_val (list, *action);
}

void
write_hand_over (Write *write, const GsiStorageGroup *group, gpointer txn)
{
  const Event begin = { .event = { sizeof begin.event, GS_EVENT_BEGIN, 0, NULL } };
  write->vs->consistency->txn_free (write->vs->consistency_self, write->txn);
  write->vs = group;
  write->txn = txn;
  write->handed_over = TRUE;
  write->timer_us = 0;
  gs_mutex_lock (&write->lock);
  g_array_prepend_val (write->events, begin);
  gs_mutex_unlock (&write->lock);
}

/*
 * What the other policy asks for first: it is shown the votes there are. Nobody stages anew, as no client sends a push twice.
 * Whoever is not wanted lets go when the end is known, and with it why.
 */
static void
write_show_votes (Write *write)
{
  for (gsize i = 0; i < write->n_parts; i++)
    {
      Part *part = write->parts[i];
      const PartState state = write_part_state (part);
      part->unasked = TRUE;
      for (guint k = 0; k < write->actions->len; k++)
        {
          const GsAction *action = &g_array_index (write->actions, GsAction, k);
          part->unasked = part->unasked && (action->type != GS_ACTION_STAGE || action->participant != i);
        }
      if (!part->unasked && state == PART_STAGED && part->told)
        write_event (write, GS_EVENT_STAGED, i, part->vote->digest);
      else if (!part->unasked && (state == PART_IDLE || part->told))
        write_event (write, GS_EVENT_LOST, i, NULL);
    }
}

static void
write_step (Write *write, const Event *event)
{
  GsActions out = { sizeof out, write->actions, collect_action };
  GsEvent shown = event->event;
  if (event->has_digest)
    shown.digest = event->digest;
  if (shown.type == GS_EVENT_STAGED || shown.type == GS_EVENT_LOST)
    {
      Part *part = write->parts[shown.participant];
      part->told = TRUE;
      if (part->unasked)
        return;
      /* The policy before told it to drop what it was about to tell. */
      if (write->handed_over && shown.type == GS_EVENT_STAGED && write_part_state (part) != PART_STAGED)
        shown.type = GS_EVENT_LOST;
    }
  if (shown.type == GS_EVENT_STAGED)
    gsi_router_crash_point_at (write->router, "write.staged", ++write->n_staged);
  if (shown.type == GS_EVENT_APPLIED)
    gsi_router_crash_point_at (write->router, "write.applied", ++write->n_applied);
  if (shown.type == GS_EVENT_APPLIED || shown.type == GS_EVENT_LOST)
    late_result (write, &shown);
  g_array_set_size (write->actions, 0);
  write->vs->consistency->txn_step (write->vs->consistency_self, write->txn, &shown, &out);
  write_act_all (write);
  if (shown.type == GS_EVENT_BEGIN && write->handed_over)
    write_show_votes (write);
}

/*
 * The next event, waiting for it as long as a job is under way. FALSE when there is none: with @until_answered, when the
 * caller can be answered too.
 */
static gboolean
write_next (Write *write, gboolean until_answered, Event *ret_event)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  for (;;)
    {
      gint64 now_us = g_get_monotonic_time (), until_us;
      if (write->events->len > 0)
        {
          *ret_event = g_array_index (write->events, Event, 0);
          g_array_remove_index (write->events, 0);
          return TRUE;
        }
      if (write->timer_us != 0 && now_us >= write->timer_us && write->end == WRITE_RUNNING)
        {
          write->timer_us = 0;
          *ret_event = (Event) { .event = { sizeof (GsEvent), GS_EVENT_TIMER, 0, NULL } };
          return TRUE;
        }
      /* A request is the caller's: whoever stages it must have ended. */
      if (write->n_jobs == 0
          || (until_answered && (write->end == WRITE_ACKNOWLEDGED || write->open) && write->n_staging == 0))
        return FALSE;
      until_us = write->timer_us != 0 && write->end == WRITE_RUNNING ? write->timer_us : G_MAXINT64;
      if (write->call != NULL && write->n_staging > 0)
        until_us = MIN (until_us, now_us + LOOK_US);
      gs_cond_wait_until (&write->changed, &write->lock, until_us);
      if (write->call != NULL && write->n_staging > 0 && gs_call_cancelled (&write->call->base))
        {
          /* What is staged is of no use to anybody. */
          gs_mutex_unlock (&write->lock);
          write_cancel_parts (write, TRUE);
          gs_mutex_lock (&write->lock);
        }
    }
}

/* What is over for the plugin must not keep locks, whatever it forgot (promise K4). */
static void
write_tidy (Write *write)
{
  write_cancel_parts (write, TRUE);
  for (gsize i = 0; i < write->n_parts; i++)
    if (!write->parts[i]->voter || write->end == WRITE_FAILED)
      write_abort (write, i);
}

/* A write whose decision nobody knows has no end, and its caller has its answer all the same. */
static void
write_run (Write *write, gboolean until_answered)
{
  gboolean tidied = write->end != WRITE_RUNNING;
  Event event;
  for (;;)
    {
      while (write_next (write, until_answered, &event))
        {
          write_step (write, &event);
          if (write->end != WRITE_RUNNING && !tidied)
            write_tidy (write);
          tidied = write->end != WRITE_RUNNING;
        }
      if (write->end != WRITE_RUNNING || write->open)
        return;
      write->end = WRITE_FAILED;
      GError *why = NULL;
      gs_fail (&why, GS_ERROR_INTERNAL, "consistency plugin of virtual storage '%s' stopped without an end (promise K3)",
               write->vs->name);
      write_blame (write, why);
      write_tidy (write);
      tidied = TRUE;
    }
}

/* ----------------------------------------------------------------------------------------- the end */

static void
write_free (Write *write)
{
  tee_free (write->tee);
  if (write->txn != NULL)
    write->vs->consistency->txn_free (write->vs->consistency_self, write->txn);
  /* One that is left as it is stays claimed: the storage could not resolve it while it is in hand. */
  if (!write->left)
    gsi_settler_release (gsi_router_settler (write->router), &write->txid);
  gsi_events_publish (write->config->events, g_steal_pointer (&write->event));
  if (write->computed != NULL)
    write->computer->ops->computed_free (write->computer->self, write->computed);
  write_parts_free (write);
  g_clear_error (&write->why);
  g_array_free (write->events, TRUE);
  g_array_free (write->actions, TRUE);
  gs_cond_clear (&write->changed);
  gs_mutex_clear (&write->lock);
  gsi_row_free (write->row);
  g_free (write);
}

/* Laggards bring it to its end after the caller was answered. */
static void
write_background (gpointer user)
{
  Write *write = user;
  GsiRouter *router = write->router;
  if (!write->open || write_await_store (write))
    write_run (write, FALSE);
  write_free (write);
  gsi_router_background_end (router);
}

static void
write_part_with (Write *write)
{
  gboolean busy;
  gs_mutex_lock (&write->lock);
  busy = write->n_jobs > 0 || write->events->len > 0 || write->open;
  gs_mutex_unlock (&write->lock);
  write_unleash (write);
  write->call = NULL;
  if (!busy)
    write_free (write);
  else if (!gsi_router_background_begin (write->router))
    {
      if (!write->open || write_await_store (write))
        write_run (write, FALSE);
      write_free (write);
    }
  else if (!gsi_pool_submit (write->config->pool, write_background, write, NULL))
    write_background (write);
}

/* @receipt NULL: nothing was changed. */
static gboolean
write_reply (Write *write, const GsiReceipt *receipt, GError **error)
{
  GsiReplica replica;
  if (receipt != NULL)
    write->call->written = receipt->generation;
  if (write->binding != NULL)
    {
      write->binding->reply (write->call, receipt);
      return TRUE;
    }
  replica = gsi_router_replica (write->router, write->computer, write->row);
  return gsi_node_computed_reply (&replica, write->call, write->computed, receipt, error);
}

/* The replicas that hold it: those that applied it, or have it in their journal. */
static gboolean
write_answer (Write *write, GError **error)
{
  g_autoptr (GPtrArray) replicas = g_ptr_array_new ();
  GsiReceipt receipt = { write->txid, write->decision.generation, write->decision.refs_digest, NULL, 0 };
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->voter)
      g_ptr_array_add (replicas, (gpointer) write->parts[i]->storage->name);
  receipt.replicas = (const char *const *) replicas->pdata;
  receipt.n_replicas = replicas->len;
  return write_reply (write, &receipt, error);
}

/* -------------------------------------------------------------------------------------- the caller */

typedef struct
{
  const GsiWriteBinding *binding; /* NULL: a computed call */
  GsiCall *call;
  gboolean found;
} Repeat;

static gboolean
repeat_visit (const GsChange *change, gpointer user)
{
  Repeat *repeat = user;
  GsiReceipt receipt = { change->txid, change->generation, change->refs_digest, change->voters,
                         g_strv_length ((char **) change->voters) };
  /* Another caller's: its outcome is not this one's, whose write cannot be decided under that id. */
  if (g_strcmp0 (change->caller, repeat->call->base.identity->name) != 0)
    return FALSE;
  repeat->call->written = receipt.generation;
  if (repeat->binding != NULL)
    repeat->binding->reply (repeat->call, &receipt);
  else
    gsi_node_receipt_reply (repeat->call, &receipt);
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

/* Tells a push's client what git has to say, from a participant that has it from first hand. */
static void
write_tell (Write *write)
{
  gsize preferred = 0;
  gboolean any = write->end != WRITE_ACKNOWLEDGED;
  if (write->tee == NULL)
    return;
  while (!any && preferred + 1 < write->n_parts && !write->parts[preferred]->voter)
    preferred++;
  /* Who staged it cannot tell why others refused it, and of a hook's no only the one who asked it knows why. */
  for (gsize i = 0; i < write->n_parts; i++)
    if (any && write->nothing && write->parts[i]->nothing && (!write->parts[write->asker]->nothing || i == write->asker))
      {
        preferred = i;
        any = FALSE;
      }
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->applied)
      {
        preferred = i;
        break;
      }
  if (write->open)
    tee_cut_client (write->tee);
  else
    tee_release (write->tee, preferred, any);
  tee_wait_client (write->tee);
}

static void
log_refused (Write *write)
{
  write->config->host->log (write->config->host, GS_LOG_INFO, "push.refused",
                            (GsField[]) { GS_TEXT ("repository", write->path),
                                          GS_TEXT ("code", gs_error_name (gs_error_code (write->why))),
                                          GS_TEXT ("error", write->why != NULL ? write->why->message : "") },
                            3);
}

/*
 * Had a participant nothing to change? A push's refs are refused one by one. Of a call only a replica that shows the newest state
 * may say so, as a reader's: one that is behind, or that has another disk than it is recorded to have, met an older one.
 */
static gboolean
nothing_to_do (Write *write)
{
  const gint64 until_us = MIN (g_get_monotonic_time () + GSI_TELL_US, write->call->base.deadline_us);
  if (!write->nothing || write->open || write->tee != NULL || write->n_parts == 1)
    return write->nothing && !write->open;
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->nothing
        && gsi_router_is_fresh (write->router, write->parts[i]->storage, write->row, write->row->generation, until_us, NULL))
      return TRUE;
  return FALSE;
}

static gboolean
write_conclude (Write *write, GError **error)
{
  GsiCall *call = write->call;
  gboolean repeated = FALSE;
  if (write->end == WRITE_ACKNOWLEDGED)
    gsi_router_crash_point (write->router, "write.acknowledged");
  write_tell (write);
  if (write->end == WRITE_ACKNOWLEDGED)
    {
      gsi_router_crash_point (write->router, "write.told");
      return write_answer (write, error);
    }
  if (nothing_to_do (write))
    return write_reply (write, NULL, error);
  /* A client of git's heard it from git, ref by ref: a call that broke off would tell it nothing more, and hide that. */
  if (!write->open && write->tee != NULL && tee_told (write->tee))
    {
      log_refused (write);
      return write_reply (write, NULL, error);
    }
  /* The same call was decided meanwhile, by another router that it was sent to before: its answer is ours, whatever
   * stopped this one (its refs have moved, or their locks are held). */
  if (!write->open && !call->method->bytes_in
      && answer_repeat (write->router, write->row, write->binding, call, &repeated, NULL) && repeated)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&write->why));
  return FALSE;
}

static Write *
write_new (GsiRouter *router, GsiCall *call)
{
  Write *write = g_new0 (Write, 1);
  write->router = router;
  write->config = gsi_router_config (router);
  write->call = call;
  write->config->host->random (write->config->host, write->txid.bytes, sizeof write->txid.bytes);
  write->decision.size = sizeof write->decision;
  write->decision.txid = write->txid;
  write->events = g_array_new (FALSE, TRUE, sizeof (Event));
  write->actions = g_array_new (FALSE, TRUE, sizeof (GsAction));
  gs_mutex_init (&write->lock);
  gs_cond_init (&write->changed);
  gsi_settler_claim (gsi_router_settler (router), &write->txid);
  return write;
}

/* Why a call came to nothing that can be begun anew: nothing was done, and nothing of the caller's was used up. */
typedef enum
{
  HITCH_NONE,
  HITCH_MOVED, /* the repository changed its place meanwhile */
  HITCH_BEHIND /* enough replicas are there, and too few of them are current */
} Hitch;

/* Would it be written if those that are there were current? */
static gboolean
is_hopeful (const Write *write)
{
  g_autofree GsParticipant *repaired = g_new0 (GsParticipant, write->n_parts + 1);
  g_autofree const GsParticipant **views = g_new0 (const GsParticipant *, write->n_parts + 1);
  const GsTxnSetup setup = { .size = sizeof setup, .participants = views, .n_participants = write->n_parts,
                             .min_copies = write->vs->min_copies };
  g_autofree char *why = NULL;
  for (gsize i = 0; i < write->n_parts; i++)
    {
      repaired[i] = write->parts[i]->view;
      repaired[i].current = TRUE;
      views[i] = &repaired[i];
    }
  return gsi_cluster_would_write (write->vs, &setup, &why);
}

static Hitch
write_hitch (const Write *write, const GError *why)
{
  gboolean behind = FALSE;
  if (write->open || write->begun || write->end != WRITE_FAILED)
    return HITCH_NONE;
  if (write->moved)
    return HITCH_MOVED;
  for (gsize i = 0; i < write->n_parts; i++)
    {
      const Part *part = write->parts[i];
      if (write_part_state (write->parts[i]) != PART_IDLE && !write->overtaken)
        return HITCH_NONE;
      behind = behind || (part->view.healthy && !part->view.current);
    }
  return (write->overtaken || (behind && gs_error_code (why) == GS_ERROR_UNAVAILABLE)) && is_hopeful (write) ? HITCH_BEHIND
                                                                                                             : HITCH_NONE;
}

static gboolean
write_once (GsiRouter *router, GsiCall *call, Hitch *ret_hitch, guint64 *ret_id, GError **error)
{
  const GsiWriteBinding *binding = NULL;
  const GsiStorageGroup *vs = NULL;
  g_autoptr (GsiRow) row = NULL;
  gboolean repeated = FALSE, ok;
  Write *write;

  *ret_hitch = HITCH_NONE;
  if (!call->method->storage)
    for (binding = gsi_node_writes (); binding->number != call->method->number;)
      binding++;
  row = gsi_router_locate (router, call, &vs, error);
  if (row == NULL)
    return FALSE;
  if (!call->method->bytes_in && !answer_repeat (router, row, binding, call, &repeated, error))
    return FALSE;
  if (repeated)
    return TRUE;
  if (!gsi_hold_wait (router, &call->base, &row, error))
    return FALSE;

  *ret_id = row->id;
  write = write_new (router, call);
  write->binding = binding;
  write->vs = vs;
  write->row = g_steal_pointer (&row);
  ok = write_parts_setup (write, error);
  if (ok)
    {
      write_event (write, GS_EVENT_BEGIN, 0, NULL);
      write_run (write, TRUE);
      ok = write_conclude (write, error);
      if (!ok)
        *ret_hitch = write_hitch (write, *error);
    }
  write_part_with (write);
  return ok;
}

/*
 * Until the repository can be written: who missed little is repaired within moments, and a write that waits for it is better than
 * one that is refused. FALSE: not in time, or so many wait already that no others could be served.
 */
static gboolean
await_repair (GsiRouter *router, GsiCall *call, guint64 id, gint64 until_us)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, call->virtual_storage, NULL);
  gboolean writable = FALSE;
  gint64 delay_us = 0;
  if (!gsi_router_wait_begin (router))
    return FALSE;
  while (!writable && gsi_router_pause (&call->base, &delay_us, until_us))
    {
      g_autoptr (GsiRow) row = NULL;
      g_auto (GsiVerdict) verdict = { 0 };
      if (!config->metadata->repo_get (config->metadata_self, &call->base, id, gsi_row_visit, &row, NULL))
        break;
      gsi_cluster_judge (router, group, row, &verdict);
      writable = verdict.writable;
    }
  gsi_router_wait_end (router);
  return writable;
}

gboolean
gsi_router_write (gpointer router, GsiCall *call, GError **error)
{
  const gint64 until_us = g_get_monotonic_time () + GSI_LATE_WAIT_US;
  guint n_moved = 0;
  for (;;)
    {
      g_autoptr (GError) why = NULL;
      guint64 id = 0;
      Hitch hitch;
      if (write_once (router, call, &hitch, &id, &why))
        return TRUE;
      if ((hitch == HITCH_MOVED && ++n_moved < TRIES) || (hitch == HITCH_BEHIND && await_repair (router, call, id, until_us)))
        continue;
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
}
