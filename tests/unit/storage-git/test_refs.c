/* SPDX-License-Identifier: Apache-2.0 */
/* Names, packed-refs parsing, snapshots: what readers see, compared with stock git on the same files. */
#include "refs_fixture.h"

#include "refs_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct
{
  Repo *repo;
  RefStore *store;
} Fixture;

static int
setup (void **state)
{
  Fixture *fixture = g_new0 (Fixture, 1);
  fixture->repo = repo_new ();
  fixture->store = repo_store (fixture->repo);
  *state = fixture;
  return 0;
}

static int
teardown (void **state)
{
  Fixture *fixture = *state;
  ref_store_free (fixture->store);
  repo_free (fixture->repo);
  g_free (fixture);
  return 0;
}

static void
git_set (Repo *repo, const char *name, const GsOid *oid)
{
  g_autofree char *hex = hex_of (oid);
  g_free (git (repo, "update-ref", name, hex, NULL));
}

/* ---------------------------------------------------------------------------------------- names */

static void
test_names_as_git (void **state)
{
  static const char *const names[]
      = { "refs/heads/a", "refs/x", "refs/heads/a/b/c", "refs/heads/.a", "refs/heads/a.", "refs/heads/a..b",
          "refs/heads/a.lock", "refs/heads/a.lock/b", "refs/heads/a b", "refs/heads/a~b", "refs/heads/a^", "refs/heads/a:b",
          "refs/heads/a?", "refs/heads/a*", "refs/heads/a[", "refs/heads/a\\b", "refs/heads/a\tb", "refs/heads/a\x7f",
          "refs/heads/@", "refs/heads/a@{b", "refs/heads/@{", "refs/heads/{", "refs/heads//a", "refs/heads/a/",
          "refs/heads/a/.b", "refs/heads/\xc3\xa4", "refs/heads/\xff", "refs/heads/-", "refs/heads/a.b", "refs/heads/a]",
          "refs/heads/lock", "refs/heads/a.locks", "refs/heads/.lock", "refs/", "refs/heads/}" };
  Fixture *fixture = *state;
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    {
      gboolean theirs = git_try (fixture->repo, "check-ref-format", names[i], NULL) == 0;
      if (ref_name_valid (names[i], NULL) != theirs)
        fail_msg ("\"%s\": git says %d", names[i], theirs);
    }
  assert_false (ref_name_valid ("HEAD", NULL));
  assert_false (ref_name_valid ("heads/a", NULL));
  assert_false (ref_name_valid ("", NULL));
  assert_false (ref_name_valid ("refs", NULL));
}

static void
test_name_limits (void **state)
{
  g_autoptr (GError) error = NULL;
  GString *name = g_string_new ("refs/heads");
  g_autofree char *part = g_strnfill (251, 'x');
  for (guint parts = 2; parts < REF_DEPTH_MAX; parts++)
    g_string_append (name, "/d");
  assert_true (ref_name_valid (name->str, NULL));
  g_string_append (name, "/d");
  assert_false (ref_name_valid (name->str, NULL));
  g_string_assign (name, "refs/heads/");
  g_string_append_len (name, part, 250);
  assert_true (ref_name_valid (name->str, NULL));
  g_string_append (name, "x");
  assert_false (ref_name_valid (name->str, &error));
  assert_int_equal (error->code, GS_ERROR_INVALID_ARGUMENT);
  g_string_append (name, "/y"); /* as a directory it fits */
  assert_true (ref_name_valid (name->str, NULL));
  g_string_assign (name, "refs/heads");
  for (guint i = 0; i < 10; i++)
    g_string_append_printf (name, "/%.*s", 100, part);
  g_string_append (name, "/abc");
  assert_int_equal (name->len, 1024);
  assert_true (ref_name_valid (name->str, NULL));
  g_string_append (name, "d");
  assert_false (ref_name_valid (name->str, NULL));
  g_string_free (name, TRUE);
}

/* ----------------------------------------------------------------------------------- packed-refs */

