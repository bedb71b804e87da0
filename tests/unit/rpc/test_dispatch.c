/* SPDX-License-Identifier: Apache-2.0 */
/* Unary calls through dispatch: the order of checks, every bound, deadlines, cancelling, at-most-once. */
#include "fixture.h"

#include <string.h>
#include <unistd.h>

static void
trace_is (Fixture *f, const char *want)
{
  g_autofree char *trace = taken_trace (f);
  assert_string_equal (trace, want);
}

/* ------------------------------------------------------------------------------------------- the order */

static void
carries_out (void **state)
{
  Fixture f;
  Wait wait;
  fixture_init (&f);
  fixture_start (&f);
  fixture_call (&f, &wait, REPOSITORY_GET, "group/project", "ann:r", NULL);
  expect_end (&wait, GS_OK, NULL);
  trace_is (&f, "authenticate authorize run ");
  assert_string_equal (f.last_path, "group/project.git");
  assert_string_equal (f.last_storage, "");
  assert_int_equal (f.last_scope, GS_SCOPE_READ);
  assert_int_equal (gsi_rpc_in_flight (f.rpc), 0);
  assert_true (counted (&f, "gitstead_calls_total", "method=\"Repository/Get\",code=\"OK\"") == 1);
  fixture_stop (&f);
}

static void
first_failure_ends_it (void **state)
{
  static const guint8 garbage[] = { 0x0a, 0x7f };
  Fixture f;
  Wait wait;
  fixture_init (&f);
  f.limits.max_message_bytes = 64;
  fixture_start (&f);
  g_autoptr (GBytes) bad = g_bytes_new_static (garbage, sizeof garbage);
  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (65), 65);

  fixture_begin (&f, &wait, 9999, GS_ENCODING_PROTOBUF, NULL, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_UNIMPLEMENTED, "number 9999");
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, large, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_OUT_OF_RANGE, "65 bytes, the limit is 64");
  fixture_begin (&f, &wait, UPLOAD_PACK, GS_ENCODING_PROTOBUF, NULL, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "no stream");
  fixture_begin (&f, &wait, REPOSITORY_GET, (GsEncoding) 7, NULL, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "encoding 7");
  trace_is (&f, "");

  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, bad, NULL, NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_UNAUTHENTICATED, "missing or wrong");
  trace_is (&f, "authenticate ");
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, bad, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "Repository/Get: RepositoryGetRequest");
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, NULL, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "the field repository is missing");
  fixture_call (&f, &wait, REPOSITORY_GET, "../etc/passwd", "ann:r", NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "Repository/Get: repository path: at byte 0");
  trace_is (&f, "authenticate authenticate authenticate ");
  fixture_call (&f, &wait, REPOSITORY_GET, "other/x", "ann:r:team/", NULL);
  expect_end (&wait, GS_ERROR_PERMISSION_DENIED, "ann may not");
  fixture_call (&f, &wait, REPOSITORY_DELETE, "team/x", "ann:w:team/", NULL);
  expect_end (&wait, GS_ERROR_PERMISSION_DENIED, "ann may not");
  trace_is (&f, "authenticate authorize authenticate authorize ");
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
}

static void
names_and_storages (void **state)
{
  static const char good[] = "{\"repository\": {\"path\": \"a\", \"virtual_storage\": \"main-1\"}}";
  static const char bad[] = "{\"repository\": {\"path\": \"a\", \"virtual_storage\": \"a/b\"}}";
  Fixture f;
  Wait wait;
  GsMethodInfo info;
  fixture_init (&f);
  fixture_start (&f);
  g_autoptr (GBytes) json = g_bytes_new_static (good, strlen (good));
  fixture_begin (&f, &wait, REPOSITORY_EXISTS, GS_ENCODING_JSON, json, "ann:r", NULL, 0, NULL);
  wait_over (&wait);
  assert_int_equal (wait.code, GS_OK);
  assert_memory_equal (g_bytes_get_data (wait.payload, NULL), "{\"exists\":false}", 16);
  expect_end (&wait, GS_OK, NULL);
  assert_string_equal (f.last_storage, "main-1");
  g_autoptr (GBytes) json_bad = g_bytes_new_static (bad, strlen (bad));
  fixture_begin (&f, &wait, REPOSITORY_EXISTS, GS_ENCODING_JSON, json_bad, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_INVALID_ARGUMENT, "virtual storage: a name has letters");

  assert_true (gsi_rpc_method_info (f.rpc, 0, "Git/ReceivePack", &info));
  assert_int_equal (info.number, RECEIVE_PACK);
  assert_true (info.streams_in && info.streams_out);
  assert_true (gsi_rpc_method_info (f.rpc, PING, NULL, &info));
  assert_string_equal (info.name, "Server/Ping");
  assert_false (gsi_rpc_method_info (f.rpc, 0, "Git/Nothing", &info));
  assert_false (gsi_rpc_method_info (f.rpc, 0, NULL, &info));
  fixture_stop (&f);
}

