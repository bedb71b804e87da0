/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: a heap, and one thread that hands due work to a pool. See pool.h. */
#include "base/clock.h"
#include "base/pool.h"
#include <gitstead/thread.h>

#define RETRY_US 5000

typedef struct
{
  gint64 due_us;
  gint64 id;
  gsize index; /* in the heap */
  GsiWork work;
  gpointer user;
} Timer;

struct GsiTimers
{
  GsiPool *pool;
  guint limit;
  GsThread thread;
  GsMutex lock; /* of all below */
  GsCond changed;
  GPtrArray *heap;   /* Timer, the earliest first */
  GHashTable *by_id; /* &id -> Timer; owns them */
  gint64 last_id;
  gboolean stopping, stopped;
};

static Timer *
at (GsiTimers *timers, gsize index)
{
  return g_ptr_array_index (timers->heap, index);
}

static void
put (GsiTimers *timers, gsize index, Timer *timer)
{
  g_ptr_array_index (timers->heap, index) = timer;
  timer->index = index;
}

/* By time, then by order of arrival. */
static gboolean
before (const Timer *a, const Timer *b)
{
  return a->due_us != b->due_us ? a->due_us < b->due_us : a->id < b->id;
}

static void
sift (GsiTimers *timers, Timer *timer)
{
  gsize index = timer->index;

  while (index > 0 && before (timer, at (timers, (index - 1) / 2)))
    {
      put (timers, index, at (timers, (index - 1) / 2));
      index = (index - 1) / 2;
    }
  for (;;)
    {
      gsize child = 2 * index + 1;
      if (child >= timers->heap->len)
        break;
      if (child + 1 < timers->heap->len && before (at (timers, child + 1), at (timers, child)))
        child++;
      if (!before (at (timers, child), timer))
        break;
      put (timers, index, at (timers, child));
      index = child;
    }
  put (timers, index, timer);
}

/* Frees @timer. */
static void
take_out (GsiTimers *timers, Timer *timer)
{
  gsize index = timer->index;
  Timer *last = at (timers, timers->heap->len - 1);

  g_ptr_array_set_size (timers->heap, (gint) timers->heap->len - 1);
  if (last != timer)
    {
      put (timers, index, last);
      sift (timers, last);
    }
  g_hash_table_remove (timers->by_id, &timer->id);
}

/*
 * Hands the earliest timer over. It happens under the lock, so that a timer is at every moment either here, and can be
 * cancelled, or on the pool; the pool's lock is a leaf below ours.
 */
static void
fire (GsiTimers *timers, Timer *timer)
{
  g_autoptr (GError) error = NULL;

  if (gsi_pool_submit (timers->pool, timer->work, timer->user, &error) || gs_error_code (error) != GS_ERROR_BUSY)
    {
      take_out (timers, timer);
      return;
    }
  timer->due_us = gsi_clock_now_us () + RETRY_US;
  sift (timers, timer);
}

static void *
timers_run (void *data)
{
  GsiTimers *timers = data;

  gs_mutex_lock (&timers->lock);
  while (!timers->stopping)
    {
      Timer *first = timers->heap->len > 0 ? at (timers, 0) : NULL;
      if (first != NULL && first->due_us <= gsi_clock_now_us ())
        fire (timers, first);
      else
        gs_cond_wait_until (&timers->changed, &timers->lock, first != NULL ? first->due_us : G_MAXINT64);
    }
  gs_mutex_unlock (&timers->lock);
  return NULL;
}

GsiTimers *
gsi_timers_new (GsiPool *pool, guint limit, GError **error)
{
  GsiTimers *timers = g_new0 (GsiTimers, 1);
  int failed;

  timers->pool = pool;
  timers->limit = limit;
  timers->heap = g_ptr_array_new ();
  timers->by_id = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, g_free);
  gs_mutex_init (&timers->lock);
  gs_cond_init (&timers->changed);
  failed = gs_thread_start (&timers->thread, "gs-timers", timers_run, timers);
  if (failed != 0)
    {
      timers->stopped = TRUE;
      gsi_timers_free (timers);
      gs_fail (error, GS_ERROR_UNAVAILABLE, "Starting the timer thread: %s", g_strerror (failed));
      return NULL;
    }
  return timers;
}

void
gsi_timers_stop (GsiTimers *timers)
{
  gs_mutex_lock (&timers->lock);
  timers->stopping = TRUE;
  gs_cond_signal (&timers->changed);
  gs_mutex_unlock (&timers->lock);
  if (!timers->stopped)
    gs_thread_join (timers->thread);
  timers->stopped = TRUE;
}

void
gsi_timers_free (GsiTimers *timers)
{
  if (timers == NULL)
    return;
  gsi_timers_stop (timers);
  g_ptr_array_unref (timers->heap);
  g_hash_table_unref (timers->by_id);
  gs_cond_clear (&timers->changed);
  gs_mutex_clear (&timers->lock);
  g_free (timers);
}

guint64
gsi_timer_add (GsiTimers *timers, gint64 delay_us, GsiWork work, gpointer user)
{
  gint64 now = gsi_clock_now_us ();
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&timers->lock);
  Timer *timer;

  if (timers->stopping || timers->heap->len >= timers->limit)
    return 0;
  timer = g_new0 (Timer, 1);
  timer->due_us = delay_us < G_MAXINT64 - now ? now + MAX (delay_us, 0) : G_MAXINT64;
  timer->id = ++timers->last_id;
  timer->work = work;
  timer->user = user;
  g_ptr_array_add (timers->heap, timer);
  timer->index = timers->heap->len - 1;
  sift (timers, timer);
  g_hash_table_insert (timers->by_id, &timer->id, timer);
  if (timer->index == 0)
    gs_cond_signal (&timers->changed);
  return (guint64) timer->id;
}

gboolean
gsi_timer_cancel (GsiTimers *timers, guint64 id)
{
  gint64 key = (gint64) id;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&timers->lock);
  Timer *timer = g_hash_table_lookup (timers->by_id, &key);

  if (timer == NULL)
    return FALSE;
  take_out (timers, timer);
  return TRUE;
}
