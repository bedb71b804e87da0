/* SPDX-License-Identifier: Apache-2.0 */
/* S32: does not tell the client of a push that was dropped why. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static void
bad_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  g_autoptr (GError) other = g_error_new_literal (GS_ERROR, GS_ERROR_ABORTED, "no");
  good_ops.abort (self, call, txn, why != NULL ? other : NULL);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->abort = bad_abort)
