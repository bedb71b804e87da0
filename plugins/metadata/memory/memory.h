/* SPDX-License-Identifier: Apache-2.0 */
/**
 * memory.h - the inside of metadata/memory: tables under one lock.
 *
 * Every slot checks first and changes then, under one hold of the lock, so it is all or nothing. What a caller gets to
 * see is copied under the lock and shown after it.
 */
#ifndef METADATA_MEMORY_H
#define METADATA_MEMORY_H

#include <gitstead/metadata.h>
#include <gitstead/thread.h>

#include "sql.h"

/** A decided write. Updates and voters are kept in the text forms of sql.h. */
typedef struct
{
  guint64 repository_id, generation;
  GsTxId txid, call_id;
  GsDigest refs_digest;
  guint8 vote[32];
  GBytes *updates;
  char *voters, *caller;
  gint64 decided_wall_us;
} MemChange;

typedef struct
{
  GsReplicaRow row; /* owns the name of its storage */
} MemReplica;

typedef struct
{
  GsRepoRow row; /* owns its texts; without the list of replicas */
  char *path_key;
  GPtrArray *replicas; /* of MemReplica, in order of storage */
} MemRepo;

/** An id that was given out. It stays for ever, and so do its changes. */
typedef struct
{
  guint64 id;
  MemRepo *repo;      /* NULL before it was recorded and after it was deleted */
  gboolean recorded;
  GPtrArray *changes; /* of MemChange, owned; generations without a gap. NULL = none yet */
  GHashTable *by_call; /* call id -> MemChange. NULL = none yet */
} MemId;

typedef struct
{
  GsTokenRow row; /* owns its texts */
  guint8 verifier[64];
} MemToken;

typedef struct
{
  GsNodeRow row; /* owns its texts */
  guint64 replaced;
} MemNode;

typedef struct
{
  GsJobRow row; /* owns its texts */
  gint64 until_us;
} MemJob;

typedef struct
{
  char *name, *owner;
  guint64 token;
  gint64 until_us;
} MemLease;

typedef struct
{
  const GsHost *host;
  GsMutex lock; /* of what follows */
  GsCond hinted;
  guint64 n_hints; /* changes of jobs and nodes, from 1 */
  guint64 last_id;
  GHashTable *ids;        /* &MemId.id -> MemId, owned */
  GTree *by_path;         /* MemRepo, owned, in order of virtual storage and path */
  GHashTable *by_key;     /* "VIRTUAL STORAGE\nKEY" -> MemRepo */
  GHashTable *by_replica; /* "VIRTUAL STORAGE\nREPLICA PATH" -> MemRepo */
  GHashTable *created;    /* call id -> MemId */
  GHashTable *decided;    /* &MemChange.txid -> MemChange */
  GHashTable *aborted;    /* GsTxId, owned -> guint64, owned */
  GHashTable *tokens;     /* id -> MemToken, owned */
  GTree *nodes;           /* storage -> MemNode, owned */
  GTree *jobs;            /* &MemJob.row.id -> MemJob, owned */
  GTree *leases;          /* name -> MemLease, owned */
  guint64 last_job;
} Mem;

/** The call, which may be NULL, is neither cancelled nor late. */
gboolean mem_begin (const GsCall *call, const char *doing, GError **error);
/** Of a GsTxId. */
guint mem_txid_hash (gconstpointer id);
gboolean mem_txid_equal (gconstpointer a, gconstpointer b);
gboolean mem_txid_is_none (const GsTxId *id);
/** The order of by_path. */
int mem_repo_order (gconstpointer a, gconstpointer b, gpointer user);
void mem_repo_free (gpointer repo);
void mem_change_free (gpointer change);
void mem_token_free (gpointer token);
void mem_node_free (gpointer node);
void mem_job_free (gpointer job);
void mem_lease_free (gpointer lease);
int mem_job_order (gconstpointer a, gconstpointer b, gpointer user);
int mem_name_order (gconstpointer a, gconstpointer b, gpointer user);
/** Wakes whoever waits for jobs or nodes. The lock is held. */
void mem_hint (Mem *self);

/** The row of an id, NULL when it has none now. The lock is held. */
MemRepo *mem_repo_of (Mem *self, guint64 id);
/** NULL when there is none. The lock is held. */
MemReplica *mem_replica_of (MemRepo *repo, const char *storage);
/** Keeps the order. The lock is held. */
MemReplica *mem_replica_add (MemRepo *repo, const char *storage);

