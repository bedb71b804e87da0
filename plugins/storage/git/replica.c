/* SPDX-License-Identifier: Apache-2.0 */
/* The storage's root and the replicas in it: made, found, measured, thrown away. */
#include "adopt.h"
#include "disk.h"
#include "git.h"
#include "packcache.h"
#include "pool.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define WALK_DEPTH_MAX 8
#define MARKER_MAX 4096
/* Between the publishing of refs and the stamp on the record lies one write of a file. */
#define POSITION_POLL_US 2000

/* --------------------------------------------------------------------------------------- the root */

static gboolean
root_is_empty (Storage *storage, gboolean *ret_empty, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (storage->root, error);
  if (names == NULL)
    return FALSE;
  *ret_empty = TRUE;
  for (guint i = 0; i < names->len; i++)
    if (strcmp (names->pdata[i], "lost+found") != 0)
      *ret_empty = FALSE;
  return TRUE;
}

static gboolean
marker_read (Storage *storage, const char *path, GError **error)
{
  g_autofree char *text = fsu_read (AT_FDCWD, path, MARKER_MAX, NULL, error);
  if (text == NULL)
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  if (g_strv_length (lines) < 2 || strcmp (lines[0], "gitstead-storage 1") != 0 || !g_str_has_prefix (lines[1], "uuid ")
      || strlen (lines[1]) != strlen ("uuid ") + 32)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s is damaged or of a newer version: this program knows version 1", path);
  g_strlcpy (storage->uuid, lines[1] + strlen ("uuid "), sizeof storage->uuid);
  return TRUE;
}

static gboolean
marker_make (Storage *storage, const char *path, GError **error)
{
  gboolean empty;
  g_autofree char *text = NULL;
  if (!root_is_empty (storage, &empty, error))
    return FALSE;
  if (!empty && !storage->old_tree)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s has files but no " GIT_ROOT_MARKER " marker: it is not a storage of this program; "
                    "give an empty or absent folder, or check that the right disk is mounted; 'old_tree: true' takes a tree "
                    "of bare repositories that are to be adopted",
                    storage->root);
  storage_random_hex (storage, storage->uuid);
  text = g_strdup_printf ("gitstead-storage 1\nuuid %s\n", storage->uuid);
  return disk_replace (path, text, strlen (text), TRUE, error);
}

gboolean
storage_root_open (Storage *storage, GError **error)
{
  g_autofree char *marker = g_build_filename (storage->root, GIT_ROOT_MARKER, NULL);
  if (mkdir (storage->root, 0777) != 0 && errno != EEXIST)
    return fsu_fail (error, errno, "make the storage's folder %s", storage->root);
  if (!disk_exists (marker) && !marker_make (storage, marker, error))
    return FALSE;
  storage->marker_fd = open (marker, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (storage->marker_fd < 0)
    return fsu_fail (error, errno, "open %s", marker);
  if (flock (storage->marker_fd, LOCK_EX | LOCK_NB) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s is in use by another process: one storage folder serves one process", storage->root);
  return marker_read (storage, marker, error) && disk_make_dirs (storage->root, GIT_ROOT_TMP, TRUE, error)
         && disk_make_dirs (storage->root, GIT_ROOT_TRASH, TRUE, error);
}

gboolean
storage_root_was_clean (Storage *storage, GError **error)
{
  g_autofree char *clean = g_build_filename (storage->root, GIT_ROOT_CLEAN, NULL);
  gboolean was = unlink (clean) == 0;
  return was && disk_sync (storage->root, FALSE, error);
}

void
storage_root_close (Storage *storage, gboolean clean)
{
  g_autofree char *path = g_build_filename (storage->root, GIT_ROOT_CLEAN, NULL);
  g_autoptr (GError) failed = NULL;
  if (storage->marker_fd < 0)
    return;
  if (clean && !disk_replace (path, "clean\n", 6, TRUE, &failed))
    {
      const GsField fields[] = { GS_TEXT ("error", failed->message) };
      storage->host->log (storage->host, GS_LOG_WARNING, "storage.root.close-failed", fields, 1);
    }
  close (storage->marker_fd);
  storage->marker_fd = -1;
}

/* ----------------------------------------------------------------------------------------- a path */

gboolean
replica_path_check (const char *path, GError **error)
{
  gsize len = path != NULL ? strlen (path) : 0;
  if (len == 0 || len > 1024 || path[0] == '/' || path[len - 1] == '/')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "a replica path is relative, not empty and at most 1024 bytes long");
  if (g_str_has_prefix (path, "gitstead-"))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "replica path %s is one that the storage uses itself", path);
  g_auto (GStrv) parts = g_strsplit (path, "/", -1);
  if (g_strv_length (parts) > WALK_DEPTH_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "replica path %s has more than %d parts", path, WALK_DEPTH_MAX);
  for (guint i = 0; parts[i] != NULL; i++)
    {
      if (parts[i][0] == '\0' || strcmp (parts[i], ".") == 0 || strcmp (parts[i], "..") == 0)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "replica path %s has an empty, . or .. part", path);
      for (const char *at = parts[i]; *at != '\0'; at++)
        if (g_ascii_iscntrl (*at))
          return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a replica path has a control character");
    }
  return TRUE;
}

