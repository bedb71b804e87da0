/* SPDX-License-Identifier: Apache-2.0 */
/* S34: an aborted write keeps its locks. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static void
bad_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->abort = bad_abort)
