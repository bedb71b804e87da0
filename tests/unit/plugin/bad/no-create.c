/* SPDX-License-Identifier: Apache-2.0 */
/* No create function. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_PLUGIN_DEFINE (GsCacheOps, .name = "no-create", .ops = table, .kind = GS_KIND_CACHE, .threads = GS_THREADS_PARALLEL,
                  .version = "1", .summary = "For tests.", .license = "Apache-2.0", .destroy = fake_destroy)
