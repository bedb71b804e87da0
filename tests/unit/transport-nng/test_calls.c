/* SPDX-License-Identifier: Apache-2.0 */
/* Calls as stock nng makes them, credentials, and the life of the transport. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wire/token.h>

#include "nngserver.h"
#include "nt.h"
#include "peer.h"

static NgServer *
start_tcp (void)
{
  g_autoptr (GError) error = NULL;
  NgServer *server = ng_server_new (&error, "listen", "tcp://127.0.0.1:0", NULL);
  if (server == NULL)
    g_error ("start: %s", error->message);
  return server;
}

/* --------------------------------------------------------------------------------- stock nng clients */

static void
ping_100 (Req *req)
{
  for (int i = 0; i < 100; i++)
    {
      Reply reply;
      assert_true (req_call (req, NS_PING, "hello", 5, &reply));
      assert_int_equal (reply.status, 0);
      assert_int_equal (reply.flags, GS_FRAME_REPLY);
      assert_int_equal (reply.payload_len, 5);
      assert_memory_equal (reply.payload, "hello", 5);
      assert_int_equal (reply.header->server_epoch, 4711);
      assert_memory_equal (reply.header->call_id.data, req->last_id.bytes, 16);
      reply_clear (&reply);
    }
}

static void
stock_tcp_and_ipc (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *listen = g_strdup_printf ("tcp://127.0.0.1:0,ipc://%s/s", dir);
  g_autofree char *path = g_strdup_printf ("%s/s", dir);
  g_autofree char *data_path = g_strdup_printf ("%s/s.data", dir);
  g_autoptr (GError) error = NULL;
  g_autoptr (NgServer) server = ng_server_new (&error, "listen", listen, NULL);
  struct stat st;
  assert_null (error);
  for (int i = 0; server->urls[i] != NULL; i++)
    {
      Req *req = req_new (server->urls[i]);
      ping_100 (req);
      req_free (req);
    }
  assert_int_equal (stat (path, &st), 0);
  assert_int_equal (st.st_mode & 0777, 0600);
  assert_int_equal (stat (data_path, &st), 0);
  assert_int_equal (st.st_mode & 0777, 0600);
  g_clear_pointer (&server, ng_server_free);
  assert_int_equal (access (path, F_OK), -1);
  assert_int_equal (access (data_path, F_OK), -1);
  fake_tempdir_remove (dir);
}

static void
make_certificate (const char *certificate, const char *key)
{
  g_autofree char *command
      = g_strdup_printf ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
                         "/CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout %s -out %s",
                         key, certificate);
  g_autofree char *out = NULL;
  assert_true (g_spawn_command_line_sync (command, NULL, &out, NULL, NULL));
}

static void
stock_tls (void **state)
{
  char *dir = fake_tempdir_new ();
  g_autofree char *certificate = g_build_filename (dir, "cert.pem", NULL);
  g_autofree char *key = g_build_filename (dir, "key.pem", NULL);
  g_autoptr (GError) error = NULL;
  nng_tls_config *config;
  nng_dialer dialer;
  Req req = { 0 };
  make_certificate (certificate, key);
  NgServer *server = ng_server_new (&error, "listen", "tls+tcp://127.0.0.1:0", "tls_certificate", certificate, "tls_key",
                                    key, NULL);
  assert_null (error);
  assert_int_equal (nng_req0_open (&req.socket), 0);
  nng_socket_set_ms (req.socket, NNG_OPT_RECVTIMEO, 10000);
  nng_socket_set_ms (req.socket, NNG_OPT_SENDTIMEO, 10000);
  assert_int_equal (nng_tls_config_alloc (&config, NNG_TLS_MODE_CLIENT), 0);
  assert_int_equal (nng_tls_config_ca_file (config, certificate), 0);
  assert_int_equal (nng_tls_config_server_name (config, "localhost"), 0);
  assert_int_equal (nng_tls_config_auth_mode (config, NNG_TLS_AUTH_MODE_REQUIRED), 0);
  assert_int_equal (nng_dialer_create (&dialer, req.socket, server->urls[0]), 0);
  assert_int_equal (nng_dialer_set_ptr (dialer, NNG_OPT_TLS_CONFIG, config), 0);
  assert_int_equal (nng_dialer_start (dialer, 0), 0);
  ping_100 (&req);
  nng_close (req.socket);
  nng_tls_config_free (config);
  ng_server_free (server);
  fake_tempdir_remove (dir);
}

