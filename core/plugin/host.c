/* SPDX-License-Identifier: Apache-2.0 */
/* What stands behind GsHost. See host.h. */
#include "plugin/host.h"

#include "base/clock.h"
#include <gitstead/thread.h>

#include <string.h>

/* Work that an instance handed over, directly or with a timer. */
typedef struct
{
  GsiHost *host;
  void (*work) (gpointer user);
  gpointer user;
  gint64 timer; /* 0 when there is none */
} Work;

struct GsiHost
{
  GsHost pub;
  GsiHostSetup setup;
  char *instance;
  GsiHostNeed need;
  gpointer user;

  GsMutex lock; /* of all below; the pool's and the timers' locks are below it */
  GsCond idle;
  guint n_work; /* queued, running, or waiting for its time */
  guint n_calls; /* begun and not ended */
  gboolean closed;
  GHashTable *timers; /* &Work.timer -> Work */
};

static GsiHost *
of (const GsHost *host)
{
  return host->priv;
}

static void
host_log (const GsHost *host, GsLogLevel level, const char *event, const GsField *fields, gsize n_fields)
{
  gsi_log_write (of (host)->setup.log, level, of (host)->instance, event, fields, n_fields);
}

static gboolean
host_log_enabled (const GsHost *host, GsLogLevel level)
{
  return gsi_log_enabled (of (host)->setup.log, level, NULL);
}

static gint64
host_now_us (const GsHost *host)
{
  return gsi_clock_now_us ();
}

static gint64
host_wall_us (const GsHost *host)
{
  return gsi_clock_wall_us ();
}

static void
host_random (const GsHost *host, gpointer buffer, gsize len)
{
  gsi_random (buffer, len);
}

/* --------------------------------------------------------------------------------- work and timers */

/* Under the lock. */
static void
work_gone (GsiHost *host, Work *work)
{
  if (work->timer != 0)
    g_hash_table_remove (host->timers, &work->timer);
  g_free (work);
  if (--host->n_work == 0)
    gs_cond_broadcast (&host->idle);
}

static void
run_work (gpointer data)
{
  Work *work = data;
  GsiHost *host = work->host;

  work->work (work->user);
  gs_mutex_lock (&host->lock);
  work_gone (host, work);
  gs_mutex_unlock (&host->lock);
}

static Work *
work_new (GsiHost *host, void (*function) (gpointer user), gpointer user)
{
  Work *work = g_new0 (Work, 1);
  work->host = host;
  work->work = function;
  work->user = user;
  host->n_work++;
  return work;
}

static gboolean
host_submit (const GsHost *pub, void (*function) (gpointer user), gpointer user, GError **error)
{
  GsiHost *host = of (pub);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&host->lock);
  Work *work;

  if (host->closed)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s has been stopped and can start no work any more", host->instance);
  work = work_new (host, function, user);
  if (gsi_pool_submit (host->setup.pool, run_work, work, error))
    return TRUE;
  work_gone (host, work);
  return FALSE;
}

static guint64
host_timer (const GsHost *pub, gint64 delay_us, void (*function) (gpointer user), gpointer user)
{
  GsiHost *host = of (pub);
  /* Held across the call, so that the work, should it be due at once, finds itself in the table. */
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&host->lock);
  Work *work;
  guint64 timer;

  if (host->closed)
    return 0;
  work = work_new (host, function, user);
  timer = gsi_timer_add (host->setup.timers, delay_us, run_work, work);
  if (timer == 0)
    {
      work_gone (host, work);
      return 0;
    }
  work->timer = (gint64) timer;
  g_hash_table_insert (host->timers, &work->timer, work);
  return timer;
}

static gboolean
host_timer_cancel (const GsHost *pub, guint64 timer)
{
  GsiHost *host = of (pub);
  gint64 key = (gint64) timer;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&host->lock);
  Work *work = g_hash_table_lookup (host->timers, &key);

  if (work == NULL || !gsi_timer_cancel (host->setup.timers, timer))
    return FALSE;
  work_gone (host, work);
  return TRUE;
}

void
gsi_host_quiesce (GsiHost *host)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&host->lock);
  GHashTableIter iter;
  gpointer value;

  host->closed = TRUE;
  g_hash_table_iter_init (&iter, host->timers);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Work *work = value;
      if (!gsi_timer_cancel (host->setup.timers, (guint64) work->timer))
        continue;
      g_hash_table_iter_remove (&iter);
      work->timer = 0;
      work_gone (host, work);
    }
  while (host->n_work > 0 || host->n_calls > 0)
    gs_cond_wait (&host->idle, &host->lock);
}

/* ------------------------------------------------------------------------------ metrics and needs */

/* Every plugin's series begin with gitstead_ and say whose they are. */
static GsMetric *
host_metric (const GsHost *pub, guint32 type, const char *name, const char *help, const char *labels)
{
  GsiHost *host = of (pub);
  g_autofree char *full = g_strconcat (g_str_has_prefix (name, "gitstead_") ? "" : "gitstead_", name, NULL);
  g_autofree char *all = g_strdup_printf ("instance=\"%s\"%s%s", host->instance,
                                          labels != NULL && labels[0] != '\0' ? "," : "", labels != NULL ? labels : "");
  return gsi_metrics_get (host->setup.metrics, type, full, help, all);
}

