/* SPDX-License-Identifier: Apache-2.0 */
/**
 * last.h - the commit that last changed a path, and each entry of a folder: git log -1 for each, in one walk.
 */
#ifndef STORAGE_GIT_HISTORY_LAST_H
#define STORAGE_GIT_HISTORY_LAST_H

#include "history/trees.h"

/** One entry of the folder and who changed it last. */
typedef struct
{
  char *name; /* *full* */
  gsize name_len;
  HistEntry entry;
  guint32 commit;
} HistLast;

#define HIST_LAST_MAX 100000u /* entries of a folder */

/** @pos HIST_NONE when the path was never there. */
gboolean hist_last_for_path (HistView *view, guint32 tip, HistPaths *path, guint32 *ret_pos, GError **error);
/**
 * Of the folder @path (NULL = the root) of @tip: entries @from up to, not including, @to, in the tree's order. *@ret_n is
 * how many there are in all. NOT_FOUND when it is no folder. Appends HistLast to @out, which has a clear function.
 */
gboolean hist_last_for_tree (HistView *view, guint32 tip, HistPaths *path, guint from, guint to, GArray *out, guint *ret_n,
                             GError **error);
void hist_last_clear (gpointer last);

#endif
