/* SPDX-License-Identifier: Apache-2.0 */
/* New objects in one pack: see draft.h. Whole objects, no deltas: maintenance finds those later. */
#include "draft.h"

#include "bound.h"
#include "fsutil.h"
#include "scratch.h"

#include <git2.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#define PACK_HEADER 12
#define PACK_HASH 20
#define SPILL_BYTES (8u << 20) /* a larger pack goes into a file */
#define DEFLATE_BYTES (64u << 10)

typedef struct
{
  GsOid oid;
  GsObjectType type;
  GBytes *bytes; /* NULL for a blob */
  gboolean exported;
} Entry;

struct Draft
{
  Repo *repo;
  ObjectHandle *handle;
  guint64 max_bytes, bytes;
  GHashTable *entries; /* Entry, which is its own key */
  guint32 count;
  GByteArray *pack; /* what is not in the file yet */
  int fd;           /* -1 until it spills */
  guint64 spilled;
  z_stream zlib;
};

guint
oid_hash (gconstpointer oid)
{
  guint hash;
  memcpy (&hash, ((const GsOid *) oid)->raw, sizeof hash);
  return hash;
}

gboolean
oid_equal (gconstpointer a, gconstpointer b)
{
  return gs_oid_equal (a, b);
}

static void
entry_free (gpointer data)
{
  Entry *entry = data;
  g_clear_pointer (&entry->bytes, g_bytes_unref);
  g_free (entry);
}

Draft *
draft_new (Repo *repo, ObjectHandle *handle, guint64 max_bytes)
{
  static const guint8 header[PACK_HEADER] = { 'P', 'A', 'C', 'K', 0, 0, 0, 2 };
  Draft *draft = g_new0 (Draft, 1);
  draft->repo = repo;
  draft->handle = handle;
  draft->max_bytes = max_bytes;
  draft->entries = g_hash_table_new_full (oid_hash, oid_equal, NULL, entry_free);
  draft->pack = g_byte_array_new ();
  draft->fd = -1;
  g_byte_array_append (draft->pack, header, sizeof header); /* the count comes at the end */
  deflateInit (&draft->zlib, Z_BEST_SPEED);
  return draft;
}

void
draft_free (Draft *draft)
{
  if (draft == NULL)
    return;
  g_hash_table_unref (draft->entries);
  g_byte_array_unref (draft->pack);
  if (draft->fd >= 0)
    close (draft->fd);
  deflateEnd (&draft->zlib);
  g_free (draft);
}

Repo *
draft_repo (Draft *draft)
{
  return draft->repo;
}

ObjectHandle *
draft_handle (Draft *draft)
{
  return draft->handle;
}

