/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a stream: accept with a ticket, pipes on demand, the outcome. The bytes are pump.c's. */
#include "nt.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIPE_SIZE (128 * 1024)

static void
show_streams (Nt *nt, int by)
{
  guint n;
  gs_mutex_lock (&nt->lock);
  nt->n_streams += (guint) by;
  n = nt->n_streams;
  gs_mutex_unlock (&nt->lock);
  nt->host->metric_update (nt->streams, n);
}

NtStream *
nt_stream_ref (NtStream *stream)
{
  __atomic_add_fetch (&stream->refs, 1, __ATOMIC_RELAXED);
  return stream;
}

void
nt_stream_unref (NtStream *stream)
{
  if (__atomic_sub_fetch (&stream->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  const int fds[] = { stream->fd, stream->wake, stream->input_w, stream->output_r };
  if (stream->tls != NULL)
    gnutls_deinit (stream->tls);
  for (gsize i = 0; i < G_N_ELEMENTS (fds); i++)
    if (fds[i] >= 0)
      close (fds[i]);
  g_bytes_unref (stream->base.head);
  g_clear_pointer (&stream->all, g_bytes_unref);
  g_free (stream->end.message);
  g_clear_pointer (&stream->end.payload, g_bytes_unref);
  g_clear_pointer (&stream->end.details, g_bytes_unref);
  show_streams (stream->nt, -1);
  nt_call_unref (stream->call);
  gs_mutex_clear (&stream->lock);
  g_free (stream);
}

void
nt_stream_wake (NtStream *stream)
{
  if (stream->wake >= 0)
    eventfd_write (stream->wake, 1);
}

void
nt_stream_stop (NtStream *stream)
{
  gs_mutex_lock (&stream->lock);
  stream->stopping = TRUE;
  gs_mutex_unlock (&stream->lock);
  nt_stream_wake (stream);
}

/* ----------------------------------------------------------------------------------- the ticket */

/* An empty host tells the client to use the one it is connected to: right through address translation, too. */
static char *
endpoint_text (const NtDataListener *listener)
{
  return nt_url_text (listener->url, listener->port, FALSE);
}

static gboolean
stream_accept (GsStream *base)
{
  NtStream *stream = (NtStream *) base;
  NtCall *call = stream->call;
  Nt *nt = stream->nt;
  g_autofree char *endpoint = endpoint_text (stream->listener);
  Gitstead__V1__StreamTicket ticket = GITSTEAD__V1__STREAM_TICKET__INIT;
  g_autoptr (GBytes) payload = NULL;
  NtConn *conn;

  nt->host->random (nt->host, stream->ticket, sizeof stream->ticket);
  stream->expires_us = g_get_monotonic_time () + nt->limits.ticket_us;
  gs_mutex_lock (&stream->lock);
  stream->accepted = TRUE;
  gs_mutex_unlock (&stream->lock);
  ticket.endpoint = endpoint;
  ticket.ticket.data = stream->ticket;
  ticket.ticket.len = sizeof stream->ticket;
  payload = gs_wire_encode (&ticket.base);
  /* From here on the stream lives without the control connection: its client may hang up as soon as it has the
   * ticket, which must not cancel the call. */
  conn = nt_conn_ref (call->conn);
  nt_call_detach (call);
  if (stream->wake >= 0 && nt_data_expect (nt->data, stream))
    nt_reply (conn, call->trace, call->trace_len, &call->call_id, GS_OK, NULL, GS_RETRY_NEVER, 0, payload, FALSE);
  else
    {
      nt_reply (conn, call->trace, call->trace_len, &call->call_id, GS_ERROR_UNAVAILABLE,
                stream->wake < 0 ? "the server has no descriptors left for the stream; try again"
                                 : "the server is shutting down; nothing was done",
                GS_RETRY_SAME, 0, NULL, FALSE);
      nt_call_cancel (call);
    }
  nt_conn_unref (conn);
  return FALSE;
}

/* ------------------------------------------------------------------------------------- the pipes */

/* A pipe with @ours the end that never blocks. The other one is an ordinary descriptor, good for a child. */
static gboolean
make_pipe (int ret_fds[2], int ours, GError **error)
{
  if (pipe2 (ret_fds, O_CLOEXEC) != 0)
    return gs_fail (error, gs_error_from_errno (errno), "make a pipe for a stream: %s", g_strerror (errno));
  fcntl (ret_fds[0], F_SETPIPE_SZ, PIPE_SIZE); /* the default does as well, with more switches */
  if (fcntl (ret_fds[ours], F_SETFL, O_NONBLOCK) == 0)
    return TRUE;
  gs_fail (error, gs_error_from_errno (errno), "make a pipe for a stream: %s", g_strerror (errno));
  close (ret_fds[0]);
  close (ret_fds[1]);
  return FALSE;
}

/* May it be opened? Under the lock. */
static gboolean
may_open (const NtStream *stream, gboolean again, const char *what, GError **error)
{
  if (again)
    return gs_fail (error, GS_ERROR_INTERNAL, "the stream's %s was opened before", what);
  if (stream->broken)
    return gs_fail (error, GS_ERROR_CANCELLED, "open the stream's %s: the client is gone", what);
  return TRUE;
}

static int
stream_open_input (GsStream *base, GError **error)
{
  NtStream *stream = (NtStream *) base;
  int fds[2];
  if (!make_pipe (fds, 1, error))
    return -1;
  gs_mutex_lock (&stream->lock);
  if (!may_open (stream, stream->input_open || base->complete, "input", error))
    {
      gs_mutex_unlock (&stream->lock);
      close (fds[0]);
      close (fds[1]);
      return -1;
    }
  stream->input_open = TRUE;
  stream->input_w = fds[1];
  gs_mutex_unlock (&stream->lock);
  nt_stream_wake (stream);
  return fds[0];
}

static int
stream_open_output (GsStream *base, GError **error)
{
  NtStream *stream = (NtStream *) base;
  int fds[2];
  if (!make_pipe (fds, 0, error))
    return -1;
  gs_mutex_lock (&stream->lock);
  if (!may_open (stream, stream->output_open || stream->all != NULL || !stream->bytes_out, "output", error))
    {
      gs_mutex_unlock (&stream->lock);
      close (fds[0]);
      close (fds[1]);
      return -1;
    }
  stream->output_open = TRUE;
  stream->output_r = fds[0];
  gs_mutex_unlock (&stream->lock);
  nt_stream_wake (stream);
  return fds[1];
}

static gboolean
stream_send_all (GsStream *base, GBytes *bytes, GError **error)
{
  NtStream *stream = (NtStream *) base;
  gboolean good;
  gs_mutex_lock (&stream->lock);
  good = may_open (stream, stream->output_open || stream->all != NULL || !stream->bytes_out, "output", error);
  if (good)
    stream->all = g_bytes_ref (bytes);
  gs_mutex_unlock (&stream->lock);
  nt_stream_wake (stream);
  return good;
}

/* --------------------------------------------------------------------------------------- its life */

gboolean
nt_stream_done (NtStream *stream, const GsOutcome *outcome)
{
  gboolean accepted;
  gs_mutex_lock (&stream->lock);
  accepted = stream->accepted;
  if (accepted)
    stream->end = (NtEnd) { .set = TRUE,
                            .code = outcome->code,
                            .retry = outcome->retry,
                            .retry_after_us = outcome->retry_after_us,
                            .message = g_strdup (outcome->message),
                            .payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL,
                            .details = GS_HAS (outcome, outcome->size, GsOutcome, details) && outcome->details != NULL
                                           ? g_bytes_ref (outcome->details)
                                           : NULL,
                            .generation = GS_HAS (outcome, outcome->size, GsOutcome, generation) ? outcome->generation
                                                                                                 : 0 };
  gs_mutex_unlock (&stream->lock);
  nt_stream_wake (stream);
  return accepted;
}

NtStream *
nt_stream_new (NtCall *call, NtDataListener *listener, const GsMethodInfo *info)
{
  NtStream *stream = g_new0 (NtStream, 1);
  stream->base = (GsStream) { .size = sizeof (GsStream),
                              .head = g_bytes_new_static ("", 0),
                              .complete = !info->streams_in,
                              .accept = stream_accept,
                              .open_input = stream_open_input,
                              .open_output = stream_open_output,
                              .send_all = stream_send_all };
  stream->refs = 1;
  stream->nt = call->nt;
  stream->call = nt_call_ref (call);
  stream->listener = listener;
  stream->bytes_in = info->streams_in;
  stream->bytes_out = info->streams_out;
  stream->peer = call->conn->peer;
  stream->fd = stream->input_w = stream->output_r = -1;
  stream->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  gs_mutex_init (&stream->lock);
  show_streams (stream->nt, 0);
  return stream;
}
