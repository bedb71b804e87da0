/* SPDX-License-Identifier: Apache-2.0 */
/* One thread, which polls all connections. See proxy.h. */
#include "proxy.h"

#include <gitstead/thread.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAIRS_MAX 128

/* A client's connection and ours to the server. */
typedef struct
{
  int client, server;
} Pair;

struct Proxy
{
  char *path, *real;
  int listener, wake;
  Pair pairs[PAIRS_MAX]; /* the thread's, as the listener */
  guint n_pairs;
  GsThread thread;
  GsMutex lock; /* of what follows */
  GsCond changed;
  int answers;
  gboolean stopping, told;
};

static int
unix_socket (const char *path, gboolean listens)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || g_strlcpy (address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path)
    g_error ("a socket for %s: %s", path, g_strerror (errno));
  if (listens ? bind (fd, (struct sockaddr *) &address, sizeof address) == 0 && listen (fd, PAIRS_MAX) == 0
              : connect (fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  close (fd);
  return -1;
}

static void
close_pair (Proxy *proxy, guint i)
{
  close (proxy->pairs[i].client);
  close (proxy->pairs[i].server);
  proxy->pairs[i] = proxy->pairs[--proxy->n_pairs];
}

static void
cut (Proxy *proxy)
{
  if (proxy->listener >= 0)
    close (proxy->listener);
  unlink (proxy->path);
  proxy->listener = -1;
  while (proxy->n_pairs > 0)
    close_pair (proxy, 0);
}

static void
take_client (Proxy *proxy)
{
  int client = accept4 (proxy->listener, NULL, NULL, SOCK_CLOEXEC), server;
  if (client < 0)
    return;
  server = proxy->n_pairs < PAIRS_MAX ? unix_socket (proxy->real, FALSE) : -1;
  if (server < 0)
    close (client);
  else
    proxy->pairs[proxy->n_pairs++] = (Pair){ client, server };
}

/* FALSE at the end of either. */
static gboolean
carry (int from, int to)
{
  char piece[65536];
  ssize_t got = recv (from, piece, sizeof piece, 0);
  for (ssize_t at = 0; got > 0 && at < got;)
    {
      ssize_t sent = send (to, piece + at, (size_t) (got - at), MSG_NOSIGNAL);
      if (sent <= 0)
        return FALSE;
      at += sent;
    }
  return got > 0 || (got < 0 && errno == EINTR);
}

/* Is this answer not to arrive? */
static gboolean
is_lost (Proxy *proxy)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&proxy->lock);
  return proxy->answers > 0 && --proxy->answers == 0;
}

/* What was asked for. FALSE: the end. */
static gboolean
obey (Proxy *proxy)
{
  guint64 count;
  int answers;
  gboolean stopping;
  if (read (proxy->wake, &count, sizeof count) < 0 && errno != EAGAIN)
    g_error ("the proxy's wake: %s", g_strerror (errno));
  gs_mutex_lock (&proxy->lock);
  answers = proxy->answers;
  stopping = proxy->stopping;
  gs_mutex_unlock (&proxy->lock);
  if (answers == 0 || stopping)
    cut (proxy);
  else if (proxy->listener < 0 && (proxy->listener = unix_socket (proxy->path, TRUE)) < 0)
    g_error ("listening at %s: %s", proxy->path, g_strerror (errno));
  gs_mutex_lock (&proxy->lock);
  proxy->told = TRUE;
  gs_cond_broadcast (&proxy->changed);
  gs_mutex_unlock (&proxy->lock);
  return !stopping;
}

static void *
proxy_run (void *data)
{
  Proxy *proxy = data;
  for (;;)
    {
      struct pollfd watch[2 * PAIRS_MAX + 2]
          = { { .fd = proxy->wake, .events = POLLIN }, { .fd = proxy->listener, .events = POLLIN } };
      guint n = proxy->n_pairs;
      for (guint i = 0; i < n; i++)
        {
          watch[2 + 2 * i] = (struct pollfd){ .fd = proxy->pairs[i].client, .events = POLLIN };
          watch[3 + 2 * i] = (struct pollfd){ .fd = proxy->pairs[i].server, .events = POLLIN };
        }
      if (poll (watch, 2 + 2 * n, -1) < 0)
        continue;
      if (watch[0].revents != 0)
        {
          if (!obey (proxy))
            return NULL;
          continue; /* the pairs may be others now */
        }
      for (guint i = n; i-- > 0;) /* from behind: one that is closed gives its place to the last */
        {
          if (watch[3 + 2 * i].revents != 0 && is_lost (proxy))
            {
              cut (proxy);
              break;
            }
          if ((watch[2 + 2 * i].revents != 0 && !carry (proxy->pairs[i].client, proxy->pairs[i].server))
              || (watch[3 + 2 * i].revents != 0 && !carry (proxy->pairs[i].server, proxy->pairs[i].client)))
            close_pair (proxy, i);
        }
      if (watch[1].revents != 0 && proxy->listener >= 0)
        take_client (proxy);
    }
}

/* Returns when it is so. */
static void
tell (Proxy *proxy, int answers, gboolean stopping)
{
  const guint64 one = 1;
  gs_mutex_lock (&proxy->lock);
  proxy->answers = answers;
  proxy->stopping = stopping;
  proxy->told = FALSE;
  if (write (proxy->wake, &one, sizeof one) != (ssize_t) sizeof one)
    g_error ("the proxy's wake: %s", g_strerror (errno));
  while (!proxy->told)
    gs_cond_wait_until (&proxy->changed, &proxy->lock, G_MAXINT64);
  gs_mutex_unlock (&proxy->lock);
}

void
proxy_reach (int answers, gpointer proxy)
{
  tell (proxy, answers, FALSE);
}

Proxy *
proxy_new (const char *path, const char *real)
{
  Proxy *proxy = g_new0 (Proxy, 1);
  proxy->path = g_strdup (path);
  proxy->real = g_strdup (real);
  proxy->listener = -1;
  proxy->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  gs_mutex_init (&proxy->lock);
  gs_cond_init (&proxy->changed);
  if (proxy->wake < 0 || gs_thread_start (&proxy->thread, "proxy", proxy_run, proxy) != 0)
    g_error ("starting a proxy for %s", real);
  tell (proxy, -1, FALSE);
  return proxy;
}

void
proxy_free (Proxy *proxy)
{
  tell (proxy, 0, TRUE);
  gs_thread_join (proxy->thread);
  close (proxy->wake);
  gs_cond_clear (&proxy->changed);
  gs_mutex_clear (&proxy->lock);
  g_free (proxy->path);
  g_free (proxy->real);
  g_free (proxy);
}
