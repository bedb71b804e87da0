/* SPDX-License-Identifier: Apache-2.0 */
/* See peer.h. */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 10000

void
reply_clear (Reply *reply)
{
  if (reply->header != NULL)
    gitstead__v1__reply_header__free_unpacked (reply->header, NULL);
  g_free (reply->payload);
  memset (reply, 0, sizeof *reply);
}

gboolean
reply_parse (const guint8 *bytes, gsize len, Reply *ret_reply)
{
  GsFrame frame;
  memset (ret_reply, 0, sizeof *ret_reply);
  if (!gs_frame_parse (bytes, len, &frame, NULL))
    return FALSE;
  ret_reply->status = frame.code;
  ret_reply->flags = frame.flags;
  ret_reply->header = gitstead__v1__reply_header__unpack (NULL, frame.header_len, frame.header);
  ret_reply->payload = g_memdup2 (frame.payload, frame.payload_len);
  ret_reply->payload_len = frame.payload_len;
  return ret_reply->header != NULL;
}

void
random_id (GsTxId *ret_id)
{
  if (getrandom (ret_id->bytes, sizeof ret_id->bytes, 0) != sizeof ret_id->bytes)
    g_error ("getrandom");
}

GByteArray *
request_build (guint32 method, const GsTxId *call_id, Gitstead__V1__RequestHeader *header, const void *payload,
               gsize len)
{
  Gitstead__V1__RequestHeader plain = GITSTEAD__V1__REQUEST_HEADER__INIT;
  GByteArray *envelope = g_byte_array_new ();
  gsize header_len;
  if (header == NULL)
    header = &plain;
  header->call_id.data = (guint8 *) call_id->bytes;
  header->call_id.len = GS_TXID_SIZE;
  header_len = gitstead__v1__request_header__get_packed_size (header);
  g_byte_array_set_size (envelope, (guint) (GS_FRAME_PREFIX_SIZE + header_len));
  gs_frame_prefix_write (envelope->data, 0, method, (guint32) header_len, (guint32) len);
  gitstead__v1__request_header__pack (header, envelope->data + GS_FRAME_PREFIX_SIZE);
  g_byte_array_append (envelope, payload, (guint) len);
  return envelope;
}

/* -------------------------------------------------------------------------------------- stock REQ */

Req *
req_new (const char *url)
{
  Req *req = g_new0 (Req, 1);
  int rv = nng_req0_open (&req->socket);
  if (rv == 0)
    rv = nng_socket_set_ms (req->socket, NNG_OPT_RECVTIMEO, PATIENCE_MS);
  if (rv == 0)
    rv = nng_socket_set_ms (req->socket, NNG_OPT_SENDTIMEO, PATIENCE_MS);
  if (rv == 0)
    rv = nng_dial (req->socket, url, NULL, 0);
  if (rv != 0)
    g_error ("nng REQ to %s: %s", url, nng_strerror (rv));
  return req;
}

void
req_free (Req *req)
{
  nng_close (req->socket);
  g_free (req);
}

gboolean
req_send (Req *req, GByteArray *envelope, Reply *ret_reply)
{
  nng_msg *msg = NULL;
  gboolean good;
  if (nng_msg_alloc (&msg, 0) != 0 || nng_msg_append (msg, envelope->data, envelope->len) != 0
      || nng_sendmsg (req->socket, msg, 0) != 0)
    g_error ("nng REQ cannot send");
  if (nng_recvmsg (req->socket, &msg, 0) != 0)
    return FALSE;
  good = reply_parse (nng_msg_body (msg), nng_msg_len (msg), ret_reply);
  nng_msg_free (msg);
  return good;
}

gboolean
req_call (Req *req, guint32 method, const void *payload, gsize len, Reply *ret_reply)
{
  random_id (&req->last_id);
  g_autoptr (GByteArray) envelope = request_build (method, &req->last_id, NULL, payload, len);
  return req_send (req, envelope, ret_reply);
}

/* ------------------------------------------------------------------------------------- bare socket */

