/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of jobs. */
#include "memory.h"

int
mem_job_order (gconstpointer a, gconstpointer b, gpointer user)
{
  guint64 x = *(const guint64 *) a, y = *(const guint64 *) b;
  return (x > y) - (x < y);
}

void
mem_job_free (gpointer data)
{
  MemJob *job = data;
  g_free ((char *) job->row.kind);
  g_free ((char *) job->row.target);
  g_free ((char *) job->row.source);
  g_free ((char *) job->row.reason);
  g_free ((char *) job->row.lane);
  g_free ((char *) job->row.worker);
  g_free ((char *) job->row.error);
  g_free (job);
}

static char *
text_of (const char *text)
{
  return g_strdup (text != NULL ? text : "");
}

/* With its own texts, and what is left of its lease at @now_us. */
static MemJob *
job_copy (const MemJob *job, gint64 now_us)
{
  MemJob *copy = g_memdup2 (job, sizeof *job);
  GsJobRow *row = &copy->row;
  row->kind = text_of (row->kind);
  row->target = text_of (row->target);
  row->source = text_of (row->source);
  row->reason = text_of (row->reason);
  row->lane = text_of (row->lane);
  row->worker = text_of (row->worker);
  row->error = text_of (row->error);
  row->lease_left_us = row->state == GS_JOB_RUNNING ? job->until_us - now_us : 0;
  return copy;
}

/* The lock is held. */
static MemJob *
find_queued (Mem *self, const char *kind, guint64 repository_id, const char *target)
{
  for (GTreeNode *at = g_tree_node_first (self->jobs); at != NULL; at = g_tree_node_next (at))
    {
      MemJob *job = g_tree_node_value (at);
      if (job->row.state == GS_JOB_QUEUED && job->row.repository_id == repository_id
          && strcmp (job->row.kind, kind) == 0 && strcmp (job->row.target, target) == 0)
        return job;
    }
  return NULL;
}

