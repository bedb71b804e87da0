/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer/@NAME@: stands before a cache and counts what is asked of it.
 *
 * It is whole as it stands, and changes nothing. What a layer promises stands in gitstead/layer.h; the slots that it puts in
 * place of the cache's, in gitstead/cache.h. In the configuration: "cache: {plugin: memory, layers: [{plugin: @NAME@}]}".
 */
#include <gitstead/cache.h>
#include <gitstead/layer.h>

typedef struct
{
  const GsHost *host;
  GsMetric *n_lookups, *n_stores;
  GPtrArray *wraps;
} Self;

typedef struct
{
  Self *self;
  GsInstance inner;
  GsCacheOps ops; /* with the gaps of the inner one's */
} Wrap;

static const GsCacheOps *
inner_ops (const Wrap *wrap)
{
  return wrap->inner.ops;
}

static gboolean
lookup (gpointer data, GsCall *call, GBytes *key, GBytes **ret_value, GError **error)
{
  const Wrap *wrap = data;
  wrap->self->host->metric_update (wrap->self->n_lookups, 1);
  return inner_ops (wrap)->lookup (wrap->inner.self, call, key, ret_value, error);
}

static gboolean
store (gpointer data, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  const Wrap *wrap = data;
  wrap->self->host->metric_update (wrap->self->n_stores, 1);
  return inner_ops (wrap)->store (wrap->inner.self, call, key, value, ttl_us, error);
}

static gboolean
forget_prefix (gpointer data, GsCall *call, GBytes *prefix, GError **error)
{
  const Wrap *wrap = data;
  return inner_ops (wrap)->forget_prefix (wrap->inner.self, call, prefix, error);
}

static void
stats (gpointer data, GsCacheStats *ret_stats)
{
  const Wrap *wrap = data;
  inner_ops (wrap)->stats (wrap->inner.self, ret_stats);
}

static gboolean
wrap (gpointer data, const GsInstance *inner, GsInstance *ret_outer, GError **error)
{
  Self *self = data;
  const GsCacheOps *ops = inner->ops;
  Wrap *made;
  if (inner->kind != GS_KIND_CACHE)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "%s: it stands before caches alone", self->host->instance);
  made = g_new0 (Wrap, 1);
  made->self = self;
  made->inner = *inner;
  made->ops.lookup = ops->lookup != NULL ? lookup : NULL;
  made->ops.store = ops->store != NULL ? store : NULL;
  made->ops.forget_prefix = ops->forget_prefix != NULL ? forget_prefix : NULL;
  made->ops.stats = ops->stats != NULL ? stats : NULL;
  g_ptr_array_add (self->wraps, made);
  *ret_outer = *inner;
  ret_outer->self = made;
  ret_outer->ops = &made->ops;
  return TRUE;
}

static const GsLayerOps ops = { .wrap = wrap };

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  self->host = host;
  self->wraps = g_ptr_array_new_with_free_func (g_free);
  self->n_lookups = host->metric (host, GS_METRIC_COUNTER, "cache_lookups_seen_total", "Look-ups that came by.", NULL);
  self->n_stores = host->metric (host, GS_METRIC_COUNTER, "cache_stores_seen_total", "Answers to keep that came by.", NULL);
  return self;
}

static void
destroy (gpointer data)
{
  Self *self = data;
  g_ptr_array_unref (self->wraps);
  g_free (self);
}

GS_PLUGIN_DEFINE (GsLayerOps, .kind = GS_KIND_LAYER, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Counts what is asked of a cache", .license = "Apache-2.0", .ops = &ops, .create = create,
                  .destroy = destroy)
