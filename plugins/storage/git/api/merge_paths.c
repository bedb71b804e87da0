/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging without git, where no path was changed on both sides.
 *
 * merge-ort looks at renames, and a rename matters only to a path that the other side touched as well: one that
 * modified or moved what was moved away, or that put something into a folder that went. Such a path, or a folder on the
 * way to it, differs from the base on both sides, and here that is where we give up. The same change on both sides is
 * taken for a file that all three have; elsewhere it may be half of a rename.
 */
#include "change.h"

#include "../treeedit.h"

#include <string.h>

#define DEPTH_MAX 256u

typedef struct
{
  const char *name;
  ConflictSide side[3]; /* base, ours, theirs; mode 0 = absent */
} Row;

static gboolean merge_folder (Change *change, const ConflictSide side[3], guint depth, GsOid *ret_tree,
                              gboolean *ret_merged, GError **error);

static gboolean
same (const ConflictSide *a, const ConflictSide *b)
{
  return a->mode == b->mode && (a->mode == 0 || gs_oid_equal (&a->oid, &b->oid));
}

static gboolean
is_folder (const ConflictSide *side)
{
  return side->mode != 0 && odb_mode_type (side->mode) == GS_OBJECT_TREE;
}

static gboolean
is_file (const ConflictSide *side)
{
  return side->mode != 0 && odb_mode_type (side->mode) == GS_OBJECT_BLOB;
}

/* *@ret_taken FALSE: the sides cannot be told apart path by path. */
static gboolean
merge_row (Change *change, const Row *row, guint depth, ConflictSide *ret_entry, gboolean *ret_taken, GError **error)
{
  const ConflictSide *base = &row->side[0], *ours = &row->side[1], *theirs = &row->side[2];
  GsOid tree;
  *ret_taken = TRUE;
  if (same (base, theirs))
    *ret_entry = *ours;
  else if (same (base, ours))
    *ret_entry = *theirs;
  else if (same (ours, theirs) && is_file (base) && is_file (ours))
    *ret_entry = *ours;
  else if (is_folder (base) && is_folder (ours) && is_folder (theirs) && !same (ours, theirs))
    {
      if (!merge_folder (change, row->side, depth + 1, &tree, ret_taken, error))
        return FALSE;
      *ret_entry = (ConflictSide){ tree, ours->mode };
      /* A folder that nothing is left in goes, and whether it does is for git to say. */
      if (*ret_taken && tree.len == 0)
        *ret_taken = FALSE;
    }
  else
    *ret_taken = FALSE;
  return TRUE;
}

/* All names of the three folders. @bytes keeps what the rows' names point into. */
static gboolean
read_rows (Change *change, const ConflictSide side[3], GHashTable *rows, GPtrArray *bytes, GError **error)
{
  for (int i = 0; i < 3; i++)
    {
      GsObjectType type;
      GBytes *tree;
      const char *at, *name;
      gsize left;
      ConflictSide entry;
      if (!draft_read (change->draft, &side[i].oid, ODB_TREE_MAX, &type, &tree, error))
        {
          api_name_loss (&change->api, &side[i].oid, error);
          return FALSE;
        }
      g_ptr_array_add (bytes, tree);
      at = g_bytes_get_data (tree, &left);
      while (type == GS_OBJECT_TREE && odb_tree_next (&at, &left, &name, &entry.mode, &entry.oid))
        {
          Row *row = g_hash_table_lookup (rows, name);
          if (row == NULL)
            {
              row = g_new0 (Row, 1);
              row->name = name;
              g_hash_table_insert (rows, (gpointer) name, row);
            }
          row->side[i] = entry;
        }
      if (type != GS_OBJECT_TREE || left != 0)
        {
          gs_fail (error, GS_ERROR_DATA_LOSS, "a tree is damaged");
          api_name_loss (&change->api, &side[i].oid, error);
          return FALSE;
        }
    }
  return TRUE;
}

typedef struct
{
  const char *name;
  ConflictSide entry;
} Taken;

static int
taken_order (gconstpointer a, gconstpointer b)
{
  const Taken *x = a, *y = b;
  return tree_order (x->name, x->entry.mode, y->name, y->entry.mode);
}

static gboolean
write_folder (Change *change, GArray *taken, const ConflictSide side[3], GsOid *ret_tree, GError **error)
{
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  g_array_sort (taken, taken_order);
  for (guint i = 0; i < taken->len; i++)
    {
      const Taken *row = &g_array_index (taken, Taken, i);
      char mode[16];
      int len = g_snprintf (mode, sizeof mode, "%o ", row->entry.mode);
      g_byte_array_append (bytes, (const guint8 *) mode, (guint) len);
      g_byte_array_append (bytes, (const guint8 *) row->name, (guint) strlen (row->name) + 1);
      g_byte_array_append (bytes, row->entry.oid.raw, row->entry.oid.len);
    }
  if (bytes->len == 0)
    {
      memset (ret_tree, 0, sizeof *ret_tree);
      return TRUE;
    }
  if (!object_id (GS_OBJECT_TREE, bytes->data, bytes->len, ret_tree, error))
    return FALSE;
  return gs_oid_equal (ret_tree, &side[1].oid) || gs_oid_equal (ret_tree, &side[2].oid)
         || draft_add (change->draft, GS_OBJECT_TREE, bytes->data, bytes->len, ret_tree, error);
}

/* The recursion is as deep as the folders are, up to DEPTH_MAX. *@ret_tree has len 0 for an empty folder. */
static gboolean
merge_folder (Change *change, const ConflictSide side[3], guint depth, GsOid *ret_tree, gboolean *ret_merged,
              GError **error)
{
  g_autoptr (GHashTable) rows = g_hash_table_new_full (g_str_hash, g_str_equal, NULL, g_free);
  g_autoptr (GPtrArray) bytes = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  g_autoptr (GArray) taken = g_array_new (FALSE, FALSE, sizeof (Taken));
  GHashTableIter iter;
  gpointer value;
  *ret_merged = depth < DEPTH_MAX;
  if (!*ret_merged)
    return TRUE;
  if (!gs_call_check (change->call, "merging", error) || !read_rows (change, side, rows, bytes, error))
    return FALSE;
  g_hash_table_iter_init (&iter, rows);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      const Row *row = value;
      Taken one = { .name = row->name };
      if (!merge_row (change, row, depth, &one.entry, ret_merged, error))
        return FALSE;
      if (!*ret_merged)
        return TRUE;
      if (one.entry.mode != 0)
        g_array_append_val (taken, one);
    }
  return write_folder (change, taken, side, ret_tree, error);
}

gboolean
change_merge_paths (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs, GsOid *ret_tree,
                    gboolean *ret_merged, GError **error)
{
  const ConflictSide side[] = { { *base, 0040000 }, { *ours, 0040000 }, { *theirs, 0040000 } };
  if (!merge_folder (change, side, 0, ret_tree, ret_merged, error))
    return FALSE;
  if (*ret_merged && ret_tree->len == 0)
    *ret_merged = FALSE;
  return TRUE;
}
