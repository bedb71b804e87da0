/* SPDX-License-Identifier: Apache-2.0 */
/* Leases with fencing tokens. A row outlives its lease, so that the next token is greater. */
#include "memory.h"

void
mem_lease_free (gpointer data)
{
  MemLease *lease = data;
  g_free (lease->name);
  g_free (lease->owner);
  g_free (lease);
}

gboolean
mem_lease_take (gpointer data, GsCall *call, const char *name, const char *owner, gint64 lease_us, guint64 *ret_token,
                GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemLease *lease;
  if (!mem_begin (call, "taking a lease", error) || !sql_name_check ("lease", name, error)
      || !sql_name_check ("holder of a lease", owner, error) || !sql_lease_check (lease_us, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  lease = g_tree_lookup (self->leases, name);
  if (lease != NULL && lease->until_us > now_us && strcmp (lease->owner, owner) != 0)
    return sql_lease_held (name, lease->owner, lease->until_us - now_us, error);
  if (lease == NULL)
    {
      lease = g_new0 (MemLease, 1);
      lease->name = g_strdup (name);
      g_tree_insert (self->leases, lease->name, lease);
    }
  g_free (lease->owner);
  lease->owner = g_strdup (owner);
  lease->until_us = now_us + lease_us;
  *ret_token = ++lease->token;
  return TRUE;
}

gboolean
mem_lease_renew (gpointer data, GsCall *call, const char *name, guint64 token, gint64 lease_us, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GsMutexLocker) hold = NULL;
  MemLease *lease;
  if (!mem_begin (call, "renewing a lease", error) || !sql_lease_check (lease_us, error))
    return FALSE;
  hold = gs_mutex_hold (&self->lock);
  lease = g_tree_lookup (self->leases, name);
  if (lease == NULL || lease->token != token || lease->until_us <= now_us)
    return sql_lease_lost (name, error);
  lease->until_us = now_us + lease_us;
  return TRUE;
}

gboolean
mem_lease_release (gpointer data, GsCall *call, const char *name, guint64 token, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  MemLease *lease = g_tree_lookup (self->leases, name);
  if (!mem_begin (call, "giving a lease back", error))
    return FALSE;
  if (lease != NULL && lease->token == token)
    lease->until_us = 0;
  return TRUE;
}

gboolean
mem_lease_list (gpointer data, GsCall *call, GsLeaseRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  gint64 now_us = self->host->wall_us (self->host);
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func (mem_lease_free);
  if (!mem_begin (call, "listing leases", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  for (GTreeNode *at = g_tree_node_first (self->leases); at != NULL; at = g_tree_node_next (at))
    {
      MemLease *copy = g_memdup2 (g_tree_node_value (at), sizeof *copy);
      copy->name = g_strdup (copy->name);
      copy->owner = g_strdup (copy->owner);
      g_ptr_array_add (leases, copy);
    }
  gs_mutex_unlock (&self->lock);
  for (guint i = 0; i < leases->len; i++)
    {
      const MemLease *lease = leases->pdata[i];
      GsLeaseRow row = { sizeof row, lease->name, lease->owner, lease->token, lease->until_us - now_us };
      if (!visit (&row, user))
        break;
    }
  return TRUE;
}
