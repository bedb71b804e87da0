/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a descriptor must be like. The order matters: nothing behind the frozen header is read before the header fits,
 * and nothing of the table before its size does.
 */
#include "plugin/loader-private.h"

#include "plugin/options.h"

#include <string.h>

#define ROWS_MAX 256
#define NEEDS_MAX 16

/* The first descriptor that was ever published ends here. */
#define STRUCT_SIZE_MIN (G_STRUCT_OFFSET (GsPlugin, destroy) + sizeof (gpointer))

const char *const *
gsi_plugin_keys (guint32 kind)
{
  static const char *const pure[] = { "plugin", "name", NULL };
  static const char *const common[] = { "plugin", "name", "layers", NULL };
  static const char *const storage[] = { "plugin", "name", "layers", "zone", "weight", NULL };
  if (!gsi_kind_has_layers (kind))
    return pure;
  return kind == GS_KIND_STORAGE ? storage : common;
}

gboolean
gsi_name_is_fine (const char *name, gssize len)
{
  gsize n = len < 0 ? strnlen (name, GSI_NAME_MAX + 1) : (gsize) len;

  if (n == 0 || n > GSI_NAME_MAX || !g_ascii_islower (name[0]))
    return FALSE;
  for (gsize i = 1; i < n; i++)
    if (!g_ascii_islower (name[i]) && !g_ascii_isdigit (name[i]) && name[i] != '-')
      return FALSE;
  return TRUE;
}

/* -------------------------------------------------------------------------------------- the version */

gboolean
gsi_abi_check_version (const GsAbi *abi, const GsiAbiRule *ours, GError **error)
{
  const char *remedy;

  if (abi->magic != GS_ABI_MAGIC)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "it is not a Gitstead plugin: its header begins with 0x%08x where 0x%08x should stand. Define the "
                    "descriptor with GS_PLUGIN_DEFINE",
                    abi->magic, GS_ABI_MAGIC);
  /* Before 1.0 there is no promise that could be kept: both numbers count. */
  if (abi->abi_major == ours->major
      && (ours->major == 0 ? abi->abi_minor == ours->minor : abi->abi_minor <= ours->minor))
    return TRUE;
  if (abi->abi_major > ours->major || (abi->abi_major == ours->major && abi->abi_minor > ours->minor))
    remedy = "Use a newer Gitstead, or build the plugin against this one's headers";
  else
    remedy = "Build the plugin again with this Gitstead's headers";
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it was built for plugin ABI %u.%u, this Gitstead has %u.%u. %s",
                  abi->abi_major, abi->abi_minor, ours->major, ours->minor, remedy);
}

gboolean
gsi_abi_check_sizes (const GsAbi *abi, const GsiAbiRule *ours, GError **error)
{
  if (abi->struct_size < ours->min_struct)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "its descriptor has %u bytes, too few for ABI %u.%u, where it has at least %u. Define it with "
                    "GS_PLUGIN_DEFINE and build it again",
                    abi->struct_size, abi->abi_major, abi->abi_minor, ours->min_struct);
  if (ours->major == 0 && (abi->struct_size != ours->struct_size || abi->ops_size != ours->ops_size))
    return gs_fail (
        error, GS_ERROR_FAILED_PRECONDITION,
        "its descriptor and table have %u and %u bytes where this Gitstead has %u and %u, although both say ABI "
        "%u.%u: the headers differ. Build the plugin again with this Gitstead's headers",
        abi->struct_size, abi->ops_size, ours->struct_size, ours->ops_size, abi->abi_major, abi->abi_minor);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- contents */

static gboolean
check_texts (const GsPlugin *plugin, GError **error)
{
  const struct
  {
    const char *what, *text;
  } texts[] = { { "version", plugin->version }, { "summary", plugin->summary }, { "license", plugin->license } };

  if (plugin->name == NULL || !gsi_name_is_fine (plugin->name, -1))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "its name \"%.40s\" is not [a-z][a-z0-9-]* with at most %d bytes",
                    plugin->name != NULL ? plugin->name : "", GSI_NAME_MAX);
  for (guint i = 0; i < G_N_ELEMENTS (texts); i++)
    if (texts[i].text == NULL || texts[i].text[0] == '\0' || strnlen (texts[i].text, 257) > 256
        || strchr (texts[i].text, '\n') != NULL || !g_utf8_validate (texts[i].text, -1, NULL))
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its %s is missing, or not one line of at most 256 bytes",
                      texts[i].what);
  return TRUE;
}

static gboolean
check_needs (const GsPlugin *plugin, GError **error)
{
  const GsNeed *needs = plugin->needs;

  if (needs == NULL)
    return TRUE;
  for (guint i = 0; needs[i].role != NULL; i++)
    {
      if (i == NEEDS_MAX)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has more than %d needs, or the list has no end",
                        NEEDS_MAX);
      if (!gsi_name_is_fine (needs[i].role, -1) || g_strv_contains (gsi_plugin_keys (plugin->kind), needs[i].role))
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its need \"%.40s\" has a bad or reserved role name",
                        needs[i].role);
      if (gsi_kind_name (needs[i].kind) == NULL)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its need \"%s\" is of kind %u, which there is not",
                        needs[i].role, needs[i].kind);
      for (guint j = 0; j < i; j++)
        if (strcmp (needs[i].role, needs[j].role) == 0)
          return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "its need \"%s\" stands twice", needs[i].role);
    }
  return TRUE;
}

