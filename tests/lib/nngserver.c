/* SPDX-License-Identifier: Apache-2.0 */
/* See nngserver.h. */
#include "nngserver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <wire/token.h>

const GsPlugin *gs_plugin_query (void);

#define PATIENCE_US (20 * G_USEC_PER_SEC)

typedef struct
{
  NgServer *server;
  GsInbound inbound; /* payload is our own reference; nothing else borrowed is kept */
  GsCallHandle handle;
  gint refs;
  gboolean ready, cancelled; /* under the server's lock */
} Call;

static void
call_unref (gpointer data)
{
  Call *call = data;
  if (!g_atomic_int_dec_and_test (&call->refs))
    return;
  g_bytes_unref (call->inbound.payload);
  g_free (call);
}

/* Ends the call; takes @payload. */
static void
finish (Call *call, int code, const char *message, GBytes *payload)
{
  NgServer *server = call->server;
  GsOutcome outcome = { .size = sizeof outcome,
                        .code = (GsErrorCode) code,
                        .retry = gs_error_retry (code),
                        .message = message,
                        .payload = payload,
                        .unproven = code == GS_ERROR_UNIMPLEMENTED || code == GS_ERROR_UNAUTHENTICATED };
  call->inbound.done (call->inbound.user, &outcome);
  if (payload != NULL)
    g_bytes_unref (payload);
  gs_mutex_lock (&server->lock);
  g_hash_table_remove (server->calls, &call->handle); /* frees it */
  gs_cond_broadcast (&server->changed);
  gs_mutex_unlock (&server->lock);
}

static guint64
number_of (GBytes *payload)
{
  gsize len;
  const char *text = g_bytes_get_data (payload, &len);
  g_autofree char *copy = g_strndup (text, len);
  return g_ascii_strtoull (copy, NULL, 10);
}

/* ------------------------------------------------------------------------------------- stream calls */

/* Waits for the peer; FALSE when cancelled first. */
static gboolean
wait_ready (Call *call)
{
  NgServer *server = call->server;
  gboolean cancelled;
  if (call->inbound.stream->accept (call->inbound.stream))
    return TRUE;
  gs_mutex_lock (&server->lock);
  while (!call->ready && !call->cancelled)
    gs_cond_wait (&server->changed, &server->lock);
  cancelled = call->cancelled;
  gs_mutex_unlock (&server->lock);
  return !cancelled;
}

static gboolean
is_cancelled (Call *call)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&call->server->lock);
  return call->cancelled;
}

static gboolean
write_all (int fd, const guint8 *bytes, gsize len)
{
  while (len > 0)
    {
      ssize_t n = write (fd, bytes, len);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0)
        return FALSE;
      bytes += n;
      len -= (gsize) n;
    }
  return TRUE;
}

static guint64
copy_stream (int in, int out)
{
  g_autofree guint8 *buffer = g_malloc (65536);
  guint64 total = 0;
  for (;;)
    {
      ssize_t n = read (in, buffer, 65536);
      if (n < 0 && errno == EINTR)
        continue;
      if (n <= 0 || (out >= 0 && !write_all (out, buffer, (gsize) n)))
        return total;
      total += (guint64) n;
    }
}

static void
run_echo (Call *call, GError **error)
{
  GsStream *stream = call->inbound.stream;
  int in = stream->open_input (stream, error);
  int out = in >= 0 ? stream->open_output (stream, error) : -1;
  if (out >= 0)
    copy_stream (in, out);
  if (in >= 0)
    close (in);
  if (out >= 0)
    close (out);
}

/* Byte i of the stream is (i / 64) modulo 251, so that a lost or doubled piece shows. */
static void
run_source (Call *call, GError **error)
{
  GsStream *stream = call->inbound.stream;
  guint64 left = number_of (call->inbound.payload), at = 0;
  g_autofree guint8 *buffer = g_malloc (64 * 251);
  int out = stream->open_output (stream, error);
  for (guint i = 0; i < 64 * 251; i++)
    buffer[i] = (guint8) (i / 64);
  while (out >= 0 && at < left)
    {
      gsize n = (gsize) MIN (left - at, 64 * 251);
      if (!write_all (out, buffer, n))
        break;
      at += n;
    }
  if (out >= 0)
    close (out);
}

static void
run_kept (Call *call, GError **error)
{
  int out = call->inbound.stream->open_output (call->inbound.stream, error);
  if (out < 0)
    return;
  write_all (out, (const guint8 *) "abc", 3);
  call->server->kept_fd = out; /* closed when the server goes */
}

