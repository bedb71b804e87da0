/* SPDX-License-Identifier: Apache-2.0 */
/* Listing and finding refs: copied under the lock, shown without it. */
#include "memory.h"

static void
ref_clear (gpointer data)
{
  GsRef *ref = data;
  g_free ((char *) ref->name);
  g_free ((char *) ref->symref_target);
}

static GArray *
refs_new (void)
{
  GArray *refs = g_array_new (FALSE, FALSE, sizeof (GsRef));
  g_array_set_clear_func (refs, ref_clear);
  return refs;
}

static void
add_ref (GArray *refs, const char *name, const GsOid *oid, const char *target)
{
  GsRef ref = { .size = sizeof ref, .name = g_strdup (name), .symref_target = g_strdup (target) };
  if (oid != NULL)
    ref.oid = *oid;
  g_array_append_val (refs, ref);
}

static gboolean
wanted (const GsRefQuery *query, const char *name)
{
  if (!query->include_hidden && g_str_has_prefix (name, MEMORY_OWN_REFS))
    return FALSE;
  if (query->prefixes == NULL || query->prefixes[0] == NULL)
    return TRUE;
  for (gsize i = 0; query->prefixes[i] != NULL; i++)
    if (g_str_has_prefix (name, query->prefixes[i]))
      return TRUE;
  return FALSE;
}

static void
collect (Replica *replica, const GsRefQuery *query, GArray *refs)
{
  GTreeNode *node
      = query->after != NULL ? g_tree_upper_bound (replica->refs, query->after) : g_tree_node_first (replica->refs);
  if (query->include_head && query->after == NULL)
    add_ref (refs, "HEAD", g_tree_lookup (replica->refs, replica->head), replica->head);
  for (; node != NULL && (query->limit == 0 || refs->len < query->limit); node = g_tree_node_next (node))
    if (wanted (query, g_tree_node_key (node)))
      add_ref (refs, g_tree_node_key (node), g_tree_node_value (node), NULL);
}

gboolean
memory_list_refs (gpointer data, GsCall *call, const GsRepo *repo, const GsRefQuery *query, GsRefVisit visit,
                  gpointer user, GError **error)
{
  Memory *self = data;
  g_autoptr (GArray) refs = refs_new ();
  Replica *replica;
  if (!gs_call_check (call, "listing refs", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica != NULL)
    collect (replica, query, refs);
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < refs->len; i++)
    if (!visit (&g_array_index (refs, GsRef, i), user))
      break;
  return replica != NULL;
}

gboolean
memory_find_ref (gpointer data, GsCall *call, const GsRepo *repo, const char *name, GsRefVisit visit, gpointer user,
                 GError **error)
{
  Memory *self = data;
  g_autoptr (GArray) refs = refs_new ();
  Replica *replica;
  if (!gs_call_check (call, "finding a ref", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  replica = memory_find (self, repo, error);
  if (replica != NULL && strcmp (name, "HEAD") == 0)
    add_ref (refs, "HEAD", g_tree_lookup (replica->refs, replica->head), replica->head);
  else if (replica != NULL && !g_str_has_prefix (name, MEMORY_OWN_REFS) && g_tree_lookup (replica->refs, name) != NULL)
    add_ref (refs, name, g_tree_lookup (replica->refs, name), NULL);
  gs_mutex_unlock (&self->lock);
  if (replica == NULL)
    return FALSE;
  if (refs->len == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no ref “%s” in the replica at %s", name, repo->replica_path);
  visit (&g_array_index (refs, GsRef, 0), user);
  return TRUE;
}
