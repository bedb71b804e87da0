/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pool.h - bounded worker pools and timers. Full means BUSY, never growth.
 *
 * Two flavours: a fixed pool for short work, and an elastic one for work that holds a thread for long (streams): it
 * starts a thread when none is idle, up to a cap, and idle threads leave. A fixed one can have spare threads for the case that
 * all of its own hang.
 */
#ifndef GSI_BASE_POOL_H
#define GSI_BASE_POOL_H

#include <gitstead/error.h>

typedef struct GsiPool GsiPool;
typedef void (*GsiWork) (gpointer user);

/** @name shows as thread name (15 bytes with a number). All threads run when it returns. *full* (gsi_pool_free). */
GsiPool *gsi_pool_new (const char *name, guint n_threads, guint queue_limit, GError **error);

/**
 * For a fixed pool whose work may hang (a node, a disk): when something has waited for @stuck_us without anything having
 * been begun, up to @n_spare more threads are started; those leave when they are idle for @idle_us. A thread of its own looks
 * after that. Once, before the first work.
 */
void gsi_pool_set_spare (GsiPool *pool, guint n_spare, gint64 stuck_us, gint64 idle_us);

/** No thread at first. @queue_limit may be 0: work is taken only when a thread is idle or can be started. */
GsiPool *gsi_pool_new_elastic (const char *name, guint max_threads, guint queue_limit, gint64 idle_us, GError **error);

/** Stops it if need be and frees it. Not from a thread of the pool. NULL is fine. */
void gsi_pool_free (GsiPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiPool, gsi_pool_free)

/**
 * Queues @work. FALSE: nothing was queued; BUSY when full, UNAVAILABLE when the pool is stopping. Work is begun in the
 * order it came. Any thread, the pool's own too.
 */
gboolean gsi_pool_submit (GsiPool *pool, GsiWork work, gpointer user, GError **error);

/** Waits until nothing is queued or running. FALSE when @until_us (monotonic) came first. New work is still taken. */
gboolean gsi_pool_wait_idle (GsiPool *pool, gint64 until_us);

/**
 * Takes no new work, runs what was queued, joins the threads. Idempotent; not from a thread of the pool. Work that is
 * running is waited for: whoever wants it to end soon cancels it first.
 */
void gsi_pool_stop (GsiPool *pool);

typedef struct
{
  guint n_threads, n_running, n_queued;
  guint64 n_done, n_refused;
} GsiPoolStats;

void gsi_pool_stats (GsiPool *pool, GsiPoolStats *ret_stats);

/* ---------------------------------------------------------------------------------------- timers */

typedef struct GsiTimers GsiTimers;

/** One thread that keeps up to @limit timers and hands due ones to @pool, which must outlive it. *full*. */
GsiTimers *gsi_timers_new (GsiPool *pool, guint limit, GError **error);
/** Stops and frees. NULL is fine. */
void gsi_timers_free (GsiTimers *timers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsiTimers, gsi_timers_free)

/**
 * Runs @work once on the pool, not before @delay_us is over. While the pool is full it stays due and is tried again.
 * Returns a handle, never used twice; 0 when there are @limit timers or it was stopped.
 */
guint64 gsi_timer_add (GsiTimers *timers, gint64 delay_us, GsiWork work, gpointer user);

/** TRUE: it will not run. FALSE: it ran, is running, is queued on the pool, or is not known. Never blocks. */
gboolean gsi_timer_cancel (GsiTimers *timers, guint64 timer);

/** Joins the thread: nothing fires any more. What did not fire can still be cancelled, until free. Idempotent. */
void gsi_timers_stop (GsiTimers *timers);

#endif
