/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration, location, and the list of handlers. See router.h. */
#include "router/router.h"

#include <gitstead/thread.h>

#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <wire/details.h>

#include "router/cluster.h"
#include "router/create.h"
#include "router/known.h"
#include "router/nodes.h"
#include "router/recent.h"
#include "router/settle.h"

#include "gitstead/v1/git.pb-c.h"

/* Writes that may go on behind their answers at once; beyond, the answer waits. */
#define BACKGROUND_MAX 512
/* A replica may catch up by itself; and where one takes all writes, the others follow a few at a time. */
#define REPAIR_AFTER_US (300 * 1000)
/* How long the metadata store may take to say which nodes there are. */
#define LOOK_US (5 * G_USEC_PER_SEC)
/* How long a replica's word on how far it is counts. It does not go back but by an operator's hand. */
#define SEEN_US (5 * G_USEC_PER_SEC)
#define SEEN_MAX 10000
#define PAUSE_FIRST_US 1000
#define PAUSE_MAX_US (50 * 1000)

struct GsiRouter
{
  GsiRouterConfig config;
  GsiSettler *settler;
  GsiNodes *nodes;
  GsiRecent *recent;
  GsiKnown *known;
  GsMetric *remembered;
  gint64 told_us; /* atomic: when a read by what is remembered was logged last */
  GsiStorageGroup *variants; /* each virtual storage with each policy: n_virtual_storages times n_policies */

  GsMutex lock;
  GsCall *round;  /* of housekeeping, under way */
  gboolean ended; /* no more housekeeping */
  guint n_background; /* writes that go on behind their answer */
  guint n_waiting;    /* writes that wait for a repair */
  gboolean stopping;
  GsCond idle;
  GHashTable *seen;  /* "id storage" -> Seen: how far replicas said they are */
  int stop_fd;    /* eventfd: the same, for those who poll */
};

GsiRouter *
gsi_router_new (const GsiRouterConfig *config)
{
  GsiRouter *router = gsi_router_new_after (config, NULL);
  gsi_router_take_over (router);
  return router;
}

static void
make_variants (GsiRouter *router)
{
  const GsiRouterConfig *config = &router->config;
  router->variants = g_new0 (GsiStorageGroup, config->n_virtual_storages * config->n_policies + 1);
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    for (gsize k = 0; k < config->n_policies; k++)
      {
        GsiStorageGroup *variant = &router->variants[i * config->n_policies + k];
        *variant = *config->virtual_storages[i];
        variant->consistency = config->policies[k].ops;
        variant->consistency_self = config->policies[k].self;
      }
}

const GsiStorageGroup *
gsi_router_policy (GsiRouter *router, const GsiStorageGroup *group, const char *consistency)
{
  const GsiRouterConfig *config = &router->config;
  if (consistency == NULL || consistency[0] == '\0')
    return group;
  for (gsize i = 0; i < config->n_virtual_storages; i++)
    for (gsize k = 0; strcmp (config->virtual_storages[i]->name, group->name) == 0 && k < config->n_policies; k++)
      if (strcmp (config->policies[k].name, consistency) == 0)
        return &router->variants[i * config->n_policies + k];
  return NULL;
}

GsiRouter *
gsi_router_new_after (const GsiRouterConfig *config, GsiRouter *before)
{
  GsiRouter *router = g_new0 (GsiRouter, 1);
  router->config = *config;
  router->settler = before != NULL ? gsi_settler_ref (before->settler) : gsi_settler_new (config->host);
  router->nodes = before != NULL ? gsi_nodes_ref (before->nodes) : gsi_nodes_new ();
  router->recent = before != NULL ? gsi_recent_ref (before->recent) : gsi_recent_new ();
  router->known = before != NULL ? gsi_known_ref (before->known) : gsi_known_new ();
  router->remembered = config->host->metric (config->host, GS_METRIC_COUNTER, "gitstead_router_remembered_reads_total",
                                             "Reads that went by what was remembered of a repository, as the metadata "
                                             "store did not answer.",
                                             NULL);
  router->told_us = g_get_monotonic_time () - G_USEC_PER_SEC;
  make_variants (router);
  gs_mutex_init (&router->lock);
  gs_cond_init (&router->idle);
  router->seen = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  router->stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  return router;
}

