/* SPDX-License-Identifier: Apache-2.0 */
/**
 * view.h - the commits of a repository as one question sees them.
 *
 * A HistStore belongs to an open Repo: it keeps the commit-graph, opened anew when its files change, and what was read of
 * commits that the graph does not have yet. A HistView is one thread's, for one call: graph commits under their positions,
 * the others (the tail) numbered behind them as they are met, and a word of flags for each.
 *
 * A shallow repository or one with grafts is walked as git walks it: without the graph, with the parents as the files say.
 * Replacement refs are not looked at, here or anywhere in this server.
 */
#ifndef STORAGE_GIT_HISTORY_VIEW_H
#define STORAGE_GIT_HISTORY_VIEW_H

#include "history/graph.h"
#include "odb.h"

#define HIST_COMMIT_MAX (8u << 20)  /* bytes of a commit object that we read */
#define HIST_TAIL_MAX (1u << 26)    /* commits outside of the graph that one call may meet */
#define HIST_FACTS_MAX 65536u       /* commits outside of the graph remembered for one repository … */
#define HIST_FACTS_ALL 524288       /* … and for all that are open: some 75 MB */
#define HIST_TICK 2048u

typedef struct HistStore HistStore;

HistStore *hist_store_new (Storage *storage);
void hist_store_free (HistStore *store);

/** FALSE when some of the commit-graph cannot be used, though it is there. */
gboolean hist_store_check (Repo *repo);

typedef struct HistTail HistTail;

typedef struct
{
  Repo *repo;
  GsCall *call;
  ObjectHandle *handle;
  HistGraph *graph;      /* may be NULL */
  guint32 n_graph;
  guint32 *graph_flags;  /* made on first use, touched where needed */
  guint32 *graph_marks;  /* a second word: counts */
  GPtrArray *segments;   /* of HistTail; their addresses stay */
  guint32 n_tail;
  guint32 *slots;        /* open addressing: index into the tail + 1 */
  guint32 n_slots;
  GPtrArray *arena;      /* parents of the tail */
  GHashTable *grafts;    /* raw id -> GByteArray of parents; NULL when there are none */
  GArray *touched;       /* positions whose flags are not 0 */
  guint ticks;
} HistView;

/** One commit. Its pointers stay good until the view is closed. */
typedef struct
{
  const guint8 *oid, *tree;
  guint64 date;        /* committer's */
  guint64 generation;  /* HIST_INFINITY in the tail */
  guint32 n_parents;
  const guint32 *list; /* the tail's parents; else NULL */
  HistRecord record;
} HistCommit;

/** NULL with DATA_LOSS, UNAVAILABLE. The repository is held by the caller until hist_view_close. */
HistView *hist_view_open (Repo *repo, GsCall *call, GError **error);
void hist_view_close (HistView *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (HistView, hist_view_close)

/** The commit's position; HIST_NONE with OUT_OF_RANGE. The object need not exist: reading it tells. */
guint32 hist_view_find (HistView *view, const guint8 *raw, GError **error);
/** DATA_LOSS when it is missing or damaged. */
gboolean hist_view_commit (HistView *view, guint32 pos, HistCommit *ret_commit, GError **error);
static inline guint32
hist_parent (const HistCommit *commit, guint32 index)
{
  return commit->list != NULL ? commit->list[index] : hist_record_parent (&commit->record, index);
}
const guint8 *hist_view_oid (const HistView *view, guint32 pos);
void hist_view_gs_oid (const HistView *view, guint32 pos, GsOid *ret_oid);
static inline gboolean
hist_in_graph (const HistView *view, guint32 pos)
{
  return pos < view->n_graph;
}

/** The commit's object. @ret_bytes *full*. */
gboolean hist_view_text (HistView *view, guint32 pos, GBytes **ret_bytes, GError **error);

/** Now and then says whether the call may go on. */
static inline gboolean
hist_tick (HistView *view, GError **error)
{
  return ++view->ticks % HIST_TICK != 0 || gs_call_check (view->call, "walk the history", error);
}

/** The flags of a commit, for reading and changing; hist_flags_add notes it for hist_flags_reset. */
guint32 *hist_flags (HistView *view, guint32 pos);
void hist_flags_add (HistView *view, guint32 pos, guint32 bits);
void hist_flags_reset (HistView *view);
guint32 *hist_mark (HistView *view, guint32 pos);

/* ------------------------------------------------------------------------------------------ queues */

/** A heap: the greatest @key first, then the greatest @second, then what came first. */
typedef struct
{
  guint64 key, second, order;
  guint32 pos;
} HistItem;

typedef struct
{
  GArray *items;
  guint64 order;
} HistQueue;

void hist_queue_init (HistQueue *queue);
void hist_queue_clear (HistQueue *queue);
void hist_queue_push (HistQueue *queue, guint32 pos, guint64 key, guint64 second);
/** FALSE when it is empty. */
gboolean hist_queue_pop (HistQueue *queue, HistItem *ret_item);
static inline const HistItem *
hist_queue_peek (const HistQueue *queue)
{
  return queue->items->len > 0 ? &g_array_index (queue->items, HistItem, 0) : NULL;
}

#endif
