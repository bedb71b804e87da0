/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going on without what was lost: Cluster/AcceptDataLoss.
 *
 * The repository's generation is never lowered: a disk that comes back with the lost writes would pass for a current one.
 * Instead one more generation is decided, whose refs are those of the replica that counts from now on; then that replica's
 * own record is led through the generations it lacks, each as a write that changes nothing. Cut off anywhere in between,
 * the repository is as lost as before, and the call can be repeated.
 */
#include "router/cluster.h"

#include "router/settle.h"

/* Generations that one call leads a replica through: each is durable by itself. */
#define STEPS_MAX 5000
#define LOST_MAX 1000

typedef struct
{
  GsiRouter *router;
  GsiCall *call;
  GsiRow *row;
  const GsiStorage *storage;
  GsRepo repo;
  GsReplicaState state; /* of the replica that is to count */
  char *head;           /* what its HEAD names */
  GsiBag *bag;
  Gitstead__V1__ClusterAcceptDataLossReply *reply;
  GPtrArray *lost, *behind;
} Loss;

/* --------------------------------------------------------------------------------- may it be accepted */

static gboolean
check_lost (Loss *loss, const GsiVerdict *verdict, GError **error)
{
  g_autoptr (GString) names = g_string_new (NULL);
  if (verdict->health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_LOST
      || verdict->health == GITSTEAD__V1__CLUSTER_HEALTH__CLUSTER_UNAVAILABLE)
    return TRUE;
  for (gsize i = 0; i < loss->row->n_replicas; i++)
    if (loss->row->replicas[i].generation >= loss->row->generation)
      g_string_append_printf (names, "%s%s", names->len > 0 ? ", " : "", loss->row->replicas[i].storage);
  return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                  "nothing of '%s' is lost: its newest write (generation %" G_GUINT64_FORMAT ") is on %s, and can be read; "
                  "nothing was changed",
                  loss->row->path, loss->row->generation, names->str);
}

static gboolean
ask (Loss *loss, const GsiStorage *storage, GsReplicaState *ret_state, GError **error)
{
  *ret_state = (GsReplicaState){ .size = sizeof *ret_state };
  if (!storage->ops->state (storage->self, &loss->call->base, &loss->repo, ret_state, error))
    {
      g_prefix_error (error, "the replica of '%s' on %s: ", loss->row->path, storage->name);
      return FALSE;
    }
  if (ret_state->repository_id != loss->row->id)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "what %s has at that place is repository %" G_GUINT64_FORMAT ", and '%s' is %" G_GUINT64_FORMAT,
                    storage->name, ret_state->repository_id, loss->row->path, loss->row->id);
  return TRUE;
}

/* It must be a replica that can be reached, and no other that can be must hold more. */
static gboolean
check_choice (Loss *loss, const char *name, GError **error)
{
  g_autofree char *away = NULL;
  gboolean recorded = FALSE;
  for (gsize i = 0; i < loss->row->n_replicas; i++)
    recorded = recorded || strcmp (loss->row->replicas[i].storage, name) == 0;
  loss->storage = recorded ? gsi_router_storage (loss->router, name) : NULL;
  if (loss->storage == NULL)
    return gs_fail (error, GS_ERROR_NOT_FOUND, "'%s' has no replica on '%.100s'; 'gitstead cluster explain %s' lists them",
                    loss->row->path, name, loss->row->path);
  if (!gsi_cluster_up (loss->router, name, &away))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "the replica of '%s' on %s cannot be reached, so it cannot count: %s",
                    loss->row->path, name, away);
  if (!ask (loss, loss->storage, &loss->state, error))
    return FALSE;
  if (loss->state.generation >= loss->row->generation)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s is at generation %" G_GUINT64_FORMAT " itself: nothing is lost there; 'gitstead cluster verify %s' "
                    "has the record follow it",
                    name, loss->state.generation, loss->row->path);
  for (gsize i = 0; i < loss->row->n_replicas; i++)
    {
      const GsiStorage *other = gsi_router_storage (loss->router, loss->row->replicas[i].storage);
      GsReplicaState state;
      if (other == NULL || other == loss->storage || !gsi_cluster_up (loss->router, other->name, NULL)
          || !ask (loss, other, &state, NULL) || state.generation <= loss->state.generation)
        continue;
      return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                      "%s holds more of '%s' than %s (generation %" G_GUINT64_FORMAT " against %" G_GUINT64_FORMAT
                      ") and can be reached: choose that one",
                      other->name, loss->row->path, name, state.generation, loss->state.generation);
    }
  if (loss->row->generation - loss->state.generation > STEPS_MAX)
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION,
                    "%s lacks %" G_GUINT64_FORMAT " writes, and this call gives up at most %d", name,
                    loss->row->generation - loss->state.generation, STEPS_MAX);
  return TRUE;
}

