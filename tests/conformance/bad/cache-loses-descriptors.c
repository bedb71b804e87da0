/* SPDX-License-Identifier: Apache-2.0 */
/* P3: leaves a descriptor open in each life. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

#include <fcntl.h>

static gboolean
bad_start (gpointer self, GError **error)
{
  return open ("/dev/null", O_RDONLY | O_CLOEXEC) >= 0;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", bad.start = bad_start)
