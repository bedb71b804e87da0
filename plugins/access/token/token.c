/* SPDX-License-Identifier: Apache-2.0 */
/* access/token: bearer, HTTP basic and signing tokens with scopes and path prefixes; peers and certificates. */
#include "access-token.h"

#include <unistd.h>

static const GsOption access_options[] = {
  { .key = "anonymous",
    .type = GS_OPTION_CHOICE,
    .choices = "none|read|write|admin",
    .fallback = "none",
    .help = "What callers without credentials may do. “write” and “admin” open every repository to whoever can reach "
            "the server: use them only where nobody else can." },
  { .key = "peer_admin",
    .type = GS_OPTION_BOOL,
    .fallback = "true",
    .help = "Callers on a unix socket who run as the server's own user or as root are administrators; others there are "
            "anonymous." },
  { .key = "certificate_scope",
    .type = GS_OPTION_CHOICE,
    .choices = "none|read|write|admin",
    .fallback = "none",
    .help = "What callers may do who show a client certificate that the transport verified." },
  { .key = "known_for",
    .type = GS_OPTION_DURATION,
    .fallback = "5m",
    .max = (gint64) 24 * 3600 * G_USEC_PER_SEC,
    .help = "While the metadata store cannot be reached: how long a token goes on to be good after it was last seen there. "
            "One that is revoked by another process meanwhile works as long. 0: not at all." },
  { NULL },
};

static const GsNeed access_needs[] = { { "metadata", GS_KIND_METADATA, 0 }, { NULL, 0, 0 } };

/* Allocated in one piece with its texts. */
typedef struct
{
  GsIdentity identity;
  char token[GS_TOKEN_ID_LEN + 1]; /* "" = it stands on no token */
  guint8 verifier[GS_TOKEN_VERIFIER_SIZE];
  char texts[];
} OwnIdentity;

static OwnIdentity *
identity_new (const char *name, GsScope scope, const char *prefix)
{
  gsize n_name = strlen (name) + 1, n_prefix = strlen (prefix) + 1;
  OwnIdentity *own = g_malloc0 (sizeof *own + n_name + n_prefix);
  memcpy (own->texts, name, n_name);
  memcpy (own->texts + n_name, prefix, n_prefix);
  own->identity.size = sizeof own->identity;
  own->identity.name = own->texts;
  own->identity.scope = scope;
  own->identity.prefix = own->texts + n_name;
  return own;
}

static void
access_release (gpointer self, const GsIdentity *identity)
{
  OwnIdentity *own = (OwnIdentity *) identity; /* its first member */
  explicit_bzero (own->verifier, sizeof own->verifier);
  g_free (own);
}

/* ----------------------------------------------------------------------------------- authentication */

/* One message for everything: which part was wrong helps only those who guess. */
static gboolean
refuse (GError **error)
{
  return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                  "the credentials are missing or not valid; show a token that “gitstead token create” made");
}

static gboolean
is_live (const Access *self, const StoredToken *token)
{
  return token->known
         && (token->expires_wall_us == 0 || self->host->wall_us (self->host) < token->expires_wall_us);
}

static gboolean
accept_token (Access *self, const char *id, const StoredToken *token, gboolean proven, const GsIdentity **ret_identity,
              GError **error)
{
  if (!proven || !is_live (self, token))
    return refuse (error);
  OwnIdentity *own = identity_new (token->name, token->scope, token->prefix);
  g_strlcpy (own->token, id, sizeof own->token);
  memcpy (own->verifier, token->verifier, sizeof own->verifier);
  *ret_identity = &own->identity;
  return TRUE;
}

static gboolean
by_secret (Access *self, GsCall *call, const char *text, const GsIdentity **ret_identity, GError **error)
{
  char id[GS_TOKEN_ID_LEN + 1];
  guint8 shown[GS_TOKEN_KEY_SIZE];
  const char *secret = NULL;
  g_autoptr (StoredToken) token = NULL;
  if (text == NULL || !gs_token_parse (text, id, &secret))
    return refuse (error);
  token = access_lookup (self, call, id, error);
  if (token == NULL)
    return FALSE;
  gs_token_bearer_verifier (secret, shown);
  return accept_token (self, id, token, gs_token_equal (shown, token->verifier, sizeof shown), ret_identity, error);
}

static gboolean
by_signature (Access *self, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
              GError **error)
{
  guint8 tag[32];
  g_autoptr (StoredToken) token = NULL;
  if (credentials->user == NULL || !gs_token_id_valid (credentials->user) || credentials->tag == NULL
      || (credentials->signed_data == NULL && credentials->signed_len > 0))
    return refuse (error);
  token = access_lookup (self, call, credentials->user, error);
  if (token == NULL)
    return FALSE;
  gs_token_hmac (token->verifier + GS_TOKEN_KEY_SIZE, credentials->signed_data, credentials->signed_len, tag);
  return accept_token (self, credentials->user, token, gs_token_equal (tag, credentials->tag, sizeof tag), ret_identity, error);
}

static gboolean
as_anonymous (Access *self, const char *name, const GsIdentity **ret_identity, GError **error)
{
  if (self->anonymous == GS_SCOPE_NONE)
    return refuse (error);
  *ret_identity = &identity_new (name, self->anonymous, "")->identity;
  return TRUE;
}