static GBytes *
run_sink (Call *call, GError **error)
{
  GsStream *stream = call->inbound.stream;
  int in = stream->open_input (stream, error);
  char *text;
  if (in < 0)
    return NULL;
  guint64 total = copy_stream (in, -1);
  close (in);
  text = g_strdup_printf ("%" G_GUINT64_FORMAT "%s", total, is_cancelled (call) ? " cancelled" : "");
  return g_bytes_new_take (text, strlen (text));
}

static void
wait_released (Call *call)
{
  NgServer *server = call->server;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  while (!call->cancelled && !server->released)
    gs_cond_wait (&server->changed, &server->lock);
}

static void *
stream_thread (void *user)
{
  Call *call = user;
  g_autoptr (GError) error = NULL;
  GBytes *reply = NULL;
  if (call->inbound.method == NS_REFUSE)
    {
      finish (call, GS_ERROR_PERMISSION_DENIED, "refused for the test", NULL);
      return NULL;
    }
  if (wait_ready (call))
    switch (call->inbound.method)
      {
      case NS_ECHO:
        run_echo (call, &error);
        reply = g_bytes_ref (call->inbound.payload);
        break;
      case NS_SOURCE:
        run_source (call, &error);
        break;
      case NS_WHOLE:
        call->inbound.stream->send_all (call->inbound.stream, call->inbound.payload, &error);
        break;
      case NS_KEPT:
        run_kept (call, &error);
        break;
      case NS_SINK:
        reply = run_sink (call, &error);
        break;
      default:
        wait_released (call);
        break;
      }
  if (error == NULL && is_cancelled (call))
    gs_fail (&error, GS_ERROR_CANCELLED, "cancelled");
  if (error != NULL)
    g_clear_pointer (&reply, g_bytes_unref);
  finish (call, error != NULL ? error->code : GS_OK, error != NULL ? error->message : NULL, reply);
  return NULL;
}

/* -------------------------------------------------------------------------------------- plain calls */

static char *
who_text (const GsInbound *inbound)
{
  const GsCredentials *c = inbound->credentials;
  guint8 key[GS_TOKEN_KEY_SIZE], tag[32];
  switch (c->kind)
    {
    case GS_CREDENTIALS_BEARER:
      return g_strdup_printf ("bearer %s", c->secret);
    case GS_CREDENTIALS_PEER:
      return g_strdup_printf ("peer %u", c->uid);
    case GS_CREDENTIALS_CERTIFICATE:
      return g_strdup_printf ("certificate %s", c->certificate);
    case GS_CREDENTIALS_HMAC:
      gs_token_signing_key (NS_TOKEN + 16, key);
      gs_token_hmac (key, c->signed_data, c->signed_len, tag);
      return g_strdup_printf ("hmac %s %s", c->user, gs_token_equal (tag, c->tag, 32) ? "good" : "bad");
    default:
      return g_strdup ("none");
    }
}

static void
count_call (Call *call)
{
  NgServer *server = call->server;
  char hex[2 * GS_TXID_SIZE + 1];
  gs_hex (call->inbound.call_id.bytes, GS_TXID_SIZE, hex);
  gs_mutex_lock (&server->lock);
  g_hash_table_replace (server->counts, g_strdup (hex),
                        GUINT_TO_POINTER (GPOINTER_TO_UINT (g_hash_table_lookup (server->counts, hex)) + 1));
  gs_mutex_unlock (&server->lock);
  if (server->count_file != NULL)
    {
      FILE *file = fopen (server->count_file, "ae");
      if (file == NULL || fprintf (file, "%s\n", hex) < 0 || fclose (file) != 0)
        g_error ("cannot write %s", server->count_file);
    }
  if (!server->count_silently)
    finish (call, GS_OK, NULL, g_bytes_ref (call->inbound.payload));
}

/* Ends calls that waited, outside the lock. */
static void
finish_held (GPtrArray *calls, int code)
{
  for (guint i = 0; i < calls->len; i++)
    finish (calls->pdata[i], code, code == GS_OK ? NULL : "cancelled", NULL);
  g_ptr_array_unref (calls);
}

