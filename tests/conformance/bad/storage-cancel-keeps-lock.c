/* SPDX-License-Identifier: Apache-2.0 */
/* P7: a write that was cancelled while it was staged keeps its locks. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
           const GsVote **ret_vote, GError **error)
{
  GsCall patient = *call;
  gpointer txn = NULL;
  const GsVote *vote = NULL;
  patient.deadline_us = G_MAXINT64;
  patient.cancelled = 0;
  if (!good_ops.stage (self, &patient, repo, change, &txn, &vote, error) || !gs_call_check (call, "staging", error))
    return FALSE;
  *ret_txn = txn;
  *ret_vote = vote;
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->stage = bad_stage)
