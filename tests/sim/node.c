/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node: one replica on a disk, and its journal.
 *
 * A staged write holds the locks of its refs until it is applied or dropped. Applying publishes the new values, then
 * stamps the generation and drops the record; a crash between the two is redone after the restart. What is staged and
 * hears nothing asks the store, which aborts it when it is not decided.
 */
#include "sim.h"

#define LEASE (4 * SECOND)
#define ASK_AGAIN (700 * MS)
#define LOCK_WAIT (200 * MS)
#define SNAPSHOT_WAIT (1500 * MS)

enum
{
  T_LOCKS_OVER, /* of what follows, the argument is the serial of a transaction */
  T_PREPARED,
  T_LEASE,
  T_PUBLISH,
  T_STAMP,
  T_SNAPSHOT_OVER, /* the argument is a call */
};

guint
applied_up_to (const SimApplied *applied)
{
  guint generation = 0;
  while (generation + 1 < SIM_GENERATIONS_MAX && applied_has (applied, generation + 1))
    generation++;
  return generation;
}

static SimTx *
find_tx (SimNode *node, SimTxId txid)
{
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    if (node->txs[i].state != TX_FREE && node->txs[i].txid == txid)
      return &node->txs[i];
  return NULL;
}

static SimTx *
tx_of_serial (SimNode *node, guint64 serial)
{
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    if (node->txs[i].state != TX_FREE && node->txs[i].serial == serial)
      return &node->txs[i];
  return NULL;
}

gboolean
node_holds (const SimNode *node, SimTxId txid, guint generation)
{
  if (applied_has (&node->applied, generation))
    return TRUE;
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    if (node->txs[i].txid == txid && (node->txs[i].state == TX_STAGED || node->txs[i].state == TX_PUBLISHED))
      return TRUE;
  return FALSE;
}

static void
reply (Sim *sim, guint node, SimTx *tx, SimType type, int code)
{
  SimMessage answer = { .type = type, .from = actor_node (node), .to = tx->asker, .call = tx->call, .code = code };
  if (tx->call == 0)
    return;
  answer.txid = tx->txid;
  for (guint i = 0; i < tx->change.n; i++)
    answer.digest = answer.digest * 31 + tx->change.updates[i].new_value * SIM_REFS + tx->change.updates[i].ref;
  tx->call = 0;
  sim_send (sim, &answer);
}

/* -------------------------------------------------------------------------------------------- locks */

static gboolean
overlap (const SimChange *a, const SimChange *b)
{
  for (guint i = 0; i < a->n; i++)
    for (guint k = 0; k < b->n; k++)
      if (a->updates[i].ref == b->updates[k].ref)
        return TRUE;
  return FALSE;
}

static gboolean
can_lock (Sim *sim, const SimNode *node, const SimTx *wants)
{
  for (guint i = 0; i < SIM_TXS_MAX && sim->bug != BUG_NO_LOCKS; i++)
    if (node->txs[i].state > TX_WAITING && overlap (&node->txs[i].change, &wants->change))
      return FALSE;
  return TRUE;
}

static void
refuse (Sim *sim, guint node, SimTx *tx, int code)
{
  sim_trace (sim, "node %u: refuses %" G_GINT64_MODIFIER "x: %s", node, tx->txid, gs_error_name (code));
  reply (sim, node, tx, M_STAGED, code);
  tx->state = TX_FREE;
}

/* The locks are there: checks the old values and makes the record durable. */
static void
prepare (Sim *sim, guint node, SimTx *tx)
{
  SimNode *self = &sim->nodes[node];
  for (guint i = 0; i < tx->change.n; i++)
    if (self->refs[tx->change.updates[i].ref] != tx->change.updates[i].old_value)
      {
        refuse (sim, node, tx, GS_ERROR_FAILED_PRECONDITION);
        return;
      }
  tx->state = TX_PREPARING;
  sim_timer (sim, actor_node (node), sim_between (sim, MS / 2, 4 * MS), T_PREPARED, tx->serial);
}

/* Locks came free. Those who have waited longest come first. */
static void
wake_waiting (Sim *sim, guint node)
{
  SimNode *self = &sim->nodes[node];
  for (;;)
    {
      SimTx *next = NULL;
      for (guint i = 0; i < SIM_TXS_MAX; i++)
        if (self->txs[i].state == TX_WAITING && (next == NULL || self->txs[i].serial < next->serial)
            && can_lock (sim, self, &self->txs[i]))
          next = &self->txs[i];
      if (next == NULL)
        return;
      prepare (sim, node, next);
    }
}

