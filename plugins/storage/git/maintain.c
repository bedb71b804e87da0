/* SPDX-License-Identifier: Apache-2.0 */
/* Periodic care: trash, leftovers, refs, and the packs of those replicas that changed since the last round. */
#include "disk.h"
#include "git.h"
#include "history/view.h"
#include "packcache.h"
#include "pool.h"
#include "prune.h"

#include <math.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define TMP_AGE_SECONDS 3600                             /* a folder being made is younger than this */
#define IMPORT_AGE_SECONDS (7 * 24 * 3600)                 /* unless a whole replica comes over a slow network */
#define ROUND_US (10 * 60 * G_USEC_PER_SEC)              /* no replica is begun after so long */
#define REPLICA_US (G_GINT64_CONSTANT (6) * 3600 * G_USEC_PER_SEC)
#define RETRY_FIRST_US (5 * 60 * G_USEC_PER_SEC)         /* after a second failure in a row; doubled from there */
#define RETRY_LAST_US (G_GINT64_CONSTANT (86400) * G_USEC_PER_SEC)
#define PACKS_MIN 2
#define PACKS_BASE 1.8
#define BIG_BYTES (10u << 20) /* from here on a bitmap is worth a repack that joins nothing */

/** Needs a look. */
typedef struct
{
  gboolean pushed; /* since the last look; otherwise only a scan has found it */
  guint failures;
  gint64 not_before_us;
} Dirty;

/** Under storage->lock, but for @stop_fd. */
struct Care
{
  GHashTable *dirty; /* replica path -> Dirty: as large as the changes are many, not as the storage */
  gboolean scanned;  /* what was left to do when we started is in @dirty */
  gboolean running;  /* one round at a time */
  const char *path;  /* the replica at work on */
  GsCond ended;      /* @path has changed */
  int stop_fd;       /* eventfd: ends the work on @path */
};

void
maintain_init (Storage *storage)
{
  Care *care = g_new0 (Care, 1);
  care->dirty = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  gs_cond_init (&care->ended);
  care->stop_fd = -1;
  storage->care = care;
}

gboolean
maintain_start (Storage *storage, GError **error)
{
  storage->care->stop_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  return storage->care->stop_fd >= 0 || fsu_fail (error, errno, "make an event descriptor");
}

void
maintain_clear (Storage *storage)
{
  Care *care = storage->care;
  g_hash_table_unref (care->dirty);
  gs_cond_clear (&care->ended);
  if (care->stop_fd >= 0)
    close (care->stop_fd);
  g_free (care);
}

/* ------------------------------------------------------------------------------------- dirty replicas */

static void
note (Storage *storage, const char *path, gboolean pushed)
{
  Care *care = storage->care;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  Dirty *dirty = g_hash_table_lookup (care->dirty, path);
  if (dirty == NULL)
    {
      dirty = g_new0 (Dirty, 1);
      g_hash_table_insert (care->dirty, g_strdup (path), dirty);
    }
  dirty->pushed = dirty->pushed || pushed;
}

void
maintain_note (Repo *repo)
{
  if (repo->storage->maintenance)
    note (repo->storage, repo->path, TRUE);
}

void
maintain_stop (Storage *storage, const char *path)
{
  static const guint64 one = 1;
  Care *care = storage->care;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  g_hash_table_remove (care->dirty, path);
  while (g_strcmp0 (care->path, path) == 0)
    {
      if (write (care->stop_fd, &one, sizeof one) < 0 && errno != EAGAIN && errno != EINTR)
        break;
      gs_cond_wait (&care->ended, &storage->lock);
    }
}

/* Once after a start: a look into one folder per replica. A few packs are as they should be. */
static gboolean
scan_one (Storage *storage, const char *path, gpointer user, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, path, NULL);
  g_autofree char *packs = g_strconcat (dir, "/objects/pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (packs, NULL);
  guint n = 0;
  for (guint i = 0; names != NULL && i < names->len; i++)
    n += g_str_has_suffix (names->pdata[i], ".idx");
  if (n > PACKS_MIN || repack_was_interrupted (dir))
    note (storage, path, FALSE);
  return TRUE;
}

