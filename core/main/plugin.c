/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - `gitstead plugin`: the plugin files on this machine. Nothing is started. */
#include "base/text.h"
#include "cli.h"
#include "command.h"
#include "plugin/describe.h"
#include "plugin/loader.h"
#include "plugin_check.h"
#include "plugin_new.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static char **folders;

static const GOptionEntry options[]
    = { { "plugin-path", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &folders,
          "Look in this folder first (may be given again; GITSTEAD_PLUGIN_PATH comes after)", "FOLDER" },
        G_OPTION_ENTRY_NULL };

static void
print_and_free_json (json_t *json)
{
  char *text = json_dumps (json, JSON_INDENT (2));
  if (text != NULL)
    g_print ("%s\n", text);
  free (text);
  json_decref (json);
}

static json_t *
list_entry (const GsiPluginFile *file)
{
  const GsiPlugin *plugin = file->plugin;
  g_autofree char *abi = plugin != NULL ? gsi_plugin_abi_text (plugin) : NULL;
  const char *kind = gsi_kind_name (plugin != NULL ? plugin->plugin.kind : file->kind);
  json_t *entry = json_object ();
  json_object_set_new (entry, "kind", json_string (kind != NULL ? kind : ""));
  json_object_set_new (entry, "name", json_string (plugin != NULL ? plugin->plugin.name : file->name));
  if (plugin != NULL)
    {
      json_object_set_new (entry, "version", json_string (plugin->plugin.version));
      json_object_set_new (entry, "abi", json_string (abi));
      json_object_set_new (entry, "summary", json_string (plugin->plugin.summary));
      json_object_set_new (entry, "license", json_string (plugin->plugin.license));
    }
  json_object_set_new (entry, "path", json_string (file->path));
  if (file->problem != NULL)
    json_object_set_new (entry, "problem", json_string (file->problem));
  return entry;
}

static void
print_table (const GPtrArray *files)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "KIND", "NAME", "VERSION", "ABI", "PATH", NULL });
  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = files->pdata[i];
      const GsiPlugin *plugin = file->plugin;
      g_autofree char *abi = plugin != NULL ? gsi_plugin_abi_text (plugin) : g_strdup ("refused");
      const char *kind = gsi_kind_name (plugin != NULL ? plugin->plugin.kind : file->kind);
      gsi_table_row (table, kind != NULL ? kind : "?", plugin != NULL ? plugin->plugin.name : file->name,
                     plugin != NULL ? plugin->plugin.version : "-", abi, file->path, NULL);
    }
  gsi_table_print (table);
}

static int
list_run (int n_args, char **args)
{
  g_autoptr (GsiLoader) loader = gsi_loader_new ((const char *const *) folders);
  g_autoptr (GPtrArray) files = gsi_loader_list (loader);
  int code = GSI_EXIT_OK;

  if (gsi_cli_json ())
    {
      json_t *all = json_array ();
      for (guint i = 0; i < files->len; i++)
        json_array_append_new (all, list_entry (files->pdata[i]));
      print_and_free_json (json_pack ("{s:o}", "plugins", all));
    }
  else if (gsi_cli_quiet ())
    for (guint i = 0; i < files->len; i++)
      {
        const GsiPluginFile *file = files->pdata[i];
        if (file->plugin != NULL)
          g_print ("%s-%s\n", gsi_kind_name (file->plugin->plugin.kind), file->plugin->plugin.name);
      }
  else if (files->len > 0)
    print_table (files);
  else
    {
      g_autofree char *path = g_strjoinv (", ", (char **) gsi_loader_folders (loader));
      g_printerr ("There are no plugins in %s.\n", path);
    }
  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = files->pdata[i];
      if (file->plugin == NULL)
        {
          g_printerr ("gitstead: %s\n", file->problem);
          code = GSI_EXIT_FAILED;
        }
    }
  return code;
}

/* -------------------------------------------------------------------------------------------- show */

