/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions of the ref store: verdicts, routes, conflicts of directory and file; nothing left behind. */
#include "refs_case.h"

#include "refs_internal.h"

#include <gitstead/thread.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------- plain updates */

static void
test_create_update_delete (void **state)
{
  Fixture *f = *state;
  apply_one (f->store, "refs/heads/main", f->zero, f->c[0]);
  assert_like_git (f->repo, f->store);
  apply_one (f->store, "refs/heads/main", f->c[0], f->c[1]);
  apply_one (f->store, "refs/tags/v1", f->zero, f->repo->nested);
  assert_like_git (f->repo, f->store);
  case_pack (f);
  assert_like_git (f->repo, f->store);
  apply_one (f->store, "refs/heads/main", f->c[1], f->c[2]); /* loose over packed */
  assert_like_git (f->repo, f->store);
  apply_one (f->store, "refs/heads/main", f->c[2], f->zero); /* both go */
  assert_like_git (f->repo, f->store);
  assert_value (f, "refs/heads/main", NULL);
  apply_one (f->store, "refs/tags/v1", f->repo->nested, f->zero); /* packed only */
  assert_like_git (f->repo, f->store);
  apply_one (f->store, "refs/heads/deep/down/here", ANY, f->c[0]);
  assert_like_git (f->repo, f->store);
  apply_one (f->store, "refs/heads/deep/down/here", ANY, f->zero);
  assert_false (file_exists (f->repo, "refs/heads/deep"));
  assert_true (file_exists (f->repo, "refs/heads"));
  assert_like_git (f->repo, f->store);
}

static void
test_updates_report_old_values_and_digest (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { SET ("refs/tags/t", ANY, f->repo->tag), SET ("refs/heads/b", ANY, f->zero),
                            SET ("refs/heads/a", ANY, f->c[1]), SET ("refs/heads/none", f->zero, f->zero) };
  GsRefVerdict verdicts[4];
  GsDigest plus, minus, before, after;
  const GsRefUpdate *accepted;
  RefSnapshot *snapshot;
  RefTxn *txn;
  gsize n;
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  case_git_set (f->repo, "refs/heads/b", &f->c[3]);
  snapshot = ref_store_snapshot (f->store, NULL);
  ref_snapshot_digest (snapshot, &before);
  ref_snapshot_unref (snapshot);
  txn = prepare (f->store, updates, 4, FALSE, verdicts);
  accepted = ref_txn_updates (txn, &n, &plus, &minus);
  assert_int_equal (n, 4);
  assert_string_equal (accepted[0].name, "refs/heads/a");
  assert_true (gs_oid_equal (&accepted[0].old_oid, &f->c[0]));
  assert_true (gs_oid_equal (&accepted[0].new_oid, &f->c[1]));
  assert_string_equal (accepted[1].name, "refs/heads/b");
  assert_true (gs_oid_equal (&accepted[1].old_oid, &f->c[3]));
  assert_int_equal (accepted[1].new_oid.len, 20);
  assert_true (gs_oid_is_zero (&accepted[1].new_oid));
  assert_string_equal (accepted[2].name, "refs/heads/none");
  assert_string_equal (accepted[3].name, "refs/tags/t");
  assert_int_equal (accepted[3].old_oid.len, 20);
  /* Invisible before the commit, for us and for git. */
  assert_value (f, "refs/heads/a", &f->c[0]);
  assert_value (f, "refs/heads/b", &f->c[3]);
  assert_like_git (f->repo, f->store);
  assert_true (ref_txn_commit (txn, 7, NULL));
  assert_like_git (f->repo, f->store);
  snapshot = ref_store_snapshot (f->store, NULL);
  ref_snapshot_digest (snapshot, &after);
  ref_snapshot_unref (snapshot);
  gs_digest_add (&before, &plus);
  gs_digest_sub (&before, &minus);
  assert_memory_equal (&before, &after, sizeof after);
  assert_true (ref_txn_finish (txn, NULL));
}

