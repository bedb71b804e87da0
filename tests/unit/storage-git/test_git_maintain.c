/* SPDX-License-Identifier: Apache-2.0 */
/* Packs stay few whatever is pushed; nothing is lost meanwhile; a stop, a crash or a removal in the middle leaves
 * nothing. */
#include "common.h"

#include <gitstead/thread.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Commits that add to $WORK's main, one change each, to be pushed one after the other: $DIR/N.pack and $DIR/N.oid. */
static void
make_commits (Fixture *f, int from, int to)
{
  g_free (sh (f,
              "cd $WORK && for i in $(seq %d %d); do printf 'commit refs/heads/main\ncommitter c <c@d> %%s +0000\ndata "
              "1\nx\n' $((1700000000 + i));"
              " test $i -gt %d || echo from refs/heads/main^0;"
              " printf 'M 100644 inline counter\ndata <<E\n%%s\nE\n\n' $i; done | git fast-import --quiet --force",
              from, to - 1, from));
  g_free (
      sh (f,
          "cd $WORK && N=%d; git rev-list main | while test $N -gt %d && read C; do N=$((N - 1)); echo $C >$DIR/$N.oid;"
          " git rev-list --objects $C~1..$C | git pack-objects -q --stdout >$DIR/$N.pack; done",
          to, from));
}

static void
push_one (Fixture *f, const GsRepo *repo, int n)
{
  g_autofree char *file = g_strdup_printf ("%s/%d.pack", f->dir, n);
  g_autofree char *oid = g_strdup_printf ("%s/%d.oid", f->dir, n);
  g_autofree char *hex = NULL, *data = NULL;
  gsize len;
  assert_true (g_file_get_contents (oid, &hex, NULL, NULL) && g_file_get_contents (file, &data, &len, NULL));
  g_autoptr (GBytes) pack = g_bytes_new (data, len);
  GsRefUpdate update = { .name = "refs/heads/main",
                         .old_oid = ref_value (f, repo, "refs/heads/main"),
                         .new_oid = oid_of (g_strchomp (hex)) };
  apply_changes (f, repo, &update, 1, pack);
}

static void
push_many (Fixture *f, const GsRepo *repo, int from, int to)
{
  make_commits (f, from, to);
  for (int i = from; i < to; i++)
    push_one (f, repo, i);
}

static GsRepo
make_repo (Fixture *f, guint64 id)
{
  GsRepo repo = fixture_create (f, id);
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  g_autoptr (GBytes) pack = work_pack (f, "main");
  apply_changes (f, &repo, &update, 1, pack);
  return repo;
}

static void
maintain (Fixture *f)
{
  g_autoptr (GError) error = NULL;
  if (!f->ops->maintain (f->self, &f->call->call, &error))
    fail_msg ("maintain: %s", error->message);
}

static int
count (Fixture *f, const GsRepo *repo, const char *pattern)
{
  g_autofree char *n = sh (f, "ls $ROOT/%s/objects/pack | grep -c -e '%s' || true", repo->replica_path, pattern);
  return atoi (n);
}

static void
assert_tidy (Fixture *f, const GsRepo *repo)
{
  g_autofree char *left = sh (
      f,
      "cd $ROOT/%s && find . -name '.tmp-*' -o -name 'tmp_*' -o -name 'bitmap-ref-tips*' -o -path './gitstead/repack'",
      repo->replica_path);
  assert_string_equal (left, "");
  assert_nothing_left (f, repo);
}

/* ------------------------------------------------------------------------------------------ bounded */

