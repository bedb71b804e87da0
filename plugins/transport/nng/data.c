/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where bulk streams connect: our own listening sockets and the one thread that accepts on them, reads the 24 bytes
 * with the ticket and starts a thread for the stream. It also lets tickets expire and joins threads that ended.
 */
#include "nt.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PENDING_MAX 1024 /* connections that have not shown a ticket yet */
#define BACK_OFF_US (100 * 1000)

/** A connection that has not shown its ticket yet. The data thread's alone. */
typedef struct
{
  NtDataListener *listener;
  int fd;
  gnutls_session_t tls;
  gboolean tls_ready;
  guint8 hello[GS_STREAM_HELLO_SIZE];
  gsize have;
  gint64 deadline_us;
  GList link;
} Pending;

struct NtData
{
  Nt *nt;
  GPtrArray *listeners; /* NtDataListener; fixed while the thread runs */
  int epoll, wake;
  GsThread thread;
  gboolean runs;
  GQueue pending; /* Pending; the thread's alone */
  gint64 paused_until_us; /* no descriptors left: accept again then */

  GsMutex lock;
  GHashTable *waiting; /* ticket -> NtStream, counted */
  GQueue active, finished; /* NtStream, counted; their threads run, have ended */
  gboolean cancelled, quit;
};

static guint
ticket_hash (gconstpointer key)
{
  guint value;
  memcpy (&value, key, sizeof value); /* random, and ours */
  return value;
}

static gboolean
ticket_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, GS_STREAM_TICKET_SIZE) == 0;
}

static void
listener_free (gpointer data)
{
  NtDataListener *listener = data;
  if (listener->fd >= 0)
    {
      close (listener->fd);
      if (listener->url->scheme == NT_IPC)
        unlink (listener->url->path);
    }
  nt_url_free (listener->url);
  g_free (listener->bound);
  g_free (listener);
}

NtData *
nt_data_new (Nt *nt)
{
  NtData *data = g_new0 (NtData, 1);
  data->nt = nt;
  data->epoll = data->wake = -1;
  data->listeners = g_ptr_array_new_with_free_func (listener_free);
  data->waiting = g_hash_table_new_full (ticket_hash, ticket_equal, NULL, (GDestroyNotify) nt_stream_unref);
  gs_mutex_init (&data->lock);
  return data;
}

void
nt_data_free (NtData *data)
{
  g_hash_table_unref (data->waiting);
  g_ptr_array_unref (data->listeners);
  gs_mutex_clear (&data->lock);
  g_free (data);
}

static void
wake_thread (NtData *data)
{
  eventfd_write (data->wake, 1);
}

/* -------------------------------------------------------------------------------------- tickets */

gboolean
nt_data_expect (NtData *data, NtStream *stream)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&data->lock);
  if (data->cancelled)
    return FALSE;
  g_hash_table_insert (data->waiting, stream->ticket, nt_stream_ref (stream));
  wake_thread (data); /* it has a new time to wait for */
  return TRUE;
}

/* The stream that waits for @ticket, with the table's reference; the ticket is used up. */
static NtStream *
redeem (NtData *data, const guint8 *ticket)
{
  gpointer stream = NULL;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&data->lock);
  g_hash_table_steal_extended (data->waiting, ticket, NULL, &stream);
  return stream;
}

/* Gives up streams whose peer did not come in time; returns when to look again. */
static gint64
expire_tickets (NtData *data, gint64 now_us)
{
  g_autoptr (GPtrArray) late = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_stream_unref);
  GHashTableIter iter;
  gpointer value;
  gint64 next = G_MAXINT64;
  gs_mutex_lock (&data->lock);
  g_hash_table_iter_init (&iter, data->waiting);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      NtStream *stream = value;
      if (stream->expires_us <= now_us)
        {
          g_ptr_array_add (late, stream);
          g_hash_table_iter_steal (&iter);
        }
      else
        next = MIN (next, stream->expires_us);
    }
  gs_mutex_unlock (&data->lock);
  for (guint i = 0; i < late->len; i++)
    nt_call_cancel (((NtStream *) late->pdata[i])->call);
  return next;
}

/* ------------------------------------------------------------------------------ new connections */

static void
pending_drop (NtData *data, Pending *pending)
{
  g_queue_unlink (&data->pending, &pending->link);
  nt_tls_session_free (pending->tls);
  if (pending->fd >= 0)
    close (pending->fd);
  g_free (pending);
}

