/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write path against a metadata store and a storage that misbehave on demand: whatever the store answers to
 * "decide", the write ends wholly there or wholly absent, and the storage is told which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/thread.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "fakehost.h"
#include "gitstead/v1/ref.pb-c.h"
#include "router/settle.h"
#include "rpc/rpc.h"

const GsPlugin *gs_plugin_query (void);

/* What the store answers to the n-th decide. */
typedef enum
{
  SAY_YES,
  SAY_MOVED_ON,      /* another write was decided meanwhile */
  SAY_LEFT_BEHIND,   /* the same, and it did not reach our replica */
  SAY_ABORTED,       /* there is an abort mark */
  SAY_NOTHING_DONE,  /* no answer, and it was not taken */
  SAY_NOTHING_TAKEN, /* no answer, but it was taken */
} Say;

typedef struct
{
  GsMutex lock;
  /* metadata */
  guint64 generation, replica_generation;
  GsDigest digest;
  const Say *says; /* ends by repeating the last */
  guint n_says, n_decides, n_silent; /* n_silent: tx_abort fails so often */
  gboolean decided, aborted_mark;
  const char *replica; /* the storage of the one there is; NULL = "disk" */
  const char *voter;   /* of the decision that was there before; NULL = the same */
  /* storage */
  gboolean stage_fails, nothing, refuse, commit_fails;
  guint n_staged, n_committed, n_aborted, n_resolved;
  guint64 applied; /* generation on the medium */
  GsDecision seen;
  gboolean pending, resolve_fails;
  GsTxId pending_id;
} World;

static gboolean
show_row (World *world, GsRepoRowVisit visit, gpointer user)
{
  GsReplicaRow replica = { sizeof replica, world->replica != NULL ? world->replica : "disk", world->replica_generation, 0, 0 };
  const GsReplicaRow *replicas[] = { &replica };
  GsRepoRow row = { .size = sizeof row, .id = 7, .virtual_storage = "default", .path = "a.git",
                    .replica_path = "@r/a", .format = GS_FORMAT_SHA1, .generation = world->generation,
                    .refs_digest = world->digest, .replicas = replicas, .n_replicas = 1 };
  visit (&row, user);
  return TRUE;
}

static gboolean
meta_find (gpointer self, GsCall *call, const char *vs, const char *path, GsRepoRowVisit visit, gpointer user,
           GError **error)
{
  return show_row (self, visit, user);
}

static gboolean
meta_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error)
{
  return show_row (self, visit, user);
}

static void
take (World *world, const GsDecideRequest *request)
{
  world->generation++;
  world->replica_generation = world->generation;
  world->digest = request->refs_digest;
  world->decided = TRUE;
}

static gboolean
meta_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation, GError **error)
{
  World *world = self;
  Say say = world->says[MIN (world->n_decides, world->n_says - 1)];
  world->n_decides++;
  if (say == SAY_MOVED_ON || say == SAY_LEFT_BEHIND)
    {
      world->generation++;
      world->replica_generation += say == SAY_MOVED_ON;
      return gs_fail (error, GS_ERROR_ABORTED, "moved on");
    }
  assert_int_equal (request->expected_generation, world->generation);
  if (say == SAY_ABORTED)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "it has an abort mark");
  if (say == SAY_NOTHING_DONE)
    return gs_fail (error, GS_ERROR_UNKNOWN, "no answer");
  take (world, request);
  if (say == SAY_NOTHING_TAKEN)
    return gs_fail (error, GS_ERROR_UNKNOWN, "no answer");
  *ret_generation = world->generation;
  return TRUE;
}

static gboolean
meta_tx_abort (gpointer self, GsCall *call, guint64 id, const GsTxId *txid, GsTxState *ret_state, GError **error)
{
  World *world = self;
  if (world->n_silent > 0)
    {
      world->n_silent--;
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "still no answer");
    }
  world->aborted_mark = !world->decided;
  *ret_state = world->decided ? GS_TX_DECIDED : GS_TX_ABORTED;
  return TRUE;
}

