/* SPDX-License-Identifier: Apache-2.0 */
/* consistency/primary: who the primary is, what the others get, and min_copies above 1. */
#include "steps.h"

static const Stepped primary = { "consistency-primary.so", NULL, NULL };

static void
plays (const char *flags, gsize min_copies, const char *events, const char *expected)
{
  steps_play (&primary, flags, min_copies, events, expected);
}

static void
first_that_can (void **state)
{
  plays ("C", 1, "BS0DA0", "stage0 voter0 decide apply0 acknowledge");
  plays ("CCC", 1, "BS0DA0", "stage0 voter0 decide apply0 acknowledge repair1 repair2");
  plays ("oOcC", 1, "BS3DA3", "stage3 voter3 decide apply3 acknowledge repair0 repair1 repair2");
  plays ("OCC", 1, "BS1DA1", "stage1 voter1 decide apply1 acknowledge repair0 repair2");
}

static void
primary_lost (void **state)
{
  plays ("CC", 1, "BL0", "stage0 abort0 fail:UNAVAILABLE");
  plays ("CC", 1, "BL0S0", "stage0 abort0 fail:UNAVAILABLE abort0");
  plays ("CC", 1, "BS0L0DA0", "stage0 voter0 decide apply0 acknowledge repair0 repair1");
  plays ("CC", 1, "BS0DL0", "stage0 voter0 decide apply0 acknowledge repair0 repair1");
  plays ("CC", 1, "BS0R", "stage0 voter0 decide abort0 fail:ABORTED");
}

static void
more_copies (void **state)
{
  plays ("CCC", 2, "BS1S0DA1A0", "stage0 stage1 voter0 voter1 decide apply0 apply1 timer:500ms acknowledge repair2");
  plays ("CCC", 2, "BS1S0DA1TA0",
         "stage0 stage1 voter0 voter1 decide apply0 apply1 timer:500ms acknowledge repair0 repair2");
  plays ("CCC", 2, "BS1L0", "stage0 stage1 abort0 abort1 fail:UNAVAILABLE");
  assert_string_equal (steps_reason,
                       "2 of its 3 copies are needed, and 1 could still take it: node-0 did not, node-2 was "
                       "not asked; try again");
  plays ("CCC", 2, "BS0s1", "stage0 stage1 abort0 abort1 fail:ABORTED");
}

static void
refusals (void **state)
{
  plays ("cO", 1, "B", "fail:UNAVAILABLE");
  assert_non_null (strstr (steps_reason, "node-0 cannot be reached, node-1 is behind"));
  plays ("oO", 1, "B", "fail:FAILED_PRECONDITION");
  plays ("CO", 2, "B", "fail:UNAVAILABLE");
  plays ("CC", 3, "B", "fail:FAILED_PRECONDITION");
}

int
main (void)
{
  const struct CMUnitTest tests[] = { cmocka_unit_test (first_that_can), cmocka_unit_test (primary_lost),
                                      cmocka_unit_test (more_copies), cmocka_unit_test (refusals) };
  return cmocka_run_group_tests_name ("primary", tests, NULL, NULL);
}
