/* SPDX-License-Identifier: Apache-2.0 */
/* Repository paths: one normal form, and every trick with dots, cases, suffixes and bytes refused with a place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/path.h"

#include <string.h>

static void
becomes (const char *input, const char *normal)
{
  g_autofree char *path = NULL;
  g_autoptr (GError) error = NULL;
  gboolean good = gsi_path_normalize (input, &path, &error);
  if (!good)
    fail_msg ("%s: %s", input, error->message);
  assert_string_equal (path, normal);
  g_autofree char *again = NULL;
  assert_true (gsi_path_normalize (path, &again, NULL));
  assert_string_equal (again, normal);
}

static void
refused (const char *input, const char *says)
{
  char *path = (char *) "untouched";
  g_autoptr (GError) error = NULL;
  if (gsi_path_normalize (input, &path, &error))
    fail_msg ("\"%s\" was taken as %s", input, path);
  assert_string_equal (path, "untouched");
  assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
  if (strstr (error->message, says) == NULL)
    fail_msg ("\"%s\": \"%s\" does not say \"%s\"", input, error->message, says);
  assert_true (g_utf8_validate (error->message, -1, NULL));
  assert_null (strpbrk (error->message, "\n\r\033"));
}

static void
good_ones (void **state)
{
  becomes ("a", "a.git");
  becomes ("a.git", "a.git");
  becomes ("group/project", "group/project.git");
  becomes ("group/sub/project.git", "group/sub/project.git");
  becomes ("a.b/c.d", "a.b/c.d.git");
  becomes ("a b/c d", "a b/c d.git");
  becomes ("gitx.gitx", "gitx.gitx.git");
  becomes ("a.gi", "a.gi.git");
  becomes ("git", "git.git");
  becomes ("x-._y/+@=,;!$&'()", "x-._y/+@=,;!$&'().git");
  becomes ("gr\xc3\xbc\xc3\x9f" "e/\xe6\x97\xa5\xe6\x9c\xac", "gr\xc3\xbc\xc3\x9f" "e/\xe6\x97\xa5\xe6\x9c\xac.git");
  becomes ("lock", "lock.git");
  becomes ("a.locks", "a.locks.git");
}

static void
bad_ones (void **state)
{
  refused ("", "it is empty");
  refused ("/", "begins with '/'");
  refused ("/etc/passwd", "begins with '/'");
  refused ("a/", "ends with '/'");
  refused ("a//b", "at byte 2: an empty segment");
  refused (".", "begins with '.'");
  refused ("..", "begins with '.'");
  refused ("../a", "at byte 0");
  refused ("a/../b", "at byte 2, in \"..\": it begins with '.'");
  refused ("a/./b", "at byte 2");
  refused ("a/..", "at byte 2");
  refused (".git", "begins with '.'");
  refused ("a/.git", "begins with '.'");
  refused (".hidden/a", "begins with '.'");
  refused ("-rf", "begins with '-'");
  refused ("a/--upload-pack=x", "at byte 2");
  refused ("a.", "ends with '.'");
  refused ("a..git", "ends with '.'");
  refused ("a./b", "ends with '.'");
  refused ("a.lock", "\".lock\"");
  refused ("a.LOCK/b", "\".lock\"");
  refused ("a.lock.git", "\".lock\"");
  refused ("a.GIT", "small letters");
  refused ("a.Git", "small letters");
  refused ("a.GIT/b", "small letters");
  refused ("a.git/b", "only the last segment");
  refused ("a.git/hooks/post-receive", "only the last segment");
  refused ("a.git/.git", "only the last segment");
  refused ("a.git.git", "twice");
  refused ("a.GIT.git", "twice");
  refused ("a\nb", "at byte 1, in \"a\\nb\": a control character");
  refused ("a\x7f", "control");
  refused ("a\xc2\x85" "b", "control");
  refused ("\033[31ma", "control");
  refused ("a\\b", "one of");
  refused ("C:/a", "one of");
  refused ("a?b", "one of");
  refused ("a*", "one of");
  refused ("a[b]", "one of");
  refused ("~root/a", "one of");
  refused ("a^b", "one of");
  refused ("host:a", "at byte 4");
  refused (" a", "begins with a space");
  refused ("a ", "ends with a space");
  refused ("a .git", "ends with a space");
  refused ("a/ /b", "at byte 2");
  refused ("a\xe2\x80\x82/b", "ends with a space");
  refused ("a\xe2\x80\xae" "b", "invisible");
  refused ("a\xe2\x80\x8b", "invisible");
  refused ("\xef\xbb\xbf" "a", "invisible");
  refused ("a\xff", "at byte 1: not UTF-8");
  refused ("a/\xc0\xae\xc0\xae/b", "at byte 2: not UTF-8");
  refused ("\xed\xa0\x80", "not UTF-8");
}

static char *
repeat (char c, gsize n)
{
  char *text = g_malloc (n + 1);
  memset (text, c, n);
  text[n] = '\0';
  return text;
}

static void
lengths (void **state)
{
  g_autofree char *n96 = repeat ('a', 96), *n97 = repeat ('a', 97), *n100 = repeat ('a', 100), *n101 = repeat ('a', 101);
  g_autofree char *full = g_strconcat (n96, ".git", NULL), *over = g_strconcat (n97, ".git", NULL);
  g_autofree char *folder = g_strconcat (n100, "/x", NULL), *long_folder = g_strconcat (n101, "/x", NULL);
  g_autofree char *most = g_strjoin ("/", n100, n100, n100, n100, n96, NULL); /* 500, 504 with the suffix */
  g_autofree char *five = g_strjoin ("/", n100, n100, n100, n100, "abcdefg", n96, NULL); /* 508, 512 */
  g_autofree char *six = g_strjoin ("/", n100, n100, n100, n100, "abcdefgh", n96, NULL);
  g_autofree char *huge = repeat ('a', 100000);
  becomes (n96, full);
  becomes (full, full);
  refused (n97, "longer than 100 bytes");
  refused (over, "longer than 100 bytes");
  g_autofree char *folder_git = g_strconcat (folder, ".git", NULL);
  becomes (folder, folder_git);
  refused (long_folder, "longer than 100 bytes");
  g_autofree char *most_git = g_strconcat (most, ".git", NULL), *five_git = g_strconcat (five, ".git", NULL);
  becomes (most, most_git);
  assert_int_equal (strlen (five_git), 512);
  becomes (five, five_git);
  becomes (five_git, five_git);
  refused (six, "longer than 512");
  refused (huge, "100000 bytes, the limit is 512");
}

static void
keys (void **state)
{
  static const struct
  {
    const char *left, *right;
    gboolean same;
  } rows[] = {
    { "A/b.git", "a/B.git", TRUE },
    { "a.git", "b.git", FALSE },
    { "stra\xc3\x9f" "e.git", "STRASSE.git", TRUE },
    { "caf\xc3\xa9.git", "cafe\xcc\x81.git", TRUE },
    { "caf\xc3\xa9.git", "CAF\xc3\x89.git", TRUE },
    { "cafe.git", "caf\xc3\xa9.git", FALSE },
  };
  for (gsize i = 0; i < G_N_ELEMENTS (rows); i++)
    {
      g_autofree char *left = gsi_path_key (rows[i].left), *right = gsi_path_key (rows[i].right);
      assert_int_equal (strcmp (left, right) == 0, rows[i].same);
    }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (good_ones),
    cmocka_unit_test (bad_ones),
    cmocka_unit_test (lengths),
    cmocka_unit_test (keys),
  };
  return cmocka_run_group_tests_name ("rpc-path", tests, NULL, NULL);
}
