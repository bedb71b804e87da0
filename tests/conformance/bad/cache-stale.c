/* SPDX-License-Identifier: Apache-2.0 */
/* C5: keeps entries beyond their time. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  return good_ops.store (self, call, key, value, 0, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->store = bad_store)
