/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that misbehave: each is dropped or answered within its time, and a good client never notices. */
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

typedef struct
{
  char *dir;
  NgServer *server;
  Req *good; /* over tcp; must never fail */
} Fixture;

static Fixture *
fixture_new (const char *key, const char *value)
{
  Fixture *f = g_new0 (Fixture, 1);
  g_autoptr (GError) error = NULL;
  f->dir = fake_tempdir_new ();
  g_autofree char *listen = g_strdup_printf ("tcp://127.0.0.1:0,ipc://%s/s", f->dir);
  f->server = ng_server_new (&error, "listen", listen, "data_listen", "tcp://127.0.0.1:0,ipc:///dev/null/x", NULL);
  assert_null (f->server); /* a data address that cannot be had is found at start */
  g_clear_error (&error);
  f->server = ng_server_new (&error, "listen", listen, key, value, NULL);
  if (f->server == NULL)
    g_error ("start: %s", error->message);
  f->good = req_new (f->server->urls[0]);
  return f;
}

static void
fixture_free (Fixture *f)
{
  Reply reply;
  assert_true (req_call (f->good, NS_PING, "alive", 5, &reply));
  assert_int_equal (reply.status, 0);
  reply_clear (&reply);
  req_free (f->good);
  ng_server_free (f->server);
  fake_tempdir_remove (f->dir);
  g_free (f);
}

/* The addresses of a stream, as a ticket names them. *full* */
static char *
data_address (Fixture *f, int index)
{
  int fd = bare_greet (f->server->urls[index]);
  gboolean ipc = index == 1;
  GsTxId id;
  Reply reply;
  guint32 ignored;
  char *text;
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_SINK, &id, NULL, "", 0);
  assert_true (bare_send (fd, ipc, 1, envelope));
  assert_true (bare_receive (fd, ipc, &ignored, &reply));
  assert_int_equal (reply.status, 0);
  Gitstead__V1__StreamTicket *ticket = gitstead__v1__stream_ticket__unpack (NULL, reply.payload_len, reply.payload);
  assert_non_null (ticket);
  text = g_strdup (ticket->endpoint);
  gitstead__v1__stream_ticket__free_unpacked (ticket, NULL);
  reply_clear (&reply);
  close (fd);
  return text;
}

static void
on_every_listener (Fixture *f, void (*attack) (const char *url))
{
  for (int i = 0; i < 2; i++)
    {
      g_autofree char *data = data_address (f, i);
      attack (f->server->urls[i]);
      attack (data);
    }
}

static void
connect_and_close (const char *url)
{
  for (int i = 0; i < 100; i++)
    close (bare_connect (url));
}

static void
send_garbage (const char *url)
{
  for (int i = 0; i < 20; i++)
    {
      guint8 bytes[256];
      int fd = bare_connect (url);
      for (gsize k = 0; k < sizeof bytes; k++)
        bytes[k] = (guint8) (k * 7 + 13 + (guint) i);
      bare_write (fd, bytes, sizeof bytes);
      assert_true (bare_closed (fd, SOON_MS));
      close (fd);
    }
}

static void
stay_silent (const char *url)
{
  int fd = bare_connect (url);
  assert_true (bare_closed (fd, SOON_MS));
  close (fd);
}

static void
half_a_greeting (const char *url)
{
  int fd = bare_connect (url);
  guint8 bytes[4] = { 0, 'S', 'P', 0 };
  assert_true (bare_write (fd, bytes, sizeof bytes));
  assert_true (bare_closed (fd, SOON_MS));
  close (fd);
}

static void
every_listener (void **state)
{
  Fixture *f = fixture_new ("handshake_timeout", "200ms");
  on_every_listener (f, connect_and_close);
  on_every_listener (f, send_garbage);
  on_every_listener (f, stay_silent);
  on_every_listener (f, half_a_greeting);
  assert_true (fake_host_metric (f->server->fake, "gitstead_nng_rejected_total", NULL) >= 80);
  fixture_free (f);
}

