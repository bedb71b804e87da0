/* SPDX-License-Identifier: Apache-2.0 */
/* Records made of replicas. See rebuild.h. */
#include "router/rebuild.h"

#define LOST_AND_FOUND "lost-and-found/"

#define KIND(kind_) GITSTEAD__V1__CLUSTER_REBUILD_CONFLICT_KIND__CLUSTER_REBUILD_##kind_

void
gsi_seen_free (gpointer data)
{
  GsiSeen *seen = data;
  g_free (seen->replica_path);
  g_free (seen->virtual_storage);
  g_free (seen->path);
  g_free (seen->consistency);
  g_free (seen);
}

void
gsi_conflict_free (gpointer data)
{
  GsiConflict *conflict = data;
  g_free (conflict->storage);
  g_free (conflict->text);
  g_free (conflict);
}

void
gsi_conflict_add (GPtrArray *conflicts, Gitstead__V1__ClusterRebuildConflictKind kind, guint64 id,
                  const char *storage, gboolean blocks, char *text)
{
  GsiConflict *conflict = g_new (GsiConflict, 1);
  *conflict = (GsiConflict) { kind, id, g_strdup (storage), text, blocks };
  g_ptr_array_add (conflicts, conflict);
}

void
gsi_rebuilt_free (gpointer data)
{
  GsiRebuilt *rebuilt = data;
  g_free (rebuilt->virtual_storage);
  g_free (rebuilt->path);
  g_ptr_array_unref (rebuilt->replicas);
  g_free (rebuilt);
}

/* --------------------------------------------------------------------------------------- one repository */

/* The one that counts: most writes, then the newest label; the order of what was found plays no part. */
static int
by_worth (gconstpointer left, gconstpointer right)
{
  const GsiSeen *a = *(GsiSeen *const *) left, *b = *(GsiSeen *const *) right;
  if (a->generation != b->generation)
    return a->generation > b->generation ? -1 : 1;
  if (a->version != b->version)
    return a->version > b->version ? -1 : 1;
  return strcmp (a->storage, b->storage);
}

/* Replicas of one repository are in one folder on every storage. */
static void
take_placed (GsiRebuilt *rebuilt, GPtrArray *seen, GPtrArray *conflicts)
{
  for (guint i = 0; i < seen->len; i++)
    {
      GsiSeen *one = seen->pdata[i];
      gboolean twice = FALSE;
      for (guint k = 0; k < rebuilt->replicas->len; k++)
        twice = twice || strcmp (((GsiSeen *) rebuilt->replicas->pdata[k])->storage, one->storage) == 0;
      if (strcmp (one->replica_path, rebuilt->replica_path) == 0 && !twice)
        g_ptr_array_add (rebuilt->replicas, one);
      else
        gsi_conflict_add (conflicts, KIND (MISPLACED), one->id, one->storage, TRUE,
                          g_strdup_printf ("%s is a replica (generation %" G_GUINT64_FORMAT ") of repository %" G_GUINT64_FORMAT
                                           " too, whose folder is %s: it is left out",
                                           one->replica_path, one->generation, one->id, rebuilt->replica_path));
    }
}

static void
take_refs (GsiRebuilt *rebuilt, GPtrArray *conflicts)
{
  const GsiSeen *best = rebuilt->replicas->pdata[0];
  rebuilt->generation = best->generation;
  rebuilt->refs_digest = best->refs_digest;
  for (guint i = 1; i < rebuilt->replicas->len; i++)
    {
      const GsiSeen *one = rebuilt->replicas->pdata[i];
      if (one->generation == best->generation)
        rebuilt->lost = rebuilt->lost || memcmp (&one->refs_digest, &best->refs_digest, sizeof one->refs_digest) != 0;
      else
        gsi_conflict_add (conflicts, KIND (BEHIND), one->id, one->storage, FALSE,
                          g_strdup_printf ("its replica is at generation %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                                           ": it is recorded as behind, and repaired",
                                           one->generation, best->generation));
    }
  if (!rebuilt->lost)
    return;
  gsi_conflict_add (conflicts, KIND (DIVERGED), rebuilt->id, NULL, FALSE,
                    g_strdup_printf ("its replicas have different refs at generation %" G_GUINT64_FORMAT
                                     ": none is trusted; it is recorded as lost, and 'gitstead cluster accept-dataloss' "
                                     "says which one counts",
                                     best->generation));
  rebuilt->generation++;
  memset (&rebuilt->refs_digest, 0, sizeof rebuilt->refs_digest);
}

static gboolean
same_name (const GsiSeen *a, const GsiSeen *b)
{
  return strcmp (a->virtual_storage, b->virtual_storage) == 0 && strcmp (a->path, b->path) == 0 && a->copies == b->copies
         && strcmp (a->consistency, b->consistency) == 0;
}

