/* SPDX-License-Identifier: Apache-2.0 */
/* C3: holds more than its size. */
#include "bad.h"

BAD_GOOD (GsCacheOps);

static gint64
larger (const GsConfig *config, const char *key)
{
  const GsConfig *real = config->priv;
  gint64 value = real->integer (real, key);
  return strcmp (key, "size") == 0 ? value * 4 : value;
}

static gpointer
bad_create (const GsHost *host, const GsConfig *config, GError **error)
{
  GsConfig liar = *config;
  liar.priv = (gpointer) config;
  liar.integer = larger;
  return good.create (host, &liar, error);
}

BAD_PLUGIN (GsCacheOps, "cache-memory.so", bad.create = bad_create)
