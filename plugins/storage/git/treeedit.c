/* SPDX-License-Identifier: Apache-2.0 */
/* Changing trees: see treeedit.h. */
#include "treeedit.h"

#define MODE_TREE 0040000u
#define ENTRIES_MAX 4000000u /* that one edit may hold in memory */
#define FOLDER_WEIGHT 4u     /* entries that a folder made here costs as much as */
#define DEPTH_MAX 1024u      /* moves add up; freeing recurses, and so does git */

typedef struct
{
  guint32 mode;
  GsOid oid;            /* len 0: of a folder that was changed */
  GHashTable *children; /* name -> Node; NULL until the folder is read */
  guint height;         /* at most so many levels were put below */
} Node;

struct TreeEdit
{
  Draft *draft;
  Node root;
  gsize loaded; /* entries */
};

static void
node_free (gpointer data)
{
  Node *node = data;
  g_clear_pointer (&node->children, g_hash_table_unref);
  g_free (node);
}

static GHashTable *
children_new (void)
{
  return g_hash_table_new_full (g_str_hash, g_str_equal, g_free, node_free);
}

TreeEdit *
tree_edit_new (Draft *draft, const GsOid *tree)
{
  TreeEdit *edit = g_new0 (TreeEdit, 1);
  edit->draft = draft;
  edit->root.mode = MODE_TREE;
  if (tree != NULL)
    edit->root.oid = *tree;
  else
    edit->root.children = children_new ();
  return edit;
}

void
tree_edit_free (TreeEdit *edit)
{
  if (edit == NULL)
    return;
  g_clear_pointer (&edit->root.children, g_hash_table_unref);
  g_free (edit);
}

gboolean
tree_mode_known (guint32 mode)
{
  static const guint32 known[] = { MODE_TREE, 0100644, 0100755, 0100664, 0120000, 0160000 };
  for (gsize i = 0; i < G_N_ELEMENTS (known); i++)
    if (mode == known[i])
      return TRUE;
  return FALSE;
}

int
tree_order (const char *a, guint32 a_mode, const char *b, guint32 b_mode)
{
  gsize a_len = strlen (a), b_len = strlen (b), common = MIN (a_len, b_len);
  int order = memcmp (a, b, common);
  guchar a_next, b_next;
  if (order != 0)
    return order;
  a_next = a_len > common ? (guchar) a[common] : odb_mode_type (a_mode) == GS_OBJECT_TREE ? '/' : 0;
  b_next = b_len > common ? (guchar) b[common] : odb_mode_type (b_mode) == GS_OBJECT_TREE ? '/' : 0;
  return (int) a_next - (int) b_next;
}

/* ---------------------------------------------------------------------------------------- reading */

/* Something refers to the tree: when it is absent, it is lost. */
static gboolean
damaged (TreeEdit *edit, const Node *node, const GError *why, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  int code = why != NULL ? gs_error_code (why) : GS_ERROR_DATA_LOSS;
  gs_oid_hex (&node->oid, hex);
  return gs_fail (error, code == GS_ERROR_NOT_FOUND ? GS_ERROR_DATA_LOSS : (GsErrorCode) code,
                  "tree %s of repository %" G_GUINT64_FORMAT " is damaged or lost%s%s", hex,
                  draft_repo (edit->draft)->id, why != NULL ? ": " : "", why != NULL ? why->message : "");
}

static gboolean
node_load (TreeEdit *edit, Node *node, GError **error)
{
  GsObjectType type;
  g_autoptr (GError) why = NULL;
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GHashTable) children = NULL;
  gsize left;
  const char *at, *name;
  guint32 mode;
  GsOid oid;
  if (node->children != NULL)
    return TRUE;
  if (!draft_read (edit->draft, &node->oid, ODB_TREE_MAX, &type, &bytes, &why))
    return damaged (edit, node, why, error);
  if (type != GS_OBJECT_TREE)
    return damaged (edit, node, NULL, error);
  children = children_new ();
  at = g_bytes_get_data (bytes, &left);
  while (odb_tree_next (&at, &left, &name, &mode, &oid))
    {
      Node *child = g_new0 (Node, 1);
      child->mode = mode;
      child->oid = oid;
      g_hash_table_replace (children, g_strdup (name), child);
      if (++edit->loaded > ENTRIES_MAX)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the folders to be changed have more than %u entries",
                        ENTRIES_MAX);
    }
  if (left != 0)
    return damaged (edit, node, NULL, error);
  node->children = g_steal_pointer (&children);
  return TRUE;
}