static gboolean
host_need (const GsHost *pub, const char *role, GsInstance *ret_instance)
{
  GsiHost *host = of (pub);
  return host->need (host->user, role, ret_instance);
}

/* -------------------------------------------------------------------------------- calls, for transports */

static gboolean
host_method (const GsHost *pub, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  const GsiHostServices *services = &of (pub)->setup.services;
  return services->method != NULL && services->method (services->user, number, name, ret_info);
}

/* A call that is counted until its done function has returned. */
typedef struct
{
  GsiHost *host;
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer user;
} Counted;

static void
counted_done (gpointer user, const GsOutcome *outcome)
{
  Counted *counted = user;
  GsiHost *host = counted->host;
  counted->done (counted->user, outcome);
  g_free (counted);
  gs_mutex_lock (&host->lock);
  if (--host->n_calls == 0)
    gs_cond_broadcast (&host->idle);
  gs_mutex_unlock (&host->lock);
}

static GsCallHandle
begin_counted (GsiHost *host, const GsInbound *inbound)
{
  const GsiHostServices *services = &host->setup.services;
  Counted *counted = g_new (Counted, 1);
  GsInbound own = *inbound;
  *counted = (Counted) { host, inbound->done, inbound->user };
  own.done = counted_done;
  own.user = counted;
  gs_mutex_lock (&host->lock);
  host->n_calls++;
  gs_mutex_unlock (&host->lock);
  return services->call_begin (services->user, host->instance, &own);
}

static GsCallHandle
host_call_begin (const GsHost *pub, const GsInbound *inbound)
{
  const GsiHostServices *services = &of (pub)->setup.services;
  const GsOutcome outcome = { .size = sizeof outcome,
                              .code = GS_ERROR_UNAVAILABLE,
                              .retry = GS_RETRY_SAME,
                              .message = "This process takes no calls" };

  if (services->call_begin != NULL)
    return begin_counted (of (pub), inbound);
  inbound->done (inbound->user, &outcome);
  return 0;
}

static void
host_call_cancel (const GsHost *pub, GsCallHandle call)
{
  const GsiHostServices *services = &of (pub)->setup.services;
  if (services->call_cancel != NULL)
    services->call_cancel (services->user, call);
}

static void
host_call_ready (const GsHost *pub, GsCallHandle call)
{
  const GsiHostServices *services = &of (pub)->setup.services;
  if (services->call_ready != NULL)
    services->call_ready (services->user, call);
}

static GBytes *
host_page (const GsHost *pub, const char *page, gboolean *ret_ok)
{
  const GsiHostServices *services = &of (pub)->setup.services;

  if (services->page != NULL)
    return services->page (services->user, page, ret_ok);
  *ret_ok = FALSE;
  return g_bytes_new_static ("", 0);
}

/* -------------------------------------------------------------------------------------------- life */

GsiHost *
gsi_host_new (const GsiHostSetup *setup, const char *instance, GsiHostNeed need, gpointer user)
{
  GsiHost *host = g_new0 (GsiHost, 1);

  host->setup = *setup;
  host->instance = g_strdup (instance);
  host->need = need;
  host->user = user;
  host->timers = g_hash_table_new (g_int64_hash, g_int64_equal);
  gs_mutex_init (&host->lock);
  gs_cond_init (&host->idle);
  host->pub = (GsHost){ .size = sizeof (GsHost),
                        .priv = host,
                        .instance = host->instance,
                        .log = host_log,
                        .log_enabled = host_log_enabled,
                        .now_us = host_now_us,
                        .wall_us = host_wall_us,
                        .random = host_random,
                        .submit = host_submit,
                        .timer = host_timer,
                        .timer_cancel = host_timer_cancel,
                        .metric = host_metric,
                        .metric_update = gsi_metric_update,
                        .need = host_need,
                        .method = host_method,
                        .call_begin = host_call_begin,
                        .call_cancel = host_call_cancel,
                        .call_ready = host_call_ready,
                        .page = host_page };
  return host;
}

const GsHost *
gsi_host_get (const GsiHost *host)
{
  return &host->pub;
}

GsiLog *
gsi_host_log (const GsiHost *host)
{
  return host->setup.log;
}

guint
gsi_host_calls (GsiHost *host)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&host->lock);
  return host->n_calls;
}

gboolean
gsi_host_takes_calls (const GsiHost *host)
{
  const GsiHostServices *services = &host->setup.services;
  return services->method != NULL && services->call_begin != NULL && services->call_cancel != NULL
         && services->call_ready != NULL && services->page != NULL;
}

void
gsi_host_free (GsiHost *host)
{
  if (host == NULL)
    return;
  gsi_host_quiesce (host);
  g_hash_table_unref (host->timers);
  gs_mutex_clear (&host->lock);
  gs_cond_clear (&host->idle);
  g_free (host->instance);
  g_free (host);
}
