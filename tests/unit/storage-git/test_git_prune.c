/* SPDX-License-Identifier: Apache-2.0 */
/* Unreachable objects go when they are old and nobody needs them; a write, a crash or a removal in the middle loses nothing. */
#include "common.h"

#include <gitstead/thread.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define METHOD_PRUNE 140
#define DAYS(n_) ((guint64) (n_) * 24 * 3600)

typedef struct
{
  guint64 grace_s;
  gboolean no_grace, dry_run;
} Ask;

typedef struct
{
  guint64 objects, bytes, kept, kept_bytes;
} Answer;

static void
put_varint (GByteArray *out, guint8 tag, guint64 value)
{
  g_byte_array_append (out, &tag, 1);
  for (; value >= 0x80; value >>= 7)
    g_byte_array_append (out, &(guint8){ (guint8) (value | 0x80) }, 1);
  g_byte_array_append (out, &(guint8){ (guint8) value }, 1);
}

static guint64
take_varint (const guint8 **at)
{
  guint64 value = 0;
  int shift = 0;
  do
    value |= (guint64) (**at & 0x7f) << shift, shift += 7;
  while (*(*at)++ & 0x80);
  return value;
}

/* RepositoryPruneReply with its one replica. */
static Answer
read_answer (GBytes *reply)
{
  gsize len;
  const guint8 *at = g_bytes_get_data (reply, &len), *end = at + len;
  guint64 found[5] = { 0 };
  assert_true (len >= 2 && *at++ == (1 << 3 | 2) && take_varint (&at) == (guint64) (end - at));
  while (at < end)
    {
      guint8 field = *at++ >> 3;
      assert_in_range (field, 1, 4);
      found[field] = take_varint (&at);
    }
  return (Answer){ found[1], found[2], found[3], found[4] };
}

static gboolean
ask (Fixture *f, GsCall *call, const GsRepo *repo, Ask wish, Answer *ret_answer, GError **error)
{
  GByteArray *request = g_byte_array_new ();
  put_varint (request, 2 << 3, wish.grace_s);
  put_varint (request, 3 << 3, wish.no_grace);
  put_varint (request, 4 << 3, wish.dry_run);
  g_autoptr (GBytes) bytes = g_byte_array_free_to_bytes (request), reply = NULL;
  const GsQuery query = { sizeof query, METHOD_PRUNE, bytes, NULL };
  if (!f->ops->query (f->self, call, repo, &query, &reply, error))
    return FALSE;
  *ret_answer = read_answer (reply);
  return TRUE;
}

static Answer
prune (Fixture *f, const GsRepo *repo, Ask wish)
{
  g_autoptr (GError) error = NULL;
  Answer answer;
  if (!ask (f, &f->call->call, repo, wish, &answer, &error))
    fail_msg ("prune: %s", error->message);
  return answer;
}

/* The clock that grace is counted by. */
static gint64 clock_ahead_us;

static gint64
shifted_wall_us (const GsHost *host)
{
  return g_get_real_time () + __atomic_load_n (&clock_ahead_us, __ATOMIC_RELAXED);
}

static Fixture *
prune_fixture (GsRepo *ret_repo)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  g_autoptr (GBytes) pack = work_pack (f, "main");
  f->host->host.wall_us = shifted_wall_us;
  __atomic_store_n (&clock_ahead_us, 0, __ATOMIC_RELAXED);
  *ret_repo = fixture_create (f, 7);
  apply_changes (f, ret_repo, &update, 1, pack);
  return f;
}

static void
days_later (int days)
{
  __atomic_add_fetch (&clock_ahead_us, (gint64) DAYS (days) * G_USEC_PER_SEC, __ATOMIC_RELAXED);
}

/* A branch of @n commits on main in $WORK, each with a blob of its own: 3 objects. */
static void
make_branch (Fixture *f, const char *name, int n)
{
  g_free (sh (f,
              "cd $WORK && for i in $(seq %d); do printf 'commit refs/heads/%s\ncommitter c <c@d> %%s +0000\ndata 1\nx\n'"
              " $((1700000000 + i)); test $i -gt 1 || echo from refs/heads/main^0;"
              " printf 'M 100644 inline %s\ndata <<E\n%s %%s\nE\n\n' $i; done | git fast-import --quiet --force",
              n, name, name, name));
}

