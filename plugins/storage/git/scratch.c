/* SPDX-License-Identifier: Apache-2.0 */
/* Loose objects in a quarantine: see scratch.h. */
#include "scratch.h"

#include "draft.h"
#include "fsutil.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define HEADER_MAX 32 /* "commit 18446744073709551615" and its NUL */

static char *
scratch_path (const char *objects, const GsOid *oid, char **ret_folder)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  if (ret_folder != NULL)
    *ret_folder = g_strdup_printf ("%s/%.2s", objects, hex);
  return g_strdup_printf ("%s/%.2s/%s", objects, hex, hex + 2);
}

gboolean
scratch_write (const char *objects, GsObjectType type, const void *data, gsize len, GsOid *ret_oid, GError **error)
{
  GsOid oid;
  char header[HEADER_MAX];
  gsize header_len = (gsize) g_snprintf (header, sizeof header, "%s %" G_GSIZE_FORMAT, odb_type_name (type), len) + 1;
  if (!object_id (type, data, len, &oid, error))
    return FALSE;
  g_autofree guint8 *whole = g_malloc (header_len + len);
  memcpy (whole, header, header_len);
  memcpy (whole + header_len, data, len);
  uLongf room = compressBound (header_len + len);
  g_autofree guint8 *deflated = g_malloc (room);
  if (compress2 (deflated, &room, whole, header_len + len, Z_BEST_SPEED) != Z_OK)
    return gs_fail (error, GS_ERROR_INTERNAL, "zlib cannot deflate an object");
  g_autofree char *folder = NULL;
  g_autofree char *path = scratch_path (objects, &oid, &folder);
  *ret_oid = oid;
  if (mkdir (folder, 0777) != 0 && errno != EEXIST)
    return fsu_fail (error, errno, "make %s", folder);
  int fd = fsu_create_exclusive (AT_FDCWD, path, 0444);
  if (fd < 0)
    return errno == EEXIST || fsu_fail (error, errno, "make %s", path);
  gboolean ok = fsu_write_all (fd, deflated, room, path, error);
  close (fd);
  return ok;
}

static GsObjectType
type_named (const char *name)
{
  for (GsObjectType type = GS_OBJECT_COMMIT; type <= GS_OBJECT_TAG; type++)
    if (strcmp (odb_type_name (type), name) == 0)
      return type;
  return GS_OBJECT_NONE;
}

/* Inflates @file into *@ret_bytes, which has just the size that its header tells. */
static gboolean
inflate_object (z_stream *zlib, guint64 max, GsObjectType *ret_type, guint8 **ret_data, gsize *ret_len)
{
  char header[HEADER_MAX];
  zlib->next_out = (Bytef *) header;
  zlib->avail_out = sizeof header;
  int code = inflate (zlib, Z_SYNC_FLUSH);
  gsize got = sizeof header - zlib->avail_out;
  char *nul = memchr (header, '\0', got), *space = nul != NULL ? strchr (header, ' ') : NULL, *after;
  if ((code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) || space == NULL)
    return FALSE;
  *space = '\0';
  guint64 size = g_ascii_strtoull (space + 1, &after, 10);
  gsize begun = got - (gsize) (nul + 1 - header);
  if (after != nul || (max != 0 && size > max) || size >= G_MAXUINT32 || begun > size)
    return FALSE;
  guint8 *data = g_try_malloc ((gsize) size + 1);
  if (data == NULL)
    return FALSE;
  memcpy (data, nul + 1, begun);
  zlib->next_out = data + begun;
  zlib->avail_out = (uInt) (size - begun) + 1; /* one more shows that it is too long */
  if (code != Z_STREAM_END)
    code = inflate (zlib, Z_FINISH);
  *ret_type = type_named (header);
  *ret_len = (gsize) size;
  if (code != Z_STREAM_END || zlib->avail_out != 1 || *ret_type == GS_OBJECT_NONE)
    {
      g_free (data);
      return FALSE;
    }
  *ret_data = data;
  return TRUE;
}

gboolean
scratch_read (const char *objects, const GsOid *oid, guint64 max, gboolean *ret_found, GsObjectType *ret_type,
              GBytes **ret_bytes, GError **error)
{
  g_autofree char *path = scratch_path (objects, oid, NULL);
  g_autoptr (GError) why = NULL;
  gsize len, size = 0;
  guint8 *data = NULL;
  GsOid is;
  *ret_found = FALSE;
  g_autofree char *file = fsu_read (AT_FDCWD, path, max != 0 ? max + (max >> 8) + 1024 : G_MAXSSIZE, &len, &why);
  if (file == NULL && gs_error_code (why) == GS_ERROR_NOT_FOUND)
    return TRUE;
  if (file == NULL)
    {
      g_propagate_error (error, g_steal_pointer (&why));
      return FALSE;
    }
  z_stream zlib = { .next_in = (Bytef *) file, .avail_in = (uInt) len };
  gboolean good = len <= G_MAXUINT32 && inflateInit (&zlib) == Z_OK;
  if (good)
    {
      good = inflate_object (&zlib, max, ret_type, &data, &size);
      inflateEnd (&zlib);
    }
  if (!good || !object_id (*ret_type, data, size, &is, NULL) || !gs_oid_equal (&is, oid))
    {
      g_free (data);
      return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the object %s is damaged or larger than a change may make", path);
    }
  *ret_bytes = g_bytes_new_take (data, size);
  *ret_found = TRUE;
  return TRUE;
}
