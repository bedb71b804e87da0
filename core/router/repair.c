/* SPDX-License-Identifier: Apache-2.0 */
/* The workers: they take jobs, keep their leases, and record how they ended. See repair.h. */
#include "router/repair.h"

#include <gitstead/thread.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include "router/care.h"
#include "router/settle.h"

#define WORKERS_MAX 64
#define KEEPERS 4
#define IDLE_US (250 * 1000)
#define NODES_US (2 * G_USEC_PER_SEC) /* between looks at what the nodes' processes are */
#define RETRY_US (500 * 1000)
#define RETRY_SOON_US (5 * G_USEC_PER_SEC) /* at most, for what only others' work is in the way of */
#define RETRY_MAX_US (300 * G_USEC_PER_SEC)

struct GsiRepairer
{
  GsiRepairerConfig config;
  char *name; /* who has a job, for people */
  GsiPacer pacer;
  GsMetric *metrics[GSI_REPAIR_COUNTS];

  GsMutex lock;
  GsCond changed;
  gboolean stopping, polling;
  GPtrArray *running; /* of GsiJob */
  guint n_moving;     /* of these, or just taken */
  GsThread workers[WORKERS_MAX], keepers[KEEPERS], carer;
  guint n_started, n_keepers;
  guint n_renewing; /* jobs that are off @running, with a keeper */
  gboolean cares;
  GsiJob care;       /* what the carer calls with; no job of the queue */
  GHashTable *seen;  /* the carer's: storage -> Seen */
};

static int
job_cancel_fd (GsCall *call)
{
  return ((GsiJob *) call)->stop_fd;
}

static void
job_cancel (GsiJob *job)
{
  __atomic_store_n (&job->call.cancelled, 1, __ATOMIC_RELEASE);
  if (job->stop_fd >= 0)
    eventfd_write (job->stop_fd, 1);
}

GsiRepairer *
gsi_repairer_new (const GsiRepairerConfig *config)
{
  static const struct
  {
    const char *name, *help;
  } metrics[GSI_REPAIR_COUNTS] = {
    [GSI_REPAIR_DONE] = { "gitstead_repairs_total", "Replicas that were made current." },
    [GSI_REPAIR_FAILED] = { "gitstead_job_failures_total", "Attempts at queued jobs that failed and are made again." },
    [GSI_REPAIR_BYTES] = { "gitstead_repair_bytes_total", "Bytes copied between storages." },
    [GSI_REPAIR_DAMAGED] = { "gitstead_replicas_damaged_total", "Replicas that were found damaged." },
    [GSI_REPAIR_MOVED] = { "gitstead_moves_total", "Replicas that were moved to another storage." },
    [GSI_REPAIR_SCRUBBED] = { "gitstead_replicas_scrubbed_total", "Replicas that were read through and found whole." },
  };
  GsiRepairer *repairer = g_new0 (GsiRepairer, 1);
  repairer->config = *config;
  repairer->config.n_workers = MIN (config->n_workers, WORKERS_MAX);
  repairer->name = g_strdup_printf ("%s.%d", g_get_host_name (), (int) getpid ());
  gs_mutex_init (&repairer->lock);
  gs_mutex_init (&repairer->pacer.lock);
  gs_cond_init (&repairer->changed);
  repairer->running = g_ptr_array_new ();
  repairer->seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  gsi_own_call_init (&repairer->care.call, &repairer->care.identity, "care");
  repairer->care.call.cancel_fd = job_cancel_fd;
  repairer->care.stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (guint i = 0; i < GSI_REPAIR_COUNTS; i++)
    repairer->metrics[i]
        = config->host->metric (config->host, GS_METRIC_COUNTER, metrics[i].name, metrics[i].help, NULL);
  return repairer;
}

void
gsi_repairer_free (GsiRepairer *repairer)
{
  if (repairer == NULL)
    return;
  g_ptr_array_unref (repairer->running);
  g_hash_table_destroy (repairer->seen);
  if (repairer->care.stop_fd >= 0)
    close (repairer->care.stop_fd);
  gs_cond_clear (&repairer->changed);
  gs_mutex_clear (&repairer->pacer.lock);
  gs_mutex_clear (&repairer->lock);
  g_free (repairer->name);
  g_free (repairer);
}

GsiPacer *
gsi_repairer_pacer (GsiRepairer *repairer)
{
  return &repairer->pacer;
}

void
gsi_repairer_count (GsiRepairer *repairer, GsiRepairCount what, double n)
{
  repairer->config.host->metric_update (repairer->metrics[what], n);
}