static void
end_tx (Sim *sim, guint node, SimTx *tx)
{
  tx->state = TX_FREE;
  wake_waiting (sim, node);
}

/* ------------------------------------------------------------------------------------------- staging */

static void
on_stage (Sim *sim, guint node, const SimMessage *message)
{
  SimNode *self = &sim->nodes[node];
  SimTx *tx = find_tx (self, message->txid);
  if (tx != NULL) /* asked again */
    {
      tx->asker = message->from;
      tx->call = message->call;
      if (tx->state == TX_STAGED)
        reply (sim, node, tx, M_STAGED, GS_OK);
      return;
    }
  for (guint i = 0; i < SIM_TXS_MAX && tx == NULL; i++)
    if (self->txs[i].state == TX_FREE)
      tx = &self->txs[i];
  if (tx == NULL)
    {
      SimMessage busy = { .type = M_STAGED, .code = GS_ERROR_BUSY };
      sim_answer (sim, message, &busy);
      return;
    }
  *tx = (SimTx){ .state = TX_WAITING,
                 .txid = message->txid,
                 .change = message->change,
                 .asker = message->from,
                 .call = message->call,
                 .serial = ++self->serial };
  if (sim->setup.bad_votes && sim_chance (sim, 0.02))
    {
      sim_trace (sim, "node %u: receives %" G_GINT64_MODIFIER "x damaged", node, tx->txid);
      tx->change.updates[0].new_value = ++sim->next_value << 8 | 0xff; /* nobody wrote that */
    }
  if (can_lock (sim, self, tx))
    prepare (sim, node, tx);
  else
    sim_timer (sim, actor_node (node), LOCK_WAIT, T_LOCKS_OVER, tx->serial);
}

static void
ask_store (Sim *sim, guint node, const SimTx *tx)
{
  SimMessage ask = { .type = M_TX_ABORT, .from = actor_node (node), .to = STORE, .txid = tx->txid };
  ask.call = tx->serial;
  sim_send (sim, &ask);
  sim_timer (sim, actor_node (node), ASK_AGAIN, T_LEASE, tx->serial);
}

/* ------------------------------------------------------------------------------------------ applying */

static void
apply (Sim *sim, guint node, SimTx *tx, guint generation)
{
  tx->generation = generation;
  sim_timer (sim, actor_node (node), sim_between (sim, MS / 2, 3 * MS), T_PUBLISH, tx->serial);
}

static void
publish (Sim *sim, guint node, SimTx *tx)
{
  SimNode *self = &sim->nodes[node];
  guint n = sim->bug == BUG_TORN_APPLY && tx->state != TX_PUBLISHED ? 1 : tx->change.n;
  /* A repair has brought it since: what it says is old by now. */
  if (applied_has (&self->applied, tx->generation) && sim->bug != BUG_FORGET_FENCING)
    {
      reply (sim, node, tx, M_COMMITTED, GS_OK);
      end_tx (sim, node, tx);
      return;
    }
  if (store_is_aborted (&sim->store, tx->txid))
    sim_violation (sim, "node %u applies transaction %" G_GINT64_MODIFIER "x, which has an abort mark", node, tx->txid);
  if (store_decided (&sim->store, tx->txid) != tx->generation)
    sim_violation (sim, "node %u applies transaction %" G_GINT64_MODIFIER "x as generation %u, which it is not", node,
                   tx->txid, tx->generation);
  for (guint i = 0; i < n; i++)
    self->refs[tx->change.updates[i].ref] = tx->change.updates[i].new_value;
  if (n < tx->change.n && tx->state != TX_PUBLISHED)
    sim_timer (sim, actor_node (node), 3 * MS, T_PUBLISH, tx->serial);
  else
    sim_timer (sim, actor_node (node), sim_between (sim, MS / 4, 3 * MS), T_STAMP, tx->serial);
  tx->state = TX_PUBLISHED;
  sim_trace (sim, "node %u: publishes generation %u", node, tx->generation);
}

static void
stamp (Sim *sim, guint node, SimTx *tx)
{
  applied_add (&sim->nodes[node].applied, tx->generation);
  reply (sim, node, tx, M_COMMITTED, GS_OK);
  end_tx (sim, node, tx);
}

