/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_snapshot.c - immutable snapshots: packed-refs overlaid with loose refs, and when one may be used again.
 *
 * Order matters: loose refs are read first, packed-refs second, so a ref that git moves into packed-refs
 * meanwhile is found there; then every stamp is compared again and the whole is repeated until nothing moved.
 * While one of our own commits renames its files nobody scans, so readers see all of it or nothing.
 */
#include "refs_internal.h"

#include <string.h>

#define INDEX_LOOSE 0x80000000u
#define SCAN_ROUNDS 16
#define MISSING_RETRY_US (1 * G_USEC_PER_SEC)
/* Readers beside a publishing commit get the present snapshot unchecked, but not one older than this. */
#define UNCHECKED_US (100 * 1000)

/* ----------------------------------------------------------------------------------- the object */

RefSnapshot *
ref_snapshot_ref (RefSnapshot *snapshot)
{
  g_atomic_int_inc (&snapshot->refs);
  return snapshot;
}

void
ref_snapshot_unref (RefSnapshot *snapshot)
{
  if (snapshot == NULL || !g_atomic_int_dec_and_test (&snapshot->refs))
    return;
  packed_unref (snapshot->packed);
  g_ptr_array_unref (snapshot->loose);
  gs_mutex_clear (&snapshot->digest_lock);
  g_free (snapshot->index);
  g_free (snapshot->head);
  g_free (snapshot);
}

static guint32 *
index_run (guint32 *out, const PackedFile *packed, gsize from, gsize to)
{
  for (gsize i = from; i < to; i++)
    if (packed->n_bad == 0 || !(packed->items[i].flags & PACKED_BAD_NAME))
      *out++ = (guint32) i;
  return out;
}

static gboolean
build_index (RefSnapshot *snapshot, GError **error)
{
  const PackedFile *packed = snapshot->packed;
  guint32 *out;
  gsize at = 0;
  if (snapshot->loose->len == 0 && packed->n_bad == 0)
    {
      snapshot->n = packed->n;
      return TRUE;
    }
  out = snapshot->index = g_try_new (guint32, packed->n + snapshot->loose->len + 1);
  if (out == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "no memory for an index of %" G_GSIZE_FORMAT " refs",
                    packed->n + snapshot->loose->len);
  for (guint i = 0; i < snapshot->loose->len; i++)
    {
      const LooseRef *ref = snapshot->loose->pdata[i];
      gsize position = packed_seek (packed, at, ref->name);
      out = index_run (out, packed, at, position);
      at = position;
      if (at < packed->n && strcmp (packed_name (packed, at), ref->name) == 0)
        at++;
      if (ref->state == LOOSE_VALUE)
        *out++ = INDEX_LOOSE | i;
    }
  out = index_run (out, packed, at, packed->n);
  snapshot->n = (gsize) (out - snapshot->index);
  return TRUE;
}

gsize
ref_snapshot_count (const RefSnapshot *snapshot)
{
  return snapshot->n;
}

static inline const char *
name_at (const RefSnapshot *snapshot, gsize i)
{
  guint32 where = snapshot->index ? snapshot->index[i] : (guint32) i;
  if (where & INDEX_LOOSE)
    return ((const LooseRef *) snapshot->loose->pdata[where & ~INDEX_LOOSE])->name;
  return packed_name (snapshot->packed, where);
}

void
ref_snapshot_get (const RefSnapshot *snapshot, gsize index, RefEntry *ret_entry)
{
  guint32 where = snapshot->index ? snapshot->index[index] : (guint32) index;
  if (where & INDEX_LOOSE)
    {
      const LooseRef *ref = snapshot->loose->pdata[where & ~INDEX_LOOSE];
      ret_entry->name = ref->name;
      ret_entry->name_len = ref->name_len;
      ret_entry->oid = ref->oid;
      ret_entry->peeled = ref->peeled;
      ret_entry->missing = ref->missing;
      return;
    }
  ret_entry->name = packed_name (snapshot->packed, where);
  ret_entry->name_len = snapshot->packed->items[where].name_len;
  ret_entry->missing = FALSE;
  packed_oid (snapshot->packed, where, &ret_entry->oid, &ret_entry->peeled);
}

