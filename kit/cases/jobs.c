/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind METADATA: the queue of jobs. */
#include "metadata.h"

#include <poll.h>

#define LONG_US (60 * (gint64) G_USEC_PER_SEC)
#define SHORT_US (20 * 1000)
#define PATIENCE_US (10 * (gint64) G_USEC_PER_SEC)

typedef struct
{
  guint n;
  guint64 id, token, repository_id;
  guint32 attempts;
  GsJobState state;
  char kind[64], target[64], source[64], reason[64], lane[64], worker[64], error[64];
  gint64 due_wall_us, added_wall_us, started_wall_us, ended_wall_us, lease_left_us;
} SeenJob;

/* Keeps the last. */
static gboolean
see_job (const GsJobRow *row, gpointer user)
{
  SeenJob *seen = user;
  seen->n++;
  seen->id = row->id;
  seen->token = row->token;
  seen->repository_id = row->repository_id;
  seen->attempts = row->attempts;
  seen->state = row->state;
  g_strlcpy (seen->kind, row->kind, sizeof seen->kind);
  g_strlcpy (seen->target, row->target, sizeof seen->target);
  g_strlcpy (seen->source, row->source, sizeof seen->source);
  g_strlcpy (seen->reason, row->reason, sizeof seen->reason);
  g_strlcpy (seen->lane, row->lane, sizeof seen->lane);
  g_strlcpy (seen->worker, row->worker, sizeof seen->worker);
  g_strlcpy (seen->error, row->error, sizeof seen->error);
  seen->due_wall_us = row->due_wall_us;
  seen->added_wall_us = row->added_wall_us;
  seen->started_wall_us = row->started_wall_us;
  seen->ended_wall_us = row->ended_wall_us;
  seen->lease_left_us = row->lease_left_us;
  return TRUE;
}

gboolean
count_job (const GsJobRow *row, gpointer user)
{
  (*(guint64 *) user)++;
  return TRUE;
}

/* Kinds are this run's own, so that jobs of another are not taken. */
static char *
own_kind (Conformance *c, const char *name)
{
  return g_strdup_printf ("%s-%s", name, c->tag);
}

static gboolean
add_job (Conformance *c, const char *kind, guint64 repository_id, const char *target, const char *lane, gint64 delay_us,
         guint64 *ret_id, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsJobRow job = { .size = sizeof job,
                   .kind = kind,
                   .repository_id = repository_id,
                   .target = target,
                   .source = "alpha",
                   .reason = "it is behind – ü",
                   .lane = lane,
                   .due_wall_us = delay_us };
  return ops->job_add (c->self, &call, &job, ret_id, error);
}

static gboolean
take_job (Conformance *c, const char *kind, const char *target, const char *worker, gint64 lease_us, SeenJob *seen,
          GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  const char *const kinds[] = { "no such kind", kind, NULL }, *const targets[] = { target, NULL };
  GsJobOffer offer = { .size = sizeof offer,
                       .worker = worker,
                       .kinds = kinds,
                       .targets = target != NULL ? targets : NULL,
                       .lease_us = lease_us };
  seen->n = 0;
  return ops->job_take (c->self, &call, &offer, see_job, seen, error);
}

static gboolean
find_job (Conformance *c, guint64 id, SeenJob *seen, GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  seen->n = 0;
  return ops->job_list (c->self, &call, NULL, id - 1, 1, see_job, seen, error);
}

