/* SPDX-License-Identifier: Apache-2.0 */
/* Storages in memory, and the router over them. See replicas.h; the metadata store is replicas_store.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"
#include "replicas_store.h"

#include <string.h>
#include <unistd.h>

#include "gitstead/v1/git.pb-c.h"
#include "gitstead/v1/ref.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"

const GsPlugin *gs_plugin_query (void);

#define PATIENCE_US (60 * G_USEC_PER_SEC)
#define LOCK_WAIT_US (1 * G_USEC_PER_SEC)

/* --------------------------------------------------------------------------------------- storages */

typedef struct
{
  GsTxId txid;
  GsVote vote;
  GsRefUpdate update;
  GsRefVerdict verdict;
  char *name;
  gboolean locked;
  int output; /* a push's, -1 without */
} Staged;

static void
staged_free (Staged *staged)
{
  if (staged->output >= 0)
    close (staged->output);
  g_free (staged->name);
  g_free (staged);
}

/*
 * One lock per ref. Of two writers who meet here, the one with the smaller transaction waits, the other is refused: the
 * same rule on all storages, as the storages' contract asks for.
 */
static gboolean
take_lock (Disk *disk, Staged *staged, GError **error)
{
  gint64 until_us = g_get_monotonic_time () + LOCK_WAIT_US;
  const Staged *holder;
  while ((holder = g_hash_table_lookup (disk->locks, staged->name)) != NULL)
    if (memcmp (&staged->txid, &holder->txid, sizeof staged->txid) > 0
        || !gs_cond_wait_until (&disk->cluster->changed, &disk->cluster->lock, until_us))
      return gs_fail (error, GS_ERROR_ABORTED, "%s is locked", staged->name);
  g_hash_table_insert (disk->locks, staged->name, staged);
  staged->locked = TRUE;
  return TRUE;
}

/* Under the lock. NULL with @error. */
static Staged *
stage_one (Disk *disk, const GsTxId *txid, const GsRefUpdate *update, GError **error)
{
  Staged *staged = g_new0 (Staged, 1);
  char hex[GS_OID_HEX_MAX + 1];
  const char *now;
  GsOid present = { .len = 20 };
  staged->txid = *txid;
  staged->name = g_strdup (update->name);
  staged->update = *update;
  staged->update.name = staged->name;
  staged->output = -1;
  gs_oid_hex (&update->new_oid, hex);
  while (disk->first != NULL && strcmp (hex, disk->first) != 0 && disk->n_staged == 0)
    gs_cond_wait (&disk->cluster->changed, &disk->cluster->lock);
  if (disk->away)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "%s is away", disk->name);
  if (disk->away || !take_lock (disk, staged, error))
    {
      staged_free (staged);
      return NULL;
    }
  now = g_hash_table_lookup (disk->refs, staged->name);
  if (now != NULL)
    gs_oid_parse (now, strlen (now), &present);
  const gboolean stale = update->old_oid.len != 0 && !gs_oid_equal (&update->old_oid, &present);
  if (stale || gs_oid_equal (&update->new_oid, &present))
    {
      if (stale)
        staged->verdict = (GsRefVerdict) { GS_ERROR_FAILED_PRECONDITION, (char *) "stale value" };
      g_hash_table_remove (disk->locks, staged->name);
      staged->locked = FALSE;
      gs_cond_broadcast (&disk->cluster->changed);
    }
  staged->update.old_oid = present;
  staged->vote.size = sizeof staged->vote;
  staged->vote.updates = &staged->update;
  staged->vote.n_updates = staged->locked ? 1 : 0;
  staged->vote.verdicts = &staged->verdict;
  staged->vote.n_verdicts = 1;
  memcpy (staged->vote.digest, present.raw, 16);
  memcpy (staged->vote.digest + 16, update->new_oid.raw, 16);
  disk->n_staged++;
  gs_cond_broadcast (&disk->cluster->changed);
  return staged;
}

static gboolean
others_staged (const Disk *disk)
{
  for (int i = 0; i < N_DISKS; i++)
    if (&disk->cluster->disks[i] != disk && !disk->cluster->disks[i].away && disk->cluster->disks[i].n_staged == 0)
      return FALSE;
  return TRUE;
}