static void
set_branch (Fixture *f, const GsRepo *repo, const char *name, const char *revision, gboolean with_pack)
{
  g_autofree char *full = g_strconcat ("refs/heads/", name, NULL), *range = g_strdup_printf ("main..%s", name);
  GsRefUpdate update = { .name = full, .old_oid = ref_value (f, repo, full) };
  g_autoptr (GBytes) pack = with_pack ? work_pack (f, range) : NULL;
  if (revision != NULL)
    update.new_oid = work_oid (f, revision);
  apply_changes (f, repo, &update, 1, pack);
}

static gboolean
has (Fixture *f, const GsRepo *repo, const char *revision)
{
  int status;
  g_free (sh_any (f, &status, "git -C $ROOT/%s cat-file -e $(git -C $WORK rev-parse %s)", repo->replica_path, revision));
  return status == 0;
}

static void
assert_tidy (Fixture *f, const GsRepo *repo)
{
  g_autofree char *left
      = sh (f,
            "cd $ROOT/%s && find . -name '.tmp-*' -o -name 'tmp_*' -o -path './gitstead/repack' -o -path './gitstead/pruned';"
            " ls $ROOT/gitstead-tmp; cd objects/pack; for p in *.pack; do test ! -e $p -o -e ${p%%.pack}.idx || echo $p; done;"
            " test ! -e multi-pack-index || git -C ../.. multi-pack-index verify 2>&1 >/dev/null;"
            " git -C ../.. commit-graph verify 2>&1",
            repo->replica_path);
  assert_string_equal (left, "");
  assert_nothing_left (f, repo);
}

/* ------------------------------------------------------------------------------------------- what goes */

static void
test_grace (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  make_branch (f, "gone", 10);
  make_branch (f, "kept", 2);
  set_branch (f, &repo, "gone", "gone", TRUE);
  set_branch (f, &repo, "kept", "kept", TRUE);
  Answer answer = prune (f, &repo, (Ask){ .no_grace = TRUE });
  assert_int_equal (answer.objects + answer.kept, 0);
  /* However old it is: it counts from when it was found to be unreachable. */
  g_free (sh (f, "touch -d '3 years ago' $ROOT/%s/objects/pack/*.pack", repo.replica_path));
  set_branch (f, &repo, "gone", NULL, FALSE);
  answer = prune (f, &repo, (Ask){ 0 });
  assert_int_equal (answer.objects, 0);
  assert_int_equal (answer.kept, 30);
  days_later (13);
  assert_int_equal (prune (f, &repo, (Ask){ 0 }).objects, 0);
  assert_true (has (f, &repo, "gone"));
  days_later (2);
  assert_int_equal (prune (f, &repo, (Ask){ .grace_s = DAYS (16) }).kept, 30);
  answer = prune (f, &repo, (Ask){ .dry_run = TRUE });
  assert_int_equal (answer.objects, 30);
  assert_true (answer.bytes > 0 && has (f, &repo, "gone~9"));
  assert_tidy (f, &repo);
  answer = prune (f, &repo, (Ask){ 0 });
  assert_int_equal (answer.objects, 30);
  assert_int_equal (answer.kept, 0);
  for (int i = 0; i < 10; i++)
    {
      g_autofree char *commit = g_strdup_printf ("gone~%d", i), *tree = g_strdup_printf ("gone~%d^{tree}", i);
      assert_false (has (f, &repo, commit) || has (f, &repo, tree));
    }
  assert_true (has (f, &repo, "kept") && has (f, &repo, "kept:kept"));
  g_autofree char *said = sh (f, "cd $ROOT/%s && ls objects/pack/*.mtimes 2>/dev/null; git fsck --full --strict 2>&1 | grep -v notice || true",
                              repo.replica_path);
  assert_string_equal (said, "");
  assert_int_equal (fake_host_logged (f->host, "storage.maintain.pruned"), 5);
  assert_tidy (f, &repo);
  fixture_free (f);
}

