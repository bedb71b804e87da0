/* SPDX-License-Identifier: Apache-2.0 */
/* transport/nng: options, listeners, life of the instance, and the reaper that closes and frees connections. */
#include "nt.h"

#define NONCES_MAX (512 * 1024)
#define FLUSH_US (2 * G_USEC_PER_SEC) /* for the last replies when the server stops */
#define BACK_OFF_MS 100

void
nt_count (Nt *nt, GsMetric *metric, double n)
{
  if (n != 0)
    nt->host->metric_update (metric, n);
}

static void
show_connections (Nt *nt, guint n)
{
  nt->host->metric_update (nt->connections, n);
}

/* ---------------------------------------------------------------------------------------- reaper */

static void
reap_close (Nt *nt, NtConn *conn)
{
  nng_stream_close (conn->stream);
  gs_mutex_lock (&nt->lock);
  if (conn->prev != NULL)
    conn->prev->next = conn->next;
  else
    nt->conns = conn->next;
  if (conn->next != NULL)
    conn->next->prev = conn->prev;
  gs_mutex_unlock (&nt->lock);
  nt_conn_unref (conn);
}

static void *
reaper_run (void *user)
{
  Nt *nt = user;
  gs_mutex_lock (&nt->lock);
  for (;;)
    {
      NtConn *close = g_queue_pop_head (&nt->to_close);
      NtConn *free = close == NULL ? g_queue_pop_head (&nt->to_free) : NULL;
      nng_stream *drop = close == NULL && free == NULL ? g_queue_pop_head (&nt->to_drop) : NULL;
      if (close == NULL && free == NULL && drop == NULL)
        {
          if (nt->quit)
            break;
          gs_cond_wait (&nt->changed, &nt->lock);
          continue;
        }
      gs_mutex_unlock (&nt->lock);
      if (close != NULL)
        reap_close (nt, close);
      if (free != NULL)
        nt_conn_free (free);
      if (drop != NULL)
        nng_stream_free (drop);
      gs_mutex_lock (&nt->lock);
      if (free != NULL)
        {
          guint n = --nt->n_conns;
          gs_cond_broadcast (&nt->changed);
          gs_mutex_unlock (&nt->lock);
          show_connections (nt, n);
          gs_mutex_lock (&nt->lock);
        }
    }
  gs_mutex_unlock (&nt->lock);
  return NULL;
}

void
nt_drop (Nt *nt, nng_stream *stream)
{
  gs_mutex_lock (&nt->lock);
  g_queue_push_tail (&nt->to_drop, stream);
  gs_cond_broadcast (&nt->changed);
  gs_mutex_unlock (&nt->lock);
}

/* ------------------------------------------------------------------------------------- accepting */

static void
accepted (NtListener *listener, nng_stream *stream)
{
  Nt *nt = listener->nt;
  guint n;
  gs_mutex_lock (&nt->lock);
  n = nt->n_conns;
  gs_mutex_unlock (&nt->lock);
  if (n >= nt->limits.max_connections)
    {
      nt_count (nt, nt->rejected, 1);
      nt_drop (nt, stream);
      return;
    }
  nt_conn_open (listener, stream);
  show_connections (nt, n + 1);
}

static void
on_accept (void *user)
{
  NtListener *listener = user;
  Nt *nt = listener->nt;
  int rv = nng_aio_result (listener->aio);
  nng_stream *stream = nng_aio_get_output (listener->aio, 0);
  if (rv == 0 && stream != NULL)
    {
      nng_aio_set_output (listener->aio, 0, NULL);
      accepted (listener, stream);
    }
  if (__atomic_load_n (&nt->draining, __ATOMIC_ACQUIRE) || rv == NNG_ECLOSED || rv == NNG_ECANCELED)
    return;
  if (rv == NNG_ENOFILES || rv == NNG_ENOMEM)
    {
      GsField fields[] = { GS_TEXT ("listener", listener->bound), GS_TEXT ("error", nng_strerror (rv)) };
      nt->host->log (nt->host, GS_LOG_WARNING, "transport.nng.accept.failed", fields, G_N_ELEMENTS (fields));
      nng_sleep_aio (BACK_OFF_MS, listener->aio); /* comes back here without a stream */
      return;
    }
  nng_stream_listener_accept (listener->listener, listener->aio);
}

