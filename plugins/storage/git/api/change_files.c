/* SPDX-License-Identifier: Apache-2.0 */
/* ChangeService/CommitFiles: files written by the caller's list of steps, then one commit. */
#include "change.h"

#include "../pathcheck.h"
#include "../treeedit.h"

#include <string.h>
#include <wire/details.h>

#define ACTIONS_MAX 100000u
#define MODE_FILE 0100644u
#define MODE_EXECUTABLE 0100755u
#define MODE_LINK 0120000u
#define MODE_SUBMODULE 0160000u

typedef Gitstead__V1__FileAction Action;

typedef struct
{
  Change *change;
  TreeEdit *edit;
  const Action *action;
  const char *path; /* of the action, NUL-terminated */
  guint32 has_mode; /* what is there; 0 = nothing */
  GsOid has_oid;
} Step;

/* ----------------------------------------------------------------------------------------- values */

static gboolean
file_mode (const Step *step, guint32 fallback, guint32 *ret_mode, GError **error)
{
  guint32 mode = step->action->mode != 0 ? step->action->mode : fallback;
  const char *last = strrchr (step->path, '/');
  if (mode != MODE_FILE && mode != MODE_EXECUTABLE && mode != MODE_LINK)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "mode %o is not one of 100644 (33188), 100755 (33261) and 120000 (40960)", mode);
  last = last != NULL ? last + 1 : step->path;
  if (mode == MODE_LINK && path_part_is_gitmodules (last, strlen (last)))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, ".gitmodules must not be a symbolic link");
  *ret_mode = mode;
  return TRUE;
}

/* The blob that the action brings: new bytes, bulk bytes, or one that is here. */
static gboolean
file_content (const Step *step, GsOid *ret_oid, GError **error)
{
  const Action *action = step->action;
  Draft *draft = step->change->draft;
  GsObjectType type;
  if ((action->content.len > 0) + (*action->oid != '\0') + (action->stream_bytes > 0) > 1)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "of content, oid and stream_bytes two are set, and only one can be written");
  if (action->stream_bytes > 0)
    {
      g_autoptr (GBytes) bytes = NULL;
      return change_input_take (step->change, action->stream_bytes, &bytes, error)
             && draft_add (draft, GS_OBJECT_BLOB, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), ret_oid,
                           error);
    }
  if (*action->oid == '\0')
    return draft_add (draft, GS_OBJECT_BLOB, action->content.len > 0 ? (gconstpointer) action->content.data : "",
                      action->content.len, ret_oid, error);
  if (!api_take_oid (&step->change->api, action->oid, "oid", ret_oid, error)
      || !draft_type (draft, ret_oid, &type, error))
    return FALSE;
  return type == GS_OBJECT_BLOB
         || gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "oid %s is a %s, not a blob", action->oid, odb_type_name (type));
}

static gboolean
is_file (guint32 mode)
{
  return mode != 0 && odb_mode_type (mode) == GS_OBJECT_BLOB;
}

static gboolean
need_file (const Step *step, GError **error)
{
  if (step->has_mode == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such file");
  return is_file (step->has_mode)
         || gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "is a %s, not a file",
                     odb_mode_type (step->has_mode) == GS_OBJECT_TREE ? "folder" : "submodule");
}

/* ---------------------------------------------------------------------------------------- actions */

static gboolean
put_file (Step *step, guint32 fallback, GError **error)
{
  guint32 mode;
  GsOid oid;
  return file_mode (step, fallback, &mode, error) && file_content (step, &oid, error)
         && tree_edit_put (step->edit, step->path, mode, &oid, error);
}

static gboolean
do_create (Step *step, GError **error)
{
  if (step->has_mode != 0)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "is there already");
  return put_file (step, MODE_FILE, error);
}

static gboolean
do_update (Step *step, GError **error)
{
  return need_file (step, error) && put_file (step, step->has_mode, error);
}

static gboolean
do_put (Step *step, GError **error)
{
  return step->has_mode == 0 ? do_create (step, error) : do_update (step, error);
}

