/* SPDX-License-Identifier: Apache-2.0 */
/* GnuTLS for both planes: credentials, sessions, who the client is. nng's own TLS is not used: its handshake never
 * times out and a receive can hang for ever. */
#include "nt.h"

#include <gnutls/x509.h>

#define PRIORITY "SECURE128:%SERVER_PRECEDENCE:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct NtTlsCreds
{
  gint refs; /* atomic: the instance, and each session */
  gnutls_certificate_credentials_t credentials;
  gnutls_priority_t priority;
  gboolean ask_client;
  gnutls_typed_vdata_st purpose; /* sessions point to it */
};

NtTlsCreds *
nt_tls_creds_new (const char *certificate, const char *key, const char *client_ca, GError **error)
{
  NtTlsCreds *creds = g_new0 (NtTlsCreds, 1);
  int rv;
  creds->refs = 1;
  rv = gnutls_certificate_allocate_credentials (&creds->credentials);
  if (rv < 0)
    {
      creds->credentials = NULL;
      gs_fail (error, GS_ERROR_UNAVAILABLE, "TLS: %s", gnutls_strerror (rv));
    }
  else if ((rv = gnutls_certificate_set_x509_key_file (creds->credentials, certificate, key, GNUTLS_X509_FMT_PEM)) < 0)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "TLS: certificate %s with key %s: %s", certificate, key,
             gnutls_strerror (rv));
  else if ((rv = gnutls_priority_init (&creds->priority, PRIORITY, NULL)) < 0)
    gs_fail (error, GS_ERROR_INTERNAL, "TLS: priorities: %s", gnutls_strerror (rv));
  else if (client_ca != NULL
           && (rv = gnutls_certificate_set_x509_trust_file (creds->credentials, client_ca, GNUTLS_X509_FMT_PEM)) <= 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "TLS: authorities of client certificates %s: %s", client_ca,
               rv == 0 ? "holds no certificate" : gnutls_strerror (rv));
      rv = -1;
    }
  if (rv < 0)
    {
      nt_tls_creds_unref (creds);
      return NULL;
    }
  creds->ask_client = client_ca != NULL;
  /* What a client certificate is for, so that no server's certificate passes as one. */
  creds->purpose.type = GNUTLS_DT_KEY_PURPOSE_OID;
  creds->purpose.data = (unsigned char *) GNUTLS_KP_TLS_WWW_CLIENT;
  return creds;
}

void
nt_tls_creds_unref (NtTlsCreds *creds)
{
  if (creds == NULL || __atomic_sub_fetch (&creds->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  if (creds->credentials != NULL)
    gnutls_certificate_free_credentials (creds->credentials);
  if (creds->priority != NULL)
    gnutls_priority_deinit (creds->priority);
  g_free (creds);
}

gnutls_session_t
nt_tls_session_new (Nt *nt)
{
  NtTlsCreds *creds;
  gnutls_session_t session;
  if (gnutls_init (&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
    return NULL;
  /* They must outlive the session, and a reload may replace them before. */
  gs_mutex_lock (&nt->lock);
  creds = nt->creds;
  __atomic_add_fetch (&creds->refs, 1, __ATOMIC_RELAXED);
  gs_mutex_unlock (&nt->lock);
  gnutls_session_set_ptr (session, creds);
  if (gnutls_priority_set (session, creds->priority) < 0
      || gnutls_credentials_set (session, GNUTLS_CRD_CERTIFICATE, creds->credentials) < 0)
    {
      nt_tls_session_free (session);
      return NULL;
    }
  if (creds->ask_client)
    {
      gnutls_certificate_server_set_request (session, GNUTLS_CERT_REQUIRE);
      gnutls_session_set_verify_cert2 (session, &creds->purpose, 1, 0);
    }
  return session;
}

void
nt_tls_session_free (gnutls_session_t session)
{
  NtTlsCreds *creds;
  if (session == NULL)
    return;
  creds = gnutls_session_get_ptr (session);
  gnutls_deinit (session);
  nt_tls_creds_unref (creds);
}

static char *
certificate_name (gnutls_x509_crt_t certificate)
{
  char name[256];
  size_t size = sizeof name;
  unsigned type = 0;
  int rv = gnutls_x509_crt_get_dn_by_oid (certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size);
  if (rv < 0)
    {
      size = sizeof name - 1;
      rv = gnutls_x509_crt_get_subject_alt_name2 (certificate, 0, name, &size, &type, NULL);
      if (rv != GNUTLS_SAN_DNSNAME)
        return NULL;
      name[size] = '\0';
    }
  /* A NUL inside would let "admin\0.example" pass for "admin". */
  if (strlen (name) != size || !g_utf8_validate (name, -1, NULL))
    return NULL;
  return g_strdup (name);
}

char *
nt_tls_refusal (gnutls_session_t session, int rv)
{
  gnutls_datum_t text = { 0 };
  char *why;
  if (rv == GNUTLS_E_CERTIFICATE_REQUIRED || rv == GNUTLS_E_NO_CERTIFICATE_FOUND)
    return g_strdup ("it shows no certificate");
  if (rv != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR && rv != GNUTLS_E_CERTIFICATE_ERROR)
    return NULL;
  if (gnutls_certificate_verification_status_print (gnutls_session_get_verify_cert_status (session), GNUTLS_CRT_X509,
                                                    &text, 0)
      != 0)
    return g_strdup (gnutls_strerror (rv));
  why = g_strdup ((const char *) text.data);
  gnutls_free (text.data);
  return why;
}

char *
nt_tls_peer_name (gnutls_session_t session)
{
  unsigned n = 0, status = 0;
  const gnutls_datum_t *chain;
  gnutls_x509_crt_t certificate;
  char *name = NULL;
  if (gnutls_certificate_type_get (session) != GNUTLS_CRT_X509)
    return NULL;
  chain = gnutls_certificate_get_peers (session, &n);
  if (chain == NULL || n == 0)
    return NULL;
  status = gnutls_session_get_verify_cert_status (session);
  if (status != 0)
    return NULL;
  if (gnutls_x509_crt_init (&certificate) < 0)
    return NULL;
  if (gnutls_x509_crt_import (certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0)
    name = certificate_name (certificate);
  gnutls_x509_crt_deinit (certificate);
  return name;
}
