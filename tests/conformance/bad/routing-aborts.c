/* SPDX-License-Identifier: Apache-2.0 */
/* P6: ends the process when it is asked where a repository goes. */
#include "bad.h"

#include <stdlib.h>

BAD_GOOD (GsRoutingOps);

static gboolean
bad_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
           gsize *ret_n, GError **error)
{
  abort ();
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", bad.name = "aborts"; bad.version = "9.8.7"; ops->place = bad_place)
