/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients: read, write what follows from what was read, and send again, with the same key and through another router,
 * what got no answer.
 */
#include "sim.h"

#define ATTEMPTS 6
#define PATIENCE (4 * SECOND)

enum
{
  T_NEXT,
  T_AGAIN,
  T_CLIENT_OVER /* the argument is a call */
};

static void
attempt (Sim *sim, guint client)
{
  SimClient *self = &sim->clients[client];
  SimOp *op = &self->ops[self->n_ops - 1];
  guint router = (guint) sim_between (sim, 0, sim->setup.n_routers - 1);
  SimMessage ask = { .type = op->kind == OP_READ ? M_READ : M_WRITE,
                     .from = actor_client (client),
                     .to = actor_router (router),
                     .key = op->key,
                     .change = op->change };
  op->attempts++;
  self->call = ask.call = sim_call (sim);
  sim_send (sim, &ask);
  sim_timer (sim, actor_client (client), PATIENCE, T_CLIENT_OVER, self->call);
}

static void
begin (Sim *sim, guint client)
{
  SimClient *self = &sim->clients[client];
  SimOp *op;
  if (self->n_ops == sim->setup.n_ops)
    {
      self->idle = TRUE;
      return;
    }
  op = &self->ops[self->n_ops++];
  *op = (SimOp){ .kind = self->knows && sim_chance (sim, 0.65) ? OP_WRITE : OP_READ,
                 .start = sim->now,
                 .client = client };
  if (op->kind == OP_WRITE)
    {
      guint first = (guint) sim_between (sim, 0, SIM_REFS - 1);
      op->change.n = sim_chance (sim, 0.4) ? 2 : 1;
      op->key = ++sim->next_key;
      for (guint i = 0; i < op->change.n; i++)
        {
          guint ref = (first + i) % SIM_REFS;
          op->change.updates[i] = (SimUpdate){ ref, self->refs[ref], ++sim->next_value << 8 };
        }
    }
  for (guint i = 0; i < op->change.n; i++)
    sim_trace (sim, "client %u: write %u wants ref %u: %" G_GINT64_MODIFIER "x -> %" G_GINT64_MODIFIER "x", client,
               self->n_ops, op->change.updates[i].ref, op->change.updates[i].old_value,
               op->change.updates[i].new_value);
  attempt (sim, client);
}

static void
end (Sim *sim, guint client, SimOpEnd how, const SimMessage *answer)
{
  SimClient *self = &sim->clients[client];
  SimOp *op = &self->ops[self->n_ops - 1];
  /* An earlier attempt may still come about: what the last one was told says nothing of it. */
  op->end = how == OP_FAILED && op->ambiguous ? OP_UNKNOWN : how;
  op->stop = sim->now;
  self->call = 0;
  self->knows = op->end == OP_OK;
  if (op->end == OP_OK && op->kind == OP_READ)
    {
      memcpy (op->refs, answer->refs, sizeof op->refs);
      memcpy (self->refs, answer->refs, sizeof self->refs);
    }
  else if (op->end == OP_OK)
    {
      op->generation = answer->generation;
      for (guint i = 0; i < op->change.n; i++)
        self->refs[op->change.updates[i].ref] = op->change.updates[i].new_value;
    }
  sim_trace (sim, "client %u: %s %u %s", client, op->kind == OP_READ ? "read" : "write", self->n_ops,
             op->end == OP_OK       ? "ok"
             : op->end == OP_FAILED ? "failed"
                                    : "unknown");
  sim_timer (sim, actor_client (client), sim_between (sim, 0, 250 * MS), T_NEXT, 0);
}

/* No answer, or one that says: try again. */
static void
once_more (Sim *sim, guint client, gboolean ambiguous)
{
  SimClient *self = &sim->clients[client];
  SimOp *op = &self->ops[self->n_ops - 1];
  self->call = 0;
  op->ambiguous = op->ambiguous || ambiguous;
  if (op->attempts >= ATTEMPTS)
    end (sim, client, OP_FAILED, NULL);
  else
    sim_timer (sim, actor_client (client), sim_between (sim, 10 * MS, 300 * MS), T_AGAIN, 0);
}

void
client_message (Sim *sim, guint client, const SimMessage *message)
{
  SimClient *self = &sim->clients[client];
  if (message->type == M_RESET)
    {
      if (self->call != 0)
        once_more (sim, client, TRUE); /* it may have been another's connection: then it was impatient */
      return;
    }
  if (message->type != M_DONE || message->call != self->call || self->call == 0)
    return;
  if (message->code == GS_OK)
    end (sim, client, OP_OK, message);
  else if (gs_error_retry (message->code) == GS_RETRY_SAME)
    once_more (sim, client, message->code == GS_ERROR_UNKNOWN);
  else
    end (sim, client, OP_FAILED, NULL);
}

void
client_timer (Sim *sim, guint client, guint what, guint64 arg)
{
  SimClient *self = &sim->clients[client];
  if (what == T_NEXT)
    begin (sim, client);
  else if (what == T_AGAIN)
    attempt (sim, client);
  else if (arg == self->call && arg != 0)
    once_more (sim, client, TRUE);
}

void
client_start (Sim *sim, guint client)
{
  sim_timer (sim, actor_client (client), sim_between (sim, 0, 100 * MS), T_NEXT, 0);
}

gboolean
clients_done (const Sim *sim)
{
  for (guint i = 0; i < sim->setup.n_clients; i++)
    if (!sim->clients[i].idle)
      return FALSE;
  return TRUE;
}
