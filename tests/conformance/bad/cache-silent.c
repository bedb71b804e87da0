/* SPDX-License-Identifier: Apache-2.0 */
/* P4: fails without an error. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  GBytes *value = NULL;
  if (!good_ops.lookup (self, call, key, &value, error) || value == NULL)
    return FALSE;
  *ret_value = value;
  return TRUE;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
