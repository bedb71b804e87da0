/* SPDX-License-Identifier: Apache-2.0 */
/* S12: does not see a replica that is of another repository. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  GsReplicaState state = { .size = sizeof state };
  *ret_exists = good_ops.state (self, call, repo, &state, NULL);
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->exists = bad_exists)
