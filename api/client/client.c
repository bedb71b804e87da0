/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: who we are, one connection for all, repeats. See gitstead-client.h. */
#include "link.h"

#include <errno.h>
#include <sys/random.h>
#include <wire/details.h>
#include <wire/token.h>

#define TIMEOUT_US (30 * G_USEC_PER_SEC)
#define CONNECT_US (5 * G_USEC_PER_SEC)
#define ATTEMPTS 10
#define FIRST_PAUSE_US (50 * 1000)
#define LONGEST_PAUSE_US (2 * G_USEC_PER_SEC)
#define HEADER_ARENA (128 * 1024)

void
gs_client_random (void *to, gsize len)
{
  guint8 *at = to;
  while (len > 0)
    {
      ssize_t n = getrandom (at, len, 0);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0) /* every kernel we run on has it */
        g_error ("getrandom: %s", g_strerror (errno));
      at += n;
      len -= (gsize) n;
    }
}

/* ---------------------------------------------------------------------------------------- options */

static gboolean
setup_tls (GsClient *client, const GsClientOptions *options, GError **error)
{
  GsAddress *address = &client->address;
  int rv = gnutls_certificate_allocate_credentials (&address->credentials);
  if (rv < 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS: %s", gnutls_strerror (rv));
  rv = options->tls_ca != NULL
           ? gnutls_certificate_set_x509_trust_file (address->credentials, options->tls_ca, GNUTLS_X509_FMT_PEM)
           : gnutls_certificate_set_x509_system_trust (address->credentials);
  if (rv <= 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "TLS: authorities %s: %s",
                    options->tls_ca != NULL ? options->tls_ca : "of the system",
                    rv == 0 ? "no certificate found" : gnutls_strerror (rv));
  if ((options->tls_certificate == NULL) != (options->tls_key == NULL))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "TLS: a client certificate needs its key, and the other way round");
  if (options->tls_certificate != NULL
      && (rv = gnutls_certificate_set_x509_key_file (address->credentials, options->tls_certificate, options->tls_key,
                                                     GNUTLS_X509_FMT_PEM))
             < 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "TLS: certificate %s with key %s: %s", options->tls_certificate,
                    options->tls_key, gnutls_strerror (rv));
  address->server_name = g_strdup (options->tls_server_name != NULL ? options->tls_server_name : address->host);
  return TRUE;
}

static gboolean
setup_token (GsClient *client, const char *token, GError **error)
{
  const char *secret;
  if (token == NULL || token[0] == '\0')
    return TRUE;
  if (!gs_token_parse (token, client->token_id, &secret))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the token has not the form gs_<12 characters>_<43 characters>; was it cut off?");
  client->token = g_strdup (token);
  gs_token_signing_key (secret, client->signing_key);
  return TRUE;
}

GsClient *
gs_client_new (const GsClientOptions *options, GError **error)
{
  g_autoptr (GsClient) client = g_new0 (GsClient, 1);
  gs_mutex_init (&client->lock);
  gs_cond_init (&client->changed);
  client->agent = g_strdup (options->agent != NULL ? options->agent : "libgitstead/0.1.0");
  client->timeout_us = options->timeout_us > 0 ? options->timeout_us : TIMEOUT_US;
  client->connect_timeout_us = options->connect_timeout_us > 0 ? options->connect_timeout_us : CONNECT_US;
  client->max_attempts = options->max_attempts > 0 ? options->max_attempts : ATTEMPTS;
  if (GS_HAS (options, options->size, GsClientOptions, retrying_user))
    {
      client->retrying = options->retrying;
      client->retrying_user = options->retrying_user;
    }
  if (options->url == NULL)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "no server address was given");
      return NULL;
    }
  if (!gs_address_parse (&client->address, options->url, FALSE, error) || !setup_token (client, options->token, error)
      || (client->address.scheme == GS_LINK_TLS && !setup_tls (client, options, error)))
    return NULL;
  client->methods = gs_wire_methods_new (error);
  return client->methods != NULL ? g_steal_pointer (&client) : NULL;
}

void
gs_client_free (GsClient *client)
{
  if (client == NULL)
    return;
  gs_link_unref (client->link);
  gs_address_clear (&client->address);
  gs_wire_methods_free (client->methods);
  if (client->token != NULL)
    memset (client->token, 0, strlen (client->token));
  g_free (client->token);
  g_free (client->agent);
  gs_cond_clear (&client->changed);
  gs_mutex_clear (&client->lock);
  g_free (client);
}

const GsWireMethods *
gs_client_methods (const GsClient *client)
{
  return client->methods;
}

