/* SPDX-License-Identifier: Apache-2.0 */
/* listen.c - sockets, TLS files and the library's daemons. */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPT_AT_ONCE 64
#define LIMIT_SLACK (4 * ACCEPT_AT_ONCE) /* the limit that counts is ours */
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

typedef struct
{
  gboolean tls;
  char *host; /* NULL = every address */
  int port;
} Address;

static void
address_clear (Address *address)
{
  g_clear_pointer (&address->host, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Address, address_clear)

static gboolean
parse_url (HttpServer *server, const char *url, Address *ret_address, GError **error)
{
  g_autofree char *scheme = NULL, *host = NULL, *path = NULL, *query = NULL, *fragment = NULL, *user = NULL;
  int port = -1;
  gboolean tls;
  if (!g_uri_split (url, G_URI_FLAGS_NONE, &scheme, &user, &host, &port, &path, &query, &fragment, NULL)
      || scheme == NULL || (strcmp (scheme, "http") != 0 && strcmp (scheme, "https") != 0) || host == NULL
      || host[0] == '\0' || (path != NULL && path[0] != '\0' && strcmp (path, "/") != 0) || query != NULL
      || fragment != NULL || user != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "%s: listen address '%s' is not of the form http://host:port or https://host:port",
                    server->host->instance, url);
  tls = strcmp (scheme, "https") == 0;
  if (port < 0)
    port = tls ? 443 : 80;
  ret_address->tls = tls;
  ret_address->host = g_steal_pointer (&host);
  ret_address->port = port;
  return TRUE;
}

static int
bind_one (const struct addrinfo *info, gboolean both, const char **ret_doing)
{
  int one = 1, zero = 0, err;
  int fd = socket (info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  *ret_doing = "make a socket for";
  if (fd < 0)
    return -1;
  *ret_doing = "bind to";
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (both && info->ai_family == AF_INET6)
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
  if (bind (fd, info->ai_addr, info->ai_addrlen) == 0)
    {
      *ret_doing = "listen on";
      if (listen (fd, BACKLOG) == 0)
        return fd;
    }
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

/* The first of @family's addresses that works; -1 with errno and @ret_doing, or with @ret_failed of getaddrinfo. */
static int
open_family (const Address *address, int family, int *ret_failed, const char **ret_doing)
{
  struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
  struct addrinfo *list = NULL;
  gboolean any = strcmp (address->host, "*") == 0;
  char port[16];
  int fd = -1, err = 0;
  g_snprintf (port, sizeof port, "%d", address->port);
  *ret_failed = getaddrinfo (any ? NULL : address->host, port, &hints, &list);
  if (*ret_failed != 0)
    return -1;
  for (const struct addrinfo *one = list; one != NULL && fd < 0; one = one->ai_next)
    if ((fd = bind_one (one, any, ret_doing)) < 0)
      err = errno;
  freeaddrinfo (list);
  errno = err;
  return fd;
}

static int
open_socket (HttpServer *server, const char *url, const Address *address, GError **error)
{
  const char *doing = "";
  int failed = 0, fd = -1;
  /* Every address: one socket for both families, where the kernel has both. */
  if (strcmp (address->host, "*") == 0)
    fd = open_family (address, AF_INET6, &failed, &doing);
  if (fd < 0)
    fd = open_family (address, AF_UNSPEC, &failed, &doing);
  if (fd < 0 && failed != 0)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: can't find the host of listen address '%s': %s",
             server->host->instance, url, gai_strerror (failed));
  else if (fd < 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: can't %s %s: %s; is another server running there?",
             server->host->instance, doing, url, g_strerror (errno));
  return fd;
}

/* The URL with the address and port that were really bound. */
static char *
bound_url (int fd, const Address *address)
{
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  char host[INET6_ADDRSTRLEN] = "";
  guint port = 0;
  gboolean six = FALSE;
  if (getsockname (fd, (struct sockaddr *) &storage, &length) == 0)
    {
      if (storage.ss_family == AF_INET)
        {
          const struct sockaddr_in *in = (const struct sockaddr_in *) &storage;
          inet_ntop (AF_INET, &in->sin_addr, host, sizeof host);
          port = ntohs (in->sin_port);
        }
      else
        {
          const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &storage;
          inet_ntop (AF_INET6, &in6->sin6_addr, host, sizeof host);
          port = ntohs (in6->sin6_port);
          six = TRUE;
        }
    }
  return g_strdup_printf (six ? "%s://[%s]:%u" : "%s://%s:%u", address->tls ? "https" : "http", host, port);
}

/* --------------------------------------------------------------------------- the library's callbacks */

static void *
note_uri (void *user, const char *uri, struct MHD_Connection *connection)
{
  HttpListener *listener = user;
  __atomic_add_fetch (&listener->server->in_flight, 1, __ATOMIC_RELAXED);
  return http_request_new (listener, connection, uri);
}

/* The path is decoded by us, from the URI as it came: afterwards "%2F" can't be told from "/". */
static size_t
keep_escapes (void *user, struct MHD_Connection *connection, char *text)
{
  return strlen (text);
}

static void
note_completed (void *user, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why)
{
  HttpRequest *request = *context;
  *context = NULL;
  if (request != NULL)
    http_request_finish (request, why);
}

static void
daemon_count (HttpDaemon *daemon, int delta)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&daemon->listener->server->lock);
  daemon->n_handed += (guint) delta;
}

