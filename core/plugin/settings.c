/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of the config file, read into instances and virtual storages. See registry.h for their shape. */
#include "plugin/registry-private.h"

#include "base/text.h"

#include <string.h>

/* What stands in for a section "cache" that is not there. */
#define CACHE_WHEN_UNSET "none"

static const char *const sections[] = { "server",   "plugin_path",      "metadata",   "access",  "cache",
                                        "storages", "virtual_storages", "transports", "include", "consistencies",
                                        NULL };

/* --------------------------------------------------------------------------------------- messages */

char *
gsi_settings_found (GsiRegistry *registry, guint32 kind)
{
  g_auto (GStrv) names = gsi_loader_names (registry->loader, kind);
  g_autofree char *all = g_strjoinv (", ", names);
  g_autofree char *folders = NULL;

  if (names[0] != NULL)
    return g_strdup_printf ("found: %s", all);
  folders = g_strjoinv (", ", (char **) gsi_loader_folders (registry->loader));
  return g_strdup_printf ("no such plugin was found in %s", folders);
}

char *
gsi_settings_line (guint32 kind)
{
  switch (kind)
    {
    case GS_KIND_STORAGE:
      return g_strdup ("storages: [{name: NAME, plugin: PLUGIN}]");
    case GS_KIND_TRANSPORT:
      return g_strdup ("transports: [{plugin: PLUGIN}]");
    default:
      return g_strdup_printf ("%s: {plugin: PLUGIN}", gsi_kind_name (kind));
    }
}

static void
complain_missing (GsiRegistry *registry, guint32 kind, GsiProblems *problems)
{
  g_autofree char *line = gsi_settings_line (kind), *found = gsi_settings_found (registry, kind);
  gsi_problems_add_file (problems, gsi_config_path (registry->config), "there is no %s: add \"%s\" (%s)",
                         gsi_kind_name (kind), line, found);
}

static void
check_sections (const GsiNode *root, GsiProblems *problems)
{
  for (guint i = 0; i < root->n_items; i++)
    {
      const char *key = root->keys[i]->text, *nearest;
      g_autofree char *all = NULL;
      if (g_strv_contains (sections, key))
        continue;
      nearest = gsi_text_nearest (key, sections, G_N_ELEMENTS (sections));
      all = g_strjoinv (", ", (char **) sections);
      if (nearest != NULL)
        gsi_problems_add (problems, root->keys[i], "there is no section \"%s\"; did you mean \"%s\"?", key, nearest);
      else
        gsi_problems_add (problems, root->keys[i], "there is no section \"%s\"; known: %s", key, all);
    }
}

/* --------------------------------------------------------------------------------------- instances */

/* The text of a key that must be one. NULL with a problem unless it is simply absent. */
static const char *
text_of (const GsiNode *mapping, const char *key, const char *what, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (mapping, key);

  if (node == NULL)
    return NULL;
  if (node->type == GSI_NODE_SCALAR && !node->empty && node->text[0] != '\0')
    return node->text;
  gsi_problems_add (problems, node, "%s: %s wants a name, not %s", what, key, gsi_node_kind (node));
  return NULL;
}

/* An instance's name: as written, or @fallback. NULL when there is none. */
static const char *
name_of (const GsiNode *mapping, const char *what, const char *fallback, GsiProblems *problems)
{
  const char *name = text_of (mapping, "name", what, problems);

  if (name != NULL && !gsi_name_is_fine (name, -1))
    {
      gsi_problems_add (problems, gsi_node_get (mapping, "name"),
                        "%s: \"%s\" is no name: want [a-z][a-z0-9-]*, at most %d bytes", what, name, GSI_NAME_MAX);
      return NULL;
    }
  if (name == NULL && fallback == NULL && gsi_node_get (mapping, "name") == NULL)
    gsi_problems_add (problems, mapping, "%s: it has no name: add \"name: NAME\"", what);
  return name != NULL ? name : fallback;
}

#define ZONE_MAX 64

