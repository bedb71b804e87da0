/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contract cases of kind CONSISTENCY. The plugin is a step function, so the suite plays everything around it: seeded
 * histories in which several participants stage, differ, hang, get lost before and after, answer late and twice, and
 * the metadata store decides or refuses, in any order. A failure prints the seed of its history.
 */
#include "engine.h"

#define PARTS_MAX 7
#define ACTIONS_MAX 128
#define EVENTS_MAX 256
#define HISTORIES 5000

typedef enum
{
  PART_IDLE,
  PART_STAGING, /* asked to stage; the event is on its way */
  PART_STAGED,
  PART_LOST
} PartState;

/* What the plugin was told and what it did about one participant. */
typedef struct
{
  GsParticipant view;
  char name[8];
  PartState state;
  guint8 digest[32];
  gboolean voter, told_apply, told_abort, told_repair, applied;
  gboolean behind; /* it was current when the write began, and is not any more */
  gboolean holds;  /* it staged, and keeps its locks until it is told its fate */
} Part;

/* When an event comes. */
typedef enum
{
  WHEN_ANY,
  WHEN_LAST, /* after all others: it stands for a call whose time was up */
  WHEN_AGAIN /* any time, and it came before */
} When;

typedef struct
{
  guint32 type;
  gsize participant;
  When when;
} Coming;

typedef struct
{
  Conformance *c;
  GRand *dice;
  Part parts[PARTS_MAX];
  gsize n_parts;
  gsize min_copies;
  Coming coming[EVENTS_MAX];
  gsize n_coming;
  gsize n_voters;
  guint n_decides, n_acks, n_fails, n_actions;
  gboolean asked;                    /* for the decision, and there is no answer yet */
  gboolean decided, refused, smooth; /* smooth: nothing goes wrong */
  gboolean again;                    /* the event under way came before */
  guint32 fail_code;
  GString *trace;
  const char *broken; /* the first promise that was broken … */
  char *how;          /* … and how */
} World;

static void G_GNUC_PRINTF (3, 4) broken (World *world, const char *promise, const char *format, ...)
{
  va_list args;
  if (world->broken != NULL)
    return;
  world->broken = promise;
  va_start (args, format);
  world->how = g_strdup_vprintf (format, args);
  va_end (args);
}

static void
coming_when (World *world, guint32 type, gsize participant, When when)
{
  if (world->n_coming < EVENTS_MAX)
    world->coming[world->n_coming++] = (Coming){ type, participant, when };
}

static void
coming (World *world, guint32 type, gsize participant)
{
  coming_when (world, type, participant, WHEN_ANY);
}

static gboolean
chance (World *world, double probability)
{
  return !world->smooth && g_rand_double (world->dice) < probability;
}

/* The answer of a participant: @good, or it is lost, at once or after it hung for as long as a call may take. */
static void
coming_answer (World *world, guint32 good, gsize participant)
{
  if (chance (world, 0.12))
    coming_when (world, GS_EVENT_LOST, participant, WHEN_LAST);
  else
    coming (world, chance (world, 0.15) ? GS_EVENT_LOST : good, participant);
}

static void
replace_timer (World *world)
{
  for (gsize i = 0; i < world->n_coming; i++)
    if (world->coming[i].type == GS_EVENT_TIMER)
      world->coming[i--] = world->coming[--world->n_coming];
  coming (world, GS_EVENT_TIMER, 0);
}

/* ------------------------------------------------------------------------------- carrying actions out */

