/* SPDX-License-Identifier: Apache-2.0 */
/**
 * metadata.h - kind METADATA, class BLOCKING: the one truth about which repositories there are, where
 * their replicas are and how far each is, and the decisions on writes.
 *
 *   [M1] Every slot is one transaction: all or nothing, durable when it returned TRUE.
 *   [M2] decide is the compare-and-swap that commits a write: of two calls with the same expected
 *        generation at most one succeeds.
 *   [M3] A transaction id is decided or aborted, never both, whoever asks in whatever order.
 *   [M4] Repository ids are never reused, also not after a deletion or a restart.
 *   [M5] Any number of threads (and, where the store is shared, processes) at once.
 *   [M6] Out parameters are untouched on failure.
 *   [M7] A store that cannot be reached gives UNAVAILABLE and did nothing, or UNKNOWN when it may have.
 *   [M8] Paths of one virtual storage that differ only in upper and lower case, or in how their letters
 *        are composed, collide: ALREADY_EXISTS, naming the repository that has the name.
 */
#ifndef GITSTEAD_METADATA_H
#define GITSTEAD_METADATA_H

#include "host.h"

G_BEGIN_DECLS

/** One replica of a repository. */
typedef struct
{
  guint32 size;
  const char *storage;    /* name of the storage (node) */
  guint64 generation;     /* as last heard from it */
  gint64 verified_wall_us; /* 0 = never */
} GsReplicaRow;

/** One repository. Strings borrowed until the row is freed or the callback returns. */
typedef struct
{
  guint32 size;
  guint64 id;
  const char *virtual_storage;
  const char *path;          /* what clients call it, "group/project.git" */
  const char *replica_path;
  GsObjectFormat format;
  guint64 generation;
  GsDigest refs_digest;
  gint64 created_wall_us;
  gint64 changed_wall_us;    /* last decided write */
  const GsReplicaRow *const *replicas;
  gsize n_replicas;
} GsRepoRow;

typedef gboolean (*GsRepoRowVisit) (const GsRepoRow *row, gpointer user);

/** A write that asks to be decided. Borrowed until return. */
typedef struct
{
  guint32 size;
  guint64 repository_id;
  GsTxId txid;
  GsTxId call_id;            /* idempotency key; all zero = none */
  guint64 expected_generation;
  GsDigest refs_digest;      /* after this write, given the expected generation's digest */
  guint8 vote[32];
  const GsRefUpdate *updates;
  gsize n_updates;
  const char *const *voters; /* storages that hold it durably; NULL-terminated */
  const char *caller;
} GsDecideRequest;

/** A decided write, as kept in the audit log. Borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  guint64 repository_id;
  guint64 generation;
  GsTxId txid;
  GsTxId call_id;
  GsDigest refs_digest;
  guint8 vote[32];
  const GsRefUpdate *updates;
  gsize n_updates;
  const char *const *voters;
  const char *caller;
  gint64 decided_wall_us;
} GsChange;

typedef gboolean (*GsChangeVisit) (const GsChange *change, gpointer user);

/** What became of a transaction. */
typedef enum
{
  GS_TX_UNKNOWN = 0,
  GS_TX_DECIDED = 1,
  GS_TX_ABORTED = 2
} GsTxState;

/** A stored access token. Strings borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  const char *id;
  const char *name;
  const guint8 *verifier; /* 64 bytes; what it means is the access plugin's */
  guint32 scope;
  const char *prefix;
  gint64 created_wall_us;
  gint64 expires_wall_us; /* 0 = never */
} GsTokenRow;

typedef gboolean (*GsTokenRowVisit) (const GsTokenRow *row, gpointer user);

