/* SPDX-License-Identifier: Apache-2.0 */
/* One fetch that takes its pack from the cache: see packcache.h. All of it on the fetch's thread. */
#include "packcache_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_MAX 65536 /* as hook/pack-objects.c has it */
#define COMMAND_FDS 3     /* input, output, standard error */
#define OUTPUT_PIPE (256 * 1024)
#define TURNS 16 /* pieces, before the call is looked at again */
#define TAGS "refs/tags/"

struct PackFetch
{
  Repo *repo;
  PackCache *cache;
  int socket, theirs; /* the pair; @theirs is -1 once the child has it */
  const char *settings[3];
  ChildBeside beside;

  /* while a pack is served */
  Pack *pack; /* NULL = none is */
  PackReader reader;
  int output, said;
  gboolean quiet; /* no progress is wanted */
  guint8 *buffer;
  gsize at, len;
  gboolean waits; /* for the maker */
  gsize said_at;
  guint line_serial;
};

typedef enum
{
  TAKE_SOME,
  TAKE_WAIT,
  TAKE_END,
  TAKE_FAILED,
  TAKE_DROPPED
} Taken;

/* ------------------------------------------------------------------------------------------------ the end */

static void
close_fd (int *fd)
{
  if (*fd >= 0)
    close (*fd);
  *fd = -1;
}

/* Its descriptors are shared with the program that waits for the answer, which may go on with them itself. */
static void
answer (PackFetch *fetch, char how)
{
  const int fds[] = { fetch->output, fetch->said };
  for (gsize i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fds[i] >= 0 && how == 'r')
      fcntl (fds[i], F_SETFL, fcntl (fds[i], F_GETFL) & ~O_NONBLOCK);
  close_fd (&fetch->output);
  close_fd (&fetch->said);
  if (how == 'r')
    fetch->cache->storage->host->metric_update (fetch->cache->metric.bypassed, 1);
  (void) !send (fetch->socket, &how, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
leave (PackFetch *fetch)
{
  if (fetch->pack != NULL)
    pack_leave (fetch->pack, &fetch->reader);
  fetch->pack = NULL;
  close_fd (&fetch->reader.wake);
  g_clear_pointer (&fetch->buffer, g_free);
}

static void
finish (PackFetch *fetch, char how)
{
  leave (fetch);
  answer (fetch, how);
}

/* ----------------------------------------------------------------------------------------------- serving */

/* Progress is no reason to wait: what does not go out now is made up for later, or not at all. */
static void
send_said (PackFetch *fetch, gboolean failed)
{
  Pack *pack = fetch->pack;
  char text[2 * PACK_SAID_MAX];
  gsize len = 0, lines = 0;
  gs_mutex_lock (&pack->cache->lock);
  if (!fetch->quiet)
    {
      lines = pack->said->len - fetch->said_at;
      memcpy (text, pack->said->str + fetch->said_at, lines);
      len = lines;
      if (pack->line_serial != fetch->line_serial && pack->line->len > 0
          && pack->line->str[pack->line->len - 1] == '\r')
        {
          memcpy (text + len, pack->line->str, pack->line->len);
          len += pack->line->len;
        }
      fetch->line_serial = pack->line_serial;
    }
  else if (failed && pack->said->len > 0)
    {
      /* Why, at least. */
      const char *end = pack->said->str + pack->said->len - 1;
      const char *begin = memrchr (pack->said->str, '\n', (gsize) (end - pack->said->str));
      begin = begin != NULL ? begin + 1 : pack->said->str;
      len = (gsize) (end - begin) + 1;
      memcpy (text, begin, len);
    }
  gs_mutex_unlock (&pack->cache->lock);
  if (len == 0)
    return;
  ssize_t wrote = write (fetch->said, text, len);
  if (wrote > 0)
    fetch->said_at += MIN ((gsize) wrote, lines);
}

/* Outside the lock. How many bytes; 0 with errno set when there are none. */
static gsize
read_back (PackFetch *fetch, gsize len)
{
  ssize_t got = pread (fetch->pack->file, fetch->buffer, len, (off_t) fetch->reader.taken);
  if (got == 0)
    errno = EIO;
  return (gsize) MAX (got, 0);
}

/* FALSE: this one has been let go of, and nothing is kept for it any more. */
static gboolean
note_taken (PackFetch *fetch, gsize len)
{
  Pack *pack = fetch->pack;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&pack->cache->lock);
  if (fetch->reader.dropped)
    return FALSE;
  fetch->reader.taken += len;
  fetch->reader.took_us = g_get_monotonic_time ();
  if (pack->waits)
    pack_wake_maker (pack);
  return TRUE;
}

/* What git has made so far: from the file, or the piece that is handed around. */
static Taken
take (PackFetch *fetch, GError **error)
{
  Pack *pack = fetch->pack;
  PackReader *reader = &fetch->reader;
  gboolean from_file;
  int failed = 0;
  gsize len = 0;
  Taken taken = TAKE_SOME;
  gs_mutex_lock (&pack->cache->lock);
  from_file = reader->taken < pack->filed;
  if (reader->dropped)
    taken = TAKE_DROPPED;
  else if (from_file)
    len = (gsize) MIN (PACK_PIECE, pack->filed - reader->taken);
  else if (reader->taken < pack->made)
    {
      len = (gsize) (pack->made - reader->taken);
      memcpy (fetch->buffer, pack->tail->data + pack->tail->len - len, len);
    }
  else if (pack->ended)
    taken = pack->failed ? TAKE_FAILED : TAKE_END;
  else
    {
      reader->waits = TRUE;
      taken = TAKE_WAIT;
    }
  gs_mutex_unlock (&pack->cache->lock);
  if (taken != TAKE_SOME)
    return taken;
  if (from_file)
    {
      len = read_back (fetch, len);
      failed = len == 0 ? errno : 0;
    }
  /* In this order: the file may have been cut because this reader was let go of, and that is no fault of the disk. */
  if (!note_taken (fetch, len))
    return TAKE_DROPPED;
  if (failed != 0)
    {
      fsu_fail (error, failed, "read a pack of the pack cache");
      return TAKE_FAILED;
    }
  fetch->at = 0;
  fetch->len = len;
  fetch->cache->storage->host->metric_update (fetch->cache->metric.served, (double) len);
  return TAKE_SOME;
}

/* Nobody else gets what cannot be read back. */
static void
give_up_pack (PackFetch *fetch, const GError *why)
{
  Storage *storage = fetch->cache->storage;
  const GsField fields[] = { GS_TEXT ("replica", fetch->repo->path), GS_TEXT ("error", why->message) };
  gboolean unlisted;
  gs_mutex_lock (&fetch->cache->lock);
  unlisted = pack_unlist (fetch->pack);
  gs_mutex_unlock (&fetch->cache->lock);
  if (unlisted)
    pack_unref (fetch->pack);
  storage->host->log (storage->host, GS_LOG_WARNING, "storage.pack-cache.unreadable", fields, G_N_ELEMENTS (fields));
}

static void
log_stalled (const PackFetch *fetch)
{
  Storage *storage = fetch->cache->storage;
  const GsField fields[] = { GS_TEXT ("replica", fetch->repo->path) };
  storage->host->log (storage->host, GS_LOG_INFO, "storage.pack-cache.stalled", fields, G_N_ELEMENTS (fields));
}

static gboolean
is_dropped (const PackFetch *fetch)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fetch->cache->lock);
  return fetch->reader.dropped;
}

