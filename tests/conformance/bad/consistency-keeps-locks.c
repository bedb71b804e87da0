/* SPDX-License-Identifier: Apache-2.0 */
/* K4: aborts nobody. */
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
  good_ops.txn_step (self, txn, event, &mine);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-direct.so", ops->txn_step = bad_txn_step)