static void
test_packs_stay_few (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = make_repo (f, 7);
  g_autofree char *unreached = sh (f,
                                   "cd $ROOT/%s/objects/pack && X=$(echo nobody | git -C $WORK hash-object -w --stdin) "
                                   "&& echo $X | git -C $WORK pack-objects -q $PWD/pack"
                                   " >/dev/null && echo $X",
                                   repo.replica_path);
  push_many (f, &repo, 0, 30);
  assert_int_equal (count (f, &repo, "\\.pack$"), 32);
  maintain (f);
  assert_int_equal (count (f, &repo, "\\.pack$"), 2);
  assert_int_equal (count (f, &repo, "\\.mtimes$"), 1);
  assert_int_equal (count (f, &repo, "\\.bitmap$"), 1);
  assert_int_equal (fake_host_logged (f->host, "storage.maintain.repacked"), 1);
  assert_true (fake_host_metric (f->host, "gitstead_storage_maintenance_packs_total", NULL) == 2);
  assert_true (fake_host_metric (f->host, "gitstead_storage_maintenance_seconds", NULL) == 1);

  /* The second time not everything is due: joined by size. */
  push_many (f, &repo, 30, 60);
  maintain (f);
  assert_int_equal (fake_host_logged (f->host, "storage.maintain.repacked"), 2);
  g_autofree char *log = fake_host_log_text (f->host);
  assert_non_null (strstr (log, "geometric"));
  assert_in_range (count (f, &repo, "\\.pack$"), 2, 6);
  g_free (sh (f,
              "cd $ROOT/%s && git cat-file -e %s && git multi-pack-index verify 2>/dev/null && git commit-graph verify"
              " && test $(git rev-list --count main) = 62",
              repo.replica_path, g_strchomp (unreached)));
  assert_tidy (f, &repo);
  fixture_free (f);
}

static void
test_idle_costs_nothing (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = make_repo (f, 7);
  push_many (f, &repo, 0, 5);
  maintain (f);
  double before = fake_host_metric (f->host, "gitstead_storage_children_total", NULL);
  maintain (f);
  maintain (f);
  assert_true (fake_host_metric (f->host, "gitstead_storage_children_total", NULL) == before);
  /* Nor does a restart make work, … */
  fixture_restart (f, TRUE, NULL, NULL);
  before = fake_host_metric (f->host, "gitstead_storage_children_total", NULL);
  maintain (f);
  assert_true (fake_host_metric (f->host, "gitstead_storage_children_total", NULL) == before);
  /* … unless some was left undone. */
  repo = fixture_repo (7);
  push_many (f, &repo, 5, 10);
  fixture_restart (f, TRUE, NULL, NULL);
  repo = fixture_repo (7);
  int packs = count (f, &repo, "\\.pack$");
  maintain (f);
  assert_true (count (f, &repo, "\\.pack$") < packs);
  fixture_free (f);
}

static void
test_options (void **state)
{
  Fixture *f = fixture_new ("maintenance", "false");
  GsRepo repo = make_repo (f, 7);
  push_many (f, &repo, 0, 5);
  maintain (f);
  assert_int_equal (count (f, &repo, "\\.pack$"), 6);
  fixture_restart (f, TRUE, "maintenance_packs", "6");
  maintain (f);
  repo = fixture_repo (7);
  assert_int_equal (count (f, &repo, "\\.pack$"), 6);
  push_many (f, &repo, 5, 6);
  maintain (f);
  assert_int_equal (count (f, &repo, "\\.pack$"), 1);
  fixture_restart (f, TRUE, "full_repack_every", "0s");
  repo = fixture_repo (7);
  push_many (f, &repo, 6, 10);
  maintain (f);
  g_autofree char *log = fake_host_log_text (f->host);
  assert_non_null (strstr (log, "geometric"));
  fixture_free (f);
}

/* A repository whose refs are all gone has nothing but unreachable objects. */
static void
test_all_refs_deleted (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = make_repo (f, 7);
  push_many (f, &repo, 0, 4);
  GsRefUpdate update = { .name = "refs/heads/main", .old_oid = ref_value (f, &repo, "refs/heads/main") };
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&update.old_oid, hex);
  apply_changes (f, &repo, &update, 1, NULL);
  maintain (f);
  g_free (sh (f, "cd $ROOT/%s && git rev-list --objects %s >/dev/null", repo.replica_path, hex));
  assert_tidy (f, &repo);
  fixture_free (f);
}

/* --------------------------------------------------------------------------------------- concurrent */

typedef struct
{
  Fixture *f;
  GsRepo repo;
  gint stop;
  guint rounds, reads;
  char *failed; /* set by the thread, read after its join */
} Beside;

