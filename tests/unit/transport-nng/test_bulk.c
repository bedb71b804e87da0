/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk streams from the wire's side: tickets, frames, and clients that go, stall or break the rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "nngserver.h"
#include "peer.h"

#define SOON_MS 10000

static NgServer *
start (const char *key, const char *value)
{
  g_autoptr (GError) error = NULL;
  NgServer *server = ng_server_new (&error, "listen", "tcp://127.0.0.1:0", key, value, NULL);
  if (server == NULL)
    g_error ("start: %s", error->message);
  return server;
}

/* Begins @method; its status. @ret_url *full*. */
static guint32
get_ticket (NgServer *server, guint32 method, const char *payload, char **ret_url, guint8 ret_ticket[16])
{
  int fd = bare_greet (server->urls[0]);
  GsTxId id;
  Reply reply;
  guint32 number, status;
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (method, &id, NULL, payload, strlen (payload));
  assert_true (bare_send (fd, FALSE, 1, envelope));
  assert_true (bare_receive (fd, FALSE, &number, &reply));
  status = reply.status;
  if (status == 0)
    {
      Gitstead__V1__StreamTicket *ticket = gitstead__v1__stream_ticket__unpack (NULL, reply.payload_len, reply.payload);
      assert_non_null (ticket);
      assert_true (g_str_has_prefix (ticket->endpoint, "tcp://:"));
      assert_int_equal (ticket->ticket.len, 16);
      *ret_url = g_strdup (ticket->endpoint);
      memcpy (ret_ticket, ticket->ticket.data, 16);
      gitstead__v1__stream_ticket__free_unpacked (ticket, NULL);
    }
  reply_clear (&reply);
  close (fd); /* the stream lives on without it */
  return status;
}

/* Shows a ticket; the server's answer. */
static guint32
show_ticket (int fd, const guint8 ticket[16])
{
  guint8 hello[GS_STREAM_HELLO_SIZE], answer[GS_STREAM_ANSWER_SIZE];
  guint32 status;
  gs_stream_hello_write (hello, ticket);
  assert_true (bare_write (fd, hello, sizeof hello));
  assert_true (bare_read (fd, answer, sizeof answer));
  assert_true (gs_stream_answer_parse (answer, &status));
  return status;
}

static int
open_stream (NgServer *server, guint32 method, const char *payload)
{
  g_autofree char *url = NULL;
  guint8 ticket[16];
  int fd;
  assert_int_equal (get_ticket (server, method, payload, &url, ticket), 0);
  fd = bare_connect (url);
  assert_int_equal (show_ticket (fd, ticket), 0);
  return fd;
}

static void
send_frame (int fd, guint8 type, const void *bytes, guint32 len)
{
  guint8 header[GS_CHUNK_HEADER_SIZE];
  gs_chunk_write (header, type, len);
  assert_true (bare_write (fd, header, sizeof header));
  assert_true (bare_write (fd, bytes, len));
}

/* Reads frames up to the last one; its type, with its bytes in @ret_last (freed by the caller). */
static guint8
read_to_end (int fd, guint64 *ret_data, GByteArray *ret_last)
{
  *ret_data = 0;
  for (;;)
    {
      guint8 header[GS_CHUNK_HEADER_SIZE], type;
      guint32 length;
      assert_true (bare_read (fd, header, sizeof header));
      assert_true (gs_chunk_parse (header, &type, &length, NULL));
      g_byte_array_set_size (ret_last, length);
      assert_true (bare_read (fd, ret_last->data, length));
      if (type == GS_CHUNK_DATA)
        *ret_data += length;
      if (type == GS_CHUNK_TRAILER || type == GS_CHUNK_RESET)
        return type;
    }
}

