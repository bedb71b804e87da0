/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of any method to a whole server in this process: dispatch, permissions, the router, the node's service,
 * storage/git and SQLite, over repositories of which one has broken objects in it.
 *
 * An input: the method's number (2 bytes, big endian), a byte that says who calls and how, a byte of damage, then the
 * request as protobuf; for methods that take bulk bytes its length (2 bytes) stands before it, and what follows it is
 * their body. Writes are carried out. After some of them the server is stopped, and another one begins on a copy of
 * what there was at first: so an input meets little that earlier ones left. GITSTEAD_FUZZ_WRITES says how many (1: each
 * meets the same).
 *
 * Whatever is said to it, the server stays within its folder: no other server may be fetched from or pushed to, and
 * hooks don't run.
 */
#include "fuzz.h"

#include "calls.h"
#include "fakehost.h"
#include "gitstead/v1/access.pb-c.h"
#include "gitstead/v1/node.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"
#include "main/server.h"
#include "rpc/json.h"
#include "shape.h"
#include "wire/token.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUDGET (1024 * 1024)
#define REPLY_BUDGET (64 * 1024 * 1024)
#define HEAD 4
#define TOKEN_SEALED 17 /* version and seal of a page token; the state follows */
#define TIMEOUT_US (120 * G_USEC_PER_SEC)
#define EVENTS_TIMEOUT_US 2000
#define WRITES 24
#define EVENTS 7

/* Of the flags' byte. */
#define WHO(flags_) ((flags_) &7)
#define AS_JSON 8
#define AGAIN 16  /* the same call once more, by the same id */
#define TWICE 32  /* two of them at once, by the same id */
#define CANCEL 64 /* right after it began */
#define RAW_NUMBER 128

enum
{
  WHO_ADMIN_LAST = 3,
  WHO_WRITER, /* of what is below "fuzz" */
  WHO_NOBODY, /* may read */
  WHO_WRITER_BASIC,
  WHO_FORGED
};

/* -------------------------------------------------------------------------------- the server */

static GsiServer *server;
static GsiMethods *methods;
static GPtrArray *known; /* of GsiMethod */
static char *folder, *replica_path, *writer;
static char cluster_token[GS_TOKEN_LEN + 1];
static int done_fd;
static guint n_writes, writes_max;
static GHashTable *tally; /* GsiMethod -> Tally, when GITSTEAD_FUZZ_TALLY asks for it */

typedef struct
{
  guint n_ok, n_refused;
  gint64 took_us;
} Tally;

static char *
in_folder (const char *name)
{
  return g_build_filename (folder, name, NULL);
}

static void
write_config (void)
{
  g_autofree char *path = in_folder ("gitstead.yaml");
  g_autofree char *text = g_strdup_printf ("server: {name: fuzz, log_file: /dev/null, log_level: error, workers: 2, "
                                           "streams: 8, maintenance_interval: 1d, care_interval: 1d,"
                                           " shutdown_grace: 60s, max_message: 1MiB, cluster_token: \"%s\", exports: "
                                           "[one, two], stage_lease: 1h, repair_workers: 1}\n"
                                           "plugin_path: [\"%s\"]\n"
                                           "metadata: {plugin: sqlite, path: live/metadata.db}\n"
                                           "access: {plugin: token, anonymous: read}\n"
                                           "cache: {plugin: memory}\n"
                                           "storages:\n",
                                           cluster_token, g_getenv ("GITSTEAD_TEST_PLUGIN_PATH"));
  g_autoptr (GString) out = g_string_new (text);
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < 2; i++)
    g_string_append_printf (
        out,
        "- {name: %s, plugin: git, path: live/%s, hook_dir: \"%s\", lock_wait: 200ms, fsync: false, maintenance: false,"
        " max_push_bytes: 16MiB, max_change_bytes: 16MiB, max_remote_refs: 1000, run_hooks: false}\n",
        i == 0 ? "one" : "two", i == 0 ? "one" : "two", g_getenv ("GITSTEAD_TEST_HOOK_DIR"));
  g_string_append (
      out,
      "virtual_storages:\n"
      "- {name: main, storages: [one], routing: {plugin: rendezvous}, consistency: {plugin: direct}}\n"
      "- {name: pair, storages: [one, two], copies: 2, routing: {plugin: rendezvous}, consistency: {plugin: quorum}}\n"
      "transports: [{plugin: inproc}]\n");
  if (!g_file_set_contents (path, out->str, (gssize) out->len, &error))
    g_error ("%s", error->message);
}

