/* SPDX-License-Identifier: Apache-2.0 */
/* One replica's packs put in order: see repack.h. */
#include "repack.h"

#include "disk.h"
#include "pool.h"
#include "prune.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIDX_NAMES_MAX (64u << 20)
#define MIDX_HEADER 12
#define MIDX_CHUNK 12
#define STOP_TURN_MS 100 /* how often a call without a cancel descriptor is looked at */

/* A reader takes a pack for whole once its .idx is there, for an ordinary one unless .mtimes is there before. */
static const char *const pack_parts[] = { ".pack", ".rev", ".mtimes", ".keep", ".idx" };

/* ---------------------------------------------------------------------------------------- census */

static guint32
read_u32 (const guint8 *at)
{
  return (guint32) at[0] << 24 | (guint32) at[1] << 16 | (guint32) at[2] << 8 | at[3];
}

static guint64
read_u64 (const guint8 *at)
{
  return (guint64) read_u32 (at) << 32 | read_u32 (at + 4);
}

/* Where the list of names is: chunk "PNAM". FALSE when there is none, or it makes no sense. */
static gboolean
find_names (int fd, guint64 *ret_from, guint64 *ret_len)
{
  guint8 header[MIDX_HEADER], chunks[256 * MIDX_CHUNK];
  if (pread (fd, header, sizeof header, 0) != (ssize_t) sizeof header || memcmp (header, "MIDX", 4) != 0 || header[6] == 255)
    return FALSE;
  gsize n = (gsize) header[6] + 1;
  if (pread (fd, chunks, n * MIDX_CHUNK, MIDX_HEADER) != (ssize_t) (n * MIDX_CHUNK))
    return FALSE;
  for (gsize i = 0; i + 1 < n; i++)
    if (memcmp (chunks + i * MIDX_CHUNK, "PNAM", 4) == 0)
      {
        guint64 from = read_u64 (chunks + i * MIDX_CHUNK + 4), to = read_u64 (chunks + (i + 1) * MIDX_CHUNK + 4);
        if (to <= from || to - from > MIDX_NAMES_MAX)
          return FALSE;
        *ret_from = from;
        *ret_len = to - from;
        return TRUE;
      }
  return FALSE;
}

/* The names ("pack-….idx") in the multi-pack index; none when it is absent or damaged: it is only a guide here. */
static GHashTable *
tracked_packs (const char *packs, gboolean *ret_has_midx)
{
  g_autofree char *path = g_build_filename (packs, "multi-pack-index", NULL);
  GHashTable *names = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  guint64 from, len;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  *ret_has_midx = FALSE;
  if (fd < 0)
    return names;
  if (find_names (fd, &from, &len))
    {
      g_autofree char *text = g_try_malloc (len + 1);
      if (text != NULL && pread (fd, text, len, (off_t) from) == (ssize_t) len)
        {
          text[len] = '\0';
          for (gsize at = 0; at < len && text[at] != '\0'; at += strlen (text + at) + 1)
            g_hash_table_add (names, g_strdup (text + at));
          *ret_has_midx = TRUE;
        }
    }
  close (fd);
  return names;
}

static char *
packs_dir (const Repo *repo)
{
  return g_strconcat (repo->objects, "/pack", NULL);
}

static gint64
stat_us (const struct stat *st)
{
  return (gint64) st->st_mtim.tv_sec * G_USEC_PER_SEC + st->st_mtim.tv_nsec / 1000;
}

static gboolean
has_part (const char *packs, const char *base, const char *part)
{
  g_autofree char *path = g_strconcat (packs, "/", base, part, NULL);
  return disk_exists (path);
}

