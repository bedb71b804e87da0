/* SPDX-License-Identifier: Apache-2.0 */
/* storage/git: bare repositories that stock git can read, on one local file system. The descriptor, the options,
 * the life of an instance, and the table of open repositories. */
#include "git.h"

#include "api/change.h"
#include "api/transfer.h"
#include "disk.h"
#include "history/view.h"
#include "packcache.h"
#include "pool.h"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#define BULK_THRESHOLD 200 /* more ref updates than this rewrite packed-refs */
#define SHUT_WAIT_US (60 * G_USEC_PER_SEC) /* longer than a replica is ever shut (prune.c) */
#define SHUT_TURN_US (G_USEC_PER_SEC / 10)
#define PACK_THRESHOLD 256 /* loose refs, before maintain packs them */

static const GsOption git_options[] = {
  { "path", NULL, NULL, "Folder of the repositories; one process owns it.", 0, 0, GS_OPTION_PATH, GS_OPTION_REQUIRED },
  { "git", "git", NULL, "The git program: a path, or a name that is looked up in PATH.", 0, 0, GS_OPTION_STRING, 0 },
  { "hook_dir", NULL, NULL, "Folder with the programs proc-receive and pack-objects; found beside the plugin or where it was installed.", 0,
    0, GS_OPTION_PATH, 0 },
  { "trash_grace", "7d", NULL, "How long removed replicas are kept in the trash.", 0,
    G_GINT64_CONSTANT (31536000000000), GS_OPTION_DURATION, 0 },
  { "max_push_bytes", "2GiB", NULL,
    "What one push, bundle, fetch from another server or call of the Git API may bring: as it is sent, and as it then lies "
    "on disk with its indexes, together; 0 is no limit.", 0, G_MAXINT64, GS_OPTION_SIZE, 0 },
  { "max_change_bytes", "1GiB", NULL, "Sum of the objects, inflated, that one call of the Git API may make.", 1024,
    G_MAXINT64, GS_OPTION_SIZE, 0 },
  { "lock_wait", "5s", NULL, "How long a write waits for a ref that somebody else has locked.", 0,
    G_GINT64_CONSTANT (600000000), GS_OPTION_DURATION, 0 },
  { "fsync", "true", NULL, "Make every write durable before it is acknowledged. Switch off for throw-away data only.",
    0, 0, GS_OPTION_BOOL, 0 },
  { "max_repos_open", "256", NULL, "Repositories kept open while nobody uses them.", 1, 1000000, GS_OPTION_INT, 0 },
  { "child_cpu", "1h", NULL, "CPU time one git process may use; 0 is no limit.", 0, G_GINT64_CONSTANT (86400000000),
    GS_OPTION_DURATION, 0 },
  { "child_memory", "4GiB", NULL, "Private memory one git process may use; mapped packs do not count; 0 is no limit.",
    0, G_MAXINT64, GS_OPTION_SIZE, 0 },
  { "fsck", "lenient", "strict|lenient",
    "How pushed objects are checked; lenient accepts odd dates and modes that old histories have.", 0, 0,
    GS_OPTION_CHOICE, 0 },
  { "deny_deletes", "false", NULL, "Refuse pushes that delete refs.", 0, 0, GS_OPTION_BOOL, 0 },
  { "deny_non_fast_forwards", "false", NULL, "Refuse pushes that move a branch to a commit that does not contain it.",
    0, 0, GS_OPTION_BOOL, 0 },
  { "run_hooks", "false", NULL,
    "Run the hooks that belong to repositories: programs, with the server's own rights. On all nodes or on none.", 0, 0,
    GS_OPTION_BOOL, 0 },
  { "hook_timeout", "30s", NULL, "How long one hook may take.", 1000, G_GINT64_CONSTANT (3600000000), GS_OPTION_DURATION,
    0 },
  { "maintenance", "true", NULL,
    "Keep the number of packs small and the indexes for fast fetches up to date. Objects are never deleted.", 0, 0,
    GS_OPTION_BOOL, 0 },
  { "maintenance_packs", "0", NULL,
    "Packs of pushes that may gather in a repository before they are joined; 0 goes by its size.", 0, 100000,
    GS_OPTION_INT, 0 },
  { "full_repack_every", "5d", NULL, "A changed repository is packed anew as a whole at most this often; 0 is never.",
    0, G_GINT64_CONSTANT (31536000000000), GS_OPTION_DURATION, 0 },
  { "remote_allow", NULL, NULL,
    "Other servers that calls may fetch from and push to: scheme://host[:port] with http or https, or file:///folder for "
    "repositories below it (never pushed to). A host may be *.example.org or *; such a host must not lead to a private "
    "address, while one that is named in full may. Without a port the scheme's own. Nothing is allowed by default.", 0, 0,
    GS_OPTION_LIST, 0 },
  { "old_tree", "false", NULL,
    "The folder may have files already when it is first used: a tree of bare repositories, which `gitstead repo adopt` takes "
    "over one by one. Otherwise such a folder is refused, as another disk may be mounted there.", 0, 0, GS_OPTION_BOOL, 0 },
  { "max_remote_refs", "500000", NULL,
    "Refs that another server, or a bundle, may have for a call that reads them; their names may take 128 MiB together.", 1,
    10000000, GS_OPTION_INT, 0 },
  { "pack_cache", "1GiB", NULL,
    "Disk space below path for packs that equal fetches share, in files without names; never more than is left free. 0 makes "
    "a pack for each fetch.", 0, G_MAXINT64, GS_OPTION_SIZE, 0 },
  { "pack_cache_age", "5m", NULL, "How long fetches share a pack after it was made.", G_USEC_PER_SEC,
    G_GINT64_CONSTANT (86400000000), GS_OPTION_DURATION, 0 },
  { "pack_cache_uses", "2", NULL,
    "Fetches within pack_cache_age that make a pack worth keeping after the last of them; 1 keeps every one.", 1, 1000,
    GS_OPTION_INT, 0 },
  { "crash_at", NULL, NULL, "For crash tests: the process kills itself at this named step.", 0, 0, GS_OPTION_STRING,
    0 },
  { NULL, NULL, NULL, NULL, 0, 0, 0, 0 },
};

