/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_txn.c - prepare: from requested updates to locks, checked values and a durable intent.
 *
 * The stages follow each other over one array sorted by name; each may refuse single updates. Names are taken in
 * order, then lock files, then packed-refs.lock, and only then are values read, so what is compared cannot change.
 */
#include "refs_internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct
{
  RefStore *store;
  RefTxn *txn;
  GsRefVerdict *verdicts;
  gboolean atomic;
  gboolean own; /* hidden names are fine */
  RefPeel peel;
  gpointer user;
  RefWait wait;
  GHashTable *batch;     /* name → TxnRef */
  GHashTable *free_dirs; /* names above ours that are known to be no refs */
  PackedFile *packed;
  RefSnapshot *snapshot; /* only for bulk writes without lock files: their values */
  gsize n_refused;
} Prep;

static gboolean G_GNUC_PRINTF (4, 5)
refuse (Prep *prep, TxnRef *ref, GsErrorCode code, const char *format, ...)
{
  GsRefVerdict *verdict = &prep->verdicts[ref->request];
  va_list args;
  if (ref->refused)
    return FALSE;
  ref->refused = TRUE;
  prep->n_refused++;
  verdict->code = code;
  va_start (args, format);
  verdict->reason = g_strdup_vprintf (format, args);
  va_end (args);
  return FALSE;
}

static gboolean
is_head (const TxnRef *ref)
{
  return ref->new_head != NULL;
}

/** Copies an id; "none" of any length becomes the format's all-zero id. */
static gboolean
take_oid (const GsOid *from, GsObjectFormat format, GsOid *ret_to)
{
  if (gs_oid_is_zero (from))
    {
      memset (ret_to, 0, sizeof *ret_to);
      ret_to->len = (guint8) format;
      return TRUE;
    }
  *ret_to = *from;
  return from->len == (guint8) format;
}

/* ------------------------------------------------------------------------------ what needs no lock */

static void
check_request (Prep *prep, TxnRef *ref)
{
  g_autoptr (GError) failed = NULL;
  const GsRefUpdate *update = ref->update;
  GsOid old_oid;
  if (strcmp (ref->name, "HEAD") == 0)
    {
      if (update->new_symref == NULL || update->new_oid.len != 0 || update->old_oid.len != 0)
        refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "HEAD can only be pointed at a branch");
      else if (!ref_name_valid (update->new_symref, &failed))
        refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "%s", failed->message);
      else if (!g_str_has_prefix (update->new_symref, "refs/heads/")
               || ref_name_hidden (prep->store, update->new_symref))
        refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "refusing to point HEAD outside of refs/heads/");
      else
        ref->new_head = g_strdup (update->new_symref);
      return;
    }
  if (!ref_name_valid (ref->name, &failed))
    refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "%s", failed->message);
  else if (!prep->own && ref_name_hidden (prep->store, ref->name))
    refuse (prep, ref, GS_ERROR_PERMISSION_DENIED, "deny updating a hidden ref");
  else if (update->new_symref != NULL)
    refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "only HEAD may be symbolic");
  else if (!take_oid (&update->new_oid, prep->store->options.format, &ref->new_oid)
           || !take_oid (&update->old_oid, prep->store->options.format, &old_oid))
    refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "object id of the wrong length for this repository");
}

static gint
compare_txn_refs (gconstpointer a, gconstpointer b)
{
  const TxnRef *left = a, *right = b;
  int order = strcmp (left->name, right->name);
  return order != 0 ? order : (left->request < right->request ? -1 : 1);
}

