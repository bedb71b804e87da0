/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas: made, found, measured, thrown away; the root's marker; the identity record and what damages it. */
#include "common.h"

#include "git.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const GsRepoSpec main_spec
    = { .size = sizeof main_spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };

static void
test_create_and_find (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_repo (7);
  g_autoptr (GError) error = NULL;
  gboolean exists = TRUE;
  assert_true (f->ops->exists (f->self, &f->call->call, &repo, &exists, &error));
  assert_false (exists);
  repo = fixture_create (f, 7);
  assert_true (f->ops->exists (f->self, &f->call->call, &repo, &exists, &error));
  assert_true (exists);
  assert_false (f->ops->create (f->self, &f->call->call, &repo, &main_spec, &error));
  assert_gs_error (&error, GS_ERROR_ALREADY_EXISTS, "@r/7.git");
  /* Stock git takes it for an empty repository. */
  g_autofree char *head = sh (f, "git -C $ROOT/@r/7.git symbolic-ref HEAD && git -C $ROOT/@r/7.git for-each-ref");
  assert_string_equal (head, "refs/heads/main\n");
  GsReplicaState now = state_of (f, &repo);
  assert_int_equal (now.repository_id, 7);
  assert_int_equal (now.generation, 0);
  GsDigest head_term = { { 0 } };
  ref_digest_term ("HEAD", NULL, "refs/heads/main", &head_term);
  assert_memory_equal (&now.refs_digest, &head_term, sizeof head_term);
  assert_nothing_left (f, &repo);
  fixture_free (f);
}

