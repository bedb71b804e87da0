/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A router carrying out writes: the actions of the real consistency plugin, as core/router/write.c carries them out.
 * What blocks there is a message and a timer here.
 *
 * A decision that was not taken because the generation moved on is tried again at the new one, without the voters that
 * have fallen behind meanwhile (GS_EVENT_BEHIND). One whose answer got lost is found out by an abort mark.
 */
#include "router.h"

#define STAGE_TIMEOUT (2500 * MS)
#define COMMIT_TIMEOUT (2000 * MS)
#define STORE_TIMEOUT (900 * MS)
#define SICK_FOR (1500 * MS)

static void write_step (Sim *sim, guint router, guint index);

void
router_ask (Sim *sim, guint router, SimMessage *message, gint64 timeout_us, CallKind kind, guint owner, guint part)
{
  SimRouter *self = &sim->routers[router];
  for (guint i = 0; i < CALLS_MAX; i++)
    if (self->calls[i].kind == CALL_FREE)
      {
        message->from = actor_router (router);
        message->call = sim_call (sim);
        self->calls[i] = (Call){ kind, message->call, message->to, owner, part };
        if (kind <= CALL_WRITE_BEFORE_FAILURE)
          self->writes[owner].n_open++;
        sim_send (sim, message);
        sim_timer (sim, actor_router (router), timeout_us, T_CALL_OVER, message->call);
        return;
      }
  sim_violation (sim, "router %u has more than %d calls under way", router, CALLS_MAX);
}

void
router_tell_client (Sim *sim, guint router, const SimMessage *request, int code, guint generation)
{
  SimMessage done = { .type = M_DONE, .code = code, .generation = generation };
  (void) router;
  sim_answer (sim, request, &done);
}

static void
ask_store (Sim *sim, guint router, guint index, SimType type, CallKind kind)
{
  const Write *write = &sim->routers[router].writes[index];
  SimMessage ask = { .type = type, .to = STORE, .txid = write->txid, .key = write->request.key };
  if (type == M_DECIDE)
    {
      ask.change = write->request.change;
      ask.generation = write->generation;
      ask.nodes = write->voters;
    }
  router_ask (sim, router, &ask, STORE_TIMEOUT, kind, index, 0);
}

static void
set_replica (Sim *sim, guint router, guint node, guint generation, gboolean force)
{
  SimMessage set = { .type = M_REPLICA_SET, .from = actor_router (router), .to = STORE, .node = node };
  set.generation = generation;
  set.force = force;
  sim_send (sim, &set);
}

/* ---------------------------------------------------------------------------------- events, actions */

static void
event (Sim *sim, guint router, guint index, guint32 type, guint part, guint64 digest)
{
  Write *write = &sim->routers[router].writes[index];
  guint at = write->n_events;
  if (at == EVENTS_MAX)
    {
      sim_violation (sim, "more than %d events at once", EVENTS_MAX);
      return;
    }
  memset (write->digests[at], 0, sizeof write->digests[at]);
  memcpy (write->digests[at], &digest, sizeof digest);
  write->events[at] = (GsEvent){ sizeof (GsEvent), type, part, write->digests[at] };
  write->n_events++;
  write_step (sim, router, index);
}

static void
node_ask (Sim *sim, guint router, guint index, guint node, SimType type)
{
  const Write *write = &sim->routers[router].writes[index];
  SimMessage ask = { .type = type,
                     .to = actor_node (node),
                     .txid = write->txid,
                     .change = write->request.change,
                     .generation = write->generation };
  if (type == M_STAGE)
    router_ask (sim, router, &ask, STAGE_TIMEOUT, CALL_WRITE_STAGE, index, node);
  else if (type == M_COMMIT)
    router_ask (sim, router, &ask, COMMIT_TIMEOUT, CALL_WRITE_COMMIT, index, node);
  else
    {
      ask.from = actor_router (router);
      sim_send (sim, &ask);
    }
}

