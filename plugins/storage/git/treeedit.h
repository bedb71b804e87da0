/* SPDX-License-Identifier: Apache-2.0 */
/**
 * treeedit.h - a tree that is changed path by path and then written, with only those subtrees read that it takes.
 *
 * Paths have passed path_check: their depth is bounded. Names may be any bytes. One thread at a time.
 */
#ifndef STORAGE_GIT_TREEEDIT_H
#define STORAGE_GIT_TREEEDIT_H

#include "draft.h"

typedef struct TreeEdit TreeEdit;

/** @tree NULL: begins empty. *full*. */
TreeEdit *tree_edit_new (Draft *draft, const GsOid *tree);
void tree_edit_free (TreeEdit *edit);
/** *@ret_mode is 0 when the path is absent. A folder that was changed has an id of len 0 until it is written. */
gboolean tree_edit_find (TreeEdit *edit, const char *path, guint32 *ret_mode, GsOid *ret_oid, GError **error);
/** Puts a file, link or submodule; folders on the way are made. ALREADY_EXISTS when a folder is there or a file is on
 *  the way. */
gboolean tree_edit_put (TreeEdit *edit, const char *path, guint32 mode, const GsOid *oid, GError **error);
/** Takes the entry away, whatever it is, and the folders that it leaves empty. NOT_FOUND when absent. */
gboolean tree_edit_remove (TreeEdit *edit, const char *path, GError **error);
/** As remove and put, of a whole folder too. INVALID_ARGUMENT when @to is inside @from. */
gboolean tree_edit_move (TreeEdit *edit, const char *from, const char *to, GError **error);
/** Adds the changed trees to the draft. */
gboolean tree_edit_write (TreeEdit *edit, GsOid *ret_tree, GError **error);

/** Is the mode one that git writes? */
gboolean tree_mode_known (guint32 mode);
/** git's order of two entries of a tree. */
int tree_order (const char *a, guint32 a_mode, const char *b, guint32 b_mode);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (TreeEdit, tree_edit_free)

#endif
