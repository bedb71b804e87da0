/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens in the metadata store. What was read counts for less than a second (promise A4), unknown ids included, so that a
 * busy client, or one that guesses, costs one look-up a second. While the store cannot be reached, it counts for longer.
 */
#include "access-token.h"

#define KEEP_US (900 * 1000)
#define KEEP_MAX 4096
#define ID_ATTEMPTS 8

void
stored_token_unref (StoredToken *token)
{
  if (token == NULL || !g_atomic_int_dec_and_test (&token->n_refs))
    return;
  g_free (token->name);
  g_free (token->prefix);
  g_free (token);
}

static StoredToken *
kept (Access *self, const char *id, gint64 now_us, gint64 age_us)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  StoredToken *token = g_hash_table_lookup (self->tokens, id);
  if (token == NULL || now_us - token->read_us >= age_us || now_us < token->read_us)
    return NULL;
  g_atomic_int_inc (&token->n_refs);
  return token;
}

static gboolean
is_old (gpointer key, gpointer value, gpointer user)
{
  return *(gint64 *) user - ((StoredToken *) value)->read_us >= KEEP_US;
}

static void
keep (Access *self, const char *id, StoredToken *token)
{
  gint64 now_us = token->read_us;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  if (g_hash_table_size (self->tokens) >= KEEP_MAX)
    g_hash_table_foreach_remove (self->tokens, is_old, &now_us);
  if (g_hash_table_size (self->tokens) >= KEEP_MAX)
    g_hash_table_remove_all (self->tokens);
  g_atomic_int_inc (&token->n_refs);
  g_hash_table_replace (self->tokens, g_strdup (id), token);
}

void
access_forget (Access *self, const char *id)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&self->lock);
  g_hash_table_remove (self->tokens, id);
}

static gboolean
take_row (const GsTokenRow *row, gpointer user)
{
  StoredToken *token = user;
  token->known = TRUE;
  memcpy (token->verifier, row->verifier, sizeof token->verifier);
  token->scope = row->scope <= GS_SCOPE_ADMIN ? (GsScope) row->scope : GS_SCOPE_NONE;
  token->name = g_strdup (row->name);
  token->prefix = g_strdup (row->prefix);
  token->expires_wall_us = row->expires_wall_us;
  return FALSE;
}

StoredToken *
access_lookup (Access *self, GsCall *call, const char *id, GError **error)
{
  gint64 now_us = self->host->now_us (self->host); /* before the look-up: what is read is at least as new */
  g_autoptr (StoredToken) token = kept (self, id, now_us, KEEP_US);
  g_autoptr (GError) why = NULL;
  if (token != NULL)
    return g_steal_pointer (&token);
  token = g_new0 (StoredToken, 1);
  token->n_refs = 1;
  token->read_us = now_us;
  if (!self->metadata->token_get (self->metadata_self, call, id, take_row, token, &why)
      && gs_error_code (why) != GS_ERROR_NOT_FOUND)
    {
      /* Away, or hanging with all connections to it taken. */
      const gboolean unanswered = gs_error_code (why) == GS_ERROR_UNAVAILABLE || gs_error_code (why) == GS_ERROR_BUSY;
      StoredToken *last = unanswered ? kept (self, id, now_us, self->known_for_us) : NULL;
      if (last != NULL && last->known)
        return last;
      stored_token_unref (last);
      g_propagate_prefixed_error (error, g_steal_pointer (&why), "checking an access token: ");
      return NULL;
    }
  keep (self, id, token);
  return g_steal_pointer (&token);
}

/* ------------------------------------------------------------------------------------ administration */

gboolean
access_token_create (gpointer data, GsCall *call, const GsToken *token, char **ret_id, char **ret_secret,
                     GError **error)
{
  Access *self = data;
  GsTokenRow row = { sizeof row };
  guint8 verifier[GS_TOKEN_VERIFIER_SIZE];
  if (!access_check_new (token, self->host->wall_us (self->host), error))
    return FALSE;
  row.name = token->name;
  row.verifier = verifier;
  row.scope = token->scope;
  row.prefix = token->prefix != NULL ? token->prefix : "";
  row.created_wall_us = self->host->wall_us (self->host);
  row.expires_wall_us = token->expires_wall_us;
  for (int attempt = 1;; attempt++)
    {
      char text[GS_TOKEN_LEN + 1], id[GS_TOKEN_ID_LEN + 1];
      guint8 dice[6 + 32];
      const char *secret = NULL;
      g_autoptr (GError) why = NULL;
      self->host->random (self->host, dice, sizeof dice);
      gs_token_make (dice, dice + 6, text);
      if (!gs_token_parse (text, id, &secret))
        return gs_fail (error, GS_ERROR_INTERNAL, "making token “%s”: what was made has not the form of a token",
                        row.name);
      gs_token_verifier (secret, verifier);
      row.id = id;
      if (self->metadata->token_put (self->metadata_self, call, &row, &why))
        {
          access_forget (self, id);
          *ret_id = g_strdup (id);
          *ret_secret = g_strdup (text);
          return TRUE;
        }
      if (gs_error_code (why) != GS_ERROR_ALREADY_EXISTS || attempt == ID_ATTEMPTS)
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
    }
}

typedef struct
{
  GsTokenVisit visit;
  gpointer user;
} ListContext;

static gboolean
list_row (const GsTokenRow *row, gpointer user)
{
  ListContext *context = user;
  GsToken token = { .size = sizeof token,
                    .id = row->id,
                    .name = row->name,
                    .scope = row->scope <= GS_SCOPE_ADMIN ? (GsScope) row->scope : GS_SCOPE_NONE,
                    .prefix = row->prefix,
                    .created_wall_us = row->created_wall_us,
                    .expires_wall_us = row->expires_wall_us };
  return context->visit (&token, context->user);
}

gboolean
access_token_list (gpointer data, GsCall *call, GsTokenVisit visit, gpointer user, GError **error)
{
  Access *self = data;
  ListContext context = { visit, user };
  return self->metadata->token_list (self->metadata_self, call, list_row, &context, error);
}

gboolean
access_token_revoke (gpointer data, GsCall *call, const char *id, GError **error)
{
  Access *self = data;
  gboolean ok = self->metadata->token_delete (self->metadata_self, call, id, error);
  access_forget (self, id);
  return ok;
}
