/* SPDX-License-Identifier: Apache-2.0 */
/* Last reads, one place for each remainder of a repository's id. See recent.h. */
#include "router/recent.h"

#include <gitstead/thread.h>

#define PLACES 512

struct GsiRecent
{
  gint refs; /* atomic */
  GsMutex lock;
  GsiRecentRead reads[PLACES];
};

GsiRecent *
gsi_recent_new (void)
{
  GsiRecent *recent = g_new0 (GsiRecent, 1);
  recent->refs = 1;
  gs_mutex_init (&recent->lock);
  return recent;
}

GsiRecent *
gsi_recent_ref (GsiRecent *recent)
{
  __atomic_add_fetch (&recent->refs, 1, __ATOMIC_RELAXED);
  return recent;
}

void
gsi_recent_unref (GsiRecent *recent)
{
  if (recent == NULL || __atomic_sub_fetch (&recent->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  gs_mutex_clear (&recent->lock);
  g_free (recent);
}

void
gsi_recent_note (GsiRecent *recent, guint64 repository_id, const char *storage, gint64 wall_us, guint n_candidates,
                 const char *why)
{
  GsiRecentRead *read = &recent->reads[repository_id % PLACES];
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&recent->lock);
  read->repository_id = repository_id;
  read->wall_us = wall_us;
  read->n_candidates = n_candidates;
  g_strlcpy (read->storage, storage, sizeof read->storage);
  if (g_strlcpy (read->why, why != NULL ? why : "", sizeof read->why) >= sizeof read->why)
    {
      /* Cut between characters: it goes into a message that must be UTF-8. */
      const char *end;
      if (!g_utf8_validate (read->why, -1, &end))
        read->why[end - read->why] = '\0';
    }
}

GsiRecentRead
gsi_recent_look (GsiRecent *recent, guint64 repository_id)
{
  const GsiRecentRead none = { 0 };
  const GsiRecentRead *read = &recent->reads[repository_id % PLACES];
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&recent->lock);
  return read->repository_id == repository_id ? *read : none;
}