static GPtrArray *
due_now (Storage *storage)
{
  GPtrArray *due = g_ptr_array_new_with_free_func (g_free);
  gint64 now = g_get_monotonic_time ();
  GHashTableIter iter;
  gpointer path, dirty;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  g_hash_table_iter_init (&iter, storage->care->dirty);
  while (g_hash_table_iter_next (&iter, &path, &dirty))
    if (((Dirty *) dirty)->not_before_us <= now)
      g_ptr_array_add (due, g_strdup (path));
  return due;
}

/* ----------------------------------------------------------------------------------------- one replica */

static guint
packs_allowed (const Storage *storage, const PackCensus *census)
{
  double mib = (double) census->bytes / (1 << 20);
  if (storage->maintenance_packs > 0)
    return (guint) storage->maintenance_packs;
  return MAX (PACKS_MIN, mib > 1 ? (guint) (log (mib) / log (PACKS_BASE)) : 0);
}

/* A step of the wall clock backwards must not put the next one off for years. */
static gboolean
full_is_due (const Repo *repo)
{
  const Storage *storage = repo->storage;
  gint64 last = repack_full_us (repo), now = storage->host->wall_us (storage->host);
  return storage->full_repack_us > 0 && (last == 0 || now < last || now - last >= storage->full_repack_us);
}

static RepackKind
what_is_due (const Repo *repo, const PackCensus *census, gboolean pushed)
{
  gboolean many = census->untracked > packs_allowed (repo->storage, census);
  gboolean unindexed = census->packs > 0 && !census->has_midx && census->bytes >= BIG_BYTES;
  /* Packs that were joined step by step are joined well again when there is time, but not while nothing changes. */
  gboolean layered = pushed && census->packs > 1 && repack_full_us (repo) != 0;
  if ((many || unindexed || layered) && full_is_due (repo))
    return REPACK_FULL;
  return many || unindexed ? REPACK_GEOMETRIC : REPACK_NOTHING;
}

static void
log_repacked (const Repo *repo, RepackKind kind, const PackCensus *before, const PackCensus *after, gint64 us)
{
  Storage *storage = repo->storage;
  const GsField fields[]
      = { GS_TEXT ("replica", repo->path), GS_TEXT ("kind", kind == REPACK_FULL ? "full" : "geometric"),
          GS_NUMBER ("packs_before", before->packs), GS_NUMBER ("packs_after", after->packs),
          GS_NUMBER ("ms", us / 1000) };
  storage->host->log (storage->host, GS_LOG_INFO, "storage.maintain.repacked", fields, G_N_ELEMENTS (fields));
}

static gboolean
repack (Repo *repo, int lock, RepackKind kind, const PackCensus *before, const RepackRun *run, GError **error)
{
  Storage *storage = repo->storage;
  gint64 began = g_get_monotonic_time ();
  PackCensus after;
  gboolean done = repack_run (repo, lock, kind, run, error);
  /* Also when it failed: packs that are deleted give their space back once nobody has them open. */
  objects_drop_handles (repo);
  if (!done || !repack_census (repo, &after, error))
    return FALSE;
  storage->host->metric_update (storage->metric.packs_written, kind == REPACK_FULL && after.cruft > 0 ? 2 : 1);
  log_repacked (repo, kind, before, &after, g_get_monotonic_time () - began);
  return TRUE;
}

static gboolean
care_locked (Repo *repo, int lock, gboolean pushed, const RepackRun *run, GError **error)
{
  Storage *storage = repo->storage;
  gint64 began = g_get_monotonic_time ();
  PackCensus census;
  if (!repack_recover (repo, error) || !repack_census (repo, &census, error))
    return FALSE;
  RepackKind kind = what_is_due (repo, &census, pushed);
  gboolean damaged = !hist_store_check (repo);
  gboolean graph = census.packs > 0 && (pushed || damaged || census.newest_us > repack_graph_us (repo));
  if (kind == REPACK_NOTHING && !graph)
    return TRUE;
  gboolean done = (kind == REPACK_NOTHING || repack (repo, lock, kind, &census, run, error))
                  && (!damaged || repack_drop_graph (repo, error))
                  && (!graph || repack_write_graph (repo, lock, kind == REPACK_FULL || damaged, run, error));
  storage->host->metric_update (storage->metric.maintain_seconds,
                                (double) (g_get_monotonic_time () - began) / G_USEC_PER_SEC);
  return done;
}

