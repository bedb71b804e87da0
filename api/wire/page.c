/* SPDX-License-Identifier: Apache-2.0 */
/* Limits and tokens of pages. See page.h. */
#include "page.h"

#include <gitstead/error.h>
#include <string.h>
#include "details.h"

#define VERSION 0x02
#define SUM_SIZE 8
#define HEAD_SIZE (1 + SUM_SIZE)

/* Of fields that do not count, a copy of the request has none. */
static void
sum_of (const GsPageOf *of, guint8 ret_sum[SUM_SIZE])
{
  static const char *const aside[] = { "repository", "page" };
  const ProtobufCMessageDescriptor *descriptor = of->request->descriptor;
  g_autofree ProtobufCMessage *copy = g_memdup2 (of->request, descriptor->sizeof_message);
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  const guint64 head[2] = { GUINT64_TO_BE ((guint64) of->method), GUINT64_TO_BE (of->repository) };
  guint8 digest[32];
  gsize len = sizeof digest;
  for (gsize i = 0; i < G_N_ELEMENTS (aside); i++)
    {
      const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (descriptor, aside[i]);
      if (field != NULL)
        memset ((guint8 *) copy + field->offset, 0, sizeof (gpointer));
    }
  g_autoptr (GBytes) bytes = gs_wire_encode (copy);
  g_checksum_update (sum, (const guchar *) head, sizeof head);
  g_checksum_update (sum, g_bytes_get_data (bytes, NULL), (gssize) g_bytes_get_size (bytes));
  g_checksum_get_digest (sum, digest, &len);
  memcpy (ret_sum, digest, SUM_SIZE);
}

gboolean
gs_page_bad (GError **error)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                  "page.token: not a token that this server gave out for this request; begin again without one")
         || gs_detail_field (error, "page.token");
}

gboolean
gs_page_begin (const GsPageOf *of, const Gitstead__V1__Page *page, gsize *ret_limit, const guint8 **ret_state,
               gsize *ret_len, GError **error)
{
  const ProtobufCBinaryData *token = page != NULL ? &page->token : NULL;
  gsize limit = page != NULL && page->limit != 0 ? page->limit : GS_PAGE_ENTRIES_MAX;
  const gboolean resumes = token != NULL && token->len > 0;
  if (limit > GS_PAGE_ENTRIES_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "page.limit: %" G_GSIZE_FORMAT " is more than the most, %d", limit,
                    GS_PAGE_ENTRIES_MAX)
           || gs_detail_field (error, "page.limit");
  if (resumes)
    {
      guint8 sum[SUM_SIZE];
      if (token->len <= HEAD_SIZE || token->len > HEAD_SIZE + GS_PAGE_STATE_MAX || token->data[0] != VERSION)
        return gs_page_bad (error);
      sum_of (of, sum);
      if (memcmp (token->data + 1, sum, SUM_SIZE) != 0)
        return gs_page_bad (error);
    }
  *ret_limit = limit;
  *ret_state = resumes ? token->data + HEAD_SIZE : NULL;
  *ret_len = resumes ? token->len - HEAD_SIZE : 0;
  return TRUE;
}

gsize
gs_page_token_size (gsize len)
{
  return HEAD_SIZE + len;
}

void
gs_page_token_write (const GsPageOf *of, gconstpointer state, gsize len, guint8 *ret_token)
{
  ret_token[0] = VERSION;
  sum_of (of, ret_token + 1);
  memcpy (ret_token + HEAD_SIZE, state, len);
}
