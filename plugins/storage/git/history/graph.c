/* SPDX-License-Identifier: Apache-2.0 */
/* Commit-graph files: see graph.h. */
#include "history/graph.h"

#include "fsutil.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER 8
#define CHUNK_ROW 12
#define COMMIT_ROW (HIST_RAW + 16)
#define PARENT_NONE 0x70000000u
#define PARENT_EDGES 0x80000000u
#define EDGE_LAST 0x80000000u
#define OFFSET_BIG 0x80000000u
#define BLOOM_HEADER 12
#define HASHES_MAX 64u
#define CHAIN_MAX (HIST_LAYERS_MAX * (2 * HIST_RAW + 1))
#define LEVEL_MAX 0x3fffffffu

static inline guint32
u32 (const guint8 *at)
{
  return (guint32) at[0] << 24 | (guint32) at[1] << 16 | (guint32) at[2] << 8 | at[3];
}

static inline guint64
u64 (const guint8 *at)
{
  return (guint64) u32 (at) << 32 | u32 (at + 4);
}

/* ------------------------------------------------------------------------------------------ layers */

static void
layer_unref (HistLayer *layer)
{
  if (!g_atomic_int_dec_and_test (&layer->refs))
    return;
  if (layer->data != NULL)
    munmap ((gpointer) layer->data, layer->len);
  g_free (layer);
}

static gboolean
damaged (char **ret_why, const char *path, const char *what)
{
  *ret_why = g_strdup_printf ("%s: %s", path, what);
  return FALSE;
}

static gboolean
map_file (HistLayer *layer, const char *path, char **ret_why)
{
  struct stat st;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return damaged (ret_why, path, g_strerror (errno));
  gboolean known = fstat (fd, &st) == 0 && S_ISREG (st.st_mode);
  gboolean sized = known && st.st_size >= HEADER + CHUNK_ROW + HIST_RAW && (guint64) st.st_size <= HIST_GRAPH_MAX;
  gpointer data = sized ? mmap (NULL, (gsize) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  close (fd);
  if (data == MAP_FAILED)
    return damaged (ret_why, path, sized ? "it cannot be mapped" : "it is no file, too short or too long");
  layer->data = data;
  layer->len = (gsize) st.st_size;
  return TRUE;
}

static gboolean
check_sum (HistLayer *layer, const char *path, char **ret_why)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  guint8 digest[HIST_RAW];
  gsize digest_len = sizeof digest, left = layer->len - HIST_RAW;
  for (const guint8 *at = layer->data; left > 0;)
    {
      gsize part = MIN (left, (gsize) 1 << 30);
      g_checksum_update (sum, at, (gssize) part);
      at += part;
      left -= part;
    }
  g_checksum_get_digest (sum, digest, &digest_len);
  gs_hex (layer->data + layer->len - HIST_RAW, HIST_RAW, layer->name);
  return memcmp (digest, layer->data + layer->len - HIST_RAW, HIST_RAW) == 0
         || damaged (ret_why, path, "its checksum is wrong");
}

typedef struct
{
  const guint8 *at;
  gsize len;
} Chunk;

enum
{
  CHUNK_FANOUT,
  CHUNK_OIDS,
  CHUNK_COMMITS,
  CHUNK_EDGES,
  CHUNK_OFFSETS,
  CHUNK_BIG_OFFSETS,
  CHUNK_BLOOM_INDEX,
  CHUNK_BLOOM_DATA,
  CHUNK_BASE,
  N_CHUNKS
};

static const char chunk_names[N_CHUNKS][5] = { "OIDF", "OIDL", "CDAT", "EDGE", "GDA2", "GDO2", "BIDX", "BDAT", "BASE" };

