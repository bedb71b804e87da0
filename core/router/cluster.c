/* SPDX-License-Identifier: Apache-2.0 */
/* How repositories are, judged from their records. See cluster.h. */
#include "router/cluster.h"

#include "router/nodes.h"

/* Rows of one question to the metadata store. */
#define BATCH 500

/* ---------------------------------------------------------------------------------------- messages */

char *
gsi_bag_printf (GsiBag *bag, const char *format, ...)
{
  char *text;
  va_list args;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  return gsi_bag_keep (bag, text);
}

ProtobufCBinaryData
gsi_bag_bytes (GsiBag *bag, gconstpointer bytes, gsize len)
{
  return (ProtobufCBinaryData) { len, gsi_bag_keep (bag, g_memdup2 (bytes, len)) };
}

gpointer
gsi_bag_list (GsiBag *bag, GPtrArray *list, gsize *ret_n)
{
  *ret_n = list->len;
  return gsi_bag_keep (bag, g_ptr_array_free (list, FALSE));
}

Gitstead__V1__Repository *
gsi_bag_repository (GsiBag *bag, const GsiRow *row)
{
  Gitstead__V1__Repository *name
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__Repository, gitstead__v1__repository__init);
  name->virtual_storage = gsi_bag_text (bag, row->virtual_storage);
  name->path = gsi_bag_text (bag, row->path);
  return name;
}

/* ----------------------------------------------------------------------------------------- looking */

const GsiStorageGroup *
gsi_cluster_group (GsiRouter *router, const char *name)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    if (strcmp (config->virtual_storages[i]->name, name) == 0)
      return config->virtual_storages[i];
  return NULL;
}

gboolean
gsi_cluster_is_router (GsiRouter *router, GError **error)
{
  return gsi_router_virtual_storage (router, NULL, error) != NULL;
}

gboolean
gsi_cluster_up (GsiRouter *router, const char *name, char **ret_why)
{
  const GsiStorage *storage = gsi_router_storage (router, name);
  g_autoptr (GError) why = NULL;
  if (storage == NULL)
    {
      if (ret_why != NULL)
        *ret_why = g_strdup_printf ("no storage of this router's configuration is called '%s'", name);
      return FALSE;
    }
  if (storage->ops->probe == NULL || storage->ops->probe (storage->self, &why))
    return TRUE;
  if (ret_why != NULL)
    *ret_why = g_strdup (why != NULL ? why->message : "it does not answer");
  return FALSE;
}

static gboolean
collect_row (const GsRepoRow *row, gpointer user)
{
  g_ptr_array_add (user, gsi_row_new (row));
  return TRUE;
}

gboolean
gsi_cluster_each (GsiRouter *router, GsCall *call, guint64 after, gboolean (*visit) (GsiRow *row, gpointer user),
                  gpointer user, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  for (;;)
    {
      g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func ((GDestroyNotify) gsi_row_free);
      if (!gs_call_check (call, "looking at all repositories", error)
          || !config->metadata->repo_list_all (config->metadata_self, call, after, BATCH, collect_row, rows, error))
        return FALSE;
      for (guint i = 0; i < rows->len; i++)
        {
          GsiRow *row = rows->pdata[i];
          if (!visit (row, user))
            return TRUE;
          after = row->id;
        }
      if (rows->len < BATCH)
        return TRUE;
    }
}

/* ----------------------------------------------------------------------------------------- judging */

/* What the step function answered, as far as it matters here. */
typedef struct
{
  GsActions actions; /* first */
  GArray *staged;    /* of gsize: participants it wants to stage */
  gboolean decides, timer, fails;
  char *reason;
} Oracle;

static void
oracle_add (GsActions *actions, const GsAction *action)
{
  Oracle *oracle = (Oracle *) actions;
  switch (action->type)
    {
    case GS_ACTION_STAGE:
      g_array_append_val (oracle->staged, action->participant);
      break;
    case GS_ACTION_DECIDE:
      oracle->decides = TRUE;
      break;
    case GS_ACTION_TIMER:
      oracle->timer = TRUE;
      break;
    case GS_ACTION_FAIL:
      oracle->fails = TRUE;
      g_free (oracle->reason);
      oracle->reason = g_strdup (action->reason);
      break;
    default:
      break;
    }
}

