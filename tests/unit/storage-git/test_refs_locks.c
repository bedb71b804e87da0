/* SPDX-License-Identifier: Apache-2.0 */
/* Locks of the ref store: those of others, ours for others, waiting for one another, and never for ever. */
#include "refs_case.h"

#include "refs_internal.h"

#include <gitstead/thread.h>

static void
test_foreign_locks (void **state)
{
  Fixture *f = *state;
  RefStoreOptions options = repo_options (f->repo);
  options.lock_wait_us = 20 * 1000;
  case_reopen (f, options);
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  write_file (f->repo, "refs/heads/a.lock", "");
  assert_refused (f->store, "refs/heads/a", ANY, f->c[1], GS_ERROR_ABORTED);
  assert_true (file_exists (f->repo, "refs/heads/a.lock")); /* not ours to remove */
  apply_one (f->store, "refs/heads/b", ANY, f->c[1]);
  write_file (f->repo, "packed-refs.lock", "");
  apply_one (f->store, "refs/heads/c", ANY, f->c[1]); /* a loose ref needs it not */
  assert_refused (f->store, "refs/heads/c", ANY, f->zero, GS_ERROR_ABORTED);
  assert_false (file_exists (f->repo, "refs/heads/c.lock"));
  {
    g_autoptr (GError) error = NULL;
    assert_false (ref_store_pack (f->store, TRUE, &error));
    assert_int_equal (error->code, GS_ERROR_ABORTED);
  }
  assert_true (file_exists (f->repo, "packed-refs.lock"));
}

static void
test_our_locks_stop_git (void **state)
{
  Fixture *f = *state;
  g_autofree char *hex = hex_of (&f->c[3]);
  GsRefVerdict verdict;
  RefTxn *txn;
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  txn = prepare (f->store, &SET ("refs/heads/a", ANY, f->c[1]), 1, FALSE, &verdict);
  assert_int_not_equal (git_try (f->repo, "-c", "core.filesRefLockTimeout=0", "update-ref", "refs/heads/a", hex, NULL),
                        0);
  assert_true (ref_txn_commit (txn, 1, NULL));
  assert_true (ref_txn_finish (txn, NULL));
  txn = prepare (f->store, &SET ("refs/heads/a", ANY, f->zero), 1, FALSE, &verdict);
  assert_int_not_equal (git_try (f->repo, "-c", "core.packedRefsTimeout=0", "pack-refs", "--all", NULL), 0);
  ref_txn_abort (txn);
  case_git_set (f->repo, "refs/heads/a", &f->c[3]);
  assert_value (f, "refs/heads/a", &f->c[3]);
}

typedef struct
{
  RefStore *store;
  GsRefUpdate update;
  GsRefVerdict verdict;
  RefTxn *txn;
  gboolean ok;
  GsCall *call;
} Other;

static void *
other_prepares (void *user)
{
  Other *other = user;
  GsTxId txid = next_txid ();
  other->ok = ref_store_prepare (other->store, other->call, &txid, &other->update, 1, FALSE, NULL, &other->verdict,
                                 &other->txn, NULL);
  return NULL;
}

/** A second writer of a ref waits for the first one; then its old value is looked at. */
static void
wait_for_first (Fixture *f, const char *first, const char *second, GsOid second_old, gboolean commit, GsErrorCode code)
{
  Other other = { .store = f->store, .update = SET (second, second_old, f->c[2]) };
  GsRefVerdict verdict;
  GsThread thread;
  RefTxn *txn = prepare (f->store, &SET (first, ANY, f->c[1]), 1, FALSE, &verdict);
  assert_non_null (txn);
  assert_int_equal (gs_thread_start (&thread, "other", other_prepares, &other), 0);
  if (commit)
    {
      assert_true (ref_txn_commit (txn, 1, NULL));
      assert_true (ref_txn_finish (txn, NULL));
    }
  else
    ref_txn_abort (txn);
  gs_thread_join (thread);
  assert_true (other.ok);
  assert_int_equal (other.verdict.code, code);
  g_free (other.verdict.reason);
  ref_txn_abort (other.txn);
}

