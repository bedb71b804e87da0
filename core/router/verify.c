/* SPDX-License-Identifier: Apache-2.0 */
/* What is recorded of a replica against its disk; what was found damaged is taken out of use. See repair.h. */
#include "router/repair.h"
#include "router/settle.h"

/* A write that is just being applied looks like damage, for a moment. */
#define LOOKS 40
#define LOOK_AGAIN_US (40 * 1000)

typedef struct
{
  GsDigest digest;
  guint64 generation;
} Decided;

static gboolean
take_digest (const GsChange *change, gpointer user)
{
  *(Decided *) user = (Decided) { change->refs_digest, change->generation };
  return FALSE;
}

static const GsiRowReplica *
replica_on (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return &row->replicas[i];
  return NULL;
}

/* *@ret_row NULL: the repository is gone. *full*. */
static gboolean
read_row (const GsiRouterConfig *config, GsCall *call, guint64 id, GsiRow **ret_row, GError **error)
{
  g_autoptr (GError) why = NULL;
  GsiRow *row = NULL;
  if (!config->metadata->repo_get (config->metadata_self, call, id, gsi_row_visit, &row, &why)
      && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  *ret_row = row;
  return TRUE;
}

/* Damage, or that it cannot be told now. *@ret_damage *full*. */
static gboolean
judge_silence (const GsiStorage *storage, const GError *why, char **ret_damage, GError **error)
{
  if (why->code != GS_ERROR_NOT_FOUND && why->code != GS_ERROR_DATA_LOSS && why->code != GS_ERROR_FAILED_PRECONDITION)
    {
      g_propagate_error (error, g_error_copy (why));
      return FALSE;
    }
  *ret_damage = g_strdup_printf ("storage '%s': %s", storage->name, why->message);
  return TRUE;
}

/* One look. */
static gboolean
look (GsiRouter *router, GsCall *call, guint64 id, const GsiStorage *storage, char **ret_damage, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GsiRow) before = NULL, row = NULL;
  const GsiRowReplica *recorded, *now;
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  Decided decided = { { { 0 } }, 0 };
  GsRepo repo = { .size = sizeof repo, .id = id };

  if (!read_row (config, call, id, &before, error))
    return FALSE;
  recorded = before != NULL ? replica_on (before, storage->name) : NULL;
  if (recorded == NULL || (recorded->generation == 0 && before->generation > 0))
    return TRUE; /* it is not used */
  repo.replica_path = before->replica_path;
  if (!storage->ops->state (storage->self, call, &repo, &state, &why))
    return judge_silence (storage, why, ret_damage, error);
  if (!read_row (config, call, id, &row, error))
    return FALSE;
  now = row != NULL ? replica_on (row, storage->name) : NULL;
  if (now == NULL || now->generation < recorded->generation)
    return TRUE; /* it was taken out of use meanwhile */
  if (state.generation < recorded->generation || state.generation > row->generation)
    {
      *ret_damage = g_strdup_printf ("storage '%s': the replica is at generation %" G_GUINT64_FORMAT " and recorded at %"
                                     G_GUINT64_FORMAT "; is its disk an old one?",
                                     storage->name, state.generation, recorded->generation);
      return TRUE;
    }
  if (state.generation == row->generation)
    decided = (Decided) { row->refs_digest, row->generation };
  else if (state.generation > 0
           && !config->metadata->change_list (config->metadata_self, call, id, state.generation - 1, 1, take_digest,
                                              &decided, error))
    return FALSE;
  if (decided.generation == state.generation && decided.generation > 0
      && memcmp (&decided.digest, &state.refs_digest, sizeof state.refs_digest) != 0)
    *ret_damage = g_strdup_printf ("storage '%s': the replica's refs are not those of generation %" G_GUINT64_FORMAT,
                                   storage->name, state.generation);
  return TRUE;
}

gboolean
gsi_verify_replica (GsiRouter *router, GsCall *call, guint64 id, const GsiStorage *storage, char **ret_damage,
                    GError **error)
{
  g_autofree char *damage = NULL;
  for (guint i = 0; i < LOOKS; i++)
    {
      g_clear_pointer (&damage, g_free);
      if (!gs_call_check (call, "verifying a replica", error) || !look (router, call, id, storage, &damage, error))
        return FALSE;
      if (damage == NULL)
        break;
      g_usleep (LOOK_AGAIN_US);
    }
  if (damage != NULL && storage->ops->probe != NULL && !storage->ops->probe (storage->self, NULL))
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "storage '%s' went away while a replica on it was verified, so it cannot be told whether it is damaged",
                    storage->name);
  /* Whoever was to apply a decided write there may have died: what is staged is no damage. */
  if (damage != NULL && gsi_router_settle (router, storage, call, NULL))
    {
      g_clear_pointer (&damage, g_free);
      if (!look (router, call, id, storage, &damage, error))
        return FALSE;
    }
  *ret_damage = g_steal_pointer (&damage);
  return TRUE;
}