static void
test_bad_requests (void **state)
{
  static const char *const paths[]
      = { "", "/abs.git", "a/../b.git", "..", "a//b", "a/", "./a", "gitstead-trash/x", "a\nb", "1/2/3/4/5/6/7/8/9" };
  Fixture *f = fixture_new (NULL, NULL);
  g_autoptr (GError) error = NULL;
  gboolean exists;
  for (gsize i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      GsRepo repo = { .size = sizeof repo, .id = 1, .replica_path = paths[i] };
      assert_false (f->ops->create (f->self, &f->call->call, &repo, &main_spec, &error));
      assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "replica path");
      assert_false (f->ops->exists (f->self, &f->call->call, &repo, &exists, &error));
      assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "replica path");
      assert_false (f->ops->remove (f->self, &f->call->call, &repo, &error));
      assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "replica path");
    }
  GsRepo repo = fixture_repo (1), nobody = fixture_repo (1);
  nobody.id = 0;
  assert_false (f->ops->create (f->self, &f->call->call, &nobody, &main_spec, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "repository id");
  GsRepoSpec spec = main_spec;
  spec.format = GS_FORMAT_SHA256;
  assert_false (f->ops->create (f->self, &f->call->call, &repo, &spec, &error));
  assert_gs_error (&error, GS_ERROR_UNIMPLEMENTED, "SHA-1");
  spec = main_spec;
  spec.default_branch = "refs/heads/a..b";
  assert_false (f->ops->create (f->self, &f->call->call, &repo, &spec, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "default_branch");
  g_autofree char *left = sh (f, "ls -A $ROOT/gitstead-tmp; ls -d $ROOT/@r 2>/dev/null || true");
  assert_string_equal (left, "");
  fixture_free (f);
}

static gboolean
collect_id (const GsRepo *repo, gpointer user)
{
  g_string_append_printf (user, "%" G_GUINT64_FORMAT " %s,", repo->id, repo->replica_path);
  return TRUE;
}

static int
compare_words (gconstpointer a, gconstpointer b)
{
  return strcmp (*(char *const *) a, *(char *const *) b);
}

static char *
list_ids (Fixture *f)
{
  g_autoptr (GString) text = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  if (!f->ops->list (f->self, &f->call->call, collect_id, text, &error))
    fail_msg ("list: %s", error->message);
  g_auto (GStrv) words = g_strsplit (text->str, ",", -1);
  qsort (words, g_strv_length (words), sizeof *words, compare_words);
  return g_strjoinv (",", words);
}

static void
test_list_and_remove (void **state)
{
  Fixture *f = fixture_new ("trash_grace", "1h");
  g_autoptr (GError) error = NULL;
  for (guint64 id = 1; id <= 3; id++)
    fixture_create (f, id);
  GsRepo deep = { .size = sizeof deep, .id = 9, .replica_path = "@r/ab/cd/9.git" };
  assert_true (f->ops->create (f->self, &f->call->call, &deep, &main_spec, &error));
  g_autofree char *all = list_ids (f);
  assert_string_equal (all, ",1 @r/1.git,2 @r/2.git,3 @r/3.git,9 @r/ab/cd/9.git");

  GsRepo repo = fixture_repo (2);
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  g_autoptr (GBytes) pack = work_pack (f, "main");
  apply_changes (f, &repo, &update, 1, pack);
  assert_true (f->ops->remove (f->self, &f->call->call, &repo, &error));
  assert_false (f->ops->remove (f->self, &f->call->call, &repo, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "2.git");
  GsReplicaState gone;
  assert_false (f->ops->state (f->self, &f->call->call, &repo, &gone, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "2.git");
  g_autofree char *fewer = list_ids (f);
  assert_string_equal (fewer, ",1 @r/1.git,3 @r/3.git,9 @r/ab/cd/9.git");

  /* The path is free at once, and nothing of the old repository shows through. */
  repo = fixture_create (f, 2);
  assert_int_equal (ref_value (f, &repo, "refs/heads/main").len, 0);
  g_autofree char *trash = sh (f, "git -C $ROOT/gitstead-trash/*-2-* rev-parse main; git -C $WORK rev-parse main");
  assert_true (strlen (trash) == 82 && memcmp (trash, trash + 41, 41) == 0);

  assert_true (f->ops->maintain (f->self, &f->call->call, &error));
  g_autofree char *kept = sh (f, "ls $ROOT/gitstead-trash | wc -l");
  assert_string_equal (g_strstrip (kept), "1");
  fixture_restart (f, TRUE, "trash_grace", "0");
  assert_true (f->ops->maintain (f->self, &f->call->call, &error));
  g_autofree char *emptied = sh (f, "ls $ROOT/gitstead-trash | wc -l");
  assert_string_equal (g_strstrip (emptied), "0");
  fixture_free (f);
}

static void
test_remove_waits_for_writers (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) pack = work_pack (f, "main");
  GsRepo repo = fixture_create (f, 5);
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  GsChangeSet change = { .size = sizeof change, .txid = { { 1 } }, .updates = &update, .n_updates = 1, .pack = pack };
  const GsVote *vote;
  gpointer txn;
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
  assert_false (f->ops->remove (f->self, &f->call->call, &repo, &error));
  assert_gs_error (&error, GS_ERROR_BUSY, "under way");
  f->ops->abort (f->self, &f->call->call, txn, NULL);
  assert_nothing_left (f, &repo);
  assert_true (f->ops->remove (f->self, &f->call->call, &repo, &error));
  fixture_free (f);
}

static void
test_measure (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autoptr (GError) error = NULL;
  GsRepo repo = fixture_create (f, 5);
  GsRefUpdate updates[] = { { .name = "refs/heads/main", .new_oid = work_oid (f, "main") },
                            { .name = "refs/tags/v1", .new_oid = work_oid (f, "v1") } };
  g_autoptr (GBytes) pack = work_pack (f, "main v1");
  GsRepoSize size;
  apply_changes (f, &repo, updates, 2, pack);
  assert_true (f->ops->measure (f->self, &f->call->call, &repo, &size, &error));
  assert_int_equal (size.n_refs, 2);
  assert_int_equal (size.n_packs, 1);
  assert_true (size.objects_bytes > g_bytes_get_size (pack) && size.refs_bytes >= 82);
  assert_true (size.total_bytes > size.objects_bytes + size.refs_bytes);
  fixture_free (f);
}

/* ------------------------------------------------------------------------------------ the identity */

static void
expect_state_error (Fixture *f, const GsRepo *repo, int code, const char *part)
{
  g_autoptr (GError) error = NULL;
  GsReplicaState found = { .size = 77 };
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = oid_of ("1111111111111111111111111111111111111111") };
  GsChangeSet change = { .size = sizeof change, .txid = { { 1 } }, .updates = &update, .n_updates = 1 };
  const GsVote *vote = NULL;
  gpointer txn = NULL;
  assert_false (f->ops->state (f->self, &f->call->call, repo, &found, &error));
  assert_gs_error (&error, code, part);
  assert_int_equal (found.size, 77);
  assert_false (f->ops->stage (f->self, &f->call->call, repo, &change, &txn, &vote, &error));
  assert_gs_error (&error, code, part);
  assert_null (txn);
}

static void
test_identity (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 5), other = repo;
  g_autoptr (GError) error = NULL;
  other.id = 6;
  expect_state_error (f, &other, GS_ERROR_FAILED_PRECONDITION, "says it is repository 5");
  assert_false (f->ops->remove (f->self, &f->call->call, &other, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "belongs to repository 5");
  assert_int_equal (state_of (f, &repo).repository_id, 5);

  g_free (sh (f, "cp -a $ROOT/@r $DIR/saved"));
  struct
  {
    const char *damage;
    int code;
    const char *part;
  } cases[] = {
    { "sed -i 's/^generation 0/generation 5/' gitstead/replica", GS_ERROR_DATA_LOSS, "checksum" },
    { "truncate -s 40 gitstead/replica", GS_ERROR_DATA_LOSS, "damaged" },
    { "truncate -s 0 gitstead/replica", GS_ERROR_DATA_LOSS, "damaged" },
    { "head -c 100000 /dev/zero >gitstead/replica", GS_ERROR_OUT_OF_RANGE, "gitstead/replica" },
    { "rm gitstead/replica", GS_ERROR_FAILED_PRECONDITION, "no identity record" },
    { "rm gitstead/replica && ln -s /dev/null gitstead/replica", GS_ERROR_INTERNAL, "gitstead/replica" },
    { "printf '[extensions]\\n\\tobjectformat = sha256\\n' >>config", GS_ERROR_FAILED_PRECONDITION, "extensions" },
    { "echo /elsewhere >objects/info/alternates", GS_ERROR_FAILED_PRECONDITION, "borrows objects" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      fixture_restart (f, FALSE, NULL, NULL);
      g_free (sh (f, "rm -rf $ROOT/@r && cp -a $DIR/saved $ROOT/@r && cd $ROOT/@r/5.git && %s", cases[i].damage));
      g_autofree char *before = sh (f, "cd $ROOT && find @r -type f | sort | xargs sha1sum");
      assert_true (f->plugin->start (f->self, &error));
      expect_state_error (f, &repo, cases[i].code, cases[i].part);
      g_autofree char *after = sh (f, "cd $ROOT && find @r -type f | sort | xargs sha1sum");
      assert_string_equal (before, after);
    }
  fixture_free (f);
}

static void
test_foreign_storage (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 5);
  fixture_restart (f, FALSE, NULL, NULL);
  g_autoptr (GError) error = NULL;
  g_free (sh (f, "sed -i 's/^uuid ......../uuid 00000000/' $ROOT/gitstead-storage"));
  assert_true (f->plugin->start (f->self, &error));
  expect_state_error (f, &repo, GS_ERROR_FAILED_PRECONDITION, "of storage");
  fixture_free (f);
}

static void
test_root (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  g_autoptr (GError) error = NULL;
  gpointer second = f->plugin->create (&f->host->host, fake_config_get (f->config), &error);
  assert_false (f->plugin->start (second, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "in use by another process");
  f->plugin->destroy (second);

  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f, "echo 'gitstead-storage 2' >$ROOT/gitstead-storage"));
  assert_false (f->plugin->start (f->self, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "newer version");

  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f, "rm $ROOT/gitstead-storage"));
  assert_false (f->plugin->start (f->self, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "no gitstead-storage marker");

  fixture_restart (f, FALSE, "git", "/nonexistent/git");
  assert_false (f->plugin->start (f->self, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "install git");

  fixture_restart (f, FALSE, "hook_dir", f->dir);
  assert_false (f->plugin->start (f->self, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "proc-receive");

  fixture_restart (f, FALSE, "git", "/bin/true");
  g_free (sh (f, "rm -rf $ROOT && mkdir $ROOT $ROOT/lost+found"));
  assert_false (f->plugin->start (f->self, &error));
  assert_gs_error (&error, GS_ERROR_FAILED_PRECONDITION, "/bin/true");
  fixture_free (f);
}

static void
test_record_ahead (void **state)
{
  static const struct
  {
    guint64 applied, generation;
    guint ranges;
  } steps[] = { { 1, 1, 0 }, { 3, 1, 1 }, { 5, 1, 2 }, { 3, 1, 2 }, { 4, 1, 1 }, { 9, 1, 2 },
                { 2, 5, 1 }, { 1, 5, 1 }, { 6, 6, 1 }, { 8, 6, 1 }, { 7, 9, 0 } };
  ReplicaRecord record = { .id = 1, .ahead = g_array_new (FALSE, FALSE, sizeof (GenerationRange)) };
  for (gsize i = 0; i < G_N_ELEMENTS (steps); i++)
    {
      replica_record_applied (&record, steps[i].applied);
      assert_int_equal (record.generation, steps[i].generation);
      assert_int_equal (record.ahead->len, steps[i].ranges);
    }
  replica_record_clear (&record);
}

static void
test_record_round_trip (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  Storage storage = { .sync = FALSE };
  ReplicaRecord record
      = { .id = 12, .format = GS_FORMAT_SHA1, .ahead = g_array_new (FALSE, FALSE, sizeof (GenerationRange)) };
  ReplicaRecord back;
  g_autoptr (GError) error = NULL;
  g_strlcpy (record.storage, "0123456789abcdef0123456789abcdef", sizeof record.storage);
  memset (&record.digest, 0xa5, sizeof record.digest);
  replica_record_applied (&record, 1);
  replica_record_applied (&record, 7);
  replica_record_applied (&record, 8);
  replica_record_applied (&record, G_MAXUINT64);
  g_free (sh (f, "mkdir -p $DIR/x/gitstead"));
  g_autofree char *dir = g_build_filename (f->dir, "x", NULL);
  assert_true (replica_record_write (&storage, dir, &record, &error));
  assert_true (replica_record_read (dir, &back, &error));
  assert_int_equal (back.id, 12);
  assert_int_equal (back.generation, 1);
  assert_string_equal (back.storage, record.storage);
  assert_memory_equal (&back.digest, &record.digest, sizeof back.digest);
  assert_int_equal (back.ahead->len, 2);
  assert_memory_equal (back.ahead->data, record.ahead->data, 2 * sizeof (GenerationRange));
  replica_record_clear (&back);
  replica_record_clear (&record);
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_create_and_find), cmocka_unit_test (test_bad_requests),
    cmocka_unit_test (test_list_and_remove), cmocka_unit_test (test_remove_waits_for_writers),
    cmocka_unit_test (test_measure),         cmocka_unit_test (test_identity),
    cmocka_unit_test (test_foreign_storage), cmocka_unit_test (test_root),
    cmocka_unit_test (test_record_ahead),    cmocka_unit_test (test_record_round_trip),
  };
  return cmocka_run_group_tests_name ("storage/git replicas", tests, NULL, NULL);
}
