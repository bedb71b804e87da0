/* SPDX-License-Identifier: Apache-2.0 */
/**
 * prune.h - deleting what no ref reaches, when somebody asks for it: the one thing here that deletes objects.
 *
 * Everything that is not reached lies in a cruft pack after a full repack. A second one is made without what is too old, and
 * the first one goes. A write may rely on any object that it has seen, so that happens while nobody writes, and after git has
 * found all that the refs reach in what will be left: once for the refs as they were before, at length, and once more for
 * what has changed since, in the moment in which writers wait. Readers see nothing but that unreachable objects are gone.
 */
#ifndef STORAGE_GIT_PRUNE_H
#define STORAGE_GIT_PRUNE_H

#include "repack.h"

#define GIT_PRUNED "gitstead/pruned" /* packs that are being removed, one a line: pack-<hash> */

typedef struct
{
  gint64 grace_us; /* what is unreachable for a shorter time stays; 0 = nothing does */
  gboolean dry_run;
} PruneWish;

/** Entries of cruft packs. */
typedef struct
{
  guint64 objects, bytes; /* removed */
  guint64 kept, kept_bytes;
} PruneDone;

/** Under the lock, after a full repack. FALSE: nothing was removed, or all of it was. */
gboolean prune_run (Repo *repo, int lock, const PruneWish *wish, const RepackRun *run, PruneDone *ret_done, GError **error);
/** Under the lock: finishes what a crash interrupted, if it had begun. */
gboolean prune_recover (const Repo *repo, GError **error);

/** maintain.c: all of it, at once. FAILED_PRECONDITION for a pool with members; BUSY. */
gboolean maintain_prune (Repo *repo, const PruneWish *wish, GsCall *call, PruneDone *ret_done, GError **error);

#endif
