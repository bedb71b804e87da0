/* SPDX-License-Identifier: Apache-2.0 */
/* Deleting what no ref reaches: see prune.h. */
#include "prune.h"

#include "disk.h"
#include "pool.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMPORARY ".tmp-prune" /* swept by repack_recover */
#define WRITERS_WAIT_US (30 * G_USEC_PER_SEC)
#define SHUT_US (30 * G_USEC_PER_SEC) /* how long writers may wait */
#define NOTE_MAX (1u << 20)
#define INDEX_COUNT (8 + 255 * 4) /* where a pack index says how many objects it has */

/* As a reader must find them: the index last. */
static const char *const parts[] = { ".pack", ".rev", ".mtimes", ".idx" };

typedef struct
{
  Repo *repo;
  int lock;
  const RepackRun *run;
  char *packs;     /* objects/pack */
  GPtrArray *old;  /* cruft packs that go: pack-<hash> */
  GPtrArray *kept; /* the others */
  char *hash;      /* of the new one, which lies there as TEMPORARY-<hash>; NULL = none is needed */
  GString *tips;   /* what was found whole, as git's exclusions */
  guint64 generation;
  GsDigest digest; /* of the refs at that time */
} Prune;

static char *
part_path (const Prune *prune, const char *prefix, const char *base, const char *part)
{
  return g_strconcat (prune->packs, "/", prefix, base, part, NULL);
}

/* ------------------------------------------------------------------------------------ what there is */

static gboolean
is_old (const Prune *prune, const char *base)
{
  for (guint i = 0; i < prune->old->len; i++)
    if (strcmp (prune->old->pdata[i], base) == 0)
      return TRUE;
  return FALSE;
}

/* The first time all cruft packs go. What comes afterwards, of whatever kind, stays. */
static gboolean
list_packs (Prune *prune, gboolean first, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (prune->packs, error);
  g_ptr_array_set_size (prune->kept, 0);
  for (guint i = 0; names != NULL && i < names->len; i++)
    {
      const char *name = names->pdata[i];
      if (!g_str_has_prefix (name, "pack-") || !g_str_has_suffix (name, ".idx"))
        continue;
      g_autofree char *base = g_strndup (name, strlen (name) - strlen (".idx"));
      g_autofree char *mtimes = part_path (prune, "", base, ".mtimes"), *keep = part_path (prune, "", base, ".keep");
      gboolean goes = first ? disk_exists (mtimes) && !disk_exists (keep) : is_old (prune, base);
      if (first || !goes)
        g_ptr_array_add (goes ? prune->old : prune->kept, g_steal_pointer (&base));
    }
  return names != NULL;
}

static gboolean
count_pack (const Prune *prune, const char *prefix, const char *base, guint64 *objects, guint64 *bytes, GError **error)
{
  g_autofree char *index = part_path (prune, prefix, base, ".idx"), *pack = part_path (prune, prefix, base, ".pack");
  guint8 n[4];
  struct stat st;
  int fd = open (index, O_RDONLY | O_CLOEXEC);
  gboolean read = fd >= 0 && pread (fd, n, sizeof n, INDEX_COUNT) == (ssize_t) sizeof n;
  if (fd >= 0)
    close (fd);
  if (!read || stat (pack, &st) != 0)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "pack %s is damaged", pack);
  *objects += (guint64) n[0] << 24 | (guint64) n[1] << 16 | (guint64) n[2] << 8 | n[3];
  *bytes += (guint64) st.st_size;
  return TRUE;
}

/* ---------------------------------------------------------------------------------- the new cruft pack */

static gboolean
find_made (Prune *prune, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (prune->packs, error);
  for (guint i = 0; names != NULL && i < names->len; i++)
    {
      const char *name = names->pdata[i];
      if (g_str_has_prefix (name, TEMPORARY "-") && g_str_has_suffix (name, ".idx"))
        prune->hash = g_strndup (name + strlen (TEMPORARY "-"), strlen (name) - strlen (TEMPORARY "-") - strlen (".idx"));
    }
  return names != NULL;
}

