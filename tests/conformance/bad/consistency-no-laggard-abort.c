/* SPDX-License-Identifier: Apache-2.0 */
/* K4: aborts who was lost, but not who is left behind by the others. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_add (GsActions *actions, const GsAction *action)
{
  GsActions *real = actions->priv;
  if (action->type != GS_ACTION_ABORT)
    real->add (real, action);
}

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  GsActions mine = { sizeof mine, out, bad_add };
  gboolean left_behind = event->type == GS_EVENT_TIMER || event->type == GS_EVENT_STAGED;
  good_ops.txn_step (self, txn, event, left_behind ? &mine : out);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