static gboolean
meta_tx_find (gpointer self, GsCall *call, guint64 id, const GsTxId *txid, GsTxState *ret_state, GsChangeVisit visit,
              gpointer user, GError **error)
{
  World *world = self;
  const char *voters[] = { world->voter != NULL ? world->voter : "disk", NULL };
  GsChange change = { .size = sizeof change, .generation = world->generation, .refs_digest = world->digest,
                      .voters = voters };
  *ret_state = world->decided ? GS_TX_DECIDED : GS_TX_UNKNOWN;
  if (world->decided)
    visit (&change, user);
  return TRUE;
}

static gboolean
meta_change_by_call (gpointer self, GsCall *call, guint64 id, const GsTxId *call_id, GsChangeVisit visit,
                     gpointer user, GError **error)
{
  return TRUE;
}

static gboolean
meta_replica_set (gpointer self, GsCall *call, guint64 id, const char *storage, guint64 generation, gboolean force,
                  GError **error)
{
  ((World *) self)->replica_generation = generation;
  return TRUE;
}

static const GsMetadataOps metadata = { .repo_find = meta_find, .repo_get = meta_get, .decide = meta_decide,
                                        .tx_abort = meta_tx_abort, .tx_find = meta_tx_find,
                                        .change_by_call = meta_change_by_call, .replica_set = meta_replica_set };

/* ----------------------------------------------------------------------------------------- storage */

typedef struct
{
  GsVote vote;
  GsRefUpdate update;
  GsRefVerdict verdict;
} Staged;

static void
staged_free (Staged *staged)
{
  g_free ((char *) staged->update.name);
  g_free (staged);
}

static gboolean
disk_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
            const GsVote **ret_vote, GError **error)
{
  World *world = self;
  Staged *staged;
  if (world->stage_fails)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the disk is full");
  staged = g_new0 (Staged, 1);
  staged->update = change->updates[0];
  staged->update.name = g_strdup (staged->update.name); /* a vote outlives what it was made of */
  staged->verdict.code = world->refuse ? GS_ERROR_FAILED_PRECONDITION : GS_OK;
  staged->verdict.reason = world->refuse ? (char *) "stale value" : NULL;
  staged->vote.size = sizeof staged->vote;
  staged->vote.updates = &staged->update;
  staged->vote.n_updates = world->nothing || world->refuse ? 0 : 1;
  staged->vote.verdicts = &staged->verdict;
  staged->vote.n_verdicts = 1;
  staged->vote.refs_plus.bytes[0] = 5;
  staged->vote.refs_minus.bytes[0] = 2;
  world->n_staged++;
  *ret_txn = staged;
  *ret_vote = &staged->vote;
  return TRUE;
}

static gboolean
disk_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error)
{
  World *world = self;
  staged_free (txn);
  world->seen = *decision;
  if (world->commit_fails)
    {
      world->pending = TRUE;
      world->pending_id = decision->txid;
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "cannot rename");
    }
  world->n_committed++;
  return TRUE;
}

static void
disk_abort (gpointer self, GsCall *call, gpointer txn, const GError *why)
{
  ((World *) self)->n_aborted++;
  staged_free (txn);
}

static gboolean
disk_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  World *world = self;
  GsPending pending = { .size = sizeof pending, .repo = { sizeof (GsRepo), 7, "@r/a" }, .txid = world->pending_id };
  if (world->pending)
    visit (&pending, user);
  return TRUE;
}

static gboolean
disk_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid, const GsDecision *decision,
              GError **error)
{
  World *world = self;
  if (world->resolve_fails)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "packed-refs is locked");
  world->pending = FALSE;
  world->n_resolved++;
  if (decision != NULL)
    world->seen = *decision;
  return TRUE;
}

static gboolean
disk_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  ret_state->repository_id = repo->id;
  ret_state->generation = ((World *) self)->applied;
  return TRUE;
}

static const GsStorageOps disk = { .stage = disk_stage, .commit = disk_commit, .abort = disk_abort,
                                   .pending = disk_pending, .resolve = disk_resolve,
                                   .state = disk_state };

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

typedef struct
{
  GsMutex lock;
  GsCond ended;
  gboolean over;
  GsErrorCode code;
  char *message;
  GBytes *payload;
} Answer;

