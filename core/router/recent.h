/* SPDX-License-Identifier: Apache-2.0 */
/**
 * recent.h - who served the last read of a repository, for those who ask why. Of this process and since its start; of very
 * many repositories the last ones that were read. Any thread.
 */
#ifndef GSI_ROUTER_RECENT_H
#define GSI_ROUTER_RECENT_H

#include <glib.h>

typedef struct GsiRecent GsiRecent;

#define GSI_RECENT_NAME 64
#define GSI_RECENT_WHY 200

typedef struct
{
  guint64 repository_id; /* 0 = no read is known */
  char storage[GSI_RECENT_NAME];
  gint64 wall_us;
  guint n_candidates;    /* among so many the routing plugin chose */
  char why[GSI_RECENT_WHY]; /* why another one was passed over before; "" when none was */
} GsiRecentRead;

GsiRecent *gsi_recent_new (void);
GsiRecent *gsi_recent_ref (GsiRecent *recent);
/** NULL is fine. */
void gsi_recent_unref (GsiRecent *recent);
/** @why NULL: nobody was passed over. */
void gsi_recent_note (GsiRecent *recent, guint64 repository_id, const char *storage, gint64 wall_us, guint n_candidates,
                      const char *why);
GsiRecentRead gsi_recent_look (GsiRecent *recent, guint64 repository_id);

#endif
