/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: who reported, with which disk, and what operators want of them. */
#include "store.h"

/* What is recorded of a node. */
typedef struct
{
  SqlNodeKnown known;
  gboolean found;
  char *address;
} Recorded;

static void
recorded_clear (Recorded *recorded)
{
  g_free (recorded->address);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Recorded, recorded_clear)

static gboolean
find_node (SqlConn *conn, const char *storage, Recorded *ret_recorded, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_NODE_GET);
  gboolean ok;
  sql_bind_text (&query, ":storage", storage);
  if (!sql_step (&query, &ret_recorded->found, error))
    return FALSE;
  if (!ret_recorded->found)
    return TRUE;
  ok = sql_blob (&query, 0, ret_recorded->known.disk_id.bytes, GS_TXID_SIZE, error);
  ret_recorded->known.instance = (guint64) sql_int (&query, 1);
  ret_recorded->known.replaced = (guint64) sql_int (&query, 2);
  ret_recorded->known.state = (GsNodeState) sql_int (&query, 3);
  ret_recorded->address = g_strdup (sql_text (&query, 4));
  sql_done (&query);
  return ok;
}

/* Which node has the disk; NULL in *@ret_owner when none. */
static gboolean
find_disk (SqlConn *conn, const GsTxId *disk_id, char **ret_owner, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_NODE_BY_DISK);
  gboolean row;
  sql_bind_id (&query, ":disk_id", disk_id);
  if (!sql_step (&query, &row, error))
    return FALSE;
  *ret_owner = row ? g_strdup (sql_text (&query, 0)) : NULL;
  if (row)
    sql_done (&query);
  return TRUE;
}

static gboolean
put_node (SqlConn *conn, const GsNodeRow *row, guint64 replaced, GsNodeState state, GError **error)
{
  SqlStatement query = sql_query (conn, SQL_NODE_PUT);
  sql_bind_text (&query, ":storage", row->storage);
  sql_bind_id (&query, ":disk_id", &row->disk_id);
  sql_bind_int (&query, ":instance", (gint64) row->instance);
  sql_bind_int (&query, ":replaced", (gint64) replaced);
  sql_bind_text (&query, ":address", row->address != NULL ? row->address : "");
  sql_bind_text (&query, ":zone", row->zone != NULL ? row->zone : "");
  sql_bind_int (&query, ":free_bytes", (gint64) row->free_bytes);
  sql_bind_int (&query, ":total_bytes", (gint64) row->total_bytes);
  sql_bind_int (&query, ":state", (gint64) state);
  return sql_run (&query, error);
}

gboolean
sql_node_report (gpointer self, GsCall *call, const GsNodeRow *row, GsNodeState *ret_state, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Recorded) before = { 0 };
  g_autofree char *owner = NULL;
  GsNodeState state;
  gboolean another;
  if (!sql_node_check (row, error))
    return FALSE;
  conn = sql_take_writer (self, call, "recording the report of a node", error);
  if (conn == NULL || !sql_lock (conn, "node", row->storage, strlen (row->storage), error)
      || !sql_lock (conn, "disk", row->disk_id.bytes, GS_TXID_SIZE, error)
      || !find_node (conn, row->storage, &before, error) || !find_disk (conn, &row->disk_id, &owner, error)
      || !sql_node_admit (row, before.found ? &before.known : NULL, owner, error))
    return FALSE;
  state = before.found ? before.known.state : GS_NODE_ACTIVE;
  another = before.found && before.known.instance != row->instance;
  if (!put_node (conn, row, another ? before.known.instance : before.known.replaced, state, error)
      || ((!before.found || another || g_strcmp0 (before.address, row->address != NULL ? row->address : "") != 0)
          && !sql_hint (conn, error))
      || !sql_commit (conn, error))
    return FALSE;
  *ret_state = state;
  return TRUE;
}

typedef struct
{
  GsNodeRow row;
  char *storage, *address, *zone;
} Held;

static void
held_free (gpointer data)
{
  Held *held = data;
  g_free (held->storage);
  g_free (held->address);
  g_free (held->zone);
  g_free (held);
}

