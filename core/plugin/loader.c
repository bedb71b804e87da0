/* SPDX-License-Identifier: Apache-2.0 */
/* Plugin files: the search path, opening, listing. See loader.h. */
#include "plugin/loader-private.h"

#include "base/crash.h"
#include "base/text.h"
#include <gitstead/thread.h>

#include <dlfcn.h>
#include <string.h>

#define ENVIRONMENT "GITSTEAD_PLUGIN_PATH"

struct GsiLoader
{
  gint refs; /* atomic */
  char **folders;
  GsMutex lock;
  GHashTable *by_path; /* canonical path -> GsiPlugin */
};

static void
add_folder (GPtrArray *folders, const char *folder)
{
  if (folder[0] != '\0' && !g_ptr_array_find_with_equal_func (folders, folder, g_str_equal, NULL))
    g_ptr_array_add (folders, g_strdup (folder));
}

GsiLoader *
gsi_loader_new (const char *const *folders)
{
  GsiLoader *loader = g_new0 (GsiLoader, 1);
  GPtrArray *all = g_ptr_array_new ();
  const char *environment = g_getenv (ENVIRONMENT);

  for (gsize i = 0; folders != NULL && folders[i] != NULL; i++)
    add_folder (all, folders[i]);
  if (environment != NULL)
    {
      g_auto (GStrv) parts = g_strsplit (environment, ":", 64);
      for (char **part = parts; *part != NULL; part++)
        add_folder (all, *part);
    }
  add_folder (all, GSI_PLUGINDIR);
  g_ptr_array_add (all, NULL);
  loader->folders = (char **) g_ptr_array_free (all, FALSE);
  loader->by_path = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, (GDestroyNotify) gsi_plugin_free);
  gs_mutex_init (&loader->lock);
  loader->refs = 1;
  return loader;
}

GsiLoader *
gsi_loader_ref (GsiLoader *loader)
{
  __atomic_add_fetch (&loader->refs, 1, __ATOMIC_RELAXED);
  return loader;
}

void
gsi_loader_free (GsiLoader *loader)
{
  if (loader == NULL || __atomic_sub_fetch (&loader->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  g_hash_table_unref (loader->by_path);
  gs_mutex_clear (&loader->lock);
  g_strfreev (loader->folders);
  g_free (loader);
}

const char *const *
gsi_loader_folders (const GsiLoader *loader)
{
  return (const char *const *) loader->folders;
}

/* ------------------------------------------------------------------------------------------ opening */

/* Opens and checks. The library is never closed: quarks and GLib's own tables may point into it. @ret_code is an address in
 * it. */
static GsiPlugin *
open_plugin (const char *path, const void **ret_code, GError **error)
{
  void *library = dlopen (path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const GsPlugin *found;
  GsPluginQuery query;
  void *symbol;

  if (library == NULL)
    {
      const char *why = dlerror ();
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it cannot be opened: %s", why != NULL ? why : "unknown reason");
      return NULL;
    }
  symbol = dlsym (library, GS_PLUGIN_QUERY_SYMBOL);
  if (symbol == NULL)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "it has no function " GS_PLUGIN_QUERY_SYMBOL
               ": it is no Gitstead plugin, or it hides it. Define it with "
               "GS_PLUGIN_DEFINE");
      return NULL;
    }
  memcpy (&query, &symbol, sizeof query);
  *ret_code = symbol;
  found = query ();
  if (found == NULL)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, GS_PLUGIN_QUERY_SYMBOL " returned NULL");
      return NULL;
    }
  return gsi_plugin_new (found, path, error);
}

/* A crash report should name it. */
static void
note (const GsiPlugin *plugin, const void *code)
{
  g_autofree char *line
      = g_strdup_printf ("%s-%s %s (ABI %u.%u) %s", gsi_kind_name (plugin->plugin.kind), plugin->plugin.name,
                         plugin->plugin.version, plugin->abi.abi_major, plugin->abi.abi_minor, plugin->path);
  gsi_crash_note (line, code);
}

const GsiPlugin *
gsi_loader_load_file (GsiLoader *loader, const char *path, GError **error)
{
  g_autofree char *full = g_canonicalize_filename (path, NULL);
  g_autoptr (GsMutexLocker) hold = NULL;
  const void *code = NULL;
  GsiPlugin *plugin;

  if (!g_file_test (full, G_FILE_TEST_EXISTS))
    {
      gs_fail (error, GS_ERROR_NOT_FOUND, "Loading the plugin %s: there is no such file", full);
      return NULL;
    }
  hold = gs_mutex_hold (&loader->lock);
  plugin = g_hash_table_lookup (loader->by_path, full);
  if (plugin == NULL)
    {
      plugin = open_plugin (full, &code, error);
      if (plugin == NULL)
        {
          g_prefix_error (error, "Loading the plugin %s: ", full);
          return NULL;
        }
      note (plugin, code);
      g_hash_table_insert (loader->by_path, g_steal_pointer (&full), plugin);
    }
  return plugin;
}

static const GsiPlugin *
load_of_kind (GsiLoader *loader, guint32 kind, const char *path, const char *name, GError **error)
{
  const GsiPlugin *plugin = gsi_loader_load_file (loader, path, error);

  if (plugin == NULL)
    return NULL;
  if (plugin->plugin.kind != kind)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "Loading the plugin %s: it is of kind %s, and %s is wanted here",
               path, gsi_kind_name (plugin->plugin.kind), gsi_kind_name (kind));
      return NULL;
    }
  if (name != NULL && strcmp (plugin->plugin.name, name) != 0)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "Loading the plugin %s: it says its name is \"%s\", so its file must be called %s-%s.so", path,
               plugin->plugin.name, gsi_kind_name (kind), plugin->plugin.name);
      return NULL;
    }
  return plugin;
}

