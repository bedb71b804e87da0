/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of events: bounds, positions, gaps that are told; readers that are slow hold nobody up. */
#include "router/events.h"

#include <gitstead/thread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define EPOCH G_GUINT64_CONSTANT (0x1122334455667788)
#define KEPT 10000
#define SHARE 8u /* streams of one caller */

/* What dispatch gives: whoever has "hidden" in his path is nobody's to read. */
gboolean
gsi_call_authorize (GsiCall *call, GsScope scope, const char *path, GError **error)
{
  return strstr (path, "hidden") == NULL;
}

static gint revoked; /* atomic: what the callers showed no longer counts */

gboolean
gsi_call_recheck (GsiCall *call, GError **error)
{
  return !g_atomic_int_get (&revoked) || gs_fail (error, GS_ERROR_UNAUTHENTICATED, "revoked");
}

static ProtobufCBinaryData end_position;
static guint8 end_bytes[16];

void
gsi_call_reply (GsiCall *call, const ProtobufCMessage *reply)
{
  end_position = ((const Gitstead__V1__EventsReply *) reply)->end->position;
  memcpy (end_bytes, end_position.data, sizeof end_bytes);
}

/* ------------------------------------------------------------------------------------------- a reader */

typedef struct
{
  GsiCall call; /* first */
  GsStream stream;
  Gitstead__V1__EventsRequest request;
  guint8 position[16];
  GsiEvents *events;
  GsiMethods *methods;
  int cancel, pipe[2];
  FILE *lines;
  GsThread thread;
  gboolean done;
  GError *error;
} Reader;

static int
cancel_fd (GsCall *call)
{
  return ((Reader *) call)->cancel;
}

static int
open_output (GsStream *stream, GError **error)
{
  Reader *reader = (Reader *) ((char *) stream - offsetof (Reader, stream));
  return reader->pipe[1];
}

static void *
run (void *user)
{
  Reader *reader = user;
  reader->done = gsi_events_stream (reader->events, reader->methods, &reader->call, &reader->error);
  return NULL;
}

/* @at: behind so many; G_MAXUINT64 = from the oldest. */
static void
reader_start_as (Reader *reader, GsiEvents *events, GsiMethods *methods, guint64 epoch, guint64 at, guint32 follow_s,
                 const GsIdentity *identity)
{
  const guint64 parts[2] = { GUINT64_TO_BE (epoch), GUINT64_TO_BE (at) };
  *reader = (Reader){ .events = events, .methods = methods, .cancel = eventfd (0, EFD_CLOEXEC) };
  assert_int_equal (pipe (reader->pipe), 0);
  memcpy (reader->position, parts, sizeof parts);
  gitstead__v1__events_request__init (&reader->request);
  reader->request.from_oldest = at == G_MAXUINT64;
  if (at != G_MAXUINT64)
    reader->request.position = (ProtobufCBinaryData){ sizeof parts, reader->position };
  reader->request.follow_s = follow_s;
  reader->stream.size = sizeof reader->stream;
  reader->stream.open_output = open_output;
  reader->call.base.size = sizeof reader->call.base;
  reader->call.base.deadline_us = g_get_monotonic_time () + 120 * G_USEC_PER_SEC;
  reader->call.base.cancel_fd = cancel_fd;
  reader->call.base.identity = identity;
  reader->call.request = &reader->request.base;
  reader->call.stream = &reader->stream;
  reader->lines = fdopen (reader->pipe[0], "r");
  assert_int_equal (gs_thread_start (&reader->thread, "reader", run, reader), 0);
}

static void
reader_start (Reader *reader, GsiEvents *events, GsiMethods *methods, guint64 epoch, guint64 at, guint32 follow_s)
{
  static const GsIdentity somebody = { sizeof somebody, "somebody", GS_SCOPE_READ, "" };
  reader_start_as (reader, events, methods, epoch, at, follow_s, &somebody);
}

static void
reader_clear (Reader *reader)
{
  g_clear_error (&reader->error);
  fclose (reader->lines);
  close (reader->cancel);
}

static void
reader_end (Reader *reader, gboolean well)
{
  gs_thread_join (reader->thread);
  assert_int_equal (reader->done, well);
  reader_clear (reader);
}

typedef struct
{
  gboolean missed, has_event;
  guint64 position, generation;
} Line;