/* Under the lock. FALSE: the one who asks is lost over it. */
static gboolean
ask_hooks (Disk *disk, Staged *staged, gboolean run, GError **error)
{
  staged->vote.hooks = run ? GS_HOOKS_PASSED : GS_HOOKS_UNASKED;
  if (!run)
    return TRUE;
  disk->n_asked++;
  while (!others_staged (disk))
    gs_cond_wait (&disk->cluster->changed, &disk->cluster->lock);
  if (disk->hooks_code == GS_OK)
    return TRUE;
  g_hash_table_remove (disk->locks, staged->name);
  staged->locked = FALSE;
  gs_cond_broadcast (&disk->cluster->changed);
  staged->verdict = (GsRefVerdict) { disk->hooks_code, (char *) "a hook said no" };
  staged->vote.n_updates = 0;
  staged->vote.hooks = GS_HOOKS_NONE;
  return disk->hooks_code == GS_ERROR_PERMISSION_DENIED || gs_fail (error, disk->hooks_code, "%s was lost", disk->name);
}

static gboolean
disk_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
            const GsVote **ret_vote, GError **error)
{
  Disk *disk = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&disk->cluster->lock);
  Staged *staged = stage_one (disk, &change->txid, &change->updates[0], error);
  if (staged == NULL)
    return FALSE;
  if (disk->hooks && !ask_hooks (disk, staged, change->run_hooks, error))
    {
      staged_free (staged);
      return FALSE;
    }
  *ret_txn = staged;
  *ret_vote = &staged->vote;
  return TRUE;
}

/* Under the lock. */
static void
give_back (Disk *disk, Staged *staged)
{
  if (staged->locked)
    g_hash_table_remove (disk->locks, staged->name);
  staged->locked = FALSE;
  gs_cond_broadcast (&disk->cluster->changed);
}

static gboolean
say (int fd, const char *text, gsize len)
{
  while (len > 0)
    {
      ssize_t n = write (fd, text, len);
      if (n <= 0)
        return FALSE;
      text += n;
      len -= (gsize) n;
    }
  return TRUE;
}

static gboolean
disk_stage_push (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
                 gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  Disk *disk = self;
  g_autoptr (GString) text = g_string_new_len (g_bytes_get_data (stream->head, NULL),
                                               (gssize) g_bytes_get_size (stream->head));
  int input = stream->complete ? -1 : stream->open_input (stream, error), output;
  g_auto (GStrv) words = NULL;
  GsRefUpdate update = { 0 };
  Staged *staged;
  char chunk[512];
  ssize_t n;
  while (input >= 0 && (n = read (input, chunk, sizeof chunk)) > 0)
    g_string_append_len (text, chunk, n);
  if (input >= 0)
    close (input);
  output = stream->open_output (stream, error);
  if (output < 0)
    return FALSE;
  if (disk->chatter > 0)
    {
      char noise[4096];
      memset (noise, 'f', sizeof noise);
      for (gsize said = 0; said < disk->chatter; said += sizeof noise)
        if (!say (output, noise, sizeof noise))
          {
            close (output);
            return gs_fail (error, GS_ERROR_CANCELLED, "nobody listens");
          }
    }
  if (disk->last_words != NULL)
    {
      say (output, disk->last_words, strlen (disk->last_words));
      close (output);
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "it broke off");
    }
  words = g_strsplit (text->str, " ", 2);
  update.name = words[0];
  if (disk->refuses)
    say (output, "0009ng no" "0000", 13);
  if (g_strv_length (words) != 2 || !gs_oid_parse (words[1], strlen (words[1]), &update.new_oid))
    {
      close (output);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "this is no push of ours: %s", text->str);
    }
  gs_mutex_lock (&disk->cluster->lock);
  staged = stage_one (disk, &push->txid, &update, error);
  if (staged != NULL && disk->refuses)
    {
      give_back (disk, staged);
      staged->verdict = (GsRefVerdict) { GS_ERROR_ABORTED, (char *) "it is locked" };
      staged->vote.n_updates = 0;
    }
  gs_mutex_unlock (&disk->cluster->lock);
  if (staged == NULL)
    {
      close (output);
      return FALSE;
    }
  staged->output = output;
  *ret_txn = staged;
  *ret_vote = &staged->vote;
  return TRUE;
}

static gboolean
disk_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error)
{
  Disk *disk = self;
  Staged *staged = txn;
  char hex[GS_OID_HEX_MAX + 1];
  gs_mutex_lock (&disk->cluster->lock);
  while (disk->holds_commit)
    gs_cond_wait (&disk->cluster->changed, &disk->cluster->lock);
  gs_oid_hex (&staged->update.new_oid, hex);
  if (!disk->fails_commit)
    {
      g_hash_table_replace (disk->refs, g_strdup (staged->name), g_strdup (hex));
      disk->generation = decision->generation;
      disk->n_committed++;
    }
  give_back (disk, staged);
  gs_mutex_unlock (&disk->cluster->lock);
  if (staged->output >= 0 && !disk->fails_commit)
    say (staged->output, "000eunpack ok\n", 14);
  staged_free (staged);
  return !disk->fails_commit || gs_fail (error, GS_ERROR_UNAVAILABLE, "cannot rename");
}

