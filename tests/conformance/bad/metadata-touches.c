/* SPDX-License-Identifier: Apache-2.0 */
/* M6: changes an out parameter and fails. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static gboolean
bad_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                  GError **error)
{
  gboolean reserved = good_ops.repo_reserve (self, call, virtual_storage, path, ret_id, error);
  if (!reserved)
    *ret_id = 0;
  return reserved;
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->repo_reserve = bad_repo_reserve)
