/* SPDX-License-Identifier: Apache-2.0 */
/**
 * git.h - what the files of storage/git share: the instance, an open repository, its parts.
 *
 * A Repo is an open replica: its ref store, its object handles, its stamp lock. It stays open while somebody
 * uses it and, up to max_repos_open, afterwards. Who works on a replica holds it through repo_open/repo_close;
 * who stages a write holds it as a writer too, so that it is not removed under the write.
 */
#ifndef STORAGE_GIT_GIT_H
#define STORAGE_GIT_GIT_H

#include "refs.h"

#include <gitstead/storage.h>
#include <gitstead/thread.h>

#define GIT_REPLICA_DIR "gitstead"            /* our folder in a replica */
#define GIT_RECORD "gitstead/replica"         /* the identity record */
#define GIT_QUARANTINES "gitstead/quarantine" /* one folder per write under way */
#define GIT_ROOT_MARKER "gitstead-storage"    /* these are in the storage's root */
#define GIT_ROOT_CLEAN "gitstead-clean"
#define GIT_ROOT_TMP "gitstead-tmp"
#define GIT_ROOT_KEPT "gitstead-lost" /* versions that were given up: never cleared */
#define GIT_ROOT_TRASH "gitstead-trash"
#define GIT_HIDDEN_REFS "refs/gitstead/"

#define GIT_TXID_HEX (2 * GS_TXID_SIZE)
#define GIT_STREAM_BYTES (16u << 20) /* objects larger than this are streamed by a child */
#define GIT_PUSH_COMMANDS_MAX 1000000u
#define GIT_PUSH_COMMANDS_BYTES (256u << 20)
/** A push's options are variables of its hooks' environment, and that is small. */
#define GIT_PUSH_OPTIONS_MAX 1000u
#define GIT_PUSH_OPTIONS_BYTES (64u << 10)
/** Versions of the git program that can be compared. */
#define GIT_VERSION(major, minor) ((major) * 1000u + (minor))
#define GIT_REQUEST_MAX (16u << 20) /* one protocol v2 request */

typedef struct Repo Repo;
typedef struct Care Care; /* maintain.c */
struct PackCache;

/** The instance. Everything but the table of repositories is constant after start. */
typedef struct
{
  const GsHost *host;

  /* options */
  char *root;
  char *git;      /* absolute after start */
  char *hook_dir; /* absolute after start */
  char *crash_at;
  gint64 trash_grace_us;
  gint64 lock_wait_us;
  guint64 max_push_bytes; /* bound.h */
  gint64 max_remote_refs; /* of another server, in one call */
  guint64 max_change_bytes;
  gint64 max_repos_open;
  gboolean old_tree;   /* the root may have other files when the marker is made */
  char **remote_allow; /* where Repository/Fetch and its like may go (api/transfer_remote.c) */
  gint64 child_cpu_seconds;
  guint64 child_memory;
  gboolean sync;
  gboolean fsck_strict;
  gboolean deny_deletes;
  gboolean deny_non_fast_forwards;
  gboolean run_hooks;
  gint64 hook_timeout_us;
  gboolean maintenance;
  gint64 maintenance_packs; /* 0 = by size */
  gint64 full_repack_us;    /* 0 = never */

  /* from start on */
  char *git_path;    /* PATH of children */
  guint git_version; /* GIT_VERSION */
  char *upload_caps; /* capability lists as the installed git speaks them: see advertise.c */
  char *receive_caps;
  char *v2_advertisement; /* whole, packet lines */
  char uuid[33];          /* of the root */
  int marker_fd;          /* locked while we run */
  gboolean git2;          /* libgit2 is initialised */

  GsMutex lock;         /* the table and the counts in its Repos */
  GsCond written;       /* a replica has no writer any more, or is open to them again */
  GHashTable *repos;    /* replica path -> Repo */
  GHashTable *removing; /* replica paths that are on their way to the trash */
  GHashTable *stranded; /* "<replica path> <txid>" -> Txn that commit could not apply */
  guint64 ticks;        /* for least recently used */
  Care *care;           /* which replicas need maintenance */
  GPtrArray *loans;     /* who borrows objects in an old tree, or NULL (oldtree.c) */
  gint64 loans_until_us;
  gint fscks;           /* atomic: under way */
  struct PackCache *packs; /* packcache.h */
  gint history_facts;   /* atomic: commits remembered by all repositories (history/view.h) */

  struct
  {
    GsMetric *pushes, *fetches, *native_lists, *children, *killed, *packs_written, *maintain_seconds;
  } metric;
} Storage;