/* The promise of every answer that says yes, looked at by who knows all. */
static void
check_copies (Sim *sim, const Write *write)
{
  guint generation = store_decided (&sim->store, write->txid), n = 0;
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    n += node_holds (&sim->nodes[i], write->txid, generation != 0 ? generation : SIM_GENERATIONS_MAX - 1);
  if (generation == 0)
    sim_violation (sim, "transaction %" G_GINT64_MODIFIER "x is acknowledged and not decided", write->txid);
  else if (n < sim->setup.n_needed)
    sim_violation (sim, "generation %u is acknowledged with %u durable copies; %u are promised", generation, n,
                   sim->setup.n_needed);
}

static void
acknowledge (Sim *sim, guint router, Write *write)
{
  sim_trace (sim, "router %u: acknowledges %" G_GINT64_MODIFIER "x", router, write->txid);
  write->acknowledged = TRUE;
  check_copies (sim, write);
  router_tell_client (sim, router, &write->request, GS_OK, write->generation);
}

static void
act (Sim *sim, guint router, guint index, const GsAction *action)
{
  Write *write = &sim->routers[router].writes[index];
  guint node = (guint) action->participant;
  switch (action->type)
    {
    case GS_ACTION_STAGE:
      node_ask (sim, router, index, node, M_STAGE);
      break;
    case GS_ACTION_VOTER:
      write->voters |= 1u << node;
      break;
    case GS_ACTION_DECIDE:
      if (sim->bug == BUG_ACKNOWLEDGE_EARLY)
        {
          write->acknowledged = TRUE;
          router_tell_client (sim, router, &write->request, GS_OK, write->generation + 1);
        }
      ask_store (sim, router, index, M_DECIDE, CALL_WRITE_DECIDE);
      break;
    case GS_ACTION_APPLY:
      node_ask (sim, router, index, node, M_COMMIT);
      break;
    case GS_ACTION_ABORT:
      write->voters &= ~(1u << node);
      node_ask (sim, router, index, node, M_DROP);
      break;
    case GS_ACTION_ACKNOWLEDGE:
      if (!write->acknowledged)
        acknowledge (sim, router, write);
      write->state = WRITE_ENDED;
      break;
    case GS_ACTION_FAIL:
      sim_trace (sim, "router %u: %" G_GINT64_MODIFIER "x fails: %s: %s", router, write->txid,
                 gs_error_name ((int) action->code), action->reason);
      write->blame = write->blame != GS_OK ? write->blame : (int) action->code;
      write->state = WRITE_ENDED;
      if (!write->acknowledged)
        ask_store (sim, router, index, M_BY_CALL, CALL_WRITE_BEFORE_FAILURE);
      break;
    case GS_ACTION_REPAIR:
      if ((write->voters >> node & 1) != 0)
        set_replica (sim, router, node, write->generation - 1, TRUE);
      repair_soon (sim, router);
      break;
    case GS_ACTION_TIMER:
      write->timer = ++sim->routers[router].count;
      sim_timer (sim, actor_router (router), action->delay_us, T_PLUGIN, (guint64) index << 32 | write->timer);
      break;
    default:
      sim_violation (sim, "action %u, which there is not", action->type);
    }
}

static void
collect (GsActions *actions, const GsAction *action)
{
  g_array_append_val ((GArray *) actions->priv, *action);
}

