/* SPDX-License-Identifier: Apache-2.0 */
/* S51: serves every fetch with nothing. */
#include "bad.h"

#include <unistd.h>

BAD_GOOD (GsStorageOps);

static gboolean
bad_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless, GsStream *stream,
                 GError **error)
{
  int output = stream->open_output (stream, error);
  if (output >= 0)
    close (output);
  return output >= 0;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->upload_pack = bad_upload_pack)
