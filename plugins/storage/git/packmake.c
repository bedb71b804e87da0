/* SPDX-License-Identifier: Apache-2.0 */
/* Making a pack that fetches share: a thread that reads it from git, see packcache_internal.h. */
#include "packcache_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_EVERY (4u << 20) /* bytes, until the free space is looked at again */
#define LOOK_AGAIN_MS 1000
#define PIPE_BYTES (256 * 1024)

/* ------------------------------------------------------------------------------------------- what it says */

/* Under the lock. Lines that end are kept, for those who come later; of one that is rewritten, what it says now. */
static void
take_said (Pack *pack, const char *text, gsize len)
{
  for (gsize i = 0; i < len; i++)
    {
      if (pack->line->len > 0 && pack->line->str[pack->line->len - 1] == '\r')
        g_string_truncate (pack->line, 0);
      if (pack->line->len < PACK_SAID_MAX - 1 || text[i] == '\r' || text[i] == '\n')
        g_string_append_c (pack->line, text[i]);
      if (text[i] == '\n')
        {
          if (pack->said->len + pack->line->len <= PACK_SAID_MAX)
            g_string_append_len (pack->said, pack->line->str, (gssize) pack->line->len);
          g_string_truncate (pack->line, 0);
        }
      else if (text[i] == '\r')
        pack->line_serial++;
    }
}

static void
read_said (Pack *pack)
{
  char text[1024];
  gs_mutex_lock (&pack->cache->lock);
  while (pack->child.err_fd >= 0)
    {
      ssize_t got = read (pack->child.err_fd, text, sizeof text);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0 && errno == EAGAIN)
        break;
      if (got > 0)
        {
          take_said (pack, text, (gsize) got);
          continue;
        }
      close (pack->child.err_fd);
      pack->child.err_fd = -1;
    }
  pack_wake_readers (pack, TRUE);
  gs_mutex_unlock (&pack->cache->lock);
}

/* ------------------------------------------------------------------------------------------- where it goes */

static void
note_narrow (Pack *pack, const char *why)
{
  Storage *storage = pack->cache->storage;
  const GsField fields[] = { GS_TEXT ("replica", pack->replica), GS_TEXT ("why", why) };
  storage->host->log (storage->host, GS_LOG_INFO, "storage.pack-cache.full", fields, G_N_ELEMENTS (fields));
}

/* From here on for those who read it already. */
static void
make_narrow (Pack *pack, gboolean too_large, const char *why)
{
  PackCache *cache = pack->cache;
  gboolean unlisted;
  gs_mutex_lock (&cache->lock);
  pack->narrow = TRUE;
  pack_unreserve (pack);
  unlisted = pack_unlist (pack);
  pack_cache_pass (cache, pack->key, too_large);
  gs_mutex_unlock (&cache->lock);
  if (unlisted)
    pack_unref (pack);
  note_narrow (pack, why);
}

/* What others need of the disk comes first: the cache never has more than is left free. */
static void
look_at_room (Pack *pack)
{
  struct statvfs st;
  if (pack->looked_at != 0 && pack->filed - pack->looked_at + 1 < LOOK_EVERY)
    return;
  pack->looked_at = pack->filed + 1;
  pack->room = fstatvfs (pack->file, &st) == 0 ? (guint64) st.f_bavail * st.f_frsize : 0;
}

static void
put_in_file (Pack *pack, const guint8 *data, gsize len, gsize *ret_put)
{
  gsize at = 0;
  int failed = 0;
  gboolean too_large;
  *ret_put = 0;
  look_at_room (pack);
  if (!pack_reserve (pack, len, &too_large))
    {
      make_narrow (pack, too_large, too_large ? "it is larger than half of pack_cache" : "there is no room for it");
      return;
    }
  while (at < len && failed == 0)
    {
      ssize_t wrote = pwrite (pack->file, data + at, len - at, (off_t) (pack->filed + at));
      if (wrote > 0)
        at += (gsize) wrote;
      else if (wrote == 0 || errno != EINTR)
        failed = wrote == 0 ? ENOSPC : errno;
    }
  gs_mutex_lock (&pack->cache->lock);
  pack->filed += at;
  pack->made += at;
  pack_wake_readers (pack, FALSE);
  gs_mutex_unlock (&pack->cache->lock);
  *ret_put = at;
  if (failed != 0)
    make_narrow (pack, FALSE, g_strerror (failed));
}

