/* SPDX-License-Identifier: Apache-2.0 */
/* Calls and streams to the node: deadlines and cancelling, errors in the storage's own words. See remote.h. */
#include "remote.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CHUNK (64 * 1024)
#define CANCEL_US (1 * G_USEC_PER_SEC)
#define FLAG_MS 100

/*
 * So much of an answer, and for so long, is kept before the first byte of it goes to the client: until then the router can
 * ask another replica when the node dies, and the client never hears of it. Most answers are shorter. The time keeps the
 * progress messages of a long one going.
 */
#define KEPT_MAX (128 * 1024)
#define KEPT_US (1 * G_USEC_PER_SEC)

/* ------------------------------------------------------------------------------------------- fields */

ProtobufCBinaryData
remote_bytes (gconstpointer data, gsize len)
{
  return (ProtobufCBinaryData) { len, (guint8 *) data };
}

ProtobufCBinaryData
remote_text (const char *text)
{
  return remote_bytes (text, text != NULL ? strlen (text) : 0);
}

ProtobufCBinaryData
remote_oid (const GsOid *oid)
{
  return remote_bytes (oid->raw, oid->len);
}

void
remote_target (Remote *self, GsCall *call, const GsRepo *repo, Gitstead__V1__NodeTarget *ret_target)
{
  gitstead__v1__node_target__init (ret_target);
  ret_target->storage = self->storage;
  if (repo != NULL)
    {
      ret_target->repository_id = repo->id;
      ret_target->replica_path = remote_text (repo->replica_path);
    }
  if (call->identity != NULL)
    {
      ret_target->caller = (char *) (call->identity->name != NULL ? call->identity->name : "");
      ret_target->scope = (guint32) call->identity->scope;
      ret_target->prefix = (char *) (call->identity->prefix != NULL ? call->identity->prefix : "");
    }
  if (call->peer != NULL)
    ret_target->peer = (char *) call->peer;
}

static gboolean
nonsense (Remote *self, GError **error)
{
  return gs_fail (error, GS_ERROR_INTERNAL, "%s: the answer of the node at %s makes no sense; is it of another version?",
                  self->host->instance, self->url);
}

gboolean
remote_read_oid (Remote *self, const ProtobufCBinaryData *data, GsOid *ret_oid, GError **error)
{
  GsOid oid = { 0 };
  if (data->len != 0 && data->len != GS_FORMAT_SHA1 && data->len != GS_FORMAT_SHA256)
    return nonsense (self, error);
  oid.len = (guint8) data->len;
  if (data->len > 0)
    memcpy (oid.raw, data->data, data->len);
  *ret_oid = oid;
  return TRUE;
}

gboolean
remote_read_exactly (Remote *self, const ProtobufCBinaryData *data, gpointer to, gsize len, GError **error)
{
  if (data->len != len)
    return nonsense (self, error);
  memcpy (to, data->data, len);
  return TRUE;
}

char *
remote_read_text (Remote *self, const ProtobufCBinaryData *data, GError **error)
{
  if (data->len > 0 && memchr (data->data, '\0', data->len) == NULL)
    return g_strndup ((const char *) data->data, data->len);
  nonsense (self, error);
  return NULL;
}

/* -------------------------------------------------------------------------------------------- calls */

typedef struct
{
  Remote *self;
  GsCall *call; /* NULL: nobody can cancel it */
  guint64 falls;
} Stop;

static gboolean
should_stop (gpointer user)
{
  const Stop *stop = user;
  return (stop->call != NULL && gs_call_cancelled (stop->call))
         || __atomic_load_n (&stop->self->falls, __ATOMIC_ACQUIRE) != stop->falls;
}

static gint64
time_left (Remote *self, GsCall *call)
{
  if (call->deadline_us == G_MAXINT64)
    return self->call_timeout_us;
  return MAX (call->deadline_us - g_get_monotonic_time (), 1000);
}

