/* SPDX-License-Identifier: Apache-2.0 */
/* What git clients are told of refs, byte for byte as stock git tells it; and fetches. */
#include "common.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The options that the plugin forces on its children, for stock git beside it. */
#define LIKE_US                                                                                                        \
  "git -c transfer.hideRefs=refs/gitstead/ -c uploadpack.allowFilter=true -c uploadpack.allowAnySHA1InWant=true "      \
  "-c receive.advertisePushOptions=true -c safe.directory='*' "

static void
fill (Fixture *f, const GsRepo *repo)
{
  g_autoptr (GBytes) pack = work_pack (f, "--all");
  GsRefUpdate updates[] = {
    { .name = "refs/heads/main", .new_oid = work_oid (f, "main") },
    { .name = "refs/heads/topic", .new_oid = work_oid (f, "topic") },
    { .name = "refs/heads/a-b", .new_oid = work_oid (f, "topic") },
    { .name = "refs/heads/a/b", .new_oid = work_oid (f, "topic") },
    { .name = "refs/heads/a.b", .new_oid = work_oid (f, "main") },
    { .name = "refs/heads/\xc3\xa9t\xc3\xa9", .new_oid = work_oid (f, "main") },
    { .name = "refs/heads/\xff\xfe", .new_oid = work_oid (f, "main") },
    { .name = "refs/notes/tree", .new_oid = work_oid (f, "main^{tree}") },
    { .name = "refs/tags/blob", .new_oid = work_oid (f, "main:one") },
    { .name = "refs/tags/light", .new_oid = work_oid (f, "light") },
    { .name = "refs/tags/v1", .new_oid = work_oid (f, "v1") },
    { .name = "refs/tags/v1-nested", .new_oid = work_oid (f, "v1-nested") },
  };
  apply_changes (f, repo, updates, G_N_ELEMENTS (updates), pack);
}

static char *
printable (GBytes *bytes)
{
  char *text = g_malloc (g_bytes_get_size (bytes) + 1);
  memcpy (text, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes));
  text[g_bytes_get_size (bytes)] = '\0';
  for (gsize i = 0; i < g_bytes_get_size (bytes); i++)
    if (text[i] == '\0')
      text[i] = '@';
  return text;
}

static void
assert_same_bytes (GBytes *ours, GBytes *theirs, const char *what)
{
  if (g_bytes_equal (ours, theirs))
    return;
  g_autofree char *a = printable (ours), *b = printable (theirs);
  fail_msg ("%s: ours %s\ngit's %s", what, a, b);
}

static void
compare_advertisements (Fixture *f, const GsRepo *repo)
{
  static const struct
  {
    guint32 service;
    const char *name;
  } services[] = { { GS_SERVICE_UPLOAD_PACK, "upload-pack" }, { GS_SERVICE_RECEIVE_PACK, "receive-pack" } };
  static const char *const protocols[] = { "", "version=1", "version=2", "version=1:version=2", "x=y", "version=9" };
  for (gsize s = 0; s < G_N_ELEMENTS (services); s++)
    for (gsize p = 0; p < G_N_ELEMENTS (protocols); p++)
      {
        g_autoptr (GError) error = NULL;
        g_autoptr (GBytes) ours = NULL;
        g_autoptr (GBytes) theirs = sh_bytes (f, "GIT_PROTOCOL='%s' " LIKE_US "%s --advertise-refs $ROOT/%s",
                                              protocols[p], services[s].name, repo->replica_path);
        if (!f->ops->advertise (f->self, &f->call->call, repo, services[s].service, protocols[p], &ours, &error))
          fail_msg ("advertise: %s", error->message);
        assert_same_bytes (ours, theirs, services[s].name);
      }
}

