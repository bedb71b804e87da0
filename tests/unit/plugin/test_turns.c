/* SPDX-License-Identifier: Apache-2.0 */
/* Plugins that declare how much at once they tolerate get no more through the table that the registry hands out. */
#include "registry_case.h"

#include "plugin/turns.h"

#include <gitstead/storage.h>
#include <gitstead/thread.h>

/* Longer than any test waits where all is well. */
#define WAIT_US (20 * G_USEC_PER_SEC)

static const char config[] = "metadata: {plugin: fake}\n"
                             "access: {plugin: fake}\n"
                             "cache: {plugin: fake}\n"
                             "storages:\n"
                             "- {name: serial, plugin: serial}\n"
                             "- {name: apart, plugin: apart}\n"
                             "- {name: parallel, plugin: fake}\n"
                             "virtual_storages:\n"
                             "- {name: main, storages: [serial], routing: {plugin: fake}, consistency: {plugin: fake}}\n"
                             "transports: [{plugin: fake}]\n";

static int
set_up (void **state)
{
  g_autofree char *path = g_strconcat (g_getenv ("GITSTEAD_TEST_TURNS"), ":", g_getenv ("GITSTEAD_TEST_FAKES"), NULL);
  Fixture *fixture = fixture_new (path, FALSE);
  g_autoptr (GError) error = NULL;
  fixture->registry = parse_yaml (fixture, config, &error);
  if (fixture->registry == NULL || !gsi_registry_create (fixture->registry, &fixture->setup, &error))
    fail_msg ("%s", error->message);
  *state = fixture;
  return 0;
}

static int
tear_down (void **state)
{
  return fixture_free (*state);
}

static int
no_fd (GsCall *call)
{
  return -1;
}

static GsCall
new_call (gint64 deadline_us)
{
  return (GsCall){ .size = sizeof (GsCall), .deadline_us = deadline_us, .cancel_fd = no_fd };
}

static GsRepo
new_repo (guint64 id)
{
  return (GsRepo){ .size = sizeof (GsRepo), .id = id };
}

/* What the plugin saw: every call, or those of the repository. */
static GsRepoSize
seen_by (GsiInstance *instance, guint64 repository_id)
{
  GsCall call = new_call (G_MAXINT64);
  GsRepo repo = new_repo (repository_id);
  GsRepoSize size = { .size = sizeof size };
  assert_true (GSI_OPS (instance, GsStorageOps)->measure (GSI_SELF (instance), &call, &repo, &size, NULL));
  return size;
}

/* ------------------------------------------------------------------------------------------- crowds */

#define N_THREADS 4
#define N_ROUNDS 60 /* the plugin yields twice in each call: a time slice each where the machine is busy */
#define CALLS_A_ROUND 5

typedef struct
{
  GsiInstance *instance;
  guint64 first_id, n_failed; /* a thread's own */
} Caller;

/* cmocka's assertions are for the test's own thread. */
static void *
call_often (void *data)
{
  Caller *caller = data;
  const GsStorageOps *ops = GSI_OPS (caller->instance, GsStorageOps);
  gpointer self = GSI_SELF (caller->instance);
  GsCall call = new_call (G_MAXINT64);

  for (guint64 i = 0; i < N_ROUNDS; i++)
    {
      GsRepo repo = new_repo (1 + (caller->first_id + i) % 2);
      GsReplicaState state = { .size = sizeof state };
      GsQuery query = { .size = sizeof query };
      GsComputed *computed = NULL;
      const GsVote *vote;
      gpointer txn = NULL;
      if (!ops->state (self, &call, &repo, &state, NULL) || state.repository_id != repo.id
          || !ops->compute (self, &call, &repo, &query, &computed, NULL)
          || !ops->stage (self, &call, &repo, NULL, &txn, &vote, NULL))
        {
          caller->n_failed++;
          continue;
        }
      ops->computed_free (self, computed);
      if (i % 2 == 0)
        caller->n_failed += !ops->commit (self, &call, txn, NULL, NULL);
      else
        ops->abort (self, &call, txn, NULL);
    }
  return NULL;
}

static void
crowd (GsiInstance *instance)
{
  Caller callers[N_THREADS];
  GsThread threads[N_THREADS];

  for (guint i = 0; i < N_THREADS; i++)
    {
      callers[i] = (Caller){ .instance = instance, .first_id = i };
      assert_int_equal (gs_thread_start (&threads[i], "caller", call_often, &callers[i]), 0);
    }
  for (guint i = 0; i < N_THREADS; i++)
    gs_thread_join (threads[i]);
  for (guint i = 0; i < N_THREADS; i++)
    assert_int_equal (callers[i].n_failed, 0);
}

