/* SPDX-License-Identifier: Apache-2.0 */
/* The node's service: staging, the fate of what was staged, and what becomes of it when its router goes silent. */
#include "node/serve_private.h"

#define SMALL_VOTE (900 * 1024)
#define PACK_MAX (1u << 30)
/* A write whose router is there but says nothing of it: its word may have been lost. */
#define FORGOTTEN_US (60 * G_USEC_PER_SEC)
#define GIVEN_UP_US (600 * G_USEC_PER_SEC)
/* A router whose end of a push's conversation broke and that is silent for so long is dead; a live one is waited for. */
#define DEAD_US (2 * G_USEC_PER_SEC)
#define ASK_EVERY_US (1 * G_USEC_PER_SEC)
#define LOOK_US (100 * 1000)

static int
no_cancel_fd (GsCall *call)
{
  return -1;
}

void
gsi_serve_own_call (GsCall *ret_call, GsIdentity *ret_identity)
{
  *ret_identity = (GsIdentity) { sizeof *ret_identity, "server", GS_SCOPE_ADMIN, "" };
  *ret_call = (GsCall) { .size = sizeof *ret_call,
                         .deadline_us = G_MAXINT64,
                         .identity = ret_identity,
                         .peer = "node",
                         .cancel_fd = no_cancel_fd };
}

/* --------------------------------------------------------------------------------------- the table */

Staged *
gsi_serve_staged_new (GsiServe *serve, const Inside *inside, const GsTxId *txid, const GsTxId *session, gboolean push,
                      GError **error)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  Staged *staged;
  const Staged key = { .txid = *txid, .storage = inside->storage };
  if (g_hash_table_contains (serve->staged, &key))
    {
      gs_fail (error, GS_ERROR_ALREADY_EXISTS, "this write is staged on the node already");
      return NULL;
    }
  if (serve->stopping || g_hash_table_size (serve->staged) >= GSI_SERVE_STAGED_MAX)
    {
      gs_fail (error, serve->stopping ? GS_ERROR_UNAVAILABLE : GS_ERROR_BUSY, "the node %s",
               serve->stopping ? "is stopping" : "has as many staged writes as it can hold");
      return NULL;
    }
  staged = g_new0 (Staged, 1);
  staged->txid = *txid;
  staged->session = *session;
  staged->storage = inside->storage;
  staged->repository_id = inside->repo.id;
  staged->replica_path = g_strdup (inside->repo.replica_path);
  staged->push = push;
  g_hash_table_insert (serve->staged, staged, staged);
  return staged;
}

void
gsi_serve_staged_drop (GsiServe *serve, Staged *staged)
{
  g_autoptr (GsMutexLocker) hold = gs_mutex_hold (&serve->lock);
  g_hash_table_remove (serve->staged, staged);
  gs_cond_broadcast (&serve->changed);
}

gboolean
gsi_serve_staged_carry_out (GsiServe *serve, Staged *staged, GsCall *call, GError **error)
{
  const GsStorageOps *ops = staged->storage->ops;
  gpointer txn = g_steal_pointer (&staged->txn);
  gboolean done = TRUE;
  if (staged->commit)
    done = ops->commit (staged->storage->self, call, txn, &staged->decision, error);
  else
    ops->abort (staged->storage->self, call, txn, staged->why);
  gsi_serve_staged_drop (serve, staged);
  return done;
}

/* The fate of a staged write as a router tells it. Under the lock. */
static void
take_order (Staged *staged, const Gitstead__V1__NodeSettleRequest *request)
{
  staged->commit = request->commit;
  staged->decision = (GsDecision) { sizeof staged->decision, staged->txid, request->generation, { { 0 } } };
  if (request->commit)
    memcpy (staged->decision.refs_digest.bytes, request->refs_digest.data, GS_DIGEST_SIZE);
  else if (request->why != NULL && request->why->code != GS_OK)
    staged->why = g_error_new_literal (GS_ERROR, (int) MIN (request->why->code, GS_ERROR_UNAUTHENTICATED),
                                       request->why->reason);
}

/* ------------------------------------------------------------------------------------------ staging */

