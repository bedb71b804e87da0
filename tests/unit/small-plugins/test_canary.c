/* SPDX-License-Identifier: Apache-2.0 */
/* routing/canary: who is chosen, by share and by name, what a changed percentage moves, and who stands in. */
#include "routing.h"

#define REPOSITORIES 2000

static const char *const canary = "routing-canary.so";

/* The node that comes first. */
static gsize
first (Routing *routing, guint64 id, const char *path)
{
  guint64 big_endian = GUINT64_TO_BE (id);
  g_autoptr (GBytes) key = g_bytes_new (&big_endian, sizeof big_endian);
  gsize nodes[NODES_MAX], n = 0;
  assert_true (routing->ops->place_named (routing->self, key, path, routing->nodes, routing->n, 1, nodes, &n, NULL));
  assert_int_equal (n, 1);
  return nodes[0];
}

static void
share_moves_only_the_difference (void **state)
{
  static const struct
  {
    const char *percent;
    guint least, most;
  } steps[] = { { "0", 0, 0 }, { "1", 8, 36 }, { "10", 160, 240 }, { "50", 930, 1070 }, { "100", 2000, 2000 } };
  gsize before[REPOSITORIES] = { 0 };
  for (gsize s = 0; s < G_N_ELEMENTS (steps); s++)
    {
      Routing routing;
      guint n_chosen = 0;
      routing_open_with (&routing, canary, 5, "storages", "b,d", "percent", steps[s].percent, NULL, NULL);
      for (guint64 id = 0; id < REPOSITORIES; id++)
        {
          gsize node = first (&routing, id + 1, "any.git");
          gboolean of_group = node == 1 || node == 3;
          n_chosen += of_group;
          /* One that was there stays where it was, and so does one that is still not chosen. */
          if (s > 0 && (of_group == (before[id] == 1 || before[id] == 3)))
            assert_int_equal (node, before[id]);
          if (s > 0 && (before[id] == 1 || before[id] == 3))
            assert_true (of_group);
          before[id] = node;
        }
      assert_in_range (n_chosen, steps[s].least, steps[s].most);
      routing_close (&routing);
    }
}

static void
others_as_without (void **state)
{
  Routing routing, plain;
  guint n_others = 0;
  routing_open_with (&routing, canary, 4, "storages", "d", "percent", "30", NULL, NULL);
  routing_open (&plain, "routing-rendezvous.so", 3, NULL, NULL);
  for (guint64 id = 1; id <= 500; id++)
    {
      gsize nodes[NODES_MAX], node = first (&routing, id, "any.git");
      routing_place (&plain, id, 1, nodes);
      if (node != 3)
        assert_int_equal (node, nodes[0]);
      n_others += node != 3;
    }
  assert_in_range (n_others, 300, 400);
  routing_close (&routing);
  routing_close (&plain);
}

static void
by_name (void **state)
{
  Routing routing;
  routing_open_with (&routing, canary, 3, "storages", "c", "prefixes", "team,old/app.git,all/", "never",
                     "team/kept.git");
  for (guint64 id = 1; id <= 60; id++)
    {
      assert_int_equal (first (&routing, id, "team/a.git"), 2);
      assert_int_equal (first (&routing, id, "team"), 2);
      assert_int_equal (first (&routing, id, "old/app.git"), 2);
      assert_int_equal (first (&routing, id, "all/b.git"), 2);
      assert_int_not_equal (first (&routing, id, "team/kept.git"), 2);
      assert_int_not_equal (first (&routing, id, "teams/a.git"), 2);
      assert_int_not_equal (first (&routing, id, "old/app.gitx"), 2);
      assert_int_not_equal (first (&routing, id, "all"), 2);
      assert_int_not_equal (first (&routing, id, ""), 2);
    }
  routing_close (&routing);
}

static void
others_stand_in (void **state)
{
  Routing routing;
  gsize nodes[NODES_MAX];
  routing_open_with (&routing, canary, 4, "storages", "a,b", "percent", "100", NULL, NULL);
  for (guint64 id = 1; id <= 30; id++)
    {
      assert_int_equal (routing_place (&routing, id, 4, nodes), 4);
      assert_true (nodes[0] <= 1 && nodes[1] <= 1 && nodes[2] >= 2 && nodes[3] >= 2);
      routing.views[0].draining = TRUE;
      routing.views[1].healthy = FALSE;
      assert_int_equal (routing_place (&routing, id, 4, nodes), 3);
      assert_true (nodes[0] >= 2 && nodes[1] >= 2 && nodes[2] == 0);
      routing.views[0].draining = FALSE;
      routing.views[1].healthy = TRUE;
    }
  routing_close (&routing);
}

static void
group_of_nobody (void **state)
{
  const GsPlugin *plugin = load_plugin (canary);
  FakeHost *host = fake_host_new ("routing default");
  FakeConfig *config = fake_config_new (plugin, "percent", "5", NULL);
  g_autoptr (GError) error = NULL;
  assert_null (plugin->create (&host->host, fake_config_get (config), &error));
  assert_int_equal (gs_error_code (error), GS_ERROR_INVALID_ARGUMENT);
  assert_non_null (strstr (error->message, "storages"));
  fake_config_free (config);
  fake_host_free (host);
}

int
main (void)
{
  const struct CMUnitTest tests[]
      = { cmocka_unit_test (share_moves_only_the_difference), cmocka_unit_test (others_as_without),
          cmocka_unit_test (by_name), cmocka_unit_test (others_stand_in), cmocka_unit_test (group_of_nobody) };
  return cmocka_run_group_tests_name ("canary", tests, NULL, NULL);
}