static void
check_requests (Prep *prep, const GsRefUpdate *updates, gsize n)
{
  RefTxn *txn = prep->txn;
  for (gsize i = 0; i < n; i++)
    {
      TxnRef *ref = &txn->refs[i];
      ref->name = g_strdup (updates[i].name);
      ref->update = &updates[i];
      ref->request = i;
      prep->verdicts[i] = (GsRefVerdict) { GS_OK, NULL };
      check_request (prep, ref);
    }
  if (n > 0)
    qsort (txn->refs, n, sizeof *txn->refs, compare_txn_refs);
  for (gsize i = 1; i < n; i++)
    if (strcmp (txn->refs[i - 1].name, txn->refs[i].name) == 0)
      {
        refuse (prep, &txn->refs[i - 1], GS_ERROR_INVALID_ARGUMENT, "multiple updates for ref not allowed");
        refuse (prep, &txn->refs[i], GS_ERROR_INVALID_ARGUMENT, "multiple updates for ref not allowed");
      }
  for (gsize i = 0; i < n; i++)
    if (!txn->refs[i].refused)
      g_hash_table_insert (prep->batch, txn->refs[i].name, &txn->refs[i]);
}

static gboolean
check_objects (Prep *prep, GError **error)
{
  for (gsize i = 0; i < prep->txn->n && prep->peel != NULL; i++)
    {
      TxnRef *ref = &prep->txn->refs[i];
      gboolean is_commit = FALSE;
      GError *failed = NULL;
      if (ref->refused || is_head (ref) || txn_ref_is_delete (ref))
        continue;
      if (!prep->peel (prep->user, &ref->new_oid, &ref->peeled, &is_commit, &failed))
        {
          if (!g_error_matches (failed, GS_ERROR, GS_ERROR_NOT_FOUND))
            {
              g_propagate_error (error, failed);
              return FALSE;
            }
          g_clear_error (&failed);
          refuse (prep, ref, GS_ERROR_NOT_FOUND, "missing necessary objects");
        }
      else if (!is_commit && g_str_has_prefix (ref->name, "refs/heads/"))
        refuse (prep, ref, GS_ERROR_INVALID_ARGUMENT, "cannot update a branch to an object that is not a commit");
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ locks */

static void
take_names (Prep *prep)
{
  for (gsize i = 0; i < prep->txn->n; i++)
    {
      TxnRef *ref = &prep->txn->refs[i];
      if (ref->refused)
        continue;
      ref->name_held = ref_name_take (prep->store, ref->name, prep->txn, &prep->wait);
      if (!ref->name_held)
        refuse (prep, ref, GS_ERROR_ABORTED, "cannot lock ref: another write to it, or to one above or below it, is "
                                             "under way");
      if (!ref->name_held && prep->atomic)
        return;
    }
}

/** The update of a name above @name in this batch that comes closest; NULL. @delete: only deletions. */
static TxnRef *
batch_above (Prep *prep, const char *name, gboolean delete)
{
  g_autofree char *above = g_strdup (name);
  char *slash;
  while ((slash = strrchr (above, '/')) != NULL)
    {
      TxnRef *found;
      *slash = '\0';
      found = g_hash_table_lookup (prep->batch, above);
      if (found != NULL && !found->refused && !is_head (found) && txn_ref_is_delete (found) == delete)
        return found;
    }
  return NULL;
}

/** How each accepted update will be written. */
static void
choose_routes (Prep *prep)
{
  RefTxn *txn = prep->txn;
  gsize n_sets = 0;
  for (gsize i = 0; i < txn->n; i++)
    n_sets += !txn->refs[i].refused && !is_head (&txn->refs[i]) && !txn_ref_is_delete (&txn->refs[i]);
  for (gsize i = 0; i < txn->n; i++)
    {
      TxnRef *ref = &txn->refs[i], *above;
      if (ref->refused)
        continue;
      if (is_head (ref))
        ref->route = ROUTE_LOOSE;
      else if (txn_ref_is_delete (ref))
        {
          ref->route = ROUTE_PACKED;
          /* a is made while a/b goes: the directory a is in the way until the very end. */
          above = batch_above (prep, ref->name, FALSE);
          if (above != NULL)
            above->route = ROUTE_PACKED;
        }
      else if (ref->route != ROUTE_PACKED)
        /* a/b is made while a goes: its file would need a directory where the file a still is. */
        ref->route = n_sets > prep->store->options.bulk_threshold || batch_above (prep, ref->name, TRUE) != NULL
                         ? ROUTE_PACKED
                         : ROUTE_LOOSE;
    }
}

static gboolean
lock_one (Prep *prep, TxnRef *ref, GError **error)
{
  g_autofree char *content = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  gboolean durable = ref->route == ROUTE_LOOSE;
  if (is_head (ref))
    content = g_strdup_printf ("ref: %s\n", ref->new_head);
  else if (durable)
    {
      gs_oid_hex (&ref->new_oid, hex);
      content = g_strdup_printf ("%s\n", hex);
    }
  switch (ref_lock_file (prep->store, ref->name, durable ? content : prep->txn->marker, durable, &prep->wait, error))
    {
    case LOCK_TAKEN:
      ref->lock_held = TRUE;
      return TRUE;
    case LOCK_BUSY:
      refuse (prep, ref, GS_ERROR_ABORTED, "cannot lock ref: another process holds %s.lock", ref->name);
      return TRUE;
    case LOCK_BLOCKED:
      /* A ref stands above it. Gone with this batch, it keeps others from writing below it until then. */
      if (ref->route == ROUTE_LOOSE)
        refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "cannot lock ref: a ref with a name above it exists");
      return TRUE;
    default:
      return FALSE;
    }
}

static gboolean
take_lock_files (Prep *prep, GError **error)
{
  RefTxn *txn = prep->txn;
  gboolean all = txn->n - prep->n_refused <= REF_BULK_LOCKS_MAX;
  for (gsize i = 0; i < txn->n; i++)
    {
      TxnRef *ref = &txn->refs[i];
      struct stat st;
      if (ref->refused)
        continue;
      if (!all && !is_head (ref) && !txn_ref_is_delete (ref)
          && (fstatat (prep->store->dirfd, ref->name, &st, AT_SYMLINK_NOFOLLOW) != 0 || S_ISDIR (st.st_mode)))
        continue;
      if (!lock_one (prep, ref, error))
        return FALSE;
      if (ref->refused && prep->atomic)
        return TRUE;
    }
  return TRUE;
}

static gboolean
take_packed_lock (Prep *prep, GError **error)
{
  RefTxn *txn = prep->txn;
  gboolean needed = FALSE;
  for (gsize i = 0; i < txn->n; i++)
    needed |= !txn->refs[i].refused && txn->refs[i].route == ROUTE_PACKED;
  if (!needed)
    return TRUE;
  switch (ref_lock_packed (prep->store, txn->marker, FALSE, &prep->wait, error))
    {
    case LOCK_TAKEN:
      txn->packed_lock = TRUE;
      return TRUE;
    case LOCK_FAILED:
      return FALSE;
    default:
      for (gsize i = 0; i < txn->n; i++)
        if (txn->refs[i].route == ROUTE_PACKED)
          refuse (prep, &txn->refs[i], GS_ERROR_ABORTED, "cannot lock packed-refs: another write holds it");
      return TRUE;
    }
}

/* ----------------------------------------------------------------------------------------- values */

static gboolean
current_value (Prep *prep, TxnRef *ref, LooseState *ret_state, GError **error)
{
  gsize i;
  if (prep->snapshot != NULL && !ref->lock_held)
    {
      RefEntry entry;
      *ret_state = LOOSE_ABSENT;
      if (ref_snapshot_broken (prep->snapshot, ref->name))
        *ret_state = LOOSE_BROKEN;
      else if (ref_snapshot_find (prep->snapshot, ref->name, &entry))
        ref->old_oid = entry.oid;
      return TRUE;
    }
  if (!loose_read (prep->store, ref->name, ret_state, &ref->old_oid, error))
    return FALSE;
  ref->had_loose = *ret_state != LOOSE_ABSENT;
  if (*ret_state == LOOSE_ABSENT && packed_find (prep->packed, ref->name, &i))
    packed_oid (prep->packed, i, &ref->old_oid, NULL);
  return TRUE;
}

static gboolean
check_value (Prep *prep, TxnRef *ref, GError **error)
{
  const GsOid *wanted = &ref->update->old_oid;
  LooseState state;
  if (is_head (ref))
    {
      RefStamp stamp;
      ref->old_head = loose_read_head (prep->store, &stamp, error);
      return ref->old_head != NULL;
    }
  take_oid (&(GsOid) { 0 }, prep->store->options.format, &ref->old_oid);
  if (!current_value (prep, ref, &state, error))
    return FALSE;
  if (state == LOOSE_SYMBOLIC)
    refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "refusing to write through a symbolic ref");
  else if (state == LOOSE_BROKEN)
    refuse (prep, ref, GS_ERROR_DATA_LOSS, "the ref's file is broken: it holds no object id");
  else if (wanted->len != 0 && gs_oid_is_zero (wanted) && !gs_oid_is_zero (&ref->old_oid))
    refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "reference already exists");
  else if (!gs_oid_is_zero (wanted) && gs_oid_is_zero (&ref->old_oid))
    refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "stale info: the reference does not exist");
  else if (!gs_oid_is_zero (wanted) && !gs_oid_equal (wanted, &ref->old_oid))
    refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "stale info: the reference has moved");
  else if (gs_oid_equal (&ref->old_oid, &ref->new_oid))
    ref->route = ROUTE_NONE;
  return TRUE;
}

