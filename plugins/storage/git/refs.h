/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs.h - the ref store of one repository: git-compatible files and locks, our own semantics.
 *
 * Readers get immutable snapshots; a snapshot is rebuilt only when our own commit or a stat check on the
 * files says that something changed, so a foreign git process beside us is seen too (at once; within 100 ms while
 * a commit of our own is being published). Writers go through a transaction: prepare (locks with new values, intent
 * in the journal, all durable), then commit or abort.
 *
 * On disk: HEAD, refs/, packed-refs exactly as git has them; `<ref>.lock`, `packed-refs.lock` and `HEAD.lock`
 * exclude stock git; the journal is gitstead/journal/<txid> in the repository's directory. docs/on-disk.md.
 *
 * Any thread; a RefStore locks for itself.
 */
#ifndef STORAGE_GIT_REFS_H
#define STORAGE_GIT_REFS_H

#include <gitstead/storage.h>

typedef struct RefStore RefStore;
typedef struct RefSnapshot RefSnapshot;
typedef struct RefTxn RefTxn;

/**
 * Answers what a ref may hold: looks @oid up and peels it. FALSE with NOT_FOUND when the object is
 * absent. @ret_peeled has len 0 unless @oid is an annotated tag; @ret_is_commit: of the object itself.
 * Called without any lock of the store held.
 */
typedef gboolean (*RefPeel) (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit,
                             GError **error);

typedef struct
{
  GsObjectFormat format;
  RefPeel peel;
  gpointer user;
  gint64 lock_wait_us;       /* how long prepare waits for somebody else's lock */
  gsize bulk_threshold;      /* more updates than this go straight into packed-refs */
  gsize pack_threshold;      /* ref_store_pack does its work from so many loose refs on */
  const char *const *hidden; /* ref name prefixes never shown to git clients ("refs/gitstead/"), NULL-terminated */
  const char *crash_at;      /* tests: SIGKILL ourselves at this named step ("refs.intent", "refs.committed", …); NULL = never */
  /** Something in the files is odd but harmless (a symbolic or broken ref, a temporary file): for the log. May be NULL. */
  void (*note) (gpointer user, GsLogLevel level, const char *event, const char *name);
} RefStoreOptions;

/** Opens the store of the repository directory @dir (bare). Cheap: reads nothing yet. *full*. */
RefStore *ref_store_open (const char *dir, const RefStoreOptions *options, GError **error);
void ref_store_free (RefStore *store);

/** The refs as they are now. *full*, given back by ref_snapshot_unref. */
RefSnapshot *ref_store_snapshot (RefStore *store, GError **error);
RefSnapshot *ref_snapshot_ref (RefSnapshot *snapshot);
void ref_snapshot_unref (RefSnapshot *snapshot);

/** One ref of a snapshot. Borrowed until the snapshot is given back. @name is NUL-terminated. */
typedef struct
{
  const char *name;
  gsize name_len;
  GsOid oid;
  GsOid peeled; /* len 0 unless an annotated tag */
  gboolean missing; /* a loose ref whose object was not there when it was read: git does not list such refs */
} RefEntry;

gsize ref_snapshot_count (const RefSnapshot *snapshot);
/** Sorted by name bytes; @index < count. O(1). */
void ref_snapshot_get (const RefSnapshot *snapshot, gsize index, RefEntry *ret_entry);
/** Index of the first ref whose name is >= @name. O(log n). */
gsize ref_snapshot_seek (const RefSnapshot *snapshot, const char *name);
/** FALSE when there is no such ref. */
gboolean ref_snapshot_find (const RefSnapshot *snapshot, const char *name, RefEntry *ret_entry);
/** TRUE when there is a file of that name which holds no object id: git calls it broken (or it is symbolic). */
gboolean ref_snapshot_broken (const RefSnapshot *snapshot, const char *name);
/** HEAD's target ("refs/heads/main"), never NULL ("" when a foreign hand detached it); borrowed until the snapshot is given back. */
const char *ref_snapshot_head (const RefSnapshot *snapshot);
void ref_snapshot_digest (const RefSnapshot *snapshot, GsDigest *ret_digest);
gboolean ref_name_hidden (const RefStore *store, const char *name);

/** git check-ref-format's rules for a full name below refs/, plus our limits (length, depth). */
gboolean ref_name_valid (const char *name, GError **error);

/** The term that one ref adds to the refs digest; HEAD by name "HEAD" and @symref. */
void ref_digest_term (const char *name, const GsOid *oid, const char *symref, GsDigest *ret_term);

