/* SPDX-License-Identifier: Apache-2.0 */
/* Contract cases of kind ROUTING. */
#include "engine.h"

#define NODES_MAX 12

typedef struct
{
  GsNodeView views[NODES_MAX];
  const GsNodeView *list[NODES_MAX];
  char names[NODES_MAX][16];
  gsize n;
} Cluster;

static void
cluster_init (Cluster *cluster, gsize n)
{
  memset (cluster, 0, sizeof *cluster);
  cluster->n = n;
  for (gsize i = 0; i < n; i++)
    {
      g_snprintf (cluster->names[i], sizeof cluster->names[i], "node-%c", (char) ('a' + i));
      cluster->views[i] = (GsNodeView){
        .size = sizeof (GsNodeView), .name = cluster->names[i], .zone = "", .weight = 1, .healthy = TRUE
      };
      cluster->list[i] = &cluster->views[i];
    }
}

static GBytes *
key_of (guint64 id)
{
  guint64 big_endian = GUINT64_TO_BE (id);
  return g_bytes_new (&big_endian, sizeof big_endian);
}

static gboolean
place (Conformance *c, const Cluster *cluster, guint64 id, gsize n_copies, gsize *ret_nodes, gsize *ret_n,
       GError **error)
{
  const GsRoutingOps *ops = c->ops;
  g_autoptr (GBytes) key = key_of (id);
  return ops->place (c->self, key, cluster->list, cluster->n, n_copies, ret_nodes, ret_n, error);
}

static gboolean
contains (const gsize *nodes, gsize n, gsize wanted)
{
  for (gsize i = 0; i < n; i++)
    if (nodes[i] == wanted)
      return TRUE;
  return FALSE;
}

static void
exact_number (Conformance *c)
{
  for (gsize n_nodes = 1; n_nodes <= 8; n_nodes++)
    for (gsize n_copies = 1; n_copies <= 9; n_copies++)
      {
        Cluster cluster;
        gsize nodes[NODES_MAX], n = 0, n_eligible = n_nodes;
        cluster_init (&cluster, n_nodes);
        if (n_nodes > 3)
          {
            cluster.views[1].weight = 0;
            cluster.views[3].healthy = FALSE;
            n_eligible -= 2;
          }
        CHECK_OK (c, place (c, &cluster, n_nodes * 100 + n_copies, n_copies, nodes, &n, &error));
        CHECK (c, n == MIN (n_copies, n_eligible), "min (copies, eligible nodes) nodes",
               "%" G_GSIZE_FORMAT " for %" G_GSIZE_FORMAT " copies on %" G_GSIZE_FORMAT " eligible nodes", n, n_copies,
               n_eligible);
        for (gsize i = 0; i < n; i++)
          {
            CHECK (c, nodes[i] < n_nodes && !contains (nodes, i, nodes[i]), "different nodes of the list",
                   "index %" G_GSIZE_FORMAT, nodes[i]);
            CHECK (c, cluster.views[nodes[i]].weight > 0 && cluster.views[nodes[i]].healthy, "eligible nodes only",
                   "%s", cluster.views[nodes[i]].name);
          }
      }
}

static void
nobody_eligible (Conformance *c)
{
  Cluster cluster;
  gsize nodes[NODES_MAX] = { 99 }, n = 99;
  cluster_init (&cluster, 2);
  cluster.views[0].weight = 0;
  cluster.views[1].healthy = FALSE;
  CHECK_CODE (c, GS_ERROR_UNAVAILABLE, place (c, &cluster, 1, 1, nodes, &n, &error));
  CHECK (c, n == 99 && nodes[0] == 99, "outputs untouched on failure", "%" G_GSIZE_FORMAT, n);
  cluster.n = 0;
  CHECK_CODE (c, GS_ERROR_UNAVAILABLE, place (c, &cluster, 1, 1, nodes, &n, &error));
}

