/* SPDX-License-Identifier: Apache-2.0 */
/* Crash reports: a child that dies says of what, which plugins it had and what it logged last, and dies by that signal.
 */
#include "base/crash.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

static const char *own_path;

/* What the child does. */
static int
die (const char *how)
{
  const GsiLogSettings settings = { .level = GS_LOG_INFO, .path = "/dev/null" };
  const GsTxId call = { { 0xab, 0xcd } };
  GsiLog *log = gsi_log_new (&settings, NULL);

  gsi_crash_install ("gitstead test", log);
  gsi_crash_note ("storage-git 0.1.0 (ABI 0.1) /lib/storage-git.so", NULL);
  gsi_crash_note ("storage-git 0.1.0 (ABI 0.1) /lib/storage-git.so", NULL);
  /* Stands for a plugin in whose code it dies: this program. */
  gsi_crash_note ("cache-memory 0.1.0 (ABI 0.1) /lib/cache-memory.so", strcmp (how, "segv") == 0 ? (const void *) die : NULL);
  gsi_log_set_call (strcmp (how, "segv") == 0 ? &call : NULL);
  gsi_log (log, GS_LOG_INFO, "the.first", GS_NUMBER ("n", 1));
  gsi_log (log, GS_LOG_WARNING, "the.last", GS_TEXT ("why", "it ends"));
  if (strcmp (how, "forget") == 0)
    gsi_crash_forget_log ();
  raise (strcmp (how, "segv") == 0 ? SIGSEGV : SIGABRT);
  return 0;
}

static char *
report_of (const char *how, int *ret_status)
{
  const char *argv[] = { own_path, how, NULL };
  GString *text = g_string_new (NULL);
  posix_spawn_file_actions_t actions;
  char buffer[4096];
  int fds[2];
  ssize_t n;
  pid_t pid;

  assert_int_equal (pipe2 (fds, O_CLOEXEC), 0);
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, fds[1], STDERR_FILENO);
  assert_int_equal (posix_spawn (&pid, own_path, &actions, NULL, (char **) argv, environ), 0);
  posix_spawn_file_actions_destroy (&actions);
  close (fds[1]);
  while ((n = read (fds[0], buffer, sizeof buffer)) > 0)
    g_string_append_len (text, buffer, n);
  close (fds[0]);
  assert_int_equal (waitpid (pid, ret_status, 0), pid);
  return g_string_free (text, FALSE);
}

static void
assert_has (const char *text, const char *part)
{
  if (strstr (text, part) == NULL)
    fail_msg ("\"%s\" does not have \"%s\"", text, part);
}

static void
test_report (void **state)
{
  int status = 0;
  g_autofree char *text = report_of ("segv", &status);

  assert_true (WIFSIGNALED (status));
  assert_int_equal (WTERMSIG (status), SIGSEGV);
  assert_has (text, "*** gitstead test died of SIGSEGV");
  assert_has (text, "*** In plugin cache-memory 0.1.0 (ABI 0.1) /lib/cache-memory.so\n"
                    "*** Working on call abcd0000000000000000000000000000\n");
  assert_has (text, "*** Backtrace:\n");
  assert_has (text, "*** Loaded plugins:\nstorage-git 0.1.0 (ABI 0.1) /lib/storage-git.so\n"
                    "cache-memory 0.1.0 (ABI 0.1) /lib/cache-memory.so\n***");
  assert_has (text, "the.first n=1");
  assert_has (text, "the.last why=\"it ends\"");
  assert_true (strstr (text, "the.first") < strstr (text, "the.last"));
  assert_true (g_str_has_suffix (text, "*** End of report\n"));
}

static void
test_report_without_a_log (void **state)
{
  int status = 0;
  g_autofree char *text = report_of ("forget", &status);

  assert_int_equal (WTERMSIG (status), SIGABRT);
  assert_has (text, "died of SIGABRT");
  assert_has (text, "*** In no plugin\n*** Backtrace:\n");
  assert_null (strstr (text, "the.last"));
}

int
main (int argc, char **argv)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (test_report), cmocka_unit_test (test_report_without_a_log) };

  own_path = argv[0];
  if (argc > 1)
    return die (argv[1]);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
