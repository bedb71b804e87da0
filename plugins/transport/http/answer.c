/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - what goes back: a piece of memory, a host's pipe as it fills, or a failure in words. */
#include "http.h"

#include <errno.h>
#include <unistd.h>

#define SLURP_CHUNK ((gsize) 16 * 1024)
#define BLOCK_SIZE ((gsize) 64 * 1024)

static gboolean
is_git (const HttpRequest *request)
{
  return request->route.kind == ROUTE_INFO_REFS || request->route.kind == ROUTE_UPLOAD_PACK
         || request->route.kind == ROUTE_RECEIVE_PACK;
}

static const char *
result_type (const HttpRequest *request)
{
  switch (request->route.kind)
    {
    case ROUTE_INFO_REFS:
      return request->route.service == SERVICE_UPLOAD_PACK ? "application/x-git-upload-pack-advertisement"
                                                           : "application/x-git-receive-pack-advertisement";
    case ROUTE_UPLOAD_PACK:
      return "application/x-git-upload-pack-result";
    case ROUTE_RECEIVE_PACK:
      return "application/x-git-receive-pack-result";
    default:
      return "application/json";
    }
}

/* --------------------------------------------------------------------------------------- queueing */

static void
add_header (struct MHD_Response *response, const char *name, const char *value)
{
  /* It can only fail for want of memory, or for a value with a line break, which ours don't have. */
  (void) MHD_add_response_header (response, name, value);
}

/* What a caller shows with its next read, so that it finds its write. An answer that began before its call ended has none. */
static void
add_generation (HttpRequest *request, struct MHD_Response *response)
{
  char text[24];
  guint64 generation;
  gs_mutex_lock (&request->lock);
  generation = request->done ? request->generation : 0;
  gs_mutex_unlock (&request->lock);
  if (generation == 0)
    return;
  g_snprintf (text, sizeof text, "%" G_GUINT64_FORMAT, generation);
  add_header (response, "X-Gitstead-Generation", text);
}

/* Takes @response. The same for every answer: caching, closing, remembering the status. */
static enum MHD_Result
queue (HttpRequest *request, guint status, const char *type, struct MHD_Response *response)
{
  enum MHD_Result result;
  if (response == NULL)
    return MHD_NO;
  if (request->phase == PHASE_NEW || request->phase == PHASE_ASK)
    request->linger = request->guard.has_body;
  add_header (response, "Content-Type", type);
  if (is_git (request))
    {
      add_header (response, "Expires", "Fri, 01 Jan 1980 00:00:00 GMT");
      add_header (response, "Pragma", "no-cache");
      add_header (response, "Cache-Control", "no-cache, max-age=0, must-revalidate");
    }
  else
    {
      add_header (response, "Cache-Control", "no-store");
      add_header (response, "X-Content-Type-Options", "nosniff");
    }
  if (__atomic_load_n (&request->server->draining, __ATOMIC_ACQUIRE))
    add_header (response, "Connection", "close");
  add_generation (request, response);
  request->phase = PHASE_ANSWERED;
  request->status = status;
  result = MHD_queue_response (request->connection, status, response);
  MHD_destroy_response (response);
  return result;
}

static void
free_bytes (void *bytes)
{
  g_bytes_unref (bytes);
}

enum MHD_Result
http_answer_bytes (HttpRequest *request, guint status, const char *type, GBytes *body)
{
  gsize length = 0;
  void *data = (void *) g_bytes_get_data (body, &length);
  struct MHD_Response *response
      = MHD_create_response_from_buffer_with_free_callback_cls (length, data, free_bytes, body);
  if (response == NULL)
    {
      g_bytes_unref (body);
      return MHD_NO;
    }
  if (strcmp (request->method, "HEAD") != 0)
    request->bytes_out = length;
  return queue (request, status, type, response);
}

static const char *
allowed (const HttpRequest *request)
{
  if (request->route.kind == ROUTE_INFO_REFS)
    return "GET";
  if (is_git (request) || request->route.kind == ROUTE_API)
    return "POST";
  return "GET, HEAD";
}

