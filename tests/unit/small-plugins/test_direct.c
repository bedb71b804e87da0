/* SPDX-License-Identifier: Apache-2.0 */
/* consistency/direct: the very actions for the histories that matter, late and repeated events included. */
#include "steps.h"

static const Stepped direct = { "consistency-direct.so", NULL, NULL };

static void
plays (const char *flags, gsize min_copies, const char *events, const char *expected)
{
  steps_play (&direct, flags, min_copies, events, expected);
}

static void
histories (void **state)
{
  plays ("C", 1, "BS0DA0", "stage0 voter0 decide apply0 acknowledge");
  plays ("oOcC", 1, "BS3DA3", "stage3 voter3 decide apply3 acknowledge repair0 repair1 repair2");
  plays ("C", 1, "BL0", "stage0 abort0 fail:UNAVAILABLE");
  plays ("C", 1, "BL0S0", "stage0 abort0 fail:UNAVAILABLE abort0"); /* staged after it was given up */
  plays ("C", 1, "BS0R", "stage0 voter0 decide abort0 fail:ABORTED");
  plays ("C", 1, "BS0L0R", "stage0 voter0 decide abort0 fail:ABORTED");
  plays ("C", 1, "BS0L0D", "stage0 voter0 decide apply0 acknowledge repair0"); /* durable in its journal */
  plays ("C", 1, "BS0DL0", "stage0 voter0 decide apply0 acknowledge repair0");
  plays ("CC", 1, "BS0H0U", "stage0 voter0 decide abort0 fail:ABORTED");
  plays ("CC", 1, "BS1S0DA1A0", "stage0 abort1 voter0 decide apply0 acknowledge repair1");
}

static void
refusals (void **state)
{
  plays ("c", 1, "B", "fail:UNAVAILABLE");
  plays ("oO", 1, "B", "fail:FAILED_PRECONDITION");
  plays ("CC", 2, "B", "fail:FAILED_PRECONDITION");
}

static void
stray_events (void **state)
{
  plays ("C", 1, "S0", ""); /* before the beginning */
  plays ("C", 1, "BB", "stage0");
  plays ("C", 1, "BDRA0T", "stage0"); /* nobody asked for a decision */
  plays ("C", 1, "BS0S0", "stage0 voter0 decide");
  plays ("C", 1, "BS0A0", "stage0 voter0 decide"); /* nobody said apply */
  plays ("C", 1, "BS0DDRA0A0L0DR", "stage0 voter0 decide apply0 acknowledge");
  plays ("C", 1, "BL0L0DRA0", "stage0 abort0 fail:UNAVAILABLE");
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (histories), cmocka_unit_test (refusals), cmocka_unit_test (stray_events) };
  return cmocka_run_group_tests_name ("direct", tests, NULL, NULL);
}