static gboolean
do_move (Step *step, GError **error)
{
  const ProtobufCBinaryData *from = &step->action->from_path;
  if (!path_check ((const char *) from->data, from->len, "from_path", error))
    return FALSE;
  g_autofree char *source = g_strndup ((const char *) from->data, from->len);
  return tree_edit_move (step->edit, source, step->path, error);
}

static gboolean
do_delete (Step *step, GError **error)
{
  if (step->has_mode == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such file");
  if (odb_mode_type (step->has_mode) == GS_OBJECT_TREE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "is a folder: FILE_DELETE_FOLDER deletes those");
  return tree_edit_remove (step->edit, step->path, error);
}

static gboolean
do_delete_folder (Step *step, GError **error)
{
  if (step->has_mode == 0)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "there is no such folder");
  if (odb_mode_type (step->has_mode) != GS_OBJECT_TREE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "is no folder");
  return tree_edit_remove (step->edit, step->path, error);
}

static gboolean
do_chmod (Step *step, GError **error)
{
  guint32 mode;
  if (!need_file (step, error) || !file_mode (step, 0, &mode, error))
    return FALSE;
  if ((step->has_mode == MODE_LINK) != (mode == MODE_LINK))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "a symbolic link and a file do not become each other by their mode: FILE_UPDATE replaces one");
  return tree_edit_put (step->edit, step->path, mode, &step->has_oid, error);
}

static gboolean
do_submodule (Step *step, GError **error)
{
  GsOid oid;
  if (is_file (step->has_mode))
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "is a file, not a submodule");
  if (!api_take_oid (&step->change->api, step->action->oid, "oid", &oid, error))
    return FALSE;
  if (gs_oid_is_zero (&oid))
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "oid: a submodule names a commit, not zeros");
  return tree_edit_put (step->edit, step->path, MODE_SUBMODULE, &oid, error);
}

static gboolean (*const kinds[]) (Step *step, GError **error)
    = { [GITSTEAD__V1__FILE_ACTION_KIND__FILE_CREATE] = do_create,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_UPDATE] = do_update,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_PUT] = do_put,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_MOVE] = do_move,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_DELETE] = do_delete,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_DELETE_FOLDER] = do_delete_folder,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_CHMOD] = do_chmod,
        [GITSTEAD__V1__FILE_ACTION_KIND__FILE_SUBMODULE] = do_submodule };

static gboolean
check_expected_blob (const Step *step, GError **error)
{
  GsOid oid;
  if (*step->action->expected_oid == '\0')
    return TRUE;
  if (!api_take_oid (&step->change->api, step->action->expected_oid, "expected_oid", &oid, error))
    return FALSE;
  if (step->has_mode == 0 ? gs_oid_is_zero (&oid) : gs_oid_equal (&oid, &step->has_oid))
    return TRUE;
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&step->has_oid, hex);
  gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "is %s and not %s as expected", step->has_mode != 0 ? hex : "not there",
           step->action->expected_oid);
  return gs_detail_differs (error, "expected_oid", "path", step->path, step->action->expected_oid, hex);
}

static gboolean
take_step (Step *step, GError **error)
{
  guint kind = (guint) step->action->kind;
  if (kind >= G_N_ELEMENTS (kinds) || kinds[kind] == NULL)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "kind: %u is not a kind of action", kind);
  return tree_edit_find (step->edit, step->path, &step->has_mode, &step->has_oid, error)
         && check_expected_blob (step, error) && kinds[kind](step, error);
}

/* .gitmodules, .gitattributes and what some file systems take for the former. */
static gboolean
is_special (const char *path)
{
  const char *last = strrchr (path, '/');
  last = last != NULL ? last + 1 : path;
  return g_ascii_strncasecmp (last, ".git", 4) == 0 || path_part_is_gitmodules (last, strlen (last));
}

