/* SPDX-License-Identifier: Apache-2.0 */
/* Writes that the node stages and holds for us, and what becomes of them. See remote.h. */
#include "remote.h"

#include <unistd.h>

/* What goes in one message; the rest as a stream. */
#define SMALL_UPDATES 500
#define SMALL_PACK (256 * 1024)
#define SMALL_NAMES (300 * 1024)
#define REPLY_ARENA (32 * 1024 * 1024)
#define REASON_MAX 4096

/* ------------------------------------------------------------------------------------ transactions */

Txn *
txn_new (const GsTxId *txid, const GsRepo *repo)
{
  Txn *txn = g_new0 (Txn, 1);
  txn->txid = *txid;
  txn->repository_id = repo->id;
  txn->replica_path = g_strdup (repo->replica_path);
  txn->texts = g_ptr_array_new_with_free_func (g_free);
  txn->vote.size = sizeof txn->vote;
  txn->output = -1;
  return txn;
}

void
txn_free (Txn *txn)
{
  for (gsize i = 0; i < txn->vote.n_verdicts; i++)
    g_free (txn->verdicts[i].reason);
  g_free (txn->verdicts);
  g_free (txn->updates);
  g_ptr_array_unref (txn->texts);
  g_free (txn->replica_path);
  g_free (txn);
}

static gboolean
take_update (Remote *self, const Gitstead__V1__NodeUpdate *message, GPtrArray *texts, GsRefUpdate *ret_update,
             GError **error)
{
  char *text = remote_read_text (self, &message->name, error);
  if (text == NULL)
    return FALSE;
  g_ptr_array_add (texts, text);
  ret_update->name = text;
  if (message->new_symref.len > 0)
    {
      text = remote_read_text (self, &message->new_symref, error);
      if (text == NULL)
        return FALSE;
      g_ptr_array_add (texts, text);
      ret_update->new_symref = text;
    }
  return remote_read_oid (self, &message->old_oid, &ret_update->old_oid, error)
         && remote_read_oid (self, &message->new_oid, &ret_update->new_oid, error);
}

gboolean
txn_take_vote (Remote *self, Txn *txn, const Gitstead__V1__NodeVote *message, GError **error)
{
  GsVote *vote = &txn->vote;
  txn->updates = g_new0 (GsRefUpdate, message->n_updates + 1);
  txn->verdicts = g_new0 (GsRefVerdict, message->n_verdicts + 1);
  for (gsize i = 0; i < message->n_updates; i++)
    if (!take_update (self, message->updates[i], txn->texts, &txn->updates[i], error))
      return FALSE;
  for (; vote->n_verdicts < message->n_verdicts; vote->n_verdicts++)
    {
      const Gitstead__V1__NodeVerdict *verdict = message->verdicts[vote->n_verdicts];
      GsRefVerdict *to = &txn->verdicts[vote->n_verdicts];
      to->code = (GsErrorCode) MIN (verdict->code, GS_ERROR_UNAUTHENTICATED);
      to->reason = to->code != GS_OK ? g_strdup (verdict->reason) : NULL;
    }
  vote->updates = txn->updates;
  vote->n_updates = message->n_updates;
  vote->verdicts = txn->verdicts;
  vote->hooks = message->hooks;
  return remote_read_exactly (self, &message->digest, vote->digest, sizeof vote->digest, error)
         && remote_read_exactly (self, &message->refs_plus, vote->refs_plus.bytes, GS_DIGEST_SIZE, error)
         && remote_read_exactly (self, &message->refs_minus, vote->refs_minus.bytes, GS_DIGEST_SIZE, error);
}

/* ------------------------------------------------------------------------------------------ staging */

static void
update_message (const GsRefUpdate *update, Gitstead__V1__NodeUpdate *ret_message)
{
  gitstead__v1__node_update__init (ret_message);
  ret_message->name = remote_text (update->name);
  ret_message->old_oid = remote_oid (&update->old_oid);
  ret_message->new_oid = remote_oid (&update->new_oid);
  ret_message->new_symref = remote_text (update->new_symref);
}

static gboolean
is_small (const GsChangeSet *change)
{
  gsize names = 0;
  if (change->n_updates > SMALL_UPDATES || (change->pack != NULL && g_bytes_get_size (change->pack) > SMALL_PACK))
    return FALSE;
  for (gsize i = 0; i < change->n_updates; i++)
    names += strlen (change->updates[i].name)
             + (change->updates[i].new_symref != NULL ? strlen (change->updates[i].new_symref) : 0);
  return names <= SMALL_NAMES;
}

