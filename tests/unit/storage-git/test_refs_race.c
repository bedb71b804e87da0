/* SPDX-License-Identifier: Apache-2.0 */
/* Threads on one ref store: readers see whole commits, nobody's write is lost, packing hides nothing. */
#include "refs_fixture.h"

#include "refs_internal.h"

#include <gitstead/thread.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#define WRITERS 4
#define ROUNDS 200

typedef struct
{
  Repo *repo;
  RefStore *store;
  gint stop, failures; /* atomic */
  gint commits, snapshots;
} Race;

typedef struct
{
  Race *race;
  guint number;
} Worker;

static void
failed (Race *race, const char *what)
{
  /* Failing asserts only in the main thread: count here, print for whoever looks. */
  g_printerr ("# %s\n", what);
  g_atomic_int_inc (&race->failures);
}

static void
race_open (Race *race)
{
  RefStoreOptions options;
  memset (race, 0, sizeof *race);
  if (access ("/dev/shm", W_OK) == 0)
    g_setenv ("TMPDIR", "/dev/shm", FALSE);
  race->repo = repo_new ();
  options = repo_options (race->repo);
  options.note = NULL;
  options.lock_wait_us = 60 * G_USEC_PER_SEC;
  race->store = ref_store_open (race->repo->dir, &options, NULL);
}

static void
race_close (Race *race)
{
  assert_like_git (race->repo, race->store);
  {
    g_autofree char *listing = tree_listing (race->repo);
    assert_null (strstr (listing, ".lock"));
    assert_null (strstr (listing, REF_JOURNAL_DIR "/"));
  }
  ref_store_free (race->store);
  repo_free (race->repo);
}

/** One transaction. 1: committed; 0: refused. */
static int
write_refs (Race *race, const GsRefUpdate *updates, gsize n)
{
  GsTxId txid = next_txid ();
  GsRefVerdict verdicts[4];
  RefTxn *txn = NULL;
  if (!ref_store_prepare (race->store, NULL, &txid, updates, n, TRUE, NULL, verdicts, &txn, NULL))
    {
      failed (race, "prepare");
      return 0;
    }
  verdicts_clear (verdicts, n);
  if (txn == NULL)
    return 0;
  if (!ref_txn_commit (txn, 1, NULL))
    failed (race, "commit");
  if (!ref_txn_finish (txn, NULL))
    failed (race, "finish");
  g_atomic_int_inc (&race->commits);
  return 1;
}

static gboolean
find (Race *race, const char *name, GsOid *ret_oid)
{
  RefSnapshot *snapshot = ref_store_snapshot (race->store, NULL);
  RefEntry entry = { 0 };
  gboolean found = snapshot != NULL && ref_snapshot_find (snapshot, name, &entry);
  if (snapshot == NULL)
    failed (race, "snapshot");
  ref_snapshot_unref (snapshot);
  *ret_oid = entry.oid;
  return found;
}

static void *
packs (void *user)
{
  Race *race = user;
  while (!g_atomic_int_get (&race->stop))
    if (!ref_store_pack (race->store, TRUE, NULL))
      failed (race, "pack");
  return NULL;
}

/* ----------------------------------------------------------------------------- whole commits only */

static void *
writes_pairs (void *user)
{
  Worker *worker = user;
  Race *race = worker->race;
  g_autofree char *left = g_strdup_printf ("refs/heads/w%u/left", worker->number);
  g_autofree char *right = g_strdup_printf ("refs/tags/w%u/right", worker->number);
  for (guint i = 0; i < ROUNDS; i++)
    {
      GsOid value = i % 5 == 4 ? zero_oid () : race->repo->commits[i % N_COMMITS], now;
      GsRefUpdate updates[] = { SET (left, ANY, value), SET (right, ANY, value) };
      gboolean found;
      if (!write_refs (race, updates, 2))
        failed (race, "an undisputed write was refused");
      found = find (race, left, &now);
      if (found == gs_oid_is_zero (&value) || (found && !gs_oid_equal (&now, &value)))
        failed (race, "a writer does not see its own commit");
    }
  return NULL;
}

