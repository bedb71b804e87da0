/* SPDX-License-Identifier: Apache-2.0 */
/* K7: asks for the decision again with the voters that have fallen behind. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  if (event->type != GS_EVENT_BEHIND)
    good_ops.txn_step (self, txn, event, out);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
