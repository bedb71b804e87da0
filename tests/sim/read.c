/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A router reading and repairing.
 *
 * A read asks the store how far the repository is, and one replica after another for a state at least as new: that
 * makes the decision the moment from which everybody sees a write, also where a replica has not applied it yet.
 */
#include "router.h"

#define STORE_TIMEOUT (900 * MS)
#define FETCH_TIMEOUT (600 * MS)
#define REPAIR_TIMEOUT (2500 * MS)
#define TRIES 6

/* ------------------------------------------------------------------------------------------- reads */

static void
read_end (Sim *sim, guint router, Read *read, int code, const SimMessage *refs)
{
  SimMessage done = { .type = M_DONE, .code = code };
  if (refs != NULL)
    memcpy (done.refs, refs->refs, sizeof done.refs);
  sim_answer (sim, &read->request, &done);
  (void) router;
  memset (read, 0, sizeof *read);
}

static void
ask_row (Sim *sim, guint router, guint index)
{
  SimMessage ask = { .type = M_ROW, .to = STORE };
  router_ask (sim, router, &ask, STORE_TIMEOUT, CALL_READ_ROW, index, 0);
}

void
read_begin (Sim *sim, guint router, const SimMessage *request)
{
  SimRouter *self = &sim->routers[router];
  for (guint i = 0; i < READS_MAX; i++)
    if (!self->reads[i].used)
      {
        self->reads[i] = (Read){ .used = TRUE, .request = *request };
        ask_row (sim, router, i);
        return;
      }
  router_tell_client (sim, router, request, GS_ERROR_BUSY, 0);
}

void
read_again (Sim *sim, guint router, guint64 read)
{
  ask_row (sim, router, (guint) read);
}

static void
fetch (Sim *sim, guint router, guint index, const SimMessage *row)
{
  Read *read = &sim->routers[router].reads[index];
  guint candidates[SIM_NODES_MAX], n = 0;
  SimMessage ask = { .type = M_FETCH, .generation = row->generation };
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if (row->replicas[i] >= row->generation && (read->tried >> i & 1) == 0)
      candidates[n++] = i;
  if (n == 0)
    {
      read->tried = 0;
      if (++read->tries > TRIES)
        read_end (sim, router, read, GS_ERROR_UNAVAILABLE, NULL);
      else
        sim_timer (sim, actor_router (router), 40 * MS, T_READ_AGAIN, index);
      return;
    }
  n = candidates[sim_between (sim, 0, n - 1)];
  read->tried |= 1u << n;
  ask.to = actor_node (n);
  router_ask (sim, router, &ask, FETCH_TIMEOUT, CALL_READ_FETCH, index, n);
}

void
read_answer (Sim *sim, guint router, const Call *call, const SimMessage *answer)
{
  Read *read = &sim->routers[router].reads[call->owner];
  if (call->kind == CALL_READ_ROW && answer != NULL)
    fetch (sim, router, call->owner, answer);
  else if (call->kind == CALL_READ_FETCH && answer != NULL && answer->code == GS_OK)
    read_end (sim, router, read, GS_OK, answer);
  else if (++read->tries > TRIES)
    read_end (sim, router, read, GS_ERROR_UNAVAILABLE, NULL);
  else
    sim_timer (sim, actor_router (router), 20 * MS, T_READ_AGAIN, call->owner);
}

/* ------------------------------------------------------------------------------------------ repair */

static void
ask_repair_row (Sim *sim, guint router)
{
  SimMessage ask = { .type = M_ROW, .to = STORE };
  router_ask (sim, router, &ask, STORE_TIMEOUT, CALL_REPAIR_ROW, 0, 0);
}

void
repair_soon (Sim *sim, guint router)
{
  SimRouter *self = &sim->routers[router];
  if (self->looking || sim->bug == BUG_FORGET_REPAIR)
    return;
  self->looking = TRUE;
  ask_repair_row (sim, router);
}

/* Every so often, whoever asked for a repair may be gone: what is recorded against what is wanted. */
void
repair_round (Sim *sim, guint router)
{
  repair_soon (sim, router);
  sim_timer (sim, actor_router (router), sim_between (sim, 800 * MS, 1600 * MS), T_REPAIR, 0);
}

static void
repair_behind (Sim *sim, guint router, const SimMessage *row)
{
  guint sources[SIM_NODES_MAX], n = 0;
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if (row->replicas[i] >= row->generation)
      sources[n++] = i;
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if (row->replicas[i] < row->generation)
      {
        SimMessage ask = { .type = M_REPAIR, .to = actor_node (i), .generation = row->generation };
        /* With no source it may still be only recorded as behind. */
        ask.node = n > 0 ? sources[sim_between (sim, 0, n - 1)] : i;
        router_ask (sim, router, &ask, REPAIR_TIMEOUT, CALL_REPAIR, 0, i);
      }
}

void
repair_answer (Sim *sim, guint router, const Call *call, const SimMessage *answer)
{
  if (call->kind == CALL_REPAIR_ROW)
    sim->routers[router].looking = FALSE;
  if (answer == NULL)
    return;
  if (call->kind == CALL_REPAIR_ROW)
    repair_behind (sim, router, answer);
  else if (answer->code == GS_OK)
    {
      SimMessage set = { .type = M_REPLICA_SET,
                         .from = actor_router (router),
                         .to = STORE,
                         .node = answer->node,
                         .generation = answer->generation };
      sim_send (sim, &set);
    }
}
