/* SPDX-License-Identifier: Apache-2.0 */
/* A small pack taken in without a process: see ingest.h. */
#include "ingest.h"

#include "draft.h"
#include "fsutil.h"
#include "pathcheck.h"
#include "treeedit.h"

#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define PACK_MAX (16u << 20)
#define INFLATED_MAX (64u << 20)
#define OBJECTS_MAX 20000u
#define HEADER 12
#define HASH 20

/* An object of the pack. */
typedef struct
{
  GsOid oid;
  GsObjectType type;
  guint32 offset, crc;
  guint8 *data;
  gsize len;
} Object;

typedef struct
{
  Repo *repo;
  GsCall *call;
  ObjectHandle *handle;
  const guint8 *pack;
  gsize len;         /* without the trailer */
  GArray *objects;   /* Object */
  GHashTable *by_id; /* &oid -> Object, once all are read */
} Ingest;

/* ------------------------------------------------------------------------------------ the pack */

static guint32
read_32 (const guint8 *at)
{
  return (guint32) at[0] << 24 | (guint32) at[1] << 16 | (guint32) at[2] << 8 | at[3];
}

static void
append_32 (GByteArray *bytes, guint32 value)
{
  const guint8 data[] = { (guint8) (value >> 24), (guint8) (value >> 16), (guint8) (value >> 8), (guint8) value };
  g_byte_array_append (bytes, data, sizeof data);
}

/* Of a pack or an index, against damage. The ids of objects are object_id's, which finds collisions. */
static void
hash_of (const guint8 *data, gsize len, guint8 ret_hash[HASH])
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  gsize hash_len = HASH;
  g_checksum_update (sum, data, (gssize) len);
  g_checksum_get_digest (sum, ret_hash, &hash_len);
}

/* Type and size of the entry at *@at, which moves behind them. */
static gboolean
read_header (const Ingest *in, gsize *at, GsObjectType *ret_type, gsize *ret_size)
{
  guint shift = 4;
  guint8 byte;
  if (*at >= in->len)
    return FALSE;
  byte = in->pack[(*at)++];
  *ret_type = (GsObjectType) (byte >> 4 & 7);
  *ret_size = byte & 15;
  while (byte & 0x80)
    {
      if (*at >= in->len || shift > 25)
        return FALSE;
      byte = in->pack[(*at)++];
      *ret_size |= (gsize) (byte & 0x7f) << shift;
      shift += 7;
    }
  return *ret_type >= GS_OBJECT_COMMIT && *ret_type <= GS_OBJECT_TAG;
}

/* Just @size bytes, no more and no less. */
static guint8 *
inflate_entry (const Ingest *in, gsize *at, gsize size)
{
  g_autofree guint8 *data = g_malloc (size + 1);
  z_stream zlib = { .next_in = (Bytef *) in->pack + *at,
                    .avail_in = (uInt) (in->len - *at),
                    .next_out = data,
                    .avail_out = (uInt) size + 1 };
  if (inflateInit (&zlib) != Z_OK)
    return NULL;
  int code = inflate (&zlib, Z_FINISH);
  *at = in->len - zlib.avail_in;
  inflateEnd (&zlib);
  return code == Z_STREAM_END && zlib.avail_out == 1 ? g_steal_pointer (&data) : NULL;
}

static gboolean
read_objects (Ingest *in)
{
  guint32 count = read_32 (in->pack + 8);
  gsize at = HEADER, inflated = 0;
  guint8 hash[HASH];
  if (memcmp (in->pack, "PACK\0\0\0\2", 8) != 0 || count == 0 || count > OBJECTS_MAX)
    return FALSE;
  hash_of (in->pack, in->len, hash);
  if (memcmp (hash, in->pack + in->len, HASH) != 0)
    return FALSE;
  for (guint32 i = 0; i < count; i++)
    {
      Object object = { .offset = (guint32) at };
      if (!read_header (in, &at, &object.type, &object.len) || (inflated += object.len) > INFLATED_MAX
          || (object.data = inflate_entry (in, &at, object.len)) == NULL)
        return FALSE;
      object.crc = (guint32) crc32 (0, in->pack + object.offset, (uInt) (at - object.offset));
      g_array_append_val (in->objects, object);
      if (!object_id (object.type, object.data, object.len, &g_array_index (in->objects, Object, i).oid, NULL))
        return FALSE;
    }
  for (guint32 i = 0; i < count; i++)
    {
      Object *object = &g_array_index (in->objects, Object, i);
      if (!g_hash_table_insert (in->by_id, &object->oid, object))
        return FALSE;
    }
  return at == in->len;
}

/* ----------------------------------------------------------------------------------- the objects */

/* In the pack or in the repository, and of that type. */
static gboolean
is_there (const Ingest *in, const GsOid *oid, GsObjectType type)
{
  const Object *object = g_hash_table_lookup (in->by_id, oid);
  GsObjectType found;
  guint64 size;
  if (object != NULL)
    return object->type == type;
  return odb_header (in->repo, in->handle, oid, &found, &size, NULL) && found == type;
}

