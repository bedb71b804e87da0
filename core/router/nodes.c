/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of nodes. See nodes.h. */
#include "router/nodes.h"

#include <gitstead/thread.h>

struct GsiNodes
{
  gint refs; /* atomic */
  GsMutex lock;
  GHashTable *by_name; /* of GsiNodeInfo, by its storage */
};

static void
info_free (gpointer data)
{
  GsiNodeInfo *info = data;
  g_free (info->storage);
  g_free (info->address);
  g_free (info);
}

GsiNodes *
gsi_nodes_new (void)
{
  GsiNodes *nodes = g_new0 (GsiNodes, 1);
  nodes->refs = 1;
  gs_mutex_init (&nodes->lock);
  nodes->by_name = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, info_free);
  return nodes;
}

GsiNodes *
gsi_nodes_ref (GsiNodes *nodes)
{
  __atomic_add_fetch (&nodes->refs, 1, __ATOMIC_RELAXED);
  return nodes;
}

void
gsi_nodes_unref (GsiNodes *nodes)
{
  if (nodes == NULL || __atomic_sub_fetch (&nodes->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  g_hash_table_destroy (nodes->by_name);
  gs_mutex_clear (&nodes->lock);
  g_free (nodes);
}

/* The lock is held. */
static GsiNodeInfo *
info_of (GsiNodes *nodes, const char *storage)
{
  GsiNodeInfo *info = g_hash_table_lookup (nodes->by_name, storage);
  if (info != NULL)
    return info;
  info = g_new0 (GsiNodeInfo, 1);
  info->storage = g_strdup (storage);
  info->state = GS_NODE_ACTIVE;
  g_hash_table_insert (nodes->by_name, info->storage, info);
  return info;
}

static gboolean
collect_row (const GsNodeRow *row, gpointer user)
{
  GsiNodeInfo *info = g_new0 (GsiNodeInfo, 1);
  info->storage = g_strdup (row->storage);
  info->reported = TRUE;
  info->state = row->state;
  info->disk_id = row->disk_id;
  info->address = g_strdup (row->address);
  info->free_bytes = row->free_bytes;
  info->total_bytes = row->total_bytes;
  info->seen_wall_us = row->seen_wall_us;
  info->joined = row->joined;
  g_ptr_array_add (user, info);
  return TRUE;
}

static void
note_look (GsiNodes *nodes, const char *storage, gboolean up, gint64 now_wall_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nodes->lock);
  GsiNodeInfo *info = info_of (nodes, storage);
  if (info->looked && info->up != up)
    info->since_wall_us = now_wall_us;
  info->looked = TRUE;
  info->up = up;
}

/* What the store says replaces what it said before; one that it forgot is as if it had never reported. */
static void
take_rows (GsiNodes *nodes, GPtrArray *rows)
{
  GHashTableIter at;
  gpointer value;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nodes->lock);
  g_hash_table_iter_init (&at, nodes->by_name);
  while (g_hash_table_iter_next (&at, NULL, &value))
    {
      GsiNodeInfo *info = value;
      info->reported = FALSE;
      info->state = GS_NODE_ACTIVE;
      if (!info->looked)
        g_hash_table_iter_remove (&at);
    }
  for (guint i = 0; i < rows->len; i++)
    {
      GsiNodeInfo *row = rows->pdata[i], *info = info_of (nodes, row->storage);
      info->reported = TRUE;
      info->state = row->state;
      info->disk_id = row->disk_id;
      g_free (info->address);
      info->address = g_steal_pointer (&row->address);
      info->free_bytes = row->free_bytes;
      info->total_bytes = row->total_bytes;
      info->seen_wall_us = row->seen_wall_us;
      info->joined = row->joined;
    }
}

gboolean
gsi_nodes_refresh (GsiNodes *nodes, GsiRouter *router, GsCall *call, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GPtrArray) rows = g_ptr_array_new_with_free_func (info_free);
  gint64 now_us = config->host->wall_us (config->host);
  for (gsize i = 0; i < config->n_storages; i++)
    {
      const GsiStorage *storage = config->storages[i];
      note_look (nodes, storage->name, storage->ops->probe == NULL || storage->ops->probe (storage->self, NULL), now_us);
    }
  if (config->metadata->node_list == NULL)
    return TRUE;
  if (!config->metadata->node_list (config->metadata_self, call, collect_row, rows, error))
    return FALSE;
  take_rows (nodes, rows);
  return TRUE;
}

GsNodeState
gsi_nodes_state (GsiNodes *nodes, const char *storage)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nodes->lock);
  const GsiNodeInfo *info = g_hash_table_lookup (nodes->by_name, storage);
  return info != NULL ? info->state : GS_NODE_ACTIVE;
}

void
gsi_nodes_room (GsiNodes *nodes, const char *storage, guint64 *ret_free, guint64 *ret_total)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nodes->lock);
  const GsiNodeInfo *info = g_hash_table_lookup (nodes->by_name, storage);
  if (info == NULL || info->total_bytes == 0)
    return;
  *ret_free = info->free_bytes;
  *ret_total = info->total_bytes;
}

static int
by_name (gconstpointer left, gconstpointer right)
{
  const GsiNodeInfo *const *a = left, *const *b = right;
  return strcmp ((*a)->storage, (*b)->storage);
}

GPtrArray *
gsi_nodes_all (GsiNodes *nodes)
{
  GPtrArray *all = g_ptr_array_new_with_free_func (info_free);
  GHashTableIter at;
  gpointer value;
  gs_mutex_lock (&nodes->lock);
  g_hash_table_iter_init (&at, nodes->by_name);
  while (g_hash_table_iter_next (&at, NULL, &value))
    {
      GsiNodeInfo *copy = g_memdup2 (value, sizeof *copy);
      copy->storage = g_strdup (copy->storage);
      copy->address = g_strdup (copy->address);
      g_ptr_array_add (all, copy);
    }
  gs_mutex_unlock (&nodes->lock);
  g_ptr_array_sort (all, by_name);
  return all;
}