static void *
reads_pairs (void *user)
{
  Race *race = user;
  while (!g_atomic_int_get (&race->stop))
    {
      RefSnapshot *snapshot = ref_store_snapshot (race->store, NULL);
      if (snapshot == NULL)
        {
          failed (race, "snapshot");
          return NULL;
        }
      for (guint i = 0; i < WRITERS; i++)
        {
          g_autofree char *left = g_strdup_printf ("refs/heads/w%u/left", i);
          g_autofree char *right = g_strdup_printf ("refs/tags/w%u/right", i);
          RefEntry a = { 0 }, b = { 0 };
          gboolean has_left = ref_snapshot_find (snapshot, left, &a), has_right = ref_snapshot_find (snapshot, right, &b);
          if (has_left != has_right || (has_left && !gs_oid_equal (&a.oid, &b.oid)))
            failed (race, "half a commit was seen");
        }
      g_atomic_int_inc (&race->snapshots);
      ref_snapshot_unref (snapshot);
    }
  return NULL;
}

static void
test_whole_commits (void **state)
{
  Race race;
  Worker workers[WRITERS];
  GsThread writers[WRITERS], readers[2], packer;
  race_open (&race);
  for (guint i = 0; i < 2; i++)
    assert_int_equal (gs_thread_start (&readers[i], "reader", reads_pairs, &race), 0);
  assert_int_equal (gs_thread_start (&packer, "packer", packs, &race), 0);
  for (guint i = 0; i < WRITERS; i++)
    {
      workers[i] = (Worker) { &race, i };
      assert_int_equal (gs_thread_start (&writers[i], "writer", writes_pairs, &workers[i]), 0);
    }
  for (guint i = 0; i < WRITERS; i++)
    gs_thread_join (writers[i]);
  g_atomic_int_set (&race.stop, 1);
  for (guint i = 0; i < 2; i++)
    gs_thread_join (readers[i]);
  gs_thread_join (packer);
  assert_int_equal (race.failures, 0);
  assert_int_equal (race.commits, WRITERS * ROUNDS);
  assert_true (race.snapshots > 0);
  race_close (&race);
}

/* ------------------------------------------------------------------------- compare and swap counts */

static int
index_of (Race *race, const GsOid *oid)
{
  for (int i = 0; i < N_COMMITS; i++)
    if (gs_oid_equal (oid, &race->repo->commits[i]))
      return i;
  return -1;
}

/** Each success moves the ref exactly one on: at the end it stands where the number of successes says. */
static void *
counts (void *user)
{
  Race *race = user;
  for (guint won = 0; won < ROUNDS / 2;)
    {
      GsOid now;
      GsRefUpdate update;
      if (!find (race, "refs/heads/counter", &now))
        {
          failed (race, "the counter vanished");
          return NULL;
        }
      update = SET ("refs/heads/counter", now, race->repo->commits[(index_of (race, &now) + 1) % N_COMMITS]);
      won += (guint) write_refs (race, &update, 1);
    }
  return NULL;
}

static void
test_no_update_is_lost (void **state)
{
  Race race;
  GsThread threads[WRITERS], packer;
  GsOid now;
  race_open (&race);
  apply_one (race.store, "refs/heads/counter", ANY, race.repo->commits[0]);
  assert_int_equal (gs_thread_start (&packer, "packer", packs, &race), 0);
  for (guint i = 0; i < WRITERS; i++)
    assert_int_equal (gs_thread_start (&threads[i], "counter", counts, &race), 0);
  for (guint i = 0; i < WRITERS; i++)
    gs_thread_join (threads[i]);
  g_atomic_int_set (&race.stop, 1);
  gs_thread_join (packer);
  assert_int_equal (race.failures, 0);
  assert_int_equal (race.commits, WRITERS * (ROUNDS / 2));
  assert_true (find (&race, "refs/heads/counter", &now));
  assert_int_equal (index_of (&race, &now), race.commits % N_COMMITS);
  race_close (&race);
}

/* ------------------------------------------------------------------------------ directory and file */

static void *
makes_and_removes (void *user)
{
  static const char *const names[] = { "refs/heads/d", "refs/heads/d/e", "refs/heads/d/e/f", "refs/heads/d/g" };
  Worker *worker = user;
  for (guint i = 0; i < ROUNDS; i++)
    {
      GsRefUpdate make = SET (names[worker->number], zero_oid (), worker->race->repo->commits[0]);
      GsRefUpdate drop = SET (names[worker->number], worker->race->repo->commits[0], zero_oid ());
      if (write_refs (worker->race, &make, 1) && !write_refs (worker->race, &drop, 1))
        failed (worker->race, "what we made could not be removed");
    }
  return NULL;
}