void
gsi_router_take_over (GsiRouter *router)
{
  gsi_settler_take_over (router->settler, router);
}

void
gsi_router_stop (GsiRouter *router)
{
  gs_mutex_lock (&router->lock);
  router->stopping = TRUE;
  while (router->n_background > 0)
    gs_cond_wait (&router->idle, &router->lock);
  gs_mutex_unlock (&router->lock);
  gsi_settler_stop (router->settler);
}

void
gsi_router_crash_point (GsiRouter *router, const char *point)
{
  if (G_UNLIKELY (router->config.crash_at != NULL) && strcmp (router->config.crash_at, point) == 0)
    raise (SIGKILL);
}

void
gsi_router_crash_point_at (GsiRouter *router, const char *point, guint count)
{
  g_autofree char *counted = NULL;
  if (G_LIKELY (router->config.crash_at == NULL))
    return;
  counted = g_strdup_printf ("%s.%u", point, count);
  gsi_router_crash_point (router, counted);
}

void
gsi_router_ask_repair (GsiRouter *router, GsCall *call, guint64 id, const char *storage, const char *reason)
{
  const GsiRouterConfig *config = &router->config;
  GsJobRow job = { .size = sizeof job, .kind = "repair", .repository_id = id, .target = storage, .source = "",
                   .reason = reason, .lane = "repair", .due_wall_us = REPAIR_AFTER_US };
  g_autoptr (GError) why = NULL;
  guint64 job_id;
  if (config->metadata->job_add == NULL)
    return;
  /* Each write that leaves it behind asks: who takes the job may have looked how far others are just before this one. */
  if (!config->metadata->job_add (config->metadata_self, call, &job, &job_id, &why))
    config->host->log (config->host, GS_LOG_WARNING, "repair.ask.failed",
                       (GsField[]) { GS_NUMBER ("repository", id), GS_TEXT ("storage", storage),
                                     GS_TEXT ("error", why->message) },
                       3);
}

gboolean
gsi_router_background_begin (GsiRouter *router)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  if (router->stopping || router->n_background >= BACKGROUND_MAX)
    return FALSE;
  router->n_background++;
  gsi_wiring_ref (router->config.wiring); /* the call's own goes with its answer */
  return TRUE;
}

void
gsi_router_background_end (GsiRouter *router)
{
  GsiWiring *wiring = router->config.wiring;
  gs_mutex_lock (&router->lock);
  if (--router->n_background == 0)
    gs_cond_broadcast (&router->idle);
  gs_mutex_unlock (&router->lock);
  gsi_wiring_unref (wiring); /* the router may be gone with it */
}

gboolean
gsi_router_wait_begin (GsiRouter *router)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  if (router->n_waiting >= GSI_WAITING_MAX)
    return FALSE;
  router->n_waiting++;
  return TRUE;
}

void
gsi_router_wait_end (GsiRouter *router)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  router->n_waiting--;
}

gboolean
gsi_router_stopping (GsiRouter *router)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  return router->stopping;
}

void
gsi_router_free (GsiRouter *router)
{
  if (router == NULL)
    return;
  gsi_settler_unref (router->settler);
  gsi_nodes_unref (router->nodes);
  gsi_recent_unref (router->recent);
  gsi_known_unref (router->known);
  g_free (router->variants);
  if (router->stop_fd >= 0)
    close (router->stop_fd);
  g_hash_table_destroy (router->seen);
  gs_cond_clear (&router->idle);
  gs_mutex_clear (&router->lock);
  g_free (router);
}

void
gsi_router_set_round (GsiRouter *router, GsCall *call)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  router->round = call;
  if (call != NULL && router->ended)
    __atomic_store_n (&call->cancelled, 1, __ATOMIC_RELEASE);
}

