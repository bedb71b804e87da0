/* SPDX-License-Identifier: Apache-2.0 */
/* libgitstead against the transport: calls, repeats, credentials, streams, over every scheme. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead-client.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wire/frame.h>

#include "gitstead/v1/envelope.pb-c.h"
#include "gitstead/v1/server.pb-c.h"
#include "nngserver.h"

/* --------------------------------------------------------------------------------------- fixtures */

typedef struct
{
  const char *scheme;
  char *dir, *certificate, *key;
  NgServer *server;
} Place;

static void
make_certificate (Place *place)
{
  g_autofree char *out = NULL;
  g_autofree char *command = NULL;
  place->certificate = g_build_filename (place->dir, "cert.pem", NULL);
  place->key = g_build_filename (place->dir, "key.pem", NULL);
  command = g_strdup_printf ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tester "
                             "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout %s -out %s",
                             place->key, place->certificate);
  if (!g_spawn_command_line_sync (command, NULL, &out, NULL, NULL)
      || !g_file_test (place->certificate, G_FILE_TEST_EXISTS))
    g_error ("openssl made no certificate: %s", out);
}

static Place *
place_new (const char *scheme, const char *key, const char *value)
{
  g_autoptr (GError) error = NULL;
  Place *place = g_new0 (Place, 1);
  g_autofree char *listen = NULL;
  place->scheme = scheme;
  place->dir = fake_tempdir_new ();
  listen = g_str_equal (scheme, "ipc") ? g_strdup_printf ("ipc://%s/s", place->dir)
                                       : g_strdup_printf ("%s://127.0.0.1:0", scheme);
  if (g_str_equal (scheme, "tls+tcp"))
    {
      make_certificate (place);
      place->server = ng_server_new (&error, "listen", listen, "tls_certificate", place->certificate, "tls_key",
                                     place->key, key, value, NULL);
    }
  else
    place->server = ng_server_new (&error, "listen", listen, key, value, NULL);
  if (place->server == NULL)
    g_error ("start: %s", error->message);
  return place;
}

static void
place_free (Place *place)
{
  ng_server_free (place->server);
  fake_tempdir_remove (place->dir);
  g_free (place->certificate);
  g_free (place->key);
  g_free (place);
}

static GsClient *
connect_to (const Place *place, const char *token)
{
  g_autoptr (GError) error = NULL;
  GsClientOptions options = { sizeof options, .url = place->server->urls[0], .token = token, .tls_ca = place->certificate };
  GsClient *client = gs_client_new (&options, &error);
  if (client == NULL)
    g_error ("client: %s", error->message);
  return client;
}

static char *
call_text (GsClient *client, guint32 method, const char *text, GError **error)
{
  g_autoptr (GBytes) request = g_bytes_new (text, strlen (text));
  g_autoptr (GBytes) reply = NULL;
  if (!gs_client_call_raw (client, method, request, NULL, &reply, error))
    return NULL;
  return g_strndup (g_bytes_get_data (reply, NULL), g_bytes_get_size (reply));
}

/* ------------------------------------------------------------------------------------------- calls */

