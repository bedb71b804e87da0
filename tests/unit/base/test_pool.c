/* SPDX-License-Identifier: Apache-2.0 */
/* Pools and timers: bounds, order, growth and leaving, cancelling, stopping. */
#include "base/clock.h"
#include "base/pool.h"

#include <gitstead/thread.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Long enough for a machine under load; reached only when something is broken. */
#define PATIENCE_US (30 * G_USEC_PER_SEC)

typedef struct
{
  GsMutex lock;
  GsCond changed;
  guint n_entered, n_done;
  gboolean open;
  char order[64];
} Gate;

static void
gate_init (Gate *gate)
{
  memset (gate, 0, sizeof *gate);
  gs_mutex_init (&gate->lock);
  gs_cond_init (&gate->changed);
}

static void
gate_clear (Gate *gate)
{
  gs_mutex_clear (&gate->lock);
  gs_cond_clear (&gate->changed);
}

/* Waits in the gate. */
static void
wait_inside (gpointer user)
{
  Gate *gate = user;
  gs_mutex_lock (&gate->lock);
  gate->n_entered++;
  gs_cond_broadcast (&gate->changed);
  while (!gate->open)
    gs_cond_wait (&gate->changed, &gate->lock);
  gate->n_done++;
  gs_cond_broadcast (&gate->changed);
  gs_mutex_unlock (&gate->lock);
}

static void
pass (gpointer user)
{
  Gate *gate = user;
  gs_mutex_lock (&gate->lock);
  gate->n_done++;
  gs_cond_broadcast (&gate->changed);
  gs_mutex_unlock (&gate->lock);
}

static void
open_gate (Gate *gate)
{
  gs_mutex_lock (&gate->lock);
  gate->open = TRUE;
  gs_cond_broadcast (&gate->changed);
  gs_mutex_unlock (&gate->lock);
}

static gboolean
wait_for (Gate *gate, guint *count, guint want)
{
  gint64 until = gsi_clock_now_us () + PATIENCE_US;
  gboolean reached;

  gs_mutex_lock (&gate->lock);
  while (*count < want && gs_cond_wait_until (&gate->changed, &gate->lock, until))
    ;
  reached = *count >= want;
  gs_mutex_unlock (&gate->lock);
  return reached;
}

static void
test_full_means_busy (void **state)
{
  g_autoptr (GsiPool) pool = gsi_pool_new ("test", 2, 3, NULL);
  g_autoptr (GError) error = NULL;
  GsiPoolStats stats;
  Gate gate;

  gate_init (&gate);
  for (guint i = 0; i < 2; i++)
    assert_true (gsi_pool_submit (pool, wait_inside, &gate, NULL));
  assert_true (wait_for (&gate, &gate.n_entered, 2));
  for (guint i = 0; i < 3; i++)
    assert_true (gsi_pool_submit (pool, pass, &gate, NULL));
  assert_false (gsi_pool_submit (pool, pass, &gate, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_BUSY));
  gsi_pool_stats (pool, &stats);
  assert_int_equal (stats.n_running, 2);
  assert_int_equal (stats.n_queued, 3);
  assert_int_equal (stats.n_refused, 1);
  assert_false (gsi_pool_wait_idle (pool, gsi_clock_now_us () + 1000));
  open_gate (&gate);
  assert_true (gsi_pool_wait_idle (pool, gsi_clock_now_us () + PATIENCE_US));
  assert_int_equal (gate.n_done, 5);
  assert_true (gsi_pool_submit (pool, pass, &gate, NULL));
  gsi_pool_stop (pool);
  assert_int_equal (gate.n_done, 6);
  g_clear_error (&error);
  assert_false (gsi_pool_submit (pool, pass, &gate, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_UNAVAILABLE));
  gsi_pool_stop (pool);
  gate_clear (&gate);
}