static void
anybody_may_ping (void **state)
{
  Fixture f;
  Wait wait;
  fixture_init (&f);
  fixture_start (&f);
  fixture_call (&f, &wait, PING, NULL, NULL, NULL);
  expect_end (&wait, GS_OK, NULL);
  trace_is (&f, "run ");
  /* A list is filtered by its handler: a caller with a prefix may ask. */
  fixture_call (&f, &wait, REPOSITORY_LIST, NULL, "ann:r:team/", NULL);
  expect_end (&wait, GS_OK, NULL);
  trace_is (&f, "authenticate run ");
  assert_true (gsi_rpc_wait_idle (f.rpc, g_get_monotonic_time () + 20 * G_USEC_PER_SEC));
  gsi_rpc_set_access (f.rpc, NULL, NULL);
  fixture_call (&f, &wait, REPOSITORY_GET, "a", "ann:a", NULL);
  expect_end (&wait, GS_ERROR_UNAUTHENTICATED, "no access plugin");
  fixture_stop (&f);
}

/* ---------------------------------------------------------------------------------------------- the bounds */

static void
bound_in_flight (void **state)
{
  Fixture f;
  Wait first, second, third;
  fixture_init (&f);
  f.limits.max_in_flight = 2;
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_GET, "a", "ann:r", NULL);
  fixture_call (&f, &second, REPOSITORY_GET, "b", "ann:r", NULL);
  wait_at_gate (&f, 2);
  fixture_call (&f, &third, REPOSITORY_GET, "c", "ann:r", NULL);
  assert_true (wait_is_over (&third)); /* at once, on our thread */
  assert_true (third.retry_after_us > 0);
  expect_limit (&third, "server.max_in_flight", 2, 2);
  expect_end (&third, GS_ERROR_BUSY, "2 calls are under way");
  assert_int_equal (f.n_run, 2);
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  expect_end (&second, GS_OK, NULL);
  fixture_call (&f, &third, REPOSITORY_GET, "c", "ann:r", NULL);
  expect_end (&third, GS_OK, NULL);
  fixture_stop (&f);
}

static void
bound_queue (void **state)
{
  Fixture f;
  Wait running, queued, refused;
  fixture_init (&f);
  f.n_workers = 1;
  f.queue = 1;
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &running, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_at_gate (&f, 1);
  fixture_call (&f, &queued, REPOSITORY_GET, "b", "ann:r", NULL);
  fixture_call (&f, &refused, REPOSITORY_GET, "c", "ann:r", NULL);
  expect_end (&refused, GS_ERROR_BUSY, "Repository/Get: ");
  assert_false (wait_is_over (&queued));
  assert_int_equal (gsi_rpc_in_flight (f.rpc), 2);
  open_gate (&f);
  expect_end (&running, GS_OK, NULL);
  expect_end (&queued, GS_OK, NULL);
  assert_int_equal (f.n_run, 2);
  fixture_stop (&f);
}

static void
bound_repository (void **state)
{
  Fixture f;
  Wait first, second, other;
  fixture_init (&f);
  f.n_workers = 3;
  f.limits.max_in_flight_per_repository = 1;
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_at_gate (&f, 1);
  fixture_call (&f, &second, REPOSITORY_GET, "a.git", "bob:r", NULL); /* the same one, by its other name */
  expect_limit (&second, "server.max_per_repository", 1, 1);
  expect_end (&second, GS_ERROR_BUSY, "1 calls on a.git");
  fixture_call (&f, &other, REPOSITORY_GET, "b", "ann:r", NULL);
  wait_at_gate (&f, 2);
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  expect_end (&other, GS_OK, NULL);
  fixture_call (&f, &second, REPOSITORY_GET, "a", "bob:r", NULL);
  expect_end (&second, GS_OK, NULL);
  assert_int_equal (f.n_run, 3);
  fixture_stop (&f);
}

