/* SPDX-License-Identifier: Apache-2.0 */
/* Participants of a write: their calls, and what they are told to do, here or on threads of their own. See write.h. */
#include "router/write.h"

#include "base/pool.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_US (50 * 1000) /* how soon a cancelled call is seen */

/* ------------------------------------------------------------------------------------ their calls */

static int
part_cancel_fd (GsCall *call)
{
  Part *part = (Part *) ((char *) call - G_STRUCT_OFFSET (Part, call));
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&part->write->lock);
  if (part->cancel_fd < 0)
    part->cancel_fd = eventfd (gs_call_cancelled (call), EFD_CLOEXEC | EFD_NONBLOCK);
  return part->cancel_fd;
}

/* Under the lock. */
static void
cancel_locked (Part *part)
{
  __atomic_store_n (&part->call.base.cancelled, 1, __ATOMIC_RELEASE);
  if (part->cancel_fd >= 0)
    eventfd_write (part->cancel_fd, 1);
}

void
write_cancel_part (Write *write, gsize index)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  cancel_locked (write->parts[index]);
}

void
write_cancel_parts (Write *write, gboolean staging_only)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  for (gsize i = 0; i < write->n_parts; i++)
    if (write->parts[i]->state == PART_STAGING || !staging_only)
      cancel_locked (write->parts[i]);
}

/* ------------------------------------------------------------------------------- the caller's stream */

/* No lock is held while the caller's stream is in use, so that is counted. NULL when it is cut. */
static GsStream *
leash_enter (GsStream *stream, GError **error)
{
  Leash *leash = (Leash *) stream;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&leash->lock);
  if (leash->outer != NULL)
    leash->n_users++;
  else
    gs_fail (error, GS_ERROR_CANCELLED, "the caller was answered already");
  return leash->outer;
}

static void
leash_leave (GsStream *stream)
{
  Leash *leash = (Leash *) stream;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&leash->lock);
  leash->n_users--;
  gs_cond_broadcast (&leash->unused);
}

static int
leash_open_input (GsStream *stream, GError **error)
{
  GsStream *outer = leash_enter (stream, error);
  int fd = outer != NULL ? outer->open_input (outer, error) : -1;
  if (outer != NULL)
    leash_leave (stream);
  return fd;
}

static int
leash_open_output (GsStream *stream, GError **error)
{
  GsStream *outer = leash_enter (stream, error);
  int fd = outer != NULL ? outer->open_output (outer, error) : -1;
  if (outer != NULL)
    leash_leave (stream);
  return fd;
}

static gboolean
leash_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  GsStream *outer = leash_enter (stream, error);
  gboolean sent = outer != NULL && outer->send_all (outer, bytes, error);
  if (outer != NULL)
    leash_leave (stream);
  return sent;
}

/* What a single participant is given instead of the caller's stream. */
static void
leash_begin (Write *write)
{
  Leash *leash = g_new0 (Leash, 1);
  leash->outer = write->call->stream;
  leash->stream = (GsStream) { .size = sizeof leash->stream,
                               .head = g_bytes_ref (leash->outer->head),
                               .complete = leash->outer->complete,
                               .open_input = leash_open_input,
                               .open_output = leash_open_output,
                               .send_all = leash_send_all };
  gs_mutex_init (&leash->lock);
  gs_cond_init (&leash->unused);
  write->leash = leash;
  write->call->stream = &leash->stream;
}

void
write_unleash (Write *write)
{
  Leash *leash = write->leash;
  if (leash == NULL || leash->outer == NULL)
    return;
  write->call->stream = leash->outer;
  gs_mutex_lock (&leash->lock);
  leash->outer = NULL;
  while (leash->n_users > 0)
    gs_cond_wait (&leash->unused, &leash->lock);
  gs_mutex_unlock (&leash->lock);
}

static void
leash_free (Leash *leash)
{
  if (leash == NULL)
    return;
  gs_cond_clear (&leash->unused);
  gs_mutex_clear (&leash->lock);
  g_bytes_unref (leash->stream.head);
  g_free (leash);
}

/* ------------------------------------------------------------------------------- setting up */

/* All but whether it is cancelled, which others may say at any moment. */
static void
copy_call (GsiCall *copy, const GsiCall *call)
{
  const gsize at = G_STRUCT_OFFSET (GsiCall, base.cancelled), after = at + sizeof call->base.cancelled;
  memcpy (copy, call, at);
  memcpy ((char *) copy + after, (const char *) call + after, sizeof *copy - after);
}

