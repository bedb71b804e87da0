/* SPDX-License-Identifier: Apache-2.0 */
/* Sharing objects between replicas of one storage: see pool.h. */
#include "pool.h"

#include "child.h"
#include "disk.h"

#include <sys/file.h>
#include <unistd.h>

#define TEXT_MAX 8192
#define ALTERNATES "objects/info/alternates"
#define UNLINK_TURNS 20 /* the pool may get packs while we copy their names */
#define REDUCE_US (G_GINT64_CONSTANT (4) * 3600 * G_USEC_PER_SEC)

/* ------------------------------------------------------------------------------------------- on disk */

/* From a replica's objects folder to another's: git takes it relative to the former. */
static char *
alternates_text (const char *from_path, const char *to_path)
{
  g_autoptr (GString) text = g_string_new ("../../");
  for (const char *at = from_path; *at != '\0'; at++)
    if (*at == '/')
      g_string_append (text, "../");
  g_string_append_printf (text, "%s/objects\n", to_path);
  return g_string_free (g_steal_pointer (&text), FALSE);
}

gboolean
pool_of (const char *dir, guint64 *ret_id, char **ret_path, GError **error)
{
  g_autofree char *file = g_build_filename (dir, GIT_POOL, NULL);
  g_autofree char *text = NULL;
  char *space, *nl;
  guint64 id;
  *ret_id = 0;
  if (!disk_exists (file))
    return TRUE;
  text = fsu_read (AT_FDCWD, file, TEXT_MAX, NULL, error);
  if (text == NULL)
    return FALSE;
  space = strchr (text, ' ');
  nl = strchr (text, '\n');
  id = g_ascii_strtoull (text, NULL, 10);
  if (space == NULL || nl == NULL || nl[1] != '\0' || id == 0)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "%s is damaged", file);
  *nl = '\0';
  if (!replica_path_check (space + 1, error))
    return FALSE;
  *ret_path = g_strdup (space + 1);
  *ret_id = id;
  return TRUE;
}

static char *
member_file (const char *pool_dir, guint64 member)
{
  return g_strdup_printf ("%s/" GIT_MEMBERS "/%" G_GUINT64_FORMAT, pool_dir, member);
}

static gboolean
is_replica (Storage *storage, const char *dir, guint64 id)
{
  ReplicaRecord record;
  gboolean good;
  if (!replica_record_read (dir, &record, NULL))
    return FALSE;
  good = record.id == id && strcmp (record.storage, storage->uuid) == 0;
  replica_record_clear (&record);
  return good;
}

gboolean
pool_check (Storage *storage, const char *dir, guint64 id, char **ret_objects, GError **error)
{
  g_autofree char *alternates = g_build_filename (dir, ALTERNATES, NULL);
  g_autofree char *text = NULL, *path = NULL, *wanted = NULL, *pool_dir = NULL, *file = NULL;
  guint64 pool = 0;
  *ret_objects = NULL;
  if (!disk_exists (alternates))
    return TRUE;
  text = fsu_read (AT_FDCWD, alternates, TEXT_MAX, NULL, error);
  if (text == NULL || !pool_of (dir, &pool, &path, error))
    return FALSE;
  if (pool != 0)
    {
      const char *own = g_str_has_prefix (dir, storage->root) ? dir + strlen (storage->root) + 1 : dir;
      wanted = alternates_text (own, path);
      pool_dir = g_build_filename (storage->root, path, NULL);
      file = member_file (pool_dir, id);
    }
  if (pool == 0 || strcmp (text, wanted) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s borrows objects from elsewhere, which this storage does not support", dir);
  if (!is_replica (storage, pool_dir, pool) || !disk_exists (file))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s borrows objects of repository %" G_GUINT64_FORMAT " at %s, which is not there or knows nothing of it",
                    dir, pool, path);
  *ret_objects = g_build_filename (pool_dir, "objects", NULL);
  return TRUE;
}

char *
pool_objects (Repo *repo)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repo->lock);
  return g_strdup (repo->pool_objects);
}

static void
set_pool_objects (Repo *repo, char *objects)
{
  gs_mutex_lock (&repo->lock);
  g_free (repo->pool_objects);
  repo->pool_objects = objects;
  gs_mutex_unlock (&repo->lock);
  objects_drop_handles (repo);
}

/* ------------------------------------------------------------------------------------------- members */

static void
member_clear (gpointer data)
{
  g_free ((char *) ((GsRepo *) data)->replica_path);
}

/* Does the replica at @path borrow from @pool? */
static gboolean
is_linked (Storage *storage, const char *path, guint64 id, guint64 pool)
{
  g_autofree char *dir = g_build_filename (storage->root, path, NULL);
  g_autofree char *alternates = g_build_filename (dir, ALTERNATES, NULL), *pool_path = NULL;
  g_autoptr (GError) why = NULL;
  guint64 linked;
  /* What cannot be told is taken for a link. */
  return disk_exists (alternates) && is_replica (storage, dir, id)
         && (!pool_of (dir, &linked, &pool_path, &why) || linked == pool);
}

