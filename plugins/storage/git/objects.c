/* SPDX-License-Identifier: Apache-2.0 */
/* Reading objects: see odb.h. */
#include "child.h"
#include "disk.h"
#include "odb.h"
#include "pool.h"

#include <git2.h>
#include <git2/sys/odb_backend.h>

#define HANDLES_MAX 8 /* idle ones kept per repository */
#define PEEL_MAX 64   /* tags of tags */
#define LOOSE_MAX (16u << 20)

struct ObjectHandle
{
  git_odb *odb;
  guint epoch;
};

/* ---------------------------------------------------------------------------------------- library */

gboolean
objects_library_start (Storage *storage, GError **error)
{
  static const int levels[]
      = { GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL, GIT_CONFIG_LEVEL_PROGRAMDATA };
  int users = git_libgit2_init ();
  if (users < 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "libgit2 cannot be initialised");
  storage->git2 = TRUE;
  /* Process-wide; the first one sets them, before anybody reads. */
  if (users > 1)
    return TRUE;
  for (gsize i = 0; i < G_N_ELEMENTS (levels); i++)
    git_libgit2_opts (GIT_OPT_SET_SEARCH_PATH, levels[i], "");
  git_libgit2_opts (GIT_OPT_SET_OWNER_VALIDATION, 0);
  git_libgit2_opts (GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 0);
  git_libgit2_opts (GIT_OPT_SET_PACK_MAX_OBJECTS, (size_t) 500000000);
  git_libgit2_opts (GIT_OPT_SET_MWINDOW_SIZE, (size_t) (32u << 20));
  git_libgit2_opts (GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, (size_t) 1 << 30);
  git_libgit2_opts (GIT_OPT_SET_MWINDOW_FILE_LIMIT, (size_t) 512);
  git_libgit2_opts (GIT_OPT_SET_CACHE_MAX_SIZE, (ssize_t) (64 << 20));
  return TRUE;
}

void
objects_library_stop (Storage *storage)
{
  if (storage->git2)
    git_libgit2_shutdown ();
  storage->git2 = FALSE;
}

/* The one place where libgit2's errors become ours. */
static gboolean
git2_fail (GError **error, int code, const char *doing, const char *what)
{
  const git_error *last = git_error_last ();
  return gs_fail (error, code == GIT_ENOTFOUND ? GS_ERROR_NOT_FOUND : GS_ERROR_DATA_LOSS, "%s %s: %s", doing, what,
                  last != NULL ? last->message : "unknown failure of libgit2");
}

static gboolean
object_fail (const Repo *repo, const GsOid *oid, int code, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  g_autofree char *what = g_strdup_printf ("%s of repository %" G_GUINT64_FORMAT, hex, repo->id);
  return git2_fail (error, code, "read object", what);
}

/* ---------------------------------------------------------------------------------------- handles */

static void
handle_free (ObjectHandle *handle)
{
  git_odb_free (handle->odb);
  g_free (handle);
}

git_odb *
odb_git2 (ObjectHandle *handle)
{
  return handle->odb;
}

static gboolean
add_packs (git_odb *odb, const char *objects, int priority, GError **error)
{
  git_odb_backend *backend = NULL;
  int code = git_odb_backend_pack (&backend, objects);
  if (code == 0 && (code = git_odb_add_backend (odb, backend, priority)) != 0)
    backend->free (backend);
  return code == 0 || git2_fail (error, code, "open the packs in", objects);
}

static ObjectHandle *
handle_new (Repo *repo, const char *quarantine, GError **error)
{
  g_autofree char *borrowed = pool_objects (repo);
  git_odb *odb = NULL;
  int code = git_odb_new (&odb);
  if (code != 0)
    {
      git2_fail (error, code, "open", repo->objects);
      return NULL;
    }
  if (!add_packs (odb, repo->objects, 3, error) || (borrowed != NULL && !add_packs (odb, borrowed, 1, error))
      || (quarantine != NULL && !add_packs (odb, quarantine, 2, error)))
    {
      git_odb_free (odb);
      return NULL;
    }
  ObjectHandle *handle = g_new0 (ObjectHandle, 1);
  handle->odb = odb;
  return handle;
}

