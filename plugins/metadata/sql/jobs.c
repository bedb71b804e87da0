/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of jobs. All that changes a job holds the lock of its repository, so that what one statement found
 * about the repository's other jobs still holds in the next; who takes jobs passes over the repositories whose lock
 * another holds.
 */
#include "store.h"

#define CANDIDATES 32 /* looked at in one statement */
#define FIELDS_MAX 1000

typedef struct
{
  GsJobRow row;
  char *kind, *target, *source, *reason, *lane, *worker, *error;
} Held;

static void
held_free (gpointer data)
{
  Held *held = data;
  g_free (held->kind);
  g_free (held->target);
  g_free (held->source);
  g_free (held->reason);
  g_free (held->lane);
  g_free (held->worker);
  g_free (held->error);
  g_free (held);
}

/* Columns as in the fragment JOB_COLUMNS. */
static Held *
held_new (SqlStatement *query)
{
  Held *held = g_new0 (Held, 1);
  GsJobRow *row = &held->row;
  row->size = sizeof *row;
  row->id = (guint64) sql_int (query, 0);
  row->kind = held->kind = g_strdup (sql_text (query, 1));
  row->repository_id = (guint64) sql_int (query, 2);
  row->target = held->target = g_strdup (sql_text (query, 3));
  row->source = held->source = g_strdup (sql_text (query, 4));
  row->reason = held->reason = g_strdup (sql_text (query, 5));
  row->lane = held->lane = g_strdup (sql_text (query, 6));
  row->due_wall_us = sql_int (query, 7);
  row->state = (GsJobState) sql_int (query, 8);
  row->worker = held->worker = g_strdup (sql_text (query, 9));
  row->token = (guint64) sql_int (query, 10);
  row->attempts = (guint32) sql_int (query, 11);
  row->error = held->error = g_strdup (sql_text (query, 12));
  row->added_wall_us = sql_int (query, 13);
  row->started_wall_us = sql_int (query, 14);
  row->ended_wall_us = sql_int (query, 15);
  row->lease_left_us = row->state == GS_JOB_RUNNING ? sql_int (query, 16) : 0;
  return held;
}

static gboolean
gather (SqlStatement *query, GPtrArray *jobs, GError **error)
{
  gboolean row = FALSE, ok;
  while ((ok = sql_step (query, &row, error)) && row)
    g_ptr_array_add (jobs, held_new (query));
  return ok;
}

static void
repository_key (guint64 repository_id, guint8 ret_key[8])
{
  guint64 big = GUINT64_TO_BE (repository_id);
  memcpy (ret_key, &big, sizeof big);
}

static gboolean
lock_repository (SqlConn *conn, guint64 repository_id, GError **error)
{
  guint8 key[8];
  repository_key (repository_id, key);
  return sql_lock (conn, "jobs", key, sizeof key, error);
}

/* ------------------------------------------------------------------------------------------- adding */

/* The queued job of the key; 0 in *@ret_id when there is none. */
static gboolean
find_queued (SqlConn *conn, const char *kind, guint64 repository_id, const char *target, gint64 *ret_id, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_JOB_QUEUED);
  gboolean found;
  *ret_id = 0;
  sql_bind_text (&query, ":kind", kind);
  sql_bind_int (&query, ":repository_id", (gint64) repository_id);
  sql_bind_text (&query, ":target", target);
  return sql_run_int (&query, &found, ret_id, error);
}

static gboolean
insert_job (SqlConn *conn, const GsJobRow *job, const char *target, gint64 *ret_id, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_JOB_INSERT);
  gboolean found;
  sql_bind_text (&query, ":kind", job->kind);
  sql_bind_int (&query, ":repository_id", (gint64) job->repository_id);
  sql_bind_text (&query, ":target", target);
  sql_bind_text (&query, ":source", job->source != NULL ? job->source : "");
  sql_bind_text (&query, ":reason", job->reason != NULL ? job->reason : "");
  sql_bind_text (&query, ":lane", job->lane != NULL && *job->lane != '\0' ? job->lane : job->kind);
  sql_bind_int (&query, ":delay", job->due_wall_us);
  return sql_run_int (&query, &found, ret_id, error);
}

gboolean
sql_job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  const char *target;
  gint64 id;
  if (!sql_job_check (job, error))
    return FALSE;
  target = job->target != NULL ? job->target : "";
  conn = sql_take_writer (self, call, "queueing a job", error);
  if (conn == NULL || !lock_repository (conn, job->repository_id, error)
      || !find_queued (conn, job->kind, job->repository_id, target, &id, error))
    return FALSE;
  if (id != 0)
    {
      SqlStatement query = sql_query (conn, SQL_JOB_SOONER);
      sql_bind_int (&query, ":id", id);
      sql_bind_int (&query, ":delay", job->due_wall_us);
      if (!sql_run (&query, error))
        return FALSE;
    }
  else if (!insert_job (conn, job, target, &id, error))
    return FALSE;
  if (!sql_hint (conn, error) || !sql_commit (conn, error))
    return FALSE;
  *ret_id = (guint64) id;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- taking */

