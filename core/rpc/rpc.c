/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch as transports and the program see it: wiring, begin, cancel, the watchdog, the end. See rpc.h. */
#include "base/clock.h"
#include "private.h"

#include <wire/details.h>

/* The watchdog also drops kept outcomes; nobody notices when that is a little late. */
#define SWEEP_US (10 * G_USEC_PER_SEC)

void
gsi_rpc_limits_default (GsiRpcLimits *ret_limits)
{
  *ret_limits = (GsiRpcLimits) {
    .max_message_bytes = 1024 * 1024,
    .max_reply_bytes = 1024 * 1024,
    .decode_bytes = 16 * 1024 * 1024,
    .max_in_flight = 4096,
    .max_in_flight_per_repository = 256,
    .max_streams = 512,
    .default_timeout_us = 30 * G_USEC_PER_SEC,
    .max_timeout_us = 5 * 60 * G_USEC_PER_SEC,
    .accept_timeout_us = 15 * G_USEC_PER_SEC,
    .keep_outcome_us = 10 * 60 * (gint64) G_USEC_PER_SEC,
    .keep_outcomes = 200000,
    .keep_outcome_bytes = 64 * 1024 * 1024,
  };
}

/* ----------------------------------------------------------------------------------------------- watchdog */

void
gsi_dispatch_watch_locked (GsiRpc *rpc, gint64 at_us)
{
  if (at_us >= rpc->next_watch_us)
    return;
  rpc->next_watch_us = at_us;
  gs_cond_signal (&rpc->watch);
}

/* Stops calls whose time is up; returns those that are ours to end. Sets the time of the next look. */
static GPtrArray *
look_locked (GsiRpc *rpc, gint64 now_us)
{
  GPtrArray *stopped = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  rpc->next_watch_us = now_us + SWEEP_US;
  g_hash_table_iter_init (&iter, rpc->calls);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Call *call = value;
      gint64 due = call->call.base.deadline_us;
      StopReason reason = STOP_DEADLINE;
      if (call->state == CALL_PARKED && call->park_until_us < due)
        {
          due = call->park_until_us;
          reason = STOP_NO_PEER;
        }
      if (call->state == CALL_ENDED || call->stop != STOP_NONE)
        continue;
      if (due > now_us)
        rpc->next_watch_us = MIN (rpc->next_watch_us, due);
      else if (gsi_record_stop_locked (call, reason, TRUE))
        g_ptr_array_add (stopped, call);
    }
  gsi_dedupe_sweep (rpc->dedupe, now_us);
  return stopped;
}

static void
end_stopped (GPtrArray *stopped)
{
  for (guint i = 0; i < stopped->len; i++)
    gsi_record_end_stopped (stopped->pdata[i]);
  g_ptr_array_unref (stopped);
}

static void *
watch (void *user)
{
  GsiRpc *rpc = user;
  gs_mutex_lock (&rpc->lock);
  while (rpc->watchdog_runs)
    {
      gint64 now_us = g_get_monotonic_time ();
      if (now_us < rpc->next_watch_us)
        {
          gs_cond_wait_until (&rpc->watch, &rpc->lock, rpc->next_watch_us);
          continue;
        }
      GPtrArray *stopped = look_locked (rpc, now_us);
      gs_mutex_unlock (&rpc->lock);
      end_stopped (stopped);
      gs_mutex_lock (&rpc->lock);
    }
  gs_mutex_unlock (&rpc->lock);
  return NULL;
}

/* ------------------------------------------------------------------------------------------ making, wiring */

GsiWiring *
gsi_wiring_new (const GsiWiringSetup *setup)
{
  GsiWiring *wiring = g_new0 (GsiWiring, 1);
  wiring->refs = 1;
  wiring->setup = *setup;
  return wiring;
}

void
gsi_wiring_set_user (GsiWiring *wiring, gpointer user)
{
  wiring->setup.user = user;
}

