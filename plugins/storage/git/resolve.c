/* SPDX-License-Identifier: Apache-2.0 */
/* Objects for the API: revisions, contents, trees. Own and iterative; libgit2 only fetches single objects (odb.h). */
#include "child.h"
#include "odb.h"

#include <sys/wait.h>
#include <unistd.h>

#define REVISION_MAX 8192

/* ------------------------------------------------------------------------------------------ trees */

gboolean
odb_tree_next (const char **at, gsize *left, const char **ret_name, guint32 *ret_mode, GsOid *ret_oid)
{
  const char *nul = *left > 0 ? memchr (*at, '\0', *left) : NULL;
  const char *p = *at;
  guint32 mode = 0;
  int digits = 0;
  if (nul == NULL || *left - (gsize) (nul - *at) < 21)
    return FALSE;
  for (; *p >= '0' && *p <= '7' && digits < 7; p++, digits++)
    mode = mode << 3 | (guint32) (*p - '0');
  if (digits == 0 || *p != ' ' || p + 1 == nul)
    return FALSE;
  memset (ret_oid, 0, sizeof *ret_oid);
  ret_oid->len = 20;
  memcpy (ret_oid->raw, nul + 1, 20);
  *ret_name = p + 1;
  *ret_mode = mode;
  *left -= (gsize) (nul + 21 - *at);
  *at = nul + 21;
  return TRUE;
}

GsObjectType
odb_mode_type (guint32 mode)
{
  switch (mode & 0170000)
    {
    case 0040000:
      return GS_OBJECT_TREE;
    case 0160000:
      return GS_OBJECT_COMMIT;
    default:
      return GS_OBJECT_BLOB;
    }
}

static gboolean
damaged_tree (Repo *repo, GError **error)
{
  return gs_fail (error, GS_ERROR_DATA_LOSS, "a tree of repository %" G_GUINT64_FORMAT " is damaged", repo->id);
}

/* Finds @name in the tree @oid. */
static gboolean
tree_find (Repo *repo, ObjectHandle *handle, const GsOid *oid, const char *name, gsize name_len, GsObject *ret_object,
           gboolean *ret_found, GError **error)
{
  GsObjectType type;
  GBytes *bytes;
  gsize left;
  const char *at, *entry;
  guint32 mode;
  GsOid entry_oid;
  *ret_found = FALSE;
  if (!odb_read (repo, handle, oid, ODB_TREE_MAX, &type, &bytes, error))
    return FALSE;
  at = g_bytes_get_data (bytes, &left);
  while (!*ret_found && odb_tree_next (&at, &left, &entry, &mode, &entry_oid))
    if (strlen (entry) == name_len && memcmp (entry, name, name_len) == 0)
      {
        *ret_object
            = (GsObject){ .size = sizeof *ret_object, .oid = entry_oid, .type = odb_mode_type (mode), .mode = mode };
        *ret_found = TRUE;
      }
  gboolean whole = *ret_found || left == 0;
  g_bytes_unref (bytes);
  return whole || damaged_tree (repo, error);
}

/* From a commit, tag or tree to the tree. */
static gboolean
to_tree (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsOid *ret_tree, GError **error)
{
  GsObjectType type;
  GsOid peeled;
  GBytes *bytes;
  gsize len;
  if (!odb_peel (repo, handle, oid, &peeled, &type, error))
    return FALSE;
  if (type == GS_OBJECT_TREE)
    {
      *ret_tree = peeled;
      return TRUE;
    }
  if (type != GS_OBJECT_COMMIT)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "the revision names a %s, which has no tree", odb_type_name (type));
  if (!odb_read (repo, handle, &peeled, GIT_STREAM_BYTES, &type, &bytes, error))
    return FALSE;
  const char *data = g_bytes_get_data (bytes, &len);
  gboolean linked = odb_parse_link (data, len, "tree", ret_tree);
  g_bytes_unref (bytes);
  return linked
         || gs_fail (error, GS_ERROR_DATA_LOSS, "a commit of repository %" G_GUINT64_FORMAT " names no tree", repo->id);
}

/* ---------------------------------------------------------------------------------------- revisions */

static gboolean
bad_revision (GError **error, const char *why)
{
  return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                  "the revision is not understood (%s): give an object id, a ref name, HEAD, or a branch or tag name, "
                  "then maybe :<path> or ^{<type>}",
                  why);
}

