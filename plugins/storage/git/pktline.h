/* SPDX-License-Identifier: Apache-2.0 */
/**
 * pktline.h - git's packet lines: four hex digits of length (their own four bytes included), then the bytes.
 * "0000" is the flush packet, "0001" the delimiter, "0002" the end of a response.
 */
#ifndef STORAGE_GIT_PKTLINE_H
#define STORAGE_GIT_PKTLINE_H

#include <glib.h>

#define PKT_MAX 65520 /* a whole packet */

typedef enum
{
  PKT_MORE,  /* not all of it is there */
  PKT_BAD,   /* not a packet */
  PKT_FLUSH, /* 0000 */
  PKT_DELIM, /* 0001 */
  PKT_END,   /* 0002 */
  PKT_DATA
} PktType;

/** Looks at the packet at @data. @ret_used: bytes of the whole packet; @ret_payload points into @data. */
PktType pkt_parse (const char *data, gsize len, gsize *ret_used, const char **ret_payload, gsize *ret_payload_len);
/** Length without a trailing newline. */
gsize pkt_chomp (const char *payload, gsize len);
void pkt_append (GString *out, const char *payload, gsize len);
void pkt_printf (GString *out, const char *format, ...) G_GNUC_PRINTF (2, 3);
void pkt_flush (GString *out);
/** Is @word one of the words in @list (separated by spaces)? */
gboolean pkt_has_word (const char *list, gsize len, const char *word);
/** The greatest version=N in a Git-Protocol value ("version=2:side=x"); 0 when there is none. */
int pkt_protocol_version (const char *protocol);

#endif
