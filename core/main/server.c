/* SPDX-License-Identifier: Apache-2.0 */
/* Wiring: from a config file to a serving process and back. See server.h. */
#include "main/server.h"

#include <gitstead/transport.h>

#include "base/clock.h"
#include "base/crash.h"
#include "main/gate.h"
#include "main/probe.h"
#include "main/report.h"
#include "main/reload.h"
#include "router/settle.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* Threads on which the participants of writes work; started as needed. One that cannot be had is a lost participant. */
#define PARTICIPANTS_MAX 4096
#define SPARE_WORKERS 16
#define WORKERS_STUCK_US (250 * 1000)
#define STREAM_IDLE_US (30 * G_USEC_PER_SEC)

/* ------------------------------------------------------------------------------- services for plugins */

static gboolean
service_method (gpointer user, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  return gsi_rpc_method_info (((GsiServer *) user)->rpc, number, name, ret_info);
}

static GsCallHandle
service_call_begin (gpointer user, const char *instance, const GsInbound *inbound)
{
  return gsi_rpc_begin (((GsiServer *) user)->rpc, inbound);
}

static void
service_call_cancel (gpointer user, GsCallHandle call)
{
  gsi_rpc_cancel (((GsiServer *) user)->rpc, call);
}

static void
service_call_ready (gpointer user, GsCallHandle call)
{
  gsi_rpc_ready (((GsiServer *) user)->rpc, call);
}

/* ---------------------------------------------------------------------------------------- building */

static GsLogLevel
log_level (const char *name)
{
  static const char *const names[] = { "error", "warning", "info", "debug" };
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (g_strcmp0 (name, names[i]) == 0)
      return (GsLogLevel) i;
  return GS_LOG_INFO;
}

GsiLogSettings
gsi_server_log_settings (const GsiOptions *options, char **ret_topics)
{
  GsiLogSettings settings = { 0 };
  *ret_topics = g_strjoinv (",", (char **) gsi_options_list (options, "log_topics"));
  settings.level = log_level (gsi_options_string (options, "log_level"));
  settings.format = g_strcmp0 (gsi_options_string (options, "log_format"), "json") == 0 ? GSI_LOG_JSON : GSI_LOG_TEXT;
  settings.path = gsi_options_string (options, "log_file");
  settings.topics = (*ret_topics)[0] != '\0' ? *ret_topics : NULL;
  settings.repeats = (guint) gsi_options_integer (options, "log_repeats");
  return settings;
}

GsiServer *
gsi_server_new (const char *config_path, GError **error)
{
  g_autoptr (GsiServer) server = g_new0 (GsiServer, 1);
  GsiRegistry *registry;
  server->config_path = g_strdup (config_path);
  server->exports = g_ptr_array_new_with_free_func (g_free);
  server->disks_looked = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  server->lent = g_ptr_array_new ();
  server->suspects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  server->reads = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  server->gates = g_ptr_array_new_with_free_func (gsi_gate_free);
  server->retired = g_ptr_array_new ();
  server->started_us = g_get_monotonic_time ();
  gs_mutex_init (&server->lock);
  gs_cond_init (&server->reloaded);
  g_queue_init (&server->reloads);
  server->wake_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (server->wake_fd < 0)
    {
      gs_fail (error, GS_ERROR_INTERNAL, "cannot make an eventfd: %s", g_strerror (errno));
      return NULL;
    }
  registry = gsi_registry_load (config_path, error);
  if (registry == NULL)
    return NULL;
  server->now = gsi_generation_new (server, registry);
  return g_steal_pointer (&server);
}

