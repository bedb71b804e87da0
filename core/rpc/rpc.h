/* SPDX-License-Identifier: Apache-2.0 */
/**
 * rpc.h - dispatch: everything between a transport's call_begin and a handler.
 *
 * On the transport's thread (never blocks): method, size, the bound on calls in flight, queue.
 * On a worker, in this order: who is it (access plugin), decode the request within a memory budget, the
 * target and its path, may they, has this call id been answered already, the repository's own bound; then the
 * handler, here or, for streaming methods, on a stream thread. The first check that fails ends the call, and
 * nothing was done. Every call ends exactly once, through its done function.
 *
 * No lock is held while an access slot, a stream slot, a handler or a done function runs.
 */
#ifndef GSI_RPC_RPC_H
#define GSI_RPC_RPC_H

#include "call.h"
#include "methods.h"

typedef struct GsiPool GsiPool;
typedef struct GsiLog GsiLog;
typedef struct GsiMetrics GsiMetrics;
typedef struct GsiRpc GsiRpc;

/** Bounds. Get the defaults from gsi_rpc_limits_default and change what the configuration says. */
typedef struct
{
  gsize max_message_bytes;            /* of a request's payload; beyond: OUT_OF_RANGE */
  gsize max_reply_bytes;              /* of an accessor's reply; beyond: OUT_OF_RANGE */
  gsize decode_bytes;                 /* memory that one decoded request may take over its size; OUT_OF_RANGE */
  guint max_in_flight;                /* calls under way at once, queued ones included; beyond: BUSY */
  guint max_in_flight_per_repository; /* beyond: BUSY */
  guint max_streams;                  /* streaming calls admitted at once; beyond: BUSY */
  gint64 default_timeout_us;          /* for methods and callers that name no time */
  gint64 max_timeout_us;              /* most that a caller can ask for; a method's own time may be longer */
  gint64 accept_timeout_us;           /* a streaming call waits so long for its peer */
  gint64 keep_outcome_us;             /* outcomes of mutators are kept so long for duplicates … */
  guint keep_outcomes;                /* … at most so many … */
  gsize keep_outcome_bytes;           /* … and bytes, the oldest going first */
} GsiRpcLimits;

void gsi_rpc_limits_default (GsiRpcLimits *ret_limits);

/**
 * What a call stands on, from its begin to its end: who may, how much, and the router. It never changes; a reload makes
 * another one beside it, and the old one is released when the last call that began with it has ended.
 */
typedef struct
{
  GsiRpcLimits limits;
  const GsAccessOps *access; /* NULL: whatever needs permission is UNAUTHENTICATED */
  gpointer access_self;
  gpointer user;             /* of handlers that were bound without one */
  void (*released) (gpointer user); /* nobody refers to it any more. Any thread: it only takes note. May be NULL */
  gpointer released_user;
} GsiWiringSetup;

typedef struct GsiWiring GsiWiring;

/** *full* (gsi_wiring_unref). Copies @setup. */
GsiWiring *gsi_wiring_new (const GsiWiringSetup *setup);
/** Before anybody else uses it: the user, where that needs the wiring to be made. */
void gsi_wiring_set_user (GsiWiring *wiring, gpointer user);
/** NULL is fine for both. Any thread. */
GsiWiring *gsi_wiring_ref (GsiWiring *wiring);
void gsi_wiring_unref (GsiWiring *wiring);

/**
 * @workers carries out unary calls (and all checks), @streams the handlers of streaming methods: an elastic pool
 * of limits->max_streams threads and a queue as long, because a call's end is told just before its thread is
 * free. All pointers are borrowed until gsi_rpc_free. *full*. NULL with INTERNAL when the schema is broken or a
 * thread cannot be had.
 */
GsiRpc *gsi_rpc_new (const GsiRpcLimits *limits, GsiPool *workers, GsiPool *streams, GsiLog *log,
                     GsiMetrics *metrics, GError **error);
/** After gsi_rpc_stop. NULL is fine. */
void gsi_rpc_free (GsiRpc *rpc);

/* ------------------------------------------------------------------------------- wiring, before serving */

