/* SPDX-License-Identifier: Apache-2.0 */
/**
 * guard.h - refuses requests whose framing two parsers could understand in two ways.
 *
 * The library alone answers requests with two lengths, or with a length and chunks, by picking one.
 * A proxy in front may pick the other: that is request smuggling. Pure functions.
 */
#ifndef GS_TRANSPORT_HTTP_GUARD_H
#define GS_TRANSPORT_HTTP_GUARD_H

#include <gitstead/types.h>

/** The headers that matter here, as they came. Values borrowed for as long as the request's headers live. */
typedef struct
{
  const char *host, *content_length, *transfer_encoding, *expect, *content_type, *content_encoding, *authorization,
      *git_protocol, *call_id, *timeout_ms, *generation;
  const char *repeated;  /* name of a header that must not be repeated, and was */
  const char *bad_name;  /* a header's name with a character that names can't have */
  const char *bad_value; /* name of a header whose value has a control character */
  guint64 length;        /* after guard_check: of the body; G_MAXUINT64 = chunked */
  gboolean has_body;
  gboolean expects_continue;
} Guard;

/** Takes one header in. */
void guard_header (Guard *guard, const char *name, gsize name_len, const char *value, gsize value_len);
/**
 * The verdict: 0, or the HTTP status to refuse with and *@ret_why, a constant text. @http11 says whether
 * the request speaks HTTP/1.1.
 */
guint guard_check (Guard *guard, gboolean http11, const char **ret_why);

#endif
