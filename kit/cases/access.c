/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind ACCESS. */
#include "engine.h"
#include "token.h"

/* --------------------------------------------------------------------------------------- credentials */

static GsCredentials
bearer (const char *secret)
{
  return (GsCredentials){ .size = sizeof (GsCredentials), .kind = GS_CREDENTIALS_BEARER, .secret = secret };
}

static gboolean
enter (Conformance *c, const GsCredentials *credentials, const GsIdentity **ret_identity, GError **error)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  call.identity = NULL; /* not known yet */
  return ops->authenticate (c->self, &call, credentials, ret_identity, error);
}

/* Fails the case unless @credentials are let in with @scope. */
static void
let_in (Conformance *c, const GsCredentials *credentials, GsScope scope, const char *name, const char *prefix)
{
  const GsAccessOps *ops = c->ops;
  const GsIdentity *identity = NULL;
  CHECK_OK (c, enter (c, credentials, &identity, &error));
  if (identity->scope != scope || (name != NULL && strcmp (identity->name, name) != 0)
      || strcmp (identity->prefix, prefix) != 0)
    conformance_fail (c, "the token's name, scope and prefix", "%s, %d, “%s”", identity->name, identity->scope,
                      identity->prefix);
  ops->release (c->self, identity);
}

static void
kept_out (Conformance *c, const GsCredentials *credentials)
{
  static const GsIdentity untouched;
  const GsIdentity *identity = &untouched;
  CHECK_CODE (c, GS_ERROR_UNAUTHENTICATED, enter (c, credentials, &identity, &error));
  CHECK (c, identity == &untouched, "the identity untouched on failure", "it was set");
}

static gboolean
make_token (Conformance *c, GsScope scope, const char *prefix, gint64 lifetime_us, char **ret_id, char **ret_secret)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autoptr (GError) error = NULL;
  GsToken token = { .size = sizeof token, .name = "conformance", .scope = scope, .prefix = prefix };
  if (ops->token_create == NULL)
    {
      conformance_skip (c, "the plugin makes no tokens");
      return FALSE;
    }
  if (lifetime_us != 0)
    token.expires_wall_us = c->host.wall_us (&c->host) + lifetime_us;
  if (ops->token_create (c->self, &call, &token, ret_id, ret_secret, &error))
    return TRUE;
  conformance_fail (c, "a token to test with", "%s", error->message);
  return FALSE;
}

/* The scope that callers without credentials have by the plugin's options; -1 when it has no such option. */
static int
anonymous_scope (Conformance *c)
{
  static const char *const names[] = { "none", "read", "write", "admin" };
  const char *text
      = conformance_has_option (c, "anonymous") ? c->target->config->string (c->target->config, "anonymous") : NULL;
  for (int i = 0; text != NULL && i < (int) G_N_ELEMENTS (names); i++)
    if (strcmp (text, names[i]) == 0)
      return i;
  return -1;
}

/* -------------------------------------------------------------------------------------- authentication */

static void
token_lets_in (Conformance *c)
{
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials credentials;
  if (!make_token (c, GS_SCOPE_WRITE, "group", 0, &id, &secret))
    return;
  credentials = bearer (secret);
  let_in (c, &credentials, GS_SCOPE_WRITE, "conformance", "group");
  credentials.kind = GS_CREDENTIALS_BASIC;
  credentials.user = "whoever";
  let_in (c, &credentials, GS_SCOPE_WRITE, "conformance", "group");
  credentials.user = "";
  let_in (c, &credentials, GS_SCOPE_WRITE, "conformance", "group");
}

static void
wrong_credentials (Conformance *c)
{
  static const char *const shapes[] = { "",
                                        "x",
                                        "gs_",
                                        "gs__",
                                        "gs_000000000000_0000000000000000000000000000000000000000000",
                                        "gs_000000000000_000000000000000000000000000000000000000000",
                                        "gs_\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff_x" };
  g_autofree char *id = NULL, *secret = NULL, *wrong = NULL, *huge = g_strnfill (1024 * 1024, 'a');
  GsCredentials credentials;
  gsize last;
  if (!make_token (c, GS_SCOPE_READ, "", 0, &id, &secret))
    return;
  for (gsize i = 0; i < G_N_ELEMENTS (shapes); i++)
    {
      credentials = bearer (shapes[i]);
      kept_out (c, &credentials);
    }
  credentials = bearer (huge);
  kept_out (c, &credentials);
  credentials = bearer (NULL);
  kept_out (c, &credentials);
  wrong = g_strdup (secret);
  last = strlen (wrong) - 2;
  wrong[last] = wrong[last] == 'A' ? 'B' : 'A';
  credentials = bearer (wrong);
  kept_out (c, &credentials);
  wrong[last] = '\0';
  kept_out (c, &credentials);
  credentials
      = (GsCredentials){ .size = sizeof credentials, .kind = GS_CREDENTIALS_BASIC, .user = secret, .secret = "" };
  kept_out (c, &credentials);
  credentials = (GsCredentials){ .size = sizeof credentials, .kind = 4711, .secret = secret };
  kept_out (c, &credentials);
}

