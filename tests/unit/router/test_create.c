/* SPDX-License-Identifier: Apache-2.0 */
/* A repository that is created while a node is away: that it lacks a copy is known from the first moment on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

static void
created_without (int away, guint n_recorded, guint64 jobs)
{
  Cluster *cluster = cluster_new ("majority");
  Answer answer;
  if (away >= 0)
    cluster->disks[away].away = TRUE;
  cluster_create (cluster, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_OK);
  assert_int_equal (cluster->n_recorded, n_recorded);
  assert_int_equal (cluster->copies, 0); /* as many as its virtual storage says */
  assert_int_equal (cluster->jobs, jobs);
  answer_clear (&answer);
  cluster_stop (cluster);
  cluster_free (cluster);
}

static void
all_are_there (void **state)
{
  created_without (-1, 3, 0);
}

static void
one_is_away (void **state)
{
  for (int i = 0; i < N_DISKS; i++)
    created_without (i, 2, 1u << i);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (all_are_there), cmocka_unit_test (one_is_away) };
  return cmocka_run_group_tests_name ("create", tests, NULL, NULL);
}
