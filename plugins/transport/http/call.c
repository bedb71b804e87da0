/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - a request as a call of the host: its payload, its stream's slots, its end. */
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <gitstead/v1/git.pb-c.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <unistd.h>
#include <wire/wire.h>

#define METHOD_ADVERTISE 400u
#define METHOD_UPLOAD_PACK 401u
#define METHOD_RECEIVE_PACK 402u

/* ------------------------------------------------------------------------- slots of the stream */

static gboolean
stream_accept (GsStream *stream)
{
  HttpRequest *request = (HttpRequest *) stream;
  gs_mutex_lock (&request->lock);
  request->accepted = TRUE;
  http_request_wake_locked (request);
  gs_mutex_unlock (&request->lock);
  return TRUE;
}

/* A pipe whose end @ours (0 reads, 1 writes) does not block; the other one blocks, as children expect. */
static gboolean
make_pipe (int ours, int ret_fds[2], GError **error)
{
  int fds[2];
  if (pipe2 (fds, O_CLOEXEC) != 0)
    {
      int err = errno;
      return gs_fail (error, gs_error_from_errno (err), "can't make a pipe for the connection's bytes: %s",
                      g_strerror (err));
    }
  if (fcntl (fds[ours], F_SETFL, O_NONBLOCK) != 0)
    {
      int err = errno;
      close (fds[0]);
      close (fds[1]);
      return gs_fail (error, gs_error_from_errno (err), "can't set up a pipe for the connection's bytes: %s",
                      g_strerror (err));
    }
  ret_fds[0] = fds[0];
  ret_fds[1] = fds[1];
  return TRUE;
}

static int
stream_open_input (GsStream *stream, GError **error)
{
  HttpRequest *request = (HttpRequest *) stream;
  gboolean gone, again;
  int fds[2], surplus = -1;
  if (!make_pipe (1, fds, error))
    return -1;
  gs_mutex_lock (&request->lock);
  gone = request->gone;
  again = request->input_opened;
  request->input_opened = TRUE;
  if (gone || again || request->input_ended || stream->complete)
    surplus = fds[1];
  else
    request->input = fds[1];
  http_request_wake_locked (request);
  gs_mutex_unlock (&request->lock);
  if (surplus >= 0)
    close (surplus);
  if (!gone && !again)
    return fds[0];
  close (fds[0]);
  gs_fail (error, gone ? GS_ERROR_CANCELLED : GS_ERROR_INTERNAL,
           gone ? "the client left" : "the request's input was opened twice");
  return -1;
}

static int
stream_open_output (GsStream *stream, GError **error)
{
  HttpRequest *request = (HttpRequest *) stream;
  gboolean gone, again;
  int fds[2];
  if (!make_pipe (0, fds, error))
    return -1;
  gs_mutex_lock (&request->lock);
  gone = request->gone;
  again = request->output >= 0 || request->output_eof || request->whole != NULL;
  if (!gone && !again)
    {
      request->output = fds[0];
      http_request_wake_locked (request);
    }
  gs_mutex_unlock (&request->lock);
  if (!gone && !again)
    return fds[1];
  close (fds[0]);
  close (fds[1]);
  gs_fail (error, gone ? GS_ERROR_CANCELLED : GS_ERROR_INTERNAL,
           gone ? "the client left" : "the request's output was opened twice");
  return -1;
}

static gboolean
stream_send_all (GsStream *stream, GBytes *bytes, GError **error)
{
  HttpRequest *request = (HttpRequest *) stream;
  gboolean gone, again;
  gs_mutex_lock (&request->lock);
  gone = request->gone;
  again = request->output >= 0 || request->output_eof || request->whole != NULL;
  if (!gone && !again)
    request->whole = g_bytes_ref (bytes);
  gs_mutex_unlock (&request->lock);
  if (gone)
    return gs_fail (error, GS_ERROR_CANCELLED, "the client left");
  if (again)
    return gs_fail (error, GS_ERROR_INTERNAL, "the request's output was given twice");
  return TRUE;
}