static gboolean
make_pack (Prune *prune, gint64 grace_us, GError **error)
{
  Storage *storage = prune->repo->storage;
  /* Without a grace even what was written in this second, and by a clock that goes before ours. */
  gint64 until = storage->host->wall_us (storage->host) / G_USEC_PER_SEC
                 + (grace_us > 0 ? -(grace_us / G_USEC_PER_SEC) : 86400);
  g_autofree char *expire = g_strdup_printf ("--cruft-expiration=%" G_GINT64_FORMAT, MAX (until, 100000000));
  g_autofree char *base = g_build_filename (prune->packs, TEMPORARY, NULL), *borrowed = pool_objects (prune->repo);
  g_autoptr (GString) list = g_string_new (NULL);
  const char *const argv[] = { "pack-objects", "--cruft", expire, "--honor-pack-keep", "--non-empty", "--quiet",
                               "--delta-base-offset", base, borrowed != NULL ? "--local" : NULL, NULL };
  ChildSpec spec = { .role = CHILD_MAINTAIN, .argv = argv };
  gboolean done;
  for (guint i = 0; i < prune->kept->len; i++)
    g_string_append_printf (list, "%s.pack\n", (char *) prune->kept->pdata[i]);
  for (guint i = 0; i < prune->old->len; i++)
    g_string_append_printf (list, "-%s.pack\n", (char *) prune->old->pdata[i]);
  spec.input = memory_fd (list->str, list->len, error);
  if (spec.input < 0)
    return FALSE;
  done = repack_child (prune->repo, prune->lock, spec, prune->run, error);
  close (spec.input);
  return done && find_made (prune, error);
}

static void
drop_made (Prune *prune)
{
  for (gsize k = 0; prune->hash != NULL && k < G_N_ELEMENTS (parts); k++)
    {
      g_autofree char *path = part_path (prune, TEMPORARY "-", prune->hash, parts[k]);
      unlink (path);
    }
}

/* ------------------------------------------------------------------------------------------ checking */

static gboolean
link_part (const Prune *prune, const char *view, const char *prefix, const char *base, const char *part, GError **error)
{
  g_autofree char *from = part_path (prune, prefix, base, part);
  g_autofree char *to = g_strconcat (view, "/pack/", *prefix != '\0' ? "pack-" : "", base, part, NULL);
  return !disk_exists (from) || symlink (from, to) == 0 || errno == EEXIST || fsu_fail (error, errno, "link %s", from);
}