/**
 * Locks, checks and makes durable. Per update a verdict in @verdicts (room for @n; reasons *full*): stale
 * old value, bad name, D/F conflict with existing refs or within the batch, object missing, branch not a commit,
 * hidden name, duplicate name, locked by somebody else (after lock_wait_us; ABORTED). With @atomic one refusal
 * refuses all. *@ret_txn is NULL when nothing was accepted. A delete of an absent ref with a zero old value
 * is accepted and changes nothing; one batch may delete refs/heads/a and create refs/heads/a/b.
 * Locks are taken in order of names, so two writers never deadlock.
 *
 * The intent record is a file that is fsynced, and so are the locks' contents; @vote is kept in it, with the name
 * of the quarantine directory that belongs to it (@quarantine, may be NULL; the caller moves objects itself).
 * FALSE with @error only for failures of the medium: then nothing is left behind.
 */
gboolean ref_store_prepare (RefStore *store, GsCall *call, const GsTxId *txid, const GsRefUpdate *updates, gsize n,
                            gboolean atomic, const char *quarantine, GsRefVerdict *verdicts, RefTxn **ret_txn,
                            GError **error);
#define REF_PREPARE_ATOMIC 1u
#define REF_PREPARE_OWN 2u /* hidden names are fine */
/** As ref_store_prepare, but new values are looked up with @peel, which sees the quarantine; NULL = the store's own. */
gboolean ref_store_prepare_with (RefStore *store, GsCall *call, const GsTxId *txid, const GsRefUpdate *updates,
                                 gsize n, guint32 flags, const char *quarantine, RefPeel peel, gpointer user,
                                 GsRefVerdict *verdicts, RefTxn **ret_txn, GError **error);
/** The accepted updates with true old values, sorted by name, and what they add to and take from the digest. Borrowed. */
const GsRefUpdate *ref_txn_updates (const RefTxn *txn, gsize *ret_n, GsDigest *ret_plus, GsDigest *ret_minus);
/** Appends the vote to the intent record, durably: from now on recovery knows this transaction. */
gboolean ref_txn_voted (RefTxn *txn, const guint8 vote[32], GError **error);
/**
 * Writes the commit record (the local point of no return), then publishes: packed-refs first, then loose refs, then
 * removals; fsyncs every touched directory; then the new snapshot is visible to readers in this process at once.
 * The caller has moved the objects into place before. Keeps the journal record: ref_txn_finish drops it.
 * FALSE leaves the journal record for ref_store_resolve: free the transaction with ref_txn_abort, which then drops
 * nothing (so it does between commit and finish); its refs stay refused to writers until it is resolved.
 */
gboolean ref_txn_commit (RefTxn *txn, guint64 generation, GError **error);
/** Drops the journal record and frees. After the replica's state record was stamped. */
gboolean ref_txn_finish (RefTxn *txn, GError **error);
/** Unlocks, drops the journal record (unless commit was begun) and frees: nothing became visible. NULL is fine. */
void ref_txn_abort (RefTxn *txn);

/** A transaction found in the journal. Strings borrowed until the callback returns. */
typedef struct
{
  GsTxId txid;
  gboolean voted;
  gboolean committed;     /* the commit record is there: redo it */
  guint64 generation;     /* when committed */
  guint8 vote[32];
  const char *quarantine; /* may be NULL */
  GsDigest plus, minus;   /* what its updates add to and take from the refs digest */
} RefPending;

typedef gboolean (*RefPendingVisit) (const RefPending *pending, gpointer user);

/** Visits the journal of a store that no process writes to (start-up). */
gboolean ref_store_pending (RefStore *store, RefPendingVisit visit, gpointer user, GError **error);
/**
 * Redoes (@generation > 0: publish its updates, idempotently) or undoes (0) one journalled transaction, locks and
 * all, and drops its record. Values that are neither the old nor the new one are left alone. Unknown ids are fine.
 */
gboolean ref_store_resolve (RefStore *store, const GsTxId *txid, guint64 generation, GError **error);
/** As ref_store_resolve with a generation, but the record stays: what must not come before may come in between. */
gboolean ref_store_redo (RefStore *store, const GsTxId *txid, guint64 generation, GError **error);
/** Removes locks and temporary files that no journalled transaction owns. Only at start-up. */
gboolean ref_store_sweep (RefStore *store, GError **error);

/** Moves loose refs into packed-refs when there are many (@force: when there are any). Safe beside writers and git. */
gboolean ref_store_pack (RefStore *store, gboolean force, GError **error);

#endif