/* The core reports crashes itself, and ends the process then; whoever had the signals before wants to keep the input.
 */
static void
start_server (void)
{
  static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
  struct sigaction before[G_N_ELEMENTS (signals)];
  g_autofree char *config = in_folder ("gitstead.yaml");
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaction (signals[i], NULL, &before[i]);
  server = gsi_server_new (config, &error);
  if (server == NULL || !gsi_server_start (server, &error))
    g_error ("the server does not start: %s", error->message);
  for (guint i = 0; i < G_N_ELEMENTS (signals); i++)
    sigaction (signals[i], &before[i], NULL);
  n_writes = 0;
}

static void
stop_server (void)
{
  gsi_server_stop (server);
  gsi_server_free (g_steal_pointer (&server));
}

static void
run (const char *const *argv)
{
  g_autoptr (GError) error = NULL;
  int status;
  if (!g_spawn_sync (NULL, (char **) argv, NULL,
                     G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                     NULL, &status, &error)
      || !g_spawn_check_wait_status (status, &error))
    g_error ("%s: %s", argv[0], error->message);
}

/* In this process: one with a sanitizer has a great many pages for a child to get. */
static void
copy_tree (const char *from, const char *to)
{
  g_autoptr (GDir) dir = g_dir_open (from, 0, NULL);
  g_autoptr (GError) error = NULL;
  const char *name;
  if (dir == NULL || g_mkdir (to, 0700) != 0)
    g_error ("cannot copy %s to %s", from, to);
  while ((name = g_dir_read_name (dir)) != NULL)
    {
      g_autofree char *source = g_build_filename (from, name, NULL), *target = g_build_filename (to, name, NULL),
                      *data = NULL;
      gsize len;
      struct stat st;
      FUZZ_CHECK (lstat (source, &st) == 0);
      if (S_ISDIR (st.st_mode))
        copy_tree (source, target);
      else if (S_ISREG (st.st_mode)
               && (!g_file_get_contents (source, &data, &len, &error)
                   || !g_file_set_contents_full (target, data, (gssize) len, G_FILE_SET_CONTENTS_NONE,
                                                 (int) (st.st_mode & 0777), &error)))
        g_error ("%s", error->message);
    }
}

static void
copy (const char *from, const char *to)
{
  g_autofree char *source = in_folder (from), *target = in_folder (to);
  fake_remove_tree (target);
  copy_tree (source, target);
}

/* ---------------------------------------------------------------------------------------- a call */

typedef struct
{
  gint n_done; /* atomic */
  GsErrorCode code;
  char *message;
  GBytes *payload;
} End;

static void
on_done (gpointer user, const GsOutcome *outcome)
{
  End *end = user;
  guint64 one = 1;
  end->code = outcome->code;
  end->message = g_strdup (outcome->message);
  end->payload = outcome->payload != NULL ? g_bytes_ref (outcome->payload) : NULL;
  FUZZ_CHECK (__atomic_add_fetch (&end->n_done, 1, __ATOMIC_ACQ_REL) == 1);
  FUZZ_CHECK (write (done_fd, &one, sizeof one) == sizeof one);
}

static void
end_clear (End *end)
{
  g_free (end->message);
  g_clear_pointer (&end->payload, g_bytes_unref);
}

/* This thread is the server's main loop meanwhile. */
static void
wait_for (const End *end)
{
  guint64 count;
  while (__atomic_load_n (&end->n_done, __ATOMIC_ACQUIRE) == 0)
    {
      struct pollfd fds[] = { { done_fd, POLLIN, 0 }, { gsi_server_wake_fd (server), POLLIN, 0 } };
      poll (fds, G_N_ELEMENTS (fds), 1000);
      if (fds[0].revents != 0)
        FUZZ_CHECK (read (done_fd, &count, sizeof count) == sizeof count);
      if (fds[1].revents != 0)
        gsi_server_turn (server);
    }
}

