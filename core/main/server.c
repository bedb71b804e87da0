/* SPDX-License-Identifier: Apache-2.0 */
/* Wiring: from a config file to a serving process and back. See server.h. */
#include "main/server.h"

#include <gitstead/transport.h>

#include "base/clock.h"
#include "base/crash.h"
#include "router/settle.h"

/* Threads on which the participants of writes work; started as needed. One that cannot be had is a lost participant. */
#define PARTICIPANTS_MAX 4096
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

/* @ret_topics (*full*) must live as long as the settings are looked at. */
static GsiLogSettings
log_settings (const GsiOptions *options, char **ret_topics)
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

static void
storage_free (gpointer data)
{
  GsiStorage *storage = data;
  g_free (storage->reads);
  g_free (storage);
}

GsiServer *
gsi_server_new (const char *config_path, GError **error)
{
  g_autoptr (GsiServer) server = g_new0 (GsiServer, 1);
  server->config_path = g_strdup (config_path);
  server->storages = g_ptr_array_new_with_free_func (storage_free);
  server->exports = g_ptr_array_new ();
  server->groups = g_ptr_array_new_with_free_func (g_free);
  server->suspects = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  server->started_us = g_get_monotonic_time ();
  server->registry = gsi_registry_load (config_path, error);
  return server->registry == NULL ? NULL : g_steal_pointer (&server);
}

static gboolean
make_base (GsiServer *server, GError **error)
{
  const GsiOptions *options = gsi_registry_server (server->registry);
  g_autofree char *topics = NULL;
  GsiLogSettings settings = log_settings (options, &topics);
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
  gsi_rpc_limits_default (&limits);
  limits.max_streams = (guint) gsi_options_integer (options, "streams");
  limits.max_in_flight = (guint) gsi_options_integer (options, "max_in_flight");
  limits.max_in_flight_per_repository = (guint) gsi_options_integer (options, "max_per_repository");
  limits.max_message_bytes = (gsize) gsi_options_integer (options, "max_message");
  limits.default_timeout_us = gsi_options_integer (options, "call_timeout");
  limits.keep_outcome_us = gsi_options_integer (options, "idempotency_window");
  limits.keep_outcomes = (guint) gsi_options_integer (options, "idempotency_entries");
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
  return server->rpc != NULL;
}

static gboolean
no_needs (gpointer user, const char *role, GsInstance *ret_instance)
{
  return FALSE;
}

static gboolean
make_instances (GsiServer *server, GError **error)
{
  GsiHostSetup setup = { 0 };
  setup.log = server->log;
  setup.metrics = server->metrics;
  setup.pool = server->workers;
  setup.timers = server->timers;
  setup.services.user = server;
  setup.services.method = service_method;
  setup.services.call_begin = service_call_begin;
  setup.services.call_cancel = service_call_cancel;
  setup.services.call_ready = service_call_ready;
  setup.services.page = gsi_server_page;
  server->host = gsi_host_new (&setup, "core", no_needs, NULL);
  return gsi_registry_create (server->registry, &setup, error);
}

static const GsiStorage *
server_storage (GsiServer *server, const char *name)
{
  for (guint i = 0; i < server->storages->len; i++)
    if (strcmp (((const GsiStorage *) server->storages->pdata[i])->name, name) == 0)
      return server->storages->pdata[i];
  return NULL;
}

static void
make_group (GsiServer *server, const GsiVirtualStorage *configured)
{
  gsize n = configured->n_storages;
  /* One block: the group and, behind it, its list of storages. */
  GsiStorageGroup *group = g_malloc0 (sizeof *group + n * sizeof (GsiStorage *));
  const GsiStorage **storages = (const GsiStorage **) (group + 1);
  for (gsize i = 0; i < n; i++)
    storages[i] = server_storage (server, configured->storages[i]);
  group->name = configured->name;
  group->storages = storages;
  group->n_storages = n;
  group->routing = GSI_OPS (configured->routing, GsRoutingOps);
  group->routing_self = GSI_SELF (configured->routing);
  group->consistency = GSI_OPS (configured->consistency, GsConsistencyOps);
  group->consistency_self = GSI_SELF (configured->consistency);
  group->n_copies = configured->copies;
  group->min_copies = configured->min_copies;
  g_ptr_array_add (server->groups, group);
}