gboolean
replica_target_check (const GsRepo *repo, GError **error)
{
  if (repo->id == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "0 is no repository id");
  return replica_path_check (repo->replica_path, error);
}

/* Ours are minimal; one that was brought in may use what only git understands. */
gboolean
replica_config_check (const char *dir, GError **error)
{
  g_autofree char *path = g_strconcat (dir, "/config", NULL);
  g_autofree char *text = fsu_read (AT_FDCWD, path, 1 << 20, NULL, error);
  if (text == NULL)
    return FALSE;
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++)
    if (g_ascii_strncasecmp (g_strchug (lines[i]), "[extensions", strlen ("[extensions")) == 0)
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                      "%s uses repository extensions, which this storage does not support", path);
  return TRUE;
}

/* ----------------------------------------------------------------------------------- create, remove */

gboolean
storage_tmp_dir (Storage *storage, const char *what, char **ret_path, GError **error)
{
  g_autofree char *path = g_strdup_printf ("%s/" GIT_ROOT_TMP "/%s-XXXXXX", storage->root, what);
  if (g_mkdtemp_full (path, 0777) == NULL)
    return fsu_fail (error, errno, "make folder %s", path);
  *ret_path = g_steal_pointer (&path);
  return TRUE;
}

static gboolean
write_file (Storage *storage, const char *dir, const char *name, const char *text, GError **error)
{
  g_autofree char *path = g_build_filename (dir, name, NULL);
  return disk_replace (path, text, strlen (text), storage->sync, error);
}

gboolean
replica_fill (Storage *storage, const char *dir, const ReplicaRecord *record, const char *head_target, GError **error)
{
  static const char *const dirs[] = { "objects/info", "objects/pack", "refs/heads", "refs/tags", GIT_QUARANTINES };
  g_autofree char *head = g_strdup_printf ("ref: %s\n", head_target);
  for (gsize i = 0; i < G_N_ELEMENTS (dirs); i++)
    if (!disk_make_dirs (dir, dirs[i], storage->sync, error))
      return FALSE;
  return write_file (storage, dir, "HEAD", head, error)
         && write_file (storage, dir, "config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n", error)
         && replica_record_write (storage, dir, record, error);
}

/* rename replaces an empty folder silently; RENAME_NOREPLACE never does. */
gboolean
replica_move_new (Storage *storage, const char *from, const char *to, const char *path, GError **error)
{
  g_autofree char *parent = g_path_get_dirname (to);
  if (renameat2 (AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) != 0)
    {
      if (errno == EEXIST || errno == ENOTEMPTY)
        return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "there is a replica at %s already", path);
      return fsu_fail (error, errno, "rename into place %s", to);
    }
  return !storage->sync || disk_sync (parent, FALSE, error);
}