/* A storage's own words, without where they came from. */
static void
fail_as_there (const char *what, const GError *why, GError **error)
{
  const char *words = why->message;
  const char *at = strstr (words, ": ");
  /* "Node/State on tcp://host:port: words": the URL has no ": " in it. */
  if (g_str_has_prefix (words, "Node/") && at != NULL && g_strrstr_len (words, at - words, what) != NULL)
    words = at + 2;
  gs_fail (error, (GsErrorCode) why->code, "%s", words);
  if (error != NULL)
    {
      gsize len;
      const guint8 *details = gs_error_details (why, &len);
      gs_error_set_details (*error, details, len);
    }
}

static gboolean
fail_lost (Remote *self, const GError *why, GError **error)
{
  remote_lost (self, why->message);
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", self->host->instance, why->message);
}

/* One connection may break for its own reasons: the probe says whether the node is there. */
static void
look_closer (Remote *self)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  self->suspect = TRUE;
  gs_cond_broadcast (&self->changed);
}

/* What the end of a call that got no reply means. */
static gboolean
judge_silence (Remote *self, GsCall *call, guint64 falls, const GError *why, GError **error)
{
  if (__atomic_load_n (&self->falls, __ATOMIC_ACQUIRE) != falls)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: the node at %s was lost meanwhile", self->host->instance,
                    self->url);
  if (!gs_call_check (call, "a call to a node", error))
    return FALSE;
  if (why->code == GS_ERROR_UNAVAILABLE)
    return fail_lost (self, why, error);
  if (why->code == GS_ERROR_UNKNOWN)
    {
      look_closer (self);
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", self->host->instance, why->message);
    }
  return gs_fail (error, (GsErrorCode) why->code, "%s: %s", self->host->instance, why->message);
}

static void
cancel_there (Remote *self, GsClient *client, const GsTxId *id)
{
  Gitstead__V1__NodeCancelRequest request = GITSTEAD__V1__NODE_CANCEL_REQUEST__INIT;
  GsClientCall wire = { .size = sizeof wire, .timeout_us = CANCEL_US };
  g_autoptr (GBytes) payload = NULL;
  if (!remote_there (self, NULL))
    return;
  request.call_id = remote_bytes (id->bytes, GS_TXID_SIZE);
  payload = gs_wire_encode (&request.base);
  gs_client_call_raw (client, 1001, payload, &wire, NULL, NULL);
}

static GsClient *
take_client (Remote *self)
{
  return self->clients[__atomic_fetch_add (&self->next, 1, __ATOMIC_RELAXED) % self->n_connections];
}

/* *full*, NULL with @error. */
static GBytes *
call_once (Remote *self, GsCall *call, guint32 method, GBytes *payload, guint flags, gboolean *ret_again,
           GError **error)
{
  GsClient *client = take_client (self);
  Stop stop = { self, (flags & CALL_FATE) != 0 ? NULL : call, __atomic_load_n (&self->falls, __ATOMIC_ACQUIRE) };
  GsClientCall wire = { .size = sizeof wire,
                        .timeout_us = (flags & CALL_FATE) != 0 ? self->call_timeout_us : time_left (self, call),
                        .stop = should_stop,
                        .stop_user = &stop };
  g_autoptr (GError) why = NULL;
  GBytes *reply = NULL;
  *ret_again = FALSE;
  if (gs_client_call_raw (client, method, payload, &wire, &reply, &why))
    return reply;
  if (wire.ret_server_epoch != 0)
    fail_as_there (self->url, why, error);
  else
    {
      if (why->code == GS_ERROR_CANCELLED || why->code == GS_ERROR_DEADLINE_EXCEEDED)
        cancel_there (self, client, &wire.call_id);
      *ret_again = why->code == GS_ERROR_UNKNOWN && (flags & CALL_AGAIN) != 0;
      if (*ret_again)
        gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", self->host->instance, why->message);
      else
        judge_silence (self, call, stop.falls, why, error);
    }
  return NULL;
}