/* Whatever hangs, what does not gets a thread: as many more as there are to spare, and no longer than they are needed. */
static void
test_spare_threads_help_out (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 2, 100, NULL);
  gint64 until = gsi_clock_now_us () + PATIENCE_US;
  GsiPoolStats stats;
  Gate hung, quick;

  gate_init (&hung);
  gate_init (&quick);
  gsi_pool_set_spare (pool, 3, 1000, 1000);
  /* Four that hang, of which two are more than there are threads. */
  for (guint i = 0; i < 4; i++)
    assert_true (gsi_pool_submit (pool, wait_inside, &hung, NULL));
  assert_true (wait_for (&hung, &hung.n_entered, 2));
  do
    {
      assert_true (gsi_pool_submit (pool, pass, &quick, NULL));
      g_usleep (500);
      gsi_pool_stats (pool, &stats);
      assert_true (stats.n_threads <= 5);
      assert_true (gsi_clock_now_us () < until);
    }
  while (stats.n_done == 0 && stats.n_queued < 90);
  assert_true (wait_for (&quick, &quick.n_done, 1));
  assert_int_equal (hung.n_done, 0);
  open_gate (&hung);
  assert_true (gsi_pool_wait_idle (pool, until));
  assert_int_equal (hung.n_entered, 4);
  do
    {
      gsi_pool_stats (pool, &stats);
      g_usleep (1000);
    }
  while (stats.n_threads > 2 && gsi_clock_now_us () < until);
  assert_int_equal (stats.n_threads, 2);
  assert_true (gsi_pool_submit (pool, pass, &quick, NULL));
  gsi_pool_free (pool);
  gate_clear (&quick);
  gate_clear (&hung);
}

/* Without them nothing grows, and with all of them hanging what waits goes on waiting. */
static void
test_spare_threads_have_an_end (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 1, 4, NULL);
  gint64 until = gsi_clock_now_us () + PATIENCE_US;
  g_autoptr (GError) error = NULL;
  GsiPoolStats stats;
  guint n_taken = 0;
  Gate gate;

  gate_init (&gate);
  gsi_pool_set_spare (pool, 1, 0, 1000);
  while (gsi_pool_submit (pool, wait_inside, &gate, &error))
    {
      n_taken++;
      assert_true (gsi_clock_now_us () < until);
      g_usleep (500);
    }
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_BUSY));
  do
    {
      gsi_pool_stats (pool, &stats);
      g_usleep (500);
      assert_true (gsi_clock_now_us () < until);
    }
  while (stats.n_threads < 2 || stats.n_running < 2);
  g_usleep (5000); /* time for a third one, if there could be one */
  gsi_pool_stats (pool, &stats);
  assert_int_equal (stats.n_threads, 2);
  open_gate (&gate);
  gsi_pool_free (pool);
  /* Four when no thread came to its turn before the queue was full, else up to six. */
  assert_in_range (n_taken, 4, 6);
  assert_int_equal (gate.n_entered, n_taken);
  gate_clear (&gate);
}

static void
test_stop_runs_what_was_queued (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 1, 100, NULL);
  Gate gate;

  gate_init (&gate);
  assert_true (gsi_pool_submit (pool, wait_inside, &gate, NULL));
  for (guint i = 0; i < 99; i++)
    assert_true (gsi_pool_submit (pool, pass, &gate, NULL));
  open_gate (&gate);
  gsi_pool_free (pool);
  assert_int_equal (gate.n_done, 100);
  gate_clear (&gate);
}

static void
test_elastic_grows_and_shrinks (void **state)
{
  g_autoptr (GsiPool) pool = gsi_pool_new_elastic ("streams", 3, 0, 1000, NULL);
  gint64 until = gsi_clock_now_us () + PATIENCE_US;
  g_autoptr (GError) error = NULL;
  GsiPoolStats stats;
  Gate gate;

  gate_init (&gate);
  gsi_pool_stats (pool, &stats);
  assert_int_equal (stats.n_threads, 0);
  for (guint i = 0; i < 3; i++)
    assert_true (gsi_pool_submit (pool, wait_inside, &gate, NULL));
  assert_false (gsi_pool_submit (pool, pass, &gate, &error));
  assert_true (g_error_matches (error, GS_ERROR, GS_ERROR_BUSY));
  assert_true (wait_for (&gate, &gate.n_entered, 3));
  assert_false (gsi_pool_submit (pool, pass, &gate, NULL));
  open_gate (&gate);
  assert_true (gsi_pool_wait_idle (pool, until));
  /* Idle threads leave after a millisecond. */
  do
    gsi_pool_stats (pool, &stats);
  while (stats.n_threads > 0 && gsi_clock_now_us () < until);
  assert_int_equal (stats.n_threads, 0);
  /* It grows again, and what left was joined. */
  for (guint i = 0; i < 50; i++)
    {
      assert_true (gsi_pool_submit (pool, pass, &gate, NULL));
      assert_true (gsi_pool_wait_idle (pool, until));
    }
  assert_int_equal (gate.n_done, 53);
  gate_clear (&gate);
}

