/* SPDX-License-Identifier: Apache-2.0 */
/* token.c - `gitstead token`: who may come in. */
#include "base/text.h"
#include "cli.h"
#include "command.h"

#include <gitstead/v1/access.pb-c.h>
#include <string.h>

static const char *
scope_name (Gitstead__V1__TokenScope scope)
{
  switch (scope)
    {
    case GITSTEAD__V1__TOKEN_SCOPE__TOKEN_READ:
      return "read";
    case GITSTEAD__V1__TOKEN_SCOPE__TOKEN_WRITE:
      return "write";
    case GITSTEAD__V1__TOKEN_SCOPE__TOKEN_ADMIN:
      return "admin";
    default:
      return "?";
    }
}

static gboolean
parse_scope (const char *text, Gitstead__V1__TokenScope *ret_scope)
{
  static const Gitstead__V1__TokenScope scopes[]
      = { GITSTEAD__V1__TOKEN_SCOPE__TOKEN_READ, GITSTEAD__V1__TOKEN_SCOPE__TOKEN_WRITE,
          GITSTEAD__V1__TOKEN_SCOPE__TOKEN_ADMIN };
  for (gsize i = 0; i < G_N_ELEMENTS (scopes); i++)
    if (strcmp (text, scope_name (scopes[i])) == 0)
      {
        *ret_scope = scopes[i];
        return TRUE;
      }
  return FALSE;
}

/* ------------------------------------------------------------------------------------------ create */

static char *create_scope, *create_prefix, *create_expires;

static const GOptionEntry create_options[]
    = { { "scope", 0, 0, G_OPTION_ARG_STRING, &create_scope, "read (default), write or admin; each includes the one before",
          "SCOPE" },
        { "prefix", 0, 0, G_OPTION_ARG_STRING, &create_prefix,
          "Only repositories whose path begins so, e.g. \"team/\" (default: all)", "PREFIX" },
        { "expires", 0, 0, G_OPTION_ARG_STRING, &create_expires, "Stop working after TIME: 12h, 30d (default: never)",
          "TIME" },
        G_OPTION_ENTRY_NULL };

/* The secret goes to standard output alone, so that a script can catch it; what it is for goes beside. */
static void
print_created (const Gitstead__V1__TokenCreateReply *reply)
{
  if (!gsi_cli_quiet () && reply->token != NULL)
    {
      const Gitstead__V1__Token *token = reply->token;
      g_autofree char *expires = gsi_cli_time (token->expires_us);
      g_printerr ("Token '%s' (id %s): scope %s, for %s%s%s, expires %s.\n"
                  "This is the only time its secret is shown:\n",
                  token->name, token->id, scope_name (token->scope),
                  token->path_prefix[0] != '\0' ? "repositories that begin with '" : "all repositories",
                  token->path_prefix, token->path_prefix[0] != '\0' ? "'" : "", expires);
    }
  g_print ("%s\n", reply->secret);
}

static int
create_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__TokenCreateRequest request = GITSTEAD__V1__TOKEN_CREATE_REQUEST__INIT;
  const Gitstead__V1__TokenCreateReply *reply;
  gint64 lifetime = 0;

  if (!parse_scope (create_scope != NULL ? create_scope : "read", &request.scope))
    return gsi_cli_usage ("token create", "--scope wants read, write or admin, not '%s'", create_scope);
  if (create_expires != NULL && !gsi_text_parse_duration (create_expires, &lifetime, &error))
    return gsi_cli_usage ("token create", "--expires %s", error->message);
  if (create_expires != NULL && lifetime < G_USEC_PER_SEC)
    return gsi_cli_usage ("token create", "--expires must be a second at least");
  request.name = args[0];
  request.path_prefix = create_prefix != NULL ? create_prefix : request.path_prefix;
  request.lifetime_s = (guint64) (lifetime / G_USEC_PER_SEC);
  reply = (const Gitstead__V1__TokenCreateReply *) gsi_cli_call ("Token/Create", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot create token '%s'", args[0]);
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the token");
  print_created (reply);
  return GSI_EXIT_OK;
}

