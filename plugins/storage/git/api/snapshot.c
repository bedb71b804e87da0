/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RepositoryService: a replica as a tar of a bare repository. Refs first, then the packs and loose objects that there
 * are: a write publishes its objects before its refs, and under the housekeeper's lock nothing takes a pack away.
 */
#include "api.h"
#include "child.h"
#include "disk.h"
#include "repack.h"

#include "gitstead/v1/repository.pb-c.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 512
#define COPY_BYTES (128 * 1024)
#define OCTAL_MAX 077777777777 /* what a size field holds in digits */

typedef struct
{
  GitCall *call;
  int fd;
  guint64 bytes;
  char buffer[COPY_BYTES];
} Tar;

static gboolean
tar_write (Tar *tar, const void *data, gsize len, GError **error)
{
  tar->bytes += len;
  return call_write (tar->call->call, tar->fd, data, len, "send a snapshot", error);
}

/* A ustar header; sizes of 8 GiB and more in base 256, as everybody reads them. */
static gboolean
tar_header (Tar *tar, const char *name, guint64 size, GError **error)
{
  char header[BLOCK] = { 0 };
  gboolean folder = g_str_has_suffix (name, "/");
  guint sum = 0;
  g_strlcpy (header, name, 100);
  g_snprintf (header + 100, 8, "%07o", folder ? 0755 : 0644);
  g_snprintf (header + 108, 8, "%07o", 0);
  g_snprintf (header + 116, 8, "%07o", 0);
  if (size <= OCTAL_MAX)
    g_snprintf (header + 124, 12, "%011" G_GINT64_MODIFIER "o", size);
  else
    {
      guint64 big = GUINT64_TO_BE (size);
      header[124] = (char) 0x80;
      memcpy (header + 128, &big, sizeof big);
    }
  g_snprintf (header + 136, 12, "%011o", 0);
  memset (header + 148, ' ', 8);
  header[156] = folder ? '5' : '0';
  memcpy (header + 257, "ustar\00000", 8);
  for (gsize i = 0; i < BLOCK; i++)
    sum += (guint8) header[i];
  g_snprintf (header + 148, 7, "%06o", sum);
  return tar_write (tar, header, BLOCK, error);
}

static gboolean
tar_pad (Tar *tar, guint64 size, GError **error)
{
  static const char zeros[BLOCK];
  return size % BLOCK == 0 || tar_write (tar, zeros, BLOCK - size % BLOCK, error);
}

static gboolean
tar_text (Tar *tar, const char *name, const GString *text, GError **error)
{
  return tar_header (tar, name, text->len, error) && tar_write (tar, text->str, text->len, error)
         && tar_pad (tar, text->len, error);
}

static gboolean
tar_copy (Tar *tar, const char *name, int fd, guint64 size, GError **error)
{
  if (!tar_header (tar, name, size, error))
    return FALSE;
  for (guint64 left = size; left > 0;)
    {
      ssize_t got = read (fd, tar->buffer, (gsize) MIN (left, COPY_BYTES));
      if (got < 0 && errno == EINTR)
        continue;
      if (got < 0)
        return fsu_fail (error, errno, "read %s", name);
      if (got == 0)
        return gs_fail (error, GS_ERROR_DATA_LOSS, "%s became shorter while it was read", name);
      if (!tar_write (tar, tar->buffer, (gsize) got, error))
        return FALSE;
      left -= (guint64) got;
    }
  return tar_pad (tar, size, error);
}

static gboolean
tar_file (Tar *tar, const char *name, GError **error)
{
  g_autofree char *path = g_build_filename (tar->call->repo->dir, name, NULL);
  struct stat st;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return fsu_fail (error, errno, "open %s", name);
  gboolean done = fstat (fd, &st) == 0 ? tar_copy (tar, name, fd, (guint64) st.st_size, error)
                                       : fsu_fail (error, errno, "look at %s", name);
  close (fd);
  return done;
}

/* -------------------------------------------------------------------------------------------- content */

