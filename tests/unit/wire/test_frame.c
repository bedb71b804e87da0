/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed bytes of the wire, tokens and signatures (with the vectors of docs/wire-protocol.md), the method table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <wire/frame.h>
#include <wire/methods.h>
#include <wire/token.h>

#include "gitstead/v1/git.pb-c.h"

#define BEARER_VECTOR "b57b88e7f1977cacca01403d143ad4fd51dcd9d2b0acdd7c9c197bd025f36f92"
#define SIGN_VECTOR "339b91d303183ba52b021f9520d91ae3875979113ee5384b47b865ccc7250a21"
#define PAYLOAD_VECTOR "06b5a8b023e80d86cb954e09c176ac5cae311b5210bd60ff3658248b305cca1c"
#define TAG_VECTOR "11e901b8452cde727f855478a104665b837799f1bc65997acc3e7e09bdfba874"
#define TOKEN "gs_000102030405_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static void
assert_hex (const guint8 *bytes, gsize len, const char *hex)
{
  g_autofree char *text = g_malloc (2 * len + 1);
  gs_hex (bytes, len, text);
  assert_string_equal (text, hex);
}

static void
refused (const guint8 *bytes, gsize len, int code, const char *says)
{
  g_autoptr (GError) error = NULL;
  GsFrame frame;
  assert_false (gs_frame_parse (bytes, len, &frame, &error));
  assert_int_equal (error->code, code);
  assert_non_null (strstr (error->message, says));
}

static void
envelope (void **state)
{
  guint8 bytes[16 + 3 + 5] = { 0 };
  GsFrame frame;
  gs_frame_prefix_write (bytes, GS_FRAME_REPLY, 7, 3, 5);
  assert_hex (bytes, 16, "4753010100000007" "0000000300000005");
  assert_true (gs_frame_parse (bytes, sizeof bytes, &frame, NULL));
  assert_int_equal (frame.flags, GS_FRAME_REPLY);
  assert_int_equal (frame.code, 7);
  assert_ptr_equal (frame.header, bytes + 16);
  assert_int_equal (frame.header_len, 3);
  assert_ptr_equal (frame.payload, bytes + 19);
  assert_int_equal (frame.payload_len, 5);
  for (gsize len = 0; len < 16; len++)
    refused (bytes, len, GS_ERROR_INVALID_ARGUMENT, "fixed part");
  refused (bytes, sizeof bytes - 1, GS_ERROR_INVALID_ARGUMENT, "announced");
  gs_frame_prefix_write (bytes, 0, 7, GS_FRAME_HEADER_MAX + 1, 5);
  refused (bytes, sizeof bytes, GS_ERROR_INVALID_ARGUMENT, "at most");
  gs_frame_prefix_write (bytes, 0, 7, 3, 0xffffffff);
  refused (bytes, sizeof bytes, GS_ERROR_INVALID_ARGUMENT, "announced");
  gs_frame_prefix_write (bytes, 0x80, 7, 3, 5);
  refused (bytes, sizeof bytes, GS_ERROR_UNIMPLEMENTED, "flags");
  bytes[2] = 2;
  refused (bytes, sizeof bytes, GS_ERROR_UNIMPLEMENTED, "wire major 2");
  bytes[0] = 'X';
  refused (bytes, sizeof bytes, GS_ERROR_INVALID_ARGUMENT, "instead of 47 53");
}

static void
sp (void **state)
{
  guint8 header[GS_SP_HEADER_SIZE], body[64] = { 0 };
  gs_sp_header_write (header, GS_SP_REQ);
  assert_hex (header, 8, "0053500000300000");
  assert_true (gs_sp_header_check (header, GS_SP_REQ));
  assert_false (gs_sp_header_check (header, GS_SP_REP));
  header[7] = 1;
  assert_false (gs_sp_header_check (header, GS_SP_REQ));
  assert_int_equal (gs_sp_backtrace (body, sizeof body), 0); /* no end */
  body[4] = 0x80;
  assert_int_equal (gs_sp_backtrace (body, sizeof body), 8);
  assert_int_equal (gs_sp_backtrace (body, 7), 0);
  memset (body, 0, sizeof body);
  body[GS_SP_TTL * 4] = 0x80;
  assert_int_equal (gs_sp_backtrace (body, sizeof body), 0); /* one hop too many */
}

static void
chunks (void **state)
{
  static const guint32 most[] = { 0, GS_CHUNK_MAX, 0, GS_CHUNK_MAX, 4, 0 };
  guint8 bytes[GS_CHUNK_HEADER_SIZE], hello[GS_STREAM_HELLO_SIZE], type, ticket[16] = "0123456789abcde";
  guint32 length;
  for (guint8 t = 0; t < 8; t++)
    {
      gboolean known = t >= GS_CHUNK_DATA && t <= GS_CHUNK_PING;
      gs_chunk_write (bytes, t, known ? most[t] : 0);
      assert_int_equal (gs_chunk_parse (bytes, &type, &length, NULL), known);
      gs_chunk_write (bytes, t, known ? most[t] + 1 : 0);
      assert_false (gs_chunk_parse (bytes, &type, &length, NULL));
    }
  gs_chunk_write (bytes, GS_CHUNK_RESET, 3);
  assert_false (gs_chunk_parse (bytes, &type, &length, NULL));
  gs_chunk_write (bytes, GS_CHUNK_DATA, 3);
  bytes[2] = 1;
  assert_false (gs_chunk_parse (bytes, &type, &length, NULL));

  gs_stream_hello_write (hello, ticket);
  assert_memory_equal (gs_stream_hello_parse (hello), ticket, 16);
  hello[5] = 1;
  assert_null (gs_stream_hello_parse (hello));
  gs_stream_answer_write (bytes, 16);
  assert_true (gs_stream_answer_parse (bytes, &length));
  assert_int_equal (length, 16);
  bytes[3] = '2';
  assert_false (gs_stream_answer_parse (bytes, &length));
}

