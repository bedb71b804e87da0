/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor ends in the middle of what every plugin has. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  static const GsPlugin plugin
      = { .abi = { GS_ABI_MAGIC, GS_ABI_MAJOR, GS_ABI_MINOR, sizeof (GsAbi) + 8, sizeof (GsCacheOps) },
          .name = "short-struct",
          .ops = table,
          FAKE_CACHE };
  return &plugin;
}
