/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls from strangers, decoded and carried out by storage/git on a small repository that has broken objects in it, too.
 *
 * An input: the method's number (2 bytes, big endian), a byte of flags, a byte for the page token's state, the request
 * as protobuf; for a fetch and a push the body as it comes over HTTP. Writes are computed, staged and given up, so the
 * repository is the same for each input. With an answer that has a page token the call is made again with it, damaged where
 * the flags say so: the seal on a token holds no secret.
 */
#include "fuzz.h"

#include "fakehost.h"
#include "gitstead/v1/types.pb-c.h"
#include "rpc/json.h"
#include "shape.h"

#include <gitstead/storage.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUDGET (1024 * 1024)
#define REPLY_BUDGET (64 * 1024 * 1024)
#define HEAD 4
#define TOKEN_SEALED 17 /* version and seal; the state follows */
#define UPLOAD_PACK 401
#define RECEIVE_PACK 402
#define CALL_US (20 * G_USEC_PER_SEC)

extern const GsPlugin *gs_plugin_query (void);

static const char *const words[] = {
  "", "main", "HEAD", "refs/heads/main", "side", "clash", "third", "void", "topic", "refs/heads/topic", "refs/tags/v1.0", "v1.0",
  "nested", "a-tree", "a-blob", "signed", "main~2", "main^2", "main^{tree}", "main:README", "main:src", "v1.0^{}", "README",
  "src", "src/b.c", "src/a.c", "lib/a.c", "three", "caf\351", "new\nline", "-dash", "link", "sub", "media/a.png", "bin/tool", "*.c",
  "src/../README", "/", ".git", "refs/heads/", "refs/", "bad/cut", "bad/empty", "bad/people", "bad/parent", "bad/tree", "bad/lost",
  "bad/modes", "bad/tree-cut", "bad/tree-modes", "bad/tag-cut", "bad/tag-type", "bad/tag-garbage", "bad/modes:a",
  "0843fdf4398e61687ab9a1f07f768d94393b30ac", "12e32d96fff207a84934472df1074f28da456088",
  "70c379b63ffa0795fdbfbc128e5a2818397b7ef8", "b0db55055138a0c29904916ea9cd86096db7ba97", "0843", "0",
  "0000000000000000000000000000000000000000", "1111111111111111111111111111111111111111", "--upload-pack=x", "-x", "@{1}", "A B",
  "a@example.org", "+0200", "-0330", "+9999", "Hello", "line [0-9]+", "(", "text", "Message\n\nBody\n", "diff", "::", ":(glob)*", "x",
  "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nDate: Mon, 1 Jan 2024 00:00:00 "
  "+0000\nSubject: [PATCH] Say more\n\n---\n README | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\ndiff --git a/README "
  "b/README\nindex 70c379b..0000000 100644\n--- a/README\n+++ b/README\n@@ -1 +1 @@\n-Hello world\n\\ No newline at end of "
  "file\n+Hello all\n-- \n2.40\n",
  NULL
};

/* -------------------------------------------------------------------------------- the repository */

static GsiMethods *methods;
static GPtrArray *known; /* GsiMethod: those that the storage carries out */
static const GsPlugin *plugin;
static const GsStorageOps *ops;
static gpointer self;
static char *folder;
static FakeHost *host;
static FakeConfig *config;
static const GsRepo repo = { .size = sizeof repo, .id = 42, .replica_path = "@r/42.git" };

static void
close_repository (void)
{
  plugin->stop (self);
  plugin->destroy (self);
  fake_config_free (config);
  fake_host_free (host);
  fake_tempdir_remove (folder);
  g_ptr_array_unref (known);
  gsi_methods_free (methods);
}