gboolean
remote_call (Remote *self, GsCall *call, guint32 method, const ProtobufCMessage *request, guint flags,
             const ProtobufCMessageDescriptor *reply_type, GsArena *arena, gpointer ret_reply, GError **error)
{
  g_autoptr (GBytes) payload = gs_wire_encode (request);
  g_autoptr (GBytes) answer = NULL;
  g_autoptr (GError) why = NULL;
  gboolean again = FALSE;
  if ((!(flags & CALL_FATE) && !gs_call_check (call, "a call to a node", error)) || !remote_there (self, error))
    return FALSE;
  answer = call_once (self, call, method, payload, flags, &again, &why);
  if (answer == NULL && again)
    {
      /* The connection is from before the node's restart, perhaps: a fresh one tells. */
      g_clear_error (&why);
      answer = call_once (self, call, method, payload, flags & ~CALL_AGAIN, &again, &why);
    }
  if (answer == NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (reply_type != NULL)
    {
      gsize len;
      const guint8 *bytes = g_bytes_get_data (answer, &len);
      ProtobufCMessage *message = gs_wire_decode (arena, reply_type, bytes, len, NULL);
      if (message == NULL)
        return nonsense (self, error);
      *(ProtobufCMessage **) ret_reply = message;
    }
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ streams */

Flow *
flow_open (Remote *self, GsCall *call, guint32 method, const ProtobufCMessage *request, GError **error)
{
  g_autoptr (GBytes) payload = gs_wire_encode (request);
  Stop stop = { self, call, __atomic_load_n (&self->falls, __ATOMIC_ACQUIRE) };
  GsClientCall wire = { .size = sizeof wire, .stop = should_stop, .stop_user = &stop };
  g_autoptr (GError) why = NULL;
  GsClientStream *stream;
  Flow *flow;
  if (!gs_call_check (call, "a call to a node", error) || !remote_there (self, error))
    return NULL;
  if (call->deadline_us != G_MAXINT64)
    wire.timeout_us = time_left (self, call);
  stream = gs_client_stream_open_raw (take_client (self), method, payload, &wire, &why);
  if (stream == NULL)
    {
      if (wire.ret_server_epoch != 0)
        fail_as_there (self->url, why, error);
      else
        judge_silence (self, call, stop.falls, why, error);
      return NULL;
    }
  flow = g_new0 (Flow, 1);
  *flow = (Flow) { .self = self, .call = call, .stream = stream, .falls = stop.falls, .until_us = G_MAXINT64 };
  gs_mutex_lock (&self->lock);
  g_ptr_array_add (self->streams, flow);
  gs_cond_broadcast (&self->changed);
  gs_mutex_unlock (&self->lock);
  return flow;
}

/* Why a stream failed: by our own hand, by the node's word, or because the node is gone. */
static gboolean
judge_stream (Flow *flow, const GError *why, GError **error)
{
  Remote *self = flow->self;
  if (__atomic_load_n (&self->falls, __ATOMIC_ACQUIRE) != flow->falls)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: the node at %s was lost meanwhile", self->host->instance,
                    self->url);
  if (flow->call != NULL && !gs_call_check (flow->call, "a call to a node", error))
    return FALSE;
  if (g_get_monotonic_time () > flow->until_us)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "%s: the node at %s answers, but did not bring a write to its end within its call_timeout; does its "
                    "disk hang?",
                    self->host->instance, self->url);
  if (why->code == GS_ERROR_UNKNOWN || why->code == GS_ERROR_DEADLINE_EXCEEDED)
    {
      look_closer (self);
      return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s", self->host->instance, why->message);
    }
  fail_as_there (self->url, why, error);
  return FALSE;
}

gssize
flow_read (Flow *flow, gpointer buffer, gsize len, GError **error)
{
  g_autoptr (GError) why = NULL;
  gssize n = gs_client_stream_read (flow->stream, buffer, len, &why);
  if (n < 0)
    judge_stream (flow, why, error);
  return n;
}

