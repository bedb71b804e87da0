/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - the raw HTTP client of the tests. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000

int
client_connect (guint16 port)
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons (port) };
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_addr.s_addr = htonl (INADDR_LOOPBACK);
  if (fd >= 0 && connect (fd, (struct sockaddr *) &address, sizeof address) == 0)
    return fd;
  if (fd >= 0)
    close (fd);
  return -1;
}

gboolean
client_send_bytes (int fd, const void *data, gsize length)
{
  const char *at = data;
  while (length > 0)
    {
      ssize_t n = send (fd, at, length, MSG_NOSIGNAL);
      if (n <= 0)
        return FALSE;
      at += n;
      length -= (gsize) n;
    }
  return TRUE;
}

gboolean
client_send (int fd, const char *text)
{
  return client_send_bytes (fd, text, strlen (text));
}

/* More of @in from the socket. 1: got some; 0: closed; -1: patience is over. */
static int
more (int fd, GByteArray *in)
{
  struct pollfd wait = { .fd = fd, .events = POLLIN };
  guint8 buffer[65536];
  ssize_t n;
  if (poll (&wait, 1, PATIENCE_MS) <= 0)
    return -1;
  n = recv (fd, buffer, sizeof buffer, 0);
  if (n <= 0)
    return 0;
  g_byte_array_append (in, buffer, (guint) n);
  return 1;
}

static gboolean
want (int fd, GByteArray *in, gsize count, Answer *answer)
{
  while (in->len < count)
    {
      int got = more (fd, in);
      answer->closed = got == 0;
      answer->timed_out = got < 0;
      if (got <= 0)
        return FALSE;
    }
  return TRUE;
}

static char *
line (int fd, GByteArray *in, Answer *answer)
{
  for (;;)
    {
      guint8 *end = in->len > 0 ? memchr (in->data, '\n', in->len) : NULL;
      if (end != NULL)
        {
          guint length = (guint) (end - in->data);
          char *text = g_strndup ((char *) in->data, length > 0 && in->data[length - 1] == '\r' ? length - 1 : length);
          g_byte_array_remove_range (in, 0, length + 1);
          return text;
        }
      if (!want (fd, in, in->len + 1, answer))
        return NULL;
    }
}

char *
answer_header (const Answer *answer, const char *name)
{
  g_auto (GStrv) lines = g_strsplit (answer->header != NULL ? answer->header : "", "\r\n", -1);
  gsize length = strlen (name);
  for (guint i = 0; lines[i] != NULL; i++)
    if (g_ascii_strncasecmp (lines[i], name, length) == 0 && lines[i][length] == ':')
      return g_strdup (g_strstrip (lines[i] + length + 1));
  return NULL;
}

static void
read_chunks (int fd, GByteArray *in, Answer *answer)
{
  for (;;)
    {
      g_autofree char *size = line (fd, in, answer);
      g_autofree char *end = NULL;
      gsize count;
      if (size == NULL)
        return;
      count = (gsize) g_ascii_strtoull (size, NULL, 16);
      if (count > 0 && !want (fd, in, count, answer))
        return;
      g_byte_array_append (answer->body, in->data, (guint) count);
      if (count > 0)
        g_byte_array_remove_range (in, 0, (guint) count);
      end = line (fd, in, answer);
      if (end == NULL)
        return;
      if (count == 0)
        {
          answer->whole = TRUE;
          return;
        }
    }
}

Answer *
client_read (int fd)
{
  Answer *answer = g_new0 (Answer, 1);
  g_autoptr (GByteArray) in = g_byte_array_new ();
  g_autoptr (GString) header = g_string_new (NULL);
  g_autofree char *length = NULL;
  g_autofree char *encoding = NULL;
  char *text;
  answer->body = g_byte_array_new ();
  while ((text = line (fd, in, answer)) != NULL && text[0] != '\0')
    {
      g_string_append (header, text);
      g_string_append (header, "\r\n");
      g_free (text);
    }
  answer->header = g_strdup (header->str);
  if (text == NULL)
    return answer;
  g_free (text);
  answer->status = (guint) g_ascii_strtoull (header->str + MIN (header->len, 9), NULL, 10);
  if (answer->status == 100)
    {
      answer->whole = TRUE;
      return answer;
    }
  length = answer_header (answer, "Content-Length");
  encoding = answer_header (answer, "Transfer-Encoding");
  if (encoding != NULL)
    read_chunks (fd, in, answer);
  else if (length != NULL)
    {
      gsize count = (gsize) g_ascii_strtoull (length, NULL, 10);
      answer->whole = want (fd, in, count, answer);
      g_byte_array_append (answer->body, in->data, (guint) MIN (count, in->len));
    }
  else
    {
      while (want (fd, in, in->len + 1, answer))
        ;
      g_byte_array_append (answer->body, in->data, in->len);
      answer->whole = answer->closed;
    }
  return answer;
}

Answer *
client_ask (guint16 port, const char *text)
{
  int fd = client_connect (port);
  Answer *answer;
  client_send (fd, text);
  answer = client_read (fd);
  close (fd);
  return answer;
}

void
answer_free (Answer *answer)
{
  g_free (answer->header);
  g_byte_array_unref (answer->body);
  g_free (answer);
}

const char *
answer_text (const Answer *answer)
{
  static const guint8 nul = 0;
  g_byte_array_append (answer->body, &nul, 1);
  g_byte_array_set_size (answer->body, answer->body->len - 1);
  return (const char *) answer->body->data;
}

gboolean
client_sees_close (int fd)
{
  struct pollfd wait = { .fd = fd, .events = POLLIN };
  char c;
  return poll (&wait, 1, PATIENCE_MS) > 0 && recv (fd, &c, 1, 0) <= 0;
}
