/* SPDX-License-Identifier: Apache-2.0 */
/* After a crash: redo what was committed, undo what nobody voted for, keep what others must decide. */
#include "disk.h"
#include "git.h"
#include "repack.h"

#include <unistd.h>

/* --------------------------------------------------------------------------------------- the journal */

typedef struct
{
  GsTxId txid;
  gboolean voted, committed;
  guint64 generation;
  guint8 vote[32];
  char *quarantine;
  GsDigest plus, minus;
} Found;

static void
found_free (gpointer data)
{
  Found *found = data;
  g_free (found->quarantine);
  g_free (found);
}

static gboolean
collect_one (const RefPending *pending, gpointer user)
{
  Found *found = g_new0 (Found, 1);
  found->txid = pending->txid;
  found->voted = pending->voted;
  found->committed = pending->committed;
  found->generation = pending->generation;
  memcpy (found->vote, pending->vote, sizeof found->vote);
  found->quarantine = g_strdup (pending->quarantine);
  found->plus = pending->plus;
  found->minus = pending->minus;
  g_ptr_array_add (user, found);
  return TRUE;
}

static GPtrArray *
collect_journal (Repo *repo, GError **error)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func (found_free);
  return ref_store_pending (repo->refs, collect_one, all, error) ? g_steal_pointer (&all) : NULL;
}

/*
 * In the order of a commit, the journal last: a crash only makes us do all of this again. The digest moves by this
 * write's own terms, once: other writes may be published and not yet stamped, so the refs as they are do not tell it.
 */
static gboolean
redo (Repo *repo, const Found *found, guint64 generation, GError **error)
{
  if ((found->quarantine != NULL && !quarantine_publish (repo, found->quarantine, error))
      || !ref_store_redo (repo->refs, &found->txid, generation, error)
      || !replica_stamp (repo, generation, &found->plus, &found->minus, NULL, error)
      || !ref_store_resolve (repo->refs, &found->txid, generation, error))
    return FALSE;
  if (found->quarantine != NULL)
    quarantine_drop (repo, found->quarantine);
  maintain_note (repo);
  return TRUE;
}

static gboolean
undo (Repo *repo, const Found *found, GError **error)
{
  if (!ref_store_resolve (repo->refs, &found->txid, 0, error))
    return FALSE;
  if (found->quarantine != NULL)
    quarantine_drop (repo, found->quarantine);
  return TRUE;
}

static void
log_recovered (Repo *repo, const Found *found, const char *fate)
{
  Storage *storage = repo->storage;
  char txid[GIT_TXID_HEX + 1];
  gs_hex (found->txid.bytes, GS_TXID_SIZE, txid);
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("txid", &txid[0]), GS_TEXT ("fate", fate) };
  storage->host->log (storage->host, GS_LOG_INFO, "storage.journal.resolved", fields, G_N_ELEMENTS (fields));
}

/* -------------------------------------------------------------------------------------------- sweep */

static gboolean
is_kept (const GPtrArray *journal, const char *name)
{
  for (guint i = 0; i < journal->len; i++)
    if (g_strcmp0 (((Found *) journal->pdata[i])->quarantine, name) == 0)
      return TRUE;
  return FALSE;
}

static gboolean
sweep_replica (Repo *repo, const GPtrArray *journal, GError **error)
{
  g_autofree char *dir = g_strconcat (repo->dir, "/" GIT_QUARANTINES, NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, error), top = disk_names (repo->dir, error);
  if (names == NULL || top == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    if (!is_kept (journal, names->pdata[i]))
      quarantine_drop (repo, names->pdata[i]);
  /* What a killed git leaves beside its locks. */
  for (guint i = 0; i < top->len; i++)
    if (g_str_has_prefix (top->pdata[i], "shallow_") || strcmp (top->pdata[i], "shallow.lock") == 0)
      {
        g_autofree char *path = g_build_filename (repo->dir, top->pdata[i], NULL);
        unlink (path);
      }
  return ref_store_sweep (repo->refs, error);
}

/* Not while a git process of the killed server is still at it: the next round of maintenance looks again. */
static gboolean
sweep_packs (Repo *repo, GError **error)
{
  int lock = repack_lock (repo, NULL);
  gboolean done = lock < 0 || repack_recover (repo, error);
  repack_unlock (lock);
  return done;
}

static gboolean
recover_replica (Repo *repo, GError **error)
{
  g_autoptr (GPtrArray) journal = collect_journal (repo, error);
  if (journal == NULL)
    return FALSE;
  for (guint i = 0; i < journal->len;)
    {
      const Found *found = journal->pdata[i];
      if (found->voted && !found->committed)
        {
          i++;
          continue;
        }
      if (!(found->committed ? redo (repo, found, found->generation, error) : undo (repo, found, error)))
        return FALSE;
      log_recovered (repo, found, found->committed ? "applied" : "dropped");
      g_ptr_array_remove_index (journal, i);
    }
  return sweep_replica (repo, journal, error) && sweep_packs (repo, error);
}

/* One damaged replica must not keep the others from being served: it is logged, and every call on it fails by itself.
 */
static void
log_failed (Storage *storage, const char *path, const GError *failed)
{
  const GsField fields[] = { GS_TEXT ("replica", path), GS_TEXT ("error", failed->message) };
  storage->host->log (storage->host, GS_LOG_ERROR, "storage.replica.recovery-failed", fields, G_N_ELEMENTS (fields));
}

Repo *
repo_open_path (Storage *storage, const char *path, gboolean writer, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, path, NULL);
  ReplicaRecord record;
  if (!replica_record_read (dir, &record, error))
    return NULL;
  replica_record_clear (&record);
  const GsRepo repo = { .size = sizeof repo, .id = record.id, .replica_path = path };
  return repo_open (storage, &repo, writer, error);
}