static void
same_message (Conformance *c)
{
  g_autofree char *id = NULL, *secret = NULL, *wrong = NULL;
  g_autoptr (GError) malformed = NULL, unknown = NULL, mistaken = NULL, expired = NULL;
  const GsIdentity *identity;
  GsCredentials credentials = bearer ("nonsense");
  gsize last;
  if (!make_token (c, GS_SCOPE_READ, "", 60 * G_USEC_PER_SEC, &id, &secret))
    return;
  CHECK (c, !enter (c, &credentials, &identity, &malformed), "nobody in", "somebody");
  wrong = g_strdup (secret);
  last = strlen (wrong) - 2;
  wrong[last] = wrong[last] == 'A' ? 'B' : 'A';
  credentials = bearer (wrong);
  CHECK (c, !enter (c, &credentials, &identity, &mistaken), "nobody in", "somebody");
  credentials = bearer ("gs_000000000000_0000000000000000000000000000000000000000000");
  CHECK (c, !enter (c, &credentials, &identity, &unknown), "nobody in", "somebody");
  conformance_advance (c, 62 * G_USEC_PER_SEC);
  credentials = bearer (secret);
  CHECK (c, !enter (c, &credentials, &identity, &expired), "nobody in with an expired token", "somebody");
  CHECK (c,
         strcmp (malformed->message, unknown->message) == 0 && strcmp (unknown->message, mistaken->message) == 0
             && strcmp (mistaken->message, expired->message) == 0,
         "one message, whichever part was wrong", "%s / %s / %s / %s", malformed->message, unknown->message,
         mistaken->message, expired->message);
}

static void
without_credentials (Conformance *c)
{
  GsCredentials credentials = { .size = sizeof credentials, .kind = GS_CREDENTIALS_NONE };
  int scope = anonymous_scope (c);
  if (scope == GS_SCOPE_NONE)
    kept_out (c, &credentials);
  else if (scope > 0)
    let_in (c, &credentials, (GsScope) scope, NULL, "");
  else
    conformance_skip (c, "the plugin has no option “anonymous”");
}

static void
strangers_peer (Conformance *c)
{
  GsCredentials credentials = { .size = sizeof credentials, .kind = GS_CREDENTIALS_PEER, .uid = 4242424 };
  int scope = anonymous_scope (c);
  if (scope == GS_SCOPE_NONE)
    kept_out (c, &credentials);
  else if (scope > 0)
    let_in (c, &credentials, (GsScope) scope, NULL, "");
  else
    conformance_skip (c, "the plugin has no option “anonymous”");
}

static void
signatures (Conformance *c)
{
  static const char request[] = "a request\0with a NUL";
  g_autofree char *id = NULL, *secret = NULL;
  guint8 key[GS_TOKEN_KEY_SIZE], verifier[GS_TOKEN_KEY_SIZE], tag[32];
  const char *part;
  GsCredentials credentials = { .size = sizeof credentials,
                                .kind = GS_CREDENTIALS_HMAC,
                                .signed_data = (const guint8 *) request,
                                .signed_len = sizeof request,
                                .tag = tag };
  if (!make_token (c, GS_SCOPE_ADMIN, "", 0, &id, &secret))
    return;
  if (!gs_token_parse (secret, NULL, &part))
    {
      conformance_skip (c, "the plugin's tokens have another form than the wire contract signs with");
      return;
    }
  credentials.user = id;
  gs_token_signing_key (part, key);
  gs_token_hmac (key, credentials.signed_data, credentials.signed_len, tag);
  let_in (c, &credentials, GS_SCOPE_ADMIN, "conformance", "");
  tag[31] ^= 1;
  kept_out (c, &credentials);
  tag[31] ^= 1;
  credentials.signed_len--;
  kept_out (c, &credentials);
  credentials.signed_len++;
  gs_token_bearer_verifier (part, verifier); /* whoever stole this must not be able to sign with it */
  gs_token_hmac (verifier, credentials.signed_data, credentials.signed_len, tag);
  kept_out (c, &credentials);
  memset (key, 0, sizeof key); /* what an implementation may hold for an id that there is not */
  gs_token_hmac (key, credentials.signed_data, credentials.signed_len, tag);
  credentials.user = "000000000000";
  kept_out (c, &credentials);
  credentials.user = NULL;
  kept_out (c, &credentials);
  credentials.user = id;
  credentials.tag = NULL;
  kept_out (c, &credentials);
}