static void
message_sizes (void **state)
{
  Fixture *f = fixture_new ("message_timeout", "200ms");
  guint8 head[9];
  /* more than is allowed: nothing is taken for it */
  for (int i = 0; i < 3; i++)
    {
      static const guint64 sizes[] = { 1024 * 1024 + 1, G_GUINT64_CONSTANT (0x7fffffffffffffff), G_MAXUINT64 };
      int fd = bare_greet (f->server->urls[0]);
      gs_put_u64 (head, sizes[i]);
      assert_true (bare_write (fd, head, 8));
      assert_true (bare_closed (fd, SOON_MS));
      close (fd);
    }
  /* a message that never ends, and one that has no request id */
  int half = bare_greet (f->server->urls[1]);
  head[0] = GS_SP_IPC_MESSAGE;
  gs_put_u64 (head + 1, 100000);
  assert_true (bare_write (half, head, 9));
  assert_true (bare_closed (half, SOON_MS));
  close (half);
  for (int i = 0; i < 2; i++)
    {
      guint8 zeros[64] = { 0 };
      int fd = bare_greet (f->server->urls[0]);
      gs_put_u64 (zeros, i == 0 ? 0 : 48);
      assert_true (bare_write (fd, zeros, 8 + (i == 0 ? 0 : 48)));
      assert_true (bare_closed (fd, SOON_MS));
      close (fd);
    }
  /* a wrong message type on ipc */
  int typed = bare_greet (f->server->urls[1]);
  head[0] = 2;
  assert_true (bare_write (typed, head, 9));
  assert_true (bare_closed (typed, SOON_MS));
  close (typed);
  /* the largest that is allowed, a byte at a time at first */
  GsTxId id;
  Reply reply;
  guint32 answered;
  g_autofree guint8 *payload = g_malloc0 (1024 * 1024);
  random_id (&id);
  g_autoptr (GByteArray) small = request_build (NS_PING, &id, NULL, "", 0);
  gsize most = 1024 * 1024 - 4 - small->len;
  g_autoptr (GByteArray) largest = request_build (NS_COUNT, &id, NULL, payload, most);
  int fd = bare_greet (f->server->urls[0]);
  g_autoptr (GByteArray) message = g_byte_array_new ();
  g_byte_array_set_size (message, 12);
  gs_put_u64 (message->data, 4 + largest->len);
  gs_put_u32 (message->data + 8, 7 | GS_SP_REQUEST_ID);
  g_byte_array_append (message, largest->data, largest->len);
  for (gsize i = 0; i < 100; i++)
    assert_true (bare_write (fd, message->data + i, 1));
  assert_true (bare_write (fd, message->data + 100, message->len - 100));
  /* its echo would be larger than a message, so it is refused; but it was taken and carried out */
  assert_true (bare_receive (fd, FALSE, &answered, &reply));
  assert_int_equal (answered, 7);
  assert_int_equal (ng_server_count (f->server, &id), 1);
  assert_int_equal (reply.status, GS_ERROR_OUT_OF_RANGE);
  reply_clear (&reply);
  close (fd);
  fixture_free (f);
}

/* Sends @envelope to the good client's connection and expects an error that leaves the connection open. */
static void
answered (Req *req, GByteArray *envelope, guint32 status, const char *says)
{
  Reply reply;
  assert_true (req_send (req, envelope, &reply));
  assert_int_equal (reply.status, status);
  assert_int_equal (reply.flags, GS_FRAME_REPLY | GS_FRAME_ERROR);
  if (strstr (reply.header->message, says) == NULL)
    assert_string_equal (reply.header->message, says);
  reply_clear (&reply);
}

static void
envelopes (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsTxId id;
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_PING, &id, NULL, "abc", 3);
  guint header_len = gs_get_u32 (envelope->data + 8);
  g_autoptr (GByteArray) empty = g_byte_array_new ();
  answered (f->good, empty, GS_ERROR_INVALID_ARGUMENT, "fixed part");
  envelope->data[0] = 'X';
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "instead of 47 53");
  envelope->data[0] = 'G';
  gs_put_u32 (envelope->data + 12, 4);
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "announced");
  gs_put_u32 (envelope->data + 12, 3);
  gs_put_u32 (envelope->data + 8, 0xffffffff);
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "at most");
  gs_put_u32 (envelope->data + 8, header_len);
  envelope->data[3] = GS_FRAME_REPLY;
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "belong to replies");
  envelope->data[3] = 0;
  envelope->data[16] = 0xff; /* no protobuf any more */
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "RequestHeader");
  envelope->data[16] = 0x0a;
  envelope->data[17] = 15; /* a call id of 15 bytes, and a byte too many */
  answered (f->good, envelope, GS_ERROR_INVALID_ARGUMENT, "RequestHeader");
  gs_put_u32 (envelope->data + 4, 77777);
  envelope->data[17] = 16;
  answered (f->good, envelope, GS_ERROR_UNIMPLEMENTED, "no such method");
  Gitstead__V1__RequestHeader header = GITSTEAD__V1__REQUEST_HEADER__INIT;
  g_autofree char *long_trace = g_strnfill (GS_FRAME_HEADER_MAX, 'x');
  header.trace = long_trace;
  g_autoptr (GByteArray) large = request_build (NS_PING, &id, &header, "", 0);
  answered (f->good, large, GS_ERROR_INVALID_ARGUMENT, "at most");
  fixture_free (f);
}