static const GsStorageOps git_ops = {
  .create = storage_create,
  .remove = storage_remove,
  .exists = storage_exists,
  .list = storage_list,
  .measure = storage_measure,
  .state = storage_state,
  .list_refs = storage_list_refs,
  .find_ref = storage_find_ref,
  .stage = storage_stage,
  .stage_push = storage_stage_push,
  .commit = storage_commit,
  .abort = storage_abort,
  .pending = storage_pending,
  .resolve = storage_resolve,
  .maintain = storage_maintain,
  .advertise = storage_advertise,
  .upload_pack = storage_upload_pack,
  .resolve_revision = storage_resolve_revision,
  .read_object = storage_read_object,
  .stream_object = storage_stream_object,
  .list_tree = storage_list_tree,
  .query = storage_query,
  .compute = storage_compute,
  .computed_free = storage_computed_free,
  .disk = storage_disk,
  .export_replica = storage_export,
  .import_replica = storage_import,
  .scrub = storage_scrub,
};

void
storage_crash_point (const Storage *storage, const char *point)
{
  if (G_UNLIKELY (storage->crash_at != NULL) && strcmp (storage->crash_at, point) == 0)
    raise (SIGKILL);
}

void
storage_random_hex (const Storage *storage, char ret_hex[33])
{
  guint8 bytes[16];
  storage->host->random (storage->host, bytes, sizeof bytes);
  gs_hex (bytes, sizeof bytes, ret_hex);
}

/* ---------------------------------------------------------------------------- open repositories */

static void
repo_free (Repo *repo)
{
  objects_drop_handles (repo);
  if (repo->refs != NULL)
    ref_store_free (repo->refs);
  hist_store_free (repo->history);
  g_ptr_array_unref (repo->handles);
  g_hash_table_unref (repo->quarantines);
  gs_mutex_clear (&repo->stamp_lock);
  gs_mutex_clear (&repo->lock);
  g_free (repo->path);
  g_free (repo->dir);
  g_free (repo->objects);
  g_free (repo->pool_objects);
  g_free (repo);
}

static void
note_ref (gpointer user, GsLogLevel level, const char *event, const char *name)
{
  const Repo *repo = ((const PeelIn *) user)->repo;
  const GsField fields[] = { GS_TEXT ("replica", repo->path), GS_TEXT ("name", name) };
  g_autofree char *full = g_strconcat ("storage.", event, NULL);
  repo->storage->host->log (repo->storage->host, level, full, fields, G_N_ELEMENTS (fields));
}

