/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_lock.c - who may write a ref: a table of names for the threads of this process, git's lock files for others.
 *
 * A name is first taken in the table, where waiting costs nothing and also covers directory/file conflicts (one
 * writer makes a, another a/b); then its lock file is made. A lock file that exists although we own the
 * name belongs to a foreign process, and only then is there anything to poll.
 */
#include "refs_internal.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WAKE_US (50 * 1000) /* how soon a waiter notices that its call was cancelled */
#define BACKOFF_FIRST_US 500
#define BACKOFF_MAX_US (20 * 1000)
#define RACES_MAX 1000
#define YIELD_SHARE 10 /* of the time that a write waits, when the other one goes before it */

void
ref_wait_init (RefWait *wait, RefStore *store, GsCall *call, const RefTxn *txn)
{
  wait->call = call;
  wait->txn = txn;
  wait->until_us = g_get_monotonic_time () + store->options.lock_wait_us;
  wait->yield_us = g_get_monotonic_time () + store->options.lock_wait_us / YIELD_SHARE;
  if (call != NULL)
    wait->until_us = MIN (wait->until_us, call->deadline_us);
}

static gboolean
wait_over (const RefWait *wait)
{
  return (wait->call != NULL && gs_call_cancelled (wait->call)) || g_get_monotonic_time () >= wait->until_us;
}

/** Waits a little on the store's condition; @yields for one that goes before it. Under the lock. FALSE: give up. */
static gboolean
wait_changed (RefStore *store, const RefWait *wait, gboolean yields)
{
  gint64 until_us = yields ? MIN (wait->yield_us, wait->until_us) : wait->until_us;
  if (wait_over (wait) || g_get_monotonic_time () >= until_us)
    return FALSE;
  gs_cond_wait_until (&store->changed, &store->lock,
                      wait->call ? MIN (until_us, g_get_monotonic_time () + WAKE_US) : until_us);
  return TRUE;
}

/** Does @holder go before the one who waits? Under the lock. */
static gboolean
goes_before (RefStore *store, gconstpointer holder, const RefWait *wait)
{
  const RefTxn *other = holder;
  return wait->txn != NULL && other != wait->txn && g_hash_table_contains (store->writers, holder)
         && memcmp (&other->txid, &wait->txn->txid, sizeof other->txid) < 0;
}