char *
gs_client_what (const GsClient *client, guint32 method)
{
  const GsWireMethod *row = gs_wire_methods_find (client->methods, method, NULL);
  if (row != NULL)
    return g_strdup_printf ("%s on %s", row->name, client->address.url);
  return g_strdup_printf ("method %u on %s", method, client->address.url);
}

const char *
gs_client_said (const char *what, const char *said)
{
  gsize len = strcspn (what, " ");
  return strncmp (said, what, len) == 0 && said[len] == ':' && said[len + 1] == ' ' ? said + len + 2 : said;
}

/* -------------------------------------------------------------------------------------- envelopes */

static void
sign (const GsClient *client, guint32 method, const GsTxId *call_id, GBytes *payload, Gitstead__V1__Signature *signature,
      guint8 nonce[GS_FRAME_NONCE_SIZE], guint8 tag[32])
{
  gsize len = 0;
  const guint8 *bytes = payload != NULL ? g_bytes_get_data (payload, &len) : NULL;
  g_autoptr (GBytes) data = NULL;
  gs_client_random (nonce, GS_FRAME_NONCE_SIZE);
  signature->key_id = (char *) client->token_id;
  signature->time = (guint64) (g_get_real_time () / G_USEC_PER_SEC);
  signature->nonce.data = nonce;
  signature->nonce.len = GS_FRAME_NONCE_SIZE;
  data = gs_frame_signed_data (method, call_id, client->token_id, signature->time, nonce, bytes, len);
  gs_token_hmac (client->signing_key, g_bytes_get_data (data, NULL), g_bytes_get_size (data), tag);
  signature->tag.data = tag;
  signature->tag.len = 32;
}

static GByteArray *
build_envelope (const GsClient *client, guint32 method, const GsClientCall *call, guint32 attempt, gint64 left_us,
                GBytes *payload)
{
  Gitstead__V1__RequestHeader header = GITSTEAD__V1__REQUEST_HEADER__INIT;
  Gitstead__V1__Auth auth = GITSTEAD__V1__AUTH__INIT;
  Gitstead__V1__Signature signature = GITSTEAD__V1__SIGNATURE__INIT;
  guint8 nonce[GS_FRAME_NONCE_SIZE], tag[32];
  GByteArray *envelope = g_byte_array_new ();
  gsize header_len, payload_len = payload != NULL ? g_bytes_get_size (payload) : 0;

  header.call_id.data = (guint8 *) call->call_id.bytes;
  header.call_id.len = GS_TXID_SIZE;
  header.attempt = attempt;
  header.timeout_ms = (guint32) CLAMP (left_us / 1000, 1, G_MAXINT32);
  header.agent = client->agent;
  header.generation = GS_HAS (call, call->size, GsClientCall, generation) ? call->generation : 0;
  if (call->trace != NULL)
    header.trace = (char *) call->trace;
  if (client->token != NULL)
    {
      header.auth = &auth;
      if (client->address.scheme == GS_LINK_TCP)
        {
          sign (client, method, &call->call_id, payload, &signature, nonce, tag);
          auth.signature = &signature;
        }
      else
        auth.bearer = client->token;
    }
  header_len = gitstead__v1__request_header__get_packed_size (&header);
  g_byte_array_set_size (envelope, (guint) (GS_FRAME_PREFIX_SIZE + header_len));
  gs_frame_prefix_write (envelope->data, 0, method, (guint32) header_len, (guint32) payload_len);
  gitstead__v1__request_header__pack (&header, envelope->data + GS_FRAME_PREFIX_SIZE);
  if (payload_len > 0)
    g_byte_array_append (envelope, g_bytes_get_data (payload, NULL), (guint) payload_len);
  return envelope;
}

void
gs_client_details (GError **error, const Gitstead__V1__ErrorDetails *details)
{
  if (error != NULL && *error != NULL)
    gs_details_set (*error, details);
}

void
gs_client_verdict (const Gitstead__V1__ReplyHeader *header, GsRetry *ret_retry, gint64 *ret_retry_after_us)
{
  *ret_retry = (guint) header->retry <= GS_RETRY_NEW ? (GsRetry) header->retry : GS_RETRY_NEVER;
  *ret_retry_after_us = (gint64) header->retry_after_ms * 1000;
}

