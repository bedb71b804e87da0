/* SPDX-License-Identifier: Apache-2.0 */
/**
 * memory.h - the inside of storage/memory: repositories without objects, for tests of everything above a storage.
 *
 * Refs, votes, locks, digests and generations behave as a real storage's; packs are checked for being whole and then
 * only counted. Nothing survives the process. One lock guards all; what a slot shows is copied first.
 */
#ifndef STORAGE_MEMORY_H
#define STORAGE_MEMORY_H

#include <gitstead/storage.h>
#include <gitstead/thread.h>

#define MEMORY_OWN_REFS "refs/gitstead/"

typedef struct
{
  const GsHost *host;
  GsMutex lock;
  GHashTable *replicas; /* replica path -> Replica */
} Memory;

typedef struct
{
  guint n_refs; /* of the table and of each transaction; under the lock */
  guint64 id;
  char *path;
  GsObjectFormat format;
  gboolean removed;
  char *head;
  GTree *refs;      /* name -> GsOid */
  GTree *claims;    /* name -> the Txn that has it locked */
  GHashTable *open; /* GsTxId -> Txn: staged, neither applied nor dropped */
  GsDigest digest;
  guint64 generation;
  GTree *ahead; /* applied generations above generation + 1, as GUINT64 keys */
  guint64 n_packs, pack_bytes;
} Replica;

/** A staged write. */
typedef struct
{
  Replica *replica;
  GsTxId txid;
  GsVote vote;
  GPtrArray *texts; /* names and targets that updates point to */
  GArray *updates;  /* accepted, in order of name, with true old values */
  GArray *verdicts;
  gsize pack_bytes;
} Txn;

/* ---------------------------------------------------------------------------------- memory.c: replicas */

/** The replica, of the right repository. Under the lock. NULL with @error. */
Replica *memory_find (Memory *self, const GsRepo *repo, GError **error);
void replica_unref (Replica *replica);
/** A GCompareDataFunc for trees of names. */
int memory_by_name (gconstpointer a, gconstpointer b, gpointer user);
/** What one ref, or HEAD by @symref, adds to the refs digest. */
void memory_term (const char *name, const GsOid *oid, const char *symref, GsDigest *ret_term);

/* ------------------------------------------------------------------------------------------- names.c */

/** NULL when @name is a ref's full name by git's rules, otherwise what is wrong with it. */
const char *memory_name_fault (const char *name);
/** A ref in @tree that stands above or below @name ("a" and "a/b"), and is not in @but. NULL when there is none. */
const char *memory_name_in_the_way (GTree *tree, const char *name, GHashTable *but);

/* -------------------------------------------------------------------------------------------- read.c */

gboolean memory_list_refs (gpointer self, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                           gpointer user, GError **error);
gboolean memory_find_ref (gpointer self, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit,
                          gpointer user, GError **error);

/* ------------------------------------------------------------------------------------------- write.c */

gboolean memory_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
                       const GsVote **ret_vote, GError **error);
gboolean memory_commit (gpointer self, GsCall *call, gpointer txn, const GsDecision *decision, GError **error);
void memory_abort (gpointer self, GsCall *call, gpointer txn, const GError *why);
gboolean memory_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error);
gboolean memory_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid,
                         const GsDecision *decision, GError **error);
/** Unlocks its refs and frees it. Under the lock. */
void txn_drop (Txn *txn);

#endif
