/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of one stream: moves bytes between the client's socket and the pipes that the host's side holds.
 *
 * On plain sockets the bytes of DATA frames never enter this process: splice moves them between socket and pipe.
 * Over TLS they pass through one buffer each way. The socket and our pipe ends never block; everything waits in one
 * poll, with the eventfd by which the host's side tells of a new pipe or the outcome.
 *
 * The client is gone when its side of the connection closes before it has the TRAILER. Then the call is cancelled
 * *before* a pipe is closed, so that whoever reads an end of file there can tell it from END.
 */
#include "nt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE (16 * 1024 - 256) /* one TLS record */
#define DRAIN_US (10 * G_USEC_PER_SEC) /* for the client's END after our TRAILER */
#define STOP_US (2 * G_USEC_PER_SEC)   /* for the client to take the trailer when the server stops */
#define PING_US (15 * G_USEC_PER_SEC) /* of silence from us */

typedef struct
{
  NtStream *stream;
  int fd;
  gnutls_session_t tls;
  NtEnd *end;     /* NULL until the call has ended; then it never changes */
  GBytes *all;    /* the output in one piece; borrowed */
  gint64 moved_us; /* when the client last sent or took something */
  gint64 sent_us;  /* when we last sent something */
  gboolean broken; /* the client is gone */
  guint32 reset;   /* tell the client this status before closing */

  /* from the client */
  int input_w;
  gboolean input_seen; /* it was opened, perhaps it is closed again */
  gboolean input_ended, input_discard, pipe_full, no_splice;
  guint8 in_header[GS_CHUNK_HEADER_SIZE];
  gsize in_have;    /* of the header */
  gsize in_left;    /* of a DATA frame */
  guint8 *in_buffer; /* what was read but not written into the pipe yet */
  gsize in_off, in_len;

  /* to the client */
  int output_r;
  gboolean output_opened, output_eof;
  guint8 *out_frame; /* a frame made here: header and, over TLS, its bytes */
  gsize out_off, out_len;
  gboolean pinging; /* that frame is a PING */
  gsize out_splice; /* bytes of a DATA frame that come from the pipe straight away */
  const guint8 *out_bytes; /* bytes of a DATA frame that lie in memory */
  gsize out_bytes_left, all_off;
  GByteArray *trailer;
  gboolean trailer_made, trailer_sent;
  gint64 drain_until_us;
  gint64 stop_us; /* not 0: the server goes down; be gone by then */
} Pump;

static gboolean
would_block (void)
{
  return errno == EAGAIN || errno == EINTR;
}

/* ----------------------------------------------------------------------------------- the socket */

/* Bytes read, 0 = end, -1 = wait, -2 = broken. */
static ssize_t
socket_read (Pump *pump, guint8 *to, gsize len)
{
  ssize_t n;
  if (pump->tls != NULL)
    {
      n = gnutls_record_recv (pump->tls, to, len);
      if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        return -1;
      return n < 0 ? -2 : n;
    }
  n = recv (pump->fd, to, len, 0);
  return n >= 0 ? n : would_block () ? -1 : -2;
}