static void
test_elastic_with_a_queue (void **state)
{
  GsiPool *pool = gsi_pool_new_elastic ("streams", 2, 2, 1000, NULL);
  Gate gate;
  guint n_taken = 0;

  gate_init (&gate);
  while (gsi_pool_submit (pool, wait_inside, &gate, NULL))
    n_taken++;
  assert_in_range (n_taken, 2, 4); /* the queue may be in use before the threads have begun */
  assert_true (wait_for (&gate, &gate.n_entered, 2));
  while (gsi_pool_submit (pool, wait_inside, &gate, NULL))
    n_taken++;
  assert_int_equal (n_taken, 4);
  open_gate (&gate);
  gsi_pool_free (pool);
  assert_int_equal (gate.n_done, 4);
  gate_clear (&gate);
}

/* ---- many at once ---- */

typedef struct
{
  GsiPool *pool;
  guint64 n_ran, n_taken; /* atomic */
} Storm;

static void
count (gpointer user)
{
  __atomic_add_fetch (&((Storm *) user)->n_ran, 1, __ATOMIC_RELAXED);
}

static void *
submit_many (void *data)
{
  Storm *storm = data;
  for (int i = 0; i < 5000; i++)
    if (gsi_pool_submit (storm->pool, count, storm, NULL))
      __atomic_add_fetch (&storm->n_taken, 1, __ATOMIC_RELAXED);
  return NULL;
}

static void
test_every_taken_work_runs_once (void **state)
{
  for (guint elastic = 0; elastic < 2; elastic++)
    {
      Storm storm
          = { elastic ? gsi_pool_new_elastic ("storm", 4, 4, 50, NULL) : gsi_pool_new ("storm", 3, 16, NULL), 0, 0 };
      GsThread threads[3];
      GsiPoolStats stats;

      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        assert_int_equal (gs_thread_start (&threads[i], "submit", submit_many, &storm), 0);
      for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
        gs_thread_join (threads[i]);
      gsi_pool_stop (storm.pool);
      gsi_pool_stats (storm.pool, &stats);
      assert_true (storm.n_taken > 0);
      assert_int_equal (storm.n_ran, storm.n_taken);
      assert_int_equal (stats.n_done, storm.n_taken);
      assert_int_equal (stats.n_done + stats.n_refused, 15000);
      gsi_pool_free (storm.pool);
    }
}

/* ---- timers ---- */

typedef struct
{
  Gate *gate;
  char mark;
} Mark;

static void
note (gpointer user)
{
  Mark *mark = user;
  gs_mutex_lock (&mark->gate->lock);
  mark->gate->order[mark->gate->n_done++] = mark->mark;
  gs_cond_broadcast (&mark->gate->changed);
  gs_mutex_unlock (&mark->gate->lock);
}

static void
test_timers_fire_in_order (void **state)
{
  g_autoptr (GsiPool) pool = gsi_pool_new ("test", 1, 16, NULL);
  g_autoptr (GsiTimers) timers = gsi_timers_new (pool, 16, NULL);
  static const gint64 delays[] = { 9000, 1000, 7000, 3000, 5000, 1000 };
  Mark marks[G_N_ELEMENTS (delays)];
  Gate gate;

  gate_init (&gate);
  for (guint i = 0; i < G_N_ELEMENTS (delays); i++)
    {
      marks[i] = (Mark){ &gate, (char) ('a' + i) };
      assert_true (gsi_timer_add (timers, delays[i] * 10, note, &marks[i]) != 0);
    }
  assert_true (wait_for (&gate, &gate.n_done, 6));
  assert_string_equal (gate.order, "bfdeca");
  gsi_timers_stop (timers);
  gate_clear (&gate);
}