static void *
reads_conflicts (void *user)
{
  Race *race = user;
  while (!g_atomic_int_get (&race->stop))
    {
      RefSnapshot *snapshot = ref_store_snapshot (race->store, NULL);
      gsize n = snapshot ? ref_snapshot_count (snapshot) : 0;
      for (gsize i = 1; i < n; i++)
        {
          RefEntry above, below;
          ref_snapshot_get (snapshot, i - 1, &above);
          ref_snapshot_get (snapshot, i, &below);
          if (g_str_has_prefix (below.name, above.name) && below.name[above.name_len] == '/')
            failed (race, "a ref is the directory of another");
        }
      ref_snapshot_unref (snapshot);
    }
  return NULL;
}

static void
test_directory_against_file (void **state)
{
  Race race;
  Worker workers[4];
  GsThread threads[4], reader, packer;
  race_open (&race);
  assert_int_equal (gs_thread_start (&reader, "reader", reads_conflicts, &race), 0);
  assert_int_equal (gs_thread_start (&packer, "packer", packs, &race), 0);
  for (guint i = 0; i < 4; i++)
    {
      workers[i] = (Worker) { &race, i };
      assert_int_equal (gs_thread_start (&threads[i], "writer", makes_and_removes, &workers[i]), 0);
    }
  for (guint i = 0; i < 4; i++)
    gs_thread_join (threads[i]);
  g_atomic_int_set (&race.stop, 1);
  gs_thread_join (reader);
  gs_thread_join (packer);
  assert_int_equal (race.failures, 0);
  assert_true (race.commits > 0);
  race_close (&race);
}

/* ------------------------------------------------------------------- two writers, two replicas */

/* One of two writers of a ref that has two replicas: it begins with one of them, the other writer with the other one. */
typedef struct
{
  RefStore *stores[2];
  GsTxId txid;
  GsRefUpdate update;
  pthread_barrier_t *met; /* both hold their first lock */
  gboolean won;
  GsErrorCode why;
} Meeting;

static RefTxn *
prepare_there (Meeting *meeting, int store)
{
  GsRefVerdict verdict = { 0 };
  RefTxn *txn = NULL;
  ref_store_prepare (meeting->stores[store], NULL, &meeting->txid, &meeting->update, 1, TRUE, NULL, &verdict, &txn, NULL);
  meeting->why = verdict.code;
  g_free (verdict.reason);
  return txn;
}

static void *
meet (void *data)
{
  Meeting *meeting = data;
  RefTxn *first = prepare_there (meeting, 0), *second;
  pthread_barrier_wait (meeting->met);
  second = prepare_there (meeting, 1);
  meeting->won = first != NULL && second != NULL;
  /* Whoever has not both gives up what it has; whoever has, is decided. */
  if (meeting->won)
    {
      ref_txn_commit (first, 1, NULL);
      ref_txn_finish (first, NULL);
      ref_txn_commit (second, 1, NULL);
      ref_txn_finish (second, NULL);
    }
  else
    {
      ref_txn_abort (first);
      ref_txn_abort (second);
    }
  return NULL;
}

