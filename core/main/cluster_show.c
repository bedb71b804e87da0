/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_show.c - `gitstead cluster status`, `nodes`, `explain`, `dataloss`: what is only looked at. */
#include "cluster.h"

#include "base/text.h"

#include <gitstead/types.h>
#include <string.h>

static char *
number (guint64 n)
{
  return g_strdup_printf ("%" G_GUINT64_FORMAT, n);
}

/* ------------------------------------------------------------------------------------------ status */

const GOptionEntry cluster_status_options[] = { CLUSTER_WATCH_OPTIONS, G_OPTION_ENTRY_NULL };

static void
print_groups (const Gitstead__V1__ClusterStatusReply *reply)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "VIRTUAL STORAGE", ">REPOSITORIES", ">HEALTHY", ">DEGRADED",
                                                      ">READ-ONLY", ">UNAVAILABLE", ">LOST", ">REPLICAS", ">BEHIND",
                                                      "OLDEST PROOF", NULL });
  for (gsize i = 0; i < reply->n_virtual_storages; i++)
    {
      const Gitstead__V1__ClusterVirtualStorage *group = reply->virtual_storages[i];
      g_autofree char *name = g_strdup_printf ("%s%s", group->name, group->configured ? "" : " (not configured here)");
      g_autofree char *all = number (group->repositories), *healthy = number (group->healthy);
      g_autofree char *degraded = number (group->degraded), *read_only = number (group->read_only);
      g_autofree char *unavailable = number (group->unavailable), *lost = number (group->lost);
      g_autofree char *replicas = number (group->replicas), *behind = number (group->replicas_behind);
      g_autofree char *proof = group->replicas == 0 ? g_strdup ("-") : cluster_ago (group->oldest_verified_us);
      gsi_table_row (table, name, all, healthy, degraded, read_only, unavailable, lost, replicas, behind, proof, NULL);
    }
  gsi_table_print (table);
}

static gboolean
is_well (const Gitstead__V1__ClusterStatusReply *reply)
{
  gboolean well = reply->nodes_down == 0;
  for (gsize i = 0; i < reply->n_virtual_storages; i++)
    {
      const Gitstead__V1__ClusterVirtualStorage *group = reply->virtual_storages[i];
      well = well && group->read_only == 0 && group->unavailable == 0 && group->lost == 0;
    }
  return well;
}

static int
status_show (gpointer user)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterStatusRequest request = GITSTEAD__V1__CLUSTER_STATUS_REQUEST__INIT;
  const Gitstead__V1__ClusterStatusReply *reply;
  g_autofree char *down = NULL;
  if (user != NULL)
    request.virtual_storage = user;
  reply = (const Gitstead__V1__ClusterStatusReply *) gsi_cli_call ("Cluster/Status", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot tell how the cluster is");
  if (gsi_cli_json () && !gsi_cli_print_json (&reply->base, &error))
    return gsi_cli_fail (error, "cannot print the status");
  down = cluster_names (reply->down, reply->n_down, "");
  if (!gsi_cli_quiet () && !gsi_cli_json ())
    {
      print_groups (reply);
      g_print ("\nNodes: %u up, %u down%s%s%s, %u draining\n", reply->nodes_up, reply->nodes_down,
               down[0] != '\0' ? " (" : "", down, down[0] != '\0' ? ")" : "", reply->nodes_draining);
      g_print ("Jobs:  %" G_GUINT64_FORMAT " queued, %" G_GUINT64_FORMAT " running, %" G_GUINT64_FORMAT " failed\n",
               reply->jobs_queued, reply->jobs_running, reply->jobs_failed);
    }
  /* A watcher goes on through bad times. */
  return is_well (reply) || cluster_watching ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

int
cluster_status_run (int n_args, char **args)
{
  return cluster_watch (status_show, n_args > 0 ? args[0] : NULL);
}

/* ------------------------------------------------------------------------------------------- nodes */

const GOptionEntry cluster_nodes_options[] = { CLUSTER_WATCH_OPTIONS, G_OPTION_ENTRY_NULL };

static void
print_node (GsiTable *table, const Gitstead__V1__ClusterNode *node)
{
  g_autofree char *since = node->since_us == 0 ? g_strdup ("-") : cluster_ago (node->since_us);
  g_autofree char *latency = node->latency_us == 0 ? g_strdup ("-")
                                                   : g_strdup_printf ("%.1f ms", (double) node->latency_us / 1000);
  g_autofree char *free_bytes = cluster_bytes (node->free_bytes), *total = cluster_bytes (node->total_bytes);
  g_autofree char *replicas = number (node->replicas), *behind = number (node->replicas_behind);
  g_autofree char *in_flight = number (node->in_flight);
  g_autofree char *weight = g_strdup_printf ("%" G_GINT64_FORMAT, node->weight);
  g_autofree char *moves = node->moves_in == 0 && node->moves_out == 0
                               ? g_strdup ("-")
                               : g_strdup_printf ("%" G_GUINT64_FORMAT " in, %" G_GUINT64_FORMAT " out", node->moves_in,
                                                  node->moves_out);
  gsi_table_row (table, node->storage, node->up ? "up" : "DOWN", since, cluster_state (node->state), latency, in_flight,
                 free_bytes, total, replicas, behind, moves, node->zone[0] != '\0' ? node->zone : "-", weight,
                 node->program[0] != '\0' ? node->program : "-", NULL);
}

static int
nodes_show (gpointer user)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterNodesRequest request = GITSTEAD__V1__CLUSTER_NODES_REQUEST__INIT;
  const Gitstead__V1__ClusterNodesReply *reply
      = (const Gitstead__V1__ClusterNodesReply *) gsi_cli_call ("Cluster/Nodes", &request.base, &error);
  GsiTable *table;
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot list the nodes");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the nodes");
  if (gsi_cli_quiet ())
    {
      for (gsize i = 0; i < reply->n_nodes; i++)
        g_print ("%s\n", reply->nodes[i]->storage);
      return GSI_EXIT_OK;
    }
  table = gsi_table_new ((const char *[]) { "NODE", "SEEN", "SINCE", "STATE", ">LATENCY", ">IN FLIGHT", ">FREE", ">SIZE",
                                            ">REPLICAS", ">BEHIND", "MOVES", "ZONE", ">WEIGHT", "PROGRAM", NULL });
  for (gsize i = 0; i < reply->n_nodes; i++)
    print_node (table, reply->nodes[i]);
  gsi_table_print (table);
  for (gsize i = 0; i < reply->n_nodes; i++)
    if (!reply->nodes[i]->up)
      gsi_cli_say ("%s: %s", reply->nodes[i]->storage, reply->nodes[i]->problem);
  return GSI_EXIT_OK;
}