ObjectHandle *
odb_borrow (Repo *repo, GError **error)
{
  ObjectHandle *handle = NULL;
  gs_mutex_lock (&repo->lock);
  if (repo->handles->len > 0)
    handle = g_ptr_array_steal_index_fast (repo->handles, repo->handles->len - 1);
  guint epoch = repo->handles_epoch;
  gs_mutex_unlock (&repo->lock);
  if (handle == NULL && (handle = handle_new (repo, NULL, error)) != NULL)
    handle->epoch = epoch;
  return handle;
}

void
odb_return (Repo *repo, ObjectHandle *handle)
{
  gs_mutex_lock (&repo->lock);
  gboolean keep = repo->handles->len < HANDLES_MAX && handle->epoch == repo->handles_epoch;
  if (keep)
    g_ptr_array_add (repo->handles, handle);
  gs_mutex_unlock (&repo->lock);
  if (!keep)
    handle_free (handle);
}

void
objects_drop_handles (Repo *repo)
{
  g_autoptr (GPtrArray) dropped = g_ptr_array_new ();
  gs_mutex_lock (&repo->lock);
  repo->handles_epoch++;
  while (repo->handles->len > 0)
    g_ptr_array_add (dropped, g_ptr_array_steal_index_fast (repo->handles, repo->handles->len - 1));
  gs_mutex_unlock (&repo->lock);
  for (guint i = 0; i < dropped->len; i++)
    handle_free (dropped->pdata[i]);
}

/* ---------------------------------------------------------------------------------- loose objects */

static gboolean
is_loose (Repo *repo, const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  g_autofree char *path = g_strdup_printf ("%s/%.2s/%s", repo->objects, hex, hex + 2);
  return disk_exists (path);
}

static GsObjectType
type_by_name (const char *name, gsize len)
{
  for (GsObjectType type = GS_OBJECT_COMMIT; type <= GS_OBJECT_TAG; type++)
    if (strlen (odb_type_name (type)) == len && memcmp (odb_type_name (type), name, len) == 0)
      return type;
  return GS_OBJECT_NONE;
}

/* cat-file answers "<oid> <type> <size>\n", with --batch then the content and a newline. */
static gboolean
ask_cat_file (Repo *repo, const char *mode, const GsOid *oid, gsize max, GBytes **ret_answer, GsObjectType *ret_type,
              guint64 *ret_size, gsize *ret_offset, GError **error)
{
  const char *const argv[] = { "cat-file", mode, NULL };
  const ChildSpec spec
      = { .role = CHILD_PLAIN, .git_dir = repo->dir, .argv = argv, .input = -1, .output = -1, .extra = -1 };
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  g_autofree char *question = g_strconcat (hex, "\n", NULL);
  g_autoptr (GBytes) input = g_bytes_new (question, strlen (question));
  GBytes *answer = NULL;
  int status;
  if (!child_run (repo->storage, &spec, NULL, input, max, &answer, &status, NULL, error))
    return FALSE;
  gsize len, prefix = strlen (hex) + 1;
  const char *data = g_bytes_get_data (answer, &len);
  const char *line_end = len > 0 ? memchr (data, '\n', len) : NULL;
  const char *space = line_end != NULL && (gsize) (line_end - data) > prefix
                          ? memchr (data + prefix, ' ', (gsize) (line_end - data) - prefix)
                          : NULL;
  GsObjectType type = space != NULL ? type_by_name (data + prefix, (gsize) (space - data) - prefix) : GS_OBJECT_NONE;
  if (status != 0 || type == GS_OBJECT_NONE)
    {
      g_bytes_unref (answer);
      return gs_fail (error, GS_ERROR_DATA_LOSS, "read object %s of repository %" G_GUINT64_FORMAT ": it is damaged",
                      hex, repo->id);
    }
  *ret_type = type;
  *ret_size = g_ascii_strtoull (space + 1, NULL, 10);
  *ret_offset = (gsize) (line_end + 1 - data);
  if (ret_answer != NULL)
    *ret_answer = answer;
  else
    g_bytes_unref (answer);
  return TRUE;
}

