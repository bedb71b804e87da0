/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store goes silent in the middle of a decision: the caller hears so in bounded time, and what is staged
 * comes to its end when the store is back, while the server runs on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#include <string.h>
#include <unistd.h>

#define ONES "1111111111111111111111111111111111111111"
#define TWOS "2222222222222222222222222222222222222222"
#define PUSH "refs/heads/x " ONES

static gboolean
asked_behind (Cluster *cluster)
{
  return cluster->n_asked >= 4;
}

static gboolean
all_aborted (Cluster *cluster)
{
  return cluster->disks[0].n_aborted == 1 && cluster->disks[1].n_aborted == 1 && cluster->disks[2].n_aborted == 1;
}

static gboolean
all_committed (Cluster *cluster)
{
  return cluster->disks[0].n_committed == 1 && cluster->disks[1].n_committed == 1 && cluster->disks[2].n_committed == 1;
}

static guint
locks (Cluster *cluster)
{
  guint n = 0;
  for (int i = 0; i < N_DISKS; i++)
    n += g_hash_table_size (cluster->disks[i].locks);
  return n;
}

static void
go_silent (Cluster *cluster, gboolean takes)
{
  cluster->silent = TRUE;
  cluster->silent_takes = takes;
  cluster->skew_step_us = 40 * G_USEC_PER_SEC; /* the caller's minute is over after a look or two at the clock */
}

static void
come_back (Cluster *cluster)
{
  gs_mutex_lock (&cluster->lock);
  cluster->silent = FALSE;
  gs_mutex_unlock (&cluster->lock);
}

/* One write, by call or by push; whether the store took the decision. */
static void
left_open (gboolean push, gboolean takes)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  g_autoptr (FakeStream) stream = NULL;
  int from_server = -1;
  Answer answer, later;
  go_silent (cluster, takes);
  if (push)
    {
      stream = fake_stream_pipes (head, NULL, &from_server);
      stream->stream.complete = TRUE;
      cluster_push (cluster, &stream->stream, &answer);
    }
  else
    cluster_update (cluster, "refs/heads/x", NULL, ONES, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNKNOWN);
  assert_int_equal (locks (cluster), N_DISKS);
  /* Somebody goes on asking. */
  assert_true (cluster_eventually (cluster, asked_behind));
  come_back (cluster);
  assert_true (cluster_eventually (cluster, takes ? all_committed : all_aborted));
  assert_int_equal (locks (cluster), 0);
  if (takes)
    assert_string_equal (cluster_value (cluster, "refs/heads/x"), ONES);
  /* The ref is free again. */
  cluster_update (cluster, "refs/heads/x", NULL, TWOS, &later);
  assert_true (answer_wait (&later));
  assert_int_equal (later.code, GS_OK);
  answer_clear (&later);
  answer_clear (&answer);
  if (from_server >= 0)
    close (from_server);
  cluster_stop (cluster);
  cluster_free (cluster);
}

static void
call_undecided (void **state)
{
  left_open (FALSE, FALSE);
}

static void
call_decided (void **state)
{
  left_open (FALSE, TRUE);
}

static void
push_undecided (void **state)
{
  left_open (TRUE, FALSE);
}

static void
push_decided (void **state)
{
  left_open (TRUE, TRUE);
}

static gboolean
first_committed (Cluster *cluster)
{
  return cluster->disks[0].n_committed == 1;
}

/* One participant has the caller's stream itself, which is gone when the write comes to its end. */
static void
push_alone (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  Answer answer;
  cluster->n_replicas = 1;
  go_silent (cluster, TRUE);
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNKNOWN);
  fake_stream_free (stream);
  close (from_server);
  come_back (cluster);
  assert_true (cluster_eventually (cluster, first_committed));
  assert_int_equal (locks (cluster), 0);
  answer_clear (&answer);
  cluster_stop (cluster);
  cluster_free (cluster);
}

/* The server stops while the store is still silent: nothing waits for it, and nothing is dropped that may be decided. */
static void
stop_while_silent (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  g_autoptr (FakeStream) stream = fake_stream_pipes (head, NULL, &from_server);
  Answer answer;
  go_silent (cluster, FALSE);
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNKNOWN);
  cluster_stop (cluster);
  for (int i = 0; i < N_DISKS; i++)
    assert_int_equal (cluster->disks[i].n_committed + cluster->disks[i].n_aborted, 0);
  assert_int_equal (locks (cluster), N_DISKS);
  answer_clear (&answer);
  close (from_server);
  cluster_free (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (call_undecided), cmocka_unit_test (call_decided),   cmocka_unit_test (push_undecided),
          cmocka_unit_test (push_decided),   cmocka_unit_test (push_alone), cmocka_unit_test (stop_while_silent) };
  return cmocka_run_group_tests_name ("open", tests, NULL, NULL);
}