gboolean
repack_census (const Repo *repo, PackCensus *ret_census, GError **error)
{
  g_autofree char *packs = packs_dir (repo);
  g_autoptr (GPtrArray) names = disk_names (packs, error);
  PackCensus census = { 0 };
  if (names == NULL)
    return FALSE;
  g_autoptr (GHashTable) tracked = tracked_packs (packs, &census.has_midx);
  for (guint i = 0; i < names->len; i++)
    {
      const char *name = names->pdata[i];
      struct stat st;
      if (!g_str_has_prefix (name, "pack-") || !g_str_has_suffix (name, ".idx"))
        continue;
      g_autofree char *base = g_strndup (name, strlen (name) - strlen (".idx"));
      g_autofree char *pack = g_strconcat (packs, "/", base, ".pack", NULL);
      if (stat (pack, &st) != 0)
        continue;
      census.newest_us = MAX (census.newest_us, stat_us (&st));
      if (has_part (packs, base, ".keep"))
        census.kept++;
      else if (has_part (packs, base, ".mtimes"))
        census.cruft++;
      else
        {
          census.packs++;
          census.bytes += (guint64) st.st_size;
          census.untracked += !g_hash_table_contains (tracked, name);
        }
    }
  *ret_census = census;
  return TRUE;
}

/* ---------------------------------------------------------------------------------- lock, leftovers */