/* The folder that holds @path's last part; *@ret_node NULL when something on the way is absent or no folder. */
static gboolean
find_parent (TreeEdit *edit, const char *path, Node **ret_node, const char **ret_last, GError **error)
{
  Node *node = &edit->root;
  const char *at = path, *slash;
  *ret_node = NULL;
  for (; (slash = strchr (at, '/')) != NULL; at = slash + 1)
    {
      g_autofree char *name = g_strndup (at, (gsize) (slash - at));
      if (!node_load (edit, node, error))
        return FALSE;
      node = g_hash_table_lookup (node->children, name);
      if (node == NULL || odb_mode_type (node->mode) != GS_OBJECT_TREE)
        return TRUE;
    }
  if (!node_load (edit, node, error))
    return FALSE;
  *ret_node = node;
  *ret_last = at;
  return TRUE;
}

gboolean
tree_edit_find (TreeEdit *edit, const char *path, guint32 *ret_mode, GsOid *ret_oid, GError **error)
{
  Node *parent, *node;
  const char *last;
  *ret_mode = 0;
  memset (ret_oid, 0, sizeof *ret_oid);
  if (!find_parent (edit, path, &parent, &last, error))
    return FALSE;
  node = parent != NULL ? g_hash_table_lookup (parent->children, last) : NULL;
  if (node != NULL)
    {
      *ret_mode = node->mode;
      *ret_oid = node->oid;
    }
  return TRUE;
}

/* --------------------------------------------------------------------------------------- changing */

static gboolean
path_fail (GError **error, GsErrorCode code, const char *path, gsize len, const char *why)
{
  g_autofree char *shown = g_utf8_make_valid (path, (gssize) len);
  return gs_fail (error, code, "'%s' %s", shown, why);
}

/* Makes the folders on the way; each has changed then. */
static gboolean
open_parent (TreeEdit *edit, const char *path, Node **ret_node, const char **ret_last, GError **error)
{
  Node *node = &edit->root;
  const char *at = path, *slash;
  for (;; at = slash + 1)
    {
      if (!node_load (edit, node, error))
        return FALSE;
      slash = strchr (at, '/');
      if (slash == NULL)
        break;
      g_autofree char *name = g_strndup (at, (gsize) (slash - at));
      Node *child = g_hash_table_lookup (node->children, name);
      if (child == NULL)
        {
          if ((edit->loaded += FOLDER_WEIGHT) > ENTRIES_MAX)
            return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the folders to be changed have more than %u entries",
                            ENTRIES_MAX);
          child = g_new0 (Node, 1);
          child->mode = MODE_TREE;
          child->children = children_new ();
          g_hash_table_insert (node->children, g_steal_pointer (&name), child);
        }
      else if (odb_mode_type (child->mode) != GS_OBJECT_TREE)
        return path_fail (error, GS_ERROR_ALREADY_EXISTS, path, (gsize) (slash - path), "is no folder");
      node = child;
    }
  *ret_node = node;
  *ret_last = at;
  return TRUE;
}

/* All folders from the root to the one that holds @path are to be written again. Those left empty go. */
static void
touch (TreeEdit *edit, const char *path)
{
  g_autoptr (GPtrArray) nodes = g_ptr_array_new ();
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  Node *node = &edit->root;
  for (const char *at = path, *slash; node != NULL; at = slash + 1)
    {
      memset (&node->oid, 0, sizeof node->oid);
      g_ptr_array_add (nodes, node);
      slash = strchr (at, '/');
      if (slash == NULL)
        break;
      g_ptr_array_add (names, g_strndup (at, (gsize) (slash - at)));
      node = g_hash_table_lookup (node->children, names->pdata[names->len - 1]);
    }
  for (guint i = nodes->len - 1; i > 0; i--)
    {
      const Node *empty = nodes->pdata[i];
      if (g_hash_table_size (empty->children) > 0)
        break;
      g_hash_table_remove (((Node *) nodes->pdata[i - 1])->children, names->pdata[i - 1]);
    }
}

/* What is put at @path has @below levels itself. After open_parent, which made the folders. */
static gboolean
note_height (TreeEdit *edit, const char *path, guint below, GError **error)
{
  Node *node = &edit->root;
  guint parts = 1;
  for (const char *at = path; *at != '\0'; at++)
    parts += *at == '/';
  if (parts + below > DEPTH_MAX)
    return path_fail (error, GS_ERROR_OUT_OF_RANGE, path, strlen (path), "would be too deep");
  for (const char *at = path, *slash; node != NULL; at = slash + 1, parts--)
    {
      node->height = MAX (node->height, parts + below);
      slash = strchr (at, '/');
      if (slash == NULL)
        break;
      g_autofree char *name = g_strndup (at, (gsize) (slash - at));
      node = g_hash_table_lookup (node->children, name);
    }
  return TRUE;
}

static gboolean
put_node (TreeEdit *edit, const char *path, Node *node, GError **error)
{
  Node *parent = NULL, *there;
  const char *last = NULL;
  if (!open_parent (edit, path, &parent, &last, error) || !note_height (edit, path, node->height, error))
    return FALSE;
  there = g_hash_table_lookup (parent->children, last);
  if (there != NULL && odb_mode_type (there->mode) == GS_OBJECT_TREE)
    return path_fail (error, GS_ERROR_ALREADY_EXISTS, path, strlen (path), "is a folder");
  g_hash_table_replace (parent->children, g_strdup (last), node);
  touch (edit, path);
  return TRUE;
}