static gboolean
by_peer (Access *self, guint32 uid, const GsIdentity **ret_identity, GError **error)
{
  char name[32];
  g_snprintf (name, sizeof name, "uid:%u", uid);
  if (!self->peer_admin || (uid != 0 && uid != (guint32) geteuid ()))
    return as_anonymous (self, name, ret_identity, error);
  *ret_identity = &identity_new (name, GS_SCOPE_ADMIN, "")->identity;
  return TRUE;
}

static gboolean
by_certificate (Access *self, const char *common_name, const GsIdentity **ret_identity, GError **error)
{
  g_autofree char *name = NULL;
  if (self->certificate == GS_SCOPE_NONE || common_name == NULL || *common_name == '\0')
    return refuse (error);
  name = g_strconcat ("certificate:", common_name, NULL);
  *ret_identity = &identity_new (name, self->certificate, "")->identity;
  return TRUE;
}

static gboolean
access_authenticate (gpointer data, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
                     GError **error)
{
  Access *self = data;
  switch (credentials->kind)
    {
    case GS_CREDENTIALS_NONE:
      return as_anonymous (self, "anonymous", ret_identity, error);
    case GS_CREDENTIALS_BEARER:
    case GS_CREDENTIALS_BASIC: /* the password is the token; git wants some user name, any will do */
      return by_secret (self, call, credentials->secret, ret_identity, error);
    case GS_CREDENTIALS_HMAC:
      return by_signature (self, call, credentials, ret_identity, error);
    case GS_CREDENTIALS_PEER:
      return by_peer (self, credentials->uid, ret_identity, error);
    case GS_CREDENTIALS_CERTIFICATE:
      return by_certificate (self, credentials->certificate, ret_identity, error);
    default:
      return refuse (error);
    }
}

/* Peers and certificates were judged by their connection, which the call cannot outlive. */
static gboolean
access_recheck (gpointer data, GsCall *call, const GsIdentity *identity, GError **error)
{
  Access *self = data;
  const OwnIdentity *own = (const OwnIdentity *) identity;
  g_autoptr (StoredToken) token = NULL;
  if (own->token[0] == '\0')
    return TRUE;
  token = access_lookup (self, call, own->token, error);
  if (token == NULL)
    return FALSE;
  if (!is_live (self, token) || !gs_token_equal (own->verifier, token->verifier, sizeof own->verifier)
      || token->scope != identity->scope || strcmp (token->prefix, identity->prefix) != 0)
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "the token “%s” is revoked or has expired", identity->name);
  return TRUE;
}

/* ------------------------------------------------------------------------------------ authorization */

static gboolean
access_authorize (gpointer self, const GsIdentity *identity, GsScope scope, const char *path, GError **error)
{
  if (identity->scope < scope)
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "this needs the scope “%s”; “%s” has “%s”",
                    access_scope_name (scope), identity->name, access_scope_name (identity->scope));
  if (path != NULL && !access_prefix_holds (identity->prefix, path))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "“%s” may only name repositories under “%s”", identity->name,
                    identity->prefix);
  if (path == NULL && scope > GS_SCOPE_READ && identity->prefix[0] != '\0')
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED,
                    "“%s” may only work on repositories under “%s”, not on the server", identity->name,
                    identity->prefix);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- lifecycle */

static GsScope
scope_option (const GsConfig *config, const char *key)
{
  const char *text = config->string (config, key);
  for (int scope = GS_SCOPE_READ; scope <= GS_SCOPE_ADMIN; scope++)
    if (g_strcmp0 (text, access_scope_name ((GsScope) scope)) == 0)
      return (GsScope) scope;
  return GS_SCOPE_NONE;
}

static void
unref_stored (gpointer token)
{
  stored_token_unref (token);
}

static gpointer
access_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Access *self = g_new0 (Access, 1);
  self->host = host;
  self->anonymous = scope_option (config, "anonymous");
  self->certificate = scope_option (config, "certificate_scope");
  self->peer_admin = config->boolean (config, "peer_admin");
  self->known_for_us = config->integer (config, "known_for");
  self->tokens = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, unref_stored);
  gs_mutex_init (&self->lock);
  return self;
}

static gboolean
access_start (gpointer data, GError **error)
{
  Access *self = data;
  GsInstance metadata;
  if (!self->host->need (self->host, "metadata", &metadata))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s: there is no metadata store to keep tokens in",
                    self->host->instance);
  self->metadata = metadata.ops;
  self->metadata_self = metadata.self;
  if (self->anonymous > GS_SCOPE_READ)
    self->host->log (self->host, GS_LOG_WARNING, "access.anonymous.open",
                     (GsField[]){ GS_TEXT ("scope", access_scope_name (self->anonymous)) }, 1);
  return TRUE;
}

static void
access_destroy (gpointer data)
{
  Access *self = data;
  g_hash_table_unref (self->tokens);
  gs_mutex_clear (&self->lock);
  g_free (self);
}

static const GsAccessOps access_ops = {
  .authenticate = access_authenticate,
  .release = access_release,
  .authorize = access_authorize,
  .token_create = access_token_create,
  .token_list = access_token_list,
  .token_revoke = access_token_revoke,
  .recheck = access_recheck,
};

GS_PLUGIN_DEFINE (GsAccessOps, .kind = GS_KIND_ACCESS, .threads = GS_THREADS_PARALLEL, .name = "token",
                  .version = "0.1.0", .summary = "Tokens with scopes and path prefixes; socket peers and certificates",
                  .license = "Apache-2.0", .options = access_options, .needs = access_needs, .ops = &access_ops,
                  .create = access_create, .start = access_start, .destroy = access_destroy)