static void
on_done (gpointer user, const GsOutcome *outcome)
{
  Answer *answer = user;
  gs_mutex_lock (&answer->lock);
  answer->over = TRUE;
  answer->code = outcome->code;
  answer->message = g_strdup (outcome->message);
  answer->payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL;
  gs_cond_signal (&answer->ended);
  gs_mutex_unlock (&answer->lock);
}

typedef struct
{
  FakeHost *host;
  GsiPool *workers, *streams;
  GsiMetrics *metrics;
  GsiRpc *rpc;
  GsiRouter *router;
} Rig;

static void
rig_up (Rig *rig, World *world)
{
  static GsiStorage storage;
  static const GsiStorage *storages[] = { &storage };
  static GsiStorageGroup group;
  static const GsiStorageGroup *groups[] = { &group };
  g_autofree GsiBinding *bindings = NULL;
  GsiRouterConfig config = { 0 };
  GsiRpcLimits limits;

  rig->host = fake_host_new ("core");
  storage = (GsiStorage) { .name = "disk", .ops = &disk, .self = world, .zone = "", .weight = 1 };
  group = (GsiStorageGroup) { .name = "default", .storages = storages, .n_storages = 1, .n_copies = 1,
                              .min_copies = 1, .consistency = gs_plugin_query ()->ops };
  config.host = &rig->host->host;
  config.metadata = &metadata;
  config.metadata_self = world;
  config.virtual_storages = groups;
  config.n_virtual_storages = 1;
  config.storages = storages;
  config.n_storages = 1;
  rig->metrics = gsi_metrics_new (100);
  rig->workers = gsi_pool_new ("w", 2, 16, NULL);
  rig->streams = gsi_pool_new ("s", 1, 16, NULL);
  gsi_rpc_limits_default (&limits);
  rig->rpc = gsi_rpc_new (&limits, rig->workers, rig->streams, NULL, rig->metrics, NULL);
  rig->router = gsi_router_new (&config);
  gsi_rpc_set_access (rig->rpc, &door, NULL);
  bindings = gsi_router_bindings (gsi_rpc_methods (rig->rpc));
  assert_true (gsi_rpc_handle_all (rig->rpc, bindings, rig->router, NULL));
}

static void
rig_down (Rig *rig)
{
  gsi_rpc_stop (rig->rpc);
  gsi_router_stop (rig->router);
  gsi_pool_free (rig->streams);
  gsi_pool_free (rig->workers);
  fake_host_free (rig->host);
  gsi_router_free (rig->router);
  gsi_rpc_free (rig->rpc);
  gsi_metrics_free (rig->metrics);
}

/* Sends one Ref/Update and waits for its end. The reply's generation, 0 for a failure or no receipt. */
static guint64
update (Rig *rig, GsErrorCode *ret_code, char **ret_message)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RefUpdate one = GITSTEAD__V1__REF_UPDATE__INIT, *updates[] = { &one };
  Gitstead__V1__RefUpdateRequest request = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  Answer answer = { .over = FALSE };
  GsInbound inbound = { .size = sizeof inbound, .method = 202, .done = on_done, .user = &answer, .peer = "test" };
  g_autoptr (GBytes) payload = NULL;
  guint64 generation = 0;

  repository.path = (char *) "a";
  one.name.data = (guint8 *) "refs/heads/x";
  one.name.len = strlen ("refs/heads/x");
  one.new_oid = (char *) "1111111111111111111111111111111111111111";
  request.repository = &repository;
  request.updates = updates;
  request.n_updates = 1;
  payload = gs_wire_encode (&request.base);
  inbound.payload = payload;
  gs_mutex_init (&answer.lock);
  gs_cond_init (&answer.ended);
  gsi_rpc_begin (rig->rpc, &inbound);
  gs_mutex_lock (&answer.lock);
  while (!answer.over)
    gs_cond_wait (&answer.ended, &answer.lock);
  gs_mutex_unlock (&answer.lock);
  if (answer.payload != NULL)
    {
      Gitstead__V1__RefUpdateReply *reply = gitstead__v1__ref_update_reply__unpack (
          NULL, g_bytes_get_size (answer.payload), g_bytes_get_data (answer.payload, NULL));
      generation = reply->receipt != NULL ? reply->receipt->generation : 0;
      gitstead__v1__ref_update_reply__free_unpacked (reply, NULL);
      g_bytes_unref (answer.payload);
    }
  *ret_code = answer.code;
  g_free (*ret_message);
  *ret_message = answer.message;
  gs_cond_clear (&answer.ended);
  gs_mutex_clear (&answer.lock);
  return generation;
}