gboolean
gsi_cluster_would_write (const GsiStorageGroup *group, const GsTxnSetup *setup, char **ret_why)
{
  static const guint8 digest[32] = { 0 };
  Oracle oracle = { .actions = { sizeof oracle.actions, NULL, oracle_add } };
  GsEvent event = { sizeof event, GS_EVENT_BEGIN, 0, NULL };
  g_autoptr (GError) why = NULL;
  gpointer txn = group->consistency->txn_new (group->consistency_self, setup, &why);
  if (txn == NULL)
    {
      *ret_why = g_strdup (why != NULL ? why->message : "the consistency plugin refused it");
      return FALSE;
    }
  oracle.staged = g_array_new (FALSE, FALSE, sizeof (gsize));
  group->consistency->txn_step (group->consistency_self, txn, &event, &oracle.actions);
  for (guint i = 0; i < oracle.staged->len && !oracle.decides && !oracle.fails; i++)
    {
      event = (GsEvent) { sizeof event, GS_EVENT_STAGED, g_array_index (oracle.staged, gsize, i), digest };
      group->consistency->txn_step (group->consistency_self, txn, &event, &oracle.actions);
    }
  if (!oracle.decides && !oracle.fails && oracle.timer)
    {
      event = (GsEvent) { sizeof event, GS_EVENT_TIMER, 0, NULL };
      group->consistency->txn_step (group->consistency_self, txn, &event, &oracle.actions);
    }
  group->consistency->txn_free (group->consistency_self, txn);
  g_array_unref (oracle.staged);
  if (!oracle.decides)
    *ret_why = oracle.reason != NULL ? g_steal_pointer (&oracle.reason)
                                     : g_strdup ("the consistency plugin would not decide it");
  g_free (oracle.reason);
  return oracle.decides;
}

void
gsi_verdict_clear (GsiVerdict *verdict)
{
  g_clear_pointer (&verdict->why_not, g_free);
}

static void
count_replica (GsiVerdict *verdict, const GsiRow *row, const GsiRowReplica *replica, gboolean up)
{
  gboolean current = replica->generation >= row->generation;
  verdict->n_counted++;
  verdict->n_up += up;
  verdict->n_current += current;
  verdict->n_current_up += current && up;
  verdict->best = MAX (verdict->best, replica->generation);
  if (up)
    verdict->best_up = MAX (verdict->best_up, replica->generation);
}

static Gitstead__V1__ClusterHealth
health_of (const GsiVerdict *verdict)
{
  if (verdict->n_current == 0)
    return GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST;
  if (verdict->n_current_up == 0)
    return GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE;
  if (!verdict->writable)
    return GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_READ_ONLY;
  if (verdict->n_current_up < verdict->n_wanted || verdict->n_current_up < verdict->n_counted)
    return GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_DEGRADED;
  return GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_HEALTHY;
}

void
gsi_cluster_judge (GsiRouter *router, const GsiStorageGroup *group, const GsiRow *row, GsiVerdict *ret_verdict)
{
  const GsiStorageGroup *own = group != NULL ? gsi_router_policy (router, group, row->consistency) : NULL;
  GsiVerdict verdict = { 0 };
  g_autofree GsParticipant *views = g_new0 (GsParticipant, row->n_replicas + 1);
  g_autofree const GsParticipant **pointers = g_new0 (const GsParticipant *, row->n_replicas + 1);
  GsTxnSetup setup = { sizeof setup, pointers, 0, group != NULL ? group->min_copies : 1 };
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiRowReplica *replica = &row->replicas[i];
      gboolean up = gsi_cluster_up (router, replica->storage, NULL);
      GsParticipant *view = &views[setup.n_participants];
      if (!gsi_router_counts (router, row, i))
        continue;
      count_replica (&verdict, row, replica, up);
      *view = (GsParticipant) { sizeof *view, replica->storage, replica->generation >= row->generation, up };
      pointers[setup.n_participants++] = view;
    }
  verdict.n_wanted = row->copies != 0 ? row->copies : group != NULL ? group->n_copies : 1;
  if (own != NULL)
    verdict.writable = gsi_cluster_would_write (own, &setup, &verdict.why_not);
  else if (group != NULL)
    verdict.why_not = g_strdup_printf ("it has the consistency policy '%s', which this router's configuration has not",
                                       row->consistency);
  else
    verdict.why_not = g_strdup_printf ("this router's configuration has no virtual storage '%s'", row->virtual_storage);
  verdict.health = health_of (&verdict);
  *ret_verdict = verdict;
}

/* ------------------------------------------------------------------------------------------ the list */

const GsiBinding *
gsi_cluster_bindings (void)
{
  static const GsiBinding bindings[] = {
    { 950, gsi_cluster_status },
    { 951, gsi_cluster_nodes },
    { 952, gsi_cluster_explain },
    { 953, gsi_cluster_data_loss },
    { 954, gsi_cluster_set_replication_factor },
    { 955, gsi_cluster_set_consistency },
    { 956, gsi_cluster_verify_receipt },
    { 957, gsi_cluster_verify },
    { 958, gsi_cluster_untracked },
    { 959, gsi_cluster_adopt },
    { 960, gsi_cluster_accept_data_loss },
    { 961, gsi_cluster_set_node },
    { 962, gsi_cluster_check_node },
    { 963, gsi_cluster_rebalance_plan },
    { 964, gsi_cluster_folders },
    { 970, gsi_cluster_move },
    { 971, gsi_cluster_rebalance_apply },
    { 972, gsi_cluster_moves },
    { 980, gsi_cluster_rebuild_metadata },
    { 0, NULL },
  };
  return bindings;
}