static void
test_listing_as_git (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  assert_like_git (repo, fixture->store);
  git_set (repo, "refs/heads/main", &repo->commits[0]);
  git_set (repo, "refs/tags/v1", &repo->tag);
  git_set (repo, "refs/tags/v2", &repo->nested);
  git_set (repo, "refs/heads/a-b", &repo->commits[1]);
  git_set (repo, "refs/heads/a/b", &repo->commits[2]);
  git_set (repo, "refs/heads/a.b", &repo->commits[3]);
  assert_like_git (repo, fixture->store);
  g_free (git (repo, "pack-refs", "--all", NULL));
  assert_like_git (repo, fixture->store);
  git_set (repo, "refs/heads/main", &repo->commits[4]);
  git_set (repo, "refs/heads/zzz", &repo->commits[4]);
  assert_like_git (repo, fixture->store);
  g_free (git (repo, "update-ref", "-d", "refs/heads/a/b", NULL));
  g_free (git (repo, "update-ref", "-d", "refs/heads/zzz", NULL));
  assert_like_git (repo, fixture->store);
}

static void
test_pack_bytes_as_git (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *before = NULL, *ours = NULL, *theirs = NULL;
  g_autoptr (GError) error = NULL;
  git_set (repo, "refs/heads/main", &repo->commits[0]);
  git_set (repo, "refs/tags/v1", &repo->tag);
  g_free (git (repo, "pack-refs", "--all", NULL));
  git_set (repo, "refs/tags/v2", &repo->nested);
  git_set (repo, "refs/heads/main", &repo->commits[1]);
  git_set (repo, "refs/heads/deep/er/x", &repo->commits[1]);
  before = read_file (repo, "packed-refs");
  assert_true (ref_store_pack (fixture->store, TRUE, &error));
  ours = read_file (repo, "packed-refs");
  assert_string_not_equal (before, ours);
  assert_false (file_exists (repo, "refs/heads/main"));
  assert_false (file_exists (repo, "refs/heads/deep"));
  assert_false (file_exists (repo, "packed-refs.lock"));
  assert_false (file_exists (repo, "packed-refs.new"));
  assert_like_git (repo, fixture->store);
  write_file (repo, "packed-refs", before);
  git_set (repo, "refs/tags/v2", &repo->nested);
  git_set (repo, "refs/heads/main", &repo->commits[1]);
  git_set (repo, "refs/heads/deep/er/x", &repo->commits[1]);
  g_free (git (repo, "pack-refs", "--all", NULL));
  theirs = read_file (repo, "packed-refs");
  assert_string_equal (ours, theirs);
}

static void
test_pack_threshold (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  for (guint i = 0; i < 7; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/heads/b%u", i);
      git_set (repo, name, &repo->commits[0]);
    }
  assert_true (ref_store_pack (fixture->store, FALSE, NULL));
  assert_true (file_exists (repo, "refs/heads/b0"));
  git_set (repo, "refs/heads/b7", &repo->commits[0]);
  assert_true (ref_store_pack (fixture->store, FALSE, NULL));
  assert_false (file_exists (repo, "refs/heads/b7"));
  assert_like_git (repo, fixture->store);
}

