/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_recover.c - what start-up finds: transactions in the journal, locks and temporary files of the dead.
 */
#include "refs_internal.h"

#include <dirent.h>
#include <string.h>
#include <unistd.h>

static void
add_term (GsDigest *sum, const char *name, const GsOid *oid, const char *symref)
{
  GsDigest term;
  if (oid != NULL && gs_oid_is_zero (oid))
    return;
  ref_digest_term (name, oid, symref, &term);
  gs_digest_add (sum, &term);
}

static void
sum_terms (const RefJournal *journal, GsDigest *plus, GsDigest *minus)
{
  for (gsize i = 0; i < journal->n; i++)
    {
      const TxnRef *ref = &journal->refs[i];
      gboolean head = ref->new_head != NULL;
      add_term (minus, ref->name, head ? NULL : &ref->old_oid, ref->old_head);
      add_term (plus, ref->name, head ? NULL : &ref->new_oid, ref->new_head);
    }
}

gboolean
ref_store_pending (RefStore *store, RefPendingVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) paths = ref_journal_list (store, error);
  if (paths == NULL)
    return FALSE;
  for (guint i = 0; i < paths->len; i++)
    {
      GError *failed = NULL;
      gboolean torn;
      g_autoptr (RefJournal) journal = ref_journal_read (store, paths->pdata[i], &torn, &failed);
      RefPending pending;
      if (failed != NULL)
        {
          g_propagate_prefixed_error (error, failed, "%s: ", store->dir);
          return FALSE;
        }
      if (journal == NULL)
        continue;
      pending = (RefPending) { .txid = journal->txid, .voted = journal->voted, .committed = journal->committed,
                               .generation = journal->generation, .quarantine = journal->quarantine };
      memcpy (pending.vote, journal->vote, sizeof pending.vote);
      sum_terms (journal, &pending.plus, &pending.minus);
      if (!visit (&pending, user))
        return TRUE;
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------- resolve */

/** Removes the lock file @path if it has the content that the transaction gave it (@empty: or lost to a power cut). */
static gboolean
drop_lock (RefStore *store, const char *path, const char *content, gboolean empty)
{
  g_autofree char *text = fsu_read (store->dirfd, path, REF_NAME_MAX + 64, NULL, NULL);
  return text != NULL && ((empty && *text == '\0') || strcmp (text, content) == 0)
         && unlinkat (store->dirfd, path, 0) == 0;
}

static void
drop_locks (RefStore *store, const RefJournal *journal)
{
  char txid_hex[2 * GS_TXID_SIZE + 1];
  g_autofree char *marker = NULL;
  gs_hex (journal->txid.bytes, GS_TXID_SIZE, txid_hex);
  marker = g_strdup_printf ("gitstead %s\n", txid_hex);
  for (gsize i = 0; i < journal->n; i++)
    {
      const TxnRef *ref = &journal->refs[i];
      g_autofree char *path = ref_lock_path (ref->name);
      g_autofree char *content = NULL;
      char hex[GS_OID_HEX_MAX + 1];
      if (!ref->lock_held)
        continue;
      gs_oid_hex (&ref->new_oid, hex);
      content = ref->new_head ? g_strdup_printf ("ref: %s\n", ref->new_head) : g_strdup_printf ("%s\n", hex);
      if (!drop_lock (store, path, content, TRUE))
        drop_lock (store, path, marker, FALSE);
      ref_prune_dirs (store, ref->name);
    }
  /* A redo that was cut short had it, too. */
  if (drop_lock (store, "packed-refs" REF_LOCK_SUFFIX, marker, journal->packed_lock))
    unlinkat (store->dirfd, "packed-refs.new", 0);
}

/** The commit record for a journal that has none, behind what is valid in it. */
static gboolean
append_commit (RefStore *store, const char *path, const RefJournal *journal, guint64 generation, GError **error)
{
  gboolean ok;
  int fd = openat (store->dirfd, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return fsu_fail (error, errno, "opening journal record %s of %s", path, store->dir);
  ok = ftruncate (fd, (off_t) journal->valid_len) == 0
       || fsu_fail (error, errno, "cutting journal record %s of %s", path, store->dir);
  ok = ok && ref_journal_commit (fd, path, journal->sum, generation, error);
  close (fd);
  return ok;
}

static gboolean
redo_journal (RefStore *store, const char *path, const RefJournal *journal, guint64 generation, GError **error)
{
  g_autofree TxnRef **refs = g_new (TxnRef *, journal->n + 1);
  g_autofree char *marker = g_strdup_printf ("gitstead %s\n", strrchr (path, '/') + 1);
  RefWait wait;
  gboolean ok;
  if (!journal->committed && !append_commit (store, path, journal, generation, error))
    return FALSE;
  ref_store_crash (store, "refs.redo-committed");
  for (gsize i = 0; i < journal->n; i++)
    refs[i] = &journal->refs[i];
  ref_wait_init (&wait, store, NULL, NULL);
  switch (ref_lock_packed (store, marker, TRUE, &wait, error))
    {
    case LOCK_TAKEN:
      break;
    case LOCK_FAILED:
      return FALSE;
    default:
      return gs_fail (error, GS_ERROR_ABORTED,
                      "recovering %s of %s: packed-refs.lock is held by another process; remove it if none is running",
                      path, store->dir);
    }
  ref_store_publish_begin (store);
  ok = ref_redo (store, refs, journal->n, error);
  ref_store_publish_forget (store);
  ref_store_publish_end (store);
  ref_unlock_packed (store);
  return ok;
}

static gboolean
resolve (RefStore *store, const GsTxId *txid, guint64 generation, gboolean keep, GError **error)
{
  g_autofree char *path = ref_journal_path (txid);
  const char *hex = strrchr (path, '/') + 1;
  g_autoptr (RefJournal) journal = NULL;
  GError *failed_read = NULL;
  gboolean torn, live, failed;
  if (!ref_journal_hold (store, error))
    return FALSE;
  gs_mutex_lock (&store->lock);
  live = g_hash_table_contains (store->live, hex);
  failed = g_hash_table_contains (store->failed, hex);
  gs_mutex_unlock (&store->lock);
  if (live)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "resolving transaction %s of %s: it is still in hand", hex,
                    store->dir);
  journal = ref_journal_read (store, path, &torn, &failed_read);
  if (failed_read != NULL)
    {
      g_propagate_error (error, failed_read);
      return FALSE;
    }
  if (journal == NULL)
    return !torn || fsu_unlink (store->dirfd, path, error);
  if (generation == 0 && journal->committed)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "undoing transaction %s of %s: it was committed as generation %" G_GUINT64_FORMAT, hex, store->dir,
                    journal->generation);
  if (!failed)
    drop_locks (store, journal);
  ref_store_crash (store, "refs.redo-unlocked");
  if (generation != 0 && !redo_journal (store, path, journal, generation, error))
    return FALSE;
  ref_store_crash (store, "refs.redo-done");
  if (keep)
    return TRUE;
  if (!fsu_unlink (store->dirfd, path, error))
    return FALSE;
  for (gsize i = 0; i < journal->n; i++)
    ref_name_release (store, journal->refs[i].name);
  gs_mutex_lock (&store->lock);
  g_hash_table_remove (store->failed, hex);
  gs_mutex_unlock (&store->lock);
  return TRUE;
}

