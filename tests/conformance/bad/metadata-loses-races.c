/* SPDX-License-Identifier: Apache-2.0 */
/* M2: lets a decision through whose expected generation is stale. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
note (const GsRepoRow *row, gpointer user)
{
  *(guint64 *) user = row->generation;
  return TRUE;
}

static gboolean
bad_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  g_autoptr (GError) ignored = NULL;
  GsDecideRequest newer = *request;
  good_ops.repo_get (self, call, request->repository_id, note, &newer.expected_generation, &ignored);
  return good_ops.decide (self, call, &newer, ret_generation, error);
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->decide = bad_decide)
