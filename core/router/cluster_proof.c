/* SPDX-License-Identifier: Apache-2.0 */
/* The record against the disks: Cluster/VerifyReceipt, Verify, Untracked, Adopt. */
#include "router/cluster.h"

#include "router/settle.h"

/* How long one node may take to say what stands on its disk. */
#define ASK_US (10 * G_USEC_PER_SEC)
#define FINDINGS_MAX 1000
#define UNTRACKED_DEFAULT 1000
#define UNTRACKED_MAX 10000
/* A write under way changes record and disk one after the other: what differs is looked at again. */
#define LOOKS 4

/* What the disk says. FALSE with NOT_FOUND when there is no replica. */
static gboolean
ask_state (const GsiStorage *storage, guint64 id, const char *replica_path, GsReplicaState *ret_state, GError **error)
{
  const GsRepo repo = { sizeof repo, id, replica_path };
  GsIdentity identity;
  GsCall call;
  gsi_own_call_init (&call, &identity, "verify");
  call.deadline_us = g_get_monotonic_time () + ASK_US;
  *ret_state = (GsReplicaState) { .size = sizeof *ret_state };
  return storage->ops->state (storage->self, &call, &repo, ret_state, error);
}

/* ----------------------------------------------------------------------------------------- receipts */

typedef struct
{
  GsiBag *bag;
  Gitstead__V1__ClusterVerifyReceiptReply *reply;
} Finder;

static gboolean
take_change (const GsChange *change, gpointer user)
{
  Finder *finder = user;
  GsiBag *bag = finder->bag;
  Gitstead__V1__Receipt *receipt = GSI_BAG_MESSAGE (bag, Gitstead__V1__Receipt, gitstead__v1__receipt__init);
  g_autoptr (GPtrArray) voters = g_ptr_array_new ();
  receipt->transaction_id = gsi_bag_bytes (bag, change->txid.bytes, sizeof change->txid.bytes);
  receipt->refs_digest = gsi_bag_bytes (bag, change->refs_digest.bytes, sizeof change->refs_digest.bytes);
  receipt->generation = change->generation;
  for (gsize i = 0; change->voters != NULL && change->voters[i] != NULL; i++)
    g_ptr_array_add (voters, gsi_bag_text (bag, change->voters[i]));
  receipt->replicas = gsi_bag_list (bag, g_steal_pointer (&voters), &receipt->n_replicas);
  finder->reply->recorded = receipt;
  finder->reply->caller = gsi_bag_text (bag, change->caller);
  finder->reply->decided_us = change->decided_wall_us;
  return FALSE;
}

static gboolean
names (const Gitstead__V1__Receipt *receipt, const char *storage)
{
  for (gsize i = 0; i < receipt->n_replicas; i++)
    if (strcmp (receipt->replicas[i], storage) == 0)
      return TRUE;
  return FALSE;
}

/* What the receipt says that is not so; NULL when all of it is. *full*. */
static char *
contradiction (const Gitstead__V1__Receipt *given, const Gitstead__V1__Receipt *recorded)
{
  if (given->generation != 0 && given->generation != recorded->generation)
    return g_strdup_printf ("the write was decided as generation %" G_GUINT64_FORMAT ", not %" G_GUINT64_FORMAT,
                            recorded->generation, given->generation);
  if (given->refs_digest.len > 0
      && (given->refs_digest.len != recorded->refs_digest.len
          || memcmp (given->refs_digest.data, recorded->refs_digest.data, recorded->refs_digest.len) != 0))
    return g_strdup ("the write was decided with another refs digest");
  for (gsize i = 0; i < given->n_replicas; i++)
    if (!names (recorded, given->replicas[i]))
      return g_strdup_printf ("the decision does not name %s", given->replicas[i]);
  return NULL;
}

