/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - from a request's URI to what it names. */
#include "route.h"

#define PATH_MAX_BYTES 4096u
#define PROTOCOL_MAX 256u

const char *
route_name (RouteKind kind)
{
  static const char *const names[ROUTE_COUNT]
      = { "other", "info-refs", "upload-pack", "receive-pack", "api", "healthz", "readyz", "metrics", "status" };
  return (guint) kind < ROUTE_COUNT ? names[kind] : names[ROUTE_NONE];
}

/* An absolute-form target ("GET http://host/path") names the same resource as its path. */
static const char *
without_authority (const char *uri)
{
  const char *rest = NULL;
  if (g_ascii_strncasecmp (uri, "http://", 7) == 0)
    rest = uri + 7;
  else if (g_ascii_strncasecmp (uri, "https://", 8) == 0)
    rest = uri + 8;
  if (rest == NULL)
    return uri;
  rest += strcspn (rest, "/?");
  return rest;
}

/* One segment, ready to be looked at: "." and ".." have no business in a request that is not hostile. */
static gboolean
check_segments (const char *path, GError **error)
{
  const char *segment = path;
  for (;;)
    {
      gsize length = strcspn (segment, "/");
      if ((length == 1 && segment[0] == '.') || (length == 2 && segment[0] == '.' && segment[1] == '.'))
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path has a '%.*s' segment; name the resource directly",
                        (int) length, segment);
      if (segment[length] == '\0')
        return TRUE;
      segment += length + 1;
    }
}

static char *
decode_path (const char *path, gsize length, GError **error)
{
  g_autoptr (GString) out = g_string_sized_new (length);
  if (length > PATH_MAX_BYTES)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path is longer than %u bytes", PATH_MAX_BYTES);
      return NULL;
    }
  for (gsize i = 0; i < length; i++)
    {
      guint8 c = (guint8) path[i];
      if (c == '%')
        {
          if (i + 2 >= length || !gs_unhex (path + i + 1, 1, &c))
            {
              gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path has a '%%' that is not followed by two hex digits");
              return NULL;
            }
          i += 2;
          if (c == '/')
            {
              gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path has an encoded slash (%%2F); write it as it is");
              return NULL;
            }
        }
      if (c < 0x20 || c == 0x7f)
        {
          gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path has a control character (0x%02x)", c);
          return NULL;
        }
      g_string_append_c (out, (char) c);
    }
  if (!g_utf8_validate (out->str, (gssize) out->len, NULL))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path is not valid UTF-8");
      return NULL;
    }
  if (!check_segments (out->str, error))
    return NULL;
  return g_string_free (g_steal_pointer (&out), FALSE);
}

static gboolean
parse_service (const char *query, RouteService *ret_service, GError **error)
{
  gboolean seen = FALSE;
  RouteService service = SERVICE_NONE;
  while (query != NULL && *query != '\0')
    {
      gsize length = strcspn (query, "&");
      if (length >= 8 && strncmp (query, "service=", 8) == 0)
        {
          g_autofree char *value = g_strndup (query + 8, length - 8);
          if (seen)
            return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the query names 'service' twice");
          seen = TRUE;
          if (strcmp (value, "git-upload-pack") == 0)
            service = SERVICE_UPLOAD_PACK;
          else if (strcmp (value, "git-receive-pack") == 0)
            service = SERVICE_RECEIVE_PACK;
          else
            return gs_fail (
                error, GS_ERROR_INVALID_ARGUMENT,
                "there is no such service; this server has git-upload-pack (fetch) and git-receive-pack (push)");
        }
      query += length;
      if (*query == '&')
        query++;
    }
  *ret_service = service;
  return TRUE;
}

/* "/a/b.git/info/refs" with suffix "/info/refs" gives "a/b.git". */
static char *
strip (const char *path, const char *suffix)
{
  gsize length = strlen (path), tail = strlen (suffix);
  if (length <= tail + 1 || strcmp (path + length - tail, suffix) != 0)
    return NULL;
  return g_strndup (path + 1, length - tail - 1);
}

gboolean
route_parse (const char *uri, Route *ret_route, GError **error)
{
  static const struct
  {
    const char *path;
    RouteKind kind;
  } pages[] = {
    { "/", ROUTE_STATUS }, { "/healthz", ROUTE_HEALTH }, { "/readyz", ROUTE_READY }, { "/metrics", ROUTE_METRICS }
  };
  static const struct
  {
    const char *suffix;
    RouteKind kind;
  } git[] = { { "/info/refs", ROUTE_INFO_REFS },
              { "/git-upload-pack", ROUTE_UPLOAD_PACK },
              { "/git-receive-pack", ROUTE_RECEIVE_PACK } };
  Route route = { 0 };
  const char *raw = without_authority (uri);
  gsize length = strcspn (raw, "?");
  const char *query = raw[length] == '?' ? raw + length + 1 : NULL;
  g_autofree char *path = NULL;

  if (raw[0] != '/')
    {
      if (length != 0)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the path does not begin with a slash");
      raw = "/";
      length = 1;
    }
  path = decode_path (raw, length, error);
  if (path == NULL)
    return FALSE;

  for (guint i = 0; i < G_N_ELEMENTS (pages); i++)
    if (strcmp (path, pages[i].path) == 0)
      route.kind = pages[i].kind;
  for (guint i = 0; i < G_N_ELEMENTS (git) && route.kind == ROUTE_NONE; i++)
    if ((route.target = strip (path, git[i].suffix)) != NULL)
      route.kind = git[i].kind;
  if (route.kind == ROUTE_NONE && g_str_has_prefix (path, "/api/v1/"))
    {
      route.kind = ROUTE_API;
      route.target = g_strdup (path + strlen ("/api/v1/"));
    }
  if (route.kind == ROUTE_INFO_REFS && !parse_service (query, &route.service, error))
    {
      route_clear (&route);
      return FALSE;
    }
  *ret_route = route;
  return TRUE;
}

void
route_clear (Route *route)
{
  g_clear_pointer (&route->target, g_free);
  route->kind = ROUTE_NONE;
}

int
route_protocol_version (const char *protocol)
{
  int version = 0;
  while (protocol != NULL && *protocol != '\0')
    {
      gsize length = strcspn (protocol, ":");
      if (length == 9 && strncmp (protocol, "version=", 8) == 0 && protocol[8] >= '0' && protocol[8] <= '2')
        version = MAX (version, protocol[8] - '0');
      protocol += length;
      if (*protocol == ':')
        protocol++;
    }
  return version;
}

gboolean
route_protocol_valid (const char *protocol)
{
  gsize length = strlen (protocol);
  if (length > PROTOCOL_MAX)
    return FALSE;
  for (gsize i = 0; i < length; i++)
    if (!g_ascii_isalnum (protocol[i]) && strchr ("=:.,_-", protocol[i]) == NULL)
      return FALSE;
  return TRUE;
}