static gboolean
fail_nng (GError **error, int rv, const char *doing, const char *where)
{
  return gs_fail (error, rv == NNG_EADDRINUSE ? GS_ERROR_FAILED_PRECONDITION : GS_ERROR_UNAVAILABLE, "%s %s: %s", doing,
                  where, nng_strerror (rv));
}

static gboolean
listener_start (NtListener *listener, GError **error)
{
  Nt *nt = listener->nt;
  NtUrl plain = *listener->url;
  g_autofree char *asked = nt_url_text (listener->url, listener->url->port, TRUE);
  g_autofree char *text = NULL;
  int rv, port = 0;

  if (plain.scheme == NT_TLS)
    plain.scheme = NT_TCP;
  if (plain.scheme == NT_TCP && plain.host[0] == '\0')
    plain.host = (char *) "0.0.0.0";
  text = nt_url_text (&plain, plain.port, TRUE);
  if ((rv = nng_stream_listener_alloc (&listener->listener, text)) != 0
      || (rv = nng_aio_alloc (&listener->aio, on_accept, listener)) != 0)
    return fail_nng (error, rv, "listen on", asked);
  if (plain.scheme == NT_IPC
      && (rv = nng_stream_listener_set_int (listener->listener, NNG_OPT_IPC_PERMISSIONS, (int) nt->limits.ipc_mode))
             != 0)
    return fail_nng (error, rv, "set the mode of", asked);
  if ((rv = nng_stream_listener_listen (listener->listener)) != 0)
    return fail_nng (error, rv, "listen on", asked);
  if (plain.scheme == NT_TCP
      && (rv = nng_stream_listener_get_int (listener->listener, NNG_OPT_TCP_BOUND_PORT, &port)) != 0)
    return fail_nng (error, rv, "find out the port of", asked);
  plain.scheme = listener->url->scheme;
  listener->bound = nt_url_text (&plain, (guint) port, TRUE);
  nng_stream_listener_accept (listener->listener, listener->aio);
  GsField fields[] = { GS_TEXT ("url", listener->bound), GS_TEXT ("streams", listener->data->bound) };
  nt->host->log (nt->host, GS_LOG_INFO, "transport.nng.listening", fields, G_N_ELEMENTS (fields));
  return TRUE;
}

static void
listener_free (gpointer data)
{
  NtListener *listener = data;
  if (listener->listener != NULL)
    nng_stream_listener_close (listener->listener);
  if (listener->aio != NULL)
    nng_aio_free (listener->aio);
  if (listener->listener != NULL)
    nng_stream_listener_free (listener->listener);
  nt_url_free (listener->url);
  g_free (listener->bound);
  g_free (listener);
}

/* --------------------------------------------------------------------------------- start and stop */

/* Every connection that is open, with a reference each. */
static GPtrArray *
open_connections (Nt *nt)
{
  GPtrArray *conns = g_ptr_array_new_with_free_func ((GDestroyNotify) nt_conn_unref);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nt->lock);
  for (NtConn *conn = nt->conns; conn != NULL; conn = conn->next)
    g_ptr_array_add (conns, nt_conn_ref (conn));
  return conns;
}

static void
nt_drain (gpointer self)
{
  Nt *nt = self;
  __atomic_store_n (&nt->draining, 1, __ATOMIC_RELEASE);
  for (guint i = 0; i < nt->listeners->len; i++)
    {
      NtListener *listener = nt->listeners->pdata[i];
      if (listener->listener != NULL)
        nng_stream_listener_close (listener->listener);
    }
}

