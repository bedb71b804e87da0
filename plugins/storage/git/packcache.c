/* SPDX-License-Identifier: Apache-2.0 */
/* The table of packs that fetches share: see packcache.h. */
#include "packcache_internal.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define PACKS_MAX 256u
#define PACKS_SHARE 16u /* of the descriptors that the process may have: each pack holds one */
#define ASKED_MAX 4096u
#define PAST_US (G_TIME_SPAN_DAY)

/* ---------------------------------------------------------------------------------------------- life */

PackCache *
pack_cache_new (Storage *storage, guint64 max_bytes, gint64 age_us, guint min_uses)
{
  const GsHost *host = storage->host;
  PackCache *cache = g_new0 (PackCache, 1);
  struct rlimit files = { 0, 0 };
  getrlimit (RLIMIT_NOFILE, &files);
  *cache = (PackCache) { .storage = storage,
                         .max_bytes = max_bytes,
                         .age_us = age_us,
                         .min_uses = min_uses,
                         .max_packs = (guint) CLAMP (files.rlim_cur / PACKS_SHARE, 1, PACKS_MAX),
                         .stall_us = PACK_STALL_US };
  gs_mutex_init (&cache->lock);
  cache->packs = g_hash_table_new (g_str_hash, g_str_equal);
  cache->asked = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  cache->past = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, g_free);
  cache->metric.hits = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pack_cache_hits_total",
                                     "Fetches that shared a pack made for an earlier one.", NULL);
  cache->metric.misses = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pack_cache_misses_total",
                                       "Fetches that a pack was made for.", NULL);
  cache->metric.bypassed = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pack_cache_bypassed_total",
                                         "Fetches that went past the pack cache: too large for it, or it failed.", NULL);
  cache->metric.made = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pack_cache_made_bytes_total",
                                     "Bytes of packs that git made for the pack cache.", NULL);
  cache->metric.served = host->metric (host, GS_METRIC_COUNTER, "gitstead_storage_pack_cache_served_bytes_total",
                                       "Bytes of packs that fetches took from the pack cache.", NULL);
  cache->metric.bytes = host->metric (host, GS_METRIC_GAUGE, "gitstead_storage_pack_cache_bytes",
                                      "Disk space that packs of the pack cache take, in files without names.", NULL);
  cache->metric.packs = host->metric (host, GS_METRIC_GAUGE, "gitstead_storage_pack_cache_packs",
                                      "Packs that the next fetch could share.", NULL);
  return cache;
}

/* git gives the value to a shell if it has any of these, and else runs it. */
void
pack_cache_start (PackCache *cache)
{
  g_autofree char *hook = g_build_filename (cache->storage->hook_dir, "pack-objects", NULL);
  if (cache->max_bytes == 0)
    return;
  cache->hook = strpbrk (hook, "|&;<>()$`\\\"' \t\n*?[#~=%") != NULL ? g_shell_quote (hook) : g_steal_pointer (&hook);
}

/* Takes what is given up; freed outside the lock. */
static void
drop_all (GPtrArray *gone)
{
  for (guint i = 0; i < gone->len; i++)
    pack_unref (gone->pdata[i]);
  g_ptr_array_unref (gone);
}

void
pack_cache_free (PackCache *cache)
{
  GPtrArray *gone;
  GHashTableIter iter;
  gpointer pack;
  if (cache == NULL)
    return;
  gone = g_ptr_array_new ();
  gs_mutex_lock (&cache->lock);
  g_hash_table_iter_init (&iter, cache->packs);
  while (g_hash_table_iter_next (&iter, NULL, &pack))
    {
      ((Pack *) pack)->listed = FALSE;
      g_hash_table_iter_remove (&iter);
      g_ptr_array_add (gone, pack);
    }
  gs_mutex_unlock (&cache->lock);
  drop_all (gone);
  g_hash_table_unref (cache->packs);
  g_hash_table_unref (cache->asked);
  g_hash_table_unref (cache->past);
  gs_mutex_clear (&cache->lock);
  g_free (cache->hook);
  g_free (cache);
}

