/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded worker pools. See pool.h. */
#include "base/pool.h"

#include "base/clock.h"
#include <gitstead/thread.h>

#include <string.h>

typedef struct
{
  GsiWork work;
  gpointer user;
} Item;

typedef struct
{
  GsiPool *pool;
  GsThread thread;
  gboolean left; /* its function is about to return: joining does not wait long */
} Worker;

struct GsiPool
{
  char *name;
  gboolean elastic;
  guint max_threads;
  gint64 idle_us; /* elastic, and those beyond max_threads: an idle thread leaves after so long */
  gint64 stuck_us; /* fixed: nothing was begun for so long though something waits */
  guint n_spare;   /* fixed: threads beyond max_threads that may be started then */
  GsThread watcher;
  gboolean watched; /* the watcher runs */

  GsMutex lock; /* of all below */
  GsCond work;  /* something was queued, or the pool stops */
  GsCond idle;  /* nothing queued or running */
  GsCond watch; /* something waits, or the pool stops */
  gboolean watching; /* the watcher knows that something waits */
  GPtrArray *workers;
  guint n_alive, n_idle, n_running, n_left;
  guint n_named; /* workers ever started, for their names */
  gboolean stopping, stopped;
  guint64 n_done, n_refused;
  gint64 begun_us; /* when work was taken up the last time */

  /* A ring, allocated once: a full server must not allocate in order to say so. */
  Item *ring;
  guint ring_size, ring_head, n_queued;
  guint queue_limit;
};

static void
push (GsiPool *pool, GsiWork work, gpointer user)
{
  Item *item = &pool->ring[(pool->ring_head + pool->n_queued) % pool->ring_size];
  item->work = work;
  item->user = user;
  pool->n_queued++;
}

static Item
pop (GsiPool *pool)
{
  Item item = pool->ring[pool->ring_head];
  pool->ring_head = (pool->ring_head + 1) % pool->ring_size;
  pool->n_queued--;
  return item;
}

/* Under the lock: may an idle thread leave? */
static gboolean
is_surplus (const GsiPool *pool)
{
  return pool->elastic || pool->n_alive > pool->max_threads;
}

/* Under the lock: waits for work. FALSE: the thread should leave. */
static gboolean
wait_for_work (GsiPool *pool)
{
  gint64 idle_since = gsi_clock_now_us ();
  gboolean in_time = TRUE;

  pool->n_idle++;
  while (pool->n_queued == 0 && !pool->stopping && (in_time || !is_surplus (pool)))
    in_time = gs_cond_wait_until (&pool->work, &pool->lock, is_surplus (pool) ? idle_since + pool->idle_us : G_MAXINT64);
  pool->n_idle--;
  return pool->n_queued > 0;
}

static void *
worker_run (void *data)
{
  Worker *worker = data;
  GsiPool *pool = worker->pool;

  gs_mutex_lock (&pool->lock);
  while (wait_for_work (pool))
    {
      Item item = pop (pool);
      pool->n_running++;
      pool->begun_us = gsi_clock_now_us ();
      gs_mutex_unlock (&pool->lock);
      item.work (item.user);
      gs_mutex_lock (&pool->lock);
      pool->n_running--;
      pool->n_done++;
      if (pool->n_running == 0 && pool->n_queued == 0)
        gs_cond_broadcast (&pool->idle);
    }
  worker->left = TRUE;
  pool->n_left++;
  pool->n_alive--;
  gs_mutex_unlock (&pool->lock);
  return NULL;
}

/* Under the lock. Joins threads that left: they hold the lock no more and return at once. */
static void
reap (GsiPool *pool)
{
  for (guint i = 0; i < pool->workers->len && pool->n_left > 0;)
    {
      Worker *worker = g_ptr_array_index (pool->workers, i);
      if (!worker->left)
        {
          i++;
          continue;
        }
      gs_thread_join (worker->thread);
      g_ptr_array_remove_index_fast (pool->workers, i);
      g_free (worker);
      pool->n_left--;
    }
}

