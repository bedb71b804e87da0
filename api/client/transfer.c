/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming calls from descriptors or callbacks, and to them. See gitstead-client.h. */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHUNK 65536

static const GsClientBulk no_bulk = GS_CLIENT_BULK;

typedef struct
{
  GsClientStream *stream;
  const GsClientBulk *bulk;
  int stop;      /* eventfd: readable when the sender is to give up waiting for input */
  GError *error; /* the input failed, and the call was given up */
} Sender;

/* Waits for input, but not longer than the call lasts. */
static gboolean
wait_for_input (const Sender *sender)
{
  struct pollfd fds[] = { { .fd = sender->bulk->from_fd, .events = POLLIN }, { .fd = sender->stop, .events = POLLIN } };
  while (poll (fds, G_N_ELEMENTS (fds), -1) < 0)
    if (errno != EINTR)
      break; /* then reading says what is wrong */
  return fds[1].revents == 0;
}

static gssize
take_input (Sender *sender, void *buffer)
{
  const GsClientBulk *bulk = sender->bulk;
  gssize n;
  if (bulk->read != NULL)
    {
      n = bulk->read (bulk->user, buffer, CHUNK, &sender->error);
      if (n < 0 && sender->error == NULL)
        gs_fail (&sender->error, GS_ERROR_CANCELLED, "the bytes to send were not to be had");
      return n;
    }
  do
    n = read (bulk->from_fd, buffer, CHUNK);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    {
      int err = errno;
      gs_fail (&sender->error, gs_error_from_errno (err), "cannot read the bytes to send: %s", g_strerror (err));
    }
  return n;
}

static void *
send_input (void *user)
{
  Sender *sender = user;
  g_autofree char *buffer = g_malloc (CHUNK);
  while (sender->bulk->read != NULL || wait_for_input (sender))
    {
      gssize n = take_input (sender, buffer);
      if (n > 0 && gs_client_stream_write (sender->stream, buffer, (gsize) n, NULL))
        continue; /* a failure shows in the call's outcome, where it is told */
      if (n == 0)
        gs_client_stream_end (sender->stream, NULL);
      else if (n < 0)
        gs_client_stream_cancel (sender->stream); /* an end would pass for the whole of it */
      break;
    }
  return NULL;
}

static gboolean
write_all (int fd, const char *bytes, gsize n, GError **error)
{
  while (n > 0)
    {
      gssize written = write (fd, bytes, n);
      if (written < 0 && errno == EINTR)
        continue;
      if (written < 0)
        {
          int err = errno;
          return gs_fail (error, gs_error_from_errno (err), "cannot write the output: %s", g_strerror (err));
        }
      bytes += written;
      n -= (gsize) written;
    }
  return TRUE;
}

/* FALSE with @error: the output failed. What fails in the stream itself, its end tells. */
static gboolean
receive_output (GsClientStream *stream, const GsClientBulk *bulk, GError **error)
{
  g_autofree char *buffer = g_malloc (CHUNK);
  gssize n;
  while ((n = gs_client_stream_read (stream, buffer, CHUNK, NULL)) > 0)
    if (bulk->write != NULL ? !bulk->write (bulk->user, buffer, (gsize) n, error)
                            : bulk->to_fd >= 0 && !write_all (bulk->to_fd, buffer, (gsize) n, error))
      return FALSE;
  return TRUE;
}

/* FALSE with @error: this side failed, and the call is given up. */
static gboolean
pump (GsClientStream *stream, const GsClientBulk *bulk, GError **error)
{
  Sender sender = { stream, bulk, -1, NULL };
  GsThread thread;
  gboolean ok;
  int failed;
  if (bulk->from_fd < 0 && bulk->read == NULL)
    {
      gs_client_stream_end (stream, NULL);
      return receive_output (stream, bulk, error);
    }
  sender.stop = eventfd (0, EFD_CLOEXEC);
  if (sender.stop < 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "cannot make an eventfd: %s", g_strerror (errno));
  failed = gs_thread_start (&thread, "send", send_input, &sender);
  if (failed != 0)
    {
      close (sender.stop);
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "cannot start a thread: %s", g_strerror (failed));
    }
  ok = receive_output (stream, bulk, error);
  if (!ok)
    gs_client_stream_cancel (stream); /* it may wait for room to write */
  (void) !write (sender.stop, &(guint64){ 1 }, sizeof (guint64));
  gs_thread_join (thread);
  close (sender.stop);
  if (sender.error == NULL)
    return ok;
  if (ok)
    g_propagate_error (error, sender.error);
  else
    g_error_free (sender.error);
  return FALSE;
}

gboolean
gs_client_transfer (GsClient *client, const char *method, const ProtobufCMessage *request, const GsClientBulk *bulk,
                    GsClientCall *call, GsArena *arena, ProtobufCMessage **ret_reply, GError **error)
{
  g_autoptr (GsClientStream) stream = gs_client_stream_open (client, method, request, call, error);
  g_autoptr (GError) why = NULL;
  if (stream == NULL)
    return FALSE;
  if (pump (stream, bulk != NULL ? bulk : &no_bulk, &why))
    {
      gboolean whole = gs_client_stream_finish (stream, arena, ret_reply, error);
      if (!whole && call != NULL)
        gs_client_stream_verdict (stream, call);
      return whole;
    }
  if (why == NULL)
    gs_fail (&why, GS_ERROR_CANCELLED, "the bytes that came were not taken");
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}
