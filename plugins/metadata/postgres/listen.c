/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hints that jobs or nodes changed. A thread with a connection of its own waits for what other processes notify; while
 * that connection is away nothing is noticed, and when it is back everything may have changed.
 */
#include "store.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_CANCEL_US (50 * 1000)
#define AGAIN_FIRST_US (100 * 1000)
#define AGAIN_MAX_US (5 * G_USEC_PER_SEC)

void
pg_hint (Pg *self)
{
  gs_mutex_lock (&self->lock);
  self->n_hints++;
  gs_cond_broadcast (&self->given);
  gs_mutex_unlock (&self->lock);
}

gboolean
pg_wait_hint (gpointer data, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen, GError **error)
{
  Pg *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  gint64 end_us = g_get_monotonic_time () + CLAMP (timeout_us, 0, 3600 * (gint64) G_USEC_PER_SEC);
  while (self->n_hints == seen && g_get_monotonic_time () < end_us)
    {
      if (call != NULL && !gs_call_check (call, "waiting for jobs", error))
        return FALSE;
      gs_cond_wait_until (&self->given, &self->lock, MIN (end_us, g_get_monotonic_time () + POLL_CANCEL_US));
    }
  *ret_seen = self->n_hints;
  return TRUE;
}

/* -------------------------------------------------------------------------------------- the listener */

/* FALSE when the listener is to end. @fd may be -1. */
static gboolean
wait_for (Pg *self, int fd, gint64 timeout_us)
{
  struct pollfd fds[2] = { { self->wake_fd, POLLIN, 0 }, { fd, POLLIN, 0 } };
  int timeout_ms = timeout_us < 0 ? -1 : (int) (timeout_us / 1000);
  while (poll (fds, fd >= 0 ? 2 : 1, timeout_ms) < 0 && errno == EINTR)
    ;
  return fds[0].revents == 0;
}

/* Until the listener is to end, or the connection is lost. FALSE: the former. */
static gboolean
listen_on (Pg *self, PGconn *pg)
{
  for (;;)
    {
      gboolean any = FALSE;
      for (PGnotify *note; (note = PQnotifies (pg)) != NULL; PQfreemem (note))
        any = TRUE;
      if (any)
        pg_hint (self);
      if (!wait_for (self, PQsocket (pg), -1))
        return FALSE;
      if (PQconsumeInput (pg) != 1)
        return TRUE;
    }
}

static PGconn *
connect_listener (Pg *self)
{
  SqlConn conn = { .self = self, .doing = "listening for changes" };
  g_autofree char *text = g_strdup_printf ("LISTEN %s", self->channel);
  gint64 until_us = g_get_monotonic_time () + self->connect_timeout_us;
  conn.pg = pg_connect (self, self->listen_keywords, self->listen_values, NULL, until_us, NULL);
  if (conn.pg == NULL)
    return NULL;
  PQsetnonblocking (conn.pg, 1);
  if (pg_exec (&conn, text, NULL))
    return conn.pg;
  pg_close (conn.pg);
  return NULL;
}

static void *
listener_main (void *data)
{
  Pg *self = data;
  gint64 again_us = AGAIN_FIRST_US;
  gboolean more = TRUE;
  while (more)
    {
      PGconn *pg = connect_listener (self);
      if (pg == NULL)
        {
          more = wait_for (self, -1, again_us);
          again_us = MIN (again_us * 2, (gint64) AGAIN_MAX_US);
          continue;
        }
      again_us = AGAIN_FIRST_US;
      pg_hint (self); /* what happened meanwhile was missed */
      more = listen_on (self, pg);
      pg_close (pg);
    }
  return NULL;
}

void
pg_listen_start (Pg *self)
{
  int rc;
  if (self->listen_keywords == NULL)
    return;
  self->wake_fd = eventfd (0, EFD_CLOEXEC);
  rc = self->wake_fd >= 0 ? gs_thread_start (&self->listener, "pg-listen", listener_main, self) : errno;
  self->listening = rc == 0;
  if (rc != 0)
    self->host->log (self->host, GS_LOG_WARNING, "metadata.postgres.deaf",
                     (GsField[]){ GS_TEXT ("error", g_strerror (rc)) }, 1);
}

void
pg_listen_stop (Pg *self)
{
  guint64 one = 1;
  if (self->listening)
    {
      while (write (self->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
      gs_thread_join (self->listener);
    }
  self->listening = FALSE;
  if (self->wake_fd >= 0)
    close (self->wake_fd);
  self->wake_fd = -1;
}
