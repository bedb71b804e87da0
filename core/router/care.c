/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What should be against what is recorded: as many replicas as asked for, on nodes that are part of the cluster, each of them
 * looked at now and then. What differs becomes jobs. One process of the cluster does a round at a time.
 */
#include "router/care.h"

#include "router/copy.h"
#include "router/repair.h"
#include "router/settle.h"

#include <poll.h>

#define LEASE "care"
#define PAGE 200
#define PAUSE_MAX_US G_USEC_PER_SEC
/* How long one copy of a repository that was never written may take: it is a record and a few folders. */
#define FIRST_COPY_US (10 * G_USEC_PER_SEC)
/* Of each kind in one round: what is left waits for the next. */
#define JOBS_MAX 2000

typedef struct
{
  GsiRouter *router;
  const GsiRouterConfig *config;
  GsCall *call;
  GHashTable *nodes; /* name -> GsNodeState of those that are not active */
  GHashTable *moving; /* ids of repositories that are being moved, as guint64 * */
  guint n_moves;     /* that were queued */
  guint n_looks;     /* verifications and scrubs that were queued */
  gint64 wall_us;
} Round;

static gboolean
collect_node (const GsNodeRow *node, gpointer user)
{
  if (node->state != GS_NODE_ACTIVE)
    g_hash_table_insert (user, g_strdup (node->storage), GINT_TO_POINTER ((gint) node->state));
  return TRUE;
}

static gboolean
collect_moving (const GsJobRow *job, gpointer user)
{
  g_hash_table_add (user, g_memdup2 (&job->repository_id, sizeof job->repository_id));
  return TRUE;
}

static gboolean
collect_row (const GsRepoRow *row, gpointer user)
{
  g_ptr_array_add (user, gsi_row_new (row));
  return TRUE;
}

static const GsiStorageGroup *
group_of (const GsiRouterConfig *config, const GsiRow *row)
{
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    if (strcmp (config->virtual_storages[i]->name, row->virtual_storage) == 0)
      return config->virtual_storages[i];
  return NULL;
}

guint
gsi_router_wanted_copies (GsiRouter *router, const GsiRow *row)
{
  const GsiStorageGroup *group = group_of (gsi_router_config (router), row);
  return row->copies != 0 || group == NULL ? row->copies : (guint) group->n_copies;
}

gboolean
gsi_router_counts (GsiRouter *router, const GsiRow *row, gsize index)
{
  const gsize wanted = gsi_router_wanted_copies (router, row);
  gsize surplus = wanted > 0 && row->n_replicas > wanted ? row->n_replicas - wanted : 0;
  for (gsize i = 0; i < row->n_replicas && surplus > 0; i++)
    if (row->replicas[i].generation < row->generation)
      {
        if (i == index)
          return FALSE;
        surplus--;
      }
  return TRUE;
}

static const GsiStorage *
member (const GsiStorageGroup *group, const char *name)
{
  for (gsize i = 0; i < group->n_storages; i++)
    if (strcmp (group->storages[i]->name, name) == 0)
      return group->storages[i];
  return NULL;
}

/* Part of the virtual storage, and of the cluster for good. */
static gboolean
stays (const Round *round, const GsiStorageGroup *group, const char *storage)
{
  return member (group, storage) != NULL && !g_hash_table_contains (round->nodes, storage);
}

static gboolean
has_replica (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return TRUE;
  return FALSE;
}

static void
ask (Round *round, const char *kind, const GsiRow *row, const char *storage, const char *reason)
{
  gsi_router_ask_job (round->router, round->call, kind, row->id, storage, reason, 0, NULL, NULL);
}

/*
 * Of a repository that was never written a replica counts as current as soon as it is recorded, so it has to exist before.
 * Should a write be decided meanwhile it is behind, like any other.
 */
static gboolean
make_first_copy (Round *round, const GsiRow *row, const char *storage, GError **error)
{
  GsiCopy copy = { .router = round->router,
                   .target = gsi_router_storage (round->router, storage),
                   .repo = { sizeof (GsRepo), row->id, row->replica_path } };
  const gint64 deadline_us = round->call->deadline_us;
  g_autoptr (GError) why = NULL;
  gboolean done = FALSE;
  for (gsize i = 0; i < row->n_replicas && !done && copy.target != NULL; i++)
    {
      copy.source = gsi_router_storage (round->router, row->replicas[i].storage);
      if (copy.source == NULL || !gsi_router_view (copy.source).healthy)
        continue;
      g_clear_error (&why);
      round->call->deadline_us = MIN (deadline_us, g_get_monotonic_time () + FIRST_COPY_US);
      done = gsi_copy_replica (&copy, round->call, &why);
      round->call->deadline_us = deadline_us;
    }
  if (!done && why == NULL)
    gs_fail (&why, GS_ERROR_UNAVAILABLE, "no replica of it can be reached that could be copied");
  if (!done)
    g_propagate_error (error, g_steal_pointer (&why));
  return done;
}