static HttpConnection *
connection_new (HttpListener *listener, int fd)
{
  HttpServer *server = listener->server;
  HttpConnection *tcp = g_new0 (HttpConnection, 1);
  __atomic_add_fetch (&listener->n_connections, 1, __ATOMIC_RELAXED);
  tcp->listener = listener;
  tcp->fd = fd;
  tcp->deadline_us = server->host->now_us (server->host) + 2 * server->options.idle_timeout_us;
  gs_mutex_lock (&server->lock);
  tcp->id = ++server->next_id;
  g_hash_table_insert (server->connections, &tcp->id, tcp);
  gs_mutex_unlock (&server->lock);
  http_pump_watch_client (server->pump, tcp);
  return tcp;
}

static void
connection_free (HttpConnection *tcp)
{
  HttpListener *listener = tcp->listener;
  HttpServer *server = listener->server;
  http_pump_forget_client (server->pump, tcp);
  gs_mutex_lock (&server->lock);
  g_hash_table_remove (server->connections, &tcp->id);
  gs_mutex_unlock (&server->lock);
  g_free (tcp);
  __atomic_sub_fetch (&listener->n_connections, 1, __ATOMIC_RELAXED);
  if (__atomic_load_n (&listener->paused, __ATOMIC_ACQUIRE))
    http_pump_poke (server->pump);
}

static void
note_connection (void *user, struct MHD_Connection *connection, void **socket_context,
                 enum MHD_ConnectionNotificationCode code)
{
  HttpDaemon *daemon = user;
  if (code == MHD_CONNECTION_NOTIFY_STARTED)
    {
      const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_FD);
      *socket_context = info != NULL ? connection_new (daemon->listener, info->connect_fd) : NULL;
    }
  else
    {
      if (*socket_context != NULL)
        connection_free (*socket_context);
      *socket_context = NULL;
      daemon_count (daemon, -1);
    }
}

static void G_GNUC_PRINTF (2, 0) note_message (void *user, const char *format, va_list args)
{
  HttpListener *listener = user;
  const GsHost *host = listener->server->host;
  g_autofree char *text = NULL;
  if (!host->log_enabled (host, GS_LOG_DEBUG))
    return;
  text = g_strdup_vprintf (format, args);
  {
    const GsField field = GS_TEXT ("text", g_strchomp (text));
    host->log (host, GS_LOG_DEBUG, "http.daemon", &field, 1);
  }
}

/* ---------------------------------------------------------------------------------------------- TLS */

