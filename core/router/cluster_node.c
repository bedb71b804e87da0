/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator wants of nodes: Cluster/SetNode, Cluster/CheckNode. */
#include "router/cluster.h"

#include "router/nodes.h"
#include "router/settle.h"

#define BATCH 500
/* A node reports every few seconds, a process that lends nothing every minute; one that has not for so long does not. */
#define REPORT_OLD_US (30 * G_USEC_PER_SEC)
#define REPORT_OLD_ALONE_US (3 * 60 * G_USEC_PER_SEC)
#define ASK_US (5 * G_USEC_PER_SEC)

/* -------------------------------------------------------------------------------- replicas on a node */

typedef struct
{
  const char *storage;
  guint64 n, only_current, last;
  gsize batch;
} Load;

static gboolean
count_row (const GsRepoRow *row, gpointer user)
{
  Load *load = user;
  gsize n_current = 0;
  gboolean here = FALSE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      gboolean current = row->replicas[i]->generation >= row->generation;
      n_current += current;
      here = here || (current && strcmp (row->replicas[i]->storage, load->storage) == 0);
    }
  load->n++;
  load->only_current += here && n_current == 1;
  load->last = row->id;
  load->batch++;
  return TRUE;
}

static gboolean
count_load (GsiRouter *router, GsCall *call, const char *storage, Load *ret_load, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  *ret_load = (Load) { .storage = storage };
  do
    {
      ret_load->batch = 0;
      if (!gs_call_check (call, "counting the replicas of a node", error)
          || !config->metadata->repo_list_on (config->metadata_self, call, storage, ret_load->last, BATCH, count_row,
                                              ret_load, error))
        return FALSE;
    }
  while (ret_load->batch == BATCH);
  return TRUE;
}

static const GsiNodeInfo *
known_node (GPtrArray *all, const char *storage)
{
  for (guint i = 0; i < all->len; i++)
    {
      const GsiNodeInfo *info = all->pdata[i];
      if (info->reported && strcmp (info->storage, storage) == 0)
        return info;
    }
  return NULL;
}

/* ------------------------------------------------------------------------------------------- states */

/* How many nodes of a virtual storage would be left for new replicas. */
static gboolean
check_drain (GsiRouter *router, const char *storage, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    {
      const GsiStorageGroup *group = config->virtual_storages[i];
      gsize n_left = 0;
      gboolean member = FALSE;
      for (gsize k = 0; k < group->n_storages; k++)
        {
          const char *name = group->storages[k]->name;
          member = member || strcmp (name, storage) == 0;
          n_left += strcmp (name, storage) != 0 && gsi_nodes_state (gsi_router_nodes (router), name) == GS_NODE_ACTIVE;
        }
      if (member && n_left < group->min_copies)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "'%s' cannot be drained: virtual storage '%s' would have %" G_GSIZE_FORMAT
                        " nodes for replicas, and acknowledges no write with fewer than %" G_GSIZE_FORMAT
                        " copies; add a node first",
                        storage, group->name, n_left, group->min_copies);
    }
  return TRUE;
}

static gboolean
check_remove (const char *storage, const Load *load, GError **error)
{
  if (load->n == 0)
    return TRUE;
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "'%s' cannot be removed: %" G_GUINT64_FORMAT " replicas are recorded on it, %" G_GUINT64_FORMAT
                  " of them the only current one of their repository; drain it, and wait until it is empty",
                  storage, load->n, load->only_current);
}

