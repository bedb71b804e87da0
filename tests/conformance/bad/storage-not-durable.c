/* SPDX-License-Identifier: Apache-2.0 */
/* S3: what was committed is gone after a restart. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

#include <ftw.h>
#include <unistd.h>

static char *root;

static gpointer
bad_create (const GsHost *host, const GsConfig *config, GError **error)
{
  g_free (root);
  root = g_strdup (config->string (config, "path"));
  return good.create (host, config, error);
}

static int
forget (const char *path, const struct stat *info, int type, struct FTW *place)
{
  if (type == FTW_F && strstr (path, "/refs/heads/") != NULL)
    unlink (path);
  return 0;
}

static void
bad_stop (gpointer self)
{
  good.stop (self);
  nftw (root, forget, 16, FTW_PHYS);
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", bad.create = bad_create;
            bad.stop = bad_stop)
