/* SPDX-License-Identifier: Apache-2.0 */
/**
 * scratch.h - loose objects in a quarantine, where git processes read ours and we read theirs.
 *
 * Never in a repository: those hold packs only.
 */
#ifndef STORAGE_GIT_SCRATCH_H
#define STORAGE_GIT_SCRATCH_H

#include "odb.h"

/** Not synced: a quarantine of this kind is dropped before anything of it counts. */
gboolean scratch_write (const char *objects, GsObjectType type, const void *data, gsize len, GsOid *ret_oid,
                        GError **error);
/** *@ret_found FALSE when there is no such file, and then nothing else is set. The id is checked. @max 0 = no bound. */
gboolean scratch_read (const char *objects, const GsOid *oid, guint64 max, gboolean *ret_found, GsObjectType *ret_type,
                       GBytes **ret_bytes, GError **error);

#endif
