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

/* ---------------------------------------------------------------------------------- what the peers say */

#define SP_REQ "\0SP\0\0\x30\0\0"
/* A call of the method 2, and what stands before it: docs/wire-protocol.md. */
static const char sp_ping[] = "\0\0\0\0\0\0\0\x2a\x80\0\0\1GS\1\0\0\0\0\2\0\0\0\x12\0\0\0\4"
                              "\x0a\x10\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11"
                              "\x0a\x02hi";
static const char http_ping[] = "POST /api/v1/Server/Ping HTTP/1.1\r\nHost: conformance\r\n"
                                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

static gboolean
send_all (int fd, const void *bytes, gsize n)
{
  for (const char *at = bytes; n > 0;)
    {
      ssize_t sent = send (fd, at, n, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR)
        continue;
      if (sent <= 0)
        return FALSE;
      at += sent;
      n -= (gsize) sent;
    }
  return TRUE;
}

/* A connection past the greeting. -1: it speaks something else, or nothing. */
static int
dial_sp (const char *url)
{
  char greeting[8];
  int fd = dial (url);
  gsize have = 0;
  if (fd < 0 || !send_all (fd, SP_REQ, 8))
    goto other;
  while (have < sizeof greeting)
    {
      struct pollfd watch = { .fd = fd, .events = POLLIN };
      ssize_t got = poll (&watch, 1, WAIT_MS) > 0 ? recv (fd, greeting + have, sizeof greeting - have, 0) : -1;
      if (got <= 0)
        goto other;
      have += (gsize) got;
    }
  if (memcmp (greeting, "\0SP\0\0\x31", 6) == 0)
    return fd;
other:
  if (fd >= 0)
    close (fd);
  return -1;
}

static gboolean
is_http (const char *url)
{
  return g_str_has_prefix (url, "http:");
}

#define CLAIMED_MAX (32u << 20)
#define PEAK_KIB (1024 * 1024) /* a third of what is claimed */

/* The most that the process has had, in KiB. */
static gint64
peak_kib (void)
{
  g_autofree char *text = NULL;
  const char *at;
  if (!g_file_get_contents ("/proc/self/status", &text, NULL, NULL) || (at = strstr (text, "VmPeak:")) == NULL)
    return 0;
  return g_ascii_strtoll (at + strlen ("VmPeak:"), NULL, 10);
}

/* Sends what claims to be endless until the other side has had enough. How many bytes of it were taken. */
static gsize
flood (int fd, const void *head, gsize n)
{
  static const char filler[16384] = { [0 ... 16383] = 'a' };
  gsize taken = 0;
  if (!send_all (fd, head, n))
    return 0;
  while (taken <= CLAIMED_MAX)
    {
      struct pollfd watch = { .fd = fd, .events = POLLIN | POLLOUT };
      ssize_t sent;
      if (poll (&watch, 1, WAIT_MS) <= 0 || (watch.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        break; /* it answers, hangs up, or takes no more */
      sent = send (fd, filler, sizeof filler, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno != EAGAIN && errno != EINTR)
        break;
      taken += sent > 0 ? (gsize) sent : 0;
    }
  return taken;
}

static void
claim (Conformance *c, const char *url, const char *head, gsize n)
{
  int fd = is_http (url) ? dial (url) : dial_sp (url);
  gsize taken;
  if (fd < 0)
    fd = dial (url); /* another protocol: to it, too, that is a great many bytes */
  CHECK (c, fd >= 0, "connections accepted", "%s does not", url);
  taken = flood (fd, head, n);
  close (fd);
  CHECK (c, taken <= CLAIMED_MAX, "a message that is larger than any bound refused",
         "%s took %" G_GSIZE_FORMAT " bytes of it", url, taken);
}

static void
huge (Conformance *c)
{
  static const struct
  {
    const char *head;
    gsize n;
  } http[] = {
#define HTTP(text_) { text_, sizeof (text_) - 1 }
    HTTP ("POST /api/v1/Server/Ping HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
          "Content-Length: 3221225472\r\n\r\n"),
    HTTP ("POST /api/v1/Server/Ping HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
          "Content-Length: 9223372036854775807\r\n\r\n"),
    HTTP ("POST /api/v1/Server/Ping HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
          "Transfer-Encoding: chunked\r\n\r\nc0000000\r\n"),
    HTTP ("GET /"),
    HTTP ("GET / HTTP/1.1\r\nHost: x\r\nX-Long: "),
  }, sp[] = {
#undef HTTP
    { "\0\0\0\0\xc0\0\0\0", 8 },                   /* 3 GiB */
    { "\x3f\xff\xff\xff\xff\xff\xff\xff", 8 },
    { "\1\0\0\0\0\xc0\0\0\0", 9 },                /* the same, with what stands before it on ipc */
    { "\1\x3f\xff\xff\xff\xff\xff\xff\xff", 9 },
  };
  g_auto (GStrv) urls = endpoints (c);
  gint64 before_kib = peak_kib (), grown_kib;
  for (char **url = urls; url != NULL && *url != NULL && !conformance_has_failed (c); url++)
    if (is_socket (*url) && is_http (*url))
      for (gsize i = 0; i < G_N_ELEMENTS (http) && !conformance_has_failed (c); i++)
        claim (c, *url, http[i].head, http[i].n);
    else if (is_socket (*url))
      for (gsize i = 0; i < G_N_ELEMENTS (sp) && !conformance_has_failed (c); i++)
        claim (c, *url, sp[i].head, sp[i].n);
  grown_kib = peak_kib () - before_kib;
  CHECK (c, grown_kib < PEAK_KIB, "every size bounded before memory is taken for it",
         "%" G_GINT64_FORMAT " MiB were taken for 3 GiB that were announced and never came", grown_kib / 1024);
}

/* One call of a peer that goes away. */
typedef struct
{
  GsMutex lock;
  GsCond changed;
  void (*done) (gpointer user, const GsOutcome *outcome);
  gpointer user;
  guint n_begun, n_cancelled, n_wrong;
} Visit;

#define VISIT_HANDLE 4711u

static gboolean
visit_method (gpointer user, GsMethodInfo *ret_info)
{
  *ret_info = (GsMethodInfo){ .size = sizeof *ret_info, .number = 2, .name = "Server/Ping" };
  return TRUE;
}

static GsCallHandle
visit_begin (gpointer user, const GsInbound *inbound)
{
  Visit *visit = user;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&visit->lock);
  if (visit->n_begun++ == 0)
    {
      visit->done = inbound->done;
      visit->user = inbound->user;
    }
  gs_cond_signal (&visit->changed);
  return VISIT_HANDLE;
}

static void
visit_cancel (gpointer user, GsCallHandle call)
{
  Visit *visit = user;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&visit->lock);
  visit->n_wrong += call != VISIT_HANDLE;
  visit->n_cancelled++;
  gs_cond_signal (&visit->changed);
}

