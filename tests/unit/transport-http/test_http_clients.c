/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_clients.c - transport/http over raw sockets: what it refuses and survives of clients; JSON calls; its own end. */
#include "case.h"

#include <gitstead/thread.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

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

int
main (void)
{
  const struct CMUnitTest tests[] = {
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
  return cmocka_run_group_tests_name ("http-clients", tests, NULL, NULL);
}