/* ------------------------------------------------------------------------------------------- cases */

typedef struct
{
  const char *name;
  Say says[3];
  guint n_says, n_silent;
  gboolean stage_fails, nothing, refuse, commit_fails;
  GsErrorCode code;
  guint64 generation; /* of the receipt */
  guint n_committed, n_aborted;
  const char *says_text;
} Case;

static const Case cases[] = {
  { "decided at once", { SAY_YES }, 1, .generation = 4, .n_committed = 1 },
  { "retried at the new generation", { SAY_MOVED_ON, SAY_MOVED_ON, SAY_YES }, 3, .generation = 6, .n_committed = 1 },
  { "not decided with one that missed another write", { SAY_LEFT_BEHIND, SAY_YES }, 2, .code = GS_ERROR_ABORTED,
    .n_aborted = 1 },
  { "an abort mark drops it", { SAY_ABORTED }, 1, .code = GS_ERROR_FAILED_PRECONDITION, .n_aborted = 1,
    .says_text = "abort mark" },
  { "no answer, found decided", { SAY_NOTHING_TAKEN }, 1, .n_silent = 2, .generation = 4, .n_committed = 1 },
  { "no answer, found undecided", { SAY_NOTHING_DONE }, 1, .n_silent = 1, .code = GS_ERROR_UNKNOWN, .n_aborted = 1 },
  { "cannot be staged", { SAY_YES }, 1, .stage_fails = TRUE, .code = GS_ERROR_UNAVAILABLE, .says_text = "disk is full" },
  { "refused by the storage", { SAY_YES }, 1, .refuse = TRUE, .code = GS_ERROR_FAILED_PRECONDITION, .n_aborted = 1,
    .says_text = "cannot update 'refs/heads/x' of repository 'a.git': stale value" },
  { "nothing to do", { SAY_YES }, 1, .nothing = TRUE, .n_aborted = 1 },
  { "decided but not applied is settled later", { SAY_YES }, 1, .commit_fails = TRUE, .generation = 4 },
};

static void
every_answer (void **state)
{
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      const Case *one = &cases[i];
      World world = { .generation = 3, .replica_generation = 3, .says = one->says, .n_says = one->n_says,
                      .n_silent = one->n_silent, .stage_fails = one->stage_fails, .nothing = one->nothing,
                      .refuse = one->refuse, .commit_fails = one->commit_fails };
      g_autofree char *message = NULL;
      GsErrorCode code;
      guint64 generation;
      Rig rig;

      rig_up (&rig, &world);
      generation = update (&rig, &code, &message);
      if (code != one->code || generation != one->generation)
        fail_msg ("%s: code %s, generation %" G_GUINT64_FORMAT ": %s", one->name, gs_error_name (code), generation,
                  message);
      assert_int_equal (world.n_committed, one->n_committed);
      assert_int_equal (world.n_aborted, one->n_aborted);
      if (one->says_text != NULL && strstr (message, one->says_text) == NULL)
        fail_msg ("%s: the message is \"%s\"", one->name, message);
      if (one->generation != 0)
        {
          assert_int_equal (world.seen.generation, one->generation);
          assert_int_equal (world.digest.bytes[0], 3);
          assert_memory_equal (&world.seen.refs_digest, &world.digest, sizeof world.digest);
        }
      if (one->commit_fails)
        {
          assert_int_equal (world.replica_generation, 3);
          assert_int_equal (fake_host_logged (rig.host, "write.apply.failed"), 1);
          assert_true (gsi_router_recover (rig.router, NULL));
          assert_int_equal (world.n_resolved, 1);
          assert_int_equal (world.seen.generation, 4);
          assert_int_equal (world.replica_generation, 4);
        }
      rig_down (&rig);
    }
}