static ProtobufCBinaryData
oid_bytes (const GsOid *oid)
{
  return gsi_serve_bytes (oid->raw, oid->len);
}

void
gsi_serve_vote_message (const GsVote *vote, VoteMessage *ret_message)
{
  gitstead__v1__node_vote__init (&ret_message->message);
  ret_message->updates = g_ptr_array_new_with_free_func (g_free);
  ret_message->verdicts = g_ptr_array_new_with_free_func (g_free);
  for (gsize i = 0; i < vote->n_updates; i++)
    {
      const GsRefUpdate *update = &vote->updates[i];
      Gitstead__V1__NodeUpdate *one = g_new (Gitstead__V1__NodeUpdate, 1);
      gitstead__v1__node_update__init (one);
      one->name = gsi_serve_bytes (update->name, strlen (update->name));
      one->old_oid = oid_bytes (&update->old_oid);
      one->new_oid = oid_bytes (&update->new_oid);
      if (update->new_symref != NULL)
        one->new_symref = gsi_serve_bytes (update->new_symref, strlen (update->new_symref));
      g_ptr_array_add (ret_message->updates, one);
    }
  for (gsize i = 0; i < vote->n_verdicts && vote->verdicts != NULL; i++)
    {
      Gitstead__V1__NodeVerdict *one = g_new (Gitstead__V1__NodeVerdict, 1);
      gitstead__v1__node_verdict__init (one);
      one->code = (guint32) vote->verdicts[i].code;
      if (vote->verdicts[i].reason != NULL)
        one->reason = vote->verdicts[i].reason;
      g_ptr_array_add (ret_message->verdicts, one);
    }
  ret_message->message.hooks = vote->hooks;
  ret_message->message.digest = gsi_serve_bytes (vote->digest, sizeof vote->digest);
  ret_message->message.refs_plus = gsi_serve_bytes (vote->refs_plus.bytes, GS_DIGEST_SIZE);
  ret_message->message.refs_minus = gsi_serve_bytes (vote->refs_minus.bytes, GS_DIGEST_SIZE);
  ret_message->message.updates = (Gitstead__V1__NodeUpdate **) ret_message->updates->pdata;
  ret_message->message.n_updates = ret_message->updates->len;
  ret_message->message.verdicts = (Gitstead__V1__NodeVerdict **) ret_message->verdicts->pdata;
  ret_message->message.n_verdicts = ret_message->verdicts->len;
}

void
gsi_serve_vote_clear (VoteMessage *message)
{
  g_ptr_array_unref (message->updates);
  g_ptr_array_unref (message->verdicts);
}

/* Names and targets belong to @texts. */
static gboolean
read_update (const Gitstead__V1__NodeUpdate *message, GPtrArray *texts, GsRefUpdate *ret_update, GError **error)
{
  GsRefUpdate update = { 0 };
  char *text = gsi_serve_text (&message->name, "updates.name", error);
  if (text == NULL)
    return FALSE;
  g_ptr_array_add (texts, text);
  update.name = text;
  if (message->new_symref.len > 0)
    {
      text = gsi_serve_text (&message->new_symref, "updates.new_symref", error);
      if (text == NULL)
        return FALSE;
      g_ptr_array_add (texts, text);
      update.new_symref = text;
    }
  if (!gsi_serve_oid (&message->old_oid, "updates.old_oid", &update.old_oid, error)
      || !gsi_serve_oid (&message->new_oid, "updates.new_oid", &update.new_oid, error))
    return FALSE;
  *ret_update = update;
  return TRUE;
}

/* Stages @change and keeps it. NULL with @error. */
static Staged *
stage_here (GsiServe *serve, GsiCall *call, const Inside *in, const GsTxId *session, const GsChangeSet *change,
            const GsVote **ret_vote, GError **error)
{
  Staged *staged = gsi_serve_staged_new (serve, in, &change->txid, session, FALSE, error);
  if (staged == NULL)
    return NULL;
  if (in->storage->ops->stage (in->storage->self, &call->base, &in->repo, change, &staged->txn, ret_vote, error))
    return staged;
  gsi_serve_staged_drop (serve, staged);
  return NULL;
}

