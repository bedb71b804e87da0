/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL at every named step of a transaction, of packing and of recovery itself; then recovery. The program runs
 * itself again as the victim: test-… DIR SCENARIO STEP.
 */
#include "refs_fixture.h"

#include "refs_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GENERATION 9

typedef enum
{
  MIXED,
  SWAP,
  BULK,
  ABORT,
  PACK,
  RESOLVE,
  N_SCENARIOS
} Scenario;

typedef struct
{
  const char *name;
  int before; /* commit number in the loose file; -1: none */
  int packed; /* in packed-refs */
  int after;  /* -1: deleted */
} Row;

/* What each scenario's batch does. Rows with after == before are not part of it. */
static const Row mixed[] = { { "refs/heads/keep", 0, -1, 0 },      { "refs/heads/loose", 0, -1, 1 },
                             { "refs/heads/over", 1, 0, 2 },       { "refs/heads/packed", -1, 0, 3 },
                             { "refs/heads/new/deep", -1, -1, 4 }, { "refs/heads/gone/loose", 1, -1, -1 },
                             { "refs/heads/gone-both", 2, 1, -1 }, { "refs/heads/gone-packed", -1, 1, -1 },
                             { "refs/heads/stay", -1, 3, 3 } };
static const Row swap[] = { { "refs/heads/a", 0, -1, -1 },   { "refs/heads/a/b", -1, -1, 1 }, { "refs/heads/x", -1, -1, 2 },
                            { "refs/heads/x/y", 1, 0, -1 },  { "refs/heads/x/z", -1, 0, -1 }, { "refs/heads/p", -1, 3, -1 },
                            { "refs/heads/p/q/r", -1, -1, 4 }, { "refs/heads/stay", 3, -1, 3 } };

static Row bulk_rows[40];

static const Row *
rows_of (Scenario scenario, guint *ret_n)
{
  switch (scenario)
    {
    case SWAP:
      *ret_n = G_N_ELEMENTS (swap);
      return swap;
    case BULK:
      for (guint i = 0; i < G_N_ELEMENTS (bulk_rows); i++)
        {
          static char names[G_N_ELEMENTS (bulk_rows)][32];
          g_snprintf (names[i], sizeof names[i], "refs/heads/b%03u", i);
          bulk_rows[i] = (Row) { names[i], i % 4 == 0 ? 0 : -1, i % 4 == 1 ? 1 : -1, i % 10 == 5 ? -1 : 2 };
        }
      *ret_n = G_N_ELEMENTS (bulk_rows);
      return bulk_rows;
    default:
      *ret_n = G_N_ELEMENTS (mixed);
      return mixed;
    }
}

static int
value_before (const Row *row)
{
  return row->before >= 0 ? row->before : row->packed;
}

/* -------------------------------------------------------------------------------------- the victim */

static RefTxn *
victim_prepare (Repo *repo, RefStore *store, Scenario scenario)
{
  guint n, n_updates = 0;
  const Row *rows = rows_of (scenario, &n);
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, n + 1);
  g_autofree GsRefVerdict *verdicts = g_new0 (GsRefVerdict, n + 1);
  GsTxId txid = { { 7 } };
  guint8 vote[32] = { 5 };
  RefTxn *txn = NULL;
  for (guint i = 0; i < n; i++)
    if (rows[i].after != value_before (&rows[i]))
      updates[n_updates++] = SET (rows[i].name, ANY, rows[i].after < 0 ? zero_oid () : repo->commits[rows[i].after]);
  if (scenario != BULK)
    updates[n_updates++] = (GsRefUpdate) { "HEAD", ANY, ANY, "refs/heads/trunk" };
  if (!ref_store_prepare (store, NULL, &txid, updates, n_updates, TRUE, "incoming-7", verdicts, &txn, NULL) || txn == NULL
      || !ref_txn_voted (txn, vote, NULL))
    exit (3);
  return txn;
}

