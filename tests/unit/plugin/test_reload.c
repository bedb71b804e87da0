/* SPDX-License-Identifier: Apache-2.0 */
/* From one registry to the next: what is kept, adjusted, made anew, and what waits for a restart. */
#include "registry_case.h"

#include <gitstead/thread.h>

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

/* The parts of a configuration; NULL: as usual. */
typedef struct
{
  const char *server, *metadata, *access, *cache, *storages, *groups, *transports;
} Parts;

static GsiRegistry *
read_parts (Fixture *fixture, const Parts *parts)
{
  g_autoptr (GError) error = NULL;
  g_autofree char *yaml = g_strdup_printf (
      "server: {%s}\nmetadata: {plugin: fake, trace: trace%s}\naccess: {plugin: fake, trace: trace%s}\n"
      "cache: {plugin: %s, trace: trace}\nstorages:\n%s\nvirtual_storages:\n%s\ntransports:\n%s\n",
      parts->server != NULL ? parts->server : "name: one", parts->metadata != NULL ? parts->metadata : "",
      parts->access != NULL ? parts->access : "", parts->cache != NULL ? parts->cache : "fake",
      parts->storages != NULL ? parts->storages : "- {name: one, plugin: tune, trace: trace}",
      parts->groups != NULL ? parts->groups
                            : "- {name: main, storages: [one], routing: {plugin: fake}, consistency: {plugin: fake}}",
      parts->transports != NULL ? parts->transports : "- {name: web, plugin: tune, listen: [a, b], trace: trace}");
  GsiRegistry *registry = parse_yaml (fixture, yaml, &error);
  if (registry == NULL)
    fail_msg ("%s", error->message);
  return registry;
}

static GsiRegistry *
begin (Fixture *fixture, const Parts *parts)
{
  GsiRegistry *registry = read_parts (fixture, parts);
  g_autoptr (GError) error = NULL;
  assert_true (gsi_registry_create (registry, &fixture->setup, &error));
  assert_true (gsi_registry_start (registry, GSI_KINDS_ALL, &error));
  g_unlink (fixture->trace);
  return registry;
}

/* "adjusted storage one (count: 3 -> 4); …" */
static char *
said (GPtrArray *changes)
{
  GString *text = g_string_new (NULL);
  for (guint i = 0; i < changes->len; i++)
    {
      const GsiConfigChange *one = changes->pdata[i];
      g_string_append_printf (text, "%s%s %s (%s)", i > 0 ? "; " : "", gsi_change_name (one->kind), one->what,
                              one->detail);
    }
  return g_string_free (text, FALSE);
}

/* Follows @before by @parts up to the switch; says what it said. NULL: refused, with @ret_why. */
static GsiRegistry *
follow (Fixture *fixture, GsiRegistry *before, GPtrArray *retired, const Parts *parts, const char *want, char **ret_why)
{
  GsiRegistry *fresh = read_parts (fixture, parts);
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) changes = gsi_registry_follow (fresh, before, retired, &error);
  if (changes != NULL)
    {
      g_autofree char *text = said (changes);
      assert_string_equal (text, want);
    }
  if (changes != NULL && gsi_registry_create (fresh, &fixture->setup, &error)
      && gsi_registry_start (fresh, GSI_KINDS_INNER, &error) && gsi_registry_adjust (fresh, &error)
      && gsi_registry_start (fresh, GSI_KINDS_ALL, &error))
    {
      gsi_registry_adjusted (fresh, TRUE);
      return fresh;
    }
  assert_non_null (ret_why);
  *ret_why = g_strdup (error->message);
  gsi_registry_free (fresh);
  return NULL;
}

static void
assert_trace (Fixture *fixture, const char *want)
{
  g_autofree char *text = traced (fixture);
  assert_string_equal (text, want);
  g_unlink (fixture->trace);
}

/* ------------------------------------------------------------------------------------------------ tests */

static void
test_the_same_is_kept (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second;
  GsiInstance *storage = gsi_registry_get (first, GS_KIND_STORAGE, "one");
  second = follow (fixture, first, NULL, &(Parts) { 0 }, "", NULL);
  assert_ptr_equal (gsi_registry_get (second, GS_KIND_STORAGE, "one"), storage);
  assert_ptr_equal (gsi_registry_virtual_storage (second, "main")->instances[0], storage);
  /* Those that can be adjusted look at their files. */
  assert_trace (fixture, "take 3 storage one\ntake 3 transport web\n");
  gsi_registry_free (first);
  assert_trace (fixture, "");
  assert_true (gsi_instance_running (storage));
  gsi_registry_free (second);
  {
    g_autofree char *text = traced (fixture);
    assert_has (text, "stop storage one\n");
    assert_has (text, "destroy storage one\n");
  }
}

