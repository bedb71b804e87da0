/* SPDX-License-Identifier: Apache-2.0 */
/* test_inproc.c - transport/inproc: calls, failures, many at once, drain and stop with calls under way. */
#include <fakehost.h>
#include <gitstead/thread.h>
#include <gitstead/transport.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

const GsPlugin *gs_plugin_query (void);

/*
 * The host side. By method: "Echo" answers its payload before call_begin returns; "Later" from another thread;
 * "Fail" fails; "Hang" waits until it is cancelled.
 */
static struct
{
  GsMutex lock;
  GsCond changed;
  guint64 next;
  guint hanging;
  gboolean cancel;
  GPtrArray *threads; /* of GsThread */
  guint32 kind;       /* of the last call's credentials */
  gint64 timeout_us;
  char *peer;
} side = { .lock = GS_MUTEX_INIT };

typedef struct
{
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer user;
  GBytes *payload;
  gboolean hang;
} Job;

static void
answer (const Job *job, GsErrorCode code, const char *message, GBytes *payload)
{
  GsOutcome outcome = { .size = sizeof outcome, .code = code, .message = message, .payload = payload };
  job->done (job->user, &outcome);
}

static void *
run_job (void *user)
{
  Job *job = user;
  if (job->hang)
    {
      gs_mutex_lock (&side.lock);
      side.hanging++;
      gs_cond_broadcast (&side.changed);
      while (!side.cancel)
        gs_cond_wait (&side.changed, &side.lock);
      gs_mutex_unlock (&side.lock);
      answer (job, GS_ERROR_CANCELLED, "cancelled", NULL);
    }
  else
    answer (job, GS_OK, NULL, job->payload);
  g_bytes_unref (job->payload);
  g_free (job);
  return NULL;
}

static GsCallHandle
call_begin (const GsHost *host, const GsInbound *inbound)
{
  Job one = { inbound->done, inbound->user, inbound->payload, strcmp (inbound->method_name, "Hang") == 0 };
  GsCallHandle handle;
  gs_mutex_lock (&side.lock);
  handle = ++side.next;
  side.kind = inbound->credentials->kind;
  side.timeout_us = inbound->timeout_us;
  g_free (side.peer);
  side.peer = g_strdup (inbound->peer);
  gs_mutex_unlock (&side.lock);
  if (strcmp (inbound->method_name, "Echo") == 0)
    answer (&one, GS_OK, NULL, inbound->payload);
  else if (strcmp (inbound->method_name, "Empty") == 0)
    answer (&one, GS_OK, NULL, NULL);
  else if (strcmp (inbound->method_name, "Fail") == 0)
    answer (&one, GS_ERROR_NOT_FOUND, "repository 'a': there is none", NULL);
  else
    {
      GsThread *thread = g_new0 (GsThread, 1);
      Job *job = g_memdup2 (&one, sizeof one);
      g_bytes_ref (job->payload);
      if (gs_thread_start (thread, "job", run_job, job) != 0)
        g_error ("no thread");
      gs_mutex_lock (&side.lock);
      g_ptr_array_add (side.threads, thread);
      gs_mutex_unlock (&side.lock);
    }
  return handle;
}

static void
call_cancel (const GsHost *host, GsCallHandle call)
{
  gs_mutex_lock (&side.lock);
  side.cancel = TRUE;
  gs_cond_broadcast (&side.changed);
  gs_mutex_unlock (&side.lock);
}

static gboolean
method (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  static const char *const names[] = { "Echo", "Empty", "Fail", "Later", "Hang", "Stream" };
  for (guint i = 0; i < G_N_ELEMENTS (names); i++)
    if (strcmp (name, names[i]) == 0)
      {
        ret_info->name = names[i];
        ret_info->number = 0;
        ret_info->streams_in = ret_info->streams_out = strcmp (name, "Stream") == 0;
        return TRUE;
      }
  return FALSE;
}

typedef struct
{
  FakeHost *fake;
  FakeConfig *config;
  const GsPlugin *plugin;
  const GsTransportOps *ops;
  gpointer self;
} Fixture;

static int
set_up (void **state)
{
  Fixture *f = g_new0 (Fixture, 1);
  GError *error = NULL;
  side.next = side.hanging = 0;
  side.cancel = FALSE;
  side.threads = g_ptr_array_new_with_free_func (g_free);
  gs_cond_init (&side.changed);
  f->fake = fake_host_new ("transport inner");
  f->fake->host.call_begin = call_begin;
  f->fake->host.call_cancel = call_cancel;
  f->fake->host.method = method;
  f->plugin = gs_plugin_query ();
  f->ops = f->plugin->ops;
  f->config = fake_config_new (f->plugin, NULL);
  f->self = f->plugin->create (&f->fake->host, fake_config_get (f->config), &error);
  if (f->self == NULL)
    g_error ("%s", error->message);
  *state = f;
  return 0;
}

static int
set_up_started (void **state)
{
  Fixture *f;
  set_up (state);
  f = *state;
  return f->plugin->start (f->self, NULL) ? 0 : -1;
}

static int
tear_down (void **state)
{
  Fixture *f = *state;
  f->plugin->drain (f->self);
  f->plugin->stop (f->self);
  f->plugin->destroy (f->self);
  for (guint i = 0; i < side.threads->len; i++)
    gs_thread_join (*(GsThread *) g_ptr_array_index (side.threads, i));
  g_ptr_array_unref (side.threads);
  gs_cond_clear (&side.changed);
  g_clear_pointer (&side.peer, g_free);
  fake_config_free (f->config);
  fake_host_free (f->fake);
  g_free (f);
  return 0;
}