static gboolean
resolve_name (Repo *repo, const char *name, GsOid *ret_oid, GError **error)
{
  static const char *const places[] = { "", "refs/tags/", "refs/heads/" };
  RefSnapshot *snapshot;
  RefEntry entry;
  gboolean found = FALSE;
  if (gs_oid_parse (name, strlen (name), ret_oid))
    return TRUE;
  if (strcmp (name, "HEAD") != 0)
    {
      g_autofree char *full
          = g_str_has_prefix (name, "refs/") ? g_strdup (name) : g_strconcat ("refs/heads/", name, NULL);
      if (!ref_name_valid (full, NULL))
        return bad_revision (error, "no valid name");
    }
  snapshot = ref_store_snapshot (repo->refs, error);
  if (snapshot == NULL)
    return FALSE;
  if (strcmp (name, "HEAD") == 0)
    found = ref_snapshot_find (snapshot, ref_snapshot_head (snapshot), &entry);
  for (gsize i = 0; i < G_N_ELEMENTS (places) && !found; i++)
    {
      g_autofree char *full = g_strconcat (places[i], name, NULL);
      if (g_str_has_prefix (full, "refs/") && !ref_name_hidden (repo->refs, full))
        found = ref_snapshot_find (snapshot, full, &entry);
    }
  if (found)
    *ret_oid = entry.oid;
  ref_snapshot_unref (snapshot);
  return found || gs_fail (error, GS_ERROR_NOT_FOUND, "repository %" G_GUINT64_FORMAT " has no ref %s", repo->id, name);
}

static gboolean
fill_header (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsObject *object, GError **error)
{
  object->size = sizeof *object;
  object->oid = *oid;
  return odb_header (repo, handle, oid, &object->type, &object->object_bytes, error);
}

static gboolean
resolve_path (Repo *repo, ObjectHandle *handle, const GsOid *base, const char *path, GsObject *ret_object,
              GError **error)
{
  GsObject object = { .size = sizeof object, .mode = 040000, .type = GS_OBJECT_TREE };
  if (!to_tree (repo, handle, base, &object.oid, error))
    return FALSE;
  for (const char *at = path; *at != '\0';)
    {
      const char *slash = strchr (at, '/');
      gsize len = slash != NULL ? (gsize) (slash - at) : strlen (at);
      gboolean found;
      if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.'))
        return bad_revision (error, "a path has no empty, . or .. part");
      if (object.type != GS_OBJECT_TREE)
        return gs_fail (error, GS_ERROR_NOT_FOUND, "path %s: %.*s is in no folder", path, (int) len, at);
      if (!tree_find (repo, handle, &object.oid, at, len, &object, &found, error))
        return FALSE;
      if (!found || (slash != NULL && object.type != GS_OBJECT_TREE))
        return gs_fail (error, GS_ERROR_NOT_FOUND, "path %s is not there", path);
      at += len + (slash != NULL ? 1 : 0);
    }
  /* A submodule's commit is in another repository. */
  if (object.type != GS_OBJECT_COMMIT)
    {
      guint32 mode = object.mode;
      if (!fill_header (repo, handle, &object.oid, &object, error))
        return FALSE;
      object.mode = mode;
    }
  *ret_object = object;
  return TRUE;
}

static gboolean
resolve_type (Repo *repo, ObjectHandle *handle, const GsOid *base, const char *suffix, GsObject *ret_object,
              GError **error)
{
  GsObject object = { .size = sizeof object };
  GsObjectType wanted = GS_OBJECT_NONE, type;
  GsOid oid = *base;
  for (GsObjectType each = GS_OBJECT_COMMIT; each <= GS_OBJECT_TAG; each++)
    {
      g_autofree char *text = g_strdup_printf ("^{%s}", odb_type_name (each));
      if (strcmp (suffix, text) == 0)
        wanted = each;
    }
  if (wanted == GS_OBJECT_NONE)
    return bad_revision (error, "^{…} takes commit, tree, blob or tag");
  if (!fill_header (repo, handle, &oid, &object, error))
    return FALSE;
  if (object.type != wanted && wanted == GS_OBJECT_TREE)
    {
      if (!to_tree (repo, handle, base, &oid, error))
        return FALSE;
    }
  else if (object.type != wanted && !odb_peel (repo, handle, base, &oid, &type, error))
    return FALSE;
  if (!fill_header (repo, handle, &oid, &object, error))
    return FALSE;
  if (object.type != wanted)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "the revision leads to a %s, not to a %s", odb_type_name (object.type),
                    odb_type_name (wanted));
  *ret_object = object;
  return TRUE;
}

static gboolean
resolve_in (Repo *repo, ObjectHandle *handle, char *text, GsObject *ret_object, GError **error)
{
  char *colon = strchr (text, ':'), *caret = strchr (text, '^');
  GsObject object = { .size = sizeof object };
  g_autofree char *suffix = NULL;
  GsOid base;
  if (colon != NULL && caret != NULL && caret < colon)
    return bad_revision (error, "either a path or a type");
  if (colon == NULL && caret != NULL)
    {
      suffix = g_strdup (caret);
      *caret = '\0';
    }
  else if (colon != NULL)
    *colon = '\0';
  if (*text == '\0')
    return bad_revision (error, "it is empty");
  if (!resolve_name (repo, text, &base, error))
    return FALSE;
  if (colon != NULL)
    return resolve_path (repo, handle, &base, colon + 1, ret_object, error);
  if (suffix != NULL)
    return resolve_type (repo, handle, &base, suffix, ret_object, error);
  if (!fill_header (repo, handle, &base, &object, error))
    return FALSE;
  *ret_object = object;
  return TRUE;
}

