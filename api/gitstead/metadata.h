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
 *   [M9] Of the jobs of one repository in one lane one runs at a time, and who takes it gets a token that no
 *        earlier taker has. The same of a lease and its holder.
 *   [M10] decide takes no vote of a replica that is out of use: when a voter is not at the expected generation
 *        at that moment (taken out of use after it voted, behind, or no replica any more) nothing is decided,
 *        ABORTED, unless GS_DECIDE_BEHIND says that what it lacks is given up.
 *
 * Time is the store's: a process whose clock is wrong neither loses nor keeps a lease for it.
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
  gint64 verified_wall_us; /* its refs and identity were last compared with what is recorded; 0 = never */
  gint64 scrubbed_wall_us; /* its objects were last read and found whole; 0 = never */
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
  guint32 copies;            /* how many replicas there should be; 0 = as many as the virtual storage's */
  const char *consistency;   /* the instance of the consistency plugin; "" (or NULL) = the virtual storage's */
} GsRepoRow;

typedef gboolean (*GsRepoRowVisit) (const GsRepoRow *row, gpointer user);

/** Flags of a decision. */
typedef enum
{
  /** The voters need not be at the expected generation: what they lack was given up. They stay where they are. */
  GS_DECIDE_BEHIND = 1 << 0
} GsDecideFlags;

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
  guint32 flags; /* GsDecideFlags */
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

/* ------------------------------------------------------------------------------------------ nodes */

typedef enum
{
  GS_NODE_ACTIVE = 1,
  GS_NODE_DRAINING = 2, /* serves what it has; its replicas are moved away and no new ones come */
  GS_NODE_REMOVED = 3   /* no part of the cluster: its reports are refused */
} GsNodeState;

/** A storage as its node reports it. Strings borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  const char *storage;       /* its name; one in the whole cluster */
  GsTxId disk_id;            /* written on the disk when it was first used; never all zero */
  guint64 instance;          /* random per start of the node's process; not 0 */
  const char *address;       /* where routers reach the node; "" = within their own process */
  const char *zone;
  guint64 free_bytes, total_bytes; /* 0 = not known; at most G_MAXINT64 */
  /* In node_list; not read in reports: */
  GsNodeState state;
  gint64 seen_wall_us;       /* the last report … */
  gint64 age_us;             /* … and how long ago that was, by the store's clock */
} GsNodeRow;

typedef gboolean (*GsNodeRowVisit) (const GsNodeRow *row, gpointer user);

/* ------------------------------------------------------------------------------------------- jobs */

typedef enum
{
  GS_JOB_QUEUED = 1,
  GS_JOB_RUNNING = 2, /* or its worker died: whoever takes it next finds its lease run out */
  GS_JOB_DONE = 3,
  GS_JOB_FAILED = 4   /* given up */
} GsJobState;

/** A piece of work that some process should do. Strings borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  guint64 id;                /* rises; never reused */
  const char *kind;          /* "repair"; what kinds there are is the core's affair; at most 64 bytes */
  guint64 repository_id;     /* 0 = it is about none */
  const char *target;        /* the storage on which something is to happen; may be "" */
  const char *source;        /* the storage it comes from; "" = any that is current */
  const char *reason;        /* for people; at most 1000 bytes */
  const char *lane;          /* what must not run at once on one repository shares a lane; "" = the kind */
  gint64 due_wall_us;        /* not before; in job_add: in so many microseconds from now, 0 = at once */
  /* Not read in job_add: */
  GsJobState state;
  const char *worker;        /* who has it, or had it last; "" = nobody yet */
  guint64 token;             /* of the last take; 0 = never taken */
  guint32 attempts;          /* how often it was taken */
  const char *error;         /* why the last attempt failed; "" = it did not */
  gint64 added_wall_us, started_wall_us, ended_wall_us; /* 0 = not yet */
  gint64 lease_left_us;      /* RUNNING: until the lease runs out; negative: it has */
} GsJobRow;

