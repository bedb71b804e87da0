/* SPDX-License-Identifier: Apache-2.0 */
/* The text forms that the SQL stores share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql.h"

static void
statements (void **state)
{
  static const SqlToken tokens[] = { { "{A}", "one" }, { "{B}", "{A}" }, { NULL, NULL } };
  g_autofree char *text = sql_expand ("x {A} {A} {B} {C}", tokens);
  assert_string_equal (text, "x one one {A} {C}");
  for (int i = 0; i < SQL_N_QUERIES; i++)
    {
      assert_non_null (sql_queries[i]);
      assert_null (strstr (sql_queries[i], "COLUMNS}")); /* fragments are in place */
      assert_null (strchr (sql_queries[i], '?'));        /* parameters have names */
    }
  for (guint i = 0; i < SQL_N_MIGRATIONS; i++)
    {
      assert_int_equal (sql_migrations[i].number, i + 1);
      assert_int_equal (strlen (sql_migrations[i].checksum), 64);
    }
}

static void
same_key (const char *a, const char *b, gboolean same)
{
  g_autofree char *left = sql_path_key (a), *right = sql_path_key (b);
  if ((strcmp (left, right) == 0) != same)
    fail_msg ("%s and %s: keys %s and %s", a, b, left, right);
}

static void
path_keys (void **state)
{
  same_key ("Group/Project.git", "group/PROJECT.GIT", TRUE);
  same_key ("straße", "STRASSE", TRUE);
  same_key ("caf\xc3\xa9", "cafe\xcc\x81", TRUE);
  same_key ("ΣΑΣ", "σας", TRUE);
  same_key ("a/b", "a-b", FALSE);
  same_key ("e", "é", FALSE);
}

static void
path_ranges (void **state)
{
  static const struct
  {
    const char *prefix, *after, *inside, *outside;
  } rows[] = { { "", "", "a", NULL },          { "g/", "", "g/x", "g" }, { "g/", "", "g/\xf0\x9f\x98\x80", "g0" },
               { "g/", "g/m", "g/m0", "g/m" }, { "g/", "a", "g/", "f" }, { "g/", "z", NULL, "g/x" },
               { "g/", "g/", "g/a", "g/" } };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autofree char *first = NULL, *beyond = NULL;
      sql_path_range (rows[i].prefix, rows[i].after, &first, &beyond);
      if (rows[i].inside != NULL)
        assert_true (strcmp (rows[i].inside, first) >= 0 && strcmp (rows[i].inside, beyond) < 0);
      if (rows[i].outside != NULL)
        assert_false (strcmp (rows[i].outside, first) >= 0 && strcmp (rows[i].outside, beyond) < 0);
    }
}

static void
updates_form (void **state)
{
  GsRefUpdate updates[] = {
    { "HEAD", { 0 }, { 0 }, "refs/heads/trunk" },
    { "refs/heads/ü", { .len = 20 }, { .len = 20, .raw = { 0xab } }, NULL },
  };
  g_autoptr (GError) error = NULL;
  g_autoptr (GBytes) bytes = sql_updates_encode (updates, 2, &error);
  g_autofree char *text = NULL;
  g_autoptr (GArray) again = NULL;
  static const char expected[]
      = "- ref:refs/heads/trunk HEAD\n"
        "0000000000000000000000000000000000000000 ab00000000000000000000000000000000000000 refs/heads/ü\n";
  gsize n;
  const char *data = g_bytes_get_data (bytes, &n);
  assert_int_equal (n, strlen (expected)); /* the form is on disk: it never changes */
  assert_memory_equal (data, expected, n);
  again = sql_updates_decode (data, n, &text, &error);
  assert_int_equal (again->len, 2);
  assert_string_equal (g_array_index (again, GsRefUpdate, 0).new_symref, "refs/heads/trunk");
  assert_int_equal (g_array_index (again, GsRefUpdate, 0).old_oid.len, 0);
  assert_int_equal (g_array_index (again, GsRefUpdate, 1).new_oid.raw[0], 0xab);
}

static void
updates_refused (void **state)
{
  static const char *const bad[]
      = { "x", "\n", "- -\n", "- - \n", "- zz name\n", "abc - name\n", "- - name", "- -name\n" };
  static const char *const names[] = { "", "a b", "a\nb", NULL };
  for (gsize i = 0; i < G_N_ELEMENTS (bad); i++)
    {
      g_autoptr (GError) error = NULL;
      g_autofree char *text = NULL;
      assert_null (sql_updates_decode (bad[i], strlen (bad[i]), &text, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_DATA_LOSS);
    }
  for (gsize i = 0; i < G_N_ELEMENTS (names); i++)
    {
      g_autoptr (GError) error = NULL;
      GsRefUpdate update = { .name = names[i], .new_oid = { .len = 20 } };
      assert_null (sql_updates_encode (&update, 1, &error));
      assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
    }
}

static void
voters_form (void **state)
{
  static const char *const three[] = { "a", "b c", "ü", NULL }, *const bad[] = { "a\nb", NULL },
                           *const none[] = { NULL };
  g_autoptr (GError) error = NULL, second = NULL;
  g_autofree char *text = sql_voters_encode (three, NULL);
  g_auto (GStrv) again = sql_voters_decode (text);
  assert_string_equal (text, "a\nb c\nü");
  assert_int_equal (g_strv_length (again), 3);
  assert_null (sql_voters_encode (bad, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
  assert_null (sql_voters_encode (none, &second));
  assert_int_equal (gs_error_code (second), GS_ERROR_INVALID_ARGUMENT);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (statements),   cmocka_unit_test (path_keys),       cmocka_unit_test (path_ranges),
          cmocka_unit_test (updates_form), cmocka_unit_test (updates_refused), cmocka_unit_test (voters_form) };
  return cmocka_run_group_tests_name ("metadata-sql", tests, NULL, NULL);
}
