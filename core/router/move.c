/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replica that changes its place while its repository is read and written: a new one is recorded as behind and catches up;
 * then, while writes wait for a moment, it is recorded as current, and the old one's record goes by a compare-and-swap, which
 * the store refuses unless another replica is at the repository's generation. Before that moment no write counts on the new one:
 * where one replica alone takes writes, they would go there, and one that is long under way at the old one could not be
 * decided any more. The old one's files stay as long as a read may be at them. Killed anywhere, whoever takes the job next goes on
 * from what is recorded.
 */
#include "router/hold.h"
#include "router/nodes.h"
#include "router/repair_steps.h"
#include "router/settle.h"

#define HELD_LEAST_US (120 * 1000) /* writes that looked before the hold are at the replica by then, mostly */
#define HELD_MOST_US (850 * 1000)
#define HELD_LATE_US (2400 * 1000) /* once so many attempts were in vain: a slow machine, or pushes without end */
#define PATIENT_ATTEMPTS 8
#define HOLD_WAIT_US (2 * G_USEC_PER_SEC) /* for another one's hold to end */
#define ASK_US (2 * G_USEC_PER_SEC)
#define POLL_US (15 * 1000)
#define BATCH 500

typedef struct
{
  GsiRepair repair; /* of the target */
  const char *source;
  gint64 began_us, held_us;
} Move;

/* -------------------------------------------------------------------------------------------- asking */

static const GsiRowReplica *
replica_on (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return &row->replicas[i];
  return NULL;
}

/* Of the virtual storage, as a list for messages; NULL in *@ret_found when @name is none. *full*. */
static char *
members_of (const GsiStorageGroup *group, const char *name, const GsiStorage **ret_found)
{
  GString *names = g_string_new (NULL);
  *ret_found = NULL;
  for (gsize i = 0; i < group->n_storages; i++)
    {
      g_string_append_printf (names, "%s%s", i > 0 ? ", " : "", group->storages[i]->name);
      if (strcmp (group->storages[i]->name, name) == 0)
        *ret_found = group->storages[i];
    }
  return g_string_free (names, FALSE);
}

/* May a replica come to @to? */
static gboolean
check_target (GsiRouter *router, const GsiRow *row, const char *to, GError **error)
{
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, row->virtual_storage, error);
  const GsiStorage *target = NULL;
  g_autofree char *names = group != NULL ? members_of (group, to, &target) : NULL;
  GsNodeState state;
  if (group == NULL)
    return FALSE;
  if (target == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "repository '%s' cannot move to '%.100s': virtual storage '%s' has no storage of that name, only %s",
                    row->path, to, group->name, names);
  state = gsi_nodes_state (gsi_router_nodes (router), to);
  if (state != GS_NODE_ACTIVE)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "repository '%s' cannot move to '%s', which %s: 'gitstead cluster undrain %s' takes it back", row->path,
                    to, state == GS_NODE_DRAINING ? "is being drained" : "was removed", to);
  return TRUE;
}

gboolean
gsi_move_check (GsiRouter *router, const GsiRow *row, const char *from, const char *to, GError **error)
{
  const GsiStorage *target = gsi_router_storage (router, to);
  gboolean current = FALSE;
  if (strcmp (from, to) == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "repository '%s' cannot move from '%.100s' onto itself", row->path, from);
  if (!check_target (router, row, to, error))
    return FALSE;
  if (replica_on (row, from) == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "repository '%s' has no replica on '%.100s' that could move; 'gitstead cluster explain %s' lists those it has",
                    row->path, from, row->path);
  if (replica_on (row, to) != NULL)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "repository '%s' cannot move to '%s': it has a replica there already",
                    row->path, to);
  if (!gsi_router_view (target).healthy)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "repository '%s' cannot move to '%s', which cannot be reached: 'gitstead cluster nodes' says what is wrong",
                    row->path, to);
  for (gsize i = 0; i < row->n_replicas; i++)
    current = current || row->replicas[i].generation >= row->generation;
  return current
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                     "repository '%s' cannot move: no replica has its newest state, so there is nothing to copy", row->path);
}

gboolean
gsi_move_ask (GsiRouter *router, GsCall *call, guint64 repository_id, const char *from, const char *to, const char *reason,
              gint64 after_us, guint64 *ret_id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  /* The lane of repairs and removals: one at a time, whoever asked for it. */
  GsJobRow job = { .size = sizeof job, .kind = GSI_JOB_MOVE, .repository_id = repository_id, .target = to, .source = from,
                   .reason = reason, .lane = "repair", .due_wall_us = after_us };
  guint64 id;
  return config->metadata->job_add (config->metadata_self, call, &job, ret_id != NULL ? ret_id : &id, error);
}

typedef struct
{
  GsJobRowVisit visit;
  gpointer user;
  guint64 last, last_id;
  gsize n;
  gboolean over;
} Each;

