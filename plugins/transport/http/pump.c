/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pump.c - one thread that watches for suspended requests what the library does not: their pipes, whether
 * the client is still there, and the clock. It also reads off connections that were answered before their
 * body was read, so that closing them does not reset the answer away.
 */
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_US (G_USEC_PER_SEC / 4)
#define LINGER_SLOTS 64
#define LINGER_US (2 * G_USEC_PER_SEC)
#define LINGER_BYTES ((gsize) 16 * 1024 * 1024)
#define LINGER_TLS_US (200 * 1000)

typedef struct
{
  int fd; /* -1 = free */
  gint64 until_us;
  gint64 shut_us; /* when to end our side; G_MAXINT64 = ended */
  gsize budget;
} Linger;

struct HttpPump
{
  HttpServer *server;
  int epoll, wakeup;
  GsThread thread;
  gboolean started;
  gint stop; /* atomic */
  GsMutex lock;
  GsCond accepted;
  GPtrArray *listeners; /* of HttpListener, with the pump's lifetime */
  Linger lingers[LINGER_SLOTS];
  guint n_lingers;
};

#define LISTENER_BASE 1024u

/* What epoll gives back: a request's id and which of its descriptors; 0 in the low bits is ours. */
#define TAG(id_, watch_) ((id_) << 2 | (watch_))

/* --------------------------------------------------------------------------------------- listening */

static gboolean
add_listener (HttpPump *pump, guint index, const HttpListener *listener)
{
  struct epoll_event event = { .events = EPOLLIN, .data.u64 = TAG ((guint64) LISTENER_BASE + index, 0) };
  return epoll_ctl (pump->epoll, EPOLL_CTL_ADD, listener->fd, &event) == 0;
}

void
http_pump_listen (HttpPump *pump, HttpListener *listener)
{
  gs_mutex_lock (&pump->lock);
  listener->open = TRUE;
  g_ptr_array_add (pump->listeners, listener);
  add_listener (pump, pump->listeners->len - 1, listener);
  gs_mutex_unlock (&pump->lock);
}

void
http_pump_unlisten (HttpPump *pump, HttpListener *listener)
{
  gs_mutex_lock (&pump->lock);
  if (listener->open)
    {
      listener->open = FALSE;
      epoll_ctl (pump->epoll, EPOLL_CTL_DEL, listener->fd, NULL);
      /* The descriptor stays, the pump may be using it; but who connects is refused, and does not wait in vain. */
      shutdown (listener->fd, SHUT_RD);
    }
  /* The last few are handed over before the daemon may be stopped. */
  while (listener->accepting)
    gs_cond_wait (&pump->accepted, &pump->lock);
  gs_mutex_unlock (&pump->lock);
}

void
http_pump_poke (HttpPump *pump)
{
  eventfd_write (pump->wakeup, 1);
}

static void
listener_event (HttpPump *pump, guint index)
{
  HttpListener *listener;
  gboolean more, open;
  gs_mutex_lock (&pump->lock);
  listener = g_ptr_array_index (pump->listeners, index);
  open = listener->accepting = listener->open;
  gs_mutex_unlock (&pump->lock);
  if (!open)
    return;
  more = http_listener_accept (listener);
  gs_mutex_lock (&pump->lock);
  listener->accepting = FALSE;
  gs_cond_broadcast (&pump->accepted);
  if (!more && listener->open)
    {
      epoll_ctl (pump->epoll, EPOLL_CTL_DEL, listener->fd, NULL);
      __atomic_store_n (&listener->paused, 1, __ATOMIC_RELEASE);
    }
  gs_mutex_unlock (&pump->lock);
}

static void
resume_listeners (HttpPump *pump)
{
  gs_mutex_lock (&pump->lock);
  for (guint i = 0; i < pump->listeners->len; i++)
    {
      HttpListener *listener = g_ptr_array_index (pump->listeners, i);
      if (listener->open && __atomic_load_n (&listener->paused, __ATOMIC_ACQUIRE) && http_listener_has_room (listener)
          && add_listener (pump, i, listener))
        __atomic_store_n (&listener->paused, 0, __ATOMIC_RELEASE);
    }
  gs_mutex_unlock (&pump->lock);
}

