/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire outside protobuf, and the headers inside it: SP's greeting and backtrace, the envelope, what opens a bulk stream,
 * its chunks. What parses is written back as the same bytes.
 */
#include "fuzz.h"

#include "gitstead/v1/envelope.pb-c.h"

#include <string.h>
#include <wire/frame.h>
#include <wire/token.h>
#include <wire/wire.h>

#define BUDGET (64 * 1024)

static const ProtobufCMessageDescriptor *const headers[] = {
  &gitstead__v1__request_header__descriptor,
  &gitstead__v1__reply_header__descriptor,
  &gitstead__v1__stream_ticket__descriptor,
  &gitstead__v1__stream_trailer__descriptor,
};

static void
try_headers (const guint8 *data, gsize len)
{
  for (gsize i = 0; i < G_N_ELEMENTS (headers); i++)
    {
      g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
      g_autoptr (GError) error = NULL;
      ProtobufCMessage *message = gs_wire_decode (arena, headers[i], data, len, &error);
      FUZZ_CHECK ((message == NULL) == (error != NULL));
    }
}

static void
try_envelope (const guint8 *data, gsize len)
{
  g_autoptr (GError) error = NULL;
  guint8 prefix[GS_FRAME_PREFIX_SIZE];
  GsFrame frame;
  if (!gs_frame_parse (data, len, &frame, &error))
    {
      FUZZ_CHECK (gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT || gs_error_code (error) == GS_ERROR_UNIMPLEMENTED);
      return;
    }
  FUZZ_CHECK (frame.header_len <= GS_FRAME_HEADER_MAX);
  FUZZ_CHECK (GS_FRAME_PREFIX_SIZE + frame.header_len + frame.payload_len == len);
  FUZZ_CHECK (frame.header == data + GS_FRAME_PREFIX_SIZE && frame.payload == frame.header + frame.header_len);
  gs_frame_prefix_write (prefix, frame.flags, frame.code, (guint32) frame.header_len, (guint32) frame.payload_len);
  FUZZ_CHECK (memcmp (prefix, data, sizeof prefix) == 0);
  try_headers (frame.header, frame.header_len);
}

static void
try_stream (const guint8 *data, gsize len)
{
  g_autoptr (GError) error = NULL;
  guint8 written[GS_STREAM_HELLO_SIZE], type;
  const guint8 *ticket;
  guint32 number;
  if (len >= GS_STREAM_HELLO_SIZE && (ticket = gs_stream_hello_parse (data)) != NULL)
    {
      gs_stream_hello_write (written, ticket);
      FUZZ_CHECK (memcmp (written, data, GS_STREAM_HELLO_SIZE) == 0);
    }
  if (len >= GS_STREAM_ANSWER_SIZE && gs_stream_answer_parse (data, &number))
    {
      gs_stream_answer_write (written, number);
      FUZZ_CHECK (memcmp (written, data, GS_STREAM_ANSWER_SIZE) == 0);
    }
  if (len >= GS_CHUNK_HEADER_SIZE && gs_chunk_parse (data, &type, &number, &error))
    {
      FUZZ_CHECK (number <= GS_CHUNK_MAX);
      gs_chunk_write (written, type, number);
      FUZZ_CHECK (memcmp (written, data, GS_CHUNK_HEADER_SIZE) == 0);
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  gsize trace = gs_sp_backtrace (data, size);
  FUZZ_CHECK (trace <= size && trace % 4 == 0 && trace <= 4 * GS_SP_TTL);
  if (size >= GS_SP_HEADER_SIZE)
    gs_sp_header_check (data, GS_SP_REQ);
  if (trace > 0)
    try_envelope (data + trace, size - trace);
  try_envelope (data, size);
  try_stream (data, size);
  try_headers (data, size);
  return 0;
}

static void
add (GPtrArray *seeds, const char *hex)
{
  GByteArray *bytes = g_byte_array_new ();
  for (; hex[0] != '\0'; hex += 2)
    {
      guint8 byte = (guint8) (g_ascii_xdigit_value (hex[0]) << 4 | g_ascii_xdigit_value (hex[1]));
      g_byte_array_append (bytes, &byte, 1);
    }
  g_ptr_array_add (seeds, g_byte_array_free_to_bytes (bytes));
}

GPtrArray *
fuzz_seeds (void)
{
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  add (seeds, "0053500000300000");
  /* Server/Ping as in docs/wire-protocol.md, with its request id and without. */
  add (seeds, "80000001475301000000000200000012000000040a1011111111111111111111111111111111" "0a026869");
  add (seeds, "475301000000000200000012000000040a1011111111111111111111111111111111" "0a026869");
  add (seeds, "0000000700000008800000014753010300000005000000020000000010ff");
  add (seeds, "475344310000000000112233445566778899aabbccddeeff");
  add (seeds, "4753443100000005");
  add (seeds, "0100000000040000");
  add (seeds, "0400000000000004");
  return seeds;
}
