/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, replies out: the envelope, and what lies between a connection and the host. */
#include "nt.h"

#define HEADER_ARENA (64 * 1024)
#define MESSAGE_MAX 4096 /* of an error for people, on the wire */

NtCall *
nt_call_ref (NtCall *call)
{
  __atomic_add_fetch (&call->refs, 1, __ATOMIC_RELAXED);
  return call;
}

void
nt_call_unref (NtCall *call)
{
  if (__atomic_sub_fetch (&call->refs, 1, __ATOMIC_ACQ_REL) != 0)
    return;
  if (call->conn != NULL)
    nt_conn_unref (call->conn);
  gs_cond_clear (&call->known);
  gs_mutex_clear (&call->lock);
  g_free (call);
}

/* --------------------------------------------------------------------------------------- replies */

void
nt_reply_header (Nt *nt, Gitstead__V1__ReplyHeader *ret_header, const GsTxId *call_id, const char *message,
                 GsRetry retry, gint64 retry_after_us)
{
  gitstead__v1__reply_header__init (ret_header);
  ret_header->call_id.data = (guint8 *) call_id->bytes;
  ret_header->call_id.len = sizeof call_id->bytes;
  ret_header->server_epoch = nt->epoch;
  ret_header->retry = (Gitstead__V1__Retry) retry;
  ret_header->retry_after_ms = (guint32) CLAMP ((retry_after_us + 999) / 1000, 0, G_MAXINT32);
  if (message != NULL)
    ret_header->message = (char *) message;
}

/* Valid UTF-8 of a size that fits. NULL for NULL. *full* */
static char *
presentable (const char *message)
{
  g_autofree char *cut = message != NULL ? g_strndup (message, MESSAGE_MAX) : NULL;
  return cut != NULL ? g_utf8_make_valid (cut, -1) : NULL;
}

static GBytes *
build_reply (NtConn *conn, const guint8 *trace, gsize trace_len, guint32 status,
             const Gitstead__V1__ReplyHeader *header, GBytes *payload)
{
  gsize header_len = gitstead__v1__reply_header__get_packed_size (header), payload_len = 0;
  const guint8 *bytes = payload != NULL ? g_bytes_get_data (payload, &payload_len) : NULL;
  gsize type = conn->peer.scheme == NT_IPC ? 1 : 0;
  gsize body = trace_len + GS_FRAME_PREFIX_SIZE + header_len + payload_len;
  guint8 *message = g_malloc (type + GS_SP_LENGTH_SIZE + body), *at = message;
  if (type == 1)
    *at++ = GS_SP_IPC_MESSAGE;
  gs_put_u64 (at, body);
  at += GS_SP_LENGTH_SIZE;
  memcpy (at, trace, trace_len);
  at += trace_len;
  gs_frame_prefix_write (at, (guint8) (GS_FRAME_REPLY | (status != GS_OK ? GS_FRAME_ERROR : 0)), status,
                         (guint32) header_len, (guint32) payload_len);
  at += GS_FRAME_PREFIX_SIZE;
  gitstead__v1__reply_header__pack (header, at);
  at += header_len;
  if (payload_len > 0)
    memcpy (at, bytes, payload_len);
  return g_bytes_new_take (message, type + GS_SP_LENGTH_SIZE + body);
}

Gitstead__V1__ErrorDetails *
nt_details (GsArena **ret_arena, GBytes *details)
{
  gsize len;
  const guint8 *data;
  if (details == NULL)
    return NULL;
  data = g_bytes_get_data (details, &len);
  *ret_arena = gs_arena_new (HEADER_ARENA);
  return len <= GS_ERROR_DETAILS_MAX
             ? (gpointer) gs_wire_decode (*ret_arena, &gitstead__v1__error_details__descriptor, data, len, NULL)
             : NULL;
}

static void
reply_written (NtConn *conn, const guint8 *trace, gsize trace_len, const GsTxId *call_id, guint32 status,
               const char *message, GsRetry retry, gint64 retry_after_us, GBytes *payload, guint64 generation,
               GBytes *details, gboolean close_after)
{
  g_autofree char *text = presentable (message);
  g_autoptr (GsArena) arena = NULL;
  Gitstead__V1__ReplyHeader header;
  gsize room = conn->nt->limits.max_message - MIN (conn->nt->limits.max_message, GS_FRAME_PREFIX_SIZE + 256);
  if (payload != NULL && status == GS_OK && g_bytes_get_size (payload) > room)
    {
      g_free (text);
      text = g_strdup_printf ("the reply has %" G_GSIZE_FORMAT " bytes, more than one message may have (%" G_GSIZE_FORMAT
                              "); ask for less at once",
                              g_bytes_get_size (payload), room);
      status = GS_ERROR_OUT_OF_RANGE;
      retry = GS_RETRY_NEVER;
      retry_after_us = 0;
    }
  nt_reply_header (conn->nt, &header, call_id, text, retry, retry_after_us);
  header.generation = generation;
  header.details = nt_details (&arena, details);
  nt_conn_send (conn, build_reply (conn, trace, trace_len, status, &header, status == GS_OK ? payload : NULL),
                close_after);
}

