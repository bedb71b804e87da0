/* SPDX-License-Identifier: Apache-2.0 */
/* Leases with fencing tokens. A row outlives its lease, so that the next token is greater. */
#include "store.h"

typedef struct
{
  gboolean found;
  guint64 token;
  gint64 left_us;
  char *owner;
} Recorded;

static void
recorded_clear (Recorded *recorded)
{
  g_free (recorded->owner);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Recorded, recorded_clear)

/* Nobody else changes the lease until the transaction ends. */
static gboolean
find_lease (SqlConn *conn, const char *name, Recorded *ret_recorded, GError **error)
{
  SqlStatement query;
  if (!sql_lock (conn, "lease", name, strlen (name), error))
    return FALSE;
  query = sql_query (conn, SQL_LEASE_GET);
  sql_bind_text (&query, ":name", name);
  if (!sql_step (&query, &ret_recorded->found, error))
    return FALSE;
  if (!ret_recorded->found)
    return TRUE;
  ret_recorded->token = (guint64) sql_int (&query, 0);
  ret_recorded->left_us = sql_int (&query, 1);
  ret_recorded->owner = g_strdup (sql_text (&query, 2));
  sql_done (&query);
  return TRUE;
}

gboolean
sql_lease_take (gpointer self, GsCall *call, const char *name, const char *owner, gint64 lease_us, guint64 *ret_token,
                GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Recorded) before = { 0 };
  SqlStatement query;
  gboolean found;
  gint64 token;
  if (!sql_name_check ("lease", name, error) || !sql_name_check ("holder of a lease", owner, error)
      || !sql_lease_check (lease_us, error))
    return FALSE;
  conn = sql_take_writer (self, call, "taking a lease", error);
  if (conn == NULL || !find_lease (conn, name, &before, error))
    return FALSE;
  if (before.found && before.left_us > 0 && strcmp (before.owner, owner) != 0)
    return sql_lease_held (name, before.owner, before.left_us, error);
  query = sql_query (conn, SQL_LEASE_PUT);
  sql_bind_text (&query, ":name", name);
  sql_bind_text (&query, ":owner", owner);
  sql_bind_int (&query, ":lease", lease_us);
  if (!sql_run_int (&query, &found, &token, error) || !sql_commit (conn, error))
    return FALSE;
  *ret_token = (guint64) token;
  return TRUE;
}

gboolean
sql_lease_renew (gpointer self, GsCall *call, const char *name, guint64 token, gint64 lease_us, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  g_auto (Recorded) before = { 0 };
  SqlStatement query;
  if (!sql_lease_check (lease_us, error))
    return FALSE;
  conn = sql_take_writer (self, call, "renewing a lease", error);
  if (conn == NULL || !find_lease (conn, name, &before, error))
    return FALSE;
  if (!before.found || before.token != token || before.left_us <= 0)
    return sql_lease_lost (name, error);
  query = sql_query (conn, SQL_LEASE_RENEW);
  sql_bind_text (&query, ":name", name);
  sql_bind_int (&query, ":lease", lease_us);
  return sql_run (&query, error) && sql_commit (conn, error);
}

gboolean
sql_lease_release (gpointer self, GsCall *call, const char *name, guint64 token, GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "giving a lease back", error);
  g_auto (Recorded) before = { 0 };
  SqlStatement query;
  if (conn == NULL || !find_lease (conn, name, &before, error))
    return FALSE;
  if (!before.found || before.token != token)
    return TRUE;
  query = sql_query (conn, SQL_LEASE_RELEASE);
  sql_bind_text (&query, ":name", name);
  return sql_run (&query, error) && sql_commit (conn, error);
}

typedef struct
{
  GsLeaseRow row;
  char *name, *owner;
} Held;

static void
held_free (gpointer data)
{
  Held *held = data;
  g_free (held->name);
  g_free (held->owner);
  g_free (held);
}

gboolean
sql_lease_list (gpointer self, GsCall *call, GsLeaseRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) leases = g_ptr_array_new_with_free_func (held_free);
  SqlConn *conn = sql_take_reader (self, call, "listing leases", error);
  SqlStatement query;
  gboolean row = FALSE, ok;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_LEASE_LIST);
  while ((ok = sql_step (&query, &row, error)) && row)
    {
      Held *held = g_new0 (Held, 1);
      g_ptr_array_add (leases, held);
      held->row.size = sizeof held->row;
      held->row.name = held->name = g_strdup (sql_text (&query, 0));
      held->row.owner = held->owner = g_strdup (sql_text (&query, 1));
      held->row.token = (guint64) sql_int (&query, 2);
      held->row.left_us = sql_int (&query, 3);
    }
  sql_give (conn);
  for (guint i = 0; ok && i < leases->len; i++)
    if (!visit (&((Held *) leases->pdata[i])->row, user))
      break;
  return ok;
}