static void
part_setup (Write *write, gsize index, const GsiRowReplica *replica)
{
  Part *part = g_new0 (Part, 1);
  const GsNodeView view
      = { .healthy = (part->storage = gsi_router_storage (write->router, replica->storage)) != NULL
                     && gsi_router_view (part->storage).healthy };
  part->write = write;
  part->index = index;
  part->cancel_fd = -1;
  part->view.size = sizeof part->view;
  part->view.node = part->storage != NULL ? part->storage->name : "(not of this process)";
  part->view.current = replica->generation >= write->row->generation;
  part->view.healthy = view.healthy;
  copy_call (&part->call, write->call);
  part->call.base.identity = &write->identity;
  part->call.base.peer = write->peer;
  part->call.base.cancel_fd = part_cancel_fd;
  write->parts[index] = part;
}

gpointer
write_txn_new (Write *write, GError **error)
{
  g_autofree const GsParticipant **views = g_new0 (const GsParticipant *, write->n_parts + 1);
  const GsTxnSetup setup = { .size = sizeof setup, .participants = views, .n_participants = write->n_parts,
                             .min_copies = write->vs->min_copies };
  for (gsize i = 0; i < write->n_parts; i++)
    views[i] = &write->parts[i]->view;
  return write->vs->consistency->txn_new (write->vs->consistency_self, &setup, error);
}

gboolean
write_parts_setup (Write *write, GError **error)
{
  const GsIdentity *caller = write->call->base.identity;

  gsi_router_recheck (write->router, write->call, write->row);
  write->identity = (GsIdentity) { sizeof write->identity, write->identity_name = g_strdup (caller->name),
                                   caller->scope, write->identity_prefix = g_strdup (caller->prefix) };
  write->peer = g_strdup (write->call->base.peer);
  write->path = g_strdup (write->row->path);
  write->replica_path = g_strdup (write->row->replica_path);
  write->id = write->row->id;
  write->parts = g_new0 (Part *, write->row->n_replicas + 1);
  for (gsize i = 0; i < write->row->n_replicas; i++)
    if (gsi_router_counts (write->router, write->row, i))
      {
        part_setup (write, write->n_parts, &write->row->replicas[i]);
        write->n_parts++;
      }
  write->alone = write->n_parts == 1 || write->config->pool == NULL;
  write->txn = write_txn_new (write, error);
  return write->txn != NULL;
}

void
write_parts_free (Write *write)
{
  for (gsize i = 0; i < write->n_parts; i++)
    {
      Part *part = write->parts[i];
      if (part->cancel_fd >= 0)
        close (part->cancel_fd);
      g_clear_error (&part->why);
      g_free (part);
    }
  leash_free (write->leash);
  g_free (write->parts);
  g_free (write->path);
  g_free (write->replica_path);
  g_free (write->identity_name);
  g_free (write->identity_prefix);
  g_free (write->peer);
}

GsCall *
write_part_call (Part *part)
{
  return part->write->alone && part->write->call != NULL ? &part->write->call->base : &part->call.base;
}

static GsiReplica
part_replica (const Part *part)
{
  const Write *write = part->write;
  return (GsiReplica) { part->storage,
                        { sizeof (GsRepo), write->id, write->replica_path },
                        write->path,
                        write->config->cache,
                        write->config->cache_self,
                        write->has_asker && write->asker == part->index };
}

/* ------------------------------------------------------------------------------------------- jobs */

static void
set_state (Part *part, PartState state)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&part->write->lock);
  part->state = state;
}

PartState
write_part_state (Part *part)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&part->write->lock);
  return part->state;
}

static void
part_over (Part *part)
{
  set_state (part, PART_OVER);
  if (part->write->tee != NULL)
    tee_part_over (part->write->tee, part->index);
}

/* The last thing a job does: the machine may free all once there is none. */
static void
job_done (Part *part, gboolean staging)
{
  Write *write = part->write;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  write->n_jobs--;
  write->n_staging -= staging;
  gs_cond_broadcast (&write->changed);
}

/* Runs @work on a thread of its own where there are several participants; here otherwise. */
static void
begin_job (Part *part, GsiWork work, gboolean staging)
{
  Write *write = part->write;
  gs_mutex_lock (&write->lock);
  write->n_jobs++;
  write->n_staging += staging;
  gs_mutex_unlock (&write->lock);
  if (write->alone || !gsi_pool_submit (write->config->pool, work, part, NULL))
    work (part);
}

/* ----------------------------------------------------------------------------------------- staging */