static gboolean
add_refs (Tar *tar, RefSnapshot *refs, guint64 *ret_n, GError **error)
{
  GitCall *call = tar->call;
  g_autoptr (GString) packed = g_string_new ("# pack-refs with: peeled fully-peeled sorted \n");
  g_autoptr (GString) head = g_string_new (NULL);
  char hex[GS_OID_HEX_MAX + 1];
  guint64 n = 0;
  for (gsize i = 0; i < ref_snapshot_count (refs); i++)
    {
      RefEntry ref;
      ref_snapshot_get (refs, i, &ref);
      if (ref_name_hidden (call->repo->refs, ref.name))
        continue;
      if (!api_ref_whole (call, &ref, error))
        return FALSE;
      gs_oid_hex (&ref.oid, hex);
      g_string_append_printf (packed, "%s %s\n", hex, ref.name);
      if (ref.peeled.len > 0)
        {
          gs_oid_hex (&ref.peeled, hex);
          g_string_append_printf (packed, "^%s\n", hex);
        }
      n++;
    }
  g_string_printf (head, "ref: %s\n", ref_snapshot_head (refs));
  *ret_n = n;
  return tar_text (tar, "HEAD", head, error) && tar_text (tar, "packed-refs", packed, error);
}

static gboolean
add_frame (Tar *tar, GError **error)
{
  static const char *const folders[] = { "refs/", "objects/", "objects/pack/" };
  g_autoptr (GString) config = g_string_new ("[core]\n\tfilemode = true\n\tbare = true\n");
  gboolean sha1 = tar->call->repo->format == GS_FORMAT_SHA1;
  g_string_append_printf (config, "\trepositoryformatversion = %d\n", !sha1);
  if (!sha1)
    g_string_append (config, "[extensions]\n\tobjectformat = sha256\n");
  for (gsize i = 0; i < G_N_ELEMENTS (folders); i++)
    if (!tar_header (tar, folders[i], 0, error))
      return FALSE;
  return tar_text (tar, "config", config, error);
}

/* A pack counts once its index is there. */
static gboolean
add_packs (Tar *tar, GError **error)
{
  g_autofree char *folder = g_build_filename (tar->call->repo->dir, "objects/pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (folder, error);
  for (guint i = 0; names != NULL && i < names->len; i++)
    {
      const char *name = names->pdata[i];
      if (!g_str_has_prefix (name, "pack-") || !g_str_has_suffix (name, ".idx"))
        continue;
      g_autofree char *index = g_strconcat ("objects/pack/", name, NULL);
      g_autofree char *pack = g_strdup_printf ("%.*s.pack", (int) strlen (index) - 4, index);
      if (!tar_file (tar, pack, error) || !tar_file (tar, index, error))
        return FALSE;
    }
  return names != NULL;
}

static gboolean
add_loose (Tar *tar, GError **error)
{
  const gsize rest = 2 * (gsize) tar->call->repo->format - 2;
  for (guint fan = 0; fan < 256; fan++)
    {
      g_autofree char *below = g_strdup_printf ("objects/%02x", fan);
      g_autofree char *folder = g_build_filename (tar->call->repo->dir, below, NULL);
      g_autoptr (GPtrArray) names = disk_names (folder, error);
      if (names == NULL)
        return FALSE;
      for (guint i = 0; i < names->len; i++)
        {
          const char *name = names->pdata[i];
          g_autofree char *file = g_strdup_printf ("%s/%s", below, name);
          if (strlen (name) == rest && strspn (name, "0123456789abcdef") == rest && !tar_file (tar, file, error))
            return FALSE;
        }
    }
  return TRUE;
}

static gboolean
tar_all (Tar *tar, Gitstead__V1__RepositorySnapshotReply *reply, GError **error)
{
  static const char end[2 * BLOCK];
  GitCall *call = tar->call;
  g_autofree char *alternates = g_build_filename (call->repo->dir, "objects/info/alternates", NULL);
  ReplicaRecord record;
  RefSnapshot *refs;
  if (disk_exists (alternates))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "repository %" G_GUINT64_FORMAT " borrows objects from another one: take a bundle of it",
                    call->repo->id);
  if (!replica_record_read (call->repo->dir, &record, error))
    return FALSE;
  reply->generation = record.generation;
  replica_record_clear (&record);
  refs = api_refs (call, error);
  if (refs == NULL || (tar->fd = call->stream->open_output (call->stream, error)) < 0)
    return FALSE;
  gboolean done = add_frame (tar, error) && add_refs (tar, refs, &reply->refs, error) && add_packs (tar, error)
                  && add_loose (tar, error) && tar_write (tar, end, sizeof end, error);
  close (tar->fd);
  reply->bytes = tar->bytes;
  return done;
}

gboolean
api_repository_snapshot (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  g_autofree Tar *tar = g_new0 (Tar, 1);
  int lock = repack_hold_off (call->repo, error);
  (void) message;
  if (lock < 0)
    return FALSE;
  tar->call = call;
  gboolean done = tar_all (tar, (void *) answer, error);
  repack_unlock (lock);
  return done;
}
