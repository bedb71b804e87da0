/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_parts.c - the pure parts of transport/http: routes, header guard, credentials, inflate, errors. */
#include <http.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ------------------------------------------------------------------------------------------ routes */

static void
expect_route (const char *uri, RouteKind kind, RouteService service, const char *target)
{
  Route route = { 0 };
  GError *error = NULL;
  if (!route_parse (uri, &route, &error))
    fail_msg ("%s: %s", uri, error->message);
  assert_int_equal (route.kind, kind);
  assert_int_equal (route.service, service);
  if (target == NULL)
    assert_null (route.target);
  else
    assert_string_equal (route.target, target);
  route_clear (&route);
}

static void
test_routes (void **state)
{
  expect_route ("/", ROUTE_STATUS, SERVICE_NONE, NULL);
  expect_route ("/healthz?x=1", ROUTE_HEALTH, SERVICE_NONE, NULL);
  expect_route ("/readyz", ROUTE_READY, SERVICE_NONE, NULL);
  expect_route ("/metrics", ROUTE_METRICS, SERVICE_NONE, NULL);
  expect_route ("http://example.org/healthz", ROUTE_HEALTH, SERVICE_NONE, NULL);
  expect_route ("HTTPS://example.org", ROUTE_STATUS, SERVICE_NONE, NULL);
  expect_route ("/a.git/info/refs?service=git-upload-pack", ROUTE_INFO_REFS, SERVICE_UPLOAD_PACK, "a.git");
  expect_route ("/a/b/info/refs?x=y&service=git-receive-pack", ROUTE_INFO_REFS, SERVICE_RECEIVE_PACK, "a/b");
  expect_route ("/a/info/refs", ROUTE_INFO_REFS, SERVICE_NONE, "a");
  expect_route ("/a/b.git/git-upload-pack", ROUTE_UPLOAD_PACK, SERVICE_NONE, "a/b.git");
  expect_route ("/a%20b/%C3%A4.git/git-receive-pack", ROUTE_RECEIVE_PACK, SERVICE_NONE, "a b/ä.git");
  expect_route ("/api/v1/Repository/Create", ROUTE_API, SERVICE_NONE, "Repository/Create");
  expect_route ("/api/v1/x.git/info/refs?service=git-upload-pack", ROUTE_INFO_REFS, SERVICE_UPLOAD_PACK,
                "api/v1/x.git");
  expect_route ("/a.git", ROUTE_NONE, SERVICE_NONE, NULL);
  expect_route ("/a.git/HEAD", ROUTE_NONE, SERVICE_NONE, NULL);
  expect_route ("/info/refs?service=git-upload-pack", ROUTE_NONE, SERVICE_NONE, NULL);
  expect_route ("//info/refs", ROUTE_NONE, SERVICE_NONE, NULL);
  expect_route ("/git-upload-pack", ROUTE_NONE, SERVICE_NONE, NULL);
  expect_route ("/a..b/...git/git-upload-pack", ROUTE_UPLOAD_PACK, SERVICE_NONE, "a..b/...git");
}

static void
expect_refused (const char *uri, const char *why)
{
  Route route = { 0 };
  g_autoptr (GError) error = NULL;
  assert_false (route_parse (uri, &route, &error));
  assert_non_null (strstr (error->message, why));
  assert_null (route.target);
}

static void
test_bad_routes (void **state)
{
  g_autofree char *filler = g_strnfill (5000, 'a');
  g_autofree char *longer = g_strconcat ("/", filler, NULL);
  expect_refused ("/a%2Fb.git/git-upload-pack", "encoded slash");
  expect_refused ("/a%2fb.git/git-upload-pack", "encoded slash");
  expect_refused ("/a%00b.git/git-upload-pack", "control character");
  expect_refused ("/a%0ab", "control character");
  expect_refused ("/a\x01", "control character");
  expect_refused ("/a%7f", "control character");
  expect_refused ("/a%", "two hex digits");
  expect_refused ("/a%2", "two hex digits");
  expect_refused ("/a%zz", "two hex digits");
  expect_refused ("/a/../b.git/git-upload-pack", "'..'");
  expect_refused ("/a/%2e%2E/b", "'..'");
  expect_refused ("/..", "'..'");
  expect_refused ("/a/./b", "'.'");
  expect_refused ("/a%ff", "UTF-8");
  expect_refused ("a/b", "slash");
  expect_refused ("*", "slash");
  expect_refused (longer, "longer");
  expect_refused ("/a/info/refs?service=git-upload-pack&service=git-upload-pack", "twice");
  expect_refused ("/a/info/refs?service=git-upload-archive", "no such service");
  expect_refused ("/a/info/refs?service=", "no such service");
}