int
cluster_nodes_run (int n_args, char **args)
{
  return cluster_watch (nodes_show, NULL);
}

/* ----------------------------------------------------------------------------------------- explain */

const GOptionEntry cluster_explain_options[] = { CLUSTER_WATCH_OPTIONS, G_OPTION_ENTRY_NULL };

static void
print_replicas (const Gitstead__V1__ClusterExplainReply *reply)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "REPLICA", "SEEN", ">RECORDED", ">ON DISK", ">READS", "VERIFIED",
                                                      ">CHOICE", "NOTE", NULL });
  for (gsize i = 0; i < reply->n_replicas; i++)
    {
      const Gitstead__V1__ClusterReplica *replica = reply->replicas[i];
      g_autofree char *recorded = replica->recorded ? number (replica->generation) : g_strdup ("-");
      g_autofree char *disk = replica->on_disk ? number (replica->disk_generation) : g_strdup ("-");
      g_autofree char *reads = g_strdup_printf ("%u %%", replica->reads_percent);
      g_autofree char *verified = cluster_ago (replica->verified_us);
      g_autofree char *rank = replica->rank > 0 ? number (replica->rank) : g_strdup ("-");
      gsi_table_row (table, replica->storage, replica->up ? "up" : "DOWN", recorded, disk, reads,
                     replica->recorded ? verified : "-", rank, replica->note, NULL);
    }
  gsi_table_print (table);
}

static void
print_explanation (const Gitstead__V1__ClusterExplainReply *reply)
{
  g_autofree char *title = g_strdup_printf ("%s:%s (id %" G_GUINT64_FORMAT ")", reply->repository->virtual_storage,
                                            reply->repository->path, reply->id);
  g_autofree char *generation = number (reply->generation), *ago = cluster_ago (reply->changed_us);
  g_autofree char *written = g_strdup_printf ("%s, last written %s", generation, ago);
  g_autofree char *copies = g_strdup_printf ("%u wanted (%s), at least %u for a write", reply->copies, reply->copies_from,
                                             reply->min_copies);
  g_autofree char *policy = g_strdup_printf ("%s (%s)", reply->consistency, reply->consistency_from);
  g_autofree char *writes = g_strdup_printf ("%s%s", reply->writable ? "" : "NO: ", reply->writes);
  g_autofree char *reads = g_strdup_printf ("%s%s", reply->readable ? "" : "NO: ", reply->reads);
  g_autofree char *read_ago = cluster_ago (reply->last_read_us);
  g_autofree char *last_read = reply->last_read_us == 0 ? NULL
                                                        : g_strdup_printf ("%s, %s: %s", reply->last_read_storage, read_ago,
                                                                           reply->last_read_why);
  const char *const pairs[] = { "repository", title, "health", cluster_health (reply->health), "generation", written,
                                "copies", copies, "consistency", policy, "folder", reply->replica_path, "reads", reads,
                                "last read", last_read != NULL ? last_read : "none through this router", "writes", writes,
                                NULL };
  gsi_cli_print_pairs (pairs);
  g_print ("\n");
  print_replicas (reply);
  for (gsize i = 0; i < reply->n_jobs; i++)
    {
      const Gitstead__V1__ClusterJob *job = reply->jobs[i];
      if (i == 0)
        g_print ("\n");
      gsi_cli_say ("job %" G_GUINT64_FORMAT ": %s %s%s%s, %s (%s)%s%s", job->id, job->kind,
                   job->source[0] != '\0' ? job->source : "of ", job->source[0] != '\0' ? " to " : "",
                   job->target[0] != '\0' ? job->target : "all", job->state, job->reason,
                   job->error[0] != '\0' ? ": " : "", job->error);
    }
  if (reply->n_advice > 0)
    g_print ("\n");
  for (gsize i = 0; i < reply->n_advice; i++)
    gsi_cli_say ("%s%s", i == 0 ? "What to do: " : "            ", reply->advice[i]);
}