static void *
maintain_thread (void *user)
{
  Beside *beside = user;
  while (!__atomic_load_n (&beside->stop, __ATOMIC_ACQUIRE))
    {
      g_autoptr (GError) error = NULL;
      FakeCall *call = fake_call_new (0);
      if (!beside->f->ops->maintain (beside->f->self, &call->call, &error) && beside->failed == NULL)
        beside->failed = g_strdup (error->message);
      beside->rounds++;
      fake_call_free (call);
    }
  return NULL;
}

static void *
read_thread (void *user)
{
  Beside *beside = user;
  Fixture *f = beside->f;
  const GsStorageOps *ops = f->ops;
  FakeCall *call = fake_call_new (0);
  while (!__atomic_load_n (&beside->stop, __ATOMIC_ACQUIRE))
    {
      g_autoptr (GError) error = NULL;
      GsObject object = { .size = sizeof object };
      GBytes *bytes = NULL;
      if (!ops->resolve_revision (f->self, &call->call, &beside->repo, "refs/heads/main:counter", 23, &object, &error)
          || !ops->read_object (f->self, &call->call, &beside->repo, &object.oid, 1000, &object, &bytes, &error)
          || !ops->resolve_revision (f->self, &call->call, &beside->repo, "refs/heads/main:dir/sub/three", 29, &object,
                                     &error))
        {
          if (beside->failed == NULL)
            beside->failed = g_strdup (error->message);
        }
      if (bytes != NULL)
        g_bytes_unref (bytes);
      beside->reads++;
    }
  fake_call_free (call);
  return NULL;
}

static void *
fetch_thread (void *user)
{
  Beside *beside = user;
  g_autofree char *dir = g_strdup_printf ("%s/clone", beside->f->dir);
  g_autofree char *from = g_strdup_printf ("%s/%s", beside->f->root, beside->repo.replica_path);
  while (!__atomic_load_n (&beside->stop, __ATOMIC_ACQUIRE))
    {
      const char *argv[] = { "git", "clone", "-q", "--bare", "--no-local", from, dir, NULL };
      g_autofree char *said = NULL;
      int status = 0;
      if ((!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &said, &status, NULL)
           || status != 0)
          && beside->failed == NULL)
        beside->failed = g_strdup (said != NULL ? said : "git clone cannot be started");
      fake_remove_tree (dir);
      beside->rounds++;
    }
  return NULL;
}

static void
test_beside_pushes_and_fetches (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = make_repo (f, 7);
  Beside beside[3] = { { .f = f, .repo = repo }, { .f = f, .repo = repo }, { .f = f, .repo = repo } };
  void *(*const run[]) (void *) = { maintain_thread, read_thread, fetch_thread };
  GsThread threads[3];
  push_many (f, &repo, 0, 1);
  for (gsize i = 0; i < G_N_ELEMENTS (run); i++)
    assert_int_equal (gs_thread_start (&threads[i], "beside", run[i], &beside[i]), 0);
  /* As many pushes as it takes to be repacked under them twice, however slow this machine is. */
  gint64 until_us = g_get_monotonic_time () + 180 * G_USEC_PER_SEC;
  for (int i = 1;
       i < 40
       || (fake_host_logged (f->host, "storage.maintain.repacked") < 2 && g_get_monotonic_time () < until_us);
       i++)
    push_many (f, &repo, i, i + 1);
  for (gsize i = 0; i < G_N_ELEMENTS (run); i++)
    {
      __atomic_store_n (&beside[i].stop, 1, __ATOMIC_RELEASE);
      gs_thread_join (threads[i]);
      if (beside[i].failed != NULL)
        fail_msg ("thread %d: %s", (int) i, beside[i].failed);
    }
  assert_true (beside[0].rounds > 1 && beside[1].reads > 1 && beside[2].rounds > 0);
  assert_true (fake_host_logged (f->host, "storage.maintain.repacked") > 1);
  g_autofree char *same = sh (f, "test $(git -C $ROOT/%s rev-parse main) = $(git -C $WORK rev-parse main)"
                                 " && git -C $ROOT/%s rev-list --objects --all | wc -l",
                              repo.replica_path, repo.replica_path);
  assert_true (atoi (same) >= 120);
  maintain (f);
  assert_tidy (f, &repo);
  fixture_free (f);
}

/* ------------------------------------------------------------------------------------ in the middle */

