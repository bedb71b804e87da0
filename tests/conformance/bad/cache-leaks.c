/* SPDX-License-Identifier: Apache-2.0 */
/* P3: loses memory in each look-up. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  gpointer volatile lost = g_malloc (100);
  (void) lost;
  return good_ops.lookup (self, call, key, ret_value, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
