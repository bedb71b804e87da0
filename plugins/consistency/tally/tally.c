/* SPDX-License-Identifier: Apache-2.0 */
/* Counting votes and copies. See tally.h. */
#include "tally.h"

typedef enum
{
  VOICE_UNASKED,
  VOICE_ASKED, /* told to stage, no answer yet */
  VOICE_STAGED,
  VOICE_GONE,  /* lost, or left behind: told to abort */
  VOICE_VOTER, /* named in the decision */
  VOICE_VOTER_LOST,
  VOICE_APPLIED
} VoiceState;

typedef struct
{
  const char *node;
  gboolean current, healthy;
  VoiceState state;
  guint8 digest[32];
} Voice;

typedef enum
{
  TALLY_NEW,
  TALLY_STAGING,
  TALLY_DECIDING,
  TALLY_APPLYING,
  TALLY_ACKNOWLEDGED,
  TALLY_FAILED
} TallyState;

struct Tally
{
  TallyState state;
  gsize n_asked, n_needed;
  gint64 laggard_wait_us;
  gboolean waiting, waited; /* for laggards of the present state */
  char *reason;             /* why it fails; NULL = it does not */
  GsErrorCode code;
  gsize n;
  Voice voices[];
};

Tally *
tally_new (const GsTxnSetup *setup, GError **error)
{
  Tally *tally;
  if (setup->n_participants == 0 || setup->participants == NULL)
    {
      gs_fail (error, GS_ERROR_FAILED_PRECONDITION, "the repository has no replica that could take a write");
      return NULL;
    }
  tally = g_malloc0 (sizeof *tally + setup->n_participants * sizeof tally->voices[0]);
  tally->n = setup->n_participants;
  for (gsize i = 0; i < tally->n; i++)
    {
      const GsParticipant *participant = setup->participants[i];
      tally->voices[i].node = participant->node;
      tally->voices[i].current = participant->current;
      tally->voices[i].healthy = participant->healthy;
    }
  return tally;
}

void
tally_free (Tally *tally)
{
  g_free (tally->reason);
  g_free (tally);
}

/* --------------------------------------------------------------------------------- before it begins */

static gboolean
able (const Voice *voice)
{
  return voice->current && voice->healthy;
}

gsize
tally_able (const Tally *tally)
{
  gsize n = 0;
  for (gsize i = 0; i < tally->n; i++)
    n += able (&tally->voices[i]);
  return n;
}

void
tally_begin_with (Tally *tally, gsize n_asked, gsize n_needed, gint64 laggard_wait_us)
{
  tally->n_asked = n_asked;
  tally->n_needed = n_needed;
  tally->laggard_wait_us = laggard_wait_us;
}

void
tally_refuse (Tally *tally, GsErrorCode code, char *reason)
{
  g_free (tally->reason);
  tally->reason = reason;
  tally->code = code;
}

void
tally_refuse_missing (Tally *tally, gsize n_needed)
{
  GString *text = g_string_new (NULL);
  gsize n_current = 0;
  const char *before = ": ";
  g_string_append_printf (
      text, "%" G_GSIZE_FORMAT " of its %" G_GSIZE_FORMAT " copies are needed, and %" G_GSIZE_FORMAT " can take it",
      n_needed, tally->n, tally_able (tally));
  for (gsize i = 0; i < tally->n; i++)
    {
      const Voice *voice = &tally->voices[i];
      n_current += voice->current;
      if (able (voice))
        continue;
      g_string_append_printf (text, "%s%s %s", before, voice->node,
                              !voice->healthy ? voice->current ? "cannot be reached" : "is behind and cannot be reached"
                                              : "is behind and has to be repaired first");
      before = ", ";
    }
  g_string_append (text, n_current > 0 ? "; the repository is read-only until enough of them are back"
                                       : "; no copy has the newest state, so it is read-only until one is repaired");
  tally_refuse (tally, n_current > 0 ? GS_ERROR_UNAVAILABLE : GS_ERROR_FAILED_PRECONDITION,
                g_string_free (text, FALSE));
}

/* ------------------------------------------------------------------------------------------ the ends */

static void
act (GsActions *out, guint32 type, gsize participant)
{
  out->add (out, &(GsAction){ .type = type, .participant = participant });
}

static void
wait_for_laggards (Tally *tally, GsActions *out)
{
  if (!tally->waiting)
    out->add (out, &(GsAction){ .type = GS_ACTION_TIMER, .delay_us = tally->laggard_wait_us });
  tally->waiting = TRUE;
}

static void
leave_behind (Voice *voice, gsize index, GsActions *out)
{
  act (out, GS_ACTION_ABORT, index);
  voice->state = VOICE_GONE;
}

static void
fail (Tally *tally, GsActions *out)
{
  for (gsize i = 0; i < tally->n; i++)
    if (tally->voices[i].state != VOICE_UNASKED && tally->voices[i].state != VOICE_GONE)
      leave_behind (&tally->voices[i], i, out);
  out->add (out, &(GsAction){ .type = GS_ACTION_FAIL, .code = tally->code, .reason = tally->reason });
  tally->state = TALLY_FAILED;
}