static void
test_abort_leaves_nothing (void **state)
{
  Fixture *f = *state;
  GsRefVerdict verdicts[5];
  g_autofree char *before = NULL, *after = NULL, *packed_before = NULL, *packed_after = NULL;
  GsRefUpdate updates[] = { SET ("refs/heads/a", ANY, f->c[1]), SET ("refs/heads/new/deep", f->zero, f->c[1]),
                            SET ("refs/heads/p", ANY, f->zero), SET ("refs/none/at/all", f->zero, f->zero),
                            { "HEAD", ANY, ANY, "refs/heads/x" } };
  RefTxn *txn;
  case_git_set (f->repo, "refs/heads/p", &f->c[0]);
  case_pack (f);
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  {
    g_autofree char *journal = g_build_filename (f->repo->dir, REF_JOURNAL_DIR, NULL);
    g_mkdir_with_parents (journal, 0777);
  }
  before = tree_listing (f->repo);
  packed_before = read_file (f->repo, "packed-refs");
  txn = prepare (f->store, updates, 5, TRUE, verdicts);
  assert_non_null (txn);
  assert_true (file_exists (f->repo, "refs/heads/a.lock"));
  assert_true (file_exists (f->repo, "HEAD.lock"));
  assert_true (file_exists (f->repo, "packed-refs.lock"));
  ref_txn_abort (txn);
  after = tree_listing (f->repo);
  packed_after = read_file (f->repo, "packed-refs");
  assert_string_equal (before, after);
  assert_string_equal (packed_before, packed_after);
  assert_like_git (f->repo, f->store);
  /* A refusal of all is no different. */
  updates[0].old_oid = f->c[3];
  txn = prepare (f->store, updates, 5, TRUE, verdicts);
  assert_null (txn);
  verdicts_clear (verdicts, 5);
  g_free (after);
  after = tree_listing (f->repo);
  assert_string_equal (before, after);
  ref_txn_abort (NULL);
}

static void
test_noop_updates (void **state)
{
  Fixture *f = *state;
  g_autofree char *before = NULL, *after = NULL;
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  before = read_file (f->repo, "refs/heads/a");
  apply_one (f->store, "refs/heads/a", ANY, f->c[0]);
  apply_one (f->store, "refs/heads/none", f->zero, f->zero);
  apply_one (f->store, "refs/heads/none", ANY, f->zero);
  after = read_file (f->repo, "refs/heads/a");
  assert_string_equal (before, after);
  assert_like_git (f->repo, f->store);
  assert_false (file_exists (f->repo, "refs/heads/a.lock"));
  assert_false (file_exists (f->repo, "refs/heads/none.lock"));
}

static void
test_head_update (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { { "HEAD", ANY, ANY, "refs/heads/trunk" }, SET ("refs/heads/trunk", f->zero, f->c[0]) };
  static const char *const bad[] = { "refs/tags/x", "main", "refs/heads/a..b", "refs/gitstead/x" };
  apply (f->store, updates, 2);
  assert_like_git (f->repo, f->store);
  {
    g_autofree char *head = read_file (f->repo, "HEAD");
    assert_string_equal (head, "ref: refs/heads/trunk\n");
  }
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      GsRefUpdate update = { "HEAD", ANY, ANY, bad[i] };
      GsRefVerdict verdict;
      assert_null (prepare (f->store, &update, 1, FALSE, &verdict));
      assert_int_equal (verdict.code, GS_ERROR_INVALID_ARGUMENT);
      verdicts_clear (&verdict, 1);
    }
  assert_refused (f->store, "HEAD", ANY, f->c[0], GS_ERROR_INVALID_ARGUMENT);
  assert_false (file_exists (f->repo, "HEAD.lock"));
}

/* -------------------------------------------------------------------------------------- verdicts */

static void
test_verdicts (void **state)
{
  Fixture *f = *state;
  GsOid wrong = { .len = 32, .raw = { 1 } };
  case_git_set (f->repo, "refs/heads/a", &f->c[0]);
  case_git_set (f->repo, "refs/heads/p", &f->c[0]);
  assert_refused (f->store, "refs/heads/a", f->c[1], f->c[2], GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/a", f->zero, f->c[2], GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/a", f->c[1], f->zero, GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/a", f->zero, f->zero, GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/b", f->c[0], f->c[1], GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/b", f->c[0], f->zero, GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/a..b", ANY, f->c[1], GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "../HEAD", ANY, f->c[1], GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "config", ANY, f->c[1], GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "refs/gitstead/x", ANY, f->c[1], GS_ERROR_PERMISSION_DENIED);
  assert_refused (f->store, "refs/heads/b", ANY, f->repo->absent, GS_ERROR_NOT_FOUND);
  assert_refused (f->store, "refs/heads/b", ANY, f->repo->blob, GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "refs/heads/b", ANY, f->repo->tag, GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "refs/heads/b", ANY, wrong, GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "refs/heads/b", wrong, f->c[1], GS_ERROR_INVALID_ARGUMENT);
  assert_refused (f->store, "refs/heads/a/b", ANY, f->c[1], GS_ERROR_FAILED_PRECONDITION);
  case_pack (f);
  assert_refused (f->store, "refs/heads/p/q", ANY, f->c[1], GS_ERROR_FAILED_PRECONDITION);
  assert_refused (f->store, "refs/heads/p", f->c[1], f->c[2], GS_ERROR_FAILED_PRECONDITION);
  apply_one (f->store, "refs/tags/tree", ANY, f->repo->blob); /* only branches must be commits */
  {
    g_autofree char *before = tree_listing (f->repo);
    assert_null (strstr (before, ".lock"));
    assert_null (strstr (before, REF_JOURNAL_DIR "/"));
  }
  assert_like_git (f->repo, f->store);
}