/* What something young needs stays with it; a ref that only the server sees keeps what it reaches. */
static void
test_what_stays (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  make_branch (f, "old", 5);
  make_branch (f, "other", 4);
  make_branch (f, "hidden", 3);
  set_branch (f, &repo, "old", "old", TRUE);
  set_branch (f, &repo, "other", "other", TRUE);
  set_branch (f, &repo, "hidden", "hidden", TRUE);
  g_free (sh (f, "cd $ROOT/%s && git update-ref refs/gitstead/keep/1 refs/heads/hidden", repo.replica_path));
  set_branch (f, &repo, "hidden", NULL, FALSE);
  set_branch (f, &repo, "old", NULL, FALSE);
  set_branch (f, &repo, "other", NULL, FALSE);
  assert_int_equal (prune (f, &repo, (Ask){ 0 }).kept, 27);
  days_later (20);
  /* A commit on the old branch's third one, unreachable since now. */
  g_free (sh (f, "cd $WORK && git branch -f young $(git commit-tree -m y -p old~2 old~2^{tree}) && git rev-list --objects old~2..young |"
                 " git pack-objects -q $ROOT/%s/objects/pack/pack >/dev/null", repo.replica_path));
  Answer answer = prune (f, &repo, (Ask){ 0 });
  assert_int_equal (answer.objects, 2 * 3 + 4 * 3);
  assert_int_equal (answer.kept, 3 * 3 + 1);
  assert_true (has (f, &repo, "young") && has (f, &repo, "old~2:old") && has (f, &repo, "hidden:hidden"));
  assert_false (has (f, &repo, "old~1") || has (f, &repo, "other"));
  assert_int_equal (prune (f, &repo, (Ask){ .no_grace = TRUE }).objects, 10);
  assert_true (has (f, &repo, "hidden:hidden"));
  assert_tidy (f, &repo);
  fixture_free (f);
}

