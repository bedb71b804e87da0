/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One replica made current: its votes settled, a copy from one that is current, then what was decided meanwhile, and at
 * last, where writes never end, a copy while they wait.
 */
#include "router/hold.h"
#include "router/repair_steps.h"
#include "router/settle.h"

#define FREE_ROUNDS 4       /* before writes are asked to wait */
#define PATIENT_ROUNDS 60   /* where they need not: replicas that take no part in writes */
#define HELD_LEAST_US (300 * 1000) /* so long a hold lasts at least: writes that began before are over then, mostly */
#define HELD_MOST_US (2500 * 1000)
#define HELD_TRIES 4
#define AFTER_HOLD_US (400 * 1000)
#define POLL_US (20 * 1000)

gboolean
gsi_repair_refresh (GsiRepair *repair, GError **error)
{
  GsiRow *row = NULL;
  g_autoptr (GError) why = NULL;
  repair->mine = NULL;
  if (!repair->config->metadata->repo_get (repair->config->metadata_self, repair->call, repair->job->repository_id,
                                           gsi_row_visit, &row, &why))
    {
      if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
        g_propagate_error (error, g_steal_pointer (&why));
      else
        g_clear_pointer (&repair->row, gsi_row_free);
      return FALSE;
    }
  gsi_row_free (repair->row);
  repair->row = row;
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, repair->job->target) == 0)
      repair->mine = &row->replicas[i];
  return repair->mine != NULL;
}

gboolean
gsi_repair_is_current (const GsiRepair *repair)
{
  return repair->mine->generation >= repair->row->generation;
}

gboolean
gsi_repair_has_all (const GsiRepair *repair)
{
  return gsi_repair_is_current (repair) || repair->reached >= repair->row->generation;
}

/* One that is current, is there, and did not fail before; the least busy. */
static const GsiStorage *
pick_source (GsiRepair *repair, GError **error)
{
  const GsiStorage *best = NULL;
  guint least = G_MAXUINT;
  for (gsize i = 0; i < repair->row->n_replicas; i++)
    {
      const GsiRowReplica *replica = &repair->row->replicas[i];
      const GsiStorage *storage = gsi_router_storage (repair->job->router, replica->storage);
      GsNodeView view;
      if (storage == NULL || storage == repair->target || replica->generation < repair->row->generation
          || g_hash_table_contains (repair->bad, storage->name))
        continue;
      view = gsi_router_view (storage);
      if (!view.healthy)
        continue;
      if (strcmp (storage->name, repair->job->source) == 0)
        return storage;
      if (best == NULL || view.in_flight < least)
        {
          best = storage;
          least = view.in_flight;
        }
    }
  if (best == NULL)
    gs_fail (error, GS_ERROR_UNAVAILABLE,
             "repository '%s': no replica that is current and whole can be reached; '%s' stays as it is until one can",
             repair->row->path, repair->job->target);
  return best;
}

/* The disk is asked, and the change of that generation says what it should hold. */
static gboolean
record_progress (GsiRepair *repair, const GsReplicaState *state, gboolean *ret_proven, GError **error)
{
  const GsMetadataOps *ops = repair->config->metadata;
  gboolean there = gsi_repair_refresh (repair, error);
  guint64 generation;
  *ret_proven = TRUE;
  if (!there)
    return FALSE;
  if (state->generation > repair->row->generation
      || (state->generation == repair->row->generation
          && memcmp (&state->refs_digest, &repair->row->refs_digest, sizeof state->refs_digest) != 0))
    {
      *ret_proven = FALSE;
      return TRUE;
    }
  repair->reached = state->generation;
  generation = repair->modest ? MIN (state->generation, MAX (repair->row->generation, 1) - 1) : state->generation;
  return ops->replica_set (repair->config->metadata_self, repair->call, repair->row->id,
                           repair->target->name, generation, FALSE, error)
         && gsi_repair_refresh (repair, error);
}

static gboolean
anyone_is_current (const GsiRepair *repair)
{
  for (gsize i = 0; i < repair->row->n_replicas; i++)
    if (repair->row->replicas[i].generation >= repair->row->generation)
      return TRUE;
  return FALSE;
}

/*
 * A replica may have come to its end by itself, from its journal. One that was taken out of use while a write was decided with
 * its vote alone may be the only one that has it: it is not written over, and counts again when its refs are those decided.
 */
