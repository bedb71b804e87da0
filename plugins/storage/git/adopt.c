/* SPDX-License-Identifier: Apache-2.0 */
/* Bare repositories of an old tree become replicas. See adopt.h. */
#include "adopt.h"

#include "child.h"
#include "disk.h"
#include "label.h"
#include "oldtree.h"

#include "gitstead/v1/node.pb-c.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wire/wire.h>

#define METHOD_ADOPT 1092
#define METHOD_FOLDERS 1093
#define REQUEST_BUDGET (1u << 20)

/* The folder in a replica that is the server's alone. */
#define GIT_OURS "gitstead"
/* Where the folder was, relative to the root. */
#define GIT_ADOPTED "gitstead/adopted"
/* Its configuration, which might name programs; ours is the one that all replicas have. */
#define GIT_ADOPTED_CONFIG "gitstead/adopted-config"
#define FOLDER_MAX 1100u
/* What lies there at first has been decided by nobody here; 0 would mean a repository that was never written. */
#define FIRST_GENERATION 1
#define REFS_TEXT_MAX (512u << 20)
#define CHUNK (64 * 1024)
#define FOLDERS_MAX 5000u
#define FOLDERS_BYTES (400u * 1024)

/* --------------------------------------------------------------------------------------- its looks */

static gboolean
is_kind (const char *dir, const char *name, mode_t kind)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  struct stat st;
  return lstat (path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

gboolean
adopt_looks_bare (const char *dir)
{
  return is_kind (dir, "HEAD", S_IFREG) && is_kind (dir, "objects", S_IFDIR) && is_kind (dir, "refs", S_IFDIR);
}

static gboolean
not_fit (GError **error, const char *folder, const char *why)
{
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s cannot be adopted: %s; nothing was changed", folder, why);
}

/* Each folder on the way is one, of this file system. */
static gboolean
check_way (const Storage *storage, const char *folder, GError **error)
{
  g_auto (GStrv) parts = g_strsplit (folder, "/", -1);
  g_autoptr (GString) path = g_string_new (storage->root);
  struct stat root, st;
  if (stat (storage->root, &root) != 0)
    return fsu_fail (error, errno, "look at %s", storage->root);
  for (guint i = 0; parts[i] != NULL; i++)
    {
      g_string_append_c (path, '/');
      g_string_append (path, parts[i]);
      if (lstat (path->str, &st) != 0)
        return errno == ENOENT
                   ? gs_fail (error, GS_ERROR_NOT_FOUND, "there is no folder %s below the storage's root", folder)
                   : fsu_fail (error, errno, "look at %s", path->str);
      if (S_ISLNK (st.st_mode))
        return not_fit (error, folder, "a symbolic link is on the way to it (it may have been adopted already)");
      if (!S_ISDIR (st.st_mode))
        return not_fit (error, folder, "it is no folder");
      if (st.st_dev != root.st_dev)
        return not_fit (error, folder, "it is on another file system than the storage's root");
    }
  return TRUE;
}

static const struct
{
  const char *name, *why;
} hindrances[] = {
  { "objects/info/alternates", "it borrows objects of another repository ('git repack -a -d' in it and removing "
                               "objects/info/alternates ends that)" },
  { "shallow", "its history is cut off (it is a shallow clone)" },
  { "info/grafts", "its history is changed by info/grafts" },
  { "commondir", "it is a working tree's part of another repository" },
  { "index", "it belongs to a working tree (it has an index)" },
  { "reftable", "its refs are in a format that this storage does not read" },
};

/* Unfinished work. No ref's name ends so, but it may begin so. */
static gboolean
is_at_work (const char *path, const char *name)
{
  return g_str_has_suffix (name, ".lock") || strstr (path, "/objects/incoming-") != NULL
         || strstr (path, "/objects/tmp_objdir-") != NULL;
}

static gboolean
check_entry (const char *folder, const char *path, const char *name, gboolean *ret_is_dir, GError **error)
{
  struct stat st;
  g_autofree char *why = NULL;
  *ret_is_dir = FALSE;
  if (lstat (path, &st) != 0)
    {
      if (errno == ENOENT)
        return TRUE;
      return fsu_fail (error, errno, "look at %s", path);
    }
  *ret_is_dir = S_ISDIR (st.st_mode);
  if (is_at_work (path, name))
    why = g_strdup_printf ("%s says that a git process is at work in it, or was killed: stop it, or remove that", name);
  else if (!S_ISDIR (st.st_mode) && !S_ISREG (st.st_mode))
    why = g_strdup_printf ("%s is neither a file nor a folder", path);
  else if (access (path, S_ISDIR (st.st_mode) ? R_OK | W_OK | X_OK : R_OK) != 0)
    why = g_strdup_printf ("this server's user may not %s %s: give the folder to it (chown -R)",
                           S_ISDIR (st.st_mode) ? "write in" : "read", path);
  return why == NULL || not_fit (error, folder, why);
}

/* What is in it are plain files and folders that are ours to write. */
static gboolean
check_tree (GsCall *call, const char *folder, const char *top, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (stack, g_strdup (top));
  while (stack->len > 0)
    {
      g_autofree char *dir = g_ptr_array_steal_index_fast (stack, stack->len - 1);
      g_autoptr (GPtrArray) names = disk_names (dir, error);
      if (names == NULL || !gs_call_check (call, "adopting a repository", error))
        return FALSE;
      for (guint i = 0; i < names->len; i++)
        {
          char *path = g_build_filename (dir, names->pdata[i], NULL);
          gboolean is_dir;
          if (!check_entry (folder, path, names->pdata[i], &is_dir, error))
            {
              g_free (path);
              return FALSE;
            }
          if (is_dir)
            g_ptr_array_add (stack, path);
          else
            g_free (path);
        }
    }
  return TRUE;
}

/* What is ours in it is what an attempt that was cut off left, or nothing: the rest is not followed, nor believed. */
static gboolean
check_ours (const char *folder, const char *dir, GError **error)
{
  static const char *const left[] = { GIT_RECORD, GIT_ADOPTED, GIT_ADOPTED_CONFIG };
  g_autofree char *ours = g_build_filename (dir, GIT_OURS, NULL);
  g_autoptr (GPtrArray) names = NULL;
  if (!disk_exists (ours))
    return TRUE;
  if (!is_kind (dir, GIT_OURS, S_IFDIR))
    return not_fit (error, folder, "its '" GIT_OURS "' is no folder, and the server's own things go there");
  names = disk_names (ours, error);
  for (guint i = 0; names != NULL && i < names->len; i++)
    {
      const char *name = names->pdata[i];
      g_autofree char *path = g_build_filename (GIT_OURS, name, NULL), *full = g_build_filename (dir, path, NULL);
      gboolean known = g_str_has_prefix (name, FSU_TEMPORARY_PREFIX);
      for (gsize k = 0; k < G_N_ELEMENTS (left); k++)
        known = known || strcmp (path, left[k]) == 0;
      if (is_kind (dir, path, S_IFDIR))
        {
          g_autoptr (GPtrArray) inner = disk_names (full, error);
          if (inner == NULL)
            return FALSE;
          known = inner->len == 0;
        }
      else
        known = known && is_kind (dir, path, S_IFREG);
      if (!known)
        {
          g_autofree char *why = g_strdup_printf ("%s is where the server's own things go: move it away", path);
          return not_fit (error, folder, why);
        }
    }
  return names != NULL;
}

/* Whoever borrows of it would lose its objects with the first move to another storage. */
static gboolean
check_lends_nothing (Storage *storage, GsCall *call, const char *folder, const char *dir, GError **error)
{
  g_autofree char *borrower = NULL, *why = NULL;
  if (!oldtree_borrower (storage, call, dir, &borrower, error))
    return FALSE;
  if (borrower == NULL)
    return TRUE;
  why = g_strdup_printf ("%s borrows its objects ('git repack -a -d' in that one and removing its"
                         " objects/info/alternates ends that)", borrower);
  return not_fit (error, folder, why);
}

static gboolean
check_looks (Storage *storage, GsCall *call, const char *folder, const char *dir, GError **error)
{
  static const char *const files[] = { "HEAD", "config", "packed-refs" };
  g_autofree char *record = g_build_filename (dir, GIT_RECORD, NULL);
  g_autofree char *objects = g_build_filename (dir, "objects", NULL), *refs = g_build_filename (dir, "refs", NULL);
  if (!check_way (storage, folder, error))
    return FALSE;
  if (!adopt_looks_bare (dir))
    return not_fit (error, folder, "it is no bare repository (HEAD, objects and refs)");
  if (disk_exists (record) && !adopt_is_unclaimed (dir))
    return not_fit (error, folder, "it is a replica already");
  for (gsize i = 0; i < G_N_ELEMENTS (hindrances); i++)
    {
      g_autofree char *path = g_build_filename (dir, hindrances[i].name, NULL);
      if (disk_exists (path))
        return not_fit (error, folder, hindrances[i].why);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (files); i++)
    {
      g_autofree char *path = g_build_filename (dir, files[i], NULL), *lock = g_strconcat (path, ".lock", NULL);
      gboolean is_dir;
      if (!check_entry (folder, path, files[i], &is_dir, error)
          || (disk_exists (lock) && !check_entry (folder, lock, "a lock", &is_dir, error)))
        return FALSE;
      if (disk_exists (lock))
        return not_fit (error, folder,
                        "a file is locked: a git process is at work in it, or was killed and left its .lock");
    }
  return replica_config_check (dir, error) && check_ours (folder, dir, error)
         && check_lends_nothing (storage, call, folder, dir, error) && check_tree (call, folder, objects, error)
         && check_tree (call, folder, refs, error);
}

/* -------------------------------------------------------------------------------------- its content */

static gboolean
run_git (Storage *storage, GsCall *call, const char *dir, const char *const *argv, int input, int output,
         GError **error)
{
  const ChildSpec spec
      = { .role = CHILD_PLAIN, .git_dir = dir, .argv = argv, .input = input, .output = output, .extra = -1 };
  Child child;
  int status;
  if (!child_start (storage, &spec, &child, error))
    return FALSE;
  gboolean good = child_wait (&child, call, NULL, &status, error) && child_check (&child, status, error);
  child_clear (&child);
  return good;
}

/* The names of the objects that name others. @from has lines "NAME TYPE". */
static gboolean
without_blobs (int from, int to, GError **error)
{
  g_autofree char *buffer = g_malloc (CHUNK);
  g_autoptr (GString) line = g_string_new (NULL), out = g_string_new (NULL);
  gssize n;
  if (lseek (from, 0, SEEK_SET) != 0)
    return fsu_fail (error, errno, "read back a temporary file");
  while ((n = read (from, buffer, CHUNK)) > 0)
    {
      for (gssize i = 0; i < n; i++)
        {
          if (buffer[i] != '\n')
            {
              g_string_append_c (line, buffer[i]);
              continue;
            }
          if (line->len > 40 && !g_str_has_suffix (line->str, " blob"))
            {
              g_string_append_len (out, line->str, 40);
              g_string_append_c (out, '\n');
            }
          g_string_truncate (line, 0);
        }
      if (!fsu_write_all (to, out->str, out->len, "a temporary file", error))
        return FALSE;
      g_string_truncate (out, 0);
    }
  if (n < 0)
    return fsu_fail (error, errno, "read back a temporary file");
  return lseek (to, 0, SEEK_SET) == 0 || fsu_fail (error, errno, "read back a temporary file");
}

/* Everything in a replica's store has all that it needs there, reachable or not: pushes are checked up to there only.
 */
static gboolean
check_whole (Storage *storage, GsCall *call, const char *folder, const char *dir, GError **error)
{
  static const char *const list[]
      = { "cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname) %(objecttype)", NULL };
  static const char *const walk[] = { "rev-list", "--objects", "--quiet", "--stdin", NULL };
  int all = storage_spool (storage, error), tips = all >= 0 ? storage_spool (storage, error) : -1;
  g_autoptr (GError) why = NULL;
  gboolean listed = tips >= 0 && run_git (storage, call, dir, list, -1, all, error) && without_blobs (all, tips, error);
  gboolean whole = listed && run_git (storage, call, dir, walk, tips, -1, &why);
  if (listed && !whole && gs_error_code (why) == GS_ERROR_INTERNAL) /* git said no */
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
             "%s cannot be adopted, nothing was changed: its objects are not whole ('git fsck' tells more; where only "
             "unreachable ones are concerned, 'git repack -a -d' and 'git prune --expire=now' help): %s",
             folder, why->message);
  else if (listed && !whole)
    g_propagate_error (error, g_steal_pointer (&why));
  if (all >= 0)
    close (all);
  if (tips >= 0)
    close (tips);
  return whole;
}

