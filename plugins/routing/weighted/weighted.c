/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/weighted: placement and reads in proportion to what each storage can take.
 *
 * Placement is rendezvous by the configured weight, by the free bytes, or by both. What is placed stays: free bytes
 * that change move nothing, they only shift where new repositories go, so there is no threshold to swing about.
 * Reads go to the one of two that has fewer calls under way for its weight.
 */
#include "rank.h"

/* Weights times free mebibytes stay below 2^63. */
#define WEIGHT_MAX ((gint64) 1 << 19)
#define MEBIBYTES_MAX ((guint64) 1 << 44)

/* Behind those with room, before those that drain: one that is full for now may well be the only other one. */
#define TIER_FULL 1u
#define TIER_DRAINING 2u

typedef struct
{
  gboolean by_weight, by_free;
  guint64 min_free;
  guint64 unknown_free;
} Weighted;

static guint64
weigh (const GsNodeView *view, gpointer user, guint *tier)
{
  const Weighted *self = user;
  guint64 weight = self->by_weight ? (guint64) MIN (view->weight, WEIGHT_MAX) : 1;
  guint64 free_bytes = view->free_bytes != 0 ? view->free_bytes : self->unknown_free;
  if (*tier == RANK_DRAINING)
    *tier = TIER_DRAINING;
  else if (view->free_bytes != 0 && view->free_bytes < self->min_free)
    *tier = TIER_FULL;
  return self->by_free ? weight * CLAMP (free_bytes >> 20, 1, MEBIBYTES_MAX) : weight;
}

static gboolean
weighted_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies,
                gsize *ret_nodes, gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = rank_nodes (key, nodes, n_nodes, n_copies, weigh, self, error);
  if (ranked == NULL)
    return FALSE;
  rank_take (ranked, n_copies, ret_nodes, ret_n);
  return TRUE;
}

/* Fewer calls for its weight? One of weight 0 takes no new repositories and counts as 1. */
static gboolean
less_loaded (const GsNodeView *a, const GsNodeView *b)
{
  unsigned __int128 load_a = (unsigned __int128) a->in_flight * (guint64) MAX (b->weight, 1),
                    load_b = (unsigned __int128) b->in_flight * (guint64) MAX (a->weight, 1);
  /* Of two that are idle, or equally busy, the one that can take more. */
  return load_a < load_b || (load_a == load_b && a->weight > b->weight);
}

static gboolean
weighted_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
                      gsize *ret_index, GError **error)
{
  return rank_pick (candidates, n_candidates, dice, NULL, less_loaded, NULL, ret_index, error);
}

static const GsOption weighted_options[] = {
  { .key = "by",
    .type = GS_OPTION_CHOICE,
    .fallback = "weight",
    .choices = "weight|free|both",
    .help = "What new repositories are spread in proportion to: the storages' weights, their free bytes, or the "
            "product of both." },
  { .key = "min_free",
    .type = GS_OPTION_SIZE,
    .fallback = "1GiB",
    .min = 0,
    .max = (gint64) 1 << 50,
    .help = "A storage known to have less room gets a new repository only when no other can take it." },
  { .key = "unknown_free",
    .type = GS_OPTION_SIZE,
    .fallback = "100GiB",
    .min = 1 << 20,
    .max = (gint64) 1 << 50,
    .help = "How much room a storage that does not tell is taken to have." },
  { NULL },
};

static gpointer
weighted_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Weighted *self = g_new0 (Weighted, 1);
  const char *by = config->string (config, "by");
  self->by_weight = strcmp (by, "free") != 0;
  self->by_free = strcmp (by, "weight") != 0;
  self->min_free = (guint64) config->integer (config, "min_free");
  self->unknown_free = (guint64) config->integer (config, "unknown_free");
  return self;
}

static const GsRoutingOps weighted_ops = { .place = weighted_place, .pick_reader = weighted_pick_reader };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "weighted",
                  .version = "0.1.0", .summary = "Placement and reads in proportion to weights and free bytes",
                  .license = "Apache-2.0", .options = weighted_options, .ops = &weighted_ops,
                  .create = weighted_create, .destroy = g_free)
