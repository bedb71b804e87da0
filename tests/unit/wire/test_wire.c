/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded decoding: hostile messages are refused with a reason and never cost more than the budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gitstead/v1/ref.pb-c.h"
#include "gitstead/v1/repository.pb-c.h"
#include "wire.h"

#define UPDATE &gitstead__v1__ref_update_request__descriptor
#define EXISTS &gitstead__v1__repository_exists_request__descriptor

static void
refuses (const ProtobufCMessageDescriptor *type, const void *bytes, gsize n, gsize budget, int code, const char *says)
{
  g_autoptr (GsArena) arena = gs_arena_new (budget);
  g_autoptr (GError) error = NULL;
  assert_null (gs_wire_decode (arena, type, bytes, n, &error));
  assert_int_equal (gs_error_code (error), code);
  assert_non_null (strstr (error->message, says));
}

static void
round_trip (void **state)
{
  Gitstead__V1__Repository repository = GITSTEAD__V1__REPOSITORY__INIT;
  Gitstead__V1__RepositoryExistsRequest request = GITSTEAD__V1__REPOSITORY_EXISTS_REQUEST__INIT, *again;
  g_autoptr (GsArena) arena = gs_arena_new (4096);
  repository.path = (char *) "a/b.git";
  request.repository = &repository;
  g_autoptr (GBytes) bytes = gs_wire_encode (&request.base);
  again = (void *) gs_wire_decode (arena, EXISTS, g_bytes_get_data (bytes, NULL), g_bytes_get_size (bytes), NULL);
  assert_non_null (again);
  assert_string_equal (again->repository->path, "a/b.git");
}

static void
hostile (void **state)
{
  static const guint8 bad_utf8[] = { 0x0a, 3, 0x12, 1, 0xff }, nul[] = { 0x0a, 5, 0x12, 3, 'a', 0, 'b' };
  static const guint8 truncated[] = { 0x0a, 50, 0x12, 1 };
  gsize n = 512 * 1024;
  g_autofree guint8 *bomb = g_malloc (n);
  refuses (EXISTS, bad_utf8, sizeof bad_utf8, 65536, GS_ERROR_INVALID_ARGUMENT, "Repository.path: not valid UTF-8");
  refuses (EXISTS, nul, sizeof nul, 65536, GS_ERROR_INVALID_ARGUMENT, "Repository.path: contains a NUL byte");
  refuses (EXISTS, truncated, sizeof truncated, 65536, GS_ERROR_INVALID_ARGUMENT, "RepositoryExistsRequest");
  for (gsize i = 0; i < n; i += 2)
    {
      bomb[i] = 0x12; /* an empty RefUpdate */
      bomb[i + 1] = 0;
    }
  refuses (UPDATE, bomb, n, 1024 * 1024, GS_ERROR_OUT_OF_RANGE, "more memory");
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (round_trip), cmocka_unit_test (hostile) };
  return cmocka_run_group_tests_name ("wire", tests, NULL, NULL);
}
