/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs.c - the ref store's life, what ids peel to, and packing. See refs.h; refs_internal.h is the map.
 */
#include "refs_internal.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define PEELS_MAX 65536
#define DEFAULT_LOCK_WAIT_US (2 * G_USEC_PER_SEC)
#define DEFAULT_BULK 200
#define DEFAULT_PACK 256

typedef struct
{
  GsOid oid, peeled;
  gboolean missing;
  gint64 learned_us;
} PeelKnown;

static guint
oid_hash (gconstpointer key)
{
  guint hash;
  memcpy (&hash, ((const GsOid *) key)->raw, sizeof hash);
  return hash;
}

static gboolean
oid_equal (gconstpointer a, gconstpointer b)
{
  return gs_oid_equal (a, b);
}

RefStore *
ref_store_open (const char *dir, const RefStoreOptions *options, GError **error)
{
  RefStore *store;
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    {
      fsu_fail (error, errno, "opening repository directory %s", dir);
      return NULL;
    }
  store = g_new0 (RefStore, 1);
  store->dir = g_strdup (dir);
  store->dirfd = fd;
  store->options = *options;
  store->hidden = g_strdupv ((char **) options->hidden);
  store->crash_at = g_strdup (options->crash_at);
  store->options.hidden = NULL;
  store->options.crash_at = NULL;
  if (store->options.lock_wait_us <= 0)
    store->options.lock_wait_us = DEFAULT_LOCK_WAIT_US;
  if (store->options.bulk_threshold == 0)
    store->options.bulk_threshold = DEFAULT_BULK;
  if (store->options.pack_threshold == 0)
    store->options.pack_threshold = DEFAULT_PACK;
  gs_mutex_init (&store->lock);
  gs_cond_init (&store->changed);
  store->tree = loose_tree_new ();
  store->peels = g_hash_table_new_full (oid_hash, oid_equal, g_free, NULL);
  store->held = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  store->live = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  store->failed = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  store->writers = g_hash_table_new (g_direct_hash, g_direct_equal);
  store->above = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  return store;
}

void
ref_store_free (RefStore *store)
{
  if (store == NULL)
    return;
  ref_snapshot_unref (store->current);
  ref_stamps_unref (store->stamps);
  packed_unref (store->packed);
  loose_tree_free (store->tree);
  g_hash_table_unref (store->peels);
  g_hash_table_unref (store->held);
  g_hash_table_unref (store->above);
  g_hash_table_unref (store->writers);
  g_hash_table_unref (store->live);
  g_hash_table_unref (store->failed);
  gs_cond_clear (&store->changed);
  gs_mutex_clear (&store->lock);
  g_strfreev (store->hidden);
  g_free (store->crash_at);
  g_free (store->dir);
  close (store->dirfd);
  g_free (store);
}

gboolean
ref_name_hidden (const RefStore *store, const char *name)
{
  for (guint i = 0; store->hidden != NULL && store->hidden[i] != NULL; i++)
    if (g_str_has_prefix (name, store->hidden[i]))
      return TRUE;
  return FALSE;
}

void
ref_store_crash (RefStore *store, const char *step)
{
  if (G_LIKELY (store->crash_at == NULL) || strcmp (store->crash_at, step) != 0)
    return;
  kill (getpid (), SIGKILL);
  for (;;)
    pause ();
}

void
ref_store_note (RefStore *store, GsLogLevel level, const char *event, const char *name)
{
  if (store->options.note != NULL)
    store->options.note (store->options.user, level, event, name);
}

/* ----------------------------------------------------------------------------------------- peels */

gboolean
ref_store_peel_known (RefStore *store, const GsOid *oid, gint64 since_us, GsOid *ret_peeled, gboolean *ret_missing)
{
  const PeelKnown *known;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  known = g_hash_table_lookup (store->peels, oid);
  if (known == NULL || (known->missing && known->learned_us < since_us))
    return FALSE;
  *ret_peeled = known->peeled;
  if (ret_missing != NULL)
    *ret_missing = known->missing;
  return TRUE;
}

void
ref_store_peel_learn (RefStore *store, const GsOid *oid, const GsOid *peeled, gboolean missing)
{
  PeelKnown *known = g_new0 (PeelKnown, 1);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  known->oid = *oid;
  if (peeled != NULL)
    known->peeled = *peeled;
  known->missing = missing;
  known->learned_us = g_get_monotonic_time ();
  g_hash_table_replace (store->peels, &known->oid, known);
}

void
ref_store_peel_trim (RefStore *store)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  /* Forget all rather than track use: the refs that were read keep theirs, and the next scan asks for what is new. */
  if (g_hash_table_size (store->peels) > PEELS_MAX)
    g_hash_table_remove_all (store->peels);
}

