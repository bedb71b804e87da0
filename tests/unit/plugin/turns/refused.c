/* SPDX-License-Identifier: Apache-2.0 */
/* Whole but for its threads, which its kind or one of its slots rules out. */
#include "../fake.h"

#include <gitstead/layer.h>

static const gpointer table[] = FAKE_TABLE (REFUSED_OPS);

GS_PLUGIN_DEFINE (REFUSED_OPS, .kind = REFUSED_KIND, .threads = REFUSED_THREADS, .name = "refused", .version = "1",
                  .summary = "For tests.", .license = "Apache-2.0", .ops = table, .create = fake_create,
                  .destroy = fake_destroy)
