/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging, where merge_paths.c cannot, by git's own merge-ort: `git merge-tree --write-tree` in a quarantine, of which
 * only what the result needs comes into the draft.
 *
 * git 2.39 merges two commits by the bases that their history has and takes no base from the caller. To repeat or take
 * back one commit's change, three commits are made up in the quarantine, one for each tree, with the base as the only
 * parent of the other two: their history has exactly the base that is meant.
 */
#include "change.h"

#include "../child.h"
#include "../history/relate.h"
#include "../scratch.h"

#include <string.h>
#include <sys/wait.h>

#define ANSWER_MAX (64u << 20)
#define CONFLICTS_MAX 10000u
#define MESSAGES_MAX 1000u

char *
change_scratch (Change *change, GError **error)
{
  if (change->scratch == NULL)
    {
      GsTxId name;
      change->storage->host->random (change->storage->host, name.bytes, sizeof name.bytes);
      if (!quarantine_make (change->repo, &name, &change->scratch, error))
        return NULL;
    }
  return quarantine_objects_dir (change->repo, change->scratch);
}

gboolean
change_is_ancestor (Change *change, const GsOid *ancestor, const GsOid *commit, gboolean *ret_is, GError **error)
{
  guint32 a, b;
  g_autoptr (HistView) view = hist_view_open (change->repo, change->call, error);
  return view != NULL && (a = hist_view_find (view, ancestor->raw, error)) != HIST_NONE
         && (b = hist_view_find (view, commit->raw, error)) != HIST_NONE
         && hist_is_ancestor (view, a, b, ret_is, error);
}

/* The only merge base, len 0 when there is none or more than one. */
static gboolean
single_base (Change *change, const GsOid *ours, const GsOid *theirs, GsOid *ret_base, GError **error)
{
  guint32 a, b;
  g_autoptr (GArray) bases = g_array_new (FALSE, FALSE, sizeof (guint32));
  g_autoptr (HistView) view = hist_view_open (change->repo, change->call, error);
  memset (ret_base, 0, sizeof *ret_base);
  if (view == NULL || (a = hist_view_find (view, ours->raw, error)) == HIST_NONE
      || (b = hist_view_find (view, theirs->raw, error)) == HIST_NONE
      || !hist_merge_bases (view, a, &b, 1, bases, error))
    return FALSE;
  if (bases->len == 1)
    hist_view_gs_oid (view, g_array_index (bases, guint32, 0), ret_base);
  return TRUE;
}

/* ------------------------------------------------------------------------------- what git answers */

/* The answer is a sequence of fields that end with NUL. */
typedef struct
{
  const char *at, *end;
} Fields;

static const char *
next_field (Fields *fields)
{
  const char *field = fields->at;
  const char *nul = fields->at < fields->end ? memchr (fields->at, '\0', (gsize) (fields->end - fields->at)) : NULL;
  if (nul == NULL)
    return NULL;
  fields->at = nul + 1;
  return field;
}

static Conflict *
conflict_at (Change *change, const char *path)
{
  Conflict *last = change->conflicts->len > 0 ? change->conflicts->pdata[change->conflicts->len - 1] : NULL;
  if (last != NULL && strcmp (last->path, path) == 0)
    return last;
  last = g_new0 (Conflict, 1);
  last->path = g_strdup (path);
  g_ptr_array_add (change->conflicts, last);
  return last;
}

/* "<mode> <oid> <stage>\t<path>" */
static gboolean
read_stage (Change *change, const char *row)
{
  char *after;
  guint64 mode = g_ascii_strtoull (row, &after, 8);
  GsOid oid;
  if (*after != ' ' || strlen (after) < 45 || !gs_oid_parse (after + 1, 40, &oid) || after[41] != ' ' || after[42] < '1'
      || after[42] > '3' || after[43] != '\t')
    return FALSE;
  if (change->conflicts->len <= CONFLICTS_MAX)
    {
      Conflict *conflict = conflict_at (change, after + 44);
      conflict->side[after[42] - '1'] = (ConflictSide){ oid, (guint32) mode };
    }
  return TRUE;
}

