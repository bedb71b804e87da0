/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_tls.c - transport/http over TLS, client certificates, and how it refuses to start. */
#include "client.h"
#include "service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *folder;

static char *
in_folder (const char *name)
{
  return g_build_filename (folder, name, NULL);
}

static void
write_file (const char *name, const char *suffix, const void *data, gsize length, int mode)
{
  g_autofree char *file = g_strconcat (name, suffix, NULL);
  g_autofree char *path = in_folder (file);
  assert_true (g_file_set_contents (path, data, (gssize) length, NULL));
  assert_int_equal (chmod (path, (mode_t) mode), 0);
}

typedef struct
{
  gnutls_x509_privkey_t key;
  gnutls_x509_crt_t certificate;
} Identity;

/* NAME.crt and NAME.key in the folder, signed by @authority (NULL: by itself, and an authority). @purpose NULL = any. */
static Identity
make_identity_for (const char *name, const Identity *authority, const char *purpose)
{
  Identity one;
  unsigned char buffer[8192];
  size_t size = sizeof buffer;
  guint8 serial = (guint8) name[0];
  time_t now = time (NULL);
  assert_int_equal (gnutls_x509_privkey_init (&one.key), 0);
  assert_int_equal (
      gnutls_x509_privkey_generate (one.key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS (GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
  assert_int_equal (gnutls_x509_crt_init (&one.certificate), 0);
  gnutls_x509_crt_set_version (one.certificate, 3);
  gnutls_x509_crt_set_serial (one.certificate, &serial, 1);
  gnutls_x509_crt_set_activation_time (one.certificate, now - 3600);
  gnutls_x509_crt_set_expiration_time (one.certificate, now + 3600);
  gnutls_x509_crt_set_dn_by_oid (one.certificate, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned) strlen (name));
  gnutls_x509_crt_set_key (one.certificate, one.key);
  if (authority == NULL)
    gnutls_x509_crt_set_basic_constraints (one.certificate, 1, -1);
  else
    gnutls_x509_crt_set_subject_alt_name (one.certificate, GNUTLS_SAN_IPADDRESS, "\x7f\0\0\1", 4, GNUTLS_FSAN_SET);
  if (purpose != NULL)
    gnutls_x509_crt_set_key_purpose_oid (one.certificate, purpose, 0);
  assert_int_equal (gnutls_x509_crt_sign2 (one.certificate,
                                           authority != NULL ? authority->certificate : one.certificate,
                                           authority != NULL ? authority->key : one.key, GNUTLS_DIG_SHA256, 0),
                    0);
  assert_int_equal (gnutls_x509_crt_export (one.certificate, GNUTLS_X509_FMT_PEM, buffer, &size), 0);
  write_file (name, ".crt", buffer, size, 0644);
  size = sizeof buffer;
  assert_int_equal (gnutls_x509_privkey_export (one.key, GNUTLS_X509_FMT_PEM, buffer, &size), 0);
  write_file (name, ".key", buffer, size, 0600);
  return one;
}

static Identity
make_identity (const char *name, const Identity *authority)
{
  return make_identity_for (name, authority, NULL);
}

static void
identity_free (Identity one)
{
  gnutls_x509_crt_deinit (one.certificate);
  gnutls_x509_privkey_deinit (one.key);
}

static int
set_up_files (void **state)
{
  Identity ca, server, client, other, stranger;
  folder = fake_tempdir_new ();
  ca = make_identity ("ca", NULL);
  server = make_identity ("server", &ca);
  client = make_identity ("builder", &ca);
  other = make_identity ("other-ca", NULL);
  stranger = make_identity ("stranger", &other);
  identity_free (make_identity_for ("web", &ca, GNUTLS_KP_TLS_WWW_SERVER));
  identity_free (make_identity_for ("client", &ca, GNUTLS_KP_TLS_WWW_CLIENT));
  identity_free (ca);
  identity_free (server);
  identity_free (client);
  identity_free (other);
  identity_free (stranger);
  return 0;
}

static int
tear_down_files (void **state)
{
  fake_tempdir_remove (folder);
  return 0;
}

static void
serve (void **state, const char *idle_timeout)
{
  g_autofree char *certificate = in_folder ("server.crt");
  g_autofree char *key = in_folder ("server.key");
  g_autofree char *ca = in_folder ("ca.crt");
  *state = served_new ("https://127.0.0.1:0", "tls_certificate", certificate, "tls_key", key, "tls_client_ca", ca,
                       "idle_timeout", idle_timeout, NULL);
}

static int
set_up (void **state)
{
  serve (state, "60s");
  return 0;
}

static int
set_up_impatient (void **state)
{
  serve (state, "1s");
  return 0;
}

static int
tear_down (void **state)
{
  served_free (*state);
  return 0;
}

static int
shell (char **ret_out, const char *format, ...)
{
  va_list args;
  g_autofree char *script = NULL;
  g_autofree char *err = NULL;
  const char *argv[] = { "sh", "-c", NULL, NULL };
  int status = 0;
  va_start (args, format);
  script = g_strdup_vprintf (format, args);
  va_end (args);
  argv[2] = script;
  assert_true (
      g_spawn_sync (folder, (char **) argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, ret_out, &err, &status, NULL));
  return WIFEXITED (status) ? WEXITSTATUS (status) : -1;
}

static void
test_https (void **state)
{
  Served *served = *state;
  g_autofree char *out = NULL;
  g_autofree char *count = NULL;
  assert_true (g_str_has_prefix (served->url, "https://127.0.0.1:"));
  assert_int_equal (shell (&out, "curl -sS --cacert ca.crt %s/healthz", served->url), 0);
  assert_string_equal (out, "ok\n");
  assert_int_equal (shell (&count,
                           "head -c 3000000 /dev/zero | curl -sS --cacert ca.crt -T - -X POST -H "
                           "'Content-Type: application/x-git-receive-pack-request' %s/echo/git-receive-pack | wc -c",
                           served->url),
                    0);
  assert_int_equal (g_ascii_strtoull (count, NULL, 10), 3000000);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_NONE);
}

static void
test_client_certificate (void **state)
{
  Served *served = *state;
  const char *path = "whole/1/info/refs?service=git-upload-pack";
  assert_int_equal (shell (NULL, "curl -sSf -o /dev/null --cacert ca.crt --cert builder.crt --key builder.key '%s/%s'",
                           served->url, path),
                    0);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_CERTIFICATE);
  assert_string_equal (service_seen ()->certificate, "builder");
  /* A token is more specific than the machine that shows it. */
  assert_int_equal (shell (NULL,
                           "curl -sSf -o /dev/null --cacert ca.crt --cert builder.crt --key builder.key -u a:b '%s/%s'",
                           served->url, path),
                    0);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_BASIC);
  assert_int_equal (shell (NULL, "curl -sSf -o /dev/null --cacert ca.crt --cert client.crt --key client.key '%s/%s'",
                           served->url, path),
                    0);
  assert_int_equal (service_seen ()->credentials, GS_CREDENTIALS_CERTIFICATE);
  assert_string_equal (service_seen ()->certificate, "client");
  /* Of the same authority, but made for a server: whoever holds one is not thereby a client. */
  shell (NULL, "curl -sSf -o /dev/null --cacert ca.crt --cert web.crt --key web.key '%s/%s'", served->url, path);
  assert_int_not_equal (service_seen ()->credentials, GS_CREDENTIALS_CERTIFICATE);
  /* Signed by somebody else: as good as none. */
  shell (NULL, "curl -sSf -o /dev/null --cacert ca.crt --cert stranger.crt --key stranger.key '%s/%s'", served->url,
         path);
  assert_int_not_equal (service_seen ()->credentials, GS_CREDENTIALS_CERTIFICATE);
}

