/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases of jobs: renewed several at once, and a job whose lease cannot be renewed in time is stopped before others
 * take it. And which nodes the process that has these workers finds to have come back.
 */
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
  guint64 instance;   /* of the node's process, as the store has it; 0 = of none */
  guint n_asked, n_back; /* for that; how often the node was taken for one that came back */
  gboolean mute;      /* the store: does not tell of processes */
  gboolean full;      /* nor does it take jobs: one each time */
  guint64 expect_after; /* how many it took */
  gboolean away;      /* the node */
  guint n_missed;     /* how often it was found away */
  gboolean hasty;     /* it begins anew as soon as it was taken for one that came back */
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
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stage.lock);
  stage.n_missed += stage.away;
  gs_cond_broadcast (&stage.changed);
  return (GsNodeView){ .size = sizeof (GsNodeView), .healthy = !stage.away };
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

gboolean
gsi_care_came_back (GsiRouter *router, GsCall *call, const char *name, guint64 *after)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stage.lock);
  assert_string_equal (name, "one");
  assert_int_equal (*after, stage.expect_after);
  stage.n_back++;
  *after = stage.expect_after = stage.full ? stage.expect_after + 1 : 0;
  stage.instance += stage.hasty;
  stage.hasty = FALSE;
  gs_cond_broadcast (&stage.changed);
  return !stage.full;
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
gsi_job_move (GsiJob *job, GError **error)
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

static gboolean
node_list (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error)
{
  gs_mutex_lock (&stage.lock);
  const GsNodeRow row = { .size = sizeof row, .storage = "one", .instance = stage.instance, .address = "", .zone = "" };
  const gboolean mute = stage.mute;
  stage.n_asked++;
  gs_cond_broadcast (&stage.changed);
  gs_mutex_unlock (&stage.lock);
  if (mute)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the store does not answer");
  if (row.instance != 0)
    visit (&row, user);
  return TRUE;
}

static const GsMetadataOps store = {
  .job_add = job_add, .job_take = job_take, .job_renew = job_renew, .job_end = job_end, .node_list = node_list
};

/* Nobody works: only who is back is looked at. */
static const GsMetadataOps idle_store = { .job_add = job_add, .node_list = node_list };

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

/* A node that ended and began anew was there at each look; the store knows another process. */
static void
test_a_process_that_began_anew (void **state)
{
  GsiRepairer *repairer = begin ();
  stage.n_jobs = 0;
  stage.instance = 7;
  gsi_repairer_start (repairer);
  wait_until (&stage.n_asked, 2);
  gs_mutex_lock (&stage.lock);
  assert_int_equal (stage.n_back, 0);
  stage.instance = 8;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_back, 1);
  gs_mutex_lock (&stage.lock);
  stage.n_asked = 0;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_asked, 2);
  assert_int_equal (stage.n_back, 1);
  end (repairer);
}

/* The store is asked twice more, and so are the looks. */
static void
let_it_look (void)
{
  gs_mutex_lock (&stage.lock);
  stage.n_asked = 0;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_asked, 2);
}

static void
go_away (void)
{
  gs_mutex_lock (&stage.lock);
  stage.n_missed = 0;
  stage.away = TRUE;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_missed, 1);
}

static void
come_back (guint64 instance, gboolean hasty)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stage.lock);
  stage.away = FALSE;
  stage.instance = instance;
  stage.hasty = hasty;
}

/*
 * A node that was missed and began anew is looked through; when it begins anew once more at once, and nobody missed it,
 * again. Not for ever. It may be found by the store first and then by its answers: that makes two looks of one return.
 */
static void
test_two_returns_in_a_row (void **state)
{
  GsiRepairer *repairer = begin ();
  guint before;
  config.metadata = &idle_store;
  stage.instance = 7;
  gsi_repairer_start (repairer);
  wait_until (&stage.n_asked, 1);
  go_away ();
  come_back (8, FALSE);
  wait_until (&stage.n_back, 1);
  go_away ();
  gs_mutex_lock (&stage.lock);
  before = stage.n_back;
  gs_mutex_unlock (&stage.lock);
  come_back (9, TRUE);
  wait_until (&stage.n_back, before + 2);
  let_it_look ();
  assert_in_range (before, 1, 2);
  assert_int_equal (stage.n_back, before + 2);
  end (repairer);
}

/* A store that cannot tell, or takes nothing, when a node comes back is asked until it does. */
static void
test_back_while_the_store_is_away (void **state)
{
  GsiRepairer *repairer = begin ();
  config.metadata = &idle_store;
  stage.instance = 7;
  gsi_repairer_start (repairer);
  wait_until (&stage.n_asked, 1);
  go_away ();
  gs_mutex_lock (&stage.lock);
  stage.mute = stage.full = TRUE;
  gs_mutex_unlock (&stage.lock);
  come_back (7, FALSE);
  wait_until (&stage.n_back, 3);
  gs_mutex_lock (&stage.lock);
  stage.full = FALSE;
  stage.n_back = 0;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_back, 1);
  let_it_look ();
  assert_int_equal (stage.n_back, 1);
  gs_mutex_lock (&stage.lock);
  stage.mute = FALSE;
  stage.instance = 8;
  gs_mutex_unlock (&stage.lock);
  wait_until (&stage.n_back, 2);
  end (repairer);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_several_at_once),
    cmocka_unit_test (test_none_comes_through),
    cmocka_unit_test (test_a_process_that_began_anew),
    cmocka_unit_test (test_two_returns_in_a_row),
    cmocka_unit_test (test_back_while_the_store_is_away),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
