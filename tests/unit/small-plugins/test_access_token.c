/* SPDX-License-Identifier: Apache-2.0 */
/* access/token: its options, its cache of tokens, and a metadata store that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/access.h>
#include <gitstead/metadata.h>

#include "fakehost.h"
#include "loadplugin.h"

#include <unistd.h>

/* A metadata store of one token, which counts look-ups and can fail. */
typedef struct
{
  GsTokenRow row;
  char id[32], name[64], prefix[64];
  guint8 verifier[64];
  guint n_gets, n_puts, n_collisions;
  int fail_code;
} FakeMetadata;

static gboolean
fake_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user, GError **error)
{
  FakeMetadata *fake = self;
  fake->n_gets++;
  if (fake->fail_code != GS_OK)
    return gs_fail (error, (GsErrorCode) fake->fail_code, "the disk is full");
  if (strcmp (id, fake->id) != 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "no such token");
  visit (&fake->row, user);
  return TRUE;
}

static gboolean
fake_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error)
{
  FakeMetadata *fake = self;
  fake->n_puts++;
  if (fake->n_collisions > 0)
    {
      fake->n_collisions--;
      return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "there is one");
    }
  g_strlcpy (fake->id, row->id, sizeof fake->id);
  g_strlcpy (fake->name, row->name, sizeof fake->name);
  g_strlcpy (fake->prefix, row->prefix, sizeof fake->prefix);
  memcpy (fake->verifier, row->verifier, sizeof fake->verifier);
  fake->row = *row;
  fake->row.id = fake->id;
  fake->row.name = fake->name;
  fake->row.prefix = fake->prefix;
  fake->row.verifier = fake->verifier;
  return TRUE;
}

static gboolean
fake_delete (gpointer self, GsCall *call, const char *id, GError **error)
{
  FakeMetadata *fake = self;
  if (strcmp (id, fake->id) != 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "no such token");
  fake->id[0] = '\0';
  return TRUE;
}

static const GsMetadataOps fake_ops = { .token_get = fake_get, .token_put = fake_put, .token_delete = fake_delete };

typedef struct
{
  FakeMetadata metadata;
  const GsPlugin *plugin;
  const GsAccessOps *ops;
  FakeHost *host;
  FakeConfig *config;
  FakeCall *call;
  gpointer self;
} Access;

static gint64 fake_now_us; /* both clocks of the access plugin under test */

static gint64
fake_clock (const GsHost *host)
{
  return fake_now_us;
}

static void
access_open (Access *access, const char *anonymous, const char *peer_admin, const char *certificate)
{
  memset (access, 0, sizeof *access);
  fake_now_us = G_GINT64_CONSTANT (1700000000000000);
  access->plugin = load_plugin ("access-token.so");
  access->ops = access->plugin->ops;
  access->host = fake_host_new ("access default");
  access->host->host.now_us = fake_clock;
  access->host->host.wall_us = fake_clock;
  access->config = fake_config_new (access->plugin, "anonymous", anonymous, "peer_admin", peer_admin,
                                    "certificate_scope", certificate, NULL);
  access->call = fake_call_new (0);
  fake_host_add_need (access->host, "metadata", GS_KIND_METADATA, &access->metadata, &fake_ops);
  access->self = access->plugin->create (&access->host->host, fake_config_get (access->config), NULL);
  assert_true (access->plugin->start (access->self, NULL));
}

static void
access_close (Access *access)
{
  access->plugin->destroy (access->self);
  fake_call_free (access->call);
  fake_config_free (access->config);
  fake_host_free (access->host);
}

/* The scope that credentials give; -1 when they are not accepted. */
static int
enter (Access *access, const GsCredentials *credentials, const char *name)
{
  const GsIdentity *identity = NULL;
  g_autoptr (GError) error = NULL;
  int scope;
  if (!access->ops->authenticate (access->self, &access->call->call, credentials, &identity, &error))
    {
      assert_int_equal (gs_error_code (error), GS_ERROR_UNAUTHENTICATED);
      return -1;
    }
  scope = (int) identity->scope;
  if (name != NULL)
    assert_string_equal (identity->name, name);
  access->ops->release (access->self, identity);
  return scope;
}