/* One that lacks writes is recorded at generation 0 first: from then on the disk's folder is somebody's. */
static void
add_replica (Round *round, const GsiRow *row, const char *storage)
{
  const GsiRouterConfig *config = round->config;
  g_autoptr (GError) why = NULL;
  const gboolean added
      = (row->generation > 0 || make_first_copy (round, row, storage, &why))
        && config->metadata->replica_set (config->metadata_self, round->call, row->id, storage, 0, FALSE, &why);
  config->host->log (config->host, added ? GS_LOG_INFO : GS_LOG_WARNING, added ? "replica.assigned" : "replica.assign.failed",
                     (GsField[]) { GS_NUMBER ("repository", row->id), GS_TEXT ("path", row->path),
                                   GS_TEXT ("storage", storage), GS_TEXT ("error", added ? "" : why->message) },
                     4);
  if (added)
    ask (round, GSI_JOB_REPAIR, row, storage, "it is a new copy");
}

/* The storages in the order in which routing would take them for this repository; the best first. *full*. */
static GPtrArray *
ranked (Round *round, const GsiStorageGroup *group, const GsiRow *row)
{
  GPtrArray *names = g_ptr_array_new ();
  g_autofree GsNodeView *views = g_new0 (GsNodeView, MAX (group->n_storages, 1));
  g_autofree const GsNodeView **pointers = g_new0 (const GsNodeView *, MAX (group->n_storages, 1));
  g_autofree gsize *chosen = g_new0 (gsize, MAX (group->n_storages, 1));
  const guint64 key_bytes = GUINT64_TO_BE (row->id);
  g_autoptr (GBytes) key = g_bytes_new (&key_bytes, sizeof key_bytes);
  g_autofree const char **of = g_new0 (const char *, MAX (group->n_storages, 1));
  gsize n = 0, n_chosen = 0;
  const GsRoutingOps *routing = group->routing;
  for (gsize i = 0; i < group->n_storages; i++)
    if (stays (round, group, group->storages[i]->name))
      {
        views[n] = gsi_router_view (group->storages[i]);
        of[n] = group->storages[i]->name;
        pointers[n] = &views[n];
        n++;
      }
  if (n > 0
      && (routing->place_named != NULL
              ? routing->place_named (group->routing_self, key, row->path, pointers, n, n, chosen, &n_chosen, NULL)
              : routing->place (group->routing_self, key, pointers, n, n, chosen, &n_chosen, NULL)))
    for (gsize i = 0; i < n_chosen; i++)
      g_ptr_array_add (names, (gpointer) of[chosen[i]]);
  for (gsize i = 0; i < n; i++)
    if (!g_ptr_array_find_with_equal_func (names, of[i], g_str_equal, NULL))
      g_ptr_array_add (names, (gpointer) of[i]);
  return names;
}

/* Away from a node that is being drained, to the best place that has none. FALSE: there is no such place. */
static gboolean
move_away (Round *round, const GsiStorageGroup *group, const GsiRow *row, const char *storage, GPtrArray *order)
{
  for (guint i = 0; i < order->len; i++)
    if (!has_replica (row, order->pdata[i]) && gsi_router_view (member (group, order->pdata[i])).healthy)
      {
        if (round->n_moves < JOBS_MAX
            && gsi_move_ask (round->router, round->call, row->id, storage, order->pdata[i], "its node is being drained", 0,
                             NULL, NULL))
          round->n_moves++;
        return TRUE;
      }
  return FALSE;
}

/* One at a time, and nothing else meanwhile. */
static gboolean
drain (Round *round, const GsiStorageGroup *group, const GsiRow *row, GPtrArray *order)
{
  for (gsize i = 0; i < row->n_replicas; i++)
    if (GPOINTER_TO_INT (g_hash_table_lookup (round->nodes, row->replicas[i].storage)) == GS_NODE_DRAINING
        && move_away (round, group, row, row->replicas[i].storage, order))
      return TRUE;
  return FALSE;
}