/* ------------------------------------------------------------------------------------------- secrecy */

typedef struct
{
  const char *wanted;
  const char *secret;
  guint n;
  gboolean leaked;
  GsScope scope;
  gint64 expires_wall_us;
} List;

static gboolean
list_token (const GsToken *token, gpointer user)
{
  List *list = user;
  if (strstr (token->id, list->secret) != NULL || strstr (token->name, list->secret) != NULL
      || strstr (token->prefix, list->secret) != NULL)
    list->leaked = TRUE;
  if (strcmp (token->id, list->wanted) == 0)
    {
      list->n++;
      list->scope = token->scope;
      list->expires_wall_us = token->expires_wall_us;
    }
  return TRUE;
}

static void
listed_without_secret (Conformance *c)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *id = NULL, *secret = NULL;
  List list = { 0 };
  if (!make_token (c, GS_SCOPE_WRITE, "x/", 3600 * (gint64) G_USEC_PER_SEC, &id, &secret))
    return;
  list.wanted = id;
  list.secret = strlen (secret) > 20 ? secret + strlen (secret) - 20 : secret;
  CHECK_OK (c, ops->token_list (c->self, &call, list_token, &list, &error));
  CHECK (c, list.n == 1 && list.scope == GS_SCOPE_WRITE && list.expires_wall_us > 0, "the token in the list once",
         "%u times, scope %d", list.n, list.scope);
  CHECK (c, !list.leaked, "no secret in the list", "it is there");
}

static gboolean
look_for_secret (const GsTokenRow *row, gpointer user)
{
  List *list = user;
  gsize n = strlen (list->secret);
  for (gsize i = 0; i + n <= 64; i++)
    if (memcmp (row->verifier + i, list->secret, n) == 0)
      list->leaked = TRUE;
  list->n++;
  return list_token (&(GsToken){ .id = row->id, .name = row->name, .prefix = row->prefix }, user);
}

static void
stored_without_secret (Conformance *c)
{
  GsCall call = conformance_call (c, 0);
  g_autofree char *id = NULL, *secret = NULL, *log = NULL;
  GsInstance metadata;
  List list = { 0 };
  GsCredentials credentials;
  if (!make_token (c, GS_SCOPE_READ, "", 0, &id, &secret))
    return;
  credentials = bearer (secret);
  let_in (c, &credentials, GS_SCOPE_READ, NULL, "");
  list.wanted = id;
  list.secret = strlen (secret) > 20 ? secret + strlen (secret) - 20 : secret;
  log = conformance_log (c);
  CHECK (c, strstr (log, list.secret) == NULL, "no secret in the log", "it is there");
  if (!c->host.need (&c->host, "metadata", &metadata))
    return;
  CHECK_OK (c,
            ((const GsMetadataOps *) metadata.ops)->token_list (metadata.self, &call, look_for_secret, &list, &error));
  CHECK (c, list.n > 0 && !list.leaked, "no secret in the metadata store", "it is there");
}

/* ------------------------------------------------------------------------------------- authorization */

static void
check_authorize (Conformance *c, GsScope has, const char *prefix, GsScope needs, const char *path, gboolean allowed)
{
  const GsAccessOps *ops = c->ops;
  GsIdentity identity = { sizeof identity, "somebody", has, prefix };
  g_autoptr (GError) error = NULL;
  gboolean ok = ops->authorize (c->self, &identity, needs, path, &error);
  if (ok != allowed || (!ok && gs_error_code (error) != GS_ERROR_PERMISSION_DENIED))
    conformance_fail (c, allowed ? "allowed" : "PERMISSION_DENIED", "scope %d, prefix “%s”: %d on %s gives %s", has,
                      prefix, needs, path != NULL ? path : "the server",
                      ok ? "OK" : gs_error_name (gs_error_code (error)));
}