gboolean
ref_store_resolve (RefStore *store, const GsTxId *txid, guint64 generation, GError **error)
{
  return resolve (store, txid, generation, FALSE, error);
}

gboolean
ref_store_redo (RefStore *store, const GsTxId *txid, guint64 generation, GError **error)
{
  return resolve (store, txid, generation, TRUE, error);
}

/* ----------------------------------------------------------------------------------------- sweep */

/** What journalled transactions own: lock file paths. Torn intents are removed on the way. */
static gboolean
sweep_journal (RefStore *store, GHashTable *owned, GError **error)
{
  g_autoptr (GPtrArray) paths = ref_journal_list (store, error);
  if (paths == NULL)
    return FALSE;
  for (guint i = 0; i < paths->len; i++)
    {
      GError *failed = NULL;
      gboolean torn;
      g_autoptr (RefJournal) journal = ref_journal_read (store, paths->pdata[i], &torn, &failed);
      if (failed != NULL)
        {
          g_propagate_error (error, failed);
          return FALSE;
        }
      if (torn && !fsu_unlink (store->dirfd, paths->pdata[i], error))
        return FALSE;
      if (journal == NULL)
        continue;
      for (gsize k = 0; k < journal->n; k++)
        if (journal->refs[k].lock_held)
          g_hash_table_add (owned, ref_lock_path (journal->refs[k].name));
      if (journal->packed_lock)
        {
          g_hash_table_add (owned, g_strdup ("packed-refs" REF_LOCK_SUFFIX));
          g_hash_table_add (owned, g_strdup ("packed-refs.new"));
        }
    }
  return TRUE;
}

