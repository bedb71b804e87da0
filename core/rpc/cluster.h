/* SPDX-License-Identifier: Apache-2.0 */
/**
 * cluster.h - how the processes of one cluster know each other: a secret of their own, which no access plugin sees.
 *
 * Calls whose rule says CLUSTER are for them alone. The secret has the form of an access token, so that it is signed
 * with and compared as one; it is in no list of tokens, and a client's token is never enough.
 */
#ifndef GSI_RPC_CLUSTER_H
#define GSI_RPC_CLUSTER_H

#include <gitstead/host.h>

/** Who calls such a method. Constant: never given back. */
extern const GsIdentity gsi_cluster_identity;

typedef struct GsiCluster GsiCluster;

/** NULL with INVALID_ARGUMENT when @token has not the form of a token. *full*. */
GsiCluster *gsi_cluster_new (const char *token, GError **error);
/** NULL is fine. */
void gsi_cluster_free (GsiCluster *cluster);
/** UNAUTHENTICATED unless @credentials prove the secret. @cluster NULL: this process has none. @method for the message. */
gboolean gsi_cluster_check (const GsiCluster *cluster, const GsCredentials *credentials, const char *method,
                            GError **error);

#endif
