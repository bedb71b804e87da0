/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks of a repository with three replicas: one asks them, and without its word no write is decided. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#include <string.h>

#define REF "refs/heads/x"
#define VALUE "1111111111111111111111111111111111111111"

/* A write whose hooks end with @code. */
static void
attempt (GsErrorCode code, const char *says)
{
  Cluster *cluster = cluster_new ("majority");
  guint64 before = cluster->generation;
  guint asked = 0;
  Answer answer;
  cluster->n_replicas = N_DISKS;
  for (int i = 0; i < N_DISKS; i++)
    {
      cluster->disks[i].hooks = TRUE;
      cluster->disks[i].hooks_code = code;
    }
  cluster_update (cluster, REF, NULL, VALUE, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, code);
  if (says != NULL && strstr (answer.message, says) == NULL)
    fail_msg ("the message is \"%s\"", answer.message);
  cluster_stop (cluster);
  assert_int_equal (cluster->generation, before + (code == GS_OK));
  for (int i = 0; i < N_DISKS; i++)
    {
      Disk *disk = &cluster->disks[i];
      asked += disk->n_asked;
      assert_int_equal (g_hash_table_size (disk->locks), 0);
      assert_int_equal (g_hash_table_contains (disk->refs, REF), code == GS_OK);
    }
  assert_int_equal (asked, 1);
  answer_clear (&answer);
  cluster_free (cluster);
}

static void
one_asks_and_all_take_part (void **state)
{
  attempt (GS_OK, NULL);
}

static void
a_no_is_a_no_for_all (void **state)
{
  attempt (GS_ERROR_PERMISSION_DENIED, "a hook said no");
}

static void
nothing_is_decided_without_the_one_that_asks (void **state)
{
  attempt (GS_ERROR_UNAVAILABLE, "was lost");
}

/* What is staged where the hooks are asked is not what the others would do: they were not asked about that. */
static void
votes_for_what_was_not_asked (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  guint64 before = cluster->generation;
  Answer answer;
  cluster->n_replicas = N_DISKS;
  for (int i = 0; i < N_DISKS; i++)
    cluster->disks[i].hooks = TRUE;
  g_hash_table_replace (cluster->disks[0].refs, g_strdup (REF), g_strdup ("2222222222222222222222222222222222222222"));
  cluster_update (cluster, REF, NULL, VALUE, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_ABORTED);
  assert_non_null (strstr (answer.message, "asked about other updates"));
  cluster_stop (cluster);
  assert_int_equal (cluster->generation, before);
  assert_int_equal (cluster->disks[0].n_asked, 1);
  for (int i = 0; i < N_DISKS; i++)
    assert_int_equal (g_hash_table_size (cluster->disks[i].locks), 0);
  answer_clear (&answer);
  cluster_free (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (one_asks_and_all_take_part),
    cmocka_unit_test (a_no_is_a_no_for_all),
    cmocka_unit_test (nothing_is_decided_without_the_one_that_asks),
    cmocka_unit_test (votes_for_what_was_not_asked),
  };
  return cmocka_run_group_tests_name ("hooks", tests, NULL, NULL);
}
