/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a tree without recursion: trees can be nested deeper than any stack. See api.h. */
#include "api.h"

#define DEPTH_MAX 1024 /* paths of API_NAME_MAX bytes could be twice as deep; real ones are not */

typedef struct
{
  GBytes *bytes;
  const char *at;
  gsize left;
  gsize path_len; /* of the folder's path with its slash */
  GsOid oid;
} Frame;

typedef struct
{
  GitCall *call;
  GArray *frames;
  GString *path;
} Walk;

static void
frame_clear (gpointer data)
{
  g_bytes_unref (((Frame *) data)->bytes);
}

static gboolean
push (Walk *walk, const GsOid *tree, GError **error)
{
  Frame frame = { .path_len = walk->path->len, .oid = *tree };
  if (walk->frames->len >= DEPTH_MAX || walk->path->len > API_NAME_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "a path of repository %" G_GUINT64_FORMAT " is deeper than %d folders, or "
                    "longer than %d bytes", walk->call->repo->id, DEPTH_MAX, API_NAME_MAX);
  if (!api_read (walk->call, tree, GS_OBJECT_TREE, ODB_TREE_MAX, &frame.bytes, error))
    return FALSE;
  frame.at = g_bytes_get_data (frame.bytes, &frame.left);
  g_array_append_val (walk->frames, frame);
  return TRUE;
}

/* The next entry of the innermost folder, its name appended to the path. FALSE at the folder's end, or with @error. */
static gboolean
next (Walk *walk, GsTreeEntry *ret_entry, GError **error)
{
  Frame *frame = &g_array_index (walk->frames, Frame, walk->frames->len - 1);
  g_string_truncate (walk->path, frame->path_len);
  if (frame->left == 0)
    return FALSE;
  ret_entry->size = sizeof *ret_entry;
  if (!odb_tree_next (&frame->at, &frame->left, &ret_entry->name, &ret_entry->mode, &ret_entry->oid))
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "it is no tree");
      api_name_loss (walk->call, &frame->oid, error);
      return FALSE;
    }
  ret_entry->type = odb_mode_type (ret_entry->mode);
  g_string_append (walk->path, ret_entry->name);
  return TRUE;
}

static gboolean
enter (Walk *walk, const GsOid *tree, GError **error)
{
  g_string_append_c (walk->path, '/');
  return push (walk, tree, error);
}

/* Stands behind @after, entered when it is a folder and @recursive. */
static gboolean
resume (Walk *walk, const char *after, gboolean recursive, GError **error)
{
  while (*after != '\0')
    {
      gsize len = strcspn (after, "/");
      g_autoptr (GError) why = NULL;
      GsTreeEntry entry;
      gboolean found = FALSE;
      while (!found && next (walk, &entry, &why))
        found = strncmp (entry.name, after, len) == 0 && entry.name[len] == '\0';
      if (why != NULL)
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      if (!found || (after[len] == '/' && entry.type != GS_OBJECT_TREE))
        return gs_page_bad (error);
      after += len + (after[len] == '/');
      if (entry.type == GS_OBJECT_TREE && (*after != '\0' || recursive) && !enter (walk, &entry.oid, error))
        return FALSE;
    }
  return TRUE;
}

gboolean
api_walk_tree (GitCall *call, const GsOid *tree, const char *base, const char *after, gboolean recursive,
               ApiTreeVisit visit, gpointer user, GError **error)
{
  Walk walk = { call, g_array_new (FALSE, FALSE, sizeof (Frame)), g_string_new (base) };
  g_autoptr (GError) why = NULL;
  gboolean more = TRUE, done;
  g_array_set_clear_func (walk.frames, frame_clear);
  if (walk.path->len > 0)
    g_string_append_c (walk.path, '/');
  done = push (&walk, tree, &why) && (after == NULL || resume (&walk, after, recursive, &why));
  while (done && more && walk.frames->len > 0)
    {
      GsTreeEntry entry;
      done = gs_call_check (call->call, "list a tree", &why);
      if (done && !next (&walk, &entry, &why))
        {
          done = why == NULL;
          g_array_set_size (walk.frames, walk.frames->len - 1);
        }
      else if (done)
        {
          done = visit (call, walk.path->str, &entry, user, &more, &why);
          if (done && more && recursive && entry.type == GS_OBJECT_TREE)
            done = enter (&walk, &entry.oid, &why);
        }
    }
  g_array_unref (walk.frames);
  g_string_free (walk.path, TRUE);
  if (!done)
    g_propagate_error (error, g_steal_pointer (&why));
  return done;
}
