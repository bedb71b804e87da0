/* SPDX-License-Identifier: Apache-2.0 */
/* metadata.c - `gitstead metadata`: the schema of the metadata store. No server is needed, nor asked. */
#include "base/metrics.h"
#include "base/pool.h"
#include "cli.h"
#include "command.h"
#include "plugin/registry.h"

#include <gitstead/metadata.h>
#include <jansson.h>
#include <stdlib.h>

#define METRICS_MAX 100

static char *config_path;
static gboolean plan_only;

static const GOptionEntry status_options[]
    = { { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config_path, "The server's configuration file", "FILE" },
        G_OPTION_ENTRY_NULL };

static const GOptionEntry migrate_options[]
    = { { "config", 'c', 0, G_OPTION_ARG_FILENAME, &config_path, "The server's configuration file", "FILE" },
        { "plan", 0, 0, G_OPTION_ARG_NONE, &plan_only, "Only say how many steps there are to do", NULL },
        G_OPTION_ENTRY_NULL };

/* The one instance of a configuration that is looked at, with just what it needs of a host. */
typedef struct
{
  GsiRegistry *registry;
  const GsPlugin *plugin;
  GsConfig config; /* the file's, but nothing migrates by itself */
  const GsConfig *given;
  GsiMetrics *metrics;
  GsiPool *pool;
  GsiTimers *timers;
  GsiHost *host;
  gpointer self;
  gboolean started;
} Store;

static void
store_close (Store *store)
{
  if (store->started && store->plugin->stop != NULL)
    store->plugin->stop (store->self);
  if (store->timers != NULL)
    gsi_timers_stop (store->timers);
  if (store->pool != NULL)
    gsi_pool_stop (store->pool);
  if (store->host != NULL)
    gsi_host_quiesce (store->host);
  if (store->self != NULL)
    store->plugin->destroy (store->self);
  gsi_timers_free (store->timers);
  gsi_pool_free (store->pool);
  gsi_registry_free (store->registry);
  gsi_host_free (store->host);
  gsi_metrics_free (store->metrics);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Store, store_close)

static const char *
config_string (const GsConfig *config, const char *key)
{
  const GsConfig *given = ((Store *) config->priv)->given;
  return given->string (given, key);
}

static gint64
config_integer (const GsConfig *config, const char *key)
{
  const GsConfig *given = ((Store *) config->priv)->given;
  return given->integer (given, key);
}

static gboolean
config_boolean (const GsConfig *config, const char *key)
{
  const GsConfig *given = ((Store *) config->priv)->given;
  return strcmp (key, "auto_migrate") != 0 && given->boolean (given, key);
}

static const char *const *
config_list (const GsConfig *config, const char *key)
{
  const GsConfig *given = ((Store *) config->priv)->given;
  return given->list (given, key);
}

static gboolean
no_needs (gpointer user, const char *role, GsInstance *ret_instance)
{
  return FALSE;
}

static gboolean
make_host (Store *store, GError **error)
{
  GsiHostSetup setup = { 0 }; /* without a log: what goes wrong is said once, as the error */
  setup.metrics = store->metrics = gsi_metrics_new (METRICS_MAX);
  setup.pool = store->pool = gsi_pool_new ("worker", 1, 16, error);
  if (store->pool == NULL)
    return FALSE;
  setup.timers = store->timers = gsi_timers_new (store->pool, 16, error);
  if (store->timers == NULL)
    return FALSE;
  store->host = gsi_host_new (&setup, "metadata", no_needs, NULL);
  return TRUE;
}

static gboolean
store_open (Store *store, GError **error)
{
  GsiInstance *instance;
  store->registry = gsi_registry_load (config_path, error);
  if (store->registry == NULL || !make_host (store, error))
    return FALSE;
  instance = gsi_registry_get (store->registry, GS_KIND_METADATA, NULL);
  store->plugin = &gsi_instance_plugin (instance)->plugin;
  store->given = gsi_options_config (gsi_instance_options (instance));
  store->config = (GsConfig){ sizeof store->config, store, config_string, config_integer, config_boolean, config_list };
  store->self = store->plugin->create (gsi_host_get (store->host), &store->config, error);
  if (store->self == NULL)
    return FALSE;
  store->started = store->plugin->start == NULL || store->plugin->start (store->self, error);
  return store->started;
}

static void
print_json (const Store *store, guint pending, gboolean done)
{
  json_t *json = json_pack ("{s:s, s:i, s:b}", "plugin", store->plugin->name, done ? "steps_done" : "steps_missing",
                            (int) pending, "up_to_date", done || pending == 0);
  char *text = json_dumps (json, JSON_INDENT (2));
  if (text != NULL)
    g_print ("%s\n", text);
  free (text);
  json_decref (json);
}

/* @change FALSE: only looks. */
static int
run (const char *command, gboolean change)
{
  g_auto (Store) store = { 0 };
  g_autoptr (GError) error = NULL;
  guint pending = 0;
  if (config_path == NULL)
    return gsi_cli_usage (command, "--config FILE is missing");
  if (!store_open (&store, &error)
      || !((const GsMetadataOps *) store.plugin->ops)->migrate (store.self, NULL, !change, &pending, &error))
    return gsi_cli_fail_config (error, config_path,
                                change ? "cannot bring the metadata store up to date" : "cannot look at the metadata store");
  if (gsi_cli_json ())
    print_json (&store, pending, change);
  else if (pending == 0)
    gsi_cli_say ("The schema of the metadata store (%s) is up to date.", store.plugin->name);
  else if (change)
    gsi_cli_say ("The schema of the metadata store (%s) was brought up to date in %u steps.", store.plugin->name,
                 pending);
  else
    gsi_cli_say ("The schema of the metadata store (%s) is %u steps behind: run 'gitstead metadata migrate --config "
                 "%s'.",
                 store.plugin->name, pending, config_path);
  return change || pending == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

static int
status_run (int n_args, char **args)
{
  return run ("metadata status", FALSE);
}

static int
migrate_run (int n_args, char **args)
{
  return run ("metadata migrate", !plan_only);
}

const GsiVerb gsi_metadata_verbs[] = {
  { .name = "status",
    .arguments = "",
    .summary = "Say whether the schema is the one that this version needs",
    .about = "Exits with 0 when it is and with 1 when steps are missing, when a newer version made it, or when the "
             "store cannot be reached. Changes nothing, except that a new SQLite file gets its schema at once.",
    .examples = "  gitstead metadata status --config /etc/gitstead/gitstead.yaml",
    .options = status_options,
    .max_args = 0,
    .local = TRUE,
    .run = status_run },
  { .name = "migrate",
    .arguments = "",
    .summary = "Make the schema, or bring it up to date",
    .about = "Runs the steps that are missing, all in one transaction: it happens whole or not at all, and of two "
             "that run it at once one waits for the other. Back the store up before an upgrade: there is no way "
             "back but the backup.",
    .examples = "  gitstead metadata migrate --plan --config /etc/gitstead/gitstead.yaml\n"
                "  gitstead metadata migrate --config /etc/gitstead/gitstead.yaml",
    .options = migrate_options,
    .max_args = 0,
    .local = TRUE,
    .run = migrate_run },
  { NULL }
};
