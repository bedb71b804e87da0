/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a call may make git go: a URL that is one and nothing else, that the operator's list names, and that does not lead
 * into the operator's own network by a name that somebody else controls. Credentials travel in git's environment only.
 */
#include "transfer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>

#define URL_MAX 2048
#define USER_MAX 1000
#define SECRET_MAX 10000
#define ADDRESSES_MAX 8

/* A URL in its parts. */
typedef struct
{
  char *scheme, *host, *path; /* the host without brackets, in small letters */
  guint port;                 /* 0 for file; G_MAXUINT = any (in a list only) */
  gboolean v6;
} Url;

static void
url_clear (Url *url)
{
  g_free (url->scheme);
  g_free (url->host);
  g_free (url->path);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Url, url_clear)

/* ------------------------------------------------------------------------------------------ parsing */

/* Bytes that a plain URL has no need of, and that somebody on the way may read as something else. */
static const char *
odd_bytes (const char *text)
{
  for (const guchar *at = (const guchar *) text; *at != '\0'; at++)
    if (*at <= ' ' || *at >= 0x7f || strchr ("\\\"'`<>{}|^?#", *at) != NULL)
      return "has a space, a control character, a byte outside of ASCII or one of \\ \" ' ` < > { } | ^ ? #";
  return NULL;
}

static const char *
take_port (const char *text, gboolean pattern, guint *ret_port)
{
  char *end;
  guint64 port;
  if (pattern && strcmp (text, "*") == 0)
    {
      *ret_port = G_MAXUINT;
      return NULL;
    }
  port = g_ascii_strtoull (text, &end, 10);
  if (!g_ascii_isdigit (*text) || *end != '\0' || port == 0 || port > 65535)
    return "has a port that is none";
  *ret_port = (guint) port;
  return NULL;
}

