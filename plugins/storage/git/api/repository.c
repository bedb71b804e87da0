/* SPDX-License-Identifier: Apache-2.0 */
/* RepositoryService: statistics, attributes. Searches: search.c. What makes bulk bytes: export.c. */
#include "transfer.h"

#include <dirent.h>
#include <fcntl.h>
#include <git2.h>
#include <git2/sys/mempack.h>
#include <git2/sys/odb_backend.h>
#include <git2/sys/repository.h>
#include <sys/stat.h>

#define PATHS_MAX 200
#define ATTRIBUTES_MAX 50
#define ATTRIBUTES_BYTES (1u << 20) /* of one .gitattributes */
#define WALK_DEPTH 64

/* ---------------------------------------------------------------------------------------- statistics */

/* A file by its path in the replica: what it counts as. */
static void
count_file (Gitstead__V1__RepositoryStatisticsReply *reply, const char *path, guint64 bytes)
{
  static const char *const index_ends[] = { ".idx", ".rev", ".bitmap", ".midx", ".graph", ".mtimes" };
  reply->total_bytes += bytes;
  if (g_str_has_prefix (path, GIT_QUARANTINES "/"))
    reply->quarantine_bytes += bytes;
  else if (g_str_has_prefix (path, "refs/") || strcmp (path, "packed-refs") == 0 || strcmp (path, "HEAD") == 0)
    reply->refs_bytes += bytes;
  else if (!g_str_has_prefix (path, "objects/"))
    return;
  else if (g_str_has_suffix (path, ".pack"))
    {
      reply->packs++;
      reply->pack_bytes += bytes;
    }
  else if (g_ascii_isxdigit (path[8]) && g_ascii_isxdigit (path[9]) && path[10] == '/')
    {
      reply->loose_objects++;
      reply->loose_bytes += bytes;
    }
  else
    {
      gboolean is_index = g_str_has_prefix (path, "objects/info/commit-graph");
      for (gsize i = 0; i < G_N_ELEMENTS (index_ends); i++)
        is_index = is_index || g_str_has_suffix (path, index_ends[i]);
      reply->multi_pack_index |= strcmp (path, "objects/pack/multi-pack-index") == 0;
      reply->commit_graph |= g_str_has_prefix (path, "objects/info/commit-graph");
      reply->bitmap |= g_str_has_suffix (path, ".bitmap");
      if (is_index || reply->multi_pack_index)
        reply->index_bytes += bytes;
    }
}

