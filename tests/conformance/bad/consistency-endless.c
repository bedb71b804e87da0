/* SPDX-License-Identifier: Apache-2.0 */
/* K3: never ends once the write was applied. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  if (event->type != GS_EVENT_APPLIED)
    good_ops.txn_step (self, txn, event, out);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-direct.so", ops->txn_step = bad_txn_step)
