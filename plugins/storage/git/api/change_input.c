/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk bytes that come beside a request: read piece by piece, within the call's time. */
#include "change.h"

#include "../child.h"
#include "../fsutil.h"

#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (128u << 10)

/* What is there, at most @room bytes; *@ret_got 0 at the end. */
static gboolean
read_some (Change *change, guint8 *buffer, gsize room, gsize *ret_got, GError **error)
{
  const GsStream *stream = change->api.stream;
  gsize head_len;
  const guint8 *head = g_bytes_get_data (stream->head, &head_len);
  struct pollfd fds[2];
  ssize_t got;
  if (change->input_head < head_len)
    {
      *ret_got = MIN (room, head_len - change->input_head);
      memcpy (buffer, head + change->input_head, *ret_got);
      change->input_head += *ret_got;
      return TRUE;
    }
  if (!stream->complete && change->input_fd < 0
      && (change->input_fd = stream->open_input (change->api.stream, error)) < 0)
    return FALSE;
  if (change->input_fd < 0)
    {
      *ret_got = 0;
      return TRUE;
    }
  do
    {
      fds[0] = (struct pollfd){ .fd = change->input_fd, .events = POLLIN };
      if (!call_poll (change->call, fds, 1, "reading the files", error))
        return FALSE;
      got = read (change->input_fd, buffer, room);
    }
  while (got < 0 && (errno == EINTR || errno == EAGAIN));
  if (got < 0)
    return fsu_fail (error, errno, "read %s", "the files' bytes");
  *ret_got = (gsize) got;
  /* The end of a stream that broke is none. */
  return got > 0 || gs_call_check (change->call, "reading the files", error);
}

gboolean
change_input_take (Change *change, guint64 n, GBytes **ret_bytes, GError **error)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  gsize got = 0;
  if (change->api.stream == NULL)
    return api_invalid (error, "stream_bytes", "only CommitStream has bulk bytes");
  if (n > CHANGE_INPUT_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "stream_bytes: %" G_GUINT64_FORMAT " bytes in one file, at most %u are "
                    "taken: push it with git",
                    n, CHANGE_INPUT_MAX);
  while (bytes->len < n)
    {
      guint before = bytes->len;
      gsize room = (gsize) MIN (n - before, PIECE_BYTES);
      g_byte_array_set_size (bytes, before + (guint) room);
      if (!read_some (change, bytes->data + before, room, &got, error))
        return FALSE;
      if (got == 0)
        return api_invalid (error, "stream_bytes", "there are %u bytes, and %" G_GUINT64_FORMAT " are asked for",
                            before, n);
      g_byte_array_set_size (bytes, before + (guint) got);
    }
  *ret_bytes = g_byte_array_free_to_bytes (g_steal_pointer (&bytes));
  return TRUE;
}

gboolean
change_input_end (Change *change, GError **error)
{
  guint8 more;
  gsize got = 0;
  if (change->api.stream == NULL)
    return TRUE;
  if (!read_some (change, &more, 1, &got, error))
    return FALSE;
  return got == 0 || api_invalid (error, "stream_bytes", "there are more bulk bytes than the actions take");
}