static void
test_bad_handshakes (void **state)
{
  Served *served = *state;
  static const char *const starts[]
      = { "", "\x16\x03\x01\x02", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x03\xff\xff" };
  g_autofree char *out = NULL;
  guint fds = count_fds ();
  assert_int_not_equal (
      shell (NULL, "curl -sS --cacert ca.crt --tls-max 1.1 --tlsv1.0 --ciphers DEFAULT@SECLEVEL=0 %s/healthz",
             served->url),
      0);
  for (guint i = 0; i < G_N_ELEMENTS (starts); i++)
    {
      int fd = client_connect (served->port);
      g_autoptr (Answer) answer = NULL;
      assert_true (client_send (fd, starts[i]));
      answer = client_read (fd);
      assert_true (answer->closed);
      assert_int_equal (answer->status, 0);
      close (fd);
    }
  assert_true (wait_fds (fds));
  assert_int_equal (shell (&out, "curl -sS --cacert ca.crt --tls-max 1.2 %s/healthz", served->url), 0);
  assert_string_equal (out, "ok\n");
}

static void
test_git_over_tls (void **state)
{
  Served *served = *state;
  service_set_folder (folder);
  assert_int_equal (
      shell (NULL,
             "set -e; export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_SSL_CAINFO=$PWD/ca.crt GIT_AUTHOR_NAME=A "
             "GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b;"
             "git init -q -b main source; git init -q -b main --bare b.git; cd source; head -c 2000000 /dev/urandom "
             ">f; git add f;"
             "git commit -q -m f; git -c http.postBuffer=65536 push -q %s/git/b.git main; cd ..; git clone -q "
             "%s/git/b.git copy;"
             "cmp source/f copy/f",
             served->url, served->url),
      0);
}

/* ------------------------------------------------------------------------------------ refusing to start */

static void
expect_no_start (const char *why, const char *listen, const char *key1, const char *value1, const char *key2,
                 const char *value2)
{
  g_autoptr (FakeHost) fake = fake_host_new ("transport web");
  const GsPlugin *plugin = served_plugin ();
  g_autoptr (FakeConfig) config = fake_config_new (plugin, "listen", listen, key1, value1, key2, value2, NULL);
  g_autoptr (GError) error = NULL;
  guint fds = count_fds ();
  gpointer self = plugin->create (&fake->host, fake_config_get (config), &error);
  if (self != NULL)
    {
      assert_false (plugin->start (self, &error));
      plugin->destroy (self);
    }
  assert_non_null (error);
  if (strstr (error->message, why) == NULL || strstr (error->message, "transport web") == NULL)
    fail_msg ("wanted '%s' in '%s'", why, error->message);
  assert_int_equal (count_fds (), fds);
}

static void
test_no_start (void **state)
{
  g_autofree char *certificate = in_folder ("server.crt");
  g_autofree char *key = in_folder ("server.key");
  g_autofree char *wrong = in_folder ("builder.key");
  g_autofree char *open = in_folder ("open.key");
  g_autofree char *missing = in_folder ("missing");
  g_autofree char *text = NULL;
  g_autofree char *taken = NULL;
  Served *served = served_new ("http://127.0.0.1:0", NULL);
  gsize length = 0;

  assert_true (g_file_get_contents (key, &text, &length, NULL));
  write_file ("open", ".key", text, length, 0644);
  taken = g_strdup_printf ("http://127.0.0.1:0,http://127.0.0.1:%u", served->port);
  expect_no_start ("another server", taken, NULL, NULL, NULL, NULL);
  served_free (served);
  expect_no_start ("not of the form", "ftp://127.0.0.1:0", NULL, NULL, NULL, NULL);
  expect_no_start ("not of the form", "127.0.0.1:80", NULL, NULL, NULL, NULL);
  expect_no_start ("not of the form", "http://", NULL, NULL, NULL, NULL);
  expect_no_start ("not of the form", "http://127.0.0.1:0/path", NULL, NULL, NULL, NULL);
  expect_no_start ("not of the form", "http://user@127.0.0.1:0", NULL, NULL, NULL, NULL);
  expect_no_start ("not of the form", "http://127.0.0.1:70000", NULL, NULL, NULL, NULL);
  expect_no_start ("can't bind", "http://192.0.2.1:0", NULL, NULL, NULL, NULL);
  expect_no_start ("realm", "http://127.0.0.1:0", "realm", "a\"b", NULL, NULL);
  expect_no_start ("tls_certificate", "https://127.0.0.1:0", NULL, NULL, NULL, NULL);
  expect_no_start ("tls_key", "https://127.0.0.1:0", "tls_certificate", certificate, NULL, NULL);
  expect_no_start ("can't read", "https://127.0.0.1:0", "tls_certificate", missing, "tls_key", key);
  expect_no_start ("chmod", "https://127.0.0.1:0", "tls_certificate", certificate, "tls_key", open);
  expect_no_start ("belong together", "https://127.0.0.1:0", "tls_certificate", key, "tls_key", key);
  expect_no_start ("belong together", "https://127.0.0.1:0", "tls_certificate", certificate, "tls_key", wrong);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown (test_https, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_client_certificate, set_up, tear_down),
    cmocka_unit_test_setup_teardown (test_bad_handshakes, set_up_impatient, tear_down),
    cmocka_unit_test_setup_teardown (test_git_over_tls, set_up, tear_down),
    cmocka_unit_test (test_no_start),
  };
  return cmocka_run_group_tests_name ("http-tls", tests, set_up_files, tear_down_files);
}