static gboolean
stage_here (Part *part, GError **error)
{
  Write *write = part->write;
  GsiReplica replica = part_replica (part);
  GsiCall *call = write->alone ? write->call : &part->call;
  if (write->tee != NULL)
    part->call.stream = tee_stream (write->tee, part->index);
  if (write->binding != NULL)
    return write->binding->stage (&replica, call, &write->txid, &part->txn, &part->vote, error);
  if (write->computed->change.n_updates == 0)
    {
      part->vote = NULL;
      return TRUE;
    }
  return gsi_node_change_stage (&replica, call, &write->computed->change, &part->txn, &part->vote, error);
}

/* The one who asks the hooks is done with it. */
static void
hooks_found (Part *part, const GsVote *vote)
{
  Write *write = part->write;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&write->lock);
  if (!write->has_asker || part->index != write->asker || write->hooks != HOOKS_OPEN)
    return;
  write->hooks = vote != NULL && vote->hooks == GS_HOOKS_PASSED ? HOOKS_PASSED : HOOKS_NOT_PASSED;
  if (write->hooks == HOOKS_PASSED)
    memcpy (write->asked, vote->digest, sizeof write->asked);
  gs_cond_broadcast (&write->changed);
}

/*
 * May this vote be counted? One of a participant that did not ask the hooks waits for the one that does, and is worth nothing
 * without it: whichever of them is lost, no write goes past a hook. Nor does a ref that was refused where the hooks were asked,
 * so that they were not asked about it, and taken here.
 */
static gboolean
hooks_let (Part *part, GError **error)
{
  Write *write = part->write;
  gboolean asked, passed;
  if (part->vote->hooks != GS_HOOKS_UNASKED)
    return TRUE;
  gs_mutex_lock (&write->lock);
  while (write->hooks == HOOKS_OPEN && !part->unwanted && !gs_call_cancelled (&part->call.base))
    gs_cond_wait_until (&write->changed, &write->lock, g_get_monotonic_time () + LOOK_US);
  asked = write->hooks == HOOKS_PASSED;
  passed = asked && memcmp (write->asked, part->vote->digest, sizeof write->asked) == 0;
  if (asked && !passed)
    gs_fail (error, GS_ERROR_ABORTED, "the hooks of '%s' were asked about other updates than this replica would take; try again",
             write->path);
  else if (!passed && write->why != NULL)
    g_propagate_error (error, g_error_copy (write->why));
  gs_mutex_unlock (&write->lock);
  if (!passed && (error == NULL || *error == NULL))
    gs_fail (error, GS_ERROR_UNAVAILABLE, "the replica that was to ask the hooks of '%s' did not; try again", write->path);
  return passed;
}

static void
stage_work (gpointer user)
{
  Part *part = user;
  Write *write = part->write;
  const GsStorageOps *ops = part->storage->ops;
  gboolean unwanted, votes;
  guint8 digest[sizeof part->vote->digest];
  GError *why = NULL;

  if (!stage_here (part, &why))
    {
      part->txn = NULL;
      part->vote = NULL;
      write_blame (write, why);
      hooks_found (part, NULL);
      part_over (part);
      write_event (write, GS_EVENT_LOST, part->index, NULL);
      job_done (part, TRUE);
      return;
    }
  votes = part->vote != NULL && part->vote->n_updates > 0;
  hooks_found (part, votes ? part->vote : NULL);
  if (votes && !hooks_let (part, &why))
    {
      write_blame (write, g_error_copy (why));
      ops->abort (part->storage->self, write_part_call (part), g_steal_pointer (&part->txn), why);
      g_error_free (why);
      part_over (part);
      write_event (write, GS_EVENT_LOST, part->index, NULL);
      job_done (part, TRUE);
      return;
    }
  /* Once it counts as staged it may be aborted by another thread at any moment, and its vote goes with it. */
  if (votes)
    memcpy (digest, part->vote->digest, sizeof digest);
  gs_mutex_lock (&write->lock);
  unwanted = part->unwanted || !votes;
  part->nothing = !votes;
  write->nothing = write->nothing || !votes;
  part->state = unwanted ? PART_ABORTING : PART_STAGED;
  if (unwanted && votes && write->why != NULL)
    why = g_error_copy (write->why);
  gs_mutex_unlock (&write->lock);
  if (!unwanted)
    write_event (write, GS_EVENT_STAGED, part->index, digest);
  else
    {
      if (part->txn != NULL)
        ops->abort (part->storage->self, write_part_call (part), g_steal_pointer (&part->txn), why);
      part_over (part);
      write_event (write, GS_EVENT_LOST, part->index, NULL);
    }
  g_clear_error (&why);
  job_done (part, TRUE);
}

