/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: every broken plugin is refused with the reason, every good one loads, folders are searched in order. */
#include "plugin/describe.h"
#include "plugin/loader.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static GsiLoader *
loader_on (const char *variable)
{
  const char *folders[] = { g_getenv (variable), NULL };
  assert_non_null (folders[0]);
  return gsi_loader_new (folders);
}

static void
assert_has (const char *text, const char *part)
{
  if (strstr (text, part) == NULL)
    fail_msg ("\"%s\" does not say \"%s\"", text, part);
}

/* ---- broken ones ---- */

static const struct
{
  const char *name, *says, *also;
} broken[] = {
  { "wrong-magic", "not a Gitstead plugin", "GS_PLUGIN_DEFINE" },
  { "wrong-major", "built for plugin ABI 7.1, this Gitstead has 0.1", "Use a newer Gitstead" },
  { "wrong-minor", "built for plugin ABI 0.0, this Gitstead has 0.1", "Build the plugin again" },
  { "short-struct", "its descriptor has 24 bytes, too few", "GS_PLUGIN_DEFINE" },
  { "short-ops", "the headers differ", "Build the plugin again" },
  { "missing-slot", "leaves out what every cache plugin must have: store, forget_prefix", "gitstead/cache.h" },
  { "no-query", "no function gs_plugin_query", "GS_PLUGIN_DEFINE" },
  { "null-query", "gs_plugin_query returned NULL", "" },
  { "bad-option", "option \"limit\" (row 0) is wrong", "its fallback must be from 1 to 10, not 12" },
  { "twice-option", "option \"limit\" (row 1) is wrong", "stands twice" },
  { "taken-option", "option \"plugin\" (row 0) is wrong", "taken by the server" },
  { "name-mismatch", "says its name is \"another-name\"", "must be called cache-another-name.so" },
  { "null-ops", "no table of functions", "" },
  { "no-create", "no create function", "" },
  { "bad-kind", "of kind 99", "does not know" },
  { "wrong-kind", "of kind access, and cache is wanted here", "" },
  { "bad-name", "its name \"Bad Name\" is not [a-z]", "" },
  { "bad-need", "its need \"store\" is of kind 42", "" },
};

static void
test_broken_are_refused (void **state)
{
  g_autoptr (GsiLoader) loader = loader_on ("GITSTEAD_TEST_BAD");

  for (guint i = 0; i < G_N_ELEMENTS (broken); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autofree char *file = g_strdup_printf ("/cache-%s.so", broken[i].name);
      assert_null (gsi_loader_load (loader, GS_KIND_CACHE, broken[i].name, &error));
      assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_FAILED_PRECONDITION));
      assert_has (error->message, file);
      assert_has (error->message, broken[i].says);
      assert_has (error->message, broken[i].also);
    }
}

static void
test_list_shows_broken_ones_too (void **state)
{
  g_autoptr (GsiLoader) loader = loader_on ("GITSTEAD_TEST_BAD");
  g_autoptr (GPtrArray) files = gsi_loader_list (loader);
  guint n_broken = 0, n_good = 0;

  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = g_ptr_array_index (files, i);
      assert_true ((file->plugin == NULL) != (file->problem == NULL));
      if (!g_str_has_prefix (file->path, g_getenv ("GITSTEAD_TEST_BAD")))
        continue;
      n_broken += file->plugin == NULL;
      n_good += file->plugin != NULL;
    }
  assert_int_equal (n_broken, G_N_ELEMENTS (broken));
  assert_int_equal (n_good, 1); /* silent-create: what is wrong with it shows later */
}