static void
scopes (Conformance *c)
{
  for (int has = GS_SCOPE_NONE; has <= GS_SCOPE_ADMIN; has++)
    for (int needs = GS_SCOPE_NONE; needs <= GS_SCOPE_ADMIN; needs++)
      {
        check_authorize (c, (GsScope) has, "", (GsScope) needs, "a/b.git", has >= needs);
        check_authorize (c, (GsScope) has, "", (GsScope) needs, NULL, has >= needs);
      }
}

static void
prefixes (Conformance *c)
{
  static const struct
  {
    const char *prefix, *path;
    gboolean allowed;
  } rows[] = { { "", "anything.git", TRUE },         { "group", "group/a.git", TRUE },
               { "group", "group/sub/a.git", TRUE }, { "group", "group.git", TRUE },
               { "group", "group", TRUE },           { "group", "group2/a.git", FALSE },
               { "group", "group2.git", FALSE },     { "group", "group.gitx", FALSE },
               { "group", "grou", FALSE },           { "group", "other/group/a.git", FALSE },
               { "group", "Group/a.git", FALSE },    { "group/", "group/a.git", TRUE },
               { "group/", "group.git", FALSE },     { "group/", "group", FALSE },
               { "a/b.git", "a/b.git", TRUE },       { "a/b.git", "a/b.git2", FALSE },
               { "a/b", "a/b.git", TRUE },           { "a/b", "a/bc.git", FALSE } };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    check_authorize (c, GS_SCOPE_READ, rows[i].prefix, GS_SCOPE_READ, rows[i].path, rows[i].allowed);
  check_authorize (c, GS_SCOPE_ADMIN, "group", GS_SCOPE_ADMIN, NULL, FALSE);
  check_authorize (c, GS_SCOPE_ADMIN, "group", GS_SCOPE_WRITE, NULL, FALSE);
}

/* ------------------------------------------------------------------------------------- life of tokens */

static void
revoked (Conformance *c)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials credentials;
  GsInstance metadata;
  if (!make_token (c, GS_SCOPE_READ, "", 0, &id, &secret))
    return;
  credentials = bearer (secret);
  let_in (c, &credentials, GS_SCOPE_READ, NULL, "");
  CHECK_OK (c, ops->token_revoke (c->self, &call, id, &error));
  conformance_advance (c, G_USEC_PER_SEC);
  kept_out (c, &credentials);
  CHECK_CODE (c, GS_ERROR_NOT_FOUND, ops->token_revoke (c->self, &call, id, &error));
  if (!c->host.need (&c->host, "metadata", &metadata))
    return;
  g_free (g_steal_pointer (&id));
  g_free (g_steal_pointer (&secret));
  if (!make_token (c, GS_SCOPE_READ, "", 0, &id, &secret)) /* revoked by another process */
    return;
  credentials = bearer (secret);
  let_in (c, &credentials, GS_SCOPE_READ, NULL, "");
  CHECK_OK (c, ((const GsMetadataOps *) metadata.ops)->token_delete (metadata.self, &call, id, &error));
  conformance_advance (c, G_USEC_PER_SEC);
  kept_out (c, &credentials);
}

static void
rechecked (Conformance *c)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  g_autofree char *ids[3] = { NULL }, *secrets[3] = { NULL };
  const GsIdentity *who[3];
  if (ops->recheck == NULL)
    {
      conformance_skip (c, "the plugin does not recheck");
      return;
    }
  for (int i = 0; i < 3; i++) /* one is revoked, one expires, one stays; all of one name */
    {
      if (!make_token (c, GS_SCOPE_READ, "", i == 1 ? 100 * (gint64) G_USEC_PER_SEC : 0, &ids[i], &secrets[i]))
        return;
      GsCredentials credentials = bearer (secrets[i]);
      CHECK_OK (c, enter (c, &credentials, &who[i], &error));
      CHECK_OK (c, ops->recheck (c->self, &call, who[i], &error));
    }
  CHECK_OK (c, ops->token_revoke (c->self, &call, ids[0], &error));
  conformance_advance (c, G_USEC_PER_SEC);
  CHECK_CODE (c, GS_ERROR_UNAUTHENTICATED, ops->recheck (c->self, &call, who[0], &error));
  CHECK_OK (c, ops->recheck (c->self, &call, who[1], &error));
  conformance_advance (c, 101 * (gint64) G_USEC_PER_SEC);
  CHECK_CODE (c, GS_ERROR_UNAUTHENTICATED, ops->recheck (c->self, &call, who[1], &error));
  CHECK_OK (c, ops->recheck (c->self, &call, who[2], &error));
  for (int i = 0; i < 3; i++)
    ops->release (c->self, who[i]);
}