/* "host", "host:port" or "[v6]:port". */
static const char *
take_host (const char *authority, gboolean pattern, Url *url)
{
  const char *end, *port = NULL;
  if (authority[0] == '[')
    {
      end = strchr (authority, ']');
      if (end == NULL || (end[1] != '\0' && end[1] != ':'))
        return "has an address in brackets that does not end";
      url->v6 = TRUE;
      url->host = g_ascii_strdown (authority + 1, end - authority - 1);
      port = end[1] == ':' ? end + 2 : NULL;
      if (strspn (url->host, "0123456789abcdef:.") != strlen (url->host) || url->host[0] == '\0')
        return "has an address in brackets that is none";
    }
  else
    {
      end = strchr (authority, ':');
      url->host = g_ascii_strdown (authority, end != NULL ? end - authority : -1);
      port = end != NULL ? end + 1 : NULL;
      const char *host = pattern && g_str_has_prefix (url->host, "*") ? url->host + 1 : url->host;
      if (url->host[0] == '\0' || url->host[0] == '-')
        return "has no host, or one that begins with '-'";
      if (strspn (host, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != strlen (host)
          || (host != url->host && *host != '\0' && *host != '.'))
        return "has a host with other characters than letters, digits, '.', '-' and '_' (and no user may stand before it)";
      /* Whoever connects may take it off, and would then look for another name than the one that was pinned. */
      if (g_str_has_suffix (url->host, "."))
        return "has a host that ends with '.'";
    }
  return port != NULL ? take_port (port, pattern, &url->port) : NULL;
}

/* NULL, or what is wrong. Fields of @url that were found are set in any case. */
static const char *
parse (const char *text, gboolean pattern, Url *url)
{
  const char *colon = strstr (text, "://"), *rest, *slash;
  const char *why = odd_bytes (text);
  if (why != NULL)
    return why;
  if (colon == NULL)
    return "is no URL like https://host/path";
  url->scheme = g_strndup (text, (gsize) (colon - text));
  rest = colon + 3;
  slash = strchr (rest, '/');
  url->path = g_strdup (slash != NULL ? slash : "");
  if (strstr (url->path, "/../") != NULL || g_str_has_suffix (url->path, "/..") || strstr (url->path, "/./") != NULL)
    return "has a . or .. part";
  if (strcmp (url->scheme, "file") == 0 && strchr (url->path, '%') != NULL)
    return "has a '%' in the path of a file"; /* git would take it for the code of another character */
  if (strcmp (url->scheme, "file") == 0)
    return slash == rest && rest[1] != '\0' ? NULL : "has a host or no path; a file's is file:///folder";
  if (strcmp (url->scheme, "http") != 0 && strcmp (url->scheme, "https") != 0)
    return "has another scheme than https, http or file";
  if (!pattern && strlen (url->path) < 2)
    return "has no path";
  url->port = strcmp (url->scheme, "https") == 0 ? 443 : 80;
  g_autofree char *authority = g_strndup (rest, slash != NULL ? (gsize) (slash - rest) : strlen (rest));
  return take_host (authority, pattern, url);
}

/* ------------------------------------------------------------------------------------------ the list */

gboolean
remote_allow_check (const char *const *allow, GError **error)
{
  for (; allow != NULL && *allow != NULL; allow++)
    {
      g_auto (Url) url = { 0 };
      const char *why = parse (*allow, TRUE, &url);
      if (why == NULL && url.port != 0 && strlen (url.path) > 1)
        why = "has a path; hosts are allowed as a whole";
      if (why != NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "remote_allow: '%s' %s", *allow, why);
    }
  return TRUE;
}

/* Below the folder, with no link on the way that leads out of it. */
static gboolean
file_allowed (const char *folder, const char *path)
{
  g_autofree char *real = realpath (path, NULL), *root = realpath (folder, NULL);
  gsize len = root != NULL ? strlen (root) : 0;
  if (real == NULL || root == NULL)
    return FALSE;
  return strncmp (real, root, len) == 0 && (real[len] == '/' || (len > 0 && root[len - 1] == '/'));
}

/* A file that is no link, or a folder that is none. */
static gboolean
is_plain (const char *folder, const char *name, mode_t kind)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  struct stat st;
  return lstat (path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

static gboolean
exists (const char *folder, const char *name)
{
  g_autofree char *path = g_build_filename (folder, name, NULL);
  struct stat st;
  return lstat (path, &st) == 0 || errno != ENOENT;
}

/*
 * git would follow a repository's own word on where its objects and refs are, out of the allowed folder: alternates, a
 * "commondir", a ".git" that is a file, links. Only one that has everything in its own folder is read.
 */
static gboolean
check_folder (const char *path, GError **error)
{
  static const char *const folders[] = { "objects", "objects/pack", "objects/info", "refs" };
  static const char *const elsewhere[] = { "commondir", "objects/info/alternates", "objects/info/http-alternates" };
  g_autofree char *inner = g_build_filename (path, ".git", NULL);
  const char *dir = exists (path, ".git") ? inner : path;
  gboolean good = (dir == path || is_plain (path, ".git", S_IFDIR)) && is_plain (dir, "HEAD", S_IFREG);
  for (gsize i = 0; i < G_N_ELEMENTS (folders); i++)
    good = good && (is_plain (dir, folders[i], S_IFDIR) || (strchr (folders[i], '/') != NULL && !exists (dir, folders[i])));
  if (!good)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "remote.url: file://%s is no repository, or leads elsewhere by a link or a .git file", path);
  for (gsize i = 0; i < G_N_ELEMENTS (elsewhere); i++)
    if (exists (dir, elsewhere[i]))
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                      "remote.url: file://%s has objects or refs elsewhere (%s); make a copy that needs nothing of another "
                      "repository with “git clone --mirror”",
                      path, elsewhere[i]);
  return TRUE;
}

/* *@ret_named: by its own name, not by a pattern. */
static gboolean
host_allowed (const Url *entry, const Url *url, gboolean *ret_named)
{
  if (entry->port != G_MAXUINT && entry->port != url->port)
    return FALSE;
  *ret_named = strcmp (entry->host, url->host) == 0;
  return *ret_named || strcmp (entry->host, "*") == 0
         || (g_str_has_prefix (entry->host, "*.") && g_str_has_suffix (url->host, entry->host + 1)
             && strlen (url->host) > strlen (entry->host + 1));
}

static gboolean
is_allowed (const char *const *allow, const Url *url, gboolean *ret_named)
{
  gboolean allowed = FALSE;
  *ret_named = FALSE;
  for (; allow != NULL && *allow != NULL; allow++)
    {
      g_auto (Url) entry = { 0 };
      gboolean named = FALSE;
      if (parse (*allow, TRUE, &entry) != NULL || strcmp (entry.scheme, url->scheme) != 0)
        continue;
      if (url->port == 0 ? file_allowed (entry.path, url->path) : host_allowed (&entry, url, &named))
        {
          allowed = TRUE;
          *ret_named |= named;
        }
    }
  return allowed;
}

