/* SPDX-License-Identifier: Apache-2.0 */
/* Several processes on one file, and processes that are killed while they decide. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_MS 60000 /* when a child says nothing for so long, the test fails */

static const char *store_file = "metadata-sqlite.so", *conninfo; /* a database instead of a file */

typedef struct
{
  char *folder, *path;
} Place;

static int
place_new (void **state)
{
  Place *place = g_new0 (Place, 1);
  place->folder = fake_tempdir_new ();
  place->path = conninfo != NULL ? store_postgres_path (conninfo) : g_build_filename (place->folder, "meta.db", NULL);
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

/* ------------------------------------------------------------------------------------- in the child */

static int
child_open (Store *store, const char *path)
{
  g_autoptr (GError) error = NULL;
  if (store_open (store, store_file, path, "true", "30s", &error))
    return 0;
  fprintf (stderr, "# child: %s\n", error->message);
  return 1;
}

/* Decides without end; every acknowledged generation is written to standard output before the next begins. */
static int
child_decide (const char *path, guint64 id)
{
  Store store;
  guint64 generation;
  if (child_open (&store, path) != 0)
    return 1;
  for (generation = store_generation (&store, id, NULL);;)
    {
      if (!store_decide (&store, NULL, id, generation++, NULL)
          || write (STDOUT_FILENO, &generation, sizeof generation) != sizeof generation)
        return 1;
    }
}

/* Wins @n_wins decisions against whoever else is deciding. */
static int
child_compete (const char *path, guint64 id, int n_wins)
{
  Store store;
  int result = 0;
  if (child_open (&store, path) != 0)
    return 1;
  for (int won = 0; won < n_wins && result == 0;)
    {
      g_autoptr (GError) error = NULL;
      if (store_decide (&store, NULL, id, store_generation (&store, id, NULL), &error))
        won++;
      else if (gs_error_code (error) != GS_ERROR_ABORTED)
        {
          fprintf (stderr, "# child: %s\n", error->message);
          result = 1;
        }
    }
  store_close (&store);
  return result;
}

/* ------------------------------------------------------------------------------------ in the parent */

extern char **environ;

static pid_t
start_child (const char *path, const char *what, guint64 id, int *ret_output)
{
  g_autofree char *number = g_strdup_printf ("%" G_GUINT64_FORMAT, id);
  char *argv[] = { (char *) "/proc/self/exe", (char *) "child", (char *) what, (char *) path, number, NULL };
  posix_spawn_file_actions_t actions;
  int ends[2] = { -1, -1 };
  pid_t pid;
  assert_int_equal (posix_spawn_file_actions_init (&actions), 0);
  if (ret_output != NULL)
    {
      assert_int_equal (pipe2 (ends, O_CLOEXEC), 0);
      assert_int_equal (posix_spawn_file_actions_adddup2 (&actions, ends[1], STDOUT_FILENO), 0);
    }
  assert_int_equal (posix_spawn (&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
  posix_spawn_file_actions_destroy (&actions);
  if (ret_output != NULL)
    {
      close (ends[1]);
      *ret_output = ends[0];
    }
  return pid;
}

static int
wait_child (pid_t pid)
{
  int status = 0;
  assert_int_equal (waitpid (pid, &status, 0), pid);
  return status;
}

/* The next generation that the child says is decided; 0 at the end. */
static guint64
next_acknowledged (int fd)
{
  guint64 generation = 0;
  struct pollfd wait = { fd, POLLIN, 0 };
  assert_int_equal (poll (&wait, 1, CHILD_MS), 1);
  return read (fd, &generation, sizeof generation) == sizeof generation ? generation : 0;
}

static gboolean
count_change (const GsChange *change, gpointer user)
{
  guint64 *next = user;
  if (change->generation != *next)
    return FALSE;
  ++*next;
  return TRUE;
}

/* All changes from 1 to the repository's generation are there, and the replica agrees. */
static guint64
check_whole (const char *path, guint64 id)
{
  Store store;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GError) error = NULL;
  guint64 generation, next = 1;
  if (!store_open (&store, store_file, path, "true", "30s", &error))
    fail_msg ("%s", error->message);
  do
    {
      /* What a killed process had sent its database is still decided a moment later. */
      g_clear_error (&error);
      next = 1;
      generation = store_generation (&store, id, NULL);
      assert_true (store.ops->change_list (store.self, &call->call, id, 0, 1000000, count_change, &next, &error));
      assert_true (conninfo != NULL ? next > generation : next == generation + 1);
    }
  while (!store_decide (&store, NULL, id, generation, &error)
         && (conninfo != NULL && gs_error_code (error) == GS_ERROR_ABORTED));
  assert_null (error);
  store_close (&store);
  return generation + 1;
}

static guint64
prepare (const char *path)
{
  Store store;
  guint64 id;
  assert_true (store_open (&store, store_file, path, "true", "30s", NULL));
  id = store_make_repo (&store, "a.git", NULL);
  assert_true (id > 0);
  store_close (&store);
  return id;
}

static void
killed_while_deciding (void **state)
{
  Place *place = *state;
  guint64 id = prepare (place->path), last = 0;
  for (int round = 0; round < 8; round++)
    {
      int output;
      guint64 seen = 0;
      pid_t pid = start_child (place->path, "decide", id, &output);
      for (int i = 0; i < 5 + round * 7; i++)
        {
          seen = next_acknowledged (output);
          assert_true (seen > last);
          last = seen;
        }
      kill (pid, SIGKILL);
      assert_true (WIFSIGNALED (wait_child (pid)));
      while ((seen = next_acknowledged (output)) != 0) /* what it acknowledged before it died */
        last = seen;
      close (output);
      seen = check_whole (place->path, id);
      assert_true (seen > last);
      last = seen;
    }
}

static void
many_processes (void **state)
{
  Place *place = *state;
  guint64 id = prepare (place->path);
  pid_t pids[3];
  for (int i = 0; i < 3; i++)
    pids[i] = start_child (place->path, "compete", id, NULL);
  for (int i = 0; i < 3; i++)
    assert_int_equal (wait_child (pids[i]), 0);
  assert_int_equal (check_whole (place->path, id), 3 * 25 + 1);
}

static void
start_together (void **state)
{
  Place *place = *state;
  pid_t pids[4];
  Store store;
  for (int i = 0; i < 4; i++) /* on a file that is not there yet */
    pids[i] = start_child (place->path, "open", 0, NULL);
  for (int i = 0; i < 4; i++)
    assert_int_equal (wait_child (pids[i]), 0);
  assert_true (store_open (&store, store_file, place->path, "true", "30s", NULL));
  for (int i = 0; i < 4; i++)
    {
      g_autofree char *path = g_strdup_printf ("by-%d.git", (int) pids[i]);
      assert_true (store_find (&store, path, NULL) > 0);
    }
  store_close (&store);
}

static int
child_create (const char *path)
{
  Store store;
  g_autofree char *repo = g_strdup_printf ("by-%d.git", (int) getpid ());
  gboolean made;
  if (child_open (&store, path) != 0)
    return 1;
  made = store_make_repo (&store, repo, NULL) > 0;
  store_close (&store);
  return !made;
}

static int
child_main (char **argv)
{
  guint64 id = g_ascii_strtoull (argv[2], NULL, 10);
  if (strcmp (argv[0], "decide") == 0)
    return child_decide (argv[1], id);
  if (strcmp (argv[0], "compete") == 0)
    return child_compete (argv[1], id, 25);
  return child_create (argv[1]);
}

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (killed_while_deciding, place_new, place_free),
    cmocka_unit_test_setup_teardown (many_processes, place_new, place_free),
    cmocka_unit_test_setup_teardown (start_together, place_new, place_free),
  };
  conninfo = g_getenv ("GITSTEAD_TEST_POSTGRES");
  if (conninfo != NULL)
    store_file = "metadata-postgres.so";
  if (argc == 5 && strcmp (argv[1], "child") == 0)
    return child_main (argv + 2);
  return cmocka_run_group_tests_name ("metadata-processes", tests, NULL, NULL);
}