/* What a caller says beside the request. */
typedef struct
{
  const GsiMethod *method; /* NULL: there is none of that number */
  guint32 number;
  guint8 flags, damage;
  const guint8 *body;
  gsize body_len;
  GsTxId id;
} Said;

static GsCredentials
credentials_of (const Said *said)
{
  GsCredentials shown = { .size = sizeof shown, .kind = GS_CREDENTIALS_PEER, .uid = (guint32) geteuid () };
  switch (WHO (said->flags))
    {
    case WHO_WRITER:
      shown.kind = GS_CREDENTIALS_BEARER;
      shown.secret = writer;
      break;
    case WHO_NOBODY:
      shown.kind = GS_CREDENTIALS_NONE;
      break;
    case WHO_WRITER_BASIC:
      shown.kind = GS_CREDENTIALS_BASIC;
      shown.user = "somebody";
      shown.secret = writer;
      break;
    case WHO_FORGED:
      shown.kind = GS_CREDENTIALS_HMAC;
      shown.user = "0123456789ab";
      shown.signed_data = shown.tag = (const guint8 *) "01234567890123456789012345678901";
      shown.signed_len = 32;
      break;
    default:
      if (said->method != NULL && said->method->cluster)
        {
          shown.kind = GS_CREDENTIALS_BEARER;
          shown.secret = cluster_token;
        }
    }
  return shown;
}

/* The first half of the body as what came with the request, the rest on a descriptor; with odd damage all of it at
 * once. */
static FakeStream *
make_stream (const Said *said)
{
  gsize at_once = said->damage % 2 != 0 ? said->body_len : said->body_len / 2;
  g_autoptr (GBytes) head = g_bytes_new (said->body, at_once);
  int input = -1;
  if (at_once < said->body_len)
    {
      gssize rest = (gssize) (said->body_len - at_once);
      input = memfd_create ("fuzz-body", MFD_CLOEXEC);
      FUZZ_CHECK (write (input, said->body + at_once, (gsize) rest) == rest && lseek (input, 0, SEEK_SET) == 0);
    }
  return fake_stream_new (head, input, open ("/dev/null", O_WRONLY | O_CLOEXEC));
}

typedef struct
{
  End end;
  FakeStream *stream;
  GsCallHandle handle;
} Under; /* way */

static void
begin (const Said *said, GBytes *payload, Under *under)
{
  const GsCredentials shown = credentials_of (said);
  GsInbound inbound = { .size = sizeof inbound,
                        .method = said->number,
                        .encoding = (said->flags & AS_JSON) != 0 ? GS_ENCODING_JSON : GS_ENCODING_PROTOBUF,
                        .payload = payload,
                        .call_id = said->id,
                        .timeout_us = said->number == EVENTS ? EVENTS_TIMEOUT_US : TIMEOUT_US,
                        .credentials = &shown,
                        .peer = "fuzz",
                        .done = on_done,
                        .user = &under->end,
                        .generation = said->damage == 0xff   ? 7
                                      : said->damage >= 0xf0 ? 1
                                                             : 0 }; /* 7: waits for what does not come */
  under->end = (End){ 0 };
  under->stream
      = said->method != NULL && (said->method->bytes_in || said->method->bytes_out) ? make_stream (said) : NULL;
  inbound.stream = under->stream != NULL ? &under->stream->stream : NULL;
  under->handle = gsi_rpc_begin (server->rpc, &inbound);
}