/* Refs as stock git sees them; symbolic ones are none of ours. @ret_text *full*. */
static gboolean
list_refs (Storage *storage, GsCall *call, const char *folder, const char *dir, GBytes **ret_text, gsize *ret_n,
           GError **error)
{
  static const char *const argv[]
      = { "for-each-ref", "--format=%(objectname) %(refname)%(if)%(symref)%(then) *%(end)", NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  g_autoptr (GBytes) text = NULL;
  g_autofree char *said = NULL;
  const char *at, *end;
  gsize len;
  int status;
  if (!child_run (storage, &spec, call, NULL, REFS_TEXT_MAX, &text, &status, &said, error))
    return FALSE;
  if (status != 0 || (said != NULL && *said != '\0')) /* a ref that is broken is a warning only */
    return not_fit (error, folder, said != NULL && *said != '\0' ? g_strchomp (said) : "its refs cannot be listed");
  at = g_bytes_get_data (text, &len);
  *ret_n = 0;
  for (end = at + len; at < end; (*ret_n)++)
    {
      const char *nl = memchr (at, '\n', (gsize) (end - at));
      if (nl == NULL)
        break;
      if (nl[-1] == '*')
        return not_fit (error, folder,
                        "a ref of it is a symbolic one, which is not kept here ('git symbolic-ref -d' removes it)");
      at = nl + 1;
    }
  *ret_text = g_steal_pointer (&text);
  return TRUE;
}

/* The refs as this storage sees them, of the replica that the folder has become. */
static gboolean
take_digest (Storage *storage, const GsRepo *repo, const char *folder, gsize n_refs, GsDigest *ret_digest,
             GError **error)
{
  Repo *open = repo_open (storage, repo, FALSE, error);
  RefSnapshot *refs = open != NULL ? ref_store_snapshot (open->refs, error) : NULL;
  gboolean good = refs != NULL;
  if (good && *ref_snapshot_head (refs) == '\0')
    good = not_fit (error, folder, "HEAD names a commit instead of a branch");
  if (good && ref_snapshot_count (refs) != n_refs)
    good = not_fit (error, folder, "some of its refs cannot be served here: broken ones, or names that are too long");
  for (gsize i = 0; good && i < n_refs; i++)
    {
      RefEntry ref;
      ref_snapshot_get (refs, i, &ref);
      if (ref.missing)
        good = not_fit (error, folder, "a ref names an object that is not there");
      else if (ref_name_hidden (open->refs, ref.name))
        good = not_fit (error, folder, "it has refs below " GIT_HIDDEN_REFS ", which are the server's own");
    }
  if (good)
    {
      ref_snapshot_digest (refs, ret_digest);
      maintain_note (open);
    }
  if (refs != NULL)
    ref_snapshot_unref (refs);
  if (open != NULL)
    repo_close (open, FALSE);
  return good;
}

/* ---------------------------------------------------------------------------------- there and back */

/* The link's text: @replica_path as seen from the folder that @folder is in. *full*. */
static char *
link_text (const char *folder, const char *replica_path)
{
  g_autoptr (GString) text = g_string_new (NULL);
  for (const char *at = folder; (at = strchr (at, '/')) != NULL; at++)
    g_string_append (text, "../");
  g_string_append (text, replica_path);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

static gboolean
sync_both (const Storage *storage, const char *a, const char *b, GError **error)
{
  g_autofree char *parent_a = g_path_get_dirname (a), *parent_b = g_path_get_dirname (b);
  return !storage->sync || (disk_sync (parent_a, FALSE, error) && disk_sync (parent_b, FALSE, error));
}

/*
 * Whoever finds a record can do this again, so it goes after the old configuration is back; and before the mark beside it,
 * without which the folder would count as a replica for the trash. Each step is durable before the next.
 */
static gboolean
forget (const Storage *storage, const char *dir, GError **error)
{
  g_autofree char *record = g_build_filename (dir, GIT_RECORD, NULL), *ours = g_path_get_dirname (record);
  g_autofree char *before = g_build_filename (dir, GIT_ADOPTED_CONFIG, NULL),
                  *config = g_build_filename (dir, "config", NULL);
  if (!disk_exists (ours))
    return TRUE;
  if (rename (before, config) != 0 && errno != ENOENT)
    return fsu_fail (error, errno, "put %s back", config);
  if (storage->sync && (!disk_sync (dir, FALSE, error) || !disk_sync (ours, FALSE, error)))
    return FALSE;
  storage_crash_point (storage, "adopt.config-back");
  if (unlink (record) != 0 && errno != ENOENT)
    return fsu_fail (error, errno, "remove %s", record);
  return (!storage->sync || disk_sync (ours, FALSE, error)) && fsu_remove_tree (AT_FDCWD, ours, error);
}

static char *
origin_read (const char *dir, GError **error)
{
  g_autofree char *path = g_build_filename (dir, GIT_ADOPTED, NULL);
  g_autofree char *folder = fsu_read (AT_FDCWD, path, FOLDER_MAX, NULL, error);
  if (folder == NULL || !replica_path_check (g_strchomp (folder), error))
    return NULL;
  return g_steal_pointer (&folder);
}

gboolean
adopt_is_unclaimed (const char *dir)
{
  g_autofree char *path = g_build_filename (dir, GIT_ADOPTED, NULL), *label = g_build_filename (dir, GIT_LABEL, NULL);
  return disk_exists (path) && !disk_exists (label);
}

static gboolean
is_link_to (const char *path, const char *text)
{
  char found[FOLDER_MAX + 64];
  gssize n = readlink (path, found, sizeof found);
  return n >= 0 && (gsize) n == strlen (text) && memcmp (found, text, (gsize) n) == 0;
}

gboolean
adopt_put_back (Storage *storage, const char *replica_path, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, replica_path, NULL), *folder = origin_read (dir, error);
  g_autofree char *text = NULL, *old = NULL;
  gboolean linked;
  struct stat st;
  if (folder == NULL)
    return FALSE;
  if (strcmp (folder, replica_path) == 0)
    return forget (storage, dir, error);
  text = link_text (folder, replica_path);
  old = g_build_filename (storage->root, folder, NULL);
  linked = is_link_to (old, text);
  if (!linked && lstat (old, &st) == 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "replica %s was adopted from %s, where something else lies now: it stays where it is", replica_path,
                    folder);
  if (!linked && !replica_move_new (storage, dir, old, folder, error))
    return FALSE;
  if (linked && (renameat2 (AT_FDCWD, dir, AT_FDCWD, old, RENAME_EXCHANGE) != 0 || unlink (dir) != 0))
    return fsu_fail (error, errno, "put %s back to %s", dir, old);
  return sync_both (storage, old, dir, error) && forget (storage, old, error);
}

/* The folder becomes the replica, and a link that leads there takes its old place. */
static gboolean
change_places (Storage *storage, const char *folder, const char *old, const GsRepo *repo, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, repo->replica_path, NULL);
  g_autofree char *parent = g_path_get_dirname (repo->replica_path), *text = link_text (folder, repo->replica_path);
  if (!disk_make_dirs (storage->root, parent, storage->sync, error))
    return FALSE;
  if (symlink (text, dir) != 0)
    return errno == EEXIST
               ? gs_fail (error, GS_ERROR_ALREADY_EXISTS, "there is a replica at %s already", repo->replica_path)
               : fsu_fail (error, errno, "link %s", dir);
  if (renameat2 (AT_FDCWD, old, AT_FDCWD, dir, RENAME_EXCHANGE) != 0)
    {
      fsu_fail (error, errno, "exchange %s with a link to it", old);
      unlink (dir);
      return FALSE;
    }
  return TRUE;
}

