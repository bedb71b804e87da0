/* SPDX-License-Identifier: Apache-2.0 */
/* kill -9 at every named step of a push: afterwards it is wholly there or wholly absent, and nothing else is left. */
#include "common.h"

#include <string.h>

/* What the replica's own journal knows after the crash. */
typedef enum
{
  DROPPED, /* nobody voted: gone */
  PENDING, /* others decide */
  APPLIED  /* committed: there */
} Fate;

static const struct
{
  const char *point;
  Fate fate;
} points[] = {
  { "push.quarantined", DROPPED }, { "refs.locked", DROPPED },    { "refs.staged", DROPPED },
  { "refs.intent", DROPPED },      { "push.prepared", DROPPED },  { "refs.voted", PENDING },
  { "push.voted", PENDING },       { "commit.decided", PENDING }, { "commit.objects", PENDING },
  { "refs.committed", APPLIED },   { "refs.packed", APPLIED },    { "refs.loose", APPLIED },
  { "refs.removed", APPLIED },     { "refs.published", APPLIED }, { "refs.settled", APPLIED },
  { "commit.stamped", APPLIED },   { "refs.finished", APPLIED },  { "commit.finished", APPLIED },
};

/* One push that updates, creates and deletes (a packed ref), killed at @point; @decide says what the others decided. */
static void
crash_once (Fixture *f, gsize index, gboolean commit)
{
  const char *point = points[index].point;
  Fate fate = points[index].fate;
  gboolean there = fate == APPLIED || (fate == PENDING && commit);
  int status;
  g_free (sh (f, "rm -rf $ROOT && cp -a $DIR/base $ROOT"));
  g_free (sh_any (f, &status,
                  "cd $WORK && CRASH_AT=%s git push --atomic \"ext::$SERVE $ROOT x.git %%S\" main:refs/heads/main"
                  " main:refs/heads/new :refs/heads/old",
                  point));
  g_autofree char *clean = sh (f, "ls $ROOT | grep gitstead-clean || true");
  if (*clean != '\0')
    fail_msg ("%s was never reached", point);
  g_autofree char *recovered = sh (f, "DECIDE=%s $SERVE $ROOT x.git recover", commit ? "commit" : "abort");
  g_autofree char *refs = sh (f, "git --git-dir=$ROOT/x.git for-each-ref --format='%%(objectname) %%(refname)'");
  g_autofree char *expected = sh (
      f,
      there
          ? "cd $WORK && echo $(git rev-parse main) refs/heads/main && echo $(git rev-parse main) refs/heads/new"
          : "cd $WORK && echo $(git rev-parse main~1) refs/heads/main && echo $(git rev-parse main~1) refs/heads/old");
  g_autofree char *said = g_strdup_printf ("pending %d\n", fate == PENDING ? 1 : 0);
  g_autofree char *generation = g_strdup_printf ("generation %d ", there ? 2 : 1);
  if (strcmp (refs, expected) != 0 || !g_str_has_prefix (recovered, said) || strstr (recovered, generation) == NULL)
    fail_msg ("killed at %s, decided %d: %s\nrefs %s", point, commit, recovered, refs);
  g_autofree char *left = sh (
      f, "cd $ROOT/x.git && find . -name '*.lock' -o -path './gitstead/quarantine/*' -o -path './gitstead/journal/*'"
         " -o -name '*.keep' -o -name 'tmp_*' -o -name '.gitstead-tmp-*'; ls $ROOT/gitstead-tmp;"
         " git --git-dir=$ROOT/x.git fsck --strict --no-dangling 2>&1 >/dev/null; grep digest gitstead/replica | cut "
         "-d' ' -f2 >$DIR/a;"
         " $SERVE $ROOT x.git refs | sed -n 's/.*digest //p' | diff - $DIR/a");
  if (*left != '\0')
    fail_msg ("killed at %s, decided %d: left behind %s", point, commit, left);
  /* And the same push now goes through. */
  g_free (sh (f, "cd $WORK && git push -q \"ext::$SERVE $ROOT x.git %%S\" main:refs/heads/main main:refs/heads/new"
                 " && $SERVE $ROOT x.git refs >/dev/null"));
}

static void
test_every_point (void **state)
{
  Fixture *f = fixture_new (NULL, NULL);
  fixture_restart (f, FALSE, NULL, NULL);
  g_free (sh (
      f,
      "cd $WORK && git push -q \"ext::$SERVE $ROOT x.git %%S\" main~1:refs/heads/main main~1:refs/heads/old"
      " && git --git-dir=$ROOT/x.git pack-refs --all && $SERVE $ROOT x.git refs >/dev/null && cp -a $ROOT $DIR/base"));
  for (gsize i = 0; i < G_N_ELEMENTS (points); i++)
    {
      crash_once (f, i, TRUE);
      if (points[i].fate == PENDING)
        crash_once (f, i, FALSE);
    }
  fixture_free (f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (test_every_point) };
  return cmocka_run_group_tests_name ("storage/git crashes", tests, NULL, NULL);
}