static gboolean
loose_read (Repo *repo, const GsOid *oid, guint64 max, GsObjectType *ret_type, GBytes **ret_bytes, GError **error)
{
  guint64 size;
  gsize offset;
  GBytes *answer;
  if (!ask_cat_file (repo, "--batch-check", oid, 1024, NULL, ret_type, &size, &offset, error))
    return FALSE;
  if (size > max || size > LOOSE_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "the object has %" G_GUINT64_FORMAT " bytes", size);
  if (!ask_cat_file (repo, "--batch", oid, (gsize) size + 1024, &answer, ret_type, &size, &offset, error))
    return FALSE;
  if (g_bytes_get_size (answer) < offset + size)
    {
      g_bytes_unref (answer);
      return gs_fail (error, GS_ERROR_DATA_LOSS, "an object of repository %" G_GUINT64_FORMAT " is cut short",
                      repo->id);
    }
  *ret_bytes = g_bytes_new_from_bytes (answer, offset, (gsize) size);
  g_bytes_unref (answer);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- reading */

static gboolean
to_git2 (Repo *repo, const GsOid *oid, git_oid *ret_id, GError **error)
{
  if (oid->len != (guint8) repo->format)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
                    "repository %" G_GUINT64_FORMAT " has object ids of %d bytes, not %d", repo->id, (int) repo->format,
                    oid->len);
  memcpy (ret_id->id, oid->raw, sizeof ret_id->id);
  return TRUE;
}

static gboolean
absent (Repo *repo, const GsOid *oid, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  return gs_fail (error, GS_ERROR_NOT_FOUND, "repository %" G_GUINT64_FORMAT " has no object %s", repo->id, hex);
}

gboolean
odb_header (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsObjectType *ret_type, guint64 *ret_size,
            GError **error)
{
  git_oid id;
  size_t size;
  git_object_t type;
  gsize offset;
  if (!to_git2 (repo, oid, &id, error))
    return FALSE;
  int code = git_odb_read_header (&size, &type, handle->odb, &id);
  if (code == GIT_ENOTFOUND)
    return is_loose (repo, oid)
               ? ask_cat_file (repo, "--batch-check", oid, 1024, NULL, ret_type, ret_size, &offset, error)
               : absent (repo, oid, error);
  if (code != 0)
    return object_fail (repo, oid, code, error);
  *ret_type = (GsObjectType) type;
  *ret_size = size;
  return TRUE;
}

static void
free_odb_object (gpointer object)
{
  git_odb_object_free (object);
}

gboolean
odb_read (Repo *repo, ObjectHandle *handle, const GsOid *oid, guint64 max, GsObjectType *ret_type, GBytes **ret_bytes,
          GError **error)
{
  git_oid id;
  size_t size;
  git_object_t type;
  git_odb_object *object;
  if (!to_git2 (repo, oid, &id, error))
    return FALSE;
  int code = git_odb_read_header (&size, &type, handle->odb, &id);
  if (code == GIT_ENOTFOUND)
    return is_loose (repo, oid) ? loose_read (repo, oid, max, ret_type, ret_bytes, error) : absent (repo, oid, error);
  if (code == 0 && size > max)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                    "an object of repository %" G_GUINT64_FORMAT " has %" G_GSIZE_FORMAT
                    " bytes, more than the limit of %" G_GUINT64_FORMAT,
                    repo->id, size, max);
  if (code == 0)
    code = git_odb_read (&object, handle->odb, &id);
  if (code != 0)
    return object_fail (repo, oid, code, error);
  *ret_type = (GsObjectType) git_odb_object_type (object);
  *ret_bytes = g_bytes_new_with_free_func (git_odb_object_data (object), git_odb_object_size (object), free_odb_object,
                                           object);
  return TRUE;
}

/* ---------------------------------------------------------------------------------- beginnings of ids */

