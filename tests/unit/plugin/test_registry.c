/* SPDX-License-Identifier: Apache-2.0 */
/* From a config file to running instances and back: sections, needs, order, failures half way. */
#include "registry_case.h"

#include <glib/gstdio.h>

static int
set_up (void **state)
{
  *state = fixture_new (g_getenv ("GITSTEAD_TEST_FAKES"), FALSE);
  return 0;
}

static int
tear_down (void **state)
{
  return fixture_free (*state);
}

#define TAIL                                                                                                           \
  "virtual_storages:\n"                                                                                                \
  "- {name: main, storages: [one], routing: {plugin: fake}, consistency: {plugin: fake}}\n"                            \
  "transports: [{plugin: fake, trace: trace}]\n"

/* Written against the order in which things must start. */
static const char good[] = "transports: [{plugin: fake, trace: trace}]\n"
                           "virtual_storages:\n"
                           "- {name: main, storages: [one, two], copies: 2, min_copies: 2,\n"
                           "   routing: {plugin: fake, trace: trace}, consistency: {plugin: fake, trace: trace}}\n"
                           "storages:\n"
                           "- {name: one, plugin: fake, trace: trace, work: true}\n"
                           "- {name: two, plugin: per-repo, trace: trace}\n"
                           "cache:\n"
                           "- {plugin: layer, lower: base, trace: trace}\n"
                           "- {name: base, plugin: fake, trace: trace}\n"
                           "access: {plugin: fake, trace: trace, secret: s3cret}\n"
                           "metadata: {plugin: fake, trace: trace}\n"
                           "server: {name: node-7, workers: 3, log_file: a/../b.log}\n";

static void
assert_refused (Fixture *fixture, const char *yaml, const char *want)
{
  g_autoptr (GError) error = NULL;
  assert_null (parse_yaml (fixture, yaml, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_INVALID_ARGUMENT));
  assert_has (error->message, want);
}

/* -------------------------------------------------------------------------------------------- life */