gboolean
flow_read_all (Flow *flow, gpointer buffer, gsize len, GError **error)
{
  guint8 *at = buffer;
  while (len > 0)
    {
      gssize n = flow_read (flow, at, len, error);
      if (n < 0)
        return FALSE;
      if (n == 0)
        return flow_finish (flow, error) && nonsense (flow->self, error);
      at += n;
      len -= (gsize) n;
    }
  return TRUE;
}

gboolean
flow_write (Flow *flow, gconstpointer bytes, gsize len, GError **error)
{
  g_autoptr (GError) why = NULL;
  return gs_client_stream_write (flow->stream, bytes, len, &why) || judge_stream (flow, why, error);
}

gboolean
flow_message (Flow *flow, const ProtobufCMessageDescriptor *type, GsArena *arena, gpointer ret_message, GError **error)
{
  guint8 size_bytes[4];
  guint32 size;
  guint8 *bytes;
  gssize n = flow_read (flow, size_bytes, sizeof size_bytes, error);
  ProtobufCMessage *message = NULL;
  if (n < 0)
    return FALSE;
  if (n > 0)
    {
      if (!flow_read_all (flow, size_bytes + n, sizeof size_bytes - (gsize) n, error))
        return FALSE;
      memcpy (&size, size_bytes, sizeof size);
      size = GUINT32_FROM_BE (size);
      bytes = size <= FRAME_MAX ? gs_arena_alloc (arena, MAX (size, 1)) : NULL;
      if (bytes == NULL)
        return nonsense (flow->self, error);
      if (!flow_read_all (flow, bytes, size, error))
        return FALSE;
      message = gs_wire_decode (arena, type, bytes, size, NULL);
      if (message == NULL)
        return nonsense (flow->self, error);
    }
  *(ProtobufCMessage **) ret_message = message;
  return TRUE;
}

gboolean
flow_finish (Flow *flow, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (flow->reply != NULL || gs_client_stream_finish_raw (flow->stream, &flow->reply, &why))
    return TRUE;
  return judge_stream (flow, why, error);
}

void
flow_detach (Flow *flow)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&flow->self->lock);
  flow->call = NULL;
}

void
flow_limit (Flow *flow)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&flow->self->lock);
  flow->until_us = g_get_monotonic_time () + flow->self->call_timeout_us;
}

void
flow_free (Flow *flow)
{
  if (flow == NULL)
    return;
  gs_mutex_lock (&flow->self->lock);
  g_ptr_array_remove_fast (flow->self->streams, flow);
  gs_mutex_unlock (&flow->self->lock);
  gs_client_stream_free (flow->stream);
  g_clear_pointer (&flow->reply, g_bytes_unref);
  g_free (flow);
}

/* ---------------------------------------------------------------------------------- the client's end */

/* Until @fd or @wake is ready, or the call is to stop. */
static gboolean
wait_for (GsCall *call, int fd, short events, int wake)
{
  struct pollfd fds[3] = { { .fd = fd, .events = events }, { .fd = wake, .events = POLLIN },
                           { .fd = call->cancel_fd (call), .events = POLLIN } };
  poll (fds, 3, fds[2].fd >= 0 ? 10000 : FLAG_MS);
  return fds[0].revents != 0;
}

gboolean
write_fd (GsCall *call, int fd, const guint8 *bytes, gsize len, GError **error)
{
  while (len > 0)
    {
      ssize_t n;
      if (!gs_call_check (call, "answering a client", error))
        return FALSE;
      if (!wait_for (call, fd, POLLOUT, -1))
        continue;
      n = write (fd, bytes, MIN (len, 4096));
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n < 0)
        return gs_fail (error, GS_ERROR_CANCELLED, "answering a client: it went away");
      bytes += n;
      len -= (gsize) n;
    }
  return TRUE;
}

/* An answer on its way to the client, whose first part is kept until it is long, slow or whole. */
typedef struct
{
  Flow *flow;
  GsStream *stream;
  int fd; /* -1: nothing was said to the client yet */
  gint64 since_us;
  GByteArray *kept;
} Outflow;