/* What it says for itself must be true whatever was sent. */
static void
check_end (const Said *said, const End *end)
{
  const GsiMethod *method = said->method;
  const char *name = method != NULL ? method->name : "no method";
  gboolean cancelled = (said->flags & CANCEL) != 0, events = said->number == EVENTS;
  if (end->code != GS_OK)
    {
      FUZZ_CHECK (end->message != NULL && end->message[0] != '\0' && g_utf8_validate (end->message, -1, NULL));
      if (end->code == GS_ERROR_INTERNAL || end->code == GS_ERROR_UNKNOWN
          || (end->code == GS_ERROR_DEADLINE_EXCEEDED && !events) || (end->code == GS_ERROR_CANCELLED && !cancelled))
        g_error ("%s: %s: %s", name, gs_error_name (end->code), end->message);
      return;
    }
  FUZZ_CHECK (method != NULL && end->payload != NULL);
  /* Nobody did what they may not. */
  if (method->cluster)
    FUZZ_CHECK (WHO (said->flags) <= WHO_ADMIN_LAST);
  else if (method->needs > GS_SCOPE_NONE)
    FUZZ_CHECK (WHO (said->flags) != WHO_FORGED);
  if (method->needs == GS_SCOPE_ADMIN)
    FUZZ_CHECK (WHO (said->flags) <= WHO_ADMIN_LAST);
  if (method->needs == GS_SCOPE_WRITE)
    FUZZ_CHECK (WHO (said->flags) != WHO_NOBODY);
}

/* The reply in @arena; NULL for one in JSON. */
static ProtobufCMessage *
read_reply (const Said *said, const End *end, GsArena *arena)
{
  g_autoptr (GsArena) json_arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GError) error = NULL;
  gsize len;
  const guint8 *data = g_bytes_get_data (end->payload, &len);
  ProtobufCMessage *reply;
  if ((said->flags & AS_JSON) != 0)
    {
      FUZZ_CHECK (g_utf8_validate ((const char *) data, (gssize) len, NULL));
      if (gsi_json_read (methods, json_arena, said->method->reply, (const char *) data, len, &error) == NULL)
        g_error ("the reply of %s in JSON: %s", said->method->name, error->message);
      return NULL;
    }
  reply = gs_wire_decode (arena, said->method->reply, data, len, &error);
  if (reply == NULL)
    g_error ("the reply of %s: %s", said->method->name, error->message);
  return reply;
}

/* After it, little is left to be fuzzed. */
static gboolean
takes_away (const GsiMethod *method)
{
  static const char *const names[]
      = { "Repository/Delete", "Repository/Rename", "Node/Remove", "Cluster/RebuildMetadata", "Cluster/SetNode" };
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    if (strcmp (method->name, names[i]) == 0)
      return TRUE;
  return FALSE;
}

static void
note_end (const Said *said, const End *end, gint64 took_us)
{
  Tally *row = tally != NULL && said->method != NULL ? g_hash_table_lookup (tally, said->method) : NULL;
  if (tally != NULL && said->method != NULL && row == NULL)
    g_hash_table_insert (tally, (gpointer) said->method, row = g_new0 (Tally, 1));
  if (row != NULL)
    {
      *(end->code == GS_OK ? &row->n_ok : &row->n_refused) += 1;
      row->took_us += took_us;
    }
  if (said->method == NULL || (end->code != GS_OK && !said->method->cluster))
    return;
  if (takes_away (said->method))
    n_writes = writes_max;
  else if (said->method->operation != GSI_ACCESSOR || said->method->cluster) /* routers stage writes by accessors */
    n_writes++;
}

/* Both were told the same, or one of them was told to come again. */
static void
check_same (const Said *said, const End *a, const End *b)
{
  if (said->method == NULL || said->method->operation != GSI_MUTATOR || (said->flags & CANCEL) != 0 || a->code != GS_OK
      || b->code != GS_OK)
    return;
  if (!g_bytes_equal (a->payload, b->payload))
    g_error ("%s: one call id has two answers", said->method->name);
}

