/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: how fields are written, what is read, every mistake with its place, and every message there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gitstead/v1/access.pb-c.h"
#include "gitstead/v1/object.pb-c.h"
#include "gitstead/v1/ref.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"
#include "gitstead/v1/server.pb-c.h"
#include "rpc/json.h"

#include <string.h>

#define BUDGET (1024 * 1024)

static GsiMethods *methods;

static int
set_up (void **state)
{
  methods = gsi_methods_new (NULL);
  return methods == NULL;
}

static int
tear_down (void **state)
{
  gsi_methods_free (methods);
  return 0;
}

/* ------------------------------------------------------------------------------------------------- writing */

static void
writes (const ProtobufCMessage *message, GsiJsonFlags flags, const char *want)
{
  gsize len;
  g_autofree char *text = gsi_json_write (methods, message, flags, &len);
  assert_string_equal (text, want);
  assert_int_equal (len, strlen (want));
}

static void
writing (void **state)
{
  Gitstead__V1__Receipt receipt = GITSTEAD__V1__RECEIPT__INIT;
  Gitstead__V1__RefUpdateReply update = GITSTEAD__V1__REF_UPDATE_REPLY__INIT;
  Gitstead__V1__Ref ref = GITSTEAD__V1__REF__INIT, *refs[] = { &ref };
  Gitstead__V1__RefListReply list = GITSTEAD__V1__REF_LIST_REPLY__INIT;
  Gitstead__V1__Object object = GITSTEAD__V1__OBJECT__INIT;
  Gitstead__V1__TokenCreateReply token = GITSTEAD__V1__TOKEN_CREATE_REPLY__INIT;
  char *replicas[] = { (char *) "node-1", (char *) "a \"b\"\n" };
  guint8 id[] = { 0x00, 0xff, 0x12 };

  receipt.transaction_id = (ProtobufCBinaryData) { sizeof id, id };
  receipt.generation = 7;
  receipt.n_replicas = 2;
  receipt.replicas = replicas;
  update.receipt = &receipt;
  writes (&update.base, 0,
          "{\"receipt\":{\"transaction_id\":\"00ff12\",\"generation\":7,\"replicas\":[\"node-1\",\"a \\\"b\\\"\\n\"]}}");
  receipt.n_replicas = 1;
  writes (&update.base, GSI_JSON_PRETTY | GSI_JSON_DEFAULTS,
          "{\n  \"receipt\": {\n    \"transaction_id\": \"00ff12\",\n    \"generation\": 7,\n    \"refs_digest\": \"\",\n"
          "    \"replicas\": [\n      \"node-1\"\n    ]\n  }\n}");
  update.receipt = NULL;
  writes (&update.base, GSI_JSON_DEFAULTS, "{}");
  writes (&update.base, GSI_JSON_PRETTY, "{}");

  ref.name = (ProtobufCBinaryData) { 8, (guint8 *) "refs/\xc3\xbc\n" };
  list.n_refs = 1;
  list.refs = refs;
  writes (&list.base, 0, "{\"refs\":[{\"name\":\"refs/\xc3\xbc\\n\"}]}");
  ref.name = (ProtobufCBinaryData) { 3, (guint8 *) "a\xff" "b" };
  writes (&list.base, 0, "{\"refs\":[{\"name\":{\"base64\":\"Yf9i\"}}]}");
  ref.name = (ProtobufCBinaryData) { 3, (guint8 *) "a\0b" };
  writes (&list.base, GSI_JSON_PRETTY, "{\n  \"refs\": [\n    {\n      \"name\": {\"base64\": \"YQBi\"}\n    }\n  ]\n}");
  ref.name = (ProtobufCBinaryData) { 2, (guint8 *) "\033[" };
  writes (&list.base, 0, "{\"refs\":[{\"name\":{\"base64\":\"G1s=\"}}]}");
  ref.name = (ProtobufCBinaryData) { 2, (guint8 *) "\xc2\x9b" };
  writes (&list.base, 0, "{\"refs\":[{\"name\":{\"base64\":\"wps=\"}}]}");

  object.type = GITSTEAD__V1__OBJECT_TYPE__BLOB;
  object.size = G_GUINT64_CONSTANT (9007199254740992);
  writes (&object.base, 0, "{\"type\":\"BLOB\",\"size\":9007199254740992}");
  object.size++;
  object.type = 77;
  writes (&object.base, 0, "{\"type\":77,\"size\":\"9007199254740993\"}");
  object.size = G_MAXUINT64;
  object.type = 0;
  writes (&object.base, GSI_JSON_DEFAULTS,
          "{\"oid\":\"\",\"type\":\"OBJECT_TYPE_UNSPECIFIED\",\"size\":\"18446744073709551615\",\"mode\":0}");

  token.secret = (char *) "gs_x_y";
  writes (&token.base, 0, "{\"secret\":\"gs_x_y\"}");
  writes (&token.base, GSI_JSON_MASK, "{\"secret\":\"***\"}");
}