static gboolean
make_base (GsiServer *server, GError **error)
{
  const GsiOptions *options = gsi_registry_server (server->now->registry);
  g_autofree char *topics = NULL;
  GsiLogSettings settings = gsi_server_log_settings (options, &topics);
  GsiRpcLimits limits;

  server->log = gsi_log_new (&settings, error);
  if (server->log == NULL)
    return FALSE;
  gsi_log_take_glib (server->log);
  gsi_crash_install ("gitstead " GSI_VERSION, server->log);
  server->metrics = gsi_metrics_new (GSI_METRICS_MAX_SERIES);
  server->workers = gsi_pool_new ("worker", (guint) gsi_options_integer (options, "workers"),
                                  (guint) gsi_options_integer (options, "queue"), error);
  if (server->workers == NULL)
    return FALSE;
  gsi_generation_limits (server->now->registry, &limits);
  /* Calls on one repository, whose node or disk hangs, never hold all threads. */
  gsi_pool_set_spare (server->workers, limits.max_in_flight_per_repository + SPARE_WORKERS, WORKERS_STUCK_US,
                      STREAM_IDLE_US);
  server->streams = gsi_pool_new_elastic ("stream", limits.max_streams, limits.max_streams, STREAM_IDLE_US, error);
  if (server->streams == NULL)
    return FALSE;
  server->participants = gsi_pool_new_elastic ("participant", PARTICIPANTS_MAX, 0, STREAM_IDLE_US, error);
  if (server->participants == NULL)
    return FALSE;
  server->timers = gsi_timers_new (server->workers, (guint) gsi_options_integer (options, "timers"), error);
  if (server->timers == NULL)
    return FALSE;
  server->rpc = gsi_rpc_new (&limits, server->workers, server->streams, server->log, server->metrics, error);
  if (server->rpc == NULL)
    return FALSE;
  server->events = gsi_events_new (gsi_rpc_epoch (server->rpc));
  return TRUE;
}

static gboolean
no_needs (gpointer user, const char *role, GsInstance *ret_instance)
{
  return FALSE;
}

static gboolean
make_instances (GsiServer *server, GError **error)
{
  GsiHostSetup *setup = &server->setup;
  setup->log = server->log;
  setup->metrics = server->metrics;
  setup->pool = server->workers;
  setup->timers = server->timers;
  setup->services.user = server;
  setup->services.method = service_method;
  setup->services.call_begin = service_call_begin;
  setup->services.call_cancel = service_call_cancel;
  setup->services.call_ready = service_call_ready;
  setup->services.page = gsi_server_page;
  server->host = gsi_host_new (setup, "core", no_needs, NULL);
  return gsi_registry_create (server->now->registry, setup, error);
}

static gboolean
make_router (GsiServer *server, GError **error)
{
  g_autofree GsiBinding *bindings = gsi_router_bindings (gsi_rpc_methods (server->rpc));
  gsi_generation_wire (server->now, NULL);
  gsi_router_take_over (server->now->router);
  gsi_rpc_set_wiring (server->rpc, server->now->wiring);
  return gsi_rpc_handle_all (server->rpc, gsi_server_bindings (), server, error)
         && gsi_rpc_handle_all (server->rpc, bindings, NULL, error);
}

/* ----------------------------------------------------------------------------------- for other threads */

GsiGeneration *
gsi_server_hold (GsiServer *server, GsiWiring **ret_wiring)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  *ret_wiring = gsi_wiring_ref (server->now->wiring);
  return server->now;
}

guint32 *
gsi_server_reads (GsiServer *server, const char *storage)
{
  guint32 *reads = g_hash_table_lookup (server->reads, storage);
  if (reads == NULL)
    g_hash_table_insert (server->reads, g_strdup (storage), reads = g_new0 (guint32, 1));
  return reads;
}

void
gsi_server_wake (GsiServer *server)
{
  eventfd_write (server->wake_fd, 1);
}

int
gsi_server_wake_fd (GsiServer *server)
{
  return server->wake_fd;
}

void
gsi_server_turn (GsiServer *server)
{
  eventfd_t n;
  while (eventfd_read (server->wake_fd, &n) == 0)
    ;
  gsi_reload_asked (server);
  gsi_reload_reap (server);
  gsi_log_sweep (server->log);
}

/* ------------------------------------------------------------------------------------ housekeeping */

static void
maintain_work (gpointer user)
{
  GsiServer *server = user;
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  gint64 every_us = gsi_options_integer (gsi_registry_server (generation->registry), "maintenance_interval");
  server->suspects = gsi_router_maintain (generation->router, server->suspects);
  gsi_wiring_unref (wiring);
  gsi_server_maintain_arm (server, every_us);
}

void
gsi_server_maintain_arm (GsiServer *server, gint64 every_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    server->maintain_timer = gsi_timer_add (server->timers, every_us, maintain_work, server);
}