static void
test_serial_gets_one_call_at_a_time (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *serial = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "serial");
  GsRepoSize size;

  crowd (serial);
  size = seen_by (serial, 1);
  assert_int_equal (size.n_refs, 0);
  assert_int_equal (size.n_packs, N_THREADS * N_ROUNDS * CALLS_A_ROUND + 1);
}

static void
test_per_repository_gets_one_each (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *apart = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "apart");

  crowd (apart);
  for (guint64 id = 1; id <= 2; id++)
    {
      GsRepoSize size = seen_by (apart, id);
      assert_int_equal (size.n_refs, 0);
      assert_int_equal (size.n_packs, N_THREADS * N_ROUNDS * CALLS_A_ROUND / 2 + 1);
    }
}

/* ------------------------------------------------------------------------------------------ waiting */

/* A call that stays in its callback until it is let go. */
typedef struct
{
  GsiInstance *instance;
  guint64 repository_id;
  GsThread thread;
  GsMutex lock;
  GsCond changed;
  gboolean inside, go, ok;
} Holder;

static gboolean
stay (const GsRef *ref, gpointer user)
{
  Holder *holder = user;
  gs_mutex_lock (&holder->lock);
  holder->inside = TRUE;
  gs_cond_broadcast (&holder->changed);
  while (!holder->go)
    gs_cond_wait (&holder->changed, &holder->lock);
  gs_mutex_unlock (&holder->lock);
  return TRUE;
}

static void *
hold (void *data)
{
  Holder *holder = data;
  GsCall call = new_call (G_MAXINT64);
  GsRepo repo = new_repo (holder->repository_id);
  holder->ok = GSI_OPS (holder->instance, GsStorageOps)
                   ->list_refs (GSI_SELF (holder->instance), &call, &repo, NULL, stay, holder, NULL);
  return NULL;
}

static void
hold_turn (Holder *holder, GsiInstance *instance, guint64 repository_id)
{
  *holder = (Holder){ .instance = instance, .repository_id = repository_id };
  gs_mutex_init (&holder->lock);
  gs_cond_init (&holder->changed);
  assert_int_equal (gs_thread_start (&holder->thread, "holder", hold, holder), 0);
  gs_mutex_lock (&holder->lock);
  while (!holder->inside)
    gs_cond_wait (&holder->changed, &holder->lock);
  gs_mutex_unlock (&holder->lock);
}

static void
let_go (Holder *holder)
{
  gs_mutex_lock (&holder->lock);
  holder->go = TRUE;
  gs_cond_broadcast (&holder->changed);
  gs_mutex_unlock (&holder->lock);
  gs_thread_join (holder->thread);
  assert_true (holder->ok);
  gs_cond_clear (&holder->changed);
  gs_mutex_clear (&holder->lock);
}

static void
assert_state (GsiInstance *instance, guint64 repository_id, GsCall *call, int code)
{
  g_autoptr (GError) error = NULL;
  GsRepo repo = new_repo (repository_id);
  GsReplicaState state = { .size = sizeof state };
  gboolean ok = GSI_OPS (instance, GsStorageOps)->state (GSI_SELF (instance), call, &repo, &state, &error);

  assert_int_equal (ok, code == GS_OK);
  assert_int_equal (state.repository_id, ok ? repository_id : 0);
  if (ok)
    return;
  assert_true (g_error_matches (error, GS_ERROR, code));
  assert_has (error->message, "Waiting for a turn on storage ");
}

static gboolean
count_visits (const GsRepo *repo, gpointer user)
{
  (*(guint *) user)++;
  return TRUE;
}

