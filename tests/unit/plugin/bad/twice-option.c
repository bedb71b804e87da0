/* SPDX-License-Identifier: Apache-2.0 */
/* An option stands twice. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

static const GsOption options[] = { { .key = "limit", .type = GS_OPTION_INT, .help = "A limit." },
                                    { .key = "limit", .type = GS_OPTION_INT, .help = "Again." },
                                    { .key = NULL } };

GS_PLUGIN_DEFINE (GsCacheOps, .name = "twice-option", .ops = table, .options = options, FAKE_CACHE)