/* Takes a reply apart. TRUE and @ret_payload, or FALSE and @error with the server's word. */
static gboolean
read_reply (GBytes *reply, const char *what, GsClientCall *call, GBytes **ret_payload, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (HEADER_ARENA);
  g_autoptr (GError) why = NULL;
  const Gitstead__V1__ReplyHeader *header = NULL;
  gsize len;
  const guint8 *bytes = g_bytes_get_data (reply, &len);
  GsFrame frame;
  call->ret_retry = GS_RETRY_NEVER;
  if (gs_frame_parse (bytes, len, &frame, &why))
    header = (gpointer) gs_wire_decode (arena, &gitstead__v1__reply_header__descriptor, frame.header, frame.header_len,
                                        &why);
  if (header == NULL || !(frame.flags & GS_FRAME_REPLY))
    return gs_fail (error, GS_ERROR_INTERNAL, "%s: the server's reply makes no sense: %s", what,
                    why != NULL ? why->message : "it is a request");
  call->ret_server_epoch = header->server_epoch;
  if (frame.code == GS_OK)
    {
      if (GS_HAS (call, call->size, GsClientCall, ret_generation))
        call->ret_generation = header->generation;
      *ret_payload = g_bytes_new_from_bytes (reply, (gsize) (frame.payload - bytes), frame.payload_len);
      return TRUE;
    }
  gs_client_verdict (header, &call->ret_retry, &call->ret_retry_after_us);
  gs_fail (error, frame.code <= GS_ERROR_UNAUTHENTICATED ? (GsErrorCode) frame.code : GS_ERROR_INTERNAL, "%s: %s",
           what, header->message[0] != '\0' ? gs_client_said (what, header->message) : gs_error_name ((int) frame.code));
  gs_client_details (error, header->details);
  return FALSE;
}

/* ------------------------------------------------------------------------------------------- calls */

/* The connection, made if there is none. *full*. */
static GsLink *
take_link (GsClient *client, gint64 until_us, GError **error)
{
  GsLink *link, *old = NULL;
  gs_mutex_lock (&client->lock);
  while (client->connecting)
    if (!gs_cond_wait_until (&client->changed, &client->lock, until_us))
      break;
  if (client->connecting)
    {
      gs_mutex_unlock (&client->lock);
      gs_fail (error, GS_ERROR_UNAVAILABLE, "connect to %s: no answer in time", client->address.url);
      return NULL;
    }
  link = client->link;
  if (link != NULL && !gs_link_is_broken (link))
    {
      gs_link_ref (link);
      gs_mutex_unlock (&client->lock);
      return link;
    }
  old = g_steal_pointer (&client->link);
  client->connecting = TRUE;
  gs_mutex_unlock (&client->lock);
  gs_link_unref (old);
  link = gs_link_open (&client->address, MIN (until_us, g_get_monotonic_time () + client->connect_timeout_us), error);
  gs_mutex_lock (&client->lock);
  client->connecting = FALSE;
  client->link = link != NULL ? gs_link_ref (link) : NULL;
  gs_cond_broadcast (&client->changed);
  gs_mutex_unlock (&client->lock);
  return link;
}

/* One try. Every failure sets call->ret_retry. */
static gboolean
try_once (GsClient *client, guint32 method, GBytes *payload, GsClientCall *call, guint32 attempt, gint64 until_us,
          GBytes **ret_payload, GError **error)
{
  g_autofree char *what = gs_client_what (client, method);
  g_autoptr (GByteArray) envelope = NULL;
  g_autoptr (GBytes) reply = NULL;
  GsPending pending;
  GsLink *link;
  call->ret_retry = GS_RETRY_SAME;
  call->ret_retry_after_us = 0;
  link = take_link (client, until_us, error);
  if (link == NULL)
    {
      g_prefix_error (error, "%s: ", what);
      return FALSE;
    }
  envelope = build_envelope (client, method, call, attempt, until_us - g_get_monotonic_time (), payload);
  gs_link_call (link, envelope, until_us, call, &pending);
  gs_link_unref (link);
  reply = pending.reply;
  if (reply != NULL)
    return read_reply (reply, what, call, ret_payload, error);
  if (pending.stopped)
    {
      call->ret_retry = GS_RETRY_NEVER;
      return gs_fail (error, GS_ERROR_CANCELLED, "%s: the caller gave it up", what);
    }
  if (!pending.begun)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "%s: the connection broke before the request was sent", what);
  if (pending.failed)
    return gs_fail (error, GS_ERROR_UNKNOWN,
                    "%s: the connection broke before the reply came; it may or may not have been done", what);
  return gs_fail (error, GS_ERROR_DEADLINE_EXCEEDED, "%s: no reply in time; it may or may not have been done", what);
}

gboolean
gs_client_pause (guint32 attempt, gint64 advice_us, gint64 until_us)
{
  gint64 now_us = g_get_monotonic_time ();
  gint64 pause_us = MIN (FIRST_PAUSE_US << MIN (attempt, 10), LONGEST_PAUSE_US);
  guint32 dice;
  GsMutex lock;
  GsCond never;
  gs_client_random (&dice, sizeof dice);
  pause_us = pause_us / 2 + dice % (pause_us / 2); /* so that many clients do not come back together */
  pause_us = MAX (pause_us, advice_us);
  if (now_us + pause_us >= until_us)
    return FALSE;
  gs_mutex_init (&lock);
  gs_cond_init (&never);
  gs_mutex_lock (&lock);
  while (gs_cond_wait_until (&never, &lock, now_us + pause_us))
    ;
  gs_mutex_unlock (&lock);
  gs_cond_clear (&never);
  gs_mutex_clear (&lock);
  return TRUE;
}

