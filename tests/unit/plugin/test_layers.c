/* SPDX-License-Identifier: Apache-2.0 */
/* Layers, by configuration and in effect: who stands before whom, and what trace, fault and delay do to calls. */
#include "registry_case.h"

#include <gitstead/access.h>
#include <gitstead/cache.h>
#include <gitstead/metadata.h>
#include <gitstead/storage.h>
#include <gitstead/thread.h>
#include <gitstead/transport.h>

#include <fakehost.h>

static int
set_up (void **state)
{
  g_autofree char *path
      = g_strconcat (g_getenv ("GITSTEAD_TEST_PLUGIN_PATH"), ":", g_getenv ("GITSTEAD_TEST_FAKES"), NULL);
  *state = fixture_new (path, TRUE);
  return 0;
}

static int
tear_down (void **state)
{
  return fixture_free (*state);
}

/* Of each kind that is wrapped the layers that are given, as they stand in the file; NULL: none. */
typedef struct
{
  const char *metadata, *access, *cache, *storage, *routing, *transport;
} Layers;

static GsiRegistry *
parse (Fixture *fixture, const Layers *layers, GError **error)
{
  g_autofree char *name = g_build_filename (fixture->folder, "gitstead.yaml", NULL), *text = NULL;
#define PART(kind_) layers->kind_ != NULL ? ", layers: " : "", layers->kind_ != NULL ? layers->kind_ : ""
  text = g_strdup_printf (
      "metadata: {plugin: memory%s%s}\naccess: {plugin: token%s%s}\ncache: {plugin: memory%s%s}\n"
      "storages: [{name: one, plugin: memory%s%s}]\n"
      "virtual_storages:\n- {name: main, storages: [one], routing: {plugin: rendezvous%s%s}, consistency: {plugin: direct}}\n"
      "transports: [{plugin: inproc%s%s}]\n",
      PART (metadata), PART (access), PART (cache), PART (storage), PART (routing), PART (transport));
#undef PART
  return gsi_registry_parse (name, text, error);
}

static void
begin (Fixture *fixture, const Layers *layers)
{
  g_autoptr (GError) error = NULL;
  fixture->registry = parse (fixture, layers, &error);
  if (error != NULL)
    fail_msg ("%s", error->message);
  assert_true (gsi_registry_create (fixture->registry, &fixture->setup, NULL));
  assert_true (gsi_registry_start (fixture->registry, GSI_KINDS_ALL, NULL));
}

static GsiInstance *
the (Fixture *fixture, guint32 kind)
{
  return gsi_registry_get (fixture->registry, kind, NULL);
}

static guint
count_in_log (Fixture *fixture, const char *part)
{
  g_autofree char *text = NULL;
  guint n = 0;
  assert_true (g_file_get_contents (fixture->log_path, &text, NULL, NULL));
  for (const char *at = strstr (text, part); at != NULL; at = strstr (at + 1, part))
    n++;
  return n;
}

/* Stores in the cache: 0 or the code. */
static int
store (Fixture *fixture, const char *key)
{
  GsiInstance *cache = the (fixture, GS_KIND_CACHE);
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GBytes) bytes = g_bytes_new (key, strlen (key));
  g_autoptr (GError) error = NULL;
  gboolean ok = GSI_OPS (cache, GsCacheOps)->store (GSI_SELF (cache), &call->call, bytes, bytes, 0, &error);
  assert_int_equal (ok, error == NULL);
  return gs_error_code (error);
}

static guint64
n_entries (Fixture *fixture)
{
  GsiInstance *cache = the (fixture, GS_KIND_CACHE);
  GsCacheStats stats = { .size = sizeof stats };
  GSI_OPS (cache, GsCacheOps)->stats (GSI_SELF (cache), &stats);
  return stats.n_entries;
}

/* --------------------------------------------------------------------------------------- configuration */

