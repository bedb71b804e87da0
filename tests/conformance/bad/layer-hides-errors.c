/* SPDX-License-Identifier: Apache-2.0 */
/* L2: makes a miss of a look-up that failed. */
#include "bad.h"

BAD_GOOD (GsLayerOps);

typedef struct
{
  GsInstance inner;
  GsCacheOps ops;
} Wrap;

static gboolean
bad_lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  const Wrap *wrap = data;
  const GsCacheOps *ops = wrap->inner.ops;
  if (!ops->lookup (wrap->inner.self, call, key, ret_value, NULL))
    *ret_value = NULL;
  return TRUE;
}

static gboolean
bad_store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  const Wrap *wrap = data;
  const GsCacheOps *ops = wrap->inner.ops;
  return ops->store (wrap->inner.self, call, key, value, ttl_us, error);
}

static gboolean
bad_wrap (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  const GsCacheOps *ops = inner->ops;
  Wrap *wrap;
  if (inner->kind != GS_KIND_CACHE)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "caches alone");
  wrap = g_new0 (Wrap, 1);
  wrap->inner = *inner;
  wrap->ops.lookup = ops->lookup != NULL ? bad_lookup : NULL;
  wrap->ops.store = ops->store != NULL ? bad_store : NULL;
  *ret_outer = *inner;
  ret_outer->self = wrap;
  ret_outer->ops = &wrap->ops;
  return TRUE;
}

BAD_PLUGIN (GsLayerOps, "layer-trace.so", ops->wrap = bad_wrap)
