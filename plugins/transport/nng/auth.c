/* SPDX-License-Identifier: Apache-2.0 */
/* Who says to be calling: credentials from the envelope and the connection. Whether they are right is the access
 * plugin's to say; what only the transport can know (encryption, clock, repeated nonces) is checked here. */
#include "nt.h"

#include <wire/token.h>

/* ---------------------------------------------------------------------------------------- nonces */

/* A signature's time may be this far off either way, so a nonce matters for twice as long; one second for the
 * time it takes to get here. Two generations are kept, so each nonce lives one to two spans. */
#define DIGEST_SIZE 32
#define SPAN_US ((2 * GS_FRAME_CLOCK_SKEW_S + 1) * G_USEC_PER_SEC)

struct NtNonces
{
  GsMutex lock;
  GHashTable *now, *before;
  gint64 begun_us; /* when @now was begun */
  gsize limit;     /* of one generation */
  guint8 seed[16];
};

/* Keys are digests with our own seed: strangers choose nonces, but not what collides in the table. */
static void
nonce_digest (NtNonces *nonces, const guint8 nonce[NT_NONCE_SIZE], guint8 ret_key[DIGEST_SIZE])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  gsize len = DIGEST_SIZE;
  g_checksum_update (sum, nonces->seed, sizeof nonces->seed);
  g_checksum_update (sum, nonce, NT_NONCE_SIZE);
  g_checksum_get_digest (sum, ret_key, &len);
}

static guint
nonce_hash (gconstpointer key)
{
  guint value;
  memcpy (&value, key, sizeof value);
  return value;
}

static gboolean
nonce_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, DIGEST_SIZE) == 0;
}

NtNonces *
nt_nonces_new (gsize limit, const guint8 seed[16])
{
  NtNonces *nonces = g_new0 (NtNonces, 1);
  gs_mutex_init (&nonces->lock);
  nonces->now = g_hash_table_new_full (nonce_hash, nonce_equal, g_free, NULL);
  nonces->before = g_hash_table_new_full (nonce_hash, nonce_equal, g_free, NULL);
  nonces->begun_us = G_MININT64;
  nonces->limit = limit;
  memcpy (nonces->seed, seed, sizeof nonces->seed);
  return nonces;
}

void
nt_nonces_free (NtNonces *nonces)
{
  if (nonces == NULL)
    return;
  g_hash_table_unref (nonces->now);
  g_hash_table_unref (nonces->before);
  gs_mutex_clear (&nonces->lock);
  g_free (nonces);
}

NtNonceVerdict
nt_nonces_add (NtNonces *nonces, const guint8 nonce[NT_NONCE_SIZE], gint64 now_us)
{
  guint8 key[DIGEST_SIZE];
  nonce_digest (nonces, nonce, key);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nonces->lock);
  if (nonces->begun_us == G_MININT64)
    nonces->begun_us = now_us;
  if (now_us - nonces->begun_us >= SPAN_US)
    {
      GHashTable *old = nonces->before;
      nonces->before = nonces->now;
      nonces->now = old;
      g_hash_table_remove_all (old);
      if (now_us - nonces->begun_us >= 2 * SPAN_US)
        g_hash_table_remove_all (nonces->before);
      nonces->begun_us = now_us;
    }
  if (g_hash_table_contains (nonces->now, key) || g_hash_table_contains (nonces->before, key))
    return NT_NONCE_SEEN;
  if (g_hash_table_size (nonces->now) >= nonces->limit)
    return NT_NONCE_FULL;
  g_hash_table_add (nonces->now, g_memdup2 (key, DIGEST_SIZE));
  return NT_NONCE_NEW;
}

void
nt_nonces_remove (NtNonces *nonces, const guint8 nonce[NT_NONCE_SIZE])
{
  guint8 key[DIGEST_SIZE];
  nonce_digest (nonces, nonce, key);
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&nonces->lock);
  g_hash_table_remove (nonces->now, key);
  g_hash_table_remove (nonces->before, key);
}

/* ----------------------------------------------------------------------------------- credentials */