static void
hold (Call *call)
{
  NgServer *server = call->server;
  gboolean end = FALSE;
  gs_mutex_lock (&server->lock);
  end = server->released || call->cancelled;
  if (!end)
    {
      call->ready = TRUE; /* it waits: whoever sees that ends it */
      server->held++;
      gs_cond_broadcast (&server->changed);
    }
  gs_mutex_unlock (&server->lock);
  if (end)
    finish (call, GS_OK, NULL, NULL);
}

static gboolean
is_stream (guint32 method)
{
  return method >= NS_ECHO && method <= NS_KEPT;
}

static void
start_stream (Call *call)
{
  NgServer *server = call->server;
  GsThread *thread = g_new0 (GsThread, 1);
  gs_mutex_lock (&server->lock);
  g_ptr_array_add (server->threads, thread);
  if (gs_thread_start (thread, "test-stream", stream_thread, call) != 0)
    g_error ("cannot start a thread");
  gs_mutex_unlock (&server->lock);
}

static void
carry_out (Call *call)
{
  char *text;
  switch (call->inbound.method)
    {
    case NS_PING:
      finish (call, GS_OK, NULL, g_bytes_ref (call->inbound.payload));
      break;
    case NS_HOLD:
      hold (call);
      break;
    case NS_COUNT:
      count_call (call);
      break;
    case NS_WHO:
      text = who_text (&call->inbound);
      if (g_str_has_suffix (text, " bad"))
        {
          g_free (text);
          finish (call, GS_ERROR_UNAUTHENTICATED, "who are you?", NULL);
        }
      else
        finish (call, GS_OK, NULL, g_bytes_new_take (text, strlen (text)));
      break;
    case NS_BIG:
      finish (call, GS_OK, NULL,
              g_bytes_new_take (g_malloc0 (number_of (call->inbound.payload)), number_of (call->inbound.payload)));
      break;
    case NS_FAIL:
      finish (call, (int) number_of (call->inbound.payload), "failed for the test", NULL);
      break;
    default:
      if (is_stream (call->inbound.method))
        start_stream (call);
      else
        finish (call, GS_ERROR_UNIMPLEMENTED, "no such method", NULL);
    }
}

/* ------------------------------------------------------------------------------------- the host's slots */

static gint64
server_wall_us (const GsHost *host)
{
  NgServer *server = (NgServer *) host;
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  return g_get_real_time () + server->wall_offset_us;
}

static gboolean
server_method (const GsHost *host, guint32 number, const char *name, GsMethodInfo *ret_info)
{
  if (number != NS_PING && (number < NS_HOLD || number > NS_KEPT))
    return FALSE;
  ret_info->number = number;
  ret_info->name = "Test/Method";
  ret_info->streams_in = is_stream (number) && number != NS_SOURCE && number != NS_WHOLE && number != NS_KEPT;
  ret_info->streams_out = is_stream (number) && number != NS_SINK;
  return TRUE;
}

static GsCallHandle
server_call_begin (const GsHost *host, const GsInbound *inbound)
{
  NgServer *server = (NgServer *) host;
  Call *call = g_new0 (Call, 1);
  GsCallHandle handle;
  call->server = server;
  call->refs = 2; /* the table's, and this function's */
  call->inbound = *inbound;
  call->inbound.payload = g_bytes_ref (inbound->payload);
  gs_mutex_lock (&server->lock);
  handle = call->handle = ++server->next_handle;
  server->n_begun++;
  g_hash_table_insert (server->calls, &call->handle, call);
  gs_mutex_unlock (&server->lock);
  carry_out (call);
  call_unref (call);
  return handle;
}

static void
server_call_cancel (const GsHost *host, GsCallHandle handle)
{
  NgServer *server = (NgServer *) host;
  GPtrArray *ended = g_ptr_array_new ();
  gs_mutex_lock (&server->lock);
  Call *call = g_hash_table_lookup (server->calls, &handle);
  if (call != NULL && !call->cancelled)
    {
      call->cancelled = TRUE;
      server->n_cancelled++;
      if (call->inbound.method == NS_HOLD && call->ready)
        {
          call->ready = FALSE;
          server->held--;
          g_ptr_array_add (ended, call);
        }
      gs_cond_broadcast (&server->changed);
    }
  gs_mutex_unlock (&server->lock);
  finish_held (ended, GS_ERROR_CANCELLED);
}

static void
server_call_ready (const GsHost *host, GsCallHandle handle)
{
  NgServer *server = (NgServer *) host;
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  Call *call = g_hash_table_lookup (server->calls, &handle);
  if (call != NULL)
    call->ready = TRUE;
  gs_cond_broadcast (&server->changed);
}

