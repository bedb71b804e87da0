/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the instances: load, create, start, drain, stop, destroy. See registry.h. */
#include "plugin/turns.h"

#include "base/clock.h"
#include "base/text.h"

#include <string.h>

/* ------------------------------------------------------------------------------------------- loading */

static void
virtual_free (gpointer data)
{
  GsiVirtual *virtual = data;
  g_free (virtual->name);
  g_strfreev (virtual->storages);
  g_ptr_array_unref (virtual->instances);
  g_free (virtual);
}

static GPtrArray *
list_new (void)
{
  GPtrArray *list = g_ptr_array_new ();
  g_ptr_array_add (list, NULL);
  return list;
}

static GsiRegistry *
registry_new (GsiConfigFile *config, const GsiRegistry *before, GsiProblems *problems, GError **error)
{
  g_autoptr (GsiRegistry) registry = g_new0 (GsiRegistry, 1);

  registry->config = config;
  registry->instances = g_ptr_array_new ();
  for (guint32 kind = 0; kind <= GS_KIND_MAX; kind++)
    registry->by_kind[kind] = list_new ();
  registry->virtuals = g_ptr_array_new_with_free_func (virtual_free);
  registry->virtual_list = list_new ();
  registry->order = g_ptr_array_new ();
  registry->core_options = g_hash_table_new_full (NULL, NULL, NULL, (GDestroyNotify) gsi_options_free);
  registry->started = g_ptr_array_new ();
  /* What is not YAML says nothing about sections. */
  if (gsi_problems_count (problems) == 0 || gsi_config_root (config)->n_items > 0)
    {
      gsi_settings_read (registry, before, problems);
      gsi_order_resolve (registry, problems);
    }
  return gsi_problems_check (problems, error) ? g_steal_pointer (&registry) : NULL;
}

GsiRegistry *
gsi_registry_load (const char *path, GError **error)
{
  return gsi_registry_load_after (path, NULL, error);
}

GsiRegistry *
gsi_registry_load_after (const char *path, const GsiRegistry *before, GError **error)
{
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  return registry_new (gsi_config_load (path, problems), before, problems, error);
}

GsiRegistry *
gsi_registry_parse (const char *name, const char *text, GError **error)
{
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  return registry_new (gsi_config_parse (name, text, strlen (text), problems), NULL, problems, error);
}

/* Those that no other registry holds. */
static void
destroy_instances (GsiRegistry *registry)
{
  for (guint i = registry->order->len; i-- > 0;)
    {
      GsiInstance *instance = g_ptr_array_index (registry->order, i);
      if (!instance->created || instance->refs > 1)
        continue;
      /* One that was never started may have been given work too. */
      gsi_host_quiesce (instance->host);
      gsi_layers_destroy (instance);
      instance->plugin->plugin.destroy (instance->pub.self);
      instance->created = FALSE;
      instance->pub.self = instance->outer.self = NULL;
    }
}

void
gsi_registry_free (GsiRegistry *registry)
{
  if (registry == NULL)
    return;
  gsi_registry_adjusted (registry, FALSE);
  gsi_registry_stop (registry, GSI_KINDS_ALL);
  destroy_instances (registry);
  for (guint i = 0; i < registry->instances->len; i++)
    gsi_instance_unref (g_ptr_array_index (registry->instances, i));
  g_ptr_array_unref (registry->instances);
  for (guint32 kind = 0; kind <= GS_KIND_MAX; kind++)
    g_ptr_array_unref (registry->by_kind[kind]);
  g_ptr_array_unref (registry->virtual_list);
  g_ptr_array_unref (registry->virtuals);
  g_ptr_array_unref (registry->order);
  g_ptr_array_unref (registry->started);
  g_hash_table_unref (registry->core_options);
  gsi_options_free (registry->server);
  gsi_loader_free (registry->loader);
  gsi_config_free (registry->config);
  g_free (registry);
}

/* ---------------------------------------------------------------------------------------- looking up */

const GsiOptions *
gsi_registry_server (const GsiRegistry *registry)
{
  return registry->server;
}

const GsiOptions *
gsi_registry_core_options (const GsiRegistry *registry, const GsiInstance *storage)
{
  return g_hash_table_lookup (registry->core_options, storage);
}

GsiLoader *
gsi_registry_loader (const GsiRegistry *registry)
{
  return registry->loader;
}