static gboolean
write_marks (Storage *storage, const char *folder, const char *dir, const ReplicaRecord *record, GError **error)
{
  static const char *const dirs[] = { "objects/info", "objects/pack", "refs/heads", "refs/tags", GIT_QUARANTINES };
  static const char plain[] = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
  g_autofree char *origin = g_build_filename (dir, GIT_ADOPTED, NULL), *line = g_strconcat (folder, "\n", NULL);
  g_autofree char *before = g_build_filename (dir, GIT_ADOPTED_CONFIG, NULL),
                  *config = g_build_filename (dir, "config", NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (dirs); i++)
    if (!disk_make_dirs (dir, dirs[i], storage->sync, error))
      return FALSE;
  /* It may be there from an attempt that was cut off: then that one is the old one. */
  if (link (config, before) != 0 && errno != EEXIST)
    return fsu_fail (error, errno, "keep %s", config);
  /* The record before the change: by it housekeeping finds what was cut off, and undoes it. */
  if (!disk_replace (origin, line, strlen (line), storage->sync, error)
      || !replica_record_write (storage, dir, record, error))
    return FALSE;
  storage_crash_point (storage, "adopt.recorded");
  if (!disk_replace (config, plain, strlen (plain), storage->sync, error))
    return FALSE;
  storage_crash_point (storage, "adopt.marked");
  return TRUE;
}