static void
bound_memory (void **state)
{
  gsize n = 100 * 1024;
  guint8 *bomb = g_malloc (n);
  Fixture f;
  Wait wait;
  for (gsize i = 0; i < n; i += 2)
    {
      bomb[i] = 0x12; /* an empty RefUpdate */
      bomb[i + 1] = 0;
    }
  g_autoptr (GBytes) bytes = g_bytes_new_take (bomb, n);
  fixture_init (&f);
  f.limits.decode_bytes = 1024 * 1024;
  fixture_start (&f);
  fixture_begin (&f, &wait, REF_UPDATE, GS_ENCODING_PROTOBUF, bytes, "ann:w", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_OUT_OF_RANGE, "more memory");
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
}

static gboolean
play_large_reply (Fixture *f, GsiCall *call, GError **error)
{
  Gitstead__V1__PingReply reply = GITSTEAD__V1__PING_REPLY__INIT;
  guint8 echo[200] = { 0 };
  reply.echo.data = echo;
  reply.echo.len = sizeof echo;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static void
bound_reply (void **state)
{
  Fixture f;
  Wait wait;
  fixture_init (&f);
  f.limits.max_reply_bytes = 100;
  f.play = play_large_reply;
  fixture_start (&f);
  fixture_call (&f, &wait, PING, NULL, NULL, NULL);
  expect_limit (&wait, "reply", 100, 203);
  expect_end (&wait, GS_ERROR_OUT_OF_RANGE, "203 bytes, the limit is 100");
  fixture_stop (&f);
}

/* ------------------------------------------------------------------------------------------ bad handlers */

static gboolean
play_no_reply (Fixture *f, GsiCall *call, GError **error)
{
  return TRUE;
}

static gboolean
play_no_reason (Fixture *f, GsiCall *call, GError **error)
{
  return FALSE;
}

static gboolean
play_wrong_reply (Fixture *f, GsiCall *call, GError **error)
{
  Gitstead__V1__PingReply reply = GITSTEAD__V1__PING_REPLY__INIT;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

static gboolean
play_foreign_error (Fixture *f, GsiCall *call, GError **error)
{
  g_set_error (error, G_CONVERT_ERROR, 1, "bad \xff bytes");
  return FALSE;
}

static void
careless_handlers (void **state)
{
  Fixture f;
  Wait wait;
  fixture_init (&f);
  fixture_start (&f);
  f.play = play_no_reply;
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", NULL);
  expect_end (&wait, GS_OK, NULL); /* its reply is empty anyway */
  fixture_call (&f, &wait, REPOSITORY_GET, "a", "ann:r", NULL);
  expect_end (&wait, GS_ERROR_INTERNAL, "no reply to give");
  f.play = play_no_reason;
  fixture_call (&f, &wait, REPOSITORY_GET, "a", "ann:r", NULL);
  expect_end (&wait, GS_ERROR_INTERNAL, "without saying why");
  f.play = play_wrong_reply;
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", NULL);
  expect_end (&wait, GS_ERROR_INTERNAL, "no reply to give");
  f.play = play_foreign_error;
  fixture_call (&f, &wait, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_over (&wait);
  assert_true (g_utf8_validate (wait.message, -1, NULL));
  expect_end (&wait, GS_ERROR_INTERNAL, "bytes");
  fixture_stop (&f);
}

/* ----------------------------------------------------------------------------------- cancel and deadline */

static void
cancelled (void **state)
{
  Fixture f;
  Wait running, queued;
  fixture_init (&f);
  f.n_workers = 1;
  f.play = play_until_cancelled;
  fixture_start (&f);
  fixture_call (&f, &running, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_run (&f, 1);
  fixture_call (&f, &queued, REPOSITORY_GET, "b", "ann:r", NULL);
  gsi_rpc_cancel (f.rpc, queued.handle);
  assert_true (wait_is_over (&queued)); /* nobody had begun it */
  expect_end (&queued, GS_ERROR_CANCELLED, "went away");
  gsi_rpc_cancel (f.rpc, running.handle);
  expect_end (&running, GS_ERROR_CANCELLED, "went away");
  assert_int_equal (f.n_run, 1);
  gsi_rpc_cancel (f.rpc, running.handle); /* over: harmless */
  gsi_rpc_cancel (f.rpc, 12345678);
  fixture_stop (&f);
}

static Wait *checked;

static void
cancel_checked (Fixture *f)
{
  gsi_rpc_cancel (f->rpc, handle_of (checked));
}

static void
cancelled_in_checks (void **state)
{
  static const guint32 numbers[] = { REPOSITORY_GET, REPOSITORY_DELETE };
  Fixture f;
  Wait wait;
  fixture_init (&f);
  f.on_authorize = cancel_checked;
  fixture_start (&f);
  for (gsize i = 0; i < G_N_ELEMENTS (numbers); i++)
    {
      memset (&wait, 0, sizeof wait);
      wait.f = &f;
      checked = &wait;
      fixture_call (&f, &wait, numbers[i], "a", "ann:a", "call-1");
      expect_end (&wait, GS_ERROR_CANCELLED, "went away");
    }
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
}

/* It must not lie down beside a call that still runs: nobody would cancel it a second time. */
static void
cancelled_before_joining (void **state)
{
  Fixture f;
  Wait first, wait = { .f = &f };
  fixture_init (&f);
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_at_gate (&f, 1);
  checked = &wait;
  f.on_authorize = cancel_checked;
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  expect_end (&wait, GS_ERROR_CANCELLED, "went away");
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  fixture_stop (&f);
}

static void
deadlines (void **state)
{
  Fixture f;
  Wait running, queued;
  g_autoptr (GBytes) payload = fixture_request ("a");
  fixture_init (&f);
  f.n_workers = 1;
  f.play = play_until_cancelled;
  fixture_start (&f);
  fixture_begin (&f, &running, REPOSITORY_GET, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 800 * 1000, NULL);
  wait_run (&f, 1);
  fixture_begin (&f, &queued, REPOSITORY_GET, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 1000, NULL);
  expect_end (&queued, GS_ERROR_DEADLINE_EXCEEDED, "0.001 seconds");
  expect_end (&running, GS_ERROR_DEADLINE_EXCEEDED, "0.8 seconds");
  assert_int_equal (f.n_run, 1);
  fixture_stop (&f);
}

static gboolean
play_tell_deadline (Fixture *f, GsiCall *call, GError **error)
{
  return gs_fail (error, GS_ERROR_NOT_FOUND, "%d", (int) ((call->base.deadline_us - g_get_monotonic_time ()) / 1000000 + 1));
}

static void
deadline_defaults_and_caps (void **state)
{
  Fixture f;
  Wait wait;
  g_autoptr (GBytes) payload = fixture_request ("a");
  fixture_init (&f);
  f.limits.default_timeout_us = 30 * G_USEC_PER_SEC;
  f.limits.max_timeout_us = 50 * G_USEC_PER_SEC;
  f.play = play_tell_deadline;
  fixture_start (&f);
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_NOT_FOUND, "30");
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, G_MAXINT64, NULL);
  expect_end (&wait, GS_ERROR_NOT_FOUND, "50");
  fixture_begin (&f, &wait, REPOSITORY_GET, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 7 * G_USEC_PER_SEC, NULL);
  expect_end (&wait, GS_ERROR_NOT_FOUND, "7");
  fixture_begin (&f, &wait, 106, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 0, NULL);
  expect_end (&wait, GS_ERROR_NOT_FOUND, "60"); /* Repository/Size names its own */
  fixture_begin (&f, &wait, 106, GS_ENCODING_PROTOBUF, payload, "ann:r", NULL, 90 * G_USEC_PER_SEC, NULL);
  expect_end (&wait, GS_ERROR_NOT_FOUND, "60");
  fixture_stop (&f);
}

static void
cancel_by_id (void **state)
{
  Fixture f;
  Wait wait;
  GsTxId id = { "call-1" }, other = { "call-2" };
  fixture_init (&f);
  f.play = play_until_cancelled;
  fixture_start (&f);
  fixture_call (&f, &wait, REPOSITORY_GET, "a", "ann:r", "call-1");
  wait_run (&f, 1);
  assert_false (gsi_rpc_cancel_by_id (f.rpc, &id, "bob")); /* not his */
  assert_false (gsi_rpc_cancel_by_id (f.rpc, &other, "ann"));
  assert_false (wait_is_over (&wait));
  assert_true (gsi_rpc_cancel_by_id (f.rpc, &id, "ann"));
  expect_end (&wait, GS_ERROR_CANCELLED, NULL);
  assert_false (gsi_rpc_cancel_by_id (f.rpc, &id, "ann"));
  fixture_stop (&f);
}

static void
drain_and_stop (void **state)
{
  Fixture f;
  Wait running, late;
  fixture_init (&f);
  f.play = play_until_cancelled;
  fixture_start (&f);
  fixture_call (&f, &running, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_run (&f, 1);
  gsi_rpc_drain (f.rpc);
  fixture_call (&f, &late, REPOSITORY_GET, "a", "ann:r", NULL);
  expect_end (&late, GS_ERROR_UNAVAILABLE, "stopping");
  assert_false (gsi_rpc_wait_idle (f.rpc, g_get_monotonic_time () + 1000));
  assert_false (wait_is_over (&running));
  gsi_rpc_stop (f.rpc);
  assert_true (wait_is_over (&running));
  expect_end (&running, GS_ERROR_UNAVAILABLE, "stopping");
  fixture_stop (&f);
}

/* ------------------------------------------------------------------------------------------ at most once */

static void
same_call_twice (void **state)
{
  Fixture f;
  Wait first, again, joined;
  fixture_init (&f);
  f.n_workers = 3;
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_at_gate (&f, 1);
  fixture_call (&f, &joined, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  fixture_call (&f, &again, REPOSITORY_DELETE, "b", "ann:a", "call-1");
  expect_end (&again, GS_ERROR_INVALID_ARGUMENT, "this call id was used");
  fixture_call (&f, &again, REPOSITORY_GET, "a", "ann:a", "call-1"); /* an accessor has no use for it */
  wait_at_gate (&f, 2);
  wait_counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\"", 1);
  open_gate (&f);
  expect_end (&again, GS_OK, NULL);
  expect_end (&first, GS_OK, NULL);
  expect_end (&joined, GS_OK, NULL);
  fixture_call (&f, &again, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  expect_end (&again, GS_OK, NULL); /* as kept */
  assert_int_equal (f.n_run, 2);
  fixture_call (&f, &again, REPOSITORY_DELETE, "a", "bob:a", "call-1"); /* another caller's id */
  expect_end (&again, GS_OK, NULL);
  assert_int_equal (f.n_run, 3);
  fixture_call (&f, &again, REPOSITORY_DELETE, "a", "ann:a", NULL); /* no id: every arrival counts */
  expect_end (&again, GS_OK, NULL);
  assert_int_equal (f.n_run, 4);
  assert_true (counted (&f, "gitstead_call_duplicates_total", "answer=\"kept\"") == 1);
  assert_true (counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\"") == 1);
  fixture_stop (&f);
}

static gboolean
play_unavailable_once (Fixture *f, GsiCall *call, GError **error)
{
  guint n_run;
  gs_mutex_lock (&f->lock);
  n_run = f->n_run;
  gs_mutex_unlock (&f->lock);
  if (n_run == 1)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "not now");
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "stale, run %u", n_run);
}

static void
failures_kept_or_not (void **state)
{
  Fixture f;
  Wait wait;
  fixture_init (&f);
  f.play = play_unavailable_once;
  fixture_start (&f);
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  expect_end (&wait, GS_ERROR_UNAVAILABLE, "not now");
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", "call-1"); /* "retry: same" runs again */
  expect_end (&wait, GS_ERROR_FAILED_PRECONDITION, "run 2");
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", "call-1"); /* and this one is final */
  expect_end (&wait, GS_ERROR_FAILED_PRECONDITION, "run 2");
  assert_int_equal (f.n_run, 2);
  fixture_stop (&f);
}

static void
joined_ends_alone (void **state)
{
  Fixture f;
  Wait first, joined, late;
  double n_joined;
  g_autoptr (GBytes) payload = fixture_request ("a");
  fixture_init (&f);
  f.n_workers = 3;
  f.play = play_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_at_gate (&f, 1);
  fixture_begin (&f, &joined, REPOSITORY_DELETE, GS_ENCODING_PROTOBUF, payload, "ann:a", "call-1", 20 * 1000, NULL);
  expect_end (&joined, GS_ERROR_DEADLINE_EXCEEDED, NULL);
  n_joined = counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\""); /* or it was too late even for that */
  fixture_call (&f, &late, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\"", n_joined + 1);
  gsi_rpc_cancel (f.rpc, late.handle);
  expect_end (&late, GS_ERROR_CANCELLED, NULL);
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  assert_int_equal (f.n_run, 1);
  fixture_stop (&f);
}

