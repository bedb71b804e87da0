/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens. What a verifier means is the access plugin's affair. */
#include "store.h"

#define VERIFIER_BYTES 64

typedef struct
{
  GsTokenRow row;
  guint8 verifier[VERIFIER_BYTES];
} Held;

static void
held_free (gpointer data)
{
  Held *held = data;
  g_free ((char *) held->row.id);
  g_free ((char *) held->row.name);
  g_free ((char *) held->row.prefix);
  g_free (held);
}

static GPtrArray *
gather (SqlStatement *query, GError **error)
{
  g_autoptr (GPtrArray) tokens = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      Held *held;
      if (!sql_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&tokens);
      held = g_new0 (Held, 1);
      g_ptr_array_add (tokens, held);
      held->row.size = sizeof held->row;
      held->row.id = g_strdup (sql_text (query, 0));
      held->row.name = g_strdup (sql_text (query, 1));
      held->row.verifier = held->verifier;
      held->row.scope = (guint32) sql_int (query, 3);
      held->row.prefix = g_strdup (sql_text (query, 4));
      held->row.created_wall_us = sql_int (query, 5);
      held->row.expires_wall_us = sql_int (query, 6);
      if (!sql_blob (query, 2, held->verifier, VERIFIER_BYTES, error))
        {
          sql_done (query);
          return NULL;
        }
    }
}

gboolean
sql_token_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error)
{
  g_autoptr (SqlConn) conn = NULL;
  SqlStatement query;
  gboolean inserted;
  if (row->id == NULL || *row->id == '\0' || row->verifier == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a token: it has no id or no verifier");
  conn = sql_take_writer (self, call, "recording a token", error);
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_TOKEN_INSERT);
  sql_bind_text (&query, ":id", row->id);
  sql_bind_text (&query, ":name", row->name != NULL ? row->name : "");
  sql_bind_blob (&query, ":verifier", row->verifier, VERIFIER_BYTES);
  sql_bind_int (&query, ":scope", row->scope);
  sql_bind_text (&query, ":prefix", row->prefix != NULL ? row->prefix : "");
  sql_bind_int (&query, ":created_us", row->created_wall_us);
  sql_bind_int (&query, ":expires_us", row->expires_wall_us);
  if (!sql_step (&query, &inserted, error))
    return FALSE;
  sql_done (&query);
  if (!inserted)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "recording a token: there is one with the id “%s” already",
                    row->id);
  return sql_commit (conn, error);
}

gboolean
sql_token_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) tokens = NULL;
  SqlConn *conn = sql_take_reader (self, call, "looking up a token", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_TOKEN_GET);
  sql_bind_text (&query, ":id", id);
  tokens = gather (&query, error);
  sql_give (conn);
  if (tokens == NULL)
    return FALSE;
  if (tokens->len == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no token with the id “%.64s”", id);
  visit (&((Held *) g_ptr_array_index (tokens, 0))->row, user);
  return TRUE;
}

gboolean
sql_token_list (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) tokens = NULL;
  SqlConn *conn = sql_take_reader (self, call, "listing tokens", error);
  SqlStatement query;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_TOKEN_LIST);
  tokens = gather (&query, error);
  sql_give (conn);
  if (tokens == NULL)
    return FALSE;
  for (guint i = 0; i < tokens->len; i++)
    if (!visit (&((Held *) g_ptr_array_index (tokens, i))->row, user))
      break;
  return TRUE;
}

gboolean
sql_token_delete (gpointer self, GsCall *call, const char *id, GError **error)
{
  g_autoptr (SqlConn) conn = sql_take_writer (self, call, "deleting a token", error);
  SqlStatement query;
  gboolean found;
  if (conn == NULL)
    return FALSE;
  query = sql_query (conn, SQL_TOKEN_DELETE);
  sql_bind_text (&query, ":id", id);
  if (!sql_step (&query, &found, error))
    return FALSE;
  sql_done (&query);
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no token with the id “%.64s”", id);
  return sql_commit (conn, error);
}