gboolean
gsi_cluster_set_node (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterSetNodeRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterSetNodeReply reply = GITSTEAD__V1__CLUSTER_SET_NODE_REPLY__INIT;
  g_autoptr (GPtrArray) all = NULL;
  const GsiNodeInfo *node;
  GsNodeState state = (GsNodeState) request->state;
  Load load;
  if (!gsi_cluster_is_router (router, error) || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  if (request->forget ? request->state != 0 : state < GS_NODE_ACTIVE || state > GS_NODE_REMOVED)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "state: must be CLUSTER_NODE_ACTIVE, CLUSTER_NODE_DRAINING or CLUSTER_NODE_REMOVED, or forget alone");
  all = gsi_nodes_all (gsi_router_nodes (router));
  node = known_node (all, request->storage);
  if (node == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "no node has ever reported a storage '%.100s'; 'gitstead cluster nodes' lists those there are",
                    request->storage);
  if (!count_load (router, &call->base, request->storage, &load, error))
    return FALSE;
  reply.before = (Gitstead__V1__ClusterNodeState) node->state;
  reply.replicas = load.n;
  reply.only_current = load.only_current;
  if (state == GS_NODE_DRAINING && node->state == GS_NODE_REMOVED)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "'%s' was removed: it has nothing to be drained of",
                    request->storage);
  if ((state == GS_NODE_DRAINING && !check_drain (router, request->storage, error))
      || (state == GS_NODE_REMOVED && !check_remove (request->storage, &load, error)))
    return FALSE;
  if (request->forget
          ? !config->metadata->node_forget (config->metadata_self, &call->base, request->storage, error)
          : !config->metadata->node_set_state (config->metadata_self, &call->base, request->storage, state, error))
    return FALSE;
  config->host->log (config->host, GS_LOG_INFO, "cluster.node.set",
                     (GsField[]){ GS_TEXT ("storage", request->storage),
                                  GS_NUMBER ("state", request->forget ? 0 : (gint64) state),
                                  GS_TEXT ("by", call->base.identity->name) },
                     3);
  gsi_router_look_at_nodes (router, NULL);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- checks */

typedef struct
{
  GsiBag *bag;
  GPtrArray *checks;
  gboolean fit;
} Checks;

static void
check (Checks *checks, const char *what, gboolean passed, char *text)
{
  Gitstead__V1__ClusterCheck *one
      = GSI_BAG_MESSAGE (checks->bag, Gitstead__V1__ClusterCheck, gitstead__v1__cluster_check__init);
  one->what = gsi_bag_text (checks->bag, what);
  one->passed = passed;
  one->text = gsi_bag_keep (checks->bag, text);
  checks->fit = checks->fit && passed;
  g_ptr_array_add (checks->checks, one);
}

static void
check_use (GsiRouter *router, Checks *checks, const GsiStorage *storage)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GString) names = g_string_new (NULL);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    for (gsize k = 0; k < config->virtual_storages[i]->n_storages; k++)
      if (config->virtual_storages[i]->storages[k] == storage)
        g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", config->virtual_storages[i]->name);
  if (names->len == 0)
    check (checks, "use", FALSE,
           g_strdup ("no virtual storage of this router has it: add it to one's storages, and reload every router"));
  else if (storage->weight == 0)
    check (checks, "use", FALSE, g_strdup_printf ("of %s, with weight 0: it gets no new repositories", names->str));
  else
    check (checks, "use", TRUE, g_strdup_printf ("of %s", names->str));
}

static gboolean
check_reachable (GsiRouter *router, Checks *checks, const GsiStorage *storage)
{
  const GsRepo nobody = { sizeof nobody, 0, "@r/00/00/0.git" };
  g_autofree char *problem = NULL;
  g_autoptr (GError) why = NULL;
  gint64 began_us = g_get_monotonic_time ();
  GsIdentity identity;
  gboolean exists;
  GsCall call;
  if (!gsi_cluster_up (router, storage->name, &problem))
    {
      check (checks, "reachable", FALSE, g_steal_pointer (&problem));
      return FALSE;
    }
  gsi_own_call_init (&call, &identity, "check");
  call.deadline_us = began_us + ASK_US;
  if (!storage->ops->exists (storage->self, &call, &nobody, &exists, &why))
    {
      check (checks, "reachable", FALSE, g_strdup (why->message));
      return FALSE;
    }
  check (checks, "reachable", TRUE,
         g_strdup_printf ("it answers with our cluster token, in %.1f ms",
                          (double) (g_get_monotonic_time () - began_us) / 1000));
  return TRUE;
}

static void
check_disk (Checks *checks, GPtrArray *all, const GsiNodeInfo *node)
{
  g_autofree char *free_text = g_format_size_full (node->free_bytes, G_FORMAT_SIZE_IEC_UNITS);
  for (guint i = 0; i < all->len; i++)
    {
      const GsiNodeInfo *other = all->pdata[i];
      if (other == node || !other->reported || memcmp (&other->disk_id, &node->disk_id, sizeof node->disk_id) != 0)
        continue;
      check (checks, "disk", FALSE,
             g_strdup_printf ("it is the disk of '%s' as well: two replicas there would be one", other->storage));
      return;
    }
  if (node->total_bytes > 0 && node->free_bytes < node->total_bytes / 20)
    check (checks, "disk", FALSE, g_strdup_printf ("its own, and nearly full: %s are free", free_text));
  else
    check (checks, "disk", TRUE, g_strdup_printf ("its own; %s are free", free_text));
}

