/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/rendezvous: weighted highest-random-weight placement; reads go to the less busy of two.
 *
 * A node's score for a repository is weight / -log2 (h), h being SHA-256 (key NUL node name) as a fraction of its
 * range: each node wins in proportion to its weight, and a node that comes or goes moves only what it gains or
 * held. All in integers, so that every router on every machine finds the same order.
 */
#include <gitstead/routing.h>

typedef struct
{
  gsize index;
  guint64 weight;
  guint64 hash;
  guint64 cost; /* -log2 (hash / 2^64), fixed point; the score is weight / cost */
  const char *name;
  gboolean draining;
} Ranked;

#define FRACTION_BITS 48

static guint64
node_hash (GBytes *key, const char *name)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize key_len, digest_len = sizeof digest;
  gconstpointer key_bytes = g_bytes_get_data (key, &key_len);
  guint64 hash = 0;
  if (key_len > 0)
    g_checksum_update (sum, key_bytes, (gssize) key_len);
  g_checksum_update (sum, (const guchar *) "", 1);
  g_checksum_update (sum, (const guchar *) name, (gssize) strlen (name));
  g_checksum_get_digest (sum, digest, &digest_len);
  for (int i = 0; i < 8; i++)
    hash = hash << 8 | digest[i];
  return MAX (hash, 1);
}

/* 64 - log2 (@hash) with FRACTION_BITS bits after the point, never 0. By repeated squaring of the mantissa. */
static guint64
minus_log2 (guint64 hash)
{
  guint exponent = 63 - (guint) __builtin_clzll (hash);
  guint64 mantissa = hash << (63 - exponent); /* in [1, 2) with 63 bits after the point */
  guint64 fraction = 0;
  for (int i = 0; i < FRACTION_BITS; i++)
    {
      unsigned __int128 square = (unsigned __int128) mantissa * mantissa >> 63;
      gboolean two = (square >> 64) != 0;
      fraction = fraction << 1 | (guint64) two;
      mantissa = (guint64) (two ? square >> 1 : square);
    }
  return ((guint64) 64 << FRACTION_BITS) - ((guint64) exponent << FRACTION_BITS | fraction);
}

/* Best first. Nodes that are draining stand last; no two nodes are equal. */
static int
by_rank (gconstpointer left, gconstpointer right)
{
  const Ranked *a = left, *b = right;
  unsigned __int128 score_a = (unsigned __int128) a->weight * b->cost,
                    score_b = (unsigned __int128) b->weight * a->cost;
  if (a->draining != b->draining)
    return a->draining ? 1 : -1;
  if (score_a != score_b)
    return score_a > score_b ? -1 : 1;
  if (a->hash != b->hash)
    return a->hash > b->hash ? -1 : 1;
  return strcmp (a->name, b->name);
}

static gboolean
rendezvous_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies,
                  gsize *ret_nodes, gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = g_array_new (FALSE, FALSE, sizeof (Ranked));
  gsize n;
  if (n_copies == 0)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "placing a repository: no copy of it is asked for");
  for (gsize i = 0; i < n_nodes; i++)
    {
      Ranked rank = { .index = i, .name = nodes[i]->name, .draining = nodes[i]->draining };
      if (nodes[i]->weight <= 0 || !nodes[i]->healthy)
        continue;
      rank.weight = (guint64) nodes[i]->weight;
      rank.hash = node_hash (key, nodes[i]->name);
      rank.cost = minus_log2 (rank.hash);
      g_array_append_val (ranked, rank);
    }
  if (ranked->len == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "placing a repository: none of the %" G_GSIZE_FORMAT " nodes is healthy and takes new repositories",
                    n_nodes);
  g_array_sort (ranked, by_rank);
  n = MIN (n_copies, (gsize) ranked->len);
  for (gsize i = 0; i < n; i++)
    ret_nodes[i] = g_array_index (ranked, Ranked, i).index;
  *ret_n = n;
  return TRUE;
}

/* The @skip-th candidate that may be picked. */
static gsize
nth_reader (const GsNodeView *const *candidates, gboolean draining, gsize skip)
{
  gsize i = 0;
  for (;; i++)
    if (candidates[i]->healthy && candidates[i]->draining == draining && skip-- == 0)
      return i;
}

static gboolean
rendezvous_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates,
                        guint64 dice, gsize *ret_index, GError **error)
{
  gsize n_steady = 0, n_draining = 0, n, first, second;
  for (gsize i = 0; i < n_candidates; i++)
    if (candidates[i]->healthy)
      (*(candidates[i]->draining ? &n_draining : &n_steady))++;
  n = n_steady > 0 ? n_steady : n_draining;
  if (n == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "choosing a replica to read from: none of the %" G_GSIZE_FORMAT " that are current is healthy",
                    n_candidates);
  first = nth_reader (candidates, n_steady == 0, (gsize) ((dice & G_MAXUINT32) % n));
  if (n > 1)
    {
      gsize other = (gsize) ((dice >> 32) % (n - 1));
      second = nth_reader (candidates, n_steady == 0, other + (other >= (dice & G_MAXUINT32) % n));
      if (candidates[second]->in_flight < candidates[first]->in_flight)
        first = second;
    }
  *ret_index = first;
  return TRUE;
}

static gpointer
rendezvous_create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (char, 1); /* nothing to keep */
}

static const GsRoutingOps rendezvous_ops = { .place = rendezvous_place, .pick_reader = rendezvous_pick_reader };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "rendezvous",
                  .version = "0.1.0", .summary = "Weighted rendezvous placement; reads go to the less busy of two",
                  .license = "Apache-2.0", .ops = &rendezvous_ops, .create = rendezvous_create, .destroy = g_free)
