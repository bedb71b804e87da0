/* SPDX-License-Identifier: Apache-2.0 */
/* body.c - the request's body on its way to the host: gathered, streamed through a pipe, or thrown away. */
#include "http.h"

#include <errno.h>
#include <unistd.h>

#define INFLATE_CHUNK ((gsize) 64 * 1024)
#define COLLECT_CHUNK ((gsize) 4 * 1024)

static void
fail_from (HttpRequest *request, const GError *error)
{
  guint status = error->code == GS_ERROR_OUT_OF_RANGE ? 413 : http_status_of (error->code, FALSE);
  http_request_fail (request, status, "%s", error->message);
}

/* The rest of the body has no reader: it is read and dropped, within bounds, so that the answer arrives. */
static gboolean
drain (HttpRequest *request, size_t *length)
{
  request->phase = PHASE_DRAIN;
  request->drained += *length;
  *length = 0;
  return request->drained <= HTTP_DRAIN_MAX;
}

/*
 * Writes into the pipe as much as it takes. When it is full (or not opened yet) the request is suspended
 * until there is room, or the call is over; meanwhile output that the host already writes is taken in, for
 * a child that answers while it reads would otherwise stop reading.
 */
static HttpFlow
push (HttpRequest *request, const guint8 *data, gsize length, gsize *ret_used)
{
  gsize used = 0;
  gboolean slurped = FALSE;
  HttpFlow result = FLOW_GO;
  while (used < length)
    {
      ssize_t n = -1;
      gboolean over, full, flooded;
      int err = EAGAIN;
      gs_mutex_lock (&request->lock);
      over = request->done || request->expired || request->local_status != 0;
      if (!over && request->input >= 0)
        {
          n = write (request->input, data + used, length - used);
          err = errno;
        }
      full = !over && n < 0 && err == EAGAIN;
      flooded = full && slurped && request->early->len >= HTTP_EARLY_MAX;
      if (full && slurped && !flooded)
        {
          guint watch = 0;
          if (request->input >= 0)
            watch |= 1u << WATCH_INPUT;
          if (request->output >= 0)
            watch |= 1u << WATCH_OUTPUT;
          result = http_request_suspend_locked (request, watch) ? FLOW_WAIT : FLOW_CUT;
        }
      gs_mutex_unlock (&request->lock);
      if (full && slurped && !flooded)
        break;
      /* Half-duplex: while we wait for its input to be read, it waits for its output to be. */
      if (flooded)
        http_request_fail (request, 500, "the server answered more than it can keep before it had read the request");
      if (full)
        http_answer_slurp (request, HTTP_EARLY_MAX);
      slurped = full;
      if (n > 0)
        used += (gsize) n;
      else if (over || flooded || (!full && err != EINTR))
        {
          /* The call is over, or its reader has enough: nobody wants the rest. */
          request->phase = PHASE_DRAIN;
          used = length;
        }
    }
  *ret_used = used;
  return result;
}

static HttpFlow
push_decoded (HttpRequest *request)
{
  gsize used = 0;
  HttpFlow result = push (request, request->decoded->data + request->decoded_at,
                          request->decoded->len - request->decoded_at, &used);
  request->decoded_at += used;
  if (result == FLOW_GO)
    {
      request->decoded_at = 0;
      g_byte_array_set_size (request->decoded, 0);
    }
  return result;
}

static HttpFlow
stream_gzip (HttpRequest *request, const guint8 **data, size_t *length)
{
  g_autoptr (GError) error = NULL;
  HttpFlow result = push_decoded (request);
  while (result == FLOW_GO && request->phase == PHASE_STREAM)
    {
      gsize written = 0;
      g_byte_array_set_size (request->decoded, (guint) INFLATE_CHUNK);
      if (!decoder_run (&request->decoder, data, length, request->decoded->data, INFLATE_CHUNK, &written, &error))
        {
          g_byte_array_set_size (request->decoded, 0);
          fail_from (request, error);
          request->phase = PHASE_DRAIN;
          return FLOW_GO;
        }
      g_byte_array_set_size (request->decoded, (guint) written);
      result = push_decoded (request);
      if (written < INFLATE_CHUNK)
        break;
    }
  return result;
}

static HttpFlow
stream_plain (HttpRequest *request, const guint8 **data, size_t *length)
{
  g_autoptr (GError) error = NULL;
  gsize used = 0;
  HttpFlow result = push (request, *data, *length, &used);
  *data += used;
  *length -= used;
  if (!decoder_count (&request->decoder, used, &error))
    {
      fail_from (request, error);
      request->phase = PHASE_DRAIN;
    }
  return result;
}

/* Fills the head. When a Git body outgrows it, the call begins and the rest goes the pipe's way. */
static void
collect (HttpRequest *request, const guint8 **data, size_t *length)
{
  g_autoptr (GError) error = NULL;
  GByteArray *head = request->collected;
  for (;;)
    {
      guint before = head->len;
      gsize room = MIN (request->collect_max - before, request->decoder.gzip ? COLLECT_CHUNK : *length), written = 0;
      gboolean fine;
      if (room == 0)
        break;
      g_byte_array_set_size (head, before + (guint) room);
      fine = decoder_run (&request->decoder, data, length, head->data + before, room, &written, &error);
      g_byte_array_set_size (head, before + (guint) written);
      if (!fine)
        {
          fail_from (request, error);
          request->phase = PHASE_DRAIN;
          return;
        }
      if (written < room)
        return;
    }
  if (head->len < request->collect_max)
    return;
  if (request->route.kind == ROUTE_API)
    {
      http_request_fail (request, 413,
                         "the request's JSON is larger than this server takes (%" G_GSIZE_FORMAT " bytes)",
                         HTTP_OPTION (request->server, json_body_max));
      request->phase = PHASE_DRAIN;
      return;
    }
  request->phase = PHASE_STREAM;
  http_call_begin (request, FALSE);
}

gboolean
http_body_take (HttpRequest *request, const char *data, size_t *length)
{
  const guint8 *at = (const guint8 *) data;
  size_t before = *length;
  HttpFlow result = FLOW_GO;

  if (request->phase == PHASE_COLLECT)
    collect (request, &at, length);
  if (request->phase == PHASE_STREAM)
    result = request->decoder.gzip ? stream_gzip (request, &at, length) : stream_plain (request, &at, length);
  if (result == FLOW_GO && request->phase == PHASE_DRAIN && !drain (request, length))
    result = FLOW_CUT;
  request->bytes_in += before - *length;
  return result != FLOW_CUT;
}

HttpFlow
http_body_end (HttpRequest *request)
{
  g_autoptr (GError) error = NULL;
  int input;
  if (request->phase == PHASE_STREAM && request->decoder.gzip)
    {
      const guint8 *nothing = NULL;
      size_t none = 0;
      HttpFlow result = stream_gzip (request, &nothing, &none);
      if (result != FLOW_GO)
        return result;
    }
  /* A failure cancels the call before its input ends below: half a push is not taken for a whole one. */
  if ((request->phase == PHASE_STREAM || request->phase == PHASE_COLLECT) && !decoder_end (&request->decoder, &error))
    fail_from (request, error);
  gs_mutex_lock (&request->lock);
  input = request->input;
  request->input = -1;
  request->input_ended = TRUE;
  gs_mutex_unlock (&request->lock);
  if (input >= 0)
    close (input);
  return FLOW_GO;
}