static void
test_advertisements (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  GBytes *bytes;
  compare_advertisements (f, &repo);
  fill (f, &repo);
  compare_advertisements (f, &repo);
  /* HEAD on a branch that is not there, then on one that is. */
  GsRefUpdate head = { .name = "HEAD", .new_symref = "refs/heads/unborn" };
  apply_changes (f, &repo, &head, 1, NULL);
  compare_advertisements (f, &repo);
  head.new_symref = "refs/heads/topic";
  apply_changes (f, &repo, &head, 1, NULL);
  compare_advertisements (f, &repo);
  /* Packed by stock git beside us; then refs whose object is not there, which git shows too. */
  g_free (sh (f, "git -C $ROOT/@r/1.git pack-refs --all"));
  compare_advertisements (f, &repo);
  g_free (sh (f, "cd $ROOT/@r/1.git && echo 1111111111111111111111111111111111111111 >refs/heads/broken &&"
                 " sed -i 's,^[0-9a-f]* refs/heads/topic$,2222222222222222222222222222222222222222 refs/heads/topic,' "
                 "packed-refs"));
  compare_advertisements (f, &repo);
  assert_false (f->ops->advertise (f->self, &f->call->call, &repo, 7, "", &bytes, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "service");
  fixture_free (f);
}

static void
test_hidden_refs (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  fill (f, &repo);
  g_free (sh (f, "git -C $ROOT/@r/1.git update-ref refs/gitstead/keep refs/heads/topic"));
  /* receive-pack has no rule of its own: there the names are refused one by one. */
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) upload = NULL, receive = NULL;
  g_autoptr (GBytes) theirs = sh_bytes (f, LIKE_US "upload-pack --advertise-refs $ROOT/@r/1.git");
  assert_true (f->ops->advertise (f->self, &f->call->call, &repo, GS_SERVICE_UPLOAD_PACK, "", &upload, &error));
  assert_same_bytes (upload, theirs, "upload-pack");
  assert_true (f->ops->advertise (f->self, &f->call->call, &repo, GS_SERVICE_RECEIVE_PACK, "", &receive, &error));
  assert_null (g_strstr_len (g_bytes_get_data (receive, NULL), (gssize) g_bytes_get_size (receive), "refs/gitstead"));
  fixture_free (f);
}

/* ---------------------------------------------------------------------------------------- ls-refs */

static GBytes *
ask_us (Fixture *f, const GsRepo *repo, GBytes *request, gsize split)
{
  gsize len;
  const char *data = g_bytes_get_data (request, &len);
  int to = -1;
  g_autoptr (GBytes) head = g_bytes_new (data, MIN (split, len));
  FakeStream *stream = fake_stream_pipes (head, split < len ? &to : NULL, NULL);
  g_autoptr (GError) error = NULL;
  if (to >= 0)
    {
      assert_int_equal (write (to, data + split, len - split), (ssize_t) (len - split));
      close (to);
    }
  if (!f->ops->upload_pack (f->self, &f->call->call, repo, "version=2", TRUE, &stream->stream, &error))
    fail_msg ("upload_pack: %s", error->message);
  assert_non_null (stream->sent);
  GBytes *answer = g_bytes_ref (stream->sent);
  fake_stream_free (stream);
  return answer;
}

static GBytes *
ask_git (Fixture *f, const GsRepo *repo, GBytes *request)
{
  g_autofree char *file = g_build_filename (f->dir, "request", NULL);
  assert_true (g_file_set_contents (file, g_bytes_get_data (request, NULL), (gssize) g_bytes_get_size (request), NULL));
  return sh_bytes (f, "GIT_PROTOCOL=version=2 " LIKE_US "upload-pack --stateless-rpc $ROOT/%s <$DIR/request",
                   repo->replica_path);
}

