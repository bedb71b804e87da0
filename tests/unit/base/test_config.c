/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: what is taken, what is refused and where, includes and their limits. */
#include "base/config.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static void
assert_problems (const char *yaml, const char *const *want)
{
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = gsi_config_parse ("f", yaml, strlen (yaml), problems);

  for (guint i = 0; want[i] != NULL; i++)
    {
      if (i >= gsi_problems_count (problems))
        fail_msg ("%s: no problem \"%s\"", yaml, want[i]);
      assert_string_equal (gsi_problems_get (problems, i), want[i]);
    }
  assert_int_equal (gsi_problems_count (problems), g_strv_length ((char **) want));
}

static void
test_tree (void **state)
{
  static const char yaml[] = "# first\n"
                             "server:\n"
                             "  name: node-1\n"
                             "  mode: 0644   # stays text\n"
                             "  nothing:\n"
                             "  empty: \"\"\n"
                             "list: [a, {b: c}]\n";
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = gsi_config_parse ("f", yaml, strlen (yaml), problems);
  const GsiNode *server = gsi_node_get (gsi_config_root (config), "server");
  const GsiNode *list = gsi_node_get (gsi_config_root (config), "list");

  assert_int_equal (gsi_problems_count (problems), 0);
  assert_int_equal (server->n_items, 4);
  assert_int_equal (server->line, 3);
  assert_string_equal (gsi_node_get (server, "mode")->text, "0644");
  assert_int_equal (gsi_node_get (server, "mode")->line, 4);
  assert_int_equal (gsi_node_get (server, "mode")->column, 9);
  assert_true (gsi_node_get (server, "nothing")->empty);
  assert_false (gsi_node_get (server, "empty")->empty);
  assert_null (gsi_node_get (server, "other"));
  assert_null (gsi_node_get (list, "a"));
  assert_string_equal (gsi_node_kind (list->items[1]), "a mapping");
  assert_string_equal (gsi_node_get (list->items[1], "b")->text, "c");
}