/* One that is recorded to have the last decision may still be applying it, and would compute from what is not so any more. */
static gboolean
is_fresh (Write *write, const Part *part)
{
  gint64 until_us = MIN (g_get_monotonic_time () + GSI_TELL_US, write->call->base.deadline_us);
  return gsi_router_is_fresh (write->router, part->storage, write->row, write->row->generation, until_us, NULL);
}

/*
 * A write of the Git API is computed once, on the first participant that can; all stage the result. From the last one, if no other
 * is fresh: what it computes from old refs is refused when it is staged.
 */
static gboolean
compute (Write *write, const gsize *indexes, gsize n, GError **error)
{
  g_autoptr (GError) why = NULL;
  write->begun = write->call->stream != NULL;
  for (gsize i = 0; i < n; i++)
    {
      Part *part = write->parts[indexes[i]];
      GsiReplica replica = part_replica (part);
      if (i + 1 < n && !is_fresh (write, part))
        continue;
      g_clear_error (&why);
      if (gsi_node_compute (&replica, write->call, &write->computed, &why))
        {
          write->computer = part->storage;
          write->computed->change.txid = write->txid;
          return TRUE;
        }
      if (gs_error_code (why) != GS_ERROR_UNAVAILABLE || write->call->stream != NULL)
        break;
    }
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

/* What comes before any of them stages. */
static gboolean
prepare (Write *write, const gsize *indexes, gsize n, GError **error)
{
  gboolean push = write->binding != NULL && write->call->method->bytes_in;
  if (write->binding == NULL && write->computed == NULL)
    return compute (write, indexes, n, error);
  if (push && write->begun)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "the push to '%s' has gone to other replicas already and cannot be sent again", write->path);
  write->begun = push;
  if (push && n == 1)
    {
      leash_begin (write);
      write->parts[indexes[0]]->call.stream = &write->leash->stream;
    }
  return !push || n == 1 || tee_begin (write, indexes, n, error);
}

void
write_stage (Write *write, const gsize *indexes, gsize n)
{
  GError *why = NULL;
  if (!prepare (write, indexes, n, &why))
    {
      write_blame (write, why);
      for (gsize i = 0; i < n; i++)
        write_event (write, GS_EVENT_LOST, indexes[i], NULL);
      return;
    }
  if (!write->has_asker && n > 0)
    {
      write->asker = indexes[0];
      write->has_asker = TRUE;
    }
  for (gsize i = 0; i < n; i++)
    set_state (write->parts[indexes[i]], PART_STAGING);
  for (gsize i = 0; i < n; i++)
    begin_job (write->parts[indexes[i]], stage_work, TRUE);
  gsi_router_crash_point (write->router, "write.staging");
}

/* ---------------------------------------------------------------------------------------- applying */

static void
apply_work (gpointer user)
{
  Part *part = user;
  Write *write = part->write;
  const GsHost *host = write->config->host;
  g_autoptr (GError) why = NULL;
  gboolean applied = part->storage->ops->commit (part->storage->self, write_part_call (part), g_steal_pointer (&part->txn),
                                                 &write->decision, &why);
  if (!applied)
    host->log (host, GS_LOG_ERROR, "write.apply.failed",
               (GsField[]) { GS_TEXT ("repository", write->path), GS_TEXT ("storage", part->storage->name),
                             GS_NUMBER ("generation", write->decision.generation), GS_TEXT ("error", why->message) },
               4);
  part_over (part);
  write_event (write, applied ? GS_EVENT_APPLIED : GS_EVENT_LOST, part->index, NULL);
  job_done (part, FALSE);
}

void
write_apply (Write *write, gsize index)
{
  Part *part = write->parts[index];
  if (write_part_state (part) != PART_STAGED)
    return;
  set_state (part, PART_COMMITTING);
  begin_job (part, apply_work, FALSE);
}

/* ---------------------------------------------------------------------------------------- aborting */

static void
abort_work (gpointer user)
{
  Part *part = user;
  part->storage->ops->abort (part->storage->self, write_part_call (part), g_steal_pointer (&part->txn), part->why);
  part_over (part);
  job_done (part, FALSE);
}

void
write_abort (Write *write, gsize index)
{
  Part *part = write->parts[index];
  PartState state;
  gs_mutex_lock (&write->lock);
  state = part->state;
  if (state == PART_STAGING)
    {
      part->unwanted = TRUE; /* its own job drops what it stages */
      cancel_locked (part);
    }
  else if (state == PART_STAGED)
    {
      part->state = PART_ABORTING;
      if (part->why == NULL && write->why != NULL)
        part->why = g_error_copy (write->why);
    }
  gs_mutex_unlock (&write->lock);
  if (state == PART_STAGED)
    begin_job (part, abort_work, FALSE);
}