/* Makes the call as it is said to be made; the reply, when there is one in protobuf, in @arena. */
static ProtobufCMessage *
make_call (const Said *said, GBytes *payload, GsArena *arena)
{
  Under under[2];
  ProtobufCMessage *reply = NULL;
  guint n = (said->flags & TWICE) != 0 ? 2 : 1;
  gint64 began_us = g_get_monotonic_time ();
  for (guint i = 0; i < n; i++)
    begin (said, payload, &under[i]);
  if ((said->flags & CANCEL) != 0)
    gsi_rpc_cancel (server->rpc, under[0].handle);
  for (guint i = 0; i < n; i++)
    {
      wait_for (&under[i].end);
      check_end (said, &under[i].end);
      note_end (said, &under[i].end, g_get_monotonic_time () - began_us);
    }
  if (n == 1 && (said->flags & AGAIN) != 0)
    {
      begin (said, payload, &under[n]);
      wait_for (&under[n++].end);
      check_end (said, &under[1].end);
    }
  if (n == 2)
    check_same (said, &under[0].end, &under[1].end);
  if (under[0].end.code == GS_OK)
    reply = read_reply (said, &under[0].end, arena);
  for (guint i = 0; i < n; i++)
    {
      end_clear (&under[i].end);
      if (under[i].stream != NULL)
        fake_stream_free (under[i].stream);
    }
  return reply;
}

/* ----------------------------------------------------------------------- what there is at the beginning */

static ProtobufCMessage *
must (const char *name, const char *json, GsArena *arena)
{
  g_autoptr (GsArena) request_arena = gs_arena_new (BUDGET);
  g_autoptr (GError) error = NULL;
  Said said = { .method = gsi_methods_by_name (methods, name) };
  ProtobufCMessage *request = gsi_json_read (methods, request_arena, said.method->request, json, strlen (json), &error),
                   *reply;
  if (request == NULL)
    g_error ("%s: %s", name, error->message);
  g_autoptr (GBytes) payload = gs_wire_encode (request);
  said.number = said.method->number;
  reply = make_call (&said, payload, arena);
  if (reply == NULL)
    g_error ("%s %s failed", name, json);
  return reply;
}

static void
fill (void)
{
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  const Gitstead__V1__TokenCreateReply *token;
  must ("Repository/Create", "{\"repository\": {\"path\": \"fuzz/broken\"}}", arena);
  replica_path = gsi_router_replica_path (1);
  g_autofree char *replica = g_build_filename (folder, "live/one", replica_path, NULL);
  const char *argv[] = { "/bin/sh", FUZZ_DIR "/fixture.sh", replica, NULL };
  run (argv);
  must ("Repository/Create", "{\"repository\": {\"path\": \"other\"}}", arena);
  must ("Repository/Create", "{\"repository\": {\"path\": \"fuzz/pair\", \"virtual_storage\": \"pair\"}}", arena);
  must ("Change/CommitFiles",
        "{\"repository\": {\"path\": \"fuzz/pair\", \"virtual_storage\": \"pair\"}, \"write\": {\"branch\": \"main\", "
        "\"committer\": {\"name\": \"A B\","
        " \"email\": \"a@example.org\", \"seconds\": 1600000000, \"zone\": \"+0200\"}}, \"message\": \"m\", "
        "\"actions\": [{\"kind\": \"FILE_CREATE\","
        " \"path\": \"README\", \"content\": \"x\"}, {\"kind\": \"FILE_CREATE\", \"path\": \"src/a.c\", \"content\": "
        "\"y\\nz\\n\"}]}",
        arena);
  must ("Change/CreateBranch",
        "{\"repository\": {\"path\": \"fuzz/pair\", \"virtual_storage\": \"pair\"}, \"branch\": \"side\", "
        "\"revision\": \"main\"}",
        arena);
  token = (const Gitstead__V1__TokenCreateReply *) must (
      "Token/Create", "{\"name\": \"writer\", \"scope\": \"TOKEN_WRITE\", \"path_prefix\": \"fuzz\"}", arena);
  writer = g_strdup (token->secret);
}

static void
close_server (void)
{
  stop_server ();
  fake_tempdir_remove (folder);
  for (guint i = 0; tally != NULL && i < known->len; i++)
    {
      const Tally *row = g_hash_table_lookup (tally, known->pdata[i]);
      g_print ("%-36s %8u %8u %9.1f ms\n", ((const GsiMethod *) known->pdata[i])->name, row ? row->n_ok : 0,
               row ? row->n_refused : 0, row ? row->took_us / 1000.0 : 0);
    }
  g_clear_pointer (&tally, g_hash_table_unref);
  g_ptr_array_unref (known);
  gsi_methods_free (methods);
  g_free (replica_path);
  g_free (writer);
  close (done_fd);
}

