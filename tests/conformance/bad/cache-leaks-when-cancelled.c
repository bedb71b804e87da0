/* SPDX-License-Identifier: Apache-2.0 */
/* P3: forgets what it made for a call that was cancelled. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  char *copy = g_strnfill (1000, 'x');
  if (!gs_call_check (call, "looking up", error))
    return FALSE;
  g_free (copy);
  return good_ops.lookup (self, call, key, ret_value, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
