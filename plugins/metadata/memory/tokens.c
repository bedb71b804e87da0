/* SPDX-License-Identifier: Apache-2.0 */
/* Access tokens. What a verifier means is the access plugin's affair. */
#include "memory.h"

void
mem_token_free (gpointer data)
{
  MemToken *token = data;
  g_free ((char *) token->row.id);
  g_free ((char *) token->row.name);
  g_free ((char *) token->row.prefix);
  g_free (token);
}

static MemToken *
token_copy (const GsTokenRow *row)
{
  MemToken *token = g_new0 (MemToken, 1);
  token->row = *row;
  token->row.size = sizeof token->row;
  token->row.id = g_strdup (row->id);
  token->row.name = g_strdup (row->name != NULL ? row->name : "");
  token->row.prefix = g_strdup (row->prefix != NULL ? row->prefix : "");
  memcpy (token->verifier, row->verifier, sizeof token->verifier);
  token->row.verifier = token->verifier;
  return token;
}

gboolean
mem_token_put (gpointer data, GsCall *call, const GsTokenRow *row, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = NULL;
  MemToken *token;
  if (!mem_begin (call, "recording a token", error))
    return FALSE;
  if (row->id == NULL || *row->id == '\0' || row->verifier == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "recording a token: it has no id or no verifier");
  hold = gs_mutex_hold (&self->lock);
  if (g_hash_table_contains (self->tokens, row->id))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "recording a token: there is one with the id “%s” already",
                    row->id);
  token = token_copy (row);
  g_hash_table_insert (self->tokens, (gpointer) token->row.id, token);
  return TRUE;
}

static gboolean
no_token (const char *id, GError **error)
{
  return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no token with the id “%.64s”", id);
}

gboolean
mem_token_get (gpointer data, GsCall *call, const char *id, GsTokenRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  MemToken *token;
  if (!mem_begin (call, "looking up a token", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  token = g_hash_table_lookup (self->tokens, id);
  if (token != NULL)
    token = token_copy (&token->row);
  gs_mutex_unlock (&self->lock);
  if (token == NULL)
    return no_token (id, error);
  visit (&token->row, user);
  mem_token_free (token);
  return TRUE;
}

static int
by_age (gconstpointer left, gconstpointer right)
{
  const MemToken *a = *(const MemToken *const *) left, *b = *(const MemToken *const *) right;
  if (a->row.created_wall_us != b->row.created_wall_us)
    return a->row.created_wall_us < b->row.created_wall_us ? -1 : 1;
  return strcmp (a->row.id, b->row.id);
}

gboolean
mem_token_list (gpointer data, GsCall *call, GsTokenRowVisit visit, gpointer user, GError **error)
{
  Mem *self = data;
  g_autoptr (GPtrArray) tokens = g_ptr_array_new_with_free_func (mem_token_free);
  GHashTableIter iter;
  gpointer token;
  if (!mem_begin (call, "listing tokens", error))
    return FALSE;
  gs_mutex_lock (&self->lock);
  g_hash_table_iter_init (&iter, self->tokens);
  while (g_hash_table_iter_next (&iter, NULL, &token))
    g_ptr_array_add (tokens, token_copy (&((MemToken *) token)->row));
  gs_mutex_unlock (&self->lock);
  g_ptr_array_sort (tokens, by_age);
  for (guint i = 0; i < tokens->len; i++)
    if (!visit (&((MemToken *) tokens->pdata[i])->row, user))
      break;
  return TRUE;
}

gboolean
mem_token_delete (gpointer data, GsCall *call, const char *id, GError **error)
{
  Mem *self = data;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (!mem_begin (call, "deleting a token", error))
    return FALSE;
  return g_hash_table_remove (self->tokens, id) || no_token (id, error);
}
