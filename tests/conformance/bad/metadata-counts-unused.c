/* SPDX-License-Identifier: Apache-2.0 */
/* M10: counts the vote of a replica that was taken out of use after it voted. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  GsDecideRequest loose = *request;
  loose.flags |= GS_DECIDE_BEHIND;
  return good_ops.decide (self, call, &loose, ret_generation, error);
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->decide = bad_decide)
