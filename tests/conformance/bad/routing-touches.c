/* SPDX-License-Identifier: Apache-2.0 */
/* P4: changes an out parameter and fails. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

static gboolean
bad_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
           gsize *ret_n, GError **error)
{
  gboolean placed = good_ops.place (self, key, nodes, n_nodes, n_copies, ret_nodes, ret_n, error);
  if (!placed)
    *ret_n = 0;
  return placed;
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->place = bad_place)
