/* SPDX-License-Identifier: Apache-2.0 */
/* A fallback that its own limits refuse. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

static const GsOption options[]
    = { { .key = "limit", .type = GS_OPTION_INT, .fallback = "12", .min = 1, .max = 10, .help = "A limit." },
        { .key = NULL } };

GS_PLUGIN_DEFINE (GsCacheOps, .name = "bad-option", .ops = table, .options = options, FAKE_CACHE)
