/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a read may show: no replica that has not applied what was decided, and nothing older than its caller has seen. It
 * goes to another replica, waits in bounds, or fails so that it can be repeated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replicas.h"

#include "gitstead/v1/ref.pb-c.h"

#include <string.h>

#define ONES "1111111111111111111111111111111111111111"
#define TWOS "2222222222222222222222222222222222222222"
#define REF "refs/heads/x"

static void
hold (Cluster *cluster, int disk, gboolean holds)
{
  gs_mutex_lock (&cluster->lock);
  cluster->disks[disk].holds_commit = holds;
  gs_cond_broadcast (&cluster->changed);
  gs_mutex_unlock (&cluster->lock);
}

static guint64
write_value (Cluster *cluster, const char *hex)
{
  Answer answer;
  guint64 generation;
  cluster_update (cluster, REF, NULL, hex, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_OK);
  generation = answer.generation;
  answer_clear (&answer);
  return generation;
}

/* The value, "" when there is none. *full*; NULL when the call fails. */
static char *
value_of (Answer *answer)
{
  Gitstead__V1__RefFindReply *reply;
  char *value;
  if (answer->code != GS_OK)
    return NULL;
  reply = gitstead__v1__ref_find_reply__unpack (NULL, g_bytes_get_size (answer->payload),
                                               g_bytes_get_data (answer->payload, NULL));
  value = g_strdup (reply->ref->oid);
  gitstead__v1__ref_find_reply__free_unpacked (reply, NULL);
  return value;
}

static void
assert_reads (Cluster *cluster, guint64 generation, const char *hex)
{
  g_autofree char *value = NULL;
  Answer answer;
  cluster_find (cluster, REF, generation, &answer);
  assert_true (answer_wait (&answer));
  value = value_of (&answer);
  if (g_strcmp0 (value, hex) != 0)
    fail_msg ("the read gave %s (%s), not %s", value, answer.message, hex);
  answer_clear (&answer);
}

static void
end (Cluster *cluster)
{
  for (int i = 0; i < N_DISKS; i++)
    hold (cluster, i, FALSE);
  cluster_stop (cluster);
  cluster_free (cluster);
}

/* It voted, so that its record is at the new generation; it has not applied the write. */
static void
another_replica (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  guint before;
  write_value (cluster, ONES);
  assert_reads (cluster, 0, ONES);
  hold (cluster, 0, TRUE);
  assert_int_equal (write_value (cluster, TWOS), 5);
  cluster->replica_generations[0] = 5; /* as it is between the decision and the answer */
  before = cluster->disks[0].n_reads;
  for (int i = 0; i < 5; i++)
    assert_reads (cluster, 0, TWOS);
  assert_int_equal (cluster->disks[0].n_reads, before);
  end (cluster);
}

/* It is away, broke off or is damaged: what one replica cannot tell another one can. What is wrong with the call is so everywhere. */
static void
broken_replicas (void **state)
{
  static const struct
  {
    GsErrorCode code;
    guint n_reads;
  } cases[] = { { GS_ERROR_UNAVAILABLE, 3 },      { GS_ERROR_UNKNOWN, 3 },          { GS_ERROR_DATA_LOSS, 3 },
                { GS_ERROR_INTERNAL, 3 },         { GS_ERROR_INVALID_ARGUMENT, 1 }, { GS_ERROR_PERMISSION_DENIED, 1 } };
  Cluster *cluster = cluster_new ("majority");
  write_value (cluster, ONES);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      guint n_reads = 0;
      Answer answer;
      for (int k = 0; k < N_DISKS; k++)
        {
          cluster->disks[k].find_code = cases[i].code;
          cluster->disks[k].n_reads = 0;
        }
      cluster_find (cluster, REF, 0, &answer);
      assert_true (answer_wait (&answer));
      assert_int_equal (answer.code, cases[i].code);
      answer_clear (&answer);
      for (int k = 0; k < N_DISKS; k++)
        n_reads += cluster->disks[k].n_reads;
      assert_int_equal (n_reads, cases[i].n_reads);
      if (cases[i].n_reads == 1)
        continue;
      for (int whole = 0; whole < N_DISKS; whole++)
        {
          for (int k = 0; k < N_DISKS; k++)
            cluster->disks[k].find_code = k == whole ? GS_OK : cases[i].code;
          assert_reads (cluster, 0, ONES);
        }
    }
  end (cluster);
}

static gboolean
looked_around (Cluster *cluster)
{
  return cluster->disks[0].n_states > 1 && cluster->disks[1].n_states > 1 && cluster->disks[2].n_states > 1;
}

static gboolean
decided (Cluster *cluster)
{
  return cluster->generation == 5;
}

/* Nobody has applied it yet: the read waits for whoever does first. */
static void
waits (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  g_autofree char *value = NULL;
  Answer update, find;
  write_value (cluster, ONES);
  for (int i = 0; i < N_DISKS; i++)
    hold (cluster, i, TRUE);
  cluster_update (cluster, REF, NULL, TWOS, &update);
  assert_true (cluster_eventually (cluster, decided));
  cluster_find (cluster, REF, 0, &find);
  assert_true (cluster_eventually (cluster, looked_around));
  assert_false (find.over);
  hold (cluster, 2, FALSE);
  assert_true (answer_wait (&find));
  value = value_of (&find);
  assert_string_equal (value, TWOS);
  assert_int_equal (cluster->disks[2].n_reads, 1);
  for (int i = 0; i < N_DISKS; i++)
    hold (cluster, i, FALSE);
  assert_true (answer_wait (&update));
  answer_clear (&find);
  answer_clear (&update);
  end (cluster);
}

