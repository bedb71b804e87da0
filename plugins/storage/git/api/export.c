/* SPDX-License-Identifier: Apache-2.0 */
/* RepositoryService's exports as bulk bytes, straight from git to the client: archives and bundles. */
#include "api.h"

#include "gitstead/v1/repository.pb-c.h"

#define ARCHIVE_PATHS_MAX 500
#define BUNDLE_REFS_MAX 10000

/* ------------------------------------------------------------------------------------------ archives */

static gboolean
paths_are_there (GitCall *call, const GsOid *tree, const ProtobufCBinaryData *paths, gsize n, GError **error)
{
  for (gsize i = 0; i < n; i++)
    {
      GsObject object;
      char *path;
      if (!gs_call_check (call->call, "look for paths", error)
          || !api_take_entry (call, tree, &paths[i], "paths", API_ANY, &path, &object, error))
        return FALSE;
    }
  return TRUE;
}

gboolean
api_repository_archive (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const formats[] = { NULL, "--format=tar", "--format=tar.gz", "--format=zip" };
  const Gitstead__V1__RepositoryArchiveRequest *request = (const void *) message;
  Gitstead__V1__RepositoryArchiveReply *reply = (void *) answer;
  g_autoptr (GPtrArray) argv = g_ptr_array_new ();
  g_autofree char *folder = NULL;
  g_autoptr (GBytes) top = NULL;
  GsOid commit, tree;
  char *prefix;
  if (!api_take_enum (&gitstead__v1__archive_format__descriptor, (int) request->format, "format", error))
    return FALSE;
  if (request->format == GITSTEAD__V1__ARCHIVE_FORMAT__ARCHIVE_FORMAT_UNSPECIFIED)
    return api_invalid (error, "format", "say which");
  if (!api_take_path (call, &request->prefix, "prefix", TRUE, &prefix, error)
      || !api_take_commit (call, &request->revision, "revision", &commit, error)
      || !api_commit_tree (call, &commit, &tree, error) || !api_read (call, &tree, GS_OBJECT_TREE, ODB_TREE_MAX, &top, error)
      || !paths_are_there (call, &tree, request->paths, request->n_paths, error))
    return FALSE;
  g_ptr_array_add (argv, (gpointer) "archive");
  g_ptr_array_add (argv, (gpointer) formats[request->format]);
  if (*prefix != '\0')
    g_ptr_array_add (argv, folder = g_strdup_printf ("--prefix=%s/", prefix));
  g_ptr_array_add (argv, reply->oid = api_hex (call, &commit));
  g_ptr_array_add (argv, (gpointer) "--");
  if (!api_add_pathspecs (call, argv, request->paths, request->n_paths, ARCHIVE_PATHS_MAX, ":(top,literal)", "paths", error)
      || !api_add_pathspecs (call, argv, request->excluded, request->n_excluded, ARCHIVE_PATHS_MAX,
                             ":(top,exclude,literal)", "excluded", error))
    return FALSE;
  g_ptr_array_add (argv, NULL);
  return api_run_stream (call, (const char *const *) argv->pdata, NULL, error);
}

/* ------------------------------------------------------------------------------------------- bundles */

static gboolean
add_refs (GitCall *call, const Gitstead__V1__RepositoryBundleCreateRequest *request, GString *input, GError **error)
{
  RefSnapshot *snapshot = api_refs (call, error);
  RefEntry ref;
  if (snapshot == NULL)
    return FALSE;
  for (gsize i = 0; i < request->n_refs; i++)
    {
      char *name;
      if (!api_take_text (call, &request->refs[i], "refs", &name, error))
        return FALSE;
      if (!g_str_has_prefix (name, "refs/") && strcmp (name, "HEAD") != 0)
        return api_invalid (error, "refs", "'%s' is not below refs/, and not HEAD", name);
      if (ref_name_hidden (call->repo->refs, name)
          || !ref_snapshot_find (snapshot, strcmp (name, "HEAD") == 0 ? ref_snapshot_head (snapshot) : name, &ref))
        return gs_fail (error, GS_ERROR_NOT_FOUND, "refs: repository %" G_GUINT64_FORMAT " has no ref %s", call->repo->id,
                        name);
      if (!api_ref_whole (call, &ref, error))
        return FALSE;
      g_string_append_printf (input, "%s\n", name);
    }
  if (request->n_refs > 0)
    return TRUE;
  if (ref_snapshot_find (snapshot, ref_snapshot_head (snapshot), &ref))
    g_string_append (input, "HEAD\n");
  for (gsize i = 0; i < ref_snapshot_count (snapshot); i++)
    {
      ref_snapshot_get (snapshot, i, &ref);
      if (ref_name_hidden (call->repo->refs, ref.name))
        continue;
      if (!api_ref_whole (call, &ref, error))
        return FALSE;
      g_string_append_printf (input, "%s\n", ref.name);
    }
  return TRUE;
}

gboolean
api_repository_bundle (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  static const char *const argv[] = { "bundle", "create", "--quiet", "-", "--stdin", NULL };
  const Gitstead__V1__RepositoryBundleCreateRequest *request = (const void *) message;
  g_autoptr (GString) input = g_string_new (NULL);
  g_autoptr (GError) why = NULL;
  if (request->n_refs > BUNDLE_REFS_MAX || request->n_excluded > BUNDLE_REFS_MAX)
    return api_invalid (error, request->n_refs > BUNDLE_REFS_MAX ? "refs" : "excluded", "up to %d are taken",
                        BUNDLE_REFS_MAX);
  if (!add_refs (call, request, input, error))
    return FALSE;
  if (input->len == 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "repository %" G_GUINT64_FORMAT " has no refs to put into a bundle",
                    call->repo->id);
  for (gsize i = 0; i < request->n_excluded; i++)
    {
      GsOid commit;
      if (!api_take_commit (call, &request->excluded[i], "excluded", &commit, error))
        return FALSE;
      g_string_append_printf (input, "^%s\n", api_hex (call, &commit));
    }
  g_autoptr (GBytes) bytes = g_bytes_new (input->str, input->len);
  if (api_run_stream (call, argv, bytes, &why))
    return TRUE;
  if (strstr (why->message, "empty bundle") != NULL)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "repository %" G_GUINT64_FORMAT " has nothing that the excluded revisions do not reach", call->repo->id);
  g_propagate_error (error, g_steal_pointer (&why));
  return FALSE;
}