static void
test_whole_life_in_order (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;
  GsiRegistry *registry = parse_yaml (fixture, good, &error);
  g_autofree char *seen = NULL;
  g_autoptr (GBytes) page = NULL;

  assert_null (error);
  assert_true (gsi_registry_create (registry, &fixture->setup, &error));
  assert_true (gsi_registry_start (registry, GSI_KINDS_INNER, &error));
  assert_false (gsi_instance_running (gsi_registry_get (registry, GS_KIND_TRANSPORT, "fake")));
  assert_true (gsi_registry_start (registry, GSI_KINDS_ALL, &error));
  assert_true (gsi_instance_running (gsi_registry_get (registry, GS_KIND_TRANSPORT, "fake")));
  gsi_registry_drain (registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_registry_stop (registry, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  gsi_registry_stop (registry, GSI_KINDS_ALL);
  gsi_registry_free (registry);
  seen = traced (fixture);
  assert_string_equal (seen,
                       "create metadata default\ncreate access default\ncreate cache base\ncreate cache default\n"
                       "create storage one\ncreate storage two\ncreate routing main\ncreate consistency main\n"
                       "create transport fake\n"
                       "start metadata default\nstart access default\nstart cache base\nstart cache default\n"
                       "start storage one\nstart storage two\nstart routing main\nstart consistency main\n"
                       "start transport fake\n"
                       "drain transport fake\nstop transport fake\n"
                       "stop consistency main\nstop routing main\nstop storage two\n"
                       /* what an instance gave to the pool ends before anything below it stops */
                       "stop storage one\nworked storage one\n"
                       "stop cache default\nstop cache base\nstop access default\nstop metadata default\n"
                       "destroy transport fake\ndestroy consistency main\ndestroy routing main\ndestroy storage two\n"
                       "destroy storage one\ndestroy cache default\ndestroy cache base\ndestroy access default\n"
                       "destroy metadata default\n");
  page = gsi_metrics_render (fixture->metrics);
  assert_has (g_bytes_get_data (page, NULL), "gitstead_fake_starts_total{instance=\"storage one\",kind=\"fake\"} 1\n");
}

static void
test_free_stops_what_runs (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *registry = parse_yaml (fixture, good, NULL);
  g_autofree char *seen = NULL;

  assert_true (gsi_registry_create (registry, &fixture->setup, NULL));
  assert_true (gsi_registry_start (registry, GSI_KINDS_ALL, NULL));
  gsi_registry_free (registry);
  seen = traced (fixture);
  assert_has (seen, "stop transport fake\nstop consistency main\n");
  assert_true (g_str_has_suffix (seen, "destroy metadata default\n"));
}

static void
test_what_is_there_can_be_found (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GsiRegistry) registry = parse_yaml (fixture, good, NULL);
  const GsiVirtualStorage *virtual = gsi_registry_virtual_storage (registry, "");
  GsiInstance *cache = gsi_registry_get (registry, GS_KIND_CACHE, NULL);
  g_autofree char *printed = gsi_registry_print (registry);
  g_autofree char *log_file = g_build_filename (fixture->folder, "b.log", NULL);
  g_autoptr (GsiRegistry) again = NULL;

  assert_non_null (virtual);
  assert_string_equal (virtual->name, "main");
  assert_int_equal (virtual->n_storages, 2);
  assert_int_equal (virtual->copies, 2);
  assert_int_equal (virtual->min_copies, 2);
  assert_ptr_equal (virtual->instances[1], gsi_registry_get (registry, GS_KIND_STORAGE, "two"));
  assert_ptr_equal (virtual->routing, gsi_registry_get (registry, GS_KIND_ROUTING, "main"));
  assert_null (gsi_registry_virtual_storage (registry, "other"));
  assert_string_equal (gsi_instance (cache)->name, "default");
  assert_ptr_equal (gsi_registry_all (registry, GS_KIND_CACHE)[0], cache);
  assert_null (gsi_registry_all (registry, GS_KIND_CACHE)[2]);
  assert_int_equal (gsi_options_integer (gsi_registry_server (registry), "workers"), 3);
  assert_string_equal (gsi_options_string (gsi_registry_server (registry), "log_file"), log_file);
  assert_has (printed, "    secret: \"********\"\n");
  assert_null (strstr (printed, "s3cret"));
  assert_has (printed, "    lower: base\n");
  /* What is printed is itself a configuration. */
  again = parse_yaml (fixture, printed, NULL);
  assert_non_null (again);
}

/* --------------------------------------------------------------------------------------- failures */

#define HEAD "metadata: {plugin: fake, trace: trace}\naccess: {plugin: fake, trace: trace}\n"
#define CACHE "cache: {plugin: fake}\n"
#define STORAGE "storages: [{name: one, plugin: fake, trace: trace}]\n"

static void
test_where_a_storage_is (void **state)
{
  Fixture *fixture = *state;
  static const char *const bad[]
      = { "weight: -1", "weight: 1000001", "weight: heavy", "zone: a/b/c", "zone: /r", "zone: z/", "zone: 'a b'",
          "zone: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "zoen: north" };
  g_autoptr (GsiRegistry) registry
      = parse_yaml (fixture, HEAD CACHE "storages:\n- {name: one, plugin: fake, zone: eu-1/r_2.a, weight: 7}\n"
                                   "- {name: two, plugin: fake}\n" TAIL, NULL);
  const GsiOptions *one, *two;
  g_autofree char *printed = NULL;

  assert_non_null (registry);
  one = gsi_registry_core_options (registry, gsi_registry_get (registry, GS_KIND_STORAGE, "one"));
  two = gsi_registry_core_options (registry, gsi_registry_get (registry, GS_KIND_STORAGE, "two"));
  assert_string_equal (gsi_options_string (one, "zone"), "eu-1/r_2.a");
  assert_int_equal (gsi_options_integer (one, "weight"), 7);
  assert_null (gsi_options_string (two, "zone"));
  assert_int_equal (gsi_options_integer (two, "weight"), 1);
  assert_null (gsi_registry_core_options (registry, gsi_registry_get (registry, GS_KIND_CACHE, NULL)));
  printed = gsi_registry_print (registry);
  assert_has (printed, "weight: 7\n");
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_autofree char *text
          = g_strdup_printf (HEAD CACHE "storages: [{name: one, plugin: fake, %s}]\n" TAIL, bad[i]);
      g_autoptr (GError) error = NULL;
      assert_null (parse_yaml (fixture, text, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
      assert_has (error->message, "storage one");
      assert_null (strchr (error->message, '\n')); /* one mistake, told once */
    }
}

static void
test_failed_start_stops_the_others (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiRegistry) registry
      = parse_yaml (fixture, HEAD CACHE "storages: [{name: one, plugin: fake, fail: start, trace: trace}]\n" TAIL, &error);
  g_autofree char *seen = NULL;

  assert_true (gsi_registry_create (registry, &fixture->setup, NULL));
  assert_false (gsi_registry_start (registry, GSI_KINDS_ALL, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_UNAVAILABLE));
  assert_string_equal (error->message, "Starting storage one (plugin fake 1.2.3): asked to fail in start");
  seen = traced (fixture);
  assert_true (g_str_has_suffix (seen, "start metadata default\nstart access default\n"
                                       "stop access default\nstop metadata default\n"));
}

static void
test_silent_failures_are_told (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;
  GsiRegistry *registry
      = parse_yaml (fixture, HEAD CACHE "storages: [{name: one, plugin: fake, fail: silent-start}]\n" TAIL, NULL);
  g_autofree char *bad = g_strdup_printf (HEAD "cache: {plugin: %s/cache-silent-create.so}\n" STORAGE TAIL,
                                          g_getenv ("GITSTEAD_TEST_BAD"));

  assert_true (gsi_registry_create (registry, &fixture->setup, NULL));
  assert_false (gsi_registry_start (registry, GSI_KINDS_ALL, &error));
  assert_has (error->message, "its start function failed without saying why");
  gsi_registry_free (registry);
  g_clear_error (&error);

  registry = parse_yaml (fixture, bad, &error);
  assert_null (error);
  assert_false (gsi_registry_create (registry, &fixture->setup, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_INTERNAL));
  assert_has (error->message,
              "Creating cache default (plugin silent-create 1): its create function failed without saying why");
  gsi_registry_free (registry);
}

static void
test_failed_create_destroys_the_others (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiRegistry) registry
      = parse_yaml (fixture, HEAD CACHE "storages: [{name: one, plugin: fake, fail: create}]\n" TAIL, NULL);
  g_autofree char *seen = NULL;

  assert_false (gsi_registry_create (registry, &fixture->setup, &error));
  assert_string_equal (error->message, "Creating storage one (plugin fake 1.2.3): asked to fail in create");
  seen = traced (fixture);
  assert_string_equal (seen, "create metadata default\ncreate access default\ndestroy access default\n"
                             "destroy metadata default\n");
}

static void
test_needs_must_be_started (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GsiRegistry) registry = parse_yaml (fixture, HEAD CACHE STORAGE TAIL, NULL);
  g_autoptr (GError) error = NULL;

  assert_true (gsi_registry_create (registry, &fixture->setup, NULL));
  assert_false (gsi_registry_start (registry, GSI_KIND_BIT (GS_KIND_ACCESS), &error));
  assert_has (error->message, "metadata default, which it needs, is not running");
}

