/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One control connection: the SP REP protocol over an nng_stream.
 *
 * One receive and one send are outstanding at most. Whoever changes something calls advance, which is the only one to
 * take messages out of the receive buffer and runs in one thread at a time; it posts the next receive when it is done.
 * References: one for being open, one per outstanding receive and send, one per call.
 */
#include "nt.h"

#define RAW_SIZE (16 * 1024)
#define STEP_SIZE (16 * 1024) /* first size of a buffer of its own */
#define LINGER_US G_USEC_PER_SEC /* to read a last error reply before the connection goes */
#define SEND_VECTORS 4

static void advance (NtConn *conn);
static void start_send (NtConn *conn);

NtConn *
nt_conn_ref (NtConn *conn)
{
  __atomic_add_fetch (&conn->refs, 1, __ATOMIC_RELAXED);
  return conn;
}

void
nt_conn_unref (NtConn *conn)
{
  Nt *nt = conn->nt;
  if (__atomic_sub_fetch (&conn->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  /* Freeing an aio waits for its callback, which may be the one that runs this: the reaper does it. */
  gs_mutex_lock (&nt->lock);
  g_queue_push_tail (&nt->to_free, conn);
  gs_cond_broadcast (&nt->changed);
  gs_mutex_unlock (&nt->lock);
}

GPtrArray *
nt_conn_calls (NtConn *conn)
{
  GPtrArray *calls = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_call_unref);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&conn->lock);
  for (GList *at = conn->calls.head; at != NULL; at = at->next)
    g_ptr_array_add (calls, nt_call_ref (at->data));
  return calls;
}

void
nt_conn_close (NtConn *conn)
{
  Nt *nt = conn->nt;
  g_autoptr (GPtrArray) calls = NULL;
  gsize unsent;
  gs_mutex_lock (&conn->lock);
  if (conn->closed)
    {
      gs_mutex_unlock (&conn->lock);
      return;
    }
  conn->closed = TRUE;
  unsent = conn->tx.length + conn->tls_messages;
  conn->tls_messages = 0;
  gs_mutex_unlock (&conn->lock);
  calls = nt_conn_calls (conn);
  g_ptr_array_foreach (calls, (GFunc) (void (*) (void)) nt_call_cancel, NULL);
  gs_mutex_lock (&nt->lock);
  nt->n_unsent -= (guint) unsent;
  g_queue_push_tail (&nt->to_close, conn);
  gs_cond_broadcast (&nt->changed);
  gs_mutex_unlock (&nt->lock);
}

void
nt_conn_free (NtConn *conn)
{
  nng_aio_free (conn->rx_aio);
  nng_aio_free (conn->tx_aio);
  nng_stream_free (conn->stream);
  nt_tls_session_free (conn->tls);
  g_free (conn->tls_refused);
  if (conn->rx != conn->small)
    g_free (conn->rx);
  g_free (conn->raw);
  g_clear_pointer (&conn->tls_out, g_byte_array_unref);
  g_clear_pointer (&conn->tls_sending, g_byte_array_unref);
  g_queue_clear_full (&conn->tx, (GDestroyNotify) g_bytes_unref);
  g_free (conn->certificate);
  gs_mutex_clear (&conn->lock);
  g_free (conn);
}

/* -------------------------------------------------------------------------------------- the buffer */

/* Bytes that the message at the front of the buffer has with its framing; 0 when that cannot be told yet, G_MAXSIZE
 * when it is no message that we take. */
static gsize
message_size (const NtConn *conn)
{
  const guint8 *at = conn->rx + conn->rx_off;
  gsize have = conn->rx_len - conn->rx_off;
  gsize type = conn->peer.scheme == NT_IPC ? 1 : 0;
  guint64 length;
  if (type == 1 && have > 0 && at[0] != GS_SP_IPC_MESSAGE)
    return G_MAXSIZE;
  if (have < type + GS_SP_LENGTH_SIZE)
    return 0;
  length = gs_get_u64 (at + type);
  return length > conn->nt->limits.max_message ? G_MAXSIZE : type + GS_SP_LENGTH_SIZE + (gsize) length;
}

/* Makes room for more bytes behind those that are there. Not while a receive is outstanding. FALSE: none is to be had
 * before a message was taken. */
