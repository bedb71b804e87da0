/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/postgres: a server that is away, hangs, restarts or is cut off in a commit; schemas; hints; the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cutter.h"
#include "loadplugin.h"
#include "store.h"

#include <gitstead/thread.h>

#include <libpq-fe.h>
#include <poll.h>
#include <stdlib.h>

#define PLUGIN "metadata-postgres.so"
#define PATIENCE_US (20 * (gint64) G_USEC_PER_SEC)
#define SHORT_US (200 * 1000)

static const char *conninfo; /* of the server itself: host=FOLDER … */

typedef struct
{
  Cutter *cutter;
  char *path;   /* through the cutter */
  char *direct; /* the same schema, past it */
  char *schema;
  PGconn *pg; /* the test's own */
} Place;

static void
run_sql (Place *place, const char *format, ...)
{
  g_autofree char *sql = NULL;
  PGresult *result;
  va_list args;
  va_start (args, format);
  sql = g_strdup_vprintf (format, args);
  va_end (args);
  result = PQexec (place->pg, sql);
  if (PQresultStatus (result) != PGRES_COMMAND_OK && PQresultStatus (result) != PGRES_TUPLES_OK)
    fail_msg ("%s: %s", sql, PQerrorMessage (place->pg));
  PQclear (result);
}

static int
place_new (void **state)
{
  Place *place = g_new0 (Place, 1);
  g_auto (GStrv) words = g_strsplit (conninfo, " ", -1);
  g_autofree char *rest = g_strjoinv (" ", words + 1), *through = NULL;
  assert_true (g_str_has_prefix (words[0], "host="));
  place->cutter = cutter_new (words[0] + strlen ("host="));
  place->direct = store_postgres_path (conninfo);
  place->schema = g_strdup (strchr (place->direct, '#') + 1);
  through = g_strdup_printf ("host=%s %s", cutter_folder (place->cutter), rest);
  place->path = g_strdup_printf ("%s#%s", through, place->schema);
  place->pg = PQconnectdb (conninfo);
  assert_int_equal (PQstatus (place->pg), CONNECTION_OK);
  *state = place;
  return 0;
}

static int
place_free (void **state)
{
  Place *place = *state;
  PQfinish (place->pg);
  cutter_free (place->cutter);
  g_free (place->path);
  g_free (place->direct);
  g_free (place->schema);
  g_free (place);
  return 0;
}

static guint64
open_with_repo (Place *place, Store *store)
{
  g_autoptr (GError) error = NULL;
  guint64 id;
  if (!store_open (store, PLUGIN, place->path, "true", "50ms", &error))
    fail_msg ("%s", error->message);
  id = store_make_repo (store, "a.git", &error);
  if (id == 0)
    fail_msg ("%s", error->message);
  return id;
}

static void
says (GError **error, int code, const char *text)
{
  assert_non_null (*error);
  if ((*error)->code != code || strstr ((*error)->message, text) == NULL)
    fail_msg ("%s: %s (expected %s: … %s)", gs_error_name ((*error)->code), (*error)->message, gs_error_name (code),
              text);
  g_clear_error (error);
}

/* Until the store works again; whatever else is said meanwhile, it is UNAVAILABLE. */
static void
works_again (Store *store, guint64 id)
{
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  g_autoptr (GError) error = NULL;
  while (store_generation (store, id, &error) == G_MAXUINT64)
    {
      if (gs_error_code (error) != GS_ERROR_UNAVAILABLE || g_get_monotonic_time () > end_us)
        fail_msg ("%s: %s", gs_error_name (gs_error_code (error)), error->message);
      g_clear_error (&error);
      poll (NULL, 0, 5);
    }
}

/* ------------------------------------------------------------------------------------- in the commit */

static gboolean
decide (Store *store, guint64 id, const GsTxId *txid, guint64 *ret_generation, GError **error)
{
  static const char *const alpha[] = { "alpha", NULL };
  g_autoptr (FakeCall) call = fake_call_new (0);
  GsDecideRequest request
      = { .size = sizeof request, .repository_id = id, .txid = *txid, .voters = alpha, .caller = "tester" };
  return store->ops->decide (store->self, &call->call, &request, ret_generation, error);
}

