/* SPDX-License-Identifier: Apache-2.0 */
/* Leases of jobs: renewed several at once, and a job whose lease cannot be renewed in time is stopped before others take it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/care.h"
#include "router/repair.h"
#include "router/settle.h"

#include <gitstead/thread.h>
#include <poll.h>

#define PATIENCE_US (60 * G_USEC_PER_SEC)
#define LEASE_US (3 * G_USEC_PER_SEC)
#define WORKERS 6u

/* What the store and the jobs do. */
typedef struct
{
  GsMutex lock;
  GsCond changed;
  guint n_jobs;       /* to be given out */
  guint n_running, n_stopped;
  guint n_renewing, most_renewing;
  guint n_renewed;
  gboolean deaf;      /* the store: no renewal comes through */
  gboolean together;  /* it answers a renewal when another one has come, too */
  gboolean finish;    /* the jobs: are done */
} Stage;

static Stage stage;

/* ---------------------------------------------------------------------------- around the repairer */

static GsStorageOps no_storage_ops;
static GsiStorage storage = { .name = (char *) "one", .ops = &no_storage_ops };
static const GsiStorage *const storages[] = { &storage };
static const GsiStorageGroup *const groups[] = { NULL };
static GsiRouterConfig config;

const GsiRouterConfig *
gsi_router_config (GsiRouter *router)
{
  return &config;
}

GsNodeView
gsi_router_view (const GsiStorage *which)
{
  return (GsNodeView){ .size = sizeof (GsNodeView), .healthy = TRUE };
}

void
gsi_own_call_init (GsCall *ret_call, GsIdentity *ret_identity, const char *doing)
{
  *ret_identity = (GsIdentity){ sizeof *ret_identity, doing, GS_SCOPE_ADMIN, "" };
  *ret_call = (GsCall){ .size = sizeof *ret_call, .deadline_us = G_MAXINT64, .identity = ret_identity, .peer = "" };
}

void
gsi_care_round (GsiRouter *router, GsCall *call, const char *who)
{
}

void
gsi_care_came_back (GsiRouter *router, GsCall *call, const char *name, gint64 since_wall_us)
{
}

gboolean
gsi_job_verify (GsiJob *job, GError **error)
{
  struct pollfd stop = { job->stop_fd, POLLIN, 0 };
  gboolean finish = FALSE;
  gs_mutex_lock (&stage.lock);
  stage.n_running++;
  gs_cond_broadcast (&stage.changed);
  gs_mutex_unlock (&stage.lock);
  while (!finish && !gs_call_cancelled (&job->call))
    {
      poll (&stop, 1, 20);
      gs_mutex_lock (&stage.lock);
      finish = stage.finish;
      gs_mutex_unlock (&stage.lock);
    }
  gs_mutex_lock (&stage.lock);
  stage.n_running--;
  stage.n_stopped += !finish;
  gs_cond_broadcast (&stage.changed);
  gs_mutex_unlock (&stage.lock);
  return finish || gs_fail (error, GS_ERROR_CANCELLED, "stopped");
}

gboolean
gsi_job_repair (GsiJob *job, GError **error)
{
  return FALSE;
}

gboolean
gsi_job_scrub (GsiJob *job, GError **error)
{
  return FALSE;
}

gboolean
gsi_job_remove (GsiJob *job, GError **error)
{
  return FALSE;
}

/* -------------------------------------------------------------------------------------- the store */

static gboolean
job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  return TRUE;
}

static gboolean
job_take (gpointer self, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit, gpointer user, GError **error)
{
  gs_mutex_lock (&stage.lock);
  const guint id = stage.n_jobs > 0 ? stage.n_jobs-- : 0;
  gs_mutex_unlock (&stage.lock);
  const GsJobRow row = { .size = sizeof row, .id = id, .token = 1, .kind = GSI_JOB_VERIFY, .repository_id = id,
                         .target = "one", .source = "", .reason = "" };
  if (id != 0)
    visit (&row, user);
  return TRUE;
}

