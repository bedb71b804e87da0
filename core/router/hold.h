/* SPDX-License-Identifier: Apache-2.0 */
/**
 * hold.h - writes to one repository held back for a moment, on all routers: while a replica takes its last step to be current,
 * or a repository changes its place.
 *
 * A hold is a lease in the metadata store. Only writes to repositories with a replica that is behind, or with one more than
 * they should have, look for one, so a whole repository pays nothing. Writes that began before are not stopped: whoever holds looks whether one was decided
 * meanwhile.
 */
#ifndef GSI_ROUTER_HOLD_H
#define GSI_ROUTER_HOLD_H

#include "router/router.h"

/* No hold lasts longer: writes go on then, whatever its holder does. */
#define GSI_HOLD_MAX_US (3 * G_USEC_PER_SEC)

typedef struct
{
  guint64 id;
  guint64 token;
  gint64 since_us; /* monotonic */
} GsiHold;

/** ABORTED when another holds it, or a repository that shares its lease, at the moment. */
gboolean gsi_hold_take (GsiRouter *router, GsCall *call, guint64 id, GsiHold *ret_hold, GError **error);
void gsi_hold_release (GsiRouter *router, GsCall *call, const GsiHold *hold);
/**
 * For a write at its beginning: waits while its repository is held, then *@row (owned) is read anew. FALSE when the call
 * is over or the repository is gone.
 */
gboolean gsi_hold_wait (GsiRouter *router, GsCall *call, GsiRow **row, GError **error);

#endif
