/* SPDX-License-Identifier: Apache-2.0 */
/* Staged change sets: verdicts, votes, generations out of order, many writers at once; and reading the objects. */
#include "common.h"

#include "git.h"

#include <gitstead/thread.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static GsChangeSet
change_of (Fixture *f, const GsRefUpdate *updates, gsize n, GBytes *pack)
{
  GsChangeSet change = { .size = sizeof change, .updates = updates, .n_updates = n, .pack = pack };
  f->host->host.random (&f->host->host, change.txid.bytes, sizeof change.txid.bytes);
  return change;
}

static void
test_verdicts (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) pack = work_pack (f, "main");
  GsOid main_oid = work_oid (f, "main"), zero = { .len = 20 };
  GsRefUpdate updates[] = {
    { .name = "refs/heads/main", .old_oid = zero, .new_oid = main_oid },
    { .name = "refs/heads/bad..name", .new_oid = main_oid },
    { .name = "refs/heads/absent", .new_oid = oid_of ("1111111111111111111111111111111111111111") },
    { .name = "refs/heads/stale", .old_oid = main_oid, .new_oid = main_oid },
    { .name = "refs/tags/any", .new_oid = main_oid },
    { .name = "HEAD", .new_symref = "refs/heads/topic" },
  };
  static const int codes[]
      = { GS_OK, GS_ERROR_INVALID_ARGUMENT, GS_ERROR_NOT_FOUND, GS_ERROR_FAILED_PRECONDITION, GS_OK, GS_OK };
  const GsVote *vote;
  gpointer txn;
  for (int atomic = 0; atomic < 2; atomic++)
    {
      GsChangeSet change = change_of (f, updates, G_N_ELEMENTS (updates), pack);
      change.atomic = atomic;
      assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
      assert_int_equal (vote->n_verdicts, G_N_ELEMENTS (updates));
      assert_int_equal (vote->n_updates, atomic ? 0 : 3);
      for (gsize i = 0; i < G_N_ELEMENTS (updates); i++)
        {
          if (!atomic)
            assert_int_equal (vote->verdicts[i].code, codes[i]);
          else
            assert_int_not_equal (vote->verdicts[i].code, GS_OK);
          assert_true ((vote->verdicts[i].reason == NULL) == (vote->verdicts[i].code == GS_OK));
        }
      f->ops->abort (f->self, &f->call->call, txn, NULL);
      assert_nothing_left (f, &repo);
      assert_int_equal (ref_value (f, &repo, "refs/heads/main").len, 0);
    }
  fixture_free (f);
}

static void
test_bad_packs (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
  g_autoptr (GBytes) whole = work_pack (f, "main"), holed = work_pack (f, "main ^main~1");
  g_autoptr (GBytes) cut = g_bytes_new_from_bytes (whole, 0, g_bytes_get_size (whole) - 1),
                     empty = g_bytes_new (NULL, 0);
  GBytes *packs[] = { cut, empty, holed };
  const GsVote *vote;
  gpointer txn;
  for (gsize i = 0; i < G_N_ELEMENTS (packs); i++)
    {
      GsChangeSet change = change_of (f, &update, 1, packs[i]);
      assert_false (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
      assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "index-pack");
      assert_nothing_left (f, &repo);
    }
  /* The same id cannot be staged twice at once. */
  GsChangeSet change = change_of (f, &update, 1, whole);
  gpointer again;
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
  assert_false (f->ops->stage (f->self, &f->call->call, &repo, &change, &again, &vote, &error));
  assert_gs_error (&error, GS_ERROR_ALREADY_EXISTS, "staged already");
  f->ops->abort (f->self, &f->call->call, txn, NULL);
  assert_nothing_left (f, &repo);
  fixture_free (f);
}

static void
decide (Fixture *f, gpointer txn, const GsTxId *txid, guint64 generation)
{
  g_autoptr (GError) error = NULL;
  GsDecision decision = { .size = sizeof decision, .txid = *txid, .generation = generation };
  if (!f->ops->commit (f->self, &f->call->call, txn, &decision, &error))
    fail_msg ("commit: %s", error->message);
}

