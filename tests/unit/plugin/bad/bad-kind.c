/* SPDX-License-Identifier: Apache-2.0 */
/* A kind that there is not. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_PLUGIN_DEFINE (GsCacheOps, .name = "bad-kind", .ops = table, .kind = 99, .version = "1", .summary = "For tests.",
                  .license = "Apache-2.0", .create = fake_create, .destroy = fake_destroy)