/* Held as a user, not as a writer: a removal does not wait for us, it stops us (maintain_stop). */
static gboolean
care_for (Storage *storage, const char *path, gboolean pushed, GsCall *call, GError **error)
{
  const RepackRun run = { call, storage->care->stop_fd, g_get_monotonic_time () + REPLICA_US };
  Repo *repo = repo_open_path (storage, path, FALSE, error);
  if (repo == NULL)
    return FALSE;
  int lock = repack_lock (repo, error);
  gboolean done = lock >= 0 && care_locked (repo, lock, pushed, &run, error);
  repack_unlock (lock);
  repo_close (repo, FALSE);
  return done;
}

static gboolean
begin (Storage *storage, const char *path)
{
  Care *care = storage->care;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  Dirty *dirty = g_hash_table_lookup (care->dirty, path);
  gboolean pushed = dirty != NULL && dirty->pushed;
  if (dirty != NULL)
    dirty->pushed = FALSE;
  care->path = path;
  return pushed;
}

/* What was pushed meanwhile keeps it in the set. */
static void
end (Storage *storage, const char *path, gboolean pushed, const GError *failed)
{
  guint64 count;
  Care *care = storage->care;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  Dirty *dirty = g_hash_table_lookup (care->dirty, path);
  gboolean gone = failed != NULL && failed->code == GS_ERROR_NOT_FOUND;
  if (dirty != NULL && failed == NULL)
    dirty->failures = 0;
  if (dirty != NULL && (gone || (failed == NULL && !dirty->pushed)))
    g_hash_table_remove (care->dirty, path);
  else if (dirty != NULL && failed != NULL)
    {
      dirty->pushed = dirty->pushed || pushed;
      /* A push at the wrong moment may be the reason for one failure, not for two. */
      if (failed->code != GS_ERROR_CANCELLED && dirty->failures++ > 0)
        dirty->not_before_us
            = g_get_monotonic_time () + MIN (RETRY_FIRST_US << MIN (dirty->failures - 2, 10), RETRY_LAST_US);
    }
  care->path = NULL;
  gs_cond_broadcast (&care->ended);
  if (read (care->stop_fd, &count, sizeof count) < 0)
    return; /* nobody had asked us to stop */
}

static gboolean
care_as_wished (Repo *repo, int lock, CareWish wish, const RepackRun *run, CareDone *done, GError **error)
{
  static const RepackKind kinds[]
      = { [CARE_GEOMETRIC] = REPACK_GEOMETRIC, [CARE_FULL] = REPACK_FULL, [CARE_GRAPH] = REPACK_NOTHING };
  if (!repack_recover (repo, error) || !repack_census (repo, &done->before, error))
    return FALSE;
  gboolean damaged = !hist_store_check (repo);
  done->kind = wish == CARE_DUE ? what_is_due (repo, &done->before, TRUE) : kinds[wish];
  done->graph = wish != CARE_DUE || damaged || done->before.newest_us > repack_graph_us (repo);
  if (done->before.packs == 0 && wish != CARE_FULL)
    done->kind = REPACK_NOTHING;
  return (done->kind == REPACK_NOTHING || repack (repo, lock, done->kind, &done->before, run, error))
         && (!damaged || repack_drop_graph (repo, error)) && repack_census (repo, &done->after, error)
         && (!(done->graph = done->graph && done->after.packs > 0)
             || repack_write_graph (repo, lock, done->kind == REPACK_FULL || damaged, run, error));
}

