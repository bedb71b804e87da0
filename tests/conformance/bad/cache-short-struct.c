/* SPDX-License-Identifier: Apache-2.0 */
/* P1: lies about the size of its descriptor. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

BAD_PLUGIN (GsCacheOps, "cache-memory.so", bad.abi.struct_size = 24)