/* Each holds what the other one wants: one of them gets both, whichever began where. */
static void
test_writers_meet (void **state)
{
  for (int turn = 0; turn < 2; turn++)
    {
      Race here, there;
      pthread_barrier_t met;
      Meeting one, other;
      GsThread threads[2];
      RefStoreOptions options;
      assert_int_equal (pthread_barrier_init (&met, NULL, 2), 0);
      race_open (&here);
      race_open (&there);
      for (int i = 0; i < 2; i++)
        {
          Race *race = i == 0 ? &here : &there;
          options = repo_options (race->repo);
          options.note = NULL;
          options.lock_wait_us = 3 * G_USEC_PER_SEC;
          ref_store_free (race->store);
          race->store = ref_store_open (race->repo->dir, &options, NULL);
        }
      one = (Meeting) { { here.store, there.store }, next_txid (),
                        SET (turn == 0 ? "refs/heads/new" : "refs/heads/new/below", zero_oid (), here.repo->commits[1]),
                        &met, FALSE, GS_OK };
      other = (Meeting) { { there.store, here.store }, next_txid (),
                          SET ("refs/heads/new", zero_oid (), here.repo->commits[2]), &met, FALSE, GS_OK };
      assert_int_equal (gs_thread_start (&threads[0], "one", meet, &one), 0);
      assert_int_equal (gs_thread_start (&threads[1], "other", meet, &other), 0);
      gs_thread_join (threads[0]);
      gs_thread_join (threads[1]);
      pthread_barrier_destroy (&met);
      assert_true (one.won);
      assert_false (other.won);
      assert_int_equal (other.why, GS_ERROR_ABORTED);
      {
        g_autofree char *value = value_of (here.store, one.update.name), *same = value_of (there.store, one.update.name);
        g_autofree char *hex = hex_of (&one.update.new_oid);
        assert_string_equal (value, hex);
        assert_string_equal (same, hex);
      }
      ref_store_free (here.store);
      repo_free (here.repo);
      ref_store_free (there.store);
      repo_free (there.repo);
    }
}

/* ------------------------------------------------------------------------------- turns at the files */

#define LOOKERS 3
#define TURNS 200

typedef struct
{
  Race *race;
  gboolean published; /* atomic */
} Turn;

static void *
looks_fresh (void *user)
{
  Turn *turn = user;
  RefSnapshot *snapshot = ref_store_look (turn->race->store, TRUE, NULL);
  if (snapshot == NULL)
    failed (turn->race, "snapshot");
  ref_snapshot_unref (snapshot);
  return NULL;
}

static void *
publishes (void *user)
{
  Turn *turn = user;
  ref_store_publish_begin (turn->race->store);
  ref_store_publish_end (turn->race->store);
  __atomic_store_n (&turn->published, TRUE, __ATOMIC_RELEASE);
  return NULL;
}

/* Until so many readers, or publishers, wait. */
static void
await_waiting (Race *race, guint lookers, guint publishers)
{
  gint64 until_us = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
  gboolean there = FALSE;
  while (!there && g_get_monotonic_time () < until_us)
    {
      sched_yield ();
      gs_mutex_lock (&race->store->lock);
      there = race->store->scan_urgent == lookers && race->store->publish_waiting == publishers;
      gs_mutex_unlock (&race->store->lock);
    }
  assert_true (there);
}

/*
 * Readers who found a commit being published go before the next one; the first of them looks at the files for all. The next
 * commit must not go on waiting for those who had nothing left to look for, as nobody else may come and wake it.
 */
static void
test_publisher_is_woken (void **state)
{
  Race race;
  race_open (&race);
  for (guint i = 0; i < TURNS; i++)
    {
      Turn turn = { &race, FALSE };
      GsThread lookers[LOOKERS], publisher;
      gint64 until_us;
      ref_store_publish_begin (race.store);
      for (guint k = 0; k < LOOKERS; k++)
        assert_int_equal (gs_thread_start (&lookers[k], "looks", looks_fresh, &turn), 0);
      await_waiting (&race, LOOKERS, 0);
      assert_int_equal (gs_thread_start (&publisher, "publishes", publishes, &turn), 0);
      await_waiting (&race, LOOKERS, 1);
      ref_store_publish_end (race.store);
      for (guint k = 0; k < LOOKERS; k++)
        gs_thread_join (lookers[k]);
      until_us = g_get_monotonic_time () + 30 * G_USEC_PER_SEC;
      while (!__atomic_load_n (&turn.published, __ATOMIC_ACQUIRE) && g_get_monotonic_time () < until_us)
        sched_yield ();
      if (!__atomic_load_n (&turn.published, __ATOMIC_ACQUIRE))
        fail_msg ("turn %u: a commit waits, and nobody is there that it could wait for", i);
      gs_thread_join (publisher);
    }
  assert_int_equal (race.failures, 0);
  race_close (&race);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_writers_meet),
    cmocka_unit_test (test_whole_commits),
    cmocka_unit_test (test_no_update_is_lost),
    cmocka_unit_test (test_directory_against_file),
    cmocka_unit_test (test_publisher_is_woken),
  };
  return cmocka_run_group_tests_name ("refs-race", tests, NULL, NULL);
}