/* TRUE without a vote: it is too large for a message, and nothing is staged. */
static gboolean
stage_small (Remote *self, GsCall *call, Txn *txn, Gitstead__V1__NodeStageRequest *request, const GsChangeSet *change,
             gboolean *ret_voted, GError **error)
{
  g_autofree Gitstead__V1__NodeUpdate *messages = g_new (Gitstead__V1__NodeUpdate, change->n_updates + 1);
  g_autofree Gitstead__V1__NodeUpdate **pointers = g_new (Gitstead__V1__NodeUpdate *, change->n_updates + 1);
  g_autoptr (GsArena) arena = gs_arena_new (REPLY_ARENA);
  const Gitstead__V1__NodeStageReply *reply;
  gsize len;
  for (gsize i = 0; i < change->n_updates; i++)
    {
      update_message (&change->updates[i], &messages[i]);
      pointers[i] = &messages[i];
    }
  request->updates = pointers;
  request->n_updates = change->n_updates;
  if (change->pack != NULL)
    {
      const guint8 *data = g_bytes_get_data (change->pack, &len);
      request->pack = remote_bytes (data, len);
    }
  if (!remote_call (self, call, 1012, &request->base, 0, &gitstead__v1__node_stage_reply__descriptor, arena, &reply,
                    error))
    return FALSE;
  *ret_voted = reply->vote != NULL;
  request->updates = NULL;
  request->n_updates = 0;
  request->pack = remote_bytes (NULL, 0);
  return reply->vote == NULL || txn_take_vote (self, txn, reply->vote, error);
}

static gboolean
send_message (Flow *flow, const ProtobufCMessage *message, GByteArray *buffer, GError **error)
{
  g_autoptr (GBytes) bytes = gs_wire_encode (message);
  guint32 size = GUINT32_TO_BE ((guint32) g_bytes_get_size (bytes));
  g_byte_array_append (buffer, (const guint8 *) &size, sizeof size);
  g_byte_array_append (buffer, g_bytes_get_data (bytes, NULL), (guint) g_bytes_get_size (bytes));
  if (buffer->len < 65536)
    return TRUE;
  if (!flow_write (flow, buffer->data, buffer->len, error))
    return FALSE;
  g_byte_array_set_size (buffer, 0);
  return TRUE;
}

static gboolean
stage_streamed (Remote *self, GsCall *call, Txn *txn, Gitstead__V1__NodeStageRequest *request,
                const GsChangeSet *change, GError **error)
{
  g_autoptr (GByteArray) buffer = g_byte_array_new ();
  g_autoptr (GsArena) arena = gs_arena_new (ARENA_BYTES);
  g_autoptr (Flow) flow = NULL;
  g_autoptr (GError) unsent = NULL;
  const Gitstead__V1__NodeVote *vote;
  gboolean sent = TRUE;
  request->count_updates = (guint32) change->n_updates;
  flow = flow_open (self, call, 1011, &request->base, error);
  if (flow == NULL)
    return FALSE;
  for (gsize i = 0; sent && i < change->n_updates; i++)
    {
      Gitstead__V1__NodeUpdate message;
      update_message (&change->updates[i], &message);
      sent = send_message (flow, &message.base, buffer, &unsent);
    }
  sent = sent && flow_write (flow, buffer->data, buffer->len, &unsent);
  if (sent && change->pack != NULL)
    sent = flow_write (flow, g_bytes_get_data (change->pack, NULL), g_bytes_get_size (change->pack), &unsent);
  if (sent)
    gs_client_stream_end (flow->stream, NULL);
  /* When the node takes no more it says why. */
  if (!flow_message (flow, &gitstead__v1__node_vote__descriptor, arena, &vote, error))
    return FALSE;
  if (vote == NULL)
    return flow_finish (flow, error)
           && gs_fail (error, GS_ERROR_INTERNAL, "%s: the node staged a write without a vote", self->host->instance);
  return flow_finish (flow, error) && txn_take_vote (self, txn, vote, error);
}

gboolean
remote_stage (gpointer data, GsCall *call, const GsRepo *repo, const GsChangeSet *change, gpointer *ret_txn,
              const GsVote **ret_vote, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeStageRequest request = GITSTEAD__V1__NODE_STAGE_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  Txn *txn = txn_new (&change->txid, repo);
  GError *why = NULL;
  gboolean voted = FALSE;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.txid = remote_bytes (change->txid.bytes, GS_TXID_SIZE);
  request.session = remote_bytes (self->session.bytes, GS_TXID_SIZE);
  request.atomic = change->atomic;
  request.own_refs = change->own_refs;
  request.run_hooks = change->run_hooks;
  request.has_pack = change->pack != NULL;
  if ((is_small (change) && !stage_small (self, call, txn, &request, change, &voted, &why))
      || (!voted && !stage_streamed (self, call, txn, &request, change, &why)))
    {
      /* It may have been staged and its vote lost on the way; one that another call staged is not ours to drop. */
      if (why->code != GS_ERROR_ALREADY_EXISTS)
        remote_abort (self, call, g_steal_pointer (&txn), NULL);
      else
        txn_free (txn);
      g_propagate_error (error, why);
      return FALSE;
    }
  *ret_txn = txn;
  *ret_vote = &txn->vote;
  return TRUE;
}

