/* SPDX-License-Identifier: Apache-2.0 */
/* S62: streams the first mebibyte of an object alone. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_stream (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream, GError **error)
{
  GsObject object = { .size = sizeof object };
  g_autoptr (GBytes) bytes = NULL, cut = NULL;
  if (!good_ops.read_object (self, call, repo, oid, G_MAXINT64, &object, &bytes, error))
    return FALSE;
  cut = g_bytes_new_from_bytes (bytes, 0, MIN (g_bytes_get_size (bytes), 1024 * 1024));
  return stream->send_all (stream, cut, error);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->stream_object = bad_stream)
