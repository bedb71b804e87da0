/* SPDX-License-Identifier: Apache-2.0 */
/**
 * node.h - carrying out a call on one replica of a local storage.
 *
 * The node knows nothing of virtual storages, placement or decisions: the router located the replica
 * and says what became of a write. Handlers run on worker or stream threads.
 */
#ifndef GSI_NODE_NODE_H
#define GSI_NODE_NODE_H

#include <gitstead/cache.h>
#include <gitstead/storage.h>

#include "rpc/call.h"

/** A storage of this process. Lives as long as the server. */
typedef struct
{
  const char *name;
  const GsStorageOps *ops;
  gpointer self;
  const char *zone;     /* "" when not configured */
  gint64 weight;        /* share of new repositories; 0 = none */
  guint32 *reads;       /* atomic: reads under way; NULL = not counted */
} GsiStorage;

/** One copy of a repository, located. Borrowed until the handler returns. */
typedef struct
{
  const GsiStorage *storage;
  GsRepo repo;
  const char *path;           /* what the client calls it, for messages */
  const GsCacheOps *cache;    /* never NULL */
  gpointer cache_self;
  gboolean asks_hooks;        /* of a write's participants it is the one that asks the repository's hooks */
} GsiReplica;

/** Answers an accessor from one replica: replies or sends on the stream. */
typedef gboolean (*GsiReadHandler) (const GsiReplica *replica, GsiCall *call, GError **error);

/**
 * Stages a mutator on one replica under @txid. On TRUE *@ret_txn and *@ret_vote are as in storage.h;
 * the transaction is consumed by the storage's commit or abort.
 */
typedef gboolean (*GsiStageHandler) (const GsiReplica *replica, GsiCall *call, const GsTxId *txid,
                                     gpointer *ret_txn, const GsVote **ret_vote, GError **error);

/** How an acknowledged write is answered. Borrowed until return. */
typedef struct
{
  GsTxId txid;
  guint64 generation;
  GsDigest refs_digest;
  const char *const *replicas;
  gsize n_replicas;
} GsiReceipt;

/** Replies to a mutator. @receipt is NULL when nothing was changed (a push whose commands were all refused). */
typedef void (*GsiReceiptReply) (GsiCall *call, const GsiReceipt *receipt);

/** What the node can do, by method number. Each list ends with number 0. */
typedef struct
{
  guint32 number;
  GsiReadHandler read;
} GsiReadBinding;

typedef struct
{
  guint32 number;
  GsiStageHandler stage;
  GsiReceiptReply reply;
} GsiWriteBinding;

/** Answers an accessor whose rule says `storage`, whichever it is. */
gboolean gsi_node_query (const GsiReplica *replica, GsiCall *call, GError **error);
/**
 * Carries out a maintenance whose rule says `storage`, on one replica. The reply's bytes go behind those in @replies.
 */
gboolean gsi_node_maintain (const GsiReplica *replica, GsiCall *call, GByteArray *replies, GError **error);
/** Replies with what several replicas answered: messages one behind the other are one with all their repeated fields. */
gboolean gsi_node_joined_reply (const GsiReplica *replica, GsiCall *call, GByteArray *replies, GError **error);
/** Computes a mutator whose rule says `storage`, on one replica. *@ret_computed is given back by the storage's computed_free. */
gboolean gsi_node_compute (const GsiReplica *replica, GsiCall *call, GsComputed **ret_computed, GError **error);
/** Replies with what @replica computed, and the receipt where there is one. */
gboolean gsi_node_computed_reply (const GsiReplica *replica, GsiCall *call, const GsComputed *computed,
                                  const GsiReceipt *receipt, GError **error);
/** Replies to a computed call that was decided before with the receipt alone: what else it said is not kept. */
void gsi_node_receipt_reply (GsiCall *call, const GsiReceipt *receipt);
/** Stages @change on one replica. */
gboolean gsi_node_change_stage (const GsiReplica *replica, GsiCall *call, const GsChangeSet *change, gpointer *ret_txn,
                                const GsVote **ret_vote, GError **error);

const GsiReadBinding *gsi_node_reads (void);
const GsiWriteBinding *gsi_node_writes (void);

/* The files behind the two lists. */
gboolean gsi_node_ref_list (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_ref_find (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_ref_stage (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                             const GsVote **ret_vote, GError **error);
void gsi_node_ref_reply (GsiCall *call, const GsiReceipt *receipt);
gboolean gsi_node_head_stage (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                              const GsVote **ret_vote, GError **error);
void gsi_node_head_reply (GsiCall *call, const GsiReceipt *receipt);
gboolean gsi_node_object_resolve (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_object_read (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_object_stream (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_object_list_tree (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_git_advertise (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_git_upload_pack (const GsiReplica *replica, GsiCall *call, GError **error);
gboolean gsi_node_git_stage_push (const GsiReplica *replica, GsiCall *call, const GsTxId *txid, gpointer *ret_txn,
                                  const GsVote **ret_vote, GError **error);
/** Is the advertisement part of that push's conversation? */
gboolean gsi_node_push_is_session (const GsiCall *call);
void gsi_node_git_push_reply (GsiCall *call, const GsiReceipt *receipt);
gboolean gsi_node_repository_size (const GsiReplica *replica, GsiCall *call, GError **error);

#endif
