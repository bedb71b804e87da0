/* SPDX-License-Identifier: Apache-2.0 */
/* See cutter.h. One thread passes on what comes. */
#include "cutter.h"

#include <gitstead/thread.h>

#include "fakehost.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAIRS_MAX 32
#define SOCKET_NAME ".s.PGSQL.5432"

typedef struct
{
  int client, server;
  gboolean committing;
} Pair;

struct Cutter
{
  char *server, *folder;
  GsThread thread;
  int wake_fd, listen_fd; /* the latter is the thread's */
  Pair pairs[PAIRS_MAX];  /* the thread's */
  guint n_pairs;
  GsMutex lock;
  GsCond settled;
  CutterMode wanted, mode;
  gboolean stop;
};

static struct sockaddr_un
address_in (const char *folder)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_autofree char *path = g_build_filename (folder, SOCKET_NAME, NULL);
  if (g_strlcpy (address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
    g_error ("%s is too long for a socket", path);
  return address;
}

static void
open_door (Cutter *cutter)
{
  struct sockaddr_un address = address_in (cutter->folder);
  if (cutter->listen_fd >= 0)
    return;
  unlink (address.sun_path);
  cutter->listen_fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind (cutter->listen_fd, (struct sockaddr *) &address, sizeof address) != 0
      || listen (cutter->listen_fd, 16) != 0)
    g_error ("%s: %s", address.sun_path, g_strerror (errno));
}

static void
cut (Cutter *cutter, guint i)
{
  close (cutter->pairs[i].client);
  close (cutter->pairs[i].server);
  cutter->pairs[i] = cutter->pairs[--cutter->n_pairs];
}

static void
shut_door (Cutter *cutter)
{
  if (cutter->listen_fd >= 0)
    close (cutter->listen_fd);
  cutter->listen_fd = -1;
  while (cutter->n_pairs > 0)
    cut (cutter, 0);
}

static void
let_in (Cutter *cutter)
{
  struct sockaddr_un address = address_in (cutter->server);
  Pair pair = { accept4 (cutter->listen_fd, NULL, NULL, SOCK_CLOEXEC), socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                FALSE };
  if (cutter->n_pairs == PAIRS_MAX)
    g_error ("more than %d connections", PAIRS_MAX);
  if (connect (pair.server, (struct sockaddr *) &address, sizeof address) == 0)
    {
      cutter->pairs[cutter->n_pairs++] = pair;
      return;
    }
  close (pair.client);
  close (pair.server);
}

/* FALSE when the connection is to be cut. */
static gboolean
pass_on (int from, int to, gboolean *ret_commit)
{
  char bytes[65536];
  ssize_t n = read (from, bytes, sizeof bytes);
  if (n <= 0)
    return FALSE;
  *ret_commit = memmem (bytes, (size_t) n, "COMMIT", sizeof "COMMIT") != NULL;
  return to < 0 || send (to, bytes, (size_t) n, MSG_NOSIGNAL) == n;
}

/* What is to be read is taken off @from; FALSE when the connection is to be cut. */
static gboolean
serve (Cutter *cutter, Pair *pair, short client, short server)
{
  gboolean commit = FALSE;
  if (server != 0 && !pass_on (pair->server, pair->committing ? -1 : pair->client, &commit))
    return FALSE;
  if (server != 0 && pair->committing)
    return FALSE;
  if (client == 0)
    return TRUE;
  if (cutter->mode == CUTTER_BEFORE_COMMIT)
    {
      char bytes[65536];
      ssize_t n = recv (pair->client, bytes, sizeof bytes, MSG_PEEK);
      if (n > 0 && memmem (bytes, (size_t) n, "COMMIT", sizeof "COMMIT") != NULL)
        return FALSE;
    }
  if (!pass_on (pair->client, pair->server, &commit))
    return FALSE;
  pair->committing = commit && cutter->mode == CUTTER_AFTER_COMMIT;
  return TRUE;
}

/* FALSE at the end. */
static gboolean
take_mode (Cutter *cutter)
{
  guint64 n;
  gboolean more;
  (void) !read (cutter->wake_fd, &n, sizeof n);
  gs_mutex_lock (&cutter->lock);
  more = !cutter->stop;
  if (!more || cutter->wanted == CUTTER_AWAY)
    shut_door (cutter);
  else
    open_door (cutter);
  cutter->mode = cutter->wanted;
  gs_cond_broadcast (&cutter->settled);
  gs_mutex_unlock (&cutter->lock);
  return more;
}

static void *
cutter_main (void *data)
{
  Cutter *cutter = data;
  for (;;)
    {
      struct pollfd fds[2 + 2 * PAIRS_MAX];
      gboolean frozen = cutter->mode == CUTTER_FROZEN;
      guint n_pairs = cutter->n_pairs;
      fds[0] = (struct pollfd){ cutter->wake_fd, POLLIN, 0 };
      fds[1] = (struct pollfd){ frozen ? -1 : cutter->listen_fd, POLLIN, 0 };
      for (guint i = 0; i < n_pairs; i++)
        {
          fds[2 + 2 * i] = (struct pollfd){ frozen ? -1 : cutter->pairs[i].client, POLLIN, 0 };
          fds[3 + 2 * i] = (struct pollfd){ frozen ? -1 : cutter->pairs[i].server, POLLIN, 0 };
        }
      if (poll (fds, 2 + 2 * n_pairs, -1) < 0)
        continue;
      if (fds[0].revents != 0)
        {
          if (!take_mode (cutter))
            return NULL;
          continue;
        }
      for (guint i = n_pairs; i-- > 0;)
        if ((fds[2 + 2 * i].revents != 0 || fds[3 + 2 * i].revents != 0)
            && !serve (cutter, &cutter->pairs[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents))
          cut (cutter, i);
      if (fds[1].revents != 0)
        let_in (cutter);
    }
}

Cutter *
cutter_new (const char *server)
{
  Cutter *cutter = g_new0 (Cutter, 1);
  cutter->server = g_strdup (server);
  cutter->folder = fake_tempdir_new ();
  cutter->wake_fd = eventfd (0, EFD_CLOEXEC);
  cutter->listen_fd = -1;
  gs_mutex_init (&cutter->lock);
  gs_cond_init (&cutter->settled);
  open_door (cutter);
  if (gs_thread_start (&cutter->thread, "cutter", cutter_main, cutter) != 0)
    g_error ("no thread");
  return cutter;
}

static void
wake (Cutter *cutter)
{
  guint64 one = 1;
  (void) !write (cutter->wake_fd, &one, sizeof one);
}

void
cutter_set (Cutter *cutter, CutterMode mode)
{
  gs_mutex_lock (&cutter->lock);
  cutter->wanted = mode;
  wake (cutter);
  while (cutter->mode != mode)
    gs_cond_wait (&cutter->settled, &cutter->lock);
  gs_mutex_unlock (&cutter->lock);
}

const char *
cutter_folder (Cutter *cutter)
{
  return cutter->folder;
}

void
cutter_free (Cutter *cutter)
{
  gs_mutex_lock (&cutter->lock);
  cutter->stop = TRUE;
  gs_mutex_unlock (&cutter->lock);
  wake (cutter);
  gs_thread_join (cutter->thread);
  close (cutter->wake_fd);
  fake_tempdir_remove (cutter->folder);
  gs_cond_clear (&cutter->settled);
  gs_mutex_clear (&cutter->lock);
  g_free (cutter->server);
  g_free (cutter);
}
