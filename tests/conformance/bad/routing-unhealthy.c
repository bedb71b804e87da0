/* SPDX-License-Identifier: Apache-2.0 */
/* R3: reads from whoever the dice say, healthy or not. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

static gboolean
bad_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
                 gsize *ret_index, GError **error)
{
  if (!good_ops.pick_reader (self, key, candidates, n_candidates, dice, ret_index, error))
    return FALSE;
  *ret_index = dice % n_candidates;
  return TRUE;
}

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->pick_reader = bad_pick_reader)
