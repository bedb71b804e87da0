/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and packet lines for the cases. See stream.h. */
#include "stream.h"

#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>

static void *
take (void *data)
{
  Taker *taker = data;
  char piece[16384];
  ssize_t got;
  while ((got = read (taker->from, piece, sizeof piece)) > 0 || (got < 0 && errno == EINTR))
    if (got > 0)
      g_string_append_len (taker->got, piece, got);
  return NULL;
}

static gboolean
begin (Conformance *c, Taker *taker, GBytes *head, int input)
{
  int ends[2];
  if (pipe2 (ends, O_CLOEXEC) != 0)
    {
      conformance_fail (c, "a pipe for the test", "%s", g_strerror (errno));
      return FALSE;
    }
  *taker = (Taker){ .fake = fake_stream_new (head, input, ends[1]), .got = g_string_new (NULL), .from = ends[0] };
  if (gs_thread_start (&taker->thread, "conformance", take, taker) == 0)
    return TRUE;
  conformance_fail (c, "a thread for the test", "none could be started");
  fake_stream_free (taker->fake);
  close (taker->from);
  g_string_free (taker->got, TRUE);
  return FALSE;
}

gboolean
taker_begin (Conformance *c, Taker *taker, const void *head, gsize n)
{
  g_autoptr (GBytes) bytes = g_bytes_new (head, n);
  return begin (c, taker, bytes, -1);
}

gboolean
taker_begin_from (Conformance *c, Taker *taker, int input)
{
  return begin (c, taker, NULL, input);
}

GString *
taker_end (Taker *taker)
{
  fake_stream_free (taker->fake); /* closes what was never opened; who opened the output has closed it */
  gs_thread_join (taker->thread);
  close (taker->from);
  return g_steal_pointer (&taker->got);
}

void
packet_add (GString *out, const void *bytes, gsize n)
{
  g_string_append_printf (out, "%04x", (guint) n + 4);
  g_string_append_len (out, bytes, (gssize) n);
}

void
packet_text (GString *out, const char *format, ...)
{
  g_autofree char *text = NULL;
  va_list args;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  packet_add (out, text, strlen (text));
}

PacketType
packet_next (const char **at, gsize *left, const char **ret_bytes, gsize *ret_len)
{
  guint8 raw[2];
  gsize len;
  if (*left == 0)
    return PACKET_END;
  if (*left < 4 || !gs_unhex (*at, 2, raw))
    return PACKET_BAD;
  len = (gsize) raw[0] << 8 | raw[1];
  if (len == 3 || len > *left)
    return PACKET_BAD;
  *ret_bytes = *at + 4;
  *ret_len = len < 4 ? 0 : len - 4;
  *at += MAX (len, 4);
  *left -= MAX (len, 4);
  return len < 4 ? PACKET_FLUSH : PACKET_DATA;
}
