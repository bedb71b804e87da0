/* SPDX-License-Identifier: Apache-2.0 */
/* C2: a miss is TRUE without a result being set. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  GBytes *value = NULL;
  if (!good_ops.lookup (self, call, key, &value, error))
    return FALSE;
  if (value != NULL)
    *ret_value = value;
  return TRUE;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
