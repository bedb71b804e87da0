/* SPDX-License-Identifier: Apache-2.0 */
/*
 * routing/canary: a share of the repositories, or those that are named, has its place on a group of storages of its
 * own.
 *
 * For trying out other storages, or moving to them bit by bit. Which repositories belong to the share follows from
 * their ids alone: raising the percentage adds repositories and moves none of the others, lowering it takes back the
 * ones that were added last. Within a group a repository's place is drawn in proportion to the storages' weights.
 *
 * What has its place elsewhere now is not moved by this: placing is asked for when a repository is created, or moved.
 * Where the group has too few storages that can take a repository, the others stand in: better there than nowhere.
 */
#include "rank.h"

#define TIER_OTHER_GROUP 1u
#define TIER_DRAINING 2u

typedef struct
{
  GHashTable *storages; /* names of the group */
  char **prefixes, **never;
  guint percent;
} Canary;

typedef struct
{
  const Canary *canary;
  gboolean chosen;
} Placing;

/* "group/" and "group" hold "group/a.git"; "group/a.git" holds itself. */
static gboolean
listed (char **prefixes, const char *path)
{
  for (char **prefix = prefixes; *prefix != NULL; prefix++)
    {
      gsize len = strlen (*prefix);
      if (strncmp (path, *prefix, len) == 0
          && (path[len] == '\0' || path[len] == '/' || (len > 0 && (*prefix)[len - 1] == '/')))
        return TRUE;
    }
  return FALSE;
}

/* Has nothing to do with the order of the storages, which hashes the same key: other bytes stand before it. */
static gboolean
in_share (GBytes *key, guint percent)
{
  g_autoptr (GChecksum) sum = g_checksum_new (G_CHECKSUM_SHA256);
  guint8 digest[32];
  gsize key_len, digest_len = sizeof digest;
  gconstpointer key_bytes = g_bytes_get_data (key, &key_len);
  guint64 drawn = 0;
  g_checksum_update (sum, (const guchar *) "canary", sizeof "canary");
  if (key_len > 0)
    g_checksum_update (sum, key_bytes, (gssize) key_len);
  g_checksum_get_digest (sum, digest, &digest_len);
  for (int i = 0; i < 8; i++)
    drawn = drawn << 8 | digest[i];
  return (unsigned __int128) drawn * 100 < (unsigned __int128) percent << 64;
}

static guint64
weigh (const GsNodeView *view, gpointer user, guint *tier)
{
  const Placing *placing = user;
  gboolean of_group = g_hash_table_contains (placing->canary->storages, view->name);
  if (*tier == RANK_DRAINING)
    *tier = TIER_DRAINING;
  else if (of_group != placing->chosen)
    *tier = TIER_OTHER_GROUP;
  return (guint64) view->weight;
}

/* @path NULL: not known. */
static gboolean
canary_place_named (gpointer self, GBytes *key, const char *path, const GsNodeView *const *nodes, gsize n_nodes,
                    gsize n_copies, gsize *ret_nodes, gsize *ret_n, GError **error)
{
  const Canary *canary = self;
  Placing placing = { canary, FALSE };
  g_autoptr (GArray) ranked = NULL;
  if (path != NULL && listed (canary->never, path))
    placing.chosen = FALSE;
  else
    placing.chosen = (path != NULL && listed (canary->prefixes, path)) || in_share (key, canary->percent);
  ranked = rank_nodes (key, nodes, n_nodes, n_copies, weigh, &placing, error);
  if (ranked == NULL)
    return FALSE;
  rank_take (ranked, n_copies, ret_nodes, ret_n);
  return TRUE;
}

static gboolean
canary_place (gpointer self, GBytes *key, const GsNodeView *const *nodes, gsize n_nodes, gsize n_copies,
              gsize *ret_nodes, gsize *ret_n, GError **error)
{
  return canary_place_named (self, key, NULL, nodes, n_nodes, n_copies, ret_nodes, ret_n, error);
}

/* Where the copies are says enough: all that are current are as good, wherever the repository has its place. */
static gboolean
canary_pick_reader (gpointer self, GBytes *key, const GsNodeView *const *candidates, gsize n_candidates, guint64 dice,
                    gsize *ret_index, GError **error)
{
  return rank_pick (candidates, n_candidates, dice, NULL, NULL, NULL, ret_index, error);
}

static const GsOption canary_options[] = {
  { .key = "storages",
    .type = GS_OPTION_LIST,
    .help = "The group: names of storages of this virtual storage. The other storages hold the other repositories." },
  { .key = "percent",
    .type = GS_OPTION_INT,
    .fallback = "0",
    .min = 0,
    .max = 100,
    .help = "So many of a hundred repositories have their place on the group; which ones does not change with the "
            "number, but for those that come or go." },
  { .key = "prefixes",
    .type = GS_OPTION_LIST,
    .help = "Paths, or folders of them, of repositories that have their place on the group whatever the percentage." },
  { .key = "never",
    .type = GS_OPTION_LIST,
    .help = "Paths, or folders of them, of repositories that never have; this goes before the others." },
  { NULL },
};

static void
canary_destroy (gpointer self)
{
  Canary *canary = self;
  g_hash_table_destroy (canary->storages);
  g_strfreev (canary->prefixes);
  g_strfreev (canary->never);
  g_free (canary);
}

static gpointer
canary_create (const GsHost *host, const GsConfig *config, GError **error)
{
  Canary *self = g_new0 (Canary, 1);
  const char *const *names = config->list (config, "storages");
  self->storages = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  self->percent = (guint) config->integer (config, "percent");
  self->prefixes = g_strdupv ((char **) config->list (config, "prefixes"));
  self->never = g_strdupv ((char **) config->list (config, "never"));
  for (; *names != NULL; names++)
    g_hash_table_add (self->storages, g_strdup (*names));
  if (g_hash_table_size (self->storages) == 0 && (self->percent > 0 || self->prefixes[0] != NULL))
    {
      gs_fail (error, GS_ERROR_INVALID_ARGUMENT,
               "routing “canary”: percent or prefixes choose repositories, and storages names no group for them");
      canary_destroy (self);
      return NULL;
    }
  return self;
}

static const GsRoutingOps canary_ops
    = { .place = canary_place, .pick_reader = canary_pick_reader, .place_named = canary_place_named };

GS_PLUGIN_DEFINE (GsRoutingOps, .kind = GS_KIND_ROUTING, .threads = GS_THREADS_PARALLEL, .name = "canary",
                  .version = "0.1.0", .summary = "A share of the repositories on storages of its own",
                  .license = "Apache-2.0", .options = canary_options, .ops = &canary_ops, .create = canary_create,
                  .destroy = canary_destroy)