static void
test_mistakes_are_told (void **state)
{
  static const struct
  {
    Layers layers;
    const char *want;
  } rows[] = {
    { { .cache = "{plugin: trace}" }, "cache default: layers wants a sequence" },
    { { .cache = "[trace]" }, "cache default: layers wants mappings such as {plugin: NAME, …} (found: " },
    { { .cache = "[{level: info}]" }, "cache default: layers wants mappings" },
    { { .cache = "[{plugin: trase}]" }, "trace" },
    { { .cache = "[{plugin: trace, levle: info}]" }, "layer trace of cache default: there is no option \"levle\"" },
    { { .storage = "[{plugin: delay, time: soon}]" }, "layer delay of storage one" },
    { { .routing = "[{plugin: trace}]" }, "routing main: there is no option \"layers\"" },
  };
  Fixture *fixture = *state;
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autoptr (GError) error = NULL;
      assert_null (parse (fixture, &rows[i].layers, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
      assert_has (error->message, rows[i].want);
    }
}

static void
test_slots_must_be_there (void **state)
{
  static const struct
  {
    Layers layers;
    const char *want;
  } rows[] = {
    { { .cache = "[{plugin: trace, slots: [lookup, sotre]}]" },
      "Creating layer trace of cache default (plugin trace 1.0): slots: there is no slot \"sotre\" to choose; known: lookup" },
    { { .storage = "[{plugin: fault, nth: 1, slots: [commit]}]" },
      "commit cannot fail before it is carried out: add \"when: after\"" },
    { { .storage = "[{plugin: fault, nth: 1, when: after, slots: [abort]}]" }, "slots: abort cannot fail" },
  };
  Fixture *fixture = *state;
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GsiRegistry) registry = parse (fixture, &rows[i].layers, &error);
      assert_null (error);
      assert_false (gsi_registry_create (registry, &fixture->setup, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
      assert_has (error->message, rows[i].want);
    }
}

static void
test_what_is_printed_is_a_configuration (void **state)
{
  Fixture *fixture = *state;
  g_autofree char *printed = NULL, *again = NULL;
  g_autoptr (GsiRegistry) second = NULL;
  begin (fixture, &(Layers){ .storage = "[{plugin: delay, time: 3ms, slots: [state]}, {plugin: trace}]" });
  printed = gsi_registry_print (fixture->registry);
  assert_has (printed, "    layers:\n      - plugin: ");
  assert_has (printed, "        time: 3ms\n");
  second = gsi_registry_parse ("printed", printed, NULL);
  assert_non_null (second);
  again = gsi_registry_print (second);
  assert_string_equal (again, printed);
}

/* ----------------------------------------------------------------------------------------------- trace */

static void
test_trace_tells_each_call (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GError) error = NULL;
  const GsRepo repo = { sizeof repo, 4711, "nowhere" };
  GsReplicaState found = { .size = sizeof found };
  GsiInstance *storage;
  g_auto (GStrv) urls = NULL;
  GsiInstance *transport;

  begin (fixture, &(Layers){ .storage = "[{plugin: trace}]", .cache = "[{plugin: trace, slots: [lookup]}]",
                             .transport = "[{plugin: trace}]" });
  storage = the (fixture, GS_KIND_STORAGE);
  assert_false (GSI_OPS (storage, GsStorageOps)->state (GSI_SELF (storage), &call->call, &repo, &found, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_NOT_FOUND);
  assert_int_equal (store (fixture, "a"), GS_OK);
  transport = the (fixture, GS_KIND_TRANSPORT);
  urls = GSI_OPS (transport, GsTransportOps)->endpoints (GSI_SELF (transport));
  assert_non_null (urls);
  assert_int_equal (count_in_log (fixture, "layer.trace"), 2);
  assert_int_equal (count_in_log (fixture, "slot=state"), 1);
  assert_int_equal (count_in_log (fixture, "outcome=NOT_FOUND repository=4711 error="), 1);
  assert_int_equal (count_in_log (fixture, "slot=endpoints"), 1);
  assert_int_equal (count_in_log (fixture, "layer trace of storage one"), 1);
}

static void
test_the_first_is_outermost (void **state)
{
  Fixture *fixture = *state;
  /* Who traces outside of the fault sees it; who traces behind it sees no call. */
  begin (fixture, &(Layers){ .cache = "[{plugin: trace, level: info}, {plugin: fault, nth: 1}, {plugin: trace, level: warning}]" });
  assert_int_equal (store (fixture, "a"), GS_ERROR_UNAVAILABLE);
  assert_int_equal (count_in_log (fixture, "layer.trace"), 1);
  assert_int_equal (count_in_log (fixture, "outcome=UNAVAILABLE"), 1);
  assert_int_equal (store (fixture, "a"), GS_OK);
  assert_int_equal (count_in_log (fixture, "layer.trace"), 3);
}

static void
test_trace_leaves_the_fast_out (void **state)
{
  Fixture *fixture = *state;
  begin (fixture, &(Layers){ .cache = "[{plugin: trace, slower_than: 1h}, {plugin: fault, nth: 2}]" });
  assert_int_equal (store (fixture, "a"), GS_OK);
  assert_int_equal (count_in_log (fixture, "layer.trace"), 0);
  assert_int_equal (store (fixture, "a"), GS_ERROR_UNAVAILABLE); /* failures are told all the same */
  assert_int_equal (count_in_log (fixture, "layer.trace"), 1);
}

/* ----------------------------------------------------------------------------------------------- fault */

static void
test_fault_by_number (void **state)
{
  Fixture *fixture = *state;
  begin (fixture, &(Layers){ .cache = "[{plugin: fault, nth: 2, times: 2, code: BUSY, slots: [store]}]" });
  assert_int_equal (store (fixture, "a"), GS_OK);
  assert_int_equal (store (fixture, "b"), GS_ERROR_BUSY);
  assert_int_equal (store (fixture, "c"), GS_ERROR_BUSY);
  assert_int_equal (n_entries (fixture), 1); /* before: nothing was done */
  assert_int_equal (store (fixture, "b"), GS_OK);
  assert_int_equal (count_in_log (fixture, "layer.fault"), 2);
  assert_int_equal (count_in_log (fixture, "slot=store number=2 code=BUSY when=before"), 1);
}

static void
test_fault_after_the_call (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *cache;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GBytes) key = g_bytes_new_static ("a", 1);
  g_autoptr (GError) error = NULL;
  static char other;
  GBytes *found = (GBytes *) &other;

  begin (fixture, &(Layers){ .cache = "[{plugin: fault, nth: 1, times: 0, when: after, code: UNKNOWN}]" });
  assert_int_equal (store (fixture, "a"), GS_ERROR_UNKNOWN);
  assert_int_equal (n_entries (fixture), 1); /* it was done, and only its outcome lost */
  /* What was found is given back: a sanitizer would tell. */
  cache = the (fixture, GS_KIND_CACHE);
  assert_false (GSI_OPS (cache, GsCacheOps)->lookup (GSI_SELF (cache), &call->call, key, &found, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_UNKNOWN);
  assert_has (error->message, "layer fault of cache default: call 2 (lookup) was made to fail after it was carried out");
  assert_ptr_equal (found, &other);
}

static gboolean
stage_head (Fixture *fixture, const GsRepo *repo, GsCall *call, gpointer *ret_txn, GError **error)
{
  GsiInstance *storage = the (fixture, GS_KIND_STORAGE);
  const GsRefUpdate update = { .name = "HEAD", .new_symref = "refs/heads/other" };
  GsChangeSet change = { .size = sizeof change, .txid = { { 7 } }, .updates = &update, .n_updates = 1 };
  const GsVote *vote = NULL;
  return GSI_OPS (storage, GsStorageOps)->stage (GSI_SELF (storage), call, repo, &change, ret_txn, &vote, error);
}

static void
test_fault_drops_what_was_staged (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (FakeCall) call = fake_call_new (0);
  const GsRepo repo = { sizeof repo, 1, "one" };
  const GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
  g_autoptr (GError) error = NULL;
  GsDecision decision = { .size = sizeof decision, .txid = { { 7 } }, .generation = 1 };
  GsReplicaState found = { .size = sizeof found };
  gpointer txn = NULL;
  GsiInstance *storage;
  const GsStorageOps *ops;

  begin (fixture, &(Layers){ .storage = "[{plugin: fault, nth: 1, when: after, slots: [stage]}, "
                                        "{plugin: fault, nth: 1, when: after, slots: [commit], code: UNKNOWN}]" });
  storage = the (fixture, GS_KIND_STORAGE);
  ops = GSI_OPS (storage, GsStorageOps);
  assert_true (ops->create (GSI_SELF (storage), &call->call, &repo, &spec, NULL));
  assert_false (stage_head (fixture, &repo, &call->call, &txn, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_UNAVAILABLE);
  assert_null (txn);
  /* Neither a lock nor the transaction is left of it. */
  assert_true (stage_head (fixture, &repo, &call->call, &txn, NULL));
  assert_non_null (txn);
  g_clear_error (&error);
  /* Applied, and its outcome lost: the transaction is used up, and resolve says the same again. */
  assert_false (ops->commit (GSI_SELF (storage), &call->call, txn, &decision, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_UNKNOWN);
  assert_true (ops->resolve (GSI_SELF (storage), &call->call, &repo, &decision.txid, &decision, NULL));
  assert_true (ops->state (GSI_SELF (storage), &call->call, &repo, &found, NULL));
  assert_int_equal (found.generation, 1);
}

/* Which of 64 calls fail, as a text of 0 and 1. */
static char *
pattern (Fixture *fixture, guint seed)
{
  g_autofree char *layers = g_strdup_printf ("[{plugin: fault, share: 250000, seed: %u}]", seed);
  char *text = g_strnfill (64, '0');
  begin (fixture, &(Layers){ .cache = layers });
  for (guint i = 0; i < 64; i++)
    if (store (fixture, "a") != GS_OK)
      text[i] = '1';
  g_clear_pointer (&fixture->registry, gsi_registry_free);
  return text;
}

static void
test_fault_by_dice_that_repeat (void **state)
{
  Fixture *fixture = *state;
  g_autofree char *one = pattern (fixture, 1), *again = pattern (fixture, 1), *two = pattern (fixture, 2);
  assert_string_equal (one, again);
  assert_string_not_equal (one, two);
  assert_non_null (strchr (one, '0'));
  assert_non_null (strchr (one, '1'));
}

/* A need is filled by the layer, too. */
static void
test_needs_go_through_layers (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GError) error = NULL;
  const GsToken token = { .size = sizeof token, .name = "t", .scope = GS_SCOPE_READ, .prefix = "" };
  g_autofree char *id = NULL, *secret = NULL;
  GsiInstance *access;

  begin (fixture, &(Layers){ .metadata = "[{plugin: fault, nth: 1, slots: [token_put], code: DATA_LOSS}]",
                             .access = "[{plugin: fault, nth: 2, when: after, slots: [token_create]}]" });
  access = the (fixture, GS_KIND_ACCESS);
  assert_false (GSI_OPS (access, GsAccessOps)
                    ->token_create (GSI_SELF (access), &call->call, &token, &id, &secret, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_DATA_LOSS);
  g_clear_error (&error);
  /* The two texts that it gave are freed, and the caller's stay as they were. */
  assert_false (GSI_OPS (access, GsAccessOps)
                    ->token_create (GSI_SELF (access), &call->call, &token, &id, &secret, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_UNAVAILABLE);
  assert_null (id);
  assert_null (secret);
}

/* ----------------------------------------------------------------------------------------------- delay */

static void
test_delay_ends_with_the_deadline (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *cache;
  g_autoptr (FakeCall) call = fake_call_new (20000);
  g_autoptr (GBytes) key = g_bytes_new_static ("a", 1);
  g_autoptr (GError) error = NULL;

  begin (fixture, &(Layers){ .cache = "[{plugin: delay, time: 1h}]" });
  cache = the (fixture, GS_KIND_CACHE);
  assert_false (GSI_OPS (cache, GsCacheOps)->store (GSI_SELF (cache), &call->call, key, key, 0, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_DEADLINE_EXCEEDED);
  assert_has (error->message, "layer delay of cache default");
  assert_int_equal (n_entries (fixture), 0); /* stats takes no call and is not held up */
}

static void *
cancel_it (void *data)
{
  fake_call_cancel (data);
  return NULL;
}

static void
test_delay_ends_with_the_call (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *cache;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GBytes) key = g_bytes_new_static ("a", 1);
  g_autoptr (GError) error = NULL;
  GsThread other;

  begin (fixture, &(Layers){ .cache = "[{plugin: delay, time: 1h}]" });
  cache = the (fixture, GS_KIND_CACHE);
  assert_int_equal (gs_thread_start (&other, "cancel", cancel_it, call), 0);
  assert_false (GSI_OPS (cache, GsCacheOps)->store (GSI_SELF (cache), &call->call, key, key, 0, &error));
  gs_thread_join (other);
  assert_int_equal (gs_error_code (error), GS_ERROR_CANCELLED);
  assert_int_equal (n_entries (fixture), 0);
}

static void
test_delay_takes_its_time (void **state)
{
  Fixture *fixture = *state;
  gint64 began_us;
  begin (fixture, &(Layers){ .cache = "[{plugin: delay, time: 20ms, spread: 1ms, slots: [store]}]" });
  began_us = g_get_monotonic_time ();
  assert_int_equal (store (fixture, "a"), GS_OK);
  assert_true (g_get_monotonic_time () - began_us >= 20000);
  assert_int_equal (n_entries (fixture), 1);
}

/* After the call: its outcome stays, however little patience its caller has. */
static void
test_delay_after_keeps_the_outcome (void **state)
{
  Fixture *fixture = *state;
  GsiInstance *cache;
  g_autoptr (FakeCall) call = fake_call_new (20000);
  g_autoptr (GBytes) key = g_bytes_new_static ("a", 1);

  begin (fixture, &(Layers){ .cache = "[{plugin: delay, time: 1h, when: after}]" });
  cache = the (fixture, GS_KIND_CACHE);
  assert_true (GSI_OPS (cache, GsCacheOps)->store (GSI_SELF (cache), &call->call, key, key, 0, NULL));
  assert_int_equal (n_entries (fixture), 1);
}

/* Slots that must be called are: a write that was staged is dropped though the call was cancelled long ago. */
static void
test_delay_leaves_nothing_staged (void **state)
{
  Fixture *fixture = *state;
  g_autoptr (FakeCall) call = fake_call_new (0);
  const GsRepo repo = { sizeof repo, 1, "one" };
  const GsRepoSpec spec = { sizeof spec, GS_FORMAT_SHA1, "refs/heads/main" };
  gpointer txn = NULL;
  GsiInstance *storage;
  const GsStorageOps *ops;

  begin (fixture, &(Layers){ .storage = "[{plugin: delay, time: 1h, slots: [abort, commit]}]" });
  storage = the (fixture, GS_KIND_STORAGE);
  ops = GSI_OPS (storage, GsStorageOps);
  assert_true (ops->create (GSI_SELF (storage), &call->call, &repo, &spec, NULL));
  assert_true (stage_head (fixture, &repo, &call->call, &txn, NULL));
  fake_call_cancel (call);
  ops->abort (GSI_SELF (storage), &call->call, txn, NULL);
  {
    g_autoptr (FakeCall) fresh = fake_call_new (0);
    assert_true (stage_head (fixture, &repo, &fresh->call, &txn, NULL));
    call->call.cancelled = 1;
    ops->abort (GSI_SELF (storage), &call->call, txn, NULL);
  }
}

int
main (void)
{
#define TEST(name_) cmocka_unit_test_setup_teardown (name_, set_up, tear_down)
  const struct CMUnitTest tests[] = {
    TEST (test_mistakes_are_told),
    TEST (test_slots_must_be_there),
    TEST (test_what_is_printed_is_a_configuration),
    TEST (test_trace_tells_each_call),
    TEST (test_the_first_is_outermost),
    TEST (test_trace_leaves_the_fast_out),
    TEST (test_fault_by_number),
    TEST (test_fault_after_the_call),
    TEST (test_fault_drops_what_was_staged),
    TEST (test_fault_by_dice_that_repeat),
    TEST (test_needs_go_through_layers),
    TEST (test_delay_ends_with_the_deadline),
    TEST (test_delay_ends_with_the_call),
    TEST (test_delay_takes_its_time),
    TEST (test_delay_after_keeps_the_outcome),
    TEST (test_delay_leaves_nothing_staged),
  };
  return cmocka_run_group_tests_name ("layers", tests, NULL, NULL);
}