static void
calls_over (const char *scheme, const char *plain_who, const char *token_who)
{
  Place *place = place_new (scheme, NULL, NULL);
  g_autoptr (GsClient) client = connect_to (place, NULL);
  g_autoptr (GsClient) known = connect_to (place, NS_TOKEN);
  g_autoptr (GError) error = NULL;
  g_autoptr (GsArena) arena = gs_arena_new (GS_CLIENT_ARENA);
  Gitstead__V1__PingRequest ping = GITSTEAD__V1__PING_REQUEST__INIT;
  ProtobufCMessage *reply = NULL;
  GsClientCall call = { .size = sizeof call };
  g_autofree char *who = NULL, *known_who = NULL, *big = NULL, *failed = NULL;

  ping.echo.data = (guint8 *) "hello";
  ping.echo.len = 5;
  gs_client_call (client, "Server/Ping", &ping.base, &call, arena, &reply, &error);
  assert_string_equal (error != NULL ? error->message : "", "");
  assert_memory_equal (((Gitstead__V1__PingReply *) reply)->echo.data, "hello", 5);
  assert_int_equal (call.ret_server_epoch, 4711);
  assert_int_equal (call.ret_attempts, 1);
  who = call_text (client, NS_WHO, "", NULL);
  assert_string_equal (who, plain_who);
  known_who = call_text (known, NS_WHO, "", NULL);
  assert_string_equal (known_who, token_who);
  /* a large reply, and one that is too large */
  big = call_text (known, NS_BIG, "1000000", &error);
  assert_non_null (big);
  assert_null (call_text (known, NS_BIG, "2000000", &error));
  assert_int_equal (error->code, GS_ERROR_OUT_OF_RANGE);
  g_clear_error (&error);
  failed = call_text (known, NS_FAIL, "5", &error);
  assert_null (failed);
  assert_int_equal (error->code, GS_ERROR_NOT_FOUND);
  assert_non_null (strstr (error->message, "failed for the test"));
  g_clear_error (&error);
  assert_null (call_text (known, 4242, "", &error));
  assert_int_equal (error->code, GS_ERROR_UNIMPLEMENTED);
  place_free (place);
}

static void
calls (void **state)
{
  g_autofree char *peer = g_strdup_printf ("peer %u", getuid ());
  calls_over ("tcp", "none", "hmac 000102030405 good");
  calls_over ("ipc", peer, "bearer " NS_TOKEN);
  calls_over ("tls+tcp", "none", "bearer " NS_TOKEN);
}

typedef struct
{
  GsClient *client;
  guint n;
  guint good;
  GsThread thread;
} Caller;

static void *
many_pings (void *user)
{
  Caller *caller = user;
  for (guint i = 0; i < caller->n; i++)
    {
      g_autofree char *text = g_strdup_printf ("%p %u", (void *) caller, i);
      g_autofree char *reply = call_text (caller->client, NS_PING, text, NULL);
      caller->good += reply != NULL && g_str_equal (reply, text);
    }
  return NULL;
}

/* More callers than the server takes at once from one connection. */
static void
concurrent (void **state)
{
  const char *const schemes[] = { "tcp", "ipc", "tls+tcp" };
  for (guint s = 0; s < G_N_ELEMENTS (schemes); s++)
    {
      Place *place = place_new (schemes[s], "max_in_flight", "4");
      GsClient *client = connect_to (place, NULL);
      Caller callers[12] = { 0 };
      for (guint i = 0; i < 12; i++)
        {
          callers[i].client = client;
          callers[i].n = 200;
          assert_int_equal (gs_thread_start (&callers[i].thread, "caller", many_pings, &callers[i]), 0);
        }
      for (guint i = 0; i < 12; i++)
        {
          gs_thread_join (callers[i].thread);
          assert_int_equal (callers[i].good, 200);
        }
      gs_client_free (client);
      place_free (place);
    }
}

/* ------------------------------------------------------------------------------- errors and repeats */

static void
failures (void **state)
{
  g_autoptr (GError) error = NULL;
  GsClientOptions options = { sizeof options };
  Gitstead__V1__InfoRequest info = GITSTEAD__V1__INFO_REQUEST__INIT;
  GsClientCall call = { .size = sizeof call, .timeout_us = 300 * 1000 };
  assert_null (gs_client_new (&options, &error));
  g_clear_error (&error);
  options.url = "http://x:1";
  assert_null (gs_client_new (&options, &error));
  assert_int_equal (error->code, GS_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);
  options.url = "ipc:///nowhere/at/all";
  options.token = "gs_cut_off";
  assert_null (gs_client_new (&options, &error));
  assert_non_null (strstr (error->message, "cut off"));
  g_clear_error (&error);
  options.token = NULL;
  g_autoptr (GsClient) client = gs_client_new (&options, NULL);
  /* nobody there: surely not sent, and tried again while there was time */
  assert_false (gs_client_call (client, "Server/Info", &info.base, &call, NULL, NULL, &error));
  assert_int_equal (error->code, GS_ERROR_UNAVAILABLE);
  assert_true (call.ret_attempts > 1);
  g_clear_error (&error);
  assert_false (gs_client_call (client, "Server/Ping", &info.base, NULL, NULL, NULL, &error));
  assert_int_equal (error->code, GS_ERROR_INVALID_ARGUMENT);
  g_clear_error (&error);
  assert_false (gs_client_call (client, "Server/Pong", &info.base, NULL, NULL, NULL, &error));
  assert_int_equal (error->code, GS_ERROR_UNIMPLEMENTED);
}