static void
cut_in_commit (Place *place, CutterMode mode, GsTxState expected)
{
  Store store;
  guint64 id = open_with_repo (place, &store), generation = 99;
  g_autoptr (FakeCall) call = fake_call_new (0);
  g_autoptr (GError) error = NULL;
  GsTxId txid = call->call.id;
  GsTxState state = GS_TX_UNKNOWN;
  cutter_set (place->cutter, mode);
  assert_false (decide (&store, id, &txid, &generation, &error));
  says (&error, GS_ERROR_UNKNOWN, "was lost in the commit; look again whether it happened");
  assert_int_equal (generation, 99);
  cutter_set (place->cutter, CUTTER_PASS);
  works_again (&store, id);
  assert_true (store.ops->tx_find (store.self, &call->call, id, &txid, &state, NULL, NULL, NULL));
  assert_int_equal (state, expected);
  assert_int_equal (store_generation (&store, id, NULL), expected == GS_TX_DECIDED ? 1 : 0);
  assert_true (decide (&store, id, &txid, &generation, NULL)); /* the same again does no harm */
  assert_int_equal (generation, 1);
  store_close (&store);
}

static void
cut_before_commit (void **state)
{
  cut_in_commit (*state, CUTTER_BEFORE_COMMIT, GS_TX_UNKNOWN);
}

static void
cut_after_commit (void **state)
{
  cut_in_commit (*state, CUTTER_AFTER_COMMIT, GS_TX_DECIDED);
}

/* ------------------------------------------------------------------------------------- away, hanging */

static void
away_and_back (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id = open_with_repo (place, &store);
  g_autoptr (GError) error = NULL;
  cutter_set (place->cutter, CUTTER_AWAY);
  for (int i = 0; i < 200; i++)
    {
      assert_int_equal (store_generation (&store, id, &error), G_MAXUINT64);
      says (&error, GS_ERROR_UNAVAILABLE, "cannot be reached");
      assert_false (store_decide (&store, NULL, id, 0, &error));
      says (&error, GS_ERROR_UNAVAILABLE, "cannot be reached");
    }
  assert_int_equal (fake_host_logged (store.host, "metadata.postgres.away"), 1);
  cutter_set (place->cutter, CUTTER_PASS);
  works_again (&store, id);
  assert_int_equal (fake_host_logged (store.host, "metadata.postgres.back"), 1);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);
}

static void
away_at_start (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  guint64 id = open_with_repo (place, &store);
  store_close (&store);
  cutter_set (place->cutter, CUTTER_AWAY);
  if (!store_open (&store, PLUGIN, place->path, "false", "1s", &error))
    fail_msg ("%s", error->message);
  assert_int_equal (store_generation (&store, id, &error), G_MAXUINT64);
  says (&error, GS_ERROR_UNAVAILABLE, "cannot be reached");
  cutter_set (place->cutter, CUTTER_PASS);
  works_again (&store, id);
  store_close (&store);
}

/* Connections that died while nobody used them are replaced without a word. */
static void
cut_while_idle (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id = open_with_repo (place, &store);
  for (guint64 i = 0; i < 5; i++)
    {
      cutter_set (place->cutter, CUTTER_AWAY);
      cutter_set (place->cutter, CUTTER_PASS);
      assert_int_equal (store_generation (&store, id, NULL), i);
      cutter_set (place->cutter, CUTTER_AWAY);
      cutter_set (place->cutter, CUTTER_PASS);
      assert_true (store_decide (&store, NULL, id, i, NULL));
    }
  assert_int_equal (fake_host_logged (store.host, "metadata.postgres.away"), 0);
  store_close (&store);
}

static void
hanging (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id = open_with_repo (place, &store);
  g_autoptr (GError) error = NULL;
  g_autoptr (FakeCall) late = fake_call_new (SHORT_US);
  cutter_set (place->cutter, CUTTER_FROZEN);
  assert_false (store_decide (&store, &late->call, id, 0, &error));
  says (&error, GS_ERROR_DEADLINE_EXCEEDED, "the call's time was up");
  cutter_set (place->cutter, CUTTER_PASS);
  works_again (&store, id);
  assert_int_equal (fake_host_logged (store.host, "metadata.postgres.away"), 0); /* it was the call that was short */
  assert_int_equal (store_generation (&store, id, NULL), 0);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);
}

