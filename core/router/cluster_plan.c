/* SPDX-License-Identifier: Apache-2.0 */
/* What would be moved if the routing plugin placed everything anew, and having it moved: Cluster/RebalancePlan and RebalanceApply. */
#include "router/cluster.h"

#include "router/repair.h"
#include "router/settle.h"

#define MOVES_DEFAULT 1000
#define MOVES_MAX 10000
#define RATE_DEFAULT (50u * 1000 * 1000)
#define MEASURE_US (30 * G_USEC_PER_SEC)
/* No move waits longer, whatever the rate. */
#define LATEST_US ((double) 30 * 86400 * G_USEC_PER_SEC)

typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  GsiBag *bag;
  const GsiStorageGroup *group;
  GsNodeView *views;
  const GsNodeView **pointers;
  gsize limit;
  Gitstead__V1__ClusterRebalancePlanReply *reply;
  GPtrArray *moves;
  GError *error; /* the routing plugin refused */
} Plan;

/* Of the first replica that can be asked; 0 = none could. */
static guint64
measure (Plan *plan, const GsiRow *row)
{
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (plan->router, row->replicas[i].storage);
      GsRepoSize size = { .size = sizeof size };
      GsIdentity identity;
      GsCall call;
      if (storage == NULL || row->replicas[i].generation < row->generation
          || !gsi_cluster_up (plan->router, storage->name, NULL))
        continue;
      gsi_own_call_init (&call, &identity, "plan");
      call.deadline_us = g_get_monotonic_time () + MEASURE_US;
      if (storage->ops->measure (storage->self, &call, &repo, &size, NULL))
        return size.total_bytes;
    }
  return 0;
}

static void
add_move (Plan *plan, const GsiRow *row, const char *from, const char *to, guint64 bytes)
{
  Gitstead__V1__ClusterMove *move;
  plan->reply->count_moves++;
  if (plan->moves->len >= plan->limit)
    {
      plan->reply->more = TRUE;
      return;
    }
  move = GSI_BAG_MESSAGE (plan->bag, Gitstead__V1__ClusterMove, gitstead__v1__cluster_move__init);
  move->repository = gsi_bag_repository (plan->bag, row);
  move->id = row->id;
  move->from = gsi_bag_text (plan->bag, from);
  move->to = gsi_bag_text (plan->bag, to);
  move->bytes = bytes;
  plan->reply->bytes += bytes;
  g_ptr_array_add (plan->moves, move);
}

/* The names that the routing plugin would choose today. NULL with plan->error. *full*, the names borrowed. */
static GPtrArray *
choose (Plan *plan, const GsiRow *row)
{
  const GsiStorageGroup *group = plan->group;
  guint64 key_bytes = GUINT64_TO_BE (row->id);
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  gsize wanted = MIN (row->copies != 0 ? row->copies : group->n_copies, group->n_storages), n = 0;
  g_autofree gsize *chosen = g_new0 (gsize, wanted + 1);
  GPtrArray *names;
  if (group->routing->place_named != NULL
          ? !group->routing->place_named (group->routing_self, key, row->path, plan->pointers, group->n_storages, wanted,
                                          chosen, &n, &plan->error)
          : !group->routing->place (group->routing_self, key, plan->pointers, group->n_storages, wanted, chosen, &n,
                                    &plan->error))
    return NULL;
  names = g_ptr_array_new ();
  for (gsize i = 0; i < n; i++)
    g_ptr_array_add (names, (gpointer) group->storages[chosen[i]]->name);
  return names;
}