static ssize_t
socket_write (Pump *pump, const guint8 *from, gsize len, gboolean more)
{
  ssize_t n;
  if (pump->tls != NULL)
    {
      n = gnutls_record_send (pump->tls, from, len);
      if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        return -1;
      return n < 0 ? -2 : n;
    }
  n = send (pump->fd, from, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  return n >= 0 ? n : would_block () ? -1 : -2;
}

static void
moved_in (Pump *pump, gsize n)
{
  Nt *nt = pump->stream->nt;
  pump->moved_us = g_get_monotonic_time ();
  nt_count (nt, nt->bytes_in, (double) n);
}

static void
moved_out (Pump *pump, gsize n)
{
  Nt *nt = pump->stream->nt;
  pump->sent_us = g_get_monotonic_time ();
  if (!pump->pinging) /* what we say unasked is no progress */
    pump->moved_us = pump->sent_us;
  nt_count (nt, nt->bytes_out, (double) n);
}

/* --------------------------------------------------------------------------------------- input */

/* Ends the input. Only after END, or when the call is cancelled, or when nobody reads. */
static void
close_input (Pump *pump)
{
  if (pump->input_w >= 0)
    close (pump->input_w);
  pump->input_w = -1;
  pump->pipe_full = FALSE;
}

/* The reader closed its end: what else comes is dropped. */
static void
discard_input (Pump *pump)
{
  close_input (pump);
  pump->input_discard = TRUE;
  pump->in_off = pump->in_len = 0;
}

static void
broken_by_client (Pump *pump, guint32 status)
{
  pump->broken = TRUE;
  pump->reset = status;
}

/* A frame that is no DATA. */
static void
handle_frame (Pump *pump, guint8 type, guint32 length)
{
  switch (type)
    {
    case GS_CHUNK_PING:
      return;
    case GS_CHUNK_END:
      pump->input_ended = TRUE;
      close_input (pump);
      return;
    default: /* RESET, or a TRAILER, which is not the client's to send */
      broken_by_client (pump, type == GS_CHUNK_RESET ? 0 : GS_ERROR_INVALID_ARGUMENT);
      return;
    }
}

static void
header_complete (Pump *pump)
{
  guint8 type;
  guint32 length;
  pump->in_have = 0;
  if (!gs_chunk_parse (pump->in_header, &type, &length, NULL) || pump->input_ended
      || (type == GS_CHUNK_DATA && !pump->stream->bytes_in))
    {
      if (!pump->trailer_sent || !pump->input_ended)
        broken_by_client (pump, GS_ERROR_INVALID_ARGUMENT);
      return;
    }
  if (type == GS_CHUNK_DATA)
    pump->in_left = length;
  else
    handle_frame (pump, type, length);
}

/* TRUE: something moved. */
static gboolean
flush_input_buffer (Pump *pump)
{
  ssize_t n = write (pump->input_w, pump->in_buffer + pump->in_off, pump->in_len - pump->in_off);
  if (n < 0 && would_block ())
    {
      pump->pipe_full = TRUE;
      return FALSE;
    }
  if (n < 0)
    {
      discard_input (pump);
      return TRUE;
    }
  pump->in_off += (gsize) n;
  return TRUE;
}

/* Socket straight into the pipe. 1 = moved, 0 = wait, -1 = use the buffer instead. */
static int
splice_input (Pump *pump)
{
  int waiting = 0;
  ssize_t n = splice (pump->fd, NULL, pump->input_w, NULL, pump->in_left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n > 0)
    {
      pump->in_left -= (gsize) n;
      moved_in (pump, (gsize) n);
      return 1;
    }
  if (n == 0)
    {
      pump->broken = TRUE;
      return 1;
    }
  if (errno == EPIPE)
    {
      discard_input (pump);
      return 1;
    }
  if (errno == EINVAL)
    return -1;
  if (!would_block ())
    {
      pump->broken = TRUE;
      return 1;
    }
  /* Which of the two has to be waited for? */
  if (ioctl (pump->fd, FIONREAD, &waiting) == 0 && waiting > 0)
    {
      struct pollfd room = { .fd = pump->input_w, .events = POLLOUT };
      if (poll (&room, 1, 0) == 1 && (room.revents & POLLOUT))
        return -1; /* both ready, and yet it would not */
      pump->pipe_full = TRUE;
    }
  return 0;
}

/* Reads what fits into the buffer. TRUE: something moved. */
static gboolean
read_data (Pump *pump)
{
  ssize_t n;
  if (pump->in_buffer == NULL)
    pump->in_buffer = g_malloc (BUFFER_SIZE);
  n = socket_read (pump, pump->in_buffer, MIN (pump->in_left, BUFFER_SIZE));
  if (n == -1)
    return FALSE;
  if (n <= 0)
    {
      pump->broken = TRUE;
      return TRUE;
    }
  moved_in (pump, (gsize) n);
  pump->in_left -= (gsize) n;
  pump->in_off = 0;
  pump->in_len = pump->input_discard ? 0 : (gsize) n;
  return TRUE;
}

/* One step from the client to the pipe. TRUE: something moved, call again. */
static gboolean
step_input (Pump *pump)
{
  ssize_t n;
  if (pump->in_off < pump->in_len)
    return !pump->pipe_full && flush_input_buffer (pump);
  if (pump->in_left > 0)
    {
      if (!pump->input_discard && (pump->input_w < 0 || pump->pipe_full))
        return FALSE;
      if (!pump->input_discard && pump->tls == NULL && !pump->no_splice)
        {
          int state = splice_input (pump);
          if (state >= 0)
            return state;
          pump->no_splice = TRUE;
        }
      return read_data (pump);
    }
  n = socket_read (pump, pump->in_header + pump->in_have, sizeof pump->in_header - pump->in_have);
  if (n == -1)
    return FALSE;
  if (n <= 0)
    {
      pump->broken = TRUE;
      return TRUE;
    }
  moved_in (pump, (gsize) n);
  pump->in_have += (gsize) n;
  if (pump->in_have == sizeof pump->in_header)
    header_complete (pump);
  return TRUE;
}

/* -------------------------------------------------------------------------------------- output */

static void
begin_frame (Pump *pump, guint8 type, gsize length)
{
  gs_chunk_write (pump->out_frame, type, (guint32) length);
  pump->pinging = type == GS_CHUNK_PING;
  pump->out_off = 0;
  pump->out_len = GS_CHUNK_HEADER_SIZE;
}

static gboolean
output_pending (const Pump *pump)
{
  return pump->out_off < pump->out_len || pump->out_splice > 0 || pump->out_bytes_left > 0;
}

/* A DATA frame with what is in the pipe. TRUE: there is something to send, or the end was seen. */
static gboolean
frame_from_pipe (Pump *pump)
{
  int waiting = 0;
  ssize_t n;
  if (pump->tls != NULL)
    {
      n = read (pump->output_r, pump->out_frame + GS_CHUNK_HEADER_SIZE, BUFFER_SIZE - GS_CHUNK_HEADER_SIZE);
      if (n < 0 && would_block ())
        return FALSE;
      if (n > 0)
        {
          begin_frame (pump, GS_CHUNK_DATA, (gsize) n);
          pump->out_len += (gsize) n;
          return TRUE;
        }
      pump->output_eof = TRUE;
      return TRUE;
    }
  if (ioctl (pump->output_r, FIONREAD, &waiting) == 0 && waiting > 0)
    {
      pump->out_splice = MIN ((gsize) waiting, GS_CHUNK_MAX);
      begin_frame (pump, GS_CHUNK_DATA, pump->out_splice);
      return TRUE;
    }
  /* Empty: at its end, or is there more to come? A read of nothing would not tell, so one byte. */
  n = read (pump->output_r, pump->out_frame + GS_CHUNK_HEADER_SIZE, 1);
  if (n < 0 && would_block ())
    return FALSE;
  if (n == 1)
    {
      begin_frame (pump, GS_CHUNK_DATA, 1);
      pump->out_len++;
      return TRUE;
    }
  pump->output_eof = TRUE;
  return TRUE;
}

static gboolean
frame_from_memory (Pump *pump)
{
  gsize size, n;
  const guint8 *bytes = g_bytes_get_data (pump->all, &size);
  n = MIN (size - pump->all_off, pump->tls != NULL ? BUFFER_SIZE - GS_CHUNK_HEADER_SIZE : GS_CHUNK_MAX);
  if (n == 0)
    {
      pump->output_eof = TRUE;
      return TRUE;
    }
  begin_frame (pump, GS_CHUNK_DATA, n);
  pump->out_bytes = bytes + pump->all_off;
  pump->out_bytes_left = n;
  pump->all_off += n;
  return TRUE;
}

/* The last frame: how the call ended. */
static void
make_trailer (Pump *pump)
{
  NtStream *stream = pump->stream;
  NtEnd end = *pump->end;
  Gitstead__V1__StreamTrailer trailer = GITSTEAD__V1__STREAM_TRAILER__INIT;
  Gitstead__V1__ReplyHeader header;
  g_autoptr (GsArena) arena = NULL;
  g_autofree char *text = end.message != NULL ? g_utf8_make_valid (end.message, MIN (strlen (end.message), 4096)) : NULL;
  gsize size = end.payload != NULL ? g_bytes_get_size (end.payload) : 0;
  if (size > GS_CHUNK_MAX / 2)
    {
      end = (NtEnd) { .code = GS_ERROR_INTERNAL };
      g_free (text);
      text = g_strdup_printf ("the reply has %" G_GSIZE_FORMAT " bytes, more than a stream's trailer takes", size);
    }
  nt_reply_header (stream->nt, &header, &stream->call->call_id, text, end.retry, end.retry_after_us);
  header.generation = end.generation;
  header.details = nt_details (&arena, end.details);
  trailer.status = end.code;
  trailer.header = &header;
  if (end.payload != NULL && end.code == GS_OK)
    trailer.payload.data = (guint8 *) g_bytes_get_data (end.payload, &trailer.payload.len);
  size = gitstead__v1__stream_trailer__get_packed_size (&trailer);
  pump->trailer = g_byte_array_sized_new ((guint) size);
  g_byte_array_set_size (pump->trailer, (guint) size);
  gitstead__v1__stream_trailer__pack (&trailer, pump->trailer->data);
  begin_frame (pump, GS_CHUNK_TRAILER, size);
  pump->out_bytes = pump->trailer->data;
  pump->out_bytes_left = size;
  pump->trailer_made = TRUE;
}

/* Chooses the next frame. TRUE: something changed. */
static gboolean
next_frame (Pump *pump)
{
  if (pump->trailer_made)
    return FALSE;
  if (!pump->output_eof)
    {
      if (pump->output_r >= 0 && frame_from_pipe (pump))
        return TRUE;
      if (pump->output_r < 0 && pump->all != NULL)
        return frame_from_memory (pump);
      /* Whatever the call wrote is in the pipe when it is done; a grandchild may hold the other end for ever. */
      if (pump->end != NULL)
        {
          pump->output_eof = TRUE;
          return TRUE;
        }
    }
  else if (pump->end != NULL)
    {
      make_trailer (pump);
      return TRUE;
    }
  if (g_get_monotonic_time () - pump->sent_us >= PING_US)
    {
      begin_frame (pump, GS_CHUNK_PING, 0);
      return TRUE;
    }
  return FALSE;
}

/* Pipe straight into the socket. */
static ssize_t
splice_output (Pump *pump)
{
  ssize_t n = splice (pump->output_r, NULL, pump->fd, NULL, pump->out_splice, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n > 0)
    {
      pump->out_splice -= (gsize) n;
      return n;
    }
  /* The bytes are in the pipe: only the socket can be what is not ready. */
  return n < 0 && would_block () ? -1 : -2;
}

/* One step to the client. TRUE: something moved, call again. */
static gboolean
step_output (Pump *pump)
{
  ssize_t n;
  if (!output_pending (pump))
    return next_frame (pump);
  if (pump->out_off < pump->out_len)
    {
      n = socket_write (pump, pump->out_frame + pump->out_off, pump->out_len - pump->out_off,
                        pump->out_splice > 0 || pump->out_bytes_left > 0);
      if (n > 0)
        pump->out_off += (gsize) n;
    }
  else if (pump->out_splice > 0)
    n = splice_output (pump);
  else
    {
      n = socket_write (pump, pump->out_bytes, pump->out_bytes_left, FALSE);
      if (n > 0)
        {
          pump->out_bytes += n;
          pump->out_bytes_left -= (gsize) n;
        }
    }
  if (n == -1)
    return FALSE;
  if (n <= 0)
    {
      pump->broken = TRUE;
      return TRUE;
    }
  moved_out (pump, (gsize) n);
  if (pump->trailer_made && !output_pending (pump))
    {
      pump->trailer_sent = TRUE;
      pump->drain_until_us = g_get_monotonic_time () + DRAIN_US;
    }
  return TRUE;
}

/* -------------------------------------------------------------------------------------- the loop */

/* Takes over what the host's side has done since. TRUE: the server goes down. */
static gboolean
take_news (Pump *pump)
{
  NtStream *stream = pump->stream;
  eventfd_t ignored;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&stream->lock);
  eventfd_read (stream->wake, &ignored);
  if (stream->input_w >= 0)
    {
      pump->input_w = stream->input_w;
      stream->input_w = -1;
      pump->input_seen = TRUE;
      if (pump->input_ended)
        close_input (pump);
    }
  if (stream->output_r >= 0)
    {
      pump->output_r = stream->output_r;
      stream->output_r = -1;
    }
  pump->all = stream->all;
  if (stream->end.set && pump->end == NULL)
    {
      pump->end = &stream->end;
      /* Nobody will read more input. */
      discard_input (pump);
    }
  return stream->stopping;
}

