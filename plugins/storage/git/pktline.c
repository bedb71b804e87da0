/* SPDX-License-Identifier: Apache-2.0 */
/* Packet lines: see pktline.h. */
#include "pktline.h"

#include <stdarg.h>
#include <string.h>

PktType
pkt_parse (const char *data, gsize len, gsize *ret_used, const char **ret_payload, gsize *ret_payload_len)
{
  guint size = 0;
  if (len < 4)
    return PKT_MORE;
  for (int i = 0; i < 4; i++)
    {
      int digit = g_ascii_xdigit_value (data[i]);
      if (digit < 0)
        return PKT_BAD;
      size = size << 4 | (guint) digit;
    }
  *ret_payload = data + 4;
  *ret_payload_len = 0;
  *ret_used = 4;
  if (size < 3)
    return size == 0 ? PKT_FLUSH : size == 1 ? PKT_DELIM : PKT_END;
  if (size == 3 || size > PKT_MAX)
    return PKT_BAD;
  if (len < size)
    return PKT_MORE;
  *ret_used = size;
  *ret_payload_len = size - 4;
  return PKT_DATA;
}

gsize
pkt_chomp (const char *payload, gsize len)
{
  return len > 0 && payload[len - 1] == '\n' ? len - 1 : len;
}

static void
append_length (GString *out, gsize len)
{
  static const char digits[] = "0123456789abcdef";
  gsize size = len + 4;
  for (int shift = 12; shift >= 0; shift -= 4)
    g_string_append_c (out, digits[size >> shift & 15]);
}

void
pkt_append (GString *out, const char *payload, gsize len)
{
  append_length (out, len);
  g_string_append_len (out, payload, (gssize) len);
}

void
pkt_printf (GString *out, const char *format, ...)
{
  va_list args;
  gsize start = out->len;
  g_string_append (out, "0000");
  va_start (args, format);
  g_string_append_vprintf (out, format, args);
  va_end (args);
  if (out->len - start > PKT_MAX)
    g_string_truncate (out, start + PKT_MAX);
  gsize size = out->len - start;
  for (int i = 0; i < 4; i++)
    out->str[start + (gsize) i] = "0123456789abcdef"[size >> (12 - 4 * i) & 15];
}

void
pkt_flush (GString *out)
{
  g_string_append (out, "0000");
}

gboolean
pkt_has_word (const char *list, gsize len, const char *word)
{
  gsize word_len = strlen (word);
  for (gsize start = 0; start < len;)
    {
      const char *space = memchr (list + start, ' ', len - start);
      gsize end = space != NULL ? (gsize) (space - list) : len;
      if (end - start == word_len && memcmp (list + start, word, word_len) == 0)
        return TRUE;
      start = end + 1;
    }
  return FALSE;
}

int
pkt_protocol_version (const char *protocol)
{
  int version = 0;
  g_auto (GStrv) parts = g_strsplit (protocol != NULL ? protocol : "", ":", 16);
  for (guint i = 0; parts[i] != NULL; i++)
    {
      if (strcmp (parts[i], "version=1") == 0)
        version = MAX (version, 1);
      else if (strcmp (parts[i], "version=2") == 0)
        version = 2;
    }
  return version;
}