static void
call_done (gpointer user, const GsOutcome *outcome)
{
  HttpRequest *request = user;
  gs_mutex_lock (&request->lock);
  request->done = TRUE;
  request->code = outcome->code;
  request->retry = outcome->retry;
  request->retry_after_us = outcome->retry_after_us;
  request->message = g_strdup (outcome->message);
  request->payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL;
  if (GS_HAS (outcome, outcome->size, GsOutcome, details) && outcome->details != NULL)
    request->details = g_bytes_ref (outcome->details);
  request->generation = GS_HAS (outcome, outcome->size, GsOutcome, generation) ? outcome->generation : 0;
  http_request_wake_locked (request);
  gs_mutex_unlock (&request->lock);
  http_request_unref (request);
}

/* ------------------------------------------------------------------------------------ beginning */

static GBytes *
git_payload (HttpRequest *request, guint32 *ret_method)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__GitAdvertiseRequest advertise = GITSTEAD__V1__GIT_ADVERTISE_REQUEST__INIT;
  Gitstead__V1__GitUploadPackRequest upload = GITSTEAD__V1__GIT_UPLOAD_PACK_REQUEST__INIT;
  Gitstead__V1__GitReceivePackRequest receive = GITSTEAD__V1__GIT_RECEIVE_PACK_REQUEST__INIT;
  char *protocol = (char *) (request->guard.git_protocol != NULL ? request->guard.git_protocol : "");
  const ProtobufCMessage *message;

  repository.path = request->route.target;
  switch (request->route.kind)
    {
    case ROUTE_INFO_REFS:
      advertise.repository = &repository;
      advertise.protocol = protocol;
      advertise.service = request->route.service == SERVICE_UPLOAD_PACK
                              ? GITSTEAD__V1__GIT_SERVICE_KIND__GIT_UPLOAD_PACK
                              : GITSTEAD__V1__GIT_SERVICE_KIND__GIT_RECEIVE_PACK;
      *ret_method = METHOD_ADVERTISE;
      message = &advertise.base;
      break;
    case ROUTE_UPLOAD_PACK:
      upload.repository = &repository;
      upload.protocol = protocol;
      upload.stateless = TRUE;
      *ret_method = METHOD_UPLOAD_PACK;
      message = &upload.base;
      break;
    default:
      receive.repository = &repository;
      receive.protocol = protocol;
      receive.stateless = TRUE;
      *ret_method = METHOD_RECEIVE_PACK;
      message = &receive.base;
      break;
    }
  return gs_wire_encode (message);
}

/* The common name of the client's certificate; NULL when it showed none that our authority signed. */
static char *
certificate_name (struct MHD_Connection *connection)
{
  const union MHD_ConnectionInfo *info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
  gnutls_session_t session = info != NULL ? info->tls_session : NULL;
  const gnutls_datum_t *chain;
  gnutls_x509_crt_t certificate;
  /* What a client certificate is for, so that no server's certificate passes as one. */
  gnutls_typed_vdata_st purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
                                    .data = (unsigned char *) GNUTLS_KP_TLS_WWW_CLIENT };
  guint count = 0, status = 0;
  char name[256];
  size_t size = sizeof name;
  char *found = NULL;

  if (session == NULL || (chain = gnutls_certificate_get_peers (session, &count)) == NULL || count == 0)
    return NULL;
  if (gnutls_certificate_verify_peers (session, &purpose, 1, &status) != GNUTLS_E_SUCCESS || status != 0)
    return NULL;
  if (gnutls_x509_crt_init (&certificate) != GNUTLS_E_SUCCESS)
    return NULL;
  if (gnutls_x509_crt_import (certificate, &chain[0], GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS
      && gnutls_x509_crt_get_dn_by_oid (certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) == GNUTLS_E_SUCCESS
      && strlen (name) == size && g_utf8_validate (name, (gssize) size, NULL))
    found = g_strndup (name, size);
  gnutls_x509_crt_deinit (certificate);
  return found;
}

