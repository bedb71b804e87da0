/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster counted: Cluster/Status, Cluster/Nodes, Cluster/DataLoss. */
#include "router/cluster.h"

#include "router/nodes.h"
#include "router/repair.h"
#include "router/settle.h"

/* How long one node may take to answer a small question. */
#define ASK_US (2 * G_USEC_PER_SEC)
#define JOBS_BATCH 1000
#define LOSSES_MAX 1000

/* -------------------------------------------------------------------------------------- the status */

typedef struct
{
  GsiRouter *router;
  GsiBag *bag;
  const char *only; /* "" = all */
  GPtrArray *groups; /* of ClusterVirtualStorage */
} Survey;

static Gitstead__V1__ClusterVirtualStorage *
survey_group (Survey *survey, const char *name)
{
  Gitstead__V1__ClusterVirtualStorage *group;
  for (guint i = 0; i < survey->groups->len; i++)
    {
      group = survey->groups->pdata[i];
      if (strcmp (group->name, name) == 0)
        return group;
    }
  group = GSI_BAG_MESSAGE (survey->bag, Gitstead__V1__ClusterVirtualStorage,
                           gitstead__v1__cluster_virtual_storage__init);
  group->name = gsi_bag_text (survey->bag, name);
  g_ptr_array_add (survey->groups, group);
  return group;
}

static void
survey_configured (Survey *survey)
{
  const GsiRouterConfig *config = gsi_router_config (survey->router);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    {
      const GsiStorageGroup *configured = config->virtual_storages[i];
      g_autoptr (GPtrArray) names = g_ptr_array_new ();
      Gitstead__V1__ClusterVirtualStorage *group;
      if (survey->only[0] != '\0' && strcmp (survey->only, configured->name) != 0)
        continue;
      group = survey_group (survey, configured->name);
      group->configured = TRUE;
      group->copies = (guint32) configured->n_copies;
      group->min_copies = (guint32) configured->min_copies;
      for (gsize k = 0; k < configured->n_storages; k++)
        g_ptr_array_add (names, gsi_bag_text (survey->bag, configured->storages[k]->name));
      group->storages = gsi_bag_list (survey->bag, g_steal_pointer (&names), &group->n_storages);
    }
}

/* Never counts as longest ago. */
static void
take_oldest (gint64 *oldest, gint64 time_us, gboolean first)
{
  if (first || time_us < *oldest)
    *oldest = time_us;
}

static void
survey_replicas (Gitstead__V1__ClusterVirtualStorage *group, const GsiRow *row)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiRowReplica *replica = &row->replicas[i];
      gboolean first = group->replicas == 0;
      group->replicas++;
      group->replicas_behind += replica->generation < row->generation;
      group->replicas_unverified += replica->verified_wall_us == 0;
      take_oldest (&group->oldest_verified_us, replica->verified_wall_us, first);
      take_oldest (&group->oldest_scrubbed_us, replica->scrubbed_wall_us, first);
    }
}

static gboolean
survey_row (GsiRow *row, gpointer user)
{
  Survey *survey = user;
  Gitstead__V1__ClusterVirtualStorage *group;
  g_auto (GsiVerdict) verdict = { 0 };
  if (survey->only[0] != '\0' && strcmp (survey->only, row->virtual_storage) != 0)
    return TRUE;
  group = survey_group (survey, row->virtual_storage);
  gsi_cluster_judge (survey->router, gsi_cluster_group (survey->router, row->virtual_storage), row, &verdict);
  group->repositories++;
  group->healthy += verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_HEALTHY;
  group->degraded += verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_DEGRADED;
  group->read_only += verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY;
  group->unavailable += verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE;
  group->lost += verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST;
  survey_replicas (group, row);
  return TRUE;
}

typedef struct
{
  Gitstead__V1__ClusterStatusReply *reply;
  guint64 last;
  gsize n;
} JobCount;

