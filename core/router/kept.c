/* SPDX-License-Identifier: Apache-2.0 */
/* Versions that were given up. See kept.h. */
#include "router/kept.h"

#include "router/label.h"

#define METHOD_KEPT 1091
#define REPLY_BUDGET (16u << 20)
#define MARK "gitstead/dataloss-accept" /* 24 bytes; the generation that was kept follows, in 8, big endian */
/* An acceptance gives up no more than 5000 writes (cluster_loss.c). */
#define LOOK_BACK 5001

G_STATIC_ASSERT (sizeof MARK - 1 == 24);

void
gsi_kept_mark (guint64 kept, guint8 ret_vote[32])
{
  const guint64 big = GUINT64_TO_BE (kept);
  memcpy (ret_vote, MARK, 24);
  memcpy (ret_vote + 24, &big, sizeof big);
}

typedef struct
{
  const GsReplicaState *state;
  gboolean holds;
} Search;

/* What went on from the very refs that the replica has gave nothing of it up. */
static gboolean
look_at_change (const GsChange *change, gpointer user)
{
  Search *search = user;
  guint64 kept;
  if (memcmp (change->vote, MARK, 24) != 0)
    return TRUE;
  memcpy (&kept, change->vote + 24, sizeof kept);
  kept = GUINT64_FROM_BE (kept);
  search->holds = kept <= search->state->generation
                  && memcmp (&change->refs_digest, &search->state->refs_digest, sizeof change->refs_digest) != 0;
  return !search->holds;
}

gboolean
gsi_kept_holds (GsiRouter *router, GsCall *call, guint64 id, const GsReplicaState *state)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Search search = { state, FALSE };
  return config->metadata->change_list (config->metadata_self, call, id, state->generation, LOOK_BACK, look_at_change,
                                        &search, NULL)
         && search.holds;
}

/* ---------------------------------------------------------------------------------------------- list */

static gboolean
take_row (const GsRepoRow *row, gpointer user)
{
  *(GsiRow **) user = gsi_row_new (row);
  return FALSE;
}

static void
add_kept (GsiRouter *router, GsCall *call, GsiBag *bag, const GsiStorage *storage, const Gitstead__V1__ReplicaKept *kept,
          GPtrArray *list)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__ClusterKeptVersion *message
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterKeptVersion, gitstead__v1__cluster_kept_version__init);
  g_autoptr (GsiRow) row = NULL;
  if (config->metadata->repo_get (config->metadata_self, call, kept->repository_id, gsi_row_visit, &row, NULL))
    message->repository = gsi_bag_repository (bag, row);
  message->id = kept->repository_id;
  message->generation = kept->generation;
  message->kept_s = kept->kept_s;
  message->storage = gsi_bag_text (bag, storage->name);
  message->folder = gsi_bag_text (bag, kept->folder);
  g_ptr_array_add (list, message);
}

void
gsi_kept_list (GsiRouter *router, GsCall *call, GsiBag *bag, GPtrArray *list)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ReplicaKeptRequest request = GITSTEAD__V1__REPLICA_KEPT_REQUEST__INIT;
  for (gsize i = 0; i < config->n_storages; i++)
    {
      const GsiStorage *storage = config->storages[i];
      g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
      g_autoptr (GsiRow) row = NULL;
      const Gitstead__V1__ReplicaKeptReply *reply;
      /* Any of its replicas answers for the storage. */
      if (!config->metadata->repo_list_on (config->metadata_self, call, storage->name, 0, 1, take_row, &row, NULL)
          || row == NULL)
        continue;
      const GsRepo repo = { sizeof repo, row->id, row->replica_path };
      reply = (const void *) gsi_replica_ask (storage, call, &repo, METHOD_KEPT, &request.base,
                                              &gitstead__v1__replica_kept_reply__descriptor, arena, NULL);
      for (gsize k = 0; reply != NULL && k < reply->n_kept; k++)
        add_kept (router, call, bag, storage, reply->kept[k], list);
    }
}