static void
drop_staged (GsiServe *serve, Staged *staged)
{
  GsIdentity identity;
  GsCall own;
  gsi_serve_own_call (&own, &identity);
  staged->commit = FALSE;
  gsi_serve_staged_carry_out (serve, staged, &own, NULL);
}

/*
 * The vote is about to be told: from here on its router, or the lease, says what becomes of it, and may have done so
 * before this returns. Nothing of @staged, its vote included, is to be touched any more.
 */
static void
await_fate (GsiServe *serve, Staged *staged)
{
  gboolean abandoned;
  gs_mutex_lock (&serve->lock);
  abandoned = staged->state != STAGED_STAGING; /* its router has aborted it meanwhile */
  staged->state = abandoned ? STAGED_WORKING : STAGED_WAITING;
  staged->silent_us = 0;
  gs_mutex_unlock (&serve->lock);
  if (abandoned)
    drop_staged (serve, staged);
}

/* The vote could not be told. It is dropped, unless somebody has it in hand. */
static void
take_back (GsiServe *serve, const GsTxId *txid, const GsiStorage *storage)
{
  const Staged key = { .txid = *txid, .storage = storage };
  Staged *staged;
  gs_mutex_lock (&serve->lock);
  staged = g_hash_table_lookup (serve->staged, &key);
  if (staged != NULL && staged->state == STAGED_WAITING)
    staged->state = STAGED_WORKING;
  else
    staged = NULL;
  gs_mutex_unlock (&serve->lock);
  if (staged != NULL)
    drop_staged (serve, staged);
}

gboolean
gsi_serve_stage_small (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeStageRequest *request = (const void *) call->request;
  Gitstead__V1__NodeStageReply reply = GITSTEAD__V1__NODE_STAGE_REPLY__INIT;
  g_auto (Inside) in = { 0 };
  g_autofree GsRefUpdate *updates = g_new0 (GsRefUpdate, request->n_updates + 1);
  g_autoptr (GPtrArray) texts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GBytes) pack = request->has_pack ? g_bytes_new_static (request->pack.data, request->pack.len) : NULL;
  GsChangeSet change = { .size = sizeof change, .updates = updates, .atomic = request->atomic, .pack = pack,
                         .own_refs = request->own_refs,
                         .run_hooks = request->run_hooks };
  const GsVote *vote = NULL;
  VoteMessage message;
  Staged *staged;
  GsTxId session;
  gboolean fits;

  if (!gsi_serve_txid (&request->txid, "txid", &change.txid, error)
      || !gsi_serve_txid (&request->session, "session", &session, error)
      || !gsi_serve_enter (user, call, request->target, &in, error))
    return FALSE;
  for (; change.n_updates < request->n_updates; change.n_updates++)
    if (!read_update (request->updates[change.n_updates], texts, &updates[change.n_updates], error))
      return FALSE;
  staged = stage_here (user, call, &in, &session, &change, &vote, error);
  if (staged == NULL)
    return FALSE;
  gsi_serve_vote_message (vote, &message);
  fits = protobuf_c_message_get_packed_size (&message.message.base) <= SMALL_VOTE;
  reply.vote = fits ? &message.message : NULL;
  gsi_call_reply (call, &reply.base);
  gsi_serve_vote_clear (&message);
  await_fate (user, staged);
  if (!fits)
    take_back (user, &change.txid, in.storage);
  return TRUE;
}

/* One message of the call's input, into @arena. */
static ProtobufCMessage *
read_message (Inflow *in, const ProtobufCMessageDescriptor *type, gsize max, GsArena *arena, GError **error)
{
  guint32 size;
  guint8 *bytes;
  if (!gsi_serve_in_exactly (in, (guint8 *) &size, sizeof size, error))
    return NULL;
  size = GUINT32_FROM_BE (size);
  bytes = size <= max ? gs_arena_alloc (arena, MAX (size, 1)) : NULL;
  if (bytes == NULL)
    {
      gs_fail (error, GS_ERROR_OUT_OF_RANGE, "a message of %u bytes in a stream", size);
      return NULL;
    }
  return gsi_serve_in_exactly (in, bytes, size, error) ? gs_wire_decode (arena, type, bytes, size, error) : NULL;
}