static enum MHD_Result
answer_failure (HttpRequest *request, guint status, GsErrorCode code, GsRetry retry, gint64 retry_after_us,
                const char *message, GBytes *details)
{
  gboolean json = request->route.kind == ROUTE_API;
  const char *hint = http_hint_of (status);
  g_autofree char *challenge = NULL;
  g_autofree char *seconds = NULL;
  struct MHD_Response *response;
  GBytes *body;
  gsize length = 0;
  void *data;

  if (json)
    body = http_error_json (code, retry, retry_after_us, message, details);
  else
    {
      char *text = g_strdup_printf ("%s\n%s%s", message, hint != NULL ? hint : "", hint != NULL ? "\n" : "");
      body = g_bytes_new_take (text, strlen (text));
    }
  data = (void *) g_bytes_get_data (body, &length);
  response = MHD_create_response_from_buffer_with_free_callback_cls (length, data, free_bytes, body);
  if (response == NULL)
    {
      g_bytes_unref (body);
      return MHD_NO;
    }
  if (status == 401)
    {
      challenge = g_strdup_printf ("Basic realm=\"%s\", charset=\"UTF-8\"", request->server->options.realm);
      add_header (response, "WWW-Authenticate", challenge);
    }
  if (status == 405)
    add_header (response, "Allow", allowed (request));
  if (status == 503 || status == 429)
    {
      seconds = g_strdup_printf ("%" G_GINT64_FORMAT,
                                 CLAMP ((retry_after_us + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC, 1, 3600));
      add_header (response, "Retry-After", seconds);
    }
  /* After a request whose framing is in doubt, nothing else on this connection can be trusted. */
  if (status == 400 || status == 413 || status == 417 || status == 501)
    add_header (response, "Connection", "close");
  request->bytes_out = length;
  return queue (request, status, json ? "application/json" : "text/plain; charset=utf-8", response);
}

enum MHD_Result
http_answer_error (HttpRequest *request, guint status, const char *message)
{
  GsErrorCode code = http_code_of (status);
  return answer_failure (request, status, code, gs_error_retry (code), 0, message, NULL);
}

/* --------------------------------------------------------------------------------- the host's output */

/* Reads up to @room bytes of output. 0: the end (then output_eof is set); -1: nothing now. */
static gssize
read_output (HttpRequest *request, void *room, gsize length)
{
  gboolean done;
  gssize n = -1;
  int closing = -1;
  gs_mutex_lock (&request->lock);
  done = request->done;
  if (request->output_eof)
    n = 0;
  else if (request->output >= 0)
    {
      do
        n = read (request->output, room, length);
      while (n < 0 && errno == EINTR);
      /* Whatever the call wrote is in the pipe when it is done; a grandchild may hold the other end for ever. */
      if (n < 0 && (done || errno != EAGAIN))
        n = 0;
    }
  else if (done)
    n = 0;
  if (n == 0 && !request->output_eof)
    {
      request->output_eof = TRUE;
      closing = request->output;
      request->output = -1;
    }
  gs_mutex_unlock (&request->lock);
  if (closing >= 0)
    close (closing);
  return n;
}

static void
slurp (HttpRequest *request, gsize limit)
{
  GByteArray *early = request->early;
  for (;;)
    {
      guint before = early->len;
      gssize n;
      if (before >= limit)
        return;
      g_byte_array_set_size (early, before + (guint) SLURP_CHUNK);
      n = read_output (request, early->data + before, SLURP_CHUNK);
      g_byte_array_set_size (early, before + (guint) MAX (n, 0));
      if (n <= 0)
        return;
    }
}

void
http_answer_slurp (HttpRequest *request, gsize limit)
{
  gboolean opened;
  gs_mutex_lock (&request->lock);
  opened = request->output >= 0;
  gs_mutex_unlock (&request->lock);
  if (request->early == NULL)
    request->early = g_byte_array_new ();
  if (opened)
    slurp (request, limit);
}

static gssize
take_early (HttpRequest *request, char *room, gsize length)
{
  gsize n = MIN (length, request->early->len - request->early_at);
  memcpy (room, request->early->data + request->early_at, n);
  request->early_at += n;
  if (request->early_at == request->early->len)
    {
      request->early_at = 0;
      g_byte_array_set_size (request->early, 0);
    }
  return (gssize) n;
}

/* The library's worker wants more of the answer. */
static ssize_t
read_answer (void *user, uint64_t position, char *room, size_t length)
{
  HttpRequest *request = user;
  ssize_t result = 0;
  gssize n;
  if (request->early->len > 0)
    n = take_early (request, room, length);
  else
    n = read_output (request, room, length);
  if (n > 0)
    {
      request->bytes_out += (guint64) n;
      return n;
    }
  gs_mutex_lock (&request->lock);
  if (request->gone || request->expired || request->local_status != 0)
    result = MHD_CONTENT_READER_END_WITH_ERROR;
  else if (n == 0 && request->done)
    result = request->code == GS_OK ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
  else if (!http_request_suspend_locked (request, n < 0 ? 1u << WATCH_OUTPUT : 0))
    result = MHD_CONTENT_READER_END_WITH_ERROR;
  gs_mutex_unlock (&request->lock);
  return result;
}

static void
free_answer (void *user)
{
  http_request_unref (user);
}

/* As git http-backend does: before an advertisement of protocol v0 or v1 stands the service, v2 has none. */
static void
add_service_line (HttpRequest *request)
{
  const char *service = request->route.service == SERVICE_UPLOAD_PACK ? "git-upload-pack" : "git-receive-pack";
  g_autofree char *line = NULL;
  if (request->route.kind != ROUTE_INFO_REFS || route_protocol_version (request->guard.git_protocol) == 2)
    return;
  line = g_strdup_printf ("%04x# service=%s\n0000", (guint) (strlen ("0000# service=\n") + strlen (service)), service);
  g_byte_array_prepend (request->early, (const guint8 *) line, (guint) strlen (line));
}

static enum MHD_Result
answer_stream (HttpRequest *request)
{
  struct MHD_Response *response;
  add_service_line (request);
  response = MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, BLOCK_SIZE, read_answer, http_request_ref (request),
                                                free_answer);
  if (response == NULL)
    {
      http_request_unref (request);
      return MHD_NO;
    }
  return queue (request, 200, result_type (request), response);
}

