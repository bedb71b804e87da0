/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: SP REQ over an nng_stream, many requests at once.
 *
 * Connecting and greeting run in the caller's thread and wait. From then on a receive is always outstanding, and a
 * send while there is something to send; nng's callbacks take in replies and wake the callers. Callbacks hold no
 * reference: freeing an aio waits for them, and links are only freed by callers.
 */
#include "link.h"

#include <errno.h>
#include <nng/nng.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_US (50 * 1000) /* at the caller's wish to stop */
#define RAW_SIZE (16 * 1024)
#define REPLY_MAX (64 * 1024 * 1024 + 1024)
#define FIRST_SIZE 4096

struct GsLink
{
  gint refs;
  const GsAddress *address; /* the client's; outlives the link */
  nng_stream *stream;
  nng_aio *rx_aio, *tx_aio, *wait_aio; /* wait_aio: for the time of connecting */

  GsMutex lock;
  GsCond changed;
  gboolean broken, sending;
  guint32 next_id;
  GHashTable *waiting; /* id -> GsPending */
  GQueue tx;           /* GsPending or, of callers that gave up, nothing: see tx_current */
  GBytes *tx_current;  /* being sent */
  gsize tx_off;
  guint8 *rx;
  gsize rx_len, rx_cap;

  gnutls_session_t tls;
  guint8 *raw;
  gsize raw_off, raw_len;
  GByteArray *tls_out;
};

static void start_send (GsLink *link);

/* ------------------------------------------------------------------------------------------ TLS */

static ssize_t
tls_push (gnutls_transport_ptr_t user, const void *bytes, size_t len)
{
  GsLink *link = user;
  g_byte_array_append (link->tls_out, bytes, (guint) len);
  return (ssize_t) len;
}

static ssize_t
tls_pull (gnutls_transport_ptr_t user, void *buffer, size_t len)
{
  GsLink *link = user;
  gsize n = MIN (len, link->raw_len - link->raw_off);
  if (n == 0)
    {
      gnutls_transport_set_errno (link->tls, EAGAIN);
      return -1;
    }
  memcpy (buffer, link->raw + link->raw_off, n);
  link->raw_off += n;
  return (ssize_t) n;
}

/* --------------------------------------------------------------------------- waiting, to connect */

static nng_duration
remaining_ms (gint64 until_us)
{
  gint64 left = (until_us - g_get_monotonic_time ()) / 1000 + 1;
  return (nng_duration) CLAMP (left, 1, G_MAXINT);
}

static gboolean
fail_nng (GError **error, const GsLink *link, int rv, const char *doing)
{
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s %s: %s", doing, link->address->url,
                  rv == NNG_ETIMEDOUT ? "no answer in time" : nng_strerror (rv));
}

/* nng has one word for all that can be wrong with a socket's path. */
static gboolean
fail_ipc (GError **error, const char *path, const char *nng)
{
  struct stat st;
  if (stat (path, &st) != 0)
    {
      int err = errno;
      return err == ENOENT || err == ENOTDIR
                 ? gs_fail (error, GS_ERROR_UNAVAILABLE, "no such socket: is the server running? (%s)", path)
                 : gs_fail (error, GS_ERROR_UNAVAILABLE, "cannot look at the socket %s: %s", path, g_strerror (err));
    }
  if (!S_ISSOCK (st.st_mode))
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s is no socket", path);
  if (access (path, W_OK) != 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the socket %s may not be used by this user: %s", path,
                    g_strerror (errno));
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to the socket %s: %s; is the server running?", path, nng);
}

static gboolean
fail_dial (GError **error, const GsLink *link, int rv)
{
  const GsAddress *address = link->address;
  if (address->scheme == GS_LINK_IPC) /* also when time was up: what is wrong with the path says more */
    return fail_ipc (error, address->path, rv == NNG_ETIMEDOUT ? "no answer in time" : nng_strerror (rv));
  if (rv == NNG_EADDRINVAL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s: there is no address for the host name '%s'", address->url,
                    address->host);
  return fail_nng (error, link, rv, "connect to");
}