void
nt_reply (NtConn *conn, const guint8 *trace, gsize trace_len, const GsTxId *call_id, guint32 status,
          const char *message, GsRetry retry, gint64 retry_after_us, GBytes *payload, gboolean close_after)
{
  reply_written (conn, trace, trace_len, call_id, status, message, retry, retry_after_us, payload, 0, NULL,
                 close_after);
}

static guint64
generation_of (const GsOutcome *outcome)
{
  return GS_HAS (outcome, outcome->size, GsOutcome, generation) ? outcome->generation : 0;
}

static void
reply_error (NtConn *conn, const guint8 *trace, gsize trace_len, const GsTxId *call_id, const GError *error,
             gboolean close_after)
{
  int code = gs_error_code (error);
  nt_reply (conn, trace, trace_len, call_id, (guint32) code, error->message, gs_error_retry (code), 0, NULL, close_after);
}

/* ----------------------------------------------------------------------------------------- calls */

void
nt_call_detach (NtCall *call)
{
  NtConn *conn = g_steal_pointer (&call->conn);
  if (conn == NULL)
    return;
  gs_mutex_lock (&conn->lock);
  g_queue_unlink (&conn->calls, &call->link);
  gs_mutex_unlock (&conn->lock);
  nt_conn_unref (conn);
}

static void
on_done (void *user, const GsOutcome *outcome)
{
  NtCall *call = user;
  Nt *nt = call->nt;
  NtStream *stream = call->stream;

  /* A nonce counts once its signature was found to be right: else strangers could fill the table. */
  if (call->has_nonce
      && (outcome->code == GS_ERROR_UNAUTHENTICATED
          || (GS_HAS (outcome, outcome->size, GsOutcome, unproven) && outcome->unproven)))
    nt_nonces_remove (nt->nonces, call->nonce);
  if (!(GS_HAS (outcome, outcome->size, GsOutcome, unproven) && outcome->unproven) && call->conn != NULL)
    __atomic_store_n (&call->conn->proven, TRUE, __ATOMIC_RELAXED);
  if (stream == NULL || !nt_stream_done (stream, outcome))
    reply_written (call->conn, call->trace, call->trace_len, &call->call_id, outcome->code, outcome->message,
                   outcome->retry, outcome->retry_after_us, outcome->payload, generation_of (outcome),
                   GS_HAS (outcome, outcome->size, GsOutcome, details) ? outcome->details : NULL, FALSE);
  nt_call_detach (call);
  gs_mutex_lock (&nt->lock);
  nt->n_calls--;
  gs_cond_broadcast (&nt->changed);
  gs_mutex_unlock (&nt->lock);
  if (stream != NULL)
    nt_stream_unref (stream);
  nt_call_unref (call);
}

void
nt_call_cancel (NtCall *call)
{
  GsCallHandle handle;
  gs_mutex_lock (&call->lock);
  handle = call->handle;
  call->cancelled = TRUE;
  gs_mutex_unlock (&call->lock);
  if (handle != 0)
    call->nt->host->call_cancel (call->nt->host, handle);
}

void
nt_call_cancel_now (NtCall *call)
{
  GsCallHandle handle;
  gs_mutex_lock (&call->lock);
  while (!call->has_handle)
    gs_cond_wait (&call->known, &call->lock);
  handle = call->handle;
  gs_mutex_unlock (&call->lock);
  if (handle != 0)
    call->nt->host->call_cancel (call->nt->host, handle);
}

void
nt_call_ready (NtCall *call)
{
  GsCallHandle handle;
  gs_mutex_lock (&call->lock);
  handle = call->handle;
  call->ready = TRUE;
  gs_mutex_unlock (&call->lock);
  if (handle != 0)
    call->nt->host->call_ready (call->nt->host, handle);
}

/* The handle is known only now; what was asked for in the meantime is done now. */
static void
handle_known (NtCall *call, GsCallHandle handle)
{
  const GsHost *host = call->nt->host;
  gboolean cancel, ready;
  gs_mutex_lock (&call->lock);
  call->handle = handle;
  call->has_handle = TRUE;
  gs_cond_broadcast (&call->known);
  cancel = call->cancelled;
  ready = call->ready;
  gs_mutex_unlock (&call->lock);
  if (ready)
    host->call_ready (host, handle);
  if (cancel)
    host->call_cancel (host, handle);
}

static NtCall *
call_new (NtConn *conn, const guint8 *trace, gsize trace_len, const GsTxId *call_id)
{
  NtCall *call = g_new0 (NtCall, 1);
  call->refs = 2; /* the host's, until done; and the caller's */
  gs_mutex_init (&call->lock);
  gs_cond_init (&call->known);
  call->nt = conn->nt;
  call->conn = nt_conn_ref (conn);
  call->link.data = call;
  memcpy (call->trace, trace, trace_len);
  call->trace_len = trace_len;
  call->call_id = *call_id;
  return call;
}

