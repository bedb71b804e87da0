/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are made again and again: for page after page, and until they succeed. See gitstead-client.h. */
#include "link.h"

#include <gitstead/v1/types.pb-c.h>

#define PAGE_ARENA ((gsize) GS_CLIENT_ARENA)

/* ------------------------------------------------------------------------------------------- pages */

static const ProtobufCFieldDescriptor *
find_field (const ProtobufCMessageDescriptor *type, const char *name, ProtobufCType wanted, const void *descriptor)
{
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (type, name);
  return field != NULL && field->type == wanted && field->label != PROTOBUF_C_LABEL_REPEATED
                 && (descriptor == NULL || field->descriptor == descriptor)
             ? field
             : NULL;
}

/* One page into @arena. */
static const ProtobufCMessage *
get_page (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call, GsArena *arena,
          GError **error)
{
  ProtobufCMessage *reply = NULL;
  if (call != NULL)
    memset (&call->call_id, 0, sizeof call->call_id); /* each page is a call of its own */
  return gs_client_call (client, method, request, call, arena, &reply, error) ? reply : NULL;
}

gboolean
gs_client_pages (GsClient *client, const char *method, const ProtobufCMessage *request, GsClientCall *call,
                 GsClientPage visit, gpointer user, GBytes **ret_token, GError **error)
{
  const ProtobufCFieldDescriptor *field
      = find_field (request->descriptor, "page", PROTOBUF_C_TYPE_MESSAGE, &gitstead__v1__page__descriptor);
  Gitstead__V1__Page page = GITSTEAD__V1__PAGE__INIT;
  g_autofree ProtobufCMessage *own = NULL;
  g_autoptr (GBytes) token = NULL;
  gboolean more = TRUE;
  Gitstead__V1__Page **slot;
  if (field == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s has no pages: its request has no field page", method);
  own = g_memdup2 (request, request->descriptor->sizeof_message);
  slot = (Gitstead__V1__Page **) (void *) ((guint8 *) own + field->offset);
  if (*slot != NULL)
    page = **slot;
  *slot = &page;
  do
    {
      g_autoptr (GsArena) arena = gs_arena_new (PAGE_ARENA);
      const ProtobufCMessage *reply = get_page (client, method, own, call, arena, error);
      const ProtobufCFieldDescriptor *next;
      const ProtobufCBinaryData *at;
      if (reply == NULL)
        return FALSE;
      next = find_field (reply->descriptor, "next_page_token", PROTOBUF_C_TYPE_BYTES, NULL);
      if (next == NULL)
        return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s has no pages: its reply has no next_page_token", method);
      at = (const ProtobufCBinaryData *) (const void *) ((const guint8 *) reply + next->offset);
      if (at->len > 0 && at->len == page.token.len && memcmp (at->data, page.token.data, at->len) == 0)
        return gs_fail (error, GS_ERROR_INTERNAL, "%s: the server gives the same page again and again", method);
      more = visit (reply, user);
      g_clear_pointer (&token, g_bytes_unref);
      token = at->len > 0 ? g_bytes_new (at->data, at->len) : NULL;
      page.token.data = token != NULL ? (guint8 *) g_bytes_get_data (token, &page.token.len) : NULL;
    }
  while (more && token != NULL);
  if (ret_token != NULL)
    *ret_token = g_steal_pointer (&token);
  return TRUE;
}

/* --------------------------------------------------------------------------------------- attempts */

/* The call's verdict. An attempt that did not come to its call is judged by its error; what the program gave up stays so. */
static GsRetry
judge_attempt (const GsClientCall *call, const GError *why)
{
  if (call->ret_attempts > 0)
    return call->ret_retry;
  return gs_error_code (why) == GS_ERROR_CANCELLED ? GS_RETRY_NEVER : gs_error_retry (gs_error_code (why));
}

gboolean
gs_client_retry (GsClient *client, gint64 timeout_us, GsClientAttempt attempt, gpointer user, GError **error)
{
  GsClientCall call = { .size = sizeof call };
  gint64 until_us = g_get_monotonic_time () + (timeout_us > 0 ? timeout_us : client->timeout_us);
  for (guint32 n = 0;; n++)
    {
      GsClientCall next = { .size = sizeof next, .call_id = call.call_id };
      GError *why = NULL;
      GsRetry retry;
      call = next;
      call.timeout_us = MAX (until_us - g_get_monotonic_time (), 1000);
      if (attempt (client, &call, user, &why))
        return TRUE;
      if (why == NULL)
        gs_fail (&why, GS_ERROR_INTERNAL, "an attempt failed without saying why");
      retry = judge_attempt (&call, why);
      if (retry == GS_RETRY_NEVER || !gs_client_pause (n, call.ret_retry_after_us, until_us))
        {
          g_propagate_error (error, why);
          return FALSE;
        }
      g_error_free (why);
      if (retry == GS_RETRY_NEW)
        memset (&call.call_id, 0, sizeof call.call_id);
    }
}