/* Another major: one error that any version can read, then the end; what was pipelined behind it is not read. */
static void
other_major (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsTxId id;
  Reply reply;
  guint32 number;
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_PING, &id, NULL, "abc", 3);
  g_autoptr (GByteArray) later = request_build (NS_COUNT, &id, NULL, "abc", 3);
  int fd = bare_greet (f->server->urls[0]);
  envelope->data[2] = 9;
  assert_true (bare_send (fd, FALSE, 3, envelope));
  assert_true (bare_send (fd, FALSE, 4, later));
  assert_true (bare_receive (fd, FALSE, &number, &reply));
  assert_int_equal (number, 3);
  assert_int_equal (reply.status, GS_ERROR_UNIMPLEMENTED);
  assert_non_null (strstr (reply.header->message, "wire major 9"));
  reply_clear (&reply);
  assert_true (bare_closed (fd, SOON_MS));
  assert_int_equal (ng_server_count (f->server, &id), 0);
  close (fd);
  fixture_free (f);
}

/* What devices put before the request id comes back as it was. */
static void
backtrace (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  int fd = bare_greet (f->server->urls[0]);
  GsTxId id;
  guint8 head[8 + 12], back[8 + 12];
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_PING, &id, NULL, "abc", 3);
  gs_put_u64 (head, 12 + envelope->len);
  gs_put_u32 (head + 8, 0x00112233);
  gs_put_u32 (head + 12, 0x44556677);
  gs_put_u32 (head + 16, 0x88990011);
  assert_true (bare_write (fd, head, sizeof head));
  assert_true (bare_write (fd, envelope->data, envelope->len));
  assert_true (bare_read (fd, back, sizeof back));
  assert_memory_equal (back + 8, head + 8, 12);
  close (fd);
  fixture_free (f);
}

/* ------------------------------------------------------------------------------------------- bounds */

static void
in_flight (void **state)
{
  Fixture *f = fixture_new ("max_in_flight", "4");
  gboolean seen[40] = { FALSE };
  for (int ipc = 0; ipc < 2; ipc++)
    {
      int fd = bare_greet (f->server->urls[ipc]);
      guint begun = ng_server_begun (f->server);
      for (guint i = 0; i < 40; i++)
        {
          GsTxId id;
          random_id (&id);
          g_autoptr (GByteArray) envelope = request_build (ipc ? NS_PING : NS_HOLD, &id, NULL, "", 0);
          assert_true (bare_send (fd, ipc, i, envelope));
        }
      if (!ipc)
        {
          Reply reply;
          assert_true (ng_server_wait_held (f->server, 4));
          /* another connection is served while this one waits, and no further call of it begins */
          assert_true (req_call (f->good, NS_PING, "x", 1, &reply));
          reply_clear (&reply);
          assert_int_equal (ng_server_begun (f->server), begun + 4 + 1);
          ng_server_release (f->server);
        }
      memset (seen, 0, sizeof seen);
      for (guint i = 0; i < 40; i++)
        {
          Reply reply;
          guint32 id;
          assert_true (bare_receive (fd, ipc, &id, &reply));
          assert_in_range (id, 0, 39);
          assert_false (seen[id]);
          seen[id] = TRUE;
          reply_clear (&reply);
        }
      close (fd);
    }
  fixture_free (f);
}

static void
disconnect_cancels (void **state)
{
  Fixture *f = fixture_new ("max_in_flight", "4");
  for (int ipc = 0; ipc < 2; ipc++)
    {
      int fd = bare_greet (f->server->urls[ipc]);
      for (guint i = 0; i < 6; i++) /* two wait behind the bound: the end is seen all the same */
        {
          GsTxId id;
          random_id (&id);
          g_autoptr (GByteArray) envelope = request_build (NS_HOLD, &id, NULL, "", 0);
          assert_true (bare_send (fd, ipc, i, envelope));
        }
      assert_true (ng_server_wait_held (f->server, 4));
      close (fd);
      assert_true (ng_server_wait_idle (f->server));
      assert_int_equal (ng_server_cancelled (f->server), 4 * (guint) (ipc + 1));
    }
  fixture_free (f);
}

