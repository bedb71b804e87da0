/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cache.h - kind CACHE, class BLOCKING: keeps copies of answers.
 *
 * Keys name what they hold for ever (repository id, refs digest, request), so nothing is ever stale
 * and there is no invalidation protocol; forget_prefix only frees room. A cache may lose anything at
 * any time: a lost server is a miss, never an error.
 *   [C1] lookup after store gives the same bytes, or a miss.
 *   [C2] A miss is TRUE with *@ret_value NULL.
 *   [C3] The cache never holds more than its configured size, whatever is stored.
 *   [C4] Any number of threads at once.
 *   [C5] An entry is not returned after its time to live.
 */
#ifndef GITSTEAD_CACHE_H
#define GITSTEAD_CACHE_H

#include "host.h"

G_BEGIN_DECLS

typedef struct
{
  guint32 size;
  guint64 n_entries, bytes, hits, misses, evictions;
} GsCacheStats;

typedef struct
{
  /** @key is any bytes, at most 1 KiB, borrowed until return. @ret_value *full* or NULL. */
  gboolean (*lookup) (gpointer self, GsCall *call, GBytes *key, GBytes **ret_value, GError **error);
  /** Keeps a reference to @value. @ttl_us 0 = as long as there is room. Too large: silently not kept. */
  gboolean (*store) (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us,
                     GError **error);
  /** Drops every entry whose key begins with @prefix. */
  gboolean (*forget_prefix) (gpointer self, GsCall *call, GBytes *prefix, GError **error);
  void (*stats) (gpointer self, GsCacheStats *ret_stats);
} GsCacheOps;

G_END_DECLS

#endif