/* Counts the call, unless the server is going down. */
static gboolean
admit (Nt *nt, const GsMethodInfo *info, GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nt->lock);
  gboolean streaming = info->streams_in || info->streams_out;
  if (__atomic_load_n (&nt->draining, __ATOMIC_ACQUIRE))
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "the server is shutting down; nothing was done");
  if (streaming && nt->n_streams >= nt->limits.max_streams)
    return gs_fail (error, GS_ERROR_BUSY, "%s: %u streams are under way, which is all this server allows at once",
                    info->name, nt->n_streams);
  nt->n_calls++;
  nt->n_streams += streaming ? 1 : 0;
  return TRUE;
}

static void
begin (NtConn *conn, const guint8 *trace, gsize trace_len, const GsFrame *frame, const GsTxId *call_id,
       const Gitstead__V1__RequestHeader *header, NtAuth *auth)
{
  Nt *nt = conn->nt;
  g_autoptr (GError) error = NULL;
  GsMethodInfo info = { .size = sizeof info, .name = "" };
  g_autoptr (GBytes) payload = NULL;
  GsInbound inbound = { .size = sizeof inbound };
  NtCall *call;

  /* The host refuses an unknown number itself, in its own words. */
  if (!nt->host->method (nt->host, frame->code, NULL, &info))
    info.streams_in = info.streams_out = FALSE;
  if (!admit (nt, &info, &error))
    {
      if (auth->has_nonce)
        nt_nonces_remove (nt->nonces, auth->nonce);
      reply_error (conn, trace, trace_len, call_id, error, FALSE);
      return;
    }
  payload = g_bytes_new (frame->payload, frame->payload_len);
  call = call_new (conn, trace, trace_len, call_id);
  call->has_nonce = auth->has_nonce;
  memcpy (call->nonce, auth->nonce, sizeof call->nonce);
  if (info.streams_in || info.streams_out)
    call->stream = nt_stream_new (call, conn->data, &info);
  gs_mutex_lock (&conn->lock);
  g_queue_push_tail_link (&conn->calls, &call->link);
  call->cancelled = conn->closed; /* nobody else looks at it yet */
  gs_mutex_unlock (&conn->lock);

  inbound.method = frame->code;
  inbound.encoding = GS_ENCODING_PROTOBUF;
  inbound.payload = payload;
  inbound.call_id = *call_id;
  inbound.timeout_us = (gint64) header->timeout_ms * 1000;
  inbound.generation = header->generation;
  inbound.credentials = &auth->credentials;
  inbound.peer = conn->peer.text;
  inbound.stream = call->stream != NULL ? &call->stream->base : NULL;
  inbound.done = on_done;
  inbound.user = call;
  handle_known (call, nt->host->call_begin (nt->host, &inbound));
  nt_call_unref (call);
}

/* ------------------------------------------------------------------------------------- envelopes */

static Gitstead__V1__RequestHeader *
decode_header (GsArena *arena, const GsFrame *frame, GsTxId *ret_call_id, GError **error)
{
  Gitstead__V1__RequestHeader *header
      = (gpointer) gs_wire_decode (arena, &gitstead__v1__request_header__descriptor, frame->header, frame->header_len, error);
  if (header == NULL)
    return NULL;
  if (header->call_id.len != 0 && header->call_id.len != GS_TXID_SIZE)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "envelope: a call id of %" G_GSIZE_FORMAT " bytes; it has %d or none",
               header->call_id.len, GS_TXID_SIZE);
      return NULL;
    }
  if (header->call_id.len != 0)
    memcpy (ret_call_id->bytes, header->call_id.data, GS_TXID_SIZE);
  return header;
}

gboolean
nt_request (NtConn *conn, const guint8 *body, gsize len)
{
  gsize trace_len = gs_sp_backtrace (body, len);
  g_autoptr (GsArena) arena = NULL;
  g_autoptr (GError) error = NULL;
  const Gitstead__V1__RequestHeader *header = NULL;
  GsTxId call_id = { 0 };
  GsFrame frame;
  NtAuth auth = { 0 };

  if (trace_len == 0)
    return FALSE; /* no request id to answer to */
  nt_count (conn->nt, conn->nt->requests, 1);
  if (!gs_frame_parse (body + trace_len, len - trace_len, &frame, &error))
    {
      /* Another major: nothing after it would be understood either. */
      nt_count (conn->nt, conn->nt->rejected, 1);
      reply_error (conn, body, trace_len, &call_id, error, error->code == GS_ERROR_UNIMPLEMENTED);
      return TRUE;
    }
  arena = gs_arena_new (HEADER_ARENA);
  if (frame.flags != 0)
    gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "envelope: flags %02x in a request; they belong to replies", frame.flags);
  else
    header = decode_header (arena, &frame, &call_id, &error);
  if (header == NULL || !nt_auth (conn, &frame, header, &call_id, &auth, &error))
    {
      nt_count (conn->nt, conn->nt->rejected, 1);
      reply_error (conn, body, trace_len, &call_id, error, FALSE);
    }
  else
    begin (conn, body, trace_len, &frame, &call_id, header, &auth);
  nt_auth_clear (&auth);
  return TRUE;
}
