/* SPDX-License-Identifier: Apache-2.0 */
/* S40: does not know what an earlier process had staged. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->pending = bad_pending)