static gint64
timeout_of (HttpRequest *request)
{
  gint64 timeout_us = HTTP_OPTION (request->server, request_timeout_us);
  guint64 wanted_ms = 0;
  if (request->guard.timeout_ms != NULL
      && g_ascii_string_to_unsigned (request->guard.timeout_ms, 10, 1, G_MAXINT32, &wanted_ms, NULL))
    {
      gint64 wanted_us = (gint64) wanted_ms * 1000;
      timeout_us = timeout_us == 0 ? wanted_us : MIN (timeout_us, wanted_us);
    }
  return timeout_us;
}

static void
set_up_stream (HttpRequest *request, GBytes *body, gboolean complete)
{
  request->stream.size = sizeof (GsStream);
  request->stream.head = g_bytes_ref (body);
  request->stream.complete = complete;
  request->stream.accept = stream_accept;
  request->stream.open_input = stream_open_input;
  request->stream.open_output = stream_open_output;
  request->stream.send_all = stream_send_all;
}

static void
begin (HttpRequest *request, const GsInbound *inbound)
{
  const GsHost *host = request->server->host;
  GsCallHandle handle;
  gboolean cancel;

  gs_mutex_lock (&request->lock);
  request->began = TRUE;
  if (inbound->timeout_us > 0)
    request->deadline_us = host->now_us (host) + inbound->timeout_us + HTTP_GRACE_US;
  gs_mutex_unlock (&request->lock);
  http_request_connection_deadline (
      request, inbound->timeout_us > 0 ? host->now_us (host) + inbound->timeout_us + 2 * HTTP_GRACE_US : G_MAXINT64);
  http_request_ref (request); /* the call's; dropped by call_done */
  handle = host->call_begin (host, inbound);
  gs_mutex_lock (&request->lock);
  request->handle = handle;
  request->handle_known = TRUE;
  cancel = request->cancelled && !request->done;
  gs_mutex_unlock (&request->lock);
  if (cancel)
    host->call_cancel (host, handle);
}

void
http_call_begin (HttpRequest *request, gboolean complete)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) body = NULL;
  g_autofree char *name = NULL;
  GsInbound inbound = { .size = sizeof inbound, .done = call_done, .user = request, .peer = request->peer };
  Auth auth;

  body = request->collected != NULL ? g_byte_array_free_to_bytes (g_steal_pointer (&request->collected))
                                    : g_bytes_new_static ("", 0);
  if (!auth_parse (request->guard.authorization, &auth, &error))
    {
      http_request_fail (request, http_status_of (error->code, TRUE), "%s", error->message);
      return;
    }
  if (auth.credentials.kind == GS_CREDENTIALS_NONE && request->listener->tls
      && request->server->options.tls_client_ca != NULL && (name = certificate_name (request->connection)) != NULL)
    {
      auth.credentials.kind = GS_CREDENTIALS_CERTIFICATE;
      auth.credentials.certificate = name;
    }
  request->anonymous = auth.credentials.kind == GS_CREDENTIALS_NONE;
  inbound.credentials = &auth.credentials;
  inbound.timeout_us = timeout_of (request);
  if (request->guard.call_id != NULL)
    gs_unhex (request->guard.call_id, GS_TXID_SIZE, inbound.call_id.bytes);
  if (request->guard.generation != NULL)
    g_ascii_string_to_unsigned (request->guard.generation, 10, 0, G_MAXINT64, &inbound.generation, NULL);
  if (request->route.kind == ROUTE_API)
    {
      inbound.encoding = GS_ENCODING_JSON;
      inbound.method_name = request->route.target;
      inbound.payload = g_bytes_ref (body);
    }
  else
    {
      inbound.payload = git_payload (request, &inbound.method);
      set_up_stream (request, body, complete);
      inbound.stream = &request->stream;
    }
  begin (request, &inbound);
  g_bytes_unref (inbound.payload);
  auth_clear (&auth);
}