/* ---------------------------------------------------------------------------------- pipes and clients */

static int
watched_fd (HttpRequest *request, guint watch)
{
  return watch == WATCH_INPUT ? request->input : request->output;
}

void
http_pump_watch (HttpPump *pump, HttpRequest *request, guint watch)
{
  for (guint i = WATCH_INPUT; i <= WATCH_OUTPUT; i++)
    {
      struct epoll_event event = { .events = i == WATCH_INPUT ? EPOLLOUT : EPOLLIN, .data.u64 = TAG (request->id, i) };
      int fd;
      if (!(watch & 1u << i) || (fd = watched_fd (request, i)) < 0)
        continue;
      if (epoll_ctl (pump->epoll, EPOLL_CTL_ADD, fd, &event) == 0)
        request->watching |= 1u << i;
    }
}

void
http_pump_forget (HttpPump *pump, HttpRequest *request)
{
  for (guint i = WATCH_INPUT; i <= WATCH_OUTPUT; i++)
    if (request->watching & 1u << i)
      epoll_ctl (pump->epoll, EPOLL_CTL_DEL, watched_fd (request, i), NULL);
  request->watching = 0;
}

void
http_pump_watch_client (HttpPump *pump, const HttpConnection *tcp)
{
  struct epoll_event event = { .events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = TAG (tcp->id, WATCH_CLIENT) };
  epoll_ctl (pump->epoll, EPOLL_CTL_ADD, tcp->fd, &event);
}

void
http_pump_forget_client (HttpPump *pump, const HttpConnection *tcp)
{
  epoll_ctl (pump->epoll, EPOLL_CTL_DEL, tcp->fd, NULL);
}

static HttpRequest *
find (HttpServer *server, guint64 id)
{
  HttpRequest *request;
  gs_mutex_lock (&server->lock);
  request = g_hash_table_lookup (server->requests, &id);
  if (request != NULL)
    http_request_ref (request);
  gs_mutex_unlock (&server->lock);
  return request;
}

static void
pipe_event (HttpPump *pump, guint64 id, guint watch)
{
  HttpRequest *request = find (pump->server, id);
  if (request == NULL)
    return;
  gs_mutex_lock (&request->lock);
  if (request->watching & 1u << watch)
    http_request_wake_locked (request);
  gs_mutex_unlock (&request->lock);
  http_request_unref (request);
}

/* The client of a connection ended its sending side, or all of it. */
static void
client_event (HttpPump *pump, guint64 id)
{
  HttpServer *server = pump->server;
  const GsHost *host = server->host;
  HttpConnection *tcp;
  HttpRequest *request = NULL;
  GsCallHandle handle = 0;
  gboolean cancel = FALSE;

  gs_mutex_lock (&server->lock);
  tcp = g_hash_table_lookup (server->connections, &id);
  if (tcp != NULL)
    {
      tcp->half_closed = TRUE;
      request = g_hash_table_lookup (server->requests, &tcp->request);
      if (request != NULL)
        http_request_ref (request);
    }
  gs_mutex_unlock (&server->lock);
  if (request == NULL)
    return;
  gs_mutex_lock (&request->lock);
  request->left = TRUE;
  if (request->suspended)
    cancel = http_request_want_cancel_locked (request, &handle);
  gs_mutex_unlock (&request->lock);
  /* The call learns of it first, and only then from its stream: a broken pipe then needs no guessing. */
  if (cancel)
    host->call_cancel (host, handle);
  gs_mutex_lock (&request->lock);
  if (request->suspended)
    {
      request->gone = TRUE;
      http_request_wake_locked (request);
    }
  gs_mutex_unlock (&request->lock);
  http_request_unref (request);
}

/* ------------------------------------------------------------------------------------- lingering */

