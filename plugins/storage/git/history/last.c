/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who changed a path last: see last.h. With git's default simplification the way to the answer never forks: as long as
 * some parent has the same, the first such one is followed.
 */
#include "history/last.h"

void
hist_last_clear (gpointer last)
{
  g_free (((HistLast *) last)->name);
}

gboolean
hist_last_for_path (HistView *view, guint32 tip, HistPaths *path, guint32 *ret_pos, GError **error)
{
  HistCommit commit;
  for (guint32 pos = tip;;)
    {
      guint32 next = HIST_NONE;
      gboolean same = FALSE, empty = FALSE;
      if (!hist_tick (view, error) || !hist_view_commit (view, pos, &commit, error))
        return FALSE;
      for (guint32 i = 0; i < commit.n_parents && !same; i++)
        {
          next = hist_parent (&commit, i);
          if (!hist_paths_same (path, pos, next, i, &same, error))
            return FALSE;
        }
      if (commit.n_parents == 0 && !hist_paths_empty (path, pos, &empty, error))
        return FALSE;
      if (!same)
        {
          *ret_pos = empty ? HIST_NONE : pos;
          return TRUE;
        }
      pos = next;
    }
}

/* ----------------------------------------------------------------------------------------- a folder */

typedef struct
{
  HistView *view;
  HistPaths *folder;
  HistLast *lasts;    /* in the tree's order */
  HistBloomKey *keys; /* of their whole paths */
  guint n;
  GHashTable *waiting; /* position -> GArray of indices into lasts: who has come down to this commit */
  HistQueue queue;
} Folder;

static void
array_free (gpointer array)
{
  g_array_unref (array);
}

static gboolean
wait_at (Folder *folder, guint32 pos, guint32 index, GError **error)
{
  GArray *there = g_hash_table_lookup (folder->waiting, GUINT_TO_POINTER (pos));
  HistCommit commit;
  if (there == NULL)
    {
      if (!hist_view_commit (folder->view, pos, &commit, error))
        return FALSE;
      there = g_array_new (FALSE, FALSE, sizeof (guint32));
      g_hash_table_insert (folder->waiting, GUINT_TO_POINTER (pos), there);
      hist_queue_push (&folder->queue, pos, commit.generation, commit.date);
    }
  g_array_append_val (there, index);
  return TRUE;
}

/* A folder sorts as if a slash were behind its name. */
static int
order (const char *a, gsize a_len, guint32 a_mode, const char *b, gsize b_len, guint32 b_mode)
{
  gsize len = MIN (a_len, b_len);
  int differs = memcmp (a, b, len);
  if (differs != 0)
    return differs;
  guchar x = a_len > len ? (guchar) a[len] : a_mode == 0040000 ? '/' : '\0';
  guchar y = b_len > len ? (guchar) b[len] : b_mode == 0040000 ? '/' : '\0';
  return (int) x - (int) y;
}

/* Keeps in @rest those that @parent does not have the same. */
static gboolean
compare_folder (Folder *folder, guint32 parent, GArray *rest, GError **error)
{
  HistEntry tree, entry;
  const char *at, *name;
  gsize left, len;
  guint kept = 0, i = 0;
  if (!hist_paths_entry (folder->folder, parent, &tree, error))
    return FALSE;
  if (tree.mode != 0040000)
    return TRUE;
  g_autoptr (GBytes) bytes = hist_tree_read (folder->folder, tree.oid, error);
  if (bytes == NULL)
    return FALSE;
  at = g_bytes_get_data (bytes, &left);
  gboolean more = hist_tree_next (&at, &left, &name, &len, &entry);
  guint32 *items = (guint32 *) (gpointer) rest->data;
  while (i < rest->len)
    {
      const HistLast *last = &folder->lasts[items[i]];
      int which = more ? order (last->name, last->name_len, last->entry.mode, name, len, entry.mode) : -1;
      gboolean same = FALSE;
      if (which > 0)
        {
          more = hist_tree_next (&at, &left, &name, &len, &entry);
          continue;
        }
      if (which == 0)
        same = last->entry.mode == entry.mode && memcmp (last->entry.oid, entry.oid, HIST_RAW) == 0;
      if (same && !wait_at (folder, parent, items[i], error))
        return FALSE;
      if (!same)
        items[kept++] = items[i];
      i++;
    }
  g_array_set_size (rest, kept);
  return TRUE;
}

