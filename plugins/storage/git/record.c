/* SPDX-License-Identifier: Apache-2.0 */
/* The identity record of a replica: who it is, which decisions it holds. docs/on-disk.md. */
#include "git.h"

#include "disk.h"

#define RECORD_MAX (64 * 1024)
#define RECORD_RANGES_MAX 1000u

static void
checksum_line (const char *text, gsize len, char ret_hex[65])
{
  g_autofree char *hex = g_compute_checksum_for_data (G_CHECKSUM_SHA256, (const guchar *) text, len);
  g_strlcpy (ret_hex, hex, 65);
}

void
replica_record_clear (ReplicaRecord *record)
{
  g_clear_pointer (&record->ahead, g_array_unref);
}

static gboolean
parse_number (const char *text, guint64 *ret_number)
{
  return g_ascii_string_to_unsigned (text, 10, 0, G_MAXUINT64, ret_number, NULL);
}

static gboolean
parse_range (const char *text, GArray *ahead)
{
  GenerationRange range;
  g_auto (GStrv) ends = g_strsplit (text, "-", 3);
  if (g_strv_length (ends) != 2 || !parse_number (ends[0], &range.from) || !parse_number (ends[1], &range.to)
      || range.from > range.to || ahead->len >= RECORD_RANGES_MAX)
    return FALSE;
  g_array_append_val (ahead, range);
  return TRUE;
}

static gboolean
parse_line (char *line, ReplicaRecord *record, guint *seen)
{
  char *value = strchr (line, ' ');
  if (value == NULL)
    return FALSE;
  *value++ = '\0';
  if (strcmp (line, "repository") == 0)
    {
      *seen |= 1;
      return parse_number (value, &record->id) && record->id != 0;
    }
  if (strcmp (line, "storage") == 0)
    {
      *seen |= 2;
      return strlen (value) == 32 && g_strlcpy (record->storage, value, sizeof record->storage) == 32;
    }
  if (strcmp (line, "format") == 0)
    {
      *seen |= 4;
      record->format = GS_FORMAT_SHA1;
      return strcmp (value, "sha1") == 0;
    }
  if (strcmp (line, "generation") == 0)
    {
      *seen |= 8;
      return parse_number (value, &record->generation);
    }
  if (strcmp (line, "ahead") == 0)
    return parse_range (value, record->ahead);
  if (strcmp (line, "digest") == 0)
    {
      *seen |= 16;
      return strlen (value) == 2 * GS_DIGEST_SIZE && gs_unhex (value, GS_DIGEST_SIZE, record->digest.bytes);
    }
  return FALSE;
}

gboolean
replica_record_read (const char *dir, ReplicaRecord *ret_record, GError **error)
{
  g_autofree char *path = g_strconcat (dir, "/" GIT_RECORD, NULL);
  g_autoptr (GError) failed = NULL;
  gsize len;
  guint seen = 0;
  char sum[65];
  ReplicaRecord record = { .id = 0 };
  g_autofree char *text = fsu_read (AT_FDCWD, path, RECORD_MAX, &len, &failed);

  if (text == NULL && failed->code == GS_ERROR_NOT_FOUND)
    {
      if (!disk_exists (dir))
        return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no replica at %s", dir);
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "%s is not a replica: it has no identity record (%s)", dir,
                      GIT_RECORD);
    }
  if (text == NULL)
    {
      g_propagate_error (error, g_steal_pointer (&failed));
      return FALSE;
    }
  char *last = g_strrstr (text, "\nchecksum ");
  if (!g_str_has_prefix (text, "gitstead-replica 1\n") || last == NULL || strlen (text) != len)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "the identity record %s is damaged or of a newer version", path);
  checksum_line (text, (gsize) (last + 1 - text), sum);
  if (strlen (last) != strlen ("\nchecksum ") + 65 || memcmp (last + strlen ("\nchecksum "), sum, 64) != 0)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "the identity record %s is damaged: its checksum does not fit", path);
  *last = '\0';
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  record.ahead = g_array_new (FALSE, FALSE, sizeof (GenerationRange));
  for (guint i = 1; lines[i] != NULL; i++)
    if (!parse_line (lines[i], &record, &seen))
      {
        replica_record_clear (&record);
        return gs_fail (error, GS_ERROR_DATA_LOSS, "the identity record %s has a line that cannot be read", path);
      }
  if (seen != 31)
    {
      replica_record_clear (&record);
      return gs_fail (error, GS_ERROR_DATA_LOSS, "the identity record %s lacks a line", path);
    }
  *ret_record = record;
  return TRUE;
}

