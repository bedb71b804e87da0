/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server as a node: which storages it lends to the routers of its cluster.
 *
 * What they staged stands on these storages and on this metadata store for as long as it takes, so the node keeps what it was
 * started with: what a reload would change of it waits for a restart.
 */
#include "main/server.h"

#include "rpc/cluster.h"

static gboolean
cancel_call (gpointer user, const GsTxId *id)
{
  return gsi_rpc_cancel_by_id (((GsiServer *) user)->rpc, id, gsi_cluster_identity.name);
}

static gboolean
router_holds (gpointer user, const GsTxId *txid)
{
  GsiWiring *wiring;
  GsiGeneration *generation = gsi_server_hold (user, &wiring);
  gboolean holds = gsi_router_holds (generation->router, txid);
  gsi_wiring_unref (wiring);
  return holds;
}

gboolean
gsi_server_holds (gpointer user, const GsTxId *txid)
{
  GsiServer *server = user;
  return server->serve != NULL && gsi_serve_claims (server->serve, txid, NULL);
}

static gboolean
add_export (GsiServer *server, const char *name, GError **error)
{
  GPtrArray *storages = server->now->storages;
  for (guint i = 0; i < storages->len; i++)
    {
      const GsiStorage *storage = storages->pdata[i];
      GsiInstance *instance = gsi_registry_get (server->now->registry, GS_KIND_STORAGE, storage->name);
      GsiStorage *own;
      if (strcmp (storage->name, name) != 0)
        continue;
      if (storage->ops->probe != NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                        "server: exports names the storage '%s', which another process lends to this one; routers use "
                        "that process directly",
                        name);
      own = g_memdup2 (storage, sizeof *storage);
      own->zone = ""; /* routers have their own word for it */
      g_ptr_array_add (server->exports, own);
      gsi_instance_hold (instance);
      g_ptr_array_add (server->lent, instance);
      return TRUE;
    }
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "server: exports names the storage '%s', which is not configured",
                  name);
}

gboolean
gsi_server_make_node (GsiServer *server, GError **error)
{
  const GsiOptions *options = gsi_registry_server (server->now->registry);
  GsiInstance *metadata = gsi_registry_get (server->now->registry, GS_KIND_METADATA, NULL);
  const char *const *names = gsi_options_list (options, "exports");
  const char *token = gsi_options_string (options, "cluster_token");
  GsiServeConfig config = { 0 };

  if (token != NULL && !gsi_rpc_set_cluster_token (server->rpc, token, error))
    return FALSE;
  if (names[0] != NULL && token == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "server: exports lends storages to other processes, so cluster_token must be set: without it "
                    "nobody could be let in");
  for (; *names != NULL; names++)
    if (!add_export (server, *names, error))
      return FALSE;
  if (server->exports->len > 0)
    {
      gsi_instance_hold (metadata);
      g_ptr_array_add (server->lent, metadata);
    }
  config.host = gsi_host_get (server->host);
  config.metadata = GSI_OPS (metadata, GsMetadataOps);
  config.metadata_self = GSI_SELF (metadata);
  config.storages = (const GsiStorage *const *) server->exports->pdata;
  config.n_storages = server->exports->len;
  config.lease_us = gsi_options_integer (options, "stage_lease");
  config.program = "gitstead/" GSI_VERSION;
  config.cancel = cancel_call;
  config.holds = router_holds;
  config.user = server;
  server->serve = gsi_serve_new (&config);
  return gsi_rpc_handle_all (server->rpc, gsi_serve_bindings (), server->serve, error);
}

void
gsi_server_node_clear (GsiServer *server)
{
  for (guint i = 0; i < server->lent->len; i++)
    gsi_instance_release (server->lent->pdata[i]);
  g_ptr_array_set_size (server->lent, 0);
}
