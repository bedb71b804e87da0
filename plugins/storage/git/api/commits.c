/* SPDX-License-Identifier: Apache-2.0 */
/* Commits taken apart and put together. */
#include "change.h"

#include <string.h>

gboolean
commit_read (Change *change, const GsOid *oid, CommitParts *ret_parts, GError **error)
{
  GsObjectType type;
  g_autoptr (GBytes) bytes = NULL;
  gsize len;
  if (!draft_read (change->draft, oid, API_COMMIT_MAX, &type, &bytes, error))
    {
      api_name_loss (&change->api, oid, error);
      return FALSE;
    }
  const char *data = g_bytes_get_data (bytes, &len);
  change->commit_bytes += len;
  if (change->commit_bytes > CHANGE_READ_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the commits of the change have more than %u bytes", CHANGE_READ_MAX);
  const char *kept = api_text (&change->api, data, (gssize) len);
  return api_commit_parse (&change->api, oid, kept, type == GS_OBJECT_COMMIT ? len : 0, ret_parts, error);
}

gboolean
commit_tree (Change *change, const GsOid *oid, GsOid *ret_tree, GError **error)
{
  CommitParts parts;
  if (!commit_read (change, oid, &parts, error))
    return FALSE;
  *ret_tree = parts.tree;
  return TRUE;
}

static void
append_link (GString *text, const char *field, const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  g_string_append_printf (text, "%s %s\n", field, hex);
}

gboolean
commit_add (Change *change, const GsOid *tree, const GsOid *parents, gsize n_parents, const char *author,
            const char *encoding, const char *message, gsize message_len, GsOid *ret_oid, GError **error)
{
  g_autoptr (GString) text = g_string_new (NULL);
  append_link (text, "tree", tree);
  for (gsize i = 0; i < n_parents; i++)
    append_link (text, "parent", &parents[i]);
  g_string_append_printf (text, "author %s\n", author != NULL ? author : change->committer);
  g_string_append_printf (text, "committer %s\n", change->committer);
  if (encoding != NULL)
    g_string_append_printf (text, "encoding %s\n", encoding);
  g_string_append_c (text, '\n');
  g_string_append_len (text, message, (gssize) message_len);
  if (!draft_add (change->draft, GS_OBJECT_COMMIT, text->str, text->len, ret_oid, error))
    return FALSE;
  g_array_append_val (change->commits, *ret_oid);
  return TRUE;
}