int
gsi_router_stop_fd (GsiRouter *router)
{
  return router->stop_fd;
}

void
gsi_router_maintain_stop (GsiRouter *router)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  router->ended = TRUE;
  if (router->round != NULL)
    __atomic_store_n (&router->round->cancelled, 1, __ATOMIC_RELEASE);
  if (router->stop_fd >= 0)
    eventfd_write (router->stop_fd, 1);
}

const GsiRouterConfig *
gsi_router_config (GsiRouter *router)
{
  return &router->config;
}

GsiSettler *
gsi_router_settler (GsiRouter *router)
{
  return router->settler;
}

const GsiStorageGroup *
gsi_router_virtual_storage (GsiRouter *router, const char *name, GError **error)
{
  g_autoptr (GString) known = g_string_new (NULL);
  if (router->config.n_virtual_storages == 0)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "this process is a node: it has no virtual storage; send the call to a router");
      return NULL;
    }
  if (name == NULL || name[0] == '\0')
    return router->config.virtual_storages[0];
  for (gsize i = 0; i < router->config.n_virtual_storages; i++)
    {
      const GsiStorageGroup *vs = router->config.virtual_storages[i];
      if (strcmp (vs->name, name) == 0)
        return vs;
      g_string_append_printf (known, "%s'%s'", i > 0 ? ", " : "", vs->name);
    }
  gs_fail (error, GS_ERROR_NOT_FOUND, "there is no virtual storage '%.100s' (there is: %s)", name, known->str);
  return NULL;
}

const GsiStorage *
gsi_router_storage (GsiRouter *router, const char *name)
{
  for (gsize i = 0; i < router->config.n_storages; i++)
    if (strcmp (router->config.storages[i]->name, name) == 0)
      return router->config.storages[i];
  return NULL;
}

/* A push begins with a read, which is the one place where git shows its user why it cannot be done. */
static gboolean
begins_a_push (const GsiCall *call)
{
  return call->request->descriptor == &gitstead__v1__git_advertise_request__descriptor
         && ((const Gitstead__V1__GitAdvertiseRequest *) call->request)->service
              == GITSTEAD__V1__GIT_SERVICE_KIND__GIT_RECEIVE_PACK;
}

/*
 * What is remembered of a repository while the metadata store does not answer may be behind what other routers have written
 * since. An acknowledged write is on a majority of the replicas, or on as many as its mode promises, so those that answer
 * are asked how far they are, and the farthest counts: a read that follows a write sees it, as long as it meets one of them.
 */
static void
ask_how_far (GsiRouter *router, GsiCall *call, GsiRow *row)
{
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      GsReplicaState state = { .size = sizeof state };
      GsIdentity identity;
      GsCall own;
      if (storage == NULL || !gsi_router_view (storage).healthy)
        continue;
      gsi_own_call_init (&own, &identity, "read");
      own.deadline_us = MIN (g_get_monotonic_time () + GSI_TELL_US, call->base.deadline_us);
      if (!storage->ops->state (storage->self, &own, &repo, &state, NULL) || state.repository_id != row->id)
        continue;
      row->replicas[i].generation = MAX (row->replicas[i].generation, state.generation);
      row->generation = MAX (row->generation, state.generation);
    }
}

