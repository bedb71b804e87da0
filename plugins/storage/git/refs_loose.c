/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_loose.c - loose refs: reading one, and keeping what the whole refs/ tree holds with as few reads as possible.
 *
 * A directory is listed again when its stamp changed, a file read again when its own did. Stamps taken in the
 * clock tick of the last change prove nothing (git calls its index entries "racily clean" then) and are not believed.
 */
#include "refs_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOSE_READ_MAX 4096

/* ------------------------------------------------------------------------------------- stamps */

gint64
ref_stamp_clock (void)
{
  /* The clock that file times are taken from: coarse, so what is modified after this call gets no earlier time. */
  struct timespec now;
  clock_gettime (CLOCK_REALTIME_COARSE, &now);
  return (gint64) now.tv_sec * 1000000000 + now.tv_nsec;
}

void
ref_stamp_set (RefStamp *stamp, const struct stat *st, gint64 now_ns)
{
  gint64 newest;
  stamp->exists = TRUE;
  stamp->device = st->st_dev;
  stamp->inode = st->st_ino;
  stamp->size = st->st_size;
  stamp->mtime_ns = (gint64) st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
  stamp->ctime_ns = (gint64) st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
  newest = MAX (stamp->mtime_ns, stamp->ctime_ns);
  /* Whole seconds: most likely a file system that knows no finer ones. */
  if (newest % 1000000000 == 0)
    newest += 2 * (gint64) 1000000000;
  stamp->racy = newest >= now_ns;
}

gboolean
ref_stamp_same (const RefStamp *a, const RefStamp *b)
{
  if (!a->exists || !b->exists)
    return a->exists == b->exists;
  return a->inode == b->inode && a->device == b->device && a->size == b->size && a->mtime_ns == b->mtime_ns
         && a->ctime_ns == b->ctime_ns;
}

/* --------------------------------------------------------------------------------- single refs */

LooseRef *
loose_ref_new (const char *name, LooseState state, const GsOid *oid)
{
  gsize len = strlen (name);
  LooseRef *ref = g_malloc0 (sizeof *ref + len + 1);
  ref->refs = 1;
  ref->state = state;
  if (oid != NULL)
    ref->oid = *oid;
  ref->name_len = len;
  memcpy (ref->name, name, len + 1);
  return ref;
}

LooseRef *
loose_ref_ref (LooseRef *ref)
{
  g_atomic_int_inc (&ref->refs);
  return ref;
}

void
loose_ref_unref (LooseRef *ref)
{
  if (ref != NULL && g_atomic_int_dec_and_test (&ref->refs))
    g_free (ref);
}

static LooseState
parse_value (const char *text, gsize len, GsObjectFormat format, GsOid *ret_oid)
{
  gsize hex = 2 * format;
  if (len >= 4 && memcmp (text, "ref:", 4) == 0)
    return LOOSE_SYMBOLIC;
  if (len < hex || (len > hex && !isspace ((guchar) text[hex])) || !gs_oid_parse (text, hex, ret_oid)
      || gs_oid_is_zero (ret_oid))
    return LOOSE_BROKEN;
  return LOOSE_VALUE;
}