/* -1 with errno. */
static int
try_connect (const char *url)
{
  int fd, rv;
  if (g_str_has_prefix (url, "ipc://"))
    {
      struct sockaddr_un address = { .sun_family = AF_UNIX };
      g_strlcpy (address.sun_path, url + strlen ("ipc://"), sizeof address.sun_path);
      fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      rv = connect (fd, (struct sockaddr *) &address, sizeof address);
    }
  else
    {
      struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = g_htonl (INADDR_LOOPBACK) };
      address.sin_port = g_htons ((guint16) atoi (strrchr (url, ':') + 1));
      fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      rv = connect (fd, (struct sockaddr *) &address, sizeof address);
    }
  if (rv == 0)
    return fd;
  close (fd);
  return -1;
}

int
bare_connect (const char *url)
{
  int fd = try_connect (url);
  if (fd < 0)
    g_error ("connect to %s: %s", url, g_strerror (errno));
  return fd;
}

gboolean
bare_reachable (const char *url)
{
  int fd = try_connect (url);
  if (fd >= 0)
    close (fd);
  return fd >= 0;
}

gboolean
bare_write (int fd, const void *bytes, gsize len)
{
  const guint8 *at = bytes;
  while (len > 0)
    {
      ssize_t n = send (fd, at, len, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return FALSE;
      at += n;
      len -= (gsize) n;
    }
  return TRUE;
}

gboolean
bare_read (int fd, void *buffer, gsize len)
{
  guint8 *at = buffer;
  while (len > 0)
    {
      struct pollfd ready = { .fd = fd, .events = POLLIN };
      ssize_t n;
      if (poll (&ready, 1, PATIENCE_MS) != 1)
        return FALSE;
      n = recv (fd, at, len, 0);
      if (n <= 0)
        return FALSE;
      at += n;
      len -= (gsize) n;
    }
  return TRUE;
}

gboolean
bare_closed (int fd, int ms)
{
  gint64 until = g_get_monotonic_time () + ms * G_GINT64_CONSTANT (1000);
  guint8 buffer[4096];
  for (;;)
    {
      gint64 left = (until - g_get_monotonic_time ()) / 1000;
      struct pollfd ready = { .fd = fd, .events = POLLIN };
      if (left < 0 || poll (&ready, 1, (int) left) != 1)
        return FALSE;
      if (recv (fd, buffer, sizeof buffer, 0) <= 0)
        return TRUE;
    }
}

int
bare_greet (const char *url)
{
  guint8 header[GS_SP_HEADER_SIZE];
  int fd = bare_connect (url);
  gs_sp_header_write (header, GS_SP_REQ);
  if (!bare_write (fd, header, sizeof header) || !bare_read (fd, header, sizeof header)
      || !gs_sp_header_check (header, GS_SP_REP))
    g_error ("no SP header from %s", url);
  return fd;
}

gboolean
bare_send (int fd, gboolean ipc, guint32 id, const GByteArray *envelope)
{
  g_autoptr (GByteArray) message = g_byte_array_new ();
  guint8 head[GS_SP_LENGTH_SIZE + 4], type = GS_SP_IPC_MESSAGE;
  gs_put_u64 (head, 4 + envelope->len);
  gs_put_u32 (head + GS_SP_LENGTH_SIZE, id | GS_SP_REQUEST_ID);
  if (ipc)
    g_byte_array_append (message, &type, 1);
  g_byte_array_append (message, head, sizeof head);
  g_byte_array_append (message, envelope->data, envelope->len);
  return bare_write (fd, message->data, message->len);
}

gboolean
bare_receive (int fd, gboolean ipc, guint32 *ret_id, Reply *ret_reply)
{
  guint8 head[1 + GS_SP_LENGTH_SIZE], *length = head + (ipc ? 1 : 0);
  g_autofree guint8 *body = NULL;
  gsize len;
  if (!bare_read (fd, head, GS_SP_LENGTH_SIZE + (ipc ? 1 : 0)))
    return FALSE;
  len = (gsize) gs_get_u64 (length);
  if (len < 4 || len > 64 * 1024 * 1024)
    return FALSE;
  body = g_malloc (len);
  if (!bare_read (fd, body, len))
    return FALSE;
  *ret_id = gs_get_u32 (body) & ~GS_SP_REQUEST_ID;
  return reply_parse (body + 4, len - 4, ret_reply);
}
