/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes and ids in messages. See names.h. */
#include "node/names.h"

#include <wire/details.h>
#include <wire/page.h>

char *
gsi_name_text (const ProtobufCBinaryData *bytes, const char *field, GError **error)
{
  if (bytes->len == 0)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: must not be empty", field);
  else if (bytes->len > GSI_NAME_MAX)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %" G_GSIZE_FORMAT " bytes, at most %d are taken", field,
             bytes->len, GSI_NAME_MAX);
  else if (memchr (bytes->data, 0, bytes->len) != NULL)
    gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: contains a NUL byte", field);
  else
    return g_strndup ((const char *) bytes->data, bytes->len);
  gs_detail_field (error, field);
  return NULL;
}

char *
gsi_name_branch (const ProtobufCBinaryData *bytes, const char *field, GError **error)
{
  g_autofree char *name = gsi_name_text (bytes, field, error);
  const char *branch = name;
  if (name == NULL)
    return NULL;
  if (g_str_has_prefix (name, "refs/heads/"))
    branch = name + strlen ("refs/heads/");
  else if (g_str_has_prefix (name, "refs/"))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s is no branch: those are below refs/heads/", field, name);
      gs_detail_field (error, field);
      return NULL;
    }
  if (*branch == '-' || strcmp (branch, "HEAD") == 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: '%s' is no name for a branch: git takes it for something else", field,
               branch);
      gs_detail_field (error, field);
      return NULL;
    }
  return g_strconcat ("refs/heads/", branch, NULL);
}

gboolean
gsi_name_oid (const char *hex, gboolean may_be_empty, const char *field, GsOid *ret_oid, GError **error)
{
  if (hex[0] == '\0' && may_be_empty)
    {
      memset (ret_oid, 0, sizeof *ret_oid);
      return TRUE;
    }
  if (gs_oid_parse (hex, strlen (hex), ret_oid))
    return TRUE;
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: \"%.80s\" is not an object id (40 hex digits)", field, hex)
         || gs_detail_field (error, field);
}

char *
gsi_name_oid_hex (const GsOid *oid)
{
  char *hex = g_malloc (GS_OID_HEX_MAX + 1);
  gs_oid_hex (oid, hex);
  return hex;
}

ProtobufCBinaryData
gsi_name_bytes (const char *text)
{
  ProtobufCBinaryData bytes = { text == NULL ? 0 : strlen (text), (guint8 *) text };
  return bytes;
}

gboolean
gsi_page_begin (const GsiCall *call, guint64 repository, const Gitstead__V1__Page *page, gsize *ret_limit, char **ret_after,
                GError **error)
{
  const GsPageOf of = { call->method->number, repository, call->request };
  const guint8 *state;
  gsize len;
  if (!gs_page_begin (&of, page, ret_limit, &state, &len, error))
    return FALSE;
  if (state != NULL && memchr (state, 0, len) != NULL)
    return gs_page_bad (error);
  *ret_after = state != NULL ? g_strndup ((const char *) state, len) : NULL;
  return TRUE;
}

ProtobufCBinaryData
gsi_page_token (const GsiCall *call, guint64 repository, const char *last)
{
  const GsPageOf of = { call->method->number, repository, call->request };
  const gsize len = strlen (last), size = gs_page_token_size (len);
  ProtobufCBinaryData token = { size, g_malloc (size) };
  gs_page_token_write (&of, last, len, token.data);
  return token;
}

void
gsi_receipt_message (const GsiReceipt *receipt, Gitstead__V1__Receipt *ret_message)
{
  gitstead__v1__receipt__init (ret_message);
  ret_message->transaction_id.data = (guint8 *) receipt->txid.bytes;
  ret_message->transaction_id.len = sizeof receipt->txid.bytes;
  ret_message->generation = receipt->generation;
  ret_message->refs_digest.data = (guint8 *) receipt->refs_digest.bytes;
  ret_message->refs_digest.len = sizeof receipt->refs_digest.bytes;
  ret_message->replicas = (char **) receipt->replicas;
  ret_message->n_replicas = receipt->n_replicas;
}
