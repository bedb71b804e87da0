/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: who reported, with which disk, and what operators want of them. And waking whoever waits for that. */
#include "memory.h"

#define POLL_CANCEL_US (50 * 1000) /* how often a waiting call looks whether it was cancelled */

int
mem_name_order (gconstpointer a, gconstpointer b, gpointer user)
{
  return strcmp (a, b);
}

static void
node_clear (GsNodeRow *row)
{
  g_free ((char *) row->storage);
  g_free ((char *) row->address);
  g_free ((char *) row->zone);
}

void
mem_node_free (gpointer data)
{
  MemNode *node = data;
  node_clear (&node->row);
  g_free (node);
}

static void
node_fill (GsNodeRow *to, const GsNodeRow *from)
{
  *to = *from;
  to->size = sizeof *to;
  to->storage = g_strdup (from->storage);
  to->address = g_strdup (from->address != NULL ? from->address : "");
  to->zone = g_strdup (from->zone != NULL ? from->zone : "");
}

/* The lock is held. */
static const char *
owner_of_disk (Mem *self, const GsTxId *disk_id)
{
  for (GTreeNode *at = g_tree_node_first (self->nodes); at != NULL; at = g_tree_node_next (at))
    {
      const MemNode *node = g_tree_node_value (at);
      if (mem_txid_equal (&node->row.disk_id, disk_id))
        return node->row.storage;
    }
  return NULL;
}

gboolean
mem_node_report (gpointer data, GsCall *call, const GsNodeRow *row, GsNodeState *ret_state, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemNode *node, *fresh;
  SqlNodeKnown known = { 0 };
  if (!mem_begin (call, "recording the report of a node", error) || !sql_node_check (row, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  node = g_tree_lookup (self->nodes, row->storage);
  if (node != NULL)
    {
      known.disk_id = node->row.disk_id;
      known.instance = node->row.instance;
      known.replaced = node->replaced;
      known.state = node->row.state;
    }
  if (!sql_node_admit (row, node != NULL ? &known : NULL, owner_of_disk (self, &row->disk_id), error))
    return FALSE;
  fresh = g_new0 (MemNode, 1);
  node_fill (&fresh->row, row);
  fresh->row.state = node != NULL ? known.state : GS_NODE_ACTIVE;
  fresh->row.seen_wall_us = now_us;
  fresh->row.joined = node != NULL && node->row.joined;
  fresh->replaced = known.instance != row->instance ? known.instance : known.replaced;
  if (node == NULL || known.instance != row->instance || strcmp (node->row.address, fresh->row.address) != 0)
    mem_hint (self);
  *ret_state = fresh->row.state;
  g_tree_replace (self->nodes, (gpointer) fresh->row.storage, fresh);
  return TRUE;
}

gboolean
mem_node_list (gpointer data, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GPtrArray) nodes = g_ptr_array_new_with_free_func (mem_node_free);
  if (!mem_begin (call, "listing nodes", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  for (GTreeNode *at = g_tree_node_first (self->nodes); at != NULL; at = g_tree_node_next (at))
    {
      MemNode *copy = g_new0 (MemNode, 1);
      node_fill (&copy->row, &((MemNode *) g_tree_node_value (at))->row);
      copy->row.age_us = now_us - copy->row.seen_wall_us;
      g_ptr_array_add (nodes, copy);
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < nodes->len; i++)
    if (!visit (&((MemNode *) nodes->pdata[i])->row, user))
      break;
  return TRUE;
}

gboolean
mem_node_set_state (gpointer data, GsCall *call, const char *storage, GsNodeState state, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemNode *node;
  if (!mem_begin (call, "setting the state of a node", error) || !sql_node_state_check (state, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  node = g_tree_lookup (self->nodes, storage);
  if (node == NULL)
    return sql_no_node (storage, error);
  node->row.state = state;
  mem_hint (self);
  return TRUE;
}

gboolean
mem_node_forget (gpointer data, GsCall *call, const char *storage, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  const MemNode *node = g_tree_lookup (self->nodes, storage);
  gboolean held = FALSE;
  if (!mem_begin (call, "forgetting a node", error))
    return FALSE;
  if (node == NULL)
    return sql_no_node (storage, error);
  for (GTreeNode *at = g_tree_node_first (self->by_path); at != NULL && !held; at = g_tree_node_next (at))
    held = mem_replica_of (g_tree_node_value (at), storage) != NULL;
  if (held || node->row.state != GS_NODE_REMOVED)
    return sql_node_in_use (storage, node->row.state == GS_NODE_REMOVED, error);
  g_tree_remove (self->nodes, storage);
  mem_hint (self);
  return TRUE;
}

gboolean
mem_node_found (gpointer data, GsCall *call, const char *storage, guint64 highest_id, gboolean joined, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemNode *node;
  if (!mem_begin (call, "recording what is on the disk of a node", error) || !sql_id_check (highest_id, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  node = g_tree_lookup (self->nodes, storage);
  if (node == NULL)
    return sql_no_node (storage, error);
  self->last_id = MAX (self->last_id, highest_id);
  node->row.joined = node->row.joined || joined;
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- waiting */

void
mem_hint (Mem *self)
{
  self->n_hints++;
  gs_cond_broadcast (&self->hinted);
}

gboolean
mem_wait_hint (gpointer data, GsCall *call, guint64 seen, gint64 timeout_us, guint64 *ret_seen, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  gint64 end_us = g_get_monotonic_time () + CLAMP (timeout_us, 0, 3600 * (gint64) G_USEC_PER_SEC);
  while (self->n_hints == seen && g_get_monotonic_time () < end_us)
    {
      if (!mem_begin (call, "waiting for jobs", error))
        return FALSE;
      gs_cond_wait_until (&self->hinted, &self->lock, MIN (end_us, g_get_monotonic_time () + POLL_CANCEL_US));
    }
  *ret_seen = self->n_hints;
  return TRUE;
}