/* Another thread may have shown older figures after newer ones, so it looks again. */
void
pack_cache_tell (PackCache *cache)
{
  guint64 bytes;
  guint packs;
  gboolean same;
  gs_mutex_lock (&cache->lock);
  do
    {
      bytes = cache->held;
      packs = g_hash_table_size (cache->packs);
      gs_mutex_unlock (&cache->lock);
      cache->storage->host->metric_update (cache->metric.bytes, (double) bytes);
      cache->storage->host->metric_update (cache->metric.packs, packs);
      gs_mutex_lock (&cache->lock);
      same = bytes == cache->held && packs == g_hash_table_size (cache->packs);
    }
  while (!same);
  gs_mutex_unlock (&cache->lock);
}

/* --------------------------------------------------------------------------------------------- a pack */

void
wake_fd (int fd)
{
  (void) !eventfd_write (fd, 1);
}

void
drain_fd (int fd)
{
  eventfd_t n;
  (void) !eventfd_read (fd, &n);
}

static Pack *
pack_new (PackCache *cache, const char *key, const Repo *repo, GError **error)
{
  Pack *pack = g_new0 (Pack, 1);
  *pack = (Pack) { .cache = cache, .repo_id = repo->id, .file = -1, .from = -1, .refs = 1 };
  pack->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (pack->wake < 0 || (pack->file = storage_spool (cache->storage, error)) < 0)
    {
      if (pack->wake < 0)
        fsu_fail (error, errno, "make an event descriptor for a pack");
      else
        close (pack->wake);
      g_free (pack);
      return NULL;
    }
  g_strlcpy (pack->key, key, sizeof pack->key);
  pack->replica = g_strdup (repo->path);
  pack->readers = g_ptr_array_new ();
  pack->tail = g_byte_array_new ();
  pack->said = g_string_new (NULL);
  pack->line = g_string_new (NULL);
  return pack;
}

void
pack_unref (Pack *pack)
{
  PackCache *cache = pack->cache;
  gboolean last;
  gs_mutex_lock (&cache->lock);
  last = --pack->refs == 0;
  if (last)
    cache->held -= pack->held;
  gs_mutex_unlock (&cache->lock);
  if (!last)
    return;
  close (pack->file);
  if (pack->wake >= 0)
    close (pack->wake);
  g_free (pack->replica);
  g_ptr_array_unref (pack->readers);
  g_byte_array_unref (pack->tail);
  g_string_free (pack->said, TRUE);
  g_string_free (pack->line, TRUE);
  g_free (pack);
  pack_cache_tell (cache);
}

gboolean
pack_unlist (Pack *pack)
{
  if (!pack->listed)
    return FALSE;
  pack->listed = FALSE;
  g_hash_table_remove (pack->cache->packs, pack->key);
  return TRUE;
}

void
pack_wake_maker (Pack *pack)
{
  pack->waits = FALSE;
  if (pack->wake >= 0)
    wake_fd (pack->wake);
}

void
pack_wake_readers (Pack *pack, gboolean all)
{
  for (guint i = 0; i < pack->readers->len; i++)
    {
      PackReader *reader = pack->readers->pdata[i];
      if (!all && !reader->waits)
        continue;
      reader->waits = FALSE;
      wake_fd (reader->wake);
    }
}

/* ------------------------------------------------------------------------------------------- giving up */

static gboolean
is_idle (const Pack *pack)
{
  return pack->ended && pack->readers->len == 0;
}

/* Those that read it may go on. */
static gboolean
is_old (const Pack *pack, gint64 now_us)
{
  return pack->ended && now_us - pack->made_us >= pack->cache->age_us;
}

/* Under the lock. */
static gboolean
give_up_oldest (PackCache *cache, GPtrArray *gone)
{
  Pack *oldest = NULL;
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, cache->packs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Pack *pack = value;
      if (is_idle (pack) && (oldest == NULL || pack->last_used_us < oldest->last_used_us))
        oldest = pack;
    }
  if (oldest == NULL)
    return FALSE;
  pack_unlist (oldest);
  g_ptr_array_add (gone, oldest);
  return TRUE;
}

/* Under the lock. */
static void
give_up_old (PackCache *cache, gint64 now_us, GPtrArray *gone)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, cache->packs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Pack *pack = value;
      if (!is_old (pack, now_us))
        continue;
      pack->listed = FALSE;
      g_hash_table_iter_remove (&iter);
      g_ptr_array_add (gone, pack);
    }
}

