/* SPDX-License-Identifier: Apache-2.0 */
/**
 * token.h - the form of access tokens and what is derived from one.
 *
 * A token is "gs_<id>_<secret>": an id of 12 lower-case hex digits, which is public and names the token in
 * lists and logs, and 32 random bytes as 43 characters of base64url without padding. A server keeps none of
 * it but two SHA-256 values, so that a stolen database gives nobody a bearer token. (Its signing keys it
 * does give: they are what signatures are checked with. Protect the database accordingly.)
 */
#ifndef GITSTEAD_WIRE_TOKEN_H
#define GITSTEAD_WIRE_TOKEN_H

#include <gitstead/types.h>

G_BEGIN_DECLS

#define GS_TOKEN_ID_LEN 12
#define GS_TOKEN_SECRET_LEN 43
#define GS_TOKEN_LEN (3 + GS_TOKEN_ID_LEN + 1 + GS_TOKEN_SECRET_LEN)
#define GS_TOKEN_KEY_SIZE 32      /* signing key; bearer verifier */
#define GS_TOKEN_VERIFIER_SIZE 64 /* what is stored: bearer verifier, then signing key */

/** Writes the token for 6 and 32 random bytes. Pure. */
void gs_token_make (const guint8 id[6], const guint8 secret[32], char ret_token[GS_TOKEN_LEN + 1]);

/**
 * Takes a token apart. FALSE, outputs untouched, when it has not the form. @ret_secret points into @token;
 * either output may be NULL.
 */
gboolean gs_token_parse (const char *token, char ret_id[GS_TOKEN_ID_LEN + 1], const char **ret_secret);
/** Is @id what an id looks like? */
gboolean gs_token_id_valid (const char *id);

/** SHA-256 ("gitstead bearer v1\0" || @secret): compared when a token is shown. @secret is the text. */
void gs_token_bearer_verifier (const char *secret, guint8 ret_verifier[GS_TOKEN_KEY_SIZE]);
/** SHA-256 ("gitstead sign v1\0" || @secret): the key that requests are signed with. */
void gs_token_signing_key (const char *secret, guint8 ret_key[GS_TOKEN_KEY_SIZE]);
/** What a server stores: bearer verifier, then signing key. */
void gs_token_verifier (const char *secret, guint8 ret_verifier[GS_TOKEN_VERIFIER_SIZE]);

/** HMAC-SHA-256. */
void gs_token_hmac (const guint8 key[GS_TOKEN_KEY_SIZE], const guint8 *data, gsize len, guint8 ret_tag[32]);
/** Are the @len bytes equal? Takes the same time wherever they differ. */
gboolean gs_token_equal (const guint8 *a, const guint8 *b, gsize len);

G_END_DECLS

#endif