static void
find_holders (GsiRouter *router, GsiBag *bag, const GsiRow *row, Gitstead__V1__ClusterVerifyReceiptReply *reply)
{
  g_autoptr (GPtrArray) holders = g_ptr_array_new ();
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      const GsiStorage *storage = gsi_router_storage (router, row->replicas[i].storage);
      Gitstead__V1__ClusterHolder *holder
          = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterHolder, gitstead__v1__cluster_holder__init);
      GsReplicaState state;
      g_autoptr (GError) why = NULL;
      holder->storage = gsi_bag_text (bag, row->replicas[i].storage);
      holder->generation = row->replicas[i].generation;
      if (storage != NULL && ask_state (storage, row->id, row->replica_path, &state, &why))
        holder->generation = state.repository_id == row->id ? state.generation : 0;
      else if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        holder->generation = 0;
      holder->proven = storage != NULL && (why == NULL || gs_error_code (why) == GS_ERROR_NOT_FOUND);
      holder->holds = holder->generation >= reply->recorded->generation;
      holder->named = names (reply->recorded, holder->storage);
      reply->held_by += holder->holds;
      g_ptr_array_add (holders, holder);
    }
  reply->holders = gsi_bag_list (bag, g_steal_pointer (&holders), &reply->n_holders);
}

gboolean
gsi_cluster_verify_receipt (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterVerifyReceiptRequest *request = (const void *) call->request;
  const Gitstead__V1__Receipt *given = request->receipt;
  Gitstead__V1__ClusterVerifyReceiptReply reply = GITSTEAD__V1__CLUSTER_VERIFY_RECEIPT_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new ();
  g_autoptr (GsiRow) row = NULL;
  g_autofree char *wrong = NULL;
  Finder finder = { bag, &reply };
  GsTxState state = GS_TX_UNKNOWN;
  GsTxId txid;
  if (given == NULL || given->transaction_id.len != sizeof txid.bytes)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "receipt.transaction_id: must be 16 bytes");
  memcpy (txid.bytes, given->transaction_id.data, sizeof txid.bytes);
  row = gsi_router_locate_anyway (router, call, NULL, error);
  if (row == NULL
      || !config->metadata->tx_find (config->metadata_self, &call->base, row->id, &txid, &state, take_change, &finder,
                                     error))
    return FALSE;
  reply.generation = row->generation;
  if (reply.recorded == NULL)
    reply.verdict = (char *) (state == GS_TX_ABORTED ? "this write was aborted: nothing of it was ever visible"
                                                     : "no write of this repository has that transaction id");
  else
    {
      wrong = contradiction (given, reply.recorded);
      find_holders (router, bag, row, &reply);
      reply.genuine = wrong == NULL;
      reply.verdict = wrong != NULL ? wrong
                                    : gsi_bag_printf (bag, "genuine; %u of %" G_GSIZE_FORMAT " replicas hold it now",
                                                      reply.held_by, reply.n_holders);
    }
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ------------------------------------------------------------------------------------------- verify */

typedef struct
{
  GsiRouter *router;
  GsCall *call;
  GsiBag *bag;
  const char *virtual_storage, *storage; /* "" = all */
  Gitstead__V1__ClusterVerifyReply *reply;
  GPtrArray *findings;
  gboolean failed;
  GError **error;
} Verifier;

typedef enum
{
  FOUND_WELL,
  FOUND_UNSURE, /* a write may be under way */
  FOUND_WRONG,
  FOUND_NOTHING /* it did not answer */
} Found;

/* One look. @ret_at: how far it can be said to be. */
static Found
look_once (const GsiStorage *storage, const GsiRow *row, const GsiRowReplica *replica, guint64 *ret_at, char **ret_text)
{
  g_autoptr (GError) why = NULL;
  GsReplicaState state;
  *ret_at = 0;
  if (!ask_state (storage, row->id, row->replica_path, &state, &why))
    {
      int code = gs_error_code (why);
      if (code != GS_ERROR_NOT_FOUND && code != GS_ERROR_DATA_LOSS && code != GS_ERROR_FAILED_PRECONDITION)
        return FOUND_NOTHING;
      *ret_text = g_strdup (code == GS_ERROR_NOT_FOUND ? "its disk has no such replica" : why->message);
      return FOUND_WRONG;
    }
  if (state.repository_id != row->id)
    {
      *ret_text = g_strdup_printf ("its disk has repository %" G_GUINT64_FORMAT " there", state.repository_id);
      return FOUND_WRONG;
    }
  *ret_at = MIN (state.generation, row->generation);
  if (state.generation < replica->generation)
    {
      *ret_text = g_strdup_printf ("its disk is at generation %" G_GUINT64_FORMAT ", recorded is %" G_GUINT64_FORMAT,
                                   state.generation, replica->generation);
      return FOUND_UNSURE;
    }
  if (state.generation == row->generation
      && memcmp (&state.refs_digest, &row->refs_digest, sizeof row->refs_digest) != 0)
    {
      *ret_at = 0; /* nobody knows since when */
      *ret_text = g_strdup ("its refs are not those that are recorded");
      return FOUND_UNSURE;
    }
  return FOUND_WELL;
}