static void
deadline (void **state)
{
  Place *place = place_new ("tcp", NULL, NULL);
  GsClient *client = connect_to (place, NULL);
  g_autoptr (GError) error = NULL;
  GsClientCall call = { .size = sizeof call, .timeout_us = 200 * 1000 };
  g_autofree char *text = NULL;
  assert_false (gs_client_call_raw (client, NS_HOLD, NULL, &call, NULL, &error));
  assert_int_equal (error->code, GS_ERROR_DEADLINE_EXCEEDED);
  /* the connection is as good as before */
  text = call_text (client, NS_PING, "x", NULL);
  assert_string_equal (text, "x");
  /* and its end cancels what is still held */
  gs_client_free (client);
  assert_true (ng_server_wait_idle (place->server));
  assert_int_equal (ng_server_cancelled (place->server), 1);
  place_free (place);
}

static void *
hold_call (void *user)
{
  Caller *caller = user;
  GsClientCall call = { .size = sizeof call };
  g_autoptr (GError) error = NULL;
  if (gs_client_call_raw (caller->client, NS_HOLD, NULL, &call, NULL, &error))
    caller->good = 1000 + call.ret_attempts;
  else
    caller->good = (guint) error->code;
  return NULL;
}

/* The server goes while a call is under way and comes back: the client repeats it, and it is done. */
static void
server_restarts (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *url = g_strdup_printf ("ipc://%s/s", dir);
  NgServer *server = ng_server_new (NULL, "listen", url, NULL);
  GsClientOptions options = { sizeof options, .url = url };
  Caller caller = { .client = gs_client_new (&options, NULL) };
  assert_non_null (server);
  assert_int_equal (gs_thread_start (&caller.thread, "caller", hold_call, &caller), 0);
  assert_true (ng_server_wait_held (server, 1));
  ng_server_free (server);
  server = ng_server_new (NULL, "listen", url, NULL);
  assert_non_null (server);
  assert_true (ng_server_wait_held (server, 1));
  ng_server_release (server);
  gs_thread_join (caller.thread);
  assert_true (caller.good >= 1002);
  gs_client_free (caller.client);
  ng_server_free (server);
  fake_tempdir_remove (dir);
}

/* With repeats off the loss shows: a call under way has an unknown outcome. */
static void
lost_reply (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *path = g_strdup_printf ("%s/s", dir);
  g_autofree char *url = g_strdup_printf ("ipc://%s", path);
  NgServer *server = ng_server_new (NULL, "listen", url, NULL);
  GsClientOptions options = { sizeof options, .url = url, .max_attempts = 1 };
  Caller caller = { .client = gs_client_new (&options, NULL) };
  assert_int_equal (gs_thread_start (&caller.thread, "caller", hold_call, &caller), 0);
  assert_true (ng_server_wait_held (server, 1));
  ng_server_free (server); /* cancels it */
  gs_thread_join (caller.thread);
  assert_true (caller.good == GS_ERROR_CANCELLED || caller.good == GS_ERROR_UNKNOWN);
  gs_client_free (caller.client);
  fake_tempdir_remove (dir);
}

typedef struct
{
  guint n;
  guint32 last;
  int code;
} Heard;

