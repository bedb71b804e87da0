/* SPDX-License-Identifier: Apache-2.0 */
/* What stands at paths: see trees.h. */
#include "history/trees.h"

#define TREES_BYTES_MAX (8u << 20)
#define TREE_CACHED_MAX (512u << 10)

static const guint8 empty_tree[HIST_RAW] = { 0x4b, 0x82, 0x5d, 0xc6, 0x42, 0xcb, 0x6e, 0xb9, 0xa0, 0x60,
                                             0xe5, 0x4b, 0xf8, 0xd6, 0x92, 0x88, 0xfb, 0xee, 0x49, 0x04 };

/* ------------------------------------------------------------------------------------------- paths */

static gboolean
bad_path (GError **error, const char *why)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "a path is not usable: %s", why);
}

static gboolean
part_ok (const char *part, gsize len)
{
  return len > 0 && !(len == 1 && part[0] == '.') && !(len == 2 && part[0] == '.' && part[1] == '.');
}

static gboolean
path_init (HistPath *path, const char *text, gsize len, GError **error)
{
  guint part = 0;
  if (len > 0 && text[len - 1] == '/')
    len--;
  if (len == 0 || len > HIST_PATH_MAX || memchr (text, '\0', len) != NULL)
    return bad_path (error, "it is empty, too long or has a NUL");
  path->text = g_strndup (text, len);
  path->len = len;
  path->n_parts = 1;
  for (gsize i = 0; i < len; i++)
    path->n_parts += text[i] == '/';
  if (path->n_parts > HIST_DEPTH_MAX)
    return bad_path (error, "it is too deep");
  path->keys = g_new0 (HistBloomKey, path->n_parts);
  for (gsize from = 0, i = 0; i <= len; i++)
    if (i == len || text[i] == '/')
      {
        if (!part_ok (text + from, i - from))
          return bad_path (error, "it has an empty, . or .. part");
        hist_bloom_key (text, i, &path->keys[part++]);
        path->text[i] = '\0';
        from = i + 1;
      }
  return TRUE;
}

static void
bytes_free (gpointer bytes)
{
  g_bytes_unref (bytes);
}

static guint
oid_hash (gconstpointer raw)
{
  guint hash;
  memcpy (&hash, raw, sizeof hash);
  return hash;
}

static gboolean
oid_equal (gconstpointer a, gconstpointer b)
{
  return memcmp (a, b, HIST_RAW) == 0;
}

HistPaths *
hist_paths_new (HistView *view, const char *const *texts, const gsize *lens, guint n, GError **error)
{
  HistPaths *paths = g_new0 (HistPaths, 1);
  paths->view = view;
  paths->paths = g_new0 (HistPath, MAX (n, 1));
  paths->n = n;
  paths->n_entries = 1;
  paths->states = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  paths->trees = g_hash_table_new_full (oid_hash, oid_equal, g_free, bytes_free);
  if (n > HIST_PATHS_MAX)
    {
      gs_fail (error, GS_ERROR_OUT_OF_RANGE, "there are %u paths; at most %u go into one call", n, HIST_PATHS_MAX);
      hist_paths_free (paths);
      return NULL;
    }
  for (guint i = 0; i < n; i++)
    {
      if (!path_init (&paths->paths[i], texts[i], lens[i], error))
        {
          hist_paths_free (paths);
          return NULL;
        }
      paths->paths[i].first = paths->n_entries;
      paths->n_entries += paths->paths[i].n_parts;
    }
  return paths;
}

void
hist_paths_free (HistPaths *paths)
{
  for (guint i = 0; i < paths->n && paths->n <= HIST_PATHS_MAX; i++)
    {
      g_free (paths->paths[i].text);
      g_free (paths->paths[i].keys);
    }
  g_free (paths->paths);
  g_free (paths->last);
  g_hash_table_unref (paths->states);
  g_hash_table_unref (paths->trees);
  g_free (paths);
}

/* ------------------------------------------------------------------------------------------- trees */

/* The modes that git tells apart. */
static guint32
plain_mode (guint32 mode)
{
  switch (mode & 0170000)
    {
    case 0100000:
      return (mode & 0100) != 0 ? 0100755 : 0100644;
    case 0120000:
    case 0040000:
      return mode & 0170000;
    default:
      return 0160000;
    }
}

