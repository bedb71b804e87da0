/* SPDX-License-Identifier: Apache-2.0 */
/* A metadata store that was lost, made anew from the nodes' disks: Cluster/RebuildMetadata. */
#include "router/cluster.h"

#include "router/label.h"
#include "router/rebuild.h"
#include "router/settle.h"

#define METHOD_LABEL 1090
#define REPLY_BUDGET (4u << 20)
#define LISTED_MAX 1000

#define KIND(kind_) GITSTEAD__V1__CLUSTER_REBUILD_CONFLICT_KIND__CLUSTER_REBUILD_##kind_

/* What no disk has. */
static const char *const gone[]
    = { "access tokens: make new ones ('gitstead token create')",
        "the history of writes: receipts of before can no longer be verified, and Repository/Changes begins anew",
        "events that were not delivered yet",
        "queued jobs: what needs a repair is found and queued again",
        "which nodes were being drained or were removed: say it again",
        "when replicas were last verified and read through: they are due now" };

typedef struct
{
  const GsiStorage *storage;
  GPtrArray *found; /* of GsRepo, with their own paths */
  gboolean looked;
  guint64 highest;
  char *problem;
} Node;

typedef struct
{
  GsiRouter *router;
  const GsiRouterConfig *config;
  GsiCall *call;
  gboolean apply;
  GPtrArray *nodes;     /* of Node */
  GPtrArray *conflicts; /* of GsiConflict */
  GHashTable *by_id;    /* &GsiSeen.id -> GPtrArray of GsiSeen */
  GPtrArray *rebuilt;   /* of GsiRebuilt */
  guint64 n_replicas, n_recorded, n_written;
} Rebuild;

static void
found_free (gpointer data)
{
  GsRepo *repo = data;
  g_free ((char *) repo->replica_path);
  g_free (repo);
}

static void
node_free (gpointer data)
{
  Node *node = data;
  g_ptr_array_unref (node->found);
  g_free (node->problem);
  g_free (node);
}

/* ------------------------------------------------------------------------------------------ looking */

static gboolean
collect_found (const GsRepo *repo, gpointer user)
{
  GsRepo *copy = g_new (GsRepo, 1);
  *copy = (GsRepo) { sizeof *copy, repo->id, g_strdup (repo->replica_path) };
  g_ptr_array_add (user, copy);
  return TRUE;
}

static void
add_damaged (Rebuild *rebuild, const Node *node, const GsRepo *repo, const char *what)
{
  gsi_conflict_add (rebuild->conflicts, KIND (DAMAGED), repo->id, node->storage->name, TRUE,
                    g_strdup_printf ("%s: %s; it is left out, and stays where it is", repo->replica_path, what));
}

/* A replica without a label is one of before there were labels. */
static void
read_label (Rebuild *rebuild, const Node *node, const GsRepo *repo, GsiSeen *seen)
{
  const Gitstead__V1__ReplicaLabelRequest request = GITSTEAD__V1__REPLICA_LABEL_REQUEST__INIT;
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_BUDGET);
  g_autoptr (GError) why = NULL;
  const Gitstead__V1__ReplicaLabelReply *reply
      = (const void *) gsi_replica_ask (node->storage, &rebuild->call->base, repo, METHOD_LABEL, &request.base,
                                        &gitstead__v1__replica_label_reply__descriptor, arena, &why);
  if (reply == NULL || reply->problem[0] != '\0')
    {
      if (reply != NULL || gs_error_code (why) != GS_ERROR_UNIMPLEMENTED)
        gsi_conflict_add (rebuild->conflicts, KIND (DAMAGED), repo->id, node->storage->name, FALSE,
                          g_strdup_printf ("%s: %s; another replica's label holds", repo->replica_path,
                                           reply != NULL ? reply->problem : why->message));
      return;
    }
  if (reply->label == NULL)
    return;
  seen->version = MAX (reply->label->version, 1);
  seen->virtual_storage = g_strdup (reply->label->virtual_storage);
  seen->path = g_strdup (reply->label->path);
  seen->consistency = g_strdup (reply->label->consistency);
  seen->copies = reply->label->copies;
  seen->created_us = reply->label->created_us;
}