static void
hear (gpointer user, guint32 attempt, const GError *why)
{
  Heard *heard = user;
  heard->n++;
  heard->last = attempt;
  heard->code = gs_error_code (why);
}

/* Who asked to hear of tries that failed hears of all but the last, whose error is the call's. */
static void
told_of_tries (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *url = g_strdup_printf ("ipc://%s/nobody", dir);
  Heard heard = { 0 };
  GsClientOptions options
      = { .size = sizeof options, .url = url, .max_attempts = 3, .retrying = hear, .retrying_user = &heard };
  const guint32 sizes[] = { sizeof options, G_STRUCT_OFFSET (GsClientOptions, retrying) };
  for (gsize i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      GsClientCall call = { .size = sizeof call };
      GsClient *client;
      options.size = sizes[i]; /* the second one is a program that was built before there was this */
      client = gs_client_new (&options, NULL);
      assert_false (gs_client_call_raw (client, NS_ECHO, NULL, &call, NULL, NULL));
      assert_int_equal (call.ret_attempts, 3);
      assert_int_equal (heard.n, 2);
      assert_int_equal (heard.last, 2);
      assert_int_equal (heard.code, GS_ERROR_UNAVAILABLE);
      gs_client_free (client);
    }
  fake_tempdir_remove (dir);
}

/* --------------------------------------------------------------------------------------------- TLS */

static void
tls_trust (void **state)
{
  Place *place = place_new ("tls+tcp", NULL, NULL);
  g_autoptr (GError) error = NULL;
  GsClientOptions options = { sizeof options, .url = place->server->urls[0], .tls_ca = place->certificate,
                              .tls_server_name = "elsewhere.example", .max_attempts = 1 };
  GsClient *client = gs_client_new (&options, NULL);
  assert_null (call_text (client, NS_PING, "x", &error));
  assert_int_equal (error->code, GS_ERROR_UNAUTHENTICATED);
  assert_non_null (strstr (error->message, "name in the certificate does not match"));
  gs_client_free (client);
  g_clear_error (&error);
  options.tls_server_name = NULL;
  options.tls_ca = NULL; /* the system's authorities know nothing of it */
  client = gs_client_new (&options, &error);
  if (client != NULL) /* where there are any */
    {
      assert_null (call_text (client, NS_PING, "x", &error));
      assert_int_equal (error->code, GS_ERROR_UNAUTHENTICATED);
      gs_client_free (client);
    }
  place_free (place);
}

static void
tls_client_certificate (void **state)
{
  Place own = { .dir = fake_tempdir_new () };
  Place *place;
  g_autoptr (GError) error = NULL;
  g_autofree char *who = NULL;
  GsClientOptions options = { sizeof options, .max_attempts = 1 };
  GsClient *client;
  make_certificate (&own);
  place = place_new ("tls+tcp", "tls_client_ca", own.certificate);
  options.url = place->server->urls[0];
  options.tls_ca = place->certificate;
  client = gs_client_new (&options, NULL);
  assert_null (call_text (client, NS_WHO, "", &error)); /* none shown */
  gs_client_free (client);
  options.tls_certificate = place->certificate; /* of somebody the server does not trust */
  options.tls_key = place->key;
  client = gs_client_new (&options, NULL);
  assert_null (call_text (client, NS_WHO, "", NULL));
  gs_client_free (client);
  options.tls_certificate = own.certificate;
  options.tls_key = own.key;
  client = gs_client_new (&options, NULL);
  who = call_text (client, NS_WHO, "", NULL);
  assert_string_equal (who, "certificate tester");
  gs_client_free (client);
  place_free (place);
  fake_tempdir_remove (own.dir);
  g_free (own.certificate);
  g_free (own.key);
}

/* ----------------------------------------------------------------------------------------- streams */

#define STREAM_BYTES (100 * 1000 * 1000)

static guint8
byte_at (guint64 at)
{
  return (guint8) ((at / 64) % 251);
}

typedef struct
{
  GsClientStream *stream;
  guint64 n;
  gboolean good;
  GsThread thread;
} Writer;