/** Waits for a foreign process, a little longer each time. FALSE: give up. */
static gboolean
wait_foreign (const RefWait *wait, gint64 *backoff_us)
{
  struct pollfd cancelled = { .fd = -1, .events = POLLIN };
  struct timespec pause;
  gint64 left;
  if (wait_over (wait))
    return FALSE;
  if (wait->call != NULL && wait->call->cancel_fd != NULL)
    cancelled.fd = wait->call->cancel_fd (wait->call);
  *backoff_us = *backoff_us == 0 ? BACKOFF_FIRST_US : MIN (*backoff_us * 2, BACKOFF_MAX_US);
  left = MIN (*backoff_us, MAX (wait->until_us - g_get_monotonic_time (), 0));
  pause.tv_sec = left / G_USEC_PER_SEC;
  pause.tv_nsec = left % G_USEC_PER_SEC * 1000;
  ppoll (&cancelled, 1, &pause, NULL);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- names */

/** Is one of those who hold a name below @name before the one who waits? Under the lock. */
static gboolean
yields_below (RefStore *store, const char *name, const RefWait *wait)
{
  gsize len = strlen (name);
  GHashTableIter iter;
  gpointer held, holder;
  g_hash_table_iter_init (&iter, store->held);
  while (g_hash_table_iter_next (&iter, &held, &holder))
    if (strncmp (held, name, len) == 0 && ((const char *) held)[len] == '/' && goes_before (store, holder, wait))
      return TRUE;
  return FALSE;
}

/**
 * Does anybody else have @name, or a name that is above or below it? @ret_yields: and goes before the one who waits.
 * Under the lock.
 */
static gboolean
name_conflict (RefStore *store, const char *name, gconstpointer owner, const RefWait *wait, gboolean *ret_yields)
{
  char above[REF_NAME_MAX + 1];
  gconstpointer holder;
  gsize len = g_strlcpy (above, name, sizeof above);
  *ret_yields = FALSE;
  if (len >= sizeof above)
    return TRUE;
  holder = g_hash_table_lookup (store->held, name);
  if (holder != NULL || g_hash_table_contains (store->above, name))
    {
      *ret_yields = holder != NULL ? goes_before (store, holder, wait) : yields_below (store, name, wait);
      return TRUE;
    }
  for (gsize i = len; i-- > 0;)
    if (above[i] == '/')
      {
        above[i] = '\0';
        holder = g_hash_table_lookup (store->held, above);
        if (holder != NULL && holder != owner)
          {
            *ret_yields = goes_before (store, holder, wait);
            return TRUE;
          }
      }
  return FALSE;
}

static void
count_above (RefStore *store, const char *name, int step)
{
  char above[REF_NAME_MAX + 1];
  gsize len = g_strlcpy (above, name, sizeof above);
  for (gsize i = MIN (len, sizeof above - 1); i-- > 0;)
    if (above[i] == '/')
      {
        guint n;
        above[i] = '\0';
        n = GPOINTER_TO_UINT (g_hash_table_lookup (store->above, above)) + (guint) step;
        if (n == 0)
          g_hash_table_remove (store->above, above);
        else
          g_hash_table_replace (store->above, g_strdup (above), GUINT_TO_POINTER (n));
      }
}

gboolean
ref_name_take (RefStore *store, const char *name, gconstpointer owner, RefWait *wait)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  gboolean yields;
  while (name_conflict (store, name, owner, wait, &yields))
    if (!wait_changed (store, wait, yields))
      return FALSE;
  if (wait->txn != NULL)
    g_hash_table_add (store->writers, (gpointer) wait->txn);
  g_hash_table_insert (store->held, g_strdup (name), (gpointer) owner);
  count_above (store, name, 1);
  return TRUE;
}

void
ref_name_keep (RefStore *store, const char *name)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  g_hash_table_replace (store->held, g_strdup (name), store);
}

void
ref_name_release (RefStore *store, const char *name)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
  if (g_hash_table_remove (store->held, name))
    count_above (store, name, -1);
  gs_cond_broadcast (&store->changed);
}

/* ----------------------------------------------------------------------------------- directories */

/** Makes the directories above @name. LOCK_BUSY: one vanished again meanwhile, so start over. */
static LockOutcome
make_dirs (RefStore *store, const char *name, GError **error)
{
  g_autofree char *path = g_strdup (name);
  for (char *slash = strchr (path, '/'); slash != NULL; slash = strchr (slash + 1, '/'))
    {
      struct stat st;
      *slash = '\0';
      if (mkdirat (store->dirfd, path, 0777) != 0)
        {
          if (errno == ENOENT)
            return LOCK_BUSY;
          if (errno == ENOTDIR)
            return LOCK_BLOCKED;
          if (errno != EEXIST)
            {
              fsu_fail (error, errno, "making directory %s in %s", path, store->dir);
              return LOCK_FAILED;
            }
          if (fstatat (store->dirfd, path, &st, 0) == 0 && !S_ISDIR (st.st_mode))
            return LOCK_BLOCKED;
        }
      *slash = '/';
    }
  return LOCK_TAKEN;
}

