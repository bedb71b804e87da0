/* SPDX-License-Identifier: Apache-2.0 */
/* Cluster/Explain: one repository's replicas, what reads and writes would do, and what to do about it. */
#include "router/cluster.h"

#include "router/nodes.h"
#include "router/recent.h"
#include "router/settle.h"

/* How long one node may take to say what stands on its disk. */
#define ASK_US (3 * G_USEC_PER_SEC)
/* How often the routing plugin is asked who would read: enough for shares in percent. */
#define THROWS 400
#define JOBS_MAX 50

typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  const GsiStorageGroup *group;
  GsiRow *row;
  GsiBag *bag;
  GPtrArray *replicas; /* of ClusterReplica */
  GPtrArray *jobs;     /* of ClusterJob */
  GPtrArray *advice;   /* of char */
  GsiVerdict verdict;
  Gitstead__V1__ClusterExplainReply reply;
} Report;

static void
advise (Report *report, char *text)
{
  g_ptr_array_add (report->advice, gsi_bag_keep (report->bag, text));
}

static Gitstead__V1__ClusterReplica *
replica_of (Report *report, const char *storage)
{
  Gitstead__V1__ClusterReplica *replica;
  for (guint i = 0; i < report->replicas->len; i++)
    {
      replica = report->replicas->pdata[i];
      if (strcmp (replica->storage, storage) == 0)
        return replica;
    }
  replica = GSI_BAG_MESSAGE (report->bag, Gitstead__V1__ClusterReplica, gitstead__v1__cluster_replica__init);
  replica->storage = gsi_bag_text (report->bag, storage);
  replica->state = (Gitstead__V1__ClusterNodeState) gsi_nodes_state (gsi_router_nodes (report->router), storage);
  replica->up = gsi_cluster_up (report->router, storage, NULL);
  g_ptr_array_add (report->replicas, replica);
  return replica;
}

/* -------------------------------------------------------------------------------- what stands where */

/* The router's own question: an operator's short patience must not make a node look empty. */
static void
look_at_disk (Report *report, Gitstead__V1__ClusterReplica *replica, char **ret_problem)
{
  const GsiRow *row = report->row;
  const GsiStorage *storage = gsi_router_storage (report->router, replica->storage);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  GsCall call;
  if (storage == NULL || !replica->up)
    return;
  gsi_own_call_init (&call, &identity, "explain");
  call.deadline_us = g_get_monotonic_time () + ASK_US;
  if (!storage->ops->state (storage->self, &call, &repo, &state, &why))
    {
      *ret_problem = g_strdup (gs_error_code (why) == GS_ERROR_NOT_FOUND ? "its disk has no such replica" : why->message);
      return;
    }
  replica->on_disk = TRUE;
  replica->disk_generation = state.generation;
  replica->disk_refs_digest = gsi_bag_bytes (report->bag, state.refs_digest.bytes, GS_DIGEST_SIZE);
  if (state.repository_id != row->id)
    *ret_problem = g_strdup_printf ("its disk has repository %" G_GUINT64_FORMAT " there", state.repository_id);
  else if (state.generation < replica->generation)
    *ret_problem = g_strdup_printf ("its disk is at generation %" G_GUINT64_FORMAT ", behind its record",
                                    state.generation);
  else if (state.generation == row->generation
           && memcmp (&state.refs_digest, &row->refs_digest, sizeof row->refs_digest) != 0)
    *ret_problem = g_strdup ("its refs are not those that are recorded");
  else
    replica->agrees = TRUE;
}

static void
describe_recorded (Report *report, Gitstead__V1__ClusterReplica *replica)
{
  const GsiRow *row = report->row;
  g_autoptr (GString) note = g_string_new (NULL);
  g_autofree char *problem = NULL, *away = NULL;
  look_at_disk (report, replica, &problem);
  if (!gsi_cluster_up (report->router, replica->storage, &away))
    g_string_append (note, away);
  else if (problem != NULL)
    g_string_append (note, problem);
  if (!replica->current)
    g_string_append_printf (note, "%sit misses %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " writes, so nobody reads it",
                            note->len > 0 ? "; " : "", row->generation - replica->generation, row->generation);
  if (replica->state == GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_DRAINING)
    g_string_append_printf (note, "%sits node is being drained", note->len > 0 ? "; " : "");
  if (replica->state == GITSTEAD__V1__CLUSTER_NODE_STATE__CLUSTER_NODE_REMOVED)
    g_string_append_printf (note, "%sits node was removed from the cluster", note->len > 0 ? "; " : "");
  if (note->len == 0)
    g_string_append (note, replica->rank > 0 ? "as the routing plugin would place it"
                                             : "well, and not where the routing plugin would place it today");
  replica->note = gsi_bag_text (report->bag, note->str);
  if (problem != NULL && replica->up)
    advise (report, g_strdup_printf ("what %s has on its disk is not what is recorded (%s): 'gitstead cluster verify %s' "
                                     "looks at it again, and repair makes it anew",
                                     replica->storage, problem, row->path));
}