/* FALSE: somebody else's round runs. */
static gboolean
take_turn (Storage *storage)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  gboolean ours = !storage->care->running;
  storage->care->running = TRUE;
  return ours;
}

static void
give_turn (Storage *storage)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  storage->care->running = FALSE;
}

typedef gboolean (*CareWork) (Repo *repo, int lock, const RepackRun *run, gpointer user, GError **error);

static gboolean
at_once (Repo *repo, GsCall *call, CareWork work, gpointer user, GError **error)
{
  Storage *storage = repo->storage;
  const RepackRun run = { call, storage->care->stop_fd, g_get_monotonic_time () + REPLICA_US };
  g_autoptr (GError) failed = NULL;
  if (!take_turn (storage))
    return gs_fail (error, GS_ERROR_BUSY, "housekeeping is at work on this storage; try again later");
  gboolean pushed = begin (storage, repo->path);
  int lock = repack_lock (repo, &failed);
  if (lock >= 0)
    {
      work (repo, lock, &run, user, &failed);
      repack_unlock (lock);
    }
  end (storage, repo->path, pushed, failed);
  give_turn (storage);
  if (failed == NULL)
    return TRUE;
  g_propagate_error (error, g_steal_pointer (&failed));
  return FALSE;
}

typedef struct
{
  CareWish wish;
  CareDone done;
} Wished;

static gboolean
wished_work (Repo *repo, int lock, const RepackRun *run, gpointer user, GError **error)
{
  Wished *wished = user;
  return care_as_wished (repo, lock, wished->wish, run, &wished->done, error);
}

gboolean
maintain_now (Repo *repo, CareWish wish, GsCall *call, CareDone *ret_done, GError **error)
{
  Wished wished = { wish, { REPACK_NOTHING } };
  if (!at_once (repo, call, wished_work, &wished, error))
    return FALSE;
  *ret_done = wished.done;
  return TRUE;
}

typedef struct
{
  const PruneWish *wish;
  PruneDone done;
} Pruned;

static gboolean
prune_work (Repo *repo, int lock, const RepackRun *run, gpointer user, GError **error)
{
  Pruned *pruned = user;
  PackCensus before;
  return repack_recover (repo, error) && pool_check_free (repo->storage, repo->dir, repo->id, error)
         && repack_census (repo, &before, error) && repack (repo, lock, REPACK_FULL, &before, run, error)
         && prune_run (repo, lock, pruned->wish, run, &pruned->done, error);
}

static void
log_pruned (const Repo *repo, const PruneDone *done)
{
  const GsHost *host = repo->storage->host;
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_NUMBER ("objects", done->objects),
                             GS_NUMBER ("bytes", done->bytes), GS_NUMBER ("kept", done->kept) };
  host->log (host, GS_LOG_INFO, "storage.maintain.pruned", fields, G_N_ELEMENTS (fields));
}

gboolean
maintain_prune (Repo *repo, const PruneWish *wish, GsCall *call, PruneDone *ret_done, GError **error)
{
  Pruned pruned = { wish, { 0 } };
  gboolean done = at_once (repo, call, prune_work, &pruned, error);
  /* What is gone, or may be, is not kept in packs either. */
  if (!wish->dry_run)
    pack_cache_forget (repo->storage->packs, repo->id);
  if (!done)
    return FALSE;
  if (!wish->dry_run)
    log_pruned (repo, &pruned.done);
  *ret_done = pruned.done;
  return TRUE;
}

/* FALSE only when the round must end: one replica's trouble is its own. */
static gboolean
care_one (Storage *storage, const char *path, GsCall *call, GError **error)
{
  g_autoptr (GError) failed = NULL;
  gboolean pushed = begin (storage, path);
  care_for (storage, path, pushed, call, &failed);
  end (storage, path, pushed, failed);
  if (failed != NULL && failed->code != GS_ERROR_NOT_FOUND && failed->code != GS_ERROR_CANCELLED)
    {
      const GsField fields[] = { GS_TEXT ("replica", path), GS_TEXT ("error", failed->message) };
      storage->host->log (storage->host, GS_LOG_WARNING, "storage.maintain.failed", fields, G_N_ELEMENTS (fields));
    }
  return gs_call_check (call, "maintain the replicas", error);
}

