/* SPDX-License-Identifier: Apache-2.0 */
/**
 * adopt.h - bare repositories that lay below the storage's root before there was a storage, made its replicas.
 *
 * Nothing is copied: the folder changes places with a symbolic link that leads to it, in one step, so that whoever
 * reads it by its old name goes on. Until its repository is recorded, which shows in the replica's label, it can be put
 * back.
 */
#ifndef STORAGE_GIT_ADOPT_H
#define STORAGE_GIT_ADOPT_H

#include "git.h"

/** Was the replica in @dir adopted, and nobody has named it since? */
gboolean adopt_is_unclaimed (const char *dir);
/** Makes the folder of such a replica again what it was, where it was. Nobody can open the replica. */
gboolean adopt_put_back (Storage *storage, const char *replica_path, GError **error);
/** Is it the folder of a bare repository, by its looks? */
gboolean adopt_looks_bare (const char *dir);
/** Where replicas lie, below the root. */
#define ADOPT_REPLICAS "@r"

/** Carries out what routers ask: numbers 1092 and 1093. @ret_reply *full*. */
gboolean adopt_is_query (guint32 method);
gboolean adopt_query (Storage *storage, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
                      GError **error);

#endif
