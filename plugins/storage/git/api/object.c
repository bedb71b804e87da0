/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ObjectService: what revisions reach taken together, and every object that is there. The latter reads the indexes of the
 * packs, which are sorted by id, all at once: memory does not grow with the objects, and a page begins where the last one ended.
 */
#include "api.h"
#include "disk.h"
#include "pool.h"

#include "gitstead/v1/object.pb-c.h"

#include <fcntl.h>
#include <unistd.h>

#define TIPS_MAX 10000
#define INDEX_HEADER 8
#define FANOUT 256
#define INDEX_TURNS 10 /* packs may be replaced while we open them */
#define CHECK_EVERY 256

/* --------------------------------------------------------------------------------------------- size */

static gboolean
add_tips (GitCall *call, GString *tips, const ProtobufCBinaryData *revisions, gsize n, const char *field, const char *sign,
          GError **error)
{
  for (gsize i = 0; i < n; i++)
    {
      GsObject object;
      char hex[GS_OID_HEX_MAX + 1];
      if (!gs_call_check (call->call, "look for revisions", error)
          || !api_take_object (call, &revisions[i], field, &object, error))
        return FALSE;
      gs_oid_hex (&object.oid, hex);
      g_string_append_printf (tips, "%s%s\n", sign, hex);
    }
  return TRUE;
}

/* "<type> <bytes> <bytes on disk>" */
static gboolean
add_size (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  Gitstead__V1__ObjectSizeReply *reply = fields->user;
  struct
  {
    const char *name;
    uint64_t *count;
  } types[] = { { "commit ", &reply->commits }, { "tree ", &reply->trees }, { "blob ", &reply->blobs }, { "tag ", &reply->tags } };
  for (gsize i = 0; i < G_N_ELEMENTS (types); i++)
    if (g_str_has_prefix (line, types[i].name))
      {
        char *end = NULL;
        reply->bytes += g_ascii_strtoull (line + strlen (types[i].name), &end, 10);
        reply->disk_bytes += g_ascii_strtoull (end, NULL, 10);
        ++*types[i].count;
        return TRUE;
      }
  return gs_fail (error, GS_ERROR_DATA_LOSS, "an object cannot be read: %.200s", line);
}

static gboolean
take_disk (ApiFields *fields, const char *line, gsize len, gboolean *ret_enough, GError **error)
{
  ((Gitstead__V1__ObjectSizeReply *) fields->user)->disk_bytes = g_ascii_strtoull (line, NULL, 10);
  return TRUE;
}

static gboolean
measure (GitCall *call, const Gitstead__V1__ObjectSizeRequest *request, GBytes *tips, Gitstead__V1__ObjectSizeReply *reply,
         GError **error)
{
  /* What comes behind --not is excluded, so the tips come before it. */
  const char *argv[] = { "rev-list", "--objects", "--use-bitmap-index", request->disk_only ? "--disk-usage" : "--no-object-names",
                         "--stdin", request->exclude_refs ? "--not" : NULL, "--all", NULL };
  static const char *const sizes[] = { "cat-file", "--batch-check=%(objecttype) %(objectsize) %(objectsize:disk)", "--buffer", NULL };
  ApiFields fields = { .separator = '\n', .max = 4096, .visit = request->disk_only ? take_disk : add_size, .user = reply };
  return request->disk_only ? api_run_fields (call, argv, tips, NULL, &fields, error)
                            : api_run_pair (call, argv, tips, sizes, &fields, error);
}

gboolean
api_object_size (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__ObjectSizeRequest *request = (const void *) message;
  GString *text = g_string_new (NULL);
  g_autoptr (GBytes) tips = NULL;
  gboolean done = api_take_count (request->n_revisions, TIPS_MAX, "revisions", error)
                  && (request->n_excluded <= TIPS_MAX
                      || api_invalid (error, "excluded", "%" G_GSIZE_FORMAT " given, up to %d are taken", request->n_excluded,
                                      TIPS_MAX))
                  && add_tips (call, text, request->revisions, request->n_revisions, "revisions", "", error)
                  && add_tips (call, text, request->excluded, request->n_excluded, "excluded", "^", error);
  tips = g_string_free_to_bytes (text);
  return done && measure (call, request, tips, (void *) answer, error);
}

/* ------------------------------------------------------------------------------------- one pack's ids */

/* A sorted list of ids that is read from one place on. */
typedef struct
{
  GMappedFile *file;
  const guint8 *ids;
  guint32 at, n;
} Index;

static void
index_clear (gpointer data)
{
  g_mapped_file_unref (((Index *) data)->file);
}