/* Counted all, logged the first one of each second. */
static void
tell_remembered (GsiRouter *router, const GsiRow *row, const GError *why)
{
  const GsHost *host = router->config.host;
  gint64 now_us = g_get_monotonic_time (), told_us = __atomic_load_n (&router->told_us, __ATOMIC_RELAXED);
  host->metric_update (router->remembered, 1);
  if (now_us - told_us >= G_USEC_PER_SEC
      && __atomic_compare_exchange_n (&router->told_us, &told_us, now_us, FALSE, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    host->log (host, GS_LOG_WARNING, "read.remembered",
               (GsField[]) { GS_TEXT ("path", row->path), GS_NUMBER ("generation", row->generation),
                             GS_TEXT ("error", why->message) },
               3);
}

/* It is away; or it hangs, and whoever asked before holds all connections to it. */
static gboolean
did_not_answer (const GError *why)
{
  return gs_error_code (why) == GS_ERROR_UNAVAILABLE || gs_error_code (why) == GS_ERROR_BUSY;
}

static GsiRow *
locate_now (GsiRouter *router, GsiCall *call, const GsiStorageGroup *vs, GError **error)
{
  const GsiRouterConfig *config = &router->config;
  gint64 now_us = g_get_monotonic_time ();
  g_autoptr (GError) why = NULL;
  GsiRow *row = NULL;

  if (config->metadata->repo_find (config->metadata_self, &call->base, vs->name, call->path, gsi_row_visit, &row, &why))
    {
      gsi_known_note (router->known, vs->name, call->path, row, now_us);
      return row;
    }
  gsi_row_free (row);
  if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
    {
      gsi_known_note (router->known, vs->name, call->path, NULL, now_us);
      gs_fail (error, GS_ERROR_NOT_FOUND, "there is no repository '%s' in virtual storage '%s'", call->path, vs->name);
      gs_detail_name (error, "repository", call->path);
      return NULL;
    }
  row = did_not_answer (why) && call->method->operation == GSI_ACCESSOR && !begins_a_push (call)
          ? gsi_known_recall (router->known, vs->name, call->path, now_us, config->known_for_us)
          : NULL;
  if (row == NULL)
    {
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "cannot locate repository '%s': ", call->path);
      return NULL;
    }
  ask_how_far (router, call, row);
  tell_remembered (router, row, why);
  return row;
}

gboolean
gsi_router_pause (const GsCall *call, gint64 *delay_us, gint64 until_us)
{
  gint64 now_us = g_get_monotonic_time ();
  struct timespec time;
  *delay_us = *delay_us == 0 ? PAUSE_FIRST_US : MIN (2 * *delay_us, PAUSE_MAX_US);
  until_us = MIN (until_us, call->deadline_us);
  if (now_us >= until_us || gs_call_cancelled (call))
    return FALSE;
  time.tv_sec = 0;
  time.tv_nsec = (long) MIN (*delay_us, until_us - now_us) * 1000;
  nanosleep (&time, NULL);
  return TRUE;
}

GsiRow *
gsi_router_locate_anyway (GsiRouter *router, GsiCall *call, const GsiStorageGroup **ret_vs, GError **error)
{
  const GsiStorageGroup *vs = gsi_router_virtual_storage (router, call->virtual_storage, error);
  gint64 until_us = g_get_monotonic_time () + GSI_FRESH_WAIT_US, delay_us = 0;
  GsiRow *row = vs != NULL ? locate_now (router, call, vs, error) : NULL;

  /* A metadata store that is read from a standby may be a little behind what it told another router. */
  while (row != NULL && row->generation < call->generation)
    {
      guint64 known = row->generation;
      gsi_row_free (row);
      if (!gsi_router_pause (&call->base, &delay_us, until_us))
        {
          gs_fail (error, GS_ERROR_UNAVAILABLE,
                   "repository '%s' is asked for at generation %" G_GUINT64_FORMAT " or later, and the metadata store "
                   "knows of %" G_GUINT64_FORMAT "; is the number from another repository?",
                   call->path, call->generation, known);
          return NULL;
        }
      row = locate_now (router, call, vs, error);
    }
  if (row != NULL && ret_vs != NULL)
    *ret_vs = vs;
  return row;
}

GsiRow *
gsi_router_locate (GsiRouter *router, GsiCall *call, const GsiStorageGroup **ret_vs, GError **error)
{
  const GsiStorageGroup *vs, *own;
  g_autoptr (GsiRow) row = gsi_router_locate_anyway (router, call, &vs, error);
  if (row == NULL)
    return NULL;
  own = gsi_router_policy (router, vs, row->consistency);
  if (own == NULL && call->method->operation == GSI_MUTATOR)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "repository '%s' is written by the consistency policy '%s', which this router's configuration has not",
               row->path, row->consistency);
      return NULL;
    }
  if (ret_vs != NULL)
    *ret_vs = own != NULL ? own : vs;
  return g_steal_pointer (&row);
}