/* Where the routing plugin would put it today. */
static void
rank_places (Report *report)
{
  const GsiStorageGroup *group = report->group;
  guint64 key_bytes = GUINT64_TO_BE (report->row->id);
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autofree GsNodeView *views = g_new0 (GsNodeView, group->n_storages + 1);
  g_autofree const GsNodeView **pointers = g_new0 (const GsNodeView *, group->n_storages + 1);
  gsize wanted = MIN (report->verdict.n_wanted, group->n_storages), n = 0;
  g_autofree gsize *chosen = g_new0 (gsize, wanted + 1);
  for (gsize i = 0; i < group->n_storages; i++)
    {
      views[i] = gsi_router_node_view (report->router, group->storages[i]);
      pointers[i] = &views[i];
    }
  if (group->routing->place_named != NULL
          ? !group->routing->place_named (group->routing_self, key, report->row->path, pointers, group->n_storages, wanted,
                                          chosen, &n, NULL)
          : !group->routing->place (group->routing_self, key, pointers, group->n_storages, wanted, chosen, &n, NULL))
    return;
  for (gsize i = 0; i < n; i++)
    replica_of (report, group->storages[chosen[i]]->name)->rank = (guint32) i + 1;
}

static void
gather_replicas (Report *report)
{
  const GsiRow *row = report->row;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      Gitstead__V1__ClusterReplica *replica = replica_of (report, row->replicas[i].storage);
      replica->recorded = TRUE;
      replica->generation = row->replicas[i].generation;
      replica->current = replica->generation >= row->generation;
      replica->verified_us = row->replicas[i].verified_wall_us;
      replica->scrubbed_us = row->replicas[i].scrubbed_wall_us;
    }
  if (report->group != NULL)
    rank_places (report);
  for (guint i = 0; i < report->replicas->len; i++)
    {
      Gitstead__V1__ClusterReplica *replica = report->replicas->pdata[i];
      if (replica->recorded)
        describe_recorded (report, replica);
      else
        replica->note = gsi_bag_text (report->bag, "the routing plugin would place one here; there is none");
    }
}

/* -------------------------------------------------------------------------------------------- reads */

/* Throws the dice many times: the plugin is a function of its arguments, so that the shares are those of real reads. */
static void
ask_reads (Report *report, GString *text)
{
  guint64 key_bytes = GUINT64_TO_BE (report->row->id);
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autoptr (GPtrArray) candidates = g_ptr_array_new ();
  g_autofree GsNodeView *views = g_new0 (GsNodeView, report->replicas->len + 1);
  g_autofree const GsNodeView **pointers = g_new0 (const GsNodeView *, report->replicas->len + 1);
  g_autofree guint *hits = g_new0 (guint, report->replicas->len + 1);
  guint n = 0;
  for (guint i = 0; i < report->replicas->len; i++)
    {
      Gitstead__V1__ClusterReplica *replica = report->replicas->pdata[i];
      if (!replica->recorded || !replica->current || !replica->up)
        continue;
      views[n] = gsi_router_view (gsi_router_storage (report->router, replica->storage));
      pointers[n] = &views[n];
      g_ptr_array_add (candidates, replica);
      n++;
    }
  for (guint i = 0; n > 0 && i < THROWS; i++)
    {
      guint64 dice = (guint64) i * 0x9E3779B97F4A7C15u;
      gsize index = 0;
      if (report->group->routing->pick_reader (report->group->routing_self, key, pointers, n, dice, &index, NULL)
          && index < n)
        hits[index]++;
    }
  for (guint i = 0; i < n; i++)
    {
      Gitstead__V1__ClusterReplica *replica = candidates->pdata[i];
      replica->reads_percent = hits[i] * 100 / THROWS;
      g_string_append_printf (text, "%s%s %u %%", i > 0 ? ", " : "served by ", replica->storage, replica->reads_percent);
    }
  report->reply.readable = n > 0;
}

