/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata store, as metadata.h promises it: each request is one transaction; its answer may get lost. */
#include "sim.h"

guint
store_decided (const SimStore *store, SimTxId txid)
{
  for (guint g = store->generation; g > 0; g--)
    if (store->log[g].txid == txid)
      return g;
  return 0;
}

static guint
decided_by_call (const SimStore *store, guint64 key)
{
  for (guint g = store->generation; g > 0; g--)
    if (store->log[g].key == key)
      return g;
  return 0;
}

gboolean
store_is_aborted (const SimStore *store, SimTxId txid)
{
  return g_hash_table_contains (store->aborted, &txid);
}

/* A decided transaction: its generation, and who voted for it. */
static void
tell_decided (const SimStore *store, guint generation, SimMessage *answer)
{
  answer->decided = generation != 0;
  answer->generation = generation;
  answer->nodes = generation != 0 ? store->log[generation].voters : 0;
}

/* The compare-and-swap. */
static void
decide (Sim *sim, const SimMessage *request, SimMessage *answer)
{
  SimStore *store = &sim->store;
  guint before = store_decided (store, request->txid), expected = request->generation;
  if (before != 0)
    {
      answer->generation = before;
      answer->code = GS_OK;
      return;
    }
  if (store_is_aborted (store, request->txid))
    answer->code = GS_ERROR_FAILED_PRECONDITION;
  else if (decided_by_call (store, request->key) != 0)
    answer->code = GS_ERROR_ALREADY_EXISTS;
  else if (expected != store->generation && sim->bug != BUG_SKIP_CAS)
    answer->code = GS_ERROR_ABORTED;
  for (guint i = 0; i < sim->setup.n_nodes && sim->bug != BUG_STALE_VOTER && sim->bug != BUG_SKIP_CAS; i++)
    if (answer->code == GS_OK && (request->nodes >> i & 1) != 0 && store->replicas[i] != expected)
      answer->code = GS_ERROR_ABORTED; /* it was taken out of use after it voted */
  if (answer->code != GS_OK)
    return;
  if (store->generation + 1 >= SIM_GENERATIONS_MAX)
    {
      answer->code = GS_ERROR_BUSY;
      return;
    }
  store->generation = expected + 1;
  store->log[expected + 1] = (SimLogged){ request->txid, request->key, request->change, request->nodes, sim->now };
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if ((request->nodes >> i & 1) != 0 && (store->replicas[i] == expected || sim->bug == BUG_STALE_VOTER))
      store->replicas[i] = expected + 1; /* a voter that missed something before stays behind */
  answer->generation = expected + 1;
  sim_trace (sim, "store: generation %u is transaction %" G_GINT64_MODIFIER "x, voters %x", expected + 1, request->txid,
             request->nodes);
}

static void
tx_abort (Sim *sim, const SimMessage *request, SimMessage *answer)
{
  SimStore *store = &sim->store;
  guint generation = store_decided (store, request->txid);
  tell_decided (store, generation, answer);
  if (generation == 0 && !store_is_aborted (store, request->txid) && sim->bug != BUG_FORGET_ABORT_MARK)
    {
      g_hash_table_add (store->aborted, g_memdup2 (&request->txid, sizeof request->txid));
      sim_trace (sim, "store: transaction %" G_GINT64_MODIFIER "x is aborted", request->txid);
    }
}

static void
replica_set (Sim *sim, const SimMessage *request)
{
  guint *replica = &sim->store.replicas[request->node];
  guint generation = request->generation;
  if (request->force ? generation < *replica : generation > *replica && generation <= sim->store.generation)
    {
      sim_trace (sim, "store: node %u is at %u (was at %u)", request->node, generation, *replica);
      *replica = generation;
    }
}

void
store_message (Sim *sim, const SimMessage *message)
{
  SimStore *store = &sim->store;
  SimMessage answer = { 0 };
  switch (message->type)
    {
    case M_ROW:
      answer.type = M_ROW_IS;
      answer.generation = store->generation;
      memcpy (answer.replicas, store->replicas, sizeof answer.replicas);
      break;
    case M_BY_CALL:
      answer.type = M_TX_IS;
      tell_decided (store, decided_by_call (store, message->key), &answer);
      break;
    case M_DECIDE:
      answer.type = M_DECIDE_IS;
      decide (sim, message, &answer);
      break;
    case M_TX_ABORT:
      answer.type = M_TX_IS;
      tx_abort (sim, message, &answer);
      break;
    case M_REPLICA_SET:
      replica_set (sim, message);
      return;
    default:
      return;
    }
  sim_answer (sim, message, &answer);
}