static gboolean
job_renew (gpointer self, GsCall *call, guint64 id, guint64 token, gint64 lease_us, GError **error)
{
  gboolean in_time = TRUE;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stage.lock);
  stage.n_renewing++;
  stage.most_renewing = MAX (stage.most_renewing, stage.n_renewing);
  gs_cond_broadcast (&stage.changed);
  while (in_time && (stage.deaf || (stage.together && stage.most_renewing < 2)))
    in_time = gs_cond_wait_until (&stage.changed, &stage.lock, call->deadline_us);
  stage.n_renewing--;
  if (stage.deaf)
    return gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "the store does not answer");
  stage.n_renewed++;
  gs_cond_broadcast (&stage.changed);
  return TRUE;
}

static gboolean
job_end (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us, GError **error)
{
  return TRUE;
}

static const GsMetadataOps store
    = { .job_add = job_add, .job_take = job_take, .job_renew = job_renew, .job_end = job_end };

/* ------------------------------------------------------------------------------------------ tests */

static GsiRouter *
hold_router (gpointer user, GsiWiring **ret_wiring)
{
  *ret_wiring = NULL;
  return NULL;
}

static GsMetric *
metric (const GsHost *host, guint32 type, const char *name, const char *help, const char *labels)
{
  return NULL;
}

static void
metric_update (GsMetric *which, double n)
{
}

static void
log_nothing (const GsHost *host, GsLogLevel level, const char *event, const GsField *fields, gsize n)
{
}

static gint64
wall_us (const GsHost *host)
{
  return g_get_real_time ();
}

static const GsHost host
    = { .size = sizeof host, .metric = metric, .metric_update = metric_update, .log = log_nothing, .wall_us = wall_us };

static GsiRepairer *
begin (void)
{
  const GsiRepairerConfig wanted = { .host = &host, .n_workers = WORKERS, .lease_us = LEASE_US, .hold = hold_router };
  memset (&stage, 0, sizeof stage);
  gs_mutex_init (&stage.lock);
  gs_cond_init (&stage.changed);
  stage.n_jobs = WORKERS;
  config = (GsiRouterConfig){ .host = &host, .metadata = &store, .n_storages = 1, .storages = (gpointer) storages,
                              .n_virtual_storages = 1, .virtual_storages = (gpointer) groups,
                              .care = { .round_every_us = G_MAXINT64 / 2 } };
  return gsi_repairer_new (&wanted);
}

static void
end (GsiRepairer *repairer)
{
  gsi_repairer_stop (repairer);
  gsi_repairer_free (repairer);
  assert_int_equal (stage.n_running, 0);
  assert_int_equal (stage.n_renewing, 0);
  gs_cond_clear (&stage.changed);
  gs_mutex_clear (&stage.lock);
}

static void
wait_until (const guint *number, guint least)
{
  const gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  gboolean in_time = TRUE;
  gs_mutex_lock (&stage.lock);
  while (*number < least && in_time)
    in_time = gs_cond_wait_until (&stage.changed, &stage.lock, until_us);
  const guint found = *number;
  gs_mutex_unlock (&stage.lock);
  assert_true (found >= least);
}

/* A renewal that takes long holds up no other one. */
static void
test_several_at_once (void **state)
{
  GsiRepairer *repairer = begin ();
  stage.together = TRUE;
  gsi_repairer_start (repairer);
  wait_until (&stage.most_renewing, 2);
  wait_until (&stage.n_renewed, WORKERS);
  gs_mutex_lock (&stage.lock);
  stage.finish = TRUE;
  gs_mutex_unlock (&stage.lock);
  end (repairer);
}

/* A store that does not answer: all of them stop, and do not wait for one another. */
static void
test_none_comes_through (void **state)
{
  GsiRepairer *repairer = begin ();
  stage.deaf = TRUE;
  gsi_repairer_start (repairer);
  wait_until (&stage.n_stopped, WORKERS);
  end (repairer);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_several_at_once),
    cmocka_unit_test (test_none_comes_through),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