/* The server takes GLib's messages to its log, which nobody reads here. */
static void
say_and_abort (const char *domain, GLogLevelFlags level, const char *text, gpointer user)
{
  g_printerr ("%s\n", text);
  if ((level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL)) != 0)
    abort ();
}

static void
open_server (void)
{
  const char *writes = g_getenv ("GITSTEAD_FUZZ_WRITES");
  g_autoptr (GError) error = NULL;
  const GsiMethod *const *all;
  gsize n;
  signal (SIGPIPE, SIG_IGN); /* as in a server */
  g_log_set_default_handler (say_and_abort, NULL);
  writes_max = writes != NULL ? (guint) MAX (atoi (writes), 1) : WRITES;
  folder = fake_tempdir_new ();
  done_fd = eventfd (0, EFD_CLOEXEC);
  gs_token_make ((const guint8 *) "fuzzer", (const guint8 *) "0123456789abcdef0123456789abcdef", cluster_token);
  methods = gsi_methods_new (&error);
  if (methods == NULL)
    g_error ("%s", error->message);
  known = g_ptr_array_new ();
  if (g_getenv ("GITSTEAD_FUZZ_TALLY") != NULL)
    tally = g_hash_table_new_full (NULL, NULL, NULL, g_free);
  all = gsi_methods_all (methods, &n);
  for (gsize i = 0; i < n; i++)
    g_ptr_array_add (known, (gpointer) all[i]);
  g_autofree char *live = in_folder ("live");
  FUZZ_CHECK (g_mkdir (live, 0700) == 0);
  write_config ();
  start_server ();
  fill ();
  stop_server ();
  copy ("live", "first");
  start_server ();
  atexit (close_server);
}

/* Another server on what there was at first. */
static void
begin_anew (void)
{
  stop_server ();
  copy ("first", "live");
  start_server ();
}

/* -------------------------------------------------------------------------------------- an input */

static const GsiMethod *
pick (guint number, guint8 flags)
{
  if (server == NULL)
    open_server ();
  const GsiMethod *method = gsi_methods_by_number (methods, number);
  return method != NULL || (flags & RAW_NUMBER) != 0 ? method : known->pdata[number % known->len];
}

/* Takes an input apart: what is said, and where the request is. FALSE when it is too short. */
static gboolean
take_apart (const guint8 *data, gsize size, Said *ret_said, const guint8 **ret_request, gsize *ret_len)
{
  if (size < HEAD)
    return FALSE;
  Said said = { .number = (guint32) data[0] << 8 | data[1], .flags = data[2], .damage = data[3] };
  const guint8 *at = data + HEAD;
  gsize left = size - HEAD, len = left;
  said.method = pick (said.number, said.flags);
  if (said.method != NULL)
    said.number = said.method->number;
  if (said.method != NULL && said.method->bytes_in)
    {
      if (left < 2)
        return FALSE;
      len = MIN ((gsize) at[0] << 8 | at[1], left - 2);
      at += 2;
      said.body = at + len;
      said.body_len = left - 2 - len;
    }
  *ret_said = said;
  *ret_request = at;
  *ret_len = len;
  return TRUE;
}

/* The member @name of @message, when it has the type that is looked for. */
static gpointer
member (const ProtobufCMessage *message, const char *name, ProtobufCType type)
{
  const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name (message->descriptor, name);
  return field != NULL && field->type == type && field->label != PROTOBUF_C_LABEL_REPEATED
             ? (guint8 *) message + field->offset
             : NULL;
}

