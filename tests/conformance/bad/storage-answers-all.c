/* SPDX-License-Identifier: Apache-2.0 */
/* S70: answers a method that it does not know. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_query (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (good_ops.query (self, call, repo, query, ret_reply, &why))
    return TRUE;
  if (gs_error_code (why) == GS_ERROR_UNIMPLEMENTED)
    {
      *ret_reply = g_bytes_new_static ("", 0);
      return TRUE;
    }
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->query = bad_query)
