/* SPDX-License-Identifier: Apache-2.0 */
/* A replica copied at a position, the sending end: record, refs, then a pack of what the receiver lacks. */
#include "child.h"
#include "disk.h"
#include "git.h"
#include "odb.h"

#include <unistd.h>

#define SPOOL_CHUNK (64 * 1024)
#define EXPORT_WAIT_US (3 * G_USEC_PER_SEC)

int
storage_spool (Storage *storage, GError **error)
{
  g_autofree char *path = g_strdup_printf ("%s/" GIT_ROOT_TMP "/spool-XXXXXX", storage->root);
  int fd = g_mkstemp_full (path, O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0)
    {
      fsu_fail (error, errno, "make file %s", path);
      return -1;
    }
  unlink (path);
  return fd;
}

typedef struct
{
  Repo *repo;
  GsCall *call;
  ReplicaRecord record;
  RefSnapshot *snapshot;
  const GsOid *haves;
  gsize n_haves;
  gsize n_known;  /* of the haves */
  int refs, tips; /* spools: the refs as packed-refs has them; what pack-objects is asked for */
  guint64 refs_bytes;
} Export;

/* Collected in @buffer, on the medium when that is full. */
static gboolean
spool (int fd, GString *buffer, gboolean all, guint64 *bytes, GError **error)
{
  if (!all && buffer->len < SPOOL_CHUNK)
    return TRUE;
  if (!fsu_write_all (fd, buffer->str, buffer->len, "a temporary file", error))
    return FALSE;
  if (bytes != NULL)
    *bytes += buffer->len;
  g_string_truncate (buffer, 0);
  return TRUE;
}

static gboolean
spool_refs (Export *out, GError **error)
{
  g_autoptr (GString) refs = g_string_new (NULL), tips = g_string_new (NULL);
  char hex[GS_OID_HEX_MAX + 1];
  for (gsize i = 0; i < ref_snapshot_count (out->snapshot); i++)
    {
      RefEntry entry;
      ref_snapshot_get (out->snapshot, i, &entry);
      if (entry.missing)
        return gs_fail (error, GS_ERROR_DATA_LOSS, "replica %s: the object of %s is not there", out->repo->path,
                        entry.name);
      gs_oid_hex (&entry.oid, hex);
      g_string_append_printf (refs, "%s %s\n", hex, entry.name);
      g_string_append_printf (tips, "%s\n", hex);
      if (entry.peeled.len > 0)
        {
          gs_oid_hex (&entry.peeled, hex);
          g_string_append_printf (refs, "^%s\n", hex);
        }
      if (!spool (out->refs, refs, FALSE, &out->refs_bytes, error) || !spool (out->tips, tips, FALSE, NULL, error))
        return FALSE;
    }
  return spool (out->refs, refs, TRUE, &out->refs_bytes, error) && spool (out->tips, tips, TRUE, NULL, error);
}

/* What the receiver has and we do not know is of no use. */
static gboolean
spool_haves (Export *out, GError **error)
{
  g_autoptr (GString) lines = g_string_new (NULL);
  char hex[GS_OID_HEX_MAX + 1];
  ObjectHandle *handle = out->n_haves > 0 ? odb_borrow (out->repo, error) : NULL;
  gboolean good = out->n_haves == 0 || handle != NULL;
  for (gsize i = 0; good && i < out->n_haves; i++)
    {
      GsObjectType type;
      guint64 size;
      if (i % 256 == 0 && !gs_call_check (out->call, "copying a replica", error))
        good = FALSE;
      else if (out->haves[i].len == (guint8) out->repo->format
               && odb_header (out->repo, handle, &out->haves[i], &type, &size, NULL))
        {
          gs_oid_hex (&out->haves[i], hex);
          g_string_append_printf (lines, "%s%s\n", out->n_known++ == 0 ? "--not\n" : "", hex);
          good = spool (out->tips, lines, FALSE, NULL, error);
        }
    }
  if (handle != NULL)
    odb_return (out->repo, handle);
  return good && spool (out->tips, lines, TRUE, NULL, error)
         && (lseek (out->tips, 0, SEEK_SET) == 0 || fsu_fail (error, errno, "read back %s", "a temporary file"));
}