static void
expired (Conformance *c)
{
  g_autofree char *id = NULL, *secret = NULL;
  GsCredentials credentials;
  if (!make_token (c, GS_SCOPE_READ, "", 100 * (gint64) G_USEC_PER_SEC, &id, &secret))
    return;
  credentials = bearer (secret);
  conformance_advance (c, 90 * (gint64) G_USEC_PER_SEC);
  let_in (c, &credentials, GS_SCOPE_READ, NULL, "");
  conformance_advance (c, 11 * (gint64) G_USEC_PER_SEC);
  kept_out (c, &credentials);
}

static void
bad_tokens (Conformance *c)
{
  g_autofree char *huge = g_strnfill (5000, 'n');
  gint64 now_us = c->host.wall_us (&c->host);
  const GsToken bad[] = {
    { sizeof (GsToken), NULL, "", GS_SCOPE_READ, "", 0, 0 },
    { sizeof (GsToken), NULL, huge, GS_SCOPE_READ, "", 0, 0 },
    { sizeof (GsToken), NULL, "a\nb", GS_SCOPE_READ, "", 0, 0 },
    { sizeof (GsToken), NULL, "\xff", GS_SCOPE_READ, "", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_NONE, "", 0, 0 },
    { sizeof (GsToken), NULL, "name", (GsScope) 9, "", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, "/absolute", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, "a/../b", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, "a//b", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, "a\x01", 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, huge, 0, 0 },
    { sizeof (GsToken), NULL, "name", GS_SCOPE_READ, "", 0, now_us - 1 },
  };
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  if (ops->token_create == NULL)
    {
      conformance_skip (c, "the plugin makes no tokens");
      return;
    }
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      static char untouched;
      char *id = &untouched, *secret = &untouched;
      CHECK_CODE (c, GS_ERROR_INVALID_ARGUMENT, ops->token_create (c->self, &call, &bad[i], &id, &secret, &error));
      CHECK (c, id == &untouched && secret == &untouched, "outputs untouched on failure", "they were set");
    }
}

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  const GsAccessOps *ops = c->ops;
  GsCall call = conformance_call (c, 0);
  for (int i = 0; i < 5 && !conformance_has_failed (c); i++)
    {
      g_autofree char *id = NULL, *secret = NULL;
      GsCredentials credentials;
      if (!make_token (c, GS_SCOPE_READ, "", 0, &id, &secret))
        return;
      credentials = bearer (secret);
      for (int k = 0; k < 40; k++)
        let_in (c, &credentials, GS_SCOPE_READ, "conformance", "");
      CHECK_OK (c, ops->token_revoke (c->self, &call, id, &error));
    }
}

static void
crowd (Conformance *c)
{
  conformance_parallel (c, 4, crowd_body, NULL);
}

const ConformanceCase conformance_access[] = {
  { "A1", "a token lets in, as bearer and as basic password, with its name, scope and prefix", token_lets_in },
  { "A1", "wrong, unknown and misshapen credentials are kept out", wrong_credentials },
  { "A1", "the message never says which part was wrong", same_message, TRUE },
  { "A1", "callers without credentials get what is configured", without_credentials },
  { "A1", "peers that are nobody special get what is configured for anonymous callers", strangers_peer },
  { "A1", "a signature lets in, and only over the very bytes", signatures },
  { "A2", "lists show no secret", listed_without_secret },
  { "A2", "neither log nor metadata hold a secret", stored_without_secret },
  { "A3", "a scope includes the smaller ones and no more", scopes },
  { "A3", "prefixes hold at segment boundaries", prefixes },
  { "A4", "a revoked token stops within a second", revoked, TRUE },
  { "A4", "an expired token stops", expired, TRUE },
  { "A5", "an identity that was given out counts no longer than its token", rechecked, TRUE },
  { "A1", "tokens that cannot be are refused", bad_tokens },
  { "A1", "many threads at once", crowd },
  { NULL, NULL, NULL },
};
