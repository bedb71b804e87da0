/* SPDX-License-Identifier: Apache-2.0 */
/* S61: does not look at the limit of an object. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_read (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes, GsObject *ret_object,
          GBytes **ret_bytes, GError **error)
{
  return good_ops.read_object (self, call, repo, oid, G_MAXINT64, ret_object, ret_bytes, error);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->read_object = bad_read)
