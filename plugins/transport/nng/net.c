/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, peers, and the sockets that are our own: those of the bulk streams. */
#include "nt.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *const scheme_names[] = { "tcp", "tls+tcp", "ipc" };

void
nt_url_free (NtUrl *url)
{
  if (url == NULL)
    return;
  g_free (url->host);
  g_free (url->path);
  g_free (url);
}

static gboolean
parse_host_port (NtUrl *url, const char *rest)
{
  const char *colon = strrchr (rest, ':');
  const char *end = colon;
  guint64 port;
  if (colon == NULL || !g_ascii_string_to_unsigned (colon + 1, 10, 0, 65535, &port, NULL))
    return FALSE;
  if (rest[0] == '[')
    {
      rest++;
      end = colon - 1;
      if (end < rest || *end != ']')
        return FALSE;
    }
  url->host = g_strndup (rest, (gsize) (end - rest));
  url->port = (guint) port;
  if (g_str_equal (url->host, "*"))
    url->host[0] = '\0';
  return strpbrk (url->host, "/?#@[] ") == NULL;
}

NtUrl *
nt_url_parse (const char *text, GError **error)
{
  g_autoptr (NtUrl) url = g_new0 (NtUrl, 1);
  gboolean good = FALSE;
  if (g_str_has_prefix (text, "ipc://"))
    {
      url->scheme = NT_IPC;
      url->path = g_strdup (text + strlen ("ipc://"));
      good = url->path[0] == '/' && strlen (url->path) < sizeof ((struct sockaddr_un *) NULL)->sun_path;
    }
  else if (g_str_has_prefix (text, "tcp://"))
    good = parse_host_port (url, text + strlen ("tcp://"));
  else if (g_str_has_prefix (text, "tls+tcp://"))
    {
      url->scheme = NT_TLS;
      good = parse_host_port (url, text + strlen ("tls+tcp://"));
    }
  if (!good)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
               "'%s' is no address to listen on: write tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH (an absolute "
               "path of at most 107 bytes)",
               text);
      return NULL;
    }
  return g_steal_pointer (&url);
}

char *
nt_url_text (const NtUrl *url, guint port, gboolean host_too)
{
  const char *host = host_too && url->host != NULL ? url->host : "";
  gboolean bracket = strchr (host, ':') != NULL;
  if (url->scheme == NT_IPC)
    return g_strdup_printf ("ipc://%s", url->path);
  return g_strdup_printf ("%s://%s%s%s:%u", scheme_names[url->scheme], bracket ? "[" : "", host, bracket ? "]" : "",
                          port);
}

/* ----------------------------------------------------------------------------------------- peers */

static void
peer_set_address (NtPeer *peer, const guint8 address[16], guint port)
{
  static const guint8 mapped[12] = { [10] = 0xff, [11] = 0xff };
  char text[INET6_ADDRSTRLEN];
  gboolean v4 = memcmp (address, mapped, sizeof mapped) == 0;
  memcpy (peer->address, address, sizeof peer->address);
  if (v4)
    inet_ntop (AF_INET, address + 12, text, sizeof text);
  else
    inet_ntop (AF_INET6, address, text, sizeof text);
  peer->loopback = v4 ? address[12] == 127 : IN6_IS_ADDR_LOOPBACK ((const struct in6_addr *) (gconstpointer) address);
  g_snprintf (peer->text, sizeof peer->text, v4 ? "nng %s %s:%u" : "nng %s [%s]:%u", scheme_names[peer->scheme], text,
              port);
}

static void
peer_set_v4 (NtPeer *peer, const void *v4, guint port)
{
  guint8 address[16] = { [10] = 0xff, [11] = 0xff };
  memcpy (address + 12, v4, 4);
  peer_set_address (peer, address, port);
}

void
nt_peer_from_nng (NtPeer *ret_peer, NtScheme scheme, nng_stream *stream)
{
  nng_sockaddr address;
  guint64 uid = G_MAXUINT32, pid = 0;
  memset (ret_peer, 0, sizeof *ret_peer);
  ret_peer->scheme = scheme;
  ret_peer->uid = G_MAXUINT32; /* (uid_t) -1: nobody */
  if (scheme == NT_IPC)
    {
      if (nng_stream_get_uint64 (stream, NNG_OPT_IPC_PEER_UID, &uid) == 0 && uid < G_MAXUINT32)
        ret_peer->uid = (guint32) uid;
      nng_stream_get_uint64 (stream, NNG_OPT_IPC_PEER_PID, &pid);
      g_snprintf (ret_peer->text, sizeof ret_peer->text, "nng ipc uid %u pid %" G_GUINT64_FORMAT, ret_peer->uid, pid);
    }
  else if (nng_stream_get_addr (stream, NNG_OPT_REMADDR, &address) == 0 && address.s_family == NNG_AF_INET)
    peer_set_v4 (ret_peer, &address.s_in.sa_addr, g_ntohs (address.s_in.sa_port));
  else if (nng_stream_get_addr (stream, NNG_OPT_REMADDR, &address) == 0 && address.s_family == NNG_AF_INET6)
    peer_set_address (ret_peer, address.s_in6.sa_addr, g_ntohs (address.s_in6.sa_port));
  else
    g_snprintf (ret_peer->text, sizeof ret_peer->text, "nng %s", scheme_names[scheme]);
}