static void
disk_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  Disk *disk = self;
  Staged *staged = txn;
  gs_mutex_lock (&disk->cluster->lock);
  disk->n_aborted++;
  give_back (disk, staged);
  disk->drops_unsaid = disk->drops_unsaid || (staged->output >= 0 && staged->vote.n_updates > 0 && why == NULL);
  gs_mutex_unlock (&disk->cluster->lock);
  if (staged->output >= 0 && staged->vote.n_updates > 0)
    say (staged->output, "001cng refs/heads/x given up" "0000", 32);
  staged_free (staged);
}

static gboolean
disk_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  return TRUE;
}

static gboolean
disk_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  Disk *disk = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&disk->cluster->lock);
  disk->n_states++;
  gs_cond_broadcast (&disk->cluster->changed);
  if (disk->away)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s is away", disk->name);
  ret_state->repository_id = repo->id;
  ret_state->generation = disk->generation;
  ret_state->format = GS_FORMAT_SHA1;
  return TRUE;
}

static gboolean
disk_find_ref (gpointer self, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit, gpointer user,
               GError **error)
{
  Disk *disk = self;
  GsRef ref = { .size = sizeof ref, .name = name };
  const char *hex;
  GsErrorCode code;
  gs_mutex_lock (&disk->cluster->lock);
  disk->n_reads++;
  code = disk->find_code;
  hex = g_hash_table_lookup (disk->refs, name);
  if (hex != NULL)
    gs_oid_parse (hex, strlen (hex), &ref.oid);
  gs_mutex_unlock (&disk->cluster->lock);
  if (code != GS_OK)
    return gs_fail (error, code, "%s says so", disk->name);
  if (hex == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "no such ref");
  visit (&ref, user);
  return TRUE;
}

static gboolean
disk_create (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error)
{
  Disk *disk = self;
  return !disk->create_fails || gs_fail (error, GS_ERROR_UNAVAILABLE, "%s is away", disk->name);
}

static gboolean
disk_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error)
{
  return TRUE;
}

static gboolean
disk_probe (gpointer self, GError **error)
{
  Disk *disk = self;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&disk->cluster->lock);
  return disk->away == disk->probe_lies || gs_fail (error, GS_ERROR_UNAVAILABLE, "%s is away", disk->name);
}

static const GsStorageOps disk_ops
    = { .stage = disk_stage,     .stage_push = disk_stage_push, .commit = disk_commit,     .abort = disk_abort,
        .pending = disk_pending, .state = disk_state,           .find_ref = disk_find_ref, .create = disk_create,
        .remove = disk_remove,   .probe = disk_probe };

/* ---------------------------------------------------------------------------------------- routing */

/* The first that is offered: tests know whom they get. */
static gboolean
first_reader (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n, guint64 dice, gsize *ret_index,
              GError **error)
{
  *ret_index = 0;
  return TRUE;
}

static gboolean
all_healthy (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n, gsize wanted, gsize *ret_chosen,
             gsize *ret_n, GError **error)
{
  gsize n_chosen = 0;
  for (gsize i = 0; i < n && n_chosen < wanted; i++)
    if (nodes[i]->healthy)
      ret_chosen[n_chosen++] = i;
  *ret_n = n_chosen;
  return TRUE;
}

static const GsRoutingOps routing = { .place = all_healthy, .pick_reader = first_reader };

/* -------------------------------------------------------------------------------------- the others */

static gboolean
let_in (gpointer self, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity, GError **error)
{
  static const GsIdentity me = { sizeof me, "me", GS_SCOPE_ADMIN, "" };
  *ret_identity = &me;
  return TRUE;
}

static void
let_go (gpointer self, const GsIdentity *identity)
{
}

static gboolean
allow (gpointer self, const GsIdentity *identity, GsScope scope, const char *path, GError **error)
{
  return TRUE;
}

static const GsAccessOps door = { .authenticate = let_in, .release = let_go, .authorize = allow };

static Cluster *the_cluster;

static gint64
skewed_now (const GsHost *host)
{
  gint64 skew_us = __atomic_add_fetch (&the_cluster->skew_us, the_cluster->skew_step_us, __ATOMIC_RELAXED);
  return g_get_monotonic_time () + skew_us;
}