/* ------------------------------------------------------------------------------------------------- reading */

static void
reads (const ProtobufCMessageDescriptor *type, const char *text, const char *as)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
  g_autoptr (GError) error = NULL;
  ProtobufCMessage *message = gsi_json_read (methods, arena, type, text, strlen (text), &error);
  if (message == NULL)
    fail_msg ("%s: %s", text, error->message);
  writes (message, 0, as);
}

#define REF_UPDATE &gitstead__v1__ref_update_request__descriptor
#define REF_LIST &gitstead__v1__ref_list_request__descriptor
#define READ &gitstead__v1__object_read_request__descriptor
#define OBJECT &gitstead__v1__object__descriptor
#define TOKEN &gitstead__v1__token__descriptor
#define CANCEL &gitstead__v1__cancel_request__descriptor
#define PING &gitstead__v1__ping_request__descriptor

static void
reading (void **state)
{
  reads (PING, "", "{}");
  reads (PING, " \n\t", "{}");
  reads (PING, "{}", "{}");
  reads (PING, "{\"echo\": null}", "{}");
  reads (PING, "{\"echo\": \"\"}", "{}");
  reads (PING, "{\"echo\": \"h\\u00fc\"}", "{\"echo\":\"h\xc3\xbc\"}");
  reads (PING, "{\"echo\": {\"base64\": \"Yf9i\"}}", "{\"echo\":{\"base64\":\"Yf9i\"}}");
  reads (PING, "{\"echo\": {\"base64\": \"_-8\"}}", "{\"echo\":{\"base64\":\"/+8=\"}}");
  reads (PING, "{\"echo\": {\"base64\": \"YQ==\"}}", "{\"echo\":\"a\"}");
  reads (PING, "{\"echo\": {\"base64\": \"YWI=\"}}", "{\"echo\":\"ab\"}");
  reads (PING, "{\"echo\": {\"base64\": \"\"}}", "{}");
  reads (CANCEL, "{\"call_id\": \"00FFa0\"}", "{\"call_id\":\"00ffa0\"}");
  reads (CANCEL, "{\"callId\": {\"base64\": \"AP8=\"}}", "{\"call_id\":\"00ff\"}");
  reads (REF_UPDATE, "{\"updates\": [{\"name\": \"refs/heads/x\", \"newOid\": \"1\"}, {\"old_oid\": \"2\"}]}",
         "{\"updates\":[{\"name\":\"refs/heads/x\",\"new_oid\":\"1\"},{\"old_oid\":\"2\"}]}");
  reads (REF_LIST, "{\"prefixes\": [\"a\", \"\"], \"head\": true, \"page\": {\"limit\": \"5\"}}",
         "{\"prefixes\":[\"a\",\"\"],\"head\":true,\"page\":{\"limit\":5}}");
  reads (REF_LIST, "{\"prefixes\": [], \"head\": false, \"page\": {}}", "{\"page\":{}}");
  reads (OBJECT, "{\"type\": \"TREE\", \"size\": \"18446744073709551615\"}",
         "{\"type\":\"TREE\",\"size\":\"18446744073709551615\"}");
  reads (OBJECT, "{\"type\": 3, \"size\": 9007199254740993, \"mode\": 1e3}",
         "{\"type\":\"BLOB\",\"size\":\"9007199254740993\",\"mode\":1000}");
  reads (TOKEN, "{\"created_us\": -5, \"expiresUs\": \"-9223372036854775808\"}",
         "{\"created_us\":-5,\"expires_us\":\"-9223372036854775808\"}");
}