static void
test_atomic_or_not (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { SET ("refs/heads/a", f->zero, f->c[0]), SET ("refs/heads/b", f->c[3], f->c[0]),
                            SET ("refs/heads/c", f->zero, f->c[0]) };
  GsRefVerdict verdicts[3];
  RefTxn *txn = prepare (f->store, updates, 3, TRUE, verdicts);
  gsize n;
  assert_null (txn);
  assert_int_equal (verdicts[0].code, GS_ERROR_ABORTED);
  assert_int_equal (verdicts[1].code, GS_ERROR_FAILED_PRECONDITION);
  assert_int_equal (verdicts[2].code, GS_ERROR_ABORTED);
  verdicts_clear (verdicts, 3);
  txn = prepare (f->store, updates, 3, FALSE, verdicts);
  assert_non_null (txn);
  assert_int_equal (verdicts[0].code, GS_OK);
  assert_null (verdicts[0].reason);
  assert_int_equal (verdicts[1].code, GS_ERROR_FAILED_PRECONDITION);
  assert_int_equal (verdicts[2].code, GS_OK);
  ref_txn_updates (txn, &n, NULL, NULL);
  assert_int_equal (n, 2);
  assert_false (file_exists (f->repo, "refs/heads/b.lock"));
  verdicts_clear (verdicts, 3);
  assert_true (ref_txn_commit (txn, 1, NULL));
  assert_true (ref_txn_finish (txn, NULL));
  assert_value (f, "refs/heads/a", &f->c[0]);
  assert_value (f, "refs/heads/b", NULL);
  assert_value (f, "refs/heads/c", &f->c[0]);
  assert_like_git (f->repo, f->store);
}

static void
test_duplicates (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { SET ("refs/heads/a", ANY, f->c[0]), SET ("refs/heads/b", ANY, f->c[0]),
                            SET ("refs/heads/a", ANY, f->c[1]) };
  GsRefVerdict verdicts[3];
  RefTxn *txn = prepare (f->store, updates, 3, FALSE, verdicts);
  assert_int_equal (verdicts[0].code, GS_ERROR_INVALID_ARGUMENT);
  assert_int_equal (verdicts[1].code, GS_OK);
  assert_int_equal (verdicts[2].code, GS_ERROR_INVALID_ARGUMENT);
  verdicts_clear (verdicts, 3);
  ref_txn_abort (txn);
}

static void
test_transaction_id_is_unique (void **state)
{
  Fixture *f = *state;
  GsRefUpdate update = SET ("refs/heads/a", ANY, f->c[0]), other = SET ("refs/heads/b", ANY, f->c[0]);
  GsRefVerdict verdict = { 0 };
  g_autoptr (GError) error = NULL;
  GsTxId txid = next_txid ();
  RefTxn *txn = NULL, *second = NULL;
  assert_true (ref_store_prepare (f->store, NULL, &txid, &update, 1, FALSE, "incoming-1", &verdict, &txn, NULL));
  assert_false (ref_store_prepare (f->store, NULL, &txid, &other, 1, FALSE, NULL, &verdict, &second, &error));
  assert_int_equal (error->code, GS_ERROR_ALREADY_EXISTS);
  assert_false (file_exists (f->repo, "refs/heads/b.lock"));
  g_clear_error (&error);
  /* Nor while it is in hand can it be resolved or swept away. */
  assert_false (ref_store_resolve (f->store, &txid, 0, &error));
  assert_int_equal (error->code, GS_ERROR_FAILED_PRECONDITION);
  assert_false (ref_store_sweep (f->store, NULL));
  ref_txn_abort (txn);
  assert_false (ref_store_prepare (f->store, NULL, &txid, &update, 1, FALSE, "a/b", &verdict, &txn, NULL));
}