gboolean mem_repo_reserve (gpointer self, GsCall *call, const char *virtual_storage, const char *path, guint64 *ret_id,
                           GError **error);
gboolean mem_repo_record (gpointer self, GsCall *call, const GsRepoRow *row, const GsTxId *call_id, GError **error);
gboolean mem_repo_restore (gpointer self, GsCall *call, const GsRepoRow *row, GError **error);
gboolean mem_repo_find (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                        GsRepoRowVisit visit, gpointer user, GError **error);
gboolean mem_repo_get (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean mem_repo_list (gpointer self, GsCall *call, const char *virtual_storage, const char *prefix,
                        const char *after, gsize limit, GsRepoRowVisit visit, gpointer user, GError **error);
gboolean mem_repo_rename (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                          const char *new_path, GError **error);
gboolean mem_repo_delete (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                          GsRepoRowVisit visit, gpointer user, GError **error);
gboolean mem_repo_created_by (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id, GError **error);

gboolean mem_decide (gpointer self, GsCall *call, const GsDecideRequest *request, guint64 *ret_generation,
                     GError **error);
gboolean mem_tx_find (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                      GsChangeVisit visit, gpointer user, GError **error);
gboolean mem_tx_abort (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid, GsTxState *ret_state,
                       GError **error);
gboolean mem_change_by_call (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *call_id,
                             GsChangeVisit visit, gpointer user, GError **error);
gboolean mem_change_list (gpointer self, GsCall *call, guint64 repository_id, guint64 after, gsize limit,
                          GsChangeVisit visit, gpointer user, GError **error);
gboolean mem_replica_set (gpointer self, GsCall *call, guint64 repository_id, const char *storage, guint64 generation,
                          gboolean force, GError **error);

gboolean mem_token_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error);
gboolean mem_token_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user,
                        GError **error);
gboolean mem_token_list (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error);
gboolean mem_token_delete (gpointer self, GsCall *call, const char *id, GError **error);

gboolean mem_repo_set_policy (gpointer self, GsCall *call, guint64 id, guint32 copies, const char *consistency,
                              GError **error);
gboolean mem_repo_list_all (gpointer self, GsCall *call, guint64 after, gsize limit, GsRepoRowVisit visit,
                            gpointer user, GError **error);
gboolean mem_repo_list_on (gpointer self, GsCall *call, const char *storage, guint64 after, gsize limit,
                           GsRepoRowVisit visit, gpointer user, GError **error);
gboolean mem_replica_drop (gpointer self, GsCall *call, guint64 repository_id, const char *storage, gboolean force,
                           GError **error);
gboolean mem_replica_verified (gpointer self, GsCall *call, guint64 repository_id, const char *storage,
                               gboolean objects, GError **error);

gboolean mem_node_report (gpointer self, GsCall *call, const GsNodeRow *row, GsNodeState *ret_state, GError **error);
gboolean mem_node_list (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error);
gboolean mem_node_set_state (gpointer self, GsCall *call, const char *storage, GsNodeState state, GError **error);
gboolean mem_node_forget (gpointer self, GsCall *call, const char *storage, GError **error);
gboolean mem_node_found (gpointer self, GsCall *call, const char *storage, guint64 highest_id, gboolean joined,
                         GError **error);

gboolean mem_job_add (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id, GError **error);
gboolean mem_job_take (gpointer self, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit, gpointer user,
                       GError **error);
gboolean mem_job_renew (gpointer self, GsCall *call, guint64 id, guint64 token, gint64 lease_us, GError **error);
gboolean mem_job_end (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure, gint64 retry_us,
                      GError **error);
gboolean mem_job_list (gpointer self, GsCall *call, const GsJobFilter *filter, guint64 after, gsize limit,
                       GsJobRowVisit visit, gpointer user, GError **error);
gboolean mem_job_prune (gpointer self, GsCall *call, gint64 age_us, gsize limit, guint *ret_n, GError **error);

gboolean mem_lease_take (gpointer self, GsCall *call, const char *name, const char *owner, gint64 lease_us,
                         guint64 *ret_token, GError **error);
gboolean mem_lease_renew (gpointer self, GsCall *call, const char *name, guint64 token, gint64 lease_us,
                          GError **error);
gboolean mem_lease_release (gpointer self, GsCall *call, const char *name, guint64 token, GError **error);
gboolean mem_lease_list (gpointer self, GsCall *call, GsLeaseRowVisit visit, gpointer user, GError **error);
gboolean mem_wait_hint (gpointer self, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen,
                        GError **error);

#endif