void
jobs_queue (Conformance *c)
{
  g_autofree char *kind = own_kind (c, "queue"), *path = conformance_path (c, "job-queue"),
                  *huge = g_strnfill (5000, 'k');
  SeenJob seen = { 0 };
  guint64 first = 0, same = 0, other = 0, later = 0, id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, LONG_US, &first, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 0, "nothing before it is due", "a job");
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &same, &error));
  CHECK (c, same == first, "the one that is queued", "another");
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, LONG_US, &same, &error)); /* does not make it later */
  CHECK_OK (c, add_job (c, kind, id, "gamma", NULL, LONG_US, &other, &error));
  CHECK (c, other > first, "a greater id", "%" G_GUINT64_FORMAT, other);
  if (conformance_keeps (c))
    CHECK_OK (c, conformance_restart (c, &error));
  CHECK_OK (c, take_job (c, kind, "gamma", "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 0, "none for this target", "one");
  CHECK_OK (c, take_job (c, kind, "beta", "worker", LONG_US, &seen, &error));
  CHECK (c,
         seen.n == 1 && seen.id == first && seen.repository_id == id && strcmp (seen.kind, kind) == 0
             && strcmp (seen.target, "beta") == 0 && strcmp (seen.source, "alpha") == 0
             && strcmp (seen.reason, "it is behind – ü") == 0 && strcmp (seen.lane, kind) == 0,
         "the job as it was added", "%s of %" G_GUINT64_FORMAT " on %s", seen.kind, seen.repository_id, seen.target);
  CHECK (c,
         seen.state == GS_JOB_RUNNING && seen.attempts == 1 && seen.token > 0 && strcmp (seen.worker, "worker") == 0
             && seen.lease_left_us > LONG_US / 2 && seen.added_wall_us > 0 && seen.started_wall_us > 0,
         "running, by this worker", "state %d, attempt %u, by %s", seen.state, seen.attempts, seen.worker);
  CHECK_OK (c, take_job (c, kind, NULL, "another", LONG_US, &seen, &error));
  CHECK (c, seen.n == 0, "taken once", "twice");
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &later, &error));
  CHECK (c, later > other, "a new one while the first runs", "%" G_GUINT64_FORMAT, later);
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, add_job (c, "", id, "beta", NULL, 0, &same, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, add_job (c, huge, id, "beta", NULL, 0, &same, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, add_job (c, kind, id, "beta", NULL, -1, &same, &error));
}

void
jobs_end (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *kind = own_kind (c, "end"), *path = conformance_path (c, "job-end"),
                  *long_text = g_strnfill (20000, 'e');
  SeenJob seen = { 0 };
  guint64 first = 0, second = 0, id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &first, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, first, seen.token, "the disk is full", 0, &error));
  CHECK_OK (c, find_job (c, first, &seen, &error));
  CHECK (c, seen.state == GS_JOB_QUEUED && strcmp (seen.error, "the disk is full") == 0, "queued again, saying why",
         "state %d, %s", seen.state, seen.error);
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 1 && seen.attempts == 2, "the second attempt", "%u", seen.attempts);
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_end (c->self, &call, first, seen.token - 1, NULL, 0, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, first, seen.token, "again", LONG_US, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 0, "not before its time", "taken");
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &second, &error)); /* brings it forward */
  CHECK (c, second == first, "the same job", "%" G_GUINT64_FORMAT, second);
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, LONG_US, &second, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, first, seen.token, long_text, 0, &error));
  CHECK_OK (c, find_job (c, first, &seen, &error));
  CHECK (c, seen.state == GS_JOB_FAILED && seen.ended_wall_us > 0, "given up: the same is queued already", "state %d",
         seen.state);
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_end (c->self, &call, first, seen.token, NULL, 0, &error));
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &second, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, second, seen.token, NULL, 0, &error));
  CHECK_OK (c, find_job (c, second, &seen, &error));
  CHECK (c, seen.state == GS_JOB_DONE && strcmp (seen.error, "") == 0 && strcmp (seen.worker, "worker") == 0,
         "done, without an error", "state %d, %s", seen.state, seen.error);
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &second, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, second, seen.token, "hopeless", -1, &error));
  CHECK_OK (c, find_job (c, second, &seen, &error));
  CHECK (c, seen.state == GS_JOB_FAILED && strcmp (seen.error, "hopeless") == 0, "given up", "state %d", seen.state);
}