/* Files that go meanwhile are none. */
static gboolean
count_folder (GitCall *call, GPtrArray *left, const char *folder, Gitstead__V1__RepositoryStatisticsReply *reply,
              GError **error)
{
  g_autofree char *full = g_strconcat (call->repo->dir, "/", folder, NULL);
  DIR *dir = opendir (full);
  struct dirent *entry;
  gboolean done = TRUE;
  while (dir != NULL && done && (entry = readdir (dir)) != NULL)
    {
      struct stat st;
      if (strcmp (entry->d_name, ".") == 0 || strcmp (entry->d_name, "..") == 0
          || fstatat (dirfd (dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      g_autofree char *path = g_strconcat (folder, *folder != '\0' ? "/" : "", entry->d_name, NULL);
      if (S_ISDIR (st.st_mode))
        g_ptr_array_add (left, g_steal_pointer (&path));
      else
        count_file (reply, path, (guint64) st.st_size);
      done = gs_call_check (call->call, "measure a repository", error);
    }
  if (dir != NULL)
    closedir (dir);
  return done;
}

static gboolean
repository_statistics (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  Gitstead__V1__RepositoryStatisticsReply *reply = (void *) answer;
  g_autoptr (GPtrArray) left = g_ptr_array_new_with_free_func (g_free);
  RefSnapshot *snapshot = api_refs (call, error);
  ReplicaRecord record;
  if (snapshot == NULL || !replica_record_read (call->repo->dir, &record, error))
    return FALSE;
  reply->generation = record.generation;
  replica_record_clear (&record);
  reply->object_format = api_text (call, call->repo->format == GS_FORMAT_SHA1 ? "sha1" : "sha256", -1);
  for (gsize i = 0; i < ref_snapshot_count (snapshot); i++)
    {
      RefEntry ref;
      ref_snapshot_get (snapshot, i, &ref);
      if (ref_name_hidden (call->repo->refs, ref.name))
        continue;
      reply->refs++;
      reply->branches += g_str_has_prefix (ref.name, "refs/heads/");
      reply->tags += g_str_has_prefix (ref.name, "refs/tags/");
    }
  g_ptr_array_add (left, g_strdup (""));
  while (left->len > 0)
    {
      g_autofree char *folder = g_ptr_array_steal_index_fast (left, left->len - 1);
      if (!count_folder (call, left, folder, reply, error))
        return FALSE;
    }
  return TRUE;
}

static gboolean
repository_checksum (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  Gitstead__V1__RepositoryChecksumReply *reply = (void *) answer;
  RefSnapshot *snapshot = api_refs (call, error);
  GsDigest sum = { { 0 } }, term;
  if (snapshot == NULL)
    return FALSE;
  ref_digest_term ("HEAD", NULL, ref_snapshot_head (snapshot), &term);
  gs_digest_add (&sum, &term);
  for (gsize i = 0; i < ref_snapshot_count (snapshot); i++)
    {
      RefEntry ref;
      ref_snapshot_get (snapshot, i, &ref);
      ref_digest_term (ref.name, &ref.oid, NULL, &term);
      gs_digest_add (&sum, &term);
    }
  reply->refs_digest = api_bytes (call, sum.bytes, sizeof sum.bytes);
  reply->refs = ref_snapshot_count (snapshot);
  reply->head = api_bytes (call, ref_snapshot_head (snapshot), strlen (ref_snapshot_head (snapshot)));
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- attributes */

/*
 * What libgit2 gets to see: the commit, the trees on the way to the paths, and the .gitattributes in them, each read by
 * us, wherever it lies, packed or not, and only when it is not too large.
 */
typedef struct
{
  GitCall *call;
  git_odb *odb;      /* in memory */
  GHashTable *given; /* ids in hex */
} Shown;

static gboolean
show_object (Shown *shown, const GsOid *oid, GsObjectType type, guint64 max, GError **error)
{
  g_autoptr (GBytes) bytes = NULL;
  char hex[GS_OID_HEX_MAX + 1];
  git_oid given;
  gs_oid_hex (oid, hex);
  if (g_hash_table_contains (shown->given, hex))
    return TRUE;
  if (!api_read (shown->call, oid, type, max, &bytes, error))
    return FALSE;
  if (git_odb_write (&given, shown->odb, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), (git_object_t) type)
      != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "libgit2 cannot take object %s in", hex);
  if (memcmp (given.id, oid->raw, oid->len) != 0)
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "its content is another");
      api_name_loss (shown->call, oid, error);
      return FALSE;
    }
  g_hash_table_add (shown->given, g_strdup (hex));
  return TRUE;
}

static gboolean
show_file (Shown *shown, const GsOid *tree, const char *file, GError **error)
{
  GitCall *call = shown->call;
  ObjectHandle *odb = api_odb (call, error);
  GsObject object;
  GsObjectType type;
  guint64 size;
  gboolean found;
  if (odb == NULL || !api_find_path (call, tree, file, &object, &found, error))
    return FALSE;
  if (!found || object.type != GS_OBJECT_BLOB)
    return TRUE;
  if (!odb_header (call->repo, odb, &object.oid, &type, &size, error))
    {
      api_name_loss (call, &object.oid, error);
      return FALSE;
    }
  if (size > ATTRIBUTES_BYTES)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "paths: %s has %" G_GUINT64_FORMAT " bytes, more than %u", file, size,
                    ATTRIBUTES_BYTES);
  return show_object (shown, &object.oid, GS_OBJECT_BLOB, ATTRIBUTES_BYTES, error);
}

/* libgit2 takes a commit and reads its people, which no attribute depends on. So it gets one of the same tree that it can read. */
static gboolean
show_commit (Shown *shown, const GsOid *tree, git_oid *ret_commit, GError **error)
{
  char hex[GS_OID_HEX_MAX + 1];
  g_autofree char *text = NULL;
  gs_oid_hex (tree, hex);
  text = g_strdup_printf ("tree %s\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\n", hex);
  if (git_odb_write (ret_commit, shown->odb, text, strlen (text), GIT_OBJECT_COMMIT) != 0)
    return gs_fail (error, GS_ERROR_INTERNAL, "libgit2 cannot take a commit of tree %s in", hex);
  return TRUE;
}

/* The folders that @path lies in, from the root on, as far as they are there. */
static gboolean
show_folders (Shown *shown, const GsOid *tree, const char *path, GError **error)
{
  for (const char *slash = path; slash != NULL; slash = strchr (slash + 1, '/'))
    {
      gsize len = (gsize) (slash - path);
      g_autofree char *folder = g_strndup (path, len);
      g_autofree char *file = g_strconcat (folder, len > 0 ? "/" : "", ".gitattributes", NULL);
      GsObject object;
      gboolean found;
      if (!api_find_path (shown->call, tree, folder, &object, &found, error))
        return FALSE;
      if (!found || object.type != GS_OBJECT_TREE)
        return TRUE;
      if (!show_object (shown, &object.oid, GS_OBJECT_TREE, ODB_TREE_MAX, error)
          || !show_file (shown, tree, file, error))
        return FALSE;
    }
  return TRUE;
}

static void
add_attribute (GitCall *call, Gitstead__V1__RepositoryAttributesReply *reply, const char *path, const char *name,
               const char *value)
{
  Gitstead__V1__PathAttribute *entry;
  const char *text = value;
  git_attr_value_t kind = git_attr_value (value);
  if (kind == GIT_ATTR_VALUE_UNSPECIFIED)
    return;
  if (kind != GIT_ATTR_VALUE_STRING)
    text = kind == GIT_ATTR_VALUE_TRUE ? "set" : "unset";
  entry = api_message (call, &gitstead__v1__path_attribute__descriptor);
  entry->path = api_bytes (call, path, strlen (path));
  entry->attribute = (char *) name;
  entry->value = api_bytes (call, text, strlen (text));
  API_APPEND (call, reply, attributes, entry);
}