/* Columns as in the fragment NODE_COLUMNS. */
static gboolean
gather (SqlStatement *query, GPtrArray *nodes, GError **error)
{
  gboolean row;
  while (sql_step (query, &row, error))
    {
      Held *held;
      if (!row)
        return TRUE;
      held = g_new0 (Held, 1);
      g_ptr_array_add (nodes, held);
      held->row.size = sizeof held->row;
      held->row.storage = held->storage = g_strdup (sql_text (query, 0));
      held->row.instance = (guint64) sql_int (query, 2);
      held->row.address = held->address = g_strdup (sql_text (query, 3));
      held->row.zone = held->zone = g_strdup (sql_text (query, 4));
      held->row.free_bytes = (guint64) sql_int (query, 5);
      held->row.total_bytes = (guint64) sql_int (query, 6);
      held->row.state = (GsNodeState) sql_int (query, 7);
      held->row.seen_wall_us = sql_int (query, 8);
      held->row.age_us = sql_int (query, 9);
      held->row.joined = sql_int (query, 10) != 0;
      if (!sql_blob (query, 1, held->row.disk_id.bytes, GS_TXID_SIZE, error))
        {
          sql_done (query);
          return FALSE;
        }
    }
  return FALSE;
}

gboolean
sql_node_list (gpointer self, GsCall *call, GsNodeRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) nodes = g_ptr_array_new_with_free_func (held_free);
  SqlConn *conn = sql_take_reader (self, call, "listing nodes", error);
  SqlStatement query;
  gboolean ok;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_NODE_LIST);
  ok = gather (&query, nodes, error);
  sql_give (conn);
  for (guint i = 0; ok && i < nodes->len; i++)
    if (!visit (&((Held *) nodes->pdata[i])->row, user))
      break;
  return ok;
}

gboolean
sql_node_set_state (gpointer self, GsCall *call, const char *storage, GsNodeState state, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  SqlStatement query;
  gboolean found;
  if (!sql_node_state_check (state, error))
    return FALSE;
  conn = sql_take_writer (self, call, "setting the state of a node", error);
  if (conn == NULL || !sql_lock (conn, "node", storage, strlen (storage), error))
    return FALSE;
  query = sql_query (conn, SQL_NODE_SET_STATE);
  sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":state", (gint64) state);
  if (!sql_step (&query, &found, error))
    return FALSE;
  sql_done (&query);
  if (!found)
    return sql_no_node (storage, error);
  return sql_hint (conn, error) && sql_commit (conn, error);
}

gboolean
sql_node_forget (gpointer self, GsCall *call, const char *storage, GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "forgetting a node", error);
  g_auto (Recorded) before = { 0 };
  SqlStatement query;
  gboolean held;
  gint64 id;
  if (conn == NULL || !sql_lock (conn, "node", storage, strlen (storage), error)
      || !find_node (conn, storage, &before, error))
    return FALSE;
  if (!before.found)
    return sql_no_node (storage, error);
  query = sql_query (conn, SQL_NODE_HOLDS);
  sql_bind_text (&query, ":storage", storage);
  if (!sql_run_int (&query, &held, &id, error))
    return FALSE;
  if (held || before.known.state != GS_NODE_REMOVED)
    return sql_node_in_use (storage, before.known.state == GS_NODE_REMOVED, error);
  query = sql_query (conn, SQL_NODE_FORGET);
  sql_bind_text (&query, ":storage", storage);
  return sql_run (&query, error) && sql_hint (conn, error) && sql_commit (conn, error);
}

gboolean
sql_node_found (gpointer self, GsCall *call, const char *storage, guint64 highest_id, gboolean joined, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Recorded) before = { 0 };
  SqlStatement query;
  if (!sql_id_check (highest_id, error))
    return FALSE;
  conn = sql_take_writer (self, call, "recording what is on the disk of a node", error);
  if (conn == NULL || !sql_lock (conn, "node", storage, strlen (storage), error)
      || !find_node (conn, storage, &before, error))
    return FALSE;
  if (!before.found)
    return sql_no_node (storage, error);
  if (highest_id > 0 && !sql_ids_keep (conn, highest_id, "", "", error))
    return FALSE;
  query = sql_query (conn, SQL_NODE_JOINED);
  sql_bind_text (&query, ":storage", storage);
  sql_bind_int (&query, ":joined", joined ? 1 : 0);
  return sql_run (&query, error) && sql_commit (conn, error);
}