/* The next page, by a token that is as it should be or is not. */
static void
turn_page (Said *said, ProtobufCMessage *request, const ProtobufCMessage *reply)
{
  const ProtobufCBinaryData *token = member (reply, "next_page_token", PROTOBUF_C_TYPE_BYTES);
  Gitstead__V1__Page **page = member (request, "page", PROTOBUF_C_TYPE_MESSAGE), turned = GITSTEAD__V1__PAGE__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  if (token == NULL || page == NULL || token->len == 0)
    return;
  g_autofree guint8 *data = g_memdup2 (token->data, token->len);
  turned.limit = *page != NULL ? (*page)->limit : 0;
  turned.token = (ProtobufCBinaryData){ token->len, data };
  if ((said->damage & 1) != 0 && token->len > TOKEN_SEALED)
    data[TOKEN_SEALED + (said->damage >> 3) % (token->len - TOKEN_SEALED)] ^= said->damage;
  if ((said->damage & 2) != 0 && token->len > TOKEN_SEALED)
    turned.token.len = TOKEN_SEALED + said->damage % (token->len - TOKEN_SEALED);
  *page = &turned;
  g_autoptr (GBytes) payload = gs_wire_encode (request);
  make_call (said, payload, arena);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET), reply_arena = gs_arena_new (REPLY_BUDGET);
  ProtobufCMessage *request = NULL, *reply;
  const guint8 *bytes;
  gsize len;
  Said said;
  if (!take_apart (data, size, &said, &bytes, &len))
    return 0;
  if (n_writes >= writes_max)
    begin_anew ();
  if ((said.flags & (AGAIN | TWICE)) != 0)
    gsi_host_get (server->host)->random (gsi_host_get (server->host), said.id.bytes, sizeof said.id.bytes);
  g_autoptr (GBytes) payload = g_bytes_new (bytes, len);
  if (said.method != NULL)
    request = gs_wire_decode (arena, said.method->request, bytes, len, NULL);
  if (request != NULL && (said.flags & AS_JSON) != 0)
    {
      gsize text_len;
      char *text = gsi_json_write (methods, request, GSI_JSON_COMPACT, &text_len);
      g_bytes_unref (payload);
      payload = g_bytes_new_take (text, text_len);
    }
  reply = make_call (&said, payload, reply_arena);
  if (request != NULL && reply != NULL)
    turn_page (&said, request, reply);
  return 0;
}

/* ----------------------------------------------------------------------------- where inputs come from */

/* Names a repository, or a replica, that is there. */
static void
aim (const GsiMethod *method, ProtobufCMessage *request, guint which)
{
  static Gitstead__V1__Repository repositories[3];
  static Gitstead__V1__NodeTarget target;
  ProtobufCMessage **at;
  for (guint i = 0; i < G_N_ELEMENTS (repositories); i++)
    {
      gitstead__v1__repository__init (&repositories[i]);
      repositories[i].path = (char *) (i == 0 ? "fuzz/broken" : i == 1 ? "fuzz/pair" : "other");
      repositories[i].virtual_storage = (char *) (i == 1 ? "pair" : "main");
    }
  gitstead__v1__node_target__init (&target);
  target.storage = (char *) "one";
  target.repository_id = 1;
  target.replica_path = (ProtobufCBinaryData){ strlen (replica_path), (guint8 *) replica_path };
  target.scope = GS_SCOPE_WRITE;
  target.caller = target.peer = (char *) "fuzz";
  if (method->target != NULL)
    *(ProtobufCMessage **) ((guint8 *) request + method->target->offset) = &repositories[which % 3].base;
  else if (method->cluster && (at = member (request, "target", PROTOBUF_C_TYPE_MESSAGE)) != NULL)
    *at = &target.base;
}

static GBytes *
make_input (const GsiMethod *method, guint8 flags, guint8 damage, const ProtobufCMessage *request, const void *body,
            gsize body_len)
{
  const guint8 head[HEAD] = { (guint8) (method->number >> 8), (guint8) method->number, flags, damage };
  g_autoptr (GBytes) bytes = gs_wire_encode (request);
  guint len = (guint) g_bytes_get_size (bytes);
  const guint8 prefix[2] = { (guint8) (len >> 8), (guint8) len };
  GByteArray *input = g_byte_array_new ();
  g_byte_array_append (input, head, HEAD);
  if (method->bytes_in)
    g_byte_array_append (input, prefix, sizeof prefix);
  g_byte_array_append (input, g_bytes_get_data (bytes, NULL), len);
  if (method->bytes_in)
    g_byte_array_append (input, body, (guint) body_len);
  return g_byte_array_free_to_bytes (input);
}