static int
explain_show (gpointer user)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterExplainRequest request = GITSTEAD__V1__CLUSTER_EXPLAIN_REQUEST__INIT;
  const Gitstead__V1__ClusterExplainReply *reply;
  request.repository = user;
  reply = (const Gitstead__V1__ClusterExplainReply *) gsi_cli_call ("Cluster/Explain", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot explain repository '%s'", request.repository->path);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the explanation");
  if (gsi_cli_quiet ())
    g_print ("%s\n", cluster_health (reply->health));
  else
    print_explanation (reply);
  return GSI_EXIT_OK;
}

int
cluster_explain_run (int n_args, char **args)
{
  Gitstead__V1__Repository repository = cluster_repository (args[0]);
  return cluster_watch (explain_show, &repository);
}

/* ---------------------------------------------------------------------------------------- dataloss */

static gboolean with_unavailable;

const GOptionEntry cluster_dataloss_options[]
    = { { "unavailable", 'u', 0, G_OPTION_ARG_NONE, &with_unavailable,
          "Also those whose newest write is on nodes that are away", NULL },
        G_OPTION_ENTRY_NULL };

static gboolean
all_losses (const char *virtual_storage, GPtrArray *losses, guint64 *ret_looked_at, GError **error)
{
  Gitstead__V1__ClusterDataLossRequest request = GITSTEAD__V1__CLUSTER_DATA_LOSS_REQUEST__INIT;
  request.virtual_storage = (char *) virtual_storage;
  request.include_unavailable = with_unavailable;
  for (;;)
    {
      const Gitstead__V1__ClusterDataLossReply *reply
          = (const Gitstead__V1__ClusterDataLossReply *) gsi_cli_call ("Cluster/DataLoss", &request.base, error);
      if (reply == NULL)
        return FALSE;
      for (gsize i = 0; i < reply->n_losses; i++)
        g_ptr_array_add (losses, reply->losses[i]);
      *ret_looked_at += reply->looked_at;
      request.after_id = reply->next_after_id;
      if (request.after_id == 0)
        return TRUE;
    }
}

static void
print_losses (const GPtrArray *losses)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "REPOSITORY", ">ACKNOWLEDGED", ">HELD", "BY", ">REACHABLE", "BY",
                                                      "WHAT", NULL });
  for (guint i = 0; i < losses->len; i++)
    {
      const Gitstead__V1__ClusterLoss *loss = losses->pdata[i];
      g_autofree char *name = g_strdup_printf ("%s:%s", loss->repository->virtual_storage, loss->repository->path);
      g_autofree char *generation = number (loss->generation), *held = number (loss->recorded_generation);
      g_autofree char *reachable = loss->n_reachable > 0 ? number (loss->reachable_generation) : g_strdup ("-");
      g_autofree char *holders = cluster_names (loss->recorded, loss->n_recorded, "nobody");
      g_autofree char *up = cluster_names (loss->reachable, loss->n_reachable, "nobody");
      gsi_table_row (table, name, generation, held, holders, reachable, up, loss->lost ? "LOST" : "away", NULL);
    }
  gsi_table_print (table);
}

int
cluster_dataloss_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) losses = g_ptr_array_new ();
  guint64 looked_at = 0;
  if (!all_losses (n_args > 0 ? args[0] : "", losses, &looked_at, &error))
    return gsi_cli_fail (error, "cannot look for lost writes");
  if (gsi_cli_json ())
    {
      Gitstead__V1__ClusterDataLossReply whole = GITSTEAD__V1__CLUSTER_DATA_LOSS_REPLY__INIT;
      int status;
      whole.losses = (Gitstead__V1__ClusterLoss **) losses->pdata;
      whole.n_losses = losses->len;
      whole.looked_at = looked_at;
      status = gsi_cli_finish_json (&whole.base, "the losses");
      return status == GSI_EXIT_OK && losses->len > 0 ? GSI_EXIT_FAILED : status;
    }
  if (losses->len == 0)
    gsi_cli_say ("Every acknowledged write of %" G_GUINT64_FORMAT " repositories is on a replica%s.", looked_at,
                 with_unavailable ? " that can be reached" : "");
  else if (gsi_cli_quiet ())
    for (guint i = 0; i < losses->len; i++)
      g_print ("%s\n", ((const Gitstead__V1__ClusterLoss *) losses->pdata[i])->repository->path);
  else
    print_losses (losses);
  return losses->len == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}