static void
stable (Conformance *c)
{
  Cluster cluster, turned;
  cluster_init (&cluster, 7);
  cluster_init (&turned, 7);
  for (gsize i = 0; i < 7; i++)
    turned.list[i] = &turned.views[6 - i]; /* the same nodes in another order */
  for (guint64 id = 1; id <= 200; id++)
    {
      gsize a[NODES_MAX], b[NODES_MAX], n_a = 0, n_b = 0;
      CHECK_OK (c, place (c, &cluster, id, 3, a, &n_a, &error));
      cluster.views[id % 7].in_flight = (guint32) id; /* what is not an argument of placement must not show */
      CHECK_OK (c, place (c, &turned, id, 3, b, &n_b, &error));
      for (gsize i = 0; i < 3; i++)
        CHECK (c, strcmp (cluster.list[a[i]]->name, turned.list[b[i]]->name) == 0,
               "the same nodes in the same order, however they are listed", "%s and %s", cluster.list[a[i]]->name,
               turned.list[b[i]]->name);
    }
}

static void
little_moves (Conformance *c)
{
  guint n_moved = 0;
  for (guint64 id = 1; id <= 300; id++)
    {
      Cluster whole, without;
      gsize a[NODES_MAX], b[NODES_MAX], n = 0;
      cluster_init (&whole, 6);
      cluster_init (&without, 6);
      without.list[2] = without.list[5]; /* node-c is gone */
      without.n = 5;
      CHECK_OK (c, place (c, &whole, id, 2, a, &n, &error));
      CHECK_OK (c, place (c, &without, id, 2, b, &n, &error));
      for (gsize i = 0; i < 2; i++)
        {
          gboolean stays = FALSE;
          for (gsize k = 0; k < 2; k++)
            stays = stays || strcmp (whole.list[a[i]]->name, without.list[b[k]]->name) == 0;
          CHECK (c, stays || a[i] == 2, "replicas on other nodes stay when node-c is gone", "one left %s",
                 whole.list[a[i]]->name);
          n_moved += !stays;
        }
    }
  CHECK (c, n_moved > 0, "node-c to have held some of 300 repositories", "none");
}

static void
draining_last (Conformance *c)
{
  for (guint64 id = 1; id <= 100; id++)
    {
      Cluster cluster;
      gsize nodes[NODES_MAX], n = 0;
      cluster_init (&cluster, 4);
      cluster.views[id % 4].draining = TRUE;
      CHECK_OK (c, place (c, &cluster, id, 3, nodes, &n, &error));
      CHECK (c, n == 3 && !contains (nodes, n, id % 4), "no draining node while others do", "it was taken");
      CHECK_OK (c, place (c, &cluster, id, 4, nodes, &n, &error));
      CHECK (c, n == 4 && nodes[3] == id % 4, "the draining node last when all are asked for", "at another place");
    }
}

static gboolean
pick (Conformance *c, const Cluster *cluster, guint64 dice, gsize *ret_index, GError **error)
{
  const GsRoutingOps *ops = c->ops;
  g_autoptr (GBytes) key = key_of (42);
  return ops->pick_reader (c->self, key, cluster->list, cluster->n, dice, ret_index, error);
}

static const guint64 dices[] = { 0,
                                 1,
                                 2,
                                 5,
                                 G_MAXUINT32,
                                 G_GUINT64_CONSTANT (0x100000000),
                                 G_GUINT64_CONSTANT (0x123456789abcdef0),
                                 G_GUINT64_CONSTANT (0xfedcba9876543210),
                                 G_MAXUINT64 };

static void
healthy_reader (Conformance *c)
{
  for (guint mask = 1; mask < 32; mask++)
    for (gsize d = 0; d < G_N_ELEMENTS (dices); d++)
      {
        Cluster cluster;
        gsize index = 99;
        cluster_init (&cluster, 5);
        for (gsize i = 0; i < 5; i++)
          cluster.views[i].healthy = (mask >> i & 1) != 0;
        cluster.views[0].weight = 0; /* weight is for new repositories only */
        CHECK_OK (c, pick (c, &cluster, dices[d], &index, &error));
        CHECK (c, index < 5 && cluster.views[index].healthy, "a healthy candidate", "index %" G_GSIZE_FORMAT, index);
      }
}

