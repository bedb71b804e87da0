/* SPDX-License-Identifier: Apache-2.0 */
/* A child's output is bounded while it runs, whole when it fits, and a child that is too loud is ended. */
#include "common.h"

#include "child.h"

#include <sys/wait.h>

#define LIMIT 100000

typedef struct
{
  FakeHost *host;
  FakeCall *call;
  Storage storage;
} Shell;

/* A storage whose git is the shell: what it is told to do stands in the arguments. */
static int
shell_new (void **state)
{
  Shell *shell = g_new0 (Shell, 1);
  shell->host = fake_host_new ("git");
  shell->call = fake_call_new (60 * G_USEC_PER_SEC);
  const GsHost *host = shell->storage.host = &shell->host->host;
  shell->storage.metric.children = host->metric (host, GS_METRIC_COUNTER, "children", "Started.", NULL);
  shell->storage.metric.killed = host->metric (host, GS_METRIC_COUNTER, "killed", "Ended.", NULL);
  shell->storage.git = (char *) "/bin/sh";
  shell->storage.git_path = (char *) "/usr/bin:/bin";
  *state = shell;
  return 0;
}

static int
shell_free (void **state)
{
  Shell *shell = *state;
  fake_call_free (shell->call);
  fake_host_free (shell->host);
  g_free (shell);
  return 0;
}

static gboolean
run (Shell *shell, const char *script, GBytes *input, gsize max, GBytes **ret_output, int *ret_status, GError **error)
{
  const char *const argv[] = { "-c", script, NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  return child_run (&shell->storage, &spec, &shell->call->call, input, max, ret_output, ret_status, NULL, error);
}

/* Were the limit looked at when it has ended, this would last until the call's time is up, taking memory all the while.
 */
static void
test_endless (void **state)
{
  g_autoptr (GError) error = NULL;
  GBytes *output = NULL;
  int status;
  assert_false (run (*state, "while :; do echo 0123456789; done", NULL, LIMIT, &output, &status, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_OUT_OF_RANGE);
  assert_non_null (strstr (error->message, "more than 100000 bytes"));
  assert_null (output);
  /* Nobody is left of it. */
  assert_int_equal (waitpid (-1, NULL, WNOHANG), -1);
}

static void
test_to_the_byte (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) output = NULL, none = NULL;
  int status;
  assert_true (run (*state, "head -c 100000 /dev/zero; exit 3", NULL, LIMIT, &output, &status, &error));
  assert_int_equal (g_bytes_get_size (output), LIMIT);
  assert_int_equal (WEXITSTATUS (status), 3);
  assert_false (run (*state, "head -c 100001 /dev/zero", NULL, LIMIT, &none, &status, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_OUT_OF_RANGE);
}

static void
test_input_and_silence (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) input = g_bytes_new_static ("taken in", 8), output = NULL, none = NULL;
  int status;
  assert_true (run (*state, "cat", input, LIMIT, &output, &status, &error));
  assert_true (g_bytes_equal (input, output));
  /* It closes its output, and goes on for a while. */
  assert_true (run (*state, "exec >&-; i=0; while test $i -lt 2000; do i=$((i+1)); done; exit 4", NULL, 0, &none,
                    &status, &error));
  assert_int_equal (g_bytes_get_size (none), 0);
  assert_int_equal (WEXITSTATUS (status), 4);
}

static void
test_cancelled (void **state)
{
  Shell *shell = *state;
  g_autoptr (GError) error = NULL;
  GBytes *output = NULL;
  int status;
  fake_call_cancel (shell->call);
  assert_false (run (shell, "while :; do :; done", NULL, LIMIT, &output, &status, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_CANCELLED);
  assert_int_equal (waitpid (-1, NULL, WNOHANG), -1);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_endless, shell_new, shell_free),
    cmocka_unit_test_setup_teardown (test_to_the_byte, shell_new, shell_free),
    cmocka_unit_test_setup_teardown (test_input_and_silence, shell_new, shell_free),
    cmocka_unit_test_setup_teardown (test_cancelled, shell_new, shell_free),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
