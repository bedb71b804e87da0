/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport/@NAME@: tells whoever connects whether the server is ready, in one line or more of text, and hangs up.
 *
 * It is whole as it stands, and reads nothing. To bring calls in, read them, fill in a GsInbound and hand it to
 * host->call_begin; what a transport promises stands in gitstead/transport.h.
 */
#include <gitstead/thread.h>
#include <gitstead/transport.h>

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct
{
  const GsHost *host;
  guint16 port;
  int listener, wake; /* -1 = none */
  gboolean running;
  GsThread thread;
} Self;

static void
answer (Self *self, int peer)
{
  gboolean ready = FALSE;
  g_autoptr (GBytes) page = self->host->page (self->host, GS_PAGE_READY, &ready);
  gsize n;
  gconstpointer bytes = g_bytes_get_data (page, &n);
  /* It fits the socket's buffer; who does not read it does not hold us up. */
  if (n > 0 && send (peer, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return;
}

static void *
run (void *data)
{
  Self *self = data;
  struct pollfd watch[2] = { { .fd = self->wake, .events = POLLIN }, { .fd = self->listener, .events = POLLIN } };
  for (;;)
    {
      int peer;
      if (poll (watch, 2, -1) < 0 && errno != EINTR)
        return NULL;
      if (watch[0].revents != 0)
        return NULL;
      peer = accept4 (self->listener, NULL, NULL, SOCK_CLOEXEC);
      if (peer < 0)
        continue;
      answer (self, peer);
      close (peer);
    }
}

static gboolean
start (gpointer data, GError **error)
{
  Self *self = data;
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (self->port) };
  socklen_t n = sizeof address;
  const int on = 1;
  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  self->wake = eventfd (0, EFD_CLOEXEC);
  self->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (self->wake < 0 || self->listener < 0
      || setsockopt (self->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
      || bind (self->listener, (struct sockaddr *) &address, sizeof address) != 0 || listen (self->listener, 64) != 0
      || getsockname (self->listener, (struct sockaddr *) &address, &n) != 0)
    return gs_fail (error, gs_error_from_errno (errno), "%s: listening on port %u: %s", self->host->instance, self->port,
                    g_strerror (errno));
  self->port = ntohs (address.sin_port);
  if (gs_thread_start (&self->thread, "@NAME@", run, self) != 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: no thread can be started", self->host->instance);
  self->running = TRUE;
  return TRUE;
}

static void
stop (gpointer data)
{
  Self *self = data;
  const guint64 one = 1;
  if (self->running && write (self->wake, &one, sizeof one) == sizeof one)
    gs_thread_join (self->thread);
  self->running = FALSE;
  if (self->listener >= 0)
    close (self->listener);
  self->listener = -1;
}

static char **
endpoints (gpointer data)
{
  Self *self = data;
  char **urls = g_new0 (char *, 2);
  urls[0] = g_strdup_printf ("tcp://127.0.0.1:%u", self->port);
  return urls;
}

static const GsTransportOps ops = { .endpoints = endpoints };

static const GsOption options[] = {
  { .key = "port",
    .type = GS_OPTION_INT,
    .fallback = "0",
    .min = 0,
    .max = 65535,
    .help = "Port on the loopback interface; 0: any that is free." },
  { .key = NULL },
};

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  self->host = host;
  self->port = (guint16) config->integer (config, "port");
  self->listener = self->wake = -1;
  return self;
}

static void
destroy (gpointer data)
{
  Self *self = data;
  if (self->listener >= 0)
    close (self->listener);
  if (self->wake >= 0)
    close (self->wake);
  g_free (self);
}

GS_PLUGIN_DEFINE (GsTransportOps, .kind = GS_KIND_TRANSPORT, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Tells whoever connects whether the server is ready", .license = "Apache-2.0", .ops = &ops, .create = create,
                  .options = options, .start = start, .stop = stop, .destroy = destroy)