gboolean
gsi_router_ask_job (GsiRouter *router, GsCall *call, const char *kind, guint64 repository_id, const char *storage,
                    const char *reason, gint64 after_us, guint64 *ret_id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const gboolean verify = strcmp (kind, GSI_JOB_VERIFY) == 0, scrub = strcmp (kind, GSI_JOB_SCRUB) == 0;
  GsJobRow job = { .size = sizeof job, .kind = kind, .repository_id = repository_id, .target = storage, .source = "",
                   .reason = reason,
                   /* Reading through may take hours, and a repair of another replica must not wait for it. */
                   .lane = scrub ? "scrub" : verify ? "verify" : "repair",
                   .due_wall_us = after_us };
  guint64 id;
  if (!config->metadata->job_add (config->metadata_self, call, &job, ret_id != NULL ? ret_id : &id, error))
    return FALSE;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- leases */

/* Who cannot renew for as long as the lease lasts has lost it. */
static void
keep_one (GsiRepairer *repairer, GsiJob *job)
{
  const GsiRouterConfig *config = job->config;
  gint64 lease_us = repairer->config.lease_us, began_us = g_get_monotonic_time ();
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  GsCall own;
  gsi_own_call_init (&own, &identity, "job lease");
  own.deadline_us = began_us + lease_us / 6;
  if (config->metadata->job_renew (config->metadata_self, &own, job->job_id, job->token, lease_us, &why))
    job->renew_us = began_us;
  else if (gs_error_code (why) == GS_ERROR_ABORTED)
    job_cancel (job);
}

/*
 * With the lock held. Ends what lost its lease, or is about to: others may take it then. The one whose lease was renewed
 * longest ago, taken off the list, if it is time; else NULL.
 */
static GsiJob *
take_oldest (GsiRepairer *repairer)
{
  const gint64 lease_us = repairer->config.lease_us, now_us = g_get_monotonic_time ();
  guint oldest = 0;
  for (guint i = 0; i < repairer->running->len; i++)
    {
      GsiJob *job = repairer->running->pdata[i];
      if (repairer->stopping || now_us - job->renew_us > lease_us * 2 / 3)
        job_cancel (job);
      if (job->renew_us < ((const GsiJob *) repairer->running->pdata[oldest])->renew_us)
        oldest = i;
    }
  if (repairer->running->len == 0
      || now_us - ((const GsiJob *) repairer->running->pdata[oldest])->renew_us < lease_us / 4)
    return NULL;
  return g_ptr_array_remove_index_fast (repairer->running, oldest);
}

/*
 * Several do this: a store that takes its time with one renewal does not keep the others waiting until their leases run out.
 * A job that is off the list is its keeper's for the moment; it cannot end meanwhile.
 */
static void *
keeper_run (void *user)
{
  GsiRepairer *repairer = user;
  const gint64 lease_us = repairer->config.lease_us;
  gs_mutex_lock (&repairer->lock);
  while (!repairer->stopping || repairer->running->len + repairer->n_renewing > 0)
    {
      GsiJob *job = take_oldest (repairer);
      if (job == NULL)
        {
          gs_cond_wait_until (&repairer->changed, &repairer->lock,
                              g_get_monotonic_time () + lease_us / (repairer->stopping ? 30 : 12));
          continue;
        }
      repairer->n_renewing++;
      gs_mutex_unlock (&repairer->lock);
      keep_one (repairer, job);
      gs_mutex_lock (&repairer->lock);
      repairer->n_renewing--;
      g_ptr_array_add (repairer->running, job);
      gs_cond_broadcast (&repairer->changed);
      /* Its renewal failed: not at once again, while others may be due. */
      if (g_get_monotonic_time () - job->renew_us >= lease_us / 4)
        gs_cond_wait_until (&repairer->changed, &repairer->lock, g_get_monotonic_time () + lease_us / 30);
    }
  gs_mutex_unlock (&repairer->lock);
  return NULL;
}

static void
job_begins (GsiRepairer *repairer, GsiJob *job)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repairer->lock);
  g_ptr_array_add (repairer->running, job);
  if (repairer->stopping)
    job_cancel (job);
}

/* Not while its lease is just being renewed. */
static void
job_ends (GsiRepairer *repairer, GsiJob *job)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repairer->lock);
  while (!g_ptr_array_remove (repairer->running, job))
    gs_cond_wait (&repairer->changed, &repairer->lock);
  gs_cond_broadcast (&repairer->changed);
}

/* --------------------------------------------------------------------------------------------- jobs */

