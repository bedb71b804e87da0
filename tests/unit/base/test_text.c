/* SPDX-License-Identifier: Apache-2.0 */
/* Words for people: distances, escaping, sizes and durations there and back. */
#include "base/clock.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
test_distance (void **state)
{
  static const struct
  {
    const char *a, *b;
    guint distance;
  } cases[] = {
    { "", "", 0 },         { "", "abc", 3 },           { "workers", "workers", 0 }, { "wrokers", "workers", 1 },
    { "sise", "size", 1 }, { "kitten", "sitting", 3 }, { "ca", "abc", 3 },          { "log_levle", "log_level", 1 }
  };
  g_autofree char *longer = g_strnfill (65, 'a');

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      assert_int_equal (gsi_text_distance (cases[i].a, cases[i].b), cases[i].distance);
      assert_int_equal (gsi_text_distance (cases[i].b, cases[i].a), cases[i].distance);
    }
  assert_int_equal (gsi_text_distance (longer, longer), 0);
  assert_int_equal (gsi_text_distance (longer, "a"), G_MAXUINT);
}

static void
test_nearest (void **state)
{
  static const char *const words[] = { "path", "size", NULL, "timeout", "log_level" };

  assert_string_equal (gsi_text_nearest ("pth", words, 5), "path");
  assert_string_equal (gsi_text_nearest ("time_out", words, 5), "timeout");
  assert_string_equal (gsi_text_nearest ("loglevel", words, 5), "log_level");
  assert_null (gsi_text_nearest ("colour", words, 5));
  assert_null (gsi_text_nearest ("path", words, 0));
}

static void
test_escaping (void **state)
{
  static const struct
  {
    const char *text, *json, *human;
  } cases[] = {
    { "plain", "\"plain\"", "plain" },
    { "", "\"\"", "\"\"" },
    { "a b", "\"a b\"", "\"a b\"" },
    { "say \"x\"", "\"say \\\"x\\\"\"", "\"say \\\"x\\\"\"" },
    { "a\nb\x1b[31m", "\"a\\nb\\u001b[31m\"", "a\\nb\\x1b[31m" },
    { "caf\xc3\xa9", "\"caf\xc3\xa9\"", "caf\xc3\xa9" },
    { "\xff\xfe", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\\xff\\xfe" },
    { "a\xc3", "\"a\xef\xbf\xbd\"", "a\\xc3" },
    { "\xc2\x9b", "\"\xc2\x9b\"", "\\xc2\\x9b" }, /* a C1 control: harmless in JSON, not on a terminal */
    { "k=v", "\"k=v\"", "\"k=v\"" },
    { "back\\slash", "\"back\\\\slash\"", "\"back\\\\slash\"" },
  };

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (GString) json = g_string_new (NULL), human = g_string_new (NULL);
      gsi_text_append_json (json, cases[i].text, -1);
      gsi_text_append_escaped (human, cases[i].text, -1, TRUE);
      assert_string_equal (json->str, cases[i].json);
      assert_string_equal (human->str, cases[i].human);
    }
}

static void
test_messages (void **state)
{
  static const struct
  {
    const char *text, *shown;
  } cases[] = {
    { "in \"a\\\\b\": one of \\ :", "in \"a\\\\b\": one of \\ :" }, /* quoted already: not once more */
    { "one\ntwo\n", "one\n  two" },
    { "a\x1b[31m\tb\xff\xc2\x9b", "a\\x1b[31m\\tb\\xff\\xc2\\x9b" },
    { "\n", "" },
  };
  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autoptr (GString) shown = g_string_new (NULL);
      gsi_text_append_message (shown, cases[i].text);
      assert_string_equal (shown->str, cases[i].shown);
    }
}

