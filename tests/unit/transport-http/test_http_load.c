/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_load.c - much data and many connections: the memory stays where it was. */
#include "client.h"
#include "service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: x\r\n"
#define RECEIVE "Content-Type: application/x-git-receive-pack-request\r\n"
#define MIB (1024 * 1024)
#define STREAM_BYTES (200 * MIB)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEASURE 0 /* their shadow memory and quarantine say nothing about ours */
#else
#define MEASURE 1
#endif

static int
set_up (void **state)
{
  *state = served_new ("http://127.0.0.1:0", NULL);
  return 0;
}

static int
tear_down (void **state)
{
  served_free (*state);
  return 0;
}

/* A line of /proc/self/status in KiB. */
static guint64
status_kib (const char *name)
{
  g_autofree char *text = NULL;
  const char *at;
  assert_true (g_file_get_contents ("/proc/self/status", &text, NULL, NULL));
  at = strstr (text, name);
  assert_non_null (at);
  return g_ascii_strtoull (at + strlen (name) + 1, NULL, 10);
}

/* Lets the peak begin anew. */
static void
reset_peak (void)
{
  int fd = open ("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  assert_true (fd >= 0);
  assert_int_equal (write (fd, "5", 1), 1);
  close (fd);
}

static void
expect_peak (guint64 before_kib, guint64 more_kib)
{
  guint64 peak = status_kib ("VmHWM:");
  print_message ("# peak %" G_GUINT64_FORMAT " KiB, before %" G_GUINT64_FORMAT " KiB\n", peak, before_kib);
  if (MEASURE)
    assert_true (peak < before_kib + more_kib);
}

static void
upload (void **state, gboolean chunked)
{
  static char block[MIB];
  Served *served = *state;
  int fd = client_connect (served->port);
  g_autofree char *framing = chunked ? g_strdup ("Transfer-Encoding: chunked\r\n")
                                     : g_strdup_printf ("Content-Length: %d\r\n", STREAM_BYTES);
  g_autofree char *header = g_strdup_printf ("POST /sink/git-receive-pack HTTP/1.1\r\n" HOST RECEIVE "%s\r\n", framing);
  guint64 before = status_kib ("VmRSS:");
  g_autoptr (Answer) answer = NULL;
  reset_peak ();
  assert_true (client_send (fd, header));
  for (guint i = 0; i < STREAM_BYTES / sizeof block; i++)
    {
      if (chunked)
        assert_true (client_send (fd, "100000\r\n"));
      assert_true (client_send_bytes (fd, block, sizeof block));
      if (chunked)
        assert_true (client_send (fd, "\r\n"));
    }
  if (chunked)
    assert_true (client_send (fd, "0\r\n\r\n"));
  answer = client_read (fd);
  assert_int_equal (answer->status, 200);
  assert_string_equal (answer_text (answer), "209715200 bytes");
  close (fd);
  expect_peak (before, 16 * 1024);
}

static void
test_upload (void **state)
{
  upload (state, FALSE);
}

static void
test_upload_chunked (void **state)
{
  upload (state, TRUE);
}

static void
test_download (void **state)
{
  static char block[MIB];
  Served *served = *state;
  int fd = client_connect (served->port);
  guint64 before = status_kib ("VmRSS:"), total = 0;
  gboolean ended = FALSE;
  reset_peak ();
  assert_true (client_send (fd, "GET /source/209715200/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST
                                "Git-Protocol: version=2\r\nConnection: close\r\n\r\n"));
  for (;;)
    {
      ssize_t n = recv (fd, block, sizeof block, 0);
      if (n <= 0)
        break;
      total += (guint64) n;
      ended = n >= 5 && memcmp (block + n - 5, "0\r\n\r\n", 5) == 0;
    }
  assert_true (ended);
  assert_true (total > STREAM_BYTES);
  close (fd);
  expect_peak (before, 16 * 1024);
}

/* A client that does not read holds its own call up, and no memory. */
static void
test_stalled_readers (void **state)
{
  Served *served = *state;
  int fds[100];
  guint64 before = status_kib ("VmRSS:");
  reset_peak ();
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    {
      fds[i] = client_connect (served->port);
      assert_true (
          client_send (fds[i], "GET /source/209715200/info/refs?service=git-upload-pack HTTP/1.1\r\n" HOST "\r\n"));
    }
  assert_true (service_wait_begun (G_N_ELEMENTS (fds)));
  for (guint i = 0; i < G_N_ELEMENTS (fds); i++)
    close (fds[i]);
  assert_true (service_wait_done (G_N_ELEMENTS (fds)));
  expect_peak (before, 64 * 1024);
}

/* Ten thousand idle keep-alive connections in less than 400 MB. */
static void
test_idle_connections (void **state)
{
  Served *served = *state;
  struct rlimit limit;
  guint count = 10000;
  g_autofree int *fds = NULL;
  assert_int_equal (getrlimit (RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  assert_int_equal (setrlimit (RLIMIT_NOFILE, &limit), 0);
  /* Both ends of each are ours. */
  count = (guint) MIN (count, (limit.rlim_cur - 200) / 2);
  if (!MEASURE)
    count = MIN (count, 500);
  fds = g_new0 (int, count);
  for (guint i = 0; i < count; i++)
    {
      g_autoptr (Answer) answer = NULL;
      fds[i] = client_connect (served->port);
      assert_true (fds[i] >= 0);
      assert_true (client_send (fds[i], "GET /healthz HTTP/1.1\r\n" HOST "\r\n"));
      answer = client_read (fds[i]);
      assert_int_equal (answer->status, 200);
    }
  print_message ("# %u connections: %" G_GUINT64_FORMAT " KiB resident\n", count, status_kib ("VmRSS:"));
  if (MEASURE)
    assert_true (status_kib ("VmRSS:") < 400 * 1000);
  /* They are alive, not just open. */
  for (guint i = 0; i < count; i += 97)
    {
      g_autoptr (Answer) answer = NULL;
      assert_true (client_send (fds[i], "GET /healthz HTTP/1.1\r\n" HOST "\r\n"));
      answer = client_read (fds[i]);
      assert_int_equal (answer->status, 200);
    }
  for (guint i = 0; i < count; i++)
    close (fds[i]);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_upload, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_upload_chunked, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_download, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_stalled_readers, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_idle_connections, set_up, tear_down),
  };
  return cmocka_run_group_tests_name ("http-load", tests, NULL, NULL);
}