/* ---------------------------------------------------------------------------------- what is given up */

static char *
oid_text (GsiBag *bag, const GsOid *oid)
{
  char hex[GS_OID_HEX_MAX + 1];
  gs_oid_hex (oid, hex);
  return gsi_bag_text (bag, hex);
}

static gboolean
collect_lost (const GsChange *change, gpointer user)
{
  Loss *loss = user;
  GsiBag *bag = loss->bag;
  Gitstead__V1__ClusterLostWrite *write
      = GSI_BAG_MESSAGE (bag, Gitstead__V1__ClusterLostWrite, gitstead__v1__cluster_lost_write__init);
  g_autoptr (GPtrArray) refs = g_ptr_array_new ();
  write->generation = change->generation;
  write->transaction_id = gsi_bag_bytes (bag, change->txid.bytes, sizeof change->txid.bytes);
  write->caller = gsi_bag_text (bag, change->caller);
  write->decided_us = change->decided_wall_us;
  for (gsize i = 0; i < change->n_updates; i++)
    {
      const GsRefUpdate *update = &change->updates[i];
      Gitstead__V1__RefChange *ref = GSI_BAG_MESSAGE (bag, Gitstead__V1__RefChange, gitstead__v1__ref_change__init);
      ref->name = gsi_bag_bytes (bag, update->name, strlen (update->name));
      ref->old_oid = oid_text (bag, &update->old_oid);
      ref->new_oid = oid_text (bag, &update->new_oid);
      if (update->new_symref != NULL)
        ref->symref_target = gsi_bag_bytes (bag, update->new_symref, strlen (update->new_symref));
      g_ptr_array_add (refs, ref);
    }
  write->refs = gsi_bag_list (bag, g_steal_pointer (&refs), &write->n_refs);
  g_ptr_array_add (loss->lost, write);
  return TRUE;
}

static gboolean
take_head (const GsRef *ref, gpointer user)
{
  *(char **) user = g_strdup (ref->symref_target);
  return FALSE;
}

static gboolean
gather (Loss *loss, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (loss->router);
  for (gsize i = 0; i < loss->row->n_replicas; i++)
    if (strcmp (loss->row->replicas[i].storage, loss->storage->name) != 0)
      g_ptr_array_add (loss->behind, loss->row->replicas[i].storage);
  return config->metadata->change_list (config->metadata_self, &loss->call->base, loss->row->id, loss->state.generation,
                                        LOST_MAX, collect_lost, loss, error)
         && loss->storage->ops->find_ref (loss->storage->self, &loss->call->base, &loss->repo, "HEAD", take_head,
                                          &loss->head, error);
}

/* ------------------------------------------------------------------------------------------ doing it */

static gboolean
decide (Loss *loss, const GsRefUpdate *update, GsDecision *ret_decision, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (loss->router);
  const char *const voters[] = { loss->storage->name, NULL };
  GsDecideRequest request = { .size = sizeof request,
                              .repository_id = loss->row->id,
                              .call_id = loss->call->base.id,
                              .expected_generation = loss->row->generation,
                              .refs_digest = loss->state.refs_digest,
                              .updates = update,
                              .n_updates = 1,
                              .voters = voters,
                              .flags = GS_DECIDE_BEHIND, /* that is the loss */
                              .caller = loss->call->base.identity->name };
  config->host->random (config->host, request.txid.bytes, sizeof request.txid.bytes);
  *ret_decision = (GsDecision){ .size = sizeof *ret_decision, .txid = request.txid,
                                .refs_digest = loss->state.refs_digest };
  if (config->metadata->decide (config->metadata_self, &loss->call->base, &request, &ret_decision->generation, error))
    return TRUE;
  g_prefix_error (error, "'%s' was written meanwhile, or the store is away: ", loss->row->path);
  return FALSE;
}

/* A write that changes nothing, applied as @decision says. */
static gboolean
step (Loss *loss, const GsRefUpdate *update, const GsDecision *decision, GError **error)
{
  GsiSettler *settler = gsi_router_settler (loss->router);
  const GsiStorage *storage = loss->storage;
  const GsChangeSet change = { .size = sizeof change, .txid = decision->txid, .updates = update, .n_updates = 1,
                               .atomic = TRUE };
  const GsVote *vote = NULL;
  gpointer txn = NULL;
  gboolean done = FALSE;
  gsi_settler_claim (settler, &decision->txid);
  if (storage->ops->stage (storage->self, &loss->call->base, &loss->repo, &change, &txn, &vote, error))
    {
      if (vote->n_updates == 1)
        done = storage->ops->commit (storage->self, &loss->call->base, txn, decision, error);
      else
        {
          gs_fail (error, GS_ERROR_ABORTED, "%s refused the step to generation %" G_GUINT64_FORMAT ": %s", storage->name,
                   decision->generation,
                   vote->n_verdicts > 0 && vote->verdicts[0].reason != NULL ? vote->verdicts[0].reason : "no reason given");
          storage->ops->abort (storage->self, &loss->call->base, txn, NULL);
        }
    }
  gsi_settler_release (settler, &decision->txid);
  return done;
}

