/* SPDX-License-Identifier: Apache-2.0 */
/* L4: two instances that it wraps get the calls of the last one. */
#include "bad.h"

BAD_GOOD (GsLayerOps);

static GsInstance last;

static gboolean
bad_store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  return ((const GsCacheOps *) last.ops)->store (last.self, call, key, value, ttl_us, error);
}

static gboolean
bad_wrap (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  if (!good_ops.wrap (self, inner, ret_outer, error))
    return FALSE;
  if (inner->kind == GS_KIND_CACHE && ((const GsCacheOps *) inner->ops)->store != NULL)
    {
      last = *inner;
      ((GsCacheOps *) ret_outer->ops)->store = bad_store; /* its own copy */
    }
  return TRUE;
}

BAD_PLUGIN (GsLayerOps, "layer-trace.so", ops->wrap = bad_wrap)