static void *
write_pattern (void *user)
{
  Writer *writer = user;
  g_autofree guint8 *block = g_malloc (64 * 251);
  guint64 at = 0;
  for (guint i = 0; i < 64 * 251; i++)
    block[i] = byte_at (i);
  writer->good = TRUE;
  while (writer->good && at < writer->n)
    {
      gsize n = (gsize) MIN (64 * 251, writer->n - at);
      writer->good = gs_client_stream_write (writer->stream, block, n, NULL);
      at += n;
    }
  writer->good = writer->good && gs_client_stream_end (writer->stream, NULL);
  return NULL;
}

/* How many bytes came; G_MAXUINT64 when one was wrong. */
static guint64
read_pattern (GsClientStream *stream, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (65536);
  guint64 at = 0;
  gssize n;
  while ((n = gs_client_stream_read (stream, buffer, 65536, error)) > 0)
    for (gssize i = 0; i < n; i++, at++)
      if (buffer[i] != byte_at (at))
        return G_MAXUINT64;
  return n == 0 ? at : G_MAXUINT64;
}

static glong
resident_kib (void)
{
  g_autofree char *text = NULL;
  const char *at;
  if (!g_file_get_contents ("/proc/self/status", &text, NULL, NULL) || (at = strstr (text, "VmRSS:")) == NULL)
    g_error ("no VmRSS in /proc/self/status");
  return strtol (at + 6, NULL, 10);
}

static void
echo_over (const char *scheme, guint64 n)
{
  Place *place = place_new (scheme, NULL, NULL);
  g_autoptr (GsClient) client = connect_to (place, NULL);
  g_autoptr (GBytes) request = g_bytes_new ("tail", 4);
  g_autoptr (GBytes) reply = NULL;
  g_autoptr (GError) error = NULL;
  Writer writer = { .n = n };
  glong before = resident_kib ();
  writer.stream = gs_client_stream_open_raw (client, NS_ECHO, request, NULL, &error);
  assert_null (error);
  assert_int_equal (gs_thread_start (&writer.thread, "writer", write_pattern, &writer), 0);
  assert_int_equal (read_pattern (writer.stream, &error), n);
  gs_thread_join (writer.thread);
  assert_true (writer.good);
  assert_true (gs_client_stream_finish_raw (writer.stream, &reply, &error));
  assert_true (g_bytes_equal (reply, request));
  gs_client_stream_free (writer.stream);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* whose own memory grows */
  assert_true (resident_kib () - before < 16 * 1024);
#else
  (void) before;
#endif
  place_free (place);
}

static void
stream_echo (void **state)
{
  echo_over ("tcp", STREAM_BYTES);
  echo_over ("ipc", STREAM_BYTES);
  echo_over ("tls+tcp", STREAM_BYTES);
  echo_over ("tcp", 0);
  echo_over ("tls+tcp", 1);
}

static void
stream_one_way (void **state)
{
  const char *const schemes[] = { "tcp", "ipc", "tls+tcp" };
  for (guint s = 0; s < G_N_ELEMENTS (schemes); s++)
    {
      Place *place = place_new (schemes[s], NULL, NULL);
      g_autoptr (GsClient) client = connect_to (place, NULL);
      g_autoptr (GBytes) number = g_bytes_new ("3000001", 7);
      g_autoptr (GBytes) whole = NULL;
      g_autoptr (GBytes) counted = NULL;
      g_autoptr (GError) error = NULL;
      g_autofree guint8 *bytes = g_malloc (700000);
      guint8 end;
      Writer writer = { .n = 5000001 };
      GsClientStream *stream = gs_client_stream_open_raw (client, NS_SOURCE, number, NULL, &error);
      assert_non_null (stream);
      assert_int_equal (read_pattern (stream, &error), 3000001);
      assert_true (gs_client_stream_finish_raw (stream, NULL, &error));
      gs_client_stream_free (stream);

      for (guint i = 0; i < 700000; i++)
        bytes[i] = byte_at (i);
      whole = g_bytes_new (bytes, 700000);
      stream = gs_client_stream_open_raw (client, NS_WHOLE, whole, NULL, &error);
      assert_non_null (stream);
      assert_int_equal (read_pattern (stream, &error), 700000);
      assert_true (gs_client_stream_finish_raw (stream, NULL, &error));
      gs_client_stream_free (stream);

      writer.stream = gs_client_stream_open_raw (client, NS_SINK, NULL, NULL, &error);
      assert_non_null (writer.stream);
      write_pattern (&writer);
      assert_true (writer.good);
      assert_int_equal (gs_client_stream_read (writer.stream, &end, 1, &error), 0);
      assert_true (gs_client_stream_finish_raw (writer.stream, &counted, &error));
      assert_memory_equal (g_bytes_get_data (counted, NULL), "5000001", g_bytes_get_size (counted));
      gs_client_stream_free (writer.stream);
      place_free (place);
    }
}