/** Reads what @path below @fd holds; also what the file's own stamp is. */
static gboolean
read_at (RefStore *store, int at, const char *path, const char *name, LooseState *ret_state, GsOid *ret_oid,
         RefStamp *stamp, GError **error)
{
  char text[LOOSE_READ_MAX];
  struct stat st;
  gint64 now = ref_stamp_clock ();
  ssize_t len;
  int fd = openat (at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  *ret_state = LOOSE_ABSENT;
  if (fd < 0)
    {
      if (errno == ELOOP)
        *ret_state = LOOSE_SYMBOLIC;
      else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
        return fsu_fail (error, errno, "reading ref %s of %s", name, store->dir);
      return TRUE;
    }
  if (fstat (fd, &st) != 0)
    {
      fsu_fail (error, errno, "looking at ref %s of %s", name, store->dir);
      close (fd);
      return FALSE;
    }
  if (stamp != NULL)
    ref_stamp_set (stamp, &st, now);
  if (!S_ISREG (st.st_mode))
    {
      close (fd);
      *ret_state = S_ISDIR (st.st_mode) ? LOOSE_ABSENT : LOOSE_BROKEN;
      return TRUE;
    }
  do
    len = read (fd, text, sizeof text);
  while (len < 0 && errno == EINTR);
  if (len < 0)
    {
      fsu_fail (error, errno, "reading ref %s of %s", name, store->dir);
      close (fd);
      return FALSE;
    }
  close (fd);
  *ret_state = parse_value (text, (gsize) len, store->options.format, ret_oid);
  return TRUE;
}

gboolean
loose_read (RefStore *store, const char *name, LooseState *ret_state, GsOid *ret_oid, GError **error)
{
  return read_at (store, store->dirfd, name, name, ret_state, ret_oid, NULL, error);
}

char *
loose_read_head (RefStore *store, RefStamp *ret_stamp, GError **error)
{
  g_autofree char *text = NULL;
  char *target;
  struct stat st;
  gsize len;
  gint64 now = ref_stamp_clock ();
  if (fstatat (store->dirfd, "HEAD", &st, AT_SYMLINK_NOFOLLOW) != 0)
    {
      fsu_fail (error, errno, "looking at HEAD of %s", store->dir);
      return NULL;
    }
  ref_stamp_set (ret_stamp, &st, now);
  if (S_ISLNK (st.st_mode))
    {
      /* git's oldest way to write a symbolic ref. */
      char link[REF_NAME_MAX + 1];
      ssize_t n = readlinkat (store->dirfd, "HEAD", link, sizeof link - 1);
      if (n > 0)
        {
          link[n] = '\0';
          if (ref_name_valid (link, NULL))
            return g_strdup (link);
        }
    }
  else
    {
      text = fsu_read (store->dirfd, "HEAD", LOOSE_READ_MAX, &len, error);
      if (text == NULL)
        return NULL;
      if (g_str_has_prefix (text, "ref:"))
        {
          target = g_strstrip (text + 4);
          if (ref_name_well_formed (target, strlen (target)))
            return g_strdup (target);
        }
      else
        {
          GsOid oid;
          if (parse_value (text, len, store->options.format, &oid) == LOOSE_VALUE)
            return g_strdup ("");
        }
    }
  gs_fail (error, GS_ERROR_DATA_LOSS,
           "HEAD of %s is damaged: it is neither \"ref: <name>\" nor an object id. Write it again with git symbolic-ref",
           store->dir);
  return NULL;
}

/* ---------------------------------------------------------------------------------------- tree */

typedef struct
{
  RefStamp stamp;
  LooseRef *ref;
  guint seen;
} LooseFile;

typedef struct LooseDir LooseDir;
struct LooseDir
{
  char *path; /* "refs/heads" */
  RefStamp stamp;
  gboolean listed;
  guint seen;
  GHashTable *files; /* entry name → LooseFile */
  GHashTable *dirs;  /* entry name → LooseDir */
};

struct LooseTree
{
  LooseDir *root;
  guint round;
};

typedef struct
{
  LooseTree *tree;
  RefStore *store;
  gboolean *changed;
  GPtrArray *notes;
  GQueue queue; /* LooseDir to look at */
} Scan;

static void
file_free (gpointer pointer)
{
  LooseFile *file = pointer;
  loose_ref_unref (file->ref);
  g_free (file);
}

static void
dir_free (gpointer pointer)
{
  /* Depth is bounded by the path length that the kernel accepts, and git made these: recursion is harmless. */
  LooseDir *dir = pointer;
  g_hash_table_unref (dir->files);
  g_hash_table_unref (dir->dirs);
  g_free (dir->path);
  g_free (dir);
}

static LooseDir *
dir_new (const char *path)
{
  LooseDir *dir = g_new0 (LooseDir, 1);
  dir->path = g_strdup (path);
  dir->files = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, file_free);
  dir->dirs = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, dir_free);
  return dir;
}

LooseTree *
loose_tree_new (void)
{
  LooseTree *tree = g_new0 (LooseTree, 1);
  tree->root = dir_new ("refs");
  return tree;
}

void
loose_tree_free (LooseTree *tree)
{
  if (tree == NULL)
    return;
  dir_free (tree->root);
  g_free (tree);
}

static gboolean
dir_has_refs (LooseDir *dir)
{
  GHashTableIter iter;
  gpointer child;
  if (g_hash_table_size (dir->files) > 0)
    return TRUE;
  g_hash_table_iter_init (&iter, dir->dirs);
  while (g_hash_table_iter_next (&iter, NULL, &child))
    if (dir_has_refs (child))
      return TRUE;
  return FALSE;
}