static gboolean
recover_one (Storage *storage, const char *path, gpointer user, GError **error)
{
  g_autoptr (GError) failed = NULL;
  Repo *repo = repo_open_path (storage, path, TRUE, &failed);
  if (repo != NULL)
    {
      recover_replica (repo, &failed);
      repo_close (repo, TRUE);
    }
  if (failed != NULL)
    log_failed (storage, path, failed);
  return TRUE;
}

gboolean
storage_recover (Storage *storage, GError **error)
{
  return storage_sweep_tmp (storage, G_MININT32, error) && storage_walk (storage, NULL, recover_one, NULL, error);
}

/* --------------------------------------------------------------------------------- pending, resolve */

typedef struct
{
  GsPendingVisit visit;
  gpointer user;
  gboolean stopped;
} PendingVisit;

static gboolean
journal_is_empty (Storage *storage, const char *path)
{
  g_autofree char *dir = g_build_filename (storage->root, path, "gitstead", "journal", NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, NULL);
  return names != NULL && names->len == 0;
}

static gboolean
pending_one (Storage *storage, const char *path, gpointer user, GError **error)
{
  PendingVisit *pending = user;
  g_autoptr (GError) failed = NULL;
  if (pending->stopped || journal_is_empty (storage, path))
    return TRUE;
  Repo *repo = repo_open_path (storage, path, TRUE, &failed);
  g_autoptr (GPtrArray) journal = repo != NULL ? collect_journal (repo, &failed) : NULL;
  for (guint i = 0; journal != NULL && i < journal->len && !pending->stopped; i++)
    {
      const Found *found = journal->pdata[i];
      GsPending one = { .size = sizeof one,
                        .repo = { .size = sizeof one.repo, .id = repo->id, .replica_path = repo->path },
                        .txid = found->txid };
      /* One that was committed and could not be finished is open as well. */
      if (!found->voted && !found->committed)
        continue;
      memcpy (one.vote, found->vote, sizeof one.vote);
      pending->stopped = !pending->visit (&one, pending->user);
    }
  if (repo != NULL)
    repo_close (repo, TRUE);
  if (failed != NULL)
    log_failed (storage, path, failed);
  return TRUE;
}

gboolean
storage_pending (gpointer self, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  PendingVisit pending = { visit, user, FALSE };
  return storage_walk (self, call, pending_one, &pending, error);
}

static char *
stranded_key (const char *path, const GsTxId *txid)
{
  char hex[GIT_TXID_HEX + 1];
  gs_hex (txid->bytes, GS_TXID_SIZE, hex);
  return g_strconcat (path, " ", hex, NULL);
}

void
txn_strand (Txn *txn)
{
  Storage *storage = txn->repo->storage;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  g_hash_table_insert (storage->stranded, stranded_key (txn->repo->path, &txn->txid), txn);
}

static gboolean
resolve_stranded (Txn *txn, const GsDecision *decision, GError **error)
{
  if (decision != NULL && !txn_apply (txn, decision->generation, error))
    {
      txn_strand (txn);
      return FALSE;
    }
  txn_free (txn);
  return TRUE;
}

static gboolean
resolve_journalled (Repo *repo, const GsTxId *txid, const GsDecision *decision, GError **error)
{
  g_autoptr (GPtrArray) journal = collect_journal (repo, error);
  if (journal == NULL)
    return FALSE;
  for (guint i = 0; i < journal->len; i++)
    {
      const Found *found = journal->pdata[i];
      if (memcmp (found->txid.bytes, txid->bytes, GS_TXID_SIZE) != 0)
        continue;
      if (found->committed && decision == NULL)
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                        "a write to replica %s cannot be dropped: it was committed at generation %" G_GUINT64_FORMAT,
                        repo->path, found->generation);
      if (!(decision != NULL ? redo (repo, found, decision->generation, error) : undo (repo, found, error)))
        return FALSE;
      log_recovered (repo, found, decision != NULL ? "applied" : "dropped");
    }
  return TRUE;
}

gboolean
storage_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid, const GsDecision *decision,
                 GError **error)
{
  Storage *storage = self;
  g_autofree char *key = stranded_key (repo->replica_path, txid);
  gpointer stolen_key = NULL, txn = NULL;
  gs_mutex_lock (&storage->lock);
  g_hash_table_steal_extended (storage->stranded, key, &stolen_key, &txn);
  gs_mutex_unlock (&storage->lock);
  g_free (stolen_key);
  if (txn != NULL)
    return resolve_stranded (txn, decision, error);
  Repo *open = repo_open (storage, repo, TRUE, error);
  if (open == NULL)
    return FALSE;
  gboolean done = resolve_journalled (open, txid, decision, error);
  repo_close (open, TRUE);
  return done;
}
