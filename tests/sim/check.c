/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a history has to be.
 *
 * Every value is written at most once and names the value that it replaces, so the writes of a ref that clients know of
 * form a chain, and the place of a value in it says which writes are before it. A history is linearizable per ref when
 * nobody sees a place lower than one that somebody was told of before they asked. A write of two refs is atomic when no
 * read stands between its two places.
 *
 * That is judged by what clients saw alone. The store's log and the disks are held against it afterwards.
 */
#include "sim.h"

/* ------------------------------------------------------------------------------------ the order of values */

typedef struct
{
  guint64 value;
  guint place; /* 0: the value at the beginning; G_MAXUINT: not known */
  const SimOp *op;
  guint update;
} Place;

typedef struct
{
  Place places[SIM_REFS][SIM_CLIENTS_MAX * SIM_OPS_MAX + 1];
  guint n[SIM_REFS];
} Order;

static Place *
find_value (Order *order, guint ref, guint64 value)
{
  for (guint i = 0; i < order->n[ref]; i++)
    if (order->places[ref][i].value == value)
      return &order->places[ref][i];
  return NULL;
}

static void
collect_values (Sim *sim, Order *order)
{
  for (guint ref = 0; ref < SIM_REFS; ref++)
    order->places[ref][order->n[ref]++] = (Place){ .value = 0 };
  for (guint c = 0; c < sim->setup.n_clients; c++)
    for (guint i = 0; i < sim->clients[c].n_ops; i++)
      {
        const SimOp *op = &sim->clients[c].ops[i];
        for (guint u = 0; u < op->change.n; u++)
          {
            guint ref = op->change.updates[u].ref;
            order->places[ref][order->n[ref]++] = (Place){ op->change.updates[u].new_value, G_MAXUINT, op, u };
          }
      }
}

/* Gives @value its place, and what it stands on. FALSE: it stands on something that nobody wrote. */
static gboolean
put_in_place (Order *order, guint ref, Place *at)
{
  Place *chain[SIM_CLIENTS_MAX * SIM_OPS_MAX + 1];
  guint n = 0;
  while (at->place == G_MAXUINT)
    {
      chain[n++] = at;
      at = find_value (order, ref, at->op->change.updates[at->update].old_value);
      if (at == NULL || n >= G_N_ELEMENTS (chain))
        return FALSE;
    }
  for (guint next = at->place + 1; n > 0; next++)
    chain[--n]->place = next;
  return TRUE;
}

/* What must have come about: said to have, or seen. */
static void
place_known (Sim *sim, Order *order)
{
  for (guint c = 0; c < sim->setup.n_clients; c++)
    for (guint i = 0; i < sim->clients[c].n_ops; i++)
      {
        const SimOp *op = &sim->clients[c].ops[i];
        if (op->end != OP_OK)
          continue;
        for (guint ref = 0; ref < SIM_REFS && op->kind == OP_READ; ref++)
          {
            Place *seen = find_value (order, ref, op->refs[ref]);
            if (seen == NULL || !put_in_place (order, ref, seen))
              sim_violation (sim, "client %u reads in ref %u what nobody wrote", c, ref);
          }
        for (guint u = 0; u < op->change.n; u++)
          if (!put_in_place (order, op->change.updates[u].ref,
                             find_value (order, op->change.updates[u].ref, op->change.updates[u].new_value)))
            sim_violation (sim, "client %u replaced in ref %u what nobody wrote", c, op->change.updates[u].ref);
      }
}

static void
check_chains (Sim *sim, Order *order)
{
  for (guint ref = 0; ref < SIM_REFS; ref++)
    for (guint i = 0; i < order->n[ref]; i++)
      {
        const Place *a = &order->places[ref][i];
        if (a->place == G_MAXUINT)
          continue;
        if (a->op != NULL && a->op->end == OP_FAILED)
          sim_violation (sim, "client %u was told that its write failed, and its value in ref %u was there",
                         a->op->client, ref);
        for (guint k = i + 1; k < order->n[ref]; k++)
          if (order->places[ref][k].place == a->place)
            sim_violation (sim,
                           "two writes replaced the same value of ref %u: %" G_GINT64_MODIFIER
                           "x and %" G_GINT64_MODIFIER "x are both its change %u",
                           ref, a->value, order->places[ref][k].value, a->place);
      }
}

/* -------------------------------------------------------------------------------------- what clients saw */

/* The place that @op saw or made in @ref; FALSE when it says nothing of it. */
static gboolean
place_of_op (Order *order, const SimOp *op, guint ref, guint *ret_place)
{
  if (op->end != OP_OK)
    return FALSE;
  if (op->kind == OP_READ)
    {
      *ret_place = find_value (order, ref, op->refs[ref])->place;
      return TRUE;
    }
  for (guint u = 0; u < op->change.n; u++)
    if (op->change.updates[u].ref == ref)
      {
        *ret_place = find_value (order, ref, op->change.updates[u].new_value)->place;
        return TRUE;
      }
  return FALSE;
}

static void
check_real_time (Sim *sim, Order *order, const SimOp *earlier, const SimOp *later)
{
  for (guint ref = 0; ref < SIM_REFS; ref++)
    {
      guint before, after;
      if (!place_of_op (order, earlier, ref, &before) || !place_of_op (order, later, ref, &after))
        continue;
      if (after < before || (after == before && later->kind == OP_WRITE))
        sim_violation (sim,
                       "ref %u: client %u has %s write %u at %" G_GINT64_FORMAT
                       " us, and client %u, which asked at %" G_GINT64_FORMAT " us, gets write %u",
                       ref, earlier->client, earlier->kind == OP_READ ? "seen" : "made", before, earlier->stop,
                       later->client, later->start, after);
    }
}

