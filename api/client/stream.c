/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk bytes: a call whose reply is a ticket, and the connection that the ticket opens. See docs/wire-protocol.md. */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define IDLE_US (60 * G_USEC_PER_SEC)
#define PING_US (15 * G_USEC_PER_SEC) /* the server must hear of us while we wait */
#define TICKET_ARENA 4096
#define TRAILER_ARENA (1024 * 1024)

struct GsClientStream
{
  const GsWireMethod *method; /* NULL for a number we do not know */
  char *what;
  int fd;
  gnutls_session_t tls;
  GsMutex tls_lock;   /* GnuTLS sessions know one thread at a time; never held while waiting */
  GsMutex write_lock; /* one frame at a time: the writer's, or the reader's PING */
  gint64 moved_us;    /* atomic */
  gint64 until_us;    /* of the handshake; 0 afterwards */
  gint ended;         /* atomic: END was sent, or cannot be any more */
  gint closed;        /* atomic: the server's last frame was seen */
  /* the reader's */
  gsize in_left;      /* of a DATA frame */
  GBytes *trailer;
  GError *failure;    /* why there will be no trailer */
  gboolean finished;
  GsRetry retry;      /* after a finish that failed … */
  gint64 retry_after_us; /* … as its end said */
};

const GsWireMethod *
gs_client_stream_method (const GsClientStream *stream)
{
  return stream->method;
}

void
gs_client_stream_verdict (const GsClientStream *stream, GsClientCall *call)
{
  call->ret_retry = stream->retry;
  call->ret_retry_after_us = stream->retry_after_us;
}

static void
moved (GsClientStream *stream)
{
  __atomic_store_n (&stream->moved_us, g_get_monotonic_time (), __ATOMIC_RELAXED);
}

static gint64
idle_until (const GsClientStream *stream)
{
  gint64 idle_us = __atomic_load_n (&stream->moved_us, __ATOMIC_RELAXED) + IDLE_US;
  return stream->until_us != 0 ? MIN (idle_us, stream->until_us) : idle_us;
}

static const char *
idle_time (const GsClientStream *stream)
{
  return stream->until_us != 0 ? "as long as connecting may take" : "60 s";
}

/* ------------------------------------------------------------------------------------ the socket */

/* Bytes moved, 0 = end, -1 = wait, -2 = broken with errno or a TLS error in @ret_why. */
static ssize_t
move_bytes (GsClientStream *stream, void *bytes, gsize len, gboolean send_them, const char **ret_why)
{
  ssize_t n;
  if (stream->tls != NULL)
    {
      g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stream->tls_lock);
      n = send_them ? gnutls_record_send (stream->tls, bytes, len) : gnutls_record_recv (stream->tls, bytes, len);
      if (n >= 0)
        return n;
      *ret_why = gnutls_strerror ((int) n);
      return gnutls_error_is_fatal ((int) n) ? -2 : -1;
    }
  n = send_them ? send (stream->fd, bytes, len, MSG_NOSIGNAL) : recv (stream->fd, bytes, len, 0);
  if (n >= 0)
    return n;
  *ret_why = g_strerror (errno);
  return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static gboolean
wait_socket (const GsClientStream *stream, short events, gint64 until_us)
{
  struct pollfd ready = { .fd = stream->fd, .events = events };
  gint64 left_ms = (until_us - g_get_monotonic_time ()) / 1000 + 1;
  return left_ms > 0 && poll (&ready, 1, (int) MIN (left_ms, 3600000)) != 0;
}

static gboolean
fail_broken (GsClientStream *stream, const char *why, GError **error)
{
  return gs_fail (error, GS_ERROR_UNKNOWN, "%s: the stream broke before its end: %s", stream->what, why);
}

