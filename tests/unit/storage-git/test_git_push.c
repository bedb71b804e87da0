/* SPDX-License-Identifier: Apache-2.0 */
/* Pushes: what is taken, what is refused and in which words, and that a refused one leaves nothing behind. */
#include "common.h"

#include "git.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define ZERO "0000000000000000000000000000000000000000"

typedef struct
{
  GError *error;
  gsize n_updates;
  guint8 digest[32];
  char *answer; /* NUL bytes as '@' */
} Outcome;

static void
outcome_clear (Outcome *outcome)
{
  g_clear_error (&outcome->error);
  g_free (outcome->answer);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (Outcome, outcome_clear)

static char *
read_answer (Fixture *f)
{
  g_autofree char *file = g_build_filename (f->dir, "answer", NULL);
  gsize len;
  char *text;
  assert_true (g_file_get_contents (file, &text, &len, NULL));
  for (gsize i = 0; i < len; i++)
    if (text[i] == '\0')
      text[i] = '@';
  return text;
}

/* One stateless request, half of it as the call's head. Decided at once: committed, or aborted with @why. */
static Outcome
push_decided (Fixture *f, const GsRepo *repo, GBytes *request, gboolean commit, const GError *why)
{
  Outcome outcome = { NULL };
  gsize len;
  const char *data = g_bytes_get_data (request, &len);
  g_autoptr (GBytes) head = g_bytes_new (data, MIN (len / 2, 1000));
  g_autofree char *in = g_build_filename (f->dir, "push", NULL), *out = g_build_filename (f->dir, "answer", NULL);
  assert_true (g_file_set_contents (in, data, (gssize) len, NULL));
  int fd = open (in, O_RDONLY | O_CLOEXEC);
  lseek (fd, (off_t) g_bytes_get_size (head), SEEK_SET);
  FakeStream *stream = fake_stream_new (head, fd, open (out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  GsPush push = { .size = sizeof push, .protocol = "", .stateless = TRUE };
  GsDecision decision = { .size = sizeof decision, .generation = state_of (f, repo).generation + 1 };
  const GsVote *vote;
  gpointer txn;
  f->host->host.random (&f->host->host, push.txid.bytes, sizeof push.txid.bytes);
  decision.txid = push.txid;
  if (f->ops->stage_push (f->self, &f->call->call, repo, &push, &stream->stream, &txn, &vote, &outcome.error))
    {
      outcome.n_updates = vote->n_updates;
      memcpy (outcome.digest, vote->digest, sizeof outcome.digest);
      if (vote->n_updates == 0 || !commit)
        f->ops->abort (f->self, &f->call->call, txn, vote->n_updates == 0 ? NULL : why);
      else if (!f->ops->commit (f->self, &f->call->call, txn, &decision, &outcome.error))
        fail_msg ("commit: %s", outcome.error->message);
    }
  fake_stream_free (stream);
  outcome.answer = read_answer (f);
  return outcome;
}

static Outcome
push_with (Fixture *f, const GsRepo *repo, GBytes *request, const GError *why)
{
  return push_decided (f, repo, request, why == NULL, why);
}

static Outcome
push_bytes (Fixture *f, const GsRepo *repo, GBytes *request)
{
  return push_decided (f, repo, request, TRUE, NULL);
}

/* Commands are "old new name" separated by newlines; the first one gets the capabilities. @pack may be NULL. */
static GBytes *
push_request (const char *commands, const char *caps, GBytes *pack)
{
  g_auto (GStrv) lines = g_strsplit (commands, "\n", -1);
  g_autoptr (GString) text = g_string_new (NULL);
  for (guint i = 0; lines[i] != NULL; i++)
    {
      gsize caps_len = i == 0 ? strlen (caps) + 1 : 0;
      g_string_append_printf (text, "%04x%s", (guint) (strlen (lines[i]) + caps_len + 4), lines[i]);
      if (i == 0)
        {
          g_string_append_c (text, '\0');
          g_string_append (text, caps);
        }
    }
  g_string_append (text, "0000");
  if (pack != NULL)
    g_string_append_len (text, g_bytes_get_data (pack, NULL), (gssize) g_bytes_get_size (pack));
  return g_bytes_new (text->str, text->len);
}

static char *
hex_of (GsOid oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&oid, hex);
  return g_strdup (hex);
}

/* A repository with refs/heads/main at the first commit, and what the cases need to know. */
typedef struct
{
  Fixture *f;
  GsRepo repo;
  char *first, *second;
  GBytes *update; /* pack from the first to the second */
} Ground;

static Ground
ground_new (const char *key, const char *value)
{
  Ground g = { .f = fixture_new (key, value) };
  g.repo = fixture_create (g.f, 1);
  g.first = hex_of (work_oid (g.f, "main~1"));
  g.second = hex_of (work_oid (g.f, "main"));
  g_autoptr (GBytes) pack = work_pack (g.f, "main~1");
  GsRefUpdate update = { .name = "refs/heads/main", .new_oid = oid_of (g.first) };
  apply_changes (g.f, &g.repo, &update, 1, pack);
  g.update = work_pack (g.f, "main ^main~1");
  return g;
}

static void
ground_free (Ground *g)
{
  g_free (g->first);
  g_free (g->second);
  g_bytes_unref (g->update);
  fixture_free (g->f);
}

static char *
object_files (Ground *g)
{
  return sh (g->f, "cd $ROOT/%s && find objects refs packed-refs HEAD -type f 2>/dev/null | sort",
             g->repo.replica_path);
}

static void
expect_refused (Ground *g, const char *commands, const char *caps, GBytes *pack, const char *part)
{
  g_autofree char *before = object_files (g);
  GsReplicaState state = state_of (g->f, &g->repo);
  g_autoptr (GBytes) request = push_request (commands, caps, pack);
  g_auto (Outcome) outcome = push_bytes (g->f, &g->repo, request);
  if (outcome.error != NULL)
    fail_msg ("%s: %s", commands, outcome.error->message);
  if (outcome.n_updates != 0 || strstr (outcome.answer, part) == NULL)
    fail_msg ("%s: expected '%s', got %" G_GSIZE_FORMAT " updates and %s", commands, part, outcome.n_updates,
              outcome.answer);
  g_autofree char *after = object_files (g);
  assert_string_equal (before, after);
  GsReplicaState now = state_of (g->f, &g->repo);
  assert_memory_equal (&state, &now, sizeof now);
  assert_nothing_left (g->f, &g->repo);
}

static void
test_accepted (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autofree char *commands
      = g_strdup_printf ("%s %s refs/heads/main\n" ZERO " %s refs/tags/t", g.first, g.second, g.second);
  g_autoptr (GBytes) request = push_request (commands, "report-status", g.update);
  GsReplicaState before = state_of (g.f, &g.repo);
  g_auto (Outcome) outcome = push_bytes (g.f, &g.repo, request);
  assert_null (outcome.error);
  assert_int_equal (outcome.n_updates, 2);
  assert_string_equal (outcome.answer, "000eunpack ok\n0017ok refs/heads/main\n0013ok refs/tags/t\n0000");
  assert_int_equal (state_of (g.f, &g.repo).generation, before.generation + 1);
  g_autofree char *now = hex_of (ref_value (g.f, &g.repo, "refs/heads/main"));
  assert_string_equal (now, g.second);

  /* The vote: version, id, updates by name, the trailer of the pack as it was sent (it was thin or not). */
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  const guint8 head[9] = { 1, 0, 0, 0, 0, 0, 0, 0, 1 };
  guint8 digest[32];
  gsize digest_len = 32, pack_len;
  const guint8 *pack = g_bytes_get_data (g.update, &pack_len);
  g_autofree char *text = g_strdup_printf ("%s\n", commands);
  g_checksum_update (sum, head, sizeof head);
  g_checksum_update (sum, (const guchar *) text, -1);
  g_checksum_update (sum, pack + pack_len - 20, 20);
  g_checksum_get_digest (sum, digest, &digest_len);
  assert_memory_equal (digest, outcome.digest, 32);
  assert_nothing_left (g.f, &g.repo);
  ground_free (&g);
}

static void
test_bad_objects (void **state)
{
  Ground g = ground_new (NULL, NULL);
  Fixture *f = g.f;
  g_autofree char *commands = g_strdup_printf ("%s %s refs/heads/main", g.first, g.second);
  gsize len;
  const guint8 *data = g_bytes_get_data (g.update, &len);

  g_autofree guint8 *flipped = g_memdup2 (data, len);
  flipped[len / 2] ^= 0x40;
  g_autoptr (GBytes) corrupt = g_bytes_new (flipped, len), cut = g_bytes_new (data, len - 30),
                     none = g_bytes_new (NULL, 0);
  g_autoptr (GBytes) nonsense = g_bytes_new_static ("PACKnonsensenonsensenonsensenonsense", 36);
  expect_refused (&g, commands, "report-status", corrupt, "unpack index-pack");
  expect_refused (&g, commands, "report-status", cut, "unpack index-pack");
  expect_refused (&g, commands, "report-status", nonsense, "unpack");
  expect_refused (&g, commands, "report-status", none, "unpack");

  /* Its blob stays at home. */
  g_autoptr (GBytes) holed
      = sh_bytes (f, "cd $WORK && (git rev-parse main 'main^{tree}') | git pack-objects -q --stdout");
  expect_refused (&g, commands, "report-status", holed, "unpack index-pack");
  g_autoptr (GBytes) headless
      = sh_bytes (f, "cd $WORK && git rev-parse 'main^{tree}' main:one | git pack-objects -q --stdout");
  expect_refused (&g, commands, "report-status", headless, "ng refs/heads/main missing necessary objects");
  /* No pack at all, and an id that is nowhere. */
  expect_refused (&g, ZERO " 1111111111111111111111111111111111111111 refs/heads/x", "report-status", NULL, "unpack");
  /* An empty pack. */
  g_autoptr (GBytes) empty = sh_bytes (f, "cd $WORK && git pack-objects -q --stdout </dev/null");
  expect_refused (&g, ZERO " 1111111111111111111111111111111111111111 refs/heads/x", "report-status", empty,
                  "missing necessary objects");

  g_autofree char *evil
      = sh (f, "cd $WORK && b=$(git rev-parse main:one) && t=$(printf \"100644 blob $b\\t.git\\n\" | git mktree)"
               " && git commit-tree -m evil $t");
  g_strchomp (evil);
  g_autofree char *evil_command = g_strdup_printf (ZERO " %s refs/heads/evil", evil);
  g_autoptr (GBytes) evil_pack = work_pack (f, evil);
  expect_refused (&g, evil_command, "report-status", evil_pack, "unpack index-pack");
  g_autofree char *log = fake_host_log_text (f->host);
  assert_non_null (strstr (log, "hasDotgit"));
  ground_free (&g);
}

static void
test_bad_names (void **state)
{
  static const struct
  {
    const char *name, *answer;
  } cases[] = {
    { "refs/heads/a..b", "ng refs/heads/a..b " },
    { "refs/heads/.x", "ng refs/heads/.x " },
    { "refs/heads/x.lock", "ng refs/heads/x.lock " },
    { "refs/heads/a b", "ng refs/heads/a b " },
    { "refs/heads/", "ng refs/heads/ " },
    { "refs/heads/a~1", "ng refs/heads/a~1 " },
    { "refs/../x", "ng refs/../x " },
    { "HEAD", "ng HEAD funny refname" },
    { "main", "ng main funny refname" },
    { "../../etc/x", "ng ../../etc/x funny refname" },
    { "refs/gitstead/x", "ng refs/gitstead/x " },
    { "refs/heads/main/x", "ng refs/heads/main/x " },
  };
  Ground g = ground_new (NULL, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *command = g_strdup_printf (ZERO " %s %s", g.second, cases[i].name);
      expect_refused (&g, command, "report-status", g.update, cases[i].answer);
    }
  g_autofree char *tag = hex_of (work_oid (g.f, "v1"));
  g_autofree char *tag_branch = g_strdup_printf (ZERO " %s refs/heads/tagged", tag);
  g_autoptr (GBytes) tag_pack = work_pack (g.f, "v1 ^main~1");
  expect_refused (&g, tag_branch, "report-status", tag_pack, "ng refs/heads/tagged ");
  ground_free (&g);
}

static void
test_stale_and_atomic (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autofree char *stale = g_strdup_printf ("%s %s refs/heads/main", g.second, g.second);
  g_autofree char *exists = g_strdup_printf (ZERO " %s refs/heads/main", g.second);
  g_autofree char *gone = g_strdup_printf ("%s %s refs/heads/gone", g.first, g.second);
  g_autofree char *gone_delete = g_strdup_printf ("%s " ZERO " refs/heads/gone", g.first);
  g_autofree char *twice = g_strdup_printf (ZERO " %s refs/heads/n\n" ZERO " %s refs/heads/n", g.first, g.second);
  expect_refused (&g, stale, "report-status", g.update, "ng refs/heads/main ");
  expect_refused (&g, exists, "report-status", g.update, "ng refs/heads/main ");
  expect_refused (&g, gone, "report-status", g.update, "ng refs/heads/gone ");
  expect_refused (&g, gone_delete, "report-status", NULL, "ng refs/heads/gone ");
  expect_refused (&g, twice, "report-status atomic", g.update, "ng refs/heads/n ");

  g_autofree char *mixed
      = g_strdup_printf ("%s %s refs/heads/main\n%s\n" ZERO " %s refs/heads/new", g.first, g.second, gone, g.second);
  expect_refused (&g, mixed, "report-status atomic", g.update, "ng refs/heads/main ");
  g_autofree char *funny = g_strdup_printf ("%s %s refs/heads/main\n" ZERO " %s main", g.first, g.second, g.second);
  g_autoptr (GBytes) funny_request = push_request (funny, "report-status", g.update);
  /* Not atomic: what is good goes through. */
  g_auto (Outcome) outcome = push_bytes (g.f, &g.repo, funny_request);
  if (outcome.n_updates != 1)
    fail_msg ("%s %s", outcome.answer, outcome.error != NULL ? outcome.error->message : "");
  assert_non_null (strstr (outcome.answer, "ok refs/heads/main"));
  assert_non_null (strstr (outcome.answer, "ng main funny refname"));
  g_autofree char *swap = g_strdup_printf (ZERO " %s refs/heads/d\n%s", g.first, gone);
  g_autoptr (GBytes) swap_request = push_request (swap, "report-status", g.update);
  g_auto (Outcome) half = push_bytes (g.f, &g.repo, swap_request);
  assert_int_equal (half.n_updates, 1);
  assert_non_null (strstr (half.answer, "ok refs/heads/d"));
  assert_non_null (strstr (half.answer, "ng refs/heads/gone "));
  assert_int_equal (ref_value (g.f, &g.repo, "refs/heads/gone").len, 0);
  /* A folder takes a file's place in one push. */
  g_autofree char *replace = g_strdup_printf ("%s " ZERO " refs/heads/d\n" ZERO " %s refs/heads/d/e", g.first, g.first);
  g_autoptr (GBytes) nothing = sh_bytes (g.f, "cd $WORK && git pack-objects -q --stdout </dev/null");
  g_autoptr (GBytes) replace_request = push_request (replace, "report-status atomic", nothing);
  g_auto (Outcome) replaced = push_bytes (g.f, &g.repo, replace_request);
  assert_int_equal (replaced.n_updates, 2);
  assert_int_equal (ref_value (g.f, &g.repo, "refs/heads/d").len, 0);
  assert_int_equal (ref_value (g.f, &g.repo, "refs/heads/d/e").len, 20);
  assert_nothing_left (g.f, &g.repo);
  ground_free (&g);
}

/* In an atomic push, a command that git itself drops must take the others with it. */
static void
test_atomic_with_dropped_command (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autofree char *commands = g_strdup_printf (
      ZERO " 1111111111111111111111111111111111111111 refs/heads/absent\n%s %s refs/heads/main", g.first, g.second);
  expect_refused (&g, commands, "report-status atomic", g.update, "ng refs/heads/main ");
  g_autofree char *outside = g_strdup_printf (ZERO " %s HEAD\n%s %s refs/heads/main", g.second, g.first, g.second);
  expect_refused (&g, outside, "report-status atomic", g.update, "ng refs/heads/main ");
  ground_free (&g);
}

static void
test_limits_and_policies (void **state)
{
  Ground g = ground_new ("deny_non_fast_forwards", "true");
  g_autofree char *forward = g_strdup_printf ("%s %s refs/heads/main", g.first, g.second);
  g_autofree char *back = g_strdup_printf ("%s %s refs/heads/main", g.second, g.first);
  g_autofree char *delete = g_strdup_printf ("%s " ZERO " refs/heads/main", g.second);
  g_autofree char *other = sh (g.f, "cd $WORK && git commit-tree -m other 'main^{tree}'");
  g_strchomp (other);
  g_autofree char *unrelated = g_strdup_printf ("%s %s refs/heads/main", g.second, other);
  g_autoptr (GBytes) nothing = sh_bytes (g.f, "cd $WORK && git pack-objects -q --stdout </dev/null");
  g_autoptr (GBytes) other_pack = work_pack (g.f, other);
  g_autoptr (GBytes) request = push_request (forward, "report-status", g.update);
  g_auto (Outcome) moved = push_bytes (g.f, &g.repo, request);
  assert_int_equal (moved.n_updates, 1);
  expect_refused (&g, back, "report-status", nothing, "ng refs/heads/main non-fast-forward");
  expect_refused (&g, unrelated, "report-status", other_pack, "ng refs/heads/main non-fast-forward");

  fixture_restart (g.f, TRUE, "deny_deletes", "true");
  expect_refused (&g, delete, "report-status", NULL, "ng refs/heads/main deletion prohibited");
  fixture_restart (g.f, TRUE, "max_push_bytes", "100");
  expect_refused (&g, unrelated, "report-status", other_pack, "unpack");
  fixture_restart (g.f, TRUE, NULL, NULL);
  g_autoptr (GBytes) back_request = push_request (back, "report-status", nothing);
  g_auto (Outcome) moved_back = push_bytes (g.f, &g.repo, back_request);
  assert_int_equal (moved_back.n_updates, 1);
  g_autofree char *delete_first = g_strdup_printf ("%s " ZERO " refs/heads/main", g.first);
  g_autoptr (GBytes) delete_request = push_request (delete_first, "report-status", NULL);
  g_auto (Outcome) deleted = push_bytes (g.f, &g.repo, delete_request);
  assert_int_equal (deleted.n_updates, 1);
  assert_int_equal (ref_value (g.f, &g.repo, "refs/heads/main").len, 0);
  ground_free (&g);
}

static void
test_fsck_levels (void **state)
{
  Ground g = ground_new ("fsck", "strict");
  /* A commit whose author has a time zone that never was. */
  g_autofree char *odd = sh (g.f, "cd $WORK && git cat-file commit main | sed 's/ [-+]0000$/ +051800/' |"
                                  " git hash-object -t commit -w --literally --stdin");
  g_strchomp (odd);
  g_autofree char *command = g_strdup_printf (ZERO " %s refs/heads/odd", odd);
  g_autofree char *revisions = g_strdup_printf ("%s ^main~1", odd);
  g_autoptr (GBytes) pack = work_pack (g.f, revisions);
  expect_refused (&g, command, "report-status", pack, "unpack index-pack");
  fixture_restart (g.f, TRUE, "fsck", "lenient");
  g_autoptr (GBytes) request = push_request (command, "report-status", pack);
  g_auto (Outcome) taken = push_bytes (g.f, &g.repo, request);
  assert_int_equal (taken.n_updates, 1);
  ground_free (&g);
}

static void
test_aborted (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autoptr (GError) why = g_error_new (GS_ERROR, GS_ERROR_ABORTED, "the quorum\nsaid no");
  g_autofree char *before = object_files (&g);
  g_autofree char *commands
      = g_strdup_printf ("%s %s refs/heads/main\n" ZERO " %s refs/heads/x", g.first, g.second, g.second);
  g_autoptr (GBytes) request = push_request (commands, "report-status", g.update);
  g_auto (Outcome) outcome = push_with (g.f, &g.repo, request, why);
  assert_int_equal (outcome.n_updates, 2);
  assert_non_null (strstr (outcome.answer, "ng refs/heads/main the quorum said no\n"));
  assert_non_null (strstr (outcome.answer, "ng refs/heads/x the quorum said no\n"));
  g_autofree char *after = object_files (&g);
  assert_string_equal (before, after);
  assert_nothing_left (g.f, &g.repo);
  /* The very same push goes through afterwards. */
  g_auto (Outcome) again = push_bytes (g.f, &g.repo, request);
  assert_int_equal (again.n_updates, 2);
  assert_nothing_left (g.f, &g.repo);
  ground_free (&g);
}

/* Whoever drops it need not know why: done it is not. */
static void
test_aborted_without_reason (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autofree char *commands = g_strdup_printf ("%s %s refs/heads/main", g.first, g.second);
  g_autoptr (GBytes) request = push_request (commands, "report-status", g.update);
  g_auto (Outcome) outcome = push_decided (g.f, &g.repo, request, FALSE, NULL);
  assert_int_equal (outcome.n_updates, 1);
  assert_non_null (strstr (outcome.answer, "ng refs/heads/main the write was given up"));
  assert_null (strstr (outcome.answer, "ok refs/heads/main"));
  assert_nothing_left (g.f, &g.repo);
  ground_free (&g);
}

/* Requests that are none, or are other than what was advertised. */
static void
test_bad_requests (void **state)
{
  static const char *const requests[] = { "zzzz", "0003", "0005x", "000", "00ff", "0000PACK", "fff1" };
  Ground g = ground_new (NULL, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (requests); i++)
    {
      g_autoptr (GBytes) request = g_bytes_new_static (requests[i], strlen (requests[i]));
      g_auto (Outcome) outcome = push_bytes (g.f, &g.repo, request);
      assert_int_equal (outcome.n_updates, 0);
      if (outcome.error != NULL)
        assert_gs_error (&outcome.error, GS_ERROR_INVALID_ARGUMENT, "receive-pack");
      assert_nothing_left (g.f, &g.repo);
    }
  g_autofree char *command = g_strdup_printf ("%s %s refs/heads/main\n", g.first, g.second);
  const char *const lines[] = { "push-cert@ report-status\n",
                                "certificate version 0.1\n",
                                "pusher a <a@b> 0 +0000\n",
                                "\n",
                                command,
                                "-----BEGIN PGP SIGNATURE-----\n",
                                "push-cert-end\n",
                                "0000",
                                NULL };
  g_autoptr (GBytes) cert = pkt_request (lines);
  g_autofree char *text = g_memdup2 (g_bytes_get_data (cert, NULL), g_bytes_get_size (cert));
  *(char *) memchr (text, '@', g_bytes_get_size (cert)) = '\0';
  g_autoptr (GBytes) cert_head = g_bytes_new (text, g_bytes_get_size (cert));
  g_autoptr (GBytes) request = bytes_join (cert_head, g.update);
  g_auto (Outcome) outcome = push_bytes (g.f, &g.repo, request);
  assert_int_equal (outcome.n_updates, 0);
  g_autofree char *now = hex_of (ref_value (g.f, &g.repo, "refs/heads/main"));
  assert_string_equal (now, g.first);
  assert_nothing_left (g.f, &g.repo);
  ground_free (&g);
}

/* The client vanishes half way through its pack: once by a transport that cancels, once by one that only closes. */
static void
test_vanishing_client (void **state)
{
  Ground g = ground_new (NULL, NULL);
  g_autofree char *command = g_strdup_printf ("%s %s refs/heads/main", g.first, g.second);
  g_autoptr (GBytes) whole = push_request (command, "report-status side-band-64k", g.update);
  for (int way = 0; way < 2; way++)
    {
      int to, from;
      g_autoptr (GBytes) half = g_bytes_new_from_bytes (whole, 0, g_bytes_get_size (whole) - 40);
      g_autoptr (GError) error = NULL;
      FakeCall *call = fake_call_new (0);
      FakeStream *stream = fake_stream_pipes (half, &to, &from);
      GsPush push = { .size = sizeof push, .txid = { { 9, (guint8) way } }, .protocol = "", .stateless = TRUE };
      const GsVote *vote;
      gpointer txn;
      if (way == 0)
        fake_call_cancel (call);
      else
        close (to);
      gboolean staged
          = g.f->ops->stage_push (g.f->self, &call->call, &g.repo, &push, &stream->stream, &txn, &vote, &error);
      if (way == 0)
        {
          assert_false (staged);
          assert_gs_error (&error, GS_ERROR_CANCELLED, "push");
          close (to);
        }
      else
        {
          assert_true (staged);
          assert_int_equal (vote->n_updates, 0);
          g.f->ops->abort (g.f->self, &call->call, txn, NULL);
        }
      fake_stream_free (stream);
      assert_nothing_left (g.f, &g.repo);
      /* Nobody holds the output any more: no process is left. */
      struct pollfd fd = { .fd = from, .events = POLLIN };
      char buffer[4096];
      ssize_t got;
      do
        {
          assert_int_equal (poll (&fd, 1, 10000), 1);
          got = read (from, buffer, sizeof buffer);
        }
      while (got > 0);
      assert_int_equal (got, 0);
      close (from);
      fake_call_free (call);
    }
  ground_free (&g);
}

/* The caller goes away between the vote and the decision: what was decided is applied all the same. */
static void
test_cancelled_before_decision (void **state)
{
  for (int commit = 0; commit < 2; commit++)
    {
      Ground g = ground_new (NULL, NULL);
      g_autofree char *command = g_strdup_printf ("%s %s refs/heads/main", g.first, g.second);
      g_autoptr (GBytes) request = push_request (command, "report-status", g.update);
      g_autoptr (GError) error = NULL;
      FakeCall *call = fake_call_new (0);
      FakeStream *stream = fake_stream_new (request, -1, open ("/dev/null", O_WRONLY | O_CLOEXEC));
      GsPush push = { .size = sizeof push, .txid = { { 9 } }, .protocol = "", .stateless = TRUE };
      GsDecision decision
          = { .size = sizeof decision, .generation = state_of (g.f, &g.repo).generation + 1, .txid = push.txid };
      const GsVote *vote;
      gpointer txn;
      assert_true (g.f->ops->stage_push (g.f->self, &call->call, &g.repo, &push, &stream->stream, &txn, &vote, &error));
      assert_int_equal (vote->n_updates, 1);
      fake_call_cancel (call);
      if (commit)
        assert_true (g.f->ops->commit (g.f->self, &call->call, txn, &decision, &error));
      else
        g.f->ops->abort (g.f->self, &call->call, txn, NULL);
      g_autofree char *now = hex_of (ref_value (g.f, &g.repo, "refs/heads/main"));
      assert_string_equal (now, commit ? g.second : g.first);
      assert_nothing_left (g.f, &g.repo);
      fake_stream_free (stream);
      fake_call_free (call);
      ground_free (&g);
    }
}

/* ------------------------------------------------------------------------------------- stock git */

static void
test_git_client (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f,
              "cat >$DIR/same <<'END'\n"
              "git --git-dir=$ROOT/x.git for-each-ref >$DIR/a; git -C $1 for-each-ref $2 >$DIR/b; diff $DIR/a $DIR/b\n"
              "git --git-dir=$ROOT/x.git fsck --strict --no-dangling\nEND\n"));
  g_autofree char *talk = sh (
      f, "exec 2>&1; U=\"ext::$SERVE $ROOT x.git %%S\"; cd $WORK; set -e;"
         " git push -q --mirror \"$U\"; sh $DIR/same $WORK;"
         /* again: nothing to do */
         " git push -q --mirror \"$U\"; sh $DIR/same $WORK;"
         " git commit -q --amend -m amended; git tag -d light >/dev/null; git branch other; git push -q --mirror "
         "\"$U\"; sh $DIR/same $WORK;"
         /* with push options, a lease that is stale, one that is not */
         " git commit -q --allow-empty -m third; git push -q -o ci.skip -o x=y \"$U\" main;"
         " if git push -q --force-with-lease=topic:main \"$U\" main:topic 2>/dev/null; then echo lease ignored; fi;"
         " git push -q --force-with-lease=topic:topic \"$U\" main:topic; git branch -qf topic main; sh $DIR/same $WORK;"
         /* many refs at once, updated, deleted */
         " for i in $(seq 500); do echo create refs/many/$i HEAD; done | git update-ref --stdin;"
         " git push -q --mirror \"$U\"; sh $DIR/same $WORK;"
         " for i in $(seq 500); do echo update refs/many/$i HEAD~1; done | git update-ref --stdin;"
         " git push -q --atomic --mirror \"$U\"; sh $DIR/same $WORK;"
         " for i in $(seq 500); do echo delete refs/many/$i; done | git update-ref --stdin;"
         " git push -q --mirror \"$U\"; sh $DIR/same $WORK;");
  assert_string_equal (talk, "");
  int status;
  g_autofree char *refused
      = sh_any (f, &status, "cd $WORK && git push \"ext::$SERVE $ROOT x.git %%S\" main:refs/heads/topic/below 2>&1");
  assert_int_not_equal (status, 0);
  assert_non_null (strstr (refused, "[remote rejected]"));
  g_autofree char *pushed = sh_any (
      f, &status, "cd $WORK && DECIDE_ABORT=1 git push \"ext::$SERVE $ROOT x.git %%S\" main:refs/heads/voted 2>&1");
  assert_int_not_equal (status, 0);
  assert_non_null (strstr (pushed, "(the quorum said no)"));
  g_autofree char *left
      = sh (f, "cd $ROOT/x.git && find gitstead -mindepth 2; find . -name '*.lock'; ls $ROOT/gitstead-tmp");
  assert_string_equal (left, "");
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_accepted),
    cmocka_unit_test (test_bad_objects),
    cmocka_unit_test (test_bad_names),
    cmocka_unit_test (test_stale_and_atomic),
    cmocka_unit_test (test_atomic_with_dropped_command),
    cmocka_unit_test (test_limits_and_policies),
    cmocka_unit_test (test_fsck_levels),
    cmocka_unit_test (test_aborted),
    cmocka_unit_test (test_aborted_without_reason),
    cmocka_unit_test (test_bad_requests),
    cmocka_unit_test (test_vanishing_client),
    cmocka_unit_test (test_cancelled_before_decision),
    cmocka_unit_test (test_git_client),
  };
  return cmocka_run_group_tests_name ("storage/git pushes", tests, NULL, NULL);
}
