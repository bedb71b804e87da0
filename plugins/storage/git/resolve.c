/* SPDX-License-Identifier: Apache-2.0 */
/* Objects for the API: contents and trees. libgit2 only fetches single objects (odb.h). Revisions: api/revision.c. */
#include "child.h"
#include "odb.h"

#include <sys/wait.h>
#include <unistd.h>

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
damaged_tree (Repo *repo, const GsOid *oid, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  return gs_fail (error, GS_ERROR_DATA_LOSS, "object %s of repository %" G_GUINT64_FORMAT " is damaged: it is no tree", hex,
                  repo->id);
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
visit_tree (Repo *repo, const GsOid *oid, GBytes *bytes, GsTreeVisit visit, gpointer user, GError **error)
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
  return left == 0 || damaged_tree (repo, oid, error);
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
    done = gs_fail (error, GS_ERROR_NOT_FOUND, "it leads to a %s, not to a tree", odb_type_name (type));
  else if (done)
    done = visit_tree (open, tree, bytes, visit, user, error);
  if (bytes != NULL)
    g_bytes_unref (bytes);
  if (open != NULL)
    repo_close (open, FALSE);
  return done;
}
