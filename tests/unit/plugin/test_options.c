/* SPDX-License-Identifier: Apache-2.0 */
/* Option rows against mappings: types, limits, fallbacks, secrets, unknown keys, printing. */
#include "plugin/options.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static const GsOption rows[] = {
  { .key = "path", .type = GS_OPTION_PATH, .flags = GS_OPTION_REQUIRED, .help = "Where." },
  { .key = "size",
    .type = GS_OPTION_SIZE,
    .fallback = "10MiB",
    .min = 1024,
    .max = G_GINT64_CONSTANT (1) << 40,
    .help = "How much." },
  { .key = "timeout", .type = GS_OPTION_DURATION, .fallback = "2s", .help = "How long." },
  { .key = "count", .type = GS_OPTION_INT, .min = -5, .max = 5, .help = "How many." },
  { .key = "least", .type = GS_OPTION_SIZE, .min = 4096, .max = G_MAXINT64, .help = "At least." },
  { .key = "on", .type = GS_OPTION_BOOL, .help = "Whether." },
  { .key = "mode", .type = GS_OPTION_CHOICE, .choices = "fast|safe", .fallback = "safe", .help = "How." },
  { .key = "listen", .type = GS_OPTION_LIST, .help = "Which." },
  { .key = "password", .type = GS_OPTION_STRING, .flags = GS_OPTION_SECRET, .help = "What nobody sees." },
  { .key = NULL },
};

static const char *const others[] = { "plugin", "name", NULL };

typedef struct
{
  GsiProblems *problems;
  GsiConfigFile *file;
  GsiOptions *options;
} Checked;

static Checked
check (const char *yaml)
{
  Checked checked;
  checked.problems = gsi_problems_new ();
  checked.file = gsi_config_parse ("/etc/gitstead/a.yaml", yaml, strlen (yaml), checked.problems);
  checked.options = gsi_options_new (rows, gsi_config_root (checked.file), "cache main", others, checked.problems);
  return checked;
}

static void
done (Checked *checked)
{
  gsi_options_free (checked->options);
  gsi_config_free (checked->file);
  gsi_problems_free (checked->problems);
}

static void
assert_problem (const char *yaml, const char *want)
{
  Checked checked = check (yaml);
  gboolean seen = FALSE;

  for (guint i = 0; i < gsi_problems_count (checked.problems); i++)
    seen = seen || strstr (gsi_problems_get (checked.problems, i), want) != NULL;
  if (!seen)
    fail_msg ("no problem \"%s\" in %s, but: %s", want, yaml,
              gsi_problems_count (checked.problems) > 0 ? gsi_problems_get (checked.problems, 0) : "none");
  done (&checked);
}

static void
test_values_and_fallbacks (void **state)
{
  Checked checked
      = check ("plugin: x\npath: data/a\nsize: 64KiB\ncount: -3\non: true\nmode: fast\nlisten: [a, \"b c\"]\n");
  const GsConfig *config = gsi_options_config (checked.options);

  assert_int_equal (gsi_problems_count (checked.problems), 0);
  assert_string_equal (config->string (config, "path"), "/etc/gitstead/data/a");
  assert_int_equal (config->integer (config, "size"), 65536);
  assert_int_equal (config->integer (config, "timeout"), 2000000);
  assert_int_equal (config->integer (config, "count"), -3);
  assert_true (config->boolean (config, "on"));
  assert_string_equal (config->string (config, "mode"), "fast");
  assert_string_equal (config->list (config, "listen")[1], "b c");
  assert_null (config->list (config, "listen")[2]);
  assert_null (config->string (config, "password"));
  assert_null (config->string (config, "no such option"));
  assert_null (config->list (config, "password")[0]);
  done (&checked);
}