/* Nobody applies it: the read fails, in a way that lets its caller repeat it. */
static void
gives_up (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  Answer update, find;
  write_value (cluster, ONES);
  for (int i = 0; i < N_DISKS; i++)
    hold (cluster, i, TRUE);
  cluster_update (cluster, REF, NULL, TWOS, &update);
  assert_true (cluster_eventually (cluster, decided));
  cluster_find (cluster, REF, 0, &find);
  assert_true (answer_wait (&find));
  assert_int_equal (find.code, GS_ERROR_UNAVAILABLE);
  assert_int_equal (find.retry, GS_RETRY_SAME);
  assert_non_null (strstr (find.message, "has not applied 5 yet"));
  for (int i = 0; i < N_DISKS; i++)
    hold (cluster, i, FALSE);
  assert_true (answer_wait (&update));
  answer_clear (&find);
  answer_clear (&update);
  end (cluster);
}

/* What a write's answer named, a read can ask for: of a replica, and of a metadata store that is a little behind. */
static void
reads_its_writes (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  Answer find;
  guint64 generation;
  write_value (cluster, ONES);
  generation = write_value (cluster, TWOS);
  assert_int_equal (generation, 5);
  assert_reads (cluster, generation, TWOS);
  cluster->old_rows = 3;
  assert_reads (cluster, generation, TWOS);
  assert_int_equal (cluster->old_rows, 0);

  /* One replica is nobody to compare with, but the caller knows more than it shows. */
  cluster->n_replicas = 1;
  cluster->generation = cluster->replica_generations[0] = 6;
  cluster_find (cluster, REF, 6, &find);
  assert_true (answer_wait (&find));
  assert_int_equal (find.code, GS_ERROR_UNAVAILABLE);
  answer_clear (&find);
  assert_reads (cluster, 0, TWOS);

  cluster_find (cluster, REF, 70, &find);
  assert_true (answer_wait (&find));
  assert_int_equal (find.code, GS_ERROR_UNAVAILABLE);
  assert_int_equal (find.retry, GS_RETRY_SAME);
  assert_non_null (strstr (find.message, "at generation 70 or later, and the metadata store knows of 6"));
  answer_clear (&find);
  end (cluster);
}

static void
written_by_another (Cluster *cluster, int disk, const char *hex, guint64 generation)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&cluster->lock);
  g_hash_table_replace (cluster->disks[disk].refs, g_strdup (REF), g_strdup (hex));
  cluster->disks[disk].generation = generation;
}

/* Reads go on by what the store said last, for as long as is allowed; whoever saw more is told to come back. */
static void
store_away (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  gint64 until_us = g_get_monotonic_time () + 20 * G_USEC_PER_SEC;
  guint64 written = write_value (cluster, ONES);
  Answer answer;
  int code = GS_OK;
  assert_reads (cluster, 0, ONES);
  cluster->rows_away = TRUE;
  assert_reads (cluster, 0, ONES);

  /* Another router, whose connection to the store stands, has written meanwhile; one replica has missed it. */
  written_by_another (cluster, 1, TWOS, written + 1);
  written_by_another (cluster, 2, TWOS, written + 1);
  for (int i = 0; i < 5; i++)
    assert_reads (cluster, 0, TWOS);
  assert_reads (cluster, written + 1, TWOS);

  cluster_find (cluster, REF, written + 2, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNAVAILABLE);
  answer_clear (&answer);
  cluster_update (cluster, REF, ONES, TWOS, &answer);
  assert_true (answer_wait (&answer));
  assert_int_equal (answer.code, GS_ERROR_UNAVAILABLE);
  answer_clear (&answer);
  while (code == GS_OK && g_get_monotonic_time () < until_us)
    {
      cluster_find (cluster, REF, 0, &answer);
      assert_true (answer_wait (&answer));
      code = answer.code;
      answer_clear (&answer);
    }
  assert_int_equal (code, GS_ERROR_UNAVAILABLE); /* what was known is too old now */
  cluster->rows_away = FALSE;
  assert_reads (cluster, written, ONES);
  end (cluster);
}

/* Who is thought to be away is asked when those that were thought to be there turn out not to be. */
static void
asks_the_unlikely (void **state)
{
  Cluster *cluster = cluster_new ("majority");
  write_value (cluster, ONES);
  cluster->disks[1].away = cluster->disks[2].away = TRUE;
  cluster->disks[0].probe_lies = cluster->disks[1].probe_lies = cluster->disks[2].probe_lies = TRUE;
  assert_reads (cluster, 0, ONES);
  end (cluster);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (another_replica), cmocka_unit_test (broken_replicas), cmocka_unit_test (waits),
                                      cmocka_unit_test (gives_up), cmocka_unit_test (reads_its_writes), cmocka_unit_test (store_away),
                                      cmocka_unit_test (asks_the_unlikely) };
  return cmocka_run_group_tests_name ("fresh", tests, NULL, NULL);
}
