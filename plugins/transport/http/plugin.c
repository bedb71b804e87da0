/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - transport/http: smart HTTP for stock git, JSON calls, and pages for people and probes. */
#include "http.h"

static const GsOption options[] = {
  { .key = "listen",
    .type = GS_OPTION_LIST,
    .flags = GS_OPTION_REQUIRED,
    .help
    = "Addresses to serve, as http://host:port or https://host:port; host * is every address, port 0 any free one." },
  { .key = "tls_certificate",
    .type = GS_OPTION_PATH,
    .flags = GS_OPTION_RELOADABLE,
    .help = "PEM file with the server's certificate and the chain below its root; needed for https addresses." },
  { .key = "tls_key",
    .type = GS_OPTION_PATH,
    .flags = GS_OPTION_RELOADABLE,
    .help = "PEM file with the certificate's private key; others must not be able to read it." },
  { .key = "tls_client_ca",
    .type = GS_OPTION_PATH,
    .flags = GS_OPTION_RELOADABLE,
    .help = "PEM file with authorities for client certificates; a client that shows one signed by them is known by its "
            "common name." },
  { .key = "threads",
    .type = GS_OPTION_INT,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "2",
    .min = 1,
    .max = 256,
    .help = "Threads per address that move bytes; about one per two processors." },
  { .key = "max_connections",
    .type = GS_OPTION_INT,
    .fallback = "10000",
    .min = 4,
    .max = 1000000,
    .help = "Open connections per address; more wait in the kernel's queue." },
  { .key = "max_header",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "32KiB",
    .min = 8 * 1024,
    .max = 1024 * 1024,
    .help = "Memory per connection for a request's header and the bytes under way; a longer header is refused." },
  { .key = "idle_timeout",
    .type = GS_OPTION_DURATION,
    .fallback = "60s",
    .min = G_USEC_PER_SEC,
    .max = 24 * 3600 * (gint64) G_USEC_PER_SEC,
    .help
    = "A connection on which nothing moves for so long is closed; twice that is the limit for a request's header." },
  { .key = "request_timeout",
    .type = GS_OPTION_DURATION,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "0s",
    .max = 7 * 24 * 3600 * (gint64) G_USEC_PER_SEC,
    .help = "Longest time that one request may take, 0 = the limit of the method that it calls." },
  { .key = "max_body",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "0",
    .help = "Largest body of a fetch or push request, 0 = no limit." },
  { .key = "max_inflate",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "64MiB",
    .help = "Largest size that a gzip request body may inflate to, 0 = max_body; git compresses only negotiation, not "
            "packs." },
  { .key = "json_body_max",
    .type = GS_OPTION_SIZE,
    .flags = GS_OPTION_RELOADABLE,
    .fallback = "1MiB",
    .min = 1024,
    .max = 256 * 1024 * 1024,
    .help = "Largest JSON body of a call below /api/v1." },
  { .key = "realm", .type = GS_OPTION_STRING, .fallback = "Gitstead", .help = "What password prompts name." },
  { .key = "metrics_access",
    .type = GS_OPTION_CHOICE,
    .flags = GS_OPTION_RELOADABLE,
    .choices = "public|loopback|none",
    .fallback = "public",
    .help = "Who gets /metrics: everybody who can connect, only this host, or nobody." },
  { .key = NULL },
};

void
http_options_clear (HttpOptions *o)
{
  g_strfreev (o->listen);
  g_free (o->tls_certificate);
  g_free (o->tls_key);
  g_free (o->tls_client_ca);
  g_free (o->realm);
  memset (o, 0, sizeof *o);
}

static void
server_free (HttpServer *server)
{
  http_options_clear (&server->options);
  g_ptr_array_unref (server->listeners);
  g_hash_table_unref (server->requests);
  g_hash_table_unref (server->connections);
  gs_mutex_clear (&server->lock);
  gs_cond_clear (&server->empty);
  g_free (server);
}

/* The realm stands in a quoted string. */
static gboolean
realm_valid (const char *realm)
{
  for (const char *c = realm; *c != '\0'; c++)
    if ((guint8) *c < 0x20 || *c == 0x7f || *c == '"' || *c == '\\')
      return FALSE;
  return TRUE;
}

gboolean
http_options_read (const GsHost *host, const GsConfig *config, HttpOptions *ret_options, GError **error)
{
  const char *access = config->string (config, "metrics_access");
  const char *realm = config->string (config, "realm");
  const char *const *urls = config->list (config, "listen");
  HttpOptions *o = ret_options;

  if (urls[0] == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: the option 'listen' names no address", host->instance);
  if (realm == NULL || !realm_valid (realm))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "%s: the option 'realm' must not have quotes, backslashes or control characters", host->instance);
  o->listen = g_strdupv ((char **) urls);
  o->tls_certificate = g_strdup (config->string (config, "tls_certificate"));
  o->tls_key = g_strdup (config->string (config, "tls_key"));
  o->tls_client_ca = g_strdup (config->string (config, "tls_client_ca"));
  o->threads = (guint) config->integer (config, "threads");
  o->max_connections = (guint) config->integer (config, "max_connections");
  o->max_header = (gsize) config->integer (config, "max_header");
  o->idle_timeout_us = config->integer (config, "idle_timeout");
  o->request_timeout_us = config->integer (config, "request_timeout");
  o->max_body = (guint64) config->integer (config, "max_body");
  o->max_inflate = (guint64) config->integer (config, "max_inflate");
  o->json_body_max = (gsize) config->integer (config, "json_body_max");
  o->realm = g_strdup (realm);
  o->metrics_off = g_strcmp0 (access, "none") == 0;
  o->metrics_loopback = g_strcmp0 (access, "loopback") == 0;
  return TRUE;
}

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  HttpOptions read = { 0 };
  HttpServer *server;

  if (!http_options_read (host, config, &read, error))
    return NULL;
  server = g_new0 (HttpServer, 1);
  server->options = read;
  server->host = host;
  gs_mutex_init (&server->lock);
  gs_cond_init (&server->empty);
  server->requests = g_hash_table_new (g_int64_hash, g_int64_equal);
  server->connections = g_hash_table_new (g_int64_hash, g_int64_equal);
  server->listeners = g_ptr_array_new_with_free_func ((GDestroyNotify) http_listener_free);
  return server;
}