static void
check_report (GsiRouter *router, Checks *checks, const GsiStorage *storage)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GPtrArray) all = gsi_nodes_all (gsi_router_nodes (router));
  const GsiNodeInfo *node = known_node (all, storage->name);
  gint64 age_us = node != NULL ? config->host->wall_us (config->host) - node->seen_wall_us : 0;
  if (node == NULL)
    {
      check (checks, "report", FALSE,
             g_strdup ("it never reported itself to the metadata store: does its process use the same one? When its log "
                       "has node.report.refused, its disk or its name is known as another's"));
      return;
    }
  if (age_us > (storage->ops->probe != NULL ? REPORT_OLD_US : REPORT_OLD_ALONE_US))
    check (checks, "report", FALSE,
           g_strdup_printf ("its last report is %" G_GINT64_FORMAT " s old: it is not running, its report is refused (its "
                            "log has node.report.refused), or a clock is wrong",
                            age_us / G_USEC_PER_SEC));
  else
    check (checks, "report", TRUE, g_strdup_printf ("it reports itself, from %s", node->address));
  check_disk (checks, all, node);
  if (node->state == GS_NODE_ACTIVE)
    check (checks, "state", TRUE, g_strdup ("active"));
  else
    check (checks, "state", FALSE,
           g_strdup_printf ("it %s: 'gitstead cluster undrain %s' takes it back",
                            node->state == GS_NODE_DRAINING ? "is being drained" : "was removed", storage->name));
}

/* One replica more, of a repository that the record does not know. */
typedef struct
{
  GsiRouter *router;
  GsCall *call;
  guint64 n, unknown;
} Content;

static gboolean
count_content (const GsRepo *repo, gpointer user)
{
  Content *content = user;
  const GsiRouterConfig *config = gsi_router_config (content->router);
  g_autoptr (GsiRow) row = NULL;
  g_autoptr (GError) why = NULL;
  content->n++;
  if (!config->metadata->repo_get (config->metadata_self, content->call, repo->id, gsi_row_visit, &row, &why))
    content->unknown += gs_error_code (why) == GS_ERROR_NOT_FOUND;
  return TRUE;
}

static void
check_content (GsiRouter *router, GsiCall *call, Checks *checks, const GsiStorage *storage)
{
  Content content = { router, &call->base, 0, 0 };
  g_autoptr (GError) why = NULL;
  if (!storage->ops->list (storage->self, &call->base, count_content, &content, &why))
    check (checks, "content", FALSE, g_strdup_printf ("its replicas cannot be listed: %s", why->message));
  else if (content.unknown > 0)
    check (checks, "content", FALSE,
           g_strdup_printf ("%" G_GUINT64_FORMAT " of its %" G_GUINT64_FORMAT " replicas are of no repository that is known "
                            "here: is it a disk of another cluster, or an old one? 'gitstead cluster untracked' lists them",
                            content.unknown, content.n));
  else
    check (checks, "content", TRUE, g_strdup_printf ("%" G_GUINT64_FORMAT " replicas, all of known repositories", content.n));
}

gboolean
gsi_cluster_check_node (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterCheckNodeRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterCheckNodeReply reply = GITSTEAD__V1__CLUSTER_CHECK_NODE_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), list = g_ptr_array_new ();
  const GsiStorage *storage = gsi_router_storage (router, request->storage);
  Checks checks = { bag, list, TRUE };
  if (!gsi_cluster_is_router (router, error) || !gsi_router_look_at_nodes (router, error))
    return FALSE;
  if (storage == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND,
                    "this router's configuration has no storage '%.100s': add it to storages and to a virtual storage, and "
                    "reload every router ('gitstead reload')",
                    request->storage);
  check_use (router, &checks, storage);
  if (check_reachable (router, &checks, storage))
    {
      check_report (router, &checks, storage);
      check_content (router, call, &checks, storage);
    }
  reply.fit = checks.fit;
  reply.checks = (Gitstead__V1__ClusterCheck **) list->pdata;
  reply.n_checks = list->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