static gboolean
read_change (Inflow *flow, const Gitstead__V1__NodeStageRequest *request, GArray *updates, GPtrArray *texts,
             GBytes **ret_pack, GError **error)
{
  if (request->count_updates > GSI_SERVE_UPDATES_MAX)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "a write of %u updates; at most %d are taken", request->count_updates,
                    GSI_SERVE_UPDATES_MAX);
  for (guint32 i = 0; i < request->count_updates; i++)
    {
      g_autoptr (GsArena) arena = gs_arena_new (64 * 1024);
      GsRefUpdate update;
      const void *message
          = read_message (flow, &gitstead__v1__node_update__descriptor, 4 * GSI_NAME_MAX, arena, error);
      if (message == NULL || !read_update (message, texts, &update, error))
        return FALSE;
      g_array_append_val (updates, update);
    }
  if (request->has_pack)
    *ret_pack = gsi_serve_in_all (flow, PACK_MAX, error);
  return !request->has_pack || *ret_pack != NULL;
}

gboolean
gsi_serve_stage (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeStageRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  g_autoptr (GArray) updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  g_autoptr (GPtrArray) texts = g_ptr_array_new_with_free_func (g_free);
  g_autoptr (GBytes) pack = NULL;
  g_autoptr (GBytes) told = NULL;
  GsChangeSet change = { .size = sizeof change, .atomic = request->atomic, .own_refs = request->own_refs,
                         .run_hooks = request->run_hooks };
  Inflow flow = { call, 0, -1 };
  const GsVote *vote = NULL;
  VoteMessage message;
  Staged *staged;
  GsTxId session;
  Outflow out;
  gboolean read, sent;

  if (!gsi_serve_txid (&request->txid, "txid", &change.txid, error)
      || !gsi_serve_txid (&request->session, "session", &session, error)
      || !gsi_serve_enter (user, call, request->target, &in, error))
    return FALSE;
  read = read_change (&flow, request, updates, texts, &pack, error);
  gsi_serve_in_close (&flow);
  if (!read)
    return FALSE;
  change.updates = (const GsRefUpdate *) updates->data;
  change.n_updates = updates->len;
  change.pack = pack;
  staged = stage_here (user, call, &in, &session, &change, &vote, error);
  if (staged == NULL)
    return FALSE;
  gsi_serve_vote_message (vote, &message);
  told = gs_wire_encode (&message.message.base);
  gsi_serve_vote_clear (&message);
  await_fate (user, staged);
  gsi_serve_out_open (&out, call);
  gsi_serve_out_encoded (&out, told);
  sent = gsi_serve_out_close (&out, error);
  if (!sent)
    take_back (user, &change.txid, in.storage);
  return sent;
}

/* --------------------------------------------------------------------------------------------- fate */

/* All up to that generation: a router that was slow, and another one that was not, may both tell the same decision. */
static gboolean
is_applied (const Inside *in, GsiCall *call, guint64 generation)
{
  GsReplicaState state = { .size = sizeof state };
  return in->storage->ops->state (in->storage->self, &call->base, &in->repo, &state, NULL)
         && state.repository_id == in->repo.id && state.generation >= generation;
}