static void
acknowledge (Tally *tally, GsActions *out)
{
  act (out, GS_ACTION_ACKNOWLEDGE, 0);
  for (gsize i = 0; i < tally->n; i++)
    if (tally->voices[i].state != VOICE_APPLIED)
      act (out, GS_ACTION_REPAIR, i);
  tally->state = TALLY_ACKNOWLEDGED;
}

/* ------------------------------------------------------------------------------------------- staging */

static gsize
count (const Tally *tally, VoiceState state)
{
  gsize n = 0;
  for (gsize i = 0; i < tally->n; i++)
    n += tally->voices[i].state == state;
  return n;
}

static gboolean
votes_like (const Tally *tally, gsize index, const guint8 *digest)
{
  const Voice *voice = &tally->voices[index];
  return voice->state == VOICE_STAGED && memcmp (voice->digest, digest, sizeof voice->digest) == 0;
}

/* The vote that most of them cast; of equally many the one of the first participant. NULL when there is none. */
static const guint8 *
leading_vote (const Tally *tally, gsize *ret_n)
{
  const guint8 *leading = NULL;
  gsize most = 0;
  for (gsize i = 0; i < tally->n; i++)
    {
      gsize n = 0;
      for (gsize k = i; k < tally->n && tally->voices[i].state == VOICE_STAGED; k++)
        n += votes_like (tally, k, tally->voices[i].digest);
      if (n > most)
        leading = tally->voices[i].digest;
      most = MAX (most, n);
    }
  *ret_n = most;
  return leading;
}

static void
give_up (Tally *tally, gsize n_leading, GsActions *out)
{
  gsize n_staged = count (tally, VOICE_STAGED);
  GString *text = g_string_new (NULL);
  const char *before = ": ";
  if (n_staged > n_leading)
    {
      /* Each replica is correct for itself: a write that was refused on some and not on others met another one. */
      g_string_printf (text,
                       "%" G_GSIZE_FORMAT " equal votes are needed, and of %" G_GSIZE_FORMAT
                       " copies that voted at most %" G_GSIZE_FORMAT " agree",
                       tally->n_needed, n_staged, n_leading);
      tally_refuse (tally, GS_ERROR_ABORTED, g_string_free (text, FALSE));
    }
  else
    {
      g_string_printf (text,
                       "%" G_GSIZE_FORMAT " of its %" G_GSIZE_FORMAT " copies are needed, and %" G_GSIZE_FORMAT
                       " could still take it",
                       tally->n_needed, tally->n, n_leading + count (tally, VOICE_ASKED));
      for (gsize i = 0; i < tally->n; i++)
        if (tally->voices[i].state == VOICE_GONE || tally->voices[i].state == VOICE_UNASKED)
          {
            g_string_append_printf (text, "%s%s %s", before, tally->voices[i].node,
                                    tally->voices[i].state == VOICE_GONE ? "did not" : "was not asked");
            before = ", ";
          }
      g_string_append (text, "; try again");
      tally_refuse (tally, GS_ERROR_UNAVAILABLE, g_string_free (text, FALSE));
    }
  fail (tally, out);
}

static void
decide (Tally *tally, const guint8 *leading, GsActions *out)
{
  guint8 vote[32];
  memcpy (vote, leading, sizeof vote);
  for (gsize i = 0; i < tally->n; i++)
    if (votes_like (tally, i, vote))
      {
        act (out, GS_ACTION_VOTER, i);
        tally->voices[i].state = VOICE_VOTER;
      }
    else if (tally->voices[i].state == VOICE_ASKED || tally->voices[i].state == VOICE_STAGED)
      leave_behind (&tally->voices[i], i, out);
  act (out, GS_ACTION_DECIDE, 0);
  tally->state = TALLY_DECIDING;
}

/* After a vote, a loss, or the time for laggards. */
static void
count_votes (Tally *tally, GsActions *out)
{
  gsize n_leading, n_open = count (tally, VOICE_ASKED);
  const guint8 *leading = leading_vote (tally, &n_leading);
  if (n_leading + n_open < tally->n_needed)
    give_up (tally, n_leading, out);
  else if (n_leading < tally->n_needed)
    return;
  else if (n_open == 0 || tally->waited)
    decide (tally, leading, out);
  else
    wait_for_laggards (tally, out);
}

static void
on_begin (Tally *tally, GsActions *out)
{
  gsize n_asked = 0;
  tally->state = TALLY_STAGING;
  if (tally->reason != NULL)
    {
      fail (tally, out);
      return;
    }
  for (gsize i = 0; i < tally->n && n_asked < tally->n_asked; i++)
    if (able (&tally->voices[i]))
      {
        act (out, GS_ACTION_STAGE, i);
        tally->voices[i].state = VOICE_ASKED;
        n_asked++;
      }
}

