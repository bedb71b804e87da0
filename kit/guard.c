/* SPDX-License-Identifier: Apache-2.0 */
/* What every slot promises. See guard.h. */
#include "guard.h"

/* How long after a call's deadline a slot may still be on its way out. */
#define GRACE_US (2 * G_USEC_PER_SEC)

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

void
guard_enter (const ConformanceGuard *guard, const char *slot)
{
  conformance_note (guard->c->target, slot);
}

void
guard_leave (const ConformanceGuard *guard, const char *slot, const GsCall *call)
{
  gint64 late_us;
  conformance_note (guard->c->target, "");
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

void
guard_copy (void *to, const void *from, gsize n)
{
  if (from != NULL)
    memcpy (to, from, n);
}