static int
take_lock (const Repo *repo, int how, GError **error)
{
  g_autofree char *packs = packs_dir (repo);
  int fd = open (packs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    {
      fsu_fail (error, errno, "open folder %s", packs);
      return -1;
    }
  if (flock (fd, how | LOCK_NB) != 0)
    {
      close (fd);
      gs_fail (error, GS_ERROR_BUSY, "replica %s is being repacked, or read as a whole; try again later", repo->path);
      return -1;
    }
  return fd;
}

int
repack_lock (const Repo *repo, GError **error)
{
  return take_lock (repo, LOCK_EX, error);
}

int
repack_hold_off (const Repo *repo, GError **error)
{
  return take_lock (repo, LOCK_SH, error);
}

void
repack_unlock (int lock)
{
  if (lock < 0)
    return;
  flock (lock, LOCK_UN);
  close (lock);
}

static gboolean
lacks_pack (const char *packs, const char *name)
{
  const char *dot = strrchr (name, '.');
  if (dot == NULL || !g_str_has_prefix (name, "pack-"))
    return FALSE;
  g_autofree char *base = g_strndup (name, (gsize) (dot - name));
  return !has_part (packs, base, ".pack");
}

/*
 * Pushes write elsewhere and move whole packs in, the .pack first. So unfinished files here are a dead housekeeper's, and an
 * index without its pack is what is left when a push and a repack brought and removed the same pack at once.
 */
static gboolean
sweep_folder (const char *folder, gboolean packs, const char *const *unfinished, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (folder, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      const char *name = names->pdata[i];
      gboolean goes = packs && lacks_pack (folder, name);
      for (gsize k = 0; unfinished[k] != NULL; k++)
        goes = goes || g_str_has_prefix (name, unfinished[k]);
      g_autofree char *path = g_build_filename (folder, name, NULL);
      if (goes && !fsu_remove_tree (AT_FDCWD, path, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
sweep (const Repo *repo, GError **error)
{
  static const char *const in_packs[] = { "tmp_", ".tmp-", "multi-pack-index.lock", NULL };
  static const char *const in_objects[] = { "bitmap-ref-tips_", NULL };
  static const char *const in_graphs[] = { "tmp_graph_", "commit-graph-chain.lock", "commit-graph.lock", NULL };
  g_autofree char *packs = packs_dir (repo);
  g_autofree char *info = g_strconcat (repo->objects, "/info", NULL);
  g_autofree char *graphs = g_strconcat (repo->objects, "/info/commit-graphs", NULL);
  return sweep_folder (packs, TRUE, in_packs, error) && sweep_folder (repo->objects, FALSE, in_objects, error)
         && sweep_folder (info, FALSE, in_graphs, error) && sweep_folder (graphs, FALSE, in_graphs, error);
}

/* ------------------------------------------------------------------------------------------ safety */

/*
 * git deletes the old packs right after it has renamed the new one into place, and syncs no folder: after a power cut
 * both could be gone. Links to the old ones in a folder of ours, made durable before and removed after we have synced, close
 * that gap, whatever git does or leaves undone.
 */
static gboolean
safety_make (const Repo *repo, GError **error)
{
  g_autofree char *safety = g_strconcat (repo->dir, "/" GIT_SAFETY, NULL);
  g_autofree char *packs = packs_dir (repo);
  if (!repo->storage->sync)
    return TRUE;
  /* The folder first: from now on whoever brings a pack links it, too. */
  if (!disk_make_dirs (repo->dir, GIT_SAFETY, TRUE, error))
    return FALSE;
  g_autoptr (GPtrArray) names = disk_names (packs, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *from = g_build_filename (packs, names->pdata[i], NULL);
      g_autofree char *to = g_build_filename (safety, names->pdata[i], NULL);
      if (g_str_has_prefix (names->pdata[i], "pack-") && link (from, to) != 0 && errno != EEXIST && errno != ENOENT)
        return fsu_fail (error, errno, "link %s", from);
    }
  return disk_sync (safety, FALSE, error);
}

static gboolean
sync_folders (const Repo *repo, GError **error)
{
  static const char *const folders[] = { "/pack", "/info/commit-graphs", "/info", "" };
  for (gsize i = 0; repo->storage->sync && i < G_N_ELEMENTS (folders); i++)
    {
      g_autofree char *folder = g_strconcat (repo->objects, folders[i], NULL);
      if (disk_exists (folder) && !disk_sync (folder, FALSE, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
safety_drop (const Repo *repo, GError **error)
{
  g_autofree char *safety = g_strconcat (repo->dir, "/" GIT_SAFETY, NULL);
  return sync_folders (repo, error) && fsu_remove_tree (AT_FDCWD, safety, error);
}

/* A pack too many is harmless and is rolled up again some time; one too few is not. */
static gboolean
safety_put_back (const Repo *repo, GError **error)
{
  g_autofree char *safety = g_strconcat (repo->dir, "/" GIT_SAFETY, NULL);
  g_autofree char *packs = packs_dir (repo);
  g_autoptr (GPtrArray) names = disk_names (safety, error);
  if (names == NULL)
    return FALSE;
  for (gsize k = 0; k < G_N_ELEMENTS (pack_parts); k++)
    for (guint i = 0; i < names->len; i++)
      {
        g_autofree char *from = g_build_filename (safety, names->pdata[i], NULL);
        g_autofree char *to = g_build_filename (packs, names->pdata[i], NULL);
        if (g_str_has_suffix (names->pdata[i], pack_parts[k]) && link (from, to) != 0 && errno != EEXIST)
          return fsu_fail (error, errno, "link %s", from);
      }
  return safety_drop (repo, error);
}

void
repack_note_published (const Repo *repo, const char *name)
{
  /* After the pack is in place: either the housekeeper's list has it, or the folder is there now. */
  g_autofree char *from = g_strconcat (repo->objects, "/pack/", name, NULL);
  g_autofree char *to = g_strconcat (repo->dir, "/" GIT_SAFETY "/", name, NULL);
  g_autofree char *safety = g_path_get_dirname (to);
  if (link (from, to) == 0)
    disk_sync (safety, FALSE, NULL);
}

gboolean
repack_was_interrupted (const char *replica_dir)
{
  g_autofree char *safety = g_strconcat (replica_dir, "/" GIT_SAFETY, NULL);
  g_autofree char *pruned = g_strconcat (replica_dir, "/" GIT_PRUNED, NULL);
  return disk_exists (safety) || disk_exists (pruned);
}

gboolean
repack_recover (const Repo *repo, GError **error)
{
  return prune_recover (repo, error) && sweep (repo, error)
         && (!repack_was_interrupted (repo->dir) || safety_put_back (repo, error));
}

/* ------------------------------------------------------------------------------------------ children */

/* FALSE with @error when the work must stop now. */
static gboolean
may_go_on (const RepackRun *run, const struct pollfd *stop, GError **error)
{
  if (stop->revents != 0)
    return gs_fail (error, GS_ERROR_CANCELLED, "housekeeping of this replica was stopped: it is being removed");
  if (g_get_monotonic_time () >= run->until_us)
    return gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "housekeeping of this replica took too long");
  return gs_call_check (run->call, "housekeeping", error);
}

static gboolean
wait_child (Child *child, const RepackRun *run, int *ret_status, GError **error)
{
  int cancel = run->call->cancel_fd (run->call);
  for (;;)
    {
      struct pollfd fds[4] = { { .fd = child->pidfd, .events = POLLIN },
                               { .fd = child->err_fd, .events = POLLIN },
                               { .fd = run->stop_fd, .events = POLLIN },
                               { .fd = cancel, .events = POLLIN } };
      gint64 left = MAX (run->until_us - g_get_monotonic_time (), 0) / 1000 + 1;
      int turn = (int) MIN (left, cancel >= 0 ? 3600000 : STOP_TURN_MS);
      if (poll (fds, G_N_ELEMENTS (fds), turn) < 0 && errno != EINTR)
        return fsu_fail (error, errno, "wait for git");
      child_read_stderr (child);
      if (fds[0].revents != 0)
        break;
      if (!may_go_on (run, &fds[2], error))
        return FALSE;
    }
  *ret_status = child_reap (child);
  return TRUE;
}

gboolean
repack_child (const Repo *repo, int lock, ChildSpec spec, const RepackRun *run, GError **error)
{
  struct pollfd stop = { .fd = run->stop_fd, .events = POLLIN };
  Child child = { .err_fd = -1 };
  int status = 0;
  spec.git_dir = repo->dir;
  spec.output = -1;
  spec.extra = lock; /* its descriptor goes with it */
  poll (&stop, 1, 0);
  if (!may_go_on (run, &stop, error) || !child_start (repo->storage, &spec, &child, error))
    return FALSE;
  gboolean done = wait_child (&child, run, &status, error) && child_check_objects (&child, status, error);
  child_clear (&child);
  return done;
}

static gboolean
run_git (const Repo *repo, int lock, const char *const *argv, const RepackRun *run, GError **error)
{
  const ChildSpec spec = { .role = CHILD_MAINTAIN, .argv = argv, .input = -1 };
  return repack_child (repo, lock, spec, run, error);
}

/*
 * An object that moves into the cruft pack has the age of the pack that it comes from. That has to say since when it is
 * known that nothing reaches it, not since when it is here: so all that was an ordinary pack until now is of now.
 */
static gboolean
freshen_packs (const Repo *repo, GError **error)
{
  g_autofree char *packs = packs_dir (repo);
  g_autoptr (GPtrArray) names = disk_names (packs, error);
  const gint64 now_us = repo->storage->host->wall_us (repo->storage->host);
  struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t) (now_us / G_USEC_PER_SEC) } };
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      const char *name = names->pdata[i];
      if (!g_str_has_prefix (name, "pack-") || !g_str_has_suffix (name, ".pack"))
        continue;
      g_autofree char *base = g_strndup (name, strlen (name) - strlen (".pack"));
      g_autofree char *path = g_build_filename (packs, name, NULL);
      if (!has_part (packs, base, ".mtimes") && utimensat (AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) != 0 && errno != ENOENT)
        return fsu_fail (error, errno, "set the time of %s", path);
    }
  return TRUE;
}

static gboolean
note_full (const Repo *repo, GError **error)
{
  Storage *storage = repo->storage;
  g_autofree char *path = g_strconcat (repo->dir, "/" GIT_REPACKED, NULL);
  g_autofree char *text
      = g_strdup_printf ("full %" G_GINT64_FORMAT "\n", storage->host->wall_us (storage->host) / G_USEC_PER_SEC);
  return disk_replace (path, text, strlen (text), storage->sync, error);
}

gint64
repack_full_us (const Repo *repo)
{
  g_autofree char *path = g_strconcat (repo->dir, "/" GIT_REPACKED, NULL);
  g_autofree char *text = fsu_read (AT_FDCWD, path, 64, NULL, NULL);
  if (text == NULL || !g_str_has_prefix (text, "full "))
    return 0;
  gint64 seconds = g_ascii_strtoll (text + strlen ("full "), NULL, 10);
  return seconds > 0 && seconds < G_MAXINT64 / G_USEC_PER_SEC ? seconds * G_USEC_PER_SEC : 0;
}

gboolean
repack_run (const Repo *repo, int lock, RepackKind kind, const RepackRun *run, GError **error)
{
  /* -n: no files for dumb clients. Without an expiration the cruft pack keeps what no ref reaches, for ever. */
  static const char *const geometric[]
      = { "repack", "-d", "-n", "-q", "--geometric=2", "--write-midx", "--write-bitmap-index", NULL };
  static const char *const full[] = { "repack",       "-a", "-d", "-n", "-q", "--cruft", "--cruft-expiration=never",
                                      "--write-midx", "--write-bitmap-index", NULL };
  /* A member leaves to its pool what the pool has. Its own packs alone are not closed: no bitmap. Rolling packs up would
   * take the pool's for its own, in the git of today. */
  static const char *const member[] = { "repack", "-a", "-d", "-l", "-n", "-q", "--cruft", "--cruft-expiration=never",
                                        "--no-write-bitmap-index", NULL };
  g_autofree char *borrowed = pool_objects ((Repo *) repo);
  const char *const *argv = borrowed != NULL ? member : kind == REPACK_FULL ? full : geometric;
  g_autoptr (GError) untidy = NULL;
  if ((argv != geometric && !freshen_packs (repo, error)) || !safety_make (repo, error))
    return FALSE;
  storage_crash_point (repo->storage, "maintain.linked");
  gboolean done = run_git (repo, lock, argv, run, error);
  storage_crash_point (repo->storage, "maintain.repacked");
  /* Also after a failure: whatever it has deleted already, the new pack has, and is durable now. */
  if (!sweep (repo, &untidy) || !safety_drop (repo, &untidy))
    {
      if (done)
        g_propagate_error (error, g_steal_pointer (&untidy));
      return FALSE;
    }
  return done && (kind != REPACK_FULL || note_full (repo, error));
}

/* ------------------------------------------------------------------------------------- commit-graph */

gint64
repack_graph_us (const Repo *repo)
{
  g_autofree char *path = g_strconcat (repo->objects, "/info/commit-graphs/commit-graph-chain", NULL);
  struct stat st;
  return stat (path, &st) == 0 ? stat_us (&st) : 0;
}

gboolean
repack_write_graph (const Repo *repo, int lock, gboolean anew, const RepackRun *run, GError **error)
{
  /* A layer of a member could stand on the pool's layers, which only git would find. */
  g_autofree char *borrowed = pool_objects ((Repo *) repo);
  const char *const argv[] = { "commit-graph", "write", "--reachable", anew || borrowed != NULL ? "--split=replace" : "--split", "--changed-paths",
                               "--no-progress", NULL };
  g_autoptr (GError) untidy = NULL;
  gboolean done = run_git (repo, lock, argv, run, error);
  if (!done)
    sweep (repo, &untidy);
  return done && sync_folders (repo, error);
}

gboolean
repack_write_midx (const Repo *repo, int lock, const RepackRun *run, GError **error)
{
  static const char *const argv[] = { "multi-pack-index", "write", "--bitmap", "--no-progress", NULL };
  g_autoptr (GError) untidy = NULL;
  gboolean done = run_git (repo, lock, argv, run, error);
  if (!done)
    sweep (repo, &untidy);
  return done && sync_folders (repo, error);
}

gboolean
repack_drop_graph (const Repo *repo, GError **error)
{
  static const char *const names[] = { "/info/commit-graph", "/info/commit-graphs" };
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autofree char *path = g_strconcat (repo->objects, names[i], NULL);
      if (i == 0 ? !fsu_unlink (AT_FDCWD, path, error) : !fsu_remove_tree (AT_FDCWD, path, error))
        return FALSE;
    }
  return TRUE;
}
