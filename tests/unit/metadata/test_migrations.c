/* SPDX-License-Identifier: Apache-2.0 */
/* Upgrades of the SQLite store: from an older schema, to a newer one that must not be touched, and half done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store.h"

#include <sqlite3.h>
#include <sys/stat.h>

#define NOW "metadata-sqlite.so"

static const char *later; /* the plugin with one migration more */

typedef struct
{
  char *folder, *path;
} Place;

static int
place_new (void **state)
{
  Place *place = g_new0 (Place, 1);
  place->folder = fake_tempdir_new ();
  place->path = g_build_filename (place->folder, "sub", "meta.db", NULL);
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

/* Runs SQL on the file beside the store. */
static void
run_sql (const char *path, const char *sql)
{
  sqlite3 *db = NULL;
  assert_int_equal (sqlite3_open (path, &db), SQLITE_OK);
  assert_int_equal (sqlite3_exec (db, sql, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close (db);
}

static void
refused (const char *file, const char *path, int code, const char *says)
{
  Store store;
  g_autoptr (GError) error = NULL;
  assert_false (store_open (&store, file, path, "true", "1s", &error));
  assert_int_equal (gs_error_code (error), code);
  if (strstr (error->message, says) == NULL || strstr (error->message, path) == NULL)
    fail_msg ("“%s” does not say “%s” and the file", error->message, says);
  store_close (&store);
}

static guint
pending_steps (Store *store, gboolean plan_only)
{
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GError) error = NULL;
  guint pending = 99;
  if (!store->ops->migrate (store->self, &call->call, plan_only, &pending, &error))
    fail_msg ("%s", error->message);
  return pending;
}

static void
fresh_file (void **state)
{
  Place *place = *state;
  Store store;
  struct stat st;
  g_autofree char *log = NULL;
  assert_true (store_open (&store, NOW, place->path, "false", "1s", NULL)); /* a new file always gets its schema */
  assert_int_equal (stat (place->path, &st), 0);
  assert_int_equal (st.st_mode & 0777, 0600);
  assert_true (store_make_repo (&store, "a.git", NULL) > 0);
  log = fake_host_log_text (store.host);
  assert_non_null (strstr (log, "metadata.schema.migrated"));
  store_close (&store);
}

static void
upgrade (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);

  assert_true (store_open (&store, later, place->path, "true", "1s", NULL));
  assert_int_equal (fake_host_logged (store.host, "metadata.schema.migrated"), 1);
  assert_int_equal (pending_steps (&store, TRUE), 0);
  assert_int_equal (store_generation (&store, id, NULL), 1); /* what was there is still there */
  assert_true (store_decide (&store, NULL, id, 1, NULL));
  store_close (&store);
  run_sql (place->path, "INSERT INTO later_table (note) VALUES ('it is there')");
}

static void
upgrade_by_hand (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  guint64 id;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  store_close (&store);

  assert_true (store_open (&store, later, place->path, "false", "1s", NULL));
  assert_int_equal (fake_host_logged (store.host, "metadata.schema.behind"), 1);
  assert_false (store_decide (&store, NULL, id, 0, &error)); /* nothing works before the upgrade … */
  assert_int_equal (gs_error_code (error), GS_ERROR_FAILED_PRECONDITION);
  assert_non_null (strstr (error->message, "1 steps behind; run “gitstead metadata migrate”"));
  g_clear_error (&error);
  assert_int_equal (store_generation (&store, id, &error), G_MAXUINT64);
  assert_int_equal (gs_error_code (error), GS_ERROR_FAILED_PRECONDITION);
  assert_int_equal (pending_steps (&store, TRUE), 1);
  assert_int_equal (pending_steps (&store, TRUE), 1); /* a plan changes nothing */
  assert_int_equal (pending_steps (&store, FALSE), 1);
  assert_int_equal (pending_steps (&store, FALSE), 0);
  assert_true (store_decide (&store, NULL, id, 0, NULL)); /* … and everything after it */
  store_close (&store);
}

static void
newer_schema (void **state)
{
  Place *place = *state;
  Store store;
  assert_true (store_open (&store, later, place->path, "true", "1s", NULL));
  store_close (&store);
  refused (NOW, place->path, GS_ERROR_FAILED_PRECONDITION,
           "schema version 4 (later) by a newer Gitstead; this one knows up to 3");
}

static void
changed_migration (void **state)
{
  Place *place = *state;
  Store store;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  store_close (&store);
  run_sql (place->path, "UPDATE schema_migrations SET checksum = 'deadbeefdeadbeef'");
  refused (NOW, place->path, GS_ERROR_FAILED_PRECONDITION,
           "made by other statements than this Gitstead has for it (checksum deadbeefdead)");
}

static void
half_done (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id;
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  store_close (&store);
  run_sql (place->path, "CREATE TABLE later_table (in_the_way INTEGER)");
  refused (later, place->path, GS_ERROR_INTERNAL, "migration 0004-later: ");
  assert_true (store_open (&store, NOW, place->path, "true", "1s", NULL)); /* still the old version, whole */
  assert_int_equal (store_generation (&store, id, NULL), 0);
  store_close (&store);
}

static void
foreign_database (void **state)
{
  Place *place = *state;
  g_autofree char *path = g_build_filename (place->folder, "foreign.db", NULL), *before = NULL, *after = NULL;
  gsize n_before, n_after;
  run_sql (path, "CREATE TABLE somebody_elses (x INTEGER); INSERT INTO somebody_elses VALUES (1)");
  assert_true (g_file_get_contents (path, &before, &n_before, NULL));
  refused (NOW, path, GS_ERROR_FAILED_PRECONDITION, "is a database of another program; check the option “path”");
  assert_true (g_file_get_contents (path, &after, &n_after, NULL));
  assert_int_equal (n_before, n_after);
  assert_memory_equal (before, after, n_before);
}

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (fresh_file, place_new, place_free),
    cmocka_unit_test_setup_teardown (upgrade, place_new, place_free),
    cmocka_unit_test_setup_teardown (upgrade_by_hand, place_new, place_free),
    cmocka_unit_test_setup_teardown (newer_schema, place_new, place_free),
    cmocka_unit_test_setup_teardown (changed_migration, place_new, place_free),
    cmocka_unit_test_setup_teardown (half_done, place_new, place_free),
    cmocka_unit_test_setup_teardown (foreign_database, place_new, place_free),
  };
  if (argc < 2)
    return 2;
  later = argv[1];
  return cmocka_run_group_tests_name ("metadata-sqlite-migrations", tests, NULL, NULL);
}
