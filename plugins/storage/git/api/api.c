/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the Git API: finding the handler, the call's life, its memory, checks of values, pages. See api.h. */
#include "api.h"

#include <wire/details.h>

#include "../adopt.h"

/* Decoded, beside its size. More than the core allows: what was let in there is not refused here. */
#define REQUEST_BUDGET (32u << 20)

static const ApiRow *const tables[]
    = { api_commit_rows, api_blob_rows, api_object_rows, api_diff_rows, api_ref_rows, api_repository_rows,
        api_history_rows, api_pool_rows, api_files_rows, api_label_rows };

/* ------------------------------------------------------------------------------------------- life */

const ApiRow *
api_find (const ApiRow *rows, guint32 number)
{
  for (const ApiRow *row = rows; row->number != 0; row++)
    if (row->number == number)
      return row;
  return NULL;
}

gboolean
api_open (GitCall *call, Storage *storage, GsCall *base, const GsRepo *repo, const GsQuery *query, const ApiRow *row,
          gboolean writer, GError **error)
{
  gsize len;
  const guint8 *data = g_bytes_get_data (query->request, &len);
  *call
      = (GitCall){ .storage = storage, .call = base, .stream = query->stream, .method = row->number, .writer = writer };
  call->arena = gs_arena_new (len + REQUEST_BUDGET);
  call->replies = gs_arena_new (G_MAXSIZE / 2);
  call->request = gs_wire_decode (call->arena, row->request, data, len, error);
  if (call->request != NULL && (call->repo = repo_open (storage, repo, writer, error)) != NULL)
    return TRUE;
  api_close (call);
  return FALSE;
}

gboolean
api_open_plain (GitCall *call, Storage *storage, GsCall *base, const GsRepo *repo, GError **error)
{
  *call = (GitCall){ .storage = storage, .call = base };
  if ((call->repo = repo_open (storage, repo, FALSE, error)) == NULL)
    return FALSE;
  call->replies = gs_arena_new (G_MAXSIZE / 2);
  return TRUE;
}

void
api_close (GitCall *call)
{
  if (call->odb != NULL)
    odb_return (call->repo, call->odb);
  if (call->refs != NULL)
    ref_snapshot_unref (call->refs);
  if (call->repo != NULL)
    repo_close (call->repo, call->writer);
  gs_arena_free (call->arena);
  gs_arena_free (call->replies);
  *call = (GitCall){ 0 };
}

gboolean
storage_query (gpointer self, GsCall *base, const GsRepo *repo, const GsQuery *query, GBytes **ret_reply,
               GError **error)
{
  const ApiRow *row = NULL;
  GitCall call;
  if (adopt_is_query (query->method)) /* there is no replica yet */
    return adopt_query (self, base, repo, query, ret_reply, error);
  for (gsize i = 0; i < G_N_ELEMENTS (tables) && row == NULL; i++)
    row = api_find (tables[i], query->method);
  if (row == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this storage does not know method %u", query->method);
  if (!api_open (&call, self, base, repo, query, row, FALSE, error))
    return FALSE;
  ProtobufCMessage *reply = api_message (&call, row->reply);
  gboolean done = row->handler (&call, call.request, reply, error);
  if (done)
    *ret_reply = gs_wire_encode (reply);
  api_close (&call);
  return done;
}

ObjectHandle *
api_odb (GitCall *call, GError **error)
{
  if (call->odb == NULL)
    call->odb = odb_borrow (call->repo, error);
  return call->odb;
}

RefSnapshot *
api_refs (GitCall *call, GError **error)
{
  if (call->refs == NULL)
    call->refs = ref_store_snapshot (call->repo->refs, error);
  return call->refs;
}

gboolean
api_ref_whole (GitCall *call, const RefEntry *ref, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&ref->oid, hex);
  return !ref->missing
         || gs_fail (error, GS_ERROR_DATA_LOSS,
                     "repository %" G_GUINT64_FORMAT ": object %s, which %s names, is missing; delete the ref, or have the "
                     "replica repaired",
                     call->repo->id, hex, ref->name);
}

/* ----------------------------------------------------------------------------------------- memory */

gpointer
api_alloc (GitCall *call, gsize n_bytes)
{
  gpointer memory = gs_arena_alloc (call->replies, n_bytes);
  if (memory == NULL)
    g_error ("out of memory: %" G_GSIZE_FORMAT " bytes", n_bytes);
  return memory;
}

