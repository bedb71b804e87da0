/* SPDX-License-Identifier: Apache-2.0 */
/* R4: places on nodes that are draining. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

static gboolean
bad_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
           gsize *ret_n, GError **error)
{
  g_autofree GsNodeView *views = g_new0 (GsNodeView, n_nodes + 1);
  g_autofree const GsNodeView **list = g_new0 (const GsNodeView *, n_nodes + 1);
  for (gsize i = 0; i < n_nodes; i++)
    {
      views[i] = *nodes[i];
      views[i].draining = FALSE;
      list[i] = &views[i];
    }
  return good_ops.place (self, key, list, n_nodes, n_copies, ret_nodes, ret_n, error);
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->place = bad_place)