void
ref_store_peel (RefStore *store, GArray *need)
{
  ref_store_peel_trim (store);
  for (guint i = 0; i < need->len; i++)
    {
      const GsOid *oid = &g_array_index (need, GsOid, i);
      g_autoptr (GError) failed = NULL;
      GsOid peeled = { 0 };
      gboolean is_commit = FALSE, found = TRUE;
      if (store->options.peel != NULL)
        found = store->options.peel (store->options.user, oid, &peeled, &is_commit, &failed);
      if (!found && !g_error_matches (failed, GS_ERROR, GS_ERROR_NOT_FOUND))
        ref_store_note (store, GS_LOG_WARNING, "refs.peel-failed", failed ? failed->message : "");
      ref_store_peel_learn (store, oid, &peeled, !found);
    }
}

/* --------------------------------------------------------------------------------------- packing */

/** Does packed-refs have @ref with this very value? */
static gboolean
packed_has (RefStore *store, const LooseRef *ref, gboolean *ret_has, GError **error)
{
  g_autoptr (PackedFile) packed = ref_store_packed (store, error);
  GsOid oid;
  gsize i;
  if (packed == NULL)
    return FALSE;
  *ret_has = FALSE;
  if (packed_find (packed, ref->name, &i))
    {
      packed_oid (packed, i, &oid, NULL);
      *ret_has = gs_oid_equal (&oid, &ref->oid);
    }
  return TRUE;
}

/** Deletes the loose file of @ref when it still holds what was packed; whoever is busy with it keeps it. */
static gboolean
prune_loose (RefStore *store, const LooseRef *ref, GError **error)
{
  RefWait none = { .until_us = 0 };
  LooseState state;
  GsOid oid;
  LockOutcome locked;
  gboolean ok = TRUE, has = FALSE;
  if (!ref_name_take (store, ref->name, ref, &none))
    return TRUE;
  locked = ref_lock_file (store, ref->name, REF_PACK_MARKER, FALSE, &none, error);
  if (locked == LOCK_TAKEN)
    {
      /* It may have been deleted and made again with the same value since it was packed: then this file is all there
       * is. Once packed-refs is seen to have it, nobody can take it out there without the lock that we hold. */
      ok = loose_read (store, ref->name, &state, &oid, error);
      if (ok && state == LOOSE_VALUE && gs_oid_equal (&oid, &ref->oid))
        ok = packed_has (store, ref, &has, error);
      if (has)
        unlinkat (store->dirfd, ref->name, 0);
      ref_unlock_file (store, ref->name);
      ref_prune_dirs (store, ref->name);
    }
  ref_name_release (store, ref->name);
  return ok && locked != LOCK_FAILED;
}

/** Packs what @snapshot has loose. The packed lock is held and @snapshot was taken under it. */
static gboolean
pack_locked (RefStore *store, RefSnapshot *snapshot, GError **error)
{
  g_autofree PackedEdit *edits = g_new0 (PackedEdit, snapshot->loose->len + 1);
  g_autoptr (PackedFile) packed = NULL;
  gsize n = 0, len;
  char *text;
  for (guint i = 0; i < snapshot->loose->len; i++)
    {
      const LooseRef *ref = snapshot->loose->pdata[i];
      if (ref->state == LOOSE_VALUE && !ref->missing)
        edits[n++] = (PackedEdit) { ref->name, &ref->oid, &ref->peeled };
    }
  text = packed_build (snapshot->packed, edits, n, &len);
  if (text == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "packing refs of %s: no memory", store->dir);
  packed = ref_packed_stage (store, text, len, error);
  if (packed == NULL)
    return FALSE;
  ref_store_crash (store, "refs.pack.staged");
  return ref_packed_publish (store, packed, error);
}

gboolean
ref_store_pack (RefStore *store, gboolean force, GError **error)
{
  g_autoptr (RefSnapshot) snapshot = ref_store_snapshot (store, error);
  RefWait wait;
  gsize least = force ? 1 : store->options.pack_threshold;
  gboolean ok;
  if (snapshot == NULL)
    return FALSE;
  if (snapshot->loose->len < least)
    return TRUE;
  g_clear_pointer (&snapshot, ref_snapshot_unref);
  ref_wait_init (&wait, store, NULL, NULL);
  switch (ref_lock_packed (store, REF_PACK_MARKER, TRUE, &wait, error))
    {
    case LOCK_TAKEN:
      break;
    case LOCK_FAILED:
      return FALSE;
    default:
      return gs_fail (error, GS_ERROR_ABORTED, "packing refs of %s: somebody else is writing packed-refs; try later",
                      store->dir);
    }
  /* Deleting a ref needs the lock that we have now: what this snapshot holds cannot be deleted under us. */
  snapshot = ref_store_look (store, TRUE, error);
  ok = snapshot != NULL && (snapshot->loose->len == 0 || pack_locked (store, snapshot, error));
  ref_unlock_packed (store);
  if (!ok)
    return FALSE;
  ref_store_crash (store, "refs.pack.published");
  for (guint i = 0; i < snapshot->loose->len; i++)
    {
      const LooseRef *ref = snapshot->loose->pdata[i];
      if (ref->state == LOOSE_VALUE && !ref->missing && !prune_loose (store, ref, error))
        return FALSE;
    }
  return TRUE;
}