static void
test_generations_out_of_order (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) pack = work_pack (f, "main");
  GsRefUpdate updates[] = { { .name = "refs/heads/a", .new_oid = work_oid (f, "main") },
                            { .name = "refs/heads/b", .new_oid = work_oid (f, "main") },
                            { .name = "refs/heads/c", .new_oid = work_oid (f, "main") } };
  GsChangeSet changes[3];
  gpointer txns[3];
  GsDigest expected = state_of (f, &repo).refs_digest;
  for (int i = 0; i < 3; i++)
    {
      const GsVote *vote;
      changes[i] = change_of (f, &updates[i], 1, pack);
      assert_true (f->ops->stage (f->self, &f->call->call, &repo, &changes[i], &txns[i], &vote, &error));
      assert_int_equal (vote->n_updates, 1);
      gs_digest_add (&expected, &vote->refs_plus);
      gs_digest_sub (&expected, &vote->refs_minus);
    }
  decide (f, txns[0], &changes[0].txid, 3);
  assert_int_equal (state_of (f, &repo).generation, 0);
  decide (f, txns[1], &changes[1].txid, 1);
  assert_int_equal (state_of (f, &repo).generation, 1);
  decide (f, txns[2], &changes[2].txid, 2);
  GsReplicaState now = state_of (f, &repo);
  assert_int_equal (now.generation, 3);
  assert_memory_equal (&now.refs_digest, &expected, sizeof expected);
  /* The record on the medium has the same digest, and a restart finds it so. */
  g_autofree char *dir = fixture_path (f, &repo, NULL);
  ReplicaRecord record;
  assert_true (replica_record_read (dir, &record, &error));
  assert_memory_equal (&record.digest, &expected, sizeof expected);
  replica_record_clear (&record);
  fixture_restart (f, TRUE, NULL, NULL);
  now = state_of (f, &repo);
  assert_int_equal (now.generation, 3);
  assert_memory_equal (&now.refs_digest, &expected, sizeof expected);
  assert_nothing_left (f, &repo);
  fixture_free (f);
}

static void
test_two_writers_of_one_ref (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) pack = work_pack (f, "main");
  GsRefUpdate update = { .name = "refs/heads/a", .new_oid = work_oid (f, "main") };
  GsChangeSet first = change_of (f, &update, 1, pack), second = change_of (f, &update, 1, NULL);
  const GsVote *vote;
  gpointer txn, other;
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &first, &txn, &vote, &error));
  assert_int_equal (vote->n_updates, 1);
  assert_true (f->ops->stage (f->self, &f->call->call, &repo, &second, &other, &vote, &error));
  assert_int_equal (vote->n_updates, 0);
  assert_true (vote->verdicts[0].code == GS_ERROR_ABORTED || vote->verdicts[0].code == GS_ERROR_NOT_FOUND);
  f->ops->abort (f->self, &f->call->call, other, NULL);
  decide (f, txn, &first.txid, 1);
  assert_int_equal (ref_value (f, &repo, "refs/heads/a").len, 20);
  assert_nothing_left (f, &repo);
  fixture_free (f);
}

/* The medium fails after the decision: the write stays, its refs stay locked, and resolve brings it to its end. */
static void
test_failing_medium (void **state)
{
  for (int commit = 0; commit < 2; commit++)
    {
      Fixture *f = fixture_new (NULL, NULL);
      GsRepo repo = fixture_create (f, 1);
      g_autoptr (GError) error = NULL;
      g_autoptr (GBytes) pack = work_pack (f, "main");
      GsRefUpdate update = { .name = "refs/heads/main", .new_oid = work_oid (f, "main") };
      GsChangeSet change = change_of (f, &update, 1, pack), other = change_of (f, &update, 1, pack);
      GsDecision decision = { .size = sizeof decision, .txid = change.txid, .generation = 1 };
      const GsVote *vote;
      gpointer txn;
      assert_true (f->ops->stage (f->self, &f->call->call, &repo, &change, &txn, &vote, &error));
      g_free (sh (f, "cd $ROOT/@r/1.git/objects && mv pack away && touch pack"));
      assert_false (f->ops->commit (f->self, &f->call->call, txn, &decision, &error));
      g_clear_error (&error);
      assert_int_equal (ref_value (f, &repo, "refs/heads/main").len, 0);
      assert_false (f->ops->resolve (f->self, &f->call->call, &repo, &change.txid, &decision, &error));
      g_clear_error (&error);
      g_free (sh (f, "cd $ROOT/@r/1.git/objects && rm pack && mv away pack"));
      assert_true (f->ops->stage (f->self, &f->call->call, &repo, &other, &txn, &vote, &error));
      assert_int_equal (vote->n_updates, 0);
      f->ops->abort (f->self, &f->call->call, txn, NULL);
      assert_true (f->ops->resolve (f->self, &f->call->call, &repo, &change.txid, commit ? &decision : NULL, &error));
      assert_int_equal (ref_value (f, &repo, "refs/heads/main").len, commit ? 20 : 0);
      assert_int_equal (state_of (f, &repo).generation, commit);
      assert_nothing_left (f, &repo);
      /* Again, and for a write nobody knows. */
      assert_true (f->ops->resolve (f->self, &f->call->call, &repo, &change.txid, commit ? &decision : NULL, &error));
      assert_true (f->ops->resolve (f->self, &f->call->call, &repo, &other.txid, NULL, &error));
      fixture_free (f);
    }
}

