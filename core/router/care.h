/* SPDX-License-Identifier: Apache-2.0 */
/**
 * care.h - what should be against what is recorded, and what is recorded against the disks: what differs becomes jobs.
 */
#ifndef GSI_ROUTER_CARE_H
#define GSI_ROUTER_CARE_H

#include "router/router.h"

#define GSI_CARE_LEASE_US (60 * G_USEC_PER_SEC)
#define GSI_CARE_KEEP_JOBS_US (G_GINT64_CONSTANT (24) * 3600 * G_USEC_PER_SEC) /* what was done stays on record so long */

/** One round over all repositories, unless another process is at it. Blocks. */
void gsi_care_round (GsiRouter *router, GsCall *call, const char *who);
/**
 * A storage can be reached again: looks at whatever it holds are queued, of repositories with an id > *@after, which
 * moves on with what is queued. FALSE: the store does not take more now; the rest is to be asked again. Blocks.
 */
gboolean gsi_care_came_back (GsiRouter *router, GsCall *call, const char *storage, guint64 *after);

#endif