/* A file or folder that came with another pack was judged then. A link is judged by its name alone. */
static gboolean
judged_before (const Ingest *in, guint32 mode, const GsOid *oid)
{
  return mode != 0120000 && odb_mode_type (mode) != GS_OBJECT_COMMIT && !g_hash_table_contains (in->by_id, oid);
}

static gboolean
tree_good (const Ingest *in, const Object *object)
{
  gsize left = object->len;
  const char *at = (const char *) object->data, *name, *before = NULL;
  guint32 mode, mode_before = 0;
  GsOid oid;
  g_autoptr (GHashTable) names = g_hash_table_new (g_str_hash, g_str_equal);
  for (const char *row = at; odb_tree_next (&at, &left, &name, &mode, &oid); row = at)
    {
      gsize len = strlen (name);
      GsObjectType type = odb_mode_type (mode);
      /* Zero-padded modes, the old 100664, and what checks of contents hang on are for git to judge. */
      if (!tree_mode_known (mode) || mode == 0100664 || *row == '0' || strchr (name, '/') != NULL
          || path_part_fault (name, len) != NULL || (path_part_is_judged (name, len) && !judged_before (in, mode, &oid))
          || (before != NULL && tree_order (before, mode_before, name, mode) >= 0) || gs_oid_is_zero (&oid)
          || !g_hash_table_add (names, (gpointer) name) || (type != GS_OBJECT_COMMIT && !is_there (in, &oid, type)))
        return FALSE;
      before = name;
      mode_before = mode;
    }
  return left == 0;
}

/* "name <mail> seconds zone\n" at *@at, in its plainest form; *@at moves behind it. */
static gboolean
ident_good (const char **at, const char *end, const char *field)
{
  gsize field_len = strlen (field);
  const char *nl = *at < end ? memchr (*at, '\n', (gsize) (end - *at)) : NULL, *p, *open, *close;
  if (nl == NULL || (gsize) (nl - *at) < field_len + 1 || memcmp (*at, field, field_len) != 0
      || (*at)[field_len] != ' ')
    return FALSE;
  p = *at + field_len + 1;
  *at = nl + 1;
  open = memchr (p, '<', (gsize) (nl - p));
  close = memchr (p, '>', (gsize) (nl - p));
  if (open == NULL || close == NULL || open < p + 2 || open[-1] != ' ' || close < open
      || memchr (open + 1, '<', (gsize) (nl - open - 1)) != NULL || nl - close < 9 || close[1] != ' ')
    return FALSE;
  p = close + 2;
  if (*p == '0' && p[1] != ' ')
    return FALSE;
  for (close = p; g_ascii_isdigit (*p); p++)
    ;
  return p > close && p - close <= 18 && *p == ' ' && nl - p == 6 && (p[1] == '+' || p[1] == '-')
         && g_ascii_isdigit (p[2]) && g_ascii_isdigit (p[3]) && g_ascii_isdigit (p[4]) && g_ascii_isdigit (p[5]);
}

static gboolean
link_good (const Ingest *in, const char **at, const char *end, const char *field, GsObjectType type)
{
  GsOid oid;
  if (!odb_parse_link (*at, (gsize) (end - *at), field, &oid) || !is_there (in, &oid, type))
    return FALSE;
  *at += strlen (field) + 42;
  return TRUE;
}

static gboolean
commit_good (const Ingest *in, const Object *object)
{
  const char *at = (const char *) object->data, *end = at + object->len;
  GsOid parent;
  if (memchr (at, '\0', object->len) != NULL || !link_good (in, &at, end, "tree", GS_OBJECT_TREE))
    return FALSE;
  while (odb_parse_link (at, (gsize) (end - at), "parent", &parent))
    if (!link_good (in, &at, end, "parent", GS_OBJECT_COMMIT))
      return FALSE;
  if (!ident_good (&at, end, "author") || !ident_good (&at, end, "committer"))
    return FALSE;
  /* More header lines, then an empty one. */
  return at < end && (*at == '\n' || g_strstr_len (at, end - at, "\n\n") != NULL);
}

static gboolean
tag_good (const Ingest *in, const Object *object)
{
  const char *at = (const char *) object->data, *end = at + object->len, *nl;
  g_autofree char *name = NULL;
  if (memchr (at, '\0', object->len) != NULL)
    return FALSE;
  for (GsObjectType type = GS_OBJECT_COMMIT; type <= GS_OBJECT_TAG; type++)
    {
      g_autofree char *line = g_strdup_printf ("type %s\n", odb_type_name (type));
      const char *p = at;
      if (end - at < 48 + (gssize) strlen (line) || memcmp (at + 48, line, strlen (line)) != 0)
        continue;
      if (!link_good (in, &p, end, "object", type))
        return FALSE;
      p += strlen (line);
      nl = memchr (p, '\n', (gsize) (end - p));
      if (nl == NULL || nl - p < 5 || memcmp (p, "tag ", 4) != 0)
        return FALSE;
      g_autofree char *tag = g_strndup (p + 4, (gsize) (nl - p) - 4);
      name = g_strconcat ("refs/tags/", tag, NULL);
      p = nl + 1;
      return ref_name_valid (name, NULL) && ident_good (&p, end, "tagger") && p < end && *p == '\n';
    }
  return FALSE;
}

