/* SPDX-License-Identifier: Apache-2.0 */
/* Built for an older minor of ABI 0. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_EXPORT const GsPlugin *gs_plugin_query (void);
const GsPlugin *
gs_plugin_query (void)
{
  static const GsPlugin plugin
      = { .abi = { GS_ABI_MAGIC, GS_ABI_MAJOR, GS_ABI_MINOR - 1, sizeof (GsPlugin), sizeof (GsCacheOps) },
          .name = "wrong-minor",
          .ops = table,
          FAKE_CACHE };
  return &plugin;
}
