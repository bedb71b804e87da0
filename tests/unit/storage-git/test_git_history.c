/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about the history from many threads while it grows and its commit-graph is renewed; calls that are over end. */
#include "common.h"

#include "gitstead/v1/history.pb-c.h"

#include <gitstead/thread.h>
#include <wire/wire.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMITS 400
#define THREADS 4
#define ROUNDS 40

/* Commits FROM to TO on main, with a merge now and then, imported beside the server. */
static void
grow (Fixture *f, const GsRepo *repo, int from, int to)
{
  g_free (sh (f,
              "cd $ROOT/%s && for i in $(seq %d %d); do"
              " printf 'commit refs/heads/main\\nmark :%%d\\ncommitter c <c@d> %%d +0000\\ndata 1\\nx\\n' $i $((1700000000 + i));"
              " test $i -gt %d && echo from :$((i - 1)); test $i -eq %d && test $i -gt 1 && echo from refs/heads/main^0;"
              " test $i -gt $((%d + 9)) && test $((i %% 10)) -eq 0 && echo merge :$((i - 7));"
              " printf 'M 100644 inline d/f%%d\\ndata 4\\n%%04d\\n\\n' $((i %% 9)) $i; done"
              " | git -c fastimport.unpackLimit=1 fast-import --quiet --force",
              repo->replica_path, from, to, from, from, from));
}

/* The error has no reply. */
static gboolean
ask (Fixture *f, const GsRepo *repo, GsCall *call, guint32 method, const ProtobufCMessage *request, GBytes **ret_reply,
     GError **error)
{
  g_autoptr (GBytes) bytes = gs_wire_encode (request);
  const GsQuery query = { .size = sizeof query, .method = method, .request = bytes };
  return f->ops->query (f->self, call, repo, &query, ret_reply, error);
}

typedef struct
{
  Fixture *f;
  GsRepo repo;
  char tip[GS_OID_HEX_MAX + 1];
  GsThread thread;
  guint number;
  char *failed;
} Asker;

/* How many commits the tip reaches; 0 with a message when it fails. */
static guint64
count (Asker *asker, GsCall *call, const char *path)
{
  Gitstead__V1__HistoryCountRequest request = GITSTEAD__V1__HISTORY_COUNT_REQUEST__INIT;
  Gitstead__V1__HistoryRange range = GITSTEAD__V1__HISTORY_RANGE__INIT;
  ProtobufCBinaryData tip = { strlen (asker->tip), (guint8 *) asker->tip }, paths = { path != NULL ? strlen (path) : 0, (guint8 *) path };
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = NULL;
  g_autoptr (GsArena) arena = gs_arena_new (1 << 20);
  request.range = &range;
  range.include = &tip;
  range.n_include = 1;
  range.paths = &paths;
  range.n_paths = path != NULL;
  if (!ask (asker->f, &asker->repo, call, 721, &request.base, &bytes, &error))
    {
      asker->failed = g_strdup (error->message);
      return 0;
    }
  gsize len;
  const guint8 *data = g_bytes_get_data (bytes, &len);
  const Gitstead__V1__HistoryCountReply *reply
      = (const void *) gs_wire_decode (arena, &gitstead__v1__history_count_reply__descriptor, data, len, NULL);
  return reply->count;
}

static void *
ask_on (void *user)
{
  Asker *asker = user;
  FakeCall *call = fake_call_new (240 * G_USEC_PER_SEC);
  for (guint i = 0; i < ROUNDS && asker->failed == NULL; i++)
    {
      guint64 all = count (asker, &call->call, NULL), some = count (asker, &call->call, "d/f3");
      if (asker->failed == NULL && (all != COMMITS || some == 0 || some >= COMMITS / 2))
        asker->failed = g_strdup_printf ("%" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " commits", all, some);
    }
  fake_call_free (call);
  return NULL;
}

static void
test_while_it_grows (void **state)
{
  static const char *const writes[]
      = { "--split --changed-paths", "--split=no-merge --changed-paths", "--no-changed-paths", "--split=replace --changed-paths" };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 7);
  Asker askers[THREADS] = { { NULL } };
  grow (f, &repo, 1, COMMITS);
  g_autofree char *tip = sh (f, "git -C $ROOT/%s rev-parse main", repo.replica_path);
  for (guint i = 0; i < THREADS; i++)
    {
      askers[i] = (Asker){ .f = f, .repo = repo, .number = i };
      g_strlcpy (askers[i].tip, g_strchomp (tip), sizeof askers[i].tip);
      assert_int_equal (gs_thread_start (&askers[i].thread, "asker", ask_on, &askers[i]), 0);
    }
  for (int i = 0; i < 8; i++)
    {
      grow (f, &repo, COMMITS + 1 + 10 * i, COMMITS + 10 + 10 * i);
      g_free (sh (f, "cd $ROOT/%s && git commit-graph write --reachable %s 2>/dev/null", repo.replica_path,
                  writes[i % G_N_ELEMENTS (writes)]));
      if (i == 4)
        g_free (sh (f, "cd $ROOT/%s && rm -rf objects/info/commit-graph objects/info/commit-graphs", repo.replica_path));
    }
  for (guint i = 0; i < THREADS; i++)
    {
      gs_thread_join (askers[i].thread);
      if (askers[i].failed != NULL)
        fail_msg ("thread %u: %s", i, askers[i].failed);
    }
  assert_int_equal (fake_host_logged (f->host, "storage.history.graph-ignored"), 0);
  fixture_free (f);
}

static gboolean
count_all_refs (Fixture *f, const GsRepo *repo, GsCall *call, GError **error)
{
  Gitstead__V1__HistoryCountRequest request = GITSTEAD__V1__HISTORY_COUNT_REQUEST__INIT;
  Gitstead__V1__HistoryRange range = GITSTEAD__V1__HISTORY_RANGE__INIT;
  g_autoptr (GBytes) bytes = NULL;
  request.range = &range;
  range.all_refs = TRUE;
  return ask (f, repo, call, 721, &request.base, &bytes, error);
}

/* A walk looks at the clock and at the flag, and so does what comes before it. */
static void
test_calls_that_are_over (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 8);
  g_autoptr (GError) error = NULL;
  Asker asker = { .f = f, .repo = repo };
  grow (f, &repo, 1, 3000);
  g_autofree char *tip = sh (f, "git -C $ROOT/%s rev-parse main", repo.replica_path);
  g_strlcpy (asker.tip, g_strchomp (tip), sizeof asker.tip);
  FakeCall *late = fake_call_new (-1), *gone = fake_call_new (240 * G_USEC_PER_SEC);
  fake_call_cancel (gone);
  assert_int_equal (count (&asker, &late->call, NULL), 0);
  assert_non_null (strstr (asker.failed, "time was up"));
  g_clear_pointer (&asker.failed, g_free);
  assert_int_equal (count (&asker, &gone->call, "d"), 0);
  assert_non_null (strstr (asker.failed, "cancelled"));
  g_clear_pointer (&asker.failed, g_free);
  assert_int_equal (count (&asker, &f->call->call, NULL), 3000);
  assert_false (count_all_refs (f, &repo, &gone->call, &error));
  assert_gs_error (&error, GS_ERROR_CANCELLED, "resolve refs");
  assert_true (count_all_refs (f, &repo, &f->call->call, &error));
  fake_call_free (late);
  fake_call_free (gone);
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_while_it_grows),
    cmocka_unit_test (test_calls_that_are_over),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