static gboolean
is_zero (const GsTxId *id)
{
  static const GsTxId zero;
  return memcmp (id, &zero, sizeof zero) == 0;
}

gboolean
gs_client_call_raw (GsClient *client, guint32 method, GBytes *payload, GsClientCall *call, GBytes **ret_payload,
                    GError **error)
{
  GsClientCall own = { .size = sizeof own };
  g_autoptr (GBytes) reply = NULL;
  gint64 until_us;
  if (call == NULL)
    call = &own;
  if (is_zero (&call->call_id))
    gs_client_random (call->call_id.bytes, sizeof call->call_id.bytes);
  until_us = g_get_monotonic_time () + (call->timeout_us > 0 ? call->timeout_us : client->timeout_us);
  for (guint32 attempt = 0;; attempt++)
    {
      g_autoptr (GError) why = NULL;
      call->ret_attempts = attempt + 1;
      if (try_once (client, method, payload, call, attempt, until_us, &reply, &why))
        {
          if (ret_payload != NULL)
            *ret_payload = g_steal_pointer (&reply);
          return TRUE;
        }
      if (call->ret_retry == GS_RETRY_SAME && attempt + 1 < client->max_attempts)
        {
          if (client->retrying != NULL)
            client->retrying (client->retrying_user, attempt + 1, why);
          if (gs_client_pause (attempt, call->ret_retry_after_us, until_us))
            continue;
        }
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
}

/* The method's row, and that @request is of its type. */
static const GsWireMethod *
find_method (GsClient *client, const char *method, const ProtobufCMessage *request, GError **error)
{
  guint64 number = 0;
  const GsWireMethod *row;
  if (!g_ascii_string_to_unsigned (method, 10, 1, G_MAXUINT32, &number, NULL))
    number = 0;
  row = gs_wire_methods_find (client->methods, (guint32) number, method);
  if (row == NULL)
    gs_fail (error, GS_ERROR_UNIMPLEMENTED, "there is no method %s", method);
  else if (request->descriptor != row->request)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s takes a %s, not a %s", row->name, row->input,
               request->descriptor->name);
      row = NULL;
    }
  return row;
}

/* The reply message, when it is asked for. */
static gboolean
decode_reply (const GsWireMethod *row, GBytes *payload, GsArena *arena, ProtobufCMessage **ret_reply, GError **error)
{
  ProtobufCMessage *reply;
  gsize len;
  const guint8 *bytes;
  if (ret_reply == NULL)
    return TRUE;
  bytes = g_bytes_get_data (payload, &len);
  reply = gs_wire_decode (arena, row->reply, bytes, len, error);
  if (reply != NULL)
    *ret_reply = reply;
  return reply != NULL;
}

gboolean
gs_client_call (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call,
                GsArena *arena, ProtobufCMessage **ret_reply, GError **error)
{
  const GsWireMethod *row = find_method (client, method, request, error);
  g_autoptr (GBytes) payload = NULL;
  g_autoptr (GBytes) reply = NULL;
  if (row == NULL)
    return FALSE;
  if (row->bytes_in || row->bytes_out)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s has bulk bytes: open it as a stream", row->name);
  payload = gs_wire_encode (request);
  return gs_client_call_raw (client, row->number, payload, call, &reply, error)
         && decode_reply (row, reply, arena, ret_reply, error);
}

GsClientStream *
gs_client_stream_open (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call,
                       GError **error)
{
  const GsWireMethod *row = find_method (client, method, request, error);
  g_autoptr (GBytes) payload = NULL;
  if (row == NULL)
    return NULL;
  payload = gs_wire_encode (request);
  return gs_client_stream_open_raw (client, row->number, payload, call, error);
}

gboolean
gs_client_stream_finish (GsClientStream *stream, GsArena *arena, ProtobufCMessage **ret_reply, GError **error)
{
  g_autoptr (GBytes) payload = NULL;
  const GsWireMethod *row;
  if (!gs_client_stream_finish_raw (stream, &payload, error))
    return FALSE;
  if (ret_reply == NULL)
    return TRUE;
  row = gs_client_stream_method (stream);
  if (row == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the reply of a method without a name cannot be decoded");
  return decode_reply (row, payload, arena, ret_reply, error);
}