/* Under the lock. */
static gboolean
start_worker (GsiPool *pool, GError **error)
{
  Worker *worker = g_new0 (Worker, 1);
  char name[16];
  int failed;

  worker->pool = pool;
  g_snprintf (name, sizeof name, "%.10s-%u", pool->name, ++pool->n_named);
  failed = gs_thread_start (&worker->thread, name, worker_run, worker);
  if (failed != 0)
    {
      g_free (worker);
      return gs_fail (error, GS_ERROR_UNAVAILABLE,
                      "Starting a thread of the %s pool: %s. Raise the limit on processes, "
                      "or configure fewer threads",
                      pool->name, g_strerror (failed));
    }
  g_ptr_array_add (pool->workers, worker);
  pool->n_alive++;
  return TRUE;
}

static GsiPool *
pool_new (const char *name, guint max_threads, guint queue_limit)
{
  GsiPool *pool = g_new0 (GsiPool, 1);

  pool->name = g_strdup (name);
  pool->max_threads = MAX (max_threads, 1);
  pool->queue_limit = queue_limit;
  /* Room also for work that a thread which is being started will take. */
  pool->ring_size = queue_limit + pool->max_threads;
  pool->ring = g_new0 (Item, pool->ring_size);
  pool->workers = g_ptr_array_new ();
  gs_mutex_init (&pool->lock);
  gs_cond_init (&pool->work);
  gs_cond_init (&pool->idle);
  gs_cond_init (&pool->watch);
  return pool;
}

GsiPool *
gsi_pool_new (const char *name, guint n_threads, guint queue_limit, GError **error)
{
  g_autoptr (GsiPool) pool = pool_new (name, n_threads, MAX (queue_limit, 1));
  gboolean fine = TRUE;

  gs_mutex_lock (&pool->lock);
  while (fine && pool->n_alive < pool->max_threads)
    fine = start_worker (pool, error);
  gs_mutex_unlock (&pool->lock);
  return fine ? g_steal_pointer (&pool) : NULL;
}

GsiPool *
gsi_pool_new_elastic (const char *name, guint max_threads, guint queue_limit, gint64 idle_us, GError **error)
{
  GsiPool *pool = pool_new (name, max_threads, queue_limit);
  pool->elastic = TRUE;
  pool->idle_us = MAX (idle_us, 0);
  return pool;
}

/*
 * Under the lock. All threads have been at something for long: at what hangs, it seems. What waits need not hang as well, so
 * it gets threads, as far as there are some to spare.
 */
static void
help_out (GsiPool *pool)
{
  guint wanted = pool->n_queued;
  if (wanted == 0 || pool->n_idle > 0 || gsi_clock_now_us () - pool->begun_us < pool->stuck_us)
    return;
  reap (pool);
  while (wanted-- > 0 && pool->n_alive < pool->max_threads + pool->n_spare && start_worker (pool, NULL))
    ;
  pool->begun_us = gsi_clock_now_us (); /* they get the same time */
}

/* A thread of its own: when all others hang, nobody else may come by for long. */
static void *
watch_run (void *data)
{
  GsiPool *pool = data;
  gs_mutex_lock (&pool->lock);
  while (!pool->stopping)
    {
      pool->watching = pool->n_queued > 0;
      if (pool->watching)
        help_out (pool);
      gs_cond_wait_until (&pool->watch, &pool->lock,
                          pool->watching ? gsi_clock_now_us () + MAX (pool->stuck_us, 1000) : G_MAXINT64);
    }
  gs_mutex_unlock (&pool->lock);
  return NULL;
}

