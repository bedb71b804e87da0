/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's own secret: who proves it is let in, and nobody else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/cluster.h"

#include <wire/token.h>

static void
make_token (guint8 seed, char token[GS_TOKEN_LEN + 1])
{
  guint8 id[6], secret[32];
  memset (id, 7, sizeof id); /* the same id: only the secret differs */
  memset (secret, seed, sizeof secret);
  gs_token_make (id, secret, token);
}

static gboolean
shows (const GsiCluster *cluster, const char *token)
{
  g_autoptr (GError) error = NULL;
  GsCredentials credentials = { .size = sizeof credentials, .kind = GS_CREDENTIALS_BEARER, .secret = token };
  gboolean good = gsi_cluster_check (cluster, &credentials, "Node/Exists", &error);
  if (!good)
    assert_int_equal (gs_error_code (error), GS_ERROR_UNAUTHENTICATED);
  return good;
}

static gboolean
signs (const GsiCluster *cluster, const char *token, const char *key_id)
{
  char id[GS_TOKEN_ID_LEN + 1];
  const char *secret;
  guint8 key[GS_TOKEN_KEY_SIZE], tag[32];
  GsCredentials credentials = { .size = sizeof credentials, .kind = GS_CREDENTIALS_HMAC,
                                .signed_data = (const guint8 *) "what was asked", .signed_len = 14, .tag = tag };
  assert_true (gs_token_parse (token, id, &secret));
  gs_token_signing_key (secret, key);
  gs_token_hmac (key, credentials.signed_data, credentials.signed_len, tag);
  credentials.user = key_id != NULL ? key_id : id;
  return gsi_cluster_check (cluster, &credentials, "Node/Exists", NULL);
}

static void
proofs (void **state)
{
  char ours[GS_TOKEN_LEN + 1], other[GS_TOKEN_LEN + 1];
  g_autoptr (GError) error = NULL;
  GsiCluster *cluster;
  make_token (1, ours);
  make_token (2, other);
  cluster = gsi_cluster_new (ours, &error);
  assert_non_null (cluster);
  assert_true (shows (cluster, ours));
  assert_true (signs (cluster, ours, NULL));
  assert_false (shows (cluster, other));
  assert_false (signs (cluster, other, NULL));
  assert_false (signs (cluster, ours, "ffffffffffff"));
  assert_false (shows (cluster, ""));
  assert_false (shows (cluster, NULL));
  gsi_cluster_free (cluster);
}

static void
other_kinds (void **state)
{
  static const guint32 kinds[] = { GS_CREDENTIALS_NONE, GS_CREDENTIALS_BASIC, GS_CREDENTIALS_PEER,
                                   GS_CREDENTIALS_CERTIFICATE, 77 };
  char ours[GS_TOKEN_LEN + 1];
  GsiCluster *cluster;
  make_token (1, ours);
  cluster = gsi_cluster_new (ours, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++)
    {
      GsCredentials credentials = { .size = sizeof credentials, .kind = kinds[i], .secret = ours, .certificate = "x" };
      assert_false (gsi_cluster_check (cluster, &credentials, "Node/Exists", NULL));
    }
  gsi_cluster_free (cluster);
}

static void
no_cluster (void **state)
{
  char ours[GS_TOKEN_LEN + 1];
  g_autoptr (GError) error = NULL;
  make_token (1, ours);
  assert_false (shows (NULL, ours));
  assert_null (gsi_cluster_new ("hunter2", &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
  assert_null (strstr (error->message, "hunter2"));
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (proofs), cmocka_unit_test (other_kinds), cmocka_unit_test (no_cluster) };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
