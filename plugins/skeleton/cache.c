/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache/@NAME@: keeps the last answer, and no more.
 *
 * It is whole as it stands; what each slot promises stands in gitstead/cache.h.
 */
#include <gitstead/cache.h>
#include <gitstead/thread.h>

#define OVERHEAD 128 /* what an entry costs beside its bytes */

typedef struct
{
  const GsHost *host;
  gsize size;
  GsMutex lock;
  GBytes *key, *value; /* guarded by lock, with the rest; NULL = nothing is kept */
  gint64 expires_us;   /* 0 = never */
  GsCacheStats stats;
} Self;

/* The lock is held. The caller unrefs what it gets, without the lock: that may run an owner's function. */
static void
take_out (Self *self, GBytes **ret_key, GBytes **ret_value)
{
  *ret_key = g_steal_pointer (&self->key);
  *ret_value = g_steal_pointer (&self->value);
  self->stats.bytes = self->stats.n_entries = 0;
}

static gboolean
lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  Self *self = data;
  gint64 now_us = self->host->now_us (self->host);
  GBytes *found = NULL;
  gs_mutex_lock (&self->lock);
  if (self->key != NULL && g_bytes_equal (self->key, key) && (self->expires_us == 0 || now_us < self->expires_us))
    found = g_bytes_ref (self->value);
  (*(found != NULL ? &self->stats.hits : &self->stats.misses))++;
  gs_mutex_unlock (&self->lock);
  *ret_value = found;
  return TRUE;
}

static gboolean
store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  Self *self = data;
  gsize cost = OVERHEAD + g_bytes_get_size (key) + g_bytes_get_size (value);
  gint64 now_us = self->host->now_us (self->host);
  g_autoptr (GBytes) old_key = NULL, old_value = NULL;
  gs_mutex_lock (&self->lock);
  self->stats.evictions += self->key != NULL;
  take_out (self, &old_key, &old_value);
  if (cost <= self->size)
    {
      self->key = g_bytes_ref (key);
      self->value = g_bytes_ref (value);
      self->expires_us = ttl_us > 0 ? now_us + ttl_us : 0;
      self->stats.n_entries = 1;
      self->stats.bytes = cost;
    }
  gs_mutex_unlock (&self->lock);
  return TRUE;
}

static gboolean
forget_prefix (gpointer data, GsCall *call, GBytes *prefix, GError **error)
{
  Self *self = data;
  g_autoptr (GBytes) old_key = NULL, old_value = NULL;
  gsize n = g_bytes_get_size (prefix);
  gs_mutex_lock (&self->lock);
  if (self->key != NULL && g_bytes_get_size (self->key) >= n
      && (n == 0 || memcmp (g_bytes_get_data (self->key, NULL), g_bytes_get_data (prefix, NULL), n) == 0))
    take_out (self, &old_key, &old_value);
  gs_mutex_unlock (&self->lock);
  return TRUE;
}

static void
stats (gpointer data, GsCacheStats *ret_stats)
{
  Self *self = data;
  gs_mutex_lock (&self->lock);
  *ret_stats = self->stats;
  gs_mutex_unlock (&self->lock);
}

static const GsCacheOps ops = { .lookup = lookup, .store = store, .forget_prefix = forget_prefix, .stats = stats };

static const GsOption options[] = {
  { .key = "size",
    .type = GS_OPTION_SIZE,
    .fallback = "1MiB",
    .min = 4096,
    .max = (gint64) 1 << 40,
    .help = "How much memory the cache takes at most." },
  { .key = NULL },
};

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  self->host = host;
  self->size = (gsize) config->integer (config, "size");
  self->stats.size = sizeof self->stats;
  gs_mutex_init (&self->lock);
  return self;
}

static void
destroy (gpointer data)
{
  Self *self = data;
  g_clear_pointer (&self->key, g_bytes_unref);
  g_clear_pointer (&self->value, g_bytes_unref);
  gs_mutex_clear (&self->lock);
  g_free (self);
}

GS_PLUGIN_DEFINE (GsCacheOps, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Keeps the last answer", .license = "Apache-2.0", .ops = &ops, .create = create,
                  .options = options, .destroy = destroy)
