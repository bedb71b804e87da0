/* SPDX-License-Identifier: Apache-2.0 */
/* K1: names somebody in the decision who has not voted for it. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_add (GsActions *actions, const GsAction *action)
{
  GsActions *real = actions->priv;
  real->add (real, action);
  if (action->type == GS_ACTION_VOTER && action->participant > 0)
    real->add (real, &(GsAction){ .type = GS_ACTION_VOTER, .participant = action->participant - 1 });
}

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  GsActions mine = { sizeof mine, out, bad_add };
  good_ops.txn_step (self, txn, event, &mine);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-direct.so", ops->txn_step = bad_txn_step)