static const GsiRowReplica *
replica_on (const GsiRow *row, const char *storage)
{
  for (gsize i = 0; row != NULL && i < row->n_replicas; i++)
    if (strcmp (row->replicas[i].storage, storage) == 0)
      return &row->replicas[i];
  return NULL;
}

/* It is behind from now on, and somebody is asked to make it anew. */
static void
note_wrong (Verifier *verifier, const GsiRow *row, const char *storage, guint64 at, const char *text)
{
  const GsiRouterConfig *config = gsi_router_config (verifier->router);
  verifier->reply->wrong++;
  config->metadata->replica_set (config->metadata_self, verifier->call, row->id, storage, at, TRUE, NULL);
  gsi_router_ask_repair (verifier->router, verifier->call, row->id, storage, "it was found not to be what is recorded");
  config->host->log (config->host, GS_LOG_ERROR, "cluster.verify.wrong",
                     (GsField[]){ GS_NUMBER ("repository", row->id), GS_TEXT ("storage", storage), GS_TEXT ("found", text) },
                     3);
  if (verifier->findings->len < FINDINGS_MAX)
    {
      Gitstead__V1__ClusterFinding *finding
          = GSI_BAG_MESSAGE (verifier->bag, Gitstead__V1__ClusterFinding, gitstead__v1__cluster_finding__init);
      finding->repository = gsi_bag_repository (verifier->bag, row);
      finding->storage = gsi_bag_text (verifier->bag, storage);
      finding->text = gsi_bag_text (verifier->bag, text);
      g_ptr_array_add (verifier->findings, finding);
    }
}

static void
verify_replica (Verifier *verifier, const GsiRow *row, const char *name)
{
  const GsiRouterConfig *config = gsi_router_config (verifier->router);
  const GsiStorage *storage = gsi_router_storage (verifier->router, name);
  Found found = FOUND_NOTHING;
  g_autofree char *text = NULL;
  guint64 at = 0;
  for (int look = 0; storage != NULL && look < LOOKS; look++)
    {
      g_autoptr (GsiRow) fresh = NULL;
      const GsiRowReplica *replica;
      g_clear_pointer (&text, g_free);
      /* The disk is asked after the record was read: it can only be further. */
      if (!config->metadata->repo_get (config->metadata_self, verifier->call, row->id, gsi_row_visit, &fresh, NULL)
          || (replica = replica_on (fresh, name)) == NULL)
        return; /* deleted, or moved away, meanwhile */
      found = look_once (storage, fresh, replica, &at, &text);
      if (found != FOUND_UNSURE)
        break;
    }
  if (found == FOUND_NOTHING)
    verifier->reply->unasked++;
  else if (found == FOUND_WELL)
    {
      verifier->reply->well++;
      config->metadata->replica_verified (config->metadata_self, verifier->call, row->id, name, FALSE, NULL);
    }
  else
    note_wrong (verifier, row, name, at, text);
}

static gboolean
verify_row (GsiRow *row, gpointer user)
{
  Verifier *verifier = user;
  if (verifier->virtual_storage[0] != '\0' && strcmp (verifier->virtual_storage, row->virtual_storage) != 0)
    return TRUE;
  for (gsize i = 0; i < row->n_replicas; i++)
    {
      if (!gs_call_check (verifier->call, "verifying replicas", verifier->error))
        {
          verifier->failed = TRUE;
          return FALSE;
        }
      if (verifier->storage[0] == '\0' || strcmp (verifier->storage, row->replicas[i].storage) == 0)
        verify_replica (verifier, row, row->replicas[i].storage);
    }
  return TRUE;
}

static gboolean
verify_one (Verifier *verifier, const char *path, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (verifier->router);
  const GsiStorageGroup *group = gsi_router_virtual_storage (verifier->router, verifier->virtual_storage, error);
  g_autofree char *whole = g_str_has_suffix (path, ".git") ? g_strdup (path) : g_strconcat (path, ".git", NULL);
  g_autoptr (GsiRow) row = NULL;
  if (group == NULL)
    return FALSE;
  if (!config->metadata->repo_find (config->metadata_self, verifier->call, group->name, whole, gsi_row_visit, &row, error))
    return FALSE;
  verifier->virtual_storage = "";
  return verify_row (row, verifier);
}