static void
test_ls_refs (void **state)
{
  static const char *const requests[][12] = {
    { "command=ls-refs\n", "0000", NULL },
    { "command=ls-refs", "agent=git/2.39.5", "object-format=sha1", "0001", "peel\n", "symrefs\n", "unborn\n", "0000",
      NULL },
    { "command=ls-refs\n", "0001", "symrefs\n", "ref-prefix HEAD\n", "0000", NULL },
    { "command=ls-refs\n", "0001", "peel\n", "ref-prefix refs/heads/\n", "ref-prefix refs/tags/\n", "0000", NULL },
    { "command=ls-refs\n", "0001", "peel\n", "ref-prefix refs/tags/v1\n", "ref-prefix refs/\n",
      "ref-prefix refs/tags/v1\n", "0000", NULL },
    { "command=ls-refs\n", "0001", "ref-prefix refs/heads/a\n", "ref-prefix nothing\n", "0000", NULL },
    { "command=ls-refs\n", "0001", "ref-prefix \n", "0000", NULL },
    { "command=ls-refs\n", "server-option=x\n", "0001", "peel\n", "ref-prefix refs/tags/v1-\n", "0000", NULL },
  };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo empty = { .size = sizeof empty, .id = 2, .replica_path = "@r/2.git" };
  fixture_create (f, 2);
  GsRepo repo = fixture_create (f, 1);
  fill (f, &repo);
  for (gsize i = 0; i < G_N_ELEMENTS (requests); i++)
    {
      g_autoptr (GBytes) request = pkt_request (requests[i]);
      g_autofree char *name = g_strdup_printf ("request %" G_GSIZE_FORMAT, i);
      g_autoptr (GBytes) theirs = ask_git (f, &repo, request), ours = ask_us (f, &repo, request, G_MAXSIZE);
      g_autoptr (GBytes) in_parts = ask_us (f, &repo, request, 25);
      assert_same_bytes (ours, theirs, name);
      assert_same_bytes (in_parts, theirs, name);
      g_autoptr (GBytes) none = ask_git (f, &empty, request), ours_none = ask_us (f, &empty, request, G_MAXSIZE);
      assert_same_bytes (ours_none, none, name);
    }
  assert_int_equal (fake_host_metric (f->host, "gitstead_storage_fetches_total", NULL), 0);
  fixture_free (f);
}

static void
test_ls_refs_many_prefixes (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  fill (f, &repo);
  for (guint n = 65535; n <= 65537; n++)
    {
      g_autoptr (GString) text = g_string_new ("0014command=ls-refs\n0001");
      for (guint i = 0; i < n; i++)
        g_string_append (text, "001dref-prefix refs/heads/to\n");
      g_string_append (text, "0000");
      g_autoptr (GBytes) request = g_bytes_new (text->str, text->len);
      g_autoptr (GBytes) ours = ask_us (f, &repo, request, G_MAXSIZE), theirs = ask_git (f, &repo, request);
      assert_same_bytes (ours, theirs, "many prefixes");
    }
  fixture_free (f);
}

static void
test_ls_refs_bad (void **state)
{
  static const struct
  {
    const char *lines[6];
    const char *answer;
  } cases[] = {
    { { "command=ls-refs\n", "0001", "nonsense\n", "0000", NULL }, "ERR unexpected line: 'nonsense'" },
    { { "command=ls-refs\n", "object-format=sha256\n", "0001", "0000", NULL },
      "ERR mismatched object format: server sha1; client sha256" },
    { { "command=ls-refs\n", "frobnicate\n", "0001", "0000", NULL }, "ERR unknown capability 'frobnicate'" },
  };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  for (gsize i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (GBytes) request = pkt_request (cases[i].lines);
      g_autoptr (GBytes) answer = ask_us (f, &repo, request, G_MAXSIZE);
      g_autofree char *text = g_strndup (g_bytes_get_data (answer, NULL), g_bytes_get_size (answer));
      assert_string_equal (text + 4, cases[i].answer);
    }
  /* Not complete, and never will be. */
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) cut = g_bytes_new_static ("0014command=ls-refs\n0001", 24);
  FakeStream *stream = fake_stream_new (cut, -1, -1);
  assert_false (f->ops->upload_pack (f->self, &f->call->call, &repo, "version=2", TRUE, &stream->stream, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "ends before");
  fake_stream_free (stream);
  cut = (g_bytes_unref (cut), g_bytes_new_static ("0014command=ls-refs\nzzzz", 24));
  stream = fake_stream_new (cut, -1, -1);
  assert_false (f->ops->upload_pack (f->self, &f->call->call, &repo, "version=2", TRUE, &stream->stream, &error));
  assert_gs_error (&error, GS_ERROR_INVALID_ARGUMENT, "packet lines");
  fake_stream_free (stream);
  fixture_free (f);
}