gpointer
api_message (GitCall *call, const ProtobufCMessageDescriptor *descriptor)
{
  ProtobufCMessage *message = api_alloc (call, descriptor->sizeof_message);
  protobuf_c_message_init (descriptor, message);
  return message;
}

char *
api_text (GitCall *call, const char *text, gssize len)
{
  gsize n = len < 0 ? strlen (text) : (gsize) len;
  char *copy = api_alloc (call, n + 1);
  memcpy (copy, text, n);
  return copy;
}

ProtobufCBinaryData
api_bytes (GitCall *call, gconstpointer data, gsize len)
{
  ProtobufCBinaryData bytes = { len, NULL };
  if (len > 0)
    {
      bytes.data = api_alloc (call, len);
      memcpy (bytes.data, data, len);
    }
  return bytes;
}

char *
api_hex (GitCall *call, const GsOid *oid)
{
  char *hex = api_alloc (call, 2 * (gsize) oid->len + 1);
  gs_oid_hex (oid, hex);
  return hex;
}

gpointer
api_grow (GitCall *call, gpointer array, gsize n, gsize element_size)
{
  gpointer grown;
  if (n != 0 && (n < 8 || (n & (n - 1)) != 0))
    return array;
  grown = api_alloc (call, (n == 0 ? 8 : 2 * n) * element_size);
  if (n > 0)
    memcpy (grown, array, n * element_size);
  return grown;
}

/* ----------------------------------------------------------------------------------- checking values */

gboolean
api_invalid (GError **error, const char *field, const char *format, ...)
{
  va_list args;
  va_start (args, format);
  g_autofree char *why = g_strdup_vprintf (format, args);
  va_end (args);
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s", field, why) || gs_detail_field (error, field);
}

/* Which of the values of @field, counted from 0, is the one at @bytes; -1: it does not repeat, or the value is none of them. */
static gssize
index_in (const GitCall *call, const ProtobufCBinaryData *bytes, const char *field)
{
  g_auto (GStrv) names = g_strsplit (field, ".", -1);
  const ProtobufCMessage *message = call->request;
  for (char **name = names; *name != NULL && message != NULL; name++)
    {
      const ProtobufCFieldDescriptor *at = protobuf_c_message_descriptor_get_field_by_name (message->descriptor, *name);
      const guint8 *base = (const guint8 *) message;
      gconstpointer member;
      if (at == NULL)
        return -1;
      member = *(const gconstpointer *) (base + at->offset);
      if (name[1] == NULL && at->label == PROTOBUF_C_LABEL_REPEATED && at->type == PROTOBUF_C_TYPE_BYTES)
        {
          const ProtobufCBinaryData *values = member;
          gsize n = *(const gsize *) (base + at->quantifier_offset);
          return n > 0 && bytes >= values && bytes < values + n ? bytes - values : -1;
        }
      if (at->type != PROTOBUF_C_TYPE_MESSAGE || at->label == PROTOBUF_C_LABEL_REPEATED || member == NULL)
        return -1;
      message = member;
    }
  return -1;
}

gboolean
api_blame (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, const char *type, GError **error)
{
  Gitstead__V1__ErrorDetail entry = GITSTEAD__V1__ERROR_DETAIL__INIT;
  gssize index = index_in (call, bytes, field);
  g_autofree char *path = index < 0 ? g_strdup (field) : g_strdup_printf ("%s[%" G_GSSIZE_FORMAT "]", field, index);
  if (error == NULL || *error == NULL)
    return FALSE;
  gs_details_set (*error, NULL); /* what was said on the way here was about a part of it */
  entry.field = path;
  if (type != NULL)
    {
      entry.type = (char *) type;
      entry.name = (ProtobufCBinaryData){ MIN (bytes->len, API_NAME_MAX), bytes->data };
    }
  return gs_detail_add (error, &entry);
}

gboolean
api_take_text (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, char **ret_text, GError **error)
{
  if (bytes->len == 0)
    return api_invalid (error, field, "must not be empty") || api_blame (call, bytes, field, NULL, error);
  if (bytes->len > API_NAME_MAX)
    return api_invalid (error, field, "%" G_GSIZE_FORMAT " bytes, at most %d are taken", bytes->len, API_NAME_MAX)
           || api_blame (call, bytes, field, NULL, error);
  if (memchr (bytes->data, 0, bytes->len) != NULL)
    return api_invalid (error, field, "contains a NUL byte") || api_blame (call, bytes, field, NULL, error);
  *ret_text = api_text (call, (const char *) bytes->data, (gssize) bytes->len);
  return TRUE;
}

