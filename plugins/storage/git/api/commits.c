/* SPDX-License-Identifier: Apache-2.0 */
/* Commits taken apart and put together. */
#include "change.h"

#include <string.h>

static char *
line_of (const char **at, const char *end, const char *field)
{
  gsize field_len = strlen (field);
  const char *nl = *at < end ? memchr (*at, '\n', (gsize) (end - *at)) : NULL;
  char *value;
  if (nl == NULL || (gsize) (nl - *at) <= field_len || memcmp (*at, field, field_len) != 0 || (*at)[field_len] != ' ')
    return NULL;
  value = g_strndup (*at + field_len + 1, (gsize) (nl - *at) - field_len - 1);
  *at = nl + 1;
  return value;
}

/* Header lines after the known ones: "encoding" is kept, others (signatures, which do not hold for a copy) are not. */
static void
read_rest (CommitInfo *info, const char *at, const char *end)
{
  while (at < end && *at != '\n')
    {
      const char *nl = memchr (at, '\n', (gsize) (end - at));
      const char *line = at;
      if (info->encoding == NULL)
        info->encoding = line_of (&line, end, "encoding");
      if (nl == NULL)
        {
          at = end;
          break;
        }
      at = nl + 1;
    }
  if (at < end)
    at++;
  info->message = at;
  info->message_len = (gsize) (end - at);
}

gboolean
commit_read (Change *change, const GsOid *oid, CommitInfo *ret_info, GError **error)
{
  CommitInfo info = { 0 };
  GsObjectType type;
  GsOid parent;
  gsize len;
  char *committer;
  if (!draft_read (change->draft, oid, GIT_STREAM_BYTES, &type, &info.bytes, error))
    return FALSE;
  const char *at = g_bytes_get_data (info.bytes, &len), *end = at + len;
  info.parents = g_array_new (FALSE, FALSE, sizeof (GsOid));
  gboolean good = type == GS_OBJECT_COMMIT && odb_parse_link (at, len, "tree", &info.tree);
  if (good)
    at += strlen ("tree \n") + 40;
  while (good && odb_parse_link (at, (gsize) (end - at), "parent", &parent))
    {
      g_array_append_val (info.parents, parent);
      at += strlen ("parent \n") + 40;
    }
  if (good && (info.author = line_of (&at, end, "author")) != NULL
      && (committer = line_of (&at, end, "committer")) != NULL)
    {
      g_free (committer);
      read_rest (&info, at, end);
      *ret_info = info;
      return TRUE;
    }
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  commit_info_clear (&info);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "object %s of repository %" G_GUINT64_FORMAT " is no whole commit", hex,
                  change->repo->id);
}

void
commit_info_clear (CommitInfo *info)
{
  g_clear_pointer (&info->bytes, g_bytes_unref);
  if (info->parents != NULL)
    g_array_unref (info->parents);
  info->parents = NULL;
  g_clear_pointer (&info->author, g_free);
  g_clear_pointer (&info->encoding, g_free);
}

gboolean
commit_tree (Change *change, const GsOid *oid, GsOid *ret_tree, GError **error)
{
  g_auto (CommitInfo) info = { 0 };
  if (!commit_read (change, oid, &info, error))
    return FALSE;
  *ret_tree = info.tree;
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
