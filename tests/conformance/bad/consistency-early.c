/* SPDX-License-Identifier: Apache-2.0 */
/* K2: acknowledges before the decision. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_add (GsActions *actions, const GsAction *action)
{
  GsActions *real = actions->priv;
  if (action->type == GS_ACTION_ACKNOWLEDGE)
    return;
  real->add (real, action);
  if (action->type == GS_ACTION_DECIDE)
    real->add (real, &(GsAction){ .type = GS_ACTION_ACKNOWLEDGE });
}

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  GsActions mine = { sizeof mine, out, bad_add };
  good_ops.txn_step (self, txn, event, &mine);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-direct.so", ops->txn_step = bad_txn_step)
