/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes whose replicas change their places between the vote and the decision: they go on with the others, or with the one that
 * was moved as long as nothing was decided since, or begin again; and what cannot begin again is refused with nothing done.
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
#define REF "refs/heads/x"
#define PUSH REF " " ONES

/* The three disks have it, or have not, as @has says; none keeps a lock. */
static void
assert_held_by (Cluster *cluster, guint has)
{
  for (guint i = 0; i < N_DISKS; i++)
    {
      const char *value = g_hash_table_lookup (cluster->disks[i].refs, REF);
      assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
      if ((has & 1u << i) != 0)
        assert_string_equal (value, ONES);
      else
        assert_null (value);
    }
}

static void
update (Cluster *cluster, guint64 generation)
{
  Answer answer;
  cluster_update (cluster, REF, NULL, ONES, &answer);
  assert_true (answer_wait (&answer));
  if (answer.code != GS_OK)
    fail_msg ("the write failed: %s", answer.message);
  assert_int_equal (answer.generation, generation);
  answer_clear (&answer);
  cluster_stop (cluster);
}

static void
one_of_three (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->swap = 1;
  update (cluster, 4);
  assert_held_by (cluster, 1u << 1 | 1u << 2);
  assert_int_equal (cluster->gone, 1);
  cluster_free (cluster);
}

/* It was the only one, and another one has its place: nothing was decided there, so it counts again. */
static void
the_only_one (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->n_replicas = 2;
  cluster->gone = 1u << 1;
  cluster->swap = 1u | 1u << 1;
  update (cluster, 4);
  assert_held_by (cluster, 1u);
  assert_int_equal (cluster->gone, 0);
  assert_int_equal (cluster->replica_generations[0], 4);
  assert_int_equal (cluster->replica_generations[1], 3);
  assert_int_equal (cluster->jobs & 1u << 1, 1u << 1); /* which is behind now */
  cluster_free (cluster);
}

static void
written_since (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->n_replicas = 2;
  cluster->gone = 1u << 1;
  cluster->swap = 1u | 1u << 1;
  cluster->swap_writes = 2;
  update (cluster, 6);
  assert_held_by (cluster, 1u << 1);
  assert_int_equal (cluster->gone, 1);
  assert_int_equal (cluster->disks[0].n_aborted, 1);
  cluster_free (cluster);
}

/* Its bytes are gone: the client sends them again. */
static void
push_written_since (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  Answer answer;
  cluster->n_replicas = 2;
  cluster->gone = 1u << 1;
  cluster->swap = 1u | 1u << 1;
  cluster->swap_writes = 1;
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_true (answer.code == GS_ERROR_ABORTED || answer.code == GS_ERROR_UNAVAILABLE);
  answer_clear (&answer);
  fake_stream_free (stream);
  close (from_server);
  cluster_stop (cluster);
  assert_held_by (cluster, 0);
  assert_int_equal (cluster->generation, 4);
  assert_int_equal (cluster->decisions->len, 0);
  cluster_free (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (one_of_three), cmocka_unit_test (the_only_one),
                                      cmocka_unit_test (written_since), cmocka_unit_test (push_written_since) };
  return cmocka_run_group_tests_name ("moved", tests, NULL, NULL);
}