static void
no_reader (Conformance *c)
{
  Cluster cluster;
  gsize index = 99;
  cluster_init (&cluster, 3);
  for (gsize i = 0; i < 3; i++)
    cluster.views[i].healthy = FALSE;
  CHECK_CODE (c, GS_ERROR_UNAVAILABLE, pick (c, &cluster, 7, &index, &error));
  cluster.n = 0;
  CHECK_CODE (c, GS_ERROR_UNAVAILABLE, pick (c, &cluster, 7, &index, &error));
  CHECK (c, index == 99, "the index untouched on failure", "%" G_GSIZE_FORMAT, index);
}

static void
draining_reader (Conformance *c)
{
  for (gsize d = 0; d < G_N_ELEMENTS (dices); d++)
    {
      Cluster cluster;
      gsize index = 99;
      cluster_init (&cluster, 3);
      cluster.views[0].draining = cluster.views[2].draining = TRUE;
      cluster.views[1].in_flight = 1000;
      CHECK_OK (c, pick (c, &cluster, dices[d], &index, &error));
      CHECK (c, index == 1, "the one that does not drain", "index %" G_GSIZE_FORMAT, index);
      cluster.views[1].healthy = FALSE;
      CHECK_OK (c, pick (c, &cluster, dices[d], &index, &error));
      CHECK (c, index == 0 || index == 2, "a healthy one that drains, when there is no other", "index %" G_GSIZE_FORMAT,
             index);
    }
}

static void
same_dice (Conformance *c)
{
  Cluster cluster;
  cluster_init (&cluster, 4);
  for (guint i = 0; i < 500; i++)
    {
      guint64 dice;
      gsize index = 0, again = 0;
      c->host.random (&c->host, &dice, sizeof dice);
      cluster.views[i % 4].in_flight = i % 11;
      CHECK_OK (c, pick (c, &cluster, dice, &index, &error));
      CHECK_OK (c, pick (c, &cluster, dice, &again, &error));
      CHECK (c, index == again && index < 4, "the same answer for the same arguments",
             "%" G_GSIZE_FORMAT " and %" G_GSIZE_FORMAT, index, again);
    }
}

/* What place promises, with a name that no rule concerns. */
static void
named (Conformance *c)
{
  const GsRoutingOps *ops = c->ops;
  if (ops->place_named == NULL)
    {
      conformance_skip (c, "the plugin does not go by names");
      return;
    }
  for (guint64 id = 1; id <= 200; id++)
    {
      Cluster cluster;
      gsize a[NODES_MAX] = { 99 }, b[NODES_MAX] = { 99 }, n_a = 0, n_b = 0, n_copies = 1 + id % 7;
      g_autoptr (GBytes) key = key_of (id);
      g_autofree char *path = conformance_path (c, "named");
      cluster_init (&cluster, 5);
      cluster.views[id % 5].draining = TRUE;
      cluster.views[(id + 2) % 5].healthy = id % 3 != 0;
      CHECK_OK (c, place (c, &cluster, id, n_copies, a, &n_a, &error));
      CHECK_OK (c, ops->place_named (c->self, key, path, cluster.list, cluster.n, n_copies, b, &n_b, &error));
      CHECK (c, n_a == n_b && memcmp (a, b, n_a * sizeof a[0]) == 0, "the same nodes as place",
             "others, for repository %" G_GUINT64_FORMAT, id);
      cluster.n = 0;
      CHECK_CODE (c, GS_ERROR_UNAVAILABLE,
                  ops->place_named (c->self, key, path, cluster.list, cluster.n, n_copies, b, &n_b, &error));
    }
}

const ConformanceCase conformance_routing[] = {
  { "R1", "as many different eligible nodes as asked for or as there are", exact_number },
  { "R1", "UNAVAILABLE when nobody is eligible", nobody_eligible },
  { "R2", "placement depends on its arguments alone, not on their order", stable },
  { "R2", "with one node gone, repositories that are not on it stay", little_moves },
  { "R4", "draining nodes are placed on last", draining_last },
  { "R3", "a healthy reader whenever there is one", healthy_reader },
  { "R3", "UNAVAILABLE when no candidate is healthy", no_reader },
  { "R4", "no draining reader while another would do", draining_reader },
  { "R2", "the same dice pick the same reader", same_dice },
  { "R5", "with a name that no rule concerns, as without", named },
  { NULL, NULL, NULL },
};