typedef gboolean (*GsJobRowVisit) (const GsJobRow *row, gpointer user);

/** What a worker is able to take. Borrowed until return. */
typedef struct
{
  guint32 size;
  const char *worker;          /* who asks, for people: "router-1" */
  const char *const *kinds;    /* NULL-terminated; NULL = any */
  const char *const *targets;  /* NULL-terminated; NULL = any */
  gint64 lease_us;             /* from 1 ms to a day */
} GsJobOffer;

/** Which jobs to list. All zero = all. */
typedef struct
{
  guint32 size;
  guint32 states;              /* bits 1u << GsJobState; 0 = any */
  guint64 repository_id;       /* 0 = any */
  const char *kind, *target;   /* NULL = any */
} GsJobFilter;

/* ----------------------------------------------------------------------------------------- leases */

/** A lease that was taken once. Strings borrowed until the callback returns. */
typedef struct
{
  guint32 size;
  const char *name;
  const char *owner;  /* the last one */
  guint64 token;      /* of the last take */
  gint64 left_us;     /* until it runs out; 0 or less: it is free */
} GsLeaseRow;

typedef gboolean (*GsLeaseRowVisit) (const GsLeaseRow *row, gpointer user);

/* ------------------------------------------------------------------------------------------ slots */

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
   * Decides: generation expected -> expected + 1, digest, change row, and the voters' replicas at the new one.
   * ABORTED when the generation moved on, or a voter is not at it ([M10]): read the row again and retry, with the
   * voters that are left. With GS_DECIDE_BEHIND a voter that is behind stays behind, until replica_set says that it
   * caught up. FAILED_PRECONDITION when @txid has an abort mark; NOT_FOUND when the repository is gone. Repeating a
   * decided @txid succeeds with the first generation.
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
   * Says how far a replica is, adding it when it is new; without @force it never lowers what is recorded,
   * with it never raises it.
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

  /**
   * Sets what a repository should be: @copies (at most 1000) and @consistency, as in GsRepoRow. NOT_FOUND
   * when it is gone. Nothing moves by this.
   */
  gboolean (*repo_set_policy) (gpointer self, GsCall *call, guint64 id, guint32 copies,
                               const char *consistency, GError **error);
  /** Of every virtual storage, in order of id, those with an id > @after, at most @limit. */
  gboolean (*repo_list_all) (gpointer self, GsCall *call, guint64 after, gsize limit,
                             GsRepoRowVisit visit, gpointer user, GError **error);
  /** The same, those with a replica on @storage. */
  gboolean (*repo_list_on) (gpointer self, GsCall *call, const char *storage, guint64 after,
                            gsize limit, GsRepoRowVisit visit, gpointer user, GError **error);
  /**
   * Forgets a replica. NOT_FOUND when there is none; FAILED_PRECONDITION when no other is at the repository's
   * generation while this one is, or it is the only one: @force forgets that too.
   */
  gboolean (*replica_drop) (gpointer self, GsCall *call, guint64 repository_id, const char *storage,
                            gboolean force, GError **error);
  /** Notes that a replica was found as recorded just now; with @objects its objects too. NOT_FOUND. */
  gboolean (*replica_verified) (gpointer self, GsCall *call, guint64 repository_id,
                                const char *storage, gboolean objects, GError **error);

  /**
   * A node says that it is there; the first report makes its row, ACTIVE. FAILED_PRECONDITION, saying which and
   * nothing recorded, when the storage is known with another disk or the disk by another name, when the
   * node was removed, or when another process took over (the newest instance is the one that counts).
   */
  gboolean (*node_report) (gpointer self, GsCall *call, const GsNodeRow *row, GsNodeState *ret_state,
                           GError **error);
  /** All nodes, the removed ones too, in order of name. */
  gboolean (*node_list) (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user,
                         GError **error);
  /** From any state to any. NOT_FOUND when it never reported. */
  gboolean (*node_set_state) (gpointer self, GsCall *call, const char *storage, GsNodeState state,
                              GError **error);
  /**
   * Forgets a node, so that another disk can have its name. NOT_FOUND; FAILED_PRECONDITION unless it is REMOVED
   * and no replica is recorded on it.
   */
  gboolean (*node_forget) (gpointer self, GsCall *call, const char *storage, GError **error);

  /**
   * Queues a job. When one of the same kind, repository and target is queued already, that one is it: its id
   * comes back, and it is due when the earlier of the two is.
   */
  gboolean (*job_add) (gpointer self, GsCall *call, const GsJobRow *job, guint64 *ret_id,
                       GError **error);
  /**
   * Takes the job that is due longest, or whose lease ran out, for @offer->lease_us: RUNNING, one attempt more,
   * a new token. Jobs that others are taking at the moment are passed over, not waited for. @visit is
   * called once with the job, or not at all when there is none.
   */
  gboolean (*job_take) (gpointer self, GsCall *call, const GsJobOffer *offer, GsJobRowVisit visit,
                        gpointer user, GError **error);
  /** From now on for @lease_us. ABORTED when the lease ran out or @token is not the last: stop working. */
  gboolean (*job_renew) (gpointer self, GsCall *call, guint64 id, guint64 token, gint64 lease_us,
                         GError **error);
  /**
   * Ends an attempt. @failure NULL: DONE. Otherwise QUEUED again, due in @retry_us, or FAILED when that is
   * negative or the same job was queued meanwhile. ABORTED when @token is not the last; a lease that ran
   * out while nobody else took the job does no harm.
   */
  gboolean (*job_end) (gpointer self, GsCall *call, guint64 id, guint64 token, const char *failure,
                       gint64 retry_us, GError **error);
  /** In order of id, those with an id > @after that @filter (NULL = all) lets pass, at most @limit. */
  gboolean (*job_list) (gpointer self, GsCall *call, const GsJobFilter *filter, guint64 after,
                        gsize limit, GsJobRowVisit visit, gpointer user, GError **error);
  /** Forgets jobs that were DONE or FAILED more than @age_us ago, the oldest first, at most @limit. */
  gboolean (*job_prune) (gpointer self, GsCall *call, gint64 age_us, gsize limit, guint *ret_n,
                         GError **error);

  /**
   * Takes a lease that is free, that ran out, or that @owner has (then the earlier token ends). ABORTED, naming
   * the holder, when another has it. @ret_token is greater than every token of @name before, for ever.
   */
  gboolean (*lease_take) (gpointer self, GsCall *call, const char *name, const char *owner,
                          gint64 lease_us, guint64 *ret_token, GError **error);
  /** From now on for @lease_us. ABORTED when it ran out or was taken or released. */
  gboolean (*lease_renew) (gpointer self, GsCall *call, const char *name, guint64 token,
                           gint64 lease_us, GError **error);
  /** Succeeds, doing nothing, when the lease is no longer that of @token. */
  gboolean (*lease_release) (gpointer self, GsCall *call, const char *name, guint64 token,
                             GError **error);
  /** In order of name, the free ones too. */
  gboolean (*lease_list) (gpointer self, GsCall *call, GsLeaseRowVisit visit, gpointer user,
                          GError **error);

  /**
   * Optional. Waits until jobs or nodes may have changed since a call of this slot gave back @seen (0 at first:
   * returns at once), or until @timeout_us is over. A hint: changes of other processes can be missed, and
   * nothing need have changed. @ret_seen is for the next call. It waits while other calls are made: only for plugins
   * that declare GS_THREADS_PARALLEL.
   */
  gboolean (*wait_hint) (gpointer self, GsCall *call, guint64 seen, gint64 timeout_us,
                         guint64 *ret_seen, GError **error);
} GsMetadataOps;

G_END_DECLS

#endif
