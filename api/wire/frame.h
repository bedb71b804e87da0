/* SPDX-License-Identifier: Apache-2.0 */
/**
 * frame.h - the bytes of the wire outside protobuf: docs/wire-protocol.md.
 *
 * Everything here checks fixed-size fields before any message is decoded and takes no memory for them.
 * All numbers are big endian.
 */
#ifndef GITSTEAD_WIRE_FRAME_H
#define GITSTEAD_WIRE_FRAME_H

#include <gitstead/types.h>

G_BEGIN_DECLS

/* ------------------------------------------------------------------------- SP, the lowest layer */

#define GS_SP_HEADER_SIZE 8
#define GS_SP_REQ 0x30 /* protocol number in the client's header … */
#define GS_SP_REP 0x31 /* … and in the server's */
#define GS_SP_LENGTH_SIZE 8
#define GS_SP_IPC_MESSAGE 0x01   /* one byte before the length, on unix sockets only */
#define GS_SP_REQUEST_ID 0x80000000u /* set in the last word of a backtrace: the request's own id */
#define GS_SP_TTL 8              /* words of a backtrace at most */

void gs_sp_header_write (guint8 ret_header[GS_SP_HEADER_SIZE], guint16 protocol);
/** Does the peer speak SP, and @protocol? */
gboolean gs_sp_header_check (const guint8 header[GS_SP_HEADER_SIZE], guint16 protocol);
/**
 * How many bytes of @body (the message after its length) are backtrace: 4 or more, a multiple of 4.
 * 0 when it has no end within GS_SP_TTL words.
 */
gsize gs_sp_backtrace (const guint8 *body, gsize len);

/* --------------------------------------------------------------------------------- the envelope */

#define GS_FRAME_PREFIX_SIZE 16
#define GS_FRAME_MAJOR 1
#define GS_FRAME_HEADER_MAX (16 * 1024)
#define GS_FRAME_REPLY 0x01u /* flags */
#define GS_FRAME_ERROR 0x02u /* a reply whose status is not OK */

/** An envelope that passed the checks; the pointers lead into the bytes that were parsed. */
typedef struct
{
  guint8 flags;
  guint32 code; /* request: method number; reply: status */
  const guint8 *header;
  gsize header_len;
  const guint8 *payload;
  gsize payload_len;
} GsFrame;

void gs_frame_prefix_write (guint8 ret_prefix[GS_FRAME_PREFIX_SIZE], guint8 flags, guint32 code, guint32 header_len,
                            guint32 payload_len);
/**
 * Checks the fixed part and both lengths. INVALID_ARGUMENT when it is no envelope; UNIMPLEMENTED when the
 * wire major or a flag is not ours.
 */
gboolean gs_frame_parse (const guint8 *bytes, gsize len, GsFrame *ret_frame, GError **error);

/* ---------------------------------------------------------------------------------- signatures */

#define GS_FRAME_NONCE_SIZE 16
#define GS_FRAME_CLOCK_SKEW_S 30

/**
 * What a request's signature is made over: the fixed part with the header length set to 0, call id, key id,
 * time, nonce, SHA-256 of the payload. *full*. Pure.
 */
GBytes *gs_frame_signed_data (guint32 method, const GsTxId *call_id, const char *key_id, guint64 time_s,
                              const guint8 nonce[GS_FRAME_NONCE_SIZE], const guint8 *payload, gsize payload_len);

/* -------------------------------------------------------------------------------- bulk streams */

#define GS_STREAM_HELLO_SIZE 24 /* client: "GSD1", 4 zero bytes, 16 bytes of ticket */
#define GS_STREAM_ANSWER_SIZE 8 /* server: "GSD1", u32 status; 0 = go on */
#define GS_STREAM_TICKET_SIZE 16

void gs_stream_hello_write (guint8 ret_hello[GS_STREAM_HELLO_SIZE], const guint8 ticket[GS_STREAM_TICKET_SIZE]);
/** The ticket inside @hello, or NULL when it is none. */
const guint8 *gs_stream_hello_parse (const guint8 hello[GS_STREAM_HELLO_SIZE]);
void gs_stream_answer_write (guint8 ret_answer[GS_STREAM_ANSWER_SIZE], guint32 status);
gboolean gs_stream_answer_parse (const guint8 answer[GS_STREAM_ANSWER_SIZE], guint32 *ret_status);

#define GS_CHUNK_HEADER_SIZE 8
#define GS_CHUNK_MAX (256 * 1024)

/** Types of the frames of a stream. */
#define GS_CHUNK_DATA 1    /* bulk bytes */
#define GS_CHUNK_END 2     /* no more DATA from this side; empty */
#define GS_CHUNK_TRAILER 3 /* StreamTrailer: the server's last frame */
#define GS_CHUNK_RESET 4   /* u32 status: it broke; the sender's last frame */
#define GS_CHUNK_PING 5    /* empty; says that the sender is alive */

void gs_chunk_write (guint8 ret_header[GS_CHUNK_HEADER_SIZE], guint8 type, guint32 length);
/** INVALID_ARGUMENT for an unknown type, flags, or a length that the type may not have. */
gboolean gs_chunk_parse (const guint8 header[GS_CHUNK_HEADER_SIZE], guint8 *ret_type, guint32 *ret_length,
                         GError **error);

/* ------------------------------------------------------------------------------- big endian */

static inline void
gs_put_u32 (guint8 *to, guint32 value)
{
  value = GUINT32_TO_BE (value);
  memcpy (to, &value, sizeof value);
}

static inline void
gs_put_u64 (guint8 *to, guint64 value)
{
  value = GUINT64_TO_BE (value);
  memcpy (to, &value, sizeof value);
}

static inline guint32
gs_get_u32 (const guint8 *from)
{
  guint32 value;
  memcpy (&value, from, sizeof value);
  return GUINT32_FROM_BE (value);
}

static inline guint64
gs_get_u64 (const guint8 *from)
{
  guint64 value;
  memcpy (&value, from, sizeof value);
  return GUINT64_FROM_BE (value);
}

G_END_DECLS

#endif