static char *
read_file (HttpServer *server, const char *option, const char *path, gboolean secret, GError **error)
{
  g_autoptr (GError) failure = NULL;
  struct stat st;
  char *text = NULL;
  if (path == NULL)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: an https address needs the option '%s'", server->host->instance,
               option);
      return NULL;
    }
  if (secret && stat (path, &st) == 0 && st.st_mode & (S_IROTH | S_IWOTH))
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
               "%s: everybody can read the private key '%s' (option '%s'); run: chmod o= '%s'", server->host->instance,
               path, option, path);
      return NULL;
    }
  if (!g_file_get_contents (path, &text, NULL, &failure))
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: can't read '%s' (option '%s'): %s", server->host->instance, path,
             option, failure->message);
  return text;
}

void
http_tls_clear (HttpTls *tls)
{
  if (tls->key != NULL)
    explicit_bzero (tls->key, strlen (tls->key));
  g_clear_pointer (&tls->certificate, g_free);
  g_clear_pointer (&tls->key, g_free);
  g_clear_pointer (&tls->ca, g_free);
  g_clear_pointer (&tls->sum, g_free);
}

gboolean
http_tls_read (HttpServer *server, const HttpOptions *options, HttpTls *ret_tls, GError **error)
{
  g_auto (HttpTls) tls = { 0 };
  GChecksum *sum;
  tls.certificate = read_file (server, "tls_certificate", options->tls_certificate, FALSE, error);
  if (tls.certificate == NULL
      || (options->tls_client_ca != NULL
          && (tls.ca = read_file (server, "tls_client_ca", options->tls_client_ca, FALSE, error)) == NULL)
      || (tls.key = read_file (server, "tls_key", options->tls_key, TRUE, error)) == NULL)
    return FALSE;
  sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_checksum_update (sum, (const guchar *) tls.certificate, (gssize) strlen (tls.certificate) + 1);
  g_checksum_update (sum, (const guchar *) tls.key, (gssize) strlen (tls.key) + 1);
  if (tls.ca != NULL)
    g_checksum_update (sum, (const guchar *) tls.ca, (gssize) strlen (tls.ca) + 1);
  tls.sum = g_strdup (g_checksum_get_string (sum));
  g_checksum_free (sum);
  *ret_tls = tls;
  memset (&tls, 0, sizeof tls);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ starting */

static struct MHD_Daemon *
start_daemon (HttpDaemon *daemon, const HttpOptions *options, const HttpTls *tls)
{
  HttpListener *listener = daemon->listener;
  unsigned int flags
      = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
  struct MHD_OptionItem items[8];
  struct MHD_Daemon *started;
  guint n = 0;
  sigset_t all, before;

  if (options->threads > 1)
    items[n++] = (struct MHD_OptionItem){ MHD_OPTION_THREAD_POOL_SIZE, (intptr_t) options->threads, NULL };
  if (listener->tls)
    {
      flags |= MHD_USE_TLS;
      items[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key };
      items[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, tls->certificate };
      items[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) PRIORITIES };
      if (tls->ca != NULL)
        items[n++] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_TRUST, 0, tls->ca };
    }
  items[n] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };

  /* The library's threads inherit our mask: signals are the main loop's, and SIGPIPE from a pipe is nobody's. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  started = MHD_start_daemon (
      flags, 0, NULL, NULL, http_handle, listener, MHD_OPTION_EXTERNAL_LOGGER, note_message, listener,
      MHD_OPTION_CONNECTION_LIMIT, options->max_connections + options->threads * LIMIT_SLACK,
      MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int) ((options->idle_timeout_us + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC),
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->max_header, MHD_OPTION_STRICT_FOR_CLIENT, 1,
      MHD_OPTION_URI_LOG_CALLBACK, note_uri, listener, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
      MHD_OPTION_NOTIFY_COMPLETED, note_completed, listener, MHD_OPTION_NOTIFY_CONNECTION, note_connection, daemon,
      MHD_OPTION_ARRAY, items, MHD_OPTION_END);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  return started;
}

HttpDaemon *
http_daemon_new (HttpListener *listener, const HttpOptions *options, const HttpTls *tls, GError **error)
{
  HttpDaemon *daemon = g_new0 (HttpDaemon, 1);
  daemon->listener = listener;
  daemon->daemon = start_daemon (daemon, options, tls);
  if (daemon->daemon != NULL)
    return daemon;
  g_free (daemon);
  if (listener->tls)
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
             "%s: can't serve %s: are tls_certificate (%s), tls_key (%s) and tls_client_ca (%s) valid PEM files that "
             "belong together?",
             listener->server->host->instance, listener->url, options->tls_certificate, options->tls_key,
             options->tls_client_ca != NULL ? options->tls_client_ca : "none");
  else
    gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: can't serve %s: the HTTP library refused to start",
             listener->server->host->instance, listener->url);
  return NULL;
}

void
http_daemon_free (HttpDaemon *daemon)
{
  if (daemon == NULL)
    return;
  MHD_stop_daemon (daemon->daemon);
  g_free (daemon);
}

gboolean
http_listen (HttpServer *server, const char *url, GError **error)
{
  g_auto (Address) address = { 0 };
  g_auto (HttpTls) tls = { 0 };
  HttpListener *listener;
  int fd;

  if (!parse_url (server, url, &address, error)
      || (address.tls && !http_tls_read (server, &server->options, &tls, error)))
    return FALSE;
  fd = open_socket (server, url, &address, error);
  if (fd < 0)
    return FALSE;
  listener = g_new0 (HttpListener, 1);
  listener->server = server;
  listener->tls = address.tls;
  listener->fd = fd;
  listener->url = bound_url (fd, &address);
  listener->former = g_ptr_array_new ();
  listener->tls_sum = g_steal_pointer (&tls.sum);
  g_ptr_array_add (server->listeners, listener);
  listener->daemon = http_daemon_new (listener, &server->options, &tls, error);
  if (listener->daemon == NULL)
    return FALSE;
  http_pump_listen (server->pump, listener);
  return TRUE;
}

gboolean
http_listener_has_room (HttpListener *listener)
{
  return (guint) __atomic_load_n (&listener->n_connections, __ATOMIC_RELAXED)
         < listener->server->options.max_connections;
}

/* Counted before it is given away, so that a daemon that is replaced at this moment is not stopped under it. */
static void
hand_over (HttpListener *listener, int fd, const struct sockaddr_storage *peer, socklen_t length)
{
  HttpServer *server = listener->server;
  HttpDaemon *daemon;
  gs_mutex_lock (&server->lock);
  daemon = listener->daemon;
  daemon->n_handed++;
  gs_mutex_unlock (&server->lock);
  /* It closes the descriptor itself when it can't. */
  if (MHD_add_connection (daemon->daemon, fd, (const struct sockaddr *) peer, length) != MHD_YES)
    daemon_count (daemon, -1);
}