static gboolean
read_attributes (GitCall *call, const Gitstead__V1__RepositoryAttributesRequest *request, const GsOid *tree,
                 git_repository *git, Shown *shown, Gitstead__V1__RepositoryAttributesReply *reply, GError **error)
{
  git_attr_options options = GIT_ATTR_OPTIONS_INIT;
  g_autofree const char **values = g_new0 (const char *, request->n_attributes);
  options.flags = GIT_ATTR_CHECK_INDEX_ONLY | GIT_ATTR_CHECK_NO_SYSTEM | GIT_ATTR_CHECK_INCLUDE_COMMIT;
  if (!show_commit (shown, tree, &options.attr_commit_id, error))
    return FALSE;
  for (gsize i = 0; i < request->n_paths; i++)
    {
      char *path;
      if (!gs_call_check (call->call, "read attributes", error)
          || !api_take_path (call, &request->paths[i], "paths", FALSE, &path, error)
          || !show_folders (shown, tree, path, error))
        return FALSE;
      if (git_attr_get_many_ext (values, git, &options, path, request->n_attributes,
                                 (const char **) request->attributes)
          != 0)
        {
          const git_error *why = git_error_last ();
          return gs_fail (error, GS_ERROR_INTERNAL, "read the attributes of %s in repository %" G_GUINT64_FORMAT ": %s",
                          path, call->repo->id, why != NULL ? why->message : "unknown failure of libgit2");
        }
      for (gsize k = 0; k < request->n_attributes; k++)
        add_attribute (call, reply, path, request->attributes[k], values[k]);
    }
  return TRUE;
}

static gboolean
with_libgit2 (GitCall *call, const Gitstead__V1__RepositoryAttributesRequest *request, const GsOid *tree,
              Gitstead__V1__RepositoryAttributesReply *reply, GError **error)
{
  Shown shown = { .call = call };
  git_odb_backend *memory = NULL;
  git_repository *git = NULL;
  gboolean done = FALSE;
  if (git_odb_new (&shown.odb) != 0 || git_mempack_new (&memory) != 0 || git_odb_add_backend (shown.odb, memory, 1) != 0
      || git_repository_open_bare (&git, call->repo->dir) != 0)
    gs_fail (error, GS_ERROR_INTERNAL, "libgit2 cannot open repository %" G_GUINT64_FORMAT, call->repo->id);
  else
    {
      shown.given = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
      git_repository_set_odb (git, shown.odb);
      done = read_attributes (call, request, tree, git, &shown, reply, error);
      g_hash_table_unref (shown.given);
    }
  git_repository_free (git);
  git_odb_free (shown.odb);
  return done;
}

static gboolean
repository_attributes (GitCall *call, const ProtobufCMessage *message, ProtobufCMessage *answer, GError **error)
{
  const Gitstead__V1__RepositoryAttributesRequest *request = (const void *) message;
  ObjectHandle *odb = api_odb (call, error);
  GsOid commit, tree;
  if (odb == NULL || !api_take_count (request->n_paths, PATHS_MAX, "paths", error)
      || !api_take_count (request->n_attributes, ATTRIBUTES_MAX, "attributes", error)
      || !api_take_commit (call, &request->revision, "revision", &commit, error)
      || !api_commit_tree (call, &commit, &tree, error))
    return FALSE;
  for (gsize i = 0; i < request->n_attributes; i++)
    if (!g_ascii_isalnum (request->attributes[i][0]) && strchr ("_.", request->attributes[i][0]) == NULL)
      return api_invalid (error, "attributes", "\"%.80s\" is no attribute's name", request->attributes[i]);
  return with_libgit2 (call, request, &tree, (void *) answer, error);
}

const ApiRow api_repository_rows[] = {
  API_ROW (120, repository_statistics, repository_statistics_request, repository_statistics_reply),
  API_ROW (121, repository_checksum, repository_checksum_request, repository_checksum_reply),
  API_ROW (122, repository_attributes, repository_attributes_request, repository_attributes_reply),
  API_ROW (123, api_search_names, repository_search_names_request, repository_search_names_reply),
  API_ROW (124, api_search_content, repository_search_content_request, repository_search_content_reply),
  API_ROW (125, api_repository_archive, repository_archive_request, repository_archive_reply),
  API_ROW (126, api_repository_bundle, repository_bundle_create_request, repository_bundle_create_reply),
  API_ROW (127, api_repository_fsck, repository_fsck_request, repository_fsck_reply),
  API_ROW (128, api_repository_optimize, repository_optimize_request, repository_optimize_reply),
  API_ROW (129, api_repository_snapshot, repository_snapshot_request, repository_snapshot_reply),
  API_ROW (140, api_repository_prune, repository_prune_request, repository_prune_reply),
  API_ROW (155, api_repository_mirror, repository_mirror_request, repository_mirror_reply),
  API_ROW (156, api_repository_remote_refs, repository_remote_refs_request, repository_remote_refs_reply),
  { 0 },
};