static gboolean
has_name (GPtrArray *names, const char *name)
{
  for (guint i = 0; i < names->len; i++)
    if (strcmp (names->pdata[i], name) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
plan_row (GsiRow *row, gpointer user)
{
  Plan *plan = user;
  g_autoptr (GPtrArray) chosen = NULL, missing = g_ptr_array_new (), surplus = g_ptr_array_new (), here = g_ptr_array_new ();
  guint64 bytes = 0;
  if (strcmp (row->virtual_storage, plan->group->name) != 0)
    return TRUE;
  plan->reply->looked_at++;
  chosen = choose (plan, row);
  if (chosen == NULL)
    return FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      g_ptr_array_add (here, row->replicas[i].storage);
      if (!has_name (chosen, row->replicas[i].storage))
        g_ptr_array_add (surplus, row->replicas[i].storage);
    }
  for (guint i = 0; i < chosen->len; i++)
    if (!has_name (here, chosen->pdata[i]))
      g_ptr_array_add (missing, chosen->pdata[i]);
  if (missing->len > 0 && plan->moves->len < plan->limit)
    bytes = measure (plan, row);
  for (guint i = 0; i < MAX (missing->len, surplus->len); i++)
    add_move (plan, row, i < surplus->len ? surplus->pdata[i] : "", i < missing->len ? missing->pdata[i] : "",
              i < missing->len ? bytes : 0);
  return TRUE;
}

/* All of it. @reply is filled; the arrays of @plan are freed by plan_clear. */
static gboolean
make_plan (Plan *plan, GError **error)
{
  const GsiStorageGroup *group = plan->group;
  if (!gsi_router_look_at_nodes (plan->router, error))
    return FALSE;
  if (plan->limit > MOVES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: at most %d", MOVES_MAX);
  plan->views = g_new0 (GsNodeView, group->n_storages + 1);
  plan->pointers = g_new0 (const GsNodeView *, group->n_storages + 1);
  for (gsize i = 0; i < group->n_storages; i++)
    {
      plan->views[i] = gsi_router_node_view (plan->router, group->storages[i]);
      plan->pointers[i] = &plan->views[i];
    }
  if (!gsi_cluster_each (plan->router, &plan->call->base, 0, plan_row, plan, error))
    return FALSE;
  if (plan->error == NULL)
    return TRUE;
  g_propagate_prefixed_error (error, g_steal_pointer (&plan->error),
                              "the routing plugin of virtual storage '%s' places nothing: ", group->name);
  return FALSE;
}

static void
plan_clear (Plan *plan)
{
  g_free (plan->views);
  g_free (plan->pointers);
  g_clear_error (&plan->error);
}

gboolean
gsi_cluster_rebalance_plan (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterRebalancePlanRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterRebalancePlanReply reply = GITSTEAD__V1__CLUSTER_REBALANCE_PLAN_REPLY__INIT;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, request->virtual_storage, error);
  g_autoptr (GPtrArray) bag = gsi_bag_new (), moves = g_ptr_array_new ();
  guint64 rate = request->bytes_per_second != 0 ? request->bytes_per_second : RATE_DEFAULT;
  Plan plan = { router, call, bag, group, .limit = request->limit != 0 ? request->limit : MOVES_DEFAULT, .reply = &reply,
                .moves = moves };
  gboolean made = group != NULL && make_plan (&plan, error);
  plan_clear (&plan);
  if (!made)
    return FALSE;
  reply.seconds = (reply.bytes + rate - 1) / rate;
  reply.moves = (Gitstead__V1__ClusterMove **) moves->pdata;
  reply.n_moves = moves->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* -------------------------------------------------------------------------------------------- applying */

static gboolean
collect_moving (const GsJobRow *job, gpointer user)
{
  g_hash_table_add (user, g_memdup2 (&job->repository_id, sizeof job->repository_id));
  return TRUE;
}

/*
 * One move of a repository at a time: of several planned ones the rest is planned again the next time. Each begins once
 * those before it could have been copied at the rate that was asked for.
 */
static gboolean
queue_moves (Plan *plan, guint64 rate, Gitstead__V1__ClusterRebalanceApplyReply *reply, GError **error)
{
  g_autoptr (GHashTable) moving = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  if (!gsi_move_each (plan->router, &plan->call->base, 0, 0, 0, FALSE, collect_moving, moving, error))
    return FALSE;
  for (guint i = 0; i < plan->moves->len; i++)
    {
      const Gitstead__V1__ClusterMove *move = plan->moves->pdata[i];
      const gint64 after_us = rate == 0 ? 0 : (gint64) MIN ((double) reply->bytes * G_USEC_PER_SEC / (double) rate, LATEST_US);
      guint64 id;
      if (move->from[0] == '\0' || move->to[0] == '\0')
        {
          reply->left++;
          continue;
        }
      if (g_hash_table_contains (moving, &move->id))
        {
          reply->busy++;
          continue;
        }
      if (!gs_call_check (&plan->call->base, "queueing moves", error)
          || !gsi_move_ask (plan->router, &plan->call->base, move->id, move->from, move->to, "rebalancing", after_us, &id, error))
        return FALSE;
      g_hash_table_add (moving, g_memdup2 (&move->id, sizeof move->id));
      reply->queued++;
      reply->bytes += move->bytes;
      reply->first_id = reply->first_id == 0 ? id : MIN (reply->first_id, id);
      reply->last_id = MAX (reply->last_id, id);
    }
  return TRUE;
}

gboolean
gsi_cluster_rebalance_apply (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterRebalanceApplyRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterRebalanceApplyReply reply = GITSTEAD__V1__CLUSTER_REBALANCE_APPLY_REPLY__INIT;
  Gitstead__V1__ClusterRebalancePlanReply planned = GITSTEAD__V1__CLUSTER_REBALANCE_PLAN_REPLY__INIT;
  const GsiStorageGroup *group = gsi_router_virtual_storage (router, request->virtual_storage, error);
  g_autoptr (GPtrArray) bag = gsi_bag_new (), moves = g_ptr_array_new ();
  Plan plan = { router, call, bag, group, .limit = request->limit != 0 ? request->limit : MOVES_DEFAULT, .reply = &planned,
                .moves = moves };
  gboolean made;
  if (group == NULL)
    return FALSE;
  if (config->metadata->job_add == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the metadata store keeps no jobs, so that nothing can be moved");
  made = make_plan (&plan, error);
  plan_clear (&plan);
  if (!made || !queue_moves (&plan, request->bytes_per_second, &reply, error))
    return FALSE;
  reply.more = planned.more;
  reply.looked_at = planned.looked_at;
  config->host->log (config->host, GS_LOG_INFO, "cluster.rebalance",
                     (GsField[]) { GS_TEXT ("virtual_storage", group->name), GS_NUMBER ("moves", reply.queued),
                                   GS_NUMBER ("bytes", reply.bytes), GS_TEXT ("by", call->base.identity->name) },
                     4);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