static void
drain (gpointer self)
{
  HttpServer *server = self;
  if (__atomic_exchange_n (&server->draining, 1, __ATOMIC_ACQ_REL))
    return;
  for (guint i = 0; i < server->listeners->len; i++)
    http_pump_unlisten (server->pump, g_ptr_array_index (server->listeners, i));
}

/* Every suspended request is resumed, and every call told to end: the library must not be stopped before. */
static void
wake_all (HttpServer *server)
{
  g_autoptr (GPtrArray) all = g_ptr_array_new_with_free_func ((GDestroyNotify) http_request_unref);
  GHashTableIter iter;
  gpointer value;
  gs_mutex_lock (&server->lock);
  g_hash_table_iter_init (&iter, server->requests);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    g_ptr_array_add (all, http_request_ref (value));
  gs_mutex_unlock (&server->lock);
  for (guint i = 0; i < all->len; i++)
    {
      HttpRequest *request = g_ptr_array_index (all, i);
      http_request_cancel (request);
      gs_mutex_lock (&request->lock);
      http_request_wake_locked (request);
      gs_mutex_unlock (&request->lock);
    }
}

/* A call has ended once its last byte is written, but not yet taken: what is on its way gets this long to arrive. */
#define FLUSH_US (5 * G_USEC_PER_SEC)

static void
flush (HttpServer *server)
{
  gint64 until_us = g_get_monotonic_time () + FLUSH_US;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  while (server->n_requests > 0 && gs_cond_wait_until (&server->empty, &server->lock, until_us))
    ;
}

static void
stop (gpointer self)
{
  HttpServer *server = self;
  g_autoptr (GPtrArray) daemons = g_ptr_array_new_with_free_func ((GDestroyNotify) http_daemon_free);
  GPtrArray *listeners;
  drain (server);
  flush (server);
  __atomic_store_n (&server->stopping, 1, __ATOMIC_RELEASE);
  wake_all (server);
  /* A look at former daemons may be under way: what it took from the lists is its own. */
  gs_mutex_lock (&server->lock);
  for (guint i = 0; i < server->listeners->len; i++)
    {
      HttpListener *listener = g_ptr_array_index (server->listeners, i);
      for (guint j = 0; j < listener->former->len; j++)
        g_ptr_array_add (daemons, listener->former->pdata[j]);
      g_ptr_array_set_size (listener->former, 0);
      g_ptr_array_add (daemons, g_steal_pointer (&listener->daemon));
    }
  gs_mutex_unlock (&server->lock);
  g_ptr_array_set_size (daemons, 0);
  /* The calls hold their requests until the host is done with them. */
  gs_mutex_lock (&server->lock);
  while (server->n_requests > 0)
    gs_cond_wait (&server->empty, &server->lock);
  gs_mutex_unlock (&server->lock);
  g_clear_pointer (&server->pump, http_pump_free);
  gs_mutex_lock (&server->lock);
  listeners = server->listeners;
  server->listeners = g_ptr_array_new_with_free_func ((GDestroyNotify) http_listener_free);
  gs_mutex_unlock (&server->lock);
  g_ptr_array_unref (listeners);
}

static gboolean
start (gpointer self, GError **error)
{
  HttpServer *server = self;
  char **urls = server->options.listen;
  if (MHD_is_feature_supported (MHD_FEATURE_EPOLL) != MHD_YES || MHD_is_feature_supported (MHD_FEATURE_TLS) != MHD_YES)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: this libmicrohttpd was built without epoll or TLS",
                    server->host->instance);
  http_metrics_register (server);
  server->pump = http_pump_new (server, error);
  if (server->pump == NULL)
    return FALSE;
  for (guint i = 0; urls[i] != NULL; i++)
    if (!http_listen (server, urls[i], error))
      {
        stop (server);
        return FALSE;
      }
  return TRUE;
}

static void
destroy (gpointer self)
{
  HttpServer *server = self;
  server_free (server);
}

static char **
endpoints (gpointer self)
{
  HttpServer *server = self;
  char **urls = g_new0 (char *, server->listeners->len + 1);
  for (guint i = 0; i < server->listeners->len; i++)
    urls[i] = g_strdup (((HttpListener *) g_ptr_array_index (server->listeners, i))->url);
  return urls;
}

static const GsTransportOps ops = { .endpoints = endpoints };

GS_PLUGIN_DEFINE (GsTransportOps, .kind = GS_KIND_TRANSPORT, .threads = GS_THREADS_PARALLEL, .name = "http",
                  .version = "0.1.0", .summary = "Smart HTTP for git, JSON calls, health and metrics pages",
                  .license = "Apache-2.0", .options = options, .ops = &ops, .create = create, .start = start,
                  .drain = drain, .stop = stop, .destroy = destroy, .adjust = http_adjust, .adjusted = http_adjusted);