gboolean
gsi_serve_settle (gpointer user, GsiCall *call, GError **error)
{
  GsiServe *serve = user;
  const Gitstead__V1__NodeSettleRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  gboolean here = FALSE, found;
  Staged *staged, key = { 0 };

  if (!gsi_serve_txid (&request->txid, "txid", &key.txid, error)
      || !gsi_serve_enter (serve, call, request->target, &in, error))
    return FALSE;
  key.storage = in.storage;
  if (request->commit && request->refs_digest.len != GS_DIGEST_SIZE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "refs_digest: must be %d bytes", GS_DIGEST_SIZE);
  gs_mutex_lock (&serve->lock);
  staged = g_hash_table_lookup (serve->staged, &key);
  found = staged != NULL;
  if (found && staged->state == STAGED_WAITING)
    {
      take_order (staged, request);
      here = !staged->push;
      staged->state = here ? STAGED_WORKING : STAGED_ORDERED;
      gs_cond_broadcast (&serve->changed);
    }
  else if (found && staged->state == STAGED_STAGING && !request->commit)
    staged->state = STAGED_WORKING; /* whoever stages it sees this and drops it */
  else
    found = FALSE;
  gs_mutex_unlock (&serve->lock);
  if (here)
    return gsi_serve_staged_carry_out (serve, staged, &call->base, error);
  if (!found && request->commit && !is_applied (&in, call, request->generation))
    return gs_fail (error, GS_ERROR_UNAVAILABLE,
                    "the node no longer holds this write; what became of it is asked of the metadata store");
  return TRUE;
}

typedef struct
{
  GsiServe *serve;
  const GsiStorage *storage;
  Outflow out;
} PendingOut;

static gboolean
pending_visit (const GsPending *pending, gpointer user)
{
  PendingOut *to = user;
  Gitstead__V1__NodePending message = GITSTEAD__V1__NODE_PENDING__INIT;
  if (gsi_serve_claims (to->serve, &pending->txid, to->storage)
      || to->serve->config.holds (to->serve->config.user, &pending->txid))
    return TRUE;
  message.repository_id = pending->repo.id;
  message.replica_path = gsi_serve_bytes (pending->repo.replica_path, strlen (pending->repo.replica_path));
  message.txid = gsi_serve_bytes (pending->txid.bytes, GS_TXID_SIZE);
  message.vote = gsi_serve_bytes (pending->vote, sizeof pending->vote);
  return gsi_serve_out_message (&to->out, &message.base);
}

gboolean
gsi_serve_pending (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  PendingOut to = { .serve = user };
  gboolean listed;
  if (!gsi_serve_enter (user, call, request->target, &in, error))
    return FALSE;
  to.storage = in.storage;
  gsi_serve_out_open (&to.out, call);
  listed = in.storage->ops->pending (in.storage->self, &call->base, pending_visit, &to, error);
  return gsi_serve_out_close (&to.out, listed ? error : NULL) && listed;
}

/*
 * What was decided is final, whoever tells it: a router that meets a replica which lacks a decided write need not wait until
 * the one that staged it is known to be dead. FALSE: it is not awaited here. A push is carried out by its own call.
 */
static gboolean
take_decided (GsiServe *serve, const Inside *in, GsiCall *call, const Gitstead__V1__NodeSettleRequest *request,
              const GsTxId *txid, gboolean *ret_done, GError **error)
{
  const Staged key = { .txid = *txid, .storage = in->storage };
  Staged *staged;
  gboolean push = FALSE;
  gs_mutex_lock (&serve->lock);
  staged = g_hash_table_lookup (serve->staged, &key);
  if (staged != NULL && staged->state == STAGED_WAITING)
    {
      push = staged->push;
      take_order (staged, request);
      staged->state = push ? STAGED_ORDERED : STAGED_WORKING;
      gs_cond_broadcast (&serve->changed);
    }
  else
    staged = NULL;
  while (push && g_hash_table_contains (serve->staged, &key) && !gs_call_cancelled (&call->base)
         && g_get_monotonic_time () < call->base.deadline_us)
    gs_cond_wait_until (&serve->changed, &serve->lock, g_get_monotonic_time () + LOOK_US);
  gs_mutex_unlock (&serve->lock);
  if (staged == NULL)
    return FALSE;
  *ret_done = push ? is_applied (in, call, request->generation)
                         || gs_fail (error, GS_ERROR_UNAVAILABLE, "the push is still being applied")
                   : gsi_serve_staged_carry_out (serve, staged, &call->base, error);
  return TRUE;
}

