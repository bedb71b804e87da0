/* SPDX-License-Identifier: Apache-2.0 */
/* routing/zone: copies in different zones and racks as far as there are any, little that moves, reads from nearby. */
#include "routing.h"

static void
set_zones (Routing *routing, const char *const *zones)
{
  for (gsize i = 0; i < routing->n; i++)
    routing->views[i].zone = zones[i];
}

static gsize
zone_prefix (const char *zone)
{
  return strcspn (zone, "/");
}

/* How many of the @n nodes share the zone (or, with @racks, the zone and rack) of an earlier one. */
static guint
n_shared (const Routing *routing, const gsize *nodes, gsize n, gboolean racks)
{
  guint shared = 0;
  for (gsize i = 0; i < n; i++)
    for (gsize k = 0; k < i; k++)
      {
        const char *a = routing->views[nodes[i]].zone, *b = routing->views[nodes[k]].zone;
        if (racks ? strcmp (a, b) == 0 : zone_prefix (a) == zone_prefix (b) && strncmp (a, b, zone_prefix (a)) == 0)
          {
            shared++;
            break;
          }
      }
  return shared;
}

static const char *const three_zones[] = { "north/1", "north/1", "north/2", "south/1", "south/1", "south/2", "west" };

static void
spread_over_zones (void **state)
{
  Routing routing;
  guint hits[NODES_MAX];
  routing_open (&routing, "routing-zone.so", 7, NULL, NULL);
  set_zones (&routing, three_zones);
  for (guint64 id = 1; id <= 300; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (&routing, id, 3, nodes), 3);
      assert_int_equal (n_shared (&routing, nodes, 3, FALSE), 0);
      assert_int_equal (routing_place (&routing, id, 5, nodes), 5);
      assert_int_equal (n_shared (&routing, nodes, 5, FALSE), 2); /* west has one node: two double up, */
      assert_int_equal (n_shared (&routing, nodes, 5, TRUE), 0);  /* but not in a rack */
      assert_int_equal (routing_place (&routing, id, 9, nodes), 7);
    }
  routing_shares (&routing, 3500, hits); /* the first copy goes by weight alone: 500 each, 21 the deviation */
  for (gsize i = 0; i < 7; i++)
    assert_in_range (hits[i], 400, 600);
  routing_close (&routing);
}

static void
one_zone_is_rendezvous (void **state)
{
  Routing zone, plain;
  routing_open (&zone, "routing-zone.so", 6, NULL, NULL);
  routing_open (&plain, "routing-rendezvous.so", 6, NULL, NULL);
  for (int round = 0; round < 2; round++)
    {
      for (guint64 id = 1; id <= 100; id++)
        {
          gsize a[NODES_MAX], b[NODES_MAX];
          assert_int_equal (routing_place (&zone, id, 4, a), 4);
          assert_int_equal (routing_place (&plain, id, 4, b), 4);
          assert_memory_equal (a, b, 4 * sizeof *a);
        }
      for (gsize i = 0; i < 6; i++)
        zone.views[i].zone = "only/rack";
    }
  routing_close (&zone);
  routing_close (&plain);
}

static gboolean
contains (const gsize *nodes, gsize n, gsize node)
{
  for (gsize i = 0; i < n; i++)
    if (nodes[i] == node)
      return TRUE;
  return FALSE;
}

/* Whoever goes, in whatever zone: what was not on it stays where it is. */
static void
little_moves (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-zone.so", 7, NULL, NULL);
  set_zones (&routing, three_zones);
  for (guint64 id = 1; id <= 200; id++)
    for (gsize n_copies = 1; n_copies <= 5; n_copies++)
      for (gsize gone = 0; gone < 7; gone++)
        {
          gsize before[NODES_MAX], after[NODES_MAX];
          routing.views[id % 7].draining = id % 2 == 0;
          assert_int_equal (routing_place (&routing, id, n_copies, before), n_copies);
          routing.views[gone].healthy = FALSE;
          assert_int_equal (routing_place (&routing, id, n_copies, after), n_copies);
          routing.views[gone].healthy = TRUE;
          routing.views[id % 7].draining = FALSE;
          for (gsize i = 0; i < n_copies; i++)
            assert_true (before[i] == gone || contains (after, n_copies, before[i]));
        }
  routing_close (&routing);
}

static void
names_that_begin_alike (void **state)
{
  static const char *const zones[] = { "eu", "eu-1", "eu-1/a", "" };
  Routing routing;
  routing_open (&routing, "routing-zone.so", 4, "zone", "eu");
  set_zones (&routing, zones);
  for (guint64 id = 1; id <= 50; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (&routing, id, 3, nodes), 3);
      assert_int_equal (n_shared (&routing, nodes, 3, FALSE), 0); /* "eu-1" and "eu-1/a" are one, "eu" is another */
      assert_int_equal (routing_pick (&routing, id), 0);
    }
  routing_close (&routing);
}

static void
nearest_reader (void **state)
{
  Routing routing;
  routing_open (&routing, "routing-zone.so", 7, "zone", "north/2");
  set_zones (&routing, three_zones);
  routing.views[2].in_flight = 500;
  for (guint64 dice = 0; dice < 20; dice++)
    assert_int_equal (routing_pick (&routing, dice << 32 | dice), 2); /* our rack, however busy */
  routing.views[2].healthy = FALSE;
  for (guint64 dice = 0; dice < 20; dice++)
    assert_in_range (routing_pick (&routing, dice << 32 | dice), 0, 1); /* our zone */
  routing.views[0].healthy = FALSE;
  routing.views[1].draining = TRUE;
  for (guint64 dice = 0; dice < 20; dice++)
    assert_in_range (routing_pick (&routing, dice << 32 | dice), 3, 6); /* anywhere rather than one that drains */
  for (gsize i = 3; i < 7; i++)
    routing.views[i].healthy = FALSE;
  assert_int_equal (routing_pick (&routing, 3), 1);
  routing_close (&routing);
}

static void
reader_anywhere (void **state)
{
  Routing routing;
  guint seen = 0;
  routing_open (&routing, "routing-zone.so", 7, NULL, NULL);
  set_zones (&routing, three_zones);
  for (guint64 dice = 0; dice < 7; dice++)
    seen |= 1u << routing_pick (&routing, dice);
  assert_int_equal (seen, 127);
  routing_close (&routing);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (spread_over_zones), cmocka_unit_test (one_zone_is_rendezvous),
          cmocka_unit_test (little_moves),      cmocka_unit_test (names_that_begin_alike),
          cmocka_unit_test (nearest_reader),    cmocka_unit_test (reader_anywhere) };
  return cmocka_run_group_tests_name ("zone", tests, NULL, NULL);
}
