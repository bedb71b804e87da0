/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's own secret. See cluster.h. */
#include "cluster.h"

#include <wire/token.h>

const GsIdentity gsi_cluster_identity = { sizeof (GsIdentity), "cluster", GS_SCOPE_ADMIN, "" };

struct GsiCluster
{
  char id[GS_TOKEN_ID_LEN + 1];
  guint8 verifier[GS_TOKEN_VERIFIER_SIZE];
};

GsiCluster *
gsi_cluster_new (const char *token, GError **error)
{
  GsiCluster *cluster = g_new0 (GsiCluster, 1);
  const char *secret;
  if (!gs_token_parse (token, cluster->id, &secret))
    {
      g_free (cluster);
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
               "server: cluster_token has not the form gs_<12 hex digits>_<43 characters>; docs/operations.md "
               "says how to make one");
      return NULL;
    }
  gs_token_verifier (secret, cluster->verifier);
  return cluster;
}

void
gsi_cluster_free (GsiCluster *cluster)
{
  if (cluster == NULL)
    return;
  explicit_bzero (cluster->verifier, sizeof cluster->verifier);
  g_free (cluster);
}

static gboolean
proves (const GsiCluster *cluster, const GsCredentials *credentials)
{
  char id[GS_TOKEN_ID_LEN + 1];
  guint8 value[GS_TOKEN_KEY_SIZE];
  const char *secret;
  if (credentials->kind == GS_CREDENTIALS_HMAC && credentials->user != NULL && credentials->tag != NULL
      && credentials->signed_data != NULL && strcmp (credentials->user, cluster->id) == 0)
    {
      gs_token_hmac (cluster->verifier + GS_TOKEN_KEY_SIZE, credentials->signed_data, credentials->signed_len, value);
      return gs_token_equal (value, credentials->tag, sizeof value);
    }
  if (credentials->kind == GS_CREDENTIALS_BEARER && credentials->secret != NULL
      && gs_token_parse (credentials->secret, id, &secret) && strcmp (id, cluster->id) == 0)
    {
      gs_token_bearer_verifier (secret, value);
      return gs_token_equal (value, cluster->verifier, sizeof value);
    }
  return FALSE;
}

gboolean
gsi_cluster_check (const GsiCluster *cluster, const GsCredentials *credentials, const char *method, GError **error)
{
  if (cluster == NULL)
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                    "%s: this process belongs to no cluster; set server.cluster_token and server.exports in its "
                    "configuration",
                    method);
  if (!proves (cluster, credentials))
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                    "%s: the cluster token is missing or not that of this cluster; every process of a cluster has the "
                    "same server.cluster_token",
                    method);
  return TRUE;
}
