/* SPDX-License-Identifier: Apache-2.0 */
/**
 * refs_name.c - which names a ref may have, and what one ref adds to the refs digest.
 */
#include "refs_internal.h"

#include <string.h>

/** Why the name breaks git's rules (check-ref-format), NULL when it does not. */
static const char *
name_fault (const char *name, gsize len)
{
  const guint8 *at = (const guint8 *) name;
  if (len < 6 || memcmp (name, "refs/", 5) != 0)
    return "it does not begin with refs/";
  for (gsize i = 0; i < len; i++)
    {
      guint8 c = at[i];
      if (c > '~' || c < ' ')
        {
          if (c < ' ' || c == 0x7f)
            return "it has a control character";
          continue;
        }
      switch (c)
        {
        case '.':
          if (at[i - 1] == '/')
            return "a part of it begins with a dot";
          if (at[i + 1] == '.')
            return "it has two dots in a row";
          break;
        case '/':
          if (at[i + 1] == '/' || i + 1 == len)
            return "it has an empty part";
          if (i >= 5 && memcmp (at + i - 5, ".lock", 5) == 0)
            return "a part of it ends with .lock";
          break;
        case '{':
          if (at[i - 1] == '@')
            return "it has @{";
          break;
        case ' ':
        case '~':
        case '^':
        case ':':
        case '?':
        case '*':
        case '[':
        case '\\':
          return "it has a character that git reserves (space ~ ^ : ? * [ or backslash)";
        default:
          break;
        }
    }
  if (at[len - 1] == '.')
    return "it ends with a dot";
  if (memcmp (at + len - 5, ".lock", 5) == 0)
    return "it ends with .lock";
  return NULL;
}

gboolean
ref_name_well_formed (const char *name, gsize len)
{
  return name_fault (name, len) == NULL;
}

gboolean
ref_name_valid (const char *name, GError **error)
{
  gsize len = strlen (name);
  const char *fault = name_fault (name, len);
  gsize component = 0, depth = 1;
  if (fault != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "funny refname: %s", fault);
  if (len > REF_NAME_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "refname is longer than %d bytes", REF_NAME_MAX);
  for (gsize i = 0; i <= len; i++)
    if (name[i] == '/' || name[i] == '\0')
      {
        /* The last one needs room for git's lock suffix in a directory entry. */
        gsize limit = name[i] == '/' ? REF_COMPONENT_MAX : REF_COMPONENT_MAX - strlen (REF_LOCK_SUFFIX);
        if (component > limit)
          return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                          "a part of the refname is longer than %" G_GSIZE_FORMAT " bytes", limit);
        depth += name[i] == '/';
        component = 0;
      }
    else
      component++;
  if (depth > REF_DEPTH_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "refname has more than %d parts", REF_DEPTH_MAX);
  return TRUE;
}

void
ref_digest_term (const char *name, const GsOid *oid, const char *symref, GsDigest *ret_term)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  gsize len = sizeof ret_term->bytes;
  g_checksum_update (sum, (const guchar *) name, (gssize) strlen (name) + 1);
  if (symref != NULL)
    {
      g_checksum_update (sum, (const guchar *) "ref: ", 5);
      g_checksum_update (sum, (const guchar *) symref, (gssize) strlen (symref));
    }
  else
    {
      char hex[GS_OID_HEX_MAX + 1];
      gs_oid_hex (oid, hex);
      g_checksum_update (sum, (const guchar *) hex, 2 * oid->len);
    }
  g_checksum_update (sum, (const guchar *) "\n", 1);
  g_checksum_get_digest (sum, ret_term->bytes, &len);
}
