/* SPDX-License-Identifier: Apache-2.0 */
/* T1: names an address where nobody listens. */
#include "bad.h"

BAD_GOOD (GsTransportOps);

static char **
bad_endpoints (gpointer self)
{
  char **urls = g_new0 (char *, 2);
  urls[0] = g_strdup ("http://127.0.0.1:1");
  return urls;
}

BAD_PLUGIN (GsTransportOps, "transport-http.so", ops->endpoints = bad_endpoints)