/* It is a replica now; what fails, or cannot be served after all, goes back. */
static gboolean
finish (Storage *storage, GsCall *call, const GsRepo *repo, const char *folder, GBytes *refs, gsize n_refs,
        ReplicaRecord *record, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, repo->replica_path, NULL);
  g_autofree char *old = g_build_filename (storage->root, folder, NULL);
  g_autoptr (GBytes) now = NULL;
  gsize n_now;
  if (!sync_both (storage, old, dir, error) || !list_refs (storage, call, folder, dir, &now, &n_now, error))
    return FALSE;
  if (!g_bytes_equal (refs, now))
    return not_fit (error, folder, "it was written to meanwhile: stop whoever writes to it");
  return take_digest (storage, repo, folder, n_refs, &record->digest, error)
         && replica_record_write (storage, dir, record, error);
}

static gboolean
put_back_now (Storage *storage, const char *replica_path, GError **error)
{
  gboolean done;
  if (!repo_take_out (storage, replica_path, error))
    return FALSE;
  done = adopt_put_back (storage, replica_path, error);
  repo_removed (storage, replica_path);
  return done;
}

static void
log_left (const Storage *storage, const GsRepo *repo, const char *folder, const GError *left)
{
  const GsField fields[] = { GS_TEXT ("replica", repo->replica_path), GS_TEXT ("folder", folder),
                             GS_TEXT ("error", left->message) };
  storage->host->log (storage->host, GS_LOG_WARNING, "storage.adopt.left", fields, G_N_ELEMENTS (fields));
}

