/* SPDX-License-Identifier: Apache-2.0 */
/** oldtree.h - the repositories below the storage's root that are no replicas: what an old tree of them has. */
#ifndef STORAGE_GIT_OLDTREE_H
#define STORAGE_GIT_OLDTREE_H

#include "git.h"

/** Those after the folder @after, sorted, relative to the root. NULL with @error. *full*. */
GPtrArray *oldtree_folders (const Storage *storage, GsCall *call, const char *after, GError **error);
/**
 * Which of them, working trees' too, reads objects of the repository in @dir (absolute) by its alternates? @ret_folder is NULL
 * when none does, *full*. What was found is remembered for a while, so one that begins to borrow meanwhile may be missed.
 */
gboolean oldtree_borrower (Storage *storage, GsCall *call, const char *dir, char **ret_folder, GError **error);

#endif