void
jobs_lanes (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *kind = own_kind (c, "lane"), *path = conformance_path (c, "job-lane"),
                  *path2 = conformance_path (c, "job-lane-2");
  SeenJob first = { 0 }, seen = { 0 };
  guint64 job, id = make_repo (c, path), id2 = make_repo (c, path2);
  if (id == 0 || id2 == 0)
    return;
  CHECK_OK (c, add_job (c, kind, id, "alpha", "disk", 0, &job, &error));
  CHECK_OK (c, add_job (c, kind, id, "beta", "disk", 0, &job, &error));
  CHECK_OK (c, add_job (c, kind, id, "gamma", "look", 0, &job, &error));
  CHECK_OK (c, add_job (c, kind, id2, "alpha", "disk", 0, &job, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &first, &error));
  CHECK (c, strcmp (first.target, "alpha") == 0 && first.repository_id == id, "the first", "%s", first.target);
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, strcmp (seen.lane, "look") == 0, "the other lane", "lane %s on %s", seen.lane, seen.target);
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 1 && seen.repository_id == id2, "the other repository", "%u", seen.n);
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 0, "none: the lane is taken", "one on %s", seen.target);
  CHECK_OK (c, ops->job_end (c->self, &call, first.id, first.token, NULL, 0, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "worker", LONG_US, &seen, &error));
  CHECK (c, seen.n == 1 && strcmp (seen.target, "beta") == 0, "the second in the lane", "%u", seen.n);
}

void
jobs_leases (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *kind = own_kind (c, "lease"), *path = conformance_path (c, "job-lease");
  SeenJob first = { 0 }, second = { 0 };
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  guint64 job, id = make_repo (c, path);
  if (id == 0)
    return;
  CHECK_OK (c, add_job (c, kind, id, "beta", NULL, 0, &job, &error));
  CHECK_OK (c, take_job (c, kind, NULL, "dies", LONG_US, &first, &error));
  CHECK_OK (c, ops->job_renew (c->self, &call, job, first.token, SHORT_US, &error));
  while (second.n == 0)
    {
      CHECK (c, g_get_monotonic_time () < end_us, "the job free when the lease is over", "it was not");
      CHECK_OK (c, take_job (c, kind, NULL, "lives", LONG_US, &second, &error));
      if (second.n == 0)
        poll (NULL, 0, 1);
    }
  CHECK (c, second.id == job && second.attempts == 2 && second.token > first.token, "the same job, a greater token",
         "attempt %u, token %" G_GUINT64_FORMAT, second.attempts, second.token);
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_renew (c->self, &call, job, first.token, LONG_US, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_end (c->self, &call, job, first.token, NULL, 0, &error));
  CHECK_OK (c, ops->job_renew (c->self, &call, job, second.token, LONG_US, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, job, second.token, NULL, 0, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_renew (c->self, &call, job, second.token, LONG_US, &error));
  CHECK_CODE (c, GS_ERROR_ABORTED, ops->job_end (c->self, &call, job + 1000000, 1, NULL, 0, &error));
  CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, take_job (c, kind, NULL, "w", 0, &first, &error));
}

static gboolean
count_jobs (Conformance *c, guint32 states, guint64 repository_id, const char *kind, const char *target, guint64 *ret_n,
            GError **error)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  GsJobFilter filter = { sizeof filter, states, repository_id, kind, target };
  *ret_n = 0;
  return ops->job_list (c->self, &call, &filter, 0, 1000, count_job, ret_n, error);
}

void
jobs_list (Conformance *c)
{
  const GsMetadataOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *kind = own_kind (c, "list"), *path = conformance_path (c, "job-list");
  SeenJob seen = { 0 };
  guint64 job, n = 0, id = make_repo (c, path);
  guint pruned = 99;
  if (id == 0)
    return;
  for (guint i = 0; i < 4; i++)
    {
      g_autofree char *target = g_strdup_printf ("target-%u", i);
      CHECK_OK (c, add_job (c, kind, i < 3 ? id : 0, target, target, i == 2 ? LONG_US : 0, &job, &error));
    }
  CHECK_OK (c, take_job (c, kind, "target-0", "worker", LONG_US, &seen, &error));
  CHECK_OK (c, ops->job_end (c->self, &call, seen.id, seen.token, NULL, 0, &error));
  CHECK_OK (c, take_job (c, kind, "target-1", "worker", LONG_US, &seen, &error));
  CHECK_OK (c, count_jobs (c, 0, 0, kind, NULL, &n, &error));
  CHECK (c, n == 4, "four of the kind", "%" G_GUINT64_FORMAT, n);
  CHECK_OK (c, count_jobs (c, 0, id, kind, NULL, &n, &error));
  CHECK (c, n == 3, "three of the repository", "%" G_GUINT64_FORMAT, n);
  CHECK_OK (c, count_jobs (c, 1u << GS_JOB_QUEUED, 0, kind, NULL, &n, &error));
  CHECK (c, n == 2, "two queued", "%" G_GUINT64_FORMAT, n);
  CHECK_OK (c, count_jobs (c, 1u << GS_JOB_RUNNING | 1u << GS_JOB_DONE, 0, kind, NULL, &n, &error));
  CHECK (c, n == 2, "two running or done", "%" G_GUINT64_FORMAT, n);
  CHECK_OK (c, count_jobs (c, 0, 0, kind, "target-1", &n, &error));
  CHECK (c, n == 1, "one on the target", "%" G_GUINT64_FORMAT, n);
  CHECK_OK (c, ops->job_prune (c->self, &call, LONG_US, 1000, &pruned, &error));
  CHECK_OK (c, count_jobs (c, 0, 0, kind, NULL, &n, &error));
  CHECK (c, n == 4, "nothing pruned that is young", "%" G_GUINT64_FORMAT " left", n);
  do
    CHECK_OK (c, ops->job_prune (c->self, &call, 0, 1, &pruned, &error));
  while (pruned == 1);
  CHECK (c, pruned == 0, "at most as many as asked for", "%u", pruned);
  CHECK_OK (c, count_jobs (c, 0, 0, kind, NULL, &n, &error));
  CHECK (c, n == 3, "the one that was done pruned", "%" G_GUINT64_FORMAT " left", n);
}