static gboolean
nothing_came (const PackFetch *fetch)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&fetch->cache->lock);
  return fetch->reader.taken == 0 && fetch->pack->made == 0;
}

/* As much as goes without waiting. */
static void
serve_some (PackFetch *fetch)
{
  fetch->waits = FALSE;
  /* Now, and not when its client takes the rest of a piece, which may be never. */
  if (is_dropped (fetch))
    {
      log_stalled (fetch);
      finish (fetch, '1');
      return;
    }
  for (guint turn = 0; turn < TURNS; turn++)
    {
      g_autoptr (GError) why = NULL;
      send_said (fetch, FALSE);
      if (fetch->at < fetch->len)
        {
          ssize_t wrote = write (fetch->output, fetch->buffer + fetch->at, fetch->len - fetch->at);
          if (wrote < 0 && errno == EINTR)
            continue;
          if (wrote < 0 && errno == EAGAIN)
            return;
          if (wrote < 0)
            {
              finish (fetch, '1');
              return;
            }
          fetch->at += (gsize) wrote;
          continue;
        }
      switch (take (fetch, &why))
        {
        case TAKE_SOME:
          continue;
        case TAKE_WAIT:
          fetch->waits = TRUE;
          return;
        case TAKE_END:
          send_said (fetch, FALSE);
          finish (fetch, '0');
          return;
        case TAKE_DROPPED:
          log_stalled (fetch);
          finish (fetch, '1');
          return;
        case TAKE_FAILED:
          if (why != NULL)
            give_up_pack (fetch, why);
          if (why == NULL && nothing_came (fetch))
            {
              finish (fetch, 'r');
              return;
            }
          send_said (fetch, TRUE);
          finish (fetch, '1');
          return;
        }
    }
}

/* ----------------------------------------------------------------------------------------------- the key */

