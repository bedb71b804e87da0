/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of servers, and TLS to them. */
#include "link.h"

#include <arpa/inet.h>

static gboolean
parse_host_port (GsAddress *address, const char *rest, gboolean empty_host)
{
  const char *colon = strrchr (rest, ':');
  const char *end = colon;
  guint64 port;
  if (colon == NULL || !g_ascii_string_to_unsigned (colon + 1, 10, 1, 65535, &port, NULL))
    return FALSE;
  if (rest[0] == '[')
    {
      rest++;
      end = colon - 1;
      if (end < rest || *end != ']')
        return FALSE;
    }
  address->host = g_strndup (rest, (gsize) (end - rest));
  address->port = (guint) port;
  return strpbrk (address->host, "/?#@[] ") == NULL && (empty_host || address->host[0] != '\0');
}

gboolean
gs_address_parse (GsAddress *ret_address, const char *url, gboolean empty_host, GError **error)
{
  gboolean good = FALSE;
  memset (ret_address, 0, sizeof *ret_address);
  if (g_str_has_prefix (url, "ipc://"))
    {
      ret_address->scheme = GS_LINK_IPC;
      ret_address->path = g_strdup (url + strlen ("ipc://"));
      good = ret_address->path[0] == '/' && strlen (ret_address->path) <= 107;
    }
  else if (g_str_has_prefix (url, "tcp://"))
    good = parse_host_port (ret_address, url + strlen ("tcp://"), empty_host);
  else if (g_str_has_prefix (url, "tls+tcp://"))
    {
      ret_address->scheme = GS_LINK_TLS;
      good = parse_host_port (ret_address, url + strlen ("tls+tcp://"), empty_host);
    }
  if (!good)
    {
      gs_address_clear (ret_address);
      return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                      "'%s' is no server address: write tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH", url);
    }
  ret_address->url = g_strdup (url);
  return TRUE;
}

void
gs_address_clear (GsAddress *address)
{
  g_free (address->url);
  g_free (address->host);
  g_free (address->path);
  g_free (address->server_name);
  if (address->credentials != NULL)
    gnutls_certificate_free_credentials (address->credentials);
  memset (address, 0, sizeof *address);
}

static gboolean
is_numeric (const char *host)
{
  struct in6_addr ignored;
  return inet_pton (AF_INET, host, &ignored) == 1 || inet_pton (AF_INET6, host, &ignored) == 1;
}

gnutls_session_t
gs_address_session (const GsAddress *address, GError **error)
{
  gnutls_session_t session;
  const char *name = address->server_name;
  int rv = gnutls_init (&session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
  if (rv < 0)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS to %s: %s", address->url, gnutls_strerror (rv));
      return NULL;
    }
  rv = gnutls_priority_set_direct (session, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
  if (rv == 0)
    rv = gnutls_credentials_set (session, GNUTLS_CRD_CERTIFICATE, address->credentials);
  if (rv == 0 && !is_numeric (name))
    rv = gnutls_server_name_set (session, GNUTLS_NAME_DNS, name, strlen (name));
  if (rv < 0)
    {
      gnutls_deinit (session);
      gs_fail (error, GS_ERROR_INTERNAL, "TLS to %s: %s", address->url, gnutls_strerror (rv));
      return NULL;
    }
  gnutls_session_set_verify_cert (session, name, 0);
  return session;
}