static void
on_decide (World *world)
{
  const Part *first = NULL;
  if (world->asked || world->decided || world->refused)
    broken (world, "K1", "DECIDE was asked for twice");
  world->n_decides++;
  world->asked = TRUE;
  if (world->n_fails > 0 || world->n_acks > 0)
    broken (world, "K2", "DECIDE after the end");
  if (world->n_voters == 0)
    broken (world, "K1", "DECIDE without a voter");
  for (gsize i = 0; i < world->n_parts; i++)
    {
      const Part *part = &world->parts[i];
      if (!part->voter)
        continue;
      if (part->state != PART_STAGED)
        broken (world, "K1", "DECIDE names %s, which has not voted or is lost", part->name);
      if (part->behind)
        broken (world, "K7", "DECIDE names %s, which has fallen behind", part->name);
      if (first == NULL)
        first = part;
      else if (memcmp (first->digest, part->digest, sizeof part->digest) != 0)
        broken (world, "K1", "DECIDE names %s and %s, whose votes differ", first->name, part->name);
    }
  coming (world,
          chance (world, 0.15)   ? GS_EVENT_REFUSED
          : chance (world, 0.15) ? GS_EVENT_UNDECIDED
                                 : GS_EVENT_DECIDED,
          0);
}

static void
on_end (World *world, const GsAction *action)
{
  if (world->n_acks + world->n_fails > 0)
    broken (world, "K3", "a second end");
  if (action->type == GS_ACTION_ACKNOWLEDGE)
    {
      world->n_acks++;
      if (!world->decided)
        broken (world, "K2", "ACKNOWLEDGE before DECIDED");
      if (world->n_voters < world->min_copies)
        broken (world, "K6", "acknowledged with %" G_GSIZE_FORMAT " durable copies of %" G_GSIZE_FORMAT,
                world->n_voters, world->min_copies);
      return;
    }
  world->n_fails++;
  world->fail_code = action->code;
  if (world->asked || world->decided)
    broken (world, "K2", "FAIL although the decision was asked for and not refused");
  if (action->code == GS_OK || action->reason == NULL || action->reason[0] == '\0')
    broken (world, "K3", "FAIL without a code or a reason");
}

static void
on_part_action (World *world, const GsAction *action)
{
  Part *part = &world->parts[action->participant];
  switch (action->type)
    {
    case GS_ACTION_STAGE:
      if (part->state != PART_IDLE)
        broken (world, "K3", "STAGE of %s twice", part->name);
      if (!part->view.current)
        broken (world, "K7", "STAGE of %s, which is behind", part->name);
      part->state = PART_STAGING;
      coming_answer (world, GS_EVENT_STAGED, action->participant);
      break;
    case GS_ACTION_VOTER:
      if (world->asked || world->decided || world->refused)
        broken (world, "K1", "VOTER after DECIDE");
      world->n_voters += !part->voter;
      part->voter = TRUE;
      break;
    case GS_ACTION_APPLY:
      if (!world->decided || !part->voter)
        broken (world, "K4", "APPLY on %s without a decision for it", part->name);
      if (part->told_apply || part->told_abort)
        broken (world, "K4", "APPLY on %s, which was told its fate before", part->name);
      part->told_apply = TRUE;
      if (part->state != PART_LOST)
        coming_answer (world, GS_EVENT_APPLIED, action->participant);
      break;
    case GS_ACTION_ABORT:
      if (world->decided && part->voter)
        broken (world, "K4", "ABORT on %s after its vote was decided", part->name);
      if (world->asked && part->voter)
        broken (world, "K4", "ABORT on %s while the decision that names it is under way", part->name);
      part->told_abort = TRUE;
      part->holds = FALSE;
      break;
    default: /* REPAIR */
      if (world->n_acks == 0)
        broken (world, "K5", "REPAIR of %s before ACKNOWLEDGE", part->name);
      part->told_repair = TRUE;
    }
}