static void
fill_repository (const char *root)
{
  g_autofree char *replica = g_build_filename (root, repo.replica_path, NULL);
  const char *argv[] = { "/bin/sh", FUZZ_DIR "/fixture.sh", replica, NULL };
  g_autoptr (GError) error = NULL;
  int status;
  if (!g_spawn_sync (NULL, (char **) argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                     &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    g_error ("fixture.sh: %s", error->message);
}

static void
open_repository (void)
{
  g_autoptr (GError) error = NULL;
  const GsiMethod *const *all;
  gsize n;
  signal (SIGPIPE, SIG_IGN); /* as in a server: git may end before it has read all */
  folder = fake_tempdir_new ();
  g_autofree char *root = g_build_filename (folder, "root", NULL);
  plugin = gs_plugin_query ();
  ops = plugin->ops;
  host = fake_host_new ("storage fuzz");
  config = fake_config_new (plugin, "path", root, "hook_dir", g_getenv ("GITSTEAD_TEST_HOOK_DIR"), "lock_wait", "200ms", "fsync",
                            "false", "maintenance", "false", NULL);
  self = plugin->create (&host->host, fake_config_get (config), &error);
  if (self == NULL || !plugin->start (self, &error))
    g_error ("start: %s", error->message);
  g_autoptr (FakeCall) call = fake_call_new (CALL_US);
  const GsRepoSpec spec = { .size = sizeof spec, .format = GS_FORMAT_SHA1, .default_branch = "refs/heads/main" };
  if (!ops->create (self, &call->call, &repo, &spec, &error))
    g_error ("create: %s", error->message);
  fill_repository (root);
  methods = gsi_methods_new (&error);
  known = g_ptr_array_new ();
  all = gsi_methods_all (methods, &n);
  for (gsize i = 0; i < n; i++)
    if (all[i]->storage)
      g_ptr_array_add (known, (gpointer) all[i]);
  atexit (close_repository);
}

static const GsiMethod *
pick (guint number)
{
  if (known == NULL)
    open_repository ();
  const GsiMethod *method = gsi_methods_by_number (methods, number);
  return method != NULL && method->storage ? method : known->pdata[number % known->len];
}

/* ------------------------------------------------------------------------------------- one call */

static void
check_error (const GsiMethod *method, const GError *error)
{
  FUZZ_CHECK (error != NULL && error->domain == GS_ERROR && error->message[0] != '\0');
  /* Whatever a stranger sends is their mistake, or damage that stands in the repository. */
  if (error->code == GS_ERROR_INTERNAL || error->code == GS_ERROR_UNKNOWN || error->code == GS_ERROR_DEADLINE_EXCEEDED)
    g_error ("%s: %s: %s", method->name, gs_error_name (error->code), error->message);
}

/* What a write would do must be taken by whoever carries it out. */
static void
stage_and_abort (const GsiMethod *method, const GsComputed *computed)
{
  g_autoptr (FakeCall) call = fake_call_new (CALL_US);
  g_autoptr (GError) error = NULL;
  GsChangeSet change = computed->change;
  const GsVote *vote;
  gpointer txn;
  if (change.n_updates == 0)
    return;
  host->host.random (&host->host, change.txid.bytes, sizeof change.txid.bytes);
  if (!ops->stage (self, &call->call, &repo, &change, &txn, &vote, &error))
    {
      check_error (method, error);
      return;
    }
  ops->abort (self, &call->call, txn, NULL);
}

static FakeStream *
make_stream (const GsiMethod *method, GBytes *request)
{
  int input = -1;
  if (!method->bytes_in && !method->bytes_out)
    return NULL;
  if (method->bytes_in)
    {
      gsize len;
      const char *data = g_bytes_get_data (request, &len);
      input = memfd_create ("fuzz-input", MFD_CLOEXEC);
      FUZZ_CHECK (write (input, data, MIN (len, 64)) >= 0 && lseek (input, 0, SEEK_SET) == 0);
    }
  return fake_stream_new (NULL, input, open ("/dev/null", O_WRONLY | O_CLOEXEC));
}

/* The reply's message in @arena; NULL when the call failed as it may. */
static ProtobufCMessage *
carry_out (const GsiMethod *method, const ProtobufCMessage *request, GsArena *arena)
{
  g_autoptr (FakeCall) call = fake_call_new (CALL_US);
  g_autoptr (GBytes) bytes = gs_wire_encode (request), reply = NULL;
  g_autoptr (FakeStream) stream = make_stream (method, bytes);
  g_autoptr (GError) error = NULL;
  GsComputed *computed = NULL;
  GsQuery query = { sizeof query, method->number, bytes, stream != NULL ? &stream->stream : NULL };
  gboolean ok = method->operation == GSI_ACCESSOR ? ops->query (self, &call->call, &repo, &query, &reply, &error)
                                                  : ops->compute (self, &call->call, &repo, &query, &computed, &error);
  if (!ok)
    {
      check_error (method, error);
      return NULL;
    }
  FUZZ_CHECK (error == NULL);
  if (computed != NULL)
    {
      stage_and_abort (method, computed);
      reply = g_bytes_ref (computed->reply);
      ops->computed_free (self, computed);
    }
  gsize len;
  const guint8 *data = g_bytes_get_data (reply, &len);
  ProtobufCMessage *message = gs_wire_decode (arena, method->reply, data, len, &error);
  if (message == NULL)
    g_error ("the reply of %s: %s", method->name, error->message);
  g_autofree char *text = gsi_json_write (methods, message, GSI_JSON_DEFAULTS, &len);
  FUZZ_CHECK (g_utf8_validate (text, (gssize) len, NULL));
  return message;
}

/* The member @name of @message, when it has the type that is looked for. */
static gpointer
member (const ProtobufCMessage *message, const char *name, ProtobufCType type)
{
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (message->descriptor, name);
  return field != NULL && field->type == type ? (guint8 *) message + field->offset : NULL;
}

/* The next page, by a token that is as it should be or is not. */
static void
turn_page (const GsiMethod *method, ProtobufCMessage *request, const ProtobufCMessage *reply, guint8 flags, guint8 damage)
{
  const ProtobufCBinaryData *token = member (reply, "next_page_token", PROTOBUF_C_TYPE_BYTES);
  Gitstead__V1__Page **page = member (request, "page", PROTOBUF_C_TYPE_MESSAGE), turned = GITSTEAD__V1__PAGE__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  if (token == NULL || page == NULL || token->len == 0)
    return;
  g_autofree guint8 *data = g_memdup2 (token->data, token->len);
  turned.limit = *page != NULL ? (*page)->limit : 0;
  turned.token = (ProtobufCBinaryData){ token->len, data };
  if ((flags & 1) != 0 && token->len > TOKEN_SEALED)
    data[TOKEN_SEALED + (flags >> 3) % (token->len - TOKEN_SEALED)] ^= damage;
  if ((flags & 2) != 0 && token->len > TOKEN_SEALED)
    turned.token.len = TOKEN_SEALED + damage % (token->len - TOKEN_SEALED);
  *page = &turned;
  carry_out (method, request, arena);
}

/* ------------------------------------------------------------------------------------- git's own wire */

/* The bodies of a fetch and of a push, as transports hand them on. What is said there goes through our eyes first. */
static void
git_wire (guint number, guint8 flags, const guint8 *data, gsize len)
{
  static const char *const protocols[] = { "", "version=1", "version=2", "version=2:x" };
  const char *protocol = protocols[flags % G_N_ELEMENTS (protocols)];
  g_autoptr (FakeCall) call = fake_call_new (CALL_US);
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) head = g_bytes_new (data, MIN (len, (gsize) flags));
  int input = memfd_create ("fuzz-body", MFD_CLOEXEC);
  gsize rest = len - g_bytes_get_size (head);
  FUZZ_CHECK (write (input, data + g_bytes_get_size (head), rest) == (gssize) rest && lseek (input, 0, SEEK_SET) == 0);
  g_autoptr (FakeStream) stream = fake_stream_new (head, input, open ("/dev/null", O_WRONLY | O_CLOEXEC));
  if (number == UPLOAD_PACK)
    {
      ops->upload_pack (self, &call->call, &repo, protocol, TRUE, &stream->stream, &error);
      return;
    }
  GsPush push = { .size = sizeof push, .protocol = protocol, .stateless = TRUE };
  const GsVote *vote;
  gpointer txn = NULL;
  host->host.random (&host->host, push.txid.bytes, sizeof push.txid.bytes);
  if (ops->stage_push (self, &call->call, &repo, &push, &stream->stream, &txn, &vote, &error) && txn != NULL)
    ops->abort (self, &call->call, txn, NULL);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET), reply_arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GError) error = NULL;
  ProtobufCMessage *request, *reply;
  if (size < HEAD)
    return 0;
  const guint number = (guint) data[0] << 8 | data[1];
  const GsiMethod *method = pick (number);
  if (number == UPLOAD_PACK || number == RECEIVE_PACK)
    {
      git_wire (number, data[2], data + HEAD, size - HEAD);
      return 0;
    }
  request = gs_wire_decode (arena, method->request, data + HEAD, size - HEAD, &error);
  FUZZ_CHECK ((request == NULL) == (error != NULL));
  if (request == NULL)
    return 0;
  reply = carry_out (method, request, reply_arena);
  if (reply != NULL)
    turn_page (method, request, reply, data[2], data[3]);
  return 0;
}

