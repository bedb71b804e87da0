/* SPDX-License-Identifier: Apache-2.0 */
/* S73: gives its medium another id each time. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
bad_disk (gpointer self, GsDisk *ret_disk, GError **error)
{
  *ret_disk = (GsDisk){ .size = sizeof *ret_disk, .free_bytes = 1, .total_bytes = 2 };
  for (gsize i = 0; i < sizeof ret_disk->id.bytes; i++)
    ret_disk->id.bytes[i] = (guint8) g_random_int_range (1, 256);
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->disk = bad_disk)