/* Who holds it and cannot be reached, for sentences. "" when nobody does. */
static char *
away_holders (const Report *report)
{
  GString *names = g_string_new (NULL);
  for (guint i = 0; i < report->replicas->len; i++)
    {
      const Gitstead__V1__ClusterReplica *replica = report->replicas->pdata[i];
      if (replica->recorded && replica->current && !replica->up)
        g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", replica->storage);
    }
  return g_string_free (names, FALSE);
}

static void
explain_reads (Report *report)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autofree char *away = away_holders (report);
  if (report->group != NULL)
    ask_reads (report, text);
  if (text->len == 0)
    g_string_assign (text, report->group == NULL ? "this router's configuration does not have the virtual storage"
                           : away[0] != '\0'
                               ? "every replica that holds the newest write is on a node that is away"
                               : "no replica is recorded as holding the newest write");
  report->reply.reads = gsi_bag_text (report->bag, text->str);
}

static void
explain_last_read (Report *report)
{
  GsiRecentRead read = gsi_recent_look (gsi_router_recent (report->router), report->row->id);
  Gitstead__V1__ClusterExplainReply *reply = &report->reply;
  if (read.repository_id == 0)
    return;
  reply->last_read_storage = gsi_bag_text (report->bag, read.storage);
  reply->last_read_us = read.wall_us;
  if (read.why[0] != '\0')
    reply->last_read_why = gsi_bag_printf (report->bag, "another replica failed before it (%s)", read.why);
  else if (read.n_candidates == 1)
    reply->last_read_why = (char *) "it was the only current replica that could be reached";
  else
    reply->last_read_why = gsi_bag_printf (report->bag, "the routing plugin's choice among %u current replicas",
                                           read.n_candidates);
}

/* ------------------------------------------------------------------------------------- jobs, advice */

static gboolean
collect_job (const GsJobRow *job, gpointer user)
{
  static const char *const states[] = { "", "queued", "running", "done", "failed" };
  Report *report = user;
  Gitstead__V1__ClusterJob *message
      = GSI_BAG_MESSAGE (report->bag, Gitstead__V1__ClusterJob, gitstead__v1__cluster_job__init);
  message->id = job->id;
  message->kind = gsi_bag_text (report->bag, job->kind);
  message->target = gsi_bag_text (report->bag, job->target);
  message->source = gsi_bag_text (report->bag, job->source);
  message->state = (char *) (job->state >= GS_JOB_QUEUED && job->state <= GS_JOB_FAILED ? states[job->state] : "");
  message->reason = gsi_bag_text (report->bag, job->reason);
  message->worker = gsi_bag_text (report->bag, job->worker);
  message->attempts = job->attempts;
  message->error = gsi_bag_text (report->bag, job->error);
  message->due_us = job->due_wall_us;
  g_ptr_array_add (report->jobs, message);
  return TRUE;
}

static gboolean
gather_jobs (Report *report, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (report->router);
  const GsJobFilter filter = { .size = sizeof filter,
                               .states = 1u << GS_JOB_QUEUED | 1u << GS_JOB_RUNNING | 1u << GS_JOB_FAILED,
                               .repository_id = report->row->id };
  return config->metadata->job_list (config->metadata_self, &report->call->base, &filter, 0, JOBS_MAX, collect_job, report,
                                     error);
}

static gboolean
has_work (const Report *report, const char *storage)
{
  for (guint i = 0; i < report->jobs->len; i++)
    {
      const Gitstead__V1__ClusterJob *job = report->jobs->pdata[i];
      if (strcmp (job->target, storage) == 0 && strcmp (job->state, "failed") != 0)
        return TRUE;
    }
  return FALSE;
}

static void
advise_on_replica (Report *report, const Gitstead__V1__ClusterReplica *replica)
{
  if (!replica->recorded)
    return;
  if (!replica->up)
    advise (report, g_strdup_printf ("bring %s back: its node's log and 'gitstead cluster nodes' say what is wrong; when it "
                                     "is gone for good, 'gitstead cluster drain %s' has its replicas made elsewhere",
                                     replica->storage, replica->storage));
  else if (!replica->current && !has_work (report, replica->storage))
    advise (report, g_strdup_printf ("%s is behind and nobody is at work on it: 'gitstead cluster verify %s' queues it",
                                     replica->storage, report->row->path));
  else if (!replica->current)
    advise (report, g_strdup_printf ("%s is behind; its repair is queued: wait, and look at 'gitstead cluster status'",
                                     replica->storage));
}

