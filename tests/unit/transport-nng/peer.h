/* SPDX-License-Identifier: Apache-2.0 */
/**
 * peer.h - clients for tests: stock nng's REQ socket, and a bare socket that can misbehave.
 */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include <gitstead/types.h>
#include <nng/nng.h>
#include <wire/frame.h>
#include <wire/wire.h>

#include "gitstead/v1/envelope.pb-c.h"

typedef struct
{
  guint32 status;
  guint8 flags;
  Gitstead__V1__ReplyHeader *header;
  guint8 *payload;
  gsize payload_len;
} Reply;

void reply_clear (Reply *reply);
/** Reads an envelope. FALSE when it is none. */
gboolean reply_parse (const guint8 *bytes, gsize len, Reply *ret_reply);
/** An envelope of a request. @header NULL = only a call id, @call_id. *full*. */
GByteArray *request_build (guint32 method, const GsTxId *call_id, Gitstead__V1__RequestHeader *header,
                           const void *payload, gsize len);
/** Random. */
void random_id (GsTxId *ret_id);

/* -------------------------------------------------------------------------------------- stock REQ */

typedef struct
{
  nng_socket socket;
  GsTxId last_id;
} Req;

/** Dies when it cannot connect. */
Req *req_new (const char *url);
void req_free (Req *req);
/** One call; FALSE when no reply came within 10 s. Clear @ret_reply. */
gboolean req_call (Req *req, guint32 method, const void *payload, gsize len, Reply *ret_reply);
/** The same with a ready envelope. */
gboolean req_send (Req *req, GByteArray *envelope, Reply *ret_reply);

/* ------------------------------------------------------------------------------------- bare socket */

/** Connects to a tcp or ipc URL. */
int bare_connect (const char *url);
/** The same, with both SP headers exchanged. */
int bare_greet (const char *url);
/** Does anybody listen there? */
gboolean bare_reachable (const char *url);
gboolean bare_write (int fd, const void *bytes, gsize len);
/** Exactly @len bytes within 10 s. */
gboolean bare_read (int fd, void *buffer, gsize len);
/** TRUE when the server closed the connection within @ms, whatever it sent before. */
gboolean bare_closed (int fd, int ms);
/** Frames @envelope as SP does and writes it. */
gboolean bare_send (int fd, gboolean ipc, guint32 id, const GByteArray *envelope);
/** Reads one SP message. */
gboolean bare_receive (int fd, gboolean ipc, guint32 *ret_id, Reply *ret_reply);

#endif