static guint32
read_u32 (const guint8 *at)
{
  return (guint32) at[0] << 24 | (guint32) at[1] << 16 | (guint32) at[2] << 8 | at[3];
}

/* FALSE for what is no index of version 2, which is all that git has written for many years. */
static gboolean
index_parse (const guint8 *data, gsize len, gsize raw, Index *ret_index)
{
  static const guint8 magic[INDEX_HEADER] = { 0xff, 't', 'O', 'c', 0, 0, 0, 2 };
  const gsize head = INDEX_HEADER + FANOUT * 4;
  guint32 last = 0;
  if (len < head + 2 * raw || memcmp (data, magic, sizeof magic) != 0)
    return FALSE;
  for (gsize i = 0; i < FANOUT; i++)
    {
      guint32 n = read_u32 (data + INDEX_HEADER + i * 4);
      if (n < last)
        return FALSE;
      last = n;
    }
  if ((len - head - 2 * raw) / (raw + 8) < last)
    return FALSE;
  ret_index->ids = data + head;
  ret_index->n = last;
  return TRUE;
}

/* TRUE without *@ret_there: it has gone. */
static gboolean
index_open (const char *path, gsize raw, GArray *indexes, gboolean *ret_there, GError **error)
{
  g_autofree char *name = g_path_get_basename (path); /* where a replica lies is nobody's business */
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  g_autoptr (GError) why = NULL;
  Index index = { NULL };
  *ret_there = fd >= 0;
  if (fd < 0)
    return errno == ENOENT || fsu_fail (error, errno, "open %s", name);
  index.file = g_mapped_file_new_from_fd (fd, FALSE, &why);
  close (fd);
  if (index.file == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "read %s: %s", name, why->message);
  if (!index_parse ((const guint8 *) g_mapped_file_get_contents (index.file), g_mapped_file_get_length (index.file), raw, &index))
    {
      g_mapped_file_unref (index.file);
      return gs_fail (error, GS_ERROR_DATA_LOSS, "%s is damaged, or no pack index of version 2", name);
    }
  g_array_append_val (indexes, index);
  return TRUE;
}

/* *@ret_all FALSE: packs went while we opened them, so what replaces them may lack. */
static gboolean
open_folder (const char *objects, gsize raw, GArray *indexes, gboolean *ret_all, GError **error)
{
  g_autofree char *dir = g_strconcat (objects, "/pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
      gboolean there;
      if (!g_str_has_prefix (names->pdata[i], "pack-") || !g_str_has_suffix (names->pdata[i], ".idx"))
        continue;
      if (!index_open (path, raw, indexes, &there, error))
        return FALSE;
      *ret_all = *ret_all && there;
    }
  return TRUE;
}

static void
index_skip (Index *index, gsize raw, const guint8 *after)
{
  guint32 low = 0, high = index->n;
  while (low < high)
    {
      guint32 middle = low + (high - low) / 2;
      if (memcmp (index->ids + (gsize) middle * raw, after, raw) <= 0)
        low = middle + 1;
      else
        high = middle;
    }
  index->at = low;
}

/* --------------------------------------------------------------------------------------- all of them */

typedef struct
{
  GitCall *call;
  const Gitstead__V1__ObjectListRequest *request;
  Gitstead__V1__ObjectListReply *reply;
  ApiPage page;
  gsize raw;
  GArray *indexes;
  const char *folders[2]; /* objects folders; the second one may be NULL */
  GByteArray *loose;      /* sorted ids of one fan, */
  guint loose_at;         /* from here on, */
  int fan;                /* this one; FANOUT: there is no more */
} Listing;

static gboolean
open_indexes (Listing *list, GError **error)
{
  for (guint turn = 0; turn < INDEX_TURNS; turn++)
    {
      gboolean all = TRUE;
      g_array_set_size (list->indexes, 0);
      for (gsize i = 0; i < G_N_ELEMENTS (list->folders) && list->folders[i] != NULL; i++)
        if (!open_folder (list->folders[i], list->raw, list->indexes, &all, error))
          return FALSE;
      if (all)
        return TRUE;
    }
  return gs_fail (error, GS_ERROR_BUSY, "the packs of repository %" G_GUINT64_FORMAT " are replaced all the time",
                  list->call->repo->id);
}

static int
compare_raw (gconstpointer left, gconstpointer right, gpointer raw)
{
  return memcmp (left, right, GPOINTER_TO_SIZE (raw));
}

