/* SPDX-License-Identifier: Apache-2.0 */
/* T4: lets the calls of peers that went away go on. */
#include "bad.h"

BAD_GOOD (GsTransportOps);

static void
bad_cancel (const GsHost *host, GsCallHandle call)
{
}

static gpointer
bad_create (const GsHost *host, const GsConfig *config, GError **error)
{
  GsHost *deaf = g_memdup2 (host, sizeof *host); /* for as long as the process lives: the instance keeps it */
  deaf->call_cancel = bad_cancel;
  return good.create (deaf, config, error);
}

BAD_PLUGIN (GsTransportOps, "transport-http.so", bad.create = bad_create)