/* ------------------------------------------------------------------------------------------ addresses */

static gboolean
v4_is_public (guint32 a)
{
  static const struct
  {
    guint32 net;
    int bits;
  } private[] = {
    { 0x00000000, 8 },  { 0x0a000000, 8 },  { 0x64400000, 10 }, { 0x7f000000, 8 },  { 0xa9fe0000, 16 }, { 0xac100000, 12 },
    { 0xc0000000, 24 }, { 0xc0000200, 24 }, { 0xc0a80000, 16 }, { 0xc6120000, 15 }, { 0xc6336400, 24 }, { 0xcb007100, 24 },
    { 0xe0000000, 3 }, /* multicast, reserved, broadcast */
  };
  for (gsize i = 0; i < G_N_ELEMENTS (private); i++)
    if ((a ^ private[i].net) >> (32 - private[i].bits) == 0)
      return FALSE;
  return TRUE;
}

/* Of IPv6 only global unicast, and not what carries an IPv4 address in it. */
static gboolean
v6_is_public (const guint8 *a)
{
  if ((a[0] & 0xe0) != 0x20)
    return FALSE;
  if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
    return FALSE;
  return !(a[0] == 0x20 && a[1] == 0x01 && ((a[2] == 0 && a[3] == 0) || (a[2] == 0x0d && a[3] == 0xb8)));
}

static gboolean
is_public (const struct sockaddr *address)
{
  if (address->sa_family == AF_INET)
    return v4_is_public (ntohl (((const struct sockaddr_in *) (const void *) address)->sin_addr.s_addr));
  return address->sa_family == AF_INET6
         && v6_is_public (((const struct sockaddr_in6 *) (const void *) address)->sin6_addr.s6_addr);
}

static void
add_setting (Remote *remote, const char *key, char *value)
{
  g_ptr_array_add (remote->settings, g_strdup (key));
  g_ptr_array_add (remote->settings, value);
}

/*
 * Whoever controls a name says where it leads, and may say something else the next moment: git gets the addresses that
 * were looked at.
 */
static gboolean
pin_address (const Storage *storage, const Url *url, Remote *remote, GError **error)
{
  const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
  g_autoptr (GString) pin = g_string_new (NULL);
  struct addrinfo *found = NULL;
  gboolean good = TRUE;
  guint n = 0;
  int code;
  if (storage->git_version < GIT_VERSION (2, 37))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "remote.url: host %s stands in remote_allow by a pattern only, and to hold it to a public address git 2.37 "
                    "or later is needed (%s is older); update git, or list the host by its own name",
                    url->host, storage->git);
  code = getaddrinfo (url->host, NULL, &hints, &found);
  if (code != 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "remote.url: host %s cannot be found: %s", url->host, gai_strerror (code));
  g_string_printf (pin, "%s:%u:", url->host, url->port);
  for (const struct addrinfo *one = found; one != NULL && good; one = one->ai_next)
    {
      char text[NI_MAXHOST];
      good = is_public (one->ai_addr)
             && getnameinfo (one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0;
      if (good && n++ < ADDRESSES_MAX)
        g_string_append_printf (pin, one->ai_family == AF_INET6 ? "%s[%s]" : "%s%s", n > 1 ? "," : "", text);
    }
  freeaddrinfo (found);
  if (!good || n == 0)
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED,
                    "remote.url: host %s leads to an address that is not public; such a host must stand in the storage's "
                    "option remote_allow by its own name",
                    url->host);
  if (!url->v6) /* that one is an address already */
    add_setting (remote, "http.curloptResolve", g_string_free (g_steal_pointer (&pin), FALSE));
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- credentials */

static gboolean
secret_check (const char *text, gsize most, const char *field, GError **error)
{
  if (strlen (text) > most)
    return api_invalid (error, field, "is longer than %" G_GSIZE_FORMAT " bytes", most);
  for (const guchar *at = (const guchar *) text; *at != '\0'; at++)
    if (*at < ' ' || *at == 0x7f)
      return api_invalid (error, field, "has a control character in it");
  return TRUE;
}