/** 0: done; 3: a call failed. Its steps kill it. */
static int
victim_run (Repo *repo, RefStore *store, Scenario scenario)
{
  GsTxId txid = { { 7 } };
  RefTxn *txn;
  if (scenario == RESOLVE)
    return ref_store_resolve (store, &txid, GENERATION, NULL) && ref_store_sweep (store, NULL) ? 0 : 3;
  if (scenario == PACK)
    return ref_store_pack (store, TRUE, NULL) ? 0 : 3;
  txn = victim_prepare (repo, store, scenario);
  if (scenario == ABORT)
    ref_txn_abort (txn);
  else if (!ref_txn_commit (txn, GENERATION, NULL) || !ref_txn_finish (txn, NULL))
    return 3;
  return 0;
}

static int
victim (char **argv)
{
  Repo *repo = repo_load (argv[1]);
  RefStoreOptions options = repo_options (repo);
  RefStore *store;
  int code;
  options.crash_at = argv[3];
  store = ref_store_open (repo->dir, &options, NULL);
  ref_snapshot_unref (ref_store_snapshot (store, NULL));
  code = victim_run (repo, store, (Scenario) atoi (argv[2]));
  ref_store_free (store);
  repo_forget (repo);
  return code;
}

/** Runs the victim. TRUE: it was killed at its step; FALSE: it never came there and ended well. */
static gboolean
run_victim (Repo *repo, Scenario scenario, const char *step)
{
  g_autofree char *number = g_strdup_printf ("%d", scenario);
  g_autofree char *self = g_file_read_link ("/proc/self/exe", NULL);
  const char *argv[] = { self, repo->dir, number, step, NULL };
  int status = 0;
  assert_true (g_spawn_sync (NULL, (char **) argv, NULL, 0, NULL, NULL, NULL, NULL, &status, NULL));
  if (WIFSIGNALED (status))
    {
      assert_int_equal (WTERMSIG (status), SIGKILL);
      return TRUE;
    }
  if (WEXITSTATUS (status) != 0)
    fail_msg ("scenario %d, step %s: the victim ended with code %d", scenario, step, WEXITSTATUS (status));
  return FALSE;
}

/* --------------------------------------------------------------------------------------- the check */

static Repo *
make_template (Scenario scenario)
{
  Repo *repo = repo_new ();
  guint n;
  const Row *rows = rows_of (scenario, &n);
  for (guint pass = 0; pass < 2; pass++)
    {
      g_autoptr (GString) commands = g_string_new (NULL);
      for (guint i = 0; i < n; i++)
        {
          int value = pass == 0 ? rows[i].packed : rows[i].before;
          g_autofree char *hex = value >= 0 ? hex_of (&repo->commits[value]) : NULL;
          if (hex != NULL)
            g_string_append_printf (commands, "update %s %s\n", rows[i].name, hex);
        }
      assert_int_equal (git_feed (repo, commands->str, "update-ref", "--stdin"), 0);
      if (pass == 0)
        g_free (git (repo, "pack-refs", "--all", NULL));
    }
  repo_save (repo);
  return repo;
}

static Repo *templates[N_SCENARIOS];

static Repo *
make_repo (Scenario scenario)
{
  if (templates[scenario] == NULL)
    templates[scenario] = make_template (scenario);
  return repo_copy (templates[scenario]);
}

static int
drop_templates (void **state)
{
  for (guint i = 0; i < N_SCENARIOS; i++)
    repo_free (templates[i]);
  return 0;
}

static void
assert_values (Repo *repo, RefStore *store, Scenario scenario, gboolean after)
{
  guint n;
  const Row *rows = rows_of (scenario, &n);
  RefSnapshot *snapshot = ref_store_snapshot (store, NULL);
  guint present = 0;
  assert_non_null (snapshot);
  for (guint i = 0; i < n; i++)
    {
      int expected = after ? rows[i].after : value_before (&rows[i]);
      RefEntry entry;
      gboolean found = ref_snapshot_find (snapshot, rows[i].name, &entry);
      if (found != (expected >= 0) || (found && !gs_oid_equal (&entry.oid, &repo->commits[expected])))
        fail_msg ("%s is not as %s", rows[i].name, after ? "after" : "before");
      present += found;
    }
  assert_int_equal (ref_snapshot_count (snapshot), present);
  assert_string_equal (ref_snapshot_head (snapshot), after && scenario != BULK ? "refs/heads/trunk" : "refs/heads/main");
  ref_snapshot_unref (snapshot);
}