static void
look_at_replica (Rebuild *rebuild, Node *node, const GsRepo *repo)
{
  GsReplicaState state = { .size = sizeof state };
  g_autoptr (GError) why = NULL;
  GPtrArray *list;
  GsiSeen *seen;
  if (repo->id == 0)
    {
      add_damaged (rebuild, node, repo, "its identity record is damaged");
      return;
    }
  node->highest = MAX (node->highest, repo->id);
  if (!node->storage->ops->state (node->storage->self, &rebuild->call->base, repo, &state, &why))
    {
      if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
        add_damaged (rebuild, node, repo, why->message);
      return;
    }
  seen = g_new0 (GsiSeen, 1);
  seen->id = repo->id;
  seen->storage = node->storage->name;
  seen->replica_path = g_strdup (repo->replica_path);
  seen->generation = state.generation;
  seen->refs_digest = state.refs_digest;
  seen->format = state.format;
  read_label (rebuild, node, repo, seen);
  list = g_hash_table_lookup (rebuild->by_id, &seen->id);
  if (list == NULL)
    {
      list = g_ptr_array_new_with_free_func (gsi_seen_free);
      g_hash_table_insert (rebuild->by_id, &seen->id, list);
    }
  g_ptr_array_add (list, seen);
}

static gboolean
is_named (char *const *names, gsize n, const char *name)
{
  for (gsize i = 0; i < n; i++)
    if (strcmp (names[i], name) == 0)
      return TRUE;
  return FALSE;
}

/* A node that nobody expects to be missing may have what no other has. */
static gboolean
look_at_node (Rebuild *rebuild, Node *node, gboolean absent, GError **error)
{
  g_autoptr (GError) why = NULL;
  if (absent)
    {
      node->problem = g_strdup ("it was to be left out");
      return TRUE;
    }
  if (!gsi_cluster_up (rebuild->router, node->storage->name, &node->problem)
      || !node->storage->ops->list (node->storage->self, &rebuild->call->base, collect_found, node->found, &why))
    {
      if (node->problem == NULL)
        node->problem = g_strdup (why->message);
      return !rebuild->apply
             || gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                         "'%s' cannot be asked what it holds: %s. It may be all that is left of a repository, or the newest "
                         "of it: bring it back, or leave it out on purpose (--without %s). Nothing was written",
                         node->storage->name, node->problem, node->storage->name);
    }
  node->looked = TRUE;
  for (guint i = 0; i < node->found->len; i++)
    {
      if (!gs_call_check (&rebuild->call->base, "looking at replicas", error))
        return FALSE;
      look_at_replica (rebuild, node, node->found->pdata[i]);
    }
  rebuild->n_replicas += node->found->len;
  return TRUE;
}

