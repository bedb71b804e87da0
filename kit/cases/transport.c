/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contract cases of kind TRANSPORT: what holds for every address, whatever is spoken there. What a protocol's
 * messages must be is up to its own tests.
 */
#include "engine.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 10000

static int
dial_unix (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  if (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  if (fd >= 0)
    close (fd);
  return -1;
}

/* "127.0.0.1:8418", "[::1]:8418", with whatever follows a slash */
static int
dial_tcp (const char *authority)
{
  g_autofree char *host = g_strndup (authority, strcspn (authority, "/"));
  char *colon = strrchr (host, ':'), *name = host;
  struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
  int fd = -1;
  if (colon == NULL)
    return -1;
  *colon = '\0';
  if (name[0] == '[')
    {
      name++;
      name[strcspn (name, "]")] = '\0';
    }
  if (getaddrinfo (name, colon + 1, &hints, &found) != 0)
    return -1;
  fd = socket (found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect (fd, found->ai_addr, found->ai_addrlen) != 0)
    {
      close (fd);
      fd = -1;
    }
  freeaddrinfo (found);
  return fd;
}

/* Is there something to connect to? */
static gboolean
is_socket (const char *url)
{
  return strstr (url, "://") != NULL && !g_str_has_prefix (url, "inproc:");
}

static int
dial (const char *url)
{
  const char *rest = strstr (url, "://") + 3;
  return g_str_has_prefix (url, "ipc:") || g_str_has_prefix (url, "unix:") ? dial_unix (rest) : dial_tcp (rest);
}

static char **
endpoints (Conformance *c)
{
  const GsTransportOps *ops = c->ops;
  char **urls = ops->endpoints (c->self);
  if (urls == NULL)
    conformance_fail (c, "the addresses, if only an empty list", "NULL");
  return urls;
}

static void
accepts (Conformance *c)
{
  g_auto (GStrv) urls = endpoints (c);
  if (urls == NULL)
    return;
  CHECK (c, urls[0] != NULL, "an address at least", "none");
  for (char **url = urls; *url != NULL; url++)
    {
      int fd;
      CHECK (c, strstr (*url, "://") != NULL, "URLs", "“%s”", *url);
      if (!is_socket (*url))
        continue;
      fd = dial (*url);
      CHECK (c, fd >= 0, "every address in endpoints accepts connections", "%s does not", *url);
      close (fd);
    }
}

/* Sends @n bytes and waits until the other side has had enough: an answer, an end, or nothing within the time. */
static void
bother (int fd, const void *bytes, gsize n)
{
  struct pollfd watch = { .fd = fd, .events = POLLIN };
  char answer[512];
  if (n > 0)
    while (send (fd, bytes, n, MSG_NOSIGNAL) < 0 && errno == EINTR)
      ;
  shutdown (fd, SHUT_WR);
  while (poll (&watch, 1, WAIT_MS) > 0 && recv (fd, answer, sizeof answer, 0) > 0)
    ;
  close (fd);
}

static void
strangers (Conformance *c)
{
  g_auto (GStrv) urls = endpoints (c);
  guint8 noise[4096], big[64];
  if (urls == NULL)
    return;
  c->host.random (&c->host, noise, sizeof noise);
  memset (big, 0xff, sizeof big); /* a length of everything, wherever the length may stand */
  for (char **url = urls; *url != NULL; url++)
    {
      int fd;
      if (!is_socket (*url))
        continue;
      for (guint i = 0; i < 4; i++)
        {
          fd = dial (*url);
          CHECK (c, fd >= 0, "connections accepted after garbage", "%s does not any more", *url);
          if (i == 0)
            close (fd); /* connects and leaves */
          else
            bother (fd, i == 1 ? noise : i == 2 ? big : (const void *) "GET", i == 1 ? sizeof noise : i == 2 ? 64 : 3);
        }
      fd = dial (*url);
      CHECK (c, fd >= 0, "connections accepted after garbage", "%s does not any more", *url);
      close (fd);
    }
}

static void
stopped (Conformance *c)
{
  g_auto (GStrv) urls = endpoints (c);
  int open_fd = -1;
  if (urls == NULL)
    return;
  for (char **url = urls; *url != NULL && open_fd < 0; url++)
    if (is_socket (*url))
      open_fd = dial (*url); /* somebody is there who says nothing: stop must not wait for them */
  conformance_end (c);
  for (char **url = urls; *url != NULL && !conformance_has_failed (c); url++)
    if (is_socket (*url))
      {
        int fd = dial (*url);
        if (fd >= 0)
          {
            conformance_fail (c, "no connection after stop", "%s accepts one", *url);
            close (fd);
          }
      }
  if (open_fd >= 0)
    close (open_fd);
}

const ConformanceCase conformance_transport[] = {
  { "T1", "after start every address accepts connections", accepts },
  { "T3", "peers that leave or send garbage cost the others nothing", strangers },
  { "T5", "after stop nobody is let in", stopped },
  { NULL, NULL, NULL },
};
