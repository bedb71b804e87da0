/* SPDX-License-Identifier: Apache-2.0 */
/* A5: what was given out counts for ever. */
#include "bad.h"

BAD_GOOD (GsAccessOps);

static gboolean
bad_recheck (gpointer self, GsCall *call, const GsIdentity *identity, GError **error)
{
  return TRUE;
}

BAD_PLUGIN (GsAccessOps, "access-token.so", ops->recheck = bad_recheck)