gboolean
tree_edit_put (TreeEdit *edit, const char *path, guint32 mode, const GsOid *oid, GError **error)
{
  Node *node = g_new0 (Node, 1);
  node->mode = mode;
  node->oid = *oid;
  if (put_node (edit, path, node, error))
    return TRUE;
  node_free (node);
  return FALSE;
}

static gboolean
take_node (TreeEdit *edit, const char *path, Node **ret_node, GError **error)
{
  Node *parent;
  const char *last;
  gpointer name, node = NULL;
  if (!find_parent (edit, path, &parent, &last, error))
    return FALSE;
  if (parent == NULL || !g_hash_table_steal_extended (parent->children, last, &name, &node))
    return path_fail (error, GS_ERROR_NOT_FOUND, path, strlen (path), "is not there");
  g_free (name);
  touch (edit, path);
  *ret_node = node;
  return TRUE;
}

gboolean
tree_edit_remove (TreeEdit *edit, const char *path, GError **error)
{
  Node *node;
  if (!take_node (edit, path, &node, error))
    return FALSE;
  node_free (node);
  return TRUE;
}

gboolean
tree_edit_move (TreeEdit *edit, const char *from, const char *to, GError **error)
{
  gsize from_len = strlen (from);
  Node *node;
  guint32 mode;
  GsOid oid;
  if (strncmp (from, to, from_len) == 0 && (to[from_len] == '/' || to[from_len] == '\0'))
    return path_fail (error, GS_ERROR_INVALID_ARGUMENT, to, strlen (to), "is where it would be moved from");
  if (!tree_edit_find (edit, to, &mode, &oid, error))
    return FALSE;
  if (mode != 0)
    return path_fail (error, GS_ERROR_ALREADY_EXISTS, to, strlen (to), "is there already");
  if (!take_node (edit, from, &node, error))
    return FALSE;
  if (put_node (edit, to, node, error))
    return TRUE;
  node_free (node);
  return FALSE;
}

/* ---------------------------------------------------------------------------------------- writing */

typedef struct
{
  const char *name;
  Node *node;
} Row;

static int
row_order (gconstpointer a, gconstpointer b)
{
  const Row *x = a, *y = b;
  return tree_order (x->name, x->node->mode, y->name, y->node->mode);
}

static gboolean
node_write (TreeEdit *edit, Node *node, GError **error)
{
  g_autoptr (GArray) rows = g_array_new (FALSE, FALSE, sizeof (Row));
  g_autoptr (GByteArray) bytes = g_byte_array_new ();
  GHashTableIter iter;
  gpointer name, child;
  g_hash_table_iter_init (&iter, node->children);
  while (g_hash_table_iter_next (&iter, &name, &child))
    {
      const Row row = { name, child };
      g_array_append_val (rows, row);
    }
  g_array_sort (rows, row_order);
  for (guint i = 0; i < rows->len; i++)
    {
      const Row *row = &g_array_index (rows, Row, i);
      char mode[16];
      int len = g_snprintf (mode, sizeof mode, "%o ", row->node->mode);
      g_byte_array_append (bytes, (const guint8 *) mode, (guint) len);
      g_byte_array_append (bytes, (const guint8 *) row->name, (guint) strlen (row->name) + 1);
      g_byte_array_append (bytes, row->node->oid.raw, row->node->oid.len);
    }
  return draft_add (edit->draft, GS_OBJECT_TREE, bytes->data != NULL ? (gconstpointer) bytes->data : "", bytes->len,
                    &node->oid, error);
}

/* Children before their folder, without recursion: a folder is written when it comes up a second time. */
gboolean
tree_edit_write (TreeEdit *edit, GsOid *ret_tree, GError **error)
{
  g_autoptr (GPtrArray) stack = g_ptr_array_new ();
  if (edit->root.oid.len == 0)
    g_ptr_array_add (stack, &edit->root);
  while (stack->len > 0)
    {
      Node *node = stack->pdata[stack->len - 1];
      gboolean ready = TRUE;
      GHashTableIter iter;
      gpointer value;
      g_hash_table_iter_init (&iter, node->children);
      while (g_hash_table_iter_next (&iter, NULL, &value))
        if (((Node *) value)->oid.len == 0)
          {
            g_ptr_array_add (stack, value);
            ready = FALSE;
          }
      if (!ready)
        continue;
      if (!node_write (edit, node, error))
        return FALSE;
      g_ptr_array_set_size (stack, (gint) stack->len - 1);
    }
  *ret_tree = edit->root.oid;
  return TRUE;
}