static gboolean
check_values (Prep *prep, GError **error)
{
  RefTxn *txn = prep->txn;
  if (txn->n - prep->n_refused > REF_BULK_LOCKS_MAX)
    {
      prep->snapshot = ref_store_look (prep->store, TRUE, error);
      if (prep->snapshot == NULL)
        return FALSE;
    }
  prep->packed = ref_store_packed (prep->store, error);
  if (prep->packed == NULL)
    return FALSE;
  for (gsize i = 0; i < txn->n; i++)
    if (!txn->refs[i].refused && !check_value (prep, &txn->refs[i], error))
      return FALSE;
  return TRUE;
}

/* ------------------------------------------------------------------------------ directory and file */

/** Will @name be gone after this batch? */
static gboolean
goes_away (Prep *prep, const char *name)
{
  const TxnRef *ref = g_hash_table_lookup (prep->batch, name);
  return ref != NULL && !ref->refused && !is_head (ref) && txn_ref_is_delete (ref);
}

/** A loose ref below @name that stays, *full*; NULL when there is none. */
static gboolean
loose_below (Prep *prep, const char *name, char **ret_found, GError **error)
{
  g_autoptr (GPtrArray) left = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (left, g_strdup (name));
  while (left->len > 0 && *ret_found == NULL)
    {
      g_autofree char *path = g_ptr_array_steal_index (left, left->len - 1);
      struct dirent *entry;
      int fd = openat (prep->store->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
      DIR *dir = fd < 0 ? NULL : fdopendir (fd);
      if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        continue;
      if (dir == NULL)
        return fsu_fail (error, errno, "listing %s of %s", path, prep->store->dir);
      while (*ret_found == NULL && (entry = readdir (dir)) != NULL)
        {
          g_autofree char *below = NULL;
          struct stat st;
          if (entry->d_name[0] == '.' || g_str_has_suffix (entry->d_name, REF_LOCK_SUFFIX))
            continue;
          below = g_strdup_printf ("%s/%s", path, entry->d_name);
          if (fstatat (fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR (st.st_mode))
            g_ptr_array_add (left, g_steal_pointer (&below));
          else if (!goes_away (prep, below))
            *ret_found = g_steal_pointer (&below);
        }
      closedir (dir);
    }
  return TRUE;
}

static char *
packed_below (Prep *prep, const char *name)
{
  g_autofree char *prefix = g_strconcat (name, "/", NULL);
  for (gsize i = packed_seek (prep->packed, 0, prefix); i < prep->packed->n; i++)
    {
      const char *below = packed_name (prep->packed, i);
      if (!g_str_has_prefix (below, prefix))
        return NULL;
      if (!goes_away (prep, below))
        return g_strdup (below);
    }
  return NULL;
}

/** An existing ref below @name that stays, *full* in *ret_found. */
static gboolean
ref_below (Prep *prep, const TxnRef *ref, char **ret_found, GError **error)
{
  *ret_found = packed_below (prep, ref->name);
  if (*ret_found != NULL)
    return TRUE;
  if (prep->snapshot != NULL)
    {
      g_autofree char *prefix = g_strconcat (ref->name, "/", NULL);
      RefEntry entry;
      for (gsize i = ref_snapshot_seek (prep->snapshot, prefix); i < ref_snapshot_count (prep->snapshot); i++)
        {
          ref_snapshot_get (prep->snapshot, i, &entry);
          if (!g_str_has_prefix (entry.name, prefix))
            break;
          if (!goes_away (prep, entry.name))
            {
              *ret_found = g_strdup (entry.name);
              break;
            }
        }
      return TRUE;
    }
  return loose_below (prep, ref->name, ret_found, error);
}

/** An existing ref with a name above that of @ref, *full*; NULL when there is none that stays. */
static char *
ref_above (Prep *prep, const TxnRef *ref)
{
  g_autofree char *above = g_strdup (ref->name);
  char *slash;
  while ((slash = strrchr (above, '/')) != NULL)
    {
      struct stat st;
      *slash = '\0';
      if (goes_away (prep, above) || g_hash_table_contains (prep->free_dirs, above))
        continue;
      if ((fstatat (prep->store->dirfd, above, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR (st.st_mode))
          || packed_find (prep->packed, above, NULL))
        return g_steal_pointer (&above);
      g_hash_table_add (prep->free_dirs, g_strdup (above));
    }
  return NULL;
}

static gboolean
check_conflicts (Prep *prep, GError **error)
{
  for (gsize i = 0; i < prep->txn->n; i++)
    {
      TxnRef *ref = &prep->txn->refs[i];
      const TxnRef *other;
      g_autofree char *found = NULL;
      if (ref->refused || is_head (ref) || txn_ref_is_delete (ref) || !gs_oid_is_zero (&ref->old_oid))
        continue;
      /* Names above sort first, so their verdicts stand already. */
      other = batch_above (prep, ref->name, FALSE);
      if (other != NULL)
        {
          refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "cannot process '%s' and '%s' at the same time", other->name,
                  ref->name);
          continue;
        }
      found = ref_above (prep, ref);
      if (found == NULL && !ref_below (prep, ref, &found, error))
        return FALSE;
      if (found != NULL)
        refuse (prep, ref, GS_ERROR_FAILED_PRECONDITION, "'%s' exists; cannot create '%s'", found, ref->name);
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------- making durable */

/** Drops what was refused, with its locks. */
static void
keep_accepted (Prep *prep)
{
  RefTxn *txn = prep->txn;
  gsize kept = 0;
  for (gsize i = 0; i < txn->n; i++)
    {
      TxnRef *ref = &txn->refs[i];
      if (!ref->refused)
        {
          ref->update = NULL;
          txn->refs[kept++] = *ref;
          continue;
        }
      if (ref->lock_held)
        {
          ref_unlock_file (prep->store, ref->name);
          ref_prune_dirs (prep->store, ref->name);
        }
      if (ref->name_held)
        ref_name_release (prep->store, ref->name);
      txn_ref_clear (ref);
    }
  txn->n = kept;
  g_hash_table_remove_all (prep->batch);
}

/** The new packed-refs beside the old one, when this transaction changes it. */
static gboolean
stage_packed (Prep *prep, GError **error)
{
  RefTxn *txn = prep->txn;
  g_autofree PackedEdit *edits = NULL;
  gsize n = 0, len;
  char *text;
  if (!txn->packed_lock)
    return TRUE;
  edits = g_new0 (PackedEdit, txn->n + 1);
  for (gsize i = 0; i < txn->n; i++)
    {
      TxnRef *ref = &txn->refs[i];
      if (ref->route != ROUTE_PACKED)
        continue;
      if (!txn_ref_is_delete (ref))
        edits[n++] = (PackedEdit) { ref->name, &ref->new_oid, &ref->peeled };
      else if (packed_find (prep->packed, ref->name, NULL))
        edits[n++] = (PackedEdit) { ref->name, NULL, NULL };
    }
  if (n == 0)
    return TRUE;
  text = packed_build (prep->packed, edits, n, &len);
  if (text == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "no memory for the new packed-refs of %s", prep->store->dir);
  txn->packed_new = ref_packed_stage (prep->store, text, len, error);
  txn->packed_rewrite = txn->packed_new != NULL;
  return txn->packed_rewrite;
}

static void
add_term (GsDigest *sum, const char *name, const GsOid *oid, const char *symref)
{
  GsDigest term;
  ref_digest_term (name, oid, symref, &term);
  gs_digest_add (sum, &term);
}

static void
fill_result (RefTxn *txn)
{
  txn->updates = g_new0 (GsRefUpdate, txn->n);
  for (gsize i = 0; i < txn->n; i++)
    {
      const TxnRef *ref = &txn->refs[i];
      txn->updates[i].name = ref->name;
      if (is_head (ref))
        {
          txn->updates[i].new_symref = ref->new_head;
          add_term (&txn->minus, "HEAD", NULL, ref->old_head);
          add_term (&txn->plus, "HEAD", NULL, ref->new_head);
          continue;
        }
      txn->updates[i].old_oid = ref->old_oid;
      txn->updates[i].new_oid = ref->new_oid;
      if (!gs_oid_is_zero (&ref->old_oid))
        add_term (&txn->minus, ref->name, &ref->old_oid, NULL);
      if (!gs_oid_is_zero (&ref->new_oid))
        add_term (&txn->plus, ref->name, &ref->new_oid, NULL);
    }
}

static gboolean
refused_all (const Prep *prep)
{
  return prep->n_refused == prep->txn->n || (prep->atomic && prep->n_refused > 0);
}

/** The stages. TRUE with the transaction's n 0: all was refused. */
static gboolean
prepare_stages (Prep *prep, GError **error)
{
  RefTxn *txn = prep->txn;
  if (!refused_all (prep) && !check_objects (prep, error))
    return FALSE;
  ref_wait_init (&prep->wait, prep->store, prep->wait.call, txn);
  if (!refused_all (prep))
    take_names (prep);
  if (!refused_all (prep))
    {
      choose_routes (prep);
      if (!take_lock_files (prep, error))
        return FALSE;
    }
  if (!refused_all (prep) && !take_packed_lock (prep, error))
    return FALSE;
  if (!refused_all (prep) && !check_values (prep, error))
    return FALSE;
  if (!refused_all (prep) && !check_conflicts (prep, error))
    return FALSE;
  ref_store_crash (prep->store, "refs.locked");
  if (refused_all (prep))
    {
      for (gsize i = 0; i < txn->n; i++)
        refuse (prep, &txn->refs[i], GS_ERROR_ABORTED, "atomic transaction failed");
      keep_accepted (prep);
      return TRUE;
    }
  keep_accepted (prep);
  if (!stage_packed (prep, error))
    return FALSE;
  ref_store_crash (prep->store, "refs.staged");
  if (!ref_journal_begin (txn, error))
    return FALSE;
  ref_store_crash (prep->store, "refs.intent");
  fill_result (txn);
  return TRUE;
}

static RefTxn *
txn_new (RefStore *store, const GsTxId *txid, gsize n, const char *quarantine)
{
  RefTxn *txn = g_new0 (RefTxn, 1);
  txn->store = store;
  txn->txid = *txid;
  gs_hex (txid->bytes, GS_TXID_SIZE, txn->txid_hex);
  txn->marker = g_strdup_printf ("gitstead %s\n", txn->txid_hex);
  txn->quarantine = g_strdup (quarantine);
  txn->journal_fd = -1;
  txn->refs = g_try_new0 (TxnRef, n + 1);
  txn->n = n;
  return txn;
}

static gboolean
set_live (RefStore *store, const char *txid_hex, gboolean live)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  if (live)
    return g_hash_table_add (store->live, g_strdup (txid_hex));
  return g_hash_table_remove (store->live, txid_hex);
}

void
ref_txn_free (RefTxn *txn)
{
  set_live (txn->store, txn->txid_hex, FALSE);
  gs_mutex_lock (&txn->store->lock);
  g_hash_table_remove (txn->store->writers, txn);
  gs_mutex_unlock (&txn->store->lock);
  for (gsize i = 0; i < txn->n; i++)
    txn_ref_clear (&txn->refs[i]);
  if (txn->journal_fd >= 0)
    close (txn->journal_fd);
  packed_unref (txn->packed_new);
  g_free (txn->refs);
  g_free (txn->updates);
  g_free (txn->marker);
  g_free (txn->quarantine);
  g_free (txn->journal_path);
  g_free (txn);
}

gboolean
ref_store_prepare_with (RefStore *store, GsCall *call, const GsTxId *txid, const GsRefUpdate *updates, gsize n,
                        guint32 flags, const char *quarantine, RefPeel peel, gpointer user, GsRefVerdict *verdicts,
                        RefTxn **ret_txn, GError **error)
{
  Prep prep = { .store = store,
                .verdicts = verdicts,
                .atomic = (flags & REF_PREPARE_ATOMIC) != 0,
                .own = (flags & REF_PREPARE_OWN) != 0,
                .peel = peel ? peel : store->options.peel,
                .user = peel ? user : store->options.user };
  RefTxn *txn;
  gboolean ok;
  if (quarantine != NULL
      && (*quarantine == '\0' || strpbrk (quarantine, " \n/") != NULL || strcmp (quarantine, "-") == 0))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a quarantine is named without spaces and slashes: \"%s\"",
                    quarantine);
  if (!ref_journal_hold (store, error))
    return FALSE;
  txn = prep.txn = txn_new (store, txid, n, quarantine);
  if (txn->refs == NULL || !set_live (store, txn->txid_hex, TRUE))
    {
      gs_fail (error, txn->refs ? GS_ERROR_ALREADY_EXISTS : GS_ERROR_UNAVAILABLE, "preparing transaction %s in %s: %s",
               txn->txid_hex, store->dir, txn->refs ? "a transaction with this id is under way" : "no memory");
      txn->n = 0;
      g_clear_pointer (&txn->marker, g_free);
      g_free (txn->refs);
      g_free (txn->quarantine);
      g_free (txn);
      return FALSE;
    }
  prep.wait.call = call;
  prep.batch = g_hash_table_new (g_str_hash, g_str_equal);
  prep.free_dirs = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  check_requests (&prep, updates, n);
  ok = prepare_stages (&prep, error);
  if (!ok || txn->n == 0)
    {
      ref_txn_unlock (txn, TRUE);
      ref_txn_free (txn);
      txn = NULL;
    }
  for (gsize i = 0; !ok && i < n; i++)
    g_clear_pointer (&verdicts[i].reason, g_free);
  g_hash_table_unref (prep.batch);
  g_hash_table_unref (prep.free_dirs);
  packed_unref (prep.packed);
  ref_snapshot_unref (prep.snapshot);
  if (ok)
    *ret_txn = txn;
  return ok;
}

gboolean
ref_store_prepare (RefStore *store, GsCall *call, const GsTxId *txid, const GsRefUpdate *updates, gsize n,
                   gboolean atomic, const char *quarantine, GsRefVerdict *verdicts, RefTxn **ret_txn, GError **error)
{
  return ref_store_prepare_with (store, call, txid, updates, n, atomic ? REF_PREPARE_ATOMIC : 0, quarantine, NULL, NULL,
                                 verdicts, ret_txn, error);
}

const GsRefUpdate *
ref_txn_updates (const RefTxn *txn, gsize *ret_n, GsDigest *ret_plus, GsDigest *ret_minus)
{
  *ret_n = txn->n;
  if (ret_plus != NULL)
    *ret_plus = txn->plus;
  if (ret_minus != NULL)
    *ret_minus = txn->minus;
  return txn->updates;
}

gboolean
ref_txn_voted (RefTxn *txn, const guint8 vote[32], GError **error)
{
  if (!ref_journal_vote (txn->journal_fd, txn->journal_path, txn->journal_sum, vote, error))
    return FALSE;
  ref_store_crash (txn->store, "refs.voted");
  return TRUE;
}
