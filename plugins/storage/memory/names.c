/* SPDX-License-Identifier: Apache-2.0 */
/* Which names a ref can have, and which it cannot have beside others. */
#include "memory.h"

#define NAME_MAX_BYTES 1024

static const char *
component_fault (const char *part)
{
  if (*part == '\0')
    return "it has an empty part";
  if (*part == '.')
    return "a part of it begins with a dot";
  if (g_str_has_suffix (part, ".lock"))
    return "a part of it ends with .lock";
  return NULL;
}

const char *
memory_name_fault (const char *name)
{
  g_auto (GStrv) parts = NULL;
  const char *fault = NULL;
  if (name == NULL || !g_str_has_prefix (name, "refs/"))
    return "it is not below refs/";
  if (strlen (name) > NAME_MAX_BYTES)
    return "it is longer than 1024 bytes";
  for (const char *at = name; *at != '\0'; at++)
    if ((guchar) *at < 0x20 || *at == 0x7f || strchr (" ~^:?*[\\", *at) != NULL)
      return "it has a control character or one that git reserves";
  if (strstr (name, "..") != NULL || strstr (name, "@{") != NULL || g_str_has_suffix (name, "."))
    return "it has “..” or “@{”, or ends with a dot";
  parts = g_strsplit (name, "/", -1);
  for (gsize i = 0; fault == NULL && parts[i] != NULL; i++)
    fault = component_fault (parts[i]);
  if (fault == NULL && parts[2] == NULL)
    fault = "it has fewer than three parts";
  return fault;
}

const char *
memory_name_in_the_way (GTree *tree, const char *name, GHashTable *but)
{
  g_autofree char *above = g_strdup (name), *folder = g_strconcat (name, "/", NULL);
  for (char *slash; (slash = strrchr (above, '/')) != NULL;)
    {
      gpointer key;
      *slash = '\0';
      if (g_tree_lookup_extended (tree, above, &key, NULL) && (but == NULL || !g_hash_table_contains (but, above)))
        return key;
    }
  for (GTreeNode *node = g_tree_lower_bound (tree, folder); node != NULL; node = g_tree_node_next (node))
    {
      const char *below = g_tree_node_key (node);
      if (!g_str_has_prefix (below, folder))
        break;
      if (but == NULL || !g_hash_table_contains (but, below))
        return below;
    }
  return NULL;
}