static gboolean
look_at_disk (GsiRepair *repair, GError **error)
{
  const GsRepo repo = { sizeof repo, repair->row->id, repair->row->replica_path };
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  gboolean proven;
  if (repair->replace && anyone_is_current (repair))
    return TRUE;
  if (!repair->target->ops->state (repair->target->self, repair->call, &repo, &state, &why))
    {
      /* Whatever cannot be read there is made anew. */
      repair->replace = gs_error_code (why) == GS_ERROR_DATA_LOSS || gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION;
      if (repair->replace || gs_error_code (why) == GS_ERROR_NOT_FOUND)
        return TRUE;
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (state.generation < repair->row->generation)
    return TRUE;
  if (!record_progress (repair, &state, &proven, error))
    return FALSE;
  repair->replace = !proven;
  return TRUE;
}

static void
log_source (GsiRepair *repair, const GsiStorage *source, const GError *why)
{
  const GsField fields[] = { GS_NUMBER ("repository", repair->row->id), GS_TEXT ("source", source->name),
                             GS_TEXT ("storage", repair->target->name), GS_TEXT ("error", why->message) };
  repair->config->host->log (repair->config->host, GS_LOG_WARNING, "repair.source.failed", fields,
                             G_N_ELEMENTS (fields));
}

/* Who cannot give a copy is looked at more closely. */
static void
shun (GsiRepair *repair, const GsiStorage *source, const GError *why)
{
  log_source (repair, source, why);
  g_hash_table_add (repair->bad, g_strdup (source->name));
  if (why->code == GS_ERROR_DATA_LOSS || why->code == GS_ERROR_INTERNAL || why->code == GS_ERROR_FAILED_PRECONDITION)
    gsi_router_ask_job (repair->job->router, repair->call, GSI_JOB_SCRUB, repair->row->id, source->name,
                        "it could not be copied", 0, NULL, NULL);
}

static gboolean
settle (GsiRepair *repair, GError **error)
{
  repair->settled = TRUE;
  return gsi_router_settle (repair->job->router, repair->target, repair->call, error);
}

gboolean
gsi_repair_copy_once (GsiRepair *repair, GError **error)
{
  for (;;)
    {
      const GsiStorage *source = pick_source (repair, error);
      GsiCopy copy = { .router = repair->job->router,
                       .source = source,
                       .target = repair->target,
                       .repo = { sizeof (GsRepo), repair->row->id, repair->row->replica_path },
                       .replace = repair->replace,
                       .pacer = gsi_repairer_pacer (repair->job->repairer),
                       .rate = repair->config->care.repair_rate };
      g_autoptr (GError) why = NULL;
      gboolean proven, done;
      if (source == NULL)
        return FALSE;
      repair->source = source->name;
      done = gsi_copy_replica (&copy, repair->call, &why);
      repair->rounds++;
      repair->bytes += copy.bytes;
      gsi_repairer_count (repair->job->repairer, GSI_REPAIR_BYTES, (double) copy.bytes);
      if (done)
        {
          repair->replace = FALSE;
          gsi_router_crash_point (repair->job->router, "repair.copied");
          if (!record_progress (repair, &copy.state, &proven, error))
            return FALSE;
          if (proven)
            {
              gsi_router_crash_point (repair->job->router, "repair.recorded");
              return TRUE;
            }
          repair->replace = TRUE;
          gs_fail (&why, GS_ERROR_DATA_LOSS, "its refs are not those that were decided");
          copy.source_failed = TRUE;
        }
      if (!copy.source_failed && gs_error_code (why) == GS_ERROR_BUSY && !repair->settled)
        {
          if (!settle (repair, error) || !gsi_repair_refresh (repair, error))
            return FALSE;
          continue;
        }
      if (gs_call_cancelled (repair->call)
          || (!copy.source_failed && (repair->replace || gs_error_code (why) == GS_ERROR_BUSY
                                      || gs_error_code (why) == GS_ERROR_ABORTED
                                      || gs_error_code (why) == GS_ERROR_UNAVAILABLE)))
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      if (copy.source_failed)
        shun (repair, source, why);
      else
        repair->replace = TRUE; /* what it has does not fit: all of it anew */
      if ((repair->replace && !repair->settled && !settle (repair, error)) || !gsi_repair_refresh (repair, error))
        return FALSE;
    }
}

/* ------------------------------------------------------------------------------------ the last step */

typedef struct
{
  guint n;
} Voters;

static gboolean
count_voters (const GsChange *change, gpointer user)
{
  ((Voters *) user)->n = change->voters != NULL ? g_strv_length ((char **) change->voters) : 0;
  return FALSE;
}

/* Where one replica alone takes writes, the others never take part: there is nothing to wait for. */
static gboolean
takes_part (GsiRepair *repair)
{
  Voters voters = { 0 };
  return repair->row->generation > 0
         && repair->config->metadata->change_list (repair->config->metadata_self, repair->call, repair->row->id,
                                                   repair->row->generation - 1, 1, count_voters, &voters, NULL)
         && voters.n > 1;
}

/* Copies while writes wait, until it has been current for a while. */
static gboolean
converge_held (GsiRepair *repair, const GsiHold *hold, gint64 least_us, GError **error)
{
  gint64 until_us = hold->since_us + HELD_MOST_US;
  while (g_get_monotonic_time () < until_us)
    {
      if (!gsi_repair_refresh (repair, error))
        return FALSE;
      if (!gsi_repair_is_current (repair))
        {
          if (!gsi_repair_copy_once (repair, error))
            return FALSE;
        }
      else if (g_get_monotonic_time () - hold->since_us >= least_us)
        return TRUE;
      else
        g_usleep (POLL_US);
      if (!gs_call_check (repair->call, "repairing a replica", error))
        return FALSE;
    }
  return gs_fail (error, GS_ERROR_BUSY, "repository '%s': writes came faster than they could be copied to '%s'",
                  repair->row->path, repair->job->target);
}

/* A write that began before the hold may be decided after it. Then once more, for longer. */
static gboolean
last_step (GsiRepair *repair, GError **error)
{
  gint64 least_us = HELD_LEAST_US;
  for (guint tries = 0; tries < HELD_TRIES; tries++, least_us *= 2)
    {
      gint64 until_us;
      gboolean done;
      GsiHold hold;
      if (!gsi_hold_take (repair->job->router, repair->call, repair->row->id, &hold, error))
        return FALSE;
      gsi_router_crash_point (repair->job->router, "repair.held");
      done = converge_held (repair, &hold, MIN (least_us, HELD_MOST_US - HELD_LEAST_US), error);
      if (done)
        gsi_router_crash_point (repair->job->router, "repair.converged");
      gsi_hold_release (repair->job->router, repair->call, &hold);
      gsi_router_crash_point (repair->job->router, "repair.released");
      repair->held_us += g_get_monotonic_time () - hold.since_us;
      if (!done)
        return FALSE;
      for (until_us = g_get_monotonic_time () + AFTER_HOLD_US; gsi_repair_is_current (repair);)
        {
          if (g_get_monotonic_time () > until_us)
            return TRUE;
          if (!gs_call_check (repair->call, "repairing a replica", error) || (g_usleep (POLL_US), FALSE)
              || !gsi_repair_refresh (repair, error))
            return FALSE;
        }
    }
  return gs_fail (error, GS_ERROR_BUSY, "repository '%s': '%s' fell behind again each time it had been made current",
                  repair->row->path, repair->job->target);
}

/* FALSE without @error: there is nothing to repair any more. */
static gboolean
make_current (GsiRepair *repair, GError **error)
{
  guint free_rounds = 0;
  while (!gsi_repair_is_current (repair))
    {
      if (free_rounds >= FREE_ROUNDS && takes_part (repair))
        return last_step (repair, error);
      if (free_rounds++ >= PATIENT_ROUNDS)
        return gs_fail (error, GS_ERROR_BUSY, "repository '%s': writes come faster than they are copied to '%s'",
                        repair->row->path, repair->job->target);
      if (!gs_call_check (repair->call, "repairing a replica", error) || !gsi_repair_copy_once (repair, error))
        return FALSE;
    }
  return TRUE;
}

static void
log_done (GsiRepair *repair, gint64 began_us)
{
  const GsField fields[] = { GS_NUMBER ("repository", repair->row->id),
                             GS_TEXT ("path", repair->row->path),
                             GS_TEXT ("storage", repair->target->name),
                             GS_TEXT ("source", repair->source != NULL ? repair->source : "itself"),
                             GS_NUMBER ("from", repair->from_generation),
                             GS_NUMBER ("to", repair->mine->generation),
                             GS_NUMBER ("copies", repair->rounds),
                             GS_NUMBER ("bytes", repair->bytes),
                             GS_NUMBER ("held_us", repair->held_us),
                             GS_NUMBER ("us", g_get_monotonic_time () - began_us) };
  gsi_repairer_count (repair->job->repairer, GSI_REPAIR_DONE, 1);
  repair->config->host->log (repair->config->host, GS_LOG_INFO, "repair.done", fields, G_N_ELEMENTS (fields));
}

/*
 * Of a repository that was never written every record is current, that of a replica which does not exist too: only the disk
 * knows. FALSE without @error: there is nothing to repair any more.
 */
static gboolean
make_first (GsiRepair *repair, GError **error)
{
  const GsRepo repo = { sizeof repo, repair->row->id, repair->row->replica_path };
  gint64 began_us = g_get_monotonic_time ();
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  if (repair->target->ops->state (repair->target->self, repair->call, &repo, &state, &why))
    return TRUE;
  repair->replace = gs_error_code (why) == GS_ERROR_DATA_LOSS || gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION;
  if (!repair->replace && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if ((repair->replace && !settle (repair, error)) || !gsi_repair_copy_once (repair, error))
    return FALSE;
  log_done (repair, began_us);
  return TRUE;
}

/* Up to the copies: what the target's disk has is known. TRUE with *@ret_done: it is current. */
static gboolean
begin (GsiRepair *repair, gboolean *ret_done, GError **error)
{
  if (!gsi_repair_refresh (repair, error))
    return FALSE;
  if (repair->row->generation == 0 && (!make_first (repair, error) || !gsi_repair_refresh (repair, error)))
    return FALSE;
  *ret_done = gsi_repair_is_current (repair);
  if (*ret_done)
    return TRUE;
  repair->from_generation = repair->mine->generation;
  repair->replace = repair->mine->generation == 0 && !repair->fresh; /* new, or found damaged */
  /*
   * What it voted for must have its end before another's state takes the place of its own. A storage refuses a copy while its
   * journal holds anything, unless it is to be replaced; to look through all journals each time would take too long.
   */
  return (!repair->replace || settle (repair, error)) && gsi_repair_refresh (repair, error) && look_at_disk (repair, error);
}

gboolean
gsi_repair_approach (GsiRepair *repair, GError **error)
{
  gboolean done = FALSE;
  if (!begin (repair, &done, error))
    return FALSE;
  for (guint i = 0; i < FREE_ROUNDS && !gsi_repair_has_all (repair); i++)
    if (!gs_call_check (repair->call, "moving a replica", error) || !gsi_repair_copy_once (repair, error))
      return FALSE;
  return TRUE;
}

void
gsi_repair_init (GsiRepair *repair, GsiJob *job)
{
  *repair = (GsiRepair) { .job = job,
                          .config = job->config,
                          .call = &job->call,
                          .target = gsi_router_storage (job->router, job->target),
                          .bad = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL) };
}

void
gsi_repair_clear (GsiRepair *repair)
{
  g_hash_table_destroy (repair->bad);
  gsi_row_free (repair->row);
}

static gboolean
repair_steps (GsiRepair *repair, GError **error)
{
  gint64 began_us = g_get_monotonic_time ();
  gboolean done = FALSE;
  if (!begin (repair, &done, error))
    return FALSE;
  if (done)
    return TRUE;
  if (!make_current (repair, error))
    return FALSE;
  log_done (repair, began_us);
  repair->config->metadata->replica_verified (repair->config->metadata_self, repair->call, repair->row->id,
                                              repair->target->name, FALSE, NULL);
  return TRUE;
}

gboolean
gsi_job_repair (GsiJob *job, GError **error)
{
  GsiRepair repair;
  g_autoptr (GError) why = NULL;
  gboolean done;
  gsi_repair_init (&repair, job);
  done = repair.target != NULL
             ? repair_steps (&repair, &why)
             : gs_fail (&why, GS_ERROR_FAILED_PRECONDITION, "no storage '%s' is configured here", job->target);
  gsi_repair_clear (&repair);
  if (done || why == NULL) /* repository or replica are gone: there is nothing to do */
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}
