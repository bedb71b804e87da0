/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access/@NAME@: one shared secret lets in, with the rights that the configuration gives it.
 *
 * It is whole as it stands; what each slot promises stands in gitstead/access.h.
 */
#include <gitstead/access.h>
#include <string.h>

typedef struct
{
  GsIdentity holder;
  char *secret;
} Self;

/* Looks at every byte of both, whatever they are. */
static gboolean
same_secret (const char *given, const char *wanted)
{
  gsize n_given = strlen (given), n_wanted = strlen (wanted), differ = n_given ^ n_wanted;
  for (gsize i = 0; i < n_wanted; i++)
    differ |= (gsize) ((guchar) wanted[i] ^ (guchar) (i < n_given ? given[i] : 0));
  return differ == 0;
}

static gboolean
authenticate (gpointer data, GsCall *call, const GsCredentials *credentials, const GsIdentity **ret_identity,
              GError **error)
{
  Self *self = data;
  gboolean has_secret = credentials->kind == GS_CREDENTIALS_BEARER || credentials->kind == GS_CREDENTIALS_BASIC;
  if (!has_secret || credentials->secret == NULL || !same_secret (credentials->secret, self->secret))
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED, "the credentials are missing or wrong");
  *ret_identity = &self->holder;
  return TRUE;
}

static void
release (gpointer self, const GsIdentity *identity)
{
  /* It is the instance's own. */
}

/* At segment boundaries: "group" is group, group.git and all below group/. */
static gboolean
covers (const char *prefix, const char *path)
{
  gsize n = strlen (prefix);
  if (n == 0)
    return TRUE;
  if (strncmp (path, prefix, n) != 0)
    return FALSE;
  return prefix[n - 1] == '/' || path[n] == '\0' || path[n] == '/' || strcmp (path + n, ".git") == 0;
}

static gboolean
authorize (gpointer self, const GsIdentity *identity, GsScope scope, const char *path, GError **error)
{
  if (identity->scope < scope)
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "this needs a greater scope than yours");
  if (path == NULL ? identity->prefix[0] != '\0' : !covers (identity->prefix, path))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "this is outside of the prefix that you have rights for");
  return TRUE;
}

static const GsAccessOps ops = { .authenticate = authenticate, .release = release, .authorize = authorize };

static const GsOption options[] = {
  { .key = "secret",
    .type = GS_OPTION_STRING,
    .fallback = "change me",
    .flags = GS_OPTION_SECRET,
    .help = "What callers have to show, as bearer token or as password." },
  { .key = "scope",
    .type = GS_OPTION_CHOICE,
    .fallback = "write",
    .choices = "read|write|admin",
    .help = "What whoever shows it may do." },
  { .key = NULL },
};

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  Self *self = g_new0 (Self, 1);
  const char *scope = config->string (config, "scope");
  self->secret = g_strdup (config->string (config, "secret"));
  self->holder = (GsIdentity){ .size = sizeof self->holder,
                               .name = "holder of the secret",
                               .scope = strcmp (scope, "admin") == 0  ? GS_SCOPE_ADMIN
                                        : strcmp (scope, "read") == 0 ? GS_SCOPE_READ
                                                                      : GS_SCOPE_WRITE,
                               .prefix = "" };
  return self;
}

static void
destroy (gpointer data)
{
  Self *self = data;
  g_free (self->secret);
  g_free (self);
}

GS_PLUGIN_DEFINE (GsAccessOps, .kind = GS_KIND_ACCESS, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Lets in whoever shows one secret", .license = "Apache-2.0", .ops = &ops, .create = create,
                  .options = options, .destroy = destroy)