gboolean
api_take_path (GitCall *call, const ProtobufCBinaryData *bytes, const char *field, gboolean may_be_empty,
               char **ret_path, GError **error)
{
  char *path;
  gsize len;
  if (bytes->len == 0 && may_be_empty)
    {
      *ret_path = api_text (call, "", 0);
      return TRUE;
    }
  if (!api_take_text (call, bytes, field, &path, error))
    return FALSE;
  len = strlen (path);
  if (len > 1 && path[len - 1] == '/')
    path[--len] = '\0';
  for (const char *at = path, *slash; at != NULL; at = slash != NULL ? slash + 1 : NULL)
    {
      slash = strchr (at, '/');
      gsize part = slash != NULL ? (gsize) (slash - at) : strlen (at);
      if (part == 0 || (part == 1 && at[0] == '.') || (part == 2 && at[0] == '.' && at[1] == '.'))
        return api_invalid (error, field, "a path in a tree is relative and has no empty, . or .. part")
               || api_blame (call, bytes, field, "path", error);
    }
  *ret_path = path;
  return TRUE;
}

gboolean
api_take_oid (GitCall *call, const char *hex, const char *field, GsOid *ret_oid, GError **error)
{
  GsOid oid;
  if (!gs_oid_parse (hex, strlen (hex), &oid))
    return api_invalid (error, field, "\"%.80s\" is not an object id (%d hex digits)", hex,
                        2 * (int) call->repo->format);
  if (oid.len != (guint8) call->repo->format)
    return api_invalid (error, field, "object ids of this repository have %d hex digits, not %d",
                        2 * (int) call->repo->format, 2 * oid.len);
  *ret_oid = oid;
  return TRUE;
}

gboolean
api_take_enum (const ProtobufCEnumDescriptor *descriptor, int value, const char *field, GError **error)
{
  return protobuf_c_enum_descriptor_get_value (descriptor, value) != NULL
         || api_invalid (error, field, "%d is no %s", value, descriptor->short_name);
}

gboolean
api_take_limit (guint64 value, guint64 fallback, guint64 most, const char *field, guint64 *ret_limit, GError **error)
{
  if (value > most)
    return api_invalid (error, field, "%" G_GUINT64_FORMAT " is more than the most, %" G_GUINT64_FORMAT, value, most);
  *ret_limit = value == 0 ? fallback : value;
  return TRUE;
}

gboolean
api_take_count (gsize n, gsize most, const char *field, GError **error)
{
  return (n >= 1 && n <= most)
         || api_invalid (error, field, "%" G_GSIZE_FORMAT " given, 1 to %" G_GSIZE_FORMAT " are taken", n, most);
}

/* ------------------------------------------------------------------------------------------ paging */

static GsPageOf
page_of (const GitCall *call)
{
  return (GsPageOf){ call->method, call->repo->id, call->request };
}

gboolean
api_page_begin (GitCall *call, const Gitstead__V1__Page *page, ApiPage *ret_page, GError **error)
{
  const GsPageOf of = page_of (call);
  *ret_page = (ApiPage){ .limit = 0 };
  return gs_page_begin (&of, page, &ret_page->limit, &ret_page->state, &ret_page->state_len, error);
}

gboolean
api_page_most (ApiPage *page, const Gitstead__V1__Page *asked, gsize most, GError **error)
{
  if (asked != NULL && asked->limit > most)
    return api_invalid (error, "page.limit", "%u is more than the most of such a request, %" G_GSIZE_FORMAT, asked->limit, most);
  page->limit = MIN (page->limit, most);
  return TRUE;
}

gboolean
api_page_room (ApiPage *page, gsize bytes)
{
  if (page->n > 0 && (page->n >= page->limit || page->bytes + bytes > API_PAGE_BYTES))
    return FALSE;
  page->n++;
  page->bytes += bytes;
  return TRUE;
}

ProtobufCBinaryData
api_page_token (GitCall *call, gconstpointer state, gsize len)
{
  const GsPageOf of = page_of (call);
  ProtobufCBinaryData token = { gs_page_token_size (len), api_alloc (call, gs_page_token_size (len)) };
  gs_page_token_write (&of, state, len, token.data);
  return token;
}

/* ------------------------------------------------------------------------------------------ streams */

gboolean
api_send (GitCall *call, const void *data, gsize len, GError **error)
{
  g_autoptr (GBytes) bytes = g_bytes_new (data, len);
  return call->stream->send_all (call->stream, bytes, error);
}