static const struct
{
  const char *kind;
  gboolean (*run) (GsiJob *job, GError **error);
} kinds[] = {
  { GSI_JOB_REPAIR, gsi_job_repair },
  { GSI_JOB_VERIFY, gsi_job_verify },
  { GSI_JOB_SCRUB, gsi_job_scrub },
  { GSI_JOB_REMOVE, gsi_job_remove },
  { GSI_JOB_MOVE, gsi_job_move }, /* last: take_job () */
};

static gint64
retry_after (const GsiJob *job, const GError *why)
{
  gint64 delay_us = RETRY_US << MIN (job->attempts > 0 ? job->attempts - 1 : 0, 10);
  gboolean soon = why->code == GS_ERROR_BUSY || why->code == GS_ERROR_ABORTED || why->code == GS_ERROR_UNAVAILABLE;
  return MIN (delay_us, soon ? RETRY_SOON_US : RETRY_MAX_US);
}

static void
log_failed (GsiRepairer *repairer, const GsiJob *job, const GError *why, gint64 retry_us)
{
  const GsField fields[]
      = { GS_TEXT ("kind", job->kind),          GS_NUMBER ("repository", job->repository_id),
          GS_TEXT ("storage", job->target),     GS_NUMBER ("attempt", job->attempts),
          GS_NUMBER ("again_ms", retry_us < 0 ? -1 : retry_us / 1000), GS_TEXT ("error", why->message) };
  gsi_repairer_count (repairer, GSI_REPAIR_FAILED, 1);
  repairer->config.host->log (repairer->config.host, GS_LOG_WARNING, "job.failed", fields, G_N_ELEMENTS (fields));
}

static void
run_job (GsiRepairer *repairer, GsiJob *job)
{
  const GsiRouterConfig *config = job->config;
  g_autoptr (GError) why = NULL;
  gboolean done = FALSE;
  GsIdentity identity;
  gint64 retry_us = 0;
  GsCall own;

  job_begins (repairer, job);
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    if (strcmp (kinds[i].kind, job->kind) == 0)
      done = kinds[i].run (job, &why);
  job_ends (repairer, job);
  if (!done && why == NULL)
    gs_fail (&why, GS_ERROR_INTERNAL, "nobody here knows how to do this");
  if (!done && !gs_call_cancelled (&job->call))
    log_failed (repairer, job, why, retry_us = job->hopeless ? -1 : retry_after (job, why));
  gsi_own_call_init (&own, &identity, "job end");
  own.deadline_us = g_get_monotonic_time () + repairer->config.lease_us;
  /* Lost: its new holder records how it ends. Not reached: the lease runs out, and it is done again, which does no harm. */
  config->metadata->job_end (config->metadata_self, &own, job->job_id, job->token, done ? NULL : why->message, retry_us,
                             NULL);
}

static gboolean
take_visit (const GsJobRow *row, gpointer user)
{
  GsiJob *job = user;
  job->job_id = row->id;
  job->token = row->token;
  job->repository_id = row->repository_id;
  job->kind = g_strdup (row->kind);
  job->target = g_strdup (row->target);
  job->source = g_strdup (row->source);
  job->reason = g_strdup (row->reason);
  job->attempts = row->attempts;
  return FALSE;
}

/* A thousand moves must not keep a repair waiting: half of the workers stay free of them. */
static gboolean
may_move (GsiRepairer *repairer)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repairer->lock);
  return repairer->n_moving < MAX (repairer->config.n_workers / 2, 1);
}

static void
count_move (GsiRepairer *repairer, const GsiJob *job, gint n)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repairer->lock);
  if (strcmp (job->kind, GSI_JOB_MOVE) == 0)
    repairer->n_moving = (guint) ((gint) repairer->n_moving + n);
}

/*
 * Only for storages that are there: what waits for one that is away is due at once when it is back. Moves only when nothing
 * else is due.
 */
static gboolean
take_job (GsiRepairer *repairer, GsiJob *job, GError **error)
{
  const GsiRouterConfig *config = job->config;
  g_autoptr (GPtrArray) targets = g_ptr_array_new ();
  const char *names[G_N_ELEMENTS (kinds)] = { NULL }; /* without the last one */
  static const char *const moves[] = { GSI_JOB_MOVE, NULL };
  GsJobOffer offer = { .size = sizeof offer, .worker = repairer->name, .kinds = names,
                       .lease_us = repairer->config.lease_us };
  for (gsize i = 0; i + 1 < G_N_ELEMENTS (kinds); i++)
    names[i] = kinds[i].kind;
  for (gsize i = 0; i < config->n_storages; i++)
    if (gsi_router_view (config->storages[i]).healthy)
      g_ptr_array_add (targets, (gpointer) config->storages[i]->name);
  if (targets->len == 0)
    return TRUE;
  g_ptr_array_add (targets, NULL);
  offer.targets = (const char *const *) targets->pdata;
  job->renew_us = g_get_monotonic_time ();
  if (!config->metadata->job_take (config->metadata_self, &job->call, &offer, take_visit, job, error))
    return FALSE;
  if (job->kind != NULL || !may_move (repairer))
    return TRUE;
  offer.kinds = moves;
  job->renew_us = g_get_monotonic_time ();
  return config->metadata->job_take (config->metadata_self, &job->call, &offer, take_visit, job, error);
}

