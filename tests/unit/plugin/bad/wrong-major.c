/* SPDX-License-Identifier: Apache-2.0 */
/* Built for an ABI that is to come. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  static const GsPlugin plugin
      = { .abi = { GS_ABI_MAGIC, GS_ABI_MAJOR + 7, GS_ABI_MINOR, sizeof (GsPlugin), sizeof (GsCacheOps) },
          .name = "wrong-major",
          .ops = table,
          FAKE_CACHE };
  return &plugin;
}
