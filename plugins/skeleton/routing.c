/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/@NAME@: nodes in the order of SHA-256 (repository, node name); reads by the dice.
 *
 * It is whole as it stands; what each slot promises stands in gitstead/routing.h.
 */
#include <gitstead/routing.h>
#include <string.h>

typedef struct
{
  gsize index;
  gboolean draining;
  const char *name;
  guint8 digest[32];
} Ranked;

static int
by_rank (gconstpointer left, gconstpointer right)
{
  const Ranked *a = left, *b = right;
  int order = memcmp (a->digest, b->digest, sizeof a->digest);
  if (a->draining != b->draining)
    return a->draining ? 1 : -1;
  return order != 0 ? order : strcmp (a->name, b->name);
}

static void
rank (Ranked *ret_ranked, GBytes *key, const GsNodeView *node, gsize index)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  gsize n_digest = sizeof ret_ranked->digest, n_key;
  gconstpointer key_bytes = g_bytes_get_data (key, &n_key);
  *ret_ranked = (Ranked){ .index = index, .draining = node->draining, .name = node->name };
  g_checksum_update (sum, (const guchar *) node->name, (gssize) strlen (node->name) + 1);
  if (n_key > 0)
    g_checksum_update (sum, key_bytes, (gssize) n_key);
  g_checksum_get_digest (sum, ret_ranked->digest, &n_digest);
}

static gboolean
place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies, gsize *ret_nodes,
       gsize *ret_n, GError **error)
{
  g_autoptr (GArray) ranked = g_array_new (FALSE, FALSE, sizeof (Ranked));
  gsize n;
  for (gsize i = 0; i < n_nodes; i++)
    if (nodes[i]->healthy && nodes[i]->weight > 0)
      {
        Ranked one;
        rank (&one, key, nodes[i], i);
        g_array_append_val (ranked, one);
      }
  if (ranked->len == 0)
    return gs_fail (error, GS_ERROR_UNAVAILABLE, "placing a repository: no node is healthy and takes new ones");
  g_array_sort (ranked, by_rank);
  n = MIN (n_copies, (gsize) ranked->len);
  for (gsize i = 0; i < n; i++)
    ret_nodes[i] = g_array_index (ranked, Ranked, i).index;
  *ret_n = n;
  return TRUE;
}

static gboolean
pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
             gsize *ret_index, GError **error)
{
  /* Those that do not drain first; the others when there are no such. */
  for (int draining = FALSE; draining <= TRUE; draining++)
    {
      gsize n = 0, skip;
      for (gsize i = 0; i < n_candidates; i++)
        n += candidates[i]->healthy && candidates[i]->draining == draining;
      if (n == 0)
        continue;
      skip = (gsize) (dice % n);
      for (gsize i = 0; i < n_candidates; i++)
        if (candidates[i]->healthy && candidates[i]->draining == draining && skip-- == 0)
          {
            *ret_index = i;
            return TRUE;
          }
    }
  return gs_fail (error, GS_ERROR_UNAVAILABLE, "choosing a replica to read from: none is healthy");
}

static const GsRoutingOps ops = { .place = place, .pick_reader = pick_reader };

static gpointer
create (const GsHost *host, const GsConfig *config, GError **error)
{
  return g_new0 (char, 1); /* nothing to keep */
}

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "@NAME@", .version = "0.1.0",
                  .summary = "Places by the hash of repository and node", .license = "Apache-2.0", .ops = &ops, .create = create,
                  .destroy = g_free)
