/* SPDX-License-Identifier: Apache-2.0 */
/* Staged writes: quarantine, prepare and vote, then commit or abort. What a push and an API write have in common. */
#include "child.h"
#include "disk.h"
#include "git.h"
#include "hooks.h"
#include "ingest.h"
#include "repack.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PACK_TRAILER 20

/* ------------------------------------------------------------------------------------- quarantine */

char *
quarantine_objects_dir (Repo *repo, const char *name)
{
  return g_strconcat (repo->dir, "/" GIT_QUARANTINES "/", name, "/objects", NULL);
}

gboolean
quarantine_make (Repo *repo, const GsTxId *txid, char **ret_name, GError **error)
{
  char name[GIT_TXID_HEX + 1];
  gs_hex (txid->bytes, GS_TXID_SIZE, name);
  g_autofree char *dir = g_strconcat (repo->dir, "/" GIT_QUARANTINES "/", name, NULL);
  if (mkdir (dir, 0777) != 0
      && (errno != ENOENT || !disk_make_dirs (repo->dir, GIT_QUARANTINES, repo->storage->sync, NULL)
          || mkdir (dir, 0777) != 0))
    {
      if (errno == EEXIST)
        return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "write %s to replica %s is staged already", name, repo->path);
      return fsu_fail (error, errno, "make the quarantine %s", dir);
    }
  gs_mutex_lock (&repo->lock);
  g_hash_table_add (repo->quarantines, g_strdup (name));
  gs_mutex_unlock (&repo->lock);
  if (!disk_make_dirs (dir, "objects/pack", FALSE, error))
    {
      quarantine_drop (repo, name);
      return FALSE;
    }
  *ret_name = g_strdup (name);
  return TRUE;
}

void
quarantine_drop (Repo *repo, const char *name)
{
  g_autofree char *dir = g_strconcat (repo->dir, "/" GIT_QUARANTINES "/", name, NULL);
  g_autoptr (GError) failed = NULL;
  if (!fsu_remove_tree (AT_FDCWD, dir, &failed))
    {
      const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("error", failed->message) };
      repo->storage->host->log (repo->storage->host, GS_LOG_WARNING, "storage.quarantine.left", fields,
                                G_N_ELEMENTS (fields));
    }
  gs_mutex_lock (&repo->lock);
  g_hash_table_remove (repo->quarantines, name);
  gs_mutex_unlock (&repo->lock);
}