/* Is there a reason to read from the client, but for seeing it go? */
static gboolean
wants_input (const Pump *pump)
{
  if (pump->in_off < pump->in_len)
    return FALSE;
  return pump->in_left == 0 || pump->input_discard || (pump->input_w >= 0 && !pump->pipe_full);
}

/* When to give up for want of progress. */
static gint64
idle_deadline (const Pump *pump)
{
  gint64 stop_us = pump->stop_us != 0 ? pump->stop_us : G_MAXINT64;
  gboolean on_input = pump->stream->bytes_in && !pump->input_ended && !pump->input_discard && pump->input_w >= 0
                      && wants_input (pump);
  if (pump->trailer_sent)
    return MIN (stop_us, pump->drain_until_us);
  return MIN (stop_us, on_input || output_pending (pump) ? pump->moved_us + pump->stream->nt->limits.idle_us : G_MAXINT64);
}

static void
wait_for_events (Pump *pump)
{
  gint64 now_us = g_get_monotonic_time ();
  gint64 until = idle_deadline (pump);
  gboolean source = pump->output_r >= 0 && !pump->output_eof && !output_pending (pump) && !pump->trailer_made;
  struct pollfd fds[] = {
    { .fd = pump->stream->wake, .events = POLLIN },
    { .fd = pump->fd,
      .events = (short) ((wants_input (pump) ? POLLIN : 0) | (output_pending (pump) ? POLLOUT : 0)
                         | (pump->trailer_sent ? 0 : POLLRDHUP)) },
    { .fd = pump->pipe_full ? pump->input_w : -1, .events = POLLOUT },
    { .fd = source ? pump->output_r : -1, .events = POLLIN },
  };
  if (!pump->trailer_made && !output_pending (pump))
    until = MIN (until, pump->sent_us + PING_US);
  if (poll (fds, G_N_ELEMENTS (fds),
            until == G_MAXINT64 ? -1 : (int) CLAMP ((until - now_us) / 1000 + 1, 0, 3600000)) <= 0)
    return;
  if (fds[2].revents != 0)
    pump->pipe_full = FALSE;
  /* A client that leaves before the trailer does not want it: no need to find that out by writing. */
  if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL) || (!pump->trailer_sent && (fds[1].revents & POLLRDHUP)))
    pump->broken = TRUE;
}