/* ------------------------------------------------------------------------------------ many at once */

#define WRITERS 3
#define ROUNDS 8

typedef struct
{
  Fixture *f;
  GsRepo repo;
  GBytes *pack;
  GsOid oids[2];
  int number;
  GsMutex *lock;
  guint64 *generation;
  char *failed;
} Worker;

static gboolean
write_once (Worker *w, FakeCall *call, int round, GError **error)
{
  Fixture *f = w->f;
  g_autofree char *name = g_strdup_printf ("refs/heads/w%d", w->number);
  GsRefUpdate update = { .name = name, .new_oid = w->oids[round & 1] };
  GsChangeSet change = change_of (f, &update, 1, w->pack);
  GsDecision decision = { .size = sizeof decision, .txid = change.txid };
  const GsVote *vote;
  gpointer txn;
  if (!f->ops->stage (f->self, &call->call, &w->repo, &change, &txn, &vote, error))
    return FALSE;
  if (vote->n_updates != 1)
    {
      gs_fail (error, GS_ERROR_ABORTED, "%s", vote->verdicts[0].reason);
      f->ops->abort (f->self, &call->call, txn, NULL);
      return FALSE;
    }
  if (round % 4 == 3)
    {
      f->ops->abort (f->self, &call->call, txn, NULL);
      return TRUE;
    }
  gs_mutex_lock (w->lock);
  decision.generation = ++*w->generation;
  gs_mutex_unlock (w->lock);
  return f->ops->commit (f->self, &call->call, txn, &decision, error);
}

static void *
write_rounds (void *user)
{
  Worker *w = user;
  FakeCall *call = fake_call_new (0);
  for (int round = 0; round < ROUNDS && w->failed == NULL; round++)
    {
      g_autoptr (GError) error = NULL;
      if (!write_once (w, call, round, &error))
        w->failed = g_strdup (error->message);
    }
  fake_call_free (call);
  return NULL;
}

static gboolean
count_ref (const GsRef *ref, gpointer user)
{
  (*(guint *) user)++;
  return TRUE;
}

static void *
read_rounds (void *user)
{
  Worker *w = user;
  FakeCall *call = fake_call_new (0);
  const GsRefQuery query = { .size = sizeof query, .include_head = TRUE };
  for (int round = 0; round < 10 * ROUNDS && w->failed == NULL; round++)
    {
      g_autoptr (GError) error = NULL;
      guint n = 0;
      GBytes *bytes = NULL;
      GsReplicaState state;
      if (!w->f->ops->list_refs (w->f->self, &call->call, &w->repo, &query, count_ref, &n, &error)
          || !w->f->ops->advertise (w->f->self, &call->call, &w->repo, GS_SERVICE_UPLOAD_PACK, "", &bytes, &error)
          || !w->f->ops->state (w->f->self, &call->call, &w->repo, &state, &error))
        w->failed = g_strdup (error->message);
      if (bytes != NULL)
        g_bytes_unref (bytes);
    }
  fake_call_free (call);
  return NULL;
}