static gboolean
make_room (NtConn *conn, gboolean full)
{
  gsize need = conn->greeted ? message_size (conn) : GS_SP_HEADER_SIZE;
  gsize have = conn->rx_len - conn->rx_off, cap;
  guint8 *bigger;
  if (have == 0 && conn->rx != conn->small)
    {
      g_free (conn->rx);
      conn->rx = conn->small;
      conn->rx_cap = NT_SMALL;
    }
  else if (have > 0 && conn->rx_off > 0)
    memmove (conn->rx, conn->rx + conn->rx_off, have);
  conn->rx_off = 0;
  conn->rx_len = have;
  if (conn->rx_len < conn->rx_cap)
    return TRUE;
  if (full || need <= conn->rx_cap || need == G_MAXSIZE)
    return FALSE;
  /* Grows with what has arrived, never by what is only announced. */
  cap = MIN (need, MAX (conn->rx_cap * 2, STEP_SIZE));
  bigger = g_try_malloc (cap);
  if (bigger == NULL)
    return FALSE;
  memcpy (bigger, conn->rx, conn->rx_len);
  if (conn->rx != conn->small)
    g_free (conn->rx);
  conn->rx = bigger;
  conn->rx_cap = cap;
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- TLS */

static ssize_t
tls_push (gnutls_transport_ptr_t user, const void *bytes, size_t len)
{
  NtConn *conn = user;
  g_byte_array_append (conn->tls_out, bytes, (guint) len);
  return (ssize_t) len;
}

static ssize_t
tls_pull (gnutls_transport_ptr_t user, void *buffer, size_t len)
{
  NtConn *conn = user;
  gsize n = MIN (len, conn->raw_len - conn->raw_off);
  if (n == 0)
    {
      gnutls_transport_set_errno (conn->tls, EAGAIN);
      return -1;
    }
  memcpy (buffer, conn->raw + conn->raw_off, n);
  conn->raw_off += n;
  return (ssize_t) n;
}

static gboolean
tls_setup (NtConn *conn)
{
  conn->tls = nt_tls_session_new (conn->nt);
  if (conn->tls == NULL)
    return FALSE;
  conn->raw = g_malloc (RAW_SIZE);
  conn->tls_out = g_byte_array_new ();
  gnutls_transport_set_ptr (conn->tls, conn);
  gnutls_transport_set_push_function (conn->tls, tls_push);
  gnutls_transport_set_pull_function (conn->tls, tls_pull);
  return TRUE;
}

/* Turns what has arrived into plain bytes. FALSE: close. Under the lock. */
static gboolean
tls_decrypt (NtConn *conn, gboolean full)
{
  ssize_t n;
  gsize before;
  if (!conn->tls_ready)
    {
      int rv;
      /* A warning alert ends a step early. What came behind it is taken now: while it lies there no receive is
       * posted, and with it no time limit and no notice of the peer's leaving. */
      do
        {
          before = conn->raw_off;
          rv = gnutls_handshake (conn->tls);
        }
      while (rv < 0 && !gnutls_error_is_fatal (rv) && conn->raw_off > before && conn->raw_off < conn->raw_len);
      if (rv < 0 && gnutls_error_is_fatal (rv))
        {
          gnutls_alert_send_appropriate (conn->tls, rv); /* goes out before the connection is closed, if it can */
          conn->tls_refused = nt_tls_refusal (conn->tls, rv);
          return FALSE;
        }
      if (rv < 0)
        return conn->raw_off == conn->raw_len;
      conn->tls_ready = TRUE;
      conn->certificate = nt_tls_peer_name (conn->tls);
    }
  conn->tls_stuck = FALSE;
  for (;;)
    {
      if (!make_room (conn, full))
        {
          conn->tls_stuck = TRUE;
          return TRUE;
        }
      before = conn->raw_off;
      n = gnutls_record_recv (conn->tls, conn->rx + conn->rx_len, conn->rx_cap - conn->rx_len);
      if (n == 0)
        return FALSE;
      if (n < 0 && (n == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal ((int) n)))
        return FALSE;
      if (n < 0 && n != GNUTLS_E_INTERRUPTED && (conn->raw_off == conn->raw_len || conn->raw_off == before))
        return conn->raw_off == conn->raw_len;
      if (n > 0)
        conn->rx_len += (gsize) n;
      if (message_size (conn) != 0 && conn->rx_len - conn->rx_off >= message_size (conn) && conn->greeted)
        {
          conn->tls_stuck = TRUE; /* look again after this message */
          return TRUE;
        }
    }
}

/* Encrypts the next reply. Under the lock. */
static gboolean
tls_encrypt (NtConn *conn)
{
  g_autoptr (GBytes) message = g_queue_pop_head (&conn->tx);
  gsize len, done = 0;
  const guint8 *bytes = g_bytes_get_data (message, &len);
  while (done < len)
    {
      ssize_t n = gnutls_record_send (conn->tls, bytes + done, len - done);
      if (n < 0 && gnutls_error_is_fatal ((int) n))
        return FALSE;
      if (n > 0)
        done += (gsize) n;
    }
  conn->tls_messages++;
  return TRUE;
}

/*
 * To be called when @aio was posted without the lock. A stream that was closed meanwhile neither takes nor refuses it (nng
 * 1.5.2: posix_ipcconn.c and posix_tcpconn.c leave it in their queue), and the connection would wait for it for ever. One
 * that is closed later ends it by itself.
 */
static void
posted (NtConn *conn, nng_aio *aio)
{
  gboolean closed;
  gs_mutex_lock (&conn->lock);
  closed = conn->closed;
  gs_mutex_unlock (&conn->lock);
  if (closed)
    nng_aio_cancel (aio);
}

/* ------------------------------------------------------------------------------------------ sending */

static nng_duration
remaining_ms (gint64 until_us)
{
  gint64 left = until_us - g_get_monotonic_time ();
  return (nng_duration) CLAMP (left / 1000 + 1, 1, G_MAXINT);
}

/* Chooses what goes out next; the number of vectors. Under the lock. */
static unsigned
next_vectors (NtConn *conn, nng_iov *vectors, gboolean *ret_failed)
{
  unsigned n = 0;
  if (conn->tls != NULL)
    {
      if (conn->tls_sending == NULL && conn->tls_out->len == 0 && conn->tls_ready && conn->tx.length > 0
          && !tls_encrypt (conn))
        {
          *ret_failed = TRUE;
          return 0;
        }
      if (conn->tls_sending == NULL && conn->tls_out->len > 0)
        {
          conn->tls_sending = g_steal_pointer (&conn->tls_out);
          conn->tls_out = g_byte_array_new ();
          conn->tx_off = 0;
        }
      if (conn->tls_sending == NULL)
        return 0;
      vectors[0].iov_buf = conn->tls_sending->data + conn->tx_off;
      vectors[0].iov_len = conn->tls_sending->len - conn->tx_off;
      return 1;
    }
  for (GList *at = conn->tx.head; at != NULL && n < SEND_VECTORS; at = at->next, n++)
    {
      gsize len, off = n == 0 ? conn->tx_off : 0;
      const guint8 *bytes = g_bytes_get_data (at->data, &len);
      vectors[n].iov_buf = (void *) (bytes + off);
      vectors[n].iov_len = len - off;
    }
  return n;
}

static void
start_send (NtConn *conn)
{
  nng_iov vectors[SEND_VECTORS];
  gboolean failed = FALSE;
  unsigned n;
  gs_mutex_lock (&conn->lock);
  if (conn->sending || conn->closed)
    {
      gs_mutex_unlock (&conn->lock);
      return;
    }
  n = next_vectors (conn, vectors, &failed);
  if (n > 0)
    {
      conn->sending = TRUE;
      nt_conn_ref (conn);
      if (conn->tx_deadline_us == 0)
        conn->tx_deadline_us = g_get_monotonic_time () + conn->nt->limits.write_us;
      nng_aio_set_timeout (conn->tx_aio, remaining_ms (conn->tx_deadline_us));
    }
  gs_mutex_unlock (&conn->lock);
  if (failed)
    nt_conn_close (conn);
  else if (n > 0)
    {
      nng_aio_set_iov (conn->tx_aio, n, vectors);
      nng_stream_send (conn->stream, conn->tx_aio);
      posted (conn, conn->tx_aio);
    }
}

/* @n more bytes are out; how many replies that finishes. Under the lock. */
static guint
sent_bytes (NtConn *conn, gsize n)
{
  guint messages = 0;
  conn->tx_off += n;
  if (conn->tls != NULL)
    {
      if (conn->tls_sending == NULL || conn->tx_off < conn->tls_sending->len)
        return 0;
      g_clear_pointer (&conn->tls_sending, g_byte_array_unref);
      messages = conn->tls_messages;
      conn->tls_messages = 0;
      conn->tx_off = 0;
    }
  else
    while (conn->tx.length > 0 && conn->tx_off >= g_bytes_get_size (conn->tx.head->data))
      {
        conn->tx_off -= g_bytes_get_size (conn->tx.head->data);
        g_bytes_unref (g_queue_pop_head (&conn->tx));
        messages++;
      }
  if (messages > 0 || conn->tls != NULL)
    conn->tx_deadline_us = 0;
  return messages;
}

static void
on_sent (void *user)
{
  NtConn *conn = user;
  Nt *nt = conn->nt;
  int rv = nng_aio_result (conn->tx_aio);
  gsize n = nng_aio_count (conn->tx_aio);
  guint messages = 0, greetings = 0;
  gs_mutex_lock (&conn->lock);
  conn->sending = FALSE;
  if (rv == 0 && !conn->closed)
    {
      messages = sent_bytes (conn, n);
      greetings = messages > 0 && !conn->hello_sent; /* our SP header, the first thing sent, is no reply */
      conn->hello_sent = conn->hello_sent || messages > 0;
      conn->in_flight -= messages - greetings;
      conn->quiet_us = g_get_monotonic_time ();
    }
  gs_mutex_unlock (&conn->lock);
  if (messages > 0)
    {
      gs_mutex_lock (&nt->lock);
      nt->n_unsent -= messages;
      gs_cond_broadcast (&nt->changed);
      gs_mutex_unlock (&nt->lock);
    }
  nt_count (nt, nt->bytes_out, (double) n);
  if (rv != 0)
    nt_conn_close (conn);
  else
    {
      start_send (conn);
      if (messages > 0)
        advance (conn);
    }
  nt_conn_unref (conn);
}

void
nt_conn_send (NtConn *conn, GBytes *message, gboolean close_after)
{
  Nt *nt = conn->nt;
  /* Counted before it can be sent, so that stop never sees nothing left to send too early. */
  gs_mutex_lock (&nt->lock);
  nt->n_unsent++;
  gs_mutex_unlock (&nt->lock);
  gs_mutex_lock (&conn->lock);
  if (conn->closed)
    {
      gs_mutex_unlock (&conn->lock);
      g_bytes_unref (message);
      gs_mutex_lock (&nt->lock);
      nt->n_unsent--;
      gs_cond_broadcast (&nt->changed);
      gs_mutex_unlock (&nt->lock);
      return;
    }
  g_queue_push_tail (&conn->tx, message);
  if (close_after && conn->close_us == 0)
    conn->close_us = g_get_monotonic_time () + LINGER_US;
  gs_mutex_unlock (&conn->lock);
  start_send (conn);
}

/* ---------------------------------------------------------------------------------------- receiving */

/* What may be taken from the buffer next. */
typedef enum
{
  TAKE_NOTHING, /* wait for more bytes */
  TAKE_MESSAGE,
  TAKE_AGAIN, /* something else was done; look again */
  TAKE_CLOSE
} Take;

static Take
take (NtConn *conn, const guint8 **ret_body, gsize *ret_len)
{
  gsize have = conn->rx_len - conn->rx_off, type = conn->peer.scheme == NT_IPC ? 1 : 0, size;
  const guint8 *at = conn->rx + conn->rx_off;
  if (!conn->greeted)
    {
      if (have < GS_SP_HEADER_SIZE)
        return TAKE_NOTHING;
      if (!gs_sp_header_check (at, GS_SP_REQ))
        return TAKE_CLOSE;
      conn->greeted = TRUE;
      conn->rx_off += GS_SP_HEADER_SIZE;
      return TAKE_AGAIN;
    }
  if (conn->close_us != 0)
    {
      conn->rx_off = conn->rx_len; /* nothing more is taken */
      return TAKE_NOTHING;
    }
  size = message_size (conn);
  if (size == G_MAXSIZE)
    return TAKE_CLOSE;
  if (size == 0 || have < size)
    return TAKE_NOTHING;
  if (conn->in_flight >= conn->nt->limits.max_in_flight)
    return TAKE_NOTHING;
  conn->in_flight++;
  conn->message_us = 0;
  *ret_body = at + type + GS_SP_LENGTH_SIZE;
  *ret_len = size - type - GS_SP_LENGTH_SIZE;
  conn->rx_off += size;
  return TAKE_MESSAGE;
}

/* Is a whole message there that has to wait for a reply to go out? */
static gboolean
is_full (const NtConn *conn)
{
  return conn->greeted && conn->in_flight >= conn->nt->limits.max_in_flight;
}

/* Until when a connection with nothing under way is kept. One that showed no good credentials yet has less time, so that
 * strangers cannot hold all the connections there may be. Under the lock. */
static gint64
quiet_until (const NtConn *conn)
{
  const NtLimits *limits = &conn->nt->limits;
  return conn->quiet_us
         + (__atomic_load_n (&conn->proven, __ATOMIC_RELAXED) ? limits->quiet_us : MIN (limits->message_us, limits->quiet_us));
}

/* Prepares the next receive; FALSE when there is to be none now. Under the lock. */
static gboolean
prepare_receive (NtConn *conn, nng_iov *ret_vector)
{
  const NtLimits *limits = &conn->nt->limits;
  gint64 until;
  if (conn->closed || conn->receiving)
    return FALSE;
  if (conn->tls != NULL)
    {
      if (conn->raw_off < conn->raw_len || conn->tls_stuck)
        return FALSE;
      conn->raw_off = conn->raw_len = 0;
      ret_vector->iov_buf = conn->raw;
      ret_vector->iov_len = RAW_SIZE;
    }
  else
    {
      if (!make_room (conn, is_full (conn)))
        return FALSE;
      ret_vector->iov_buf = conn->rx + conn->rx_len;
      ret_vector->iov_len = conn->rx_cap - conn->rx_len;
    }
  if (conn->close_us != 0)
    until = conn->close_us;
  else if (!conn->greeted)
    until = conn->opened_us + limits->handshake_us;
  else if (conn->rx_len > conn->rx_off && !is_full (conn))
    {
      if (conn->message_us == 0)
        conn->message_us = g_get_monotonic_time ();
      until = conn->message_us + limits->message_us;
    }
  else
    until = MAX (quiet_until (conn), conn->in_flight > 0 ? g_get_monotonic_time () + limits->message_us : 0);
  nng_aio_set_timeout (conn->rx_aio, remaining_ms (until));
  conn->receiving = TRUE;
  nt_conn_ref (conn);
  return TRUE;
}

static void
on_received (void *user)
{
  NtConn *conn = user;
  int rv = nng_aio_result (conn->rx_aio);
  gsize n = nng_aio_count (conn->rx_aio);
  gboolean good, early;
  gs_mutex_lock (&conn->lock);
  conn->receiving = FALSE;
  good = rv == 0 && n > 0 && !conn->closed;
  /* Time is up for a receive that was posted before a call came or went: look again. */
  early = rv == NNG_ETIMEDOUT && conn->greeted && conn->close_us == 0 && conn->message_us == 0 && !conn->closed
          && (conn->in_flight > 0 || quiet_until (conn) > g_get_monotonic_time ());
  if (good && conn->tls != NULL)
    conn->raw_len += n;
  else if (good)
    conn->rx_len += n;
  gs_mutex_unlock (&conn->lock);
  nt_count (conn->nt, conn->nt->bytes_in, (double) n);
  if (good || early)
    advance (conn);
  else
    {
      if (rv == NNG_ETIMEDOUT)
        nt_count (conn->nt, conn->nt->rejected, 1);
      nt_conn_close (conn);
    }
  nt_conn_unref (conn);
}

static void
advance (NtConn *conn)
{
  const guint8 *body = NULL;
  gsize len = 0;
  Take what = TAKE_NOTHING;
  gboolean receive, tls_output = FALSE;
  nng_iov vector;

  gs_mutex_lock (&conn->lock);
  if (conn->parsing)
    {
      conn->again = TRUE;
      gs_mutex_unlock (&conn->lock);
      return;
    }
  conn->parsing = TRUE;
  do
    {
      conn->again = FALSE;
      if (conn->closed)
        break;
      what = take (conn, &body, &len);
      if (what == TAKE_NOTHING && conn->tls != NULL && !conn->receiving)
        {
          gsize before = conn->rx_len - conn->rx_off;
          if (!tls_decrypt (conn, is_full (conn)))
            what = TAKE_CLOSE;
          else if (conn->rx_len - conn->rx_off != before)
            what = TAKE_AGAIN;
        }
      if (what == TAKE_MESSAGE)
        {
          /* The bytes stay where they are: only this thread moves them, and not before it comes back. */
          gs_mutex_unlock (&conn->lock);
          if (!nt_request (conn, body, len))
            {
              nt_count (conn->nt, conn->nt->rejected, 1);
              nt_conn_close (conn);
            }
          gs_mutex_lock (&conn->lock);
        }
    }
  while (what == TAKE_MESSAGE || what == TAKE_AGAIN || (what == TAKE_NOTHING && conn->again));
  conn->parsing = FALSE;
  receive = what != TAKE_CLOSE && prepare_receive (conn, &vector);
  tls_output = conn->tls != NULL && (conn->tls_out->len > 0 || (conn->tls_ready && conn->tx.length > 0));
  gs_mutex_unlock (&conn->lock);

  if (tls_output)
    start_send (conn);
  if (what == TAKE_CLOSE)
    {
      if (conn->tls_refused != NULL) /* set once, by this thread */
        conn->nt->host->log (conn->nt->host, GS_LOG_WARNING, "transport.nng.tls.refused",
                             (GsField[]) { GS_TEXT ("peer", conn->peer.text), GS_TEXT ("error", conn->tls_refused) }, 2);
      nt_count (conn->nt, conn->nt->rejected, 1);
      nt_conn_close (conn);
    }
  else if (receive)
    {
      nng_aio_set_iov (conn->rx_aio, 1, &vector);
      nng_stream_recv (conn->stream, conn->rx_aio);
      posted (conn, conn->rx_aio);
    }
}

/* -------------------------------------------------------------------------------------------- opening */

void
nt_conn_open (NtListener *listener, nng_stream *stream)
{
  Nt *nt = listener->nt;
  NtConn *conn = g_new0 (NtConn, 1);
  guint8 hello[GS_SP_HEADER_SIZE];
  conn->refs = 2; /* open, and this function */
  conn->nt = nt;
  conn->data = listener->data;
  conn->stream = stream;
  conn->opened_us = conn->quiet_us = g_get_monotonic_time ();
  conn->rx = conn->small;
  conn->rx_cap = NT_SMALL;
  gs_mutex_init (&conn->lock);
  g_queue_init (&conn->tx);
  g_queue_init (&conn->calls);
  nt_peer_from_nng (&conn->peer, listener->url->scheme, stream);
  if (nng_aio_alloc (&conn->rx_aio, on_received, conn) != 0 || nng_aio_alloc (&conn->tx_aio, on_sent, conn) != 0
      || (listener->url->scheme == NT_TLS && !tls_setup (conn)))
    {
      /* Memory is out. The aios never ran, so they can be freed here; the stream is the reaper's. */
      if (conn->rx_aio != NULL)
        nng_aio_free (conn->rx_aio);
      if (conn->tx_aio != NULL)
        nng_aio_free (conn->tx_aio);
      gs_mutex_clear (&conn->lock);
      g_free (conn);
      nt_drop (nt, stream);
      return;
    }
  if (listener->url->scheme != NT_IPC)
    nng_stream_set_bool (stream, NNG_OPT_TCP_KEEPALIVE, true);
  gs_mutex_lock (&nt->lock);
  conn->next = nt->conns;
  if (nt->conns != NULL)
    nt->conns->prev = conn;
  nt->conns = conn;
  nt->n_conns++;
  gs_mutex_unlock (&nt->lock);
  gs_sp_header_write (hello, GS_SP_REP);
  nt_conn_send (conn, g_bytes_new (hello, sizeof hello), FALSE);
  advance (conn);
  nt_conn_unref (conn);
}