static void
test_what_is_refused (void **state)
{
  static const struct
  {
    const char *yaml;
    const char *want[3];
  } cases[] = {
    { "a: 1\nb: 2\na: 3\n", { "f:3:1: \"a\" is given twice; the first time in line 1" } },
    { "a: &x 1\nb: *x\n",
      { "f:1:4: anchors (\"&x\") are not taken: write the value out where it is wanted",
        "f:2:4: aliases (\"*x\") are not taken: write the value out" } },
    { "a: !!int 1\n", { "f:1:4: tags (\"tag:yaml.org,2002:int\") are not taken: each option has its own type" } },
    { "a: !mine {b: c}\n", { "f:1:4: tags (\"!mine\") are not taken: each option has its own type" } },
    { "a: {<<: {b: c}}\n", { "f:1:5: merge keys (\"<<\") are not taken: write the values out" } },
    { "a: 1\n---\nb: 2\n", { "f:2:1: a second document (\"---\") is not taken: make it one" } },
    { "%YAML 1.1\n---\na: 1\n", { "f:1:1: directives (\"%…\") are not taken" } },
    { "- a\n", { "f:1:1: the file must be a mapping (\"key: value\"), not a sequence" } },
    { "? [a]\n: b\n", { "f:1:3: a key must be a plain word" } },
    { "a: [1, 2\nb: 3\n",
      { "f:2:2: this is not YAML: did not find expected ',' or ']', while parsing a flow sequence" } },
    { "a: \"x\\0y\"\n", { "f:1:4: the text is not UTF-8, or has a zero byte in it" } },
    { "\"\": 1\n", { "f:1:1: a key must have 1 to 64 bytes" } },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    assert_problems (cases[i].yaml, cases[i].want);
}

static void
test_hostile_texts (void **state)
{
  static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n";
  g_autofree char *deep = g_strnfill (5000, '[');
  g_autoptr (GString) many = g_string_new ("a: [");
  static const struct
  {
    const char *bytes;
    gsize len;
  } junk[] = { { "\xff\xfe\x00\x01", 4 }, { "a: \xc3\x28\n", 6 }, { "\0\0\0", 3 }, { "a: 'x", 5 }, { "{{{{", 4 },
               { "a: b: c\n", 8 } };

  for (guint i = 0; i < 70000; i++)
    g_string_append (many, "1,");
  g_string_append (many, "]\n");
  for (guint i = 0; i < G_N_ELEMENTS (junk); i++)
    {
      g_autoptr (GsiProblems) problems = gsi_problems_new ();
      g_autoptr (GsiConfigFile) config = gsi_config_parse ("f", junk[i].bytes, junk[i].len, problems);
      assert_true (gsi_problems_count (problems) >= 1);
      assert_int_equal (gsi_config_root (config)->n_items, 0);
    }
  for (guint i = 0; i < 3; i++)
    {
      const char *text = i == 0 ? bomb : i == 1 ? deep : many->str;
      g_autoptr (GsiProblems) problems = gsi_problems_new ();
      g_autoptr (GsiConfigFile) config = gsi_config_parse ("f", text, strlen (text), problems);
      assert_true (gsi_problems_count (problems) >= 1);
    }
  /* A file full of mistakes gives a list that ends. */
  g_string_truncate (many, 0);
  for (guint i = 0; i < 300; i++)
    g_string_append (many, "a: 1\n");
  {
    g_autoptr (GsiProblems) problems = gsi_problems_new ();
    g_autoptr (GsiConfigFile) config = gsi_config_parse ("f", many->str, many->len, problems);
    g_autoptr (GError) error = NULL;
    assert_int_equal (gsi_problems_count (problems), 100);
    assert_false (gsi_problems_check (problems, &error));
    assert_true (g_str_has_suffix (error->message, "\n… and 199 more"));
  }
}

/* ---- files ---- */

typedef struct
{
  char *folder;
  GPtrArray *files;
} Files;

static char *
write_file (Files *files, const char *name, const char *text)
{
  char *path = g_build_filename (files->folder, name, NULL);
  assert_true (g_file_set_contents (path, text, -1, NULL));
  g_ptr_array_add (files->files, path);
  return path;
}

static int
set_up (void **state)
{
  Files *files = g_new0 (Files, 1);
  files->folder = g_dir_make_tmp ("gitstead-config-XXXXXX", NULL);
  files->files = g_ptr_array_new_with_free_func (g_free);
  *state = files;
  return 0;
}

static int
tear_down (void **state)
{
  Files *files = *state;
  for (guint i = files->files->len; i-- > 0;)
    g_remove (g_ptr_array_index (files->files, i));
  g_ptr_array_unref (files->files);
  g_rmdir (files->folder);
  g_free (files->folder);
  g_free (files);
  return 0;
}

static void
test_includes_are_merged_in_order (void **state)
{
  Files *files = *state;
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = NULL;
  const GsiNode *list;

  write_file (files, "b.yaml", "list: [from-b]\nserver: {workers: 3}\n");
  write_file (files, "a.yaml", "list: [from-a]\n");
  write_file (files, ".hidden.yaml", "list: [hidden]\n");
  config = gsi_config_load (write_file (files, "main.yml", "include: '*.yaml'\nlist: [own]\nserver: {name: x}\n"),
                            problems);
  assert_int_equal (gsi_problems_count (problems), 0);
  list = gsi_node_get (gsi_config_root (config), "list");
  assert_int_equal (list->n_items, 3);
  assert_string_equal (list->items[0]->text, "own");
  assert_string_equal (list->items[1]->text, "from-a");
  assert_string_equal (list->items[2]->text, "from-b");
  assert_true (g_str_has_suffix (list->items[2]->file, "/b.yaml"));
  assert_string_equal (gsi_node_get (gsi_node_get (gsi_config_root (config), "server"), "workers")->text, "3");
  assert_null (gsi_node_get (gsi_config_root (config), "include"));
}

static void
test_twice_across_files (void **state)
{
  Files *files = *state;
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = NULL;
  g_autofree char *want = NULL;
  const char *main_path;

  write_file (files, "more.yaml", "server: {workers: 3}\n");
  main_path = write_file (files, "main.yml", "include: [more.yaml]\nserver: {workers: 4}\n");
  config = gsi_config_load (main_path, problems);
  assert_int_equal (gsi_problems_count (problems), 1);
  want = g_strdup_printf ("more.yaml:1:10: \"workers\" is already given at %s:2:10", main_path);
  assert_true (g_str_has_suffix (gsi_problems_get (problems, 0), want));
}

static void
test_includes_that_fail (void **state)
{
  Files *files = *state;
  g_autoptr (GsiProblems) problems = gsi_problems_new ();
  g_autoptr (GsiConfigFile) config = NULL;

  config = gsi_config_load (
      write_file (files, "main.yml", "include: [missing.yaml, 'none/*.yaml', {a: b}, main.yml]\n"), problems);
  /* main.yml includes itself until it is deep enough; each time the others fail too. */
  assert_true (gsi_problems_count (problems) >= 4);
  {
    g_autoptr (GError) error = NULL;
    gsi_problems_check (problems, &error);
    assert_non_null (strstr (error->message, "missing.yaml: No such file or directory"));
    assert_non_null (strstr (error->message, "include wants paths, not a mapping"));
    assert_non_null (strstr (error->message, "does a file include itself?"));
  }
}

static void
test_files_that_are_none (void **state)
{
  Files *files = *state;
  g_autofree char *big = g_strnfill (1024 * 1024 + 1, '#');
  const char *big_path = write_file (files, "big.yaml", big);
  const char *paths[] = { "/dev/zero", files->folder, big_path, "/nowhere/x.yaml" };
  const char *want[]
      = { "it is not a regular file", "it is not a regular file", "it is larger than 1 MiB", "No such file" };

  for (guint i = 0; i < G_N_ELEMENTS (paths); i++)
    {
      g_autoptr (GsiProblems) problems = gsi_problems_new ();
      g_autoptr (GsiConfigFile) config = gsi_config_load (paths[i], problems);
      assert_int_equal (gsi_problems_count (problems), 1);
      assert_non_null (strstr (gsi_problems_get (problems, 0), want[i]));
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_tree),
    cmocka_unit_test (test_what_is_refused),
    cmocka_unit_test (test_hostile_texts),
    cmocka_unit_test_setup_teardown (test_includes_are_merged_in_order, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_twice_across_files, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_includes_that_fail, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_files_that_are_none, set_up, tear_down),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
