/* SPDX-License-Identifier: Apache-2.0 */
/* A4: a revoked token goes on working. */
#include "bad.h"

BAD_GOOD (GsAccessOps);

static gboolean
bad_token_revoke (gpointer self, GsCall *call, const char *id, GError **error)
{
  return TRUE;
}

BAD_PLUGIN (GsAccessOps, "access-token.so", ops->token_revoke = bad_token_revoke)