static gboolean
count_job (const GsJobRow *job, gpointer user)
{
  JobCount *count = user;
  count->last = job->id;
  count->n++;
  count->reply->jobs_queued += job->state == GS_JOB_QUEUED;
  count->reply->jobs_running += job->state == GS_JOB_RUNNING;
  count->reply->jobs_failed += job->state == GS_JOB_FAILED;
  return TRUE;
}

static gboolean
count_jobs (GsiRouter *router, GsiCall *call, Gitstead__V1__ClusterStatusReply *reply, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  const GsJobFilter filter = { .size = sizeof filter,
                               .states = 1u << GS_JOB_QUEUED | 1u << GS_JOB_RUNNING | 1u << GS_JOB_FAILED };
  JobCount count = { .reply = reply };
  do
    {
      count.n = 0;
      if (!gs_call_check (&call->base, "counting jobs", error)
          || !config->metadata->job_list (config->metadata_self, &call->base, &filter, count.last, JOBS_BATCH, count_job,
                                          &count, error))
        return FALSE;
    }
  while (count.n == JOBS_BATCH);
  return TRUE;
}

static void
count_nodes (GsiRouter *router, GsiBag *bag, Gitstead__V1__ClusterStatusReply *reply)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GPtrArray) known = gsi_nodes_all (gsi_router_nodes (router));
  g_autoptr (GPtrArray) down = g_ptr_array_new ();
  for (gsize i = 0; i < config->n_storages; i++)
    if (gsi_cluster_up (router, config->storages[i]->name, NULL))
      reply->nodes_up++;
    else
      g_ptr_array_add (down, gsi_bag_text (bag, config->storages[i]->name));
  for (guint i = 0; i < known->len; i++)
    reply->nodes_draining += ((const GsiNodeInfo *) known->pdata[i])->state == GS_NODE_DRAINING;
  reply->nodes_down = down->len;
  reply->down = gsi_bag_list (bag, g_steal_pointer (&down), &reply->n_down);
}

gboolean
gsi_cluster_status (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterStatusRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterStatusReply reply = GITSTEAD__V1__CLUSTER_STATUS_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), groups = g_ptr_array_new ();
  Survey survey = { router, bag, request->virtual_storage, groups };
  if (!gsi_cluster_is_router (router, error) || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  survey_configured (&survey);
  if (!gsi_cluster_each (router, &call->base, 0, survey_row, &survey, error)
      || !count_jobs (router, call, &reply, error))
    return FALSE;
  if (groups->len == 0)
    return gsi_router_virtual_storage (router, request->virtual_storage, error) != NULL;
  count_nodes (router, bag, &reply);
  reply.virtual_storages = (Gitstead__V1__ClusterVirtualStorage **) groups->pdata;
  reply.n_virtual_storages = groups->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- the nodes */

static Gitstead__V1__ClusterNode *
node_message (GsiBag *bag, GPtrArray *nodes, const char *storage)
{
  Gitstead__V1__ClusterNode *node;
  for (guint i = 0; i < nodes->len; i++)
    {
      node = nodes->pdata[i];
      if (strcmp (node->storage, storage) == 0)
        return node;
    }
  node = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterNode, gitstead__v1__cluster_node__init);
  node->storage = gsi_bag_text (bag, storage);
  node->state = GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_ACTIVE;
  g_ptr_array_add (nodes, node);
  return node;
}

static void
node_known (GsiBag *bag, GPtrArray *nodes, const GsiNodeInfo *info)
{
  Gitstead__V1__ClusterNode *node = node_message (bag, nodes, info->storage);
  node->since_us = info->since_wall_us;
  if (!info->reported)
    return;
  node->state = (Gitstead__V1__ClusterNodeState) info->state;
  node->free_bytes = info->free_bytes;
  node->total_bytes = info->total_bytes;
  node->address = gsi_bag_text (bag, info->address);
  node->disk_id = gsi_bag_bytes (bag, info->disk_id.bytes, sizeof info->disk_id.bytes);
  node->seen_us = info->seen_wall_us;
}

