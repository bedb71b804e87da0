/* SPDX-License-Identifier: Apache-2.0 */
/* S1: sets the state of a replica that is not there. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  gboolean told = good_ops.state (self, call, repo, ret_state, error);
  if (!told)
    *ret_state = (GsReplicaState){ .size = sizeof *ret_state, .generation = 1 };
  return told;
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->state = bad_state)
