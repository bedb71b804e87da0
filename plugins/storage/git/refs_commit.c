/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_commit.c - commit, finish and abort; and redo, by which recovery and odd cases reach the same result.
 *
 * Order of a commit: commit record; new packed-refs and its directory synced; loose refs renamed into place; files of
 * deleted refs removed, all while packed-refs.lock is held, or git's packing would bring a deleted ref back. At
 * each step a ref has its old or its new value, so the journal can finish what a crash interrupted.
 */
#include "refs_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void
ref_txn_unlock (RefTxn *txn, gboolean names)
{
  for (gsize i = 0; i < txn->n; i++)
    {
      TxnRef *ref = &txn->refs[i];
      if (ref->lock_held)
        {
          ref_unlock_file (txn->store, ref->name);
          ref_prune_dirs (txn->store, ref->name);
        }
      ref->lock_held = FALSE;
      if (names && ref->name_held)
        {
          ref_name_release (txn->store, ref->name);
          ref->name_held = FALSE;
        }
    }
  if (txn->packed_lock)
    ref_unlock_packed (txn->store);
  txn->packed_lock = FALSE;
}

/* ------------------------------------------------------------------------------------ publishing */

/** Removes empty directories below and including @name, which is to become a file. */
static void
remove_empty_tree (RefStore *store, const char *name)
{
  g_autoptr (GPtrArray) found = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (found, g_strdup (name));
  for (guint i = 0; i < found->len; i++)
    {
      GDir *dir;
      const char *entry;
      g_autofree char *path = g_build_filename (store->dir, found->pdata[i], NULL);
      dir = g_dir_open (path, 0, NULL);
      while (dir != NULL && (entry = g_dir_read_name (dir)) != NULL)
        {
          g_autofree char *below = g_build_filename (found->pdata[i], entry, NULL);
          struct stat st;
          if (fstatat (store->dirfd, below, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR (st.st_mode))
            g_ptr_array_add (found, g_steal_pointer (&below));
        }
      g_clear_pointer (&dir, g_dir_close);
    }
  for (guint i = found->len; i-- > 0;)
    unlinkat (store->dirfd, found->pdata[i], AT_REMOVEDIR);
}

/** The lock file becomes the ref. FALSE: something is in the way. */
static gboolean
rename_loose (RefStore *store, TxnRef *ref)
{
  g_autofree char *lock = ref_lock_path (ref->name);
  if (renameat (store->dirfd, lock, store->dirfd, ref->name) != 0)
    {
      if (errno != EISDIR && errno != ENOTEMPTY && errno != EEXIST)
        return FALSE;
      remove_empty_tree (store, ref->name);
      if (renameat (store->dirfd, lock, store->dirfd, ref->name) != 0)
        return FALSE;
    }
  ref->lock_held = FALSE;
  return TRUE;
}

static gboolean
remove_loose (RefStore *store, const char *name, GError **error)
{
  if (unlinkat (store->dirfd, name, 0) == 0 || errno == ENOENT || errno == ENOTDIR || errno == EISDIR)
    return TRUE;
  return fsu_fail (error, errno, "removing ref %s of %s", name, store->dir);
}

/** What could not be renamed (a foreign process made a directory there, or took our lock) goes into packed-refs. */
static gboolean
publish_rest (RefTxn *txn, GPtrArray *rest, GError **error)
{
  RefWait wait;
  gboolean ok;
  for (guint i = 0; i < rest->len; i++)
    ref_store_note (txn->store, GS_LOG_WARNING, "refs.loose-blocked", ((TxnRef *) rest->pdata[i])->name);
  if (!txn->packed_lock)
    {
      ref_wait_init (&wait, txn->store, NULL, NULL);
      switch (ref_lock_packed (txn->store, txn->marker, TRUE, &wait, error))
        {
        case LOCK_TAKEN:
          txn->packed_lock = TRUE;
          break;
        case LOCK_FAILED:
          return FALSE;
        default:
          return gs_fail (error, GS_ERROR_ABORTED, "publishing transaction %s in %s: packed-refs stays locked",
                          txn->txid_hex, txn->store->dir);
        }
    }
  ok = ref_redo (txn->store, (TxnRef *const *) rest->pdata, rest->len, error);
  ref_store_publish_forget (txn->store);
  return ok;
}

static gboolean
publish_files (RefTxn *txn, GError **error)
{
  RefStore *store = txn->store;
  g_autoptr (GPtrArray) rest = g_ptr_array_new ();
  gboolean all = txn->n <= REF_BULK_LOCKS_MAX;
  if (txn->packed_rewrite && !ref_packed_publish (store, txn->packed_new, error))
    return FALSE;
  ref_store_crash (store, "refs.packed");
  for (gsize i = 0; i < txn->n; i++)
    if (txn->refs[i].route == ROUTE_LOOSE)
      {
        if (!rename_loose (store, &txn->refs[i]))
          g_ptr_array_add (rest, &txn->refs[i]);
        ref_store_crash (store, "refs.loose");
      }
  for (gsize i = 0; i < txn->n; i++)
    if (txn->refs[i].route == ROUTE_PACKED && (all || txn->refs[i].lock_held))
      {
        if (!remove_loose (store, txn->refs[i].name, error))
          return FALSE;
        ref_store_crash (store, "refs.removed");
      }
  return rest->len == 0 || publish_rest (txn, rest, error);
}

static LooseRef *
loose_from (const TxnRef *ref)
{
  LooseRef *loose = loose_ref_new (ref->name, LOOSE_VALUE, &ref->new_oid);
  loose->peeled = ref->peeled;
  loose->peel_known = TRUE;
  return loose;
}

/** @base with the changes of @txn: only the overlay is touched, however many refs are packed. */
static RefSnapshot *
apply_to (RefTxn *txn, RefSnapshot *base)
{
  g_autoptr (GPtrArray) loose = g_ptr_array_new_full (base->loose->len + 1, (GDestroyNotify) loose_ref_unref);
  const char *head = base->head;
  guint i = 0;
  for (gsize k = 0; k < txn->n; k++)
    {
      const TxnRef *ref = &txn->refs[k];
      int order = -1;
      if (ref->new_head != NULL)
        head = ref->new_head;
      if (ref->new_head != NULL || ref->route == ROUTE_NONE)
        continue;
      while (i < base->loose->len && (order = strcmp (((LooseRef *) base->loose->pdata[i])->name, ref->name)) < 0)
        g_ptr_array_add (loose, loose_ref_ref (base->loose->pdata[i++]));
      if (i < base->loose->len && order == 0)
        i++;
      if (ref->route == ROUTE_LOOSE)
        g_ptr_array_add (loose, loose_from (ref));
    }
  while (i < base->loose->len)
    g_ptr_array_add (loose, loose_ref_ref (base->loose->pdata[i++]));
  return ref_snapshot_new (packed_ref (txn->packed_rewrite ? txn->packed_new : base->packed), g_steal_pointer (&loose),
                           head, base, NULL);
}

static void
publish_snapshot (RefTxn *txn)
{
  for (;;)
    {
      g_autoptr (RefSnapshot) base = ref_store_current (txn->store);
      g_autoptr (RefSnapshot) snapshot = NULL;
      if (base == NULL)
        return;
      snapshot = apply_to (txn, base);
      if (snapshot == NULL)
        {
          ref_store_publish_forget (txn->store);
          return;
        }
      if (ref_store_publish_swap (txn->store, base, snapshot))
        return;
    }
}

/** Makes the published names durable, and gives back the lock files that remain. */
static gboolean
settle (RefTxn *txn, GError **error)
{
  RefStore *store = txn->store;
  g_autoptr (GHashTable) done = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  gboolean root = FALSE;
  ref_txn_unlock (txn, FALSE);
  for (gsize i = 0; i < txn->n; i++)
    {
      const TxnRef *ref = &txn->refs[i];
      if (ref->new_head != NULL)
        root = TRUE;
      else if (ref->route == ROUTE_PACKED && ref->had_loose)
        ref_prune_dirs (store, ref->name);
    }
  for (gsize i = 0; i < txn->n; i++)
    {
      const TxnRef *ref = &txn->refs[i];
      if (ref->new_head != NULL || ref->route == ROUTE_NONE || (ref->route == ROUTE_PACKED && !ref->had_loose))
        continue;
      /* Directories above a new file may be new as well. */
      if (!ref_sync_dirs (store, ref->name, !ref->had_loose, done, error))
        return FALSE;
    }
  return !root || fsu_sync_dir (store->dirfd, ".", error);
}

static void
learn_peels (RefTxn *txn)
{
  ref_store_peel_trim (txn->store);
  for (gsize i = 0; i < txn->n && txn->n <= REF_BULK_LOCKS_MAX; i++)
    if (txn->refs[i].route == ROUTE_LOOSE && txn->refs[i].new_head == NULL)
      ref_store_peel_learn (txn->store, &txn->refs[i].new_oid, &txn->refs[i].peeled, FALSE);
}

gboolean
ref_txn_commit (RefTxn *txn, guint64 generation, GError **error)
{
  RefStore *store = txn->store;
  gboolean ok;
  txn->commit_begun = TRUE;
  ok = ref_journal_commit (txn->journal_fd, txn->journal_path, txn->journal_sum, generation, error);
  if (ok)
    {
      ref_store_crash (store, "refs.committed");
      learn_peels (txn);
      ref_store_publish_begin (store);
      ok = publish_files (txn, error);
      if (ok)
        publish_snapshot (txn);
      else
        ref_store_publish_forget (store);
      ref_store_publish_end (store);
      ref_store_crash (store, "refs.published");
      ok = ok && settle (txn, error);
    }
  if (ok)
    ref_store_crash (store, "refs.settled");
  return ok;
}

/** Leaves it to ref_store_resolve: whoever writes these refs is refused until then. */
static void
leave (RefTxn *txn)
{
  RefStore *store = txn->store;
  ref_txn_unlock (txn, FALSE);
  for (gsize i = 0; i < txn->n; i++)
    ref_name_keep (store, txn->refs[i].name);
  gs_mutex_lock (&store->lock);
  g_hash_table_add (store->failed, g_strdup (txn->txid_hex));
  gs_mutex_unlock (&store->lock);
}

gboolean
ref_txn_finish (RefTxn *txn, GError **error)
{
  gboolean ok = fsu_unlink (txn->store->dirfd, txn->journal_path, error);
  if (ok)
    {
      ref_store_crash (txn->store, "refs.finished");
      ref_txn_unlock (txn, TRUE);
    }
  else
    leave (txn);
  ref_txn_free (txn);
  return ok;
}

void
ref_txn_abort (RefTxn *txn)
{
  if (txn == NULL)
    return;
  if (txn->commit_begun)
    leave (txn);
  else
    {
      /* Not synced: should the record come back after a power loss, it is undecided and will be undone again. */
      unlinkat (txn->store->dirfd, txn->journal_path, 0);
      ref_store_crash (txn->store, "refs.aborted");
      ref_txn_unlock (txn, TRUE);
    }
  ref_txn_free (txn);
}

/* ------------------------------------------------------------------------------------------ redo */

typedef enum
{
  REDO_DONE,
  REDO_NEEDED,
  REDO_FOREIGN /* neither old nor new: somebody went on from there */
} RedoState;

static gboolean
redo_state (RefStore *store, const PackedFile *packed, const TxnRef *ref, gboolean *ret_loose, RedoState *ret_state,
            GError **error)
{
  LooseState state;
  GsOid now;
  gsize i;
  memset (&now, 0, sizeof now);
  now.len = (guint8) store->options.format;
  if (!loose_read (store, ref->name, &state, &now, error))
    return FALSE;
  *ret_loose = state != LOOSE_ABSENT;
  if (state == LOOSE_ABSENT && packed_find (packed, ref->name, &i))
    packed_oid (packed, i, &now, NULL);
  if (state == LOOSE_SYMBOLIC)
    *ret_state = REDO_FOREIGN;
  else if (state == LOOSE_BROKEN)
    *ret_state = REDO_NEEDED; /* a file that a power loss cut short */
  else if (gs_oid_equal (&now, &ref->new_oid))
    *ret_state = REDO_DONE;
  else
    *ret_state = gs_oid_equal (&now, &ref->old_oid) ? REDO_NEEDED : REDO_FOREIGN;
  return TRUE;
}

static gboolean
redo_head (RefStore *store, const TxnRef *ref, GError **error)
{
  RefStamp stamp;
  g_autoptr (GError) failed = NULL;
  g_autofree char *text = g_strdup_printf ("ref: %s\n", ref->new_head);
  g_autofree char *now = loose_read_head (store, &stamp, &failed);
  if (now == NULL && !g_error_matches (failed, GS_ERROR, GS_ERROR_DATA_LOSS))
    {
      g_propagate_error (error, g_steal_pointer (&failed));
      return FALSE;
    }
  if (now != NULL && strcmp (now, ref->old_head) != 0)
    {
      if (strcmp (now, ref->new_head) != 0)
        ref_store_note (store, GS_LOG_WARNING, "refs.redo-foreign", "HEAD");
      return TRUE;
    }
  return fsu_replace (store->dirfd, "HEAD", text, strlen (text), 0666, error);
}

/** The loose files of @gone disappear; all that @refs touched, also before the crash, is durable after. */
static gboolean
redo_settle (RefStore *store, GPtrArray *gone, TxnRef *const *refs, gsize n, GError **error)
{
  g_autoptr (GHashTable) done = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < gone->len; i++)
    {
      if (!remove_loose (store, gone->pdata[i], error))
        return FALSE;
      ref_prune_dirs (store, gone->pdata[i]);
    }
  for (gsize i = 0; i < n; i++)
    if (!ref_sync_dirs (store, refs[i]->name, TRUE, done, error))
      return FALSE;
  return fsu_sync_dir (store->dirfd, ".", error);
}

