/* SPDX-License-Identifier: Apache-2.0 */
/* See calls.h. */
#include "calls.h"

#include "fuzz.h"
#include "rpc/json.h"
#include "shape.h"

#include <string.h>

#define BUDGET (1024 * 1024)
#define UPLOAD_PACK 401
#define RECEIVE_PACK 402

const char *const call_words[] = {
  "", "main", "HEAD", "refs/heads/main", "side", "clash", "third", "void", "topic", "refs/heads/topic", "refs/tags/v1.0", "v1.0",
  "nested", "a-tree", "a-blob", "signed", "main~2", "main^2", "main^{tree}", "main:README", "main:src", "v1.0^{}", "README",
  "src", "src/b.c", "src/a.c", "lib/a.c", "three", "caf\351", "new\nline", "-dash", "link", "sub", "media/a.png", "bin/tool", "*.c",
  "src/../README", "/", ".git", "refs/heads/", "refs/", "bad/cut", "bad/empty", "bad/people", "bad/parent", "bad/tree", "bad/lost",
  "bad/modes", "bad/tree-cut", "bad/tree-modes", "bad/tag-cut", "bad/tag-type", "bad/tag-garbage", "bad/modes:a",
  "0843fdf4398e61687ab9a1f07f768d94393b30ac", "12e32d96fff207a84934472df1074f28da456088",
  "70c379b63ffa0795fdbfbc128e5a2818397b7ef8", "b0db55055138a0c29904916ea9cd86096db7ba97", "0843", "0",
  "0000000000000000000000000000000000000000", "1111111111111111111111111111111111111111", "--upload-pack=x", "-x", "@{1}", "A B",
  "a@example.org", "+0200", "-0330", "+9999", "Hello", "line [0-9]+", "(", "text", "Message\n\nBody\n", "diff", "::", ":(glob)*", "x",
  "fuzz/broken", "fuzz/pair", "fuzz", "fuzz/new", "other", "one", "two", "pair", "quorum", "direct", "refs/*:refs/*", "+refs/heads/*:refs/far/*",
  "core.bare", "receive.denyDeletes", "pre-receive.d/a", "file:///nowhere", "https://[::1]:1/x", "version=2",
  "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nDate: Mon, 1 Jan 2024 00:00:00 "
  "+0000\nSubject: [PATCH] Say more\n\n---\n README | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\ndiff --git a/README "
  "b/README\nindex 70c379b..0000000 100644\n--- a/README\n+++ b/README\n@@ -1 +1 @@\n-Hello world\n\\ No newline at end of "
  "file\n+Hello all\n-- \n2.40\n",
  NULL
};

#define BODY(number_, flags_, text_)                                                                                    \
  {                                                                                                                    \
    number_, flags_, text_, sizeof (text_) - 1                                                                         \
  }
/* A pack without objects. */
#define EMPTY_PACK "PACK\0\0\0\2\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e"

const CallBody call_bodies[] = {
  BODY (UPLOAD_PACK, 2, "0014command=ls-refs\n00010009peel\n000csymrefs\n000bunborn\n001bref-prefix refs/heads/\n0000"),
  BODY (UPLOAD_PACK, 10, "0014command=ls-refs\n0015agent=fuzz/1.0.0\n0017object-format=sha1\n0001001bref-prefix refs/heads/\n0000"),
  BODY (UPLOAD_PACK, 2, "0012command=fetch\n00010010no-progress\n0032want 0843fdf4398e61687ab9a1f07f768d94393b30ac\n0009done\n0000"),
  BODY (UPLOAD_PACK, 0, "0032want 0843fdf4398e61687ab9a1f07f768d94393b30ac\n00000009done\n"),
  BODY (RECEIVE_PACK, 0,
        "00750843fdf4398e61687ab9a1f07f768d94393b30ac 0000000000000000000000000000000000000000 refs/heads/main\0 report-status\n0000"),
  BODY (RECEIVE_PACK, 4,
        "00750000000000000000000000000000000000000000 0843fdf4398e61687ab9a1f07f768d94393b30ac refs/heads/new1\0 report-status\n0000"
        EMPTY_PACK),
};
const gsize n_call_bodies = G_N_ELEMENTS (call_bodies);

static void
add_line (const Calls *calls, const char *file, guint number, char *line, GPtrArray *seeds)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
  g_autoptr (GError) error = NULL;
  char *json = strchr (line, ' ');
  if (line[0] == '#' || json == NULL)
    return;
  *json++ = '\0';
  const GsiMethod *method = gsi_methods_by_name (calls->methods, line);
  if (method == NULL || !calls->wants (method))
    g_error ("%s:%u: there is no method %s to call", file, number, line);
  ProtobufCMessage *request = gsi_json_read (calls->methods, arena, method->request, json, strlen (json), &error);
  if (request == NULL)
    g_error ("%s:%u: %s", file, number, error->message);
  calls->add (seeds, method, (guint8) number, request);
}

void
calls_add_file (const Calls *calls, const char *file, GPtrArray *seeds)
{
  g_autofree char *text = NULL;
  g_autoptr (GError) error = NULL;
  if (!g_file_get_contents (file, &text, NULL, &error))
    g_error ("%s", error->message);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (guint i = 0; lines[i] != NULL; i++)
    add_line (calls, file, i + 1, lines[i], seeds);
}

void
calls_add_shaped (const Calls *calls, GPtrArray *seeds)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  gsize n;
  const GsiMethod *const *all = gsi_methods_all (calls->methods, &n);
  for (gsize i = 0; i < n; i++)
    if (calls->wants (all[i]))
      {
        g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
        ProtobufCMessage *request = gs_arena_alloc (arena, all[i]->request->sizeof_message);
        Shape shape = { call_words, rand, arena };
        protobuf_c_message_init (all[i]->request, request);
        shape_fill (&shape, request);
        calls->add (seeds, all[i], (guint8) i, request);
      }
}
