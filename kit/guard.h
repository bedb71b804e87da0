/* SPDX-License-Identifier: Apache-2.0 */
/**
 * guard.h - stands between the cases and a plugin's slots, and holds every call against what all slots promise.
 *
 * A case calls the guard's table with the guard as self. The functions behind it are made from the headers
 * (guard.py), one per slot: each notes which slot is under way, calls it, and looks at what came back.
 */
#ifndef CONFORMANCE_GUARD_H
#define CONFORMANCE_GUARD_H

#include "engine.h"

#include <gitstead/layer.h>
#include <gitstead/transport.h>

typedef struct
{
  Conformance *c;
  gpointer self;   /* the plugin's */
  const void *ops; /* the plugin's, completed with NULL */
} ConformanceGuard;

/** The guarded table of a kind. */
typedef struct
{
  const char *kind;
  const void *slots; /* every one filled */
  gsize size;
} ConformanceTable;

extern const ConformanceTable conformance_tables[GS_KIND_MAX + 1];

/** Takes turns as the plugin declares: of the whole instance, of the repository (0 = none), or not at all. */
void guard_enter (const ConformanceGuard *guard, const char *slot, guint64 repository_id);
void guard_leave (const ConformanceGuard *guard, const char *slot, guint64 repository_id, const GsCall *call);
/** Which repository a staged or computed write is of, for the slots that get only the write, and end it. */
void guard_handed_out (const ConformanceGuard *guard, gpointer what, guint64 repository_id);
guint64 guard_repository_of (const ConformanceGuard *guard, gpointer what);
/** An error exactly when it failed, and one of ours. */
void guard_error (const ConformanceGuard *guard, const char *slot, gboolean ok, const GError *error);
void guard_untouched (const ConformanceGuard *guard, const char *slot, const char *name, const void *before,
                      const void *after, gsize n);

/** A callback of the case, behind one that counts. */
typedef void (*GuardFunction) (void);
typedef struct
{
  GuardFunction visit;
  gpointer user;
  guint n;
  const ConformanceGuard *guard;
  const char *slot;
  pthread_t caller;
} GuardVisit;

/** In the caller's thread? */
void guard_called_back (const GuardVisit *watch);

/** Is this the call that the run interrupts? Then @ret_over is what the plugin gets first: @call, but over. */
gboolean guard_interrupts (const ConformanceGuard *guard, const GsCall *call, GsCall *ret_over);
/** It failed so; may it be made again? Not when the caller has seen @n_visited items. */
gboolean guard_again (const ConformanceGuard *guard, const char *slot, const GError *error, guint n_visited);
/** Should a call that failed with @error be repeated? Then clears it. */
gboolean guard_repeats (const ConformanceGuard *guard, guint *n_tries, GError **error);

/** Bytes that a caller need not have set. */
void guard_copy (void *to, const void *from, gsize n);

#endif
