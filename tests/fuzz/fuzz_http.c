/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What transport/http reads by itself: a request's path, its headers, its credentials, its body when that is gzip. An input is
 * a request as it stands on the wire.
 */
#include "fuzz.h"

#include "auth.h"
#include "decode.h"
#include "guard.h"
#include "route.h"

#include <string.h>

#define ROOM 512
#define INFLATED_MAX (1024 * 1024)

static void
try_route (const char *line)
{
  g_autoptr (GError) error = NULL;
  const char *space = strchr (line, ' ');
  g_autofree char *uri = space != NULL ? g_strdup (space + 1) : g_strdup (line);
  char *end = strchr (uri, ' ');
  Route route = { 0 };
  if (end != NULL)
    *end = '\0';
  if (!route_parse (uri, &route, &error))
    {
      FUZZ_CHECK (gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT);
      return;
    }
  FUZZ_CHECK (route.kind < ROUTE_COUNT && route_name (route.kind) != NULL);
  FUZZ_CHECK (route.target == NULL || g_utf8_validate (route.target, -1, NULL));
  FUZZ_CHECK (route.target == NULL || strstr (route.target, "/../") == NULL);
  route_clear (&route);
}

static void
try_headers (char **lines)
{
  Guard guard = { 0 };
  g_autoptr (GError) error = NULL;
  const char *why = NULL;
  Auth auth = { 0 };
  for (gsize i = 0; lines[i] != NULL; i++)
    {
      char *colon = strchr (lines[i], ':'), *value = colon != NULL ? colon + 1 : NULL;
      if (value == NULL)
        continue;
      *colon = '\0';
      while (*value == ' ')
        value++;
      guard_header (&guard, lines[i], strlen (lines[i]), value, strlen (value));
    }
  guint status = guard_check (&guard, TRUE, &why);
  FUZZ_CHECK ((status == 0) == (why == NULL));
  FUZZ_CHECK (status == 0 || (status >= 400 && status < 600));
  if (guard.git_protocol != NULL && route_protocol_valid (guard.git_protocol))
    FUZZ_CHECK (route_protocol_version (guard.git_protocol) >= 0);
  if (auth_parse (guard.authorization, &auth, &error))
    auth_clear (&auth);
  else
    FUZZ_CHECK (gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT || gs_error_code (error) == GS_ERROR_UNAUTHENTICATED);
}

static void
try_body (const guint8 *data, gsize len, gboolean gzip)
{
  g_autoptr (GError) error = NULL;
  guint8 room[ROOM];
  gsize wrote = ROOM;
  guint64 given = 0;
  Decoder decoder;
  FUZZ_CHECK (decoder_init (&decoder, gzip, 0, INFLATED_MAX, &error));
  while (error == NULL && (len > 0 || wrote == ROOM))
    {
      gsize before = len;
      if (!decoder_run (&decoder, &data, &len, room, ROOM, &wrote, &error))
        break;
      given += wrote;
      FUZZ_CHECK (wrote <= ROOM && len <= before && given <= INFLATED_MAX);
    }
  if (error == NULL)
    decoder_end (&decoder, &error);
  FUZZ_CHECK (error == NULL || gs_error_code (error) == GS_ERROR_INVALID_ARGUMENT || gs_error_code (error) == GS_ERROR_OUT_OF_RANGE);
  decoder_clear (&decoder);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  const guint8 *end = memmem (data, size, "\r\n\r\n", 4);
  gsize head = end != NULL ? (gsize) (end - data) : size;
  g_autofree char *text = g_strndup ((const char *) data, head);
  g_auto (GStrv) lines = g_strsplit (text, "\r\n", 64);
  if (lines[0] == NULL)
    return 0;
  try_route (lines[0]);
  try_headers (lines + 1);
  if (end != NULL)
    try_body (end + 4, size - head - 4, TRUE);
  return 0;
}

static void
add (GPtrArray *seeds, const char *text, gconstpointer body, gsize len)
{
  GByteArray *bytes = g_byte_array_new ();
  g_byte_array_append (bytes, (const guint8 *) text, (guint) strlen (text));
  g_byte_array_append (bytes, body, (guint) len);
  g_ptr_array_add (seeds, g_byte_array_free_to_bytes (bytes));
}

GPtrArray *
fuzz_seeds (void)
{
  static const guint8 gzip[] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x33, 0x30, 0x34, 0x32, 0xcd, 0x4b, 0x2c, 0xc9, 0xcc, 0xcf, 0xe3,
                                 2, 0, 0x2b, 0x0a, 0x52, 0x47, 0x0b, 0, 0, 0 };
  GPtrArray *seeds = g_ptr_array_new_with_free_func ((GDestroyNotify) g_bytes_unref);
  add (seeds,
       "GET /group/project.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: a\r\nGit-Protocol: version=2:x\r\n"
       "Authorization: Basic Z2l0OnBhc3N3b3Jk\r\n\r\n",
       "", 0);
  add (seeds,
       "POST /group/project/git-upload-pack HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-git-upload-pack-request\r\n"
       "Content-Encoding: gzip\r\nContent-Length: 31\r\nExpect: 100-continue\r\n\r\n",
       gzip, sizeof gzip);
  add (seeds,
       "POST /api/v1/Repository/Get HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer gs_000102030405_x\r\n"
       "Gitstead-Timeout-Ms: 100\r\n\r\n",
       "{}", 2);
  add (seeds, "GET /a%2fb/%2e%2e/c.git/HEAD HTTP/1.1\r\n\r\n", "", 0);
  add (seeds, "GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "", 0);
  return seeds;
}