static gboolean
wait_for (Visit *visit, const guint *number)
{
  gint64 until_us = g_get_monotonic_time () + WAIT_MS * 1000;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&visit->lock);
  while (*number == 0 && g_get_monotonic_time () < until_us)
    gs_cond_wait_until (&visit->changed, &visit->lock, until_us);
  return *number > 0;
}

/* Calls, waits until the call has begun, and leaves. */
static void
come_and_go (Conformance *c, const char *url, Visit *visit)
{
  static const GsOutcome outcome = { .size = sizeof outcome, .code = GS_ERROR_CANCELLED, .message = "the peer went away" };
  const gboolean ipc = g_str_has_prefix (url, "ipc:");
  int fd = is_http (url) ? dial (url) : dial_sp (url);
  gboolean begun, cancelled;
  if (fd < 0)
    return;
  begun = is_http (url) ? send_all (fd, http_ping, sizeof http_ping - 1)
                        : (!ipc || send_all (fd, "\1", 1)) && send_all (fd, sp_ping, sizeof sp_ping - 1);
  begun = begun && wait_for (visit, &visit->n_begun);
  close (fd);
  if (!begun)
    return;
  cancelled = wait_for (visit, &visit->n_cancelled);
  visit->done (visit->user, &outcome);
  CHECK (c, cancelled, "the call of a peer that went away cancelled", "%s let it go on for %d s", url, WAIT_MS / 1000);
  CHECK (c, visit->n_wrong == 0, "the handle that call_begin gave", "another");
}

static void
leavers (Conformance *c)
{
  g_auto (GStrv) urls = endpoints (c);
  guint n_calls = 0;
  for (char **url = urls; url != NULL && *url != NULL && !conformance_has_failed (c); url++)
    {
      Visit visit = { .n_begun = 0 };
      const ConformanceDesk desk = { visit_method, visit_begin, visit_cancel, &visit };
      if (!is_socket (*url))
        continue;
      gs_mutex_init (&visit.lock);
      gs_cond_init (&visit.changed);
      __atomic_store_n (&c->desk, &desk, __ATOMIC_RELEASE);
      come_and_go (c, *url, &visit);
      n_calls += visit.n_begun;
      conformance_restart (c, NULL); /* after which nobody asks this desk any more */
      __atomic_store_n (&c->desk, NULL, __ATOMIC_RELEASE);
      gs_cond_clear (&visit.changed);
      gs_mutex_clear (&visit.lock);
      if (urls[1] != NULL)
        break; /* the others have new ports now */
    }
  if (n_calls == 0 && !conformance_has_failed (c))
    conformance_skip (c, "it takes calls in a way that this case does not know: tests of its own have to look at it");
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
  { "T2", "sizes that are announced take no memory, and what never ends is refused", huge },
  { "T3", "peers that leave or send garbage cost the others nothing", strangers },
  { "T4", "a peer that goes away cancels its call", leavers, TRUE },
  { "T5", "after stop nobody is let in", stopped, TRUE },
  { NULL, NULL, NULL },
};