/** packed-refs without the header, in reverse order, without peeled values: all has to be made good. */
static void
test_packed_foreign_headers (void **state)
{
  static const char *const headers[] = { "", "# pack-refs with:\n", "# pack-refs with: peeled \n",
    "# pack-refs with: peeled fully-peeled \n", "# pack-refs with: peeled fully-peeled sorted \n" };
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *c0 = hex_of (&repo->commits[0]), *c1 = hex_of (&repo->commits[1]), *tag = hex_of (&repo->tag);
  for (guint i = 0; i < G_N_ELEMENTS (headers); i++)
    {
      gboolean sorted = strstr (headers[i], "sorted") != NULL, peeled = strstr (headers[i], "peeled") != NULL;
      g_autofree char *tag_lines = peeled ? g_strdup_printf ("%s refs/tags/t\n^%s\n", tag, c0) : g_strdup_printf ("%s refs/tags/t\n", tag);
      g_autofree char *odd = i == 2 ? g_strdup_printf ("%s refs/other/t\n", tag) : g_strdup ("");
      g_autofree char *text = sorted ? g_strdup_printf ("%s%s refs/heads/a\n%s refs/heads/b\n%s", headers[i], c0, c1, tag_lines)
                                     : g_strdup_printf ("%s%s%s%s refs/heads/b\n%s refs/heads/a\n", headers[i], odd, tag_lines, c1, c0);
      write_file (repo, "packed-refs", text);
      assert_like_git (repo, fixture->store);
      {
        g_autofree char *listing = store_listing (fixture->store);
        assert_non_null (strstr (listing, "refs/tags/t^{}"));
      }
    }
  /* The same name twice: one line only. git would find either. */
  {
    g_autofree char *text = g_strdup_printf ("%s refs/heads/a\n%s refs/heads/a\n", c0, c1);
    g_autofree char *value = NULL;
    write_file (repo, "packed-refs", text);
    value = value_of (fixture->store, "refs/heads/a");
    assert_string_equal (value, c1);
  }
}

static void
test_packed_damage (void **state)
{
  static const char *const damaged[]
      = { "no id refs/heads/a\n", "%s refs/heads/a", "%s\n", "^%s\n", "# something else\n%s refs/heads/a\n",
          "%s refs/heads/a\n^12\n", "%.39s refs/heads/a\n", "\n" };
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *hex = hex_of (&repo->commits[0]);
  for (guint i = 0; i < G_N_ELEMENTS (damaged); i++)
    {
      g_autoptr (GError) error = NULL;
      GString *text = g_string_new (damaged[i]);
      RefSnapshot *snapshot;
      GsRefVerdict verdict = { 0 };
      GsTxId txid = next_txid ();
      RefTxn *txn = NULL;
      g_string_replace (text, "%s", hex, 0);
      g_string_replace (text, "%.39s", hex + 1, 0);
      write_file (repo, "packed-refs", text->str);
      snapshot = ref_store_snapshot (fixture->store, &error);
      if (snapshot != NULL)
        fail_msg ("accepted: %s", text->str);
      assert_int_equal (error->code, GS_ERROR_DATA_LOSS);
      assert_non_null (strstr (error->message, "packed-refs is damaged"));
      g_clear_error (&error);
      /* Nor is anything written into it, or left behind. */
      assert_false (ref_store_prepare (fixture->store, NULL, &txid, &SET ("refs/heads/new", ANY, repo->commits[0]), 1,
                                       FALSE, NULL, &verdict, &txn, &error));
      assert_int_equal (error->code, GS_ERROR_DATA_LOSS);
      assert_false (file_exists (repo, "refs/heads/new.lock"));
      {
        g_autofree char *now = read_file (repo, "packed-refs");
        assert_string_equal (now, text->str);
      }
      g_string_free (text, TRUE);
    }
}

static void
test_packed_bad_names_kept (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *hex = hex_of (&repo->commits[0]);
  g_autofree char *text = g_strdup_printf ("# pack-refs with: peeled fully-peeled sorted \n%s refs/heads/a\n"
                                           "%s refs/heads/b..c\n%s refs/heads/d\n", hex, hex, hex);
  g_autofree char *listing = NULL, *after = NULL;
  write_file (repo, "packed-refs", text);
  listing = store_listing (fixture->store);
  assert_null (strstr (listing, "b..c"));
  assert_non_null (strstr (listing, "refs/heads/d"));
  /* Not ours to throw away. */
  apply_one (fixture->store, "refs/heads/a", ANY, zero_oid ());
  after = read_file (repo, "packed-refs");
  assert_non_null (strstr (after, "refs/heads/b..c"));
  assert_null (strstr (after, "refs/heads/a\n"));
}

/* -------------------------------------------------------------------------------------- oddities */