/* Tells the plugin what has happened and does what it says, in this order, until there is nothing more. */
static void
write_step (Sim *sim, guint router, guint index)
{
  Write *write = &sim->routers[router].writes[index];
  g_autoptr (GArray) list = NULL;
  GsActions out;
  if (write->stepping)
    return;
  list = g_array_new (FALSE, FALSE, sizeof (GsAction));
  out = (GsActions){ sizeof out, list, collect };
  write->stepping = TRUE;
  for (guint i = 0; i < write->n_events; i++)
    {
      GsEvent next = write->events[i];
      if (sim->bug == BUG_IGNORE_LOST_VOTE && next.type == GS_EVENT_LOST && write->state == WRITE_RUNNING
          && !write->decided)
        next.type = GS_EVENT_STAGED;
      if (sim->bug == BUG_ANY_VOTE || sim->bug == BUG_IGNORE_LOST_VOTE)
        memset (write->digests[i], 1, sizeof write->digests[i]);
      g_array_set_size (list, 0);
      sim->ops->txn_step (sim->self, write->txn, &next, &out);
      for (guint k = 0; k < list->len; k++)
        act (sim, router, index, &g_array_index (list, GsAction, k));
    }
  write->n_events = 0;
  write->stepping = FALSE;
}

/* ------------------------------------------------------------------------------------------ the way */

static void
write_free (Sim *sim, Write *write)
{
  if (write->txn != NULL)
    sim->ops->txn_free (sim->self, write->txn);
  memset (write, 0, sizeof *write);
}

static void
write_begin (Sim *sim, guint router, const SimMessage *request)
{
  SimRouter *self = &sim->routers[router];
  guint index = 0;
  while (index < WRITES_MAX && self->writes[index].state != WRITE_FREE)
    index++;
  if (index == WRITES_MAX)
    {
      router_tell_client (sim, router, request, GS_ERROR_BUSY, 0);
      return;
    }
  self->writes[index].state = WRITE_LOCATING;
  self->writes[index].request = *request;
  self->writes[index].txid
      = (guint64) (router + 1) << 48 | (guint64) sim->actors[actor_router (router)].incarnation << 32 | ++self->count;
  ask_store (sim, router, index, M_BY_CALL, CALL_WRITE_BY_CALL);
}

static void
write_give_up (Sim *sim, guint router, Write *write, int code)
{
  router_tell_client (sim, router, &write->request, code, 0);
  write->state = WRITE_ENDED;
}

static void
write_setup (Sim *sim, guint router, guint index, const SimMessage *row)
{
  static const char *const names[SIM_NODES_MAX] = { "node-0", "node-1", "node-2", "node-3", "node-4" };
  SimRouter *self = &sim->routers[router];
  Write *write = &self->writes[index];
  const GsParticipant *list[SIM_NODES_MAX];
  GsTxnSetup setup = { sizeof setup, list, sim->setup.n_nodes, sim->setup.min_copies };
  g_autoptr (GError) error = NULL;
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    {
      write->views[i] = (GsParticipant){ sizeof (GsParticipant), names[i], row->replicas[i] >= row->generation,
                                         self->sick_until[i] <= sim->now };
      list[i] = &write->views[i];
    }
  write->generation = row->generation;
  write->txn = sim->ops->txn_new (sim->self, &setup, &error);
  if (write->txn == NULL)
    {
      write_give_up (sim, router, write, gs_error_code (error));
      return;
    }
  write->state = WRITE_RUNNING;
  event (sim, router, index, GS_EVENT_BEGIN, 0, 0);
}

/* The generation moved on: disjoint writes commute, so it is tried at the new one with those that are still current. */
static void
write_refreshed (Sim *sim, guint router, guint index, const SimMessage *row)
{
  Write *write = &sim->routers[router].writes[index];
  guint behind = 0;
  for (guint i = 0; i < sim->setup.n_nodes && sim->bug != BUG_STALE_VOTER; i++)
    if ((write->voters >> i & 1) != 0 && row->replicas[i] < row->generation)
      behind |= 1u << i;
  write->generation = row->generation;
  if (behind == 0)
    {
      ask_store (sim, router, index, M_DECIDE, CALL_WRITE_DECIDE);
      return;
    }
  write->voters = 0; /* the plugin names them anew */
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    if ((behind >> i & 1) != 0)
      event (sim, router, index, GS_EVENT_BEHIND, i, 0);
  event (sim, router, index, GS_EVENT_UNDECIDED, 0, 0);
}

