/* SPDX-License-Identifier: Apache-2.0 */
/* K8: begins to wait anew with every vote, also with one that it has counted. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  good_ops.txn_step (self, txn, event, out);
  if (event->type == GS_EVENT_STAGED)
    out->add (out, &(GsAction){ .type = GS_ACTION_TIMER, .delay_us = G_USEC_PER_SEC });
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