/* What a replica said of itself. */
typedef struct
{
  guint64 generation;
  gint64 at_us;
} Seen;

static gboolean
was_seen (GsiRouter *router, const char *key, guint64 generation)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  const Seen *seen = g_hash_table_lookup (router->seen, key);
  return seen != NULL && seen->generation >= generation && g_get_monotonic_time () - seen->at_us < SEEN_US;
}

static void
note_seen (GsiRouter *router, char *key, guint64 generation)
{
  const Seen now = { generation, g_get_monotonic_time () };
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&router->lock);
  if (g_hash_table_size (router->seen) >= SEEN_MAX)
    g_hash_table_remove_all (router->seen);
  g_hash_table_replace (router->seen, key, g_memdup2 (&now, sizeof now));
}

gboolean
gsi_router_is_fresh (GsiRouter *router, const GsiStorage *storage, const GsiRow *row, guint64 generation,
                     gint64 until_us, GError **error)
{
  g_autofree char *key = g_strdup_printf ("%" G_GUINT64_FORMAT " %s", row->id, storage->name);
  const GsRepo repo = { sizeof repo, row->id, row->replica_path };
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  GsCall own;
  if (was_seen (router, key, generation))
    return TRUE;
  gsi_own_call_init (&own, &identity, "read");
  own.deadline_us = until_us; /* a replica that hangs must not take the caller's time from the others */
  if (!storage->ops->state (storage->self, &own, &repo, &state, &why))
    {
      if (gs_error_code (why) == GS_ERROR_DEADLINE_EXCEEDED)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "storage '%s' does not answer; try again", storage->name);
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (state.repository_id == row->id)
    note_seen (router, g_steal_pointer (&key), state.generation);
  return (state.repository_id == row->id && state.generation >= generation)
         || gs_fail (error, GS_ERROR_UNAVAILABLE,
                     "the replica of '%s' on '%s' is at generation %" G_GUINT64_FORMAT " and has not applied %"
                     G_GUINT64_FORMAT " yet; try again",
                     row->path, storage->name, state.generation, generation);
}

void
gsi_router_recheck (GsiRouter *router, GsiCall *call, GsiRow *row)
{
  const GsiRouterConfig *config = &router->config;
  GsRepo repo = { sizeof repo, row->id, row->replica_path };
  for (gsize i = 0; i < row->n_replicas; i++)
    if (row->replicas[i].generation >= row->generation)
      return;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      GsReplicaState state = { sizeof state };
      if (storage == NULL || !storage->ops->state (storage->self, &call->base, &repo, &state, NULL)
          || state.repository_id != row->id || state.generation < row->generation)
        continue;
      row->replicas[i].generation = row->generation;
      config->metadata->replica_set (config->metadata_self, &call->base, row->id, storage->name, row->generation, FALSE,
                                     NULL);
    }
}

GsNodeView
gsi_router_view (const GsiStorage *storage)
{
  return (GsNodeView) { .size = sizeof (GsNodeView),
                        .name = storage->name,
                        .zone = storage->zone,
                        .weight = storage->weight,
                        .healthy = storage->ops->probe == NULL || storage->ops->probe (storage->self, NULL),
                        .in_flight = storage->reads != NULL ? __atomic_load_n (storage->reads, __ATOMIC_RELAXED) : 0 };
}

GsNodeView
gsi_router_node_view (GsiRouter *router, const GsiStorage *storage)
{
  GsNodeView view = gsi_router_view (storage);
  guint64 total = 0;
  GsNodeState state = gsi_nodes_state (router->nodes, storage->name);
  view.draining = state != GS_NODE_ACTIVE;
  if (state != GS_NODE_ACTIVE)
    view.weight = 0; /* the plugin's promise is only that others come first */
  gsi_nodes_room (router->nodes, storage->name, &view.free_bytes, &total);
  view.used_bytes = total - MIN (view.free_bytes, total);
  return view;
}