static gboolean
find_chunks (const HistLayer *layer, Chunk *chunks, const char *path, char **ret_why)
{
  guint n = layer->data[6];
  gsize end = layer->len - HIST_RAW;
  if (memcmp (layer->data, "CGPH\1\1", 6) != 0)
    return damaged (ret_why, path, "it is no commit-graph of version 1 with SHA-1");
  if (HEADER + (gsize) (n + 1) * CHUNK_ROW > end)
    return damaged (ret_why, path, "its table of chunks is cut off");
  for (guint i = 0; i < n; i++)
    {
      const guint8 *row = layer->data + HEADER + (gsize) i * CHUNK_ROW;
      guint64 from = u64 (row + 4), to = u64 (row + CHUNK_ROW + 4);
      if (from < HEADER + (gsize) (n + 1) * CHUNK_ROW || to < from || to > end)
        return damaged (ret_why, path, "a chunk lies outside of the file");
      for (guint k = 0; k < N_CHUNKS; k++)
        if (memcmp (row, chunk_names[k], 4) == 0)
          {
            if (chunks[k].at != NULL)
              return damaged (ret_why, path, "a chunk is there twice");
            chunks[k] = (Chunk){ layer->data + from, (gsize) (to - from) };
          }
    }
  return TRUE;
}

static gboolean
take_ids (HistLayer *layer, const Chunk *chunks, const char *path, char **ret_why)
{
  if (chunks[CHUNK_FANOUT].at == NULL || chunks[CHUNK_FANOUT].len != 256 * 4)
    return damaged (ret_why, path, "its fan-out table is missing or has a wrong size");
  layer->fanout = chunks[CHUNK_FANOUT].at;
  layer->n = u32 (layer->fanout + 255 * 4);
  for (guint i = 1; i < 256; i++)
    if (u32 (layer->fanout + 4 * i) < u32 (layer->fanout + 4 * (i - 1)))
      return damaged (ret_why, path, "its fan-out table falls");
  if (layer->n >= PARENT_NONE || chunks[CHUNK_OIDS].at == NULL || chunks[CHUNK_OIDS].len != (gsize) layer->n * HIST_RAW)
    return damaged (ret_why, path, "its list of ids is missing or has a wrong size");
  layer->oids = chunks[CHUNK_OIDS].at;
  for (guint32 i = 0; i < layer->n; i++)
    {
      const guint8 *oid = layer->oids + (gsize) i * HIST_RAW;
      guint32 from = oid[0] > 0 ? u32 (layer->fanout + 4 * (oid[0] - 1)) : 0;
      if (i < from || i >= u32 (layer->fanout + 4 * oid[0]) || (i > 0 && memcmp (oid - HIST_RAW, oid, HIST_RAW) >= 0))
        return damaged (ret_why, path, "its ids are not in order");
    }
  if (chunks[CHUNK_COMMITS].at == NULL || chunks[CHUNK_COMMITS].len != (gsize) layer->n * COMMIT_ROW)
    return damaged (ret_why, path, "its commits are missing or have a wrong size");
  layer->commits = chunks[CHUNK_COMMITS].at;
  return TRUE;
}

/* A filter that makes no sense costs speed alone, so only the filters go. */
static void
take_filters (HistLayer *layer, const Chunk *chunks)
{
  const Chunk *index = &chunks[CHUNK_BLOOM_INDEX], *data = &chunks[CHUNK_BLOOM_DATA];
  guint32 before = 0;
  if (index->at == NULL || data->at == NULL || index->len != (gsize) layer->n * 4 || data->len < BLOOM_HEADER)
    return;
  HistBloomRule rule = { u32 (data->at), u32 (data->at + 4), u32 (data->at + 8) };
  gsize len = data->len - BLOOM_HEADER;
  if (rule.version < 1 || rule.version > 2 || rule.n_hashes < 1 || rule.n_hashes > HASHES_MAX)
    return;
  for (guint32 i = 0; i < layer->n; i++)
    {
      guint32 end = u32 (index->at + (gsize) i * 4);
      if (end < before || end > len)
        return;
      before = end;
    }
  layer->bloom_index = index->at;
  layer->bloom_data = data->at + BLOOM_HEADER;
  layer->bloom_len = len;
  layer->bloom = rule;
}

static gboolean
take_rest (HistLayer *layer, const Chunk *chunks, const char *path, char **ret_why)
{
  const Chunk *offsets = &chunks[CHUNK_OFFSETS];
  layer->edges = chunks[CHUNK_EDGES].at;
  layer->n_edges = chunks[CHUNK_EDGES].len / 4;
  if (offsets->at != NULL && offsets->len != (gsize) layer->n * 4)
    return damaged (ret_why, path, "its generation data has a wrong size");
  layer->offsets = offsets->at;
  layer->big_offsets = chunks[CHUNK_BIG_OFFSETS].at;
  layer->n_big = chunks[CHUNK_BIG_OFFSETS].len / 8;
  for (guint32 i = 0; layer->offsets != NULL && i < layer->n; i++)
    {
      guint32 offset = u32 (layer->offsets + (gsize) i * 4);
      if ((offset & OFFSET_BIG) != 0 && (offset & ~OFFSET_BIG) >= layer->n_big)
        return damaged (ret_why, path, "its generation data points outside");
    }
  take_filters (layer, chunks);
  return TRUE;
}