static void
stream_ends (void **state)
{
  Place *place = place_new ("tcp", NULL, NULL);
  g_autoptr (GsClient) client = connect_to (place, NULL);
  g_autoptr (GError) error = NULL;
  GsClientCall once = { .size = sizeof once };
  GsClientStream *stream;
  /* refused before it began */
  assert_null (gs_client_stream_open_raw (client, NS_REFUSE, NULL, &once, &error));
  assert_int_equal (error->code, GS_ERROR_PERMISSION_DENIED);
  g_clear_error (&error);
  /* dropped in the middle: the call is cancelled, and its reader knows that the input was not whole */
  stream = gs_client_stream_open_raw (client, NS_SINK, NULL, NULL, &error);
  assert_non_null (stream);
  assert_true (gs_client_stream_write (stream, "abc", 3, &error));
  gs_client_stream_free (stream);
  assert_true (ng_server_wait_idle (place->server));
  assert_int_equal (ng_server_cancelled (place->server), 1);
  /* the same for one that nobody reads from */
  stream = gs_client_stream_open_raw (client, NS_LAZY, NULL, NULL, &error);
  assert_non_null (stream);
  assert_true (gs_client_stream_write (stream, "abc", 3, &error));
  gs_client_stream_free (stream);
  assert_true (ng_server_wait_idle (place->server));
  assert_int_equal (ng_server_cancelled (place->server), 2);
  /* the server ends a call whose input nobody read */
  stream = gs_client_stream_open_raw (client, NS_LAZY, NULL, NULL, &error);
  assert_true (gs_client_stream_write (stream, "abc", 3, &error));
  ng_server_release (place->server);
  assert_true (gs_client_stream_finish_raw (stream, NULL, &error));
  gs_client_stream_free (stream);
  place_free (place);
}

/* -------------------------------------------------------------------------- a server that hangs */

/* Hands out a ticket for an address where everybody is let in and nobody is spoken to. */
typedef struct
{
  int control, data; /* listening */
  char *data_url;
} Hung;

static int
listen_at (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  assert_int_equal (bind (fd, (struct sockaddr *) &address, sizeof address), 0);
  assert_int_equal (listen (fd, 4), 0);
  return fd;
}

static void
take_exactly (int fd, guint8 *to, gsize len)
{
  while (len > 0)
    {
      ssize_t n = read (fd, to, len);
      if (n <= 0)
        g_error ("the client hung up");
      to += n;
      len -= (gsize) n;
    }
}

