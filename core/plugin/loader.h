/* SPDX-License-Identifier: Apache-2.0 */
/**
 * loader.h - finds plugin files, opens them and refuses what does not fit, before anything of them is used.
 *
 * A plugin NAME of a KIND is the file KIND-NAME.so in the first folder of the search path that has it; an absolute path
 * is taken as it is. Files are opened with immediate, local binding and are never unloaded.
 */
#ifndef GSI_PLUGIN_LOADER_H
#define GSI_PLUGIN_LOADER_H

#include <gitstead/plugin.h>

/** A plugin that passed every check. Constant; lives as long as its loader. */
typedef struct
{
  char *path;
  GsAbi abi;       /* as the plugin brought it */
  GsPlugin plugin; /* complete: what an older plugin lacks is zero */
  gpointer ops;    /* its kind's table, complete; plugin.ops points here too */
} GsiPlugin;

typedef struct GsiLoader GsiLoader;

/** Search order: @folders (NULL-terminated, may be NULL), those in GITSTEAD_PLUGIN_PATH (':' between), the built-in
 * one. *full*. */
GsiLoader *gsi_loader_new (const char *const *folders);
GsiLoader *gsi_loader_ref (GsiLoader *loader);
/** Drops a reference. The plugins' code stays in memory; with the last one, what gsi_loader_load gave is freed. */
void gsi_loader_free (GsiLoader *loader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiLoader, gsi_loader_free)

/** The search path, NULL-terminated. */
const char *const *gsi_loader_folders (const GsiLoader *loader);

/**
 * Loads @name of @kind, or the file @name when it is an absolute path. Loading twice gives the same. NULL with
 * NOT_FOUND (naming the folders and the nearest name) or FAILED_PRECONDITION (naming file, what is wrong, and the
 * remedy). *borrowed*.
 */
const GsiPlugin *gsi_loader_load (GsiLoader *loader, guint32 kind, const char *name, GError **error);

/** Loads a file of any kind, under any file name: for tools. */
const GsiPlugin *gsi_loader_load_file (GsiLoader *loader, const char *path, GError **error);

/** One file found in the search path. */
typedef struct
{
  char *path;
  guint32 kind;            /* by the file name; 0 when it names no kind */
  char *name;              /* by the file name */
  const GsiPlugin *plugin; /* NULL when it was refused … */
  char *problem;           /* … for this reason */
} GsiPluginFile;

/** Every *.so in the search path, by kind and name; of equal file names the one that would be used. *full*
 * (g_ptr_array_unref). */
GPtrArray *gsi_loader_list (GsiLoader *loader);

/** Names of plugins of a kind for "found: a, b"; by file name alone, nothing is opened. *full* (g_strfreev). */
char **gsi_loader_names (GsiLoader *loader, guint32 kind);

/** "storage"; NULL for a number that is no kind. */
const char *gsi_kind_name (guint32 kind);
/** 0 when there is no such kind. */
guint32 gsi_kind_from_name (const char *name, gssize len);
/** Those with effects, which something can stand before; a layer itself is none. */
gboolean gsi_kind_has_layers (guint32 kind);
/** May a plugin of this kind declare it? What turns there can be is in plugin.h, at GS_THREADS_SERIAL. */
gboolean gsi_kind_takes_threads (guint32 kind, guint32 threads);
/** "serial", "per-repository", "parallel". */
const char *gsi_threads_name (guint32 threads);

/** A slot of a kind's table. Rows end with name NULL. */
typedef struct
{
  const char *name;
  gsize offset;
  gboolean required;
  gboolean any_time; /* called whatever else is under way: there are no turns for it */
} GsiSlot;

const GsiSlot *gsi_kind_slots (guint32 kind);
/** sizeof the kind's table as this host knows it. */
gsize gsi_kind_ops_size (guint32 kind);
/** Is the slot filled in? */
gboolean gsi_slot_filled (const GsiPlugin *plugin, const GsiSlot *slot);

/**
 * The version rule, apart from dlopen so that it can be tested for versions to come. FALSE with both versions and the
 * remedy.
 * @min_struct and @min_ops: what the oldest plugin of this major has.
 */
typedef struct
{
  guint16 major, minor;
  guint32 struct_size, ops_size; /* ours */
  guint32 min_struct;
} GsiAbiRule;
gboolean gsi_abi_check_version (const GsAbi *abi, const GsiAbiRule *ours, GError **error);
gboolean gsi_abi_check_sizes (const GsAbi *abi, const GsiAbiRule *ours, GError **error);

#endif