gsize
ref_snapshot_seek (const RefSnapshot *snapshot, const char *name)
{
  gsize low = 0, high = snapshot->n;
  while (low < high)
    {
      gsize middle = low + (high - low) / 2;
      if (strcmp (name_at (snapshot, middle), name) < 0)
        low = middle + 1;
      else
        high = middle;
    }
  return low;
}

gboolean
ref_snapshot_find (const RefSnapshot *snapshot, const char *name, RefEntry *ret_entry)
{
  gsize i = ref_snapshot_seek (snapshot, name);
  if (i == snapshot->n || strcmp (name_at (snapshot, i), name) != 0)
    return FALSE;
  if (ret_entry != NULL)
    ref_snapshot_get (snapshot, i, ret_entry);
  return TRUE;
}

gboolean
ref_snapshot_broken (const RefSnapshot *snapshot, const char *name)
{
  gsize low = 0, high = snapshot->loose->len;
  while (low < high)
    {
      gsize middle = low + (high - low) / 2;
      const LooseRef *ref = snapshot->loose->pdata[middle];
      int order = strcmp (ref->name, name);
      if (order == 0)
        return ref->state != LOOSE_VALUE;
      if (order < 0)
        low = middle + 1;
      else
        high = middle;
    }
  return FALSE;
}

const char *
ref_snapshot_head (const RefSnapshot *snapshot)
{
  return snapshot->head;
}

/* --------------------------------------------------------------------------------------- digest */

static void
digest_apply (GsDigest *sum, const RefEntry *entry, gboolean plus)
{
  GsDigest term;
  ref_digest_term (entry->name, &entry->oid, NULL, &term);
  if (plus)
    gs_digest_add (sum, &term);
  else
    gs_digest_sub (sum, &term);
}

static void
digest_change (GsDigest *sum, const RefSnapshot *old, const RefSnapshot *new, const char *name)
{
  RefEntry before, after;
  gboolean was = ref_snapshot_find (old, name, &before);
  gboolean is = ref_snapshot_find (new, name, &after);
  if (was && is && gs_oid_equal (&before.oid, &after.oid))
    return;
  if (was)
    digest_apply (sum, &before, FALSE);
  if (is)
    digest_apply (sum, &after, TRUE);
}

/** Both over the same packed-refs: only the overlays can differ. */
static void
digest_from_loose (GsDigest *sum, const RefSnapshot *old, const RefSnapshot *new)
{
  guint i = 0, j = 0;
  while (i < old->loose->len || j < new->loose->len)
    {
      const LooseRef *a = i < old->loose->len ? old->loose->pdata[i] : NULL;
      const LooseRef *b = j < new->loose->len ? new->loose->pdata[j] : NULL;
      int order = a == NULL ? 1 : b == NULL ? -1 : strcmp (a->name, b->name);
      if (a != b)
        digest_change (sum, old, new, order <= 0 ? a->name : b->name);
      i += order <= 0;
      j += order >= 0;
    }
}

static void
digest_from_all (GsDigest *sum, const RefSnapshot *old, const RefSnapshot *new)
{
  gsize i = 0, j = 0;
  while (i < old->n || j < new->n)
    {
      RefEntry a, b;
      int order;
      if (i < old->n)
        ref_snapshot_get (old, i, &a);
      if (j < new->n)
        ref_snapshot_get (new, j, &b);
      order = i == old->n ? 1 : j == new->n ? -1 : strcmp (a.name, b.name);
      if (order < 0 || (order == 0 && !gs_oid_equal (&a.oid, &b.oid)))
        digest_apply (sum, &a, FALSE);
      if (order > 0 || (order == 0 && !gs_oid_equal (&a.oid, &b.oid)))
        digest_apply (sum, &b, TRUE);
      i += order <= 0;
      j += order >= 0;
    }
}

