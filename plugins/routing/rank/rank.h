/* SPDX-License-Identifier: Apache-2.0 */
/**
 * rank.h - what the routing plugins share: nodes in weighted rendezvous order, and the less busy of two readers.
 *
 * A node's score for a repository is weight / -log2 (h), h being SHA-256 (key NUL node name) as a fraction of its
 * range: each node wins in proportion to its weight, and a node that comes or goes moves only what it gains or
 * held. All in integers, so that every router on every machine finds the same order.
 */
#ifndef ROUTING_RANK_H
#define ROUTING_RANK_H

#include <gitstead/routing.h>

/** A node that can take the repository. */
typedef struct
{
  gsize index; /* in the list of nodes */
  const GsNodeView *view;
  guint tier; /* nodes of a lower tier come first, whatever their score */
  guint64 weight;
  guint64 hash;
  guint64 cost; /* -log2 (hash / 2^64), fixed point; the score is weight / cost */
} Ranked;

/** What the node's score goes by; above 0. *@tier is 1 for one that drains, else 0, and may be changed. */
typedef guint64 (*RankWeigh) (const GsNodeView *view, gpointer user, guint *tier);
/** Readers of the lowest class alone are looked at. */
typedef guint (*RankClass) (const GsNodeView *view, gpointer user);
/** Is @a less busy than @b? */
typedef gboolean (*RankLess) (const GsNodeView *a, const GsNodeView *b);

/** The tier of a node that drains. */
#define RANK_DRAINING 1u

/**
 * The eligible nodes (healthy, weight above 0), best first. @weigh NULL: by the configured weight. NULL with
 * UNAVAILABLE when there is none, INVALID_ARGUMENT when @n_copies is 0. *full*.
 */
GArray *rank_nodes (GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, RankWeigh weigh,
                    gpointer user, GError **error);
/** The first min (@n_copies, all) of them, as place returns them. */
void rank_take (const GArray *ranked, gsize n_copies, gsize *ret_nodes, gsize *ret_n);

/**
 * Draws two healthy candidates, those that drain only when there is no other, and takes the less busy one.
 * @class_of NULL: all are alike. @less NULL: by calls under way. UNAVAILABLE when none is healthy.
 */
gboolean rank_pick (const GsNodeView *const *candidates, gsize n_candidates, guint64 dice, RankClass class_of,
                    RankLess less, gpointer user, gsize *ret_index, GError **error);

#endif
