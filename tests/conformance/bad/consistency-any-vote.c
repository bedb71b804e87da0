/* SPDX-License-Identifier: Apache-2.0 */
/* K1: counts votes without comparing what was voted for. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static void
bad_txn_step (gpointer self, gpointer txn, const GsEvent *event, GsActions *out)
{
  static const guint8 same[32] = { 1 };
  GsEvent alike = *event;
  if (alike.digest != NULL)
    alike.digest = same;
  good_ops.txn_step (self, txn, &alike, out);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_step = bad_txn_step)