static void
digest_head (GsDigest *sum, const RefSnapshot *snapshot, gboolean plus)
{
  GsDigest term;
  ref_digest_term ("HEAD", NULL, snapshot->head, &term);
  if (plus)
    gs_digest_add (sum, &term);
  else
    gs_digest_sub (sum, &term);
}

static void
digest_derive (RefSnapshot *snapshot, RefSnapshot *base)
{
  GsDigest sum;
  gboolean known;
  {
    g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&base->digest_lock);
    known = base->have_digest;
    sum = base->digest;
  }
  if (!known)
    return;
  if (base->packed == snapshot->packed)
    digest_from_loose (&sum, base, snapshot);
  else
    digest_from_all (&sum, base, snapshot);
  if (strcmp (base->head, snapshot->head) != 0)
    {
      digest_head (&sum, base, FALSE);
      digest_head (&sum, snapshot, TRUE);
    }
  snapshot->digest = sum;
  snapshot->have_digest = TRUE;
}

void
ref_snapshot_digest (const RefSnapshot *snapshot, GsDigest *ret_digest)
{
  /* Computed once, on the first question: a listing of a cold repository need not pay for it. */
  RefSnapshot *self = (RefSnapshot *) snapshot;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->digest_lock);
  if (!self->have_digest)
    {
      memset (&self->digest, 0, sizeof self->digest);
      for (gsize i = 0; i < snapshot->n; i++)
        {
          RefEntry entry;
          ref_snapshot_get (snapshot, i, &entry);
          digest_apply (&self->digest, &entry, TRUE);
        }
      digest_head (&self->digest, snapshot, TRUE);
      self->have_digest = TRUE;
    }
  *ret_digest = self->digest;
}

RefSnapshot *
ref_snapshot_new (PackedFile *packed, GPtrArray *loose, const char *head, RefSnapshot *base, GError **error)
{
  RefSnapshot *snapshot = g_new0 (RefSnapshot, 1);
  snapshot->refs = 1;
  gs_mutex_init (&snapshot->digest_lock);
  snapshot->packed = packed;
  snapshot->loose = loose;
  snapshot->head = g_strdup (head);
  snapshot->missing_until_us = G_MAXINT64;
  for (guint i = 0; i < loose->len; i++)
    if (((const LooseRef *) loose->pdata[i])->missing)
      snapshot->missing_until_us = g_get_monotonic_time () + MISSING_RETRY_US;
  if (!build_index (snapshot, error))
    {
      ref_snapshot_unref (snapshot);
      return NULL;
    }
  if (base != NULL)
    digest_derive (snapshot, base);
  return snapshot;
}

/* ----------------------------------------------------------------------------------- validation */

static RefStamps *
stamps_ref (RefStamps *stamps)
{
  if (stamps != NULL)
    g_atomic_int_inc (&stamps->refs);
  return stamps;
}

void
ref_stamps_unref (RefStamps *stamps)
{
  if (stamps == NULL || !g_atomic_int_dec_and_test (&stamps->refs))
    return;
  for (guint i = 0; i < stamps->dirs->len; i++)
    g_free (g_array_index (stamps->dirs, LooseStamp, i).path);
  g_array_unref (stamps->dirs);
  packed_unref (stamps->pinned);
  g_free (stamps);
}

static gboolean
still (RefStore *store, const char *path, const RefStamp *stamp, int flags, gboolean trust_racy)
{
  struct stat st;
  RefStamp now = { 0 };
  if (stamp->racy && !trust_racy)
    return FALSE;
  if (fstatat (store->dirfd, path, &st, flags) == 0)
    ref_stamp_set (&now, &st, 0);
  return ref_stamp_same (stamp, &now);
}