/* ZONE or ZONE/RACK. */
static gboolean
zone_is_fine (const char *zone)
{
  gsize n = strlen (zone), n_slashes = 0;

  if (n > ZONE_MAX || zone[0] == '/' || zone[n - 1] == '/')
    return FALSE;
  for (gsize i = 0; i < n; i++)
    if (zone[i] == '/')
      n_slashes++;
    else if (!g_ascii_isalnum (zone[i]) && strchr ("-_.", zone[i]) == NULL)
      return FALSE;
  return n_slashes <= 1;
}

/* Stands in for a mapping that nobody wrote: relative fallbacks belong to the first file's folder all the same. */
static GsiNode
empty_mapping (const GsiRegistry *registry)
{
  return (GsiNode){ .type = GSI_NODE_MAPPING, .file = gsi_config_path (registry->config) };
}

static void
load_plugin (GsiRegistry *registry, GsiInstance *instance, const char *plugin_name, const GsiNode *at,
             GsiProblems *problems)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) others = g_ptr_array_new ();
  const GsiNode nothing = empty_mapping (registry);

  gsi_layers_read (registry, instance, problems);
  instance->plugin = gsi_loader_load (registry->loader, instance->pub.kind, plugin_name, &error);
  if (instance->plugin == NULL)
    {
      gsi_problems_add (problems, at, "%s: %s", instance->label, error->message);
      return;
    }
  for (const char *const *key = gsi_plugin_keys (instance->pub.kind); *key != NULL; key++)
    g_ptr_array_add (others, (gpointer) *key);
  for (const GsNeed *need = instance->plugin->plugin.needs; need != NULL && need->role != NULL; need++)
    g_ptr_array_add (others, (gpointer) need->role);
  g_ptr_array_add (others, NULL);
  instance->options
      = gsi_options_new (instance->plugin->plugin.options, instance->node != NULL ? instance->node : &nothing,
                         instance->label, (const char *const *) others->pdata, problems);
}

/* The core's own keys of a storage. Those of the plugin have been checked with the plugin's rows. */
static void
read_storage (GsiRegistry *registry, GsiInstance *instance, GsiProblems *problems)
{
  GsiOptions *options;
  g_autoptr (GPtrArray) others = g_ptr_array_new ();
  const char *zone;

  for (guint i = 0; i < instance->node->n_items; i++)
    g_ptr_array_add (others, (gpointer) instance->node->keys[i]->text);
  g_ptr_array_add (others, NULL);
  options = gsi_options_new (gsi_storage_options, instance->node, instance->label, (const char *const *) others->pdata,
                             problems);
  g_hash_table_insert (registry->core_options, instance, options);
  zone = gsi_options_string (options, "zone");
  if (zone != NULL && zone[0] != '\0' && !zone_is_fine (zone))
    gsi_problems_add (problems, gsi_node_get (instance->node, "zone"),
                      "%s: \"%s\" is no zone: want ZONE or ZONE/RACK of letters, digits, \"-\", \"_\" and \".\", at most "
                      "%d bytes",
                      instance->label, zone, ZONE_MAX);
}

/* Reads one plugin mapping. @fallback: its name when it gives none, "" for the plugin's own. NULL with problems. */
static GsiInstance *
read_instance (GsiRegistry *registry, guint32 kind, const GsiNode *node, const char *fallback, GsiProblems *problems)
{
  const char *what = gsi_kind_name (kind), *plugin_name, *name;
  GsiInstance *instance;

  if (node->type != GSI_NODE_MAPPING)
    {
      gsi_problems_add (problems, node, "%s: want a mapping such as {plugin: NAME, …}, not %s", what,
                        gsi_node_kind (node));
      return NULL;
    }
  plugin_name = text_of (node, "plugin", what, problems);
  if (plugin_name == NULL && gsi_node_get (node, "plugin") == NULL)
    {
      g_autofree char *found = gsi_settings_found (registry, kind);
      gsi_problems_add (problems, node, "%s: it does not say which plugin: add \"plugin: PLUGIN\" (%s)", what, found);
    }
  if (fallback != NULL && fallback[0] == '\0')
    fallback = plugin_name != NULL && gsi_name_is_fine (plugin_name, -1) ? plugin_name : NULL;
  name = name_of (node, what, fallback, problems);
  if (name == NULL)
    return NULL;
  if ((instance = gsi_registry_get (registry, kind, name)) != NULL)
    {
      gsi_problems_add (problems, node,
                        "there is another %s instance called \"%s\"%s: add \"name: NAME\" with another name", what,
                        name, gsi_node_get (node, "name") != NULL ? "" : " (by default)");
      return NULL;
    }
  instance = gsi_instance_new (registry, kind, name, node);
  if (kind == GS_KIND_STORAGE)
    read_storage (registry, instance, problems);
  if (plugin_name != NULL)
    load_plugin (registry, instance, plugin_name, gsi_node_get (node, "plugin"), problems);
  return instance;
}