static void
add_action (GsActions *actions, const GsAction *action)
{
  World *world = actions->priv;
  g_string_append_printf (world->trace, " a%u.%" G_GSIZE_FORMAT, action->type, action->participant);
  if (world->again && action->type != GS_ACTION_ABORT)
    broken (world, "K8", "action %u for an event that came before", action->type);
  if (++world->n_actions > ACTIONS_MAX)
    {
      broken (world, "K3", "more than %d actions", ACTIONS_MAX);
      return;
    }
  switch (action->type)
    {
    case GS_ACTION_DECIDE:
      on_decide (world);
      break;
    case GS_ACTION_ACKNOWLEDGE:
    case GS_ACTION_FAIL:
      on_end (world, action);
      break;
    case GS_ACTION_TIMER:
      if (action->delay_us < 0)
        broken (world, "K3", "TIMER of less than no time");
      replace_timer (world);
      break;
    case GS_ACTION_STAGE:
    case GS_ACTION_VOTER:
    case GS_ACTION_APPLY:
    case GS_ACTION_ABORT:
    case GS_ACTION_REPAIR:
      if (action->participant >= world->n_parts)
        broken (world, "K3", "action %u on participant %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT, action->type,
                action->participant, world->n_parts);
      else
        on_part_action (world, action);
      break;
    default:
      broken (world, "K3", "action %u, which there is not", action->type);
    }
}

/* ------------------------------------------------------------------------------------ feeding events */

/* Notes what the event means for its participant and for those after it. FALSE: it does not come after all. */
static gboolean
note_event (World *world, const Coming *next)
{
  Part *part = &world->parts[next->participant];
  switch (next->type)
    {
    case GS_EVENT_STAGED:
      memset (part->digest, chance (world, 0.15) ? 2 : 1, sizeof part->digest);
      part->holds = TRUE;
      if (part->state == PART_LOST)
        return TRUE; /* its answer came after it was taken for lost */
      part->state = PART_STAGED;
      if (chance (world, 0.1))
        coming (world, GS_EVENT_LOST, next->participant); /* at any time from now on */
      return TRUE;
    case GS_EVENT_LOST:
      if (part->state == PART_LOST || part->applied)
        return FALSE; /* a participant is lost once, and before it applied */
      if (part->state == PART_STAGING && chance (world, 0.3))
        coming (world, GS_EVENT_STAGED, next->participant);
      part->state = PART_LOST;
      return TRUE;
    case GS_EVENT_APPLIED:
      part->applied = part->state != PART_LOST;
      return part->applied;
    case GS_EVENT_DECIDED:
      world->decided = TRUE;
      world->asked = FALSE;
      return TRUE;
    case GS_EVENT_REFUSED:
      world->refused = TRUE;
      world->asked = FALSE;
      return TRUE;
    default:
      return TRUE;
    }
}

/* K5, at the moment that the client may hear of it. */
static void
check_acknowledged (World *world)
{
  for (gsize i = 0; i < world->n_parts; i++)
    {
      const Part *part = &world->parts[i];
      if (!(part->voter && part->applied) && !part->told_repair)
        broken (world, "K5", "acknowledged, and %s, which has it not, got no REPAIR", part->name);
    }
}

/* Some of the voters have fallen behind, at least one: the decision was not taken. */
static void
feed_behind (World *world, gpointer txn, GsActions *out)
{
  const GsConsistencyOps *ops = world->c->ops;
  gsize chosen = (gsize) g_rand_int_range (world->dice, 0, (gint32) world->n_voters);
  world->asked = FALSE;
  world->n_voters = 0;
  for (gsize i = 0; i < world->n_parts; i++)
    {
      Part *part = &world->parts[i];
      GsEvent event = { sizeof event, GS_EVENT_BEHIND, i, NULL };
      if (!part->voter)
        continue;
      part->voter = FALSE;
      part->behind = chosen-- == 0 || chance (world, 0.2);
      if (!part->behind)
        continue;
      g_string_append_printf (world->trace, " | e%u.%" G_GSIZE_FORMAT, event.type, i);
      ops->txn_step (world->c->self, txn, &event, out);
    }
}