/* "git", "storage-git" or "storage/git" */
static gboolean
is_called (const GsiPluginFile *file, const char *name)
{
  const char *kind = gsi_kind_name (file->kind);
  gsize kind_len = kind != NULL ? strlen (kind) : 0;
  if (strcmp (name, file->name) == 0)
    return TRUE;
  return kind != NULL && strncmp (name, kind, kind_len) == 0 && (name[kind_len] == '-' || name[kind_len] == '/')
         && strcmp (name + kind_len + 1, file->name) == 0;
}

static int
no_such_plugin (const GPtrArray *files, const char *name)
{
  g_autofree const char **names = g_new (const char *, files->len + 1);
  const char *near;
  for (guint i = 0; i < files->len; i++)
    names[i] = ((const GsiPluginFile *) files->pdata[i])->name;
  near = gsi_text_nearest (name, names, files->len);
  g_printerr ("gitstead: there is no plugin '%s'%s%s%s\nhint: 'gitstead plugin list' shows what there is\n", name,
              near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
  return GSI_EXIT_FAILED;
}

static json_t *
show_entry (const GsiPlugin *plugin)
{
  g_autofree char *abi = gsi_plugin_abi_text (plugin);
  json_t *rows = json_array (), *needs = json_array (), *slots = json_array ();
  for (const GsOption *row = plugin->plugin.options; row != NULL && row->key != NULL; row++)
    {
      GsiOptionText text;
      gsi_option_text (row, &text);
      json_array_append_new (rows, json_pack ("{s:s, s:s, s:s, s:s, s:s, s:s}", "key", text.key, "type", text.type,
                                              "default", text.fallback, "limits", text.limits, "flags", text.flags, "help",
                                              text.help));
      gsi_option_text_clear (&text);
    }
  for (const GsNeed *need = plugin->plugin.needs; need != NULL && need->role != NULL; need++)
    json_array_append_new (needs, json_pack ("{s:s, s:s, s:b}", "role", need->role, "kind", gsi_kind_name (need->kind),
                                             "optional", (need->flags & GS_NEED_OPTIONAL) != 0));
  for (const GsiSlot *slot = gsi_kind_slots (plugin->plugin.kind); slot->name != NULL; slot++)
    json_array_append_new (slots, json_pack ("{s:s, s:b, s:b}", "name", slot->name, "required", slot->required, "filled",
                                             gsi_slot_filled (plugin, slot)));
  return json_pack ("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "kind", gsi_kind_name (plugin->plugin.kind),
                    "name", plugin->plugin.name, "version", plugin->plugin.version, "abi", abi, "summary",
                    plugin->plugin.summary, "license", plugin->plugin.license, "threads",
                    gsi_threads_name (plugin->plugin.threads), "path", plugin->path, "options", rows, "needs", needs,
                    "slots", slots);
}

static int
show_plugin (const GsiPlugin *plugin)
{
  if (gsi_cli_json ())
    print_and_free_json (show_entry (plugin));
  else if (!gsi_cli_quiet ())
    {
      g_autofree char *text = gsi_plugin_describe (plugin);
      g_print ("%s%s", text, g_str_has_suffix (text, "\n") ? "" : "\n");
    }
  return GSI_EXIT_OK;
}

static int
show_file (GsiLoader *loader, const char *name)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *path = g_canonicalize_filename (name, NULL);
  const GsiPlugin *plugin = gsi_loader_load_file (loader, path, &error);
  if (plugin == NULL)
    return gsi_cli_fail (error, "cannot show plugin '%s'", name);
  return show_plugin (plugin);
}

static int
show_run (int n_args, char **args)
{
  g_autoptr (GsiLoader) loader = gsi_loader_new ((const char *const *) folders);
  g_autoptr (GPtrArray) files = NULL;
  const GsiPluginFile *found = NULL;

  if (g_str_has_suffix (args[0], ".so"))
    return show_file (loader, args[0]);
  files = gsi_loader_list (loader);
  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = files->pdata[i];
      if (!is_called (file, args[0]))
        continue;
      if (found != NULL)
        return gsi_cli_usage ("plugin show", "'%s' names more than one plugin; say %s-%s or %s-%s", args[0],
                              gsi_kind_name (found->kind), found->name, gsi_kind_name (file->kind), file->name);
      found = file;
    }
  if (found == NULL)
    return no_such_plugin (files, args[0]);
  if (found->plugin == NULL)
    {
      g_printerr ("gitstead: cannot show plugin '%s': %s\n", args[0], found->problem);
      return GSI_EXIT_FAILED;
    }
  return show_plugin (found->plugin);
}