/* A section of one mapping or several. */
static void
read_kind (GsiRegistry *registry, guint32 kind, const char *section, const char *fallback, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (gsi_config_root (registry->config), section);

  if (node == NULL || (node->type == GSI_NODE_SEQUENCE && node->n_items == 0))
    {
      complain_missing (registry, kind, problems);
      return;
    }
  if (node->type == GSI_NODE_SEQUENCE)
    for (guint i = 0; i < node->n_items; i++)
      read_instance (registry, kind, node->items[i], fallback, problems);
  else
    read_instance (registry, kind, node, fallback, problems);
}

static void
read_cache (GsiRegistry *registry, GsiProblems *problems)
{
  GsiInstance *instance;

  if (gsi_node_get (gsi_config_root (registry->config), "cache") != NULL)
    {
      read_kind (registry, GS_KIND_CACHE, "cache", "default", problems);
      return;
    }
  instance = gsi_instance_new (registry, GS_KIND_CACHE, "default", NULL);
  load_plugin (registry, instance, CACHE_WHEN_UNSET, NULL, problems);
}

/* Policies that repositories may have instead of their virtual storage's. */
static void
read_policies (GsiRegistry *registry, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (gsi_config_root (registry->config), "consistencies");
  if (node == NULL)
    return;
  if (node->type != GSI_NODE_SEQUENCE)
    gsi_problems_add (problems, node, "consistencies: want a sequence of mappings, not %s", gsi_node_kind (node));
  for (guint i = 0; node->type == GSI_NODE_SEQUENCE && i < node->n_items; i++)
    read_instance (registry, GS_KIND_CONSISTENCY, node->items[i], NULL, problems);
}

/* --------------------------------------------------------------------------------- virtual storages */

static const GsOption virtual_options[] = {
  { .key = "storages",
    .type = GS_OPTION_LIST,
    .flags = GS_OPTION_REQUIRED,
    .help = "Names of the storages that hold its repositories." },
  { .key = "copies",
    .type = GS_OPTION_INT,
    .fallback = "1",
    .min = 1,
    .max = 64,
    .help = "Replicas that a new repository gets, each on another of its storages." },
  { .key = "min_copies",
    .type = GS_OPTION_INT,
    .fallback = "1",
    .min = 1,
    .max = 64,
    .help = "A write is never acknowledged with fewer durable copies." },
  { .key = NULL },
};

static void
read_members (GsiRegistry *registry, GsiVirtual *virtual, const GsiOptions *options, GsiProblems *problems)
{
  const char *const *names = gsi_options_list (options, "storages");
  const GsiNode *node = gsi_node_get (virtual->node, "storages");
  g_autoptr (GPtrArray) all = g_ptr_array_new ();

  for (guint i = 0; i + 1 < registry->by_kind[GS_KIND_STORAGE]->len; i++)
    g_ptr_array_add (all, ((GsiInstance *) g_ptr_array_index (registry->by_kind[GS_KIND_STORAGE], i))->name);
  for (gsize i = 0; names[i] != NULL; i++)
    {
      GsiInstance *instance = gsi_registry_get (registry, GS_KIND_STORAGE, names[i]);
      const GsiNode *at = node->type == GSI_NODE_SEQUENCE && i < node->n_items ? node->items[i] : node;
      const char *nearest = gsi_text_nearest (names[i], (const char *const *) all->pdata, all->len);

      if (instance == NULL)
        gsi_problems_add (problems, at, "virtual storage %s: there is no storage \"%s\"%s%s%s", virtual->name, names[i],
                          nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
                          nearest != NULL ? "\"?" : "");
      else if (g_ptr_array_find (virtual->instances, instance, NULL))
        gsi_problems_add (problems, at, "virtual storage %s: the storage \"%s\" stands twice", virtual->name, names[i]);
      else
        g_ptr_array_add (virtual->instances, instance);
    }
  if (names[0] == NULL && node != NULL && node->type == GSI_NODE_SEQUENCE && node->n_items == 0)
    gsi_problems_add (problems, node, "virtual storage %s: it has no storages", virtual->name);
  virtual->storages = g_strdupv ((char **) names);
}

