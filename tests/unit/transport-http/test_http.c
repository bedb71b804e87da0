/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c - transport/http over raw sockets: what it answers, refuses, streams, and survives. */
#include "client.h"
#include "service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <gitstead/thread.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#define HOST "Host: x\r\n"
#define UPLOAD "Content-Type: application/x-git-upload-pack-request\r\n"
#define RECEIVE "Content-Type: application/x-git-receive-pack-request\r\n"

static guint fds_before;

static int
set_up (void **state)
{
  fds_before = count_fds ();
  *state = served_new ("http://127.0.0.1:0", "idle_timeout", "30s", NULL);
  return 0;
}

static int
set_up_small (void **state)
{
  fds_before = count_fds ();
  *state = served_new ("http://127.0.0.1:0", "idle_timeout", "1s", "max_body", "200000", "max_inflate", "100000",
                       "json_body_max", "2000", "max_connections", "8", "threads", "1", NULL);
  return 0;
}

static int
tear_down (void **state)
{
  served_free (*state);
  /* Not one descriptor may be left: sockets, pipes, epoll sets. */
  return count_fds () == fds_before ? 0 : -1;
}

static guint16
port_of (void **state)
{
  return ((Served *) *state)->port;
}

static Answer *
ask (void **state, const char *format, ...)
{
  va_list args;
  g_autofree char *text = NULL;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  return client_ask (port_of (state), text);
}

static Answer *
post (void **state, const char *path, const char *extra, const char *body)
{
  return ask (state, "POST /%s HTTP/1.1\r\n" HOST UPLOAD "%sContent-Length: %u\r\n\r\n%s", path, extra,
              (guint) strlen (body), body);
}

static void
expect (Answer *answer, guint status, const char *text)
{
  if (answer->status != status || (text != NULL && strstr (answer_text (answer), text) == NULL))
    fail_msg ("wanted %u '%s', got %u '%s'", status, text != NULL ? text : "", answer->status, answer_text (answer));
  assert_true (answer->whole);
  answer_free (answer);
}

static void
expect_header (const Answer *answer, const char *name, const char *value)
{
  g_autofree char *got = answer_header (answer, name);
  if (g_strcmp0 (got, value) != 0)
    fail_msg ("%s: wanted '%s', got '%s'", name, value, got != NULL ? got : "nothing");
}

/* ------------------------------------------------------------------------------------------- pages */