gboolean
gsi_cluster_verify (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterVerifyRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterVerifyReply reply = GITSTEAD__V1__CLUSTER_VERIFY_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), findings = g_ptr_array_new ();
  Verifier verifier = { router, &call->base, bag, request->virtual_storage, request->storage, &reply, findings, FALSE,
                        error };
  if (!gsi_cluster_is_router (router, error)
      || (request->virtual_storage[0] != '\0'
          && gsi_router_virtual_storage (router, request->virtual_storage, error) == NULL))
    return FALSE;
  if (request->storage[0] != '\0' && gsi_router_storage (router, request->storage) == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "this router's configuration has no storage '%.100s'", request->storage);
  if (request->path[0] != '\0' ? !verify_one (&verifier, request->path, error)
                               : !gsi_cluster_each (router, &call->base, 0, verify_row, &verifier, error))
    return FALSE;
  if (verifier.failed)
    return FALSE;
  reply.findings = (Gitstead__V1__ClusterFinding **) findings->pdata;
  reply.n_findings = findings->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- untracked */

typedef struct
{
  guint64 id;
  char *path;
} OnDisk;

static void
on_disk_clear (gpointer data)
{
  g_free (((OnDisk *) data)->path);
}

static gboolean
collect_replica (const GsRepo *repo, gpointer user)
{
  OnDisk one = { repo->id, g_strdup (repo->replica_path) };
  g_array_append_val ((GArray *) user, one);
  return TRUE;
}

/* Why no record names it; NULL when one does. @ret_row (may be NULL afterwards): of the repository with its id. */
static const char *
why_untracked (GsiRouter *router, GsCall *call, const char *storage, const OnDisk *one, GsiRow **ret_row, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (router);
  g_autoptr (GError) why = NULL;
  if (one->id == 0)
    return "its identity record is damaged: nobody knows whose it is";
  if (!config->metadata->repo_get (config->metadata_self, call, one->id, gsi_row_visit, ret_row, &why))
    {
      if (gs_error_code (why) == GS_ERROR_NOT_FOUND)
        return "there is no repository of that id: deleted, or never recorded";
      g_propagate_error (error, g_steal_pointer (&why));
      return NULL;
    }
  if (strcmp ((*ret_row)->replica_path, one->path) != 0)
    return "that repository's replicas are in another folder";
  return replica_on (*ret_row, storage) == NULL ? "that repository has no replica recorded here" : NULL;
}

static gboolean
list_untracked (GsiRouter *router, GsiCall *call, GsiBag *bag, const GsiStorage *storage, gsize limit,
                Gitstead__V1__ClusterUntrackedReply *reply, GPtrArray *found, GError **error)
{
  g_autoptr (GArray) all = g_array_new (FALSE, FALSE, sizeof (OnDisk));
  g_array_set_clear_func (all, on_disk_clear);
  if (!storage->ops->list (storage->self, &call->base, collect_replica, all, error))
    return FALSE;
  for (guint i = 0; i < all->len; i++)
    {
      const OnDisk *one = &g_array_index (all, OnDisk, i);
      g_autoptr (GsiRow) row = NULL;
      g_autoptr (GError) failed = NULL;
      const char *why = why_untracked (router, &call->base, storage->name, one, &row, &failed);
      Gitstead__V1__ClusterUntrackedReplica *message;
      GsReplicaState state;
      reply->looked_at++;
      if (failed != NULL)
        {
          g_propagate_error (error, g_steal_pointer (&failed));
          return FALSE;
        }
      if (why == NULL)
        continue;
      if (found->len >= limit)
        {
          reply->more = TRUE;
          return TRUE;
        }
      message = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterUntrackedReplica, gitstead__v1__cluster_untracked_replica__init);
      message->storage = gsi_bag_text (bag, storage->name);
      message->repository_id = one->id;
      message->replica_path = gsi_bag_text (bag, one->path);
      message->why = gsi_bag_text (bag, why);
      message->repository = row != NULL ? gsi_bag_repository (bag, row) : NULL;
      if (ask_state (storage, one->id, one->path, &state, NULL))
        message->generation = state.generation;
      g_ptr_array_add (found, message);
    }
  return TRUE;
}

