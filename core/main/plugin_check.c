/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_check.c - `gitstead plugin check`: runs each case in a process of its own and says what became of it. */
#include "plugin_check.h"
#include "base/text.h"
#include "cli.h"
#include "command.h"
#include "plugin/loader.h"

#include <engine.h>
#include <fakehost.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPORT_MAX (1024 * 1024)
#define PATIENCE_SHARE 12 /* a case may be run so many times within its limit to look for leaks */

static struct
{
  char **folders, **options, **needs;
  char *folder; /* hidden: of --run-case */
  gint64 limit_us;
  gint run_case; /* hidden; -1 = not */
  gint only;
  gboolean list;
} wanted = { .limit_us = 60 * G_USEC_PER_SEC, .run_case = -1 };

static gboolean
take_limit (const char *option, const char *value, gpointer user, GError **error)
{
  g_autoptr (GError) why = NULL;
  gint64 us = 0;
  if (gsi_text_parse_duration (value, &us, &why) && us > 0)
    {
      wanted.limit_us = us;
      return TRUE;
    }
  g_set_error (error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "--time-limit %s",
               why != NULL ? why->message : "must be longer than nothing");
  return FALSE;
}

const GOptionEntry gsi_plugin_check_options[]
    = { { "option", 'o', 0, G_OPTION_ARG_STRING_ARRAY, &wanted.options,
          "An option of the plugin; {tmp} stands for an empty folder (may be given again)", "KEY=VALUE" },
        { "need", 0, 0, G_OPTION_ARG_STRING_ARRAY, &wanted.needs,
          "The plugin that fills a need (otherwise one that is found; may be given again)", "ROLE=PLUGIN" },
        { "case", 0, 0, G_OPTION_ARG_INT, &wanted.only, "Run this case only", "NUMBER" },
        { "list", 'l', 0, G_OPTION_ARG_NONE, &wanted.list, "List the cases, run none", NULL },
        { "time-limit", 0, 0, G_OPTION_ARG_CALLBACK, take_limit, "Time for one case; default 60s", "TIME" },
        { "plugin-path", 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &wanted.folders,
          "Look in this folder first (may be given again; GITSTEAD_PLUGIN_PATH comes after)", "FOLDER" },
        { "run-case", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_INT, &wanted.run_case, NULL, NULL },
        { "run-folder", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_FILENAME, &wanted.folder, NULL, NULL },
        G_OPTION_ENTRY_NULL };

/* --------------------------------------------------------------------------------------- the child */

typedef struct
{
  const char *file;
  char *note; /* shared with the child */
  int note_fd;
} Watch;

/* How a child ended: what it reported, or how it was lost. */
typedef struct
{
  json_t *report; /* NULL = none */
  gboolean late;
  int signal, status;
  char slot[CONFORMANCE_NOTE_SIZE];
} End;

static void
end_clear (End *end)
{
  if (end->report != NULL)
    json_decref (end->report);
}

static void
add_all (GPtrArray *args, const char *option, char **values)
{
  for (; values != NULL && *values != NULL; values++)
    {
      g_ptr_array_add (args, g_strdup (option));
      g_ptr_array_add (args, g_strdup (*values));
    }
}

static GPtrArray *
child_arguments (const Watch *watch, int number, const char *folder)
{
  GPtrArray *args = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (args, g_strdup ("gitstead"));
  g_ptr_array_add (args, g_strdup ("plugin"));
  g_ptr_array_add (args, g_strdup ("check"));
  add_all (args, "--option", wanted.options);
  add_all (args, "--need", wanted.needs);
  add_all (args, "--plugin-path", wanted.folders);
  g_ptr_array_add (args, g_strdup_printf ("--run-case=%d", number));
  g_ptr_array_add (args, g_strdup_printf ("--run-folder=%s", folder));
  g_ptr_array_add (args, g_strdup_printf ("--time-limit=%" G_GINT64_FORMAT "us", wanted.limit_us));
  g_ptr_array_add (args, g_strdup ("--"));
  g_ptr_array_add (args, g_strdup (watch->file));
  g_ptr_array_add (args, NULL);
  return args;
}

