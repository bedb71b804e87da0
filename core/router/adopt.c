/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bare repositories of a tree that was there before, taken over where they lie: Repository/Adopt, Cluster/Folders. The
 * storage makes one a replica, then it is recorded; where it cannot be, removing the replica puts the repository back.
 */
#include "router/cluster.h"
#include "router/create.h"
#include "router/label.h"
#include "router/nodes.h"

#include "gitstead/v1/node.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"

#define METHOD_ADOPT 1092
#define METHOD_FOLDERS 1093
#define REPLY_BUDGET (16u << 20)
#define FOLDERS_USUAL 1000
#define FOLDERS_MAX 5000

/* A storage that is there. NULL with @error. */
static const GsiStorage *
reachable (const GsiStorage *storage, const char *name, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (storage == NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND, "storage: there is no storage '%.100s' here", name);
  else if (storage->ops->probe != NULL && !storage->ops->probe (storage->self, &why))
    gs_fail (error, GS_ERROR_UNAVAILABLE, "storage '%s' cannot be reached: %s", storage->name, why->message);
  else
    return storage;
  return NULL;
}

static const GsiStorage *
member (const GsiStorageGroup *group, const char *name)
{
  for (gsize i = 0; i < group->n_storages; i++)
    if (strcmp (group->storages[i]->name, name) == 0)
      return group->storages[i];
  return NULL;
}

static gboolean
take_over (const GsiStorage *storage, GsiCall *call, const GsRepo *repo, const ProtobufCBinaryData *folder,
           GsReplicaState *ret_state, GError **error)
{
  Gitstead__V1__ReplicaAdoptRequest request = GITSTEAD__V1__REPLICA_ADOPT_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GPtrArray) storages = g_ptr_array_new ();
  request.folder = *folder;
  if (gsi_replica_ask (storage, &call->base, repo, METHOD_ADOPT, &request.base,
                       &gitstead__v1__replica_adopt_reply__descriptor, arena, error)
      == NULL)
    return FALSE;
  if (storage->ops->state (storage->self, &call->base, repo, ret_state, error))
    return TRUE;
  g_ptr_array_add (storages, (gpointer) storage);
  gsi_create_put_away (storages, 1, repo);
  return FALSE;
}

gboolean
gsi_router_adopt (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__RepositoryAdoptRequest *request = (const void *) call->request;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, call->virtual_storage, error);
  const GsiStorage *storage;
  g_autoptr (GPtrArray) storages = g_ptr_array_new ();
  g_autofree char *replica_path = NULL;
  GsReplicaState state = { sizeof state };
  GsRepo repo = { sizeof repo };
  guint64 id = 0;
  if (group == NULL)
    return FALSE;
  /* The folder is nobody's path yet: below a storage's root only those choose who administer the server. */
  if (!gsi_call_authorize (call, GS_SCOPE_ADMIN, NULL, error))
    return FALSE;
  if (!config->metadata->repo_created_by (config->metadata_self, &call->base, &call->base.id, &id, error))
    return FALSE;
  if (id != 0)
    return gsi_create_reply (router, call, id, error);
  storage = reachable (member (group, request->storage), request->storage, error);
  if (storage == NULL)
    return FALSE;
  if (gsi_nodes_state (gsi_router_nodes (router), storage->name) == GS_NODE_REMOVED)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "storage '%s' was removed from the cluster", storage->name);
  if (!config->metadata->repo_reserve (config->metadata_self, &call->base, group->name, call->path, &id, error))
    return FALSE;
  gsi_router_crash_point (router, "create.reserved");
  replica_path = gsi_router_replica_path (id);
  repo.id = id;
  repo.replica_path = replica_path;
  if (!take_over (storage, call, &repo, &request->folder, &state, error))
    {
      g_prefix_error (error, "cannot adopt '%s': ", call->path);
      return FALSE;
    }
  gsi_router_crash_point_at (router, "create.made", 1);
  g_ptr_array_add (storages, (gpointer) storage);
  return gsi_create_record (router, call, group, &repo, &state, storages, error)
         && gsi_create_reply (router, call, id, error);
}

/* ----------------------------------------------------------------------------------------- candidates */

gboolean
gsi_cluster_folders (gpointer user, GsiCall *call, GError **error)
{
  const GsRepo nobody = { sizeof nobody, 0, "" };
  const Gitstead__V1__ClusterFoldersRequest *request = (const void *) call->request;
  Gitstead__V1__ReplicaFoldersRequest question = GITSTEAD__V1__REPLICA_FOLDERS_REQUEST__INIT;
  Gitstead__V1__ClusterFoldersReply reply = GITSTEAD__V1__CLUSTER_FOLDERS_REPLY__INIT;
  const Gitstead__V1__ReplicaFoldersReply *answer;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  const GsiStorage *storage;
  if (!gsi_cluster_is_router (user, error)
      || (storage = reachable (gsi_router_storage (user, request->storage), request->storage, error)) == NULL)
    return FALSE;
  question.after = request->after;
  question.limit = request->limit == 0 ? FOLDERS_USUAL : MIN (request->limit, FOLDERS_MAX);
  answer = (const void *) gsi_replica_ask (storage, &call->base, &nobody, METHOD_FOLDERS, &question.base,
                                           &gitstead__v1__replica_folders_reply__descriptor, arena, error);
  if (answer == NULL)
    return FALSE;
  reply.folders = answer->folders;
  reply.n_folders = answer->n_folders;
  reply.more = answer->more;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
