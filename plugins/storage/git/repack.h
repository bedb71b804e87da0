/* SPDX-License-Identifier: Apache-2.0 */
/**
 * repack.h - one replica's packs put in order: what there is, what is due, the git processes that do it.
 *
 * No round of it deletes an object, reachable or not: unreachable ones move into a cruft pack and stay. A push may
 * therefore rely on any object it has once seen, without a lock against housekeeping. Objects are deleted when somebody asks
 * for it and nobody writes: prune.h.
 */
#ifndef STORAGE_GIT_REPACK_H
#define STORAGE_GIT_REPACK_H

#include "child.h"
#include "git.h"

#define GIT_SAFETY "gitstead/repack"   /* hard links to the packs that a repack under way may delete */
#define GIT_REPACKED "gitstead/repacked" /* when all was packed into one the last time */

/** What lies in objects/pack. Packs with a .keep file and cruft packs are counted apart. */
typedef struct
{
  guint packs;          /* ordinary ones */
  guint untracked;      /* of these: not in the multi-pack index */
  guint kept, cruft;
  guint64 bytes;        /* of the ordinary ones */
  gboolean has_midx;
  gint64 newest_us;     /* when the newest was written */
} PackCensus;

gboolean repack_census (const Repo *repo, PackCensus *ret_census, GError **error);

/** How long the work may last and who may stop it. */
typedef struct
{
  GsCall *call;
  int stop_fd;      /* readable: stop at once */
  gint64 until_us;  /* monotonic */
} RepackRun;

typedef enum
{
  REPACK_NOTHING,
  REPACK_GEOMETRIC, /* rolls small packs up, so that each has twice the objects of the next smaller one */
  REPACK_FULL       /* one pack, one cruft pack for what no ref reaches */
} RepackKind;

/**
 * The housekeeper's lock on the replica: held by us and by every git process we start for it, so one that outlives
 * a killed server is noticed. -1 with BUSY when somebody has it.
 */
int repack_lock (const Repo *repo, GError **error);
/** Until repack_unlock no housekeeper works on the replica; any number at once. -1 with BUSY when one does. */
int repack_hold_off (const Repo *repo, GError **error);
/**
 * Gives it up. Not by closing it alone: a process that another thread starts at that moment has a copy of the descriptor until
 * it runs its program. -1 is fine.
 */
void repack_unlock (int lock);
/** Under the lock: puts back what a crash interrupted, removes what a killed git left. */
gboolean repack_recover (const Repo *repo, GError **error);
/** Something for repack_recover is there. */
gboolean repack_was_interrupted (const char *replica_dir);
/** Under the lock. FALSE also when stopped; whatever happened, every object is still there. */
gboolean repack_run (const Repo *repo, int lock, RepackKind kind, const RepackRun *run, GError **error);
/** Runs git until it ends or @run says stop. @spec's role, arguments, input, objects folder and alternate count. */
gboolean repack_child (const Repo *repo, int lock, ChildSpec spec, const RepackRun *run, GError **error);
/** Makes an index with a bitmap over all packs, for a replica that had one. */
gboolean repack_write_midx (const Repo *repo, int lock, const RepackRun *run, GError **error);
/** Brings the commit-graph up to date; @anew: one layer instead of one more. */
gboolean repack_write_graph (const Repo *repo, int lock, gboolean anew, const RepackRun *run, GError **error);
/** Under the lock: git would carry what a damaged commit-graph says into the next one. */
gboolean repack_drop_graph (const Repo *repo, GError **error);
/** When the commit-graph was written last; 0 = never. */
gint64 repack_graph_us (const Repo *repo);
/** When the last full repack ended, wall clock; 0 = never. */
gint64 repack_full_us (const Repo *repo);

/** Housekeeping that somebody asks for. */
typedef enum
{
  CARE_DUE, /* what a round would find due */
  CARE_GEOMETRIC,
  CARE_FULL,
  CARE_GRAPH /* the commit-graph alone */
} CareWish;

typedef struct
{
  RepackKind kind; /* what was done */
  PackCensus before, after;
  gboolean graph; /* the commit-graph was written */
} CareDone;

/** maintain.c: at once, on one replica. BUSY while a round, or another wish, is at work on the storage. */
gboolean maintain_now (Repo *repo, CareWish wish, GsCall *call, CareDone *ret_done, GError **error);

/** A pack that came into objects/pack while a repack may be under way: it must survive like the others. */
void repack_note_published (const Repo *repo, const char *name);

#endif