/* Takes the event at @index off the list, notes what it means, and hands it over. */
static void
feed (World *world, gpointer txn, gsize index)
{
  const GsConsistencyOps *ops = world->c->ops;
  GsActions out = { sizeof out, world, add_action };
  Coming next = world->coming[index];
  GsEvent event = { sizeof event, next.type, next.participant, NULL };
  guint n_acks = world->n_acks;
  world->coming[index] = world->coming[--world->n_coming];
  world->again = next.when == WHEN_AGAIN;
  if (!world->again && !note_event (world, &next))
    return;
  if (next.type == GS_EVENT_UNDECIDED)
    feed_behind (world, txn, &out);
  else if (!world->again && next.type != GS_EVENT_TIMER && chance (world, 0.1))
    coming_when (world, next.type, next.participant, WHEN_AGAIN);
  if (next.type == GS_EVENT_STAGED)
    event.digest = world->parts[next.participant].digest;
  g_string_append_printf (world->trace, " | %se%u.%" G_GSIZE_FORMAT, world->again ? "again " : "", next.type,
                          next.participant);
  ops->txn_step (world->c->self, txn, &event, &out);
  world->again = FALSE;
  if (world->n_acks > n_acks)
    check_acknowledged (world);
}

/* Any event that is on its way, a call whose time is up only when there is nothing else. */
static gsize
draw (World *world)
{
  gsize n = 0, chosen;
  for (gsize i = 0; i < world->n_coming; i++)
    n += world->coming[i].when != WHEN_LAST;
  if (n == 0)
    return (gsize) g_rand_int_range (world->dice, 0, (gint32) world->n_coming);
  chosen = (gsize) g_rand_int_range (world->dice, 0, (gint32) n);
  for (gsize i = 0;; i++)
    if (world->coming[i].when != WHEN_LAST && chosen-- == 0)
      return i;
}

static void
check_end (World *world)
{
  if (world->n_acks + world->n_fails != 1)
    broken (world, "K3", "no end, though every event came");
  for (gsize i = 0; i < world->n_parts; i++)
    {
      const Part *part = &world->parts[i];
      if (part->holds && world->n_fails > 0)
        broken (world, "K4", "it failed, and %s, which has staged, got no ABORT", part->name);
      if (part->holds && !part->voter)
        broken (world, "K4", "%s staged, was not named in the decision, and got no ABORT", part->name);
      if (world->decided && part->voter && !part->told_apply)
        broken (world, "K4", "it was decided, and the voter %s got no APPLY", part->name);
    }
}

static void
world_init (World *world, Conformance *c, guint32 seed, gboolean smooth)
{
  memset (world, 0, sizeof *world);
  world->c = c;
  world->dice = g_rand_new_with_seed (seed);
  world->smooth = smooth;
  world->trace = g_string_new (NULL);
  world->n_parts = smooth ? 1 + seed % PARTS_MAX : (gsize) g_rand_int_range (world->dice, 1, PARTS_MAX + 1);
  world->min_copies
      = smooth || chance (world, 0.7) ? 1 : (gsize) g_rand_int_range (world->dice, 1, (gint32) world->n_parts + 2);
  for (gsize i = 0; i < world->n_parts; i++)
    {
      Part *part = &world->parts[i];
      g_snprintf (part->name, sizeof part->name, "node-%c", (char) ('a' + i));
      part->view = (GsParticipant){ sizeof part->view, part->name, !chance (world, 0.15), !chance (world, 0.15) };
    }
}

static void
world_clear (World *world)
{
  g_rand_free (world->dice);
  g_string_free (world->trace, TRUE);
  g_free (world->how);
}

