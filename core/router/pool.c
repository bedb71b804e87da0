/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Pool service: links are made between the replicas that lie on one storage, by that storage. Nothing is decided here and
 * no client sees a difference, so each replica goes its own way: one that cannot be linked is whole by itself.
 */
#include "router/create.h"

#include "gitstead/v1/pool.pb-c.h"
#include "rpc/path.h"
#include "rpc/rpc.h"

#define METHOD_LINK 900
#define METHOD_UNLINK 901
#define METHOD_INFO 903
#define REPLY_BUDGET (16u << 20)

/* A replica's answer, in @arena. */
static const Gitstead__V1__PoolReplicaReply *
ask (const GsiStorage *storage, GsiCall *call, const GsiRow *row, guint32 method,
     const Gitstead__V1__PoolReplicaRequest *request, GsArena *arena, GError **error)
{
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  g_autoptr (GBytes) bytes = gs_wire_encode (&request->base), answer = NULL;
  const GsQuery query = { sizeof query, method, bytes, NULL };
  const guint8 *data;
  gsize len;
  if (storage->ops->query == NULL)
    {
      gs_fail (error, GS_ERROR_UNIMPLEMENTED, "storage '%s' has no pools", storage->name);
      return NULL;
    }
  if (!storage->ops->query (storage->self, &call->base, &repo, &query, &answer, error))
    return NULL;
  data = g_bytes_get_data (answer, &len);
  return (const void *) gs_wire_decode (arena, &gitstead__v1__pool_replica_reply__descriptor, data, len, error);
}

/* Names of storages that grow in a reply; borrowed from the storages. */
static void
add_name (GPtrArray *names, const GsiStorage *storage)
{
  g_ptr_array_add (names, (gpointer) storage->name);
}

/* ----------------------------------------------------------------------------------------- link, unlink */

GsiRow *
gsi_router_pool_find (GsiRouter *router, GsiCall *call, const Gitstead__V1__Repository *named, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsiStorageGroup *group;
  g_autofree char *path = NULL;
  g_autoptr (GError) why = NULL;
  GsiRow *row = NULL;
  if (named == NULL || !gsi_path_normalize (named->path, &path, &why))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "pool: %s", why != NULL ? why->message : "must be set");
      return NULL;
    }
  group = gsi_router_virtual_storage (router, named->virtual_storage, error);
  if (group == NULL || !gsi_call_authorize (call, GS_SCOPE_ADMIN, path, error))
    return NULL;
  if (config->metadata->repo_find (config->metadata_self, &call->base, group->name, path, gsi_row_visit, &row, &why))
    return row;
  gsi_row_free (row);
  if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
    gs_fail (error, GS_ERROR_NOT_FOUND, "pool: there is no repository '%s' in virtual storage '%s'", path, group->name);
  else
    g_propagate_error (error, g_steal_pointer (&why));
  return NULL;
}

static gboolean
has_replica (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return TRUE;
  return FALSE;
}

gboolean
gsi_router_pool_join (GsiCall *call, const GsiStorage *storage, const GsRepo *repo, const GsiRow *pool, GError **error)
{
  const GsiRow row = { .id = repo->id, .replica_path = (char *) repo->replica_path };
  Gitstead__V1__PoolReplicaRequest asked = GITSTEAD__V1__POOL_REPLICA_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  asked.pool_id = pool->id;
  asked.pool_replica_path = pool->replica_path;
  asked.reduce = TRUE;
  return !has_replica (pool, storage->name) || ask (storage, call, &row, METHOD_LINK, &asked, arena, error) != NULL;
}

gboolean
gsi_router_pool_link (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__PoolLinkRequest *request = (const void *) call->request;
  Gitstead__V1__PoolReplicaRequest asked = GITSTEAD__V1__POOL_REPLICA_REQUEST__INIT;
  Gitstead__V1__PoolLinkReply reply = GITSTEAD__V1__POOL_LINK_REPLY__INIT;
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, NULL, error);
  g_autoptr (GsiRow) pool = row != NULL ? gsi_router_pool_find (router, call, request->pool, error) : NULL;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GPtrArray) linked = g_ptr_array_new (), left = g_ptr_array_new ();
  if (pool == NULL)
    return FALSE;
  if (pool->id == row->id)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "pool: a repository cannot be its own pool");
  asked.pool_id = pool->id;
  asked.pool_replica_path = pool->replica_path;
  asked.reduce = request->reduce;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      if (storage == NULL || !has_replica (pool, storage->name))
        g_ptr_array_add (left, (gpointer) row->replicas[i].storage);
      else if (ask (storage, call, row, METHOD_LINK, &asked, arena, error) != NULL)
        add_name (linked, storage);
      else
        {
          g_prefix_error (error, "link '%s' to the pool '%s': ", row->path, pool->path);
          return FALSE;
        }
    }
  if (linked->len == 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "pool: '%s' and '%s' have no storage in common, so they can share nothing", row->path, pool->path);
  reply.storages = (char **) linked->pdata;
  reply.n_storages = linked->len;
  reply.unlinked = (char **) left->pdata;
  reply.n_unlinked = left->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* All of them, whatever one says: each that is independent is one less that the pool is kept for. */