void
nt_peer_from_socket (NtPeer *ret_peer, NtScheme scheme, int fd)
{
  struct sockaddr_storage address;
  socklen_t len = sizeof address;
  memset (ret_peer, 0, sizeof *ret_peer);
  ret_peer->scheme = scheme;
  ret_peer->uid = G_MAXUINT32;
  if (scheme == NT_IPC)
    {
      struct ucred who;
      socklen_t who_len = sizeof who;
      if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &who, &who_len) == 0)
        ret_peer->uid = who.uid;
      g_snprintf (ret_peer->text, sizeof ret_peer->text, "nng ipc uid %u", ret_peer->uid);
      return;
    }
  if (getpeername (fd, (struct sockaddr *) &address, &len) != 0)
    return;
  if (address.ss_family == AF_INET)
    {
      const struct sockaddr_in *v4 = (gconstpointer) &address;
      peer_set_v4 (ret_peer, &v4->sin_addr, g_ntohs (v4->sin_port));
    }
  else if (address.ss_family == AF_INET6)
    {
      const struct sockaddr_in6 *v6 = (gconstpointer) &address;
      peer_set_address (ret_peer, v6->sin6_addr.s6_addr, g_ntohs (v6->sin6_port));
    }
}

gboolean
nt_peer_same (const NtPeer *control, const NtPeer *data)
{
  if (control->scheme != data->scheme)
    return FALSE;
  if (control->scheme == NT_IPC)
    return control->uid == data->uid;
  return memcmp (control->address, data->address, sizeof data->address) == 0;
}

/* --------------------------------------------------------------------------------------- sockets */

static gboolean
fail_errno (GError **error, const char *doing, const char *where)
{
  int err = errno;
  return gs_fail (error, err == EADDRINUSE ? GS_ERROR_FAILED_PRECONDITION : gs_error_from_errno (err), "%s %s: %s", doing,
                  where, g_strerror (err));
}

/* A socket file that nobody listens on is left over from a crash. */
static gboolean
remove_stale (const struct sockaddr_un *address)
{
  gboolean stale;
  int fd;
  struct stat st;
  if (lstat (address->sun_path, &st) != 0 || !S_ISSOCK (st.st_mode))
    return FALSE;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return FALSE;
  stale = connect (fd, (const struct sockaddr *) address, sizeof *address) != 0 && errno == ECONNREFUSED;
  close (fd);
  return stale && unlink (address->sun_path) == 0;
}

static int
listen_ipc (const NtUrl *url, guint mode, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd;
  if (g_strlcpy (address.sun_path, url->path, sizeof address.sun_path) >= sizeof address.sun_path)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "listen on ipc://%s: the path is longer than 107 bytes", url->path);
      return -1;
    }
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    {
      fail_errno (error, "make a socket for", url->path);
      return -1;
    }
  if (bind (fd, (struct sockaddr *) &address, sizeof address) != 0
      && (errno != EADDRINUSE || !remove_stale (&address)
          || bind (fd, (struct sockaddr *) &address, sizeof address) != 0))
    {
      if (errno == ECONNREFUSED || errno == 0)
        errno = EADDRINUSE;
      fail_errno (error, "listen on", url->path);
      close (fd);
      return -1;
    }
  /* Nobody can connect before listen, so the mode is never too wide. */
  if (chmod (url->path, mode) != 0 || listen (fd, 128) != 0)
    {
      fail_errno (error, "listen on", url->path);
      unlink (url->path);
      close (fd);
      return -1;
    }
  return fd;
}

static int
listen_one (const struct addrinfo *info)
{
  int yes = 1;
  int fd = socket (info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, info->ai_protocol);
  if (fd < 0)
    return -1;
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind (fd, info->ai_addr, info->ai_addrlen) == 0 && listen (fd, 128) == 0)
    return fd;
  yes = errno;
  close (fd);
  errno = yes;
  return -1;
}

static int
listen_tcp (const NtUrl *url, guint *ret_port, GError **error)
{
  struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
  struct addrinfo *found = NULL;
  struct sockaddr_storage bound;
  socklen_t len = sizeof bound;
  char port[8];
  g_autofree char *text = nt_url_text (url, url->port, TRUE);
  int fd, failed;

  /* The same family as nng takes for "any address". */
  if (url->host[0] == '\0')
    hints.ai_family = AF_INET;
  g_snprintf (port, sizeof port, "%u", url->port);
  failed = getaddrinfo (url->host[0] != '\0' ? url->host : NULL, port, &hints, &found);
  if (failed != 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "listen on %s: %s", text, gai_strerror (failed));
      return -1;
    }
  fd = listen_one (found);
  freeaddrinfo (found);
  if (fd < 0 || getsockname (fd, (struct sockaddr *) &bound, &len) != 0)
    {
      fail_errno (error, "listen on", text);
      if (fd >= 0)
        close (fd);
      return -1;
    }
  *ret_port = g_ntohs (bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) (gpointer) &bound)->sin6_port
                                                   : ((struct sockaddr_in *) (gpointer) &bound)->sin_port);
  return fd;
}

int
nt_listen (const NtUrl *url, guint ipc_mode, guint *ret_port, GError **error)
{
  *ret_port = 0;
  return url->scheme == NT_IPC ? listen_ipc (url, ipc_mode, error) : listen_tcp (url, ret_port, error);
}

void
nt_tune_socket (int fd, NtScheme scheme, gint64 idle_us)
{
  int yes = 1, idle = 30, interval = 10, count = 3, unsent = 512 * 1024;
  unsigned lost = (unsigned) MIN (idle_us / 1000, G_MAXINT);
  if (scheme == NT_IPC)
    return;
  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
  setsockopt (fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost, sizeof lost);
  setsockopt (fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}
