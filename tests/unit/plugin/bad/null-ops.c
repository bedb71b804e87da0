/* SPDX-License-Identifier: Apache-2.0 */
/* No table at all. */
#include "../fake.h"

GS_PLUGIN_DEFINE (GsCacheOps, .name = "null-ops", FAKE_CACHE)