static void
nt_stop (gpointer self)
{
  Nt *nt = self;
  gint64 until;
  nt_drain (nt);
  g_ptr_array_set_size (nt->listeners, 0); /* nobody new from here on */

  g_autoptr (GPtrArray) conns = open_connections (nt);
  for (guint i = 0; i < conns->len; i++)
    {
      g_autoptr (GPtrArray) calls = nt_conn_calls (conns->pdata[i]);
      g_ptr_array_foreach (calls, (GFunc) (void (*) (void)) nt_call_cancel, NULL);
    }
  nt_data_cancel (nt->data);
  until = g_get_monotonic_time () + FLUSH_US;
  gs_mutex_lock (&nt->lock);
  while (nt->n_calls > 0)
    gs_cond_wait (&nt->changed, &nt->lock);
  while (nt->n_unsent > 0 && gs_cond_wait_until (&nt->changed, &nt->lock, until))
    ;
  gs_mutex_unlock (&nt->lock);
  nt_data_stop (nt->data);
  for (guint i = 0; i < conns->len; i++)
    nt_conn_close (conns->pdata[i]);
  g_ptr_array_set_size (conns, 0);
  gs_mutex_lock (&nt->lock);
  while (nt->n_conns > 0)
    gs_cond_wait (&nt->changed, &nt->lock);
  nt->quit = TRUE;
  gs_cond_broadcast (&nt->changed);
  gs_mutex_unlock (&nt->lock);
  if (nt->reaper_runs)
    gs_thread_join (nt->reaper);
  nt->reaper_runs = FALSE;
  g_clear_pointer (&nt->creds, nt_tls_creds_unref);
}

