/* SPDX-License-Identifier: Apache-2.0 */
/* What errors carry for programs: entries, and that they stay through all that happens to a GError on its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gitstead/v1/ref.pb-c.h"
#include "details.h"

typedef struct
{
  GsArena *arena;
  const Gitstead__V1__ErrorDetails *details;
} Read;

static Read
read_details (const GError *error, gsize n)
{
  Read read = { gs_arena_new (256 * 1024), NULL };
  read.details = gs_details (error, read.arena);
  assert_non_null (read.details);
  assert_int_equal (read.details->n_entries, n);
  return read;
}

static void
entries (void **state)
{
  GError *error = NULL;
  Read read;
  assert_false (gs_detail_field (NULL, "x")); /* nobody asked */
  assert_false (gs_detail_field (&error, "x"));
  assert_null (error);
  gs_fail (&error, GS_ERROR_BUSY, "full");
  assert_null (gs_details (error, NULL));
  assert_false (gs_detail_limit (&error, "server.streams", 5, 6));
  assert_false (gs_detail_field (&error, "updates[41].old_oid"));
  assert_false (gs_detail_name (&error, "ref", "refs/heads/\xff")); /* names are bytes */
  assert_false (gs_detail_differs (&error, NULL, "ref", "refs/heads/x", "12", "\xff"));
  read = read_details (error, 4);
  assert_int_equal (read.details->entries[0]->status, GS_ERROR_BUSY);
  assert_string_equal (read.details->entries[0]->type, "limit");
  assert_int_equal (read.details->entries[0]->limit, 5);
  assert_int_equal (read.details->entries[0]->value, 6);
  assert_int_equal (read.details->entries[1]->entry, 42);
  assert_memory_equal (read.details->entries[2]->name.data, "refs/heads/\xff", 12);
  assert_string_equal (read.details->entries[3]->expected, "12");
  assert_string_equal (read.details->entries[3]->actual, "\xef\xbf\xbd"); /* a string on the wire */
  gs_arena_free (read.arena);
  g_error_free (error);
}

/* All that is done to errors between whoever makes them and whoever tells them. */
static void
travels (void **state)
{
  GError *error = NULL, *moved = NULL;
  g_autoptr (GError) copy = NULL;
  Read read;
  gs_fail (&error, GS_ERROR_NOT_FOUND, "none");
  gs_detail_field (&error, "path");
  g_prefix_error (&error, "here: ");
  copy = g_error_copy (error);
  g_propagate_prefixed_error (&moved, error, "there: ");
  gs_detail_below (&moved, "actions[3]");
  read = read_details (moved, 1);
  assert_string_equal (read.details->entries[0]->field, "actions[3].path");
  assert_int_equal (read.details->entries[0]->entry, 4);
  gs_arena_free (read.arena);
  g_error_free (moved);
  read = read_details (copy, 1); /* its own, not the moved one's */
  assert_string_equal (read.details->entries[0]->field, "path");
  assert_int_equal (read.details->entries[0]->entry, 0);
  gs_details_set (copy, read.details);
  gs_arena_free (read.arena);
  read = read_details (copy, 1);
  gs_arena_free (read.arena);
  gs_details_set (copy, NULL);
  assert_null (gs_details (copy, NULL));
}

static void
bounded (void **state)
{
  g_autofree char *longest = g_strnfill (3000, 'x');
  g_autofree guint8 *much = g_malloc0 (GS_ERROR_DETAILS_MAX + 1);
  GError *error = NULL;
  gsize n;
  Read read;
  gs_fail (&error, GS_ERROR_INVALID_ARGUMENT, "much");
  for (guint i = 0; i < 1000; i++)
    gs_detail_field (&error, longest);
  read = read_details (error, 2); /* as many as fit */
  gs_arena_free (read.arena);
  gs_error_set_details (error, much, GS_ERROR_DETAILS_MAX + 1);
  assert_null (gs_error_details (error, &n));
  assert_int_equal (n, 0);
  g_error_free (error);
}

/* Errors of others are left alone, and what is no message is none. */
static void
foreign (void **state)
{
  GError *error = g_error_new_literal (G_FILE_ERROR, G_FILE_ERROR_NOENT, "file");
  g_autoptr (GsArena) arena = gs_arena_new (4096);
  gsize n = 7;
  gs_detail_field (&error, "x");
  gs_details_set (error, NULL);
  assert_null (gs_error_details (error, &n));
  assert_int_equal (n, 0);
  g_clear_error (&error);
  gs_fail (&error, GS_ERROR_INTERNAL, "nonsense");
  gs_error_set_details (error, (const guint8 *) "\x0a\xff", 2);
  assert_null (gs_details (error, arena));
  g_error_free (error);
}

/* A string that is no UTF-8 is told with its path. */
static void
decoding (void **state)
{
  static const guint8 bad[] = { 0x12, 0, 0x12, 3, 0x12, 1, 0xff }; /* updates: {}, {old_oid: …} */
  g_autoptr (GsArena) arena = gs_arena_new (65536);
  g_autoptr (GError) error = NULL;
  Read read;
  assert_null (gs_wire_decode (arena, &gitstead__v1__ref_update_request__descriptor, bad, sizeof bad, &error));
  read = read_details (error, 1);
  assert_string_equal (read.details->entries[0]->field, "updates[1].old_oid");
  assert_int_equal (read.details->entries[0]->entry, 2);
  gs_arena_free (read.arena);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (entries), cmocka_unit_test (travels), cmocka_unit_test (bounded),
                                      cmocka_unit_test (foreign), cmocka_unit_test (decoding) };
  cmocka_set_message_output (CM_OUTPUT_TAP);
  return cmocka_run_group_tests (tests, NULL, NULL);
}