gboolean
hist_tree_next (const char **at, gsize *left, const char **ret_name, gsize *ret_len, HistEntry *ret_entry)
{
  const char *p = *at, *end = *at + *left;
  guint32 mode = 0;
  for (; p < end && *p >= '0' && *p <= '7' && p < *at + 7; p++)
    mode = mode << 3 | (guint32) (*p - '0');
  if (p == *at || p >= end || *p != ' ')
    return FALSE;
  const char *name = p + 1, *nul = name < end ? memchr (name, '\0', (gsize) (end - name)) : NULL;
  if (nul == NULL || nul == name || end - nul < HIST_RAW + 1)
    return FALSE;
  *ret_name = name;
  *ret_len = (gsize) (nul - name);
  ret_entry->mode = plain_mode (mode);
  memcpy (ret_entry->oid, nul + 1, HIST_RAW);
  *at = nul + 1 + HIST_RAW;
  *left = (gsize) (end - *at);
  return TRUE;
}

static gboolean
bad_tree (const HistPaths *paths, const guint8 *oid, const char *why, GError **error)
{
  char hex[2 * HIST_RAW + 1];
  gs_hex (oid, HIST_RAW, hex);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "read tree %s of repository %" G_GUINT64_FORMAT ": %s", hex,
                  paths->view->repo->id, why);
}

GBytes *
hist_tree_read (HistPaths *paths, const guint8 *oid, GError **error)
{
  GBytes *bytes = g_hash_table_lookup (paths->trees, oid);
  g_autoptr (GError) why = NULL;
  GsOid id = { .len = HIST_RAW };
  GsObjectType type;
  if (bytes != NULL)
    return g_bytes_ref (bytes);
  if (memcmp (oid, empty_tree, HIST_RAW) == 0)
    return g_bytes_new_static ("", 0);
  memcpy (id.raw, oid, HIST_RAW);
  if (!odb_read (paths->view->repo, paths->view->handle, &id, ODB_TREE_MAX, &type, &bytes, &why))
    {
      bad_tree (paths, oid, why->message, error);
      return NULL;
    }
  if (type != GS_OBJECT_TREE)
    {
      g_bytes_unref (bytes);
      bad_tree (paths, oid, "it is no tree", error);
      return NULL;
    }
  gsize len = g_bytes_get_size (bytes);
  if (len <= TREE_CACHED_MAX)
    {
      if (paths->trees_bytes + len > TREES_BYTES_MAX)
        {
          g_hash_table_remove_all (paths->trees);
          paths->trees_bytes = 0;
        }
      paths->trees_bytes += len;
      g_hash_table_insert (paths->trees, g_memdup2 (oid, HIST_RAW), g_bytes_ref (bytes));
    }
  return bytes;
}

/* Entries are in order, so the search ends early. */
static gboolean
find_entry (HistPaths *paths, const guint8 *tree, const char *name, gsize name_len, HistEntry *ret_entry, GError **error)
{
  g_autoptr (GBytes) bytes = hist_tree_read (paths, tree, error);
  HistEntry entry;
  const char *at, *each;
  gsize left, len;
  if (bytes == NULL)
    return FALSE;
  memset (ret_entry, 0, sizeof *ret_entry);
  at = g_bytes_get_data (bytes, &left);
  while (hist_tree_next (&at, &left, &each, &len, &entry))
    {
      int order = memcmp (each, name, MIN (len, name_len));
      if (order > 0)
        return TRUE;
      if (order == 0 && len == name_len)
        {
          *ret_entry = entry;
          return TRUE;
        }
    }
  return left == 0 || bad_tree (paths, tree, "it is damaged", error);
}

/* ------------------------------------------------------------------------------------------ states */

static gboolean
same_entry (const HistEntry *a, const HistEntry *b)
{
  return a->mode == b->mode && (a->mode == 0 || memcmp (a->oid, b->oid, HIST_RAW) == 0);
}