static gboolean
call (Fixture *f, const char *name, const char *text, GBytes **ret_reply, GError **error)
{
  g_autoptr (GBytes) payload = g_bytes_new (text, strlen (text));
  return f->ops->call (f->self, name, GS_ENCODING_JSON, payload, NULL, 5000, ret_reply, error);
}

static void
expect_reply (Fixture *f, const char *name, const char *text, const char *wanted)
{
  g_autoptr (GBytes) reply = NULL;
  g_autoptr (GError) error = NULL;
  if (!call (f, name, text, &reply, &error))
    fail_msg ("%s: %s", name, error->message);
  assert_int_equal (g_bytes_get_size (reply), strlen (wanted));
  if (wanted[0] != '\0')
    assert_memory_equal (g_bytes_get_data (reply, NULL), wanted, strlen (wanted));
}

static void
expect_failure (Fixture *f, const char *name, GsErrorCode code, const char *why)
{
  GBytes *reply = (GBytes *) f; /* stays as it is */
  g_autoptr (GError) error = NULL;
  assert_false (call (f, name, "{}", &reply, &error));
  assert_ptr_equal (reply, f);
  assert_true (g_error_matches (error, GS_ERROR, (int) code));
  assert_non_null (strstr (error->message, why));
}

static void
test_calls (void **state)
{
  Fixture *f = *state;
  g_auto (GStrv) urls = f->ops->endpoints (f->self);
  GsCredentials bearer = { .size = sizeof bearer, .kind = GS_CREDENTIALS_BEARER, .secret = "x" };
  g_autoptr (GBytes) payload = g_bytes_new_static ("{}", 2);
  g_autoptr (GBytes) reply = NULL;
  assert_string_equal (urls[0], "inproc://inner");
  assert_null (urls[1]);
  expect_reply (f, "Echo", "{\"a\":1}", "{\"a\":1}");
  assert_int_equal (side.kind, GS_CREDENTIALS_NONE);
  assert_int_equal (side.timeout_us, 5000);
  assert_string_equal (side.peer, "inproc://inner");
  expect_reply (f, "Later", "{\"b\":2}", "{\"b\":2}");
  expect_reply (f, "Empty", "{}", "");
  assert_true (f->ops->call (f->self, "Echo", GS_ENCODING_PROTOBUF, payload, &bearer, 0, &reply, NULL));
  assert_int_equal (side.kind, GS_CREDENTIALS_BEARER);
}

static void
test_failures (void **state)
{
  Fixture *f = *state;
  expect_failure (f, "Fail", GS_ERROR_NOT_FOUND, "there is none");
  expect_failure (f, "No/Such", GS_ERROR_NOT_FOUND, "No/Such");
  expect_failure (f, "Stream", GS_ERROR_UNIMPLEMENTED, "stream");
}

static void
test_not_started (void **state)
{
  expect_failure (*state, "Echo", GS_ERROR_UNAVAILABLE, "not running");
}

static void
test_drained (void **state)
{
  Fixture *f = *state;
  f->plugin->drain (f->self);
  expect_failure (f, "Echo", GS_ERROR_UNAVAILABLE, "shuts down");
}

typedef struct
{
  Fixture *f;
  const char *method;
  guint times, failed;
  int code;
} Caller;

static void *
run_caller (void *user)
{
  Caller *caller = user;
  for (guint i = 0; i < caller->times; i++)
    {
      g_autoptr (GBytes) reply = NULL;
      g_autoptr (GError) error = NULL;
      if (!call (caller->f, caller->method, "{\"many\":1}", &reply, &error))
        {
          caller->failed++;
          caller->code = error->code;
        }
    }
  return NULL;
}

static void
test_many (void **state)
{
  Caller callers[8];
  GsThread threads[G_N_ELEMENTS (callers)];
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    {
      callers[i] = (Caller){ *state, i % 2 ? "Echo" : "Later", 50, 0, 0 };
      assert_int_equal (gs_thread_start (&threads[i], "caller", run_caller, &callers[i]), 0);
    }
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    {
      gs_thread_join (threads[i]);
      assert_int_equal (callers[i].failed, 0);
    }
}

/* stop cancels what is under way and comes back when every caller has left. */
static void
test_stop_busy (void **state)
{
  Fixture *f = *state;
  Caller callers[3];
  GsThread threads[G_N_ELEMENTS (callers)];
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    {
      callers[i] = (Caller){ f, "Hang", 1, 0, 0 };
      assert_int_equal (gs_thread_start (&threads[i], "caller", run_caller, &callers[i]), 0);
    }
  gs_mutex_lock (&side.lock);
  while (side.hanging < G_N_ELEMENTS (callers))
    gs_cond_wait (&side.changed, &side.lock);
  gs_mutex_unlock (&side.lock);
  f->plugin->drain (f->self);
  f->plugin->stop (f->self);
  for (guint i = 0; i < G_N_ELEMENTS (callers); i++)
    {
      gs_thread_join (threads[i]);
      assert_int_equal (callers[i].failed, 1);
      assert_int_equal (callers[i].code, GS_ERROR_CANCELLED);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_calls, set_up_started, tear_down),
    cmocka_unit_test_setup_teardown (test_failures, set_up_started, tear_down),
    cmocka_unit_test_setup_teardown (test_not_started, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_drained, set_up_started, tear_down),
    cmocka_unit_test_setup_teardown (test_many, set_up_started, tear_down),
    cmocka_unit_test_setup_teardown (test_stop_busy, set_up_started, tear_down),
  };
  return cmocka_run_group_tests_name ("inproc", tests, NULL, NULL);
}