/* A git that, asked to repack, leaves what a real one has when it is killed, says so on a FIFO and never ends. */
static char *
make_slow_git (Fixture *f)
{
  g_autofree char *real = g_find_program_in_path ("git");
  g_free (sh (f,
              "mkfifo $DIR/begun && cat >$DIR/git <<'END'\n"
              "#!/bin/sh\n"
              "if test \"$1\" = repack; then\n"
              "  touch $GIT_DIR/objects/pack/tmp_pack_abc $GIT_DIR/objects/pack/.tmp-1-pack-abc.pack "
              "$GIT_DIR/objects/bitmap-ref-tips_abc\n"
              "  touch $GIT_DIR/objects/pack/multi-pack-index.lock\n"
              "  D=${0%%/*}; echo $$ >$D/pid; echo begun >$D/begun; exec sleep 1000\n"
              "fi\n"
              "exec %s \"$@\"\n"
              "END\n"
              "chmod +x $DIR/git",
              real));
  return g_build_filename (f->dir, "git", NULL);
}

static void
wait_begun (Fixture *f)
{
  g_autofree char *begun = sh (f, "timeout 60 cat $DIR/begun");
  assert_string_equal (begun, "begun\n");
}

typedef struct
{
  Fixture *f;
  FakeCall *call;
  gboolean done;
  GError *error;
} Round;

static void *
round_thread (void *user)
{
  Round *round = user;
  round->done = round->f->ops->maintain (round->f->self, &round->call->call, &round->error);
  return NULL;
}

static Fixture *
slow_fixture (GsRepo *ret_repo)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autofree char *git = make_slow_git (f);
  fixture_restart (f, TRUE, "git", git);
  *ret_repo = make_repo (f, 7);
  push_many (f, ret_repo, 0, 5);
  return f;
}

static void
test_cancelled (void **state)
{
  GsRepo repo;
  Fixture *f = slow_fixture (&repo);
  Round round = { .f = f, .call = fake_call_new (0) };
  GsThread thread;
  assert_int_equal (gs_thread_start (&thread, "round", round_thread, &round), 0);
  wait_begun (f);
  /* A second round meanwhile starts nothing. */
  double before = fake_host_metric (f->host, "gitstead_storage_children_total", NULL);
  maintain (f);
  assert_true (fake_host_metric (f->host, "gitstead_storage_children_total", NULL) == before);
  fake_call_cancel (round.call);
  gs_thread_join (thread);
  assert_false (round.done);
  assert_gs_error (&round.error, GS_ERROR_CANCELLED, "");
  g_free (sh (f, "! kill -0 $(cat $DIR/pid) 2>/dev/null"));
  assert_int_equal (count (f, &repo, "\\.pack$"), 6);
  assert_tidy (f, &repo);
  fake_call_free (round.call);
  fixture_free (f);
}

static void
test_removed (void **state)
{
  GsRepo repo;
  Fixture *f = slow_fixture (&repo);
  Round round = { .f = f, .call = fake_call_new (0) };
  GsThread thread;
  g_autoptr (GError) error = NULL;
  assert_int_equal (gs_thread_start (&thread, "round", round_thread, &round), 0);
  wait_begun (f);
  assert_true (f->ops->remove (f->self, &f->call->call, &repo, &error));
  /* It is stopped when the removal returns, and the round goes on with the others. */
  g_free (sh (f, "! kill -0 $(cat $DIR/pid) 2>/dev/null && ! test -e $ROOT/%s", repo.replica_path));
  gs_thread_join (thread);
  assert_true (round.done);
  fake_call_free (round.call);
  fixture_free (f);
}