gboolean
storage_create (gpointer self, GsCall *call, const GsRepo *repo, const GsRepoSpec *spec, GError **error)
{
  Storage *storage = self;
  g_autofree char *dir = NULL, *temp = NULL, *parent = NULL;
  g_autoptr (GError) why = NULL;
  ReplicaRecord record = { .id = repo->id, .format = GS_FORMAT_SHA1 };
  if (!replica_target_check (repo, error) || !gs_call_check (call, "create a replica", error))
    return FALSE;
  if (spec->format != GS_FORMAT_SHA1)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this storage makes repositories with SHA-1 object ids only");
  if (spec->default_branch == NULL || !g_str_has_prefix (spec->default_branch, "refs/heads/"))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "default_branch: it is not below refs/heads/");
  if (!ref_name_valid (spec->default_branch, &why))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "default_branch: '%s': %s", spec->default_branch, why->message);
  dir = g_build_filename (storage->root, repo->replica_path, NULL);
  if (disk_exists (dir))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "there is a replica at %s already", repo->replica_path);
  parent = g_path_get_dirname (repo->replica_path);
  if (!storage_tmp_dir (storage, "create", &temp, error))
    return FALSE;
  g_strlcpy (record.storage, storage->uuid, sizeof record.storage);
  ref_digest_term ("HEAD", NULL, spec->default_branch, &record.digest);
  if (replica_fill (storage, temp, &record, spec->default_branch, error)
      && (strcmp (parent, ".") == 0 || disk_make_dirs (storage->root, parent, storage->sync, error))
      && replica_move_new (storage, temp, dir, repo->replica_path, error))
    return TRUE;
  fsu_remove_tree (AT_FDCWD, temp, NULL);
  return FALSE;
}

char *
storage_trash_path (Storage *storage, guint64 id)
{
  char random[33];
  storage_random_hex (storage, random);
  return g_strdup_printf ("%s/" GIT_ROOT_TRASH "/%" G_GINT64_FORMAT "-%" G_GUINT64_FORMAT "-%.8s", storage->root,
                          storage->host->wall_us (storage->host) / G_USEC_PER_SEC, id, random);
}

gboolean
storage_remove (gpointer self, GsCall *call, const GsRepo *repo, GError **error)
{
  Storage *storage = self;
  g_autofree char *dir = NULL, *trash = NULL;
  ReplicaRecord record;
  if (!replica_target_check (repo, error) || !gs_call_check (call, "remove a replica", error))
    return FALSE;
  dir = g_build_filename (storage->root, repo->replica_path, NULL);
  if (!replica_record_read (dir, &record, error))
    return FALSE;
  replica_record_clear (&record);
  if (record.id != repo->id)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "replica %s belongs to repository %" G_GUINT64_FORMAT ", not to %" G_GUINT64_FORMAT,
                    repo->replica_path, record.id, repo->id);
  if (!repo_take_out (storage, repo->replica_path, error))
    return FALSE;
  /* Nobody can link to it any more. */
  if (!pool_check_free (storage, dir, repo->id, error))
    {
      repo_removed (storage, repo->replica_path);
      return FALSE;
    }
  trash = storage_trash_path (storage, repo->id);
  gboolean moved = adopt_is_unclaimed (dir) ? adopt_put_back (storage, repo->replica_path, error)
                                            : disk_move (dir, trash, storage->sync, error);
  repo_removed (storage, repo->replica_path);
  if (moved)
    pack_cache_forget (storage->packs, repo->id);
  return moved;
}

/* --------------------------------------------------------------------------------------- find them */

gboolean
storage_exists (gpointer self, GsCall *call, const GsRepo *repo, gboolean *ret_exists, GError **error)
{
  Storage *storage = self;
  g_autofree char *record = NULL;
  if (!replica_path_check (repo->replica_path, error))
    return FALSE;
  record = g_build_filename (storage->root, repo->replica_path, GIT_RECORD, NULL);
  *ret_exists = disk_exists (record);
  return TRUE;
}