static void
assert_state (Repo *repo, RefStore *store, Scenario scenario, gboolean after)
{
  assert_values (repo, store, scenario, after);
  assert_like_git (repo, store);
}

static gboolean
keep_pending (const RefPending *pending, gpointer user)
{
  RefPending *copy = user;
  assert_int_equal (copy->txid.bytes[0], 0); /* only one */
  *copy = *pending;
  copy->quarantine = NULL;
  assert_string_equal (pending->quarantine, "incoming-7");
  return TRUE;
}

static void
assert_clean (Repo *repo)
{
  g_autofree char *listing = tree_listing (repo);
  assert_null (strstr (listing, ".lock"));
  assert_null (strstr (listing, "packed-refs.new"));
  assert_null (strstr (listing, REF_JOURNAL_DIR "/"));
  assert_null (strstr (listing, FSU_TEMPORARY_PREFIX));
}

/** Start-up after the crash. @decided: the write was decided elsewhere. TRUE when its refs stand. */
static gboolean
recover (Repo *repo, RefStore *store, gboolean decided, gboolean done_without_journal)
{
  RefPending pending = { 0 };
  gboolean after = done_without_journal;
  assert_true (ref_store_pending (store, keep_pending, &pending, NULL));
  if (pending.txid.bytes[0] != 0)
    {
      after = decided || pending.committed;
      if (pending.committed)
        assert_int_equal (pending.generation, GENERATION);
      assert_true (ref_store_resolve (store, &pending.txid, after ? GENERATION : 0, NULL));
    }
  assert_true (ref_store_sweep (store, NULL));
  return after;
}

static void
crash_and_recover (Scenario scenario, const char *step, gboolean decided)
{
  Repo *repo = make_repo (scenario);
  gboolean crashed = run_victim (repo, scenario, step);
  RefStore *store = repo_store (repo);
  gboolean finished = scenario != ABORT && scenario != PACK && (!crashed || strcmp (step, "refs.finished") == 0);
  gboolean after = recover (repo, store, decided, finished);
  assert_values (repo, store, scenario, after);
  assert_clean (repo);
  /* Twice is as good as once, and life goes on. */
  assert_true (recover (repo, store, decided, after) == after);
  apply_one (store, "refs/heads/life", zero_oid (), repo->commits[0]);
  apply_one (store, "refs/heads/life", repo->commits[0], zero_oid ());
  assert_state (repo, store, scenario, after);
  ref_store_free (store);
  repo_free (repo);
}

static const char *const steps[]
    = { "refs.locked", "refs.staged",    "refs.intent",  "refs.voted",   "refs.committed", "refs.packed", "refs.loose",
        "refs.removed", "refs.published", "refs.settled", "refs.finished" };

static void
every_step (Scenario scenario)
{
  for (guint i = 0; i < G_N_ELEMENTS (steps); i++)
    for (guint decided = 0; decided < 2; decided++)
      crash_and_recover (scenario, steps[i], decided);
}

static void
test_mixed (void **state)
{
  every_step (MIXED);
}

static void
test_swap (void **state)
{
  every_step (SWAP);
}

static void
test_bulk (void **state)
{
  every_step (BULK);
}

static void
test_abort (void **state)
{
  crash_and_recover (ABORT, "refs.aborted", FALSE);
  crash_and_recover (ABORT, "refs.voted", FALSE);
}

static void
test_pack (void **state)
{
  crash_and_recover (PACK, "refs.pack.staged", FALSE);
  crash_and_recover (PACK, "refs.pack.published", FALSE);
  crash_and_recover (PACK, "never", FALSE);
}

