/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of a replica read from the medium: record and refs against each other, every file of packs against the checksum at
 * its end, and then whether all is there that the refs reach.
 */
#include "child.h"
#include "disk.h"
#include "git.h"

#include <unistd.h>

#define CHUNK (256 * 1024)
#define TRAILER 20
#define NAP_US (100 * 1000)

typedef struct
{
  Repo *repo;
  GsCall *call;
  guint64 bytes_per_second, bytes;
  gint64 since_us;
} Scrub;

/* Naps until no more was read than should have been by now. */
static gboolean
pace (Scrub *scrub, gsize n, GError **error)
{
  scrub->bytes += n;
  for (;;)
    {
      gint64 due_us = scrub->bytes_per_second > 0
                          ? (gint64) ((double) scrub->bytes / (double) scrub->bytes_per_second * G_USEC_PER_SEC)
                          : 0;
      gint64 ahead_us = scrub->since_us + due_us - g_get_monotonic_time ();
      if (!gs_call_check (scrub->call, "reading a replica", error))
        return FALSE;
      if (ahead_us <= 0)
        return TRUE;
      g_usleep ((gulong) MIN (ahead_us, NAP_US));
    }
}

/* Packs, their indexes and reverse indexes end with the SHA-1 of what is before. Maintenance may take one away. */
static gboolean
scrub_file (Scrub *scrub, const char *path, GError **error)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA1);
  g_autofree guint8 *chunk = g_malloc (CHUNK + TRAILER);
  guint8 real[TRAILER];
  gsize kept = 0, real_len = sizeof real;
  gboolean good = TRUE;
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return errno == ENOENT || fsu_fail (error, errno, "open %s", path);
  posix_fadvise (fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  while (good)
    {
      ssize_t n = read (fd, chunk + kept, CHUNK);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        good = gs_fail (error, GS_ERROR_DATA_LOSS, "%s cannot be read: %s", path, g_strerror (errno));
      if (n <= 0)
        break;
      kept += (gsize) n;
      if (kept > TRAILER)
        {
          g_checksum_update (sum, chunk, (gssize) (kept - TRAILER));
          memmove (chunk, chunk + kept - TRAILER, TRAILER);
          kept = TRAILER;
        }
      good = pace (scrub, (gsize) n, error);
    }
  g_checksum_get_digest (sum, real, &real_len);
  if (good && (kept != TRAILER || memcmp (chunk, real, TRAILER) != 0))
    good = gs_fail (error, GS_ERROR_DATA_LOSS, "%s is damaged: its checksum does not fit", path);
  close (fd);
  return good;
}

static gboolean
scrub_packs (Scrub *scrub, GError **error)
{
  static const char *const suffixes[] = { ".pack", ".idx", ".rev" };
  g_autofree char *dir = g_strconcat (scrub->repo->objects, "/pack", NULL);
  g_autoptr (GPtrArray) names = disk_names (dir, error);
  if (names == NULL)
    return FALSE;
  for (guint i = 0; i < names->len; i++)
    for (guint k = 0; k < G_N_ELEMENTS (suffixes); k++)
      {
        g_autofree char *path = g_build_filename (dir, names->pdata[i], NULL);
        if (g_str_has_prefix (names->pdata[i], "pack-") && g_str_has_suffix (names->pdata[i], suffixes[k])
            && !scrub_file (scrub, path, error))
          return FALSE;
      }
  return TRUE;
}

/* By the files as they are, not by what this process remembers of them. */
static gboolean
scrub_refs (Scrub *scrub, GError **error)
{
  const RefStoreOptions options = { .format = scrub->repo->format };
  RefSnapshot *now;
  GsDigest digest;
  for (guint tries = 0; tries < 50; tries++)
    {
      RefStore *fresh = ref_store_open (scrub->repo->dir, &options, error);
      ReplicaRecord record;
      if (fresh == NULL)
        return FALSE;
      gs_mutex_lock (&scrub->repo->stamp_lock);
      gboolean have = replica_record_read (scrub->repo->dir, &record, error);
      gs_mutex_unlock (&scrub->repo->stamp_lock);
      now = have ? ref_store_snapshot (fresh, error) : NULL;
      if (now != NULL)
        {
          ref_snapshot_digest (now, &digest);
          ref_snapshot_unref (now);
        }
      gboolean fits = now != NULL && memcmp (&digest, &record.digest, sizeof digest) == 0;
      ref_store_free (fresh);
      if (have)
        replica_record_clear (&record);
      if (now == NULL || fits)
        return fits;
      if (!gs_call_check (scrub->call, "reading a replica", error))
        return FALSE;
      g_usleep (NAP_US / 10);
    }
  return gs_fail (error, GS_ERROR_DATA_LOSS, "the refs of replica %s are damaged: they are not what its record says",
                  scrub->repo->path);
}

static gboolean
scrub_reachable (Scrub *scrub, GError **error)
{
  static const char *const argv[] = { "rev-list", "--objects", "--quiet", "--all", NULL };
  const ChildSpec spec = { .role = CHILD_MAINTAIN,
                           .git_dir = scrub->repo->dir,
                           .argv = argv,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  g_autofree char *said = NULL;
  int status;
  if (!child_run (scrub->repo->storage, &spec, scrub->call, NULL, 0, NULL, &status, &said, error))
    return FALSE;
  return status == 0
         || gs_fail (error, GS_ERROR_DATA_LOSS, "replica %s lacks objects that its refs need: %s", scrub->repo->path,
                     g_strstrip (said));
}

gboolean
storage_scrub (gpointer self, GsCall *call, const GsRepo *repo, guint64 bytes_per_second, GError **error)
{
  Scrub scrub = { .call = call, .bytes_per_second = bytes_per_second, .since_us = g_get_monotonic_time () };
  gboolean whole;
  scrub.repo = repo_open (self, repo, FALSE, error);
  if (scrub.repo == NULL)
    return FALSE;
  whole = scrub_refs (&scrub, error) && scrub_packs (&scrub, error) && scrub_reachable (&scrub, error);
  repo_close (scrub.repo, FALSE);
  return whole;
}