/* Who has to wait does so until his call is over, and the plugin is not called. */
static void
test_calls_wait_no_longer_than_they_may (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *serial = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "serial");
  GsiInstance *apart = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "apart");
  GsCall late = new_call (0), cancelled = new_call (G_MAXINT64), soon = new_call (g_get_monotonic_time () + 20000);
  GsCall patient = new_call (g_get_monotonic_time () + WAIT_US);
  guint n = 0;
  Holder one, other;

  cancelled.cancelled = 1;
  hold_turn (&one, serial, 7);
  hold_turn (&other, apart, 7);
  assert_state (serial, 7, &late, GS_ERROR_DEADLINE_EXCEEDED);
  assert_state (serial, 8, &soon, GS_ERROR_DEADLINE_EXCEEDED);
  assert_state (serial, 8, &cancelled, GS_ERROR_CANCELLED);
  assert_false (GSI_OPS (serial, GsStorageOps)->list (GSI_SELF (serial), &late, count_visits, &n, NULL));
  assert_int_equal (n, 0);

  assert_state (apart, 7, &late, GS_ERROR_DEADLINE_EXCEEDED);
  assert_state (apart, 7, &cancelled, GS_ERROR_CANCELLED);
  assert_state (apart, 8, &patient, GS_OK);
  assert_true (GSI_OPS (apart, GsStorageOps)->list (GSI_SELF (apart), &patient, count_visits, &n, NULL));
  assert_int_equal (n, 1);
  let_go (&one);
  let_go (&other);
  assert_state (serial, 7, &patient, GS_OK);
  assert_state (apart, 7, &patient, GS_OK);
  /* The list_refs of the holder, one state, and this one. */
  assert_int_equal (seen_by (serial, 7).n_packs, 3);
  assert_int_equal (seen_by (apart, 7).n_packs, 3);
}

/* A stream may be waited for by what has the turn. */
static void
test_streams_are_told_busy (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *serial = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "serial");
  const GsStorageOps *ops = GSI_OPS (serial, GsStorageOps);
  GsCall patient = new_call (g_get_monotonic_time () + WAIT_US);
  GsRepo repo = new_repo (7);
  g_autoptr (GError) error = NULL;
  Holder holder;

  serial->patience_us = 20000;
  hold_turn (&holder, serial, 7);
  assert_false (ops->stream_object (GSI_SELF (serial), &patient, &repo, NULL, NULL, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_BUSY));
  assert_has (error->message, "storage serial: its plugin serial takes one call at a time (threads serial)");
  let_go (&holder);
  assert_true (ops->stream_object (GSI_SELF (serial), &patient, &repo, NULL, NULL, NULL));
}

typedef struct
{
  GsiInstance *instance;
  gpointer txn;
  GsMutex lock;
  GsCond changed;
  gboolean done, ok;
} Committer;

static void *
commit_late (void *data)
{
  Committer *committer = data;
  GsCall late = new_call (0);
  gboolean ok = GSI_OPS (committer->instance, GsStorageOps)
                    ->commit (GSI_SELF (committer->instance), &late, committer->txn, NULL, NULL);
  gs_mutex_lock (&committer->lock);
  committer->ok = ok;
  committer->done = TRUE;
  gs_cond_broadcast (&committer->changed);
  gs_mutex_unlock (&committer->lock);
  return NULL;
}

/* A staged write is taken along by its commit, which cannot be left out: it waits, also when its call is over. */
static void
test_commit_waits_for_its_repository (void **state)
{
  Fixture *fixture = *state;
  static const char *const names[] = { "serial", "apart" };

  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      GsiInstance *instance = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, names[i]);
      GsCall call = new_call (G_MAXINT64);
      GsRepo repo = new_repo (7);
      Committer committer = { .instance = instance };
      gint64 until_us;
      const GsVote *vote;
      Holder holder;
      GsThread thread;

      gs_mutex_init (&committer.lock);
      gs_cond_init (&committer.changed);
      assert_true (GSI_OPS (instance, GsStorageOps)
                       ->stage (GSI_SELF (instance), &call, &repo, NULL, &committer.txn, &vote, NULL));
      hold_turn (&holder, instance, 7);
      assert_int_equal (gs_thread_start (&thread, "committer", commit_late, &committer), 0);
      until_us = g_get_monotonic_time () + 50000;
      gs_mutex_lock (&committer.lock);
      while (!committer.done && gs_cond_wait_until (&committer.changed, &committer.lock, until_us))
        ;
      assert_false (committer.done);
      gs_mutex_unlock (&committer.lock);
      let_go (&holder);
      gs_thread_join (thread);
      assert_true (committer.ok);
      assert_int_equal (seen_by (instance, 7).n_refs, 0);
      gs_cond_clear (&committer.changed);
      gs_mutex_clear (&committer.lock);
    }
}

typedef struct
{
  GsiInstance *instance;
  gpointer txn;
  GError *error;
  gboolean ok;
} Nested;

