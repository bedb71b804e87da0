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

#include "calls.h"
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

static gboolean
is_storages (const GsiMethod *method)
{
  return method->storage;
}

static void
add_seed (GPtrArray *seeds, const GsiMethod *method, guint8 number, ProtobufCMessage *request)
{
  g_ptr_array_add (seeds, make_input (method, number, (guint8) (number * 37), request));
}

/* dispatch.txt has requests in JSON that lead deep into each method; those that it does not know are filled by rule. */
GPtrArray *
fuzz_seeds (void)
{
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  pick (0);
  const Calls calls = { methods, is_storages, add_seed };
  calls_add_file (&calls, FUZZ_DIR "/dispatch.txt", seeds);
  for (gsize i = 0; i < n_call_bodies; i++)
    {
      const CallBody *body = &call_bodies[i];
      const guint8 head[HEAD] = { (guint8) (body->number >> 8), (guint8) body->number, body->flags, 0 };
      GByteArray *input = g_byte_array_new ();
      g_byte_array_append (input, head, HEAD);
      g_byte_array_append (input, (const guint8 *) body->text, (guint) body->len);
      g_ptr_array_add (seeds, g_byte_array_free_to_bytes (input));
    }
  calls_add_shaped (&calls, seeds);
  return seeds;
}

gsize
fuzz_mutate (guint8 *data, gsize size, gsize max_size, guint32 seed)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (seed);
  g_autoptr (GsArena) arena = gs_arena_new (16 * BUDGET), request_arena = gs_arena_new (BUDGET);
  Shape shape = { call_words, rand, arena };
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