gboolean
change_read_stages (Change *change, const char *data, gsize len)
{
  const char *row;
  if (len == 0)
    return TRUE; /* then there is no data to point into either */
  Fields fields = { data, data + len };
  while ((row = next_field (&fields)) != NULL)
    if (!read_stage (change, row))
      return FALSE;
  return TRUE;
}

/* "<n>", n paths, the kind, the message */
static void
read_messages (Change *change, Fields *fields)
{
  const char *count, *message;
  while ((count = next_field (fields)) != NULL && change->messages->len < MESSAGES_MAX)
    {
      for (guint64 n = g_ascii_strtoull (count, NULL, 10); n > 0; n--)
        if (next_field (fields) == NULL)
          return;
      message = next_field (fields) != NULL ? next_field (fields) : NULL;
      if (message == NULL)
        return;
      if (!g_str_has_prefix (message, "Auto-merging"))
        g_ptr_array_add (change->messages, g_strchomp (g_strdup (message)));
    }
}

static gboolean
read_answer (Change *change, GBytes *answer, gboolean clean, GsOid *ret_tree)
{
  gsize len;
  const char *data = g_bytes_get_data (answer, &len), *row;
  Fields fields = { data, data + len };
  row = next_field (&fields);
  if (row == NULL || !gs_oid_parse (row, strlen (row), ret_tree))
    return FALSE;
  if (clean)
    return TRUE;
  while ((row = next_field (&fields)) != NULL && *row != '\0')
    if (!read_stage (change, row))
      return FALSE;
  read_messages (change, &fields);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- merging */

static gboolean
run_merge_tree (Change *change, const GsOid *ours, const GsOid *theirs, gboolean unrelated,
                const char *const *settings, GsOid *ret_tree, gboolean *ret_clean, GError **error)
{
  char a[GS_OID_HEX_MAX + 1], b[GS_OID_HEX_MAX + 1];
  const char *argv[8];
  g_autofree char *objects = change_scratch (change, error), *said = NULL;
  g_autoptr (GBytes) answer = NULL;
  int status, n = 0;
  if (objects == NULL || !draft_export (change->draft, objects, error))
    return FALSE;
  gs_oid_hex (ours, a);
  gs_oid_hex (theirs, b);
  argv[n++] = "merge-tree";
  argv[n++] = "--write-tree";
  argv[n++] = "-z";
  argv[n++] = "--messages";
  if (unrelated)
    argv[n++] = "--allow-unrelated-histories";
  argv[n++] = a;
  argv[n++] = b;
  argv[n] = NULL;
  const ChildSpec spec = { .role = CHILD_PLAIN,
                           .git_dir = change->repo->dir,
                           .argv = argv,
                           .quarantine = objects,
                           .alternate = change->repo->objects,
                           .settings = settings,
                           .input = -1,
                           .output = -1,
                           .extra = -1 };
  if (!child_run (change->storage, &spec, change->call, NULL, ANSWER_MAX, &answer, &status, &said, error))
    return FALSE;
  if (WIFEXITED (status) && WEXITSTATUS (status) == 128 && strstr (said, "unrelated histories") != NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the two histories have nothing in common; allow_unrelated merges them nevertheless");
  if (!WIFEXITED (status) || WEXITSTATUS (status) > 1)
    return gs_fail (error, child_failure (status, said),
                    "git merge-tree of %s and %s failed in repository %" G_GUINT64_FORMAT ": %s", a, b,
                    change->repo->id, said);
  *ret_clean = WEXITSTATUS (status) == 0;
  storage_crash_point (change->storage, "change.merged");
  if (!read_answer (change, answer, *ret_clean, ret_tree))
    return gs_fail (error, GS_ERROR_INTERNAL, "git merge-tree gave an answer that is not understood");
  if (!*ret_clean)
    change->outcome = GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_CONFLICT;
  return TRUE;
}

/* A commit that nobody else ever sees. */
static gboolean
make_up_commit (const char *objects, const GsOid *tree, const GsOid *parent, GsOid *ret_oid, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  g_autoptr (GString) text = g_string_new (NULL);
  gs_oid_hex (tree, hex);
  g_string_append_printf (text, "tree %s\n", hex);
  if (parent != NULL)
    {
      gs_oid_hex (parent, hex);
      g_string_append_printf (text, "parent %s\n", hex);
    }
  g_string_append (text, "author Gitstead <gitstead@localhost> 0 +0000\ncommitter Gitstead <gitstead@localhost> 0 "
                         "+0000\n\nmerge\n");
  return scratch_write (objects, GS_OBJECT_COMMIT, text->str, text->len, ret_oid, error);
}

static void
put_name (char **text, const GsOid *made_up, const char *name)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (made_up, hex);
  if (strstr (*text, hex) == NULL)
    return;
  g_autoptr (GString) named = g_string_new (*text);
  g_string_replace (named, hex, name, 0);
  g_free (*text);
  *text = g_string_free (g_steal_pointer (&named), FALSE);
}

static int
conflict_order (gconstpointer a, gconstpointer b)
{
  return strcmp ((*(const Conflict *const *) a)->path, (*(const Conflict *const *) b)->path);
}

/* git's words, and its paths for what is in the way of another ("dir~SIDE"), name commits that nobody else ever sees. */
static void
name_sides (Change *change, const GsOid *ours, const GsOid *theirs, const MergeNames *names)
{
  for (guint i = 0; i < change->messages->len; i++)
    {
      put_name ((char **) &change->messages->pdata[i], ours, names->ours);
      put_name ((char **) &change->messages->pdata[i], theirs, names->theirs);
    }
  for (guint i = 0; i < change->conflicts->len; i++)
    {
      Conflict *conflict = change->conflicts->pdata[i];
      put_name (&conflict->path, ours, names->ours);
      put_name (&conflict->path, theirs, names->theirs);
    }
  g_ptr_array_sort (change->conflicts, conflict_order);
}

/* By git, of any three trees that it can read; @known: those that refs reach. */
static gboolean
merge_apart (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs, const MergeNames *names,
             const char *const *settings, const GsOid *known, gsize n_known, GsOid *ret_tree, gboolean *ret_clean,
             GError **error)
{
  GsOid base_commit, our_commit, their_commit;
  g_autofree char *objects = change_scratch (change, error);
  if (objects == NULL || !make_up_commit (objects, base, NULL, &base_commit, error)
      || !make_up_commit (objects, ours, &base_commit, &our_commit, error)
      || !make_up_commit (objects, theirs, &base_commit, &their_commit, error)
      || !run_merge_tree (change, &our_commit, &their_commit, FALSE, settings, ret_tree, ret_clean, error))
    return FALSE;
  if (*ret_clean)
    return change_collect (change, ret_tree, known, n_known, error);
  name_sides (change, &our_commit, &their_commit, names);
  return TRUE;
}

/* What only one side changed needs no merge. */
static gboolean
merge_at_once (const GsOid *base, const GsOid *ours, const GsOid *theirs, GsOid *ret_tree)
{
  if (!gs_oid_equal (base, theirs) && !gs_oid_equal (ours, theirs) && !gs_oid_equal (base, ours))
    return FALSE;
  *ret_tree = gs_oid_equal (base, ours) ? *theirs : *ours;
  return TRUE;
}

gboolean
change_merge_trees (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs, const MergeNames *names,
                    GsOid *ret_tree, gboolean *ret_clean, GError **error)
{
  const GsOid known[] = { *ours, *theirs, *base };
  gboolean merged;
  *ret_clean = TRUE;
  if (merge_at_once (base, ours, theirs, ret_tree))
    return TRUE;
  if (!change_merge_paths (change, base, ours, theirs, ret_tree, &merged, error))
    return FALSE;
  return merged
         || merge_apart (change, base, ours, theirs, names, NULL, known, G_N_ELEMENTS (known), ret_tree, ret_clean, error);
}

gboolean
change_merge_patch (Change *change, const GsOid *base, const GsOid *ours, const GsOid *theirs, const MergeNames *names,
                    GsOid *ret_tree, gboolean *ret_clean, GError **error)
{
  /* Of the folders only what the patch names is known: whether one was moved cannot be seen of that. */
  static const char *const settings[] = { "merge.directoryRenames", "false", NULL };
  return merge_apart (change, base, ours, theirs, names, settings, ours, 1, ret_tree, ret_clean, error);
}

gboolean
change_merge_commits (Change *change, const GsOid *ours, const GsOid *theirs, gboolean unrelated, GsOid *ret_tree,
                      gboolean *ret_clean, GError **error)
{
  GsOid known[2], base, base_tree;
  gboolean merged = FALSE;
  if (!commit_tree (change, ours, &known[0], error) || !commit_tree (change, theirs, &known[1], error)
      || !single_base (change, ours, theirs, &base, error))
    return FALSE;
  if (base.len != 0
      && (!commit_tree (change, &base, &base_tree, error)
          || !change_merge_paths (change, &base_tree, &known[0], &known[1], ret_tree, &merged, error)))
    return FALSE;
  *ret_clean = TRUE;
  return merged
         || (run_merge_tree (change, ours, theirs, unrelated, NULL, ret_tree, ret_clean, error)
             && (!*ret_clean || change_collect (change, ret_tree, known, G_N_ELEMENTS (known), error)));
}

/* ------------------------------------------------------------------- what the result needs */

/* A folder of the result, and the same folder in the trees that refs reach. */
typedef struct
{
  GsOid tree;
  GPtrArray *known; /* GBytes */
} Folder;

static void
folder_free (gpointer data)
{
  Folder *folder = data;
  g_ptr_array_unref (folder->known);
  g_free (folder);
}

/* Name -> raw object id, both in @tree. */
static GHashTable *
index_tree (GBytes *tree)
{
  GHashTable *names = g_hash_table_new (g_str_hash, g_str_equal);
  gsize left;
  const char *at = g_bytes_get_data (tree, &left), *entry;
  guint32 mode;
  GsOid oid;
  while (odb_tree_next (&at, &left, &entry, &mode, &oid))
    g_hash_table_insert (names, (gpointer) entry, (gpointer) (entry + strlen (entry) + 1));
  return names;
}

static gboolean
read_any (Change *change, const char *objects, const GsOid *oid, GsObjectType *ret_type, GBytes **ret_bytes,
          GError **error)
{
  gboolean found;
  if (draft_has (change->draft, oid))
    return draft_read (change->draft, oid, ODB_TREE_MAX, ret_type, ret_bytes, error);
  if (!scratch_read (objects, oid, change->storage->max_change_bytes, &found, ret_type, ret_bytes, error))
    return FALSE;
  return found || draft_read (change->draft, oid, change->storage->max_change_bytes, ret_type, ret_bytes, error);
}

/* The folder of that name in each of the known trees; *@ret_same when one of them is just what the result has. */
static gboolean
known_below (Change *change, const char *objects, const GPtrArray *indices, const char *name, const GsOid *oid,
             gboolean is_tree, GPtrArray *below, gboolean *ret_same, GError **error)
{
  *ret_same = FALSE;
  for (guint i = 0; i < indices->len && !*ret_same; i++)
    {
      GsOid entry = { .len = oid->len };
      const void *raw = g_hash_table_lookup (indices->pdata[i], name);
      if (raw == NULL)
        continue;
      memcpy (entry.raw, raw, entry.len);
      *ret_same = gs_oid_equal (&entry, oid);
      if (*ret_same || !is_tree)
        continue;
      GsObjectType type;
      GBytes *bytes;
      g_autoptr (GError) why = NULL;
      if (!read_any (change, objects, &entry, &type, &bytes, &why))
        {
          if (gs_error_code (why) == GS_ERROR_NOT_FOUND) /* a submodule's commit */
            continue;
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      if (type == GS_OBJECT_TREE)
        g_ptr_array_add (below, bytes);
      else
        g_bytes_unref (bytes);
    }
  return TRUE;
}

static gboolean
collect_folder (Change *change, const char *objects, const Folder *folder, GPtrArray *stack, GError **error)
{
  GsObjectType type;
  g_autoptr (GPtrArray) indices = g_ptr_array_new_with_free_func ((GDestroyNotify) g_hash_table_unref);
  g_autoptr (GBytes) bytes = NULL;
  const char *at, *name;
  gsize left, len, n = 0;
  guint32 mode;
  GsOid oid, added;
  if (!read_any (change, objects, &folder->tree, &type, &bytes, error))
    return FALSE;
  at = g_bytes_get_data (bytes, &len);
  left = len;
  if (!draft_add (change->draft, GS_OBJECT_TREE, at, len, &added, error))
    return FALSE;
  for (guint i = 0; i < folder->known->len; i++)
    g_ptr_array_add (indices, index_tree (folder->known->pdata[i]));
  while (odb_tree_next (&at, &left, &name, &mode, &oid))
    {
      GsObjectType kind = odb_mode_type (mode);
      if (n++ % 256 == 0 && !gs_call_check (change->call, "gathering what a merge made", error))
        return FALSE;
      g_autoptr (GPtrArray) below = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
      gboolean same;
      if (kind == GS_OBJECT_COMMIT || draft_has (change->draft, &oid))
        continue;
      if (!known_below (change, objects, indices, name, &oid, kind == GS_OBJECT_TREE, below, &same, error))
        return FALSE;
      if (same)
        continue;
      if (kind == GS_OBJECT_TREE)
        {
          Folder *deeper = g_new0 (Folder, 1);
          deeper->tree = oid;
          deeper->known = g_steal_pointer (&below);
          g_ptr_array_add (stack, deeper);
          continue;
        }
      g_autoptr (GBytes) blob = NULL;
      if (!read_any (change, objects, &oid, &type, &blob, error)
          || !draft_add (change->draft, type,
                         g_bytes_get_data (blob, NULL) != NULL ? g_bytes_get_data (blob, NULL) : "",
                         g_bytes_get_size (blob), &added, error))
        return FALSE;
    }
  return left == 0 || gs_fail (error, GS_ERROR_INTERNAL, "git merge-tree wrote a tree that is not understood");
}

gboolean
change_collect (Change *change, const GsOid *tree, const GsOid *known, gsize n_known, GError **error)
{
  g_autofree char *objects = change_scratch (change, error);
  g_autoptr (GPtrArray) stack = g_ptr_array_new_with_free_func (folder_free);
  Folder *root;
  if (objects == NULL)
    return FALSE;
  for (gsize i = 0; i < n_known; i++)
    if (gs_oid_equal (tree, &known[i]))
      return TRUE;
  if (draft_has (change->draft, tree))
    return TRUE;
  root = g_new0 (Folder, 1);
  root->tree = *tree;
  root->known = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  g_ptr_array_add (stack, root);
  for (gsize i = 0; i < n_known; i++)
    {
      GsObjectType type;
      GBytes *bytes;
      if (!read_any (change, objects, &known[i], &type, &bytes, error))
        return FALSE;
      g_ptr_array_add (root->known, bytes);
    }
  while (stack->len > 0)
    {
      Folder *folder = g_ptr_array_steal_index (stack, stack->len - 1);
      gboolean ok = gs_call_check (change->call, "gathering what a merge made", error)
                    && collect_folder (change, objects, folder, stack, error);
      folder_free (folder);
      if (!ok)
        return FALSE;
    }
  return TRUE;
}
