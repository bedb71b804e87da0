/* SPDX-License-Identifier: Apache-2.0 */
/* The table is smaller than the version says. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  static const GsPlugin plugin
      = { .abi = { GS_ABI_MAGIC, GS_ABI_MAJOR, GS_ABI_MINOR, sizeof (GsPlugin), sizeof (GsCacheOps) - 8 },
          .name = "short-ops",
          .ops = table,
          FAKE_CACHE };
  return &plugin;
}