static gboolean
all_good (const Ingest *in)
{
  for (guint i = 0; i < in->objects->len; i++)
    {
      const Object *object = &g_array_index (in->objects, Object, i);
      gboolean good = TRUE;
      if (i % 64 == 0 && !gs_call_check (in->call, "checking a pack", NULL))
        return FALSE;
      switch (object->type)
        {
        case GS_OBJECT_COMMIT:
          good = commit_good (in, object);
          break;
        case GS_OBJECT_TREE:
          good = tree_good (in, object);
          break;
        case GS_OBJECT_TAG:
          good = tag_good (in, object);
          break;
        default:
          break;
        }
      if (!good)
        return FALSE;
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------- the files */

static int
by_oid (gconstpointer a, gconstpointer b)
{
  return memcmp (((const Object *) a)->oid.raw, ((const Object *) b)->oid.raw, HASH);
}

/* Version 2. Sorts the objects. */
static GByteArray *
make_index (Ingest *in)
{
  static const guint8 magic[] = { 0xff, 't', 'O', 'c', 0, 0, 0, 2 };
  GByteArray *index = g_byte_array_new ();
  guint8 hash[HASH];
  guint n = 0;
  g_hash_table_remove_all (in->by_id); /* its values move */
  g_array_sort (in->objects, by_oid);
  g_byte_array_append (index, magic, sizeof magic);
  for (guint first = 0; first < 256; first++)
    {
      while (n < in->objects->len && g_array_index (in->objects, Object, n).oid.raw[0] <= first)
        n++;
      append_32 (index, n);
    }
  for (guint i = 0; i < in->objects->len; i++)
    g_byte_array_append (index, g_array_index (in->objects, Object, i).oid.raw, HASH);
  for (guint i = 0; i < in->objects->len; i++)
    append_32 (index, g_array_index (in->objects, Object, i).crc);
  for (guint i = 0; i < in->objects->len; i++)
    append_32 (index, g_array_index (in->objects, Object, i).offset);
  g_byte_array_append (index, in->pack + in->len, HASH);
  hash_of (index->data, index->len, hash);
  g_byte_array_append (index, hash, HASH);
  return index;
}

static gboolean
write_file (const char *path, const void *data, gsize len, GError **error)
{
  int fd = fsu_create_exclusive (AT_FDCWD, path, 0444);
  if (fd < 0)
    return fsu_fail (error, errno, "make %s", path);
  gboolean ok = fsu_write_all (fd, data, len, path, error);
  close (fd);
  return ok;
}

static gboolean
write_pack (Ingest *in, const char *objects, GError **error)
{
  char hex[2 * HASH + 1];
  gs_hex (in->pack + in->len, HASH, hex);
  g_autofree char *pack = g_strdup_printf ("%s/pack/pack-%s.pack", objects, hex);
  g_autofree char *idx = g_strdup_printf ("%s/pack/pack-%s.idx", objects, hex);
  g_autoptr (GByteArray) index = make_index (in);
  return write_file (pack, in->pack, in->len + HASH, error) && write_file (idx, index->data, index->len, error);
}

static void
object_clear (gpointer data)
{
  g_free (((Object *) data)->data);
}

gboolean
ingest_pack (Repo *repo, GsCall *call, GBytes *pack, const char *objects, gboolean *ret_taken, GError **error)
{
  Ingest in = { .repo = repo, .call = call };
  gboolean ok = TRUE;
  *ret_taken = FALSE;
  in.pack = g_bytes_get_data (pack, &in.len);
  if (in.len < HEADER + HASH || in.len > PACK_MAX || repo->format != GS_FORMAT_SHA1)
    return TRUE;
  in.len -= HASH;
  in.handle = odb_borrow (repo, error);
  if (in.handle == NULL)
    return FALSE;
  in.objects = g_array_new (FALSE, FALSE, sizeof (Object));
  g_array_set_clear_func (in.objects, object_clear);
  in.by_id = g_hash_table_new (oid_hash, oid_equal);
  if (read_objects (&in) && all_good (&in))
    {
      *ret_taken = TRUE;
      ok = write_pack (&in, objects, error);
    }
  g_hash_table_unref (in.by_id);
  g_array_unref (in.objects);
  odb_return (repo, in.handle);
  return ok;
}