/** Removes stale files of the directory @path; its directories go to @dirs_left when it is below refs/. */
static gboolean
sweep_dir (RefStore *store, const char *path, GHashTable *owned, GPtrArray *dirs_left, GError **error)
{
  gboolean in_refs = strcmp (path, "refs") == 0 || g_str_has_prefix (path, "refs/");
  struct dirent *entry;
  int fd = openat (store->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd < 0 ? NULL : fdopendir (fd);
  if (dir == NULL)
    return errno == ENOENT || errno == ENOTDIR || fsu_fail (error, errno, "listing %s of %s", path, store->dir);
  while ((entry = readdir (dir)) != NULL)
    {
      const char *name = entry->d_name;
      g_autofree char *full = strcmp (path, ".") == 0 ? g_strdup (name) : g_strdup_printf ("%s/%s", path, name);
      gboolean stale;
      struct stat st;
      if (strcmp (name, ".") == 0 || strcmp (name, "..") == 0
          || fstatat (fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      if (S_ISDIR (st.st_mode))
        {
          if (in_refs)
            g_ptr_array_add (dirs_left, g_steal_pointer (&full));
          continue;
        }
      stale = g_str_has_prefix (name, FSU_TEMPORARY_PREFIX);
      if (in_refs)
        stale |= g_str_has_suffix (name, REF_LOCK_SUFFIX);
      else
        stale |= strcmp (full, "HEAD" REF_LOCK_SUFFIX) == 0 || strcmp (full, "packed-refs" REF_LOCK_SUFFIX) == 0
                 || strcmp (full, "packed-refs.new") == 0;
      if (!stale || g_hash_table_contains (owned, full))
        continue;
      ref_store_note (store, GS_LOG_INFO, "refs.swept", full);
      if (unlinkat (store->dirfd, full, 0) != 0 && errno != ENOENT)
        {
          fsu_fail (error, errno, "removing stale %s of %s", full, store->dir);
          closedir (dir);
          return FALSE;
        }
      if (in_refs)
        ref_prune_dirs (store, full);
    }
  closedir (dir);
  return TRUE;
}

gboolean
ref_store_sweep (RefStore *store, GError **error)
{
  g_autoptr (GHashTable) owned = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_autoptr (GPtrArray) dirs_left = g_ptr_array_new_with_free_func (g_free);
  gboolean busy;
  gs_mutex_lock (&store->lock);
  busy = g_hash_table_size (store->live) > 0;
  gs_mutex_unlock (&store->lock);
  if (busy)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "sweeping %s: transactions are under way", store->dir);
  if (!sweep_journal (store, owned, error))
    return FALSE;
  g_ptr_array_add (dirs_left, g_strdup ("."));
  g_ptr_array_add (dirs_left, g_strdup ("gitstead"));
  g_ptr_array_add (dirs_left, g_strdup (REF_JOURNAL_DIR));
  g_ptr_array_add (dirs_left, g_strdup ("refs"));
  for (guint i = 0; i < dirs_left->len; i++)
    if (!sweep_dir (store, dirs_left->pdata[i], owned, dirs_left, error))
      return FALSE;
  return TRUE;
}