GsiWiring *
gsi_wiring_ref (GsiWiring *wiring)
{
  if (wiring != NULL)
    __atomic_add_fetch (&wiring->refs, 1, __ATOMIC_RELAXED);
  return wiring;
}

void
gsi_wiring_unref (GsiWiring *wiring)
{
  GsiWiringSetup setup;
  if (wiring == NULL || __atomic_sub_fetch (&wiring->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  setup = wiring->setup;
  g_free (wiring);
  if (setup.released != NULL)
    setup.released (setup.released_user);
}

static GsiWiring *
wiring_now (GsiRpc *rpc)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  return gsi_wiring_ref (rpc->wiring);
}

static void
collect (gpointer user)
{
  GsiRpc *rpc = user;
  GsiPoolStats stats;
  guint n_in_flight, n_streams, n_kept;
  gs_mutex_lock (&rpc->lock);
  n_in_flight = rpc->n_in_flight;
  n_streams = rpc->n_streams;
  n_kept = gsi_dedupe_kept (rpc->dedupe);
  gs_mutex_unlock (&rpc->lock);
  gsi_pool_stats (rpc->workers, &stats);
  gsi_metric_update (rpc->in_flight_gauge, n_in_flight);
  gsi_metric_update (rpc->stream_gauge, n_streams);
  gsi_metric_update (rpc->kept_gauge, n_kept);
  gsi_metric_update (rpc->queue_gauge, stats.n_queued);
}

static void
make_metrics (GsiRpc *rpc)
{
  static const char *const operations[] = { NULL, "accessor", "mutator", "maintenance" };
  GsiMetrics *m = rpc->metrics;
  for (guint i = GSI_ACCESSOR; i <= GSI_MAINTENANCE; i++)
    for (guint streams = 0; streams < 2; streams++)
      {
        g_autofree char *labels
            = g_strdup_printf ("operation=\"%s\",kind=\"%s\"", operations[i], streams ? "stream" : "unary");
        rpc->seconds[i][streams] = gsi_metrics_get (m, GS_METRIC_HISTOGRAM, "gitstead_call_seconds",
                                                    "Time from arrival to end of calls.", labels);
      }
  rpc->in_flight_gauge = gsi_metrics_get (m, GS_METRIC_GAUGE, "gitstead_calls_in_flight",
                                          "Calls under way, queued ones included.", NULL);
  rpc->stream_gauge = gsi_metrics_get (m, GS_METRIC_GAUGE, "gitstead_streams_in_flight",
                                       "Streaming calls admitted.", NULL);
  rpc->queue_gauge = gsi_metrics_get (m, GS_METRIC_GAUGE, "gitstead_calls_queued",
                                      "Work that waits for a worker thread.", NULL);
  rpc->kept_gauge = gsi_metrics_get (m, GS_METRIC_GAUGE, "gitstead_call_outcomes_kept",
                                     "Outcomes of writes kept for duplicates.", NULL);
  rpc->joined_count = gsi_metrics_get (m, GS_METRIC_COUNTER, "gitstead_call_duplicates_total",
                                       "Writes that arrived again under their call id.", "answer=\"joined\"");
  rpc->kept_count = gsi_metrics_get (m, GS_METRIC_COUNTER, "gitstead_call_duplicates_total",
                                     "Writes that arrived again under their call id.", "answer=\"kept\"");
  gsi_metrics_add_collector (m, collect, rpc);
}

static void
rpc_clear (GsiRpc *rpc)
{
  gsi_wiring_unref (rpc->wiring);
  g_hash_table_unref (rpc->slots);
  g_hash_table_unref (rpc->calls);
  g_hash_table_unref (rpc->repositories);
  gsi_dedupe_free (rpc->dedupe);
  gsi_methods_free (rpc->methods);
  gs_cond_clear (&rpc->idle);
  gs_cond_clear (&rpc->watch);
  gs_mutex_clear (&rpc->lock);
  g_free (rpc);
}

GsiRpc *
gsi_rpc_new (const GsiRpcLimits *limits, GsiPool *workers, GsiPool *streams, GsiLog *log, GsiMetrics *metrics,
             GError **error)
{
  GsiMethods *methods = gsi_methods_new (error);
  const GsiMethod *const *rows;
  gsize n_rows;
  GsiRpc *rpc;
  int failed;

  if (methods == NULL)
    return NULL;
  rpc = g_new0 (GsiRpc, 1);
  rpc->wiring = gsi_wiring_new (&(GsiWiringSetup) { .limits = *limits });
  rpc->methods = methods;
  rpc->workers = workers;
  rpc->streams = streams;
  rpc->log = log;
  rpc->metrics = metrics;
  rpc->slots = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  rows = gsi_methods_all (methods, &n_rows);
  for (gsize i = 0; i < n_rows; i++)
    g_hash_table_insert (rpc->slots, (gpointer) rows[i], g_new0 (MethodSlot, 1));
  rpc->calls = g_hash_table_new (g_int64_hash, g_int64_equal);
  rpc->repositories = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  rpc->dedupe = gsi_dedupe_new (limits->keep_outcome_us, limits->keep_outcomes, limits->keep_outcome_bytes);
  gsi_random (&rpc->epoch, sizeof rpc->epoch);
  gs_mutex_init (&rpc->lock);
  gs_cond_init (&rpc->idle);
  gs_cond_init (&rpc->watch);
  rpc->watchdog_runs = TRUE;
  failed = gs_thread_start (&rpc->watchdog, "rpc-watchdog", watch, rpc);
  if (failed != 0)
    {
      rpc_clear (rpc);
      gs_fail (error, GS_ERROR_INTERNAL, "cannot start the thread that watches deadlines: %s", g_strerror (failed));
      return NULL;
    }
  make_metrics (rpc);
  return rpc;
}

void
gsi_rpc_free (GsiRpc *rpc)
{
  if (rpc == NULL)
    return;
  gsi_rpc_stop (rpc);
  gsi_metrics_remove_collector (rpc->metrics, collect, rpc);
  gsi_cluster_free (rpc->cluster);
  rpc_clear (rpc);
}

gboolean
gsi_rpc_handle_all (GsiRpc *rpc, const GsiBinding *bindings, gpointer user, GError **error)
{
  for (const GsiBinding *binding = bindings; binding->number != 0; binding++)
    {
      const GsiMethod *method = gsi_methods_by_number (rpc->methods, binding->number);
      MethodSlot *slot = method ? g_hash_table_lookup (rpc->slots, method) : NULL;
      if (slot == NULL)
        return gs_fail (error, GS_ERROR_INTERNAL, "a handler is bound to the number %u, which no method has",
                        binding->number);
      if (slot->handler != NULL)
        return gs_fail (error, GS_ERROR_INTERNAL, "two handlers are bound to %s", method->name);
      slot->handler = binding->handler;
      slot->user = user;
    }
  return TRUE;
}

void
gsi_rpc_set_wiring (GsiRpc *rpc, GsiWiring *wiring)
{
  const GsiRpcLimits *limits = &wiring->setup.limits;
  GsiWiring *before;
  gsi_wiring_ref (wiring);
  gs_mutex_lock (&rpc->lock);
  before = rpc->wiring;
  rpc->wiring = wiring;
  gsi_dedupe_set_limits (rpc->dedupe, limits->keep_outcome_us, limits->keep_outcomes, limits->keep_outcome_bytes);
  gs_mutex_unlock (&rpc->lock);
  gsi_wiring_unref (before);
}

void
gsi_rpc_set_access (GsiRpc *rpc, const GsAccessOps *ops, gpointer self)
{
  GsiWiringSetup setup = rpc->wiring->setup;
  GsiWiring *wiring;
  setup.access = ops;
  setup.access_self = self;
  wiring = gsi_wiring_new (&setup);
  gsi_rpc_set_wiring (rpc, wiring);
  gsi_wiring_unref (wiring);
}

gboolean
gsi_rpc_set_cluster_token (GsiRpc *rpc, const char *token, GError **error)
{
  GsiCluster *cluster = gsi_cluster_new (token, error);
  if (cluster == NULL)
    return FALSE;
  gsi_cluster_free (rpc->cluster);
  rpc->cluster = cluster;
  return TRUE;
}

const GsiMethods *
gsi_rpc_methods (const GsiRpc *rpc)
{
  return rpc->methods;
}

void
gsi_rpc_limits (GsiRpc *rpc, GsiRpcLimits *ret_limits)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  *ret_limits = rpc->wiring->setup.limits;
}

