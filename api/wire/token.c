/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: form, derived keys, HMAC. See token.h. */
#include "token.h"

void
gs_token_make (const guint8 id[6], const guint8 secret[32], char ret_token[GS_TOKEN_LEN + 1])
{
  g_autofree char *text = g_base64_encode (secret, 32); /* 43 characters and one '=' */
  memcpy (ret_token, "gs_", 3);
  gs_hex (id, 6, ret_token + 3);
  ret_token[3 + GS_TOKEN_ID_LEN] = '_';
  for (int i = 0; i < GS_TOKEN_SECRET_LEN; i++)
    {
      char c = text[i];
      ret_token[3 + GS_TOKEN_ID_LEN + 1 + i] = c == '+' ? '-' : c == '/' ? '_' : c;
    }
  ret_token[GS_TOKEN_LEN] = '\0';
}

gboolean
gs_token_id_valid (const char *id)
{
  gsize i;
  for (i = 0; i < GS_TOKEN_ID_LEN; i++)
    if (!((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'z')))
      return FALSE;
  return id[i] == '\0';
}

gboolean
gs_token_parse (const char *token, char ret_id[GS_TOKEN_ID_LEN + 1], const char **ret_secret)
{
  char id[GS_TOKEN_ID_LEN + 1];
  const char *secret;
  if (strlen (token) != GS_TOKEN_LEN || strncmp (token, "gs_", 3) != 0 || token[3 + GS_TOKEN_ID_LEN] != '_')
    return FALSE;
  memcpy (id, token + 3, GS_TOKEN_ID_LEN);
  id[GS_TOKEN_ID_LEN] = '\0';
  secret = token + 3 + GS_TOKEN_ID_LEN + 1;
  if (!gs_token_id_valid (id))
    return FALSE;
  for (int i = 0; i < GS_TOKEN_SECRET_LEN; i++)
    if (!g_ascii_isalnum (secret[i]) && secret[i] != '-' && secret[i] != '_')
      return FALSE;
  if (ret_id != NULL)
    memcpy (ret_id, id, sizeof id);
  if (ret_secret != NULL)
    *ret_secret = secret;
  return TRUE;
}

static void
derive (const char *purpose, const char *secret, guint8 ret_key[GS_TOKEN_KEY_SIZE])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  gsize len = GS_TOKEN_KEY_SIZE;
  g_checksum_update (sum, (const guchar *) purpose, (gssize) strlen (purpose) + 1);
  g_checksum_update (sum, (const guchar *) secret, (gssize) strlen (secret));
  g_checksum_get_digest (sum, ret_key, &len);
}

void
gs_token_bearer_verifier (const char *secret, guint8 ret_verifier[GS_TOKEN_KEY_SIZE])
{
  derive ("gitstead bearer v1", secret, ret_verifier);
}

void
gs_token_signing_key (const char *secret, guint8 ret_key[GS_TOKEN_KEY_SIZE])
{
  derive ("gitstead sign v1", secret, ret_key);
}

void
gs_token_verifier (const char *secret, guint8 ret_verifier[GS_TOKEN_VERIFIER_SIZE])
{
  gs_token_bearer_verifier (secret, ret_verifier);
  gs_token_signing_key (secret, ret_verifier + GS_TOKEN_KEY_SIZE);
}

void
gs_token_hmac (const guint8 key[GS_TOKEN_KEY_SIZE], const guint8 *data, gsize len, guint8 ret_tag[32])
{
  GHmac *hmac = g_hmac_new (G_CHECKSUM_SHA256, key, GS_TOKEN_KEY_SIZE);
  gsize tag_len = 32;
  g_hmac_update (hmac, data, (gssize) len);
  g_hmac_get_digest (hmac, ret_tag, &tag_len);
  g_hmac_unref (hmac);
}

gboolean
gs_token_equal (const guint8 *a, const guint8 *b, gsize len)
{
  volatile guint8 differ = 0;
  for (gsize i = 0; i < len; i++)
    differ |= a[i] ^ b[i];
  return differ == 0;
}