void
gsi_server_maintain_every (GsiServer *server, gint64 every_us)
{
  gboolean waits;
  gs_mutex_lock (&server->lock);
  waits = server->maintain_timer != 0 && gsi_timer_cancel (server->timers, server->maintain_timer);
  if (waits)
    server->maintain_timer = 0;
  gs_mutex_unlock (&server->lock);
  if (waits) /* otherwise a round is under way, and what follows it looks by itself */
    gsi_server_maintain_arm (server, every_us);
}

static GsiRouter *
hold_router (gpointer user, GsiWiring **ret_wiring)
{
  return gsi_server_hold (user, ret_wiring)->router;
}

static void
start_repairer (GsiServer *server)
{
  const GsiOptions *options = gsi_registry_server (server->now->registry);
  const GsiRepairerConfig config = { .host = gsi_host_get (server->host),
                                     .n_workers = (guint) gsi_options_integer (options, "repair_workers"),
                                     .lease_us = gsi_options_integer (options, "job_lease"),
                                     .hold = hold_router,
                                     .user = server };
  server->repairer = gsi_repairer_new (&config);
  if (server->now->groups->len > 0) /* a router */
    gsi_repairer_start (server->repairer);
}

/* ----------------------------------------------------------------------------------- start and stop */

static void
log_ready (GsiServer *server)
{
  g_auto (GStrv) endpoints = gsi_server_endpoints (server);
  for (guint i = 0; endpoints[i] != NULL; i++)
    gsi_log (server->log, GS_LOG_INFO, "server.listening", GS_TEXT ("url", endpoints[i]));
  gsi_log (server->log, GS_LOG_INFO, "server.ready", GS_TEXT ("version", GSI_VERSION),
           GS_TEXT ("config", server->config_path));
}

/* A store that cannot be reached now says so to each call, and looks at its schema when it can. */
static gboolean
check_schema (GsiServer *server, GError **error)
{
  GsiInstance *metadata = gsi_registry_get (server->now->registry, GS_KIND_METADATA, NULL);
  const GsMetadataOps *ops = GSI_OPS (metadata, GsMetadataOps);
  g_autoptr (GError) why = NULL;
  guint pending = 0;
  if (!ops->migrate (GSI_SELF (metadata), NULL, TRUE, &pending, &why))
    {
      if (gs_error_code (why) == GS_ERROR_UNAVAILABLE)
        return TRUE;
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (pending > 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the schema of the metadata store is %u steps behind; run 'gitstead metadata migrate --config %s'",
                    pending, server->config_path);
  return TRUE;
}

/*
 * Nothing of the core's own is under way after it, and no timer of it is left: what those use is freed next. Pools still
 * run, so that work which was handed to them comes to its end.
 */
static void
end_own_work (GsiServer *server)
{
  gsi_timers_stop (server->timers);
  gsi_router_stop (server->now->router);
  for (guint i = 0; i < server->retired->len; i++)
    gsi_router_stop (((GsiGeneration *) server->retired->pdata[i])->router);
  gsi_host_quiesce (server->host);
}

gboolean
gsi_server_start (GsiServer *server, GError **error)
{
  if (!make_base (server, error) || !make_instances (server, error))
    return FALSE;
  if (!gsi_registry_start (server->now->registry, GSI_KINDS_INNER, error))
    return FALSE;
  if (!check_schema (server, error) || !make_router (server, error) || !gsi_server_make_node (server, error)
      || !gsi_router_recover (server->now->router, error))
    {
      if (server->now->router != NULL)
        end_own_work (server); /* recovery may have left something for later */
      gsi_registry_stop (server->now->registry, GSI_KINDS_INNER);
      return FALSE;
    }
  __atomic_store_n (&server->recovered, 1, __ATOMIC_RELEASE);
  if (!gsi_registry_start (server->now->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT), error))
    {
      end_own_work (server);
      gsi_registry_stop (server->now->registry, GSI_KINDS_INNER);
      return FALSE;
    }
  gsi_server_maintain_arm (server, gsi_options_integer (gsi_registry_server (server->now->registry),
                                                        "maintenance_interval"));
  gsi_probes_start (server);
  gsi_rechecks_start (server);
  gsi_report_start (server);
  start_repairer (server);
  log_ready (server);
  return TRUE;
}