static void
test_server_killed (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autofree char *git = make_slow_git (f);
  const char *path = "x.git";
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f,
              "cd $WORK && for i in 1 2 3 4; do git push -q \"ext::$SERVE $ROOT x.git %%S\" HEAD:refs/heads/b$i"
              " && git commit -q --allow-empty -m $i; done; ls $ROOT/x.git/objects/pack/*.pack | wc -l | grep -q 4"));
  g_free (sh (f,
              "GIT_PROGRAM=%s $SERVE $ROOT %s maintain >/dev/null 2>&1 & P=$!; timeout 60 cat $DIR/begun && kill -9 $P "
              "&& { wait $P || true; }",
              git, path));
  /* Its git process lives on: a new server does not touch what that has in hand. */
  g_free (sh (f,
              "kill -0 $(cat $DIR/pid) && test -e $ROOT/x.git/gitstead/repack && $SERVE $ROOT %s refs >/dev/null && "
              "test -e $ROOT/x.git/gitstead/repack"
              " && test -e $ROOT/x.git/objects/pack/tmp_pack_abc && $SERVE $ROOT %s maintain",
              path, path));
  /* Dead, and a power cut has taken the folder's last changes: an old pack is gone. */
  g_free (sh (f, "kill -9 $(cat $DIR/pid); timeout 60 flock $ROOT/x.git/objects/pack true; cd $ROOT/x.git/objects/pack"
                 " && rm $(ls pack-* | head -3) && rm -f $ROOT/gitstead-clean"));
  g_free (sh (f, "$SERVE $ROOT %s refs >/dev/null && ls $ROOT/x.git/objects/pack/*.pack | wc -l | grep -q 4", path));
  const GsRepo repo = { .size = sizeof repo, .id = 42, .replica_path = path };
  assert_tidy (f, &repo);
  g_free (sh (f, "$SERVE $ROOT %s maintain && ls $ROOT/x.git/objects/pack/*.pack | wc -l | grep -q 1", path));
  assert_tidy (f, &repo);
  fixture_free (f);
}

/* kill -9 at the named steps of a repack. */
static void
test_crash_points (void **state)
{
  static const char *const points[] = { "maintain.linked", "maintain.repacked" };
  Fixture *f = fixture_new (NULL, NULL);
  const GsRepo repo = { .size = sizeof repo, .id = 42, .replica_path = "x.git" };
  fixture_restart (f, FALSE, NULL, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (points); i++)
    {
      int status;
      g_free (sh (f, "cd $WORK && rm -rf $ROOT && for i in 1 2 3 4; do git push -q \"ext::$SERVE $ROOT x.git %%S\" "
                     "HEAD:refs/heads/b$i"
                     " && git commit -q --allow-empty -m $i; done"));
      g_free (sh_any (f, &status, "CRASH_AT=%s $SERVE $ROOT x.git maintain", points[i]));
      assert_int_not_equal (status, 0);
      g_free (sh (f, "test -e $ROOT/x.git/gitstead/repack && $SERVE $ROOT x.git refs >/dev/null"));
      assert_tidy (f, &repo);
      g_free (sh (f, "$SERVE $ROOT x.git maintain && git -C $ROOT/x.git rev-list --objects --all >/dev/null"));
      assert_tidy (f, &repo);
    }
  fixture_free (f);
}

/* One replica's trouble is logged, does not end the round, and is not tried over and over. */
static void
test_failure (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo bad = make_repo (f, 7);
  push_many (f, &bad, 0, 4);
  g_free (sh (f,
              "cd $ROOT/%s/objects/pack && P=$(ls -S *.pack | head -1) && chmod u+w $P && printf XXXXXXXX | dd of=$P "
              "bs=1 seek=40 conv=notrunc 2>/dev/null",
              bad.replica_path));
  g_autofree char *bad_path = g_strdup (bad.replica_path);
  int packs = count (f, &bad, "\\.pack$");
  GsRepo good = make_repo (f, 8);
  push_many (f, &good, 4, 8);
  for (int i = 0; i < 5; i++)
    maintain (f);
  assert_int_equal (fake_host_logged (f->host, "storage.maintain.failed"), 2);
  assert_int_equal (count (f, &good, "\\.pack$"), 1);
  bad.replica_path = bad_path;
  assert_int_equal (count (f, &bad, "\\.pack$"), packs);
  assert_tidy (f, &good);
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_packs_stay_few),    cmocka_unit_test (test_idle_costs_nothing),
    cmocka_unit_test (test_options),           cmocka_unit_test (test_all_refs_deleted),
    cmocka_unit_test (test_beside_pushes_and_fetches), cmocka_unit_test (test_cancelled),
    cmocka_unit_test (test_removed),           cmocka_unit_test (test_server_killed),
    cmocka_unit_test (test_crash_points),      cmocka_unit_test (test_failure),
  };
  return cmocka_run_group_tests_name ("storage/git maintenance", tests, NULL, NULL);
}