static gboolean
make_router (GsiServer *server, GError **error)
{
  GsiRegistry *registry = server->registry;
  GsiInstance *metadata = gsi_registry_get (registry, GS_KIND_METADATA, NULL);
  GsiInstance *access = gsi_registry_get (registry, GS_KIND_ACCESS, NULL);
  GsiInstance *cache = gsi_registry_get (registry, GS_KIND_CACHE, NULL);
  g_autofree GsiBinding *bindings = gsi_router_bindings (gsi_rpc_methods (server->rpc));
  GsiRouterConfig config = { 0 };

  for (GsiInstance *const *one = gsi_registry_all (registry, GS_KIND_STORAGE); *one != NULL; one++)
    {
      GsiStorage *storage = g_new0 (GsiStorage, 1);
      storage->name = gsi_instance (*one)->name;
      storage->ops = GSI_OPS (*one, GsStorageOps);
      storage->self = GSI_SELF (*one);
      storage->zone = gsi_options_string (gsi_instance_core_options (*one), "zone");
      if (storage->zone == NULL)
        storage->zone = "";
      storage->weight = gsi_options_integer (gsi_instance_core_options (*one), "weight");
      storage->reads = g_new0 (guint32, 1);
      g_ptr_array_add (server->storages, storage);
    }
  for (const GsiVirtualStorage *const *one = gsi_registry_virtual_storages (registry); *one != NULL; one++)
    make_group (server, *one);
  config.metadata = GSI_OPS (metadata, GsMetadataOps);
  config.metadata_self = GSI_SELF (metadata);
  config.access = GSI_OPS (access, GsAccessOps);
  config.access_self = GSI_SELF (access);
  config.cache = GSI_OPS (cache, GsCacheOps);
  config.cache_self = GSI_SELF (cache);
  config.storages = (const GsiStorage *const *) server->storages->pdata;
  config.n_storages = server->storages->len;
  config.virtual_storages = (const GsiStorageGroup *const *) server->groups->pdata;
  config.n_virtual_storages = server->groups->len;
  config.host = gsi_host_get (server->host);
  config.pool = server->participants;
  config.holds = gsi_server_holds;
  config.holds_user = server;
  server->router = gsi_router_new (&config);
  gsi_rpc_set_access (server->rpc, config.access, config.access_self);
  return gsi_rpc_handle_all (server->rpc, gsi_server_bindings (), server, error)
         && gsi_rpc_handle_all (server->rpc, bindings, server->router, error);
}

/* ------------------------------------------------------------------------------------ housekeeping */

static void maintain_work (gpointer user);

static void
maintain_arm (GsiServer *server)
{
  const GsiOptions *options = gsi_registry_server (server->registry);
  if (!__atomic_load_n (&server->stopping, __ATOMIC_ACQUIRE))
    gsi_timer_add (server->timers, gsi_options_integer (options, "maintenance_interval"), maintain_work, server);
}

static void
maintain_work (gpointer user)
{
  GsiServer *server = user;
  server->suspects = gsi_router_maintain (server->router, server->suspects);
  maintain_arm (server);
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
  GsiInstance *metadata = gsi_registry_get (server->registry, GS_KIND_METADATA, NULL);
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

gboolean
gsi_server_start (GsiServer *server, GError **error)
{
  if (!make_base (server, error) || !make_instances (server, error))
    return FALSE;
  if (!gsi_registry_start (server->registry, GSI_KINDS_INNER, error))
    return FALSE;
  if (!check_schema (server, error) || !make_router (server, error) || !gsi_server_make_node (server, error)
      || !gsi_router_recover (server->router, error))
    {
      gsi_registry_stop (server->registry, GSI_KINDS_INNER);
      return FALSE;
    }
  __atomic_store_n (&server->recovered, 1, __ATOMIC_RELEASE);
  if (!gsi_registry_start (server->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT), error))
    {
      gsi_registry_stop (server->registry, GSI_KINDS_INNER);
      return FALSE;
    }
  maintain_arm (server);
  log_ready (server);
  return TRUE;
}

