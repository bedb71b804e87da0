/* SPDX-License-Identifier: Apache-2.0 */
/**
 * graph.h - git's commit-graph files: mapped, checked once, then read without a copy.
 *
 * A graph is one file or a chain of layers, the oldest first. Each commit has a position: those of the lowest layer come
 * first, then those of the next. A graph is closed: whatever it has, it has the parents of, too.
 *
 * Files are checked before use: checksum, chunk table, order of ids, every position, generations that fall along every
 * edge (so there is no circle). A layer that fails is left out with those above it. Immutable afterwards; any thread.
 */
#ifndef STORAGE_GIT_HISTORY_GRAPH_H
#define STORAGE_GIT_HISTORY_GRAPH_H

#include "git.h"

#define HIST_RAW 20                 /* bytes of an object id: repositories are SHA-1 */
#define HIST_NONE G_MAXUINT32       /* no commit */
#define HIST_INFINITY G_MAXUINT64   /* generation of a commit that we know none of: above all others */
#define HIST_LAYERS_MAX 64u
#define HIST_GRAPH_MAX ((guint64) 16 << 30) /* bytes of one file */

/** How the changed-path filters of a layer were made. */
typedef struct
{
  guint32 version; /* of the hash: 1 takes bytes as signed, 2 as unsigned; 0 = the layer has no filters */
  guint32 n_hashes;
  guint32 bits_per_entry;
} HistBloomRule;

typedef struct
{
  gint refs; /* atomic */
  char name[2 * HIST_RAW + 1];
  const guint8 *data;
  gsize len;
  guint32 base; /* commits in the layers below */
  guint32 n;    /* commits in this one */
  const guint8 *fanout, *oids, *commits, *edges, *offsets, *big_offsets, *bloom_index, *bloom_data;
  gsize n_edges, n_big, bloom_len;
  HistBloomRule bloom;
} HistLayer;

typedef struct
{
  gint refs; /* atomic */
  HistLayer *layers[HIST_LAYERS_MAX];
  guint n_layers;
  guint32 n;             /* commits */
  gboolean has_levels;   /* there are generation numbers … */
  gboolean has_dates;    /* … and they are corrected commit dates */
} HistGraph;

/**
 * Reads what is in @objects/info: the single file, else the chain. Layers of @before (may be NULL) are taken over when they
 * are there still. Never fails: what cannot be used is told in @ret_why (*full*, NULL when nothing is wrong) and left out.
 * NULL when there is nothing. *full*.
 */
HistGraph *hist_graph_open (const char *objects, const HistGraph *before, char **ret_why);
HistGraph *hist_graph_ref (HistGraph *graph);
void hist_graph_unref (HistGraph *graph);

/** FALSE when the graph does not have it. */
gboolean hist_graph_find (const HistGraph *graph, const guint8 *raw, guint32 *ret_pos);

/** What a layer says of one of its commits. */
typedef struct
{
  const guint8 *oid;  /* HIST_RAW bytes */
  const guint8 *tree;
  guint32 parents[2]; /* the first two, HIST_NONE = absent */
  const guint8 *edges; /* the second and later ones when there are more than two, else NULL */
  guint32 n_parents;
  guint64 date;       /* committer's, seconds */
  guint64 level;
} HistRecord;

void hist_graph_record (const HistGraph *graph, guint32 pos, HistRecord *ret_record);
guint32 hist_record_parent (const HistRecord *record, guint32 index);
const guint8 *hist_graph_oid (const HistGraph *graph, guint32 pos);
/** HIST_INFINITY when the graph has none. */
guint64 hist_graph_generation (const HistGraph *graph, guint32 pos);
guint64 hist_graph_date (const HistGraph *graph, guint32 pos);

/* ---------------------------------------------------------------------------------------- filters */

/** Hashes of one path under both versions of the rule. */
typedef struct
{
  guint32 first[3], second[3]; /* by version */
} HistBloomKey;

void hist_bloom_key (const void *path, gsize len, HistBloomKey *ret_key);

typedef struct
{
  const guint8 *bits;
  gsize len; /* 0 = there is none: anything may have changed */
  HistBloomRule rule;
} HistFilter;

/** What changed against the first parent. */
void hist_graph_filter (const HistGraph *graph, guint32 pos, HistFilter *ret_filter);
/** FALSE: it surely did not change. */
gboolean hist_filter_maybe (const HistFilter *filter, const HistBloomKey *key);

#endif