static void
check_linearizable (Sim *sim, Order *order)
{
  for (guint a = 0; a < sim->setup.n_clients; a++)
    for (guint i = 0; i < sim->clients[a].n_ops; i++)
      for (guint b = 0; b < sim->setup.n_clients; b++)
        for (guint k = 0; k < sim->clients[b].n_ops && sim->violation == NULL; k++)
          if (sim->clients[a].ops[i].stop < sim->clients[b].ops[k].start && sim->clients[a].ops[i].end == OP_OK)
            check_real_time (sim, order, &sim->clients[a].ops[i], &sim->clients[b].ops[k]);
}

static void
check_atomic (Sim *sim, Order *order, const SimOp *write, const SimOp *read)
{
  gboolean has[SIM_UPDATES_MAX];
  for (guint u = 0; u < write->change.n; u++)
    {
      guint ref = write->change.updates[u].ref;
      const Place *made = find_value (order, ref, write->change.updates[u].new_value);
      if (made->place == G_MAXUINT)
        return; /* it never came about, as far as anybody knows */
      has[u] = find_value (order, ref, read->refs[ref])->place >= made->place;
    }
  if (write->change.n == 2 && has[0] != has[1])
    sim_violation (sim, "client %u reads one half of a write of two refs", read->client);
}

static void
check_all_atomic (Sim *sim, Order *order)
{
  for (guint a = 0; a < sim->setup.n_clients; a++)
    for (guint i = 0; i < sim->clients[a].n_ops; i++)
      for (guint b = 0; b < sim->setup.n_clients; b++)
        for (guint k = 0; k < sim->clients[b].n_ops && sim->violation == NULL; k++)
          if (sim->clients[a].ops[i].change.n == 2 && sim->clients[b].ops[k].kind == OP_READ
              && sim->clients[b].ops[k].end == OP_OK)
            check_atomic (sim, order, &sim->clients[a].ops[i], &sim->clients[b].ops[k]);
}

/* ----------------------------------------------------------------------------------- the store, the disks */

static const SimLogged *
logged_by_key (const SimStore *store, guint64 key, guint *ret_generation)
{
  const SimLogged *found = NULL;
  for (guint g = 1; g <= store->generation; g++)
    if (store->log[g].key == key)
      {
        found = &store->log[g];
        *ret_generation = g;
      }
  return found;
}

/* The log is a serial history, and clients were told what it says. */
static void
check_log (Sim *sim)
{
  guint64 refs[SIM_REFS] = { 0 };
  for (guint g = 1; g <= sim->store.generation; g++)
    for (guint u = 0; u < sim->store.log[g].change.n; u++)
      {
        const SimUpdate *update = &sim->store.log[g].change.updates[u];
        if (refs[update->ref] != update->old_value)
          sim_violation (sim, "generation %u replaces a value of ref %u that was not there", g, update->ref);
        refs[update->ref] = update->new_value;
      }
  for (guint c = 0; c < sim->setup.n_clients; c++)
    for (guint i = 0; i < sim->clients[c].n_ops; i++)
      {
        const SimOp *op = &sim->clients[c].ops[i];
        guint generation = 0;
        const SimLogged *logged = op->kind == OP_WRITE ? logged_by_key (&sim->store, op->key, &generation) : NULL;
        if (op->kind == OP_WRITE && op->end == OP_OK && (logged == NULL || generation != op->generation))
          sim_violation (sim, "client %u was told that its write is generation %u, and it is %u (0: none)", c,
                         op->generation, generation);
        if (op->end == OP_FAILED && logged != NULL)
          sim_violation (sim, "client %u was told that its write failed, and it is generation %u", c, generation);
      }
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if (memcmp (sim->nodes[i].refs, refs, sizeof refs) != 0)
      sim_violation (sim, "all is quiet, and the refs of node %u are not those of the log", i);
}

gboolean
check_settled (Sim *sim, const char **ret_why)
{
  const char *why = NULL;
  if (!clients_done (sim))
    why = "a client waits";
  for (guint i = 0; i < sim->setup.n_nodes && why == NULL; i++)
    {
      if (sim->store.replicas[i] != sim->store.generation)
        why = "a replica is recorded as behind";
      else if (applied_up_to (&sim->nodes[i].applied) != sim->store.generation)
        why = "a replica has not applied everything";
      for (guint k = 0; k < SIM_TXS_MAX && why == NULL; k++)
        if (sim->nodes[i].txs[k].state != TX_FREE)
          why = "a journal is not empty";
    }
  if (ret_why != NULL)
    *ret_why = why;
  return why == NULL;
}

void
check_history (Sim *sim)
{
  Order *order = g_new0 (Order, 1);
  collect_values (sim, order);
  place_known (sim, order);
  if (sim->violation == NULL)
    check_chains (sim, order);
  if (sim->violation == NULL)
    check_linearizable (sim, order);
  if (sim->violation == NULL)
    check_all_atomic (sim, order);
  if (sim->violation == NULL)
    check_log (sim);
  g_free (order);
}
