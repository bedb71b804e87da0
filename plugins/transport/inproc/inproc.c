/* SPDX-License-Identifier: Apache-2.0 */
/**
 * inproc.c - transport/inproc: unary calls from inside this process, through the same door as all others.
 *
 * Whoever embeds the server, and tests, get the checks, limits and records that remote callers get, without a
 * socket. The caller's thread waits; so it must not be one of the worker pool that carries calls out, or a full
 * pool waits for itself.
 */
#include <gitstead/thread.h>
#include <gitstead/transport.h>

typedef struct
{
  GsCallHandle handle;
  gboolean known; /* the handle is */
  gboolean done;
  GsErrorCode code;
  char *message;
  GBytes *payload;
} Call;

typedef struct
{
  const GsHost *host;
  char *url;
  GsMutex lock;
  GsCond changed; /* a call is done, or has left */
  /* ---- guarded by lock ---- */
  gboolean started, draining, stopping;
  GPtrArray *calls; /* of Call, on their callers' stacks */
} Inproc;

/* A call with the way back to its instance, for done. */
typedef struct
{
  Call call;
  Inproc *inproc;
} Waiting;

static void
call_done (gpointer user, const GsOutcome *outcome)
{
  Waiting *waiting = user;
  Inproc *inproc = waiting->inproc;
  Call *call = &waiting->call;
  gs_mutex_lock (&inproc->lock);
  call->code = outcome->code;
  call->message = g_strdup (outcome->message);
  call->payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL;
  call->done = TRUE;
  /* The instance's own condition: the caller's stack may be gone as soon as the lock is free. */
  gs_cond_broadcast (&inproc->changed);
  gs_mutex_unlock (&inproc->lock);
}

static gboolean
enter (Inproc *inproc, const char *method, Call *call, GError **error)
{
  gboolean open;
  gs_mutex_lock (&inproc->lock);
  open = inproc->started && !inproc->draining;
  if (open)
    g_ptr_array_add (inproc->calls, call);
  gs_mutex_unlock (&inproc->lock);
  if (open)
    return TRUE;
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: %s: the server is not running or shuts down", inproc->url, method);
}

static void
wait_and_leave (Inproc *inproc, Call *call, GsCallHandle handle)
{
  gboolean cancel;
  gs_mutex_lock (&inproc->lock);
  call->handle = handle;
  call->known = TRUE;
  cancel = inproc->stopping && !call->done;
  gs_mutex_unlock (&inproc->lock);
  if (cancel)
    inproc->host->call_cancel (inproc->host, handle);
  gs_mutex_lock (&inproc->lock);
  while (!call->done)
    gs_cond_wait (&inproc->changed, &inproc->lock);
  g_ptr_array_remove_fast (inproc->calls, call);
  gs_cond_broadcast (&inproc->changed);
  gs_mutex_unlock (&inproc->lock);
}

static gboolean
inproc_call (gpointer self, const char *method, GsEncoding encoding, GBytes *payload, const GsCredentials *credentials,
             gint64 timeout_us, GBytes **ret_payload, GError **error)
{
  Inproc *inproc = self;
  const GsHost *host = inproc->host;
  const GsCredentials none = { .size = sizeof none, .kind = GS_CREDENTIALS_NONE };
  GsMethodInfo info = { .size = sizeof info };
  Waiting waiting = { .inproc = inproc };
  Call *call = &waiting.call;
  GsInbound inbound = { .size = sizeof inbound,
                        .encoding = encoding,
                        .payload = payload,
                        .timeout_us = timeout_us,
                        .credentials = credentials != NULL ? credentials : &none,
                        .peer = inproc->url,
                        .done = call_done,
                        .user = &waiting };

  if (!host->method (host, 0, method, &info))
    return gs_fail (error, GS_ERROR_NOT_FOUND, "%s: there is no method '%s'; Server/Methods lists them", inproc->url,
                    method);
  if (info.streams_in || info.streams_out)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "%s: %s moves a stream of bytes, which calls in process can't",
                    inproc->url, method);
  if (!enter (inproc, method, call, error))
    return FALSE;
  inbound.method = info.number;
  inbound.method_name = info.name;
  wait_and_leave (inproc, call, host->call_begin (host, &inbound));

  if (call->code == GS_OK)
    *ret_payload = call->payload != NULL ? call->payload : g_bytes_new_static ("", 0);
  else
    {
      g_clear_pointer (&call->payload, g_bytes_unref);
      gs_fail (error, call->code, "%s", call->message != NULL ? call->message : gs_error_name (call->code));
    }
  g_free (call->message);
  return call->code == GS_OK;
}

static char **
endpoints (gpointer self)
{
  Inproc *inproc = self;
  char **urls = g_new0 (char *, 2);
  urls[0] = g_strdup (inproc->url);
  return urls;
}

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  /* "transport NAME": the registry has checked the name. */
  const char *name = strrchr (host->instance, ' ');
  Inproc *inproc;
  inproc = g_new0 (Inproc, 1);
  inproc->host = host;
  inproc->url = g_strconcat ("inproc://", name != NULL ? name + 1 : host->instance, NULL);
  inproc->calls = g_ptr_array_new ();
  gs_mutex_init (&inproc->lock);
  gs_cond_init (&inproc->changed);
  return inproc;
}

static gboolean
start (gpointer self, GError **error)
{
  Inproc *inproc = self;
  gs_mutex_lock (&inproc->lock);
  inproc->started = TRUE;
  gs_mutex_unlock (&inproc->lock);
  return TRUE;
}

static void
drain (gpointer self)
{
  Inproc *inproc = self;
  gs_mutex_lock (&inproc->lock);
  inproc->draining = TRUE;
  gs_mutex_unlock (&inproc->lock);
}

static void
stop (gpointer self)
{
  Inproc *inproc = self;
  g_autoptr (GArray) handles = g_array_new (FALSE, FALSE, sizeof (GsCallHandle));
  gs_mutex_lock (&inproc->lock);
  inproc->draining = TRUE;
  inproc->stopping = TRUE;
  for (guint i = 0; i < inproc->calls->len; i++)
    {
      const Call *call = g_ptr_array_index (inproc->calls, i);
      if (call->known && !call->done)
        g_array_append_val (handles, call->handle);
    }
  gs_mutex_unlock (&inproc->lock);
  for (guint i = 0; i < handles->len; i++)
    inproc->host->call_cancel (inproc->host, g_array_index (handles, GsCallHandle, i));
  gs_mutex_lock (&inproc->lock);
  while (inproc->calls->len > 0)
    gs_cond_wait (&inproc->changed, &inproc->lock);
  gs_mutex_unlock (&inproc->lock);
}

static void
destroy (gpointer self)
{
  Inproc *inproc = self;
  g_ptr_array_unref (inproc->calls);
  gs_mutex_clear (&inproc->lock);
  gs_cond_clear (&inproc->changed);
  g_free (inproc->url);
  g_free (inproc);
}

static const GsTransportOps ops = { .endpoints = endpoints, .call = inproc_call };

GS_PLUGIN_DEFINE (GsTransportOps, .kind = GS_KIND_TRANSPORT, .threads = GS_THREADS_PARALLEL, .name = "inproc",
                  .version = "0.1.0", .summary = "Unary calls from inside the process", .license = "Apache-2.0",
                  .ops = &ops, .create = create, .start = start, .drain = drain, .stop = stop,
                  .destroy = destroy);
