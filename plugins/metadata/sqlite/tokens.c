/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens. What a verifier means is the access plugin's affair. */
#include "lite.h"

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
gather (LiteQuery *query, GError **error)
{
  g_autoptr (GPtrArray) tokens = g_ptr_array_new_with_free_func (held_free);
  gboolean row;
  for (;;)
    {
      Held *held;
      if (!lite_step (query, &row, error))
        return NULL;
      if (!row)
        return g_steal_pointer (&tokens);
      held = g_new0 (Held, 1);
      g_ptr_array_add (tokens, held);
      held->row.size = sizeof held->row;
      held->row.id = g_strdup (lite_text (query, 0));
      held->row.name = g_strdup (lite_text (query, 1));
      held->row.verifier = held->verifier;
      held->row.scope = (guint32) sqlite3_column_int64 (query->stmt, 3);
      held->row.prefix = g_strdup (lite_text (query, 4));
      held->row.created_wall_us = sqlite3_column_int64 (query->stmt, 5);
      held->row.expires_wall_us = sqlite3_column_int64 (query->stmt, 6);
      if (!lite_blob (query, 2, held->verifier, VERIFIER_BYTES, error))
        {
          lite_done (query);
          return NULL;
        }
    }
}

gboolean
lite_token_put (gpointer self, GsCall *call, const GsTokenRow *row, GError **error)
{
  g_autoptr (LiteConn) conn = NULL;
  LiteQuery query;
  gboolean inserted;
  if (row->id == NULL || *row->id == '\0' || row->verifier == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a token: it has no id or no verifier");
  conn = lite_take_writer (self, call, "recording a token", error);
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_TOKEN_INSERT);
  lite_bind_text (&query, ":id", row->id);
  lite_bind_text (&query, ":name", row->name != NULL ? row->name : "");
  lite_bind_blob (&query, ":verifier", row->verifier, VERIFIER_BYTES);
  lite_bind_int (&query, ":scope", row->scope);
  lite_bind_text (&query, ":prefix", row->prefix != NULL ? row->prefix : "");
  lite_bind_int (&query, ":created_us", row->created_wall_us);
  lite_bind_int (&query, ":expires_us", row->expires_wall_us);
  if (!lite_step (&query, &inserted, error))
    return FALSE;
  lite_done (&query);
  if (!inserted)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "recording a token: there is one with the id “%s” already",
                    row->id);
  return lite_commit (conn, error);
}

gboolean
lite_token_get (gpointer self, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) tokens = NULL;
  LiteConn *conn = lite_take_reader (self, call, "looking up a token", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_TOKEN_GET);
  lite_bind_text (&query, ":id", id);
  tokens = gather (&query, error);
  lite_give (conn);
  if (tokens == NULL)
    return FALSE;
  if (tokens->len == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no token with the id “%.64s”", id);
  visit (&((Held *) g_ptr_array_index (tokens, 0))->row, user);
  return TRUE;
}

gboolean
lite_token_list (gpointer self, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error)
{
  g_autoptr (GPtrArray) tokens = NULL;
  LiteConn *conn = lite_take_reader (self, call, "listing tokens", error);
  LiteQuery query;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_TOKEN_LIST);
  tokens = gather (&query, error);
  lite_give (conn);
  if (tokens == NULL)
    return FALSE;
  for (guint i = 0; i < tokens->len; i++)
    if (!visit (&((Held *) g_ptr_array_index (tokens, i))->row, user))
      break;
  return TRUE;
}

gboolean
lite_token_delete (gpointer self, GsCall *call, const char *id, GError **error)
{
  g_autoptr (LiteConn) conn = lite_take_writer (self, call, "deleting a token", error);
  LiteQuery query;
  gboolean found;
  if (conn == NULL)
    return FALSE;
  query = lite_query (conn, SQL_TOKEN_DELETE);
  lite_bind_text (&query, ":id", id);
  if (!lite_step (&query, &found, error))
    return FALSE;
  lite_done (&query);
  if (!found)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no token with the id “%.64s”", id);
  return lite_commit (conn, error);
}