static void
refuses_code (const ProtobufCMessageDescriptor *type, const char *text, gsize len, int code, const char *says)
{
  g_autoptr (GsArena) arena = gs_arena_new (BUDGET);
  g_autoptr (GError) error = NULL;
  if (gsi_json_read (methods, arena, type, text, len, &error) != NULL)
    fail_msg ("%.80s was taken; should say \"%s\"", text, says);
  if (strstr (error->message, says) == NULL)
    fail_msg ("%.80s: \"%s\" does not say \"%s\"", text, error->message, says);
  assert_int_equal (gs_error_code (error), code);
}

static void
refuses (const ProtobufCMessageDescriptor *type, const char *text, const char *says)
{
  refuses_code (type, text, strlen (text), GS_ERROR_INVALID_ARGUMENT, says);
}

static void
mistakes (void **state)
{
  refuses (PING, "{", "not JSON: line 1");
  refuses (PING, "{} x", "not JSON");
  refuses (PING, "{\"echo\": \"\xff\"}", "not JSON");
  refuses (PING, "{\"echo\": \"a\\u0000b\"}", "not JSON");
  refuses (PING, "{\"echo\": 'a'}", "not JSON");
  refuses (PING, "[]", "the request: wants an object, not an array");
  refuses (PING, "null", "wants an object, not null");
  refuses (PING, "\"x\"", "wants an object, not a string");
  refuses (PING, "{\"ecco\": \"\"}", "PingRequest has no field \"ecco\"; did you mean \"echo\"?");
  refuses (PING, "{\"something_else\": \"\"}", "has no field \"something_else\"");
  refuses (PING, "{\"echo\": \"a\", \"echo\": \"b\"}", "not JSON");
  refuses (CANCEL, "{\"call_id\": \"aa\", \"callId\": \"bb\"}", "\"call_id\" is there twice");
  refuses (PING, "{\"echo\": 5}", "echo: wants a string, not a number");
  refuses (PING, "{\"echo\": {\"base64\": \"a\"}}", "impossible length");
  refuses (PING, "{\"echo\": {\"base64\": \"a b=\"}}", "wrong character at 1");
  refuses (PING, "{\"echo\": {\"base64\": \"ab==c\"}}", "echo: the base64 text");
  refuses (PING, "{\"echo\": {\"base64\": 5}}", "echo: wants a string, or");
  refuses (PING, "{\"echo\": {\"base64\": \"\", \"x\": 1}}", "echo: wants a string, or");
  refuses (PING, "{\"echo\": {}}", "echo: wants a string, or");
  refuses (CANCEL, "{\"call_id\": \"0\"}", "call_id: wants hex digits");
  refuses (CANCEL, "{\"call_id\": \"0g\"}", "call_id: wants hex digits");
  refuses (REF_UPDATE, "{\"updates\": [{}, {\"old_oid\": 5}]}", "updates[1].old_oid: wants a string, not a number");
  refuses (REF_UPDATE, "{\"updates\": [{}, {\"oldoid\": \"\"}]}",
           "updates[1]: RefUpdate has no field \"oldoid\"; did you mean \"old_oid\"?");
  refuses (REF_UPDATE, "{\"updates\": {}}", "updates: wants an array, not an object");
  refuses (REF_UPDATE, "{\"updates\": [null]}", "updates[0]: null is no element");
  refuses (REF_UPDATE, "{\"repository\": \"a\"}", "repository: wants an object, not a string");
  refuses (REF_LIST, "{\"head\": 1}", "head: wants true or false, not a number");
  refuses (REF_LIST, "{\"page\": {\"limit\": -1}}", "page.limit: wants a number from 0 to 4294967295");
  refuses (REF_LIST, "{\"page\": {\"limit\": 4294967296}}", "page.limit: wants a number from 0 to 4294967295");
  refuses (REF_LIST, "{\"page\": {\"limit\": 1.5}}", "page.limit: wants a whole number");
  refuses (REF_LIST, "{\"page\": {\"limit\": 1e300}}", "page.limit: wants a whole number");
  refuses (REF_LIST, "{\"page\": {\"limit\": \" 5\"}}", "page.limit: wants a whole number");
  refuses (REF_LIST, "{\"page\": {\"limit\": \"\"}}", "page.limit: wants a whole number");
  refuses (REF_LIST, "{\"page\": {\"limit\": true}}", "page.limit: wants a whole number, not a boolean");
  refuses (OBJECT, "{\"size\": \"18446744073709551616\"}", "size: wants a whole number from 0");
  refuses (TOKEN, "{\"created_us\": \"9223372036854775808\"}", "created_us: wants a whole number");
  refuses (TOKEN, "{\"created_us\": 9223372036854775808}", "not JSON");
  refuses (OBJECT, "{\"type\": \"BLOBB\"}", "type: \"BLOBB\" is none of ObjectType's values; did you mean \"BLOB\"?");
  refuses (OBJECT, "{\"type\": 4294967296}", "type: wants a number");
}