static gboolean
call_back_in (const GsRef *ref, gpointer user)
{
  Nested *nested = user;
  const GsStorageOps *ops = GSI_OPS (nested->instance, GsStorageOps);
  GsCall call = new_call (G_MAXINT64);
  GsRepo repo = new_repo (7);
  GsReplicaState found = { .size = sizeof found };
  nested->ok = ops->state (GSI_SELF (nested->instance), &call, &repo, &found, &nested->error);
  ops->abort (GSI_SELF (nested->instance), &call, nested->txn, NULL);
  return TRUE;
}

/* Waiting for oneself would have no end. */
static void
test_callbacks_do_not_wait_for_themselves (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *serial = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "serial");
  const GsStorageOps *ops = GSI_OPS (serial, GsStorageOps);
  GsCall call = new_call (G_MAXINT64);
  GsRepo repo = new_repo (7);
  Nested nested = { .instance = serial };
  const GsVote *vote;

  assert_true (ops->stage (GSI_SELF (serial), &call, &repo, NULL, &nested.txn, &vote, NULL));
  assert_true (ops->list_refs (GSI_SELF (serial), &call, &repo, NULL, call_back_in, &nested, NULL));
  assert_false (nested.ok);
  assert_true (g_error_matches (nested.error, GS_ERROR, GS_ERROR_INTERNAL));
  assert_has (nested.error->message, "Calling storage serial (plugin serial) from a callback of one of its own calls");
  g_error_free (nested.error);
  /* The turn was given back as often as it was taken. */
  assert_int_equal (seen_by (serial, 7).n_packs, 4);
}

/* ------------------------------------------------------------------------------------------- tables */

static void
test_only_who_asks_gets_turns (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *parallel = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "parallel");
  GsiInstance *serial = gsi_registry_get (fixture->registry, GS_KIND_STORAGE, "serial");

  assert_ptr_equal (gsi_instance (parallel)->ops, gsi_instance_plugin (parallel)->ops);
  assert_ptr_equal (GSI_SELF (parallel), parallel->pub.self);
  assert_ptr_not_equal (gsi_instance (serial)->ops, gsi_instance_plugin (serial)->ops);
  /* What the plugin lacks is lacking. */
  assert_null (GSI_OPS (serial, GsStorageOps)->probe);
  assert_null (GSI_OPS (serial, GsStorageOps)->query);
  assert_non_null (GSI_OPS (serial, GsStorageOps)->compute);
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    {
      const gpointer *table = gsi_turn_tables[kind];
      assert_int_equal (table != NULL, gsi_kind_takes_threads (kind, GS_THREADS_SERIAL));
      for (gsize i = 0; table != NULL && i < gsi_kind_ops_size (kind) / sizeof (gpointer); i++)
        assert_non_null (table[i]);
    }
}

static void
test_what_cannot_be_kept_is_refused (void **state)
{
  static const struct
  {
    guint32 kind;
    const char *says;
  } rows[] = {
    { GS_KIND_TRANSPORT, "the transport plugin \"refused\" declares threads serial, which a transport cannot: its slots are "
                         "called while others of it are under way. Declare GS_THREADS_PARALLEL, and see" },
    { GS_KIND_LAYER, "the layer plugin \"refused\" declares threads serial, which a layer cannot" },
    { GS_KIND_CACHE, "the cache plugin \"refused\" declares threads per-repository, which a cache cannot: its slots do not "
                     "say which repository a call is about. Declare GS_THREADS_PARALLEL or GS_THREADS_SERIAL, and see" },
    { GS_KIND_STORAGE, "the storage plugin \"refused\" declares threads per-repository and has probe, which is called "
                       "whatever else is under way. Declare GS_THREADS_PARALLEL or leave probe NULL" },
    { GS_KIND_METADATA, "the metadata plugin \"refused\" declares threads serial and has wait_hint, which" },
  };
  Fixture *fixture = *state;

  for (guint i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autoptr (GError) error = NULL;
      assert_null (gsi_loader_load (gsi_registry_loader (fixture->registry), rows[i].kind, "refused", &error));
      assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_FAILED_PRECONDITION));
      assert_has (error->message, rows[i].says);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
#define TEST(function_) cmocka_unit_test_setup_teardown (function_, set_up, tear_down)
    TEST (test_serial_gets_one_call_at_a_time),
    TEST (test_per_repository_gets_one_each),
    TEST (test_calls_wait_no_longer_than_they_may),
    TEST (test_streams_are_told_busy),
    TEST (test_commit_waits_for_its_repository),
    TEST (test_callbacks_do_not_wait_for_themselves),
    TEST (test_only_who_asks_gets_turns),
    TEST (test_what_cannot_be_kept_is_refused),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