guint64
gsi_rpc_epoch (const GsiRpc *rpc)
{
  return rpc->epoch;
}

/* -------------------------------------------------------------------------------------------- for transports */

gboolean
gsi_rpc_method_info (const GsiRpc *rpc, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  const GsiMethod *method = number != 0 ? gsi_methods_by_number (rpc->methods, number)
                            : name != NULL ? gsi_methods_by_name (rpc->methods, name)
                                           : NULL;
  if (method == NULL)
    return FALSE;
  *ret_info = (GsMethodInfo) { sizeof *ret_info, method->number, method->name, method->bytes_in, method->bytes_out };
  return TRUE;
}

static const GsiMethod *
find_method (GsiRpc *rpc, const GsInbound *inbound, GError **error)
{
  const char *name = inbound->method_name ? inbound->method_name : "", *near;
  g_autofree char *shown = NULL;
  const GsiMethod *method;
  if (inbound->method != 0)
    {
      method = gsi_methods_by_number (rpc->methods, inbound->method);
      /* A number comes out of a client's generated code: it is newer than this server. */
      if (method == NULL)
        gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this server has no method with the number %u", inbound->method);
      return method;
    }
  method = gsi_methods_by_name (rpc->methods, name);
  if (method != NULL)
    return method;
  shown = g_utf8_make_valid (name, (gssize) MIN (strlen (name), 64));
  near = gsi_methods_nearest (rpc->methods, name);
  gs_fail (error, GS_ERROR_NOT_FOUND, "there is no method \"%s\"%s%s%s", shown, near ? "; did you mean \"" : "",
           near ? near : "", near ? "\"?" : "");
  return NULL;
}

