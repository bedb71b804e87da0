/* SPDX-License-Identifier: Apache-2.0 */
/* A1: says which part of the credentials was wrong. */
#include "bad.h"

BAD_GOOD (GsAccessOps);

static gboolean
bad_authenticate (gpointer self, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
                  GError **error)
{
  if (credentials->secret != NULL && !g_str_has_prefix (credentials->secret, "gs_"))
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "this is no token: tokens begin with gs_");
  return good_ops.authenticate (self, call, credentials, ret_identity, error);
}

BAD_PLUGIN (GsAccessOps, "access-token.so", ops->authenticate = bad_authenticate)