Cluster *
cluster_new (const char *rule)
{
  static const char *const names[N_DISKS] = { "one", "two", "three" };
  const GsPlugin *quorum = gs_plugin_query ();
  Cluster *cluster = the_cluster = g_new0 (Cluster, 1);
  GsiRouterConfig config = { 0 };
  g_autofree GsiBinding *bindings = NULL;
  GsiRpcLimits limits;
  gs_mutex_init (&cluster->lock);
  gs_cond_init (&cluster->changed);
  cluster->generation = 3;
  cluster->n_replicas = N_DISKS;
  cluster->decisions = g_ptr_array_new_with_free_func (decision_free);
  cluster->host = fake_host_new ("core");
  cluster->host->host.now_us = skewed_now;
  cluster->consistency_config = fake_config_new (quorum, "rule", rule, "laggard_wait", "200ms", NULL);
  cluster->consistency = quorum->create (&cluster->host->host, fake_config_get (cluster->consistency_config), NULL);
  cluster->majority_config = fake_config_new (quorum, "rule", "majority", "laggard_wait", "200ms", NULL);
  cluster->majority = quorum->create (&cluster->host->host, fake_config_get (cluster->majority_config), NULL);
  cluster->policies[0] = (GsiPolicy) { "majority", quorum->ops, cluster->majority };
  cluster->policy = "";
  for (int i = 0; i < N_DISKS; i++)
    {
      Disk *disk = &cluster->disks[i];
      *disk = (Disk) { .cluster = cluster, .name = names[i], .generation = 3 };
      disk->refs = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
      disk->locks = g_hash_table_new (g_str_hash, g_str_equal);
      cluster->replica_generations[i] = 3;
      cluster->storages[i] = (GsiStorage) { .name = names[i], .ops = &disk_ops, .self = disk, .zone = "", .weight = 1 };
      cluster->storage_list[i] = &cluster->storages[i];
    }
  cluster->group = (GsiStorageGroup) { .name = "default", .storages = cluster->storage_list, .n_storages = N_DISKS,
                                       .n_copies = N_DISKS, .min_copies = 1, .routing = &routing,
                                       .consistency = quorum->ops, .consistency_self = cluster->consistency };
  cluster->groups[0] = &cluster->group;
  cluster->metrics = gsi_metrics_new (100);
  cluster->workers = gsi_pool_new ("w", 6, 64, NULL);
  cluster->streams = gsi_pool_new ("s", 2, 16, NULL);
  cluster->participants = gsi_pool_new_elastic ("p", 64, 0, G_USEC_PER_SEC, NULL);
  config.host = &cluster->host->host;
  config.metadata = &replicas_metadata;
  config.metadata_self = cluster;
  config.virtual_storages = cluster->groups;
  config.n_virtual_storages = 1;
  config.storages = cluster->storage_list;
  config.n_storages = N_DISKS;
  config.policies = cluster->policies;
  config.n_policies = G_N_ELEMENTS (cluster->policies);
  config.pool = cluster->participants;
  config.known_for_us = G_USEC_PER_SEC;
  gsi_rpc_limits_default (&limits);
  cluster->rpc = gsi_rpc_new (&limits, cluster->workers, cluster->streams, NULL, cluster->metrics, NULL);
  cluster->router = gsi_router_new (&config);
  gsi_rpc_set_access (cluster->rpc, &door, NULL);
  bindings = gsi_router_bindings (gsi_rpc_methods (cluster->rpc));
  assert_true (gsi_rpc_handle_all (cluster->rpc, bindings, cluster->router, NULL));
  return cluster;
}

void
cluster_stop (Cluster *cluster)
{
  gsi_rpc_stop (cluster->rpc);
  gsi_router_stop (cluster->router);
}

void
cluster_free (Cluster *cluster)
{
  gsi_pool_free (cluster->participants);
  gsi_pool_free (cluster->streams);
  gsi_pool_free (cluster->workers);
  fake_host_free (cluster->host);
  gsi_router_free (cluster->router);
  gsi_rpc_free (cluster->rpc);
  gsi_metrics_free (cluster->metrics);
  gs_plugin_query ()->destroy (cluster->consistency);
  gs_plugin_query ()->destroy (cluster->majority);
  fake_config_free (cluster->consistency_config);
  fake_config_free (cluster->majority_config);
  for (int i = 0; i < N_DISKS; i++)
    {
      g_autoptr (GList) left = g_hash_table_get_values (cluster->disks[i].locks); /* writes that the stop left open */
      g_hash_table_destroy (cluster->disks[i].locks);
      g_list_foreach (left, (GFunc) (void (*) (void)) staged_free, NULL);
      g_hash_table_destroy (cluster->disks[i].refs);
    }
  g_ptr_array_unref (cluster->decisions);
  gs_cond_clear (&cluster->changed);
  gs_mutex_clear (&cluster->lock);
  g_free (cluster);
}

