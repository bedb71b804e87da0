/* SPDX-License-Identifier: Apache-2.0 */
/* Its create fails without a reason. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

static gpointer
silent_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return NULL;
}

GS_PLUGIN_DEFINE (GsCacheOps, .name = "silent-create", .ops = table, .kind = GS_KIND_CACHE,
                  .threads = GS_THREADS_PARALLEL, .version = "1", .summary = "For tests.", .license = "Apache-2.0",
                  .create = silent_create, .destroy = fake_destroy)