static void
test_cancelled_timers_do_not_run (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 1, 16, NULL);
  GsiTimers *timers = gsi_timers_new (pool, 3, NULL);
  guint64 ids[3];
  Gate gate;

  gate_init (&gate);
  for (guint i = 0; i < 3; i++)
    {
      ids[i] = gsi_timer_add (timers, G_GINT64_CONSTANT (3600000000), pass, &gate);
      assert_true (ids[i] != 0);
    }
  assert_true (gsi_timer_add (timers, 0, pass, &gate) == 0); /* full */
  assert_true (gsi_timer_cancel (timers, ids[1]));
  assert_false (gsi_timer_cancel (timers, ids[1]));
  assert_false (gsi_timer_cancel (timers, 0));
  assert_false (gsi_timer_cancel (timers, 12345));
  ids[1] = gsi_timer_add (timers, 0, pass, &gate);
  assert_true (ids[1] != 0);
  assert_true (wait_for (&gate, &gate.n_done, 1));
  assert_false (gsi_timer_cancel (timers, ids[1]));
  gsi_timers_stop (timers);
  assert_true (gsi_timer_add (timers, 0, pass, &gate) == 0);
  assert_true (gsi_timer_cancel (timers, ids[0]));
  gsi_timers_free (timers);
  gsi_pool_free (pool);
  assert_int_equal (gate.n_done, 1);
  gate_clear (&gate);
}

static void
test_timer_waits_for_a_full_pool (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 1, 1, NULL);
  GsiTimers *timers = gsi_timers_new (pool, 4, NULL);
  GsiPoolStats stats;
  gint64 until = gsi_clock_now_us () + PATIENCE_US;
  Gate gate, inside;

  gate_init (&gate);
  gate_init (&inside);
  assert_true (gsi_pool_submit (pool, wait_inside, &inside, NULL));
  assert_true (wait_for (&inside, &inside.n_entered, 1));
  assert_true (gsi_pool_submit (pool, pass, &inside, NULL));
  assert_true (gsi_timer_add (timers, 0, pass, &gate) != 0);
  do
    gsi_pool_stats (pool, &stats);
  while (stats.n_refused < 2 && gsi_clock_now_us () < until);
  assert_true (stats.n_refused >= 2);
  assert_int_equal (gate.n_done, 0);
  open_gate (&inside);
  assert_true (wait_for (&gate, &gate.n_done, 1));
  gsi_timers_free (timers);
  gsi_pool_free (pool);
  gate_clear (&inside);
  gate_clear (&gate);
}

/* Each timer either runs or is cancelled, never both, never neither. */
typedef struct
{
  GsiTimers *timers;
  guint64 n_ran, n_cancelled;
} Race;

static void
ran (gpointer user)
{
  __atomic_add_fetch (&((Race *) user)->n_ran, 1, __ATOMIC_RELAXED);
}

static void *
add_and_cancel (void *data)
{
  Race *race = data;
  for (int i = 0; i < 1000; i++)
    {
      guint64 id = gsi_timer_add (race->timers, i % 3 * 20, ran, race);
      if (gsi_timer_cancel (race->timers, id))
        __atomic_add_fetch (&race->n_cancelled, 1, __ATOMIC_RELAXED);
    }
  return NULL;
}

static void
test_cancel_against_fire (void **state)
{
  GsiPool *pool = gsi_pool_new ("test", 2, 4096, NULL);
  Race race = { gsi_timers_new (pool, 4096, NULL), 0, 0 };
  GsThread threads[3];

  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    assert_int_equal (gs_thread_start (&threads[i], "race", add_and_cancel, &race), 0);
  for (guint i = 0; i < G_N_ELEMENTS (threads); i++)
    gs_thread_join (threads[i]);
  gsi_timers_stop (race.timers);
  gsi_pool_stop (pool);
  assert_int_equal (race.n_ran + race.n_cancelled, 3000);
  gsi_timers_free (race.timers);
  gsi_pool_free (pool);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_full_means_busy),
    cmocka_unit_test (test_spare_threads_help_out),
    cmocka_unit_test (test_spare_threads_have_an_end),
    cmocka_unit_test (test_stop_runs_what_was_queued),
    cmocka_unit_test (test_elastic_grows_and_shrinks),
    cmocka_unit_test (test_elastic_with_a_queue),
    cmocka_unit_test (test_every_taken_work_runs_once),
    cmocka_unit_test (test_timers_fire_in_order),
    cmocka_unit_test (test_cancelled_timers_do_not_run),
    cmocka_unit_test (test_timer_waits_for_a_full_pool),
    cmocka_unit_test (test_cancel_against_fire),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