static gboolean
adopt_locked (Storage *storage, GsCall *call, const GsRepo *repo, const char *folder, GError **error)
{
  g_autofree char *old = g_build_filename (storage->root, folder, NULL);
  g_autoptr (GBytes) refs = NULL;
  g_autoptr (GError) left = NULL;
  ReplicaRecord record = { .id = repo->id, .format = GS_FORMAT_SHA1, .generation = FIRST_GENERATION };
  gsize n_refs;
  g_strlcpy (record.storage, storage->uuid, sizeof record.storage);
  if (!check_looks (storage, call, folder, old, error) || !list_refs (storage, call, folder, old, &refs, &n_refs, error)
      || !check_whole (storage, call, folder, old, error))
    return FALSE;
  if (!write_marks (storage, folder, old, &record, error) || !change_places (storage, folder, old, repo, error))
    {
      /* It is still where it was, so this is no more than removing the marks. */
      if (!forget (storage, old, &left))
        log_left (storage, repo, folder, left);
      return FALSE;
    }
  if (finish (storage, call, repo, folder, refs, n_refs, &record, error))
    {
      storage->host->log (storage->host, GS_LOG_INFO, "storage.replica.adopted",
                          (GsField[]){ GS_TEXT ("replica", repo->replica_path), GS_TEXT ("folder", folder) }, 2);
      return TRUE;
    }
  if (!put_back_now (storage, repo->replica_path, &left))
    log_left (storage, repo, folder, left);
  return FALSE;
}