void
http_pump_linger (HttpPump *pump, int fd, gboolean tls)
{
  gint64 now = g_get_monotonic_time ();
  int copy = fcntl (fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0)
    return;
  gs_mutex_lock (&pump->lock);
  for (guint i = 0; i < LINGER_SLOTS && copy >= 0; i++)
    {
      struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP, .data.u64 = TAG ((guint64) i + 1, 0) };
      if (pump->lingers[i].fd >= 0 || epoll_ctl (pump->epoll, EPOLL_CTL_ADD, copy, &event) != 0)
        continue;
      /* The library ends a plain connection's sending side itself, a TLS one's only by its own last record. */
      pump->lingers[i] = (Linger){ copy, now + LINGER_US, tls ? now + LINGER_TLS_US : G_MAXINT64, LINGER_BYTES };
      pump->n_lingers++;
      copy = -1;
    }
  gs_mutex_unlock (&pump->lock);
  if (copy >= 0)
    close (copy);
  else
    eventfd_write (pump->wakeup, 1);
}

static void
linger_end_locked (HttpPump *pump, Linger *linger)
{
  epoll_ctl (pump->epoll, EPOLL_CTL_DEL, linger->fd, NULL);
  close (linger->fd);
  linger->fd = -1;
  pump->n_lingers--;
}

static void
linger_event (HttpPump *pump, guint slot)
{
  static const gsize chunk = 64 * 1024;
  Linger *linger = &pump->lingers[slot];
  gs_mutex_lock (&pump->lock);
  if (linger->fd >= 0)
    {
      /* MSG_TRUNC: the kernel throws the bytes away without copying them. */
      ssize_t n = recv (linger->fd, NULL, chunk, MSG_DONTWAIT | MSG_TRUNC);
      if (n > 0 && (gsize) n < linger->budget)
        linger->budget -= (gsize) n;
      else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
        linger_end_locked (pump, linger);
    }
  gs_mutex_unlock (&pump->lock);
}

static void
linger_tick (HttpPump *pump, gint64 now)
{
  gs_mutex_lock (&pump->lock);
  for (guint i = 0; i < LINGER_SLOTS && pump->n_lingers > 0; i++)
    {
      Linger *linger = &pump->lingers[i];
      if (linger->fd < 0)
        continue;
      if (now >= linger->until_us)
        linger_end_locked (pump, linger);
      else if (now >= linger->shut_us)
        {
          shutdown (linger->fd, SHUT_WR);
          linger->shut_us = G_MAXINT64;
        }
    }
  gs_mutex_unlock (&pump->lock);
}

/* ----------------------------------------------------------------------------------------- clock */

static void
expire_requests (HttpServer *server, gint64 now)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func ((GDestroyNotify) http_request_unref);
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&server->lock);
  g_hash_table_iter_init (&iter, server->requests);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    g_ptr_array_add (all, http_request_ref (value));
  gs_mutex_unlock (&server->lock);
  for (guint i = 0; i < all->len; i++)
    {
      HttpRequest *request = g_ptr_array_index (all, i);
      gboolean due;
      gs_mutex_lock (&request->lock);
      due = now >= request->deadline_us && !request->expired;
      gs_mutex_unlock (&request->lock);
      if (!due)
        continue;
      http_request_cancel (request);
      gs_mutex_lock (&request->lock);
      request->expired = TRUE;
      http_request_wake_locked (request);
      gs_mutex_unlock (&request->lock);
    }
}

static void
watch_connections (HttpServer *server, gint64 now, guint *ret_count)
{
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&server->lock);
  *ret_count = g_hash_table_size (server->connections);
  g_hash_table_iter_init (&iter, server->connections);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      HttpConnection *tcp = value;
      /* The library times idle connections out, but one byte a minute is not idle. */
      if (now >= tcp->deadline_us)
        {
          shutdown (tcp->fd, SHUT_RDWR);
          tcp->deadline_us = G_MAXINT64;
        }
      /* Nothing can come any more; this makes the library's set say so again, until it listens. */
      else if (tcp->half_closed)
        shutdown (tcp->fd, SHUT_RD);
    }
  gs_mutex_unlock (&server->lock);
}