/** The identity record of a replica (replica.c). */
typedef struct
{
  guint64 from, to;
} GenerationRange;

typedef struct
{
  guint64 id;
  char storage[33];
  GsObjectFormat format;
  guint64 generation;
  GArray *ahead; /* GenerationRange: later decisions that are applied already, ascending, apart */
  GsDigest digest;
} ReplicaRecord;

/** Where objects_peel looks. */
typedef struct
{
  Repo *repo;
  struct ObjectHandle *handle; /* NULL = an idle one of the repository */
} PeelIn;

struct Repo
{
  Storage *storage;
  char *path;    /* relative */
  char *dir;     /* absolute */
  char *objects; /* absolute */
  char *pool_objects; /* of the replica that it borrows from, or NULL (pool.h); under @lock */
  guint64 id;
  GsObjectFormat format;
  RefStore *refs;
  PeelIn peel_in; /* the ref store's */
  struct HistStore *history; /* its commit-graph (history/view.h) */

  /* under storage->lock */
  guint users;
  guint writers;
  gboolean shut;    /* new writers wait */
  gboolean removed; /* not in the table any more */
  guint64 last_used;

  GsMutex stamp_lock; /* the record on the medium: read-change-write */

  GsMutex lock;            /* what follows */
  GPtrArray *handles;      /* idle ObjectHandle (objects.c) */
  guint handles_epoch;     /* those of an older one are not kept */
  GHashTable *quarantines; /* names of those of this process */
};

/* ----------------------------------------------------------------------------------------- git.c */

/** Opens (or finds) the replica and checks its identity. NULL with NOT_FOUND, DATA_LOSS, FAILED_PRECONDITION. *full*.
 */
Repo *repo_open (Storage *storage, const GsRepo *repo, gboolean writer, GError **error);
void repo_close (Repo *repo, gboolean writer);
/**
 * Waits until nobody writes to it, at most until @until_us, and keeps new writers waiting from then on, until repo_let_in: for
 * moments only. What an earlier process left staged counts as a writer. BUSY, CANCELLED.
 */
gboolean repo_shut_out (Repo *repo, GsCall *call, gint64 until_us, GError **error);
void repo_let_in (Repo *repo);
/** Writes to it that are being staged, or are staged. */
guint32 repo_writers (Repo *repo);
/** Nobody can open the replica until repo_removed; BUSY while somebody writes. */
gboolean repo_take_out (Storage *storage, const char *path, GError **error);
void repo_removed (Storage *storage, const char *path);
/** FALSE with INVALID_ARGUMENT unless @path is relative, plain and ours to use. */
gboolean replica_path_check (const char *path, GError **error);
/** Ends the process with SIGKILL when the tests asked for it at @point. */
void storage_crash_point (const Storage *storage, const char *point);
void storage_random_hex (const Storage *storage, char ret_hex[33]);

/* ------------------------------------------------------------------------------------- replica.c */

gboolean replica_record_read (const char *dir, ReplicaRecord *ret_record, GError **error);
gboolean replica_record_write (const Storage *storage, const char *dir, const ReplicaRecord *record, GError **error);
void replica_record_clear (ReplicaRecord *record);
/** Notes that the decision with @generation is applied. */
void replica_record_applied (ReplicaRecord *record, guint64 generation);
/** Changes the record on the medium: @generation applied; digest + @plus - @minus, or @digest when both are NULL. */
gboolean replica_stamp (Repo *repo, guint64 generation, const GsDigest *plus, const GsDigest *minus,
                        const GsDigest *digest, GError **error);
/**
 * The record and the refs of one and the same moment: waits at most @wait_us for writes that are being published. *full*
 * both. @ret_fits FALSE: they did not come to fit; the refs were damaged, or writes are endless.
 */
gboolean replica_position (Repo *repo, GsCall *call, gint64 wait_us, ReplicaRecord *ret_record,
                           RefSnapshot **ret_snapshot, gboolean *ret_fits, GError **error);
/** FALSE with INVALID_ARGUMENT unless id and path can be a replica's. */
gboolean replica_target_check (const GsRepo *repo, GError **error);
/** Makes the folders and files of a replica without refs and objects in the folder @dir. */
gboolean replica_fill (Storage *storage, const char *dir, const ReplicaRecord *record, const char *head_target,
                       GError **error);
