/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libgitstead's helpers against a real server: pages, repeats, bulk bytes, details of errors. client-helpers URL PATH; the
 * repository is made. Prints TAP; test_nng.py runs it.
 */
#include <fcntl.h>
#include <gitstead-calls.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define V1(name_) Gitstead__V1__##name_
#define BIG ((gsize) 3 * 1000 * 1000)

static GsClient *client;
static GsArena *arena;
static V1 (Repository) repository = GITSTEAD__V1__REPOSITORY__INIT;
static guint n_checks;
static gboolean failed;

static void
check (gboolean good, const char *what, const GError *error)
{
  printf ("%sok %u - %s%s%s\n", good ? "" : "not ", ++n_checks, what, error != NULL ? ": " : "", error != NULL ? error->message : "");
  failed = failed || !good;
}

static ProtobufCBinaryData
bytes (const char *text)
{
  ProtobufCBinaryData data = { strlen (text), (guint8 *) text };
  return data;
}

/* ------------------------------------------------------------------------------------- bulk bytes */

/* What a file is made of, piece by piece. */
typedef struct
{
  gsize left, fail_at; /* with so much left; 0 = never */
  gsize seen;
  gboolean wrong;
} Piece;

static gssize
give (gpointer user, gpointer buffer, gsize len, GError **error)
{
  Piece *piece = user;
  gsize n = MIN (MIN (len, piece->left), 10007);
  if (piece->fail_at != 0 && piece->left <= piece->fail_at)
    {
      gs_fail (error, GS_ERROR_DATA_LOSS, "my disk is gone");
      return -1;
    }
  memset (buffer, 'x', n);
  piece->left -= n;
  return (gssize) n;
}

static gboolean
take (gpointer user, gconstpointer data, gsize len, GError **error)
{
  Piece *piece = user;
  for (gsize i = 0; i < len; i++)
    piece->wrong = piece->wrong || ((const char *) data)[i] != 'x';
  piece->seen += len;
  return piece->fail_at == 0 || piece->seen < piece->fail_at || gs_fail (error, GS_ERROR_DATA_LOSS, "my disk is full");
}

static gboolean
commit_at (const char *expected, const GsClientBulk *bulk, GsClientCall *call, const V1 (ChangeReply) **ret_reply,
           GError **error)
{
  V1 (ChangeCommitFilesRequest) request = GITSTEAD__V1__CHANGE_COMMIT_FILES_REQUEST__INIT;
  V1 (ChangeWrite) write = GITSTEAD__V1__CHANGE_WRITE__INIT;
  V1 (Person) person = GITSTEAD__V1__PERSON__INIT;
  V1 (FileAction) action = GITSTEAD__V1__FILE_ACTION__INIT, *actions[] = { &action };
  person.name = bytes ("A");
  person.email = bytes ("a@example.org");
  person.seconds = 1700000000;
  person.zone = bytes ("+0000");
  write.branch = bytes ("main");
  write.expected_old_oid = (char *) expected;
  write.committer = &person;
  action.kind = GITSTEAD__V1__FILE_ACTION_KIND__FILE_PUT;
  action.path = bytes ("big");
  action.stream_bytes = BIG;
  request.repository = &repository;
  request.write = &write;
  request.message = bytes ("One");
  request.actions = actions;
  request.n_actions = 1;
  return gs_change_commit_stream (client, &request, bulk, call, arena, ret_reply, error);
}

static gboolean
commit_stream (const GsClientBulk *bulk, const V1 (ChangeReply) **ret_reply, GError **error)
{
  return commit_at ("", bulk, NULL, ret_reply, error);
}

static gboolean
read_big (const GsClientBulk *bulk, GError **error)
{
  V1 (ObjectStreamRequest) request = GITSTEAD__V1__OBJECT_STREAM_REQUEST__INIT;
  request.repository = &repository;
  request.revision = bytes ("main:big");
  return gs_object_stream (client, &request, bulk, NULL, arena, NULL, error);
}

