/* SPDX-License-Identifier: Apache-2.0 */
/* A good access plugin under a cache's file name. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsAccessOps);

GS_PLUGIN_DEFINE (GsAccessOps, .name = "wrong-kind", .ops = table, .kind = GS_KIND_ACCESS, .version = "1",
                  .summary = "For tests.", .license = "Apache-2.0", .create = fake_create, .destroy = fake_destroy)