/** Renames @from to @to, where nothing may be yet: ALREADY_EXISTS. @path is for the message. */
gboolean replica_move_new (Storage *storage, const char *from, const char *to, const char *path, GError **error);
/** Refuses replicas that only git could read (extensions). */
gboolean replica_config_check (const char *dir, GError **error);

gboolean storage_root_open (Storage *storage, GError **error);
void storage_root_close (Storage *storage, gboolean clean);
/** A new folder for unfinished things; what a crash leaves there goes at the next start. *full*. */
gboolean storage_tmp_dir (Storage *storage, const char *what, char **ret_path, GError **error);
/** Where a replica goes in the trash: the name says when, and which. *full*. */
char *storage_trash_path (Storage *storage, guint64 id);
/** Was the root closed cleanly the last time? Forgets it. */
gboolean storage_root_was_clean (Storage *storage, GError **error);

/** Visits each replica folder with its path relative to the root. */
typedef gboolean (*ReplicaVisit) (Storage *storage, const char *path, gpointer user, GError **error);
gboolean storage_walk (Storage *storage, GsCall *call, ReplicaVisit visit, gpointer user, GError **error);

gboolean storage_create (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error);
gboolean storage_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error);
gboolean storage_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error);
gboolean storage_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error);
gboolean storage_disk (gpointer self, GsDisk *ret_disk, GError **error);
gboolean storage_measure (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error);
gboolean storage_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error);

/* ------------------------------------------------------------------------------------- recover.c */

/** After a start that was not clean: redoes what was committed, undoes what nobody voted for, sweeps leftovers. */
gboolean storage_recover (Storage *storage, GError **error);
/** repo_open of whatever repository the record of the replica at @path names. */
Repo *repo_open_path (Storage *storage, const char *path, gboolean writer, GError **error);
gboolean storage_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error);
gboolean storage_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid,
                          const GsDecision *decision, GError **error);

/* ------------------------------------------------------------------------------------ maintain.c */

gboolean storage_maintain (gpointer self, GsCall *call, GError **error);
/** Removes what is in the folder for unfinished things and was begun so long ago. */
gboolean storage_sweep_tmp (Storage *storage, gint64 older_than_seconds, GError **error);
/** The replica has changed: the next round looks at it. */
void maintain_note (Repo *repo);
/** Ends the work on the replica at @path, and returns when it has ended. Nobody can open the replica. */
void maintain_stop (Storage *storage, const char *path);
/** Memory only; maintain_start makes what it needs of the system. */
void maintain_init (Storage *storage);
gboolean maintain_start (Storage *storage, GError **error);
void maintain_clear (Storage *storage);

/* -------------------------------------------------------------------------------------- change.c */

/** A staged write: what stage and stage_push make. push.c adds the child that waits for the outcome. */
typedef struct PushSession PushSession;
typedef struct
{
  Repo *repo; /* held as a writer */
  GsTxId txid;
  char *quarantine; /* name below GIT_QUARANTINES; NULL when there is none */
  RefTxn *refs;     /* NULL when nothing was accepted */
  gboolean refs_committed;
  gboolean own_refs; /* GsChangeSet has it */
  GsOid hooks;       /* the set that is asked; len 0 = none */
  GString *hook_lines; /* what hooks are told of the updates; NULL = they were not asked */
  GsVote vote;
  GsRefVerdict *verdicts;
  gsize n_verdicts;
  PushSession *push; /* NULL for a change set */
} Txn;

/** A new quarantine with an empty objects folder. */
/** Checks @pack as strictly as a push and writes it into <objects>/pack. INVALID_ARGUMENT in git's words. change.c */
gboolean pack_take (Repo *repo, GsCall *call, GBytes *pack, const char *objects, GError **error);
gboolean quarantine_make (Repo *repo, const GsTxId *txid, char **ret_name, GError **error);
char *quarantine_objects_dir (Repo *repo, const char *name);
void quarantine_drop (Repo *repo, const char *name);
/** fsyncs what is in it; FALSE also when there is anything but packs. */
gboolean quarantine_sync (Repo *repo, const char *name, GError **error);
/** Moves its packs into the repository: pack, rev, then idx; durable; may be repeated. */
gboolean quarantine_publish (Repo *repo, const char *name, GError **error);