static void
answer (Pending *pending, guint32 status)
{
  guint8 bytes[GS_STREAM_ANSWER_SIZE];
  gs_stream_answer_write (bytes, status);
  /* Eight bytes into an empty send buffer: they fit, or the peer is gone. */
  if (pending->tls != NULL)
    gnutls_record_send (pending->tls, bytes, sizeof bytes);
  else if (send (pending->fd, bytes, sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
    return;
}

static void
start_stream (NtData *data, Pending *pending)
{
  Nt *nt = data->nt;
  const guint8 *ticket = gs_stream_hello_parse (pending->hello);
  NtStream *stream = ticket != NULL ? redeem (data, ticket) : NULL;
  NtPeer peer;
  gboolean stopping;
  int failed;

  nt_peer_from_socket (&peer, pending->listener->url->scheme, pending->fd);
  if (stream != NULL && !nt_peer_same (&stream->peer, &peer))
    {
      /* Somebody else has the ticket: it is void now, for its owner too. */
      nt_call_cancel (stream->call);
      g_clear_pointer (&stream, nt_stream_unref);
    }
  if (stream == NULL)
    {
      nt_count (nt, nt->rejected, 1);
      if (ticket != NULL)
        answer (pending, GS_ERROR_NOT_FOUND);
      pending_drop (data, pending);
      return;
    }
  epoll_ctl (data->epoll, EPOLL_CTL_DEL, pending->fd, NULL);
  nt_tune_socket (pending->fd, peer.scheme, nt->limits.idle_us);
  answer (pending, GS_OK);
  stream->fd = pending->fd;
  stream->tls = pending->tls;
  pending->fd = -1;
  pending->tls = NULL;
  pending_drop (data, pending);
  gs_mutex_lock (&data->lock);
  failed = data->quit ? ESHUTDOWN : gs_thread_start (&stream->thread, "nng-stream", nt_pump_run, stream);
  if (failed == 0)
    g_queue_push_tail (&data->active, stream);
  stopping = data->cancelled;
  gs_mutex_unlock (&data->lock);
  if (failed == 0 && stopping)
    nt_stream_stop (stream); /* it stays until this thread joins its */
  if (failed != 0)
    {
      GsField fields[] = { GS_TEXT ("error", g_strerror (failed)) };
      nt->host->log (nt->host, GS_LOG_ERROR, "transport.nng.stream.thread_failed", fields, G_N_ELEMENTS (fields));
      nt_call_cancel (stream->call);
      nt_stream_unref (stream);
    }
}

/* 1 = the ticket is complete, 0 = wait, -1 = broken. */
static int
pending_read (Pending *pending)
{
  ssize_t n;
  if (pending->tls != NULL && !pending->tls_ready)
    {
      int rv = gnutls_handshake (pending->tls);
      if (rv < 0)
        return gnutls_error_is_fatal (rv) ? -1 : 0;
      pending->tls_ready = TRUE;
    }
  while (pending->have < sizeof pending->hello)
    {
      guint8 *at = pending->hello + pending->have;
      gsize left = sizeof pending->hello - pending->have;
      if (pending->tls != NULL)
        {
          n = gnutls_record_recv (pending->tls, at, left);
          if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
            return 0;
        }
      else
        {
          n = recv (pending->fd, at, left, 0);
          if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        }
      if (n <= 0)
        return -1;
      pending->have += (gsize) n;
      /* Garbage is dropped as soon as it shows. */
      if (memcmp (pending->hello, "GSD1", MIN (pending->have, 4)) != 0)
        return -1;
    }
  return 1;
}

static void
pending_event (NtData *data, Pending *pending)
{
  int state = pending_read (pending);
  if (state > 0)
    start_stream (data, pending);
  else if (state < 0)
    {
      nt_count (data->nt, data->nt->rejected, 1);
      pending_drop (data, pending);
    }
}

static gint64
expire_pending (NtData *data, gint64 now_us)
{
  Pending *first;
  while ((first = g_queue_peek_head (&data->pending)) != NULL && first->deadline_us <= now_us)
    {
      nt_count (data->nt, data->nt->rejected, 1);
      pending_drop (data, first);
    }
  return first != NULL ? first->deadline_us : G_MAXINT64;
}

static void
watch_listeners (NtData *data, gboolean on)
{
  for (guint i = 0; i < data->listeners->len; i++)
    {
      NtDataListener *listener = data->listeners->pdata[i];
      struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.ptr = listener };
      epoll_ctl (data->epoll, EPOLL_CTL_MOD, listener->fd, &event);
    }
}

static void
accept_all (NtData *data, NtDataListener *listener)
{
  Nt *nt = data->nt;
  for (int i = 0; i < 64; i++)
    {
      Pending *pending;
      struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };
      int fd = accept4 (listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
        {
          GsField fields[] = { GS_TEXT ("listener", listener->bound), GS_TEXT ("error", g_strerror (errno)) };
          nt->host->log (nt->host, GS_LOG_WARNING, "transport.nng.accept.failed", fields, G_N_ELEMENTS (fields));
          data->paused_until_us = g_get_monotonic_time () + BACK_OFF_US;
          watch_listeners (data, FALSE);
        }
      if (fd < 0)
        return;
      if (data->pending.length >= PENDING_MAX)
        {
          nt_count (nt, nt->rejected, 1);
          close (fd);
          continue;
        }
      pending = g_new0 (Pending, 1);
      pending->link.data = pending;
      pending->listener = listener;
      pending->fd = fd;
      pending->deadline_us = g_get_monotonic_time () + nt->limits.handshake_us;
      g_queue_push_tail_link (&data->pending, &pending->link);
      if (listener->url->scheme == NT_TLS)
        {
          pending->tls = nt_tls_session_new (nt);
          if (pending->tls == NULL)
            {
              pending_drop (data, pending);
              continue;
            }
          gnutls_transport_set_int (pending->tls, fd);
        }
      event.data.ptr = pending;
      if (epoll_ctl (data->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        pending_drop (data, pending);
    }
}

/* -------------------------------------------------------------------------------------- the thread */

static void
join_finished (NtData *data)
{
  for (;;)
    {
      NtStream *stream;
      gs_mutex_lock (&data->lock);
      stream = g_queue_pop_head (&data->finished);
      gs_mutex_unlock (&data->lock);
      if (stream == NULL)
        return;
      gs_thread_join (stream->thread);
      nt_stream_unref (stream);
    }
}

void
nt_data_finished (NtData *data, NtStream *stream)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&data->lock);
  g_queue_remove (&data->active, stream);
  g_queue_push_tail (&data->finished, stream);
  wake_thread (data);
}

static gboolean
may_quit (NtData *data)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&data->lock);
  return data->quit && data->active.length == 0 && data->finished.length == 0;
}

