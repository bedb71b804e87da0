/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming calls: accept, parking, the peer that comes or does not, the stream bound, repeats. */
#include "fixture.h"

#include <string.h>

static void
begin (Fixture *f, Wait *wait, guint32 method, const char *path, const char *token, const char *id, FakeStream *stream)
{
  g_autoptr (GBytes) payload = fixture_request (path);
  stream->wait = wait;
  fixture_begin (f, wait, method, GS_ENCODING_PROTOBUF, payload, token, id, 0, &stream->base);
}

static void
wait_parked (Fixture *f)
{
  /* A parked call's worker is gone: when the pool is idle, it is parked. */
  assert_true (gsi_pool_wait_idle (f->workers, g_get_monotonic_time () + 20 * G_USEC_PER_SEC));
}

static void
flows_at_once (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, TRUE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  expect_end (&wait, GS_OK, NULL);
  g_autofree char *trace = taken_trace (&f);
  assert_string_equal (trace, "authenticate authorize accept run ");
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
refused_before_accept (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, TRUE);
  begin (&f, &wait, RECEIVE_PACK, "a", "ann:r", NULL, &stream);
  expect_end (&wait, GS_ERROR_PERMISSION_DENIED, NULL);
  assert_int_equal (stream.n_accepts, 0);
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
waits_for_its_peer (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, FALSE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  wait_parked (&f);
  assert_int_equal (stream.n_accepts, 1);
  assert_false (wait_is_over (&wait));
  assert_int_equal (f.n_run, 0);
  gsi_rpc_ready (f.rpc, wait.handle);
  expect_end (&wait, GS_OK, NULL);
  assert_int_equal (f.n_run, 1);
  gsi_rpc_ready (f.rpc, wait.handle); /* over: harmless */
  fixture_stop (&f);
  stream_clear (&stream);
}

/* The peer connects while accept still runs. */
static void
ready_in_accept (FakeStream *stream)
{
  gsi_rpc_ready (stream->f->rpc, handle_of (stream->wait));
}

static void
cancel_in_accept (FakeStream *stream)
{
  gsi_rpc_cancel (stream->f->rpc, handle_of (stream->wait));
}

static void
ready_before_parked (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, FALSE);
  stream.on_accept = ready_in_accept;
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  expect_end (&wait, GS_OK, NULL);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
cancelled_in_accept (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, TRUE);
  stream.on_accept = cancel_in_accept;
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  expect_end (&wait, GS_ERROR_CANCELLED, NULL);
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
peer_never_comes (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  f.limits.accept_timeout_us = 20 * 1000;
  fixture_start (&f);
  stream_init (&stream, &f, FALSE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  expect_end (&wait, GS_ERROR_DEADLINE_EXCEEDED, "did not connect");
  gsi_rpc_ready (f.rpc, wait.handle);
  assert_int_equal (f.n_run, 0);
  assert_int_equal (gsi_rpc_in_flight (f.rpc), 0);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
parked_and_cancelled (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, FALSE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  wait_parked (&f);
  gsi_rpc_cancel (f.rpc, wait.handle);
  assert_true (wait_is_over (&wait));
  expect_end (&wait, GS_ERROR_CANCELLED, NULL);
  assert_int_equal (f.n_run, 0);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
running_and_cancelled (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  f.play = play_until_cancelled;
  fixture_start (&f);
  stream_init (&stream, &f, TRUE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  wait_run (&f, 1);
  gsi_rpc_cancel (f.rpc, wait.handle);
  expect_end (&wait, GS_ERROR_CANCELLED, NULL);
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
bound_streams (void **state)
{
  Fixture f;
  Wait waits[2], refused, unary;
  FakeStream streams[3];
  fixture_init (&f);
  f.limits.max_streams = 2;
  f.n_stream_threads = 2;
  f.play = play_gate;
  fixture_start (&f);
  for (int i = 0; i < 3; i++)
    stream_init (&streams[i], &f, i != 1);
  begin (&f, &waits[0], UPLOAD_PACK, "a", "ann:r", NULL, &streams[0]);
  wait_at_gate (&f, 1);
  begin (&f, &waits[1], UPLOAD_PACK, "b", "ann:r", NULL, &streams[1]); /* parked: it has a place, too */
  wait_parked (&f);
  begin (&f, &refused, UPLOAD_PACK, "c", "ann:r", NULL, &streams[2]);
  expect_limit (&refused, "server.streams", 2, 2);
  expect_end (&refused, GS_ERROR_BUSY, "2 streams are under way");
  assert_int_equal (streams[2].n_accepts, 0);
  open_gate (&f);
  fixture_call (&f, &unary, REPOSITORY_GET, "c", "ann:r", NULL); /* has its own threads */
  expect_end (&unary, GS_OK, NULL);
  gsi_rpc_ready (f.rpc, waits[1].handle);
  expect_end (&waits[0], GS_OK, NULL);
  expect_end (&waits[1], GS_OK, NULL);
  begin (&f, &refused, UPLOAD_PACK, "c", "ann:r", NULL, &streams[2]);
  expect_end (&refused, GS_OK, NULL);
  fixture_stop (&f);
  for (int i = 0; i < 3; i++)
    stream_clear (&streams[i]);
}

static void
bound_threads (void **state)
{
  Fixture f;
  Wait first, refused;
  FakeStream streams[2];
  fixture_init (&f);
  f.n_stream_threads = 1;
  f.stream_queue = 0;
  f.play = play_gate;
  fixture_start (&f);
  stream_init (&streams[0], &f, TRUE);
  stream_init (&streams[1], &f, TRUE);
  begin (&f, &first, UPLOAD_PACK, "a", "ann:r", NULL, &streams[0]);
  wait_at_gate (&f, 1);
  begin (&f, &refused, UPLOAD_PACK, "b", "ann:r", NULL, &streams[1]);
  expect_end (&refused, GS_ERROR_BUSY, "Git/UploadPack");
  assert_int_equal (f.n_run, 1);
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  fixture_stop (&f);
  stream_clear (&streams[0]);
  stream_clear (&streams[1]);
}

static void
repeated_push (void **state)
{
  Fixture f;
  Wait first, again;
  FakeStream streams[2];
  fixture_init (&f);
  f.play = play_gate;
  fixture_start (&f);
  stream_init (&streams[0], &f, TRUE);
  stream_init (&streams[1], &f, TRUE);
  begin (&f, &first, RECEIVE_PACK, "a", "ann:w", "push-1", &streams[0]);
  wait_at_gate (&f, 1);
  begin (&f, &again, RECEIVE_PACK, "a", "ann:w", "push-1", &streams[1]);
  expect_end (&again, GS_ERROR_BUSY, "still under way");
  open_gate (&f);
  expect_end (&first, GS_OK, NULL);
  begin (&f, &again, RECEIVE_PACK, "a", "ann:w", "push-1", &streams[1]);
  expect_end (&again, GS_ERROR_ALREADY_EXISTS, "succeeded before");
  assert_int_equal (streams[1].n_accepts, 0);
  assert_int_equal (f.n_run, 1);
  fixture_stop (&f);
  stream_clear (&streams[0]);
  stream_clear (&streams[1]);
}

static void
stopped_while_parked (void **state)
{
  Fixture f;
  Wait wait;
  FakeStream stream;
  fixture_init (&f);
  fixture_start (&f);
  stream_init (&stream, &f, FALSE);
  begin (&f, &wait, UPLOAD_PACK, "a", "ann:r", NULL, &stream);
  wait_parked (&f);
  gsi_rpc_stop (f.rpc);
  assert_true (wait_is_over (&wait));
  expect_end (&wait, GS_ERROR_UNAVAILABLE, "stopping");
  fixture_stop (&f);
  stream_clear (&stream);
}

static void
doubt (Fixture *f, const char *name, GsErrorCode code)
{
  gs_mutex_lock (&f->lock);
  f->doubted = name;
  f->doubt = code;
  gs_mutex_unlock (&f->lock);
  gsi_rpc_recheck (f->rpc);
}

/* The token of one is revoked while both have streams, one of them still without its peer. */
static void
revoked_under_way (void **state)
{
  Fixture f;
  Wait running, parked, other, unary;
  FakeStream streams[3];
  fixture_init (&f);
  f.play = play_gate_heeding;
  fixture_start (&f);
  for (int i = 0; i < 3; i++)
    stream_init (&streams[i], &f, i != 1);
  begin (&f, &running, UPLOAD_PACK, "a", "ann:r", NULL, &streams[0]);
  wait_at_gate (&f, 1);
  begin (&f, &other, UPLOAD_PACK, "a", "bob:r", NULL, &streams[2]);
  wait_at_gate (&f, 2);
  begin (&f, &parked, UPLOAD_PACK, "a", "ann:r", NULL, &streams[1]);
  wait_parked (&f);
  fixture_call (&f, &unary, REPOSITORY_GET, "a", "ann:r", NULL);
  wait_at_gate (&f, 3);
  /* Who cannot be told from the others now goes on. */
  doubt (&f, "ann", GS_ERROR_UNAVAILABLE);
  doubt (&f, "ann", GS_ERROR_DEADLINE_EXCEEDED);
  assert_false (wait_is_over (&running) || wait_is_over (&parked) || wait_is_over (&unary));
  doubt (&f, "ann", GS_ERROR_UNAUTHENTICATED);
  expect_end (&parked, GS_ERROR_UNAUTHENTICATED, "revoked or have expired");
  open_gate (&f); /* they see it there */
  expect_end (&running, GS_ERROR_UNAUTHENTICATED, "revoked or have expired");
  expect_end (&unary, GS_ERROR_UNAUTHENTICATED, "revoked or have expired");
  expect_end (&other, GS_OK, NULL);
  gsi_rpc_recheck (f.rpc); /* nothing is under way */
  fixture_stop (&f);
  for (int i = 0; i < 3; i++)
    stream_clear (&streams[i]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (flows_at_once),        cmocka_unit_test (refused_before_accept),
    cmocka_unit_test (waits_for_its_peer),   cmocka_unit_test (ready_before_parked),
    cmocka_unit_test (cancelled_in_accept),  cmocka_unit_test (peer_never_comes),
    cmocka_unit_test (parked_and_cancelled), cmocka_unit_test (running_and_cancelled),
    cmocka_unit_test (bound_streams),        cmocka_unit_test (bound_threads),
    cmocka_unit_test (repeated_push),        cmocka_unit_test (stopped_while_parked),
    cmocka_unit_test (revoked_under_way),
  };
  return cmocka_run_group_tests_name ("rpc-streams", tests, NULL, NULL);
}