/** Prepares the updates and makes the vote durable. @txn->verdicts has room for @n. Frees nothing on failure. */
gboolean txn_prepare (Txn *txn, GsCall *call, const GsRefUpdate *updates, gsize n, gboolean atomic,
                      const guint8 *trailer, gsize trailer_len, GError **error);
void txn_free (Txn *txn);
/** Keeps a decided write that could not be applied, until resolve (recover.c). Takes @txn. */
void txn_strand (Txn *txn);
/** Applies a decided write: objects, refs, record, journal. May be repeated after it failed. */
gboolean txn_apply (Txn *txn, guint64 generation, GError **error);
gboolean storage_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
                        const GsVote **ret_vote, GError **error);
gboolean storage_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error);
void storage_abort (gpointer self, GsCall *call, gpointer txn, const GError *why);

/* ---------------------------------------------------------------------------------------- push.c */

gboolean storage_stage_push (gpointer self, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
                             gpointer *ret_txn, const GsVote **ret_vote, GError **error);
/** Tells git what became of each command (@why NULL: as the verdicts say) and sees it out. */
void push_finish (Txn *txn, GsCall *call, const GError *why);
/** Ends the child at once. */
void push_kill (Txn *txn);

/* ------------------------------------------------------------------ copy_out.c, copy_in.c, scrub.c */

/** Our part of a copy stream's text (docs/on-disk.md): what stands before the refs. */
#define GIT_COPY_MAGIC "gitstead-copy 1"
#define GIT_COPY_HEADER_MAX (128u * 1024)
#define GIT_COPY_SUM 65 /* checksum line after the refs */

gboolean storage_export (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves,
                         GsStream *stream, GError **error);
gboolean storage_import (gpointer self, GsCall *call, const GsRepo *repo, guint32 flags, GsStream *stream,
                         GsReplicaState *ret_state, GError **error);
gboolean storage_scrub (gpointer self, GsCall *call, const GsRepo *repo, guint64 bytes_per_second, GError **error);
/** A file without a name among the unfinished things, open for reading and writing. -1 with @error. */
int storage_spool (Storage *storage, GError **error);

/* ---------------------------------------------------------------------------------- serve.c etc. */

gboolean storage_upload_pack (gpointer self, GsCall *call, const GsRepo *repo, const char *protocol, gboolean stateless,
                              GsStream *stream, GError **error);
gboolean storage_advertise (gpointer self, GsCall *call, const GsRepo *repo, guint32 service, const char *protocol,
                            GBytes **ret_bytes, GError **error);
gboolean storage_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                            gpointer user, GError **error);
gboolean storage_find_ref (gpointer self, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit,
                           gpointer user, GError **error);

/** Learns from the installed git what it can do. */
gboolean advertise_probe (Storage *storage, GError **error);
GBytes *advertise_refs (Repo *repo, guint32 service, int version, GError **error);
/** Answers one ls-refs request (the packets after "command=ls-refs", arguments and flush). An "ERR" answer is an
 * answer. */
GBytes *advertise_ls_refs (Repo *repo, const char *request, gsize len, GError **error);

/* -------------------------------------------------------------------------------------- api/api.c */

gboolean storage_query (gpointer self, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
                        GError **error);

/* ------------------------------------------------------------------------------------- objects.c */

/** For RefStoreOptions.peel; @user is a PeelIn. */
gboolean objects_peel (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit, GError **error);
/** A PeelIn that also sees the quarantine's objects; until objects_peel_done, on this thread. */
gboolean objects_peel_in_quarantine (Repo *repo, const char *quarantine, PeelIn *ret_in, GError **error);
void objects_peel_done (PeelIn *in);
/** Closes the idle ones, and those in use when they come back. */
void objects_drop_handles (Repo *repo);
gboolean objects_library_start (Storage *storage, GError **error);
void objects_library_stop (Storage *storage);

gboolean storage_resolve_revision (gpointer self, GsCall *call, const GsRepo *repo, const char *revision,
                                   gsize revision_len, GsObject *ret_object, GError **error);
gboolean storage_read_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes,
                              GsObject *ret_object, GBytes **ret_bytes, GError **error);
gboolean storage_stream_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream,
                                GError **error);
gboolean storage_list_tree (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit,
                            gpointer user, GError **error);

#endif
