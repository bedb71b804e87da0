/* SPDX-License-Identifier: Apache-2.0 */
/* R5: goes by the name where no rule was given. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

static gboolean
bad_place_named (gpointer self, GBytes *key, const char *path, const GsNodeView *const *nodes, gsize n_nodes,
                 gsize n_copies, gsize *ret_nodes, gsize *ret_n, GError **error)
{
  g_autoptr (GBytes) named = g_bytes_new (path, strlen (path));
  return good_ops.place (self, named, nodes, n_nodes, n_copies, ret_nodes, ret_n, error);
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->place_named = bad_place_named)