/* ----------------------------------------------------------------------------- where inputs come from */

static GBytes *
make_input (const GsiMethod *method, guint8 flags, guint8 damage, const ProtobufCMessage *request)
{
  const guint8 head[HEAD] = { (guint8) (method->number >> 8), (guint8) method->number, flags, damage };
  g_autoptr (GBytes) bytes = gs_wire_encode (request);
  GByteArray *input = g_byte_array_new ();
  g_byte_array_append (input, head, HEAD);
  g_byte_array_append (input, g_bytes_get_data (bytes, NULL), (guint) g_bytes_get_size (bytes));
  return g_byte_array_free_to_bytes (input);
}

#define BODY(number_, flags_, text_)                                                                                    \
  {                                                                                                                    \
    number_, flags_, text_, sizeof (text_) - 1                                                                         \
  }
/* A pack without objects. */
#define EMPTY_PACK "PACK\0\0\0\2\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e"

static const struct
{
  guint16 number;
  guint8 flags;
  const char *text;
  gsize len;
} bodies[] = {
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

/* dispatch.txt has requests in JSON that lead deep into each method; those that it does not know are filled by rule. */
GPtrArray *
fuzz_seeds (void)
{
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);
  g_autofree char *text = NULL;
  g_autoptr (GError) error = NULL;
  pick (0);
  if (!g_file_get_contents (FUZZ_DIR "/dispatch.txt", &text, NULL, &error))
    g_error ("%s", error->message);
  g_auto (GStrv) lines = g_strsplit (text, "\n", -1);
  for (gsize i = 0; lines[i] != NULL; i++)
    {
      g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
      char *json = strchr (lines[i], ' ');
      if (lines[i][0] == '#' || json == NULL)
        continue;
      *json++ = '\0';
      const GsiMethod *method = gsi_methods_by_name (methods, lines[i]);
      if (method == NULL || !method->storage)
        g_error ("dispatch.txt:%" G_GSIZE_FORMAT ": there is no method %s of storages", i + 1, lines[i]);
      ProtobufCMessage *request = gsi_json_read (methods, arena, method->request, json, strlen (json), &error);
      if (request == NULL)
        g_error ("dispatch.txt:%" G_GSIZE_FORMAT ": %s", i + 1, error->message);
      g_ptr_array_add (seeds, make_input (method, (guint8) i, (guint8) (i * 37), request));
    }
  for (gsize i = 0; i < G_N_ELEMENTS (bodies); i++)
    {
      const guint8 head[HEAD] = { bodies[i].number >> 8, (guint8) bodies[i].number, bodies[i].flags, 0 };
      GByteArray *input = g_byte_array_new ();
      g_byte_array_append (input, head, HEAD);
      g_byte_array_append (input, (const guint8 *) bodies[i].text, (guint) bodies[i].len);
      g_ptr_array_add (seeds, g_byte_array_free_to_bytes (input));
    }
  for (guint i = 0; i < known->len; i++)
    {
      const GsiMethod *method = known->pdata[i];
      g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
      ProtobufCMessage *request = gs_arena_alloc (arena, method->request->sizeof_message);
      Shape shape = { words, rand, arena };
      protobuf_c_message_init (method->request, request);
      shape_fill (&shape, request);
      g_ptr_array_add (seeds, make_input (method, (guint8) i, 1, request));
    }
  return seeds;
}

gsize
fuzz_mutate (guint8 *data, gsize size, gsize max_size, guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (GsArena) arena = gs_arena_new (16 * BUDGET), request_arena = gs_arena_new (BUDGET);
  Shape shape = { words, rand, arena };
  ProtobufCMessage *request;
  gsize len;
  if (size < HEAD)
    return 0;
  const guint number = (guint) data[0] << 8 | data[1];
  const GsiMethod *method = pick (number);
  if (number == UPLOAD_PACK || number == RECEIVE_PACK)
    return 0;
  request = gs_wire_decode (request_arena, method->request, data + HEAD, size - HEAD, NULL);
  if (request == NULL)
    return 0;
  for (gint32 n = g_rand_int_range (rand, 1, 5); n > 0; n--)
    shape_change (&shape, request);
  g_autoptr (GBytes) input = make_input (method, (guint8) g_rand_int (rand), (guint8) g_rand_int (rand), request);
  const guint8 *made = g_bytes_get_data (input, &len);
  if (len > max_size)
    return 0;
  memcpy (data, made, len);
  return len;
}
