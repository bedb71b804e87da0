/* SPDX-License-Identifier: Apache-2.0 */
/**
 * consistency.h - kind CONSISTENCY, class PURE: when is a write decided, and when acknowledged.
 *
 * A step function: events in, actions out; no I/O, clock, threads or blocking. The core carries out
 * the actions, owns every retry, timer and socket, and feeds the results back as events, so that the
 * same plugin runs in the simulator. A transaction is used by one thread at a time.
 *   [K1] DECIDE is asked for at most once, and once more after each UNDECIDED, naming only participants that
 *        were told to STAGE, voted, were not lost or BEHIND since, and whose votes are equal.
 *   [K2] ACKNOWLEDGE only after DECIDED; FAIL only when no DECIDE is unanswered and none was DECIDED.
 *   [K3] Every transaction ends in exactly one ACKNOWLEDGE or FAIL, given enough events.
 *   [K4] After FAIL every staged participant got ABORT; after DECIDED every voter of it gets APPLY. Who
 *        staged without being named in DECIDE gets ABORT, however late: it must not keep its locks.
 *   [K5] A participant that is not named in DECIDE, was lost since, or has not applied yet, gets REPAIR in
 *        the step that acknowledges.
 *   [K6] Never acknowledged with fewer than min_copies durable copies.
 *   [K7] Only participants that are current are told to STAGE and are named in DECIDE: the decision records
 *        its voters as being at the new generation.
 *   [K8] BEGIN, STAGED, LOST, DECIDED, REFUSED and APPLIED may be repeated, and STAGED, LOST, APPLIED and TIMER
 *        may come after the end. What comes then must at most ABORT; what was repeated changes nothing.
 */
#ifndef GITSTEAD_CONSISTENCY_H
#define GITSTEAD_CONSISTENCY_H

#include "host.h"

G_BEGIN_DECLS

/** One assigned replica at the time the write begins. */
typedef struct
{
  guint32 size;
  const char *node;   /* for messages; borrowed until txn_free */
  gboolean current;   /* its generation equals the repository's */
  gboolean healthy;   /* advisory: it may be lost all the same, or be back already */
} GsParticipant;

typedef struct
{
  guint32 size;
  const GsParticipant *const *participants; /* all assigned replicas, in the same order for every write; index =
                                               participant number */
  gsize n_participants;
  gsize min_copies;   /* at least 1 */
} GsTxnSetup;

#define GS_EVENT_BEGIN 1u    /* the write starts */
#define GS_EVENT_STAGED 2u   /* participant voted; @digest */
#define GS_EVENT_LOST 3u     /* participant refused or failed to stage, or was lost before it applied */
#define GS_EVENT_DECIDED 4u  /* the metadata store took the decision */
#define GS_EVENT_REFUSED 5u  /* the metadata store refused it for good (aborted meanwhile) */
#define GS_EVENT_APPLIED 6u  /* participant applied it durably */
#define GS_EVENT_TIMER 7u    /* the time asked for by GS_ACTION_TIMER is over */
#define GS_EVENT_BEHIND 8u   /* participant: a voter that is not current any more, as another write was decided without it;
                                UNDECIDED follows */
#define GS_EVENT_UNDECIDED 9u /* for those that are BEHIND the decision was not taken and never will be as it was asked
                                 for: it can be asked for again without them */

typedef struct
{
  guint32 size;
  guint32 type;
  gsize participant;        /* STAGED, LOST, APPLIED, BEHIND */
  const guint8 *digest;     /* STAGED: 32 bytes, borrowed until the step returns */
} GsEvent;

#define GS_ACTION_STAGE 1u       /* participant */
#define GS_ACTION_DECIDE 2u      /* voters: every participant that got a GS_ACTION_VOTER in this step */
#define GS_ACTION_VOTER 3u       /* participant; stands before DECIDE */
#define GS_ACTION_APPLY 4u       /* participant */
#define GS_ACTION_ABORT 5u       /* participant; also for one that has not answered STAGE: it is not waited for any more */
#define GS_ACTION_ACKNOWLEDGE 6u
#define GS_ACTION_FAIL 7u        /* code and reason */
#define GS_ACTION_REPAIR 8u      /* participant; nobody reads from it until it has caught up, from before the client
                                    hears of the write */
#define GS_ACTION_TIMER 9u       /* delay_us; replaces the one before */

/** Frozen row: never grows. */
typedef struct
{
  guint32 type;
  guint32 code;             /* FAIL: a GsErrorCode */
  gsize participant;
  gint64 delay_us;
  const char *reason;       /* FAIL: for people, naming counts and nodes; borrowed until txn_free */
} GsAction;

/** Where a step puts its actions, in the order in which they are to be carried out. */
typedef struct GsActions GsActions;
struct GsActions
{
  guint32 size;
  gpointer priv;
  void (*add) (GsActions *actions, const GsAction *action);
};

typedef struct
{
  /** *full*, freed by txn_free. Everything in @setup is copied or borrowed until txn_free. */
  gpointer (*txn_new) (gpointer self, const GsTxnSetup *setup, GError **error);
  void (*txn_step) (gpointer self, gpointer txn, const GsEvent *event, GsActions *out);
  void (*txn_free) (gpointer self, gpointer txn);
} GsConsistencyOps;

G_END_DECLS

#endif
