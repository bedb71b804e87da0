/* SPDX-License-Identifier: Apache-2.0 */
/* P5: comes back long after the call's deadline. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

#include <poll.h>

static gboolean
bad_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  if (call->deadline_us != G_MAXINT64)
    poll (NULL, 0, 3000);
  return good_ops.lookup (self, call, key, ret_value, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", ops->lookup = bad_lookup)