static gboolean
start_listeners (Nt *nt, GError **error)
{
  for (guint i = 0; i < nt->listeners->len; i++)
    {
      NtListener *listener = nt->listeners->pdata[i];
      listener->data = nt_data_listener_for (nt->data, listener);
      if (listener->data == NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                        "transport nng: data_listen names no address of the same scheme for %s",
                        nt->listen[i]);
      if (!listener_start (listener, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
make_listeners (Nt *nt, GError **error)
{
  gboolean need_creds = FALSE;
  for (gsize i = 0; nt->listen[i] != NULL; i++)
    {
      NtListener *listener = g_new0 (NtListener, 1);
      g_ptr_array_add (nt->listeners, listener);
      listener->nt = nt;
      listener->url = nt_url_parse (nt->listen[i], error);
      if (listener->url == NULL)
        return FALSE;
      need_creds = need_creds || listener->url->scheme == NT_TLS;
    }
  if (nt->listeners->len == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "transport nng: listen names no address");
  if (!need_creds)
    return TRUE;
  if (nt->certificate == NULL || nt->key == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "transport nng: tls+tcp needs tls_certificate and tls_key to be set");
  nt->creds = nt_tls_creds_new (nt->certificate, nt->key, nt->client_ca, error);
  return nt->creds != NULL;
}

static gboolean
nt_start (gpointer self, GError **error)
{
  Nt *nt = self;
  int failed;
  nt->epoch = GS_HAS (nt->host, nt->host->size, GsHost, epoch) ? nt->host->epoch : 0;
  while (nt->epoch == 0)
    nt->host->random (nt->host, &nt->epoch, sizeof nt->epoch);
  if (!make_listeners (nt, error))
    {
      nt_stop (nt);
      return FALSE;
    }
  failed = gs_thread_start (&nt->reaper, "nng-reaper", reaper_run, nt);
  nt->reaper_runs = failed == 0;
  if (failed != 0)
    gs_fail (error, GS_ERROR_UNAVAILABLE, "transport nng: start a thread: %s", g_strerror (failed));
  if (failed != 0 || !nt_data_start (nt->data, error) || !start_listeners (nt, error))
    {
      nt_stop (nt);
      return FALSE;
    }
  return TRUE;
}

static char **
nt_endpoints (gpointer self)
{
  Nt *nt = self;
  GPtrArray *urls = g_ptr_array_new ();
  for (guint i = 0; i < nt->listeners->len; i++)
    {
      const NtListener *listener = nt->listeners->pdata[i];
      if (listener->bound != NULL)
        g_ptr_array_add (urls, g_strdup (listener->bound));
    }
  g_ptr_array_add (urls, NULL);
  return (char **) g_ptr_array_free (urls, FALSE);
}

/* ------------------------------------------------------------------------------ create and destroy */

static void
nt_destroy (gpointer self)
{
  Nt *nt = self;
  g_ptr_array_unref (nt->listeners);
  nt_data_free (nt->data);
  nt_nonces_free (nt->nonces);
  nt_tls_creds_unref (nt->creds);
  g_strfreev (nt->listen);
  g_strfreev (nt->data_listen);
  g_free (nt->certificate);
  g_free (nt->key);
  g_free (nt->client_ca);
  gs_cond_clear (&nt->changed);
  gs_mutex_clear (&nt->lock);
  g_free (nt);
}

static gboolean
read_mode (const char *text, guint *ret_mode, GError **error)
{
  guint64 mode;
  if (!g_ascii_string_to_unsigned (text, 8, 0, 0777, &mode, NULL))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "transport nng: ipc_mode '%s' is no file mode; write it in octal, like 0600", text);
  *ret_mode = (guint) mode;
  return TRUE;
}

static void
make_metrics (Nt *nt)
{
  const GsHost *host = nt->host;
  nt->connections = host->metric (host, GS_METRIC_GAUGE, "gitstead_nng_connections", "Open control connections.", NULL);
  nt->streams = host->metric (host, GS_METRIC_GAUGE, "gitstead_nng_streams", "Streaming calls under way.", NULL);
  nt->requests = host->metric (host, GS_METRIC_COUNTER, "gitstead_nng_requests_total",
                               "Requests received on control connections.", NULL);
  nt->bytes_in = host->metric (host, GS_METRIC_COUNTER, "gitstead_nng_bytes_total", "Bytes on connections of both kinds.",
                               "direction=\"in\"");
  nt->bytes_out = host->metric (host, GS_METRIC_COUNTER, "gitstead_nng_bytes_total",
                                "Bytes on connections of both kinds.", "direction=\"out\"");
  nt->rejected = host->metric (host, GS_METRIC_COUNTER, "gitstead_nng_rejected_total",
                               "Connections and requests that were refused or dropped for what they sent.", NULL);
}

static gpointer
nt_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Nt *nt = g_new0 (Nt, 1);
  guint8 seed[16];
  nt->host = host;
  gs_mutex_init (&nt->lock);
  gs_cond_init (&nt->changed);
  host->random (host, seed, sizeof seed);
  nt->listeners = g_ptr_array_new_with_free_func (listener_free);
  nt->nonces = nt_nonces_new (NONCES_MAX, seed);
  nt->data = nt_data_new (nt);
  nt->listen = g_strdupv ((char **) config->list (config, "listen"));
  nt->data_listen = g_strdupv ((char **) config->list (config, "data_listen"));
  nt->certificate = g_strdup (config->string (config, "tls_certificate"));
  nt->key = g_strdup (config->string (config, "tls_key"));
  nt->client_ca = g_strdup (config->string (config, "tls_client_ca"));
  nt->limits = (NtLimits) { .max_message = (gsize) config->integer (config, "max_message"),
                            .max_in_flight = (guint) config->integer (config, "max_in_flight"),
                            .max_connections = (guint) config->integer (config, "max_connections"),
                            .max_streams = (guint) config->integer (config, "max_streams"),
                            .handshake_us = config->integer (config, "handshake_timeout"),
                            .message_us = config->integer (config, "message_timeout"),
                            .write_us = config->integer (config, "write_timeout"),
                            .idle_us = config->integer (config, "idle_timeout"),
                            .quiet_us = config->integer (config, "connection_timeout"),
                            .ticket_us = config->integer (config, "ticket_timeout"),
                            .allow_plain_bearer = config->boolean (config, "allow_plain_bearer") };
  make_metrics (nt);
  if (!read_mode (config->string (config, "ipc_mode"), &nt->limits.ipc_mode, error))
    {
      nt_destroy (nt);
      return NULL;
    }
  return nt;
}

/* ------------------------------------------------------------------------------------------ reload */

/* What a reload brings: certificates as they are now. */
typedef struct
{
  NtTlsCreds *creds; /* NULL: there is no TLS address */
} Change;

static gpointer
nt_adjust (gpointer self, const GsConfig *config, GError **error)
{
  Nt *nt = self;
  const char *certificate = config->string (config, "tls_certificate"), *key = config->string (config, "tls_key");
  NtTlsCreds *creds = NULL;
  Change *change;
  if (nt->creds != NULL && (certificate == NULL || key == NULL))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "tls+tcp needs tls_certificate and tls_key to be set");
      return NULL;
    }
  if (nt->creds != NULL
      && (creds = nt_tls_creds_new (certificate, key, config->string (config, "tls_client_ca"), error)) == NULL)
    return NULL;
  change = g_new0 (Change, 1);
  change->creds = creds;
  return change;
}

static void
nt_adjusted (gpointer self, gpointer data, gboolean take)
{
  Nt *nt = self;
  Change *change = data;
  NtTlsCreds *drop = change->creds;
  if (take)
    {
      gs_mutex_lock (&nt->lock);
      drop = nt->creds;
      nt->creds = change->creds;
      gs_mutex_unlock (&nt->lock);
    }
  nt_tls_creds_unref (drop);
  g_free (change);
}