static gboolean
another_is_current (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) != 0 && row->replicas[i].generation >= row->generation)
      return TRUE;
  return FALSE;
}

gboolean
gsi_quarantine_replica (GsiRouter *router, GsCall *call, guint64 id, const char *storage, const char *damage,
                        GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GsiRow) row = NULL, after = NULL;
  gboolean alone;
  if (!read_row (config, call, id, &row, error))
    return FALSE;
  if (row == NULL || replica_on (row, storage) == NULL)
    return TRUE;
  alone = !another_is_current (row, storage);
  if (!alone)
    {
      if (!config->metadata->replica_set (config->metadata_self, call, id, storage, 0, TRUE, error)
          || !read_row (config, call, id, &after, error))
        return FALSE;
      /* The others were taken out of use at the same time, or fell behind: nobody would be left. */
      alone = after != NULL && !another_is_current (after, storage);
      if (alone
          && !config->metadata->replica_set (config->metadata_self, call, id, storage, replica_on (row, storage)->generation,
                                             FALSE, error))
        return FALSE;
    }
  config->host->log (config->host, GS_LOG_ERROR, "replica.damaged",
                     (GsField[]) { GS_NUMBER ("repository", id), GS_TEXT ("path", row->path), GS_TEXT ("storage", storage),
                                   GS_TEXT ("damage", damage),
                                   GS_TEXT ("done", alone ? "nothing: no other replica is current" : "taken out of use") },
                     5);
  if (alone)
    return gs_fail (error, GS_ERROR_DATA_LOSS,
                    "repository '%s': %s; no other replica is current, so it stays in use: restore it from a backup, or "
                    "bring back the disk of another one",
                    row->path, damage);
  return gsi_router_ask_job (router, call, GSI_JOB_REPAIR, id, storage, "it was found damaged", 0, NULL, error);
}

/* --------------------------------------------------------------------------------------------- jobs */

static gboolean
conclude (GsiJob *job, const char *damage, gboolean objects, GError **error)
{
  const GsiRouterConfig *config = job->config;
  g_autoptr (GError) why = NULL;
  if (damage != NULL)
    {
      gsi_repairer_count (job->repairer, GSI_REPAIR_DAMAGED, 1);
      return gsi_quarantine_replica (job->router, &job->call, job->repository_id, job->target, damage, error);
    }
  if (objects)
    gsi_repairer_count (job->repairer, GSI_REPAIR_SCRUBBED, 1);
  if (config->metadata->replica_verified (config->metadata_self, &job->call, job->repository_id, job->target, objects,
                                          &why)
      || gs_error_code (why) == GS_ERROR_NOT_FOUND)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

static const GsiStorage *
target_of (GsiJob *job, GError **error)
{
  const GsiStorage *storage = gsi_router_storage (job->router, job->target);
  if (storage == NULL)
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "no storage '%s' is configured here", job->target);
  return storage;
}

/* TRUE with *@ret_row NULL: it is no replica any more, or one that is not used. */
static gboolean
find_used (GsiJob *job, GsiRow **ret_row, GError **error)
{
  const GsiRowReplica *replica;
  if (!read_row (job->config, &job->call, job->repository_id, ret_row, error))
    return FALSE;
  replica = *ret_row != NULL ? replica_on (*ret_row, job->target) : NULL;
  if (replica == NULL || (replica->generation == 0 && (*ret_row)->generation > 0))
    g_clear_pointer (ret_row, gsi_row_free);
  return TRUE;
}

gboolean
gsi_job_verify (GsiJob *job, GError **error)
{
  const GsiStorage *storage = target_of (job, error);
  g_autofree char *damage = NULL;
  g_autoptr (GsiRow) row = NULL;
  if (storage == NULL || !find_used (job, &row, error))
    return FALSE;
  return row == NULL
         || (gsi_verify_replica (job->router, &job->call, job->repository_id, storage, &damage, error)
             && conclude (job, damage, FALSE, error));
}

/* Twice: a replica that is exchanged while it is read looks damaged. */
static gboolean
read_through (GsiJob *job, const GsiStorage *storage, const GsiRow *row, char **ret_damage, GError **error)
{
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  for (guint looks = 0; looks < 2; looks++)
    {
      g_autoptr (GError) why = NULL;
      g_clear_pointer (ret_damage, g_free);
      if (storage->ops->scrub (storage->self, &job->call, &repo, job->config->care.scrub_rate, &why))
        return TRUE;
      if (!judge_silence (storage, why, ret_damage, error))
        return FALSE;
    }
  return TRUE;
}

