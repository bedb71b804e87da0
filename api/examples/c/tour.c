/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tour.c - a client in C on libgitstead: makes a repository and shows the most used calls on it.
 *
 *   cc -o tour tour.c $(pkg-config --cflags --libs gitstead-client)
 *   ./tour URL tour GROUP/PROJECT
 *
 * URL is tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH; GITSTEAD_TOKEN holds the token. Every function that makes a
 * call takes what it needs from Tour and leaves the first failure there. docs/clients.md explains what is used here.
 */
#include <gitstead-calls.h>
#include <stdio.h>

#define N(array_) (sizeof (array_) / sizeof *(array_))
#define V1(name_) Gitstead__V1__##name_

typedef struct
{
  GsClient *client;
  V1 (Repository) repository;
  GsArena *arena; /* all replies, until the end */
  GChecksum *sum; /* of the archive */
} Tour;

/* Names, paths and messages in Git are bytes; here they are text. */
static ProtobufCBinaryData
bytes (const char *text)
{
  ProtobufCBinaryData data = { strlen (text), (guint8 *) text };
  return data;
}

static void
print_quoted (const ProtobufCBinaryData *data)
{
  putchar ('"');
  for (gsize i = 0; i < data->len; i++)
    if (data->data[i] == '\n')
      fputs ("\\n", stdout);
    else
      putchar (data->data[i]);
  putchar ('"');
}

static const char *
name_of (const ProtobufCEnumDescriptor *type, int value)
{
  const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value (type, value);
  return known != NULL ? known->name : "?";
}

/* ---------------------------------------------------------------------------------------- writing */