static gboolean
lead (Loss *loss, const GsRefUpdate *update, const GsDecision *last, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (loss->router);
  for (guint64 at = loss->state.generation + 1; at <= last->generation; at++)
    {
      GsDecision decision = *last;
      if (at < last->generation)
        config->host->random (config->host, decision.txid.bytes, sizeof decision.txid.bytes);
      decision.generation = at;
      if (!step (loss, update, &decision, error))
        {
          g_prefix_error (error, "the loss was accepted, but %s could not be brought to generation %" G_GUINT64_FORMAT
                                 " (repeat the command): ",
                          loss->storage->name, at);
          return FALSE;
        }
    }
  return TRUE;
}

static gboolean
accept (Loss *loss, GError **error)
{
  const GsiRouterConfig *config = gsi_router_config (loss->router);
  const GsRefUpdate update = { .name = "HEAD", .new_symref = loss->head };
  GsDecision last;
  if (!decide (loss, &update, &last, error) || !lead (loss, &update, &last, error)
      || !config->metadata->replica_set (config->metadata_self, &loss->call->base, loss->row->id, loss->storage->name,
                                         last.generation, FALSE, error))
    return FALSE;
  loss->reply->new_generation = last.generation;
  for (guint i = 0; i < loss->behind->len; i++)
    gsi_router_ask_repair (loss->router, &loss->call->base, loss->row->id, loss->behind->pdata[i],
                           "lost writes were given up");
  config->host->log (config->host, GS_LOG_WARNING, "cluster.dataloss.accepted",
                     (GsField[]){ GS_NUMBER ("repository", loss->row->id), GS_TEXT ("storage", loss->storage->name),
                                  GS_NUMBER ("kept", loss->state.generation),
                                  GS_NUMBER ("acknowledged", loss->row->generation),
                                  GS_TEXT ("by", loss->call->base.identity->name) },
                     5);
  return TRUE;
}

static gboolean
accept_or_look (Loss *loss, const Gitstead__V1__ClusterAcceptDataLossRequest *request, GError **error)
{
  Gitstead__V1__ClusterAcceptDataLossReply *reply = loss->reply;
  if (!check_choice (loss, request->storage, error) || !gather (loss, error))
    return FALSE;
  if (loss->head == NULL)
    return gs_fail (error, GS_ERROR_DATA_LOSS, "the replica on %s has no HEAD that names a branch", loss->storage->name);
  reply->generation = loss->row->generation;
  reply->kept_generation = loss->state.generation;
  reply->lost = (Gitstead__V1__ClusterLostWrite **) loss->lost->pdata;
  reply->n_lost = loss->lost->len;
  reply->behind = (char **) loss->behind->pdata;
  reply->n_behind = loss->behind->len;
  return request->dry_run || accept (loss, error);
}

gboolean
gsi_cluster_accept_data_loss (gpointer user, GsiCall *call, GError **error)
{
  GsiRouter *router = user;
  const Gitstead__V1__ClusterAcceptDataLossRequest *request = (const void *) call->request;
  Gitstead__V1__ClusterAcceptDataLossReply reply = GITSTEAD__V1__CLUSTER_ACCEPT_DATA_LOSS_REPLY__INIT;
  g_autoptr (GPtrArray) bag = gsi_bag_new (), lost = g_ptr_array_new (), behind = g_ptr_array_new ();
  const GsiStorageGroup *group = NULL;
  g_autoptr (GsiRow) row = gsi_router_locate_anyway (router, call, &group, error);
  g_auto (GsiVerdict) verdict = { 0 };
  Loss loss = { router, call, row, .bag = bag, .reply = &reply, .lost = lost, .behind = behind };
  gboolean done;
  if (row == NULL)
    return FALSE;
  loss.repo = (GsRepo){ sizeof loss.repo, row->id, row->replica_path };
  gsi_router_recheck (router, call, row);
  gsi_cluster_judge (router, group, row, &verdict);
  done = check_lost (&loss, &verdict, error) && accept_or_look (&loss, request, error);
  if (done)
    gsi_call_reply (call, &reply.base);
  g_free (loss.head);
  return done;
}