static void
take_label (GsiRebuilt *rebuilt, GPtrArray *conflicts)
{
  const GsiSeen *newest = NULL;
  for (guint i = 0; i < rebuilt->replicas->len; i++)
    {
      const GsiSeen *one = rebuilt->replicas->pdata[i];
      if (one->version > 0 && (newest == NULL || one->version > newest->version))
        newest = one;
    }
  for (guint i = 0; newest != NULL && i < rebuilt->replicas->len; i++)
    {
      const GsiSeen *one = rebuilt->replicas->pdata[i];
      if (one->version == newest->version && !same_name (one, newest))
        gsi_conflict_add (conflicts, KIND (NAMES_DIFFER), one->id, one->storage, FALSE,
                          g_strdup_printf ("its replica is labelled '%s:%s', that on %s '%s:%s', and neither label is newer: "
                                           "the latter holds",
                                           one->virtual_storage, one->path, newest->storage, newest->virtual_storage,
                                           newest->path));
    }
  rebuilt->consistency = "";
  if (newest == NULL)
    {
      rebuilt->path = g_strdup_printf (LOST_AND_FOUND "%" G_GUINT64_FORMAT ".git", rebuilt->id);
      gsi_conflict_add (conflicts, KIND (NAMELESS), rebuilt->id, NULL, FALSE,
                        g_strdup_printf ("no replica says what it is called: it becomes '%s'", rebuilt->path));
      return;
    }
  rebuilt->version = newest->version;
  rebuilt->virtual_storage = g_strdup (newest->virtual_storage);
  rebuilt->path = g_strdup (newest->path);
  rebuilt->copies = newest->copies;
  rebuilt->consistency = newest->consistency;
  rebuilt->created_us = newest->created_us;
}

GsiRebuilt *
gsi_rebuild_merge (GPtrArray *seen, GPtrArray *conflicts)
{
  GsiRebuilt *rebuilt = g_new0 (GsiRebuilt, 1);
  const GsiSeen *best;
  g_ptr_array_sort (seen, by_worth);
  best = seen->pdata[0];
  rebuilt->id = best->id;
  rebuilt->replica_path = best->replica_path;
  rebuilt->format = best->format;
  rebuilt->replicas = g_ptr_array_new ();
  take_placed (rebuilt, seen, conflicts);
  take_refs (rebuilt, conflicts);
  take_label (rebuilt, conflicts);
  return rebuilt;
}

/* ------------------------------------------------------------------------------------------ all of them */

static int
by_naming (gconstpointer left, gconstpointer right)
{
  const GsiRebuilt *a = *(GsiRebuilt *const *) left, *b = *(GsiRebuilt *const *) right;
  if (a->version != b->version)
    return a->version > b->version ? -1 : 1;
  return a->id > b->id ? -1 : 1;
}

static int
by_id (gconstpointer left, gconstpointer right)
{
  const GsiRebuilt *a = *(GsiRebuilt *const *) left, *b = *(GsiRebuilt *const *) right;
  return a->id < b->id ? -1 : a->id > b->id;
}

/* Names that differ in case only collide in the metadata store. *full*. */
static char *
name_key (const GsiRebuilt *rebuilt)
{
  g_autofree char *folded = g_utf8_casefold (rebuilt->path, -1), *normal = g_utf8_normalize (folded, -1, G_NORMALIZE_ALL);
  return g_strconcat (rebuilt->virtual_storage, "\n", normal != NULL ? normal : folded, NULL);
}

void
gsi_rebuild_names (GPtrArray *all, GsiPathTaken taken, gpointer user, GPtrArray *conflicts)
{
  g_autoptr (GHashTable) owners = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  g_ptr_array_sort (all, by_naming);
  for (guint i = 0; i < all->len; i++)
    {
      GsiRebuilt *one = all->pdata[i];
      g_autofree char *key = name_key (one);
      const GsiRebuilt *owner = g_hash_table_lookup (owners, key);
      if (owner != NULL || taken (one->virtual_storage, one->path, user))
        {
          g_autofree char *whose = owner != NULL ? g_strdup_printf ("repository %" G_GUINT64_FORMAT ", which was named later,",
                                                                    owner->id)
                                                 : g_strdup ("a repository that is recorded");
          char *path = g_strdup_printf (LOST_AND_FOUND "%" G_GUINT64_FORMAT "/%s", one->id, one->path);
          gsi_conflict_add (conflicts, KIND (PATH_TAKEN), one->id, NULL, FALSE,
                            g_strdup_printf ("'%s:%s' is the path of %s too: it becomes '%s'", one->virtual_storage,
                                             one->path, whose, path));
          g_free (one->path);
          one->path = path;
          g_free (key);
          key = name_key (one);
        }
      g_hash_table_insert (owners, g_steal_pointer (&key), one);
    }
  g_ptr_array_sort (all, by_id);
}