/* Sends all of @bytes, or receives some (@len NULL: send). */
static int
wait_io (GsLink *link, void *bytes, gsize len, gboolean receive, gint64 until_us, gsize *ret_n)
{
  nng_iov vector = { .iov_buf = bytes, .iov_len = len };
  int rv;
  nng_aio_set_timeout (link->wait_aio, remaining_ms (until_us));
  nng_aio_set_iov (link->wait_aio, 1, &vector);
  if (receive)
    nng_stream_recv (link->stream, link->wait_aio);
  else
    nng_stream_send (link->stream, link->wait_aio);
  nng_aio_wait (link->wait_aio);
  rv = nng_aio_result (link->wait_aio);
  *ret_n = nng_aio_count (link->wait_aio);
  return rv == 0 && *ret_n == 0 ? NNG_ECONNSHUT : rv;
}

static gboolean
wait_send (GsLink *link, const guint8 *bytes, gsize len, gint64 until_us, GError **error)
{
  while (len > 0)
    {
      gsize n = 0;
      int rv = wait_io (link, (void *) bytes, len, FALSE, until_us, &n);
      if (rv != 0)
        return fail_nng (error, link, rv, "send nng's greeting to");
      bytes += n;
      len -= n;
    }
  return TRUE;
}

static gboolean
wait_flush (GsLink *link, gint64 until_us, GError **error)
{
  g_autoptr (GByteArray) out = g_steal_pointer (&link->tls_out);
  link->tls_out = g_byte_array_new ();
  return wait_send (link, out->data, out->len, until_us, error);
}

static gboolean
wait_raw (GsLink *link, gint64 until_us, GError **error)
{
  gsize n = 0;
  int rv = wait_io (link, link->raw, RAW_SIZE, TRUE, until_us, &n);
  link->raw_off = 0;
  link->raw_len = n;
  return rv == 0 || fail_nng (error, link, rv, "receive nng's greeting from");
}

/* Why it failed, from the server's mouth where that has told. */
static const char *
tls_text (GsLink *link, int rv)
{
  const char *alert = rv == GNUTLS_E_FATAL_ALERT_RECEIVED ? gnutls_alert_get_name (gnutls_alert_get (link->tls)) : NULL;
  return alert != NULL ? alert : gnutls_strerror (rv);
}

/*
 * With TLS 1.3 a client is through before the server has looked at its certificate: one that is not taken shows as a
 * connection that ends at once.
 */
static gboolean
fail_early (const GsLink *link, const char *why, GError **error)
{
  return gs_fail (error, GS_ERROR_UNAVAILABLE,
                  "TLS to %s: the server ended the connection at once (%s); it may want a client certificate, or not trust "
                  "the one that it was shown",
                  link->address->url, why);
}

static gboolean
handshake (GsLink *link, gint64 until_us, GError **error)
{
  link->tls = gs_address_session (link->address, error);
  if (link->tls == NULL)
    return FALSE;
  link->raw = g_malloc (RAW_SIZE);
  link->tls_out = g_byte_array_new ();
  gnutls_transport_set_ptr (link->tls, link);
  gnutls_transport_set_push_function (link->tls, tls_push);
  gnutls_transport_set_pull_function (link->tls, tls_pull);
  for (;;)
    {
      int rv = gnutls_handshake (link->tls);
      if (rv < 0 && gnutls_error_is_fatal (rv))
        {
          g_autoptr (GError) ignored = NULL;
          gnutls_datum_t text = { 0 };
          if (rv == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR
              && gnutls_certificate_verification_status_print (gnutls_session_get_verify_cert_status (link->tls),
                                                               GNUTLS_CRT_X509, &text, 0)
                     == 0)
            gs_fail (error, GS_ERROR_UNAUTHENTICATED, "TLS to %s: %s", link->address->url, (const char *) text.data);
          else
            gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS to %s: %s", link->address->url, tls_text (link, rv));
          gnutls_free (text.data);
          wait_flush (link, until_us, &ignored); /* the alert, so that the server knows why */
          return FALSE;
        }
      if (!wait_flush (link, until_us, error))
        return FALSE;
      if (rv == 0)
        return TRUE;
      if (link->raw_off == link->raw_len && !wait_raw (link, until_us, error))
        return FALSE;
    }
}