static gboolean
look (Rebuild *rebuild, const Gitstead__V1__ClusterRebuildMetadataRequest *request, GError **error)
{
  for (gsize i = 0; i < request->n_without; i++)
    if (gsi_router_storage (rebuild->router, request->without[i]) == NULL)
      return gs_fail (error, GS_ERROR_NOT_FOUND, "without: this router's configuration has no storage '%.100s'",
                      request->without[i]);
  for (gsize i = 0; i < rebuild->config->n_storages; i++)
    {
      Node *node = g_new0 (Node, 1);
      node->storage = rebuild->config->storages[i];
      node->found = g_ptr_array_new_with_free_func (found_free);
      g_ptr_array_add (rebuild->nodes, node);
      if (!look_at_node (rebuild, node, is_named (request->without, request->n_without, node->storage->name), error))
        return FALSE;
    }
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- deciding */

/* A record that is there is the truth; what a disk has beyond it is told. */
static void
compare_recorded (Rebuild *rebuild, const GsiRow *row, const GPtrArray *seen)
{
  rebuild->n_recorded++;
  for (guint i = 0; i < seen->len; i++)
    {
      const GsiSeen *one = seen->pdata[i];
      gboolean named = FALSE, newer;
      for (gsize k = 0; k < row->n_replicas; k++)
        named = named || strcmp (row->replicas[k].storage, one->storage) == 0;
      newer = one->generation > row->generation
              || (!named && one->generation == row->generation
                  && memcmp (&one->refs_digest, &row->refs_digest, sizeof one->refs_digest) != 0);
      if (newer)
        gsi_conflict_add (rebuild->conflicts, KIND (NEWER), one->id, one->storage, TRUE,
                          g_strdup_printf ("'%s' is recorded at generation %" G_GUINT64_FORMAT
                                           ", and its replica here has what is not recorded (generation %" G_GUINT64_FORMAT
                                           "): the record stays; fetch what is missing from %s on that disk",
                                           row->path, row->generation, one->generation, one->replica_path));
      else if (!named)
        gsi_conflict_add (rebuild->conflicts, KIND (UNRECORDED), one->id, one->storage, FALSE,
                          g_strdup_printf ("'%s' has no replica recorded here: 'gitstead cluster adopt' takes it back",
                                           row->path));
    }
}

/* Of a repository whose label is missing too: the first that has its storage. */
static const char *
guess_virtual_storage (const Rebuild *rebuild, const GsiRebuilt *one)
{
  const char *storage = ((const GsiSeen *) one->replicas->pdata[0])->storage;
  for (gsize i = 0; i < rebuild->config->n_virtual_storages; i++)
    for (gsize k = 0; k < rebuild->config->virtual_storages[i]->n_storages; k++)
      if (strcmp (rebuild->config->virtual_storages[i]->storages[k]->name, storage) == 0)
        return rebuild->config->virtual_storages[i]->name;
  return rebuild->config->virtual_storages[0]->name;
}

static gboolean
path_taken (const char *virtual_storage, const char *path, gpointer user)
{
  Rebuild *rebuild = user;
  g_autoptr (GsiRow) row = NULL;
  g_autoptr (GError) why = NULL;
  return rebuild->config->metadata->repo_find (rebuild->config->metadata_self, &rebuild->call->base, virtual_storage, path,
                                               gsi_row_visit, &row, &why)
         || gs_error_code (why) != GS_ERROR_NOT_FOUND;
}

static gboolean
decide (Rebuild *rebuild, GError **error)
{
  GHashTableIter at;
  gpointer value;
  g_hash_table_iter_init (&at, rebuild->by_id);
  while (g_hash_table_iter_next (&at, NULL, &value))
    {
      GPtrArray *seen = value;
      g_autoptr (GsiRow) row = NULL;
      g_autoptr (GError) why = NULL;
      GsiRebuilt *one;
      if (rebuild->config->metadata->repo_get (rebuild->config->metadata_self, &rebuild->call->base,
                                               ((GsiSeen *) seen->pdata[0])->id, gsi_row_visit, &row, &why))
        {
          compare_recorded (rebuild, row, seen);
          continue;
        }
      if (gs_error_code (why) != GS_ERROR_NOT_FOUND)
        {
          g_propagate_error (error, g_steal_pointer (&why));
          return FALSE;
        }
      one = gsi_rebuild_merge (seen, rebuild->conflicts);
      if (one->virtual_storage == NULL)
        one->virtual_storage = g_strdup (guess_virtual_storage (rebuild, one));
      else if (gsi_cluster_group (rebuild->router, one->virtual_storage) == NULL)
        gsi_conflict_add (rebuild->conflicts, KIND (UNKNOWN_VIRTUAL_STORAGE), one->id, NULL, FALSE,
                          g_strdup_printf ("'%s' is of virtual storage '%s', which this router's configuration has not: it is "
                                           "recorded all the same",
                                           one->path, one->virtual_storage));
      g_ptr_array_add (rebuild->rebuilt, one);
    }
  gsi_rebuild_names (rebuild->rebuilt, path_taken, rebuild, rebuild->conflicts);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------ writing */

static gboolean
restore (Rebuild *rebuild, const GsiRebuilt *one, GError **error)
{
  const GsiRouterConfig *config = rebuild->config;
  g_autofree GsReplicaRow *replicas = g_new0 (GsReplicaRow, one->replicas->len);
  g_autofree const GsReplicaRow **pointers = g_new (const GsReplicaRow *, one->replicas->len);
  const GsRepoRow row = { .size = sizeof row,
                          .id = one->id,
                          .virtual_storage = one->virtual_storage,
                          .path = one->path,
                          .replica_path = one->replica_path,
                          .format = one->format,
                          .generation = one->generation,
                          .refs_digest = one->refs_digest,
                          .created_wall_us = one->created_us,
                          .replicas = pointers,
                          .n_replicas = one->replicas->len,
                          .copies = one->copies,
                          .consistency = one->consistency };
  g_autoptr (GError) why = NULL;
  for (guint i = 0; i < one->replicas->len; i++)
    {
      const GsiSeen *seen = one->replicas->pdata[i];
      replicas[i] = (GsReplicaRow) { .size = sizeof replicas[i], .storage = seen->storage, .generation = seen->generation };
      pointers[i] = &replicas[i];
    }
  if (config->metadata->repo_restore (config->metadata_self, &rebuild->call->base, &row, &why))
    {
      rebuild->n_written++;
      return TRUE;
    }
  if (gs_error_code (why) != GS_ERROR_ALREADY_EXISTS && gs_error_code (why) != GS_ERROR_INVALID_ARGUMENT)
    {
      g_propagate_prefixed_error (error, g_steal_pointer (&why),
                                  "after %" G_GUINT64_FORMAT " repositories were written (what is written stays, and the "
                                  "command can be repeated): ",
                                  rebuild->n_written);
      return FALSE;
    }
  for (guint i = 0; i < one->replicas->len; i++)
    gsi_conflict_add (rebuild->conflicts, KIND (REFUSED), one->id, replicas[i].storage, TRUE, g_strdup (why->message));
  return TRUE;
}

static guint
n_blocking (const Rebuild *rebuild, const char *storage)
{
  guint n = 0;
  for (guint i = 0; i < rebuild->conflicts->len; i++)
    {
      const GsiConflict *conflict = rebuild->conflicts->pdata[i];
      n += conflict->blocks && g_strcmp0 (conflict->storage, storage) == 0;
    }
  return n;
}

/* Whatever is on a node that joined is recorded, or known to be no more than what is: the rest is left over. */
static void
join (Rebuild *rebuild, Node *node)
{
  const GsiRouterConfig *config = rebuild->config;
  guint n = n_blocking (rebuild, node->storage->name);
  g_autoptr (GError) why = NULL;
  if (!node->looked)
    return;
  if (n > 0)
    node->problem = g_strdup_printf ("%u of its replicas are not recorded, so nothing is cleared there", n);
  if (rebuild->apply && config->metadata->node_found != NULL
      && !config->metadata->node_found (config->metadata_self, &rebuild->call->base, node->storage->name, node->highest,
                                        n == 0, &why)
      && node->problem == NULL)
    node->problem = g_strdup (gs_error_code (why) == GS_ERROR_NOT_FOUND
                                  ? "it has not reported itself to this store yet; it joins by itself"
                                  : why->message);
}

static void
ask_repairs (Rebuild *rebuild, const GsiRebuilt *one)
{
  for (guint i = 0; !one->lost && i < one->replicas->len; i++)
    {
      const GsiSeen *seen = one->replicas->pdata[i];
      if (seen->generation < one->generation)
        gsi_router_ask_repair (rebuild->router, &rebuild->call->base, one->id, seen->storage,
                               "it was found behind when the metadata store was rebuilt");
    }
}

static gboolean
write_all (Rebuild *rebuild, GError **error)
{
  const GsiRouterConfig *config = rebuild->config;
  if (config->metadata->repo_restore == NULL)
    return gs_fail (error, GS_ERROR_UNIMPLEMENTED, "this metadata store cannot be rebuilt");
  for (guint i = 0; i < rebuild->rebuilt->len; i++)
    {
      if (!gs_call_check (&rebuild->call->base, "recording repositories", error)
          || !restore (rebuild, rebuild->rebuilt->pdata[i], error))
        return FALSE;
      ask_repairs (rebuild, rebuild->rebuilt->pdata[i]);
      gsi_label_spread (rebuild->router, ((GsiRebuilt *) rebuild->rebuilt->pdata[i])->id);
    }
  config->host->log (config->host, GS_LOG_WARNING, "cluster.metadata.rebuilt",
                     (GsField[]) { GS_NUMBER ("written", rebuild->n_written), GS_NUMBER ("recorded", rebuild->n_recorded),
                                   GS_NUMBER ("conflicts", rebuild->conflicts->len),
                                   GS_TEXT ("by", rebuild->call->base.identity->name) },
                     4);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- telling */

static Gitstead__V1__ClusterRebuiltRepository *
repository_message (GsiBag *bag, const GsiRebuilt *one)
{
  Gitstead__V1__ClusterRebuiltRepository *message
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterRebuiltRepository, gitstead__v1__cluster_rebuilt_repository__init);
  g_autoptr (GPtrArray) replicas = g_ptr_array_new ();
  message->repository = GSI_BAG_MESSAGE (bag, Gitstead__V1__Repository, gitstead__v1__repository__init);
  message->repository->virtual_storage = gsi_bag_text (bag, one->virtual_storage);
  message->repository->path = gsi_bag_text (bag, one->path);
  message->id = one->id;
  message->generation = one->generation;
  message->refs_digest = gsi_bag_bytes (bag, one->refs_digest.bytes, sizeof one->refs_digest.bytes);
  message->copies = one->copies;
  message->consistency = gsi_bag_text (bag, one->consistency);
  message->lost = one->lost;
  for (guint i = 0; i < one->replicas->len; i++)
    {
      const GsiSeen *seen = one->replicas->pdata[i];
      Gitstead__V1__ClusterRebuiltReplica *replica
          = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterRebuiltReplica, gitstead__v1__cluster_rebuilt_replica__init);
      replica->storage = gsi_bag_text (bag, seen->storage);
      replica->generation = seen->generation;
      g_ptr_array_add (replicas, replica);
    }
  message->replicas = gsi_bag_list (bag, g_steal_pointer (&replicas), &message->n_replicas);
  return message;
}

static void
fill_reply (Rebuild *rebuild, GsiBag *bag, Gitstead__V1__ClusterRebuildMetadataReply *reply)
{
  GPtrArray *repositories = g_ptr_array_new (), *conflicts = g_ptr_array_new (), *nodes = g_ptr_array_new ();
  for (guint i = 0; i < rebuild->rebuilt->len && i < LISTED_MAX; i++)
    g_ptr_array_add (repositories, repository_message (bag, rebuild->rebuilt->pdata[i]));
  for (guint i = 0; i < rebuild->conflicts->len && i < LISTED_MAX; i++)
    {
      const GsiConflict *conflict = rebuild->conflicts->pdata[i];
      Gitstead__V1__ClusterRebuildConflict *message
          = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterRebuildConflict, gitstead__v1__cluster_rebuild_conflict__init);
      message->kind = conflict->kind;
      message->id = conflict->id;
      message->storage = gsi_bag_text (bag, conflict->storage);
      message->text = gsi_bag_text (bag, conflict->text);
      g_ptr_array_add (conflicts, message);
    }
  for (guint i = 0; i < rebuild->nodes->len; i++)
    {
      const Node *node = rebuild->nodes->pdata[i];
      Gitstead__V1__ClusterRebuiltNode *message
          = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterRebuiltNode, gitstead__v1__cluster_rebuilt_node__init);
      message->storage = gsi_bag_text (bag, node->storage->name);
      message->looked = node->looked;
      message->replicas = node->found->len;
      message->joined = node->looked && node->problem == NULL;
      message->problem = gsi_bag_text (bag, node->problem);
      g_ptr_array_add (nodes, message);
    }
  reply->applied = rebuild->apply;
  reply->replicas = rebuild->n_replicas;
  reply->recorded = rebuild->n_recorded;
  reply->written = rebuild->apply ? rebuild->n_written : rebuild->rebuilt->len;
  reply->conflict_count = rebuild->conflicts->len;
  reply->repositories = gsi_bag_list (bag, repositories, &reply->n_repositories);
  reply->conflicts = gsi_bag_list (bag, conflicts, &reply->n_conflicts);
  reply->nodes = gsi_bag_list (bag, nodes, &reply->n_nodes);
  reply->gone = (char **) gone;
  reply->n_gone = G_N_ELEMENTS (gone);
}