/* With --include-tag the tags there are have their say. */
static gboolean
add_tags (Repo *repo, GChecksum *sum, GError **error)
{
  RefSnapshot *refs = ref_store_snapshot (repo->refs, error);
  if (refs == NULL)
    return FALSE;
  gsize n = ref_snapshot_count (refs);
  for (gsize i = ref_snapshot_seek (refs, TAGS); i < n; i++)
    {
      RefEntry entry;
      ref_snapshot_get (refs, i, &entry);
      if (!g_str_has_prefix (entry.name, TAGS))
        break;
      g_checksum_update (sum, (const guchar *) entry.name, (gssize) entry.name_len + 1);
      g_checksum_update (sum, entry.oid.raw, entry.oid.len);
    }
  ref_snapshot_unref (refs);
  return TRUE;
}

static gboolean
add_input (int input, GChecksum *sum, GError **error)
{
  guint8 buffer[16384];
  off_t at = 0;
  for (;;)
    {
      ssize_t got = pread (input, buffer, sizeof buffer, at);
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read what a fetch asks for");
      if (got == 0)
        return TRUE;
      g_checksum_update (sum, buffer, got);
      at += got;
    }
}

/*
 * Everything that the pack depends on, but for the objects, which never change. Whether there is progress to be told is no
 * part of it.
 */
static gboolean
make_key (Repo *repo, const GPtrArray *argv, int input, char ret_key[PACK_KEY_LEN + 1], GError **error)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree char *head = g_strdup_printf ("pack 1 %" G_GUINT64_FORMAT " %d %s", repo->id, (int) repo->format, repo->path);
  gboolean tags = FALSE;
  g_checksum_update (sum, (const guchar *) head, (gssize) strlen (head) + 1);
  for (guint i = 0; argv->pdata[i] != NULL; i++)
    {
      const char *one = argv->pdata[i];
      tags = tags || strcmp (one, "--include-tag") == 0;
      if (strcmp (one, "--progress") != 0)
        g_checksum_update (sum, (const guchar *) one, (gssize) strlen (one) + 1);
    }
  g_checksum_update (sum, (const guchar *) "", 1);
  if ((tags && !add_tags (repo, sum, error)) || !add_input (input, sum, error))
    return FALSE;
  g_strlcpy (ret_key, g_checksum_get_string (sum), PACK_KEY_LEN + 1);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- a request */

/* The command without "git", and always with progress. NULL for one that this does not know. */
static GPtrArray *
read_command (char *text, gsize len, gboolean *ret_quiet)
{
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  gboolean packs = FALSE, to_output = FALSE, progress = FALSE;
  if (len == 0 || text[len - 1] != '\0')
    return NULL;
  for (char *at = text; at < text + len; at += strlen (at) + 1)
    {
      g_ptr_array_add (argv, at);
      packs = packs || strcmp (at, "pack-objects") == 0;
      to_output = to_output || (packs && strcmp (at, "--stdout") == 0);
      progress = progress || (packs && strcmp (at, "--progress") == 0);
    }
  if (!to_output || strcmp (argv->pdata[0], "git") != 0)
    return NULL;
  g_ptr_array_remove_index (argv, 0);
  if (!progress)
    g_ptr_array_add (argv, (gpointer) "--progress");
  g_ptr_array_add (argv, NULL);
  *ret_quiet = !progress;
  return g_steal_pointer (&argv);
}

/* FALSE: this one is not for the cache. */
static gboolean
find_pack (PackFetch *fetch, GPtrArray *argv, int input, GError **error)
{
  char key[PACK_KEY_LEN + 1];
  gboolean fresh;
  PackCache *cache = fetch->cache;
  const GsHost *host = cache->storage->host;
  struct stat st;
  if (fstat (input, &st) != 0 || !S_ISREG (st.st_mode) || !make_key (fetch->repo, argv, input, key, error))
    return FALSE;
  fetch->reader = (PackReader) { .wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK) };
  if (fetch->reader.wake < 0)
    return fsu_fail (error, errno, "make an event descriptor for a fetch");
  fetch->pack = pack_find (cache, key, fetch->repo, &fetch->reader, &fresh, error);
  if (fetch->pack == NULL)
    return FALSE;
  host->metric_update (fresh ? cache->metric.misses : cache->metric.hits, 1);
  fetch->buffer = g_malloc (PACK_PIECE);
  fetch->at = fetch->len = fetch->said_at = 0;
  fetch->line_serial = 0;
  return !fresh || pack_make (fetch->pack, fetch->repo, (const char *const *) argv->pdata, input, error);
}

