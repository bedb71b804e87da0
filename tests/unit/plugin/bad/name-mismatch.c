/* SPDX-License-Identifier: Apache-2.0 */
/* It says another name than its file. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_PLUGIN_DEFINE (GsCacheOps, .name = "another-name", .ops = table, FAKE_CACHE)