/* Exactly @len plain bytes. */
static gboolean
wait_plain (GsLink *link, guint8 *to, gsize len, gint64 until_us, GError **error)
{
  gsize have = 0;
  while (have < len)
    {
      gsize n = 0;
      if (link->tls == NULL)
        {
          int rv = wait_io (link, to + have, len - have, TRUE, until_us, &n);
          if (rv != 0)
            return fail_nng (error, link, rv, "receive nng's greeting from");
        }
      else
        {
          ssize_t got = gnutls_record_recv (link->tls, to + have, len - have);
          if (got == GNUTLS_E_AGAIN)
            {
              g_autoptr (GError) why = NULL;
              if (wait_raw (link, until_us, &why))
                continue;
              if (have == 0 && g_get_monotonic_time () < until_us)
                return fail_early (link, why->message, error);
              g_propagate_error (error, g_steal_pointer (&why));
              return FALSE;
            }
          if (got == GNUTLS_E_INTERRUPTED)
            continue;
          if (got <= 0)
            return fail_early (link, got == 0 ? "it hung up" : tls_text (link, (int) got), error);
          n = (gsize) got;
        }
      have += n;
    }
  return TRUE;
}

static gboolean
greet (GsLink *link, gint64 until_us, GError **error)
{
  guint8 header[GS_SP_HEADER_SIZE];
  gs_sp_header_write (header, GS_SP_REQ);
  if (link->tls != NULL)
    {
      ssize_t n = gnutls_record_send (link->tls, header, sizeof header);
      if (n < 0)
        return gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS to %s: %s", link->address->url, gnutls_strerror ((int) n));
      if (!wait_flush (link, until_us, error))
        return FALSE;
    }
  else if (!wait_send (link, header, sizeof header, until_us, error))
    return FALSE;
  if (!wait_plain (link, header, sizeof header, until_us, error))
    return FALSE;
  if (!gs_sp_header_check (header, GS_SP_REP))
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s answers, but is no Gitstead server (it does not speak SP REP)",
                    link->address->url);
  return TRUE;
}

static G_NO_INLINE int
dial_url (GsLink *link, const char *url, gint64 until_us)
{
  nng_stream_dialer *dialer;
  int rv = nng_stream_dialer_alloc (&dialer, url);
  if (rv != 0)
    return rv;
  nng_aio_set_timeout (link->wait_aio, remaining_ms (until_us));
  nng_stream_dialer_dial (dialer, link->wait_aio);
  nng_aio_wait (link->wait_aio);
  rv = nng_aio_result (link->wait_aio);
  if (rv == 0)
    link->stream = nng_aio_get_output (link->wait_aio, 0);
  nng_stream_dialer_close (dialer);
  nng_stream_dialer_free (dialer);
  return rv;
}

/* Neither is inlined: tests/tsan.supp names this one, because nng's functions hide their caller from the stack. */
static G_NO_INLINE gboolean
dial_server (GsLink *link, gint64 until_us, GError **error)
{
  const GsAddress *address = link->address;
  gboolean bracket = address->host != NULL && strchr (address->host, ':') != NULL;
  g_autofree char *url = address->scheme == GS_LINK_IPC
                             ? g_strdup (address->url)
                             : g_strdup_printf ("tcp://%s%s%s:%u", bracket ? "[" : "", address->host,
                                                bracket ? "]" : "", address->port);
  int rv = dial_url (link, url, until_us);
  if (rv != 0)
    return fail_dial (error, link, rv);
  if (address->scheme != GS_LINK_IPC)
    nng_stream_set_bool (link->stream, NNG_OPT_TCP_KEEPALIVE, true);
  return TRUE;
}