static gboolean
any (const GsiMethod *method)
{
  return TRUE;
}

/* Through the node's service, too. */
static void
add_wrapped (GPtrArray *seeds, const GsiMethod *method, const ProtobufCMessage *request)
{
  const char *name = method->operation != GSI_ACCESSOR       ? "Node/Compute"
                     : method->bytes_in || method->bytes_out ? "Node/StreamQuery"
                                                             : "Node/Query";
  const GsiMethod *outer = gsi_methods_by_name (methods, name);
  Gitstead__V1__NodeQueryRequest wrapped = GITSTEAD__V1__NODE_QUERY_REQUEST__INIT;
  g_autoptr (GBytes) bytes = gs_wire_encode (request);
  wrapped.method = method->number;
  wrapped.request.data = (guint8 *) g_bytes_get_data (bytes, &wrapped.request.len);
  aim (outer, &wrapped.base, 0);
  g_ptr_array_add (seeds, make_input (outer, 0, 1, &wrapped.base, "body\n", 5));
}

static void
add_seed (GPtrArray *seeds, const GsiMethod *method, guint8 number, ProtobufCMessage *request)
{
  /* A repository that is to be made is named; all others are not. */
  if (method->target == NULL || *(ProtobufCMessage **) ((guint8 *) request + method->target->offset) == NULL)
    aim (method, request, 0);
  g_ptr_array_add (seeds, make_input (method, number % 8 == 3 ? AS_JSON : 0, number, request, "body\n", 5));
  if (method->storage)
    add_wrapped (seeds, method, request);
}

/* dispatch.txt has requests that lead deep into the methods that storages carry out, server.txt some for the others. */
GPtrArray *
fuzz_seeds (void)
{
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  static const char text[] = "{\"protocol\": \"version=2\", \"stateless\": true}";
  pick (0, 0);
  const Calls calls = { methods, any, add_seed };
  calls_add_file (&calls, FUZZ_DIR "/server.txt", seeds);
  calls_add_file (&calls, FUZZ_DIR "/dispatch.txt", seeds);
  for (gsize i = 0; i < n_call_bodies; i++)
    {
      g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
      const GsiMethod *method = gsi_methods_by_number (methods, call_bodies[i].number);
      ProtobufCMessage *request = gsi_json_read (methods, arena, method->request, text, strlen (text), NULL);
      FUZZ_CHECK (request != NULL);
      aim (method, request, 0);
      g_ptr_array_add (seeds, make_input (method, 0, (guint8) i, request, call_bodies[i].text, call_bodies[i].len));
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
  const guint8 *bytes;
  gsize len;
  Said said;
  if (!take_apart (data, size, &said, &bytes, &len) || said.method == NULL)
    return 0;
  request = gs_wire_decode (request_arena, said.method->request, bytes, len, NULL);
  if (request == NULL)
    return 0;
  for (gint32 n = g_rand_int_range (rand, 1, 5); n > 0; n--)
    shape_change (&shape, request);
  if (g_rand_int_range (rand, 0, 8) != 0)
    aim (said.method, request, g_rand_int_range (rand, 0, 4) == 0 ? g_rand_int (rand) : 0);
  if (g_rand_int_range (rand, 0, 4) == 0)
    said.flags = (guint8) (g_rand_int (rand) & ~(guint32) RAW_NUMBER);
  if (g_rand_int_range (rand, 0, 4) == 0)
    said.damage = (guint8) g_rand_int (rand);
  g_autoptr (GBytes) input = make_input (said.method, said.flags, said.damage, request, said.body, said.body_len);
  const guint8 *made = g_bytes_get_data (input, &len);
  if (len > max_size)
    return 0;
  memcpy (data, made, len);
  return len;
}