typedef struct
{
  /** Brings the schema up to date. With @plan_only nothing changes. @ret_pending: how many steps (were) missing. */
  gboolean (*migrate) (gpointer self, GsCall *call, gboolean plan_only, guint *ret_pending,
                       GError **error);

  /** Reserves a repository id. ALREADY_EXISTS when @path is recorded. Nothing else is written. */
  gboolean (*repo_reserve) (gpointer self, GsCall *call, const char *virtual_storage,
                            const char *path, guint64 *ret_id, GError **error);
  /**
   * Records a created repository with its replicas. ALREADY_EXISTS when the path was taken meanwhile, the id
   * was recorded before (deleted or not), or @call_id created another; FAILED_PRECONDITION when the id was
   * never reserved.
   */
  gboolean (*repo_record) (gpointer self, GsCall *call, const GsRepoRow *row,
                           const GsTxId *call_id, GError **error);
  /** Calls @visit once with the row; NOT_FOUND when absent. */
  gboolean (*repo_find) (gpointer self, GsCall *call, const char *virtual_storage, const char *path,
                         GsRepoRowVisit visit, gpointer user, GError **error);
  gboolean (*repo_get) (gpointer self, GsCall *call, guint64 id, GsRepoRowVisit visit,
                        gpointer user, GError **error);
  /** In order of path bytes, those with @prefix that are greater than @after ("" = all), at most @limit. */
  gboolean (*repo_list) (gpointer self, GsCall *call, const char *virtual_storage,
                         const char *prefix, const char *after, gsize limit, GsRepoRowVisit visit,
                         gpointer user, GError **error);
  /** NOT_FOUND or ALREADY_EXISTS; replica paths do not change. */
  gboolean (*repo_rename) (gpointer self, GsCall *call, const char *virtual_storage,
                           const char *path, const char *new_path, GError **error);
  /**
   * Removes the record (replicas and all); @visit gets the row as it was. NOT_FOUND when absent. Its changes
   * and abort marks stay.
   */
  gboolean (*repo_delete) (gpointer self, GsCall *call, const char *virtual_storage,
                           const char *path, GsRepoRowVisit visit, gpointer user, GError **error);
  /** The id of the repository that @call_id created; 0 when it created none. */
  gboolean (*repo_created_by) (gpointer self, GsCall *call, const GsTxId *call_id, guint64 *ret_id,
                               GError **error);

  /**
   * Decides: generation expected -> expected + 1, digest, change row, the voters' replicas at the new
   * generation. ABORTED when the generation moved on (read the row again and retry); FAILED_PRECONDITION
   * when @txid has an abort mark; NOT_FOUND when the repository is gone. Repeating a decided @txid
   * succeeds with the first generation.
   */
  gboolean (*decide) (gpointer self, GsCall *call, const GsDecideRequest *request,
                      guint64 *ret_generation, GError **error);
  /** Looks up a change by transaction id; @visit is called once if it was decided. */
  gboolean (*tx_find) (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid,
                       GsTxState *ret_state, GsChangeVisit visit, gpointer user, GError **error);
  /** Writes an abort mark unless it is decided already; says what holds now. */
  gboolean (*tx_abort) (gpointer self, GsCall *call, guint64 repository_id, const GsTxId *txid,
                        GsTxState *ret_state, GError **error);
  /** Looks up a change by call id (resent requests). @visit is called at most once. */
  gboolean (*change_by_call) (gpointer self, GsCall *call, guint64 repository_id,
                              const GsTxId *call_id, GsChangeVisit visit, gpointer user,
                              GError **error);
  /** Changes with generation > @after, in order, at most @limit. */
  gboolean (*change_list) (gpointer self, GsCall *call, guint64 repository_id, guint64 after,
                           gsize limit, GsChangeVisit visit, gpointer user, GError **error);
  /**
   * Says how far a replica is, adding it when it is new; never lowers what is recorded unless @force.
   * NOT_FOUND when the repository is gone; FAILED_PRECONDITION when it is not so far itself.
   */
  gboolean (*replica_set) (gpointer self, GsCall *call, guint64 repository_id, const char *storage,
                           guint64 generation, gboolean force, GError **error);

  /** ALREADY_EXISTS when there is one of this id. */
  gboolean (*token_put) (gpointer self, GsCall *call, const GsTokenRow *row, GError **error);
  /** NOT_FOUND when absent. */
  gboolean (*token_get) (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit,
                         gpointer user, GError **error);
  gboolean (*token_list) (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user,
                          GError **error);
  gboolean (*token_delete) (gpointer self, GsCall *call, const char *id, GError **error);
} GsMetadataOps;

G_END_DECLS

#endif