gboolean
mem_job_add (gpointer data, GsCall *call, const GsJobRow *asked, guint64 *ret_id, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemJob *job;
  if (!mem_begin (call, "queueing a job", error) || !sql_job_check (asked, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  job = find_queued (self, asked->kind, asked->repository_id, asked->target != NULL ? asked->target : "");
  if (job == NULL)
    {
      job = g_new0 (MemJob, 1);
      job->row.size = sizeof job->row;
      job->row.id = ++self->last_job;
      job->row.kind = text_of (asked->kind);
      job->row.repository_id = asked->repository_id;
      job->row.target = text_of (asked->target);
      job->row.source = text_of (asked->source);
      job->row.reason = text_of (asked->reason);
      job->row.lane = text_of (asked->lane != NULL && *asked->lane != '\0' ? asked->lane : asked->kind);
      job->row.due_wall_us = now_us + asked->due_wall_us;
      job->row.state = GS_JOB_QUEUED;
      job->row.worker = text_of (NULL);
      job->row.error = text_of (NULL);
      job->row.added_wall_us = now_us;
      g_tree_insert (self->jobs, &job->row.id, job);
    }
  job->row.due_wall_us = MIN (job->row.due_wall_us, now_us + asked->due_wall_us);
  mem_hint (self);
  *ret_id = job->row.id;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- taking */

static gboolean
is_running (const MemJob *job, gint64 now_us)
{
  return job->row.state == GS_JOB_RUNNING && job->until_us >= now_us;
}

/* Is another job of its repository and lane running? The lock is held. */
static gboolean
lane_taken (Mem *self, const MemJob *job, gint64 now_us)
{
  for (GTreeNode *at = g_tree_node_first (self->jobs); at != NULL; at = g_tree_node_next (at))
    {
      const MemJob *other = g_tree_node_value (at);
      if (other != job && is_running (other, now_us) && other->row.repository_id == job->row.repository_id
          && strcmp (other->row.lane, job->row.lane) == 0)
        return TRUE;
    }
  return FALSE;
}

/* The lock is held. */
static MemJob *
find_free (Mem *self, const GsJobOffer *offer, gint64 now_us)
{
  MemJob *best = NULL;
  for (GTreeNode *at = g_tree_node_first (self->jobs); at != NULL; at = g_tree_node_next (at))
    {
      MemJob *job = g_tree_node_value (at);
      gboolean due = job->row.state == GS_JOB_QUEUED ? job->row.due_wall_us <= now_us
                                                     : job->row.state == GS_JOB_RUNNING && !is_running (job, now_us);
      if (due && (best == NULL || job->row.due_wall_us < best->row.due_wall_us)
          && (offer->kinds == NULL || g_strv_contains (offer->kinds, job->row.kind))
          && (offer->targets == NULL || g_strv_contains (offer->targets, job->row.target))
          && !lane_taken (self, job, now_us))
        best = job;
    }
  return best;
}

gboolean
mem_job_take (gpointer data, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  MemJob *job, *copy = NULL;
  if (!mem_begin (call, "taking a job", error) || !sql_name_check ("worker", offer->worker, error)
      || !sql_lease_check (offer->lease_us, error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  job = find_free (self, offer, now_us);
  if (job != NULL)
    {
      g_free ((char *) job->row.worker);
      job->row.worker = text_of (offer->worker);
      job->row.state = GS_JOB_RUNNING;
      job->row.token++;
      job->row.attempts++;
      job->row.started_wall_us = now_us;
      job->until_us = now_us + offer->lease_us;
      copy = job_copy (job, now_us);
    }
  gs_mutex_unlock (&self->lock);
  if (copy == NULL)
    return TRUE;
  visit (&copy->row, user);
  mem_job_free (copy);
  return TRUE;
}

/* ----------------------------------------------------------------------------------- renewing, ending */

/* The job of that token, which runs; NULL with @error. The lock is held. */
static MemJob *
find_running (Mem *self, guint64 id, guint64 token, GError **error)
{
  MemJob *job = g_tree_lookup (self->jobs, &id);
  if (job != NULL && job->row.state == GS_JOB_RUNNING && job->row.token == token)
    return job;
  sql_job_lost (id, error);
  return NULL;
}

gboolean
mem_job_renew (gpointer data, GsCall *call, guint64 id, guint64 token, gint64 lease_us, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemJob *job;
  if (!mem_begin (call, "renewing a job's lease", error) || !sql_lease_check (lease_us, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  job = find_running (self, id, token, error);
  if (job == NULL)
    return FALSE;
  if (!is_running (job, now_us))
    return sql_job_lost (id, error);
  job->until_us = now_us + lease_us;
  return TRUE;
}

gboolean
mem_job_end (gpointer data, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us,
             GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemJob *job;
  if (!mem_begin (call, "ending a job", error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  job = find_running (self, id, token, error);
  if (job == NULL)
    return FALSE;
  g_free ((char *) job->row.error);
  job->row.error = sql_failure_text (failure != NULL ? failure : "");
  if (failure != NULL && retry_us >= 0
      && find_queued (self, job->row.kind, job->row.repository_id, job->row.target) == NULL)
    {
      job->row.state = GS_JOB_QUEUED;
      job->row.due_wall_us = now_us + MIN (retry_us, 365 * 24 * 3600 * (gint64) G_USEC_PER_SEC);
    }
  else
    {
      job->row.state = failure == NULL ? GS_JOB_DONE : GS_JOB_FAILED;
      job->row.ended_wall_us = now_us;
    }
  mem_hint (self);
  return TRUE;
}

/* ---------------------------------------------------------------------------------- listing, pruning */

static gboolean
passes (const GsJobFilter *filter, const GsJobRow *row)
{
  return filter == NULL
         || ((filter->states == 0 || (filter->states & (1u << row->state)))
             && (filter->repository_id == 0 || filter->repository_id == row->repository_id)
             && (filter->kind == NULL || strcmp (filter->kind, row->kind) == 0)
             && (filter->target == NULL || strcmp (filter->target, row->target) == 0));
}

gboolean
mem_job_list (gpointer data, GsCall *call, const GsJobFilter *filter, guint64 after, gsize limit, GsJobRowVisit visit,
              gpointer user, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GPtrArray) jobs = g_ptr_array_new_with_free_func (mem_job_free);
  if (!mem_begin (call, "listing jobs", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  for (GTreeNode *at = g_tree_upper_bound (self->jobs, &after); at != NULL && jobs->len < limit;
       at = g_tree_node_next (at))
    if (passes (filter, &((MemJob *) g_tree_node_value (at))->row))
      g_ptr_array_add (jobs, job_copy (g_tree_node_value (at), now_us));
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < jobs->len; i++)
    if (!visit (&((MemJob *) jobs->pdata[i])->row, user))
      break;
  return TRUE;
}

/* The job that ended first, no later than @until_us; NULL when there is none. The lock is held. */
static MemJob *
oldest_ended (Mem *self, gint64 until_us)
{
  MemJob *oldest = NULL;
  for (GTreeNode *at = g_tree_node_first (self->jobs); at != NULL; at = g_tree_node_next (at))
    {
      MemJob *job = g_tree_node_value (at);
      if (job->row.state >= GS_JOB_DONE && job->row.ended_wall_us <= until_us
          && (oldest == NULL || job->row.ended_wall_us < oldest->row.ended_wall_us))
        oldest = job;
    }
  return oldest;
}

gboolean
mem_job_prune (gpointer data, GsCall *call, gint64 age_us, gsize limit, guint *ret_n, GError **error)
{
  Mem *self = data;
  gint64 until_us = self->host->wall_us (self->host) - MAX (age_us, 0);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  guint n = 0;
  if (!mem_begin (call, "pruning ended jobs", error))
    return FALSE;
  for (MemJob *job; n < limit && (job = oldest_ended (self, until_us)) != NULL; n++)
    g_tree_remove (self->jobs, &job->row.id);
  *ret_n = n;
  return TRUE;
}