/* One write from BEGIN until no event is left. FALSE when the plugin would not begin. */
static gboolean
play (World *world)
{
  const GsConsistencyOps *ops = world->c->ops;
  const GsParticipant *views[PARTS_MAX];
  GsTxnSetup setup = { sizeof setup, views, world->n_parts, world->min_copies };
  g_autoptr (GError) error = NULL;
  gpointer txn;
  for (gsize i = 0; i < world->n_parts; i++)
    views[i] = &world->parts[i].view;
  txn = ops->txn_new (world->c->self, &setup, &error);
  if (txn == NULL)
    {
      if (error == NULL)
        broken (world, "K3", "txn_new failed without an error");
      return FALSE;
    }
  coming (world, GS_EVENT_BEGIN, 0);
  for (guint steps = 0; world->n_coming > 0 && world->broken == NULL; steps++)
    {
      feed (world, txn, draw (world));
      if (steps > EVENTS_MAX)
        broken (world, "K3", "it goes on for ever");
    }
  if (world->broken == NULL)
    check_end (world);
  ops->txn_free (world->c->self, txn);
  return TRUE;
}

/* ----------------------------------------------------------------------------------------- the cases */

/* Plays seeded histories and fails when one breaks @promise. */
static void
histories (Conformance *c, const char *promise, const char *expected)
{
  for (guint32 seed = 1; seed <= HISTORIES && !conformance_has_failed (c); seed++)
    {
      World world;
      world_init (&world, c, seed, FALSE);
      play (&world);
      if (world.broken != NULL && strcmp (world.broken, promise) == 0)
        conformance_fail (c, expected, "%s (history %u:%s)", world.how, seed, world.trace->str);
      world_clear (&world);
    }
}

static void
k1 (Conformance *c)
{
  histories (c, "K1", "DECIDE at most once, naming equal votes only");
}

static void
k2 (Conformance *c)
{
  histories (c, "K2", "ACKNOWLEDGE after DECIDED only, FAIL never while it may be decided");
}

static void
k3 (Conformance *c)
{
  histories (c, "K3", "exactly one end, given enough events");
}

static void
k4 (Conformance *c)
{
  histories (c, "K4", "ABORT for all that staged after FAIL, APPLY for every voter after DECIDED");
}

static void
k5 (Conformance *c)
{
  histories (c, "K5", "REPAIR for all that miss it, once acknowledged");
}

static void
k6 (Conformance *c)
{
  histories (c, "K6", "never acknowledged with fewer than min_copies durable copies");
}

static void
k7 (Conformance *c)
{
  histories (c, "K7", "STAGE for participants that are current only");
}

static void
k8 (Conformance *c)
{
  histories (c, "K8", "nothing but ABORT for an event that came before");
}

static void
smooth (Conformance *c)
{
  for (guint32 seed = 0; seed < 4 * PARTS_MAX && !conformance_has_failed (c); seed++)
    {
      World world;
      gboolean begun;
      world_init (&world, c, seed, TRUE);
      begun = play (&world);
      if (!begun || world.n_acks != 1 || world.broken != NULL)
        conformance_fail (c, "an acknowledged write when nothing goes wrong",
                          "%s (%" G_GSIZE_FORMAT " participants:%s)",
                          world.how != NULL ? world.how
                          : begun           ? "it failed"
                                            : "it did not begin",
                          world.n_parts, world.trace->str);
      world_clear (&world);
    }
}

/* Of each number of participants as many copies as there are, and more: made, or refused at once. */
static void
many_copies (Conformance *c)
{
  for (guint32 n = 1; n <= PARTS_MAX && !conformance_has_failed (c); n++)
    for (gsize copies = 1; copies <= n + 1; copies++)
      {
        World world;
        world_init (&world, c, n - 1, TRUE);
        world.min_copies = copies;
        if (play (&world) && world.broken != NULL)
          conformance_break (c, world.broken, "all promises kept", "%s (%" G_GSIZE_FORMAT " copies of %u:%s)",
                             world.how, copies, n, world.trace->str);
        else if (world.n_fails > 0 && world.n_decides == 0 && world.fail_code != GS_ERROR_FAILED_PRECONDITION)
          conformance_fail (c, "FAILED_PRECONDITION where it never makes that many copies",
                            "%s (%" G_GSIZE_FORMAT " copies of %u)", gs_error_name ((int) world.fail_code), copies, n);
        else if (copies > n && world.n_acks > 0)
          conformance_fail (c, "a refusal to make more copies than there are replicas", "an acknowledged write");
        world_clear (&world);
      }
}

