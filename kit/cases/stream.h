/* SPDX-License-Identifier: Apache-2.0 */
/**
 * stream.h - a stream for the cases, and git's packet lines.
 */
#ifndef CONFORMANCE_STREAM_H
#define CONFORMANCE_STREAM_H

#include "engine.h"
#include "fakehost.h"

/** A stream whose input is complete, and a thread that takes its output. */
typedef struct
{
  FakeStream *fake;
  GString *got;
  int from;
  GsThread thread;
} Taker;

/** FALSE after failing the case. */
gboolean taker_begin (Conformance *c, Taker *taker, const void *head, gsize n);
/** The same with the input from @input (taken), which is not complete. */
gboolean taker_begin_from (Conformance *c, Taker *taker, int input);
/** Ends the stream; what was written to it. *full*. */
GString *taker_end (Taker *taker);

/** Appends "%04x" and the text. */
void packet_add (GString *out, const void *bytes, gsize n);
void packet_text (GString *out, const char *format, ...) G_GNUC_PRINTF (2, 3);

typedef enum
{
  PACKET_DATA,
  PACKET_FLUSH, /* or another mark: delimiter, end of the response */
  PACKET_END,   /* nothing left */
  PACKET_BAD
} PacketType;

/** Takes one off [@at, @left). */
PacketType packet_next (const char **at, gsize *left, const char **ret_bytes, gsize *ret_len);

#endif