static void
transfers (char **ret_tip)
{
  GError *error = NULL;
  GsClientBulk bulk = GS_CLIENT_BULK;
  Piece piece = { .left = BIG, .fail_at = BIG / 2 };
  const V1 (ChangeReply) *reply = NULL;
  char path[] = "/tmp/client-helpers-XXXXXX";
  int fd = mkstemp (path), full = open ("/dev/full", O_WRONLY | O_CLOEXEC);
  gboolean good;
  unlink (path);
  bulk.read = give;
  bulk.user = &piece;
  good = !commit_stream (&bulk, NULL, &error) && g_error_matches (error, GS_ERROR, GS_ERROR_DATA_LOSS)
         && strcmp (error->message, "my disk is gone") == 0;
  check (good, "input that fails gives the call up", good ? NULL : error);
  g_clear_error (&error);
  check (!read_big (NULL, &error) && gs_error_code (error) == GS_ERROR_NOT_FOUND, "and half of it is not taken for the whole", error);
  g_clear_error (&error);
  piece = (Piece){ .left = BIG };
  check (commit_stream (&bulk, &reply, &error), "input by a function", error);
  *ret_tip = reply != NULL ? reply->new_oid : NULL;
  g_clear_error (&error);
  bulk = (GsClientBulk) GS_CLIENT_BULK;
  bulk.to_fd = fd;
  check (read_big (&bulk, &error) && lseek (fd, 0, SEEK_END) == (off_t) BIG, "output to a descriptor", error);
  g_clear_error (&error);
  lseek (fd, 0, SEEK_SET);
  bulk.from_fd = fd;
  bulk.to_fd = -1;
  good = commit_stream (&bulk, &reply, &error) && reply->outcome == GITSTEAD__V1__CHANGE_OUTCOME__CHANGE_UNCHANGED;
  check (good, "input from a descriptor, the same bytes", error);
  g_clear_error (&error);
  bulk = (GsClientBulk) GS_CLIENT_BULK;
  bulk.write = take;
  bulk.user = &piece;
  piece = (Piece){ 0 };
  check (read_big (&bulk, &error) && piece.seen == BIG && !piece.wrong, "output to a function", error);
  g_clear_error (&error);
  piece = (Piece){ .fail_at = 1000 };
  good = !read_big (&bulk, &error) && strcmp (error->message, "my disk is full") == 0 && piece.seen < BIG;
  check (good, "output that fails ends the call at once", good ? NULL : error);
  g_clear_error (&error);
  bulk = (GsClientBulk) GS_CLIENT_BULK;
  bulk.to_fd = full;
  good = !read_big (&bulk, &error) && strstr (error->message, "cannot write the output: No space left") != NULL;
  check (good, "and so does a full disk", good ? NULL : error);
  g_clear_error (&error);
  close (fd);
  close (full);
}

/* ------------------------------------------------------------------------------------------ pages */

typedef struct
{
  guint n_pages, stop_after; /* 0 = never */
  GString *names;
} Pages;

static gboolean
visit (const ProtobufCMessage *page, gpointer user)
{
  const V1 (RefListReply) *reply = (const void *) page;
  Pages *pages = user;
  for (gsize i = 0; i < reply->n_refs; i++)
    g_string_append_printf (pages->names, "%.*s ", (int) reply->refs[i]->name.len, (char *) reply->refs[i]->name.data);
  return ++pages->n_pages != pages->stop_after;
}

static void
pages (const char *tip)
{
  static const char all[] = "refs/heads/main refs/tags/0 refs/tags/1 refs/tags/2 refs/tags/3 refs/tags/4 ";
  V1 (RefUpdateRequest) make = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  V1 (RefUpdate) tags[5], *updates[5];
  V1 (RefListRequest) request = GITSTEAD__V1__REF_LIST_REQUEST__INIT;
  V1 (RefFindRequest) other = GITSTEAD__V1__REF_FIND_REQUEST__INIT;
  V1 (Page) page = GITSTEAD__V1__PAGE__INIT;
  Pages seen = { .names = g_string_new (NULL) };
  GsClientCall call = { .size = sizeof call };
  char names[5][16];
  g_autoptr (GBytes) token = NULL;
  GError *error = NULL;
  for (guint i = 0; i < 5; i++)
    {
      gitstead__v1__ref_update__init (updates[i] = &tags[i]);
      g_snprintf (names[i], sizeof names[i], "refs/tags/%u", i);
      tags[i].name = bytes (names[i]);
      tags[i].new_oid = (char *) tip;
    }
  make.repository = request.repository = other.repository = &repository;
  make.updates = updates;
  make.n_updates = 5;
  check (gs_ref_update (client, &make, NULL, arena, NULL, &error), "refs to list", error);
  g_clear_error (&error);
  page.limit = 2;
  request.page = &page;
  check (gs_ref_list_pages (client, &request, &call, visit, &seen, &token, &error) && seen.n_pages == 3 && token == NULL
             && strcmp (seen.names->str, all) == 0 && page.token.len == 0,
         "all pages", error);
  g_clear_error (&error);
  g_string_truncate (seen.names, 0);
  seen.n_pages = 0;
  seen.stop_after = 1;
  check (gs_ref_list_pages (client, &request, NULL, visit, &seen, &token, &error) && seen.n_pages == 1 && token != NULL,
         "enough after one", error);
  g_clear_error (&error);
  seen.stop_after = 0;
  page.token.data = token != NULL ? (guint8 *) g_bytes_get_data (token, &page.token.len) : NULL;
  check (gs_ref_list_pages (client, &request, NULL, visit, &seen, NULL, &error) && seen.n_pages == 3
             && strcmp (seen.names->str, all) == 0,
         "the rest from there", error);
  g_clear_error (&error);
  check (!gs_client_pages (client, "Ref/Find", &other.base, NULL, visit, &seen, NULL, &error)
             && gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT && seen.n_pages == 3,
         "a call without pages", NULL);
  g_clear_error (&error);
  g_string_free (seen.names, TRUE);
}