static gboolean
peel_in_quarantine (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit, GError **error)
{
  memset (ret_peeled, 0, sizeof *ret_peeled);
  *ret_is_commit = TRUE;
  return gs_oid_equal (oid, user) || gs_fail (error, GS_ERROR_NOT_FOUND, "no such object");
}

static void
test_objects_in_quarantine (void **state)
{
  Fixture *f = *state;
  GsRefUpdate update = SET ("refs/heads/a", f->zero, f->repo->absent);
  GsTxId txid = next_txid ();
  GsRefVerdict verdict;
  RefTxn *txn = NULL;
  assert_refused (f->store, "refs/heads/a", f->zero, f->repo->absent, GS_ERROR_NOT_FOUND);
  assert_true (ref_store_prepare_with (f->store, NULL, &txid, &update, 1, REF_PREPARE_ATOMIC, "incoming-1", peel_in_quarantine,
                                       &f->repo->absent, &verdict, &txn, NULL));
  assert_int_equal (verdict.code, GS_OK);
  assert_non_null (txn);
  ref_txn_abort (txn);
}

/* -------------------------------------------------------------------------- directory against file */

static void
test_conflicts_in_a_batch (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { SET ("refs/heads/a/b", f->zero, f->c[0]), SET ("refs/heads/a", f->zero, f->c[1]) };
  GsRefVerdict verdicts[2];
  RefTxn *txn = prepare (f->store, updates, 2, TRUE, verdicts);
  assert_null (txn);
  assert_int_equal (verdicts[0].code, GS_ERROR_FAILED_PRECONDITION);
  verdicts_clear (verdicts, 2);
  txn = prepare (f->store, updates, 2, FALSE, verdicts);
  assert_int_equal (verdicts[0].code, GS_ERROR_FAILED_PRECONDITION);
  assert_int_equal (verdicts[1].code, GS_OK);
  verdicts_clear (verdicts, 2);
  ref_txn_abort (txn);
  assert_like_git (f->repo, f->store);
}

/** Deletes @gone and makes @made in one batch, with @gone loose, packed, or both. */
static void
swap (Fixture *f, const char *gone, const char *made, guint how)
{
  GsRefUpdate updates[] = { SET (gone, f->c[0], f->zero), SET (made, f->zero, f->c[1]) };
  g_autofree char *listing = NULL;
  case_git_set (f->repo, gone, &f->c[how == 2 ? 3 : 0]);
  if (how >= 1)
    case_pack (f);
  if (how == 2)
    case_git_set (f->repo, gone, &f->c[0]);
  apply (f->store, updates, 2);
  assert_value (f, gone, NULL);
  assert_value (f, made, &f->c[1]);
  assert_like_git (f->repo, f->store);
  /* And git can go on from there. */
  case_git_set (f->repo, made, &f->c[2]);
  assert_value (f, made, &f->c[2]);
  apply_one (f->store, made, f->c[2], f->zero);
  listing = store_listing (f->store);
  assert_string_equal (listing, "");
}

static void
test_swaps (void **state)
{
  Fixture *f = *state;
  for (guint how = 0; how < 3; how++)
    {
      swap (f, "refs/heads/a", "refs/heads/a/b", how);
      swap (f, "refs/heads/a/b", "refs/heads/a", how);
      swap (f, "refs/heads/a/b/c/d", "refs/heads/a", how);
      swap (f, "refs/heads/a", "refs/heads/a/b/c/d", how);
    }
}

static void
test_swap_needs_all_gone (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[] = { SET ("refs/heads/a/b", ANY, f->zero), SET ("refs/heads/a", f->zero, f->c[1]),
                            SET ("refs/heads/a/c", f->c[5], f->zero) };
  GsRefVerdict verdicts[3];
  RefTxn *txn;
  case_git_set (f->repo, "refs/heads/a/b", &f->c[0]);
  case_git_set (f->repo, "refs/heads/a/c", &f->c[0]);
  for (guint packed = 0; packed < 2; packed++)
    {
      /* The deletion of a/c is refused as stale, so a must be refused, too. */
      txn = prepare (f->store, updates, 3, FALSE, verdicts);
      assert_int_equal (verdicts[0].code, GS_OK);
      assert_int_equal (verdicts[1].code, GS_ERROR_FAILED_PRECONDITION);
      assert_int_equal (verdicts[2].code, GS_ERROR_FAILED_PRECONDITION);
      verdicts_clear (verdicts, 3);
      ref_txn_abort (txn);
      case_pack (f);
    }
  updates[2].old_oid = f->c[0];
  apply (f->store, updates, 3);
  assert_value (f, "refs/heads/a", &f->c[1]);
  assert_like_git (f->repo, f->store);
}