/* --------------------------------------------------------------------------------- once connected */

/* Wakes everybody who waits. Under the lock. */
static void
set_broken (GsLink *link)
{
  GHashTableIter iter;
  gpointer value;
  link->broken = TRUE;
  g_hash_table_iter_init (&iter, link->waiting);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    ((GsPending *) value)->failed = TRUE;
  gs_cond_broadcast (&link->changed);
}

/* Takes whole replies out of the buffer. FALSE: not what a server sends. Under the lock. */
static gboolean
take_replies (GsLink *link)
{
  gsize type = link->address->scheme == GS_LINK_IPC ? 1 : 0, off = 0;
  for (;;)
    {
      const guint8 *at = link->rx + off;
      gsize have = link->rx_len - off;
      guint64 len;
      GsPending *pending;
      if (type == 1 && have > 0 && at[0] != GS_SP_IPC_MESSAGE)
        return FALSE;
      if (have < type + GS_SP_LENGTH_SIZE)
        break;
      len = gs_get_u64 (at + type);
      if (len < 4 || len > REPLY_MAX)
        return FALSE;
      if (have - type - GS_SP_LENGTH_SIZE < len)
        break;
      at += type + GS_SP_LENGTH_SIZE;
      pending = g_hash_table_lookup (link->waiting, GUINT_TO_POINTER (gs_get_u32 (at)));
      if (pending != NULL && pending->reply == NULL)
        {
          pending->reply = g_bytes_new (at + 4, (gsize) len - 4);
          gs_cond_broadcast (&link->changed);
        }
      off += type + GS_SP_LENGTH_SIZE + (gsize) len;
    }
  memmove (link->rx, link->rx + off, link->rx_len - off);
  link->rx_len -= off;
  if (link->rx_len == 0 && link->rx_cap > FIRST_SIZE)
    {
      link->rx = g_realloc (link->rx, FIRST_SIZE);
      link->rx_cap = FIRST_SIZE;
    }
  return TRUE;
}

static void
make_room (GsLink *link)
{
  if (link->rx_len < link->rx_cap)
    return;
  link->rx_cap *= 2; /* with what has come; replies have a limit */
  link->rx = g_realloc (link->rx, link->rx_cap);
}

/* Decrypts what there is. FALSE: broken. Under the lock. */
static gboolean
decrypt (GsLink *link)
{
  for (;;)
    {
      ssize_t n;
      make_room (link);
      n = gnutls_record_recv (link->tls, link->rx + link->rx_len, link->rx_cap - link->rx_len);
      if (n == GNUTLS_E_AGAIN)
        return TRUE;
      if (n == 0 || (n < 0 && gnutls_error_is_fatal ((int) n)))
        return FALSE;
      if (n > 0)
        link->rx_len += (gsize) n;
      if (!take_replies (link))
        return FALSE;
    }
}

static void
receive (GsLink *link)
{
  nng_iov vector;
  if (link->tls != NULL)
    {
      vector.iov_buf = link->raw;
      vector.iov_len = RAW_SIZE;
    }
  else
    {
      make_room (link);
      vector.iov_buf = link->rx + link->rx_len;
      vector.iov_len = link->rx_cap - link->rx_len;
    }
  nng_aio_set_iov (link->rx_aio, 1, &vector);
  nng_stream_recv (link->stream, link->rx_aio);
}

static void
on_received (void *user)
{
  GsLink *link = user;
  int rv = nng_aio_result (link->rx_aio);
  gsize n = nng_aio_count (link->rx_aio);
  gboolean good = rv == 0 && n > 0, flush = FALSE;
  gs_mutex_lock (&link->lock);
  if (good && link->tls != NULL)
    {
      link->raw_off = 0;
      link->raw_len = n;
      good = decrypt (link);
      flush = link->tls_out->len > 0;
    }
  else if (good)
    {
      link->rx_len += n;
      good = take_replies (link);
    }
  if (!good)
    set_broken (link);
  gs_mutex_unlock (&link->lock);
  /* Only this callback touches the receive buffer, and the next one starts here. */
  if (good)
    receive (link);
  if (good && flush)
    start_send (link);
}

