/* SPDX-License-Identifier: Apache-2.0 */
/* C1: gives other bytes than were stored. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  g_autoptr (GBytes) value = NULL;
  gsize n;
  guint8 *copy;
  if (!good_ops.lookup (self, call, key, &value, error))
    return FALSE;
  *ret_value = NULL;
  if (value == NULL)
    return TRUE;
  n = g_bytes_get_size (value);
  copy = g_memdup2 (g_bytes_get_data (value, NULL), n);
  if (n > 0)
    copy[n - 1] ^= 1;
  *ret_value = g_bytes_new_take (copy, n);
  return TRUE;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