static void
tokens (void **state)
{
  static const char *const bad[]
      = { "", "gs_", "gs_000102030405", "gx_000102030405_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
          "gs_00010203040A_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
          "gs_000102030405_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
          "gs_000102030405_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+",
          "gs_0001020304050AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" };
  guint8 id[6], secret[32], both[64], key[32];
  char token[GS_TOKEN_LEN + 1], parsed[GS_TOKEN_ID_LEN + 1];
  const char *text = NULL;
  for (guint i = 0; i < 32; i++)
    secret[i] = id[i % 6] = (guint8) i;
  for (guint i = 0; i < 6; i++)
    id[i] = (guint8) i;
  gs_token_make (id, secret, token);
  assert_string_equal (token, TOKEN);
  assert_true (gs_token_parse (token, parsed, &text));
  assert_string_equal (parsed, "000102030405");
  assert_string_equal (text, token + 16);
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    assert_false (gs_token_parse (bad[i], parsed, &text));
  memset (secret, 0xff, 32);
  gs_token_make (id, secret, token);
  assert_string_equal (token, "gs_000102030405___________________________________________8");
  assert_true (gs_token_parse (token, NULL, NULL));

  gs_token_verifier (TOKEN + 16, both);
  gs_token_bearer_verifier (TOKEN + 16, key);
  assert_true (gs_token_equal (both, key, 32));
  assert_hex (key, 32, BEARER_VECTOR);
  gs_token_signing_key (TOKEN + 16, key);
  assert_true (gs_token_equal (both + 32, key, 32));
  assert_hex (key, 32, SIGN_VECTOR);
  key[31] ^= 1;
  assert_false (gs_token_equal (both + 32, key, 32));
}

static void
signature (void **state)
{
  guint8 nonce[16], key[32], tag[32];
  GsTxId call_id;
  memset (nonce, 0x22, sizeof nonce);
  memset (call_id.bytes, 0x11, sizeof call_id.bytes);
  g_autoptr (GBytes) data = gs_frame_signed_data (2, &call_id, "000102030405", 1700000000, nonce, (const guint8 *) "\x0a\x02hi", 4);
  assert_hex (g_bytes_get_data (data, NULL), g_bytes_get_size (data),
              "47530100000000020000000000000004" "11111111111111111111111111111111"
              "303030313032303330343035" "000000006553f100" "22222222222222222222222222222222" PAYLOAD_VECTOR);
  gs_token_signing_key (TOKEN + 16, key);
  gs_token_hmac (key, g_bytes_get_data (data, NULL), g_bytes_get_size (data), tag);
  assert_hex (tag, 32, TAG_VECTOR);
}

static void
methods (void **state)
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GsWireMethods) table = gs_wire_methods_new (&error);
  const GsWireMethod *row, *all;
  gsize n, n_compiled = 0;
  assert_null (error);
  row = gs_wire_methods_find (table, 401, NULL);
  assert_string_equal (row->name, "Git/UploadPack");
  assert_ptr_equal (row, gs_wire_methods_find (table, 0, "Git/UploadPack"));
  assert_string_equal (row->service, "gitstead.v1.GitService");
  assert_string_equal (row->input, "gitstead.v1.GitUploadPackRequest");
  assert_string_equal (row->output, "gitstead.v1.GitUploadPackReply");
  assert_string_equal (row->target, "repository");
  assert_ptr_equal (row->request, &gitstead__v1__git_upload_pack_request__descriptor);
  assert_ptr_equal (row->reply, &gitstead__v1__git_upload_pack_reply__descriptor);
  assert_int_equal (row->operation, 1);
  assert_int_equal (row->scope, 1);
  assert_true (row->bytes_in && row->bytes_out);
  assert_int_equal (row->timeout_ms, 14400000);
  row = gs_wire_methods_find (table, 0, "Server/Ping");
  assert_int_equal (row->number, 2);
  assert_int_equal (row->permission, 1);
  assert_null (row->target);
  assert_null (gs_wire_methods_find (table, 0, "server/ping"));
  assert_null (gs_wire_methods_find (table, 9999, NULL));
  assert_null (gs_wire_methods_find (table, 0, NULL));
  all = gs_wire_methods_all (table, &n);
  for (gsize i = 0; gs_wire_services[i] != NULL; i++)
    n_compiled += gs_wire_services[i]->n_methods;
  assert_int_equal (n, n_compiled);
  for (gsize i = 0; i < n; i++)
    {
      assert_true (i == 0 || all[i - 1].number < all[i].number);
      assert_string_equal (all[i].input, all[i].request->name);
      assert_string_equal (all[i].output, all[i].reply->name);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (envelope), cmocka_unit_test (sp),        cmocka_unit_test (chunks),
          cmocka_unit_test (tokens),   cmocka_unit_test (signature), cmocka_unit_test (methods) };
  return cmocka_run_group_tests_name ("frame", tests, NULL, NULL);
}
