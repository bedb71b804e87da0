/* SPDX-License-Identifier: Apache-2.0 */
/* S50: writes the header of smart HTTP before an advertisement. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol, GBytes **ret_bytes,
               GError **error)
{
  g_autoptr (GString) text = g_string_new ("001e# service=git-upload-pack\n0000");
  g_autoptr (GBytes) bytes = NULL;
  if (!good_ops.advertise (self, call, repo, service, protocol, &bytes, error))
    return FALSE;
  g_string_append_len (text, g_bytes_get_data (bytes, NULL), (gssize) g_bytes_get_size (bytes));
  *ret_bytes = g_bytes_new (text->str, text->len);
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->advertise = bad_advertise)
