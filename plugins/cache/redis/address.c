/* SPDX-License-Identifier: Apache-2.0 */
/* Where a redis server is, from the text in the config file. */
#include "pool.h"

#define DATABASE_MAX 65535

/* "", or a number. */
static gboolean
parse_database (const char *text, guint *ret_database)
{
  guint64 number = 0;
  if (*text != '\0' && !g_ascii_string_to_unsigned (text, 10, 0, DATABASE_MAX, &number, NULL))
    return FALSE;
  *ret_database = (guint) number;
  return TRUE;
}

static gboolean
bad (const char *url, const char *why, GError **error)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                  "the url \"%s\" of the redis server %s: want redis://HOST:PORT/DATABASE, unix:///PATH?db=DATABASE or "
                  "an absolute path",
                  url, why);
}

static gboolean
parse_tcp (const char *url, GUri *uri, RedisAddress *address, GError **error)
{
  const char *path = g_uri_get_path (uri);
  if (g_uri_get_host (uri) == NULL || g_uri_get_host (uri)[0] == '\0')
    return bad (url, "names no host", error);
  if (!parse_database (*path == '/' ? path + 1 : path, &address->database))
    return bad (url, "has no number as database", error);
  address->host = g_strdup (g_uri_get_host (uri));
  address->port = g_uri_get_port (uri) > 0 ? g_uri_get_port (uri) : 6379;
  return TRUE;
}

static gboolean
parse_unix (const char *url, GUri *uri, RedisAddress *address, GError **error)
{
  const char *query = g_uri_get_query (uri);
  if (g_uri_get_path (uri)[0] != '/' || (g_uri_get_host (uri) != NULL && g_uri_get_host (uri)[0] != '\0'))
    return bad (url, "has no absolute path", error);
  if (query != NULL && (!g_str_has_prefix (query, "db=") || !parse_database (query + 3, &address->database)))
    return bad (url, "has more than db=DATABASE behind the path", error);
  address->path = g_strdup (g_uri_get_path (uri));
  return TRUE;
}

gboolean
redis_address_parse (const char *url, RedisAddress *ret_address, GError **error)
{
  RedisAddress address = { NULL };
  g_autoptr (GUri) uri = NULL;
  gboolean ok;
  if (*url == '/')
    {
      ret_address->path = g_strdup (url);
      return TRUE;
    }
  uri = g_uri_parse (url, G_URI_FLAGS_NONE, NULL);
  if (uri == NULL)
    return bad ("…", "is no URL", error); /* it may hold a password */
  if (g_uri_get_userinfo (uri) != NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "the url of the redis server holds a user or password: give them as the options user and password");
  if (strcmp (g_uri_get_scheme (uri), "redis") == 0)
    ok = parse_tcp (url, uri, &address, error);
  else if (strcmp (g_uri_get_scheme (uri), "unix") == 0)
    ok = parse_unix (url, uri, &address, error);
  else
    ok = bad (url, "has an unknown scheme", error);
  if (ok)
    *ret_address = address;
  return ok;
}

void
redis_address_clear (RedisAddress *address)
{
  g_clear_pointer (&address->host, g_free);
  g_clear_pointer (&address->path, g_free);
}