/** Binds handlers; @user goes to each, NULL = the wiring's user of the call. INTERNAL for a number without a method or bound twice. */
gboolean gsi_rpc_handle_all (GsiRpc *rpc, const GsiBinding *bindings, gpointer user, GError **error);
/** Who decides who may. Without one every call that needs permission is UNAUTHENTICATED. */
void gsi_rpc_set_access (GsiRpc *rpc, const GsAccessOps *ops, gpointer self);
/**
 * Calls that begin from now on stand on @wiring; those under way go on with what they have. Takes a reference. Any
 * thread; its released function may run before it returns.
 */
void gsi_rpc_set_wiring (GsiRpc *rpc, GsiWiring *wiring);

/** The secret that the processes of one cluster share, in the form of a token. INVALID_ARGUMENT when it has not the form.
 */
gboolean gsi_rpc_set_cluster_token (GsiRpc *rpc, const char *token, GError **error);

/** The schema. *borrowed as long as @rpc*. */
const GsiMethods *gsi_rpc_methods (const GsiRpc *rpc);
/** Of calls that begin now. */
void gsi_rpc_limits (GsiRpc *rpc, GsiRpcLimits *ret_limits);
/** Random per process start: clients see from it that the server restarted. */
guint64 gsi_rpc_epoch (const GsiRpc *rpc);

/* ------------------------------------------------------------------- what GsHost gives to transports */

/** GsHost.method */
gboolean gsi_rpc_method_info (const GsiRpc *rpc, guint32 number, const char *name, GsMethodInfo *ret_info);
/** GsHost.call_begin. Any thread. */
GsCallHandle gsi_rpc_begin (GsiRpc *rpc, const GsInbound *inbound);
/** GsHost.call_cancel. Any thread; done may be called before it returns. */
void gsi_rpc_cancel (GsiRpc *rpc, GsCallHandle handle);
/** GsHost.call_ready. Any thread; done may be called before it returns. */
void gsi_rpc_ready (GsiRpc *rpc, GsCallHandle handle);

/**
 * Asks the access plugin whether what the callers of calls under way showed still counts, and ends those calls where it does
 * not. To be called every GSI_RECHECK_EVERY_US, by one thread at a time; may block for GSI_RECHECK_PATIENCE_US.
 */
void gsi_rpc_recheck (GsiRpc *rpc);
#define GSI_RECHECK_EVERY_US (2 * G_USEC_PER_SEC)
#define GSI_RECHECK_PATIENCE_US (5 * G_USEC_PER_SEC)

/* ----------------------------------------------------------------------------------------- for handlers */

/**
 * Cancels every call under way that carries @id and was begun by the identity named @caller. TRUE when there
 * was one. Any thread.
 */
gboolean gsi_rpc_cancel_by_id (GsiRpc *rpc, const GsTxId *id, const char *caller);

/**
 * May the caller of @call do work of @scope on @path as well (normal form; NULL: on the server)? For second
 * paths (rename) and for rows of lists. PERMISSION_DENIED otherwise.
 */
gboolean gsi_call_authorize (GsiCall *call, GsScope scope, const char *path, GError **error);
/**
 * For a handler that goes on giving what happens: UNAUTHENTICATED once what its caller showed is revoked or has expired, a
 * second later at most. May block for two.
 */
gboolean gsi_call_recheck (GsiCall *call, GError **error);

/* -------------------------------------------------------------------------------------------- the end */

/** New calls are UNAVAILABLE from now on; those under way go on. */
void gsi_rpc_drain (GsiRpc *rpc);
/** Waits until no call is under way or @until_us (monotonic). TRUE when none is. */
gboolean gsi_rpc_wait_idle (GsiRpc *rpc, gint64 until_us);
/**
 * Drains, cancels what is still under way and waits for it to end: handlers that heed cancellation end
 * soon, others hold it up. The pools must still be running.
 */
void gsi_rpc_stop (GsiRpc *rpc);

/** Logs the calls under way, the first few of them: which hold up the end of the server. */
void gsi_rpc_log_in_flight (GsiRpc *rpc);
/** Calls under way, queued ones included. */
guint gsi_rpc_in_flight (GsiRpc *rpc);

#endif