/* --------------------------------------------------------------------------------------------- fate */

static gboolean
settle (Remote *self, GsCall *call, guint32 method, const GsRepo *repo, const GsTxId *txid, const GsDecision *decision,
        const GError *why, GError **error)
{
  Gitstead__V1__NodeSettleRequest request = GITSTEAD__V1__NODE_SETTLE_REQUEST__INIT;
  Gitstead__V1__NodeVerdict verdict = GITSTEAD__V1__NODE_VERDICT__INIT;
  Gitstead__V1__NodeTarget target;
  g_autofree char *reason = NULL;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.txid = remote_bytes (txid->bytes, GS_TXID_SIZE);
  request.commit = decision != NULL;
  if (decision != NULL)
    {
      request.generation = decision->generation;
      request.refs_digest = remote_bytes (decision->refs_digest.bytes, GS_DIGEST_SIZE);
    }
  if (why != NULL)
    {
      g_autofree char *cut = g_strndup (why->message, REASON_MAX);
      verdict.code = (guint32) CLAMP (why->code, 1, GS_ERROR_UNAUTHENTICATED);
      verdict.reason = reason = g_utf8_make_valid (cut, -1);
      request.why = &verdict;
    }
  return remote_call (self, call, method, &request.base, CALL_FATE, NULL, NULL, NULL, error);
}

void
remote_forget (Remote *self, GsCall *call, const GsRepo *repo, const GsTxId *txid)
{
  settle (self, call, 1014, repo, txid, NULL, NULL, NULL);
}

/* The rest of a push's conversation, to its end. */
static gboolean
end_push (Remote *self, Txn *txn, GsCall *call, GError **error)
{
  gboolean done;
  flow_limit (txn->flow);
  done = txn->ended || push_relay (self, txn, call, txn->stream, TRUE, error);
  g_clear_pointer (&txn->flow, flow_free);
  return done;
}

gboolean
remote_commit (gpointer data, GsCall *call, gpointer user, const GsDecision *decision, GError **error)
{
  Remote *self = data;
  Txn *txn = user;
  GsRepo repo = { sizeof repo, txn->repository_id, txn->replica_path };
  gboolean done = settle (self, call, 1014, &repo, &txn->txid, decision, NULL, error);
  if (txn->flow != NULL)
    {
      if (!done)
        gs_client_stream_cancel (txn->flow->stream);
      done = end_push (self, txn, call, done ? error : NULL) && done;
    }
  if (txn->output >= 0)
    close (txn->output);
  txn_free (txn);
  return done;
}

void
remote_abort (gpointer data, GsCall *call, gpointer user, const GError *why)
{
  Remote *self = data;
  Txn *txn = user;
  GsRepo repo = { sizeof repo, txn->repository_id, txn->replica_path };
  /* When it cannot be told, the node finds out: from the broken stream, or from the lease. */
  gboolean told = txn->ended || settle (self, call, 1014, &repo, &txn->txid, NULL, why, NULL);
  if (txn->flow != NULL)
    {
      if (!told)
        gs_client_stream_cancel (txn->flow->stream);
      end_push (self, txn, call, NULL);
    }
  if (txn->output >= 0)
    close (txn->output);
  txn_free (txn);
}

gboolean
remote_resolve (gpointer self, GsCall *call, const GsRepo *repo, const GsTxId *txid, const GsDecision *decision,
                GError **error)
{
  return settle (self, call, 1016, repo, txid, decision, NULL, error);
}

gboolean
remote_pending (gpointer data, GsCall *call, GsPendingVisit visit, gpointer user, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeRequest request = GITSTEAD__V1__NODE_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  remote_target (self, call, NULL, &target);
  request.target = &target;
  flow = flow_open (self, call, 1015, &request.base, error);
  while (flow != NULL)
    {
      g_autoptr (GsArena) arena = gs_arena_new (65536);
      g_autofree char *path = NULL;
      const Gitstead__V1__NodePending *message;
      GsPending pending = { .size = sizeof pending };
      if (!flow_message (flow, &gitstead__v1__node_pending__descriptor, arena, &message, error))
        return FALSE;
      if (message == NULL)
        return flow_finish (flow, error);
      path = remote_read_text (self, &message->replica_path, error);
      if (path == NULL || !remote_read_exactly (self, &message->txid, pending.txid.bytes, GS_TXID_SIZE, error)
          || !remote_read_exactly (self, &message->vote, pending.vote, sizeof pending.vote, error))
        return FALSE;
      pending.repo = (GsRepo) { sizeof (GsRepo), message->repository_id, path };
      if (!visit (&pending, user))
        return TRUE;
    }
  return FALSE;
}