/* --------------------------------------------------------------------------------------- its life */

void
ng_server_release (NgServer *server)
{
  GPtrArray *ended = g_ptr_array_new ();
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&server->lock);
  server->released = TRUE;
  g_hash_table_iter_init (&iter, server->calls);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Call *call = value;
      if (call->inbound.method == NS_HOLD && call->ready)
        {
          call->ready = FALSE;
          server->held--;
          g_ptr_array_add (ended, call);
        }
    }
  gs_cond_broadcast (&server->changed);
  gs_mutex_unlock (&server->lock);
  finish_held (ended, GS_OK);
}

gboolean
ng_server_wait_held (NgServer *server, guint n)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  while (server->held < n)
    if (!gs_cond_wait_until (&server->changed, &server->lock, until))
      return server->held >= n;
  return TRUE;
}

gboolean
ng_server_wait_idle (NgServer *server)
{
  gint64 until = g_get_monotonic_time () + PATIENCE_US;
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  while (g_hash_table_size (server->calls) > 0)
    if (!gs_cond_wait_until (&server->changed, &server->lock, until))
      return g_hash_table_size (server->calls) == 0;
  return TRUE;
}

guint
ng_server_count (NgServer *server, const GsTxId *call_id)
{
  char hex[2 * GS_TXID_SIZE + 1];
  gs_hex (call_id->bytes, GS_TXID_SIZE, hex);
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  return GPOINTER_TO_UINT (g_hash_table_lookup (server->counts, hex));
}

guint
ng_server_cancelled (NgServer *server)
{
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  return server->n_cancelled;
}

guint
ng_server_begun (NgServer *server)
{
  g_autoptr (GsMutexLocker) locked = gs_mutex_hold (&server->lock);
  return server->n_begun;
}

/* fake_config_new takes its pairs one by one, and so does this: up to 12 of them. */
static FakeConfig *
read_options (const GsPlugin *plugin, va_list args)
{
  const char *o[25] = { NULL };
  for (guint i = 0; i < 24 && (o[i] = va_arg (args, const char *)) != NULL; i++)
    ;
  return fake_config_new (plugin, o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8], o[9], o[10], o[11], o[12],
                          o[13], o[14], o[15], o[16], o[17], o[18], o[19], o[20], o[21], o[22], o[23], NULL);
}

NgServer *
ng_server_new (GError **error, ...)
{
  NgServer *server = g_new0 (NgServer, 1);
  g_autoptr (FakeConfig) config = NULL;
  va_list args;
  gboolean good;
  server->kept_fd = -1;
  server->fake = fake_host_new ("transport nng");
  server->plugin = gs_plugin_query ();
  gs_mutex_init (&server->lock);
  gs_cond_init (&server->changed);
  server->calls = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, call_unref);
  server->counts = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  server->threads = g_ptr_array_new_with_free_func (g_free);
  server->host = server->fake->host;
  server->host.wall_us = server_wall_us;
  server->host.method = server_method;
  server->host.call_begin = server_call_begin;
  server->host.call_cancel = server_call_cancel;
  server->host.call_ready = server_call_ready;
  server->host.epoch = 4711;
  va_start (args, error);
  config = read_options (server->plugin, args);
  va_end (args);
  server->self = server->plugin->create (&server->host, fake_config_get (config), error);
  good = server->self != NULL && server->plugin->start (server->self, error);
  if (good)
    server->urls = ((const GsTransportOps *) server->plugin->ops)->endpoints (server->self);
  else
    g_clear_pointer (&server, ng_server_free);
  return server;
}

void
ng_server_free (NgServer *server)
{
  if (server == NULL)
    return;
  if (server->urls != NULL)
    server->plugin->stop (server->self);
  for (guint i = 0; i < server->threads->len; i++)
    gs_thread_join (*(GsThread *) server->threads->pdata[i]);
  if (g_hash_table_size (server->calls) != 0)
    g_error ("the transport stopped with calls under way");
  if (server->self != NULL)
    server->plugin->destroy (server->self);
  if (server->kept_fd >= 0)
    close (server->kept_fd);
  g_strfreev (server->urls);
  g_ptr_array_unref (server->threads);
  g_hash_table_unref (server->calls);
  g_hash_table_unref (server->counts);
  gs_cond_clear (&server->changed);
  gs_mutex_clear (&server->lock);
  fake_host_free (server->fake);
  g_free (server);
}