/*
 * From a node that is being drained, where no other node is left to move to, a replica goes when there are enough without it;
 * with too few nodes it stays. Of one that was removed only the record is left.
 */
static void
let_go (Round *round, const GsiRow *row, const char *storage)
{
  const GsiRouterConfig *config = round->config;
  if (GPOINTER_TO_INT (g_hash_table_lookup (round->nodes, storage)) == GS_NODE_DRAINING)
    ask (round, GSI_JOB_REMOVE, row, storage, "its node is being drained");
  else if (config->metadata->replica_drop (config->metadata_self, round->call, row->id, storage, FALSE, NULL))
    config->host->log (config->host, GS_LOG_INFO, "replica.dropped",
                       (GsField[]) { GS_NUMBER ("repository", row->id), GS_TEXT ("path", row->path),
                                     GS_TEXT ("storage", storage) },
                       3);
}

/* Missing ones are made first; a surplus goes only when all that should stay are current. */
static void
match_copies (Round *round, const GsiStorageGroup *group, const GsiRow *row)
{
  g_autoptr (GPtrArray) order = ranked (round, group, row);
  guint wanted = MIN (gsi_router_wanted_copies (round->router, row), order->len), have = 0, current = 0;
  if (wanted > 0 && row->n_replicas <= gsi_router_wanted_copies (round->router, row) && drain (round, group, row, order))
    return;
  for (gsize i = 0; i < row->n_replicas; i++)
    if (stays (round, group, row->replicas[i].storage))
      {
        have++;
        current += row->replicas[i].generation >= row->generation;
      }
  for (guint i = 0; i < order->len && have < wanted; i++)
    if (!has_replica (row, order->pdata[i]) && gsi_router_view (member (group, order->pdata[i])).healthy)
      {
        add_replica (round, row, order->pdata[i]);
        have++;
      }
  if (wanted == 0 || current < wanted)
    return;
  for (gsize i = 0; i < row->n_replicas; i++)
    if (!stays (round, group, row->replicas[i].storage))
      let_go (round, row, row->replicas[i].storage);
  for (guint i = order->len; i-- > 0 && have > wanted;)
    if (has_replica (row, order->pdata[i]))
      {
        ask (round, GSI_JOB_REMOVE, row, order->pdata[i], "it is one copy too many");
        have--;
      }
}

static void
look_at_replicas (Round *round, const GsiRow *row)
{
  const GsiCare *care = &round->config->care;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiRowReplica *replica = &row->replicas[i];
      const GsiStorage *storage = gsi_router_storage (round->router, replica->storage);
      if (storage == NULL || !gsi_router_view (storage).healthy)
        continue;
      if (replica->generation < row->generation)
        ask (round, GSI_JOB_REPAIR, row, replica->storage, "it is behind");
      else if (round->n_looks >= JOBS_MAX)
        continue;
      else if (care->scrub_every_us > 0 && round->wall_us - MAX (replica->scrubbed_wall_us, row->created_wall_us) > care->scrub_every_us)
        {
          ask (round, GSI_JOB_SCRUB, row, replica->storage, "it was not read through for long");
          round->n_looks++;
        }
      else if (care->verify_every_us > 0 && round->wall_us - MAX (replica->verified_wall_us, row->created_wall_us) > care->verify_every_us)
        {
          ask (round, GSI_JOB_VERIFY, row, replica->storage, "it was not looked at for long");
          round->n_looks++;
        }
    }
}

/* Repositories in order of their ids; NULL with @error, empty at the end. *full*. */
static GPtrArray *
next_page (const GsiRouterConfig *config, GsCall *call, const char *storage, guint64 *after, GError **error)
{
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func ((GDestroyNotify) gsi_row_free);
  if (!(storage == NULL ? config->metadata->repo_list_all (config->metadata_self, call, *after, PAGE, collect_row, rows,
                                                           error)
                        : config->metadata->repo_list_on (config->metadata_self, call, storage, *after, PAGE,
                                                          collect_row, rows, error)))
    return NULL;
  if (rows->len > 0)
    *after = ((const GsiRow *) rows->pdata[rows->len - 1])->id;
  return g_steal_pointer (&rows);
}

/* As long as the page took, so that a round over very many repositories leaves half of everything to others. */
static void
give_way (GsCall *call, gint64 began_us)
{
  struct pollfd fd = { .fd = call->cancel_fd (call), .events = POLLIN };
  gint64 took_us = CLAMP (g_get_monotonic_time () - began_us, 0, PAUSE_MAX_US);
  poll (&fd, 1, (int) ((took_us + 999) / 1000));
}

