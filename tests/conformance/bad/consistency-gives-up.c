/* SPDX-License-Identifier: Apache-2.0 */
/* K2: fails when the time of the laggards is over, though the decision is under way. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_add (GsActions *actions, const GsAction *action)
{
  GsActions *real = actions->priv;
  real->add (real, action);
  if (action->type == GS_ACTION_DECIDE)
    real->add (real, &(GsAction){ .type = GS_ACTION_FAIL, .code = GS_ERROR_UNAVAILABLE, .reason = "time is up" });
}

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  GsActions mine = { sizeof mine, out, bad_add };
  good_ops.txn_step (self, txn, event, &mine);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
