/* SPDX-License-Identifier: Apache-2.0 */
/**
 * ingest.h - a small pack taken in without a process.
 *
 * It takes what it understands wholly: few whole objects, each well-formed by the rules of git fsck, each with all it
 * refers to in the pack or in the repository. With anything else it does nothing and says so; git index-pack then
 * takes the pack, or says in git's words why not.
 */
#ifndef STORAGE_GIT_INGEST_H
#define STORAGE_GIT_INGEST_H

#include "git.h"

/** Writes @pack and its index into <objects>/pack; *@ret_taken FALSE: nothing was written. Not synced. */
gboolean ingest_pack (Repo *repo, GsCall *call, GBytes *pack, const char *objects, gboolean *ret_taken, GError **error);

#endif