static void
hostile (void **state)
{
  gsize n = 1024 * 1024;
  g_autofree char *deep = g_malloc (n), *wide = g_malloc (n), *many = g_malloc (n);
  memset (deep, '[', n);
  refuses_code (PING, deep, n, GS_ERROR_INVALID_ARGUMENT, "nested more than 32 deep");
  memcpy (wide, "{\"updates\":[{}", 14);
  for (gsize i = 14; i + 3 <= n; i += 3)
    memcpy (wide + i, ",{}", 3);
  refuses_code (REF_UPDATE, wide, n, GS_ERROR_OUT_OF_RANGE, "more memory than one call may use");
  /* Small enough to parse, too large for the arena. */
  memcpy (many, "{\"updates\":[", 12);
  for (gsize i = 0; i < 20000; i++)
    memcpy (many + 12 + 3 * i, i < 19999 ? "{}," : "{}]", 3);
  many[12 + 60000] = '}';
  refuses_code (REF_UPDATE, many, 12 + 60001, GS_ERROR_OUT_OF_RANGE, "more memory than one call may use");
  refuses_code (PING, "{\"echo\": \"a\0\"}", 15, GS_ERROR_INVALID_ARGUMENT, "not JSON");
}

/* --------------------------------------------------------------------------------------- there and back */

typedef struct
{
  GRand *rand;
  GsArena *arena;
} Dice;

static const char *const texts[] = { "", "a", "refs/heads/main", "\"\\/\b\f\n\r\t", "h\xc3\xbc", "\xe6\x97\xa5\xe6\x9c\xac",
                                     "\xf0\x9f\x98\x80", "\x7f", "{\"base64\":\"\"}", "\xe2\x80\xa8", "null", "***" };

static void
roll_bytes (Dice *dice, ProtobufCBinaryData *bytes)
{
  if (g_rand_boolean (dice->rand))
    {
      bytes->data = (guint8 *) texts[g_rand_int_range (dice->rand, 0, G_N_ELEMENTS (texts))];
      bytes->len = strlen ((const char *) bytes->data);
      return;
    }
  bytes->len = (gsize) g_rand_int_range (dice->rand, 0, 40);
  bytes->data = gs_arena_alloc (dice->arena, bytes->len + 1);
  for (gsize i = 0; i < bytes->len; i++)
    bytes->data[i] = (guint8) g_rand_int (dice->rand);
}

static ProtobufCMessage *roll (Dice *dice, const ProtobufCMessageDescriptor *descriptor);

