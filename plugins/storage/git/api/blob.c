/* SPDX-License-Identifier: Apache-2.0 */
/* BlobService: contents of files, and which ones commits reach. */
#include "api.h"

#include "gitstead/v1/blob.pb-c.h"

#define MANY_MAX 1000
#define TIPS_MAX 1000
#define MANY_BYTES (64u << 10)
#define LFS_MAX 1024 /* a pointer is smaller */

/* ------------------------------------------------------------------------------------------ content */

/* A piece of a blob too large for memory: git inflates it, we take what is wanted. */
typedef struct
{
  guint64 skip;
  gsize want;
  GString *taken;
} Slice;

static gboolean
take_slice (gpointer user, const char *data, gsize len, gboolean *ret_enough, GError **error)
{
  Slice *slice = user;
  gsize skipped = (gsize) MIN (slice->skip, len);
  gsize take = MIN (len - skipped, slice->want - slice->taken->len);
  slice->skip -= skipped;
  g_string_append_len (slice->taken, data + skipped, (gssize) take);
  *ret_enough = slice->taken->len >= slice->want;
  return TRUE;
}

static gboolean
read_range (GitCall *call, const GsObject *object, guint64 offset, guint64 limit, ProtobufCBinaryData *ret_data,
            GError **error)
{
  gsize want = (gsize) MIN (limit, object->object_bytes - offset);
  g_autoptr (GBytes) bytes = NULL;
  if (want == 0)
    return TRUE;
  if (object->object_bytes <= GIT_STREAM_BYTES)
    {
      if (!api_read (call, &object->oid, GS_OBJECT_BLOB, GIT_STREAM_BYTES, &bytes, error))
        return FALSE;
      *ret_data = api_bytes (call, (const char *) g_bytes_get_data (bytes, NULL) + offset, want);
      return TRUE;
    }
  const char *const argv[] = { "cat-file", "blob", api_hex (call, &object->oid), NULL };
  Slice slice = { offset, want, g_string_sized_new (want) };
  gboolean done = api_run (call, argv, NULL, NULL, take_slice, &slice, error);
  if (done && slice.taken->len < want)
    {
      done = gs_fail (error, GS_ERROR_DATA_LOSS, "it is cut short");
      api_name_loss (call, &object->oid, error);
    }
  if (done)
    *ret_data = api_bytes (call, slice.taken->str, want);
  g_string_free (slice.taken, TRUE);
  return done;
}

/* A blob, or a submodule's commit, which has no content here. */
static gboolean
take_blob (GitCall *call, const ProtobufCBinaryData *revision, const char *field, GsObject *ret_object, GError **error)
{
  if (!api_take_revision (call, revision, field, ret_object, error))
    return FALSE;
  return ret_object->type == GS_OBJECT_BLOB || ret_object->mode == 0160000
         || gs_fail (error, GS_ERROR_NOT_FOUND, "%s: it leads to a %s, not to a blob", field,
                     odb_type_name (ret_object->type));
}

static Gitstead__V1__Blob *
blob_message (GitCall *call, const GsObject *object)
{
  Gitstead__V1__Blob *blob = api_message (call, &gitstead__v1__blob__descriptor);
  blob->oid = api_hex (call, &object->oid);
  blob->size = object->object_bytes;
  blob->mode = object->mode;
  blob->type = (Gitstead__V1__ObjectType) object->type;
  return blob;
}

static gboolean
blob_get (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__BlobGetRequest *request = (const void *) message;
  Gitstead__V1__BlobGetReply *reply = (void *) answer;
  GsObject object;
  guint64 limit;
  if (!api_take_limit (request->limit, API_PAGE_BYTES, API_PAGE_BYTES, "limit", &limit, error)
      || !take_blob (call, &request->revision, "revision", &object, error))
    return FALSE;
  if (request->offset > object.object_bytes)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "offset: %" G_GUINT64_FORMAT " is past the end of a blob of %" G_GUINT64_FORMAT " bytes",
                    request->offset, object.object_bytes);
  reply->blob = blob_message (call, &object);
  return request->without_data || read_range (call, &object, request->offset, limit, &reply->blob->data, error);
}

