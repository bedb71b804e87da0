/* SPDX-License-Identifier: Apache-2.0 */
/* auth.c - the Authorization header. */
#include "auth.h"

#define HEADER_MAX 8192u

/* g_base64_decode skips what it does not know; a header with such characters is refused instead. */
static gboolean
base64_strict (const char *text, char **ret_bytes, gsize *ret_len)
{
  gsize length = strlen (text), body = length;
  while (body > 0 && length - body < 2 && text[body - 1] == '=')
    body--;
  if (length == 0 || length % 4 != 0)
    return FALSE;
  for (gsize i = 0; i < body; i++)
    if (!g_ascii_isalnum (text[i]) && text[i] != '+' && text[i] != '/')
      return FALSE;
  *ret_bytes = (char *) g_base64_decode (text, ret_len);
  return TRUE;
}

static gboolean
parse_basic (const char *value, Auth *auth, GError **error)
{
  g_autofree char *bytes = NULL;
  gsize length = 0;
  char *colon;
  if (!base64_strict (value, &bytes, &length))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the Authorization header is not valid Basic credentials");
  auth->secret = g_malloc (length + 1);
  auth->secret_len = length;
  memcpy (auth->secret, bytes, length);
  auth->secret[length] = '\0';
  explicit_bzero (bytes, length);
  colon = strchr (auth->secret, ':');
  if (strlen (auth->secret) != length || colon == NULL || !g_utf8_validate (auth->secret, (gssize) length, NULL))
    {
      auth_clear (auth);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the Authorization header is not valid Basic credentials");
    }
  *colon = '\0';
  auth->credentials.kind = GS_CREDENTIALS_BASIC;
  auth->credentials.user = auth->secret;
  auth->credentials.secret = colon + 1;
  return TRUE;
}

gboolean
auth_parse (const char *header, Auth *ret_auth, GError **error)
{
  Auth auth = { .credentials = { .size = sizeof (GsCredentials), .kind = GS_CREDENTIALS_NONE } };
  if (header != NULL)
    {
      gsize scheme = strcspn (header, " ");
      const char *value = header + scheme + strspn (header + scheme, " ");
      if (strlen (header) > HEADER_MAX)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the Authorization header is longer than %u bytes",
                        HEADER_MAX);
      if (scheme == 5 && g_ascii_strncasecmp (header, "Basic", 5) == 0)
        {
          if (!parse_basic (value, &auth, error))
            return FALSE;
        }
      else if (scheme == 6 && g_ascii_strncasecmp (header, "Bearer", 6) == 0)
        {
          gsize length = strlen (value);
          if (length == 0
              || strspn (value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") != length)
            return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the Authorization header is not a valid Bearer token");
          auth.secret = g_strdup (value);
          auth.secret_len = length;
          auth.credentials.kind = GS_CREDENTIALS_BEARER;
          auth.credentials.secret = auth.secret;
        }
      else
        return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                        "the Authorization scheme is not known here; use Basic (token as password) or Bearer");
    }
  *ret_auth = auth;
  return TRUE;
}

void
auth_clear (Auth *auth)
{
  if (auth->secret != NULL)
    explicit_bzero (auth->secret, auth->secret_len);
  g_clear_pointer (&auth->secret, g_free);
  auth->secret_len = 0;
  auth->credentials = (GsCredentials){ .size = sizeof (GsCredentials), .kind = GS_CREDENTIALS_NONE };
}