GsiInstance *
gsi_registry_get (const GsiRegistry *registry, guint32 kind, const char *name)
{
  for (guint i = 0; i + 1 < registry->by_kind[kind]->len; i++)
    {
      GsiInstance *instance = g_ptr_array_index (registry->by_kind[kind], i);
      if (name == NULL || strcmp (instance->name, name) == 0)
        return instance;
    }
  return NULL;
}

GsiInstance *const *
gsi_registry_all (const GsiRegistry *registry, guint32 kind)
{
  return (GsiInstance *const *) registry->by_kind[kind]->pdata;
}

const GsiVirtualStorage *const *
gsi_registry_virtual_storages (const GsiRegistry *registry)
{
  return (const GsiVirtualStorage *const *) registry->virtual_list->pdata;
}

const GsiVirtualStorage *
gsi_registry_virtual_storage (const GsiRegistry *registry, const char *name)
{
  for (guint i = 0; i + 1 < registry->virtual_list->len; i++)
    {
      const GsiVirtualStorage *virtual = g_ptr_array_index (registry->virtual_list, i);
      if (name == NULL || name[0] == '\0' || strcmp (virtual->name, name) == 0)
        return virtual;
    }
  return NULL;
}

/* --------------------------------------------------------------------------------------------- life */

/* host->need: only what is running can be used, so a need asked for too early shows. */
static gboolean
find_need (gpointer user, const char *role, GsInstance *ret_instance)
{
  const GsiInstance *instance = user;
  const GsNeed *needs = instance->plugin->plugin.needs;

  for (gsize i = 0; i < instance->n_needs; i++)
    if (strcmp (needs[i].role, role) == 0 && instance->needs[i] != NULL && instance->needs[i]->running)
      {
        *ret_instance = instance->needs[i]->outer;
        return TRUE;
      }
  return FALSE;
}

/* Puts who and where before a plugin's own message, and makes one when it gave none. */
static void
tell (const GsiInstance *instance, const char *doing, const char *slot, GError *found, GError **error)
{
  const GsiPlugin *plugin = instance->plugin;

  if (found != NULL)
    gs_fail (error, (GsErrorCode) gs_error_code (found), "%s %s (plugin %s %s): %s", doing, instance->label,
             plugin->plugin.name, plugin->plugin.version, found->message);
  else
    gs_fail (error, GS_ERROR_INTERNAL,
             "%s %s (plugin %s %s): its %s function failed without saying why. This is a bug of %s", doing,
             instance->label, plugin->plugin.name, plugin->plugin.version, slot, plugin->path);
}

gboolean
gsi_registry_create (GsiRegistry *registry, const GsiHostSetup *setup, GError **error)
{
  for (guint i = 0; i < registry->order->len; i++)
    {
      GsiInstance *instance = g_ptr_array_index (registry->order, i);
      const GsPlugin *plugin = &instance->plugin->plugin;
      g_autoptr (GError) failed = NULL;

      if (instance->created)
        continue; /* carried over */
      instance->host = gsi_host_new (setup, instance->label, find_need, instance);
      instance->pub.ops = plugin->ops;
      instance->pub.self
          = plugin->create (gsi_host_get (instance->host), gsi_options_config (instance->options), &failed);
      if (instance->pub.self == NULL)
        {
          tell (instance, "Creating", "create", failed, error);
          destroy_instances (registry);
          return FALSE;
        }
      instance->created = TRUE;
      if (!gsi_layers_create (instance, setup, error))
        {
          destroy_instances (registry);
          return FALSE;
        }
      gsi_turns_wrap (instance);
      gsi_log (setup->log, GS_LOG_DEBUG, "plugin.created", GS_TEXT ("for", instance->label),
               GS_TEXT ("plugin", plugin->name), GS_TEXT ("version", plugin->version),
               GS_TEXT ("path", instance->plugin->path));
    }
  return TRUE;
}

static GsiLog *
log_of (const GsiInstance *instance)
{
  return gsi_host_log (instance->host);
}