static void
explain_health (Report *report)
{
  const GsiVerdict *verdict = &report->verdict;
  const GsiRow *row = report->row;
  g_autofree char *away = away_holders (report);
  if (verdict->health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST)
    advise (report,
            g_strdup_printf ("generations %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " were acknowledged and no replica "
                             "holds them. Look for the disk that did; only when it is gone for good, 'gitstead cluster "
                             "accept-dataloss %s STORAGE' goes on with what is left",
                             verdict->best + 1, row->generation, row->path));
  if (verdict->health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE)
    advise (report, g_strdup_printf ("the newest write is on %s alone: bring that back first", away));
  for (guint i = 0; i < report->replicas->len; i++)
    advise_on_replica (report, report->replicas->pdata[i]);
  if (row->n_replicas < verdict->n_wanted)
    advise (report, g_strdup_printf ("there are %" G_GSIZE_FORMAT " replicas and there should be %" G_GSIZE_FORMAT,
                                     row->n_replicas, verdict->n_wanted));
  if (row->n_replicas > verdict->n_wanted)
    advise (report, g_strdup_printf ("there are %" G_GSIZE_FORMAT " replicas and %" G_GSIZE_FORMAT " are wanted",
                                     row->n_replicas, verdict->n_wanted));
}

/* ------------------------------------------------------------------------------------------ the call */

static void
fill_head (Report *report)
{
  Gitstead__V1__ClusterExplainReply *reply = &report->reply;
  const GsiRow *row = report->row;
  GsiBag *bag = report->bag;
  gboolean own_policy = row->consistency != NULL && row->consistency[0] != '\0';
  reply->repository = gsi_bag_repository (bag, row);
  reply->id = row->id;
  reply->generation = row->generation;
  reply->refs_digest = gsi_bag_bytes (bag, row->refs_digest.bytes, GS_DIGEST_SIZE);
  reply->replica_path = gsi_bag_text (bag, row->replica_path);
  reply->changed_us = row->changed_wall_us;
  reply->copies = (guint32) report->verdict.n_wanted;
  reply->copies_from = (char *) (row->copies != 0 ? "the repository" : "the virtual storage");
  reply->consistency = gsi_bag_text (bag, own_policy ? row->consistency : row->virtual_storage);
  reply->consistency_from = (char *) (own_policy ? "the repository" : "the virtual storage");
  reply->min_copies = report->group != NULL ? (guint32) report->group->min_copies : 0;
  reply->health = report->verdict.health;
  reply->writable = report->verdict.writable;
  reply->writes = gsi_bag_text (bag, report->verdict.writable ? "a write would be accepted" : report->verdict.why_not);
}

gboolean
gsi_cluster_explain (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), replicas = g_ptr_array_new (), jobs = g_ptr_array_new (),
                        advice = g_ptr_array_new ();
  Report report = { router, call, NULL, NULL, bag, replicas, jobs, advice, { 0 },
                    GITSTEAD__V1__CLUSTER_EXPLAIN_REPLY__INIT };
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, &report.group, error);
  g_auto (GsiVerdict) verdict = { 0 };
  report.row = row;
  if (row == NULL || !gsi_router_look_at_nodes (router, error) || !gather_jobs (&report, error))
    return FALSE;
  gsi_cluster_judge (router, report.group, row, &verdict);
  report.verdict = verdict;
  fill_head (&report);
  gather_replicas (&report);
  explain_reads (&report);
  explain_last_read (&report);
  explain_health (&report);
  report.reply.replicas = (Gitstead__V1__ClusterReplica **) replicas->pdata;
  report.reply.n_replicas = replicas->len;
  report.reply.jobs = (Gitstead__V1__ClusterJob **) jobs->pdata;
  report.reply.n_jobs = jobs->len;
  report.reply.advice = (char **) advice->pdata;
  report.reply.n_advice = advice->len;
  gsi_call_reply (call, &report.reply.base);
  return TRUE;
}
