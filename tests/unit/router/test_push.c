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

static void
assert_push_says (Cluster *cluster, GsErrorCode code, const char *said)
{
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  char heard[100];
  gsize len = 0;
  ssize_t n;
  Answer answer;
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, code);
  answer_clear (&answer);
  fake_stream_free (stream);
  while (len < sizeof heard && (n = read (from_server, heard + len, sizeof heard - len)) > 0)
    len += (gsize) n;
  close (from_server);
  assert_int_equal (len, strlen (said));
  assert_memory_equal (heard, said, len);
  cluster_stop (cluster); /* what it tells the others is told */
  for (int i = 0; i < N_DISKS; i++)
    assert_false (cluster->disks[i].drops_unsaid);
}

/* Git writes a packet's head and what is in it one after the other: who is cancelled between them has said half a packet. */
static void
half_a_report (void **state)
{
  static const char whole[] = "0013\1" "000eunpack ok\n" "0000";
  Cluster *cluster = cluster_new ("majority");
  cluster->disks[0].last_words = "0013\1";
  cluster->disks[1].last_words = whole;
  cluster->disks[2].last_words = "0013\1" "000eunp";
  assert_push_says (cluster, GS_ERROR_UNAVAILABLE, whole);
  cluster_free (cluster);
}

/*
 * Locks are held on two of three: the third one could take it, and is told to drop it. The client hears from one who refused,
 * not from the one that did all well: that one would have said "ok".
 */
static void
refused_by_others (void **state)
{
  for (int fine = 0; fine < N_DISKS; fine++)
    {
      Cluster *cluster = cluster_new ("majority");
      for (int i = 0; i < N_DISKS; i++)
        cluster->disks[i].refuses = i != fine;
      assert_push_says (cluster, GS_OK, "0009ng no" "0000");
      cluster_free (cluster);
    }
}

/* It says that all went well, as they once did, and nothing did: the client hears nothing rather than that. */
static void
wrong_words (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->disks[0].last_words = "0013\1";
  cluster->disks[1].last_words = "0013ok refs/heads/x" "0000";
  cluster->disks[2].last_words = "0013\1";
  assert_push_says (cluster, GS_ERROR_UNAVAILABLE, "");
  cluster_free (cluster);

  /* What a hook says of other refs is not that. */
  cluster = cluster_new ("majority");
  cluster->disks[0].last_words = "0013\1";
  cluster->disks[1].last_words = "001dng refs/heads/x ok refs/y" "0000";
  cluster->disks[2].last_words = "0013\1";
  assert_push_says (cluster, GS_OK, "001dng refs/heads/x ok refs/y" "0000");
  cluster_free (cluster);
}

/* None refused it and too few agree, as when they do not start from the same value: each is told why it is to be dropped. */
static void
votes_that_differ (void **state)
{
  Cluster *cluster = cluster_new ("all");
  g_hash_table_replace (cluster->disks[1].refs, g_strdup ("refs/heads/x"), g_strdup ("2222222222222222222222222222222222222222"));
  assert_push_says (cluster, GS_OK, "001cng refs/heads/x given up" "0000");
  cluster_free (cluster);
}

/* Who voted is lost before it could tell, and the write is decided: nobody says that it was refused, though one did. */
static void
decided_and_lost (void **state)
{
  for (int refuser = 0; refuser < N_DISKS; refuser++)
    {
      Cluster *cluster = cluster_new ("majority");
      for (int i = 0; i < N_DISKS; i++)
        {
          cluster->disks[i].refuses = i == refuser;
          cluster->disks[i].fails_commit = i != refuser;
        }
      assert_push_says (cluster, GS_OK, "");
      cluster_free (cluster);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (endless_report), cmocka_unit_test (half_a_report),
                                      cmocka_unit_test (refused_by_others), cmocka_unit_test (votes_that_differ), cmocka_unit_test (wrong_words),
                                      cmocka_unit_test (decided_and_lost) };
  return cmocka_run_group_tests_name ("push", tests, NULL, NULL);
}