static gboolean
note_special (Change *change, TreeEdit *edit, const char *path, const char *shown, gsize index, GError **error)
{
  Special *special;
  guint32 mode;
  GsOid oid;
  if (!is_special (path))
    return TRUE;
  if (!tree_edit_find (edit, path, &mode, &oid, error))
    return FALSE;
  if (!is_file (mode))
    return TRUE;
  special = g_new (Special, 1);
  *special = (Special){ oid, g_strdup_printf ("actions[%" G_GSIZE_FORMAT "] '%s'", index, shown) };
  g_ptr_array_add (change->special, special);
  return TRUE;
}

/* Every failure names the action and its path. */
static gboolean
do_action (Change *change, TreeEdit *edit, const Action *action, gsize index, GError **error)
{
  g_autoptr (GError) why = NULL;
  const char *bytes = (const char *) action->path.data;
  g_autofree char *path = NULL, *shown = NULL;
  Step step = { .change = change, .edit = edit, .action = action };
  g_autofree char *field = g_strdup_printf ("actions[%" G_GSIZE_FORMAT "]", index);
  if (!path_check (bytes, action->path.len, "path", &why))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s: %s", field, why->message);
      return gs_detail_field (error, "path") || gs_detail_below (error, field);
    }
  step.path = path = g_strndup (bytes, action->path.len);
  shown = g_utf8_make_valid (path, -1);
  if (take_step (&step, &why) && note_special (change, edit, path, shown, index, &why))
    return TRUE;
  gsize n_details;
  if (gs_error_details (why, &n_details) == NULL)
    gs_detail_differs (&why, "path", "path", path, NULL, NULL);
  gs_detail_below (&why, field);
  g_propagate_prefixed_error (error, g_steal_pointer (&why), "%s '%s': ", field, shown);
  return FALSE;
}

/* ------------------------------------------------------------------------------------------- call */

static gboolean
has_branches (Change *change)
{
  const RefSnapshot *refs = change->api.refs; /* change_begin took it */
  gsize at = ref_snapshot_seek (refs, "refs/heads/");
  RefEntry entry;
  if (at >= ref_snapshot_count (refs))
    return FALSE;
  ref_snapshot_get (refs, at, &entry);
  return g_str_has_prefix (entry.name, "refs/heads/");
}

static gboolean
check_root (Change *change, const Gitstead__V1__ChangeCommitFilesRequest *request, GError **error)
{
  if (request->orphan && change->base.len != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "orphan: %s has commits, or write.start names one; a first commit has no parent", change->ref);
  return change->base.len != 0 || request->orphan || !has_branches (change) || change_need_base (change, error);
}

gboolean
change_commit_files (Change *change, const ProtobufCMessage *message, GError **error)
{
  const Gitstead__V1__ChangeCommitFilesRequest *request = (gconstpointer) message;
  g_autofree char *text = NULL;
  GsOid tree, commit;
  if (!change_message (&request->message, "message", &text, error)
      || !change_begin (change, request->write, TRUE, error) || !check_root (change, request, error))
    return FALSE;
  if (request->n_actions > ACTIONS_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "actions: there are %" G_GSIZE_FORMAT "; at most %u are taken",
                    request->n_actions, ACTIONS_MAX);
  g_autoptr (TreeEdit) edit = tree_edit_new (change->draft, change->base.len != 0 ? &change->base_tree : NULL);
  for (gsize i = 0; i < request->n_actions; i++)
    if (!do_action (change, edit, request->actions[i], i, error)
        || (i % 256 == 0 && !gs_call_check (change->call, "writing files", error)))
      return FALSE;
  if (!change_input_end (change, error) || !tree_edit_write (edit, &tree, error))
    return FALSE;
  if (change->base.len != 0 && !request->allow_empty && gs_oid_equal (&tree, &change->base_tree)
      && gs_oid_equal (&change->base, &change->old_oid))
    {
      change_unchanged (change);
      return TRUE;
    }
  return commit_add (change, &tree, &change->base, change->base.len != 0 ? 1 : 0, change->author, NULL, text,
                     strlen (text), &commit, error)
         && change_result (change, &commit, &tree, error);
}