static void
roll_value (Dice *dice, const ProtobufCFieldDescriptor *field, gpointer member)
{
  static const guint64 edges[] = { 1, G_MAXINT32, G_MAXUINT32, G_GUINT64_CONSTANT (1) << 53, (G_GUINT64_CONSTANT (1) << 53) + 1,
                                   G_MAXINT64, G_GUINT64_CONSTANT (1) << 63, G_MAXUINT64 };
  guint64 number = g_rand_boolean (dice->rand) ? edges[g_rand_int_range (dice->rand, 0, G_N_ELEMENTS (edges))]
                                               : (guint64) g_rand_int (dice->rand) << 20;
  const ProtobufCEnumDescriptor *names = field->descriptor;
  switch (field->type)
    {
    case PROTOBUF_C_TYPE_STRING:
      *(char **) member = (char *) texts[g_rand_int_range (dice->rand, 0, G_N_ELEMENTS (texts))];
      break;
    case PROTOBUF_C_TYPE_BYTES:
      roll_bytes (dice, member);
      break;
    case PROTOBUF_C_TYPE_MESSAGE:
      *(ProtobufCMessage **) member = roll (dice, field->descriptor);
      break;
    case PROTOBUF_C_TYPE_BOOL:
      *(protobuf_c_boolean *) member = g_rand_boolean (dice->rand);
      break;
    case PROTOBUF_C_TYPE_ENUM:
      *(int *) member = g_rand_boolean (dice->rand) ? names->values[number % names->n_values].value : (int) number;
      break;
    default:
      memcpy (member, &number, gsi_json_member_size (field->type));
    }
}

static ProtobufCMessage *
roll (Dice *dice, const ProtobufCMessageDescriptor *descriptor)
{
  ProtobufCMessage *message = gs_arena_alloc (dice->arena, descriptor->sizeof_message);
  guint8 *base = (guint8 *) message;
  protobuf_c_message_init (descriptor, message);
  for (unsigned i = 0; i < descriptor->n_fields; i++)
    {
      const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
      gsize n = (gsize) g_rand_int_range (dice->rand, 0, 4), size = gsi_json_member_size (field->type);
      guint8 *members;
      if (n == 0)
        continue;
      if (field->label != PROTOBUF_C_LABEL_REPEATED)
        {
          if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
            {
              guint32 *which = (guint32 *) (base + field->quantifier_offset);
              if (*which != 0)
                continue;
              *which = field->id;
            }
          roll_value (dice, field, base + field->offset);
          continue;
        }
      members = gs_arena_alloc (dice->arena, n * size);
      for (gsize k = 0; k < n; k++)
        roll_value (dice, field, members + k * size);
      *(gpointer *) (base + field->offset) = members;
      *(gsize *) (base + field->quantifier_offset) = n;
    }
  return message;
}

static void
there_and_back (void **state)
{
  static const GsiJsonFlags flags[] = { 0, GSI_JSON_PRETTY, GSI_JSON_DEFAULTS, GSI_JSON_PRETTY | GSI_JSON_DEFAULTS };
  g_autoptr (GRand) rand = g_rand_new_with_seed (20240229);
  gsize n_types, n_checked = 0;
  const ProtobufCMessageDescriptor *const *types = gsi_methods_messages (methods, &n_types);
  for (gsize i = 0; i < n_types * 200; i++)
    {
      g_autoptr (GsArena) arena = gs_arena_new (16 * BUDGET);
      g_autoptr (GError) error = NULL;
      Dice dice = { rand, arena };
      ProtobufCMessage *message = roll (&dice, types[i % n_types]), *again;
      gsize len;
      g_autofree char *text = gsi_json_write (methods, message, flags[(i / n_types) % G_N_ELEMENTS (flags)], &len);
      assert_true (g_utf8_validate (text, (gssize) len, NULL));
      again = gsi_json_read (methods, arena, types[i % n_types], text, len, &error);
      if (again == NULL)
        fail_msg ("%s: %s\n%s", types[i % n_types]->name, error->message, text);
      g_autoptr (GBytes) left = gs_wire_encode (message), right = gs_wire_encode (again);
      if (!g_bytes_equal (left, right))
        fail_msg ("%s changed on its way:\n%s", types[i % n_types]->name, text);
      n_checked++;
    }
  assert_true (n_types > 40 && n_checked == n_types * 200);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (writing),  cmocka_unit_test (reading), cmocka_unit_test (mistakes),
    cmocka_unit_test (hostile),  cmocka_unit_test (there_and_back),
  };
  return cmocka_run_group_tests_name ("rpc-json", tests, set_up, tear_down);
}
