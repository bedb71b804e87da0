/* SPDX-License-Identifier: Apache-2.0 */
/* routing/rendezvous: weighted highest-random-weight placement; reads go to the less busy of two. */
#include "rank.h"

static gboolean
rendezvous_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies,
                  gsize *ret_nodes, gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = rank_nodes (key, nodes, n_nodes, n_copies, NULL, NULL, error);
  if (ranked == NULL)
    return FALSE;
  rank_take (ranked, n_copies, ret_nodes, ret_n);
  return TRUE;
}

static gboolean
rendezvous_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates,
                        guint64 dice, gsize *ret_index, GError **error)
{
  return rank_pick (candidates, n_candidates, dice, NULL, NULL, NULL, ret_index, error);
}

static gpointer
rendezvous_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (char, 1); /* nothing to keep */
}

static const GsRoutingOps rendezvous_ops = { .place = rendezvous_place, .pick_reader = rendezvous_pick_reader };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "rendezvous",
                  .version = "0.1.0", .summary = "Weighted rendezvous placement; reads go to the less busy of two",
                  .license = "Apache-2.0", .ops = &rendezvous_ops, .create = rendezvous_create, .destroy = g_free)