static Repo *
repo_new (Storage *storage, const GsRepo *repo, GError **error)
{
  static const char *const hidden[] = { GIT_HIDDEN_REFS, NULL };
  g_autofree char *dir = g_build_filename (storage->root, repo->replica_path, NULL), *borrowed = NULL;
  ReplicaRecord record;
  if (!replica_record_read (dir, &record, error))
    return NULL;
  replica_record_clear (&record);
  if (record.id != repo->id || strcmp (record.storage, storage->uuid) != 0)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "replica %s says it is repository %" G_GUINT64_FORMAT " of storage %s, not %" G_GUINT64_FORMAT " of %s: "
               "nothing was done with it",
               repo->replica_path, record.id, record.storage, repo->id, storage->uuid);
      return NULL;
    }
  if (!replica_config_check (dir, error) || !pool_check (storage, dir, repo->id, &borrowed, error))
    return NULL;

  Repo *open = g_new0 (Repo, 1);
  open->storage = storage;
  open->path = g_strdup (repo->replica_path);
  open->dir = g_steal_pointer (&dir);
  open->objects = g_strconcat (open->dir, "/objects", NULL);
  open->pool_objects = g_steal_pointer (&borrowed);
  open->id = repo->id;
  open->format = record.format;
  open->handles = g_ptr_array_new ();
  open->history = hist_store_new (storage);
  open->quarantines = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  gs_mutex_init (&open->stamp_lock);
  gs_mutex_init (&open->lock);
  open->peel_in.repo = open;
  const RefStoreOptions options = { .format = record.format,
                                    .peel = objects_peel,
                                    .note = note_ref,
                                    .user = &open->peel_in,
                                    .lock_wait_us = storage->lock_wait_us,
                                    .bulk_threshold = BULK_THRESHOLD,
                                    .pack_threshold = PACK_THRESHOLD,
                                    .hidden = hidden,
                                    .crash_at = storage->crash_at };
  open->refs = ref_store_open (open->dir, &options, error);
  if (open->refs == NULL)
    {
      repo_free (open);
      return NULL;
    }
  return open;
}

/* Those that nobody uses, oldest first, down to the limit. Collected under the lock, freed outside it. */
static GPtrArray *
collect_idle (Storage *storage, guint limit)
{
  GPtrArray *victims = g_ptr_array_new ();
  while (g_hash_table_size (storage->repos) > limit)
    {
      Repo *oldest = NULL;
      GHashTableIter iter;
      gpointer value;
      g_hash_table_iter_init (&iter, storage->repos);
      while (g_hash_table_iter_next (&iter, NULL, &value))
        {
          Repo *repo = value;
          if (repo->users == 0 && (oldest == NULL || repo->last_used < oldest->last_used))
            oldest = repo;
        }
      if (oldest == NULL)
        break;
      g_hash_table_remove (storage->repos, oldest->path);
      g_ptr_array_add (victims, oldest);
    }
  return victims;
}

static void
free_victims (GPtrArray *victims)
{
  for (guint i = 0; i < victims->len; i++)
    repo_free (victims->pdata[i]);
  g_ptr_array_unref (victims);
}

/* Under the lock. A Repo of another identity at this path is a leftover: it goes when its last user goes. */
static Repo *
find_open (Storage *storage, const GsRepo *repo, gboolean writer, GPtrArray *victims)
{
  Repo *open = g_hash_table_lookup (storage->repos, repo->replica_path);
  if (open == NULL)
    return NULL;
  if (open->id != repo->id)
    {
      g_hash_table_remove (storage->repos, open->path);
      open->removed = TRUE;
      if (open->users == 0)
        g_ptr_array_add (victims, open);
      return NULL;
    }
  open->users++;
  open->writers += writer;
  open->last_used = ++storage->ticks;
  return open;
}

/* Under the lock, which it gives up meanwhile. FALSE: the replica stays shut. */
static gboolean
wait_let_in (Storage *storage, const char *path)
{
  const gint64 until_us = g_get_monotonic_time () + SHUT_WAIT_US;
  for (;;)
    {
      const Repo *open = g_hash_table_lookup (storage->repos, path);
      if (open == NULL || !open->shut)
        return TRUE;
      if (!gs_cond_wait_until (&storage->written, &storage->lock, until_us))
        return FALSE;
    }
}