/* Two at once would both make it theirs. The lock goes with the process, and with the folder wherever that is moved. */
static gboolean
adopt (Storage *storage, GsCall *call, const GsRepo *repo, const char *folder, GError **error)
{
  g_autofree char *old = g_build_filename (storage->root, folder, NULL);
  int fd = open (old, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  gboolean done;
  if (fd >= 0 && flock (fd, LOCK_EX | LOCK_NB) != 0)
    {
      close (fd);
      return gs_fail (error, GS_ERROR_BUSY, "%s is being adopted by another call, or is locked by somebody else",
                      folder);
    }
  /* Where there is none, looking at it tells why. */
  done = adopt_locked (storage, call, repo, folder, error);
  if (fd >= 0)
    close (fd);
  return done;
}

/* -------------------------------------------------------------------------------------- candidates */

static GBytes *
folders_reply (const GPtrArray *found, guint limit)
{
  Gitstead__V1__ReplicaFoldersReply reply = GITSTEAD__V1__REPLICA_FOLDERS_REPLY__INIT;
  g_autofree ProtobufCBinaryData *folders = g_new0 (ProtobufCBinaryData, found->len + 1);
  gsize bytes = 0;
  for (guint i = 0; i < found->len && i < limit && bytes < FOLDERS_BYTES; i++)
    {
      char *folder = found->pdata[i];
      folders[reply.n_folders++] = (ProtobufCBinaryData){ strlen (folder), (guint8 *) folder };
      bytes += strlen (folder) + 4;
    }
  reply.folders = folders;
  reply.more = reply.n_folders < found->len;
  return gs_wire_encode (&reply.base);
}

/* -------------------------------------------------------------------------------------------- asked */

/* *full*, never NULL: an empty field has no bytes at all. */
static char *
text_of (const ProtobufCBinaryData *field)
{
  return field->len > 0 ? g_strndup ((const char *) field->data, field->len) : g_strdup ("");
}

static gboolean
take_folder (const ProtobufCBinaryData *field, char **ret_folder, GError **error)
{
  g_autofree char *folder = text_of (field);
  if (strlen (folder) != field->len)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "folder: contains a NUL byte");
  while (g_str_has_suffix (folder, "/") && strlen (folder) > 1)
    folder[strlen (folder) - 1] = '\0';
  if (!replica_path_check (folder, error))
    {
      g_prefix_error (error, "folder: ");
      return FALSE;
    }
  if (strcmp (folder, ADOPT_REPLICAS) == 0 || g_str_has_prefix (folder, ADOPT_REPLICAS "/"))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "folder: below " ADOPT_REPLICAS " are the replicas that the storage made itself");
  *ret_folder = g_steal_pointer (&folder);
  return TRUE;
}

