/* SPDX-License-Identifier: Apache-2.0 */
/* cache/none: keeps nothing. For set-ups that would rather compute again than spend memory, and for comparing. */
#include <gitstead/cache.h>

typedef struct
{
  guint64 misses; /* atomic */
} None;

static gboolean
none_lookup (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  __atomic_add_fetch (&((None *) self)->misses, 1, __ATOMIC_RELAXED);
  *ret_value = NULL;
  return TRUE;
}

static gboolean
none_store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  return TRUE;
}

static gboolean
none_forget_prefix (gpointer self, GsCall *call, GBytes *prefix, GError **error)
{
  return TRUE;
}

static void
none_stats (gpointer self, GsCacheStats *ret_stats)
{
  *ret_stats = (GsCacheStats){ .size = sizeof *ret_stats,
                               .misses = __atomic_load_n (&((None *) self)->misses, __ATOMIC_RELAXED) };
}

static gpointer
none_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (None, 1);
}

static const GsCacheOps none_ops = {
  .lookup = none_lookup,
  .store = none_store,
  .forget_prefix = none_forget_prefix,
  .stats = none_stats,
};

GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "none", .version = "0.1.0",
                  .summary = "Keeps nothing", .license = "Apache-2.0", .ops = &none_ops, .create = none_create,
                  .destroy = g_free)
