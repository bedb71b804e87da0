/* SPDX-License-Identifier: Apache-2.0 */
/* L1: has a slot that the wrapped instance lacks. */
#include "bad.h"

BAD_GOOD (GsLayerOps);

static gboolean
bad_wrap (gpointer self, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  gpointer *slots;
  if (!good_ops.wrap (self, inner, ret_outer, error))
    return FALSE;
  slots = (gpointer *) ret_outer->ops; /* its own copy */
  for (guint i = 0; i < 2; i++)
    if (slots[i] == NULL)
      slots[i] = slots[1 - i];
  return TRUE;
}

BAD_PLUGIN (GsLayerOps, "layer-trace.so", ops->wrap = bad_wrap)