static void
test_waiting_in_process (void **state)
{
  Fixture *f = *state;
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  wait_for_first (f, "refs/heads/a", "refs/heads/a", f->c[0], FALSE, GS_OK);
  wait_for_first (f, "refs/heads/a", "refs/heads/a", f->c[1], TRUE, GS_OK);
  wait_for_first (f, "refs/heads/a", "refs/heads/a", f->c[0], TRUE, GS_ERROR_FAILED_PRECONDITION);
  wait_for_first (f, "refs/heads/x/y", "refs/heads/x", f->zero, FALSE, GS_OK);
  wait_for_first (f, "refs/heads/x", "refs/heads/x/y", f->zero, FALSE, GS_OK);
  wait_for_first (f, "refs/heads/x/y", "refs/heads/x", f->zero, TRUE, GS_ERROR_FAILED_PRECONDITION);
  assert_like_git (f->repo, f->store);
}

static void
test_different_refs_in_parallel (void **state)
{
  Fixture *f = *state;
  GsRefVerdict verdict;
  RefTxn *first = prepare (f->store, &SET ("refs/heads/a", ANY, f->c[1]), 1, FALSE, &verdict);
  RefTxn *second = prepare (f->store, &SET ("refs/heads/b", ANY, f->c[2]), 1, FALSE, &verdict);
  assert_non_null (first);
  assert_non_null (second);
  assert_true (ref_txn_commit (second, 1, NULL));
  assert_true (ref_txn_commit (first, 2, NULL));
  assert_like_git (f->repo, f->store);
  assert_true (ref_txn_finish (first, NULL));
  assert_true (ref_txn_finish (second, NULL));
}

static void
test_waits_are_bounded (void **state)
{
  Fixture *f = *state;
  RefStoreOptions options = repo_options (f->repo);
  GsRefVerdict verdict, other_verdict;
  GsCall call = { .size = sizeof call, .deadline_us = 0 };
  GsTxId txid = next_txid ();
  RefTxn *txn, *other = NULL;
  options.lock_wait_us = G_MAXINT64 / 4; /* so that only the call can end the wait */
  case_reopen (f, options);
  txn = prepare (f->store, &SET ("refs/heads/a", ANY, f->zero), 1, FALSE, &verdict);
  call.deadline_us = g_get_monotonic_time () + 10 * 1000;
  assert_true (ref_store_prepare (f->store, &call, &txid, &SET ("refs/heads/a", ANY, f->c[2]), 1, FALSE, NULL,
                                  &other_verdict, &other, NULL));
  assert_null (other);
  assert_int_equal (other_verdict.code, GS_ERROR_ABORTED);
  verdicts_clear (&other_verdict, 1);
  /* Of packed-refs.lock as well. */
  call.deadline_us = g_get_monotonic_time () + 10 * 1000;
  assert_true (ref_store_prepare (f->store, &call, &txid, &SET ("refs/heads/b", ANY, f->zero), 1, FALSE, NULL,
                                  &other_verdict, &other, NULL));
  assert_null (other);
  assert_int_equal (other_verdict.code, GS_ERROR_ABORTED);
  verdicts_clear (&other_verdict, 1);
  /* Cancelled from another thread. */
  {
    Other waiting = { .store = f->store, .update = SET ("refs/heads/a", ANY, f->c[2]), .call = &call };
    GsThread thread;
    call.deadline_us = G_MAXINT64;
    assert_int_equal (gs_thread_start (&thread, "other", other_prepares, &waiting), 0);
    __atomic_store_n (&call.cancelled, 1, __ATOMIC_RELEASE);
    gs_thread_join (thread);
    assert_null (waiting.txn);
    assert_int_equal (waiting.verdict.code, GS_ERROR_ABORTED);
    g_free (waiting.verdict.reason);
  }
  ref_txn_abort (txn);
  assert_false (file_exists (f->repo, "refs/heads/b.lock"));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_foreign_locks, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_our_locks_stop_git, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_waiting_in_process, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_different_refs_in_parallel, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_waits_are_bounded, case_setup, case_teardown),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