gboolean
http_listener_accept (HttpListener *listener)
{
  const GsHost *host = listener->server->host;
  for (guint i = 0; i < ACCEPT_AT_ONCE; i++)
    {
      struct sockaddr_storage peer;
      socklen_t length = sizeof peer;
      int one = 1, fd;
      if (!http_listener_has_room (listener))
        return FALSE;
      fd = accept4 (listener->fd, (struct sockaddr *) &peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
        {
          const GsField fields[] = { GS_TEXT ("address", listener->url), GS_TEXT ("error", g_strerror (errno)) };
          host->log (host, GS_LOG_WARNING, "http.accept-failed", fields, G_N_ELEMENTS (fields));
          return FALSE;
        }
      if (fd < 0 && (errno == EAGAIN || errno == EINVAL))
        return TRUE;
      if (fd < 0)
        continue; /* that one left before it was taken */
      setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
      hand_over (listener, fd, &peer, length);
    }
  return TRUE;
}

void
http_listener_free (HttpListener *listener)
{
  http_daemon_free (listener->daemon);
  g_ptr_array_foreach (listener->former, (GFunc) (void (*) (void)) http_daemon_free, NULL);
  g_ptr_array_unref (listener->former);
  g_free (listener->tls_sum);
  if (listener->fd >= 0)
    close (listener->fd);
  g_free (listener->url);
  g_free (listener);
}