void
pack_cache_sweep (PackCache *cache)
{
  GPtrArray *gone = g_ptr_array_new ();
  gint64 now_us = g_get_monotonic_time ();
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&cache->lock);
  give_up_old (cache, now_us, gone);
  g_hash_table_iter_init (&iter, cache->asked);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (now_us - ((Asked *) value)->last_us >= cache->age_us)
      g_hash_table_iter_remove (&iter);
  g_hash_table_iter_init (&iter, cache->past);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    if (now_us >= *(gint64 *) value)
      g_hash_table_iter_remove (&iter);
  gs_mutex_unlock (&cache->lock);
  drop_all (gone);
  pack_cache_tell (cache);
}

void
pack_cache_forget (PackCache *cache, guint64 repo_id)
{
  GPtrArray *gone = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&cache->lock);
  g_hash_table_iter_init (&iter, cache->packs);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Pack *pack = value;
      if (pack->repo_id != repo_id)
        continue;
      pack->listed = FALSE;
      g_hash_table_iter_remove (&iter);
      g_ptr_array_add (gone, pack);
    }
  gs_mutex_unlock (&cache->lock);
  drop_all (gone);
  pack_cache_tell (cache);
}

/* The bytes are taken before they are written, so that all packs together stay below the bound. */
gboolean
pack_reserve (Pack *pack, gsize n, gboolean *ret_too_large)
{
  PackCache *cache = pack->cache;
  GPtrArray *gone = g_ptr_array_new ();
  const guint64 room = MIN (cache->max_bytes, pack->room);
  gboolean there;
  gs_mutex_lock (&cache->lock);
  *ret_too_large = pack->held + n > cache->max_bytes / 2;
  there = !*ret_too_large;
  for (guint64 freed = 0; there && cache->held + n > room + freed;)
    {
      there = give_up_oldest (cache, gone);
      if (there)
        freed += ((Pack *) gone->pdata[gone->len - 1])->held;
    }
  if (there)
    {
      cache->held += n;
      pack->held += n;
    }
  gs_mutex_unlock (&cache->lock);
  drop_all (gone);
  return there;
}

void
pack_unreserve (Pack *pack)
{
  pack->cache->held -= pack->held - pack->filed;
  pack->held = pack->filed;
}

/* ------------------------------------------------------------------------------------------ going past */

/* Under the lock. */
static void
drop_first_past (PackCache *cache)
{
  const char *first = NULL;
  gint64 first_us = G_MAXINT64;
  GHashTableIter iter;
  gpointer key, value;
  g_hash_table_iter_init (&iter, cache->past);
  while (g_hash_table_iter_next (&iter, &key, &value))
    if (*(gint64 *) value < first_us)
      {
        first = key;
        first_us = *(gint64 *) value;
      }
  if (first != NULL)
    g_hash_table_remove (cache->past, first);
}

/*
 * A pack that is too large today is so tomorrow, and each try makes those who share it go at the pace of the slowest: so this
 * is remembered for much longer than how often something was asked for. Room on a disk may be there again soon.
 */
void
pack_cache_pass (PackCache *cache, const char *key, gboolean too_large)
{
  const gint64 span_us = too_large ? MAX (PAST_US, cache->age_us) : cache->age_us;
  const gint64 until_us = g_get_monotonic_time () + span_us;
  if (!g_hash_table_contains (cache->past, key) && g_hash_table_size (cache->past) >= PACK_PAST_MAX)
    drop_first_past (cache);
  g_hash_table_replace (cache->past, g_strdup (key), g_memdup2 (&until_us, sizeof until_us));
}

/* Under the lock. */
static gboolean
goes_past (PackCache *cache, const char *key, gint64 now_us)
{
  const gint64 *until_us = g_hash_table_lookup (cache->past, key);
  if (until_us == NULL)
    return FALSE;
  if (now_us < *until_us)
    return TRUE;
  g_hash_table_remove (cache->past, key);
  return FALSE;
}

/* --------------------------------------------------------------------------------------------- readers */

/* Under the lock. */
static void
note_asked (PackCache *cache, const char *key, gint64 now_us)
{
  Asked *asked = g_hash_table_lookup (cache->asked, key);
  if (asked != NULL && now_us - asked->last_us >= cache->age_us)
    *asked = (Asked) { 0 };
  if (asked == NULL)
    {
      /* More keys than this in so short a time: none of them comes often. */
      if (g_hash_table_size (cache->asked) >= ASKED_MAX)
        g_hash_table_remove_all (cache->asked);
      asked = g_new0 (Asked, 1);
      g_hash_table_insert (cache->asked, g_strdup (key), asked);
    }
  asked->n++;
  asked->last_us = now_us;
}