/* The layers below must be just those that it was written on. */
static gboolean
check_base (const HistLayer *layer, const Chunk *base, const HistGraph *below, const char *path, char **ret_why)
{
  guint n = layer->data[7];
  if (n != below->n_layers || (n > 0 && (base->at == NULL || base->len != (gsize) n * HIST_RAW)))
    return damaged (ret_why, path, "it was written on other layers");
  for (guint i = 0; i < n; i++)
    {
      char name[2 * HIST_RAW + 1];
      gs_hex (base->at + (gsize) i * HIST_RAW, HIST_RAW, name);
      if (strcmp (name, below->layers[i]->name) != 0)
        return damaged (ret_why, path, "it was written on other layers");
    }
  return layer->n < PARENT_NONE - below->n || damaged (ret_why, path, "there are too many commits");
}

/* ------------------------------------------------------------------------------------------ edges */

static gboolean
check_parents (const HistLayer *layer, guint32 index)
{
  const guint8 *row = layer->commits + (gsize) index * COMMIT_ROW + HIST_RAW;
  guint32 total = layer->base + layer->n, first = u32 (row), second = u32 (row + 4);
  if (first == PARENT_NONE)
    return second == PARENT_NONE;
  if (first >= total)
    return FALSE;
  if ((second & PARENT_EDGES) == 0)
    return second == PARENT_NONE || second < total;
  for (gsize at = second & ~PARENT_EDGES;; at++)
    {
      if (at >= layer->n_edges)
        return FALSE;
      guint32 edge = u32 (layer->edges + at * 4);
      if ((edge & ~EDGE_LAST) >= total)
        return FALSE;
      if ((edge & EDGE_LAST) != 0)
        return TRUE;
    }
}

/* All parents of a generation below: so no walk goes round in circles. */
static gboolean
falls (const HistGraph *graph, guint32 pos)
{
  HistRecord record, parent;
  hist_graph_record (graph, pos, &record);
  guint64 generation = hist_graph_generation (graph, pos);
  for (guint32 i = 0; i < record.n_parents; i++)
    {
      guint32 at = hist_record_parent (&record, i);
      hist_graph_record (graph, at, &parent);
      if (parent.level >= record.level && record.level < LEVEL_MAX)
        return FALSE;
      if (graph->has_dates && hist_graph_generation (graph, at) >= generation)
        return FALSE;
    }
  return TRUE;
}

/* A graph of before generation numbers has level 0 throughout: not worth its own paths through every walk. */
static gboolean
check_edges (HistGraph *graph, const HistLayer *layer, const char *path, char **ret_why)
{
  HistRecord record;
  for (guint32 i = 0; i < layer->n; i++)
    if (!check_parents (layer, i))
      return damaged (ret_why, path, "a commit's parent is none");
  for (guint32 i = 0; i < layer->n; i++)
    {
      hist_graph_record (graph, layer->base + i, &record);
      if (record.level == 0)
        return damaged (ret_why, path, "it has no generation numbers");
      if (!falls (graph, layer->base + i))
        return damaged (ret_why, path, "a commit's generation is not above its parents'");
    }
  return TRUE;
}

static HistLayer *
layer_open (const char *path, HistGraph *below, char **ret_why)
{
  HistLayer *layer = g_new0 (HistLayer, 1);
  Chunk chunks[N_CHUNKS] = { { NULL, 0 } };
  layer->refs = 1;
  layer->base = below->n;
  if (map_file (layer, path, ret_why) && check_sum (layer, path, ret_why) && find_chunks (layer, chunks, path, ret_why)
      && take_ids (layer, chunks, path, ret_why) && take_rest (layer, chunks, path, ret_why)
      && check_base (layer, &chunks[CHUNK_BASE], below, path, ret_why))
    return layer;
  layer_unref (layer);
  return NULL;
}

/* ------------------------------------------------------------------------------------------ graphs */