static gboolean
nothing_staged (Repo *repo, GError **error)
{
  static const char *const folders[] = { GIT_QUARANTINES, "gitstead/journal" };
  for (gsize i = 0; i < G_N_ELEMENTS (folders); i++)
    {
      g_autofree char *dir = g_build_filename (repo->dir, folders[i], NULL);
      g_autoptr (GPtrArray) names = disk_names (dir, error);
      if (names == NULL)
        return FALSE;
      if (names->len > 0)
        return gs_fail (error, GS_ERROR_BUSY, "replica %s has a staged write, which has to be settled first", repo->path);
    }
  return TRUE;
}

gboolean
repo_shut_out (Repo *repo, GsCall *call, gint64 until_us, GError **error)
{
  Storage *storage = repo->storage;
  gboolean shut = FALSE, removed = FALSE;
  gs_mutex_lock (&storage->lock);
  while (!shut && !removed && gs_call_check (call, "wait for writes to end", NULL) && g_get_monotonic_time () < until_us)
    {
      removed = repo->removed;
      shut = !removed && repo->writers == 0;
      if (!shut && !removed)
        gs_cond_wait_until (&storage->written, &storage->lock,
                            MIN (until_us, g_get_monotonic_time () + SHUT_TURN_US));
    }
  repo->shut = shut;
  gs_mutex_unlock (&storage->lock);
  if (removed)
    return gs_fail (error, GS_ERROR_CANCELLED, "replica %s is being removed", repo->path);
  if (!shut)
    return gs_call_check (call, "wait for writes to end", error)
           && gs_fail (error, GS_ERROR_BUSY, "replica %s is written to all the time; try again later", repo->path);
  if (nothing_staged (repo, error))
    return TRUE;
  repo_let_in (repo);
  return FALSE;
}

void
repo_let_in (Repo *repo)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repo->storage->lock);
  repo->shut = FALSE;
  gs_cond_broadcast (&repo->storage->written);
}

static gboolean
shut_for_long (const GsRepo *repo, GError **error)
{
  return gs_fail (error, GS_ERROR_BUSY, "replica %s takes no writes for a moment: unreachable objects are being removed",
                  repo->replica_path);
}

Repo *
repo_open (Storage *storage, const GsRepo *repo, gboolean writer, GError **error)
{
  Repo *open = NULL, *made = NULL;
  GPtrArray *victims;
  gboolean removing, shut;
  if (!replica_path_check (repo->replica_path, error))
    return NULL;
  victims = g_ptr_array_new ();
  gs_mutex_lock (&storage->lock);
  shut = writer && !wait_let_in (storage, repo->replica_path);
  removing = g_hash_table_contains (storage->removing, repo->replica_path);
  if (!removing && !shut)
    open = find_open (storage, repo, writer, victims);
  gs_mutex_unlock (&storage->lock);
  free_victims (victims);
  if (shut)
    {
      shut_for_long (repo, error);
      return NULL;
    }
  if (removing)
    {
      gs_fail (error, GS_ERROR_NOT_FOUND, "the replica at %s is being removed", repo->replica_path);
      return NULL;
    }
  if (open != NULL || (made = repo_new (storage, repo, error)) == NULL)
    return open;

  gs_mutex_lock (&storage->lock);
  shut = writer && !wait_let_in (storage, repo->replica_path);
  victims = collect_idle (storage, (guint) storage->max_repos_open);
  if (shut)
    open = NULL;
  else if (g_hash_table_contains (storage->removing, repo->replica_path))
    removing = TRUE;
  else if ((open = find_open (storage, repo, writer, victims)) == NULL)
    {
      open = g_steal_pointer (&made);
      open->users = 1;
      open->writers = writer ? 1 : 0;
      open->last_used = ++storage->ticks;
      g_hash_table_insert (storage->repos, open->path, open);
    }
  gs_mutex_unlock (&storage->lock);
  if (made != NULL)
    repo_free (made);
  free_victims (victims);
  if (shut)
    shut_for_long (repo, error);
  else if (removing)
    gs_fail (error, GS_ERROR_NOT_FOUND, "the replica at %s is being removed", repo->replica_path);
  return open;
}

void
repo_close (Repo *repo, gboolean writer)
{
  Storage *storage = repo->storage;
  gboolean last;
  gs_mutex_lock (&storage->lock);
  repo->users--;
  repo->writers -= writer;
  if (writer && repo->writers == 0)
    gs_cond_broadcast (&storage->written);
  last = repo->users == 0 && repo->removed;
  gs_mutex_unlock (&storage->lock);
  if (last)
    repo_free (repo);
}

guint32
repo_writers (Repo *repo)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repo->storage->lock);
  return repo->writers;
}