static void
all_lost (Conformance *c)
{
  for (guint32 seed = 0; seed < PARTS_MAX && !conformance_has_failed (c); seed++)
    {
      World world;
      world_init (&world, c, seed, TRUE);
      for (gsize i = 0; i < world.n_parts; i++)
        world.parts[i].view.healthy = FALSE;
      if (play (&world) && world.n_acks != 0)
        {
          /* It may try those that are marked: the mark is advisory. Then they did take it. */
          for (gsize i = 0; i < world.n_parts; i++)
            if (world.parts[i].voter && world.parts[i].state != PART_STAGED)
              conformance_fail (c, "no write acknowledged on participants that did not stage", "it was");
        }
      else if (world.n_fails > 0 && gs_error_retry ((int) world.fail_code) == GS_RETRY_NEVER)
        conformance_fail (c, "a failure that says: try again", "%s", gs_error_name ((int) world.fail_code));
      world_clear (&world);
    }
}

static void
nobody (Conformance *c)
{
  const GsConsistencyOps *ops = c->ops;
  const GsParticipant *none[1] = { NULL };
  GsTxnSetup setup = { sizeof setup, none, 0, 1 };
  World world;
  g_autoptr (GError) error = NULL;
  gpointer txn = ops->txn_new (c->self, &setup, &error);
  if (txn == NULL)
    {
      CHECK (c, error != NULL, "an error", "none");
      return;
    }
  world_init (&world, c, 1, TRUE);
  world.n_parts = 0;
  coming (&world, GS_EVENT_BEGIN, 0);
  while (world.n_coming > 0)
    feed (&world, txn, 0);
  if (world.n_fails != 1)
    conformance_fail (c, "a failure without participants", "none");
  world_clear (&world);
  ops->txn_free (c->self, txn);
}

static void
same_again (Conformance *c)
{
  for (guint32 seed = 1; seed <= 300 && !conformance_has_failed (c); seed++)
    {
      World one, two;
      world_init (&one, c, seed, FALSE);
      world_init (&two, c, seed, FALSE);
      play (&one);
      play (&two);
      if (strcmp (one.trace->str, two.trace->str) != 0)
        conformance_fail (c, "the same actions for the same events", "%s and then %s", one.trace->str, two.trace->str);
      world_clear (&one);
      world_clear (&two);
    }
}

static void
crowd_body (Conformance *c, guint index, gpointer user)
{
  for (guint32 seed = index; seed < 400 && !conformance_has_failed (c); seed += 4)
    {
      World world;
      world_init (&world, c, seed, TRUE);
      if (!play (&world) || world.n_acks != 1)
        conformance_fail (c, "each transaction on its own", "%s", world.trace->str);
      world_clear (&world);
    }
}

static void
crowd (Conformance *c)
{
  conformance_parallel (c, 4, crowd_body, NULL);
}

const ConformanceCase conformance_consistency[] = {
  { "K3", "a write is acknowledged when nothing goes wrong", smooth },
  { "K1", "one decision, of equal votes", k1 },
  { "K2", "no end against the decision", k2 },
  { "K3", "exactly one end", k3 },
  { "K4", "every participant learns its fate", k4 },
  { "K5", "who misses a write is repaired", k5 },
  { "K6", "min_copies durable copies", k6 },
  { "K7", "no vote of a replica that is behind", k7 },
  { "K8", "what comes again changes nothing", k8 },
  { "K6", "as many copies as asked for, or a refusal", many_copies },
  { "K3", "with every node marked unhealthy it fails so that one can retry", all_lost },
  { "K3", "without participants it fails", nobody },
  { "K3", "the same events give the same actions", same_again },
  { "K3", "transactions of many threads at once", crowd },
  { NULL, NULL, NULL },
};