static gboolean
play_first_at_gate (Fixture *f, GsiCall *call, GError **error)
{
  guint n_run;
  gs_mutex_lock (&f->lock);
  n_run = f->n_run;
  gs_mutex_unlock (&f->lock);
  return n_run == 1 ? play_gate_heeding (f, call, error) : TRUE;
}

static void
heir_runs_it (void **state)
{
  Fixture f;
  Wait first, heir, third;
  fixture_init (&f);
  f.n_workers = 3;
  f.play = play_first_at_gate;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_at_gate (&f, 1);
  gsi_rpc_cancel (f.rpc, first.handle); /* nobody has joined yet, so it is told to stop */
  fixture_call (&f, &heir, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  fixture_call (&f, &third, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\"", 2);
  open_gate (&f);
  expect_end (&first, GS_ERROR_CANCELLED, NULL);
  /* The others still want the work done. */
  expect_end (&heir, GS_OK, NULL);
  expect_end (&third, GS_OK, NULL);
  assert_int_equal (f.n_run, 2);
  fixture_stop (&f);
}

static void
work_goes_on_for_joined (void **state)
{
  Fixture f;
  Wait first, joined;
  fixture_init (&f);
  f.n_workers = 3;
  f.play = play_gate_heeding;
  fixture_start (&f);
  fixture_call (&f, &first, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_at_gate (&f, 1);
  fixture_call (&f, &joined, REPOSITORY_DELETE, "a", "ann:a", "call-1");
  wait_counted (&f, "gitstead_call_duplicates_total", "answer=\"joined\"", 1);
  gsi_rpc_cancel (f.rpc, first.handle); /* its connection broke; the client came again on another */
  open_gate (&f);
  expect_end (&joined, GS_OK, NULL);
  expect_end (&first, GS_OK, NULL);
  assert_int_equal (f.n_run, 1);
  fixture_stop (&f);
}

/* -------------------------------------------------------------------------------------------------- logs */

static void
logs_without_secrets (void **state)
{
  Fixture f;
  Wait wait;
  char text[65536];
  ssize_t n;
  fixture_init (&f);
  fixture_start (&f);
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a:s3cr3t", "call-1");
  expect_end (&wait, GS_ERROR_PERMISSION_DENIED, NULL);
  fixture_call (&f, &wait, REPOSITORY_DELETE, "a", "ann:a", "call-2");
  expect_end (&wait, GS_OK, NULL);
  assert_true (gsi_rpc_wait_idle (f.rpc, g_get_monotonic_time () + 20 * G_USEC_PER_SEC));
  n = pread (f.log_fd, text, sizeof text - 1, 0);
  assert_true (n > 0);
  text[n] = '\0';
  assert_non_null (strstr (text, "call.done"));
  assert_non_null (strstr (text, "Repository/Delete"));
  assert_non_null (strstr (text, "a.git"));
  assert_non_null (strstr (text, "\"ann\""));
  assert_non_null (strstr (text, "63616c6c2d3200000000000000000000")); /* "call-2" */
  assert_null (strstr (text, "s3cr3t"));
  fixture_stop (&f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (carries_out),
    cmocka_unit_test (first_failure_ends_it),
    cmocka_unit_test (names_and_storages),
    cmocka_unit_test (anybody_may_ping),
    cmocka_unit_test (bound_in_flight),
    cmocka_unit_test (bound_queue),
    cmocka_unit_test (bound_repository),
    cmocka_unit_test (bound_memory),
    cmocka_unit_test (bound_reply),
    cmocka_unit_test (careless_handlers),
    cmocka_unit_test (cancelled),
    cmocka_unit_test (cancelled_in_checks),
    cmocka_unit_test (cancelled_before_joining),
    cmocka_unit_test (deadlines),
    cmocka_unit_test (deadline_defaults_and_caps),
    cmocka_unit_test (cancel_by_id),
    cmocka_unit_test (drain_and_stop),
    cmocka_unit_test (same_call_twice),
    cmocka_unit_test (failures_kept_or_not),
    cmocka_unit_test (joined_ends_alone),
    cmocka_unit_test (heir_runs_it),
    cmocka_unit_test (work_goes_on_for_joined),
    cmocka_unit_test (logs_without_secrets),
  };
  return cmocka_run_group_tests_name ("rpc-dispatch", tests, NULL, NULL);
}
