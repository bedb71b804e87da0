/* SPDX-License-Identifier: Apache-2.0 */
/**
 * settle.h - writes that were staged and whose end is open, because a process died or a store did not answer.
 *
 * The metadata store knows: decided ones are applied, the others get an abort mark there (so that no slow
 * coordinator can decide them any more) and are dropped.
 */
#ifndef GSI_ROUTER_SETTLE_H
#define GSI_ROUTER_SETTLE_H

#include "router/router.h"

typedef struct GsiSettler GsiSettler;

/** Shared by the routers of one process, one after the other: @host speaks for all of them. */
GsiSettler *gsi_settler_new (const GsHost *host);
GsiSettler *gsi_settler_ref (GsiSettler *settler);
/** Rounds from now on are @router's. */
void gsi_settler_take_over (GsiSettler *settler, GsiRouter *router);
/** Waits for a round under way; no further one begins. Rounds whose timer was dropped are forgotten. */
void gsi_settler_stop (GsiSettler *settler);
/** The last one: after stop, or before anything was asked of it. NULL is fine. */
void gsi_settler_unref (GsiSettler *settler);
/** Asks for a round on the storage of that name, once, about a second from now; again until it succeeds or there is no
 *  such storage any more. */
void gsi_settler_later (GsiSettler *settler, const char *storage);
/**
 * The same, and looks afterwards whether the replica is at @generation: a storage may bring a decided write to its end by
 * itself when it comes back. Then it is recorded so.
 */
void gsi_settler_later_replica (GsiSettler *settler, const GsiStorage *storage, guint64 repository_id,
                                const char *replica_path, guint64 generation);
/** A write of this process is between stage and commit: it is not the settler's. */
void gsi_settler_claim (GsiSettler *settler, const GsTxId *txid);
void gsi_settler_release (GsiSettler *settler, const GsTxId *txid);

GsiSettler *gsi_router_settler (GsiRouter *router);

/**
 * Has the replica of @row on a node apply what was decided with its vote and nobody has told it: the router that would have
 * may be dead, and readers wait. One that is only slow finds it done. Until @until_us at most.
 */
void gsi_router_finish (GsiRouter *router, const GsiStorage *storage, const GsiRow *row, gint64 until_us);

/** A call of the server's own, for slots that want one: no deadline, never cancelled. */
void gsi_own_call_init (GsCall *ret_call, GsIdentity *ret_identity, const char *doing);

#endif
