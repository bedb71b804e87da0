/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch under threads: calls begun, repeated, cancelled and stopped at once end exactly once, writes run once. */
#include "fixture.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <wire/details.h>

#define N_THREADS 4
#define N_CALLS 1500
#define N_IDS 200

typedef struct
{
  Fixture *f;
  guint32 seed;
  GsThread thread;
  Wait *waits;
  FakeStream *streams;
  guint n_begun;
  gboolean until_refused; /* go on until the server stops */
} Caller;

static guint n_ok[N_IDS]; /* atomic: runs that succeeded, by call id */

static guint
mix (guint32 *seed)
{
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 8;
}

static void
reply_empty (GsiCall *call)
{
  g_autoptr (GsArena) arena = gs_arena_new (4096);
  ProtobufCMessage *reply = gs_arena_alloc (arena, call->method->reply->sizeof_message);
  protobuf_c_message_init (call->method->reply, reply);
  gsi_call_reply (call, reply);
}

/* Some work: at once, a little later, until cancelled; sometimes it fails in a way that may be tried again. */
static gboolean
play_chaos (Fixture *f, GsiCall *call, GError **error)
{
  static guint counter;
  guint32 seed = __atomic_add_fetch (&counter, 1, __ATOMIC_RELAXED) * 2654435761u;
  guint dice = mix (&seed) % 8, index;
  if (dice < 2)
    {
      struct pollfd fd = { call->base.cancel_fd (&call->base), POLLIN, 0 };
      poll (&fd, 1, 2);
      if (!gs_call_check (&call->base, "waiting", error))
        return FALSE;
    }
  if (dice == 2)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "not now") || gs_detail_limit (error, "patience", 1, 2);
  reply_empty (call);
  if (call->method->number == REPOSITORY_DELETE && sscanf ((const char *) call->base.id.bytes, "id-%u", &index) == 1
      && index < N_IDS)
    __atomic_add_fetch (&n_ok[index], 1, __ATOMIC_RELAXED);
  return TRUE;
}

static void
begin_one (Caller *caller, guint i, guint32 *seed)
{
  Fixture *f = caller->f;
  Wait *wait = &caller->waits[i];
  FakeStream *stream = &caller->streams[i];
  guint index = mix (seed) % N_IDS;
  guint32 method = mix (seed) % 3 == 0 ? UPLOAD_PACK : mix (seed) % 4 == 0 ? REPOSITORY_GET : REPOSITORY_DELETE;
  gint64 timeout_us = mix (seed) % 5 == 0 ? 500 : 0;
  char id[GS_TXID_SIZE], path[32];
  g_snprintf (id, sizeof id, "id-%u", index);
  g_snprintf (path, sizeof path, "group/%u", index);
  g_autoptr (GBytes) payload = fixture_request (path);
  stream_init (stream, f, mix (seed) % 2);
  fixture_begin (f, wait, method, GS_ENCODING_PROTOBUF, payload, "ann:a", id, timeout_us, &stream->base);
}

static void
meddle (Caller *caller, guint i, guint32 *seed)
{
  GsTxId id = { { 0 } };
  Wait *wait = &caller->waits[mix (seed) % (i + 1)]; /* any that we began */
  switch (mix (seed) % 6)
    {
    case 0:
      gsi_rpc_cancel (caller->f->rpc, wait->handle);
      break;
    case 1:
      g_snprintf ((char *) id.bytes, sizeof id.bytes, "id-%u", mix (seed) % N_IDS);
      gsi_rpc_cancel_by_id (caller->f->rpc, &id, "ann");
      break;
    default:
      gsi_rpc_ready (caller->f->rpc, wait->handle);
      gsi_rpc_ready (caller->f->rpc, caller->waits[i].handle);
    }
}

