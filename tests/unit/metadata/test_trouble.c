/* SPDX-License-Identifier: Apache-2.0 */
/* What people are told, and what is left, when the file, the disk or another process is in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOW "metadata-sqlite.so"

typedef struct
{
  char *folder, *path;
} Place;

static int
place_new (void **state)
{
  Place *place = g_new0 (Place, 1);
  place->folder = fake_tempdir_new ();
  place->path = g_build_filename (place->folder, "meta.db", NULL);
  *state = place;
  return 0;
}

static int
place_free (void **state)
{
  Place *place = *state;
  fake_tempdir_remove (place->folder);
  g_free (place->path);
  g_free (place);
  return 0;
}

static void
says (GError **error, int code, const char *text, const char *also)
{
  assert_non_null (*error);
  if ((*error)->code != code || strstr ((*error)->message, text) == NULL || strstr ((*error)->message, also) == NULL)
    fail_msg ("%s: %s (expected %s: … %s … %s)", gs_error_name ((*error)->code), (*error)->message,
              gs_error_name (code), text, also);
  g_clear_error (error);
}

static void
not_a_database (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  g_autofree char *text = g_strnfill (20000, 'x');
  assert_true (g_file_set_contents (place->path, text, -1, NULL));
  assert_false (store_open (&store, NOW, place->path, "true", "1s", &error));
  says (&error, GS_ERROR_DATA_LOSS, "is not an SQLite database; check the option “path”, or restore a backup",
        place->path);
  store_close (&store);
}

static void
damaged (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  char junk[4096];
  int fd;
  gboolean found = FALSE;
  off_t size;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  for (int i = 0; i < 400; i++)
    {
      g_autofree char *path = g_strdup_printf ("group/some-rather-long-name-%d.git", i);
      assert_true (store_make_repo (&store, path, NULL) > 0);
    }
  store_close (&store);
  memset (junk, 0x5a, sizeof junk);
  fd = open (place->path, O_RDWR | O_CLOEXEC);
  size = lseek (fd, 0, SEEK_END);
  for (off_t at = 40 * 4096; at < size; at += 4096) /* the tables' pages, not the schema's */
    assert_int_equal (pwrite (fd, junk, sizeof junk, at), sizeof junk);
  close (fd);
  assert_true (size > 50 * 4096);
  assert_true (store_open (&store, NOW, place->path, "true", "1s", &error));
  for (int i = 0; i < 400 && !found; i++)
    {
      g_autofree char *path = g_strdup_printf ("group/some-rather-long-name-%d.git", i);
      if (store_find (&store, path, &error) == 0)
        {
          found = TRUE;
          says (&error, GS_ERROR_DATA_LOSS,
                "the file is damaged; stop the server, keep a copy of the file and restore a backup", place->path);
        }
    }
  assert_true (found);
  store_close (&store);
}

static void
no_such_place (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  g_autofree char *below = g_build_filename (place->path, "meta.db", NULL);
  assert_true (g_file_set_contents (place->path, "a file", -1, NULL));
  assert_false (store_open (&store, NOW, below, "true", "1s", &error));
  says (&error, GS_ERROR_FAILED_PRECONDITION, "cannot be made: ", place->path);
  store_close (&store);
  assert_false (store_open (&store, NOW, place->folder, "true", "1s", &error));
  says (&error, GS_ERROR_FAILED_PRECONDITION, "Is a directory; check the option “path”", place->folder);
  store_close (&store);
}

/* A disk that takes no more: the limit on file size stands for it, since a test can lift it again. */
static void
full_disk (void **state)
{
  Place *place = *state;
  Store store;
  struct rlimit before, tight;
  struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
  guint64 id, decided = 0, now;
  gboolean failed = FALSE;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  assert_int_equal (sigaction (SIGXFSZ, &ignore, &old), 0);
  assert_int_equal (getrlimit (RLIMIT_FSIZE, &before), 0);
  tight = before;
  tight.rlim_cur = 400 * 1024;
  assert_int_equal (setrlimit (RLIMIT_FSIZE, &tight), 0);
  for (int i = 0; i < 1000 && !failed; i++)
    {
      g_autoptr (GError) error = NULL;
      failed = !store_decide (&store, NULL, id, decided, &error);
      if (!failed)
        decided++;
      else
        assert_true (error->code == GS_ERROR_UNAVAILABLE || error->code == GS_ERROR_UNKNOWN);
    }
  assert_int_equal (setrlimit (RLIMIT_FSIZE, &before), 0);
  assert_int_equal (sigaction (SIGXFSZ, &old, NULL), 0);
  assert_true (failed && decided > 0);
  now = store_generation (&store, id, NULL);
  assert_true (now == decided || now == decided + 1);
  assert_true (store_decide (&store, NULL, id, now, NULL)); /* it goes on by itself */
  store_close (&store);
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  assert_int_equal (store_generation (&store, id, NULL), now + 1);
  store_close (&store);
}

/* Another program that holds the write lock. */
static sqlite3 *
block_writes (const char *path)
{
  sqlite3 *db = NULL;
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  assert_int_equal (sqlite3_exec (db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
  return db;
}

static void
busy (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  sqlite3 *blocker;
  guint64 id;
  assert_true (store_open (&store, NOW, place->path, "true", "30ms", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  blocker = block_writes (place->path);
  assert_false (store_decide (&store, NULL, id, 0, &error));
  says (&error, GS_ERROR_UNAVAILABLE, "another process holds its write lock; try again", place->path);
  assert_int_equal (store_generation (&store, id, NULL), 0); /* readers are not blocked */
  store_close (&store);

  assert_true (store_open (&store, NOW, place->path, "true", "10m", NULL)); /* nor is a start */
  assert_int_equal (store_generation (&store, id, NULL), 0);
  sqlite3_close (blocker);
  store_close (&store);
}

static void
late_while_busy (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  g_autoptr (FakeCall) late = NULL, cancelled = fake_call_new (0);
  sqlite3 *blocker;
  guint64 id;
  assert_true (store_open (&store, NOW, place->path, "true", "10m", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  blocker = block_writes (place->path);
  late = fake_call_new (40 * 1000);
  assert_false (
      store_decide (&store, &late->call, id, 0, &error)); /* its own time counts, not the store's ten minutes */
  says (&error, GS_ERROR_DEADLINE_EXCEEDED, "deciding a write", "time was up");
  fake_call_cancel (cancelled);
  assert_false (store_decide (&store, &cancelled->call, id, 0, &error));
  says (&error, GS_ERROR_CANCELLED, "deciding a write", "");
  sqlite3_close (blocker);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (not_a_database, place_new, place_free),
    cmocka_unit_test_setup_teardown (damaged, place_new, place_free),
    cmocka_unit_test_setup_teardown (no_such_place, place_new, place_free),
    cmocka_unit_test_setup_teardown (full_disk, place_new, place_free),
    cmocka_unit_test_setup_teardown (busy, place_new, place_free),
    cmocka_unit_test_setup_teardown (late_while_busy, place_new, place_free),
  };
  return cmocka_run_group_tests_name ("metadata-sqlite-trouble", tests, NULL, NULL);
}