static void
test_protocol (void **state)
{
  g_autofree char *longer = g_strnfill (257, 'a');
  assert_int_equal (route_protocol_version (NULL), 0);
  assert_int_equal (route_protocol_version ("version=2"), 2);
  assert_int_equal (route_protocol_version ("version=1:version=2"), 2);
  assert_int_equal (route_protocol_version ("a=b:version=1"), 1);
  assert_int_equal (route_protocol_version ("version=22"), 0);
  assert_int_equal (route_protocol_version ("version=3"), 0);
  assert_int_equal (route_protocol_version ("xversion=2"), 0);
  assert_true (route_protocol_valid ("version=2:a.b-c_d"));
  assert_false (route_protocol_valid ("version=2\n"));
  assert_false (route_protocol_valid ("$(x)"));
  assert_false (route_protocol_valid (longer));
}

/* ------------------------------------------------------------------------------------------- guard */

static guint
guarded (Guard *guard, gboolean http11, const char *const *headers)
{
  const char *why = NULL;
  guint status;
  memset (guard, 0, sizeof *guard);
  for (guint i = 0; headers[i] != NULL; i += 2)
    guard_header (guard, headers[i], strlen (headers[i]), headers[i + 1], strlen (headers[i + 1]));
  status = guard_check (guard, http11, &why);
  assert_true (status == 0 ? why == NULL : why != NULL);
  return status;
}

#define GUARD(http11_, ...) guarded (&guard, http11_, (const char *const[]){ __VA_ARGS__, NULL })

static void
test_guard (void **state)
{
  Guard guard;
  assert_int_equal (GUARD (TRUE, "Host", "a"), 0);
  assert_false (guard.has_body);
  assert_int_equal (GUARD (FALSE, "Accept", "a"), 0);
  assert_int_equal (GUARD (TRUE, "Accept", "a"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "host", "a"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "5"), 0);
  assert_true (guard.has_body && guard.length == 5);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "5", "content-length", "5"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "+5"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "5, 5"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", ""), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "99999999999999999999"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length", "5", "Transfer-Encoding", "chunked"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Transfer-Encoding", "Chunked"), 0);
  assert_true (guard.has_body && guard.length == G_MAXUINT64);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Transfer-Encoding", "gzip, chunked"), 501);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Transfer-Encoding", "chunked", "Transfer-Encoding", "x"), 400);
  assert_int_equal (GUARD (FALSE, "Transfer-Encoding", "chunked"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Content-Length ", "5"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "X\tY", "5"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "X", "a\001b"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Expect", "100-Continue"), 0);
  assert_true (guard.expects_continue);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Expect", "200-ok"), 417);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Authorization", "a", "Authorization", "b"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Git-Protocol", "a", "Git-Protocol", "b"), 400);
  assert_int_equal (GUARD (TRUE, "Host", "a", "Accept", "a", "Accept", "b"), 0);
}

/* ------------------------------------------------------------------------------------- credentials */

static void
expect_bad_auth (const char *header, GsErrorCode code)
{
  g_autoptr (GError) error = NULL;
  Auth auth;
  assert_false (auth_parse (header, &auth, &error));
  assert_int_equal (error->code, code);
  assert_null (strstr (error->message, "cm9i"));
}

