/* SPDX-License-Identifier: Apache-2.0 */
/* A push: the client's bytes to the node, git's answers back, and the node's vote among them. See remote.h. */
#include "remote.h"

#include <unistd.h>

#define FRAME_GIT 0
#define FRAME_VOTE 1
#define CHUNK (64 * 1024)

/* @len bytes of git's answer. A client that is gone hears nothing more; the write goes on. */
static gboolean
pass_on (Txn *txn, GsCall *call, GsStream *stream, gsize len, GError **error)
{
  g_autofree guint8 *chunk = g_malloc (MIN (len, CHUNK));
  if (txn->output < 0 && stream != NULL && len > 0 && !gs_call_cancelled (call))
    txn->output = stream->open_output (stream, NULL);
  while (len > 0)
    {
      gsize n = MIN (len, CHUNK);
      if (!flow_read_all (txn->flow, chunk, n, error))
        return FALSE;
      if (txn->output >= 0 && !write_fd (call, txn->output, chunk, n, NULL))
        {
          close (txn->output);
          txn->output = -1;
          txn->stream = stream = NULL;
        }
      len -= n;
    }
  return TRUE;
}

static gboolean
read_vote (Remote *self, Txn *txn, gsize len, GError **error)
{
  g_autoptr (GsArena) arena = gs_arena_new (ARENA_BYTES);
  g_autofree guint8 *bytes = len <= FRAME_MAX ? g_try_malloc (MAX (len, 1)) : NULL;
  const Gitstead__V1__NodeVote *vote;
  if (bytes == NULL)
    return gs_fail (error, GS_ERROR_OUT_OF_RANGE, "%s: a vote of %" G_GSIZE_FORMAT " bytes", self->host->instance, len);
  if (!flow_read_all (txn->flow, bytes, len, error))
    return FALSE;
  vote = (gpointer) gs_wire_decode (arena, &gitstead__v1__node_vote__descriptor, bytes, len, error);
  return vote != NULL && txn_take_vote (self, txn, vote, error);
}

gboolean
push_relay (Remote *self, Txn *txn, GsCall *call, GsStream *stream, gboolean to_end, GError **error)
{
  for (;;)
    {
      guint8 header[5];
      guint32 len;
      gssize n = flow_read (txn->flow, header, sizeof header, error);
      if (n < 0)
        return FALSE;
      if (n == 0)
        {
          if (!flow_finish (txn->flow, error))
            return FALSE;
          txn->ended = TRUE;
          return to_end
                 || gs_fail (error, GS_ERROR_INTERNAL, "%s: the node ended a push without a vote", self->host->instance);
        }
      if (!flow_read_all (txn->flow, header + n, sizeof header - (gsize) n, error))
        return FALSE;
      memcpy (&len, header + 1, sizeof len);
      len = GUINT32_FROM_BE (len);
      if (header[0] == FRAME_VOTE)
        {
          if (!read_vote (self, txn, len, error))
            return FALSE;
          if (!to_end)
            return TRUE;
        }
      else if (!pass_on (txn, call, stream, len, error))
        return FALSE;
    }
}

gboolean
remote_stage_push (gpointer data, GsCall *call, const GsRepo *repo, const GsPush *push, GsStream *stream,
                   gpointer *ret_txn, const GsVote **ret_vote, GError **error)
{
  Remote *self = data;
  Gitstead__V1__NodeStagePushRequest request = GITSTEAD__V1__NODE_STAGE_PUSH_REQUEST__INIT;
  Gitstead__V1__NodeTarget target;
  Carrier carrier = { .flow = NULL };
  Txn *txn;
  gboolean staged;
  remote_target (self, call, repo, &target);
  request.target = &target;
  request.txid = remote_bytes (push->txid.bytes, GS_TXID_SIZE);
  request.session = remote_bytes (self->session.bytes, GS_TXID_SIZE);
  request.protocol = (char *) push->protocol;
  request.stateless = push->stateless;
  request.max_input_bytes = push->max_input_bytes;
  request.run_hooks = push->run_hooks;
  txn = txn_new (&push->txid, repo);
  txn->stream = stream;
  txn->flow = flow_open (self, call, 1013, &request.base, error);
  if (txn->flow == NULL)
    {
      txn_free (txn);
      return FALSE;
    }
  staged = carrier_begin (&carrier, txn->flow, stream, error)
           && push_relay (self, txn, call, stream, FALSE, error);
  if (staged && txn->vote.n_updates == 0) /* all is said: the node drops it by itself */
    staged = push_relay (self, txn, call, stream, TRUE, error);
  if (!staged && !txn->ended)
    gs_client_stream_cancel (txn->flow->stream);
  carrier_end (&carrier); /* the node has voted on what it got: it wants no more */
  if (!staged && !txn->ended)
    remote_forget (self, call, repo, &push->txid); /* it may have voted meanwhile, and would keep its locks for a lease */
  if (staged)
    {
      gs_client_stream_end (txn->flow->stream, NULL);
      flow_detach (txn->flow);
      *ret_txn = txn;
      *ret_vote = &txn->vote;
      return TRUE;
    }
  flow_free (txn->flow);
  if (txn->output >= 0)
    close (txn->output);
  txn_free (txn);
  return FALSE;
}
