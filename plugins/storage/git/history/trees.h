/* SPDX-License-Identifier: Apache-2.0 */
/**
 * trees.h - what stands at given paths in the trees of commits, and whether two commits have the same there.
 */
#ifndef STORAGE_GIT_HISTORY_TREES_H
#define STORAGE_GIT_HISTORY_TREES_H

#include "history/view.h"

#define HIST_PATHS_MAX 64u
#define HIST_PATH_MAX 4096u
#define HIST_DEPTH_MAX 256u
#define HIST_STATES_MAX 2048u

/** What a tree has under one name; mode 0 = nothing. */
typedef struct
{
  guint32 mode;
  guint8 oid[HIST_RAW];
} HistEntry;

typedef struct
{
  char *text; /* parts separated by NUL */
  gsize len;
  guint n_parts;
  guint first; /* where its entries begin in a state */
  HistBloomKey *keys; /* of the path down to each part */
} HistPath;

/** Literal paths, and what was read for them. One thread's. */
typedef struct
{
  HistView *view;
  HistPath *paths;
  guint n;
  guint n_entries;    /* of a state: the root tree, then each path's, from the top down */
  GHashTable *states; /* position -> HistEntry[n_entries] */
  HistEntry *last;    /* the state read last */
  GHashTable *trees;  /* small cache of tree objects */
  gsize trees_bytes;
} HistPaths;

/** INVALID_ARGUMENT for a path that is none. @paths may be empty. */
HistPaths *hist_paths_new (HistView *view, const char *const *paths, const gsize *lens, guint n,
                           GError **error);
void hist_paths_free (HistPaths *paths);

/** Have both the same at every path? @nth: @parent is @commit's parent of that number. */
gboolean hist_paths_same (HistPaths *paths, guint32 commit, guint32 parent, guint32 nth, gboolean *ret_same, GError **error);
/** Has it nothing at any path? */
gboolean hist_paths_empty (HistPaths *paths, guint32 commit, gboolean *ret_empty, GError **error);
/** What the commit has at the first path. */
gboolean hist_paths_entry (HistPaths *paths, guint32 commit, HistEntry *ret_entry, GError **error);
/** Surely nothing changed at any path against the first parent. */
gboolean hist_paths_unchanged (HistPaths *paths, guint32 commit);

/** A tree object's bytes. *full*. */
GBytes *hist_tree_read (HistPaths *paths, const guint8 *oid, GError **error);
/** The next entry of a tree; its name is borrowed. FALSE at the end; then *@left is 0 unless the tree is damaged. */
gboolean hist_tree_next (const char **at, gsize *left, const char **ret_name, gsize *ret_len, HistEntry *ret_entry);

#endif
