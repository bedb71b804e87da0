/* SPDX-License-Identifier: Apache-2.0 */
/* Replicas copied from one storage to another, whole and in parts, through damage and kill -9; and read through. */
#include "common.h"

#include <string.h>

/* Two storages: $ROOT with three commits on main, a tag and a side branch, and $ROOT2 with a copy of an earlier state. */
static Fixture *
two_storages (void)
{
  Fixture *f = fixture_new (NULL, NULL);
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f, "cd $WORK && git tag -f -a -m note v1 main~1 >/dev/null"
                 " && git push -q \"ext::$SERVE $ROOT x.git %%S\" main~1:refs/heads/main main~1:refs/heads/gone"
                 " && $SERVE $ROOT x.git export >$DIR/early && $SERVE $DIR/root2 x.git import <$DIR/early >/dev/null"
                 " && git push -q \"ext::$SERVE $ROOT x.git %%S\" main:refs/heads/main v1 main:refs/heads/a/b :gone"));
  return f;
}

static void
assert_equal_to_source (Fixture *f)
{
  g_autofree char *diff
      = sh (f, "$SERVE $ROOT x.git refs >$DIR/r1; $SERVE $DIR/root2 x.git refs >$DIR/r2; diff $DIR/r1 $DIR/r2;"
               " git --git-dir=$DIR/root2/x.git fsck --strict --no-dangling 2>&1 >/dev/null |"
               " grep -v '^notice:'; $SERVE $DIR/root2 x.git scrub; ls $DIR/root2/gitstead-tmp");
  if (*diff != '\0')
    fail_msg ("the copy is another: %s", diff);
}

static char *
packs (Fixture *f)
{
  return sh (f, "cd $DIR/root2/x.git/objects/pack && ls *.pack");
}

static void
test_whole_and_part (void **state)
{
  Fixture *f = two_storages ();
  g_autofree char *before = packs (f);
  /* Without the haves it is whole, with them it carries less and needs what is there. */
  g_free (sh (f, "$SERVE $ROOT x.git export >$DIR/whole"
                 " && HAVES=\"$(git -C $WORK rev-parse main~1) 0123456789012345678901234567890123456789\""
                 "    $SERVE $ROOT x.git export >$DIR/part"
                 " && grep -aq '^basis whole' $DIR/whole && grep -aq '^basis part' $DIR/part"
                 " && test $(stat -c %%s $DIR/part) -lt $(stat -c %%s $DIR/whole)"));
  int status;
  g_autofree char *said = sh_any (f, &status, "$SERVE $DIR/root3 x.git import <$DIR/part; find $DIR/root3 -name x.git");
  assert_non_null (strstr (said, "only a part"));
  g_free (sh (f, "$SERVE $DIR/root2 x.git import <$DIR/part >/dev/null"));
  assert_equal_to_source (f);
  g_autofree char *after = packs (f);
  g_auto (GStrv) one = g_strsplit (before, "\n", 2);
  assert_non_null (strstr (after, one[0]));
  /* The same again is fine; an earlier state is refused. */
  g_free (sh (f, "$SERVE $DIR/root2 x.git import <$DIR/whole >/dev/null"));
  assert_equal_to_source (f);
  g_autofree char *old = sh_any (f, &status, "$SERVE $DIR/root2 x.git import <$DIR/early");
  assert_non_null (strstr (old, "ABORTED"));
  g_autofree char *older = sh_any (f, &status, "REPLACE=1 $SERVE $DIR/root2 x.git import <$DIR/early");
  assert_non_null (strstr (older, "ABORTED"));
  assert_equal_to_source (f);
  g_free (sh (f, "$SERVE $DIR/root4 x.git import <$DIR/whole >/dev/null && diff $DIR/r1 $DIR/r2"));
  fixture_free (f);
}

static void
test_empty (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (f, "$SERVE $ROOT x.git refs >/dev/null && $SERVE $ROOT x.git export >$DIR/copy"
                 " && $SERVE $DIR/root2 x.git import <$DIR/copy >/dev/null"));
  assert_equal_to_source (f);
  fixture_free (f);
}