static void
test_sizes (void **state)
{
  static const struct
  {
    const char *text;
    gint64 bytes;
    const char *people, *exact;
  } cases[] = { { "0", 0, "0 B", "0" },
                { "512", 512, "512 B", "512B" },
                { "4096B", 4096, "4 KiB", "4KiB" },
                { "1536KiB", 1536 * 1024, "1.5 MiB", "1536KiB" },
                { "10MiB", 10 << 20, "10 MiB", "10MiB" },
                { "3GiB", G_GINT64_CONSTANT (3) << 30, "3 GiB", "3GiB" },
                { "2TiB", G_GINT64_CONSTANT (2) << 40, "2 TiB", "2TiB" } };
  static const char *const wrong[]
      = { "", "x", "-1", "1.5MiB", "10 MiB", "10MB", "10mib", "99999999999999999999", "9000000TiB" };
  gint64 value = 77;

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *people = NULL, *exact = NULL;
      assert_true (gsi_text_parse_size (cases[i].text, &value, NULL));
      assert_int_equal (value, cases[i].bytes);
      people = gsi_text_size ((guint64) value);
      exact = gsi_text_size_exact (value);
      assert_string_equal (people, cases[i].people);
      assert_string_equal (exact, cases[i].exact);
    }
  value = 77;
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++)
    {
      g_autoptr (GError) error = NULL;
      assert_false (gsi_text_parse_size (wrong[i], &value, &error));
      assert_non_null (strstr (error->message, "wants a size"));
      assert_int_equal (value, 77);
    }
}

static void
test_durations (void **state)
{
  static const struct
  {
    const char *text;
    gint64 us;
    const char *people, *exact;
  } cases[] = { { "0", 0, "0 s", "0" },
                { "250us", 250, "250 µs", "250us" },
                { "500ms", 500000, "500 ms", "500ms" },
                { "1.5s", 1500000, "1.5 s", "1500ms" },
                { "90s", 90000000, "1.5 min", "90s" },
                { "3m", 180000000, "3 min", "3m" },
                { "2h", G_GINT64_CONSTANT (7200000000), "2 h", "2h" },
                { "1d", G_GINT64_CONSTANT (86400000000), "1 d", "1d" } };
  static const char *const wrong[] = { "", "5", "s", "-1s", "1.s", ".5s", "1 s", "5min", "1.2345678s", "200000000d" };
  gint64 value = 77;

  for (guint i = 0; i < G_N_ELEMENTS (cases); i++)
    {
      g_autofree char *people = NULL, *exact = NULL;
      assert_true (gsi_text_parse_duration (cases[i].text, &value, NULL));
      assert_int_equal (value, cases[i].us);
      people = gsi_text_duration (value);
      exact = gsi_text_duration_exact (value);
      assert_string_equal (people, cases[i].people);
      assert_string_equal (exact, cases[i].exact);
    }
  value = 77;
  for (guint i = 0; i < G_N_ELEMENTS (wrong); i++)
    {
      g_autoptr (GError) error = NULL;
      assert_false (gsi_text_parse_duration (wrong[i], &value, &error));
      assert_non_null (strstr (error->message, "wants a duration"));
      assert_int_equal (value, 77);
    }
}

static void
test_numbers (void **state)
{
  gint64 value = 0;
  gboolean flag = FALSE;

  assert_true (gsi_text_parse_integer ("-12", &value, NULL));
  assert_int_equal (value, -12);
  assert_true (gsi_text_parse_integer ("+9223372036854775807", &value, NULL));
  assert_true (value == G_MAXINT64);
  assert_false (gsi_text_parse_integer ("9223372036854775808", &value, NULL));
  assert_false (gsi_text_parse_integer ("0x10", &value, NULL));
  assert_false (gsi_text_parse_integer ("", &value, NULL));
  assert_true (gsi_text_parse_boolean ("true", &flag, NULL));
  assert_true (flag);
  assert_false (gsi_text_parse_boolean ("yes", &flag, NULL));
}

static void
test_times (void **state)
{
  char text[GSI_CLOCK_TEXT_SIZE];
  guint8 a[32], b[32];

  gsi_clock_text (G_GINT64_CONSTANT (1735689599000042), text);
  assert_string_equal (text, "2024-12-31T23:59:59.000042Z");
  gsi_clock_text (-1, text);
  assert_string_equal (text, "1969-12-31T23:59:59.999999Z");
  gsi_random (a, sizeof a);
  gsi_random (b, sizeof b);
  assert_memory_not_equal (a, b, sizeof a);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_distance), cmocka_unit_test (test_nearest),   cmocka_unit_test (test_escaping), cmocka_unit_test (test_messages),
    cmocka_unit_test (test_sizes),    cmocka_unit_test (test_durations), cmocka_unit_test (test_numbers),
    cmocka_unit_test (test_times),
  };
  return cmocka_run_group_tests (tests, NULL, NULL);
}