/* Cancels, then closes the pipes, then waits for the call's end. */
static void
tear_down (Pump *pump)
{
  NtStream *stream = pump->stream;
  gboolean ended;
  gs_mutex_lock (&stream->lock);
  ended = stream->end.set;
  gs_mutex_unlock (&stream->lock);
  if (!ended)
    nt_call_cancel_now (stream->call);
  /* Only now: a call that finds its stream broken knows that it was cancelled. */
  gs_mutex_lock (&stream->lock);
  stream->broken = TRUE;
  gs_mutex_unlock (&stream->lock);
  take_news (pump);
  close_input (pump);
  if (pump->output_r >= 0)
    close (pump->output_r);
  pump->output_r = -1;
  while (pump->end == NULL)
    {
      struct pollfd fd = { .fd = stream->wake, .events = POLLIN };
      poll (&fd, 1, -1);
      take_news (pump);
    }
}

static void
say_goodbye (Pump *pump)
{
  guint8 frame[GS_CHUNK_HEADER_SIZE + 4];
  if (pump->trailer_sent && pump->tls != NULL)
    gnutls_bye (pump->tls, GNUTLS_SHUT_WR);
  if (pump->reset == 0 || output_pending (pump))
    return;
  gs_chunk_write (frame, GS_CHUNK_RESET, 4);
  gs_put_u32 (frame + GS_CHUNK_HEADER_SIZE, pump->reset);
  socket_write (pump, frame, sizeof frame, FALSE);
}