static int
by_id (gconstpointer a, gconstpointer b)
{
  guint64 x = ((const GsRepo *) a)->id, y = ((const GsRepo *) b)->id;
  return x < y ? -1 : x > y;
}

/* @keep: leftovers stay; somebody may be linking right now. */
static GArray *
read_members (Storage *storage, const char *dir, guint64 id, gboolean keep, GError **error)
{
  g_autofree char *folder = g_build_filename (dir, GIT_MEMBERS, NULL);
  g_autoptr (GPtrArray) names = disk_names (folder, error);
  g_autoptr (GArray) members = NULL;
  if (names == NULL)
    return NULL;
  members = g_array_new (FALSE, TRUE, sizeof (GsRepo));
  g_array_set_clear_func (members, member_clear);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *file = g_build_filename (folder, names->pdata[i], NULL);
      guint64 member = g_ascii_strtoull (names->pdata[i], NULL, 10);
      g_autofree char *text = NULL;
      if (member == 0)
        continue; /* a temporary file */
      text = fsu_read (AT_FDCWD, file, TEXT_MAX, NULL, error);
      if (text == NULL)
        return NULL;
      g_strchomp (text);
      if (!replica_path_check (text, error))
        return NULL;
      if (is_linked (storage, text, member, id))
        {
          GsRepo one = { sizeof one, member, g_steal_pointer (&text) };
          g_array_append_val (members, one);
        }
      else if (!keep && !fsu_unlink (AT_FDCWD, file, error))
        return NULL;
    }
  g_array_sort (members, by_id);
  return g_steal_pointer (&members);
}

GArray *
pool_members (Storage *storage, const char *dir, guint64 id, GError **error)
{
  return read_members (storage, dir, id, TRUE, error);
}

gboolean
pool_check_free (Storage *storage, const char *dir, guint64 id, GError **error)
{
  g_autoptr (GArray) members = read_members (storage, dir, id, FALSE, error);
  if (members == NULL)
    return FALSE;
  return members->len == 0
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                     "repository %" G_GUINT64_FORMAT " is a pool: %u others borrow its objects, the first of them repository "
                     "%" G_GUINT64_FORMAT "; unlink them first",
                     id, members->len, g_array_index (members, GsRepo, 0).id);
}

/* ----------------------------------------------------------------------------------------------- link */

/* Whoever links reads packs of the pool and nothing else (odb.h). */
static gboolean
has_loose_objects (Repo *repo, gboolean *ret_has, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (repo->objects, error);
  *ret_has = FALSE;
  for (guint i = 0; names != NULL && i < names->len && !*ret_has; i++)
    if (strlen (names->pdata[i]) == 2)
      {
        g_autofree char *fan = g_build_filename (repo->objects, names->pdata[i], NULL);
        g_autoptr (GPtrArray) inside = disk_names (fan, error);
        if (inside == NULL)
          return FALSE;
        *ret_has = inside->len > 0;
      }
  return names != NULL;
}

static gboolean
check_link (Repo *member, Repo *pool, gboolean *ret_is_linked, GError **error)
{
  Storage *storage = member->storage;
  g_autofree char *path = NULL, *over = NULL, *alternates = g_build_filename (member->dir, ALTERNATES, NULL);
  guint64 linked = 0, above = 0;
  gboolean loose;
  if (member->format != pool->format)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "pool: its object ids are of another kind");
  if (!pool_of (member->dir, &linked, &path, error) || !pool_of (pool->dir, &above, &over, error))
    return FALSE;
  *ret_is_linked = linked == pool->id && disk_exists (alternates);
  if (*ret_is_linked)
    return TRUE;
  if (linked != 0 && disk_exists (alternates))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "repository %" G_GUINT64_FORMAT " is linked to the pool %" G_GUINT64_FORMAT "; unlink it first", member->id,
                    linked);
  g_autofree char *pool_alternates = g_build_filename (pool->dir, ALTERNATES, NULL);
  if (disk_exists (pool_alternates))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "pool: repository %" G_GUINT64_FORMAT " is linked to a pool itself", pool->id);
  if (!pool_check_free (storage, member->dir, member->id, error) || !has_loose_objects (pool, &loose, error))
    return FALSE;
  return !loose
         || gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                     "pool: repository %" G_GUINT64_FORMAT " has loose objects, which members could not read; have them packed",
                     pool->id);
}

