/* SPDX-License-Identifier: Apache-2.0 */
/* private.h - what the files of dispatch share: the server's state and the record of a call. */
#ifndef GSI_RPC_PRIVATE_H
#define GSI_RPC_PRIVATE_H

#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "cluster.h"
#include "dedupe.h"
#include "rpc.h"

#include <gitstead/thread.h>

#define GSI_N_CODES 17

/**
 * Who may end a call: while a thread works on it (WORKING), that thread; in all other states whoever first sets
 * ENDED under the lock.
 */
typedef enum
{
  CALL_QUEUED,  /* in a pool's queue */
  CALL_WORKING, /* a thread has it */
  CALL_JOINED,  /* waits for the call it repeats */
  CALL_PARKED,  /* waits for its stream's peer */
  CALL_ENDED
} CallState;

/** What the thread that takes it from the queue is to do. */
typedef enum
{
  STEP_CHECK,  /* all checks, then the handler */
  STEP_RUN,    /* checks passed: the repository's bound, then the handler */
  STEP_STREAM  /* on a stream thread: the handler */
} CallStep;

typedef enum
{
  STOP_NONE,
  STOP_CALLER,   /* the caller went away or asked for it */
  STOP_DEADLINE,
  STOP_NO_PEER,  /* nobody connected for the stream */
  STOP_REVOKED,  /* what the caller showed no longer counts */
  STOP_SERVER    /* the server stops */
} StopReason;

typedef struct
{
  GsiCall call; /* first: handlers' pointer is the record's */
  GsiRpc *rpc;
  GsiWiring *wiring; /* a reference: what it began with it ends with */
  GsCallHandle handle;
  gint refs;    /* atomic: the table, a pool's queue or a thread, the dedupe entry */

  /* constant after begin */
  GsiHandler handler;
  gpointer handler_user;
  GsEncoding encoding;
  gboolean has_id;      /* the caller gave the call id */
  char *peer;
  gint64 begun_us, timeout_us;
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer done_user;

  /* of the thread that works on it */
  GBytes *payload;      /* dropped once decoded */
  GsCredentials credentials; /* copies, wiped after use */
  GsArena *arena;       /* the decoded request */
  char *path;           /* call.path */
  char *repository_key; /* key in rpc->repositories; NULL when not counted */
  GsiDedupeKey key;
  GBytes *reply;        /* what gsi_call_reply kept */
  gboolean reply_broken;

  /* under rpc->lock */
  CallState state;
  CallStep step;
  StopReason stop;
  const GsIdentity *identity; /* call.base.identity once authenticated; given back at the end */
  GsiDedupeEntry *entry;      /* leads it or is joined to it */
  gboolean ready;             /* gsi_rpc_ready came before the call was parked */
  gboolean streaming;         /* counted in rpc->n_streams */
  gint64 park_until_us;
  int cancel_fd;
} Call;

typedef struct
{
  GsiHandler handler;
  gpointer user;
  GsMetric *counts[GSI_N_CODES]; /* atomic pointers: registered when a code first comes */
} MethodSlot;

struct GsiWiring
{
  gint refs; /* atomic, in line: ThreadSanitizer cannot see counts kept inside GLib */
  GsiWiringSetup setup;
};

struct GsiRpc
{
  GsiMethods *methods;
  GHashTable *slots; /* const GsiMethod -> MethodSlot; constant after wiring */
  GsiCluster *cluster; /* NULL: no process of a cluster is known */
  GsiPool *workers, *streams;
  GsiLog *log;
  GsiMetrics *metrics;
  GsMetric *seconds[4][2]; /* by operation, streaming */
  GsMetric *in_flight_gauge, *stream_gauge, *queue_gauge, *kept_gauge;
  GsMetric *joined_count, *kept_count;
  guint64 epoch;

  GsMutex lock;
  GsiWiring *wiring; /* of calls that begin now; a reference */
  GsCond idle;  /* n_records became 0 */
  GsCond watch; /* for the watchdog */
  GHashTable *calls; /* &Call.handle -> Call (a reference), all but the ended */
  GHashTable *repositories; /* key -> count of calls that run */
  GsiDedupe *dedupe;
  guint64 last_handle;
  guint n_in_flight; /* not yet ended */
  guint n_streams;
  guint n_records;   /* not yet freed */
  gint64 next_watch_us;
  gboolean draining, stopping, watchdog_runs;
  GsThread watchdog;
};

/* ---- record.c */
/** Consumes a reference to @wiring. */
Call *gsi_record_new (GsiRpc *rpc, GsiWiring *wiring, const GsiMethod *method, const GsInbound *inbound);
Call *gsi_record_ref (Call *call);
void gsi_record_unref (Call *call);
/** Wipes the copies of what the caller showed. */
void gsi_record_forget_credentials (Call *call);

/**
 * Ends a call that the caller has claimed (it works on it, or it has set ENDED under the lock): frees its places,
 * settles the dedupe entry, calls done, and ends or restarts those who joined it.
 */
void gsi_record_end (Call *call, GsiEnd *end);
/** The same from an error; consumes @error. */
void gsi_record_fail (Call *call, GError *error);
/**
 * Asks a call to stop. With the lock held. TRUE: it was waiting and is the caller's to end, by
 * gsi_record_end_stopped after unlocking. @force also when others have joined it.
 */
gboolean gsi_record_stop_locked (Call *call, StopReason reason, gboolean force);
void gsi_record_end_stopped (Call *call);
/** How long to wait before a repeat, by code. Pure. */
gint64 gsi_record_advice_us (int code);
/** What @error carries, as a caller that uses @encoding reads it: *full*, NULL for nothing. */
GBytes *gsi_record_details (const GsiRpc *rpc, const GError *error, GsEncoding encoding);
/** The error that stands for @reason. */
GError *gsi_record_stop_error (const Call *call, StopReason reason);

/* ---- dispatch.c */
/** Pool work: user is a Call with a reference, which it consumes. */
void gsi_dispatch_work (gpointer user);
/**
 * Hands @call, which is QUEUED, to a pool for @step; ends it BUSY when that is full. Consumes a reference.
 */
void gsi_dispatch_queue (Call *call, GsiPool *pool, CallStep step);
/** Makes the watchdog look at @at_us at the latest. With the lock held. */
void gsi_dispatch_watch_locked (GsiRpc *rpc, gint64 at_us);
/** Counts and logs an ended call. */
void gsi_dispatch_note (GsiRpc *rpc, const Call *call, const GsiEnd *end, gint64 now_us);
void gsi_dispatch_count (GsiRpc *rpc, const GsiMethod *method, GsErrorCode code);

#endif