/* FALSE at the end. */
static gboolean
read_line (Reader *reader, Line *ret_line)
{
  char *text = NULL;
  size_t size = 0;
  if (getline (&text, &size, reader->lines) <= 0)
    {
      free (text);
      return FALSE;
    }
  const char *position = strstr (text, "\"position\":\""), *generation = strstr (text, "\"generation\":");
  assert_non_null (position);
  g_autofree char *behind = g_strndup (position + 12 + 16, 16);
  *ret_line = (Line){ .missed = strstr (text, "\"missed\":true") != NULL,
                      .has_event = strstr (text, "\"event\"") != NULL,
                      .position = g_ascii_strtoull (behind, NULL, 16),
                      .generation = generation != NULL ? g_ascii_strtoull (generation + 13, NULL, 10) : 0 };
  free (text);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------------- tests */

typedef struct
{
  GsiEvents *events;
  GsiMethods *methods;
} Fixture;

static int
setup (void **state)
{
  Fixture *f = g_new0 (Fixture, 1);
  f->events = gsi_events_new (EPOCH);
  f->methods = gsi_methods_new (NULL);
  *state = f;
  return 0;
}

static int
teardown (void **state)
{
  Fixture *f = *state;
  gsi_events_free (f->events);
  gsi_methods_free (f->methods);
  g_free (f);
  return 0;
}

/* Writes at generations [from, to). */
static void
publish (Fixture *f, const char *path, guint64 from, guint64 to, const GsRefUpdate *updates, gsize n)
{
  for (guint64 i = from; i < to; i++)
    gsi_events_publish (f->events, gsi_event_of_write (updates, n, "default", path, 7, "ann", i, 1));
}

static void
test_positions (void **state)
{
  Fixture *f = *state;
  Reader reader;
  Line line;
  publish (f, "a.git", 0, 5, NULL, 0);
  publish (f, "hidden/b.git", 100, 103, NULL, 0);
  publish (f, "a.git", 5, 9, NULL, 0);
  reader_start (&reader, f->events, f->methods, EPOCH, G_MAXUINT64, 0);
  for (guint64 i = 0; i < 9; i++)
    {
      assert_true (read_line (&reader, &line));
      assert_false (line.missed);
      assert_int_equal (line.generation, i);
      assert_int_equal (line.position, i < 5 ? i + 1 : i + 4);
    }
  assert_false (read_line (&reader, &line));
  reader_end (&reader, TRUE);
  assert_int_equal (end_bytes[15], 12);
  reader_start (&reader, f->events, f->methods, EPOCH, 10, 0);
  assert_true (read_line (&reader, &line));
  assert_int_equal (line.generation, 7);
  assert_true (read_line (&reader, &line));
  assert_false (read_line (&reader, &line));
  reader_end (&reader, TRUE);
  /* One that was never given out. */
  reader_start (&reader, f->events, f->methods, EPOCH, 13, 0);
  gs_thread_join (reader.thread);
  assert_false (reader.done);
  assert_int_equal (gs_error_code (reader.error), GS_ERROR_INVALID_ARGUMENT);
  g_clear_error (&reader.error);
  fclose (reader.lines);
  close (reader.pipe[1]);
  close (reader.cancel);
}

static void
test_too_late (void **state)
{
  Fixture *f = *state;
  Reader reader;
  Line line;
  publish (f, "a.git", 0, KEPT + 50, NULL, 0);
  reader_start (&reader, f->events, f->methods, EPOCH, 3, 0);
  assert_true (read_line (&reader, &line));
  assert_true (line.missed && !line.has_event);
  assert_int_equal (line.position, 50);
  for (guint64 i = 50; i < KEPT + 50; i++)
    {
      assert_true (read_line (&reader, &line));
      assert_int_equal (line.generation, i);
      assert_false (line.missed);
    }
  assert_false (read_line (&reader, &line));
  reader_end (&reader, TRUE);
  /* Of another life. */
  reader_start (&reader, f->events, f->methods, EPOCH + 1, KEPT, 0);
  assert_true (read_line (&reader, &line));
  assert_true (line.missed);
  assert_int_equal (line.position, 50);
  while (read_line (&reader, &line))
    assert_false (line.missed);
  reader_end (&reader, TRUE);
}

/* Large ones: fewer are kept. */
static void
test_bytes_are_bounded (void **state)
{
  Fixture *f = *state;
  GsRefUpdate updates[500];
  g_autofree char *name = g_strnfill (250, 'n');
  Reader reader;
  Line line;
  guint64 n = 0;
  memset (updates, 0, sizeof updates);
  for (gsize i = 0; i < G_N_ELEMENTS (updates); i++)
    updates[i] = (GsRefUpdate){ .name = name, .old_oid = { .len = 20 }, .new_oid = { .len = 20 } };
  publish (f, "a.git", 0, 1000, updates, G_N_ELEMENTS (updates));
  reader_start (&reader, f->events, f->methods, EPOCH, G_MAXUINT64, 0);
  while (read_line (&reader, &line))
    n++;
  reader_end (&reader, TRUE);
  /* A hundred refs of each, some 33,500 bytes. */
  assert_in_range (n, 400, 520);
  assert_int_equal (line.generation, 999);
}

/* It reads nothing while more is published than is kept: nobody waits for it, and it learns what it lost. */
static void
test_too_slow (void **state)
{
  Fixture *f = *state;
  const guint64 all = 3 * KEPT;
  Reader reader;
  Line line = { FALSE };
  guint64 next = 0, gaps = 0;
  reader_start (&reader, f->events, f->methods, EPOCH, 0, 600);
  publish (f, "a.git", 0, 1, NULL, 0);
  assert_true (read_line (&reader, &line));
  publish (f, "a.git", 1, all, NULL, 0);
  for (next = 1; next < all;)
    {
      assert_true (read_line (&reader, &line));
      gaps += line.missed;
      if (line.missed)
        assert_true (line.position > next && line.position <= all - KEPT);
      if (!line.missed)
        assert_int_equal (line.generation, next);
      next = line.position;
    }
  assert_in_range (gaps, 1, 3);
  gsi_events_end_streams (f->events);
  assert_false (read_line (&reader, &line));
  reader_end (&reader, TRUE);
}

/* What happens after the revocation is not told any more, though nobody has cancelled the call yet. */
static void
test_revoked (void **state)
{
  Fixture *f = *state;
  Reader reader;
  Line line;
  reader_start (&reader, f->events, f->methods, EPOCH, 0, 600);
  publish (f, "a.git", 0, 1, NULL, 0);
  assert_true (read_line (&reader, &line));
  g_atomic_int_set (&revoked, TRUE);
  publish (f, "a.git", 1, 2, NULL, 0);
  gs_thread_join (reader.thread);
  assert_false (reader.done);
  assert_int_equal (gs_error_code (reader.error), GS_ERROR_UNAUTHENTICATED);
  assert_false (read_line (&reader, &line));
  g_atomic_int_set (&revoked, FALSE);
  reader_clear (&reader);
}

/* One caller has a share of the streams, and no more; the next one has his own. */
static void
test_share (void **state)
{
  Fixture *f = *state;
  static const GsIdentity other = { sizeof other, "other", GS_SCOPE_READ, "" };
  Reader readers[SHARE + 2];
  Line line;
  publish (f, "a.git", 0, 1, NULL, 0);
  for (gsize i = 0; i < SHARE; i++)
    {
      reader_start (&readers[i], f->events, f->methods, EPOCH, 0, 600);
      assert_true (read_line (&readers[i], &line)); /* it follows by now */
    }
  reader_start (&readers[SHARE], f->events, f->methods, EPOCH, 0, 600);
  gs_thread_join (readers[SHARE].thread);
  assert_false (readers[SHARE].done);
  assert_int_equal (gs_error_code (readers[SHARE].error), GS_ERROR_BUSY);
  assert_non_null (strstr (readers[SHARE].error->message, "“somebody” follows the events with 8 streams"));
  close (readers[SHARE].pipe[1]); /* it never came to open it */
  reader_clear (&readers[SHARE]);
  reader_start_as (&readers[SHARE + 1], f->events, f->methods, EPOCH, 0, 600, &other);
  assert_true (read_line (&readers[SHARE + 1], &line));
  gsi_events_end_streams (f->events);
  for (gsize i = 0; i < SHARE + 2; i++)
    if (i != SHARE)
      reader_end (&readers[i], TRUE);
}

static void
test_cancelled (void **state)
{
  Fixture *f = *state;
  const guint64 one = 1;
  Reader reader;
  Line line;
  reader_start (&reader, f->events, f->methods, EPOCH, 0, 600);
  publish (f, "a.git", 0, 1, NULL, 0);
  assert_true (read_line (&reader, &line));
  __atomic_store_n (&reader.call.base.cancelled, 1, __ATOMIC_RELEASE);
  assert_int_equal (write (reader.cancel, &one, sizeof one), sizeof one);
  assert_false (read_line (&reader, &line));
  reader_end (&reader, FALSE);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_positions, setup, teardown),
    cmocka_unit_test_setup_teardown (test_too_late, setup, teardown),
    cmocka_unit_test_setup_teardown (test_bytes_are_bounded, setup, teardown),
    cmocka_unit_test_setup_teardown (test_too_slow, setup, teardown),
    cmocka_unit_test_setup_teardown (test_revoked, setup, teardown),
    cmocka_unit_test_setup_teardown (test_share, setup, teardown),
    cmocka_unit_test_setup_teardown (test_cancelled, setup, teardown),
  };
  return cmocka_run_group_tests_name ("events", tests, NULL, NULL);
}