static void
nap (GsiRepairer *repairer, gint64 us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repairer->lock);
  if (!repairer->stopping)
    gs_cond_wait_until (&repairer->changed, &repairer->lock, g_get_monotonic_time () + us);
}

/* One look into the queue, and what was found. TRUE: there was something. */
static gboolean
work_once (GsiRepairer *repairer, gboolean *polling)
{
  GsiWiring *wiring;
  GsiRouter *router = repairer->config.hold (repairer->config.user, &wiring);
  GsiJob job = { .repairer = repairer, .router = router, .config = gsi_router_config (router) };
  gboolean found = FALSE;

  gsi_own_call_init (&job.call, &job.identity, "repair");
  job.call.cancel_fd = job_cancel_fd;
  job.stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (job.config->n_virtual_storages > 0 && job.config->metadata->job_take != NULL)
    {
      take_job (repairer, &job, NULL); /* a store that is away is asked again */
      found = job.kind != NULL;
    }
  if (found)
    {
      count_move (repairer, &job, 1);
      gs_mutex_lock (&repairer->lock);
      repairer->polling = *polling = FALSE;
      gs_cond_broadcast (&repairer->changed);
      gs_mutex_unlock (&repairer->lock);
      run_job (repairer, &job);
      count_move (repairer, &job, -1);
    }
  if (job.stop_fd >= 0)
    close (job.stop_fd);
  g_free (job.kind);
  g_free (job.target);
  g_free (job.source);
  g_free (job.reason);
  gsi_wiring_unref (wiring);
  return found;
}

/* One at a time looks; when it found something the next one does. */
static void *
worker_run (void *user)
{
  GsiRepairer *repairer = user;
  gboolean polling = FALSE, stopping = FALSE;
  while (!stopping)
    {
      gs_mutex_lock (&repairer->lock);
      while (!polling && repairer->polling && !repairer->stopping)
        gs_cond_wait (&repairer->changed, &repairer->lock);
      stopping = repairer->stopping;
      repairer->polling = polling = TRUE;
      gs_mutex_unlock (&repairer->lock);
      if (!stopping && !work_once (repairer, &polling))
        nap (repairer, IDLE_US);
    }
  return NULL;
}

/* --------------------------------------------------------------------------------------------- care */

/* What the last look at a storage found. */
typedef struct
{
  gboolean there;
  guint64 instance; /* of its node's process; 0 = not heard of yet */
  gboolean owed;    /* it came back, and not all that it holds was asked to be looked at yet */
  guint64 after;    /* what was, in order of the repositories' ids */
} Seen;

static Seen *
seen_of (GsiRepairer *repairer, const GsiStorage *storage)
{
  Seen *seen = g_hash_table_lookup (repairer->seen, storage->name);
  if (seen == NULL)
    {
      seen = g_new0 (Seen, 1);
      seen->there = gsi_router_view (storage).healthy;
      g_hash_table_insert (repairer->seen, g_strdup (storage->name), seen);
    }
  return seen;
}

static void
owe_look (Seen *seen)
{
  seen->owed = TRUE;
  seen->after = 0;
}

/* Which storages came back since the last look; TRUE: some did. The first look knows nothing of before. */
static gboolean
look_who_is_back (GsiRepairer *repairer, const GsiRouterConfig *config)
{
  gboolean any = FALSE;
  for (gsize i = 0; i < config->n_storages; i++)
    {
      Seen *seen = seen_of (repairer, config->storages[i]);
      gboolean there = gsi_router_view (config->storages[i]).healthy;
      if (there && !seen->there)
        {
          owe_look (seen);
          any = TRUE;
        }
      seen->there = there;
    }
  return any;
}

/* The rows of the nodes, in a table of storage -> instance. */
static gboolean
collect_instance (const GsNodeRow *row, gpointer user)
{
  guint64 *instance = g_new (guint64, 1);
  *instance = row->instance;
  g_hash_table_replace (user, g_strdup (row->storage), instance);
  return TRUE;
}

/*
 * A process that ended and began anew between two looks was never missed, and may have another disk than before: the store
 * knows. FALSE: it does not tell now.
 */