static void *
hung_run (void *user)
{
  const Hung *hung = user;
  Gitstead__V1__ReplyHeader header = GITSTEAD__V1__REPLY_HEADER__INIT;
  Gitstead__V1__StreamTicket ticket = GITSTEAD__V1__STREAM_TICKET__INIT;
  guint8 sp[GS_SP_HEADER_SIZE], length[1 + GS_SP_LENGTH_SIZE], bytes[GS_STREAM_TICKET_SIZE] = { 1 };
  g_autofree guint8 *body = g_malloc (65536);
  g_autofree guint8 *reply = g_malloc0 (65536);
  guint8 *at = reply + sizeof length;
  gsize header_len, ticket_len, size;
  int fd = accept (hung->control, NULL, NULL);
  take_exactly (fd, sp, sizeof sp);
  gs_sp_header_write (sp, GS_SP_REP);
  assert_int_equal (write (fd, sp, sizeof sp), sizeof sp);
  take_exactly (fd, length, sizeof length);
  take_exactly (fd, body, gs_get_u64 (length + 1));
  ticket.endpoint = hung->data_url;
  ticket.ticket.data = bytes;
  ticket.ticket.len = sizeof bytes;
  header_len = protobuf_c_message_get_packed_size (&header.base);
  ticket_len = protobuf_c_message_get_packed_size (&ticket.base);
  memcpy (at, body, 4); /* whose reply it is */
  gs_frame_prefix_write (at + 4, GS_FRAME_REPLY, GS_OK, (guint32) header_len, (guint32) ticket_len);
  protobuf_c_message_pack (&header.base, at + 4 + GS_FRAME_PREFIX_SIZE);
  protobuf_c_message_pack (&ticket.base, at + 4 + GS_FRAME_PREFIX_SIZE + header_len);
  size = 4 + GS_FRAME_PREFIX_SIZE + header_len + ticket_len;
  reply[0] = GS_SP_IPC_MESSAGE;
  gs_put_u64 (reply + 1, size);
  assert_int_equal (write (fd, reply, sizeof length + size), sizeof length + size);
  while (read (fd, body, 65536) > 0)
    ; /* until the client hangs up */
  close (fd);
  return NULL;
}

/* Opening a stream takes no longer than connecting may. */
static void
stream_of_who_hangs (void **state)
{
  g_autofree char *dir = g_dir_make_tmp ("gitstead-hung-XXXXXX", NULL);
  g_autofree char *control = g_build_filename (dir, "c", NULL);
  g_autofree char *data = g_build_filename (dir, "d", NULL);
  g_autofree char *url = g_strconcat ("ipc://", control, NULL);
  g_autofree char *data_url = g_strconcat ("ipc://", data, NULL);
  Hung hung = { listen_at (control), listen_at (data), data_url };
  GsClientOptions options = { .size = sizeof options, .url = url, .connect_timeout_us = 300000, .max_attempts = 1 };
  g_autoptr (GError) error = NULL;
  GsClient *client = gs_client_new (&options, &error);
  GsClientCall call = { .size = sizeof call };
  gint64 start_us = g_get_monotonic_time ();
  GsThread thread;
  assert_int_equal (gs_thread_start (&thread, "hung", hung_run, &hung), 0);
  assert_null (gs_client_stream_open_raw (client, NS_ECHO, NULL, &call, &error));
  assert_non_null (strstr (error->message, "as long as connecting may take"));
  assert_int_equal (call.ret_retry, GS_RETRY_SAME); /* not what the ticket's reply said */
  assert_true (g_get_monotonic_time () - start_us < 50 * G_USEC_PER_SEC); /* and not the minute of a stream under way */
  gs_client_free (client);
  gs_thread_join (thread);
  close (hung.control);
  close (hung.data);
  unlink (control);
  unlink (data);
  rmdir (dir);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (calls),        cmocka_unit_test (concurrent),      cmocka_unit_test (failures),
    cmocka_unit_test (deadline),     cmocka_unit_test (server_restarts), cmocka_unit_test (lost_reply),
    cmocka_unit_test (tls_trust),    cmocka_unit_test (tls_client_certificate),
    cmocka_unit_test (stream_echo),  cmocka_unit_test (stream_one_way),  cmocka_unit_test (stream_ends),
    cmocka_unit_test (stream_of_who_hangs), cmocka_unit_test (told_of_tries),
  };
  return cmocka_run_group_tests_name ("client", tests, NULL, NULL);
}