static GsiInstance *
read_engine (GsiRegistry *registry, GsiVirtual *virtual, guint32 kind, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (virtual->node, gsi_kind_name (kind));

  if (node == NULL)
    {
      g_autofree char *found = gsi_settings_found (registry, kind);
      gsi_problems_add (problems, virtual->node, "virtual storage %s: it has no %s: add \"%s: {plugin: PLUGIN}\" (%s)",
                        virtual->name, gsi_kind_name (kind), gsi_kind_name (kind), found);
      return NULL;
    }
  return read_instance (registry, kind, node, virtual->name, problems);
}

static void
read_virtual (GsiRegistry *registry, const GsiNode *node, GsiProblems *problems)
{
  static const char *const others[] = { "name", "routing", "consistency", NULL };
  g_autoptr (GsiOptions) options = NULL;
  g_autofree char *what = NULL;
  GsiVirtual *virtual;
  const char *name;

  if (node->type != GSI_NODE_MAPPING)
    {
      gsi_problems_add (problems, node,
                        "virtual_storages: want mappings such as {name: NAME, storages: [NAME], …}, not %s",
                        gsi_node_kind (node));
      return;
    }
  name = name_of (node, "virtual storage", NULL, problems);
  if (name == NULL)
    return;
  if (gsi_registry_virtual_storage (registry, name) != NULL)
    {
      gsi_problems_add (problems, node, "there is another virtual storage called \"%s\"", name);
      return;
    }
  virtual = g_new0 (GsiVirtual, 1);
  virtual->name = g_strdup (name);
  virtual->node = node;
  virtual->instances = g_ptr_array_new ();
  what = g_strdup_printf ("virtual storage %s", name);
  options = gsi_options_new (virtual_options, node, what, others, problems);
  read_members (registry, virtual, options, problems);
  virtual->pub.name = virtual->name;
  virtual->pub.storages = (const char *const *) virtual->storages;
  virtual->pub.n_storages = virtual->instances->len;
  virtual->pub.copies = (gsize) gsi_options_integer (options, "copies");
  virtual->pub.min_copies = (gsize) gsi_options_integer (options, "min_copies");
  if (virtual->pub.n_storages > 0 && virtual->pub.copies > virtual->pub.n_storages)
    gsi_problems_add (problems, gsi_node_get (node, "copies"),
                      "%s: copies is %" G_GSIZE_FORMAT ", but it has only %" G_GSIZE_FORMAT " storages", what,
                      virtual->pub.copies, virtual->pub.n_storages);
  else if (virtual->pub.min_copies > virtual->pub.copies && virtual->pub.min_copies <= virtual->pub.n_storages)
    gsi_problems_add (problems, gsi_node_get (node, "min_copies"),
                      "%s: min_copies is %" G_GSIZE_FORMAT ", but a repository gets only %" G_GSIZE_FORMAT
                      " copies, so it could never be written",
                      what, virtual->pub.min_copies, virtual->pub.copies);
  if (virtual->pub.n_storages > 0 && virtual->pub.min_copies > virtual->pub.n_storages)
    gsi_problems_add (problems, gsi_node_get (node, "min_copies"),
                      "%s: min_copies is %" G_GSIZE_FORMAT ", but it has only %" G_GSIZE_FORMAT
                      " storages, so it could never be written",
                      what, virtual->pub.min_copies, virtual->pub.n_storages);
  g_ptr_array_add (virtual->instances, NULL);
  virtual->pub.instances = (GsiInstance *const *) virtual->instances->pdata;
  virtual->pub.routing = read_engine (registry, virtual, GS_KIND_ROUTING, problems);
  virtual->pub.consistency = read_engine (registry, virtual, GS_KIND_CONSISTENCY, problems);
  g_ptr_array_add (registry->virtuals, virtual);
  g_ptr_array_insert (registry->virtual_list, (gint) registry->virtual_list->len - 1, &virtual->pub);
}