typedef struct
{
  gint64 id, repository_id, due_us;
} Candidate;

/* "\nA\nB\n"; "" for any. NULL with @error. *full*. */
static char *
choice (const char *const *names, GError **error)
{
  g_autoptr (GString) out = g_string_new (NULL);
  if (names == NULL)
    return g_strdup ("");
  g_string_append_c (out, '\n');
  for (gsize i = 0; names[i] != NULL; i++)
    {
      if (i == FIELDS_MAX || strchr (names[i], '\n') != NULL)
        {
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                   "taking a job: more than %d kinds or targets, or a name that none can have", FIELDS_MAX);
          return NULL;
        }
      g_string_append_printf (out, "%s\n", names[i]);
    }
  return g_string_free (g_steal_pointer (&out), FALSE);
}

/* The next jobs after *@at that look free, in order. */
static gboolean
list_free (SqlConn *conn, const char *kinds, const char *targets, const Candidate *at, GArray *candidates,
           GError **error)
{
  SqlStatement query = sql_query (conn, SQL_JOB_FREE_LIST);
  gboolean row = FALSE, ok;
  sql_bind_int (&query, ":due", at->due_us);
  sql_bind_int (&query, ":after", at->id);
  sql_bind_text (&query, ":kinds", kinds);
  sql_bind_text (&query, ":targets", targets);
  sql_bind_int (&query, ":limit", CANDIDATES);
  g_array_set_size (candidates, 0);
  while ((ok = sql_step (&query, &row, error)) && row)
    {
      Candidate candidate = { sql_int (&query, 0), sql_int (&query, 1), sql_int (&query, 2) };
      g_array_append_val (candidates, candidate);
    }
  return ok;
}

/* Adds the job to @taken when it is still free. */
static gboolean
take_one (SqlConn *conn, const Candidate *candidate, const GsJobOffer *offer, GPtrArray *taken, GError **error)
{
  SqlStatement query;
  guint8 key[8];
  gboolean locked;
  repository_key ((guint64) candidate->repository_id, key);
  if (!sql_try_lock (conn, "jobs", key, sizeof key, &locked, error))
    return FALSE;
  if (!locked)
    return TRUE;
  query = sql_query (conn, SQL_JOB_TAKE);
  sql_bind_int (&query, ":id", candidate->id);
  sql_bind_text (&query, ":worker", offer->worker);
  sql_bind_int (&query, ":lease", offer->lease_us);
  return gather (&query, taken, error);
}

static gboolean
take_any (SqlConn *conn, const GsJobOffer *offer, const char *kinds, const char *targets, GPtrArray *taken,
          GError **error)
{
  g_autoptr (GArray) candidates = g_array_new (FALSE, FALSE, sizeof (Candidate));
  Candidate at = { 0, 0, G_MININT64 };
  do
    {
      if (!list_free (conn, kinds, targets, &at, candidates, error))
        return FALSE;
      for (guint i = 0; i < candidates->len; i++)
        {
          at = g_array_index (candidates, Candidate, i);
          if (!take_one (conn, &at, offer, taken, error))
            return FALSE;
          if (taken->len > 0)
            return sql_commit (conn, error);
        }
    }
  while (candidates->len == CANDIDATES);
  return TRUE;
}

gboolean
sql_job_take (gpointer self, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) taken = g_ptr_array_new_with_free_func (held_free);
  g_autofree char *kinds = NULL, *targets = NULL;
  SqlConn *conn;
  gboolean ok;
  if (!sql_name_check ("worker", offer->worker, error) || !sql_lease_check (offer->lease_us, error)
      || (kinds = choice (offer->kinds, error)) == NULL || (targets = choice (offer->targets, error)) == NULL)
    return FALSE;
  conn = sql_take_writer (self, call, "taking a job", error);
  if (conn == NULL)
    return FALSE;
  ok = take_any (conn, offer, kinds, targets, taken, error);
  sql_give (conn);
  if (ok && taken->len > 0)
    visit (&((Held *) taken->pdata[0])->row, user);
  return ok;
}

/* ----------------------------------------------------------------------------------- renewing, ending */

typedef struct
{
  guint64 repository_id;
  char *kind, *target;
  GsJobState state;
  gint64 token, left_us;
} Job;

static void
job_clear (Job *job)
{
  g_free (job->kind);
  g_free (job->target);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Job, job_clear)

/* The job of that token, which runs, with its repository locked. ABORTED when it is another's. */
static gboolean
find_running (SqlConn *conn, guint64 id, guint64 token, Job *ret_job, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_JOB_KEY);
  gboolean row;
  sql_bind_int (&query, ":id", (gint64) MIN (id, (guint64) G_MAXINT64));
  if (!sql_step (&query, &row, error))
    return FALSE;
  if (!row)
    return sql_job_lost (id, error);
  ret_job->repository_id = (guint64) sql_int (&query, 0);
  ret_job->kind = g_strdup (sql_text (&query, 1));
  ret_job->target = g_strdup (sql_text (&query, 2));
  sql_done (&query);
  if (!lock_repository (conn, ret_job->repository_id, error))
    return FALSE;
  query = sql_query (conn, SQL_JOB_STATE);
  sql_bind_int (&query, ":id", (gint64) id);
  if (!sql_step (&query, &row, error))
    return FALSE;
  if (!row)
    return sql_job_lost (id, error);
  ret_job->state = (GsJobState) sql_int (&query, 0);
  ret_job->token = sql_int (&query, 1);
  ret_job->left_us = sql_int (&query, 2);
  sql_done (&query);
  if (ret_job->state != GS_JOB_RUNNING || (guint64) ret_job->token != token)
    return sql_job_lost (id, error);
  return TRUE;
}