/* ------------------------------------------------------------------------------------ list, revoke */

static void
print_list (const Gitstead__V1__TokenListReply *reply)
{
  GsiTable *table;
  if (reply->n_tokens == 0)
    {
      g_printerr ("There are no tokens; 'gitstead token create NAME' makes one.\n");
      return;
    }
  table = gsi_table_new ((const char *[]) { "ID", "NAME", "SCOPE", "PREFIX", "CREATED", "EXPIRES", NULL });
  for (gsize i = 0; i < reply->n_tokens; i++)
    {
      const Gitstead__V1__Token *token = reply->tokens[i];
      g_autofree char *created = gsi_cli_time (token->created_us);
      g_autofree char *expires = gsi_cli_time (token->expires_us);
      gsi_table_row (table, token->id, token->name, scope_name (token->scope),
                     token->path_prefix[0] != '\0' ? token->path_prefix : "(all)", created, expires, NULL);
    }
  gsi_table_print (table);
}

static int
list_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__TokenListRequest request = GITSTEAD__V1__TOKEN_LIST_REQUEST__INIT;
  const Gitstead__V1__TokenListReply *reply;
  reply = (const Gitstead__V1__TokenListReply *) gsi_cli_call ("Token/List", &request.base, &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot list tokens");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "the tokens");
  if (gsi_cli_quiet ())
    for (gsize i = 0; i < reply->n_tokens; i++)
      g_print ("%s\n", reply->tokens[i]->id);
  else
    print_list (reply);
  return GSI_EXIT_OK;
}

static int
revoke_run (int n_args, char **args)
{
  for (int i = 0; i < n_args; i++)
    {
      g_autoptr (GError) error = NULL;
      Gitstead__V1__TokenRevokeRequest request = GITSTEAD__V1__TOKEN_REVOKE_REQUEST__INIT;
      request.id = args[i];
      if (gsi_cli_call ("Token/Revoke", &request.base, &error) == NULL)
        return gsi_cli_fail (error, "cannot revoke token '%s'", args[i]);
      if (!gsi_cli_json ())
        gsi_cli_say ("Revoked token '%s'.", args[i]);
    }
  if (gsi_cli_json ())
    g_print ("{}\n");
  return GSI_EXIT_OK;
}

const GsiVerb gsi_token_verbs[] = {
  { .name = "create",
    .arguments = "NAME",
    .summary = "Make a token and print its secret",
    .about = "Makes an access token. NAME is for people: it stands in lists, logs and the audit log. The secret goes to "
             "standard output and is shown this once; the server keeps only a hash of it.\nThe first token is made over "
             "the server's socket, as the user that the server runs as.",
    .examples = "  gitstead token create alice --scope write --prefix team/\n"
                "  gitstead token create ci --expires 12h --quiet > ci.token\n"
                "  git clone http://any:$(gitstead token create tmp --expires 1h -q)@127.0.0.1:8418/group/project.git",
    .options = create_options,
    .min_args = 1,
    .max_args = 1,
    .run = create_run },
  { .name = "list",
    .arguments = "",
    .summary = "List tokens",
    .about = "Lists tokens, without their secrets, which nobody knows but their owners.\nWith --quiet it prints the ids "
             "alone.",
    .examples = "  gitstead token list\n  gitstead token list --json",
    .run = list_run },
  { .name = "revoke",
    .arguments = "ID...",
    .summary = "Make tokens stop working",
    .about = "Deletes tokens by their ids. They stop working within a second; calls under way go on to their end.",
    .examples = "  gitstead token revoke 4f1c22a9\n  gitstead token list --quiet | xargs gitstead token revoke",
    .min_args = 1,
    .max_args = -1,
    .run = revoke_run },
  { NULL },
};