gboolean
gsi_serve_resolve (gpointer user, GsiCall *call, GError **error)
{
  const Gitstead__V1__NodeSettleRequest *request = (const void *) call->request;
  g_auto (Inside) in = { 0 };
  gboolean done = FALSE;
  GsDecision decision = { .size = sizeof decision };
  if (!gsi_serve_txid (&request->txid, "txid", &decision.txid, error)
      || !gsi_serve_enter (user, call, request->target, &in, error))
    return FALSE;
  if (request->commit && request->refs_digest.len != GS_DIGEST_SIZE)
    return gs_fail (error, GS_ERROR_INVALID_ARGUMENT, "refs_digest: must be %d bytes", GS_DIGEST_SIZE);
  if (request->commit && take_decided (user, &in, call, request, &decision.txid, &done, error))
    return done;
  if (gsi_serve_claims (user, &decision.txid, in.storage))
    return gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "this write is still in a router's hand");
  decision.generation = request->generation;
  if (request->commit)
    memcpy (decision.refs_digest.bytes, request->refs_digest.data, GS_DIGEST_SIZE);
  return in.storage->ops->resolve (in.storage->self, &call->base, &in.repo, &decision.txid,
                                   request->commit ? &decision : NULL, error);
}

/* ------------------------------------------------------------------------------- silent routers */

/* What the store says of a write, for one of its participants. */
typedef struct
{
  GsDecision decision;
  const char *storage;
  gboolean voted; /* it was decided with this one's vote */
} Fate;

static gboolean
take_decision (const GsChange *change, gpointer user)
{
  Fate *fate = user;
  fate->decision.generation = change->generation;
  fate->decision.refs_digest = change->refs_digest;
  fate->voted = change->voters == NULL || g_strv_contains (change->voters, fate->storage);
  return FALSE;
}

void
gsi_serve_record (GsiServe *serve, const GsiStorage *storage, guint64 repository_id, const char *replica_path)
{
  const GsRepo repo = { sizeof repo, repository_id, replica_path };
  GsReplicaState state = { .size = sizeof state };
  GsIdentity identity;
  GsCall call;
  gsi_serve_own_call (&call, &identity);
  if (storage->ops->state (storage->self, &call, &repo, &state, NULL) && state.repository_id == repository_id)
    serve->config.metadata->replica_set (serve->config.metadata_self, &call, repository_id, storage->name,
                                         state.generation, FALSE, NULL);
}

gboolean
gsi_serve_staged_ask (GsiServe *serve, Staged *staged, gboolean for_good)
{
  const GsMetadataOps *ops = serve->config.metadata;
  gpointer self = serve->config.metadata_self;
  Fate fate = { { sizeof fate.decision, staged->txid, 0, { { 0 } } }, staged->storage->name, FALSE };
  GsTxState state = GS_TX_UNKNOWN;
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  gboolean told;
  GsCall call;

  gsi_serve_own_call (&call, &identity);
  told = (!for_good || ops->tx_abort (self, &call, staged->repository_id, &staged->txid, &state, &why))
         && (state == GS_TX_ABORTED
             || ops->tx_find (self, &call, staged->repository_id, &staged->txid, &state, take_decision, &fate, &why));
  if (!told && gs_error_code (why) == GS_ERROR_NOT_FOUND)
    {
      state = GS_TX_ABORTED; /* the repository is gone, or nothing is known of the write */
      told = for_good;
    }
  if (!told || (state != GS_TX_DECIDED && state != GS_TX_ABORTED))
    return FALSE;
  gs_mutex_lock (&serve->lock);
  staged->commit = state == GS_TX_DECIDED && fate.voted; /* who did not vote for it has something else staged */
  staged->decision = fate.decision;
  if (!staged->commit && staged->why == NULL)
    gs_fail (&staged->why, GS_ERROR_ABORTED, "the router that carried this write went away");
  gs_mutex_unlock (&serve->lock);
  return TRUE;
}

static void
log_settled (GsiServe *serve, const Staged *staged)
{
  char hex[2 * GS_TXID_SIZE + 1];
  gs_hex (staged->txid.bytes, sizeof staged->txid.bytes, hex);
  serve->config.host->log (serve->config.host, GS_LOG_WARNING, "node.router.silent",
                           (GsField[]) { GS_TEXT ("storage", staged->storage->name),
                                         GS_TEXT ("replica", staged->replica_path), GS_TEXT ("transaction", hex),
                                         GS_TEXT ("outcome", staged->commit ? "applied" : "dropped") },
                           4);
}