static void
test_many_at_once (void **state)
{
  Fixture *f = fixture_new ("max_repos_open", "1");
  GsRepo repos[2] = { { .size = sizeof (GsRepo), .id = 1, .replica_path = "@r/1.git" },
                      { .size = sizeof (GsRepo), .id = 2, .replica_path = "@r/2.git" } };
  g_autoptr (GBytes) pack = work_pack (f, "main");
  Worker workers[2 * (WRITERS + 1)];
  GsThread threads[G_N_ELEMENTS (workers)];
  guint64 generations[2] = { 0, 0 };
  GsMutex lock = GS_MUTEX_INIT;
  GsOid first = work_oid (f, "main"), second = work_oid (f, "main~1");
  fixture_create (f, 1);
  fixture_create (f, 2);
  for (gsize i = 0; i < G_N_ELEMENTS (workers); i++)
    {
      workers[i] = (Worker){ .f = f,
                             .repo = repos[i % 2],
                             .pack = pack,
                             .oids = { first, second },
                             .number = (int) i,
                             .lock = &lock,
                             .generation = &generations[i % 2] };
      assert_int_equal (
          gs_thread_start (&threads[i], "worker", i < 2 * WRITERS ? write_rounds : read_rounds, &workers[i]), 0);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (workers); i++)
    gs_thread_join (threads[i]);
  for (gsize i = 0; i < G_N_ELEMENTS (workers); i++)
    if (workers[i].failed != NULL)
      fail_msg ("worker %d: %s", (int) i, workers[i].failed);
  for (int i = 0; i < 2; i++)
    {
      GsReplicaState now = state_of (f, &repos[i]);
      assert_int_equal (now.generation, WRITERS * ROUNDS * 3 / 4);
      g_autofree char *dir = fixture_path (f, &repos[i], NULL);
      ReplicaRecord record;
      g_autoptr (GError) error = NULL;
      assert_true (replica_record_read (dir, &record, &error));
      assert_memory_equal (&record.digest, &now.refs_digest, sizeof now.refs_digest);
      replica_record_clear (&record);
      assert_nothing_left (f, &repos[i]);
    }
  fixture_free (f);
}

/* ------------------------------------------------------------------------------------------ objects */

static void
expect_revision (Fixture *f, const GsRepo *repo, const char *revision)
{
  g_autoptr (GError) error = NULL;
  GsObject object;
  g_autofree char *theirs = sh (
      f, "git -C $ROOT/@r/1.git rev-parse --verify '%s' | git -C $ROOT/@r/1.git cat-file --batch-check", revision);
  char hex[GS_OID_HEX_MAX + 1];
  static const char *const types[] = { "", "commit", "tree", "blob", "tag" };
  if (!f->ops->resolve_revision (f->self, &f->call->call, repo, revision, strlen (revision), &object, &error))
    fail_msg ("%s: %s", revision, error->message);
  gs_oid_hex (&object.oid, hex);
  g_autofree char *ours
      = g_strdup_printf ("%s %s %" G_GUINT64_FORMAT "\n", hex, types[object.type], object.object_bytes);
  if (strcmp (ours, theirs) != 0)
    fail_msg ("%s: ours %s git's %s", revision, ours, theirs);
}

