/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins and options as text for people. See describe.h. */
#include "plugin/describe.h"

#include "base/text.h"
#include "plugin/options.h"
#include "plugin/registry.h"

#include <string.h>

static char *
shown_number (const GsOption *row, gint64 value)
{
  switch (row->type)
    {
    case GS_OPTION_SIZE:
      return gsi_text_size_exact (value);
    case GS_OPTION_DURATION:
      return gsi_text_duration_exact (value);
    default:
      return g_strdup_printf ("%" G_GINT64_FORMAT, value);
    }
}

static char *
shown_limits (const GsOption *row)
{
  if (row->type == GS_OPTION_CHOICE)
    {
      g_auto (GStrv) words = g_strsplit (row->choices, "|", -1);
      return g_strjoinv (" | ", words);
    }
  if (row->min != 0 || row->max != 0)
    {
      g_autofree char *min = shown_number (row, row->min), *max = shown_number (row, row->max);
      if (row->max == G_MAXINT64)
        return row->min == 0 ? g_strdup ("") : g_strdup_printf ("from %s", min);
      return g_strdup_printf ("%s..%s", min, max);
    }
  return g_strdup ("");
}

void
gsi_option_text (const GsOption *row, GsiOptionText *ret_text)
{
  const char *flags[4] = { NULL };
  guint n = 0;

  if ((row->flags & GS_OPTION_REQUIRED) != 0)
    flags[n++] = "required";
  if ((row->flags & GS_OPTION_SECRET) != 0)
    flags[n++] = "secret";
  if ((row->flags & GS_OPTION_RELOADABLE) != 0)
    flags[n++] = "reloadable";
  ret_text->key = row->key;
  ret_text->type = gsi_option_type_name (row->type);
  ret_text->help = row->help;
  ret_text->fallback = row->fallback == NULL                  ? g_strdup ("")
                       : (row->flags & GS_OPTION_SECRET) != 0 ? g_strdup ("********")
                                                              : g_strdup (row->fallback);
  ret_text->limits = shown_limits (row);
  ret_text->flags = g_strjoinv (", ", (char **) flags);
}

void
gsi_option_text_clear (GsiOptionText *text)
{
  g_clear_pointer (&text->fallback, g_free);
  g_clear_pointer (&text->limits, g_free);
  g_clear_pointer (&text->flags, g_free);
}

char *
gsi_plugin_abi_text (const GsiPlugin *plugin)
{
  return g_strdup_printf ("%u.%u", plugin->abi.abi_major, plugin->abi.abi_minor);
}

/* ------------------------------------------------------------------------------------- for a terminal */

static void
describe_option (const GsOption *row, GString *out)
{
  GsiOptionText text;

  gsi_option_text (row, &text);
  g_string_append_printf (out, "  %s (%s%s%s%s%s)\n", text.key, text.type, text.limits[0] != '\0' ? ", " : "",
                          text.limits, text.flags[0] != '\0' ? ", " : "", text.flags);
  g_string_append_printf (out, "      %s", text.help);
  if (row->fallback != NULL)
    g_string_append_printf (out, " Default: %s", text.fallback[0] != '\0' ? text.fallback : "\"\"");
  g_string_append_c (out, '\n');
  gsi_option_text_clear (&text);
}

static void
describe_slots (const GsiPlugin *plugin, GString *out)
{
  g_autoptr (GString) filled = g_string_new (NULL), empty = g_string_new (NULL);

  for (const GsiSlot *slot = gsi_kind_slots (plugin->plugin.kind); slot->name != NULL; slot++)
    {
      GString *list = gsi_slot_filled (plugin, slot) ? filled : empty;
      g_string_append_printf (list, "%s%s", list->len > 0 ? ", " : "", slot->name);
    }
  g_string_append_printf (out, "Can:     %s\n", filled->str);
  if (empty->len > 0)
    g_string_append_printf (out, "Cannot:  %s\n", empty->str);
}

char *
gsi_plugin_describe (const GsiPlugin *plugin)
{
  const GsPlugin *desc = &plugin->plugin;
  g_autofree char *abi = gsi_plugin_abi_text (plugin);
  GString *out = g_string_new (NULL);

  g_string_append_printf (
      out, "Plugin:  %s\nKind:    %s\nVersion: %s\nABI:     %s\nLicense: %s\nThreads: %s\nPath:    %s\n", desc->name,
      gsi_kind_name (desc->kind), desc->version, abi, desc->license, gsi_threads_name (desc->threads), plugin->path);
  describe_slots (plugin, out);
  for (const GsNeed *need = desc->needs; need != NULL && need->role != NULL; need++)
    g_string_append_printf (out, "Needs:   %s (a %s instance%s)\n", need->role, gsi_kind_name (need->kind),
                            (need->flags & GS_NEED_OPTIONAL) != 0 ? ", optional" : "");
  g_string_append_printf (out, "\n%s\n", desc->summary);
  if (desc->options != NULL && desc->options->key != NULL)
    g_string_append (out, "\nOptions:\n");
  for (const GsOption *row = desc->options; row != NULL && row->key != NULL; row++)
    describe_option (row, out);
  return g_string_free (out, FALSE);
}