static gboolean
auth_signature (NtConn *conn, const GsFrame *frame, const Gitstead__V1__Signature *signature, const GsTxId *call_id,
                NtAuth *auth, GError **error)
{
  const GsHost *host = conn->nt->host;
  gint64 now_s = host->wall_us (host) / G_USEC_PER_SEC;
  gint64 off_s;
  if (!gs_token_id_valid (signature->key_id) || signature->nonce.len != GS_FRAME_NONCE_SIZE || signature->tag.len != 32
      || signature->time > G_MAXINT64)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "signature: it needs a key id of %d characters, a nonce of 16 bytes and a tag of 32",
                    GS_TOKEN_ID_LEN);
  off_s = (gint64) signature->time - now_s;
  if (off_s > GS_FRAME_CLOCK_SKEW_S || off_s < -GS_FRAME_CLOCK_SKEW_S)
    return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                    "signature: its time is %" G_GINT64_FORMAT " s off this server's clock, more than the %d s allowed: "
                    "set the clocks",
                    off_s, GS_FRAME_CLOCK_SKEW_S);
  memcpy (auth->nonce, signature->nonce.data, GS_FRAME_NONCE_SIZE);
  memcpy (auth->nonce + GS_FRAME_NONCE_SIZE, signature->key_id, GS_TOKEN_ID_LEN);
  switch (nt_nonces_add (conn->nt->nonces, auth->nonce, host->now_us (host)))
    {
    case NT_NONCE_SEEN:
      return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                      "signature: this request was sent before; sign every try anew, with a new nonce");
    case NT_NONCE_FULL:
      return gs_fail (error, GS_ERROR_BUSY, "signature: too many signed requests within a minute");
    case NT_NONCE_NEW:
      break;
    }
  auth->has_nonce = TRUE;
  auth->signed_data = gs_frame_signed_data (frame->code, call_id, signature->key_id, signature->time,
                                            signature->nonce.data, frame->payload, frame->payload_len);
  auth->credentials.kind = GS_CREDENTIALS_HMAC;
  auth->credentials.user = signature->key_id;
  auth->credentials.signed_data = g_bytes_get_data (auth->signed_data, &auth->credentials.signed_len);
  auth->credentials.tag = signature->tag.data;
  return TRUE;
}

gboolean
nt_auth (NtConn *conn, const GsFrame *frame, const Gitstead__V1__RequestHeader *header, const GsTxId *call_id,
         NtAuth *ret_auth, GError **error)
{
  const Gitstead__V1__Auth *auth = header->auth;
  GsCredentials *credentials = &ret_auth->credentials;
  memset (ret_auth, 0, sizeof *ret_auth);
  credentials->size = sizeof *credentials;
  credentials->uid = G_MAXUINT32;
  if (auth != NULL && auth->signature != NULL && auth->bearer[0] != '\0')
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "auth: a token and a signature at once; send one of them");
  if (auth != NULL && auth->signature != NULL)
    return auth_signature (conn, frame, auth->signature, call_id, ret_auth, error);
  if (auth != NULL && auth->bearer[0] != '\0')
    {
      if (conn->peer.scheme == NT_TCP && !conn->peer.loopback && !conn->nt->limits.allow_plain_bearer)
        return gs_fail (error, GS_ERROR_UNAUTHENTICATED,
                        "auth: a token over an unencrypted network connection is not taken; sign the request, or "
                        "use tls+tcp");
      credentials->kind = GS_CREDENTIALS_BEARER;
      credentials->secret = auth->bearer;
    }
  else if (conn->certificate != NULL)
    {
      credentials->kind = GS_CREDENTIALS_CERTIFICATE;
      credentials->certificate = conn->certificate;
    }
  else if (conn->peer.scheme == NT_IPC && conn->peer.uid != G_MAXUINT32)
    {
      credentials->kind = GS_CREDENTIALS_PEER;
      credentials->uid = conn->peer.uid;
    }
  else
    credentials->kind = GS_CREDENTIALS_NONE;
  return TRUE;
}

void
nt_auth_clear (NtAuth *auth)
{
  g_clear_pointer (&auth->signed_data, g_bytes_unref);
}
