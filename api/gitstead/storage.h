/* SPDX-License-Identifier: Apache-2.0 */
/**
 * storage.h - kind STORAGE, class BLOCKING: keeps the replicas of one node on a local medium.
 *
 * Slots run on worker or stream threads and may block; they look at the call's deadline and cancel
 * flag. A storage never decides: it stages a change set, votes, and applies or drops it when told.
 * Numbers in brackets are the promises that the conformance suite checks.
 *
 * Promises of every slot
 *   [S1] Out parameters are untouched when the slot fails.
 *   [S2] A replica that does not exist gives NOT_FOUND; one whose record says another repository id,
 *        or is damaged, gives DATA_LOSS or FAILED_PRECONDITION and is not changed.
 *   [S3] What a successful create, remove or commit did survives a crash right after it returns.
 *   [S4] Readers see either all of a commit or nothing of it.
 */
#ifndef GITSTEAD_STORAGE_H
#define GITSTEAD_STORAGE_H

#include "host.h"

G_BEGIN_DECLS

/** What a new repository is like. */
typedef struct
{
  guint32 size;
  GsObjectFormat format;
  const char *default_branch; /* full ref name, "refs/heads/main" */
} GsRepoSpec;

/** Disk use in bytes. */
typedef struct
{
  guint32 size;
  guint64 total_bytes;   /* everything in the replica's directory */
  guint64 objects_bytes; /* packs, indexes and loose objects */
  guint64 refs_bytes;    /* loose refs and packed-refs */
  guint64 n_refs;
  guint64 n_packs;
} GsRepoSize;

/** The medium that a storage's replicas are on. */
typedef struct
{
  guint32 size;
  GsTxId id;             /* made when it was first used, and kept on it; never all zero */
  guint64 free_bytes;    /* for replicas; 0 with total_bytes 0 = not known */
  guint64 total_bytes;
} GsDisk;

/* --------------------------------------------------------------------------------------- writing */

/** A write that a storage is asked to stage. Borrowed until stage returns. */
typedef struct
{
  guint32 size;
  GsTxId txid;
  const GsRefUpdate *updates;
  gsize n_updates;
  gboolean atomic;  /* one refused update refuses all */
  GBytes *pack;     /* NULL or a whole pack of new objects; not thin unless its bases are here */
  gboolean own_refs; /* it may name the server's own refs; never set for what a client names */
  gboolean run_hooks; /* of all participants this one asks the repository's hooks */
} GsChangeSet;

/** A push that a storage is asked to carry on the stream, git's wire both ways. */
typedef struct
{
  guint32 size;
  GsTxId txid;
  const char *protocol;       /* the client's Git-Protocol value, "" when none */
  gboolean stateless;         /* smart HTTP: the advertisement went before, in another call */
  guint64 max_input_bytes;    /* 0 = no limit */
  gboolean run_hooks;         /* see GsChangeSet */
} GsPush;

#define GS_HOOKS_NONE 0u    /* the repository has none, or they are not run here */
#define GS_HOOKS_PASSED 1u  /* they were asked, and let the write through */
#define GS_HOOKS_UNASKED 2u /* there are some, and another participant was to ask them */

/**
 * What a participant votes for. Made by stage; borrowed until commit or abort returns.
 *
 * @digest = SHA-256 over the version byte 1, the repository id (8 bytes big endian), for each accepted
 * update in order of ref name "<old hex> <new hex> <name>\n" (HEAD: "ref: <target> HEAD\n"), and the
 * trailer checksum of the pack as the client sent it (nothing when there was none).
 */
typedef struct
{
  guint32 size;
  guint8 digest[32];
  /** Accepted updates with the true old values filled in; n_updates 0: there is nothing to decide. */
  const GsRefUpdate *updates;
  gsize n_updates;
  /** One per requested update, in the order of the request. NULL for a push. */
  const GsRefVerdict *verdicts;
  gsize n_verdicts;
  GsDigest refs_plus;  /* refs digest after = before + plus - minus */
  GsDigest refs_minus;
  guint32 hooks;       /* GS_HOOKS_ */
} GsVote;

/** The decided fate of a staged write. Borrowed until the slot returns. */
typedef struct
{
  guint32 size;
  GsTxId txid;
  guint64 generation;   /* what the repository's generation became with this write */
  GsDigest refs_digest; /* of the repository at that generation */
} GsDecision;

