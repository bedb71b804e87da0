/* SPDX-License-Identifier: Apache-2.0 */
/* Scopes, path prefixes, and what a new token may look like. */
#include "access-token.h"

#define NAME_MAX_BYTES 100
#define PREFIX_MAX_BYTES 1024

const char *
access_scope_name (GsScope scope)
{
  static const char *const names[] = { "none", "read", "write", "admin" };
  return (guint) scope < G_N_ELEMENTS (names) ? names[scope] : "unknown";
}

gboolean
access_prefix_holds (const char *prefix, const char *path)
{
  gsize len = strlen (prefix);
  if (len == 0)
    return TRUE;
  if (strncmp (path, prefix, len) != 0)
    return FALSE;
  return prefix[len - 1] == '/' || path[len] == '\0' || path[len] == '/' || strcmp (path + len, ".git") == 0;
}

static gboolean
is_plain (const char *text)
{
  if (!g_utf8_validate (text, -1, NULL))
    return FALSE;
  for (const char *at = text; *at != '\0'; at = g_utf8_next_char (at))
    if (g_unichar_iscntrl (g_utf8_get_char (at)) || g_unichar_type (g_utf8_get_char (at)) == G_UNICODE_FORMAT)
      return FALSE;
  return TRUE;
}

static gboolean
check_prefix (const char *prefix, GError **error)
{
  g_auto (GStrv) parts = NULL;
  if (strlen (prefix) > PREFIX_MAX_BYTES || !is_plain (prefix))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "making a token: the path prefix is longer than %d bytes, not UTF-8, or has control characters",
                    PREFIX_MAX_BYTES);
  parts = g_strsplit (prefix, "/", -1);
  for (gsize i = 0; parts[i] != NULL; i++)
    {
      gboolean trailing = parts[i][0] == '\0' && parts[i + 1] == NULL && i > 0;
      if (*prefix != '\0' && !trailing
          && (parts[i][0] == '\0' || strcmp (parts[i], ".") == 0 || strcmp (parts[i], "..") == 0))
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                        "making a token: “%s” is no path prefix: it has an empty, “.” or “..” segment", prefix);
    }
  return TRUE;
}

gboolean
access_check_new (const GsToken *token, gint64 now_wall_us, GError **error)
{
  const char *name = token->name != NULL ? token->name : "";
  if (*name == '\0' || strlen (name) > NAME_MAX_BYTES || !is_plain (name))
    return gs_fail (
        error, GS_ERROR_INVALID_ARGUMENT,
        "making a token: it needs a name of 1 to %d bytes of plain text, so that people know it in lists and logs",
        NAME_MAX_BYTES);
  if (token->scope != GS_SCOPE_READ && token->scope != GS_SCOPE_WRITE && token->scope != GS_SCOPE_ADMIN)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "making token “%s”: its scope must be read, write or admin",
                    name);
  if (token->expires_wall_us != 0 && token->expires_wall_us <= now_wall_us)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "making token “%s”: it would have expired already", name);
  return check_prefix (token->prefix != NULL ? token->prefix : "", error);
}