/* Takes @layer. */
static void
graph_push (HistGraph *graph, HistLayer *layer)
{
  graph->has_dates = (graph->n_layers == 0 || graph->has_dates) && layer->offsets != NULL;
  graph->layers[graph->n_layers++] = layer;
  graph->n += layer->n;
}

static HistLayer *
find_layer (const HistGraph *before, const char *name, guint index)
{
  HistLayer *layer = before != NULL && index < before->n_layers ? before->layers[index] : NULL;
  if (layer == NULL || name == NULL || strcmp (layer->name, name) != 0)
    return NULL;
  g_atomic_int_inc (&layer->refs);
  return layer;
}

/* FALSE: the graph is as it was before. */
static gboolean
graph_add (HistGraph *graph, const HistGraph *before, const char *path, const char *name, char **ret_why)
{
  HistLayer *layer = find_layer (before, name, graph->n_layers);
  gboolean known = layer != NULL, had_dates = graph->has_dates;
  if (!known && (layer = layer_open (path, graph, ret_why)) == NULL)
    return FALSE;
  if (name != NULL && strcmp (layer->name, name) != 0)
    {
      layer_unref (layer);
      return damaged (ret_why, path, "it is not the file that its name says");
    }
  graph_push (graph, layer);
  if (known || check_edges (graph, layer, path, ret_why))
    return TRUE;
  graph->n_layers--;
  graph->n -= layer->n;
  graph->has_dates = had_dates;
  layer_unref (layer);
  return FALSE;
}

static void
read_chain (HistGraph *graph, const char *objects, const HistGraph *before, char **ret_why)
{
  g_autofree char *list = g_strconcat (objects, "/info/commit-graphs/commit-graph-chain", NULL);
  g_autofree char *text = fsu_read (AT_FDCWD, list, CHAIN_MAX, NULL, NULL);
  if (text == NULL)
    return;
  g_auto (GStrv) names = g_strsplit (text, "\n", -1);
  for (guint i = 0; names[i] != NULL && *names[i] != '\0'; i++)
    {
      guint8 raw[HIST_RAW];
      if (i >= HIST_LAYERS_MAX || strlen (names[i]) != 2 * HIST_RAW || !gs_unhex (names[i], HIST_RAW, raw))
        {
          damaged (ret_why, list, "a line of it is no name of a layer, or there are too many");
          return;
        }
      g_autofree char *path = g_strdup_printf ("%s/info/commit-graphs/graph-%s.graph", objects, names[i]);
      if (!graph_add (graph, before, path, names[i], ret_why))
        return;
    }
}

HistGraph *
hist_graph_open (const char *objects, const HistGraph *before, char **ret_why)
{
  g_autofree char *single = g_strconcat (objects, "/info/commit-graph", NULL);
  HistGraph *graph = g_new0 (HistGraph, 1);
  graph->refs = 1;
  *ret_why = NULL;
  if (access (single, F_OK) == 0)
    graph_add (graph, NULL, single, NULL, ret_why);
  if (graph->n_layers == 0)
    {
      g_autofree char *single_why = g_steal_pointer (ret_why);
      read_chain (graph, objects, before, ret_why);
      if (*ret_why == NULL)
        *ret_why = g_steal_pointer (&single_why);
    }
  graph->has_levels = graph->n > 0;
  if (graph->n > 0)
    return graph;
  hist_graph_unref (graph);
  return NULL;
}

HistGraph *
hist_graph_ref (HistGraph *graph)
{
  g_atomic_int_inc (&graph->refs);
  return graph;
}

void
hist_graph_unref (HistGraph *graph)
{
  if (!g_atomic_int_dec_and_test (&graph->refs))
    return;
  for (guint i = 0; i < graph->n_layers; i++)
    layer_unref (graph->layers[i]);
  g_free (graph);
}

/* ----------------------------------------------------------------------------------------- reading */

gboolean
hist_graph_find (const HistGraph *graph, const guint8 *raw, guint32 *ret_pos)
{
  for (guint i = graph->n_layers; i-- > 0;)
    {
      const HistLayer *layer = graph->layers[i];
      guint32 low = raw[0] > 0 ? u32 (layer->fanout + 4 * (raw[0] - 1)) : 0, high = u32 (layer->fanout + 4 * raw[0]);
      while (low < high)
        {
          guint32 middle = low + (high - low) / 2;
          int order = memcmp (raw, layer->oids + (gsize) middle * HIST_RAW, HIST_RAW);
          if (order == 0)
            {
              *ret_pos = layer->base + middle;
              return TRUE;
            }
          if (order < 0)
            high = middle;
          else
            low = middle + 1;
        }
    }
  return FALSE;
}

