/* SPDX-License-Identifier: Apache-2.0 */
/* A push to several replicas, one of which does not know when to stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PUSH "refs/heads/x 1111111111111111111111111111111111111111"

static glong
resident_kib (void)
{
  struct rusage usage;
  getrusage (RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

/* What a node says is kept until the end of the write is known: as much as can be of use, and no more. */
static void
endless_report (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  glong before;
  Answer answer;
  cluster->disks[1].chatter = 600u << 20;
  stream->stream.complete = TRUE;
  before = resident_kib ();
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_OK);
  answer_clear (&answer);
  fake_stream_free (stream);
  close (from_server);
  cluster_stop (cluster); /* waits for the one that still talks */
  if (g_getenv ("GITSTEAD_TEST_SANITIZED") == NULL)
    assert_true (resident_kib () - before < 250 * 1024);
  cluster_free (cluster);
}

/* Git writes a packet's head and what is in it one after the other: who is cancelled between them has said half a packet. */
static void
half_a_report (void **state)
{
  static const char whole[] = "0013\1" "000eunpack ok\n" "0000";
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  char heard[100];
  gsize len = 0;
  ssize_t n;
  Answer answer;
  cluster->disks[0].last_words = "0013\1";
  cluster->disks[1].last_words = whole;
  cluster->disks[2].last_words = "0013\1" "000eunp";
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNAVAILABLE);
  answer_clear (&answer);
  fake_stream_free (stream);
  while (len < sizeof heard && (n = read (from_server, heard + len, sizeof heard - len)) > 0)
    len += (gsize) n;
  assert_int_equal (len, strlen (whole));
  assert_memory_equal (heard, whole, len);
  close (from_server);
  cluster_stop (cluster);
  cluster_free (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (endless_report), cmocka_unit_test (half_a_report) };
  return cmocka_run_group_tests_name ("push", tests, NULL, NULL);
}
