/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storage/@NAME@: hands every call on to another storage instance, its need "inner".
 *
 * It is whole as it stands. Replace one slot after the other by your own, until there is nothing left to hand on; what each
 * slot promises stands in gitstead/storage.h. In the configuration "inner: NAME" names the instance behind it.
 */
#include <gitstead/storage.h>

typedef struct
{
  const GsHost *host;
  GsInstance inner; /* from start to stop */
} Self;

static const GsStorageOps *
inner_ops (const Self *self)
{
  return self->inner.ops;
}

@SLOTS@

static gpointer
new_instance (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  self->host = host;
  return self;
}

static gboolean
start (gpointer data, GError **error)
{
  Self *self = data;
  if (self->host->need (self->host, "inner", &self->inner))
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: there is no instance behind it", self->host->instance);
}

static const GsNeed needs[] = { { "inner", GS_KIND_STORAGE, 0 }, { NULL, 0, 0 } };

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Hands on to another storage", .license = "Apache-2.0", .ops = &ops, .create = new_instance,
                  .needs = needs, .start = start, .destroy = g_free)