gboolean
sql_job_renew (gpointer self, GsCall *call, guint64 id, guint64 token, gint64 lease_us, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Job) job = { 0 };
  SqlStatement query;
  if (!sql_lease_check (lease_us, error))
    return FALSE;
  conn = sql_take_writer (self, call, "renewing a job's lease", error);
  if (conn == NULL || !find_running (conn, id, token, &job, error))
    return FALSE;
  if (job.left_us < 0)
    return sql_job_lost (id, error);
  query = sql_query (conn, SQL_JOB_RENEW);
  sql_bind_int (&query, ":id", (gint64) id);
  sql_bind_int (&query, ":lease", lease_us);
  return sql_run (&query, error) && sql_commit (conn, error);
}

gboolean
sql_job_end (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us,
             GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Job) job = { 0 };
  g_autofree char *text = sql_failure_text (failure != NULL ? failure : "");
  gboolean again = failure != NULL && retry_us >= 0;
  SqlStatement query;
  gint64 same = 0;
  conn = sql_take_writer (self, call, "ending a job", error);
  if (conn == NULL || !find_running (conn, id, token, &job, error))
    return FALSE;
  if (again && !find_queued (conn, job.kind, job.repository_id, job.target, &same, error))
    return FALSE;
  again = again && same == 0;
  query = sql_query (conn, again ? SQL_JOB_AGAIN : SQL_JOB_FINISH);
  sql_bind_int (&query, ":id", (gint64) id);
  sql_bind_text (&query, ":error", text);
  if (again)
    sql_bind_int (&query, ":delay", MIN (retry_us, 365 * 24 * 3600 * (gint64) G_USEC_PER_SEC));
  else
    sql_bind_int (&query, ":state", failure == NULL ? GS_JOB_DONE : GS_JOB_FAILED);
  return sql_run (&query, error) && sql_hint (conn, error) && sql_commit (conn, error);
}

/* ---------------------------------------------------------------------------------- listing, pruning */

gboolean
sql_job_list (gpointer self, GsCall *call, const GsJobFilter *filter, guint64 after, gsize limit, GsJobRowVisit visit,
              gpointer user, GError **error)
{
  static const GsJobFilter all = { sizeof all, 0, 0, NULL, NULL };
  g_autoptr (GPtrArray) jobs = g_ptr_array_new_with_free_func (held_free);
  g_autoptr (GString) states = g_string_new (NULL);
  SqlConn *conn = sql_take_reader (self, call, "listing jobs", error);
  SqlStatement query;
  gboolean ok;
  if (conn == NULL)
    return FALSE;
  if (filter == NULL)
    filter = &all;
  for (int state = GS_JOB_QUEUED; state <= GS_JOB_FAILED; state++)
    if (filter->states & (1u << state))
      g_string_append_printf (states, "%d", state);
  query = sql_query (conn, SQL_JOB_LIST);
  sql_bind_int (&query, ":after", (gint64) MIN (after, (guint64) G_MAXINT64));
  sql_bind_int (&query, ":repository_id", (gint64) MIN (filter->repository_id, (guint64) G_MAXINT64));
  sql_bind_text (&query, ":states", states->str);
  sql_bind_int (&query, ":any_kind", filter->kind == NULL);
  sql_bind_text (&query, ":kind", filter->kind != NULL ? filter->kind : "");
  sql_bind_int (&query, ":any_target", filter->target == NULL);
  sql_bind_text (&query, ":target", filter->target != NULL ? filter->target : "");
  sql_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT64));
  ok = gather (&query, jobs, error);
  sql_give (conn);
  for (guint i = 0; ok && i < jobs->len; i++)
    if (!visit (&((Held *) jobs->pdata[i])->row, user))
      break;
  return ok;
}

gboolean
sql_job_prune (gpointer self, GsCall *call, gint64 age_us, gsize limit, guint *ret_n, GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "pruning ended jobs", error);
  SqlStatement query;
  gboolean row = FALSE, ok;
  guint n = 0;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_JOB_PRUNE);
  sql_bind_int (&query, ":age", MAX (age_us, 0));
  sql_bind_int (&query, ":limit", (gint64) MIN (limit, (gsize) G_MAXINT));
  while ((ok = sql_step (&query, &row, error)) && row)
    n++;
  if (!ok || !sql_commit (conn, error))
    return FALSE;
  *ret_n = n;
  return TRUE;
}