static gboolean
care_round (Storage *storage, GsCall *call, GError **error)
{
  gint64 until = g_get_monotonic_time () + ROUND_US;
  if (!storage->care->scanned)
    {
      if (!storage_walk (storage, call, scan_one, NULL, error))
        return FALSE;
      storage->care->scanned = TRUE;
    }
  g_autoptr (GPtrArray) due = due_now (storage);
  for (guint i = 0; i < due->len && g_get_monotonic_time () < until; i++)
    if (!care_one (storage, due->pdata[i], call, error))
      return FALSE;
  return TRUE;
}

/* One git process at a time: a second round that is asked for meanwhile has nothing to add. */
static gboolean
maintain_packs (Storage *storage, GsCall *call, GError **error)
{
  if (!storage->maintenance || !take_turn (storage))
    return TRUE;
  gboolean done = care_round (storage, call, error);
  give_turn (storage);
  return done;
}

/* ------------------------------------------------------------------------------------- trash and refs */

gboolean
storage_sweep_tmp (Storage *storage, gint64 older_than_seconds, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, GIT_ROOT_TMP, NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  gint64 now = storage->host->wall_us (storage->host) / G_USEC_PER_SEC;
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
      gint64 age = older_than_seconds > 0 && g_str_has_prefix (names->pdata[i], "import-") ? IMPORT_AGE_SECONDS
                                                                                          : older_than_seconds;
      struct stat st;
      if (lstat (path, &st) == 0 && now - (gint64) st.st_mtime >= age && !fsu_remove_tree (AT_FDCWD, path, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
empty_trash (Storage *storage, GsCall *call, GError **error)
{
  g_autofree char *dir = g_build_filename (storage->root, GIT_ROOT_TRASH, NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  gint64 now = storage->host->wall_us (storage->host) / G_USEC_PER_SEC;
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
      gint64 removed = g_ascii_strtoll (names->pdata[i], NULL, 10);
      if (!gs_call_check (call, "empty the trash", error))
        return FALSE;
      if (removed > 0 && now - removed >= storage->trash_grace_us / G_USEC_PER_SEC
          && !fsu_remove_tree (AT_FDCWD, path, error))
        return FALSE;
    }
  return TRUE;
}

/* One replica's trouble is its own, here too: a lock that stays must not end the care for all others. */
static void
pack_one (Repo *repo)
{
  Storage *storage = repo->storage;
  g_autoptr (GError) failed = NULL;
  if (ref_store_pack (repo->refs, FALSE, &failed))
    return;
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("error", failed->message) };
  storage->host->log (storage->host, GS_LOG_WARNING, "storage.maintain.failed", fields, G_N_ELEMENTS (fields));
}

/* Those in use lately; the others were packed when they were. */
static gboolean
pack_refs (Storage *storage, GsCall *call, GError **error)
{
  g_autoptr (GPtrArray) open = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  gboolean done = TRUE;
  gs_mutex_lock (&storage->lock);
  g_hash_table_iter_init (&iter, storage->repos);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      ((Repo *) value)->users++;
      ((Repo *) value)->writers++;
      g_ptr_array_add (open, value);
    }
  gs_mutex_unlock (&storage->lock);
  for (guint i = 0; i < open->len; i++)
    {
      Repo *repo = open->pdata[i];
      done = done && gs_call_check (call, "pack refs", error);
      if (done)
        pack_one (repo);
      repo_close (repo, TRUE);
    }
  return done;
}

gboolean
storage_maintain (gpointer self, GsCall *call, GError **error)
{
  pack_cache_sweep (((Storage *) self)->packs);
  return empty_trash (self, call, error) && storage_sweep_tmp (self, TMP_AGE_SECONDS, error)
         && pack_refs (self, call, error) && maintain_packs (self, call, error);
}
