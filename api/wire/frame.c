/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed bytes of the wire. See frame.h. */
#include "frame.h"

#define KNOWN_FLAGS (GS_FRAME_REPLY | GS_FRAME_ERROR)

void
gs_sp_header_write (guint8 ret_header[GS_SP_HEADER_SIZE], guint16 protocol)
{
  const guint8 header[GS_SP_HEADER_SIZE] = { 0, 'S', 'P', 0, (guint8) (protocol >> 8), (guint8) protocol, 0, 0 };
  memcpy (ret_header, header, sizeof header);
}

gboolean
gs_sp_header_check (const guint8 header[GS_SP_HEADER_SIZE], guint16 protocol)
{
  guint8 expected[GS_SP_HEADER_SIZE];
  gs_sp_header_write (expected, protocol);
  return memcmp (header, expected, sizeof expected) == 0;
}

gsize
gs_sp_backtrace (const guint8 *body, gsize len)
{
  for (gsize words = 1; words <= GS_SP_TTL && words * 4 <= len; words++)
    if (gs_get_u32 (body + (words - 1) * 4) & GS_SP_REQUEST_ID)
      return words * 4;
  return 0;
}

void
gs_frame_prefix_write (guint8 ret_prefix[GS_FRAME_PREFIX_SIZE], guint8 flags, guint32 code, guint32 header_len,
                       guint32 payload_len)
{
  ret_prefix[0] = 'G';
  ret_prefix[1] = 'S';
  ret_prefix[2] = GS_FRAME_MAJOR;
  ret_prefix[3] = flags;
  gs_put_u32 (ret_prefix + 4, code);
  gs_put_u32 (ret_prefix + 8, header_len);
  gs_put_u32 (ret_prefix + 12, payload_len);
}

gboolean
gs_frame_parse (const guint8 *bytes, gsize len, GsFrame *ret_frame, GError **error)
{
  guint32 header_len, payload_len;
  if (len < GS_FRAME_PREFIX_SIZE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "envelope: %" G_GSIZE_FORMAT " bytes, but the fixed part alone has %d", len, GS_FRAME_PREFIX_SIZE);
  if (bytes[0] != 'G' || bytes[1] != 'S')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "envelope: begins with %02x %02x instead of 47 53 (\"GS\")",
                    bytes[0], bytes[1]);
  if (bytes[2] != GS_FRAME_MAJOR)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "envelope: wire major %d, but this side speaks %d", bytes[2],
                    GS_FRAME_MAJOR);
  if (bytes[3] & ~KNOWN_FLAGS)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "envelope: unknown flags %02x", bytes[3]);
  header_len = gs_get_u32 (bytes + 8);
  payload_len = gs_get_u32 (bytes + 12);
  if (header_len > GS_FRAME_HEADER_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "envelope: a header of %u bytes, but at most %d are allowed",
                    header_len, GS_FRAME_HEADER_MAX);
  if ((guint64) header_len + payload_len != len - GS_FRAME_PREFIX_SIZE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "envelope: header of %u and payload of %u bytes announced, but %" G_GSIZE_FORMAT " came",
                    header_len, payload_len, len - GS_FRAME_PREFIX_SIZE);
  ret_frame->flags = bytes[3];
  ret_frame->code = gs_get_u32 (bytes + 4);
  ret_frame->header = bytes + GS_FRAME_PREFIX_SIZE;
  ret_frame->header_len = header_len;
  ret_frame->payload = ret_frame->header + header_len;
  ret_frame->payload_len = payload_len;
  return TRUE;
}

GBytes *
gs_frame_signed_data (guint32 method, const GsTxId *call_id, const char *key_id, guint64 time_s,
                      const guint8 nonce[GS_FRAME_NONCE_SIZE], const guint8 *payload, gsize payload_len)
{
  guint8 prefix[GS_FRAME_PREFIX_SIZE], number[8], digest[32];
  gsize digest_len = sizeof digest;
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  GByteArray *data = g_byte_array_new ();

  gs_frame_prefix_write (prefix, 0, method, 0, (guint32) payload_len);
  gs_put_u64 (number, time_s);
  g_checksum_update (sum, payload, (gssize) payload_len);
  g_checksum_get_digest (sum, digest, &digest_len);
  g_byte_array_append (data, prefix, sizeof prefix);
  g_byte_array_append (data, call_id->bytes, sizeof call_id->bytes);
  g_byte_array_append (data, (const guint8 *) key_id, (guint) strlen (key_id));
  g_byte_array_append (data, number, sizeof number);
  g_byte_array_append (data, nonce, GS_FRAME_NONCE_SIZE);
  g_byte_array_append (data, digest, sizeof digest);
  return g_byte_array_free_to_bytes (data);
}

static const guint8 stream_magic[4] = { 'G', 'S', 'D', '1' };
static const guint8 zeros[4];

void
gs_stream_hello_write (guint8 ret_hello[GS_STREAM_HELLO_SIZE], const guint8 ticket[GS_STREAM_TICKET_SIZE])
{
  memcpy (ret_hello, stream_magic, 4);
  memset (ret_hello + 4, 0, 4);
  memcpy (ret_hello + 8, ticket, GS_STREAM_TICKET_SIZE);
}

const guint8 *
gs_stream_hello_parse (const guint8 hello[GS_STREAM_HELLO_SIZE])
{
  if (memcmp (hello, stream_magic, 4) != 0 || memcmp (hello + 4, zeros, 4) != 0)
    return NULL;
  return hello + 8;
}

void
gs_stream_answer_write (guint8 ret_answer[GS_STREAM_ANSWER_SIZE], guint32 status)
{
  memcpy (ret_answer, stream_magic, 4);
  gs_put_u32 (ret_answer + 4, status);
}

gboolean
gs_stream_answer_parse (const guint8 answer[GS_STREAM_ANSWER_SIZE], guint32 *ret_status)
{
  if (memcmp (answer, stream_magic, 4) != 0)
    return FALSE;
  *ret_status = gs_get_u32 (answer + 4);
  return TRUE;
}

void
gs_chunk_write (guint8 ret_header[GS_CHUNK_HEADER_SIZE], guint8 type, guint32 length)
{
  memset (ret_header, 0, 4);
  ret_header[0] = type;
  gs_put_u32 (ret_header + 4, length);
}

gboolean
gs_chunk_parse (const guint8 header[GS_CHUNK_HEADER_SIZE], guint8 *ret_type, guint32 *ret_length, GError **error)
{
  guint8 type = header[0];
  guint32 length = gs_get_u32 (header + 4);
  guint32 most = type == GS_CHUNK_DATA || type == GS_CHUNK_TRAILER ? GS_CHUNK_MAX : type == GS_CHUNK_RESET ? 4 : 0;
  if (type < GS_CHUNK_DATA || type > GS_CHUNK_PING || header[1] != 0 || header[2] != 0 || header[3] != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "stream: unknown frame %02x %02x %02x %02x", header[0], header[1],
                    header[2], header[3]);
  if (length > most || (type == GS_CHUNK_RESET && length != 4))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "stream: a frame of type %d with %u bytes", type, length);
  *ret_type = type;
  *ret_length = length;
  return TRUE;
}
