/* SPDX-License-Identifier: Apache-2.0 */
/**
 * kept.h - versions that accept-dataloss gave up: how the record says which those are, and where they are put aside.
 */
#ifndef GSI_ROUTER_KEPT_H
#define GSI_ROUTER_KEPT_H

#include "router/cluster.h"

/** The vote of the change by which a repository went on from @kept: writes after it, up to that change, were given up. */
void gsi_kept_mark (guint64 kept, guint8 ret_vote[32]);
/** Does a replica in @state hold what was given up? Then it must be put aside before it is written over. */
gboolean gsi_kept_holds (GsiRouter *router, GsCall *call, guint64 id, const GsReplicaState *state);
/** What is put aside on all storages that can be asked, as messages in @bag. */
void gsi_kept_list (GsiRouter *router, GsCall *call, GsiBag *bag, GPtrArray *list);

#endif