gboolean
gsi_cluster_untracked (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterUntrackedRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterUntrackedReply reply = GITSTEAD__V1__CLUSTER_UNTRACKED_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), found = g_ptr_array_new (), unasked = g_ptr_array_new ();
  gsize limit = request->limit != 0 ? request->limit : UNTRACKED_DEFAULT;
  if (!gsi_cluster_is_router (router, error))
    return FALSE;
  if (limit > UNTRACKED_MAX)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "limit: at most %d", UNTRACKED_MAX);
  if (request->storage[0] != '\0' && gsi_router_storage (router, request->storage) == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "this router's configuration has no storage '%.100s'", request->storage);
  for (gsize i = 0; i < config->n_storages && !reply.more; i++)
    {
      const GsiStorage *storage = config->storages[i];
      g_autoptr (GError) why = NULL;
      if (request->storage[0] != '\0' && strcmp (request->storage, storage->name) != 0)
        continue;
      if (!gs_call_check (&call->base, "looking for untracked replicas", error))
        return FALSE;
      if (!list_untracked (router, call, bag, storage, limit, &reply, found, &why))
        g_ptr_array_add (unasked, gsi_bag_printf (bag, "%s: %s", storage->name, why->message));
    }
  reply.replicas = (Gitstead__V1__ClusterUntrackedReplica **) found->pdata;
  reply.n_replicas = found->len;
  reply.unasked = (char **) unasked->pdata;
  reply.n_unasked = unasked->len;
  gsi_call_reply (call, &reply.base);
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- adopt */

static gboolean
fit_to_adopt (const GsiRow *row, const char *storage, const GsReplicaState *state, GError **error)
{
  if (state->repository_id != row->id)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the replica on %s is of repository %" G_GUINT64_FORMAT ", and '%s' is %" G_GUINT64_FORMAT, storage,
                    state->repository_id, row->path, row->id);
  if (state->generation > row->generation)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the replica on %s is at generation %" G_GUINT64_FORMAT ", and '%s' has only %" G_GUINT64_FORMAT
                    ": it holds writes that were given up, or the record is older than the disk; nothing was changed",
                    storage, state->generation, row->path, row->generation);
  if (state->generation == row->generation
      && memcmp (&state->refs_digest, &row->refs_digest, sizeof row->refs_digest) != 0)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "the replica on %s is at generation %" G_GUINT64_FORMAT " with other refs than '%s' has there; nothing "
                    "was changed",
                    storage, state->generation, row->path);
  return TRUE;
}

gboolean
gsi_cluster_adopt (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const GsiRouterConfig *config = gsi_router_config (router);
  const Gitstead__V1__ClusterAdoptRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterAdoptReply reply = GITSTEAD__V1__CLUSTER_ADOPT_REPLY__INIT;
  const GsiStorageGroup *group = NULL;
  g_autoptr (GsiRow) row = gsi_router_locate (router, call, &group, error);
  const GsiStorage *storage = NULL;
  GsReplicaState state;
  if (row == NULL)
    return FALSE;
  for (gsize i = 0; i < group->n_storages; i++)
    if (strcmp (group->storages[i]->name, request->storage) == 0)
      storage = group->storages[i];
  if (storage == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "virtual storage '%s' has no storage '%.100s'", group->name,
                    request->storage);
  if (replica_on (row, storage->name) != NULL)
    return gs_fail (error, GS_ERROR_ALREADY_EXISTS, "'%s' has a replica recorded on %s already", row->path, storage->name);
  if (!ask_state (storage, row->id, row->replica_path, &state, error))
    {
      g_prefix_error (error, "cannot adopt the replica of '%s' on %s: ", row->path, storage->name);
      return FALSE;
    }
  if (!fit_to_adopt (row, storage->name, &state, error)
      || !config->metadata->replica_set (config->metadata_self, &call->base, row->id, storage->name, state.generation, FALSE,
                                         error))
    return FALSE;
  reply.generation = state.generation;
  reply.current = state.generation == row->generation;
  if (!reply.current)
    gsi_router_ask_repair (router, &call->base, row->id, storage->name, "it was adopted and is behind");
  gsi_call_reply (call, &reply.base);
  return TRUE;
}