static void
test_files_that_are_no_libraries (void **state)
{
  g_autofree char *folder = g_dir_make_tmp ("gitstead-loader-XXXXXX", NULL);
  g_autofree char *text = g_build_filename (folder, "cache-text.so", NULL);
  g_autofree char *other = g_build_filename (folder, "libelse.so", NULL);
  const char *folders[] = { folder, NULL };
  g_autoptr (GsiLoader) loader = gsi_loader_new (folders);
  g_autoptr (GPtrArray) files = NULL;
  g_autoptr (GError) error = NULL;
  guint seen = 0;

  assert_true (g_file_set_contents (text, "not a library\n", -1, NULL));
  assert_true (g_file_set_contents (other, "", -1, NULL));
  assert_null (gsi_loader_load (loader, GS_KIND_CACHE, "text", &error));
  assert_has (error->message, "it cannot be opened");
  files = gsi_loader_list (loader);
  for (guint i = 0; i < files->len; i++)
    {
      const GsiPluginFile *file = g_ptr_array_index (files, i);
      if (strcmp (file->path, other) != 0)
        continue;
      seen++;
      assert_int_equal (file->kind, 0);
      assert_has (file->problem, "not KIND-NAME.so");
    }
  assert_int_equal (seen, 1);
  assert_int_equal (g_unlink (text), 0);
  assert_int_equal (g_unlink (other), 0);
  assert_int_equal (g_rmdir (folder), 0);
}

/* ---- good ones ---- */

static void
test_good_one_loads_once (void **state)
{
  g_autoptr (GsiLoader) loader = loader_on ("GITSTEAD_TEST_FAKES");
  g_autoptr (GError) error = NULL;
  const GsiPlugin *plugin = gsi_loader_load (loader, GS_KIND_ACCESS, "fake", &error);
  g_autofree char *described = NULL;

  assert_null (error);
  assert_non_null (plugin);
  assert_string_equal (plugin->plugin.name, "fake");
  assert_ptr_equal (plugin->plugin.ops, plugin->ops);
  assert_ptr_equal (gsi_loader_load (loader, GS_KIND_ACCESS, "fake", NULL), plugin);
  assert_ptr_equal (gsi_loader_load (loader, GS_KIND_ACCESS, plugin->path, NULL), plugin);
  for (const GsiSlot *slot = gsi_kind_slots (GS_KIND_ACCESS); slot->name != NULL; slot++)
    assert_true (gsi_slot_filled (plugin, slot));
  described = gsi_plugin_describe (plugin);
  assert_has (described, "Kind:    access");
  assert_has (described, "ABI:     0.1");
  assert_has (described, "Needs:   metadata (a metadata instance)");
  assert_has (described, "  wait (duration, 1ms..1m)");
}

static void
test_unknown_name_gets_the_nearest (void **state)
{
  g_autoptr (GsiLoader) loader = loader_on ("GITSTEAD_TEST_FAKES");
  g_autoptr (GError) error = NULL;

  assert_null (gsi_loader_load (loader, GS_KIND_CACHE, "fakr", &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_NOT_FOUND));
  assert_has (error->message, "no cache plugin \"fakr\"; did you mean \"fake\"?");
  assert_has (error->message, "found: fake, layer");
  assert_has (error->message, g_getenv ("GITSTEAD_TEST_FAKES"));
  g_clear_error (&error);
  assert_null (gsi_loader_load (loader, GS_KIND_CACHE, "../cache-fake", &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_INVALID_ARGUMENT));
  g_clear_error (&error);
  assert_null (gsi_loader_load (loader, GS_KIND_CACHE, "/nowhere/cache-fake.so", &error));
  assert_has (error->message, "no such file");
}