/* The objects as they will be, as git sees them from a folder of links; without the commit-graph. */
static gboolean
make_view (Prune *prune, const char *view, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (prune->repo->objects, error);
  g_autofree char *folder = g_build_filename (view, "pack", NULL);
  if (names == NULL || !list_packs (prune, FALSE, error))
    return FALSE;
  if (mkdir (folder, 0777) != 0)
    return fsu_fail (error, errno, "make folder %s", folder);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *from = g_build_filename (prune->repo->objects, names->pdata[i], NULL);
      g_autofree char *to = g_build_filename (view, names->pdata[i], NULL);
      if (strlen (names->pdata[i]) == 2 && symlink (from, to) != 0)
        return fsu_fail (error, errno, "link %s", from);
    }
  for (gsize k = 0; k < G_N_ELEMENTS (parts); k++)
    {
      for (guint i = 0; i < prune->kept->len; i++)
        if (!link_part (prune, view, "", prune->kept->pdata[i], parts[k], error))
          return FALSE;
      if (prune->hash != NULL && !link_part (prune, view, TEMPORARY "-", prune->hash, parts[k], error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
run_check (Prune *prune, ChildSpec spec, const RepackRun *run, GError **error)
{
  Storage *storage = prune->repo->storage;
  g_autofree char *view = g_strdup_printf ("%s/" GIT_ROOT_TMP "/prune-XXXXXX", storage->root);
  g_autofree char *borrowed = pool_objects (prune->repo), *nothing = NULL;
  g_autoptr (GError) why = NULL;
  gboolean done;
  if (g_mkdtemp_full (view, 0777) == NULL)
    return fsu_fail (error, errno, "make folder %s", view);
  nothing = g_build_filename (view, "none", NULL);
  spec.quarantine = view;
  spec.alternate = borrowed != NULL ? borrowed : nothing;
  spec.input = memory_fd (prune->tips->str, prune->tips->len, &why);
  done = spec.input >= 0 && make_view (prune, view, &why) && repack_child (prune->repo, prune->lock, spec, run, &why);
  if (spec.input >= 0)
    close (spec.input);
  fsu_remove_tree (AT_FDCWD, view, NULL);
  if (done)
    return TRUE;
  if (why->code == GS_ERROR_CANCELLED || why->code == GS_ERROR_DEADLINE_EXCEEDED)
    g_propagate_error (error, g_steal_pointer (&why));
  else
    gs_fail (error, GS_ERROR_ABORTED,
             "nothing is removed from replica %s: not all that its refs reach would be left, because something came into use "
             "meanwhile, or because it is damaged; try again, and check it (Repository/Fsck) if that does not help: %s",
             prune->repo->path, why->message);
  return FALSE;
}

static gboolean
note_position (Prune *prune, GError **error)
{
  g_autoptr (GHashTable) seen = g_hash_table_new_full (g_bytes_hash, g_bytes_equal, (GDestroyNotify) g_bytes_unref, NULL);
  RefSnapshot *snapshot = ref_store_snapshot (prune->repo->refs, error);
  ReplicaRecord record;
  if (snapshot == NULL)
    return FALSE;
  g_string_truncate (prune->tips, 0);
  for (gsize i = 0; i < ref_snapshot_count (snapshot); i++)
    {
      char hex[GS_OID_HEX_MAX + 1];
      RefEntry entry;
      ref_snapshot_get (snapshot, i, &entry);
      if (!g_hash_table_add (seen, g_bytes_new (entry.oid.raw, entry.oid.len)))
        continue;
      gs_oid_hex (&entry.oid, hex);
      g_string_append_printf (prune->tips, "%s\n", hex);
    }
  ref_snapshot_digest (snapshot, &prune->digest);
  ref_snapshot_unref (snapshot);
  if (!replica_record_read (prune->repo->dir, &record, error))
    return FALSE;
  prune->generation = record.generation;
  replica_record_clear (&record);
  return TRUE;
}

static gboolean
check_all (Prune *prune, GError **error)
{
  static const char *const argv[] = { "rev-list", "--objects", "--quiet", "--stdin", NULL };
  const ChildSpec spec = { .role = CHILD_MAINTAIN, .argv = argv };
  g_autoptr (GString) excluded = g_string_new (NULL);
  if (prune->tips->len > 0 && !run_check (prune, spec, prune->run, error))
    return FALSE;
  for (const char *at = prune->tips->str; *at != '\0'; at += strcspn (at, "\n") + 1)
    g_string_append_printf (excluded, "^%.*s\n", (int) strcspn (at, "\n"), at);
  g_string_assign (prune->tips, excluded->str);
  return TRUE;
}

/* Nobody writes. */
static gboolean
check_rest (Prune *prune, GError **error)
{
  static const char *const argv[] = { "rev-list", "--objects", "--quiet", "--all", "--stdin", NULL };
  const ChildSpec spec = { .role = CHILD_PLAIN, .argv = argv };
  RepackRun run = *prune->run;
  run.until_us = MIN (run.until_us, g_get_monotonic_time () + SHUT_US);
  return run_check (prune, spec, &run, error);
}

/* The commit-graph may know commits that were in use for a moment only. */
static gboolean
check_graph (Prune *prune, GError **error)
{
  RefSnapshot *snapshot = ref_store_snapshot (prune->repo->refs, error);
  ReplicaRecord record;
  GsDigest digest;
  gboolean same;
  if (snapshot == NULL)
    return FALSE;
  ref_snapshot_digest (snapshot, &digest);
  ref_snapshot_unref (snapshot);
  if (!replica_record_read (prune->repo->dir, &record, error))
    return FALSE;
  same = record.generation == prune->generation && memcmp (&digest, &prune->digest, sizeof digest) == 0;
  replica_record_clear (&record);
  return same || repack_drop_graph (prune->repo, error);
}

/* ------------------------------------------------------------------------------------------ exchange */

static gboolean
sync_packs (const Prune *prune, GError **error)
{
  return !prune->repo->storage->sync || disk_sync (prune->packs, FALSE, error);
}

static gboolean
place (Prune *prune, GError **error)
{
  g_autofree char *base = g_strconcat ("pack-", prune->hash, NULL);
  for (gsize k = 0; prune->hash != NULL && k < G_N_ELEMENTS (parts); k++)
    {
      g_autofree char *from = part_path (prune, TEMPORARY "-", prune->hash, parts[k]);
      g_autofree char *to = part_path (prune, "", base, parts[k]);
      if (rename (from, to) != 0 && errno != ENOENT)
        return fsu_fail (error, errno, "rename %s", from);
    }
  /* It may be one of those that are there. */
  for (guint i = prune->old->len; prune->hash != NULL && i-- > 0;)
    if (strcmp (prune->old->pdata[i], base) == 0)
      g_ptr_array_remove_index (prune->old, i);
  return sync_packs (prune, error);
}

static gboolean
drop_midx (const Prune *prune, gboolean *ret_had, GError **error)
{
  g_autoptr (GPtrArray) names = disk_names (prune->packs, error);
  g_autofree char *first = part_path (prune, "", "multi-pack-index", "");
  if (names == NULL)
    return FALSE;
  *ret_had = unlink (first) == 0;
  if (!*ret_had && errno != ENOENT)
    return fsu_fail (error, errno, "remove %s", first);
  for (guint i = 0; i < names->len; i++)
    {
      g_autofree char *path = g_build_filename (prune->packs, names->pdata[i], NULL);
      if (g_str_has_prefix (names->pdata[i], "multi-pack-index-") && unlink (path) != 0 && errno != ENOENT)
        return fsu_fail (error, errno, "remove %s", path);
    }
  return TRUE;
}

static gboolean
remove_parts (const Prune *prune, gboolean index, GError **error)
{
  for (guint i = 0; i < prune->old->len; i++)
    for (gsize k = 0; k < G_N_ELEMENTS (parts); k++)
      {
        g_autofree char *path = part_path (prune, "", prune->old->pdata[i], parts[k]);
        if ((strcmp (parts[k], ".idx") == 0) == index && unlink (path) != 0 && errno != ENOENT)
          return fsu_fail (error, errno, "remove %s", path);
      }
  return sync_packs (prune, error);
}

/* A pack without its index is nothing to git and to us, and would stay for ever: so it is noted which ones go. */
static gboolean
exchange (Prune *prune, gboolean *ret_had_midx, GError **error)
{
  Storage *storage = prune->repo->storage;
  g_autofree char *note = g_build_filename (prune->repo->dir, GIT_PRUNED, NULL);
  g_autoptr (GString) text = g_string_new (NULL);
  if (!place (prune, error))
    return FALSE;
  storage_crash_point (storage, "prune.placed");
  for (guint i = 0; i < prune->old->len; i++)
    g_string_append_printf (text, "%s\n", (char *) prune->old->pdata[i]);
  if (!disk_replace (note, text->str, text->len, storage->sync, error) || !drop_midx (prune, ret_had_midx, error))
    return FALSE;
  storage_crash_point (storage, "prune.noted");
  if (!remove_parts (prune, TRUE, error))
    return FALSE;
  storage_crash_point (storage, "prune.unindexed");
  if (!remove_parts (prune, FALSE, error))
    return FALSE;
  storage_crash_point (storage, "prune.removed");
  return fsu_unlink (AT_FDCWD, note, error);
}

gboolean
prune_recover (const Repo *repo, GError **error)
{
  g_autofree char *note = g_build_filename (repo->dir, GIT_PRUNED, NULL), *text = NULL;
  g_auto (GStrv) lines = NULL;
  Prune prune = { .repo = (Repo *) repo };
  gboolean done;
  if (!disk_exists (note))
    return TRUE;
  text = fsu_read (AT_FDCWD, note, NOTE_MAX, NULL, error);
  if (text == NULL)
    return FALSE;
  prune.packs = g_strconcat (repo->objects, "/pack", NULL);
  prune.old = g_ptr_array_new ();
  lines = g_strsplit (text, "\n", -1);
  /* One that still has its index may have come into use since. */
  for (guint i = 0; lines[i] != NULL; i++)
    {
      g_autofree char *index = part_path (&prune, "", lines[i], ".idx");
      if (g_str_has_prefix (lines[i], "pack-") && strspn (lines[i] + 5, "0123456789abcdef") == strlen (lines[i] + 5)
          && !disk_exists (index))
        g_ptr_array_add (prune.old, lines[i]);
    }
  done = remove_parts (&prune, FALSE, error) && fsu_unlink (AT_FDCWD, note, error);
  g_ptr_array_unref (prune.old);
  g_free (prune.packs);
  return done;
}

/* ---------------------------------------------------------------------------------------------- all */

static gboolean
exchange_alone (Prune *prune, gboolean *ret_had_midx, GError **error)
{
  Repo *repo = prune->repo;
  gint64 until_us = MIN (prune->run->until_us, g_get_monotonic_time () + WRITERS_WAIT_US);
  int members;
  gboolean done;
  if (!repo_shut_out (repo, prune->run->call, until_us, error))
    return FALSE;
  members = pool_hold (repo, error);
  done = members >= 0 && pool_check_free (repo->storage, repo->dir, repo->id, error) && check_rest (prune, error)
         && check_graph (prune, error) && exchange (prune, ret_had_midx, error);
  repack_unlock (members);
  repo_let_in (repo);
  objects_drop_handles (repo);
  return done;
}

static gboolean
count_all (Prune *prune, PruneDone *ret_done, GError **error)
{
  PruneDone done = { 0 };
  for (guint i = 0; i < prune->old->len; i++)
    if (!count_pack (prune, "", prune->old->pdata[i], &done.objects, &done.bytes, error))
      return FALSE;
  if (prune->hash != NULL && !count_pack (prune, TEMPORARY "-", prune->hash, &done.kept, &done.kept_bytes, error))
    return FALSE;
  done.objects -= MIN (done.objects, done.kept);
  done.bytes -= MIN (done.bytes, done.kept_bytes);
  *ret_done = done;
  return TRUE;
}

static gboolean
prune_steps (Prune *prune, const PruneWish *wish, PruneDone *ret_done, GError **error)
{
  Storage *storage = prune->repo->storage;
  gboolean had_midx = FALSE;
  if (!note_position (prune, error) || !list_packs (prune, TRUE, error))
    return FALSE;
  if (prune->old->len == 0)
    return TRUE;
  if (!make_pack (prune, wish->grace_us, error) || !count_all (prune, ret_done, error))
    return FALSE;
  storage_crash_point (storage, "prune.packed");
  if (ret_done->objects == 0 || wish->dry_run)
    return TRUE;
  /* git takes a commit that the commit-graph knows for one that is there. */
  if (!repack_drop_graph (prune->repo, error)
      || (prune->kept->len > 0 && !repack_write_graph (prune->repo, prune->lock, TRUE, prune->run, error))
      || !check_all (prune, error))
    return FALSE;
  storage_crash_point (storage, "prune.checked");
  return exchange_alone (prune, &had_midx, error)
         && (!had_midx || prune->kept->len == 0 || repack_write_midx (prune->repo, prune->lock, prune->run, error));
}

gboolean
prune_run (Repo *repo, int lock, const PruneWish *wish, const RepackRun *run, PruneDone *ret_done, GError **error)
{
  Prune prune = { .repo = repo, .lock = lock, .run = run, .packs = g_strconcat (repo->objects, "/pack", NULL),
                  .old = g_ptr_array_new_with_free_func (g_free), .kept = g_ptr_array_new_with_free_func (g_free),
                  .tips = g_string_new (NULL) };
  PruneDone done = { 0 };
  gboolean good = prune_steps (&prune, wish, &done, error);
  drop_made (&prune);
  g_ptr_array_unref (prune.old);
  g_ptr_array_unref (prune.kept);
  g_string_free (prune.tips, TRUE);
  g_free (prune.packs);
  g_free (prune.hash);
  if (good)
    *ret_done = done;
  return good;
}
