/* SPDX-License-Identifier: Apache-2.0 */
/* M9: lets a worker whose job was given to another end it all the same. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
note (const GsJobRow *row, gpointer user)
{
  *(guint64 *) user = row->token;
  return TRUE;
}

static gboolean
bad_job_end (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us,
             GError **error)
{
  good_ops.job_list (self, call, NULL, id - 1, 1, note, &token, NULL);
  return good_ops.job_end (self, call, id, token, failure, retry_us, error);
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->job_end = bad_job_end)
