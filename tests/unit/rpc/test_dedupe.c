/* SPDX-License-Identifier: Apache-2.0 */
/* At most once, as plain data: verdicts, heirs, what is kept, for how long and how much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/dedupe.h"

#include <string.h>

/* Stand for calls; only their addresses count. */
static char calls[8];

static GsiDedupeKey
key_of (const char *caller, const char *id, guint8 hash, gboolean stream)
{
  GsiDedupeKey key = { .caller = caller, .method = 202, .stream = stream, .hash = { hash } };
  g_strlcpy ((char *) key.id.bytes, id, sizeof key.id.bytes);
  return key;
}

static GsiDedupeVerdict
enter (GsiDedupe *d, const char *caller, const char *id, guint8 hash, gpointer call, gint64 now,
       GsiDedupeEntry **entry, int *ret_code)
{
  GsiDedupeKey key = key_of (caller, id, hash, FALSE);
  g_autoptr (GsiEnd) end = NULL;
  GsiDedupeVerdict verdict = gsi_dedupe_enter (d, &key, call, now, entry, &end);
  assert_int_equal (end != NULL, verdict == GSI_DEDUPE_KEPT);
  if (end != NULL && ret_code != NULL)
    *ret_code = end->code;
  return verdict;
}

static GPtrArray *
finish (GsiDedupe *d, GsiDedupeEntry *entry, GsErrorCode code, gboolean may_inherit, gint64 now, gpointer *heir)
{
  g_autoptr (GsiEnd) end = gsi_end_new (code, code == GS_OK ? NULL : "no", 0, NULL);
  return gsi_dedupe_finish (d, entry, end, may_inherit, now, heir);
}

static void
verdicts (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 10, 100000);
  GsiDedupeEntry *entry = NULL, *other = NULL;
  gpointer heir;
  int code = -1;
  assert_int_equal (enter (d, "ann", "1", 1, &calls[0], 0, &entry, NULL), GSI_DEDUPE_LEAD);
  assert_int_equal (enter (d, "bob", "1", 1, &calls[1], 0, &other, NULL), GSI_DEDUPE_LEAD);
  assert_ptr_not_equal (entry, other);
  assert_int_equal (enter (d, "ann", "1", 2, &calls[2], 0, &other, NULL), GSI_DEDUPE_OTHER);
  assert_false (gsi_dedupe_awaited (entry));
  assert_int_equal (enter (d, "ann", "1", 1, &calls[3], 0, &other, NULL), GSI_DEDUPE_JOIN);
  assert_ptr_equal (other, entry);
  assert_int_equal (enter (d, "ann", "1", 1, &calls[4], 0, &other, NULL), GSI_DEDUPE_JOIN);
  assert_true (gsi_dedupe_awaited (entry));
  gsi_dedupe_leave (entry, &calls[3]);
  g_autoptr (GPtrArray) others = finish (d, entry, GS_OK, TRUE, 0, &heir);
  assert_null (heir);
  assert_int_equal (others->len, 1);
  assert_ptr_equal (others->pdata[0], &calls[4]);
  assert_int_equal (gsi_dedupe_kept (d), 1);
  assert_int_equal (enter (d, "ann", "1", 1, &calls[5], 999, &other, &code), GSI_DEDUPE_KEPT);
  assert_int_equal (code, GS_OK);
  assert_int_equal (enter (d, "ann", "1", 2, &calls[5], 999, &other, NULL), GSI_DEDUPE_OTHER);
  assert_int_equal (enter (d, "ann", "1", 2, &calls[5], 1000, &other, NULL), GSI_DEDUPE_LEAD); /* time is over */
  gsi_dedupe_free (d);
}

static void
heirs (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 10, 100000);
  GsiDedupeEntry *entry = NULL;
  gpointer heir;
  enter (d, "ann", "1", 1, &calls[0], 0, &entry, NULL);
  enter (d, "ann", "1", 1, &calls[1], 0, &entry, NULL);
  enter (d, "ann", "1", 1, &calls[2], 0, &entry, NULL);
  assert_null (finish (d, entry, GS_ERROR_CANCELLED, TRUE, 0, &heir));
  assert_ptr_equal (heir, &calls[1]);
  assert_null (finish (d, entry, GS_ERROR_DEADLINE_EXCEEDED, TRUE, 0, &heir));
  assert_ptr_equal (heir, &calls[2]);
  assert_null (finish (d, entry, GS_ERROR_CANCELLED, TRUE, 0, &heir)); /* nobody is left */
  assert_null (heir);
  assert_int_equal (enter (d, "ann", "1", 9, &calls[3], 0, &entry, NULL), GSI_DEDUPE_LEAD);
  enter (d, "ann", "1", 9, &calls[4], 0, &entry, NULL);
  g_autoptr (GPtrArray) others = finish (d, entry, GS_ERROR_CANCELLED, FALSE, 0, &heir);
  assert_null (heir);
  assert_int_equal (others->len, 1);
  gsi_dedupe_free (d);
}

static void
what_is_kept (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 100, 100000);
  for (int code = 0; code <= GS_ERROR_UNAUTHENTICATED; code++)
    {
      GsiDedupeEntry *entry = NULL;
      gpointer heir;
      int kept = -1;
      g_autofree char *id = g_strdup_printf ("%d", code);
      enter (d, "ann", id, 1, &calls[0], 0, &entry, NULL);
      assert_null (finish (d, entry, code, TRUE, 0, &heir));
      GsiDedupeVerdict verdict = enter (d, "ann", id, 1, &calls[1], 0, &entry, &kept);
      if (gs_error_retry (code) == GS_RETRY_SAME)
        assert_int_equal (verdict, GSI_DEDUPE_LEAD);
      else
        {
          assert_int_equal (verdict, GSI_DEDUPE_KEPT);
          assert_int_equal (kept, code);
        }
    }
  gsi_dedupe_free (d);
}