static gboolean
each_move (const GsJobRow *job, gpointer user)
{
  Each *each = user;
  each->n++;
  each->last = job->id;
  each->over = (each->last_id != 0 && job->id > each->last_id) || !each->visit (job, each->user);
  return !each->over;
}

gboolean
gsi_move_each (GsiRouter *router, GsCall *call, guint64 repository_id, guint64 first_id, guint64 last_id, gboolean ended,
               GsJobRowVisit visit, gpointer user, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsJobFilter filter = { .size = sizeof filter,
                               .states = ended ? 0 : 1u << GS_JOB_QUEUED | 1u << GS_JOB_RUNNING,
                               .repository_id = repository_id,
                               .kind = GSI_JOB_MOVE };
  Each each = { visit, user, first_id > 0 ? first_id - 1 : 0, last_id, 0, FALSE };
  if (config->metadata->job_list == NULL)
    return TRUE;
  do
    {
      each.n = 0;
      if (!gs_call_check (call, "listing moves", error)
          || !config->metadata->job_list (config->metadata_self, call, &filter, each.last, BATCH, each_move, &each, error))
        return FALSE;
    }
  while (each.n == BATCH && !each.over);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- the copy */

/* What an earlier move, or an old record, left there would be in the way; usually there is nothing. */
static gboolean
look_at_target (Move *move, GError **error)
{
  GsiRepair *repair = &move->repair;
  const GsRepo repo = { sizeof repo, repair->row->id, repair->row->replica_path };
  gboolean exists = FALSE;
  if (!repair->target->ops->exists (repair->target->self, repair->call, &repo, &exists, error))
    return FALSE;
  repair->fresh = !exists;
  return TRUE;
}

/* Of a repository that was never written a replica counts as soon as it is recorded: it has to exist before. */
static gboolean
copy_first (Move *move, GError **error)
{
  GsiRepair *repair = &move->repair;
  const GsiRow *row = repair->row;
  g_autoptr (GError) why = NULL;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      GsiCopy copy = { .router = repair->job->router,
                       .source = gsi_router_storage (repair->job->router, row->replicas[i].storage),
                       .target = repair->target,
                       .repo = { sizeof (GsRepo), row->id, row->replica_path },
                       .replace = !repair->fresh };
      if (copy.source == NULL || !gsi_router_view (copy.source).healthy)
        continue;
      g_clear_error (&why);
      if (gsi_copy_replica (&copy, repair->call, &why))
        return TRUE;
    }
  if (why == NULL)
    gs_fail (&why, GS_ERROR_UNAVAILABLE, "repository '%s': none of its replicas can be reached", row->path);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

/* From its record on the folder on the target's disk is somebody's. It is recorded as behind: nobody counts on it. */
static gboolean
add_target (Move *move, GError **error)
{
  GsiRepair *repair = &move->repair;
  const GsiRouterConfig *config = repair->config;
  if (!look_at_target (move, error))
    return FALSE;
  if (repair->row->generation == 0)
    return copy_first (move, error);
  return config->metadata->replica_set (config->metadata_self, repair->call, repair->row->id, repair->target->name, 0, FALSE,
                                        error)
         && gsi_repair_refresh (repair, error);
}

/* ------------------------------------------------------------------------------------------ the switch */

static gboolean
ask_state (Move *move, const char *name, GsReplicaState *ret_state, GError **error)
{
  const GsiRow *row = move->repair.row;
  const GsiStorage *storage = gsi_router_storage (move->repair.job->router, name);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  GsIdentity identity;
  GsCall call;
  if (storage == NULL || !gsi_router_view (storage).healthy)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "storage '%s' cannot be reached", name);
  gsi_own_call_init (&call, &identity, "move");
  call.deadline_us = g_get_monotonic_time () + ASK_US;
  ret_state->size = sizeof *ret_state;
  return storage->ops->state (storage->self, &call, &repo, ret_state, error);
}

/* A write that began before, of which this replica is a participant. One that cannot be asked has none that could end well. */
static gboolean
is_written (Move *move)
{
  GsReplicaState state = { 0 };
  return ask_state (move, move->source, &state, NULL) && state.writers > 0;
}

/* The record alone does not tell that what is to be left is there. */
static gboolean
target_stands (Move *move, GError **error)
{
  const GsiRow *row = move->repair.row;
  GsReplicaState state = { 0 };
  if (!ask_state (move, move->repair.target->name, &state, error))
    return FALSE;
  if (state.repository_id == row->id && state.generation >= row->generation
      && (state.generation > row->generation || row->generation == 0
          || memcmp (&state.refs_digest, &row->refs_digest, sizeof state.refs_digest) == 0))
    return TRUE;
  gsi_router_ask_job (move->repair.job->router, move->repair.call, GSI_JOB_VERIFY, row->id, move->repair.target->name,
                      "a move found it other than recorded", 0, NULL, NULL);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "repository '%s': what '%s' has on its disk is not what is recorded", row->path,
                  move->repair.target->name);
}