/* What the C library keeps for the next time (chunks of a thread, arenas for threads that collide) would hide what is lost,
 * or look like it. */
static char **
child_environment (void)
{
  char **env = g_get_environ ();
  env = g_environ_setenv (env, "G_SLICE", "always-malloc", TRUE);
  return g_environ_setenv (env, "GLIBC_TUNABLES", "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1", TRUE);
}

/* Returns the process, with its report's descriptor; -1 with errno. */
static pid_t
spawn_case (const Watch *watch, int number, const char *folder, int *ret_report)
{
  g_autoptr (GPtrArray) args = child_arguments (watch, number, folder);
  g_auto (GStrv) env = child_environment ();
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  int ends[2], failed;
  pid_t pid = -1;
  if (pipe2 (ends, O_CLOEXEC) != 0)
    return -1;
  sigemptyset (&none);
  sigfillset (&all);
  posix_spawn_file_actions_init (&actions);
  posix_spawnattr_init (&attributes);
  posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup (&attributes, 0);
  posix_spawnattr_setsigmask (&attributes, &none);
  posix_spawnattr_setsigdefault (&attributes, &all);
  posix_spawn_file_actions_addopen (&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2 (&actions, 2, 1); /* what a plugin prints is no part of our output */
  /* The two may stand where they have to go, so they are carried over places that are free. */
  posix_spawn_file_actions_adddup2 (&actions, ends[1], 60);
  posix_spawn_file_actions_adddup2 (&actions, watch->note_fd, 61);
  posix_spawn_file_actions_adddup2 (&actions, 60, GSI_CASE_REPORT_FD);
  posix_spawn_file_actions_adddup2 (&actions, 61, GSI_CASE_NOTE_FD);
  posix_spawn_file_actions_addclosefrom_np (&actions, GSI_CASE_NOTE_FD + 1);
  failed = posix_spawn (&pid, "/proc/self/exe", &actions, &attributes, (char **) args->pdata, env);
  posix_spawn_file_actions_destroy (&actions);
  posix_spawnattr_destroy (&attributes);
  close (ends[1]);
  if (failed != 0)
    {
      close (ends[0]);
      errno = failed;
      return -1;
    }
  *ret_report = ends[0];
  return pid;
}

/* Reads until the child is gone or out of time. FALSE when it was out of time. */
static gboolean
read_report (int report_fd, int pidfd, GString *text)
{
  gint64 until_us = g_get_monotonic_time () + wanted.limit_us;
  struct pollfd watch[2] = { { .fd = report_fd, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
  for (;;)
    {
      char piece[4096];
      gint64 left_us = until_us - g_get_monotonic_time ();
      gssize got;
      if (left_us <= 0)
        return FALSE;
      if (poll (watch, 2, (int) MIN (left_us / 1000 + 1, G_MAXINT)) < 0 && errno != EINTR)
        return FALSE;
      if (watch[0].revents != 0)
        {
          got = read (report_fd, piece, sizeof piece);
          if (got > 0 && text->len < REPORT_MAX)
            g_string_append_len (text, piece, got);
          if (got > 0)
            continue;
          watch[0].fd = -1; /* at its end: what is left to wait for is the end of the process */
          watch[0].revents = 0;
        }
      if (watch[1].revents != 0)
        return TRUE;
    }
}

static gboolean
run_child (const Watch *watch, int number, End *ret_end, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  char *folder = fake_tempdir_new ();
  int report_fd = -1, pidfd;
  siginfo_t info = { 0 };
  pid_t pid;
  memset (watch->note, 0, CONFORMANCE_NOTE_SIZE);
  pid = spawn_case (watch, number, folder, &report_fd);
  if (pid < 0)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "starting a process for case %d: %s", number, g_strerror (errno));
      fake_tempdir_remove (folder);
      return FALSE;
    }
  pidfd = (int) syscall (SYS_pidfd_open, pid, 0);
  *ret_end = (End){ 0 };
  ret_end->late = !read_report (report_fd, pidfd, text);
  kill (-pid, SIGKILL); /* and whatever processes the plugin has made */
  while (waitid (P_PID, (id_t) pid, &info, WEXITED) < 0 && errno == EINTR)
    ;
  close (report_fd);
  if (pidfd >= 0)
    close (pidfd);
  if (!ret_end->late && info.si_code != CLD_EXITED)
    ret_end->signal = info.si_status;
  else if (!ret_end->late)
    ret_end->status = info.si_status;
  g_strlcpy (ret_end->slot, watch->note, sizeof ret_end->slot);
  if (!ret_end->late && ret_end->signal == 0 && ret_end->status == 0)
    ret_end->report = json_loadb (text->str, text->len, 0, NULL);
  fake_tempdir_remove (folder);
  return TRUE;
}

/* --------------------------------------------------------------------------------------- judgement */

static const char *
text_of (const json_t *object, const char *key)
{
  const char *text = json_string_value (json_object_get (object, key));
  return text != NULL ? text : "";
}

/* "in lookup", "outside of any slot" */
static char *
place_of (const End *end)
{
  return end->slot[0] != '\0' ? g_strdup_printf ("in %s", end->slot)
                              : g_strdup ("outside of any slot: in a thread of its own, or in what it left behind");
}

/* One row of the result from how a case ended. *full*. */
static json_t *
judge (const json_t *one, const End *end)
{
  g_autofree char *place = place_of (end);
  json_t *row = json_pack ("{s:i, s:s, s:s}", "number", (int) json_integer_value (json_object_get (one, "number")), "case",
                           text_of (one, "promise"), "title", text_of (one, "title"));
  if (end->report != NULL && json_object_get (end->report, "result") != NULL)
    {
      json_object_update (row, end->report);
      return row;
    }
  json_object_set_new (row, "result", json_string ("failed"));
  if (end->report != NULL)
    {
      const char *why = text_of (end->report, "cannot");
      json_object_set_new (row, "promise", json_string (g_str_has_prefix (why, "[P4]") ? "P4" : text_of (one, "promise")));
      json_object_set_new (row, "expected", json_string ("an instance that starts"));
      json_object_set_new (row, "happened", json_sprintf ("%s (its options can be given with --option)", why));
    }
  else if (end->late)
    {
      g_autofree char *limit = gsi_text_duration (wanted.limit_us);
      json_object_set_new (row, "promise", json_string ("P5"));
      json_object_set_new (row, "expected", json_string ("every slot to return"));
      json_object_set_new (row, "happened", json_sprintf ("after %s it was still %s", limit, place));
    }
  else
    {
      json_object_set_new (row, "promise", json_string ("P6"));
      json_object_set_new (row, "expected", json_string ("the process to live"));
      if (end->signal != 0)
        json_object_set_new (row, "happened", json_sprintf ("it was lost by SIG%s (%s) %s", sigabbrev_np (end->signal),
                                                            strsignal (end->signal), place));
      else
        json_object_set_new (row, "happened", json_sprintf ("it was ended with exit code %d %s", end->status, place));
    }
  return row;
}

static void
print_row (const json_t *row)
{
  const char *result = text_of (row, "result"), *promise = text_of (row, "promise"), *own = text_of (row, "case");
  gboolean failed = strcmp (result, "failed") == 0;
  if (gsi_cli_json ())
    return;
  if (gsi_cli_quiet ())
    {
      if (failed)
        g_print ("%s\n", promise);
      return;
    }
  g_print ("%-7s [%s] %s", failed ? "BROKEN" : strcmp (result, "passed") == 0 ? "kept" : "skipped", own,
           text_of (row, "title"));
  if (!failed)
    {
      g_print ("%s%s\n", text_of (row, "happened")[0] != '\0' ? ": " : "", text_of (row, "happened"));
      return;
    }
  g_print (" (case %d)\n        promise:  %s\n        expected: %s\n        happened: %s\n",
           (int) json_integer_value (json_object_get (row, "number")), promise, text_of (row, "expected"),
           text_of (row, "happened"));
}

/* A plugin that cannot even be loaded. */
static int
refused (const Watch *watch, const End *end)
{
  const json_t *loading = json_pack ("{s:i, s:s, s:s}", "number", 0, "promise", "P1", "title", "the file is whole");
  json_t *row = judge (loading, end), *all;
  const char *problem = end->report != NULL ? text_of (end->report, "problem") : "";
  json_decref ((json_t *) loading);
  json_object_set_new (row, "promise", json_string ("P1"));
  json_object_set_new (row, "expected", json_string ("a plugin that the server would load"));
  if (problem[0] != '\0')
    json_object_set_new (row, "happened", json_string (problem));
  if (!gsi_cli_json ())
    {
      print_row (row);
      json_decref (row);
      return GSI_EXIT_FAILED;
    }
  all = json_pack ("{s:s, s:[o], s:i, s:i, s:i}", "path", watch->file, "cases", row, "passed", 0, "failed", 1, "skipped", 0);
  {
    char *text = json_dumps (all, JSON_INDENT (2));
    g_print ("%s\n", text);
    free (text);
  }
  json_decref (all);
  return GSI_EXIT_FAILED;
}

static int
list_cases (const json_t *plugin)
{
  gsize i;
  const json_t *one;
  GsiTable *table;
  if (gsi_cli_json ())
    {
      char *text = json_dumps (plugin, JSON_INDENT (2));
      g_print ("%s\n", text);
      free (text);
      return GSI_EXIT_OK;
    }
  table = gsi_table_new ((const char *[]) { ">CASE", "PROMISE", "WHAT IS LOOKED AT", NULL });
  json_array_foreach (json_object_get (plugin, "cases"), i, one)
  {
    g_autofree char *number = g_strdup_printf ("%d", (int) json_integer_value (json_object_get (one, "number")));
    gsi_table_row (table, number, text_of (one, "promise"), text_of (one, "title"), NULL);
  }
  gsi_table_print (table);
  return GSI_EXIT_OK;
}

static void
print_sum (const Watch *watch, const json_t *plugin, json_t *rows, const int *counts)
{
  if (gsi_cli_json ())
    {
      json_t *all = json_pack ("{s:s, s:s, s:s, s:s, s:O, s:i, s:i, s:i}", "path", watch->file, "kind", text_of (plugin, "kind"),
                               "name", text_of (plugin, "name"), "version", text_of (plugin, "version"), "cases", rows, "passed",
                               counts[0], "failed", counts[1], "skipped", counts[2]);
      char *text = json_dumps (all, JSON_INDENT (2));
      g_print ("%s\n", text);
      free (text);
      json_decref (all);
      return;
    }
  gsi_cli_say ("%s-%s: %d kept, %d broken, %d skipped", text_of (plugin, "kind"), text_of (plugin, "name"), counts[0],
               counts[1], counts[2]);
}

static int
run_cases (const Watch *watch, const json_t *plugin)
{
  const json_t *cases = json_object_get (plugin, "cases"), *one;
  json_t *rows = json_array ();
  int counts[3] = { 0 };
  gsize i;
  if (wanted.only < 0 || (gsize) wanted.only > json_array_size (cases))
    {
      json_decref (rows);
      return gsi_cli_usage ("plugin check", "--case %d: there are cases 1 to %d", wanted.only, (int) json_array_size (cases));
    }
  gsi_cli_json () ? (void) 0 : gsi_cli_say ("%s-%s %s, %s", text_of (plugin, "kind"), text_of (plugin, "name"),
                                            text_of (plugin, "version"), watch->file);
  json_array_foreach (cases, i, one)
  {
    int number = (int) json_integer_value (json_object_get (one, "number"));
    g_autoptr (GError) error = NULL;
    const char *result;
    json_t *row;
    End end;
    if (wanted.only != 0 && number != wanted.only)
      continue;
    if (!run_child (watch, number, &end, &error))
      {
        json_decref (rows);
        return gsi_cli_fail (error, "cannot check %s", watch->file);
      }
    row = judge (one, &end);
    end_clear (&end);
    print_row (row);
    fflush (stdout);
    result = text_of (row, "result");
    counts[strcmp (result, "passed") == 0 ? 0 : strcmp (result, "failed") == 0 ? 1 : 2]++;
    json_array_append_new (rows, row);
  }
  print_sum (watch, plugin, rows, counts);
  json_decref (rows);
  return counts[1] == 0 ? GSI_EXIT_OK : GSI_EXIT_FAILED;
}

/* ------------------------------------------------------------------------------------ finding it */

/* The file of "git", "storage-git" or "storage/git" in the search path; nothing is opened. *full*. */
static char *
find_file (const char *name, GError **error)
{
  g_autoptr (GsiLoader) loader = NULL;
  g_autofree char *dashed = g_strdelimit (g_strdup (name), "/", '-'), *all = NULL;
  char *found = NULL;
  if (g_str_has_suffix (name, ".so"))
    {
      if (g_file_test (name, G_FILE_TEST_EXISTS))
        return g_canonicalize_filename (name, NULL);
      gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such file");
      return NULL;
    }
  loader = gsi_loader_new ((const char *const *) wanted.folders);
  for (const char *const *folder = gsi_loader_folders (loader); *folder != NULL; folder++)
    for (guint32 kind = 0; kind <= GS_KIND_MAX; kind++)
      {
        g_autofree char *file = kind == 0 ? g_strconcat (dashed, ".so", NULL)
                                          : g_strconcat (gsi_kind_name (kind), "-", dashed, ".so", NULL);
        g_autofree char *path = g_build_filename (*folder, file, NULL);
        if (!g_file_test (path, G_FILE_TEST_EXISTS))
          continue;
        if (found != NULL && strcmp (strrchr (found, '/'), strrchr (path, '/')) != 0)
          {
            gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the name stands for %s and %s: say KIND-NAME", found, path);
            g_free (found);
            return NULL;
          }
        if (found == NULL)
          found = g_steal_pointer (&path);
      }
  all = g_strjoinv (", ", (char **) gsi_loader_folders (loader));
  if (found == NULL)
    gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such plugin in %s", all);
  return found;
}

static gboolean
all_pairs (char **pairs)
{
  for (; pairs != NULL && *pairs != NULL; pairs++)
    if (strchr (*pairs, '=') == NULL || **pairs == '=')
      return FALSE;
  return TRUE;
}

static int
check_file (Watch *watch)
{
  g_autoptr (GError) error = NULL;
  End end;
  int code;
  if (!run_child (watch, 0, &end, &error))
    return gsi_cli_fail (error, "cannot check %s", watch->file);
  if (end.report == NULL || json_object_get (end.report, "problem") != NULL)
    code = refused (watch, &end);
  else if (wanted.list)
    code = list_cases (end.report);
  else if (json_object_get (end.report, "usage") != NULL)
    code = gsi_cli_usage ("plugin check", "%s", text_of (end.report, "usage"));
  else
    code = run_cases (watch, end.report);
  end_clear (&end);
  return code;
}

int
gsi_plugin_check_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *file = NULL;
  Watch watch = { 0 };
  int code;
  if (wanted.run_case >= 0)
    gsi_case_run (&(GsiCaseRun){ args[0], (const char *const *) wanted.folders, (const char *const *) wanted.options,
                                 (const char *const *) wanted.needs, wanted.folder, wanted.run_case,
                                 wanted.limit_us / PATIENCE_SHARE });
  if (!all_pairs (wanted.options))
    return gsi_cli_usage ("plugin check", "--option wants KEY=VALUE");
  if (!all_pairs (wanted.needs))
    return gsi_cli_usage ("plugin check", "--need wants ROLE=PLUGIN");
  file = find_file (args[0], &error);
  if (file == NULL)
    return gsi_cli_fail (error, "cannot check plugin '%s'", args[0]);
  watch.file = file;
  watch.note_fd = memfd_create ("gitstead-check", MFD_CLOEXEC);
  if (watch.note_fd < 0 || ftruncate (watch.note_fd, CONFORMANCE_NOTE_SIZE) != 0
      || (watch.note = mmap (NULL, CONFORMANCE_NOTE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, watch.note_fd, 0)) == MAP_FAILED)
    {
      gs_fail (&error, gs_error_from_errno (errno), "memory to share with the cases: %s", g_strerror (errno));
      return gsi_cli_fail (error, "cannot check plugin '%s'", args[0]);
    }
  code = check_file (&watch);
  munmap (watch.note, CONFORMANCE_NOTE_SIZE);
  close (watch.note_fd);
  return code;
}