static void
test_auth (void **state)
{
  g_autofree char *filler = g_strnfill (9000, 'A');
  g_autofree char *longer = g_strconcat ("Bearer ", filler, NULL);
  Auth auth;
  assert_true (auth_parse (NULL, &auth, NULL));
  assert_int_equal (auth.credentials.kind, GS_CREDENTIALS_NONE);
  assert_true (auth_parse ("basic cm9ib3Q6czM6Y3I=", &auth, NULL));
  assert_int_equal (auth.credentials.kind, GS_CREDENTIALS_BASIC);
  assert_string_equal (auth.credentials.user, "robot");
  assert_string_equal (auth.credentials.secret, "s3:cr");
  auth_clear (&auth);
  assert_null (auth.credentials.secret);
  assert_true (auth_parse ("Basic Og==", &auth, NULL));
  assert_string_equal (auth.credentials.user, "");
  assert_string_equal (auth.credentials.secret, "");
  auth_clear (&auth);
  assert_true (auth_parse ("Bearer gst_ab-c.d", &auth, NULL));
  assert_int_equal (auth.credentials.kind, GS_CREDENTIALS_BEARER);
  assert_string_equal (auth.credentials.secret, "gst_ab-c.d");
  auth_clear (&auth);
  expect_bad_auth ("Basic", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Basic cm9ib3Q", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Basic cm9ib3Q6czM6Y3I=x", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Basic cm9i%3Q6czM6Y3I=", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Basic cm9ib3Q=", GS_ERROR_INVALID_ARGUMENT); /* no colon */
  expect_bad_auth ("Basic cm8AOmE=", GS_ERROR_INVALID_ARGUMENT); /* a NUL in it */
  expect_bad_auth ("Basic /zo/", GS_ERROR_INVALID_ARGUMENT);     /* not UTF-8 */
  expect_bad_auth ("Bearer", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Bearer a b", GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth (longer, GS_ERROR_INVALID_ARGUMENT);
  expect_bad_auth ("Digest x", GS_ERROR_UNAUTHENTICATED);
}

/* ----------------------------------------------------------------------------------------- inflate */

static GByteArray *
gzip (gsize length, guint8 fill)
{
  GByteArray *out = g_byte_array_new ();
  g_autofree guint8 *in = g_malloc (length + 1);
  z_stream z = { 0 };
  memset (in, fill, length);
  assert_int_equal (deflateInit2 (&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  g_byte_array_set_size (out, (guint) deflateBound (&z, length) + 64);
  z.next_in = in;
  z.avail_in = (uInt) length;
  z.next_out = out->data;
  z.avail_out = out->len;
  assert_int_equal (deflate (&z, Z_FINISH), Z_STREAM_END);
  g_byte_array_set_size (out, (guint) z.total_out);
  deflateEnd (&z);
  return out;
}

/* Feeds @in in pieces of @piece into rooms of @room. Gives how much came out, or the error. */
static guint64
inflate_all (Decoder *decoder, const GByteArray *in, gsize piece, gsize room, GError **error)
{
  g_autofree guint8 *out = g_malloc (room);
  for (gsize at = 0; at < in->len; at += piece)
    {
      const guint8 *data = in->data + at;
      gsize length = MIN (piece, in->len - at), written;
      do
        {
          written = 0;
          if (!decoder_run (decoder, &data, &length, out, room, &written, error))
            return 0;
        }
      while (written == room);
      assert_int_equal (length, 0);
    }
  if (!decoder_end (decoder, error))
    return 0;
  return decoder->given;
}

static void
test_inflate (void **state)
{
  static const gsize sizes[] = { 1, 7, 100, 65536 };
  g_autoptr (GByteArray) small = gzip (0, 0);
  g_autoptr (GByteArray) large = gzip (1000000, 'z');
  for (guint i = 0; i < G_N_ELEMENTS (sizes); i++)
    for (guint j = 0; j < G_N_ELEMENTS (sizes); j++)
      {
        Decoder decoder;
        assert_true (decoder_init (&decoder, TRUE, 0, 0, NULL));
        assert_int_equal (inflate_all (&decoder, large, sizes[i], sizes[j], NULL), 1000000);
        decoder_clear (&decoder);
        assert_true (decoder_init (&decoder, TRUE, 0, 0, NULL));
        assert_int_equal (inflate_all (&decoder, small, sizes[i], sizes[j], NULL), 0);
        assert_true (decoder.ended);
        decoder_clear (&decoder);
      }
}

static void
expect_bad_gzip (const GByteArray *in, guint64 max_taken, guint64 max_given, GsErrorCode code)
{
  g_autoptr (GError) error = NULL;
  Decoder decoder;
  assert_true (decoder_init (&decoder, TRUE, max_taken, max_given, NULL));
  inflate_all (&decoder, in, 1000, 4096, &error);
  assert_non_null (error);
  assert_int_equal (error->code, code);
  /* Whatever the input says, not much more than the limit was ever made of it. */
  if (max_given != 0)
    assert_true (decoder.given <= max_given + 4096);
  decoder_clear (&decoder);
}

static void
test_bad_gzip (void **state)
{
  g_autoptr (GByteArray) bomb = gzip (50 * 1000 * 1000, 0);
  g_autoptr (GByteArray) text = gzip (1000, 'x');
  g_autoptr (GByteArray) plain = g_byte_array_new ();
  expect_bad_gzip (bomb, 0, 1000000, GS_ERROR_OUT_OF_RANGE);
  expect_bad_gzip (bomb, 1000, 0, GS_ERROR_OUT_OF_RANGE);
  g_byte_array_append (plain, (const guint8 *) "0032want", 8);
  expect_bad_gzip (plain, 0, 0, GS_ERROR_INVALID_ARGUMENT);
  g_byte_array_append (text, (const guint8 *) "x", 1);
  expect_bad_gzip (text, 0, 0, GS_ERROR_INVALID_ARGUMENT); /* goes on after its end */
  g_byte_array_set_size (text, text->len - 5);
  expect_bad_gzip (text, 0, 0, GS_ERROR_INVALID_ARGUMENT); /* cut short */
  g_byte_array_append (text, (const guint8 *) "\0\0\0\0", 4);
  expect_bad_gzip (text, 0, 0, GS_ERROR_INVALID_ARGUMENT); /* wrong length in its trailer */
  g_byte_array_set_size (plain, 0);
  expect_bad_gzip (plain, 0, 0, GS_ERROR_INVALID_ARGUMENT); /* empty is not gzip */
}

/* ------------------------------------------------------------------------------------------ errors */

static void
test_errors (void **state)
{
  g_autoptr (GBytes) json = http_error_json (GS_ERROR_BUSY, GS_RETRY_SAME, 1500 * 1000, "a \"b\"\\\n\xff", NULL);
  gsize length = 0;
  const char *text = g_bytes_get_data (json, &length);
  const char *expected = "{\"code\":\"BUSY\",\"message\":\"a \\\"b\\\"\\\\\\u000a\xef\xbf\xbd\",\"retry\":\"same\","
                         "\"retry_after_ms\":1500}\n";
  g_autofree char *escaped = http_escape ("/a\n\x1b[31m\\\xc3\xa4");
  g_autofree char *longer = g_strnfill (5000, 'a');
  g_autofree char *cut = http_escape (longer);
  assert_int_equal (length, strlen (expected));
  assert_memory_equal (text, expected, length);
  assert_string_equal (escaped, "/a\\x0a\\x1b[31m\\x5c\\xc3\\xa4");
  assert_int_equal (strlen (cut), 1024);
  assert_int_equal (http_status_of (GS_ERROR_PERMISSION_DENIED, TRUE), 401);
  assert_int_equal (http_status_of (GS_ERROR_PERMISSION_DENIED, FALSE), 403);
  for (int code = 1; code <= 16; code++)
    assert_in_range (http_status_of (code, FALSE), 400, 504);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_routes),   cmocka_unit_test (test_bad_routes), cmocka_unit_test (test_protocol),
    cmocka_unit_test (test_guard),    cmocka_unit_test (test_auth),       cmocka_unit_test (test_inflate),
    cmocka_unit_test (test_bad_gzip), cmocka_unit_test (test_errors),
  };
  return cmocka_run_group_tests_name ("http-parts", tests, NULL, NULL);
}