static ssize_t
keep_bytes (gnutls_transport_ptr_t to, const void *bytes, size_t len)
{
  g_byte_array_append (to, bytes, (guint) len);
  return (ssize_t) len;
}

static ssize_t
no_bytes (gnutls_transport_ptr_t from, void *to, size_t len)
{
  errno = EAGAIN;
  return -1;
}

/* The first message of a TLS 1.2 client. *full* */
static GByteArray *
client_hello (void)
{
  GByteArray *bytes = g_byte_array_new ();
  gnutls_certificate_credentials_t credentials;
  gnutls_session_t session;
  assert_int_equal (gnutls_certificate_allocate_credentials (&credentials), 0);
  assert_int_equal (gnutls_init (&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
  gnutls_priority_set_direct (session, "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL);
  gnutls_credentials_set (session, GNUTLS_CRD_CERTIFICATE, credentials);
  gnutls_transport_set_ptr (session, bytes);
  gnutls_transport_set_push_function (session, keep_bytes);
  gnutls_transport_set_pull_function (session, no_bytes);
  assert_int_equal (gnutls_handshake (session), GNUTLS_E_AGAIN);
  gnutls_deinit (session);
  gnutls_certificate_free_credentials (credentials);
  return bytes;
}

/* An alert that is no failure ends a step of the handshake early. What lies behind it must not park the connection. */
static void
tls_alert_and_more (void **state)
{
  static const guint8 alert[] = { 21, 3, 3, 0, 2, 1, 90, 22, 3, 3, 0 }; /* warning: user_canceled; and a bit of a record */
  g_autoptr (GByteArray) bytes = client_hello ();
  char *dir = fake_tempdir_new ();
  g_autofree char *certificate = g_build_filename (dir, "cert.pem", NULL);
  g_autofree char *key = g_build_filename (dir, "key.pem", NULL);
  g_autoptr (GError) error = NULL;
  g_autofree char *url = NULL;
  NgServer *server;
  make_certificate (certificate, key);
  server = ng_server_new (&error, "listen", "tls+tcp://127.0.0.1:0", "tls_certificate", certificate, "tls_key", key,
                          "handshake_timeout", "200ms", NULL);
  assert_null (error);
  url = g_strdup (server->urls[0] + strlen ("tls+"));
  g_byte_array_append (bytes, alert, sizeof alert);
  for (guint cut = 0; cut < sizeof alert; cut++)
    {
      int fd = bare_connect (url);
      assert_true (bare_write (fd, bytes->data, bytes->len - cut));
      assert_true (bare_closed (fd, 10000));
      close (fd);
    }
  ng_server_free (server);
  fake_tempdir_remove (dir);
}

/* Many contexts of one socket: requests pipelined on one connection, answered out of order. */
static void
stock_contexts (void **state)
{
  enum { N = 64 };
  g_autoptr (NgServer) server = start_tcp ();
  Req *req = req_new (server->urls[0]);
  nng_ctx contexts[N];
  nng_aio *aios[N];
  for (int round = 0; round < 5; round++)
    {
      for (int i = 0; i < N; i++)
        {
          GsTxId id;
          nng_msg *msg;
          random_id (&id);
          g_autoptr (GByteArray) envelope = request_build (NS_PING, &id, NULL, &i, sizeof i);
          assert_int_equal (nng_ctx_open (&contexts[i], req->socket), 0);
          assert_int_equal (nng_aio_alloc (&aios[i], NULL, NULL), 0);
          nng_aio_set_timeout (aios[i], 10000);
          assert_int_equal (nng_msg_alloc (&msg, 0), 0);
          assert_int_equal (nng_msg_append (msg, envelope->data, envelope->len), 0);
          nng_aio_set_msg (aios[i], msg);
          nng_ctx_send (contexts[i], aios[i]);
          nng_aio_wait (aios[i]);
          assert_int_equal (nng_aio_result (aios[i]), 0);
          nng_ctx_recv (contexts[i], aios[i]);
        }
      for (int i = 0; i < N; i++)
        {
          Reply reply;
          nng_aio_wait (aios[i]);
          assert_int_equal (nng_aio_result (aios[i]), 0);
          nng_msg *msg = nng_aio_get_msg (aios[i]);
          assert_true (reply_parse (nng_msg_body (msg), nng_msg_len (msg), &reply));
          assert_memory_equal (reply.payload, &i, sizeof i);
          reply_clear (&reply);
          nng_msg_free (msg);
          nng_aio_free (aios[i]); /* before its context: nng's order */
          nng_ctx_close (contexts[i]);
        }
    }
  req_free (req);
}

/* Resend, on by default in stock clients, runs a call again: with the same call id, for the core to see. */
static void
stock_resend (void **state)
{
  g_autoptr (NgServer) server = start_tcp ();
  Req *req = req_new (server->urls[0]);
  GsTxId id;
  nng_msg *msg;
  Reply reply;
  random_id (&id);
  nng_socket_set_ms (req->socket, NNG_OPT_REQ_RESENDTIME, 50);
  g_autoptr (GByteArray) envelope = request_build (NS_HOLD, &id, NULL, "", 0);
  assert_int_equal (nng_msg_alloc (&msg, 0), 0);
  assert_int_equal (nng_msg_append (msg, envelope->data, envelope->len), 0);
  assert_int_equal (nng_sendmsg (req->socket, msg, 0), 0);
  assert_true (ng_server_wait_held (server, 2));
  ng_server_release (server);
  assert_int_equal (nng_recvmsg (req->socket, &msg, 0), 0);
  assert_true (reply_parse (nng_msg_body (msg), nng_msg_len (msg), &reply));
  assert_memory_equal (reply.header->call_id.data, id.bytes, 16);
  reply_clear (&reply);
  nng_msg_free (msg);
  req_free (req);
}

static void
duplicates (void **state)
{
  g_autoptr (NgServer) server = start_tcp ();
  Req *req = req_new (server->urls[0]);
  GsTxId id;
  random_id (&id);
  g_autoptr (GByteArray) envelope = request_build (NS_COUNT, &id, NULL, "x", 1);
  for (guint i = 1; i <= 3; i++)
    {
      Reply reply;
      assert_true (req_send (req, envelope, &reply));
      assert_memory_equal (reply.header->call_id.data, id.bytes, 16);
      reply_clear (&reply);
      assert_int_equal (ng_server_count (server, &id), i);
    }
  req_free (req);
}

/* -------------------------------------------------------------------------------------- credentials */

typedef struct
{
  Gitstead__V1__RequestHeader header;
  Gitstead__V1__Auth auth;
  Gitstead__V1__Signature signature;
  GsTxId call_id;
  guint8 nonce[16], tag[32];
} Signed;

static GByteArray *
build_signed (Signed *s, gint64 time_offset_s, const char *payload)
{
  guint8 key[32];
  gitstead__v1__request_header__init (&s->header);
  gitstead__v1__auth__init (&s->auth);
  gitstead__v1__signature__init (&s->signature);
  random_id (&s->call_id);
  random_id ((GsTxId *) s->nonce);
  s->header.auth = &s->auth;
  s->auth.signature = &s->signature;
  s->signature.key_id = (char *) "000102030405";
  s->signature.time = (guint64) (g_get_real_time () / G_USEC_PER_SEC + time_offset_s);
  s->signature.nonce.data = s->nonce;
  s->signature.nonce.len = 16;
  g_autoptr (GBytes) data = gs_frame_signed_data (NS_WHO, &s->call_id, s->signature.key_id, s->signature.time, s->nonce,
                                                  (const guint8 *) payload, strlen (payload));
  gs_token_signing_key (NS_TOKEN + 16, key);
  gs_token_hmac (key, g_bytes_get_data (data, NULL), g_bytes_get_size (data), s->tag);
  s->signature.tag.data = s->tag;
  s->signature.tag.len = 32;
  return request_build (NS_WHO, &s->call_id, &s->header, payload, strlen (payload));
}

static void
expect (Req *req, GByteArray *envelope, guint32 status, const char *says)
{
  Reply reply;
  assert_true (req_send (req, envelope, &reply));
  assert_int_equal (reply.status, status);
  if (status == 0)
    assert_int_equal (reply.payload_len, strlen (says));
  if (status == 0)
    assert_memory_equal (reply.payload, says, reply.payload_len);
  else
    assert_non_null (strstr (reply.header->message, says));
  reply_clear (&reply);
}

static void
signatures (void **state)
{
  g_autoptr (NgServer) server = start_tcp ();
  Req *req = req_new (server->urls[0]);
  Signed s;
  g_autoptr (GByteArray) good = build_signed (&s, 0, "payload");
  expect (req, good, 0, "hmac 000102030405 good");
  expect (req, good, GS_ERROR_UNAUTHENTICATED, "sent before");
  for (int i = 0; i < 2; i++)
    {
      g_autoptr (GByteArray) off = build_signed (&s, i == 0 ? -33 : 33, "payload");
      expect (req, off, GS_ERROR_UNAUTHENTICATED, "off this server's clock");
    }
  for (int i = 0; i < 2; i++)
    {
      g_autoptr (GByteArray) near = build_signed (&s, i == 0 ? -25 : 25, "payload");
      expect (req, near, 0, "hmac 000102030405 good");
    }
  /* another payload under the same signature */
  g_autoptr (GByteArray) changed = build_signed (&s, 0, "payload");
  changed->data[changed->len - 1] ^= 1;
  expect (req, changed, GS_ERROR_UNAUTHENTICATED, "who are you?");
  /* a wrong signature uses no nonce up: the right one may still come */
  changed->data[changed->len - 1] ^= 1;
  expect (req, changed, 0, "hmac 000102030405 good");
  /* another method under the same signature */
  g_autoptr (GByteArray) redirected = build_signed (&s, 0, "payload");
  gs_put_u32 (redirected->data + 4, NS_COUNT);
  expect (req, redirected, 0, "payload"); /* NS_COUNT looks at no credentials; NS_WHO would see a bad tag */
  /* refused before anybody looked at the signature: its nonce is not kept on a stranger's word */
  g_autoptr (GByteArray) early = build_signed (&s, 0, "payload");
  gs_put_u32 (early->data + 4, 77777);
  expect (req, early, GS_ERROR_UNIMPLEMENTED, "no such method");
  gs_put_u32 (early->data + 4, NS_WHO);
  expect (req, early, 0, "hmac 000102030405 good");
  /* malformed */
  g_autoptr (GByteArray) ignored = build_signed (&s, 0, "payload");
  s.signature.nonce.len = 15;
  g_autoptr (GByteArray) malformed = request_build (NS_WHO, &s.call_id, &s.header, "payload", 7);
  expect (req, malformed, GS_ERROR_INVALID_ARGUMENT, "nonce of 16 bytes");
  s.signature.nonce.len = 16;
  s.auth.bearer = (char *) NS_TOKEN;
  g_autoptr (GByteArray) both = request_build (NS_WHO, &s.call_id, &s.header, "payload", 7);
  expect (req, both, GS_ERROR_INVALID_ARGUMENT, "one of them");
  s.auth.signature = NULL;
  g_autoptr (GByteArray) bearer = request_build (NS_WHO, &s.call_id, &s.header, "payload", 7);
  expect (req, bearer, 0, "bearer " NS_TOKEN); /* from loopback */
  req_free (req);
}

static void
nonces (void **state)
{
  const guint8 seed[16] = { 1 };
  guint8 nonce[NT_NONCE_SIZE] = { 0 };
  NtNonces *memory = nt_nonces_new (10, seed);
  const gint64 second = G_USEC_PER_SEC;
  gint64 now = 1000 * second;
  for (guint8 i = 0; i < 10; i++)
    {
      nonce[0] = i;
      assert_int_equal (nt_nonces_add (memory, nonce, now), NT_NONCE_NEW);
      assert_int_equal (nt_nonces_add (memory, nonce, now), NT_NONCE_SEEN);
    }
  nonce[0] = 10;
  assert_int_equal (nt_nonces_add (memory, nonce, now), NT_NONCE_FULL);
  nonce[0] = 3;
  nt_nonces_remove (memory, nonce);
  assert_int_equal (nt_nonces_add (memory, nonce, now + 60 * second), NT_NONCE_NEW);
  /* a nonce lives for as long as its time can be within the window: 61 s */
  nonce[0] = 9;
  assert_int_equal (nt_nonces_add (memory, nonce, now + 61 * second), NT_NONCE_SEEN);
  nonce[0] = 3;
  assert_int_equal (nt_nonces_add (memory, nonce, now + 60 * second + 61 * second), NT_NONCE_SEEN);
  assert_int_equal (nt_nonces_add (memory, nonce, now + 200 * second), NT_NONCE_NEW);
  nonce[0] = 9;
  assert_int_equal (nt_nonces_add (memory, nonce, now + 1000 * second), NT_NONCE_NEW);
  nt_nonces_free (memory);
}

/* ------------------------------------------------------------------------------------ start and stop */

static void
refused_start (const char *says, const char *listen, const char *key, const char *value)
{
  g_autoptr (GError) error = NULL;
  assert_null (ng_server_new (&error, "listen", listen, key, value, NULL));
  assert_non_null (error);
  if (strstr (error->message, says) == NULL)
    assert_string_equal (error->message, says);
}

static void
bad_options (void **state)
{
  g_autoptr (NgServer) server = start_tcp ();
  refused_start ("in use", server->urls[0], NULL, NULL);
  refused_start ("is no address", "http://127.0.0.1:1", NULL, NULL);
  refused_start ("is no address", "ipc://relative", NULL, NULL);
  refused_start ("is no address", "tcp://127.0.0.1:99999", NULL, NULL);
  refused_start ("tls_certificate", "tls+tcp://127.0.0.1:0", NULL, NULL);
  refused_start ("no file mode", "tcp://127.0.0.1:0", "ipc_mode", "0999");
  refused_start ("no address of the same scheme", "tcp://127.0.0.1:0", "data_listen", "ipc:///tmp/gitstead-x-never");
  refused_start ("listen on", "ipc:///nonexistent/folder/socket", NULL, NULL);
}

static guint
open_descriptors (void)
{
  guint n = 0;
  DIR *dir = opendir ("/proc/self/fd");
  while (readdir (dir) != NULL)
    n++;
  closedir (dir);
  return n;
}

/* stop cancels what is under way, the replies still go out, and nothing is left open. */
static void
stop_under_way (void **state)
{
  guint before, held = 5;
  int fds[5];
  ng_server_free (start_tcp ()); /* whatever nng opens once for the process */
  before = open_descriptors ();
  NgServer *server = start_tcp ();
  for (guint i = 0; i < held; i++)
    {
      GsTxId id;
      random_id (&id);
      g_autoptr (GByteArray) envelope = request_build (NS_HOLD, &id, NULL, "", 0);
      fds[i] = bare_greet (server->urls[0]);
      assert_true (bare_send (fds[i], FALSE, i, envelope));
    }
  assert_true (ng_server_wait_held (server, held));
  ng_server_free (server);
  for (guint i = 0; i < held; i++)
    {
      Reply reply;
      guint32 id;
      assert_true (bare_receive (fds[i], FALSE, &id, &reply));
      assert_int_equal (id, i);
      assert_int_equal (reply.status, GS_ERROR_CANCELLED);
      reply_clear (&reply);
      assert_true (bare_closed (fds[i], 5000));
      close (fds[i]);
    }
  /* nng closes some of them in a thread of its own */
  for (gint64 until = g_get_monotonic_time () + 60 * G_USEC_PER_SEC;
       open_descriptors () != before && g_get_monotonic_time () < until;)
    poll (NULL, 0, 10);
  assert_int_equal (open_descriptors (), before);
}

/* After drain the calls under way go on and new ones are told to come again. */
static void
drain (void **state)
{
  g_autoptr (NgServer) server = start_tcp ();
  int fd = bare_greet (server->urls[0]);
  GsTxId id;
  Reply reply;
  guint32 answered;
  random_id (&id);
  g_autoptr (GByteArray) hold = request_build (NS_HOLD, &id, NULL, "", 0);
  g_autoptr (GByteArray) ping = request_build (NS_PING, &id, NULL, "", 0);
  assert_true (bare_send (fd, FALSE, 1, hold));
  assert_true (ng_server_wait_held (server, 1));
  server->plugin->drain (server->self);
  assert_true (bare_send (fd, FALSE, 2, ping));
  assert_true (bare_receive (fd, FALSE, &answered, &reply));
  assert_int_equal (answered, 2);
  assert_int_equal (reply.status, GS_ERROR_UNAVAILABLE);
  assert_int_equal (reply.header->retry, GS_RETRY_SAME);
  reply_clear (&reply);
  ng_server_release (server);
  assert_true (bare_receive (fd, FALSE, &answered, &reply));
  assert_int_equal (answered, 1);
  assert_int_equal (reply.status, GS_OK);
  reply_clear (&reply);
  close (fd);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (stock_tcp_and_ipc), cmocka_unit_test (stock_tls), cmocka_unit_test (tls_alert_and_more),
    cmocka_unit_test (stock_contexts),
    cmocka_unit_test (stock_resend),      cmocka_unit_test (duplicates),  cmocka_unit_test (signatures),
    cmocka_unit_test (nonces),            cmocka_unit_test (bad_options), cmocka_unit_test (stop_under_way),
    cmocka_unit_test (drain),
  };
  return cmocka_run_group_tests_name ("calls", tests, NULL, NULL);
}
