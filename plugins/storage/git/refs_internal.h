/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_internal.h - what the files of the ref store share. Private to refs*.c.
 *
 *   refs.c           open, options, packing
 *   refs_name.c      name rules, digest terms
 *   refs_packed.c    packed-refs: parse, build
 *   refs_loose.c     loose refs: one file, the whole tree with its stamps
 *   refs_snapshot.c  immutable snapshots, validation, digest
 *   refs_lock.c      name table of this process, lock files, waiting
 *   refs_txn.c       prepare
 *   refs_commit.c    commit, abort
 *   refs_journal.c   the journal's format and files
 *   refs_recover.c   pending, resolve, sweep
 */
#ifndef STORAGE_GIT_REFS_INTERNAL_H
#define STORAGE_GIT_REFS_INTERNAL_H

#include "fsutil.h"
#include "refs.h"

#include <gitstead/thread.h>

#define REF_NAME_MAX 1024
#define REF_DEPTH_MAX 64
#define REF_COMPONENT_MAX 255
#define REF_LOCK_SUFFIX ".lock"
#define REF_PACKED_MAX ((gsize) 2 << 30) /* bytes of packed-refs; offsets in it have 32 bits */
#define REF_JOURNAL_DIR "gitstead/journal"
#define REF_JOURNAL_MAX ((gsize) 1 << 30)
/* Up to so many refs in one bulk write each get a lock file, too. Above that only refs with a loose file do: creating
 * and removing a hundred thousand files would cost a hundred times the write itself. */
#define REF_BULK_LOCKS_MAX 4096

/** git's rules alone: what is there already is shown even beyond our limits. @name has a NUL at @len. */
gboolean ref_name_well_formed (const char *name, gsize len);

/* ------------------------------------------------------------------------------------ stamps */

/** What stat says of a file. Equal and not racy = unchanged. */
typedef struct
{
  gboolean exists;
  gboolean racy; /* changed so shortly before we looked that a later change may leave the same times */
  guint64 device, inode;
  gint64 size, mtime_ns, ctime_ns;
} RefStamp;

gint64 ref_stamp_clock (void);
/** Of an fstat or fstatat result; @now_ns from ref_stamp_clock before that call. */
void ref_stamp_set (RefStamp *stamp, const struct stat *st, gint64 now_ns);
gboolean ref_stamp_same (const RefStamp *a, const RefStamp *b);

/* ------------------------------------------------------------------------------------- packed */

#define PACKED_HAS_PEELED 1u
#define PACKED_BAD_NAME 2u

typedef struct
{
  guint32 at; /* of the line, in data */
  guint16 name_len;
  guint8 flags;
} PackedItem;

/** A packed-refs file in memory: sorted, fully peeled, names NUL-terminated. Immutable, refcounted. */
typedef struct
{
  gint refs;
  RefStamp stamp;
  void *pin; /* one mapped page keeps the inode from being reused while we compare against it */
  char *data;
  gsize len;
  PackedItem *items;
  gsize n, n_bad;
  GsObjectFormat format;
} PackedFile;

/** One change for packed_build. @oid NULL removes. Borrowed. */
typedef struct
{
  const char *name;
  const GsOid *oid;
  const GsOid *peeled;
} PackedEdit;

/** Finds what an id peels to without asking anybody; FALSE = not known. */
typedef gboolean (*PackedPeel) (gpointer user, const GsOid *oid, GsOid *ret_peeled);

/**
 * Parses @data (*full*, @len bytes and a NUL). A file that is not sorted or not fully peeled is brought into that
 * form in memory; ids that @peel does not know are then added to @need (GsOid) and NULL is returned without @error.
 */
PackedFile *packed_parse (char *data, gsize len, GsObjectFormat format, const char *where, PackedPeel peel,
                          gpointer user, GArray *need, GError **error);
PackedFile *packed_ref (PackedFile *packed);
void packed_unref (PackedFile *packed);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (PackedFile, packed_unref)
/** Reads the file; an absent one is empty. As packed_parse for @need. */
PackedFile *packed_load (int dirfd, GsObjectFormat format, const char *where, PackedPeel peel, gpointer user,
                         GArray *need, GError **error);
/** Keeps the identity of the file @fd belongs to. @packed must not be shared yet. */
void packed_pin (PackedFile *packed, int fd, const struct stat *st);