gboolean
adopt_is_query (guint32 method)
{
  return method == METHOD_ADOPT || method == METHOD_FOLDERS;
}

gboolean
adopt_query (Storage *storage, GsCall *call, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
             GError **error)
{
  const Gitstead__V1__ReplicaAdoptReply reply = GITSTEAD__V1__REPLICA_ADOPT_REPLY__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REQUEST_BUDGET);
  g_autofree char *folder = NULL;
  gsize len;
  const guint8 *data = g_bytes_get_data (query->request, &len);
  if (query->method == METHOD_ADOPT)
    {
      const Gitstead__V1__ReplicaAdoptRequest *request
          = (const void *) gs_wire_decode (arena, &gitstead__v1__replica_adopt_request__descriptor, data, len, error);
      if (request == NULL || !replica_target_check (repo, error) || !take_folder (&request->folder, &folder, error)
          || !adopt (storage, call, repo, folder, error))
        return FALSE;
      *ret_reply = gs_wire_encode (&reply.base);
      return TRUE;
    }
  const Gitstead__V1__ReplicaFoldersRequest *request
      = (const void *) gs_wire_decode (arena, &gitstead__v1__replica_folders_request__descriptor, data, len, error);
  g_autofree char *after = request != NULL ? text_of (&request->after) : NULL;
  g_autoptr (GPtrArray) found = request != NULL ? oldtree_folders (storage, call, after, error) : NULL;
  if (found == NULL)
    return FALSE;
  *ret_reply = folders_reply (found, request->limit == 0 ? FOLDERS_MAX : MIN (request->limit, FOLDERS_MAX));
  return TRUE;
}
