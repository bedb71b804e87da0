/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes while the policy of their repository changes, and while its replicas are behind: what is staged goes on by the new policy,
 * and who is repaired within a moment is waited for.
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

/* All three were asked, and another write left the last one behind, by a policy that does not need it. */
static Cluster *
overtaken (void)
{
  Cluster *cluster = cluster_new ("all");
  cluster->lower_at_decision = 1u << 2;
  cluster->policy_at_decision = "majority";
  return cluster;
}

/* Sets the ref; what the caller hears is @code, with @words if it fails. */
static void
assert_update (Cluster *cluster, GsErrorCode code, const char *words)
{
  Answer answer;
  cluster_update (cluster, REF, NULL, ONES, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, code);
  assert_true (code == GS_OK || strstr (answer.message, words) != NULL);
  answer_clear (&answer);
}

static gboolean
dropped_on_third (Cluster *cluster)
{
  return cluster->disks[2].n_aborted == 1 && g_hash_table_size (cluster->disks[2].locks) == 0;
}

static void
assert_decided_by_two (Cluster *cluster)
{
  const Decision *decision;
  assert_true (cluster_eventually (cluster, dropped_on_third));
  cluster_stop (cluster);
  assert_int_equal (cluster->decisions->len, 1);
  decision = cluster->decisions->pdata[0];
  assert_int_equal (g_strv_length (decision->voters), 2);
  for (int i = 0; i < N_DISKS; i++)
    {
      assert_int_equal (cluster->disks[i].n_staged, 1);
      assert_int_equal (cluster->disks[i].n_committed, i < 2);
      assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
    }
  assert_true ((cluster->jobs >> 2 & 1) != 0);
  cluster_free (cluster);
}

static void
call_goes_on (void **state)
{
  Cluster *cluster = overtaken ();
  Answer answer;
  cluster_update (cluster, REF, NULL, ONES, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_OK);
  assert_int_equal (answer.generation, 4);
  answer_clear (&answer);
  assert_decided_by_two (cluster);
}

static void
push_goes_on (void **state)
{
  Cluster *cluster = overtaken ();
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  Answer answer;
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_OK);
  assert_int_equal (answer.generation, 4);
  answer_clear (&answer);
  fake_stream_free (stream);
  close (from_server);
  assert_decided_by_two (cluster);
}

/* The new policy wants one that refused it before: nobody is asked anew, and too few are left. */
static void
new_policy_wants_more (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autoptr (GBytes) head = g_bytes_new_static (PUSH, strlen (PUSH));
  int from_server;
  FakeStream *stream = fake_stream_pipes (head, NULL, &from_server);
  Answer answer;
  cluster->disks[0].refuses = TRUE;
  cluster->lower_at_decision = 1u << 2;
  cluster->policy_at_decision = "majority";
  stream->stream.complete = TRUE;
  cluster_push (cluster, &stream->stream, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (cluster->decisions->len, 0);
  answer_clear (&answer);
  fake_stream_free (stream);
  close (from_server);
  cluster_stop (cluster);
  for (int i = 0; i < N_DISKS; i++)
    {
      assert_int_equal (cluster->disks[i].n_committed, 0);
      assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
      assert_false (cluster->disks[i].drops_unsaid); /* also who is not wanted hears why */
    }
  cluster_free (cluster);
}

static void
repaired_in_time (void **state)
{
  Cluster *cluster = cluster_new ("all");
  cluster->replica_generations[1] = 2;
  cluster->repaired_at = 4;
  assert_update (cluster, GS_OK, NULL);
  cluster_stop (cluster);
  assert_string_equal (cluster_value (cluster, REF), ONES);
  cluster_free (cluster);
}

/* Where one that missed something has nothing to change, the write is not made, and nobody is told that it was. */
static void
not_of_one_mind (void **state)
{
  Cluster *cluster = cluster_new ("all");
  g_hash_table_replace (cluster->disks[1].refs, g_strdup (REF), g_strdup (ONES));
  cluster->disks[1].generation = 2;
  assert_update (cluster, GS_ERROR_UNAVAILABLE, "try again");
  for (int i = 0; i < N_DISKS; i++)
    g_hash_table_replace (cluster->disks[i].refs, g_strdup (REF), g_strdup (ONES));
  assert_update (cluster, GS_OK, NULL);
  cluster_stop (cluster);
  assert_int_equal (cluster->decisions->len, 0);
  cluster_free (cluster);
}

/* One is behind and one is away: with all that are there repaired it would still be too few. */
static void
repair_is_not_enough (void **state)
{
  Cluster *cluster = cluster_new ("all");
  cluster->replica_generations[1] = 2;
  cluster->disks[2].away = TRUE;
  assert_update (cluster, GS_ERROR_UNAVAILABLE, "are needed");
  assert_true (cluster->n_rows < 6);
  cluster_stop (cluster);
  cluster_free (cluster);
}

/* Each waits on a thread: no more of them than others can spare. */
static void
only_so_many_wait (void **state)
{
  Cluster *cluster = cluster_new ("all");
  for (int i = 0; i < GSI_WAITING_MAX; i++)
    assert_true (gsi_router_wait_begin (cluster->router));
  cluster->replica_generations[1] = 2;
  assert_update (cluster, GS_ERROR_UNAVAILABLE, "are needed");
  assert_true (cluster->n_rows < 6);
  gsi_router_wait_end (cluster->router);
  cluster->repaired_at = 4;
  assert_update (cluster, GS_OK, NULL);
  cluster_stop (cluster);
  cluster_free (cluster);
}

/* It has less time than the wait: it hears what is missing, not that its time is over. */
static void
impatient (void **state)
{
  Cluster *cluster = cluster_new ("all");
  cluster->replica_generations[1] = 2;
  cluster->patience_us = 3 * G_USEC_PER_SEC / 2;
  assert_update (cluster, GS_ERROR_UNAVAILABLE, "has to be repaired first");
  cluster_stop (cluster);
  cluster_free (cluster);
}

/* One that cannot be reached is not repaired in a moment: that is said at once. */
static void
nobody_to_wait_for (void **state)
{
  Cluster *cluster = cluster_new ("all");
  cluster->replica_generations[1] = 2;
  cluster->disks[1].away = TRUE;
  assert_update (cluster, GS_ERROR_UNAVAILABLE, "are needed");
  assert_true (cluster->n_rows < 6);
  cluster_stop (cluster);
  cluster_free (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (call_goes_on), cmocka_unit_test (push_goes_on),
                                      cmocka_unit_test (new_policy_wants_more), cmocka_unit_test (repaired_in_time),
                                      cmocka_unit_test (not_of_one_mind), cmocka_unit_test (repair_is_not_enough), cmocka_unit_test (only_so_many_wait),
                                      cmocka_unit_test (impatient), cmocka_unit_test (nobody_to_wait_for) };
  return cmocka_run_group_tests_name ("policy", tests, NULL, NULL);
}