gboolean
replica_record_write (const Storage *storage, const char *dir, const ReplicaRecord *record, GError **error)
{
  g_autofree char *path = g_strconcat (dir, "/" GIT_RECORD, NULL);
  g_autoptr (GString) text = g_string_new ("gitstead-replica 1\n");
  char digest[2 * GS_DIGEST_SIZE + 1], sum[65];
  gs_hex (record->digest.bytes, GS_DIGEST_SIZE, digest);
  g_string_append_printf (
      text, "repository %" G_GUINT64_FORMAT "\nstorage %s\nformat sha1\ngeneration %" G_GUINT64_FORMAT "\n", record->id,
      record->storage, record->generation);
  for (guint i = 0; record->ahead != NULL && i < record->ahead->len; i++)
    {
      const GenerationRange *range = &g_array_index (record->ahead, GenerationRange, i);
      g_string_append_printf (text, "ahead %" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT "\n", range->from, range->to);
    }
  g_string_append_printf (text, "digest %s\n", digest);
  checksum_line (text->str, text->len, sum);
  g_string_append_printf (text, "checksum %s\n", sum);
  return disk_replace (path, text->str, text->len, storage->sync, error);
}

static gboolean
already_applied (const ReplicaRecord *record, guint64 generation)
{
  for (guint i = 0; i < record->ahead->len; i++)
    {
      const GenerationRange *range = &g_array_index (record->ahead, GenerationRange, i);
      if (generation >= range->from && generation <= range->to)
        return TRUE;
    }
  return generation <= record->generation;
}

void
replica_record_applied (ReplicaRecord *record, guint64 generation)
{
  GenerationRange added = { generation, generation };
  guint at = 0;
  if (already_applied (record, generation))
    return;
  while (at < record->ahead->len && g_array_index (record->ahead, GenerationRange, at).to < generation)
    at++;
  g_array_insert_val (record->ahead, at, added);
  for (guint i = 0; i + 1 < record->ahead->len;)
    {
      GenerationRange *range = &g_array_index (record->ahead, GenerationRange, i);
      if (range[0].to + 1 < range[1].from)
        {
          i++;
          continue;
        }
      range[0].to = range[1].to;
      g_array_remove_index (record->ahead, i + 1);
    }
  GenerationRange first = g_array_index (record->ahead, GenerationRange, 0);
  if (first.from == record->generation + 1)
    {
      record->generation = first.to;
      g_array_remove_index (record->ahead, 0);
    }
}

gboolean
replica_stamp (Repo *repo, guint64 generation, const GsDigest *plus, const GsDigest *minus, const GsDigest *digest,
               GError **error)
{
  ReplicaRecord record;
  gboolean done;
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&repo->stamp_lock);
  if (!replica_record_read (repo->dir, &record, error))
    return FALSE;
  if (digest != NULL)
    record.digest = *digest;
  else if (!already_applied (&record, generation))
    {
      gs_digest_add (&record.digest, plus);
      gs_digest_sub (&record.digest, minus);
    }
  replica_record_applied (&record, generation);
  if (record.ahead->len > RECORD_RANGES_MAX)
    done = gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "replica %s lacks too many of the repository's writes (it is at %" G_GUINT64_FORMAT "): repair it",
                    repo->path, record.generation);
  else
    done = replica_record_write (repo->storage, repo->dir, &record, error);
  replica_record_clear (&record);
  return done;
}