/* ---------------------------------------------------------------------------------------- repeats */

typedef struct
{
  const char *tip;
  guint n, lost; /* how often the race is lost */
  GsTxId ids[4];
  int code; /* for an attempt that makes no call */
} Attempts;

static gboolean
move_tag (GsClient *of, GsClientCall *call, gpointer user, GError **error)
{
  Attempts *attempts = user;
  V1 (RefUpdateRequest) request = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  V1 (RefUpdate) update = GITSTEAD__V1__REF_UPDATE__INIT, *updates[] = { &update };
  gboolean done;
  request.repository = &repository;
  request.updates = updates;
  request.n_updates = 1;
  update.name = bytes ("refs/tags/0");
  update.new_oid = (char *) attempts->tip;
  update.old_oid = (char *) (attempts->n < attempts->lost ? "1111111111111111111111111111111111111111" : attempts->tip);
  done = gs_ref_update (of, &request, call, arena, NULL, error);
  attempts->ids[attempts->n++ % G_N_ELEMENTS (attempts->ids)] = call->call_id;
  return done;
}

static gboolean
no_call (GsClient *of, GsClientCall *call, gpointer user, GError **error)
{
  Attempts *attempts = user;
  (void) of;
  (void) call;
  return ++attempts->n > 2 || gs_fail (error, (GsErrorCode) attempts->code, "not yet");
}

/* Makes a tag; of the first answer it learns nothing. */
typedef struct
{
  const char *tip, *old;
  guint n, looks;
  GsTxId first, last;
} Lost;

static gboolean
make_tag (GsClient *of, GsClientCall *call, gpointer user, GError **error)
{
  static const GsTxId none;
  Lost *lost = user;
  V1 (RefFindRequest) look = GITSTEAD__V1__REF_FIND_REQUEST__INIT;
  V1 (RefUpdateRequest) request = GITSTEAD__V1__REF_UPDATE_REQUEST__INIT;
  V1 (RefUpdate) update = GITSTEAD__V1__REF_UPDATE__INIT, *updates[] = { &update };
  look.repository = request.repository = &repository;
  look.name = update.name = bytes ("refs/tags/lost");
  if (memcmp (&call->call_id, &none, sizeof none) == 0)
    {
      const V1 (RefFindReply) *now = NULL;
      lost->looks++;
      lost->old = gs_ref_find (of, &look, NULL, arena, &now, NULL) ? now->ref->oid : "0000000000000000000000000000000000000000";
    }
  update.old_oid = (char *) lost->old;
  update.new_oid = (char *) lost->tip;
  request.updates = updates;
  request.n_updates = 1;
  if (!gs_ref_update (of, &request, call, arena, NULL, error))
    return FALSE;
  lost->last = call->call_id;
  if (lost->n++ > 0)
    return TRUE;
  lost->first = call->call_id;
  call->ret_retry = GS_RETRY_SAME;
  return gs_fail (error, GS_ERROR_UNKNOWN, "the reply was lost");
}

static void
lost_reply (const char *tip)
{
  Lost lost = { .tip = tip };
  GError *error = NULL;
  check (gs_client_retry (client, 0, make_tag, &lost, &error) && lost.n == 2 && lost.looks == 1
             && memcmp (&lost.first, &lost.last, sizeof lost.first) == 0,
         "what was done and not heard of is asked for once more, and done once", error);
  g_clear_error (&error);
}