static void
test_changed_ones_run_beside_the_old (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 });
  GsiInstance *was = gsi_registry_get (first, GS_KIND_ACCESS, NULL), *now;
  GsiRegistry *second = follow (fixture, first, NULL, &(Parts) { .access = ", count: 4, secret: hush" },
                                "replaced access default (count: 3 -> 4, secret: unset -> \"********\")", NULL);
  now = gsi_registry_get (second, GS_KIND_ACCESS, NULL);
  assert_ptr_not_equal (was, now);
  assert_true (gsi_instance_running (was) && gsi_instance_running (now));
  assert_trace (fixture, "create access default\nstart access default\ntake 3 storage one\ntake 3 transport web\n");
  gsi_registry_free (first);
  assert_trace (fixture, "stop access default\ndestroy access default\n");
  gsi_registry_free (second);
}

static void
test_a_need_that_is_replaced (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 });
  /* Reloadable: the store can be had twice for a while, and who needs it follows. */
  GsiRegistry *second = follow (fixture, first, NULL, &(Parts) { .metadata = ", count: 4" },
                                "replaced metadata default (count: 3 -> 4); "
                                "replaced access default (its metadata changes)", NULL);
  gsi_registry_free (first);
  g_unlink (fixture->trace);
  /* Not reloadable: another store would tell different things. */
  first = follow (fixture, second, NULL, &(Parts) { .metadata = ", count: 4, room: 1MiB" },
                  "needs a restart metadata default (room: 64KiB -> 1MiB)", NULL);
  assert_ptr_equal (gsi_registry_get (first, GS_KIND_METADATA, NULL), gsi_registry_get (second, GS_KIND_METADATA, NULL));
  gsi_registry_free (second);
  /* It goes on with its old options: the next reload says so again. */
  second = follow (fixture, first, NULL, &(Parts) { .metadata = ", count: 4, room: 1MiB" },
                   "needs a restart metadata default (room: 64KiB -> 1MiB)", NULL);
  gsi_registry_free (first);
  gsi_registry_free (second);
}

static void
test_storages (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second;
  second = follow (fixture, first, NULL,
                   &(Parts) { .storages = "- {name: one, plugin: tune, trace: trace, count: 5, weight: 7}" },
                   "adjusted storage one (count: 3 -> 5); adjusted storage one (weight: 1 -> 7)", NULL);
  assert_trace (fixture, "take 5 storage one\ntake 3 transport web\n");
  assert_int_equal (gsi_options_integer (gsi_registry_core_options (
                                             second, gsi_registry_get (second, GS_KIND_STORAGE, "one")), "weight"), 7);
  gsi_registry_free (first);
  /* One option that cannot be taken: none is. */
  first = follow (fixture, second, NULL,
                  &(Parts) { .storages = "- {name: one, plugin: tune, trace: trace, count: 6, weight: 7, tags: [x]}" },
                  "needs a restart storage one (count: 5 -> 6, tags: [\"one\", \"two\"] -> [\"x\"])", NULL);
  assert_trace (fixture, "take 5 storage one\ntake 3 transport web\n");
  gsi_registry_free (second);
  second = follow (fixture, first, NULL, &(Parts) { .storages = "- {name: one, plugin: fake, trace: trace, weight: 7}" },
                   "needs a restart storage one (plugin: tune -> fake)", NULL);
  gsi_registry_free (first);
  gsi_registry_free (second);
}

#define TWO                                                                                                            \
  .storages = "- {name: one, plugin: tune, trace: trace}\n- {name: two, plugin: fake, trace: trace}",                \
  .groups = "- {name: main, storages: [one, two], routing: {plugin: fake}, consistency: {plugin: fake}}"