static inline const char *
packed_name (const PackedFile *packed, gsize i)
{
  return packed->data + packed->items[i].at + 2 * packed->format + 1;
}

void packed_oid (const PackedFile *packed, gsize i, GsOid *ret_oid, GsOid *ret_peeled);
/** First item whose name is >= @name, looking from @from on. */
gsize packed_seek (const PackedFile *packed, gsize from, const char *name);
gboolean packed_find (const PackedFile *packed, const char *name, gsize *ret_index);
/** The text of a packed-refs file: @base with @edits (sorted, no doubles). *full*; NULL when there is no memory. */
char *packed_build (const PackedFile *base, const PackedEdit *edits, gsize n, gsize *ret_len);

/* -------------------------------------------------------------------------------------- loose */

typedef enum
{
  LOOSE_ABSENT,
  LOOSE_VALUE,
  LOOSE_SYMBOLIC,
  LOOSE_BROKEN
} LooseState;

/** A loose ref. Immutable once a snapshot has it; refcounted. */
typedef struct
{
  gint refs;
  LooseState state; /* other than VALUE: hides a packed ref of that name, as in git */
  gboolean peel_known, missing;
  GsOid oid, peeled;
  gsize name_len;
  char name[];
} LooseRef;

LooseRef *loose_ref_new (const char *name, LooseState state, const GsOid *oid);
LooseRef *loose_ref_ref (LooseRef *ref);
void loose_ref_unref (LooseRef *ref);

/** Reads one ref file. FALSE only for failures of the medium. */
gboolean loose_read (RefStore *store, const char *name, LooseState *ret_state, GsOid *ret_oid, GError **error);
/** Reads HEAD: *full*, "" when detached. */
char *loose_read_head (RefStore *store, RefStamp *ret_stamp, GError **error);

typedef struct LooseTree LooseTree;
LooseTree *loose_tree_new (void);
void loose_tree_free (LooseTree *tree);
/** Looks again at what changed. *@ret_changed is set (never cleared) when a ref did. Notes go to @notes (char *). */
gboolean loose_tree_scan (LooseTree *tree, RefStore *store, gboolean *ret_changed, GPtrArray *notes, GError **error);
/** All refs (LooseRef *, references taken), sorted; what is not yet peeled goes through @need. */
GPtrArray *loose_tree_list (LooseTree *tree);

/** One thing to stat before a snapshot may be used again. */
typedef struct
{
  char *path;
  RefStamp stamp;
} LooseStamp;

/** Directories and their stamps, appended to @stamps (LooseStamp; paths *full*). */
void loose_tree_stamps (LooseTree *tree, GArray *stamps);

/* ---------------------------------------------------------------------------------- snapshots */

/** Directory stamps, HEAD and packed-refs as they were when a snapshot was taken. Immutable, refcounted. */
typedef struct
{
  gint refs;
  GArray *dirs; /* LooseStamp */
  RefStamp head, packed;
  PackedFile *pinned; /* what packed is the stamp of, so that its inode isn't reused */
} RefStamps;

void ref_stamps_unref (RefStamps *stamps);

struct RefSnapshot
{
  gint refs;
  PackedFile *packed;
  GPtrArray *loose; /* LooseRef *, sorted */
  guint32 *index;   /* NULL: exactly the packed items. Top bit: of loose */
  gsize n;
  char *head;
  gint64 missing_until_us; /* look for missing objects again after this; G_MAXINT64 = none is missing */
  GsMutex digest_lock;
  gboolean have_digest;
  GsDigest digest;
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC (RefSnapshot, ref_snapshot_unref)

/** @packed and @loose are *full*; @base may be NULL: then the digest is computed when asked for. */
RefSnapshot *ref_snapshot_new (PackedFile *packed, GPtrArray *loose, const char *head, RefSnapshot *base,
                               GError **error);
/** As ref_store_snapshot; @fresh: also not older than the moment of the call with respect to our own commits. */
RefSnapshot *ref_store_look (RefStore *store, gboolean fresh, GError **error);
/** packed-refs as it is now. *full* */
PackedFile *ref_store_packed (RefStore *store, GError **error);
/** Same, but ids that have to be peeled first go to @need, and NULL comes without @error. */
PackedFile *ref_store_packed_try (RefStore *store, GArray *need, GError **error);

/** Nobody scans the files between these two. */
void ref_store_publish_begin (RefStore *store);
void ref_store_publish_end (RefStore *store);
RefSnapshot *ref_store_current (RefStore *store); /* *full*, may be NULL; not validated */
/** Makes @snapshot current if @base still is; within begin and end. */
gboolean ref_store_publish_swap (RefStore *store, RefSnapshot *base, RefSnapshot *snapshot);
/** The next reader has to scan. */
void ref_store_publish_forget (RefStore *store);

/* -------------------------------------------------------------------------------------- peels */

/** Asks the callback for each of @need (GsOid) that is not known. Holds no lock. */
void ref_store_peel (RefStore *store, GArray *need);
/** What is known of @oid. That an object is missing counts only when it was found out after @since_us. */
gboolean ref_store_peel_known (RefStore *store, const GsOid *oid, gint64 since_us, GsOid *ret_peeled,
                               gboolean *ret_missing);
/** Keeps what is remembered within bounds. */
void ref_store_peel_trim (RefStore *store);
void ref_store_peel_learn (RefStore *store, const GsOid *oid, const GsOid *peeled, gboolean missing);

/* -------------------------------------------------------------------------------------- store */

struct RefStore
{
  char *dir;
  int dirfd;
  RefStoreOptions options; /* strings owned */
  char **hidden;
  char *crash_at;

