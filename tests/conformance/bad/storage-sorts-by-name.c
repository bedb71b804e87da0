/* SPDX-License-Identifier: Apache-2.0 */
/* S63: lists a tree in the order of names, as if a folder had no slash. */
#include "bad.h"

BAD_GOOD (GsStorageOps);

static gboolean
note_entry (const GsTreeEntry *entry, gpointer user)
{
  GsTreeEntry *copy = g_memdup2 (entry, sizeof *entry);
  copy->name = g_strdup (entry->name);
  g_ptr_array_add (user, copy);
  return TRUE;
}

static void
entry_free (gpointer data)
{
  GsTreeEntry *entry = data;
  g_free ((char *) entry->name);
  g_free (entry);
}

static gint
by_name (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const GsTreeEntry *const *) a)->name, (*(const GsTreeEntry *const *) b)->name);
}

static gboolean
bad_list (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) entries = g_ptr_array_new_with_free_func (entry_free);
  if (!good_ops.list_tree (self, call, repo, tree, note_entry, entries, error))
    return FALSE;
  g_ptr_array_sort (entries, by_name);
  for (guint i = 0; i < entries->len && visit (entries->pdata[i], user); i++)
    ;
  return TRUE;
}

BAD_PLUGIN (GsStorageOps, "storage-git.so", ops->list_tree = bad_list)