static void
on_staged (Tally *tally, gsize index, const guint8 *digest, GsActions *out)
{
  Voice *voice = &tally->voices[index];
  if (voice->state == VOICE_ASKED) /* then it is the time of staging */
    {
      memcpy (voice->digest, digest, sizeof voice->digest);
      voice->state = VOICE_STAGED;
      count_votes (tally, out);
    }
  else if (voice->state == VOICE_UNASKED || voice->state == VOICE_GONE)
    act (out, GS_ACTION_ABORT, index); /* too late: it must not keep locks */
}

/* ------------------------------------------------------------------------------------------ applying */

/*
 * The write is durable with every voter, journalled if not applied, so what is waited for here is that readers find it
 * in many places. One place there must be, as long as anybody can still become it.
 */
static void
count_applied (Tally *tally, GsActions *out)
{
  gsize n_open = count (tally, VOICE_VOTER);
  if (n_open == 0 || (tally->waited && count (tally, VOICE_APPLIED) > 0))
    acknowledge (tally, out);
}

static void
on_decided (Tally *tally, GsActions *out)
{
  tally->state = TALLY_APPLYING;
  tally->waiting = tally->waited = FALSE;
  for (gsize i = 0; i < tally->n; i++)
    if (tally->voices[i].state == VOICE_VOTER || tally->voices[i].state == VOICE_VOTER_LOST)
      act (out, GS_ACTION_APPLY, i);
  if (count (tally, VOICE_VOTER) > 1)
    wait_for_laggards (tally, out);
  count_applied (tally, out);
}

static void
on_lost (Tally *tally, gsize index, GsActions *out)
{
  Voice *voice = &tally->voices[index];
  if (voice->state == VOICE_ASKED || voice->state == VOICE_STAGED)
    {
      leave_behind (voice, index, out); /* it may have staged and been lost on the way back */
      count_votes (tally, out);
    }
  else if (voice->state == VOICE_VOTER)
    {
      voice->state = VOICE_VOTER_LOST;
      if (tally->state == TALLY_APPLYING)
        count_applied (tally, out);
    }
}

static void
on_applied (Tally *tally, gsize index, GsActions *out)
{
  Voice *voice = &tally->voices[index];
  if (tally->state != TALLY_APPLYING || voice->state != VOICE_VOTER)
    return; /* one that was lost is recorded as behind: it is repaired, even if it is back */
  voice->state = VOICE_APPLIED;
  count_applied (tally, out);
}

/* A voter missed another write: recording it as current would hide that. */
static void
on_behind (Tally *tally, gsize index, GsActions *out)
{
  Voice *voice = &tally->voices[index];
  if (tally->state == TALLY_DECIDING && (voice->state == VOICE_VOTER || voice->state == VOICE_VOTER_LOST))
    leave_behind (voice, index, out);
}

/* The other votes still stand. Nobody is asked again: who was left behind by this write would only be late again. */
static void
on_undecided (Tally *tally, GsActions *out)
{
  tally->state = TALLY_STAGING;
  for (gsize i = 0; i < tally->n; i++)
    if (tally->voices[i].state == VOICE_VOTER_LOST)
      leave_behind (&tally->voices[i], i, out);
    else if (tally->voices[i].state == VOICE_VOTER)
      tally->voices[i].state = VOICE_STAGED;
  count_votes (tally, out);
}

static void
on_timer (Tally *tally, GsActions *out)
{
  if (!tally->waiting || tally->waited)
    return;
  tally->waited = TRUE;
  if (tally->state == TALLY_STAGING)
    count_votes (tally, out);
  else if (tally->state == TALLY_APPLYING)
    count_applied (tally, out);
}

void
tally_step (Tally *tally, const GsEvent *event, GsActions *out)
{
  if (event->participant >= tally->n)
    return;
  switch (event->type)
    {
    case GS_EVENT_BEGIN:
      if (tally->state == TALLY_NEW)
        on_begin (tally, out);
      break;
    case GS_EVENT_STAGED:
      on_staged (tally, event->participant, event->digest, out);
      break;
    case GS_EVENT_LOST:
      on_lost (tally, event->participant, out);
      break;
    case GS_EVENT_DECIDED:
      if (tally->state == TALLY_DECIDING)
        on_decided (tally, out);
      break;
    case GS_EVENT_REFUSED:
      if (tally->state == TALLY_DECIDING)
        {
          tally_refuse (tally, GS_ERROR_ABORTED, g_strdup ("it was aborted before it could be decided"));
          fail (tally, out);
        }
      break;
    case GS_EVENT_APPLIED:
      on_applied (tally, event->participant, out);
      break;
    case GS_EVENT_TIMER:
      on_timer (tally, out);
      break;
    case GS_EVENT_BEHIND:
      on_behind (tally, event->participant, out);
      break;
    case GS_EVENT_UNDECIDED:
      if (tally->state == TALLY_DECIDING)
        on_undecided (tally, out);
      break;
    default:
      break;
    }
}