static GString *
make_header (const Export *out)
{
  GString *text = g_string_new (GIT_COPY_MAGIC "\n");
  char digest[2 * GS_DIGEST_SIZE + 1];
  gs_hex (out->record.digest.bytes, GS_DIGEST_SIZE, digest);
  g_string_append_printf (text, "repository %" G_GUINT64_FORMAT "\nformat sha1\ngeneration %" G_GUINT64_FORMAT "\n",
                          out->record.id, out->record.generation);
  for (guint i = 0; i < out->record.ahead->len; i++)
    {
      const GenerationRange *range = &g_array_index (out->record.ahead, GenerationRange, i);
      g_string_append_printf (text, "ahead %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n", range->from, range->to);
    }
  g_string_append_printf (text, "digest %s\nhead %s\nbasis %s\npack %s\nrefs %" G_GUINT64_FORMAT "\n\n", digest,
                          ref_snapshot_head (out->snapshot), out->n_known > 0 ? "part" : "whole",
                          out->refs_bytes > 0 ? "yes" : "no", out->refs_bytes);
  return text;
}

static gboolean
send_header (Export *out, int output, GError **error)
{
  g_autoptr (GString) header = make_header (out);
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  g_autofree char *chunk = g_malloc (SPOOL_CHUNK);
  g_autofree char *last = NULL;
  off_t at = 0;
  ssize_t n;
  g_checksum_update (sum, (const guchar *) header->str, (gssize) header->len);
  if (!call_write (out->call, output, header->str, header->len, "send a copy", error))
    return FALSE;
  while ((n = pread (out->refs, chunk, SPOOL_CHUNK, at)) > 0)
    {
      g_checksum_update (sum, (const guchar *) chunk, n);
      at += n;
      if (!call_write (out->call, output, chunk, (gsize) n, "send a copy", error))
        return FALSE;
    }
  if (n < 0 || (guint64) at != out->refs_bytes)
    return fsu_fail (error, n < 0 ? errno : EIO, "read back %s", "a temporary file");
  last = g_strdup_printf ("%s\n", g_checksum_get_string (sum));
  return call_write (out->call, output, last, strlen (last), "send a copy", error);
}

static gboolean
send_pack (Export *out, int output, GError **error)
{
  const char *argv[] = { "pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q",
                         out->n_known > 0 ? "--thin" : NULL, NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = out->repo->dir,
                           .argv = argv,
                           .input = out->tips,
                           .output = output,
                           .extra = -1 };
  Child child;
  int status;
  if (!child_start (out->repo->storage, &spec, &child, error))
    return FALSE;
  gboolean sent = child_wait (&child, out->call, NULL, &status, error) && child_check_objects (&child, status, error);
  child_clear (&child);
  if (!sent)
    g_prefix_error (error, "replica %s cannot be copied: ", out->repo->path);
  return sent;
}

static gboolean
export_to (Export *out, GsStream *stream, GError **error)
{
  int output;
  if (*ref_snapshot_head (out->snapshot) == '\0')
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "replica %s: HEAD points at no branch", out->repo->path);
  out->refs = storage_spool (out->repo->storage, error);
  out->tips = out->refs >= 0 ? storage_spool (out->repo->storage, error) : -1;
  if (out->tips < 0 || !spool_refs (out, error) || !spool_haves (out, error))
    return FALSE;
  output = stream->open_output (stream, error);
  if (output < 0)
    return FALSE;
  gboolean sent = send_header (out, output, error) && (out->refs_bytes == 0 || send_pack (out, output, error));
  close (output);
  return sent;
}

gboolean
storage_export (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *haves, gsize n_haves, GsStream *stream,
                GError **error)
{
  Export out = { .call = call, .haves = haves, .n_haves = n_haves, .refs = -1, .tips = -1 };
  gboolean fits, sent;
  out.repo = repo_open (self, repo, FALSE, error);
  if (out.repo == NULL)
    return FALSE;
  if (!replica_position (out.repo, call, EXPORT_WAIT_US, &out.record, &out.snapshot, &fits, error))
    {
      repo_close (out.repo, FALSE);
      return FALSE;
    }
  sent = fits ? export_to (&out, stream, error)
              : gs_call_check (call, "copying a replica", error)
                    && gs_fail (error, GS_ERROR_DATA_LOSS,
                                "replica %s cannot be copied: its refs are not what its record says of them",
                                out.repo->path);
  if (out.refs >= 0)
    close (out.refs);
  if (out.tips >= 0)
    close (out.tips);
  ref_snapshot_unref (out.snapshot);
  replica_record_clear (&out.record);
  repo_close (out.repo, FALSE);
  return sent;
}
