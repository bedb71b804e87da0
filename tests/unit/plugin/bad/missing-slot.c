/* SPDX-License-Identifier: Apache-2.0 */
/* The table lacks a slot that every cache must have. */
#include "../fake.h"

static gboolean
lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  *ret_value = NULL;
  return TRUE;
}

static void
stats (gpointer self, GsCacheStats *ret_stats)
{
}

static const GsCacheOps table = { .lookup = lookup, .stats = stats };

GS_PLUGIN_DEFINE (GsCacheOps, .name = "missing-slot", .ops = &table, FAKE_CACHE)