static void
tick (HttpPump *pump)
{
  HttpServer *server = pump->server;
  const GsHost *host = server->host;
  gint64 now = host->now_us (host);
  guint connections = 0;
  expire_requests (server, now);
  watch_connections (server, now, &connections);
  host->metric_update (server->metrics.in_flight, __atomic_load_n (&server->in_flight, __ATOMIC_RELAXED));
  host->metric_update (server->metrics.connections, connections);
}

static void *
run (void *user)
{
  HttpPump *pump = user;
  gint64 next_tick = g_get_monotonic_time ();
  while (!__atomic_load_n (&pump->stop, __ATOMIC_ACQUIRE))
    {
      struct epoll_event events[64];
      gint64 now = g_get_monotonic_time (), wait;
      gboolean lingering;
      int n;
      gs_mutex_lock (&pump->lock);
      lingering = pump->n_lingers > 0;
      gs_mutex_unlock (&pump->lock);
      if (lingering)
        linger_tick (pump, now);
      if (now >= next_tick)
        {
          tick (pump);
          resume_listeners (pump);
          next_tick = now + TICK_US;
        }
      wait = MIN (next_tick - now, lingering ? LINGER_TLS_US / 2 : TICK_US);
      n = epoll_wait (pump->epoll, events, G_N_ELEMENTS (events), (int) (wait / 1000) + 1);
      for (int i = 0; i < n; i++)
        {
          guint64 id = events[i].data.u64 >> 2;
          guint watch = events[i].data.u64 & 3;
          eventfd_t drained;
          if (watch == WATCH_CLIENT)
            client_event (pump, id);
          else if (watch != 0)
            pipe_event (pump, id, watch);
          else if (id >= LISTENER_BASE)
            listener_event (pump, (guint) id - LISTENER_BASE);
          else if (id != 0)
            linger_event (pump, (guint) id - 1);
          else
            {
              eventfd_read (pump->wakeup, &drained);
              resume_listeners (pump);
            }
        }
    }
  return NULL;
}

HttpPump *
http_pump_new (HttpServer *server, GError **error)
{
  HttpPump *pump = g_new0 (HttpPump, 1);
  struct epoll_event event = { .events = EPOLLIN };
  int failed = 0;
  pump->server = server;
  gs_mutex_init (&pump->lock);
  gs_cond_init (&pump->accepted);
  pump->listeners = g_ptr_array_new ();
  for (guint i = 0; i < LINGER_SLOTS; i++)
    pump->lingers[i].fd = -1;
  pump->epoll = epoll_create1 (EPOLL_CLOEXEC);
  pump->wakeup = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (pump->epoll < 0 || pump->wakeup < 0 || epoll_ctl (pump->epoll, EPOLL_CTL_ADD, pump->wakeup, &event) != 0)
    failed = errno;
  else
    failed = gs_thread_start (&pump->thread, "http-pump", run, pump);
  if (failed != 0)
    {
      gs_fail (error, gs_error_from_errno (failed), "%s: can't start the thread that watches connections: %s",
               server->host->instance, g_strerror (failed));
      http_pump_free (pump);
      return NULL;
    }
  pump->started = TRUE;
  return pump;
}

void
http_pump_free (HttpPump *pump)
{
  if (pump == NULL)
    return;
  if (pump->started)
    {
      __atomic_store_n (&pump->stop, 1, __ATOMIC_RELEASE);
      eventfd_write (pump->wakeup, 1);
      gs_thread_join (pump->thread);
    }
  for (guint i = 0; i < LINGER_SLOTS; i++)
    if (pump->lingers[i].fd >= 0)
      close (pump->lingers[i].fd);
  if (pump->epoll >= 0)
    close (pump->epoll);
  if (pump->wakeup >= 0)
    close (pump->wakeup);
  g_ptr_array_unref (pump->listeners);
  gs_mutex_clear (&pump->lock);
  gs_cond_clear (&pump->accepted);
  g_free (pump);
}
