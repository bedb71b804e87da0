/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/least-used: new repositories go where least is used, reads to the one that is less busy.
 *
 * What a storage tells of its use is a few seconds old, so going by the byte would send everything to one storage until
 * it tells again, and then everything to the next. Storages whose use differs by less than a step count as alike, and
 * among those a repository's place is drawn in proportion to their weights.
 */
#include "rank.h"

/* Behind all that have room, in this order. */
#define TIER_FULL (G_MAXUINT - 1)
#define TIER_DRAINING G_MAXUINT

typedef struct
{
  gboolean by_bytes;
  guint64 step_percent, step_bytes;
  guint64 unknown_percent;
  guint64 min_free;
} LeastUsed;

static gboolean
tells (const GsNodeView *view)
{
  return view->used_bytes != 0 || view->free_bytes != 0;
}

static guint64
used_percent (const LeastUsed *self, const GsNodeView *view)
{
  unsigned __int128 all = (unsigned __int128) view->used_bytes + view->free_bytes;
  return tells (view) ? (guint64) ((unsigned __int128) view->used_bytes * 100 / all) : self->unknown_percent;
}

static guint64
weigh (const GsNodeView *view, gpointer user, guint *tier)
{
  const LeastUsed *self = user;
  guint64 band = self->by_bytes ? view->used_bytes / self->step_bytes : used_percent (self, view) / self->step_percent;
  if (*tier == RANK_DRAINING)
    *tier = TIER_DRAINING;
  else if (tells (view) && view->free_bytes < self->min_free)
    *tier = TIER_FULL;
  else
    *tier = (guint) MIN (band, TIER_FULL - 1);
  return (guint64) view->weight;
}

static gboolean
least_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies,
             gsize *ret_nodes, gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = rank_nodes (key, nodes, n_nodes, n_copies, weigh, self, error);
  if (ranked == NULL)
    return FALSE;
  rank_take (ranked, n_copies, ret_nodes, ret_n);
  return TRUE;
}

/* Fewer calls under way; of two that are equally busy the one whose disk has less to hold in memory. */
static gboolean
less_busy (const GsNodeView *a, const GsNodeView *b)
{
  return a->in_flight < b->in_flight || (a->in_flight == b->in_flight && a->used_bytes < b->used_bytes);
}

static gboolean
least_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
                   gsize *ret_index, GError **error)
{
  return rank_pick (candidates, n_candidates, dice, NULL, less_busy, NULL, ret_index, error);
}

static const GsOption least_options[] = {
  { .key = "by",
    .type = GS_OPTION_CHOICE,
    .fallback = "share",
    .choices = "share|bytes",
    .help = "What counts as used: the share of the disk, or the bytes, however large the disk is." },
  { .key = "step_percent",
    .type = GS_OPTION_INT,
    .fallback = "5",
    .min = 1,
    .max = 100,
    .help = "By share: storages in the same step of so many percent count as alike." },
  { .key = "step_bytes",
    .type = GS_OPTION_SIZE,
    .fallback = "10GiB",
    .min = 1 << 20,
    .max = (gint64) 1 << 50,
    .help = "By bytes: storages in the same step of so many bytes count as alike." },
  { .key = "unknown_percent",
    .type = GS_OPTION_INT,
    .fallback = "50",
    .min = 0,
    .max = 100,
    .help = "By share: how much of its disk a storage that does not tell is taken to use." },
  { .key = "min_free",
    .type = GS_OPTION_SIZE,
    .fallback = "1GiB",
    .min = 0,
    .max = (gint64) 1 << 50,
    .help = "A storage known to have less room gets a new repository only when no other can take it." },
  { NULL },
};

static gpointer
least_create (const GsHost *host, const GsConfig *config, GError **error)
{
  LeastUsed *self = g_new0 (LeastUsed, 1);
  self->by_bytes = strcmp (config->string (config, "by"), "bytes") == 0;
  self->step_percent = (guint64) config->integer (config, "step_percent");
  self->step_bytes = (guint64) config->integer (config, "step_bytes");
  self->unknown_percent = (guint64) config->integer (config, "unknown_percent");
  self->min_free = (guint64) config->integer (config, "min_free");
  return self;
}

static const GsRoutingOps least_ops = { .place = least_place, .pick_reader = least_pick_reader };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "least-used",
                  .version = "0.1.0", .summary = "New repositories where least is used; reads from the less busy",
                  .license = "Apache-2.0", .options = least_options, .ops = &least_ops, .create = least_create,
                  .destroy = g_free)