static gboolean
link_locked (Repo *member, Repo *pool, GError **error)
{
  Storage *storage = member->storage;
  g_autofree char *file = member_file (pool->dir, member->id);
  g_autofree char *known = g_strdup_printf ("%s\n", member->path);
  g_autofree char *note = g_strdup_printf ("%" G_GUINT64_FORMAT " %s\n", pool->id, pool->path);
  g_autofree char *note_file = g_build_filename (member->dir, GIT_POOL, NULL);
  g_autofree char *alternates = g_build_filename (member->dir, ALTERNATES, NULL);
  g_autofree char *text = alternates_text (member->path, pool->path);
  gboolean linked = FALSE;
  if (!check_link (member, pool, &linked, error))
    return FALSE;
  if (linked)
    return TRUE;
  if (!disk_make_dirs (pool->dir, GIT_MEMBERS, storage->sync, error)
      || !disk_replace (file, known, strlen (known), storage->sync, error))
    return FALSE;
  storage_crash_point (storage, "pool.member");
  if (!disk_replace (note_file, note, strlen (note), storage->sync, error))
    return FALSE;
  storage_crash_point (storage, "pool.noted");
  if (!disk_replace (alternates, text, strlen (text), storage->sync, error))
    return FALSE;
  storage_crash_point (storage, "pool.linked");
  set_pool_objects (member, g_strdup (pool->objects));
  return TRUE;
}

/* Who is whose pool does not change while it is held, and one is waited for. */
int
pool_hold (Repo *repo, GError **error)
{
  g_autofree char *dir = g_build_filename (repo->dir, GIT_REPLICA_DIR, NULL);
  int fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = -1;
  while (fd >= 0 && (code = flock (fd, LOCK_EX)) != 0 && errno == EINTR)
    ;
  if (code == 0)
    return fd;
  fsu_fail (error, errno, "lock folder %s", dir);
  if (fd >= 0)
    close (fd);
  return -1;
}

/* The member's own lock keeps a leave-taking out, which lasts. The others are taken in one order. */
gboolean
pool_link (Repo *member, Repo *pool, GError **error)
{
  Repo *const both[] = { member->id < pool->id ? member : pool, member->id < pool->id ? pool : member };
  int locks[2] = { -1, -1 }, lock;
  gboolean done = FALSE;
  if (member == pool)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "pool: a repository cannot be its own pool");
  lock = repack_lock (member, error);
  if (lock >= 0 && (locks[0] = pool_hold (both[0], error)) >= 0 && (locks[1] = pool_hold (both[1], error)) >= 0)
    done = link_locked (member, pool, error);
  for (int i = 0; i < 2; i++)
    repack_unlock (locks[i]);
  repack_unlock (lock);
  return done;
}

gboolean
pool_reduce (Repo *member, GsCall *call, GError **error)
{
  const RepackRun run = { call, -1, g_get_monotonic_time () + REDUCE_US };
  int lock = repack_lock (member, error);
  gboolean done = lock >= 0 && repack_recover (member, error) && repack_run (member, lock, REPACK_FULL, &run, error);
  repack_unlock (lock);
  objects_drop_handles (member);
  return done;
}

/* --------------------------------------------------------------------------------------------- unlink */

/*
 * The pool's packs are hard links in the member too: no byte is copied. @only_look: are there any that are not?
 * Without .mtimes, so that a pack of unreachable objects is an ordinary one here.
 */