static gboolean
add_name (const GsRef *ref, gpointer user)
{
  g_string_append (user, ref->name);
  if (ref->peeled.len != 0)
    g_string_append (user, "^");
  if (ref->symref_target != NULL)
    g_string_append_printf (user, "->%s%s", ref->symref_target, ref->oid.len == 0 ? "(unborn)" : "");
  g_string_append_c (user, ' ');
  return TRUE;
}

static char *
list (Fixture *f, const GsRepo *repo, GsRefQuery query)
{
  GString *text = g_string_new (NULL);
  g_autoptr (GError) error = NULL;
  query.size = sizeof query;
  if (!f->ops->list_refs (f->self, &f->call->call, repo, &query, add_name, text, &error))
    fail_msg ("list_refs: %s", error->message);
  return g_string_free (text, FALSE);
}

static void
test_list_refs (void **state)
{
  static const char *const tags[] = { "refs/tags/", NULL }, *const two[] = { "refs/tags/v", "refs/heads/t", NULL };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  g_autoptr (GError) error = NULL;
  g_autoptr (GString) found = g_string_new (NULL);
  g_autofree char *unborn = list (f, &repo, (GsRefQuery){ .include_head = TRUE });
  assert_string_equal (unborn, "HEAD->refs/heads/main(unborn) ");
  fill (f, &repo);
  g_free (sh (f, "git -C $ROOT/@r/1.git update-ref refs/gitstead/keep refs/heads/topic"));
  g_autofree char *tagged = list (f, &repo, (GsRefQuery){ .prefixes = tags });
  assert_string_equal (tagged, "refs/tags/blob refs/tags/light refs/tags/v1^ refs/tags/v1-nested^ ");
  g_autofree char *both = list (f, &repo, (GsRefQuery){ .prefixes = two, .include_head = TRUE });
  assert_string_equal (both, "refs/heads/topic refs/tags/v1^ refs/tags/v1-nested^ ");
  g_autofree char *first = list (f, &repo, (GsRefQuery){ .include_head = TRUE, .limit = 2 });
  assert_string_equal (first, "HEAD->refs/heads/main refs/heads/a-b ");
  g_autofree char *after = list (f, &repo, (GsRefQuery){ .after = "refs/heads/a-b", .limit = 2, .include_head = TRUE });
  assert_string_equal (after, "refs/heads/a.b refs/heads/a/b ");
  g_autofree char *between = list (f, &repo, (GsRefQuery){ .after = "refs/tags/lighu", .prefixes = tags });
  assert_string_equal (between, "refs/tags/v1^ refs/tags/v1-nested^ ");
  g_autofree char *all = list (f, &repo, (GsRefQuery){ .include_hidden = TRUE });
  g_autofree char *shown = list (f, &repo, (GsRefQuery){ .include_hidden = FALSE });
  assert_non_null (strstr (all, "refs/gitstead/keep"));
  assert_null (strstr (shown, "refs/gitstead/keep"));
  assert_true (f->ops->find_ref (f->self, &f->call->call, &repo, "HEAD", add_name, found, &error));
  assert_true (f->ops->find_ref (f->self, &f->call->call, &repo, "refs/tags/v1", add_name, found, &error));
  assert_string_equal (found->str, "HEAD->refs/heads/main refs/tags/v1^ ");
  assert_false (f->ops->find_ref (f->self, &f->call->call, &repo, "refs/tags/v", add_name, found, &error));
  assert_gs_error (&error, GS_ERROR_NOT_FOUND, "refs/tags/v");
  fixture_free (f);
}

