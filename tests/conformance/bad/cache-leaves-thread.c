/* SPDX-License-Identifier: Apache-2.0 */
/* P3: a thread of it goes on after stop. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

#include <unistd.h>

static void *
run (void *data)
{
  for (;;)
    pause ();
  return NULL;
}

static gboolean
bad_start (gpointer self, GError **error)
{
  GsThread thread;
  return gs_thread_start (&thread, "left", run, NULL) == 0;
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", bad.start = bad_start)
