/* SPDX-License-Identifier: Apache-2.0 */
/* S71: computes another commit each time. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_compute (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed, GError **error)
{
  gsize len;
  const guint8 *bytes = g_bytes_get_data (query->request, &len);
  g_autofree guint8 *other = g_memdup2 (bytes, len);
  g_autoptr (GBytes) request = NULL;
  GsQuery changed = *query;
  guint8 *at = memmem (other, len, "one more", 8); /* the message */
  if (at != NULL)
    *at = (guint8) g_random_int_range (0x61, 0x7a);
  request = g_bytes_new (other, len);
  changed.request = request;
  return good_ops.compute (self, call, repo, &changed, ret_computed, error);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->compute = bad_compute)
