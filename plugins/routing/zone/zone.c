/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/zone: copies in different zones, and in different racks of a zone; reads from nearby.
 *
 * A storage's zone is "ZONE" or "ZONE/RACK". Each copy goes where there are fewest copies of the repository yet, by
 * zone, then by rack, and among those to the best in weighted rendezvous order. Put another way: the k-th best of each
 * zone come before all (k+1)-th best, and the same among the racks of a zone; so a node that goes makes nobody
 * else's place worse, and moves only what it held. With one zone, or none configured, this is plain rendezvous.
 */
#include "rank.h"

typedef struct
{
  char *zone; /* where this router is; NULL = anywhere */
  gsize zone_len, whole_len;
} Zone;

/* The length of the part before the rack. */
static gsize
zone_length (const char *zone)
{
  return strcspn (zone, "/");
}

static gboolean
same_zone (const GsNodeView *a, const GsNodeView *b)
{
  gsize len = zone_length (a->zone);
  return len == zone_length (b->zone) && memcmp (a->zone, b->zone, len) == 0;
}

/* How many of the chosen ones are in the node's zone, and how many in its rack. */
static void
count_neighbours (const GArray *ranked, const gboolean *taken, guint node, guint *ret_zone, guint *ret_rack)
{
  const GsNodeView *view = g_array_index (ranked, Ranked, node).view;
  *ret_zone = *ret_rack = 0;
  for (guint i = 0; i < ranked->len; i++)
    {
      const GsNodeView *other = g_array_index (ranked, Ranked, i).view;
      if (!taken[i] || !same_zone (view, other))
        continue;
      (*ret_zone)++;
      *ret_rack += strcmp (view->zone, other->zone) == 0;
    }
}

/* The best of those that are left: of the lowest tier, of the emptiest zone, of its emptiest rack, the first ranked. */
static guint
next_node (const GArray *ranked, const gboolean *taken)
{
  guint best = G_MAXUINT, best_tier = 0, best_zone = 0, best_rack = 0;
  for (guint i = 0; i < ranked->len; i++)
    {
      guint tier = g_array_index (ranked, Ranked, i).tier, zone, rack;
      if (taken[i])
        continue;
      count_neighbours (ranked, taken, i, &zone, &rack);
      if (best != G_MAXUINT
          && (tier != best_tier   ? tier > best_tier
              : zone != best_zone ? zone > best_zone
                                  : rack >= best_rack))
        continue;
      best = i;
      best_tier = tier;
      best_zone = zone;
      best_rack = rack;
    }
  return best;
}

static gboolean
zone_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
            gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = rank_nodes (key, nodes, n_nodes, n_copies, NULL, NULL, error);
  g_autofree gboolean *taken = NULL;
  gsize n;
  if (ranked == NULL)
    return FALSE;
  taken = g_new0 (gboolean, ranked->len);
  n = MIN (n_copies, (gsize) ranked->len);
  for (gsize i = 0; i < n; i++)
    {
      guint node = next_node (ranked, taken);
      taken[node] = TRUE;
      ret_nodes[i] = g_array_index (ranked, Ranked, node).index;
    }
  *ret_n = n;
  return TRUE;
}

/* 0: in our rack, or in our zone when we name no rack; 1: in our zone; 2: elsewhere. */
static guint
distance (const GsNodeView *view, gpointer user)
{
  const Zone *self = user;
  if (self->zone == NULL)
    return 0;
  if (zone_length (view->zone) != self->zone_len || memcmp (view->zone, self->zone, self->zone_len) != 0)
    return 2;
  return self->zone_len == self->whole_len || strcmp (view->zone, self->zone) == 0 ? 0 : 1;
}

static gboolean
zone_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
                  gsize *ret_index, GError **error)
{
  return rank_pick (candidates, n_candidates, dice, distance, NULL, self, ret_index, error);
}

static const GsOption zone_options[] = {
  { .key = "zone",
    .type = GS_OPTION_STRING,
    .help = "Where this server is, ZONE or ZONE/RACK as the storages give it: reads go to the nearest copy. Unset: to "
            "any copy." },
  { NULL },
};

static gpointer
zone_create (const GsHost *host, const GsConfig *config, GError **error)
{
  const char *zone = config->string (config, "zone");
  Zone *self = g_new0 (Zone, 1);
  if (zone != NULL && *zone != '\0')
    {
      self->zone = g_strdup (zone);
      self->zone_len = zone_length (zone);
      self->whole_len = strlen (zone);
    }
  return self;
}

static void
zone_destroy (gpointer data)
{
  Zone *self = data;
  g_free (self->zone);
  g_free (self);
}

static const GsRoutingOps zone_ops = { .place = zone_place, .pick_reader = zone_pick_reader };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "zone",
                  .version = "0.1.0", .summary = "Copies in different zones and racks; reads from the nearest",
                  .license = "Apache-2.0", .options = zone_options, .ops = &zone_ops, .create = zone_create,
                  .destroy = zone_destroy)