/** A crash of the transaction, a crash of the recovery, then recovery. */
static void
test_recovery_crashes (void **state)
{
  static const char *const first[] = { "refs.voted", "refs.committed", "refs.packed", "refs.loose", "refs.removed" };
  static const char *const second[]
      = { "refs.redo-unlocked", "refs.redo-committed", "refs.redo-packed", "refs.redo-done" };
  for (Scenario scenario = MIXED; scenario <= BULK; scenario++)
    for (guint i = 0; i < G_N_ELEMENTS (first); i++)
      for (guint k = 0; k < G_N_ELEMENTS (second); k++)
        {
          Repo *repo = make_repo (scenario);
          RefStore *store;
          gboolean crashed = run_victim (repo, scenario, first[i]);
          run_victim (repo, RESOLVE, second[k]);
          store = repo_store (repo);
          if (!crashed)
            assert_state (repo, store, scenario, TRUE);
          assert_true (recover (repo, store, TRUE, TRUE));
          assert_state (repo, store, scenario, TRUE);
          assert_clean (repo);
          ref_store_free (store);
          repo_free (repo);
        }
}

/** Before it is resolved, a journalled write of an earlier process keeps its refs closed, and only those. */
static void
test_pending_refs_are_closed (void **state)
{
  Repo *repo = make_repo (BULK);
  RefStoreOptions options = repo_options (repo);
  GsTxId txid = { { 7 } };
  RefStore *store;
  assert_true (run_victim (repo, BULK, "refs.voted"));
  options.lock_wait_us = 10 * 1000;
  store = ref_store_open (repo->dir, &options, NULL);
  assert_refused (store, "refs/heads/b002", ANY, repo->commits[5], GS_ERROR_ABORTED);
  assert_refused (store, "refs/heads/b002/below", ANY, repo->commits[5], GS_ERROR_ABORTED);
  apply_one (store, "refs/heads/free", ANY, repo->commits[5]);
  assert_true (ref_store_sweep (store, NULL)); /* leaves what the journal owns */
  assert_true (file_exists (repo, "packed-refs.lock"));
  assert_true (ref_store_resolve (store, &txid, 0, NULL));
  apply_one (store, "refs/heads/b002", ANY, repo->commits[5]);
  assert_like_git (repo, store);
  ref_store_free (store);
  repo_free (repo);
}

/** Recovery does not undo what others wrote later. */
static void
test_redo_leaves_newer_values (void **state)
{
  Repo *repo = make_repo (MIXED);
  g_autofree char *hex = hex_of (&repo->commits[5]), *lock = NULL;
  GsTxId txid = { { 7 } };
  RefStore *store;
  assert_true (run_victim (repo, MIXED, "refs.committed"));
  lock = g_build_filename (repo->dir, "refs/heads/loose.lock", NULL);
  assert_int_equal (unlink (lock), 0);
  g_free (git (repo, "update-ref", "refs/heads/loose", hex, NULL));
  store = repo_store (repo);
  assert_true (ref_store_resolve (store, &txid, GENERATION, NULL));
  {
    g_autofree char *value = value_of (store, "refs/heads/loose");
    assert_string_equal (value, hex);
  }
  assert_non_null (strstr (repo->notes->str, "refs.redo-foreign refs/heads/loose\n"));
  assert_like_git (repo, store);
  ref_store_free (store);
  repo_free (repo);
}

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_mixed),
    cmocka_unit_test (test_swap),
    cmocka_unit_test (test_bulk),
    cmocka_unit_test (test_abort),
    cmocka_unit_test (test_pack),
    cmocka_unit_test (test_recovery_crashes),
    cmocka_unit_test (test_pending_refs_are_closed),
    cmocka_unit_test (test_redo_leaves_newer_values),
  };
  if (argc > 3)
    return victim (argv);
  /* Hundreds of victims that sync: the medium makes no difference to a killed process. */
  if (access ("/dev/shm", W_OK) == 0)
    g_setenv ("TMPDIR", "/dev/shm", FALSE);
  return cmocka_run_group_tests_name ("refs-crash", tests, NULL, drop_templates);
}