static void *
data_run (void *user)
{
  NtData *data = user;
  struct epoll_event events[64];
  while (!may_quit (data))
    {
      gint64 now_us = g_get_monotonic_time (), next = expire_tickets (data, now_us), wait_ms;
      int n;
      next = MIN (next, expire_pending (data, now_us));
      if (data->paused_until_us != 0 && data->paused_until_us <= now_us)
        {
          data->paused_until_us = 0;
          watch_listeners (data, TRUE);
        }
      if (data->paused_until_us != 0)
        next = MIN (next, data->paused_until_us);
      wait_ms = next == G_MAXINT64 ? -1 : CLAMP ((next - now_us) / 1000 + 1, 0, 60000);
      n = epoll_wait (data->epoll, events, G_N_ELEMENTS (events), (int) wait_ms);
      for (int i = 0; i < n; i++)
        {
          gpointer what = events[i].data.ptr;
          if (what == data)
            {
              eventfd_t ignored;
              eventfd_read (data->wake, &ignored);
            }
          else if (g_ptr_array_find (data->listeners, what, NULL))
            accept_all (data, what);
          else
            pending_event (data, what);
        }
      join_finished (data);
    }
  while (data->pending.length > 0)
    pending_drop (data, g_queue_peek_head (&data->pending));
  return NULL;
}

/* ----------------------------------------------------------------------------------- start and stop */

/* The URLs to listen on: those that are configured, or one beside each control listener. */
static GPtrArray *
data_urls (Nt *nt, GError **error)
{
  g_autoptr (GPtrArray) urls = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_url_free);
  for (gsize i = 0; nt->data_listen[i] != NULL; i++)
    {
      NtUrl *url = nt_url_parse (nt->data_listen[i], error);
      if (url == NULL)
        return NULL;
      g_ptr_array_add (urls, url);
      if (url->scheme == NT_TLS && nt->creds == NULL)
        {
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "transport nng: data_listen has %s, but listen has no tls+tcp",
                   nt->data_listen[i]);
          return NULL;
        }
    }
  for (guint i = 0; nt->data_listen[0] == NULL && i < nt->listeners->len; i++)
    {
      const NtListener *control = nt->listeners->pdata[i];
      NtUrl *url = g_new0 (NtUrl, 1);
      url->scheme = control->url->scheme;
      url->host = g_strdup (control->url->host);
      url->path = control->url->path != NULL ? g_strconcat (control->url->path, ".data", NULL) : NULL;
      g_ptr_array_add (urls, url);
    }
  return g_steal_pointer (&urls);
}