static void
put (Pack *pack, const guint8 *data, gsize len)
{
  gsize done = 0;
  if (!pack->narrow)
    put_in_file (pack, data, len, &done);
  if (done == len)
    return;
  gs_mutex_lock (&pack->cache->lock);
  g_byte_array_set_size (pack->tail, 0);
  g_byte_array_append (pack->tail, data + done, (guint) (len - done));
  pack->made += len - done;
  pack->tail_since_us = g_get_monotonic_time ();
  pack_wake_readers (pack, FALSE);
  gs_mutex_unlock (&pack->cache->lock);
}

/* ---------------------------------------------------------------------------------------- at what pace */

/*
 * Under the lock: who keeps others waiting and takes nothing for too long is let go of. One that is only slow goes on: it may
 * have much of the file before it.
 */
static void
drop_stalled (Pack *pack, guint64 fastest)
{
  const gint64 now_us = g_get_monotonic_time ();
  if (fastest < pack->made)
    return;
  for (guint i = pack->readers->len; i-- > 0;)
    {
      PackReader *reader = pack->readers->pdata[i];
      if (reader->taken == pack->made
          || now_us - MAX (reader->took_us, pack->tail_since_us) < pack->cache->stall_us)
        continue;
      reader->dropped = TRUE;
      wake_fd (reader->wake);
      g_ptr_array_remove_index (pack->readers, i);
    }
}

/* Under the lock: may the next piece be made? */
static gboolean
may_go_on (Pack *pack)
{
  guint64 fastest = 0, slowest = G_MAXUINT64;
  for (guint i = 0; i < pack->readers->len; i++)
    {
      const PackReader *reader = pack->readers->pdata[i];
      fastest = MAX (fastest, reader->taken);
      slowest = MIN (slowest, reader->taken);
    }
  if (!pack->narrow)
    return pack->made < fastest + PACK_AHEAD;
  if (slowest < pack->made)
    {
      drop_stalled (pack, fastest);
      return FALSE;
    }
  /* All have what is in the file. */
  if (pack->filed > 0 && ftruncate (pack->file, 0) == 0)
    {
      pack->filed = 0;
      pack_unreserve (pack);
    }
  return TRUE;
}

/* FALSE: nobody reads it any more. */
static gboolean
look_at_readers (Pack *pack, gboolean *ret_go_on)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  *ret_go_on = may_go_on (pack);
  pack->waits = !*ret_go_on;
  return !pack->stop;
}

/* ------------------------------------------------------------------------------------------------ the run */

