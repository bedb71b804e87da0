/* SPDX-License-Identifier: Apache-2.0 */
/* What every slot promises. See guard.h. */
#include "guard.h"

/* How long after a call's deadline a slot may still be on its way out. */
#define GRACE_US (2 * G_USEC_PER_SEC)

/* More than dice would have it. */
#define TRIES_MAX 100

/* Kinds that number this promise themselves. */
static const char *
untouched_promise (const ConformanceGuard *guard)
{
  switch (guard->c->target->plugin->kind)
    {
    case GS_KIND_STORAGE:
      return "S1";
    case GS_KIND_METADATA:
      return "M6";
    default:
      return "P4";
    }
}

/* ------------------------------------------------------------------------------------------- turns */

/* As the host takes them: see GS_THREADS_SERIAL. FALSE: none. */
static gboolean
which_turn (const ConformanceGuard *guard, guint64 repository_id, guint64 *ret_turn)
{
  guint32 threads = guard->c->target->plugin->threads;
  *ret_turn = threads == GS_THREADS_SERIAL ? 0 : repository_id;
  return threads == GS_THREADS_SERIAL || (threads == GS_THREADS_PER_REPO && repository_id != 0);
}

void
guard_enter (const ConformanceGuard *guard, const char *slot, guint64 repository_id)
{
  Conformance *all = guard->c->all;
  guint64 turn;
  if (which_turn (guard, repository_id, &turn))
    {
      gs_mutex_lock (&all->lock);
      while (!g_hash_table_add (all->turns, g_memdup2 (&turn, sizeof turn)))
        gs_cond_wait_until (&all->turned, &all->lock, G_MAXINT64);
      gs_mutex_unlock (&all->lock);
    }
  conformance_note (guard->c->target, slot);
}

static void
end_turn (const ConformanceGuard *guard, guint64 repository_id)
{
  Conformance *all = guard->c->all;
  guint64 turn;
  if (!which_turn (guard, repository_id, &turn))
    return;
  gs_mutex_lock (&all->lock);
  g_hash_table_remove (all->turns, &turn);
  gs_cond_broadcast (&all->turned);
  gs_mutex_unlock (&all->lock);
}

void
guard_handed_out (const ConformanceGuard *guard, gpointer what, guint64 repository_id)
{
  Conformance *all = guard->c->all;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&all->lock);
  g_hash_table_replace (all->handed_out, what, g_memdup2 (&repository_id, sizeof repository_id));
}

guint64
guard_repository_of (const ConformanceGuard *guard, gpointer what)
{
  Conformance *all = guard->c->all;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&all->lock);
  const guint64 *found = g_hash_table_lookup (all->handed_out, what);
  guint64 repository_id = found != NULL ? *found : 0;
  g_hash_table_remove (all->handed_out, what);
  return repository_id;
}

/* -------------------------------------------------------------------------------- what came back */

void
guard_leave (const ConformanceGuard *guard, const char *slot, guint64 repository_id, const GsCall *call)
{
  gint64 late_us;
  conformance_note (guard->c->target, "");
  end_turn (guard, repository_id);
  if (call == NULL || call->deadline_us == G_MAXINT64)
    return;
  late_us = g_get_monotonic_time () - call->deadline_us;
  if (late_us > GRACE_US)
    conformance_break (guard->c, "P5", "every slot to return when the call's deadline is over",
                       "%s returned %" G_GINT64_FORMAT " ms after it", slot, late_us / 1000);
}

void
guard_error (const ConformanceGuard *guard, const char *slot, gboolean ok, const GError *error)
{
  if (ok && error != NULL)
    conformance_break (guard->c, "P4", "no error from a slot that succeeds", "%s succeeded and set: %s", slot,
                       error->message);
  else if (!ok && error == NULL)
    conformance_break (guard->c, "P4", "an error from a slot that fails", "%s failed without one", slot);
  else if (!ok && error->domain != GS_ERROR)
    conformance_break (guard->c, "P4", "errors of the domain GS_ERROR", "%s gave one of %s: %s", slot,
                       g_quark_to_string (error->domain), error->message);
  else if (!ok && (error->code <= GS_OK || error->code > GS_ERROR_UNAUTHENTICATED))
    conformance_break (guard->c, "P4", "one of the codes of GsErrorCode", "%s gave %d: %s", slot, error->code,
                       error->message);
}

void
guard_untouched (const ConformanceGuard *guard, const char *slot, const char *name, const void *before,
                 const void *after, gsize n)
{
  if (after != NULL && memcmp (before, after, n) != 0)
    conformance_break (guard->c, untouched_promise (guard), "out parameters untouched by a slot that fails",
                       "%s failed and changed %s", slot, name);
}

static int
no_cancel_fd (GsCall *call)
{
  return -1;
}

void
guard_called_back (const GuardVisit *watch)
{
  if (!pthread_equal (watch->caller, pthread_self ()))
    conformance_break (watch->guard->c, "P8", "callbacks in the thread of the slot's caller",
                       "%s called back from another thread", watch->slot);
}

gboolean
guard_interrupts (const ConformanceGuard *guard, const GsCall *call, GsCall *ret_over)
{
  Conformance *c = guard->c;
  guint wanted = c->target->interrupt, n;
  if (wanted == 0 || conformance_has_failed (c)) /* what is broken stays so: no need to wait for more of it */
    return FALSE;
  n = __atomic_add_fetch (&c->n_calls, 1, __ATOMIC_RELAXED);
  if (n != wanted && wanted < CONFORMANCE_DELAY_ALL)
    return FALSE;
  /* Not the whole struct: a case may cancel the call at any moment. */
  *ret_over = (GsCall) { .size = sizeof *ret_over, .id = call->id, .deadline_us = call->deadline_us, .identity = call->identity,
                         .peer = call->peer, .cancel_fd = no_cancel_fd };
  if (wanted % 2 == 1)
    __atomic_store_n (&ret_over->cancelled, 1, __ATOMIC_RELEASE);
  else
    ret_over->deadline_us = g_get_monotonic_time () - 1;
  return TRUE;
}

gboolean
guard_again (const ConformanceGuard *guard, const char *slot, const GError *error, guint n_visited)
{
  conformance_interrupted (guard->c, slot, error);
  if (n_visited == 0)
    return TRUE;
  conformance_abandon (guard->c, "a call that is over gave its caller something before it failed");
  return FALSE;
}

/* BUSY promises that nothing was done, and that the same call may be made again. */
gboolean
guard_repeats (const ConformanceGuard *guard, guint *n_tries, GError **error)
{
  if (!guard->c->target->repeat_busy || !g_error_matches (*error, GS_ERROR, GS_ERROR_BUSY) || ++*n_tries > TRIES_MAX)
    return FALSE;
  g_clear_error (error);
  return TRUE;
}

void
guard_copy (void *to, const void *from, gsize n)
{
  if (from != NULL)
    memcpy (to, from, n);
}