/* Whatever is damaged on the way or at the source, nothing of it is published. */
static void
test_damaged_copies (void **state)
{
  Fixture *f = two_storages ();
  g_free (sh (f, "$SERVE $ROOT x.git export >$DIR/copy && $SERVE $DIR/root2 x.git refs >$DIR/before"));
  g_autofree char *size_text = sh (f, "stat -c %%s $DIR/copy");
  guint64 size = g_ascii_strtoull (size_text, NULL, 10);
  for (guint i = 0; i < 12; i++)
    {
      guint64 at = size * i / 12 + 3;
      int status;
      g_autofree char *harm
          = i % 4 == 0 ? g_strdup_printf ("truncate -s %" G_GUINT64_FORMAT " $DIR/bad", at)
                       : g_strdup_printf ("python3 -c 'import sys; f=open(sys.argv[1],\"r+b\"); n=%" G_GUINT64_FORMAT
                                          "; f.seek(n); b=f.read(1); f.seek(n); f.write(bytes([b[0]^64]))' $DIR/bad",
                                          at);
      g_autofree char *said
          = sh_any (f, &status,
                    "cp $DIR/copy $DIR/bad && %s && $SERVE $DIR/root2 x.git import <$DIR/bad; r=$?;"
                    " $SERVE $DIR/root2 x.git refs | diff - $DIR/before || echo CHANGED; ls $DIR/root2/gitstead-tmp;"
                    " exit $r",
                    harm);
      if (status == 0 || strstr (said, "CHANGED") != NULL || strstr (said, "import-") != NULL)
        fail_msg ("damaged at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT ": %s", at, size, said);
    }
  fixture_free (f);
}

static void
test_damaged_source (void **state)
{
  Fixture *f = two_storages ();
  int status;
  g_free (sh (f, "cp -a $ROOT $DIR/good && cd $ROOT/x.git && git --git-dir=. pack-refs --all"
                 " && sed -i \"s/$(git rev-parse refs/heads/main)/$(git rev-parse main~1)/\" packed-refs"));
  g_autofree char *refs = sh_any (f, &status, "$SERVE $ROOT x.git export >$DIR/copy");
  assert_non_null (strstr (refs, "DATA_LOSS"));
  g_autofree char *scrubbed = sh_any (f, &status, "$SERVE $ROOT x.git scrub");
  assert_non_null (strstr (scrubbed, "DATA_LOSS"));
  /* A bit in every pack and index. */
  g_autofree char *files = sh (f, "cd $DIR/good/x.git/objects/pack && ls *.pack *.idx");
  g_auto (GStrv) each = g_strsplit (g_strchomp (files), "\n", -1);
  for (guint i = 0; each[i] != NULL; i++)
    {
      g_free (sh (f, "rm -rf $ROOT && cp -a $DIR/good $ROOT && cd $ROOT/x.git/objects/pack && chmod u+w * && python3 -c"
                     " 'import sys,os; f=open(sys.argv[1],\"r+b\"); n=os.path.getsize(sys.argv[1])//2; f.seek(n);"
                     " b=f.read(1); f.seek(n); f.write(bytes([b[0]^1]))' %s", each[i]));
      g_autofree char *said = sh_any (f, &status, "$SERVE $ROOT x.git scrub");
      if (strstr (said, "DATA_LOSS") == NULL)
        fail_msg ("a bit in %s was not seen: %s", each[i], said);
      /* Copied it is either refused, or what arrives is whole: git reuses what it need not read. */
      g_autofree char *copied = sh_any (
          f, &status, "rm -rf $DIR/root9; $SERVE $ROOT x.git export >$DIR/copy && $SERVE $DIR/root9 x.git import <$DIR/copy"
                      " >/dev/null && $SERVE $DIR/root9 x.git scrub && echo WHOLE");
      if (strstr (copied, "WHOLE") == NULL && status == 0)
        fail_msg ("a bit in %s went over: %s", each[i], copied);
    }
  /* A pack that is gone. */
  g_free (sh (f, "rm -rf $ROOT && cp -a $DIR/good $ROOT && cd $ROOT/x.git/objects/pack && rm -f $(ls | head -3)"));
  g_autofree char *gone = sh_any (f, &status, "$SERVE $ROOT x.git scrub");
  assert_non_null (strstr (gone, "DATA_LOSS"));
  /* And from the good one it becomes whole, whatever it was. */
  g_free (sh (f, "$SERVE $DIR/good x.git export >$DIR/copy && REPLACE=1 $SERVE $ROOT x.git import <$DIR/copy >/dev/null"
                 " && $SERVE $ROOT x.git scrub && echo junk >$ROOT/x.git/gitstead/replica"
                 " && REPLACE=1 $SERVE $ROOT x.git import <$DIR/copy >/dev/null && $SERVE $ROOT x.git scrub"
                 " && ls $ROOT/gitstead-trash | grep -c 42 | grep -qx 2"));
  fixture_free (f);
}

/* What was voted for has to be settled first. */
static void
test_staged_write (void **state)
{
  Fixture *f = two_storages ();
  int status;
  g_free (sh_any (f, &status, "cd $WORK && CRASH_AT=push.voted git push \"ext::$SERVE $DIR/root2 x.git %%S\" main:new"));
  g_autofree char *said = sh_any (f, &status, "$SERVE $ROOT x.git export >$DIR/copy;"
                                              " $SERVE $DIR/root2 x.git import <$DIR/copy");
  assert_non_null (strstr (said, "BUSY"));
  g_free (sh (f, "DECIDE=abort $SERVE $DIR/root2 x.git recover && $SERVE $DIR/root2 x.git import <$DIR/copy"));
  assert_equal_to_source (f);
  fixture_free (f);
}

static void
test_crashes (void **state)
{
  static const struct
  {
    const char *point;
    gboolean there;
  } points[] = { { "import.begun", FALSE },     { "import.received", FALSE },  { "import.checked", FALSE },
                 { "import.exchanged", TRUE }, { "import.published", TRUE } };
  Fixture *f = two_storages ();
  g_free (sh (f, "HAVES=$(git -C $WORK rev-parse main~1) $SERVE $ROOT x.git export >$DIR/part"
                 " && cp -a $DIR/root2 $DIR/base && $SERVE $DIR/root2 x.git refs >$DIR/before"
                 " && $SERVE $ROOT x.git refs >$DIR/after"));
  for (gsize i = 0; i < G_N_ELEMENTS (points); i++)
    for (guint replace = 0; replace < 2; replace++)
      {
        int status;
        g_free (sh (f, "rm -rf $DIR/root2 && cp -a $DIR/base $DIR/root2 && $SERVE $ROOT x.git export >$DIR/whole"));
        g_free (sh_any (f, &status, "%s CRASH_AT=%s $SERVE $DIR/root2 x.git import <$DIR/%s", replace ? "REPLACE=1" : "",
                        points[i].point, replace ? "whole" : "part"));
        if (status == 0)
          fail_msg ("%s was never reached", points[i].point);
        g_autofree char *left = sh (f, "$SERVE $DIR/root2 x.git refs | diff - $DIR/%s; $SERVE $DIR/root2 x.git scrub;"
                                       " ls $DIR/root2/gitstead-tmp",
                                    points[i].there ? "after" : "before");
        if (*left != '\0')
          fail_msg ("killed at %s: %s", points[i].point, left);
        g_free (sh (f, "$SERVE $DIR/root2 x.git import <$DIR/whole >/dev/null"));
        assert_equal_to_source (f);
      }
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_whole_and_part), cmocka_unit_test (test_empty),        cmocka_unit_test (test_damaged_copies),
    cmocka_unit_test (test_damaged_source), cmocka_unit_test (test_staged_write), cmocka_unit_test (test_crashes),
  };
  return cmocka_run_group_tests_name ("storage/git copies", tests, NULL, NULL);
}