static void
test_mistakes_are_told_with_their_place (void **state)
{
  assert_problem ("{}", "/etc/gitstead/a.yaml:1:1: cache main: the option \"path\" is missing: Where.");
  assert_problem ("path: /x\nsise: 1MiB\n",
                  "a.yaml:2:1: cache main: there is no option \"sise\"; did you mean \"size\"?");
  assert_problem ("path: /x\nzzzzzzzz: 1\n",
                  "a.yaml:2:1: cache main: there is no option \"zzzzzzzz\"; known: path, size");
  assert_problem ("path: /x\nplugim: 1\n", "did you mean \"plugin\"?");
  assert_problem ("path: /x\nsize: 10\n", "a.yaml:2:7: cache main: size must be from 1KiB to 1TiB, not 10");
  assert_problem ("path: /x\nsize: ten\n", "size wants a size such as 4096, 64KiB, 10MiB or 1GiB, not \"ten\"");
  assert_problem ("path: /x\ntimeout: 5\n", "timeout wants a duration such as 500ms, 10s, 5m, 2h or 1d, not \"5\"");
  assert_problem ("path: /x\ncount: 1.5\n", "count wants a whole number, not \"1.5\"");
  assert_problem ("path: /x\ncount: 6\n", "count must be from -5 to 5, not 6");
  assert_problem ("path: /x\nleast: 1KiB\n", "least must be at least 4KiB, not 1KiB");
  assert_problem ("path: /x\non: yes\n", "on wants true or false, not \"yes\"");
  assert_problem ("path: /x\nmode: quick\n", "mode must be one of fast,safe, not \"quick\"");
  assert_problem ("path: /x\nmode: [fast]\n", "mode wants a choice, not a sequence");
  assert_problem ("path: /x\nmode:\n", "mode has no value");
  assert_problem ("path: /x\nlisten: [a, {b: c}]\n", "a.yaml:2:13: cache main: listen wants texts, not a mapping");
  assert_problem ("path: \"a\\tb\"\n", "path has a control character in it");
  assert_problem ("path: {file: /x}\n", "path wants a path, not a mapping");
  assert_problem ("path: /x\npassword: {fil: /x}\n",
                  "password wants one of {file: PATH}, {env: NAME} or {credential: NAME}");
}

static void
test_all_mistakes_in_one_run (void **state)
{
  Checked checked = check ("size: x\ncount: 99\nmoode: fast\n");
  g_autoptr (GError) error = NULL;

  assert_int_equal (gsi_problems_count (checked.problems), 4);
  assert_false (gsi_problems_check (checked.problems, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_INVALID_ARGUMENT));
  /* In order of place, not of finding. */
  assert_non_null (strstr (error->message, "a.yaml:1:1"));
  assert_true (strstr (error->message, "a.yaml:1:7") < strstr (error->message, "a.yaml:2:8"));
  assert_true (strstr (error->message, "a.yaml:2:8") < strstr (error->message, "a.yaml:3:1"));
  done (&checked);
}

