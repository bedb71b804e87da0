/* SPDX-License-Identifier: Apache-2.0 */
/* R1: places two copies on one node. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

static gboolean
bad_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
           gsize *ret_n, GError **error)
{
  if (!good_ops.place (self, key, nodes, n_nodes, n_copies, ret_nodes, ret_n, error))
    return FALSE;
  if (*ret_n > 1)
    ret_nodes[1] = ret_nodes[0];
  return TRUE;
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->place = bad_place)