static void
test_come_and_go (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second, *third;
  g_autoptr (GPtrArray) retired = g_ptr_array_new ();
  GsiInstance *two;
  second = follow (fixture, first, NULL, &(Parts) { TWO },
                   "added storage two (plugin: fake); adjusted virtual storage main (storages: [one] -> [one, two])", NULL);
  gsi_registry_free (first);
  two = gsi_registry_get (second, GS_KIND_STORAGE, "two");
  first = follow (fixture, second, NULL, &(Parts) { 0 },
                  "removed storage two (); adjusted virtual storage main (storages: [one, two] -> [one])", NULL);
  /* A call still uses it when it is wanted back: the same one goes on. */
  g_ptr_array_add (retired, second);
  third = follow (fixture, first, retired, &(Parts) { TWO },
                  "added storage two (plugin: fake); adjusted virtual storage main (storages: [one] -> [one, two])", NULL);
  assert_ptr_equal (gsi_registry_get (third, GS_KIND_STORAGE, "two"), two);
  g_unlink (fixture->trace);
  gsi_registry_free (second);
  gsi_registry_free (first);
  assert_trace (fixture, "");
  assert_true (gsi_instance_running (two));
  gsi_registry_free (third);
}

static void
test_addresses (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second;
  g_autoptr (GPtrArray) gone = NULL;
  /* One address in common cannot be opened twice. */
  second = follow (fixture, first, NULL,
                   &(Parts) { .transports = "- {name: web, plugin: tune, listen: [b, c], trace: trace}" },
                   "needs a restart transport web (listen: [\"a\", \"b\"] -> [\"b\", \"c\"])", NULL);
  gsi_registry_free (first);
  first = follow (fixture, second, NULL,
                  &(Parts) { .transports = "- {name: web, plugin: tune, listen: [c], trace: trace}" },
                  "replaced transport web (listen: [\"a\", \"b\"] -> [\"c\"])", NULL);
  gone = gsi_registry_gone (second, first, GSI_KIND_BIT (GS_KIND_TRANSPORT));
  assert_int_equal (gone->len, 1);
  assert_ptr_equal (gone->pdata[0], gsi_registry_get (second, GS_KIND_TRANSPORT, "web"));
  assert_int_equal (gsi_instance_calls (gone->pdata[0]), 0);
  g_unlink (fixture->trace);
  gsi_instance_drain (gone->pdata[0]);
  assert_trace (fixture, "drain transport web\n");
  gsi_registry_free (second);
  gsi_registry_free (first);
}

static void
test_server_options (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second;
  second = follow (fixture, first, NULL, &(Parts) { .server = "name: one, workers: 3, max_in_flight: 7" },
                   "needs a restart server (workers: 16 -> 3); adjusted server (max_in_flight: 1000 -> 7)", NULL);
  assert_int_equal (gsi_options_integer (gsi_registry_server (second), "workers"), 16);
  assert_int_equal (gsi_options_integer (gsi_registry_server (second), "max_in_flight"), 7);
  gsi_registry_free (first);
  gsi_registry_free (second);
}

/* Whatever fails, the old one has not noticed. */
static void
test_failures (void **state)
{
  Fixture *fixture = *state;
  GsiRegistry *first = begin (fixture, &(Parts) { 0 }), *second;
  static const struct
  {
    Parts parts;
    const char *changes, *why, *trace;
  } rows[] = {
    { { .access = ", fail: create" }, "replaced access default (fail: \"none\" -> \"create\")", "asked to fail in create", "" },
    { { .access = ", fail: start" }, "replaced access default (fail: \"none\" -> \"start\")", "asked to fail in start",
      "create access default\ndestroy access default\n" },
    { { .cache = "none", .transports = "- {name: web, plugin: tune, listen: [a, b], trace: trace, count: 9}" },
      "replaced cache default (plugin: fake -> none); adjusted transport web (count: 3 -> 9)", "9 is too many",
      "create cache default\nstart cache default\ndrop 3 storage one\nstop cache default\ndestroy cache default\n" },
    { { .transports = "- {name: web, plugin: tune, listen: [a, b], trace: trace}\n"
                      "- {name: more, plugin: fake, fail: start, trace: trace}" },
      "added transport more (plugin: fake)", "asked to fail in start",
      "create transport more\ndrop 3 storage one\ndrop 3 transport web\ndestroy transport more\n" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autofree char *why = NULL;
      assert_null (follow (fixture, first, NULL, &rows[i].parts, rows[i].changes, &why));
      assert_has (why, rows[i].why);
      assert_trace (fixture, rows[i].trace);
      for (guint32 kind = 1; kind < GS_KIND_LAYER; kind++)
        assert_true (gsi_instance_running (gsi_registry_get (first, kind, NULL)));
    }
  second = follow (fixture, first, NULL, &(Parts) { 0 }, "", NULL);
  gsi_registry_free (first);
  gsi_registry_free (second);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_the_same_is_kept, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_changed_ones_run_beside_the_old, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_a_need_that_is_replaced, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_storages, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_come_and_go, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_addresses, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_server_options, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_failures, set_up, tear_down),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