static void
repeats (const char *tip)
{
  Attempts attempts = { .tip = tip, .lost = 2 };
  GError *error = NULL;
  check (gs_client_retry (client, 0, move_tag, &attempts, &error) && attempts.n == 3
             && memcmp (&attempts.ids[0], &attempts.ids[1], sizeof *attempts.ids) != 0
             && memcmp (&attempts.ids[1], &attempts.ids[2], sizeof *attempts.ids) != 0,
         "a lost race is run again, as a new call", error);
  g_clear_error (&error);
  attempts = (Attempts){ .code = GS_ERROR_UNAVAILABLE };
  check (gs_client_retry (client, 0, no_call, &attempts, &error) && attempts.n == 3, "what is away may come back", error);
  g_clear_error (&error);
  attempts = (Attempts){ .code = GS_ERROR_NOT_FOUND };
  check (!gs_client_retry (client, 0, no_call, &attempts, &error) && attempts.n == 1, "what cannot help is not repeated", NULL);
  g_clear_error (&error);
  attempts = (Attempts){ .code = GS_ERROR_CANCELLED };
  check (!gs_client_retry (client, 0, no_call, &attempts, &error) && attempts.n == 1
             && gs_error_code (error) == GS_ERROR_CANCELLED,
         "nor what the program gave up", NULL);
  g_clear_error (&error);
  attempts = (Attempts){ .tip = tip, .lost = G_MAXUINT };
  check (!gs_client_retry (client, 300 * 1000, move_tag, &attempts, &error) && attempts.n >= 1
             && gs_error_code (error) != GS_ERROR_INTERNAL,
         "time is up some day", NULL);
  g_clear_error (&error);
}

/* A lost race that only the end of the stream tells of; then it is won. */
static gboolean
commit_again (GsClient *of, GsClientCall *call, gpointer user, GError **error)
{
  Attempts *attempts = user;
  Piece piece = { .left = BIG };
  GsClientBulk bulk = GS_CLIENT_BULK;
  gboolean done;
  (void) of;
  bulk.read = give;
  bulk.user = &piece;
  done = commit_at (attempts->n < attempts->lost ? "1111111111111111111111111111111111111111" : attempts->tip, &bulk, call, NULL, error);
  attempts->ids[attempts->n++ % G_N_ELEMENTS (attempts->ids)] = call->call_id;
  return done;
}

static void
streams (const char *tip)
{
  Attempts attempts = { .tip = tip, .lost = 1 };
  Piece piece = { .left = BIG, .fail_at = BIG / 2 };
  GsClientCall call = { .size = sizeof call };
  GsClientBulk bulk = GS_CLIENT_BULK;
  GError *error = NULL;
  check (gs_client_retry (client, 0, commit_again, &attempts, &error) && attempts.n == 2
             && memcmp (&attempts.ids[0], &attempts.ids[1], sizeof *attempts.ids) != 0,
         "a stream that lost its race is run again, as a new call", error);
  g_clear_error (&error);
  bulk.read = give;
  bulk.user = &piece;
  check (!commit_at (tip, &bulk, &call, NULL, &error) && call.ret_attempts == 1 && call.ret_retry == GS_RETRY_NEVER,
         "input that fails is final", NULL);
  g_clear_error (&error);
}

static void
details (const char *tip)
{
  Attempts attempts = { .tip = tip, .lost = 1 };
  GsClientCall call = { .size = sizeof call };
  GError *error = NULL;
  const V1 (ErrorDetails) *found;
  move_tag (client, &call, &attempts, &error);
  found = gs_details (error, arena);
  check (found != NULL && found->n_entries == 1 && strcmp (found->entries[0]->field, "updates[0]") == 0
             && found->entries[0]->entry == 1 && strcmp (found->entries[0]->actual, tip) == 0,
         "what a ref has instead", NULL);
  g_clear_error (&error);
}

int
main (int argc, char **argv)
{
  V1 (RepositoryCreateRequest) create = GITSTEAD__V1__REPOSITORY_CREATE_REQUEST__INIT;
  GsClientOptions options = { .size = sizeof options };
  GError *error = NULL;
  char *tip = NULL;
  if (argc != 3)
    return 2;
  options.url = argv[1];
  client = gs_client_new (&options, &error);
  arena = gs_arena_new (8 * (gsize) GS_CLIENT_ARENA);
  repository.path = argv[2];
  create.repository = &repository;
  create.default_branch = bytes ("main");
  check (client != NULL && gs_repository_create (client, &create, NULL, arena, NULL, &error), "a repository", error);
  if (!failed)
    transfers (&tip);
  if (!failed)
    {
      pages (tip);
      repeats (tip);
      lost_reply (tip);
      streams (tip);
      details (tip);
    }
  printf ("1..%u\n", n_checks);
  g_clear_error (&error);
  gs_client_free (client);
  gs_arena_free (arena);
  return failed;
}