static void
test_pages (void **state)
{
  Answer *answer = ask (state, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Content-Type", "text/plain; charset=utf-8");
  expect (answer, 200, "ok");
  answer = ask (state, "GET /metrics HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  expect (answer, 200, "a 1");
  answer = ask (state, "GET / HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Content-Type", "text/html; charset=utf-8");
  expect (answer, 200, "<!doctype");
  expect (ask (state, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 200, "ready");
  service_set_ready (FALSE);
  expect (ask (state, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"), 503, "metadata");
  expect (ask (state, "GET /other HTTP/1.1\r\n" HOST "\r\n"), 404, "clone URL");
  answer = ask (state, "POST /healthz HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
  expect_header (answer, "Allow", "GET, HEAD");
  expect (answer, 405, NULL);
  expect (ask (state, "GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"), 400, "no body");
}

/* One socket for every address, of both families. */
static void
test_every_address (void **state)
{
  Served *served = served_new ("http://*:0", NULL);
  Answer *answer = client_ask (served->port, "GET /healthz HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
  expect (answer, 200, "ok");
  served_free (served);
}

static void
test_head (void **state)
{
  int fd = client_connect (port_of (state));
  struct pollfd wait = { .fd = fd, .events = POLLIN };
  char buffer[4096];
  gsize got = 0;
  assert_true (client_send (fd, "HEAD /healthz HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
  while (poll (&wait, 1, 20000) > 0)
    {
      ssize_t n = recv (fd, buffer + got, sizeof buffer - 1 - got, 0);
      if (n <= 0)
        break;
      got += (gsize) n;
    }
  buffer[got] = '\0';
  assert_true (g_str_has_prefix (buffer, "HTTP/1.1 200"));
  assert_non_null (strstr (buffer, "Content-Length: 3"));
  assert_true (g_str_has_suffix (buffer, "\r\n\r\n"));
  close (fd);
}

static void
test_keep_alive (void **state)
{
  int fd = client_connect (port_of (state));
  for (guint i = 0; i < 50; i++)
    {
      assert_true (client_send (fd, i % 2 ? "GET /healthz HTTP/1.1\r\n" HOST "\r\n"
                                          : "GET /source/70000/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST
                                            "\r\n"));
      expect (client_read (fd), 200, NULL);
    }
  close (fd);
}

/* ------------------------------------------------------------------------------------ git: answers */

static void
test_advertise (void **state)
{
  Answer *answer = ask (state, "GET /whole/5/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Content-Type", "application/x-git-upload-pack-advertisement");
  expect_header (answer, "Cache-Control", "no-cache, max-age=0, must-revalidate");
  expect_header (answer, "Expires", "Fri, 01 Jan 1980 00:00:00 GMT");
  expect_header (answer, "Pragma", "no-cache");
  assert_string_equal (answer_text (answer), "001e# service=git-upload-pack\n0000wwwww");
  answer_free (answer);
  assert_int_equal (service_seen ()->service, 1);
  answer = ask (state,
                "GET /source/5/info/refs?service=git-receive-pack HTTP/1.1\r\n" HOST "Git-Protocol: version=1\r\n\r\n");
  assert_true (g_str_has_prefix (answer_text (answer), "001f# service=git-receive-pack\n0000x"));
  assert_int_equal (answer->body->len, 40);
  answer_free (answer);
  assert_int_equal (service_seen ()->service, 2);
  assert_string_equal (service_seen ()->protocol, "version=1");
  answer = ask (state,
                "GET /whole/5/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "Git-Protocol: version=2\r\n\r\n");
  assert_string_equal (answer_text (answer), "wwwww");
  answer_free (answer);
  answer = ask (state, "GET /whole/9000000/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n");
  assert_int_equal (answer->body->len, 9000000 + 34);
  answer_free (answer);
  expect (ask (state, "GET /a/info/refs HTTP/1.1\r\n" HOST "\r\n"), 403, "dumb");
  expect (ask (state, "GET /a/info/refs?service=git-x HTTP/1.1\r\n" HOST "\r\n"), 400, "no such service");
}

static void
test_refusals (void **state)
{
  Answer *answer = ask (state, "GET /echo/git-upload-pack HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Allow", "POST");
  expect (answer, 405, NULL);
  expect (ask (state, "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 1\r\n\r\nx"), 415,
          "application/x-git-upload-pack-request");
  expect (ask (state, "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx"), 415, NULL);
  expect (post (state, "echo/git-upload-pack", "Content-Encoding: br\r\n", "x"), 415, "gzip");
  expect (post (state, "echo/git-upload-pack", "Git-Protocol: $(rm)\r\n", "x"), 400, "Git-Protocol");
  expect (post (state, "echo/git-upload-pack", "Expect: 200-ok\r\n", "x"), 417, NULL);
  expect (post (state, "echo/git-upload-pack", "Authorization: Basic %%%\r\n", "x"), 400, "Basic");
  expect (post (state, "echo/git-upload-pack", "X-Gitstead-Call-Id: 12\r\n", "x"), 400, "Call-Id");
  expect (post (state, "echo/git-upload-pack", "X-Gitstead-Timeout-Ms: -1\r\n", "x"), 400, "Timeout-Ms");
  answer = post (state, "echo/git-upload-pack", "Authorization: Digest x\r\n", "x");
  expect_header (answer, "WWW-Authenticate", "Basic realm=\"Gitstead\", charset=\"UTF-8\"");
  expect (answer, 401, "Basic");
  /* Nothing of all this reached the host. */
  assert_int_equal (service_seen ()->begun, 0);
}

static void
test_statuses (void **state)
{
  static const guint expected[] = { 0, 503, 500, 400, 504, 404, 409, 401, 503, 409, 409, 400, 501, 500, 503, 500, 401 };
  for (guint code = 1; code < G_N_ELEMENTS (expected); code++)
    {
      g_autofree char *path = g_strdup_printf ("fail/%u/git-upload-pack", code);
      Answer *answer = post (state, path, "", "0000");
      if (expected[code] == 401)
        expect_header (answer, "WWW-Authenticate", "Basic realm=\"Gitstead\", charset=\"UTF-8\"");
      if (code == 8)
        expect_header (answer, "Retry-After", "3");
      expect_header (answer, "Content-Type", "text/plain; charset=utf-8");
      expect (answer, expected[code], "it was told to fail\n");
    }
  expect (post (state, "fail/7/git-upload-pack", "Authorization: Bearer abc\r\n", "0000"), 403, NULL);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_BEARER);
  assert_string_equal (service_seen ()->secret, "abc");
  expect (post (state, "fail-late/5/git-upload-pack", "", "0000"), 404, "at the end");
  expect (post (state, "silent/git-upload-pack", "", "0000"), 200, "");
  assert_true (g_str_has_prefix (service_seen ()->peer, "http 127.0.0.1:"));
}

/* A failure after the first byte of output can only be shown by breaking off. */
static void
test_fail_output (void **state)
{
  Answer *answer = post (state, "fail-output/git-upload-pack", "", "0000");
  assert_int_equal (answer->status, 200);
  assert_false (answer->whole);
  assert_true (answer->closed);
  answer_free (answer);
}

static void
test_grandchild (void **state)
{
  expect (post (state, "grandchild/git-upload-pack", "", "0000"), 200, "out");
}

/* ------------------------------------------------------------------------------------- git: bodies */

static void
test_head_bytes (void **state)
{
  g_autofree char *limit = g_strnfill (65536, 'h');
  expect (post (state, "head/git-upload-pack", "", "abc"), 200, "complete abc");
  expect (post (state, "head/git-upload-pack", "", limit), 200, "complete hhh");
  assert_int_equal (service_seen ()->head, 65536);
  expect (post (state, "head/git-upload-pack", "", ""), 200, "complete ");
  expect (ask (state, "POST /head/git-upload-pack HTTP/1.0\r\n" UPLOAD "Content-Length: 2\r\n\r\nab"), 200,
          "complete ab");
}

static void
test_chunked (void **state)
{
  expect (ask (state, "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: chunked\r\n\r\n"
                      "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"),
          200, "abcdefg");
  expect (
      ask (state, "POST /sink/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      200, "0 bytes");
  expect (ask (state, "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: chunked\r\n\r\n"
                      "3\r\nabcX\r\n0\r\n\r\n"),
          400, NULL);
  assert_true (service_wait_cancelled (1));
  assert_false (service_seen ()->eof_uncancelled);
}

static void
test_expect_continue (void **state)
{
  int fd = client_connect (port_of (state));
  assert_true (client_send (fd, "POST /echo/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE
                                "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
  expect (client_read (fd), 100, NULL);
  assert_true (client_send (fd, "body"));
  expect (client_read (fd), 200, "body");
  close (fd);
  /* Whoever may not is told so before sending. */
  fd = client_connect (port_of (state));
  assert_true (client_send (fd, "POST /fail/16/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE
                                "Expect: 100-continue\r\nContent-Length: 4000000000\r\n\r\n"));
  expect (client_read (fd), 401, "token");
  assert_true (client_sees_close (fd));
  close (fd);
}

/* A large body without Expect: the refusal comes at once, and arrives although bytes are still coming. */
static void
test_early_refusal (void **state)
{
  static const char block[65536];
  int fd = client_connect (port_of (state));
  assert_true (
      client_send (fd, "POST /fail/7/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 4000000\r\n\r\n"));
  for (guint i = 0; i < 61; i++)
    client_send_bytes (fd, block, sizeof block);
  expect (client_read (fd), 401, "told to fail");
  close (fd);
  assert_int_equal (service_seen ()->accepted, 0);
}

static GByteArray *
gzip (gsize length, guint8 fill)
{
  GByteArray *out = g_byte_array_new ();
  g_autofree guint8 *in = g_malloc (length);
  z_stream z = { 0 };
  memset (in, fill, length);
  deflateInit2 (&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  g_byte_array_set_size (out, (guint) deflateBound (&z, length) + 64);
  z.next_in = in;
  z.avail_in = (uInt) length;
  z.next_out = out->data;
  z.avail_out = out->len;
  deflate (&z, Z_FINISH);
  g_byte_array_set_size (out, (guint) z.total_out);
  deflateEnd (&z);
  return out;
}

static Answer *
post_bytes (void **state, const char *path, const char *extra, const GByteArray *body, gboolean chunked)
{
  int fd = client_connect (port_of (state));
  g_autofree char *framing
      = chunked ? g_strdup ("Transfer-Encoding: chunked\r\n") : g_strdup_printf ("Content-Length: %u\r\n", body->len);
  g_autofree char *header = g_strdup_printf ("POST /%s HTTP/1.1\r\n" HOST UPLOAD "%s%s\r\n", path, extra, framing);
  Answer *answer;
  client_send (fd, header);
  for (guint at = 0; at < body->len; at += 60000)
    {
      guint n = MIN (60000, body->len - at);
      g_autofree char *size = g_strdup_printf ("%x\r\n", n);
      if (chunked)
        client_send (fd, size);
      client_send_bytes (fd, body->data + at, n);
      if (chunked)
        client_send (fd, "\r\n");
    }
  if (chunked)
    client_send (fd, "0\r\n\r\n");
  answer = client_read (fd);
  close (fd);
  return answer;
}

static void
test_gzip (void **state)
{
  static const gsize sizes[] = { 1, 1000, 65535, 65536, 65537, 1000000, 60000000 };
  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    {
      g_autoptr (GByteArray) body = gzip (sizes[i], 'g');
      g_autofree char *wanted = g_strdup_printf ("%" G_GSIZE_FORMAT " bytes", sizes[i]);
      expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", body, FALSE), 200, wanted);
      expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: x-gzip\r\n", body, TRUE), 200, wanted);
    }
}

static void
test_bad_gzip (void **state)
{
  g_autoptr (GByteArray) small = gzip (1000, 'x');
  g_autoptr (GByteArray) large = gzip (1000000, 'x');
  expect (post (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", "not gzip"), 400, "gzip");
  g_byte_array_set_size (small, small->len - 3);
  expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", small, FALSE), 400, "cut short");
  assert_int_equal (service_seen ()->begun, 0);
  g_byte_array_set_size (large, large->len - 3);
  expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", large, FALSE), 400, "cut short");
  expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", large, TRUE), 400, "cut short");
  assert_true (service_wait_cancelled (2));
  assert_false (service_seen ()->eof_uncancelled);
}

/* A megabyte that becomes a gigabyte is stopped at the limit, which costs the server next to nothing. */
static void
test_bomb (void **state)
{
  g_autoptr (GByteArray) bomb = gzip (100 * 1000 * 1000, 0);
  assert_true (bomb->len < 200000);
  expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", bomb, FALSE), 413, "inflates");
  expect (post_bytes (state, "sink/git-upload-pack", "Content-Encoding: gzip\r\n", bomb, TRUE), 413, "inflates");
  assert_true (service_wait_cancelled (2));
  assert_true (service_seen ()->bytes_in < 200000);
}

static void
test_limits (void **state)
{
  g_autoptr (GByteArray) body = g_byte_array_new ();
  g_autofree char *json = g_strnfill (2001, ' ');
  g_byte_array_set_size (body, 200001);
  memset (body->data, 'b', body->len);
  expect (post_bytes (state, "sink/git-upload-pack", "", body, FALSE), 413, "larger");
  assert_int_equal (service_seen ()->begun, 0);
  expect (post_bytes (state, "sink/git-upload-pack", "", body, TRUE), 413, "larger");
  assert_true (service_wait_cancelled (1));
  g_byte_array_set_size (body, 200000);
  expect (post_bytes (state, "sink/git-upload-pack", "", body, FALSE), 200, "200000 bytes");
  expect (ask (state,
               "POST /api/v1/Repository/Create HTTP/1.1\r\n" HOST
               "Content-Type: application/json\r\nContent-Length: 2001\r\n\r\n%s",
               json),
          413, "OUT_OF_RANGE");
  expect (ask (state,
               "POST /api/v1/Repository/Create HTTP/1.1\r\n" HOST
               "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n7d1\r\n%s\r\n0\r\n\r\n",
               json),
          413, "OUT_OF_RANGE");
}

/* The host reads a little of a large body and answers: the rest is drained, the answer arrives. */
static void
test_reader_stops (void **state)
{
  g_autoptr (GByteArray) body = g_byte_array_new ();
  g_byte_array_set_size (body, 3000000);
  memset (body->data, 'b', body->len);
  expect (post_bytes (state, "few/git-upload-pack", "", body, FALSE), 200, "enough");
  expect (post_bytes (state, "few/git-upload-pack", "", body, TRUE), 200, "enough");
  expect (post_bytes (state, "close-fail/9/git-upload-pack", "", body, TRUE), 409, "enough of it");
}

/* Output before the input is read to its end must not wedge: a child may report while it receives. */
static void
test_chatty (void **state)
{
  g_autoptr (GByteArray) body = g_byte_array_new ();
  Answer *answer;
  g_byte_array_set_size (body, 3000000);
  memset (body->data, 'b', body->len);
  answer = post_bytes (state, "chatty/git-upload-pack", "", body, FALSE);
  assert_int_equal (answer->status, 200);
  assert_true (answer->whole);
  assert_int_equal (answer->body->len, (1 << 20) + 7);
  assert_memory_equal (answer->body->data + (1 << 20), "3000000", 7);
  answer_free (answer);
}

/* ... up to a bound, where it fails instead of waiting for ever. */
static void
test_flood (void **state)
{
  g_autoptr (GByteArray) body = g_byte_array_new ();
  g_byte_array_set_size (body, 9000000);
  memset (body->data, 'b', body->len);
  expect (post_bytes (state, "echo/git-upload-pack", "", body, TRUE), 500, "before it had read");
  assert_true (service_wait_done (1));
}

static void
test_slow_reader (void **state)
{
  g_autoptr (GByteArray) body = g_byte_array_new ();
  int fd = client_connect (port_of (state));
  g_byte_array_set_size (body, 1000000);
  memset (body->data, 'b', body->len);
  assert_true (
      client_send (fd, "POST /gated/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 1000000\r\n\r\n"));
  assert_true (service_wait_begun (1));
  assert_true (client_send_bytes (fd, body->data, 500000));
  service_open_gate ();
  assert_true (client_send_bytes (fd, body->data, 500000));
  expect (client_read (fd), 200, "1000000 bytes");
  close (fd);
}

/* ------------------------------------------------------------------------------------------- guard */

static void
test_guard (void **state)
{
  static const char *const bad[] = {
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length : 4\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: x\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: -4\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.0\r\n" UPLOAD "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /healthz HTTP/1.1\r\n\r\n",
    "GET /healthz HTTP/1.1\r\n" HOST HOST "\r\n",
    "GET /a%00b/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /a%2Fb/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /a/../b/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /a/%2e%2e/b/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /a\x01/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET a/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
  };
  for (guint i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      int fd = client_connect (port_of (state));
      Answer *answer;
      client_send (fd, bad[i]);
      /* What follows a request of doubtful framing is never taken for another request. */
      client_send (fd, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
      answer = client_read (fd);
      if (answer->status != 400)
        fail_msg ("%s: %u", bad[i], answer->status);
      answer_free (answer);
      assert_true (client_sees_close (fd));
      close (fd);
    }
  expect (ask (state, "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: gzip\r\n\r\nx"), 501,
          NULL);
  assert_int_equal (service_seen ()->begun, 0);
}

static void
test_garbage (void **state)
{
  static const char *const garbage[] = { "\r\n\r\n\r\n\r\n",
                                         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                         "GET\r\n\r\n",
                                         "GET / HTTP/9.9\r\n\r\n",
                                         "GET /a b c HTTP/1.1\r\n" HOST "\r\n",
                                         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                         "0032git-upload-pack /a.git\0host=x",
                                         "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD
                                         "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" };
  g_autofree char *huge = g_strnfill (100000, 'a');
  guint fds = count_fds ();
  for (guint i = 0; i < G_N_ELEMENTS (garbage); i++)
    {
      int fd = client_connect (port_of (state));
      client_send (fd, garbage[i]);
      shutdown (fd, SHUT_WR);
      answer_free (client_read (fd));
      close (fd);
    }
  answer_free (ask (state, "GET /%s HTTP/1.1\r\n" HOST "\r\n", huge));
  answer_free (ask (state, "GET / HTTP/1.1\r\n" HOST "X: %s\r\n\r\n", huge));
  for (guint i = 0; i < 200; i++)
    close (client_connect (port_of (state)));
  assert_true (wait_fds (fds));
  expect (ask (state, "GET /healthz HTTP/1.1\r\n" HOST "\r\n"), 200, "ok");
}

/* --------------------------------------------------------------------------- clients that disappear */

/* Sends @text, waits until the call has begun, vanishes; the call must learn of it and all be given back. */
static void
vanish (void **state, const char *text, gboolean reset)
{
  guint fds = count_fds (), begun = service_seen ()->begun, cancelled = service_seen ()->cancelled;
  int fd = client_connect (port_of (state));
  assert_true (client_send (fd, text));
  assert_true (service_wait_begun (begun + 1));
  if (reset)
    setsockopt (fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof (struct linger));
  close (fd);
  assert_true (service_wait_cancelled (cancelled + 1));
  assert_true (wait_fds (fds));
}

static void
test_vanish (void **state)
{
  static const char *const requests[] = {
    "GET /hang/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /hang-closed/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /source/10000000000/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "POST /sink/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 1000000\r\n\r\nhalf",
    "POST /sink/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "POST /hang/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 4\r\n\r\nhalf",
    "POST /hang-closed/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 400000\r\n\r\nhalf",
    "POST /hang-closed/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE
    "Expect: 100-continue\r\nContent-Length: 400000\r\n\r\n",
  };
  for (guint i = 0; i < G_N_ELEMENTS (requests); i++)
    {
      vanish (state, requests[i], FALSE);
      vanish (state, requests[i], TRUE);
    }
  assert_false (service_seen ()->eof_uncancelled);
  expect (ask (state, "GET /healthz HTTP/1.1\r\n" HOST "\r\n"), 200, "ok");
}

/* Beyond the limit of connections, clients wait their turn; they are not refused. */
static void
test_connection_limit (void **state)
{
  Served *served = served_new ("http://127.0.0.1:0", "max_connections", "8", NULL);
  int fds[8], waiting;
  struct pollfd wait = { .events = POLLIN };
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = client_connect (served->port);
      assert_true (client_send (fds[i], "GET /healthz HTTP/1.1\r\n" HOST "\r\n"));
      expect (client_read (fds[i]), 200, NULL);
    }
  waiting = wait.fd = client_connect (served->port);
  assert_true (client_send (waiting, "GET /healthz HTTP/1.1\r\n" HOST "\r\n"));
  assert_int_equal (poll (&wait, 1, 300), 0);
  close (fds[3]);
  expect (client_read (waiting), 200, NULL);
  close (waiting);
  fds[3] = client_connect (served->port);
  assert_true (client_send (fds[3], "GET /healthz HTTP/1.1\r\n" HOST "\r\n"));
  expect (client_read (fds[3]), 200, NULL);
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
  served_free (served);
}

static void
test_half_requests (void **state)
{
  static const char whole[] = "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\n\r\nbod";
  guint fds = count_fds ();
  for (guint length = 1; length < sizeof whole; length += 5)
    {
      int fd = client_connect (port_of (state));
      assert_true (client_send_bytes (fd, whole, length));
      close (fd);
    }
  assert_true (wait_fds (fds));
  assert_int_equal (service_seen ()->begun, 0);
}

/* Silence, half a header, half a body, a drip: each is dropped within the times that are configured. */
static void
test_silence (void **state)
{
  static const char *const starts[]
      = { "", "GET / HT", "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\n\r\nbo",
          "POST /sink/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 150000\r\n\r\nbo" };
  int fds[G_N_ELEMENTS (starts)];
  for (guint i = 0; i < G_N_ELEMENTS (starts); i++)
    {
      fds[i] = client_connect (port_of (state));
      assert_true (client_send (fds[i], starts[i]));
    }
  for (guint i = 0; i < G_N_ELEMENTS (starts); i++)
    {
      assert_true (client_sees_close (fds[i]));
      close (fds[i]);
    }
  assert_true (service_wait_cancelled (1));
}

static void
test_drip (void **state)
{
  static const char drip[]
      = "GET /healthz HTTP/1.1\r\nHost: x\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  int fd = client_connect (port_of (state));
  struct pollfd wait = { .fd = fd, .events = POLLIN };
  guint sent = 0;
  /* A byte each 300 ms is never idle for a second, and yet it ends. */
  while (sent < sizeof drip - 1 && client_send_bytes (fd, drip + sent, 1))
    {
      sent++;
      if (poll (&wait, 1, 300) > 0)
        break;
    }
  assert_in_range (sent, 2, 40);
  assert_true (client_sees_close (fd));
  close (fd);
}

/* -------------------------------------------------------------------------------------------- JSON */

static Answer *
call_json (void **state, const char *method, const char *extra, const char *body)
{
  return ask (state,
              "POST /api/v1/%s HTTP/1.1\r\n" HOST "Content-Type: application/json; charset=utf-8\r\n%s"
              "Content-Length: %u\r\n\r\n%s",
              method, extra, (guint) strlen (body), body);
}

static void
test_json (void **state)
{
  Answer *answer = call_json (state, "Repository/Create",
                              "X-Gitstead-Call-Id: 00112233445566778899aabbccddeeff\r\nX-Gitstead-Timeout-Ms: 5000\r\n",
                              "{\"a\":1}");
  expect_header (answer, "Content-Type", "application/json");
  expect (answer, 200, "{\"got\":{\"a\":1}}");
  assert_string_equal (service_seen ()->method, "Repository/Create");
  assert_int_equal (service_seen ()->timeout_us, 5000000);
  assert_memory_equal (service_seen ()->call_id.bytes,
                       "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16);
  answer = call_json (state, "Repository/Create", "", "{\"busy\":1}");
  expect_header (answer, "Retry-After", "3");
  assert_string_equal (answer_text (answer),
                       "{\"code\":\"BUSY\",\"message\":\"too much \\\"at once\\\"\\u000a\",\"retry\":"
                       "\"same\",\"retry_after_ms\":2500}\n");
  expect (answer, 503, NULL);
  expect (call_json (state, "Repository/Create", "", "\"denied\""), 401, "PERMISSION_DENIED");
  expect (call_json (state, "Repository/Create", "Authorization: Bearer x\r\n", "\"denied\""), 403,
          "PERMISSION_DENIED");
  expect (call_json (state, "No/Such", "", "{}"), 404, "\"code\":\"NOT_FOUND\"");
  expect (call_json (state, "Git/UploadPack", "", "{}"), 501, "UNIMPLEMENTED");
  answer = ask (state, "GET /api/v1/Repository/Create HTTP/1.1\r\n" HOST "\r\n");
  expect_header (answer, "Allow", "POST");
  expect (answer, 405, "\"retry\":\"never\"");
  expect (ask (state, "POST /api/v1/Repository/Create HTTP/1.1\r\n" HOST
                      "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
          415, "JSON");
  expect (ask (state, "POST /api/v1/Repository/Create HTTP/1.1\r\n" HOST
                      "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"),
          100, NULL);
}

/* ---------------------------------------------------------------------------------------- lifetimes */

static void
test_timeout (void **state)
{
  /* The host is given the time; if it does not answer within it and a grace, the client is answered all the same. */
  Answer *answer = post (state, "hang/git-upload-pack", "X-Gitstead-Timeout-Ms: 1\r\n", "0000");
  assert_int_equal (service_seen ()->timeout_us, 1000);
  expect (answer, 504, NULL);
  assert_true (service_wait_cancelled (1));
}

static void
test_drain (void **state)
{
  Served *served = *state;
  int busy = client_connect (port_of (state)), idle = client_connect (port_of (state));
  assert_true (client_send (idle, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"));
  expect (client_read (idle), 200, NULL);
  assert_true (
      client_send (busy, "POST /gated/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\n\r\nbody"));
  assert_true (service_wait_begun (1));
  served_drain (served);
  assert_int_equal (client_connect (port_of (state)), -1);
  assert_true (client_send (idle, "GET /readyz HTTP/1.1\r\n" HOST "\r\n"));
  expect (client_read (idle), 503, "shutting down");
  assert_true (client_sees_close (idle));
  service_open_gate ();
  expect (client_read (busy), 200, "4 bytes");
  close (busy);
  close (idle);
}

/* Stop with requests in every state: nothing hangs, nothing is left. */
static void
test_stop_busy (void **state)
{
  static const char *const requests[] = {
    "",
    "GET /ha",
    "GET /hang/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /hang-closed/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "GET /source/10000000000/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "POST /sink/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 1000000\r\n\r\nhalf",
    "POST /hang-closed/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 400000\r\n\r\nhalf",
    "POST /gated/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "Content-Length: 400000\r\n\r\nhalf",
  };
  int fds[G_N_ELEMENTS (requests)];
  for (guint i = 0; i < G_N_ELEMENTS (requests); i++)
    {
      fds[i] = client_connect (port_of (state));
      assert_true (client_send (fds[i], requests[i]));
    }
  assert_true (service_wait_begun (6));
  served_stop (*state);
  assert_int_equal (service_seen ()->done, 6);
  assert_int_equal (service_seen ()->cancelled, 6);
  for (guint i = 0; i < G_N_ELEMENTS (requests); i++)
    close (fds[i]);
}

static void
test_log_and_metrics (void **state)
{
  Served *served = *state;
  g_autofree char *log = NULL;
  g_autofree char *huge = g_strnfill (100000, 'a');
  expect (post (state, "echo/git-upload-pack", "Authorization: Basic cm9ib3Q6czNjcmV0\r\n", "four"), 200, "four");
  expect (ask (state, "GET /a%%0ab HTTP/1.1\r\n" HOST "\r\n"), 400, NULL);
  /* Refused by the library, before our handler saw it. */
  expect (ask (state, "GET / HTTP/1.1\r\n" HOST "X: %s\r\n\r\n", huge), 431, NULL);
  served_stop (served);
  log = fake_host_log_text (served->fake);
  assert_int_equal (fake_host_logged (served->fake, "http.request"), 3);
  assert_non_null (strstr (log, "status=431"));
  assert_non_null (strstr (log, "method=POST"));
  assert_non_null (strstr (log, "path=/echo/git-upload-pack"));
  assert_non_null (strstr (log, "status=200"));
  assert_null (strstr (log, "s3cret"));
  assert_null (strstr (log, "cm9ib3Q6czNjcmV0"));
  assert_true (fake_host_metric (served->fake, "gitstead_http_requests_total", "route=\"upload-pack\",status=\"2xx\"")
               == 1);
  assert_true (fake_host_metric (served->fake, "gitstead_http_requests_total", "route=\"other\",status=\"4xx\"") == 1);
  assert_true (fake_host_metric (served->fake, "gitstead_http_bytes_total", "direction=\"in\"") == 4);
  assert_true (fake_host_metric (served->fake, "gitstead_http_request_seconds", "route=\"upload-pack\"") == 1);
}

/* Many clients at once, of all sorts; run under ThreadSanitizer this is the race test. */
typedef struct
{
  guint16 port;
  guint seed;
  gint failed; /* atomic */
} Crowd;

static void *
crowd (void *user)
{
  Crowd *one = user;
  static const char *const requests[] = {
    "GET /source/300000/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Content-Length: 4\r\n\r\nbody",
    "POST /echo/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST /few/git-upload-pack HTTP/1.1\r\n" HOST UPLOAD "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "GET /healthz HTTP/1.1\r\n" HOST "\r\n"
  };
  for (guint i = 0; i < 40; i++)
    {
      guint which = (one->seed + i) % G_N_ELEMENTS (requests);
      int fd = client_connect (one->port);
      client_send (fd, requests[which]);
      if ((one->seed * 7 + i) % 6 != 0) /* else: leave without waiting */
        {
          Answer *answer = client_read (fd);
          if (answer->status != 200 || !answer->whole)
            __atomic_store_n (&one->failed, (gint) answer->status + 1, __ATOMIC_RELEASE);
          answer_free (answer);
        }
      close (fd);
    }
  return NULL;
}

static void
test_crowd (void **state)
{
  Crowd crowds[8];
  GsThread threads[G_N_ELEMENTS (crowds)];
  guint fds = count_fds ();
  for (guint i = 0; i < G_N_ELEMENTS (crowds); i++)
    {
      crowds[i] = (Crowd){ port_of (state), i, 0 };
      assert_int_equal (gs_thread_start (&threads[i], "crowd", crowd, &crowds[i]), 0);
    }
  for (guint i = 0; i < G_N_ELEMENTS (crowds); i++)
    {
      gs_thread_join (threads[i]);
      assert_int_equal (crowds[i].failed, 0);
    }
  assert_true (wait_fds (fds));
}

#define TEST(name_) cmocka_unit_test_setup_teardown (name_, set_up, tear_down)
#define TEST_SMALL(name_) cmocka_unit_test_setup_teardown (name_, set_up_small, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    TEST (test_pages),
    cmocka_unit_test (test_every_address),
    TEST (test_head),
    TEST (test_keep_alive),
    TEST (test_advertise),
    TEST (test_refusals),
    TEST (test_statuses),
    TEST (test_fail_output),
    TEST (test_grandchild),
    TEST (test_head_bytes),
    TEST (test_chunked),
    TEST (test_expect_continue),
    TEST (test_early_refusal),
    TEST (test_gzip),
    TEST (test_bad_gzip),
    TEST_SMALL (test_bomb),
    TEST_SMALL (test_limits),
    TEST (test_reader_stops),
    TEST (test_chatty),
    TEST (test_flood),
    TEST (test_slow_reader),
    TEST (test_guard),
    TEST (test_garbage),
    TEST (test_vanish),
    cmocka_unit_test (test_connection_limit),
    TEST (test_half_requests),
    TEST_SMALL (test_silence),
    TEST_SMALL (test_drip),
    TEST (test_json),
    TEST (test_timeout),
    TEST (test_drain),
    TEST (test_stop_busy),
    TEST (test_log_and_metrics),
    TEST (test_crowd),
  };
  return cmocka_run_group_tests_name ("http", tests, NULL, NULL);
}