static void
test_empty_directories_are_no_obstacle (void **state)
{
  Fixture *f = *state;
  g_autofree char *dir = g_build_filename (f->repo->dir, "refs/heads/a/b/c", NULL);
  g_mkdir_with_parents (dir, 0777);
  apply_one (f->store, "refs/heads/a", f->zero, f->c[0]);
  assert_like_git (f->repo, f->store);
}

static void
test_foreign_directory_after_prepare (void **state)
{
  /* git can make refs/heads/a/b while we hold refs/heads/a.lock. What was voted for is published even so. */
  Fixture *f = *state;
  GsRefVerdict verdict;
  RefTxn *txn = prepare (f->store, &SET ("refs/heads/a", f->zero, f->c[0]), 1, FALSE, &verdict);
  case_git_set (f->repo, "refs/heads/a/b", &f->c[1]);
  assert_true (ref_txn_commit (txn, 1, NULL));
  assert_true (ref_txn_finish (txn, NULL));
  assert_value (f, "refs/heads/a", &f->c[0]);
  assert_value (f, "refs/heads/a/b", &f->c[1]);
  assert_non_null (strstr (f->repo->notes->str, "refs.loose-blocked refs/heads/a\n"));
  assert_false (file_exists (f->repo, "refs/heads/a.lock"));
  assert_false (file_exists (f->repo, "packed-refs.lock"));
}

/* ------------------------------------------------------------------------------------------ bulk */

static void
bulk (Fixture *f, guint n)
{
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, n);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  g_autofree char *loose = NULL;
  case_git_set (f->repo, "refs/heads/b00003", &f->c[5]); /* a loose file that must give way */
  case_git_set (f->repo, "refs/heads/other", &f->c[4]);
  for (guint i = 0; i < n; i++)
    {
      g_ptr_array_add (names, g_strdup_printf ("refs/heads/b%05u", i));
      updates[i] = SET (names->pdata[i], i == 3 ? f->c[5] : f->zero, f->c[i % 3]);
    }
  updates[4].name = "refs/tags/t";
  updates[4].new_oid = f->repo->nested;
  apply (f->store, updates, n);
  assert_like_git (f->repo, f->store);
  assert_false (file_exists (f->repo, "refs/heads/b00003"));
  assert_false (file_exists (f->repo, "refs/heads/b00005"));
  loose = tree_listing (f->repo);
  assert_null (strstr (loose, ".lock"));
  for (guint i = 0; i < n; i++)
    {
      updates[i].old_oid = updates[i].new_oid;
      updates[i].new_oid = i % 2 ? f->zero : f->c[4];
      if (i == 4)
        updates[i].new_oid = f->zero;
    }
  apply (f->store, updates, n);
  assert_like_git (f->repo, f->store);
  for (guint i = 0; i < n; i++)
    {
      updates[i].old_oid = updates[i].new_oid;
      updates[i].new_oid = f->zero;
    }
  apply (f->store, updates, n);
  assert_like_git (f->repo, f->store);
  assert_value (f, "refs/heads/other", &f->c[4]);
  apply_one (f->store, "refs/heads/other", ANY, f->zero);
}

static void
test_bulk (void **state)
{
  bulk (*state, 100);
  bulk (*state, REF_BULK_LOCKS_MAX + 500);
}

