/* SPDX-License-Identifier: Apache-2.0 */
/* P5: does not come back. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

#include <unistd.h>

static gboolean
bad_forget_prefix (gpointer self, GsCall *call, GBytes *prefix, GError **error)
{
  for (;;)
    pause ();
  return TRUE;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->forget_prefix = bad_forget_prefix)