static gboolean
look_who_began_anew (GsiRepairer *repairer, const GsiRouterConfig *config)
{
  g_autoptr (GHashTable) instances = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  if (config->metadata->node_list == NULL)
    return TRUE;
  if (!config->metadata->node_list (config->metadata_self, &repairer->care.call, collect_instance, instances, NULL))
    return FALSE;
  for (gsize i = 0; i < config->n_storages; i++)
    {
      Seen *seen = seen_of (repairer, config->storages[i]);
      const guint64 *now = g_hash_table_lookup (instances, config->storages[i]->name), before = seen->instance;
      if (now == NULL || *now == before)
        continue;
      seen->instance = *now;
      if (before != 0)
        owe_look (seen);
    }
  return TRUE;
}

/* What the store does not take now is asked again with the next look. */
static void
ask_for_looks (GsiRepairer *repairer, GsiRouter *router)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  for (gsize i = 0; i < config->n_storages; i++)
    {
      Seen *seen = seen_of (repairer, config->storages[i]);
      if (seen->owed)
        seen->owed = !gsi_care_came_back (router, &repairer->care.call, config->storages[i]->name, &seen->after);
    }
}

/*
 * Which process a storage that came back has is learnt before its looks are queued: these are made with that one or a
 * later one, so another one that is found later owes looks of its own, however soon it followed. @nodes_us is when the
 * store was asked last.
 */
static void
look_at_storages (GsiRepairer *repairer, GsiRouter *router, gint64 now_us, gint64 *nodes_us)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const gboolean back = look_who_is_back (repairer, config);
  if ((back || *nodes_us == 0 || now_us - *nodes_us >= NODES_US) && look_who_began_anew (repairer, config))
    *nodes_us = now_us;
  ask_for_looks (repairer, router);
}

static void *
carer_run (void *user)
{
  GsiRepairer *repairer = user;
  gint64 last_us = 0, nodes_us = 0;
  while (!gs_call_cancelled (&repairer->care.call))
    {
      GsiWiring *wiring;
      GsiRouter *router = repairer->config.hold (repairer->config.user, &wiring);
      const GsiRouterConfig *config = gsi_router_config (router);
      gint64 now_us = g_get_monotonic_time ();
      if (config->n_virtual_storages > 0 && config->metadata->job_add != NULL)
        {
          look_at_storages (repairer, router, now_us, &nodes_us);
          if (last_us != 0 && now_us - last_us >= config->care.round_every_us)
            gsi_care_round (router, &repairer->care.call, repairer->name);
        }
      /* The first round waits too: nodes may be on their way up as this process is. */
      if (last_us == 0 || now_us - last_us >= config->care.round_every_us)
        last_us = now_us;
      gsi_wiring_unref (wiring);
      nap (repairer, IDLE_US);
    }
  return NULL;
}

void
gsi_repairer_start (GsiRepairer *repairer)
{
  if (repairer->config.n_workers == 0)
    return;
  repairer->cares = gs_thread_start (&repairer->carer, "care", carer_run, repairer) == 0;
  while (repairer->n_keepers < MIN (KEEPERS, repairer->config.n_workers)
         && gs_thread_start (&repairer->keepers[repairer->n_keepers], "job-leases", keeper_run, repairer) == 0)
    repairer->n_keepers++;
  while (repairer->n_keepers > 0 && repairer->n_started < repairer->config.n_workers
         && gs_thread_start (&repairer->workers[repairer->n_started], "repair", worker_run, repairer) == 0)
    repairer->n_started++;
  if (repairer->n_started < repairer->config.n_workers)
    repairer->config.host->log (repairer->config.host, GS_LOG_ERROR, "repair.workers.missing",
                                (GsField[]) { GS_NUMBER ("started", repairer->n_started),
                                              GS_NUMBER ("wanted", repairer->config.n_workers) },
                                2);
}

void
gsi_repairer_stop (GsiRepairer *repairer)
{
  gs_mutex_lock (&repairer->lock);
  repairer->stopping = TRUE;
  job_cancel (&repairer->care);
  for (guint i = 0; i < repairer->running->len; i++)
    job_cancel (repairer->running->pdata[i]);
  gs_cond_broadcast (&repairer->changed);
  gs_mutex_unlock (&repairer->lock);
  for (guint i = 0; i < repairer->n_started; i++)
    gs_thread_join (repairer->workers[i]);
  for (guint i = 0; i < repairer->n_keepers; i++)
    gs_thread_join (repairer->keepers[i]);
  if (repairer->cares)
    gs_thread_join (repairer->carer);
  repairer->n_started = repairer->n_keepers = 0;
  repairer->cares = FALSE;
}