/** A staged write that is in the journal without being applied or dropped (after a crash). */
typedef struct
{
  guint32 size;
  GsRepo repo;      /* replica_path borrowed until the callback returns */
  GsTxId txid;
  guint8 vote[32];
} GsPending;

/* --------------------------------------------------------------------------------------- reading */

/** Which refs to list. Borrowed until list_refs returns. */
typedef struct
{
  guint32 size;
  const char *const *prefixes; /* NULL-terminated; NULL or empty = all. A prefix is a plain byte prefix of the name */
  const char *after;           /* only names greater than this; NULL = from the start */
  gsize limit;                 /* at most so many; 0 = all */
  gboolean include_head;       /* HEAD first, unless @after is set */
  gboolean include_hidden;     /* also the server's internal refs */
} GsRefQuery;

/** TRUE = go on. */
typedef gboolean (*GsRefVisit) (const GsRef *ref, gpointer user);
typedef gboolean (*GsRepoVisit) (const GsRepo *repo, gpointer user);
typedef gboolean (*GsPendingVisit) (const GsPending *pending, gpointer user);

typedef enum
{
  GS_OBJECT_NONE = 0,
  GS_OBJECT_COMMIT = 1,
  GS_OBJECT_TREE = 2,
  GS_OBJECT_BLOB = 3,
  GS_OBJECT_TAG = 4
} GsObjectType; /* git's own numbers */

/** An object's header, and where a path led to. */
typedef struct
{
  guint32 size;
  GsOid oid;
  GsObjectType type;
  guint64 object_bytes; /* inflated size */
  guint32 mode;         /* tree entry mode when found by path, else 0 */
} GsObject;

/** One entry of a tree. @name is borrowed until the callback returns; it may be any bytes but NUL and '/'. */
typedef struct
{
  guint32 size;
  const char *name;
  guint32 mode;
  GsOid oid;
  GsObjectType type; /* COMMIT for a submodule */
} GsTreeEntry;

typedef gboolean (*GsTreeVisit) (const GsTreeEntry *entry, gpointer user);

/**
 * A call of the Git API that a storage carries out by itself: the methods whose rule in api/proto says `storage`.
 * Borrowed until the slot returns.
 */
typedef struct
{
  guint32 size;
  guint32 method;    /* its number in api/proto */
  GBytes *request;   /* the request message, protobuf, decoded once already: well-formed, but its values are unchecked */
  GsStream *stream;  /* for methods with bulk bytes, else NULL */
} GsQuery;

/** What a write of the Git API would do. *full*: computed_free. */
typedef struct
{
  guint32 size;
  GsChangeSet change; /* txid unset; n_updates 0 = there is nothing to write (a dry run, a conflict told in the reply) */
  GBytes *reply;      /* the reply message, protobuf; the core fills in its field "receipt" */
  gpointer priv;
} GsComputed;

#define GS_SERVICE_UPLOAD_PACK 1u
#define GS_SERVICE_RECEIVE_PACK 2u

#define GS_IMPORT_REPLACE 1u /* import_replica: what is there is of no use */
#define GS_IMPORT_KEEP 2u    /* import_replica: what is there was given up: it is put aside, never into the trash */

/* ----------------------------------------------------------------------------------------- slots */