/* A question that every storage can answer from memory or one look at the disk. */
static guint64
ask_latency (const GsiStorage *storage)
{
  const GsRepo nobody = { sizeof nobody, 0, "@r/00/00/0.git" };
  gint64 began_us = g_get_monotonic_time ();
  GsIdentity identity;
  gboolean exists;
  GsCall call;
  gsi_own_call_init (&call, &identity, "latency");
  call.deadline_us = began_us + ASK_US;
  if (!storage->ops->exists (storage->self, &call, &nobody, &exists, NULL))
    return 0;
  return (guint64) MAX (g_get_monotonic_time () - began_us, 1);
}

static void
node_configured (GsiRouter *router, GsiBag *bag, GPtrArray *nodes, const GsiStorage *storage)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__ClusterNode *node = node_message (bag, nodes, storage->name);
  g_autoptr (GPtrArray) groups = g_ptr_array_new ();
  g_autofree char *problem = NULL, *program = NULL;
  node->configured = TRUE;
  if (storage->ops->program != NULL && storage->ops->program (storage->self, &program, NULL))
    node->program = gsi_bag_text (bag, program);
  else if (storage->ops->probe == NULL)
    node->program = gsi_bag_text (bag, config->program);
  node->up = gsi_cluster_up (router, storage->name, &problem);
  node->problem = gsi_bag_text (bag, problem);
  node->in_flight = gsi_router_view (storage).in_flight;
  node->zone = gsi_bag_text (bag, storage->zone);
  node->weight = storage->weight;
  if (node->up)
    node->latency_us = ask_latency (storage);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    for (gsize k = 0; k < config->virtual_storages[i]->n_storages; k++)
      if (config->virtual_storages[i]->storages[k] == storage)
        g_ptr_array_add (groups, gsi_bag_text (bag, config->virtual_storages[i]->name));
  node->virtual_storages = gsi_bag_list (bag, g_steal_pointer (&groups), &node->n_virtual_storages);
}

typedef struct
{
  GsiBag *bag;
  GPtrArray *nodes;
} NodeCount;

static gboolean
count_replicas (GsiRow *row, gpointer user)
{
  NodeCount *count = user;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      Gitstead__V1__ClusterNode *node = node_message (count->bag, count->nodes, row->replicas[i].storage);
      node->replicas++;
      node->replicas_behind += row->replicas[i].generation < row->generation;
    }
  return TRUE;
}

static gboolean
count_move (const GsJobRow *job, gpointer user)
{
  NodeCount *count = user;
  node_message (count->bag, count->nodes, job->target)->moves_in++;
  if (job->source[0] != '\0')
    node_message (count->bag, count->nodes, job->source)->moves_out++;
  return TRUE;
}

static int
by_storage (gconstpointer left, gconstpointer right)
{
  const Gitstead__V1__ClusterNode *const *a = left, *const *b = right;
  return strcmp ((*a)->storage, (*b)->storage);
}

gboolean
gsi_cluster_nodes (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__ClusterNodesReply reply = GITSTEAD__V1__CLUSTER_NODES_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), nodes = g_ptr_array_new (), known = NULL;
  NodeCount count = { bag, nodes };
  if (!gsi_cluster_is_router (router, error) || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  known = gsi_nodes_all (gsi_router_nodes (router));
  for (guint i = 0; i < known->len; i++)
    node_known (bag, nodes, known->pdata[i]);
  for (gsize i = 0; i < config->n_storages; i++)
    node_configured (router, bag, nodes, config->storages[i]);
  if (!gsi_cluster_each (router, &call->base, 0, count_replicas, &count, error)
      || (config->metadata->job_list != NULL
          && !gsi_move_each (router, &call->base, 0, 0, 0, FALSE, count_move, &count, error)))
    return FALSE;
  for (guint i = 0; i < nodes->len; i++)
    {
      Gitstead__V1__ClusterNode *node = nodes->pdata[i];
      if (!node->configured)
        node->problem = gsi_bag_text (bag, "no storage of this router's configuration has that name");
    }
  g_ptr_array_sort (nodes, by_storage);
  reply.nodes = (Gitstead__V1__ClusterNode **) nodes->pdata;
  reply.n_nodes = nodes->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- data loss */

typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  GsiBag *bag;
  const Gitstead__V1__ClusterDataLossRequest *request;
  Gitstead__V1__ClusterDataLossReply *reply;
  GPtrArray *losses;
  gsize limit;
  guint64 last;
} LossSearch;

