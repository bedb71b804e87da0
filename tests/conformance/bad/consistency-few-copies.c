/* SPDX-License-Identifier: Apache-2.0 */
/* K6: is content with one copy, however many are wanted. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static gpointer
bad_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  GsTxnSetup less = *setup;
  less.min_copies = 1;
  return good_ops.txn_new (self, &less, error);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-direct.so", ops->txn_new = bad_txn_new)