static gboolean
take_credentials (const Gitstead__V1__Remote *message, const Url *url, Remote *remote, GError **error)
{
  gboolean basic = *message->user != '\0' || *message->password != '\0';
  if (!basic && *message->authorization == '\0')
    return TRUE;
  if (!secret_check (message->user, USER_MAX, "remote.user", error)
      || !secret_check (message->password, SECRET_MAX, "remote.password", error)
      || !secret_check (message->authorization, SECRET_MAX, "remote.authorization", error))
    return FALSE;
  if (basic && *message->authorization != '\0')
    return api_invalid (error, "remote.authorization", "cannot be given together with a user or password");
  if (strchr (message->user, ':') != NULL)
    return api_invalid (error, "remote.user", "has a ':' in it");
  if (url->port == 0)
    return api_invalid (error, basic ? "remote.user" : "remote.authorization", "a file needs no credentials");
  if (!basic)
    {
      add_setting (remote, "http.extraHeader", g_strconcat ("Authorization: ", message->authorization, NULL));
      return TRUE;
    }
  g_autofree char *pair = g_strconcat (message->user, ":", message->password, NULL);
  g_autofree char *code = g_base64_encode ((const guchar *) pair, strlen (pair));
  add_setting (remote, "http.extraHeader", g_strconcat ("Authorization: Basic ", code, NULL));
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- taking */

static void
begin_settings (Remote *remote, const char *scheme)
{
  g_autofree char *allow = g_strdup_printf ("protocol.%s.allow", scheme);
  remote->settings = g_ptr_array_new_with_free_func (g_free);
  add_setting (remote, allow, g_strdup ("always"));
  add_setting (remote, "http.followRedirects", g_strdup ("false"));
  add_setting (remote, "http.lowSpeedLimit", g_strdup ("1000"));
  add_setting (remote, "http.lowSpeedTime", g_strdup ("60"));
  add_setting (remote, "http.emptyAuth", g_strdup ("false"));
  add_setting (remote, "fetch.fsckObjects", g_strdup ("true"));
  add_setting (remote, "fetch.fsck.badTimezone", g_strdup ("ignore"));
  add_setting (remote, "fetch.fsck.missingSpaceBeforeDate", g_strdup ("ignore"));
  add_setting (remote, "fetch.fsck.zeroPaddedFilemode", g_strdup ("ignore"));
  add_setting (remote, "fetch.unpackLimit", g_strdup ("1"));
  add_setting (remote, "fetch.writeCommitGraph", g_strdup ("false"));
  add_setting (remote, "submodule.recurse", g_strdup ("false"));
  add_setting (remote, "fetch.recurseSubmodules", g_strdup ("false"));
  add_setting (remote, "push.recurseSubmodules", g_strdup ("no"));
  add_setting (remote, "push.gpgSign", g_strdup ("false"));
}

gboolean
remote_take (GitCall *call, const Gitstead__V1__Remote *message, RemoteUse use, Remote *ret_remote, GError **error)
{
  const char *const *allow = (const char *const *) call->storage->remote_allow;
  g_auto (Url) url = { 0 };
  const char *why;
  gboolean named;
  if (message == NULL || *message->url == '\0')
    return api_invalid (error, "remote.url", "must be set");
  if (strlen (message->url) > URL_MAX)
    return api_invalid (error, "remote.url", "is longer than %d bytes", URL_MAX);
  why = parse (message->url, FALSE, &url);
  if (why != NULL)
    return api_invalid (error, "remote.url", "%s", why);
  if (url.port == 0 && use == REMOTE_WRITE)
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED, "remote.url: files of the server are never written to");
  if (!is_allowed (allow, &url, &named))
    return gs_fail (error, GS_ERROR_PERMISSION_DENIED,
                    "remote.url: the server may not go to %s://%s: the storage's option remote_allow does not name it",
                    url.scheme, url.port != 0 ? url.host : url.path);
  if (url.port == 0 && !check_folder (url.path, error))
    return FALSE;
  begin_settings (ret_remote, url.scheme);
  ret_remote->url = g_strdup (message->url);
  ret_remote->shown = ret_remote->url;
  if (!take_credentials (message, &url, ret_remote, error) || (url.port != 0 && !named && !pin_address (call->storage, &url, ret_remote, error)))
    return FALSE;
  g_ptr_array_add (ret_remote->settings, NULL);
  return TRUE;
}

void
remote_file (const char *path, Remote *ret_remote)
{
  begin_settings (ret_remote, "file");
  g_ptr_array_add (ret_remote->settings, NULL);
  ret_remote->url = g_strdup (path);
  ret_remote->shown = "the bundle";
}

void
remote_clear (Remote *remote)
{
  g_clear_pointer (&remote->url, g_free);
  g_clear_pointer (&remote->settings, g_ptr_array_unref);
}
