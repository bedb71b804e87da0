/* SPDX-License-Identifier: Apache-2.0 */
/* A need of a kind that there is not. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

static const GsNeed needs[] = { { "store", 42, 0 }, { NULL, 0, 0 } };

GS_PLUGIN_DEFINE (GsCacheOps, .name = "bad-need", .ops = table, .needs = needs, FAKE_CACHE)
