/* SPDX-License-Identifier: Apache-2.0 */
/* S42: takes replicas for trash. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
note_one (const GsRepo *repo, gpointer user)
{
  g_ptr_array_add (user, g_strdup (repo->replica_path));
  g_ptr_array_add (user, g_memdup2 (&repo->id, sizeof repo->id));
  return TRUE;
}

static gboolean
bad_maintain (gpointer self, GsCall *call, GError **error)
{
  g_autoptr (GPtrArray) found = g_ptr_array_new_with_free_func (g_free);
  if (!good_ops.maintain (self, call, error) || !good_ops.list (self, call, note_one, found, error))
    return FALSE;
  for (guint i = 0; i + 1 < found->len; i += 2)
    {
      GsRepo repo = { sizeof repo, *(guint64 *) found->pdata[i + 1], found->pdata[i] };
      good_ops.remove (self, call, &repo, NULL);
    }
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->maintain = bad_maintain)
