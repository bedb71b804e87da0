/* SPDX-License-Identifier: Apache-2.0 */
/* P1: lacks a required slot. */
#include "bad.h"

BAD_GOOD (GsRoutingOps);

BAD_PLUGIN (GsRoutingOps, "routing-rendezvous.so", ops->pick_reader = NULL)
