/* SPDX-License-Identifier: Apache-2.0 */
/* P7: looks at the call only when the work is done. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error)
{
  GsCall patient = *call;
  patient.deadline_us = G_MAXINT64;
  patient.cancelled = 0;
  return good_ops.repo_record (self, &patient, row, call_id, error) && gs_call_check (call, "recording", error);
}

BAD_PLUGIN (GsMetadataOps, "metadata-memory.so", ops->repo_record = bad_repo_record)