/* All of @bytes. Under the write lock. */
static gboolean
write_bytes (GsClientStream *stream, const guint8 *bytes, gsize len, GError **error)
{
  while (len > 0)
    {
      const char *why = "the server hung up";
      ssize_t n = move_bytes (stream, (void *) bytes, len, TRUE, &why);
      if (n == -1)
        {
          if (!wait_socket (stream, POLLOUT, idle_until (stream)) && g_get_monotonic_time () >= idle_until (stream))
            return gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "%s: the server took nothing for %s", stream->what,
                            idle_time (stream));
          continue;
        }
      if (n <= 0)
        return fail_broken (stream, why, error);
      moved (stream);
      bytes += n;
      len -= (gsize) n;
    }
  return TRUE;
}

static gboolean
write_frame (GsClientStream *stream, guint8 type, const guint8 *bytes, gsize len, GError **error)
{
  guint8 header[GS_CHUNK_HEADER_SIZE];
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stream->write_lock);
  gs_chunk_write (header, type, (guint32) len);
  return write_bytes (stream, header, sizeof header, error) && write_bytes (stream, bytes, len, error);
}

/* Says that we are alive, unless END was said, or a frame is on its way, which says the same. It must not wait for a
 * writer: that one may be waiting for the server, and the server for us to read. */
static gboolean
write_ping (GsClientStream *stream, GError **error)
{
  guint8 header[GS_CHUNK_HEADER_SIZE];
  gboolean good = TRUE;
  if (pthread_mutex_trylock (&stream->write_lock.m) != 0)
    return TRUE;
  /* Looked at under the lock: nothing may follow END. */
  if (!__atomic_load_n (&stream->ended, __ATOMIC_ACQUIRE))
    {
      gs_chunk_write (header, GS_CHUNK_PING, 0);
      good = write_bytes (stream, header, sizeof header, error);
    }
  gs_mutex_unlock (&stream->write_lock);
  return good;
}

/* Some bytes, and PINGs while there are none. */
static gssize
read_some (GsClientStream *stream, guint8 *to, gsize len, GError **error)
{
  gint64 ping_us = g_get_monotonic_time () + PING_US;
  for (;;)
    {
      const char *why = "the server hung up";
      ssize_t n = move_bytes (stream, to, len, FALSE, &why);
      gint64 now_us = g_get_monotonic_time ();
      if (n > 0)
        {
          moved (stream);
          return n;
        }
      if (n != -1)
        {
          fail_broken (stream, why, error);
          return -1;
        }
      if (now_us >= idle_until (stream))
        {
          gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "%s: nothing was heard of the server for %s", stream->what,
                   idle_time (stream));
          return -1;
        }
      if (now_us >= ping_us)
        {
          /* It does not count as movement: the server's own word does. */
          gint64 before = __atomic_load_n (&stream->moved_us, __ATOMIC_RELAXED);
          if (!write_ping (stream, error))
            return -1;
          __atomic_store_n (&stream->moved_us, before, __ATOMIC_RELAXED);
          ping_us = now_us + PING_US;
        }
      wait_socket (stream, POLLIN, MIN (ping_us, idle_until (stream)));
    }
}