gboolean
gsi_job_scrub (GsiJob *job, GError **error)
{
  const GsiStorage *storage = target_of (job, error);
  g_autofree char *damage = NULL;
  g_autoptr (GsiRow) row = NULL;
  if (storage == NULL || !find_used (job, &row, error))
    return FALSE;
  if (row == NULL)
    return TRUE;
  if (!gsi_verify_replica (job->router, &job->call, job->repository_id, storage, &damage, error))
    return FALSE;
  if (damage == NULL && storage->ops->scrub != NULL && !read_through (job, storage, row, &damage, error))
    return FALSE;
  return conclude (job, damage, storage->ops->scrub != NULL, error);
}

/* The record alone does not tell that what is left when another replica goes is really there. */
static gboolean
is_on_disk (GsiJob *job, const GsiRow *row, const GsiRowReplica *replica)
{
  const GsiStorage *storage = gsi_router_storage (job->router, replica->storage);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  GsReplicaState state = { .size = sizeof state };
  return replica->generation >= row->generation && storage != NULL
         && storage->ops->state (storage->self, &job->call, &repo, &state, NULL) && state.generation >= row->generation
         && (state.generation > row->generation || row->generation == 0
             || memcmp (&state.refs_digest, &row->refs_digest, sizeof state.refs_digest) == 0);
}

typedef struct
{
  const char *target;
  gboolean found;
} Onto;

static gboolean
is_onto (const GsJobRow *move, gpointer user)
{
  Onto *onto = user;
  onto->found = onto->found || strcmp (move->target, onto->target) == 0;
  return !onto->found;
}

/*
 * After the record: what is left is a folder that no record names. FALSE: it is there still, and the job is to be done
 * again. A process that was stopped for a while and has lost the job meanwhile must not take away what came after it.
 */
static gboolean
clear_away (GsiJob *job, const GsiRow *row, GError **error)
{
  const GsiRouterConfig *config = job->config;
  const GsiStorage *storage = gsi_router_storage (job->router, job->target);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  g_autoptr (GsiRow) now = NULL;
  Onto onto = { job->target, FALSE };
  g_autoptr (GError) why = NULL;
  if (!gs_call_check (&job->call, "removing a replica", error)
      || !gsi_move_each (job->router, &job->call, job->repository_id, 0, 0, FALSE, is_onto, &onto, error)
      || !read_row (config, &job->call, job->repository_id, &now, error))
    return FALSE;
  if (storage == NULL || now == NULL || replica_on (now, job->target) != NULL || onto.found)
    return TRUE; /* housekeeping's, or a replica again, or to be one */
  if (!storage->ops->remove (storage->self, &job->call, &repo, &why) && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "the replica on '%s' is forgotten and not yet removed: ",
                                  job->target);
      return FALSE;
    }
  config->host->log (config->host, GS_LOG_INFO, "replica.removed",
                     (GsField[]) { GS_NUMBER ("repository", row->id), GS_TEXT ("storage", job->target),
                                   GS_TEXT ("why", job->reason) },
                     3);
  return TRUE;
}

/* The record first: a crash leaves a folder that no record names. Whoever takes the job then clears it away. */
gboolean
gsi_job_remove (GsiJob *job, GError **error)
{
  const GsiRouterConfig *config = job->config;
  g_autoptr (GsiRow) row = NULL;
  guint current = 0, there = 0, wanted;
  if (!read_row (config, &job->call, job->repository_id, &row, error))
    return FALSE;
  if (row == NULL)
    return TRUE;
  /*
   * An earlier attempt was cut short, or its record went with a move. A first copy of what was never written is made before it is
   * recorded: not ours.
   */
  if (replica_on (row, job->target) == NULL)
    return (job->source[0] == '\0' && (job->attempts < 2 || row->generation == 0)) || clear_away (job, row, error);
  for (gsize i = 0; i < row->n_replicas; i++)
    current += strcmp (row->replicas[i].storage, job->target) != 0 && row->replicas[i].generation >= row->generation;
  wanted = gsi_router_wanted_copies (job->router, row);
  if (wanted == 0 || current < wanted)
    return TRUE; /* it is needed after all, or it cannot be told here; the next round looks again */
  for (gsize i = 0; i < row->n_replicas; i++)
    there += strcmp (row->replicas[i].storage, job->target) != 0 && is_on_disk (job, row, &row->replicas[i]);
  if (there < wanted)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "repository '%s': the replica on '%s' stays: of the %u that are to be left %u can be reached and are "
                    "as recorded",
                    row->path, job->target, wanted, there);
  if (!config->metadata->replica_drop (config->metadata_self, &job->call, row->id, job->target, FALSE, error))
    return FALSE;
  gsi_router_crash_point (job->router, "remove.dropped");
  return clear_away (job, row, error);
}
