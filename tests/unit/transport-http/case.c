/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of transport/http: see case.h. */
#include "case.h"

static guint fds_before;

int
set_up (void **state)
{
  fds_before = count_fds ();
  *state = served_new ("http://127.0.0.1:0", "idle_timeout", "30s", NULL);
  return 0;
}

int
set_up_small (void **state)
{
  fds_before = count_fds ();
  *state = served_new ("http://127.0.0.1:0", "idle_timeout", "1s", "max_body", "200000", "max_inflate", "100000",
                       "json_body_max", "2000", "max_connections", "8", "threads", "1", NULL);
  return 0;
}

int
tear_down (void **state)
{
  served_free (*state);
  /* Not one descriptor may be left: sockets, pipes, epoll sets. */
  return count_fds () == fds_before ? 0 : -1;
}

guint16
port_of (void **state)
{
  return ((Served *) *state)->port;
}

Answer *
ask (void **state, const char *format, ...)
{
  va_list args;
  g_autofree char *text = NULL;
  va_start (args, format);
  text = g_strdup_vprintf (format, args);
  va_end (args);
  return client_ask (port_of (state), text);
}

Answer *
post (void **state, const char *path, const char *extra, const char *body)
{
  return ask (state, "POST /%s HTTP/1.1\r\n" HOST UPLOAD "%sContent-Length: %u\r\n\r\n%s", path, extra,
              (guint) strlen (body), body);
}

void
expect (Answer *answer, guint status, const char *text)
{
  if (answer->status != status || (text != NULL && strstr (answer_text (answer), text) == NULL))
    fail_msg ("wanted %u '%s', got %u '%s'", status, text != NULL ? text : "", answer->status, answer_text (answer));
  assert_true (answer->whole);
  answer_free (answer);
}

void
expect_header (const Answer *answer, const char *name, const char *value)
{
  g_autofree char *got = answer_header (answer, name);
  if (g_strcmp0 (got, value) != 0)
    fail_msg ("%s: wanted '%s', got '%s'", name, value, got != NULL ? got : "nothing");
}