static gboolean
outflow_open (Outflow *out, GError **error)
{
  return out->fd >= 0
         || ((out->fd = out->stream->open_output (out->stream, error)) >= 0
             && write_fd (out->flow->call, out->fd, out->kept->data, out->kept->len, error));
}

static gboolean
outflow_add (Outflow *out, const guint8 *chunk, gsize len, GError **error)
{
  gint64 now_us = g_get_monotonic_time ();
  if (out->fd >= 0)
    return write_fd (out->flow->call, out->fd, chunk, len, error);
  if (out->kept->len == 0)
    out->since_us = now_us;
  g_byte_array_append (out->kept, chunk, (guint) len);
  /* In a conversation the client's next words wait for these; nor could another replica be asked what was said before. */
  return (out->stream->complete && out->kept->len < KEPT_MAX && now_us - out->since_us < KEPT_US)
         || outflow_open (out, error);
}

gboolean
flow_to_stream (Flow *flow, GsStream *stream, GError **error)
{
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  g_autoptr (GByteArray) kept = g_byte_array_new ();
  Outflow out = { flow, stream, -1, 0, kept };
  gssize n;
  while ((n = flow_read (flow, chunk, CHUNK, error)) > 0)
    if (!outflow_add (&out, chunk, (gsize) n, error))
      {
        n = -1;
        break;
      }
  if (n == 0 && (!flow_finish (flow, error) || !outflow_open (&out, error)))
    n = -1;
  if (out.fd >= 0)
    close (out.fd);
  return n == 0;
}

static void *
carrier_run (void *data)
{
  Carrier *carrier = data;
  GsStream *stream = carrier->stream;
  g_autofree guint8 *chunk = g_malloc (CHUNK);
  gsize len;
  const guint8 *head = g_bytes_get_data (stream->head, &len);
  gboolean good = flow_write (carrier->flow, head, len, NULL);
  while (good && carrier->fd >= 0)
    {
      eventfd_t count;
      ssize_t n;
      if (!wait_for (carrier->flow->call, carrier->fd, POLLIN, carrier->wake))
        {
          if (gs_call_cancelled (carrier->flow->call) || eventfd_read (carrier->wake, &count) == 0)
            return NULL;
          continue;
        }
      n = read (carrier->fd, chunk, CHUNK);
      if (n < 0 && (errno == EINTR || errno == EAGAIN))
        continue;
      if (n <= 0)
        break;
      good = flow_write (carrier->flow, chunk, (gsize) n, NULL);
    }
  /* An end of the input that a cancelled call made is none. */
  if (good && !gs_call_cancelled (carrier->flow->call))
    gs_client_stream_end (carrier->flow->stream, NULL);
  return NULL;
}

gboolean
carrier_begin (Carrier *carrier, Flow *flow, GsStream *stream, GError **error)
{
  *carrier = (Carrier) { .flow = flow, .stream = stream, .fd = -1, .wake = -1 };
  if (!stream->complete && (carrier->fd = stream->open_input (stream, error)) < 0)
    return FALSE;
  carrier->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  carrier->running = carrier->wake >= 0 && gs_thread_start (&carrier->thread, "to-node", carrier_run, carrier) == 0;
  if (!carrier->running)
    {
      carrier_end (carrier);
      return gs_fail (error, GS_ERROR_BUSY, "%s: no thread can be started", flow->self->host->instance);
    }
  return TRUE;
}

void
carrier_end (Carrier *carrier)
{
  if (carrier->flow == NULL)
    return; /* it was never begun */
  if (carrier->running)
    {
      eventfd_write (carrier->wake, 1);
      gs_thread_join (carrier->thread);
    }
  carrier->running = FALSE;
  if (carrier->fd >= 0)
    close (carrier->fd);
  if (carrier->wake >= 0)
    close (carrier->wake);
  carrier->fd = carrier->wake = -1;
}