void
ref_prune_dirs (RefStore *store, const char *name)
{
  g_autofree char *path = g_strdup (name);
  char *slash;
  while ((slash = strrchr (path, '/')) != NULL)
    {
      *slash = '\0';
      /* git keeps any directory directly below refs/; a refused write to an invented one shall leave nothing, though. */
      if (strcmp (path, "refs") == 0 || strcmp (path, "refs/heads") == 0 || strcmp (path, "refs/tags") == 0)
        return;
      if (unlinkat (store->dirfd, path, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return;
    }
}

gboolean
ref_sync_dirs (RefStore *store, const char *name, gboolean all, GHashTable *done, GError **error)
{
  g_autofree char *path = g_strdup (name);
  char *slash;
  while ((slash = strrchr (path, '/')) != NULL)
    {
      gboolean ok;
      int fd;
      *slash = '\0';
      if (g_hash_table_contains (done, path))
        {
          if (!all)
            return TRUE;
          continue;
        }
      fd = openat (store->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        continue; /* removed when it became empty: that is a change of the one above */
      if (fd < 0)
        return fsu_fail (error, errno, "opening directory %s of %s", path, store->dir);
      ok = fsu_sync_fd (fd, path, error);
      close (fd);
      if (!ok)
        return FALSE;
      g_hash_table_add (done, g_strdup (path));
      if (!all)
        return TRUE;
    }
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- files */

char *
ref_lock_path (const char *name)
{
  return g_strconcat (name, REF_LOCK_SUFFIX, NULL);
}

/** Makes the lock file @path, with the directories above it. */
static LockOutcome
make_lock (RefStore *store, const char *path, RefWait *wait, int *ret_fd, GError **error)
{
  gint64 backoff_us = 0;
  for (guint races = 0; races < RACES_MAX; races++)
    {
      LockOutcome made;
      int fd = fsu_create_exclusive (store->dirfd, path, 0666);
      if (fd >= 0)
        {
          *ret_fd = fd;
          return LOCK_TAKEN;
        }
      switch (errno)
        {
        case EEXIST:
          if (!wait_foreign (wait, &backoff_us))
            return LOCK_BUSY;
          races = 0;
          break;
        case ENOENT:
          /* Whoever deletes the last ref of a directory removes it, so this can happen again and again. */
          made = make_dirs (store, path, error);
          if (made == LOCK_BLOCKED || made == LOCK_FAILED)
            return made;
          break;
        case ENOTDIR:
          return LOCK_BLOCKED;
        default:
          fsu_fail (error, errno, "making lock file %s in %s", path, store->dir);
          return LOCK_FAILED;
        }
    }
  return LOCK_BUSY;
}

static LockOutcome
lock_path (RefStore *store, const char *path, const char *content, gboolean sync, RefWait *wait, GError **error)
{
  int fd = -1;
  LockOutcome outcome = make_lock (store, path, wait, &fd, error);
  if (outcome != LOCK_TAKEN)
    return outcome;
  if (!fsu_write_all (fd, content, strlen (content), path, error) || (sync && !fsu_sync_fd (fd, path, error)))
    {
      close (fd);
      unlinkat (store->dirfd, path, 0);
      return LOCK_FAILED;
    }
  close (fd);
  return LOCK_TAKEN;
}

LockOutcome
ref_lock_file (RefStore *store, const char *name, const char *content, gboolean sync, RefWait *wait, GError **error)
{
  g_autofree char *path = ref_lock_path (name);
  LockOutcome outcome = lock_path (store, path, content, sync, wait, error);
  if (outcome != LOCK_TAKEN)
    ref_prune_dirs (store, name);
  return outcome;
}

void
ref_unlock_file (RefStore *store, const char *name)
{
  g_autofree char *path = ref_lock_path (name);
  unlinkat (store->dirfd, path, 0);
}

/** A lock of our own packing, found while this process packs nothing, is a dead one's. */
static void
drop_dead_packing (RefStore *store)
{
  g_autofree char *text = fsu_read (store->dirfd, "packed-refs" REF_LOCK_SUFFIX, 64, NULL, NULL);
  if (g_strcmp0 (text, REF_PACK_MARKER) == 0)
    unlinkat (store->dirfd, "packed-refs" REF_LOCK_SUFFIX, 0);
}

LockOutcome
ref_lock_packed (RefStore *store, const char *content, gboolean sync, RefWait *wait, GError **error)
{
  LockOutcome outcome;
  gs_mutex_lock (&store->lock);
  while (store->packed_held)
    if (!wait_changed (store, wait, goes_before (store, store->packed_owner, wait)))
      {
        gs_mutex_unlock (&store->lock);
        return LOCK_BUSY;
      }
  store->packed_held = TRUE;
  store->packed_owner = wait->txn;
  gs_mutex_unlock (&store->lock);
  drop_dead_packing (store);
  outcome = lock_path (store, "packed-refs" REF_LOCK_SUFFIX, content, sync, wait, error);
  if (outcome != LOCK_TAKEN)
    {
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&store->lock);
      store->packed_held = FALSE;
      store->packed_owner = NULL;
      gs_cond_broadcast (&store->changed);
    }
  return outcome;
}

void
ref_unlock_packed (RefStore *store)
{
  g_autoptr (GsMutexLocker) hold = NULL;
  unlinkat (store->dirfd, "packed-refs.new", 0);
  unlinkat (store->dirfd, "packed-refs" REF_LOCK_SUFFIX, 0);
  hold = gs_mutex_hold (&store->lock);
  store->packed_held = FALSE;
  store->packed_owner = NULL;
  gs_cond_broadcast (&store->changed);
}

/* ----------------------------------------------------------------------------------- packed-refs */

PackedFile *
ref_packed_stage (RefStore *store, char *text, gsize len, GError **error)
{
  g_autoptr (GArray) need = g_array_new (FALSE, FALSE, sizeof (GsOid));
  PackedFile *packed = NULL;
  struct stat st;
  gboolean ok;
  int fd;
  unlinkat (store->dirfd, "packed-refs.new", 0);
  fd = fsu_create_exclusive (store->dirfd, "packed-refs.new", 0666);
  if (fd < 0)
    {
      fsu_fail (error, errno, "making packed-refs.new in %s", store->dir);
      g_free (text);
      return NULL;
    }
  ok = fsu_write_all (fd, text, len, "packed-refs.new", error) && fsu_sync_fd (fd, "packed-refs.new", error);
  if (ok && fstat (fd, &st) != 0)
    ok = fsu_fail (error, errno, "looking at packed-refs.new in %s", store->dir);
  close (fd);
  if (!ok)
    g_free (text);
  else
    packed = packed_parse (text, len, store->options.format, store->dir, NULL, NULL, need, error);
  if (packed == NULL)
    unlinkat (store->dirfd, "packed-refs.new", 0);
  else
    ref_stamp_set (&packed->stamp, &st, 0);
  return packed;
}

gboolean
ref_packed_publish (RefStore *store, PackedFile *packed, GError **error)
{
  PackedFile *old;
  struct stat st;
  int fd;
  if (renameat (store->dirfd, "packed-refs.new", store->dirfd, "packed-refs") != 0)
    return fsu_fail (error, errno, "putting packed-refs of %s in place", store->dir);
  /* Before any loose ref may go: what a crash leaves behind must be the old or the new value. */
  if (!fsu_sync_dir (store->dirfd, ".", error))
    return FALSE;
  fd = openat (store->dirfd, "packed-refs", O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &st) != 0)
    {
      fsu_fail (error, errno, "looking at packed-refs of %s", store->dir);
      if (fd >= 0)
        close (fd);
      return FALSE;
    }
  if (st.st_ino != packed->stamp.inode)
    {
      /* Somebody replaced it against the lock: readers shall read it again. */
      close (fd);
      return TRUE;
    }
  packed_pin (packed, fd, &st);
  close (fd);
  gs_mutex_lock (&store->lock);
  old = store->packed;
  store->packed = packed_ref (packed);
  gs_mutex_unlock (&store->lock);
  packed_unref (old);
  return TRUE;
}