static gboolean
check_inbound (GsiRpc *rpc, const GsiRpcLimits *limits, const GsiMethod *method, const GsInbound *inbound,
               GError **error)
{
  const MethodSlot *slot = g_hash_table_lookup (rpc->slots, method);
  gsize n_bytes = inbound->payload ? g_bytes_get_size (inbound->payload) : 0;
  if (slot->handler == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "%s: this server does not do that", method->name);
  if (n_bytes > limits->max_message_bytes)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: the request has %" G_GSIZE_FORMAT " bytes, the limit is %"
                    G_GSIZE_FORMAT, method->name, n_bytes, limits->max_message_bytes)
           || gs_detail_limit (error, "server.max_message", limits->max_message_bytes, n_bytes);
  if ((method->bytes_in || method->bytes_out) && inbound->stream == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s streams bytes, and this way of calling has no stream",
                    method->name);
  if (inbound->encoding != GS_ENCODING_PROTOBUF && inbound->encoding != GS_ENCODING_JSON)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: unknown encoding %d", method->name,
                    (int) inbound->encoding);
  return TRUE;
}

/* Under the lock: is there room for one more? Takes the place. */
static gboolean
enter_locked (GsiRpc *rpc, const GsiRpcLimits *limits, GError **error)
{
  if (rpc->draining)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the server is stopping and takes no new calls; try another one, or"
                    " later");
  if (rpc->n_in_flight >= limits->max_in_flight)
    return gs_fail (error, GS_ERROR_BUSY, "%u calls are under way already, which is the limit; try again",
                    rpc->n_in_flight)
           || gs_detail_limit (error, "server.max_in_flight", limits->max_in_flight, rpc->n_in_flight);
  rpc->n_in_flight++;
  rpc->n_records++;
  return TRUE;
}