gboolean
storage_walk (Storage *storage, GsCall *call, ReplicaVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (g_free);
  g_ptr_array_add (stack, g_strdup (""));
  while (stack->len > 0)
    {
      g_autofree char *at = g_ptr_array_steal_index_fast (stack, stack->len - 1);
      g_autofree char *dir = g_build_filename (storage->root, at, NULL);
      guint depth = *at != '\0' ? 1 : 0;
      if (call != NULL && !gs_call_check (call, "list the replicas", error))
        return FALSE;
      for (const char *slash = at; (slash = strchr (slash, '/')) != NULL; slash++)
        depth++;
      g_autoptr (GPtrArray) names = disk_names (dir, error);
      if (names == NULL)
        return FALSE;
      for (guint i = 0; i < names->len; i++)
        {
          const char *name = names->pdata[i];
          g_autofree char *path = *at != '\0' ? g_strconcat (at, "/", name, NULL) : g_strdup (name);
          g_autofree char *full = g_build_filename (storage->root, path, NULL);
          g_autofree char *record = g_build_filename (full, GIT_RECORD, NULL);
          struct stat st;
          if ((depth == 0 && g_str_has_prefix (name, "gitstead-")) || lstat (full, &st) != 0 || !S_ISDIR (st.st_mode))
            continue;
          if (disk_exists (record))
            {
              if (!visit (storage, path, user, error))
                return FALSE;
            }
          else if (depth + 1 < WALK_DEPTH_MAX && !adopt_looks_bare (full)) /* of an old tree: nothing of ours is in it */
            g_ptr_array_add (stack, g_steal_pointer (&path));
        }
    }
  return TRUE;
}

typedef struct
{
  GsRepoVisit visit;
  gpointer user;
  gboolean stopped;
} ListVisit;

/* Damage of one replica must not hide the others: it is logged, and listed as nobody's. */
static gboolean
list_one (Storage *storage, const char *path, gpointer user, GError **error)
{
  ListVisit *list = user;
  g_autoptr (GError) failed = NULL;
  g_autofree char *dir = g_build_filename (storage->root, path, NULL);
  ReplicaRecord record;
  if (list->stopped)
    return TRUE;
  if (!replica_record_read (dir, &record, &failed))
    {
      const GsField fields[] = { GS_TEXT ("replica", path), GS_TEXT ("error", failed->message) };
      if (failed->code == GS_ERROR_NOT_FOUND)
        return TRUE;
      storage->host->log (storage->host, GS_LOG_ERROR, "storage.replica.damaged", fields, G_N_ELEMENTS (fields));
      record = (ReplicaRecord) { .id = 0 };
    }
  replica_record_clear (&record);
  const GsRepo repo = { .size = sizeof repo, .id = record.id, .replica_path = path };
  list->stopped = !list->visit (&repo, list->user);
  return TRUE;
}

gboolean
storage_list (gpointer self, GsCall *call, GsRepoVisit visit, gpointer user, GError **error)
{
  ListVisit list = { visit, user, FALSE };
  return storage_walk (self, call, list_one, &list, error);
}

gboolean
storage_disk (gpointer self, GsDisk *ret_disk, GError **error)
{
  Storage *storage = self;
  GsDisk disk = { .size = sizeof disk };
  struct statvfs room;
  if (!gs_unhex (storage->uuid, GS_TXID_SIZE, disk.id.bytes))
    return gs_fail (error, GS_ERROR_DATA_LOSS, "the id in %s/" GIT_ROOT_MARKER " is not hex", storage->root);
  if (statvfs (storage->root, &room) != 0)
    return fsu_fail (error, errno, "ask for the room on %s", storage->root);
  disk.free_bytes = (guint64) room.f_bavail * room.f_frsize;
  disk.total_bytes = (guint64) room.f_blocks * room.f_frsize;
  *ret_disk = disk;
  return TRUE;
}

