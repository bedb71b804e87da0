/* SPDX-License-Identifier: Apache-2.0 */
/* S72: works, and says that it is not there. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_probe (gpointer self, GError **error)
{
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "nobody has looked yet");
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->probe = bad_probe)
