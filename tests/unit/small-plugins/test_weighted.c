/* SPDX-License-Identifier: Apache-2.0 */
/* routing/weighted: shares by weight, by room and by both; the full ones last; reads by load for their weight. */
#include "routing.h"

#define GIB ((guint64) 1 << 30)

static void
by_weight_alone (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open (&routing, "routing-weighted.so", 3, NULL, NULL);
  routing.views[0].weight = 3;
  routing.views[1].free_bytes = 900 * GIB; /* not asked about */
  routing.views[2].weight = 0;
  routing_shares (&routing, 4000, hits);
  assert_in_range (hits[0], 2850, 3150); /* 3000 expected, 27 the standard deviation */
  assert_int_equal (hits[0] + hits[1], 4000);
  routing_close (&routing);
}

static void
by_free_bytes (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open (&routing, "routing-weighted.so", 3, "by", "free");
  routing.views[0].free_bytes = 300 * GIB;
  routing.views[0].weight = 50; /* not asked about */
  routing.views[1].free_bytes = 100 * GIB;
  routing.views[2].free_bytes = 0; /* not known: as if it had 100 GiB */
  routing_shares (&routing, 5000, hits);
  assert_in_range (hits[0], 2830, 3170);
  assert_in_range (hits[1], 850, 1150);
  assert_in_range (hits[2], 850, 1150);
  routing_close (&routing);
}

static void
by_both (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open (&routing, "routing-weighted.so", 2, "by", "both");
  routing.views[0].free_bytes = 10 * GIB;
  routing.views[0].weight = 4;
  routing.views[1].free_bytes = 20 * GIB;
  routing.views[1].weight = 1;
  routing_shares (&routing, 3000, hits);
  assert_in_range (hits[0], 1880, 2120); /* 2000 expected, 26 the standard deviation */
  routing_close (&routing);
}

static void
full_ones_last (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-weighted.so", 4, "min_free", "2GiB");
  routing.views[0].free_bytes = 1 * GIB;
  routing.views[0].weight = 1000;
  routing.views[1].draining = TRUE;
  routing.views[2].free_bytes = 3 * GIB;
  for (guint64 id = 1; id <= 100; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (&routing, id, 4, nodes), 4);
      assert_int_equal (nodes[2], 0);
      assert_int_equal (nodes[3], 1);
    }
  routing_close (&routing);
}

static void
extremes (void **state)
{
  Routing routing;
  gsize nodes[NODES_MAX];
  routing_open (&routing, "routing-weighted.so", 3, "by", "both");
  for (gsize i = 0; i < 3; i++)
    {
      routing.views[i].weight = G_MAXINT64;
      routing.views[i].free_bytes = G_MAXUINT64;
      routing.views[i].in_flight = G_MAXUINT32;
    }
  for (guint64 id = 1; id <= 20; id++)
    {
      assert_int_equal (routing_place (&routing, id, 3, nodes), 3);
      assert_in_range (routing_pick (&routing, id * G_GUINT64_CONSTANT (0x9e3779b97f4a7c15)), 0, 2);
    }
  routing_close (&routing);
}

static void
reads_by_load (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-weighted.so", 2, NULL, NULL);
  routing.views[0].weight = 4;
  routing.views[0].in_flight = 7;
  routing.views[1].in_flight = 2;
  for (guint64 dice = 0; dice < 4; dice++)
    assert_int_equal (routing_pick (&routing, dice), 0); /* 7 of 4 is less than 2 of 1 */
  routing.views[0].in_flight = 9;
  for (guint64 dice = 0; dice < 4; dice++)
    assert_int_equal (routing_pick (&routing, dice), 1);
  routing.views[0].in_flight = routing.views[1].in_flight = 0;
  for (guint64 dice = 0; dice < 4; dice++)
    assert_int_equal (routing_pick (&routing, dice), 0); /* idle ones: who can take more */
  routing_close (&routing);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (by_weight_alone), cmocka_unit_test (by_free_bytes), cmocka_unit_test (by_both),
          cmocka_unit_test (full_ones_last),  cmocka_unit_test (extremes),      cmocka_unit_test (reads_by_load) };
  return cmocka_run_group_tests_name ("weighted", tests, NULL, NULL);
}
