/* SPDX-License-Identifier: Apache-2.0 */
/**
 * auth.h - what a client showed to prove who it is. Pure functions.
 */
#ifndef GS_TRANSPORT_HTTP_AUTH_H
#define GS_TRANSPORT_HTTP_AUTH_H

#include <gitstead/host.h>

/** Credentials with the memory that they point into. Wiped by auth_clear. */
typedef struct
{
  GsCredentials credentials;
  char *secret; /* "user\0password" or the token */
  gsize secret_len;
} Auth;

/**
 * Reads an Authorization header (NULL = none, which is fine). FALSE with INVALID_ARGUMENT (malformed) or
 * UNAUTHENTICATED (a scheme that is not known here); the message never holds any of the value.
 */
gboolean auth_parse (const char *header, Auth *ret_auth, GError **error);
void auth_clear (Auth *auth);

#endif