gboolean
repo_take_out (Storage *storage, const char *path, GError **error)
{
  Repo *victim = NULL, *open;
  gboolean busy;
  gs_mutex_lock (&storage->lock);
  open = g_hash_table_lookup (storage->repos, path);
  busy = (open != NULL && open->writers > 0) || g_hash_table_contains (storage->removing, path);
  if (!busy)
    g_hash_table_add (storage->removing, g_strdup (path));
  if (!busy && open != NULL)
    {
      g_hash_table_remove (storage->repos, path);
      open->removed = TRUE;
      if (open->users == 0)
        victim = open;
    }
  gs_mutex_unlock (&storage->lock);
  if (victim != NULL)
    repo_free (victim);
  if (!busy)
    maintain_stop (storage, path);
  return !busy || gs_fail (error, GS_ERROR_BUSY, "replica %s cannot be removed now: a write to it is under way", path);
}

void
repo_removed (Storage *storage, const char *path)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&storage->lock);
  g_hash_table_remove (storage->removing, path);
}

/* ------------------------------------------------------------------------------------------- life */

static void git_destroy (gpointer self);

static gpointer
git_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Storage *storage = g_new0 (Storage, 1);
  storage->host = host;
  storage->root = g_strdup (config->string (config, "path"));
  storage->git = g_strdup (config->string (config, "git"));
  storage->hook_dir = g_strdup (config->string (config, "hook_dir"));
  storage->crash_at = g_strdup (config->string (config, "crash_at"));
  storage->trash_grace_us = config->integer (config, "trash_grace");
  storage->lock_wait_us = config->integer (config, "lock_wait");
  storage->max_push_bytes = (guint64) config->integer (config, "max_push_bytes");
  storage->max_remote_refs = config->integer (config, "max_remote_refs");
  storage->max_change_bytes = (guint64) config->integer (config, "max_change_bytes");
  storage->max_repos_open = config->integer (config, "max_repos_open");
  storage->child_cpu_seconds = (config->integer (config, "child_cpu") + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC;
  storage->child_memory = (guint64) config->integer (config, "child_memory");
  storage->sync = config->boolean (config, "fsync");
  storage->fsck_strict = g_strcmp0 (config->string (config, "fsck"), "strict") == 0;
  storage->deny_deletes = config->boolean (config, "deny_deletes");
  storage->deny_non_fast_forwards = config->boolean (config, "deny_non_fast_forwards");
  storage->run_hooks = config->boolean (config, "run_hooks");
  storage->hook_timeout_us = config->integer (config, "hook_timeout");
  storage->maintenance = config->boolean (config, "maintenance");
  storage->maintenance_packs = config->integer (config, "maintenance_packs");
  storage->full_repack_us = config->integer (config, "full_repack_every");
  storage->old_tree = config->boolean (config, "old_tree");
  storage->remote_allow = g_strdupv ((char **) config->list (config, "remote_allow"));
  storage->marker_fd = -1;
  gs_mutex_init (&storage->lock);
  gs_cond_init (&storage->written);
  storage->repos = g_hash_table_new (g_str_hash, g_str_equal);
  storage->removing = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  storage->stranded = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  storage->metric.pushes
      = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pushes_total", "Pushes received.", NULL);
  storage->metric.fetches = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_fetches_total",
                                          "Fetches served by a git process.", NULL);
  storage->metric.native_lists = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_ref_lists_total",
                                               "Ref listings answered to git clients without a process.", NULL);
  storage->metric.children
      = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_children_total", "git processes started.", NULL);
  storage->metric.killed = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_children_ended_total",
                                         "git processes ended before they were done.", NULL);
  storage->metric.packs_written = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_maintenance_packs_total",
                                                "Packs written by maintenance.", NULL);
  storage->metric.maintain_seconds = host->metric (host, GS_METRIC_HISTOGRAM, "gitstead_storage_maintenance_seconds",
                                                   "Time one replica's maintenance took.", NULL);
  storage->packs
      = pack_cache_new (storage, (guint64) config->integer (config, "pack_cache"),
                        config->integer (config, "pack_cache_age"), (guint) config->integer (config, "pack_cache_uses"));
  maintain_init (storage);
  return storage;
}

static gboolean
find_git (Storage *storage, GError **error)
{
  g_autofree char *found = g_find_program_in_path (storage->git);
  g_autofree char *absolute = found != NULL ? g_canonicalize_filename (found, NULL) : NULL;
  if (absolute == NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "there is no program %s: install git or set the option git",
                    storage->git);
  g_autofree char *dir = g_path_get_dirname (absolute);
  g_free (storage->git);
  storage->git = g_steal_pointer (&absolute);
  storage->git_path = g_strconcat (dir, ":/usr/local/bin:/usr/bin:/bin", NULL);
  return TRUE;
}