const GsiPlugin *
gsi_loader_load (GsiLoader *loader, guint32 kind, const char *name, GError **error)
{
  g_autofree char *folders = NULL, *found = NULL;
  g_auto (GStrv) names = NULL;
  const char *nearest;

  if (g_path_is_absolute (name))
    return load_of_kind (loader, kind, name, NULL, error);
  if (!gsi_name_is_fine (name, -1))
    {
      gs_fail (
          error, GS_ERROR_INVALID_ARGUMENT,
          "\"%.64s\" is no plugin name: want [a-z][a-z0-9-]* with at most %d bytes, or the absolute path of a .so file",
          name, GSI_NAME_MAX);
      return NULL;
    }
  for (char **folder = loader->folders; *folder != NULL; folder++)
    {
      g_autofree char *file = g_strdup_printf ("%s-%s.so", gsi_kind_name (kind), name);
      g_autofree char *path = g_build_filename (*folder, file, NULL);
      if (g_file_test (path, G_FILE_TEST_EXISTS))
        return load_of_kind (loader, kind, path, name, error);
    }
  names = gsi_loader_names (loader, kind);
  folders = g_strjoinv (", ", loader->folders);
  found = g_strjoinv (", ", names);
  nearest = gsi_text_nearest (name, (const char *const *) names, g_strv_length (names));
  gs_fail (error, GS_ERROR_NOT_FOUND, "there is no %s plugin \"%s\"%s%s%s (found: %s; looked in %s)",
           gsi_kind_name (kind), name, nearest != NULL ? "; did you mean \"" : "", nearest != NULL ? nearest : "",
           nearest != NULL ? "\"?" : "", found[0] != '\0' ? found : "none", folders);
  return NULL;
}

/* ------------------------------------------------------------------------------------------ listing */

/* Takes "storage-git.so" apart. FALSE when it is no such name. */
static gboolean
split_name (const char *file, guint32 *ret_kind, char **ret_name)
{
  const char *dash = strchr (file, '-');
  const char *end = file + strlen (file) - strlen (".so");

  if (dash == NULL || dash + 1 >= end || !gsi_name_is_fine (dash + 1, end - (dash + 1)))
    return FALSE;
  *ret_kind = gsi_kind_from_name (file, dash - file);
  if (*ret_kind == 0)
    return FALSE;
  *ret_name = g_strndup (dash + 1, (gsize) (end - (dash + 1)));
  return TRUE;
}

static void
plugin_file_free (gpointer data)
{
  GsiPluginFile *file = data;
  g_free (file->path);
  g_free (file->name);
  g_free (file->problem);
  g_free (file);
}

static gint
by_kind_and_name (gconstpointer a, gconstpointer b)
{
  const GsiPluginFile *one = *(const GsiPluginFile *const *) a, *other = *(const GsiPluginFile *const *) b;
  if (one->kind != other->kind)
    return one->kind < other->kind ? -1 : 1;
  return strcmp (one->name, other->name);
}

/* Finds the files without opening them. */
static GPtrArray *
find_files (GsiLoader *loader)
{
  GPtrArray *files = g_ptr_array_new_with_free_func (plugin_file_free);
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);

  for (char **folder = loader->folders; *folder != NULL; folder++)
    {
      g_autoptr (GDir) dir = g_dir_open (*folder, 0, NULL);
      const char *entry;
      while (dir != NULL && (entry = g_dir_read_name (dir)) != NULL)
        {
          GsiPluginFile *file;
          if (!g_str_has_suffix (entry, ".so") || !g_hash_table_add (seen, g_strdup (entry)))
            continue;
          file = g_new0 (GsiPluginFile, 1);
          file->path = g_build_filename (*folder, entry, NULL);
          if (!split_name (entry, &file->kind, &file->name))
            file->name = g_strdup (entry);
          g_ptr_array_add (files, file);
        }
    }
  g_ptr_array_sort (files, by_kind_and_name);
  return files;
}

GPtrArray *
gsi_loader_list (GsiLoader *loader)
{
  GPtrArray *files = find_files (loader);

  for (guint i = 0; i < files->len; i++)
    {
      GsiPluginFile *file = g_ptr_array_index (files, i);
      g_autoptr (GError) error = NULL;
      if (file->kind == 0)
        {
          file->problem = g_strdup_printf ("%s: the file's name is not KIND-NAME.so", file->path);
          continue;
        }
      file->plugin = load_of_kind (loader, file->kind, file->path, file->name, &error);
      if (file->plugin == NULL)
        file->problem = g_strdup (error->message);
    }
  return files;
}

char **
gsi_loader_names (GsiLoader *loader, guint32 kind)
{
  g_autoptr (GPtrArray) files = find_files (loader);
  GPtrArray *names = g_ptr_array_new ();

  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = g_ptr_array_index (files, i);
      if (file->kind == kind)
        g_ptr_array_add (names, g_strdup (file->name));
    }
  g_ptr_array_add (names, NULL);
  return (char **) g_ptr_array_free (names, FALSE);
}