/* A call that never became one. */
static void
refuse (GsiRpc *rpc, const GsiMethod *method, const GsInbound *inbound, GError *error)
{
  int code = gs_error_code (error);
  g_autoptr (GsiEnd) end = gsi_end_new (code, error->message, gsi_record_advice_us (code), NULL);
  g_autoptr (GBytes) details = gsi_record_details (rpc, error, inbound->encoding);
  GsOutcome outcome
      = { sizeof outcome, code, end->retry, end->message, end->retry_after_us, NULL, TRUE, .details = details };
  gsi_dispatch_count (rpc, method, code);
  gsi_log (rpc->log, GS_LOG_DEBUG, "call.refused", GS_TEXT ("method", method ? method->name : inbound->method_name),
           GS_NUMBER ("number", inbound->method), GS_TEXT ("peer", inbound->peer), GSI_LOG_ERROR_FIELDS (error));
  g_error_free (error);
  inbound->done (inbound->user, &outcome);
}

GsCallHandle
gsi_rpc_begin (GsiRpc *rpc, const GsInbound *inbound)
{
  GError *error = NULL;
  const GsiMethod *method = find_method (rpc, inbound, &error);
  GsiWiring *wiring = wiring_now (rpc);
  const GsiRpcLimits *limits = &wiring->setup.limits;
  gboolean entered = FALSE;
  GsCallHandle handle;
  Call *call;

  if (method != NULL && check_inbound (rpc, limits, method, inbound, &error))
    {
      gs_mutex_lock (&rpc->lock);
      entered = enter_locked (rpc, limits, &error);
      gs_mutex_unlock (&rpc->lock);
    }
  if (!entered)
    {
      refuse (rpc, method, inbound, error);
      gsi_wiring_unref (wiring);
      return 0;
    }
  call = gsi_record_new (rpc, wiring, method, inbound);
  gsi_record_ref (call);
  gs_mutex_lock (&rpc->lock);
  call->handle = handle = ++rpc->last_handle;
  g_hash_table_insert (rpc->calls, &call->handle, call);
  gsi_dispatch_watch_locked (rpc, call->call.base.deadline_us);
  gs_mutex_unlock (&rpc->lock);
  gsi_dispatch_queue (call, rpc->workers, STEP_CHECK);
  return handle;
}

void
gsi_rpc_cancel (GsiRpc *rpc, GsCallHandle handle)
{
  Call *call;
  gboolean ours;
  gs_mutex_lock (&rpc->lock);
  call = g_hash_table_lookup (rpc->calls, &handle);
  ours = call != NULL && gsi_record_stop_locked (call, STOP_CALLER, FALSE);
  gs_mutex_unlock (&rpc->lock);
  if (ours)
    gsi_record_end_stopped (call);
}

void
gsi_rpc_ready (GsiRpc *rpc, GsCallHandle handle)
{
  Call *call;
  gboolean parked;
  gs_mutex_lock (&rpc->lock);
  call = g_hash_table_lookup (rpc->calls, &handle);
  parked = call != NULL && call->state == CALL_PARKED;
  if (call != NULL)
    call->ready = TRUE;
  if (parked)
    {
      call->state = CALL_QUEUED;
      gsi_record_ref (call);
    }
  gs_mutex_unlock (&rpc->lock);
  if (parked)
    gsi_dispatch_queue (call, rpc->streams, STEP_STREAM);
}

/* --------------------------------------------------------------------------------------------------- others */

typedef gboolean (*Match) (const Call *call, gconstpointer data);