static void
on_commit (Sim *sim, guint node, const SimMessage *message)
{
  SimNode *self = &sim->nodes[node];
  SimTx *tx = find_tx (self, message->txid);
  SimMessage answer = { .type = M_COMMITTED };
  if (tx != NULL && (tx->state == TX_STAGED || tx->state == TX_PUBLISHED))
    {
      tx->asker = message->from;
      tx->call = message->call;
      if (tx->state == TX_STAGED && tx->generation == 0)
        apply (sim, node, tx, message->generation);
      return;
    }
  answer.code = applied_has (&self->applied, message->generation) ? GS_OK : GS_ERROR_NOT_FOUND;
  for (guint i = 0; i < message->change.n && answer.code == GS_OK && sim->bug == BUG_APPLY_TWICE; i++)
    self->refs[message->change.updates[i].ref] = message->change.updates[i].new_value;
  sim_answer (sim, message, &answer);
}

static void
on_drop (Sim *sim, guint node, const SimMessage *message)
{
  SimTx *tx = find_tx (&sim->nodes[node], message->txid);
  if (tx == NULL || tx->state == TX_PUBLISHED || tx->generation != 0)
    return;
  sim_trace (sim, "node %u: drops %" G_GINT64_MODIFIER "x", node, tx->txid);
  end_tx (sim, node, tx);
}

/* The store's word on a transaction that hung about. */
static void
on_tx_is (Sim *sim, guint node, const SimMessage *message)
{
  SimTx *tx = tx_of_serial (&sim->nodes[node], message->call);
  if (tx == NULL || tx->state != TX_STAGED || tx->generation != 0)
    return;
  /* Decided without our vote: applying it would look as if nothing before it was missing. Repair brings it. */
  if (message->decided && ((message->nodes >> node & 1) != 0 || sim->bug == BUG_SETTLE_WITHOUT_VOTE))
    {
      if (sim->bug == BUG_SETTLE_WITHOUT_VOTE)
        {
          SimMessage set = { .type = M_REPLICA_SET, .from = actor_node (node), .to = STORE, .node = node };
          set.generation = message->generation;
          sim_send (sim, &set);
        }
      apply (sim, node, tx, message->generation);
    }
  else
    {
      sim_trace (sim, "node %u: drops %" G_GINT64_MODIFIER "x, which is settled", node, tx->txid);
      end_tx (sim, node, tx);
    }
}

/* --------------------------------------------------------------------------------- reading and repair */

/* Between publishing and stamping the refs are ahead of what is said to be applied. */
static gboolean
in_between (const SimNode *node)
{
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    if (node->txs[i].state == TX_PUBLISHED || (node->txs[i].state == TX_STAGED && node->txs[i].redo))
      return TRUE;
  return FALSE;
}

static void
on_fetch (Sim *sim, guint node, const SimMessage *message)
{
  SimNode *self = &sim->nodes[node];
  SimMessage answer = { .type = M_REFS };
  memcpy (answer.refs, self->refs, sizeof answer.refs);
  answer.applied = self->applied;
  if (message->type == M_SNAPSHOT)
    answer.code = in_between (self) ? GS_ERROR_BUSY : GS_OK;
  else if (applied_up_to (&self->applied) < message->generation && sim->bug != BUG_STALE_READ)
    answer.code = GS_ERROR_UNAVAILABLE; /* it is behind what the reader may rely on */
  sim_answer (sim, message, &answer);
}

static void
repaired (Sim *sim, guint node, int code)
{
  SimNode *self = &sim->nodes[node];
  SimMessage answer = {
    .type = M_REPAIRED, .from = actor_node (node), .to = self->repair_asker, .call = self->repair_call, .node = node
  };
  if (self->repair_call == 0)
    return;
  answer.code = code;
  answer.generation = applied_up_to (&self->applied);
  self->repair_call = 0;
  sim_send (sim, &answer);
}

static void
on_repair (Sim *sim, guint node, const SimMessage *message)
{
  SimNode *self = &sim->nodes[node];
  SimMessage ask = { .type = M_SNAPSHOT, .from = actor_node (node), .to = actor_node (message->node) };
  if (self->repair_call != 0)
    return;
  self->repair_call = message->call;
  self->repair_asker = message->from;
  if (applied_up_to (&self->applied) >= message->generation)
    {
      repaired (sim, node, GS_OK); /* it was only recorded as behind */
      return;
    }
  ask.call = message->call;
  sim_send (sim, &ask);
  sim_timer (sim, actor_node (node), SNAPSHOT_WAIT, T_SNAPSHOT_OVER, message->call);
}