static gboolean
hook_is_there (const char *dir)
{
  g_autofree char *receive = g_build_filename (dir, "proc-receive", NULL);
  g_autofree char *pack = g_build_filename (dir, "pack-objects", NULL);
  return access (receive, X_OK) == 0 && access (pack, X_OK) == 0;
}

static gboolean
find_hook_dir (Storage *storage, GError **error)
{
  static const char *const beside[] = { "storage/git/hook", "hooks" };
  Dl_info info;
  if (storage->hook_dir != NULL)
    {
      g_autofree char *absolute = g_canonicalize_filename (storage->hook_dir, NULL);
      if (!hook_is_there (absolute))
        return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "hook_dir %s has no executables proc-receive and pack-objects",
                        absolute);
      g_free (storage->hook_dir);
      storage->hook_dir = g_steal_pointer (&absolute);
      return TRUE;
    }
  if (dladdr ((const void *) (gsize) git_options, &info) != 0 && info.dli_fname != NULL)
    {
      g_autofree char *here = g_path_get_dirname (info.dli_fname);
      g_autofree char *absolute = g_canonicalize_filename (here, NULL);
      for (gsize i = 0; i < G_N_ELEMENTS (beside); i++)
        {
          g_autofree char *dir = g_build_filename (absolute, beside[i], NULL);
          if (hook_is_there (dir))
            {
              storage->hook_dir = g_steal_pointer (&dir);
              return TRUE;
            }
        }
    }
  if (!hook_is_there (STORAGE_GIT_HOOK_DIR))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the programs proc-receive and pack-objects are neither beside the plugin nor in %s: set the option hook_dir",
                    STORAGE_GIT_HOOK_DIR);
  storage->hook_dir = g_strdup (STORAGE_GIT_HOOK_DIR);
  return TRUE;
}

static gboolean
git_start (gpointer self, GError **error)
{
  Storage *storage = self;
  char *absolute = g_canonicalize_filename (storage->root, NULL);
  g_free (storage->root);
  storage->root = absolute;
  if (!remote_allow_check ((const char *const *) storage->remote_allow, error) || !maintain_start (storage, error)
      || !find_git (storage, error) || !find_hook_dir (storage, error))
    return FALSE;
  pack_cache_start (storage->packs);
  return storage_root_open (storage, error) && objects_library_start (storage, error) && advertise_probe (storage, error)
         && (storage_root_was_clean (storage, NULL) || storage_recover (storage, error));
}

static void
git_stop (gpointer self)
{
  Storage *storage = self;
  gs_mutex_lock (&storage->lock);
  GPtrArray *victims = collect_idle (storage, 0);
  gboolean clean = g_hash_table_size (storage->repos) == 0;
  gs_mutex_unlock (&storage->lock);
  free_victims (victims);
  storage_root_close (storage, clean);
}

static void
git_destroy (gpointer self)
{
  Storage *storage = self;
  free_victims (collect_idle (storage, 0));
  storage_root_close (storage, FALSE);
  objects_library_stop (storage);
  maintain_clear (storage);
  pack_cache_free (storage->packs);
  g_hash_table_unref (storage->repos);
  g_hash_table_unref (storage->removing);
  g_hash_table_unref (storage->stranded);
  g_clear_pointer (&storage->loans, g_ptr_array_unref);
  gs_cond_clear (&storage->written);
  gs_mutex_clear (&storage->lock);
  g_free (storage->root);
  g_free (storage->git);
  g_free (storage->git_path);
  g_free (storage->hook_dir);
  g_free (storage->crash_at);
  g_strfreev (storage->remote_allow);
  g_free (storage->upload_caps);
  g_free (storage->receive_caps);
  g_free (storage->v2_advertisement);
  g_free (storage);
}

GS_PLUGIN_DEFINE (GsStorageOps, .kind = GS_KIND_STORAGE, .threads = GS_THREADS_PARALLEL, .name = "git",
                  .version = "0.1.0", .summary = "Bare Git repositories on a local file system",
                  .license = "Apache-2.0", .options = git_options, .ops = &git_ops, .create = git_create,
                  .start = git_start, .stop = git_stop, .destroy = git_destroy)