static void
assert_trailer (int fd, guint64 data, guint32 status, const char *payload)
{
  g_autoptr (GByteArray) last = g_byte_array_new ();
  guint64 n;
  assert_int_equal (read_to_end (fd, &n, last), GS_CHUNK_TRAILER);
  assert_int_equal (n, data);
  Gitstead__V1__StreamTrailer *trailer = gitstead__v1__stream_trailer__unpack (NULL, last->len, last->data);
  assert_non_null (trailer);
  assert_int_equal (trailer->status, status);
  assert_int_equal (trailer->header->server_epoch, 4711);
  assert_int_equal (trailer->payload.len, strlen (payload));
  assert_memory_equal (trailer->payload.data, payload, strlen (payload));
  gitstead__v1__stream_trailer__free_unpacked (trailer, NULL);
}

static void
assert_reset (int fd, guint32 status)
{
  g_autoptr (GByteArray) last = g_byte_array_new ();
  guint64 n;
  assert_int_equal (read_to_end (fd, &n, last), GS_CHUNK_RESET);
  assert_int_equal (gs_get_u32 (last->data), status);
  assert_true (bare_closed (fd, SOON_MS));
}

/* A process that the call's own process left behind may hold the output open: the call's end is the stream's end. */
static void
output_held_open (void **state)
{
  g_autoptr (NgServer) server = start (NULL, NULL);
  int fd = open_stream (server, NS_KEPT, "");
  assert_trailer (fd, 3, 0, "");
  close (fd);
}

static void
echo (void **state)
{
  g_autoptr (NgServer) server = start (NULL, NULL);
  int fd = open_stream (server, NS_ECHO, "tail");
  send_frame (fd, GS_CHUNK_DATA, "hello", 5);
  send_frame (fd, GS_CHUNK_PING, "", 0);
  send_frame (fd, GS_CHUNK_DATA, "", 0);
  send_frame (fd, GS_CHUNK_DATA, "world", 5);
  send_frame (fd, GS_CHUNK_END, "", 0);
  assert_trailer (fd, 10, 0, "tail");
  assert_true (bare_closed (fd, SOON_MS));
  close (fd);
}

static void
tickets (void **state)
{
  g_autoptr (NgServer) server = start ("ticket_timeout", "300ms");
  g_autofree char *url = NULL, *late_url = NULL;
  guint8 ticket[16], late[16], made_up[16] = { 1 };
  int first, second;
  assert_int_equal (get_ticket (server, NS_ECHO, "", &url, ticket), 0);
  first = bare_connect (url);
  assert_int_equal (show_ticket (first, ticket), 0);
  /* good once */
  second = bare_connect (url);
  assert_int_equal (show_ticket (second, ticket), GS_ERROR_NOT_FOUND);
  assert_true (bare_closed (second, SOON_MS));
  close (second);
  /* not to be guessed */
  second = bare_connect (url);
  assert_int_equal (show_ticket (second, made_up), GS_ERROR_NOT_FOUND);
  close (second);
  /* good for a while: then the call is cancelled */
  assert_int_equal (get_ticket (server, NS_SINK, "", &late_url, late), 0);
  gs_mutex_lock (&server->lock);
  while (server->n_cancelled == 0)
    gs_cond_wait (&server->changed, &server->lock);
  gs_mutex_unlock (&server->lock);
  second = bare_connect (late_url);
  assert_int_equal (show_ticket (second, late), GS_ERROR_NOT_FOUND);
  close (second);
  /* the first stream is as it was */
  send_frame (first, GS_CHUNK_DATA, "hello", 5);
  send_frame (first, GS_CHUNK_END, "", 0);
  assert_trailer (first, 5, 0, "");
  close (first);
  assert_true (ng_server_wait_idle (server));
}

/* The call's error comes in the trailer, after what was sent before it. */
static void
error_in_trailer (void **state)
{
  g_autoptr (NgServer) server = start (NULL, NULL);
  int fd = open_stream (server, NS_LAZY, "");
  server->plugin->drain (server->self); /* streams go on */
  ng_server_release (server);
  send_frame (fd, GS_CHUNK_END, "", 0);
  assert_trailer (fd, 0, 0, "");
  close (fd);
}