gboolean
object_id (GsObjectType type, const void *data, gsize len, GsOid *ret_oid, GError **error)
{
  git_oid id;
  if (git_odb_hash (&id, data, len, (git_object_t) type) != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the bytes of a %s have no id: %s", odb_type_name (type),
                    git_error_last () != NULL ? git_error_last ()->message : "libgit2 does not say why");
  memset (ret_oid, 0, sizeof *ret_oid);
  ret_oid->len = GS_FORMAT_SHA1;
  memcpy (ret_oid->raw, id.id, GS_FORMAT_SHA1);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- pack */

static int
unnamed_file (Repo *repo)
{
  g_autofree char *dir = g_strconcat (repo->storage->root, "/" GIT_ROOT_TMP, NULL);
  int fd = open (dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  return fd >= 0 ? fd : memfd_create ("gitstead-draft", MFD_CLOEXEC);
}

static gboolean
spill (Draft *draft, GError **error)
{
  if (draft->fd < 0 && (draft->fd = unnamed_file (draft->repo)) < 0)
    return fsu_fail (error, errno, "make a temporary file in %s", draft->repo->storage->root);
  if (!fsu_write_all (draft->fd, draft->pack->data, draft->pack->len, "a temporary file", error))
    return FALSE;
  draft->spilled += draft->pack->len;
  if (!bound_check_bytes (draft->repo->storage, draft->spilled, error))
    return FALSE;
  g_byte_array_set_size (draft->pack, 0);
  return TRUE;
}

static void
append_header (GByteArray *pack, GsObjectType type, gsize len)
{
  guint8 byte = (guint8) ((guint) type << 4 | (len & 15));
  for (len >>= 4; len > 0; len >>= 7)
    {
      byte |= 0x80;
      g_byte_array_append (pack, &byte, 1);
      byte = len & 0x7f;
    }
  g_byte_array_append (pack, &byte, 1);
}

static gboolean
append_deflated (Draft *draft, const guint8 *data, gsize len, GError **error)
{
  guint8 buffer[DEFLATE_BYTES];
  z_stream *zlib = &draft->zlib;
  int code;
  deflateReset (zlib);
  do
    {
      if (zlib->avail_in == 0 && len > 0)
        {
          uInt piece = (uInt) MIN (len, 1u << 30);
          zlib->next_in = (Bytef *) data;
          zlib->avail_in = piece;
          data += piece;
          len -= piece;
        }
      zlib->next_out = buffer;
      zlib->avail_out = sizeof buffer;
      code = deflate (zlib, len == 0 ? Z_FINISH : Z_NO_FLUSH);
      g_byte_array_append (draft->pack, buffer, (guint) (sizeof buffer - zlib->avail_out));
      if (draft->pack->len > SPILL_BYTES && !spill (draft, error))
        return FALSE;
    }
  while (code == Z_OK || code == Z_BUF_ERROR);
  return code == Z_STREAM_END || gs_fail (error, GS_ERROR_INTERNAL, "zlib cannot deflate: %d", code);
}

gboolean
draft_has (const Draft *draft, const GsOid *oid)
{
  return g_hash_table_contains (draft->entries, oid);
}

gboolean
draft_add (Draft *draft, GsObjectType type, const void *data, gsize len, GsOid *ret_oid, GError **error)
{
  GsOid oid;
  if (!object_id (type, data, len, &oid, error))
    return FALSE;
  if (!draft_has (draft, &oid))
    {
      draft->bytes += len;
      if (draft->max_bytes != 0 && draft->bytes > draft->max_bytes)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                        "the change would make more than %" G_GUINT64_FORMAT
                        " bytes of objects; make several smaller ones, or push them with git",
                        draft->max_bytes);
      append_header (draft->pack, type, len);
      if (!append_deflated (draft, data, len, error))
        return FALSE;
      Entry *entry = g_new0 (Entry, 1);
      entry->oid = oid;
      entry->type = type;
      entry->bytes = type != GS_OBJECT_BLOB ? g_bytes_new (data, len) : NULL;
      g_hash_table_insert (draft->entries, &entry->oid, entry);
      draft->count++;
    }
  *ret_oid = oid;
  return TRUE;
}

gboolean
draft_read (Draft *draft, const GsOid *oid, guint64 max, GsObjectType *ret_type, GBytes **ret_bytes, GError **error)
{
  const Entry *entry = g_hash_table_lookup (draft->entries, oid);
  if (entry == NULL || entry->bytes == NULL)
    return odb_read (draft->repo, draft->handle, oid, max, ret_type, ret_bytes, error);
  *ret_type = entry->type;
  *ret_bytes = g_bytes_ref (entry->bytes);
  return TRUE;
}

gboolean
draft_type (Draft *draft, const GsOid *oid, GsObjectType *ret_type, GError **error)
{
  const Entry *entry = g_hash_table_lookup (draft->entries, oid);
  guint64 size;
  if (entry == NULL)
    return odb_header (draft->repo, draft->handle, oid, ret_type, &size, error);
  *ret_type = entry->type;
  return TRUE;
}

gboolean
draft_export (Draft *draft, const char *objects, GError **error)
{
  GHashTableIter iter;
  gpointer value;
  g_hash_table_iter_init (&iter, draft->entries);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Entry *entry = value;
      GsOid oid;
      if (entry->bytes == NULL || entry->exported)
        continue;
      gsize len;
      const char *data = g_bytes_get_data (entry->bytes, &len);
      if (!scratch_write (objects, entry->type, data != NULL ? data : "", len, &oid, error))
        return FALSE;
      entry->exported = TRUE;
    }
  return TRUE;
}

static void
put_count (guint8 *header, guint32 count)
{
  for (int i = 0; i < 4; i++)
    header[8 + i] = (guint8) (count >> (24 - 8 * i));
}

static void
append_trailer (GByteArray *pack, const void *data, gsize len)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  guint8 hash[PACK_HASH];
  gsize hash_len = sizeof hash;
  g_checksum_update (sum, data, (gssize) len);
  g_checksum_get_digest (sum, hash, &hash_len);
  g_byte_array_append (pack, hash, sizeof hash);
}

static gboolean
pack_from_file (Draft *draft, GBytes **ret_pack, GError **error)
{
  guint8 count[4];
  guint8 header[PACK_HEADER];
  GMappedFile *map;
  put_count (header, draft->count);
  memcpy (count, header + 8, sizeof count);
  if (!spill (draft, error))
    return FALSE;
  if (pwrite (draft->fd, count, sizeof count, 8) != sizeof count)
    return fsu_fail (error, errno, "write %s", "a temporary file");
  map = g_mapped_file_new_from_fd (draft->fd, FALSE, NULL);
  if (map == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "a temporary file cannot be mapped");
  append_trailer (draft->pack, g_mapped_file_get_contents (map), g_mapped_file_get_length (map));
  g_mapped_file_unref (map);
  if (!spill (draft, error))
    return FALSE;
  map = g_mapped_file_new_from_fd (draft->fd, FALSE, NULL);
  if (map == NULL)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "a temporary file cannot be mapped");
  *ret_pack = g_mapped_file_get_bytes (map);
  g_mapped_file_unref (map);
  return TRUE;
}

gboolean
draft_pack (Draft *draft, GBytes **ret_pack, GError **error)
{
  if (draft->count == 0)
    {
      *ret_pack = NULL;
      return TRUE;
    }
  if (draft->fd >= 0)
    return pack_from_file (draft, ret_pack, error);
  if (!bound_check_bytes (draft->repo->storage, draft->pack->len, error))
    return FALSE;
  put_count (draft->pack->data, draft->count);
  append_trailer (draft->pack, draft->pack->data, draft->pack->len);
  *ret_pack = g_byte_array_free_to_bytes (g_steal_pointer (&draft->pack));
  draft->pack = g_byte_array_new ();
  return TRUE;
}