static int
by_kind (gconstpointer left, gconstpointer right)
{
  const GsiConflict *a = *(GsiConflict *const *) left, *b = *(GsiConflict *const *) right;
  if (a->kind != b->kind)
    return a->kind < b->kind ? -1 : 1;
  if (a->id != b->id)
    return a->id < b->id ? -1 : 1;
  return g_strcmp0 (a->storage, b->storage);
}

static int
by_name (gconstpointer left, gconstpointer right)
{
  const Node *a = *(Node *const *) left, *b = *(Node *const *) right;
  return strcmp (a->storage->name, b->storage->name);
}

gboolean
gsi_cluster_rebuild_metadata (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterRebuildMetadataRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterRebuildMetadataReply reply = GITSTEAD__V1__CLUSTER_REBUILD_METADATA_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), nodes = g_ptr_array_new_with_free_func (node_free);
  g_autoptr (GPtrArray) conflicts = g_ptr_array_new_with_free_func (gsi_conflict_free);
  g_autoptr (GHashTable) by_id
      = g_hash_table_new_full (g_int64_hash, g_int64_equal, NULL, (GDestroyNotify) g_ptr_array_unref);
  g_autoptr (GPtrArray) rebuilt = g_ptr_array_new_with_free_func (gsi_rebuilt_free);
  Rebuild rebuild = { .router = router, .config = gsi_router_config (router), .call = call, .apply = request->apply,
                      .nodes = nodes, .conflicts = conflicts, .by_id = by_id, .rebuilt = rebuilt };
  if (!gsi_cluster_is_router (router, error) || !look (&rebuild, request, error) || !decide (&rebuild, error)
      || (rebuild.apply && !write_all (&rebuild, error)))
    return FALSE;
  g_ptr_array_sort (nodes, by_name);
  for (guint i = 0; i < nodes->len; i++)
    join (&rebuild, nodes->pdata[i]);
  g_ptr_array_sort (conflicts, by_kind);
  fill_reply (&rebuild, bag, &reply);
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