static gboolean
take_packs (Repo *member, const char *from_objects, gboolean only_look, gboolean *ret_new, GError **error)
{
  static const char *const parts[] = { ".pack", ".rev", ".idx" };
  g_autofree char *from_dir = g_build_filename (from_objects, "pack", NULL);
  g_autofree char *to_dir = g_build_filename (member->objects, "pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (from_dir, error);
  *ret_new = FALSE;
  if (names == NULL)
    return FALSE;
  for (gsize k = 0; k < G_N_ELEMENTS (parts); k++)
    for (guint i = 0; i < names->len; i++)
      {
        g_autofree char *from = g_build_filename (from_dir, names->pdata[i], NULL);
        g_autofree char *to = g_build_filename (to_dir, names->pdata[i], NULL);
        if (!g_str_has_prefix (names->pdata[i], "pack-") || !g_str_has_suffix (names->pdata[i], parts[k]) || disk_exists (to))
          continue;
        *ret_new = TRUE;
        if (!only_look && link (from, to) != 0 && errno != EEXIST)
          return fsu_fail (error, errno, "link %s", from);
      }
  return only_look || !*ret_new || !member->storage->sync || disk_sync (to_dir, FALSE, error);
}

/* The member's objects without its pool, as git sees them from a folder of links. */
static gboolean
make_view (Repo *member, const char *view, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (member->objects, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *from = g_build_filename (member->objects, names->pdata[i], NULL);
      g_autofree char *to = g_build_filename (view, names->pdata[i], NULL);
      if (strcmp (names->pdata[i], "info") != 0 && symlink (from, to) != 0)
        return fsu_fail (error, errno, "link %s", from);
    }
  return TRUE;
}

static gboolean
is_whole (Repo *member, GsCall *call, GError **error)
{
  static const char *const argv[] = { "rev-list", "--objects", "--all", "--quiet", NULL };
  Storage *storage = member->storage;
  g_autofree char *view = g_strdup_printf ("%s/" GIT_ROOT_TMP "/whole-XXXXXX", storage->root);
  g_autofree char *nothing = NULL, *said = NULL;
  gboolean done;
  int status = 0;
  if (g_mkdtemp_full (view, 0777) == NULL)
    return fsu_fail (error, errno, "make folder %s", view);
  nothing = g_build_filename (view, "none", NULL);
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = member->dir,
                           .argv = argv,
                           .quarantine = view,
                           .alternate = nothing,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  done = make_view (member, view, error) && child_run (storage, &spec, call, NULL, 0, NULL, &status, &said, error)
         && (status == 0
             || gs_fail (error, GS_ERROR_DATA_LOSS,
                         "repository %" G_GUINT64_FORMAT " is not whole with its pool's objects in it, and stays linked: %s",
                         member->id, said));
  fsu_remove_tree (AT_FDCWD, view, NULL);
  return done;
}

/* No write may be under way that has seen an object in the pool alone; none can begin while we hold the table. */
static gboolean
let_go (Repo *member, const char *from_objects, gboolean *ret_again, GError **error)
{
  Storage *storage = member->storage;
  g_autofree char *alternates = g_build_filename (member->dir, ALTERNATES, NULL);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  if (member->writers > 0)
    return gs_fail (error, GS_ERROR_BUSY, "repository %" G_GUINT64_FORMAT " stays linked for now: a write to it is under way",
                    member->id);
  if (!take_packs (member, from_objects, TRUE, ret_again, error) || *ret_again)
    return *ret_again;
  return unlink (alternates) == 0 || fsu_fail (error, errno, "remove %s", alternates);
}

static gboolean
unlink_locked (Repo *member, const char *from_objects, GsCall *call, GError **error)
{
  Storage *storage = member->storage;
  g_autofree char *info = g_build_filename (member->objects, "info", NULL);
  gboolean again = TRUE, any;
  if (!take_packs (member, from_objects, FALSE, &any, error))
    return FALSE;
  storage_crash_point (storage, "pool.copied");
  objects_drop_handles (member);
  if (!is_whole (member, call, error))
    return FALSE;
  for (guint turn = 0; again; turn++)
    {
      if (turn == UNLINK_TURNS)
        return gs_fail (error, GS_ERROR_BUSY, "the pool of repository %" G_GUINT64_FORMAT " is written to all the time",
                        member->id);
      if (!take_packs (member, from_objects, FALSE, &any, error) || !let_go (member, from_objects, &again, error))
        return FALSE;
    }
  set_pool_objects (member, NULL);
  storage_crash_point (storage, "pool.unlinked");
  return !storage->sync || disk_sync (info, FALSE, error);
}

/* The last steps, also for what a crash left of them. */
static gboolean
forget (Repo *member, guint64 pool, const char *path, GError **error)
{
  g_autofree char *pool_dir = g_build_filename (member->storage->root, path, NULL);
  g_autofree char *file = member_file (pool_dir, member->id);
  g_autofree char *note = g_build_filename (member->dir, GIT_POOL, NULL);
  if (is_replica (member->storage, pool_dir, pool) && !fsu_unlink (AT_FDCWD, file, error))
    return FALSE;
  return fsu_unlink (AT_FDCWD, note, error);
}

gboolean
pool_unlink (Repo *member, GsCall *call, guint64 *ret_pool, GError **error)
{
  g_autofree char *path = NULL, *from = pool_objects (member);
  const GsRepo at = { .size = sizeof at };
  GsRepo repo = at;
  gboolean done;
  Repo *pool;
  int lock, pool_lock;
  if (!pool_of (member->dir, ret_pool, &path, error))
    return FALSE;
  if (*ret_pool == 0)
    return TRUE;
  repo.id = *ret_pool;
  repo.replica_path = path;
  if (from == NULL)
    return forget (member, *ret_pool, path, error);
  pool = repo_open (member->storage, &repo, TRUE, error);
  if (pool == NULL)
    return FALSE;
  lock = repack_lock (member, error);
  pool_lock = lock >= 0 ? repack_lock (pool, error) : -1;
  done = pool_lock >= 0 && unlink_locked (member, from, call, error) && forget (member, *ret_pool, path, error);
  repack_unlock (pool_lock);
  repack_unlock (lock);
  repo_close (pool, TRUE);
  return done;
}
