/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload.c - new certificates and options for addresses that stay.
 *
 * The library cannot change either on a running daemon. So another daemon is made beside it, and gets the connections
 * that are accepted from then on; the socket stays ours, so none is lost. The former one keeps its connections until they
 * close.
 */
#include "http.h"

#define LOOK_US (5 * G_USEC_PER_SEC)

typedef struct
{
  HttpOptions options;
  GPtrArray *daemons; /* of HttpDaemon, one per listener; NULL: the present one will do */
  GPtrArray *sums;    /* of their files */
} Change;

static void
change_free (Change *change)
{
  http_options_clear (&change->options);
  g_ptr_array_unref (change->daemons);
  g_ptr_array_unref (change->sums);
  g_free (change);
}

static void
drop_daemons (Change *change)
{
  for (guint i = 0; i < change->daemons->len; i++)
    http_daemon_free (change->daemons->pdata[i]);
  g_ptr_array_set_size (change->daemons, 0);
}

static gboolean
make_daemons (HttpServer *server, Change *change, const HttpTls *tls, GError **error)
{
  const HttpOptions *was = &server->options, *now = &change->options;
  gboolean other = was->threads != now->threads || was->max_header != now->max_header;
  for (guint i = 0; i < server->listeners->len; i++)
    {
      HttpListener *listener = g_ptr_array_index (server->listeners, i);
      HttpDaemon *daemon = NULL;
      if ((other || (listener->tls && strcmp (listener->tls_sum, tls->sum) != 0))
          && (daemon = http_daemon_new (listener, now, tls, error)) == NULL)
        return FALSE;
      g_ptr_array_add (change->daemons, daemon);
      g_ptr_array_add (change->sums, g_strdup (listener->tls ? tls->sum : NULL));
    }
  return TRUE;
}

gpointer
http_adjust (gpointer self, const GsConfig *config, GError **error)
{
  HttpServer *server = self;
  g_auto (HttpTls) tls = { 0 };
  Change *change = g_new0 (Change, 1);
  gboolean any_tls = FALSE;

  change->daemons = g_ptr_array_new ();
  change->sums = g_ptr_array_new_with_free_func (g_free);
  for (guint i = 0; i < server->listeners->len; i++)
    any_tls = any_tls || ((const HttpListener *) g_ptr_array_index (server->listeners, i))->tls;
  if (http_options_read (server->host, config, &change->options, error)
      && (!any_tls || http_tls_read (server, &change->options, &tls, error))
      && make_daemons (server, change, &tls, error))
    return change;
  drop_daemons (change);
  change_free (change);
  return NULL;
}

static void
swap_text (char **one, char **other)
{
  char *kept = *one;
  *one = *other;
  *other = kept;
}

#define TAKE(field_) __atomic_store_n (&server->options.field_, change->options.field_, __ATOMIC_RELAXED)

static void
take (HttpServer *server, Change *change)
{
  /* These are looked at by the thread that starts and adjusts, and by nobody else. */
  swap_text (&server->options.tls_certificate, &change->options.tls_certificate);
  swap_text (&server->options.tls_key, &change->options.tls_key);
  swap_text (&server->options.tls_client_ca, &change->options.tls_client_ca);
  server->options.threads = change->options.threads;
  server->options.max_header = change->options.max_header;
  TAKE (request_timeout_us);
  TAKE (max_body);
  TAKE (max_inflate);
  TAKE (json_body_max);
  TAKE (metrics_off);
  TAKE (metrics_loopback);

  gs_mutex_lock (&server->lock);
  for (guint i = 0; i < change->daemons->len; i++)
    {
      HttpListener *listener = g_ptr_array_index (server->listeners, i);
      HttpDaemon *daemon = change->daemons->pdata[i];
      if (daemon == NULL)
        continue;
      g_ptr_array_add (listener->former, listener->daemon);
      listener->daemon = daemon;
      swap_text (&listener->tls_sum, (char **) &change->sums->pdata[i]);
    }
  gs_mutex_unlock (&server->lock);
}

void
http_adjusted (gpointer self, gpointer data, gboolean taken)
{
  HttpServer *server = self;
  Change *change = data;
  if (taken)
    {
      take (server, change);
      if (!__atomic_exchange_n (&server->reaping, 1, __ATOMIC_ACQ_REL))
        http_reap (server);
    }
  else
    drop_daemons (change);
  change_free (change);
}

/* ------------------------------------------------------------------------------------- former daemons */

/* One that has no connection left, taken off its list. NULL: there is none. @ret_left: others have some. */
static HttpDaemon *
take_idle (HttpServer *server, gboolean *ret_left)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&server->lock);
  *ret_left = FALSE;
  for (guint i = 0; i < server->listeners->len; i++)
    {
      HttpListener *listener = g_ptr_array_index (server->listeners, i);
      for (guint j = 0; j < listener->former->len; j++)
        {
          HttpDaemon *daemon = listener->former->pdata[j];
          if (daemon->n_handed == 0)
            return g_ptr_array_remove_index_fast (listener->former, j);
          *ret_left = TRUE;
        }
    }
  if (!*ret_left)
    __atomic_store_n (&server->reaping, 0, __ATOMIC_RELEASE); /* under the lock: who adds one from now on sees it */
  return NULL;
}

static void
reap_work (gpointer user)
{
  http_reap (user);
}

void
http_reap (HttpServer *server)
{
  HttpDaemon *daemon;
  gboolean left;
  while ((daemon = take_idle (server, &left)) != NULL)
    http_daemon_free (daemon);
  if (left && server->host->timer (server->host, LOOK_US, reap_work, server) == 0)
    __atomic_store_n (&server->reaping, 0, __ATOMIC_RELEASE);
}