gboolean
storage_resolve_revision (gpointer self, GsCall *call, const GsRepo *repo, const char *revision, gsize revision_len,
                          GsObject *ret_object, GError **error)
{
  if (revision_len > REVISION_MAX || memchr (revision, '\0', revision_len) != NULL)
    return bad_revision (error, "too long, or with a NUL");
  Repo *open = repo_open (self, repo, FALSE, error);
  ObjectHandle *handle = open != NULL ? odb_borrow (open, error) : NULL;
  gboolean done = FALSE;
  if (handle != NULL)
    {
      g_autofree char *text = g_strndup (revision, revision_len);
      done = resolve_in (open, handle, text, ret_object, error);
      odb_return (open, handle);
    }
  if (open != NULL)
    repo_close (open, FALSE);
  return done;
}

/* ----------------------------------------------------------------------------------------- contents */

gboolean
storage_read_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, guint64 max_bytes,
                     GsObject *ret_object, GBytes **ret_bytes, GError **error)
{
  Repo *open = repo_open (self, repo, FALSE, error);
  ObjectHandle *handle = open != NULL ? odb_borrow (open, error) : NULL;
  GsObjectType type;
  GBytes *bytes = NULL;
  gboolean done = FALSE;
  if (handle != NULL)
    {
      done = odb_read (open, handle, oid, max_bytes, &type, &bytes, error);
      odb_return (open, handle);
    }
  if (open != NULL)
    repo_close (open, FALSE);
  if (!done)
    return FALSE;
  *ret_object
      = (GsObject){ .size = sizeof *ret_object, .oid = *oid, .type = type, .object_bytes = g_bytes_get_size (bytes) };
  *ret_bytes = bytes;
  return TRUE;
}

static gboolean
stream_by_git (Repo *repo, GsCall *call, const GsOid *oid, GsObjectType type, GsStream *stream, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  const char *const argv[] = { "cat-file", odb_type_name (type), hex, NULL };
  int output = stream->open_output (stream, error), status;
  const ChildSpec spec
      = { .role = CHILD_PLAIN, .git_dir = repo->dir, .argv = argv, .input = -1, .output = output, .extra = -1 };
  Child child = { .err_fd = -1 };
  if (output < 0)
    return FALSE;
  gs_oid_hex (oid, hex);
  gboolean done = child_start (repo->storage, &spec, &child, error);
  close (output);
  done = done && child_wait (&child, call, NULL, &status, error) && child_check_objects (&child, status, error);
  child_clear (&child);
  return done;
}

gboolean
storage_stream_object (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *oid, GsStream *stream,
                       GError **error)
{
  Repo *open = repo_open (self, repo, FALSE, error);
  ObjectHandle *handle = open != NULL ? odb_borrow (open, error) : NULL;
  GsObjectType type;
  guint64 size;
  GBytes *bytes = NULL;
  gboolean done = FALSE, small = FALSE;
  if (handle != NULL)
    {
      done = odb_header (open, handle, oid, &type, &size, error);
      small = done && size <= GIT_STREAM_BYTES;
      done = done && (!small || odb_read (open, handle, oid, GIT_STREAM_BYTES, &type, &bytes, error));
      odb_return (open, handle);
    }
  if (done)
    done = small ? stream->send_all (stream, bytes, error) : stream_by_git (open, call, oid, type, stream, error);
  if (bytes != NULL)
    g_bytes_unref (bytes);
  if (open != NULL)
    repo_close (open, FALSE);
  return done;
}

static gboolean
visit_tree (Repo *repo, GBytes *bytes, GsTreeVisit visit, gpointer user, GError **error)
{
  gsize left;
  const char *at = g_bytes_get_data (bytes, &left);
  GsTreeEntry entry = { .size = sizeof entry };
  while (odb_tree_next (&at, &left, &entry.name, &entry.mode, &entry.oid))
    {
      entry.type = odb_mode_type (entry.mode);
      if (!visit (&entry, user))
        return TRUE;
    }
  return left == 0 || damaged_tree (repo, error);
}

gboolean
storage_list_tree (gpointer self, GsCall *call, const GsRepo *repo, const GsOid *tree, GsTreeVisit visit, gpointer user,
                   GError **error)
{
  Repo *open = repo_open (self, repo, FALSE, error);
  ObjectHandle *handle = open != NULL ? odb_borrow (open, error) : NULL;
  GsObjectType type;
  GBytes *bytes = NULL;
  gboolean done = FALSE;
  if (handle != NULL)
    {
      done = odb_read (open, handle, tree, ODB_TREE_MAX, &type, &bytes, error);
      odb_return (open, handle);
    }
  if (done && type != GS_OBJECT_TREE)
    done = gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "the object is a %s, not a tree", odb_type_name (type));
  else if (done)
    done = visit_tree (open, bytes, visit, user, error);
  if (bytes != NULL)
    g_bytes_unref (bytes);
  if (open != NULL)
    repo_close (open, FALSE);
  return done;
}
