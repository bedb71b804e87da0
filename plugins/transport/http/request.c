/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - the life of one request: who holds it, how it is suspended, woken, cancelled and ended. */
#include "http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

static void
describe_peer (struct MHD_Connection *connection, char *peer, gsize size)
{
  const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  char host[INET6_ADDRSTRLEN] = "?";
  guint port = 0;
  if (info != NULL && info->client_addr != NULL)
    {
      if (info->client_addr->sa_family == AF_INET)
        {
          struct sockaddr_in in;
          memcpy (&in, info->client_addr, sizeof in);
          inet_ntop (AF_INET, &in.sin_addr, host, sizeof host);
          port = ntohs (in.sin_port);
        }
      else if (info->client_addr->sa_family == AF_INET6)
        {
          struct sockaddr_in6 in6;
          memcpy (&in6, info->client_addr, sizeof in6);
          inet_ntop (AF_INET6, &in6.sin6_addr, host, sizeof host);
          port = ntohs (in6.sin6_port);
        }
    }
  g_snprintf (peer, (gulong) size, strchr (host, ':') != NULL ? "http [%s]:%u" : "http %s:%u", host, port);
}

HttpRequest *
http_request_new (HttpListener *listener, struct MHD_Connection *connection, const char *uri)
{
  HttpServer *server = listener->server;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  HttpRequest *request = g_new0 (HttpRequest, 1);
  request->refs = 1;
  request->server = server;
  request->listener = listener;
  request->connection = connection;
  request->tcp = info != NULL ? info->socket_context : NULL;
  request->uri = g_strdup (uri != NULL ? uri : "");
  request->begun_us = server->host->now_us (server->host);
  request->deadline_us = G_MAXINT64;
  request->input = request->output = -1;
  describe_peer (connection, request->peer, sizeof request->peer);
  gs_mutex_init (&request->lock);

  gs_mutex_lock (&server->lock);
  request->id = ++server->next_id;
  if (request->tcp != NULL)
    {
      request->tcp->request = request->id;
      request->left = request->tcp->half_closed;
    }
  server->n_requests++;
  g_hash_table_insert (server->requests, &request->id, request);
  gs_mutex_unlock (&server->lock);
  return request;
}

HttpRequest *
http_request_ref (HttpRequest *request)
{
  __atomic_add_fetch (&request->refs, 1, __ATOMIC_RELAXED);
  return request;
}

static void
request_free (HttpRequest *request)
{
  route_clear (&request->route);
  decoder_clear (&request->decoder);
  g_clear_pointer (&request->stream.head, g_bytes_unref);
  g_clear_pointer (&request->collected, g_byte_array_unref);
  g_clear_pointer (&request->decoded, g_byte_array_unref);
  g_clear_pointer (&request->early, g_byte_array_unref);
  g_clear_pointer (&request->whole, g_bytes_unref);
  g_clear_pointer (&request->payload, g_bytes_unref);
  g_clear_pointer (&request->details, g_bytes_unref);
  if (request->input >= 0)
    close (request->input);
  if (request->output >= 0)
    close (request->output);
  g_free (request->message);
  g_free (request->local_message);
  g_free (request->uri);
  gs_mutex_clear (&request->lock);
  g_free (request);
}

void
http_request_unref (HttpRequest *request)
{
  HttpServer *server = request->server;
  gboolean last;
  /* Under the server's lock, so that nobody finds it in the table between the count's zero and its removal. */
  gs_mutex_lock (&server->lock);
  last = __atomic_sub_fetch (&request->refs, 1, __ATOMIC_ACQ_REL) == 0;
  if (last)
    g_hash_table_remove (server->requests, &request->id);
  gs_mutex_unlock (&server->lock);
  if (!last)
    return;
  request_free (request);
  /* The count of what is left is told only now: whoever waits for it frees the server. */
  gs_mutex_lock (&server->lock);
  server->n_requests--;
  if (server->n_requests == 0)
    gs_cond_broadcast (&server->empty);
  gs_mutex_unlock (&server->lock);
}