/* Everything that is not a pack would be lost at the commit: git was told to make packs only. */
static gboolean
check_packs_only (const char *objects, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (objects, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    if (strcmp (names->pdata[i], "pack") != 0 && strcmp (names->pdata[i], "info") != 0)
      return gs_fail (error, GS_ERROR_INTERNAL, "the quarantine %s holds %s beside packs", objects,
                      (const char *) names->pdata[i]);
  return TRUE;
}

gboolean
quarantine_sync (Repo *repo, const char *name, GError **error)
{
  g_autofree char *objects = quarantine_objects_dir (repo, name);
  g_autofree char *packs = g_strconcat (objects, "/pack", NULL);
  g_autofree char *dir = g_path_get_dirname (objects);
  g_autofree char *parent = g_path_get_dirname (dir);
  g_autoptr (GPtrArray) names = NULL;
  if (!check_packs_only (objects, error))
    return FALSE;
  if (!repo->storage->sync)
    return TRUE;
  names = disk_names (packs, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *file = g_build_filename (packs, names->pdata[i], NULL);
      if (!disk_sync (file, TRUE, error))
        return FALSE;
    }
  return disk_sync (packs, FALSE, error) && disk_sync (objects, FALSE, error) && disk_sync (dir, FALSE, error)
         && disk_sync (parent, FALSE, error);
}

gboolean
quarantine_publish (Repo *repo, const char *name, GError **error)
{
  /* A reader takes a pack for whole once its .idx is there. */
  static const char *const order[] = { ".pack", ".rev", ".idx" };
  g_autofree char *objects = quarantine_objects_dir (repo, name);
  g_autofree char *from_dir = g_strconcat (objects, "/pack", NULL);
  g_autofree char *to_dir = g_strconcat (repo->objects, "/pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (from_dir, error);
  gboolean moved = FALSE;
  if (names == NULL)
    return FALSE;
  for (gsize k = 0; k < G_N_ELEMENTS (order); k++)
    for (guint i = 0; i < names->len; i++)
      {
        if (!g_str_has_prefix (names->pdata[i], "pack-") || !g_str_has_suffix (names->pdata[i], order[k]))
          continue;
        g_autofree char *from = g_build_filename (from_dir, names->pdata[i], NULL);
        g_autofree char *to = g_build_filename (to_dir, names->pdata[i], NULL);
        moved = TRUE;
        /* The name of a pack is the hash of its objects: one that is there already is as good, and maybe mapped. */
        if (disk_exists (to))
          unlink (from);
        else if (rename (from, to) != 0 && errno != ENOENT)
          return fsu_fail (error, errno, "move into the repository %s", from);
        repack_note_published (repo, names->pdata[i]);
      }
  return !moved || !repo->storage->sync || disk_sync (to_dir, FALSE, error);
}

/* -------------------------------------------------------------------------------- prepare and vote */

static void
digest_update (GChecksum *sum, const GsRefUpdate *update)
{
  static const char zeros[] = "0000000000000000000000000000000000000000";
  char old_hex[GS_OID_HEX_MAX + 1], new_hex[GS_OID_HEX_MAX + 1];
  if (update->new_symref != NULL)
    {
      g_autofree char *line = g_strdup_printf ("ref: %s HEAD\n", update->new_symref);
      g_checksum_update (sum, (const guchar *) line, -1);
      return;
    }
  gs_oid_hex (&update->old_oid, old_hex);
  gs_oid_hex (&update->new_oid, new_hex);
  g_autofree char *line = g_strdup_printf ("%s %s %s\n", update->old_oid.len != 0 ? old_hex : zeros,
                                           update->new_oid.len != 0 ? new_hex : zeros, update->name);
  g_checksum_update (sum, (const guchar *) line, -1);
}

static void
make_vote (Txn *txn, const guint8 *trailer, gsize trailer_len)
{
  GsVote *vote = &txn->vote;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 head[9] = { 1 };
  gsize len = sizeof vote->digest;
  for (int i = 0; i < 8; i++)
    head[1 + i] = (guint8) (txn->repo->id >> (56 - 8 * i));
  g_checksum_update (sum, head, sizeof head);
  *vote = (GsVote){ .size = sizeof *vote };
  if (txn->refs != NULL)
    vote->updates = ref_txn_updates (txn->refs, &vote->n_updates, &vote->refs_plus, &vote->refs_minus);
  for (gsize i = 0; i < vote->n_updates; i++)
    digest_update (sum, &vote->updates[i]);
  g_checksum_update (sum, trailer, (gssize) trailer_len);
  g_checksum_get_digest (sum, vote->digest, &len);
  if (txn->push == NULL)
    {
      vote->verdicts = txn->verdicts;
      vote->n_verdicts = txn->n_verdicts;
    }
}

static void
refuse (GsRefVerdict *verdict, GsErrorCode code, const char *reason)
{
  g_free (verdict->reason);
  verdict->code = code;
  verdict->reason = g_strdup (reason);
}

/* Some may be refused already; the ref store sees the others only. */
static gboolean
prepare_refs (Txn *txn, GsCall *call, const GsRefUpdate *updates, gsize n, gboolean atomic, GError **error)
{
  g_autofree GsRefUpdate *left = g_new0 (GsRefUpdate, MAX (n, 1));
  g_autofree gsize *index = g_new0 (gsize, MAX (n, 1));
  g_autofree GsRefVerdict *verdicts = g_new0 (GsRefVerdict, MAX (n, 1));
  gsize n_left = 0;
  gboolean done;
  PeelIn in;
  for (gsize i = 0; i < n; i++)
    if (txn->verdicts[i].code == GS_OK)
      {
        left[n_left] = updates[i];
        index[n_left++] = i;
      }
  if (atomic && n_left < n)
    {
      for (gsize i = 0; i < n_left; i++)
        refuse (&txn->verdicts[index[i]], GS_ERROR_ABORTED, "atomic push failure");
      n_left = 0;
    }
  if (n_left == 0)
    return TRUE;
  if (!objects_peel_in_quarantine (txn->repo, txn->quarantine, &in, error))
    return FALSE;
  done = ref_store_prepare_with (txn->repo->refs, call, &txn->txid, left, n_left,
                                 (atomic ? REF_PREPARE_ATOMIC : 0) | (txn->own_refs ? REF_PREPARE_OWN : 0),
                                 txn->quarantine, objects_peel, &in, verdicts, &txn->refs, error);
  objects_peel_done (&in);
  for (gsize i = 0; i < n_left; i++)
    if (done)
      txn->verdicts[index[i]] = verdicts[i];
    else
      g_free (verdicts[i].reason);
  return done;
}

gboolean
txn_prepare (Txn *txn, GsCall *call, const GsRefUpdate *updates, gsize n, gboolean atomic, const guint8 *trailer,
             gsize trailer_len, GError **error)
{
  Storage *storage = txn->repo->storage;
  if (txn->quarantine != NULL && !quarantine_sync (txn->repo, txn->quarantine, error))
    return FALSE;
  storage_crash_point (storage, "push.quarantined");
  if (!prepare_refs (txn, call, updates, n, atomic, error))
    return FALSE;
  storage_crash_point (storage, "push.prepared");
  make_vote (txn, trailer, trailer_len);
  if (txn->refs != NULL && !ref_txn_voted (txn->refs, txn->vote.digest, error))
    return FALSE;
  storage_crash_point (storage, "push.voted");
  return TRUE;
}

/* Frees what is left: undecided refs are unlocked, the quarantine goes. */
void
txn_free (Txn *txn)
{
  ref_txn_abort (txn->refs);
  if (txn->quarantine != NULL)
    quarantine_drop (txn->repo, txn->quarantine);
  for (gsize i = 0; i < txn->n_verdicts; i++)
    g_free (txn->verdicts[i].reason);
  g_free (txn->verdicts);
  g_free (txn->quarantine);
  if (txn->hook_lines != NULL)
    g_string_free (txn->hook_lines, TRUE);
  repo_close (txn->repo, TRUE);
  g_free (txn);
}

/* ------------------------------------------------------------------------------------------ stage */

/* --strict also finds what the pack's objects refer to and nobody has. */
static gboolean
index_pack (Repo *repo, GsCall *call, GBytes *pack, const char *quarantine, GError **error)
{
  const char *const argv[] = { "index-pack", "--stdin", "--fix-thin", "--strict", NULL };
  g_autofree char *said = NULL;
  int status;
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = repo->dir,
                           .argv = argv,
                           .quarantine = quarantine,
                           .alternate = repo->objects,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  if (!child_run (repo->storage, &spec, call, pack, 0, NULL, &status, &said, error))
    return FALSE;
  return status == 0
         || gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                     "git index-pack refused the pack for repository %" G_GUINT64_FORMAT ": %s", repo->id, said);
}

gboolean
pack_take (Repo *repo, GsCall *call, GBytes *pack, const char *objects, GError **error)
{
  gboolean taken;
  return ingest_pack (repo, call, pack, objects, &taken, error) && (taken || index_pack (repo, call, pack, objects, error));
}

static gboolean
take_pack (Txn *txn, GsCall *call, GBytes *pack, GError **error)
{
  g_autofree char *quarantine = NULL;
  if (!quarantine_make (txn->repo, &txn->txid, &txn->quarantine, error))
    return FALSE;
  quarantine = quarantine_objects_dir (txn->repo, txn->quarantine);
  return pack_take (txn->repo, call, pack, quarantine, error);
}

gboolean
storage_stage (gpointer self, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
               const GsVote **ret_vote, GError **error)
{
  g_autofree GsRefUpdate *updates = g_memdup2 (change->updates, change->n_updates * sizeof *updates);
  const guint8 *trailer = NULL;
  gsize pack_len = change->pack != NULL ? g_bytes_get_size (change->pack) : 0;
  Repo *open = repo_open (self, repo, TRUE, error);
  if (open == NULL)
    return FALSE;
  Txn *txn = g_new0 (Txn, 1);
  txn->repo = open;
  txn->txid = change->txid;
  txn->verdicts = g_new0 (GsRefVerdict, MAX (change->n_updates, 1));
  txn->n_verdicts = change->n_updates;
  if (pack_len >= PACK_TRAILER)
    trailer = (const guint8 *) g_bytes_get_data (change->pack, NULL) + pack_len - PACK_TRAILER;
  txn->own_refs = change->own_refs;
  if ((change->pack != NULL && !take_pack (txn, call, change->pack, error))
      || !rules_judge (txn, call, updates, change->n_updates, error)
      || !txn_prepare (txn, call, updates, change->n_updates, change->atomic, trailer,
                       trailer != NULL ? PACK_TRAILER : 0, error)
      || !hooks_ask (txn, call, change->run_hooks, error))
    {
      txn_free (txn);
      return FALSE;
    }
  if (txn->refs == NULL && txn->quarantine != NULL)
    {
      quarantine_drop (open, txn->quarantine);
      g_clear_pointer (&txn->quarantine, g_free);
    }
  *ret_txn = txn;
  *ret_vote = &txn->vote;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- fate */

gboolean
txn_apply (Txn *txn, guint64 generation, GError **error)
{
  Repo *repo = txn->repo;
  Storage *storage = repo->storage;
  RefTxn *refs = txn->refs;
  storage_crash_point (storage, "commit.decided");
  if (txn->quarantine != NULL && !quarantine_publish (repo, txn->quarantine, error))
    return FALSE;
  storage_crash_point (storage, "commit.objects");
  if (!txn->refs_committed && !ref_txn_commit (refs, generation, error))
    {
      /* Freed, but its journal record stays. */
      ref_txn_abort (g_steal_pointer (&txn->refs));
      return FALSE;
    }
  txn->refs_committed = TRUE;
  if (!replica_stamp (repo, generation, &txn->vote.refs_plus, &txn->vote.refs_minus, NULL, error))
    return FALSE;
  storage_crash_point (storage, "commit.stamped");
  txn->refs = NULL;
  if (!ref_txn_finish (refs, error))
    return FALSE;
  storage_crash_point (storage, "commit.finished");
  maintain_note (repo);
  return TRUE;
}

gboolean
storage_commit (gpointer self, GsCall *call, gpointer data, const GsDecision *decision, GError **error)
{
  Txn *txn = data;
  gboolean done = txn->refs == NULL || txn_apply (txn, decision->generation, error);
  if (!done)
    {
      /* The journal keeps it: resolve brings it to its end. The client hears nothing rather than something wrong. */
      push_kill (txn);
      if (txn->refs != NULL)
        txn_strand (txn);
      else
        {
          g_clear_pointer (&txn->quarantine, g_free);
          txn_free (txn);
        }
      return FALSE;
    }
  if (txn->quarantine != NULL)
    {
      quarantine_drop (txn->repo, txn->quarantine);
      g_clear_pointer (&txn->quarantine, g_free);
    }
  hooks_tell (txn, call);
  push_finish (txn, call, NULL);
  txn_free (txn);
  return TRUE;
}

void
storage_abort (gpointer self, GsCall *call, gpointer data, const GError *why)
{
  Txn *txn = data;
  g_autoptr (GError) unknown = NULL;
  if (why == NULL && txn->refs != NULL)
    {
      gs_fail (&unknown, GS_ERROR_ABORTED, "the write was given up before it was made; try again");
      why = unknown;
    }
  ref_txn_abort (g_steal_pointer (&txn->refs));
  if (txn->quarantine != NULL)
    {
      quarantine_drop (txn->repo, txn->quarantine);
      g_clear_pointer (&txn->quarantine, g_free);
    }
  push_finish (txn, call, why);
  txn_free (txn);
}
