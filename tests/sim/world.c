/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual time, the network, and what goes wrong in it: all from one seed. */
#include "sim.h"

#include <stdlib.h>

struct SimEvent
{
  gint64 at;
  guint64 seq;
  enum
  {
    EVENT_MESSAGE,
    EVENT_TIMER,
    EVENT_CRASH,
    EVENT_START,
    EVENT_FAULT
  } kind;
  guint actor, incarnation, what;
  guint64 arg;
  SimMessage message; /* last: of other kinds it is not set */
};

const char *const sim_bug_names[N_BUGS] = { "none",        "skip-cas",         "acknowledge-early",   "forget-fencing",
                                            "apply-twice", "ignore-lost-vote", "forget-abort-mark",   "any-vote",
                                            "stale-voter", "stale-read",       "settle-without-vote", "drop-unknown",
                                            "no-locks",    "torn-apply",       "forget-repair" };

/* -------------------------------------------------------------------------------------------- dice */

/* splitmix64 */
guint64
sim_random (Sim *sim)
{
  guint64 z = sim->dice += G_GUINT64_CONSTANT (0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * G_GUINT64_CONSTANT (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * G_GUINT64_CONSTANT (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

gint64
sim_between (Sim *sim, gint64 low, gint64 high)
{
  return low + (gint64) (sim_random (sim) % (guint64) (high - low + 1));
}

gboolean
sim_chance (Sim *sim, double probability)
{
  return (double) (sim_random (sim) >> 11) < probability * 9007199254740992.0;
}

void
sim_violation (Sim *sim, const char *format, ...)
{
  va_list args;
  if (sim->violation != NULL)
    return;
  va_start (args, format);
  sim->violation = g_strdup_vprintf (format, args);
  va_end (args);
  sim_trace (sim, "VIOLATION: %s", sim->violation);
}

void
sim_trace (Sim *sim, const char *format, ...)
{
  va_list args;
  if (sim->trace == NULL)
    return;
  g_string_append_printf (sim->trace, "%9.3f ms  ", (double) sim->now / 1000);
  va_start (args, format);
  g_string_append_vprintf (sim->trace, format, args);
  va_end (args);
  g_string_append_c (sim->trace, '\n');
}

/* ------------------------------------------------------------------------------------------ the heap */

static gboolean
sooner (const SimEvent *a, const SimEvent *b)
{
  return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void
heap_push (Sim *sim, SimEvent *event)
{
  guint at;
  if (sim->n_heap == sim->heap_size)
    {
      sim->heap_size = MAX (2 * sim->heap_size, 256);
      sim->heap = g_renew (SimEvent *, sim->heap, sim->heap_size);
    }
  at = sim->n_heap++;
  for (; at > 0 && sooner (event, sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
    sim->heap[at] = sim->heap[(at - 1) / 2];
  sim->heap[at] = event;
}

static SimEvent *
heap_pop (Sim *sim)
{
  SimEvent *first = sim->heap[0], *last = sim->heap[--sim->n_heap];
  guint at = 0;
  for (guint child = 1; child < sim->n_heap; child = 2 * at + 1)
    {
      if (child + 1 < sim->n_heap && sooner (sim->heap[child + 1], sim->heap[child]))
        child++;
      if (!sooner (sim->heap[child], last))
        break;
      sim->heap[at] = sim->heap[child];
      at = child;
    }
  if (sim->n_heap > 0)
    sim->heap[at] = last;
  return first;
}

static SimEvent *
event_new (Sim *sim, gint64 at, int kind, guint actor)
{
  SimEvent *event
      = sim->spare->len > 0 ? g_ptr_array_steal_index_fast (sim->spare, sim->spare->len - 1) : g_new (SimEvent, 1);
  memset (event, 0, G_STRUCT_OFFSET (SimEvent, message));
  event->at = at;
  event->seq = ++sim->next_seq;
  event->kind = kind;
  event->actor = actor;
  event->incarnation = sim->actors[actor].incarnation;
  return event;
}

void
sim_timer (Sim *sim, guint actor, gint64 delay_us, guint what, guint64 arg)
{
  SimEvent *event = event_new (sim, sim->now + delay_us, EVENT_TIMER, actor);
  event->what = what;
  event->arg = arg;
  heap_push (sim, event);
}

guint64
sim_call (Sim *sim)
{
  return ++sim->next_call;
}

/* ----------------------------------------------------------------------------------------- network */

static void
deliver_at (Sim *sim, gint64 at, const SimMessage *message)
{
  SimEvent *event = event_new (sim, at, EVENT_MESSAGE, message->to);
  event->message = *message;
  heap_push (sim, event);
}

static gint64
travel (Sim *sim)
{
  gint64 delay = sim_between (sim, MS / 10, MS);
  if (sim->setup.slow_spikes && sim_chance (sim, 0.03))
    delay += sim_between (sim, 5 * MS, 600 * MS);
  return delay;
}

/*
 * What a client sends again is a call of its own; what the network repeats is one that nobody knows of. A decision is
 * one transaction of a database: it may be late and its answer lost, but once answered it is over.
 */
static gboolean
can_be_repeated (const SimMessage *message)
{
  return message->type != M_WRITE && message->type != M_READ && message->type != M_RESET && message->type != M_DECIDE;
}

static gboolean
gets_lost (Sim *sim, const SimMessage *message)
{
  gboolean answer = message->type == M_DECIDE_IS || message->type == M_TX_IS || message->type == M_DONE;
  return sim->now < sim->setup.heal_at && sim->setup.lost_answers && sim_chance (sim, answer ? 0.05 : 0.008);
}

void
sim_send (Sim *sim, const SimMessage *message)
{
  gint64 cut = sim->cut_until[message->from][message->to], at = MAX (sim->now, cut) + travel (sim);
  if ((cut > sim->now && sim_chance (sim, 0.6)) || gets_lost (sim, message))
    {
      sim_trace (sim, "network: a message of type %d from %u to %u is lost", message->type, message->from, message->to);
      return;
    }
  deliver_at (sim, at, message);
  if (sim->setup.repeats && can_be_repeated (message) && sim_chance (sim, 0.04))
    deliver_at (sim, at + sim_between (sim, 0, 1500 * MS), message);
}

void
sim_answer (Sim *sim, const SimMessage *question, SimMessage *answer)
{
  answer->from = question->to;
  answer->to = question->from;
  answer->call = question->call;
  answer->txid = question->txid;
  sim_send (sim, answer);
}

/* ------------------------------------------------------------------------------------------- actors */

static gboolean
is_node (guint actor)
{
  return actor >= 1 && actor < 1 + SIM_NODES_MAX;
}

static gboolean
is_router (guint actor)
{
  return actor > SIM_NODES_MAX && actor < 1 + SIM_NODES_MAX + SIM_ROUTERS_MAX;
}

static void
receive (Sim *sim, const SimMessage *message)
{
  guint to = message->to;
  if (to == STORE)
    store_message (sim, message);
  else if (is_node (to))
    node_message (sim, to - 1, message);
  else if (is_router (to))
    router_message (sim, to - 1 - SIM_NODES_MAX, message);
  else
    client_message (sim, to - actor_client (0), message);
}

static void
fire (Sim *sim, const SimEvent *event)
{
  guint actor = event->actor;
  if (is_node (actor))
    node_timer (sim, actor - 1, event->what, event->arg);
  else if (is_router (actor))
    router_timer (sim, actor - 1 - SIM_NODES_MAX, event->what, event->arg);
  else
    client_timer (sim, actor - actor_client (0), event->what, event->arg);
}

static void
tell_reset (Sim *sim, guint from)
{
  SimMessage reset = { .type = M_RESET, .from = from };
  for (guint actor = 1; actor < SIM_ACTORS; actor++)
    if (sim->actors[actor].up && actor != from && sim_chance (sim, 0.7)
        && (is_node (from) ? is_router (actor) : actor >= actor_client (0)))
      {
        reset.to = actor;
        deliver_at (sim, sim->now + sim_between (sim, MS / 10, 3 * MS), &reset);
      }
}

static void
crash (Sim *sim, guint actor)
{
  if (!sim->actors[actor].up)
    return;
  sim_trace (sim, "%s %u crashes", is_node (actor) ? "node" : "router",
             is_node (actor) ? actor - 1 : actor - 1 - SIM_NODES_MAX);
  sim->actors[actor].up = FALSE;
  sim->actors[actor].incarnation++;
  sim->actors[actor].paused_until = 0;
  if (is_node (actor))
    node_crash (sim, actor - 1);
  else
    router_crash (sim, actor - 1 - SIM_NODES_MAX);
  tell_reset (sim, actor);
}

static void
start (Sim *sim, guint actor)
{
  if (sim->actors[actor].up)
    return;
  sim->actors[actor].up = TRUE;
  if (is_node (actor))
    node_start (sim, actor - 1);
  else if (is_router (actor))
    router_start (sim, actor - 1 - SIM_NODES_MAX);
  else if (actor != STORE)
    client_start (sim, actor - actor_client (0));
}

/* ------------------------------------------------------------------------------------------- faults */

static void
plan_crash (Sim *sim, guint actor)
{
  gint64 at = sim_between (sim, 100 * MS, sim->setup.heal_at);
  heap_push (sim, event_new (sim, at, EVENT_CRASH, actor));
  heap_push (sim, event_new (sim, at + sim_between (sim, 20 * MS, 2500 * MS), EVENT_START, actor));
}

static guint
any_server (Sim *sim)
{
  guint i = (guint) sim_between (sim, 0, sim->setup.n_nodes + sim->setup.n_routers - 1);
  return i < sim->setup.n_nodes ? actor_node (i) : actor_router (i - sim->setup.n_nodes);
}

static guint
any_server_or_store (Sim *sim)
{
  return sim_chance (sim, 0.3) ? STORE : any_server (sim);
}

/* A pause is told by an event of its own, so that it begins at its time: what for says how long it takes. */
static void
plan_faults (Sim *sim)
{
  gint64 until = sim->setup.heal_at;
  for (gint64 n = sim->setup.crashes ? sim_between (sim, 1, 6) : 0; n > 0; n--)
    plan_crash (sim, any_server (sim));
  for (gint64 n = sim->setup.pauses ? sim_between (sim, 1, 4) : 0; n > 0; n--)
    {
      SimEvent *event = event_new (sim, sim_between (sim, 0, until), EVENT_FAULT, any_server (sim));
      event->what = 1;
      event->arg = (guint64) sim_between (sim, 50 * MS, 5000 * MS);
      heap_push (sim, event);
    }
  for (gint64 n = sim->setup.partitions ? sim_between (sim, 1, 6) : 0; n > 0; n--)
    {
      SimEvent *event = event_new (sim, sim_between (sim, 0, until), EVENT_FAULT, any_server_or_store (sim));
      event->what = 2 + any_server (sim) * 2 + sim_chance (sim, 0.3); /* one way, or both */
      event->arg = (guint64) sim_between (sim, 20 * MS, 3000 * MS);
      heap_push (sim, event);
    }
  heap_push (sim, event_new (sim, until, EVENT_FAULT, STORE));
}

static void
heal (Sim *sim)
{
  sim_trace (sim, "all is healed");
  memset (sim->cut_until, 0, sizeof sim->cut_until);
  for (guint actor = 0; actor < SIM_ACTORS; actor++)
    sim->actors[actor].paused_until = MIN (sim->actors[actor].paused_until, sim->now);
}

static void
on_fault (Sim *sim, const SimEvent *event)
{
  gint64 until = MIN (sim->now + (gint64) event->arg, sim->setup.heal_at);
  if (event->what == 0)
    heal (sim);
  else if (event->what == 1 && sim->actors[event->actor].up)
    {
      sim_trace (sim, "actor %u hangs until %.3f ms", event->actor, (double) until / 1000);
      sim->actors[event->actor].paused_until = until;
    }
  else if (event->what >= 2)
    {
      guint other = (event->what - 2) / 2;
      sim_trace (sim, "network: %u and %u are cut off until %.3f ms", event->actor, other, (double) until / 1000);
      sim->cut_until[event->actor][other] = until;
      if ((event->what & 1) == 0)
        sim->cut_until[other][event->actor] = until;
    }
}

/* ---------------------------------------------------------------------------------------------- life */

static void
draw_setup (Sim *sim, const SimPlugin *plugins)
{
  SimSetup *setup = &sim->setup;
  gint64 kind = sim_between (sim, 0, 9);
  const SimPlugin *plugin = &plugins[kind < 1 ? SIM_DIRECT : kind < 3 ? SIM_PRIMARY : SIM_QUORUM];
  setup->consistency = plugin->name;
  sim->ops = plugin->ops;
  sim->self = plugin->self;
  setup->n_nodes = sim_chance (sim, 0.6) ? 3 : (guint) sim_between (sim, 1, SIM_NODES_MAX);
  setup->n_routers = (guint) sim_between (sim, 1, SIM_ROUTERS_MAX);
  setup->n_clients = (guint) sim_between (sim, 2, SIM_CLIENTS_MAX);
  setup->n_ops = (guint) sim_between (sim, 8, SIM_OPS_MAX);
  setup->min_copies = plugin == &plugins[SIM_DIRECT] || sim_chance (sim, 0.7)
                          ? 1
                          : (guint) sim_between (sim, 1, MIN (setup->n_nodes, 2));
  setup->n_needed
      = plugin == &plugins[SIM_QUORUM] ? MAX (setup->n_nodes / 2 + 1, setup->min_copies) : setup->min_copies;
  setup->crashes = sim_chance (sim, 0.6);
  setup->pauses = sim_chance (sim, 0.4);
  setup->partitions = sim_chance (sim, 0.5);
  setup->repeats = sim_chance (sim, 0.6);
  setup->slow_spikes = sim_chance (sim, 0.6);
  setup->lost_answers = sim_chance (sim, 0.5);
  setup->bad_votes = plugin == &plugins[SIM_QUORUM] && setup->n_nodes > 1 && sim_chance (sim, 0.2);
  setup->heal_at = sim_between (sim, 2, 6) * SECOND;
  setup->end_at = setup->heal_at + 120 * SECOND;
}

Sim *
sim_new (const SimPlugin *plugins, guint64 seed, SimBug bug, gboolean traced)
{
  Sim *sim = g_new0 (Sim, 1);
  sim->seed = sim->dice = seed;
  sim->bug = bug;
  sim->trace = traced ? g_string_new (NULL) : NULL;
  sim->spare = g_ptr_array_new_with_free_func (g_free);
  sim->store.aborted = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL);
  draw_setup (sim, plugins);
  sim_trace (sim, "seed %" G_GUINT64_FORMAT ": %s, %u nodes, %u routers, %u clients, min_copies %u", seed,
             sim->setup.consistency, sim->setup.n_nodes, sim->setup.n_routers, sim->setup.n_clients,
             sim->setup.min_copies);
  routers_init (sim);
  return sim;
}

void
sim_free (Sim *sim)
{
  for (guint i = 0; i < sim->n_heap; i++)
    g_free (sim->heap[i]);
  g_free (sim->heap);
  g_ptr_array_free (sim->spare, TRUE);
  g_hash_table_destroy (sim->store.aborted);
  routers_free (sim);
  if (sim->trace != NULL)
    g_string_free (sim->trace, TRUE);
  g_free (sim->violation);
  g_free (sim);
}

static void
take (Sim *sim, SimEvent *event)
{
  SimActor *actor = &sim->actors[event->actor];
  sim->n_events++;
  switch (event->kind)
    {
    case EVENT_CRASH:
      crash (sim, event->actor);
      break;
    case EVENT_START:
      start (sim, event->actor);
      break;
    case EVENT_MESSAGE:
      if (actor->up)
        receive (sim, &event->message);
      break;
    case EVENT_TIMER:
      if (actor->up && event->incarnation == actor->incarnation)
        fire (sim, event);
      break;
    default: /* EVENT_FAULT */
      on_fault (sim, event);
    }
}

/* Until everything is quiet and has been for a while: what is still in the network must not change that. */
gboolean
sim_run (Sim *sim)
{
  gint64 look_at = sim->setup.heal_at + SECOND, settled_since = -1;
  const char *why = NULL;
  start (sim, STORE);
  for (guint i = 0; i < sim->setup.n_nodes; i++)
    start (sim, actor_node (i));
  for (guint i = 0; i < sim->setup.n_routers; i++)
    start (sim, actor_router (i));
  for (guint i = 0; i < sim->setup.n_clients; i++)
    start (sim, actor_client (i));
  plan_faults (sim);
  while (sim->n_heap > 0 && sim->violation == NULL)
    {
      SimEvent *event = heap_pop (sim);
      gint64 paused = sim->actors[event->actor].paused_until;
      if (paused > event->at && (event->kind == EVENT_MESSAGE || event->kind == EVENT_TIMER))
        {
          event->at = paused;
          heap_push (sim, event);
          continue;
        }
      sim->now = MAX (sim->now, event->at);
      take (sim, event);
      g_ptr_array_add (sim->spare, event);
      if (sim->now < look_at)
        continue;
      look_at = sim->now + SECOND / 4;
      if (!check_settled (sim, &why))
        settled_since = -1;
      else if (settled_since < 0)
        settled_since = sim->now;
      else if (sim->now - settled_since > 4 * SECOND)
        break;
      if (sim->now > sim->setup.end_at)
        sim_violation (sim, "two minutes after all was healed, %s", why != NULL ? why : "it comes and goes");
    }
  if (sim->violation == NULL)
    check_history (sim);
  return sim->violation == NULL;
}