static gboolean
add_listener (NtData *data, NtUrl *url, GError **error)
{
  NtDataListener *listener = g_new0 (NtDataListener, 1);
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = listener };
  listener->url = url;
  listener->fd = -1;
  g_ptr_array_add (data->listeners, listener);
  listener->fd = nt_listen (url, data->nt->limits.ipc_mode, &listener->port, error);
  if (listener->fd < 0)
    return FALSE;
  listener->bound = nt_url_text (url, listener->port, TRUE);
  if (epoll_ctl (data->epoll, EPOLL_CTL_ADD, listener->fd, &event) != 0)
    return gs_fail (error, gs_error_from_errno (errno), "watch %s: %s", listener->bound, g_strerror (errno));
  return TRUE;
}

gboolean
nt_data_start (NtData *data, GError **error)
{
  g_autoptr (GPtrArray) urls = data_urls (data->nt, error);
  struct epoll_event event = { .events = EPOLLIN, .data.ptr = data };
  int failed;
  if (urls == NULL)
    return FALSE;
  data->epoll = epoll_create1 (EPOLL_CLOEXEC);
  data->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (data->epoll < 0 || data->wake < 0 || epoll_ctl (data->epoll, EPOLL_CTL_ADD, data->wake, &event) != 0)
    return gs_fail (error, gs_error_from_errno (errno), "transport nng: make an epoll set: %s", g_strerror (errno));
  while (urls->len > 0)
    if (!add_listener (data, g_ptr_array_steal_index (urls, 0), error))
      return FALSE;
  failed = gs_thread_start (&data->thread, "nng-data", data_run, data);
  if (failed != 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "transport nng: start a thread: %s", g_strerror (failed));
  data->runs = TRUE;
  return TRUE;
}

NtDataListener *
nt_data_listener_for (NtData *data, const NtListener *listener)
{
  Nt *nt = data->nt;
  guint index;
  if (nt->data_listen[0] == NULL)
    return g_ptr_array_find (nt->listeners, listener, &index) ? data->listeners->pdata[index] : NULL;
  for (guint i = 0; i < data->listeners->len; i++)
    {
      NtDataListener *candidate = data->listeners->pdata[i];
      if (candidate->url->scheme == listener->url->scheme)
        return candidate;
    }
  return NULL;
}

void
nt_data_cancel (NtData *data)
{
  g_autoptr (GPtrArray) streams = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_stream_unref);
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&data->lock);
  data->cancelled = TRUE;
  g_hash_table_iter_init (&iter, data->waiting);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    g_ptr_array_add (streams, nt_stream_ref (value));
  for (GList *at = data->active.head; at != NULL; at = at->next)
    g_ptr_array_add (streams, nt_stream_ref (at->data));
  gs_mutex_unlock (&data->lock);
  for (guint i = 0; i < streams->len; i++)
    {
      nt_call_cancel (((NtStream *) streams->pdata[i])->call);
      nt_stream_stop (streams->pdata[i]);
    }
}

void
nt_data_stop (NtData *data)
{
  if (data->runs)
    {
      g_autoptr (GPtrArray) streams = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_stream_unref);
      gs_mutex_lock (&data->lock);
      data->quit = TRUE;
      for (GList *at = data->active.head; at != NULL; at = at->next)
        g_ptr_array_add (streams, nt_stream_ref (at->data));
      wake_thread (data);
      gs_mutex_unlock (&data->lock);
      for (guint i = 0; i < streams->len; i++)
        nt_stream_stop (streams->pdata[i]);
      gs_thread_join (data->thread);
      data->runs = FALSE;
    }
  g_hash_table_remove_all (data->waiting);
  g_ptr_array_set_size (data->listeners, 0);
  if (data->epoll >= 0)
    close (data->epoll);
  if (data->wake >= 0)
    close (data->wake);
  data->epoll = data->wake = -1;
}