gboolean
ref_redo (RefStore *store, TxnRef *const *refs, gsize n, GError **error)
{
  g_autoptr (PackedFile) packed = ref_store_packed (store, error);
  g_autoptr (PackedFile) rewritten = NULL;
  g_autoptr (GPtrArray) gone = g_ptr_array_new ();
  g_autofree PackedEdit *edits = g_new0 (PackedEdit, n + 1);
  gsize n_edits = 0, len;
  char *text;
  if (packed == NULL)
    return FALSE;
  for (gsize i = 0; i < n; i++)
    {
      const TxnRef *ref = refs[i];
      gboolean loose = FALSE;
      RedoState state = REDO_DONE;
      if (ref->new_head == NULL && ref->route != ROUTE_NONE
          && !redo_state (store, packed, ref, &loose, &state, error))
        return FALSE;
      if (state == REDO_FOREIGN)
        ref_store_note (store, GS_LOG_WARNING, "refs.redo-foreign", ref->name);
      if (state != REDO_NEEDED)
        continue;
      if (loose)
        g_ptr_array_add (gone, ref->name);
      if (!txn_ref_is_delete (ref))
        edits[n_edits++] = (PackedEdit) { ref->name, &ref->new_oid, &ref->peeled };
      else if (packed_find (packed, ref->name, NULL))
        edits[n_edits++] = (PackedEdit) { ref->name, NULL, NULL };
    }
  if (n_edits > 0)
    {
      text = packed_build (packed, edits, n_edits, &len);
      if (text == NULL)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "no memory for the new packed-refs of %s", store->dir);
      rewritten = ref_packed_stage (store, text, len, error);
      if (rewritten == NULL || !ref_packed_publish (store, rewritten, error))
        return FALSE;
      ref_store_crash (store, "refs.redo-packed");
    }
  for (gsize i = 0; i < n; i++)
    if (refs[i]->new_head != NULL && !redo_head (store, refs[i], error))
      return FALSE;
  return redo_settle (store, gone, refs, n, error);
}
