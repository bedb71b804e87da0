/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - bounded, streaming inflate of request bodies. */
#include "decode.h"

gboolean
decoder_init (Decoder *decoder, gboolean gzip, guint64 max_taken, guint64 max_given, GError **error)
{
  memset (decoder, 0, sizeof *decoder);
  decoder->max_taken = max_taken;
  decoder->max_given = max_given;
  /* 15 + 16: the largest window, with gzip's header and trailer and nothing else. */
  if (gzip && inflateInit2 (&decoder->z, 15 + 16) != Z_OK)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "there is no memory to inflate the request's body; try again later");
  decoder->gzip = gzip;
  return TRUE;
}

void
decoder_clear (Decoder *decoder)
{
  if (decoder->gzip)
    inflateEnd (&decoder->z);
  decoder->gzip = FALSE;
}

static gboolean
check_limits (Decoder *decoder, GError **error)
{
  if (decoder->max_taken != 0 && decoder->taken > decoder->max_taken)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "the request's body is larger than this server takes (%" G_GUINT64_FORMAT " bytes)",
                    decoder->max_taken);
  if (decoder->max_given != 0 && decoder->given > decoder->max_given)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "the request's body inflates to more than this server takes (%" G_GUINT64_FORMAT
                    " bytes); send it without gzip",
                    decoder->max_given);
  return TRUE;
}

gboolean
decoder_count (Decoder *decoder, gsize length, GError **error)
{
  decoder->taken += length;
  decoder->given += length;
  return check_limits (decoder, error);
}

static gboolean
inflate_some (Decoder *decoder, const guint8 **data, gsize *length, guint8 *room, gsize room_len, gsize *ret_written,
              GError **error)
{
  z_stream *z = &decoder->z;
  uInt before = (uInt) MIN (*length, G_MAXINT), space = (uInt) MIN (room_len, G_MAXINT);
  int status;
  if (decoder->ended)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the request's body goes on after the end of its gzip stream");
  z->next_in = (Bytef *) *data;
  z->avail_in = before;
  z->next_out = room;
  z->avail_out = space;
  status = inflate (z, Z_NO_FLUSH);
  if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the request's body is not valid gzip: %s",
                    z->msg != NULL ? z->msg : "unexpected content");
  decoder->taken += before - z->avail_in;
  decoder->given += space - z->avail_out;
  *data += before - z->avail_in;
  *length -= before - z->avail_in;
  *ret_written = space - z->avail_out;
  decoder->ended = status == Z_STREAM_END;
  return check_limits (decoder, error);
}

gboolean
decoder_run (Decoder *decoder, const guint8 **data, gsize *length, guint8 *room, gsize room_len, gsize *ret_written,
             GError **error)
{
  gsize written = 0;
  if (!decoder->gzip)
    {
      written = MIN (*length, room_len);
      memcpy (room, *data, written);
      *data += written;
      *length -= written;
      *ret_written = written;
      return decoder_count (decoder, written, error);
    }
  /* inflate holds output back when the room is full, so go on until it leaves room or has no input. */
  for (;;)
    {
      gsize some = 0, before = *length;
      if (written == room_len || (*length == 0 && decoder->ended))
        break;
      if (!inflate_some (decoder, data, length, room + written, room_len - written, &some, error))
        return FALSE;
      written += some;
      if (some == 0 && *length == before)
        break;
    }
  *ret_written = written;
  return TRUE;
}

gboolean
decoder_end (Decoder *decoder, GError **error)
{
  if (decoder->gzip && !decoder->ended)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the request's gzip body is cut short");
  return TRUE;
}
