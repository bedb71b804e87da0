/* SPDX-License-Identifier: Apache-2.0 */
/* Text forms that the SQL metadata stores share. See sql.h. */
#include "sql.h"

char *
sql_expand (const char *text, const SqlToken *tokens)
{
  g_autoptr (GString) out = g_string_new (text);
  for (; tokens->token != NULL; tokens++)
    g_string_replace (out, tokens->token, tokens->value, 0);
  return g_string_free (g_steal_pointer (&out), FALSE);
}

/* The greatest character, in UTF-8 order as in byte order; a noncharacter, so no path has it. */
#define LAST_CHARACTER "\xf4\x8f\xbf\xbf"
#define PATH_MAX_BYTES 4096

gboolean
sql_path_check (const char *path, GError **error)
{
  const char *why = NULL;
  gsize len = path != NULL ? strlen (path) : 0;
  if (len == 0)
    why = "it is empty";
  else if (len > PATH_MAX_BYTES)
    why = "it is longer than 4096 bytes";
  else if (!g_utf8_validate (path, (gssize) len, NULL))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the repository path is not valid UTF-8");
  else if (strstr (path, LAST_CHARACTER) != NULL)
    why = "it contains the noncharacter U+10FFFF";
  for (gsize i = 0; why == NULL && i < len; i++)
    if (g_ascii_iscntrl (path[i]))
      why = "it contains a control character";
  if (why != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the repository path “%.100s” cannot be used: %s",
                    path != NULL ? path : "", why);
  return TRUE;
}

char *
sql_path_key (const char *path)
{
  g_autofree char *normal = g_utf8_normalize (path, -1, G_NORMALIZE_NFD);
  g_autofree char *folded = g_utf8_casefold (normal, -1);
  return g_utf8_normalize (folded, -1, G_NORMALIZE_NFD);
}

void
sql_path_range (const char *prefix, const char *after, char **ret_first, char **ret_beyond)
{
  /* The least string greater than another is that with the least character appended. */
  *ret_first = strcmp (after, prefix) >= 0 && *after != '\0' ? g_strconcat (after, "\x01", NULL) : g_strdup (prefix);
  *ret_beyond = g_strconcat (prefix, LAST_CHARACTER, NULL);
}

/* ---------------------------------------------------------------------------------------- updates */

static gboolean
name_ok (const char *name)
{
  return name != NULL && *name != '\0' && strpbrk (name, " \n\r") == NULL;
}

static void
append_oid (GString *out, const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  if (oid->len == 0)
    {
      g_string_append_c (out, '-');
      return;
    }
  gs_oid_hex (oid, hex);
  g_string_append (out, hex);
}

GBytes *
sql_updates_encode (const GsRefUpdate *updates, gsize n_updates, GError **error)
{
  g_autoptr (GString) out = g_string_sized_new (128 * MIN (n_updates, 1024));
  for (gsize i = 0; i < n_updates; i++)
    {
      const GsRefUpdate *update = &updates[i];
      gboolean symbolic = update->new_symref != NULL;
      if (!name_ok (update->name) || (symbolic && !name_ok (update->new_symref)))
        {
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                   "recording a write: update %" G_GSIZE_FORMAT " names “%s”, which no ref can be called", i + 1,
                   update->name != NULL ? update->name : "");
          return NULL;
        }
      append_oid (out, &update->old_oid);
      g_string_append_c (out, ' ');
      if (symbolic)
        g_string_append_printf (out, "ref:%s", update->new_symref);
      else
        append_oid (out, &update->new_oid);
      g_string_append_printf (out, " %s\n", update->name);
    }
  return g_string_free_to_bytes (g_steal_pointer (&out));
}

static gboolean
decode_oid (const char *text, GsOid *ret_oid)
{
  if (strcmp (text, "-") == 0)
    return TRUE;
  return gs_oid_parse (text, strlen (text), ret_oid);
}

/* Cuts @line at its two spaces. */
static gboolean
decode_line (char *line, GsRefUpdate *ret_update)
{
  char *middle = strchr (line, ' '), *name = middle != NULL ? strchr (middle + 1, ' ') : NULL;
  if (name == NULL || name[1] == '\0')
    return FALSE;
  *middle++ = '\0';
  *name++ = '\0';
  memset (ret_update, 0, sizeof *ret_update);
  ret_update->name = name;
  if (!decode_oid (line, &ret_update->old_oid))
    return FALSE;
  if (g_str_has_prefix (middle, "ref:"))
    {
      ret_update->new_symref = middle + strlen ("ref:");
      return TRUE;
    }
  return decode_oid (middle, &ret_update->new_oid);
}

GArray *
sql_updates_decode (const void *bytes, gsize n_bytes, char **ret_text, GError **error)
{
  g_autofree char *text = g_strndup (n_bytes > 0 ? bytes : "", n_bytes);
  g_autoptr (GArray) updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  for (char *line = text, *end; *line != '\0'; line = end + 1)
    {
      GsRefUpdate update;
      end = strchr (line, '\n');
      if (end != NULL)
        *end = '\0';
      if (end == NULL || !decode_line (line, &update))
        {
          gs_fail (error, GS_ERROR_DATA_LOSS,
                   "reading a recorded write: update %u is not in the form that this server writes; restore the "
                   "metadata store from a backup",
                   updates->len + 1);
          return NULL;
        }
      g_array_append_val (updates, update);
    }
  *ret_text = g_steal_pointer (&text);
  return g_steal_pointer (&updates);
}

/* ----------------------------------------------------------------------------------------- voters */

char *
sql_voters_encode (const char *const *voters, GError **error)
{
  if (voters == NULL || voters[0] == NULL)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a write: no storage is said to hold it");
      return NULL;
    }
  for (gsize i = 0; voters[i] != NULL; i++)
    if (voters[i][0] == '\0' || strpbrk (voters[i], "\n\r") != NULL)
      {
        gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a write: “%s” cannot be the name of a storage",
                 voters[i]);
        return NULL;
      }
  return g_strjoinv ("\n", (char **) voters);
}

char **
sql_voters_decode (const char *text)
{
  return g_strsplit (text, "\n", -1);
}
