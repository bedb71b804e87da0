/* SPDX-License-Identifier: Apache-2.0 */
/* P6: ends the process, and calls it a success. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

#include <unistd.h>

static gboolean
bad_store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  if (g_bytes_get_size (value) == 0)
    _exit (0);
  return good_ops.store (self, call, key, value, ttl_us, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->store = bad_store)