static void
run (Pump *pump)
{
  gboolean stopping = FALSE;
  while (!pump->broken && !(pump->trailer_sent && (pump->input_ended || stopping)))
    {
      gboolean moved = FALSE;
      stopping = take_news (pump);
      if (stopping && pump->stop_us == 0)
        pump->stop_us = g_get_monotonic_time () + STOP_US;
      /* In turns, so that neither direction starves the other. */
      for (int i = 0; i < 16 && !pump->broken; i++)
        {
          gboolean in = !(pump->input_ended && pump->trailer_sent) && step_input (pump);
          gboolean out = !pump->broken && !pump->trailer_sent && step_output (pump);
          moved = in || out;
          if (!moved)
            break;
        }
      if (moved || pump->broken)
        continue;
      if (g_get_monotonic_time () >= idle_deadline (pump))
        broken_by_client (pump, pump->trailer_sent ? 0 : GS_ERROR_DEADLINE_EXCEEDED);
      else if (!(pump->trailer_sent && (pump->input_ended || stopping)))
        wait_for_events (pump);
    }
}

void *
nt_pump_run (void *user)
{
  NtStream *stream = user;
  Nt *nt = stream->nt;
  Pump pump = { .stream = stream, .fd = stream->fd, .tls = stream->tls, .input_w = -1, .output_r = -1 };
  gboolean ended;
  pump.moved_us = pump.sent_us = g_get_monotonic_time ();
  pump.out_frame = g_malloc (BUFFER_SIZE);
  gs_mutex_lock (&stream->lock);
  ended = stream->end.set;
  gs_mutex_unlock (&stream->lock);
  if (!ended)
    nt_call_ready (stream->call);
  run (&pump);
  if (pump.reset == GS_ERROR_INVALID_ARGUMENT)
    nt_count (nt, nt->rejected, 1);
  tear_down (&pump);
  say_goodbye (&pump);
  nt_tls_session_free (pump.tls);
  close (pump.fd);
  stream->tls = NULL;
  stream->fd = -1;
  g_free (pump.in_buffer);
  g_free (pump.out_frame);
  g_clear_pointer (&pump.trailer, g_byte_array_unref);
  nt_data_finished (nt->data, stream);
  return NULL;
}
