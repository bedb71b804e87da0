/* SPDX-License-Identifier: Apache-2.0 */
/* M3: says that a transaction is aborted, and decides it later. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
              GError **error)
{
  GsTxState state = GS_TX_UNKNOWN;
  if (!good_ops.tx_find (self, call, repository_id, txid, &state, NULL, NULL, error))
    return FALSE;
  *ret_state = state == GS_TX_DECIDED ? GS_TX_DECIDED : GS_TX_ABORTED;
  return TRUE;
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->tx_abort = bad_tx_abort)
