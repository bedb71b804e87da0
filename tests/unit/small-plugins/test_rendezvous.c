/* SPDX-License-Identifier: Apache-2.0 */
/* routing/rendezvous: placement that never changes, goes by weight, and reads that go to the less busy of two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/routing.h>

#include "fakehost.h"
#include "loadplugin.h"

#define N 5

typedef struct
{
  const GsPlugin *plugin;
  const GsRoutingOps *ops;
  FakeHost *host;
  gpointer self;
  GsNodeView views[N];
  const GsNodeView *nodes[N];
} Router;

static int
router_new (void **state)
{
  static const char *const names[N] = { "alpha", "beta", "gamma", "delta", "epsilon" };
  Router *router = g_new0 (Router, 1);
  router->plugin = load_plugin ("routing-rendezvous.so");
  router->ops = router->plugin->ops;
  router->host = fake_host_new ("routing default");
  router->self = router->plugin->create (&router->host->host, NULL, NULL);
  for (int i = 0; i < N; i++)
    {
      router->views[i]
          = (GsNodeView){ .size = sizeof (GsNodeView), .name = names[i], .zone = "", .weight = 1, .healthy = TRUE };
      router->nodes[i] = &router->views[i];
    }
  *state = router;
  return 0;
}

static int
router_free (void **state)
{
  Router *router = *state;
  router->plugin->destroy (router->self);
  fake_host_free (router->host);
  g_free (router);
  return 0;
}

static gsize
place (Router *router, guint64 id, gsize n_copies, gsize *ret_nodes)
{
  guint64 big_endian = GUINT64_TO_BE (id);
  g_autoptr (GBytes) key = g_bytes_new (&big_endian, sizeof big_endian);
  gsize n = 0;
  assert_true (router->ops->place (router->self, key, router->nodes, N, n_copies, ret_nodes, &n, NULL));
  return n;
}

/* Where repositories are is on disks: a release that placed them elsewhere would move everything. */
static void
never_changes (void **state)
{
  static const char *const expected[]
      = { "adgeb", "dbaeg", "aebdg", "bdage", "eadgb", "dbage", "dabeg", "gdbae", "dgeab", "adgeb", "deagb", "degba" };
  for (guint64 id = 1; id <= G_N_ELEMENTS (expected); id++)
    {
      Router *router = *state;
      gsize nodes[N];
      g_autoptr (GString) text = g_string_new (NULL);
      gsize n;
      router->views[3].weight = 4;
      n = place (router, id, N, nodes);
      for (gsize i = 0; i < n; i++)
        g_string_append_c (text, router->views[nodes[i]].name[0]);
      assert_string_equal (text->str, expected[id - 1]);
    }
}

static void
by_weight (void **state)
{
  Router *router = *state;
  guint hits[N] = { 0 };
  router->views[0].weight = 0;
  router->views[1].weight = -5;
  router->views[4].weight = 4;
  for (guint64 id = 1; id <= 6000; id++)
    {
      gsize nodes[N];
      assert_int_equal (place (router, id, 1, nodes), 1);
      hits[nodes[0]]++;
    }
  assert_int_equal (hits[0] + hits[1], 0);
  for (int i = 2; i < 4; i++) /* 1000 expected, 29 the standard deviation */
    assert_in_range (hits[i], 850, 1150);
  assert_in_range (hits[4], 3800, 4200);
}

static void
huge_weights (void **state)
{
  Router *router = *state;
  gsize nodes[N];
  for (int i = 0; i < N; i++)
    router->views[i].weight = G_MAXINT64 - i;
  for (guint64 id = 1; id <= 50; id++)
    assert_int_equal (place (router, id, N, nodes), N);
}

static void
no_copies (void **state)
{
  Router *router = *state;
  gsize nodes[N], n = 7;
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  g_autoptr (GError) error = NULL;
  assert_false (router->ops->place (router->self, key, router->nodes, N, 0, nodes, &n, &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
  assert_int_equal (n, 7);
}

static gsize
pick (Router *router, guint64 dice)
{
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  gsize index = 99;
  assert_true (router->ops->pick_reader (router->self, key, router->nodes, N, dice, &index, NULL));
  return index;
}

static void
less_busy_of_two (void **state)
{
  Router *router = *state;
  guint hits[N] = { 0 };
  router->views[2].in_flight = 100;
  for (guint i = 0; i < 20000; i++)
    {
      guint64 dice;
      router->host->host.random (&router->host->host, &dice, sizeof dice);
      hits[pick (router, dice)]++;
    }
  assert_int_equal (hits[2], 0); /* of two drawn the other one is always less busy */
  for (int i = 0; i < N; i++)    /* 5000 expected, 61 the standard deviation */
    if (i != 2)
      assert_in_range (hits[i], 4600, 5400);
}

static void
every_pair (void **state)
{
  Router *router = *state;
  for (int i = 0; i < N; i++)
    router->views[i].in_flight = (guint32) i;
  for (guint64 first = 0; first < N; first++)
    for (guint64 other = 0; other < N - 1; other++)
      {
        gsize second = other + (other >= first);
        assert_int_equal (pick (router, other << 32 | first), MIN (first, second));
      }
}

int
main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, router_new, router_free)
  const struct CMUnitTest tests[] = { CASE (never_changes), CASE (by_weight),        CASE (huge_weights),
                                      CASE (no_copies),     CASE (less_busy_of_two), CASE (every_pair) };
  return cmocka_run_group_tests_name ("rendezvous", tests, NULL, NULL);
}