/* One turn; FALSE at its end, @ret_whole TRUE when git gave all that it had to give. */
static gboolean
make_some (Pack *pack, guint8 *buffer, gboolean *ret_whole)
{
  struct pollfd fds[3] = { { .fd = pack->from, .events = POLLIN },
                           { .fd = pack->wake, .events = POLLIN },
                           { .fd = pack->child.err_fd, .events = POLLIN } };
  gboolean go_on;
  ssize_t got;
  if (!look_at_readers (pack, &go_on))
    return FALSE;
  if (!go_on)
    fds[0].fd = -1;
  /* While it waits for a reader that may have stalled it looks again by itself. */
  if (poll (fds, 3, go_on ? -1 : LOOK_AGAIN_MS) < 0 && errno != EINTR)
    return FALSE;
  if (fds[1].revents != 0)
    drain_fd (pack->wake);
  if (fds[2].revents != 0)
    read_said (pack);
  if (fds[0].revents == 0)
    return TRUE;
  got = read (pack->from, buffer, PACK_PIECE);
  if (got > 0)
    {
      put (pack, buffer, (gsize) got);
      pack->cache->storage->host->metric_update (pack->cache->metric.made, (double) got);
      pack_cache_tell (pack->cache);
    }
  *ret_whole = got == 0;
  return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Its output is closed: it ends by itself, or is stopped. */
static gboolean
see_it_out (Pack *pack)
{
  for (;;)
    {
      struct pollfd fds[3] = { { .fd = pack->child.pidfd, .events = POLLIN },
                               { .fd = pack->wake, .events = POLLIN },
                               { .fd = pack->child.err_fd, .events = POLLIN } };
      gboolean go_on;
      if (!look_at_readers (pack, &go_on) || (poll (fds, 3, -1) < 0 && errno != EINTR))
        return FALSE;
      if (fds[1].revents != 0)
        drain_fd (pack->wake);
      if (fds[2].revents != 0)
        read_said (pack);
      if (fds[0].revents != 0)
        break;
    }
  read_said (pack);
  int status = child_reap (&pack->child);
  return WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

static void
end_pack (Pack *pack, gboolean whole)
{
  gboolean unlisted;
  gs_mutex_lock (&pack->cache->lock);
  pack->ended = TRUE;
  pack->failed = !whole;
  pack->made_us = g_get_monotonic_time ();
  close (pack->wake);
  pack->wake = -1;
  pack_unreserve (pack);
  unlisted = !whole && pack_unlist (pack);
  pack_wake_readers (pack, TRUE);
  gs_mutex_unlock (&pack->cache->lock);
  if (unlisted)
    pack_unref (pack);
}

static void *
make_it (void *user)
{
  Pack *pack = user;
  g_autofree guint8 *buffer = g_malloc (PACK_PIECE);
  gboolean whole = FALSE;
  while (make_some (pack, buffer, &whole))
    ;
  whole = whole && see_it_out (pack);
  close (pack->from);
  child_clear (&pack->child);
  end_pack (pack, whole);
  pack_unref (pack);
  return NULL;
}

static gboolean
start_it (Pack *pack, const Repo *repo, const char *const *argv, int input, GError **error)
{
  int out[2];
  const ChildSpec spec = { .role = CHILD_PLAIN, .git_dir = repo->dir, .argv = argv, .input = input, .extra = -1 };
  ChildSpec with = spec;
  gboolean started;
  if (lseek (input, 0, SEEK_SET) != 0)
    return fsu_fail (error, errno, "read what a fetch asks for");
  if (pipe2 (out, O_CLOEXEC) != 0)
    return fsu_fail (error, errno, "make a pipe for git pack-objects");
  fcntl (out[0], F_SETPIPE_SZ, PIPE_BYTES); /* as much as the user may have */
  with.output = out[1];
  started = child_start (pack->cache->storage, &with, &pack->child, error);
  close (out[1]);
  if (!started)
    {
      close (out[0]);
      return FALSE;
    }
  pack->child.name = "pack-objects";
  pack->from = out[0];
  return TRUE;
}

gboolean
pack_make (Pack *pack, const Repo *repo, const char *const *argv, int input, GError **error)
{
  PackCache *cache = pack->cache;
  int failed = 0;
  if (start_it (pack, repo, argv, input, error))
    {
      gs_mutex_lock (&cache->lock);
      pack->refs++; /* the thread's */
      pack->threaded = TRUE;
      failed = gs_thread_start (&pack->thread, "pack", make_it, pack);
      if (failed != 0)
        {
          pack->refs--;
          pack->threaded = FALSE;
        }
      gs_mutex_unlock (&cache->lock);
      if (failed == 0)
        return TRUE;
      close (pack->from);
      child_clear (&pack->child);
      fsu_fail (error, failed, "start a thread for a pack");
    }
  end_pack (pack, FALSE);
  return FALSE;
}
