/* SPDX-License-Identifier: Apache-2.0 */
/**
 * files.h - the calls that read and replace the sets of files of a repository: settings.h says what they are.
 */
#ifndef STORAGE_GIT_API_FILES_H
#define STORAGE_GIT_API_FILES_H

#include "api.h"

#include "gitstead/v1/files.pb-c.h"

/** Is it one of ours? Then storage_compute leaves it to files_compute. */
gboolean files_knows (guint32 method);
gboolean files_compute (Storage *storage, GsCall *call, const GsRepo *repo, const GsQuery *query,
                        GsComputed **ret_computed, GError **error);

#endif