typedef struct
{
  const char *name;
  guint32 method;
  guint8 bytes[12];
  guint len;
} Breach;

static void
broken_rules (void **state)
{
  static const Breach breaches[] = {
    { "unknown type", NS_ECHO, { 9, 0, 0, 0, 0, 0, 0, 0 }, 8 },
    { "flags", NS_ECHO, { 1, 1, 0, 0, 0, 0, 0, 0 }, 8 },
    { "too long", NS_ECHO, { 1, 0, 0, 0, 0, 4, 0, 1 }, 8 },
    { "trailer from a client", NS_ECHO, { 3, 0, 0, 0, 0, 0, 0, 0 }, 8 },
    { "END with bytes", NS_ECHO, { 2, 0, 0, 0, 0, 0, 0, 1 }, 8 },
    { "bytes against the direction", NS_SOURCE, { 1, 0, 0, 0, 0, 0, 0, 1 }, 8 },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (breaches); i++)
    {
      g_autoptr (NgServer) server = start (NULL, NULL);
      /* a source that cannot end by itself before: its reader takes nothing */
      int fd = open_stream (server, breaches[i].method, "1000000000");
      assert_true (bare_write (fd, breaches[i].bytes, breaches[i].len));
      if (breaches[i].method == NS_ECHO)
        assert_reset (fd, GS_ERROR_INVALID_ARGUMENT);
      else
        assert_true (bare_closed (fd, SOON_MS));
      close (fd);
      assert_true (ng_server_wait_idle (server));
      assert_int_equal (ng_server_cancelled (server), 1);
    }
}

/* Whichever way a client goes, its call is cancelled before its input ends. */
static void
client_goes (void **state)
{
  g_autoptr (NgServer) server = start (NULL, NULL);
  for (int way = 0; way < 5; way++)
    {
      guint32 methods[] = { NS_SINK, NS_LAZY, NS_SOURCE, NS_ECHO, NS_SINK };
      int fd = open_stream (server, methods[way], "1000000000");
      if (methods[way] != NS_SOURCE)
        send_frame (fd, GS_CHUNK_DATA, "abc", 3);
      if (way == 3)
        shutdown (fd, SHUT_WR); /* without END */
      else if (way == 4)
        {
          guint8 header[GS_CHUNK_HEADER_SIZE + 2] = { 0 }; /* in the middle of a frame */
          gs_chunk_write (header, GS_CHUNK_DATA, 1000);
          assert_true (bare_write (fd, header, sizeof header));
        }
      if (way != 3)
        close (fd);
      assert_true (ng_server_wait_idle (server));
      assert_int_equal (ng_server_cancelled (server), (guint) way + 1);
      if (way == 3)
        close (fd);
    }
}

static void
idle (void **state)
{
  g_autoptr (NgServer) server = start ("idle_timeout", "300ms");
  guint8 byte;
  /* an uploader that says nothing */
  int fd = open_stream (server, NS_SINK, "");
  assert_reset (fd, GS_ERROR_DEADLINE_EXCEEDED);
  close (fd);
  assert_true (ng_server_wait_idle (server));
  /* a reader that takes nothing */
  fd = open_stream (server, NS_SOURCE, "1000000000");
  assert_true (bare_read (fd, &byte, 1));
  assert_true (ng_server_wait_idle (server));
  assert_int_equal (ng_server_cancelled (server), 2);
  close (fd);
  /* one that waits for the server's work is not idle */
  fd = open_stream (server, NS_LAZY, "");
  send_frame (fd, GS_CHUNK_END, "", 0);
  gint64 until = g_get_monotonic_time () + 900 * 1000;
  gs_mutex_lock (&server->lock);
  while (gs_cond_wait_until (&server->changed, &server->lock, until))
    ;
  gs_mutex_unlock (&server->lock);
  assert_int_equal (ng_server_cancelled (server), 2);
  ng_server_release (server);
  assert_trailer (fd, 0, 0, "");
  close (fd);
}