static void
test_nothing_but_unreachable (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  GsRefUpdate update = { .name = "refs/heads/main", .old_oid = ref_value (f, &repo, "refs/heads/main") };
  GsRepo empty;
  apply_changes (f, &repo, &update, 1, NULL);
  g_free (sh (f, "cd $ROOT/%s && echo loose | git hash-object -w --stdin", repo.replica_path));
  assert_true (prune (f, &repo, (Ask){ .no_grace = TRUE }).objects > 3);
  g_autofree char *left = sh (f, "git -C $ROOT/%s cat-file --batch-all-objects --batch-check", repo.replica_path);
  assert_string_equal (left, "");
  assert_tidy (f, &repo);
  empty = fixture_create (f, 8);
  assert_int_equal (prune (f, &empty, (Ask){ .no_grace = TRUE }).objects, 0);
  /* Of use as before. */
  update = (GsRefUpdate){ .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  g_autoptr (GBytes) pack = work_pack (f, "main");
  repo = fixture_repo (7);
  apply_changes (f, &repo, &update, 1, pack);
  assert_tidy (f, &repo);
  fixture_free (f);
}

static void
test_damaged (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  g_autoptr (GError) error = NULL;
  Answer answer;
  make_branch (f, "gone", 3);
  set_branch (f, &repo, "gone", "gone", TRUE);
  set_branch (f, &repo, "gone", NULL, FALSE);
  g_free (sh (f, "cd $ROOT/%s && echo %040d >refs/heads/broken", repo.replica_path, 1));
  assert_false (ask (f, &f->call->call, &repo, (Ask){ .no_grace = TRUE }, &answer, &error));
  assert_true (has (f, &repo, "gone"));
  fixture_free (f);
}

/* --------------------------------------------------------------------------------------- beside writes */

/* A staged write may need what no ref reaches: it is waited for, and what a restart finds of it counts as well. */
static void
test_staged (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  g_autoptr (GError) error = NULL;
  g_autoptr (FakeCall) hasty = NULL;
  GsChangeSet change = { .size = sizeof change };
  const GsVote *vote;
  gpointer txn;
  Answer answer;
  make_branch (f, "gone", 3);
  set_branch (f, &repo, "gone", "gone", TRUE);
  set_branch (f, &repo, "gone", NULL, FALSE);
  GsRefUpdate update = { .name = "refs/heads/again", .new_oid = work_oid (f, "gone") };
  change.updates = &update;
  change.n_updates = 1;
  memset (change.txid.bytes, 77, sizeof change.txid.bytes);
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
  assert_int_equal (vote->n_updates, 1);
  hasty = fake_call_new (3 * G_USEC_PER_SEC);
  assert_false (ask (f, &hasty->call, &repo, (Ask){ .no_grace = TRUE }, &answer, &error));
  assert_true (error->code == GS_ERROR_BUSY || error->code == GS_ERROR_DEADLINE_EXCEEDED);
  g_clear_error (&error);
  assert_true (has (f, &repo, "gone"));
  GsDecision decision = { .size = sizeof decision, .txid = change.txid, .generation = state_of (f, &repo).generation + 1 };
  assert_true (f->ops->commit (f->self, &f->call->call, txn, &decision, &error));
  assert_int_equal (prune (f, &repo, (Ask){ .no_grace = TRUE }).objects, 0);
  assert_true (has (f, &repo, "gone:gone"));
  assert_tidy (f, &repo);
  fixture_free (f);
}

typedef struct
{
  Fixture *f;
  GsRepo repo;
  gboolean done;
  GError *error;
} Once;

static void *
once_thread (void *user)
{
  Once *once = user;
  FakeCall *call = fake_call_new (0);
  Answer answer;
  once->done = ask (once->f, &call->call, &once->repo, (Ask){ .no_grace = TRUE }, &answer, &once->error);
  fake_call_free (call);
  return NULL;
}

/* What no ref reached when it was decided what goes is in use by the time when it would go. */
static void
test_came_into_use (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  Once once = { .f = f, .repo = repo };
  g_autoptr (GError) error = NULL;
  GsChangeSet change = { .size = sizeof change };
  GsThread thread;
  const GsVote *vote;
  gpointer txn;
  make_branch (f, "gone", 3);
  set_branch (f, &repo, "gone", "gone", TRUE);
  set_branch (f, &repo, "gone", NULL, FALSE);
  GsRefUpdate update = { .name = "refs/heads/again", .new_oid = work_oid (f, "gone~1") };
  change.updates = &update;
  change.n_updates = 1;
  memset (change.txid.bytes, 78, sizeof change.txid.bytes);
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
  assert_int_equal (gs_thread_start (&thread, "once", once_thread, &once), 0);
  /* The commit-graph is made when the refs have been read. */
  g_free (sh (f, "cd $ROOT/%s/objects/info && timeout 60 sh -c 'until test -e commit-graphs/commit-graph-chain; do sleep 0.02; done'",
              repo.replica_path));
  GsDecision decision = { .size = sizeof decision, .txid = change.txid, .generation = state_of (f, &repo).generation + 1 };
  assert_true (f->ops->commit (f->self, &f->call->call, txn, &decision, &error));
  gs_thread_join (thread);
  assert_false (once.done);
  assert_gs_error (&once.error, GS_ERROR_ABORTED, "came into use");
  assert_true (has (f, &repo, "gone") && has (f, &repo, "gone~1:gone"));
  assert_tidy (f, &repo);
  assert_int_equal (prune (f, &repo, (Ask){ .no_grace = TRUE }).objects, 3);
  assert_tidy (f, &repo);
  fixture_free (f);
}

typedef struct
{
  Fixture *f;
  GsRepo repo;
  gint stop;
  guint rounds;
  guint64 objects;
  char *failed; /* read after the join */
} Pruner;

static void *
prune_thread (void *user)
{
  Pruner *pruner = user;
  while (!__atomic_load_n (&pruner->stop, __ATOMIC_ACQUIRE))
    {
      g_autoptr (GError) error = NULL;
      FakeCall *call = fake_call_new (0);
      Answer answer;
      if (ask (pruner->f, &call->call, &pruner->repo, (Ask){ .no_grace = TRUE }, &answer, &error))
        {
          __atomic_add_fetch (&pruner->rounds, 1, __ATOMIC_RELEASE);
          pruner->objects += answer.objects;
        }
      else if (error->code != GS_ERROR_ABORTED && error->code != GS_ERROR_BUSY && pruner->failed == NULL)
        pruner->failed = g_strdup (error->message);
      fake_call_free (call);
    }
  return NULL;
}

/* With what is there, if it is: TRUE when it was accepted. */
static gboolean
restore (Fixture *f, const GsRepo *repo, const GsOid *tip, guint64 generation)
{
  g_autoptr (GError) error = NULL;
  GsRefUpdate update = { .name = "refs/heads/flip", .new_oid = *tip };
  GsChangeSet change = { .size = sizeof change, .updates = &update, .n_updates = 1 };
  const GsVote *vote;
  gpointer txn;
  memcpy (change.txid.bytes, &generation, sizeof generation);
  memset (change.txid.bytes + sizeof generation, 99, sizeof change.txid.bytes - sizeof generation);
  if (!f->ops->stage (f->self, &f->call->call, repo, &change, &txn, &vote, &error))
    fail_msg ("stage: %s", error->message);
  if (vote->n_updates == 0)
    {
      f->ops->abort (f->self, &f->call->call, txn, NULL);
      return FALSE;
    }
  GsDecision decision = { .size = sizeof decision, .txid = change.txid, .generation = generation };
  if (!f->ops->commit (f->self, &f->call->call, txn, &decision, &error))
    fail_msg ("commit: %s", error->message);
  return TRUE;
}

/*
 * A branch is deleted and set again to where it was, without an object in the request, while everything unreachable is
 * pruned over and over. Each time either it was gone, or it is there whole.
 */
static void
test_beside_writes (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  make_branch (f, "flip", 3);
  const GsOid tip = work_oid (f, "flip");
  set_branch (f, &repo, "flip", "flip", TRUE);
  Pruner pruner = { .f = f, .repo = repo };
  GsThread thread;
  guint restored = 0, gone = 0;
  gint64 until_us = g_get_monotonic_time () + 120 * G_USEC_PER_SEC;
  assert_int_equal (gs_thread_start (&thread, "pruner", prune_thread, &pruner), 0);
  while ((restored < 3 || gone < 3 || __atomic_load_n (&pruner.rounds, __ATOMIC_ACQUIRE) < 4)
         && g_get_monotonic_time () < until_us)
    {
      guint rounds = __atomic_load_n (&pruner.rounds, __ATOMIC_ACQUIRE);
      set_branch (f, &repo, "flip", NULL, FALSE);
      /* At once, or when a round has ended since. */
      while ((restored + gone) % 2 == 1 && __atomic_load_n (&pruner.rounds, __ATOMIC_ACQUIRE) < rounds + 2
             && g_get_monotonic_time () < until_us)
        poll (NULL, 0, 5);
      if (restore (f, &repo, &tip, state_of (f, &repo).generation + 1))
        restored++;
      else
        {
          gone++;
          set_branch (f, &repo, "flip", "flip", TRUE);
        }
      g_free (sh (f, "git -C $ROOT/%s -c core.commitGraph=false rev-list --objects --quiet flip main", repo.replica_path));
    }
  __atomic_store_n (&pruner.stop, 1, __ATOMIC_RELEASE);
  gs_thread_join (thread);
  if (pruner.failed != NULL)
    fail_msg ("prune: %s", pruner.failed);
  assert_true (restored >= 1 && gone >= 1 && pruner.rounds >= 4);
  assert_true (pruner.objects >= 9);
  assert_tidy (f, &repo);
  fixture_free (f);
}

/* ----------------------------------------------------------------------------------------- in the middle */

static void
test_crash_points (void **state)
{
  static const struct
  {
    const char *point;
    gboolean gone; /* nothing can bring it back */
  } rows[] = { { "prune.packed", FALSE }, { "prune.checked", FALSE }, { "prune.placed", FALSE }, { "prune.noted", FALSE },
               { "prune.unindexed", TRUE }, { "prune.removed", TRUE } };
  Fixture *f = fixture_new (NULL, NULL);
  const GsRepo repo = { .size = sizeof repo, .id = 42, .replica_path = "x.git" };
  fixture_restart (f, FALSE, NULL, NULL);
  make_branch (f, "gone", 3);
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      int status;
      g_free (sh (f, "cd $WORK && rm -rf $ROOT && git push -q \"ext::$SERVE $ROOT x.git %%S\" main gone"
                     " && git push -q \"ext::$SERVE $ROOT x.git %%S\" :gone"));
      g_free (sh_any (f, &status, "CRASH_AT=%s $SERVE $ROOT x.git prune", rows[i].point));
      assert_int_not_equal (status, 0);
      g_free (sh (f, "$SERVE $ROOT x.git refs >/dev/null"));
      assert_tidy (f, &repo);
      if (has (f, &repo, "gone") == rows[i].gone)
        fail_msg ("%s: the unreachable commit is%s there", rows[i].point, rows[i].gone ? "" : " not");
      g_free (sh (f, "$SERVE $ROOT x.git prune && git -C $ROOT/x.git rev-list --objects --all >/dev/null"));
      assert_false (has (f, &repo, "gone"));
      assert_tidy (f, &repo);
    }
  fixture_free (f);
}

/* A pack without an index is another one's, unless the note names it. */
static void
test_recovery_takes_nothing_else (void **state)
{
  GsRepo repo;
  Fixture *f = prune_fixture (&repo);
  g_free (sh (f, "cd $ROOT/%s && P=$(ls objects/pack/*.pack | head -1) && B=$(basename $P .pack) && "
                 "printf '%%s\\n../../HEAD\\npack-../x\\npack-0123\\n' $B >gitstead/pruned",
              repo.replica_path));
  fixture_restart (f, TRUE, NULL, NULL);
  repo = fixture_repo (7);
  assert_int_equal (prune (f, &repo, (Ask){ .no_grace = TRUE }).objects, 0);
  assert_true (has (f, &repo, "main"));
  assert_tidy (f, &repo);
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_grace),         cmocka_unit_test (test_what_stays),
    cmocka_unit_test (test_nothing_but_unreachable), cmocka_unit_test (test_damaged),
    cmocka_unit_test (test_staged),        cmocka_unit_test (test_came_into_use),
    cmocka_unit_test (test_beside_writes), cmocka_unit_test (test_crash_points),
    cmocka_unit_test (test_recovery_takes_nothing_else),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