void
gsi_pool_set_spare (GsiPool *pool, guint n_spare, gint64 stuck_us, gint64 idle_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);
  pool->n_spare = n_spare;
  pool->stuck_us = stuck_us;
  pool->idle_us = MAX (idle_us, 0);
  pool->watched = gs_thread_start (&pool->watcher, "pool-watch", watch_run, pool) == 0; /* without it nobody helps out */
}

void
gsi_pool_free (GsiPool *pool)
{
  if (pool == NULL)
    return;
  gsi_pool_stop (pool);
  gs_cond_clear (&pool->work);
  gs_cond_clear (&pool->idle);
  gs_cond_clear (&pool->watch);
  gs_mutex_clear (&pool->lock);
  g_ptr_array_unref (pool->workers);
  g_free (pool->ring);
  g_free (pool->name);
  g_free (pool);
}

/* Under the lock: is there, or can there be, a thread for one more? FALSE with BUSY or the thread's error. */
static gboolean
find_room (GsiPool *pool, GError **error)
{
  g_autoptr (GError) failed = NULL;

  if (pool->elastic)
    {
      /* Idle threads are already spoken for by what is queued. */
      if (pool->n_queued < pool->n_idle)
        return TRUE;
      reap (pool);
      if (pool->n_alive < pool->max_threads)
        {
          if (start_worker (pool, &failed))
            {
              /* Until it runs it counts as neither idle nor running, and its work stays queued. */
              return TRUE;
            }
          if (pool->n_alive == 0)
            {
              g_propagate_error (error, g_steal_pointer (&failed));
              return FALSE;
            }
        }
    }
  if (pool->n_queued < pool->queue_limit)
    return TRUE;
  return gs_fail (error, GS_ERROR_BUSY, "The %s pool is full (%u threads, %u waiting): try again in a moment",
                  pool->name, pool->n_alive, pool->n_queued);
}

gboolean
gsi_pool_submit (GsiPool *pool, GsiWork work, gpointer user, GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);

  if (pool->stopping)
    {
      pool->n_refused++;
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "The server is shutting down: the %s pool takes no new work",
                      pool->name);
    }
  if (!find_room (pool, error))
    {
      pool->n_refused++;
      return FALSE;
    }
  if (pool->n_queued == 0 && pool->n_running < pool->max_threads)
    pool->begun_us = gsi_clock_now_us (); /* nothing waited so far */
  push (pool, work, user);
  if (pool->watched && !pool->watching && pool->n_queued > pool->n_idle)
    gs_cond_signal (&pool->watch);
  gs_cond_signal (&pool->work);
  return TRUE;
}

gboolean
gsi_pool_wait_idle (GsiPool *pool, gint64 until_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);

  while (pool->n_running > 0 || pool->n_queued > 0)
    if (!gs_cond_wait_until (&pool->idle, &pool->lock, until_us))
      return pool->n_running == 0 && pool->n_queued == 0;
  return TRUE;
}

void
gsi_pool_stop (GsiPool *pool)
{
  gs_mutex_lock (&pool->lock);
  pool->stopping = TRUE;
  gs_cond_broadcast (&pool->work);
  gs_cond_broadcast (&pool->watch);
  gs_mutex_unlock (&pool->lock);
  if (pool->stopped)
    return;
  pool->stopped = TRUE;
  if (pool->watched)
    gs_thread_join (pool->watcher);
  /* Nobody adds workers any more: the array is ours. */
  for (guint i = 0; i < pool->workers->len; i++)
    {
      Worker *worker = g_ptr_array_index (pool->workers, i);
      gs_thread_join (worker->thread);
      g_free (worker);
    }
  g_ptr_array_set_size (pool->workers, 0);
}

void
gsi_pool_stats (GsiPool *pool, GsiPoolStats *ret_stats)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pool->lock);

  ret_stats->n_threads = pool->n_alive;
  ret_stats->n_running = pool->n_running;
  ret_stats->n_queued = pool->n_queued;
  ret_stats->n_done = pool->n_done;
  ret_stats->n_refused = pool->n_refused;
}