/* The call succeeded and all of its output is here. */
static enum MHD_Result
answer_whole (HttpRequest *request)
{
  GBytes *body;
  if (request->route.kind == ROUTE_API)
    body = request->payload != NULL ? g_bytes_ref (request->payload) : g_bytes_new_static ("{}", 2);
  else
    {
      add_service_line (request);
      if (request->whole != NULL && request->early->len > 0)
        {
          gsize length = 0;
          const guint8 *data = g_bytes_get_data (request->whole, &length);
          g_byte_array_append (request->early, data, (guint) length);
        }
      body = request->whole != NULL && request->early->len == 0
                 ? g_bytes_ref (request->whole)
                 : g_byte_array_free_to_bytes (g_steal_pointer (&request->early));
    }
  return http_answer_bytes (request, 200, result_type (request), body);
}

static enum MHD_Result
answer_outcome (HttpRequest *request)
{
  if (request->code == GS_OK)
    return answer_whole (request);
  return answer_failure (request, http_status_of (request->code, request->anonymous), request->code, request->retry,
                         request->retry_after_us,
                         request->message != NULL ? request->message : gs_error_name (request->code), request->details);
}

/* With the lock held; lets go of it. */
static enum MHD_Result
wait_unlock (HttpRequest *request, guint watch)
{
  gboolean waits = http_request_suspend_locked (request, watch);
  gs_mutex_unlock (&request->lock);
  return waits ? MHD_YES : MHD_NO;
}

/* Its call was told to end because its time was up: that is the reason to name, not the cancelling. */
static gboolean
out_of_time_locked (HttpRequest *request)
{
  const GsHost *host = request->server->host;
  if (!request->done)
    return request->expired;
  return request->code == GS_ERROR_CANCELLED && host->now_us (host) >= request->deadline_us;
}

enum MHD_Result
http_answer_call (HttpRequest *request)
{
  gboolean done, open;
  guint local;

  if (request->phase != PHASE_ASK)
    request->phase = PHASE_RESULT;
  for (;;)
    {
      http_answer_slurp (request, HTTP_HEAD_MAX);
      gs_mutex_lock (&request->lock);
      if (request->local_status == 0 && out_of_time_locked (request))
        {
          request->local_status = 504;
          request->local_message = g_strdup ("the server did not answer within the request's time");
        }
      local = request->local_status;
      done = request->done;
      open = request->output >= 0;
      if (local == 0 && !done && request->early->len == 0)
        return wait_unlock (request, open ? 1u << WATCH_OUTPUT : 0);
      gs_mutex_unlock (&request->lock);
      if (local != 0)
        return http_answer_error (request, local, request->local_message);
      /* From the first byte of output on it is an answer of 200, whose end tells how the call ended. */
      if (request->early->len > 0 && (!done || open || request->code != GS_OK))
        return answer_stream (request);
      if (!open)
        return answer_outcome (request);
      /* The call ended between the look at its output and the look at its end: look again. */
    }
}
