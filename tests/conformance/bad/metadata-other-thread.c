/* SPDX-License-Identifier: Apache-2.0 */
/* P8: calls back from a thread of its own. */
#include "bad.h"

BAD_GOOD (GsMetadataOps);

typedef struct
{
  gpointer self;
  GsCall *call;
  const char *virtual_storage, *path;
  GsRepoRowVisit visit;
  gpointer user;
  GError **error;
  gboolean found;
} Work;

static void *
work (void *data)
{
  Work *w = data;
  w->found = good_ops.repo_find (w->self, w->call, w->virtual_storage, w->path, w->visit, w->user, w->error);
  return NULL;
}

static gboolean
bad_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path, GsRepoRowVisit visit,
               gpointer user, GError **error)
{
  Work w = { self, call, virtual_storage, path, visit, user, error, FALSE };
  GsThread thread;
  if (gs_thread_start (&thread, "bad", work, &w) != 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "no thread");
  gs_thread_join (thread);
  return w.found;
}

BAD_PLUGIN (GsMetadataOps, "metadata-memory.so", ops->repo_find = bad_repo_find)
