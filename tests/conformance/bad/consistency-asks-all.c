/* SPDX-License-Identifier: Apache-2.0 */
/* K7: asks replicas that are behind as if they were current. */
#include "bad.h"

BAD_GOOD (GsConsistencyOps);

static gpointer
bad_txn_new (gpointer self, const GsTxnSetup *setup, GError **error)
{
  g_autofree GsParticipant *parts = g_new0 (GsParticipant, setup->n_participants);
  g_autofree const GsParticipant **list = g_new0 (const GsParticipant *, setup->n_participants + 1);
  GsTxnSetup all = *setup;
  for (gsize i = 0; i < setup->n_participants; i++)
    {
      parts[i] = *setup->participants[i];
      parts[i].current = TRUE;
      list[i] = &parts[i];
    }
  all.participants = list;
  return good_ops.txn_new (self, &all, error);
}

BAD_PLUGIN (GsConsistencyOps, "consistency-quorum.so", ops->txn_new = bad_txn_new)