static gboolean
read_fan (Listing *list, const char *objects, GError **error)
{
  g_autofree char *dir = g_strdup_printf ("%s/%02x", objects, (guint) list->fan);
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    {
      guint8 raw[GS_OID_RAW_MAX] = { (guint8) list->fan };
      if (strlen (names->pdata[i]) == 2 * (list->raw - 1) && gs_unhex (names->pdata[i], list->raw - 1, raw + 1))
        g_byte_array_append (list->loose, raw, (guint) list->raw);
    }
  return TRUE;
}

/* The next loose object's id; NULL at the end. */
static gboolean
peek_loose (Listing *list, const guint8 **ret_id, GError **error)
{
  while (list->fan < FANOUT && list->loose_at * list->raw >= list->loose->len)
    {
      g_byte_array_set_size (list->loose, 0);
      list->loose_at = 0;
      if (++list->fan == FANOUT)
        break;
      for (gsize i = 0; i < G_N_ELEMENTS (list->folders) && list->folders[i] != NULL; i++)
        if (!read_fan (list, list->folders[i], error))
          return FALSE;
      if (list->loose->len > 0)
        g_qsort_with_data (list->loose->data, (gint) (list->loose->len / list->raw), list->raw, compare_raw,
                           GSIZE_TO_POINTER (list->raw));
    }
  *ret_id = list->fan < FANOUT ? list->loose->data + list->loose_at * list->raw : NULL;
  return TRUE;
}