void
gsi_server_stop (GsiServer *server)
{
  gint64 grace_us = gsi_options_integer (gsi_registry_server (server->registry), "shutdown_grace");
  __atomic_store_n (&server->stopping, 1, __ATOMIC_RELEASE);
  gsi_router_maintain_stop (server->router);
  gsi_log (server->log, GS_LOG_INFO, "server.stopping", GS_NUMBER ("in_flight", gsi_rpc_in_flight (server->rpc)));
  gsi_registry_drain (server->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_rpc_drain (server->rpc);
  if (!gsi_rpc_wait_idle (server->rpc, gsi_clock_now_us () + grace_us))
    {
      gsi_log (server->log, GS_LOG_WARNING, "server.grace.over",
               GS_NUMBER ("in_flight", gsi_rpc_in_flight (server->rpc)));
      gsi_rpc_log_in_flight (server->rpc);
    }
  gsi_serve_drain (server->serve);
  gsi_rpc_stop (server->rpc);
  gsi_serve_stop (server->serve);
  gsi_registry_stop (server->registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_timers_stop (server->timers);
  gsi_router_stop (server->router);
  gsi_pool_stop (server->participants);
  gsi_pool_stop (server->streams);
  gsi_pool_stop (server->workers);
  gsi_registry_stop (server->registry, GSI_KINDS_INNER);
  gsi_log (server->log, GS_LOG_INFO, "server.stopped", GS_TEXT ("config", server->config_path));
}

void
gsi_server_free (GsiServer *server)
{
  if (server == NULL)
    return;
  gsi_timers_free (server->timers);
  gsi_pool_free (server->participants);
  gsi_pool_free (server->streams);
  gsi_pool_free (server->workers);
  gsi_serve_free (server->serve);
  gsi_router_free (server->router);
  gsi_registry_free (server->registry);
  gsi_host_free (server->host);
  gsi_rpc_free (server->rpc);
  gsi_metrics_free (server->metrics);
  gsi_crash_forget_log ();
  gsi_log_free (server->log);
  g_clear_pointer (&server->suspects, g_hash_table_destroy);
  g_ptr_array_unref (server->exports);
  g_ptr_array_unref (server->storages);
  g_ptr_array_unref (server->groups);
  g_free (server->config_path);
  g_free (server);
}

gboolean
gsi_server_reload (GsiServer *server, GError **error)
{
  g_autoptr (GsiRegistry) fresh = gsi_registry_load (server->config_path, error);
  g_autofree char *topics = NULL;
  GsiLogSettings settings;
  if (fresh == NULL)
    return FALSE;
  settings = log_settings (gsi_registry_server (fresh), &topics);
  return gsi_log_reopen (server->log, error) && gsi_log_set_levels (server->log, &settings, error);
}

char **
gsi_server_endpoints (GsiServer *server)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new ();
  for (GsiInstance *const *one = gsi_registry_all (server->registry, GS_KIND_TRANSPORT); *one != NULL; one++)
    {
      g_autofree char **urls = NULL;
      if (!gsi_instance_running (*one))
        continue;
      urls = GSI_OPS (*one, GsTransportOps)->endpoints (GSI_SELF (*one));
      for (guint i = 0; urls != NULL && urls[i] != NULL; i++)
        g_ptr_array_add (all, urls[i]);
    }
  g_ptr_array_add (all, NULL);
  return (char **) g_ptr_array_free (g_steal_pointer (&all), FALSE);
}

GsiLog *
gsi_server_log (GsiServer *server)
{
  return server->log;
}