/** Required unless it says optional; an optional slot that is NULL answers UNIMPLEMENTED. */
typedef struct
{
  /** [S10] Creates an empty replica, whole or not at all. ALREADY_EXISTS when the path is taken. */
  gboolean (*create) (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec,
                      GError **error);
  /** [S11] Moves the replica to the trash; the path is free at once. Reclaimed later by maintain. */
  gboolean (*remove) (gpointer self, GsCall *call, const GsRepo *repo, GError **error);
  /** [S12] Is there a replica at this path (of whatever repository)? */
  gboolean (*exists) (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists,
                      GError **error);
  /** [S13] Visits each replica once, in any order; those that come or go meanwhile may be missed. The id is 0 where the
   *  replica's own record of it is damaged. */
  gboolean (*list) (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error);
  gboolean (*measure) (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size,
                       GError **error);
  /** [S14] Identity, generation and refs digest as they stand on the medium. */
  gboolean (*state) (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state,
                     GError **error);

  /** [S20] In order of name bytes, HEAD first; one consistent snapshot; no ref lost or hidden. */
  gboolean (*list_refs) (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query,
                         GsRefVisit visit, gpointer user, GError **error);
  /** [S21] NOT_FOUND when absent. @visit is called once, with the ref. HEAD may be asked for. */
  gboolean (*find_ref) (gpointer self, GsCall *call, const GsRepo *repo, const char *name,
                        GsRefVisit visit, gpointer user, GError **error);

  /**
   * [S30] Receives, checks and locks a change set and makes it durable, invisible to readers.
   * On success *@ret_txn (*full*, consumed by commit or abort) and *@ret_vote are set. Refused
   * updates stand in the verdicts; with every update refused the vote has n_updates 0.
   * [S31] Writes to different refs of one repository can be staged at the same time; of two writers
   * of one ref one gets ABORTED or FAILED_PRECONDITION in bounded time, never a deadlock. Who has to wait for a
   * writer with a smaller transaction id gives up soon, who waits for one with a greater id does not: writers who
   * meet on several storages, each being the first one somewhere, do not both fail then.
   */
  gboolean (*stage) (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change,
                     gpointer *ret_txn, const GsVote **ret_vote, GError **error);
  /**
   * [S32] As stage, with the client's push on @stream. Returns when all commands are prepared, or
   * with n_updates 0 when there is nothing to decide (all refused; the client was told). Optional.
   */
  gboolean (*stage_push) (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *push,
                          GsStream *stream, gpointer *ret_txn, const GsVote **ret_vote,
                          GError **error);
  /*
   * [S35] Refs below "refs/gitstead/" are the server's own: what it keeps with a repository beside Git's data stands there,
   * such as its sets of files. Of a change set only one with own_refs may name them (PERMISSION_DENIED otherwise), and no
   * push may. In all else they are refs: staged, voted for and applied with the others, in the refs digest, in copies; only
   * no client sees them.
   */

  /*
   * [S36] Hooks are programs that belong to a repository. Of a write's participants one is told run_hooks: it asks them once
   * its updates are accepted, and refuses all of them when one of the hooks says no. The others' votes say UNASKED: such
   * a vote counts only beside one for the same updates that says PASSED. A storage without hooks votes NONE.
   */

  /**
   * [S33] Applies a decided write: objects first, then refs, then generation and digest in the
   * replica's record, then drops the journal record; for a push then reports to the client.
   * FALSE means "not applied now": the journal record stays and resolve must be called.
   * Once applied, a client that is gone is not an error. Consumes @txn either way.
   */
  gboolean (*commit) (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision,
                      GError **error);
  /** [S34] Drops it; nothing stays behind: no object, lock, quarantine or process. Consumes @txn.
   *  @why is what a push's client is told for each command; NULL when it was told already, or when nobody knows: of what
   *  is dropped no client is ever told that it was done. */
  void (*abort) (gpointer self, GsCall *call, gpointer txn, const GError *why);

  /** [S40] Visits what was staged and neither applied nor dropped by an earlier process. */
  gboolean (*pending) (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user,
                       GError **error);
  /** [S41] Applies it (@decision) or drops it (NULL). Idempotent; unknown ids are fine. */
  gboolean (*resolve) (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid,
                       const GsDecision *decision, GError **error);
  /** [S42] Periodic care: trash past its grace, stale temporary files, packing of refs and objects. Never
   *  needed for correctness. May take long; it ends within seconds when the call is cancelled. */
  gboolean (*maintain) (gpointer self, GsCall *call, GError **error);

  /**
   * [S50] The ref advertisement (v0, v1) or capability advertisement (v2) without the smart-HTTP
   * service header. @ret_bytes *full*. Optional.
   */
  gboolean (*advertise) (gpointer self, GsCall *call, const GsRepo *repo, guint32 service,
                         const char *protocol, GBytes **ret_bytes, GError **error);
  /**
   * [S51] Serves a fetch on @stream: one stateless request (@stateless) or a whole session.
   * Once output was opened, errors are told in git's own words too. Optional.
   */
  gboolean (*upload_pack) (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol,
                           gboolean stateless, GsStream *stream, GError **error);

  /**
   * [S60] Resolves a revision: a full object id, the unique beginning of one (4 digits or more), HEAD, a
   * full ref name, or a name below refs/, refs/tags/ or refs/heads/, looked for in this order; then any
   * number of "~<n>", "^<n>" and "^{commit}", "^{tree}", "^{blob}", "^{tag}", "^{}"; then maybe ":<path>".
   * No other revision syntax. INVALID_ARGUMENT for malformed and ambiguous ones, NOT_FOUND for those that
   * lead nowhere or to another type. Optional.
   */
  gboolean (*resolve_revision) (gpointer self, GsCall *call, const GsRepo *repo, const char *revision,
                                gsize revision_len, GsObject *ret_object, GError **error);
  /** [S61] The object's bytes, *full*; OUT_OF_RANGE when it is larger than @max_bytes. Optional. */
  gboolean (*read_object) (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid,
                           guint64 max_bytes, GsObject *ret_object, GBytes **ret_bytes,
                           GError **error);
  /** [S62] Writes the object's bytes to @stream's output at constant memory. Optional. */
  gboolean (*stream_object) (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid,
                             GsStream *stream, GError **error);
  /** [S63] Entries of one tree in git's order. NOT_FOUND for what is no tree. Optional. */
  gboolean (*list_tree) (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *tree,
                         GsTreeVisit visit, gpointer user, GError **error);

  /**
   * [S70] Answers an accessor of the Git API. @ret_reply *full*: the reply message. UNIMPLEMENTED for a method that this
   * storage does not know. Optional.
   */
  gboolean (*query) (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query,
                     GBytes **ret_reply, GError **error);
  /**
   * [S71] Computes what a mutator of the Git API would write: new objects as one pack, and ref updates with their
   * expected old values. Nothing is written that readers could see; the result goes the one write path (stage, on every
   * participant). The same request on the same refs gives the same objects. *@ret_computed *full*, given back by
   * computed_free. Optional, both or neither.
   */
  gboolean (*compute) (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query,
                       GsComputed **ret_computed, GError **error);
  void (*computed_free) (gpointer self, GsComputed *computed);

  /**
   * [S72] Is the storage there? Never blocks: it tells what is known. FALSE with UNAVAILABLE and why not. Only for storages
   * that live in another process, which also cares for them (maintain, leftovers, recovery), and that declare
   * GS_THREADS_PARALLEL: it is asked while other calls are under way. Optional.
   */
  gboolean (*probe) (gpointer self, GError **error);
  /**
   * [S73] Which medium it is and what room it has: from memory and one question to the file system, so that it may be
   * asked every few seconds. The id is the same after a restart. Optional.
   */
  gboolean (*disk) (gpointer self, GsDisk *ret_disk, GError **error);

  /**
   * [S80] Writes a copy of the replica at one position to @stream's output: its record, its refs as they are at that
   * record's generation, and the objects they need without those that the @haves reach, of which any may be unknown
   * here. DATA_LOSS when refs and record do not fit each other. What a copy looks like is the storage's own affair: only
   * a storage of the same plugin reads it. Optional.
   */
  gboolean (*export_replica) (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves,
                              GsStream *stream, GError **error);
  /**
   * [S81] Takes a copy in from @stream's input: the replica is made, or what it was is replaced, all at once and durably;
   * readers see the old or the new state, and so does a restart after a crash. Nothing is published that was not found
   * whole: refs by their digest, objects by their ids, and everything that the refs reach. FAILED_PRECONDITION when the
   * copy is another repository's, or only a part of which the rest is not here; BUSY while a write to the replica is
   * staged; ABORTED when the replica holds a write that the copy lacks. With GS_IMPORT_REPLACE nothing of what is there
   * is used, whatever it is, and staged writes that only its journal knows go with it to the trash. @ret_state is the new one. Optional.
   */
  gboolean (*import_replica) (gpointer self, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream,
                              GsReplicaState *ret_state, GError **error);
  /**
   * [S82] Reads all of the replica from the medium, at most so many bytes a second (0 = as fast as it goes): record, refs,
   * every object and what it needs. DATA_LOSS naming the first thing that is damaged. Changes nothing. Optional.
   */
  gboolean (*scrub) (gpointer self, GsCall *call, const GsRepo *repo, guint64 bytes_per_second, GError **error);
  /**
   * [S74] Which program it lives in, where that is another process than this one: its name and version, as "gitstead/0.1.0".
   * From memory, what was heard last; UNAVAILABLE when nothing was. *full*. Only with probe. Optional.
   */
  gboolean (*program) (gpointer self, char **ret_program, GError **error);
} GsStorageOps;

G_END_DECLS

#endif
