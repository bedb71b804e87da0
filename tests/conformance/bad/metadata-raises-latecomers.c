/* SPDX-License-Identifier: Apache-2.0 */
/* M10: calls every voter current, also one that had missed an earlier write. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  guint64 generation;
  if (!good_ops.decide (self, call, request, &generation, error))
    return FALSE;
  for (gsize i = 0; request->voters[i] != NULL; i++)
    good_ops.replica_set (self, call, request->repository_id, request->voters[i], generation, FALSE, NULL);
  *ret_generation = generation;
  return TRUE;
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->decide = bad_decide)
