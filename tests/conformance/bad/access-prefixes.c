/* SPDX-License-Identifier: Apache-2.0 */
/* A3: compares prefixes as strings, so that "group" opens "group2". */
#include "bad.h"

BAD_GOOD (GsAccessOps);

static gboolean
bad_authorize (gpointer self, const GsIdentity *identity, GsScope scope, const char *path, GError **error)
{
  if (path != NULL && identity->scope >= scope && g_str_has_prefix (path, identity->prefix))
    return TRUE;
  return good_ops.authorize (self, identity, scope, path, error);
}

BAD_PLUGIN (GsAccessOps, "access-token.so", ops->authorize = bad_authorize)