/* Fills one path's entries; from where the folder is the same as in @known, all below is. */
static gboolean
read_path (HistPaths *paths, const HistPath *path, const HistEntry *known, HistEntry *state, GError **error)
{
  const char *part = path->text;
  for (guint i = 0; i < path->n_parts; i++)
    {
      guint above = i > 0 ? path->first + i - 1 : 0;
      HistEntry *entry = &state[path->first + i];
      if (known != NULL && same_entry (&known[above], &state[above]))
        {
          memcpy (entry, known + path->first + i, (path->n_parts - i) * sizeof *entry);
          return TRUE;
        }
      memset (entry, 0, sizeof *entry);
      if (state[above].mode == 0040000 && !find_entry (paths, state[above].oid, part, strlen (part), entry, error))
        return FALSE;
      part += strlen (part) + 1;
    }
  /* Git does not see a folder without files. */
  HistEntry *end = &state[path->first + path->n_parts - 1];
  if (end->mode == 0040000 && memcmp (end->oid, empty_tree, HIST_RAW) == 0)
    memset (end, 0, sizeof *end);
  return TRUE;
}

static void
trim_states (HistPaths *paths)
{
  if (g_hash_table_size (paths->states) + 2 > HIST_STATES_MAX)
    g_hash_table_remove_all (paths->states);
}

/* Borrowed until trim_states. */
static const HistEntry *
state_of (HistPaths *paths, guint32 pos, GError **error)
{
  HistEntry *state = g_hash_table_lookup (paths->states, GUINT_TO_POINTER (pos));
  HistCommit commit;
  if (state != NULL)
    return state;
  if (!hist_view_commit (paths->view, pos, &commit, error))
    return NULL;
  state = g_new0 (HistEntry, paths->n_entries);
  state[0].mode = 0040000;
  memcpy (state[0].oid, commit.tree, HIST_RAW);
  for (guint i = 0; i < paths->n; i++)
    if (!read_path (paths, &paths->paths[i], paths->last, state, error))
      {
        g_free (state);
        return NULL;
      }
  if (paths->last == NULL)
    paths->last = g_new (HistEntry, paths->n_entries);
  memcpy (paths->last, state, paths->n_entries * sizeof *state);
  g_hash_table_insert (paths->states, GUINT_TO_POINTER (pos), state);
  return state;
}

gboolean
hist_paths_unchanged (HistPaths *paths, guint32 commit)
{
  HistFilter filter;
  if (!hist_in_graph (paths->view, commit))
    return FALSE;
  hist_graph_filter (paths->view->graph, commit, &filter);
  if (filter.len == 0)
    return FALSE;
  for (guint i = 0; i < paths->n; i++)
    {
      guint part = paths->paths[i].n_parts;
      while (part > 0 && hist_filter_maybe (&filter, &paths->paths[i].keys[part - 1]))
        part--;
      if (part == 0)
        return FALSE;
    }
  return TRUE;
}

gboolean
hist_paths_same (HistPaths *paths, guint32 commit, guint32 parent, guint32 nth, gboolean *ret_same, GError **error)
{
  HistCommit one, other;
  gboolean same = TRUE;
  if (!hist_view_commit (paths->view, commit, &one, error) || !hist_view_commit (paths->view, parent, &other, error))
    return FALSE;
  if (memcmp (one.tree, other.tree, HIST_RAW) == 0 || (nth == 0 && hist_paths_unchanged (paths, commit)))
    {
      *ret_same = TRUE;
      return TRUE;
    }
  trim_states (paths);
  const HistEntry *mine = state_of (paths, commit, error);
  const HistEntry *its = mine != NULL ? state_of (paths, parent, error) : NULL;
  if (its == NULL)
    return FALSE;
  for (guint i = 0; i < paths->n && same; i++)
    {
      guint end = paths->paths[i].first + paths->paths[i].n_parts - 1;
      same = same_entry (&mine[end], &its[end]);
    }
  *ret_same = same;
  return TRUE;
}

gboolean
hist_paths_empty (HistPaths *paths, guint32 commit, gboolean *ret_empty, GError **error)
{
  trim_states (paths);
  const HistEntry *state = state_of (paths, commit, error);
  gboolean empty = TRUE;
  if (state == NULL)
    return FALSE;
  for (guint i = 0; i < paths->n; i++)
    empty = empty && state[paths->paths[i].first + paths->paths[i].n_parts - 1].mode == 0;
  *ret_empty = empty;
  return TRUE;
}

gboolean
hist_paths_entry (HistPaths *paths, guint32 commit, HistEntry *ret_entry, GError **error)
{
  trim_states (paths);
  const HistEntry *state = state_of (paths, commit, error);
  if (state == NULL)
    return FALSE;
  *ret_entry = paths->n > 0 ? state[paths->paths[0].first + paths->paths[0].n_parts - 1] : state[0];
  return TRUE;
}