typedef enum
{
  SWITCHED,
  NOT_YET,
  FAILED
} Outcome;

/* Its record says what its disk has, and the old one's goes: only then does the store take it for one of those that count. */
static Outcome
exchange (Move *move, GError **error)
{
  const GsiRepair *repair = &move->repair;
  const GsiRouterConfig *config = repair->config;
  g_autoptr (GError) why = NULL;
  if (config->metadata->replica_set (config->metadata_self, repair->call, repair->row->id, repair->target->name,
                                     repair->row->generation, FALSE, &why)
      && (gsi_router_crash_point (repair->job->router, "move.current"), TRUE)
      && (config->metadata->replica_drop (config->metadata_self, repair->call, repair->row->id, move->source, FALSE, &why)
          || gs_error_code (why) == GS_ERROR_NOT_FOUND))
    return SWITCHED;
  if (gs_error_code (why) == GS_ERROR_FAILED_PRECONDITION) /* another write was decided just now */
    return NOT_YET;
  g_propagate_error (error, g_steal_pointer (&why));
  return FAILED;
}

/* One look, while writes wait. */
static Outcome
switch_once (Move *move, const GsiHold *hold, GError **error)
{
  GsiRepair *repair = &move->repair;
  const GsiRouterConfig *config = repair->config;
  g_autoptr (GError) why = NULL;
  gboolean recorded;
  if (!gs_call_check (repair->call, "moving a replica", error))
    return FAILED;
  recorded = gsi_repair_refresh (repair, &why);
  if (why != NULL || repair->row == NULL)
    {
      if (why != NULL)
        g_propagate_error (error, g_steal_pointer (&why));
      return FAILED;
    }
  if (replica_on (repair->row, move->source) == NULL)
    return recorded ? SWITCHED : FAILED;
  if (!recorded && repair->row->generation > 0) /* its first write came while it was copied */
    return config->metadata->replica_set (config->metadata_self, repair->call, repair->row->id, repair->target->name, 0, FALSE,
                                          error)
               ? NOT_YET
               : FAILED;
  if (recorded && !gsi_repair_has_all (repair))
    return gsi_repair_copy_once (repair, error) ? NOT_YET : FAILED;
  if (g_get_monotonic_time () - hold->since_us < HELD_LEAST_US || is_written (move))
    return NOT_YET;
  return target_stands (move, error) ? exchange (move, error) : FAILED;
}

/* Repositories that share a hold are held one after another. */
static gboolean
take_hold (Move *move, GsiHold *ret_hold, GError **error)
{
  gint64 until_us = g_get_monotonic_time () + HOLD_WAIT_US;
  for (;;)
    {
      g_autoptr (GError) why = NULL;
      if (gsi_hold_take (move->repair.job->router, move->repair.call, move->repair.row->id, ret_hold, &why))
        return TRUE;
      if (gs_error_code (why) != GS_ERROR_ABORTED || g_get_monotonic_time () > until_us
          || gs_call_cancelled (move->repair.call))
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      g_usleep (POLL_US);
    }
}

/* FALSE without @error: repository or target are gone. */
static gboolean
switch_over (Move *move, GError **error)
{
  const gint64 most_us = move->repair.job->attempts > PATIENT_ATTEMPTS ? HELD_LATE_US : HELD_MOST_US;
  Outcome outcome = NOT_YET;
  GsiHold hold;
  if (!take_hold (move, &hold, error))
    return FALSE;
  while (outcome == NOT_YET && g_get_monotonic_time () - hold.since_us < most_us)
    {
      outcome = switch_once (move, &hold, error);
      if (outcome == NOT_YET)
        g_usleep (POLL_US);
    }
  gsi_hold_release (move->repair.job->router, move->repair.call, &hold);
  move->held_us += g_get_monotonic_time () - hold.since_us;
  if (outcome != NOT_YET)
    return outcome == SWITCHED;
  return gs_fail (error, GS_ERROR_BUSY,
                  "repository '%s': a write to it that began before has not ended, and others are not made to wait for it longer",
                  move->repair.row->path);
}

/* ---------------------------------------------------------------------------------------------- the job */

static void
log_moved (Move *move)
{
  const GsiRepair *repair = &move->repair;
  const GsField fields[] = { GS_NUMBER ("repository", repair->row->id),
                             GS_TEXT ("path", repair->row->path),
                             GS_TEXT ("from", move->source),
                             GS_TEXT ("storage", repair->target->name),
                             GS_NUMBER ("generation", repair->row->generation),
                             GS_NUMBER ("copies", repair->rounds),
                             GS_NUMBER ("bytes", repair->bytes),
                             GS_NUMBER ("held_us", move->held_us),
                             GS_NUMBER ("us", g_get_monotonic_time () - move->began_us) };
  gsi_repairer_count (repair->job->repairer, GSI_REPAIR_MOVED, 1);
  repair->config->host->log (repair->config->host, GS_LOG_INFO, "move.done", fields, G_N_ELEMENTS (fields));
}