/* The next bytes to send. Under the lock. */
static gboolean
next_bytes (GsLink *link)
{
  GsPending *pending;
  if (link->tx_current != NULL)
    return TRUE;
  if (link->tls != NULL && link->tls_out->len > 0)
    {
      link->tx_current = g_byte_array_free_to_bytes (g_steal_pointer (&link->tls_out));
      link->tls_out = g_byte_array_new ();
      return TRUE;
    }
  pending = g_queue_pop_head (&link->tx);
  if (pending == NULL)
    return FALSE;
  pending->begun = TRUE;
  link->tx_current = g_steal_pointer (&pending->message);
  if (link->tls != NULL)
    {
      g_autoptr (GBytes) plain = g_steal_pointer (&link->tx_current);
      gsize len, done = 0;
      const guint8 *bytes = g_bytes_get_data (plain, &len);
      while (done < len)
        {
          ssize_t n = gnutls_record_send (link->tls, bytes + done, len - done);
          if (n < 0 && gnutls_error_is_fatal ((int) n))
            {
              set_broken (link);
              return FALSE;
            }
          done += n > 0 ? (gsize) n : 0;
        }
      link->tx_current = g_byte_array_free_to_bytes (g_steal_pointer (&link->tls_out));
      link->tls_out = g_byte_array_new ();
    }
  return TRUE;
}

static void
start_send (GsLink *link)
{
  nng_iov vector;
  gboolean send = FALSE;
  gs_mutex_lock (&link->lock);
  if (!link->sending && !link->broken && next_bytes (link))
    {
      gsize len;
      const guint8 *bytes = g_bytes_get_data (link->tx_current, &len);
      vector.iov_buf = (void *) (bytes + link->tx_off);
      vector.iov_len = len - link->tx_off;
      link->sending = send = TRUE;
    }
  gs_mutex_unlock (&link->lock);
  if (!send)
    return;
  nng_aio_set_iov (link->tx_aio, 1, &vector);
  nng_stream_send (link->stream, link->tx_aio);
}

static void
on_sent (void *user)
{
  GsLink *link = user;
  int rv = nng_aio_result (link->tx_aio);
  gs_mutex_lock (&link->lock);
  link->sending = FALSE;
  link->tx_off += nng_aio_count (link->tx_aio);
  if (rv != 0)
    set_broken (link);
  else if (link->tx_off >= g_bytes_get_size (link->tx_current))
    {
      g_clear_pointer (&link->tx_current, g_bytes_unref);
      link->tx_off = 0;
    }
  gs_mutex_unlock (&link->lock);
  start_send (link);
}

/* -------------------------------------------------------------------------------------- for callers */

GsLink *
gs_link_ref (GsLink *link)
{
  g_atomic_int_inc (&link->refs);
  return link;
}

void
gs_link_unref (GsLink *link)
{
  if (link == NULL || !g_atomic_int_dec_and_test (&link->refs))
    return;
  if (link->stream != NULL)
    nng_stream_close (link->stream);
  if (link->rx_aio != NULL)
    nng_aio_free (link->rx_aio);
  if (link->tx_aio != NULL)
    nng_aio_free (link->tx_aio);
  if (link->wait_aio != NULL)
    nng_aio_free (link->wait_aio);
  if (link->stream != NULL)
    nng_stream_free (link->stream); /* nng's reaper closes the descriptor, a moment later: nothing tells when */
  if (link->tls != NULL)
    gnutls_deinit (link->tls);
  g_clear_pointer (&link->tls_out, g_byte_array_unref);
  g_clear_pointer (&link->tx_current, g_bytes_unref);
  g_hash_table_unref (link->waiting);
  g_free (link->raw);
  g_free (link->rx);
  gs_cond_clear (&link->changed);
  gs_mutex_clear (&link->lock);
  g_free (link);
}

