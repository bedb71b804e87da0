/* SPDX-License-Identifier: Apache-2.0 */
/* The Token service: a thin face of the access plugin. */
#include "router/router.h"

#include "gitstead/v1/access.pb-c.h"

/* Longest life of a token that is taken: a century, so that sums cannot overflow. */
#define LIFETIME_MAX_S (100 * 365 * 86400ull)

static Gitstead__V1__Token *
token_message (const GsToken *token)
{
  Gitstead__V1__Token *message = g_new (Gitstead__V1__Token, 1);
  gitstead__v1__token__init (message);
  message->id = g_strdup (token->id);
  message->name = g_strdup (token->name);
  message->scope = (Gitstead__V1__TokenScope) token->scope;
  message->path_prefix = g_strdup (token->prefix);
  message->created_us = token->created_wall_us;
  message->expires_us = token->expires_wall_us;
  return message;
}

static void
token_message_free (gpointer data)
{
  Gitstead__V1__Token *message = data;
  g_free (message->id);
  g_free (message->name);
  g_free (message->path_prefix);
  g_free (message);
}

/* Tokens reach over the whole server, so a caller who is bound to a path may not handle them. */
static gboolean
may_handle_tokens (GsiRouter *router, GsiCall *call, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  if (config->access->token_create == NULL || config->access->token_list == NULL
      || config->access->token_revoke == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "the configured access plugin has no tokens");
  if (call->base.identity->prefix != NULL && call->base.identity->prefix[0] != '\0')
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED,
                    "tokens may only be handled by an administrator of the whole server; '%s' is bound to '%s'",
                    call->base.identity->name, call->base.identity->prefix);
  return TRUE;
}

static gboolean
visit_into (const GsToken *token, gpointer user)
{
  g_ptr_array_add (user, token_message (token));
  return TRUE;
}

gboolean
gsi_router_token_create (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__TokenCreateRequest *request = (const void *) call->request;
  Gitstead__V1__TokenCreateReply reply = GITSTEAD__V1__TOKEN_CREATE_REPLY__INIT;
  GsToken token = { sizeof token };
  g_autofree char *id = NULL, *secret = NULL;

  if (!may_handle_tokens (router, call, error))
    return FALSE;
  if (request->scope < GITSTEAD__V1__TOKEN_SCOPE__TOKEN_READ || request->scope > GITSTEAD__V1__TOKEN_SCOPE__TOKEN_ADMIN)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "scope: must be TOKEN_READ, TOKEN_WRITE or TOKEN_ADMIN");
  if (request->lifetime_s > LIFETIME_MAX_S)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "lifetime_s: at most a hundred years; 0 = never expires");
  token.name = request->name;
  token.scope = (GsScope) request->scope;
  token.prefix = request->path_prefix;
  token.created_wall_us = config->host->wall_us (config->host);
  if (request->lifetime_s > 0)
    token.expires_wall_us = token.created_wall_us + (gint64) request->lifetime_s * G_USEC_PER_SEC;
  if (!config->access->token_create (config->access_self, &call->base, &token, &id, &secret, error))
    return FALSE;
  token.id = id;
  reply.token = token_message (&token);
  reply.secret = secret;
  gsi_call_reply (call, &reply.base);
  token_message_free (reply.token);
  return TRUE;
}

gboolean
gsi_router_token_list (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  Gitstead__V1__TokenListReply reply = GITSTEAD__V1__TOKEN_LIST_REPLY__INIT;
  g_autoptr (GPtrArray) tokens = g_ptr_array_new_with_free_func (token_message_free);
  if (!may_handle_tokens (router, call, error)
      || !config->access->token_list (config->access_self, &call->base, visit_into, tokens, error))
    return FALSE;
  reply.tokens = (Gitstead__V1__Token **) tokens->pdata;
  reply.n_tokens = tokens->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

gboolean
gsi_router_token_revoke (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__TokenRevokeRequest *request = (const void *) call->request;
  if (request->id[0] == '\0')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "id: must not be empty");
  return may_handle_tokens (router, call, error)
         && config->access->token_revoke (config->access_self, &call->base, request->id, error);
}