static void
test_first_folder_wins (void **state)
{
  g_autofree char *folder = g_dir_make_tmp ("gitstead-loader-XXXXXX", NULL);
  g_autofree char *from = g_build_filename (g_getenv ("GITSTEAD_TEST_FAKES"), "cache-fake.so", NULL);
  g_autofree char *to = g_build_filename (folder, "cache-fake.so", NULL);
  const char *folders[] = { folder, NULL };
  g_autoptr (GsiLoader) loader = NULL;
  g_autofree char *bytes = NULL;
  const GsiPlugin *plugin;
  gsize len;

  assert_true (g_file_get_contents (from, &bytes, &len, NULL));
  assert_true (g_file_set_contents (to, bytes, (gssize) len, NULL));
  g_setenv ("GITSTEAD_PLUGIN_PATH", g_getenv ("GITSTEAD_TEST_FAKES"), TRUE);
  loader = gsi_loader_new (folders);
  plugin = gsi_loader_load (loader, GS_KIND_CACHE, "fake", NULL);
  assert_non_null (plugin);
  assert_string_equal (plugin->path, to);
  /* What the first folder has not comes from the environment's. */
  plugin = gsi_loader_load (loader, GS_KIND_CACHE, "layer", NULL);
  assert_non_null (plugin);
  assert_true (g_str_has_prefix (plugin->path, g_getenv ("GITSTEAD_TEST_FAKES")));
  g_unsetenv ("GITSTEAD_PLUGIN_PATH");
  assert_int_equal (g_unlink (to), 0);
  assert_int_equal (g_rmdir (folder), 0);
}

/* ---- the version rule, for versions to come ---- */

static void
test_version_rule (void **state)
{
  const GsiAbiRule one = { .major = 1, .minor = 4, .struct_size = 200, .ops_size = 80, .min_struct = 120 };
  static const struct
  {
    guint16 major, minor;
    guint32 struct_size, ops_size;
    gboolean version, sizes;
  } cases[] = {
    { 1, 4, 200, 80, TRUE, TRUE },  { 1, 0, 120, 40, TRUE, TRUE }, /* older minor, smaller */
    { 1, 5, 208, 96, FALSE, TRUE }, { 2, 0, 200, 80, FALSE, TRUE },
    { 0, 4, 200, 80, FALSE, TRUE }, { 1, 4, 112, 80, TRUE, FALSE },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      const GsAbi abi = { GS_ABI_MAGIC, cases[i].major, cases[i].minor, cases[i].struct_size, cases[i].ops_size };
      g_autoptr (GError) version = NULL, sizes = NULL;
      assert_int_equal (gsi_abi_check_version (&abi, &one, &version), cases[i].version);
      assert_int_equal (gsi_abi_check_sizes (&abi, &one, &sizes), cases[i].sizes);
      assert_int_equal (version == NULL, cases[i].version);
      assert_int_equal (sizes == NULL, cases[i].sizes);
    }
}

/* ---- the reference ---- */

static void
test_reference_names_every_option (void **state)
{
  g_autoptr (GsiLoader) loader = loader_on ("GITSTEAD_TEST_FAKES");
  g_autofree char *text = gsi_describe_reference (loader);

  assert_has (text, "## server\n");
  assert_has (text, "| `shutdown_grace` | duration | `30s` |");
  assert_has (text, "## cache: layer\n");
  assert_has (text, "Needs `lower`: a cache instance.");
  assert_has (text, "| `fail` | choice | `none` | none \\| create \\| silent-create \\| start \\| silent-start |");
  assert_has (text, "| `secret` | text | | | secret | A secret. |");
  assert_true (g_str_has_suffix (text, "|\n"));
}

static void
test_slot_tables_cover_the_headers (void **state)
{
  for (guint32 kind = 1; kind <= GS_KIND_MAX; kind++)
    {
      gsize next = 0;
      for (const GsiSlot *slot = gsi_kind_slots (kind); slot->name != NULL; slot++)
        {
          assert_int_equal (slot->offset, next);
          next += sizeof (gpointer);
        }
      assert_int_equal (next, gsi_kind_ops_size (kind));
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_broken_are_refused),
    cmocka_unit_test (test_list_shows_broken_ones_too),
    cmocka_unit_test (test_files_that_are_no_libraries),
    cmocka_unit_test (test_good_one_loads_once),
    cmocka_unit_test (test_unknown_name_gets_the_nearest),
    cmocka_unit_test (test_first_folder_wins),
    cmocka_unit_test (test_version_rule),
    cmocka_unit_test (test_reference_names_every_option),
    cmocka_unit_test (test_slot_tables_cover_the_headers),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