GsLink *
gs_link_open (const GsAddress *address, gint64 until_us, GError **error)
{
  GsLink *link = g_new0 (GsLink, 1);
  link->refs = 1;
  link->address = address;
  link->rx_cap = FIRST_SIZE;
  link->rx = g_malloc (link->rx_cap);
  link->waiting = g_hash_table_new (NULL, NULL);
  gs_client_random (&link->next_id, sizeof link->next_id);
  gs_mutex_init (&link->lock);
  gs_cond_init (&link->changed);
  if (nng_aio_alloc (&link->wait_aio, NULL, NULL) != 0 || nng_aio_alloc (&link->rx_aio, on_received, link) != 0
      || nng_aio_alloc (&link->tx_aio, on_sent, link) != 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s: out of memory", address->url);
  else if (dial_server (link, until_us, error)
           && (address->scheme != GS_LINK_TLS || handshake (link, until_us, error)) && greet (link, until_us, error))
    {
      nng_aio_set_timeout (link->rx_aio, NNG_DURATION_INFINITE);
      nng_aio_set_timeout (link->tx_aio, NNG_DURATION_INFINITE);
      gs_mutex_lock (&link->lock);
      if (link->tls != NULL && !decrypt (link)) /* what came right behind the greeting */
        set_broken (link);
      gs_mutex_unlock (&link->lock);
      receive (link);
      return link;
    }
  gs_link_unref (link);
  return NULL;
}

gboolean
gs_link_is_broken (GsLink *link)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&link->lock);
  return link->broken;
}

static GBytes *
frame_message (const GsLink *link, guint32 id, const GByteArray *envelope)
{
  gsize type = link->address->scheme == GS_LINK_IPC ? 1 : 0;
  gsize len = type + GS_SP_LENGTH_SIZE + 4 + envelope->len;
  guint8 *message = g_malloc (len);
  message[0] = GS_SP_IPC_MESSAGE;
  gs_put_u64 (message + type, 4 + (guint64) envelope->len);
  gs_put_u32 (message + type + GS_SP_LENGTH_SIZE, id);
  memcpy (message + type + GS_SP_LENGTH_SIZE + 4, envelope->data, envelope->len);
  return g_bytes_new_take (message, len);
}

gboolean
gs_link_call (GsLink *link, GByteArray *envelope, gint64 until_us, const GsClientCall *call, GsPending *pending)
{
  memset (pending, 0, sizeof *pending);
  gs_mutex_lock (&link->lock);
  if (link->broken)
    pending->failed = TRUE;
  else
    {
      do
        pending->id = ++link->next_id | GS_SP_REQUEST_ID;
      while (g_hash_table_contains (link->waiting, GUINT_TO_POINTER (pending->id)));
      pending->message = frame_message (link, pending->id, envelope);
      g_hash_table_insert (link->waiting, GUINT_TO_POINTER (pending->id), pending);
      g_queue_push_tail (&link->tx, pending);
    }
  gs_mutex_unlock (&link->lock);
  if (pending->failed)
    return FALSE;
  start_send (link);
  gs_mutex_lock (&link->lock);
  while (pending->reply == NULL && !pending->failed && !pending->stopped)
    {
      gint64 look_us = call->stop != NULL ? MIN (until_us, g_get_monotonic_time () + LOOK_US) : until_us;
      if (gs_cond_wait_until (&link->changed, &link->lock, look_us))
        continue;
      if (look_us == until_us)
        break;
      gs_mutex_unlock (&link->lock);
      pending->stopped = call->stop (call->stop_user);
      gs_mutex_lock (&link->lock);
    }
  g_hash_table_remove (link->waiting, GUINT_TO_POINTER (pending->id));
  g_queue_remove (&link->tx, pending);
  g_clear_pointer (&pending->message, g_bytes_unref);
  gs_mutex_unlock (&link->lock);
  return pending->reply != NULL;
}