static void
test_odd_files (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *hex = hex_of (&repo->commits[0]), *absent = hex_of (&repo->absent);
  g_autofree char *listing = NULL, *expected = NULL, *with_space = g_strconcat (hex, " trailing\n", NULL);
  g_autofree char *packed = g_strdup_printf ("# pack-refs with: peeled fully-peeled sorted \n%s refs/heads/broken\n", hex);
  g_autofree char *absent_line = g_strconcat (absent, "\n", NULL), *long_line = g_strconcat (hex, "0\n", NULL);
  RefSnapshot *snapshot;
  RefEntry entry;
  git_set (repo, "refs/heads/main", &repo->commits[0]);
  write_file (repo, "packed-refs", packed);
  write_file (repo, "refs/heads/broken", "");        /* hides the packed one, as in git */
  write_file (repo, "refs/heads/broken2", "garbage\n");
  write_file (repo, "refs/heads/broken3", long_line);
  write_file (repo, "refs/heads/zero", "0000000000000000000000000000000000000000\n");
  write_file (repo, "refs/heads/spaced", with_space); /* git reads that */
  write_file (repo, "refs/heads/main.lock", hex);
  write_file (repo, "refs/heads/.hidden", hex);
  write_file (repo, "refs/heads/bad..name", with_space);
  write_file (repo, "refs/heads/missing", absent_line);
  g_free (git (repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/main", NULL));
  listing = store_listing (fixture->store);
  expected = g_strdup_printf ("%s refs/heads/main\n%s refs/heads/spaced", hex, hex);
  assert_string_equal (listing, expected);
  assert_non_null (strstr (repo->notes->str, "refs.broken-ignored refs/heads/broken\n"));
  assert_non_null (strstr (repo->notes->str, "refs.broken-ignored refs/heads/zero\n"));
  assert_non_null (strstr (repo->notes->str, "refs.symbolic-ignored refs/remotes/origin/HEAD\n"));
  assert_non_null (strstr (repo->notes->str, "refs.name-ignored refs/heads/bad..name\n"));
  snapshot = ref_store_snapshot (fixture->store, NULL);
  assert_true (ref_snapshot_broken (snapshot, "refs/heads/broken"));
  assert_true (ref_snapshot_broken (snapshot, "refs/remotes/origin/HEAD"));
  assert_false (ref_snapshot_broken (snapshot, "refs/heads/main"));
  assert_false (ref_snapshot_broken (snapshot, "refs/heads/none"));
  assert_true (ref_snapshot_find (snapshot, "refs/heads/missing", &entry));
  assert_true (entry.missing);
  ref_snapshot_unref (snapshot);
  assert_refused (fixture->store, "refs/heads/broken", ANY, repo->commits[1], GS_ERROR_DATA_LOSS);
  assert_refused (fixture->store, "refs/remotes/origin/HEAD", ANY, repo->commits[1], GS_ERROR_FAILED_PRECONDITION);
  /* Packing leaves all of them alone. */
  assert_true (ref_store_pack (fixture->store, TRUE, NULL));
  assert_true (file_exists (repo, "refs/heads/missing"));
  assert_true (file_exists (repo, "refs/heads/broken2"));
  assert_true (file_exists (repo, "refs/remotes/origin/HEAD"));
  assert_false (file_exists (repo, "refs/heads/spaced"));
}

static void
test_head (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *hex = hex_of (&repo->commits[0]), *line = g_strconcat (hex, "\n", NULL);
  g_autoptr (GError) error = NULL;
  RefSnapshot *snapshot = ref_store_snapshot (fixture->store, NULL);
  assert_string_equal (ref_snapshot_head (snapshot), "refs/heads/main");
  ref_snapshot_unref (snapshot);
  g_free (git (repo, "symbolic-ref", "HEAD", "refs/heads/other", NULL));
  snapshot = ref_store_snapshot (fixture->store, NULL);
  assert_string_equal (ref_snapshot_head (snapshot), "refs/heads/other");
  ref_snapshot_unref (snapshot);
  write_file (repo, "HEAD", line);
  snapshot = ref_store_snapshot (fixture->store, NULL);
  assert_string_equal (ref_snapshot_head (snapshot), "");
  ref_snapshot_unref (snapshot);
  write_file (repo, "HEAD", "nonsense\n");
  assert_null (ref_store_snapshot (fixture->store, &error));
  assert_int_equal (error->code, GS_ERROR_DATA_LOSS);
  write_file (repo, "HEAD", "ref: refs/heads/main\n");
  assert_like_git (repo, fixture->store);
}

/* ------------------------------------------------------------------------------------- snapshots */

/** Every change by git is seen by the very next snapshot, also several within one tick of the file clock. */
static void
test_foreign_changes_seen_at_once (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  int dirfd = open (repo->dir, O_DIRECTORY | O_RDONLY);
  for (guint i = 0; i < 2000; i++)
    {
      g_autofree char *hex = hex_of (&repo->commits[i % N_COMMITS]);
      g_autofree char *line = g_strconcat (hex, "\n", NULL), *value = NULL;
      int fd = openat (dirfd, "refs/heads/x.lock", O_CREAT | O_EXCL | O_WRONLY, 0666);
      assert_int_equal (write (fd, line, strlen (line)), strlen (line));
      close (fd);
      assert_int_equal (renameat (dirfd, "refs/heads/x.lock", dirfd, "refs/heads/x"), 0);
      value = value_of (fixture->store, "refs/heads/x");
      assert_string_equal (value, hex);
    }
  /* And of packed-refs, where inodes are soon reused. */
  unlinkat (dirfd, "refs/heads/x", 0);
  for (guint i = 0; i < 2000; i++)
    {
      g_autofree char *hex = hex_of (&repo->commits[i % N_COMMITS]);
      g_autofree char *text = g_strdup_printf ("# pack-refs with: peeled fully-peeled sorted \n%s refs/heads/x\n", hex);
      g_autofree char *value = NULL;
      int fd = openat (dirfd, "packed-refs.new", O_CREAT | O_EXCL | O_WRONLY, 0666);
      assert_int_equal (write (fd, text, strlen (text)), strlen (text));
      close (fd);
      assert_int_equal (renameat (dirfd, "packed-refs.new", dirfd, "packed-refs"), 0);
      value = value_of (fixture->store, "refs/heads/x");
      assert_string_equal (value, hex);
    }
  close (dirfd);
}

static void
test_snapshot_is_immutable_and_reused (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  RefSnapshot *old, *same, *new;
  RefEntry entry;
  git_set (repo, "refs/heads/main", &repo->commits[0]);
  old = ref_store_snapshot (fixture->store, NULL);
  same = ref_store_snapshot (fixture->store, NULL);
  assert_ptr_equal (old, same);
  ref_snapshot_unref (same);
  apply_one (fixture->store, "refs/heads/main", repo->commits[0], repo->commits[1]);
  new = ref_store_snapshot (fixture->store, NULL);
  assert_true (ref_snapshot_find (old, "refs/heads/main", &entry));
  assert_true (gs_oid_equal (&entry.oid, &repo->commits[0]));
  assert_true (ref_snapshot_find (new, "refs/heads/main", &entry));
  assert_true (gs_oid_equal (&entry.oid, &repo->commits[1]));
  ref_snapshot_unref (old);
  ref_snapshot_unref (new);
}

static void
test_seek (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  RefSnapshot *snapshot;
  RefEntry entry;
  git_set (repo, "refs/heads/b", &repo->commits[0]);
  git_set (repo, "refs/heads/d", &repo->commits[0]);
  g_free (git (repo, "pack-refs", "--all", NULL));
  git_set (repo, "refs/heads/c", &repo->commits[0]);
  git_set (repo, "refs/tags/t", &repo->tag);
  snapshot = ref_store_snapshot (fixture->store, NULL);
  assert_int_equal (ref_snapshot_count (snapshot), 4);
  assert_int_equal (ref_snapshot_seek (snapshot, ""), 0);
  assert_int_equal (ref_snapshot_seek (snapshot, "refs/heads/c"), 1);
  assert_int_equal (ref_snapshot_seek (snapshot, "refs/heads/cc"), 2);
  assert_int_equal (ref_snapshot_seek (snapshot, "refs/tags/"), 3);
  assert_int_equal (ref_snapshot_seek (snapshot, "s"), 4);
  assert_false (ref_snapshot_find (snapshot, "refs/heads/cc", &entry));
  assert_true (ref_snapshot_find (snapshot, "refs/tags/t", &entry));
  assert_true (gs_oid_equal (&entry.peeled, &repo->commits[0]));
  ref_snapshot_unref (snapshot);
}

static void
test_peels_are_kept (void **state)
{
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *first = NULL, *second = NULL, *third = NULL;
  int asked;
  for (guint i = 0; i < 50; i++)
    {
      g_autofree char *name = g_strdup_printf ("refs/tags/t%02u", i);
      git_set (repo, name, &repo->nested);
    }
  first = store_listing (fixture->store);
  asked = repo->peels;
  git_set (repo, "refs/tags/another", &repo->nested);
  git_set (repo, "refs/tags/t07", &repo->tag);
  second = store_listing (fixture->store);
  assert_int_equal (repo->peels, asked + 1); /* only the object that was new */
  apply_one (fixture->store, "refs/tags/own", ANY, repo->tag);
  asked = repo->peels;
  third = store_listing (fixture->store);
  assert_int_equal (repo->peels, asked);
  assert_like_git (repo, fixture->store);
}

static void
test_digest_formula (void **state)
{
  /* The documented bytes, computed apart from the code under test. */
  Fixture *fixture = *state;
  Repo *repo = fixture->repo;
  g_autofree char *hex = hex_of (&repo->commits[0]);
  g_autofree char *term = g_strdup_printf ("refs/heads/main%c%s\n", 'x', hex);
  static const char head[] = "HEAD\0ref: refs/heads/main\n";
  GsDigest sum = { { 0 } }, one, got;
  gsize len = sizeof one.bytes;
  GChecksum *checksum = g_checksum_new (G_CHECKSUM_SHA256);
  RefSnapshot *snapshot;
  term[strlen ("refs/heads/main")] = '\0';
  g_checksum_update (checksum, (const guchar *) term, (gssize) (strlen ("refs/heads/main") + 1 + 41));
  g_checksum_get_digest (checksum, one.bytes, &len);
  gs_digest_add (&sum, &one);
  g_checksum_reset (checksum);
  g_checksum_update (checksum, (const guchar *) head, sizeof head - 1);
  g_checksum_get_digest (checksum, one.bytes, &len);
  gs_digest_add (&sum, &one);
  g_checksum_free (checksum);
  git_set (repo, "refs/heads/main", &repo->commits[0]);
  snapshot = ref_store_snapshot (fixture->store, NULL);
  ref_snapshot_digest (snapshot, &got);
  assert_memory_equal (&got, &sum, sizeof sum);
  ref_snapshot_unref (snapshot);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_names_as_git, setup, teardown),
    cmocka_unit_test (test_name_limits),
    cmocka_unit_test_setup_teardown (test_listing_as_git, setup, teardown),
    cmocka_unit_test_setup_teardown (test_pack_bytes_as_git, setup, teardown),
    cmocka_unit_test_setup_teardown (test_pack_threshold, setup, teardown),
    cmocka_unit_test_setup_teardown (test_packed_foreign_headers, setup, teardown),
    cmocka_unit_test_setup_teardown (test_packed_damage, setup, teardown),
    cmocka_unit_test_setup_teardown (test_packed_bad_names_kept, setup, teardown),
    cmocka_unit_test_setup_teardown (test_odd_files, setup, teardown),
    cmocka_unit_test_setup_teardown (test_head, setup, teardown),
    cmocka_unit_test_setup_teardown (test_foreign_changes_seen_at_once, setup, teardown),
    cmocka_unit_test_setup_teardown (test_snapshot_is_immutable_and_reused, setup, teardown),
    cmocka_unit_test_setup_teardown (test_seek, setup, teardown),
    cmocka_unit_test_setup_teardown (test_peels_are_kept, setup, teardown),
    cmocka_unit_test_setup_teardown (test_digest_formula, setup, teardown),
  };
  return cmocka_run_group_tests_name ("refs", tests, NULL, NULL);
}