gboolean
gsi_router_pool_unlink (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__PoolReplicaRequest asked = GITSTEAD__V1__POOL_REPLICA_REQUEST__INIT;
  Gitstead__V1__PoolUnlinkReply reply = GITSTEAD__V1__POOL_UNLINK_REPLY__INIT;
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, NULL, error);
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  g_autoptr (GError) first = NULL;
  if (row == NULL)
    return FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      g_autoptr (GError) why = NULL;
      const Gitstead__V1__PoolReplicaReply *answer = NULL;
      if (storage == NULL)
        gs_fail (&why, GS_ERROR_UNAVAILABLE, "storage '%s' is not one of this server's", row->replicas[i].storage);
      else
        answer = ask (storage, call, row, METHOD_UNLINK, &asked, arena, &why);
      if (answer != NULL && answer->pool_id != 0)
        add_name (names, storage);
      else if (answer == NULL && first == NULL)
        first = g_steal_pointer (&why);
    }
  if (first != NULL)
    {
      g_propagate_prefixed_error (error, g_steal_pointer (&first), "unlink '%s' from its pool: ", row->path);
      return FALSE;
    }
  reply.storages = (char **) names->pdata;
  reply.n_storages = names->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------------ info */

/* The other end of links, over all storages. */
typedef struct
{
  guint64 id;
  GPtrArray *storages; /* borrowed names */
  GsiRow *row;         /* NULL: it is gone */
  Gitstead__V1__PoolMember message;
  Gitstead__V1__Repository repository;
} Other;

static void
other_free (gpointer data)
{
  Other *other = data;
  g_ptr_array_unref (other->storages);
  gsi_row_free (other->row);
  g_free (other);
}

static void
note_other (GPtrArray *others, guint64 id, const GsiStorage *storage)
{
  Other *other = NULL;
  for (guint i = 0; i < others->len && other == NULL; i++)
    if (((Other *) others->pdata[i])->id == id)
      other = others->pdata[i];
  if (other == NULL)
    {
      other = g_new0 (Other, 1);
      other->id = id;
      other->storages = g_ptr_array_new ();
      g_ptr_array_add (others, other);
    }
  add_name (other->storages, storage);
}

static Gitstead__V1__PoolMember *
other_message (GsiRouter *router, GsiCall *call, Other *other)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  gitstead__v1__pool_member__init (&other->message);
  gitstead__v1__repository__init (&other->repository);
  other->message.id = other->id;
  other->message.storages = (char **) other->storages->pdata;
  other->message.n_storages = other->storages->len;
  if (config->metadata->repo_get (config->metadata_self, &call->base, other->id, gsi_row_visit, &other->row, NULL)
      && other->row != NULL && gsi_call_authorize (call, GS_SCOPE_READ, other->row->path, NULL))
    {
      other->repository.virtual_storage = other->row->virtual_storage;
      other->repository.path = other->row->path;
      other->message.repository = &other->repository;
    }
  return &other->message;
}

static int
by_id (gconstpointer a, gconstpointer b)
{
  guint64 x = (*(Other *const *) a)->id, y = (*(Other *const *) b)->id;
  return x < y ? -1 : x > y;
}

/* What all replicas say that can be asked. @error of the first that cannot, but only when none could. */
static gboolean
look (GsiRouter *router, GsiCall *call, const GsiRow *row, GPtrArray *pools, GPtrArray *members, GError **error)
{
  const Gitstead__V1__PoolReplicaRequest asked = GITSTEAD__V1__POOL_REPLICA_REQUEST__INIT;
  g_autoptr (GError) first = NULL;
  gboolean any = FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
      const Gitstead__V1__PoolReplicaReply *answer
          = storage != NULL ? ask (storage, call, row, METHOD_INFO, &asked, arena, first == NULL ? &first : NULL) : NULL;
      if (answer == NULL)
        continue;
      any = TRUE;
      if (answer->pool_id != 0)
        note_other (pools, answer->pool_id, storage);
      for (gsize k = 0; k < answer->n_members; k++)
        note_other (members, answer->members[k], storage);
    }
  if (any)
    return TRUE;
  if (first == NULL)
    gs_fail (&first, GS_ERROR_UNAVAILABLE, "no replica of '%s' can be asked", row->path);
  g_propagate_error (error, g_steal_pointer (&first));
  return FALSE;
}

gboolean
gsi_router_pool_info (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  Gitstead__V1__PoolInfoReply reply = GITSTEAD__V1__POOL_INFO_REPLY__INIT;
  g_autoptr (GPtrArray) pools = g_ptr_array_new_with_free_func (other_free);
  g_autoptr (GPtrArray) members = g_ptr_array_new_with_free_func (other_free), rows = g_ptr_array_new ();
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, NULL, error);
  if (row == NULL || !look (router, call, row, pools, members, error))
    return FALSE;
  g_ptr_array_sort (members, by_id);
  for (guint i = 0; i < members->len; i++)
    g_ptr_array_add (rows, other_message (router, call, members->pdata[i]));
  reply.members = (Gitstead__V1__PoolMember **) rows->pdata;
  reply.n_members = rows->len;
  if (pools->len > 0)
    reply.pool = other_message (router, call, pools->pdata[0]);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_router_pool_check_free (GsiRouter *router, GsiCall *call, const GsiRow *row, GError **error)
{
  g_autoptr (GPtrArray) pools = g_ptr_array_new_with_free_func (other_free);
  g_autoptr (GPtrArray) members = g_ptr_array_new_with_free_func (other_free);
  /* Where no replica can be asked, none can be removed either. */
  if (!look (router, call, row, pools, members, NULL) || members->len == 0)
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "'%s' is a pool: %u repositories borrow its objects (see Pool/Info); unlink or delete them first", row->path,
                  members->len);
}
