/* SPDX-License-Identifier: Apache-2.0 */
/**
 * serve.h - a process as a node: its storages for the routers of the cluster (NodeService, api/proto/…/node.proto).
 *
 * Each call is one slot of a storage. What a router staged is held here under its transaction id until the router says
 * commit or abort. A router that goes silent for the lease has its writes settled as recovery does: the metadata store
 * is asked, and what it has not decided gets an abort mark before it is dropped.
 */
#ifndef GSI_NODE_SERVE_H
#define GSI_NODE_SERVE_H

#include <gitstead/metadata.h>

#include "node/node.h"

/*
 * Versions of what is said between routers and nodes: raised when one of them could misunderstand the other. What is only
 * new (a field, a method, a slot) needs no other number. plugins/storage/remote has the same two.
 */
#define GSI_NODE_PROTOCOL 1u
#define GSI_NODE_PROTOCOL_OLDEST 1u

/** All borrowed for the life of the service. */
typedef struct
{
  const GsHost *host;
  const GsMetadataOps *metadata;
  gpointer metadata_self;
  const GsiStorage *const *storages; /* those that are lent */
  gsize n_storages;
  gint64 lease_us;
  const char *program; /* "gitstead/VERSION" */
  /** Cancels calls under way of the cluster, by id. TRUE when there was one. */
  gboolean (*cancel) (gpointer user, const GsTxId *id);
  /** Is that write in the hand of this process' own router? */
  gboolean (*holds) (gpointer user, const GsTxId *txid);
  gpointer user;
} GsiServeConfig;

typedef struct GsiServe GsiServe;

/** *full*. Copies @config. */
GsiServe *gsi_serve_new (const GsiServeConfig *config);
/**
 * The metadata store says that @storage must not be used as it is: its name is another disk's, its disk has another name,
 * another process has taken over. Routers are told @why, and take the node for away. NULL: it may be used again.
 */
void gsi_serve_refuse (GsiServe *serve, const char *storage, const char *why);
/** Takes no new writes, and calls that are cancelled no longer wait for their router. */
void gsi_serve_drain (GsiServe *serve);
/** Ends the watch over leases; what is staged still is aborted when the metadata store says so, else left to the next
 *  start. No call is under way any more. */
void gsi_serve_stop (GsiServe *serve);
/** After stop, or before any call was taken. NULL is fine. */
void gsi_serve_free (GsiServe *serve);
/** The handlers, for gsi_rpc_handle_all; user data is the service. Ends with number 0. */
const GsiBinding *gsi_serve_bindings (void);
/** Is that write in a router's hand, in @storage (NULL: in any)? Then it is not recovery's. */
gboolean gsi_serve_claims (GsiServe *serve, const GsTxId *txid, const GsiStorage *storage);

#endif
