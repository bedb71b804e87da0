/* SPDX-License-Identifier: Apache-2.0 */
/* K5: acknowledges when the first has applied, and repairs nobody who had not by then. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_add (GsActions *actions, const GsAction *action)
{
  GsActions *real = actions->priv;
  if (action->type != GS_ACTION_REPAIR)
    real->add (real, action);
}

/* The time of those who are waited for is over before it begins. */
static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  GsActions mine = { sizeof mine, out, bad_add };
  good_ops.txn_step (self, txn, event, &mine);
  if (event->type == GS_EVENT_DECIDED)
    good_ops.txn_step (self, txn, &(GsEvent){ sizeof (GsEvent), GS_EVENT_TIMER, 0, NULL }, &mine);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