/* The first of two hosts takes connections and says nothing: the second one gets its share of the time. */
static void
one_host_hangs (void **state)
{
  Place *place = *state;
  g_auto (GStrv) words = g_strsplit (conninfo, " ", -1);
  g_autofree char *rest = g_strjoinv (" ", words + 1);
  g_autofree char *path = g_strdup_printf ("host=%s,%s %s#%s", cutter_folder (place->cutter),
                                           words[0] + strlen ("host="), rest, place->schema);
  guint64 id;
  Store store;
  g_autoptr (GError) error = NULL;
  cutter_set (place->cutter, CUTTER_FROZEN);
  if (!store_open (&store, PLUGIN, path, "true", "1s", &error))
    fail_msg ("%s", error->message);
  id = store_make_repo (&store, "a.git", &error);
  if (id == 0)
    fail_msg ("%s", error->message);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  assert_int_equal (fake_host_logged (store.host, "metadata.postgres.away"), 0);
  store_close (&store);
  cutter_set (place->cutter, CUTTER_PASS);
}

typedef struct
{
  Store *store;
  guint64 id;
  FakeCall *call;
  int code;
} Waiter;

static void *
waiter_main (void *data)
{
  Waiter *waiter = data;
  g_autoptr (GError) error = NULL;
  store_decide (waiter->store, &waiter->call->call, waiter->id, 0, &error);
  waiter->code = gs_error_code (error);
  return NULL;
}

static void
lock_row (Place *place, guint64 id)
{
  run_sql (place, "BEGIN; SELECT 1 FROM \"%s\".repositories WHERE id = %" G_GUINT64_FORMAT " FOR UPDATE", place->schema,
           id);
}

/* Until so many transactions wait for a lock. */
static void
wait_blocked (Place *place, int n)
{
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  for (int waiting = -1; waiting != n;)
    {
      PGresult *result = PQexec (place->pg, "SELECT count (*) FROM pg_locks WHERE NOT granted");
      assert_int_equal (PQresultStatus (result), PGRES_TUPLES_OK);
      waiting = atoi (PQgetvalue (result, 0, 0));
      PQclear (result);
      assert_true (g_get_monotonic_time () < end_us);
      poll (NULL, 0, 2);
    }
}

/* All connections are in use by calls that hang: the next is told that the store is busy, and a cancelled one ends. */
static void
pool_exhausted (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id = open_with_repo (place, &store);
  g_autoptr (GError) error = NULL;
  Waiter waiters[2];
  GsThread threads[2];
  lock_row (place, id);
  for (guint i = 0; i < 2; i++)
    {
      waiters[i] = (Waiter){ &store, id, fake_call_new (0), -1 };
      assert_int_equal (gs_thread_start (&threads[i], "waiter", waiter_main, &waiters[i]), 0);
      wait_blocked (place, (int) i + 1);
    }
  assert_false (store_decide (&store, NULL, id, 0, &error));
  says (&error, GS_ERROR_BUSY, "all 2 connections");
  for (guint i = 0; i < 2; i++)
    fake_call_cancel (waiters[i].call);
  for (guint i = 0; i < 2; i++)
    {
      gs_thread_join (threads[i]);
      assert_int_equal (waiters[i].code, GS_ERROR_CANCELLED);
      fake_call_free (waiters[i].call);
    }
  run_sql (place, "ROLLBACK");
  works_again (&store, id);
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);
}