static void
make_token (Access *access, char **ret_id, char **ret_secret)
{
  GsToken token = { .size = sizeof token, .name = "ci", .scope = GS_SCOPE_WRITE, .prefix = "" };
  assert_true (access->ops->token_create (access->self, &access->call->call, &token, ret_id, ret_secret, NULL));
}

static void
peers (void **state)
{
  Access access;
  GsCredentials peer = { .size = sizeof peer, .kind = GS_CREDENTIALS_PEER };
  g_autofree char *own = g_strdup_printf ("uid:%u", (guint) geteuid ());
  access_open (&access, "none", "true", "none");
  peer.uid = (guint32) geteuid ();
  assert_int_equal (enter (&access, &peer, own), GS_SCOPE_ADMIN);
  peer.uid = 0;
  assert_int_equal (enter (&access, &peer, "uid:0"), GS_SCOPE_ADMIN);
  peer.uid = (guint32) geteuid () + 12345;
  assert_int_equal (enter (&access, &peer, NULL), -1);
  access_close (&access);

  access_open (&access, "read", "true", "none");
  assert_int_equal (enter (&access, &peer, NULL), GS_SCOPE_READ);
  access_close (&access);

  access_open (&access, "none", "false", "none");
  peer.uid = 0;
  assert_int_equal (enter (&access, &peer, NULL), -1);
  access_close (&access);
}

static void
anonymous_and_certificates (void **state)
{
  Access access;
  GsCredentials none = { .size = sizeof none, .kind = GS_CREDENTIALS_NONE };
  GsCredentials certificate
      = { .size = sizeof certificate, .kind = GS_CREDENTIALS_CERTIFICATE, .certificate = "build-farm" };
  access_open (&access, "none", "true", "none");
  assert_int_equal (enter (&access, &none, NULL), -1);
  assert_int_equal (enter (&access, &certificate, NULL), -1);
  assert_int_equal (fake_host_logged (access.host, "access.anonymous.open"), 0);
  access_close (&access);

  access_open (&access, "write", "true", "read");
  assert_int_equal (fake_host_logged (access.host, "access.anonymous.open"), 1); /* the danger is said */
  assert_int_equal (enter (&access, &none, "anonymous"), GS_SCOPE_WRITE);
  assert_int_equal (enter (&access, &certificate, "certificate:build-farm"), GS_SCOPE_READ);
  certificate.certificate = "";
  assert_int_equal (enter (&access, &certificate, NULL), -1);
  certificate.certificate = NULL;
  assert_int_equal (enter (&access, &certificate, NULL), -1);
  access_close (&access);
}

static void
one_look_up_a_second (void **state)
{
  Access access;
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials bearer = { .size = sizeof bearer, .kind = GS_CREDENTIALS_BEARER };
  GsCredentials unknown = { .size = sizeof unknown,
                            .kind = GS_CREDENTIALS_BEARER,
                            .secret = "gs_0123456789ab_0000000000000000000000000000000000000000000" };
  access_open (&access, "none", "true", "none");
  make_token (&access, &id, &secret);
  bearer.secret = secret;
  for (int i = 0; i < 100; i++)
    assert_int_equal (enter (&access, &bearer, "ci"), GS_SCOPE_WRITE);
  assert_int_equal (access.metadata.n_gets, 1);
  for (int i = 0; i < 100; i++)
    assert_int_equal (enter (&access, &unknown, NULL), -1); /* guessing costs no more */
  assert_int_equal (access.metadata.n_gets, 2);
  fake_now_us += G_USEC_PER_SEC;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE);
  assert_int_equal (access.metadata.n_gets, 3);
  access_close (&access);
}

static void
many_unknown_ids (void **state)
{
  Access access;
  GsCredentials unknown = { .size = sizeof unknown, .kind = GS_CREDENTIALS_BEARER };
  access_open (&access, "none", "true", "none");
  for (int i = 0; i < 20000; i++) /* what is kept of them is bounded; under ASan a leak would show as well */
    {
      g_autofree char *token = g_strdup_printf ("gs_%012x_0000000000000000000000000000000000000000000", i);
      unknown.secret = token;
      assert_int_equal (enter (&access, &unknown, NULL), -1);
    }
  assert_int_equal (access.metadata.n_gets, 20000);
  access_close (&access);
}

