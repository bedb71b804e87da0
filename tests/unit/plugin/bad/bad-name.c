/* SPDX-License-Identifier: Apache-2.0 */
/* A name with letters that a file name should not have. */
#include "../fake.h"

static const gpointer table[] = FAKE_TABLE (GsCacheOps);

GS_PLUGIN_DEFINE (GsCacheOps, .name = "Bad Name", .ops = table, FAKE_CACHE)