/* The smallest id that is left, taken from every list that has it. *@ret_oid has len 0 at the end. */
static gboolean
next_id (Listing *list, GsOid *ret_oid, GError **error)
{
  const guint8 *least = NULL, *loose;
  if (!peek_loose (list, &loose, error))
    return FALSE;
  least = loose;
  for (guint i = 0; i < list->indexes->len; i++)
    {
      const Index *index = &g_array_index (list->indexes, Index, i);
      const guint8 *id = index->ids + (gsize) index->at * list->raw;
      if (index->at < index->n && (least == NULL || memcmp (id, least, list->raw) < 0))
        least = id;
    }
  *ret_oid = (GsOid){ .len = least != NULL ? (guint8) list->raw : 0 };
  if (least == NULL)
    return TRUE;
  memcpy (ret_oid->raw, least, list->raw);
  for (guint i = 0; i < list->indexes->len; i++)
    {
      Index *index = &g_array_index (list->indexes, Index, i);
      while (index->at < index->n && memcmp (index->ids + (gsize) index->at * list->raw, ret_oid->raw, list->raw) <= 0)
        index->at++;
    }
  while (loose != NULL && memcmp (loose, ret_oid->raw, list->raw) <= 0)
    {
      list->loose_at++;
      if (!peek_loose (list, &loose, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
is_wanted (const Listing *list, GsObjectType type, guint64 size)
{
  const Gitstead__V1__ObjectListRequest *request = list->request;
  gboolean wanted = request->n_types == 0;
  for (gsize i = 0; i < request->n_types; i++)
    wanted = wanted || (int) request->types[i] == (int) type;
  return wanted && (request->size_limit == 0 || size <= request->size_limit);
}

/* *@ret_full: this one was not taken any more. */
static gboolean
add_object (Listing *list, const GsOid *oid, gboolean *ret_full, GError **error)
{
  ObjectHandle *odb = api_odb (list->call, error);
  Gitstead__V1__Object *object;
  g_autoptr (GError) why = NULL;
  GsObjectType type;
  guint64 size;
  if (odb == NULL)
    return FALSE;
  if (!odb_header (list->call->repo, odb, oid, &type, &size, &why))
    {
      /* Pruned since, or the pool's, which was not asked for and whose index is read no more. */
      if (why->code == GS_ERROR_NOT_FOUND)
        return TRUE;
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  if (!is_wanted (list, type, size))
    return TRUE;
  *ret_full = !api_page_room (&list->page, 2 * list->raw + 24);
  if (*ret_full)
    return TRUE;
  object = api_message (list->call, &gitstead__v1__object__descriptor);
  object->oid = api_hex (list->call, oid);
  object->type = (Gitstead__V1__ObjectType) type;
  object->size = size;
  API_APPEND (list->call, list->reply, objects, object);
  return TRUE;
}

static gboolean
list_objects (Listing *list, GError **error)
{
  guint8 last[GS_OID_RAW_MAX];
  gboolean full = FALSE;
  for (guint64 n = 0; !full; n++)
    {
      GsOid oid;
      if ((n % CHECK_EVERY == 0 && !gs_call_check (list->call->call, "list objects", error)) || !next_id (list, &oid, error))
        return FALSE;
      if (oid.len == 0)
        return TRUE;
      gsize before = list->page.n;
      if (!add_object (list, &oid, &full, error))
        return FALSE;
      if (list->page.n > before)
        memcpy (last, oid.raw, list->raw);
    }
  list->reply->next_page_token = api_page_token (list->call, last, list->raw);
  return TRUE;
}

static gboolean
list_begin (Listing *list, GError **error)
{
  const Gitstead__V1__ObjectListRequest *request = list->request;
  if (request->n_types > 4)
    return api_invalid (error, "types", "%" G_GSIZE_FORMAT " given, there are 4", request->n_types);
  for (gsize i = 0; i < request->n_types; i++)
    if (request->types[i] == GITSTEAD__V1__OBJECT_TYPE__OBJECT_TYPE_UNSPECIFIED
        || !api_take_enum (&gitstead__v1__object_type__descriptor, (int) request->types[i], "types", NULL))
      return api_invalid (error, "types", "%d is no type of objects", (int) request->types[i]);
  if (!api_page_begin (list->call, request->page, &list->page, error))
    return FALSE;
  if (list->page.state != NULL && list->page.state_len != list->raw)
    return gs_page_bad (error);
  return open_indexes (list, error);
}

/* Behind the last page's last one. */
static gboolean
list_resume (Listing *list, GError **error)
{
  const guint8 *after = list->page.state, *id;
  list->fan = after != NULL ? (int) after[0] - 1 : -1;
  if (after == NULL)
    return TRUE;
  for (guint i = 0; i < list->indexes->len; i++)
    index_skip (&g_array_index (list->indexes, Index, i), list->raw, after);
  do
    if (!peek_loose (list, &id, error))
      return FALSE;
  while (id != NULL && memcmp (id, after, list->raw) <= 0 && ++list->loose_at);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ alike */

gboolean
api_ids_alike (GitCall *call, const char *prefix, guint most, GArray *ids, GError **error)
{
  g_autofree char *borrowed = pool_objects (call->repo);
  g_autofree char *lower = g_ascii_strdown (prefix, -1);
  g_autoptr (GArray) indexes = g_array_new (FALSE, TRUE, sizeof (Index));
  g_autoptr (GByteArray) loose = g_byte_array_new ();
  const gsize raw = (gsize) call->repo->format, n = strlen (lower);
  Listing list = { .call = call, .raw = raw, .indexes = indexes, .folders = { call->repo->objects, borrowed }, .loose = loose };
  guint8 least[GS_OID_RAW_MAX] = { 0 };
  g_array_set_clear_func (indexes, index_clear);
  for (gsize i = 0; i < n && i < 2 * raw; i++)
    least[i / 2] |= (guint8) (g_ascii_xdigit_value (lower[i]) << (i % 2 == 0 ? 4 : 0));
  if (!open_indexes (&list, error))
    return FALSE;
  for (guint i = 0; i < indexes->len; i++)
    {
      Index *index = &g_array_index (indexes, Index, i);
      index_skip (index, raw, least);
      index->at -= index->at > 0 && memcmp (index->ids + (gsize) (index->at - 1) * raw, least, raw) == 0;
    }
  list.fan = (int) least[0] - 1;
  for (;;)
    {
      char hex[GS_OID_HEX_MAX + 1];
      GsOid oid;
      if (!gs_call_check (call->call, "look for objects", error) || !next_id (&list, &oid, error))
        return FALSE;
      if (oid.len == 0 || ids->len >= most)
        return TRUE;
      gs_oid_hex (&oid, hex);
      if (strncmp (hex, lower, n) == 0)
        g_array_append_val (ids, oid);
      else if (strncmp (hex, lower, n) > 0)
        return TRUE;
    }
}

/* ------------------------------------------------------------------------------------------- doors */

gboolean
api_object_list (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__ObjectListRequest *request = (const void *) message;
  g_autofree char *borrowed = request->with_pool ? pool_objects (call->repo) : NULL;
  g_autoptr (GArray) indexes = g_array_new (FALSE, TRUE, sizeof (Index));
  g_autoptr (GByteArray) loose = g_byte_array_new ();
  Listing list = { .call = call, .request = request, .reply = (void *) answer, .raw = (gsize) call->repo->format,
                   .indexes = indexes, .folders = { call->repo->objects, borrowed }, .loose = loose };
  g_array_set_clear_func (indexes, index_clear);
  return list_begin (&list, error) && list_resume (&list, error) && list_objects (&list, error);
}
