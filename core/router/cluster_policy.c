/* SPDX-License-Identifier: Apache-2.0 */
/* What a repository should be: Cluster/SetReplicationFactor, Cluster/SetConsistency. */
#include "router/cluster.h"

#include "router/label.h"
#include "router/nodes.h"

#define COPIES_MAX 64

/* Storages that could have a replica: neither drained nor removed. */
static gsize
n_usable (GsiRouter *router, const GsiStorageGroup *group)
{
  gsize n = 0;
  for (gsize i = 0; i < group->n_storages; i++)
    n += gsi_nodes_state (gsi_router_nodes (router), group->storages[i]->name) == GS_NODE_ACTIVE;
  return n;
}

static gboolean
reply_policy (GsiRouter *router, GsiCall *call, guint64 id, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__ClusterPolicyReply reply = GITSTEAD__V1__CLUSTER_POLICY_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), names = g_ptr_array_new ();
  g_autoptr (GsiRow) row = NULL;
  const GsiStorageGroup *group;
  if (!config->metadata->repo_get (config->metadata_self, &call->base, id, gsi_row_visit, &row, error))
    return FALSE;
  group = gsi_cluster_group (router, row->virtual_storage);
  for (gsize i = 0; i < row->n_replicas; i++)
    g_ptr_array_add (names, row->replicas[i].storage);
  reply.repository = gsi_bag_repository (bag, row);
  reply.own_copies = row->copies != 0;
  reply.copies = row->copies != 0 ? row->copies : group != NULL ? (guint32) group->n_copies : 0;
  reply.own_consistency = row->consistency[0] != '\0';
  reply.consistency = reply.own_consistency ? row->consistency : row->virtual_storage;
  reply.storages = (char **) names->pdata;
  reply.n_storages = names->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_cluster_set_replication_factor (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterSetReplicationFactorRequest *request = (const void *) call->request;
  const GsiStorageGroup *group = NULL;
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, &group, error);
  gsize usable;
  if (row == NULL || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  usable = n_usable (router, group);
  if (request->copies > COPIES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "copies: at most %d", COPIES_MAX);
  if (request->copies > usable)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "'%s' cannot have %u replicas: virtual storage '%s' has %" G_GSIZE_FORMAT
                    " nodes that take replicas, and each replica is on another one",
                    row->path, request->copies, group->name, usable);
  if (request->copies != 0 && request->copies < group->min_copies)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "'%s' could never be written with %u replicas: virtual storage '%s' acknowledges no write with fewer "
                    "than %" G_GSIZE_FORMAT " copies (min_copies)",
                    row->path, request->copies, group->name, group->min_copies);
  return config->metadata->repo_set_policy (config->metadata_self, &call->base, row->id, request->copies, row->consistency,
                                            error)
         && (gsi_label_spread (router, row->id), TRUE) && reply_policy (router, call, row->id, error);
}

static gboolean
check_policy (GsiRouter *router, const char *name, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GString) known = g_string_new (NULL);
  for (gsize i = 0; i < config->n_policies; i++)
    {
      if (strcmp (config->policies[i].name, name) == 0)
        return TRUE;
      g_string_append_printf (known, "%s'%s'", i > 0 ? ", " : "", config->policies[i].name);
    }
  return gs_fail (error, GS_ERROR_NOT_FOUND,
                  "this router's configuration has no consistency instance '%.100s' (it has: %s); the section "
                  "consistencies adds some, on every router",
                  name, known->str);
}

gboolean
gsi_cluster_set_consistency (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterSetConsistencyRequest *request = (const void *) call->request;
  g_autoptr (GsiRow) row = NULL;
  if (request->consistency[0] != '\0' && !check_policy (router, request->consistency, error))
    return FALSE;
  row = gsi_router_locate_anyway (router, call, NULL, error);
  return row != NULL
         && config->metadata->repo_set_policy (config->metadata_self, &call->base, row->id, row->copies,
                                               request->consistency, error)
         && (gsi_label_spread (router, row->id), TRUE) && reply_policy (router, call, row->id, error);
}