static gboolean
run_round (Round *round, guint64 token, GError **error)
{
  const GsiRouterConfig *config = round->config;
  guint64 after = 0;
  if (!config->metadata->node_list (config->metadata_self, round->call, collect_node, round->nodes, error)
      || !gsi_move_each (round->router, round->call, 0, 0, 0, FALSE, collect_moving, round->moving, error))
    return FALSE;
  for (;;)
    {
      const gint64 began_us = g_get_monotonic_time ();
      g_autoptr (GPtrArray) rows = next_page (config, round->call, NULL, &after, error);
      if (rows == NULL || !gs_call_check (round->call, "matching replicas", error)
          || !config->metadata->lease_renew (config->metadata_self, round->call, LEASE, token, GSI_CARE_LEASE_US, error))
        return FALSE;
      if (rows->len == 0)
        return TRUE;
      for (guint i = 0; i < rows->len; i++)
        {
          const GsiRow *row = rows->pdata[i];
          const GsiStorageGroup *group = group_of (config, row);
          if (group == NULL || g_hash_table_contains (round->moving, &row->id))
            continue;
          match_copies (round, group, row);
          look_at_replicas (round, row);
        }
      if (rows->len == PAGE)
        give_way (round->call, began_us);
    }
}

void
gsi_care_round (GsiRouter *router, GsCall *call, const char *who)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  Round round = { .router = router, .config = config, .call = call,
                  .nodes = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL),
                  .moving = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL),
                  .wall_us = config->host->wall_us (config->host) };
  g_autoptr (GError) why = NULL;
  guint n_pruned;
  guint64 token;
  if (config->metadata->lease_take (config->metadata_self, call, LEASE, who, GSI_CARE_LEASE_US, &token, NULL))
    {
      if (!run_round (&round, token, &why) && !gs_call_cancelled (call))
        config->host->log (config->host, GS_LOG_WARNING, "care.failed", (GsField[]) { GS_TEXT ("error", why->message) }, 1);
      config->metadata->job_prune (config->metadata_self, call, GSI_CARE_KEEP_JOBS_US, 10000, &n_pruned, NULL);
      config->metadata->lease_release (config->metadata_self, call, LEASE, token, NULL);
    }
  g_hash_table_destroy (round.moving);
  g_hash_table_destroy (round.nodes);
}

/* FALSE: the store does not take it now. What it never takes stops no others. */
static gboolean
ask_for_look (GsiRouter *router, GsCall *call, const GsiRow *row, const GsiRowReplica *replica)
{
  const char *kind = replica->generation < row->generation ? GSI_JOB_REPAIR : GSI_JOB_VERIFY;
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GError) why = NULL;
  if (gsi_router_ask_job (router, call, kind, row->id, replica->storage, "its node came back", 0, NULL, &why)
      || gs_error_code (why) == GS_ERROR_NOT_FOUND)
    return TRUE;
  if (gs_error_retry (gs_error_code (why)) == GS_RETRY_SAME)
    return FALSE;
  config->host->log (config->host, GS_LOG_WARNING, "repair.ask.failed",
                     (GsField[]) { GS_NUMBER ("repository", row->id), GS_TEXT ("storage", replica->storage),
                                   GS_TEXT ("error", why->message) },
                     3);
  return TRUE;
}

/*
 * Also what was verified a moment ago: that was perhaps before the node went, with another disk, and the clocks of the
 * store, the routers and the nodes need not agree on what was first. What is queued already is not queued twice.
 */
gboolean
gsi_care_came_back (GsiRouter *router, GsCall *call, const char *storage, guint64 *after)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  for (;;)
    {
      guint64 next = *after;
      g_autoptr (GPtrArray) rows = next_page (config, call, storage, &next, NULL);
      if (rows == NULL)
        return FALSE;
      if (rows->len == 0)
        return TRUE;
      for (guint i = 0; i < rows->len; i++)
        {
          const GsiRow *row = rows->pdata[i];
          if (gs_call_cancelled (call))
            return FALSE;
          for (gsize k = 0; k < row->n_replicas; k++)
            if (strcmp (row->replicas[k].storage, storage) == 0 && !ask_for_look (router, call, row, &row->replicas[k]))
              return FALSE;
          *after = row->id;
        }
    }
}