static void
bounds (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 3, 5000);
  GsiDedupeEntry *entry = NULL;
  gpointer heir;
  for (int i = 0; i < 5; i++)
    {
      g_autofree char *id = g_strdup_printf ("%d", i);
      enter (d, "ann", id, 1, &calls[0], i, &entry, NULL);
      finish (d, entry, GS_OK, TRUE, i, &heir);
    }
  assert_int_equal (gsi_dedupe_kept (d), 3);
  assert_int_equal (enter (d, "ann", "4", 1, &calls[0], 5, &entry, NULL), GSI_DEDUPE_KEPT);
  assert_int_equal (enter (d, "ann", "0", 1, &calls[0], 5, &entry, NULL), GSI_DEDUPE_LEAD); /* the oldest went */

  g_autoptr (GBytes) large = g_bytes_new_take (g_malloc0 (4000), 4000);
  g_autoptr (GsiEnd) end = gsi_end_new (GS_OK, NULL, 0, large);
  assert_null (gsi_dedupe_finish (d, entry, end, TRUE, 6, &heir));
  assert_true (gsi_dedupe_kept (d) >= 1 && gsi_dedupe_kept (d) < 4);
  assert_int_equal (enter (d, "ann", "0", 1, &calls[0], 7, &entry, NULL), GSI_DEDUPE_KEPT);
  g_autoptr (GBytes) huge = g_bytes_new_take (g_malloc0 (6000), 6000);
  g_autoptr (GsiEnd) huge_end = gsi_end_new (GS_OK, NULL, 0, huge);
  enter (d, "ann", "huge", 1, &calls[0], 8, &entry, NULL);
  assert_null (gsi_dedupe_finish (d, entry, huge_end, TRUE, 8, &heir));
  assert_int_equal (gsi_dedupe_kept (d), 0); /* it does not fit, and pushed out all the others */
  gsi_dedupe_free (d);
}

static void
sweeping (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 100, 100000);
  GsiDedupeEntry *entry = NULL, *running = NULL;
  gpointer heir;
  enter (d, "ann", "0", 1, &calls[0], 0, &running, NULL);
  for (int i = 1; i < 5; i++)
    {
      g_autofree char *id = g_strdup_printf ("%d", i);
      enter (d, "ann", id, 1, &calls[i], i, &entry, NULL);
      finish (d, entry, GS_OK, TRUE, 100 * i, &heir);
    }
  gsi_dedupe_sweep (d, 1199);
  assert_int_equal (gsi_dedupe_kept (d), 3);
  gsi_dedupe_sweep (d, 5000);
  assert_int_equal (gsi_dedupe_kept (d), 0);
  assert_int_equal (enter (d, "ann", "0", 1, &calls[1], 5000, &entry, NULL), GSI_DEDUPE_JOIN); /* it still runs */
  gsi_dedupe_free (d);
}

static void
streams (void **state)
{
  GsiDedupe *d = gsi_dedupe_new (1000, 100, 100000);
  GsiDedupeKey key = key_of ("ann", "1", 1, TRUE), failing = key_of ("ann", "2", 1, TRUE);
  GsiDedupeEntry *entry = NULL, *other = NULL;
  GsiEnd *end = NULL;
  gpointer heir;
  assert_int_equal (gsi_dedupe_enter (d, &key, &calls[0], 0, &entry, &end), GSI_DEDUPE_LEAD);
  assert_int_equal (gsi_dedupe_enter (d, &key, &calls[1], 0, &other, &end), GSI_DEDUPE_STREAMING);
  /* It ended well and wrote nothing, as a push that was refused: nobody must be told that it succeeded. */
  finish (d, entry, GS_OK, TRUE, 0, &heir);
  assert_int_equal (gsi_dedupe_enter (d, &key, &calls[1], 0, &entry, &end), GSI_DEDUPE_LEAD);
  g_autoptr (GsiEnd) wrote = gsi_end_new (GS_OK, NULL, 0, NULL);
  wrote->generation = 7;
  assert_null (gsi_dedupe_finish (d, entry, wrote, TRUE, 0, &heir));
  assert_int_equal (gsi_dedupe_enter (d, &key, &calls[1], 0, &other, &end), GSI_DEDUPE_STREAMED);
  assert_int_equal (gsi_dedupe_enter (d, &failing, &calls[0], 0, &entry, &end), GSI_DEDUPE_LEAD);
  finish (d, entry, GS_ERROR_INVALID_ARGUMENT, TRUE, 0, &heir);
  assert_int_equal (gsi_dedupe_enter (d, &failing, &calls[1], 0, &other, &end), GSI_DEDUPE_KEPT);
  assert_int_equal (end->code, GS_ERROR_INVALID_ARGUMENT);
  gsi_end_unref (end);
  gsi_dedupe_free (d);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (verdicts), cmocka_unit_test (heirs),    cmocka_unit_test (what_is_kept),
    cmocka_unit_test (bounds),   cmocka_unit_test (sweeping), cmocka_unit_test (streams),
  };
  return cmocka_run_group_tests_name ("rpc-dedupe", tests, NULL, NULL);
}