static void
stalled_reader (void **state)
{
  Fixture *f = fixture_new ("write_timeout", "300ms");
  for (int ipc = 0; ipc < 2; ipc++)
    {
      int fd = bare_greet (f->server->urls[ipc]);
      int small = 4096;
      gint64 until = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
      setsockopt (fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
      for (guint i = 0; i < 64; i++)
        {
          GsTxId id;
          random_id (&id);
          g_autoptr (GByteArray) envelope = request_build (NS_BIG, &id, NULL, "1000000", 7);
          if (!bare_send (fd, ipc, i, envelope))
            break; /* dropped already */
        }
      /* others are served meanwhile, and it is dropped although it never reads */
      while (fake_host_metric (f->server->fake, "gitstead_nng_connections", NULL) > 1)
        {
          Reply reply;
          assert_true (req_call (f->good, NS_PING, "x", 1, &reply));
          reply_clear (&reply);
          assert_true (g_get_monotonic_time () < until);
        }
      close (fd);
    }
  fixture_free (f);
}

static void
too_many_connections (void **state)
{
  Fixture *f = fixture_new ("max_connections", "3");
  int a = bare_greet (f->server->urls[0]), b = bare_greet (f->server->urls[1]);
  int c = bare_connect (f->server->urls[0]);
  assert_true (bare_closed (c, SOON_MS));
  close (a);
  close (b);
  close (c);
  fixture_free (f);
}

/* A client may send its first requests together with its greeting. */
static void
eager (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  int fd = bare_connect (f->server->urls[0]);
  guint8 header[GS_SP_HEADER_SIZE];
  GsTxId id;
  g_autoptr (GByteArray) all = g_byte_array_new ();
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_PING, &id, NULL, "abc", 3);
  gs_sp_header_write (header, GS_SP_REQ);
  g_byte_array_append (all, header, sizeof header);
  for (guint i = 0; i < 50; i++)
    {
      guint8 head[12];
      gs_put_u64 (head, 4 + envelope->len);
      gs_put_u32 (head + 8, i | GS_SP_REQUEST_ID);
      g_byte_array_append (all, head, sizeof head);
      g_byte_array_append (all, envelope->data, envelope->len);
    }
  assert_true (bare_write (fd, all->data, all->len));
  assert_true (bare_read (fd, header, sizeof header));
  assert_true (gs_sp_header_check (header, GS_SP_REP));
  for (guint i = 0; i < 50; i++)
    {
      Reply reply;
      guint32 number;
      assert_true (bare_receive (fd, FALSE, &number, &reply));
      assert_int_equal (reply.payload_len, 3);
      reply_clear (&reply);
    }
  close (fd);
  fixture_free (f);
}

/* A connection that asks nothing is not kept for ever, one with a call under way is. */
static void
quiet_connections (void **state)
{
  Fixture *f = fixture_new ("message_timeout", "200ms");
  for (int ipc = 0; ipc < 2; ipc++)
    {
      int silent = bare_greet (f->server->urls[ipc]), busy = bare_greet (f->server->urls[ipc]);
      GsTxId id;
      Reply reply;
      guint32 number;
      random_id (&id);
      g_autoptr (GByteArray) hold = request_build (NS_HOLD, &id, NULL, "", 0);
      g_autoptr (GByteArray) refused = request_build (77777, &id, NULL, "", 0);
      assert_true (bare_send (busy, ipc, 1, hold));
      assert_true (ng_server_wait_held (f->server, 1));
      assert_true (bare_closed (silent, SOON_MS));
      close (silent);
      /* what was refused does not make a stranger known */
      silent = bare_greet (f->server->urls[ipc]);
      assert_true (bare_send (silent, ipc, 1, refused));
      assert_true (bare_receive (silent, ipc, &number, &reply));
      assert_int_equal (reply.status, GS_ERROR_UNIMPLEMENTED);
      reply_clear (&reply);
      assert_true (bare_closed (silent, SOON_MS));
      close (silent);
      /* by now the busy one has been quiet for longer than either of them */
      ng_server_release (f->server);
      assert_true (bare_receive (busy, ipc, &number, &reply));
      assert_int_equal (reply.status, 0);
      reply_clear (&reply);
      /* its caller was good: it has connection_timeout now */
      assert_false (bare_closed (busy, 400));
      close (busy);
      f->server->released = FALSE; /* no call is under way */
    }
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (every_listener), cmocka_unit_test (message_sizes),      cmocka_unit_test (envelopes),
    cmocka_unit_test (other_major),    cmocka_unit_test (backtrace),          cmocka_unit_test (in_flight),
    cmocka_unit_test (disconnect_cancels), cmocka_unit_test (stalled_reader), cmocka_unit_test (too_many_connections),
    cmocka_unit_test (eager),          cmocka_unit_test (quiet_connections),
  };
  return cmocka_run_group_tests_name ("hostile", tests, NULL, NULL);
}
