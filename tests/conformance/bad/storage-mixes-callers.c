/* SPDX-License-Identifier: Apache-2.0 */
/* S10: tells of two callers at once both what the later one asked. */
#include "bad.h"

#include <unistd.h>

BAD_GOOD (GsStorageOps);

static GsMutex lock = GS_MUTEX_INIT;
static guint64 id;
static char path[128];

static gboolean
bad_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  GsRepo asked = { .size = sizeof asked };
  char copy[128];
  gs_mutex_lock (&lock);
  id = repo->id;
  g_strlcpy (path, repo->replica_path, sizeof path);
  gs_mutex_unlock (&lock);
  usleep (2000); /* the race is what is broken: so long, everybody loses it */
  gs_mutex_lock (&lock);
  asked.id = id;
  g_strlcpy (copy, path, sizeof copy);
  gs_mutex_unlock (&lock);
  asked.replica_path = copy;
  return good_ops.state (self, call, &asked, ret_state, error);
}

BAD_PLUGIN (GsStorageOps, "storage-memory.so", ops->state = bad_state)
