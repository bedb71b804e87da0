/* SPDX-License-Identifier: Apache-2.0 */
/* A2: writes secrets to the log. */
#include "bad.h"

BAD_GOOD (GsAccessOps);

static const GsHost *the_host;

static gboolean
bad_authenticate (gpointer self, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
                  GError **error)
{
  const GsField fields[] = { GS_TEXT ("token", credentials->secret) };
  the_host->log (the_host, GS_LOG_DEBUG, "access.try", fields, 1);
  return good_ops.authenticate (self, call, credentials, ret_identity, error);
}

static gpointer
bad_create (const GsHost *host, const GsConfig *config, GError **error)
{
  the_host = host;
  return good.create (host, config, error);
}

BAD_PLUGIN (GsAccessOps, "access-token.so", ops->authenticate = bad_authenticate;
            bad.create = bad_create)
