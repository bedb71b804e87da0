/* SPDX-License-Identifier: Apache-2.0 */
/**
 * thread.h - locks, conditions and threads over pthread, for the core and for plugins.
 *
 * Header-only, so that a plugin links nothing of the host. GLib's own locks are not used anywhere:
 * the distribution's GLib is not instrumented, and ThreadSanitizer reports correct GMutex and
 * GAsyncQueue programs as races, which would leave the project without a race detector
 * (docs/decisions/0003-threads.md).
 *
 * Locks are leaves: hold none while calling a plugin, a host service or a callback.
 */
#ifndef GITSTEAD_THREAD_H
#define GITSTEAD_THREAD_H

#include <glib.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

G_BEGIN_DECLS

typedef struct
{
  pthread_mutex_t m;
} GsMutex;

typedef struct
{
  pthread_cond_t c;
} GsCond;

typedef struct
{
  pthread_t t;
} GsThread;

#define GS_MUTEX_INIT { PTHREAD_MUTEX_INITIALIZER }

static inline void
gs_mutex_init (GsMutex *mutex)
{
  pthread_mutex_init (&mutex->m, NULL);
}

static inline void
gs_mutex_clear (GsMutex *mutex)
{
  pthread_mutex_destroy (&mutex->m);
}

static inline void
gs_mutex_lock (GsMutex *mutex)
{
  pthread_mutex_lock (&mutex->m);
}

static inline void
gs_mutex_unlock (GsMutex *mutex)
{
  pthread_mutex_unlock (&mutex->m);
}

/** Holds @mutex until the end of the scope: `g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&x->lock);`. */
typedef GsMutex GsMutexLocker;

static inline GsMutexLocker *
gs_mutex_hold (GsMutex *mutex)
{
  gs_mutex_lock (mutex);
  return mutex;
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC (GsMutexLocker, gs_mutex_unlock)

/** Conditions count on the monotonic clock, so a step of the wall clock wakes nobody. */
static inline void
gs_cond_init (GsCond *cond)
{
  pthread_condattr_t attr;
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&cond->c, &attr);
  pthread_condattr_destroy (&attr);
}

static inline void
gs_cond_clear (GsCond *cond)
{
  pthread_cond_destroy (&cond->c);
}

static inline void
gs_cond_signal (GsCond *cond)
{
  pthread_cond_signal (&cond->c);
}

static inline void
gs_cond_broadcast (GsCond *cond)
{
  pthread_cond_broadcast (&cond->c);
}

static inline void
gs_cond_wait (GsCond *cond, GsMutex *mutex)
{
  pthread_cond_wait (&cond->c, &mutex->m);
}

/**
 * Waits until signalled or until @until_us on the monotonic clock (g_get_monotonic_time's scale;
 * G_MAXINT64 = no limit). FALSE when the time was reached. Spurious wake-ups happen: test in a loop.
 */
static inline gboolean
gs_cond_wait_until (GsCond *cond, GsMutex *mutex, gint64 until_us)
{
  struct timespec ts;
  if (until_us == G_MAXINT64)
    {
      gs_cond_wait (cond, mutex);
      return TRUE;
    }
  if (until_us < 0)
    until_us = 0;
  ts.tv_sec = (time_t) (until_us / G_USEC_PER_SEC);
  ts.tv_nsec = (long) (until_us % G_USEC_PER_SEC) * 1000;
  return pthread_cond_timedwait (&cond->c, &mutex->m, &ts) == 0;
}

/**
 * Starts a thread with every signal blocked (signals belong to the main loop) and a name that shows
 * in ps and gdb (at most 15 bytes are kept). Returns 0 or an errno value. Join it with gs_thread_join.
 */
static inline int
gs_thread_start (GsThread *ret_thread, const char *name, void *(*run) (void *), void *user)
{
  sigset_t all, before;
  int failed;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  failed = pthread_create (&ret_thread->t, NULL, run, user);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
#ifdef __USE_GNU
  if (failed == 0 && name != NULL)
    {
      char short_name[16];
      g_strlcpy (short_name, name, sizeof short_name);
      pthread_setname_np (ret_thread->t, short_name);
    }
#else
  (void) name;
#endif
  return failed;
}

static inline void
gs_thread_join (GsThread thread)
{
  pthread_join (thread.t, NULL);
}

G_END_DECLS

#endif
