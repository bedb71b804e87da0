/* SPDX-License-Identifier: Apache-2.0 */
/* T2: takes memory for a body of any announced length. */
#include "bad.h"
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

BAD_GOOD (GsTransportOps);

typedef struct
{
  int listener;
  guint16 port;
  gboolean stopping;
  GsThread thread;
} Self;

/* More than this the address sanitizer takes for a fault of ours, and ends the process. */
#define BELIEVED_MAX (G_GUINT64_CONSTANT (4) << 30)

/* Reads the head, then makes room for what it announces and hangs up. */
static void
serve (int fd)
{
  const struct timeval patience = { 1, 0 }; /* a silent peer holds up nobody who stops it: only T2 is broken here */
  char head[4096];
  const char *length;
  ssize_t got;
  setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  got = recv (fd, head, sizeof head - 1, 0);
  if (got <= 0)
    return;
  head[got] = 0;
  length = strstr (head, "Content-Length: ");
  if (length != NULL)
    {
      /* Mapped: a malloc that is told to fill what it gives would write to all of it, and take minutes on a slow machine. */
      gsize size = MIN (strtoul (length + strlen ("Content-Length: "), NULL, 10), BELIEVED_MAX);
      gpointer body = mmap (NULL, MAX (size, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (body == MAP_FAILED)
        return;
      send (fd, body, 1, MSG_NOSIGNAL);
      munmap (body, MAX (size, 1));
    }
}

static void *
run (void *data)
{
  Self *self = data;
  while (!__atomic_load_n (&self->stopping, __ATOMIC_ACQUIRE))
    {
      int fd = accept (self->listener, NULL, NULL);
      if (fd < 0)
        continue;
      serve (fd);
      close (fd);
    }
  return NULL;
}

static gpointer
bad_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (Self, 1);
}

static gboolean
bad_start (gpointer data, GError **error)
{
  Self *self = data;
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
  socklen_t len = sizeof address;
  self->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (self->listener < 0 || bind (self->listener, (struct sockaddr *) &address, len) != 0 || listen (self->listener, 16) != 0
      || getsockname (self->listener, (struct sockaddr *) &address, &len) != 0
      || gs_thread_start (&self->thread, "believer", run, self) != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "listening");
  self->port = ntohs (address.sin_port);
  return TRUE;
}

static void
bad_stop (gpointer data)
{
  Self *self = data;
  __atomic_store_n (&self->stopping, TRUE, __ATOMIC_RELEASE);
  shutdown (self->listener, SHUT_RDWR);
  gs_thread_join (self->thread);
  close (self->listener);
}

static char **
bad_endpoints (gpointer data)
{
  char **urls = g_new0 (char *, 2);
  urls[0] = g_strdup_printf ("http://127.0.0.1:%d", ((Self *) data)->port);
  return urls;
}

BAD_PLUGIN (GsTransportOps, "transport-http.so", ops->endpoints = bad_endpoints; ops->call = NULL; bad.create = bad_create;
            bad.start = bad_start; bad.drain = NULL; bad.stop = bad_stop; bad.destroy = g_free; bad.options = NULL;
            bad.adjust = NULL; bad.adjusted = NULL)