gboolean
http_request_suspend_locked (HttpRequest *request, guint watch)
{
  if (request->left)
    request->gone = TRUE;
  if (request->gone || __atomic_load_n (&request->server->stopping, __ATOMIC_ACQUIRE))
    return FALSE;
  MHD_suspend_connection (request->connection);
  request->suspended = TRUE;
  http_pump_watch (request->server->pump, request, watch);
  return TRUE;
}

void
http_request_wake_locked (HttpRequest *request)
{
  if (!request->suspended)
    return;
  /* Out of the pump's set first: from the resume on, the library may close the client's descriptor. */
  http_pump_forget (request->server->pump, request);
  request->suspended = FALSE;
  MHD_resume_connection (request->connection);
}

gboolean
http_request_want_cancel_locked (HttpRequest *request, GsCallHandle *ret_handle)
{
  if (!request->began || request->done || request->cancelled)
    return FALSE;
  request->cancelled = TRUE;
  *ret_handle = request->handle;
  return request->handle_known;
}

void
http_request_cancel (HttpRequest *request)
{
  const GsHost *host = request->server->host;
  GsCallHandle handle = 0;
  gboolean due;
  gs_mutex_lock (&request->lock);
  due = http_request_want_cancel_locked (request, &handle);
  gs_mutex_unlock (&request->lock);
  if (due)
    host->call_cancel (host, handle);
}

void
http_request_fail (HttpRequest *request, guint status, const char *format, ...)
{
  va_list args;
  char *message;
  va_start (args, format);
  message = g_strdup_vprintf (format, args);
  va_end (args);
  gs_mutex_lock (&request->lock);
  if (request->local_status == 0)
    {
      request->local_status = status;
      request->local_message = g_steal_pointer (&message);
    }
  gs_mutex_unlock (&request->lock);
  g_free (message);
  http_request_cancel (request);
}

void
http_request_connection_deadline (HttpRequest *request, gint64 deadline_us)
{
  if (request->tcp == NULL)
    return;
  gs_mutex_lock (&request->server->lock);
  request->tcp->deadline_us = deadline_us;
  gs_mutex_unlock (&request->server->lock);
}

/* The client's socket stays open a while on a copy: closing it with bytes unread would reset it. */
static void
linger (HttpRequest *request)
{
  const union MHD_ConnectionInfo *info
      = MHD_get_connection_info (request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info != NULL)
    http_pump_linger (request->server->pump, info->connect_fd, request->listener->tls);
}

void
http_request_finish (HttpRequest *request, enum MHD_RequestTerminationCode why)
{
  HttpServer *server = request->server;
  const union MHD_ConnectionInfo *answered
      = MHD_get_connection_info (request->connection, MHD_CONNECTION_INFO_HTTP_STATUS);
  int input, output;

  /* The library refuses some requests itself: too long a header, no valid request line. */
  if (request->status == 0 && answered != NULL)
    request->status = answered->http_status;
  if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK && request->linger)
    linger (request);
  /* The call is cancelled before its pipes close: an end of file then can't be taken for the end of a push. */
  http_request_cancel (request);
  gs_mutex_lock (&request->lock);
  request->gone = TRUE;
  request->connection = NULL;
  input = request->input;
  output = request->output;
  request->input = request->output = -1;
  gs_mutex_unlock (&request->lock);
  if (input >= 0)
    close (input);
  if (output >= 0)
    close (output);
  if (request->tcp != NULL)
    {
      gs_mutex_lock (&server->lock);
      request->tcp->request = 0;
      request->tcp->deadline_us = server->host->now_us (server->host) + 2 * server->options.idle_timeout_us;
      gs_mutex_unlock (&server->lock);
    }
  http_metrics_ended (request, why != MHD_REQUEST_TERMINATED_COMPLETED_OK);
  http_request_unref (request);
}