/* Stops all that match; TRUE when there was one. */
static gboolean
stop_matching (GsiRpc *rpc, Match match, gconstpointer data, StopReason reason)
{
  GPtrArray *stopped = g_ptr_array_new ();
  gboolean found = FALSE;
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&rpc->lock);
  g_hash_table_iter_init (&iter, rpc->calls);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Call *call = value;
      if (call->state == CALL_ENDED || !match (call, data))
        continue;
      found = TRUE;
      if (gsi_record_stop_locked (call, reason, TRUE))
        g_ptr_array_add (stopped, call);
    }
  gs_mutex_unlock (&rpc->lock);
  end_stopped (stopped);
  return found;
}

typedef struct
{
  const GsTxId *id;
  const char *caller;
} Wanted;

static gboolean
is_wanted (const Call *call, gconstpointer data)
{
  const Wanted *wanted = data;
  return call->has_id && call->identity != NULL
         && memcmp (&call->call.base.id, wanted->id, sizeof *wanted->id) == 0
         && strcmp (call->identity->name, wanted->caller) == 0;
}

static gboolean
is_any (const Call *call, gconstpointer data)
{
  return TRUE;
}

gboolean
gsi_rpc_cancel_by_id (GsiRpc *rpc, const GsTxId *id, const char *caller)
{
  const Wanted wanted = { id, caller };
  return stop_matching (rpc, is_wanted, &wanted, STOP_CALLER);
}

void
gsi_rpc_drain (GsiRpc *rpc)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  rpc->draining = TRUE;
}

gboolean
gsi_rpc_wait_idle (GsiRpc *rpc, gint64 until_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  while (rpc->n_records > 0)
    if (!gs_cond_wait_until (&rpc->idle, &rpc->lock, until_us) && rpc->n_records > 0)
      return FALSE;
  return TRUE;
}

void
gsi_rpc_stop (GsiRpc *rpc)
{
  gboolean watched;
  gs_mutex_lock (&rpc->lock);
  rpc->draining = rpc->stopping = TRUE;
  watched = rpc->watchdog_runs;
  gs_mutex_unlock (&rpc->lock);
  if (!watched)
    return;
  stop_matching (rpc, is_any, NULL, STOP_SERVER);
  gsi_rpc_wait_idle (rpc, G_MAXINT64);
  gs_mutex_lock (&rpc->lock);
  rpc->watchdog_runs = FALSE;
  gs_cond_signal (&rpc->watch);
  gs_mutex_unlock (&rpc->lock);
  gs_thread_join (rpc->watchdog);
}

/* What is told of each call that is still there at the end. */
#define TOLD_MAX 10

typedef struct
{
  const char *method;
  char *peer;
  CallState state;
  gboolean stopped;
  gint64 age_us;
} Told;

void
gsi_rpc_log_in_flight (GsiRpc *rpc)
{
  static const char *const states[] = { [CALL_QUEUED] = "queued", [CALL_WORKING] = "working", [CALL_PARKED] = "waiting for its client",
                                        [CALL_JOINED] = "waiting for another call", [CALL_ENDED] = "ended" };
  Told told[TOLD_MAX];
  gsize n = 0;
  gint64 now_us = g_get_monotonic_time ();
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&rpc->lock);
  g_hash_table_iter_init (&iter, rpc->calls);
  while (n < TOLD_MAX && g_hash_table_iter_next (&iter, NULL, &value))
    {
      const Call *call = value;
      told[n++] = (Told) { call->call.method->name, g_strdup (call->peer), call->state, call->stop != STOP_NONE,
                           now_us - call->begun_us };
    }
  gs_mutex_unlock (&rpc->lock);
  for (gsize i = 0; i < n; i++)
    {
      gsi_log (rpc->log, GS_LOG_WARNING, "call.in_flight", GS_TEXT ("method", told[i].method),
               GS_TEXT ("peer", told[i].peer), GS_TEXT ("state", states[told[i].state]),
               GS_NUMBER ("cancelled", told[i].stopped), GS_NUMBER ("age_ms", told[i].age_us / 1000));
      g_free (told[i].peer);
    }
}

guint
gsi_rpc_in_flight (GsiRpc *rpc)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&rpc->lock);
  return rpc->n_in_flight;
}
