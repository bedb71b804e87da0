/* SPDX-License-Identifier: Apache-2.0 */
/* The header does not begin with the magic. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  static const GsPlugin plugin
      = { .abi = { 0x12345678u, GS_ABI_MAJOR, GS_ABI_MINOR, sizeof (GsPlugin), sizeof (GsCacheOps) },
          .name = "wrong-magic",
          .ops = table,
          FAKE_CACHE };
  return &plugin;
}