static gboolean
start_one (GsiInstance *instance, GError **error)
{
  const GsPlugin *plugin = &instance->plugin->plugin;
  g_autoptr (GError) failed = NULL;
  gint64 began = gsi_clock_now_us ();

  if (!instance->created || instance->stopped)
    return gs_fail (error, GS_ERROR_INTERNAL, "Starting %s: it was %s", instance->label,
                    instance->stopped ? "stopped before" : "never created");
  for (gsize i = 0; i < instance->n_needs; i++)
    if (instance->needs[i] != NULL && !instance->needs[i]->running)
      return gs_fail (error, GS_ERROR_INTERNAL, "Starting %s: %s, which it needs, is not running", instance->label,
                      instance->needs[i]->label);
  if (plugin->kind == GS_KIND_TRANSPORT && !gsi_host_takes_calls (instance->host))
    return gs_fail (error, GS_ERROR_INTERNAL, "Starting %s: nobody is there to take its calls", instance->label);
  if (!gsi_layers_start (instance, error))
    {
      instance->stopped = TRUE;
      return FALSE;
    }
  if (plugin->start != NULL && !plugin->start (instance->pub.self, &failed))
    {
      tell (instance, "Starting", "start", failed, error);
      gsi_host_quiesce (instance->host);
      gsi_layers_stop (instance);
      instance->stopped = TRUE;
      return FALSE;
    }
  instance->running = TRUE;
  gsi_log (log_of (instance), GS_LOG_INFO, "plugin.started", GS_TEXT ("for", instance->label),
           GS_TEXT ("plugin", plugin->name), GS_TEXT ("version", plugin->version),
           GS_TEXT ("path", instance->plugin->path), GS_NUMBER ("us", gsi_clock_now_us () - began));
  return TRUE;
}

static void
stop_one (GsiInstance *instance)
{
  const GsPlugin *plugin = &instance->plugin->plugin;
  gint64 began = gsi_clock_now_us ();

  if (plugin->stop != NULL)
    plugin->stop (instance->pub.self);
  gsi_host_quiesce (instance->host);
  gsi_layers_stop (instance);
  instance->running = FALSE;
  instance->stopped = TRUE;
  gsi_log (log_of (instance), GS_LOG_INFO, "plugin.stopped", GS_TEXT ("for", instance->label),
           GS_NUMBER ("us", gsi_clock_now_us () - began));
}

void
gsi_instance_hold (GsiInstance *instance)
{
  instance->refs++;
  for (gsize i = 0; i < instance->n_needs; i++)
    if (instance->needs[i] != NULL)
      gsi_instance_hold (instance->needs[i]);
}

void
gsi_instance_release (GsiInstance *instance)
{
  gsize n_needs = instance->n_needs;
  g_autofree GsiInstance **needs = g_memdup2 (instance->needs, n_needs * sizeof (GsiInstance *));
  if (instance->refs == 1)
    {
      if (instance->running)
        stop_one (instance);
      if (instance->created)
        {
          gsi_host_quiesce (instance->host);
          gsi_layers_destroy (instance);
          instance->plugin->plugin.destroy (instance->pub.self);
        }
    }
  gsi_instance_unref (instance);
  for (gsize i = 0; i < n_needs; i++)
    if (needs[i] != NULL)
      gsi_instance_release (needs[i]);
}

/* Stops the last started ones of @kinds until @keep are left; those that another registry holds only when @shared. */
static void
stop_down_to (GsiRegistry *registry, guint32 kinds, guint keep, gboolean shared)
{
  for (guint i = registry->started->len; i-- > keep;)
    {
      GsiInstance *instance = g_ptr_array_index (registry->started, i);
      if ((kinds & GSI_KIND_BIT (instance->pub.kind)) == 0)
        continue;
      if (instance->refs > 1 && !shared)
        continue;
      if (instance->running) /* else it was stopped by way of another registry */
        stop_one (instance);
      g_ptr_array_remove_index (registry->started, i);
    }
}

gboolean
gsi_registry_start (GsiRegistry *registry, guint32 kinds, GError **error)
{
  guint before = registry->started->len;

  for (guint i = 0; i < registry->order->len; i++)
    {
      GsiInstance *instance = g_ptr_array_index (registry->order, i);
      if ((kinds & GSI_KIND_BIT (instance->pub.kind)) == 0
          || (instance->running && g_ptr_array_find (registry->started, instance, NULL)))
        continue;
      if (!instance->running && !start_one (instance, error))
        {
          stop_down_to (registry, GSI_KINDS_ALL, before, FALSE);
          return FALSE;
        }
      g_ptr_array_add (registry->started, instance);
    }
  return TRUE;
}