/* Under the lock. */
static void
join_readers (Pack *pack, PackReader *reader)
{
  pack->refs++;
  reader->took_us = g_get_monotonic_time ();
  g_ptr_array_add (pack->readers, reader);
}

Pack *
pack_find (PackCache *cache, const char *key, const Repo *repo, PackReader *reader, gboolean *ret_new, GError **error)
{
  GPtrArray *gone = g_ptr_array_new ();
  gint64 now_us = g_get_monotonic_time ();
  gboolean past;
  Pack *pack, *made = NULL;
  gs_mutex_lock (&cache->lock);
  give_up_old (cache, now_us, gone);
  note_asked (cache, key, now_us);
  past = goes_past (cache, key, now_us);
  pack = g_hash_table_lookup (cache->packs, key);
  if (pack == NULL && !past)
    {
      gs_mutex_unlock (&cache->lock);
      made = pack_new (cache, key, repo, error);
      gs_mutex_lock (&cache->lock);
      pack = g_hash_table_lookup (cache->packs, key);
      *ret_new = pack == NULL && made != NULL;
      while (*ret_new && g_hash_table_size (cache->packs) >= cache->max_packs && give_up_oldest (cache, gone))
        ;
      if (*ret_new)
        {
          pack = g_steal_pointer (&made);
          pack->listed = TRUE;
          g_hash_table_insert (cache->packs, pack->key, pack);
        }
    }
  else
    *ret_new = FALSE;
  if (pack != NULL)
    join_readers (pack, reader);
  gs_mutex_unlock (&cache->lock);
  if (made != NULL)
    pack_unref (made);
  drop_all (gone);
  if (pack != NULL)
    {
      g_clear_error (error);
      pack_cache_tell (cache);
    }
  return pack;
}

static void sweep_later (PackCache *cache);

/* As long as there is anything that will be too old one day. */
static void
sweep_work (gpointer user)
{
  PackCache *cache = user;
  gboolean more;
  pack_cache_sweep (cache);
  gs_mutex_lock (&cache->lock);
  cache->sweeps = more = g_hash_table_size (cache->packs) > 0;
  gs_mutex_unlock (&cache->lock);
  if (more)
    sweep_later (cache);
}

/* Where there is no timer to be had, maintenance comes by too. */
static void
sweep_later (PackCache *cache)
{
  const GsHost *host = cache->storage->host;
  if (host->timer (host, cache->age_us, sweep_work, cache) != 0)
    return;
  gs_mutex_lock (&cache->lock);
  cache->sweeps = FALSE;
  gs_mutex_unlock (&cache->lock);
}

/* Under the lock: nobody reads it any more. Is it kept for others? */
static gboolean
is_kept (const Pack *pack)
{
  const Asked *asked = g_hash_table_lookup (pack->cache->asked, pack->key);
  return pack->ended && !pack->failed && !pack->narrow
         && (pack->cache->min_uses <= 1 || (asked != NULL && asked->n >= pack->cache->min_uses));
}

void
pack_leave (Pack *pack, PackReader *reader)
{
  PackCache *cache = pack->cache;
  gboolean unlisted = FALSE, join = FALSE, sweep = FALSE;
  gs_mutex_lock (&cache->lock);
  g_ptr_array_remove (pack->readers, reader);
  pack->last_used_us = g_get_monotonic_time ();
  if (pack->readers->len == 0)
    {
      pack->stop = !pack->ended;
      if (!is_kept (pack))
        unlisted = pack_unlist (pack);
      sweep = pack->listed && !cache->sweeps;
      cache->sweeps = cache->sweeps || sweep;
      join = pack->threaded && !pack->joined;
      pack->joined = pack->joined || join;
    }
  if (!pack->ended)
    pack_wake_maker (pack);
  gs_mutex_unlock (&cache->lock);
  if (join)
    gs_thread_join (pack->thread);
  if (unlisted)
    pack_unref (pack);
  pack_unref (pack);
  pack_cache_tell (cache);
  if (sweep)
    sweep_later (cache);
}