static void
write_decided (Sim *sim, guint router, guint index, guint generation)
{
  Write *write = &sim->routers[router].writes[index];
  write->generation = generation;
  write->decided = TRUE;
  event (sim, router, index, GS_EVENT_DECIDED, 0, 0);
}

static void
on_decide (Sim *sim, guint router, guint index, const SimMessage *answer)
{
  if (answer == NULL && sim->bug == BUG_DROP_UNKNOWN)
    event (sim, router, index, GS_EVENT_REFUSED, 0, 0);
  else if (answer == NULL)
    ask_store (sim, router, index, M_TX_ABORT, CALL_WRITE_FIND_OUT);
  else if (answer->code == GS_OK)
    write_decided (sim, router, index, answer->generation);
  else if (answer->code == GS_ERROR_ABORTED)
    ask_store (sim, router, index, M_ROW, CALL_WRITE_REFRESH);
  else
    event (sim, router, index, GS_EVENT_REFUSED, 0, 0);
}

static void
on_found_out (Sim *sim, guint router, guint index, const SimMessage *answer)
{
  if (answer == NULL)
    sim_timer (sim, actor_router (router), 300 * MS, T_FIND_OUT, index);
  else if (answer->decided)
    write_decided (sim, router, index, answer->generation);
  else
    event (sim, router, index, GS_EVENT_REFUSED, 0, 0);
}

static void
on_node (Sim *sim, guint router, const Call *call, const SimMessage *answer)
{
  SimRouter *self = &sim->routers[router];
  Write *write = &self->writes[call->owner];
  int code = answer != NULL ? answer->code : GS_ERROR_UNAVAILABLE;
  if (answer == NULL)
    self->sick_until[call->part] = sim->now + SICK_FOR;
  if (call->kind == CALL_WRITE_STAGE && write->blame == GS_OK)
    write->blame = code;
  if (call->kind == CALL_WRITE_STAGE && code == GS_OK)
    event (sim, router, call->owner, GS_EVENT_STAGED, call->part, answer->digest);
  else if (call->kind == CALL_WRITE_COMMIT && code == GS_OK)
    event (sim, router, call->owner, GS_EVENT_APPLIED, call->part, 0);
  else
    event (sim, router, call->owner, GS_EVENT_LOST, call->part, 0);
}

/* @answer NULL: it did not come, and whether anything was done is not known. */
static void
write_answer (Sim *sim, guint router, const Call *call, const SimMessage *answer)
{
  guint index = call->owner;
  Write *write = &sim->routers[router].writes[index];
  switch (call->kind)
    {
    case CALL_WRITE_BY_CALL:
      if (answer == NULL)
        write_give_up (sim, router, write, GS_ERROR_UNAVAILABLE);
      else if (answer->decided)
        {
          router_tell_client (sim, router, &write->request, GS_OK, answer->generation);
          write->state = WRITE_ENDED;
        }
      else
        ask_store (sim, router, index, M_ROW, CALL_WRITE_ROW);
      break;
    case CALL_WRITE_ROW:
      if (answer == NULL)
        write_give_up (sim, router, write, GS_ERROR_UNAVAILABLE);
      else
        write_setup (sim, router, index, answer);
      break;
    case CALL_WRITE_DECIDE:
      on_decide (sim, router, index, answer);
      break;
    case CALL_WRITE_REFRESH:
      if (answer == NULL)
        ask_store (sim, router, index, M_TX_ABORT, CALL_WRITE_FIND_OUT);
      else
        write_refreshed (sim, router, index, answer);
      break;
    case CALL_WRITE_FIND_OUT:
      on_found_out (sim, router, index, answer);
      break;
    case CALL_WRITE_BEFORE_FAILURE:
      /* Refused because the same call was decided meanwhile, sent again through another router: its answer is ours. */
      if (answer == NULL)
        router_tell_client (sim, router, &write->request, GS_ERROR_UNKNOWN, 0);
      else
        router_tell_client (sim, router, &write->request, answer->decided ? GS_OK : write->blame, answer->generation);
      break;
    default:
      on_node (sim, router, call, answer);
    }
}

