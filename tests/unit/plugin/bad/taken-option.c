/* SPDX-License-Identifier: Apache-2.0 */
/* An option has a key that the server keeps for itself. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

static const GsOption options[] = { { .key = "plugin", .type = GS_OPTION_STRING, .help = "Mine." }, { .key = NULL } };

GS_PLUGIN_DEFINE (GsCacheOps, .name = "taken-option", .ops = table, .options = options, FAKE_CACHE)