/* ----------------------------------------------------------------------------------- computed writes */

typedef struct
{
  GsComputed computed;
  GPtrArray *texts;
  GArray *updates;
  GBytes *pack;
} Computed;

void
remote_computed_free (gpointer self, GsComputed *given)
{
  Computed *computed = (Computed *) given;
  g_ptr_array_unref (computed->texts);
  g_array_unref (computed->updates);
  g_clear_pointer (&computed->pack, g_bytes_unref);
  g_clear_pointer (&computed->computed.reply, g_bytes_unref);
  g_free (computed);
}

static gboolean
read_computed (Remote *self, Flow *flow, Computed *computed, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (ARENA_BYTES);
  g_autoptr (GByteArray) pack = g_byte_array_new ();
  g_autofree guint8 *chunk = g_malloc (65536);
  const Gitstead__V1__NodeComputed *message;
  gssize n;
  if (!flow_message (flow, &gitstead__v1__node_computed__descriptor, arena, &message, error))
    return FALSE;
  if (message == NULL)
    return flow_finish (flow, error)
           && gs_fail (error, GS_ERROR_INTERNAL, "%s: the node computed nothing", self->host->instance);
  computed->computed.reply = g_bytes_new (message->reply.data, message->reply.len);
  computed->computed.change.atomic = message->atomic;
  computed->computed.change.own_refs = message->own_refs;
  for (guint32 i = 0; i < message->count_updates; i++)
    {
      g_autoptr (GsArena) own = gs_arena_new (65536);
      const Gitstead__V1__NodeUpdate *update;
      GsRefUpdate to = { 0 };
      if (!flow_message (flow, &gitstead__v1__node_update__descriptor, own, &update, error))
        return FALSE;
      if (update == NULL)
        return gs_fail (error, GS_ERROR_INTERNAL, "%s: the node's change set is cut short", self->host->instance);
      if (!take_update (self, update, computed->texts, &to, error))
        return FALSE;
      g_array_append_val (computed->updates, to);
    }
  while ((n = flow_read (flow, chunk, 65536, error)) > 0)
    {
      if (pack->len + (guint64) n > G_MAXINT32)
        return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: a pack of more than 2 GiB", self->host->instance);
      g_byte_array_append (pack, chunk, (guint) n);
    }
  if (n < 0 || !flow_finish (flow, error))
    return FALSE;
  if (message->has_pack)
    computed->pack = g_byte_array_free_to_bytes (g_steal_pointer (&pack));
  computed->computed.change.updates = (const GsRefUpdate *) computed->updates->data;
  computed->computed.change.n_updates = computed->updates->len;
  computed->computed.change.pack = computed->pack;
  return TRUE;
}

gboolean
remote_compute (gpointer data, GsCall *call, const GsRepo *repo, const GsQuery *query, GsComputed **ret_computed,
                GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeQueryRequest request = GITSTEAD__V1__NODE_QUERY_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  g_autoptr (Flow) flow = NULL;
  Carrier carrier = { .fd = -1, .wake = -1 };
  Computed *computed;
  gboolean done;
  gsize len;
  const guint8 *bytes = g_bytes_get_data (query->request, &len);
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.method = query->method;
  request.request = remote_bytes (bytes, len);
  request.has_stream = query->stream != NULL;
  flow = flow_open (self, call, 1026, &request.base, error);
  if (flow == NULL || (query->stream != NULL && !carrier_begin (&carrier, flow, query->stream, error)))
    return FALSE;
  if (query->stream == NULL)
    gs_client_stream_end (flow->stream, NULL);
  computed = g_new0 (Computed, 1);
  computed->computed.size = sizeof computed->computed;
  computed->computed.change.size = sizeof computed->computed.change;
  computed->texts = g_ptr_array_new_with_free_func (g_free);
  computed->updates = g_array_new (FALSE, TRUE, sizeof (GsRefUpdate));
  done = read_computed (self, flow, computed, error);
  if (!done)
    gs_client_stream_cancel (flow->stream);
  carrier_end (&carrier);
  if (done)
    *ret_computed = &computed->computed;
  else
    remote_computed_free (self, &computed->computed);
  return done;
}