static void
test_bulk_verdicts (void **state)
{
  Fixture *f = *state;
  guint n = REF_BULK_LOCKS_MAX + 100, refused = 0;
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, n);
  g_autofree GsRefVerdict *verdicts = g_new0 (GsRefVerdict, n);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  RefTxn *txn;
  case_git_set (f->repo, "refs/heads/b00010", &f->c[0]);
  case_git_set (f->repo, "refs/heads/b00020/x", &f->c[0]);
  case_pack (f);
  case_git_set (f->repo, "refs/heads/b00030", &f->c[0]);
  case_git_set (f->repo, "refs/heads/b00040/x", &f->c[0]);
  case_git_set (f->repo, "refs/heads/top", &f->c[0]);
  for (guint i = 0; i < n; i++)
    {
      g_ptr_array_add (names, i == 50 ? g_strdup ("refs/heads/top/b") : g_strdup_printf ("refs/heads/b%05u", i));
      updates[i] = SET (names->pdata[i], f->zero, f->c[0]);
    }
  txn = prepare (f->store, updates, n, FALSE, verdicts);
  for (guint i = 0; i < n; i++)
    if (verdicts[i].code != GS_OK)
      {
        assert_int_equal (verdicts[i].code, GS_ERROR_FAILED_PRECONDITION);
        assert_true (i % 10 == 0 && i <= 50);
        refused++;
      }
  assert_int_equal (refused, 5);
  verdicts_clear (verdicts, n);
  assert_true (ref_txn_commit (txn, 1, NULL));
  assert_true (ref_txn_finish (txn, NULL));
  assert_like_git (f->repo, f->store);
}

/* --------------------------------------------------------------------------------------- journal */

static gboolean
count_pending (const RefPending *pending, gpointer user)
{
  RefPending *copy = user;
  *copy = *pending;
  copy->quarantine = g_strdup (pending->quarantine);
  return TRUE;
}

static void
test_journal_says_what_happened (void **state)
{
  Fixture *f = *state;
  GsRefUpdate update = SET ("refs/heads/a", ANY, f->c[0]);
  GsRefVerdict verdict;
  GsTxId txid = next_txid ();
  RefPending found = { 0 };
  guint8 vote[32];
  RefTxn *txn = NULL;
  memset (vote, 0xab, sizeof vote);
  assert_true (ref_store_prepare (f->store, NULL, &txid, &update, 1, FALSE, "incoming-x", &verdict, &txn, NULL));
  assert_true (ref_store_pending (f->store, count_pending, &found, NULL));
  assert_memory_equal (&found.txid, &txid, sizeof txid);
  assert_string_equal (found.quarantine, "incoming-x");
  assert_false (found.voted || found.committed);
  g_free ((char *) found.quarantine);
  assert_true (ref_txn_voted (txn, vote, NULL));
  assert_true (ref_store_pending (f->store, count_pending, &found, NULL));
  assert_true (found.voted && !found.committed);
  assert_memory_equal (found.vote, vote, sizeof vote);
  g_free ((char *) found.quarantine);
  assert_true (ref_txn_commit (txn, 42, NULL));
  assert_true (ref_store_pending (f->store, count_pending, &found, NULL));
  assert_true (found.voted && found.committed);
  assert_int_equal (found.generation, 42);
  g_free ((char *) found.quarantine);
  assert_true (ref_txn_finish (txn, NULL));
  memset (&found, 0, sizeof found);
  assert_true (ref_store_pending (f->store, count_pending, &found, NULL));
  assert_null (found.quarantine);
}

/** A commit that cannot be finished keeps its refs closed to others until it is resolved. */
static void
test_failed_commit_is_resolved (void **state)
{
  Fixture *f = *state;
  RefStoreOptions options = repo_options (f->repo);
  GsRefUpdate update = SET ("refs/heads/a", f->zero, f->c[0]);
  GsTxId txid = next_txid ();
  GsRefVerdict verdict;
  g_autoptr (GError) error = NULL;
  RefTxn *txn = NULL;
  options.lock_wait_us = 20 * 1000;
  case_reopen (f, options);
  assert_true (ref_store_prepare (f->store, NULL, &txid, &update, 1, FALSE, NULL, &verdict, &txn, NULL));
  case_git_set (f->repo, "refs/heads/a/b", &f->c[1]);
  write_file (f->repo, "packed-refs.lock", "");
  assert_false (ref_txn_commit (txn, 5, &error));
  assert_int_equal (error->code, GS_ERROR_ABORTED);
  g_clear_error (&error);
  ref_txn_abort (txn);
  assert_false (file_exists (f->repo, "refs/heads/a.lock"));
  assert_refused (f->store, "refs/heads/a", ANY, f->c[2], GS_ERROR_ABORTED);
  assert_false (ref_store_resolve (f->store, &txid, 0, &error)); /* committed: no way back */
  assert_int_equal (error->code, GS_ERROR_FAILED_PRECONDITION);
  g_clear_error (&error);
  assert_false (ref_store_resolve (f->store, &txid, 5, NULL)); /* still locked */
  {
    g_autofree char *lock = g_build_filename (f->repo->dir, "packed-refs.lock", NULL);
    unlink (lock);
  }
  assert_true (ref_store_resolve (f->store, &txid, 5, NULL));
  assert_value (f, "refs/heads/a", &f->c[0]);
  assert_true (ref_store_resolve (f->store, &txid, 5, NULL)); /* unknown ids are fine */
  apply_one (f->store, "refs/heads/a", f->c[0], f->zero);
  assert_like_git (f->repo, f->store);
}