/* ---------------------------------------------------------------------------------------- many at once */

#define RACE_REPOSITORIES 4
#define RACE_TARGETS 5

typedef struct
{
  char *kind;
  guint64 ids[RACE_REPOSITORIES];
  gint running[RACE_REPOSITORIES], taken, done, clashes;
} Race;

/* Takes and ends jobs until all are done. */
static void
race_body (Conformance *c, guint index, gpointer user)
{
  const GsMetadataOps *ops = c->ops;
  Race *race = user;
  g_autofree char *worker = g_strdup_printf ("worker-%u", index);
  gint64 end_us = g_get_monotonic_time () + 6 * PATIENCE_US;
  while (g_atomic_int_get (&race->done) < RACE_REPOSITORIES * RACE_TARGETS)
    {
      GsCall call = conformance_call (c, 0);
      SeenJob seen = { 0 };
      guint r = 0;
      CHECK (c, g_get_monotonic_time () < end_us && !conformance_has_failed (c), "all jobs done", "%d",
             g_atomic_int_get (&race->done));
      CHECK_OK (c, take_job (c, race->kind, NULL, worker, LONG_US, &seen, &error));
      if (seen.n == 0)
        {
          poll (NULL, 0, 1);
          continue;
        }
      while (r < RACE_REPOSITORIES - 1 && race->ids[r] != seen.repository_id)
        r++;
      g_atomic_int_inc (&race->taken);
      if (g_atomic_int_add (&race->running[r], 1) != 0)
        g_atomic_int_inc (&race->clashes);
      CHECK_OK (c, ops->job_renew (c->self, &call, seen.id, seen.token, LONG_US, &error));
      g_atomic_int_add (&race->running[r], -1);
      CHECK_OK (c, ops->job_end (c->self, &call, seen.id, seen.token, NULL, 0, &error));
      g_atomic_int_inc (&race->done);
    }
}

void
jobs_race (Conformance *c)
{
  Race race = { .kind = own_kind (c, "race") };
  g_autofree char *kind = race.kind;
  guint64 job;
  for (guint r = 0; r < RACE_REPOSITORIES; r++)
    {
      g_autofree char *name = g_strdup_printf ("job-race-%u", r), *path = conformance_path (c, name);
      race.ids[r] = make_repo (c, path);
      if (race.ids[r] == 0)
        return;
      for (guint t = 0; t < RACE_TARGETS; t++)
        {
          g_autofree char *target = g_strdup_printf ("target-%u", t);
          CHECK_OK (c, add_job (c, race.kind, race.ids[r], target, "", 0, &job, &error));
        }
    }
  conformance_parallel (c, 6, race_body, &race);
  CHECK (c, c->skipped != NULL || (race.clashes == 0 && race.taken == RACE_REPOSITORIES * RACE_TARGETS),
         "every job taken once, one at a time per repository", "%d clashes, %d taken", race.clashes, race.taken);
}