static gboolean
read_exactly (GsClientStream *stream, guint8 *to, gsize len, GError **error)
{
  while (len > 0)
    {
      gssize n = read_some (stream, to, len, error);
      if (n < 0)
        return FALSE;
      to += n;
      len -= (gsize) n;
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------ connecting */

static int
connect_one (const struct sockaddr *address, socklen_t len, gint64 until_us)
{
  int fd = socket (address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int failed = 0;
  socklen_t size = sizeof failed;
  if (fd < 0)
    return -1;
  if (connect (fd, address, len) != 0)
    {
      struct pollfd ready = { .fd = fd, .events = POLLOUT };
      gint64 left_ms = (until_us - g_get_monotonic_time ()) / 1000;
      if (errno != EINPROGRESS)
        failed = errno;
      else if (left_ms <= 0 || poll (&ready, 1, (int) MIN (left_ms, 3600000)) != 1)
        failed = ETIMEDOUT;
      else
        getsockopt (fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    }
  if (failed == 0)
    return fd;
  close (fd);
  errno = failed;
  return -1;
}

static int
connect_tcp (const char *host, guint port, gint64 until_us, GError **error)
{
  struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
  struct addrinfo *found = NULL;
  char text[8];
  int fd = -1, yes = 1, rv;
  g_snprintf (text, sizeof text, "%u", port);
  rv = getaddrinfo (host, text, &hints, &found);
  if (rv != 0)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s: %s", host, gai_strerror (rv));
      return -1;
    }
  for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next)
    fd = connect_one (at->ai_addr, at->ai_addrlen, until_us);
  if (fd < 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s:%u: %s", host, port, g_strerror (errno));
  else
    {
      setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
      setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    }
  freeaddrinfo (found);
  return fd;
}

static int
connect_ipc (const char *path, gint64 until_us, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int fd;
  g_strlcpy (address.sun_path, path, sizeof address.sun_path);
  fd = connect_one ((struct sockaddr *) &address, sizeof address, until_us);
  if (fd < 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s: %s", path, g_strerror (errno));
  return fd;
}

static gboolean
start_tls (GsClientStream *stream, const GsAddress *address, gint64 until_us, GError **error)
{
  stream->tls = gs_address_session (address, error);
  if (stream->tls == NULL)
    return FALSE;
  gnutls_transport_set_int (stream->tls, stream->fd);
  for (;;)
    {
      int rv = gnutls_handshake (stream->tls);
      if (rv == 0)
        return TRUE;
      if (gnutls_error_is_fatal (rv))
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS to the stream's address: %s", gnutls_strerror (rv));
      if (!wait_socket (stream, gnutls_record_get_direction (stream->tls) ? POLLOUT : POLLIN, until_us))
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS to the stream's address: no answer in time");
    }
}

/* Connects where the ticket says and shows it. */
static gboolean
redeem (GsClientStream *stream, const GsClient *client, const Gitstead__V1__StreamTicket *ticket, gint64 until_us,
        GError **error)
{
  GsAddress address;
  guint8 hello[GS_STREAM_HELLO_SIZE], answer[GS_STREAM_ANSWER_SIZE];
  guint32 status;
  if (ticket->ticket.len != GS_STREAM_TICKET_SIZE)
    return gs_fail (error, GS_ERROR_INTERNAL, "the server's ticket has %" G_GSIZE_FORMAT " bytes", ticket->ticket.len);
  if (!gs_address_parse (&address, ticket->endpoint, TRUE, error))
    return FALSE;
  if (address.scheme != client->address.scheme)
    {
      /* Never from TLS to the clear on somebody's word. */
      gs_fail (error, GS_ERROR_INTERNAL, "the server names %s for the stream of a call on %s", address.url,
               client->address.url);
      gs_address_clear (&address);
      return FALSE;
    }
  stream->fd = address.scheme == GS_LINK_IPC
                   ? connect_ipc (address.path, until_us, error)
                   : connect_tcp (address.host[0] != '\0' ? address.host : client->address.host, address.port, until_us,
                                  error);
  gs_address_clear (&address);
  if (stream->fd < 0)
    return FALSE;
  moved (stream);
  /* A server that takes connections and says nothing is one that hangs: this is still connecting. */
  stream->until_us = until_us;
  if (client->address.scheme == GS_LINK_TLS && !start_tls (stream, &client->address, until_us, error))
    return FALSE;
  gs_stream_hello_write (hello, ticket->ticket.data);
  if (!write_bytes (stream, hello, sizeof hello, error) || !read_exactly (stream, answer, sizeof answer, error))
    return FALSE;
  if (!gs_stream_answer_parse (answer, &status))
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "what listens at the stream's address is no Gitstead server");
  if (status != GS_OK)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the server does not know the stream's ticket (any more): %s",
                    gs_error_name ((int) status));
  stream->until_us = 0;
  return TRUE;
}

GsClientStream *
gs_client_stream_open_raw (GsClient *client, guint32 method, GBytes *payload, GsClientCall *call, GError **error)
{
  g_autoptr (GBytes) reply = NULL;
  g_autoptr (GsArena) arena = gs_arena_new (TICKET_ARENA);
  g_autoptr (GsClientStream) stream = NULL;
  g_autoptr (GError) why = NULL;
  const Gitstead__V1__StreamTicket *ticket;
  gsize len;
  const guint8 *bytes;
  if (!gs_client_call_raw (client, method, payload, call, &reply, error))
    return NULL;
  stream = g_new0 (GsClientStream, 1);
  stream->method = gs_wire_methods_find (client->methods, method, NULL);
  stream->what = gs_client_what (client, method);
  stream->fd = -1;
  gs_mutex_init (&stream->tls_lock);
  gs_mutex_init (&stream->write_lock);
  bytes = g_bytes_get_data (reply, &len);
  ticket = (gpointer) gs_wire_decode (arena, &gitstead__v1__stream_ticket__descriptor, bytes, len, &why);
  if (ticket == NULL || !redeem (stream, client, ticket, g_get_monotonic_time () + client->connect_timeout_us, &why))
    {
      /* The reply was a success, and its verdict is no longer the call's. */
      if (call != NULL)
        call->ret_retry = gs_error_retry (gs_error_code (why));
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s: ", stream->what);
      return NULL;
    }
  return g_steal_pointer (&stream);
}

/* ----------------------------------------------------------------------------------------- reading */

/* The server's last frame. */
static gboolean
read_last (GsClientStream *stream, guint8 type, guint32 length, GError **error)
{
  g_autofree guint8 *bytes = g_malloc (MAX (length, 1));
  if (!read_exactly (stream, bytes, length, error))
    return FALSE;
  __atomic_store_n (&stream->closed, 1, __ATOMIC_RELEASE);
  if (type == GS_CHUNK_RESET)
    {
      guint32 status = gs_get_u32 (bytes);
      return gs_fail (error, status > 0 && status <= GS_ERROR_UNAUTHENTICATED ? (GsErrorCode) status : GS_ERROR_UNKNOWN,
                      "%s: the server broke the stream off", stream->what);
    }
  stream->trailer = g_bytes_new_take (g_steal_pointer (&bytes), length);
  return TRUE;
}

/* Goes on to the next DATA frame (in_left > 0) or the trailer. */
static gboolean
next_frame (GsClientStream *stream, GError **error)
{
  while (stream->in_left == 0 && stream->trailer == NULL)
    {
      guint8 header[GS_CHUNK_HEADER_SIZE], type;
      guint32 length;
      if (!read_exactly (stream, header, sizeof header, error) || !gs_chunk_parse (header, &type, &length, error))
        return FALSE;
      if (type == GS_CHUNK_DATA)
        stream->in_left = length;
      else if ((type == GS_CHUNK_TRAILER || type == GS_CHUNK_RESET) && !read_last (stream, type, length, error))
        return FALSE;
    }
  return TRUE;
}

gssize
gs_client_stream_read (GsClientStream *stream, gpointer buffer, gsize len, GError **error)
{
  gssize n;
  if (stream->failure == NULL && next_frame (stream, &stream->failure))
    {
      if (stream->trailer != NULL || len == 0)
        return 0;
      n = read_some (stream, buffer, MIN (len, stream->in_left), &stream->failure);
      if (n > 0)
        {
          stream->in_left -= (gsize) n;
          return n;
        }
    }
  if (error != NULL)
    *error = g_error_copy (stream->failure);
  return -1;
}

/* ------------------------------------------------------------------------------------------ writing */

gboolean
gs_client_stream_write (GsClientStream *stream, gconstpointer bytes, gsize len, GError **error)
{
  const guint8 *at = bytes;
  while (len > 0)
    {
      gsize n = MIN (len, GS_CHUNK_MAX);
      if (__atomic_load_n (&stream->closed, __ATOMIC_ACQUIRE))
        return gs_fail (error, GS_ERROR_CANCELLED, "%s: the server has ended the call", stream->what);
      if (!write_frame (stream, GS_CHUNK_DATA, at, n, error))
        return FALSE;
      at += n;
      len -= n;
    }
  return TRUE;
}

gboolean
gs_client_stream_end (GsClientStream *stream, GError **error)
{
  if (__atomic_exchange_n (&stream->ended, 1, __ATOMIC_ACQ_REL))
    return TRUE;
  return write_frame (stream, GS_CHUNK_END, NULL, 0, error);
}

/* ------------------------------------------------------------------------------------------- the end */

static gboolean
read_trailer (GsClientStream *stream, GBytes **ret_payload, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (TRAILER_ARENA);
  gsize len;
  const guint8 *bytes = g_bytes_get_data (stream->trailer, &len);
  const Gitstead__V1__StreamTrailer *trailer
      = (gpointer) gs_wire_decode (arena, &gitstead__v1__stream_trailer__descriptor, bytes, len, error);
  if (trailer == NULL)
    return FALSE;
  if (trailer->status != GS_OK)
    {
      if (trailer->header != NULL)
        gs_client_verdict (trailer->header, &stream->retry, &stream->retry_after_us);
      else
        stream->retry = gs_error_retry ((int) MIN (trailer->status, G_MAXINT));
      gs_fail (error, trailer->status <= GS_ERROR_UNAUTHENTICATED ? (GsErrorCode) trailer->status : GS_ERROR_INTERNAL, "%s: %s",
               stream->what,
               trailer->header != NULL && trailer->header->message[0] != '\0'
                   ? gs_client_said (stream->what, trailer->header->message)
                   : gs_error_name ((int) trailer->status));
      gs_client_details (error, trailer->header != NULL ? trailer->header->details : NULL);
      return FALSE;
    }
  if (ret_payload != NULL)
    *ret_payload = g_bytes_new (trailer->payload.data, trailer->payload.len);
  return TRUE;
}

gboolean
gs_client_stream_finish_raw (GsClientStream *stream, GBytes **ret_payload, GError **error)
{
  g_autofree guint8 *buffer = g_malloc (65536);
  gssize n;
  /* When it cannot be sent, the server may still have said why. */
  gs_client_stream_end (stream, NULL);
  do
    n = gs_client_stream_read (stream, buffer, 65536, error);
  while (n > 0);
  stream->finished = TRUE;
  if (n < 0) /* nobody gave a verdict */
    stream->retry = gs_error_retry (gs_error_code (stream->failure));
  return n == 0 && read_trailer (stream, ret_payload, error);
}

void
gs_client_stream_cancel (GsClientStream *stream)
{
  shutdown (stream->fd, SHUT_RDWR);
}

void
gs_client_stream_free (GsClientStream *stream)
{
  if (stream == NULL)
    return;
  if (stream->fd >= 0 && !stream->finished)
    {
      /* One try, without waiting; the end of the connection says the same. */
      guint8 reset[GS_CHUNK_HEADER_SIZE + 4];
      const char *why;
      gs_chunk_write (reset, GS_CHUNK_RESET, 4);
      gs_put_u32 (reset + GS_CHUNK_HEADER_SIZE, GS_ERROR_CANCELLED);
      move_bytes (stream, reset, sizeof reset, TRUE, &why);
    }
  if (stream->tls != NULL)
    gnutls_deinit (stream->tls);
  if (stream->fd >= 0)
    close (stream->fd);
  g_clear_pointer (&stream->trailer, g_bytes_unref);
  g_clear_error (&stream->failure);
  gs_mutex_clear (&stream->tls_lock);
  gs_mutex_clear (&stream->write_lock);
  g_free (stream->what);
  g_free (stream);
}