/* A process that stopped in the middle of a transaction holds the row: others end by their deadline. */
static void
row_locked (void **state)
{
  Place *place = *state;
  Store store;
  guint64 id = open_with_repo (place, &store);
  g_autoptr (FakeCall) late = fake_call_new (SHORT_US);
  g_autoptr (GError) error = NULL;
  lock_row (place, id);
  assert_false (store_decide (&store, &late->call, id, 0, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_DEADLINE_EXCEEDED);
  assert_int_equal (store_generation (&store, id, NULL), 0); /* reading does not wait for it */
  run_sql (place, "ROLLBACK");
  assert_true (store_decide (&store, NULL, id, 0, NULL));
  store_close (&store);
}

/* ------------------------------------------------------------------------------------------- schemas */

static void
missing_schema (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  g_autoptr (FakeCall) call = fake_call_new (0);
  guint pending = 0, again = 99;
  assert_true (store_open (&store, PLUGIN, place->path, "false", "1s", NULL));
  assert_int_equal (fake_host_logged (store.host, "metadata.schema.behind"), 1);
  assert_int_equal (store_make_repo (&store, "a.git", &error), 0);
  says (&error, GS_ERROR_FAILED_PRECONDITION, "has no schema ");
  assert_true (store.ops->migrate (store.self, &call->call, TRUE, &pending, NULL));
  assert_true (pending > 0);
  assert_int_equal (store_make_repo (&store, "a.git", &error), 0); /* a plan changes nothing */
  says (&error, GS_ERROR_FAILED_PRECONDITION, "run “gitstead metadata migrate”");
  assert_true (store.ops->migrate (store.self, &call->call, FALSE, &again, NULL));
  assert_int_equal (again, pending);
  assert_true (store.ops->migrate (store.self, &call->call, FALSE, &again, NULL));
  assert_int_equal (again, 0);
  assert_true (store_make_repo (&store, "a.git", NULL) > 0);
  store_close (&store);
}

static void
refused (Place *place, const char *text)
{
  Store store;
  g_autoptr (GError) error = NULL;
  assert_false (store_open (&store, PLUGIN, place->path, "true", "1s", &error));
  says (&error, GS_ERROR_FAILED_PRECONDITION, text);
  store_close (&store);
}

static void
other_schemas (void **state)
{
  Place *place = *state;
  Store store;
  open_with_repo (place, &store);
  store_close (&store);
  run_sql (place, "INSERT INTO \"%s\".schema_migrations VALUES (99, 'later', 'abc', 0)", place->schema);
  refused (place, "by a newer Gitstead; this one knows up to ");
  run_sql (place, "DELETE FROM \"%s\".schema_migrations WHERE number = 99", place->schema);
  run_sql (place, "UPDATE \"%s\".schema_migrations SET checksum = 'deadbeefdeadbeef' WHERE number = 1", place->schema);
  refused (place, "made by other statements than this Gitstead has for it (checksum deadbeefdead)");
  run_sql (place, "DROP SCHEMA \"%s\" CASCADE", place->schema);
  run_sql (place, "CREATE SCHEMA \"%s\"; CREATE TABLE \"%s\".theirs (x integer)", place->schema, place->schema);
  refused (place, "holds tables of another program; check the option “schema”");
}

static void
older_schema (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  open_with_repo (place, &store);
  store_close (&store);
  run_sql (place,
           "SET search_path TO \"%s\"; DELETE FROM schema_migrations WHERE number > 1; DROP TABLE nodes, jobs, leases; "
           "DROP INDEX replicas_storage; ALTER TABLE repositories DROP copies, DROP consistency; "
           "ALTER TABLE replicas DROP scrubbed_us",
           place->schema);
  assert_true (store_open (&store, PLUGIN, place->path, "false", "1s", NULL));
  assert_int_equal (store_find (&store, "a.git", &error), 0);
  says (&error, GS_ERROR_FAILED_PRECONDITION, "steps behind; run “gitstead metadata migrate”");
  store_close (&store);
  assert_true (store_open (&store, PLUGIN, place->path, "true", "1s", NULL));
  assert_int_equal (fake_host_logged (store.host, "metadata.schema.migrated"), 1);
  assert_true (store_find (&store, "a.git", NULL) > 0); /* what was there is still there */
  store_close (&store);
}

static void *
migrator_main (void *data)
{
  Waiter *waiter = data;
  g_autoptr (GError) error = NULL;
  guint pending;
  waiter->store->ops->migrate (waiter->store->self, NULL, FALSE, &pending, &error);
  waiter->code = gs_error_code (error);
  return NULL;
}

/* A migration may take longer than any other statement. */
static void
slow_migration (void **state)
{
  Place *place = *state;
  Store store = { .plugin = load_plugin (PLUGIN), .host = fake_host_new ("metadata") };
  Waiter migrator = { &store, 0, NULL, -1 };
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  g_auto (GStrv) parts = g_strsplit (place->path, "#", 2);
  GsThread thread;
  gboolean long_enough = FALSE;
  store.ops = store.plugin->ops;
  store.config = fake_config_new (store.plugin, "conninfo", parts[0], "schema", parts[1], "statement_timeout", "100ms",
                                  "listen", "false", NULL);
  store.self = store.plugin->create (&store.host->host, fake_config_get (store.config), NULL);
  assert_non_null (store.self);
  store.started = store.plugin->start (store.self, NULL);
  assert_true (store.started);
  run_sql (place, "BEGIN; CREATE SCHEMA \"%s\"", place->schema); /* who makes it too waits for this transaction */
  assert_int_equal (gs_thread_start (&thread, "migrator", migrator_main, &migrator), 0);
  while (!long_enough)
    {
      PGresult *result = PQexec (place->pg, "SELECT pg_stat_clear_snapshot ()");
      PQclear (result);
      result = PQexec (place->pg, "SELECT count (*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND "
                                  "clock_timestamp () - query_start > '0.4 s'");
      assert_int_equal (PQresultStatus (result), PGRES_TUPLES_OK);
      long_enough = strcmp (PQgetvalue (result, 0, 0), "1") == 0;
      PQclear (result);
      assert_true (g_get_monotonic_time () < end_us);
      poll (NULL, 0, 10);
    }
  run_sql (place, "ROLLBACK");
  gs_thread_join (thread);
  assert_int_equal (migrator.code, GS_OK);
  store_close (&store);
  assert_true (store_open (&store, PLUGIN, place->path, "false", "1s", NULL));
  assert_true (store_make_repo (&store, "a.git", NULL) > 0);
  store_close (&store);
}

static void
bad_options (void **state)
{
  Place *place = *state;
  Store store;
  g_autoptr (GError) error = NULL;
  g_autofree char *secret = g_strdup_printf ("host=localhost password=hunter2#%s", place->schema),
                  *phrase = g_strdup_printf ("host=localhost sslpassword=hunter2#%s", place->schema),
                  *unquoted = g_strdup_printf ("host=localhost password=correct hunter2#%s", place->schema),
                  *address = g_strdup_printf ("postgresql://me:hunter2@[::1#%s", place->schema),
                  *broken = g_strdup_printf ("host=localhost nonsense=1#%s", place->schema);
  assert_false (store_open (&store, PLUGIN, secret, "true", "1s", &error));
  assert_null (strstr (error->message, "hunter2"));
  says (&error, GS_ERROR_INVALID_ARGUMENT, "use the option “password”");
  store_close (&store);
  assert_false (store_open (&store, PLUGIN, phrase, "true", "1s", &error));
  assert_null (strstr (error->message, "hunter2"));
  says (&error, GS_ERROR_INVALID_ARGUMENT, "keep the key without one");
  store_close (&store);
  assert_false (store_open (&store, PLUGIN, unquoted, "true", "1s", &error));
  assert_null (strstr (error->message, "hunter2"));
  says (&error, GS_ERROR_INVALID_ARGUMENT, "lack its quotes");
  store_close (&store);
  assert_false (store_open (&store, PLUGIN, address, "true", "1s", &error));
  assert_null (strstr (error->message, "hunter2"));
  says (&error, GS_ERROR_INVALID_ARGUMENT, "no connection of libpq");
  store_close (&store);
  assert_false (store_open (&store, PLUGIN, broken, "true", "1s", &error));
  says (&error, GS_ERROR_INVALID_ARGUMENT, "invalid connection option \"nonsense\"");
  store_close (&store);
  /* Lists that do not fit each other: which address would be whose? */
  static const char *const lists[][2] = {
    { "host=a,b hostaddr=127.0.0.1#%s", "lists 2 host and 1 hostaddr" },
    { "host=a hostaddr=127.0.0.1,127.0.0.2#%s", "lists 1 host and 2 hostaddr" },
    { "host=a,b,c port=1,2#%s", "lists 2 ports for 3 hosts" },
    { "port=1,2#%s", "lists 2 ports for 1 hosts" },
    { "hostaddr=127.0.0.1,127.0.0.2 port=1,2,3#%s", "lists 3 ports for 2 hosts" },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (lists); i++)
    {
      g_auto (GStrv) parts = g_strsplit (lists[i][0], "%s", 2);
      g_autofree char *text = g_strconcat (parts[0], place->schema, NULL);
      assert_false (store_open (&store, PLUGIN, text, "true", "1s", &error));
      says (&error, GS_ERROR_INVALID_ARGUMENT, lists[i][1]);
      store_close (&store);
    }
}

/* --------------------------------------------------------------------------------------------- hints */

static void *
adder_main (void *data)
{
  Waiter *waiter = data;
  GsJobRow job = { .size = sizeof job, .kind = "repair", .repository_id = waiter->id };
  guint64 id;
  g_autoptr (GError) error = NULL;
  waiter->store->ops->job_add (waiter->store->self, &waiter->call->call, &job, &id, &error);
  waiter->code = gs_error_code (error);
  return NULL;
}

/* What one process queues wakes another, and so does a connection that comes back. */
static void
hints (void **state)
{
  Place *place = *state;
  Store here, there;
  guint64 id = open_with_repo (place, &here), seen = 0, before;
  g_autoptr (FakeCall) call = fake_call_new (0), other = fake_call_new (0);
  gint64 end_us = g_get_monotonic_time () + PATIENCE_US;
  Waiter adder = { &there, id, other, -1 };
  GsThread thread;
  assert_true (store_open (&there, PLUGIN, place->direct, "true", "1s", NULL));
  while (seen < 2) /* the listener counts when it has connected */
    {
      assert_true (here.ops->wait_hint (here.self, &call->call, seen, PATIENCE_US, &seen, NULL));
      assert_true (g_get_monotonic_time () < end_us);
    }
  assert_int_equal (gs_thread_start (&thread, "adder", adder_main, &adder), 0);
  before = seen;
  assert_true (here.ops->wait_hint (here.self, &call->call, seen, PATIENCE_US, &seen, NULL));
  gs_thread_join (thread);
  assert_int_equal (adder.code, GS_OK);
  assert_true (seen > before);
  cutter_set (place->cutter, CUTTER_AWAY);
  cutter_set (place->cutter, CUTTER_PASS);
  before = seen;
  assert_true (here.ops->wait_hint (here.self, &call->call, seen, PATIENCE_US, &seen, NULL));
  assert_true (seen > before);
  store_close (&there);
  store_close (&here);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (cut_before_commit, place_new, place_free),
    cmocka_unit_test_setup_teardown (cut_after_commit, place_new, place_free),
    cmocka_unit_test_setup_teardown (away_and_back, place_new, place_free),
    cmocka_unit_test_setup_teardown (away_at_start, place_new, place_free),
    cmocka_unit_test_setup_teardown (cut_while_idle, place_new, place_free),
    cmocka_unit_test_setup_teardown (hanging, place_new, place_free),
    cmocka_unit_test_setup_teardown (one_host_hangs, place_new, place_free),
    cmocka_unit_test_setup_teardown (pool_exhausted, place_new, place_free),
    cmocka_unit_test_setup_teardown (row_locked, place_new, place_free),
    cmocka_unit_test_setup_teardown (missing_schema, place_new, place_free),
    cmocka_unit_test_setup_teardown (other_schemas, place_new, place_free),
    cmocka_unit_test_setup_teardown (older_schema, place_new, place_free),
    cmocka_unit_test_setup_teardown (slow_migration, place_new, place_free),
    cmocka_unit_test_setup_teardown (bad_options, place_new, place_free),
    cmocka_unit_test_setup_teardown (hints, place_new, place_free),
  };
  conninfo = g_getenv ("GITSTEAD_TEST_POSTGRES");
  if (conninfo == NULL)
    return 77;
  return cmocka_run_group_tests_name ("metadata-postgres", tests, NULL, NULL);
}