static inline const HistLayer *
layer_of (const HistGraph *graph, guint32 pos)
{
  guint i = graph->n_layers - 1;
  while (pos < graph->layers[i]->base)
    i--;
  return graph->layers[i];
}

void
hist_graph_record (const HistGraph *graph, guint32 pos, HistRecord *ret_record)
{
  const HistLayer *layer = layer_of (graph, pos);
  guint32 index = pos - layer->base;
  const guint8 *row = layer->commits + (gsize) index * COMMIT_ROW;
  guint32 first = u32 (row + HIST_RAW), second = u32 (row + HIST_RAW + 4);
  ret_record->oid = layer->oids + (gsize) index * HIST_RAW;
  ret_record->tree = row;
  ret_record->parents[0] = first == PARENT_NONE ? HIST_NONE : first;
  ret_record->parents[1] = HIST_NONE;
  ret_record->edges = NULL;
  ret_record->n_parents = first != PARENT_NONE;
  if ((second & PARENT_EDGES) != 0)
    {
      const guint8 *at = ret_record->edges = layer->edges + (gsize) (second & ~PARENT_EDGES) * 4;
      for (ret_record->n_parents = 2; (u32 (at) & EDGE_LAST) == 0; at += 4)
        ret_record->n_parents++;
    }
  else if (second != PARENT_NONE)
    {
      ret_record->parents[1] = second;
      ret_record->n_parents = 2;
    }
  ret_record->level = u32 (row + HIST_RAW + 8) >> 2;
  ret_record->date = (guint64) (u32 (row + HIST_RAW + 8) & 3) << 32 | u32 (row + HIST_RAW + 12);
}

guint32
hist_record_parent (const HistRecord *record, guint32 index)
{
  if (index == 0 || record->edges == NULL)
    return record->parents[index];
  return u32 (record->edges + (gsize) (index - 1) * 4) & ~EDGE_LAST;
}

const guint8 *
hist_graph_oid (const HistGraph *graph, guint32 pos)
{
  const HistLayer *layer = layer_of (graph, pos);
  return layer->oids + (gsize) (pos - layer->base) * HIST_RAW;
}

guint64
hist_graph_date (const HistGraph *graph, guint32 pos)
{
  const HistLayer *layer = layer_of (graph, pos);
  const guint8 *row = layer->commits + (gsize) (pos - layer->base) * COMMIT_ROW + HIST_RAW + 8;
  return (guint64) (u32 (row) & 3) << 32 | u32 (row + 4);
}

guint64
hist_graph_generation (const HistGraph *graph, guint32 pos)
{
  const HistLayer *layer = layer_of (graph, pos);
  guint32 index = pos - layer->base;
  const guint8 *row = layer->commits + (gsize) index * COMMIT_ROW + HIST_RAW + 8;
  if (!graph->has_dates)
    return u32 (row) >> 2;
  guint64 date = (guint64) (u32 (row) & 3) << 32 | u32 (row + 4);
  guint32 offset = u32 (layer->offsets + (gsize) index * 4);
  if ((offset & OFFSET_BIG) == 0)
    return date + offset;
  guint64 big = u64 (layer->big_offsets + (gsize) (offset & ~OFFSET_BIG) * 8);
  return big < HIST_INFINITY - 1 - date ? date + big : HIST_INFINITY - 1;
}

void
hist_graph_filter (const HistGraph *graph, guint32 pos, HistFilter *ret_filter)
{
  const HistLayer *layer = layer_of (graph, pos);
  guint32 index = pos - layer->base;
  *ret_filter = (HistFilter){ .rule = layer->bloom };
  if (layer->bloom_index == NULL)
    return;
  guint32 from = index > 0 ? u32 (layer->bloom_index + (gsize) (index - 1) * 4) : 0;
  ret_filter->bits = layer->bloom_data + from;
  ret_filter->len = u32 (layer->bloom_index + (gsize) index * 4) - from;
}
