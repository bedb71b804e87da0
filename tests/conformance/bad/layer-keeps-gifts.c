/* SPDX-License-Identifier: Apache-2.0 */
/* L3: makes look-ups fail that succeeded, and keeps what they gave. */
#include "bad.h"

BAD_GOOD (GsLayerOps);

typedef struct
{
  GsInstance inner;
  GsCacheOps ops;
  guint n;
} Wrap;

static gboolean
bad_lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Wrap *wrap = data;
  const GsCacheOps *ops = wrap->inner.ops;
  GBytes *found = NULL;
  if (!ops->lookup (wrap->inner.self, call, key, &found, error))
    return FALSE;
  if (++wrap->n % 2 == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "every second one fails");
  *ret_value = found;
  return TRUE;
}

static gboolean
bad_wrap (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  Wrap *wrap;
  if (inner->kind != GS_KIND_CACHE)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "caches alone");
  wrap = g_new0 (Wrap, 1);
  wrap->inner = *inner;
  wrap->ops.lookup = bad_lookup;
  *ret_outer = *inner;
  ret_outer->self = wrap;
  ret_outer->ops = &wrap->ops;
  return TRUE;
}

BAD_PLUGIN (GsLayerOps, "layer-trace.so", ops->wrap = bad_wrap)