void
gsi_registry_drain (GsiRegistry *registry, guint32 kinds)
{
  for (guint i = registry->started->len; i-- > 0;)
    {
      GsiInstance *instance = g_ptr_array_index (registry->started, i);
      if ((kinds & GSI_KIND_BIT (instance->pub.kind)) == 0)
        continue;
      gsi_layers_drain (instance);
      if (instance->plugin->plugin.drain != NULL)
        instance->plugin->plugin.drain (instance->pub.self);
    }
}

void
gsi_registry_stop (GsiRegistry *registry, guint32 kinds)
{
  stop_down_to (registry, kinds, 0, FALSE);
}

void
gsi_registry_end (GsiRegistry *registry, guint32 kinds)
{
  stop_down_to (registry, kinds, 0, TRUE);
}

/* ----------------------------------------------------------------------------------------- printing */

static void
print_instance (const GsiRegistry *registry, const GsiInstance *instance, const char *lead, guint indent, GString *out)
{
  const GsiOptions *core_options = gsi_registry_core_options (registry, instance);

  g_string_append_printf (out, "%sname: %s\n%*splugin: ", lead, instance->name, (int) indent, "");
  gsi_text_append_json (out, instance->plugin->path, -1);
  g_string_append_c (out, '\n');
  for (gsize i = 0; i < instance->n_needs; i++)
    if (instance->needs[i] != NULL)
      g_string_append_printf (out, "%*s%s: %s\n", (int) indent, "", instance->plugin->plugin.needs[i].role,
                              instance->needs[i]->name);
  if (core_options != NULL)
    gsi_options_print (core_options, indent, out);
  gsi_options_print (instance->options, indent, out);
  gsi_layers_print (instance, indent, out);
}

static void
print_kind (const GsiRegistry *registry, guint32 kind, const char *section, GString *out)
{
  g_string_append_printf (out, "%s:\n", section);
  for (GsiInstance *const *instance = gsi_registry_all (registry, kind); *instance != NULL; instance++)
    print_instance (registry, *instance, "  - ", 4, out);
}

/* Policies beside those of virtual storages, which stand there. */
static void
print_policies (const GsiRegistry *registry, GString *out)
{
  gboolean any = FALSE;
  for (GsiInstance *const *instance = gsi_registry_all (registry, GS_KIND_CONSISTENCY); *instance != NULL; instance++)
    {
      gboolean own = FALSE;
      for (const GsiVirtualStorage *const *at = gsi_registry_virtual_storages (registry); *at != NULL; at++)
        own = own || (*at)->consistency == *instance;
      if (own)
        continue;
      if (!any)
        g_string_append (out, "consistencies:\n");
      any = TRUE;
      print_instance (registry, *instance, "  - ", 4, out);
    }
}

char *
gsi_registry_print (const GsiRegistry *registry)
{
  GString *out = g_string_new ("server:\n");

  gsi_options_print (registry->server, 2, out);
  g_string_append (out, "plugin_path:\n");
  for (const char *const *folder = gsi_loader_folders (registry->loader); *folder != NULL; folder++)
    {
      g_string_append (out, "  - ");
      gsi_text_append_json (out, *folder, -1);
      g_string_append_c (out, '\n');
    }
  print_kind (registry, GS_KIND_METADATA, "metadata", out);
  print_kind (registry, GS_KIND_ACCESS, "access", out);
  print_kind (registry, GS_KIND_CACHE, "cache", out);
  print_kind (registry, GS_KIND_STORAGE, "storages", out);
  print_policies (registry, out);
  if (gsi_registry_virtual_storages (registry)[0] != NULL)
    g_string_append (out, "virtual_storages:\n");
  for (const GsiVirtualStorage *const *at = gsi_registry_virtual_storages (registry); *at != NULL; at++)
    {
      g_autofree char *storages = g_strjoinv (", ", (char **) (*at)->storages);
      g_string_append_printf (out, "  - name: %s\n    storages: [%s]\n    copies: %" G_GSIZE_FORMAT
                              "\n    min_copies: %" G_GSIZE_FORMAT "\n",
                              (*at)->name, storages, (*at)->copies, (*at)->min_copies);
      print_instance (registry, (*at)->routing, "    routing:\n      ", 6, out);
      print_instance (registry, (*at)->consistency, "    consistency:\n      ", 6, out);
    }
  print_kind (registry, GS_KIND_TRANSPORT, "transports", out);
  return g_string_free (out, FALSE);
}