/* ------------------------------------------------------------------------------------------- calls */

static void
on_done (gpointer user, const GsOutcome *outcome)
{
  Answer *answer = user;
  gs_mutex_lock (&answer->lock);
  answer->over = TRUE;
  answer->code = outcome->code;
  answer->generation = outcome->generation;
  answer->retry = outcome->retry;
  answer->message = g_strdup (outcome->message);
  answer->payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL;
  gs_cond_signal (&answer->ended);
  gs_mutex_unlock (&answer->lock);
}

void
cluster_begin (Cluster *cluster, guint32 method, const ProtobufCMessage *request, GsStream *stream, guint64 generation,
               Answer *answer)
{
  GsInbound inbound = { .size = sizeof inbound, .method = method, .done = on_done, .user = answer, .peer = "test",
                        .stream = stream };
  memset (answer, 0, sizeof *answer);
  gs_mutex_init (&answer->lock);
  gs_cond_init (&answer->ended);
  answer->request = gs_wire_encode (request);
  inbound.payload = answer->request;
  inbound.generation = generation;
  inbound.timeout_us = cluster->patience_us;
  gsi_rpc_begin (cluster->rpc, &inbound);
}

gboolean
answer_wait (Answer *answer)
{
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&answer->lock);
  while (!answer->over)
    if (!gs_cond_wait_until (&answer->ended, &answer->lock, until_us) && !answer->over)
      return FALSE;
  return TRUE;
}

void
answer_clear (Answer *answer)
{
  g_clear_pointer (&answer->payload, g_bytes_unref);
  g_clear_pointer (&answer->request, g_bytes_unref);
  g_clear_pointer (&answer->message, g_free);
  gs_cond_clear (&answer->ended);
  gs_mutex_clear (&answer->lock);
}

void
cluster_update (Cluster *cluster, const char *name, const char *old_hex, const char *hex, Answer *answer)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RefUpdate one = GITSTEAD__V1__REF_UPDATE__INIT, *updates[] = { &one };
  Gitstead__V1__RefUpdateRequest request = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  repository.path = (char *) "a";
  one.name.data = (guint8 *) name;
  one.name.len = strlen (name);
  one.new_oid = (char *) hex;
  if (old_hex != NULL)
    one.old_oid = (char *) old_hex;
  request.repository = &repository;
  request.updates = updates;
  request.n_updates = 1;
  cluster_begin (cluster, 202, &request.base, NULL, 0, answer);
}

void
cluster_find (Cluster *cluster, const char *name, guint64 generation, Answer *answer)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RefFindRequest request = GITSTEAD__V1__REF_FIND_REQUEST__INIT;
  repository.path = (char *) "a";
  request.repository = &repository;
  request.name.data = (guint8 *) name;
  request.name.len = strlen (name);
  cluster_begin (cluster, 201, &request.base, NULL, generation, answer);
}

void
cluster_create (Cluster *cluster, Answer *answer)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryCreateRequest request = GITSTEAD__V1__REPOSITORY_CREATE_REQUEST__INIT;
  repository.path = (char *) "a";
  request.repository = &repository;
  cluster_begin (cluster, 100, &request.base, NULL, 0, answer);
}

void
cluster_push (Cluster *cluster, GsStream *stream, Answer *answer)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__GitReceivePackRequest request = GITSTEAD__V1__GIT_RECEIVE_PACK_REQUEST__INIT;
  repository.path = (char *) "a";
  request.repository = &repository;
  request.stateless = TRUE;
  cluster_begin (cluster, 402, &request.base, stream, 0, answer);
}

gboolean
cluster_eventually (Cluster *cluster, gboolean (*check) (Cluster *cluster))
{
  gint64 until_us = g_get_monotonic_time () + PATIENCE_US;
  gboolean holds;
  gs_mutex_lock (&cluster->lock);
  while (!(holds = check (cluster)) && g_get_monotonic_time () < until_us)
    gs_cond_wait_until (&cluster->changed, &cluster->lock, g_get_monotonic_time () + 20000);
  gs_mutex_unlock (&cluster->lock);
  return holds;
}

const char *
cluster_value (Cluster *cluster, const char *name)
{
  const char *value = g_hash_table_lookup (cluster->disks[0].refs, name);
  for (int i = 1; i < N_DISKS; i++)
    if (g_strcmp0 (value, g_hash_table_lookup (cluster->disks[i].refs, name)) != 0)
      return NULL;
  return value;
}
