/* SPDX-License-Identifier: Apache-2.0 */
/* handler.c - what the library calls for every request: the checks at its beginning, then its phases. */
#include "http.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static enum MHD_Result
take_header (void *user, enum MHD_ValueKind kind, const char *key, size_t key_size, const char *value,
             size_t value_size)
{
  guard_header (user, key, key_size, value, value_size);
  return MHD_YES;
}

static gboolean
is_loopback (struct MHD_Connection *connection)
{
  const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  if (info == NULL || info->client_addr == NULL)
    return FALSE;
  if (info->client_addr->sa_family == AF_INET)
    {
      struct sockaddr_in in;
      memcpy (&in, info->client_addr, sizeof in);
      return (ntohl (in.sin_addr.s_addr) >> 24) == 127;
    }
  if (info->client_addr->sa_family == AF_INET6)
    {
      struct sockaddr_in6 in6;
      memcpy (&in6, info->client_addr, sizeof in6);
      return IN6_IS_ADDR_LOOPBACK (&in6.sin6_addr)
             || (IN6_IS_ADDR_V4MAPPED (&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
    }
  return FALSE;
}

/* ------------------------------------------------------------------------------------------ pages */

static enum MHD_Result
answer_page (HttpRequest *request)
{
  HttpServer *server = request->server;
  const GsHost *host = server->host;
  gboolean ok = TRUE;
  GBytes *page;
  switch (request->route.kind)
    {
    case ROUTE_HEALTH:
      return http_answer_bytes (request, 200, "text/plain; charset=utf-8", g_bytes_new_static ("ok\n", 3));
    case ROUTE_READY:
      if (__atomic_load_n (&server->draining, __ATOMIC_ACQUIRE))
        return http_answer_error (request, 503, "the server is shutting down");
      page = host->page (host, GS_PAGE_READY, &ok);
      return http_answer_bytes (request, ok ? 200 : 503, "text/plain; charset=utf-8", page);
    case ROUTE_METRICS:
      if (HTTP_OPTION (server, metrics_off) || (HTTP_OPTION (server, metrics_loopback) && !is_loopback (request->connection)))
        return http_answer_error (request, 403, "metrics are not shown here (option metrics_access)");
      page = host->page (host, GS_PAGE_METRICS, &ok);
      return http_answer_bytes (request, 200, "text/plain; version=0.0.4; charset=utf-8", page);
    default:
      page = host->page (host, GS_PAGE_STATUS, &ok);
      return http_answer_bytes (request, 200, "text/html; charset=utf-8", page);
    }
}

/* ----------------------------------------------------------------------------------- first checks */

/* FALSE when the answer is a refusal: then *@ret_status and @ret_why say which. */
static gboolean
check_method (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  gboolean get = strcmp (request->method, "GET") == 0, head = strcmp (request->method, "HEAD") == 0;
  gboolean post = strcmp (request->method, "POST") == 0;
  switch (request->route.kind)
    {
    case ROUTE_NONE:
      *ret_status = 404;
      *ret_why = "there is nothing here; a repository's clone URL ends in its path, as in /group/project.git";
      return FALSE;
    case ROUTE_INFO_REFS:
      *ret_status = 405;
      *ret_why = "only GET is understood here";
      return get;
    case ROUTE_UPLOAD_PACK:
    case ROUTE_RECEIVE_PACK:
    case ROUTE_API:
      *ret_status = 405;
      *ret_why = "only POST is understood here";
      return post;
    default:
      *ret_status = 405;
      *ret_why = "only GET and HEAD are understood here";
      return get || head;
    }
}

static gboolean
is_gzip (const char *encoding)
{
  return encoding != NULL
         && (g_ascii_strcasecmp (encoding, "gzip") == 0 || g_ascii_strcasecmp (encoding, "x-gzip") == 0);
}

/* Is this a body of the kind that the route takes? */
static gboolean
check_body (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  const Guard *guard = &request->guard;
  RouteKind route = request->route.kind;
  if (route != ROUTE_UPLOAD_PACK && route != ROUTE_RECEIVE_PACK && route != ROUTE_API)
    {
      *ret_status = 400;
      *ret_why = "this request takes no body";
      return !guard->has_body;
    }
  *ret_status = 415;
  if (guard->content_encoding != NULL && !is_gzip (guard->content_encoding)
      && g_ascii_strcasecmp (guard->content_encoding, "identity") != 0)
    {
      *ret_why = "the only Content-Encoding understood is 'gzip'";
      return FALSE;
    }
  if (route == ROUTE_API)
    {
      gsize length = guard->content_type != NULL ? strcspn (guard->content_type, "; ") : 0;
      *ret_why = "the body must be JSON (Content-Type: application/json)";
      return length == strlen ("application/json")
             && g_ascii_strncasecmp (guard->content_type, "application/json", length) == 0;
    }
  *ret_why = route == ROUTE_UPLOAD_PACK ? "the Content-Type must be 'application/x-git-upload-pack-request'"
                                        : "the Content-Type must be 'application/x-git-receive-pack-request'";
  return g_strcmp0 (guard->content_type, route == ROUTE_UPLOAD_PACK ? "application/x-git-upload-pack-request"
                                                                    : "application/x-git-receive-pack-request")
         == 0;
}

/* Headers of ours and of git's. */
static gboolean
check_extras (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  const Guard *guard = &request->guard;
  guint8 id[GS_TXID_SIZE];
  guint64 number;
  *ret_status = 400;
  if (guard->git_protocol != NULL && !route_protocol_valid (guard->git_protocol))
    {
      *ret_why = "the Git-Protocol header is too long or has characters that git does not use";
      return FALSE;
    }
  if (guard->call_id != NULL
      && (strlen (guard->call_id) != 2 * GS_TXID_SIZE || !gs_unhex (guard->call_id, GS_TXID_SIZE, id)))
    {
      *ret_why = "X-Gitstead-Call-Id is not 32 hex digits";
      return FALSE;
    }
  if (guard->timeout_ms != NULL && !g_ascii_string_to_unsigned (guard->timeout_ms, 10, 1, G_MAXINT32, &number, NULL))
    {
      *ret_why = "X-Gitstead-Timeout-Ms is not a number of milliseconds from 1 to 2147483647";
      return FALSE;
    }
  if (guard->generation != NULL && !g_ascii_string_to_unsigned (guard->generation, 10, 0, G_MAXINT64, &number, NULL))
    {
      *ret_why = "X-Gitstead-Generation is not a generation, which is a number from 0 to 9223372036854775807";
      return FALSE;
    }
  return TRUE;
}

static gboolean
check_size (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  HttpServer *server = request->server;
  guint64 limit = request->route.kind == ROUTE_API ? HTTP_OPTION (server, json_body_max) : HTTP_OPTION (server, max_body);
  if (request->guard.length == G_MAXUINT64 || limit == 0 || request->guard.length <= limit)
    return TRUE;
  *ret_status = 413;
  *ret_why = "the request's body is larger than this server takes";
  return FALSE;
}

static gboolean
check_api_method (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  const GsHost *host = request->server->host;
  GsMethodInfo info = { .size = sizeof info };
  if (request->route.kind != ROUTE_API)
    return TRUE;
  if (!host->method (host, 0, request->route.target, &info))
    {
      *ret_status = 404;
      *ret_why = "there is no such method; Server/Methods lists them";
      return FALSE;
    }
  *ret_status = 501;
  *ret_why = "this method sends or takes a stream of bytes, which JSON can't carry; use git, or the nng API";
  return !info.streams_in && !info.streams_out;
}

static gboolean
check_request (HttpRequest *request, guint *ret_status, const char **ret_why)
{
  if (!check_method (request, ret_status, ret_why) || !check_extras (request, ret_status, ret_why)
      || !check_body (request, ret_status, ret_why) || !check_size (request, ret_status, ret_why)
      || !check_api_method (request, ret_status, ret_why))
    return FALSE;
  *ret_status = 503;
  *ret_why = "the server is shutting down";
  return request->route.kind == ROUTE_HEALTH || request->route.kind == ROUTE_READY
         || !__atomic_load_n (&request->server->draining, __ATOMIC_ACQUIRE);
}

/* ----------------------------------------------------------------------------------- first call */

/* The host decides before the body is read: refuse at once, go on at once, or wait for its word. */
static enum MHD_Result
ask (HttpRequest *request)
{
  enum MHD_Result result = MHD_YES;
  gboolean over;
  gs_mutex_lock (&request->lock);
  over = request->done || request->expired || request->local_status != 0;
  if (!over && request->accepted)
    request->phase = PHASE_STREAM;
  else if (!over && !http_request_suspend_locked (request, 0))
    result = MHD_NO;
  gs_mutex_unlock (&request->lock);
  return over ? http_answer_call (request) : result;
}

/* The body is read to its end. */
static enum MHD_Result
last_call (HttpRequest *request)
{
  gboolean began;
  HttpFlow flow = http_body_end (request);
  if (flow != FLOW_GO)
    return flow == FLOW_WAIT ? MHD_YES : MHD_NO;
  gs_mutex_lock (&request->lock);
  began = request->began || request->local_status != 0;
  gs_mutex_unlock (&request->lock);
  if (!began)
    http_call_begin (request, TRUE);
  return http_answer_call (request);
}

static enum MHD_Result
begin_body (HttpRequest *request)
{
  HttpServer *server = request->server;
  const Guard *guard = &request->guard;
  gboolean gzip = is_gzip (guard->content_encoding), api = request->route.kind == ROUTE_API;
  g_autoptr (GError) error = NULL;
  guint64 max_body = HTTP_OPTION (server, max_body), max_inflate = HTTP_OPTION (server, max_inflate);

  if (!decoder_init (&request->decoder, gzip, max_body, !gzip ? 0 : max_inflate != 0 ? max_inflate : max_body, &error))
    return http_answer_error (request, 503, error->message);
  if (gzip)
    request->decoded = g_byte_array_new ();
  if (!api && guard->has_body && (guard->expects_continue || guard->length > HTTP_HEAD_MAX))
    {
      request->phase = PHASE_ASK;
      http_call_begin (request, FALSE);
      return ask (request);
    }
  request->phase = PHASE_COLLECT;
  request->collect_max = api ? HTTP_OPTION (server, json_body_max) + 1 : HTTP_HEAD_MAX;
  if (!gzip && !api)
    request->collect_max++; /* its length is known to fit */
  request->collected = g_byte_array_sized_new ((guint) MIN (guard->length, HTTP_HEAD_MAX));
  if (!guard->has_body)
    return last_call (request);
  http_request_connection_deadline (request, request->begun_us + 2 * server->options.idle_timeout_us);
  return MHD_YES;
}

/* The header is read and its framing is beyond doubt: refuse, answer, or go on to the body. */
static enum MHD_Result
start (HttpRequest *request)
{
  g_autoptr (GError) error = NULL;
  const char *why = NULL;
  guint status = 0;
  Auth auth;

  http_request_connection_deadline (request, G_MAXINT64);
  if (!route_parse (request->uri, &request->route, &error))
    return http_answer_error (request, http_status_of (error->code, FALSE), error->message);
  if (!check_request (request, &status, &why))
    return http_answer_error (request, status, why);
  if (!auth_parse (request->guard.authorization, &auth, &error))
    return http_answer_error (request, http_status_of (error->code, TRUE), error->message);
  auth_clear (&auth);

  switch (request->route.kind)
    {
    case ROUTE_INFO_REFS:
      if (request->route.service == SERVICE_NONE)
        return http_answer_error (request, 403,
                                  "this server speaks git's smart HTTP protocol only, and the request is of the dumb "
                                  "one; use git 1.6.6 or later");
      request->phase = PHASE_RESULT;
      http_call_begin (request, TRUE);
      return http_answer_call (request);
    case ROUTE_UPLOAD_PACK:
    case ROUTE_RECEIVE_PACK:
    case ROUTE_API:
      return begin_body (request);
    default:
      return answer_page (request);
    }
}

static enum MHD_Result
first_call (HttpRequest *request, const char *method, const char *version)
{
  const char *why = NULL;
  guint status;

  g_strlcpy (request->method, method, sizeof request->method);
  MHD_get_connection_values_n (request->connection, MHD_HEADER_KIND, take_header, &request->guard);
  status = guard_check (&request->guard, strcmp (version, "HTTP/1.0") != 0, &why);
  if (status != 0)
    return http_answer_error (request, status, why);
  if (request->guard.has_body)
    return start (request);
  /* An answer in the library's first call ends the connection; without a body, the second one comes at once. */
  request->phase = PHASE_BARE;
  return MHD_YES;
}

enum MHD_Result
http_handle (void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
             const char *data, size_t *length, void **context)
{
  HttpRequest *request = *context;
  gboolean cut;
  if (request == NULL)
    return MHD_NO;
  gs_mutex_lock (&request->lock);
  cut = request->gone || __atomic_load_n (&request->server->stopping, __ATOMIC_ACQUIRE);
  gs_mutex_unlock (&request->lock);
  if (cut)
    return MHD_NO;
  switch (request->phase)
    {
    case PHASE_NEW:
      return first_call (request, method, version);
    case PHASE_BARE:
      return start (request);
    case PHASE_ASK:
      return ask (request);
    case PHASE_COLLECT:
    case PHASE_STREAM:
    case PHASE_DRAIN:
      if (*length > 0)
        return http_body_take (request, data, length) ? MHD_YES : MHD_NO;
      return last_call (request);
    case PHASE_RESULT:
      return http_answer_call (request);
    default:
      return MHD_NO;
    }
}