static void
test_damaged_journal (void **state)
{
  Fixture *f = *state;
  GsRefUpdate update = SET ("refs/heads/a", ANY, f->c[0]);
  GsTxId txid = next_txid ();
  GsRefVerdict verdict;
  g_autoptr (GError) error = NULL;
  g_autofree char *path = ref_journal_path (&txid), *text = NULL, *whole = NULL;
  RefPending found = { 0 };
  RefTxn *txn = NULL;
  guint8 vote[32] = { 1 };
  gsize intent;
  assert_true (ref_store_prepare (f->store, NULL, &txid, &update, 1, FALSE, "q", &verdict, &txn, NULL));
  text = read_file (f->repo, path);
  intent = strlen (text);
  assert_true (ref_txn_voted (txn, vote, NULL));
  whole = read_file (f->repo, path);
  ref_txn_abort (txn);
  /* Cut anywhere in the intent: never prepared. Cut in the vote: prepared, not voted. */
  for (gsize cut = 0; cut <= strlen (whole); cut++)
    {
      g_autofree char *part = g_strndup (whole, cut);
      gboolean torn = FALSE;
      g_autoptr (RefJournal) journal = NULL;
      write_file (f->repo, path, part);
      journal = ref_journal_read (f->store, path, &torn, &error);
      assert_null (error);
      assert_int_equal (journal != NULL, cut >= intent);
      assert_int_equal (torn, cut < intent);
      if (journal != NULL)
        assert_int_equal (journal->voted, cut == strlen (whole));
    }
  /* A changed byte in a record that was voted for is no torn write. */
  for (gsize at = 0; at < intent; at += 7)
    {
      g_autofree char *changed = g_strdup (whole);
      gboolean torn = FALSE;
      g_autoptr (RefJournal) journal = NULL;
      changed[at] ^= 1;
      write_file (f->repo, path, changed);
      journal = ref_journal_read (f->store, path, &torn, &error);
      assert_null (journal);
      g_clear_error (&error);
    }
  assert_false (ref_store_pending (f->store, count_pending, &found, NULL) && found.voted);
  /* A torn intent is swept. */
  text[intent - 10] = '\0';
  write_file (f->repo, path, text);
  write_file (f->repo, "refs/heads/x.lock", "");
  write_file (f->repo, "refs/heads/deep/y.lock", "");
  write_file (f->repo, "packed-refs.lock", "");
  write_file (f->repo, "packed-refs.new", "");
  write_file (f->repo, "HEAD.lock", "");
  write_file (f->repo, "gitstead/" FSU_TEMPORARY_PREFIX "1", "");
  assert_true (ref_store_sweep (f->store, NULL));
  assert_false (file_exists (f->repo, path));
  {
    g_autofree char *listing = tree_listing (f->repo);
    assert_null (strstr (listing, ".lock"));
    assert_null (strstr (listing, "packed-refs.new"));
    assert_null (strstr (listing, FSU_TEMPORARY_PREFIX));
    assert_null (strstr (listing, "deep"));
  }
  assert_like_git (f->repo, f->store);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_create_update_delete, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_updates_report_old_values_and_digest, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_abort_leaves_nothing, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_noop_updates, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_head_update, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_verdicts, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_atomic_or_not, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_duplicates, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_transaction_id_is_unique, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_objects_in_quarantine, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_conflicts_in_a_batch, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_swaps, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_swap_needs_all_gone, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_empty_directories_are_no_obstacle, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_foreign_directory_after_prepare, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_bulk, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_bulk_verdicts, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_journal_says_what_happened, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_failed_commit_is_resolved, case_setup, case_teardown),
    cmocka_unit_test_setup_teardown (test_damaged_journal, case_setup, case_teardown),
  };
  return cmocka_run_group_tests_name ("refs-txn", tests, NULL, NULL);
}