/* --------------------------------------------------------------------------------------- reference */

static int
reference_run (int n_args, char **args)
{
  g_autoptr (GsiLoader) loader = gsi_loader_new ((const char *const *) folders);
  g_autofree char *text = gsi_describe_reference (loader);
  g_print ("%s%s", text, g_str_has_suffix (text, "\n") ? "" : "\n");
  return GSI_EXIT_OK;
}

const GsiVerb gsi_plugin_verbs[] = {
  { .name = "list",
    .arguments = "",
    .summary = "List the plugins that can be loaded",
    .about = "Lists the plugin files in the search path with kind, name, version and ABI. A file that is refused is shown "
             "as such, with the reason on standard error, and makes the exit code 1.",
    .examples = "  gitstead plugin list\n"
                "  gitstead plugin list --json\n"
                "  gitstead plugin list --plugin-path ./build/plugins",
    .options = options,
    .max_args = 0,
    .local = TRUE,
    .run = list_run },
  { .name = "show",
    .arguments = "NAME|FILE.so",
    .summary = "Describe a plugin: options, needs, slots",
    .about = "Describes one plugin by its name (\"git\"), its kind and name where the name alone is not enough "
             "(\"storage-memory\"), or its file: the options that the configuration may set, what other plugins it needs, "
             "and which slots of its kind it fills.",
    .examples = "  gitstead plugin show sqlite\n"
                "  gitstead plugin show storage-memory\n"
                "  gitstead plugin show ./build/cache-mine.so --json",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .local = TRUE,
    .run = show_run },
  { .name = "check",
    .arguments = "NAME|FILE.so",
    .summary = "Hold a plugin against the contract of its kind",
    .about = "Runs the numbered conformance cases of the plugin's kind, ours or a third party's, and says of each promise "
             "whether it is kept: what was expected, and what happened. The promises stand in the headers (gitstead/KIND.h; P1 "
             "to P8, which every plugin makes, in gitstead/plugin.h). Each case runs in a process of its own: a plugin that "
             "crashes, hangs or leaks is reported with the slot it was in. Paths that the plugin must have are made below a "
             "temporary folder unless --option gives them. With --quiet only broken promises are printed.",
    .examples = "  gitstead plugin check ./build/routing-mine.so\n"
                "  gitstead plugin check sqlite\n"
                "  gitstead plugin check transport-http --option listen=http://127.0.0.1:0\n"
                "  gitstead plugin check ./build/cache-mine.so --case 6 --option size=1MiB",
    .options = gsi_plugin_check_options,
    .min_args = 1,
    .max_args = 1,
    .local = TRUE,
    .run = gsi_plugin_check_run },
  { .name = "new",
    .arguments = "KIND NAME [FOLDER]",
    .summary = "Write a new plugin to begin with",
    .about = "Writes a small, whole plugin into a new folder (by default NAME): its source, a meson.build, a test and a README. It "
             "builds against the installed headers alone, and keeps every promise of its kind. KIND is transport, storage, "
             "metadata, routing, consistency, cache, access or layer.",
    .examples = "  gitstead plugin new routing mine\n"
                "  cd mine && meson setup build && meson test -C build",
    .min_args = 2,
    .max_args = 3,
    .local = TRUE,
    .run = gsi_plugin_new_run },
  { .name = "reference",
    .arguments = "",
    .summary = "Print the configuration reference",
    .about = "Prints, as Markdown, every key that the configuration file may have: those of the server, and those of each plugin "
             "in the search path, third parties' ones included.",
    .examples = "  gitstead plugin reference\n"
                "  gitstead plugin reference --plugin-path ./build/plugins > config.md",
    .options = options,
    .max_args = 0,
    .local = TRUE,
    .run = reference_run },
  { NULL },
};