/* What an earlier process left: undecided writes get an abort mark before they are dropped. */
static void
recovery_aborts (void **state)
{
  static const Say yes[] = { SAY_YES };
  World world = { .generation = 3, .replica_generation = 3, .says = yes, .n_says = 1, .pending = TRUE };
  Rig rig;
  rig_up (&rig, &world);
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_true (world.aborted_mark);
  assert_int_equal (world.n_resolved, 1);
  assert_int_equal (world.seen.generation, 0);

  /* A store that does not answer leaves it as it is. */
  world.pending = TRUE;
  world.n_silent = 1;
  {
    g_autoptr (GError) error = NULL;
    assert_false (gsi_router_recover (rig.router, &error));
    assert_non_null (strstr (error->message, "storage 'disk'"));
    assert_true (world.pending);
  }
  rig_down (&rig);
}

/* A decided write that the disk cannot finish closes its repository, not the server; when it is done, all goes on. */
static void
recovery_waits_for_the_disk (void **state)
{
  static const Say yes[] = { SAY_YES };
  World world = { .generation = 4, .replica_generation = 4, .says = yes, .n_says = 1, .pending = TRUE, .decided = TRUE,
                  .resolve_fails = TRUE, .applied = 3 };
  g_autofree char *message = NULL;
  GsErrorCode code;
  Rig rig;
  rig_up (&rig, &world);
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_int_equal (world.replica_generation, 3);
  assert_int_equal (fake_host_logged (rig.host, "write.settle.failed"), 1);
  assert_int_equal (update (&rig, &code, &message), 0);
  assert_int_equal (code, GS_ERROR_FAILED_PRECONDITION);
  assert_non_null (strstr (message, "read-only until one is repaired"));

  /* It caught up behind the record's back, as a restart does: the storage is asked, and the record follows. */
  world.applied = 4;
  assert_int_equal (update (&rig, &code, &message), 5);
  assert_int_equal (code, GS_OK);
  assert_int_equal (world.replica_generation, 5);
  rig_down (&rig);
}

/* What was decided without the vote of a storage is dropped there: its replica lacks what came before as well. */
static void
recovery_of_who_was_left_behind (void **state)
{
  World world = { .generation = 4, .replica_generation = 2, .pending = TRUE, .decided = TRUE, .voter = "another" };
  Rig rig;
  rig_up (&rig, &world);
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_int_equal (world.n_resolved, 1);
  assert_int_equal (world.seen.generation, 0);
  assert_int_equal (world.replica_generation, 2);
  rig_down (&rig);
}

/* It applies what it voted for, and is not taken for current, as it lacks something before. */
static void
recovery_with_a_gap (void **state)
{
  World world = { .generation = 4, .replica_generation = 2, .pending = TRUE, .decided = TRUE };
  Rig rig;
  rig_up (&rig, &world);
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_int_equal (world.n_resolved, 1);
  assert_int_equal (world.seen.generation, 4);
  assert_int_equal (world.replica_generation, 2);

  /* One that cannot be applied now does not raise the record of a replica that is behind anyway. */
  world.pending = world.resolve_fails = TRUE;
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_int_equal (world.replica_generation, 2);
  rig_down (&rig);
}

/* A storage that got another name is no reason to throw away what was decided. */
static void
recovery_under_another_name (void **state)
{
  World world = { .generation = 4, .replica_generation = 4, .pending = TRUE, .decided = TRUE, .replica = "old-name",
                  .voter = "old-name" };
  Rig rig;
  rig_up (&rig, &world);
  assert_true (gsi_router_recover (rig.router, NULL));
  assert_true (world.pending);
  assert_int_equal (world.n_resolved, 0);
  assert_int_equal (world.replica_generation, 4);
  assert_int_equal (fake_host_logged (rig.host, "write.settle.failed"), 1);
  rig_down (&rig);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (every_answer),        cmocka_unit_test (recovery_aborts),
          cmocka_unit_test (recovery_waits_for_the_disk), cmocka_unit_test (recovery_of_who_was_left_behind),
          cmocka_unit_test (recovery_with_a_gap), cmocka_unit_test (recovery_under_another_name) };
  return cmocka_run_group_tests_name ("write", tests, NULL, NULL);
}