/** Does everything look as it did? With @trust_racy equal stamps are enough. */
static gboolean
stamps_valid (RefStore *store, const RefStamps *stamps, gboolean trust_racy)
{
  if (!still (store, "packed-refs", &stamps->packed, 0, trust_racy)
      || !still (store, "HEAD", &stamps->head, AT_SYMLINK_NOFOLLOW, trust_racy))
    return FALSE;
  for (guint i = 0; i < stamps->dirs->len; i++)
    {
      const LooseStamp *dir = &g_array_index (stamps->dirs, LooseStamp, i);
      if (!still (store, dir->path, &dir->stamp, 0, trust_racy))
        return FALSE;
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------- packed-refs */

static gboolean
peel_known (gpointer user, const GsOid *oid, GsOid *ret_peeled)
{
  return ref_store_peel_known (user, oid, 0, ret_peeled, NULL);
}

PackedFile *
ref_store_packed_try (RefStore *store, GArray *need, GError **error)
{
  g_autoptr (PackedFile) cached = NULL;
  PackedFile *packed;
  {
    g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
    cached = store->packed ? packed_ref (store->packed) : NULL;
  }
  if (cached != NULL && still (store, "packed-refs", &cached->stamp, 0, FALSE))
    return g_steal_pointer (&cached);
  packed = packed_load (store->dirfd, store->options.format, store->dir, peel_known, store, need, error);
  if (packed != NULL)
    {
      g_autoptr (PackedFile) old = NULL;
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
      old = store->packed;
      store->packed = packed_ref (packed);
    }
  return packed;
}

PackedFile *
ref_store_packed (RefStore *store, GError **error)
{
  g_autoptr (GArray) need = g_array_new (FALSE, FALSE, sizeof (GsOid));
  for (;;)
    {
      GError *failed = NULL;
      PackedFile *packed = ref_store_packed_try (store, need, &failed);
      if (packed != NULL)
        return packed;
      if (failed != NULL)
        {
          g_propagate_error (error, failed);
          return NULL;
        }
      ref_store_peel (store, need);
      g_array_set_size (need, 0);
    }
}

/* ----------------------------------------------------------------------------------------- scans */

typedef struct
{
  GPtrArray *notes; /* "event name" */
  GArray *need;     /* GsOid to be peeled before a snapshot can be made */
  gboolean changed;
  gint64 since_us; /* of the call: what is asked for since then is not asked again */
  RefStamps *stamps;
  PackedFile *packed;
  char *head;
} Look;

static void
look_clear (Look *look)
{
  g_clear_pointer (&look->stamps, ref_stamps_unref);
  g_clear_pointer (&look->packed, packed_unref);
  g_clear_pointer (&look->head, g_free);
}

/** Reads everything until it holds still. Owner of the scan. FALSE, no error: look->need. */
static gboolean
look_files (RefStore *store, Look *look, GError **error)
{
  GError *failed = NULL;
  for (guint round = 0;; round++)
    {
      look_clear (look);
      look->stamps = g_new0 (RefStamps, 1);
      look->stamps->refs = 1;
      look->stamps->dirs = g_array_new (FALSE, FALSE, sizeof (LooseStamp));
      if (!loose_tree_scan (store->tree, store, &look->changed, look->notes, error))
        return FALSE;
      loose_tree_stamps (store->tree, look->stamps->dirs);
      look->head = loose_read_head (store, &look->stamps->head, error);
      if (look->head == NULL)
        return FALSE;
      look->packed = ref_store_packed_try (store, look->need, &failed);
      if (look->packed == NULL)
        {
          if (failed != NULL)
            g_propagate_error (error, failed);
          return FALSE;
        }
      look->stamps->packed = look->packed->stamp;
      look->stamps->pinned = packed_ref (look->packed);
      /* Under endless writing it never holds still; each single value is right even so, and the next reader,
       * finding the stamps changed, looks again. */
      if (round == SCAN_ROUNDS || stamps_valid (store, look->stamps, TRUE))
        return TRUE;
    }
}

/** Fills in what the loose refs peel to, from what is known. FALSE: the rest is in @need. */
static gboolean
fill_peels (RefStore *store, GPtrArray *loose, gint64 since_us, GArray *need)
{
  for (guint i = 0; i < loose->len; i++)
    {
      LooseRef *ref = loose->pdata[i];
      if (ref->peel_known || ref->state != LOOSE_VALUE)
        continue;
      if (ref_store_peel_known (store, &ref->oid, since_us, &ref->peeled, &ref->missing))
        ref->peel_known = TRUE;
      else
        g_array_append_val (need, ref->oid);
    }
  return need->len == 0;
}

/** The snapshot of what was looked at; @base (may be NULL) is returned again when nothing is different. */
static RefSnapshot *
look_result (RefStore *store, Look *look, RefSnapshot *base, gboolean stale, GError **error)
{
  g_autoptr (GPtrArray) loose = NULL;
  if (base != NULL && !look->changed && !stale && base->packed == look->packed && strcmp (base->head, look->head) == 0)
    return ref_snapshot_ref (base);
  loose = loose_tree_list (store->tree);
  if (!fill_peels (store, loose, look->since_us, look->need))
    return NULL;
  return ref_snapshot_new (packed_ref (look->packed), g_steal_pointer (&loose), look->head, base, error);
}

/** May @current be handed out without a look at the files, because a commit of ours is under way? Under the lock. */
static gboolean
unchecked_ok (RefStore *store, gboolean fresh)
{
  return !fresh && store->current != NULL && store->publishers + store->publish_waiting > 0
         && g_get_monotonic_time () - store->scan_began_us < UNCHECKED_US;
}

/**
 * Becomes the one that scans, or finds that it need not: TRUE with *ret_current set when a commit of ours is being
 * published just now, or when another thread's scan that began after @since_us is done.
 */
static gboolean
scan_begin (RefStore *store, gboolean fresh, gint64 since_us, RefSnapshot **ret_current, RefSnapshot **ret_base,
            gboolean *ret_stale)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  gboolean urgent = FALSE;
  for (;;)
    {
      if (unchecked_ok (store, fresh)
          || (store->current != NULL && store->scan_began_us >= since_us && !store->published))
        {
          /* A commit that let this reader go first waits for a scan which is not to be, or for the end of it. */
          if (urgent)
            gs_cond_broadcast (&store->changed);
          *ret_current = ref_snapshot_ref (store->current);
          return TRUE;
        }
      if (!store->scanning && store->publishers == 0)
        break;
      urgent = store->publishers > 0;
      store->scan_urgent += urgent;
      gs_cond_wait (&store->changed, &store->lock);
      store->scan_urgent -= urgent;
    }
  store->scanning = TRUE;
  *ret_base = store->current ? ref_snapshot_ref (store->current) : NULL;
  *ret_stale = store->published
               || (store->current != NULL && g_get_monotonic_time () > store->current->missing_until_us);
  return FALSE;
}

static void
scan_end (RefStore *store, RefSnapshot *snapshot, RefStamps *stamps, gint64 began_us)
{
  g_autoptr (RefSnapshot) old_snapshot = NULL;
  RefStamps *old_stamps = NULL;
  gs_mutex_lock (&store->lock);
  if (snapshot != NULL)
    {
      old_snapshot = store->current;
      old_stamps = store->stamps;
      store->current = ref_snapshot_ref (snapshot);
      store->stamps = stamps_ref (stamps);
      store->published = FALSE;
      store->scan_began_us = began_us;
    }
  else
    store->published = TRUE; /* the tree has moved on, current has not */
  store->scanning = FALSE;
  gs_cond_broadcast (&store->changed);
  gs_mutex_unlock (&store->lock);
  ref_stamps_unref (old_stamps);
}

static void
report_notes (RefStore *store, GPtrArray *notes)
{
  for (guint i = 0; i < notes->len; i++)
    {
      char *event = notes->pdata[i];
      char *space = strchr (event, ' ');
      *space = '\0';
      ref_store_note (store, GS_LOG_WARNING, event, space + 1);
    }
}

static RefSnapshot *
scan (RefStore *store, gboolean fresh, gint64 since_us, GError **error)
{
  for (;;)
    {
      Look look = { .since_us = since_us };
      gint64 began_us;
      RefSnapshot *snapshot = NULL;
      g_autoptr (RefSnapshot) base = NULL;
      g_autoptr (GPtrArray) notes = g_ptr_array_new_with_free_func (g_free);
      g_autoptr (GArray) need = g_array_new (FALSE, FALSE, sizeof (GsOid));
      GError *failed = NULL;
      gboolean stale = FALSE;
      if (scan_begin (store, fresh, since_us, &snapshot, &base, &stale))
        return snapshot;
      began_us = g_get_monotonic_time ();
      look.notes = notes;
      look.need = need;
      if (look_files (store, &look, &failed))
        snapshot = look_result (store, &look, base, stale, &failed);
      scan_end (store, snapshot, look.stamps, began_us);
      look_clear (&look);
      report_notes (store, notes);
      if (snapshot != NULL)
        return snapshot;
      if (failed != NULL)
        {
          g_propagate_error (error, failed);
          return NULL;
        }
      ref_store_peel (store, need);
    }
}

RefSnapshot *
ref_store_look (RefStore *store, gboolean fresh, GError **error)
{
  g_autoptr (RefSnapshot) current = NULL;
  RefStamps *stamps = NULL;
  gint64 since_us = g_get_monotonic_time ();
  gboolean valid;
  gs_mutex_lock (&store->lock);
  if (store->current != NULL && (!fresh || store->publishers == 0))
    {
      current = ref_snapshot_ref (store->current);
      stamps = stamps_ref (store->stamps);
    }
  gs_mutex_unlock (&store->lock);
  valid = current != NULL && stamps != NULL && g_get_monotonic_time () <= current->missing_until_us
          && stamps_valid (store, stamps, FALSE);
  ref_stamps_unref (stamps);
  return valid ? g_steal_pointer (&current) : scan (store, fresh, since_us, error);
}

RefSnapshot *
ref_store_snapshot (RefStore *store, GError **error)
{
  return ref_store_look (store, FALSE, error);
}

/* ------------------------------------------------------------------------------------ publishing */

void
ref_store_publish_begin (RefStore *store)
{
  gs_mutex_lock (&store->lock);
  store->publish_waiting++;
  while (store->scanning || store->scan_urgent > 0)
    gs_cond_wait (&store->changed, &store->lock);
  store->publish_waiting--;
  store->publishers++;
  gs_mutex_unlock (&store->lock);
}

RefSnapshot *
ref_store_current (RefStore *store)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  return store->current ? ref_snapshot_ref (store->current) : NULL;
}

gboolean
ref_store_publish_swap (RefStore *store, RefSnapshot *base, RefSnapshot *snapshot)
{
  gs_mutex_lock (&store->lock);
  if (store->current != base)
    {
      gs_mutex_unlock (&store->lock);
      return FALSE;
    }
  store->current = ref_snapshot_ref (snapshot);
  store->published = TRUE;
  gs_mutex_unlock (&store->lock);
  ref_snapshot_unref (base);
  return TRUE;
}

void
ref_store_publish_forget (RefStore *store)
{
  RefSnapshot *old;
  gs_mutex_lock (&store->lock);
  old = store->current;
  store->current = NULL;
  gs_mutex_unlock (&store->lock);
  ref_snapshot_unref (old);
}

void
ref_store_publish_end (RefStore *store)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  store->publishers--;
  store->published = TRUE;
  gs_cond_broadcast (&store->changed);
}