/* What the filter rules out goes on without a look at any tree. */
static gboolean
filter_folder (Folder *folder, guint32 pos, guint32 parent, GArray *rest, GError **error)
{
  HistFilter filter = { .len = 0 };
  guint32 *items = (guint32 *) (gpointer) rest->data;
  guint kept = 0;
  if (hist_in_graph (folder->view, pos))
    hist_graph_filter (folder->view->graph, pos, &filter);
  if (filter.len == 0)
    return TRUE;
  for (guint i = 0; i < rest->len; i++)
    if (hist_filter_maybe (&filter, &folder->keys[items[i]]))
      items[kept++] = items[i];
    else if (!wait_at (folder, parent, items[i], error))
      return FALSE;
  g_array_set_size (rest, kept);
  return TRUE;
}

static gint
by_index (gconstpointer a, gconstpointer b)
{
  guint32 x = *(const guint32 *) a, y = *(const guint32 *) b;
  return x < y ? -1 : x > y;
}

static gboolean
settle (Folder *folder, guint32 pos, GArray *here, GError **error)
{
  HistCommit commit;
  if (!hist_view_commit (folder->view, pos, &commit, error))
    return FALSE;
  g_array_sort (here, by_index);
  for (guint32 i = 0; i < commit.n_parents && here->len > 0; i++)
    {
      guint32 parent = hist_parent (&commit, i);
      if ((i == 0 && !filter_folder (folder, pos, parent, here, error))
          || (here->len > 0 && !compare_folder (folder, parent, here, error)))
        return FALSE;
    }
  for (guint i = 0; i < here->len; i++)
    folder->lasts[g_array_index (here, guint32, i)].commit = pos;
  return TRUE;
}

static gboolean
walk_folder (Folder *folder, guint32 tip, GError **error)
{
  HistItem item;
  for (guint32 i = 0; i < folder->n; i++)
    if (!wait_at (folder, tip, i, error))
      return FALSE;
  while (hist_queue_pop (&folder->queue, &item))
    {
      gpointer here;
      if (!hist_tick (folder->view, error)
          || !g_hash_table_steal_extended (folder->waiting, GUINT_TO_POINTER (item.pos), NULL, &here))
        return FALSE;
      gboolean done = settle (folder, item.pos, here, error);
      g_array_unref (here);
      if (!done)
        return FALSE;
    }
  return TRUE;
}

static gboolean
read_folder (HistPaths *path, guint32 tip, guint from, guint to, GArray *out, guint *ret_n, GError **error)
{
  HistEntry tree, entry;
  const char *at, *name;
  gsize left, len;
  guint n = 0;
  if (!hist_paths_entry (path, tip, &tree, error))
    return FALSE;
  if (tree.mode != 0040000)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "path: there is no such directory in that commit");
  g_autoptr (GBytes) bytes = hist_tree_read (path, tree.oid, error);
  if (bytes == NULL)
    return FALSE;
  at = g_bytes_get_data (bytes, &left);
  for (; hist_tree_next (&at, &left, &name, &len, &entry); n++)
    if (n >= from && n < to)
      {
        HistLast last = { g_strndup (name, len), len, entry, HIST_NONE };
        g_array_append_val (out, last);
      }
  *ret_n = n;
  return left == 0 || gs_fail (error, GS_ERROR_DATA_LOSS, "the folder's tree is damaged");
}

static HistBloomKey *
make_keys (const HistPaths *path, const HistLast *lasts, guint n)
{
  HistBloomKey *keys = g_new (HistBloomKey, MAX (n, 1));
  g_autoptr (GString) whole = g_string_new (NULL);
  gsize prefix = 0;
  if (path->n > 0)
    {
      g_string_append_len (whole, path->paths[0].text, (gssize) path->paths[0].len);
      for (gsize i = 0; i < whole->len; i++)
        if (whole->str[i] == '\0')
          whole->str[i] = '/';
      g_string_append_c (whole, '/');
      prefix = whole->len;
    }
  for (guint i = 0; i < n; i++)
    {
      g_string_truncate (whole, prefix);
      g_string_append_len (whole, lasts[i].name, (gssize) lasts[i].name_len);
      hist_bloom_key (whole->str, whole->len, &keys[i]);
    }
  return keys;
}

gboolean
hist_last_for_tree (HistView *view, guint32 tip, HistPaths *path, guint from, guint to, GArray *out, guint *ret_n,
                    GError **error)
{
  guint n = 0;
  if (!read_folder (path, tip, from, to, out, &n, error))
    return FALSE;
  Folder folder = { .view = view, .folder = path, .lasts = (HistLast *) (gpointer) out->data, .n = out->len };
  folder.keys = make_keys (path, folder.lasts, folder.n);
  folder.waiting = g_hash_table_new_full (NULL, NULL, NULL, array_free);
  hist_queue_init (&folder.queue);
  gboolean done = walk_folder (&folder, tip, error);
  hist_queue_clear (&folder.queue);
  g_hash_table_unref (folder.waiting);
  g_free (folder.keys);
  if (done)
    *ret_n = n;
  return done;
}