/* ---------------------------------------------------------------------------------------- fetches */

/* Whole sessions of stock git, over the plugin's stateful side. */
static void
test_clones (void **state)
{
  static const char *const clones[] = { "-c protocol.version=0", "-c protocol.version=1", "-c protocol.version=2" };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = { .size = sizeof repo, .id = 42, .replica_path = "x.git" };
  g_autoptr (GError) error = NULL;
  const GsRepoSpec spec = { .size = sizeof spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };
  assert_true (f->ops->create (f->self, &f->call->call, &repo, &spec, &error));
  fill (f, &repo);
  fixture_restart (f, FALSE, NULL, NULL);
  for (gsize i = 0; i < G_N_ELEMENTS (clones); i++)
    {
      g_autofree char *refs
          = sh (f,
                "rm -rf $DIR/c && git %s clone -q --mirror \"ext::$SERVE $ROOT x.git %%S\" $DIR/c && git -C $DIR/c fsck"
                " 2>/dev/null; git -C $DIR/c for-each-ref >$DIR/a; git -C $ROOT/x.git for-each-ref | diff - $DIR/a",
                clones[i]);
      assert_string_equal (refs, "");
      g_autofree char *shallow
          = sh (f,
                "rm -rf $DIR/c && git %s clone -q --depth 1 \"ext::$SERVE $ROOT x.git %%S\" $DIR/c && cd $DIR/c"
                " && git rev-list --count HEAD && git fetch -q --deepen 1 && git rev-list --count HEAD",
                clones[i]);
      assert_string_equal (shallow, "1\n2\n");
      g_autofree char *partial
          = sh (f,
                "rm -rf $DIR/c && git %s clone -q --bare --filter=blob:none \"ext::$SERVE $ROOT x.git %%S\" $DIR/c && "
                "cd $DIR/c"
                " && git rev-list --objects --all --missing=print | grep -c '^?'; git cat-file -p HEAD:one",
                clones[i]);
      assert_string_equal (partial, "3\none\nmore\n");
    }
  int status;
  g_autofree char *sparse = sh_any (f, &status,
                                    "rm -rf $DIR/c; git clone -q --bare --filter=sparse:oid=main:one"
                                    " \"ext::$SERVE $ROOT x.git %%S\" $DIR/c");
  assert_int_not_equal (status, 0);
  assert_non_null (strstr (sparse, "not supported"));
  fixture_free (f);
}