static gboolean
blob_get_many (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__BlobGetManyRequest *request = (const void *) message;
  Gitstead__V1__BlobGetManyReply *reply = (void *) answer;
  guint64 limit;
  gsize bytes = 0;
  if (!api_take_count (request->n_revisions, MANY_MAX, "revisions", error)
      || !api_take_limit (request->limit, MANY_BYTES, API_PAGE_BYTES, "limit", &limit, error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions; i++)
    {
      Gitstead__V1__BlobGetManyEntry *entry = api_message (call, &gitstead__v1__blob_get_many_entry__descriptor);
      g_autoptr (GError) why = NULL;
      GsObject object;
      if (!gs_call_check (call->call, "get blobs", error))
        return FALSE;
      if (take_blob (call, &request->revisions[i], "revisions", &object, &why))
        {
          guint64 size = request->without_data ? 0 : MIN (limit, object.object_bytes);
          bytes += size + 100;
          if (i > 0 && bytes > API_PAGE_BYTES)
            break;
          entry->blob = blob_message (call, &object);
          if (size > 0 && !read_range (call, &object, 0, size, &entry->blob->data, error))
            return FALSE;
        }
      else if (!request->allow_missing || why->code != GS_ERROR_NOT_FOUND)
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      API_APPEND (call, reply, entries, entry);
    }
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- reachable */

/* Blobs that commits reach: how far the last page came, and what to do with each. */
typedef struct Reach Reach;
struct Reach
{
  ApiPage page;
  GString *tips;    /* what rev-list reads */
  guint8 digest[8]; /* of the tips: a token is good for these only */
  guint64 skip, seen;
  gboolean more;
  GitCall *call;
  /* FALSE with no error: the page is full. */
  gboolean (*add) (Reach *reach, const GsOid *oid, const char *path, gpointer reply, GError **error);
  gpointer reply;
};

static gboolean
add_tips (Reach *reach, const ProtobufCBinaryData *revisions, gsize n, const char *field, const char *sign,
          GError **error)
{
  for (gsize i = 0; i < n; i++)
    {
      GsObject object;
      if (!gs_call_check (reach->call->call, "look for revisions", error)
          || !api_take_object (reach->call, &revisions[i], field, &object, error))
        return FALSE;
      g_string_append_printf (reach->tips, "%s%s\n", sign, api_hex (reach->call, &object.oid));
    }
  return TRUE;
}

static gboolean
reach_begin (Reach *reach, const ProtobufCBinaryData *revisions, gsize n_revisions, const ProtobufCBinaryData *excluded,
             gsize n_excluded, const Gitstead__V1__Page *page, GError **error)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize len = sizeof digest;
  if (n_excluded > TIPS_MAX)
    return api_invalid (error, "excluded", "%" G_GSIZE_FORMAT " given, up to %d are taken", n_excluded, TIPS_MAX);
  if (!api_take_count (n_revisions, TIPS_MAX, "revisions", error) || !api_page_begin (reach->call, page, &reach->page, error)
      || !add_tips (reach, revisions, n_revisions, "revisions", "", error)
      || !add_tips (reach, excluded, n_excluded, "excluded", "^", error))
    return FALSE;
  g_checksum_update (sum, (const guchar *) reach->tips->str, (gssize) reach->tips->len);
  g_checksum_get_digest (sum, digest, &len);
  memcpy (reach->digest, digest, sizeof reach->digest);
  if (reach->page.state == NULL)
    return TRUE;
  if (reach->page.state_len != sizeof reach->digest + sizeof reach->skip)
    return gs_page_bad (error);
  if (memcmp (reach->page.state, reach->digest, sizeof reach->digest) != 0)
    return gs_fail (error, GS_ERROR_ABORTED,
                    "page.token: the revisions lead elsewhere than when the first page was read; begin again without one");
  memcpy (&reach->skip, reach->page.state + sizeof reach->digest, sizeof reach->skip);
  return TRUE;
}

/* "<oid> <path>" */
static gboolean
reach_line (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  Reach *reach = fields->user;
  const gsize hex = 2 * (gsize) reach->call->repo->format;
  g_autoptr (GError) why = NULL;
  GsOid oid;
  if (len < hex || !gs_oid_parse (line, hex, &oid))
    return gs_fail (error, GS_ERROR_INTERNAL, "git rev-list gave a line that is not understood");
  if (reach->seen++ < reach->skip)
    return TRUE;
  if (reach->add (reach, &oid, line[hex] == ' ' ? line + hex + 1 : "", reach->reply, &why))
    return TRUE;
  if (why != NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  reach->seen--;
  reach->more = *ret_enough = TRUE;
  return TRUE;
}

static gboolean
reach_run (Reach *reach, guint64 size_limit, ProtobufCBinaryData *ret_token, GError **error)
{
  g_autofree char *filter = g_strdup_printf ("--filter=blob:limit=%" G_GUINT64_FORMAT, size_limit + 1);
  const char *argv[] = { "rev-list", "--objects", "--stdin", "--filter=object:type=blob", "--filter-provided-objects",
                         size_limit != 0 ? filter : NULL, NULL };
  ApiFields fields = { .separator = '\n', .max = 1u << 20, .visit = reach_line, .user = reach };
  g_autoptr (GBytes) input = g_bytes_new (reach->tips->str, reach->tips->len);
  guint8 state[sizeof reach->digest + sizeof reach->seen];
  if (!api_run_fields (reach->call, argv, input, NULL, &fields, error))
    return FALSE;
  memcpy (state, reach->digest, sizeof reach->digest);
  memcpy (state + sizeof reach->digest, &reach->seen, sizeof reach->seen);
  if (reach->more)
    *ret_token = api_page_token (reach->call, state, sizeof state);
  return TRUE;
}

static gboolean
add_listed (Reach *reach, const GsOid *oid, const char *path, gpointer user, GError **error)
{
  Gitstead__V1__BlobListReply *reply = user;
  Gitstead__V1__BlobListEntry *entry;
  GsObjectType type;
  ObjectHandle *odb = api_odb (reach->call, error);
  if (odb == NULL || !api_page_room (&reach->page, strlen (path) + 64))
    return FALSE;
  entry = api_message (reach->call, &gitstead__v1__blob_list_entry__descriptor);
  if (!odb_header (reach->call->repo, odb, oid, &type, &entry->size, error))
    {
      api_name_loss (reach->call, oid, error);
      return FALSE;
    }
  entry->oid = api_hex (reach->call, oid);
  entry->path = api_bytes (reach->call, path, strlen (path));
  API_APPEND (reach->call, reply, blobs, entry);
  return TRUE;
}

static gboolean
blob_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__BlobListRequest *request = (const void *) message;
  Gitstead__V1__BlobListReply *reply = (void *) answer;
  Reach reach = { .call = call, .tips = g_string_new (NULL), .add = add_listed, .reply = reply };
  guint64 size_limit;
  gboolean done = api_take_limit (request->size_limit, 0, G_MAXINT64, "size_limit", &size_limit, error)
                  && reach_begin (&reach, request->revisions, request->n_revisions, request->excluded,
                                  request->n_excluded, request->page, error)
                  && reach_run (&reach, size_limit, &reply->next_page_token, error);
  g_string_free (reach.tips, TRUE);
  return done;
}

/* ---------------------------------------------------------------------------------------------- LFS */

/* "sha256:" and 64 digits. */
static gboolean
pointer_oid (GitCall *call, const char *value, Gitstead__V1__LfsPointer *pointer)
{
  guint8 raw[32];
  if (!g_str_has_prefix (value, "sha256:") || strlen (value) != strlen ("sha256:") + 64
      || !gs_unhex (value + strlen ("sha256:"), sizeof raw, raw))
    return FALSE;
  pointer->file_sha256 = api_text (call, value + strlen ("sha256:"), 64);
  return TRUE;
}

/* As git-lfs reads one: the keys in this order, empty lines and "ext-…" lines between them, and nothing else. */
static gboolean
parse_pointer (GitCall *call, const char *data, gsize len, Gitstead__V1__LfsPointer *pointer)
{
  static const char *const keys[] = { "version ", "oid ", "size " };
  static const char *const versions[] = { "https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", NULL };
  g_autofree char *text = g_strndup (data, len);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  gsize key = 0;
  if (strlen (text) != len)
    return FALSE;
  for (char **line = lines; *line != NULL; line++)
    {
      const char *value;
      g_strchomp (*line);
      if (**line == '\0' || (key > 0 && g_str_has_prefix (*line, "ext-")))
        continue;
      if (key == G_N_ELEMENTS (keys) || !g_str_has_prefix (*line, keys[key]))
        return FALSE;
      value = *line + strlen (keys[key]);
      if ((key == 0 && !g_strv_contains (versions, value)) || (key == 1 && !pointer_oid (call, value, pointer))
          || (key == 2 && !g_ascii_string_to_unsigned (value, 10, 0, G_MAXINT64, &pointer->file_size, NULL)))
        return FALSE;
      key++;
    }
  return key == G_N_ELEMENTS (keys);
}

/* *@ret_pointer stays NULL when the blob is none. */
static gboolean
read_pointer (GitCall *call, const GsOid *oid, const char *path, Gitstead__V1__LfsPointer **ret_pointer, GError **error)
{
  Gitstead__V1__LfsPointer *pointer;
  g_autoptr (GBytes) bytes = NULL;
  if (!api_read (call, oid, GS_OBJECT_BLOB, LFS_MAX, &bytes, error))
    return FALSE;
  gsize len = g_bytes_get_size (bytes);
  /* Most blobs are none: nothing is kept for those. */
  if (len < 100 || memcmp (g_bytes_get_data (bytes, NULL), "version ", 8) != 0)
    return TRUE;
  pointer = api_message (call, &gitstead__v1__lfs_pointer__descriptor);
  if (!parse_pointer (call, g_bytes_get_data (bytes, NULL), len, pointer))
    return TRUE;
  pointer->oid = api_hex (call, oid);
  pointer->path = api_bytes (call, path, strlen (path));
  pointer->data = api_bytes (call, g_bytes_get_data (bytes, NULL), len);
  *ret_pointer = pointer;
  return TRUE;
}

static gboolean
add_pointer (Reach *reach, const GsOid *oid, const char *path, gpointer user, GError **error)
{
  Gitstead__V1__BlobLfsPointersReply *reply = user;
  Gitstead__V1__LfsPointer *pointer = NULL;
  if (!read_pointer (reach->call, oid, path, &pointer, error))
    return FALSE;
  if (pointer == NULL)
    return TRUE;
  if (!api_page_room (&reach->page, strlen (path) + pointer->data.len + 160))
    return FALSE;
  API_APPEND (reach->call, reply, pointers, pointer);
  return TRUE;
}

static gboolean
blob_lfs_pointers (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__BlobLfsPointersRequest *request = (const void *) message;
  Gitstead__V1__BlobLfsPointersReply *reply = (void *) answer;
  Reach reach = { .call = call, .tips = g_string_new (NULL), .add = add_pointer, .reply = reply };
  gboolean done = reach_begin (&reach, request->revisions, request->n_revisions, request->excluded, request->n_excluded,
                               request->page, error)
                  && reach_run (&reach, LFS_MAX, &reply->next_page_token, error);
  g_string_free (reach.tips, TRUE);
  return done;
}

static gboolean
blob_find_lfs_pointers (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__BlobFindLfsPointersRequest *request = (const void *) message;
  Gitstead__V1__BlobFindLfsPointersReply *reply = (void *) answer;
  gsize bytes = 0;
  if (!api_take_count (request->n_revisions, MANY_MAX, "revisions", error))
    return FALSE;
  for (gsize i = 0; i < request->n_revisions; i++)
    {
      Gitstead__V1__LfsPointer *pointer = NULL;
      g_autoptr (GError) why = NULL;
      GsObject object;
      if (!gs_call_check (call->call, "look for LFS pointers", error))
        return FALSE;
      if (!take_blob (call, &request->revisions[i], "revisions", &object, &why))
        {
          if (why->code == GS_ERROR_NOT_FOUND)
            continue;
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      if (object.type != GS_OBJECT_BLOB || object.object_bytes > LFS_MAX)
        continue;
      if (!read_pointer (call, &object.oid, "", &pointer, error))
        return FALSE;
      if (pointer == NULL)
        continue;
      bytes += pointer->data.len + 160;
      if (bytes > API_PAGE_BYTES)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "revisions: too many pointers for one reply: ask for fewer at once");
      API_APPEND (call, reply, pointers, pointer);
    }
  return TRUE;
}

const ApiRow api_blob_rows[] = {
  API_ROW (310, blob_get, blob_get_request, blob_get_reply),
  API_ROW (311, blob_get_many, blob_get_many_request, blob_get_many_reply),
  API_ROW (312, blob_list, blob_list_request, blob_list_reply),
  API_ROW (313, blob_lfs_pointers, blob_lfs_pointers_request, blob_lfs_pointers_reply),
  API_ROW (314, blob_find_lfs_pointers, blob_find_lfs_pointers_request, blob_find_lfs_pointers_reply),
  { 0 },
};