#define MINUTE G_GINT64_CONSTANT (60000000)

static const GsOption options[] = {
  { .key = "listen", .type = GS_OPTION_LIST, .flags = GS_OPTION_REQUIRED,
    .help = "Addresses for calls: tcp://HOST:PORT, tls+tcp://HOST:PORT, ipc:///PATH. Port 0 takes a free one." },
  { .key = "data_listen", .type = GS_OPTION_LIST,
    .help = "Addresses for bulk streams, one of each scheme that is listened on. Default: the same host with a free port, "
            "the same path with .data behind it." },
  { .key = "ipc_mode", .type = GS_OPTION_STRING, .fallback = "0600", .help = "File mode of unix sockets, octal." },
  { .key = "tls_certificate", .type = GS_OPTION_PATH, .flags = GS_OPTION_RELOADABLE, .help = "PEM file with the server's certificate and its chain." },
  { .key = "tls_key", .type = GS_OPTION_PATH, .flags = GS_OPTION_RELOADABLE, .help = "PEM file with the key of tls_certificate." },
  { .key = "tls_client_ca", .type = GS_OPTION_PATH, .flags = GS_OPTION_RELOADABLE,
    .help = "PEM file with the authorities of client certificates; when set, clients must show one." },
  { .key = "max_message", .type = GS_OPTION_SIZE, .fallback = "1MiB", .min = 4096, .max = 64 * 1024 * 1024,
    .help = "Largest request or reply." },
  { .key = "max_in_flight", .type = GS_OPTION_INT, .fallback = "16", .min = 1, .max = 1024,
    .help = "Calls of one connection under way at once; further ones wait in the client." },
  { .key = "max_connections", .type = GS_OPTION_INT, .fallback = "10000", .min = 1, .max = 1000000,
    .help = "Open control connections; further ones are closed at once." },
  { .key = "max_streams", .type = GS_OPTION_INT, .fallback = "256", .min = 1, .max = 10000,
    .help = "Streaming calls at once; each takes a thread." },
  { .key = "handshake_timeout", .type = GS_OPTION_DURATION, .fallback = "10s", .min = 1000, .max = 10 * MINUTE,
    .help = "For a new connection to say what it speaks, TLS included." },
  { .key = "message_timeout", .type = GS_OPTION_DURATION, .fallback = "30s", .min = 1000, .max = 60 * MINUTE,
    .help = "From the first byte of a request to its last." },
  { .key = "write_timeout", .type = GS_OPTION_DURATION, .fallback = "30s", .min = 1000, .max = 60 * MINUTE,
    .help = "For a client to take a reply." },
  { .key = "idle_timeout", .type = GS_OPTION_DURATION, .fallback = "60s", .min = 1000, .max = 24 * 60 * MINUTE,
    .help = "For a stream to wait for its client to send or take a byte." },
  { .key = "connection_timeout", .type = GS_OPTION_DURATION, .fallback = "30m", .min = 1000, .max = 24 * 60 * MINUTE,
    .help = "For a connection to ask nothing; while no call on it had good credentials, message_timeout holds." },
  { .key = "ticket_timeout", .type = GS_OPTION_DURATION, .fallback = "10s", .min = 1000, .max = 10 * MINUTE,
    .help = "For a client to connect a stream after it got the ticket." },
  { .key = "allow_plain_bearer", .type = GS_OPTION_BOOL, .fallback = "false",
    .help = "Take tokens in the clear over tcp from other hosts than this one, too." },
  { .key = NULL }
};

static const GsTransportOps ops = { .endpoints = nt_endpoints };

GS_PLUGIN_DEFINE (GsTransportOps, .kind = GS_KIND_TRANSPORT, .threads = GS_THREADS_PARALLEL, .name = "nng",
                  .version = "0.1.0", .summary = "Calls over nng's REQ/REP protocol (SP) on tcp, tls+tcp and ipc",
                  .license = "Apache-2.0", .options = options, .needs = NULL, .ops = &ops, .create = nt_create,
                  .start = nt_start, .drain = nt_drain, .stop = nt_stop, .destroy = nt_destroy,
                  .adjust = nt_adjust, .adjusted = nt_adjusted);