static void
test_transport_wants_somebody_to_call (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GsiRegistry) registry = parse_yaml (fixture, HEAD CACHE STORAGE TAIL, NULL);
  g_autoptr (GError) error = NULL;
  GsiHostSetup setup = fixture->setup;

  memset (&setup.services, 0, sizeof setup.services);
  assert_true (gsi_registry_create (registry, &setup, NULL));
  assert_true (gsi_registry_start (registry, GSI_KINDS_INNER, NULL));
  assert_false (gsi_registry_start (registry, GSI_KINDS_ALL, &error));
  assert_has (error->message, "nobody is there to take its calls");
}

/* ----------------------------------------------------------------------------------- configuration */

static void
test_bad_configurations (void **state)
{
  Fixture *fixture = *state;
  static const struct
  {
    const char *yaml, *want;
  } cases[] = {
    { HEAD CACHE STORAGE TAIL "transport: []\n",
      "gitstead.yaml:8:1: there is no section \"transport\"; did you mean \"transports\"?" },
    { HEAD CACHE TAIL,
      "gitstead.yaml: there is no storage: add \"storages: [{name: NAME, plugin: PLUGIN}]\" (found: fake" },
    { CACHE STORAGE TAIL "access: {plugin: fake}\n",
      "there is no metadata: add \"metadata: {plugin: PLUGIN}\" (found: fake" },
    { CACHE STORAGE TAIL "access: {plugin: fake}\n",
      "gitstead.yaml:6:9: access default: it needs a metadata instance and there is none: add" },
    { HEAD CACHE STORAGE "transports: [{plugin: fake}]\n", "there is no virtual storage: add \"virtual_storages:" },
    { HEAD CACHE "storages: [{plugin: fake}]\n" TAIL,
      "gitstead.yaml:4:12: storage: it has no name: add \"name: NAME\"" },
    { HEAD CACHE "storages: [{name: one}]\n" TAIL,
      "storage: it does not say which plugin: add \"plugin: PLUGIN\" (found: fake" },
    { HEAD CACHE "storages: [{name: One, plugin: fake}]\n" TAIL, "storage: \"One\" is no name: want [a-z][a-z0-9-]*" },
    { HEAD CACHE "storages: [{name: one, plugin: fake}, {name: one, plugin: fake}]\n" TAIL,
      "there is another storage instance called \"one\"" },
    { HEAD CACHE "storages: [{name: one, plugin: fakr}]\n" TAIL,
      "gitstead.yaml:4:32: storage one: there is no storage plugin \"fakr\"; did you mean \"fake\"?" },
    { HEAD CACHE "storages: [{name: onne, plugin: fake}]\n" TAIL,
      "gitstead.yaml:6:27: virtual storage main: there is no storage \"one\"; did you mean \"onne\"?" },
    { HEAD CACHE "storages: [{name: one, plugin: fake, cuont: 4}]\n" TAIL,
      "storage one: there is no option \"cuont\"; did you mean \"count\"?" },
    { HEAD CACHE STORAGE "virtual_storages: [{name: main, storages: [one], min_copies: 2, routing: {plugin: fake}, "
                         "consistency: {plugin: fake}}]\n"
                         "transports: [{plugin: fake}]\n",
      "min_copies is 2, but it has only 1 storages, so it could never be written" },
    { HEAD CACHE STORAGE "virtual_storages: [{name: main, storages: [one], copies: 2, routing: {plugin: fake}, "
                         "consistency: {plugin: fake}}]\n"
                         "transports: [{plugin: fake}]\n",
      "copies is 2, but it has only 1 storages" },
    { HEAD CACHE "storages: [{name: one, plugin: fake}, {name: two, plugin: fake}]\n"
                 "virtual_storages: [{name: main, storages: [one, two], min_copies: 2, routing: {plugin: fake}, "
                 "consistency: {plugin: fake}}]\n"
                 "transports: [{plugin: fake}]\n",
      "min_copies is 2, but a repository gets only 1 copies, so it could never be written" },
    { HEAD CACHE STORAGE "transports: [{plugin: fake}]\n", "there is no virtual storage" },
    { HEAD CACHE STORAGE
      "virtual_storages: [{name: main, storages: [one], consistency: {plugin: fake}}]\ntransports: [{plugin: fake}]\n",
      "virtual storage main: it has no routing: add \"routing: {plugin: PLUGIN}\" (found: fake" },
    { HEAD STORAGE TAIL "cache: [{plugin: layer, lower: b}, {name: b, plugin: layer, lower: default}]\n",
      "instances need each other in a circle, so none can be started first: cache default needs cache b needs cache "
      "default. "
      "Change the line \"lower: …\" of cache b" },
    { HEAD STORAGE TAIL "cache: {plugin: layer, lower: default}\n", "cache default: lower names the instance itself" },
    { HEAD STORAGE TAIL "cache: {plugin: layer}\n", "cache default: it needs a cache instance and there is none" },
    { HEAD STORAGE TAIL "cache: [{plugin: layer}, {name: a, plugin: fake}, {name: b, plugin: fake}]\n",
      "it needs a cache instance and there are 2 (a, b): add the line \"lower: NAME\" to say which" },
    { HEAD STORAGE TAIL "cache: [{plugin: layer, lower: basr}, {name: base, plugin: fake}]\n",
      "there is no cache instance \"basr\"; did you mean \"base\"?" },
    { "metadata: {plugin: serial}\naccess: {plugin: fake}\n" CACHE STORAGE TAIL,
      "access default: its need \"metadata\" cannot be filled by metadata default, whose plugin \"serial\" takes only "
      "one call at a time" },
    { HEAD CACHE STORAGE TAIL "server: {workers: 0, log_levle: info}\n",
      "server: workers must be from 1 to 1024, not 0" },
    { HEAD CACHE STORAGE TAIL "server: {workers: 0, log_levle: info}\n",
      "there is no option \"log_levle\"; did you mean \"log_level\"?" },
    { HEAD CACHE STORAGE TAIL "plugin_path: [{a: b}]\n", "plugin_path wants folders, not a mapping" },
    { "- a\n", "the file must be a mapping" },
    { "", "there is no metadata" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    assert_refused (fixture, cases[i].yaml, cases[i].want);
}

static void
test_all_mistakes_at_once (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;

  assert_null (
      parse_yaml (fixture, "server: {quue: 1}\nstorages: [{name: one, plugin: fake, count: 11}]\nzzz: 1\n", &error));
  assert_has (error->message, "did you mean \"queue\"?");
  assert_has (error->message, "count must be from 1 to 10");
  assert_has (error->message, "there is no section \"zzz\"");
  assert_has (error->message, "there is no metadata");
  assert_has (error->message, "there is no access");
  assert_has (error->message, "there is no virtual storage");
  assert_has (error->message, "there is no transport");
}

static void
test_cache_may_be_left_out (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (GError) error = NULL;
  g_autoptr (GsiRegistry) registry = parse_yaml (fixture, HEAD STORAGE TAIL, &error);

  assert_null (error);
  assert_string_equal (gsi_instance_plugin (gsi_registry_get (registry, GS_KIND_CACHE, NULL))->plugin.name, "none");
}

static void
test_files_that_cannot_be_read (void **state)
{
  g_autoptr (GError) error = NULL;
  assert_null (gsi_registry_load ("/nowhere/gitstead.yaml", &error));
  assert_string_equal (error->message, "/nowhere/gitstead.yaml: No such file or directory");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
#define TEST(function_) cmocka_unit_test_setup_teardown (function_, set_up, tear_down)
    TEST (test_whole_life_in_order),        TEST (test_free_stops_what_runs),
    TEST (test_where_a_storage_is),         TEST (test_what_is_there_can_be_found), TEST (test_failed_start_stops_the_others),
    TEST (test_silent_failures_are_told),   TEST (test_failed_create_destroys_the_others),
    TEST (test_needs_must_be_started),      TEST (test_transport_wants_somebody_to_call),
    TEST (test_bad_configurations),         TEST (test_all_mistakes_at_once),
    TEST (test_cache_may_be_left_out),      TEST (test_files_that_cannot_be_read),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