gboolean
storage_measure (gpointer self, GsCall *call, const GsRepo *repo, GsRepoSize *ret_size, GError **error)
{
  DiskUse all = { 0, 0 }, objects = { 0, 0 }, refs = { 0, 0 }, packed = { 0, 0 };
  GsRepoSize size = { .size = sizeof size };
  g_autoptr (GPtrArray) packs = NULL;
  Repo *open = repo_open (self, repo, FALSE, error);
  gboolean done = FALSE;
  if (open == NULL)
    return FALSE;
  g_autofree char *refs_dir = g_build_filename (open->dir, "refs", NULL);
  g_autofree char *packed_refs = g_build_filename (open->dir, "packed-refs", NULL);
  g_autofree char *pack_dir = g_build_filename (open->objects, "pack", NULL);
  RefSnapshot *snapshot = NULL;
  if (disk_measure (open->dir, &all, error) && disk_measure (open->objects, &objects, error)
      && disk_measure (refs_dir, &refs, error) && disk_measure (packed_refs, &packed, error)
      && (packs = disk_names (pack_dir, error)) != NULL && (snapshot = ref_store_snapshot (open->refs, error)) != NULL)
    {
      size.total_bytes = all.bytes;
      size.objects_bytes = objects.bytes;
      size.refs_bytes = refs.bytes + packed.bytes;
      size.n_refs = ref_snapshot_count (snapshot);
      for (guint i = 0; i < packs->len; i++)
        size.n_packs += g_str_has_suffix (packs->pdata[i], ".pack");
      ref_snapshot_unref (snapshot);
      *ret_size = size;
      done = TRUE;
    }
  repo_close (open, FALSE);
  return done;
}

gboolean
replica_position (Repo *repo, GsCall *call, gint64 wait_us, ReplicaRecord *ret_record, RefSnapshot **ret_snapshot,
                  gboolean *ret_fits, GError **error)
{
  gint64 until_us = g_get_monotonic_time () + wait_us;
  for (;;)
    {
      ReplicaRecord record;
      GsDigest digest;
      gs_mutex_lock (&repo->stamp_lock);
      gboolean have = replica_record_read (repo->dir, &record, error);
      gs_mutex_unlock (&repo->stamp_lock);
      RefSnapshot *snapshot = have ? ref_store_snapshot (repo->refs, error) : NULL;
      if (snapshot == NULL)
        {
          if (have)
            replica_record_clear (&record);
          return FALSE;
        }
      ref_snapshot_digest (snapshot, &digest);
      gboolean fits = memcmp (&digest, &record.digest, sizeof digest) == 0;
      if (fits || g_get_monotonic_time () >= until_us || gs_call_cancelled (call))
        {
          *ret_record = record;
          *ret_snapshot = snapshot;
          *ret_fits = fits;
          return TRUE;
        }
      replica_record_clear (&record);
      ref_snapshot_unref (snapshot);
      g_usleep (POSITION_POLL_US);
    }
}

gboolean
storage_state (gpointer self, GsCall *call, const GsRepo *repo, GsReplicaState *ret_state, GError **error)
{
  Repo *open = repo_open (self, repo, FALSE, error);
  RefSnapshot *snapshot;
  ReplicaRecord record;
  gboolean fits;
  if (open == NULL)
    return FALSE;
  gboolean done = replica_position (open, call, 0, &record, &snapshot, &fits, error);
  if (done)
    {
      GsReplicaState state = {
        .size = sizeof state, .repository_id = record.id, .generation = record.generation, .format = record.format,
        .writers = repo_writers (open)
      };
      ref_snapshot_digest (snapshot, &state.refs_digest);
      ref_snapshot_unref (snapshot);
      replica_record_clear (&record);
      *ret_state = state;
    }
  repo_close (open, FALSE);
  return done;
}