/** Reads the file @entry of @dir unless its stamp says that we know it. */
static gboolean
scan_file (Scan *scan, LooseDir *dir, int fd, const char *entry, const struct stat *st, gint64 now, GError **error)
{
  LooseFile *file = g_hash_table_lookup (dir->files, entry);
  g_autofree char *name = g_strdup_printf ("%s/%s", dir->path, entry);
  RefStamp stamp = { 0 };
  LooseState state;
  GsOid oid = { 0 };
  ref_stamp_set (&stamp, st, now);
  if (file != NULL && !file->stamp.racy && ref_stamp_same (&file->stamp, &stamp))
    {
      file->seen = scan->tree->round;
      return TRUE;
    }
  if (!ref_name_well_formed (name, strlen (name)))
    state = LOOSE_ABSENT;
  else if (!read_at (scan->store, fd, entry, name, &state, &oid, &stamp, error))
    return FALSE;
  else if (state == LOOSE_ABSENT)
    return TRUE; /* gone since: packed-refs, read later, has it, or it was deleted */
  if (file == NULL)
    {
      file = g_new0 (LooseFile, 1);
      g_hash_table_insert (dir->files, g_strdup (entry), file);
    }
  else if (file->ref->state == state && gs_oid_equal (&file->ref->oid, &oid))
    {
      file->stamp = stamp;
      file->seen = scan->tree->round;
      return TRUE;
    }
  *scan->changed = TRUE;
  loose_ref_unref (file->ref);
  file->ref = loose_ref_new (name, state, &oid);
  file->stamp = stamp;
  file->seen = scan->tree->round;
  if (state == LOOSE_SYMBOLIC)
    g_ptr_array_add (scan->notes, g_strdup_printf ("refs.symbolic-ignored %s", name));
  else if (state == LOOSE_BROKEN)
    g_ptr_array_add (scan->notes, g_strdup_printf ("refs.broken-ignored %s", name));
  else if (state == LOOSE_ABSENT)
    g_ptr_array_add (scan->notes, g_strdup_printf ("refs.name-ignored %s", name));
  return TRUE;
}

static gboolean
scan_entry (Scan *scan, LooseDir *dir, int fd, const char *entry, GError **error)
{
  struct stat st;
  gint64 now = ref_stamp_clock ();
  if (fstatat (fd, entry, &st, AT_SYMLINK_NOFOLLOW) != 0)
    {
      if (errno == ENOENT)
        return TRUE;
      return fsu_fail (error, errno, "looking at %s/%s of %s", dir->path, entry, scan->store->dir);
    }
  if (S_ISDIR (st.st_mode))
    {
      LooseDir *child = g_hash_table_lookup (dir->dirs, entry);
      if (child == NULL)
        {
          g_autofree char *path = g_strdup_printf ("%s/%s", dir->path, entry);
          child = dir_new (path);
          g_hash_table_insert (dir->dirs, g_strdup (entry), child);
        }
      child->seen = scan->tree->round;
      return TRUE;
    }
  return scan_file (scan, dir, fd, entry, &st, now, error);
}