GsiNodes *
gsi_router_nodes (GsiRouter *router)
{
  return router->nodes;
}

GsiRecent *
gsi_router_recent (GsiRouter *router)
{
  return router->recent;
}

gboolean
gsi_router_look_at_nodes (GsiRouter *router, GError **error)
{
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "nodes");
  call.deadline_us = g_get_monotonic_time () + LOOK_US;
  return gsi_nodes_refresh (router->nodes, router, &call, error);
}

GsiReplica
gsi_router_replica (GsiRouter *router, const GsiStorage *storage, const GsiRow *row)
{
  GsiReplica replica = { storage,
                         { sizeof (GsRepo), row->id, row->replica_path },
                         row->path,
                         router->config.cache,
                         router->config.cache_self };
  return replica;
}

char *
gsi_router_replica_path (guint64 id)
{
  /* Spread by a checksum of the decimal id, so that neighbours in time do not share a folder. */
  g_autofree char *decimal = g_strdup_printf ("%" G_GUINT64_FORMAT, id);
  g_autofree char *sum = g_compute_checksum_for_string (G_CHECKSUM_SHA256, decimal, -1);
  return g_strdup_printf ("@r/%.2s/%.2s/%s.git", sum, sum + 2, decimal);
}

void
gsi_router_settle_later (GsiRouter *router, const GsiStorage *storage)
{
  gsi_settler_later (router->settler, storage->name);
}

GsiBinding *
gsi_router_bindings (const GsiMethods *methods)
{
  static const GsiBinding own[] = {
    { 100, gsi_router_repository_create },  { 101, gsi_router_repository_get },
    { 102, gsi_router_repository_exists },  { 103, gsi_router_repository_list },
    { 104, gsi_router_repository_delete },  { 105, gsi_router_repository_rename },
    { 107, gsi_router_repository_changes }, { 500, gsi_router_token_create },
    { 501, gsi_router_token_list },         { 502, gsi_router_token_revoke },
    { 150, gsi_router_create_from_bundle }, { 151, gsi_router_fork },
    { 152, gsi_router_create_from_url },    { 158, gsi_router_adopt },    { 900, gsi_router_pool_link },
    { 901, gsi_router_pool_unlink },        { 903, gsi_router_pool_info },
  };
  const GsiBinding end = { 0, NULL };
  GArray *bindings = g_array_new (FALSE, FALSE, sizeof (GsiBinding));
  gsize n_methods;
  const GsiMethod *const *all = gsi_methods_all (methods, &n_methods);
  g_array_append_vals (bindings, own, G_N_ELEMENTS (own));
  for (const GsiBinding *one = gsi_cluster_bindings (); one->number != 0; one++)
    g_array_append_vals (bindings, one, 1);
  for (const GsiReadBinding *read = gsi_node_reads (); read->number != 0; read++)
    {
      GsiBinding binding = { read->number, gsi_router_read };
      g_array_append_val (bindings, binding);
    }
  for (const GsiWriteBinding *write = gsi_node_writes (); write->number != 0; write++)
    {
      GsiBinding binding = { write->number, gsi_router_write };
      g_array_append_val (bindings, binding);
    }
  for (gsize i = 0; i < n_methods; i++)
    if (all[i]->storage)
      {
        const GsiHandler handlers[] = { [GSI_ACCESSOR] = gsi_router_read, [GSI_MUTATOR] = gsi_router_write,
                                        [GSI_MAINTENANCE] = gsi_router_everywhere };
        GsiBinding binding = { all[i]->number, handlers[all[i]->operation] };
        if (binding.number == GSI_METHOD_FETCH_FROM)
          binding.handler = gsi_router_fetch_from;
        g_array_append_val (bindings, binding);
      }
  g_array_append_val (bindings, end);
  return (GsiBinding *) g_array_free (bindings, FALSE);
}
