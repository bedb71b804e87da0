/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas that are taken out of use between their vote and the decision: a write is decided with those that are left, or, when
 * they are too few, not at all. It is never acknowledged on the word of one that was found bad.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#define ONES "1111111111111111111111111111111111111111"
#define REF "refs/heads/x"

static void
end (Cluster *cluster)
{
  cluster_stop (cluster);
  for (int i = 0; i < N_DISKS; i++)
    assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
  cluster_free (cluster);
}

static GsErrorCode
write_with (Cluster *cluster, guint lower)
{
  GsErrorCode code;
  Answer answer;
  gs_mutex_lock (&cluster->lock);
  cluster->lower_at_decision = lower;
  gs_mutex_unlock (&cluster->lock);
  cluster_update (cluster, REF, NULL, ONES, &answer);
  assert_true (answer_wait (&answer));
  code = answer.code;
  answer_clear (&answer);
  return code;
}

static gboolean
dropped_on_second (Cluster *cluster)
{
  return cluster->disks[1].n_aborted == 1;
}

static gboolean
applied_on_others (Cluster *cluster)
{
  return cluster->disks[0].n_committed == 1 && cluster->disks[2].n_committed == 1;
}

static void
decided_with_the_rest (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  const Decision *decision;
  assert_int_equal (write_with (cluster, 1 << 1), GS_OK);
  assert_true (cluster_eventually (cluster, dropped_on_second));
  assert_true (cluster_eventually (cluster, applied_on_others));
  assert_int_equal (cluster->disks[1].n_committed, 0);
  assert_int_equal (cluster->decisions->len, 1);
  decision = cluster->decisions->pdata[0];
  assert_int_equal (g_strv_length (decision->voters), 2);
  assert_false (g_strv_contains ((const char *const *) decision->voters, cluster->disks[1].name));
  assert_true ((cluster->jobs >> 1 & 1) != 0); /* and it is repaired */
  end (cluster);
}

static gboolean
dropped_everywhere (Cluster *cluster)
{
  return cluster->disks[0].n_aborted + cluster->disks[1].n_aborted + cluster->disks[2].n_aborted == N_DISKS;
}

static void
too_few_are_left (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->patience_us = 3 * G_USEC_PER_SEC / 2;
  assert_int_equal (write_with (cluster, 1 << 0 | 1 << 1), GS_ERROR_UNAVAILABLE);
  assert_true (cluster_eventually (cluster, dropped_everywhere));
  assert_int_equal (cluster->decisions->len, 0);
  end (cluster);
}

/* The write does not end before they are: it begins anew. */
static void
too_few_until_they_are_repaired (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  cluster->repaired_at = 6;
  assert_int_equal (write_with (cluster, 1 << 0 | 1 << 1), GS_OK);
  assert_true (cluster_eventually (cluster, dropped_everywhere));
  assert_int_equal (cluster->decisions->len, 1);
  assert_int_equal (cluster->repaired_at, 0);
  end (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (decided_with_the_rest), cmocka_unit_test (too_few_are_left),
                                      cmocka_unit_test (too_few_until_they_are_repaired) };
  return cmocka_run_group_tests_name ("unused", tests, NULL, NULL);
}