static void
revoked_here (void **state)
{
  Access access;
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials bearer = { .size = sizeof bearer, .kind = GS_CREDENTIALS_BEARER };
  access_open (&access, "none", "true", "none");
  make_token (&access, &id, &secret);
  bearer.secret = secret;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE);
  assert_true (access.ops->token_revoke (access.self, &access.call->call, id, NULL));
  assert_int_equal (enter (&access, &bearer, NULL), -1); /* at once, in the process that revoked it */
  access_close (&access);
}

static void
store_fails (void **state)
{
  Access access;
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials bearer = { .size = sizeof bearer, .kind = GS_CREDENTIALS_BEARER };
  const GsIdentity *identity = NULL;
  g_autoptr (GError) error = NULL;
  access_open (&access, "none", "true", "none");
  make_token (&access, &id, &secret);
  bearer.secret = secret;
  access.metadata.fail_code = GS_ERROR_UNAVAILABLE;
  assert_false (access.ops->authenticate (access.self, &access.call->call, &bearer, &identity, &error));
  assert_int_equal (gs_error_code (error),
                    GS_ERROR_UNAVAILABLE); /* not “wrong token”: clients would throw theirs away */
  assert_string_equal (error->message, "checking an access token: the disk is full");
  access.metadata.fail_code = GS_OK;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE); /* a failure is not kept */
  access_close (&access);
}

/* While the store is away a token that was seen there is good for the time that is set, an expired or unknown one never. */
static void
store_away (void **state)
{
  Access access;
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials bearer = { .size = sizeof bearer, .kind = GS_CREDENTIALS_BEARER };
  const GsIdentity *identity = NULL;
  gint64 begin_us;
  access_open (&access, "none", "true", "none");
  make_token (&access, &id, &secret);
  bearer.secret = secret;
  begin_us = fake_now_us;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE);
  access.metadata.fail_code = GS_ERROR_UNAVAILABLE;
  fake_now_us = begin_us + 299 * G_USEC_PER_SEC;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE);
  fake_now_us = begin_us + 301 * G_USEC_PER_SEC;
  assert_false (access.ops->authenticate (access.self, &access.call->call, &bearer, &identity, NULL));
  /* A store that answers with another failure is there: what it said before does not count. */
  access.metadata.fail_code = GS_OK;
  assert_int_equal (enter (&access, &bearer, NULL), GS_SCOPE_WRITE);
  fake_now_us += G_USEC_PER_SEC;
  access.metadata.fail_code = GS_ERROR_DATA_LOSS;
  assert_false (access.ops->authenticate (access.self, &access.call->call, &bearer, &identity, NULL));
  /* Revoked as long as it was there. */
  access.metadata.fail_code = GS_OK;
  assert_true (access.ops->token_revoke (access.self, &access.call->call, id, NULL));
  assert_int_equal (enter (&access, &bearer, NULL), -1);
  access.metadata.fail_code = GS_ERROR_UNAVAILABLE;
  fake_now_us += G_USEC_PER_SEC;
  assert_false (access.ops->authenticate (access.self, &access.call->call, &bearer, &identity, NULL));
  access_close (&access);
}

static void
ids_collide (void **state)
{
  Access access;
  g_autofree char *id = NULL, *secret = NULL;
  GsToken token = { .size = sizeof token, .name = "ci", .scope = GS_SCOPE_READ, .prefix = "" };
  g_autoptr (GError) error = NULL;
  access_open (&access, "none", "true", "none");
  access.metadata.n_collisions = 2;
  make_token (&access, &id, &secret);
  assert_int_equal (access.metadata.n_puts, 3);
  assert_true (g_str_has_prefix (secret, "gs_"));
  access.metadata.n_collisions = 100; /* dice that always fall the same end in an error, not in a loop */
  g_clear_pointer (&id, g_free);
  g_clear_pointer (&secret, g_free);
  assert_false (access.ops->token_create (access.self, &access.call->call, &token, &id, &secret, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_ALREADY_EXISTS);
  access_close (&access);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (peers),
                                      cmocka_unit_test (anonymous_and_certificates),
                                      cmocka_unit_test (one_look_up_a_second),
                                      cmocka_unit_test (many_unknown_ids),
                                      cmocka_unit_test (revoked_here),
                                      cmocka_unit_test (store_fails),
                                      cmocka_unit_test (store_away),
                                      cmocka_unit_test (ids_collide) };
  return cmocka_run_group_tests_name ("access-token", tests, NULL, NULL);
}
