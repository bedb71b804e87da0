/* SPDX-License-Identifier: Apache-2.0 */
/* routing/least-used: the emptier disk first, alike within a step, the full ones last; reads by calls under way. */
#include "routing.h"

#define GIB ((guint64) 1 << 30)

static void
set_use (Routing *routing, gsize node, guint64 used, guint64 free_bytes)
{
  routing->views[node].used_bytes = used;
  routing->views[node].free_bytes = free_bytes;
}

static void
by_share (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open (&routing, "routing-least-used.so", 4, NULL, NULL);
  set_use (&routing, 0, 60 * GIB, 40 * GIB);
  set_use (&routing, 1, 300 * GIB, 700 * GIB); /* most bytes, least of its disk */
  set_use (&routing, 2, 45 * GIB, 55 * GIB);
  set_use (&routing, 3, 0, 0); /* does not tell: half full */
  for (guint64 id = 1; id <= 100; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (&routing, id, 4, nodes), 4);
      assert_int_equal (nodes[0], 1);
      assert_int_equal (nodes[1], 2);
      assert_int_equal (nodes[2], 3);
      assert_int_equal (nodes[3], 0);
    }
  set_use (&routing, 0, 31 * GIB, 69 * GIB); /* within a step of 5 percent */
  routing.views[1].weight = 3;
  routing_shares (&routing, 4000, hits);
  assert_int_equal (hits[0] + hits[1], 4000);
  assert_in_range (hits[1], 2850, 3150); /* 3000 expected */
  routing_close (&routing);
}

static void
by_bytes (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open_with (&routing, "routing-least-used.so", 3, "by", "bytes", "step_bytes", "20GiB", NULL, NULL);
  set_use (&routing, 0, 60 * GIB, 4000 * GIB);
  set_use (&routing, 1, 30 * GIB, 10 * GIB);
  set_use (&routing, 2, 39 * GIB, 10 * GIB); /* 20 to 40: alike */
  routing_shares (&routing, 2000, hits);
  assert_int_equal (hits[0], 0);
  assert_in_range (hits[1], 850, 1150);
  routing_close (&routing);
}

static void
full_and_draining_last (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-least-used.so", 3, "min_free", "2GiB");
  set_use (&routing, 0, 1, 1 * GIB); /* almost nothing used, and almost no room */
  set_use (&routing, 1, 1, 900 * GIB);
  routing.views[1].draining = TRUE;
  set_use (&routing, 2, 990 * GIB, 10 * GIB);
  for (guint64 id = 1; id <= 50; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (&routing, id, 3, nodes), 3);
      assert_int_equal (nodes[0], 2);
      assert_int_equal (nodes[1], 0);
      assert_int_equal (nodes[2], 1);
    }
  routing_close (&routing);
}

static void
extremes (void **state)
{
  Routing routing;
  gsize nodes[NODES_MAX];
  routing_open (&routing, "routing-least-used.so", 2, "step_percent", "1");
  set_use (&routing, 0, G_MAXUINT64, G_MAXUINT64);
  set_use (&routing, 1, G_MAXUINT64, 0);
  assert_int_equal (routing_place (&routing, 1, 2, nodes), 2);
  assert_int_equal (nodes[0], 0);
  routing_close (&routing);
  routing_open_with (&routing, "routing-least-used.so", 2, "by", "bytes", "step_bytes", "1MiB", NULL, NULL);
  set_use (&routing, 0, G_MAXUINT64, G_MAXUINT64);
  assert_int_equal (routing_place (&routing, 1, 2, nodes), 2);
  assert_int_equal (nodes[0], 1);
  routing_close (&routing);
}

static void
reads_by_calls (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-least-used.so", 2, NULL, NULL);
  set_use (&routing, 0, 10 * GIB, GIB);
  set_use (&routing, 1, 20 * GIB, GIB);
  routing.views[0].in_flight = 5;
  routing.views[1].in_flight = 4;
  for (guint64 dice = 0; dice < 4; dice++)
    assert_int_equal (routing_pick (&routing, dice), 1);
  routing.views[1].in_flight = 5;
  for (guint64 dice = 0; dice < 4; dice++)
    assert_int_equal (routing_pick (&routing, dice), 0);
  routing_close (&routing);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (by_share), cmocka_unit_test (by_bytes), cmocka_unit_test (full_and_draining_last),
          cmocka_unit_test (extremes), cmocka_unit_test (reads_by_calls) };
  return cmocka_run_group_tests_name ("least-used", tests, NULL, NULL);
}
