/* SPDX-License-Identifier: Apache-2.0 */
/** routing.h - a routing plugin with a few nodes to choose among, for the tests of single routings. */
#ifndef TESTS_ROUTING_H
#define TESTS_ROUTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gitstead/routing.h>

#include "fakehost.h"
#include "loadplugin.h"

#define NODES_MAX 8

typedef struct
{
  const GsPlugin *plugin;
  const GsRoutingOps *ops;
  FakeHost *host;
  FakeConfig *config;
  gpointer self;
  gsize n;
  GsNodeView views[NODES_MAX];
  const GsNodeView *nodes[NODES_MAX];
} Routing;

/* Nodes "a", "b", … of weight 1; a key that is NULL ends the options, all others are at their defaults. */
static inline void
routing_open_with (Routing *routing, const char *file, gsize n, const char *key, const char *value, const char *key_2,
                   const char *value_2, const char *key_3, const char *value_3)
{
  static const char *const names[NODES_MAX] = { "a", "b", "c", "d", "e", "f", "g", "h" };
  memset (routing, 0, sizeof *routing);
  routing->plugin = load_plugin (file);
  routing->ops = routing->plugin->ops;
  routing->host = fake_host_new ("routing default");
  routing->config = fake_config_new (routing->plugin, key, value, key_2, value_2, key_3, value_3, NULL);
  routing->self = routing->plugin->create (&routing->host->host, fake_config_get (routing->config), NULL);
  assert_non_null (routing->self);
  routing->n = n;
  for (gsize i = 0; i < n; i++)
    {
      routing->views[i]
          = (GsNodeView){ .size = sizeof (GsNodeView), .name = names[i], .zone = "", .weight = 1, .healthy = TRUE };
      routing->nodes[i] = &routing->views[i];
    }
}

static inline void
routing_open (Routing *routing, const char *file, gsize n, const char *key, const char *value)
{
  routing_open_with (routing, file, n, key, value, NULL, NULL, NULL, NULL);
}

static inline void
routing_close (Routing *routing)
{
  routing->plugin->destroy (routing->self);
  fake_config_free (routing->config);
  fake_host_free (routing->host);
}

static inline gsize
routing_place (Routing *routing, guint64 id, gsize n_copies, gsize *ret_nodes)
{
  guint64 big_endian = GUINT64_TO_BE (id);
  g_autoptr (GBytes) key = g_bytes_new (&big_endian, sizeof big_endian);
  gsize n = 0;
  assert_true (routing->ops->place (routing->self, key, routing->nodes, routing->n, n_copies, ret_nodes, &n, NULL));
  return n;
}

static inline gsize
routing_pick (Routing *routing, guint64 dice)
{
  g_autoptr (GBytes) key = g_bytes_new_static ("k", 1);
  gsize index = 99;
  assert_true (routing->ops->pick_reader (routing->self, key, routing->nodes, routing->n, dice, &index, NULL));
  return index;
}

/* How often each node is the first of those chosen for so many repositories. */
static inline void
routing_shares (Routing *routing, guint n_repositories, guint *ret_hits)
{
  memset (ret_hits, 0, NODES_MAX * sizeof *ret_hits);
  for (guint64 id = 1; id <= n_repositories; id++)
    {
      gsize nodes[NODES_MAX];
      assert_int_equal (routing_place (routing, id, 1, nodes), 1);
      ret_hits[nodes[0]]++;
    }
}

#endif
