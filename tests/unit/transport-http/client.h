/* SPDX-License-Identifier: Apache-2.0 */
/**
 * client.h - an HTTP client that can be as wrong as a test wants: raw bytes out, parsed answers in.
 */
#ifndef TESTS_HTTP_CLIENT_H
#define TESTS_HTTP_CLIENT_H

#include <glib.h>

/** An answer. @status 0: the connection ended (or 20 s passed) before a whole header came. */
typedef struct
{
  guint status;
  char *header; /* all of it, lines ended by CRLF */
  GByteArray *body;
  gboolean whole;  /* the body came to the end that its framing says */
  gboolean closed; /* the server closed the connection */
  gboolean timed_out;
} Answer;

int client_connect (guint16 port);
/** Sends everything; FALSE when the server closed before. */
gboolean client_send (int fd, const char *text);
gboolean client_send_bytes (int fd, const void *data, gsize length);
/** Reads one answer. With @discard the body is counted in body->len no further than 64 KiB. */
Answer *client_read (int fd);
/** Connect, send, read one answer, close. */
Answer *client_ask (guint16 port, const char *text);
void answer_free (Answer *answer);
/** Value of a header of @answer, *full*; NULL when absent. */
char *answer_header (const Answer *answer, const char *name);
/** The body as text, borrowed. */
const char *answer_text (const Answer *answer);
/** TRUE when the server closes within 20 s without sending anything more. */
gboolean client_sees_close (int fd);

G_DEFINE_AUTOPTR_CLEANUP_FUNC (Answer, answer_free)

#endif