/* ----------------------------------------------------------------------------------------- Markdown */

/* A cell of a table: no bar may end it early. */
static void
append_cell (GString *out, const char *text, gboolean code)
{
  if (text[0] == '\0')
    {
      g_string_append (out, " |");
      return;
    }
  g_string_append (out, code ? " `" : " ");
  for (const char *at = text; *at != '\0'; at++)
    {
      if (*at == '|')
        g_string_append_c (out, '\\');
      g_string_append_c (out, *at == '\n' ? ' ' : *at);
    }
  g_string_append (out, code ? "` |" : " |");
}

static void
append_table (GString *out, const GsOption *rows)
{
  if (rows == NULL || rows->key == NULL)
    {
      g_string_append (out, "It has no options.\n\n");
      return;
    }
  g_string_append (out, "| option | type | default | limits | | meaning |\n|---|---|---|---|---|---|\n");
  for (const GsOption *row = rows; row->key != NULL; row++)
    {
      GsiOptionText text;
      gsi_option_text (row, &text);
      g_string_append_c (out, '|');
      append_cell (out, text.key, TRUE);
      append_cell (out, text.type, FALSE);
      append_cell (out, text.fallback, TRUE);
      append_cell (out, text.limits, FALSE);
      append_cell (out, text.flags, FALSE);
      append_cell (out, text.help, FALSE);
      g_string_append_c (out, '\n');
      gsi_option_text_clear (&text);
    }
  g_string_append_c (out, '\n');
}

static const char introduction[]
    = "# Configuration reference\n"
      "\n"
      "Made by `gitstead` from the option rows of the server and of the plugins; do not edit.\n"
      "\n"
      "The file is YAML: mappings, sequences and scalars, without anchors, aliases and tags.\n"
      "`gitstead check --config FILE` tells every mistake with its line and column. Durations are `500ms`, `10s`,\n"
      "`5m`, `2h`, `1d`; sizes `4096`, `64KiB`, `10MiB`, `1GiB`; booleans `true` and `false`; relative paths are\n"
      "taken from the folder of the file in which they stand. An option marked *secret* may be given as\n"
      "`{file: PATH}` (readable by its owner alone), `{env: NAME}` or `{credential: NAME}` (systemd's\n"
      "`LoadCredential=`). A running server takes changes of this file on\n"
      "`gitstead reload` or SIGHUP. Options marked *reloadable* are taken in place; of the server, storages,\n"
      "metadata stores and transports that keep their address the others need a restart. Everything else is\n"
      "replaced by a new instance. [operations.md](../operations.md) says more.\n"
      "\n"
      "```yaml\n"
      "include: conf.d/*.yaml            # optional: more files, in sorted order\n"
      "server: {name: node-1}            # optional\n"
      "plugin_path: [DIR]                # optional: searched before GITSTEAD_PLUGIN_PATH and the built-in folder\n"
      "metadata: {plugin: NAME}          # a mapping, or a sequence of mappings, of which the server uses the first\n"
      "access: {plugin: NAME}            # likewise\n"
      "cache: {plugin: NAME}             # likewise; optional\n"
      "storages:\n"
      "  - {name: default, plugin: NAME}\n"
      "consistencies:                    # optional: policies that single repositories can have instead\n"
      "  - {name: NAME, plugin: NAME}\n"
      "virtual_storages:\n"
      "  - name: default\n"
      "    storages: [default]\n"
      "    routing: {plugin: NAME}\n"
      "    consistency: {plugin: NAME}\n"
      "    copies: 1                     # replicas of a new repository, each on another storage\n"
      "    min_copies: 1                 # a write is never acknowledged with fewer durable copies\n"
      "transports:\n"
      "  - {name: http, plugin: NAME}\n"
      "```\n"
      "\n"
      "Every mapping with `plugin` takes that plugin's options, and `name`. A plugin that needs another instance\n"
      "takes its name under the key of the need; without it, the only instance of that kind is used. `plugin` may\n"
      "be the absolute path of a file.\n"
      "\n"
      "## server\n"
      "\n";

char *
gsi_describe_reference (GsiLoader *loader)
{
  g_autoptr (GPtrArray) files = gsi_loader_list (loader);
  GString *out = g_string_new (introduction);

  append_table (out, gsi_server_options);
  g_string_append (out, "## storages\n\nEvery storage has these beside the options of its plugin.\n\n");
  append_table (out, gsi_storage_options);
  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = g_ptr_array_index (files, i);
      const GsPlugin *plugin;
      if (file->plugin == NULL)
        continue;
      plugin = &file->plugin->plugin;
      g_string_append_printf (out, "## %s: %s\n\n%s\n\n", gsi_kind_name (plugin->kind), plugin->name, plugin->summary);
      for (const GsNeed *need = plugin->needs; need != NULL && need->role != NULL; need++)
        g_string_append_printf (out, "Needs `%s`: a %s instance%s.\n\n", need->role, gsi_kind_name (need->kind),
                                (need->flags & GS_NEED_OPTIONAL) != 0 ? ", optional" : "");
      append_table (out, plugin->options);
    }
  /* One newline at the end. */
  g_string_truncate (out, out->len - 1);
  return g_string_free (out, FALSE);
}