/*
 * A vote says that the old values hold and are locked. Taking over another's state breaks that without anybody
 * noticing: the replica would be current again, and what it voted for before could still be decided. So all of that is
 * settled first, with an abort mark where it is not decided.
 */
static gboolean
settle_votes (Sim *sim, guint node)
{
  SimNode *self = &sim->nodes[node];
  gboolean settled = TRUE;
  for (guint i = 0; i < SIM_TXS_MAX && sim->bug != BUG_FORGET_FENCING; i++)
    {
      if (self->txs[i].state <= TX_WAITING)
        continue;
      settled = FALSE;
      if (self->txs[i].state == TX_STAGED && self->txs[i].generation == 0)
        ask_store (sim, node, &self->txs[i]);
    }
  return settled;
}

static void
on_snapshot (Sim *sim, guint node, const SimMessage *message)
{
  SimNode *self = &sim->nodes[node];
  if (self->repair_call != message->call)
    return;
  if (!settle_votes (sim, node))
    {
      repaired (sim, node, GS_ERROR_BUSY);
      return;
    }
  for (guint i = 0; i < G_N_ELEMENTS (self->applied.bits); i++)
    if ((self->applied.bits[i] & ~message->applied.bits[i]) != 0 || message->code != GS_OK || in_between (self))
      {
        repaired (sim, node, GS_ERROR_BUSY); /* it would take back what we have */
        return;
      }
  memcpy (self->refs, message->refs, sizeof self->refs);
  self->applied = message->applied;
  sim_trace (sim, "node %u: repaired up to generation %u", node, applied_up_to (&self->applied));
  repaired (sim, node, GS_OK);
}

/* --------------------------------------------------------------------------------------------- life */

void
node_message (Sim *sim, guint node, const SimMessage *message)
{
  switch (message->type)
    {
    case M_STAGE:
      on_stage (sim, node, message);
      break;
    case M_COMMIT:
      on_commit (sim, node, message);
      break;
    case M_DROP:
      on_drop (sim, node, message);
      break;
    case M_TX_IS:
      on_tx_is (sim, node, message);
      break;
    case M_FETCH:
    case M_SNAPSHOT:
      on_fetch (sim, node, message);
      break;
    case M_REPAIR:
      on_repair (sim, node, message);
      break;
    case M_REFS:
      on_snapshot (sim, node, message);
      break;
    default:
      break;
    }
}

void
node_timer (Sim *sim, guint node, guint what, guint64 arg)
{
  SimNode *self = &sim->nodes[node];
  SimTx *tx = what == T_SNAPSHOT_OVER ? NULL : tx_of_serial (self, arg);
  switch (what)
    {
    case T_SNAPSHOT_OVER:
      if (self->repair_call == arg)
        repaired (sim, node, GS_ERROR_DEADLINE_EXCEEDED);
      break;
    case T_LOCKS_OVER:
      if (tx != NULL && tx->state == TX_WAITING)
        refuse (sim, node, tx, GS_ERROR_ABORTED);
      break;
    case T_PREPARED:
      if (tx == NULL || tx->state != TX_PREPARING)
        break;
      tx->state = TX_STAGED;
      reply (sim, node, tx, M_STAGED, GS_OK);
      sim_timer (sim, actor_node (node), LEASE, T_LEASE, tx->serial);
      break;
    case T_LEASE:
      if (tx != NULL && tx->state == TX_STAGED && tx->generation == 0)
        ask_store (sim, node, tx);
      break;
    case T_PUBLISH:
      if (tx != NULL)
        publish (sim, node, tx);
      break;
    default: /* T_STAMP */
      if (tx != NULL && tx->state == TX_PUBLISHED)
        stamp (sim, node, tx);
    }
}

void
node_crash (Sim *sim, guint node)
{
  SimNode *self = &sim->nodes[node];
  self->repair_call = 0;
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    if (self->txs[i].state < TX_STAGED)
      self->txs[i].state = TX_FREE;
}

/* Every record in the journal is brought to its end. One that was being applied is applied again. */
void
node_start (Sim *sim, guint node)
{
  SimNode *self = &sim->nodes[node];
  for (guint i = 0; i < SIM_TXS_MAX; i++)
    {
      SimTx *tx = &self->txs[i];
      if (tx->state == TX_FREE)
        continue;
      tx->redo = tx->redo || tx->state == TX_PUBLISHED;
      tx->state = TX_STAGED;
      tx->call = 0;
      tx->generation = 0;
      tx->serial = ++self->serial;
      ask_store (sim, node, tx);
    }
}