static void
test_revisions (void **state)
{
  static const char *const good[] = { "HEAD",
                                      "main",
                                      "refs/heads/main",
                                      "topic",
                                      "v1",
                                      "refs/tags/v1",
                                      "v1-nested",
                                      "light",
                                      "HEAD:",
                                      "HEAD:one",
                                      "main:dir",
                                      "main:dir/",
                                      "main:dir/sub/three",
                                      "v1:dir/two",
                                      "v1-nested^{commit}",
                                      "v1^{tag}",
                                      "v1^{tree}",
                                      "HEAD^{tree}",
                                      "HEAD^{commit}",
                                      "refs/heads/main:one",
                                      "heads/main",
                                      "tags/v1",
                                      "HEAD~1",
                                      "HEAD^",
                                      "HEAD^{}",
                                      "v1-nested^{}~0",
                                      "HEAD^{tree}:one",
                                      "both" };
  static const struct
  {
    const char *revision;
    int code;
  } bad[] = {
    { "", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD^@", GS_ERROR_INVALID_ARGUMENT },
    { "@", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD^{/x}", GS_ERROR_INVALID_ARGUMENT },
    { ":/one", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD@{1}", GS_ERROR_INVALID_ARGUMENT },
    { "a..b", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD:../x", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD://one", GS_ERROR_INVALID_ARGUMENT },
    { "HEAD:/one", GS_ERROR_INVALID_ARGUMENT },
    { "nothere", GS_ERROR_NOT_FOUND },
    { "refs/heads/nothere", GS_ERROR_NOT_FOUND },
    { "HEAD:nothere", GS_ERROR_NOT_FOUND },
    { "HEAD:one/x", GS_ERROR_NOT_FOUND },
    { "HEAD:one/", GS_ERROR_NOT_FOUND },
    { "HEAD^{tag}", GS_ERROR_NOT_FOUND },
    { "HEAD^{blob}", GS_ERROR_NOT_FOUND },
    { "1111111111111111111111111111111111111111", GS_ERROR_NOT_FOUND },
    { "HEAD~1000000000", GS_ERROR_NOT_FOUND },
    { "HEAD^9", GS_ERROR_NOT_FOUND },
    { "-x", GS_ERROR_INVALID_ARGUMENT },
  };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  GsObject object = { .size = 99 };
  g_autoptr (GBytes) pack = work_pack (f, "--all");
  GsRefUpdate updates[] = { { .name = "refs/heads/main", .new_oid = work_oid (f, "main") },
                            { .name = "refs/heads/topic", .new_oid = work_oid (f, "topic") },
                            { .name = "refs/tags/light", .new_oid = work_oid (f, "light") },
                            { .name = "refs/tags/v1", .new_oid = work_oid (f, "v1") },
                            { .name = "refs/heads/both", .new_oid = work_oid (f, "main") },
                            { .name = "refs/tags/both", .new_oid = work_oid (f, "topic") },
                            { .name = "refs/tags/v1-nested", .new_oid = work_oid (f, "v1-nested") } };
  apply_changes (f, &repo, updates, G_N_ELEMENTS (updates), pack);
  for (gsize i = 0; i < G_N_ELEMENTS (good); i++)
    expect_revision (f, &repo, good[i]);
  g_autofree char *full = sh (f, "git -C $WORK rev-parse v1");
  expect_revision (f, &repo, g_strchomp (full));
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      if (f->ops->resolve_revision (f->self, &f->call->call, &repo, bad[i].revision, strlen (bad[i].revision), &object,
                                    &error))
        fail_msg ("%s is no revision", bad[i].revision);
      if (error->code != bad[i].code)
        fail_msg ("%s: %s: %s", bad[i].revision, gs_error_name (error->code), error->message);
      assert_int_equal (object.size, 99);
      g_clear_error (&error);
    }
  assert_false (f->ops->resolve_revision (f->self, &f->call->call, &repo, "HEAD\0x", 6, &object, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "NUL");
  assert_true (f->ops->resolve_revision (f->self, &f->call->call, &repo, "HEAD:dir", 8, &object, &error));
  assert_int_equal (object.mode, 040000);
  fixture_free (f);
}

static gboolean
print_entry (const GsTreeEntry *entry, gpointer user)
{
  static const char *const types[] = { "", "commit", "tree", "blob", "tag" };
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&entry->oid, hex);
  g_string_append_printf (user, "%06o %s %s\t%s\n", entry->mode, types[entry->type], hex, entry->name);
  return TRUE;
}

static void
test_objects (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  g_free (sh (f, "cd $WORK && git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module && ln -s one link "
                 "&& chmod +x one"
                 " && git add link one && git commit -qm kinds && head -c 17000000 /dev/zero >$DIR/large"
                 " && git tag large $(git hash-object -w $DIR/large)"));
  g_autoptr (GBytes) pack = work_pack (f, "--all");
  GsRefUpdate updates[] = { { .name = "refs/heads/main", .new_oid = work_oid (f, "main") },
                            { .name = "refs/tags/large", .new_oid = work_oid (f, "large") } };
  apply_changes (f, &repo, updates, 2, pack);
  GsOid tree = work_oid (f, "main^{tree}"), blob = work_oid (f, "main:one"), large = work_oid (f, "large");
  GsOid commit = work_oid (f, "main"), absent = oid_of ("1111111111111111111111111111111111111111");
  GsObject object;
  GBytes *bytes = NULL;
  g_autoptr (GString) listing = g_string_new (NULL);
  assert_true (f->ops->list_tree (f->self, &f->call->call, &repo, &tree, print_entry, listing, &error));
  g_autofree char *theirs = sh (f, "git -C $WORK ls-tree main");
  assert_string_equal (listing->str, theirs);
  assert_false (f->ops->list_tree (f->self, &f->call->call, &repo, &commit, print_entry, listing, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "not to a tree");
  assert_false (f->ops->list_tree (f->self, &f->call->call, &repo, &absent, print_entry, listing, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "no object");

  assert_true (f->ops->read_object (f->self, &f->call->call, &repo, &blob, 9, &object, &bytes, &error));
  assert_int_equal (object.type, GS_OBJECT_BLOB);
  assert_int_equal (object.object_bytes, 9);
  assert_memory_equal (g_bytes_get_data (bytes, NULL), "one\nmore\n", 9);
  g_bytes_unref (bytes);
  assert_false (f->ops->read_object (f->self, &f->call->call, &repo, &blob, 8, &object, &bytes, &error));
  assert_gs_error (&error, GS_ERROR_OUT_OF_RANGE, "limit");
  assert_false (f->ops->read_object (f->self, &f->call->call, &repo, &absent, 8, &object, &bytes, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "no object");
  GsOid sha256 = { .len = 32 };
  assert_false (f->ops->read_object (f->self, &f->call->call, &repo, &sha256, 8, &object, &bytes, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "object ids");

  /* Small ones in one piece, large ones through a child. */
  FakeStream *stream = fake_stream_new (NULL, -1, -1);
  assert_true (f->ops->stream_object (f->self, &f->call->call, &repo, &blob, &stream->stream, &error));
  assert_int_equal (g_bytes_get_size (stream->sent), 9);
  fake_stream_free (stream);
  g_autofree char *file = g_build_filename (f->dir, "streamed", NULL);
  stream = fake_stream_new (NULL, -1, open (file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  assert_true (f->ops->stream_object (f->self, &f->call->call, &repo, &large, &stream->stream, &error));
  assert_null (stream->sent);
  fake_stream_free (stream);
  g_free (sh (f, "cmp $DIR/large $DIR/streamed"));

  /* A loose object, as somebody may have put it there; then one that was cut short by a crash. */
  g_autofree char *loose = sh (f, "cd $ROOT/@r/1.git && echo loose | git hash-object -w --stdin");
  GsOid loose_oid = oid_of (g_strchomp (loose));
  assert_true (f->ops->read_object (f->self, &f->call->call, &repo, &loose_oid, 100, &object, &bytes, &error));
  assert_memory_equal (g_bytes_get_data (bytes, NULL), "loose\n", 6);
  assert_int_equal (g_bytes_get_size (bytes), 6);
  g_bytes_unref (bytes);
  g_free (sh (f, "cd $ROOT/@r/1.git/objects && f=$(find ?? -type f) && chmod u+w $f && truncate -s 18 $f"));
  assert_false (f->ops->read_object (f->self, &f->call->call, &repo, &loose_oid, 100, &object, &bytes, &error));
  assert_gs_error (&error, GS_ERROR_DATA_LOSS, "damaged");
  fixture_free (f);
}

/* A tree that is not one must not be read past its end. */
static void
test_damaged_tree (void **state)
{
  static const char *const trees[] = { "100644 a",
                                       "100644 a\\000short",
                                       "x",
                                       "100644\\000aaaaaaaaaaaaaaaaaaaa",
                                       "9 a\\000aaaaaaaaaaaaaaaaaaaa",
                                       "100644 \\000aaaaaaaaaaaaaaaaaaaa" };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  for (gsize i = 0; i < G_N_ELEMENTS (trees); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autoptr (GString) listing = g_string_new (NULL);
      g_autofree char *hex
          = sh (f,
                "cd $ROOT/@r/1.git && o=$(printf '%s' | git hash-object -t tree -w --literally --stdin) && "
                "echo $o | git pack-objects -q objects/pack/pack >/dev/null && rm -rf objects/?? && echo $o",
                trees[i]);
      GsOid oid = oid_of (g_strchomp (hex));
      assert_false (f->ops->list_tree (f->self, &f->call->call, &repo, &oid, print_entry, listing, &error));
      assert_gs_error (&error, GS_ERROR_DATA_LOSS, "damaged");
    }
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_verdicts),
    cmocka_unit_test (test_bad_packs),
    cmocka_unit_test (test_generations_out_of_order),
    cmocka_unit_test (test_two_writers_of_one_ref),
    cmocka_unit_test (test_failing_medium),
    cmocka_unit_test (test_many_at_once),
    cmocka_unit_test (test_revisions),
    cmocka_unit_test (test_objects),
    cmocka_unit_test (test_damaged_tree),
  };
  return cmocka_run_group_tests_name ("storage/git writes and objects", tests, NULL, NULL);
}
