/* SPDX-License-Identifier: Apache-2.0 */
/* Weighted rendezvous order, and the less busy of two. See rank.h. */
#include "rank.h"

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

/* Best first. No two nodes are equal. */
static int
by_rank (gconstpointer left, gconstpointer right)
{
  const Ranked *a = left, *b = right;
  unsigned __int128 score_a = (unsigned __int128) a->weight * b->cost,
                    score_b = (unsigned __int128) b->weight * a->cost;
  if (a->tier != b->tier)
    return a->tier > b->tier ? 1 : -1;
  if (score_a != score_b)
    return score_a > score_b ? -1 : 1;
  if (a->hash != b->hash)
    return a->hash > b->hash ? -1 : 1;
  return strcmp (a->view->name, b->view->name);
}

GArray *
rank_nodes (GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, RankWeigh weigh, gpointer user,
            GError **error)
{
  g_autoptr (GArray) ranked = g_array_new (FALSE, FALSE, sizeof (Ranked));
  if (n_copies == 0)
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "placing a repository: no copy of it is asked for");
      return NULL;
    }
  for (gsize i = 0; i < n_nodes; i++)
    {
      Ranked rank = { .index = i, .view = nodes[i], .tier = nodes[i]->draining ? RANK_DRAINING : 0 };
      if (nodes[i]->weight <= 0 || !nodes[i]->healthy)
        continue;
      rank.weight = weigh != NULL ? weigh (nodes[i], user, &rank.tier) : (guint64) nodes[i]->weight;
      rank.hash = node_hash (key, nodes[i]->name);
      rank.cost = minus_log2 (rank.hash);
      g_array_append_val (ranked, rank);
    }
  if (ranked->len == 0)
    {
      gs_fail (error, GS_ERROR_UNAVAILABLE,
               "placing a repository: none of the %" G_GSIZE_FORMAT " nodes is healthy and takes new repositories",
               n_nodes);
      return NULL;
    }
  g_array_sort (ranked, by_rank);
  return g_steal_pointer (&ranked);
}

void
rank_take (const GArray *ranked, gsize n_copies, gsize *ret_nodes, gsize *ret_n)
{
  gsize n = MIN (n_copies, (gsize) ranked->len);
  for (gsize i = 0; i < n; i++)
    ret_nodes[i] = g_array_index (ranked, Ranked, i).index;
  *ret_n = n;
}

/* ------------------------------------------------------------------------------------------ readers */

/* Lower is better: who drains stands behind all others. */
static guint64
class_of_reader (const GsNodeView *view, RankClass class_of, gpointer user)
{
  return (view->draining ? (guint64) 1 << 32 : 0) | (class_of != NULL ? class_of (view, user) : 0);
}

static gboolean
fewer_calls (const GsNodeView *a, const GsNodeView *b)
{
  return a->in_flight < b->in_flight;
}

gboolean
rank_pick (const GsNodeView *const *candidates, gsize n_candidates, guint64 dice, RankClass class_of, RankLess less,
           gpointer user, gsize *ret_index, GError **error)
{
  g_autofree gsize *best = g_new (gsize, MAX (n_candidates, 1));
  guint64 best_class = G_MAXUINT64;
  gsize n = 0, first, other;

  for (gsize i = 0; i < n_candidates; i++)
    {
      guint64 class = class_of_reader (candidates[i], class_of, user);
      if (!candidates[i]->healthy || class > best_class)
        continue;
      if (class < best_class)
        n = 0;
      best_class = class;
      best[n++] = i;
    }
  if (n == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "choosing a replica to read from: none of the %" G_GSIZE_FORMAT " that are current is healthy",
                    n_candidates);
  first = (gsize) ((dice & G_MAXUINT32) % n);
  if (n > 1)
    {
      other = (gsize) ((dice >> 32) % (n - 1));
      other += other >= first;
      if ((less != NULL ? less : fewer_calls) (candidates[best[other]], candidates[best[first]]))
        first = other;
    }
  *ret_index = best[first];
  return TRUE;
}