/** Lists @dir; entries that a listing may have missed while they were replaced are asked for by name. */
static gboolean
scan_listing (Scan *scan, LooseDir *dir, DIR *listing, GError **error)
{
  int fd = dirfd (listing);
  struct dirent *entry;
  GHashTableIter iter;
  gpointer key, value;
  g_autoptr (GPtrArray) missed = g_ptr_array_new_with_free_func (g_free);
  while ((errno = 0, entry = readdir (listing)) != NULL)
    if (entry->d_name[0] != '.' && !g_str_has_suffix (entry->d_name, REF_LOCK_SUFFIX)
        && !scan_entry (scan, dir, fd, entry->d_name, error))
      return FALSE;
  if (errno != 0)
    return fsu_fail (error, errno, "listing %s of %s", dir->path, scan->store->dir);
  g_hash_table_iter_init (&iter, dir->files);
  while (g_hash_table_iter_next (&iter, &key, &value))
    if (((LooseFile *) value)->seen != scan->tree->round)
      g_ptr_array_add (missed, g_strdup (key));
  for (guint i = 0; i < missed->len; i++)
    if (!scan_entry (scan, dir, fd, missed->pdata[i], error))
      return FALSE;
  g_hash_table_iter_init (&iter, dir->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((LooseFile *) value)->seen != scan->tree->round)
      {
        *scan->changed = TRUE;
        g_hash_table_iter_remove (&iter);
      }
  g_hash_table_iter_init (&iter, dir->dirs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (((LooseDir *) value)->seen != scan->tree->round)
      {
        *scan->changed |= dir_has_refs (value);
        g_hash_table_iter_remove (&iter);
      }
  return TRUE;
}

static gboolean
scan_dir (Scan *scan, LooseDir *dir, GError **error)
{
  GHashTableIter iter;
  gpointer child;
  struct stat st;
  RefStamp stamp;
  DIR *listing;
  gint64 now = ref_stamp_clock ();
  int fd = openat (scan->store->dirfd, dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && (errno == ENOENT || errno == ENOTDIR) && dir != scan->tree->root)
    {
      *scan->changed |= dir_has_refs (dir);
      g_hash_table_remove_all (dir->files);
      g_hash_table_remove_all (dir->dirs);
      memset (&dir->stamp, 0, sizeof dir->stamp);
      return TRUE;
    }
  if (fd < 0)
    return fsu_fail (error, errno, "opening %s of %s", dir->path, scan->store->dir);
  if (fstat (fd, &st) != 0)
    {
      fsu_fail (error, errno, "looking at %s of %s", dir->path, scan->store->dir);
      close (fd);
      return FALSE;
    }
  ref_stamp_set (&stamp, &st, now);
  if (dir->listed && !dir->stamp.racy && ref_stamp_same (&dir->stamp, &stamp))
    close (fd);
  else
    {
      gboolean ok;
      listing = fdopendir (fd);
      if (listing == NULL)
        {
          fsu_fail (error, errno, "listing %s of %s", dir->path, scan->store->dir);
          close (fd);
          return FALSE;
        }
      dir->listed = FALSE;
      ok = scan_listing (scan, dir, listing, error);
      closedir (listing);
      if (!ok)
        return FALSE;
      dir->stamp = stamp;
      dir->listed = TRUE;
    }
  g_hash_table_iter_init (&iter, dir->dirs);
  while (g_hash_table_iter_next (&iter, NULL, &child))
    g_queue_push_tail (&scan->queue, child);
  return TRUE;
}

gboolean
loose_tree_scan (LooseTree *tree, RefStore *store, gboolean *ret_changed, GPtrArray *notes, GError **error)
{
  Scan scan = { .tree = tree, .store = store, .changed = ret_changed, .notes = notes, .queue = G_QUEUE_INIT };
  LooseDir *dir;
  gboolean ok = TRUE;
  tree->round++;
  g_queue_push_tail (&scan.queue, tree->root);
  while (ok && (dir = g_queue_pop_head (&scan.queue)) != NULL)
    ok = scan_dir (&scan, dir, error);
  g_queue_clear (&scan.queue);
  return ok;
}

static gint
compare_refs (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(LooseRef *const *) a)->name, (*(LooseRef *const *) b)->name);
}

/** Visits every directory of the tree, parents first. */
static void
tree_visit (LooseTree *tree, void (*visit) (LooseDir *dir, gpointer user), gpointer user)
{
  GQueue queue = G_QUEUE_INIT;
  LooseDir *dir;
  g_queue_push_tail (&queue, tree->root);
  while ((dir = g_queue_pop_head (&queue)) != NULL)
    {
      GHashTableIter iter;
      gpointer child;
      visit (dir, user);
      g_hash_table_iter_init (&iter, dir->dirs);
      while (g_hash_table_iter_next (&iter, NULL, &child))
        g_queue_push_tail (&queue, child);
    }
}

static void
collect_refs (LooseDir *dir, gpointer user)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, dir->files);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      LooseFile *file = value;
      if (file->ref->state == LOOSE_ABSENT)
        continue; /* not a ref's name: kept only so that it is noted once */
      /* Snapshots share what is peeled; an object that was missing may have come since. */
      if (file->ref->peel_known && file->ref->missing)
        {
          LooseRef *again = loose_ref_new (file->ref->name, file->ref->state, &file->ref->oid);
          loose_ref_unref (file->ref);
          file->ref = again;
        }
      g_ptr_array_add (user, loose_ref_ref (file->ref));
    }
}

GPtrArray *
loose_tree_list (LooseTree *tree)
{
  GPtrArray *refs = g_ptr_array_new_with_free_func ((GDestroyNotify) loose_ref_unref);
  tree_visit (tree, collect_refs, refs);
  g_ptr_array_sort (refs, compare_refs);
  return refs;
}

static void
collect_stamps (LooseDir *dir, gpointer user)
{
  LooseStamp stamp = { g_strdup (dir->path), dir->stamp };
  g_array_append_val ((GArray *) user, stamp);
}

void
loose_tree_stamps (LooseTree *tree, GArray *stamps)
{
  tree_visit (tree, collect_stamps, stamps);
}
