/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c - transport/http over raw sockets: pages, answers to git, and what comes in a body. */
#include "case.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

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
  };
  return cmocka_run_group_tests_name ("http", tests, NULL, NULL);
}