/* Settles one that is WORKING in our hand: carries it out, has its push carry it out, or waits on. */
static void
settle_silent (GsiServe *serve, Staged *staged, gboolean for_good)
{
  gboolean told = gsi_serve_staged_ask (serve, staged, for_good);
  const GsiStorage *storage = staged->storage;
  guint64 repository_id = staged->repository_id;
  g_autofree char *replica_path = g_strdup (staged->replica_path);
  gboolean commit = staged->commit;
  g_autoptr (GError) why = NULL;
  GsIdentity identity;
  GsCall call;

  if (told)
    log_settled (serve, staged);
  if (!told || staged->push)
    {
      gs_mutex_lock (&serve->lock);
      staged->state = told ? STAGED_ORDERED : STAGED_WAITING;
      gs_cond_broadcast (&serve->changed);
      gs_mutex_unlock (&serve->lock);
      return;
    }
  gsi_serve_own_call (&call, &identity);
  if (!commit)
    gsi_serve_staged_carry_out (serve, staged, &call, NULL);
  else if (gsi_serve_staged_carry_out (serve, staged, &call, &why))
    gsi_serve_record (serve, storage, repository_id, replica_path);
  else
    serve->config.host->log (serve->config.host, GS_LOG_ERROR, "node.apply.failed",
                             (GsField[]) { GS_TEXT ("storage", storage->name), GS_TEXT ("error", why->message) }, 2);
}

/* Since when the write has nobody who cares for it; G_MAXINT64 = it has. Under the lock. */
static gint64
silent_since (GsiServe *serve, Staged *staged, gint64 now_us)
{
  const gint64 *seen = g_hash_table_lookup (serve->sessions, &staged->session);
  if (staged->silent_us == 0)
    staged->silent_us = now_us; /* it is awaited from here on */
  if (seen == NULL)
    return staged->silent_us;
  return now_us - *seen > serve->config.lease_us ? *seen : now_us - staged->silent_us > FORGOTTEN_US ? *seen : G_MAXINT64;
}

/* How long it is waited for. Under the lock. */
static gint64
lease_of (GsiServe *serve, const Staged *staged, gint64 now_us)
{
  const gint64 *seen = staged->broken ? g_hash_table_lookup (serve->sessions, &staged->router) : NULL;
  gboolean dead = staged->broken && (seen == NULL || now_us - *seen > DEAD_US);
  return dead ? MIN (ASK_EVERY_US, serve->config.lease_us) : serve->config.lease_us;
}

void
gsi_serve_sweep (GsiServe *serve, gboolean all)
{
  gint64 now_us = g_get_monotonic_time ();
  g_autoptr (GPtrArray) silent = g_ptr_array_new ();
  g_autoptr (GArray) goods = g_array_new (FALSE, FALSE, sizeof (gboolean));
  GHashTableIter iter;
  gpointer value;

  gs_mutex_lock (&serve->lock);
  g_hash_table_iter_init (&iter, serve->staged);
  while (g_hash_table_iter_next (&iter, NULL, &value))
    {
      Staged *staged = value;
      gint64 since_us, lease_us = lease_of (serve, staged, now_us);
      gboolean for_good;
      if (staged->state != STAGED_WAITING)
        continue;
      since_us = silent_since (serve, staged, now_us);
      if (!all && since_us == G_MAXINT64)
        continue;
      if (!all && now_us - staged->silent_us < ASK_EVERY_US)
        continue;
      for_good = all || now_us - since_us > lease_us || now_us - staged->silent_us > GIVEN_UP_US;
      staged->state = STAGED_WORKING;
      g_ptr_array_add (silent, staged);
      g_array_append_val (goods, for_good);
    }
  gs_mutex_unlock (&serve->lock);
  for (guint i = 0; i < silent->len; i++)
    settle_silent (serve, silent->pdata[i], g_array_index (goods, gboolean, i));
}
