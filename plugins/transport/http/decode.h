/* SPDX-License-Identifier: Apache-2.0 */
/**
 * decode.h - a request's body as the client meant it: as it is, or inflated, within limits.
 */
#ifndef GS_TRANSPORT_HTTP_DECODE_H
#define GS_TRANSPORT_HTTP_DECODE_H

#include <gitstead/types.h>
#include <zlib.h>

typedef struct
{
  gboolean gzip;
  gboolean ended; /* gzip: its trailer was seen and is right */
  guint64 taken, given;
  guint64 max_taken, max_given; /* 0 = no limit */
  z_stream z;
} Decoder;

/** FALSE with UNAVAILABLE when there is no memory for it. Cleared by decoder_clear. */
gboolean decoder_init (Decoder *decoder, gboolean gzip, guint64 max_taken, guint64 max_given, GError **error);
void decoder_clear (Decoder *decoder);

/**
 * Moves *@data on over what was used (*@length falls) and writes at most @room bytes. FALSE with
 * OUT_OF_RANGE when a limit is passed, INVALID_ARGUMENT when it is not gzip. When it comes back with
 * room left, all of @data is used.
 */
gboolean decoder_run (Decoder *decoder, const guint8 **data, gsize *length, guint8 *room, gsize room_len,
                      gsize *ret_written, GError **error);
/** Counts bytes that pass by as they are (no gzip). FALSE with OUT_OF_RANGE. */
gboolean decoder_count (Decoder *decoder, gsize length, GError **error);
/** No more input: FALSE with INVALID_ARGUMENT when the gzip stream is cut short. */
gboolean decoder_end (Decoder *decoder, GError **error);

#endif