void
gsi_server_stop (GsiServer *server)
{
  gint64 grace_us = gsi_options_integer (gsi_registry_server (server->now->registry), "shutdown_grace");
  GsiRegistry *registry = server->now->registry;
  __atomic_store_n (&server->stopping, 1, __ATOMIC_RELEASE);
  gsi_reload_refuse (server);
  gsi_router_maintain_stop (server->now->router);
  for (guint i = 0; i < server->retired->len; i++)
    gsi_router_maintain_stop (((GsiGeneration *) server->retired->pdata[i])->router);
  gsi_log (server->log, GS_LOG_INFO, "server.stopping", GS_NUMBER ("in_flight", gsi_rpc_in_flight (server->rpc)));
  if (server->repairer != NULL)
    gsi_repairer_stop (server->repairer);
  gsi_registry_drain (registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_rpc_drain (server->rpc);
  gsi_events_end_streams (server->events);
  if (!gsi_rpc_wait_idle (server->rpc, gsi_clock_now_us () + grace_us))
    {
      gsi_log (server->log, GS_LOG_WARNING, "server.grace.over",
               GS_NUMBER ("in_flight", gsi_rpc_in_flight (server->rpc)));
      gsi_rpc_log_in_flight (server->rpc);
    }
  gsi_serve_drain (server->serve);
  gsi_rpc_stop (server->rpc);
  gsi_serve_stop (server->serve);
  /* All of them now, also those that a generation of before a reload holds: what their requests use goes next. */
  for (guint i = 0; i < server->retired->len; i++)
    gsi_registry_end (((GsiGeneration *) server->retired->pdata[i])->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_registry_end (registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  end_own_work (server);
  gsi_pool_stop (server->participants);
  gsi_pool_stop (server->streams);
  gsi_pool_stop (server->workers);
  /* Nothing runs any more, so nobody holds an earlier generation; what it had alone stops before what it needed. */
  for (guint i = 0; i < server->retired->len; i++)
    gsi_generation_free (server->retired->pdata[i]);
  g_ptr_array_set_size (server->retired, 0);
  gsi_server_node_clear (server);
  gsi_registry_stop (registry, GSI_KINDS_INNER);
  gsi_log (server->log, GS_LOG_INFO, "server.stopped", GS_TEXT ("config", server->config_path));
}

void
gsi_server_free (GsiServer *server)
{
  if (server == NULL)
    return;
  gsi_repairer_free (server->repairer);
  gsi_timers_free (server->timers);
  gsi_pool_free (server->participants);
  gsi_pool_free (server->streams);
  gsi_pool_free (server->workers);
  gsi_rpc_free (server->rpc); /* lets go of the wiring; no call is left */
  gsi_serve_free (server->serve);
  gsi_server_node_clear (server);
  gsi_generation_free (server->now);
  g_ptr_array_unref (server->gates);
  g_ptr_array_unref (server->retired);
  gsi_events_free (server->events);
  gsi_host_free (server->host);
  gsi_metrics_free (server->metrics);
  gsi_crash_forget_log ();
  gsi_log_free (server->log);
  g_clear_pointer (&server->suspects, g_hash_table_destroy);
  g_hash_table_destroy (server->reads);
  gs_cond_clear (&server->reloaded);
  gs_mutex_clear (&server->lock);
  if (server->wake_fd >= 0)
    close (server->wake_fd);
  g_ptr_array_unref (server->exports);
  g_hash_table_destroy (server->disks_looked);
  g_ptr_array_unref (server->lent);
  g_free (server->config_path);
  g_free (server);
}

char **
gsi_server_endpoints (GsiServer *server)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new ();
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (server, &wiring);
  for (GsiInstance *const *one = gsi_registry_all (generation->registry, GS_KIND_TRANSPORT); *one != NULL; one++)
    {
      g_autofree char **urls = NULL;
      if (!gsi_instance_running (*one))
        continue;
      urls = GSI_OPS (*one, GsTransportOps)->endpoints (GSI_SELF (*one));
      for (guint i = 0; urls != NULL && urls[i] != NULL; i++)
        g_ptr_array_add (all, urls[i]);
    }
  gsi_wiring_unref (wiring);
  g_ptr_array_add (all, NULL);
  return (char **) g_ptr_array_free (g_steal_pointer (&all), FALSE);
}

GsiLog *
gsi_server_log (GsiServer *server)
{
  return server->log;
}
