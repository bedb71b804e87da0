/* SPDX-License-Identifier: Apache-2.0 */
/**
 * packcache.h - packs that several fetches share (docs/decisions/0020-pack-cache.md).
 *
 * git upload-pack runs our program instead of git pack-objects (uploadpack.packObjectsHook, hook/pack-objects.c); it hands the
 * fetch's thread the command, the objects asked for, and the pipes that upload-pack reads. The same command on the same input
 * in the same repository is answered from one pack: a thread of its own reads it from git into a file without a name, and
 * each fetch follows that file at its own pace.
 *
 * Any thread. The cache's lock is a leaf.
 */
#ifndef STORAGE_GIT_PACKCACHE_H
#define STORAGE_GIT_PACKCACHE_H

#include "child.h"

typedef struct PackCache PackCache;
typedef struct PackFetch PackFetch;

/** @max_bytes 0 = there is no cache: all functions may be called, and none does anything. *full*. */
PackCache *pack_cache_new (Storage *storage, guint64 max_bytes, gint64 age_us, guint min_uses);
/** No fetch is under way any more. */
void pack_cache_free (PackCache *cache);
/** Once the hook folder is known. */
void pack_cache_start (PackCache *cache);
/** Gives up the packs of a repository that is removed, or has been pruned; fetches under way end as they would have. */
void pack_cache_forget (PackCache *cache, guint64 repo_id);
/** Gives up what is old. */
void pack_cache_sweep (PackCache *cache);

/** One upload-pack's side of it. NULL without @error when there is no cache. *full*. */
PackFetch *pack_fetch_new (Repo *repo, GError **error);
/** Makes @spec that of an upload-pack that asks @fetch. */
void pack_fetch_spec (PackFetch *fetch, ChildSpec *spec);
/** After the child has been started, or could not be. */
void pack_fetch_started (PackFetch *fetch);
/** After the child's end. NULL is fine. */
void pack_fetch_free (PackFetch *fetch);

#endif
