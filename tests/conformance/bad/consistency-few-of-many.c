/* SPDX-License-Identifier: Apache-2.0 */
/* K6: decides with a majority, though min_copies asks for more. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static gpointer
bad_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  GsTxnSetup less = *setup;
  less.min_copies = MIN (setup->min_copies, setup->n_participants / 2 + 1);
  return good_ops.txn_new (self, &less, error);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_new = bad_txn_new)