  GsMutex lock; /* a leaf; guards all below */
  GsCond changed;

  RefSnapshot *current;
  RefStamps *stamps; /* of current; NULL: look */
  gint64 scan_began_us; /* the last good one: current is as old as that, but for our own commits */
  PackedFile *packed; /* the last one loaded or written */
  gboolean scanning;  /* one thread owns tree */
  guint publishers, publish_waiting;
  guint scan_urgent; /* readers that can't do with what is there */
  gboolean published; /* since the last scan: current has what tree has not */
  LooseTree *tree;
  GHashTable *peels; /* GsOid → PeelKnown */

  GHashTable *held;  /* ref name → owner */
  GHashTable *above; /* name that would be a directory of held names → how many */
  GHashTable *writers; /* RefTxn: owners in held that meet their like in other repositories */
  gboolean packed_held;
  gconstpointer packed_owner; /* a RefTxn or NULL */
  enum
  {
    JOURNAL_UNKNOWN,
    JOURNAL_READING,
    JOURNAL_KNOWN
  } journal_state;    /* KNOWN: names of journalled transactions are in held */
  GHashTable *live;   /* ids (hex) of transactions between prepare and finish … */
  GHashTable *failed; /* … and of those whose commit failed half way, until they are resolved */
};

/** Named crash point. */
void ref_store_crash (RefStore *store, const char *step);
void ref_store_note (RefStore *store, GsLogLevel level, const char *event, const char *name);

/* -------------------------------------------------------------------------------------- locks */

/** How long and for whom to wait. */
typedef struct
{
  gint64 until_us;
  GsCall *call;
  const struct RefTxn *txn; /* who waits; NULL: nobody who has locks elsewhere */
  gint64 yield_us;          /* so long for one that goes before it */
} RefWait;

/**
 * Of two writes that hold each other's ref, each in another replica, both would wait in vain. So there is an order among
 * them, the same in every replica: the one with the smaller id waits its whole time, the other one gives up soon, and its
 * going frees what the first one waits for.
 */
void ref_wait_init (RefWait *wait, RefStore *store, GsCall *call, const struct RefTxn *txn);

/** Takes @name for @owner in this process; FALSE when somebody has it, or one above or below it, for too long. */
gboolean ref_name_take (RefStore *store, const char *name, gconstpointer owner, RefWait *wait);
void ref_name_release (RefStore *store, const char *name);
/** A taken name belongs to the store itself from now on: until the journal record that names it is resolved. */
void ref_name_keep (RefStore *store, const char *name);

typedef enum
{
  LOCK_TAKEN,
  LOCK_BUSY,    /* somebody else has it */
  LOCK_BLOCKED, /* a file stands where a directory would be needed */
  LOCK_FAILED   /* with error */
} LockOutcome;

/** Makes "<name>.lock" with @content (synced when @sync), directories included. */
LockOutcome ref_lock_file (RefStore *store, const char *name, const char *content, gboolean sync, RefWait *wait,
                           GError **error);
void ref_unlock_file (RefStore *store, const char *name);
#define REF_PACK_MARKER "gitstead pack\n"

/**
 * packed-refs.lock, and its place in this process. @content marks the owner; @sync it when nothing in the journal says
 * that this lock exists, so that recovery knows it even after a power loss.
 */
LockOutcome ref_lock_packed (RefStore *store, const char *content, gboolean sync, RefWait *wait, GError **error);
void ref_unlock_packed (RefStore *store);
/** Removes empty directories above @name, but refs, refs/heads and refs/tags stay. */
void ref_prune_dirs (RefStore *store, const char *name);
char *ref_lock_path (const char *name);

/* ------------------------------------------------------------------------------- transactions */

typedef enum
{
  ROUTE_NONE,  /* nothing to write: the value stands already */
  ROUTE_LOOSE, /* <ref>.lock becomes the ref */
  ROUTE_PACKED /* through packed-refs; deletions, bulk writes, directory/file swaps */
} RefRoute;

typedef struct
{
  char *name;
  GsOid old_oid, new_oid, peeled; /* ids of the format's length, all zero for "none" */
  char *old_head, *new_head;      /* HEAD only */
  gsize request;                  /* index in the caller's updates */
  const GsRefUpdate *update;      /* borrowed during prepare */
  gboolean refused, name_held, lock_held, had_loose;
  RefRoute route;
} TxnRef;

struct RefTxn
{
  RefStore *store;
  GsTxId txid;
  char txid_hex[2 * GS_TXID_SIZE + 1];
  char *marker; /* what our locks hold that never become refs */
  TxnRef *refs;
  gsize n; /* accepted only, once prepared; sorted */
  gboolean packed_lock, packed_rewrite, commit_begun;
  PackedFile *packed_new;
  char *quarantine;
  char *journal_path;
  int journal_fd;
  char journal_sum[65];
  GsRefUpdate *updates;
  GsDigest plus, minus;
};

static inline gboolean
txn_ref_is_delete (const TxnRef *ref)
{
  return ref->new_head == NULL && gs_oid_is_zero (&ref->new_oid);
}

void txn_ref_clear (TxnRef *ref);
/** Frees memory; nothing on disk. */
void ref_txn_free (RefTxn *txn);
/** Gives back every lock that the transaction still has, files and names. */
void ref_txn_unlock (RefTxn *txn, gboolean names);
/**
 * Brings the refs to their new values through packed-refs wherever the old or the new value stands; needs the packed
 * lock held. Idempotent.
 */
gboolean ref_redo (RefStore *store, TxnRef *const *refs, gsize n, GError **error);
/** Writes @text as packed-refs.new, synced, and parses it. @text *full*. */
PackedFile *ref_packed_stage (RefStore *store, char *text, gsize len, GError **error);
/** packed-refs.new takes its place, durably. @packed becomes the store's. */
gboolean ref_packed_publish (RefStore *store, PackedFile *packed, GError **error);
/** fsyncs the directory of @name and those above it up to refs/, each once per @done. */
gboolean ref_sync_dirs (RefStore *store, const char *name, gboolean all, GHashTable *done, GError **error);

/* ------------------------------------------------------------------------------------ journal */

typedef struct
{
  GsTxId txid;
  char *quarantine;
  gboolean packed_lock, voted, committed;
  guint64 generation;
  guint8 vote[32];
  TxnRef *refs;
  gsize n;
  char sum[65];
  gsize valid_len; /* what follows is a torn append */
} RefJournal;

void ref_journal_free (RefJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (RefJournal, ref_journal_free)

char *ref_journal_path (const GsTxId *txid);
/** Writes the intent record; sets journal_path, journal_fd, journal_sum. */
gboolean ref_journal_begin (RefTxn *txn, GError **error);
gboolean ref_journal_vote (int fd, const char *path, const char *sum, const guint8 vote[32], GError **error);
gboolean ref_journal_commit (int fd, const char *path, const char *sum, guint64 generation, GError **error);
/** NULL without @error: a torn intent, so never prepared (*@ret_torn), or no such file. */
RefJournal *ref_journal_read (RefStore *store, const char *path, gboolean *ret_torn, GError **error);
/** Paths of the records, *full*, sorted. */
GPtrArray *ref_journal_list (RefStore *store, GError **error);
/** Puts the names of what the journal holds into the name table, once. */
gboolean ref_journal_hold (RefStore *store, GError **error);

#endif
