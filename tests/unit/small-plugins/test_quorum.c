/* SPDX-License-Identifier: Apache-2.0 */
/* consistency/quorum: the very actions for the histories that matter, and what a refusal tells. */
#include "steps.h"

static const Stepped majority = { "consistency-quorum.so", "laggard_wait", "40ms" };
static const Stepped all = { "consistency-quorum.so", "rule", "all" };

static void
plays (const char *flags, gsize min_copies, const char *events, const char *expected)
{
  steps_play (&majority, flags, min_copies, events, expected);
}

#define STAGE3 "stage0 stage1 stage2 "
#define DECIDE3 STAGE3 "timer:40ms voter0 voter1 voter2 decide "
#define DECIDE2 STAGE3 "timer:40ms voter0 voter1 abort2 decide "

static void
all_well (void **state)
{
  plays ("C", 1, "BS0DA0", "stage0 voter0 decide apply0 acknowledge");
  plays ("CCC", 1, "BS2S0S1DA1A2A0", DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge");
  plays ("CCCCC", 3, "BS0S1S2S3S4DA0A1A2A3A4",
         "stage0 stage1 stage2 stage3 stage4 timer:40ms voter0 voter1 voter2 voter3 voter4 decide apply0 apply1 apply2 "
         "apply3 apply4 timer:40ms acknowledge");
}

static void
one_lost (void **state)
{
  plays ("CCc", 1, "BS0S1DA0A1", "stage0 stage1 voter0 voter1 decide apply0 apply1 timer:40ms acknowledge repair2");
  plays ("CCO", 1, "BS0S1DA0A1", "stage0 stage1 voter0 voter1 decide apply0 apply1 timer:40ms acknowledge repair2");
  plays ("CCC", 1, "BL2S0S1DA0A1", STAGE3 "abort2 voter0 voter1 decide apply0 apply1 timer:40ms acknowledge repair2");
  plays ("CCC", 1, "BS0S2L2S1DA0A1", /* it voted before it was lost: that vote does not count */
         STAGE3 "timer:40ms abort2 voter0 voter1 decide apply0 apply1 timer:40ms acknowledge repair2");
  plays ("CCC", 1, "BS0S1S2L1DA0A2", DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair1");
  plays ("CCC", 1, "BS0S1S2DL1A0A2", DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair1");
  plays ("CCC", 1, "BS0S1S2DL0L1L2", /* durable in three journals */
         DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair0 repair1 repair2");
}

static void
laggards (void **state)
{
  plays ("CCC", 1, "BS0S1TDA0A1S2", /* one is still staging, and says so much later */
         DECIDE2 "apply0 apply1 timer:40ms acknowledge repair2 abort2");
  plays ("CCC", 1, "BS0S1TDS2A0A1", DECIDE2 "apply0 apply1 timer:40ms abort2 acknowledge repair2");
  plays ("CCC", 1, "BS0S1S2DA0A1TA2", DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair2");
  plays ("CCC", 1, "BS0S1S2DTA1A0A2", /* nobody has applied when the time is over: the first one does */
         DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair0 repair2");
  plays ("CCC", 1, "BS0S1L1TS2DA0A2", /* the time is over when the quorum comes back */
         STAGE3 "timer:40ms abort1 voter0 voter2 decide apply0 apply2 timer:40ms acknowledge repair1");
}

static void
votes_differ (void **state)
{
  plays ("CCC", 1, "BS0s1S2DA0A2", STAGE3 "voter0 abort1 voter2 decide apply0 apply2 timer:40ms acknowledge repair1");
  plays ("CCC", 1, "Bs0S1S2DA1A2", STAGE3 "abort0 voter1 voter2 decide apply1 apply2 timer:40ms acknowledge repair0");
  plays ("CC", 1, "Bs0S1", "stage0 stage1 abort0 abort1 fail:ABORTED");
  assert_string_equal (steps_reason, "2 equal votes are needed, and of 2 copies that voted at most 1 agree");
  plays ("CCCC", 1, "Bs0S1s2S3", "stage0 stage1 stage2 stage3 abort0 abort1 abort2 abort3 fail:ABORTED");
}

static void
fails (void **state)
{
  plays ("CCC", 1, "BL1L2S0", STAGE3 "abort1 abort2 abort0 fail:UNAVAILABLE abort0");
  assert_string_equal (steps_reason,
                       "2 of its 3 copies are needed, and 1 could still take it: node-1 did not, node-2 did not; try again");
  plays ("CCC", 3, "BL1S0S2", STAGE3 "abort1 abort0 abort2 fail:UNAVAILABLE abort0 abort2");
  plays ("CCC", 1, "BS0S1S2R", DECIDE3 "abort0 abort1 abort2 fail:ABORTED");
  plays ("CCC", 1, "BS0S1S2L1R", DECIDE3 "abort0 abort1 abort2 fail:ABORTED");
}

/* Another write was decided meanwhile, without one of the voters. */
static void
voters_behind (void **state)
{
  plays ("CCC", 1, "BS0S1S2H1UDA0A2",
         DECIDE3 "abort1 voter0 voter2 decide apply0 apply2 timer:40ms acknowledge repair1");
  plays ("CCC", 1, "BS0S1TS2H1U", DECIDE2 "abort2 abort1 abort0 fail:UNAVAILABLE");
  plays ("CCC", 3, "BS0S1S2H1U",
         "stage0 stage1 stage2 voter0 voter1 voter2 decide abort1 abort0 abort2 fail:UNAVAILABLE");
  plays ("CCC", 1, "BS0S1S2L0H1U", DECIDE3 "abort1 abort0 abort2 fail:UNAVAILABLE"); /* the lost one counts no more */
  plays ("CCC", 1, "BS0S1S2H0UH1U", DECIDE3 "abort0 voter1 voter2 decide abort1 abort2 fail:UNAVAILABLE");
  plays ("CCC", 1, "BH0US0H0U", "stage0 stage1 stage2"); /* nobody asked for a decision */
}

static void
read_only (void **state)
{
  plays ("CcC", 3, "B", "fail:UNAVAILABLE");
  assert_string_equal (steps_reason, "3 of its 3 copies are needed, and 2 can take it: node-1 cannot be reached; the "
                                     "repository is read-only until enough of them are back");
  plays ("cCO", 1, "BS0S1", "fail:UNAVAILABLE abort0 abort1");
  assert_string_equal (
      steps_reason, "2 of its 3 copies are needed, and 1 can take it: node-0 cannot be reached, node-2 is behind and "
                    "has to be repaired first; the repository is read-only until enough of them are back");
  plays ("OOo", 1, "B", "fail:FAILED_PRECONDITION");
  assert_non_null (strstr (steps_reason, "node-2 is behind and cannot be reached; no copy has the newest state"));
  plays ("CC", 3, "B", "fail:FAILED_PRECONDITION");
  assert_non_null (strstr (steps_reason, "min_copies asks for 3 durable copies, and the repository has 2"));
}

static void
rule_all (void **state)
{
  steps_play (&all, "CCC", 1, "BS0S1S2DA0A1A2",
              STAGE3 "voter0 voter1 voter2 decide apply0 apply1 apply2 timer:5000ms acknowledge");
  steps_play (&all, "CCC", 1, "BS0L1", STAGE3 "abort1 abort0 abort2 fail:UNAVAILABLE");
  steps_play (&all, "CCc", 1, "B", "fail:UNAVAILABLE");
}

static void
stray_events (void **state)
{
  plays ("CCC", 1, "S0L1A2TDR", "abort0"); /* before the beginning */
  plays ("CC", 1, "BBDRA0T", "stage0 stage1");
  plays ("CCC", 1, "BS0S0", "stage0 stage1 stage2"); /* one voter who says it twice is one voter */
  plays ("CCC", 1, "BS0S1S2S0DDRA0A0TTA1A2L0L1TDR",
         DECIDE3 "apply0 apply1 apply2 timer:40ms acknowledge repair1 repair2");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (all_well),     cmocka_unit_test (one_lost),     cmocka_unit_test (laggards),
    cmocka_unit_test (votes_differ), cmocka_unit_test (fails),        cmocka_unit_test (read_only),
    cmocka_unit_test (rule_all),     cmocka_unit_test (stray_events), cmocka_unit_test (voters_behind),
  };
  return cmocka_run_group_tests_name ("quorum", tests, NULL, NULL);
}
