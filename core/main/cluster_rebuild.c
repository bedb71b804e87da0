/* SPDX-License-Identifier: Apache-2.0 */
/* cluster_rebuild.c - `gitstead cluster rebuild-metadata`: the metadata store made anew from the disks. */
#include "cluster.h"

#include <gitstead/types.h>
#include <string.h>

static gboolean rebuild_apply;
static char **rebuild_without;

const GOptionEntry cluster_rebuild_options[]
    = { { "apply", 0, 0, G_OPTION_ARG_NONE, &rebuild_apply, "Write it (default: only say what would be written)", NULL },
        { "without", 0, 0, G_OPTION_ARG_STRING_ARRAY, &rebuild_without,
          "A node that is away for good: go on without what it holds (may be repeated)", "NODE" },
        G_OPTION_ENTRY_NULL };

static const char *
kind_word (Gitstead__V1__ClusterRebuildConflictKind kind)
{
  static const char *const words[] = { "?", "damaged", "behind", "diverged", "path taken", "nameless", "names differ",
                                       "misplaced", "unrecorded", "newer than recorded", "refused", "virtual storage" };
  return kind < G_N_ELEMENTS (words) ? words[kind] : "?";
}

static void
print_repositories (const Gitstead__V1__ClusterRebuildMetadataReply *reply)
{
  GsiTable *table;
  if (reply->n_repositories == 0)
    return;
  table = gsi_table_new ((const char *[]) { ">ID", "REPOSITORY", ">GENERATION", "REPLICAS", "STATE", NULL });
  for (gsize i = 0; i < reply->n_repositories; i++)
    {
      const Gitstead__V1__ClusterRebuiltRepository *one = reply->repositories[i];
      g_autofree char *id = g_strdup_printf ("%" G_GUINT64_FORMAT, one->id);
      g_autofree char *name = g_strdup_printf ("%s:%s", one->repository->virtual_storage, one->repository->path);
      g_autofree char *generation = g_strdup_printf ("%" G_GUINT64_FORMAT, one->generation);
      g_autoptr (GString) replicas = g_string_new (NULL);
      gboolean behind = FALSE;
      for (gsize k = 0; k < one->n_replicas; k++)
        {
          g_string_append_printf (replicas, "%s%s@%" G_GUINT64_FORMAT, k > 0 ? " " : "", one->replicas[k]->storage,
                                  one->replicas[k]->generation);
          behind = behind || one->replicas[k]->generation < one->generation;
        }
      gsi_table_row (table, id, name, generation, replicas->str, one->lost ? "LOST" : behind ? "some behind" : "whole",
                     NULL);
    }
  gsi_table_print (table);
  if (reply->written > reply->n_repositories)
    gsi_cli_say ("(and %" G_GUINT64_FORMAT " more)", reply->written - reply->n_repositories);
}

static void
print_conflicts (const Gitstead__V1__ClusterRebuildMetadataReply *reply)
{
  if (reply->conflict_count == 0)
    return;
  gsi_cli_say ("What the disks do not agree on, and what becomes of it:");
  for (gsize i = 0; i < reply->n_conflicts; i++)
    {
      const Gitstead__V1__ClusterRebuildConflict *one = reply->conflicts[i];
      g_autofree char *id = one->id != 0 ? g_strdup_printf (" repository %" G_GUINT64_FORMAT, one->id) : g_strdup ("");
      gsi_cli_say ("  %s:%s%s%s: %s", kind_word (one->kind), id, one->storage[0] != '\0' ? " on " : "", one->storage,
                   one->text);
    }
  if (reply->conflict_count > reply->n_conflicts)
    gsi_cli_say ("  (and %" G_GUINT64_FORMAT " more)", reply->conflict_count - reply->n_conflicts);
}

static void
print_nodes (const Gitstead__V1__ClusterRebuildMetadataReply *reply)
{
  GsiTable *table = gsi_table_new ((const char *[]) { "NODE", ">REPLICAS", "AFTER THIS", NULL });
  for (gsize i = 0; i < reply->n_nodes; i++)
    {
      const Gitstead__V1__ClusterRebuiltNode *node = reply->nodes[i];
      g_autofree char *n = node->looked ? g_strdup_printf ("%" G_GUINT64_FORMAT, node->replicas) : g_strdup ("-");
      gsi_table_row (table, node->storage, n, node->joined ? "all is recorded" : node->problem, NULL);
    }
  gsi_table_print (table);
}

int
cluster_rebuild_run (int n_args, char **args)
{
  g_autoptr (GError) error = NULL;
  Gitstead__V1__ClusterRebuildMetadataRequest request = GITSTEAD__V1__CLUSTER_REBUILD_METADATA_REQUEST__INIT;
  const Gitstead__V1__ClusterRebuildMetadataReply *reply;
  (void) n_args;
  (void) args;
  request.apply = rebuild_apply;
  request.without = rebuild_without;
  request.n_without = rebuild_without != NULL ? g_strv_length (rebuild_without) : 0;
  reply = (const Gitstead__V1__ClusterRebuildMetadataReply *) gsi_cli_call ("Cluster/RebuildMetadata", &request.base,
                                                                           &error);
  if (reply == NULL)
    return gsi_cli_fail (error, "cannot rebuild the metadata store");
  if (gsi_cli_json ())
    return gsi_cli_finish_json (&reply->base, "what was found");
  print_repositories (reply);
  print_conflicts (reply);
  print_nodes (reply);
  gsi_cli_say ("On no disk, and gone with the store:");
  for (gsize i = 0; i < reply->n_gone; i++)
    gsi_cli_say ("  %s", reply->gone[i]);
  gsi_cli_say ("%" G_GUINT64_FORMAT " replicas were looked at. %" G_GUINT64_FORMAT " repositories are recorded already; %"
               G_GUINT64_FORMAT " %s.%s",
               reply->replicas, reply->recorded, reply->written, reply->applied ? "were written" : "would be written",
               reply->applied ? "" : " Nothing was changed; --apply writes it.");
  return GSI_EXIT_OK;
}