/* A request whose head comes with the call and whose rest comes by the descriptor, and one that is wholly there. */
static void
test_stateless_fetch (void **state)
{
  static const char *const protocols[] = { "", "version=2" };
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  fill (f, &repo);
  GsOid main_oid = work_oid (f, "main");
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (&main_oid, hex);
  g_autofree char *want = g_strdup_printf ("want %s\n", hex);
  g_autofree char *want_v0 = g_strdup_printf ("want %s ofs-delta\n", hex);
  const char *const v0[] = { want_v0, "0000", "done\n", NULL };
  const char *const v2[] = { "command=fetch", "0001", "ofs-delta\n", want, "done\n", "0000", NULL };
  for (gsize p = 0; p < 2; p++)
    for (gsize split = 0; split < 3; split++)
      {
        static const gsize splits[] = { 0, 30, G_MAXSIZE };
        g_autoptr (GBytes) request = pkt_request (p == 0 ? v0 : v2);
        gsize len;
        const char *data = g_bytes_get_data (request, &len);
        gsize head_len = MIN (splits[split], len);
        g_autoptr (GBytes) head = g_bytes_new (data, head_len);
        g_autofree char *file = g_build_filename (f->dir, "answer", NULL);
        g_autoptr (GError) error = NULL;
        int in[2], out = open (file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal (pipe2 (in, O_CLOEXEC), 0);
        assert_int_equal (write (in[1], data + head_len, len - head_len), (ssize_t) (len - head_len));
        close (in[1]);
        FakeStream *stream = fake_stream_new (head, head_len < len ? in[0] : -1, out);
        if (head_len == len)
          close (in[0]);
        if (!f->ops->upload_pack (f->self, &f->call->call, &repo, protocols[p], TRUE, &stream->stream, &error))
          fail_msg ("upload_pack: %s", error->message);
        fake_stream_free (stream);
        g_autofree char *found = sh (f, "grep -a -c PACK $DIR/answer");
        assert_string_equal (found, "1\n");
      }
  fixture_free (f);
}

/* Whoever goes away, or takes too long, leaves no process behind. */
static void
test_cancelled_fetch (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 1);
  fill (f, &repo);
  for (int way = 0; way < 2; way++)
    {
      int to, from;
      g_autoptr (GError) error = NULL;
      FakeCall *call = fake_call_new (way == 0 ? 0 : G_USEC_PER_SEC / 5);
      FakeStream *stream = fake_stream_pipes (NULL, &to, &from);
      if (way == 0)
        fake_call_cancel (call);
      assert_false (f->ops->upload_pack (f->self, &call->call, &repo, "", FALSE, &stream->stream, &error));
      assert_gs_error (&error, way == 0 ? GS_ERROR_CANCELLED : GS_ERROR_DEADLINE_EXCEEDED, "upload-pack");
      /* The child had the only other copy of the writing end. */
      char buffer[4096];
      struct pollfd fd = { .fd = from, .events = POLLIN };
      fake_stream_free (stream);
      ssize_t got;
      do
        {
          assert_int_equal (poll (&fd, 1, 10000), 1);
          got = read (from, buffer, sizeof buffer);
        }
      while (got > 0);
      assert_int_equal (got, 0);
      close (to);
      close (from);
      fake_call_free (call);
    }
  assert_int_equal (fake_host_metric (f->host, "gitstead_storage_children_ended_total", NULL), 2);
  fixture_free (f);
}

/* Whatever stands in the repository's own config runs nothing. */
static void
test_hostile_config (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  GsRepo repo = fixture_create (f, 42);
  fill (f, &repo);
  g_free (sh (f,
              "cd $ROOT/@r/42.git && mkdir -p hooks && printf '#!/bin/sh\\ntouch %s/ran-hook\\n' >hooks/pre-receive && "
              "for h in update post-receive reference-transaction post-update pre-auto-gc proc-receive; do cp "
              "hooks/pre-receive hooks/$h; done;"
              " chmod +x hooks/*; for k in core.fsmonitor core.sshCommand core.pager core.alternateRefsCommand"
              " uploadpack.packObjectsHook core.editor diff.external gpg.program core.gitProxy credential.helper"
              " filter.x.clean; do git config -f config $k 'touch %s/ran-config; :'; done;"
              " git config -f config core.hooksPath $PWD/hooks; git config -f config gc.auto 1;"
              " git config -f config receive.autogc true; git config -f config include.path /nonexistent",
              f->dir, f->dir));
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (
      sh (f, "U=\"ext::$SERVE $ROOT @r/42.git %%S\"; git clone -q \"$U\" $DIR/c && cd $DIR/c && echo x >x && git add x"
             " && git commit -qm x && git push -q \"$U\" HEAD:refs/heads/new && git push -q \"$U\" :refs/heads/topic"));
  g_autofree char *ran = sh (f, "ls $DIR | grep ran- || true");
  assert_string_equal (ran, "");
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_advertisements),  cmocka_unit_test (test_hidden_refs),
    cmocka_unit_test (test_ls_refs),         cmocka_unit_test (test_ls_refs_many_prefixes),
    cmocka_unit_test (test_ls_refs_bad),     cmocka_unit_test (test_list_refs),
    cmocka_unit_test (test_clones),          cmocka_unit_test (test_stateless_fetch),
    cmocka_unit_test (test_cancelled_fetch), cmocka_unit_test (test_hostile_config),
  };
  return cmocka_run_group_tests_name ("storage/git serving", tests, NULL, NULL);
}
