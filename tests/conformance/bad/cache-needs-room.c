/* SPDX-License-Identifier: Apache-2.0 */
/* P4: fails without an error when the host's pool is full. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static const GsHost *host; /* the last instance's: there is one at a time */

static gpointer
bad_create (const GsHost *given, const GsConfig *config, GError **error)
{
  host = given;
  return good.create (given, config, error);
}

static void
nothing (gpointer user)
{
}

static gboolean
bad_store (gpointer self, GsCall *call, GBytes *key, GBytes *value, gint64 ttl_us, GError **error)
{
  return host->submit (host, nothing, NULL, NULL) && good_ops.store (self, call, key, value, ttl_us, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", bad.create = bad_create; ops->store = bad_store)