/* ------------------------------------------------------------------------------------------- calls */

static void
dispatch (Sim *sim, guint router, const Call *call, const SimMessage *answer)
{
  SimRouter *self = &sim->routers[router];
  if (call->kind >= CALL_REPAIR_ROW)
    repair_answer (sim, router, call, answer);
  else if (call->kind >= CALL_READ_ROW)
    read_answer (sim, router, call, answer);
  else
    {
      Write *write = &self->writes[call->owner];
      write_answer (sim, router, call, answer);
      write->n_open--;
      if (write->state == WRITE_ENDED && write->n_open == 0)
        write_free (sim, write);
    }
}

static void
answered (Sim *sim, guint router, guint64 id, const SimMessage *answer)
{
  SimRouter *self = &sim->routers[router];
  for (guint i = 0; i < CALLS_MAX; i++)
    if (self->calls[i].kind != CALL_FREE && self->calls[i].id == id)
      {
        Call call = self->calls[i];
        self->calls[i].kind = CALL_FREE;
        dispatch (sim, router, &call, answer);
        return;
      }
}

static void
on_reset (Sim *sim, guint router, guint from)
{
  SimRouter *self = &sim->routers[router];
  guint64 lost[CALLS_MAX];
  guint n = 0;
  for (guint i = 0; i < CALLS_MAX; i++)
    if (self->calls[i].kind != CALL_FREE && self->calls[i].to == from)
      lost[n++] = self->calls[i].id;
  for (guint i = 0; i < n; i++)
    answered (sim, router, lost[i], NULL);
}

void
router_message (Sim *sim, guint router, const SimMessage *message)
{
  switch (message->type)
    {
    case M_WRITE:
      write_begin (sim, router, message);
      break;
    case M_READ:
      read_begin (sim, router, message);
      break;
    case M_RESET:
      on_reset (sim, router, message->from);
      break;
    default:
      answered (sim, router, message->call, message);
    }
}

void
router_timer (Sim *sim, guint router, guint what, guint64 arg)
{
  SimRouter *self = &sim->routers[router];
  Write *write;
  switch (what)
    {
    case T_CALL_OVER:
      answered (sim, router, arg, NULL);
      break;
    case T_PLUGIN:
      write = &self->writes[arg >> 32];
      if (write->txn != NULL && write->timer == (guint32) arg)
        event (sim, router, (guint) (arg >> 32), GS_EVENT_TIMER, 0, 0);
      break;
    case T_FIND_OUT:
      ask_store (sim, router, (guint) arg, M_TX_ABORT, CALL_WRITE_FIND_OUT);
      break;
    case T_READ_AGAIN:
      read_again (sim, router, arg);
      break;
    default: /* T_REPAIR */
      repair_round (sim, router);
    }
}

/* --------------------------------------------------------------------------------------------- life */

void
routers_init (Sim *sim)
{
  sim->routers = g_new0 (SimRouter, SIM_ROUTERS_MAX);
}

void
router_crash (Sim *sim, guint router)
{
  SimRouter *self = &sim->routers[router];
  guint count = self->count;
  for (guint i = 0; i < WRITES_MAX; i++)
    write_free (sim, &self->writes[i]);
  memset (self, 0, sizeof *self);
  self->count = count;
}

void
router_start (Sim *sim, guint router)
{
  sim_timer (sim, actor_router (router), sim_between (sim, 200 * MS, 1200 * MS), T_REPAIR, 0);
}

void
routers_free (Sim *sim)
{
  for (guint i = 0; i < SIM_ROUTERS_MAX; i++)
    router_crash (sim, i);
  g_free (sim->routers);
}