static gboolean
check_options (const GsPlugin *plugin, GError **error)
{
  const char *reserved[8 + NEEDS_MAX] = { NULL }; /* the core's keys, the roles, the end */
  const char *const *keys = gsi_plugin_keys (plugin->kind);
  guint n = 0;

  for (; keys[n] != NULL; n++)
    reserved[n] = keys[n];
  for (guint i = 0; plugin->needs != NULL && plugin->needs[i].role != NULL; i++)
    reserved[n++] = plugin->needs[i].role;
  reserved[n] = NULL;
  return gsi_options_check_rows (plugin->options, reserved, error);
}

static gboolean
check_functions (const GsiPlugin *plugin, GError **error)
{
  g_autoptr (GString) missing = g_string_new (NULL);
  const char *kind = gsi_kind_name (plugin->plugin.kind);

  if ((plugin->plugin.adjust == NULL) != (plugin->plugin.adjusted == NULL))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has %s without %s: fill in both or neither",
                    plugin->plugin.adjust != NULL ? "adjust" : "adjusted",
                    plugin->plugin.adjust != NULL ? "adjusted" : "adjust");
  if (plugin->plugin.create == NULL || plugin->plugin.destroy == NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has no %s function, which every plugin must have",
                    plugin->plugin.create == NULL ? "create" : "destroy");
  for (const GsiSlot *slot = gsi_kind_slots (plugin->plugin.kind); slot->name != NULL; slot++)
    if (slot->required && !gsi_slot_filled (plugin, slot))
      g_string_append_printf (missing, "%s%s", missing->len > 0 ? ", " : "", slot->name);
  if (missing->len > 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "it leaves out what every %s plugin must have: %s. See gitstead/%s.h", kind, missing->str, kind);
  return TRUE;
}

/* Turns that nobody could take would be a promise that is not kept. */
static gboolean
check_threads (const GsiPlugin *plugin, GError **error)
{
  const GsPlugin *found = &plugin->plugin;
  const char *kind = gsi_kind_name (found->kind), *threads = gsi_threads_name (found->threads);

  if (found->threads > GS_THREADS_PARALLEL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it declares threads %u, which there is not", found->threads);
  if (!gsi_kind_takes_threads (found->kind, found->threads))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the %s plugin \"%s\" declares threads %s, which a %s cannot: %s. Declare GS_THREADS_PARALLEL%s, and "
                    "see gitstead/plugin.h",
                    kind, found->name, threads, kind,
                    found->threads == GS_THREADS_PER_REPO ? "its slots do not say which repository a call is about"
                                                          : "its slots are called while others of it are under way",
                    gsi_kind_takes_threads (found->kind, GS_THREADS_SERIAL) ? " or GS_THREADS_SERIAL" : "");
  if (found->threads == GS_THREADS_PARALLEL)
    return TRUE;
  for (const GsiSlot *slot = gsi_kind_slots (found->kind); slot->name != NULL; slot++)
    if (slot->any_time && gsi_slot_filled (plugin, slot))
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                      "the %s plugin \"%s\" declares threads %s and has %s, which is called whatever else is under way. "
                      "Declare GS_THREADS_PARALLEL or leave %s NULL",
                      kind, found->name, threads, slot->name, slot->name);
  return TRUE;
}

void
gsi_plugin_free (GsiPlugin *plugin)
{
  if (plugin == NULL)
    return;
  g_free (plugin->path);
  g_free (plugin->ops);
  g_free (plugin);
}

GsiPlugin *
gsi_plugin_new (const GsPlugin *found, const char *path, GError **error)
{
  GsiAbiRule ours = {
    .major = GS_ABI_MAJOR, .minor = GS_ABI_MINOR, .struct_size = sizeof (GsPlugin), .min_struct = STRUCT_SIZE_MIN
  };
  g_autoptr (GsiPlugin) plugin = g_new0 (GsiPlugin, 1);
  GsAbi abi;

  memcpy (&abi, found, sizeof abi);
  if (!gsi_abi_check_version (&abi, &ours, error))
    return NULL;
  if (abi.struct_size < G_STRUCT_OFFSET (GsPlugin, kind) + sizeof found->kind || gsi_kind_name (found->kind) == NULL)
    {
      ours.ops_size = abi.ops_size; /* no kind, no table to compare with */
      if (gsi_abi_check_sizes (&abi, &ours, error))
        gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it is of kind %u, which this Gitstead does not know",
                 found->kind);
      return NULL;
    }
  ours.ops_size = (guint32) gsi_kind_ops_size (found->kind);
  if (!gsi_abi_check_sizes (&abi, &ours, error))
    return NULL;

  plugin->path = g_strdup (path);
  plugin->abi = abi;
  memcpy (&plugin->plugin, found, MIN (abi.struct_size, sizeof (GsPlugin)));
  if (plugin->plugin.ops == NULL)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has no table of functions (ops is NULL)");
      return NULL;
    }
  plugin->ops = g_malloc0 (ours.ops_size);
  memcpy (plugin->ops, plugin->plugin.ops, MIN (abi.ops_size, ours.ops_size));
  plugin->plugin.ops = plugin->ops;
  if (!check_texts (&plugin->plugin, error) || !check_functions (plugin, error) || !check_needs (&plugin->plugin, error)
      || !check_options (&plugin->plugin, error))
    return NULL;
  if (!check_threads (plugin, error))
    return NULL;
  return g_steal_pointer (&plugin);
}