static void
read_virtuals (GsiRegistry *registry, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (gsi_config_root (registry->config), "virtual_storages");

  /* A node needs none: clients come to the routers. */
  if (node == NULL && gsi_options_list (registry->server, "exports")[0] != NULL)
    return;
  if (node == NULL || (node->type == GSI_NODE_SEQUENCE && node->n_items == 0))
    gsi_problems_add_file (problems, gsi_config_path (registry->config),
                           "there is no virtual storage: add \"virtual_storages: [{name: default, storages: [NAME], "
                           "routing: {plugin: PLUGIN}, consistency: {plugin: PLUGIN}}]\"");
  else if (node->type != GSI_NODE_SEQUENCE)
    gsi_problems_add (problems, node, "virtual_storages: want a sequence of mappings, not %s", gsi_node_kind (node));
  else
    for (guint i = 0; i < node->n_items; i++)
      read_virtual (registry, node->items[i], problems);
}

/* --------------------------------------------------------------------------------------------- all */

static GsiLoader *
read_plugin_path (const GsiNode *root, GsiProblems *problems)
{
  const GsiNode *node = gsi_node_get (root, "plugin_path");
  g_autoptr (GPtrArray) folders = g_ptr_array_new_with_free_func (g_free);
  guint n = node == NULL ? 0 : node->type == GSI_NODE_SEQUENCE ? node->n_items : 1;

  for (guint i = 0; i < n; i++)
    {
      const GsiNode *item = node->type == GSI_NODE_SEQUENCE ? node->items[i] : node;
      g_autofree char *here = g_path_get_dirname (item->file);
      g_autofree char *base = g_canonicalize_filename (here, NULL);
      if (item->type == GSI_NODE_SCALAR && !item->empty && item->text[0] != '\0')
        g_ptr_array_add (folders, g_canonicalize_filename (item->text, base));
      else
        gsi_problems_add (problems, item, "plugin_path wants folders, not %s", gsi_node_kind (item));
    }
  g_ptr_array_add (folders, NULL);
  return gsi_loader_new ((const char *const *) folders->pdata);
}

void
gsi_settings_read (GsiRegistry *registry, const GsiRegistry *before, GsiProblems *problems)
{
  const GsiNode *root = gsi_config_root (registry->config);
  const GsiNode *server = gsi_node_get (root, "server");
  const GsiNode nothing = empty_mapping (registry);

  check_sections (root, problems);
  registry->loader = read_plugin_path (root, problems);
  if (before != NULL && g_strv_equal (gsi_loader_folders (before->loader), gsi_loader_folders (registry->loader)))
    {
      gsi_loader_free (registry->loader);
      registry->loader = gsi_loader_ref (before->loader);
    }
  if (server != NULL && server->type != GSI_NODE_MAPPING)
    {
      gsi_problems_add (problems, server, "server: want a mapping, not %s", gsi_node_kind (server));
      server = NULL;
    }
  registry->server = gsi_options_new (gsi_server_options, server != NULL ? server : &nothing, "server", NULL, problems);
  read_kind (registry, GS_KIND_METADATA, "metadata", "default", problems);
  read_kind (registry, GS_KIND_ACCESS, "access", "default", problems);
  read_cache (registry, problems);
  read_kind (registry, GS_KIND_STORAGE, "storages", NULL, problems);
  read_policies (registry, problems);
  read_virtuals (registry, problems);
  read_kind (registry, GS_KIND_TRANSPORT, "transports", "", problems);
}