static void
test_secrets (void **state)
{
  g_autofree char *folder = g_dir_make_tmp ("gitstead-options-XXXXXX", NULL);
  g_autofree char *path = g_build_filename (folder, "secret", NULL);
  g_autofree char *from_file = g_strdup_printf ("path: /x\npassword: {file: %s}\n", path);
  Checked checked;
  g_autoptr (GString) printed = g_string_new (NULL);

  assert_true (g_file_set_contents (path, "hunter2\n", -1, NULL));
  assert_int_equal (g_chmod (path, 0600), 0);
  checked = check (from_file);
  assert_int_equal (gsi_problems_count (checked.problems), 0);
  assert_string_equal (gsi_options_string (checked.options, "password"), "hunter2");
  gsi_options_print (checked.options, 2, printed);
  assert_null (strstr (printed->str, "hunter2"));
  assert_non_null (strstr (printed->str, "  password: \"********\"\n"));
  assert_non_null (strstr (printed->str, "  size: 10MiB\n"));
  done (&checked);

  assert_int_equal (g_chmod (path, 0640), 0);
  assert_problem (from_file, "others can read or change it (mode 0640). Run: chmod 600");
  assert_int_equal (g_chmod (path, 0600), 0);
  assert_true (g_file_set_contents (path, "", -1, NULL));
  assert_int_equal (g_chmod (path, 0600), 0);
  assert_problem (from_file, "it is empty or not UTF-8");

  g_setenv ("CREDENTIALS_DIRECTORY", folder, TRUE);
  assert_true (g_file_set_contents (path, "from systemd", -1, NULL));
  assert_int_equal (g_chmod (path, 0600), 0);
  checked = check ("path: /x\npassword: {credential: secret}\n");
  assert_string_equal (gsi_options_string (checked.options, "password"), "from systemd");
  done (&checked);
  assert_problem ("path: /x\npassword: {credential: ../secret}\n", "is no credential's name");
  g_unsetenv ("CREDENTIALS_DIRECTORY");
  assert_problem ("path: /x\npassword: {credential: secret}\n", "CREDENTIALS_DIRECTORY is not set");
  assert_int_equal (g_unlink (path), 0);
  assert_int_equal (g_rmdir (folder), 0);
  assert_problem (from_file, "No such file");

  g_setenv ("GITSTEAD_TEST_SECRET", "swordfish", TRUE);
  checked = check ("path: /x\npassword: {env: GITSTEAD_TEST_SECRET}\n");
  assert_string_equal (gsi_options_string (checked.options, "password"), "swordfish");
  done (&checked);
  g_unsetenv ("GITSTEAD_TEST_SECRET");
  assert_problem ("path: /x\npassword: {env: GITSTEAD_TEST_SECRET}\n", "GITSTEAD_TEST_SECRET is not set");
}

static void
assert_row_refused (GsOption row, const char *want)
{
  const GsOption two[] = { row, { .key = NULL } };
  g_autoptr (GError) error = NULL;

  assert_false (gsi_options_check_rows (two, others, &error));
  if (strstr (error->message, want) == NULL)
    fail_msg ("\"%s\" does not say \"%s\"", error->message, want);
}

static void
test_rows_are_checked (void **state)
{
  assert_true (gsi_options_check_rows (rows, others, NULL));
  assert_true (gsi_options_check_rows (NULL, NULL, NULL));
  assert_row_refused ((GsOption){ .key = "Bad", .type = GS_OPTION_INT, .help = "x" }, "[a-z][a-z0-9_]*");
  assert_row_refused ((GsOption){ .key = "a", .type = 77, .help = "x" }, "no type 77");
  assert_row_refused ((GsOption){ .key = "a", .type = GS_OPTION_INT }, "no help");
  assert_row_refused ((GsOption){ .key = "a", .type = GS_OPTION_CHOICE, .help = "x" }, "choices");
  assert_row_refused (
      (GsOption){ .key = "a", .type = GS_OPTION_CHOICE, .choices = "b|c", .fallback = "d", .help = "x" },
      "its fallback must be one of");
  assert_row_refused ((GsOption){ .key = "a", .type = GS_OPTION_INT, .min = 3, .max = 1, .help = "x" }, "lower limit");
  assert_row_refused ((GsOption){ .key = "a", .type = GS_OPTION_STRING, .max = 1, .help = "x" }, "limits belong to");
  assert_row_refused (
      (GsOption){ .key = "a", .type = GS_OPTION_INT, .fallback = "1", .flags = GS_OPTION_REQUIRED, .help = "x" },
      "required and has a fallback");
  assert_row_refused ((GsOption){ .key = "name", .type = GS_OPTION_INT, .help = "x" }, "taken");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_values_and_fallbacks),    cmocka_unit_test (test_mistakes_are_told_with_their_place),
    cmocka_unit_test (test_all_mistakes_in_one_run), cmocka_unit_test (test_secrets),
    cmocka_unit_test (test_rows_are_checked),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