static void *
call_around (void *user)
{
  Caller *caller = user;
  guint32 seed = caller->seed;
  for (guint i = 0; i < N_CALLS; i++)
    {
      begin_one (caller, i, &seed);
      caller->n_begun = i + 1;
      meddle (caller, i, &seed);
      if (caller->until_refused && wait_is_over (&caller->waits[i])
          && caller->waits[i].code == GS_ERROR_UNAVAILABLE && strstr (caller->waits[i].message, "stopping") != NULL)
        break;
      if (mix (&seed) % 4 == 0)
        wait_over_quietly (&caller->waits[i]);
    }
  return NULL;
}

static void
start (Fixture *f, Caller *callers, gboolean until_refused)
{
  fixture_init (f);
  f->quiet = TRUE;
  f->n_workers = 3;
  f->queue = 256;
  f->limits.accept_timeout_us = 3000;
  f->limits.max_streams = 4;
  f->play = play_chaos;
  fixture_start (f);
  for (guint i = 0; i < N_THREADS; i++)
    {
      callers[i] = (Caller) { .f = f, .seed = 77 + i, .until_refused = until_refused };
      callers[i].waits = g_new0 (Wait, N_CALLS);
      callers[i].streams = g_new0 (FakeStream, N_CALLS);
      assert_int_equal (gs_thread_start (&callers[i].thread, "caller", call_around, &callers[i]), 0);
    }
}

static void
check_and_stop (Fixture *f, Caller *callers, guint *ret_by_code)
{
  for (guint i = 0; i < N_THREADS; i++)
    {
      for (guint k = 0; k < callers[i].n_begun; k++)
        {
          Wait *wait = &callers[i].waits[k];
          wait_over (wait);
          assert_int_equal (wait->n_done, 1);
          assert_true (wait->code <= GS_ERROR_UNAUTHENTICATED);
          ret_by_code[wait->code]++;
        }
    }
  assert_int_equal (gsi_rpc_in_flight (f->rpc), 0);
  fixture_stop (f);
  for (guint i = 0; i < N_THREADS; i++)
    {
      for (guint k = 0; k < callers[i].n_begun; k++)
        {
          assert_int_equal (callers[i].waits[k].n_done, 1);
          wait_clear (&callers[i].waits[k]);
          stream_clear (&callers[i].streams[k]);
        }
      g_free (callers[i].waits);
      g_free (callers[i].streams);
    }
}

static void
everything_at_once (void **state)
{
  Fixture f;
  Caller callers[N_THREADS];
  guint by_code[32] = { 0 }, n_once = 0;
  memset (n_ok, 0, sizeof n_ok);
  start (&f, callers, FALSE);
  for (guint i = 0; i < N_THREADS; i++)
    gs_thread_join (callers[i].thread);
  check_and_stop (&f, callers, by_code);
  for (guint i = 0; i < N_IDS; i++)
    {
      assert_true (n_ok[i] <= 1);
      n_once += n_ok[i];
    }
  /* It was no calm sea: work was done, calls were cancelled, late and turned away. */
  assert_true (n_once > N_IDS / 2);
  assert_true (by_code[GS_OK] > n_once);
  assert_true (by_code[GS_ERROR_CANCELLED] > 0);
  assert_true (by_code[GS_ERROR_DEADLINE_EXCEEDED] > 0);
  assert_int_equal (by_code[GS_ERROR_INTERNAL], 0);
  assert_int_equal (by_code[GS_ERROR_INVALID_ARGUMENT], 0);
}

static void
stopped_under_fire (void **state)
{
  Fixture f;
  Caller callers[N_THREADS];
  guint by_code[32] = { 0 };
  start (&f, callers, TRUE);
  wait_run (&f, 100);
  gsi_rpc_stop (f.rpc);
  for (guint i = 0; i < N_THREADS; i++)
    gs_thread_join (callers[i].thread);
  check_and_stop (&f, callers, by_code);
  assert_true (by_code[GS_OK] > 0);
  assert_int_equal (by_code[GS_ERROR_INTERNAL], 0);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (everything_at_once),
    cmocka_unit_test (stopped_under_fire),
  };
  return cmocka_run_group_tests_name ("rpc-threads", tests, NULL, NULL);
}
