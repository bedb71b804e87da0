/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of the node's service: fields of messages, and messages on streams. */
#include "node/serve_private.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define OUT_CHUNK (64 * 1024)
/* Where no descriptor tells of a cancel, the flag is looked at so often. */
#define FLAG_MS 100

ProtobufCBinaryData
gsi_serve_bytes (gconstpointer data, gsize len)
{
  return (ProtobufCBinaryData) { len, (guint8 *) data };
}

gboolean
gsi_serve_txid (const ProtobufCBinaryData *data, const char *field, GsTxId *ret_txid, GError **error)
{
  if (data->len != sizeof ret_txid->bytes)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must be %d bytes", field, GS_TXID_SIZE);
  memcpy (ret_txid->bytes, data->data, sizeof ret_txid->bytes);
  return TRUE;
}

gboolean
gsi_serve_oid (const ProtobufCBinaryData *data, const char *field, GsOid *ret_oid, GError **error)
{
  GsOid oid = { 0 };
  if (data->len != 0 && data->len != GS_FORMAT_SHA1 && data->len != GS_FORMAT_SHA256)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must be 0, 20 or 32 bytes", field);
  oid.len = (guint8) data->len;
  if (data->len > 0)
    memcpy (oid.raw, data->data, data->len);
  *ret_oid = oid;
  return TRUE;
}

char *
gsi_serve_text (const ProtobufCBinaryData *data, const char *field, GError **error)
{
  if (data->len == 0)
    return g_strdup ("");
  return gsi_name_text (data, field, error);
}

/* ------------------------------------------------------------------------------------------ waiting */

/* Until @fd is ready. FALSE when the call is to stop. */
static gboolean
wait_for (GsCall *call, int fd, short events, GError **error)
{
  struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = call->cancel_fd (call), .events = POLLIN } };
  while (gs_call_check (call, "moving bytes between router and node", error))
    {
      gint64 left_ms = call->deadline_us == G_MAXINT64
                           ? 60000
                           : CLAMP ((call->deadline_us - g_get_monotonic_time ()) / 1000 + 1, 0, 60000);
      if (fds[1].fd < 0)
        left_ms = MIN (left_ms, FLAG_MS);
      if (poll (fds, fds[1].fd >= 0 ? 2 : 1, (int) left_ms) > 0 && fds[0].revents != 0)
        return TRUE;
    }
  return FALSE;
}

gboolean
gsi_serve_write_all (GsCall *call, int fd, const guint8 *data, gsize len, GError **error)
{
  while (len > 0)
    {
      ssize_t n;
      if (!wait_for (call, fd, POLLOUT, error))
        return FALSE;
      n = write (fd, data, MIN (len, PIPE_BUF));
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n < 0)
        return gs_call_check (call, "answering a router", error)
               && gs_fail (error, GS_ERROR_CANCELLED, "answering a router: it went away (%s)", g_strerror (errno));
      data += n;
      len -= (gsize) n;
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- messages */

void
gsi_serve_out_open (Outflow *ret_out, GsiCall *call)
{
  *ret_out = (Outflow) { call, -1, g_byte_array_new (), FALSE, NULL };
  ret_out->fd = call->stream->open_output (call->stream, &ret_out->why);
  ret_out->failed = ret_out->fd < 0;
}

static gboolean
flush (Outflow *out)
{
  if (!out->failed && out->buffer->len > 0)
    out->failed
        = !gsi_serve_write_all (&out->call->base, out->fd, out->buffer->data, out->buffer->len, &out->why);
  g_byte_array_set_size (out->buffer, 0);
  return !out->failed;
}

gboolean
gsi_serve_out_bytes (Outflow *out, gconstpointer data, gsize len)
{
  if (len < OUT_CHUNK)
    g_byte_array_append (out->buffer, data, (guint) len);
  if (out->buffer->len >= OUT_CHUNK || len >= OUT_CHUNK)
    flush (out);
  if (len >= OUT_CHUNK && !out->failed)
    out->failed = !gsi_serve_write_all (&out->call->base, out->fd, data, len, &out->why);
  return !out->failed;
}

gboolean
gsi_serve_out_message (Outflow *out, const ProtobufCMessage *message)
{
  g_autoptr (GBytes) bytes = gs_wire_encode (message);
  return gsi_serve_out_encoded (out, bytes);
}

gboolean
gsi_serve_out_encoded (Outflow *out, GBytes *message)
{
  guint32 size = GUINT32_TO_BE ((guint32) g_bytes_get_size (message));
  gsize len;
  const guint8 *data = g_bytes_get_data (message, &len);
  return gsi_serve_out_bytes (out, &size, sizeof size) && gsi_serve_out_bytes (out, data, len);
}

gboolean
gsi_serve_out_close (Outflow *out, GError **error)
{
  flush (out);
  g_byte_array_unref (out->buffer);
  if (out->fd >= 0)
    close (out->fd);
  if (out->why != NULL)
    g_propagate_error (error, out->why);
  return !out->failed;
}

/* -------------------------------------------------------------------------------------------- input */

/* Some bytes; 0 at the end; -1 with @error. */
static gssize
in_some (Inflow *in, guint8 *to, gsize len, GError **error)
{
  GsStream *stream = in->call->stream;
  gsize head_len;
  const guint8 *head = g_bytes_get_data (stream->head, &head_len);
  if (in->head_off < head_len)
    {
      gsize n = MIN (len, head_len - in->head_off);
      memcpy (to, head + in->head_off, n);
      in->head_off += n;
      return (gssize) n;
    }
  if (stream->complete)
    return 0;
  if (in->fd < 0 && (in->fd = stream->open_input (stream, error)) < 0)
    return -1;
  for (;;)
    {
      ssize_t n;
      if (!wait_for (&in->call->base, in->fd, POLLIN, error))
        return -1;
      n = read (in->fd, to, len);
      if (n == 0 && !gs_call_check (&in->call->base, "reading from a router", error))
        return -1;
      if (n >= 0)
        return n;
      if (errno != EINTR && errno != EAGAIN)
        {
          gs_fail (error, GS_ERROR_UNAVAILABLE, "reading from a router: %s", g_strerror (errno));
          return -1;
        }
    }
}

gboolean
gsi_serve_in_exactly (Inflow *in, guint8 *to, gsize len, GError **error)
{
  while (len > 0)
    {
      gssize n = in_some (in, to, len, error);
      if (n < 0)
        return FALSE;
      if (n == 0)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the router's bytes end before they are whole");
      to += n;
      len -= (gsize) n;
    }
  return TRUE;
}

GBytes *
gsi_serve_in_all (Inflow *in, gsize max, GError **error)
{
  g_autoptr (GByteArray) all = g_byte_array_new ();
  g_autofree guint8 *chunk = g_malloc (OUT_CHUNK);
  gssize n;
  while ((n = in_some (in, chunk, OUT_CHUNK, error)) > 0)
    {
      if (all->len + (gsize) n > max)
        {
          gs_fail (error, GS_ERROR_OUT_OF_RANGE, "more than %" G_GSIZE_FORMAT " bytes in one piece", max);
          return NULL;
        }
      g_byte_array_append (all, chunk, (guint) n);
    }
  return n < 0 ? NULL : g_byte_array_free_to_bytes (g_steal_pointer (&all));
}

void
gsi_serve_in_close (Inflow *in)
{
  if (in->fd >= 0)
    close (in->fd);
  in->fd = -1;
}