/* Notes what matches @prefix among the loose objects; a second one ends the search. */
static void
find_loose_prefix (Repo *repo, const char *prefix, guint *found, GsOid *oid)
{
  g_autofree char *path = g_strdup_printf ("%s/%.2s", repo->objects, prefix);
  GDir *dir = g_dir_open (path, 0, NULL);
  const char *name;
  while (dir != NULL && *found < 2 && (name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *hex = g_strdup_printf ("%.2s%s", prefix, name);
      GsOid match;
      if (!g_str_has_prefix (hex, prefix) || !gs_oid_parse (hex, strlen (hex), &match)
          || match.len != (guint8) repo->format || (*found == 1 && gs_oid_equal (&match, oid)))
        continue;
      *oid = match;
      (*found)++;
    }
  if (dir != NULL)
    g_dir_close (dir);
}

gboolean
odb_find_prefix (Repo *repo, ObjectHandle *handle, const char *prefix, guint *ret_found, GsOid *ret_oid, GError **error)
{
  g_autofree char *lower = g_ascii_strdown (prefix, -1);
  git_oid start, match;
  GsOid oid = { .len = (guint8) repo->format };
  guint found = 0;
  if (git_oid_fromstrn (&start, lower, strlen (lower)) != 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "%s is not the beginning of an object id", prefix);
  int code = git_odb_exists_prefix (&match, handle->odb, &start, strlen (lower));
  if (code == 0)
    {
      memcpy (oid.raw, match.id, sizeof match.id);
      found = 1;
    }
  else if (code == GIT_EAMBIGUOUS)
    found = 2;
  else if (code != GIT_ENOTFOUND)
    return git2_fail (error, code, "look for objects in", repo->path);
  find_loose_prefix (repo, lower, &found, &oid);
  *ret_found = found;
  if (found == 1)
    *ret_oid = oid;
  return TRUE;
}

const char *
odb_type_name (GsObjectType type)
{
  static const char *const names[] = { NULL, "commit", "tree", "blob", "tag" };
  return type <= GS_OBJECT_TAG ? names[type] : NULL;
}

gboolean
odb_parse_link (const char *data, gsize len, const char *field, GsOid *ret_oid)
{
  gsize field_len = strlen (field);
  return len > field_len + 41 && memcmp (data, field, field_len) == 0 && data[field_len] == ' '
         && data[field_len + 41] == '\n' && gs_oid_parse (data + field_len + 1, 40, ret_oid);
}

gboolean
odb_peel (Repo *repo, ObjectHandle *handle, const GsOid *oid, GsOid *ret_oid, GsObjectType *ret_type, GError **error)
{
  GsOid at = *oid;
  for (int depth = 0; depth < PEEL_MAX; depth++)
    {
      GsObjectType type;
      guint64 size;
      GBytes *bytes;
      gsize len;
      if (!odb_header (repo, handle, &at, &type, &size, error))
        return FALSE;
      if (type != GS_OBJECT_TAG)
        {
          *ret_oid = at;
          *ret_type = type;
          return TRUE;
        }
      if (!odb_read (repo, handle, &at, ODB_TAG_MAX, &type, &bytes, error))
        return FALSE;
      const char *data = g_bytes_get_data (bytes, &len);
      gboolean linked = odb_parse_link (data, len, "object", &at);
      g_bytes_unref (bytes);
      if (!linked)
        return gs_fail (error, GS_ERROR_DATA_LOSS, "a tag object of repository %" G_GUINT64_FORMAT " names no object",
                        repo->id);
    }
  return gs_fail (error, GS_ERROR_OUT_OF_RANGE,
                  "a tag of repository %" G_GUINT64_FORMAT " leads through more than %d tags", repo->id, PEEL_MAX);
}

/* -------------------------------------------------------------------------------- for the ref store */

gboolean
objects_peel (gpointer user, const GsOid *oid, GsOid *ret_peeled, gboolean *ret_is_commit, GError **error)
{
  const PeelIn *in = user;
  ObjectHandle *handle = in->handle != NULL ? in->handle : odb_borrow (in->repo, error);
  GsObjectType type;
  GsOid peeled;
  if (handle == NULL)
    return FALSE;
  gboolean found = odb_peel (in->repo, handle, oid, &peeled, &type, error);
  if (in->handle == NULL)
    odb_return (in->repo, handle);
  if (!found)
    return FALSE;
  gboolean is_tag = !gs_oid_equal (&peeled, oid);
  *ret_peeled = is_tag ? peeled : (GsOid){ .len = 0 };
  *ret_is_commit = type == GS_OBJECT_COMMIT && !is_tag;
  return TRUE;
}

gboolean
objects_peel_in_quarantine (Repo *repo, const char *quarantine, PeelIn *ret_in, GError **error)
{
  g_autofree char *objects = quarantine != NULL ? quarantine_objects_dir (repo, quarantine) : NULL;
  ObjectHandle *handle = handle_new (repo, objects, error);
  if (handle == NULL)
    return FALSE;
  *ret_in = (PeelIn){ repo, handle };
  return TRUE;
}

void
objects_peel_done (PeelIn *in)
{
  handle_free (in->handle);
}