/* The old one's files; what reads have opened by then stays readable in the trash. When this is lost, housekeeping finds a folder that no record names. */
static void
clear_source (Move *move)
{
  const GsiRouterConfig *config = move->repair.config;
  const GsJobRow job = { .size = sizeof job, .kind = GSI_JOB_REMOVE, .repository_id = move->repair.row->id,
                         .target = move->source, .source = move->repair.target->name, /* which has its place */
                         .reason = "it was moved", .lane = "repair", .due_wall_us = config->care.move_grace_us };
  guint64 id;
  config->metadata->job_add (config->metadata_self, move->repair.call, &job, &id, NULL);
}

/* The new one goes again, if it is not needed after all. */
static void
withdraw (Move *move)
{
  if (move->repair.row != NULL && replica_on (move->repair.row, move->repair.job->target) != NULL
      && replica_on (move->repair.row, move->source) != NULL)
    gsi_router_ask_job (move->repair.job->router, move->repair.call, GSI_JOB_REMOVE, move->repair.row->id,
                        move->repair.job->target, "its move was given up", 0, NULL, NULL);
}

static gboolean
give_up (Move *move, GError *why, GError **error)
{
  move->repair.job->hopeless = TRUE;
  withdraw (move);
  g_propagate_error (error, why);
  return FALSE;
}

/* FALSE without @error: the repository is gone. */
static gboolean
move_steps (Move *move, GError **error)
{
  GsiRepair *repair = &move->repair;
  g_autoptr (GError) why = NULL;
  gboolean added = gsi_repair_refresh (repair, &why);
  if (why != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (repair->row == NULL)
    return FALSE;
  if (replica_on (repair->row, move->source) == NULL)
    {
      if (added)
        clear_source (move); /* whoever was at it before came to the end, but for this */
      return added
             || give_up (move, g_error_new (GS_ERROR, GS_ERROR_FAILED_PRECONDITION,
                                            "repository '%s' has no replica on '%s' any more that could move",
                                            repair->row->path, move->source),
                         error);
    }
  if (!check_target (repair->job->router, repair->row, repair->job->target, &why))
    return give_up (move, g_steal_pointer (&why), error);
  if (!added && !add_target (move, error))
    return FALSE;
  if (!added)
    gsi_router_crash_point (repair->job->router, "move.added");
  if (repair->row->generation > 0 && !gsi_repair_approach (repair, error))
    return FALSE;
  gsi_router_crash_point (repair->job->router, "move.caught");
  if (!switch_over (move, error))
    return FALSE;
  gsi_router_crash_point (repair->job->router, "move.exchanged");
  clear_source (move);
  log_moved (move);
  return TRUE;
}

/* What was copied for a repository that is gone by now goes after it. FALSE: it is not gone. */
static gboolean
tidy (Move *move, GError **error)
{
  GsiRepair *repair = &move->repair;
  g_autofree char *path = gsi_router_replica_path (repair->job->repository_id);
  const GsRepo repo = { sizeof repo, repair->job->repository_id, path };
  GsiRow *row = NULL;
  g_autoptr (GError) why = NULL;
  gboolean exists = FALSE;
  if (repair->config->metadata->repo_get (repair->config->metadata_self, repair->call, repo.id, gsi_row_visit, &row, &why))
    {
      gs_fail (error, GS_ERROR_ABORTED, "repository '%s': its new replica on '%s' was taken away while it was made", row->path,
               repair->target->name);
      gsi_row_free (row);
      return FALSE;
    }
  if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (repair->target->ops->exists (repair->target->self, repair->call, &repo, &exists, NULL) && exists)
    repair->target->ops->remove (repair->target->self, repair->call, &repo, NULL);
  return TRUE;
}

gboolean
gsi_job_move (GsiJob *job, GError **error)
{
  Move move = { .source = job->source, .began_us = g_get_monotonic_time () };
  g_autoptr (GError) why = NULL;
  gboolean done = FALSE;
  gsi_repair_init (&move.repair, job);
  move.repair.modest = TRUE;
  if (move.repair.target == NULL)
    gs_fail (&why, GS_ERROR_FAILED_PRECONDITION, "no storage '%s' is configured here", job->target);
  else if (gsi_router_look_at_nodes (job->router, &why))
    done = move_steps (&move, &why);
  if (!done && why == NULL)
    done = tidy (&move, &why);
  gsi_repair_clear (&move.repair);
  if (done)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}