static gboolean
create (Tour *tour, GError **error)
{
  V1 (RepositoryCreateRequest) request = GITSTEAD__V1__REPOSITORY_CREATE_REQUEST__INIT;
  const V1 (RepositoryCreateReply) *reply;
  request.repository = &tour->repository;
  request.default_branch = bytes ("main");
  if (!gs_repository_create (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  printf ("created, objects %s\n", reply->info->object_format);
  return TRUE;
}

/* By whom and when: the same request on the same state gives the same ids everywhere. */
static V1 (Person) author (gint64 seconds)
{
  V1 (Person) person = GITSTEAD__V1__PERSON__INIT;
  person.name = bytes ("Ann Author");
  person.email = bytes ("ann@example.org");
  person.seconds = seconds;
  person.zone = bytes ("+0200");
  return person;
}

typedef struct
{
  const char *path, *content;
} File;

static gboolean
commit (Tour *tour, const char *branch, gint64 seconds, const char *message, const File *files, gsize n, GError **error)
{
  V1 (ChangeCommitFilesRequest) request = GITSTEAD__V1__CHANGE_COMMIT_FILES_REQUEST__INIT;
  V1 (ChangeWrite) write = GITSTEAD__V1__CHANGE_WRITE__INIT;
  V1 (Person) committer = author (seconds);
  V1 (FileAction) actions[4], *list[N (actions)];
  const V1 (ChangeReply) *reply;
  for (gsize i = 0; i < n; i++)
    {
      gitstead__v1__file_action__init (list[i] = &actions[i]);
      actions[i].kind = GITSTEAD__V1__FILE_ACTION_KIND__FILE_PUT;
      actions[i].path = bytes (files[i].path);
      actions[i].content = bytes (files[i].content);
    }
  write.branch = bytes (branch);
  write.committer = &committer;
  request.repository = &tour->repository;
  request.write = &write;
  request.message = bytes (message);
  request.actions = list;
  request.n_actions = n;
  if (!gs_change_commit_files (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  printf ("committed %s\n", reply->new_oid);
  return TRUE;
}

static gboolean
branch_and_commit (Tour *tour, GError **error)
{
  static const File begin[] = { { "README.md", "# Tour\n" }, { "src/main.c", "int main (void) { return 0; }\n" } };
  static const File more[] = { { "README.md", "# Tour\n\nTen calls.\n" } };
  V1 (ChangeCreateBranchRequest) request = GITSTEAD__V1__CHANGE_CREATE_BRANCH_REQUEST__INIT;
  request.repository = &tour->repository;
  request.branch = bytes ("topic");
  request.revision = bytes ("main");
  return commit (tour, "main", 1700000000, "Begin", begin, N (begin), error)
         && gs_change_create_branch (tour->client, &request, NULL, tour->arena, NULL, error)
         && commit (tour, "topic", 1700000100, "Say more", more, N (more), error);
}

/*
 * Moves a ref there and back, each time only if nobody else moved it meanwhile: who loses the race looks again. Who does not
 * know what became of the call says the same once more, and the server does it once: it would not take another one for it.
 */
typedef struct
{
  Tour *tour;
  const char *name, *to;
  const char *old; /* what the ref was when we looked */
} Move;

static gboolean
move_ref (GsClient *client, GsClientCall *call, gpointer user, GError **error)
{
  static const GsTxId none;
  Move *move = user;
  V1 (RefFindRequest) look = GITSTEAD__V1__REF_FIND_REQUEST__INIT;
  V1 (RefUpdateRequest) request = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  V1 (RefUpdate) update = GITSTEAD__V1__REF_UPDATE__INIT, *updates[] = { &update };
  const V1 (RefFindReply) *now;
  look.repository = request.repository = &move->tour->repository;
  look.name = bytes (move->name);
  if (memcmp (&call->call_id, &none, sizeof none) == 0)
    {
      if (!gs_ref_find (client, &look, NULL, move->tour->arena, &now, error))
        return FALSE;
      move->old = now->ref->oid;
    }
  update.name = look.name;
  update.old_oid = (char *) move->old;
  update.new_oid = (char *) move->to;
  request.updates = updates;
  request.n_updates = 1;
  return gs_ref_update (client, &request, call, move->tour->arena, NULL, error);
}

static gboolean
update_ref (Tour *tour, GError **error)
{
  V1 (ObjectResolveRequest) request = GITSTEAD__V1__OBJECT_RESOLVE_REQUEST__INIT;
  const V1 (ObjectResolveReply) *before, *topic;
  Move there = { tour, "refs/heads/main", NULL, NULL }, back = there;
  request.repository = &tour->repository;
  request.revision = bytes ("main");
  if (!gs_object_resolve (tour->client, &request, NULL, tour->arena, &before, error))
    return FALSE;
  request.revision = bytes ("topic");
  if (!gs_object_resolve (tour->client, &request, NULL, tour->arena, &topic, error))
    return FALSE;
  there.to = topic->object->oid;
  back.to = before->object->oid;
  return gs_client_retry (tour->client, 0, move_ref, &there, error) && gs_client_retry (tour->client, 0, move_ref, &back, error);
}

static gboolean
merge (Tour *tour, GError **error)
{
  V1 (ChangeMergeRequest) request = GITSTEAD__V1__CHANGE_MERGE_REQUEST__INIT;
  V1 (ChangeWrite) write = GITSTEAD__V1__CHANGE_WRITE__INIT;
  V1 (Person) committer = author (1700000200);
  const V1 (ChangeReply) *reply;
  write.branch = bytes ("main");
  write.committer = &committer;
  request.repository = &tour->repository;
  request.write = &write;
  request.source = bytes ("topic");
  request.message = bytes ("Merge topic");
  if (!gs_change_merge (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  printf ("merged %s %s\n", name_of (&gitstead__v1__change_outcome__descriptor, (int) reply->outcome), reply->new_oid);
  return TRUE;
}

/* ---------------------------------------------------------------------------------------- reading */

static gboolean
print_refs (const ProtobufCMessage *page, gpointer user)
{
  const V1 (RefListReply) *reply = (const void *) page;
  guint *pages = user;
  ++*pages;
  for (gsize i = 0; i < reply->n_refs; i++)
    printf ("ref %s %.*s\n", reply->refs[i]->oid, (int) reply->refs[i]->name.len, (char *) reply->refs[i]->name.data);
  return TRUE;
}

/* Two to a page, to show pages. */
static gboolean
list_refs (Tour *tour, GError **error)
{
  V1 (RefListRequest) request = GITSTEAD__V1__REF_LIST_REQUEST__INIT;
  V1 (Page) page = GITSTEAD__V1__PAGE__INIT;
  guint pages = 0;
  request.repository = &tour->repository;
  request.head = TRUE;
  request.page = &page;
  page.limit = 2;
  return gs_ref_list_pages (tour->client, &request, NULL, print_refs, &pages, NULL, error);
}

static gboolean
get_commit (Tour *tour, const char *revision, GError **error)
{
  V1 (CommitGetRequest) request = GITSTEAD__V1__COMMIT_GET_REQUEST__INIT;
  ProtobufCBinaryData revisions[] = { bytes (revision) };
  const V1 (CommitGetReply) *reply;
  request.repository = &tour->repository;
  request.revisions = revisions;
  request.n_revisions = 1;
  if (!gs_commit_get (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  for (gsize i = 0; i < reply->n_entries; i++)
    {
      const V1 (Commit) *found = reply->entries[i]->commit;
      printf ("commit %s by %.*s: ", found->oid, (int) found->author->name.len, (char *) found->author->name.data);
      print_quoted (&found->message);
      putchar ('\n');
    }
  return TRUE;
}

static gboolean
list_history (Tour *tour, GError **error)
{
  V1 (HistoryListRequest) request = GITSTEAD__V1__HISTORY_LIST_REQUEST__INIT;
  V1 (HistoryRange) range = GITSTEAD__V1__HISTORY_RANGE__INIT;
  ProtobufCBinaryData include[] = { bytes ("topic") };
  const V1 (HistoryListReply) *reply;
  range.include = include;
  range.n_include = 1;
  request.repository = &tour->repository;
  request.range = &range;
  if (!gs_history_list (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  for (gsize i = 0; i < reply->n_commits; i++)
    printf ("history %s\n", reply->commits[i]->oid);
  return TRUE;
}

static gboolean
list_tree (Tour *tour, GError **error)
{
  V1 (CommitTreeEntriesRequest) request = GITSTEAD__V1__COMMIT_TREE_ENTRIES_REQUEST__INIT;
  const V1 (CommitTreeEntriesReply) *reply;
  request.repository = &tour->repository;
  request.revision = bytes ("topic");
  request.recursive = TRUE;
  if (!gs_commit_tree_entries (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  for (gsize i = 0; i < reply->n_entries; i++)
    printf ("entry %06o %s %.*s\n", reply->entries[i]->mode,
            name_of (&gitstead__v1__object_type__descriptor, (int) reply->entries[i]->type),
            (int) reply->entries[i]->path.len, (char *) reply->entries[i]->path.data);
  return TRUE;
}

static gboolean
get_blob (Tour *tour, GError **error)
{
  V1 (BlobGetRequest) request = GITSTEAD__V1__BLOB_GET_REQUEST__INIT;
  const V1 (BlobGetReply) *reply;
  request.repository = &tour->repository;
  request.revision = bytes ("topic:README.md");
  if (!gs_blob_get (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  printf ("blob %" G_GUINT64_FORMAT " bytes: ", reply->blob->size);
  print_quoted (&reply->blob->data);
  putchar ('\n');
  return TRUE;
}

static gboolean
show_diff (Tour *tour, GError **error)
{
  V1 (DiffParsedRequest) request = GITSTEAD__V1__DIFF_PARSED_REQUEST__INIT;
  const V1 (DiffParsedReply) *reply;
  request.repository = &tour->repository;
  request.left = bytes ("main");
  request.right = bytes ("topic");
  if (!gs_diff_parsed (tour->client, &request, NULL, tour->arena, &reply, error))
    return FALSE;
  for (gsize i = 0; i < reply->n_files; i++)
    printf ("diff %.*s +%" G_GUINT64_FORMAT " -%" G_GUINT64_FORMAT "\n", (int) reply->files[i]->path->new_path.len,
            (char *) reply->files[i]->path->new_path.data, reply->files[i]->additions, reply->files[i]->deletions);
  return TRUE;
}

/* Bulk bytes come as they are made, on a connection of their own. */
static gboolean
add_to_sum (gpointer user, gconstpointer data, gsize len, GError **error)
{
  (void) error;
  g_checksum_update (user, data, (gssize) len);
  return TRUE;
}

static gboolean
archive (Tour *tour, GError **error)
{
  V1 (RepositoryArchiveRequest) request = GITSTEAD__V1__REPOSITORY_ARCHIVE_REQUEST__INIT;
  GsClientBulk bulk = GS_CLIENT_BULK;
  request.repository = &tour->repository;
  request.revision = bytes ("main");
  request.format = GITSTEAD__V1__ARCHIVE_FORMAT__ARCHIVE_TAR;
  request.prefix = bytes ("tour/");
  bulk.write = add_to_sum;
  bulk.user = tour->sum;
  if (!gs_repository_archive (tour->client, &request, &bulk, NULL, tour->arena, NULL, error))
    return FALSE;
  printf ("archive %s\n", g_checksum_get_string (tour->sum));
  return TRUE;
}

/* A refusal is typed. */
static gboolean
look_for_nothing (Tour *tour, GError **error)
{
  g_autoptr (GError) why = NULL;
  const V1 (ErrorDetails) *details;
  if (get_commit (tour, "nowhere", &why))
    return gs_fail (error, GS_ERROR_INTERNAL, "there is a revision 'nowhere'");
  details = gs_details (why, tour->arena);
  for (gsize i = 0; details != NULL && i < details->n_entries; i++)
    printf ("refused %s %s\n", gs_error_name (gs_error_code (why)), details->entries[i]->field);
  return TRUE;
}

static gboolean
run (Tour *tour, GError **error)
{
  return create (tour, error) && branch_and_commit (tour, error) && list_refs (tour, error)
         && get_commit (tour, "topic", error) && list_history (tour, error) && list_tree (tour, error)
         && get_blob (tour, error) && show_diff (tour, error) && update_ref (tour, error) && merge (tour, error)
         && archive (tour, error) && look_for_nothing (tour, error);
}

int
main (int argc, char **argv)
{
  GsClientOptions options = { .size = sizeof options };
  Tour tour = { .repository = GITSTEAD__V1__REPOSITORY__INIT };
  g_autoptr (GError) error = NULL;
  gboolean ok;
  if (argc != 4 || strcmp (argv[2], "tour") != 0)
    {
      fprintf (stderr, "usage: %s URL tour GROUP/PROJECT\n", argv[0]);
      return 2;
    }
  options.url = argv[1];
  options.token = g_getenv ("GITSTEAD_TOKEN");
  tour.repository.path = argv[3];
  tour.arena = gs_arena_new (GS_CLIENT_ARENA);
  tour.sum = g_checksum_new (G_CHECKSUM_SHA256);
  tour.client = gs_client_new (&options, &error);
  ok = tour.client != NULL && run (&tour, &error);
  if (!ok)
    fprintf (stderr, "tour: %s: %s\n", gs_error_name (gs_error_code (error)), error->message);
  gs_client_free (tour.client);
  g_checksum_free (tour.sum);
  gs_arena_free (tour.arena);
  return ok ? 0 : 1;
}