static void
bounded (void **state)
{
  g_autoptr (NgServer) server = start ("max_streams", "2");
  g_autofree char *url = NULL;
  guint8 ticket[16];
  int a = open_stream (server, NS_LAZY, ""), b = open_stream (server, NS_LAZY, "");
  assert_int_equal (get_ticket (server, NS_LAZY, "", &url, ticket), GS_ERROR_BUSY);
  close (a);
  gint64 until = g_get_monotonic_time () + 10 * G_USEC_PER_SEC;
  while (fake_host_metric (server->fake, "gitstead_nng_streams", NULL) > 1)
    assert_true (g_get_monotonic_time () < until);
  a = open_stream (server, NS_LAZY, "");
  close (a);
  close (b);
}

/* stop ends streams that wait for their peer, run, or whose peer takes nothing. */
static void
stop_with_streams (void **state)
{
  /* a worker that sits in a full pipe is freed by stop, not by this: it is longer than the test may last */
  NgServer *server = start ("idle_timeout", "10m");
  g_autofree char *url = NULL;
  guint8 ticket[16];
  int running = open_stream (server, NS_SINK, ""), stalled = open_stream (server, NS_SOURCE, "1000000000");
  assert_int_equal (get_ticket (server, NS_ECHO, "", &url, ticket), 0);
  ng_server_free (server);
  assert_true (bare_closed (running, SOON_MS));
  close (running);
  close (stalled);
}

static void *
stop_server (void *user)
{
  ng_server_free (user);
  return NULL;
}

/* Does its last call end within a moment, with nobody reading? */
static gboolean
is_idle (NgServer *server)
{
  gint64 until_us = g_get_monotonic_time () + 50 * 1000;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  while (g_hash_table_size (server->calls) > 0)
    if (!gs_cond_wait_until (&server->changed, &server->lock, until_us))
      return g_hash_table_size (server->calls) == 0;
  return TRUE;
}

/* A call has ended with its last byte written; stopping the server then must not keep that byte from the client. */
static void
stop_brings_all (void **state)
{
  enum { TOTAL = 40000000 }; /* more than sockets hold, so that the end lies in our pipe while nobody reads */
  NgServer *server = start (NULL, NULL);
  g_autofree char *url = g_strdup (server->urls[0]);
  g_autofree guint8 *bytes = g_malloc (GS_CHUNK_MAX);
  int fd = open_stream (server, NS_SOURCE, G_STRINGIFY (40000000));
  guint64 got = 0;
  GsThread stopper;
  while (got < TOTAL - 12000000 || !is_idle (server))
    {
      guint8 header[GS_CHUNK_HEADER_SIZE], type;
      guint32 length;
      assert_true (bare_read (fd, header, sizeof header));
      assert_true (gs_chunk_parse (header, &type, &length, NULL));
      assert_int_equal (type, GS_CHUNK_DATA);
      assert_true (bare_read (fd, bytes, length));
      got += length;
    }
  assert_true (got < TOTAL);
  assert_int_equal (gs_thread_start (&stopper, "stopper", stop_server, server), 0);
  while (bare_reachable (url))
    ; /* until it stops */
  assert_trailer (fd, TOTAL - got, 0, "");
  close (fd);
  gs_thread_join (stopper);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (echo),        cmocka_unit_test (output_held_open), cmocka_unit_test (tickets), cmocka_unit_test (error_in_trailer),
    cmocka_unit_test (broken_rules), cmocka_unit_test (client_goes), cmocka_unit_test (idle),
    cmocka_unit_test (bounded),     cmocka_unit_test (stop_with_streams),
    cmocka_unit_test (stop_brings_all),
  };
  return cmocka_run_group_tests_name ("bulk", tests, NULL, NULL);
}
