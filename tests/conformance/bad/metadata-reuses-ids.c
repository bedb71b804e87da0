/* SPDX-License-Identifier: Apache-2.0 */
/* M4: gives the id of a deleted repository to the next one. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

static guint64 freed; /* atomic */

static gboolean
note (const GsRepoRow *row, gpointer user)
{
  __atomic_store_n (&freed, row->id, __ATOMIC_RELEASE);
  return TRUE;
}

static gboolean
bad_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
                 gpointer user, GError **error)
{
  g_autoptr (GError) ignored = NULL;
  good_ops.repo_find (self, call, virtual_storage, path, note, NULL, &ignored);
  return good_ops.repo_delete (self, call, virtual_storage, path, visit, user, error);
}

static gboolean
bad_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                  GError **error)
{
  guint64 again = __atomic_exchange_n (&freed, 0, __ATOMIC_ACQ_REL);
  if (!good_ops.repo_reserve (self, call, virtual_storage, path, ret_id, error))
    return FALSE;
  if (again != 0)
    *ret_id = again;
  return TRUE;
}

BAD_PLUGIN (GsMetadataOps, "metadata-sqlite.so", ops->repo_delete = bad_repo_delete;
            ops->repo_reserve = bad_repo_reserve)