/* Names of the replicas at @generation; @up_only: of those that can be reached. */
static char **
holders (LossSearch *search, const GsiRow *row, guint64 generation, gboolean up_only, gsize *ret_n)
{
  g_autoptr (GPtrArray) names = g_ptr_array_new ();
  for (gsize i = 0; i < row->n_replicas; i++)
    if (row->replicas[i].generation == generation
        && (!up_only || gsi_cluster_up (search->router, row->replicas[i].storage, NULL)))
      g_ptr_array_add (names, gsi_bag_text (search->bag, row->replicas[i].storage));
  return gsi_bag_list (search->bag, g_steal_pointer (&names), ret_n);
}

static void
loss_add (LossSearch *search, const GsiRow *row, const GsiVerdict *verdict)
{
  GsiBag *bag = search->bag;
  Gitstead__V1__ClusterLoss *loss
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterLoss, gitstead__v1__cluster_loss__init);
  loss->repository = gsi_bag_repository (bag, row);
  loss->id = row->id;
  loss->generation = row->generation;
  loss->lost = verdict->n_current == 0;
  loss->changed_us = row->changed_wall_us;
  loss->recorded_generation = verdict->best;
  loss->recorded = holders (search, row, verdict->best, FALSE, &loss->n_recorded);
  if (verdict->n_up > 0)
    {
      loss->reachable_generation = verdict->best_up;
      loss->reachable = holders (search, row, verdict->best_up, TRUE, &loss->n_reachable);
    }
  g_ptr_array_add (search->losses, loss);
}

static gboolean
loss_row (GsiRow *row, gpointer user)
{
  LossSearch *search = user;
  g_auto (GsiVerdict) verdict = { 0 };
  const char *only = search->request->virtual_storage;
  if (search->losses->len >= search->limit)
    {
      search->reply->next_after_id = search->last;
      return FALSE;
    }
  search->last = row->id;
  if (only[0] != '\0' && strcmp (only, row->virtual_storage) != 0)
    return TRUE;
  search->reply->looked_at++;
  /* A disk may hold what the record does not know of: then nothing is lost, and the record is mended. */
  gsi_router_recheck (search->router, search->call, row);
  gsi_cluster_judge (search->router, gsi_cluster_group (search->router, row->virtual_storage), row, &verdict);
  if (verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST
      || (verdict.health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE && search->request->include_unavailable))
    loss_add (search, row, &verdict);
  return TRUE;
}

gboolean
gsi_cluster_data_loss (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterDataLossRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterDataLossReply reply = GITSTEAD__V1__CLUSTER_DATA_LOSS_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), losses = g_ptr_array_new ();
  LossSearch search = { router, call, bag, request, &reply, losses, request->limit != 0 ? request->limit : LOSSES_MAX, 0 };
  if (request->limit > LOSSES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: at most %d", LOSSES_MAX);
  if (!gsi_cluster_is_router (router, error)
      || (request->virtual_storage[0] != '\0'
          && gsi_router_virtual_storage (router, request->virtual_storage, error) == NULL)
      || !gsi_cluster_each (router, &call->base, request->after_id, loss_row, &search, error))
    return FALSE;
  reply.losses = (Gitstead__V1__ClusterLoss **) losses->pdata;
  reply.n_losses = losses->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
