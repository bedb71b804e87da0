/* SPDX-License-Identifier: Apache-2.0 */
/* M9: gives every job a lane of its own, so that two of a repository run at once. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error)
{
  GsJobRow alone = *job;
  alone.lane = job->target;
  return good_ops.job_add (self, call, &alone, ret_id, error);
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->job_add = bad_job_add)
