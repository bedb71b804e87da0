/* SPDX-License-Identifier: Apache-2.0 */
/* Writers of one ref who meet on several replicas, each of whom is the first one somewhere: exactly one of them wins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#include <string.h>

#define ZERO "0000000000000000000000000000000000000000"
#define REF "refs/heads/x"
#define WRITERS 3

static const char *const values[WRITERS] = { "1111111111111111111111111111111111111111",
                                             "2222222222222222222222222222222222222222",
                                             "3333333333333333333333333333333333333333" };

/* @n writers, the i-th being the first one on the i-th replica; replicas from @n on are away. */
static void
meet (const char *rule, int n)
{
  Cluster *cluster = cluster_new (rule);
  Answer answers[WRITERS];
  const char *won = NULL;
  int n_won = 0;
  cluster->n_replicas = (guint) (strcmp (rule, "all") == 0 ? n : N_DISKS);
  for (int i = 0; i < n; i++)
    cluster->disks[i].first = values[i];
  for (int i = n; i < N_DISKS; i++)
    cluster->disks[i].away = TRUE;
  for (int i = 0; i < n; i++)
    cluster_update (cluster, REF, ZERO, values[i], &answers[i]);
  for (int i = 0; i < n; i++)
    {
      assert_true (answer_wait (&answers[i]));
      if (answers[i].code == GS_OK)
        {
          n_won++;
          won = values[i];
        }
    }
  assert_int_equal (n_won, 1);
  cluster_stop (cluster);
  for (int i = 0; i < n; i++)
    {
      const char *value = g_hash_table_lookup (cluster->disks[i].refs, REF);
      assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
      /* Whoever was left behind by the winner has nothing, and is repaired. */
      if (value != NULL)
        assert_string_equal (value, won);
      else
        assert_true (cluster->replica_generations[i] < cluster->generation);
      answer_clear (&answers[i]);
    }
  assert_int_equal (cluster->generation, 4);
  cluster_free (cluster);
}

static void
two_of_three (void **state)
{
  for (int i = 0; i < 10; i++)
    meet ("majority", 2);
}

static void
three (void **state)
{
  for (int i = 0; i < 10; i++)
    meet ("majority", 3);
}

static void
all_of_two (void **state)
{
  for (int i = 0; i < 10; i++)
    meet ("all", 2);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (two_of_three), cmocka_unit_test (three), cmocka_unit_test (all_of_two) };
  return cmocka_run_group_tests_name ("meet", tests, NULL, NULL);
}