static void
take_command (PackFetch *fetch, char *text, gsize len, int input)
{
  Storage *storage = fetch->cache->storage;
  g_autoptr (GError) error = NULL;
  g_autoptr (GPtrArray) argv = read_command (text, len, &fetch->quiet);
  gboolean found = argv != NULL && find_pack (fetch, argv, input, &error);
  if (error != NULL)
    {
      const GsField fields[] = { GS_TEXT ("replica", fetch->repo->path), GS_TEXT ("error", error->message) };
      storage->host->log (storage->host, GS_LOG_WARNING, "storage.pack-cache.failed", fields, G_N_ELEMENTS (fields));
    }
  if (!found)
    {
      finish (fetch, 'r');
      return;
    }
  fcntl (fetch->output, F_SETFL, fcntl (fetch->output, F_GETFL) | O_NONBLOCK);
  fcntl (fetch->output, F_SETPIPE_SZ, OUTPUT_PIPE); /* as much as the user may have */
  fcntl (fetch->said, F_SETFL, fcntl (fetch->said, F_GETFL) | O_NONBLOCK);
  serve_some (fetch);
}

static guint
take_fds (struct msghdr *message, int fds[COMMAND_FDS])
{
  guint n = 0;
  for (struct cmsghdr *head = CMSG_FIRSTHDR (message); head != NULL; head = CMSG_NXTHDR (message, head))
    {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
        continue;
      gsize here = (head->cmsg_len - CMSG_LEN (0)) / sizeof (int);
      for (gsize i = 0; i < here; i++)
        {
          int fd;
          memcpy (&fd, CMSG_DATA (head) + i * sizeof fd, sizeof fd);
          if (n < COMMAND_FDS)
            fds[n++] = fd;
          else
            close (fd);
        }
    }
  return n;
}

/* The other end is our own program; still, what it sends is looked at. */
static void
read_socket (PackFetch *fetch)
{
  g_autofree char *text = g_malloc (COMMAND_MAX);
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE (COMMAND_FDS * sizeof (int))];
  } control;
  struct iovec data = { text, COMMAND_MAX };
  struct msghdr message
      = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  int fds[COMMAND_FDS] = { -1, -1, -1 };
  ssize_t got = recvmsg (fetch->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || errno == EAGAIN))
    return;
  guint n = got >= 0 ? take_fds (&message, fds) : 0;
  if (got <= 0 || n != COMMAND_FDS || fetch->pack != NULL)
    {
      for (guint i = 0; i < n; i++)
        close (fds[i]);
      if (got <= 0)
        close_fd (&fetch->socket);
      else
        (void) !send (fetch->socket, "r", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
      return;
    }
  fetch->output = fds[1];
  fetch->said = fds[2];
  take_command (fetch, text, (gsize) got, fds[0]);
  close (fds[0]);
}

/* ----------------------------------------------------------------------------------- beside upload-pack */

static guint
list_fds (gpointer user, struct pollfd *fds)
{
  PackFetch *fetch = user;
  fds[0] = (struct pollfd) { .fd = fetch->socket, .events = POLLIN };
  if (fetch->pack == NULL)
    return 1;
  fds[1] = (struct pollfd) { .fd = fetch->reader.wake, .events = POLLIN };
  fds[2] = (struct pollfd) { .fd = fetch->output, .events = fetch->waits ? 0 : POLLOUT };
  return 3;
}

static void
look_at_fds (gpointer user, const struct pollfd *fds, guint n)
{
  PackFetch *fetch = user;
  if (n == 3)
    {
      if (fds[1].revents != 0)
        drain_fd (fetch->reader.wake);
      if (fds[2].revents & POLLERR)
        finish (fetch, '1'); /* nobody reads it any more */
      else if (fds[1].revents != 0 || fds[2].revents != 0)
        serve_some (fetch);
    }
  if (fds[0].revents != 0)
    read_socket (fetch);
}

PackFetch *
pack_fetch_new (Repo *repo, GError **error)
{
  PackCache *cache = repo->storage->packs;
  int pair[2];
  PackFetch *fetch;
  if (cache->hook == NULL)
    return NULL;
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    {
      fsu_fail (error, errno, "make a socket for git upload-pack");
      return NULL;
    }
  fetch = g_new0 (PackFetch, 1);
  *fetch = (PackFetch) { .repo = repo, .cache = cache, .socket = pair[0], .theirs = pair[1], .output = -1, .said = -1 };
  fetch->reader.wake = -1;
  fetch->settings[0] = "uploadpack.packObjectsHook";
  fetch->settings[1] = cache->hook;
  fetch->beside = (ChildBeside) { .fds = list_fds, .ready = look_at_fds, .user = fetch };
  return fetch;
}

void
pack_fetch_spec (PackFetch *fetch, ChildSpec *spec)
{
  spec->settings = fetch->settings;
  spec->extra = fetch->theirs;
  spec->beside = &fetch->beside;
}

void
pack_fetch_started (PackFetch *fetch)
{
  close_fd (&fetch->theirs);
}

void
pack_fetch_free (PackFetch *fetch)
{
  if (fetch == NULL)
    return;
  leave (fetch);
  close_fd (&fetch->output);
  close_fd (&fetch->said);
  close_fd (&fetch->socket);
  close_fd (&fetch->theirs);
  g_free (fetch);
}
